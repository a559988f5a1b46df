//! The format of a segment: a table's changed rows, sorted by hash and key, as an Arrow IPC stream.
//!
//! Two columns follow the table's: `__hash`, the hash of the row's partition columns, and `__op`,
//! [`UPSERT`] or [`DELETE`]; of a deleted row only the key columns count.

use crate::manifest::{Blob, DAMAGED_HINT, Location, Segment, checksum};
use crate::store::CheckpointStore;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt8Array, UInt32Array, UInt64Array, new_null_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::row::{RowConverter, Rows, SortField};
use bytes::Bytes;
use millstream_core::key::{HashRange, hash_columns};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{Error, Place, Result};
use std::io::Cursor;
use std::sync::Arc;

/// `__op` of a new or changed row.
pub const UPSERT: u8 = 0;
/// `__op` of a key that is gone.
pub const DELETE: u8 = 1;
/// Rows in each batch of a segment, and of what restore gives.
pub(crate) const BATCH_ROWS: usize = 8192;
/// Rows that are sorted at once, about.
const PART_ROWS: usize = 32 << 10;

/// What a manifest will say of a segment, but for where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// See [`Segment::epoch`].
    pub epoch: u64,
    /// See [`Segment::hash_range`].
    pub hash_range: HashRange,
    /// See [`Segment::rows`].
    pub rows: u64,
    /// See [`Segment::deletes`].
    pub deletes: u64,
    /// See [`Segment::expired_below`].
    pub expired_below: Option<i64>,
}

/// A segment that is encoded but not stored.
#[derive(Clone, Debug)]
pub struct EncodedSegment {
    /// What it holds.
    pub meta: SegmentMeta,
    /// Its bytes; none if it holds no row.
    pub bytes: Bytes,
}

/// Encodes deltas, on the worker's side.
#[derive(Debug)]
pub struct DeltaWriter;

impl DeltaWriter {
    /// Encodes what changed in a table in `epoch`, on the worker that owns `range`. A delta that
    /// doesn't fit the table, holds a key twice, or a key that the worker does not own is an
    /// Internal error.
    pub fn encode(spec: &TableSpec, delta: &TableDelta, epoch: u64, range: HashRange) -> Result<EncodedSegment> {
        Self::encode_rows(spec, delta, epoch, range)
            .map_err(|e| e.context(format!("encode the changes of table {}", spec.name)))
    }

    fn encode_rows(spec: &TableSpec, delta: &TableDelta, epoch: u64, range: HashRange) -> Result<EncodedSegment> {
        let table = nullable(spec.schema.arrow());
        let converter = key_converter(&table, &spec.key)?;
        let mut batches: Vec<Vec<ArrayRef>> = vec![];
        let mut order: Vec<Entry> = vec![];
        let inputs = delta.upserts.iter().map(|b| (b, UPSERT)).chain(delta.deletes.iter().map(|b| (b, DELETE)));
        for (batch, op) in inputs.filter(|(b, _)| b.num_rows() > 0) {
            let rows = batch.num_rows();
            let columns = match op {
                UPSERT => batch.columns().to_vec(),
                _ => spread_key(&table, &spec.key, batch)?,
            };
            let fits = columns.len() == table.fields().len()
                && columns.iter().zip(table.fields()).all(|(c, f)| c.data_type() == f.data_type());
            if !fits {
                return Err(Error::internal("a batch of a state delta has other columns than its table"));
            }
            let owner: Vec<ArrayRef> = spec.partition_by.iter().map(|i| columns[*i].clone()).collect();
            let hashes = hash_columns(&owner, rows)?;
            if hashes.iter().any(|h| !range.contains(*h)) {
                return Err(Error::internal("a state delta has a key that its worker does not own"));
            }
            let number = batches.len() as u32;
            order.extend(hashes.iter().zip(0..).map(|(hash, row)| Entry { hash: *hash, batch: number, row, op }));
            batches.push(columns);
        }
        // By the hash first; then a part at a time, of a size that fits the caches, with all rows of a hash.
        order.sort_unstable_by_key(|entry| entry.hash);
        let (mut upserts, mut deletes) = (0, 0);
        let mut writer = SegmentWriter::new(&table)?;
        let mut rest = &order[..];
        while !rest.is_empty() {
            let mut end = rest.len().min(PART_ROWS);
            end += rest[end..].iter().take_while(|entry| entry.hash == rest[end - 1].hash).count();
            let (part, later) = rest.split_at(end);
            rest = later;
            let indices: Vec<(usize, usize)> = part.iter().map(|e| (e.batch as usize, e.row as usize)).collect();
            let columns = gather(&batches, &indices, table.fields().len())?;
            let sorted = sorted(part, &KeyRows::of(converter.as_ref(), &spec.key, &columns)?)?;
            for chunk in sorted.chunks(BATCH_ROWS) {
                let rows = UInt32Array::from(chunk.to_vec());
                let columns = columns.iter().map(|c| Ok(take(c, &rows, None)?)).collect::<Result<_>>()?;
                let entries = || chunk.iter().map(|row| part[*row as usize]);
                let ops: Vec<u8> = entries().map(|entry| entry.op).collect();
                let gone = ops.iter().filter(|op| **op == DELETE).count() as u64;
                deletes += gone;
                upserts += ops.len() as u64 - gone;
                writer.write(columns, entries().map(|entry| entry.hash).collect(), ops)?;
            }
        }
        let meta = SegmentMeta { epoch, hash_range: range, rows: upserts, deletes, expired_below: delta.expired_below };
        Ok(EncodedSegment { meta, bytes: writer.finish()? })
    }
}

