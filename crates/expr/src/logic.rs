//! Three-valued logic, `CASE` and `COALESCE`: what must not evaluate an argument a row doesn't need.

use crate::args::{Args, Kernel, boolean};
use crate::node::{self, FieldAccess};
use crate::select::select;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::{Batch, DataType, Error, Expr, ExprRef, Result, TypeKind};
use std::fmt;
use std::sync::Arc;

/// The right side of AND and OR is evaluated for single rows if fewer than one in so many needs it.
const FEW_PART: usize = 8;

/// `l AND r` or `l OR r`.
#[derive(Debug)]
struct Logic {
    is_and: bool,
    left: ExprRef,
    right: ExprRef,
    data_type: DataType,
}

/// `l AND r` (or OR), where `r` isn't needed if `l` decides.
pub(crate) fn and_or(is_and: bool, left: ExprRef, right: ExprRef) -> ExprRef {
    let nullable = left.data_type().nullable || right.data_type().nullable;
    let data_type = TypeKind::Boolean.nullable().with_nullable(nullable);
    Arc::new(Logic { is_and, left, right, data_type })
}

/// `NOT x`.
pub(crate) fn not(x: ExprRef) -> ExprRef {
    let kernel: Kernel = Arc::new(|a| Ok(Arc::new(compute::not(truth(&a.array(0)?)?)?)));
    let out = TypeKind::Boolean.nullable().with_nullable(x.data_type().nullable);
    node::call("NOT", vec![x], out, kernel)
}

/// The `i`th field of a ROW expression.
pub(crate) fn field_at(row: &ExprRef, position: usize) -> Option<ExprRef> {
    let TypeKind::Row(fields) = &row.data_type().kind else { return None };
    let field = fields.get(position)?;
    let nullable = field.data_type.nullable || row.data_type().nullable;
    let data_type = field.data_type.clone().with_nullable(nullable);
    Some(Arc::new(FieldAccess { row: row.clone(), name: field.name.clone(), position, data_type }))
}

fn truth(array: &ArrayRef) -> Result<&BooleanArray> {
    array.as_boolean_opt().ok_or_else(|| Error::internal("a condition isn't a truth value"))
}

impl fmt::Display for Logic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, if self.is_and { "AND" } else { "OR" }, self.right)
    }
}

impl Expr for Logic {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch, ctx)?;
        let scalar = left.is_scalar();
        let array = left.into_array(if scalar { 1 } else { rows })?;
        let values = truth(&array)?;
        let decided = values.len() - values.null_count();
        let decided = if self.is_and { decided - values.true_count() } else { values.true_count() };
        if decided == values.len() {
            return Ok(if scalar { Columnar::Scalar(array) } else { Columnar::Array(array) });
        }
        // Where the left side leaves few rows open, the right one runs over those; else over all, which is cheaper
        // than picking them, unless it fails for one that doesn't need it.
        let few = !scalar && (rows - decided) * FEW_PART < rows;
        let right = match if few { None } else { Some(self.right.evaluate(batch, ctx)) } {
            Some(Ok(right)) => right,
            Some(Err(e)) if scalar || decided == 0 => return Err(e),
            _ => {
                let open: Vec<u32> =
                    (0..rows).filter(|i| at(values, *i) != Some(!self.is_and)).map(|i| i as u32).collect();
                let part = subset(&self.right, batch, &open, ctx)?;
                let mut spread = vec![None; rows];
                for (i, row) in open.iter().enumerate() {
                    spread[*row as usize] = at(truth(&part)?, i);
                }
                Columnar::Array(Arc::new(BooleanArray::from(spread)))
            }
        };
        let both = scalar && right.is_scalar();
        let n = if both { 1 } else { rows };
        let left = Columnar::Scalar(array.clone());
        let left = if scalar { left.into_array(n)? } else { array };
        let right = right.into_array(n)?;
        let (l, r) = (truth(&left)?, truth(&right)?);
        let result = if self.is_and { compute::and_kleene(l, r)? } else { compute::or_kleene(l, r)? };
        let result: ArrayRef = Arc::new(result);
        Ok(if both { Columnar::Scalar(result) } else { Columnar::Array(result) })
    }
    fn is_lazy(&self) -> bool {
        true
    }
    fn as_call(&self) -> Option<&str> {
        Some(if self.is_and { "AND" } else { "OR" })
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![&self.left, &self.right]
    }
    fn with_children(&self, mut children: Vec<ExprRef>) -> ExprRef {
        let right = children.pop().expect("AND has two children");
        let left = children.pop().expect("AND has two children");
        Arc::new(Logic { is_and: self.is_and, left, right, data_type: self.data_type.clone() })
    }
}

fn at(values: &BooleanArray, i: usize) -> Option<bool> {
    if values.is_null(i) { None } else { Some(values.value(i)) }
}

fn mark(expr: &ExprRef, used: &mut [bool]) {
    if let Some(slot) = expr.as_column().and_then(|i| used.get_mut(i)) {
        *slot = true;
    }
    expr.children().into_iter().for_each(|c| mark(c, used));
}

