//! Object container files: a header with the schema, then blocks of records, each behind its length and before a mark.

use super::decode::{Plan, long};
use super::encode::{Rows, put_bytes, put_long};
use super::schema::{Schema as AvroSchema, TimestampMapping, derive};
use crate::formats::column::Column;
use crate::formats::container::{BatchReader, BatchWriter, Container, FileBytes};
use crate::formats::rows::undecodable;
use arrow::record_batch::RecordBatch;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use millstream_core::{Error, Result, Schema};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufReader, Read, Write};

const MAGIC: &[u8; 4] = b"Obj\x01";
/// Bytes of records after which a block ends, before they are compressed.
const BLOCK_BYTES: usize = 64 << 10;
/// More bytes are not in one header or block.
const MAX_BYTES: usize = 1 << 30;
/// Rows of a batch that is read.
const BATCH_ROWS: usize = 4096;

/// How blocks are compressed: the option `avro.codec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl Codec {
    pub const ALL: [(&'static str, Codec); 4] = [
        ("null", Codec::Null),
        ("deflate", Codec::Deflate),
        ("snappy", Codec::Snappy),
        ("zstandard", Codec::Zstandard),
    ];

    fn name(self) -> &'static str {
        Codec::ALL.iter().find(|(_, codec)| *codec == self).map_or("null", |(name, _)| name)
    }

    fn compress(self, block: Vec<u8>) -> Result<Vec<u8>> {
        Ok(match self {
            Codec::Null => block,
            Codec::Deflate => {
                let mut encoder = DeflateEncoder::new(vec![], Compression::default());
                encoder.write_all(&block)?;
                encoder.finish()?
            }
            Codec::Snappy => {
                let failed = |e: snap::Error| Error::internal(format!("Snappy: {e}"));
                let mut out = snap::raw::Encoder::new().compress_vec(&block).map_err(failed)?;
                out.extend_from_slice(&crc32fast::hash(&block).to_be_bytes());
                out
            }
            Codec::Zstandard => zstd::encode_all(block.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL)?,
        })
    }

    fn decompress(self, block: Vec<u8>) -> Result<Vec<u8>> {
        let limited = |source: &mut dyn Read| {
            let mut out = vec![];
            source.take(MAX_BYTES as u64).read_to_end(&mut out).map_err(|e| damaged(e.to_string()))?;
            Ok(out)
        };
        match self {
            Codec::Null => Ok(block),
            Codec::Deflate => limited(&mut DeflateDecoder::new(block.as_slice())),
            Codec::Snappy => {
                let (data, sum) = block.split_last_chunk::<4>().ok_or_else(|| damaged("a block is too short"))?;
                let size = snap::raw::decompress_len(data).map_err(|e| damaged(e.to_string()))?;
                if size > MAX_BYTES {
                    return Err(damaged("a block is too long"));
                }
                let out = snap::raw::Decoder::new().decompress_vec(data).map_err(|e| damaged(e.to_string()))?;
                match crc32fast::hash(&out) == u32::from_be_bytes(*sum) {
                    true => Ok(out),
                    false => Err(damaged("a block's checksum is wrong")),
                }
            }
            Codec::Zstandard => limited(&mut zstd::Decoder::new(block.as_slice()).map_err(|e| damaged(e.to_string()))?),
        }
    }
}

fn damaged(detail: impl Into<String>) -> Error {
    Error::data("the Avro file is damaged").detail(detail)
}

/// The format of such files.
#[derive(Debug)]
pub(super) struct AvroFiles {
    pub codec: Codec,
    pub mapping: TimestampMapping,
}

impl Container for AvroFiles {
    fn reader(&self, file: FileBytes, schema: &Schema, skip: u64) -> Result<Box<dyn BatchReader>> {
        Ok(Box::new(FileReader::open(BufReader::with_capacity(256 << 10, file), schema, skip)?))
    }
    fn writer(&self, schema: &Schema) -> Result<Box<dyn BatchWriter>> {
        // The mark needs to differ from what is in the file by accident: the standard library's hashes begin at random.
        let half = || RandomState::new().hash_one(0).to_ne_bytes();
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&half());
        mark[8..].copy_from_slice(&half());
        let text = derive(&schema.fields, self.mapping)?.to_string();
        let mut out = MAGIC.to_vec();
        put_long(2, &mut out);
        for (key, value) in [("avro.schema", text.as_str()), ("avro.codec", self.codec.name())] {
            put_bytes(key.as_bytes(), &mut out);
            put_bytes(value.as_bytes(), &mut out);
        }
        put_long(0, &mut out);
        out.extend_from_slice(&mark);
        Ok(Box::new(FileWriter { codec: self.codec, schema: schema.clone(), mark, out, block: vec![], rows: 0 }))
    }
}

struct FileWriter {
    codec: Codec,
    schema: Schema,
    mark: [u8; 16],
    /// Whole blocks.
    out: Vec<u8>,
    block: Vec<u8>,
    rows: i64,
}

impl FileWriter {
    fn end_block(&mut self) -> Result<()> {
        if self.rows > 0 {
            let data = self.codec.compress(std::mem::take(&mut self.block))?;
            put_long(std::mem::take(&mut self.rows), &mut self.out);
            put_bytes(&data, &mut self.out);
            self.out.extend_from_slice(&self.mark);
        }
        Ok(())
    }
}

impl BatchWriter for FileWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = Rows::new(batch, &self.schema.fields)?;
        for row in 0..batch.num_rows() {
            rows.encode(row, &mut self.block)?;
            self.rows += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
    fn pending_bytes(&self) -> usize {
        self.block.len()
    }
    fn finish(mut self: Box<Self>) -> Result<Vec<u8>> {
        self.end_block()?;
        Ok(self.out)
    }
}

