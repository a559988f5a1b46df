//! Values of Flink's types as JSON: `JSON_STRING`, `JSON_OBJECT`, `JSON_ARRAY`.
//!
//! The constructors get their clauses as words at fixed places: `JSON_OBJECT(on_null, formats, key, value, ..)`,
//! `JSON_ARRAY(on_null, formats, value, ..)`; `formats` has an `R` for each value that is JSON already, a `V` for others.

use super::time::word;
use super::{Function, fit, special};
use crate::args::{Arg, Args, Kernel, try_text, view};
use crate::calendar::{DAY_MS, civil};
use crate::cast::entry_types;
use crate::jsonpath::{Json, big_decimal, variant_to_json};
use crate::node::call;
use crate::{decimal, print};
use arrow::array::{Array, ArrayRef, StringBuilder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::types::SessionZone;
use millstream_core::variant::Variant;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use std::sync::Arc;

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
fn to_json(array: &ArrayRef, row: usize, data_type: &DataType) -> Result<Json> {
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
        TypeKind::Variant => match arg.bytes(row) {
            Some(bytes) => Some(variant_to_json(&Variant::new(bytes)?.to_node()?)),
            None => None,
        },
        _ => return Err(Error::internal(format!("a value of type {} has no form in JSON", data_type.kind))),
    };
    Ok(value.unwrap_or(Json::Null))
}

/// Refuses what has no form in JSON.
fn check_json(data_type: &DataType) -> Result<()> {
    match &data_type.kind {
        TypeKind::Date
        | TypeKind::Time(_)
        | TypeKind::IntervalYearMonth
        | TypeKind::IntervalDayTime
        | TypeKind::Bitmap => Err(Error::script(format!("a value of type {} has no form in JSON", data_type.kind))
            .hint("CAST(x AS STRING) makes text of it")),
        TypeKind::Array(item) => check_json(item),
        TypeKind::Map(key, value) if key.kind.is_character() => check_json(value),
        TypeKind::Multiset(key) if key.kind.is_character() => Ok(()),
        TypeKind::Map(key, _) | TypeKind::Multiset(key) => {
            Err(Error::script(format!("a map with keys of type {} has no form in JSON", key.kind))
                .hint("the keys of JSON objects are text"))
        }
        TypeKind::Row(fields) => fields.iter().try_for_each(|f| check_json(&f.data_type)),
        _ => Ok(()),
    }
}

fn json_string(name: &str, args: &[ExprRef]) -> Result<Option<ExprRef>> {
    let [x] = args else { return Ok(None) };
    check_json(x.data_type())?;
    let of = x.data_type().clone();
    let out = TypeKind::STRING.nullable().with_nullable(of.nullable);
    let kernel = try_text(move |a, i, out| {
        if a.is_null(0, i) {
            return Ok(None);
        }
        to_json(a.columns[0].array(), a.row(0, i), &of)?.write(out);
        Ok(Some(()))
    });
    Ok(Some(call(name, args.to_vec(), out, kernel)))
}

/// The clauses of a constructor: whether NULLs are left out, which values are JSON already, and the operands.
fn constructor(args: &[ExprRef]) -> Option<(bool, Vec<bool>, &[ExprRef])> {
    let [on_null, formats, operands @ ..] = args else { return None };
    let absent = word(on_null)? == "ABSENT";
    Some((absent, word(formats)?.chars().map(|c| c == 'R').collect(), operands))
}

/// The value of argument `k` as JSON.
fn member(a: &Args<'_>, k: usize, i: usize, of: &DataType, is_json: bool) -> Result<Json> {
    if a.is_null(k, i) {
        return Ok(Json::Null);
    }
    match a.str(k, i).filter(|_| is_json) {
        Some(text) => Json::parse(text).ok_or_else(|| Error::internal("a JSON function gave what is no JSON")),
        None => to_json(a.columns[k].array(), a.row(k, i), of),
    }
}

fn json_object(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some((absent, formats, operands)) = constructor(args) else { return Ok(None) };
    if operands.len() != formats.len() * 2 {
        return Ok(None);
    }
    let (mut all, mut types) = (vec![], vec![]);
    for [key, value] in operands.as_chunks::<2>().0 {
        check_json(value.data_type())?;
        let Some(key) = fit("s", std::slice::from_ref(key), zone)? else { return Ok(None) };
        types.push(value.data_type().clone());
        all.extend(key);
        all.push(value.clone());
    }
    let kernel: Kernel = Arc::new(move |a| {
        let mut builder = StringBuilder::with_capacity(a.rows, a.rows * 32);
        let mut buffer = String::new();
        for i in 0..a.rows {
            let mut members: Vec<(String, Json)> = Vec::with_capacity(types.len());
            for (n, (of, is_json)) in types.iter().zip(&formats).enumerate() {
                let Some(key) = a.str(2 * n, i) else { return Err(Error::data("JSON_OBJECT: a key is NULL")) };
                let value = member(a, 2 * n + 1, i, of, *is_json)?;
                if absent && value == Json::Null {
                    continue;
                }
                match members.iter_mut().find(|(k, _)| k == key) {
                    Some(known) => known.1 = value,
                    None => members.push((key.to_string(), value)),
                }
            }
            buffer.clear();
            Json::Object(members).write(&mut buffer);
            builder.append_value(&buffer);
        }
        Ok(Arc::new(builder.finish()))
    });
    Ok(Some(call(name, all, TypeKind::STRING.not_null(), kernel)))
}

fn json_array(name: &str, args: &[ExprRef]) -> Result<Option<ExprRef>> {
    let Some((absent, formats, operands)) = constructor(args) else { return Ok(None) };
    if operands.len() != formats.len() {
        return Ok(None);
    }
    operands.iter().try_for_each(|o| check_json(o.data_type()))?;
    let types: Vec<DataType> = operands.iter().map(|o| o.data_type().clone()).collect();
    let kernel: Kernel = Arc::new(move |a| {
        let mut builder = StringBuilder::with_capacity(a.rows, a.rows * 32);
        let mut buffer = String::new();
        for i in 0..a.rows {
            let mut items = Vec::with_capacity(types.len());
            for (k, (of, is_json)) in types.iter().zip(&formats).enumerate() {
                let value = member(a, k, i, of, *is_json)?;
                if !(absent && value == Json::Null) {
                    items.push(value);
                }
            }
            buffer.clear();
            Json::List(items).write(&mut buffer);
            builder.append_value(&buffer);
        }
        Ok(Arc::new(builder.finish()))
    });
    Ok(Some(call(name, operands.to_vec(), TypeKind::STRING.not_null(), kernel)))
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("JSON_STRING", "(ANY)", |n, a, _| json_string(n, a)),
        special("JSON_OBJECT", "([KEY] key VALUE value, ...)", json_object),
        special("JSON_ARRAY", "(value, ...)", |n, a, _| json_array(n, a)),
    ]
}
