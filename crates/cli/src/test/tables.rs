//! The script's tables in a test: files in place of what their connectors would read and write.

use super::files::{Lines, Timed};
use super::lookup::FileTable;
use arrow::array::UInt8Array;
use millstream_connect::formats::{ReadContent, read_format};
use millstream_core::connector::{Connector, ConnectorRegistry, SessionInfo, TableDef, WriteMode};
use millstream_core::error::{Error, Place, Result};
use millstream_core::graph::ChangelogMode;
use millstream_core::lookup::LookupSource;
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Batch, Schema, TypeKind};
use millstream_trial::{Rows, Stage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A table that the script writes.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its columns.
    pub schema: Schema,
    /// The columns by which a row replaces another, if the table is written so.
    pub key: Option<Vec<usize>>,
}

/// The tables of one case.
#[derive(Debug)]
pub struct Tables {
    /// What the script reads and writes.
    pub stage: Arc<Stage>,
    /// Where the files of inputs are.
    inputs: PathBuf,
    known: Mutex<Known>,
}

/// How a table's rows come: see [`Timed::steps`].
pub type Steps = Vec<(Option<i64>, usize)>;

#[derive(Debug, Default)]
struct Known {
    steps: BTreeMap<String, Steps>,
    written: BTreeMap<String, Written>,
    looked_up: BTreeSet<String>,
}

impl Tables {
    /// The tables of a case whose inputs are in this folder.
    pub fn new(inputs: PathBuf) -> Arc<Tables> {
        Arc::new(Tables { stage: Stage::new(), inputs, known: Mutex::default() })
    }
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// How the rows of each table that is read come, once the script is planned.
    pub fn steps(&self) -> BTreeMap<String, Steps> {
        self.known().steps.clone()
    }
    /// The tables that are written, once the script is planned.
    pub fn written(&self) -> BTreeMap<String, Written> {
        self.known().written.clone()
    }

    /// The tables that rows are looked up in, once the script is planned.
    pub fn looked_up(&self) -> BTreeSet<String> {
        self.known().looked_up.clone()
    }

    /// A table of rows that come at their times.
    fn read(&self, table: &TableDef, session: &SessionInfo) -> Result<Rows> {
        let (rows, steps) = self.rows(table, session)?;
        self.known().steps.insert(table.name.clone(), steps);
        Ok(rows)
    }

    /// A table that is the same at all times.
    fn look_up(&self, table: &TableDef, session: &SessionInfo) -> Result<FileTable> {
        let (rows, steps) = self.rows(table, session)?;
        if steps.len() > 1 {
            let message = format!("rows are looked up in table '{}', whose rows have no times", table.name);
            let place = Place::File { path: self.path_of(&table.name).display().to_string(), line: None };
            return Err(Error::script(message).hint("remove the lines with '@at'").at(place));
        }
        self.known().looked_up.insert(table.name.clone());
        Ok(FileTable { name: table.name.clone(), schema: rows.schema, rows: rows.batch })
    }

    fn path_of(&self, table: &str) -> PathBuf {
        self.inputs.join(format!("{table}.jsonl"))
    }

    fn rows(&self, table: &TableDef, session: &SessionInfo) -> Result<(Rows, Steps)> {
        let path = self.path_of(&table.name);
        let lines = Lines::read(&path, || {
            Error::script(format!("there is no input for table '{}'", table.name))
                .hint("write its rows there, one JSON object a line; an empty file is a table without rows")
        })?;
        // Rows of tables of another format are plain objects, too.
        let format = table.options.get("format").map(String::as_str).filter(|format| format.ends_with("json"));
        let format = format.unwrap_or("json");
        let own = |(key, _): &(&String, &String)| key.starts_with(&format!("{format}."));
        let mut options: BTreeMap<String, String> =
            table.options.iter().filter(own).map(|(key, value)| (key.clone(), value.clone())).collect();
        options.insert("format".into(), format.into());
        let reading = read_format(table, &Options::new(&table.name, "test", &options), session)?;
        let ReadContent::Records { decoders, .. } = &reading.content else {
            return Err(Error::internal(format!("files of the format '{format}' have no single records")));
        };
        let mut decoder = decoders.decoder(&table.schema)?;
        let is_plain = reading.changelog.is_insert_only();
        let Timed { batch, steps } = lines.timed(decoder.as_mut(), is_plain.then_some(&table.schema))?;
        let kinds = match (is_plain, &batch.kinds) {
            (false, None) => Some(UInt8Array::from(vec![0; batch.num_rows()])),
            (_, kinds) => kinds.clone(),
        };
        let batch = Batch::insert_only(batch.rows).with_kinds(kinds);
        let (schema, changelog) = (table.schema.clone(), reading.changelog);
        Ok((Rows { schema, batch, changelog, is_bounded: true }, steps))
    }
}

/// Connectors of the same names that read and write a case's files.
pub struct Registry {
    /// The program's own.
    pub real: Arc<dyn ConnectorRegistry>,
    /// The files.
    pub tables: Arc<Tables>,
}

impl ConnectorRegistry for Registry {
    fn connector(&self, name: &str) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(StandIn { real: self.real.connector(name)?, tables: Arc::clone(&self.tables) }))
    }
}

#[derive(Debug)]
struct StandIn {
    real: Arc<dyn Connector>,
    tables: Arc<Tables>,
}

impl Connector for StandIn {
    fn name(&self) -> &str {
        self.real.name()
    }
    fn source(&self, table: &TableDef, session: &SessionInfo) -> Result<Arc<dyn Source>> {
        self.tables.stage.source(&table.name, || self.tables.read(table, session))
    }
    fn writable_metadata(&self, table: &TableDef) -> Vec<(&'static str, TypeKind)> {
        self.real.writable_metadata(table)
    }
    fn lookup(&self, table: &TableDef, session: &SessionInfo) -> Result<Option<Arc<dyn LookupSource>>> {
        match self.real.lookup(table, session)? {
            Some(_) => Ok(Some(Arc::new(self.tables.look_up(table, session)?))),
            None => Ok(None),
        }
    }
    fn sink(&self, table: &TableDef, mode: WriteMode, session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        let accepts = self.real.sink(table, mode, session)?.accepts();
        let by_key = accepts == ChangelogMode::UPSERT && !table.primary_key.is_empty();
        let key = by_key.then(|| table.primary_key.iter().filter_map(|name| table.schema.index_of(name)).collect());
        let written = Written { schema: table.schema.clone(), key };
        self.tables.known().written.insert(table.name.clone(), written);
        Ok(self.tables.stage.sink(&table.name, accepts))
    }
}
