//! The JSON functions of standard SQL that follow a path.
//!
//! The clauses of standard SQL come as words at fixed places:
//! `JSON_VALUE(input, path, returning, on_empty, default, on_error, default)`,
//! `JSON_QUERY(input, path, returning, wrapper, on_empty, on_error)`, `JSON_EXISTS(input, path, on_error)`;
//! `returning` is a NULL of the type.

use super::time::word;
use super::{Function, fit, special};
use crate::args::{Args, Compiled, Kernel, int_array};
use crate::cast::{cast, implicit};
use crate::jsonpath::{Json, Path};
use crate::node::call;
use arrow::array::*;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use std::borrow::Cow;
use std::sync::Arc;

/// What a path finds in a document, NULL counting as nothing; an error is for `ON ERROR`.
fn look<'d>(path: Option<&Path>, doc: Option<&'d Json>) -> Result<Option<Cow<'d, Json>>, String> {
    let path = path.ok_or("the path is not valid")?;
    match doc {
        None if path.lax => Ok(None),
        None => Err("the text is not JSON".into()),
        Some(Json::Null) => Err("the document is null".into()),
        Some(doc) => match path.read(doc)?.filter(|found| **found != Json::Null) {
            None if !path.lax => Err("the path leads to null".into()),
            found => Ok(found),
        },
    }
}

/// Input and path as text, if they are that.
fn input(args: &[ExprRef], zone: &SessionZone) -> Result<Option<[ExprRef; 2]>> {
    let [input, path, ..] = args else { return Ok(None) };
    let kind = &input.data_type().kind;
    if !(kind.is_character() || kind.is_numeric() || *kind == TypeKind::Null) {
        return Ok(None);
    }
    let input = implicit(input, &TypeKind::STRING.nullable(), zone)?;
    Ok(fit("ss", &[input, path.clone()], zone)?.and_then(|both| both.try_into().ok()))
}

/// What to do where nothing or no fitting value is found.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Null,
    Error,
    EmptyArray,
    EmptyObject,
    /// The argument that holds the default.
    Default(usize),
}

fn on(clause: Option<&ExprRef>, default: usize) -> Option<On> {
    Some(match clause.map(word) {
        None => On::Null,
        Some(word) => match word?.as_str() {
            "NULL" => On::Null,
            "ERROR" => On::Error,
            "EMPTY ARRAY" => On::EmptyArray,
            "EMPTY OBJECT" => On::EmptyObject,
            "DEFAULT" => On::Default(default),
            _ => return None,
        },
    })
}

fn returning(args: &[ExprRef]) -> TypeKind {
    match args.get(2).map(|t| t.data_type().kind.clone()) {
        None | Some(TypeKind::Null) => TypeKind::STRING,
        Some(kind) => kind,
    }
}

/// A JSON scalar as a value of another type.
enum Scalar {
    Bool(bool),
    Int(i64),
    Double(f64),
    Decimal(i128),
}

/// `None` if the scalar is no value of the type: a number is cut to whole, but out of range it isn't one.
fn convert(value: &Json, kind: &TypeKind) -> Option<Scalar> {
    let digits = match (value, kind) {
        (Json::Bool(b), TypeKind::Boolean) => return Some(Scalar::Bool(*b)),
        (Json::Text(s), TypeKind::Boolean) => return crate::parse::boolean(s.trim()).map(Scalar::Bool),
        (Json::Int(n) | Json::Decimal(n) | Json::Text(n), _) if *kind != TypeKind::Boolean => n.as_str(),
        _ => return None,
    };
    let (low, high) = match kind {
        TypeKind::TinyInt => (i64::from(i8::MIN), i64::from(i8::MAX)),
        TypeKind::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
        TypeKind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        TypeKind::BigInt => (i64::MIN, i64::MAX),
        TypeKind::Decimal(p, s) => {
            let value = crate::decimal::parse(digits, *s).filter(|v| crate::decimal::fits(*v, *p));
            return value.map(Scalar::Decimal);
        }
        TypeKind::Float => {
            return digits.parse::<f32>().ok().filter(|v| v.is_finite()).map(|v| Scalar::Double(f64::from(v)));
        }
        _ => return digits.parse::<f64>().ok().filter(|v| v.is_finite()).map(Scalar::Double),
    };
    let whole = match digits.parse::<i64>() {
        Ok(whole) => whole,
        // Cut towards zero: nineteen digits at most stand before the point.
        Err(_) => i64::try_from(crate::decimal::parse(digits, 18)? / crate::decimal::pow10(18)).ok()?,
    };
    (low..=high).contains(&whole).then_some(Scalar::Int(whole))
}

