//! Rows to records: key and value in their formats, deletes as tombstones.

use super::log::Record;
use crate::formats::message::{MessageEncoder, MessageFormat, write_messages};
use crate::kafka::Flavor;
use crate::kafka::columns::RecordColumns;
use crate::kafka::formats::{key_options, value_options};
use millstream_core::connector::TableDef;
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Batch, Error, Result, RowKind, Schema};

/// What of a row goes where.
#[derive(Clone, Debug)]
pub(super) struct RecordFormat {
    /// Rows that are deleted are records without a value.
    is_upsert: bool,
    key: Option<Part>,
    value: Part,
}

#[derive(Clone, Debug)]
struct Part {
    columns: Vec<usize>,
    schema: Schema,
    format: MessageFormat,
}

impl RecordFormat {
    /// What the options say about keys and values of messages to `topic`.
    pub(super) fn read(flavor: Flavor, table: &TableDef, options: &Options, topic: &str) -> Result<RecordFormat> {
        let columns = RecordColumns::of_table(flavor, table, options)?;
        let part = |columns: &[usize], fields, options: &Options, subject: &str| {
            let schema = Schema::new(fields);
            let of_part = TableDef { schema: schema.clone(), ..table.clone() };
            let format = write_messages(&of_part, options, subject)?;
            Ok::<_, Error>(Part { columns: columns.to_vec(), schema, format })
        };
        let key = match key_options(flavor, options, !columns.key.is_empty())? {
            None => None,
            Some(options) => {
                let key = part(&columns.key, columns.key_fields(table), &options, &format!("{topic}-key"))?;
                if !key.format.accepts().is_insert_only() {
                    return Err(options.error("format", "a key can't be in a format of changes"));
                }
                Some(key)
            }
        };
        let value_options = value_options(flavor, options)?;
        let value = part(&columns.value, columns.value_fields(table), &value_options, &format!("{topic}-value"))?;
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
        Ok(RecordFormat { is_upsert, key, value })
    }

    pub(super) fn accepts(&self) -> ChangelogMode {
        if self.is_upsert { ChangelogMode::UPSERT } else { self.value.format.accepts() }
    }

    pub(super) fn encoder(&self) -> Result<RecordEncoder> {
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
}

impl RecordEncoder {
    /// Hands the records of `batch` to `each`.
    pub(super) fn encode(&mut self, batch: &Batch, each: &mut dyn FnMut(&Record) -> Result<()>) -> Result<()> {
        let RecordEncoder { is_upsert, key, value, keys, ends } = self;
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
            each(&Record { key, value, ..Record::default() })
        })
    }
}
