//! The values of one generated column, as functions of the row's number.

use super::sequence::{below, mix, unit};
use crate::print::push_java;
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute;
use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use millstream_core::options::Options;
use millstream_core::types::{MAX_LENGTH, SessionZone};
use millstream_core::{DataType, Error, Result, TypeKind};
use std::collections::HashSet;
use std::sync::Arc;

/// The rows to generate: their numbers, and the time of each in milliseconds since 1970.
pub(super) struct Rows<'a> {
    pub(super) ids: &'a [u64],
    pub(super) times: &'a [i64],
}

/// A column, an element or a field of a row.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Makes it differ from its siblings; comes from its name, so a projection gives the same values.
    salt: u64,
    null_rate: f64,
    kind: TypeKind,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    /// `start`, `start + 1`, ...
    Count {
        start: i64,
    },
    /// A random number of the range (integers and intervals).
    Integer {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
    },
    /// Unscaled digits of the range.
    Decimal {
        min: i128,
        max: i128,
    },
    Boolean,
    /// Characters or bytes; of a random length up to `length` if it varies.
    Text {
        length: usize,
        varies: bool,
    },
    /// The row's time less up to `max_past_ms`, in `zone` for types without one.
    Time {
        max_past_ms: u64,
        zone: SessionZone,
    },
    List {
        length: usize,
        element: Box<Column>,
    },
    /// Keys and values; a multiset has counts as values.
    Map {
        length: usize,
        key: Box<Column>,
        value: Box<Column>,
    },
    Row(Vec<(String, Column)>),
}

/// Flink's default length of STRING and BYTES, and of arrays, maps and multisets.
const DEFAULT_TEXT_LENGTH: usize = 100;
const DEFAULT_COLLECTION_LENGTH: usize = 3;
/// Above this a batch would not fit into memory.
const MAX_TEXT_LENGTH: usize = 1 << 20;
const MAX_COLLECTION_LENGTH: usize = 1 << 16;