struct FileReader<R> {
    source: R,
    schema: Schema,
    columns: Vec<Column>,
    plan: Plan,
    codec: Codec,
    mark: [u8; 16],
    /// The block that is being read, and how many of its records are left.
    block: Vec<u8>,
    at: usize,
    left: u64,
    skip: u64,
}

impl<R: Read> FileReader<R> {
    fn open(mut source: R, schema: &Schema, skip: u64) -> Result<Self> {
        let mut magic = [0; 4];
        read_exact(&mut source, &mut magic)?;
        if magic != *MAGIC {
            return Err(Error::data("this is no Avro file").detail("Avro's object container files begin with 'Obj'"));
        }
        let (mut text, mut codec) = (None, Codec::Null);
        loop {
            let mut count = read_long(&mut source)?;
            if count == 0 {
                break;
            }
            if count < 0 {
                read_long(&mut source)?;
                count = count.saturating_neg();
            }
            for _ in 0..count {
                let (key, value) = (read_bytes(&mut source)?, read_bytes(&mut source)?);
                let value = String::from_utf8_lossy(&value).into_owned();
                match key.as_slice() {
                    b"avro.schema" => text = Some(value),
                    b"avro.codec" => codec = codec_of(&value)?,
                    _ => {}
                }
            }
        }
        let mut mark = [0; 16];
        read_exact(&mut source, &mut mark)?;
        let text = text.ok_or_else(|| damaged("its header has no schema"))?;
        let plan = Plan::new(AvroSchema::parse(&text)?, &schema.fields)?;
        let columns = Column::of_fields(&schema.fields)?;
        let schema = schema.clone();
        Ok(FileReader { source, schema, columns, plan, codec, mark, block: vec![], at: 0, left: 0, skip })
    }

    /// Reads the next block; false at the file's end.
    fn next_block(&mut self) -> Result<bool> {
        let Some(count) = read_long_or_end(&mut self.source)? else { return Ok(false) };
        let count = u64::try_from(count).map_err(|_| damaged("a block has less than no records"))?;
        let data = read_bytes(&mut self.source)?;
        let mut mark = [0; 16];
        read_exact(&mut self.source, &mut mark)?;
        if mark != self.mark {
            return Err(damaged("a block doesn't end in the mark that the header tells"));
        }
        if count <= self.skip {
            self.skip -= count;
            return Ok(true);
        }
        (self.block, self.at, self.left) = (self.codec.decompress(data)?, 0, count);
        Ok(true)
    }
}

impl<R: Read + Send> BatchReader for FileReader<R> {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let mut row = 0;
        while row < BATCH_ROWS {
            if self.left == 0 {
                if self.next_block()? {
                    continue;
                }
                break;
            }
            let mut input = self.block.get(self.at..).unwrap_or_default();
            let before = input.len();
            let outcome = self.plan.decode(&mut input, row, &mut self.columns);
            outcome.map_err(|e| undecodable(&e))?;
            self.at += before - input.len();
            self.left -= 1;
            match self.skip {
                0 => row += 1,
                _ => self.skip -= 1,
            }
            if self.left == 0 && self.at < self.block.len() {
                return Err(damaged("a block is longer than its records"));
            }
        }
        if row == 0 {
            return Ok(None);
        }
        // The last record may have been one to be skipped.
        self.columns.iter_mut().for_each(|column| column.truncate(row));
        let columns = self.columns.iter_mut().map(|column| column.finish(row)).collect::<Result<Vec<_>>>()?;
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(row));
        Ok(Some(RecordBatch::try_new_with_options(self.schema.arrow().clone(), columns, &options)?))
    }
}

fn codec_of(name: &str) -> Result<Codec> {
    if let Some((_, codec)) = Codec::ALL.iter().find(|(known, _)| *known == name) {
        return Ok(*codec);
    }
    let known: Vec<&str> = Codec::ALL.iter().map(|(known, _)| *known).collect();
    Err(Error::unsupported(format!("Avro's codec '{name}'")).detail(format!("known codecs: {}", known.join(", "))))
}

fn read_exact(source: &mut impl Read, out: &mut [u8]) -> Result<()> {
    source.read_exact(out).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        _ => Error::from(e),
    })
}

fn read_long(source: &mut impl Read) -> Result<i64> {
    read_long_or_end(source)?.ok_or_else(|| damaged("it ends too early"))
}

/// `None` at the end of the file.
fn read_long_or_end(source: &mut impl Read) -> Result<Option<i64>> {
    let mut digits = vec![];
    loop {
        let mut byte = [0];
        if source.read(&mut byte)? == 0 {
            return if digits.is_empty() { Ok(None) } else { Err(damaged("it ends too early")) };
        }
        digits.push(byte[0]);
        if byte[0] & 0x80 == 0 || digits.len() > 10 {
            return long(&mut digits.as_slice()).map(Some).map_err(damaged);
        }
    }
}

/// Bytes behind their length. A damaged length allocates no more than there is.
fn read_bytes(source: &mut impl Read) -> Result<Vec<u8>> {
    let length = usize::try_from(read_long(source)?).ok().filter(|n| *n <= MAX_BYTES);
    let length = length.ok_or_else(|| damaged("a length is out of range"))?;
    let mut out = vec![];
    source.take(length as u64).read_to_end(&mut out)?;
    match out.len() == length {
        true => Ok(out),
        false => Err(damaged("it ends too early")),
    }
}
