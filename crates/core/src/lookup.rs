//! The contract of a table in which rows are looked up by key while a job runs.

use crate::{Error, Result, Schema};
use arrow::array::RecordBatch;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A table that rows can be looked up in: the plan-time half of its connector
/// (flink docs: "Lookup Source", `lookup.*` options).
pub trait LookupSource: Send + Sync + fmt::Debug {
    /// The columns that the table has.
    fn schema(&self) -> &Schema;
    /// A line for `explain`, such as `jdbc(table-name=rates)`.
    fn describe(&self) -> String;
    /// What whoever asks keeps of the answers; `None`: nothing. A table that answers from memory needs nothing kept.
    fn cache(&self) -> Option<PartialCache>;
    /// How often a lookup that fails with an error that may heal is tried again.
    fn max_retries(&self) -> u32;
    /// Opens the table to be asked for `columns` by the values of the columns named `keys`. Called once by every
    /// instance; those of one process may share what is behind it. Doesn't block.
    fn open(&self, keys: &[String], columns: &Schema) -> Result<Arc<dyn Lookup>>;
}

/// What is kept of a table's answers (flink docs: `lookup.cache` = `PARTIAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialCache {
    /// The answers of so many keys at most; those that were not used for longest go first. `None`: no bound.
    pub max_rows: Option<u64>,
    /// An answer is forgotten so long after it came; milliseconds.
    pub expire_after_write_ms: Option<i64>,
    /// Or so long after it was last used; milliseconds.
    pub expire_after_access_ms: Option<i64>,
    /// Whether it is kept, too, that a key has no row.
    pub keeps_missing: bool,
}

/// An open table.
pub trait Lookup: Send + Sync {
    /// Asks for the rows of keys: one row of `keys` for each, none of whose values is NULL, a column for each that the
    /// table was opened with, in that order. Never blocks: what has to wait does so in the future, which is polled on a
    /// runtime of tokio's.
    fn find(self: Arc<Self>, keys: RecordBatch) -> Answer;
}

/// An answer, or what becomes one.
pub enum Answer {
    /// It is known.
    Now(Result<Found>),
    /// It has to be waited for. An error of the kind [`crate::ErrorKind::Retry`] may be asked again.
    Later(Pin<Box<dyn Future<Output = Result<Found>> + Send>>),
}

/// The rows of some keys.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rows of the first key, then those of the second, and so on: the columns that the table was opened with.
    pub rows: RecordBatch,
    /// How many of them each key has.
    pub counts: Vec<u32>,
}

impl Found {
    /// An error if the rows are not as many as the counts say, or the counts not as many as the keys.
    pub fn checked(self, keys: usize) -> Result<Found> {
        let rows: usize = self.counts.iter().map(|count| *count as usize).sum();
        match rows == self.rows.num_rows() && self.counts.len() == keys {
            true => Ok(self),
            false => Err(Error::internal("a lookup's answer has other rows than it counts")),
        }
    }
}
