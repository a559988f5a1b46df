//! The `print` connector: a sink that shows each row on standard output, as Flink's does.

use crate::blackhole::{NothingToCommit, not_readable};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray};
use arrow::datatypes::*;
use chrono::{DateTime, NaiveDateTime, NaiveTime, Timelike};
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Source;
use millstream_core::variant::Variant;
use millstream_core::{Batch, Error, Result, TypeKind, bitmap};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

/// The `print` connector (flink docs: connectors/table/print).
#[derive(Debug)]
pub struct PrintConnector;

impl Connector for PrintConnector {
    fn name(&self) -> &str {
        "print"
    }
    fn source(&self, table: &TableDef, _session: &SessionInfo) -> Result<Arc<dyn Source>> {
        Err(not_readable(&table.name, self.name()))
    }
    fn sink(&self, table: &TableDef, _mode: WriteMode, _session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        let sink = PrintSink {
            identifier: options.string("print-identifier").unwrap_or_default().to_string(),
            to_stderr: options.boolean("standard-error")?.unwrap_or(false),
            types: table.schema.fields.iter().map(|field| field.data_type.clone()).collect(),
        };
        options.finish()?;
        Ok(Arc::new(sink))
    }
}

#[derive(Debug)]
struct PrintSink {
    identifier: String,
    to_stderr: bool,
    types: Vec<millstream_core::DataType>,
}

impl Sink for PrintSink {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::ALL
    }
    fn describe(&self) -> String {
        match self.identifier.as_str() {
            "" => "print".into(),
            identifier => format!("print(identifier={identifier})"),
        }
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Printer {
            prefix: prefix(&self.identifier, ctx.instance, ctx.instances),
            to_stderr: self.to_stderr,
            types: self.types.clone(),
            text: String::new(),
        }))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NothingToCommit))
    }
}

/// What stands before each row; instances count from 1, as in Flink.
fn prefix(identifier: &str, instance: usize, instances: usize) -> String {
    match (identifier.is_empty(), instances > 1) {
        (true, false) => String::new(),
        (true, true) => format!("{}> ", instance + 1),
        (false, false) => format!("{identifier}> "),
        (false, true) => format!("{identifier}:{}> ", instance + 1),
    }
}

struct Printer {
    prefix: String,
    to_stderr: bool,
    types: Vec<millstream_core::DataType>,
    text: String,
}

impl SinkWriter for Printer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.text.clear();
        let columns: Vec<ArrayRef> =
            batch.rows.columns().iter().zip(&self.types).map(|(c, t)| legible(c, t)).collect::<Result<_>>()?;
        for row in 0..batch.num_rows() {
            self.text.push_str(&self.prefix);
            self.text.push_str(batch.kind(row).symbol());
            push_list(&mut self.text, columns.iter().map(|c| (c.as_ref(), row)));
            self.text.push('\n');
        }
        // One write call a batch, so that rows of several instances don't mix within a line.
        let done = match self.to_stderr {
            true => std::io::stderr().lock().write_all(self.text.as_bytes()),
            false => std::io::stdout().lock().write_all(self.text.as_bytes()),
        };
        done.map_err(|e| Error::from(e).context("print rows"))?;
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        std::io::stdout().flush().map_err(|e| Error::from(e).context("print rows"))
    }
    fn prepare_commit(&mut self, _epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        self.flush()?;
        Ok(Vec::new())
    }
}

/// A column in which bitmaps and variants are text.
fn legible(array: &ArrayRef, data_type: &millstream_core::DataType) -> Result<ArrayRef> {
    let is_encoded = |kind: &TypeKind| matches!(kind, TypeKind::Bitmap | TypeKind::Variant);
    if !data_type.any(&is_encoded) {
        return Ok(array.clone());
    }
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    Ok(match &data_type.kind {
        TypeKind::Array(item) => {
            let list = array.as_list::<i32>();
            let items = legible(list.values(), item)?;
            let field = field("item", &items);
            Arc::new(ListArray::try_new(field, list.offsets().clone(), items, list.nulls().cloned())?)
        }
        TypeKind::Map(key, value) => {
            let map = array.as_map();
            map_of(map, legible(map.keys(), key)?, legible(map.values(), value)?)?
        }
        TypeKind::Multiset(item) => {
            let map = array.as_map();
            map_of(map, legible(map.keys(), item)?, map.values().clone())?
        }
        TypeKind::Row(fields) => {
            let row = array.as_struct();
            let columns = row.columns().iter().zip(fields).map(|(c, f)| legible(c, &f.data_type));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let fields: Fields = fields.iter().zip(&columns).map(|(f, c)| field(&f.name, c)).collect();
            Arc::new(StructArray::try_new(fields, columns, row.nulls().cloned())?)
        }
        kind => {
            let text = |bytes: &[u8]| {
                let mut out = String::new();
                match kind {
                    TypeKind::Bitmap => bitmap::write_text(&mut out, &bitmap::read(bytes)?),
                    _ => Variant::new(bytes)?
                        .write_json(&mut out, &|out, value| push_java_float(out, value, format!("{value:e}")))?,
                }
                Ok(out)
            };
            let texts = array.as_binary::<i32>().iter().map(|bytes| bytes.map(text).transpose());
            Arc::new(texts.collect::<Result<StringArray>>()?)
        }
    })
}

