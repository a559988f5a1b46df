//! OVER: functions over the rows of a partition up to each row. Rows wait for the watermark to pass their time.

use super::expiring::Expires;
use super::group_aggregate::{self, GroupAggregate};
use super::groups::GroupTable;
use super::over_frames::{Due, Frames, of_frames};
use super::rank::converter;
use super::row_slots::RowSlots;
use super::watermark::{column_ms, encode_watermark, lowest_watermark};
use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::row::RowConverter;
use millstream_core::graph::{
    Connections, Frame, GroupAggregate as Running, Over as Spec, OverCall, OverFunction, RankFunction, WindowTime,
    state_tables,
};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec,
};
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind, Watermark};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Tables with fewer partitions than this are not made anew.
const MIN_PARTS: usize = 4096;

/// Keeps the rows that wait for the watermark, and those that later rows look back at.
pub(super) struct Over {
    spec: Spec,
    schema: SchemaRef,
    then: Option<RowConverter>,
    keys: GroupTable,
    /// The rows of each partition that are looked back at, with their times, in order.
    history: Vec<VecDeque<(u32, i64)>>,
    /// The partitions that have rows of a time, by which those leave.
    by_time: BTreeMap<i64, Vec<u32>>,
    /// The rows that wait for the watermark, by time.
    pending: BTreeMap<i64, Vec<u32>>,
    /// Rows of a checkpoint that are in neither yet.
    restored: Vec<(u32, i64)>,
    store: RowSlots,
    totals: Option<Totals>,
    /// So many rows of each partition stay.
    rows_kept: usize,
    /// Rows of so many milliseconds stay.
    range_ms: Option<i64>,
    watermark: i64,
    /// The time of the last row that left: rows up to it are late where there are no functions (flink: `RowTimeSortOperator`).
    last: i64,
    /// Whether rows that the watermark has passed are leaving; others wait for the next one.
    is_firing: bool,
    numbers: Vec<u32>,
}

/// The aggregates of all rows so far.
pub(super) struct Totals {
    groups: Expires<GroupAggregate>,
    /// The columns that it is given, before the BOOLEAN that tells the first row of each time.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// For each of its aggregates, the number of the call.
    calls: Vec<usize>,
}

/// The aggregates of all rows so far, over only the columns that they read; which those are.
fn totals_spec(spec: &Spec, input: &Schema) -> Option<(Running, Vec<usize>, Schema)> {
    let mut running = spec.running(input.len())?;
    let mut columns: Vec<usize> = vec![];
    let mut used: Vec<&mut usize> = running.keys.iter_mut().collect();
    for call in &mut running.aggregates {
        used.extend(call.args.iter_mut().chain(call.filter.as_mut()));
    }
    let mut first_of_time = vec![];
    for index in used {
        if *index == input.len() {
            first_of_time.push(index);
            continue;
        }
        let at = columns.iter().position(|c| c == index).unwrap_or_else(|| {
            columns.push(*index);
            columns.len() - 1
        });
        *index = at;
    }
    first_of_time.into_iter().for_each(|index| *index = columns.len());
    let mut fields: Vec<Field> = columns.iter().map(|c| input.fields[*c].clone()).collect();
    fields.push(Field::new("$first", TypeKind::Boolean.not_null()));
    Some((running, columns, Schema::new(fields)))
}

/// The connections that the totals' operator believes to have.
fn totals_connections(running: &Running, input: &Schema) -> Connections {
    let mut fields: Vec<Field> = running.keys.iter().map(|k| input.fields[*k].clone()).collect();
    fields.extend(running.aggregates.iter().enumerate().map(|(i, c)| Field::new(format!("a{i}"), c.result.clone())));
    Connections::insert_only(std::slice::from_ref(input), &Schema::new(fields))
}

/// The shapes of the state tables.
pub(super) fn tables(spec: &Spec, input: &Schema) -> Result<Vec<TableSpec>> {
    let mut tables = vec![];
    if spec.keeps_rows() {
        tables.push(RowSlots::table(state_tables::ROWS, input, &spec.partition));
    }
    if let Some((running, _, schema)) = totals_spec(spec, input) {
        tables.extend(group_aggregate::tables(&running, &totals_connections(&running, &schema))?);
    }
    Ok(tables)
}

