//! Columns under construction: rows are written by index, what is skipped is NULL, what is rewritten is replaced.
//!
//! A column may lag behind the rows of its table: the gap becomes NULL at the next write or at the end, so
//! that a missing or null value costs nothing, however wide the row is. A write at an index that is there
//! already drops what was written from it on, so that half a record that turned out bad needs no undoing.

use super::temporal::{self, TimestampStandard};
use super::text;
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::{DataType, Error, Field, Result, TypeKind};
use std::sync::Arc;

/// A column of one type.
#[derive(Debug)]
pub struct Column {
    /// The column's or field's name; empty for elements.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// How many rows it has.
    pub len: usize,
    nulls: Vec<(usize, usize)>,
    /// The values.
    pub values: Values,
    /// What makes timestamps of its text.
    pub dates: temporal::Dates,
}

/// The values of a column, by how they are carried.
#[derive(Debug)]
pub enum Values {
    /// No values.
    Null,
    /// BOOLEAN
    Bool(Vec<bool>),
    /// TINYINT
    I8(Vec<i8>),
    /// SMALLINT
    I16(Vec<i16>),
    /// INT
    I32(Vec<i32>),
    /// BIGINT
    I64(Vec<i64>),
    /// FLOAT
    F32(Vec<f32>),
    /// DOUBLE
    F64(Vec<f64>),
    /// DECIMAL
    Dec(Vec<i128>, u8, i8),
    /// DATE
    Date(Vec<i32>),
    /// TIME
    Time(Vec<i32>),
    /// TIMESTAMP (false) and TIMESTAMP_LTZ (true) of a precision.
    Timestamp(Vec<i64>, u8, bool),
    /// CHAR, VARCHAR: ends and bytes.
    Str(Vec<i32>, Vec<u8>),
    /// BINARY, VARBINARY: ends and bytes.
    Bin(Vec<i32>, Vec<u8>),
    /// ARRAY: ends and elements.
    Array(Vec<i32>, Box<Column>),
    /// MAP, MULTISET: ends, keys, values.
    Map(Vec<i32>, Box<Column>, Box<Column>),
    /// ROW: the fields, as long as the row itself or shorter.
    Row(Vec<Column>),
}

impl Column {
    /// An empty column; an error if no format carries the type.
    pub fn new(name: &str, data_type: &DataType) -> Result<Column> {
        let child = |t: &DataType| Column::new("", t).map(Box::new);
        let values = match &data_type.kind {
            TypeKind::Null => Values::Null,
            TypeKind::Boolean => Values::Bool(vec![]),
            TypeKind::TinyInt => Values::I8(vec![]),
            TypeKind::SmallInt => Values::I16(vec![]),
            TypeKind::Int => Values::I32(vec![]),
            TypeKind::BigInt => Values::I64(vec![]),
            TypeKind::Float => Values::F32(vec![]),
            TypeKind::Double => Values::F64(vec![]),
            TypeKind::Decimal(p, s) => Values::Dec(vec![], *p, *s as i8),
            TypeKind::Char(_) | TypeKind::VarChar(_) => Values::Str(vec![0], vec![]),
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => Values::Bin(vec![0], vec![]),
            TypeKind::Date => Values::Date(vec![]),
            TypeKind::Time(_) => Values::Time(vec![]),
            TypeKind::Timestamp(p) => Values::Timestamp(vec![], *p, false),
            TypeKind::TimestampLtz(p) => Values::Timestamp(vec![], *p, true),
            TypeKind::Array(t) => Values::Array(vec![0], child(t)?),
            TypeKind::Map(k, v) => Values::Map(vec![0], child(k)?, child(v)?),
            TypeKind::Multiset(t) => Values::Map(vec![0], child(t)?, child(&TypeKind::Int.not_null())?),
            TypeKind::Row(fields) => Values::Row(Self::of_fields(fields)?),
            TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime | TypeKind::Bitmap | TypeKind::Variant => {
                return Err(Error::unsupported(format!("reading column '{name}' of type {data_type} from a file")));
            }
        };
        Ok(Column {
            name: name.to_string(),
            data_type: data_type.clone(),
            len: 0,
            nulls: vec![],
            values,
            dates: Default::default(),
        })
    }
    /// Empty columns for `fields`.
    pub fn of_fields(fields: &[Field]) -> Result<Vec<Column>> {
        fields.iter().map(|f| Column::new(&f.name, &f.data_type)).collect()
    }

