//! Accumulators: the columnar state of aggregate functions, a group a slot.

mod bitmap;
mod collect;
mod numeric;
mod ordered;
mod percentile;
mod pick;

use arrow::array::{Array, ArrayRef, AsArray};
use millstream_core::graph::{AggregateCall, AggregateFunction};
use millstream_core::{Batch, Error, Result, RowKind, TypeKind};

/// The state of one aggregate for many groups.
///
/// `signs` says what each row does: +1 adds it, -1 takes it back, 0 leaves it out (its filter is not TRUE);
/// `None`: all add. Groups are below what `resize` was last told.
pub(crate) trait Accumulator: Send {
    /// Makes room for `groups` groups.
    fn resize(&mut self, groups: usize);
    /// Takes one row into each of `groups`.
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()>;
    /// Takes one partial result into each of `groups`.
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()>;
    /// The partial results, of [`AggregateCall::state_types`].
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>>;
    /// The results.
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef>;
    /// Forgets what a group has taken.
    fn clear(&mut self, group: u32);
    /// Keeps only these groups, which are numbered from 0 in this order from now on.
    fn keep(&mut self, groups: &[u32]);
}

/// The values of these groups, in their order.
fn kept<T: Clone>(values: &[T], groups: &[u32]) -> Vec<T> {
    groups.iter().map(|group| values[*group as usize].clone()).collect()
}

/// The accumulator of a call.
pub(crate) fn accumulator(call: &AggregateCall) -> Result<Box<dyn Accumulator>> {
    if call.keeps_rows() {
        return Ok(Box::new(collect::Collect::new(call)?));
    }
    plain(call)
}

/// The accumulator of a call without its DISTINCT over rows that may be taken back, and the types of its state.
///
/// The one of MIN and MAX has no state of its own: it has to be told each value once, whoever counts how often it
/// occurs.
pub(crate) fn retractable(call: &AggregateCall) -> Result<(Box<dyn Accumulator>, Vec<millstream_core::DataType>)> {
    use AggregateFunction::*;
    let call = AggregateCall { distinct: false, ..call.clone() };
    match call.function {
        Min | Max => Ok((Box::new(ordered::Ordered::new(&call)?), vec![])),
        FirstValue | LastValue => Ok((Box::new(collect::Collect::new(&call)?), call.row_state_types())),
        Bitmap { operation, cardinality } => Ok(bitmap::of_changes(operation, cardinality)),
        _ => Ok((accumulator(&call)?, call.state_types())),
    }
}

/// The accumulator of a call in a window, and the types of its state; `retracts`: rows may be taken back.
pub(crate) fn in_window(
    call: &AggregateCall,
    retracts: bool,
) -> Result<(Box<dyn Accumulator>, Vec<millstream_core::DataType>)> {
    use AggregateFunction::*;
    let takes_back =
        matches!(call.function, Count | Sum | Sum0 | Avg | StddevPop | StddevSamp | VarPop | VarSamp) && !call.distinct;
    if let (true, false, Bitmap { operation, cardinality }) = (retracts, call.distinct, &call.function) {
        return Ok(bitmap::of_changes(*operation, *cardinality));
    }
    match retracts && !takes_back {
        true => Ok((Box::new(collect::Collect::of_changes(call)?), call.row_state_types())),
        false => Ok((accumulator(call)?, call.state_types())),
    }
}

/// The accumulator of a call without its DISTINCT, for functions that don't keep rows.
fn plain(call: &AggregateCall) -> Result<Box<dyn Accumulator>> {
    use AggregateFunction::*;
    let arg = call.arg_types.first();
    let missing = || Error::internal(format!("{:?} without an argument", call.function));
    match &call.function {
        Count => Ok(Box::new(numeric::Count::default())),
        Sum | Sum0 => numeric::sum(call),
        Avg => numeric::avg(call),
        StddevPop | StddevSamp | VarPop | VarSamp => Ok(Box::new(numeric::Moments::new(call)?)),
        Min | Max => match arg.ok_or_else(missing)?.kind {
            TypeKind::TinyInt
            | TypeKind::SmallInt
            | TypeKind::Int
            | TypeKind::BigInt
            | TypeKind::Float
            | TypeKind::Double
            | TypeKind::Decimal(..)
            | TypeKind::Timestamp(_)
            | TypeKind::TimestampLtz(_) => numeric::extremum(call),
            _ => Ok(Box::new(pick::Pick::new(call)?)),
        },
        FirstValue | LastValue => Ok(Box::new(pick::Pick::new(call)?)),
        Bitmap { operation, cardinality } => Ok(bitmap::of_rows(*operation, *cardinality)),
        other => Err(Error::internal(format!("{other:?} keeps rows"))),
    }
}

/// What each row does under a filter (a BOOLEAN column) and by its kind; see [`Accumulator`].
pub(crate) fn signs(batch: &Batch, filter: Option<usize>) -> Option<Vec<i8>> {
    if filter.is_none() && batch.kinds.is_none() {
        return None;
    }
    let mask = filter.map(|column| batch.column(column).as_boolean());
    let sign = |row: usize| {
        if mask.is_some_and(|m| m.is_null(row) || !m.value(row)) {
            return 0;
        }
        let kind = batch.kinds.as_ref().map_or(RowKind::Insert, |_| batch.kind(row));
        if kind.is_addition() { 1 } else { -1 }
    };
    Some((0..batch.num_rows()).map(sign).collect())
}

/// Calls `each(row, group, sign)` for the rows that count: neither NULL in `array` nor of sign 0.
#[inline]
fn for_each(groups: &[u32], array: Option<&ArrayRef>, signs: Option<&[i8]>, mut each: impl FnMut(usize, usize, i64)) {
    let nulls = array.and_then(|a| a.logical_nulls()).filter(|n| n.null_count() > 0);
    match (nulls, signs) {
        (None, None) => groups.iter().enumerate().for_each(|(row, group)| each(row, *group as usize, 1)),
        (nulls, signs) => {
            for (row, group) in groups.iter().enumerate() {
                let sign = signs.map_or(1, |s| s[row]);
                if sign != 0 && nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                    each(row, *group as usize, i64::from(sign));
                }
            }
        }
    }
}

fn no_retraction(function: &AggregateFunction) -> Error {
    Error::unsupported(format!("{function:?} in a window over updating rows"))
}

fn argument(args: &[ArrayRef]) -> Result<&ArrayRef> {
    args.first().ok_or_else(|| Error::internal("an aggregate without its argument"))
}

fn state_column(state: &[ArrayRef], index: usize) -> Result<&ArrayRef> {
    state.get(index).ok_or_else(|| Error::state("an aggregate's partial result lacks a column"))
}
