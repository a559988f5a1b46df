//! MATCH_RECOGNIZE: rows wait until the watermark has passed them, then are searched in the order of their time.

mod columns;
mod keys;
mod nfa;
#[cfg(test)]
mod tests;

use super::groups::GroupTable;
use super::row_store::{RowRef, RowStore};
use super::watermark::{column_ms, encode_watermark, lowest_watermark};
use arrow::array::{ArrayRef, AsArray, Int64Array, Int64Builder, ListBuilder, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType as ArrowType, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use columns::{Computed, View};
use keys::{Found, KeyRows, NEVER, Note, WAITING};
use millstream_core::graph::{WindowTime, state_tables};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableDelta, TableSpec,
};
use millstream_core::pattern::{MatchRecognize, SortColumn};
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind, Watermark};
use nfa::Nfa;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Keys from which on dead ones are looked for.
const MIN_KEYS: usize = 1024;

/// The search for a pattern. Between calls, what is due is state like all else: rows wait in `pending` or `due`.
pub(super) struct PatternSearch {
    spec: MatchRecognize,
    nfa: Nfa,
    /// The variables' conditions; `None`: always true.
    conditions: Vec<Option<Computed>>,
    measures: Vec<Computed>,
    schema: SchemaRef,
    tables: [TableSpec; 2],
    key_types: Vec<ArrowType>,
    order: Option<RowConverter>,
    store: RowStore<Note>,
    groups: GroupTable,
    /// By the number of the key's group.
    keys: Vec<KeyRows>,
    /// Keys by when there is something to do; an entry counts if it is the key's `next_due`.
    queue: BinaryHeap<Reverse<(i64, u32)>>,
    /// So many keys before dead ones are looked for.
    compact_at: usize,
    dirty: Vec<u32>,
    /// Event time that has been reached; with processing time, the latest time seen.
    watermark: i64,
    next_number: i64,
    /// Rows with a lower number are in the state table.
    stored_below: i64,
    deletes: Vec<RecordBatch>,
    /// Whether restored rows and matches have still to be put together.
    is_restoring: bool,
}

/// The state tables over rows of the schema `input`: the rows, then the matches of each key.
pub(super) fn tables(spec: &MatchRecognize, input: &Schema) -> [TableSpec; 2] {
    let column = |(i, field): (usize, &Field)| Field::new(format!("c{i}"), field.data_type.clone());
    let number = |name: &str| Field::new(name, TypeKind::BigInt.not_null());
    let mut fields: Vec<Field> = input.fields.iter().enumerate().map(column).collect();
    fields.extend(["number", "time", "sequence"].map(number));
    let mut key = spec.keys.clone();
    key.push(input.len());
    let rows = TableSpec {
        name: state_tables::ROWS.into(),
        schema: Schema::new(fields),
        key,
        partition_by: spec.keys.clone(),
        time: None,
    };
    let mut fields: Vec<Field> =
        spec.keys.iter().map(|k| input.fields[*k].clone()).enumerate().map(column_of).collect();
    // A table has a key, even if the pattern is searched for in all rows together.
    fields.push(number("part"));
    fields.push(Field::new("matches", TypeKind::Array(Box::new(TypeKind::BigInt.nullable())).nullable()));
    let partition_by: Vec<usize> = (0..spec.keys.len()).collect();
    let matches = TableSpec {
        name: state_tables::MATCHES.into(),
        schema: Schema::new(fields),
        key: (0..=spec.keys.len()).collect(),
        partition_by,
        time: None,
    };
    [rows, matches]
}

fn column_of((number, field): (usize, Field)) -> Field {
    Field::new(format!("k{number}"), field.data_type)
}

/// A key that has something to do, and the rows that are due.
struct Due {
    key: u32,
    rows: Vec<RowRef>,
    /// Where its rows start among those of all.
    offset: usize,
    /// Where what is known of its matches starts among that of all.
    base: usize,
}

