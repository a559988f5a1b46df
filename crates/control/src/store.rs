//! What a job's supervisor keeps between runs: its record, its checkpoints, and how a new run goes on from them.
//!
//! The order that exactly-once rests on: a manifest is durable before its output is committed; on the way back up what
//! the manifest lists as pending is committed before anything is read.

use crate::compactor::Compactor;
use crate::coordinator::Checkpoint;
use crate::meaning::meaning;
use crate::protocol::EpochAck;
use crate::random;
use crate::sink_storage::SinkStorage;
use crate::supervisor::{From, Job};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::error::{Error, ErrorKind, Result, ResultExt};
use millstream_core::graph::{JobGraph, NodeKind};
use millstream_core::key::HashRange;
use millstream_core::metrics::MetricsRef;
use millstream_core::operator::TableSpec;
use millstream_core::sink::{CommitContext, EpochStorage, HighMark, id_in_job};
use millstream_core::{fail_point, settings};
use millstream_runtime::RestoreProvider;
use millstream_state::dir::{JOB_RECORD_VERSION, JobRecord};
use millstream_state::manifest::{Blob, CheckpointStats, Manifest, OperatorEntry, StoredTable};
use millstream_state::restore::{check_shape, restore_table};
use millstream_state::store::CheckpointStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Epochs that an attempt may have begun beyond its last manifest: one being ended, one open, and one to spare.
const EPOCHS_AHEAD: u64 = 3;
/// Before a step of a checkpoint that failed is tried again.
const PAUSE_BEFORE_RETRY: Duration = Duration::from_millis(100);

/// What of a plan's node matters for stored state.
#[derive(Clone, Debug)]
pub struct OperatorInfo {
    /// The node's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is a source.
    pub source: bool,
    /// See [`OperatorEntry::meaning`].
    pub meaning: String,
    /// The shapes of its state tables.
    pub tables: Vec<TableSpec>,
}

impl OperatorInfo {
    /// Of all nodes of a graph.
    pub fn of_graph(graph: &JobGraph) -> Result<Vec<OperatorInfo>> {
        let info = |node: &millstream_core::graph::Node| {
            let tables = match &node.kind {
                NodeKind::Operator(spec) => millstream_runtime::operators::tables(spec, &graph.connections(node))?,
                NodeKind::Source(_) | NodeKind::Sink(_) => vec![],
            };
            let meaning = meaning(graph, node);
            let source = matches!(node.kind, NodeKind::Source(_));
            Ok(OperatorInfo { id: node.id.clone(), name: node.name.clone(), source, meaning, tables })
        };
        graph.nodes.iter().map(info).collect()
    }
}

/// How an attempt begins, and what has been stored since.
#[derive(Debug)]
pub struct Start {
    /// Names the job for ever.
    pub job_id: String,
    /// Counts the starts.
    pub attempt: u64,
    /// A number that no other start has, of this job or of a copy of it.
    pub run: u64,
    /// The first epoch of this attempt.
    pub first_epoch: u64,
    /// What it goes on from.
    pub manifest: Option<Manifest>,
    /// Checkpoints of older epochs are not of this run, nor of the one that it goes on from.
    oldest_epoch: u64,
    tables: BTreeMap<String, BTreeMap<String, StoredTable>>,
    instances: BTreeMap<String, Workers>,
    sources: BTreeMap<String, Workers>,
}

/// One blob a worker; those of the run before until the first of this one arrives.
#[derive(Debug, Default)]
struct Workers {
    restored: Vec<Blob>,
    current: BTreeMap<usize, Blob>,
}

impl Workers {
    fn blobs(&self) -> Vec<Blob> {
        if self.current.is_empty() { self.restored.clone() } else { self.current.values().cloned().collect() }
    }
}

