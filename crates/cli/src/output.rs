//! The sink behind a script's last SELECT: prints the changelog to stdout.

use crate::args::Format;
use arrow::array::AsArray;
use millstream_core::error::{Error, Result};
use millstream_core::graph::ChangelogMode;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Schema};
use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Prints rows; the planner routes all of them to worker 0.
#[derive(Debug)]
pub struct SelectSink {
    format: Format,
    zone: SessionZone,
    schema: OnceLock<Schema>,
}

impl SelectSink {
    /// A sink that prints in `format`; timestamps with a time zone are shown in `zone` in tables.
    pub fn new(format: Format, zone: SessionZone) -> Arc<Self> {
        Arc::new(SelectSink { format, zone, schema: OnceLock::new() })
    }
    /// Tells it the columns, which the planner derives.
    pub fn set_schema(&self, schema: Schema) {
        self.schema.get_or_init(|| schema);
    }
}

impl Sink for SelectSink {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::ALL
    }
    fn describe(&self) -> String {
        "stdout".into()
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        let schema = self.schema.get().cloned().ok_or_else(|| Error::internal("the result's columns are not known"))?;
        if ctx.instance > 0 {
            return Ok(Box::new(Unused));
        }
        Ok(match self.format {
            Format::Jsonl => Box::new(Lines { schema, zone: self.zone, out: Vec::new(), csv: false, header: false }),
            Format::Csv => Box::new(Lines { schema, zone: self.zone, out: Vec::new(), csv: true, header: true }),
            Format::Table => Box::new(Table::new(schema, self.zone, std::io::stdout().is_terminal())),
        })
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(Nothing))
    }
}

struct Nothing;

impl Committer for Nothing {
    fn commit(&mut self, _epoch: u64, _committables: &[Vec<u8>], _last: bool) -> Result<()> {
        Ok(())
    }
}

/// The instances that get no rows.
struct Unused;

impl SinkWriter for Unused {
    fn write(&mut self, _batch: &Batch) -> Result<()> {
        Err(Error::internal("a SELECT's rows went to another worker than the first"))
    }
    fn prepare_commit(&mut self, _epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        Ok(vec![])
    }
}

/// One line a row.
struct Lines {
    schema: Schema,
    zone: SessionZone,
    out: Vec<u8>,
    csv: bool,
    header: bool,
}

impl Lines {
    fn json(&mut self, batch: &Batch, row: usize) {
        self.out.extend_from_slice(br#"{"op":""#);
        self.out.extend_from_slice(batch.kind(row).symbol().as_bytes());
        self.out.extend_from_slice(br#"","row":{"#);
        for (i, field) in self.schema.fields.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            let name = serde_json::Value::from(field.name.as_str()).to_string();
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(b':');
            millstream_expr::json::write_value(&mut self.out, batch.column(i).as_ref(), row, &field.data_type);
        }
        self.out.extend_from_slice(b"}}\n");
    }
    fn csv_line(&mut self, cells: impl Iterator<Item = String>) {
        for (i, cell) in cells.enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            if cell.contains(['"', ',', '\n', '\r']) {
                self.out.push(b'"');
                self.out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
                self.out.push(b'"');
            } else {
                self.out.extend_from_slice(cell.as_bytes());
            }
        }
        self.out.push(b'\n');
    }
}

impl SinkWriter for Lines {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if std::mem::take(&mut self.header) {
            let names: Vec<String> =
                std::iter::once("op".to_string()).chain(self.schema.fields.iter().map(|f| f.name.clone())).collect();
            self.csv_line(names.into_iter());
        }
        for row in 0..batch.num_rows() {
            if self.csv {
                let cells = cells_of(batch, row, &self.schema, &self.zone, "");
                let op = batch.kind(row).symbol().to_string();
                self.csv_line(std::iter::once(op).chain(cells));
            } else {
                self.json(batch, row);
            }
        }
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        print(&self.out)?;
        self.out.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, _epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        self.flush()?;
        Ok(vec![])
    }
}

fn cells_of(batch: &Batch, row: usize, schema: &Schema, zone: &SessionZone, null: &str) -> Vec<String> {
    let cell = |(i, f): (usize, &millstream_core::Field)| {
        let array = batch.column(i);
        if arrow::array::Array::is_null(array, row) {
            null.to_string()
        } else if let Some(bytes) = array.as_binary_opt::<i32>() {
            bytes.value(row).iter().fold("x'".to_string(), |text, b| text + &format!("{b:02X}")) + "'"
        } else {
            millstream_expr::print::format_value(array, row, &f.data_type, zone)
        }
    };
    schema.fields.iter().enumerate().map(cell).collect()
}

/// The error of writing to a reader that went away; it ends the job quietly, as for any filter.
pub const READER_GONE: &str = "the reader of the output is gone";

/// Writes to stdout.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Error::data(READER_GONE)),
        other => Ok(other?),
    }
}

/// How many rows a table on a terminal keeps: the newest. One that is piped keeps all, to print them at its end.
const LIVE_ROWS: usize = 10_000;
/// How often a table on a terminal is drawn again at most.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// The result as a table: folded by the kinds of its rows, in the order of their arrival; drawn again as it changes
/// on a terminal.
struct Table {
    schema: Schema,
    zone: SessionZone,
    /// Each row with how often it is there, by arrival.
    rows: BTreeMap<u64, (Vec<String>, i64)>,
    /// Where a row stands in `rows`.
    places: HashMap<Vec<String>, u64>,
    arrived: u64,
    live: bool,
    changed: bool,
    drawn: Option<Instant>,
    /// Lines on the terminal that the next drawing replaces.
    lines: usize,
}

