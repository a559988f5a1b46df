//! The formats of keys and values: which options name them, and what decodes them.

use super::Flavor;
use crate::formats::{ReadContent, read_message_format};
use millstream_core::Result;
use millstream_core::connector::TableDef;
use millstream_core::format::{DecoderFactory, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use std::sync::Arc;

/// A format for reading messages.
#[derive(Debug)]
pub struct MessageFormat {
    /// Its name.
    pub name: &'static str,
    /// Makes its decoders.
    pub decoders: Arc<dyn DecoderFactory>,
    /// Which kinds of rows its messages are.
    pub changelog: ChangelogMode,
}

/// The options that describe the value's format: those that begin with `value.`, or, for the connector `kafka`, the table's own.
pub fn value_options<'a>(flavor: Flavor, options: &Options<'a>) -> Result<Options<'a>> {
    let of_value = options.part("value.");
    if flavor == Flavor::UpsertKafka {
        of_value.required("format")?;
        return Ok(of_value);
    }
    match (options.string("format"), of_value.string("format")) {
        (Some(_), Some(_)) => {
            Err(options.error("value.format", "'format' and 'value.format' can't both be given: they mean the same"))
        }
        (None, Some(_)) => Ok(of_value),
        _ => options.required("format").map(|_| options.part("")),
    }
}

/// The options that describe the key's format, if there is one.
pub fn key_options<'a>(flavor: Flavor, options: &Options<'a>, has_columns: bool) -> Result<Option<Options<'a>>> {
    let of_key = options.part("key.");
    if flavor == Flavor::UpsertKafka {
        of_key.required("format")?;
    }
    Ok(has_columns.then_some(of_key))
}

/// The format that `options` name, for messages of the columns of `table`.
pub fn read(table: &TableDef, options: &Options, on_bad: OnBadRecord) -> Result<MessageFormat> {
    let format = read_message_format(table, options, on_bad)?;
    match format.content {
        ReadContent::Records { decoders, .. } => {
            Ok(MessageFormat { name: format.name, decoders, changelog: format.changelog })
        }
        ReadContent::Container(_) => {
            Err(options.error("format", format!("the format '{}' is one of files, not of messages", format.name)))
        }
    }
}
