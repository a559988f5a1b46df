//! Reading topics: which partitions and offsets a job begins with, and the readers of its instances.

mod decode;
mod ids;
mod lookup;
mod position;
mod queue;
mod reader;
#[cfg(test)]
mod tests;

use super::client::{Cluster, Point, TopicPartition, place};
use super::columns::RecordColumns;
use super::metadata::{self, MetadataColumns};
use super::options::{Bounded, KafkaTable, Reset, Startup, Topics};
use super::{Flavor, formats as message_formats};
use crate::filesystem::dead_letter_folder;
use crate::throttle::{self, Rates};
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::format::{DecoderFactory, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::source::{Source, SourceContext, SourceReader};
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Field, Result, Schema};
use position::{FIRST, Position, SplitPosition};
use reader::KafkaReader;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Topics, for reading.
#[derive(Clone, Debug)]
pub struct KafkaSource(Arc<Plan>);

/// What the readers of one source share.
#[derive(Clone, Debug)]
struct Plan {
    pub table: KafkaTable,
    pub schema: Schema,
    pub metadata: MetadataColumns,
    /// The value's fields, then the metadata columns that its format has.
    pub value_schema: Schema,
    /// The columns in the key, with the names of the key's own fields.
    pub key_names: Vec<(String, String)>,
    pub key_decoders: Option<Arc<dyn DecoderFactory>>,
    pub value_decoders: Arc<dyn DecoderFactory>,
    pub changelog: ChangelogMode,
    /// For people.
    format: String,
    pub is_upsert: bool,
    pub dead_letters: Option<PathBuf>,
    zone: SessionZone,
    /// What a job that starts anew reads, if that has been decided.
    pub start: Option<Position>,
}

impl Plan {
    /// The column at `index`, made as `from`, as it is declared.
    pub fn cast(&self, index: usize, from: &Field, to: &Field) -> Result<ExprRef> {
        let column = millstream_expr::build::column(index, from.data_type.clone(), from.name.clone());
        if from.data_type == to.data_type {
            return Ok(column);
        }
        let cast = millstream_expr::build::cast(column, to.data_type.clone(), false, &self.zone);
        cast.map_err(|e| e.context(format!("read the metadata column '{}'", to.name)))
    }
}

impl KafkaSource {
    /// The source that a table's options describe; the caller refuses options that nobody read.
    pub fn build(flavor: Flavor, table: &TableDef, options: &Options, session: &SessionInfo) -> Result<KafkaSource> {
        let of_options = KafkaTable::read(flavor, options)?;
        of_options.check_scan(options)?;
        let rates = Rates {
            rows_per_second: of_options.scan.rows_per_second,
            bytes_per_second: of_options.scan.bytes_per_second,
        };
        throttle::declare(&table.name, rates);
        let columns = RecordColumns::of_table(flavor, table, options)?;
        let is_upsert = flavor == Flavor::UpsertKafka;
        let on_bad = match of_options.scan.dead_letters {
            Some(_) => OnBadRecord::DeadLetter,
            None => OnBadRecord::Fail,
        };
        let value_options = message_formats::value_options(flavor, options)?;
        let in_format = crate::formats::metadata_keys(&value_options);
        let metadata = metadata::of_table(table, &in_format)?;
        let mut value_fields = columns.value_fields(table);
        for (column, key) in &metadata.of_value {
            if let Some((_, kind)) = in_format.iter().find(|(known, _)| known == key) {
                value_fields.push(Field { name: column.clone(), data_type: kind.clone().nullable() });
            }
        }
        let value_schema = Schema::new(value_fields);
        let value_table =
            TableDef { schema: value_schema.clone(), metadata: metadata.of_value.clone(), ..table.clone() };
        let value = message_formats::read(&value_table, &value_options, on_bad)?;
        if is_upsert && !value.changelog.is_insert_only() {
            return Err(value_options
                .error("format", format!("'upsert-kafka' takes no values that are changes, as of '{}'", value.name))
                .hint("the connector 'kafka' reads them"));
        }
        let key = match message_formats::key_options(flavor, options, !columns.key.is_empty())? {
            None => None,
            Some(key_options) => {
                let key_table = TableDef {
                    schema: Schema::new(columns.key_fields(table)),
                    metadata: BTreeMap::new(),
                    ..table.clone()
                };
                let key = message_formats::read(&key_table, &key_options, on_bad)?;
                if !key.changelog.is_insert_only() {
                    let message = format!("the format '{}' is one of changes, not of keys", key.name);
                    return Err(key_options.error("format", message));
                }
                Some(key)
            }
        };
        let names = columns.key.iter().map(|column| table.schema.fields[*column].name.clone());
        let own_names = columns.key_fields(table).into_iter().map(|field| field.name);
        let format = match &key {
            Some(key) => format!("key.format={}, value.format={}", key.name, value.name),
            None => format!("format={}", value.name),
        };
        let dead_letters = match &of_options.scan.dead_letters {
            Some(text) => Some(dead_letter_folder(text, session).map_err(|e| e.at(options.place("dead-letter.path")))?),
            None => None,
        };
        let zone: SessionZone = session.time_zone.parse()?;
        let plan = Plan {
            table: of_options,
            schema: table.schema.clone(),
            metadata,
            value_schema,
            key_names: names.zip(own_names).collect(),
            key_decoders: key.map(|key| key.decoders),
            value_decoders: value.decoders,
            changelog: if is_upsert { ChangelogMode::UPSERT } else { value.changelog },
            format,
            is_upsert,
            dead_letters,
            zone,
            start: None,
        };
        // Casts that can't be are told now.
        decode::RowMaker::new(&plan, &plan.schema)?;
        Ok(KafkaSource(Arc::new(plan)))
    }
}

