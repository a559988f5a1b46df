//! The tables of a trial, as the connectors of the planned script ask for them.

use crate::catch::Catch;
use crate::feed::{Feed, Rows};
use millstream_core::graph::ChangelogMode;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tables that a script reads and writes, by name; filled while the script is planned, and the same for each
/// parallelism that it is planned for.
#[derive(Debug, Default)]
pub struct Stage {
    feeds: Mutex<Vec<Arc<Feed>>>,
    catches: Mutex<Vec<Arc<Catch>>>,
}

impl Stage {
    /// A stage without tables.
    pub fn new() -> Arc<Stage> {
        Arc::default()
    }
    /// The table as a source; its `rows` are asked for the first time.
    pub fn source(&self, table: &str, rows: impl FnOnce() -> Result<Rows>) -> Result<Arc<dyn Source>> {
        if let Some(feed) = self.feeds().iter().find(|feed| feed.name == table) {
            return Ok(feed.source());
        }
        let rows = rows()?;
        if rows.batch.rows.num_columns() != rows.schema.fields.len() {
            return Err(Error::internal(format!("the rows of table '{table}' don't have its columns")));
        }
        let mut feeds = self.feeds();
        let feed = Feed::new(table, rows, feeds.len());
        feeds.push(Arc::clone(&feed));
        Ok(feed.source())
    }
    /// The table as a sink, which takes these kinds of rows.
    pub fn sink(&self, table: &str, accepts: ChangelogMode) -> Arc<dyn Sink> {
        let mut catches = self.catches();
        if let Some(catch) = catches.iter().find(|catch| catch.name == table) {
            return catch.sink();
        }
        let catch = Catch::new(table, accepts);
        catches.push(Arc::clone(&catch));
        catch.sink()
    }
    /// The tables that are read, in the order in which the script named them, and how many rows each has.
    pub fn inputs(&self) -> Vec<(String, usize)> {
        self.feeds().iter().map(|feed| (feed.name.clone(), feed.rows.batch.num_rows())).collect()
    }
    pub(crate) fn feeds(&self) -> MutexGuard<'_, Vec<Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn catches(&self) -> MutexGuard<'_, Vec<Arc<Catch>>> {
        self.catches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
