//! The epoch log: records of an epoch, serialised, in objects beside the checkpoint.

use millstream_core::sink::EpochStorage;
use millstream_core::{Error, Place, Result, fail_point};
use serde::{Deserialize, Serialize};

/// An object begins with this, and with a version.
const MAGIC: &[u8; 7] = b"MSTRLOG";
/// All records go to the sink's only topic.
const OF_ONE_TOPIC: u8 = 1;
/// Records may name their topic.
const OF_TOPICS: u8 = 2;

const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;
const HAS_TIMESTAMP: u8 = 4;
const HAS_HEADERS: u8 = 8;
const HAS_TOPIC: u8 = 16;

/// A record on its way to a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::kafka) struct Record<'a> {
    /// None: the sink's only one.
    pub(in crate::kafka) topic: Option<&'a str>,
    pub(in crate::kafka) key: Option<&'a [u8]>,
    /// None: a tombstone.
    pub(in crate::kafka) value: Option<&'a [u8]>,
    /// Milliseconds since 1970; none: when it is sent.
    pub(in crate::kafka) timestamp_ms: Option<i64>,
    pub(in crate::kafka) headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// Where an object is and what it must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::kafka) struct LogObject {
    pub(in crate::kafka) name: String,
    pub(in crate::kafka) records: u64,
    pub(in crate::kafka) bytes: u64,
    /// CRC-32 of its bytes.
    pub(in crate::kafka) crc: u32,
}

impl LogObject {
    /// Stores a buffer of records.
    pub(super) fn store(storage: &dyn EpochStorage, epoch: u64, buffer: Buffer) -> Result<LogObject> {
        let (records, bytes, crc) = (buffer.records, buffer.bytes.len() as u64, crc32fast::hash(&buffer.bytes));
        fail_point!("kafka::before_log_put")?;
        let name = storage.put(epoch, buffer.bytes)?;
        fail_point!("kafka::after_log_put")?;
        Ok(LogObject { name, records, bytes, crc })
    }

    /// Its bytes, for [`records`].
    pub(super) fn read(&self, storage: &dyn EpochStorage) -> Result<Vec<u8>> {
        let bytes = storage.read(&self.name)?;
        if bytes.len() as u64 != self.bytes || crc32fast::hash(&bytes) != self.crc {
            return Err(damaged("its checksum is another one").at(Place::Named(self.name.clone())));
        }
        Ok(bytes)
    }
}

fn damaged(why: &str) -> Error {
    Error::state("an object of the Kafka sink's log is damaged")
        .detail(why)
        .hint("start with --from PATH of an older manifest, or with --from none to begin without state")
}

/// Records being gathered for an object.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    records: u64,
}

impl Buffer {
    pub(super) fn push(&mut self, record: &Record) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(MAGIC);
            // A sink's records name their topics all or none.
            self.bytes.push(if record.topic.is_some() { OF_TOPICS } else { OF_ONE_TOPIC });
        }
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        self.bytes.push(
            flag(record.key.is_some(), HAS_KEY)
                | flag(record.value.is_some(), HAS_VALUE)
                | flag(record.timestamp_ms.is_some(), HAS_TIMESTAMP)
                | flag(!record.headers.is_empty(), HAS_HEADERS)
                | flag(record.topic.is_some(), HAS_TOPIC),
        );
        if let Some(topic) = record.topic {
            self.put(topic.as_bytes());
        }
        if let Some(ms) = record.timestamp_ms {
            self.bytes.extend_from_slice(&ms.to_le_bytes());
        }
        for part in [record.key, record.value].into_iter().flatten() {
            self.put(part);
        }
        if !record.headers.is_empty() {
            self.length(record.headers.len() as u64);
            for (name, value) in &record.headers {
                self.put(name.as_bytes());
                self.bytes.push(u8::from(value.is_some()));
                self.put(value.unwrap_or_default());
            }
        }
        self.records += 1;
    }
    fn put(&mut self, part: &[u8]) {
        self.length(part.len() as u64);
        self.bytes.extend_from_slice(part);
    }
    /// LEB128
    fn length(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }
}

/// The records of an object's bytes.
pub(in crate::kafka) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>>> {
    let mut rest = match bytes.strip_prefix(MAGIC) {
        Some([OF_ONE_TOPIC | OF_TOPICS, rest @ ..]) => Some(rest),
        _ => None,
    };
    let mut is_new = rest.is_none();
    std::iter::from_fn(move || {
        if std::mem::take(&mut is_new) {
            return Some(Err(damaged("it is no log, or that of a newer program")));
        }
        let from = rest.as_mut().filter(|r| !r.is_empty())?;
        let record = record(from);
        if record.is_none() {
            rest = None;
        }
        Some(record.ok_or_else(|| damaged("it ends within a record")))
    })
}

fn record<'a>(from: &mut &'a [u8]) -> Option<Record<'a>> {
    let flags = *take(from, 1)?.first()?;
    let mut record = Record::default();
    if flags & HAS_TOPIC != 0 {
        record.topic = Some(std::str::from_utf8(part(from)?).ok()?);
    }
    if flags & HAS_TIMESTAMP != 0 {
        record.timestamp_ms = Some(i64::from_le_bytes(take(from, 8)?.try_into().ok()?));
    }
    if flags & HAS_KEY != 0 {
        record.key = Some(part(from)?);
    }
    if flags & HAS_VALUE != 0 {
        record.value = Some(part(from)?);
    }
    if flags & HAS_HEADERS != 0 {
        for _ in 0..length(from)? {
            let name = std::str::from_utf8(part(from)?).ok()?;
            let is_some = *take(from, 1)?.first()? == 1;
            let value = part(from)?;
            record.headers.push((name, is_some.then_some(value)));
        }
    }
    Some(record)
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(taken)
}

fn part<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = length(from)?;
    take(from, usize::try_from(n).ok()?)
}

fn length(from: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(from, 1)?.first()?;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_and_what_is_cut_off_is_an_error() {
        let long = vec![7u8; 300];
        let all = [
            Record { key: Some(b"k"), value: Some(&long), ..Record::default() },
            Record { key: Some(b""), value: None, ..Record::default() },
            Record {
                topic: None,
                key: None,
                value: Some(b"v"),
                timestamp_ms: Some(-1),
                headers: vec![("a", Some(b"1")), ("b", None)],
            },
        ];
        let mut buffer = Buffer::default();
        all.iter().for_each(|r| buffer.push(r));
        let read: Vec<_> = records(&buffer.bytes).map(Result::unwrap).collect();
        assert_eq!(read, all);
        for cut in 1..buffer.bytes.len() {
            let read: Vec<_> = records(&buffer.bytes[..cut]).collect();
            let whole = read.iter().take_while(|r| r.is_ok()).count();
            assert!(whole < 3 && read.len() - whole <= 1, "cut at {cut}");
        }
        for other in [&b"something else"[..], b"MSTRLOG", b"MSTRLOG\x03"] {
            assert!(records(other).next().unwrap().is_err());
        }
        let all =
            ["a", "b"].map(|topic| Record { topic: Some(topic), key: Some(topic.as_bytes()), ..Record::default() });
        let mut buffer = Buffer::default();
        all.iter().for_each(|r| buffer.push(r));
        assert_eq!(records(&buffer.bytes).map(Result::unwrap).collect::<Vec<_>>(), all);
    }
}
