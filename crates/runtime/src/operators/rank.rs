//! Top-N: the rows of each partition whose rank is within a range, kept up to date, or told when their window is over.

use super::groups::GroupTable;
use super::rank_over::{List, SortedCalls};
use super::ranked::{OrderKey, Ordered, Places};
use super::row_slots::RowSlots;
use super::watermark::{column_ms, encode_watermark, lowest_watermark};
use arrow::array::{ArrayRef, Int64Array, UInt8Array, UInt32Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::graph::{Connections, OverCall, Rank as Spec, RankFunction, RankTiming, SortKey, state_tables};
use millstream_core::key::hash_columns;
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec,
};
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Error, Result, RowKind, Schema, Watermark};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// State that may expire is looked through no more often than this; milliseconds.
const MIN_SWEEP_MS: i64 = 1000;
/// Tables with fewer empty partitions than this are not made anew.
const MIN_EMPTY: usize = 4096;

/// A row that comes out: its slot, its rank, its kind.
type Out = (u32, u64, RowKind);

/// The ranked rows of each partition. Of an append-only input those that can still come out are kept, of one that is
/// updated all.
pub(super) struct Rank<K> {
    spec: Spec,
    window: Option<Window>,
    retracts: bool,
    update_before: bool,
    schema: SchemaRef,
    /// Functions over all rows of a partition, in the place of ranks.
    calls: Option<SortedCalls>,
    converter: Option<RowConverter>,
    keys: GroupTable,
    parts: Vec<Ordered<K>>,
    /// When each partition was last used; without a time to live empty.
    touched: Vec<i64>,
    empty: usize,
    store: RowSlots,
    places: Places<K>,
    /// Tells rows with equal order apart when one is taken back; by slot.
    hashes: Vec<u64>,
    sweep_at: Option<i64>,
    numbers: Vec<u32>,
}

/// When the windows of the partitions end.
struct Window {
    end: usize,
    event_time: bool,
    zone: SessionZone,
    /// Windows that end by this local time are over.
    closed: i64,
    /// The partitions by the end of their window.
    ends: BTreeMap<i64, Vec<u32>>,
}

/// What a batch does to the rows.
#[derive(Default)]
struct Change {
    /// Rows of the batch, and the slots reserved for them.
    entered: Vec<(u32, u32)>,
    /// Those of them that have left again.
    cancelled: HashSet<u32>,
    left: Vec<u32>,
    /// Partitions, with where what came out of them begins in `before`.
    touched: Vec<(u32, usize)>,
    is_touched: HashSet<u32>,
    before: Vec<(u32, u64)>,
}

/// The state table.
pub(super) fn table(spec: &Spec, input: &Schema) -> TableSpec {
    RowSlots::table(state_tables::ROWS, input, &spec.partition)
}

/// The operator for a spec whose timing is `Continuous` or `Window`.
pub(super) fn create(spec: &Spec, connections: &Connections) -> Result<Box<dyn Operator>> {
    let input = connections.input(0)?;
    // A byte says whether it is NULL.
    let width = |key: &SortKey| match input.arrow().field(key.column).data_type() {
        ArrowType::Boolean | ArrowType::Int8 => Some(2),
        other => other.primitive_width().map(|bytes| bytes + 1),
    };
    match spec.order.iter().map(width).sum::<Option<usize>>() {
        Some(0..=16) => Ok(Box::new(Rank::<u128>::new(spec, connections)?)),
        _ => Ok(Box::new(Rank::<Box<[u8]>>::new(spec, connections)?)),
    }
}

/// Makes the bytes by which rows of the schema are ordered; `None` for no order.
pub(super) fn converter(order: &[SortKey], input: &Schema) -> Result<Option<RowConverter>> {
    let field = |key: &SortKey| {
        let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
        SortField::new_with_options(input.arrow().field(key.column).data_type().clone(), options)
    };
    if order.is_empty() { Ok(None) } else { Ok(Some(RowConverter::new(order.iter().map(field).collect())?)) }
}