/// Scalars as an array of `data_type`.
fn scalars(values: Vec<Option<Scalar>>, data_type: &DataType) -> Result<ArrayRef> {
    let values = values.into_iter();
    let double = |v: Option<Scalar>| match v {
        Some(Scalar::Double(v)) => Some(v),
        _ => None,
    };
    Ok(match &data_type.kind {
        TypeKind::Boolean => {
            let bools = values.map(|v| if let Some(Scalar::Bool(b)) = v { Some(b) } else { None });
            Arc::new(bools.collect::<BooleanArray>())
        }
        TypeKind::Double => Arc::new(values.map(double).collect::<Float64Array>()),
        TypeKind::Float => Arc::new(values.map(|v| double(v).map(|v| v as f32)).collect::<Float32Array>()),
        TypeKind::Decimal(p, s) => {
            let decimals = values.map(|v| if let Some(Scalar::Decimal(d)) = v { Some(d) } else { None });
            Arc::new(decimals.collect::<Decimal128Array>().with_precision_and_scale(*p, *s as i8)?)
        }
        _ => {
            let ints = values.map(|v| if let Some(Scalar::Int(n)) = v { Some(n) } else { None });
            int_array(ints.collect(), &data_type.arrow())?
        }
    })
}

fn is_returnable(kind: &TypeKind) -> bool {
    kind.is_numeric() || *kind == TypeKind::Boolean
}

/// What JSON_VALUE gives in a row.
enum Picked {
    Null,
    Scalar(Json),
    Default(usize),
}

fn failure(on: On, why: &str) -> Result<Picked> {
    match on {
        On::Error => Err(Error::data(format!("JSON_VALUE: {why}")).hint("NULL ON ERROR gives NULL instead")),
        On::Default(arg) => Ok(Picked::Default(arg)),
        _ => Ok(Picked::Null),
    }
}

fn pick(a: &Args<'_>, i: usize, paths: &mut Compiled<Path>, on_empty: On, on_error: On) -> Result<Picked> {
    let (Some(input), Some(path)) = (a.str(0, i), a.str(1, i)) else { return Ok(Picked::Null) };
    let path = paths.get(path, Path::parse);
    let doc = Json::parse(input);
    match look(path, doc.as_ref()) {
        Err(why) => failure(on_error, &why),
        Ok(Some(found)) if found.is_scalar() => Ok(Picked::Scalar(found.into_owned())),
        Ok(Some(_)) if path.is_some_and(|p| !p.lax) => failure(on_error, "the path leads to an array or object"),
        Ok(_) => failure(on_empty, "the path finds no scalar"),
    }
}

