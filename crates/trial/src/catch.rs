//! A table that is written: keeps the rows of epochs that are durable.

use millstream_core::graph::ChangelogMode;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::{Batch, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was written to a table.
#[derive(Debug)]
pub(crate) struct Catch {
    pub(crate) name: String,
    accepts: ChangelogMode,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    durable: Vec<Batch>,
    /// By epoch.
    prepared: BTreeMap<u64, Vec<Batch>>,
}

impl Catch {
    pub(crate) fn new(name: &str, accepts: ChangelogMode) -> Arc<Catch> {
        Arc::new(Catch { name: name.to_string(), accepts, state: Mutex::default() })
    }
    pub(crate) fn sink(self: &Arc<Catch>) -> Arc<dyn Sink> {
        Arc::new(CatchSink(Arc::clone(self)))
    }
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The checkpoint of `epoch` is durable.
    pub(crate) fn commit(&self, epoch: u64) {
        let mut written = self.lock();
        let later = written.prepared.split_off(&(epoch + 1));
        let due = std::mem::replace(&mut written.prepared, later);
        written.durable.extend(due.into_values().flatten());
    }
    /// What is not durable is lost.
    pub(crate) fn crash(&self) {
        self.lock().prepared.clear();
    }
    /// All that is durable; nothing is left.
    pub(crate) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut *self.lock()).durable
    }
}

#[derive(Debug)]
struct CatchSink(Arc<Catch>);

impl Sink for CatchSink {
    fn accepts(&self) -> ChangelogMode {
        self.0.accepts
    }
    fn describe(&self) -> String {
        format!("rows for '{}'", self.0.name)
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, _: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(CatchWriter { catch: Arc::clone(&self.0), rows: vec![] }))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Err(Error::internal("a trial commits by itself"))
    }
}

struct CatchWriter {
    catch: Arc<Catch>,
    rows: Vec<Batch>,
}

impl SinkWriter for CatchWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.rows.push(batch.clone());
        Ok(())
    }
    fn prepare_commit(&mut self, epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        self.catch.lock().prepared.entry(epoch).or_default().append(&mut self.rows);
        Ok(vec![])
    }
}
