//! Where files are: listing and reading them, locally or in an object store.

use super::store::{Location, Objects};
use crate::blocking::block_on;
use crate::formats::container::ReadAt;
use millstream_core::{Error, ErrorKind, Place, Result};
use object_store::ObjectStoreExt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InputFile {
    /// Its path, or its URL's path in the store.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, milliseconds since 1970.
    pub modified_ms: i64,
}

fn store_error(e: object_store::Error, path: &str) -> Error {
    let kind = match &e {
        object_store::Error::NotFound { .. } => ErrorKind::Data,
        _ => ErrorKind::Retry,
    };
    Error::new(kind, e.to_string()).at(Place::File { path: path.to_string(), line: None })
}

fn file_error(e: std::io::Error, path: &str) -> Error {
    let place = Place::File { path: path.to_string(), line: None };
    match e.kind() {
        std::io::ErrorKind::NotFound => Error::data("the file has vanished since it was first seen").at(place),
        std::io::ErrorKind::PermissionDenied => Error::data("the file may not be read").at(place),
        _ => Error::from(e).at(place),
    }
}

fn shorter(path: &str, had: u64, has: u64) -> Error {
    let place = Place::File { path: path.to_string(), line: None };
    Error::data("the file has become shorter since it was first seen")
        .detail(format!("it had {had} bytes, now it has {has}"))
        .at(place)
}

/// Whether readers skip a file or folder of this name, as Flink does.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

impl Location {
    /// The files there, by name; names that begin with `.` or `_` are left out.
    pub(super) fn list(&self) -> Result<Vec<InputFile>> {
        let mut found = Vec::new();
        match self {
            Location::Local(root) => {
                let meta = std::fs::metadata(root).map_err(|e| file_error(e, &root.display().to_string()))?;
                walk(root, meta, &mut found)?;
            }
            Location::Objects { store, prefix } => {
                use futures::TryStreamExt;
                let metas: Vec<_> = block_on(async {
                    match store.head(prefix).await {
                        Ok(meta) => Ok(vec![meta]),
                        Err(_) => store.list(Some(prefix)).try_collect().await,
                    }
                })?
                .map_err(|e| store_error(e, prefix.as_ref()))?;
                if metas.is_empty() {
                    return Err(Error::data("no object's key begins with the table's path")
                        .at(Place::File { path: format!("{self:?}"), line: None }));
                }
                for meta in metas {
                    let below = meta.location.as_ref().strip_prefix(prefix.as_ref()).unwrap_or_default();
                    if !below.split('/').any(is_hidden) {
                        let modified_ms = meta.last_modified.timestamp_millis();
                        found.push(InputFile { path: meta.location.to_string(), size: meta.size, modified_ms });
                    }
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Whether files are on a disk of this machine.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Location::Local(_))
    }

    /// Opens a file.
    pub(super) fn open(&self, file: &InputFile) -> Result<OpenFile> {
        let size;
        let bytes = match self {
            Location::Local(_) => {
                let opened = File::open(&file.path).map_err(|e| file_error(e, &file.path))?;
                size = opened.metadata().map_err(|e| file_error(e, &file.path))?.len();
                Bytes::Local(opened)
            }
            Location::Objects { store, .. } => {
                let location = object_store::path::Path::parse(&file.path)
                    .map_err(|e| Error::data(e.to_string()).at(Place::File { path: file.path.clone(), line: None }))?;
                size = block_on(store.head(&location))?.map_err(|e| store_error(e, &file.path))?.size;
                Bytes::Object(store.clone(), location)
            }
        };
        if size < file.size {
            return Err(shorter(&file.path, file.size, size));
        }
        Ok(OpenFile { bytes, path: file.path.clone(), size: file.size, at: 0 })
    }
}

fn walk(path: &Path, meta: std::fs::Metadata, found: &mut Vec<InputFile>) -> Result<()> {
    let shown = path.display().to_string();
    if !meta.is_dir() {
        let modified =
            meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        let modified_ms = i64::try_from(modified.as_millis()).unwrap_or(i64::MAX);
        found.push(InputFile { path: shown, size: meta.len(), modified_ms });
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(|e| file_error(e, &shown))? {
        let entry = entry.map_err(|e| file_error(e, &shown))?;
        if !is_hidden(&entry.file_name().to_string_lossy()) {
            match std::fs::metadata(entry.path()) {
                Ok(meta) => walk(&entry.path(), meta, found)?,
                // A file that vanishes while the folder is read was never there.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(file_error(e, &entry.path().display().to_string())),
            }
        }
    }
    Ok(())
}

enum Bytes {
    Local(File),
    Object(Arc<dyn Objects>, object_store::path::Path),
}

/// An open file; what was appended after it was first seen is not read.
pub struct OpenFile {
    bytes: Bytes,
    path: String,
    size: u64,
    at: u64,
}

impl OpenFile {
    /// Asks the system to have these bytes ready soon. It may not, and then nothing is lost.
    pub fn fetch_ahead(&self, start: u64, length: u64) {
        if let (Bytes::Local(file), Some(length)) = (&self.bytes, NonZeroU64::new(length)) {
            let _ = rustix::fs::fadvise(file, start, Some(length), rustix::fs::Advice::WillNeed);
        }
    }

    /// Bytes from `start`, `length` of them or up to the file's end as it was when it was first seen, appended to
    /// `out`; an error if they are no longer there.
    pub fn read_at(&mut self, start: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        let length = length.min(self.size.saturating_sub(start));
        if length == 0 {
            return Ok(());
        }
        let before = out.len() as u64;
        match &mut self.bytes {
            Bytes::Local(file) => {
                file.seek(SeekFrom::Start(start)).map_err(|e| file_error(e, &self.path))?;
                file.take(length).read_to_end(out).map_err(|e| file_error(e, &self.path))?;
            }
            Bytes::Object(store, location) => {
                let bytes = block_on(store.get_range(location, start..start + length))?
                    .map_err(|e| store_error(e, &self.path))?;
                out.extend_from_slice(&bytes);
            }
        }
        let found = out.len() as u64 - before;
        if found < length {
            return Err(shorter(&self.path, self.size, start + found));
        }
        Ok(())
    }
}

impl ReadAt for OpenFile {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_at(&mut self, start: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        OpenFile::read_at(self, start, length, out)
    }
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut bytes = Vec::new();
        let at = self.at;
        self.read_at(at, (buffer.len() as u64).max(1 << 16).min(buffer.len() as u64), &mut bytes)
            .map_err(|e| std::io::Error::other(e.to_string()))?;
        if let Some(target) = buffer.get_mut(..bytes.len()) {
            target.copy_from_slice(&bytes);
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