impl<K: OrderKey> Rank<K> {
    fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let input = connections.input(0)?;
        let types = spec.partition.iter().map(|c| input.arrow().field(*c).data_type().clone()).collect();
        let window = match spec.timing {
            RankTiming::Window { end, event_time, zone } => {
                Some(Window { end, event_time, zone, closed: i64::MIN, ends: BTreeMap::new() })
            }
            RankTiming::Continuous => None,
            RankTiming::Arrival | RankTiming::RowTime { .. } => {
                return Err(Error::internal("a ranking by time is an operator of its own"));
            }
        };
        let schema = connections.output.schema.arrow();
        let update_before = connections.output.changelog.update_before;
        let calls = SortedCalls::new(&spec.calls, input, schema.clone(), update_before);
        Ok(Rank {
            calls: (!spec.calls.is_empty()).then_some(calls),
            spec: spec.clone(),
            window,
            retracts: connections.retracts(0),
            update_before,
            schema: schema.clone(),
            converter: converter(&spec.order, input)?,
            keys: GroupTable::new(types)?,
            parts: vec![],
            touched: vec![],
            empty: 0,
            store: RowSlots::new(table(spec, input), input),
            places: Places::default(),
            hashes: vec![],
            sweep_at: None,
            numbers: vec![],
        })
    }

    fn find_parts(&mut self, batch: &Batch) -> Result<Vec<u32>> {
        let columns: Vec<ArrayRef> = self.spec.partition.iter().map(|c| batch.column(*c).clone()).collect();
        let mut numbers = std::mem::take(&mut self.numbers);
        self.keys.lookup(&columns, batch.num_rows(), &mut numbers)?;
        self.empty += self.keys.len() - self.parts.len();
        self.parts.resize_with(self.keys.len(), Ordered::default);
        if self.spec.ttl_ms.is_some() {
            self.touched.resize(self.keys.len(), 0);
        }
        Ok(numbers)
    }

    fn order_of(&self, batch: &Batch) -> Result<Option<Rows>> {
        let Some(converter) = &self.converter else { return Ok(None) };
        let columns: Vec<ArrayRef> = self.spec.order.iter().map(|key| batch.column(key.column).clone()).collect();
        Ok(Some(converter.convert_columns(&columns)?))
    }

    fn hashes_of(&self, batch: &Batch) -> Result<Vec<u64>> {
        if self.retracts { hash_columns(batch.rows.columns(), batch.num_rows()) } else { Ok(vec![]) }
    }

    /// Notes what a reserved slot holds, and puts it in its place.
    fn place(&mut self, part: u32, slot: u32, key: K, hash: Option<u64>) {
        let number = self.store.number(slot);
        let arrival = if self.spec.latest_first { -number } else { number };
        self.places.set(slot, (key, arrival), self.store.slots());
        if let Some(hash) = hash {
            self.hashes.resize(self.store.slots(), 0);
            self.hashes[slot as usize] = hash;
        }
        let rows = &mut self.parts[part as usize];
        self.empty -= usize::from(rows.len() == 0);
        rows.insert(slot, &self.places);
    }

    fn displace(&mut self, part: u32, slot: u32) {
        let rows = &mut self.parts[part as usize];
        rows.remove(slot, &self.places);
        self.empty += usize::from(rows.len() == 0);
    }

    /// Notes what comes out of a partition before its first change.
    fn touch(&self, part: u32, change: &mut Change) {
        if self.window.is_none() && change.is_touched.insert(part) {
            change.touched.push((part, change.before.len()));
            self.ranked(part, &mut change.before);
        }
    }

    fn ranked(&self, part: u32, into: &mut Vec<(u32, u64)>) {
        self.parts[part as usize].ranked(self.spec.function, (self.spec.from, self.spec.to), &self.places, into);
    }

    fn leave(&mut self, slot: u32, change: &mut Change) {
        match self.store.is_filled(slot) {
            true => change.left.push(slot),
            false => drop(change.cancelled.insert(slot)),
        }
    }

    fn add(&mut self, part: u32, row: u32, key: K, hash: Option<u64>, change: &mut Change) {
        let (function, behind) = (self.spec.function, !self.spec.latest_first);
        if !self.retracts {
            let rows = &self.parts[part as usize];
            let is_full = rows.len() as u64 >= self.spec.to;
            if is_full && rows.rank_of(&key, function, behind, &self.places) > self.spec.to {
                return;
            }
        }
        self.touch(part, change);
        let slot = self.store.reserve();
        change.entered.push((row, slot));
        self.place(part, slot, key, hash);
        while !self.retracts
            && let Some(last) = self.parts[part as usize].last()
            && self.is_beyond(part, last)
        {
            self.displace(part, last);
            self.leave(last, change);
        }
    }

    /// Whether the last row of a partition is beyond the ranks that come out.
    fn is_beyond(&self, part: u32, last: u32) -> bool {
        let rows = &self.parts[part as usize];
        if rows.len() as u64 <= self.spec.to {
            return false;
        }
        match self.spec.function {
            RankFunction::RowNumber => true,
            function => rows.rank_of(self.places.key(last), function, false, &self.places) > self.spec.to,
        }
    }

    fn take_back(&mut self, part: u32, key: &K, hash: u64, change: &mut Change) {
        let hashes = &self.hashes;
        // What is not there has expired.
        let found = self.parts[part as usize].find(key, &self.places, |slot| hashes[slot as usize] == hash);
        let Some(slot) = found else { return };
        self.touch(part, change);
        self.displace(part, slot);
        self.leave(slot, change);
    }

    fn handle(&mut self, batch: &Batch, ctx: &mut Context<'_>) -> Result<()> {
        let numbers = self.find_parts(batch)?;
        let (order, hashes) = (self.order_of(batch)?, self.hashes_of(batch)?);
        let mut change = Change::default();
        for (row, part) in numbers.iter().enumerate() {
            if let (Some(ttl), Some(touched)) = (self.spec.ttl_ms, self.touched.get_mut(*part as usize)) {
                let before = std::mem::replace(touched, ctx.now_ms);
                if before > 0 && before < ctx.now_ms.saturating_sub(ttl) {
                    self.forget(*part)?;
                }
            }
            let key = order.as_ref().map_or_else(K::default, |order| K::of(order.row(row).as_ref()));
            let hash = hashes.get(row).copied();
            match (batch.kind(row).is_addition(), hash) {
                (true, hash) => self.add(*part, row as u32, key, hash, &mut change),
                (false, Some(hash)) => self.take_back(*part, &key, hash, &mut change),
                (false, None) => return Err(Error::internal("an append-only input takes a row back")),
            }
        }
        self.settle(batch, change, ctx)?;
        self.numbers = numbers;
        if let Some(ttl) = self.spec.ttl_ms {
            self.sweep_at.get_or_insert(ctx.now_ms.saturating_add(ttl.max(MIN_SWEEP_MS)));
        }
        self.trim()
    }

    /// Stores what has entered, emits what has changed, lets go of what has left.
    fn settle(&mut self, batch: &Batch, change: Change, ctx: &mut Context<'_>) -> Result<()> {
        let Change { mut entered, cancelled, mut left, touched, before, .. } = change;
        entered.retain(|(_, slot)| !cancelled.contains(slot));
        let (rows, slots): (Vec<u32>, Vec<u32>) = entered.into_iter().unzip();
        let kept = match rows.len() == batch.num_rows() {
            true => batch.rows.clone(),
            false => batch.take(&UInt32Array::from(rows))?.rows,
        };
        self.store.fill(kept, slots)?;
        let (mut out, mut after): (Vec<Out>, Vec<(u32, u64)>) = (vec![], vec![]);
        let mut lists = vec![];
        for (number, (part, from)) in touched.iter().enumerate() {
            let to = touched.get(number + 1).map_or(before.len(), |(_, to)| *to);
            after.clear();
            self.ranked(*part, &mut after);
            match &self.calls {
                Some(_) => lists.push([self.list(&before[*from..to])?, self.list(&after)?]),
                None => self.compare(&before[*from..to], &after, &mut out),
            }
        }
        match &self.calls {
            Some(calls) => calls.emit(&lists, &self.store, ctx)?,
            None => self.emit(&out, ctx)?,
        }
        left.extend(cancelled);
        self.store.release(&left)
    }

    /// Rows in their order, with what frames of RANGE are told by: the value that they are ordered by, if such a frame
    /// is bounded, else a number that peers have in common.
    fn list(&self, rows: &[(u32, u64)]) -> Result<List> {
        let slots: Vec<u32> = rows.iter().map(|(slot, _)| *slot).collect();
        let is_bounded = |call: &OverCall| !call.frame.is_rows && call.frame.preceding.is_some();
        if let (true, Some(key)) = (self.spec.calls.iter().any(is_bounded), self.spec.order.first()) {
            let column = self.store.take_columns(&slots, &[key.column])?;
            let times = column_ms(&column[0], "the time attribute of OVER")?;
            return Ok(slots.into_iter().zip(times).collect());
        }
        let mut peers = 0;
        let numbered = slots.iter().enumerate().map(|(at, slot)| {
            peers += i64::from(at > 0 && self.places.key(slots[at - 1]) != self.places.key(*slot));
            (*slot, peers)
        });
        Ok(numbered.collect())
    }

    /// What turns the rows that came out of a partition into those that do now.
    fn compare(&self, before: &[(u32, u64)], after: &[(u32, u64)], out: &mut Vec<Out>) {
        let update = |old: (u32, u64), new: (u32, u64), out: &mut Vec<Out>| {
            if self.update_before {
                out.push((old.0, old.1, RowKind::UpdateBefore));
            }
            out.push((new.0, new.1, RowKind::UpdateAfter));
        };
        let is_single = self.spec.from == self.spec.to;
        if self.spec.function == RankFunction::RowNumber && (self.spec.outputs_rank || is_single) {
            for at in 0..before.len().max(after.len()) {
                match (before.get(at), after.get(at)) {
                    (Some(old), Some(new)) if old.0 != new.0 => update(*old, *new, out),
                    (Some(old), None) => out.push((old.0, old.1, RowKind::Delete)),
                    (None, Some(new)) => out.push((new.0, new.1, RowKind::Insert)),
                    _ => {}
                }
            }
            return;
        }
        let new: HashMap<u32, u64> = after.iter().copied().collect();
        for (slot, rank) in before {
            match new.get(slot) {
                None => out.push((*slot, *rank, RowKind::Delete)),
                Some(now) if self.spec.outputs_rank && now != rank => update((*slot, *rank), (*slot, *now), out),
                Some(_) => {}
            }
        }
        let old: HashSet<u32> = before.iter().map(|(slot, _)| *slot).collect();
        let entered = after.iter().filter(|(slot, _)| !old.contains(slot));
        out.extend(entered.map(|(slot, rank)| (*slot, *rank, RowKind::Insert)));
    }

    fn emit(&self, out: &[Out], ctx: &mut Context<'_>) -> Result<()> {
        for part in out.chunks(TARGET_BATCH_ROWS) {
            let slots: Vec<u32> = part.iter().map(|(slot, ..)| *slot).collect();
            let mut columns = self.store.take(&slots)?;
            if self.spec.outputs_rank {
                columns.push(Arc::new(Int64Array::from_iter_values(part.iter().map(|(_, rank, _)| *rank as i64))));
            }
            let is_plain = part.iter().all(|(.., kind)| *kind == RowKind::Insert);
            let kinds = (!is_plain).then(|| UInt8Array::from_iter_values(part.iter().map(|(.., kind)| *kind as u8)));
            ctx.emit(Batch::from_columns(self.schema.clone(), columns, part.len())?.with_kinds(kinds))?;
        }
        Ok(())
    }

    /// Drops all rows of a partition without a word.
    fn forget(&mut self, part: u32) -> Result<()> {
        let rows = std::mem::take(&mut self.parts[part as usize]);
        self.empty += usize::from(rows.len() > 0);
        self.store.release(&rows.iter().collect::<Vec<_>>())
    }

    /// Makes the table of partitions anew when most are empty.
    fn trim(&mut self) -> Result<()> {
        if self.empty <= MIN_EMPTY || self.empty * 2 <= self.parts.len() {
            return Ok(());
        }
        let live: Vec<u32> = (0..self.parts.len() as u32).filter(|p| self.parts[*p as usize].len() > 0).collect();
        let columns = self.keys.keys(&live)?;
        self.keys = self.keys.emptied()?;
        self.keys.lookup(&columns, live.len(), &mut self.numbers)?;
        self.parts = live.iter().map(|p| std::mem::take(&mut self.parts[*p as usize])).collect();
        if self.spec.ttl_ms.is_some() {
            self.touched = live.iter().map(|p| self.touched[*p as usize]).collect();
        }
        self.empty = 0;
        if let Some(window) = &mut self.window {
            let new: HashMap<u32, u32> = live.iter().copied().zip(0..).collect();
            for parts in window.ends.values_mut() {
                *parts = parts.iter().filter_map(|part| new.get(part).copied()).collect();
            }
        }
        Ok(())
    }

    /// Drops rows whose window is over, and notes when the windows of the others end.
    fn await_windows(&mut self, batch: Batch, ctx: &mut Context<'_>) -> Result<Batch> {
        let Some(window) = &self.window else { return Ok(batch) };
        let (closed, ends) = (window.closed, column_ms(batch.column(window.end), "the end of a window")?);
        let (kept, late): (Vec<u32>, Vec<u32>) = (0..ends.len() as u32).partition(|row| ends[*row as usize] > closed);
        if late.is_empty() {
            return Ok(batch);
        }
        ctx.drop_late(0, &batch, late, Watermark(window.zone.to_utc_ms(closed).saturating_sub(1)))?;
        batch.take(&kept.into())
    }

    /// Notes when the windows of partitions end that are new.
    fn note_ends(&mut self, batch: &Batch) -> Result<()> {
        let Some(end) = self.window.as_ref().map(|w| w.end) else { return Ok(()) };
        let ends = column_ms(batch.column(end), "the end of a window")?;
        let numbers = self.find_parts(batch)?;
        let mut seen = HashSet::new();
        for (part, end) in numbers.iter().zip(ends) {
            if self.parts[*part as usize].len() == 0
                && seen.insert(*part)
                && let Some(window) = &mut self.window
            {
                window.ends.entry(end).or_default().push(*part);
            }
        }
        self.numbers = numbers;
        Ok(())
    }

    /// Emits the rows of windows that are over, about a batch of them.
    fn close(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        if !self.is_due() {
            self.trim()?;
            return Ok(Progress::Done);
        }
        let mut ranked: Vec<(u32, u64)> = vec![];
        let mut gone = vec![];
        while ctx.has_room()
            && ranked.len() < TARGET_BATCH_ROWS
            && let Some(window) = &mut self.window
            && let Some(mut entry) = window.ends.first_entry()
            && *entry.key() <= window.closed
        {
            // The partitions come out in the order in which they began.
            let waiting = entry.get_mut();
            let count = waiting.len().min((TARGET_BATCH_ROWS - ranked.len()).div_ceil(self.spec.to.min(64) as usize));
            let parts: Vec<u32> = waiting.drain(..count).collect();
            if waiting.is_empty() {
                entry.remove();
            }
            for part in parts {
                self.ranked(part, &mut ranked);
                let rows = std::mem::take(&mut self.parts[part as usize]);
                self.empty += usize::from(rows.len() > 0);
                gone.extend(rows.iter());
            }
        }
        let out: Vec<Out> = ranked.into_iter().map(|(slot, rank)| (slot, rank, RowKind::Insert)).collect();
        self.emit(&out, ctx)?;
        self.store.release(&gone)?;
        if self.is_due() {
            return Ok(Progress::More);
        }
        self.trim()?;
        Ok(Progress::Done)
    }

    /// Whether a window is over whose rows have not all come out.
    fn is_due(&self) -> bool {
        let first = |w: &Window| w.ends.first_key_value().is_some_and(|(end, _)| *end <= w.closed);
        self.window.as_ref().is_some_and(first)
    }

    fn advance(&mut self, local: i64, ctx: &mut Context<'_>) -> Result<Progress> {
        if let Some(window) = &mut self.window {
            window.closed = window.closed.max(local);
        }
        self.close(ctx)
    }
}