impl PatternSearch {
    pub(super) fn new(spec: &MatchRecognize, input: &Schema, output: &Schema) -> Result<Self> {
        if spec.variables.is_empty() || output.len() != spec.keys.len() + spec.measures.len() {
            return Err(Error::internal("a pattern has variables, and its output is the keys and the measures"));
        }
        let arrow = input.arrow();
        let width = input.len();
        let condition = |c: &_| Computed::new(c, arrow, width, &spec.define_columns);
        let types: Vec<ArrowType> = spec.keys.iter().map(|k| arrow.field(*k).data_type().clone()).collect();
        let field = |by: &SortColumn| {
            let options = SortOptions { descending: by.descending, nulls_first: by.nulls_first };
            SortField::new_with_options(arrow.field(by.column).data_type().clone(), options)
        };
        let order = match spec.order.is_empty() {
            true => None,
            false => Some(RowConverter::new(spec.order.iter().map(field).collect())?),
        };
        Ok(PatternSearch {
            nfa: Nfa::new(&spec.variables),
            conditions: spec.variables.iter().map(|v| v.condition.as_ref().map(condition)).collect(),
            measures: spec.measures.iter().map(|m| Computed::new(m, arrow, 0, &spec.measure_columns)).collect(),
            schema: output.arrow().clone(),
            tables: tables(spec, input),
            order,
            store: RowStore::new(arrow.clone()),
            groups: GroupTable::new(types.clone())?,
            key_types: types,
            keys: vec![],
            queue: BinaryHeap::new(),
            compact_at: MIN_KEYS,
            dirty: vec![],
            watermark: i64::MIN,
            next_number: 0,
            stored_below: 0,
            deletes: vec![],
            is_restoring: false,
            spec: spec.clone(),
        })
    }

    fn is_event_time(&self) -> bool {
        self.spec.time != WindowTime::Processing
    }

    /// Whether rows are searched as they come: nothing can come before them.
    fn is_immediate(&self) -> bool {
        !self.is_event_time() && self.order.is_none()
    }

    fn find_keys(&mut self, columns: &[ArrayRef], count: usize) -> Result<Vec<u32>> {
        let mut found = vec![];
        self.groups.lookup(columns, count, &mut found)?;
        self.keys.resize_with(self.groups.len(), KeyRows::default);
        Ok(found)
    }

    fn touch(&mut self, key: u32) {
        if !std::mem::replace(&mut self.keys[key as usize].is_dirty, true) {
            self.dirty.push(key);
        }
    }

    fn wake_at(&mut self, key: u32, time: i64) {
        if time < self.keys[key as usize].next_due {
            self.keys[key as usize].next_due = time;
            self.queue.push(Reverse((time, key)));
        }
    }

    /// Takes up to `max` of a key's rows that are due at `limit`, in order.
    fn take_due(&mut self, key: u32, limit: i64, max: usize) -> Result<Vec<RowRef>> {
        let known = &mut self.keys[key as usize];
        let store = &self.store;
        let mut ready: Vec<RowRef> = known.pending.extract_if(.., |row| store.note(*row).time <= limit).collect();
        let position = |row: &RowRef| {
            let note = store.note(*row);
            (note.time, note.number)
        };
        match &mut self.order {
            None => ready.sort_by_key(position),
            Some(converter) => {
                let columns = self.spec.order.iter().map(|by| store.gather(by.column, &ready));
                let rows = converter.convert_columns(&columns.collect::<Result<Vec<_>>>()?)?;
                let mut by_order: Vec<usize> = (0..ready.len()).collect();
                by_order.sort_by_key(|i| (position(&ready[*i]).0, rows.row(*i), position(&ready[*i]).1));
                ready = by_order.into_iter().map(|i| ready[i]).collect();
            }
        }
        // What was due before was due at an earlier limit, so that it comes first.
        known.due.extend(ready);
        let count = known.due.len().min(max);
        Ok(known.due.drain(..count).collect())
    }

    /// Searches about a batch of the rows that are due at `limit`, and emits what is found.
    fn advance(&mut self, limit: i64, ctx: &mut Context<'_>) -> Result<Progress> {
        let (mut work, mut total): (Vec<Due>, usize) = (vec![], 0);
        while total < TARGET_BATCH_ROWS {
            let Some(Reverse((time, key))) = self.queue.peek().copied() else { break };
            if time > limit {
                break;
            }
            self.queue.pop();
            if self.keys[key as usize].next_due != time {
                continue;
            }
            self.keys[key as usize].next_due = NEVER;
            let rows = self.take_due(key, limit, TARGET_BATCH_ROWS - total)?;
            work.push(Due { key, offset: total, base: 0, rows });
            total += work.last().map_or(0, |due| due.rows.len());
        }
        if !work.is_empty() {
            let mut found = self.search(&mut work, ctx)?;
            self.settle(&work, limit, &mut found)?;
            self.emit(found, ctx)?;
            self.trim(&work)?;
        }
        if self.queue.peek().is_some_and(|Reverse((time, _))| *time <= limit) {
            return Ok(Progress::More);
        }
        self.compact()?;
        if self.store.is_sparse() {
            self.store.repack(self.keys.iter_mut().flat_map(KeyRows::rows_mut))?;
        }
        Ok(Progress::Done)
    }

