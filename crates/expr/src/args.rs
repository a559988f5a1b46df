//! Typed views of a function's arguments, and the builders that run a function row by row.

use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::{DataType, Error, Result};
use std::sync::Arc;

/// One argument, downcast once a batch.
pub(crate) enum Arg<'a> {
    Null,
    Bool(&'a BooleanArray),
    I8(&'a Int8Array),
    I16(&'a Int16Array),
    I32(&'a Int32Array),
    I64(&'a Int64Array),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    Dec(&'a Decimal128Array),
    Str(&'a StringArray),
    Bin(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time32MillisecondArray),
    Ms(&'a TimestampMillisecondArray),
    Us(&'a TimestampMicrosecondArray),
    Ns(&'a TimestampNanosecondArray),
    Months(&'a IntervalYearMonthArray),
    Duration(&'a DurationMillisecondArray),
    List(&'a ListArray),
    Map(&'a MapArray),
    Row(&'a StructArray),
}

/// Views `array` as what its type says.
pub(crate) fn view(array: &ArrayRef) -> Result<Arg<'_>> {
    let a = array.as_ref();
    Ok(match a.data_type() {
        ArrowType::Null => Arg::Null,
        ArrowType::Boolean => Arg::Bool(a.as_boolean()),
        ArrowType::Int8 => Arg::I8(a.as_primitive()),
        ArrowType::Int16 => Arg::I16(a.as_primitive()),
        ArrowType::Int32 => Arg::I32(a.as_primitive()),
        ArrowType::Int64 => Arg::I64(a.as_primitive()),
        ArrowType::Float32 => Arg::F32(a.as_primitive()),
        ArrowType::Float64 => Arg::F64(a.as_primitive()),
        ArrowType::Decimal128(..) => Arg::Dec(a.as_primitive()),
        ArrowType::Utf8 => Arg::Str(a.as_string()),
        ArrowType::Binary => Arg::Bin(a.as_binary()),
        ArrowType::Date32 => Arg::Date(a.as_primitive()),
        ArrowType::Time32(TimeUnit::Millisecond) => Arg::Time(a.as_primitive()),
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => Arg::Ms(a.as_primitive()),
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => Arg::Us(a.as_primitive()),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => Arg::Ns(a.as_primitive()),
        ArrowType::Interval(_) => Arg::Months(a.as_primitive()),
        ArrowType::Duration(_) => Arg::Duration(a.as_primitive()),
        ArrowType::List(_) => Arg::List(a.as_list()),
        ArrowType::Map(..) => Arg::Map(a.as_map()),
        ArrowType::Struct(_) => Arg::Row(a.as_struct()),
        other => return Err(Error::internal(format!("an expression met a column of type {other}"))),
    })
}

macro_rules! at {
    ($array:expr, $i:expr) => {
        if $array.is_null($i) { None } else { Some($array.value($i)) }
    };
}

impl<'a> Arg<'a> {
    /// Anything whose carrier is an integer, in that carrier's unit.
    pub fn int(&self, i: usize) -> Option<i64> {
        match self {
            Arg::I8(a) => at!(a, i).map(i64::from),
            Arg::I16(a) => at!(a, i).map(i64::from),
            Arg::I32(a) => at!(a, i).map(i64::from),
            Arg::I64(a) => at!(a, i),
            Arg::Date(a) => at!(a, i).map(i64::from),
            Arg::Time(a) => at!(a, i).map(i64::from),
            Arg::Ms(a) => at!(a, i),
            Arg::Us(a) => at!(a, i),
            Arg::Ns(a) => at!(a, i),
            Arg::Months(a) => at!(a, i).map(i64::from),
            Arg::Duration(a) => at!(a, i),
            _ => None,
        }
    }
    /// A timestamp, date or time as milliseconds and the nanoseconds beyond them.
    pub fn instant(&self, i: usize) -> Option<(i64, i64)> {
        match self {
            Arg::Ms(a) => at!(a, i).map(|v| (v, 0)),
            Arg::Us(a) => at!(a, i).map(|v| (v.div_euclid(1000), v.rem_euclid(1000) * 1000)),
            Arg::Ns(a) => at!(a, i).map(|v| (v.div_euclid(1_000_000), v.rem_euclid(1_000_000))),
            Arg::Date(a) => at!(a, i).map(|v| (i64::from(v) * 86_400_000, 0)),
            Arg::Time(a) => at!(a, i).map(|v| (i64::from(v), 0)),
            _ => None,
        }
    }
    pub fn str(&self, i: usize) -> Option<&'a str> {
        match self {
            Arg::Str(a) => at!(a, i),
            _ => None,
        }
    }
    /// The bytes of a string or of binary data.
    pub fn bytes(&self, i: usize) -> Option<&'a [u8]> {
        match self {
            Arg::Str(a) => at!(a, i).map(str::as_bytes),
            Arg::Bin(a) => at!(a, i),
            _ => None,
        }
    }
    pub fn bool(&self, i: usize) -> Option<bool> {
        match self {
            Arg::Bool(a) => at!(a, i),
            _ => None,
        }
    }
    pub fn f64(&self, i: usize) -> Option<f64> {
        match self {
            Arg::F64(a) => at!(a, i),
            Arg::F32(a) => at!(a, i).map(f64::from),
            _ => self.int(i).map(|v| v as f64),
        }
    }
    pub fn dec(&self, i: usize) -> Option<i128> {
        match self {
            Arg::Dec(a) => at!(a, i),
            _ => self.int(i).map(i128::from),
        }
    }
    /// The elements of an array.
    pub fn list(&self, i: usize) -> Option<ArrayRef> {
        match self {
            Arg::List(a) => at!(a, i),
            _ => None,
        }
    }
    /// The number of elements of an array, of entries of a map.
    pub fn length(&self, i: usize) -> Option<i64> {
        let (offsets, is_null) = match self {
            Arg::List(a) => (a.value_offsets(), a.is_null(i)),
            Arg::Map(a) => (a.value_offsets(), a.is_null(i)),
            _ => return None,
        };
        (!is_null).then(|| i64::from(offsets[i + 1] - offsets[i]))
    }
    /// The entries of a map: a struct of keys and values.
    pub fn map(&self, i: usize) -> Option<StructArray> {
        match self {
            Arg::Map(a) => at!(a, i),
            _ => None,
        }
    }
}

/// A function's arguments over a batch; a constant one answers the same for each row.
pub(crate) struct Args<'a> {
    /// The columns themselves.
    pub columns: &'a [Columnar],
    views: Vec<(Arg<'a>, bool)>,
    /// Rows to give.
    pub rows: usize,
    /// What is asked of the surroundings.
    pub ctx: EvalContext,
    /// The type to give.
    pub out: &'a DataType,
}

impl<'a> Args<'a> {
    pub fn new(columns: &'a [Columnar], rows: usize, ctx: EvalContext, out: &'a DataType) -> Result<Self> {
        let views = columns.iter().map(|c| Ok((view(c.array())?, c.is_scalar()))).collect::<Result<_>>()?;
        Ok(Args { columns, views, rows, ctx, out })
    }
    pub fn len(&self) -> usize {
        self.views.len()
    }
    /// Argument `k` and the row to read of it.
    fn at(&self, k: usize, i: usize) -> (&Arg<'a>, usize) {
        let (arg, scalar) = &self.views[k];
        (arg, if *scalar { 0 } else { i })
    }
    pub fn row(&self, k: usize, i: usize) -> usize {
        self.at(k, i).1
    }
    pub fn int(&self, k: usize, i: usize) -> Option<i64> {
        let (a, i) = self.at(k, i);
        a.int(i)
    }
    pub fn instant(&self, k: usize, i: usize) -> Option<(i64, i64)> {
        let (a, i) = self.at(k, i);
        a.instant(i)
    }
    pub fn str(&self, k: usize, i: usize) -> Option<&'a str> {
        let (a, i) = self.at(k, i);
        a.str(i)
    }
    pub fn bytes(&self, k: usize, i: usize) -> Option<&'a [u8]> {
        let (a, i) = self.at(k, i);
        a.bytes(i)
    }
    pub fn bool(&self, k: usize, i: usize) -> Option<bool> {
        let (a, i) = self.at(k, i);
        a.bool(i)
    }
    pub fn f64(&self, k: usize, i: usize) -> Option<f64> {
        let (a, i) = self.at(k, i);
        a.f64(i)
    }
    pub fn dec(&self, k: usize, i: usize) -> Option<i128> {
        let (a, i) = self.at(k, i);
        a.dec(i)
    }
    pub fn list(&self, k: usize, i: usize) -> Option<ArrayRef> {
        let (a, i) = self.at(k, i);
        a.list(i)
    }
    pub fn length(&self, k: usize, i: usize) -> Option<i64> {
        let (a, i) = self.at(k, i);
        a.length(i)
    }
    pub fn is_null(&self, k: usize, i: usize) -> bool {
        let i = self.row(k, i);
        self.columns[k].array().is_null(i) || matches!(self.views[k].0, Arg::Null)
    }
    /// Argument `k` with a value for each row.
    pub fn array(&self, k: usize) -> Result<ArrayRef> {
        self.columns[k].clone().into_array(self.rows)
    }
}

/// What a function does with its arguments.
pub(crate) type Kernel = Arc<dyn Fn(&Args<'_>) -> Result<ArrayRef> + Send + Sync>;

/// A function that writes text; `None` is NULL.
pub(crate) fn text(f: impl Fn(&Args<'_>, usize, &mut String) -> Option<()> + Send + Sync + 'static) -> Kernel {
    try_text(move |a, i, out| Ok(f(a, i, out)))
}

/// [`text`] that may fail.
pub(crate) fn try_text(
    f: impl Fn(&Args<'_>, usize, &mut String) -> Result<Option<()>> + Send + Sync + 'static,
) -> Kernel {
    try_text_with(move |_: &mut (), a, i, out| f(a, i, out))
}

/// Something compiled from text (a pattern, a path): made anew only when the text changes, which it hardly ever does.
pub(crate) struct Compiled<T>(Option<(String, Option<T>)>);

impl<T> Default for Compiled<T> {
    fn default() -> Self {
        Compiled(None)
    }
}

impl<T> Compiled<T> {
    /// What `make` gives for `text`; `None` if it is invalid.
    pub fn get(&mut self, text: &str, make: impl FnOnce(&str) -> Option<T>) -> Option<&T> {
        if !matches!(&self.0, Some((known, _)) if known == text) {
            self.0 = Some((text.to_string(), make(text)));
        }
        self.0.as_ref().and_then(|(_, value)| value.as_ref())
    }
}

/// [`text`] with something kept from row to row of a batch.
pub(crate) fn text_with<S: Default>(
    f: impl Fn(&mut S, &Args<'_>, usize, &mut String) -> Option<()> + Send + Sync + 'static,
) -> Kernel {
    try_text_with(move |state, a, i, out| Ok(f(state, a, i, out)))
}

/// [`text_with`] that may fail.
pub(crate) fn try_text_with<S: Default>(
    f: impl Fn(&mut S, &Args<'_>, usize, &mut String) -> Result<Option<()>> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let mut builder = StringBuilder::with_capacity(a.rows, a.rows * 16);
        let (mut state, mut buffer) = (S::default(), String::new());
        for i in 0..a.rows {
            buffer.clear();
            match f(&mut state, a, i, &mut buffer)? {
                Some(()) => builder.append_value(&buffer),
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    })
}

/// [`boolean`] with something kept from row to row of a batch.
pub(crate) fn boolean_with<S: Default>(
    f: impl Fn(&mut S, &Args<'_>, usize) -> Option<bool> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let mut state = S::default();
        Ok(Arc::new(booleans(a.rows, |i| f(&mut state, a, i))))
    })
}

/// [`int`] with something kept from row to row of a batch.
pub(crate) fn int_with<S: Default>(
    f: impl Fn(&mut S, &Args<'_>, usize) -> Option<i64> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let mut state = S::default();
        int_array(integers(a.rows, |i| f(&mut state, a, i)), &a.out.arrow())
    })
}

/// A function that gives bytes.
pub(crate) fn bytes(f: impl Fn(&Args<'_>, usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> Kernel {
    try_bytes(move |a, i| Ok(f(a, i)))
}

/// [`bytes`] that may fail.
pub(crate) fn try_bytes(f: impl Fn(&Args<'_>, usize) -> Result<Option<Vec<u8>>> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| {
        let mut builder = BinaryBuilder::with_capacity(a.rows, a.rows * 16);
        for i in 0..a.rows {
            builder.append_option(f(a, i)?);
        }
        Ok(Arc::new(builder.finish()))
    })
}

/// A function that gives an integer or a temporal value, in the unit of its carrier; out of range wraps.
pub(crate) fn int(f: impl Fn(&Args<'_>, usize) -> Option<i64> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| int_array(integers(a.rows, |i| f(a, i)), &a.out.arrow()))
}

/// An integer for each of `rows`; `None` is NULL.
fn integers(rows: usize, mut f: impl FnMut(usize) -> Option<i64>) -> Int64Array {
    let mut values = Vec::with_capacity(rows);
    let valid = BooleanBuffer::collect_bool(rows, |i| {
        let value = f(i);
        values.push(value.unwrap_or(0));
        value.is_some()
    });
    Int64Array::new(values.into(), Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0))
}

/// A truth value for each of `rows`; `None` is NULL.
fn booleans(rows: usize, mut f: impl FnMut(usize) -> Option<bool>) -> BooleanArray {
    let mut known = Vec::with_capacity(rows);
    let values = BooleanBuffer::collect_bool(rows, |i| {
        let value = f(i);
        known.push(value.is_some());
        value == Some(true)
    });
    BooleanArray::new(values, Some(NullBuffer::from(known)).filter(|nulls| nulls.null_count() > 0))
}

/// [`int`] that may fail.
pub(crate) fn try_int(f: impl Fn(&Args<'_>, usize) -> Result<Option<i64>> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| {
        let values = (0..a.rows).map(|i| f(a, i)).collect::<Result<Int64Array>>()?;
        int_array(values, &a.out.arrow())
    })
}

/// A function that gives part of a text, with something kept from row to row of a batch; `None` is NULL.
pub(crate) fn part_with<S: Default>(
    f: impl for<'a> Fn(&mut S, &Args<'a>, usize) -> Option<&'a str> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let mut builder = StringBuilder::with_capacity(a.rows, a.rows * 16);
        let mut state = S::default();
        (0..a.rows).for_each(|i| builder.append_option(f(&mut state, a, i)));
        Ok(Arc::new(builder.finish()))
    })
}

/// Integers as an array of `to`, wrapping.
pub(crate) fn int_array(values: Int64Array, to: &ArrowType) -> Result<ArrayRef> {
    use arrow::datatypes::*;
    let narrow: ArrayRef = match to {
        ArrowType::Int64 => return Ok(Arc::new(values)),
        ArrowType::Int8 => return Ok(Arc::new(values.unary::<_, Int8Type>(|v| v as i8))),
        ArrowType::Int16 => return Ok(Arc::new(values.unary::<_, Int16Type>(|v| v as i16))),
        ArrowType::Int32 => return Ok(Arc::new(values.unary::<_, Int32Type>(|v| v as i32))),
        ArrowType::Date32 => return Ok(Arc::new(values.unary::<_, Date32Type>(|v| v as i32))),
        ArrowType::Time32(_) => return Ok(Arc::new(values.unary::<_, Time32MillisecondType>(|v| v as i32))),
        ArrowType::Interval(_) => return Ok(Arc::new(values.unary::<_, IntervalYearMonthType>(|v| v as i32))),
        _ => Arc::new(values),
    };
    Ok(arrow::compute::cast(&narrow, to)?)
}

/// A function that gives a double.
pub(crate) fn double(f: impl Fn(&Args<'_>, usize) -> Option<f64> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| Ok(Arc::new((0..a.rows).map(|i| f(a, i)).collect::<Float64Array>())))
}

/// [`double`] that may fail.
pub(crate) fn try_double(f: impl Fn(&Args<'_>, usize) -> Result<Option<f64>> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| Ok(Arc::new((0..a.rows).map(|i| f(a, i)).collect::<Result<Float64Array>>()?)))
}

/// A function that gives a truth value.
pub(crate) fn boolean(f: impl Fn(&Args<'_>, usize) -> Option<bool> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| Ok(Arc::new(booleans(a.rows, |i| f(a, i)))))
}

/// A function that gives a decimal of the result's scale; what doesn't fit its precision is NULL.
pub(crate) fn decimal(f: impl Fn(&Args<'_>, usize) -> Option<i128> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |a| {
        let (p, s) = crate::decimal::shape(a.out);
        let values = (0..a.rows).map(|i| f(a, i).filter(|v| crate::decimal::fits(*v, p)));
        Ok(Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(p, s as i8)?))
    })
}

/// A column isn't what the types say.
pub(crate) fn downcast_err(what: &str) -> Error {
    Error::internal(format!("a function met {what} of another type than planned"))
}
