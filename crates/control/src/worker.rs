//! The worker process's side of the protocol: runs the data plane, stores its epochs, commits its sinks' output.

use crate::protocol::{self, EpochAck, FromWorker, NodeProgress, Progress, Sender, ToWorker, WireError};
use crate::sink_storage::SinkStorage;
use crate::store::tolerate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::error::{Error, Result, ResultExt};
use millstream_core::fail_point;
use millstream_core::graph::{JobGraph, NodeKind};
use millstream_core::settings::{self, Settings};
use millstream_core::sink::{CommitContext, Committer, EpochStorage, id_in_job};
use millstream_core::time::ClockRef;
use millstream_runtime::{
    JobMetrics, LOST_PEER_EXIT_CODE, RestoreProvider, WorkerControl, WorkerEvent, WorkerPlan, drift, run_worker,
};
use millstream_state::segment::{DeltaWriter, EncodedSegment, pack};
use millstream_state::store::CheckpointStore;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the counters are sent.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What a worker process runs.
pub struct WorkerJob {
    /// The plan.
    pub graph: Arc<JobGraph>,
    /// Its settings.
    pub settings: Settings,
    /// Proves to the supervisor that both planned the same.
    pub fingerprint: String,
    /// Where the supervisor listens.
    pub supervisor: SocketAddr,
    /// The secret that admits this process.
    pub token: u64,
    /// Which process it is, from 0.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// Workers in each.
    pub workers: usize,
    /// Where state is stored; `None`: the job keeps none.
    pub checkpoints: Option<Arc<CheckpointStore>>,
    /// The clock.
    pub clock: ClockRef,
    /// The folder for what memory has no room for.
    pub scratch: PathBuf,
}

/// Runs this process's share of the job until the supervisor says to exit.
///
/// # Errors
/// What made the job fail; the supervisor has been told.
pub fn work(job: WorkerJob) -> Result<()> {
    die_of_panics();
    fail_point!("worker::before_hello")?;
    let stream = TcpStream::connect(job.supervisor).context("reach the supervisor")?;
    let (sender, receiver) = protocol::split(stream)?;
    let outcome = run(job, sender.clone(), receiver);
    if let Err(error) = &outcome {
        // If the supervisor is gone, too, there is nobody left to tell.
        let _ = sender.send(&FromWorker::Failed(WireError::from(error)));
    }
    outcome
}

/// How timely's threads panic when a connection to another process ends.
const LOST_PEER_PANIC: &str = "timely communication error";

/// A thread that panics takes the whole process with it: the others would wait for it for ever.
///
/// Nothing is said of a peer that is gone: the supervisor knows better why, and at a job's end one process is
/// always the first to leave.
fn die_of_panics() {
    std::panic::set_hook(Box::new(|info| {
        let said = info.to_string();
        if !said.contains(LOST_PEER_PANIC) {
            eprintln!("millstream worker: {}", said.replace('\n', " "));
        }
        std::process::exit(LOST_PEER_EXIT_CODE);
    }));
}

enum Work {
    Event(WorkerEvent),
    Commit { epoch: u64, last: bool },
}

fn run(job: WorkerJob, sender: Sender, mut receiver: protocol::Receiver) -> Result<()> {
    let listener = match job.processes {
        1 => None,
        _ => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the other worker processes")?),
    };
    let address = match &listener {
        Some(listener) => Some(listener.local_addr()?),
        None => None,
    };
    sender.send(&FromWorker::Hello {
        version: protocol::VERSION,
        token: job.token,
        process: job.process,
        address,
        fingerprint: job.fingerprint.clone(),
    })?;
    let Some(ToWorker::Start { job_id, attempt, run, first_epoch, restore, addresses, .. }) = receiver.receive()?
    else {
        return Ok(());
    };
    let restore: Option<Arc<dyn RestoreProvider>> = match (&job.checkpoints, restore) {
        (Some(store), Some(epoch)) => Some(Arc::new(crate::store::Restore::open(Arc::clone(store), epoch)?)),
        _ => None,
    };
    millstream_runtime::memory::limit(job.settings.memory(settings::MEMORY), job.scratch.clone());
    if job.processes > 1 {
        drift::expect_others();
    }
    let (work, inbox) = channel();
    let control = WorkerControl::new();
    let metrics = JobMetrics::new(&job.graph, job.workers);
    let failed = Arc::new(Mutex::new(None::<Error>));
    listen(receiver, control.clone(), work.clone());
    report_progress(&job, Arc::clone(&metrics), sender.clone());
    let sinks = job
        .checkpoints
        .as_ref()
        .map(|store| Arc::new(SinkStorage::new(CheckpointStore::clone(store), attempt, Some(job.process))));
    let sink_storage = sinks.clone().map(|s| s as Arc<dyn EpochStorage>);
    let storer = Storer {
        store: job.checkpoints.clone(),
        process: job.process,
        workers: job.workers,
        attempt,
        inline_below: job.settings.memory(settings::STATE_INLINE_BELOW) as usize,
        tolerable_failures: job.settings.number(settings::CHECKPOINT_TOLERABLE_FAILURES),
        epochs: BTreeMap::new(),
        ended: BTreeSet::new(),
        committers: committers(&job, &job_id, (attempt, run), sink_storage.as_ref(), &metrics)?,
        sinks,
        prepared: BTreeMap::new(),
        sender: sender.clone(),
        progress: progress_of(&job, Arc::clone(&metrics)),
    };
    let storing = {
        let (control, failed) = (control.clone(), Arc::clone(&failed));
        std::thread::spawn(move || {
            let mut storer = storer;
            if let Err(error) = storer.run(&inbox) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                control.abort();
            }
        })
    };
    let events = work.clone();
    let plan = WorkerPlan {
        graph: Arc::clone(&job.graph),
        settings: job.settings.clone(),
        process: job.process,
        processes: job.processes,
        workers_per_process: job.workers,
        addresses,
        listener,
        token: job.token,
        job_id,
        attempt,
        run,
        first_epoch,
        restore,
        sink_storage,
        clock: Arc::clone(&job.clock),
        metrics,
        control,
        // If the storing thread is gone it has failed, and aborts the workers.
        on_event: Arc::new(move |event| drop(events.send(Work::Event(event)))),
    };
    sender.send(&FromWorker::Running)?;
    let outcome = run_worker(plan);
    if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    outcome?;
    // The last epoch is still to be stored and committed; the supervisor says when that is done.
    drop(work);
    let _ = storing.join();
    match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Hands the supervisor's words on, until it says to exit.
