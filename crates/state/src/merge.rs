//! Merging sorted segments: the newest version of each key, expiry, tombstones.

use crate::manifest::{Segment, StoredTable};
use crate::segment::{
    BATCH_ROWS, DELETE, KeyRows, UPSERT, damaged, decode_schema, gather, key_converter, nullable, read_segment,
};
use crate::store::CheckpointStore;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMillisecondType, UInt8Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::row::RowConverter;
use bytes::Bytes;
use millstream_core::key::HashRange;
use millstream_core::{Error, Place, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

/// What became of some keys: columns of the table, hashes, ops.
pub(crate) type Merged = (Vec<ArrayRef>, Vec<u64>, Vec<u8>);

/// The shape of a stored table, checked.
pub(crate) struct Layout {
    pub(crate) schema: SchemaRef,
    key: Vec<usize>,
    time: Option<usize>,
}

impl Layout {
    pub(crate) fn of(table: &StoredTable) -> Result<Layout> {
        let schema = nullable(decode_schema(&table.schema.0)?.as_ref());
        let mut named = table.key.iter().chain(&table.partition_by).chain(&table.time);
        if named.any(|i| *i >= schema.fields().len()) {
            return Err(Error::state(format!("the manifest's description of table {} is wrong", table.name)));
        }
        Ok(Layout { schema, key: table.key.clone(), time: table.time })
    }
}

/// Merges `segments` of a table: of each key in `range` the newest version, in the order of hash and
/// key. What is deleted, or expired by a later one of the segments, is given as a tombstone with
/// `keep_tombstones`, else not at all.
pub(crate) fn merge(
    store: &CheckpointStore,
    table: &StoredTable,
    segments: &[&Segment],
    range: HashRange,
    keep_tombstones: bool,
    emit: &mut dyn FnMut(Merged) -> Result<()>,
) -> Result<()> {
    let layout = Layout::of(table)?;
    let converter = key_converter(&layout.schema, &layout.key)?;
    let mut cursors = vec![];
    let mut heap = BinaryHeap::new();
    for segment in segments {
        if !segment.hash_range.overlaps(&range) || segment.rows + segment.deletes == 0 {
            continue;
        }
        let (bytes, place) = read_segment(store, &table.name, segment)?;
        let expiries = expiries_after(segments, segment, range);
        let mut cursor = RowCursor::open(bytes, place, &layout, range, expiries)?;
        if cursor.load(&layout, converter.as_ref())? {
            let mut head = Head { hash: 0, key: vec![], newest: Reverse(segment.epoch), cursor: cursors.len() };
            cursor.fill(&mut head);
            heap.push(Reverse(head));
            cursors.push(cursor);
        }
    }
    let mut out = Output::new(&layout);
    let mut last: Option<(u64, Vec<u8>)> = None;
    while let Some(Reverse(mut head)) = heap.pop() {
        let cursor = &mut cursors[head.cursor];
        let superseded = last.as_ref().is_some_and(|(hash, key)| *hash == head.hash && *key == head.key);
        if !superseded {
            let op = if cursor.is_gone() { DELETE } else { UPSERT };
            if op == UPSERT || keep_tombstones {
                out.push(cursor, head.hash, op);
            }
            let (hash, key) = last.get_or_insert_default();
            *hash = head.hash;
            key.clone_from(&head.key);
        }
        cursor.row += 1;
        let more = cursor.row < cursor.end || cursor.load(&layout, converter.as_ref())?;
        if more {
            cursor.fill(&mut head);
            heap.push(Reverse(head));
        }
        if out.ops.len() >= BATCH_ROWS {
            out.flush(&mut cursors, emit)?;
        }
    }
    out.flush(&mut cursors, emit)
}

/// The bounds that later segments put on the rows of `segment`, one for each range.
fn expiries_after(segments: &[&Segment], segment: &Segment, range: HashRange) -> Vec<(HashRange, i64)> {
    let mut expiries: Vec<(HashRange, i64)> = vec![];
    for later in segments.iter().filter(|s| s.epoch > segment.epoch && s.hash_range.overlaps(&range)) {
        let Some(bound) = later.expired_below else { continue };
        match expiries.iter_mut().find(|(range, _)| *range == later.hash_range) {
            Some((_, highest)) => *highest = bound.max(*highest),
            None => expiries.push((later.hash_range, bound)),
        }
    }
    expiries
}

/// The next row of a cursor; ordered by hash, key, and then the newest epoch first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    hash: u64,
    key: Vec<u8>,
    newest: Reverse<u64>,
    cursor: usize,
}

