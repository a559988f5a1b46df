//! The first row of each partition by event time, told once the watermark has reached it and nothing earlier can come.

use super::counted::{Counted, SAME};
use super::expiring::Expiry;
use super::rank_arrival::{partition_columns, table as taken_table};
use super::row_slots::RowSlots;
use super::watermark::{column_ms, encode_watermark, lowest_watermark};
use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;
use millstream_core::graph::{Connections, Rank as Spec, state_tables};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec,
};
use millstream_core::{Batch, Error, Result, Schema, Watermark};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A partition without a candidate.
const NONE: u32 = u32::MAX;
/// How [`RankRowTime::taken`] counts a partition whose first row waits, and one whose first row has come out.
const WAITING: i64 = 1;
const TOLD: i64 = 2;

/// Keeps each partition's earliest row until the watermark reaches it; of what follows only that it was there.
pub(super) struct RankRowTime {
    spec: Spec,
    time: usize,
    schema: SchemaRef,
    taken: Counted,
    store: RowSlots,
    /// The waiting row of each partition, and its time.
    candidates: Vec<(u32, i64)>,
    by_time: BTreeMap<i64, Vec<u32>>,
    watermark: i64,
    /// Of what has been told.
    expiry: Expiry,
}

/// The shapes of the state tables.
pub(super) fn tables(spec: &Spec, input: &Schema) -> Vec<TableSpec> {
    vec![taken_table(spec, input), RowSlots::table(state_tables::ROWS, input, &spec.partition)]
}

impl RankRowTime {
    pub(super) fn new(spec: &Spec, time: usize, connections: &Connections) -> Result<Self> {
        let input = connections.input(0)?;
        Ok(RankRowTime {
            spec: spec.clone(),
            time,
            schema: connections.output.schema.arrow().clone(),
            taken: Counted::new(&taken_table(spec, input))?,
            store: RowSlots::new(RowSlots::table(state_tables::ROWS, input, &spec.partition), input),
            candidates: vec![],
            by_time: BTreeMap::new(),
            watermark: i64::MIN,
            expiry: Expiry::new(spec.ttl_ms),
        })
    }

    fn find(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let numbers = self.taken.find(columns, rows)?;
        self.candidates.resize(self.taken.len(), (NONE, 0));
        Ok(numbers)
    }

    fn wait(&mut self, part: u32, slot: u32, time: i64) {
        self.candidates[part as usize] = (slot, time);
        self.by_time.entry(time).or_default().push(part);
    }

    /// Emits about a batch of the rows that the watermark has reached.
    fn tell(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let mut slots = vec![];
        while ctx.has_room()
            && slots.len() < TARGET_BATCH_ROWS
            && let Some(mut entry) = self.by_time.first_entry()
            && *entry.key() <= self.watermark
        {
            let time = *entry.key();
            let parts = entry.get_mut();
            let count = parts.len().min(TARGET_BATCH_ROWS - slots.len());
            let due: Vec<u32> = parts.drain(..count).collect();
            if parts.is_empty() {
                entry.remove();
            }
            for part in due {
                let (slot, at) = self.candidates[part as usize];
                // One that was displaced has left an entry of its old time.
                if slot != NONE && at == time {
                    self.candidates[part as usize] = (NONE, 0);
                    self.taken.set(part, TOLD);
                    self.taken.touch(part, self.expiry.stamp(ctx.now_ms));
                    slots.push(slot);
                }
            }
        }
        let progress = if self.is_due() { Progress::More } else { Progress::Done };
        if slots.is_empty() {
            return Ok(progress);
        }
        let mut columns = self.store.take(&slots)?;
        if self.spec.outputs_rank {
            columns.push(Arc::new(Int64Array::from(vec![1; slots.len()])));
        }
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, slots.len())?)?;
        self.store.release(&slots)?;
        Ok(progress)
    }

    /// Forgets which partitions were told before `bound`; whether any partition is left.
    fn forget(&mut self, bound: i64, now_ms: i64) -> Result<bool> {
        for part in self.taken.expired(bound, now_ms) {
            match self.candidates[part as usize] {
                (NONE, _) => self.taken.set(part, 0),
                // Its row waits for event time, however long that takes.
                _ => self.taken.touch(part, Some(now_ms)),
            }
        }
        let live = self.taken.rebuild(SAME)?;
        self.candidates = live.iter().map(|part| self.candidates[*part as usize]).collect();
        self.by_time.clear();
        for (part, (slot, time)) in (0u32..).zip(&self.candidates) {
            if *slot != NONE {
                self.by_time.entry(*time).or_default().push(part);
            }
        }
        Ok(!live.is_empty())
    }

    fn is_due(&self) -> bool {
        self.by_time.first_key_value().is_some_and(|(time, _)| *time <= self.watermark)
    }
}

