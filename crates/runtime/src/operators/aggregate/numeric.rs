//! COUNT, SUM, AVG, MIN, MAX, and the variances, over numbers and timestamps.

use super::{Accumulator, argument, for_each, kept, no_retraction, state_column};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::array::{Decimal128Array, Float64Array, Int64Array};
use arrow::compute;
use arrow::datatypes::*;
use millstream_core::graph::{AggregateCall, AggregateFunction};
use millstream_core::{Error, Result};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        for_each(groups, args.first(), signs, |_, group, sign| self.counts[group] += sign);
        Ok(())
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        let counts = state_column(state, 0)?.as_primitive::<Int64Type>();
        groups.iter().zip(counts.values()).for_each(|(g, n)| self.counts[*g as usize] += n);
        Ok(())
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(groups)?])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(|g| self.counts[*g as usize]))))
    }
    fn clear(&mut self, group: u32) {
        self.counts[group as usize] = 0;
    }
    fn keep(&mut self, groups: &[u32]) {
        self.counts = kept(&self.counts, groups);
    }
}

/// A sum that keeps its argument's representation and wraps; how many rows are in it tells NULL from 0.
struct Sum<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    data_type: DataType,
    zero_for_none: bool,
}

/// Dispatches on the Arrow type of `$data_type`.
macro_rules! by_number_type {
    ($data_type:expr, $type:ident => $make:expr, $otherwise:expr) => {
        match $data_type {
            DataType::Int8 => {
                type $type = Int8Type;
                $make
            }
            DataType::Int16 => {
                type $type = Int16Type;
                $make
            }
            DataType::Int32 => {
                type $type = Int32Type;
                $make
            }
            DataType::Int64 => {
                type $type = Int64Type;
                $make
            }
            DataType::Float32 => {
                type $type = Float32Type;
                $make
            }
            DataType::Float64 => {
                type $type = Float64Type;
                $make
            }
            DataType::Decimal128(..) => {
                type $type = Decimal128Type;
                $make
            }
            _ => $otherwise,
        }
    };
}

fn arg_type(call: &AggregateCall) -> Result<DataType> {
    let first = call.arg_types.first();
    Ok(first.ok_or_else(|| Error::internal("an aggregate without an argument type"))?.arrow())
}

fn unknown(call: &AggregateCall) -> Error {
    Error::unsupported(format!("{:?} of {:?}", call.function, call.arg_types))
}

pub(super) fn sum(call: &AggregateCall) -> Result<Box<dyn Accumulator>> {
    let data_type = call.result.arrow();
    let zero_for_none = call.function == AggregateFunction::Sum0;
    by_number_type!(
        arg_type(call)?,
        T => Ok(Box::new(Sum::<T> { sums: vec![], counts: vec![], data_type, zero_for_none })),
        Err(unknown(call))
    )
}

impl<T: ArrowPrimitiveType> Sum<T> {
    fn values(&self, groups: &[u32], zero_for_none: bool) -> ArrayRef {
        let value = |g: &u32| {
            let g = *g as usize;
            (zero_for_none || self.counts[g] != 0).then_some(self.sums[g])
        };
        let array = groups.iter().map(value).collect::<PrimitiveArray<T>>();
        Arc::new(array.with_data_type(self.data_type.clone()))
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Sum<T> {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, T::Native::ZERO);
        self.counts.resize(groups, 0);
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let array = argument(args)?;
        let values = array.as_primitive::<T>().values();
        for_each(groups, Some(array), signs, |row, group, sign| {
            let sum = &mut self.sums[group];
            *sum = if sign > 0 { sum.add_wrapping(values[row]) } else { sum.sub_wrapping(values[row]) };
            self.counts[group] += sign;
        });
        Ok(())
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        let sums = state_column(state, 0)?.as_primitive::<T>();
        let counts = state_column(state, 1)?.as_primitive::<Int64Type>().values();
        for (row, group) in groups.iter().enumerate() {
            let group = *group as usize;
            if sums.is_valid(row) {
                self.sums[group] = self.sums[group].add_wrapping(sums.value(row));
            }
            self.counts[group] += counts[row];
        }
        Ok(())
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let counts = Int64Array::from_iter_values(groups.iter().map(|g| self.counts[*g as usize]));
        Ok(vec![self.values(groups, true), Arc::new(counts)])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(self.values(groups, self.zero_for_none))
    }
    fn clear(&mut self, group: u32) {
        (self.sums[group as usize], self.counts[group as usize]) = (T::Native::ZERO, 0);
    }
    fn keep(&mut self, groups: &[u32]) {
        (self.sums, self.counts) = (kept(&self.sums, groups), kept(&self.counts, groups));
    }
}

