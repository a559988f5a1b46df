//! Aggregates that need all their rows: DISTINCT of any, LISTAGG, COLLECT, ARRAY_AGG, SINGLE_VALUE, PERCENTILE,
//! JSON_*AGG.

use super::{Accumulator, for_each, no_retraction, percentile, plain, state_column};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, MapArray, StringArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{OwnedRow, RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use millstream_core::graph::{AggregateCall, AggregateFunction};
use millstream_core::{Error, Result, TypeKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The arguments' rows of each group, in the order of arrival; under DISTINCT each once, unless they may be taken back.
pub(super) struct Collect {
    call: AggregateCall,
    types: Vec<DataType>,
    converter: RowConverter,
    skips_nulls: bool,
    /// Whether equal rows are kept under DISTINCT, too.
    keeps_equal: bool,
    groups: Vec<Bag>,
}

#[derive(Clone, Default)]
struct Bag {
    rows: Vec<OwnedRow>,
    /// The same rows, kept only under DISTINCT.
    seen: HashSet<OwnedRow>,
}

impl Collect {
    pub(super) fn new(call: &AggregateCall) -> Result<Self> {
        use AggregateFunction::*;
        let types: Vec<DataType> = call.arg_types.iter().map(|t| t.arrow()).collect();
        let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
        let keeps_nulls = matches!(
            call.function,
            ArrayAgg { ignore_nulls: false } | SingleValue | JsonObjectAgg { .. } | JsonArrayAgg { .. }
        );
        Ok(Self {
            call: call.clone(),
            types,
            converter,
            skips_nulls: !keeps_nulls,
            keeps_equal: !call.distinct,
            groups: vec![],
        })
    }

    /// Of rows that may be taken back.
    pub(super) fn of_changes(call: &AggregateCall) -> Result<Self> {
        Ok(Collect { keeps_equal: true, ..Collect::new(call)? })
    }

    /// The rows of a group that count.
    fn counted(&self, group: u32) -> Vec<&OwnedRow> {
        let rows = self.groups[group as usize].rows.iter();
        let mut seen = HashSet::new();
        match self.call.distinct && self.keeps_equal {
            true => rows.filter(|row| seen.insert(*row)).collect(),
            false => rows.collect(),
        }
    }

    /// The rows of groups as columns, and how many each has.
    fn columns(&self, groups: &[Vec<&OwnedRow>]) -> Result<(Vec<ArrayRef>, Vec<usize>)> {
        let columns = self.converter.convert_rows(groups.iter().flatten().map(|row| row.row()))?;
        Ok((columns, groups.iter().map(Vec::len).collect()))
    }

    fn fields(&self) -> Fields {
        self.types.iter().enumerate().map(|(i, t)| Field::new(format!("f{i}"), t.clone(), true)).collect()
    }

    fn first<'a>(&self, columns: &'a [ArrayRef], index: usize) -> Result<&'a ArrayRef> {
        columns.get(index).ok_or_else(|| Error::internal(format!("{:?} lacks an argument", self.call.function)))
    }
}

fn json(array: &ArrayRef, row: usize, is_json: bool) -> Result<String> {
    if array.is_null(row) {
        return Ok("null".into());
    }
    let text = array_value_to_string(array, row)?;
    let plain = is_json || array.data_type().is_numeric() || array.data_type() == &DataType::Boolean;
    if plain { Ok(text) } else { quote(&text) }
}

fn quote(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|e| Error::data(format!("a text that is no JSON string: {e}")))
}

/// Row ranges of consecutive groups of these lengths.
pub(super) fn ranges(lengths: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    lengths.iter().scan(0, |start, length| {
        let from = *start;
        *start += length;
        Some(from..*start)
    })
}

