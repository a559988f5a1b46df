//! The folder of checkpoints, on a local disk or in an object store.

use crate::local;
use crate::manifest::{DAMAGED_HINT, Location, Manifest};
use bytes::Bytes;
use futures::TryStreamExt;
use millstream_core::error::ResultExt;
use millstream_core::{Error, Place, Result, fail_point};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Runtime;

/// Where checkpoints are stored. Cloning is cheap; all methods block, so they must not be called on
/// a thread of an async runtime.
#[derive(Clone, Debug)]
pub struct CheckpointStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Backend,
    /// What the person wrote, without a final slash.
    url: String,
    /// Objects written by a compaction that no manifest names yet; `retain` leaves them.
    unnamed: Mutex<BTreeSet<String>>,
    next_object: AtomicU64,
}

#[derive(Debug)]
enum Backend {
    /// With fsync, which the object store's own local files lack.
    Local(PathBuf),
    Remote {
        store: Box<dyn ObjectStore>,
        prefix: ObjectPath,
        runtime: Runtime,
    },
}

impl CheckpointStore {
    /// Opens a folder: a local path, `file://`, or a URL of an object store (`s3://`, `gs://`,
    /// `az://`), configured by `env`, the process's environment (`AWS_ACCESS_KEY_ID`, ...).
    pub fn open(url_or_path: &str, env: &[(String, String)]) -> Result<CheckpointStore> {
        let store = Self::open_for_reading(url_or_path, env)?;
        if let Backend::Local(path) = &store.0.backend {
            local::create_dir(&path.join("data")).context("create the folder of checkpoints")?;
        }
        Ok(store)
    }

    fn open_for_reading(url_or_path: &str, env: &[(String, String)]) -> Result<CheckpointStore> {
        let trimmed = url_or_path.trim_end_matches('/');
        let url = if trimmed.is_empty() { url_or_path } else { trimmed }.to_string();
        let place = || Place::File { path: url.clone(), line: None };
        let backend = match local::path_of(&url) {
            Some(path) => Backend::Local(path),
            None => {
                let wrong = |e: String| {
                    Error::script("checkpoints can't be stored there")
                        .at(place())
                        .detail(e)
                        .hint("name a local path, file://, s3://, gs:// or az://")
                };
                let parsed = url::Url::parse(&url).map_err(|e| wrong(e.to_string()))?;
                let options = env.iter().map(|(k, v)| (k.as_str(), v.as_str()));
                let (store, prefix) =
                    object_store::parse_url_opts(&parsed, options).map_err(|e| wrong(e.to_string()))?;
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("checkpoint-io")
                    .enable_all()
                    .build()?;
                Backend::Remote { store, prefix, runtime }
            }
        };
        Ok(CheckpointStore(Arc::new(Inner { backend, url, unnamed: Mutex::default(), next_object: AtomicU64::new(0) })))
    }

    /// Opens what `--from PATH` names: a manifest, a folder of checkpoints (its latest), or a state
    /// directory.
    pub fn open_manifest(url_or_path: &str, env: &[(String, String)]) -> Result<(CheckpointStore, Manifest)> {
        let missing = || {
            Error::state("there is no checkpoint")
                .at(Place::File { path: url_or_path.to_string(), line: None })
                .hint("name a manifest (manifest-<epoch>.json) or the folder it is in")
        };
        let (folder, last) = url_or_path.rsplit_once('/').unwrap_or((".", url_or_path));
        if let Some(epoch) = manifest_epoch(last) {
            let folder = if folder.is_empty() { "/" } else { folder };
            if local::path_of(folder).is_some_and(|p| !p.is_dir()) {
                return Err(missing());
            }
            let store = CheckpointStore::open_for_reading(folder, env)?;
            let manifest = store.load(epoch)?;
            return Ok((store, manifest));
        }
        let inner = format!("{}/checkpoints", url_or_path.trim_end_matches('/'));
        for folder in [url_or_path, inner.as_str()] {
            if local::path_of(folder).is_some_and(|p| !p.is_dir()) {
                continue;
            }
            let store = CheckpointStore::open_for_reading(folder, env)?;
            if let Some(manifest) = store.latest()? {
                return Ok((store, manifest));
            }
        }
        Err(missing())
    }