    /// Takes the keys' rows in turns, the first of each, the second of each.., so that conditions are evaluated for
    /// many keys at once.
    fn search(&mut self, work: &mut [Due], ctx: &Context<'_>) -> Result<Vec<Found>> {
        let eval = ctx.eval();
        let rows: Vec<RowRef> = work.iter().flat_map(|due| due.rows.iter().copied()).collect();
        // What depends on the row alone is told for all rows first.
        let simple = |condition: &Option<Computed>| match condition {
            None => Ok(Some(vec![true; rows.len()])),
            Some(condition) if condition.is_simple() => condition.test(&rows, &[], &self.store, &eval).map(Some),
            Some(_) => Ok(None),
        };
        let simple = self.conditions.iter().map(simple).collect::<Result<Vec<_>>>()?;
        let limits = (self.spec.within_ms, self.spec.skip);
        let count = self.spec.variables.len();
        let (mut found, mut complete) = (vec![], vec![]);
        let mut holds: Vec<bool> = vec![];
        // By variable: the key, its partial match (or their number: one that begins), where the answer goes.
        let mut tests: Vec<Vec<(usize, usize, usize)>> = vec![vec![]; count];
        let mut active: Vec<usize> = (0..work.len()).collect();
        for turn in 0.. {
            active.retain(|number| work[*number].rows.len() > turn);
            if active.is_empty() {
                break;
            }
            holds.clear();
            tests.iter_mut().for_each(Vec::clear);
            for number in &active {
                let due = &mut work[*number];
                let known = &mut self.keys[due.key as usize];
                known.expire(due.key, self.store.note(due.rows[turn]).time, limits, &self.store, &mut found)?;
                due.base = holds.len();
                for index in 0..=known.partial.len() {
                    let base = holds.len();
                    holds.resize(base + count, false);
                    self.nfa.needs(known.partial.get(index), |variable| match &simple[variable] {
                        Some(values) => holds[base + variable] = values[due.offset + turn],
                        None => tests[variable].push((*number, index, base + variable)),
                    });
                }
            }
            for (variable, tests) in tests.iter().enumerate().filter(|(_, tests)| !tests.is_empty()) {
                let Some(condition) = &self.conditions[variable] else { continue };
                let candidates: Vec<RowRef> = tests.iter().map(|(number, ..)| work[*number].rows[turn]).collect();
                let view = |((number, index, _), row): (&(usize, usize, usize), &RowRef)| {
                    let key = &self.keys[work[*number].key as usize];
                    View { key, of: key.partial.get(*index), candidate: Some((variable, *row)), time: 0 }
                };
                let views: Vec<View<'_>> = tests.iter().zip(&candidates).map(view).collect();
                let values = condition.test(&candidates, &views, &self.store, &eval)?;
                tests.iter().zip(values).for_each(|((.., place), value)| holds[*place] = value);
            }
            for number in &active {
                let due = &work[*number];
                let row = due.rows[turn];
                let known = &mut self.keys[due.key as usize];
                let sequence = known.push(row, &mut self.store);
                let partial = std::mem::take(&mut known.partial);
                for (index, from) in partial.iter().map(Some).chain([None]).enumerate() {
                    let base = due.base + index * count;
                    let holds = |variable: usize| holds[base + variable];
                    self.nfa.step(from, sequence, holds, &mut known.partial, &mut complete);
                }
                complete.drain(..).for_each(|m| known.complete(m));
                known.release(due.key, self.store.note(row).time, self.spec.skip, &mut found)?;
            }
        }
        Ok(found)
    }

