//! Where sinks keep what they have prepared: objects beside the checkpoint's segments, named by the checkpoint's manifest.

use millstream_core::Result;
use millstream_core::sink::EpochStorage;
use millstream_state::store::CheckpointStore;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The objects of the sinks of one process in one attempt.
#[derive(Debug)]
pub struct SinkStorage {
    store: CheckpointStore,
    /// What is in the names of its objects besides the epoch: the attempt and the process.
    writer: String,
    next: AtomicU64,
    /// The names of those that no acknowledgement has told of yet, by epoch.
    stored: Mutex<BTreeMap<u64, Vec<String>>>,
}

impl SinkStorage {
    /// For the sinks of `process` (`None`: the supervisor, which stores nothing) in an attempt.
    pub fn new(store: CheckpointStore, attempt: u64, process: Option<usize>) -> Self {
        let process = process.map_or_else(|| "s".to_string(), |p| p.to_string());
        let writer = format!("{attempt}-{process}-sink");
        SinkStorage { store, writer, next: AtomicU64::new(0), stored: Mutex::default() }
    }

    /// The names of the objects that were stored for epochs up to `epoch` since the last call.
    pub fn take(&self, epoch: u64) -> Vec<String> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let later = stored.split_off(&(epoch + 1));
        std::mem::replace(&mut *stored, later).into_values().flatten().collect()
    }
}

impl EpochStorage for SinkStorage {
    fn put(&self, epoch: u64, object: Vec<u8>) -> Result<String> {
        let name = format!("{epoch:012}-{}-{}.log", self.writer, self.next.fetch_add(1, Ordering::Relaxed));
        self.store.put_segment_object(&name, &[object.into()])?;
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_default().push(name.clone());
        Ok(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.store.read_object(name)?.into())
    }
}