fn json_value(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some([input, path]) = input(args, zone)? else { return Ok(None) };
    let out = returning(args);
    let (Some(on_empty), Some(on_error)) = (on(args.get(3), 2), on(args.get(5), 3)) else { return Ok(None) };
    let mut operands = vec![input, path];
    for default in [args.get(4), args.get(6)].into_iter().flatten() {
        let is_bool = default.data_type().kind == TypeKind::Boolean;
        operands.push(match out.is_character() && is_bool {
            true => default.clone(),
            false => cast(default.clone(), out.clone().nullable(), false, zone)?,
        });
    }
    let data_type = out.clone().nullable();
    if out.is_character() {
        let kernel: Kernel = Arc::new(move |a| {
            let mut builder = StringBuilder::with_capacity(a.rows, a.rows * 16);
            let (mut paths, mut buffer) = (Compiled::default(), String::new());
            for i in 0..a.rows {
                buffer.clear();
                match pick(a, i, &mut paths, on_empty, on_error)? {
                    Picked::Scalar(value) => value.write_plain(&mut buffer),
                    Picked::Default(k) => match (a.str(k, i), a.bool(k, i)) {
                        (Some(text), _) => buffer.push_str(text),
                        (None, Some(b)) => buffer.push_str(if b { "true" } else { "false" }),
                        (None, None) => {
                            builder.append_null();
                            continue;
                        }
                    },
                    Picked::Null => {
                        builder.append_null();
                        continue;
                    }
                }
                builder.append_value(&buffer);
            }
            Ok(Arc::new(builder.finish()))
        });
        return Ok(Some(call(name, operands, data_type, kernel)));
    }
    if !is_returnable(&out) {
        return Err(Error::script(format!("JSON_VALUE can't return {out}"))
            .hint("it returns STRING, BOOLEAN or a number; CAST gives other types"));
    }
    let kernel: Kernel = Arc::new(move |a| {
        let mut paths = Compiled::default();
        let mut values = Vec::with_capacity(a.rows);
        for i in 0..a.rows {
            let picked = pick(a, i, &mut paths, on_empty, on_error)?;
            let picked = match picked {
                Picked::Scalar(value) => match convert(&value, &out) {
                    Some(scalar) => {
                        values.push(Some(scalar));
                        continue;
                    }
                    None => failure(on_error, &format!("the value is no {out}"))?,
                },
                other => other,
            };
            values.push(match picked {
                Picked::Default(k) => match &out {
                    TypeKind::Boolean => a.bool(k, i).map(Scalar::Bool),
                    TypeKind::Float | TypeKind::Double => a.f64(k, i).map(Scalar::Double),
                    TypeKind::Decimal(..) => a.dec(k, i).map(Scalar::Decimal),
                    _ => a.int(k, i).map(Scalar::Int),
                },
                _ => None,
            });
        }
        scalars(values, a.out)
    });
    Ok(Some(call(name, operands, data_type, kernel)))
}

#[derive(Clone, Copy)]
enum Wrapper {
    Without,
    Conditional,
    Unconditional,
}

/// What JSON_QUERY finds in a row, wrapped; or what stands for it.
fn query(
    a: &Args<'_>,
    i: usize,
    paths: &mut Compiled<Path>,
    wrapper: Wrapper,
    [on_empty, on_error]: [On; 2],
    fits: impl Fn(&Json) -> bool,
) -> Result<Option<Json>> {
    let (Some(input), Some(path)) = (a.str(0, i), a.str(1, i)) else { return Ok(None) };
    let path = paths.get(path, Path::parse);
    let doc = Json::parse(input);
    let (on, why) = match look(path, doc.as_ref()) {
        Err(why) => (on_error, why),
        Ok(None) => (on_empty, "the path finds nothing".to_string()),
        Ok(Some(found)) => {
            let is_list = matches!(*found, Json::List(_));
            let found = found.into_owned();
            let value = match wrapper {
                Wrapper::Without => found,
                Wrapper::Conditional if is_list => found,
                Wrapper::Conditional | Wrapper::Unconditional => Json::List(vec![found]),
            };
            match (value.is_scalar(), path.is_some_and(|p| p.lax)) {
                (true, true) => (on_empty, "the path finds a scalar".to_string()),
                (true, false) => (on_error, "the path leads to a scalar".to_string()),
                _ if fits(&value) => return Ok(Some(value)),
                _ => (on_error, "the value isn't of the type to return".to_string()),
            }
        }
    };
    match on {
        On::Error => Err(Error::data(format!("JSON_QUERY: {why}")).hint("NULL ON ERROR gives NULL instead")),
        On::EmptyArray => Ok(Some(Json::List(vec![]))),
        On::EmptyObject => Ok(Some(Json::Object(vec![]))),
        On::Null | On::Default(_) => Ok(None),
    }
}