/// An average: a wide sum and a count.
struct Avg<S: Accumulator> {
    sum: S,
    wide: DataType,
    result: DataType,
}

pub(super) fn avg(call: &AggregateCall) -> Result<Box<dyn Accumulator>> {
    let result = call.result.arrow();
    fn make<T: ArrowPrimitiveType>(wide: DataType, result: DataType) -> Box<dyn Accumulator> {
        let sum = Sum::<T> { sums: vec![], counts: vec![], data_type: wide.clone(), zero_for_none: true };
        Box::new(Avg { sum, wide, result })
    }
    match arg_type(call)? {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            Ok(make::<Int64Type>(DataType::Int64, result))
        }
        DataType::Float32 | DataType::Float64 => Ok(make::<Float64Type>(DataType::Float64, result)),
        DataType::Decimal128(_, scale) => Ok(make::<Decimal128Type>(DataType::Decimal128(38, scale), result)),
        _ => Err(unknown(call)),
    }
}

/// `numerator / denominator`, halves away from zero.
fn divide_half_up(numerator: i128, denominator: i128) -> i128 {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    let up = rest.unsigned_abs() * 2 >= denominator.unsigned_abs();
    quotient + if up { numerator.signum() * denominator.signum() } else { 0 }
}

impl<S: Accumulator> Accumulator for Avg<S> {
    fn resize(&mut self, groups: usize) {
        self.sum.resize(groups);
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let array = argument(args)?;
        let same = matches!((array.data_type(), &self.wide), (DataType::Decimal128(..), _));
        if same || array.data_type() == &self.wide {
            return self.sum.update(groups, args, signs);
        }
        self.sum.update(groups, &[compute::cast(array, &self.wide)?], signs)
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.sum.merge(groups, state)
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.sum.state(groups)
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let state = self.sum.state(groups)?;
        let counts = state_column(&state, 1)?.as_primitive::<Int64Type>();
        let sums = state_column(&state, 0)?;
        match (&self.wide, &self.result) {
            (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) => {
                let factor = 10i128.checked_pow((to - from).max(0) as u32);
                let shrink = 10i128.pow((from - to).max(0) as u32);
                let limit = 10i128.pow(u32::from(*precision));
                let average = |(sum, count): (&i128, &i64)| {
                    if *count == 0 {
                        return None;
                    }
                    let scaled = sum.checked_mul(factor?)?;
                    let value = divide_half_up(scaled, i128::from(*count).checked_mul(shrink)?);
                    (value.abs() < limit).then_some(value)
                };
                let sums = sums.as_primitive::<Decimal128Type>().values();
                let array = sums.iter().zip(counts.values()).map(average).collect::<Decimal128Array>();
                Ok(Arc::new(array.with_data_type(self.result.clone())))
            }
            (DataType::Float64, result) => {
                let sums = sums.as_primitive::<Float64Type>().values();
                let average = |(sum, count): (&f64, &i64)| (*count != 0).then(|| sum / *count as f64);
                let array = sums.iter().zip(counts.values()).map(average).collect::<Float64Array>();
                Ok(compute::cast(&array, result)?)
            }
            (_, result) => {
                let sums = sums.as_primitive::<Int64Type>().values();
                let average = |(sum, count): (&i64, &i64)| sum.checked_div(*count);
                let array = sums.iter().zip(counts.values()).map(average).collect::<Int64Array>();
                Ok(compute::cast(&array, result)?)
            }
        }
    }
    fn clear(&mut self, group: u32) {
        self.sum.clear(group);
    }
    fn keep(&mut self, groups: &[u32]) {
        self.sum.keep(groups);
    }
}

/// MIN or MAX of values that are one number each.
struct Extremum<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    seen: Vec<bool>,
    data_type: DataType,
    function: AggregateFunction,
}

pub(super) fn extremum(call: &AggregateCall) -> Result<Box<dyn Accumulator>> {
    let data_type = arg_type(call)?;
    let function = call.function.clone();
    macro_rules! make {
        ($t:ty) => {
            Ok(Box::new(Extremum::<$t> { values: vec![], seen: vec![], data_type, function }))
        };
    }
    by_number_type!(
        &data_type,
        T => make!(T),
        match &data_type {
            DataType::Timestamp(TimeUnit::Millisecond, _) => make!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => make!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => make!(TimestampNanosecondType),
            _ => Err(unknown(call)),
        }
    )
}

