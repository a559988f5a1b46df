//! How connectors are found and asked: the contract between the SQL planner and `connect`.

use crate::lookup::LookupSource;
use crate::sink::Sink;
use crate::source::Source;
use crate::{Result, Schema, TypeKind};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A table as its `CREATE TABLE` declares it, as far as a connector needs to know.
#[derive(Clone, Debug)]
pub struct TableDef {
    /// The table's full name, for errors.
    pub name: String,
    /// The physical columns, in order, then the metadata columns: of a table that is written only those that are written,
    /// of the types that [`Connector::writable_metadata`] tells. Computed columns are not among them.
    pub schema: Schema,
    /// The names of the metadata columns and their keys, such as `file.path`. A connector refuses what it
    /// doesn't know; of a table that is written there are only such as it says that it can write.
    pub metadata: BTreeMap<String, String>,
    /// The `WITH` options, hints already merged in; `connector` is among them.
    pub options: BTreeMap<String, String>,
    /// Names of the primary key's columns.
    pub primary_key: Vec<String>,
    /// Names of the `PARTITIONED BY` columns.
    pub partitioned_by: Vec<String>,
}

/// What holds for the whole script.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Relative paths are relative to this folder (the current one of the `run` command).
    pub base_dir: PathBuf,
    /// `table.local-time-zone`
    pub time_zone: String,
    /// What the settings say about object stores, see [`crate::settings::Settings::storage_options`].
    pub storage: Vec<(String, String)>,
}

/// How a sink is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// `INSERT INTO`
    Append,
    /// `INSERT OVERWRITE`
    Overwrite,
}

/// One kind of connector.
///
/// Both calls check every option: an unknown one is an error that names the nearest known one
/// (see [`crate::options`]), before anything runs.
pub trait Connector: Send + Sync + fmt::Debug {
    /// The `connector` option's value.
    fn name(&self) -> &str;
    /// The table as a source; a script error if it can't be read.
    fn source(&self, table: &TableDef, session: &SessionInfo) -> Result<Arc<dyn Source>>;
    /// The table as a sink; a script error if it can't be written.
    fn sink(&self, table: &TableDef, mode: WriteMode, session: &SessionInfo) -> Result<Arc<dyn Sink>>;
    /// The metadata that rows of the table can be written with: the keys, and of which type the sink takes each. A metadata
    /// column of another key has to be VIRTUAL.
    fn writable_metadata(&self, _table: &TableDef) -> Vec<(&'static str, TypeKind)> {
        Vec::new()
    }
    /// The table as one that rows are looked up in; `None` if the connector has no such tables. A script error if this
    /// one can't be.
    fn lookup(&self, _table: &TableDef, _session: &SessionInfo) -> Result<Option<Arc<dyn LookupSource>>> {
        Ok(None)
    }
}

/// All connectors that the program has.
pub trait ConnectorRegistry: Send + Sync {
    /// The connector of that name, or an error that names the nearest one.
    fn connector(&self, name: &str) -> Result<Arc<dyn Connector>>;
}
