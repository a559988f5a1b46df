//! The kinds of nodes an expression is made of.

use crate::args::{Args, Kernel};
use arrow::array::{Array, ArrayRef, AsArray};
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::{Batch, DataType, Error, Expr, ExprRef, Result, TypeKind};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A column of the input.
#[derive(Debug)]
pub(crate) struct Column {
    pub index: usize,
    pub data_type: DataType,
    pub name: String,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Expr for Column {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, _: &EvalContext) -> Result<Columnar> {
        Ok(Columnar::Array(batch.column(self.index).clone()))
    }
    fn as_column(&self) -> Option<usize> {
        Some(self.index)
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![]
    }
    fn with_children(&self, _: Vec<ExprRef>) -> ExprRef {
        Arc::new(Column { index: self.index, data_type: self.data_type.clone(), name: self.name.clone() })
    }
}

/// A constant.
#[derive(Debug)]
pub(crate) struct Literal {
    pub value: ArrayRef,
    pub data_type: DataType,
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = millstream_core::types::SessionZone::UTC;
        let text = crate::print::format_value(&self.value, 0, &self.data_type, &zone);
        if self.data_type.kind.is_character() && !self.value.is_null(0) {
            return write!(f, "'{}'", text.replace('\'', "''"));
        }
        f.write_str(&text)
    }
}

impl Expr for Literal {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, _: &Batch, _: &EvalContext) -> Result<Columnar> {
        Ok(Columnar::Scalar(self.value.clone()))
    }
    fn as_literal(&self) -> Option<&ArrayRef> {
        Some(&self.value)
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![]
    }
    fn with_children(&self, _: Vec<ExprRef>) -> ExprRef {
        Arc::new(Literal { value: self.value.clone(), data_type: self.data_type.clone() })
    }
}

/// A function whose arguments are all evaluated first.
#[derive(Clone)]
pub(crate) struct Call {
    pub name: String,
    pub args: Vec<ExprRef>,
    pub data_type: DataType,
    pub kernel: Kernel,
    /// Whether it gives the same for equal arguments.
    pub pure: bool,
    /// Constants that it was made of and that are not among its arguments, as text.
    pub constants: String,
}

// Expressions that are debugged alike are the same: planning goes by that.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?}; {}): {}", self.name, self.args, self.constants, self.data_type)
    }
}

/// `name(a, b)`, or `a op b` for an operator.
pub(crate) fn write_call(f: &mut fmt::Formatter<'_>, name: &str, args: &[ExprRef]) -> fmt::Result {
    let is_word = name.starts_with(|c: char| c.is_alphabetic());
    let infix = matches!(name, "AND" | "OR" | "LIKE");
    match args {
        [a, b] if !is_word || infix => return write!(f, "({a} {name} {b})"),
        [a] if name.starts_with("IS ") => return write!(f, "{a} {name}"),
        _ => {}
    }
    write!(f, "{name}(")?;
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{arg}")?;
    }
    f.write_str(")")
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.as_str(), self.args.as_slice()) {
            ("CAST" | "TRY_CAST", [value]) => write!(f, "{}({value} AS {})", self.name, self.data_type.kind),
            (name, args) if !self.constants.is_empty() => {
                let args: Vec<String> = args.iter().map(ToString::to_string).collect();
                write!(f, "{name}({}; {})", args.join(", "), self.constants)
            }
            _ => write_call(f, &self.name, &self.args),
        }
    }
}

