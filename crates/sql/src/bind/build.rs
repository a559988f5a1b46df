//! Short forms for building expressions, and the functions over expression trees that planning needs.

use crate::rel::Column;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, ExprRef, Result, TypeKind};
use millstream_expr::build::{self, Value};
use std::collections::BTreeSet;

/// The `index`-th column.
pub fn column(index: usize, column: &Column) -> ExprRef {
    build::column(index, column.data_type.clone(), &column.name)
}

/// A NULL of a type.
pub fn null(kind: TypeKind) -> ExprRef {
    build::literal(Value::Null, kind.nullable())
}

/// A BIGINT.
pub fn bigint(value: i64) -> ExprRef {
    build::literal(Value::Int(value), TypeKind::BigInt.not_null())
}

/// A BOOLEAN.
pub fn boolean(value: bool) -> ExprRef {
    build::literal(Value::Boolean(value), TypeKind::Boolean.not_null())
}

/// Whether two expressions are the same, node by node.
pub fn same(a: &ExprRef, b: &ExprRef) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// `a AND b`, where either may be absent.
pub fn and(a: Option<ExprRef>, b: Option<ExprRef>, zone: &SessionZone) -> Result<Option<ExprRef>> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(build::call("AND", vec![a, b], zone)?),
        (a, b) => a.or(b),
    })
}

/// The columns that an expression reads.
pub fn columns_of(expr: &ExprRef, into: &mut BTreeSet<usize>) {
    if let Some(index) = expr.as_column() {
        into.insert(index);
    }
    for child in expr.children() {
        columns_of(child, into);
    }
}

/// The expression with each column replaced; a replacement must have the column's type.
pub fn replace_columns(expr: &ExprRef, replacement: &dyn Fn(usize) -> ExprRef) -> ExprRef {
    replace_some(expr, &|index| Some(replacement(index)))
}

/// The expression with those columns replaced for which there is a replacement, which must have the column's type.
pub fn replace_some(expr: &ExprRef, replacement: &dyn Fn(usize) -> Option<ExprRef>) -> ExprRef {
    if let Some(index) = expr.as_column() {
        return replacement(index).unwrap_or_else(|| expr.clone());
    }
    let children = expr.children();
    if children.is_empty() {
        return expr.clone();
    }
    let children = children.into_iter().map(|c| replace_some(c, replacement)).collect();
    expr.with_children(children)
}

/// The expression over other columns: column i is now column `index` of type `data_type`, as `to(i)` says. A ROW
/// column may have lost fields that the expression doesn't read.
pub fn rebind(expr: &ExprRef, to: &dyn Fn(usize) -> (usize, DataType, String)) -> Result<ExprRef> {
    if let Some((index, path)) = build::field_path(expr) {
        let (index, data_type, name) = to(index);
        let mut result = build::column(index, data_type, &name);
        for name in &path {
            result = build::field(result, name)?;
        }
        return Ok(result);
    }
    let children = expr.children();
    if children.is_empty() {
        return Ok(expr.clone());
    }
    let children = children.into_iter().map(|c| rebind(c, to)).collect::<Result<Vec<_>>>()?;
    Ok(expr.with_children(children))
}
