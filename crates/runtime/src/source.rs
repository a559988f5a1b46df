//! A source within a task: polls the reader, computes the table's columns, makes watermarks.

use crate::drift::Member;
use crate::exchange::Status;
use crate::operators::{WatermarkGenerator, WatermarkStatus};
use arrow::datatypes::SchemaRef;
use millstream_core::expr::EvalContext;
use millstream_core::graph::WatermarkAlignment;
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::source::{SourcePoll, SourceReader};
use millstream_core::{Batch, ExprRef, Result, Watermark};
use std::collections::VecDeque;
use std::time::Duration;

/// One instance of a source node.
pub(crate) struct SourceDriver {
    pub reader: Box<dyn SourceReader>,
    pub columns: Option<Vec<ExprRef>>,
    pub schema: SchemaRef,
    pub generator: Option<WatermarkGenerator>,
    /// Whether its splits can become idle.
    pub idle_timeout: bool,
    pub tick_ms: i64,
    pub batch_rows: usize,
    /// Rows that are asked for at once: `batch_rows`, or as many as those downstream take in about [`AIM_US`].
    poll_rows: usize,
    /// There was a batch since they were adapted.
    gave_rows: bool,
    pub metrics: MetricsRef,
    /// Rows polled but not yet handed on, each part with the watermark that follows it.
    queue: VecDeque<(Batch, Option<Watermark>)>,
    next_tick_ms: Option<i64>,
    /// If its splits, or others with them, are kept together in event time.
    aligned: Option<Aligned>,
    committed: u64,
    pub ended: bool,
}

/// What keeps splits together.
struct Aligned {
    member: Member,
    spec: WatermarkAlignment,
    /// When the others are looked at again, if nothing happens here.
    due_ms: i64,
    /// Splits that are held back, ascending.
    held: Vec<u32>,
}

/// How long those downstream should be busy with a batch at most, about: an epoch can't end within it.
const AIM_US: u64 = 100_000;
/// The first batch, and the smallest that slowness makes.
const FIRST_ROWS: usize = 512;
const FEWEST_ROWS: usize = 32;

/// What a source has next.
pub(crate) enum Next {
    Rows(Batch, Option<Watermark>),
    /// Event time moved without rows, or the status may have changed.
    Tick(Option<Watermark>),
    /// Nothing for so long, or until woken.
    Wait(Option<Duration>),
    End,
}

impl SourceDriver {
    pub fn new(
        reader: Box<dyn SourceReader>,
        schema: SchemaRef,
        columns: Option<Vec<ExprRef>>,
        generator: Option<WatermarkGenerator>,
        metrics: MetricsRef,
    ) -> Self {
        let alignment = generator.as_ref().and_then(|g| g.alignment().cloned());
        let aligned =
            alignment.map(|spec| Aligned { member: Member::of(&spec.group), spec, due_ms: i64::MIN, held: Vec::new() });
        SourceDriver {
            aligned,
            reader,
            columns,
            schema,
            generator,
            idle_timeout: false,
            tick_ms: 200,
            batch_rows: millstream_core::operator::TARGET_BATCH_ROWS,
            poll_rows: FIRST_ROWS,
            gave_rows: false,
            metrics,
            queue: VecDeque::new(),
            next_tick_ms: None,
            committed: 0,
            ended: false,
        }
    }

