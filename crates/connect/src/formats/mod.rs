//! The formats: bytes to batches and back; a file or folder per format.

pub mod avro;
mod cdc;
pub mod column;
mod conform;
pub mod container;
pub mod csv;
pub mod json;
pub mod message;
#[cfg(test)]
mod option_tests;
mod parquet;
pub mod raw;
mod rows;
pub mod temporal;
pub mod text;

use cdc::Dialect;
use container::Container;
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::format::{DecoderFactory, Encoder, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::suggest::did_you_mean;
use millstream_core::{Result, Schema, TypeKind};
use std::fmt;
use std::sync::Arc;

/// The values of the option `format` that this crate knows.
pub const FORMATS: [&str; 9] =
    ["avro", "canal-json", "csv", "debezium-json", "json", "maxwell-json", "ogg-json", "parquet", "raw"];

/// The values of the option `format` for messages.
pub const MESSAGE_FORMATS: [&str; 9] =
    ["avro", avro::confluent::NAME, "canal-json", "csv", "debezium-json", "json", "maxwell-json", "ogg-json", "raw"];

/// How records are told apart in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A record ends at a line feed, wherever it stands: such files can be cut anywhere.
    Lines,
    /// A record ends at a line feed, wherever it stands, but the order of the records counts, so that they are read one
    /// after the other, file by file.
    OrderedLines,
    /// A record ends at a line feed outside quotes, so that a file must be read from its start.
    QuotedLines {
        /// The quote character.
        quote: u8,
        /// The character that takes the next one's meaning away.
        escape: Option<u8>,
    },
}

/// A format for reading, with its options applied.
#[derive(Clone, Debug)]
pub struct ReadFormat {
    /// Its name.
    pub name: &'static str,
    /// What is in its files.
    pub content: ReadContent,
    /// What it does with bad records.
    pub on_bad: OnBadRecord,
    /// Which kinds of rows its records are.
    pub changelog: ChangelogMode,
}

/// What is in a format's files.
#[derive(Clone, Debug)]
pub enum ReadContent {
    /// Records, one after the other.
    Records {
        /// Makes their decoders.
        decoders: Arc<dyn DecoderFactory>,
        /// Where they end.
        framing: Framing,
    },
    /// A schema, and rows in blocks.
    Container(Arc<dyn Container>),
}

/// A format for writing, with its options applied.
#[derive(Clone, Debug)]
pub enum WriteFormat {
    /// Records, one after the other.
    Records(Arc<dyn EncoderFactory>),
    /// A schema, and rows in blocks; its files are called by the name of the format.
    Container(Arc<dyn Container>),
}

/// Makes encoders of one schema.
pub trait EncoderFactory: Send + Sync + fmt::Debug {
    /// An encoder of batches of `schema`.
    fn encoder(&self, schema: &Schema) -> Result<Box<dyn Encoder>>;
    /// What files of the format are called: `json`, `csv`.
    fn extension(&self) -> &'static str;
    /// Which kinds of rows it can write.
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::INSERT_ONLY
    }
}

/// Refuses columns of types that no format has.
fn check_types(table: &TableDef, options: &Options) -> Result<()> {
    let Some(format) = options.string("format") else { return Ok(()) };
    for field in &table.schema.fields {
        let hint = match &field.data_type {
            t if t.any(&|kind| *kind == TypeKind::Bitmap) => {
                "BITMAP_TO_BYTES makes bytes of a bitmap, BITMAP_FROM_BYTES a bitmap of bytes"
            }
            t if t.any(&|kind| *kind == TypeKind::Variant) => {
                "JSON_STRING makes text of a VARIANT, PARSE_JSON a VARIANT of text"
            }
            _ => continue,
        };
        let message = format!("the format '{format}' has no column like '{}' of type {}", field.name, field.data_type);
        return Err(options.error("format", message).hint(hint));
    }
    Ok(())
}

