//! The worker process's data plane as its owner sees it: what it is given, what it reports, how it is steered.

use arrow::array::RecordBatch;
use millstream_core::graph::{JobGraph, NodeIndex};
use millstream_core::key::HashRange;
use millstream_core::metrics::{MetricsRef, OperatorMetrics};
use millstream_core::operator::{StateDelta, TableSpec};
use millstream_core::settings::Settings;
use millstream_core::sink::EpochStorage;
use millstream_core::time::ClockRef;
use millstream_core::{Error, Result, Watermark};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

/// Everything that a worker process needs to run its share of a job.
pub struct WorkerPlan {
    /// The job; every process plans the same one.
    pub graph: Arc<JobGraph>,
    /// Its settings.
    pub settings: Settings,
    /// Which process this is, from 0.
    pub process: usize,
    /// How many processes there are.
    pub processes: usize,
    /// How many workers (threads) each process runs; the same for all.
    pub workers_per_process: usize,
    /// Where each process listens, in order; unused if there is one.
    pub addresses: Vec<SocketAddr>,
    /// This process's listener at its address, already bound; `None` binds it.
    pub listener: Option<TcpListener>,
    /// A secret that the processes of one attempt share; a connection without it is refused.
    pub token: u64,
    /// Names the job for ever (see `SinkContext::job_id`).
    pub job_id: String,
    /// Counts the job's starts.
    pub attempt: u64,
    /// As `SinkContext::run`.
    pub run: u64,
    /// The epoch that the workers start in; above every epoch of the past.
    pub first_epoch: u64,
    /// The state to start from; `None` starts anew.
    pub restore: Option<Arc<dyn RestoreProvider>>,
    /// Where sinks keep what they have prepared; `None`: the job has no checkpoints.
    pub sink_storage: Option<Arc<dyn EpochStorage>>,
    /// Processing time.
    pub clock: ClockRef,
    /// The counters, shared with whoever shows them.
    pub metrics: Arc<JobMetrics>,
    /// How the workers are steered: keep a clone.
    pub control: WorkerControl,
    /// Told what happens, on the worker's own thread: it must be quick, and hand over what isn't.
    pub on_event: Arc<dyn Fn(WorkerEvent) + Send + Sync>,
}

