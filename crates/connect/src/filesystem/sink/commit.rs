//! The committer: prepared files get their names, uploads are completed.

use super::Plan;
use super::storage::{self, io_error, object_error, sync_folder};
use crate::blocking::block_on;
use crate::filesystem::store::{Location, Objects};
use crate::versioned;
use millstream_core::sink::Committer;
use millstream_core::{Error, Place, Result, fail_point};
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version of what is stored in the checkpoint.
pub(super) const COMMITTABLE_VERSION: u32 = 1;

/// What one instance prepared in one epoch, as stored in the checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Committable {
    pub(super) version: u32,
    /// The job, as in the names of its files.
    pub(super) job: String,
    pub(super) files: Vec<Published>,
    /// The folders of the partitions that are complete then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) complete: Vec<String>,
}

/// A file that the commit makes visible.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Published {
    /// Renamed from `temp` to `path`, both relative to the table's folder.
    File { temp: String, path: String },
    /// A multipart upload that is completed.
    Object { key: String, upload: String, parts: Vec<String> },
}

pub(super) struct FileCommitter {
    pub(super) plan: Arc<Plan>,
    job: Option<String>,
}

impl FileCommitter {
    pub(super) fn new(plan: Arc<Plan>, job: Option<String>) -> Self {
        FileCommitter { plan, job }
    }

    pub(super) fn publish(&self, files: &[Published]) -> Result<()> {
        let mut folders = BTreeSet::new();
        for (i, file) in files.iter().enumerate() {
            if i > 0 {
                fail_point!("commit::between_files")?;
            }
            match (file, &self.plan.target) {
                (Published::File { temp, path }, Location::Local(root)) => {
                    let path = root.join(path);
                    publish_local(&root.join(temp), &path)?;
                    folders.extend(path.parent().map(Path::to_path_buf));
                }
                (Published::Object { key, upload, parts }, Location::Objects { store, .. }) => {
                    block_on(publish_object(store.as_ref(), key, upload, parts))??;
                }
                _ => {
                    return Err(Error::state("the checkpoint's files belong to another kind of storage")
                        .at(Place::Named(self.plan.path.clone()))
                        .hint("the option 'path' must not change while a job has output to commit"));
                }
            }
        }
        folders.iter().try_for_each(|folder| sync_folder(folder))
    }
}

impl Committer for FileCommitter {
    fn commit(&mut self, _epoch: u64, committables: &[Vec<u8>], last: bool) -> Result<()> {
        let committables: Vec<Committable> = committables.iter().map(|c| decode(c)).collect::<Result<_>>()?;
        if let Some(first) = committables.first() {
            self.job = Some(first.job.clone());
        }
        let complete: Vec<String> = committables.iter().flat_map(|c| c.complete.clone()).collect();
        let files: Vec<Published> = committables.into_iter().flat_map(|c| c.files).collect();
        fail_point!("commit::before")?;
        match &self.job {
            Some(job) if self.plan.overwrite && last => self.overwrite(job, files)?,
            Some(job) if self.plan.overwrite => self.hold(job, files)?,
            _ => self.publish(&files)?,
        }
        self.plan.mark(&complete)?;
        fail_point!("commit::after")
    }

    /// Local files only: uploads that are never completed are what a store's lifecycle rules are for.
    fn abort_after(&mut self, epoch: u64) -> Result<()> {
        let (Location::Local(root), Some(job)) = (&self.plan.target, &self.job) else { return Ok(()) };
        let own = format!(".part-{job}-");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for (name, path, is_folder) in list(&folder)? {
                if is_folder {
                    if is_visible(&name) && !self.plan.partitions.is_empty() {
                        folders.push(path);
                    }
                } else if name.starts_with(&own) && is_left_over(&name, epoch) {
                    match std::fs::remove_file(&path) {
                        Err(e) if e.kind() != IoErrorKind::NotFound => {
                            return Err(io_error("remove unfinished file", &path, e));
                        }
                        _ => fail_point!("abort::after_remove")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a hidden file was never prepared (`.<name>.<ext>.inprogress`), or in an epoch above `epoch`
/// (`.<name>.<ext>.<epoch>.inprogress`).
fn is_left_over(name: &str, epoch: u64) -> bool {
    let Some(rest) = name.strip_suffix(".inprogress") else { return false };
    match rest.rsplit_once('.').map(|(_, last)| last.parse::<u64>()) {
        Some(Ok(prepared)) => prepared > epoch,
        Some(Err(_)) | None => true,
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Committable> {
    versioned::decode(bytes, "a commit of the file sink", COMMITTABLE_VERSION)
}

fn lost(path: String) -> Error {
    Error::state("committed data is lost")
        .detail("a file that the last checkpoint counts as written is neither prepared nor published")
        .at(Place::File { path, line: None })
        .hint("somebody removed files from the table's folder; restore them, or start the job anew")
}

fn publish_local(temp: &Path, path: &Path) -> Result<()> {
    match std::fs::rename(temp, path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == IoErrorKind::NotFound => match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => Err(lost(path.display().to_string())),
            Err(e) => Err(io_error("look for file", path, e)),
        },
        Err(e) => Err(io_error("publish file", path, e)),
    }
}

async fn publish_object(store: &dyn Objects, key: &str, upload: &str, parts: &[String]) -> Result<()> {
    let path = ObjectPath::parse(key).map_err(|e| Error::state(format!("a commit names no object: {e}")))?;
    let parts = parts.iter().map(|id| object_store::multipart::PartId { content_id: id.clone() }).collect();
    let Err(failed) = store.complete_multipart(&path, &upload.to_string(), parts).await else { return Ok(()) };
    // An upload that is completed already is unknown to the store; then the object is there.
    match store.head(&path).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::NotFound { .. }) if matches!(failed, object_store::Error::NotFound { .. }) => {
            Err(lost(key.to_string()).detail(failed.to_string()))
        }
        Err(_) => Err(object_error("complete upload", &path, failed)),
    }
}

/// Whether a reader looks at files and folders of this name.
pub(super) fn is_visible(name: &str) -> bool {
    !name.starts_with('.') && !name.starts_with('_')
}

/// The entries of a folder (name, path, whether it is a folder); none if there is no such folder.
pub(super) fn list(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>> {
    let failed = |e| storage::io_error("list folder", folder, e);
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path(), is_folder));
    }
    Ok(found)
}