impl Over {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let input = connections.input(0)?;
        let totals = Totals::new(spec, input)?;
        let rows_of = |call: &OverCall| match (&call.function, call.frame) {
            (OverFunction::Lag { offset, .. }, _) => *offset,
            (_, Frame { is_rows: true, preceding: Some(rows) }) => rows.max(0) as usize,
            _ => 0,
        };
        let range_of = |call: &OverCall| match (&call.function, call.frame) {
            (OverFunction::Lag { .. }, _) => None,
            (_, Frame { is_rows: false, preceding }) => preceding,
            _ => None,
        };
        let types = spec.partition.iter().map(|c| input.arrow().field(*c).data_type().clone()).collect();
        Ok(Over {
            schema: connections.output.schema.arrow().clone(),
            then: converter(&spec.then, input)?,
            keys: GroupTable::new(types)?,
            history: vec![],
            by_time: BTreeMap::new(),
            pending: BTreeMap::new(),
            restored: vec![],
            store: RowSlots::new(RowSlots::table(state_tables::ROWS, input, &spec.partition), input),
            totals,
            rows_kept: spec.calls.iter().map(rows_of).max().unwrap_or(0),
            range_ms: spec.calls.iter().filter_map(range_of).max(),
            watermark: i64::MIN,
            last: i64::MIN,
            is_firing: false,
            numbers: vec![],
            spec: spec.clone(),
        })
    }

    fn is_event_time(&self) -> bool {
        self.spec.time != WindowTime::Processing
    }

    /// Numbers the partitions of rows.
    fn find_parts(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.keys.lookup(columns, rows, &mut numbers)?;
        self.history.resize_with(self.keys.len(), VecDeque::new);
        Ok(numbers)
    }

    /// Sorts restored rows into those that wait and those that are looked back at.
    fn settle(&mut self, now_ms: i64) -> Result<()> {
        let mut restored = std::mem::take(&mut self.restored);
        if restored.is_empty() {
            return Ok(());
        }
        let is_event_time = self.is_event_time();
        // When a row arrived is not known any more: as of now.
        restored.iter_mut().filter(|_| !is_event_time).for_each(|(_, time)| *time = now_ms);
        restored.sort_by_key(|(slot, time)| (*time, self.store.number(*slot)));
        let waits = |slot: u32, time: i64| {
            is_event_time && (time > self.watermark || !self.spec.has_history() || self.store.is_marked(slot))
        };
        let (waiting, past): (Vec<_>, Vec<_>) = restored.into_iter().partition(|(slot, time)| waits(*slot, *time));
        waiting.into_iter().for_each(|(slot, time)| self.pending.entry(time).or_default().push(slot));
        let slots: Vec<u32> = past.iter().map(|(slot, _)| *slot).collect();
        let columns = self.store.take_columns(&slots, &self.spec.partition)?;
        let parts = self.find_parts(&columns, slots.len())?;
        self.remember(&parts, &past);
        self.numbers = parts;
        Ok(())
    }

    /// Adds rows to what is looked back at.
    fn remember(&mut self, parts: &[u32], rows: &[(u32, i64)]) {
        for (part, (slot, time)) in parts.iter().zip(rows) {
            self.history[*part as usize].push_back((*slot, *time));
            if self.range_ms.is_some() {
                let at_time = self.by_time.entry(*time).or_default();
                if at_time.last() != Some(part) {
                    at_time.push(*part);
                }
            }
        }
    }

    /// Lets go of the rows of a partition that no row of `time` or later looks back at.
    fn trim(&mut self, part: u32, time: i64, gone: &mut Vec<u32>) {
        let bound = self.range_ms.map(|range| time.saturating_sub(range));
        let rows = &mut self.history[part as usize];
        while rows.len() > self.rows_kept
            && let Some((slot, at)) = rows.front().copied()
            && bound.is_none_or(|bound| at < bound)
        {
            gone.push(slot);
            rows.pop_front();
        }
    }

    /// Lets go of the rows that are too old for any row of `time` or later.
    fn expire(&mut self, time: i64) -> Result<()> {
        let Some(range) = self.range_ms else { return Ok(()) };
        let mut gone = vec![];
        while let Some(entry) = self.by_time.first_entry()
            && *entry.key() < time.saturating_sub(range)
        {
            entry.remove().into_iter().for_each(|part| self.trim(part, time, &mut gone));
        }
        self.store.release(&gone)
    }

    /// Makes the table of partitions anew when most have no rows.
    fn forget_parts(&mut self) -> Result<()> {
        if !self.spec.has_history() {
            if self.keys.len() > MIN_PARTS {
                self.keys = self.keys.emptied()?;
                self.history.clear();
            }
            return Ok(());
        }
        if self.keys.len() <= MIN_PARTS {
            return Ok(());
        }
        let live: Vec<u32> = (0..self.history.len() as u32).filter(|p| !self.history[*p as usize].is_empty()).collect();
        if live.len() * 2 > self.history.len() {
            return Ok(());
        }
        let columns = self.keys.keys(&live)?;
        self.keys = self.keys.emptied()?;
        self.keys.lookup(&columns, live.len(), &mut self.numbers)?;
        let mut new = vec![u32::MAX; self.history.len()];
        live.iter().zip(0..).for_each(|(old, part)| new[*old as usize] = part);
        self.history = live.iter().map(|p| std::mem::take(&mut self.history[*p as usize])).collect();
        for parts in self.by_time.values_mut() {
            *parts = parts.iter().map(|p| new[*p as usize]).filter(|p| *p != u32::MAX).collect();
        }
        Ok(())
    }

    /// The functions of rows that are due, one column a call.
    fn results(&mut self, due: &Due<'_>, now_ms: i64) -> Result<Vec<ArrayRef>> {
        results_of(&self.spec, self.totals.as_mut(), due, &self.history, &self.store, now_ms)
    }

    fn emit(&self, due: &Due<'_>, results: Vec<ArrayRef>, ctx: &mut Context<'_>) -> Result<()> {
        let mut columns = due.batch.rows.columns().to_vec();
        columns.extend(results);
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, due.batch.num_rows())?)
    }

    /// The rows of a time in their order.
    fn sorted(&self, slots: Vec<u32>) -> Result<Vec<u32>> {
        let Some(converter) = self.then.as_ref().filter(|_| slots.len() > 1) else { return Ok(slots) };
        let columns: Vec<usize> = self.spec.then.iter().map(|key| key.column).collect();
        let order = converter.convert_columns(&self.store.take_columns(&slots, &columns)?)?;
        let mut rows: Vec<usize> = (0..slots.len()).collect();
        rows.sort_by_key(|row| order.row(*row));
        Ok(rows.into_iter().map(|row| slots[row]).collect())
    }

    /// Emits about a batch of the rows that the watermark has passed.
    fn fire(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let mut rows: Vec<(u32, i64)> = vec![];
        while ctx.has_room()
            && rows.len() < TARGET_BATCH_ROWS
            && let Some(entry) = self.pending.first_entry()
            && *entry.key() <= self.watermark
        {
            let (time, slots) = entry.remove_entry();
            rows.extend(self.sorted(slots)?.into_iter().map(|slot| (slot, time)));
        }
        if let Some((_, time)) = rows.last() {
            self.last = *time;
        } else {
            self.is_firing = self.has_passed();
            return Ok(if self.is_due() { Progress::More } else { Progress::Done });
        }
        let slots: Vec<u32> = rows.iter().map(|(slot, _)| *slot).collect();
        let schema = Arc::new(
            self.schema.project(&(0..self.schema.fields().len() - self.spec.calls.len()).collect::<Vec<_>>())?,
        );
        let batch = Batch::from_columns(schema, self.store.take(&slots)?, slots.len())?;
        let columns: Vec<ArrayRef> = self.spec.partition.iter().map(|c| batch.column(*c).clone()).collect();
        let parts = self.find_parts(&columns, slots.len())?;
        let due =
            Due { batch: &batch, parts: &parts, times: rows.iter().map(|(_, time)| *time).collect(), has_peers: true };
        let results = self.results(&due, ctx.now_ms)?;
        self.emit(&due, results, ctx)?;
        match self.spec.has_history() {
            true => {
                self.remember(&parts, &rows);
                let mut gone = vec![];
                for (part, (_, time)) in parts.iter().zip(&rows) {
                    self.trim(*part, *time, &mut gone);
                }
                self.store.release(&gone)?;
            }
            false => self.store.release(&slots)?,
        }
        self.numbers = parts;
        self.forget_parts()?;
        Ok(if self.is_due() { Progress::More } else { Progress::Done })
    }

    fn has_passed(&self) -> bool {
        self.pending.first_key_value().is_some_and(|(time, _)| *time <= self.watermark)
    }

    fn is_due(&self) -> bool {
        self.is_firing && self.has_passed()
    }

    /// Which of these rows behind the watermark are late. All are where functions are over all rows so far; where frames
    /// are bounded only those up to the last row of their partition that left (flink: `RowTimeRowsBoundedPrecedingFunction`,
    /// `RowTimeRangeBoundedPrecedingFunction`).
    fn late(&mut self, batch: &Batch, times: &[i64], behind: Vec<u32>) -> Result<Vec<u32>> {
        if self.spec.calls.is_empty() {
            return Ok(behind.into_iter().filter(|row| times[*row as usize] <= self.last).collect());
        }
        if !self.spec.is_bounded() {
            return Ok(behind);
        }
        let rows = UInt32Array::from(behind.clone());
        let take = |column: &usize| compute::take(batch.column(*column), &rows, None);
        let columns = self.spec.partition.iter().map(take).collect::<std::result::Result<Vec<_>, _>>()?;
        let parts = self.find_parts(&columns, behind.len())?;
        let is_late = |(row, part): &(u32, &u32)| {
            let last = self.history[**part as usize].back();
            last.is_some_and(|(_, last)| times[*row as usize] <= *last)
        };
        let late = behind.into_iter().zip(&parts).filter(is_late).map(|(row, _)| row).collect();
        self.numbers = parts;
        Ok(late)
    }

    /// Puts rows aside until the watermark passes them; late ones are dropped.
    fn wait(&mut self, batch: Batch, column: usize, ctx: &mut Context<'_>) -> Result<()> {
        let mut times = column_ms(batch.column(column), "the time attribute of OVER or ORDER BY")?;
        let behind: Vec<u32> = (0..times.len() as u32).filter(|row| times[*row as usize] <= self.watermark).collect();
        let late = if behind.is_empty() { behind } else { self.late(&batch, &times, behind)? };
        let batch = match late.is_empty() {
            true => batch,
            false => {
                let kept: Vec<u32> = (0..times.len() as u32).filter(|row| late.binary_search(row).is_err()).collect();
                ctx.drop_late(0, &batch, late, Watermark(self.watermark))?;
                times = kept.iter().map(|row| times[*row as usize]).collect();
                batch.take(&kept.into())?
            }
        };
        for (slot, time) in self.store.append(batch.rows)?.into_iter().zip(times) {
            self.pending.entry(time).or_default().push(slot);
        }
        Ok(())
    }

    /// Handles rows as they arrive.
    fn pass(&mut self, batch: &Batch, ctx: &mut Context<'_>) -> Result<()> {
        let columns: Vec<ArrayRef> = self.spec.partition.iter().map(|c| batch.column(*c).clone()).collect();
        let parts = self.find_parts(&columns, batch.num_rows())?;
        let times = vec![ctx.now_ms; batch.num_rows()];
        self.expire(ctx.now_ms)?;
        let due = Due { batch, parts: &parts, times, has_peers: false };
        let results = self.results(&due, ctx.now_ms)?;
        self.emit(&due, results, ctx)?;
        if self.spec.has_history() {
            let rows: Vec<(u32, i64)> =
                self.store.append(batch.rows.clone())?.into_iter().map(|slot| (slot, ctx.now_ms)).collect();
            self.remember(&parts, &rows);
            let mut gone = vec![];
            parts.iter().for_each(|part| self.trim(*part, ctx.now_ms, &mut gone));
            self.store.release(&gone)?;
        }
        self.numbers = parts;
        self.forget_parts()
    }
}

