//! One Avro value to the row of columns that it makes, by a plan that was made once for the schema and the columns.

use super::schema::{Logical, Schema, Type, TypeId};
use crate::formats::column::{Column, Values};
use crate::formats::rows::MadeRows;
use millstream_core::{DataType, Error, Field, Result, TypeKind};

/// Fields that no column wants may be within each other so deep.
const MAX_DEPTH: usize = 64;

/// More items are not within one block of an array or map.
const MAX_ITEMS: i64 = 1 << 28;

/// How a record of one schema becomes a row of some columns: schema resolution by Avro's specification, a field that
/// is missing being NULL. A record's name doesn't matter.
#[derive(Debug)]
pub(super) struct Plan {
    schema: Schema,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Read past it.
    Skip(TypeId),
    Null,
    Boolean,
    Float,
    Double,
    Integer(Number),
    /// The unscaled value, `fixed` bytes or as many as its length says.
    Decimal {
        fixed: Option<usize>,
    },
    Bytes {
        fixed: Option<usize>,
    },
    Enum(Vec<String>),
    Union(Vec<Step>),
    Array(Box<Step>),
    Map(Box<Step>),
    Record(Vec<(Option<usize>, Step)>),
}

/// What an integer means to its column.
#[derive(Debug)]
enum Number {
    Plain,
    /// Units a second.
    Time(i64),
    /// Units a second.
    Timestamp(i64),
}

impl Plan {
    /// The plan for records of `schema` in columns for `fields`; the error names the field that doesn't fit.
    pub fn new(schema: Schema, fields: &[Field]) -> Result<Plan> {
        let root = schema.root();
        let Type::Record(_) = schema.get(root) else {
            return Err(Error::data(format!("the Avro schema is a {}, not a record", schema.name(root))));
        };
        let step = record(&schema, root, fields, "")?;
        Ok(Plan { schema, step })
    }

    /// Decodes a message that is one record into the next row.
    pub fn decode_message(&self, mut message: &[u8], made: &mut MadeRows) -> Result<(), String> {
        self.decode(&mut message, made.rows, &mut made.columns)?;
        if !message.is_empty() {
            return Err(format!("{} bytes follow the value", message.len()));
        }
        made.rows += 1;
        Ok(())
    }

    /// Decodes one record from the front of `input` into row `row` of the columns.
    pub fn decode(&self, input: &mut &[u8], row: usize, columns: &mut [Column]) -> Result<(), String> {
        let Step::Record(fields) = &self.step else { return Err("it is no record".into()) };
        for (target, step) in fields {
            let column = target.and_then(|index| columns.get_mut(index));
            self.value(step, input, row, column)?;
        }
        match columns.iter().find(|c| !c.data_type.nullable && !c.has(row)) {
            Some(column) => Err(format!("field '{}' is null, but the column is NOT NULL", column.name)),
            None => Ok(()),
        }
    }

    fn value(&self, step: &Step, input: &mut &[u8], row: usize, column: Option<&mut Column>) -> Result<(), String> {
        if let Step::Skip(id) = step {
            return skip(&self.schema, *id, input, 0);
        }
        let Some(column) = column else { return Err("a value has no column".into()) };
        let within = |name: &str, e: String| if name.is_empty() { e } else { format!("field '{name}': {e}") };
        let outcome = self.write(step, input, row, column);
        outcome.map_err(|e| within(&column.name, e))
    }