    /// What follows from time alone, once a key's due rows are searched; and when there is something to do next.
    fn settle(&mut self, work: &[Due], limit: i64, found: &mut Vec<Found>) -> Result<()> {
        for due in work {
            self.touch(due.key);
            let known = &mut self.keys[due.key as usize];
            if known.due.is_empty() {
                known.expire(due.key, limit, (self.spec.within_ms, self.spec.skip), &self.store, found)?;
            }
            self.wake(due.key);
        }
        Ok(())
    }

    /// Notes when there is something to do for a key.
    fn wake(&mut self, key: u32) {
        let known = &self.keys[key as usize];
        let waiting = known.pending.iter().chain(known.due.front()).map(|row| self.store.note(*row).time).min();
        let next = known.next_timeout(self.spec.within_ms, &self.store).min(waiting.unwrap_or(NEVER));
        self.wake_at(key, next);
    }

    fn emit(&self, mut found: Vec<Found>, ctx: &mut Context<'_>) -> Result<()> {
        found.sort_by_key(|f| f.time);
        for found in found.chunks(TARGET_BATCH_ROWS) {
            let view = |f: &'_ Found| (&self.keys[f.key as usize], f.found.start);
            let first: Vec<RowRef> = found.iter().map(view).map(|(key, start)| key.row(start)).collect();
            let views: Vec<View<'_>> = found
                .iter()
                .map(|f| View { key: &self.keys[f.key as usize], of: Some(&f.found), candidate: None, time: f.time })
                .collect();
            let keys = self.spec.keys.iter().map(|column| self.store.gather(*column, &first));
            let measures = self.measures.iter().map(|m| m.measure(&views, &self.store, &ctx.eval()));
            let columns = keys.chain(measures).collect::<Result<Vec<_>>>()?;
            ctx.emit(Batch::from_columns(self.schema.clone(), columns, found.len())?)?;
        }
        Ok(())
    }

    /// Lets go of rows that no match needs any more.
    fn trim(&mut self, work: &[Due]) -> Result<()> {
        let mut dead = vec![];
        for due in work {
            self.keys[due.key as usize].trim(&mut dead);
        }
        let stored: Vec<RowRef> =
            dead.iter().copied().filter(|row| self.store.note(*row).number < self.stored_below).collect();
        if !stored.is_empty() {
            let keys = self.spec.keys.iter().map(|column| self.store.gather(*column, &stored));
            let mut gone = keys.collect::<Result<Vec<_>>>()?;
            gone.push(self.numbers(&stored, |note| note.number));
            let schema = self.tables[0].schema.project(&self.tables[0].key);
            self.deletes.push(RecordBatch::try_new(schema.arrow().clone(), gone)?);
        }
        dead.into_iter().for_each(|row| self.store.forget(row));
        Ok(())
    }

