//! Generated tables: rows with NULLs, duplicates and few keys, out of order by less than the watermark waits.

use arrow::array::*;
use millstream_core::{Batch, DataType, Field, RowKind, Schema, TypeKind};
use rand::Rng;
use rand::rngs::SmallRng;
use std::fmt::Write;
use std::sync::Arc;

/// What a column or an expression holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers of any width.
    Int,
    Text,
    /// Multiples of a quarter, so that sums are exact in any order.
    Double,
    Decimal,
    Bool,
    /// TIMESTAMP(3) here, milliseconds since 1970 in the reference.
    Time,
    /// A quotient, which is compared, but not computed with.
    Ratio,
}

/// The columns of every table. `ts` is the row time of those that only grow.
pub const COLUMNS: [(&str, Kind); 8] = [
    ("id", Kind::Int),
    ("k", Kind::Int),
    ("g", Kind::Text),
    ("v", Kind::Int),
    ("d", Kind::Double),
    ("m", Kind::Decimal),
    ("b", Kind::Bool),
    ("ts", Kind::Time),
];

/// 2026-01-01 00:00:00 UTC.
pub const START_MS: i64 = 1_767_225_600_000;
/// How far rows are out of order at most, and watermarks behind.
const DISORDER_MS: i64 = 5_000;

/// A value; of a DECIMAL(10, 2) its hundredths, of a double its quarters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    Null,
    Int(i64),
    Text(&'static str),
}

/// A change of a table.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: RowKind,
    /// The changes of one row over time belong together.
    pub entity: usize,
    pub cells: [Cell; COLUMNS.len()],
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    /// Whether its rows are changed and deleted again; such a table has no row time.
    pub updating: bool,
    /// Whether rows may have the same time.
    pub ties: bool,
    pub changes: Vec<Change>,
}

const TEXTS: [&str; 5] = ["a", "b", "ab", "c", ""];

fn cells(rng: &mut SmallRng, entity: usize, time: i64) -> [Cell; COLUMNS.len()] {
    let nulls = 0.15;
    let mut int = |low: i64, high: i64| match rng.random_bool(nulls) {
        true => Cell::Null,
        false => Cell::Int(rng.random_range(low..=high)),
    };
    let (k, v, d, m, b) = (int(0, 4), int(-9, 20), int(-8, 12), int(-150, 250), int(0, 1));
    let g = if rng.random_bool(nulls) { Cell::Null } else { Cell::Text(TEXTS[rng.random_range(0..TEXTS.len())]) };
    [Cell::Int(entity as i64), k, g, v, d, m, b, Cell::Int(time)]
}

impl Table {
    /// A random table.
    pub fn generate(rng: &mut SmallRng, name: &str) -> Table {
        let updating = rng.random_bool(0.3);
        let ties = rng.random_bool(0.4);
        let count = if rng.random_bool(0.05) { 0 } else { rng.random_range(1..=20) };
        let mut arrivals: Vec<(i64, Change)> = vec![];
        for entity in 0..count {
            let second = rng.random_range(0..40) * 1000;
            let time = START_MS + second + if ties { 0 } else { entity as i64 };
            let mut at = time + rng.random_range(0..DISORDER_MS - 100);
            let mut row = cells(rng, entity, time);
            arrivals.push((at, Change { kind: RowKind::Insert, entity, cells: row }));
            while updating && rng.random_bool(0.5) {
                at += rng.random_range(0..9000);
                if rng.random_bool(0.3) {
                    arrivals.push((at, Change { kind: RowKind::Delete, entity, cells: row }));
                    break;
                }
                arrivals.push((at, Change { kind: RowKind::UpdateBefore, entity, cells: row }));
                let mut next = cells(rng, entity, time);
                for (new, old) in next.iter_mut().zip(row) {
                    if rng.random_bool(0.6) {
                        *new = old;
                    }
                }
                row = next;
                arrivals.push((at, Change { kind: RowKind::UpdateAfter, entity, cells: row }));
            }
        }
        arrivals.sort_by_key(|(at, change)| (*at, change.entity));
        let changes = arrivals.into_iter().map(|(_, change)| change).collect();
        Table { name: name.into(), updating, ties, changes }
    }

    /// Its CREATE TABLE.
    pub fn ddl(&self) -> String {
        let watermark = match self.updating {
            true => "",
            false => ", WATERMARK FOR ts AS ts - INTERVAL '5' SECOND",
        };
        format!(
            "CREATE TABLE {} (id BIGINT NOT NULL, k INT, g STRING, v INT, d DOUBLE, m DECIMAL(10, 2), b BOOLEAN, \
             ts TIMESTAMP(3) NOT NULL{watermark}) WITH ('connector' = 'rows');\n",
            self.name
        )
    }