    fn write(&self, step: &Step, input: &mut &[u8], row: usize, column: &mut Column) -> Result<(), String> {
        if let Step::Union(branches) = step {
            let branch = usize::try_from(long(input)?).ok().and_then(|b| branches.get(b));
            return self.write(branch.ok_or("a union has no such branch")?, input, row, column);
        }
        if let Step::Null = step {
            return Ok(());
        }
        column.seek(row);
        match (step, &mut column.values) {
            (Step::Boolean, Values::Bool(v)) => v.push(byte(input)? != 0),
            (Step::Float, Values::F32(v)) => v.push(f32::from_le_bytes(array(input)?)),
            (Step::Float, Values::F64(v)) => v.push(f32::from_le_bytes(array(input)?).into()),
            (Step::Double, Values::F64(v)) => v.push(f64::from_le_bytes(array(input)?)),
            (Step::Integer(number), values) => integer(number, long(input)?, values)?,
            (Step::Decimal { fixed }, Values::Dec(v, precision, _)) => {
                let value = unscaled(bytes(input, *fixed)?)?;
                if value.unsigned_abs() >= 10u128.pow(u32::from(*precision)) {
                    return Err(format!("a decimal has more than {precision} digits"));
                }
                v.push(value);
            }
            (Step::Bytes { fixed }, Values::Bin(ends, data)) => append(bytes(input, *fixed)?, ends, data)?,
            (Step::Bytes { fixed }, Values::Str(ends, data)) => {
                let text = bytes(input, *fixed)?;
                std::str::from_utf8(text).map_err(|_| "the text is not valid UTF-8")?;
                append(text, ends, data)?;
            }
            (Step::Enum(symbols), Values::Str(ends, data)) => {
                let symbol = usize::try_from(long(input)?).ok().and_then(|s| symbols.get(s));
                append(symbol.ok_or("an enum has no such symbol")?.as_bytes(), ends, data)?;
            }
            (Step::Array(step), Values::Array(ends, items)) => {
                let mut at = ends.last().copied().unwrap_or(0) as usize;
                items.truncate(at);
                each(input, |input| {
                    self.write(step, input, at, items)?;
                    at += 1;
                    Ok(())
                })?;
                items.seek(at);
                ends.push(i32::try_from(at).map_err(|_| "too many elements")?);
            }
            (Step::Map(step), Values::Map(ends, keys, values)) => {
                let mut at = ends.last().copied().unwrap_or(0) as usize;
                keys.truncate(at);
                values.truncate(at);
                each(input, |input| {
                    self.write(&Step::Bytes { fixed: None }, input, at, keys)?;
                    self.write(step, input, at, values)?;
                    at += 1;
                    Ok(())
                })?;
                keys.seek(at);
                values.seek(at);
                ends.push(i32::try_from(at).map_err(|_| "too many entries")?);
            }
            (Step::Record(fields), Values::Row(columns)) => {
                for (target, step) in fields {
                    let column = target.and_then(|index| columns.get_mut(index));
                    self.value(step, input, row, column)?;
                }
            }
            _ => return Err("the value is not of the column's type".into()),
        }
        column.len = row + 1;
        Ok(())
    }
}