impl Source for KafkaSource {
    fn schema(&self) -> &Schema {
        &self.0.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(KafkaSource(Arc::new(Plan { schema, ..(*self.0).clone() }))))
    }
    fn changelog(&self) -> ChangelogMode {
        self.0.changelog
    }
    fn is_bounded(&self) -> bool {
        self.0.table.scan.bounded != Bounded::Unbounded
    }
    fn describe(&self) -> String {
        format!("{}({}, {})", self.0.table.flavor.name(), self.0.table.topics, self.0.format)
    }
    fn start(&self) -> Result<Option<String>> {
        let text = String::from_utf8(start(&self.0.table)?.encode()?);
        text.map(Some).map_err(|e| Error::internal(format!("a position is no text: {e}")))
    }
    fn starting_at(&self, start: &str) -> Result<Arc<dyn Source>> {
        let start = Some(Position::decode(start.as_bytes())?);
        Ok(Arc::new(KafkaSource(Arc::new(Plan { start, ..(*self.0).clone() }))))
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(KafkaReader::open(self.0.clone(), ctx)?))
    }
}

/// Where a job that starts anew begins and ends, from what the servers say now.
fn start(table: &KafkaTable) -> Result<Position> {
    let cluster = Cluster::new(table)?;
    let topics = cluster.topics()?;
    topics.iter().try_for_each(|topic| topic.check_rights(table, "topic", false))?;
    let all: Vec<TopicPartition> =
        topics.iter().flat_map(|topic| (0..topic.partitions).map(|p| (topic.name.clone(), p))).collect();
    let starts = match &table.scan.startup {
        Startup::Earliest => BTreeMap::new(),
        Startup::Latest => cluster.offsets(&all, Point::End)?,
        Startup::Timestamp(ms) => cluster.offsets(&all, Point::Time(*ms))?,
        Startup::Group => group_starts(table, &cluster, &all)?,
        Startup::Offsets(offsets) => {
            let key = "scan.startup.specific-offsets";
            check_offsets(table, &cluster, &all, key, offsets)?;
            named(&all, offsets)
        }
    };
    let stops = match &table.scan.bounded {
        Bounded::Unbounded => BTreeMap::new(),
        Bounded::Latest => cluster.offsets(&all, Point::End)?,
        Bounded::Timestamp(ms) => cluster.offsets(&all, Point::Time(*ms))?,
        Bounded::Group => {
            let stops = cluster.committed(&all)?;
            if let Some((topic, partition)) = all.iter().find(|partition| !stops.contains_key(*partition)) {
                return Err(Error::script(format!(
                    "the group has no offset for partition {partition} of topic '{topic}'"
                ))
                .at(place(table, "scan.bounded.mode")));
            }
            stops
        }
        Bounded::Offsets(offsets) => {
            let key = "scan.bounded.specific-offsets";
            check_partitions(table, &all, key, offsets.keys())?;
            all.iter().map(|(t, p)| ((t.clone(), *p), offsets.get(p).copied().unwrap_or(0))).collect()
        }
    };
    let id = |name: &str| topics.iter().find(|topic| topic.name == name).and_then(|topic| topic.id.clone());
    let split = |partition: &TopicPartition| SplitPosition {
        topic: partition.0.clone(),
        id: id(&partition.0),
        partition: partition.1,
        next: starts.get(partition).copied().unwrap_or(FIRST),
        stop: stops.get(partition).copied(),
    };
    Ok(Position::new(all.iter().map(split).collect()))
}

