//! Values of Flink's types as JSON, as `JSON_STRING` and the constructors write them.

use crate::args::{Arg, view};
use crate::calendar::{DAY_MS, civil};
use crate::cast::entry_types;
use crate::jsonpath::{Json, big_decimal};
use crate::{decimal, print};
use arrow::array::{Array, ArrayRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, Result, TypeKind};

/// `yyyy-MM-ddTHH:mm:ss`, with as many digits of the fraction as are not zero.
fn iso_timestamp(ms: i64, nanos: i64) -> String {
    let (y, m, d) = civil(ms.div_euclid(DAY_MS));
    let clock = ms.rem_euclid(DAY_MS);
    let second = clock / 1000;
    let mut out = format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let fraction = format!("{:09}", clock % 1000 * 1_000_000 + nanos);
    let digits = fraction.trim_end_matches('0');
    if !digits.is_empty() {
        out.push('.');
        out.push_str(digits);
    }
    out
}

fn number(v: f64) -> Result<Json> {
    match v.is_finite() {
        true => {
            let text = print::double_text(v);
            Ok(Json::Decimal(big_decimal(&text).unwrap_or(text)))
        }
        false => Err(Error::data(format!("{v} has no form in JSON"))),
    }
}

/// The value at `row`; NULL is JSON's null.
pub(super) fn to_json(array: &ArrayRef, row: usize, data_type: &DataType) -> Result<Json> {
    if array.is_null(row) {
        return Ok(Json::Null);
    }
    let arg = view(array)?;
    let value = match &data_type.kind {
        TypeKind::Null => None,
        TypeKind::Boolean => arg.bool(row).map(Json::Bool),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
            arg.int(row).map(|v| Json::Int(v.to_string()))
        }
        TypeKind::Float | TypeKind::Double => return arg.f64(row).map_or(Ok(Json::Null), number),
        TypeKind::Decimal(_, s) => arg.dec(row).map(|v| {
            let text = decimal::format(v, *s);
            Json::Decimal(big_decimal(&text).unwrap_or(text))
        }),
        TypeKind::Char(_) | TypeKind::VarChar(_) => arg.str(row).map(|s| Json::Text(s.to_string())),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => arg.bytes(row).map(|b| Json::Text(STANDARD.encode(b))),
        TypeKind::Timestamp(_) => arg.instant(row).map(|(ms, nanos)| Json::Text(iso_timestamp(ms, nanos))),
        TypeKind::TimestampLtz(_) => {
            arg.instant(row).map(|(ms, nanos)| Json::Text(format!("{}Z", iso_timestamp(ms, nanos))))
        }
        TypeKind::Array(item) => match arg.list(row) {
            Some(items) => Some(Json::List((0..items.len()).map(|i| to_json(&items, i, item)).collect::<Result<_>>()?)),
            None => None,
        },
        TypeKind::Map(..) | TypeKind::Multiset(_) => match arg.map(row) {
            Some(entries) => {
                let (key, value) = entry_types(&data_type.kind);
                let mut members: Vec<(String, Json)> = vec![];
                for i in 0..entries.len() {
                    let name = print::format_value(entries.column(0), i, &key, &SessionZone::UTC);
                    let value = to_json(entries.column(1), i, &value)?;
                    members.retain(|(known, _)| *known != name);
                    members.push((name, value));
                }
                Some(Json::Object(members))
            }
            None => None,
        },
        TypeKind::Row(fields) => match arg {
            Arg::Row(columns) => {
                let mut members: Vec<(String, Json)> = vec![];
                for (field, column) in fields.iter().zip(columns.columns()) {
                    let value = to_json(column, row, &field.data_type)?;
                    members.retain(|(known, _)| *known != field.name);
                    members.push((field.name.clone(), value));
                }
                Some(Json::Object(members))
            }
            _ => None,
        },
        _ => return Err(Error::internal(format!("a value of type {} has no form in JSON", data_type.kind))),
    };
    Ok(value.unwrap_or(Json::Null))
}