fn json_query(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some(operands) = input(args, zone)? else { return Ok(None) };
    let out = returning(args);
    let wrapper = match args.get(3).map(word) {
        None => Wrapper::Without,
        Some(word) => match word.as_deref() {
            Some("WITHOUT") => Wrapper::Without,
            Some("CONDITIONAL") => Wrapper::Conditional,
            Some("UNCONDITIONAL") => Wrapper::Unconditional,
            _ => return Ok(None),
        },
    };
    let (Some(on_empty), Some(on_error)) = (on(args.get(4), 0), on(args.get(5), 0)) else { return Ok(None) };
    let on = [on_empty, on_error];
    let data_type = out.clone().nullable();
    let operands = operands.to_vec();
    if out.is_character() {
        let kernel: Kernel = Arc::new(move |a| {
            let mut builder = StringBuilder::with_capacity(a.rows, a.rows * 16);
            let (mut paths, mut buffer) = (Compiled::default(), String::new());
            for i in 0..a.rows {
                buffer.clear();
                match query(a, i, &mut paths, wrapper, on, |_| true)? {
                    Some(value) => {
                        value.write(&mut buffer);
                        builder.append_value(&buffer);
                    }
                    None => builder.append_null(),
                }
            }
            Ok(Arc::new(builder.finish()))
        });
        return Ok(Some(call(name, operands, data_type, kernel)));
    }
    let item = match out {
        TypeKind::Array(item) if item.kind.is_character() || is_returnable(&item.kind) => *item,
        other => {
            return Err(Error::script(format!("JSON_QUERY can't return {other}"))
                .hint("it returns STRING, or an ARRAY of STRING, BOOLEAN or numbers"));
        }
    };
    if on.contains(&On::EmptyObject) {
        return Err(Error::script("EMPTY OBJECT can't stand for an ARRAY").hint("use EMPTY ARRAY or NULL"));
    }
    let kernel: Kernel = Arc::new(move |a| {
        let fits = |value: &Json| match value {
            Json::List(items) if item.kind.is_character() => items.len() <= i32::MAX as usize,
            Json::List(items) => items.iter().all(|v| *v == Json::Null || convert(v, &item.kind).is_some()),
            _ => false,
        };
        let mut paths = Compiled::default();
        let (mut lengths, mut valid, mut all) = (vec![], vec![], vec![]);
        for i in 0..a.rows {
            let items = match query(a, i, &mut paths, wrapper, on, fits)? {
                Some(Json::List(items)) => Some(items),
                _ => None,
            };
            valid.push(items.is_some());
            let items = items.unwrap_or_default();
            lengths.push(items.len());
            all.extend(items);
        }
        let values: ArrayRef = if item.kind.is_character() {
            let mut builder = StringBuilder::new();
            for value in &all {
                let mut text = String::new();
                value.write_plain(&mut text);
                builder.append_option((*value != Json::Null).then_some(text));
            }
            Arc::new(builder.finish())
        } else {
            scalars(all.iter().map(|v| convert(v, &item.kind)).collect(), &item)?
        };
        super::collection::list_array(values, lengths, valid)
    });
    Ok(Some(call(name, operands, data_type, kernel)))
}

fn json_exists(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some(operands) = input(args, zone)? else { return Ok(None) };
    let on_error = match args.get(2).map(word) {
        None => Some(Some(false)),
        Some(word) => match word.as_deref() {
            Some("TRUE") => Some(Some(true)),
            Some("FALSE") => Some(Some(false)),
            Some("UNKNOWN") => Some(None),
            Some("ERROR") => None,
            _ => return Ok(None),
        },
    };
    let kernel: Kernel = Arc::new(move |a| {
        let mut paths = Compiled::default();
        let mut values = BooleanBuilder::with_capacity(a.rows);
        for i in 0..a.rows {
            let (Some(input), Some(path)) = (a.str(0, i), a.str(1, i)) else {
                values.append_null();
                continue;
            };
            let doc = Json::parse(input);
            values.append_option(match (look(paths.get(path, Path::parse), doc.as_ref()), on_error) {
                (Ok(found), _) => Some(found.is_some()),
                (Err(_), Some(value)) => value,
                (Err(why), None) => return Err(Error::data(format!("JSON_EXISTS: {why}"))),
            });
        }
        Ok(Arc::new(values.finish()))
    });
    Ok(Some(call(name, operands.to_vec(), TypeKind::Boolean.nullable(), kernel)))
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("JSON_VALUE", "(STRING, path)", json_value),
        special("JSON_QUERY", "(STRING, path)", json_query),
        special("JSON_EXISTS", "(STRING, path)", json_exists),
    ]
}