impl Column {
    /// The column `path` as the options `fields.<path>.*` describe it, and how many rows it can have.
    pub(super) fn build(
        path: &str,
        data_type: &DataType,
        options: &Options<'_>,
        seed: u64,
        zone: SessionZone,
    ) -> Result<(Column, Option<u64>)> {
        let key = |option: &str| format!("fields.{path}.{option}");
        let kind = data_type.kind.clone();
        let salt = path.bytes().fold(mix(seed), |h, b| mix(h ^ u64::from(b)));
        let counted = options.choice(&key("kind"), &[("random", false), ("sequence", true)])?.unwrap_or(false);
        if counted {
            if !(kind.is_numeric() || kind.is_character()) {
                return Err(options.error(&key("kind"), format!("a sequence of type {data_type} is not possible")));
            }
            let start: i64 = options.number(&key("start"))?.ok_or_else(|| missing(options, &key("start")))?;
            let end: i64 = options.number(&key("end"))?.ok_or_else(|| missing(options, &key("end")))?;
            if end < start {
                return Err(options.error(&key("end"), format!("the end {end} is before the start {start}")));
            }
            let (low, high) = integer_range(&kind).unwrap_or((i64::MIN, i64::MAX));
            if start < low || end > high {
                return Err(options.error(&key("end"), format!("the sequence does not fit into {data_type}")));
            }
            let rows = u64::try_from(i128::from(end) - i128::from(start) + 1).unwrap_or(u64::MAX);
            return Ok((Column { salt, null_rate: 0.0, kind, values: Values::Count { start } }, Some(rows)));
        }
        let null_rate: f64 = options.number(&key("null-rate"))?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(options.error(&key("null-rate"), "a null rate is between 0 and 1"));
        }
        if null_rate > 0.0 && !data_type.nullable {
            return Err(options.error(&key("null-rate"), format!("the field is of type {data_type}")));
        }
        let child = |name: &str, data_type: &DataType| -> Result<Column> {
            let path = format!("{path}.{name}");
            let (column, counted) = Column::build(&path, data_type, options, seed, zone)?;
            match counted {
                None => Ok(column),
                Some(_) => Err(options
                    .error(&format!("fields.{path}.kind"), "a sequence is only possible for a column of the table")),
            }
        };
        let values = match &kind {
            TypeKind::Boolean => Values::Boolean,
            TypeKind::TinyInt
            | TypeKind::SmallInt
            | TypeKind::Int
            | TypeKind::BigInt
            | TypeKind::IntervalYearMonth
            | TypeKind::IntervalDayTime => {
                let (low, high) = integer_range(&kind).unwrap_or((0, 120_000));
                let min = options.number(&key("min"))?.unwrap_or(low);
                let max = options.number(&key("max"))?.unwrap_or(high);
                check_range(options, &key("max"), min <= max && min >= low && max <= high, data_type)?;
                Values::Integer { min, max }
            }
            TypeKind::Float | TypeKind::Double => {
                let (low, high) = match kind {
                    TypeKind::Float => (f64::from(f32::MIN), f64::from(f32::MAX)),
                    _ => (f64::MIN, f64::MAX),
                };
                // Flink's default minimum is Java's MIN_VALUE: the smallest positive number.
                let min: f64 = options.number(&key("min"))?.unwrap_or(0.0);
                let max: f64 = options.number(&key("max"))?.unwrap_or(high);
                check_range(options, &key("max"), min <= max && min >= low && max <= high, data_type)?;
                Values::Real { min, max }
            }
            TypeKind::Decimal(precision, scale) => {
                let high = 10i128.pow(u32::from(*precision)) - 1;
                let unscaled = |value: f64| (value * 10f64.powi(i32::from(*scale))).round();
                let fits = |value: f64| unscaled(value).abs() <= high as f64;
                let min: Option<f64> = options.number(&key("min"))?;
                let max: Option<f64> = options.number(&key("max"))?;
                let ok = min.is_none_or(fits) && max.is_none_or(fits);
                let min = min.map_or(0, |v| unscaled(v) as i128).max(-high);
                let max = max.map_or(high, |v| unscaled(v) as i128).min(high);
                check_range(options, &key("max"), ok && min <= max, data_type)?;
                Values::Decimal { min, max }
            }
            TypeKind::Char(n) | TypeKind::Binary(n) => Values::Text { length: *n as usize, varies: false },
            TypeKind::VarChar(n) | TypeKind::VarBinary(n) => {
                let default = if *n == MAX_LENGTH { DEFAULT_TEXT_LENGTH } else { *n as usize };
                let length = options.number(&key("length"))?.unwrap_or(default);
                if length > *n as usize || length > MAX_TEXT_LENGTH {
                    let most = (*n as usize).min(MAX_TEXT_LENGTH);
                    return Err(options.error(&key("length"), format!("the length {length} is more than {most}")));
                }
                Values::Text { length, varies: options.boolean(&key("var-len"))?.unwrap_or(false) }
            }
            TypeKind::Date | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
                let past = options.duration(&key("max-past"))?.unwrap_or_default();
                Values::Time { max_past_ms: past.as_millis().min(1 << 52) as u64, zone }
            }
            TypeKind::Array(element) => Values::List {
                length: collection_length(options, &key("length"))?,
                element: child("element", element)?.into(),
            },
            TypeKind::Map(k, v) => Values::Map {
                length: collection_length(options, &key("length"))?,
                key: child("key", k)?.without_null().into(),
                value: child("value", v)?.into(),
            },
            TypeKind::Multiset(element) => Values::Map {
                length: collection_length(options, &key("length"))?,
                key: child("element", element)?.without_null().into(),
                value: Column {
                    salt: mix(salt),
                    null_rate: 0.0,
                    kind: TypeKind::Int,
                    values: Values::Integer { min: 1, max: 10 },
                }
                .into(),
            },
            TypeKind::Row(fields) => {
                let columns = fields.iter().map(|f| Ok((f.name.clone(), child(&f.name, &f.data_type)?)));
                Values::Row(columns.collect::<Result<_>>()?)
            }
            kind @ (TypeKind::Null | TypeKind::Bitmap | TypeKind::Variant) => {
                return Err(options.error(&key("kind"), format!("a column of type {kind} can't be generated")));
            }
        };
        Ok((Column { salt, null_rate, kind, values }, None))
    }

    /// The same column with only the fields that `data_type` has; `None` if it has others.
    pub(super) fn project(&self, data_type: &DataType) -> Option<Column> {
        let mut column = self.clone();
        if let (Values::Row(fields), TypeKind::Row(wanted)) = (&self.values, &data_type.kind) {
            let mut kept = Vec::new();
            for field in wanted {
                let (_, found) = fields.iter().find(|(name, _)| *name == field.name)?;
                kept.push((field.name.clone(), found.project(&field.data_type)?));
            }
            column.values = Values::Row(kept);
            column.kind = data_type.kind.clone();
        }
        Some(column)
    }

    fn without_null(mut self) -> Column {
        self.null_rate = 0.0;
        self
    }

    fn bits(&self, id: u64) -> u64 {
        mix(self.salt ^ id)
    }

    fn nulls(&self, ids: &[u64]) -> Option<NullBuffer> {
        (self.null_rate > 0.0)
            .then(|| ids.iter().map(|id| unit(mix(self.bits(*id) ^ 0x6e75_6c6c)) >= self.null_rate).collect())
    }

    /// The column's values for these rows.
    pub(super) fn generate(&self, rows: &Rows<'_>) -> Result<ArrayRef> {
        let nulls = self.nulls(rows.ids);
        let arrow = self.kind.arrow();
        let ids = rows.ids.iter().copied();
        let array: ArrayRef = match &self.values {
            Values::Count { start } => {
                let numbers = ids.map(|id| start.wrapping_add(id as i64));
                return match self.kind {
                    TypeKind::Char(_) | TypeKind::VarChar(_) => {
                        Ok(Arc::new(StringArray::from_iter_values(numbers.map(|n| n.to_string()))))
                    }
                    _ => Ok(compute::cast(&Int64Array::from_iter_values(numbers), &arrow)?),
                };
            }
            Values::Integer { min, max } => {
                let span = max.wrapping_sub(*min) as u64;
                let number = |id| match span.checked_add(1) {
                    Some(bound) => min.wrapping_add(below(self.bits(id), bound) as i64),
                    None => self.bits(id) as i64,
                };
                let numbers = ids.map(number);
                match self.kind {
                    TypeKind::TinyInt => Arc::new(Int8Array::from_iter_values(numbers.map(|n| n as i8))),
                    TypeKind::SmallInt => Arc::new(Int16Array::from_iter_values(numbers.map(|n| n as i16))),
                    TypeKind::Int => Arc::new(Int32Array::from_iter_values(numbers.map(|n| n as i32))),
                    TypeKind::IntervalYearMonth => {
                        Arc::new(IntervalYearMonthArray::from_iter_values(numbers.map(|n| n as i32)))
                    }
                    TypeKind::IntervalDayTime => Arc::new(DurationMillisecondArray::from_iter_values(numbers)),
                    _ => Arc::new(Int64Array::from_iter_values(numbers)),
                }
            }
            Values::Real { min, max } => {
                let numbers = ids.map(|id| {
                    let part = unit(self.bits(id));
                    min * (1.0 - part) + max * part
                });
                match self.kind {
                    TypeKind::Float => Arc::new(Float32Array::from_iter_values(numbers.map(|n| n as f32))),
                    _ => Arc::new(Float64Array::from_iter_values(numbers)),
                }
            }
            Values::Decimal { min, max } => {
                let span = (max - min + 1) as u128;
                let number = |id| {
                    let wide = u128::from(self.bits(id)) << 64 | u128::from(mix(self.bits(id)));
                    min + (wide % span) as i128
                };
                Arc::new(Decimal128Array::from_iter_values(ids.map(number)).with_data_type(arrow))
            }
            Values::Boolean => Arc::new(BooleanArray::from_iter(ids.map(|id| Some(self.bits(id) >> 63 == 1)))),
            Values::Text { length, varies } => self.text(rows.ids, *length, *varies),
            Values::Time { max_past_ms, zone } => {
                let times = rows.ids.iter().zip(rows.times);
                let instants = times.map(|(id, ms)| ms - below(self.bits(*id), max_past_ms + 1) as i64);
                time_array(&arrow, instants, *zone)?
            }
            Values::List { length, element } => {
                let ArrowType::List(field) = &arrow else { return Err(unexpected(&arrow)) };
                let values = element.generate_children(rows, self.salt, *length)?;
                let offsets = OffsetBuffer::from_repeated_length(*length, rows.ids.len());
                Arc::new(ListArray::try_new(field.clone(), offsets, values, nulls.clone())?)
            }
            Values::Map { length, key, value } => {
                let ArrowType::Map(field, sorted) = &arrow else { return Err(unexpected(&arrow)) };
                let ArrowType::Struct(fields) = field.data_type() else { return Err(unexpected(&arrow)) };
                let keys = key.generate_children(rows, self.salt, *length)?;
                let values = value.generate_children(rows, self.salt, *length)?;
                let (kept, lengths) = distinct(&keys, *length, rows.ids.len());
                let entries = vec![compute::take(&keys, &kept, None)?, compute::take(&values, &kept, None)?];
                let entries = StructArray::try_new(fields.clone(), entries, None)?;
                let offsets = OffsetBuffer::from_lengths(lengths);
                Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls.clone(), *sorted)?)
            }
            Values::Row(columns) => {
                let ArrowType::Struct(fields) = &arrow else { return Err(unexpected(&arrow)) };
                let arrays = columns.iter().map(|(_, c)| c.generate(rows)).collect::<Result<Vec<_>>>()?;
                let length = rows.ids.len();
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls.clone(), length)?)
            }
        };
        match nulls {
            Some(nulls) if array.nulls().is_none() => {
                Ok(make_array(array.to_data().into_builder().nulls(Some(nulls)).build()?))
            }
            _ => Ok(array),
        }
    }

    /// `length` values for each row, which depend on the row alone.
    fn generate_children(&self, rows: &Rows<'_>, salt: u64, length: usize) -> Result<ArrayRef> {
        let (mut ids, mut times) = (Vec::new(), Vec::new());
        for (id, time) in rows.ids.iter().zip(rows.times) {
            ids.extend((0..length as u64).map(|i| mix(salt ^ id).wrapping_add(i)));
            times.extend(std::iter::repeat_n(*time, length));
        }
        self.generate(&Rows { ids: &ids, times: &times })
    }

    /// Hexadecimal digits, as Flink's random strings; or bytes.
    fn text(&self, ids: &[u64], length: usize, varies: bool) -> ArrayRef {
        let is_text = self.kind.is_character();
        let mut strings = StringBuilder::with_capacity(if is_text { ids.len() } else { 0 }, 0);
        let mut bytes = BinaryBuilder::with_capacity(if is_text { 0 } else { ids.len() }, 0);
        let (mut digits, mut raw) = (String::with_capacity(length), Vec::with_capacity(length));
        for id in ids {
            let mut bits = self.bits(*id);
            let length = if varies && length > 1 { 1 + below(mix(bits ^ 1), length as u64) as usize } else { length };
            digits.clear();
            raw.clear();
            if is_text {
                while digits.len() < length {
                    bits = mix(bits);
                    let count = (length - digits.len()).min(16);
                    digits.extend((0..count).map(|i| char::from(b"0123456789abcdef"[(bits >> (4 * i) & 15) as usize])));
                }
                strings.append_value(&digits);
            } else {
                while raw.len() < length {
                    bits = mix(bits);
                    let count = (length - raw.len()).min(8);
                    raw.extend_from_slice(&bits.to_le_bytes()[..count]);
                }
                bytes.append_value(&raw);
            }
        }
        if is_text { Arc::new(strings.finish()) } else { Arc::new(bytes.finish()) }
    }
}