/// How values of a type get into a column.
fn step(schema: &Schema, id: TypeId, to: &DataType, path: &str) -> Result<Step> {
    let number = |number| Ok(Step::Integer(number));
    let is_time = |kind: &TypeKind| matches!(kind, TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_));
    match (schema.get(id), &to.kind) {
        (Type::Union(branches), _) => {
            let steps = branches.iter().map(|branch| match schema.get(*branch) {
                Type::Null => Ok(Step::Null),
                _ => step(schema, *branch, to, path),
            });
            Ok(Step::Union(steps.collect::<Result<_>>()?))
        }
        (Type::Null, _) => Ok(Step::Null),
        (Type::Boolean, TypeKind::Boolean) => Ok(Step::Boolean),
        (Type::Int(Logical::Plain), TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int)
        | (Type::Int(Logical::Plain) | Type::Long(Logical::Plain), TypeKind::BigInt)
        | (Type::Int(Logical::Plain) | Type::Long(Logical::Plain), TypeKind::Float | TypeKind::Double)
        | (Type::Int(Logical::Date | Logical::Plain), TypeKind::Date) => number(Number::Plain),
        (Type::Int(Logical::Time(unit)) | Type::Long(Logical::Time(unit)), TypeKind::Time(_)) => {
            number(Number::Time(*unit))
        }
        (Type::Int(Logical::Plain), TypeKind::Time(_)) => number(Number::Time(1_000)),
        (Type::Long(Logical::Timestamp(unit)), kind) if is_time(kind) => number(Number::Timestamp(*unit)),
        // What such a number means only the column says.
        (Type::Long(Logical::Plain), TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p)) => {
            number(Number::Timestamp(if *p <= 3 { 1_000 } else { 1_000_000 }))
        }
        (Type::Long(Logical::Timestamp(_)), TypeKind::BigInt) => number(Number::Plain),
        (Type::Float, TypeKind::Float | TypeKind::Double) => Ok(Step::Float),
        (Type::Double, TypeKind::Double) => Ok(Step::Double),
        (Type::Bytes(Logical::Decimal { scale }), TypeKind::Decimal(_, s)) if *scale == i64::from(*s) => {
            Ok(Step::Decimal { fixed: None })
        }
        (Type::Fixed(size, Logical::Decimal { scale }), TypeKind::Decimal(_, s)) if *scale == i64::from(*s) => {
            Ok(Step::Decimal { fixed: Some(*size) })
        }
        (Type::String | Type::Bytes(Logical::Plain), kind) if kind.is_character() || kind.is_binary() => {
            Ok(Step::Bytes { fixed: None })
        }
        (Type::Fixed(size, Logical::Plain), kind) if kind.is_binary() => Ok(Step::Bytes { fixed: Some(*size) }),
        (Type::Enum(symbols), kind) if kind.is_character() => Ok(Step::Enum(symbols.clone())),
        (Type::Array(items), TypeKind::Array(element)) => {
            Ok(Step::Array(Box::new(step(schema, *items, element, &format!("{path}[]"))?)))
        }
        (Type::Map(values), TypeKind::Map(key, value)) if key.kind.is_character() => {
            Ok(Step::Map(Box::new(step(schema, *values, value, &format!("{path}[]"))?)))
        }
        (Type::Map(values), TypeKind::Multiset(key)) if key.kind.is_character() => {
            let count = TypeKind::Int.not_null();
            Ok(Step::Map(Box::new(step(schema, *values, &count, &format!("{path}[]"))?)))
        }
        (Type::Record(_), TypeKind::Row(fields)) => record(schema, id, fields, &format!("{path}.")),
        _ => Err(Error::data(format!("field '{path}' is of Avro's type {}, the column is {to}", schema.name(id)))),
    }
}

fn record(schema: &Schema, id: TypeId, wanted: &[Field], path: &str) -> Result<Step> {
    let Type::Record(fields) = schema.get(id) else { return Err(Error::internal("a record's type is no record")) };
    for field in wanted.iter().filter(|field| !field.data_type.nullable) {
        if !fields.iter().any(|(name, _)| *name == field.name) {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Error::data(format!("there is no field '{path}{}', and the column is NOT NULL", field.name))
                .detail(format!("the fields there are: {}", names.join(", "))));
        }
    }
    let mut steps = vec![];
    for (name, id) in fields {
        steps.push(match wanted.iter().position(|field| field.name == *name) {
            Some(index) => {
                let field = &wanted[index];
                (Some(index), step(schema, *id, &field.data_type, &format!("{path}{name}"))?)
            }
            None => (None, Step::Skip(*id)),
        });
    }
    Ok(Step::Record(steps))
}

fn integer(number: &Number, value: i64, values: &mut Values) -> Result<(), String> {
    let range = || format!("{value} is out of range");
    match (number, values) {
        // A wider number than the column's wraps, as in Flink.
        (Number::Plain, Values::I8(v)) => v.push(value as i8),
        (Number::Plain, Values::I16(v)) => v.push(value as i16),
        (Number::Plain, Values::I32(v) | Values::Date(v)) => v.push(i32::try_from(value).map_err(|_| range())?),
        (Number::Plain, Values::I64(v)) => v.push(value),
        (Number::Plain, Values::F32(v)) => v.push(value as f32),
        (Number::Plain, Values::F64(v)) => v.push(value as f64),
        (Number::Time(unit), Values::Time(v)) => {
            let millis = i32::try_from(value.div_euclid(unit / 1_000)).ok().filter(|v| (0..86_400_000).contains(v));
            v.push(millis.ok_or_else(range)?);
        }
        (Number::Timestamp(unit), Values::Timestamp(v, precision, _)) => {
            let to = match precision {
                0..=3 => 1_000,
                4..=6 => 1_000_000,
                _ => 1_000_000_000,
            };
            let scaled = i128::from(value) * i128::from(to);
            v.push(i64::try_from(scaled.div_euclid(i128::from(*unit))).map_err(|_| range())?);
        }
        _ => return Err("the value is not of the column's type".into()),
    }
    Ok(())
}

