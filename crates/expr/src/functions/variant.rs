//! Functions over VARIANT: parsing JSON, and the elements and fields of a value.

use super::{Function, fit, special};
use crate::args::{Args, try_bytes};
use crate::jsonpath::parse_variant;
use crate::node::call;
use millstream_core::types::SessionZone;
use millstream_core::variant::{Value, Variant};
use millstream_core::{Error, ExprRef, Result, TypeKind};

/// Texts are shown up to this many characters.
const SHOWN_MAX: usize = 100;

fn parse(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some(args) = fit("sb?", args, zone)? else { return Ok(None) };
    let tries = name == "TRY_PARSE_JSON";
    let nullable = tries || args.iter().any(|a| a.data_type().nullable);
    let kernel = try_bytes(move |a, i| {
        let Some(text) = a.str(0, i) else { return Ok(None) };
        let duplicates = match a.len() > 1 {
            true => a.bool(1, i),
            false => Some(false),
        };
        let Some(duplicates) = duplicates else { return Ok(None) };
        match parse_variant(text, duplicates) {
            Ok(node) => Ok(Some(node.to_bytes())),
            Err(_) if tries => Ok(None),
            Err(why) => {
                let shown: String = text.chars().take(SHOWN_MAX).collect();
                let error = Error::data(format!("'{shown}' can't be parsed as JSON")).detail(why);
                Err(error.hint("TRY_PARSE_JSON gives NULL instead; PARSE_JSON(x, TRUE) takes the last of equal keys"))
            }
        }
    });
    Ok(Some(call(name, args, TypeKind::Variant.nullable().with_nullable(nullable), kernel)))
}

fn kind_of(value: Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "a truth value",
        Value::Integer(_) | Value::Double(_) | Value::Decimal(..) => "a number",
        Value::Text(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// `variant[index]` or `variant['field']`, from 1; `None` if the arguments don't fit.
pub(super) fn item(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [from, key] = args else { return None };
    let kind = &key.data_type().kind;
    let kernel = match kind {
        k if k.is_integer() => try_bytes(|a, i| pick(a, i, element)),
        k if k.is_character() => try_bytes(|a, i| pick(a, i, field)),
        _ => return None,
    };
    Some(call(name, vec![from.clone(), key.clone()], TypeKind::Variant.nullable(), kernel))
}

type Pick = for<'a> fn(&Args<'a>, usize, Value<'a>) -> Result<Option<Variant<'a>>>;

fn pick(a: &Args<'_>, i: usize, part: Pick) -> Result<Option<Vec<u8>>> {
    let Some(bytes) = a.bytes(0, i) else { return Ok(None) };
    if a.is_null(1, i) {
        return Ok(None);
    }
    let found = part(a, i, Variant::new(bytes)?.value()?)?;
    found.map(|found| Ok(found.to_node()?.to_bytes())).transpose()
}

fn element<'a>(a: &Args<'a>, i: usize, value: Value<'a>) -> Result<Option<Variant<'a>>> {
    let Value::Array(items) = value else {
        return Err(Error::data(format!("an element is asked of a VARIANT that is {}", kind_of(value))));
    };
    let index = a.int(1, i).and_then(|n| usize::try_from(n - 1).ok()).filter(|index| *index < items.len());
    index.map(|index| items.at(index)).transpose()
}

fn field<'a>(a: &Args<'a>, i: usize, value: Value<'a>) -> Result<Option<Variant<'a>>> {
    let Value::Object(fields) = value else {
        return Err(Error::data(format!("a field is asked of a VARIANT that is {}", kind_of(value))));
    };
    a.str(1, i).map_or(Ok(None), |name| fields.field(name))
}

pub(super) fn functions() -> Vec<Function> {
    const TAKES: &str = "(STRING, [BOOLEAN])";
    vec![special("PARSE_JSON", TAKES, parse), special("TRY_PARSE_JSON", TAKES, parse)]
}
