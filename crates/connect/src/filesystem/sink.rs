//! The file sink: parts of an epoch, written aside and published when the epoch's checkpoint is durable.

mod commit;
mod overwrite;
mod partition_commit;
#[cfg(test)]
mod read_back_tests;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use super::store::{self, Location, Objects};
use crate::blocking::block_on;
use crate::formats::WriteFormat;
use millstream_core::connector::{SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::{Error, Place, Result, Schema};
use partition_commit::PartitionCommit;
use std::path::Path;
use std::sync::Arc;

/// A folder that is written to, a file a part: `part-<job>-<attempt>-<instance>-<n>.<format>`.
///
/// No two running writers share (attempt, instance), so names never meet. Names that begin with `.`
/// or `_` are not for readers. Files end with the epoch, or when they reach the rolling size.
#[derive(Clone, Debug)]
pub struct FileSink(Arc<Plan>);

/// What writers and committers of one sink share.
#[derive(Debug)]
struct Plan {
    /// The path as the person wrote it, for messages.
    path: String,
    target: Location,
    /// The format's name, and what files of it end in.
    format: String,
    content: WriteFormat,
    extension: String,
    /// The columns within the files: all but the partition columns.
    file_columns: Vec<usize>,
    file_schema: Schema,
    /// Names and positions of the partition columns, in the order of the folders.
    partitions: Vec<(String, usize)>,
    /// What a partition's folder is called where the value is NULL or empty.
    default_partition: String,
    rolling_bytes: u64,
    /// After this time a part ends, milliseconds.
    rollover_ms: Option<i64>,
    overwrite: bool,
    /// How partitions are marked that are complete.
    partition_commit: Option<PartitionCommit>,
}

const DEFAULT_ROLLING_BYTES: u64 = 128 << 20;

/// Options of Flink's sink for what isn't built.
const UNBUILT: [&str; 7] = [
    "compaction.file-size",
    "compaction.parallelism",
    "partition.time-extractor.class",
    "partition.time-extractor.timestamp-formatter",
    "sink.parallelism",
    "sink.partition-commit.policy.class",
    "sink.shuffle-by-partition.enable",
];

impl FileSink {
    /// The sink that a table's options describe; the caller refuses options that nobody read.
    pub fn build(
        table: &TableDef,
        options: &Options<'_>,
        mode: WriteMode,
        session: &SessionInfo,
    ) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(FileSink(Arc::new(Plan::build(table, options, mode, session)?))))
    }
}

impl Plan {
    fn build(table: &TableDef, options: &Options<'_>, mode: WriteMode, session: &SessionInfo) -> Result<Plan> {
        let path = options.required("path")?;
        let rolling_bytes =
            options.memory_size("sink.rolling-policy.file-size")?.unwrap_or(DEFAULT_ROLLING_BYTES).max(1);
        let rollover = options.duration("sink.rolling-policy.rollover-interval")?;
        // How often Flink looks whether a part is old enough; here every batch does.
        options.duration("sink.rolling-policy.check-interval")?;
        refuse_unbuilt(options)?;
        let target = store::open(path, session).map_err(|e| e.at(options.place("path")))?;
        let (partitions, file_columns) = split_columns(table, options)?;
        let partition_commit = PartitionCommit::read(options, &partitions)?;
        let file_schema = table.schema.project(&file_columns);
        let format = options.required("format")?.to_string();
        let in_files = TableDef { schema: file_schema.clone(), ..table.clone() };
        let content = crate::formats::write_format(&in_files, options)?;
        let extension = match &content {
            WriteFormat::Records(encoders) => encoders.extension().to_string(),
            WriteFormat::Container(_) => format.clone(),
        };
        Ok(Plan {
            path: path.to_string(),
            target,
            format,
            content,
            extension,
            file_columns,
            file_schema,
            partitions,
            default_partition: super::default_partition(options).to_string(),
            rolling_bytes,
            rollover_ms: rollover.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            overwrite: mode == WriteMode::Overwrite,
            partition_commit,
        })
    }
}

