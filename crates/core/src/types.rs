//! Flink's logical types, their names in SQL, and the Arrow types that carry them.

use arrow::datatypes::{
    DataType as ArrowType, Field as ArrowField, IntervalUnit, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use std::fmt;
use std::sync::Arc;

/// The length that `STRING` and `BYTES` stand for: `VARCHAR(2147483647)`.
pub const MAX_LENGTH: u32 = i32::MAX as u32;

/// A type of Flink's SQL: a kind, and whether it takes NULL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataType {
    /// What it is.
    pub kind: TypeKind,
    /// Whether NULL is a value of it.
    pub nullable: bool,
}

/// The kinds of types, by Flink's names (flink docs: table/types).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// `NULL`: the type of an untyped NULL literal.
    Null,
    /// `BOOLEAN`
    Boolean,
    /// `TINYINT`
    TinyInt,
    /// `SMALLINT`
    SmallInt,
    /// `INT`
    Int,
    /// `BIGINT`
    BigInt,
    /// `FLOAT`
    Float,
    /// `DOUBLE`
    Double,
    /// `DECIMAL(precision, scale)`, precision 1 to 38.
    Decimal(u8, u8),
    /// `CHAR(n)`
    Char(u32),
    /// `VARCHAR(n)`; `STRING` is the longest.
    VarChar(u32),
    /// `BINARY(n)`
    Binary(u32),
    /// `VARBINARY(n)`; `BYTES` is the longest.
    VarBinary(u32),
    /// `DATE`
    Date,
    /// `TIME(p)`; carried in milliseconds.
    Time(u8),
    /// `TIMESTAMP(p)` without time zone.
    Timestamp(u8),
    /// `TIMESTAMP_LTZ(p)`: an instant, shown in the session's time zone.
    TimestampLtz(u8),
    /// `INTERVAL YEAR TO MONTH`, in months.
    IntervalYearMonth,
    /// `INTERVAL DAY TO SECOND`, in milliseconds.
    IntervalDayTime,
    /// `ARRAY<t>`
    Array(Box<DataType>),
    /// `MAP<k, v>`
    Map(Box<DataType>, Box<DataType>),
    /// `MULTISET<t>`: carried as a map from element to count.
    Multiset(Box<DataType>),
    /// `ROW<...>`
    Row(Vec<Field>),
    /// `BITMAP`: a set of 32-bit unsigned integers; see [`crate::bitmap`].
    Bitmap,
    /// `VARIANT`: a semi-structured value that says its own type; see [`crate::variant`].
    Variant,
}

/// A named, typed field of a row or a column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The name, as written (names are case-sensitive).
    pub name: String,
    /// The type.
    pub data_type: DataType,
}

impl Field {
    /// A field.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Field { name: name.into(), data_type }
    }
}

impl TypeKind {
    /// This kind, nullable.
    pub fn nullable(self) -> DataType {
        DataType { kind: self, nullable: true }
    }
    /// This kind, NOT NULL.
    pub fn not_null(self) -> DataType {
        DataType { kind: self, nullable: false }
    }
    /// `STRING`
    pub const STRING: TypeKind = TypeKind::VarChar(MAX_LENGTH);
    /// `BYTES`
    pub const BYTES: TypeKind = TypeKind::VarBinary(MAX_LENGTH);