fn missing(options: &Options<'_>, key: &str) -> Error {
    options.error(key, format!("a sequence needs the option '{key}'"))
}

fn check_range(options: &Options<'_>, key: &str, ok: bool, data_type: &DataType) -> Result<()> {
    match ok {
        true => Ok(()),
        false => Err(options.error(key, format!("minimum and maximum are not a range of {data_type}"))),
    }
}

fn collection_length(options: &Options<'_>, key: &str) -> Result<usize> {
    let length = options.number(key)?.unwrap_or(DEFAULT_COLLECTION_LENGTH);
    match length <= MAX_COLLECTION_LENGTH {
        true => Ok(length),
        false => Err(options.error(key, format!("the length {length} is more than {MAX_COLLECTION_LENGTH}"))),
    }
}

fn integer_range(kind: &TypeKind) -> Option<(i64, i64)> {
    match kind {
        TypeKind::TinyInt => Some((i8::MIN.into(), i8::MAX.into())),
        TypeKind::SmallInt => Some((i16::MIN.into(), i16::MAX.into())),
        TypeKind::Int => Some((i32::MIN.into(), i32::MAX.into())),
        TypeKind::BigInt => Some((i64::MIN, i64::MAX)),
        _ => None,
    }
}

fn unexpected(arrow: &ArrowType) -> Error {
    Error::internal(format!("a generated column has the Arrow type {arrow}"))
}

