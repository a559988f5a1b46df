//! The join of rows with the versions of a table that held at the rows' time (flink: `TemporalRowTimeJoinOperator`).

use super::counted::{Counted, SAME};
use super::groups::GroupTable;
use super::keyed_rows::KeyedRows;
use super::watermark::{column_ms, encode_watermark, lowest_watermark};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int8Array, Int64Array, RecordBatch, UInt8Array, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{Int8Type, Int64Type, SchemaRef};
use millstream_core::graph::{Connections, TemporalJoin as Spec, state_tables};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec,
};
use millstream_core::{Batch, Error, ExprRef, Field, Result, RowKind, TypeKind, Watermark};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of the first input wait until event time has passed them on both inputs; then each meets the latest version of
/// its key that is no later than itself. Versions go once a later one holds for all rows that are to come. A row that
/// comes late meets what versions are left.
pub(super) struct TemporalJoin {
    outer: bool,
    condition: Option<ExprRef>,
    /// The keys' columns in both inputs, and which of them match where both are NULL.
    key_columns: [Vec<usize>; 2],
    null_safe: Vec<bool>,
    /// The time columns of both inputs.
    times: [usize; 2],
    /// The columns of both inputs, over which the condition is.
    pair: SchemaRef,
    schema: SchemaRef,
    left_width: usize,
    /// The rows that wait: the first input's columns, the row's kind, and its number in the order of arrival.
    waiting: Counted,
    next_number: i64,
    /// The versions: by key and time, the columns of the second input and whether the row is gone since then.
    versions: KeyedRows,
    /// Where each column of the second input is among the key and the rest of a version.
    place: Vec<usize>,
    keys: GroupTable,
    of_key: Vec<OfKey>,
    /// The keys to look at, by the event time from which there is something to do.
    due: BTreeMap<i64, Vec<u32>>,
    watermark: i64,
    /// Whether what was due when it was stored is still to be looked at.
    resumes: bool,
}

/// What is stored of a key.
#[derive(Default)]
struct OfKey {
    /// Times and arrival numbers of the rows that wait, and their numbers in the table.
    waiting: BTreeMap<(i64, i64), u32>,
    /// The versions by time, and whether the row is gone since then.
    versions: BTreeMap<i64, (u32, bool)>,
    /// When the key is due, if it is.
    timer: Option<i64>,
}

/// A row that is done waiting, with its version.
struct Meeting {
    key: u32,
    time: i64,
    arrival: i64,
    row: u32,
    version: Option<u32>,
}

/// The columns of the second input that are not part of a version's key.
fn rest(spec: &Spec, width: usize) -> Vec<usize> {
    (0..width).filter(|column| !spec.keys.iter().any(|key| key.right == *column)).collect()
}

/// The state tables: the rows that wait, and the versions.
pub(super) fn tables(spec: &Spec, connections: &Connections) -> Result<Vec<TableSpec>> {
    let (left, right) = (&connections.input(0)?.fields, &connections.input(1)?.fields);
    let mut waiting = Counted::fields("c", left.iter().map(|f| &f.data_type));
    waiting.push(Field::new("kind", TypeKind::TinyInt.not_null()));
    waiting.push(Field::new("arrival", TypeKind::BigInt.not_null()));
    let partition_by = spec.keys.iter().map(|key| key.left).collect();
    let waiting = Counted::table(state_tables::LEFT.into(), waiting, partition_by, vec![]);
    let mut key = Counted::fields("k", spec.keys.iter().filter_map(|k| right.get(k.right)).map(|f| &f.data_type));
    key.push(Field::new("time", TypeKind::BigInt.not_null()));
    let rest_columns = rest(spec, right.len());
    let mut rest = Counted::fields("c", rest_columns.iter().map(|c| &right[*c].data_type));
    rest.push(Field::new("gone", TypeKind::Boolean.not_null()));
    let partition_by = (0..spec.keys.len()).collect();
    Ok(vec![waiting, Counted::table(state_tables::VERSIONS.into(), key, partition_by, rest)])
}

