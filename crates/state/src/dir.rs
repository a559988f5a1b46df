//! The state directory: its lock, and the record of the job it belongs to.

use crate::local;
use millstream_core::error::ResultExt;
use millstream_core::{Error, Place, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of [`JobRecord`] that this program writes.
pub const JOB_RECORD_VERSION: u32 = 1;

const LOCK_POLL: Duration = Duration::from_millis(50);

/// What is known of the job across runs (`job.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// [`JOB_RECORD_VERSION`].
    pub version: u32,
    /// The job's id; names its transactions in outside systems.
    pub job_id: String,
    /// An epoch above every epoch that any attempt may have used.
    pub next_epoch: u64,
    /// How often the job was started.
    pub attempt: u64,
    /// The plan's fingerprint.
    pub fingerprint: String,
    /// The script, for people.
    pub script: String,
    /// Whether all inputs ended and everything is committed.
    pub finished: bool,
}

/// A locked state directory. The lock is held until this and all child processes that inherited
/// [`StateDir::lock_fd`] are gone.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

impl StateDir {
    /// Creates the folder if need be and locks it; retries until `wait` is over, then it is a State
    /// error that the directory is in use.
    pub fn open(path: impl AsRef<Path>, wait: Duration) -> Result<StateDir> {
        let path = path.as_ref().to_path_buf();
        std::fs::create_dir_all(&path).map_err(|e| {
            let what = if path.is_file() { "it is a file".to_string() } else { e.to_string() };
            Error::state(format!("the state directory can't be made: {what}"))
                .at(Place::File { path: path.display().to_string(), line: None })
                .hint("name a folder that can be written with --state-dir")
        })?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|e| local::io_error(e, &lock_path))?;
        let mut waited = Duration::ZERO;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < wait => {
                    let step = LOCK_POLL.min(wait - waited);
                    std::thread::sleep(step);
                    waited += step;
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let mut error = Error::state("the state directory is in use by another process")
                        .at(Place::File { path: path.display().to_string(), line: None })
                        .hint("stop the other process, or give this job a state directory of its own");
                    if (&mut lock).take(32).read_to_string(&mut holder).is_ok() && !holder.trim().is_empty() {
                        error = error.detail(format!("locked by process {}", holder.trim()));
                    }
                    return Err(error);
                }
                Err(TryLockError::Error(e)) => return Err(local::io_error(e, &lock_path).context("lock")),
            }
        }
        keep_over_exec(&lock).map_err(|e| local::io_error(e, &lock_path))?;
        let note = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(note.as_bytes()))
            .map_err(|e| local::io_error(e, &lock_path))?;
        Ok(StateDir { path, lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Where checkpoints go unless the job names another place.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
    /// The locked file; child processes inherit it, so the lock outlives this process with them.
    pub fn lock_fd(&self) -> RawFd {
        self.lock.as_raw_fd()
    }

    /// Reads `job.json`; `None` if there is none yet.
    pub fn read_job(&self) -> Result<Option<JobRecord>> {
        let path = self.path.join("job.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(local::io_error(e, &path).context("read the job's record")),
        };
        let damaged = |detail: String| {
            Error::state("the job's record can't be read")
                .at(Place::File { path: path.display().to_string(), line: None })
                .detail(detail)
                .hint("restore the file from a copy, or use another state directory with --from PATH of a checkpoint")
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if version != JOB_RECORD_VERSION {
            return Err(damaged(format!("it has version {version}; this program knows version {JOB_RECORD_VERSION}")));
        }
        serde_json::from_slice(&text).map(Some).map_err(|e| damaged(e.to_string()))
    }

    /// Replaces `job.json`, atomically and durably.
    pub fn write_job(&self, record: &JobRecord) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(record).map_err(|e| Error::internal(e.to_string()))?;
        text.push(b'\n');
        local::write_atomic(&self.path.join("job.json"), &[text.into()], "job_record::mid", true)
            .context("write the job's record")
            .map(drop)
    }
}

/// Clears close-on-exec, which Rust sets on every file it opens.
fn keep_over_exec(file: &File) -> std::io::Result<()> {
    // SAFETY: fcntl with F_SETFD takes no pointer; the descriptor is open for as long as `file` is.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } == -1 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record() -> JobRecord {
        JobRecord {
            version: JOB_RECORD_VERSION,
            job_id: "j1".into(),
            next_epoch: 7,
            attempt: 2,
            fingerprint: "f".into(),
            script: "SELECT 1".into(),
            finished: false,
        }
    }

    #[test]
    fn a_second_opener_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateDir::open(folder.path().join("s"), Duration::ZERO).unwrap();
        let error = StateDir::open(folder.path().join("s"), Duration::from_millis(60)).unwrap_err();
        assert_eq!(error.kind(), millstream_core::ErrorKind::State);
        assert!(error.message().contains("in use by another process"), "{error}");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        StateDir::open(folder.path().join("s"), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_child_process_keeps_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateDir::open(folder.path(), Duration::ZERO).unwrap();
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        drop(held);
        StateDir::open(folder.path(), Duration::ZERO).unwrap_err();
        drop(child.stdin.take());
        child.wait().unwrap();
        StateDir::open(folder.path(), Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn a_job_record_is_read_back_and_garbage_is_a_state_error() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path(), Duration::ZERO).unwrap();
        assert_eq!(dir.read_job().unwrap(), None);
        dir.write_job(&record()).unwrap();
        dir.write_job(&JobRecord { finished: true, ..record() }).unwrap();
        assert_eq!(dir.read_job().unwrap(), Some(JobRecord { finished: true, ..record() }));
        for bad in ["", "{", "{\"version\":2}", "{\"version\":1}", "null"] {
            std::fs::write(folder.path().join("job.json"), bad).unwrap();
            assert_eq!(dir.read_job().unwrap_err().kind(), millstream_core::ErrorKind::State);
        }
    }
}