/// Decides what the first attempt of a run begins with.
///
/// # Errors
/// When the stored state does not fit the plan, or can't be read.
pub fn begin(job: &mut Job) -> Result<Start> {
    fail_point!("start::before_read")?;
    let new_id = format!("{:016x}", random());
    let Some(state) = &job.state else {
        check_sinks(job)?;
        return Ok(Start::new(new_id, 1, 1, None));
    };
    let record = state.dir.read_job()?;
    let latest = state.checkpoints.list()?.last().copied().unwrap_or(0);
    let next_epoch = record.as_ref().map_or(1, |r| r.next_epoch).max(latest + EPOCHS_AHEAD);
    let attempt = record.as_ref().map_or(0, |r| r.attempt) + 1;
    let start = match (&state.from, &record) {
        (From::Checkpoint { store, manifest }, _) => {
            let manifest = manifest.as_ref();
            check_fits(manifest, &job.operators)?;
            check_sinks(job)?;
            job.sinks.iter().try_for_each(|(id, sink)| sink.check_take_over().context(format!("open sink {id}")))?;
            // A copy of another job's state: its pending output is not ours to commit.
            let own = record.as_ref().is_some_and(|r| r.job_id == manifest.job_id);
            let manifest = match own {
                true => manifest.clone(),
                false => Manifest {
                    job_id: new_id,
                    pending: BTreeMap::new(),
                    sink_objects: BTreeSet::new(),
                    ..manifest.clone()
                },
            };
            // Stored as this job's newest checkpoint, so that a restart goes on from it, too.
            let manifest = Manifest { epoch: next_epoch, attempt, ended: false, ..manifest };
            fail_point!("start::before_import")?;
            let prefix = format!("{next_epoch}-{attempt}-{:016x}", random());
            let manifest = state.checkpoints.import(store, &manifest, &prefix).context("take over a checkpoint")?;
            state.checkpoints.write_manifest(&manifest).context("take over a checkpoint")?;
            Start::new(manifest.job_id.clone(), attempt, next_epoch + 1, Some(manifest))
        }
        (From::Latest, Some(record)) if !record.finished => {
            let manifest = state.checkpoints.latest_of(&record.job_id, 0)?;
            match &manifest {
                Some(manifest) => check_fits(manifest, &job.operators)?,
                None => check_sinks(job)?,
            }
            Start::new(record.job_id.clone(), attempt, next_epoch, manifest)
        }
        (From::Latest | From::None, _) => {
            check_sinks(job)?;
            Start::new(new_id, attempt, next_epoch, None)
        }
    };
    record_start(job, &start)?;
    Ok(start)
}

/// What the next attempt of the same run begins with, after `failed`.
pub fn resume(job: &mut Job, failed: &Start) -> Result<Start> {
    fail_point!("start::before_read")?;
    let Some(state) = &job.state else {
        return Ok(Start::new(failed.job_id.clone(), failed.attempt + 1, 1, None));
    };
    let manifest = state.checkpoints.latest_of(&failed.job_id, failed.oldest_epoch)?;
    let latest = manifest.as_ref().map_or(0, |m| m.epoch);
    let first_epoch = (failed.first_epoch + EPOCHS_AHEAD).max(latest + EPOCHS_AHEAD);
    let start = Start {
        oldest_epoch: failed.oldest_epoch,
        ..Start::new(failed.job_id.clone(), failed.attempt + 1, first_epoch, manifest)
    };
    record_start(job, &start)?;
    Ok(start)
}

fn check_sinks(job: &Job) -> Result<()> {
    job.sinks.iter().try_for_each(|(id, sink)| sink.check().context(format!("open sink {id}")))
}

fn record_start(job: &Job, start: &Start) -> Result<()> {
    let Some(state) = &job.state else { return Ok(()) };
    fail_point!("start::before_record")?;
    state.dir.write_job(&JobRecord {
        version: JOB_RECORD_VERSION,
        job_id: start.job_id.clone(),
        next_epoch: start.first_epoch + EPOCHS_AHEAD,
        attempt: start.attempt,
        fingerprint: job.fingerprint.clone(),
        script: job.name.clone(),
        finished: false,
    })?;
    fail_point!("start::after_record")
}