fn map_of(map: &MapArray, keys: ArrayRef, values: ArrayRef) -> Result<ArrayRef> {
    let fields: Fields =
        vec![Field::new("key", keys.data_type().clone(), false), Field::new("value", values.data_type().clone(), true)]
            .into();
    let entries = StructArray::try_new(fields, vec![keys, values], None)?;
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    Ok(Arc::new(MapArray::try_new(field, map.offsets().clone(), entries, map.nulls().cloned(), false)?))
}

fn push_list<'a>(out: &mut String, values: impl Iterator<Item = (&'a dyn Array, usize)>) {
    out.push('[');
    for (i, (array, row)) in values.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        push_java(out, array, row);
    }
    out.push(']');
}

/// Appends a value as the `toString` of the Java object that Flink holds for it; `null` for NULL.
pub(crate) fn push_java(out: &mut String, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.push_str("null");
        return;
    }
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => put(out, format_args!("{}", array.as_primitive::<Int8Type>().value(row))),
        DataType::Int16 => put(out, format_args!("{}", array.as_primitive::<Int16Type>().value(row))),
        DataType::Int32 => put(out, format_args!("{}", array.as_primitive::<Int32Type>().value(row))),
        DataType::Int64 => put(out, format_args!("{}", array.as_primitive::<Int64Type>().value(row))),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            push_java_float(out, f64::from(value), format!("{value:e}"));
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            push_java_float(out, value, format!("{value:e}"));
        }
        DataType::Decimal128(..) => out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => {
            out.push('[');
            for (i, byte) in array.as_binary::<i32>().value(row).iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                put(out, format_args!("{comma}{}", *byte as i8));
            }
            out.push(']');
        }
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            match DateTime::from_timestamp(days * 86_400, 0) {
                Some(t) => put(out, format_args!("{}", t.date_naive())),
                None => put(out, format_args!("{days}")),
            }
        }
        DataType::Time32(_) => {
            let ms = array.as_primitive::<Time32MillisecondType>().value(row).rem_euclid(86_400_000) as u32;
            if let Some(t) = NaiveTime::from_num_seconds_from_midnight_opt(ms / 1000, ms % 1000 * 1_000_000) {
                push_java_time(out, t);
            }
        }
        DataType::Timestamp(unit, zone) => {
            let nanos = match unit {
                TimeUnit::Second => i128::from(array.as_primitive::<TimestampSecondType>().value(row)) * 1_000_000_000,
                TimeUnit::Millisecond => {
                    i128::from(array.as_primitive::<TimestampMillisecondType>().value(row)) * 1_000_000
                }
                TimeUnit::Microsecond => i128::from(array.as_primitive::<TimestampMicrosecondType>().value(row)) * 1000,
                TimeUnit::Nanosecond => i128::from(array.as_primitive::<TimestampNanosecondType>().value(row)),
            };
            let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
            match DateTime::from_timestamp(seconds, nanos.rem_euclid(1_000_000_000) as u32) {
                Some(t) => push_java_timestamp(out, t.naive_utc(), zone.is_some()),
                None => put(out, format_args!("{nanos}")),
            }
        }
        DataType::Interval(_) => {
            let months = array.as_primitive::<IntervalYearMonthType>().value(row);
            put(out, format_args!("{}{}-{:02}", sign(months < 0), (months / 12).abs(), (months % 12).abs()));
        }
        DataType::Duration(_) => {
            let ms = array.as_primitive::<DurationMillisecondType>().value(row);
            let (days, rest) = (ms.unsigned_abs() / 86_400_000, ms.unsigned_abs() % 86_400_000);
            let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
            let (seconds, millis) = (rest / 1000 % 60, rest % 1000);
            put(out, format_args!("{}{days} {hours:02}:{minutes:02}:{seconds:02}.{millis:03}", sign(ms < 0)));
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            push_list(out, (0..items.len()).map(|i| (items.as_ref(), i)));
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                if i > 0 {
                    out.push_str(", ");
                }
                push_java(out, entries.column(0).as_ref(), i);
                out.push('=');
                push_java(out, entries.column(1).as_ref(), i);
            }
            out.push('}');
        }
        DataType::Struct(_) => {
            out.push_str("+I");
            push_list(out, array.as_struct().columns().iter().map(|c| (c.as_ref(), row)));
        }
        other => put(out, format_args!("<{other}>")),
    }
}

/// Writing to a String can't fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn sign(negative: bool) -> &'static str {
    if negative { "-" } else { "+" }
}

