//! The file sink: parts of an epoch, written aside and published when the epoch's checkpoint is durable.

mod commit;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use crate::formats::EncoderFactory;
use millstream_core::connector::{SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::{Error, Place, Result, Schema, TypeKind};
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use parquet::basic::{Compression, ZstdLevel};
use std::fmt;
use std::path::{Path, PathBuf};
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
    target: Target,
    content: Content,
    extension: &'static str,
    /// The columns within the files: all but the partition columns.
    file_columns: Vec<usize>,
    file_schema: Schema,
    /// Names and positions of the partition columns, in the order of the folders.
    partitions: Vec<(String, usize)>,
    rolling_bytes: u64,
    overwrite: bool,
}

/// An object store with multipart uploads.
trait Objects: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Objects for T {}

#[derive(Clone)]
enum Target {
    Local(PathBuf),
    Objects { store: Arc<dyn Objects>, prefix: object_store::path::Path },
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Local(path) => write!(f, "{}", path.display()),
            Target::Objects { store, prefix } => write!(f, "{store}/{prefix}"),
        }
    }
}

/// What is in the files.
#[derive(Clone)]
enum Content {
    Records(Arc<dyn EncoderFactory>),
    Parquet(Compression),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Records(_) => f.write_str("records"),
            Content::Parquet(compression) => write!(f, "parquet, {compression}"),
        }
    }
}

const DEFAULT_ROLLING_BYTES: u64 = 128 << 20;

impl FileSink {
    /// The sink that a table's options describe; the caller refuses options that nobody read.
    pub fn build(
        table: &TableDef,
        options: &Options<'_>,
        mode: WriteMode,
        session: &SessionInfo,
    ) -> Result<Arc<dyn Sink>> {
        let path = options.required("path")?;
        let rolling_bytes =
            options.memory_size("sink.rolling-policy.file-size")?.unwrap_or(DEFAULT_ROLLING_BYTES).max(1);
        let target = open_target(path, options, session)?;
        let (partitions, file_columns) = split_columns(table, options)?;
        let file_schema = table.schema.project(&file_columns);
        let (content, extension) = match options.required("format")? {
            "parquet" => (Content::Parquet(parquet_compression(options)?), "parquet"),
            _ => {
                let encoders = crate::formats::encoder_factory(table, options, session)?;
                let extension = encoders.extension();
                (Content::Records(encoders), extension)
            }
        };
        if extension == "parquet" {
            check_parquet_types(&file_schema, options)?;
        }
        Ok(Arc::new(FileSink(Arc::new(Plan {
            path: path.to_string(),
            target,
            content,
            extension,
            file_columns,
            file_schema,
            partitions,
            rolling_bytes,
            overwrite: mode == WriteMode::Overwrite,
        }))))
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

fn parquet_compression(options: &Options<'_>) -> Result<Compression> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let choices = [("SNAPPY", Compression::SNAPPY), ("ZSTD", zstd), ("UNCOMPRESSED", Compression::UNCOMPRESSED)];
    Ok(options.choice("parquet.compression", &choices)?.unwrap_or(Compression::SNAPPY))
}

/// Refuses what Parquet has no type for, before anything runs.
fn check_parquet_types(schema: &Schema, options: &Options<'_>) -> Result<()> {
    for field in &schema.fields {
        if matches!(field.data_type.kind, TypeKind::Null | TypeKind::IntervalDayTime | TypeKind::IntervalYearMonth) {
            return Err(options.error(
                "format",
                format!("column '{}' of type {} can't be written to Parquet", field.name, field.data_type),
            ));
        }
    }
    Ok(())
}

fn open_target(path: &str, options: &Options<'_>, session: &SessionInfo) -> Result<Target> {
    let local = |path: &str| Target::Local(session.base_dir.join(path));
    let Some((scheme, rest)) = path.split_once("://") else {
        return Ok(local(path.strip_prefix("file:").unwrap_or(path)));
    };
    let wrong = |e: object_store::Error| options.error("path", format!("'{path}' can't be opened: {e}"));
    let url = url::Url::parse(path).map_err(|e| options.error("path", format!("'{path}' is not a URL: {e}")))?;
    let store: Arc<dyn Objects> = match scheme {
        "file" => return Ok(local(rest)),
        "s3" | "s3a" => Arc::new(object_store::aws::AmazonS3Builder::from_env().with_url(path).build().map_err(wrong)?),
        "gs" => {
            Arc::new(object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(path).build().map_err(wrong)?)
        }
        "az" | "abfs" | "abfss" | "azure" => {
            Arc::new(object_store::azure::MicrosoftAzureBuilder::from_env().with_url(path).build().map_err(wrong)?)
        }
        other => {
            return Err(options
                .error("path", format!("there is no storage '{other}://'"))
                .hint("use a local path, or one that begins with file://, s3://, gs:// or az://"));
        }
    };
    let prefix = object_store::path::Path::from_url_path(url.path())
        .map_err(|e| options.error("path", format!("'{path}' can't be opened: {e}")))?;
    Ok(Target::Objects { store, prefix })
}

impl Sink for FileSink {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::INSERT_ONLY
    }
    fn describe(&self) -> String {
        let overwrite = if self.0.overwrite { ", overwrite" } else { "" };
        format!("filesystem(path={}, format={}{overwrite})", self.0.path, self.0.extension)
    }
    fn check(&self) -> Result<()> {
        match &self.0.target {
            Target::Local(folder) => check_local(folder),
            Target::Objects { store, prefix } => {
                let (store, probe) = (store.clone(), prefix.clone().join(".millstream-check"));
                storage::block_on(async move {
                    use object_store::ObjectStoreExt;
                    match store.head(&probe).await {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                        Err(e) => Err(storage::object_error("reach", &probe, e)),
                    }
                })
            }
        }
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

/// A job's id as it stands in file names: letters and digits only, at most 16 of them.
fn short_job(job_id: &str) -> String {
    let clean: Vec<char> = job_id.chars().filter(char::is_ascii_alphanumeric).collect();
    match clean.len() {
        0..=16 => clean.into_iter().collect(),
        n => clean[..8].iter().chain(&clean[n - 8..]).collect(),
    }
}
