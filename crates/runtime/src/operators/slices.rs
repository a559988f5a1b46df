//! Slices of event or processing time, each with its groups and their accumulators: what window aggregates share.

use super::aggregate::{Accumulator, in_window, signs};
use super::firing::DUE;
use super::groups::GroupTable;
use super::watermark::column_ms;
use super::windows::Windows;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType as ArrowType, Int64Type, SchemaRef};
use millstream_core::graph::{AggregateCall, AggregatePhase, WindowAggregate, WindowShape, WindowTime};
use millstream_core::operator::{TARGET_BATCH_ROWS, TableSpec};
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The state table of a sliced window aggregate.
pub(super) const TABLE: &str = millstream_core::graph::state_tables::SLICES;

/// How rows find their slice.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    /// By their time.
    Windows(Windows, WindowTime),
    /// The window's end is a column; a slice is all windows of one end, and their start is part of the group's key.
    Attached { end: usize, zone: SessionZone },
}

/// What is fixed for one window aggregate. Column numbers are those of the `needed` columns.
pub(super) struct Plan {
    pub(super) cut: Cut,
    /// The columns of the input that are read.
    needed: Vec<usize>,
    keys: Vec<usize>,
    key_types: Vec<ArrowType>,
    pub(super) calls: Vec<AggregateCall>,
    retracts: bool,
    args: Vec<Vec<usize>>,
    filters: Vec<Option<usize>>,
    state_columns: Vec<usize>,
    /// Keys, `slice_end`, partial results.
    pub(super) partial: Schema,
    /// How many of the key columns are the query's own.
    pub(super) own_keys: usize,
}

impl Plan {
    /// `retracts`: rows of the input may be taken back.
    pub(super) fn new(spec: &WindowAggregate, input: &Schema, retracts: bool) -> Result<Self> {
        let is_global = spec.phase == AggregatePhase::Global;
        let mut key_columns = if is_global { (0..spec.keys.len()).collect() } else { spec.keys.clone() };
        let cut = match spec.window.shape {
            WindowShape::Attached { .. } if spec.phase != AggregatePhase::Single => {
                return Err(Error::unsupported("an aggregate over attached windows in two phases"));
            }
            WindowShape::Attached { start, end } => {
                key_columns.push(start);
                Cut::Attached { end, zone: spec.window.zone }
            }
            _ => Cut::Windows(Windows::new(&spec.window)?, spec.window.time),
        };
        if spec.phase != AggregatePhase::Single && spec.window.time == WindowTime::Processing {
            return Err(Error::unsupported("a processing-time aggregate in two phases"));
        }
        let mut needed: Vec<usize> = vec![];
        let mut place = |column: usize| {
            needed.iter().position(|c| *c == column).unwrap_or_else(|| {
                needed.push(column);
                needed.len() - 1
            })
        };
        let keys = key_columns.iter().map(|c| place(*c)).collect();
        let columns = if is_global { &[][..] } else { &spec.aggregates[..] };
        let args = columns.iter().map(|call| call.args.iter().map(|c| place(*c)).collect()).collect();
        let filters = columns.iter().map(|call| call.filter.map(&mut place)).collect();
        let field = |(i, column): (usize, &usize)| {
            let field = input.fields.get(*column).ok_or_else(|| Error::internal("a key that is no column"))?;
            Ok(Field::new(format!("k{i}"), field.data_type.clone()))
        };
        let mut fields = key_columns.iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
        let key_types = fields.iter().map(|f| f.data_type.arrow()).collect();
        fields.push(Field::new("slice_end", TypeKind::BigInt.not_null()));
        let mut state_columns = vec![];
        for (i, call) in spec.aggregates.iter().enumerate() {
            let types = in_window(call, retracts)?.1;
            state_columns.push(types.len());
            fields.extend(types.into_iter().enumerate().map(|(j, t)| Field::new(format!("a{i}_{j}"), t)));
        }
        Ok(Plan {
            cut,
            needed,
            keys,
            key_types,
            calls: spec.aggregates.clone(),
            retracts,
            args,
            filters,
            state_columns,
            partial: Schema::new(fields),
            own_keys: spec.keys.len(),
        })
    }

    /// The state table: partial results by key and slice.
    pub(super) fn table(&self) -> TableSpec {
        let keys = self.keys.len();
        TableSpec {
            name: TABLE.into(),
            schema: self.partial.clone(),
            key: (0..=keys).collect(),
            partition_by: (0..self.own_keys).collect(),
            time: Some(keys),
        }
    }

    /// The state table of windows that wait to leave: partial results by key and window.
    pub(super) fn due_table(&self) -> TableSpec {
        let mut fields = self.partial.fields.clone();
        fields[self.keys.len()].name = "window_end".into();
        TableSpec { name: DUE.into(), schema: Schema::new(fields), ..self.table() }
    }

    pub(super) fn zone(&self) -> SessionZone {
        match &self.cut {
            Cut::Windows(windows, _) => windows.zone(),
            Cut::Attached { zone, .. } => *zone,
        }
    }