impl Start {
    fn new(job_id: String, attempt: u64, first_epoch: u64, manifest: Option<Manifest>) -> Start {
        let mut start = Start {
            job_id,
            attempt,
            run: random(),
            first_epoch,
            oldest_epoch: manifest.as_ref().map_or(first_epoch, |m| m.epoch),
            manifest: None,
            tables: BTreeMap::new(),
            instances: BTreeMap::new(),
            sources: BTreeMap::new(),
        };
        if let Some(manifest) = &manifest {
            start.take_tables(manifest);
            for operator in &manifest.operators {
                let restored = operator.instances.clone();
                start.instances.insert(operator.id.clone(), Workers { restored, current: BTreeMap::new() });
            }
            for (id, blobs) in &manifest.sources {
                start.sources.insert(id.clone(), Workers { restored: blobs.clone(), current: BTreeMap::new() });
            }
        }
        start.manifest = manifest;
        start
    }

    fn take_tables(&mut self, manifest: &Manifest) {
        let tables = |o: &OperatorEntry| o.tables.iter().map(|t| (t.name.clone(), t.clone())).collect();
        self.tables = manifest.operators.iter().map(|o| (o.id.clone(), tables(o))).collect();
    }

    fn absorb(&mut self, ack: &EpochAck, operators: &[OperatorInfo]) -> Result<()> {
        for (operator, tables) in &ack.tables {
            for (table, segments) in tables {
                let stored = self.tables.entry(operator.clone()).or_default();
                if !stored.contains_key(table) {
                    let spec = operators
                        .iter()
                        .find(|o| o.id == *operator)
                        .and_then(|o| o.tables.iter().find(|t| t.name == *table))
                        .ok_or_else(|| Error::internal(format!("the plan has no state table {operator}.{table}")))?;
                    stored.insert(table.clone(), StoredTable::of(spec)?);
                }
                if let Some(stored) = stored.get_mut(table) {
                    segments.iter().filter(|s| !s.is_empty()).for_each(|s| stored.push(s.clone()));
                }
            }
        }
        for (from, into) in [(&ack.instances, &mut self.instances), (&ack.sources, &mut self.sources)] {
            for (id, workers) in from {
                for (worker, text) in workers {
                    into.entry(id.clone()).or_default().current.insert(*worker, decode(text)?);
                }
            }
        }
        Ok(())
    }
}

fn decode(text: &str) -> Result<Blob> {
    let bytes = STANDARD.decode(text).map_err(|e| Error::internal(format!("a worker process sent bad base64: {e}")))?;
    Ok(Blob::from(bytes))
}

/// Commits what the manifest lists as pending and removes what later epochs left behind. If a sink's target has seen
/// more of this job than the job's own record says (which is then an older copy), the attempt begins above that.
pub fn recover_sinks(job: &Job, start: &mut Start) -> Result<()> {
    fail_point!("recover_sinks::before")?;
    let storage = job.state.as_ref().map(|state| {
        Arc::new(SinkStorage::new(state.checkpoints.clone(), start.attempt, None)) as Arc<dyn EpochStorage>
    });
    loop {
        let seen = recover_each_sink(job, start, storage.as_ref())?;
        let (is_ahead, is_later) = (seen.epoch >= start.first_epoch, seen.attempt > start.attempt);
        if is_ahead || is_later {
            start.first_epoch = start.first_epoch.max(seen.epoch + 1);
            start.attempt = start.attempt.max(seen.attempt);
            record_start(job, start)?;
        }
        // All sinks are to know the same attempt.
        if !is_later || job.sinks.len() == 1 {
            break;
        }
    }
    fail_point!("recover_sinks::after")
}