/// Restored state, as the workers ask for it; called from all worker threads.
pub trait RestoreProvider: Send + Sync {
    /// Gives the rows of a node's table whose hash (of `table.partition_by`) lies in `range` to
    /// `each`, in batches; all rows of a global table.
    fn rows(
        &self,
        node_id: &str,
        table: &TableSpec,
        range: HashRange,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()>;
    /// What each old instance of the node handed over as `StateDelta::instance`.
    fn instances(&self, node_id: &str) -> Result<Vec<Vec<u8>>>;
    /// What each old reader of the source node gave as its position; `None`: the source is new.
    fn positions(&self, node_id: &str) -> Result<Option<Vec<Vec<u8>>>>;
}

/// What a worker reports.
///
/// For each epoch and worker the `Snapshot`s, `SourcePosition`s and `Prepared`s come before its `EpochDone`.
#[derive(Debug)]
pub enum WorkerEvent {
    /// What changed in an operator's state in `epoch`; left out if nothing did.
    Snapshot {
        /// The epoch that it ends.
        epoch: u64,
        /// The worker, counted over all processes.
        worker: usize,
        /// [`millstream_core::graph::Node::id`].
        node_id: String,
        /// The changes.
        delta: StateDelta,
        /// The shapes of the operator's tables.
        tables: Arc<[TableSpec]>,
        /// The slice of the key space that this worker owns.
        range: HashRange,
    },
    /// Where a reader stands at the end of `epoch`.
    SourcePosition {
        /// The epoch that it ends.
        epoch: u64,
        /// The source.
        node_id: String,
        /// The worker, counted over all processes.
        worker: usize,
        /// As `SourceReader::snapshot` gave it.
        bytes: Vec<u8>,
    },
    /// What a sink has made durable for `epoch` and wants committed.
    Prepared {
        /// The epoch that it ends.
        epoch: u64,
        /// The sink.
        node_id: String,
        /// The worker, counted over all processes.
        worker: usize,
        /// As `SinkWriter::prepare_commit` gave it; may be empty.
        committables: Vec<Vec<u8>>,
    },
    /// All of a worker's nodes have handed over `epoch`.
    EpochDone {
        /// The epoch.
        epoch: u64,
        /// The worker, counted over all processes.
        worker: usize,
        /// It is the last: all sources have ended. The same epoch on every worker.
        ended: bool,
    },
    /// A worker has nothing left to do; follows `EpochDone { ended: true }`.
    Ended {
        /// The worker, counted over all processes.
        worker: usize,
        /// Its last epoch.
        last_epoch: u64,
    },
    /// A worker failed; the process's workers stop.
    Failed(Error),
}

/// Steers the workers of this process; clones steer the same ones. Callable from any thread, at any time.
#[derive(Clone, Default)]
pub struct WorkerControl(Arc<ControlState>);

#[derive(Default)]
struct ControlState {
    /// One more than the highest epoch to end; 0: none.
    goal: AtomicU64,
    committed: AtomicU64,
    stopping: AtomicBool,
    aborted: AtomicBool,
    threads: Mutex<Vec<Thread>>,
}

impl WorkerControl {
    /// For one [`WorkerPlan`].
    pub fn new() -> Self {
        Self::default()
    }
    /// The sources end `epoch` (and those before it, if still open) at their next activation, and go on with the next.
    pub fn end_epoch(&self, epoch: u64) {
        self.0.goal.fetch_max(epoch.saturating_add(1), Ordering::SeqCst);
        self.wake();
    }
    /// The checkpoint of `epoch` is durable; the readers are told.
    pub fn committed(&self, epoch: u64) {
        self.0.committed.fetch_max(epoch, Ordering::SeqCst);
        self.wake();
    }
    /// The sources read no more; an epoch ended after this call holds all that was read.
    pub fn stop_sources(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }
    /// The workers drop everything and return.
    pub fn abort(&self) {
        self.0.aborted.store(true, Ordering::SeqCst);
        self.wake();
    }
    pub(crate) fn goal(&self) -> u64 {
        self.0.goal.load(Ordering::SeqCst)
    }
    pub(crate) fn last_committed(&self) -> u64 {
        self.0.committed.load(Ordering::SeqCst)
    }
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.aborted.load(Ordering::SeqCst)
    }
    pub(crate) fn register_this_thread(&self) {
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).push(std::thread::current());
    }
    fn wake(&self) {
        for thread in self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            thread.unpark();
        }
    }
}

/// The counters of a job's nodes in this process.
#[derive(Debug)]
pub struct JobMetrics {
    nodes: Vec<(MetricsRef, Vec<AtomicI64>)>,
}

impl JobMetrics {
    /// Counters for each node of `graph`, run by `workers` workers in this process.
    pub fn new(graph: &JobGraph, workers: usize) -> Arc<Self> {
        Self::of_nodes(graph.nodes.len(), workers)
    }
    pub(crate) fn of_nodes(nodes: usize, workers: usize) -> Arc<Self> {
        let node = || {
            let metrics = OperatorMetrics::default();
            metrics.watermark_ms.store(i64::MIN, Ordering::Relaxed);
            (Arc::new(metrics), (0..workers).map(|_| AtomicI64::new(i64::MIN)).collect())
        };
        Arc::new(JobMetrics { nodes: (0..nodes).map(|_| node()).collect() })
    }
    /// The counters of a node.
    pub fn node(&self, node: NodeIndex) -> &MetricsRef {
        &self.nodes[node].0
    }
    /// Notes the watermark of one local instance; the node's is their lowest.
    pub(crate) fn set_watermark(&self, node: NodeIndex, local_worker: usize, watermark: Watermark) {
        let (metrics, instances) = &self.nodes[node];
        instances[local_worker].store(watermark.0, Ordering::Relaxed);
        let lowest = instances.iter().map(|w| w.load(Ordering::Relaxed)).min().unwrap_or(i64::MIN);
        metrics.watermark_ms.store(lowest, Ordering::Relaxed);
    }
}

/// Runs this process's workers until the job ends, fails or is aborted. Blocks.
///
/// Meets the other processes first (within 30 s, else a [`millstream_core::ErrorKind::Retry`] error). An error
/// that a worker met is reported as [`WorkerEvent::Failed`] and returned. If a peer process is lost the process exits at once
/// with code [`LOST_PEER_EXIT_CODE`].
pub fn run_worker(plan: WorkerPlan) -> Result<()> {
    crate::dataflow::run(plan)
}

/// The exit code of a process whose data plane broke (a lost peer, a panic).
pub const LOST_PEER_EXIT_CODE: i32 = 75;
