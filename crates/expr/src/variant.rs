//! Casts from VARIANT to the type of what is in it, as Flink has had them since 2.4.
//!
//! They succeed only where the target holds the value as it is: a whole number of any integer type that it is in the
//! range of, a decimal of enough digits, any number as FLOAT or DOUBLE. JSON's `null` becomes NULL.

use crate::args::view;
use crate::build::{Value as Constant, literal};
use crate::decimal::{fits, rescale, to_f64};
use crate::print;
use arrow::array::{Array, ArrayRef};
use arrow::compute;
use millstream_core::types::SessionZone;
use millstream_core::variant::{Value, Variant};
use millstream_core::{DataType, Error, Result, TypeKind};

/// The value as one of `to`; `None` if `to` doesn't hold it.
fn held(value: Value<'_>, to: &TypeKind) -> Option<Constant> {
    let within = |n: i64, min: i64, max: i64| (min..=max).contains(&n).then_some(Constant::Int(n));
    Some(match (value, to) {
        (Value::Boolean(b), TypeKind::Boolean) => Constant::Boolean(b),
        (Value::Integer(n), TypeKind::TinyInt) => within(n, i8::MIN.into(), i8::MAX.into())?,
        (Value::Integer(n), TypeKind::SmallInt) => within(n, i16::MIN.into(), i16::MAX.into())?,
        (Value::Integer(n), TypeKind::Int) => within(n, i32::MIN.into(), i32::MAX.into())?,
        (Value::Integer(n), TypeKind::BigInt) => Constant::Int(n),
        (Value::Integer(n), TypeKind::Decimal(p, s)) => decimal(n.into(), 0, *p, *s)?,
        (Value::Decimal(n, scale), TypeKind::Decimal(p, s)) => decimal(n, scale, *p, *s)?,
        (value, TypeKind::Float | TypeKind::Double) => {
            let n = match value {
                Value::Integer(n) => n as f64,
                Value::Decimal(n, scale) => to_f64(n, scale),
                Value::Double(n) => n,
                _ => return None,
            };
            let holds = *to == TypeKind::Double || (n as f32).is_finite();
            return holds.then_some(Constant::Double(n));
        }
        _ => return None,
    })
}

/// A decimal of another scale, if no digit is lost.
fn decimal(n: i128, from: u8, p: u8, s: u8) -> Option<Constant> {
    let value = rescale(n, from, s).filter(|value| fits(*value, p))?;
    (rescale(value, s, from) == Some(n)).then_some(Constant::Decimal(value))
}

/// Casts a whole column.
pub(crate) fn cast(
    array: &ArrayRef,
    from: &DataType,
    to: &DataType,
    try_: bool,
    zone: &SessionZone,
) -> Result<ArrayRef> {
    let arg = view(array)?;
    let mut values = Vec::with_capacity(array.len());
    for i in 0..array.len() {
        let value = arg.bytes(i).map(|bytes| Variant::new(bytes)?.value()).transpose()?;
        let constant = match value {
            None => Constant::Null,
            Some(Value::Null) if to.nullable => Constant::Null,
            Some(value) => match held(value, &to.kind) {
                Some(constant) => constant,
                None if try_ => Constant::Null,
                None => {
                    let text = print::format_value(array, i, from, zone);
                    let error = Error::data(format!("the VARIANT {text} can't be cast to {}", to.kind));
                    return Err(error.hint("TRY_CAST gives NULL instead"));
                }
            },
        };
        let literal = literal(constant, to.clone());
        values.push(literal.as_literal().expect("a literal has a value").clone());
    }
    if values.is_empty() {
        return Ok(arrow::array::new_empty_array(&to.arrow()));
    }
    let values: Vec<&dyn Array> = values.iter().map(|value| value.as_ref()).collect();
    Ok(compute::concat(&values)?)
}