    /// Makes it exactly `rows` long: cut, or filled with NULL.
    #[cold]
    pub fn settle(&mut self, rows: usize) {
        fn ends(ends: &mut Vec<i32>, rows: usize) -> usize {
            let last = ends.get(rows).or(ends.last()).copied().unwrap_or(0);
            ends.resize(rows + 1, last);
            last as usize
        }
        match &mut self.values {
            Values::Null => {}
            Values::Row(fields) => fields.iter_mut().for_each(|f| f.truncate(rows)),
            Values::Bool(v) => v.resize(rows, false),
            Values::I8(v) => v.resize(rows, 0),
            Values::I16(v) => v.resize(rows, 0),
            Values::I32(v) | Values::Date(v) | Values::Time(v) => v.resize(rows, 0),
            Values::I64(v) | Values::Timestamp(v, ..) => v.resize(rows, 0),
            Values::F32(v) => v.resize(rows, 0.0),
            Values::F64(v) => v.resize(rows, 0.0),
            Values::Dec(v, ..) => v.resize(rows, 0),
            Values::Str(e, data) | Values::Bin(e, data) => data.truncate(ends(e, rows)),
            Values::Array(e, _) | Values::Map(e, ..) => {
                ends(e, rows);
            }
        }
        if rows > self.len {
            match self.nulls.last_mut() {
                Some(last) if last.1 == self.len => last.1 = rows,
                _ => self.nulls.push((self.len, rows)),
            }
        } else {
            while let Some(last) = self.nulls.last_mut() {
                last.1 = last.1.min(rows);
                if last.0 < last.1 {
                    break;
                }
                self.nulls.pop();
            }
        }
        self.len = rows;
    }

    /// Drops all that was written of row `rows` and those after it, of rows that were only begun, too.
    pub fn truncate(&mut self, rows: usize) {
        if self.len > rows {
            self.settle(rows);
        }
        match &mut self.values {
            Values::Row(fields) => fields.iter_mut().for_each(|f| f.truncate(rows)),
            Values::Array(ends, items) => items.truncate(ends.last().copied().unwrap_or(0) as usize),
            Values::Map(ends, keys, values) => {
                let count = ends.last().copied().unwrap_or(0) as usize;
                keys.truncate(count);
                values.truncate(count);
            }
            _ => {}
        }
    }

    /// Gets ready to write row `row`.
    #[inline(always)]
    pub fn seek(&mut self, row: usize) {
        if self.len != row {
            self.settle(row);
        }
    }

    /// Writes row `row` from the text of a value, as CSV and JSON strings have it. The error says what was
    /// expected; then nothing is written.
    pub fn write_text(&mut self, row: usize, text: &[u8], standard: TimestampStandard) -> Result<(), String> {
        self.seek(row);
        let shown = || String::from_utf8_lossy(text.get(..text.len().min(100)).unwrap_or_default()).into_owned();
        let bad = || format!("'{}' is no {}", shown(), self.data_type.kind);
        macro_rules! integer {
            ($values:expr, $type:ty) => {
                $values.push(text::parse_integer(text).and_then(|v| <$type>::try_from(v).ok()).ok_or_else(bad)?)
            };
        }
        let fits = |have: usize| match have.checked_add(text.len()) {
            Some(n) if n <= i32::MAX as usize => Ok(n as i32),
            _ => Err("the value is too long".to_string()),
        };
        match &mut self.values {
            Values::Bool(v) => v.push(text.trim_ascii().eq_ignore_ascii_case(b"true")),
            Values::I8(v) => integer!(v, i8),
            Values::I16(v) => integer!(v, i16),
            Values::I32(v) => integer!(v, i32),
            Values::I64(v) => integer!(v, i64),
            Values::F32(v) => v.push(text::parse_double(text).ok_or_else(bad)? as f32),
            Values::F64(v) => v.push(text::parse_double(text).ok_or_else(bad)?),
            Values::Dec(v, p, s) => match text::parse_decimal(text, *p, *s).ok_or_else(bad)? {
                Some(value) => v.push(value),
                None => return Ok(()),
            },
            Values::Date(v) => v.push(temporal::parse_date(text.trim_ascii()).ok_or_else(bad)?),
            Values::Time(v) => {
                let (seconds, nanos) = temporal::parse_time(text.trim_ascii(), true).ok_or_else(bad)?;
                v.push((seconds * 1000 + nanos / 1_000_000) as i32);
            }
            Values::Timestamp(v, p, ltz) => v.push(
                temporal::parse_timestamp(text.trim_ascii(), standard, *ltz)
                    .and_then(|(seconds, nanos)| temporal::to_unit(seconds, nanos, *p))
                    .ok_or_else(bad)?,
            ),
            Values::Str(ends, data) => {
                if std::str::from_utf8(text).is_err() {
                    return Err("the text is not valid UTF-8".into());
                }
                ends.push(fits(data.len())?);
                data.extend_from_slice(text);
            }
            Values::Bin(ends, data) => {
                let before = data.len();
                fits(before)?;
                if STANDARD.decode_vec(text, data).is_err() {
                    data.truncate(before);
                    return Err(format!("'{}' is not base64", shown()));
                }
                ends.push(data.len() as i32);
            }
            Values::Null | Values::Array(..) | Values::Map(..) | Values::Row(_) => return Err(bad()),
        }
        self.len = row + 1;
        Ok(())
    }

