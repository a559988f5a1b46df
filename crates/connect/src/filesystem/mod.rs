//! The `filesystem` connector: files in folders, local or in an object store.

mod input;
mod layout;
mod metadata;
mod partition;
mod reader;
#[cfg(test)]
mod reader_tests;
pub mod sink;
pub mod source;
mod store;

use millstream_core::Result;
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use std::sync::Arc;

/// Keys that only reading uses; a sink takes and ignores them, since a table may be both.
const SOURCE_KEYS: [&str; 5] = [
    "source.monitor-interval",
    "source.monitor-lateness",
    "source.path.regex-pattern",
    "scan.rate-limit.rows-per-second",
    "dead-letter.path",
];

/// The value of a partition column that stands for NULL in the names of folders.
fn default_partition<'a>(options: &Options<'a>) -> &'a str {
    options.string("partition.default-name").unwrap_or("__DEFAULT_PARTITION__")
}

/// `'connector' = 'filesystem'`
#[derive(Debug, Default)]
pub struct FilesystemConnector;

impl Connector for FilesystemConnector {
    fn name(&self) -> &str {
        "filesystem"
    }

    fn source(&self, table: &TableDef, session: &SessionInfo) -> Result<Arc<dyn Source>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        options.with_prefix("sink.");
        options.with_prefix("partition.");
        options.with_prefix("compaction.");
        options.string("auto-compaction");
        let source = source::FileSource::build(table, &options, session)?;
        options.finish()?;
        source.check_path(&options)?;
        Ok(Arc::new(source))
    }

    fn sink(&self, table: &TableDef, mode: WriteMode, session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        options.allow(SOURCE_KEYS);
        let sink = sink::FileSink::build(table, &options, mode, session)?;
        options.finish()?;
        Ok(sink)
    }
}