    /// All changes, in their order, as Millstream reads them.
    pub fn batch(&self) -> Batch {
        let types = self.our_schema();
        let rows: Vec<&[Cell]> = self.changes.iter().map(|change| change.cells.as_slice()).collect();
        let columns = columns(&rows, false);
        let kinds = self.updating.then(|| UInt8Array::from_iter_values(self.changes.iter().map(|c| c.kind as u8)));
        Batch::from_columns(types.arrow().clone(), columns, rows.len()).unwrap().with_kinds(kinds)
    }

    /// The columns, as Millstream reads them.
    pub fn our_schema(&self) -> Schema {
        let field = |(name, kind): &(&str, Kind)| {
            let kind = match kind {
                Kind::Int if *name == "id" => TypeKind::BigInt,
                Kind::Int => TypeKind::Int,
                Kind::Text => TypeKind::STRING,
                Kind::Double | Kind::Ratio => TypeKind::Double,
                Kind::Decimal => TypeKind::Decimal(10, 2),
                Kind::Bool => TypeKind::Boolean,
                Kind::Time => TypeKind::Timestamp(3),
            };
            Field::new(*name, DataType { kind, nullable: !matches!(*name, "id" | "ts") })
        };
        Schema::new(COLUMNS.iter().map(field).collect())
    }

    /// What the changes leave, as the reference reads it.
    pub fn rows(&self) -> RecordBatch {
        let mut rows: Vec<&Change> = vec![];
        for change in &self.changes {
            if matches!(change.kind, RowKind::UpdateBefore | RowKind::Delete) {
                rows.retain(|row| row.entity != change.entity);
            } else {
                rows.push(change);
            }
        }
        let rows: Vec<&[Cell]> = rows.iter().map(|change| change.cells.as_slice()).collect();
        let named = COLUMNS.iter().map(|(name, _)| *name).zip(columns(&rows, true)).map(|(n, c)| (n, c, true));
        RecordBatch::try_from_iter_with_nullable(named).unwrap()
    }

    /// The changes as text, for a report.
    pub fn text(&self) -> String {
        let mut text = format!("{} {:?}\n", self.name, COLUMNS.map(|(name, _)| name));
        for change in &self.changes {
            let cells = change.cells.iter().zip(COLUMNS).map(|(cell, (_, kind))| match (cell, kind) {
                (Cell::Null, _) => "NULL".to_string(),
                (Cell::Int(ms), Kind::Time) => format!("+{} ms", ms - START_MS),
                (Cell::Int(n), Kind::Double) => format!("{}", *n as f64 / 4.0),
                (Cell::Int(n), Kind::Decimal) => format!("{:.2}", *n as f64 / 100.0),
                (Cell::Int(n), Kind::Bool) => format!("{}", *n == 1),
                (Cell::Int(n), _) => n.to_string(),
                (Cell::Text(t), _) => format!("'{t}'"),
            });
            let _ = writeln!(text, "  {} {}", change.kind.symbol(), cells.collect::<Vec<_>>().join(", "));
        }
        text
    }
}

fn columns(rows: &[&[Cell]], reference: bool) -> Vec<ArrayRef> {
    let column = |(i, (name, kind)): (usize, &(&str, Kind))| -> ArrayRef {
        let ints = || rows.iter().map(|row| if let Cell::Int(n) = row[i] { Some(n) } else { None });
        match kind {
            Kind::Time if !reference => Arc::new(TimestampMillisecondArray::from_iter(ints())),
            Kind::Int if *name != "id" => Arc::new(Int32Array::from_iter(ints().map(|n| n.map(|n| n as i32)))),
            Kind::Int | Kind::Time => Arc::new(Int64Array::from_iter(ints())),
            Kind::Text => {
                let text = |row: &&[Cell]| if let Cell::Text(text) = row[i] { Some(text) } else { None };
                Arc::new(StringArray::from_iter(rows.iter().map(text)))
            }
            Kind::Double | Kind::Ratio => Arc::new(Float64Array::from_iter(ints().map(|n| n.map(|n| n as f64 / 4.0)))),
            Kind::Decimal => {
                let array = Decimal128Array::from_iter(ints().map(|n| n.map(i128::from)));
                Arc::new(array.with_precision_and_scale(10, 2).unwrap())
            }
            Kind::Bool => Arc::new(BooleanArray::from_iter(ints().map(|n| n.map(|n| n == 1)))),
        }
    };
    COLUMNS.iter().enumerate().map(column).collect()
}
