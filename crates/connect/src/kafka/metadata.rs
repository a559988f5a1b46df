//! Metadata columns of records: `topic`, `partition`, `offset`, `timestamp`, `timestamp-type`, `headers`, `leader-epoch`.

use super::options::{TOPIC_PATTERN, topic_names};
use millstream_core::connector::TableDef;
use millstream_core::suggest::did_you_mean;
use millstream_core::{Error, Place, Result, TypeKind};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a record besides key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordMetadata {
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The offset in the partition.
    Offset,
    /// The time of its making, or of its writing.
    Timestamp,
    /// Which of the two.
    TimestampType,
    /// The headers; of several of one name the last.
    Headers,
    /// The leader's epoch when it was written.
    LeaderEpoch,
}

impl RecordMetadata {
    /// All of them.
    pub const ALL: [RecordMetadata; 7] = [
        RecordMetadata::Topic,
        RecordMetadata::Partition,
        RecordMetadata::Offset,
        RecordMetadata::Timestamp,
        RecordMetadata::TimestampType,
        RecordMetadata::Headers,
        RecordMetadata::LeaderEpoch,
    ];

    /// The key in `METADATA FROM`.
    pub fn key(self) -> &'static str {
        match self {
            RecordMetadata::Topic => "topic",
            RecordMetadata::Partition => "partition",
            RecordMetadata::Offset => "offset",
            RecordMetadata::Timestamp => "timestamp",
            RecordMetadata::TimestampType => "timestamp-type",
            RecordMetadata::Headers => "headers",
            RecordMetadata::LeaderEpoch => "leader-epoch",
        }
    }

    /// The type that it is of; a column of another one gets it cast.
    pub fn kind(self) -> TypeKind {
        match self {
            RecordMetadata::Topic | RecordMetadata::TimestampType => TypeKind::STRING,
            RecordMetadata::Partition | RecordMetadata::LeaderEpoch => TypeKind::Int,
            RecordMetadata::Offset => TypeKind::BigInt,
            RecordMetadata::Timestamp => TypeKind::TimestampLtz(3),
            RecordMetadata::Headers => {
                TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::BYTES.nullable()))
            }
        }
    }
}

/// What records of a table can be written with: the topic only if the table has several of them (flink docs: "Available
/// Metadata").
pub fn writable(table: &TableDef) -> Vec<RecordMetadata> {
    let topics = table.options.get("topic").map_or_else(BTreeSet::new, |names| topic_names(names).collect());
    let has_several = topics.len() > 1 || table.options.contains_key(TOPIC_PATTERN);
    let all = [RecordMetadata::Topic, RecordMetadata::Timestamp, RecordMetadata::Headers];
    all.into_iter().filter(|metadata| has_several || *metadata != RecordMetadata::Topic).collect()
}

/// What a table's metadata columns stand for, by their names.
#[derive(Clone, Debug, Default)]
pub struct MetadataColumns {
    /// Those about the record.
    pub of_record: BTreeMap<String, RecordMetadata>,
    /// Those that the value's format has, by their keys without `value.`.
    pub of_value: BTreeMap<String, String>,
}

/// Reads them; `in_format`: the keys that the value's format has.
pub fn of_table(table: &TableDef, in_format: &[(&'static str, TypeKind)]) -> Result<MetadataColumns> {
    let mut found = MetadataColumns::default();
    for (column, key) in &table.metadata {
        if let Some(metadata) = RecordMetadata::ALL.into_iter().find(|metadata| metadata.key() == key) {
            found.of_record.insert(column.clone(), metadata);
            continue;
        }
        let of_value = key.strip_prefix("value.");
        if let Some((key, _)) = of_value.and_then(|key| in_format.iter().find(|(known, _)| *known == key)) {
            found.of_value.insert(column.clone(), key.to_string());
            continue;
        }
        let known = RecordMetadata::ALL.iter().map(|metadata| metadata.key().to_string());
        let known: Vec<String> = known.chain(in_format.iter().map(|(key, _)| format!("value.{key}"))).collect();
        let error = Error::script(format!("there is no metadata '{key}'"))
            .at(Place::Named(format!("table '{}', column '{column}'", table.name)))
            .detail(format!("known metadata: {}", known.join(", ")));
        return Err(match did_you_mean(key, known.iter().map(String::as_str)) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    Ok(found)
}