/// For each row, the first of its entries with each key; and how many those are.
fn distinct(keys: &ArrayRef, length: usize, rows: usize) -> (UInt32Array, Vec<usize>) {
    let (mut kept, mut lengths) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for row in 0..rows {
        seen.clear();
        for index in row * length..(row + 1) * length {
            let mut shown = String::new();
            push_java(&mut shown, keys, index);
            if seen.insert(shown) {
                kept.push(index as u32);
            }
        }
        lengths.push(seen.len());
    }
    (UInt32Array::from(kept), lengths)
}

fn time_array(arrow: &ArrowType, instants: impl Iterator<Item = i64>, zone: SessionZone) -> Result<ArrayRef> {
    let local = |ms| zone.to_local_ms(ms);
    Ok(match arrow {
        ArrowType::Date32 => {
            Arc::new(Date32Array::from_iter_values(instants.map(|ms| local(ms).div_euclid(86_400_000) as i32)))
        }
        ArrowType::Time32(_) => Arc::new(Time32MillisecondArray::from_iter_values(
            instants.map(|ms| local(ms).rem_euclid(86_400_000) as i32),
        )),
        ArrowType::Timestamp(unit, with_zone) => {
            let scale = match unit {
                TimeUnit::Microsecond => 1000,
                TimeUnit::Nanosecond => 1_000_000,
                TimeUnit::Second | TimeUnit::Millisecond => 1,
            };
            let values = instants.map(|ms| if with_zone.is_some() { ms } else { local(ms) }.saturating_mul(scale));
            let values = Int64Array::from_iter_values(values);
            compute::cast(&values, arrow)?
        }
        other => return Err(unexpected(other)),
    })
}
