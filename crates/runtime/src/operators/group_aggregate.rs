//! Aggregates without a window: each batch brings the groups that it has rows of up to date.

use super::aggregate::{Accumulator, accumulator, retractable, signs};
use super::groups::GroupTable;
use super::value_counts::{MIN_DEAD, ValueCounts};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt8Array, make_comparator};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_core::graph::{AggregateFunction, Connections, GroupAggregate as Spec, state_tables};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableDelta, TableSpec,
};
use millstream_core::{Batch, DataType, Error, Field, Result, RowKind, Schema, TypeKind, Watermark};
use std::cmp::Ordering;
use std::sync::Arc;

/// One call of the aggregate.
struct Call {
    args: Vec<usize>,
    filter: Option<usize>,
    accumulator: Box<dyn Accumulator>,
    /// How many of the table's columns are its state.
    state_columns: usize,
    /// Its values, if it is told each only once.
    values: Option<ValueCounts>,
    /// Whether a row with a NULL among several arguments doesn't count.
    skips_nulls: bool,
}

/// Keeps the aggregates of each group, and how many rows it has.
pub(super) struct GroupAggregate {
    keys: Vec<usize>,
    calls: Vec<Call>,
    retracts: bool,
    update_before: bool,
    ttl_ms: Option<i64>,
    schema: SchemaRef,
    table: SchemaRef,
    groups: GroupTable,
    /// Rows of each group; 0: it is not there.
    rows: Vec<i64>,
    touched: Vec<i64>,
    is_changed: Vec<bool>,
    changed: Vec<u32>,
    deletes: Vec<RecordBatch>,
    dead: usize,
    expired_below: Option<i64>,
    sweep_at: Option<i64>,
    numbers: Vec<u32>,
    /// The batch that each group was last in.
    batch_of: Vec<u64>,
    batch: u64,
}

/// The types of a group's key in state; the group of all rows has a constant one.
fn key_types(spec: &Spec, input: &Schema) -> Result<Vec<DataType>> {
    let missing = || Error::internal("a key that is no column");
    let of = |column: &usize| input.fields.get(*column).map(|f| f.data_type.clone()).ok_or_else(missing);
    if spec.keys.is_empty() { Ok(vec![TypeKind::BigInt.not_null()]) } else { spec.keys.iter().map(of).collect() }
}

/// The shapes of its state tables: of the groups, then of the counted values.
pub(super) fn tables(spec: &Spec, connections: &Connections) -> Result<Vec<TableSpec>> {
    let keys = key_types(spec, connections.input(0)?)?;
    let retracts = connections.retracts(0);
    let mut fields: Vec<Field> = keys.iter().enumerate().map(|(i, t)| Field::new(format!("k{i}"), t.clone())).collect();
    fields.push(Field::new("rows", TypeKind::BigInt.not_null()));
    fields.push(Field::new("touched", TypeKind::BigInt.not_null()));
    for (i, call) in spec.aggregates.iter().enumerate() {
        let types = state_types(call, retracts)?;
        fields.extend(types.into_iter().enumerate().map(|(j, t)| Field::new(format!("a{i}_{j}"), t)));
    }
    let partitioned = spec.keys.len();
    let mut tables = vec![TableSpec {
        name: state_tables::GROUPS.into(),
        schema: Schema::new(fields),
        key: (0..keys.len()).collect(),
        partition_by: (0..partitioned).collect(),
        time: Some(keys.len() + 1),
    }];
    for number in spec.counted(retracts) {
        let name = format!("{}{number}", state_tables::VALUES);
        tables.push(ValueCounts::table(name, &keys, &spec.aggregates[number].arg_types, partitioned));
    }
    Ok(tables)
}

fn state_types(call: &millstream_core::graph::AggregateCall, retracts: bool) -> Result<Vec<DataType>> {
    let plain = millstream_core::graph::AggregateCall { distinct: false, ..call.clone() };
    if retracts { Ok(retractable(&plain)?.1) } else { Ok(plain.state_types()) }
}