impl Operator for RankRowTime {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => self.watermark = lowest_watermark(&instances)?,
            Restored::Rows { table, rows } if table == self.taken.name() => {
                let width = self.spec.partition.len().max(1);
                let numbers = self.taken.restore(&rows.columns()[..width], &rows, width)?;
                self.candidates.resize(self.taken.len(), (NONE, 0));
                self.taken.done(numbers);
            }
            Restored::Rows { table, rows } if table == state_tables::ROWS => {
                let (batch, slots) = self.store.restore(&rows)?;
                let times = column_ms(batch.column(self.time), "the time attribute of a deduplication")?;
                let numbers = self.find(&partition_columns(&self.spec, &batch), batch.num_rows())?;
                for ((part, slot), time) in numbers.iter().zip(slots).zip(times) {
                    self.wait(*part, slot, time);
                }
                self.taken.done(numbers);
            }
            Restored::Rows { table, .. } => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let times = column_ms(batch.column(self.time), "the time attribute of a deduplication")?;
        let numbers = self.find(&partition_columns(&self.spec, &batch), batch.num_rows())?;
        let (mut late, mut displaced, mut cancelled) = (vec![], vec![], HashSet::new());
        let mut entered: Vec<(u32, u32)> = vec![];
        for ((row, part), time) in (0u32..).zip(&numbers).zip(times) {
            if time < self.watermark {
                late.push(row);
                continue;
            }
            let (slot, at) = self.candidates[*part as usize];
            let is_over = self.expiry.has_passed(self.taken.touched(*part), ctx.now_ms);
            if self.taken.count(*part) == TOLD && !is_over || slot != NONE && at <= time {
                continue;
            }
            match slot {
                NONE => {
                    self.taken.set(*part, WAITING);
                    self.taken.touch(*part, self.expiry.stamp(ctx.now_ms));
                }
                slot if self.store.is_filled(slot) => displaced.push(slot),
                slot => drop(cancelled.insert(slot)),
            }
            let slot = self.store.reserve();
            entered.push((row, slot));
            self.wait(*part, slot, time);
        }
        self.taken.done(numbers);
        self.expiry.arm(ctx.now_ms);
        ctx.drop_late(0, &batch, late, Watermark(self.watermark))?;
        entered.retain(|(_, slot)| !cancelled.contains(slot));
        let (rows, slots): (Vec<u32>, Vec<u32>) = entered.into_iter().unzip();
        self.store.fill(batch.take(&UInt32Array::from(rows))?.rows, slots)?;
        displaced.extend(cancelled);
        self.store.release(&displaced)
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.watermark = watermark.0;
        if self.tell(ctx)? == Progress::More {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        if self.expiry.next_sweep().is_some_and(|at| at <= ctx.now_ms)
            && let Some(bound) = self.expiry.bound(ctx.now_ms)
        {
            let is_left = self.forget(bound, ctx.now_ms)?;
            self.expiry.swept(bound, ctx.now_ms, is_left);
        }
        self.tell(ctx)
    }

    fn next_timer(&self) -> Option<i64> {
        if self.is_due() { Some(i64::MIN) } else { self.expiry.next_sweep() }
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let expired = self.expiry.take_expired_below();
        let tables = vec![self.taken.take_delta(expired, SAME, |_| Ok(vec![]))?, self.store.take_delta()?];
        Ok(StateDelta { tables, instance: Some(encode_watermark(self.watermark)) })
    }
}
