//! Records to rows: the key's columns, the value's, and those that say something about the record.

use super::super::metadata::RecordMetadata;
use super::Plan;
use super::queue::RawMessage;
use crate::formats::column::{Column, Values};
use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, StringArray, TimestampMillisecondArray, UInt8Array, UInt32Array,
};
use arrow::array::{make_array, new_null_array};
use arrow::compute;
use millstream_core::expr::EvalContext;
use millstream_core::format::{BadRecord, Decoder};
use millstream_core::{Batch, Error, ExprRef, Field, Result, RowKind, Schema};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where a column of the output comes from.
#[derive(Clone, Copy, Debug)]
enum Target {
    Key(usize),
    Value(usize),
    Record(RecordMetadata),
}

/// Makes rows of the records of one partition at a time.
pub(super) struct RowMaker {
    schema: Schema,
    targets: Vec<Target>,
    /// The casts of columns that are declared otherwise than they are made, over the output as it is made.
    casts: Option<Vec<ExprRef>>,
    /// The output as it is made.
    made: Schema,
    key: Option<Box<dyn Decoder>>,
    value: Box<dyn Decoder>,
    /// Whether a record without a value ends the row of its key.
    is_upsert: bool,
    /// What must be noted of each record.
    wanted: BTreeSet<RecordMetadata>,
    records: Records,
    /// Of each row of the output: its record, its value's row (none: a tombstone), and its key's row (none: there is no key).
    rows: Vec<Row>,
    /// Whether every row so far is that of one record, one key and one value, all counted alike.
    is_plain: bool,
}

#[derive(Clone, Copy)]
struct Row {
    record: u32,
    value: Option<u32>,
    key: Option<u32>,
}

/// What is noted of records, one entry each.
#[derive(Default)]
struct Records {
    count: u32,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_types: Vec<&'static str>,
    leader_epochs: Vec<Option<i32>>,
    headers: Option<Column>,
}

/// What became of a record.
pub(super) enum Outcome {
    /// It is decoded, or passed over as its format has it.
    Done,
    /// It is bad: the reason; it gives no rows.
    Bad(Error),
}

impl RowMaker {
    pub fn new(plan: &Plan, schema: &Schema) -> Result<RowMaker> {
        let (mut key_fields, mut value_fields) = (Vec::new(), Vec::new());
        let (mut targets, mut made, mut wanted) = (Vec::new(), Vec::new(), BTreeSet::new());
        for field in &schema.fields {
            if let Some(metadata) = plan.metadata.of_record.get(&field.name) {
                wanted.insert(*metadata);
                targets.push(Target::Record(*metadata));
                made.push(Field { name: field.name.clone(), data_type: metadata.kind().nullable() });
                continue;
            }
            let in_value = plan.value_schema.fields.iter().find(|f| f.name == field.name);
            let in_key = plan.key_names.iter().find(|(name, _)| *name == field.name);
            // A tombstone has its key's columns only; elsewhere the value's own are the ones that count.
            match (in_value, in_key) {
                (_, Some((_, of_key))) if plan.is_upsert || in_value.is_none() => {
                    targets.push(Target::Key(key_fields.len()));
                    key_fields.push(Field { data_type: field.data_type.clone(), name: of_key.clone() });
                    made.push(field.clone());
                }
                (Some(of_value), _) => {
                    let metadata = plan.metadata.of_value.contains_key(&field.name);
                    let native = if metadata { of_value.clone() } else { field.clone() };
                    targets.push(Target::Value(value_fields.len()));
                    value_fields.push(native.clone());
                    made.push(native);
                }
                _ => return Err(Error::internal(format!("column '{}' is neither in keys nor in values", field.name))),
            }
        }
        let is_same = made.iter().zip(&schema.fields).all(|(made, wanted)| made.data_type == wanted.data_type);
        let casts = match is_same {
            true => None,
            false => Some(
                made.iter()
                    .zip(&schema.fields)
                    .enumerate()
                    .map(|(i, (from, to))| plan.cast(i, from, to))
                    .collect::<Result<Vec<_>>>()?,
            ),
        };
        let headers = match wanted.contains(&RecordMetadata::Headers) {
            true => Some(Column::new("headers", &RecordMetadata::Headers.kind().nullable())?),
            false => None,
        };
        // The kinds of keys and values are those of projections: what isn't asked for isn't decoded.
        let key = match (&plan.key_decoders, key_fields.is_empty()) {
            (Some(decoders), false) => Some(decoders.decoder(&Schema::new(key_fields))?),
            _ => None,
        };
        Ok(RowMaker {
            schema: schema.clone(),
            targets,
            casts,
            made: Schema::new(made),
            key,
            value: plan.value_decoders.decoder(&Schema::new(value_fields))?,
            is_upsert: plan.is_upsert,
            wanted,
            records: Records { headers, ..Records::default() },
            rows: Vec::new(),
            is_plain: true,
        })
    }