/// `Double.toString`, from the shortest digits in scientific form.
fn push_java_float(out: &mut String, value: f64, scientific: String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (minus, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    out.push_str(minus);
    if value == 0.0 {
        out.push_str("0.0");
    } else if (-3..7).contains(&exponent) {
        if exponent < 0 {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
            out.push_str(&digits);
        } else {
            let whole = exponent as usize + 1;
            let padded = format!("{digits:0<whole$}");
            let (head, tail) = padded.split_at(whole);
            put(out, format_args!("{head}.{}", if tail.is_empty() { "0" } else { tail }));
        }
    } else {
        let (head, tail) = digits.split_at(1);
        put(out, format_args!("{head}.{}E{exponent}", if tail.is_empty() { "0" } else { tail }));
    }
}

/// `LocalTime.toString`: seconds only if needed, then 3, 6 or 9 digits.
fn push_java_time(out: &mut String, time: NaiveTime) {
    put(out, format_args!("{:02}:{:02}", time.hour(), time.minute()));
    push_seconds(out, time, false);
}

/// `LocalDateTime.toString`, or `Instant.toString`, which always has seconds.
fn push_java_timestamp(out: &mut String, at: NaiveDateTime, instant: bool) {
    put(out, format_args!("{}T{:02}:{:02}", at.date(), at.hour(), at.minute()));
    push_seconds(out, at.time(), instant);
    if instant {
        out.push('Z');
    }
}

fn push_seconds(out: &mut String, time: NaiveTime, always: bool) {
    let nanos = time.nanosecond();
    if time.second() == 0 && nanos == 0 && !always {
        return;
    }
    put(out, format_args!(":{:02}", time.second()));
    match nanos {
        0 => {}
        n if n % 1_000_000 == 0 => put(out, format_args!(".{:03}", n / 1_000_000)),
        n if n % 1000 == 0 => put(out, format_args!(".{:06}", n / 1000)),
        n => put(out, format_args!(".{n:09}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;

    fn java(array: &dyn Array) -> Vec<String> {
        let one = |row| {
            let mut out = String::new();
            push_java(&mut out, array, row);
            out
        };
        (0..array.len()).map(one).collect()
    }

    #[test]
    fn bitmaps_and_variants_are_shown_as_text_wherever_they_are() {
        use millstream_core::variant::Node;
        let sets: ArrayRef =
            Arc::new(BinaryArray::from_opt_vec(vec![Some(&bitmap::write([1, u32::MAX].into_iter().collect())), None]));
        let bitmaps = TypeKind::Bitmap.nullable();
        assert_eq!(java(&legible(&sets, &bitmaps).unwrap()), ["{1,4294967295}", "null"]);
        let field = Arc::new(Field::new("item", DataType::Binary, true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
        let list: ArrayRef = Arc::new(ListArray::try_new(field, offsets, sets, None).unwrap());
        let lists = TypeKind::Array(Box::new(bitmaps)).nullable();
        assert_eq!(java(&legible(&list, &lists).unwrap()), ["[{1,4294967295}, null]"]);
        let node = Node::Array(vec![Node::Double(1e7), Node::Text("x".into())]);
        let values: ArrayRef = Arc::new(BinaryArray::from(vec![node.to_bytes().as_slice()]));
        assert_eq!(java(&legible(&values, &TypeKind::Variant.nullable()).unwrap()), ["[1.0E7,\"x\"]"]);
    }

    #[test]
    fn values_are_shown_as_java_shows_them() {
        assert_eq!(
            java(&Float64Array::from(vec![1.0, 0.1, 1e7, 12345.678, 1e-3, 1e-4, -0.0, 1.5e300, 100.0, 1234567.0])),
            ["1.0", "0.1", "1.0E7", "12345.678", "0.001", "1.0E-4", "-0.0", "1.5E300", "100.0", "1234567.0"]
        );
        assert_eq!(java(&Float32Array::from(vec![0.1, 3e10])), ["0.1", "3.0E10"]);
        assert_eq!(
            java(&TimestampMillisecondArray::from(vec![Some(0), Some(1000), Some(1_600_000_000_123), None])),
            ["1970-01-01T00:00", "1970-01-01T00:00:01", "2020-09-13T12:26:40.123", "null"]
        );
        assert_eq!(
            java(&TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            ["1970-01-01T00:00:00.000001Z"]
        );
        assert_eq!(java(&Date32Array::from(vec![-1])), ["1969-12-31"]);
        assert_eq!(java(&BinaryArray::from(vec![&b"\x01\xff"[..]])), ["[1, -1]"]);
        assert_eq!(
            java(&Decimal128Array::from(vec![-5, 1234]).with_precision_and_scale(10, 2).expect("decimal")),
            ["-0.05", "12.34"]
        );
    }

    #[test]
    fn the_prefix_names_identifier_and_instance() {
        assert_eq!(prefix("", 0, 1), "");
        assert_eq!(prefix("", 1, 2), "2> ");
        assert_eq!(prefix("out", 0, 1), "out> ");
        assert_eq!(prefix("out", 0, 2), "out:1> ");
    }
}