impl<T: ArrowPrimitiveType> Extremum<T> {
    fn fold(&mut self, groups: &[u32], array: &ArrayRef, signs: Option<&[i8]>) -> Result<()> {
        let values = array.as_primitive::<T>().values();
        let (known, seen) = (&mut self.values, &mut self.seen);
        let mut taken_back = false;
        let mut each = |row: usize, group: usize, sign: i64, better: fn(T::Native, T::Native) -> bool| {
            taken_back |= sign < 0;
            if !seen[group] || better(values[row], known[group]) {
                seen[group] = true;
                known[group] = values[row];
            }
        };
        if self.function == AggregateFunction::Max {
            for_each(groups, Some(array), signs, |r, g, s| each(r, g, s, |a, b| a.is_gt(b)));
        } else {
            for_each(groups, Some(array), signs, |r, g, s| each(r, g, s, |a, b| a.is_lt(b)));
        }
        if taken_back { Err(no_retraction(&self.function)) } else { Ok(()) }
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Extremum<T> {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, T::Native::ZERO);
        self.seen.resize(groups, false);
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        self.fold(groups, argument(args)?, signs)
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.fold(groups, state_column(state, 0)?, None)
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(groups)?])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let value = |g: &u32| self.seen[*g as usize].then(|| self.values[*g as usize]);
        let array = groups.iter().map(value).collect::<PrimitiveArray<T>>();
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }
    fn clear(&mut self, group: u32) {
        self.seen[group as usize] = false;
    }
    fn keep(&mut self, groups: &[u32]) {
        (self.values, self.seen) = (kept(&self.values, groups), kept(&self.seen, groups));
    }
}

/// Count, mean and sum of squared distances (Welford; merged as by Chan).
pub(super) struct Moments {
    slots: Vec<(f64, f64, f64)>,
    function: AggregateFunction,
    result: DataType,
}

impl Moments {
    pub(super) fn new(call: &AggregateCall) -> Result<Self> {
        Ok(Moments { slots: vec![], function: call.function.clone(), result: call.result.arrow() })
    }
}

impl Accumulator for Moments {
    fn resize(&mut self, groups: usize) {
        self.slots.resize(groups, (0.0, 0.0, 0.0));
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let array = compute::cast(argument(args)?, &DataType::Float64)?;
        let values = array.as_primitive::<Float64Type>().values().clone();
        for_each(groups, Some(&array), signs, |row, group, sign| {
            let (count, mean, squares) = &mut self.slots[group];
            let value = values[row];
            let delta = value - *mean;
            if sign > 0 {
                *count += 1.0;
                *mean += delta / *count;
                *squares += delta * (value - *mean);
            } else if *count <= 1.0 {
                (*count, *mean, *squares) = (0.0, 0.0, 0.0);
            } else {
                *count -= 1.0;
                *mean -= delta / *count;
                *squares -= delta * (value - *mean);
            }
        });
        Ok(())
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        let counts = state_column(state, 0)?.as_primitive::<Int64Type>().values();
        let means = state_column(state, 1)?.as_primitive::<Float64Type>().values();
        let squares = state_column(state, 2)?.as_primitive::<Float64Type>().values();
        for (row, group) in groups.iter().enumerate() {
            let other = (counts[row] as f64, means[row], squares[row]);
            let slot = &mut self.slots[*group as usize];
            let count = slot.0 + other.0;
            if slot.0 == 0.0 {
                *slot = other;
            } else if other.0 > 0.0 {
                let delta = other.1 - slot.1;
                *slot = (
                    count,
                    slot.1 + delta * other.0 / count,
                    slot.2 + other.2 + delta * delta * slot.0 * other.0 / count,
                );
            }
        }
        Ok(())
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let slots = || groups.iter().map(|g| self.slots[*g as usize]);
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(slots().map(|s| s.0 as i64))),
            Arc::new(Float64Array::from_iter_values(slots().map(|s| s.1))),
            Arc::new(Float64Array::from_iter_values(slots().map(|s| s.2))),
        ])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        use AggregateFunction::*;
        let value = |g: &u32| {
            let (count, _, squares) = self.slots[*g as usize];
            let sample = matches!(self.function, StddevSamp | VarSamp);
            let divisor = if sample { count - 1.0 } else { count };
            let variance = (divisor > 0.0).then(|| squares / divisor)?;
            Some(if matches!(self.function, StddevPop | StddevSamp) { variance.sqrt() } else { variance })
        };
        let array = groups.iter().map(value).collect::<Float64Array>();
        Ok(compute::cast(&array, &self.result)?)
    }
    fn clear(&mut self, group: u32) {
        self.slots[group as usize] = (0.0, 0.0, 0.0);
    }
    fn keep(&mut self, groups: &[u32]) {
        self.slots = kept(&self.slots, groups);
    }
}