impl Expr for Call {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar> {
        let columns = self.args.iter().map(|a| a.evaluate(batch, ctx)).collect::<Result<Vec<_>>>()?;
        let constant = self.pure && !columns.is_empty() && columns.iter().all(Columnar::is_scalar);
        let rows = if constant { 1 } else { batch.num_rows() };
        let args = Args::new(&columns, rows, *ctx, &self.data_type)?;
        let result = (self.kernel)(&args).map_err(|e| e.detail(format!("in the expression {self}")))?;
        Ok(if constant { Columnar::Scalar(result) } else { Columnar::Array(result) })
    }
    fn as_call(&self) -> Option<&str> {
        Some(&self.name)
    }
    fn children(&self) -> Vec<&ExprRef> {
        self.args.iter().collect()
    }
    fn with_children(&self, children: Vec<ExprRef>) -> ExprRef {
        Arc::new(Call { args: children, ..self.clone() })
    }
    fn is_deterministic(&self) -> bool {
        self.pure && self.args.iter().all(|a| a.is_deterministic())
    }
}

/// A pure call.
pub(crate) fn call(name: &str, args: Vec<ExprRef>, data_type: DataType, kernel: Kernel) -> ExprRef {
    Arc::new(Call { name: name.to_string(), args, data_type, kernel, pure: true, constants: String::new() })
}

/// The expression `made` of `args`; a call in it says which constants of these it has taken into itself: two calls are the same
/// only if these are.
pub(crate) fn with_constants(made: ExprRef, args: &[ExprRef]) -> ExprRef {
    let any: &dyn Any = &*made;
    if any.downcast_ref::<Call>().is_some_and(|call| call.args.len() >= args.len()) {
        return made;
    }
    let taken = args.iter().filter(|arg| arg.as_literal().is_some() && !contains(&made, arg));
    let constants: Vec<String> = taken.map(ToString::to_string).collect();
    if constants.is_empty() { made } else { noted(&made, args, &constants.join(", ")) }
}

fn contains(expr: &ExprRef, literal: &ExprRef) -> bool {
    Arc::ptr_eq(expr, literal) || expr.children().into_iter().any(|child| contains(child, literal))
}

fn noted(expr: &ExprRef, args: &[ExprRef], constants: &str) -> ExprRef {
    if args.iter().any(|arg| Arc::ptr_eq(arg, expr)) {
        return expr.clone();
    }
    let any: &dyn Any = &**expr;
    if let Some(call) = any.downcast_ref::<Call>() {
        return Arc::new(Call { constants: constants.to_string(), ..call.clone() });
    }
    let children: Vec<ExprRef> = expr.children().into_iter().map(|child| noted(child, args, constants)).collect();
    if children.is_empty() { expr.clone() } else { expr.with_children(children) }
}

/// A field of a ROW.
#[derive(Debug)]
pub(crate) struct FieldAccess {
    pub row: ExprRef,
    pub name: String,
    pub position: usize,
    pub data_type: DataType,
}

impl fmt::Display for FieldAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.row, self.name)
    }
}

impl Expr for FieldAccess {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar> {
        let row = self.row.evaluate(batch, ctx)?;
        let array = row.array();
        let fields = array.as_struct_opt().ok_or_else(|| Error::internal("a field is read of what is no row"))?;
        let mut column = fields.column(self.position).clone();
        if let Some(nulls) = array.nulls() {
            // What makes rows often gives their fields the same NULLs.
            let are_known = column.nulls().is_some_and(|own| own.inner().ptr_eq(nulls.inner()));
            if !are_known {
                let absent = arrow::array::BooleanArray::new(!nulls.inner(), None);
                column = arrow::compute::nullif(&column, &absent)?;
            }
        }
        Ok(if row.is_scalar() { Columnar::Scalar(column) } else { Columnar::Array(column) })
    }
    fn as_field(&self) -> Option<&str> {
        Some(&self.name)
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![&self.row]
    }
    fn with_children(&self, mut children: Vec<ExprRef>) -> ExprRef {
        let row = children.pop().expect("a field access has one child");
        // A pruned row may have fewer fields, so the position is looked up anew.
        let position = match &row.data_type().kind {
            TypeKind::Row(fields) => fields.iter().position(|f| f.name == self.name).unwrap_or(self.position),
            _ => self.position,
        };
        Arc::new(FieldAccess { row, name: self.name.clone(), position, data_type: self.data_type.clone() })
    }
}
