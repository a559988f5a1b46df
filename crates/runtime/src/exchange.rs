//! What travels between tasks: a frame of rows with the sender's watermark, in memory or as bytes.
//!
//! Within a process a frame is moved. Between processes its rows are an Arrow IPC message: one copy out, none in.

use arrow::array::{RecordBatch, UInt8Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::StreamEncoder;
use millstream_core::{Batch, Error, Result};
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};

/// How a sender counts in a receiver's watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Status {
    /// Its watermark counts.
    #[default]
    Active,
    /// It has no rows for now and leaves the minimum.
    Idle,
    /// It sends no row again.
    Ended,
}

/// Rows, then the sender's watermark and status after them.
#[derive(Default, Debug)]
pub(crate) struct Frame {
    /// The worker that it goes to.
    pub dest: u32,
    /// The worker that it comes from.
    pub from: u32,
    pub watermark: i64,
    pub status: Status,
    /// What credits count; the receiver gives back exactly these.
    pub rows: u32,
    pub bytes: u64,
    body: Body,
    live: bool,
    encoded: OnceCell<Vec<Buffer>>,
}

#[derive(Default, Debug)]
enum Body {
    #[default]
    Empty,
    Rows(Batch),
    Wire {
        message: Buffer,
        kinds: Option<Buffer>,
    },
}

const HEADER: usize = 40;

impl Frame {
    pub fn new(dest: usize, from: usize, watermark: i64, status: Status, batch: Option<Batch>) -> Frame {
        let rows = batch.as_ref().map_or(0, Batch::num_rows) as u32;
        let bytes = batch.as_ref().map_or(0, batch_bytes);
        let body = batch.map_or(Body::Empty, Body::Rows);
        let (dest, from) = (dest as u32, from as u32);
        Frame { dest, from, watermark, status, rows, bytes, body, live: true, encoded: OnceCell::new() }
    }

    /// The rows, of the exchange's schema.
    pub fn into_batch(self, schema: &SchemaRef) -> Result<Option<Batch>> {
        match self.body {
            Body::Empty => Ok(None),
            Body::Rows(batch) => Ok(Some(batch)),
            Body::Wire { message, kinds } => {
                let rows = read_message(&message, schema)?;
                let kinds = kinds.map(|k| UInt8Array::new(ScalarBuffer::new(k, 0, rows.num_rows()), None));
                Ok(Some(Batch::insert_only(rows).with_kinds(kinds)))
            }
        }
    }

    fn kinds(&self) -> Option<&UInt8Array> {
        match &self.body {
            Body::Rows(batch) => batch.kinds.as_ref(),
            Body::Empty | Body::Wire { .. } => None,
        }
    }

    fn message(&self) -> &[Buffer] {
        self.encoded.get_or_init(|| match &self.body {
            Body::Rows(batch) => encode(&batch.rows),
            Body::Empty | Body::Wire { .. } => vec![],
        })
    }

    fn unpadded_length(&self) -> usize {
        let kinds = self.kinds().map_or(0, |k| k.values().len().next_multiple_of(8));
        HEADER + kinds + self.message().iter().map(Buffer::len).sum::<usize>()
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0..4].copy_from_slice(&self.dest.to_le_bytes());
        header[4..8].copy_from_slice(&self.from.to_le_bytes());
        header[8..16].copy_from_slice(&self.watermark.to_le_bytes());
        header[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        header[24..28].copy_from_slice(&self.rows.to_le_bytes());
        header[28] = self.status as u8;
        header[29] = matches!(self.body, Body::Rows(_)) as u8;
        header[30] = self.kinds().is_some() as u8;
        header
    }

    fn from_buffer(buffer: Buffer) -> Frame {
        let header = &buffer.as_slice()[..HEADER];
        let u32_at = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
        let u64_at = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let (dest, from, rows) = (u32_at(0), u32_at(4), u32_at(24));
        let status = match header[28] {
            0 => Status::Active,
            1 => Status::Idle,
            _ => Status::Ended,
        };
        let (has_rows, has_kinds) = (header[29] == 1, header[30] == 1);
        let kinds = has_kinds.then(|| buffer.slice_with_length(HEADER, rows as usize));
        let start = HEADER + if has_kinds { (rows as usize).next_multiple_of(8) } else { 0 };
        let (watermark, bytes) = (u64_at(8) as i64, u64_at(16));
        let body = if has_rows { Body::Wire { message: buffer.slice(start), kinds } } else { Body::Empty };
        Frame { dest, from, watermark, status, rows, bytes, body, live: true, encoded: OnceCell::new() }
    }
}

/// Bytes that the rows themselves take, without what else their buffers hold.
fn batch_bytes(batch: &Batch) -> u64 {
    let column = |c: &arrow::array::ArrayRef| c.to_data().get_slice_memory_size().unwrap_or(c.get_array_memory_size());
    batch.rows.columns().iter().map(column).sum::<usize>() as u64
}