impl Table {
    fn new(schema: Schema, zone: SessionZone, live: bool) -> Self {
        let (rows, places) = (BTreeMap::new(), HashMap::new());
        Table { schema, zone, rows, places, arrived: 0, live, changed: true, drawn: None, lines: 0 }
    }

    fn count(&mut self, cells: Vec<String>, change: i64) {
        let place = match self.places.get(&cells) {
            Some(place) => *place,
            None => {
                self.arrived += 1;
                self.places.insert(cells.clone(), self.arrived);
                self.rows.insert(self.arrived, (cells.clone(), 0));
                self.arrived
            }
        };
        if let Some((_, count)) = self.rows.get_mut(&place) {
            *count += change;
            if *count == 0 {
                self.rows.remove(&place);
                self.places.remove(&cells);
            }
        }
        if self.live
            && self.rows.len() > LIVE_ROWS
            && let Some((_, (oldest, _))) = self.rows.pop_first()
        {
            self.places.remove(&oldest);
        }
    }

    /// All of it as text; on a terminal of so many rows and columns only the newest rows, cut to its width.
    fn text(&self, terminal: Option<(usize, usize)>) -> String {
        let rows = self.rows.values().filter(|(_, count)| *count > 0);
        let total: i64 = rows.clone().map(|(_, count)| *count).sum();
        let mut lines: Vec<&Vec<String>> =
            rows.flat_map(|(cells, count)| std::iter::repeat_n(cells, *count as usize)).collect();
        let (height, width) = terminal.unwrap_or((usize::MAX, usize::MAX));
        // Two lines above, one below, and the line that the cursor is on.
        lines.drain(..lines.len().saturating_sub(height.saturating_sub(4).max(1)));
        let names: Vec<String> = self.schema.fields.iter().map(|f| f.name.clone()).collect();
        let mut widths: Vec<usize> = names.iter().map(|n| n.chars().count()).collect();
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
        let mut text = String::new();
        for cells in [&names, &rule].into_iter().chain(lines.iter().copied()) {
            // A line break in a value would break the table.
            let pad = |(cell, width): (&String, &usize)| format!("{:width$}", cell.replace(['\n', '\r'], " "));
            let line = cells.iter().zip(&widths).map(pad).collect::<Vec<_>>().join("  ");
            text.extend(line.trim_end().chars().take(width));
            text.push('\n');
        }
        let shown = if (lines.len() as i64) < total { format!("; the last {}", lines.len()) } else { String::new() };
        text.push_str(&format!("({total} row{}{shown})\n", if total == 1 { "" } else { "s" }));
        text
    }

    fn draw(&mut self, terminal: Option<(usize, usize)>) -> Result<()> {
        let text = self.text(terminal);
        let back = if self.lines > 0 { format!("\x1b[{}A\x1b[J", self.lines) } else { String::new() };
        self.lines = text.lines().count();
        self.drawn = Some(Instant::now());
        self.changed = false;
        print(format!("{back}{text}").as_bytes())
    }
}

impl SinkWriter for Table {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let cells = cells_of(batch, row, &self.schema, &self.zone, "NULL");
            self.count(cells, if batch.kind(row).is_addition() { 1 } else { -1 });
        }
        self.changed = true;
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        if self.live && self.changed && self.drawn.is_none_or(|t| t.elapsed() >= DRAW_EVERY) {
            self.draw(Some(crate::terminal::size(libc::STDOUT_FILENO)))?;
        }
        Ok(())
    }
    fn prepare_commit(&mut self, _epoch: u64, ended: bool) -> Result<Vec<Vec<u8>>> {
        if ended {
            self.draw(None)?;
        }
        Ok(vec![])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{Field, TypeKind};

    fn table(live: bool) -> Table {
        let field = |name: &str| Field::new(name, TypeKind::STRING.nullable());
        Table::new(Schema::new(vec![field("k"), field("value")]), SessionZone::UTC, live)
    }

    fn row(k: &str, value: &str) -> Vec<String> {
        vec![k.into(), value.into()]
    }

    #[test]
    fn changes_are_folded_and_rows_stay_in_the_order_of_their_arrival() {
        let mut table = table(false);
        table.count(row("b", "1"), 1);
        table.count(row("a", "1"), 1);
        table.count(row("a", "1"), 1);
        table.count(row("b", "1"), -1);
        table.count(row("b", "22"), 1);
        assert_eq!(table.text(None), "k  value\n-  -----\na  1\na  1\nb  22\n(3 rows)\n");
    }

    #[test]
    fn a_terminal_shows_the_newest_rows_that_fit() {
        let mut table = table(true);
        (0..LIVE_ROWS + 50).for_each(|i| table.count(row(&i.to_string(), "a\nlong text"), 1));
        assert_eq!(table.rows.len(), LIVE_ROWS);
        assert_eq!(table.text(Some((6, 8))), "k      v\n-----  -\n10048  a\n10049  a\n(10000 rows; the last 2)\n");
    }
}
