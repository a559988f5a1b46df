//! Changes of a database's tables as JSON lines: the formats `debezium-json`, `canal-json`, `maxwell-json` and `ogg-json`
//! (flink docs: table/connectors/formats/debezium, canal, maxwell, ogg).

mod decode;
mod encode;
mod envelope;
#[cfg(test)]
mod tests;

use super::json::{JsonOptions, MapNullKey};
use super::temporal::TimestampStandard;
use super::{EncoderFactory, Framing, ReadContent, ReadFormat};
use decode::ChangeDecoder;
use encode::ChangeEncoder;
use millstream_core::connector::TableDef;
use millstream_core::format::{Decoder, DecoderFactory, Encoder, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Error, Result, Schema, TypeKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"before":{..},"after":{..},"op":"u"}`
    Debezium,
    /// `{"data":[{..}],"old":[{..}],"type":"UPDATE"}`
    Canal,
    /// `{"data":{..},"old":{..},"type":"update"}`
    Maxwell,
    /// `{"before":{..},"after":{..},"op_type":"U"}`
    Ogg,
}

/// What a record says besides its rows.
#[derive(Clone, Debug)]
struct MetadataField {
    /// Its key in `METADATA FROM`.
    key: &'static str,
    /// Where it is in the record.
    path: &'static [&'static str],
    kind: TypeKind,
    /// How an instant is written.
    instant: Instant,
}

/// How a record writes an instant.
#[derive(Clone, Copy, Debug)]
enum Instant {
    /// As a number of units of so many milliseconds.
    Number(i64),
    /// As text, in UTC.
    Text,
}

impl Dialect {
    const ALL: [Dialect; 4] = [Dialect::Debezium, Dialect::Canal, Dialect::Maxwell, Dialect::Ogg];

    /// The dialect that a format's records are in; `None` for other formats.
    pub(super) fn of_format(format: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|d| d.format() == format)
    }

    fn format(self) -> &'static str {
        match self {
            Dialect::Debezium => "debezium-json",
            Dialect::Canal => "canal-json",
            Dialect::Maxwell => "maxwell-json",
            Dialect::Ogg => "ogg-json",
        }
    }

    fn metadata(self) -> Vec<MetadataField> {
        let of = |key, path, kind| MetadataField { key, path, kind, instant: Instant::Number(1) };
        let strings = || Box::new(TypeKind::STRING.nullable());
        let instant = TypeKind::TimestampLtz(3);
        match self {
            Dialect::Debezium => vec![
                of("schema", &["schema"], TypeKind::STRING),
                of("ingestion-timestamp", &["ts_ms"], instant.clone()),
                of("source.timestamp", &["source", "ts_ms"], instant),
                of("source.database", &["source", "db"], TypeKind::STRING),
                of("source.schema", &["source", "schema"], TypeKind::STRING),
                of("source.table", &["source", "table"], TypeKind::STRING),
                of("source.properties", &["source"], TypeKind::Map(strings(), strings())),
            ],
            Dialect::Canal => vec![
                of("database", &["database"], TypeKind::STRING),
                of("table", &["table"], TypeKind::STRING),
                of("sql-type", &["sqlType"], TypeKind::Map(strings(), Box::new(TypeKind::Int.nullable()))),
                of("pk-names", &["pkNames"], TypeKind::Array(strings())),
                of("ingestion-timestamp", &["ts"], instant.clone()),
                of("event-timestamp", &["es"], instant),
            ],
            Dialect::Maxwell => vec![
                of("database", &["database"], TypeKind::STRING),
                of("table", &["table"], TypeKind::STRING),
                of("primary-key-columns", &["primary_key_columns"], TypeKind::Array(strings())),
                MetadataField { instant: Instant::Number(1000), ..of("ingestion-timestamp", &["ts"], instant) },
            ],
            Dialect::Ogg => {
                let time =
                    |key, path| MetadataField { instant: Instant::Text, ..of(key, path, TypeKind::TimestampLtz(6)) };
                vec![
                    of("table", &["table"], TypeKind::STRING),
                    of("primary-keys", &["primary_keys"], TypeKind::Array(strings())),
                    time("ingestion-timestamp", &["current_ts"]),
                    time("event-timestamp", &["op_ts"]),
                ]
            }
        }
    }

    /// The keys of what a record says besides its rows, and their types.
    pub(super) fn metadata_keys(self) -> Vec<(&'static str, TypeKind)> {
        self.metadata().into_iter().map(|field| (field.key, field.kind)).collect()
    }
}

/// A format's options.
#[derive(Clone, Debug)]
struct Change {
    dialect: Dialect,
    json: JsonOptions,
    /// `debezium-json.schema-include`: the change is in the field `payload`.
    schema_include: bool,
    /// `canal-json.database.include` and `canal-json.table.include`: what else is passed over.
    database: Option<regex::Regex>,
    table: Option<regex::Regex>,
    /// The table's metadata columns.
    metadata: BTreeMap<String, MetadataField>,
}

impl Change {
    fn read(dialect: Dialect, options: &Options, on_bad: OnBadRecord) -> Result<Change> {
        let key = |name: &str| format!("{}.{name}", dialect.format());
        let standards = [("SQL", TimestampStandard::Sql), ("ISO-8601", TimestampStandard::Iso8601)];
        let literal_key = key("map-null-key.literal");
        let literal = options.string(&literal_key).unwrap_or("null");
        let modes = [("FAIL", 0), ("DROP", 1), ("LITERAL", 2)];
        let ignore_parse_errors = options.boolean(&key("ignore-parse-errors"))?.unwrap_or(false);
        let json = JsonOptions {
            ignore_parse_errors,
            standard: options.choice(&key("timestamp-format.standard"), &standards)?.unwrap_or(TimestampStandard::Sql),
            map_null_key: match options.choice(&key("map-null-key.mode"), &modes)? {
                Some(1) => MapNullKey::Drop,
                Some(2) => MapNullKey::Literal(literal.to_string()),
                _ => MapNullKey::Fail,
            },
            plain_decimals: options.boolean(&key("encode.decimal-as-plain-number"))?.unwrap_or(false),
            ignore_null_fields: options.boolean(&key("encode.ignore-null-fields"))?.unwrap_or(false),
            on_bad: if ignore_parse_errors && on_bad == OnBadRecord::Fail { OnBadRecord::Skip } else { on_bad },
            ..JsonOptions::new(on_bad)
        };
        let schema_include = match dialect {
            Dialect::Debezium => options.boolean(&key("schema-include"))?.unwrap_or(false),
            Dialect::Canal | Dialect::Maxwell | Dialect::Ogg => false,
        };
        let pattern = |name: &str| -> Result<Option<regex::Regex>> {
            let key = key(name);
            let Some(text) = options.string(&key) else { return Ok(None) };
            regex::Regex::new(&format!("^(?:{text})$")).map(Some).map_err(|e| {
                options.error(&key, format!("the value of '{key}' is no regular expression")).detail(e.to_string())
            })
        };
        let (database, table) = match dialect {
            Dialect::Canal => (pattern("database.include")?, pattern("table.include")?),
            Dialect::Debezium | Dialect::Maxwell | Dialect::Ogg => (None, None),
        };
        Ok(Change { dialect, json, schema_include, database, table, metadata: BTreeMap::new() })
    }
}

impl DecoderFactory for Change {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(ChangeDecoder::new(schema, self.clone())?))
    }
}

impl EncoderFactory for Change {
    fn encoder(&self, schema: &Schema) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(ChangeEncoder::new(schema, self)))
    }
    fn extension(&self) -> &'static str {
        "json"
    }
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::ALL
    }
}

/// The format for reading; `table` has the metadata columns that are in the records, and no others.
pub(super) fn read_format(
    dialect: Dialect,
    table: &TableDef,
    options: &Options,
    on_bad: OnBadRecord,
) -> Result<ReadFormat> {
    let mut change = Change::read(dialect, options, on_bad)?;
    let known = dialect.metadata();
    for (column, key) in &table.metadata {
        let field = known.iter().find(|field| field.key == key);
        let field = field.ok_or_else(|| Error::internal(format!("{} has no metadata '{key}'", dialect.format())))?;
        change.metadata.insert(column.clone(), field.clone());
    }
    Ok(ReadFormat {
        name: dialect.format(),
        on_bad: change.json.on_bad,
        content: ReadContent::Records { decoders: Arc::new(change), framing: Framing::OrderedLines },
        changelog: ChangelogMode::ALL,
    })
}

/// The format for writing.
pub(super) fn write_format(dialect: Dialect, options: &Options) -> Result<Arc<dyn EncoderFactory>> {
    let change = Change::read(dialect, options, OnBadRecord::Fail)?;
    if change.schema_include {
        let key = "debezium-json.schema-include";
        return Err(options.error(key, format!("a table with '{key}' can't be written")).hint("leave the option out"));
    }
    Ok(Arc::new(change))
}