fn append(bytes: &[u8], ends: &mut Vec<i32>, data: &mut Vec<u8>) -> Result<(), String> {
    data.extend_from_slice(bytes);
    ends.push(i32::try_from(data.len()).map_err(|_| "the values are too long")?);
    Ok(())
}

/// Calls `item` for each item of an array's or map's blocks.
fn each(input: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Result<(), String>) -> Result<(), String> {
    loop {
        let mut count = long(input)?;
        if count == 0 {
            return Ok(());
        }
        if count < 0 {
            // The block's size in bytes follows.
            long(input)?;
            count = count.checked_neg().ok_or("a block has no such count")?;
        }
        // Items may have no bytes: nothing else would stop a damaged count.
        if count > MAX_ITEMS {
            return Err(format!("a block has {count} items"));
        }
        for _ in 0..count {
            item(input)?;
        }
    }
}

fn skip(schema: &Schema, id: TypeId, input: &mut &[u8], depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("values are within each other too deep".into());
    }
    match schema.get(id) {
        Type::Null => Ok(()),
        Type::Boolean => byte(input).map(|_| ()),
        Type::Int(_) | Type::Long(_) | Type::Enum(_) => long(input).map(|_| ()),
        Type::Float => array::<4>(input).map(|_| ()),
        Type::Double => array::<8>(input).map(|_| ()),
        Type::Bytes(_) | Type::String => bytes(input, None).map(|_| ()),
        Type::Fixed(size, _) => bytes(input, Some(*size)).map(|_| ()),
        Type::Array(items) => each(input, |input| skip(schema, *items, input, depth + 1)),
        Type::Map(values) => each(input, |input| {
            bytes(input, None)?;
            skip(schema, *values, input, depth + 1)
        }),
        Type::Union(branches) => {
            let branch = usize::try_from(long(input)?).ok().and_then(|b| branches.get(b));
            skip(schema, *branch.ok_or("a union has no such branch")?, input, depth + 1)
        }
        Type::Record(fields) => fields.iter().try_for_each(|(_, id)| skip(schema, *id, input, depth + 1)),
    }
}

fn ended() -> String {
    "it ends in the middle of a value".into()
}

fn byte(input: &mut &[u8]) -> Result<u8, String> {
    array::<1>(input).map(|[b]| b)
}

fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], String> {
    let (first, rest) = input.split_first_chunk::<N>().ok_or_else(ended)?;
    *input = rest;
    Ok(*first)
}

/// A zigzag number of variable length.
pub(super) fn long(input: &mut &[u8]) -> Result<i64, String> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = byte(input)?;
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err("a number is too long".into())
}

/// So many bytes, or as many as a number in front of them says.
pub(super) fn bytes<'a>(input: &mut &'a [u8], fixed: Option<usize>) -> Result<&'a [u8], String> {
    let length = match fixed {
        Some(length) => length,
        None => usize::try_from(long(input)?).map_err(|_| "a length is negative")?,
    };
    let (found, rest) = input.split_at_checked(length).ok_or_else(ended)?;
    *input = rest;
    Ok(found)
}

/// A two's complement number, its highest byte first.
fn unscaled(bytes: &[u8]) -> Result<i128, String> {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let needless = bytes.len().saturating_sub(16);
    if bytes.iter().take(needless).any(|b| *b != fill) {
        return Err("a decimal has more than 38 digits".into());
    }
    let mut full = [fill; 16];
    let kept = bytes.get(needless..).unwrap_or_default();
    full[16 - kept.len()..].copy_from_slice(kept);
    Ok(i128::from_be_bytes(full))
}