/// Reads the rows of one segment that lie in a range.
struct RowCursor {
    reader: StreamReader<io::Cursor<Bytes>>,
    place: Place,
    range: HashRange,
    expiries: Vec<(HashRange, i64)>,
    columns: Vec<ArrayRef>,
    hashes: UInt64Array,
    ops: UInt8Array,
    times: Option<Int64Array>,
    keys: KeyRows,
    row: usize,
    end: usize,
    /// Where the output holds the current batch.
    slot: Option<usize>,
}

impl RowCursor {
    fn open(
        bytes: Bytes,
        place: Place,
        layout: &Layout,
        range: HashRange,
        expiries: Vec<(HashRange, i64)>,
    ) -> Result<Self> {
        let reader = StreamReader::try_new(io::Cursor::new(bytes), None).map_err(|e| damaged(&place, e.to_string()))?;
        if reader.schema().fields() != crate::segment::with_hidden_columns(&layout.schema).fields() {
            return Err(damaged(&place, "its columns are not those of its table"));
        }
        Ok(RowCursor {
            reader,
            place,
            range,
            expiries,
            columns: vec![],
            hashes: UInt64Array::from(Vec::<u64>::new()),
            ops: UInt8Array::from(Vec::<u8>::new()),
            times: None,
            keys: KeyRows::of(None, &[], &[])?,
            row: 0,
            end: 0,
            slot: None,
        })
    }

    /// Goes to the next batch that has a row in the range; `false` at the end.
    fn load(&mut self, layout: &Layout, converter: Option<&RowConverter>) -> Result<bool> {
        loop {
            self.slot = None;
            let Some(batch) = self.reader.next() else { return Ok(false) };
            let batch = batch.map_err(|e| damaged(&self.place, e.to_string()))?;
            let width = layout.schema.fields().len();
            self.columns = batch.columns()[..width].to_vec();
            self.hashes = batch.column(width).as_primitive::<UInt64Type>().clone();
            self.ops = batch.column(width + 1).as_primitive::<UInt8Type>().clone();
            let values = self.hashes.values();
            self.row = values.partition_point(|h| *h < self.range.first);
            self.end = values.partition_point(|h| *h <= self.range.last);
            if self.row < self.end {
                self.keys = KeyRows::of(converter, &layout.key, &self.columns)?;
                self.times = match layout.time {
                    Some(at) if !self.expiries.is_empty() => Some(times(self.columns[at].as_ref(), &self.place)?),
                    _ => None,
                };
                return Ok(true);
            }
        }
    }

    fn fill(&self, head: &mut Head) {
        head.hash = self.hashes.value(self.row);
        head.key.clear();
        head.key.extend_from_slice(self.keys.get(self.row));
    }

    /// Whether the current row is a tombstone or expired.
    fn is_gone(&self) -> bool {
        if self.ops.value(self.row) == DELETE {
            return true;
        }
        let Some(times) = &self.times else { return false };
        if times.is_null(self.row) {
            return false;
        }
        let (time, hash) = (times.value(self.row), self.hashes.value(self.row));
        self.expiries.iter().any(|(range, bound)| time < *bound && range.contains(hash))
    }
}

fn times(column: &dyn Array, place: &Place) -> Result<Int64Array> {
    match column.data_type() {
        DataType::Int64 => Ok(column.as_primitive::<Int64Type>().clone()),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Ok(column.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>())
        }
        other => Err(damaged(place, format!("rows can't expire by a column of type {other}"))),
    }
}

/// Rows picked from the cursors' batches.
struct Output {
    width: usize,
    batches: Vec<Vec<ArrayRef>>,
    indices: Vec<(usize, usize)>,
    hashes: Vec<u64>,
    ops: Vec<u8>,
}

impl Output {
    fn new(layout: &Layout) -> Self {
        let width = layout.schema.fields().len();
        Output { width, batches: vec![], indices: vec![], hashes: vec![], ops: vec![] }
    }
    fn push(&mut self, cursor: &mut RowCursor, hash: u64, op: u8) {
        let slot = *cursor.slot.get_or_insert_with(|| {
            self.batches.push(cursor.columns.clone());
            self.batches.len() - 1
        });
        self.indices.push((slot, cursor.row));
        self.hashes.push(hash);
        self.ops.push(op);
    }
    fn flush(&mut self, cursors: &mut [RowCursor], emit: &mut dyn FnMut(Merged) -> Result<()>) -> Result<()> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let columns = gather(&self.batches, &self.indices, self.width)?;
        self.indices.clear();
        self.batches.clear();
        for cursor in cursors {
            cursor.slot = None;
        }
        emit((columns, std::mem::take(&mut self.hashes), std::mem::take(&mut self.ops)))
    }
}