    /// The path or URL of a file in the folder, for people.
    pub fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.0.url)
    }

    /// Stores an object of segments, given in parts, durably. Names are never used twice: that an object of this
    /// name and other content exists is an error.
    pub fn put_segment_object(&self, name: &str, parts: &[Bytes]) -> Result<()> {
        fail_point!("checkpoint::before_object_put")?;
        let path = data_path(name);
        if !self.create(&path, parts, "checkpoint::mid_object").context("store a segment object")? {
            return Err(Error::internal("an object of this name was stored before").at(self.place(&path)));
        }
        fail_point!("checkpoint::after_object_put")
    }

    /// Reads bytes `range` of an object of segments. One that is missing or too short is a State error.
    pub fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let path = data_path(name);
        let damaged = |message: &str| Error::state(message).at(self.place(&path)).hint(DAMAGED_HINT);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let bytes = self
            .get(&path, Some(range))
            .context("read a segment object")?
            .ok_or_else(|| damaged("a segment object that the checkpoint needs is missing"))?;
        if bytes.len() as u64 != length {
            return Err(damaged("a segment object is shorter than the manifest says"));
        }
        Ok(bytes)
    }

    /// Reads a whole object. One that is missing is a State error.
    pub fn read_object(&self, name: &str) -> Result<Bytes> {
        let path = data_path(name);
        self.get(&path, None).context("read an object")?.ok_or_else(|| {
            Error::state("an object that the checkpoint needs is missing").at(self.place(&path)).hint(DAMAGED_HINT)
        })
    }

    /// Stores a manifest, durably. That another manifest of the same epoch exists is a State error.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        fail_point!("checkpoint::before_manifest")?;
        let path = manifest_name(manifest.epoch);
        let bytes = Bytes::from(manifest.encode()?);
        if !self.create(&path, &[bytes], "checkpoint::mid_manifest").context("write the manifest")? {
            return Err(Error::state(format!("there is another checkpoint of epoch {}", manifest.epoch))
                .at(self.place(&path))
                .hint("make sure that no other job stores its checkpoints there"));
        }
        let named = manifest.objects();
        self.unnamed().retain(|name| !named.contains(name.as_str()));
        fail_point!("checkpoint::after_manifest")
    }

    /// The epochs of the stored manifests, ascending.
    pub fn list(&self) -> Result<Vec<u64>> {
        let names = self.names(None).context("list checkpoints")?;
        let mut epochs: Vec<u64> = names.iter().filter_map(|n| manifest_epoch(n)).collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// The newest checkpoint of a job, of those of epoch `since` or later.
    pub fn latest_of(&self, job_id: &str, since: u64) -> Result<Option<Manifest>> {
        for epoch in self.list()?.into_iter().rev().take_while(|e| *e >= since) {
            let manifest = self.load(epoch)?;
            if manifest.job_id == job_id {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// The newest checkpoint, if there is one.
    pub fn latest(&self) -> Result<Option<Manifest>> {
        let epochs = self.list()?;
        let Some((newest, older)) = epochs.split_last() else { return Ok(None) };
        self.load(*newest).map(Some).map_err(|e| match older.last() {
            Some(epoch) => e.detail(format!("an older checkpoint is {}", self.path_of(&manifest_name(*epoch)))),
            None => e,
        })
    }

    /// The checkpoint of an epoch.
    pub fn load(&self, epoch: u64) -> Result<Manifest> {
        let name = manifest_name(epoch);
        let path = self.path_of(&name);
        let bytes = self
            .get(&name, None)
            .context("read the manifest")?
            .ok_or_else(|| Error::state("there is no such checkpoint").at(self.place(&name)).hint(DAMAGED_HINT))?;
        let manifest = Manifest::decode(&bytes, &path)?;
        if manifest.epoch != epoch {
            return Err(Error::state("the manifest is of another epoch than its name says")
                .at(self.place(&name))
                .detail(format!("it is of epoch {}", manifest.epoch))
                .hint(DAMAGED_HINT));
        }
        Ok(manifest)
    }

    /// Copies the objects of a manifest from another folder under names that begin with `prefix`, which must
    /// be new and begin with the epoch that the copy will have; gives the manifest with these names. What sinks
    /// have stored keeps its name, by which they know it. A manifest of this folder is given back as it is.
    pub fn import(&self, from: &CheckpointStore, manifest: &Manifest, prefix: &str) -> Result<Manifest> {
        let mut copy = manifest.clone();
        if Arc::ptr_eq(&self.0, &from.0) || self.is_same_folder(from) {
            return Ok(copy);
        }
        let mut names = BTreeMap::new();
        for (number, name) in manifest.objects().into_iter().enumerate() {
            let bytes = from.get(&data_path(name), None)?.ok_or_else(|| {
                Error::state("a segment object that the checkpoint needs is missing")
                    .at(from.place(&data_path(name)))
                    .hint(DAMAGED_HINT)
            })?;
            let new = match manifest.sink_objects.contains(name) {
                true => name.to_string(),
                false => format!("{prefix}-{number}.seg"),
            };
            if !self.create(&data_path(&new), &[bytes], "checkpoint::mid_object").context("copy a segment object")? {
                return Err(
                    Error::internal("an object of this name was stored before").at(self.place(&data_path(&new)))
                );
            }
            names.insert(name.to_string(), new);
            fail_point!("import::mid")?;
        }
        for segment in copy.operators.iter_mut().flat_map(|o| &mut o.tables).flat_map(|t| &mut t.segments) {
            if let Location::Object { name, .. } = &mut segment.location
                && let Some(new) = names.get(name)
            {
                name.clone_from(new);
            }
        }
        Ok(copy)
    }

    fn is_same_folder(&self, other: &CheckpointStore) -> bool {
        match (&self.0.backend, &other.0.backend) {
            (Backend::Local(a), Backend::Local(b)) => match (a.canonicalize(), b.canonicalize()) {
                (Ok(a), Ok(b)) => a == b,
                _ => a == b,
            },
            _ => self.0.url == other.0.url,
        }
    }

    /// Keeps the `n` newest checkpoints (at least one) and deletes the others, with the objects that
    /// no kept one names. Objects of epochs newer than the latest checkpoint are left: they may be
    /// in the making. If a kept manifest can't be read nothing is deleted.
    pub fn retain(&self, n: usize) -> Result<()> {
        let epochs = self.list()?;
        let Some(&newest) = epochs.last() else { return Ok(()) };
        let (old, kept) = epochs.split_at(epochs.len().saturating_sub(n.max(1)));
        let mut named = BTreeSet::new();
        for epoch in kept {
            let manifest = self.load(*epoch)?;
            named.extend(manifest.objects().into_iter().map(str::to_string));
        }
        for epoch in old {
            self.delete(&manifest_name(*epoch))?;
        }
        fail_point!("retain::mid")?;
        for name in self.names(Some("data")).context("list segment objects")? {
            let dead = object_epoch(&name).is_some_and(|epoch| epoch <= newest);
            if dead && !named.contains(&name) && !self.unnamed().contains(&name) {
                self.delete(&data_path(&name))?;
            }
        }
        for name in self.names(None)? {
            let whole = name.strip_prefix('.').and_then(|rest| rest.split_once(".json.")).map(|(name, _)| name);
            let epoch = whole.and_then(|name| manifest_epoch(&format!("{name}.json")));
            if epoch.is_some_and(|epoch| epoch <= newest) {
                self.delete(&name)?;
            }
        }
        Ok(())
    }

    /// A fresh object's name for segments that are merged at `epoch`; `retain` leaves the object
    /// until a manifest names it.
    pub(crate) fn merged_object_name(&self, epoch: u64, attempt: u64) -> String {
        let number = self.0.next_object.fetch_add(1, Ordering::Relaxed);
        let name = format!("{epoch}-{attempt}-merged-{number}.seg");
        self.unnamed().insert(name.clone());
        name
    }

    /// Gives up the merged objects that no manifest names yet.
    pub(crate) fn forget_unnamed(&self) {
        self.unnamed().clear();
    }

    fn unnamed(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn place(&self, name: &str) -> Place {
        Place::File { path: self.path_of(name), line: None }
    }

    /// Writes a new file; `false` if there is one of this name and other content.
    fn create(&self, path: &str, parts: &[Bytes], fail_mid: &'static str) -> Result<bool> {
        let created = match &self.0.backend {
            Backend::Local(folder) => local::write_atomic(&folder.join(path), parts, fail_mid, false)?,
            Backend::Remote { store, prefix, runtime } => {
                fail_point!(fail_mid)?;
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                let payload = PutPayload::from_iter(parts.iter().cloned());
                match runtime.block_on(store.put_opts(&join(prefix, path), payload, options)) {
                    Ok(_) => true,
                    Err(object_store::Error::AlreadyExists { .. }) => false,
                    Err(e) => return Err(self.remote_error(e, path)),
                }
            }
        };
        // A request whose first try did arrive finds its own file.
        let is_equal = |there: Bytes| {
            let mut rest = &there[..];
            parts.iter().all(|part| rest.strip_prefix(&part[..]).inspect(|left| rest = left).is_some())
                && rest.is_empty()
        };
        Ok(created || self.get(path, None)?.is_some_and(is_equal))
    }

    fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        match &self.0.backend {
            Backend::Local(folder) => Ok(local::read(&folder.join(path), range)?.map(Bytes::from)),
            Backend::Remote { store, prefix, runtime } => {
                let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
                let location = join(prefix, path);
                let read = async { store.get_opts(&location, options).await?.bytes().await };
                match runtime.block_on(read) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(e) => Err(self.remote_error(e, path)),
                }
            }
        }
    }

    /// The names of the files in the folder itself or in a folder within it.
    fn names(&self, within: Option<&str>) -> Result<Vec<String>> {
        match &self.0.backend {
            Backend::Local(folder) => local::list(&within.map_or(folder.clone(), |w| folder.join(w))),
            Backend::Remote { store, prefix, runtime } => {
                let folder = within.map_or(prefix.clone(), |w| join(prefix, w));
                let listing = async {
                    match within {
                        // The folder itself may hold many objects below `data`.
                        None => store.list_with_delimiter(Some(&folder)).await.map(|l| l.objects),
                        Some(_) => store.list(Some(&folder)).try_collect().await,
                    }
                };
                let objects: Vec<object_store::ObjectMeta> =
                    runtime.block_on(listing).map_err(|e| self.remote_error(e, within.unwrap_or_default()))?;
                Ok(objects.iter().filter_map(|o| o.location.filename().map(str::to_string)).collect())
            }
        }
    }

    fn delete(&self, path: &str) -> Result<()> {
        match &self.0.backend {
            Backend::Local(folder) => local::delete(&folder.join(path)),
            Backend::Remote { store, prefix, runtime } => match runtime.block_on(store.delete(&join(prefix, path))) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(self.remote_error(e, path)),
            },
        }
    }

    fn remote_error(&self, e: object_store::Error, path: &str) -> Error {
        use object_store::Error::*;
        let error = match &e {
            PermissionDenied { .. } | Unauthenticated { .. } => {
                Error::state("the object store refuses access").hint("check the credentials in the environment")
            }
            InvalidPath { .. } | UnknownConfigurationKey { .. } | NotSupported { .. } | NotImplemented { .. } => {
                Error::state("the object store can't do what checkpoints need")
            }
            _ => Error::retry("the object store failed"),
        };
        error.detail(e.to_string()).at(self.place(path))
    }
}

fn join(prefix: &ObjectPath, path: &str) -> ObjectPath {
    path.split('/').fold(prefix.clone(), |prefix, part| prefix.join(part))
}

/// The name of an epoch's manifest.
pub fn manifest_name(epoch: u64) -> String {
    format!("manifest-{epoch}.json")
}

fn data_path(name: &str) -> String {
    format!("data/{name}")
}

fn manifest_epoch(name: &str) -> Option<u64> {
    let epoch = name.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok()?;
    (manifest_name(epoch) == name).then_some(epoch)
}

/// The epoch in an object's name, `<epoch>-<attempt>-...`, or in that of its temporary file.
fn object_epoch(name: &str) -> Option<u64> {
    name.strip_prefix('.').unwrap_or(name).split('-').next()?.parse().ok()
}