/// The instances' watermarks, and the times of the last rows that left, as they were stored one behind the other.
fn split_instances(instances: Vec<Vec<u8>>) -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>)> {
    let split = |mut bytes: Vec<u8>| match bytes.len() / 2 {
        half if half * 2 == bytes.len() => {
            let last = bytes.split_off(half);
            Ok((bytes, last))
        }
        _ => Err(Error::state("the stored times of an OVER have an unknown form")),
    };
    instances.into_iter().map(split).collect::<Result<Vec<_>>>().map(|all| all.into_iter().unzip())
}

/// The functions of rows that are due, one column a call; `history`: the rows of each partition before them.
pub(super) fn results_of(
    spec: &Spec,
    totals: Option<&mut Totals>,
    due: &Due<'_>,
    history: &[VecDeque<(u32, i64)>],
    store: &RowSlots,
    now_ms: i64,
) -> Result<Vec<ArrayRef>> {
    let mut results: Vec<Option<ArrayRef>> = vec![None; spec.calls.len()];
    if let Some(totals) = totals {
        for (call, column) in totals.calls.clone().into_iter().zip(totals.of(due, now_ms)?) {
            let OverCall { function, frame } = &spec.calls[call];
            let peers = match function {
                OverFunction::Rank(RankFunction::Rank) => Some(due.first_peers()),
                OverFunction::Aggregate(_) if !frame.is_rows => Some(due.last_peers()),
                _ => None,
            };
            results[call] = Some(match peers {
                Some(peers) => compute::take(&column, &UInt32Array::from(peers), None)?,
                None => column,
            });
        }
    }
    if spec.has_history() {
        let frames = Frames::new(due, history, store)?;
        for (call, column) in of_frames(&spec.calls, due, &frames)? {
            results[call] = Some(column);
        }
    }
    let missing = || Error::internal("a function of OVER without a result");
    results.into_iter().map(|column| column.ok_or_else(missing)).collect()
}