    fn numbers(&self, rows: &[RowRef], of: impl Fn(Note) -> i64) -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(self.store.note(*row))).collect::<Int64Array>())
    }

    /// Forgets the keys of which nothing is kept, if there are many.
    fn compact(&mut self) -> Result<()> {
        if self.keys.len() < self.compact_at {
            return Ok(());
        }
        let is_kept = |key: &&u32| !self.keys[**key as usize].is_empty() || self.keys[**key as usize].is_stored;
        let kept: Vec<u32> = (0..self.keys.len() as u32).filter(|key| is_kept(&key)).collect();
        self.compact_at = 2 * kept.len() + MIN_KEYS;
        if kept.len() * 2 > self.keys.len() {
            self.compact_at = 2 * self.keys.len();
            return Ok(());
        }
        let columns = self.groups.keys(&kept)?;
        self.groups = GroupTable::new(self.key_types.clone())?;
        let mut old = std::mem::take(&mut self.keys);
        let new = self.find_keys(&columns, kept.len())?;
        self.queue.clear();
        self.dirty.clear();
        for (from, to) in kept.into_iter().zip(new) {
            self.keys[to as usize] = std::mem::take(&mut old[from as usize]);
            if self.keys[to as usize].is_dirty {
                self.dirty.push(to);
            }
            if self.keys[to as usize].next_due != NEVER {
                self.queue.push(Reverse((self.keys[to as usize].next_due, to)));
            }
        }
        Ok(())
    }

    /// The changes of the table of rows: those of the keys that have changed.
    fn changed_rows(&mut self, dirty: &[u32]) -> Result<TableDelta> {
        let mut delta = TableDelta { table: self.tables[0].name.clone(), ..TableDelta::default() };
        delta.deletes = std::mem::take(&mut self.deletes);
        let all = dirty.iter().flat_map(|key| self.keys[*key as usize].rows());
        let changed: Vec<RowRef> = all.filter(|row| self.store.note(*row).is_changed).collect();
        for rows in changed.chunks(TARGET_BATCH_ROWS) {
            let width = self.tables[0].schema.len() - 3;
            let mut columns = (0..width).map(|c| self.store.gather(c, rows)).collect::<Result<Vec<_>>>()?;
            columns.push(self.numbers(rows, |note| note.number));
            columns.push(self.numbers(rows, |note| note.time));
            columns.push(self.numbers(rows, |note| note.sequence));
            delta.upserts.push(RecordBatch::try_new(self.tables[0].schema.arrow().clone(), columns)?);
        }
        changed.into_iter().for_each(|row| self.store.note_mut(row).is_changed = false);
        self.stored_below = self.next_number;
        Ok(delta)
    }

    /// The changes of the table of matches.
    fn changed_matches(&mut self, dirty: &[u32]) -> Result<TableDelta> {
        let mut delta = TableDelta { table: self.tables[1].name.clone(), ..TableDelta::default() };
        let is_there = |key: &u32| {
            let known = &self.keys[*key as usize];
            !known.partial.is_empty() || !known.complete.is_empty()
        };
        let (there, others): (Vec<u32>, Vec<u32>) = dirty.iter().partition(|key| is_there(key));
        let gone: Vec<u32> = others.into_iter().filter(|key| self.keys[*key as usize].is_stored).collect();
        for (keys, is_there) in [(&there, true), (&gone, false)] {
            if keys.is_empty() {
                continue;
            }
            let mut columns = self.groups.keys(keys)?;
            columns.push(Arc::new(Int64Array::from(vec![0; keys.len()])));
            let table = &self.tables[1];
            if is_there {
                let mut lists = ListBuilder::new(Int64Builder::new());
                keys.iter().for_each(|key| lists.append_value(self.keys[*key as usize].encode().into_iter().map(Some)));
                columns.push(Arc::new(lists.finish()));
                delta.upserts.push(RecordBatch::try_new(table.schema.arrow().clone(), columns)?);
            } else {
                let schema = table.schema.project(&table.key);
                delta.deletes.push(RecordBatch::try_new(schema.arrow().clone(), columns)?);
            }
            keys.iter().for_each(|key| self.keys[*key as usize].is_stored = is_there);
        }
        Ok(delta)
    }

    fn restore_rows(&mut self, rows: &RecordBatch) -> Result<()> {
        let width = self.tables[0].schema.len() - 3;
        let longs = |at: usize| rows.column(at).as_primitive::<Int64Type>().values();
        let (numbers, times, sequences) = (longs(width), longs(width + 1), longs(width + 2));
        let notes = numbers.iter().zip(times).zip(sequences);
        let note = |((number, time), sequence): ((&i64, &i64), &i64)| {
            Some(Note { time: *time, number: *number, sequence: *sequence, is_changed: false })
        };
        let notes: Vec<Option<Note>> = notes.map(note).collect();
        self.next_number = numbers.iter().map(|n| n + 1).max().unwrap_or(0).max(self.next_number);
        self.stored_below = self.next_number;
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let keys = self.find_keys(&columns, rows.num_rows())?;
        let schema = self.store.schema().clone();
        let kept = Batch::from_columns(schema, rows.columns()[..width].to_vec(), rows.num_rows())?.rows;
        let added: Vec<Option<RowRef>> = self.store.add(kept, notes).collect();
        for (row, key) in added.into_iter().zip(keys) {
            let row = row.expect("each restored row has a note");
            let known = &mut self.keys[key as usize];
            if self.store.note(row).sequence == WAITING { known.pending.push(row) } else { known.events.push_back(row) }
        }
        Ok(())
    }

    fn restore_matches(&mut self, rows: &RecordBatch) -> Result<()> {
        let width = self.spec.keys.len();
        let keys = self.find_keys(&rows.columns()[..width], rows.num_rows())?;
        let lists = rows.column(width + 1).as_list::<i32>();
        for (row, key) in keys.into_iter().enumerate() {
            let numbers = lists.value(row);
            let known = &mut self.keys[key as usize];
            known.decode(numbers.as_primitive::<Int64Type>().values(), self.spec.variables.len())?;
            known.is_stored = true;
        }
        Ok(())
    }

    /// Puts together what was restored, if that was not done yet.
    fn begin(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restoring) {
            return Ok(());
        }
        for key in 0..self.keys.len() as u32 {
            if !self.keys[key as usize].settle(&self.store) {
                return Err(Error::state("a stored partial match lacks rows"));
            }
            self.wake(key);
        }
        Ok(())
    }

    /// Searches all that is due at a time.
    fn advance_all(&mut self, limit: i64, ctx: &mut Context<'_>) -> Result<()> {
        while self.advance(limit, ctx)? == Progress::More {}
        Ok(())
    }
}

