//! One call of an aggregate: its arguments, and the type of its result by Flink's rules.

use super::build;
use super::expr::ExprBinder;
use super::insert::casts_implicitly;
use super::place::parts;
use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use millstream_core::graph::{AggregateFunction, BitmapOperation};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    NullTreatment,
};

/// A call of an aggregate, over what it stands on.
#[derive(Debug)]
pub struct PendingCall {
    /// Which.
    pub function: AggregateFunction,
    /// Its arguments.
    pub args: Vec<ExprRef>,
    /// `f(DISTINCT x)`
    pub distinct: bool,
    /// `FILTER (WHERE ..)`
    pub filter: Option<ExprRef>,
    /// The result's type.
    pub result: DataType,
}

impl PendingCall {
    /// Whether both are the same call.
    pub fn same(&self, other: &PendingCall) -> bool {
        let filter = match (&self.filter, &other.filter) {
            (Some(a), Some(b)) => build::same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        filter
            && self.function == other.function
            && self.distinct == other.distinct
            && self.args.len() == other.args.len()
            && self.args.iter().zip(&other.args).all(|(a, b)| build::same(a, b))
    }
}

/// Binds an aggregate's arguments.
pub fn bind_call(function: &Function, name: &str, binder: &mut ExprBinder<'_>) -> Result<PendingCall> {
    let FunctionArguments::List(list) = &function.args else {
        return Err(Error::script(format!("{name} needs an argument")));
    };
    let mut args = vec![];
    let mut arg_asts = vec![];
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "COUNT" && list.args.len() == 1 => {}
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                args.push(binder.bind(expr)?);
                arg_asts.push(expr);
            }
            other => return Err(Error::script(format!("{other} is no argument of {name}"))),
        }
    }
    let mut ignore_nulls = matches!(function.null_treatment, Some(NullTreatment::IgnoreNulls));
    let mut absent_on_null = false;
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => {
                ignore_nulls = matches!(treatment, NullTreatment::IgnoreNulls);
            }
            other => return Err(Error::unsupported(format!("{other} in {name}"))),
        }
    }
    if !function.within_group.is_empty() {
        return Err(Error::unsupported(format!("WITHIN GROUP of {name}")));
    }
    if name.starts_with("JSON_") && !args.is_empty() {
        // The parser puts the ON NULL clause first, as a word.
        absent_on_null = text_of(&args.remove(0)).as_deref() == Some("ABSENT");
    }
    let filter = match &function.filter {
        Some(filter) => Some(binder.bind_condition(filter, "FILTER")?),
        None => None,
    };
    let mut distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let takes: (usize, usize) = match name {
        "COUNT" => (usize::from(distinct || !list.args.is_empty() && !arg_asts.is_empty()), 8),
        "LISTAGG" => (1, 2),
        "JSON_OBJECTAGG" => (2, 2),
        "PERCENTILE" => (2, 3),
        _ => (1, 1),
    };
    if !(takes.0..=takes.1).contains(&args.len()) {
        return Err(Error::script(format!("{name} takes {} argument(s), but got {}", takes.0, args.len())));
    }
    if name == "COUNT" && args.len() > 1 && !distinct {
        return Err(Error::script("COUNT of several columns needs DISTINCT")
            .hint("COUNT(DISTINCT a, b) counts the combinations in which none is NULL"));
    }
    let is_json = arg_asts.last().is_some_and(|value| makes_json(value));
    let mut kind = match name {
        "COUNT" => AggregateFunction::Count,
        "APPROX_COUNT_DISTINCT" => {
            distinct = true;
            AggregateFunction::Count
        }
        "SUM" => AggregateFunction::Sum,
        "SUM0" | "$SUM0" => AggregateFunction::Sum0,
        "AVG" => AggregateFunction::Avg,
        "MIN" => AggregateFunction::Min,
        "MAX" => AggregateFunction::Max,
        "FIRST_VALUE" => AggregateFunction::FirstValue,
        "LAST_VALUE" => AggregateFunction::LastValue,
        "STDDEV_POP" => AggregateFunction::StddevPop,
        "STDDEV_SAMP" | "STDDEV" => AggregateFunction::StddevSamp,
        "VAR_POP" => AggregateFunction::VarPop,
        "VAR_SAMP" | "VARIANCE" => AggregateFunction::VarSamp,
        "LISTAGG" => AggregateFunction::ListAgg { separator: ",".into() },
        "COLLECT" => AggregateFunction::Collect,
        "ARRAY_AGG" => AggregateFunction::ArrayAgg { ignore_nulls },
        "JSON_OBJECTAGG" => AggregateFunction::JsonObjectAgg { absent_on_null, is_json },
        "JSON_ARRAYAGG" => AggregateFunction::JsonArrayAgg { absent_on_null, is_json },
        "PERCENTILE" => return percentile(args, distinct, filter, &binder.zone),
        _ if name.starts_with("BITMAP_") => return bitmap(name, args, distinct, filter, &binder.zone),
        _ => AggregateFunction::SingleValue,
    };
    if let (AggregateFunction::ListAgg { separator }, Some(given)) = (&mut kind, args.get(1)) {
        *separator = text_of(given).ok_or_else(|| Error::script("LISTAGG's separator must be a text literal"))?;
        args.truncate(1);
    }
    let result = result_type(name, &kind, &args, filter.is_some())?;
    Ok(PendingCall { function: kind, args, distinct, filter, result })
}