impl Totals {
    /// None if no call needs them.
    pub(super) fn new(spec: &Spec, input: &Schema) -> Result<Option<Self>> {
        let Some((running, columns, schema)) = totals_spec(spec, input) else { return Ok(None) };
        let groups = Expires(GroupAggregate::new(&running, &totals_connections(&running, &schema))?);
        let is_total =
            |call: &OverCall| call.frame.preceding.is_none() && !matches!(call.function, OverFunction::Lag { .. });
        let calls = spec.calls.iter().enumerate().filter(|(_, call)| is_total(call)).map(|(i, _)| i).collect();
        Ok(Some(Totals { groups, columns, schema: schema.arrow().clone(), calls }))
    }

    /// The totals after each row that is due: rows of one partition one after another.
    fn of(&mut self, due: &Due<'_>, now_ms: i64) -> Result<Vec<ArrayRef>> {
        let rows = due.batch.num_rows();
        let order = due.rounds();
        let indices = UInt32Array::from_iter_values(order.iter().flatten().copied());
        let mut columns: Vec<ArrayRef> = self.columns.iter().map(|c| due.batch.column(*c).clone()).collect();
        columns.push(Arc::new(BooleanArray::from(due.is_first_peer())));
        let batch = Batch::from_columns(self.schema.clone(), columns, rows)?.take(&indices)?;
        let mut parts: Vec<Vec<ArrayRef>> = vec![];
        let mut offset = 0;
        for round in &order {
            parts.push(self.groups.0.running(&batch.slice(offset, round.len()), now_ms)?);
            offset += round.len();
        }
        let mut back = vec![0u32; rows];
        order.iter().flatten().zip(0u32..).for_each(|(row, at)| back[*row as usize] = at);
        let back = UInt32Array::from(back);
        (0..self.calls.len())
            .map(|call| {
                let arrays: Vec<&dyn Array> = parts.iter().map(|p| p[call].as_ref()).collect();
                Ok(compute::take(&compute::concat(&arrays)?, &back, None)?)
            })
            .collect()
    }
}