fn listen(mut receiver: protocol::Receiver, control: WorkerControl, work: std::sync::mpsc::Sender<Work>) {
    std::thread::spawn(move || {
        loop {
            match receiver.receive::<ToWorker>() {
                Ok(Some(ToWorker::EndEpoch { epoch, stop })) => {
                    if stop {
                        control.stop_sources();
                    }
                    control.end_epoch(epoch);
                }
                Ok(Some(ToWorker::Commit { epoch, last })) => {
                    control.committed(epoch);
                    if work.send(Work::Commit { epoch, last }).is_err() {
                        return;
                    }
                }
                Ok(Some(ToWorker::SlowestElsewhere(slowest))) => drift::hear_of_others(slowest),
                Ok(Some(ToWorker::Start { .. })) => {}
                // All is stored and committed: nothing is lost by ending here.
                Ok(Some(ToWorker::Exit)) => {
                    let failed = fail_point!("worker::before_exit").is_err();
                    std::process::exit(i32::from(failed))
                }
                Ok(None) | Err(_) => std::process::exit(LOST_PEER_EXIT_CODE),
            }
        }
    });
}

fn committers(
    job: &WorkerJob,
    job_id: &str,
    (attempt, run): (u64, u64),
    storage: Option<&Arc<dyn EpochStorage>>,
    metrics: &JobMetrics,
) -> Result<BTreeMap<String, Box<dyn Committer>>> {
    let mut committers = BTreeMap::new();
    for (index, node) in job.graph.nodes.iter().enumerate() {
        if let NodeKind::Sink(sink) = &node.kind {
            let ctx = CommitContext {
                job_id: id_in_job(job_id, &node.id),
                attempt,
                run,
                instances: job.processes * job.workers,
                is_recovery: false,
                storage: storage.cloned(),
                metrics: Arc::clone(metrics.node(index)),
            };
            committers.insert(node.id.clone(), sink.committer_in(ctx)?);
        }
    }
    Ok(committers)
}

fn progress_of(job: &WorkerJob, metrics: Arc<JobMetrics>) -> impl Fn() -> Progress + Send + 'static {
    let (graph, process) = (Arc::clone(&job.graph), job.process);
    move || {
        let node = |(i, n): (usize, &millstream_core::graph::Node)| {
            let m = metrics.node(i);
            let progress = NodeProgress {
                rows_in: m.rows_in.load(Ordering::Relaxed),
                rows_out: m.rows_out.load(Ordering::Relaxed),
                late_rows: m.late_rows.load(Ordering::Relaxed),
                bad_records: m.bad_records.load(Ordering::Relaxed),
                retries: m.retries.load(Ordering::Relaxed),
                watermark_ms: m.watermark_ms.load(Ordering::Relaxed),
            };
            (n.id.clone(), progress)
        };
        let nodes = graph.nodes.iter().enumerate().map(node).collect();
        Progress { process, nodes, slowest: drift::slowest_here() }
    }
}

fn report_progress(job: &WorkerJob, metrics: Arc<JobMetrics>, sender: Sender) {
    let progress = progress_of(job, metrics);
    std::thread::spawn(move || {
        while sender.send(&FromWorker::Progress(progress())).is_ok() {
            std::thread::sleep(PROGRESS_EVERY);
        }
    });
}

/// What has been handed over of an epoch that is not complete yet.
#[derive(Default)]
struct Epoch {
    ack: EpochAck,
    segments: Vec<(String, String, EncodedSegment)>,
    done: BTreeSet<usize>,
}