fn unknown_format(options: &Options, name: &str) -> millstream_core::Error {
    if name == avro::confluent::NAME {
        let error = options.error("format", format!("the format '{name}' is one of messages, not of files"));
        return error.hint("files are read and written by the format 'avro'");
    }
    let error = options
        .error("format", format!("there is no format '{name}'"))
        .detail(format!("known formats: {}", FORMATS.join(", ")));
    match did_you_mean(name, FORMATS) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The format that a table's options name, for reading. Reads the options `format`, `<format>.*` and
/// `dead-letter.path` (whether bad records are kept). The metadata columns of `table` are those of the format.
pub fn read_format(table: &TableDef, options: &Options, _session: &SessionInfo) -> Result<ReadFormat> {
    check_types(table, options)?;
    let on_bad = match options.string("dead-letter.path") {
        Some(_) => OnBadRecord::DeadLetter,
        None => OnBadRecord::Fail,
    };
    let container = |name, container| {
        let content = ReadContent::Container(container);
        if on_bad == OnBadRecord::DeadLetter {
            return Err(
                options.error("dead-letter.path", format!("files of the format '{name}' have no single records"))
            );
        }
        Ok(ReadFormat { name, content, on_bad, changelog: ChangelogMode::INSERT_ONLY })
    };
    match options.required("format")? {
        "avro" => container("avro", avro::files(None, options)?),
        "parquet" => container("parquet", parquet::format(&table.schema, options)?),
        "csv" => csv::read_format(table, options, on_bad),
        "json" => json::read_format(options, on_bad),
        "raw" => raw::read_format(&table.schema, options, on_bad),
        other => match Dialect::of_format(other) {
            Some(dialect) => cdc::read_format(dialect, table, options, on_bad),
            None => Err(unknown_format(options, other)),
        },
    }
}

/// The format of messages that `options` name: each is one record. Reads the options `format` and `<format>.*`.
pub fn read_message_format(table: &TableDef, options: &Options, on_bad: OnBadRecord) -> Result<ReadFormat> {
    check_types(table, options)?;
    let records = |name, decoders| ReadFormat {
        name,
        content: ReadContent::Records { decoders, framing: Framing::Lines },
        on_bad,
        changelog: ChangelogMode::INSERT_ONLY,
    };
    match options.required("format")? {
        avro::confluent::NAME => {
            avro::confluent::read_format(options, on_bad).map(|decoders| records(avro::confluent::NAME, decoders))
        }
        "avro" => avro::message::read_format(&table.schema, options, on_bad).map(|decoders| records("avro", decoders)),
        "csv" => csv::read_format(table, options, on_bad),
        "json" => json::read_format(options, on_bad),
        "raw" => raw::read_format(&table.schema, options, on_bad),
        "parquet" => Err(options.error("format", "the format 'parquet' is one of files, not of messages")),
        other => match Dialect::of_format(other) {
            Some(dialect) => cdc::read_format(dialect, table, options, on_bad),
            None => {
                let known = MESSAGE_FORMATS;
                let error = options
                    .error("format", format!("there is no format '{other}' of messages"))
                    .detail(format!("known formats: {}", known.join(", ")));
                Err(match did_you_mean(other, known) {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
        },
    }
}

/// The keys of what the records of a table's format say besides their columns, and their types.
pub fn metadata_keys(options: &Options) -> Vec<(&'static str, TypeKind)> {
    options.string("format").and_then(Dialect::of_format).map(Dialect::metadata_keys).unwrap_or_default()
}

/// The decoders of [`read_format`], for records.
#[cfg(test)]
pub(crate) fn decoder_factory(
    table: &TableDef,
    options: &Options,
    session: &SessionInfo,
) -> Result<Arc<dyn DecoderFactory>> {
    match read_format(table, options, session)?.content {
        ReadContent::Records { decoders, .. } => Ok(decoders),
        ReadContent::Container(_) => Err(options.error("format", "this format is one of whole files")),
    }
}

/// The format that a table's options name, for writing. Reads the options `format` and `<format>.*`.
pub fn write_format(table: &TableDef, options: &Options) -> Result<WriteFormat> {
    check_types(table, options)?;
    Ok(WriteFormat::Records(match options.required("format")? {
        "avro" => return avro::files(Some(&table.schema), options).map(WriteFormat::Container),
        "parquet" => return parquet::format(&table.schema, options).map(WriteFormat::Container),
        "csv" => csv::write_format(table, options)?,
        "json" => json::write_format(options)?,
        "raw" => raw::write_format(&table.schema, options)?,
        other => match Dialect::of_format(other) {
            Some(dialect) => cdc::write_format(dialect, options)?,
            None => return Err(unknown_format(options, other)),
        },
    }))
}

/// The encoders of [`write_format`], for records.
#[cfg(test)]
pub(crate) fn encoder_factory(
    table: &TableDef,
    options: &Options,
    _session: &SessionInfo,
) -> Result<Arc<dyn EncoderFactory>> {
    match write_format(table, options)? {
        WriteFormat::Records(encoders) => Ok(encoders),
        WriteFormat::Container(_) => Err(options.error("format", "this format is one of whole files")),
    }
}
