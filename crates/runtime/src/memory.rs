//! The memory that this process may take, and the files that rows go to when it has no room for them.
//!
//! What counts is what the system counts: the process's resident memory. Above half of what it may take, tables put
//! their oldest rows into files; the rest is for what is in flight, for tables that grow, and for snapshots.

use millstream_core::error::{Result, ResultExt};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

struct Limit {
    bytes: u64,
    directory: PathBuf,
}

static LIMIT: OnceLock<Limit> = OnceLock::new();

/// Says how many bytes this process may take, and the folder for files. Only the first call counts; without one, rows
/// stay in memory.
pub fn limit(bytes: u64, directory: PathBuf) {
    let _ = LIMIT.set(Limit { bytes, directory });
}

/// Whether rows should go to files. In tests they always should, so that every operator's test is one of rows in files.
pub(crate) fn is_short() -> bool {
    let is_above = |limit: &Limit| resident().is_some_and(|bytes| bytes > limit.bytes / 2);
    cfg!(test) || LIMIT.get().is_some_and(is_above)
}

/// Bytes of this process that are in memory; none where the system doesn't say so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// A file without a name, which is gone when the process is.
pub(crate) struct Scratch {
    file: File,
    end: Mutex<u64>,
}

/// Bytes in a [`Scratch`] file; their place is freed when this is dropped.
pub(crate) struct Stored {
    scratch: Arc<Scratch>,
    at: u64,
    length: u64,
}

impl Scratch {
    /// A new file.
    ///
    /// # Errors
    /// If it can't be made.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let directory = LIMIT.get().map_or_else(std::env::temp_dir, |limit| limit.directory.clone());
        let file = std::fs::create_dir_all(&directory)
            .and_then(|()| tempfile::tempfile_in(&directory))
            .context(format!("make a file for rows that memory has no room for in '{}'", directory.display()))?;
        Ok(Arc::new(Scratch { file, end: Mutex::new(0) }))
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If they can't be written, as on a full disk.
    pub(crate) fn store(self: &Arc<Self>, bytes: &[u8]) -> Result<Stored> {
        let length = bytes.len() as u64;
        let at = {
            let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
            let at = *end;
            *end += length;
            at
        };
        self.file.write_all_at(bytes, at).context("write rows that memory has no room for ('io.tmp.dirs')")?;
        Ok(Stored { scratch: Arc::clone(self), at, length })
    }
}

impl Stored {
    /// Appends a part of the bytes to `into`.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn read(&self, part: std::ops::Range<u64>, into: &mut Vec<u8>) -> Result<()> {
        assert!(part.start <= part.end && part.end <= self.length, "a part of what is stored is read");
        let start = into.len();
        into.resize(start + (part.end - part.start) as usize, 0);
        self.scratch
            .file
            .read_exact_at(&mut into[start..], self.at + part.start)
            .context("read rows back that memory had no room for ('io.tmp.dirs')")
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        use rustix::fs::FallocateFlags;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A file system that can't do so frees it with the file.
        let _ = rustix::fs::fallocate(&self.scratch.file, flags, self.at, self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_back_after_others_were_dropped() {
        let scratch = Scratch::new().unwrap();
        let first = scratch.store(b"first").unwrap();
        let second = scratch.store(b"second").unwrap();
        drop(first);
        let third = scratch.store(&[7; 100_000]).unwrap();
        let mut read = vec![];
        second.read(0..6, &mut read).unwrap();
        third.read(99_998..100_000, &mut read).unwrap();
        second.read(3..4, &mut read).unwrap();
        assert_eq!(read, b"second\x07\x07o");
    }
}