    /// How many rows [`RowMaker::take`] would give.
    pub fn num_rows(&self) -> usize {
        self.rows.len()
    }

    /// Decodes a record; what its format keeps of bad ones goes to `bad`.
    pub fn push(&mut self, message: RawMessage<'_>, bad: &mut Vec<BadRecord>) -> Result<Outcome> {
        let fails = |error: Error, bad: &[BadRecord]| match bad.last() {
            Some(kept) => Ok(Outcome::Bad(kept.reason.clone())),
            None => Err(error),
        };
        let before = bad.len();
        let mut key_row = None;
        if let Some(key) = &mut self.key {
            if message.key().is_none() && self.is_upsert {
                return Ok(Outcome::Bad(Error::data("the record has no key")));
            }
            if let Some(bytes) = message.key() {
                let row = key.num_rows();
                if let Err(error) = key.decode_message(Some(bytes), bad) {
                    return fails(error.context("decode the key"), bad);
                }
                match key.num_rows() - row {
                    1 => key_row = u32::try_from(row).ok(),
                    _ if bad.len() > before => return Ok(Outcome::Done),
                    0 => return Ok(Outcome::Bad(Error::data("the key holds no record"))),
                    _ => return Err(Error::data("the key holds several records")),
                }
            }
        }
        let record = self.records.count;
        if self.is_upsert && message.value().is_none() {
            self.note(message);
            self.rows.push(Row { record, value: None, key: key_row });
            self.is_plain = false;
            return Ok(Outcome::Done);
        }
        let from = self.value.num_rows();
        if let Err(error) = self.value.decode_message(message.value(), bad) {
            self.is_plain &= self.key.is_none();
            return fails(error, bad);
        }
        let to = self.value.num_rows();
        if to == from {
            self.is_plain &= key_row.is_none();
            return Ok(Outcome::Done);
        }
        self.note(message);
        let key_is_alike = self.key.is_none() || key_row == Some(record);
        self.is_plain &= to == from + 1 && from == record as usize && key_is_alike;
        let row = |value: usize| Row { record, value: u32::try_from(value).ok(), key: key_row };
        self.rows.extend((from..to).map(row));
        Ok(Outcome::Done)
    }

    /// Notes what is wanted of a record that gives rows.
    fn note(&mut self, message: RawMessage<'_>) {
        let records = &mut self.records;
        for wanted in &self.wanted {
            match wanted {
                RecordMetadata::Topic | RecordMetadata::Partition => {}
                RecordMetadata::Offset => records.offsets.push(message.offset()),
                RecordMetadata::Timestamp => records.timestamps.push(message.timestamp().0),
                RecordMetadata::TimestampType => records.timestamp_types.push(message.timestamp().1),
                RecordMetadata::LeaderEpoch => records.leader_epochs.push(message.leader_epoch()),
                RecordMetadata::Headers => push_headers(&mut records.headers, records.count as usize, message),
            }
        }
        records.count += 1;
    }