/// Windows that end by this local time are over at an instant.
fn closed_by(instant: i64, zone: SessionZone) -> i64 {
    match instant {
        i64::MIN | i64::MAX => instant,
        ms => zone.lowest_local_from(ms.saturating_add(1)),
    }
}

impl<K: OrderKey> Operator for Rank<K> {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => {
                if let Some(window) = &mut self.window {
                    window.closed = lowest_watermark(&instances)?;
                }
                Ok(())
            }
            Restored::Rows { table, rows } if table == state_tables::ROWS => {
                let (batch, slots) = self.store.restore(&rows)?;
                self.note_ends(&batch)?;
                let numbers = self.find_parts(&batch)?;
                let (order, hashes) = (self.order_of(&batch)?, self.hashes_of(&batch)?);
                for (row, (part, slot)) in numbers.iter().zip(slots).enumerate() {
                    let key = order.as_ref().map_or_else(K::default, |order| K::of(order.row(row).as_ref()));
                    self.place(*part, slot, key, hashes.get(row).copied());
                }
                self.numbers = numbers;
                Ok(())
            }
            Restored::Rows { table, .. } => Err(Error::state(format!("unknown state table {table}"))),
        }
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let batch = self.await_windows(batch, ctx)?;
        let mut offset = 0;
        while offset < batch.num_rows() {
            let count = TARGET_BATCH_ROWS.min(batch.num_rows() - offset);
            let part = batch.slice(offset, count);
            self.note_ends(&part)?;
            self.handle(&part, ctx)?;
            offset += count;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        if let Some(Window { event_time: true, zone, .. }) = self.window
            && self.advance(closed_by(watermark.0, zone), ctx)? == Progress::More
        {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        match self.window {
            Some(Window { event_time: false, zone, .. }) => {
                return self.advance(zone.lowest_local_from(ctx.now_ms), ctx);
            }
            Some(_) => return self.close(ctx),
            None => {}
        }
        let Some(ttl) = self.spec.ttl_ms else { return Ok(Progress::Done) };
        let bound = ctx.now_ms.saturating_sub(ttl);
        for part in 0..self.parts.len() {
            // What was restored counts as used now.
            match self.touched[part] {
                0 => self.touched[part] = ctx.now_ms,
                touched if touched < bound => self.forget(part as u32)?,
                _ => {}
            }
        }
        self.trim()?;
        self.sweep_at = (self.store.len() > 0).then(|| ctx.now_ms.saturating_add((ttl / 2).max(MIN_SWEEP_MS)));
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<i64> {
        match &self.window {
            Some(_) if self.is_due() => Some(i64::MIN),
            Some(window) if !window.event_time => {
                window.ends.first_key_value().map(|(end, _)| window.zone.past_at_utc_ms(*end))
            }
            Some(_) => None,
            None => self.sweep_at,
        }
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.advance(i64::MAX, ctx)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let instance = self.window.as_ref().map(|window| encode_watermark(window.closed));
        Ok(StateDelta { tables: vec![self.store.take_delta()?], instance })
    }
}
