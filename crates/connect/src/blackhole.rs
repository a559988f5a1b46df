//! The `blackhole` connector: a sink that forgets its rows.

use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Source;
use millstream_core::{Batch, Error, Place, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        let options = Options::new(&table.name, self.name(), &table.options);
        let rate: Option<f64> = options.number(RATE)?;
        options.finish()?;
        if rate.is_some_and(|r| !r.is_finite() || r <= 0.0) {
            return Err(options.error(RATE, format!("'{RATE}' must be above 0")));
        }
        Ok(Arc::new(Blackhole { rows_per_second: rate }))
    }
}

/// The error of reading a table whose connector can only be written.
pub(crate) fn not_readable(table: &str, connector: &str) -> Error {
    Error::script(format!("table '{table}' can't be read: the connector '{connector}' is a sink only"))
}

/// Refuses metadata columns, for a connector that has none.
pub(crate) fn refuse_metadata(table: &TableDef, connector: &str) -> Result<()> {
    match table.metadata.iter().next() {
        None => Ok(()),
        Some((column, key)) => Err(Error::script(format!("there is no metadata '{key}' for column '{column}'"))
            .at(Place::Named(format!("table '{}'", table.name)))
            .detail(format!("the connector '{connector}' has no metadata"))),
    }
}

/// The error of writing a table whose connector can only be read.
pub(crate) fn not_writable(table: &str, connector: &str) -> Error {
    Error::script(format!("table '{table}' can't be written: the connector '{connector}' is a source only"))
}

/// Takes only so many rows a second, over all instances: to try a job out against a slow sink.
const RATE: &str = "sink.rate-limit.rows-per-second";

#[derive(Debug)]
struct Blackhole {
    rows_per_second: Option<f64>,
}

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
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        let ms_per_row = self.rows_per_second.map_or(0.0, |rate| 1000.0 / rate * ctx.instances as f64);
        Ok(Box::new(Forgetter { ms_per_row, busy_until_ms: 0.0, sleeping: Arc::default(), ctx }))
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

struct Forgetter {
    ms_per_row: f64,
    busy_until_ms: f64,
    /// A thread sleeps until the sink is ready again.
    sleeping: Arc<AtomicBool>,
    ctx: SinkContext,
}

impl SinkWriter for Forgetter {
    fn is_ready(&mut self) -> Result<bool> {
        let wait_ms = self.busy_until_ms - self.ctx.clock.now_ms() as f64;
        if self.ms_per_row == 0.0 || wait_ms <= 0.0 {
            return Ok(true);
        }
        if self.sleeping.swap(true, Ordering::SeqCst) {
            return Ok(false);
        }
        let (waker, sleeping) = (self.ctx.waker.clone(), self.sleeping.clone());
        std::thread::Builder::new().name("blackhole".into()).spawn(move || {
            std::thread::sleep(Duration::from_secs_f64(wait_ms / 1000.0));
            sleeping.store(false, Ordering::SeqCst);
            waker();
        })?;
        Ok(false)
    }
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let now_ms = self.ctx.clock.now_ms() as f64;
        self.busy_until_ms = self.busy_until_ms.max(now_ms) + self.ms_per_row * batch.num_rows() as f64;
        Ok(())
    }
    fn prepare_commit(&mut self, _epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
}