/// What the targets have seen of the job.
fn recover_each_sink(job: &Job, start: &Start, storage: Option<&Arc<dyn EpochStorage>>) -> Result<HighMark> {
    let epoch = start.manifest.as_ref().map_or(0, |m| m.epoch);
    let mut seen = HighMark::default();
    for (id, sink) in &job.sinks {
        let mut committer = sink.committer_in(CommitContext {
            job_id: id_in_job(&start.job_id, id),
            attempt: start.attempt,
            run: start.run,
            instances: job.instances,
            is_recovery: true,
            storage: storage.cloned(),
            metrics: MetricsRef::default(),
        })?;
        if let Some(manifest) = &start.manifest {
            let pending: Vec<Vec<u8>> = manifest.pending.get(id).into_iter().flatten().map(|b| b.0.to_vec()).collect();
            committer
                .commit(manifest.epoch, &pending, manifest.ended)
                .context(format!("commit what checkpoint {epoch} left pending in sink {id}"))?;
        }
        fail_point!("recover_sinks::between")?;
        committer.abort_after(epoch).context(format!("clean up after checkpoint {epoch} in sink {id}"))?;
        let mark = committer.high_mark();
        seen = HighMark { epoch: seen.epoch.max(mark.epoch), attempt: seen.attempt.max(mark.attempt) };
    }
    Ok(seen)
}

/// Writes a checkpoint's manifest; when this returns it is durable. Gives the bytes of state that it names.
///
/// # Errors
/// When it could not be stored. That older checkpoints could not be deleted is told to `job.notify` only.
pub fn store(
    job: &mut Job,
    start: &mut Start,
    checkpoint: &Checkpoint,
    compactor: Option<&mut Compactor>,
) -> Result<u64> {
    let mut pending: BTreeMap<String, Vec<Blob>> = BTreeMap::new();
    let mut stats = CheckpointStats::default();
    for ack in &checkpoint.acks {
        start.absorb(ack, &job.operators)?;
        stats.bytes += ack.bytes;
        for (sink, committables) in &ack.committables {
            for text in committables {
                pending.entry(sink.clone()).or_default().push(decode(text)?);
            }
        }
    }
    let (Some(state), Some(compactor)) = (&job.state, compactor) else { return Ok(0) };
    let text_of = |id: &str, text: fn(&OperatorInfo) -> &String| {
        job.operators.iter().find(|o| o.id == id).map_or_else(String::new, |o| text(o).clone())
    };
    let mut ids: Vec<&String> = start.tables.keys().chain(start.instances.keys()).collect();
    ids.sort();
    ids.dedup();
    let operators = ids
        .into_iter()
        .map(|id| OperatorEntry {
            id: id.clone(),
            name: text_of(id, |o| &o.name),
            meaning: text_of(id, |o| &o.meaning),
            tables: start.tables.get(id).map(|t| t.values().cloned().collect()).unwrap_or_default(),
            instances: start.instances.get(id).map(Workers::blobs).unwrap_or_default(),
        })
        .collect();
    let mut manifest = Manifest {
        epoch: checkpoint.epoch,
        attempt: start.attempt,
        job_id: start.job_id.clone(),
        fingerprint: job.fingerprint.clone(),
        created_ms: job.clock.now_ms(),
        ended: checkpoint.ended,
        operators,
        sources: start.sources.iter().map(|(id, w)| (id.clone(), w.blobs())).collect(),
        pending,
        sink_objects: checkpoint.acks.iter().flat_map(|ack| ack.sink_objects.iter().cloned()).collect(),
        stats,
    };
    if let Err(error) = compactor.apply(&mut manifest) {
        if !error.kind().is_restartable() {
            return Err(error);
        }
        // The segments stay as they are, and are merged another time.
        (job.notify)(&format!("segments of the job's state could not be merged: {error}"));
    }
    let tolerable = job.settings.number(settings::CHECKPOINT_TOLERABLE_FAILURES);
    tolerate(tolerable, || state.checkpoints.write_manifest(&manifest))
        .context(format!("store checkpoint {}", checkpoint.epoch))?;
    start.take_tables(&manifest);
    if let Err(error) = state.checkpoints.retain(job.settings.number(settings::CHECKPOINT_RETAINED) as usize) {
        (job.notify)(&format!("older checkpoints could not be deleted: {error}"));
    }
    compactor.start(&manifest)?;
    Ok(manifest.state_bytes())
}