impl Accumulator for Collect {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Bag::default());
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let rows = self.converter.convert_columns(args)?;
        let (bags, distinct) = (&mut self.groups, !self.keeps_equal);
        let mut impossible = false;
        let nulls = if self.skips_nulls { args } else { &[] };
        for_each(groups, None, signs, |row, group, sign| {
            if nulls.iter().any(|a| a.is_null(row)) {
                return;
            }
            let (bag, value) = (&mut bags[group], rows.row(row));
            if sign > 0 {
                let value = value.owned();
                if !distinct || bag.seen.insert(value.clone()) {
                    bag.rows.push(value);
                }
            } else if distinct {
                impossible = true;
            } else if let Some(at) = bag.rows.iter().position(|r| r.row() == value) {
                bag.rows.remove(at);
            }
        });
        if impossible { Err(no_retraction(&self.call.function)) } else { Ok(()) }
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        let list = state_column(state, 0)?.as_list::<i32>();
        let (mut expanded, mut rows) = (vec![], vec![]);
        for (row, group) in groups.iter().enumerate() {
            for at in list.value_offsets()[row]..list.value_offsets()[row + 1] {
                expanded.push(*group);
                rows.push(at as u32);
            }
        }
        let indices = UInt32Array::from(rows);
        let values = list.values().as_struct();
        let args = values.columns().iter().map(|c| compute::take(c, &indices, None)).collect::<Result<Vec<_>, _>>()?;
        self.update(&expanded, &args, None)
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let all = |group: &u32| self.groups[*group as usize].rows.iter().collect();
        let (columns, lengths) = self.columns(&groups.iter().map(all).collect::<Vec<_>>())?;
        let values = StructArray::try_new(self.fields(), columns, None)?;
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(vec![Arc::new(ListArray::try_new(field, offsets, Arc::new(values), None)?)])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        use AggregateFunction::*;
        let counted: Vec<Vec<&OwnedRow>> = groups.iter().map(|group| self.counted(*group)).collect();
        let (columns, lengths) = self.columns(&counted)?;
        match &self.call.function {
            ListAgg { separator } => {
                let texts = self.first(&columns, 0)?.as_string::<i32>();
                let joined = ranges(&lengths).map(|range| {
                    let parts: Vec<&str> = range.map(|row| texts.value(row)).collect();
                    (!parts.is_empty()).then(|| parts.join(separator))
                });
                Ok(Arc::new(joined.collect::<StringArray>()))
            }
            ArrayAgg { .. } => {
                let DataType::List(field) = self.call.result.arrow() else {
                    return Err(Error::internal("ARRAY_AGG gives an array"));
                };
                let nulls = NullBuffer::from_iter(lengths.iter().map(|n| *n > 0));
                let values = self.first(&columns, 0)?.clone();
                Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, Some(nulls))?))
            }
            SingleValue => {
                if lengths.iter().any(|n| *n > 1) {
                    return Err(Error::data("a subquery that stands for one value gave more than one row"));
                }
                let index: UInt32Array = ranges(&lengths).map(|r| (!r.is_empty()).then_some(r.start as u32)).collect();
                Ok(compute::take(self.first(&columns, 0)?, &index, None)?)
            }
            Collect => self.multisets(self.first(&columns, 0)?, &counted),
            JsonObjectAgg { absent_on_null, is_json } => {
                let (keys, values) = (self.first(&columns, 0)?, self.first(&columns, 1)?);
                let mut texts = vec![];
                for range in ranges(&lengths) {
                    let mut members = BTreeMap::new();
                    for row in range {
                        if keys.is_null(row) {
                            return Err(Error::data("a key of JSON_OBJECTAGG is NULL"));
                        }
                        if !(*absent_on_null && values.is_null(row)) {
                            let key = array_value_to_string(keys, row)?;
                            if members.contains_key(&key) {
                                return Err(Error::data(format!(
                                    "JSON_OBJECTAGG has several values for the key '{key}'"
                                ))
                                .hint("group by the key, too, or choose one of its values before"));
                            }
                            members.insert(key, json(values, row, *is_json)?);
                        }
                    }
                    let mut parts = vec![];
                    for (key, value) in members {
                        parts.push(format!("{}:{value}", quote(&key)?));
                    }
                    texts.push(format!("{{{}}}", parts.join(",")));
                }
                Ok(Arc::new(StringArray::from(texts)))
            }
            JsonArrayAgg { absent_on_null, is_json } => {
                let values = self.first(&columns, 0)?;
                let mut texts = vec![];
                for range in ranges(&lengths) {
                    let kept = range.filter(|row| !(*absent_on_null && values.is_null(*row)));
                    let parts = kept.map(|row| json(values, row, *is_json)).collect::<Result<Vec<_>>>()?;
                    texts.push(format!("[{}]", parts.join(",")));
                }
                Ok(Arc::new(StringArray::from(texts)))
            }
            Percentile { percentages } => {
                let wants_array = matches!(self.call.result.kind, TypeKind::Array(_));
                percentile::evaluate(&columns, &lengths, percentages, wants_array)
            }
            _ => {
                let mut inner = plain(&self.call)?;
                inner.resize(groups.len());
                let numbers: Vec<u32> = (0..groups.len() as u32).collect();
                let of_rows: Vec<u32> =
                    lengths.iter().zip(&numbers).flat_map(|(n, group)| std::iter::repeat_n(*group, *n)).collect();
                inner.update(&of_rows, &columns, None)?;
                inner.evaluate(&numbers)
            }
        }
    }
    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Bag::default();
    }
    fn keep(&mut self, groups: &[u32]) {
        self.groups = super::kept(&self.groups, groups);
    }
}

impl Collect {
    fn multisets(&self, values: &ArrayRef, groups: &[Vec<&OwnedRow>]) -> Result<ArrayRef> {
        let DataType::Map(entries, _) = self.call.result.arrow() else {
            return Err(Error::internal("COLLECT gives a multiset"));
        };
        let (mut firsts, mut counts, mut sizes, mut base) = (vec![], vec![], vec![], 0usize);
        for rows in groups {
            let mut positions: HashMap<&OwnedRow, usize> = HashMap::new();
            let before = firsts.len();
            for (i, row) in rows.iter().enumerate() {
                let at = *positions.entry(*row).or_insert_with(|| {
                    firsts.push((base + i) as u32);
                    counts.push(0i32);
                    counts.len() - 1
                });
                counts[at] += 1;
            }
            sizes.push(firsts.len() - before);
            base += rows.len();
        }
        let keys = compute::take(values, &UInt32Array::from(firsts), None)?;
        let DataType::Struct(fields) = entries.data_type().clone() else {
            return Err(Error::internal("a map's entries are a struct"));
        };
        let pairs = StructArray::try_new(fields, vec![keys, Arc::new(Int32Array::from(counts))], None)?;
        let entries: FieldRef = entries;
        Ok(Arc::new(MapArray::try_new(entries, OffsetBuffer::from_lengths(sizes), pairs, None, false)?))
    }
}
