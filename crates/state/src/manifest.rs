//! The manifest: what one complete checkpoint consists of, as versioned and checksummed JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use millstream_core::key::HashRange;
use millstream_core::operator::TableSpec;
use millstream_core::{Error, Place, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// The version of the manifest's format that this program writes.
pub const MANIFEST_VERSION: u64 = 1;

/// Opaque bytes, stored as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(pub Bytes);

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Blob(bytes.into())
    }
}
impl From<Blob> for Vec<u8> {
    fn from(blob: Blob) -> Self {
        blob.0.into()
    }
}
impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}
impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(&text).map(Blob::from).map_err(de::Error::custom)
    }
}

/// One complete checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The epoch that it completes.
    pub epoch: u64,
    /// The attempt that wrote it.
    pub attempt: u64,
    /// The job's id.
    pub job_id: String,
    /// The plan's fingerprint.
    pub fingerprint: String,
    /// When it was written, in milliseconds since 1970.
    pub created_ms: i64,
    /// Whether all inputs have ended.
    pub ended: bool,
    /// The state of each operator that has any.
    pub operators: Vec<OperatorEntry>,
    /// Positions of the sources' readers, by node id.
    pub sources: BTreeMap<String, Vec<Blob>>,
    /// Committables of the sinks that are to be committed once this is stored, by node id.
    pub pending: BTreeMap<String, Vec<Blob>>,
    /// The objects of the `data` folder that these refer to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sink_objects: BTreeSet<String>,
    /// What it took.
    pub stats: CheckpointStats,
}

/// What a checkpoint took, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointStats {
    /// Milliseconds from the trigger to the last acknowledgement.
    pub duration_ms: u64,
    /// Bytes of state that this epoch added.
    pub bytes: u64,
    /// Rows, upserts and deletes, that this epoch added.
    pub rows: u64,
}

/// The state of one operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorEntry {
    /// The node's id in the job graph.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What its state is about (aggregates of what, keys, windows), as text: an operator of another meaning can't go on
    /// with it. Empty: its tables' shapes say enough.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// Its tables.
    pub tables: Vec<StoredTable>,
    /// What each instance handed over unkeyed.
    pub instances: Vec<Blob>,
}

/// One table's shape and its segments, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTable {
    /// The table's name.
    pub name: String,
    /// The columns, for people: name and type.
    pub columns: Vec<String>,
    /// The Arrow schema, as an Arrow IPC stream without batches.
    pub schema: Blob,
    /// Positions of the key columns.
    pub key: Vec<usize>,
    /// Positions of the columns that say which worker owns a row.
    pub partition_by: Vec<usize>,
    /// Position of the column by which rows expire.
    pub time: Option<usize>,
    /// The segments, by epoch.
    pub segments: Vec<Segment>,
}

/// Some rows of a table: those of one epoch and writer, or several merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The epoch whose changes it holds; of several merged ones the last.
    pub epoch: u64,
    /// Where the hashes of its keys lie, and for which hashes `expired_below` holds.
    pub hash_range: HashRange,
    /// The number of upserted rows.
    pub rows: u64,
    /// The number of deleted keys.
    pub deletes: u64,
    /// Rows of earlier epochs whose time is below this are gone.
    pub expired_below: Option<i64>,
    /// Where its bytes are.
    pub location: Location,
    /// XXH3 (64 bits, hexadecimal) of its bytes.
    pub checksum: String,
}

/// Where a segment's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Location {
    /// In the manifest itself.
    Inline(Blob),
    /// In an object of the `data` folder.
    Object {
        /// The object's name.
        name: String,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
}

impl Segment {
    /// The number of its bytes.
    pub fn size(&self) -> u64 {
        match &self.location {
            Location::Inline(bytes) => bytes.0.len() as u64,
            Location::Object { length, .. } => *length,
        }
    }
    /// Whether it changes nothing and need not be kept.
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.deletes == 0 && self.expired_below.is_none()
    }
}

impl StoredTable {
    /// A table of this shape without segments.
    pub fn of(spec: &TableSpec) -> Result<StoredTable> {
        Ok(StoredTable {
            name: spec.name.clone(),
            columns: spec.schema.fields.iter().map(|f| format!("{} {}", f.name, f.data_type)).collect(),
            schema: crate::segment::encode_schema(spec.schema.arrow())?.into(),
            key: spec.key.clone(),
            partition_by: spec.partition_by.clone(),
            time: spec.time,
            segments: vec![],
        })
    }
    /// Adds the segment of a new epoch; one that changes nothing is left out.
    pub fn push(&mut self, segment: Segment) {
        if !segment.is_empty() {
            let at = self.segments.partition_point(|s| s.epoch <= segment.epoch);
            self.segments.insert(at, segment);
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    version: u64,
    checksum: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

fn render(version: u64, checksum: &str, content: &str) -> String {
    format!("{{\"version\":{version},\"checksum\":\"{checksum}\",\"manifest\":{content}}}\n")
}

/// The checksum as it is stored.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// What to do about stored state that can't be read.
pub(crate) const DAMAGED_HINT: &str =
    "start with --from PATH of an older manifest, or with --from none to begin without state";

impl Manifest {
    /// The file's text.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let content = serde_json::to_string(self).map_err(|e| Error::internal(e.to_string()))?;
        Ok(render(MANIFEST_VERSION, &checksum(content.as_bytes()), &content).into_bytes())
    }

    /// Reads a file's text; `path` is for errors. A newer version, a wrong checksum or any other
    /// damage is a State error.
    pub fn decode(bytes: &[u8], path: &str) -> Result<Manifest> {
        let fail = |message: &str, detail: String| {
            Error::state(message)
                .at(Place::File { path: path.to_string(), line: None })
                .detail(detail)
                .hint(DAMAGED_HINT)
        };
        let damaged = |detail: String| fail("the manifest is damaged", detail);
        let text = std::str::from_utf8(bytes).map_err(|e| damaged(e.to_string()))?;
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        if version != MANIFEST_VERSION {
            return Err(fail(
                "the manifest has a version that this program can't read",
                format!("it has version {version}; this program knows version {MANIFEST_VERSION}"),
            ));
        }
        let envelope: Envelope = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        let content = envelope.manifest.get();
        let actual = checksum(content.as_bytes());
        if actual != envelope.checksum {
            return Err(damaged(format!("its checksum is {actual}, it should be {}", envelope.checksum)));
        }
        if render(envelope.version, &actual, content) != text {
            return Err(damaged("there is more in the file than was written".into()));
        }
        serde_json::from_str(content).map_err(|e| damaged(e.to_string()))
    }

    /// The objects that its segments lie in, and those of its sinks.
    pub fn objects(&self) -> BTreeSet<&str> {
        let segments = self.operators.iter().flat_map(|o| &o.tables).flat_map(|t| &t.segments);
        segments
            .filter_map(|s| match &s.location {
                Location::Object { name, .. } => Some(name.as_str()),
                Location::Inline(_) => None,
            })
            .chain(self.sink_objects.iter().map(String::as_str))
            .collect()
    }
    /// The entry of an operator.
    pub fn operator(&self, id: &str) -> Option<&OperatorEntry> {
        self.operators.iter().find(|o| o.id == id)
    }
    /// A table of an operator.
    pub fn table(&self, operator: &str, table: &str) -> Option<&StoredTable> {
        self.operator(operator)?.tables.iter().find(|t| t.name == table)
    }
}
