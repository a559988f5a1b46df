//! A table that is read: rows in memory, given up to a gate that the trial lifts.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use millstream_core::graph::ChangelogMode;
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader, Waker};
use millstream_core::{Batch, Error, Result, Schema};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The rows of a table, in the order in which they come.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns that the table has for a reader.
    pub schema: Schema,
    /// The rows.
    pub batch: Batch,
    /// Which kinds of rows they are.
    pub changelog: ChangelogMode,
    /// Whether the table that they stand for ends by itself.
    pub is_bounded: bool,
}

/// A table's rows, and how far the readers may go.
pub(crate) struct Feed {
    pub(crate) name: String,
    pub(crate) rows: Rows,
    /// Which of the instances reads: the tables are spread over them.
    place: usize,
    state: Mutex<Gate>,
    heard: Condvar,
}

#[derive(Default)]
struct Gate {
    rows: usize,
    ended: bool,
    /// Counts what the readers were told.
    round: u64,
    readers: Vec<Listener>,
}

struct Listener {
    waker: Waker,
    /// The last round that it has heard of, and given all it may since.
    heard: u64,
}

impl Feed {
    pub(crate) fn new(name: &str, rows: Rows, place: usize) -> Arc<Feed> {
        let (state, heard) = (Mutex::default(), Condvar::new());
        Arc::new(Feed { name: name.to_string(), rows, place, state, heard })
    }
    pub(crate) fn source(self: &Arc<Feed>) -> Arc<dyn Source> {
        Arc::new(FeedSource { feed: Arc::clone(self), schema: self.rows.schema.clone() })
    }
    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Forgets the readers of an attempt that is over.
    pub(crate) fn reset(&self) {
        *self.lock() = Gate::default();
    }
    /// Lets the readers go up to row `rows`, and beyond the last row to the end if it has `ended`.
    pub(crate) fn lift(&self, rows: usize, ended: bool) {
        let wakers: Vec<Waker> = {
            let mut gate = self.lock();
            (gate.rows, gate.ended) = (rows, ended);
            gate.round += 1;
            gate.readers.iter().map(|reader| reader.waker.clone()).collect()
        };
        wakers.iter().for_each(|wake| wake());
    }
    /// Waits until so many `readers` have done all that they may, or the time is over; tells whether they have.
    pub(crate) fn wait(&self, readers: usize, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut gate = self.lock();
        loop {
            if gate.readers.iter().filter(|reader| reader.heard >= gate.round).count() >= readers {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gate = self.heard.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({}, {} rows)", self.name, self.rows.batch.num_rows())
    }
}

/// The rows of a feed, some of their columns.
#[derive(Debug)]
pub(crate) struct FeedSource {
    feed: Arc<Feed>,
    schema: Schema,
}

impl Source for FeedSource {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FeedSource { feed: Arc::clone(&self.feed), schema }))
    }
    fn changelog(&self) -> ChangelogMode {
        self.feed.rows.changelog
    }
    fn is_bounded(&self) -> bool {
        self.feed.rows.is_bounded
    }
    fn describe(&self) -> String {
        format!("rows of '{}'", self.feed.name)
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        let reads = ctx.instance == self.feed.place % ctx.instances;
        let position = |bytes: &Vec<u8>| <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_le_bytes);
        let mut at = 0;
        for restored in ctx.restored.iter().flatten() {
            at = at.max(position(restored).map_err(|_| Error::state("a position in a table's rows is 8 bytes"))?);
        }
        let batch = project(&self.feed.rows.batch, self.schema.arrow())?;
        let mut gate = self.feed.lock();
        gate.readers.push(Listener { waker: ctx.waker, heard: 0 });
        let number = gate.readers.len() - 1;
        drop(gate);
        Ok(Box::new(FeedReader { feed: Arc::clone(&self.feed), batch, reads, at: at as usize, number }))
    }
}

struct FeedReader {
    feed: Arc<Feed>,
    batch: Batch,
    reads: bool,
    at: usize,
    /// Its number among the readers of this attempt.
    number: usize,
}

impl SourceReader for FeedReader {
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll> {
        let mut gate = self.feed.lock();
        let end = gate.rows.min(self.batch.num_rows());
        if self.reads && self.at < end {
            let rows = (end - self.at).min(max_rows);
            self.at += rows;
            return Ok(SourcePoll::Rows { split: 0, batch: self.batch.slice(self.at - rows, rows) });
        }
        let (round, ended) = (gate.round, gate.ended);
        gate.readers[self.number].heard = round;
        self.feed.heard.notify_all();
        Ok(match (ended, self.reads) {
            (true, _) => SourcePoll::End,
            (false, true) => SourcePoll::Wait(None),
            (false, false) => SourcePoll::Idle(None),
        })
    }
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok((self.at as u64).to_le_bytes().to_vec())
    }
}

/// The columns of `schema`, found by their names; of a row's fields only those that it has.
fn project(batch: &Batch, schema: &SchemaRef) -> Result<Batch> {
    let column = |field: &arrow::datatypes::FieldRef| {
        let column = batch.rows.column_by_name(field.name());
        column.map(|c| narrow(c, field.data_type())).unwrap_or_else(|| Err(unknown(field.name())))
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(Batch::from_columns(schema.clone(), columns, batch.num_rows())?.with_kinds(batch.kinds.clone()))
}

fn narrow(array: &ArrayRef, wanted: &ArrowType) -> Result<ArrayRef> {
    match (array.as_struct_opt(), wanted) {
        (Some(rows), ArrowType::Struct(fields)) if array.data_type() != wanted => {
            let field = |field: &arrow::datatypes::FieldRef| {
                let column = rows.column_by_name(field.name()).ok_or_else(|| unknown(field.name()))?;
                narrow(column, field.data_type())
            };
            let columns = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
            let rows = StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len())?;
            Ok(Arc::new(rows))
        }
        _ => Ok(Arc::clone(array)),
    }
}

fn unknown(name: &str) -> Error {
    Error::internal(format!("a column '{name}' was asked for that the table does not have"))
}
