//! The rows that a decoder has made since its last batch, and what becomes of a record that can't be one.

use super::column::Column;
use millstream_core::format::{BadRecord, OnBadRecord};
use millstream_core::{Batch, Error, Result, Schema};

/// Rows in columns; a record is written to row `rows` of all columns, and counts once `rows` is raised.
#[derive(Debug)]
pub struct MadeRows {
    pub schema: Schema,
    pub columns: Vec<Column>,
    pub rows: usize,
    pub on_bad: OnBadRecord,
}

impl MadeRows {
    /// No rows yet; an error if no format carries a type of the schema.
    pub fn new(schema: &Schema, on_bad: OnBadRecord) -> Result<MadeRows> {
        Ok(MadeRows { schema: schema.clone(), columns: Column::of_fields(&schema.fields)?, rows: 0, on_bad })
    }

    /// Takes back what was written of a record, and does as [`refuse`].
    #[cold]
    pub fn refuse(&mut self, record: &[u8], line: usize, reason: Error, bad: &mut Vec<BadRecord>) -> Result<()> {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        refuse(self.on_bad, record, line, reason, bad)
    }

    /// Takes the rows, with none left.
    pub fn take(&mut self) -> Result<Batch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.columns.iter_mut().map(|column| column.finish(rows)).collect::<Result<Vec<_>>>()?;
        Batch::from_columns(self.schema.arrow().clone(), columns, rows)
    }
}

/// Notes a record in `bad`, its text only if that is asked for. `line`: where it stands, from 0. An error, the reason,
/// if bad records end the job.
pub fn refuse(on_bad: OnBadRecord, record: &[u8], line: usize, reason: Error, bad: &mut Vec<BadRecord>) -> Result<()> {
    let record = if on_bad == OnBadRecord::Skip { vec![] } else { record.to_vec() };
    bad.push(BadRecord { record, line, reason: reason.clone() });
    if on_bad == OnBadRecord::Fail { Err(reason) } else { Ok(()) }
}

/// The error of a record that can't be read.
pub fn undecodable(reason: &str) -> Error {
    Error::data(format!("the record can't be decoded: {reason}"))
}
