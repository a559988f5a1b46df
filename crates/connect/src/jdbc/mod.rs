//! The `jdbc` connector: tables of a PostgreSQL database, read whole, looked up in, or written (flink docs: "JDBC SQL Connector").

mod client;
mod columns;
mod lookup;
mod sink;
mod source;

use crate::lookup::full::FullTable;
use crate::lookup::{self as lookups, Cache, Usual};
use client::Database;
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::lookup::LookupSource;
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Error, Result};
use std::sync::Arc;

/// Keys of Flink's that read tables otherwise than is done here: in parts, or with settings of a driver.
const REFUSED: [&str; 7] = [
    "scan.partition.column",
    "scan.partition.num",
    "scan.partition.lower-bound",
    "scan.partition.upper-bound",
    "scan.auto-commit",
    "scan.fetch-size",
    "driver",
];

/// `'connector' = 'jdbc'`
#[derive(Debug, Default)]
pub struct JdbcConnector;

/// A table of a database.
#[derive(Clone, Debug)]
struct DatabaseTable {
    database: Database,
    /// Its name, as SQL has it.
    name: String,
}

impl JdbcConnector {
    /// The table that the options name; the caller refuses options that nobody read.
    fn table(&self, table: &TableDef, options: &Options) -> Result<DatabaseTable> {
        for key in REFUSED {
            if options.string(key).is_some() {
                return Err(Error::unsupported(format!("'{key}'")).at(options.place(key)));
            }
        }
        if let Some(column) = table.metadata.keys().next() {
            return Err(Error::script(format!("connector 'jdbc' has no metadata, as column '{column}' wants")));
        }
        let url = options.required("url")?;
        let name = options.required("table-name")?;
        let (user, password) = (options.string("username"), options.string("password"));
        if password.is_some() && user.is_none() {
            return Err(options.error("password", "'password' needs 'username'"));
        }
        let timeout = options.duration("connection.max-retry-timeout")?;
        let database = Database::new(url, user, password, timeout).map_err(|e| e.at(options.place("url")))?;
        for field in &table.schema.fields {
            columns::check(field).map_err(|e| e.at(options.place("table-name")))?;
        }
        Ok(DatabaseTable { database, name: name.split('.').map(columns::identifier).collect::<Vec<_>>().join(".") })
    }
}

impl Connector for JdbcConnector {
    fn name(&self) -> &str {
        "jdbc"
    }

    fn source(&self, table: &TableDef, _session: &SessionInfo) -> Result<Arc<dyn Source>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        let of_database = self.table(table, &options)?;
        lookups::allow(&options);
        options.with_prefix("sink.");
        options.finish()?;
        Ok(Arc::new(source::JdbcSource::new(of_database, table)))
    }

    fn sink(&self, table: &TableDef, mode: WriteMode, _session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        if mode == WriteMode::Overwrite {
            return Err(Error::unsupported(format!(
                "INSERT OVERWRITE of '{}', a table of connector 'jdbc'",
                table.name
            )));
        }
        let options = Options::new(&table.name, self.name(), &table.options);
        let of_database = self.table(table, &options)?;
        lookups::allow(&options);
        let sink = sink::JdbcSink::build(of_database, table, &options)?;
        options.finish()?;
        Ok(Arc::new(sink))
    }

    fn lookup(&self, table: &TableDef, session: &SessionInfo) -> Result<Option<Arc<dyn LookupSource>>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        let of_database = self.table(table, &options)?;
        let (cache, max_retries) = lookups::read_options(&options, session, Usual::None)?;
        options.with_prefix("sink.");
        options.finish()?;
        let partial = match cache {
            Cache::None => None,
            Cache::Partial(cache) => Some(cache),
            Cache::Full(reload) => {
                let source = Arc::new(source::JdbcSource::new(of_database, table));
                return Ok(Some(Arc::new(FullTable::new(source, reload, max_retries))));
            }
        };
        Ok(Some(Arc::new(lookup::JdbcLookup::new(of_database, table.schema.clone(), partial, max_retries))))
    }
}