/// `expr` over the rows at `indices` only.
fn subset(expr: &ExprRef, batch: &Batch, indices: &[u32], ctx: &EvalContext) -> Result<ArrayRef> {
    if let Some(value) = expr.as_literal() {
        return Columnar::Scalar(value.clone()).into_array(indices.len());
    }
    if indices.len() == batch.num_rows() {
        return expr.evaluate(batch, ctx)?.into_array(indices.len());
    }
    let rows = &batch.rows;
    let mut used = vec![false; rows.num_columns()];
    mark(expr, &mut used);
    let take = UInt32Array::from(indices.to_vec());
    let columns = rows.columns().iter().zip(&used).map(|(column, used)| match used {
        true => compute::take(column, &take, None),
        false => Ok(new_null_array(column.data_type(), indices.len())),
    });
    let part = Batch::from_columns(rows.schema(), columns.collect::<Result<_, _>>()?, indices.len())?;
    expr.evaluate(&part, ctx)?.into_array(indices.len())
}

/// `CASE WHEN c1 THEN v1 ... ELSE e END`: conditions and values in turn, then the else.
#[derive(Debug)]
pub(crate) struct Case {
    pub children: Vec<ExprRef>,
    pub data_type: DataType,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        node::write_call(f, "CASE", &self.children)
    }
}

/// Whether it is there already: choosing among such values needs no picking of rows.
fn is_at_hand(expr: &ExprRef) -> bool {
    let is_field = || expr.as_field().is_some() && expr.children().into_iter().all(is_at_hand);
    expr.as_literal().is_some() || expr.as_column().is_some() || is_field()
}

/// The rows for which `values` is TRUE.
fn holding(values: &BooleanArray) -> BooleanBuffer {
    match values.nulls() {
        None => values.values().clone(),
        Some(nulls) => values.values() & nulls.inner(),
    }
}

/// Values for some rows each, to be put together.
struct Parts {
    arrays: Vec<ArrayRef>,
    /// Of each row the part and the place there.
    from: Vec<(usize, usize)>,
}

impl Parts {
    fn new(rows: usize) -> Self {
        Parts { arrays: vec![], from: vec![(0, 0); rows] }
    }
    /// `array` has the values of `rows`, in this order.
    fn push(&mut self, array: ArrayRef, rows: impl Iterator<Item = usize>) {
        rows.enumerate().for_each(|(i, row)| self.from[row] = (self.arrays.len(), i));
        self.arrays.push(array);
    }
    fn push_value(&mut self, value: &ExprRef, rows: &BooleanBuffer, batch: &Batch, ctx: &EvalContext) -> Result<()> {
        let part = self.arrays.len();
        if rows.count_set_bits() == 0 {
            return Ok(());
        }
        if is_at_hand(value) {
            let value = value.evaluate(batch, ctx)?;
            let is_one = value.is_scalar();
            rows.set_indices().for_each(|row| self.from[row] = (part, if is_one { 0 } else { row }));
            self.arrays.push(value.array().clone());
            return Ok(());
        }
        let indices: Vec<u32> = rows.set_indices().map(|row| row as u32).collect();
        self.push(subset(value, batch, &indices, ctx)?, rows.set_indices());
        Ok(())
    }
    fn finish(mut self) -> Result<ArrayRef> {
        if self.arrays.len() == 1 && self.arrays[0].len() == self.from.len() {
            return Ok(self.arrays.remove(0));
        }
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(|a| a.as_ref()).collect();
        Ok(compute::interleave(&arrays, &self.from)?)
    }
}

impl Case {
    /// The result where all values are columns and constants; `None` if they aren't, or if a condition fails (maybe for
    /// a row that doesn't need it).
    fn choose(&self, batch: &Batch, ctx: &EvalContext) -> Result<Option<Columnar>> {
        let (branches, otherwise) = self.children.as_chunks::<2>();
        let Some(otherwise) = otherwise.first().filter(|e| is_at_hand(e)) else { return Ok(None) };
        if !branches.iter().all(|[condition, value]| is_at_hand(value) && condition.is_deterministic()) {
            return Ok(None);
        }
        let mut result = otherwise.evaluate(batch, ctx)?;
        for [condition, value] in branches.iter().rev() {
            let Ok(holds) = condition.evaluate(batch, ctx) else { return Ok(None) };
            let holds = holding(truth(&holds.into_array(batch.num_rows())?)?);
            result = Columnar::Array(select(&holds, &value.evaluate(batch, ctx)?, &result)?);
        }
        Ok(Some(result))
    }

    /// The rows of `open` for which the condition holds.
    fn take(condition: &ExprRef, open: &BooleanBuffer, batch: &Batch, ctx: &EvalContext) -> Result<BooleanBuffer> {
        let (rows, count) = (open.len(), open.count_set_bits());
        // Over all rows is cheaper than to pick those that are open, unless these are few, or it fails for another.
        if condition.is_deterministic() && count * FEW_PART >= rows {
            match condition.evaluate(batch, ctx) {
                Ok(holds) => return Ok(&holding(truth(&holds.into_array(rows)?)?) & open),
                Err(e) if count == rows => return Err(e),
                Err(_) => {}
            }
        }
        let indices: Vec<u32> = open.set_indices().map(|row| row as u32).collect();
        let holds = subset(condition, batch, &indices, ctx)?;
        let holds = holding(truth(&holds)?);
        let mut taken = BooleanBufferBuilder::new(rows);
        taken.append_n(rows, false);
        holds.set_indices().for_each(|i| taken.set_bit(indices[i] as usize, true));
        Ok(taken.finish())
    }
}

