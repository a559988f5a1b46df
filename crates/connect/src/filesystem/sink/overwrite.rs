//! INSERT OVERWRITE: what a job writes is held back until the job's end, and then takes the place of what was there.
//!
//! Until then a reader sees the old rows alone, also of a job that fails. At the end the old files are removed, then the
//! new ones published, as Flink and Hive do: for a moment rows are missing, but none of the old is ever seen beside the new.
//! A commit before the end leaves a hidden list of its files, `.part-<job>-...held`, so that the end finds them all.

use super::commit::{COMMITTABLE_VERSION, Committable, FileCommitter, Published, decode, is_visible, list};
use super::storage::{self, io_error, object_error, sync_folder};
use crate::blocking::block_on;
use crate::filesystem::store::{Location, Objects};
use millstream_core::{Error, Result, fail_point};
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::PathBuf;

/// What the names of lists end with.
const LIST: &str = ".held";

impl FileCommitter {
    /// Remembers prepared files of `job` for its end.
    pub(super) fn hold(&self, job: &str, files: Vec<Published>) -> Result<()> {
        let Some(name) = files.first().map(|file| format!(".{}{LIST}", file_name(path_of(file)))) else {
            return Ok(());
        };
        let (version, job) = (COMMITTABLE_VERSION, job.to_string());
        let list = Committable { version, job, files, complete: Vec::new() };
        let bytes = storage::encode(&list)?;
        match &self.plan.target {
            Location::Local(root) => {
                // A name that the clean-up after a crash knows.
                let temp = root.join(format!("{name}.inprogress"));
                let written = std::fs::File::create(&temp).and_then(|mut f| f.write_all(&bytes).and(f.sync_all()));
                written.map_err(|e| io_error("write the list of held files", &temp, e))?;
                std::fs::rename(&temp, root.join(name))
                    .map_err(|e| io_error("rename the list of held files", &temp, e))?;
                sync_folder(root)?;
            }
            Location::Objects { store, prefix } => {
                let path = key(prefix, "", &name)?;
                block_on(async {
                    let put = store.put(&path, bytes.into()).await;
                    put.map(|_| ()).map_err(|e| object_error("store the list of held objects", &path, e))
                })??;
            }
        }
        fail_point!("overwrite::after_hold")
    }

    /// Puts what `job` held back, and `last`, in the place of what was there before: in the whole table or, if it is
    /// partitioned, in the partitions that this job wrote (as Flink's dynamic overwrite).
    pub(super) fn overwrite(&self, job: &str, last: Vec<Published>) -> Result<()> {
        let lists = self.lists(job)?;
        let mut files: BTreeSet<Published> = last.into_iter().collect();
        for name in &lists {
            // Another process of this job may have published its files and removed it.
            if let Some(bytes) = self.read_list(name)? {
                files.extend(decode(&bytes)?.files);
            }
        }
        let written: BTreeSet<String> = files.iter().map(|file| self.folder_of(file)).collect();
        self.remove_old(job, &written)?;
        fail_point!("overwrite::after_remove")?;
        self.publish(&files.into_iter().collect::<Vec<_>>())?;
        fail_point!("overwrite::after_publish")?;
        lists.iter().try_for_each(|name| self.remove("", name).map(|_| ()))
    }

    fn remove_old(&self, job: &str, written: &BTreeSet<String>) -> Result<()> {
        let own = format!("part-{job}-");
        let partitioned = !self.plan.partitions.is_empty();
        for (folder, names) in self.visible_files()? {
            // What a commit published before it crashed tells, too, where this job has written.
            if partitioned && !written.contains(&folder) && !names.iter().any(|n| n.starts_with(&own)) {
                continue;
            }
            let mut removed = false;
            for name in names.iter().filter(|n| !n.starts_with(&own)) {
                removed |= self.remove(&folder, name)?;
            }
            if let (Location::Local(root), true) = (&self.plan.target, removed) {
                sync_folder(&root.join(folder))?;
            }
        }
        Ok(())
    }

    /// Removes a file; whether it was there: another process of this job may be faster.
    fn remove(&self, folder: &str, name: &str) -> Result<bool> {
        match &self.plan.target {
            Location::Local(root) => {
                let path = root.join(folder).join(name);
                match std::fs::remove_file(&path) {
                    Ok(()) => Ok(true),
                    Err(e) if e.kind() == IoErrorKind::NotFound => Ok(false),
                    Err(e) => Err(io_error("remove the overwritten file", &path, e)),
                }
            }
            Location::Objects { store, prefix } => {
                let path = key(prefix, folder, name)?;
                block_on(async {
                    match store.delete(&path).await {
                        Ok(()) => Ok(true),
                        Err(object_store::Error::NotFound { .. }) => Ok(false),
                        Err(e) => Err(object_error("remove the overwritten object", &path, e)),
                    }
                })?
            }
        }
    }