    /// The slice ends of a batch's rows.
    pub(super) fn slice_ends(&self, batch: &Batch, now_local: i64) -> Result<Vec<i64>> {
        match &self.cut {
            Cut::Attached { end, .. } => column_ms(batch.column(*end), "the end of a window"),
            Cut::Windows(windows, WindowTime::Processing) => Ok(vec![windows.slice_end(now_local); batch.num_rows()]),
            Cut::Windows(windows, WindowTime::Event { column }) => {
                let mut ends = column_ms(batch.column(*column), "the time attribute of a window")?;
                // A slice is an interval: what lies between a known member and its end is in it.
                let (mut low, mut end) = (i64::MAX, i64::MIN);
                for value in &mut ends {
                    let time = windows.local(*value);
                    if time < low || time >= end {
                        (low, end) = (time, windows.slice_end(time));
                    }
                    *value = end;
                }
                Ok(ends)
            }
        }
    }

    /// The end of the first window after `after` that the slice is in.
    pub(super) fn window_after(&self, slice_end: i64, after: i64) -> Option<i64> {
        match &self.cut {
            Cut::Windows(windows, _) => windows.window_after(slice_end, after),
            Cut::Attached { .. } => (slice_end > after).then_some(slice_end),
        }
    }

    /// The end of the last window that the slice is in.
    pub(super) fn last_window(&self, slice_end: i64) -> Option<i64> {
        match &self.cut {
            Cut::Windows(windows, _) => windows.last_window(slice_end),
            Cut::Attached { .. } => Some(slice_end),
        }
    }

    /// Local time up to which windows are closed by an event-time watermark: those that end by then.
    pub(super) fn closed_by(&self, watermark_ms: i64) -> i64 {
        match watermark_ms {
            i64::MIN | i64::MAX => watermark_ms,
            ms => self.zone().lowest_local_from(ms.saturating_add(1)),
        }
    }

    /// The columns that are read, ready for [`Slice::update`].
    pub(super) fn project(&self, batch: &Batch) -> Result<Batch> {
        let columns = self.needed.iter().map(|c| batch.column(*c).clone()).collect::<Vec<_>>();
        let fields = self.needed.iter().map(|c| batch.rows.schema_ref().field(*c).clone()).collect::<Vec<_>>();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        Ok(Batch::from_columns(schema, columns, batch.num_rows())?.with_kinds(batch.kinds.clone()))
    }
}

/// The parts of a batch that fall in the same slice; rows with `None` are left out.
pub(super) fn parts(batch: &Batch, ends: &[Option<i64>]) -> Result<Vec<(i64, Batch)>> {
    let mut runs: Vec<(i64, usize, usize)> = vec![];
    for (row, end) in ends.iter().enumerate() {
        let Some(end) = end else { continue };
        match runs.last_mut() {
            Some((last, start, length)) if last == end && *start + *length == row => *length += 1,
            _ => runs.push((*end, row, 1)),
        }
    }
    if runs.len() <= 1 + batch.num_rows() / 64 {
        return Ok(runs.into_iter().map(|(end, start, length)| (end, batch.slice(start, length))).collect());
    }
    let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (end, start, length) in runs {
        rows.entry(end).or_default().extend(start as u32..(start + length) as u32);
    }
    rows.into_iter().map(|(end, rows)| Ok((end, batch.take(&UInt32Array::from(rows))?))).collect()
}

/// The groups of one slice.
pub(super) struct Slice {
    groups: GroupTable,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// Which groups changed since the last snapshot, as a flag each and a list.
    is_changed: Vec<bool>,
    changed: Vec<u32>,
    numbers: Vec<u32>,
}

impl Slice {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        Ok(Slice {
            groups: GroupTable::new(plan.key_types.clone())?,
            accumulators: plan.calls.iter().map(|call| Ok(in_window(call, plan.retracts)?.0)).collect::<Result<_>>()?,
            is_changed: vec![],
            changed: vec![],
            numbers: vec![],
        })
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    fn find(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.groups.lookup(keys, rows, &mut numbers)?;
        let groups = self.groups.len();
        self.accumulators.iter_mut().for_each(|a| a.resize(groups));
        self.is_changed.resize(groups, false);
        for group in &numbers {
            if !std::mem::replace(&mut self.is_changed[*group as usize], true) {
                self.changed.push(*group);
            }
        }
        Ok(numbers)
    }

    /// Takes in rows, projected by [`Plan::project`].
    pub(super) fn update(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        let keys: Vec<ArrayRef> = plan.keys.iter().map(|c| batch.column(*c).clone()).collect();
        let numbers = self.find(&keys, batch.num_rows())?;
        self.accumulate(plan, batch, &numbers)?;
        self.numbers = numbers;
        Ok(())
    }