impl Expr for Case {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar> {
        let n = batch.num_rows();
        if n == 0 {
            return Ok(Columnar::Array(new_null_array(&self.data_type.arrow(), 0)));
        }
        if let Some(result) = self.choose(batch, ctx)? {
            return Ok(result);
        }
        let mut open = BooleanBuffer::new_set(n);
        let mut parts = Parts::new(n);
        let (branches, otherwise) = self.children.as_chunks::<2>();
        for [condition, value] in branches {
            if open.count_set_bits() == 0 {
                break;
            }
            let taken = Case::take(condition, &open, batch, ctx)?;
            parts.push_value(value, &taken, batch, ctx)?;
            open = &open & &!&taken;
        }
        if let Some(otherwise) = otherwise.first() {
            parts.push_value(otherwise, &open, batch, ctx)?;
        }
        Ok(Columnar::Array(parts.finish()?))
    }
    fn is_lazy(&self) -> bool {
        true
    }
    fn children(&self) -> Vec<&ExprRef> {
        self.children.iter().collect()
    }
    fn with_children(&self, children: Vec<ExprRef>) -> ExprRef {
        Arc::new(Case { children, data_type: self.data_type.clone() })
    }
}

/// `COALESCE(a, b, ...)`.
#[derive(Debug)]
pub(crate) struct Coalesce {
    pub children: Vec<ExprRef>,
    pub data_type: DataType,
}

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        node::write_call(f, "COALESCE", &self.children)
    }
}

impl Expr for Coalesce {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar> {
        let n = batch.num_rows();
        let Some((first, others)) = self.children.split_first() else {
            return Err(Error::internal("COALESCE has an argument"));
        };
        let first = first.evaluate(batch, ctx)?;
        if first.array().null_count() == 0 || others.is_empty() {
            return Ok(first);
        }
        let first = first.into_array(n)?;
        if let [other] = others
            && is_at_hand(other)
        {
            let known = compute::is_not_null(&first)?;
            let other = other.evaluate(batch, ctx)?;
            return Ok(Columnar::Array(select(known.values(), &Columnar::Array(first), &other)?));
        }
        let missing = |part: &ArrayRef, rows: &[u32]| -> Vec<u32> {
            rows.iter().enumerate().filter(|(i, _)| part.is_null(*i)).map(|(_, r)| *r).collect()
        };
        let all: Vec<u32> = (0..n as u32).collect();
        let mut remaining = missing(&first, &all);
        // Rows that are NULL in a part are overwritten by the parts that follow.
        let mut parts = Parts::new(n);
        parts.push(first, 0..n);
        for other in others {
            let part = subset(other, batch, &remaining, ctx)?;
            let next = missing(&part, &remaining);
            parts.push(part, remaining.iter().map(|row| *row as usize));
            remaining = next;
            if remaining.is_empty() {
                break;
            }
        }
        Ok(Columnar::Array(parts.finish()?))
    }
    fn is_lazy(&self) -> bool {
        true
    }
    fn children(&self) -> Vec<&ExprRef> {
        self.children.iter().collect()
    }
    fn with_children(&self, children: Vec<ExprRef>) -> ExprRef {
        Arc::new(Coalesce { children, data_type: self.data_type.clone() })
    }
}

/// `IS NULL`, `IS NOT NULL`, `IS TRUE` and the like; `None` if `name` is none of them.
pub(crate) fn test(name: &str, x: &ExprRef) -> Option<ExprRef> {
    let (wanted, negated) = match name {
        "IS NULL" | "IS UNKNOWN" => (None, false),
        "IS NOT NULL" | "IS NOT UNKNOWN" => (None, true),
        "IS TRUE" => (Some(true), false),
        "IS NOT TRUE" => (Some(true), true),
        "IS FALSE" => (Some(false), false),
        "IS NOT FALSE" => (Some(false), true),
        _ => return None,
    };
    let boolean_type = matches!(x.data_type().kind, TypeKind::Boolean | TypeKind::Null);
    if !(boolean_type || name.ends_with("NULL")) {
        return None;
    }
    let kernel = match wanted {
        None => Arc::new(move |a: &Args<'_>| {
            let x = a.array(0)?;
            Ok(Arc::new(if negated { compute::is_not_null(&x)? } else { compute::is_null(&x)? }) as ArrayRef)
        }),
        Some(v) => boolean(move |a, i| Some((a.bool(0, i) == Some(v)) != negated)),
    };
    Some(node::call(name, vec![x.clone()], TypeKind::Boolean.not_null(), kernel))
}
