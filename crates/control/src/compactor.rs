//! Merging segments while the job runs: on a thread of its own, into the next manifest.

use millstream_core::error::{Error, Result};
use millstream_core::fail_point;
use millstream_state::compact::{Compaction, CompactionPolicy, compact};
use millstream_state::manifest::Manifest;
use millstream_state::store::CheckpointStore;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

/// Merges segments of one job, one merge at a time. It outlives the job's attempts, since each goes on from the latest
/// manifest, which continues the one that is being merged.
#[derive(Debug)]
pub struct Compactor {
    store: CheckpointStore,
    policy: CompactionPolicy,
    running: Option<Receiver<Result<Option<Vec<Compaction>>>>>,
}

impl Compactor {
    /// A compactor of the checkpoints in `store`.
    pub fn new(store: CheckpointStore, policy: CompactionPolicy) -> Self {
        Compactor { store, policy, running: None }
    }

    /// Begins to merge what a stored manifest has too much of, unless a merge is under way.
    pub fn start(&mut self, manifest: &Manifest) -> Result<()> {
        if self.running.is_some() || !self.policy.is_due(manifest) {
            return Ok(());
        }
        let (done, running) = sync_channel(1);
        let (store, policy, manifest) = (self.store.clone(), self.policy, manifest.clone());
        std::thread::Builder::new().name("compaction".into()).spawn(move || {
            // Nobody listens once the job has ended; `retain` deletes what was merged in vain.
            let _ = done.send(compact(&store, &manifest, &policy));
        })?;
        self.running = Some(running);
        Ok(())
    }

    /// Puts what has been merged into a manifest that is about to be stored.
    ///
    /// # Errors
    /// A merge that failed; the manifest is then as it was.
    pub fn apply(&mut self, manifest: &mut Manifest) -> Result<()> {
        let outcome = match self.running.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(TryRecvError::Disconnected)) => Err(Error::internal("the thread that merges segments died")),
        };
        self.running = None;
        fail_point!("compactor::before_apply")?;
        match outcome? {
            Some(compactions) => manifest.apply_compaction(&compactions),
            None => Ok(()),
        }
    }
}