    /// The rows since the last call, all of records of one partition.
    pub fn take(&mut self, topic: &str, partition: i32) -> Result<Batch> {
        let rows = std::mem::take(&mut self.rows);
        let is_plain = std::mem::replace(&mut self.is_plain, true);
        let value = self.value.take()?;
        let key = self.key.as_mut().map(|key| key.take()).transpose()?;
        let records = std::mem::take(&mut self.records.count) as usize;
        let of_record: Option<UInt32Array> = (!is_plain).then(|| rows.iter().map(|row| Some(row.record)).collect());
        let of_value: Option<UInt32Array> = (!is_plain).then(|| rows.iter().map(|row| row.value).collect());
        let of_key: Option<UInt32Array> = (!is_plain).then(|| rows.iter().map(|row| row.key).collect());
        let pick = |column: &ArrayRef, at: &Option<UInt32Array>| match at {
            None => Ok(column.clone()),
            Some(at) => compute::take(column, at, None),
        };
        let mut columns = Vec::with_capacity(self.targets.len());
        for (target, field) in self.targets.iter().zip(&self.made.fields) {
            let column = match target {
                Target::Key(column) => match &key {
                    Some(key) => pick(key.column(*column), &of_key)?,
                    None => return Err(Error::internal("a key was not decoded")),
                },
                Target::Value(column) => pick(value.column(*column), &of_value)?,
                Target::Record(metadata) => {
                    pick(&self.records.column(*metadata, topic, partition, records)?, &of_record)?
                }
            };
            columns.push(filled(column, field)?);
        }
        let kinds = match self.is_upsert {
            false => match (&value.kinds, &of_value) {
                (Some(kinds), Some(at)) => Some(UInt8Array::from(compute::take(kinds, at, None)?.to_data())),
                (kinds, _) => kinds.clone(),
            },
            true => Some(UInt8Array::from_iter_values(rows.iter().map(|row| match row.value {
                Some(_) => RowKind::UpdateAfter as u8,
                None => RowKind::Delete as u8,
            }))),
        };
        let made = Batch::from_columns(self.made.arrow().clone(), columns, rows.len())?;
        let Some(casts) = &self.casts else { return Ok(made.with_kinds(kinds)) };
        let ctx = EvalContext::at(0);
        let cast = |expr: &ExprRef| expr.evaluate(&made, &ctx)?.into_array(rows.len());
        let columns = casts.iter().map(cast).collect::<Result<Vec<_>>>()?;
        Ok(Batch::from_columns(self.schema.arrow().clone(), columns, rows.len())?.with_kinds(kinds))
    }
}

/// The column, without NULLs if it is NOT NULL: those of tombstones, which nobody looks at, become zeros and empty texts.
fn filled(column: ArrayRef, field: &Field) -> Result<ArrayRef> {
    if field.data_type.nullable || column.null_count() == 0 {
        return Ok(column);
    }
    let zeros = arrow::array::ArrayData::new_null(column.data_type(), column.len());
    let zeros = make_array(zeros.into_builder().nulls(None).build()?);
    Ok(compute::kernels::zip::zip(&compute::is_not_null(&column)?, &column, &zeros)?)
}

fn push_headers(column: &mut Option<Column>, row: usize, message: RawMessage<'_>) {
    let Some(column) = column else { return };
    column.seek(row);
    if let Values::Map(ends, keys, values) = &mut column.values {
        let headers = message.headers();
        for (i, (name, value)) in headers.iter().enumerate() {
            // Of several of one name the last.
            if headers.iter().skip(i + 1).any(|(later, _)| later == name) {
                continue;
            }
            for (column, bytes) in [(&mut **keys, name), (&mut **values, value)] {
                let at = column.len;
                if let Values::Str(ends, data) | Values::Bin(ends, data) = &mut column.values {
                    data.extend_from_slice(bytes);
                    ends.push(data.len() as i32);
                    column.len = at + 1;
                }
            }
        }
        ends.push(keys.len as i32);
        column.len = row + 1;
    }
}

impl Records {
    /// The column of so many records; empties what it is made from.
    fn column(&mut self, metadata: RecordMetadata, topic: &str, partition: i32, records: usize) -> Result<ArrayRef> {
        Ok(match metadata {
            RecordMetadata::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, records))),
            RecordMetadata::Partition => Arc::new(Int32Array::from_value(partition, records)),
            RecordMetadata::Offset => Arc::new(Int64Array::from(std::mem::take(&mut self.offsets))),
            RecordMetadata::Timestamp => {
                let times = TimestampMillisecondArray::from(std::mem::take(&mut self.timestamps));
                Arc::new(times.with_timezone("UTC"))
            }
            RecordMetadata::TimestampType => {
                Arc::new(StringArray::from_iter_values(std::mem::take(&mut self.timestamp_types)))
            }
            RecordMetadata::LeaderEpoch => Arc::new(Int32Array::from(std::mem::take(&mut self.leader_epochs))),
            RecordMetadata::Headers => match &mut self.headers {
                Some(column) => column.finish(records)?,
                None => new_null_array(&RecordMetadata::Headers.kind().nullable().arrow(), records),
            },
        })
    }
}