/// Offsets by partition of the only topic.
fn named(all: &[TopicPartition], offsets: &BTreeMap<i32, i64>) -> BTreeMap<TopicPartition, i64> {
    all.iter().filter_map(|(t, p)| offsets.get(p).map(|offset| ((t.clone(), *p), *offset))).collect()
}

/// Where the group stands; what it has no offset for begins as `properties.auto.offset.reset` says.
fn group_starts(
    table: &KafkaTable,
    cluster: &Cluster,
    all: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut starts = cluster.committed(all)?;
    let missing: Vec<TopicPartition> = all.iter().filter(|p| !starts.contains_key(*p)).cloned().collect();
    match (table.scan.reset, missing.first()) {
        (_, None) | (Reset::Earliest, _) => {}
        (Reset::Latest, _) => starts.extend(cluster.offsets(&missing, Point::End)?),
        (Reset::None, Some((topic, partition))) => {
            let group = table.properties.group_id.as_deref().unwrap_or_default();
            return Err(Error::script(format!(
                "the group '{group}' has no offset for partition {partition} of topic '{topic}'"
            ))
            .at(place(table, "scan.startup.mode"))
            .hint("'properties.auto.offset.reset' = 'earliest' or 'latest' says where such partitions begin"));
        }
    }
    Ok(starts)
}

fn check_partitions<'p>(
    table: &KafkaTable,
    all: &[TopicPartition],
    key: &str,
    named: impl Iterator<Item = &'p i32>,
) -> Result<()> {
    let mut named = named;
    match named.find(|partition| !all.iter().any(|(_, p)| p == *partition)) {
        None => Ok(()),
        Some(partition) => {
            let topic = match &table.topics {
                Topics::List(names) => names.join(";"),
                Topics::Pattern(pattern) => pattern.to_string(),
            };
            let error = Error::script(format!("topic '{topic}' has no partition {partition}"));
            Err(error.at(place(table, key)).detail(format!("it has {} partitions", all.len())))
        }
    }
}

/// Refuses offsets at which no record can be read: that would begin elsewhere than it says.
fn check_offsets(
    table: &KafkaTable,
    cluster: &Cluster,
    all: &[TopicPartition],
    key: &str,
    offsets: &BTreeMap<i32, i64>,
) -> Result<()> {
    check_partitions(table, all, key, offsets.keys())?;
    let (first, end) = (cluster.offsets(all, Point::Begin)?, cluster.offsets(all, Point::End)?);
    for (partition, wanted) in named(all, offsets) {
        let range = (first.get(&partition).copied().unwrap_or(0), end.get(&partition).copied().unwrap_or(i64::MAX));
        if wanted < range.0 || wanted > range.1 {
            let message = format!("partition {} of topic '{}' has no offset {wanted}", partition.1, partition.0);
            return Err(Error::script(message)
                .at(place(table, key))
                .detail(format!("its records are at {} and up to {}", range.0, range.1)));
        }
    }
    Ok(())
}