    /// TINYINT, SMALLINT, INT or BIGINT.
    pub fn is_integer(&self) -> bool {
        matches!(self, TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt)
    }
    /// FLOAT or DOUBLE.
    pub fn is_approximate(&self) -> bool {
        matches!(self, TypeKind::Float | TypeKind::Double)
    }
    /// Integers, DECIMAL, FLOAT, DOUBLE.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || self.is_approximate() || matches!(self, TypeKind::Decimal(..))
    }
    /// CHAR or VARCHAR.
    pub fn is_character(&self) -> bool {
        matches!(self, TypeKind::Char(_) | TypeKind::VarChar(_))
    }
    /// BINARY or VARBINARY.
    pub fn is_binary(&self) -> bool {
        matches!(self, TypeKind::Binary(_) | TypeKind::VarBinary(_))
    }
    /// TIMESTAMP or TIMESTAMP_LTZ.
    pub fn is_timestamp(&self) -> bool {
        matches!(self, TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_))
    }
    /// DATE, TIME or a timestamp.
    pub fn is_temporal(&self) -> bool {
        self.is_timestamp() || matches!(self, TypeKind::Date | TypeKind::Time(_))
    }
    /// Whether values of it have an order, so that they can be sorted and compared with `<`.
    pub fn has_order(&self) -> bool {
        !matches!(
            self,
            TypeKind::Array(_)
                | TypeKind::Map(..)
                | TypeKind::Multiset(_)
                | TypeKind::Row(_)
                | TypeKind::Bitmap
                | TypeKind::Variant
        )
    }
    /// One of the two interval kinds.
    pub fn is_interval(&self) -> bool {
        matches!(self, TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime)
    }

    /// The Arrow type that carries values of this kind.
    ///
    /// Timestamps use milliseconds to precision 3, microseconds to 6, nanoseconds to 9; `_LTZ` has
    /// the Arrow time zone `UTC` whatever the session's. Time is `Time32(ms)`, intervals are
    /// `Interval(YearMonth)` and `Duration(ms)`, strings `Utf8`, bytes, bitmaps and variants `Binary`.
    pub fn arrow(&self) -> ArrowType {
        match self {
            TypeKind::Null => ArrowType::Null,
            TypeKind::Boolean => ArrowType::Boolean,
            TypeKind::TinyInt => ArrowType::Int8,
            TypeKind::SmallInt => ArrowType::Int16,
            TypeKind::Int => ArrowType::Int32,
            TypeKind::BigInt => ArrowType::Int64,
            TypeKind::Float => ArrowType::Float32,
            TypeKind::Double => ArrowType::Float64,
            TypeKind::Decimal(p, s) => ArrowType::Decimal128(*p, *s as i8),
            TypeKind::Char(_) | TypeKind::VarChar(_) => ArrowType::Utf8,
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => ArrowType::Binary,
            TypeKind::Date => ArrowType::Date32,
            TypeKind::Time(_) => ArrowType::Time32(TimeUnit::Millisecond),
            TypeKind::Timestamp(p) => ArrowType::Timestamp(unit_of(*p), None),
            TypeKind::TimestampLtz(p) => ArrowType::Timestamp(unit_of(*p), Some("UTC".into())),
            TypeKind::IntervalYearMonth => ArrowType::Interval(IntervalUnit::YearMonth),
            TypeKind::IntervalDayTime => ArrowType::Duration(TimeUnit::Millisecond),
            TypeKind::Array(t) => ArrowType::List(Arc::new(ArrowField::new("item", t.arrow(), true))),
            TypeKind::Map(k, v) => map_type(k.arrow(), v.arrow()),
            TypeKind::Multiset(t) => map_type(t.arrow(), ArrowType::Int32),
            TypeKind::Row(fields) => ArrowType::Struct(fields.iter().map(Field::arrow).collect()),
            TypeKind::Bitmap | TypeKind::Variant => ArrowType::Binary,
        }
    }
}

/// Arrow's map type as used everywhere here; every field but the entries is nullable.
fn map_type(key: ArrowType, value: ArrowType) -> ArrowType {
    let entries =
        ArrowType::Struct(vec![ArrowField::new("key", key, false), ArrowField::new("value", value, true)].into());
    ArrowType::Map(Arc::new(ArrowField::new("entries", entries, false)), false)
}

/// The Arrow unit that carries a timestamp of precision `p`.
pub fn unit_of(p: u8) -> TimeUnit {
    match p {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

impl DataType {
    /// The Arrow type that carries it.
    pub fn arrow(&self) -> ArrowType {
        self.kind.arrow()
    }
    /// Whether `wanted` holds for its kind or for one that it is made of.
    pub fn any(&self, wanted: &dyn Fn(&TypeKind) -> bool) -> bool {
        wanted(&self.kind)
            || match &self.kind {
                TypeKind::Array(t) | TypeKind::Multiset(t) => t.any(wanted),
                TypeKind::Map(k, v) => k.any(wanted) || v.any(wanted),
                TypeKind::Row(fields) => fields.iter().any(|field| field.data_type.any(wanted)),
                _ => false,
            }
    }
    /// The same type with the given nullability.
    pub fn with_nullable(mut self, nullable: bool) -> Self {
        self.nullable = nullable;
        self
    }
}

impl Field {
    /// The Arrow field; always nullable in Arrow, since NOT NULL is checked where rows enter.
    pub fn arrow(&self) -> ArrowField {
        ArrowField::new(&self.name, self.data_type.arrow(), true)
    }
}

impl fmt::Display for DataType {
    /// Flink's serialisable form, as in `shared/conformance`: `DECIMAL(10, 2) NOT NULL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.nullable && self.kind != TypeKind::Null {
            write!(f, " NOT NULL")?;
        }
        Ok(())
    }
}