impl Operator for Over {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => {
                let (passed, left) = split_instances(instances)?;
                self.watermark = lowest_watermark(&passed)?;
                self.last = left
                    .iter()
                    .map(|one| lowest_watermark(std::slice::from_ref(one)))
                    .try_fold(i64::MIN, |last, one| one.map(|one| last.max(one)))?;
                self.is_firing = true;
                Ok(())
            }
            Restored::Rows { table, rows } if table == state_tables::ROWS && self.spec.keeps_rows() => {
                let (batch, slots) = self.store.restore(&rows)?;
                let times = match self.spec.time {
                    WindowTime::Event { column } => column_ms(batch.column(column), "the time attribute of OVER")?,
                    WindowTime::Processing => vec![0; slots.len()],
                };
                self.restored.extend(slots.into_iter().zip(times));
                Ok(())
            }
            part @ Restored::Rows { .. } => match &mut self.totals {
                Some(totals) => totals.groups.restore(part),
                None => Err(Error::state("an OVER without totals has a table of them")),
            },
        }
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        self.settle(ctx.now_ms)?;
        if let WindowTime::Event { column } = self.spec.time {
            return self.wait(batch, column, ctx);
        }
        let mut offset = 0;
        while offset < batch.num_rows() {
            let count = TARGET_BATCH_ROWS.min(batch.num_rows() - offset);
            self.pass(&batch.slice(offset, count), ctx)?;
            offset += count;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.settle(ctx.now_ms)?;
        if self.is_event_time() {
            self.watermark = watermark.0;
            self.is_firing = true;
            if self.fire(ctx)? == Progress::More {
                return Ok(Progress::More);
            }
            self.expire(watermark.0.saturating_add(1))?;
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.settle(ctx.now_ms)?;
        match self.is_event_time() {
            true if self.fire(ctx)? == Progress::More => return Ok(Progress::More),
            true => {}
            false => self.expire(ctx.now_ms)?,
        }
        match &mut self.totals {
            Some(totals) if totals.groups.next_timer().is_some_and(|at| at <= ctx.now_ms) => {
                totals.groups.on_timer(ctx)
            }
            _ => Ok(Progress::Done),
        }
    }

    fn next_timer(&self) -> Option<i64> {
        // Restored rows may be due.
        if self.is_event_time() && (self.is_due() || !self.restored.is_empty()) {
            return Some(i64::MIN);
        }
        let expiry = match (self.is_event_time(), self.by_time.first_key_value(), self.range_ms) {
            (false, Some((time, _)), Some(range)) => Some(time.saturating_add(range).saturating_add(1)),
            _ => None,
        };
        let totals = self.totals.as_ref().and_then(|totals| totals.groups.next_timer());
        expiry.into_iter().chain(totals).min()
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, epoch: u64) -> Result<StateDelta> {
        let mut tables = vec![];
        if self.spec.keeps_rows() {
            // Rows that are still restored keep the marks that they had.
            if self.restored.is_empty() && self.spec.has_history() {
                self.store.mark(self.pending.range(..=self.watermark).flat_map(|(_, slots)| slots.iter().copied()));
            }
            tables.push(self.store.take_delta()?);
        }
        if let Some(totals) = &mut self.totals {
            tables.extend(totals.groups.snapshot(epoch)?.tables);
        }
        let instance = || [encode_watermark(self.watermark), encode_watermark(self.last)].concat();
        let instance = self.is_event_time().then(instance);
        Ok(StateDelta { tables, instance })
    }
}