/// Whether it is a constructor of JSON, whose text JSON_OBJECTAGG and JSON_ARRAYAGG take as it is.
fn makes_json(value: &Expr) -> bool {
    match value {
        Expr::Function(function) => {
            matches!(parts(&function.name)[..], [name] if ["JSON_OBJECT", "JSON_ARRAY"].contains(&name.to_uppercase().as_str()))
        }
        _ => false,
    }
}

/// An aggregate of bitmaps, or of the INTs that make one.
fn bitmap(
    name: &str,
    mut args: Vec<ExprRef>,
    distinct: bool,
    filter: Option<ExprRef>,
    zone: &SessionZone,
) -> Result<PendingCall> {
    let operation = match name {
        "BITMAP_BUILD_AGG" | "BITMAP_BUILD_CARDINALITY_AGG" => BitmapOperation::Build,
        "BITMAP_AND_AGG" | "BITMAP_AND_CARDINALITY_AGG" => BitmapOperation::And,
        "BITMAP_OR_AGG" | "BITMAP_OR_CARDINALITY_AGG" => BitmapOperation::Or,
        _ => BitmapOperation::Xor,
    };
    let wanted = if operation == BitmapOperation::Build { TypeKind::Int } else { TypeKind::Bitmap };
    for arg in &mut args {
        let given = arg.data_type().clone();
        if !casts_implicitly(&given.kind, &wanted) {
            let error = Error::script(format!("{name} takes a value of type {wanted}, but got {given}"));
            return Err(match given.kind {
                TypeKind::BigInt => error.hint("a bitmap has 32-bit integers; CAST(x AS INT) makes such of others"),
                kind if wanted == TypeKind::Bitmap && kind.is_binary() => {
                    error.hint("BITMAP_FROM_BYTES reads a bitmap")
                }
                _ => error,
            });
        }
        *arg = exprs::cast(arg.clone(), wanted.clone().nullable().with_nullable(given.nullable), false, zone)?;
    }
    let cardinality = name.ends_with("_CARDINALITY_AGG");
    let result = if cardinality { TypeKind::BigInt } else { TypeKind::Bitmap }.nullable();
    // Only an odd number of equal bitmaps is another one than one of them.
    let distinct = distinct && operation == BitmapOperation::Xor;
    let function = AggregateFunction::Bitmap { operation, cardinality };
    Ok(PendingCall { function, args, distinct, filter, result })
}

