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

use crate::lookup::full::FullTable;
use crate::lookup::{self, Cache, Usual};
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::lookup::LookupSource;
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Error, Result};
use std::path::PathBuf;
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

/// The folder that a `dead-letter.path` names.
pub(crate) fn dead_letter_folder(path: &str, session: &SessionInfo) -> Result<PathBuf> {
    match store::open(path, session)? {
        store::Location::Local(folder) => Ok(folder),
        store::Location::Objects { .. } => Err(Error::unsupported("a 'dead-letter.path' in an object store")),
    }
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
        lookup::allow(&options);
        let source = source::FileSource::build(table, &options, session)?;
        options.finish()?;
        source.check_path(&options)?;
        Ok(Arc::new(source))
    }

    fn sink(&self, table: &TableDef, mode: WriteMode, session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        options.allow(SOURCE_KEYS);
        lookup::allow(&options);
        let sink = sink::FileSink::build(table, &options, mode, session)?;
        options.finish()?;
        Ok(sink)
    }

    fn lookup(&self, table: &TableDef, session: &SessionInfo) -> Result<Option<Arc<dyn LookupSource>>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        let (cache, max_retries) = lookup::read_options(&options, session, Usual::Full)?;
        let Cache::Full(reload) = cache else { return Err(Error::internal("files that are not held whole")) };
        let key = "source.monitor-interval";
        if options.string(key).is_some() {
            return Err(options
                .error(key, "files in which rows are looked up are not watched")
                .hint("'lookup.full-cache.periodic-reload.interval' reads them again"));
        }
        let source = source::FileSource::build(table, &options, session)?;
        if !source.changelog().is_insert_only() {
            return Err(options
                .error("format", format!("no rows are looked up in changes: {}", source.describe()))
                .hint("join their versions by event time, or keep the table in another format"));
        }
        source.check_path(&options)?;
        Ok(Some(Arc::new(FullTable::new(Arc::new(source), reload, max_retries))))
    }
}
