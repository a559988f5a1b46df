//! JSON lines, by the semantics of Flink's `json` format (flink docs: table/connectors/formats/json).

mod decode;
mod encode;
#[cfg(test)]
mod line_tests;
mod marks;
#[cfg(test)]
mod oracle_tests;
pub mod scan;

pub use decode::JsonDecoder;
pub(in crate::formats) use decode::reason;
pub use encode::{JsonEncoder, MapNullKey};
pub(in crate::formats) use encode::{push_string, push_value};
pub(in crate::formats) use marks::Marks;

use super::temporal::TimestampStandard;
use super::{EncoderFactory, Framing, ReadContent, ReadFormat};
use millstream_core::format::{Decoder, DecoderFactory, Encoder, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Result, Schema};
use std::sync::Arc;

/// The `json.*` options.
#[derive(Clone, Debug)]
pub struct JsonOptions {
    /// `json.ignore-parse-errors`: a bad field is NULL, a bad record is skipped.
    pub ignore_parse_errors: bool,
    /// `json.fail-on-missing-field`
    pub fail_on_missing_field: bool,
    /// `json.timestamp-format.standard`
    pub standard: TimestampStandard,
    /// `json.map-null-key.mode` and `.literal`
    pub map_null_key: MapNullKey,
    /// `json.encode.decimal-as-plain-number`
    pub plain_decimals: bool,
    /// `json.encode.ignore-null-fields`
    pub ignore_null_fields: bool,
    /// What is done with bad records.
    pub on_bad: OnBadRecord,
}

impl JsonOptions {
    /// The defaults.
    pub fn new(on_bad: OnBadRecord) -> Self {
        JsonOptions {
            ignore_parse_errors: false,
            fail_on_missing_field: false,
            standard: TimestampStandard::Sql,
            map_null_key: MapNullKey::Fail,
            plain_decimals: false,
            ignore_null_fields: false,
            on_bad,
        }
    }
    fn read(options: &Options, on_bad: OnBadRecord) -> Result<Self> {
        let standards = [("SQL", TimestampStandard::Sql), ("ISO-8601", TimestampStandard::Iso8601)];
        let literal = options.string("json.map-null-key.literal").unwrap_or("null");
        let modes = [("FAIL", 0), ("DROP", 1), ("LITERAL", 2)];
        let ignore_parse_errors = options.boolean("json.ignore-parse-errors")?.unwrap_or(false);
        let fail_on_missing_field = options.boolean("json.fail-on-missing-field")?.unwrap_or(false);
        // Flink's switch between two parsers with the same results.
        options.boolean("json.decode.json-parser.enabled")?;
        if ignore_parse_errors && fail_on_missing_field {
            let key = "json.fail-on-missing-field";
            return Err(options.error(key, format!("'{key}' and 'json.ignore-parse-errors' can't both be true")));
        }
        Ok(JsonOptions {
            ignore_parse_errors,
            fail_on_missing_field,
            standard: options.choice("json.timestamp-format.standard", &standards)?.unwrap_or(TimestampStandard::Sql),
            map_null_key: match options.choice("json.map-null-key.mode", &modes)? {
                Some(1) => MapNullKey::Drop,
                Some(2) => MapNullKey::Literal(literal.to_string()),
                _ => MapNullKey::Fail,
            },
            plain_decimals: options.boolean("json.encode.decimal-as-plain-number")?.unwrap_or(false),
            ignore_null_fields: options.boolean("json.encode.ignore-null-fields")?.unwrap_or(false),
            on_bad: if ignore_parse_errors && on_bad == OnBadRecord::Fail { OnBadRecord::Skip } else { on_bad },
        })
    }
}

/// A message as one record: line feeds in it, which would end it, become blanks; JSON has none within its strings.
pub(in crate::formats) fn each_message(
    message: Option<&[u8]>,
    mut decode: impl FnMut(&[u8]) -> Result<usize>,
) -> Result<()> {
    let Some(message) = message.filter(|message| !message.is_empty()) else { return Ok(()) };
    let inner = message.len() - 1;
    match memchr::memchr(b'\n', message) {
        Some(at) if at < inner => {
            let flat: Vec<u8> = message.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
            decode(&flat)?;
        }
        _ => {
            decode(message)?;
        }
    }
    Ok(())
}

/// Makes JSON decoders and encoders.
#[derive(Debug)]
struct JsonFormat(JsonOptions);

impl DecoderFactory for JsonFormat {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(JsonDecoder::new(schema, self.0.clone())?))
    }
}

impl EncoderFactory for JsonFormat {
    fn encoder(&self, schema: &Schema) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(JsonEncoder::new(schema, self.0.clone())))
    }
    fn extension(&self) -> &'static str {
        "json"
    }
}

pub(super) fn read_format(options: &Options, on_bad: OnBadRecord) -> Result<ReadFormat> {
    let json = JsonOptions::read(options, on_bad)?;
    let on_bad = json.on_bad;
    Ok(ReadFormat {
        name: "json",
        content: ReadContent::Records { decoders: Arc::new(JsonFormat(json)), framing: Framing::Lines },
        on_bad,
        changelog: ChangelogMode::INSERT_ONLY,
    })
}

pub(super) fn write_format(options: &Options) -> Result<Arc<dyn EncoderFactory>> {
    Ok(Arc::new(JsonFormat(JsonOptions::read(options, OnBadRecord::Fail)?)))
}
