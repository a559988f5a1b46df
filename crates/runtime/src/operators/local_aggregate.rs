//! The first of two phases of a windowed aggregate: combines rows before the exchange, while that reduces them.

use super::slices::{Plan, Slices, parts, row_partials};
use arrow::datatypes::SchemaRef;
use millstream_core::graph::WindowAggregate as Spec;
use millstream_core::operator::{Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS};
use millstream_core::{Batch, Result, Schema, Watermark};

/// Rows over which the reduction is measured.
const SAMPLE_ROWS: usize = 100_000;
/// Rows that pass one by one after a bad measure, before the next.
const BYPASS_ROWS: usize = 2_000_000;
/// More groups than this are sent on at once.
const MAX_GROUPS: usize = 100_000;

/// Holds partial results, and the watermark behind them, until `flush`.
pub(super) struct LocalAggregate {
    plan: Plan,
    schema: SchemaRef,
    slices: Slices,
    held: Option<Watermark>,
    /// Local time up to which windows are closed by the watermark that was last seen.
    closed: i64,
    /// Where in the first slice emission goes on.
    next: usize,
    rows: usize,
    partials: usize,
    bypass: usize,
}

impl LocalAggregate {
    pub(super) fn new(spec: &Spec, input: &Schema, output: &Schema) -> Result<Self> {
        Ok(LocalAggregate {
            plan: Plan::new(spec, input, false)?,
            schema: output.arrow().clone(),
            slices: Slices::default(),
            held: None,
            closed: i64::MIN,
            next: 0,
            rows: 0,
            partials: 0,
            bypass: 0,
        })
    }

    fn flush_all(&mut self, ctx: &mut Context<'_>) -> Result<()> {
        while self.flush(ctx)? == Progress::More {}
        Ok(())
    }
}

impl Operator for LocalAggregate {
    fn restore(&mut self, _part: Restored) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let ends = self.plan.slice_ends(&batch, 0)?;
        // A row that the held watermark makes late must not reach the other phase before it.
        let closed = self.closed;
        let is_behind = |end: &i64| self.plan.window_after(*end, i64::MIN).is_some_and(|first| first <= closed);
        if self.held.is_some() && ends.iter().any(is_behind) {
            self.flush_all(ctx)?;
        }
        let rows = self.plan.project(&batch)?;
        if self.bypass > 0 {
            self.bypass = self.bypass.saturating_sub(ends.len());
            if !self.slices.0.is_empty() {
                self.flush_all(ctx)?;
            }
            return ctx.emit(Batch::insert_only(row_partials(&self.plan, &self.schema, &rows, ends)?));
        }
        self.rows += ends.len();
        let ends: Vec<Option<i64>> = ends.into_iter().map(Some).collect();
        for (end, part) in parts(&rows, &ends)? {
            self.slices.get(&self.plan, end)?.update(&self.plan, &part)?;
        }
        if self.slices.0.values().map(|slice| slice.len()).sum::<usize>() > MAX_GROUPS {
            self.flush_all(ctx)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, _ctx: &mut Context<'_>) -> Result<Progress> {
        self.held = Some(watermark);
        self.closed = self.plan.closed_by(watermark.0);
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<i64> {
        None
    }

    fn flush(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        while let Some(mut first) = self.slices.0.first_entry() {
            let (end, slice) = (*first.key(), first.get_mut());
            let upto = slice.len().min(self.next + TARGET_BATCH_ROWS);
            let groups: Vec<u32> = (self.next as u32..upto as u32).collect();
            let partials = slice.partials(&self.schema, end, &groups)?;
            self.partials += groups.len();
            self.next = upto;
            if upto == slice.len() {
                first.remove();
                self.next = 0;
            }
            ctx.emit(Batch::insert_only(partials))?;
            if groups.len() == TARGET_BATCH_ROWS {
                return Ok(Progress::More);
            }
        }
        if self.rows >= SAMPLE_ROWS {
            if self.partials * 2 > self.rows {
                self.bypass = BYPASS_ROWS;
            }
            (self.rows, self.partials) = (0, 0);
        }
        if let Some(watermark) = self.held.take() {
            ctx.emit_watermark(watermark)?;
        }
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        assert!(self.slices.0.is_empty(), "a local aggregate is flushed before a snapshot");
        Ok(StateDelta::default())
    }
}