/// The percentages are read while the script is planned; a variable one would not say of which row it is.
fn percentile(
    mut args: Vec<ExprRef>,
    distinct: bool,
    filter: Option<ExprRef>,
    zone: &SessionZone,
) -> Result<PendingCall> {
    let given = args.remove(1);
    let is_array = matches!(given.data_type().kind, TypeKind::Array(_));
    let double = || TypeKind::Double.nullable();
    let wanted = if is_array { TypeKind::Array(Box::new(double())).nullable() } else { double() };
    let numeric = |kind: &TypeKind| kind.is_numeric() || *kind == TypeKind::Null;
    let number_or_array = match &given.data_type().kind {
        TypeKind::Array(element) => numeric(&element.kind),
        kind => numeric(kind),
    };
    let shown = given.data_type().to_string();
    let literal = || Error::script("PERCENTILE's percentage must be a literal, from 0 to 1, or an array of such");
    if !number_or_array {
        return Err(literal().detail(format!("it is of type {shown}")));
    }
    let given = exprs::fold(exprs::cast(given, wanted, false, zone)?)?;
    let mut array = given.as_literal().ok_or_else(literal)?.clone();
    if let Some(list) = array.as_list_opt::<i32>() {
        array = if list.is_null(0) { return Err(literal()) } else { list.value(0) };
    }
    let percentages: Option<Vec<f64>> = array.as_primitive::<Float64Type>().iter().collect();
    let percentages = percentages.filter(|p| p.iter().all(|p| (0.0..=1.0).contains(p))).ok_or_else(literal)?;
    let kinds = [(TypeKind::Double, "a number"), (TypeKind::BigInt, "a frequency of an integer type")];
    for (arg, (kind, what)) in args.iter_mut().zip(kinds) {
        let given = arg.data_type().clone();
        let fits = if kind == TypeKind::Double { given.kind.is_numeric() } else { given.kind.is_integer() };
        if !fits {
            return Err(Error::script(format!("PERCENTILE takes {what}, but got {given}")));
        }
        *arg = exprs::cast(arg.clone(), kind.nullable().with_nullable(given.nullable), false, zone)?;
    }
    let result = if is_array { TypeKind::Array(Box::new(double())).nullable() } else { double() };
    Ok(PendingCall { function: AggregateFunction::Percentile { percentages }, args, distinct, filter, result })
}

fn text_of(expr: &ExprRef) -> Option<String> {
    let array = expr.as_literal()?;
    let text = array.as_string_opt::<i32>()?;
    (text.len() == 1 && !text.is_null(0)).then(|| text.value(0).to_string())
}

/// The result's type by Flink's rules.
fn result_type(name: &str, function: &AggregateFunction, args: &[ExprRef], filtered: bool) -> Result<DataType> {
    let arg = args.first().map(|a| a.data_type().clone());
    let refused = |what: &str| {
        let shown = arg.as_ref().map(|t| t.to_string()).unwrap_or_default();
        Err(Error::script(format!("{name} takes {what}, but got {shown}")))
    };
    let kind = arg.as_ref().map(|t| t.kind.clone());
    let nullable = filtered || arg.as_ref().is_some_and(|t| t.nullable);
    let average = |kind: TypeKind| match kind {
        TypeKind::Decimal(_, s) => TypeKind::Decimal(38, s.max(6)),
        other => other,
    };
    let Some(kind) = kind else { return Ok(TypeKind::BigInt.not_null()) };
    Ok(match function {
        AggregateFunction::Count => TypeKind::BigInt.not_null(),
        AggregateFunction::Sum | AggregateFunction::Sum0 => {
            let nullable = nullable && *function == AggregateFunction::Sum;
            match kind {
                TypeKind::Decimal(_, s) => TypeKind::Decimal(38, s).nullable().with_nullable(nullable),
                k if k.is_numeric() => k.nullable().with_nullable(nullable),
                _ => return refused("a number"),
            }
        }
        AggregateFunction::Avg
        | AggregateFunction::StddevPop
        | AggregateFunction::StddevSamp
        | AggregateFunction::VarPop
        | AggregateFunction::VarSamp => {
            // One row has no sample deviation.
            let sample = matches!(function, AggregateFunction::StddevSamp | AggregateFunction::VarSamp);
            match kind {
                k if k.is_numeric() => average(k).nullable().with_nullable(nullable || sample),
                _ => return refused("a number"),
            }
        }
        AggregateFunction::Min | AggregateFunction::Max => match kind {
            k if !k.has_order() => return refused("a value that has an order"),
            k => k.nullable().with_nullable(nullable),
        },
        AggregateFunction::FirstValue | AggregateFunction::LastValue | AggregateFunction::SingleValue => {
            kind.nullable().with_nullable(nullable)
        }
        AggregateFunction::ListAgg { .. } => match kind {
            k if k.is_character() => TypeKind::STRING.nullable(),
            _ => return refused("a character string"),
        },
        AggregateFunction::Collect => TypeKind::Multiset(Box::new(kind.nullable().with_nullable(nullable))).not_null(),
        AggregateFunction::ArrayAgg { .. } => {
            TypeKind::Array(Box::new(kind.nullable().with_nullable(nullable))).nullable()
        }
        AggregateFunction::JsonObjectAgg { .. } | AggregateFunction::JsonArrayAgg { .. } => TypeKind::STRING.not_null(),
        AggregateFunction::Percentile { .. } | AggregateFunction::Bitmap { .. } => {
            return Err(Error::internal(format!("{name} has types of its own")));
        }
    })
}
