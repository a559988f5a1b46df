//! Aggregates without a window: each batch brings the groups that it has rows of up to date.

use super::aggregate::{Accumulator, accumulator, retractable, signs};
use super::counted::{Counted, SAME};
use super::expiring::{Expiring, Expiry};
use super::value_counts::ValueCounts;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt8Array, make_comparator};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{Int32Type, SchemaRef};
use millstream_core::graph::{AggregateFunction, Connections, GroupAggregate as Spec, state_tables};
use millstream_core::operator::{Context, Port, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec};
use millstream_core::{Batch, DataType, Error, Field, Result, RowKind, Schema, TypeKind};
use std::cmp::Ordering;
use std::sync::Arc;

/// One call of the aggregate.
struct Call {
    args: Vec<usize>,
    filter: Option<usize>,
    accumulator: Box<dyn Accumulator>,
    /// How many of the table's columns are its state.
    state_columns: usize,
    /// Whether a row with a NULL among several arguments doesn't count.
    skips_nulls: bool,
}

/// The values of calls that are told each of them only once, and have the same arguments.
struct ValueSet {
    calls: Vec<usize>,
    args: Vec<usize>,
    values: ValueCounts,
}

/// Keeps the aggregates of each group, and how many rows it has.
pub(super) struct GroupAggregate {
    keys: Vec<usize>,
    calls: Vec<Call>,
    sets: Vec<ValueSet>,
    retracts: bool,
    update_before: bool,
    schema: SchemaRef,
    /// The groups, each with the number of its rows.
    groups: Counted,
    expiry: Expiry,
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
    let mut states = vec![];
    for (i, call) in spec.aggregates.iter().enumerate() {
        let types = state_types(call, retracts)?;
        states.extend(types.into_iter().enumerate().map(|(j, t)| Field::new(format!("a{i}_{j}"), t)));
    }
    let partitioned = spec.keys.len();
    let columns = Counted::fields("k", &keys);
    let mut tables = vec![Counted::table(state_tables::GROUPS.into(), columns, (0..partitioned).collect(), states)];
    for calls in spec.value_sets(retracts) {
        let name = format!("{}{}", state_tables::VALUES, calls[0]);
        let types = &spec.aggregates[calls[0]].arg_types;
        tables.push(ValueCounts::table(name, &keys, types, calls.len(), partitioned));
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
        let mut calls = vec![];
        for call in &spec.aggregates {
            let plain = millstream_core::graph::AggregateCall { distinct: false, ..call.clone() };
            calls.push(Call {
                args: call.args.clone(),
                filter: call.filter,
                accumulator: if retracts { retractable(&plain)?.0 } else { accumulator(&plain)? },
                state_columns: state_types(call, retracts)?.len(),
                skips_nulls: call.function == AggregateFunction::Count && call.args.len() > 1,
            });
        }
        let width = spec.keys.len().max(1);
        let mut sets = vec![];
        for (calls, table) in spec.value_sets(retracts).into_iter().zip(&tables[1..]) {
            let values = ValueCounts::new(table, width, calls.len())?;
            sets.push(ValueSet { args: spec.aggregates[calls[0]].args.clone(), calls, values });
        }
        Ok(GroupAggregate {
            keys: spec.keys.clone(),
            calls,
            sets,
            retracts,
            update_before: connections.output.changelog.update_before,
            schema: connections.output.schema.arrow().clone(),
            groups: Counted::new(&tables[0])?,
            expiry: Expiry::new(spec.ttl_ms),
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
        let numbers = self.groups.find(keys, rows)?;
        self.resize();
        Ok(numbers)
    }

    fn resize(&mut self) {
        let groups = self.groups.len();
        self.batch_of.resize(groups, 0);
        self.calls.iter_mut().for_each(|call| call.accumulator.resize(groups));
    }

    /// The aggregates of groups.
    fn results(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.calls.iter().map(|call| call.accumulator.evaluate(groups)).collect()
    }

    fn clear(&mut self, group: u32) {
        self.calls.iter_mut().for_each(|call| call.accumulator.clear(group));
    }

    /// Counts each row in its group. What is taken back from a group that is not there (it has expired, or never
    /// was) is left out: such rows' signs become 0.
    fn count(&mut self, batch: &Batch, numbers: &[u32]) -> Option<Vec<i8>> {
        if !self.retracts {
            numbers.iter().for_each(|group| self.groups.set(*group, self.groups.count(*group) + 1));
            return None;
        }
        let mut signs = signs(batch, None).unwrap_or_else(|| vec![1; numbers.len()]);
        for (sign, group) in signs.iter_mut().zip(numbers) {
            let rows = self.groups.count(*group);
            if *sign < 0 && rows == 0 {
                *sign = 0;
            }
            self.groups.set(*group, rows + i64::from(*sign));
        }
        Some(signs)
    }

    fn accumulate(&mut self, batch: &Batch, numbers: &[u32], kinds: Option<&[i8]>, now: Option<i64>) -> Result<()> {
        let of = |columns: &[usize]| columns.iter().map(|c| batch.column(*c).clone()).collect::<Vec<ArrayRef>>();
        let rows = Batch::insert_only(batch.rows.clone());
        let mut of_calls: Vec<Option<Vec<i8>>> = vec![];
        for call in &self.calls {
            let mut of_rows = match signs(&rows, call.filter) {
                None => kinds.map(<[i8]>::to_vec),
                Some(mut passing) => {
                    passing.iter_mut().zip(kinds.unwrap_or_default()).for_each(|(sign, kind)| *sign *= kind);
                    Some(passing)
                }
            };
            if call.skips_nulls {
                let args = of(&call.args);
                let of_rows = of_rows.get_or_insert_with(|| vec![1; numbers.len()]);
                for (row, sign) in of_rows.iter_mut().enumerate() {
                    if args.iter().any(|a| a.is_null(row)) {
                        *sign = 0;
                    }
                }
            }
            of_calls.push(of_rows);
        }
        for set in &mut self.sets {
            let own: Vec<_> = set.calls.iter().map(|call| of_calls[*call].take()).collect();
            let transitions = set.values.update(numbers, &of(&set.args), &own, self.retracts, now)?;
            for (call, transitions) in set.calls.iter().zip(transitions) {
                of_calls[*call] = Some(transitions);
            }
        }
        for (call, signs) in self.calls.iter_mut().zip(of_calls) {
            call.accumulator.update(numbers, &of(&call.args), signs.as_deref())?;
        }
        Ok(())
    }

    /// Emits what became of `touched`, of which those that were there have the results `old`.
    fn emit(&self, touched: &[u32], was: &[Option<usize>], old: &[ArrayRef], ctx: &mut Context<'_>) -> Result<()> {
        let live: Vec<u32> = touched.iter().copied().filter(|g| self.groups.count(*g) > 0).collect();
        let new = self.results(&live)?;
        let comparators = old.iter().zip(&new).map(|(old, new)| comparator(old, new)).collect::<Result<Vec<_>>>()?;
        let mut picks: Vec<(usize, usize)> = vec![];
        let mut groups: Vec<u32> = vec![];
        let mut kinds: Vec<u8> = vec![];
        let mut next = 0;
        for (group, was) in touched.iter().zip(was) {
            let now = (self.groups.count(*group) > 0).then(|| {
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
        let mut columns = self.groups.columns(&groups)?;
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
        let (mut touched, mut was, mut live) = (vec![], vec![], vec![]);
        self.batch += 1;
        let now = self.expiry.stamp(ctx.now_ms);
        for group in &numbers {
            let at = *group as usize;
            if std::mem::replace(&mut self.batch_of[at], self.batch) == self.batch {
                continue;
            }
            let is_there = self.groups.count(*group) > 0;
            if is_there && self.expiry.has_passed(self.groups.touched(*group), ctx.now_ms) {
                self.groups.set(*group, 0);
                self.clear(*group);
            }
            touched.push(*group);
            was.push((self.groups.count(*group) > 0).then(|| {
                live.push(*group);
                live.len() - 1
            }));
            self.groups.touch(*group, now);
            self.groups.mark(*group);
        }
        let old = self.results(&live)?;
        let kinds = self.count(batch, &numbers);
        self.accumulate(batch, &numbers, kinds.as_deref(), now)?;
        self.emit(&touched, &was, &old, ctx)?;
        for group in touched {
            if self.groups.count(group) == 0 {
                self.clear(group);
            }
        }
        self.groups.done(numbers);
        self.expiry.arm(ctx.now_ms);
        let is_sparse = self.groups.is_sparse() || self.sets.iter().any(|set| set.values.is_sparse());
        if is_sparse { self.rebuild() } else { Ok(()) }
    }

    /// Takes in rows, no two of one group, and gives the aggregates of their groups after them.
    pub(super) fn running(&mut self, batch: &Batch, now_ms: i64) -> Result<Vec<ArrayRef>> {
        let keys = self.state_keys(batch);
        let numbers = self.find(&keys, batch.num_rows())?;
        let now = self.expiry.stamp(now_ms);
        numbers.iter().for_each(|group| self.groups.touch(*group, now));
        self.count(batch, &numbers);
        self.accumulate(batch, &numbers, None, now)?;
        let results = self.results(&numbers)?;
        self.groups.done(numbers);
        self.expiry.arm(now_ms);
        Ok(results)
    }

    /// Makes the table anew, without the groups that are gone.
    fn rebuild(&mut self) -> Result<()> {
        let GroupAggregate { groups, sets, calls, .. } = self;
        for set in sets.iter_mut() {
            set.values.rebuild(|group| groups.count(group) > 0, &|columns| with_keys(groups, columns))?;
        }
        let before = groups.len();
        let live = groups.rebuild(SAME)?;
        let mut new = vec![0; before];
        live.iter().zip(0..).for_each(|(old, group)| new[*old as usize] = group);
        for set in sets {
            set.values.renumber(|old| new[old as usize])?;
        }
        calls.iter_mut().for_each(|call| call.accumulator.keep(&live));
        self.batch_of = vec![0; live.len()];
        Ok(())
    }

    fn restore_groups(&mut self, rows: &RecordBatch) -> Result<()> {
        let width = self.groups.width();
        let numbers = self.groups.restore(&rows.columns()[..width], rows, width)?;
        self.resize();
        let mut rest = &rows.columns()[self.groups.more_at()..];
        for call in &mut self.calls {
            let (own, others) = rest
                .split_at_checked(call.state_columns)
                .ok_or_else(|| Error::state("a group's aggregates lack columns"))?;
            if !own.is_empty() {
                call.accumulator.merge(&numbers, own)?;
            }
            rest = others;
        }
        self.groups.done(numbers);
        Ok(())
    }

    fn restore_values(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let width = self.groups.width();
        let groups = self.find(&rows.columns()[..width], rows.num_rows())?;
        let set = self.sets.iter_mut().find(|set| set.values.name() == table);
        let set = set.ok_or_else(|| Error::state(format!("unknown state table {table}")))?;
        let values = set.values.restore(&groups, rows)?;
        for (place, number) in set.calls.iter().enumerate() {
            let call = &mut self.calls[*number];
            if call.state_columns == 0 {
                call.accumulator.update(&groups, values, set.values.stored_signs(rows, place).as_deref())?;
            }
        }
        self.groups.done(groups);
        Ok(())
    }
}

/// The columns of values in state: their groups' keys in place of their numbers.
fn with_keys(groups: &Counted, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let numbers = columns.remove(0);
    let numbers: Vec<u32> = numbers.as_primitive::<Int32Type>().values().iter().map(|group| *group as u32).collect();
    let mut all = groups.columns(&numbers)?;
    all.append(&mut columns);
    Ok(all)
}

/// Whether a row of one array differs from a row of the other.
pub(super) fn comparator<'a>(old: &'a ArrayRef, new: &'a ArrayRef) -> Result<Box<dyn Fn(usize, usize) -> bool + 'a>> {
    match make_comparator(old, new, SortOptions::default()) {
        Ok(compare) => Ok(Box::new(move |a, b| compare(a, b) != Ordering::Equal)),
        // Maps have no order, but equality.
        Err(_) => Ok(Box::new(|a, b| old.slice(a, 1).as_ref() != new.slice(b, 1).as_ref())),
    }
}

impl Expiring for GroupAggregate {
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

    fn expiries(&self) -> &[Expiry] {
        std::slice::from_ref(&self.expiry)
    }

    fn expiries_mut(&mut self) -> &mut [Expiry] {
        std::slice::from_mut(&mut self.expiry)
    }

    fn forget(&mut self, _: usize, bound: i64, now_ms: i64) -> Result<bool> {
        for group in self.groups.expired(bound, now_ms) {
            self.groups.set(group, 0);
            self.clear(group);
        }
        self.sets.iter_mut().for_each(|set| set.values.expire(bound, now_ms));
        self.rebuild()?;
        Ok(self.groups.len() > 0)
    }

    fn snapshot(&mut self, expired_below: &[Option<i64>]) -> Result<StateDelta> {
        let expired_below = expired_below[0];
        let GroupAggregate { groups, calls, sets, .. } = self;
        let delta = groups.take_delta(expired_below, SAME, |changed| {
            let mut columns = vec![];
            for call in calls.iter().filter(|call| call.state_columns > 0) {
                columns.extend(call.accumulator.state(changed)?);
            }
            Ok(columns)
        })?;
        let mut tables = vec![delta];
        for set in sets {
            tables.push(set.values.take_delta(expired_below, &|columns| with_keys(groups, columns))?);
        }
        Ok(StateDelta { tables, instance: None })
    }
}