thread_local! {
    static ENCODERS: RefCell<Vec<(SchemaRef, StreamEncoder)>> = const { RefCell::new(vec![]) };
}
/// Schemas are few and shared by pointer; the bound only guards against a caller that makes one for each batch.
const ENCODERS_MAX: usize = 256;

fn encode(rows: &RecordBatch) -> Vec<Buffer> {
    ENCODERS.with_borrow_mut(|encoders| {
        let schema = rows.schema();
        let at = encoders.iter().position(|(s, _)| Arc::ptr_eq(s, &schema)).unwrap_or_else(|| {
            let mut encoder = StreamEncoder::try_new(&schema).expect("every type of core has an IPC form");
            let _schema_message =
                encoder.encode(&RecordBatch::new_empty(schema.clone())).expect("an empty batch can be encoded");
            if encoders.len() == ENCODERS_MAX {
                encoders.clear();
            }
            encoders.push((schema, encoder));
            encoders.len() - 1
        });
        encoders[at].1.encode(rows).expect("a batch of an encodable schema can be encoded")
    })
}

fn read_message(message: &Buffer, schema: &SchemaRef) -> Result<RecordBatch> {
    let broken = |what: &str| Error::internal(format!("a frame from another process has {what}"));
    let bytes = message.as_slice();
    let length = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let length = length.ok_or_else(|| broken("no length"))? as usize;
    let head = bytes.get(8..8 + length).ok_or_else(|| broken("a cut header"))?;
    let head = arrow::ipc::root_as_message(head).map_err(|e| broken(&format!("a bad header: {e}")))?;
    let rows = head.header_as_record_batch().ok_or_else(|| broken("no rows"))?;
    let body = message.slice(8 + length);
    Ok(read_record_batch(&body, rows, schema.clone(), &Default::default(), None, &head.version())?)
}

impl Accountable for Frame {
    fn record_count(&self) -> i64 {
        self.live as i64
    }
}

impl ContainerBytes for Frame {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        /// Keeps the network's memory for as long as an array points into it.
        struct Owner(#[allow(dead_code, reason = "held for its memory")] timely::bytes::arc::Bytes);
        impl std::panic::RefUnwindSafe for Owner {}
        let length = bytes.len();
        let start = std::ptr::NonNull::new(bytes.as_ptr().cast_mut()).expect("a slice's pointer is not null");
        // SAFETY: `start .. start + length` is `bytes`' own memory, which `Owner` keeps alive and nobody writes to.
        Frame::from_buffer(unsafe { Buffer::from_custom_allocation(start, length, Arc::new(Owner(bytes))) })
    }
    fn length_in_bytes(&self) -> usize {
        self.unpadded_length().next_multiple_of(8)
    }
    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let mut write = |bytes: &[u8]| writer.write_all(bytes).expect("timely's buffer has the announced length");
        write(&self.header());
        if let Some(kinds) = self.kinds() {
            write(kinds.values());
            let padding = kinds.values().len().next_multiple_of(8) - kinds.values().len();
            write(&[0; 8][..padding]);
        }
        for buffer in self.message() {
            write(buffer);
        }
        write(&[0; 8][..self.length_in_bytes() - self.unpadded_length()]);
    }
}

/// Routes a frame to the worker that it names.
pub(crate) struct ByDest;

impl Distributor<Frame> for ByDest {
    fn partition<T: Clone, P: Push<Message<T, Frame>>>(&mut self, frame: &mut Frame, time: &T, pushers: &mut [P]) {
        let dest = frame.dest as usize;
        Message::push_at(frame, time.clone(), &mut pushers[dest]);
    }
    fn flush<T: Clone, P: Push<Message<T, Frame>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    #[test]
    fn a_frame_survives_the_wire() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]));
        for (rows, with_kinds) in [(0..5, true), (0..300, false), (0..0, true)] {
            let n = rows.end as usize;
            let columns: Vec<arrow::array::ArrayRef> = vec![
                Arc::new(rows.clone().map(|i| (i % 3 != 0).then_some(i as i64)).collect::<Int64Array>()),
                Arc::new(rows.map(|i| (i % 4 != 0).then(|| "x".repeat(i as usize % 9))).collect::<StringArray>()),
            ];
            let kinds = with_kinds.then(|| (0..n).map(|i| (i % 4) as u8).collect::<UInt8Array>());
            let batch = Batch::from_columns(schema.clone(), columns, n).unwrap().with_kinds(kinds);
            let frame = Frame::new(3, 1, 42, Status::Idle, Some(batch.clone()));
            let mut bytes = vec![];
            frame.into_bytes(&mut bytes);
            assert_eq!(bytes.len(), frame.length_in_bytes());
            let back = Frame::from_buffer(Buffer::from_vec(bytes));
            assert_eq!((back.dest, back.from, back.watermark, back.status), (3, 1, 42, Status::Idle));
            assert_eq!((back.rows as usize, back.bytes), (n, frame.bytes));
            let back = back.into_batch(&schema).unwrap().unwrap();
            assert_eq!((back.rows, back.kinds), (batch.rows, batch.kinds));
        }
    }
}
