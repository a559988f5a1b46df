//! Formats of messages, for writing: a row is a message, which is all of a format's bytes for it.

use super::avro::confluent;
use super::avro::message::{self as avro, AvroEncoder};
use super::{WriteFormat, write_format};
use millstream_core::connector::TableDef;
use millstream_core::format::Encoder;
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Batch, Result, Schema};
use std::sync::Arc;

use super::EncoderFactory;

/// A format for writing messages, with its options applied.
#[derive(Clone, Debug)]
pub struct MessageFormat {
    schema: Schema,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// A message is a line of it. `one_line`: a line feed within a value is escaped.
    Lines {
        encoders: Arc<dyn EncoderFactory>,
        one_line: bool,
        null_is_none: bool,
    },
    Avro,
    Confluent(Arc<confluent::ConfluentWriting>),
}

/// The format that `options` name (`format`, `<format>.*`), for messages of `table`'s columns. `subject`: see
/// [`confluent::write_format`].
pub fn write_messages(table: &TableDef, options: &Options, subject: Option<&str>) -> Result<MessageFormat> {
    let schema = table.schema.clone();
    let name = options.required("format")?;
    if name == confluent::NAME {
        let writing = confluent::write_format(&schema, options, subject)?;
        return Ok(MessageFormat { schema, content: Content::Confluent(Arc::new(writing)) });
    }
    if name == "avro" {
        avro::write_format(&schema, options)?;
        return Ok(MessageFormat { schema, content: Content::Avro });
    }
    match write_format(table, options)? {
        WriteFormat::Records(encoders) => {
            let content =
                Content::Lines { encoders, one_line: !matches!(name, "csv" | "raw"), null_is_none: name == "raw" };
            Ok(MessageFormat { schema, content })
        }
        WriteFormat::Container(_) => {
            Err(options.error("format", format!("the format '{name}' is one of files, not of messages")))
        }
    }
}

impl MessageFormat {
    /// Which kinds of rows it can write.
    pub fn accepts(&self) -> ChangelogMode {
        match &self.content {
            Content::Lines { encoders, .. } => encoders.accepts(),
            Content::Avro | Content::Confluent(_) => ChangelogMode::INSERT_ONLY,
        }
    }

    /// An encoder.
    pub fn encoder(&self) -> Result<MessageEncoder> {
        Ok(match &self.content {
            Content::Lines { encoders, one_line, null_is_none } => MessageEncoder::Lines {
                encoder: encoders.encoder(&self.schema)?,
                one_line: *one_line,
                null_is_none: *null_is_none,
                scratch: vec![],
            },
            Content::Avro => MessageEncoder::Avro(AvroEncoder::new(&self.schema, &[])),
            Content::Confluent(writing) => MessageEncoder::Avro(writing.encoder(&self.schema)?),
        })
    }
}

/// Makes messages of rows.
pub enum MessageEncoder {
    /// See [`MessageFormat`].
    Lines {
        /// Of the format.
        encoder: Box<dyn Encoder>,
        /// A batch can be encoded at once and cut at line feeds.
        one_line: bool,
        /// A NULL in the only column is a message without content.
        null_is_none: bool,
        /// For what is being encoded.
        scratch: Vec<u8>,
    },
    /// Avro values, perhaps in the schema registry's framing.
    Avro(AvroEncoder),
}

impl MessageEncoder {
    /// Hands the message of each row of `batch` to `each`, with the row's number; `None`: a message without content.
    pub fn encode(&mut self, batch: &Batch, each: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>) -> Result<()> {
        match self {
            MessageEncoder::Avro(encoder) => {
                encoder.encode(batch)?.iter().enumerate().try_for_each(|(row, m)| each(row, Some(m)))
            }
            MessageEncoder::Lines { encoder, one_line: true, scratch, .. } => {
                scratch.clear();
                encoder.encode(batch, scratch)?;
                let mut start = 0;
                for (row, end) in memchr::memchr_iter(b'\n', scratch).take(batch.num_rows()).enumerate() {
                    each(row, scratch.get(start..end))?;
                    start = end + 1;
                }
                Ok(())
            }
            MessageEncoder::Lines { encoder, null_is_none, scratch, .. } => {
                for row in 0..batch.num_rows() {
                    if *null_is_none && batch.column(0).is_null(row) {
                        each(row, None)?;
                        continue;
                    }
                    scratch.clear();
                    encoder.encode(&batch.slice(row, 1), scratch)?;
                    each(row, Some(scratch.strip_suffix(b"\n").unwrap_or(scratch)))?;
                }
                Ok(())
            }
        }
    }
}