/// A row of a delta.
#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    batch: u32,
    row: u32,
    op: u8,
}

/// The places of a part's rows in the order of hash and key, each key once: what is new goes before what is gone.
fn sorted(part: &[Entry], keys: &KeyRows) -> Result<Vec<u32>> {
    let of = |row: &u32| (part[*row as usize].hash, keys.get(*row as usize));
    let mut order: Vec<u32> = (0..part.len() as u32).collect();
    order.sort_unstable_by(|a, b| of(a).cmp(&of(b)).then(part[*a as usize].op.cmp(&part[*b as usize].op)));
    let mut twice = false;
    order.dedup_by(|later, first| {
        let same = of(later) == of(first);
        twice |= same && part[*later as usize].op == UPSERT;
        same
    });
    if twice {
        return Err(Error::internal("a state delta has two rows of one key"));
    }
    Ok(order)
}

/// Lays encoded segments into one object named `object`, but for those smaller than `inline_below`
/// bytes, which go into the manifest. The segments come back in the same order, and the object's parts; none if
/// nothing is left for an object.
pub fn pack(encoded: Vec<EncodedSegment>, object: &str, inline_below: usize) -> (Vec<Segment>, Vec<Bytes>) {
    let (mut data, mut offset) = (vec![], 0);
    let segments = encoded
        .into_iter()
        .map(|EncodedSegment { meta, bytes }| {
            let checksum = checksum(&bytes);
            let location = if bytes.is_empty() || bytes.len() < inline_below {
                Location::Inline(Blob(bytes))
            } else {
                let length = bytes.len() as u64;
                data.push(bytes);
                offset += length;
                Location::Object { name: object.to_string(), offset: offset - length, length }
            };
            let SegmentMeta { epoch, hash_range, rows, deletes, expired_below } = meta;
            Segment { epoch, hash_range, rows, deletes, expired_below, location, checksum }
        })
        .collect();
    (segments, data)
}

/// Reads a segment's bytes and checks them. Returns them with the place to name in errors.
pub(crate) fn read_segment(store: &CheckpointStore, table: &str, segment: &Segment) -> Result<(Bytes, Place)> {
    let (bytes, place) = match &segment.location {
        Location::Inline(bytes) => {
            let manifest =
                format!("{}, segment of table {table} of epoch {}", store.path_of("manifest"), segment.epoch);
            (bytes.0.clone(), Place::Named(manifest))
        }
        Location::Object { name, offset, length } => {
            let end = offset.checked_add(*length);
            let place = store.place(&format!("data/{name}"));
            let end = end.ok_or_else(|| damaged(&place, "the manifest names bytes beyond any file"))?;
            (store.read(name, *offset..end)?, place)
        }
    };
    let actual = checksum(&bytes);
    if actual != segment.checksum {
        return Err(Error::state(format!("a segment of table {table} is damaged"))
            .at(place)
            .detail(format!("its checksum is {actual}, it should be {}", segment.checksum))
            .hint(DAMAGED_HINT));
    }
    Ok((bytes, place))
}

