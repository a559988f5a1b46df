//! Rows to records: key and value in their formats, deletes as tombstones, metadata columns as what they stand for.

use super::log::Record;
use super::targets::Targets;
use crate::formats::message::{MessageEncoder, MessageFormat, write_messages};
use crate::kafka::Flavor;
use crate::kafka::columns::RecordColumns;
use crate::kafka::formats::{key_options, value_options};
use crate::kafka::metadata::RecordMetadata;
use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMillisecondType;
use millstream_core::connector::TableDef;
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Batch, Error, Place, Result, RowKind, Schema};
use std::collections::BTreeMap;

/// What of a row goes where.
#[derive(Clone, Debug)]
pub(super) struct RecordFormat {
    /// Rows that are deleted are records without a value.
    is_upsert: bool,
    key: Option<Part>,
    value: Part,
    metadata: Metadata,
}

/// The metadata columns, by their places in the table's schema.
#[derive(Clone, Debug, Default)]
struct Metadata {
    table: String,
    topic: Option<usize>,
    timestamp: Option<usize>,
    headers: Option<usize>,
}

impl Metadata {
    fn of_table(table: &TableDef) -> Result<Metadata> {
        let mut metadata = Metadata { table: table.name.clone(), ..Metadata::default() };
        for (column, key) in &table.metadata {
            let at = table.schema.index_of(column);
            match RecordMetadata::ALL.into_iter().find(|known| known.key() == key) {
                Some(RecordMetadata::Topic) => metadata.topic = at,
                Some(RecordMetadata::Timestamp) => metadata.timestamp = at,
                Some(RecordMetadata::Headers) => metadata.headers = at,
                _ => return Err(Error::internal(format!("the metadata '{key}' is none that is written"))),
            }
        }
        Ok(metadata)
    }

