//! What a table holds in the end, and how it differs from what was expected.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Float64Type};
use millstream_core::{Batch, Schema};
use millstream_trial::{Folded, fold};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Rows of a table, with how often each is there.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Folded,
    /// How a row is written; sums of floating-point numbers may differ in their last digits, so rows are compared by
    /// another text.
    texts: BTreeMap<String, String>,
}

/// More rows than these are not shown of a difference.
const SHOWN: usize = 20;

impl Table {
    /// What changes leave.
    pub fn folded(schema: &Schema, key: Option<&[usize]>, changes: &[Batch]) -> Table {
        let compared = |batch: &Batch, row: usize, columns: &[usize]| text_of(schema, batch, row, columns, true);
        let mut texts = BTreeMap::new();
        let all: Vec<usize> = (0..schema.fields.len()).collect();
        for batch in changes {
            for row in 0..batch.num_rows() {
                let text = text_of(schema, batch, row, &all, false);
                texts.insert(compared(batch, row, &all), text);
            }
        }
        Table { rows: fold(changes, key, &compared), texts }
    }

    /// These rows.
    pub fn of_rows(schema: &Schema, rows: &Batch) -> Table {
        Table::folded(schema, None, std::slice::from_ref(rows))
    }

    fn text_of<'a>(&'a self, row: &'a str) -> &'a str {
        self.texts.get(row).map_or(row, String::as_str)
    }

    /// The rows as lines.
    pub fn text(&self) -> String {
        let mut lines: Vec<&str> = self
            .rows
            .iter()
            .flat_map(|(row, count)| std::iter::repeat_n(self.text_of(row), (*count).max(0) as usize))
            .collect();
        lines.sort_unstable();
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// How the tables differ, table by table; `None` if they don't.
pub fn difference(expected: &BTreeMap<String, Table>, actual: &BTreeMap<String, Table>) -> Option<String> {
    let mut text = String::new();
    for (name, expected) in expected {
        let empty = Folded::new();
        let (found, rows) = match actual.get(name) {
            Some(actual) => (Some(actual), &actual.rows),
            None => (None, &empty),
        };
        let mut lines = vec![];
        for (row, wanted) in &expected.rows {
            let missing = wanted - rows.get(row).unwrap_or(&0);
            lines.extend((0..missing.max(0)).map(|_| (expected.text_of(row), '-')));
        }
        for (row, count) in rows {
            let surplus = count - expected.rows.get(row).unwrap_or(&0);
            let line = found.map_or(row.as_str(), |table| table.text_of(row));
            lines.extend((0..surplus.max(0)).map(|_| (line, '+')));
            // Taken back more often than it came.
            lines.extend((0..(-count).max(0)).map(|_| (line, '!')));
        }
        if lines.is_empty() {
            continue;
        }
        // Rows that are almost the same stand together.
        lines.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        let _ = write!(text, "\n  table {name} (- expected, + got)");
        for (line, sign) in lines.iter().take(SHOWN) {
            let _ = write!(text, "\n    {sign} {line}");
        }
        if lines.len() > SHOWN {
            let _ = write!(text, "\n    and {} more rows", lines.len() - SHOWN);
        }
    }
    if text.is_empty() { None } else { Some(text) }
}

/// A row, or some columns of it, as a JSON object.
fn text_of(schema: &Schema, batch: &Batch, row: usize, columns: &[usize], compared: bool) -> String {
    let mut out = b"{".to_vec();
    for (i, column) in columns.iter().enumerate() {
        let field = &schema.fields[*column];
        if i > 0 {
            out.push(b',');
        }
        millstream_expr::json::write_string(&mut out, &field.name);
        out.push(b':');
        let array = batch.column(*column);
        match rounded(array.as_ref(), row).filter(|_| compared) {
            Some(number) => out.extend_from_slice(number.as_bytes()),
            None => millstream_expr::json::write_ref(&mut out, array, row, &field.data_type),
        }
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

/// A floating-point number by the digits that don't depend on the order of a sum.
fn rounded(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        return Some(format!("{:.11e}", doubles.value(row) + 0.0));
    }
    array.as_primitive_opt::<Float32Type>().map(|floats| format!("{:.4e}", floats.value(row) + 0.0))
}