impl fmt::Display for TypeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeKind::Null => f.write_str("NULL"),
            TypeKind::Boolean => f.write_str("BOOLEAN"),
            TypeKind::TinyInt => f.write_str("TINYINT"),
            TypeKind::SmallInt => f.write_str("SMALLINT"),
            TypeKind::Int => f.write_str("INT"),
            TypeKind::BigInt => f.write_str("BIGINT"),
            TypeKind::Float => f.write_str("FLOAT"),
            TypeKind::Double => f.write_str("DOUBLE"),
            TypeKind::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            TypeKind::Char(n) => write!(f, "CHAR({n})"),
            TypeKind::VarChar(MAX_LENGTH) => f.write_str("STRING"),
            TypeKind::VarChar(n) => write!(f, "VARCHAR({n})"),
            TypeKind::Binary(n) => write!(f, "BINARY({n})"),
            TypeKind::VarBinary(MAX_LENGTH) => f.write_str("BYTES"),
            TypeKind::VarBinary(n) => write!(f, "VARBINARY({n})"),
            TypeKind::Date => f.write_str("DATE"),
            TypeKind::Time(p) => write!(f, "TIME({p})"),
            TypeKind::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            TypeKind::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            TypeKind::IntervalYearMonth => f.write_str("INTERVAL MONTH"),
            TypeKind::IntervalDayTime => f.write_str("INTERVAL SECOND(3)"),
            TypeKind::Array(t) => write!(f, "ARRAY<{t}>"),
            TypeKind::Map(k, v) => write!(f, "MAP<{k}, {v}>"),
            TypeKind::Multiset(t) => write!(f, "MULTISET<{t}>"),
            TypeKind::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "`{}` {}", field.name, field.data_type)?;
                }
                f.write_str(">")
            }
            TypeKind::Bitmap => f.write_str("BITMAP"),
            TypeKind::Variant => f.write_str("VARIANT"),
        }
    }
}

/// The columns of a table or of a stream of batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The columns, in order.
    pub fields: Vec<Field>,
    arrow: SchemaRef,
}

impl Schema {
    /// A schema of these columns.
    pub fn new(fields: Vec<Field>) -> Self {
        let arrow = Arc::new(ArrowSchema::new(fields.iter().map(Field::arrow).collect::<Vec<_>>()));
        Schema { fields, arrow }
    }
    /// The Arrow schema of its batches; all fields nullable.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }
    /// The position of a column.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }
    /// The columns at `indices`, in that order.
    pub fn project(&self, indices: &[usize]) -> Schema {
        Schema::new(indices.iter().map(|i| self.fields[*i].clone()).collect())
    }
    /// The number of columns.
    pub fn len(&self) -> usize {
        self.fields.len()
    }
    /// Whether it has no column.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// A session's time zone: a region of the time zone database or a fixed offset (`GMT+02:00`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionZone {
    /// A region, such as `Europe/Berlin`.
    Region(chrono_tz::Tz),
    /// A fixed offset, seconds east of Greenwich.
    Fixed(i32),
}

impl SessionZone {
    /// UTC.
    pub const UTC: SessionZone = SessionZone::Region(chrono_tz::Tz::UTC);