    /// Adds to a record what the row's metadata columns say, but for its topic.
    fn fill<'b>(&self, batch: &'b Batch, row: usize, record: &mut Record<'b>) -> Result<()> {
        let refused = |message: String, column: usize| {
            let column = batch.rows.schema_ref().field(column).name();
            Err(Error::data(message).at(Place::Named(format!("table '{}', column '{column}'", self.table))))
        };
        if let Some(column) = self.timestamp.filter(|column| batch.column(*column).is_valid(row)) {
            let ms = batch.column(column).as_primitive::<TimestampMillisecondType>().value(row);
            // The client takes 0 for now.
            if ms <= 0 {
                return refused(format!("a record can't be of a time before 1970: {ms} ms"), column);
            }
            record.timestamp_ms = Some(ms);
        }
        if let Some(column) = self.headers.filter(|column| batch.column(*column).is_valid(row)) {
            let map = batch.column(column).as_map();
            let (names, values) = (map.keys().as_string::<i32>(), map.values().as_binary::<i32>());
            let [from, to] = [row, row + 1].map(|at| usize::try_from(map.value_offsets()[at]).unwrap_or(0));
            // As in Flink, what has no value is left out.
            for at in (from..to).filter(|at| names.is_valid(*at) && values.is_valid(*at)) {
                if names.value(at).contains('\0') {
                    return refused("a header's name holds a zero".into(), column);
                }
                record.headers.push((names.value(at), Some(values.value(at))));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Part {
    columns: Vec<usize>,
    schema: Schema,
    format: MessageFormat,
}

impl RecordFormat {
    /// What the options say about keys and values of messages to `topic`; none: to several.
    pub(super) fn read(
        flavor: Flavor,
        table: &TableDef,
        options: &Options,
        topic: Option<&str>,
    ) -> Result<RecordFormat> {
        let columns = RecordColumns::of_table(flavor, table, options)?;
        let part = |columns: &[usize], fields, options: &Options, kind: &str| {
            let schema = Schema::new(fields);
            let of_part = TableDef { schema: schema.clone(), metadata: BTreeMap::new(), ..table.clone() };
            let subject = topic.map(|topic| format!("{topic}-{kind}"));
            let format = write_messages(&of_part, options, subject.as_deref())?;
            Ok::<_, Error>(Part { columns: columns.to_vec(), schema, format })
        };
        let key = match key_options(flavor, options, !columns.key.is_empty())? {
            None => None,
            Some(options) => {
                let key = part(&columns.key, columns.key_fields(table), &options, "key")?;
                if !key.format.accepts().is_insert_only() {
                    return Err(options.error("format", "a key can't be in a format of changes"));
                }
                Some(key)
            }
        };
        let value_options = value_options(flavor, options)?;
        let value = part(&columns.value, columns.value_fields(table), &value_options, "value")?;
        let is_upsert = flavor == Flavor::UpsertKafka;
        if is_upsert && !value.format.accepts().is_insert_only() {
            return Err(value_options.error("format", "connector 'upsert-kafka' takes no format of changes"));
        }
        if !table.primary_key.is_empty() && !is_upsert && value.format.accepts().is_insert_only() {
            return Err(Error::script(format!(
                "table '{}' of connector 'kafka' has a primary key, but its format has no updates",
                table.name
            ))
            .hint("use the connector 'upsert-kafka', or leave the primary key out"));
        }
        Ok(RecordFormat { is_upsert, key, value, metadata: Metadata::of_table(table)? })
    }

    /// The place of the column that tells a row's topic.
    pub(super) fn topic_column(&self) -> Option<usize> {
        self.metadata.topic
    }

    pub(super) fn accepts(&self) -> ChangelogMode {
        if self.is_upsert { ChangelogMode::UPSERT } else { self.value.format.accepts() }
    }

    /// `targets`: where rows may go, of a table of several topics.
    pub(super) fn encoder(&self, targets: Option<Targets>) -> Result<RecordEncoder> {
        let part = |part: &Part| {
            let encoder = part.format.encoder()?;
            Ok::<_, Error>(PartEncoder { columns: part.columns.clone(), schema: part.schema.clone(), encoder })
        };
        Ok(RecordEncoder {
            is_upsert: self.is_upsert,
            key: self.key.as_ref().map(part).transpose()?,
            value: part(&self.value)?,
            keys: Vec::new(),
            ends: Vec::new(),
            metadata: self.metadata.clone(),
            targets,
        })
    }
}

struct PartEncoder {
    columns: Vec<usize>,
    schema: Schema,
    encoder: MessageEncoder,
}

impl PartEncoder {
    fn encode(&mut self, batch: &Batch, each: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>) -> Result<()> {
        let columns = self.columns.iter().map(|c| batch.column(*c).clone()).collect();
        let part = Batch::from_columns(self.schema.arrow().clone(), columns, batch.num_rows())?;
        self.encoder.encode(&part.with_kinds(batch.kinds.clone()), each)
    }
}

/// Makes records of rows.
pub(super) struct RecordEncoder {
    is_upsert: bool,
    key: Option<PartEncoder>,
    value: PartEncoder,
    /// The keys of a batch, one after the other, and where each ends; none: it has no content.
    keys: Vec<u8>,
    ends: Vec<(usize, bool)>,
    metadata: Metadata,
    targets: Option<Targets>,
}

impl RecordEncoder {
    /// Hands the records of `batch` to `each`.
    pub(super) fn encode(&mut self, batch: &Batch, each: &mut dyn FnMut(&Record) -> Result<()>) -> Result<()> {
        let RecordEncoder { is_upsert, key, value, keys, ends, metadata, targets } = self;
        keys.clear();
        ends.clear();
        if let Some(key) = key {
            key.encode(&Batch::insert_only(batch.rows.clone()), &mut |_, bytes| {
                keys.extend_from_slice(bytes.unwrap_or_default());
                ends.push((keys.len(), bytes.is_some()));
                Ok(())
            })?;
        }
        let rows = if *is_upsert { Batch::insert_only(batch.rows.clone()) } else { batch.clone() };
        let mut start = 0;
        value.encode(&rows, &mut |row, bytes| {
            let key = ends.get(row).and_then(|(end, is_some)| {
                let key = keys.get(std::mem::replace(&mut start, *end)..*end);
                key.filter(|_| *is_some)
            });
            let value = match batch.kind(row) {
                RowKind::UpdateBefore if *is_upsert => return Ok(()),
                RowKind::Delete if *is_upsert => None,
                _ => bytes,
            };
            let mut record = Record { key, value, ..Record::default() };
            metadata.fill(batch, row, &mut record)?;
            if let (Some(targets), Some(column)) = (&mut *targets, metadata.topic) {
                let column = batch.column(column).as_string::<i32>();
                record.topic = Some(targets.check(column.is_valid(row).then(|| column.value(row)))?);
            }
            each(&record)
        })
    }
}
