//! Files of the local disk, written so that a crash leaves the old file, the new one, or none.

use bytes::Bytes;
use millstream_core::{Error, Place, Result, fail_point};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_TEMP: AtomicU64 = AtomicU64::new(0);

/// An I/O error with its place. What a person has to put right is a State error, a full disk and the
/// rest may heal.
pub(crate) fn io_error(e: io::Error, path: &Path) -> Error {
    use io::ErrorKind::*;
    let error = match e.kind() {
        PermissionDenied | ReadOnlyFilesystem | NotADirectory | AlreadyExists => {
            Error::state(format!("the place of the job's state can't be used: {e}"))
                .hint("the state directory must be a folder that this user can write; --state-dir names another")
        }
        QuotaExceeded | FileTooLarge => Error::retry(format!("there is no room for the job's state: {e}"))
            .hint("free some space, or raise the limit"),
        _ => Error::from(e),
    };
    error.at(Place::File { path: path.display().to_string(), line: None })
}

/// Creates a folder and its parents.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| io_error(e, path))
}

/// Writes a whole file, given in parts, by way of a temporary one, durably. Without `replace`, `false` says that a
/// file of this name was there already and was left as it is. `fail_mid` is the fail point between
/// the two halves of the last part.
pub(crate) fn write_atomic(path: &Path, parts: &[Bytes], fail_mid: &'static str, replace: bool) -> Result<bool> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::internal(format!("no file can be written at {}", path.display())));
    };
    let number = NEXT_TEMP.fetch_add(1, Ordering::Relaxed);
    let temp = folder.join(format!(".{}.{}-{number}.tmp", name.to_string_lossy(), std::process::id()));
    let written = write_durably(&temp, parts, fail_mid).and_then(|()| {
        let moved = if replace { fs::rename(&temp, path) } else { fs::hard_link(&temp, path) };
        match moved {
            Ok(()) => Ok(true),
            Err(e) if !replace && e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(io_error(e, path)),
        }
    });
    if !replace || written.is_err() {
        // What stays behind after a crash is swept by `retain`.
        let _ = fs::remove_file(&temp);
    }
    let written = written?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_error(e, folder))?;
    Ok(written)
}

fn write_durably(temp: &Path, parts: &[Bytes], fail_mid: &'static str) -> Result<()> {
    let place = |e| io_error(e, temp);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(temp).map_err(place)?;
    let (last, before) = parts.split_last().map_or((&[][..], parts), |(last, before)| (&last[..], before));
    for part in before {
        file.write_all(part).map_err(place)?;
    }
    let (first, second) = last.split_at(last.len() / 2);
    file.write_all(first).map_err(place)?;
    fail_point!(fail_mid)?;
    file.write_all(second).map_err(place)?;
    file.sync_all().map_err(place)
}

/// Reads a part of a file, or all of it; `None` if there is no such file. A file that ends early
/// gives fewer bytes.
pub(crate) fn read(path: &Path, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(e, path)),
    };
    let mut bytes = vec![];
    let result = match range {
        None => file.read_to_end(&mut bytes),
        Some(range) => file
            .seek(SeekFrom::Start(range.start))
            .and_then(|_| file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)),
    };
    result.map_err(|e| io_error(e, path))?;
    Ok(Some(bytes))
}

/// The names of the files in a folder; none if there is no such folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(io_error(e, folder)),
    };
    let mut names = vec![];
    for entry in entries {
        let entry = entry.map_err(|e| io_error(e, folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Deletes a file; one that is gone already is fine.
pub(crate) fn delete(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(e, path)),
        _ => Ok(()),
    }
}

/// The path that a `file:` URL or a plain path stands for; `None` for another kind of URL.
pub fn path_of(url_or_path: &str) -> Option<PathBuf> {
    if !url_or_path.contains("://") {
        return Some(PathBuf::from(url_or_path));
    }
    let url = url::Url::parse(url_or_path).ok()?;
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}