    /// The names of the lists of what `job` holds back.
    fn lists(&self, job: &str) -> Result<Vec<String>> {
        let is_list = |name: &str| name.starts_with(&format!(".part-{job}-")) && name.ends_with(LIST);
        let mut names: Vec<String> = match &self.plan.target {
            Location::Local(root) => list(root)?.into_iter().map(|(name, ..)| name).collect(),
            Location::Objects { store, prefix } => {
                let all = all_objects(store.as_ref(), prefix)?;
                all.into_iter().filter(|parts| parts.len() == 1).flatten().collect()
            }
        };
        names.retain(|name| is_list(name));
        Ok(names)
    }

    fn read_list(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match &self.plan.target {
            Location::Local(root) => match std::fs::read(root.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == IoErrorKind::NotFound => Ok(None),
                Err(e) => Err(io_error("read the list of held files", &root.join(name), e)),
            },
            Location::Objects { store, prefix } => {
                let path = key(prefix, "", name)?;
                block_on(async {
                    let failed = |e| object_error("read the list of held objects", &path, e);
                    match store.get(&path).await {
                        Ok(found) => found.bytes().await.map(|bytes| Some(bytes.to_vec())).map_err(failed),
                        Err(object_store::Error::NotFound { .. }) => Ok(None),
                        Err(e) => Err(failed(e)),
                    }
                })?
            }
        }
    }

    /// The visible files of each folder, relative to the table's own: of it and, if it is partitioned, below it.
    fn visible_files(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let deep = !self.plan.partitions.is_empty();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        match &self.plan.target {
            Location::Local(root) => {
                let mut folders: Vec<PathBuf> = vec![root.clone()];
                while let Some(folder) = folders.pop() {
                    let relative = folder.strip_prefix(root).unwrap_or(&folder).to_string_lossy().into_owned();
                    for (name, path, is_folder) in list(&folder)? {
                        // A partition's value may begin with an underscore only after its `name=`.
                        match (is_visible(&name), is_folder) {
                            (true, true) if deep => folders.push(path),
                            (true, false) => found.entry(relative.clone()).or_default().push(name),
                            _ => {}
                        }
                    }
                }
            }
            Location::Objects { store, prefix } => {
                for mut parts in all_objects(store.as_ref(), prefix)? {
                    let visible = parts.iter().all(|part| is_visible(part));
                    let Some(name) = parts.pop() else { continue };
                    if visible && (deep || parts.is_empty()) {
                        found.entry(parts.join("/")).or_default().push(name);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The folder of a file, relative to the table's own.
    fn folder_of(&self, file: &Published) -> String {
        let path = match &self.plan.target {
            Location::Objects { prefix, .. } => path_of(file).strip_prefix(prefix.as_ref()).unwrap_or(path_of(file)),
            Location::Local(_) => path_of(file),
        };
        path.trim_start_matches('/').rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_string())
    }
}

fn path_of(file: &Published) -> &str {
    match file {
        Published::File { path, .. } => path,
        Published::Object { key, .. } => key,
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The keys of all objects below `prefix`, in parts.
fn all_objects(store: &dyn Objects, prefix: &ObjectPath) -> Result<Vec<Vec<String>>> {
    use futures::TryStreamExt;
    let all: Vec<_> = block_on(async {
        let all = store.list(Some(prefix)).try_collect().await;
        all.map_err(|e| object_error("list the table", prefix, e))
    })??;
    let parts = |object: object_store::ObjectMeta| {
        let below = object.location.prefix_match(prefix).into_iter().flatten();
        below.map(|part| part.as_ref().to_string()).collect()
    };
    Ok(all.into_iter().map(parts).collect())
}

/// An object's key; not by adding parts to a path, which would escape the folder's escapes once more.
fn key(prefix: &ObjectPath, folder: &str, name: &str) -> Result<ObjectPath> {
    let parts = [prefix.as_ref(), folder, name];
    let key = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    ObjectPath::parse(&key).map_err(|e| Error::internal(format!("a listed object has no path: {e}")))
}