/// Encodes, stores and commits, on a thread of its own.
struct Storer<P> {
    store: Option<Arc<CheckpointStore>>,
    process: usize,
    workers: usize,
    attempt: u64,
    /// Segments smaller than this are kept in the manifest.
    inline_below: usize,
    /// How often in a row storing an epoch may fail.
    tolerable_failures: u64,
    epochs: BTreeMap<u64, Epoch>,
    ended: BTreeSet<usize>,
    committers: BTreeMap<String, Box<dyn Committer>>,
    /// What the sinks of this process have stored.
    sinks: Option<Arc<SinkStorage>>,
    prepared: BTreeMap<u64, BTreeMap<String, Vec<Vec<u8>>>>,
    sender: Sender,
    progress: P,
}

impl<P: Fn() -> Progress> Storer<P> {
    fn run(&mut self, inbox: &Receiver<Work>) -> Result<()> {
        loop {
            match inbox.recv_timeout(Duration::from_secs(1)) {
                Ok(Work::Event(event)) => self.on_event(event)?,
                Ok(Work::Commit { epoch, last }) => self.commit(epoch, last)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn on_event(&mut self, event: WorkerEvent) -> Result<()> {
        match event {
            WorkerEvent::Snapshot { epoch, worker, node_id, delta, tables, range } => {
                if self.store.is_none() {
                    return Ok(());
                }
                let slot = self.epochs.entry(epoch).or_default();
                if let Some(bytes) = &delta.instance {
                    slot.ack.instances.entry(node_id.clone()).or_default().insert(worker, STANDARD.encode(bytes));
                }
                for table in &delta.tables {
                    let spec = tables.iter().find(|t| t.name == table.table).ok_or_else(|| {
                        Error::internal(format!("operator {node_id} has no state table '{}'", table.table))
                    })?;
                    let segment = DeltaWriter::encode(spec, table, epoch, range)?;
                    slot.segments.push((node_id.clone(), table.table.clone(), segment));
                }
            }
            WorkerEvent::SourcePosition { epoch, node_id, worker, bytes } => {
                let slot = self.epochs.entry(epoch).or_default();
                slot.ack.sources.entry(node_id).or_default().insert(worker, STANDARD.encode(bytes));
            }
            WorkerEvent::Prepared { epoch, node_id, committables, .. } => {
                if !committables.is_empty() {
                    let texts = committables.iter().map(|c| STANDARD.encode(c));
                    let slot = self.epochs.entry(epoch).or_default();
                    slot.ack.committables.entry(node_id.clone()).or_default().extend(texts);
                    self.prepared.entry(epoch).or_default().entry(node_id).or_default().extend(committables);
                }
            }
            WorkerEvent::EpochDone { epoch, worker, ended } => {
                if ended {
                    self.ended.insert(worker);
                }
                self.epochs.entry(epoch).or_default().done.insert(worker);
                self.acknowledge(epoch)?;
            }
            WorkerEvent::Ended { .. } => {}
            WorkerEvent::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn acknowledge(&mut self, epoch: u64) -> Result<()> {
        let complete = self.epochs.get(&epoch).is_some_and(|e| e.done.union(&self.ended).count() == self.workers);
        if !complete {
            return Ok(());
        }
        let Some(Epoch { mut ack, segments, .. }) = self.epochs.remove(&epoch) else { return Ok(()) };
        ack.process = self.process;
        ack.epoch = epoch;
        ack.ended = self.ended.len() == self.workers;
        ack.sink_objects = self.sinks.as_ref().map(|s| s.take(epoch)).unwrap_or_default();
        if let Some(store) = &self.store {
            let name = format!("{epoch:012}-{}-{}.seg", self.attempt, self.process);
            let (names, encoded): (Vec<_>, Vec<_>) = segments.into_iter().map(|(o, t, s)| ((o, t), s)).unzip();
            let (segments, object) = pack(encoded, &name, self.inline_below);
            if !object.is_empty() {
                ack.bytes += object.iter().map(|part| part.len() as u64).sum::<u64>();
                tolerate(self.tolerable_failures, || store.put_segment_object(&name, &object))?;
            }
            for ((operator, table), segment) in names.into_iter().zip(segments) {
                ack.tables.entry(operator).or_default().entry(table).or_default().push(segment);
            }
        }
        // The counters first, so that those of the last epoch are known when the job ends.
        self.sender.send(&FromWorker::Progress((self.progress)()))?;
        fail_point!("worker::before_ack")?;
        self.sender.send(&FromWorker::EpochStored(Box::new(ack)))?;
        fail_point!("worker::after_ack")
    }

    fn commit(&mut self, epoch: u64, last: bool) -> Result<()> {
        fail_point!("worker::before_commit")?;
        let later = self.prepared.split_off(&(epoch + 1));
        let mut due = std::mem::replace(&mut self.prepared, later);
        for (node, committer) in &mut self.committers {
            let mut committables = Vec::new();
            for prepared in due.values_mut() {
                committables.extend(prepared.remove(node).unwrap_or_default());
            }
            committer.commit(epoch, &committables, last).context(format!("commit epoch {epoch} of sink {node}"))?;
            fail_point!("worker::between_commits")?;
        }
        fail_point!("worker::before_committed")?;
        self.sender.send(&FromWorker::Committed(epoch))
    }
}