impl GroupAggregate {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let retracts = connections.retracts(0);
        let tables = tables(spec, connections)?;
        let counted: Vec<usize> = spec.counted(retracts).collect();
        let mut calls = vec![];
        for (number, call) in spec.aggregates.iter().enumerate() {
            let plain = millstream_core::graph::AggregateCall { distinct: false, ..call.clone() };
            let values = match counted.iter().position(|c| *c == number) {
                Some(place) => Some(ValueCounts::new(&tables[place + 1])?),
                None => None,
            };
            calls.push(Call {
                args: call.args.clone(),
                filter: call.filter,
                accumulator: if retracts { retractable(&plain)?.0 } else { accumulator(&plain)? },
                state_columns: state_types(call, retracts)?.len(),
                values,
                skips_nulls: call.function == AggregateFunction::Count && call.args.len() > 1,
            });
        }
        let types = key_types(spec, connections.input(0)?)?.iter().map(|t| t.arrow()).collect();
        Ok(GroupAggregate {
            keys: spec.keys.clone(),
            calls,
            retracts,
            update_before: connections.output.changelog.update_before,
            ttl_ms: spec.ttl_ms,
            schema: connections.output.schema.arrow().clone(),
            table: tables[0].schema.arrow().clone(),
            groups: GroupTable::new(types)?,
            rows: vec![],
            touched: vec![],
            is_changed: vec![],
            changed: vec![],
            deletes: vec![],
            dead: 0,
            expired_below: None,
            sweep_at: None,
            numbers: vec![],
            batch_of: vec![],
            batch: 0,
        })
    }

    /// The key columns of rows in state.
    fn state_keys(&self, batch: &Batch) -> Vec<ArrayRef> {
        if self.keys.is_empty() {
            return vec![Arc::new(Int64Array::from(vec![0; batch.num_rows()]))];
        }
        self.keys.iter().map(|column| batch.column(*column).clone()).collect()
    }

    fn find(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.groups.lookup(keys, rows, &mut numbers)?;
        let groups = self.groups.len();
        self.dead += groups - self.rows.len();
        self.rows.resize(groups, 0);
        self.touched.resize(groups, 0);
        self.is_changed.resize(groups, false);
        self.batch_of.resize(groups, 0);
        self.calls.iter_mut().for_each(|call| call.accumulator.resize(groups));
        Ok(numbers)
    }

    /// The aggregates of groups.
    fn results(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.calls.iter().map(|call| call.accumulator.evaluate(groups)).collect()
    }

    fn forget(&mut self, group: u32) {
        self.rows[group as usize] = 0;
        self.dead += 1;
        self.calls.iter_mut().for_each(|call| call.accumulator.clear(group));
    }

    /// Counts each row in its group. What is taken back from a group that is not there (it has expired, or never
    /// was) is left out: such rows' signs become 0.
    fn count(&mut self, batch: &Batch, numbers: &[u32]) -> Option<Vec<i8>> {
        if !self.retracts {
            numbers.iter().for_each(|group| self.rows[*group as usize] += 1);
            return None;
        }
        let mut signs = signs(batch, None).unwrap_or_else(|| vec![1; numbers.len()]);
        for (sign, group) in signs.iter_mut().zip(numbers) {
            let rows = &mut self.rows[*group as usize];
            if *sign < 0 && *rows == 0 {
                *sign = 0;
            }
            *rows += i64::from(*sign);
        }
        Some(signs)
    }

    fn accumulate(
        &mut self,
        batch: &Batch,
        keys: &[ArrayRef],
        numbers: &[u32],
        kinds: Option<&[i8]>,
        now: i64,
    ) -> Result<()> {
        let now = self.ttl_ms.map(|_| now);
        for call in &mut self.calls {
            let args: Vec<ArrayRef> = call.args.iter().map(|column| batch.column(*column).clone()).collect();
            let mut signs = match call.filter {
                None => kinds.map(<[i8]>::to_vec),
                Some(_) => {
                    let rows = Batch::insert_only(batch.rows.clone());
                    let mut passing = signs(&rows, call.filter).unwrap_or_else(|| vec![1; numbers.len()]);
                    if let Some(kinds) = kinds {
                        passing.iter_mut().zip(kinds).for_each(|(sign, kind)| *sign *= kind);
                    }
                    Some(passing)
                }
            };
            if call.skips_nulls {
                let signs = signs.get_or_insert_with(|| vec![1; numbers.len()]);
                for (row, sign) in signs.iter_mut().enumerate() {
                    if args.iter().any(|a| a.is_null(row)) {
                        *sign = 0;
                    }
                }
            }
            if let Some(values) = &mut call.values {
                let columns: Vec<ArrayRef> = keys.iter().chain(&args).cloned().collect();
                signs = Some(values.update(&columns, numbers.len(), signs.as_deref(), self.retracts, now)?);
            }
            call.accumulator.update(numbers, &args, signs.as_deref())?;
        }
        Ok(())
    }

    /// Emits what became of `touched`, of which those that were there have the results `old`.
    fn emit(&self, touched: &[u32], was: &[Option<usize>], old: &[ArrayRef], ctx: &mut Context<'_>) -> Result<()> {
        let live: Vec<u32> = touched.iter().copied().filter(|g| self.rows[*g as usize] > 0).collect();
        let new = self.results(&live)?;
        let comparators = old.iter().zip(&new).map(|(old, new)| comparator(old, new)).collect::<Result<Vec<_>>>()?;
        let mut picks: Vec<(usize, usize)> = vec![];
        let mut groups: Vec<u32> = vec![];
        let mut kinds: Vec<u8> = vec![];
        let mut next = 0;
        for (group, was) in touched.iter().zip(was) {
            let now = (self.rows[*group as usize] > 0).then(|| {
                next += 1;
                next - 1
            });
            let mut push = |kind: RowKind, side: usize, row: usize| {
                kinds.push(kind as u8);
                picks.push((side, row));
                groups.push(*group);
            };
            match (*was, now) {
                (None, Some(new)) => push(RowKind::Insert, 1, new),
                (Some(old), None) => push(RowKind::Delete, 0, old),
                (Some(old), Some(new)) if comparators.iter().any(|differs| differs(old, new)) => {
                    if self.update_before {
                        push(RowKind::UpdateBefore, 0, old);
                    }
                    push(RowKind::UpdateAfter, 1, new);
                }
                _ => {}
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        let mut columns = self.groups.keys(&groups)?;
        if self.keys.is_empty() {
            columns.clear();
        }
        for (old, new) in old.iter().zip(&new) {
            columns.push(interleave(&[old.as_ref(), new.as_ref()], &picks)?);
        }
        let rows = kinds.len();
        let is_plain = kinds.iter().all(|kind| *kind == RowKind::Insert as u8);
        let kinds = (!is_plain).then(|| UInt8Array::from(kinds));
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, rows)?.with_kinds(kinds))
    }

    fn handle(&mut self, batch: &Batch, ctx: &mut Context<'_>) -> Result<()> {
        let keys = self.state_keys(batch);
        let numbers = self.find(&keys, batch.num_rows())?;
        let expired = self.ttl_ms.map_or(i64::MIN, |ttl| ctx.now_ms.saturating_sub(ttl));
        let (mut touched, mut was, mut live) = (vec![], vec![], vec![]);
        self.batch += 1;
        for group in &numbers {
            let at = *group as usize;
            if std::mem::replace(&mut self.batch_of[at], self.batch) == self.batch {
                continue;
            }
            if self.rows[at] > 0 && self.touched[at] < expired {
                self.forget(*group);
            }
            touched.push(*group);
            was.push((self.rows[at] > 0).then(|| {
                live.push(*group);
                live.len() - 1
            }));
            self.touched[at] = if self.ttl_ms.is_some() { ctx.now_ms } else { 0 };
            if !std::mem::replace(&mut self.is_changed[at], true) {
                self.changed.push(*group);
            }
        }
        let old = self.results(&live)?;
        let kinds = self.count(batch, &numbers);
        self.accumulate(batch, &keys, &numbers, kinds.as_deref(), ctx.now_ms)?;
        self.emit(&touched, &was, &old, ctx)?;
        for (group, was) in touched.iter().zip(&was) {
            match (was.is_some(), self.rows[*group as usize] > 0) {
                (false, true) => self.dead -= 1,
                (true, false) => self.forget(*group),
                // It came and went within the batch.
                (false, false) => self.calls.iter_mut().for_each(|call| call.accumulator.clear(*group)),
                (true, true) => {}
            }
        }
        self.numbers = numbers;
        if let Some(ttl) = self.ttl_ms {
            self.sweep_at.get_or_insert(ctx.now_ms.saturating_add(ttl.max(MIN_SWEEP_MS)));
        }
        if self.dead > MIN_DEAD && self.dead * 2 > self.rows.len() { self.rebuild() } else { Ok(()) }
    }

    /// Makes the table anew, without the groups that are gone.
    fn rebuild(&mut self) -> Result<()> {
        self.keep_deletes()?;
        let live: Vec<u32> = (0..self.rows.len() as u32).filter(|g| self.rows[*g as usize] > 0).collect();
        let keys = self.groups.keys(&live)?;
        let changed: Vec<bool> = live.iter().map(|g| self.is_changed[*g as usize]).collect();
        self.rows = live.iter().map(|g| self.rows[*g as usize]).collect();
        self.touched = live.iter().map(|g| self.touched[*g as usize]).collect();
        self.changed = (0..live.len() as u32).filter(|g| changed[*g as usize]).collect();
        self.is_changed = changed;
        self.batch_of = vec![0; live.len()];
        self.calls.iter_mut().for_each(|call| call.accumulator.keep(&live));
        self.groups = self.groups.emptied()?;
        let mut numbers = std::mem::take(&mut self.numbers);
        self.groups.lookup(&keys, live.len(), &mut numbers)?;
        self.numbers = numbers;
        self.dead = 0;
        Ok(())
    }

    /// Notes the changed groups that are gone for the next snapshot.
    fn keep_deletes(&mut self) -> Result<()> {
        let (gone, left): (Vec<u32>, Vec<u32>) = self.changed.iter().partition(|g| self.rows[**g as usize] == 0);
        self.changed = left;
        gone.iter().for_each(|group| self.is_changed[*group as usize] = false);
        if !gone.is_empty() {
            let keys = self.groups.keys(&gone)?;
            let schema = Arc::new(self.table.project(&(0..keys.len()).collect::<Vec<_>>())?);
            self.deletes.push(RecordBatch::try_new(schema, keys)?);
        }
        Ok(())
    }

    fn restore_groups(&mut self, rows: &RecordBatch) -> Result<()> {
        let width = self.keys.len().max(1);
        let numbers = self.find(&rows.columns()[..width], rows.num_rows())?;
        let of = |column: usize| rows.column(column).as_primitive::<Int64Type>().values();
        let (counts, touched) = (of(width), of(width + 1));
        for (row, group) in numbers.iter().enumerate() {
            self.rows[*group as usize] = counts[row];
            self.touched[*group as usize] = touched[row];
        }
        self.dead -= rows.num_rows();
        let mut rest = &rows.columns()[width + 2..];
        for call in &mut self.calls {
            let (own, others) = rest
                .split_at_checked(call.state_columns)
                .ok_or_else(|| Error::state("a group's aggregates lack columns"))?;
            if !own.is_empty() {
                call.accumulator.merge(&numbers, own)?;
            }
            rest = others;
        }
        self.numbers = numbers;
        Ok(())
    }

    fn restore_values(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let width = self.keys.len().max(1);
        let unknown = || Error::state(format!("unknown state table {table}"));
        let named = |call: &Call| call.values.as_ref().is_some_and(|values| values.name() == table);
        let number = self.calls.iter().position(named).ok_or_else(unknown)?;
        let groups = self.find(&rows.columns()[..width], rows.num_rows())?;
        let call = &mut self.calls[number];
        let columns = call.values.as_mut().ok_or_else(unknown)?.restore(rows)?;
        if call.state_columns == 0 {
            call.accumulator.update(&groups, &columns[width..], None)?;
        }
        self.numbers = groups;
        Ok(())
    }
}

