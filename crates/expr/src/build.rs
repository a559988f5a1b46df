//! Making expressions: columns, constants, calls by name, casts.

use crate::functions;
use crate::logic::{self, Case, Coalesce};
use crate::node::{self, Column, Literal};
use crate::{arithmetic, compare};
use arrow::array::*;
use millstream_core::expr::EvalContext;
use millstream_core::types::SessionZone;
use millstream_core::{Batch, DataType, Error, ExprRef, Result, Schema, TypeKind};
use std::sync::Arc;

pub use crate::cast::cast;
pub use crate::typing::least_restrictive;

/// A constant's value; temporal ones are integers in the unit of their Arrow type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// TRUE or FALSE
    Boolean(bool),
    /// Integers, temporal values, intervals.
    Int(i64),
    /// A decimal, without its scale.
    Decimal(i128),
    /// FLOAT or DOUBLE.
    Double(f64),
    /// Text.
    String(String),
    /// Binary data.
    Bytes(Vec<u8>),
}

/// The column at `index`.
pub fn column(index: usize, data_type: DataType, name: impl Into<String>) -> ExprRef {
    Arc::new(Column { index, data_type, name: name.into() })
}

/// A constant of `data_type`. A value that isn't of the type's kind is a mistake of the caller's.
pub fn literal(value: Value, data_type: DataType) -> ExprRef {
    let to = data_type.arrow();
    let ints = |v| crate::args::int_array(Int64Array::from(vec![v]), &to).expect("an integer is of every such type");
    let value: ArrayRef = match (value, &data_type.kind) {
        (Value::Null, _) => new_null_array(&to, 1),
        (Value::Boolean(v), _) => Arc::new(BooleanArray::from(vec![v])),
        (Value::Int(v), TypeKind::Decimal(_, s)) => {
            decimal_literal(i128::from(v) * 10i128.pow(u32::from(*s)), &data_type)
        }
        (Value::Int(v), TypeKind::Double) => Arc::new(Float64Array::from(vec![v as f64])),
        (Value::Int(v), TypeKind::Float) => Arc::new(Float32Array::from(vec![v as f32])),
        (Value::Int(v), _) => ints(v),
        (Value::Decimal(v), _) => decimal_literal(v, &data_type),
        (Value::Double(v), TypeKind::Float) => Arc::new(Float32Array::from(vec![v as f32])),
        (Value::Double(v), _) => Arc::new(Float64Array::from(vec![v])),
        (Value::String(v), _) => Arc::new(StringArray::from(vec![v])),
        (Value::Bytes(v), _) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
    };
    Arc::new(Literal { value, data_type })
}

fn decimal_literal(v: i128, data_type: &DataType) -> ArrayRef {
    let (p, s) = crate::decimal::shape(data_type);
    let array = Decimal128Array::from(vec![v]).with_precision_and_scale(p, s as i8);
    Arc::new(array.expect("a decimal type has a valid precision and scale"))
}

const COMPARISONS: [&str; 8] = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];
const TESTS: [&str; 8] =
    ["IS NULL", "IS NOT NULL", "IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE", "IS UNKNOWN", "IS NOT UNKNOWN"];

/// The operator or function `name` (in capitals) over `args`.
///
/// # Errors
/// A script error if there is no such function, or none that takes these types.
pub fn call(name: &str, args: Vec<ExprRef>, zone: &SessionZone) -> Result<ExprRef> {
    let mismatch = || {
        let types: Vec<String> = args.iter().map(|a| a.data_type().kind.to_string()).collect();
        let error = Error::script(format!("function {name} does not take ({})", types.join(", ")));
        match functions::signatures(name) {
            Some(accepted) => error.hint(format!("it takes {accepted}")),
            None => error,
        }
    };
    if let Some(op) = COMPARISONS.iter().find(|op| **op == name) {
        let [l, r] = &args[..] else { return Err(mismatch()) };
        return compare::compare(op, l, r, zone)?.ok_or_else(mismatch);
    }
    if TESTS.contains(&name) {
        let [x] = &args[..] else { return Err(mismatch()) };
        return logic::test(name, x).ok_or_else(mismatch);
    }
    let made = match (name, &args[..]) {
        ("+" | "-" | "*" | "/" | "%", [l, r]) => arithmetic::binary(name.chars().next().unwrap_or('+'), l, r, zone)?,
        ("MOD", [l, r]) => arithmetic::binary('%', l, r, zone)?,
        ("NEG" | "-", [x]) => arithmetic::negate(x),
        ("AND" | "OR", [_, _, ..]) => {
            let args = args.iter().map(|a| condition(a, zone)).collect::<Option<Vec<_>>>().ok_or_else(mismatch)?;
            args.into_iter().reduce(|l, r| logic::and_or(name == "AND", l, r))
        }
        ("NOT", [x]) => condition(x, zone).map(logic::not),
        ("IN", [_, _, ..]) => compare::is_in(&args, zone)?.map(|made| node::with_constants(made, &args)),
        ("CASE", [_, _, _, ..]) if args.len() % 2 == 1 => case(&args, false, zone)?,
        ("IF", [c, x, y]) => case(&[c.clone(), x.clone(), y.clone()], c.data_type().nullable, zone)?,
        ("COALESCE" | "IFNULL", [_, ..]) => coalesce(&args, zone)?,
        ("NULLIF", [x, y]) => match compare::compare("=", x, y, zone)? {
            None => None,
            Some(equal) => {
                let null = literal(Value::Null, x.data_type().clone().with_nullable(true));
                case(&[equal, null, x.clone()], false, zone)?
            }
        },
        _ => functions::bind(name, &args, zone)?.map(|made| node::with_constants(made, &args)),
    };
    made.ok_or_else(mismatch)
}

