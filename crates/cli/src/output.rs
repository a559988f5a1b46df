//! The sink behind a script's last SELECT: prints the changelog to stdout.

use crate::args::Format;
use arrow::array::AsArray;
use millstream_core::error::{Error, Result};
use millstream_core::graph::ChangelogMode;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Schema};
use std::collections::HashMap;
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
            Format::Table => {
                let live = std::io::stdout().is_terminal();
                Box::new(Table { schema, zone: self.zone, rows: HashMap::new(), count: 0, live, shown: None, lines: 0 })
            }
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

/// How many rows a table shows at most while it lives.
const LIVE_ROWS: usize = 40;

/// The result as a table: kept in memory, folded by the kinds; drawn again as it changes on a terminal.
struct Table {
    schema: Schema,
    zone: SessionZone,
    rows: HashMap<Vec<String>, (u64, i64)>,
    count: u64,
    live: bool,
    shown: Option<Instant>,
    lines: usize,
}

impl Table {
    fn draw(&mut self, last: bool) -> Result<()> {
        let mut rows: Vec<(&Vec<String>, u64, i64)> =
            self.rows.iter().filter(|(_, (_, n))| *n > 0).map(|(r, (order, n))| (r, *order, *n)).collect();
        rows.sort_by_key(|(_, order, _)| *order);
        let mut lines: Vec<&Vec<String>> =
            rows.iter().flat_map(|(row, _, n)| std::iter::repeat_n(*row, (*n).max(0) as usize)).collect();
        let total = lines.len();
        if self.live && !last && total > LIVE_ROWS {
            lines.drain(..total - LIVE_ROWS);
        }
        let names: Vec<String> = self.schema.fields.iter().map(|f| f.name.clone()).collect();
        let mut widths: Vec<usize> = names.iter().map(|n| n.chars().count()).collect();
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if self.lines > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.lines));
        }
        let before = text.len();
        let mut push = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        };
        push(&names);
        push(&widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>());
        for line in &lines {
            push(line);
        }
        text.push_str(&format!("({total} row{})\n", if total == 1 { "" } else { "s" }));
        self.lines = if self.live { text[before..].lines().count() } else { 0 };
        self.shown = Some(Instant::now());
        print(text.as_bytes())
    }
}

impl SinkWriter for Table {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let cells = cells_of(batch, row, &self.schema, &self.zone, "NULL");
            self.count += 1;
            let entry = self.rows.entry(cells).or_insert((self.count, 0));
            entry.1 += if batch.kind(row).is_addition() { 1 } else { -1 };
        }
        self.rows.retain(|_, (_, n)| *n != 0);
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        if self.live && self.shown.is_none_or(|t| t.elapsed() > Duration::from_millis(200)) {
            self.draw(false)?;
        }
        Ok(())
    }
    fn prepare_commit(&mut self, _epoch: u64, ended: bool) -> Result<Vec<Vec<u8>>> {
        if ended {
            self.draw(true)?;
            self.live = false;
        }
        Ok(vec![])
    }
}
