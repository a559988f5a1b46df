//! The sink's contract: writers that prepare an epoch's output, committers that make it visible.

use crate::graph::ChangelogMode;
use crate::metrics::MetricsRef;
use crate::source::Waker;
use crate::time::ClockRef;
use crate::{Batch, Result, Watermark};
use std::fmt;
use std::sync::Arc;

/// A table that can be written: the plan-time half of a sink connector.
pub trait Sink: Send + Sync + fmt::Debug {
    /// Which kinds of rows it takes.
    fn accepts(&self) -> ChangelogMode;
    /// A line for `explain`.
    fn describe(&self) -> String;
    /// Called once by the coordinator before a job that starts anew runs: checks that the target can
    /// be written. Creates nothing that a reader would see.
    fn check(&self) -> Result<()>;
    /// Called before a job goes on from a checkpoint that isn't its own last one: an error if output of epochs before it
    /// still waits to be made visible, under the name of the job that wrote it.
    fn check_take_over(&self) -> Result<()> {
        Ok(())
    }
    /// Opens the writer of one instance.
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>>;
    /// Opens a committer; one in each worker process, and one for recovery.
    fn committer(&self) -> Result<Box<dyn Committer>>;
    /// Opens a committer that knows its job from the start, so that [`Committer::abort_after`] can tell
    /// what the job left behind even if there was nothing to commit; recovery uses it.
    fn committer_of(&self, _job_id: &str) -> Result<Box<dyn Committer>> {
        self.committer()
    }
    /// Opens a committer for a sink that needs to know more: who commits, and where what was prepared lies.
    fn committer_in(&self, ctx: CommitContext) -> Result<Box<dyn Committer>> {
        if ctx.is_recovery { self.committer_of(&ctx.job_id) } else { self.committer() }
    }
}

/// What a committer is given.
#[derive(Clone)]
pub struct CommitContext {
    /// As [`SinkContext::job_id`].
    pub job_id: String,
    /// As [`SinkContext::attempt`].
    pub attempt: u64,
    /// As [`SinkContext::run`].
    pub run: u64,
    /// As [`SinkContext::instances`].
    pub instances: usize,
    /// It is the one that recovers, before the attempt's writers are opened; the others are one in each worker process.
    pub is_recovery: bool,
    /// As [`SinkContext::storage`].
    pub storage: Option<Arc<dyn EpochStorage>>,
    /// Counters.
    pub metrics: MetricsRef,
}

/// Keeps what sinks have prepared and not yet committed, beside the job's checkpoints.
///
/// A checkpoint refers to the objects that were stored for its epoch. An object is deleted when no retained checkpoint refers
/// to it, and when it was stored for an epoch that never became durable. It goes along with a copy of its checkpoint.
pub trait EpochStorage: Send + Sync {
    /// Stores an object, durably, for `epoch`, which has not been prepared yet; gives its name.
    fn put(&self, epoch: u64, object: Vec<u8>) -> Result<String>;
    /// Reads an object. One that is missing is a State error.
    fn read(&self, name: &str) -> Result<Vec<u8>>;
}

/// What names sink `node_id` of job `job_id`: two sinks of one job may write to the same place.
pub fn id_in_job(job_id: &str, node_id: &str) -> String {
    // FNV-1a, 32 bits: it is part of file names that a later version must find again.
    let hash = node_id.bytes().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    format!("{job_id}{hash:08x}")
}

/// The job and the sink in what [`id_in_job`] gave.
pub fn split_id(id: &str) -> (&str, &str) {
    id.split_at_checked(id.len().saturating_sub(8)).unwrap_or((id, ""))
}

/// What a writer is given.
pub struct SinkContext {
    /// Names this sink of this job for ever (see [`id_in_job`]): the same after a restart, another for a copy of it.
    pub job_id: String,
    /// Counts the starts of the job; no two running writers share (attempt, instance).
    pub attempt: u64,
    /// A number that no other start has, of this job or of a copy of it, which may count the same attempts.
    pub run: u64,
    /// Which instance it is, from 0.
    pub instance: usize,
    /// How many instances there are in the whole job.
    pub instances: usize,
    /// Wakes the worker when a writer that was not ready is.
    pub waker: Waker,
    /// Counters.
    pub metrics: MetricsRef,
    /// Processing time.
    pub clock: ClockRef,
    /// The epoch that the writer begins with; the others follow one by one.
    pub first_epoch: u64,
    /// Where to keep what is prepared; `None`: the job has no checkpoints.
    pub storage: Option<Arc<dyn EpochStorage>>,
}

/// One instance of a sink.
///
/// ```text
/// ( is_ready | write | on_watermark | flush | prepare_commit )*
/// ```
///
/// # Contract
/// - Nothing that `write` gets becomes visible before the [`Committer`] is given what the epoch's
///   `prepare_commit` returned (sinks without exactly-once, such as `print`, write at once).
/// - `prepare_commit` returns when the epoch's data is durable, or fails. A writer that is dropped,
///   or whose process dies, leaves nothing that a reader would see.
pub trait SinkWriter: Send {
    /// Whether `write` can take a batch now; when not, it wakes the worker later.
    fn is_ready(&mut self) -> Result<bool> {
        Ok(true)
    }
    /// Takes a batch.
    fn write(&mut self, batch: &Batch) -> Result<()>;
    /// Event time has reached `watermark`: all instances have seen the same one when `prepare_commit` is called.
    fn on_watermark(&mut self, _watermark: Watermark) -> Result<()> {
        Ok(())
    }
    /// A good moment to push out what is buffered, for sinks whose output is seen at once.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// Ends the epoch; returns what its commit needs (empty: nothing to commit). `ended`: no row
    /// will follow, in any epoch.
    fn prepare_commit(&mut self, epoch: u64, ended: bool) -> Result<Vec<Vec<u8>>>;
}

/// Makes prepared output visible.
pub trait Committer: Send {
    /// Commits what `prepare_commit` of any instance returned for `epoch`. The checkpoint of `epoch`
    /// is durable. Called again with the same values after a crash, so it is idempotent; epochs
    /// come in order. `last`: the job ends with this epoch.
    fn commit(&mut self, epoch: u64, committables: &[Vec<u8>], last: bool) -> Result<()>;
    /// Removes what prepared epochs above `epoch` left behind, as far as it can be told; called on
    /// recovery after the commits. Default: nothing.
    fn abort_after(&mut self, _epoch: u64) -> Result<()> {
        Ok(())
    }
    /// The highest epoch and attempt that the target has seen of this sink: on recovery, after [`Committer::abort_after`],
    /// the job goes on above the one and not below the other, whatever its own record says.
    fn high_mark(&self) -> HighMark {
        HighMark::default()
    }
}

/// See [`Committer::high_mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighMark {
    /// An epoch; 0: none.
    pub epoch: u64,
    /// An attempt; 0: none.
    pub attempt: u64,
}