/// Refuses what would otherwise be ignored in silence.
fn refuse_unbuilt(options: &Options<'_>) -> Result<()> {
    let key = "auto-compaction";
    if options.boolean(key)? == Some(true) {
        return Err(Error::unsupported("'auto-compaction'")
            .at(options.place(key))
            .hint("larger files come from a longer 'execution.checkpointing.interval'"));
    }
    match UNBUILT.iter().find(|key| options.string(key).is_some()) {
        Some(key) => Err(Error::unsupported(format!("the option '{key}'")).at(options.place(key))),
        None => Ok(()),
    }
}

fn split_columns(table: &TableDef, options: &Options<'_>) -> Result<(Vec<(String, usize)>, Vec<usize>)> {
    let mut partitions = Vec::new();
    for name in &table.partitioned_by {
        let index = table.schema.index_of(name).ok_or_else(|| {
            options.error("path", format!("partition column '{name}' is not a physical column of the table"))
        })?;
        partitions.push((name.clone(), index));
    }
    let file_columns: Vec<usize> =
        (0..table.schema.len()).filter(|i| !partitions.iter().any(|(_, p)| p == i)).collect();
    if file_columns.is_empty() {
        return Err(options.error("path", "every column is a partition column; at least one has to be in the files"));
    }
    Ok((partitions, file_columns))
}

impl Sink for FileSink {
    fn accepts(&self) -> ChangelogMode {
        match &self.0.content {
            WriteFormat::Records(encoders) => encoders.accepts(),
            WriteFormat::Container(_) => ChangelogMode::INSERT_ONLY,
        }
    }
    fn describe(&self) -> String {
        let overwrite = if self.0.overwrite { ", overwrite" } else { "" };
        format!("filesystem(path={}, format={}{overwrite})", self.0.path, self.0.format)
    }
    fn check(&self) -> Result<()> {
        match &self.0.target {
            Location::Local(folder) => check_local(folder),
            Location::Objects { store, prefix } => check_objects(store.as_ref(), prefix, &self.0.path),
        }
    }
    fn check_take_over(&self) -> Result<()> {
        if !self.0.overwrite {
            return Ok(());
        }
        Err(Error::state("an INSERT OVERWRITE goes on from its own last checkpoint only")
            .at(Place::Named(self.0.path.clone()))
            .detail("what was written before another one lies hidden until the end of the job that wrote it")
            .hint("start it anew with --from none"))
    }
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(writer::FileWriter::open(self.0.clone(), ctx)?))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(commit::FileCommitter::new(self.0.clone(), None)))
    }
    fn committer_of(&self, job_id: &str) -> Result<Box<dyn Committer>> {
        Ok(Box::new(commit::FileCommitter::new(self.0.clone(), Some(short_job(job_id)))))
    }
}

/// Proves that the folder, or the one it will be made in, takes files; leaves nothing behind.
fn check_local(folder: &Path) -> Result<()> {
    let place = || Place::File { path: folder.display().to_string(), line: None };
    let existing = folder.ancestors().find(|p| p.as_os_str().is_empty() || p.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    if !existing.is_dir() {
        return Err(Error::script(format!("'{}' is not a folder", existing.display()))
            .at(place())
            .hint("the option 'path' of a table that is written names a folder"));
    }
    let probe = existing.join(format!(".millstream-check-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|e| Error::script(format!("the folder can't be written: {e}")).at(place()))
}

/// Proves that the bucket is there and answers; that it takes objects shows only when one is written.
fn check_objects(store: &dyn Objects, prefix: &object_store::path::Path, path: &str) -> Result<()> {
    use futures::TryStreamExt;
    let place = Place::File { path: path.to_string(), line: None };
    let first = block_on(async { store.list(Some(prefix)).try_next().await })?;
    first.map(|_| ()).map_err(|e| {
        Error::data("the bucket can't be listed")
            .at(place)
            .detail(e.to_string())
            .hint("its address and credentials come from the s3.* settings or the environment")
    })
}

/// A job's id as it stands in file names: letters and digits only, at most 24 of them.
fn short_job(job_id: &str) -> String {
    let clean: Vec<char> = job_id.chars().filter(char::is_ascii_alphanumeric).collect();
    match clean.len() {
        0..=24 => clean.into_iter().collect(),
        n => clean[..8].iter().chain(&clean[n - 16..]).collect(),
    }
}