impl Operator for PatternSearch {
    fn restore(&mut self, part: Restored) -> Result<()> {
        self.is_restoring = true;
        match part {
            Restored::Instances(instances) => self.watermark = lowest_watermark(&instances)?,
            Restored::Rows { table, rows } => {
                let known = self.tables.iter().position(|t| t.name == table);
                let number = known.ok_or_else(|| Error::state(format!("unknown state table {table}")))?;
                if rows.num_columns() != self.tables[number].schema.len() {
                    return Err(Error::state("stored rows have an unexpected number of columns"));
                }
                if number == 0 { self.restore_rows(&rows)? } else { self.restore_matches(&rows)? }
            }
        }
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        self.begin()?;
        if batch.kinds.is_some() {
            return Err(Error::internal("MATCH_RECOGNIZE over updating rows"));
        }
        let count = batch.num_rows();
        let times = match self.spec.time {
            WindowTime::Event { column } => column_ms(batch.column(column), "the time attribute of MATCH_RECOGNIZE")?,
            WindowTime::Processing => {
                self.watermark = self.watermark.max(ctx.now_ms);
                vec![self.watermark; count]
            }
        };
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(|k| batch.column(*k).clone()).collect();
        let keys = self.find_keys(&columns, count)?;
        let is_late = |time: i64| self.is_event_time() && time <= self.watermark;
        let numbers = self.next_number..;
        let note = |(time, number): (&i64, i64)| {
            (!is_late(*time)).then_some(Note { time: *time, number, sequence: WAITING, is_changed: true })
        };
        let notes: Vec<Option<Note>> = times.iter().zip(numbers).map(note).collect();
        self.next_number += count as i64;
        let added: Vec<Option<RowRef>> = self.store.add(batch.rows.clone(), notes).collect();
        let mut late = vec![];
        for (at, ((row, key), time)) in (0u32..).zip(added.into_iter().zip(keys).zip(times)) {
            let Some(row) = row else {
                late.push(at);
                continue;
            };
            self.keys[key as usize].pending.push(row);
            self.touch(key);
            self.wake_at(key, time);
        }
        ctx.drop_late(0, &batch, late, Watermark(self.watermark))?;
        if self.is_immediate() { self.advance_all(self.watermark, ctx) } else { Ok(()) }
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.begin()?;
        if self.is_event_time() {
            self.watermark = self.watermark.max(watermark.0);
            if self.advance(watermark.0, ctx)? == Progress::More {
                return Ok(Progress::More);
            }
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.begin()?;
        if self.is_event_time() {
            return Ok(Progress::Done);
        }
        // Rows of the same millisecond are sorted together once it is over.
        self.watermark = self.watermark.max(ctx.now_ms);
        self.advance(self.watermark.saturating_sub(1), ctx)
    }

    fn next_timer(&self) -> Option<i64> {
        match self.is_event_time() {
            true => None,
            false if self.is_restoring => Some(i64::MIN),
            false => self.queue.peek().map(|Reverse((time, _))| time.saturating_add(1)),
        }
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.begin()?;
        if self.is_event_time() { Ok(Progress::Done) } else { self.advance(i64::MAX, ctx) }
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|key| self.keys[*key as usize].is_dirty = false);
        let tables = vec![self.changed_rows(&dirty)?, self.changed_matches(&dirty)?];
        Ok(StateDelta { tables, instance: Some(encode_watermark(self.watermark)) })
    }
}