    /// Seconds to add to `utc_ms` to get the local time there.
    pub fn offset_seconds_at(&self, utc_ms: i64) -> i32 {
        use chrono::{Offset, TimeZone};
        match self {
            SessionZone::Fixed(seconds) => *seconds,
            SessionZone::Region(chrono_tz::Tz::UTC) => 0,
            SessionZone::Region(tz) => {
                let at = chrono::DateTime::from_timestamp_millis(utc_ms).unwrap_or_default();
                tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
            }
        }
    }
    /// The local time, in milliseconds as if it were UTC, at the instant `utc_ms`.
    pub fn to_local_ms(&self, utc_ms: i64) -> i64 {
        utc_ms.saturating_add(i64::from(self.offset_seconds_at(utc_ms)) * 1000)
    }
    /// The lowest local time that is shown at `utc_ms` or any time after: all that is below is past. Less than
    /// [`SessionZone::to_local_ms`] before clocks go back.
    pub fn lowest_local_from(&self, utc_ms: i64) -> i64 {
        /// Clocks are set back by less, and not twice within it.
        const HORIZON_MS: i64 = 3 * 3_600_000;
        let local = self.to_local_ms(utc_ms);
        let (SessionZone::Region(tz), mut known) = (self, utc_ms) else { return local };
        let mut changed = utc_ms.saturating_add(HORIZON_MS);
        let before = self.offset_seconds_at(utc_ms);
        if *tz == chrono_tz::Tz::UTC || self.offset_seconds_at(changed) >= before {
            return local;
        }
        while changed - known > 1 {
            let middle = known + (changed - known) / 2;
            match self.offset_seconds_at(middle) == before {
                true => known = middle,
                false => changed = middle,
            }
        }
        local.min(self.to_local_ms(changed))
    }
    /// The first instant from which on no local time below `local_ms` is shown.
    pub fn past_at_utc_ms(&self, local_ms: i64) -> i64 {
        let first = self.to_utc_ms(local_ms);
        match self.lowest_local_from(first) >= local_ms {
            true => first,
            // The later of two instants: as much later as the clocks are set back.
            false => {
                let back = self.offset_seconds_at(first) - self.offset_seconds_at(first.saturating_add(3 * 3_600_000));
                first.saturating_add(i64::from(back) * 1000)
            }
        }
    }
    /// The instant of a local time. As in Java: the earlier of two when clocks go back, shifted by the gap
    /// when they go forward.
    pub fn to_utc_ms(&self, local_ms: i64) -> i64 {
        use chrono::{LocalResult, Offset, TimeZone};
        let offset = match self {
            SessionZone::Fixed(seconds) => *seconds,
            SessionZone::Region(chrono_tz::Tz::UTC) => 0,
            SessionZone::Region(tz) => {
                let at = chrono::DateTime::from_timestamp_millis(local_ms).unwrap_or_default().naive_utc();
                match tz.offset_from_local_datetime(&at) {
                    LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset.fix().local_minus_utc(),
                    LocalResult::None => self.offset_seconds_at(local_ms.saturating_sub(86_400_000)),
                }
            }
        };
        local_ms.saturating_sub(i64::from(offset) * 1000)
    }
}

impl std::str::FromStr for SessionZone {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(tz) = text.parse::<chrono_tz::Tz>() {
            return Ok(SessionZone::Region(tz));
        }
        let error = || crate::Error::script("a time zone such as 'UTC', 'Europe/Berlin' or 'GMT+02:00'");
        let offset = text.strip_prefix("GMT").or_else(|| text.strip_prefix("UTC")).unwrap_or(text);
        let (sign, digits) = match offset.split_at_checked(1) {
            Some(("+", digits)) => (1, digits),
            Some(("-", digits)) => (-1, digits),
            _ => return Err(error()),
        };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
        let hours: i32 = hours.parse().map_err(|_| error())?;
        let minutes: i32 = minutes.parse().map_err(|_| error())?;
        if !(0..=18).contains(&hours) || !(0..60).contains(&minutes) {
            return Err(error());
        }
        Ok(SessionZone::Fixed(sign * (hours * 3600 + minutes * 60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Every minute of the days around Berlin's two changes of 2024, by the definition.
    #[test]
    fn what_is_past_when_clocks_change_is_what_no_later_instant_shows() {
        let zone: SessionZone = "Europe/Berlin".parse().unwrap();
        // 2024-03-31 01:00 UTC and 2024-10-27 01:00 UTC.
        for change in [1_711_846_800_000, 1_729_990_800_000] {
            let instants: Vec<i64> = (-600..600).map(|m| change + m * MINUTE).collect();
            for (i, at) in instants[..900].iter().enumerate() {
                let lowest = instants[i..].iter().map(|later| zone.to_local_ms(*later)).min();
                assert_eq!(Some(zone.lowest_local_from(*at)), lowest, "{at}");
            }
            let first = zone.to_local_ms(instants[0]);
            for local in (1..900).map(|m| first + m * MINUTE) {
                let past = instants.iter().find(|at| zone.lowest_local_from(**at) >= local);
                // In the hour that is skipped an instant after it may be told.
                let skipped = !instants.iter().any(|at| zone.to_local_ms(*at) == local);
                assert!(skipped || past == Some(&zone.past_at_utc_ms(local)), "{local}");
                assert!(zone.lowest_local_from(zone.past_at_utc_ms(local)) >= local, "{local}");
            }
        }
    }
}
