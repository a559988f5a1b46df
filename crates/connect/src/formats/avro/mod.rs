//! The `avro` format: object container files; and `avro-confluent`: messages whose schemas a registry keeps.

pub mod confluent;
mod decode;
mod encode;
mod file;
pub(super) mod message;
mod registry;
mod schema;
#[cfg(test)]
mod tests;

use super::container::Container;
use file::{AvroFiles, Codec};
use millstream_core::options::Options;
use millstream_core::{Result, Schema};
use schema::TimestampMapping;
use std::sync::Arc;

/// The format that a table's options describe; `written`: the columns, if files are to be written.
pub(super) fn files(written: Option<&Schema>, options: &Options<'_>) -> Result<Arc<dyn Container>> {
    let codec = options.choice("avro.codec", &Codec::ALL)?.unwrap_or(Codec::Snappy);
    options.choice("avro.encoding", &[("binary", ())])?;
    let mapping = mapping(options, "avro")?;
    if let Some(schema) = written {
        schema::derive(&schema.fields, mapping).map_err(|e| e.at(options.place("format")))?;
    }
    Ok(Arc::new(AvroFiles { codec, mapping }))
}

fn mapping(options: &Options<'_>, format: &str) -> Result<TimestampMapping> {
    let legacy = options.boolean(&format!("{format}.timestamp_mapping.legacy"))?.unwrap_or(true);
    Ok(if legacy { TimestampMapping::Legacy } else { TimestampMapping::Exact })
}
