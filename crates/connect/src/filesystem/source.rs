//! The `filesystem` source: which files a table's options name, and how they are shared out.

use super::input::InputFile;
use super::layout::{Layout, Setup};
use super::metadata::{self, FileMetadata};
use super::reader::FileReader;
use super::store::{self, Location};
use crate::formats::{self, Framing, ReadContent, ReadFormat};
use crate::throttle::{self, Rates};
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::source::{Source, SourceContext, SourceReader};
use millstream_core::suggest::did_you_mean;
use millstream_core::{Error, Result, Schema};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A table of files, for reading.
///
/// Files are cut into chunks, which the instances take in turn; a record belongs to the chunk that its first
/// byte is in. Not cut are gzip files and CSV files with quotes, as a quoted value may hold line feeds. Files of a
/// format whose records are changes are read by the first instance alone, in the order of their names.
#[derive(Clone, Debug)]
pub struct FileSource(Arc<Plan>);

/// What the readers of one source share.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The table's name.
    pub table: String,
    pub path: String,
    pub input: Location,
    pub format: ReadFormat,
    pub schema: Schema,
    pub partitioned_by: Vec<String>,
    /// The columns that say something about the file.
    pub metadata: BTreeMap<String, FileMetadata>,
    pub default_partition: String,
    pub pattern: Option<regex::Regex>,
    pub monitor_interval: Option<Duration>,
    /// Files of a watched folder that come with a modification time so long before the newest are taken for read.
    pub monitor_lateness: Option<Duration>,
    pub rows_per_second: Option<f64>,
    pub dead_letters: Option<PathBuf>,
    /// What a job that starts anew reads, if that has been decided.
    pub start: Option<String>,
}

impl FileSource {
    /// The source that a table's options describe; the caller refuses options that nobody read.
    pub fn build(table: &TableDef, options: &Options, session: &SessionInfo) -> Result<FileSource> {
        let path = options.required("path")?;
        let metadata = metadata::of_table(table, &formats::metadata_keys(options))?;
        let in_files = table.schema.fields.iter().filter(|f| !metadata.contains_key(&f.name)).cloned().collect();
        let mut in_files = TableDef { schema: Schema::new(in_files), ..table.clone() };
        in_files.metadata.retain(|column, _| !metadata.contains_key(column));
        let format = formats::read_format(&in_files, options, session)?;
        let input = store::open(path, session).map_err(|e| e.at(options.place("path")))?;
        let dead_letters = match options.string("dead-letter.path") {
            None => None,
            Some(text) => Some(super::dead_letter_folder(text, session)?),
        };
        let pattern = match options.string("source.path.regex-pattern") {
            None => None,
            Some(text) => Some(regex::Regex::new(&format!("^(?:{text})$")).map_err(|e| {
                options.error("source.path.regex-pattern", "the pattern is no regular expression").detail(e.to_string())
            })?),
        };
        let key = "scan.rate-limit.rows-per-second";
        let rows_per_second = options.number::<f64>(key)?;
        if rows_per_second.is_some_and(|r| !r.is_finite() || r <= 0.0) {
            return Err(options.error(key, format!("'{key}' must be above 0")));
        }
        let monitor_interval = options.duration("source.monitor-interval")?;
        if monitor_interval == Some(Duration::ZERO) {
            return Err(options.error("source.monitor-interval", "'source.monitor-interval' must be above 0"));
        }
        let key = "source.monitor-lateness";
        let monitor_lateness = options.duration(key)?;
        if monitor_lateness.is_some() && monitor_interval.is_none() {
            return Err(options
                .error(key, format!("'{key}' is for a folder that is watched"))
                .hint("'source.monitor-interval' watches it"));
        }
        throttle::declare(&table.name, Rates { rows_per_second, bytes_per_second: None });
        Ok(FileSource(Arc::new(Plan {
            table: table.name.clone(),
            path: path.to_string(),
            input,
            format,
            schema: table.schema.clone(),
            partitioned_by: table.partitioned_by.clone(),
            metadata,
            default_partition: super::default_partition(options).to_string(),
            pattern,
            monitor_interval,
            monitor_lateness,
            rows_per_second,
            dead_letters,
            start: None,
        })))
    }

    /// What its readers share.
    #[cfg(test)]
    pub(super) fn plan(&self) -> Arc<Plan> {
        self.0.clone()
    }

    /// Refuses a path that isn't there.
    pub fn check_path(&self, options: &Options) -> Result<()> {
        let Location::Local(path) = &self.0.input else { return Ok(()) };
        if path.exists() {
            return Ok(());
        }
        let error = options.error("path", format!("there is no file or folder '{}'", path.display()));
        Err(match nearest_sibling(path) {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

fn nearest_sibling(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    let names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    did_you_mean(&name, names.iter().map(String::as_str))
}

impl Plan {
    /// Whether one instance reads all files, one after the other: the order of their records counts.
    pub fn is_ordered(&self) -> bool {
        matches!(self.format.content, ReadContent::Records { framing: Framing::OrderedLines, .. })
    }
    /// Whether files can't be cut.
    pub fn is_whole(&self) -> bool {
        !matches!(self.format.content, ReadContent::Records { framing: Framing::Lines, .. })
    }
    /// The position of a job that starts anew: all files that are there now.
    pub fn start(&self, setup: Setup) -> Result<Vec<u8>> {
        let mut layout = Layout::empty(setup, self.is_whole());
        layout.add(self.files()?);
        layout.position(None)
    }
    /// The files that belong to the table now, by name.
    pub fn files(&self) -> Result<Vec<InputFile>> {
        let mut files = self.input.list()?;
        files.retain(|file| self.is_read(&file.path));
        Ok(files)
    }
    /// Whether a file of this path is one of the table's.
    pub fn is_read(&self, path: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(path))
    }
}

impl Source for FileSource {
    fn schema(&self) -> &Schema {
        &self.0.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FileSource(Arc::new(Plan { schema, ..(*self.0).clone() }))))
    }
    fn changelog(&self) -> ChangelogMode {
        self.0.format.changelog
    }
    fn is_bounded(&self) -> bool {
        self.0.monitor_interval.is_none()
    }
    fn describe(&self) -> String {
        format!("filesystem(path={}, format={})", self.0.path, self.0.format.name)
    }
    fn start(&self) -> Result<Option<String>> {
        if self.0.monitor_interval.is_some() {
            return Ok(None);
        }
        let start = String::from_utf8(self.0.start(Setup::default())?);
        start.map(Some).map_err(|e| Error::internal(format!("a position is no text: {e}")))
    }
    fn starting_at(&self, start: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FileSource(Arc::new(Plan { start: Some(start.to_string()), ..(*self.0).clone() }))))
    }
    fn instances_max(&self) -> Option<usize> {
        if self.0.is_ordered() {
            return Some(1);
        }
        let start = self.0.start.as_ref()?.clone().into_bytes();
        let layout = Layout::restore(&[start], Setup::default(), self.0.is_whole(), &self.0.path).ok()?;
        Some(layout.left().count().max(1))
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(FileReader::open(self.0.clone(), Setup::default(), ctx)?))
    }
}