    fn accumulate(&mut self, plan: &Plan, batch: &Batch, numbers: &[u32]) -> Result<()> {
        for (i, accumulator) in self.accumulators.iter_mut().enumerate() {
            let args: Vec<ArrayRef> = plan.args[i].iter().map(|c| batch.column(*c).clone()).collect();
            let signs = signs(batch, plan.filters[i]);
            accumulator.update(numbers, &args, signs.as_deref())?;
        }
        Ok(())
    }

    /// Takes in partial results: `states` are all accumulators' columns in a row.
    pub(super) fn merge(&mut self, plan: &Plan, keys: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        let numbers = self.find(keys, rows)?;
        let mut rest = states;
        for (accumulator, count) in self.accumulators.iter_mut().zip(&plan.state_columns) {
            let (own, others) =
                rest.split_at_checked(*count).ok_or_else(|| Error::state("partial results lack columns"))?;
            accumulator.merge(&numbers, own)?;
            rest = others;
        }
        self.numbers = numbers;
        Ok(())
    }

    /// Takes in all of another slice.
    pub(super) fn absorb(&mut self, plan: &Plan, other: &Slice) -> Result<()> {
        let all: Vec<u32> = (0..other.len() as u32).collect();
        for chunk in all.chunks(TARGET_BATCH_ROWS) {
            let keys = other.groups.keys(chunk)?;
            self.merge(plan, &keys, &other.states(chunk)?, chunk.len())?;
        }
        Ok(())
    }

    fn states(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = vec![];
        for accumulator in &self.accumulators {
            columns.extend(accumulator.state(groups)?);
        }
        Ok(columns)
    }

    /// The keys and results of `groups`.
    pub(super) fn results(&self, groups: &[u32]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let results = self.accumulators.iter().map(|a| a.evaluate(groups)).collect::<Result<_>>()?;
        Ok((self.groups.keys(groups)?, results))
    }

    /// Rows of [`Plan::partial`], under the column names of `schema`.
    pub(super) fn partials(&self, schema: &SchemaRef, slice_end: i64, groups: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.groups.keys(groups)?;
        columns.push(Arc::new(Int64Array::from(vec![slice_end; groups.len()])));
        columns.extend(self.states(groups)?);
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }

    /// The keys of rows that [`Slice::partials`] gave.
    pub(super) fn stored_keys(&self, schema: &SchemaRef, slice_end: i64, groups: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.groups.keys(groups)?;
        columns.push(Arc::new(Int64Array::from(vec![slice_end; groups.len()])));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }

    /// The groups that changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        self.changed.iter().for_each(|group| self.is_changed[*group as usize] = false);
        std::mem::take(&mut self.changed)
    }
}

/// One partial result for each row, without looking for equal keys: a local phase that doesn't reduce.
pub(super) fn row_partials(plan: &Plan, schema: &SchemaRef, batch: &Batch, ends: Vec<i64>) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut slice = Slice::new(plan)?;
    slice.accumulators.iter_mut().for_each(|a| a.resize(rows));
    let numbers: Vec<u32> = (0..rows as u32).collect();
    slice.accumulate(plan, batch, &numbers)?;
    let mut columns: Vec<ArrayRef> = plan.keys.iter().map(|c| batch.column(*c).clone()).collect();
    columns.push(Arc::new(Int64Array::from(ends)));
    columns.extend(slice.states(&numbers)?);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// All slices of an operator, by their ends.
#[derive(Default)]
pub(super) struct Slices(pub(super) BTreeMap<i64, Slice>);

impl Slices {
    pub(super) fn get(&mut self, plan: &Plan, end: i64) -> Result<&mut Slice> {
        use std::collections::btree_map::Entry;
        match self.0.entry(end) {
            Entry::Occupied(slice) => Ok(slice.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(Slice::new(plan)?)),
        }
    }

    /// Takes in partial results whose slice is wanted; returns which rows were not.
    pub(super) fn merge(&mut self, plan: &Plan, rows: RecordBatch, wanted: impl Fn(i64) -> bool) -> Result<Vec<u32>> {
        let at = plan.keys.len();
        if rows.num_columns() != plan.partial.len() {
            return Err(Error::state("partial results have an unexpected number of columns"));
        }
        let mut known: HashMap<i64, bool> = HashMap::new();
        let mut unwanted = vec![];
        let ends = rows.column(at).as_primitive::<Int64Type>().values().iter();
        let ends: Vec<Option<i64>> = (0u32..)
            .zip(ends)
            .map(|(row, end)| {
                let is_wanted = *known.entry(*end).or_insert_with(|| wanted(*end));
                unwanted.extend((!is_wanted).then_some(row));
                is_wanted.then_some(*end)
            })
            .collect();
        for (end, part) in parts(&Batch::insert_only(rows), &ends)? {
            let columns = part.rows.columns();
            self.get(plan, end)?.merge(plan, &columns[..at], &columns[at + 1..], part.num_rows())?;
        }
        Ok(unwanted)
    }
}

/// A timestamp column cast to milliseconds without a zone.
pub(super) fn plain_millis(array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = ArrowType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
    if array.data_type() == &wanted { Ok(array.clone()) } else { Ok(compute::cast(array, &wanted)?) }
}
