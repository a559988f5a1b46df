//! OBJECT_OF and OBJECT_UPDATE: rows by the names of their fields (Flink's structured types, whose class means nothing here).

use super::collection::row_of;
use super::{Function, special};
use crate::build;
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Field, Result, TypeKind};

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("OBJECT_OF", "(class, name, value, ...)", |n, a, _| object_of(n, a)),
        special("OBJECT_UPDATE", "(object, name, value, ...)", object_update),
    ]
}

/// The constant text that stands at `position`, counted from 0.
fn text(args: &[ExprRef], position: usize, what: &str) -> Result<String> {
    let constant = args[position].as_literal().filter(|_| args[position].data_type().kind.is_character());
    let value = constant.and_then(|value| Some(crate::args::view(value).ok()?.str(0)?.to_string()));
    value.ok_or_else(|| Error::script(format!("argument {} must be a constant text: {what}", position + 1)))
}

/// The pairs of names and values behind the first argument; `None` if one lacks its value.
fn pairs(args: &[ExprRef]) -> Result<Option<Vec<(String, ExprRef)>>> {
    let mut pairs: Vec<(String, ExprRef)> = vec![];
    if args.len().is_multiple_of(2) {
        return Ok(None);
    }
    for position in (1..args.len()).step_by(2) {
        let name = text(args, position, "a field's name")?;
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(Error::script(format!("the field name '{name}' at position {} is repeated", position + 1)));
        }
        pairs.push((name, args[position + 1].clone()));
    }
    Ok(Some(pairs))
}

fn object_of(name: &str, args: &[ExprRef]) -> Result<Option<ExprRef>> {
    if args.is_empty() {
        return Ok(None);
    }
    text(args, 0, "the class's name")?;
    let Some(pairs) = pairs(args)? else { return Ok(None) };
    let fields = pairs.iter().map(|(name, value)| Field::new(name, value.data_type().clone())).collect();
    Ok(row_of(name, fields, pairs.into_iter().map(|(_, value)| value).collect()))
}

fn object_update(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some(object) = args.first() else { return Ok(None) };
    let TypeKind::Row(fields) = &object.data_type().kind else { return Ok(None) };
    let Some(mut pairs) = pairs(args)? else { return Ok(None) };
    if let Some((unknown, _)) = pairs.iter().find(|(name, _)| fields.iter().all(|field| field.name != *name)) {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let error = Error::script(format!("the object has no field '{unknown}'"));
        return Err(error.detail(format!("its fields are {}", names.join(", "))));
    }
    let mut values = vec![];
    for field in fields {
        values.push(match pairs.iter().position(|(name, _)| *name == field.name) {
            Some(at) => pairs.swap_remove(at).1,
            None => build::field(object.clone(), &field.name)?,
        });
    }
    let fields = fields.iter().zip(&values).map(|(field, value)| Field::new(&field.name, value.data_type().clone()));
    let Some(updated) = row_of(name, fields.collect(), values) else { return Ok(None) };
    if !object.data_type().nullable {
        return Ok(Some(updated));
    }
    let is_null = build::call("IS NULL", vec![object.clone()], zone)?;
    let null = build::literal(build::Value::Null, updated.data_type().clone().with_nullable(true));
    build::call("CASE", vec![is_null, null, updated], zone).map(Some)
}
