//! The `blackhole` connector: a sink that forgets its rows.

use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Source;
use millstream_core::{Batch, Error, Result};
use std::sync::Arc;

/// The `blackhole` connector.
#[derive(Debug)]
pub struct BlackholeConnector;

impl Connector for BlackholeConnector {
    fn name(&self) -> &str {
        "blackhole"
    }
    fn source(&self, table: &TableDef, _session: &SessionInfo) -> Result<Arc<dyn Source>> {
        Err(not_readable(&table.name, self.name()))
    }
    fn sink(&self, table: &TableDef, _mode: WriteMode, _session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        Options::new(&table.name, self.name(), &table.options).finish()?;
        Ok(Arc::new(Blackhole))
    }
}

/// The error of reading a table whose connector can only be written.
pub(crate) fn not_readable(table: &str, connector: &str) -> Error {
    Error::script(format!("table '{table}' can't be read: the connector '{connector}' is a sink only"))
}

/// The error of writing a table whose connector can only be read.
pub(crate) fn not_writable(table: &str, connector: &str) -> Error {
    Error::script(format!("table '{table}' can't be written: the connector '{connector}' is a source only"))
}

#[derive(Debug)]
struct Blackhole;

impl Sink for Blackhole {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::ALL
    }
    fn describe(&self) -> String {
        "blackhole".into()
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, _ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Forgetter))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NothingToCommit))
    }
}

/// The committer of sinks whose rows are gone once they are written.
pub(crate) struct NothingToCommit;

impl Committer for NothingToCommit {
    fn commit(&mut self, _epoch: u64, _committables: &[Vec<u8>], _last: bool) -> Result<()> {
        Ok(())
    }
}

struct Forgetter;

impl SinkWriter for Forgetter {
    fn write(&mut self, _batch: &Batch) -> Result<()> {
        Ok(())
    }
    fn prepare_commit(&mut self, _epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
}