    /// Whether all that was polled has been handed on, so that the reader's position says where the task stands.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn status(&self) -> Status {
        match &self.generator {
            Some(generator) if generator.status() == WatermarkStatus::Idle => Status::Idle,
            _ => Status::Active,
        }
    }

    /// Notes for how long those downstream had no room after the last batch.
    pub fn adapt(&mut self, blocked_us: u64) {
        if !std::mem::take(&mut self.gave_rows) {
            return;
        }
        if blocked_us > AIM_US {
            let rows = self.poll_rows as u128 * u128::from(AIM_US) / u128::from(blocked_us);
            self.poll_rows = (rows as usize).max(FEWEST_ROWS);
        } else if blocked_us < AIM_US / 4 {
            self.poll_rows = (self.poll_rows * 2).min(self.batch_rows.max(FEWEST_ROWS));
        }
    }

    pub fn committed(&mut self, epoch: u64) -> Result<()> {
        if epoch > self.committed {
            self.committed = epoch;
            self.reader.committed(epoch)?;
        }
        Ok(())
    }

    /// What is left of the last poll.
    pub fn next_queued(&mut self) -> Option<Next> {
        self.queue.pop_front().map(|(batch, watermark)| Next::Rows(batch, watermark))
    }

    pub fn next(&mut self, now_ms: i64) -> Result<Next> {
        if let Some(next) = self.next_queued() {
            return Ok(next);
        }
        if let (Some(generator), Some(due)) = (&mut self.generator, self.next_tick_ms)
            && now_ms >= due
        {
            let watermark = generator.on_tick(now_ms);
            let more = watermark.is_some() || (self.idle_timeout && generator.status() == WatermarkStatus::Active);
            self.next_tick_ms = more.then(|| now_ms.saturating_add(self.tick_ms));
            return Ok(Next::Tick(watermark));
        }
        self.align(now_ms);
        match self.reader.poll(self.poll_rows.min(self.batch_rows))? {
            SourcePoll::Rows { split, batch } => {
                self.take_rows(split, batch, now_ms)?;
                Ok(self.next_queued().unwrap_or(Next::Tick(None)))
            }
            SourcePoll::SplitAdded(split) => {
                if let Some(generator) = &mut self.generator {
                    generator.add_split(split, now_ms);
                    self.next_tick_ms.get_or_insert(now_ms.saturating_add(self.tick_ms));
                }
                Ok(Next::Tick(None))
            }
            SourcePoll::SplitAtEnd(split) => {
                if let Some(generator) = &mut self.generator {
                    generator.split_at_end(split);
                    self.next_tick_ms.get_or_insert(now_ms.saturating_add(self.tick_ms));
                }
                Ok(Next::Tick(None))
            }
            SourcePoll::SplitEnded(split) => {
                if let Some(generator) = &mut self.generator {
                    generator.split_ended(split);
                    self.next_tick_ms = Some(now_ms);
                }
                Ok(Next::Tick(None))
            }
            SourcePoll::Idle(_) if self.status() == Status::Active && self.announce_idle() => Ok(Next::Tick(None)),
            SourcePoll::Wait(time) | SourcePoll::Idle(time) => {
                if self.idle_timeout && self.generator.as_ref().is_some_and(|g| !g.has_seen_rows()) {
                    self.next_tick_ms.get_or_insert(now_ms.saturating_add(self.tick_ms));
                }
                let held =
                    self.aligned.as_ref().filter(|aligned| !aligned.held.is_empty()).map(|aligned| aligned.due_ms);
                let due = [self.next_tick_ms, held].into_iter().flatten().min();
                let due = due.map(|due| Duration::from_millis(due.saturating_sub(now_ms).max(1) as u64));
                Ok(Next::Wait([time, due].into_iter().flatten().min()))
            }
            SourcePoll::End => Ok(Next::End),
        }
    }

    /// Has the reader hold back what is too far ahead in event time.
    fn align(&mut self, now_ms: i64) {
        let (Some(aligned), Some(generator)) = (&mut self.aligned, &self.generator) else { return };
        aligned.due_ms = now_ms.saturating_add(aligned.spec.update_interval_ms);
        let slowest = aligned.member.slowest_of_all(generator.slowest());
        let held = generator.beyond(slowest.saturating_add(aligned.spec.max_drift_ms));
        if held != aligned.held {
            self.reader.hold_back(&held);
            aligned.held = held;
        }
    }

    /// The reader has no split; tells whether event time waited for it until now.
    fn announce_idle(&mut self) -> bool {
        match &mut self.generator {
            Some(generator) if !generator.has_seen_rows() => {
                generator.no_split();
                true
            }
            _ => false,
        }
    }

    fn take_rows(&mut self, split: u32, batch: Batch, now_ms: i64) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        self.gave_rows = true;
        add(&self.metrics.rows_in, rows as u64);
        let batch = match &self.columns {
            None => batch,
            Some(columns) => {
                let ctx = EvalContext::at(now_ms);
                let column = |e: &ExprRef| e.evaluate(&batch, &ctx)?.into_array(rows);
                let columns = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
                Batch::from_columns(self.schema.clone(), columns, rows)?.with_kinds(batch.kinds)
            }
        };
        match &mut self.generator {
            None => self.queue.push_back((batch, None)),
            Some(generator) => {
                let queue = &mut self.queue;
                generator.push(split, batch, now_ms, &mut |rows, mark| queue.push_back((rows, mark)))?;
                self.next_tick_ms.get_or_insert(now_ms.saturating_add(self.tick_ms));
            }
        }
        Ok(())
    }
}