/// Tries a step of a checkpoint again when it fails in a way that may heal, at most `failures` times.
pub(crate) fn tolerate<T>(failures: u64, mut step: impl FnMut() -> Result<T>) -> Result<T> {
    let mut failed = 0;
    loop {
        match step() {
            Err(error) if failed < failures && error.kind() == ErrorKind::Retry => failed += 1,
            outcome => return outcome,
        }
        std::thread::sleep(PAUSE_BEFORE_RETRY);
    }
}

/// Notes that a job that has read all its input is done, so that the next run starts anew.
pub fn finish(job: &Job, start: &Start, ended: bool) -> Result<()> {
    let Some(state) = &job.state else { return Ok(()) };
    fail_point!("finish::before")?;
    if let (true, Some(record)) = (ended, state.dir.read_job()?) {
        assert!(record.job_id == start.job_id, "the state directory is locked, so its record is this job's");
        state.dir.write_job(&JobRecord { finished: true, ..record })?;
    }
    fail_point!("finish::after")
}

/// Refuses state that the plan can't take over.
fn check_fits(manifest: &Manifest, operators: &[OperatorInfo]) -> Result<()> {
    let refuse = |detail: String| {
        Error::state("the script no longer fits the state of its last run")
            .detail(detail)
            .hint("go back to the script that wrote it, or start with --from none to begin without state")
    };
    for stored in &manifest.operators {
        let has_state = !stored.instances.is_empty() || stored.tables.iter().any(|t| !t.segments.is_empty());
        let Some(now) = operators.iter().find(|o| o.id == stored.id) else {
            if has_state {
                return Err(refuse(format!("the script has no operator {} ({}) any more", stored.id, stored.name)));
            }
            continue;
        };
        if has_state && stored.meaning != now.meaning {
            return Err(refuse(format!("operator {} was {}, now it is {}", stored.id, stored.meaning, now.meaning)));
        }
        for table in &stored.tables {
            let spec = now.tables.iter().find(|t| t.name == table.name).ok_or_else(|| {
                refuse(format!("operator {} has no state table '{}' any more", stored.id, table.name))
            })?;
            check_shape(table, spec)
                .map_err(|e| refuse(format!("operator {}: {}", stored.id, e.details().join("; "))))?;
        }
    }
    for id in manifest.sources.keys() {
        if !operators.iter().any(|o| o.source && o.id == *id) {
            return Err(refuse(format!("the script has no source {id} any more")));
        }
    }
    Ok(())
}

/// Restored state for the data plane, read from a manifest.
pub struct Restore {
    store: Arc<CheckpointStore>,
    manifest: Manifest,
}

impl Restore {
    /// Of the manifest of that epoch.
    pub fn open(store: Arc<CheckpointStore>, epoch: u64) -> Result<Restore> {
        fail_point!("worker::before_restore")?;
        let manifest = store.load(epoch)?;
        Ok(Restore { store, manifest })
    }
}

impl RestoreProvider for Restore {
    fn rows(
        &self,
        node_id: &str,
        table: &TableSpec,
        range: HashRange,
        each: &mut dyn FnMut(arrow::array::RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let Some(stored) = self.manifest.table(node_id, &table.name) else { return Ok(()) };
        let mut each = |rows| {
            each(rows)?;
            fail_point!("worker::mid_restore")
        };
        restore_table(&self.store, stored, table, range, &mut each)
            .context(format!("restore table '{}' of operator {node_id}", table.name))?;
        fail_point!("worker::after_restore")
    }
    fn instances(&self, node_id: &str) -> Result<Vec<Vec<u8>>> {
        let blobs = self.manifest.operator(node_id).map(|o| o.instances.as_slice()).unwrap_or_default();
        Ok(blobs.iter().map(|b| b.0.to_vec()).collect())
    }
    fn positions(&self, node_id: &str) -> Result<Option<Vec<Vec<u8>>>> {
        let blobs = self.manifest.sources.get(node_id);
        Ok(blobs.map(|b| b.iter().map(|b| b.0.to_vec()).collect()))
    }
}