/// State that may expire is looked through no more often than this; milliseconds.
const MIN_SWEEP_MS: i64 = 1000;

/// Whether a row of one array differs from a row of the other.
fn comparator<'a>(old: &'a ArrayRef, new: &'a ArrayRef) -> Result<Box<dyn Fn(usize, usize) -> bool + 'a>> {
    match make_comparator(old, new, SortOptions::default()) {
        Ok(compare) => Ok(Box::new(move |a, b| compare(a, b) != Ordering::Equal)),
        // Maps have no order, but equality.
        Err(_) => Ok(Box::new(|a, b| old.slice(a, 1).as_ref() != new.slice(b, 1).as_ref())),
    }
}

impl Operator for GroupAggregate {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(_) => Ok(()),
            Restored::Rows { table, rows } if table == state_tables::GROUPS => self.restore_groups(&rows),
            Restored::Rows { table, rows } => self.restore_values(&table, &rows),
        }
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let mut offset = 0;
        while offset < batch.num_rows() {
            let count = TARGET_BATCH_ROWS.min(batch.num_rows() - offset);
            self.handle(&batch.slice(offset, count), ctx)?;
            offset += count;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let Some(ttl) = self.ttl_ms else { return Ok(Progress::Done) };
        let bound = ctx.now_ms.saturating_sub(ttl);
        for group in 0..self.rows.len() as u32 {
            let at = group as usize;
            if self.rows[at] > 0 && self.touched[at] == 0 {
                // Stored while nothing expired.
                self.touched[at] = ctx.now_ms;
                if !std::mem::replace(&mut self.is_changed[at], true) {
                    self.changed.push(group);
                }
            } else if self.rows[at] > 0 && self.touched[at] < bound {
                self.forget(group);
            }
        }
        self.rebuild()?;
        for call in &mut self.calls {
            if let Some(values) = &mut call.values {
                values.expire(bound, ctx.now_ms)?;
            }
        }
        self.expired_below = Some(bound);
        self.sweep_at = (!self.rows.is_empty()).then(|| ctx.now_ms.saturating_add((ttl / 2).max(MIN_SWEEP_MS)));
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<i64> {
        self.sweep_at
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        self.keep_deletes()?;
        let changed = std::mem::take(&mut self.changed);
        changed.iter().for_each(|group| self.is_changed[*group as usize] = false);
        let mut delta = TableDelta {
            table: state_tables::GROUPS.into(),
            expired_below: self.expired_below,
            deletes: std::mem::take(&mut self.deletes),
            upserts: vec![],
        };
        if !changed.is_empty() {
            let mut columns = self.groups.keys(&changed)?;
            let of = |values: &[i64]| Int64Array::from_iter_values(changed.iter().map(|g| values[*g as usize]));
            columns.push(Arc::new(of(&self.rows)));
            columns.push(Arc::new(of(&self.touched)));
            for call in &self.calls {
                if call.state_columns > 0 {
                    columns.extend(call.accumulator.state(&changed)?);
                }
            }
            delta.upserts.push(RecordBatch::try_new(self.table.clone(), columns)?);
        }
        let mut tables = vec![delta];
        for call in &mut self.calls {
            if let Some(values) = &mut call.values {
                tables.push(values.take_delta(self.expired_below)?);
            }
        }
        self.expired_below = None;
        Ok(StateDelta { tables, instance: None })
    }
}