/// `x` as a truth value, if it is one or NULL.
fn condition(x: &ExprRef, zone: &SessionZone) -> Option<ExprRef> {
    match x.data_type().kind {
        TypeKind::Boolean => Some(x.clone()),
        TypeKind::Null => cast(x.clone(), TypeKind::Boolean.nullable(), false, zone).ok(),
        _ => None,
    }
}

/// `nullable`: whether its type allows NULL even if no value's does.
fn case(args: &[ExprRef], nullable: bool, zone: &SessionZone) -> Result<Option<ExprRef>> {
    let is_value = |i: usize| i % 2 == 1 || i + 1 == args.len();
    let values = args.iter().enumerate().filter(|(i, _)| is_value(*i));
    let types: Vec<DataType> = values.map(|(_, v)| v.data_type().clone()).collect();
    let Some(mut data_type) = least_restrictive(&types) else { return Ok(None) };
    data_type.nullable |= nullable;
    let mut children = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        if is_value(i) {
            children.push(crate::cast::implicit(arg, &data_type, zone)?);
        } else {
            let Some(condition) = condition(arg, zone) else { return Ok(None) };
            children.push(condition);
        }
    }
    Ok(Some(Arc::new(Case { children, data_type })))
}

fn coalesce(args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let types: Vec<DataType> = args.iter().map(|v| v.data_type().clone()).collect();
    let Some(data_type) = crate::typing::common_type(&types) else { return Ok(None) };
    let data_type = data_type.with_nullable(types.iter().all(|t| t.nullable));
    let children = args.iter().map(|a| crate::cast::implicit(a, &data_type, zone)).collect::<Result<_>>()?;
    Ok(Some(Arc::new(Coalesce { children, data_type })))
}

/// The field `name` of a ROW.
pub fn field(expr: ExprRef, name: &str) -> Result<ExprRef> {
    let TypeKind::Row(fields) = &expr.data_type().kind else {
        return Err(Error::script(format!("{} has no field '{name}'", expr.data_type().kind)));
    };
    let position = fields.iter().position(|f| f.name == name);
    position.and_then(|i| logic::field_at(&expr, i)).ok_or_else(|| {
        let hint = millstream_core::suggest::did_you_mean(name, fields.iter().map(|f| f.name.as_str()));
        let error = Error::script(format!("{} has no field '{name}'", expr.data_type().kind));
        hint.into_iter().fold(error, Error::hint)
    })
}

/// If `expr` reads fields within a column: the column and the names on the way (none for the column itself).
pub fn field_path(expr: &ExprRef) -> Option<(usize, Vec<String>)> {
    if let Some(index) = expr.as_column() {
        return Some((index, vec![]));
    }
    let name = expr.as_field()?.to_string();
    let (index, mut path) = field_path(expr.children().first()?)?;
    path.push(name);
    Some((index, path))
}

/// Replaces what depends on no column by its value.
///
/// # Errors
/// A script error if a constant part that every row would evaluate fails (`1 / 0`); parts that only some rows need
/// are left as they are.
pub fn fold(expr: ExprRef) -> Result<ExprRef> {
    let lazy = expr.is_lazy();
    let children = expr.children();
    let expr = if children.is_empty() {
        expr
    } else {
        let mut folded = Vec::with_capacity(children.len());
        for child in children {
            folded.push(match fold(child.clone()) {
                Err(_) if lazy => child.clone(),
                other => other?,
            });
        }
        expr.with_children(folded)
    };
    let constant = !expr.children().is_empty()
        && expr.children().iter().all(|c| c.as_literal().is_some())
        && expr.is_deterministic();
    if !constant {
        return Ok(expr);
    }
    let batch = Batch::from_columns(Schema::new(vec![]).arrow().clone(), vec![], 1)?;
    match expr.evaluate(&batch, &EvalContext::at(0)) {
        Ok(value) => Ok(Arc::new(Literal { value: value.into_array(1)?, data_type: expr.data_type().clone() })),
        Err(_) if lazy => Ok(expr),
        Err(e) => {
            let error = Error::script(e.message()).detail(format!("in the constant expression {expr}"));
            Err(e.hint_text().map(str::to_string).into_iter().fold(error, Error::hint))
        }
    }
}

/// The names of all functions, sorted, without the operators.
pub fn function_names() -> Vec<&'static str> {
    functions::names()
}