impl TemporalJoin {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let tables = tables(spec, connections)?;
        let (left, right) = (connections.input(0)?, connections.input(1)?);
        let right_keys: Vec<usize> = spec.keys.iter().map(|key| key.right).collect();
        // A column may be compared twice.
        let key_place = |column: usize| right_keys.iter().position(|key| *key == column);
        let rest = rest(spec, right.fields.len());
        let rest_place = |column: usize| rest.iter().position(|c| *c == column).map(|at| right_keys.len() + 1 + at);
        let place = |column: usize| key_place(column).or_else(|| rest_place(column)).expect("a column is key or rest");
        let key_types = spec.keys.iter().map(|key| match left.fields.get(key.left) {
            Some(field) => Ok(field.data_type.arrow()),
            None => Err(Error::internal("a join key that is no column")),
        });
        let fields: Vec<_> = left.arrow().fields().iter().chain(right.arrow().fields()).cloned().collect();
        Ok(TemporalJoin {
            outer: spec.outer,
            condition: spec.condition.clone(),
            key_columns: [spec.keys.iter().map(|key| key.left).collect(), right_keys.clone()],
            null_safe: spec.keys.iter().map(|key| key.null_safe).collect(),
            times: [spec.left_time, spec.right_time],
            pair: Arc::new(arrow::datatypes::Schema::new(fields)),
            schema: connections.output.schema.arrow().clone(),
            left_width: left.fields.len(),
            waiting: Counted::new(&tables[0])?,
            next_number: 0,
            versions: KeyedRows::new(&tables[1])?,
            place: (0..right.fields.len()).map(place).collect(),
            keys: GroupTable::new(key_types.collect::<Result<_>>()?)?,
            of_key: vec![],
            due: BTreeMap::new(),
            watermark: i64::MIN,
            resumes: false,
        })
    }

    /// The numbers of the keys that columns hold.
    fn find_keys(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut keys = vec![];
        self.keys.lookup(columns, rows, &mut keys)?;
        self.of_key.resize_with(self.keys.len(), OfKey::default);
        Ok(keys)
    }

    /// Has a key looked at once event time reaches `time`, or earlier.
    fn set_timer(&mut self, key: u32, time: i64) {
        let timer = &mut self.of_key[key as usize].timer;
        if timer.is_none_or(|known| time < known) {
            *timer = Some(time);
            self.due.entry(time).or_default().push(key);
        }
    }

    /// Whether each row has a key that can match: one without a NULL, but where NULL matches NULL.
    fn has_key(&self, port: Port, batch: &Batch) -> Vec<bool> {
        let nulls: Vec<_> = self.key_columns[port]
            .iter()
            .zip(&self.null_safe)
            .filter(|(_, safe)| !**safe)
            .filter_map(|(column, _)| batch.column(*column).logical_nulls())
            .collect();
        (0..batch.num_rows()).map(|row| nulls.iter().all(|n| n.is_valid(row))).collect()
    }

    /// The key columns of a batch.
    fn keys_of(&self, port: Port, batch: &Batch) -> Vec<ArrayRef> {
        self.key_columns[port].iter().map(|c| batch.column(*c).clone()).collect()
    }

    fn wait(&mut self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let has_key = self.has_key(0, &batch);
        let (with, without): (Vec<u32>, Vec<u32>) =
            (0..batch.num_rows() as u32).partition(|row| has_key[*row as usize]);
        if self.outer && !without.is_empty() {
            // No version will ever match: there is nothing to wait for.
            self.emit_padded(batch.take(&without.into())?, ctx)?;
        }
        let batch = if with.len() == has_key.len() { batch } else { batch.take(&with.into())? };
        let rows = batch.num_rows();
        let times = column_ms(batch.column(self.times[0]), "the time of a temporal join")?;
        let keys = self.find_keys(&self.keys_of(0, &batch), rows)?;
        let arrivals = self.next_number..self.next_number + rows as i64;
        self.next_number = arrivals.end;
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(Int8Array::from_iter_values((0..rows).map(|row| batch.kind(row) as i8))));
        columns.push(Arc::new(Int64Array::from_iter_values(arrivals.clone())));
        let numbers = self.waiting.find(&columns, rows)?;
        for (((number, key), time), arrival) in numbers.iter().zip(keys).zip(times).zip(arrivals) {
            self.waiting.set(*number, 1);
            self.of_key[key as usize].waiting.insert((time, arrival), *number);
            self.set_timer(key, time);
        }
        self.waiting.done(numbers);
        Ok(())
    }

    fn add_versions(&mut self, batch: Batch) -> Result<()> {
        let has_key = self.has_key(1, &batch);
        // The new version says when the old one ends.
        let counts = |row: &u32| has_key[*row as usize] && batch.kind(*row as usize) != RowKind::UpdateBefore;
        let kept: Vec<u32> = (0..batch.num_rows() as u32).filter(counts).collect();
        let batch = if kept.len() == has_key.len() { batch } else { batch.take(&kept.into())? };
        let rows = batch.num_rows();
        let times = column_ms(batch.column(self.times[1]), "the time of a version")?;
        let mut columns = self.keys_of(1, &batch);
        let keys = self.find_keys(&columns, rows)?;
        columns.push(Arc::new(Int64Array::from(times.clone())));
        let numbers = self.versions.find(&columns, rows)?;
        let is_rest = |column: &usize| self.place[*column] > self.key_columns[1].len();
        let mut rest: Vec<ArrayRef> =
            (0..batch.rows.num_columns()).filter(is_rest).map(|c| batch.column(c).clone()).collect();
        let gone: Vec<bool> = (0..rows).map(|row| !batch.kind(row).is_addition()).collect();
        rest.push(Arc::new(BooleanArray::from(gone.clone())));
        let values = self.versions.encode(&rest, rows)?;
        for ((((number, value), key), time), gone) in numbers.iter().zip(values).zip(keys).zip(times).zip(gone) {
            // Of versions of one time the last counts.
            self.versions.put(*number, value, None);
            self.of_key[key as usize].versions.insert(time, (*number, gone));
            self.set_timer(key, time);
        }
        self.versions.done(numbers);
        Ok(())
    }

    /// Emits rows of the first input without a version.
    fn emit_padded(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let rows = batch.num_rows();
        let mut columns = batch.rows.columns().to_vec();
        let missing = &self.schema.fields()[self.left_width..];
        columns.extend(missing.iter().map(|field| arrow::array::new_null_array(field.data_type(), rows)));
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, rows)?.with_kinds(batch.kinds))
    }

    /// The versions of rows: for each row, its number among them; their columns.
    fn versions_of(&self, meetings: &[Meeting]) -> Result<(Vec<Option<u32>>, Vec<ArrayRef>)> {
        let versions: Vec<u32> = meetings.iter().filter_map(|meeting| meeting.version).collect();
        let stored = self.versions.stored(&versions)?;
        let mut numbers = 0u32..;
        let numbers = meetings.iter().map(|meeting| meeting.version.and_then(|_| numbers.next())).collect();
        Ok((numbers, self.place.iter().map(|at| stored[*at].clone()).collect()))
    }

    fn emit(&self, meetings: &[Meeting], ctx: &mut Context<'_>) -> Result<()> {
        let rows: Vec<u32> = meetings.iter().map(|meeting| meeting.row).collect();
        let mut left = self.waiting.columns(&rows)?;
        left.truncate(self.left_width + 1);
        let kinds = left.pop().ok_or_else(|| Error::internal("a row without a kind"))?;
        let kinds = kinds.as_primitive::<Int8Type>();
        let (mut versions, right) = self.versions_of(meetings)?;
        if let Some(condition) = &self.condition
            && versions.iter().any(Option::is_some)
        {
            let (with, of): (Vec<u32>, Vec<u32>) =
                (0u32..).zip(&versions).filter_map(|(row, version)| version.map(|version| (row, version))).unzip();
            let (with, of) = (UInt32Array::from(with), UInt32Array::from(of));
            let mut both = left.iter().map(|c| take(c, &with, None)).collect::<Result<Vec<_>, _>>()?;
            both.extend(right.iter().map(|c| take(c, &of, None)).collect::<Result<Vec<_>, _>>()?);
            let both = Batch::from_columns(self.pair.clone(), both, with.len())?;
            let mask = condition.evaluate(&both, &ctx.eval())?.into_array(with.len())?;
            let mask: &BooleanArray = mask.as_boolean();
            for (at, row) in with.values().iter().enumerate() {
                if !(mask.is_valid(at) && mask.value(at)) {
                    versions[*row as usize] = None;
                }
            }
        }
        let kept = (0..rows.len()).filter(|row| self.outer || versions[*row].is_some());
        let kept = UInt32Array::from_iter_values(kept.map(|row| row as u32));
        let versions: UInt32Array = kept.values().iter().map(|row| versions[*row as usize]).collect();
        let mut columns = left.iter().map(|c| take(c, &kept, None)).collect::<Result<Vec<_>, _>>()?;
        for (column, field) in right.iter().zip(&self.schema.fields()[self.left_width..]) {
            // Of no versions at all there is nothing to take, not even NULLs.
            columns.push(match column.is_empty() {
                true => arrow::array::new_null_array(field.data_type(), kept.len()),
                false => take(column, &versions, None)?,
            });
        }
        let kinds: Vec<u8> = kept.values().iter().map(|row| kinds.value(*row as usize) as u8).collect();
        let is_plain = kinds.iter().all(|kind| *kind == RowKind::Insert as u8);
        let kinds = (!is_plain).then(|| UInt8Array::from(kinds));
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, kept.len())?.with_kinds(kinds))
    }

    /// Notes the meetings of a key's rows that event time has passed, about `limit` of them at most, in the order of
    /// arrival; whether these are all.
    fn meet(&self, key: u32, watermark: i64, limit: usize, into: &mut Vec<Meeting>) -> bool {
        let of_key = &self.of_key[key as usize];
        let mut passed = of_key.waiting.range(..=(watermark, i64::MAX));
        let first = into.len();
        for ((time, arrival), row) in passed.by_ref().take(limit) {
            let latest = of_key.versions.range(..=*time).next_back().map(|(_, version)| *version);
            let version = latest.and_then(|(number, is_gone)| (!is_gone).then_some(number));
            into.push(Meeting { key, time: *time, arrival: *arrival, row: *row, version });
        }
        into[first..].sort_unstable_by_key(|meeting| meeting.arrival);
        passed.next().is_none()
    }

    /// Lets go of a key's versions that hold for no row that is to come, and sets its timer.
    fn clean(&mut self, key: u32, watermark: i64) {
        let of_key = &mut self.of_key[key as usize];
        if let Some((last, (_, is_gone))) = of_key.versions.range(..=watermark).next_back() {
            let (last, is_gone) = (*last, *is_gone);
            let mut kept = of_key.versions.split_off(&last);
            let mut old = std::mem::take(&mut of_key.versions);
            if is_gone {
                old.extend(kept.remove_entry(&last));
            }
            of_key.versions = kept;
            old.into_values().for_each(|(number, _)| self.versions.remove(number));
        }
        let next_row = of_key.waiting.first_key_value().map(|((time, _), _)| *time);
        // A version alone takes no other's place; but it goes if its row is gone.
        let takes_place = of_key.versions.len() > 1 || of_key.versions.values().any(|(_, is_gone)| *is_gone);
        let next_version = of_key.versions.range(watermark.saturating_add(1)..).next().map(|(time, _)| *time);
        let next_version = next_version.filter(|_| takes_place);
        if let Some(time) = next_row.into_iter().chain(next_version).min() {
            self.set_timer(key, time);
        }
    }

    /// Has the rows that event time has passed meet their versions, about a batch of them; what has come out is no
    /// longer stored, so that any call may follow.
    fn fire(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let watermark = self.watermark;
        if self.due.first_key_value().is_some_and(|(time, _)| *time <= watermark) && !ctx.has_room() {
            return Ok(Progress::More);
        }
        let mut meetings = vec![];
        let mut looked_at = vec![];
        while meetings.len() < TARGET_BATCH_ROWS && looked_at.len() < TARGET_BATCH_ROWS {
            let Some(mut first) = self.due.first_entry().filter(|first| *first.key() <= watermark) else { break };
            let time = *first.key();
            let Some(key) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            // It may have become due earlier, and been looked at.
            if self.of_key[key as usize].timer != Some(time) {
                continue;
            }
            self.of_key[key as usize].timer = None;
            let limit = TARGET_BATCH_ROWS - meetings.len();
            let is_all = self.meet(key, watermark, limit, &mut meetings);
            looked_at.push((key, is_all));
        }
        let is_done = looked_at.is_empty();
        if !meetings.is_empty() {
            self.emit(&meetings, ctx)?;
        }
        for meeting in meetings {
            self.of_key[meeting.key as usize].waiting.remove(&(meeting.time, meeting.arrival));
            self.waiting.set(meeting.row, 0);
        }
        for (key, is_all) in looked_at {
            match is_all {
                true => self.clean(key, watermark),
                false => self.set_timer(key, watermark),
            }
        }
        if !is_done {
            return Ok(Progress::More);
        }
        if self.waiting.is_sparse() || self.versions.is_sparse() {
            self.rebuild()?;
        }
        Ok(Progress::Done)
    }

    /// Makes the tables anew, without what is gone.
    fn rebuild(&mut self) -> Result<()> {
        let waiting = self.waiting.rebuild(SAME)?.len() as u32;
        let versions = self.versions.rebuild()? as u32;
        self.keys = self.keys.emptied()?;
        self.of_key.clear();
        self.due.clear();
        for part in (0..waiting).collect::<Vec<_>>().chunks(TARGET_BATCH_ROWS) {
            self.link_waiting(&self.waiting.columns(part)?, part)?;
        }
        for part in (0..versions).collect::<Vec<_>>().chunks(TARGET_BATCH_ROWS) {
            self.link_versions(&self.versions.stored(part)?, part)?;
        }
        Ok(())
    }

    fn link_waiting(&mut self, columns: &[ArrayRef], numbers: &[u32]) -> Result<()> {
        let keys: Vec<ArrayRef> = self.key_columns[0].iter().map(|c| columns[*c].clone()).collect();
        let keys = self.find_keys(&keys, numbers.len())?;
        let times = column_ms(&columns[self.times[0]], "the time of a temporal join")?;
        let arrivals = columns[self.left_width + 1].as_primitive::<Int64Type>().values();
        for (((number, key), time), arrival) in numbers.iter().zip(keys).zip(times).zip(arrivals) {
            self.of_key[key as usize].waiting.insert((time, *arrival), *number);
            self.set_timer(key, time);
        }
        Ok(())
    }

    fn link_versions(&mut self, columns: &[ArrayRef], numbers: &[u32]) -> Result<()> {
        let width = self.key_columns[1].len();
        let keys = self.find_keys(&columns[..width], numbers.len())?;
        let times = columns[width].as_primitive::<Int64Type>().values();
        let gone = columns.last().ok_or_else(|| Error::internal("a version without columns"))?.as_boolean();
        for (row, ((number, key), time)) in numbers.iter().zip(keys).zip(times).enumerate() {
            self.of_key[key as usize].versions.insert(*time, (*number, gone.value(row)));
            self.set_timer(key, *time);
        }
        Ok(())
    }

    fn restore_rows(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        match table {
            state_tables::LEFT => {
                let width = self.left_width + 2;
                let numbers = self.waiting.restore(&rows.columns()[..width], rows, width)?;
                let arrivals = rows.column(self.left_width + 1).as_primitive::<Int64Type>();
                let last = arrow::compute::max(arrivals).unwrap_or(-1);
                self.next_number = self.next_number.max(last.saturating_add(1));
                self.link_waiting(rows.columns(), &numbers)?;
                self.waiting.done(numbers);
            }
            state_tables::VERSIONS => {
                let numbers = self.versions.restore(rows)?;
                self.link_versions(rows.columns(), &numbers)?;
                self.versions.done(numbers);
            }
            other => return Err(Error::state(format!("unknown state table {other}"))),
        }
        Ok(())
    }
}

impl Operator for TemporalJoin {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => {
                self.watermark = lowest_watermark(&instances)?;
                self.resumes = true;
            }
            Restored::Rows { table, rows } => self.restore_rows(&table, &rows)?,
        }
        Ok(())
    }

    fn process(&mut self, port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        if port == 0 { self.wait(batch, ctx) } else { self.add_versions(batch) }
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.watermark = watermark.0;
        self.resumes = false;
        if self.fire(ctx)? == Progress::More {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }
    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let progress = self.fire(ctx)?;
        self.resumes &= progress == Progress::More;
        Ok(progress)
    }

    fn next_timer(&self) -> Option<i64> {
        let is_due = self.due.first_key_value().is_some_and(|(time, _)| *time <= self.watermark);
        (self.resumes && is_due).then_some(0)
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let tables = vec![self.waiting.take_delta(None, SAME, |_| Ok(vec![]))?, self.versions.take_delta(None)?];
        Ok(StateDelta { tables, instance: Some(encode_watermark(self.watermark)) })
    }
}