/// A State error about a segment that can't be read.
pub(crate) fn damaged(place: &Place, detail: impl Into<String>) -> Error {
    Error::state("a segment can't be read").at(place.clone()).detail(detail).hint(DAMAGED_HINT)
}

/// The schema as an IPC stream without batches.
pub(crate) fn encode_schema(schema: &SchemaRef) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(vec![], schema)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// The schema of [`encode_schema`].
pub(crate) fn decode_schema(bytes: &Bytes) -> Result<SchemaRef> {
    let reader = StreamReader::try_new(Cursor::new(bytes.clone()), None);
    reader
        .map(|r| r.schema())
        .map_err(|e| Error::state("the stored schema can't be read").detail(e.to_string()).hint(DAMAGED_HINT))
}

/// Writes the batches of one segment.
pub(crate) struct SegmentWriter {
    writer: StreamWriter<Vec<u8>>,
    schema: SchemaRef,
    is_empty: bool,
}

impl SegmentWriter {
    pub(crate) fn new(table: &Schema) -> Result<Self> {
        let schema = with_hidden_columns(table);
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let writer = StreamWriter::try_new_with_options(vec![], &schema, options)?;
        Ok(SegmentWriter { writer, schema, is_empty: true })
    }
    pub(crate) fn write(&mut self, mut columns: Vec<ArrayRef>, hashes: Vec<u64>, ops: Vec<u8>) -> Result<()> {
        self.is_empty = false;
        columns.push(Arc::new(UInt64Array::from(hashes)));
        columns.push(Arc::new(UInt8Array::from(ops)));
        Ok(self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?)
    }
    pub(crate) fn finish(mut self) -> Result<Bytes> {
        if self.is_empty {
            return Ok(Bytes::new());
        }
        self.writer.finish()?;
        Ok(self.writer.into_inner()?.into())
    }
}

/// The schema with every column nullable, as deleted rows need it, and nothing but names and types.
pub(crate) fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A segment's schema.
pub(crate) fn with_hidden_columns(table: &Schema) -> SchemaRef {
    let hidden = [Field::new("__hash", DataType::UInt64, false), Field::new("__op", DataType::UInt8, false)];
    let fields = table.fields().iter().map(|f| f.as_ref().clone()).chain(hidden);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The encoder of keys whose bytes compare as the stored order; `None` for a key of no columns.
pub(crate) fn key_converter(table: &Schema, key: &[usize]) -> Result<Option<RowConverter>> {
    if key.is_empty() {
        return Ok(None);
    }
    let fields: Vec<SortField> = key.iter().map(|i| SortField::new(table.field(*i).data_type().clone())).collect();
    if !RowConverter::supports_fields(&fields) {
        return Err(Error::unsupported("a state key of this type"));
    }
    Ok(Some(RowConverter::new(fields)?))
}

/// The encoded keys of a batch.
pub(crate) struct KeyRows(Option<Rows>);

impl KeyRows {
    pub(crate) fn of(converter: Option<&RowConverter>, key: &[usize], columns: &[ArrayRef]) -> Result<Self> {
        let Some(converter) = converter else { return Ok(KeyRows(None)) };
        let columns: Vec<ArrayRef> = key.iter().map(|i| columns[*i].clone()).collect();
        Ok(KeyRows(Some(converter.convert_columns(&columns)?)))
    }
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

/// The rows at `indices`, pairs of batch and row, of the first `width` columns.
pub(crate) fn gather(batches: &[Vec<ArrayRef>], indices: &[(usize, usize)], width: usize) -> Result<Vec<ArrayRef>> {
    let column = |i: usize| {
        let arrays: Vec<_> = batches.iter().map(|columns| columns[i].as_ref()).collect();
        Ok(interleave(&arrays, indices)?)
    };
    (0..width).map(column).collect()
}

/// A batch of `rows` rows, even if it has no column.
pub(crate) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// A batch of key columns as rows of the table, NULL elsewhere.
fn spread_key(table: &Schema, key: &[usize], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    if batch.num_columns() != key.len() {
        return Err(Error::internal("a batch of deleted keys has other columns than the key"));
    }
    let column = |(i, field): (usize, &Arc<Field>)| match key.iter().position(|k| *k == i) {
        Some(at) => batch.column(at).clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    Ok(table.fields().iter().enumerate().map(column).collect())
}