    /// Whether row `row` has been written and is not NULL.
    pub fn has(&self, row: usize) -> bool {
        self.len > row
    }

    /// The first `rows` rows as an array; the column is empty then.
    pub fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.seek(rows);
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(rows);
            let mut at = 0;
            for (start, end) in self.nulls.drain(..) {
                valid.append_n(start - at, true);
                valid.append_n(end - start, false);
                at = end;
            }
            valid.append_n(rows - at, true);
            NullBuffer::new(valid.finish())
        });
        self.len = 0;
        fn taken<T>(v: &mut Vec<T>) -> ScalarBuffer<T>
        where
            T: arrow::datatypes::ArrowNativeType,
        {
            let capacity = v.len();
            std::mem::replace(v, Vec::with_capacity(capacity)).into()
        }
        fn offsets(v: &mut Vec<i32>) -> OffsetBuffer<i32> {
            let mut next = Vec::with_capacity(v.len());
            next.push(0);
            OffsetBuffer::new(std::mem::replace(v, next).into())
        }
        fn bytes(v: &mut Vec<u8>) -> arrow::buffer::Buffer {
            let capacity = v.len();
            std::mem::replace(v, Vec::with_capacity(capacity)).into()
        }
        let arrow = self.data_type.arrow();
        Ok(match &mut self.values {
            Values::Null => Arc::new(NullArray::new(rows)),
            Values::Bool(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(v)), nulls)),
            Values::I8(v) => Arc::new(Int8Array::try_new(taken(v), nulls)?),
            Values::I16(v) => Arc::new(Int16Array::try_new(taken(v), nulls)?),
            Values::I32(v) => Arc::new(Int32Array::try_new(taken(v), nulls)?),
            Values::I64(v) => Arc::new(Int64Array::try_new(taken(v), nulls)?),
            Values::F32(v) => Arc::new(Float32Array::try_new(taken(v), nulls)?),
            Values::F64(v) => Arc::new(Float64Array::try_new(taken(v), nulls)?),
            Values::Dec(v, ..) => Arc::new(Decimal128Array::try_new(taken(v), nulls)?.with_data_type(arrow)),
            Values::Date(v) => Arc::new(Date32Array::try_new(taken(v), nulls)?),
            Values::Time(v) => Arc::new(Time32MillisecondArray::try_new(taken(v), nulls)?),
            Values::Timestamp(v, ..) => {
                let v = taken(v);
                match &arrow {
                    ArrowType::Timestamp(TimeUnit::Millisecond, zone) => {
                        Arc::new(TimestampMillisecondArray::try_new(v, nulls)?.with_timezone_opt(zone.clone()))
                    }
                    ArrowType::Timestamp(TimeUnit::Microsecond, zone) => {
                        Arc::new(TimestampMicrosecondArray::try_new(v, nulls)?.with_timezone_opt(zone.clone()))
                    }
                    ArrowType::Timestamp(TimeUnit::Nanosecond, zone) => {
                        Arc::new(TimestampNanosecondArray::try_new(v, nulls)?.with_timezone_opt(zone.clone()))
                    }
                    other => return Err(Error::internal(format!("a timestamp is carried as {other}"))),
                }
            }
            Values::Str(ends, data) => Arc::new(StringArray::try_new(offsets(ends), bytes(data), nulls)?),
            Values::Bin(ends, data) => Arc::new(BinaryArray::try_new(offsets(ends), bytes(data), nulls)?),
            Values::Array(ends, item) => {
                let count = ends.last().copied().unwrap_or(0) as usize;
                let items = item.finish(count)?;
                let ArrowType::List(field) = arrow else {
                    return Err(Error::internal("an array is not carried as a list"));
                };
                Arc::new(ListArray::try_new(field, offsets(ends), items, nulls)?)
            }
            Values::Map(ends, key, value) => {
                let count = ends.last().copied().unwrap_or(0) as usize;
                let (keys, values) = (key.finish(count)?, value.finish(count)?);
                let ArrowType::Map(field, sorted) = arrow else {
                    return Err(Error::internal("a map is not carried as a map"));
                };
                let ArrowType::Struct(entries) = field.data_type() else {
                    return Err(Error::internal("a map's entries are not carried as a struct"));
                };
                let entries = StructArray::try_new_with_length(entries.clone(), vec![keys, values], None, count)?;
                Arc::new(MapArray::try_new(field, offsets(ends), entries, nulls, sorted)?)
            }
            Values::Row(fields) => {
                let columns = fields.iter_mut().map(|f| f.finish(rows)).collect::<Result<Vec<_>>>()?;
                let ArrowType::Struct(arrow) = arrow else {
                    return Err(Error::internal("a row is not carried as a struct"));
                };
                Arc::new(StructArray::try_new_with_length(arrow, columns, nulls, rows)?)
            }
        })
    }
}
