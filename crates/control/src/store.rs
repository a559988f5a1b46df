//! What a job's supervisor keeps between runs: its record, its checkpoints, and how a new run goes on from them.
//!
//! The order that exactly-once rests on: a manifest is durable before its output is committed; on the way back up what
//! the manifest lists as pending is committed before anything is read.

use crate::coordinator::Checkpoint;
use crate::protocol::EpochAck;
use crate::supervisor::{From, Job};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::error::{Error, Place, Result, ResultExt};
use millstream_core::graph::{JobGraph, NodeKind};
use millstream_core::key::HashRange;
use millstream_core::operator::TableSpec;
use millstream_core::{Schema, settings};
use millstream_runtime::RestoreProvider;
use millstream_state::dir::{JOB_RECORD_VERSION, JobRecord};
use millstream_state::manifest::{Blob, CheckpointStats, Manifest, OperatorEntry, StoredTable};
use millstream_state::restore::{check_shape, restore_table};
use millstream_state::store::{CheckpointStore, manifest_name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Epochs that an attempt may have begun beyond its last manifest: one being ended, one open, and one to spare.
const EPOCHS_AHEAD: u64 = 3;

/// What of a plan's node matters for stored state.
#[derive(Clone, Debug)]
pub struct OperatorInfo {
    /// The node's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is a source.
    pub source: bool,
    /// The shapes of its state tables.
    pub tables: Vec<TableSpec>,
}

impl OperatorInfo {
    /// Of all nodes of a graph.
    pub fn of_graph(graph: &JobGraph) -> Result<Vec<OperatorInfo>> {
        let info = |node: &millstream_core::graph::Node| {
            let tables = match &node.kind {
                NodeKind::Operator(spec) => {
                    let inputs: Vec<Schema> = node.inputs.iter().map(|e| graph.nodes[e.from].schema.clone()).collect();
                    millstream_runtime::operators::tables(spec, &inputs, &node.schema)?
                }
                NodeKind::Source(_) | NodeKind::Sink(_) => vec![],
            };
            let source = matches!(node.kind, NodeKind::Source(_));
            Ok(OperatorInfo { id: node.id.clone(), name: node.name.clone(), source, tables })
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
    /// The first epoch of this attempt.
    pub first_epoch: u64,
    /// What it goes on from.
    pub manifest: Option<Manifest>,
    /// The manifest's name, for the workers.
    pub manifest_name: Option<String>,
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
    let new_id = format!("{:016x}", job.random);
    let Some(state) = &job.state else {
        check_sinks(job)?;
        return Ok(Start::new(new_id, 1, 1, None));
    };
    let record = state.dir.read_job()?;
    let latest = state.checkpoints.list()?.last().copied().unwrap_or(0);
    let unfinished = record.as_ref().filter(|r| !r.finished);
    let (job_id, manifest) = match &state.from {
        From::Path(path) => {
            let manifest = load_named(&state.checkpoints, path)?;
            match &record {
                Some(r) if r.job_id == manifest.job_id => (r.job_id.clone(), Some(manifest)),
                // A copy of another job's state: its pending output is not ours to commit.
                _ => (new_id, Some(Manifest { pending: BTreeMap::new(), ..manifest })),
            }
        }
        From::Latest if unfinished.is_some() => {
            let id = unfinished.map(|r| r.job_id.clone()).unwrap_or(new_id);
            let manifest = state.checkpoints.latest()?.filter(|m| m.job_id == id);
            (id, manifest)
        }
        From::Latest | From::None => (new_id, None),
    };
    if let Some(manifest) = &manifest {
        check_fits(manifest, &job.operators)?;
    } else {
        check_sinks(job)?;
    }
    let next_epoch = record.as_ref().map_or(1, |r| r.next_epoch);
    let attempt = record.as_ref().map_or(0, |r| r.attempt) + 1;
    let start = Start::new(job_id, attempt, next_epoch.max(latest + EPOCHS_AHEAD), manifest);
    record_start(job, &start)?;
    Ok(start)
}

/// What the next attempt of the same run begins with, after a failure.
pub fn resume(job: &mut Job) -> Result<Start> {
    let Some(state) = &job.state else {
        return Ok(Start::new(format!("{:016x}", job.random), 1, 1, None));
    };
    let record = state.dir.read_job()?.ok_or_else(|| Error::state("the job's record is gone").at(place(job)))?;
    let manifest = state.checkpoints.latest()?.filter(|m| m.job_id == record.job_id);
    let latest = manifest.as_ref().map_or(0, |m| m.epoch);
    let first_epoch = record.next_epoch.max(latest + EPOCHS_AHEAD);
    let start = Start::new(record.job_id, record.attempt + 1, first_epoch, manifest);
    record_start(job, &start)?;
    Ok(start)
}

fn place(job: &Job) -> Place {
    Place::Named(job.state.as_ref().map_or_else(|| job.name.clone(), |s| s.dir.path().display().to_string()))
}

fn check_sinks(job: &Job) -> Result<()> {
    job.sinks.iter().try_for_each(|(id, sink)| sink.check().context(format!("open sink {id}")))
}

fn record_start(job: &Job, start: &Start) -> Result<()> {
    let Some(state) = &job.state else { return Ok(()) };
    state.dir.write_job(&JobRecord {
        version: JOB_RECORD_VERSION,
        job_id: start.job_id.clone(),
        next_epoch: start.first_epoch + EPOCHS_AHEAD,
        attempt: start.attempt,
        fingerprint: job.fingerprint.clone(),
        script: job.name.clone(),
        finished: false,
    })
}

impl Start {
    fn new(job_id: String, attempt: u64, first_epoch: u64, manifest: Option<Manifest>) -> Start {
        let mut start = Start {
            job_id,
            attempt,
            first_epoch,
            manifest_name: manifest.as_ref().map(|m| manifest_name(m.epoch)),
            manifest: None,
            tables: BTreeMap::new(),
            instances: BTreeMap::new(),
            sources: BTreeMap::new(),
        };
        if let Some(manifest) = &manifest {
            for operator in &manifest.operators {
                let tables = operator.tables.iter().map(|t| (t.name.clone(), t.clone())).collect();
                start.tables.insert(operator.id.clone(), tables);
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

/// Commits what the manifest lists as pending and removes what later epochs left behind.
pub fn recover_sinks(job: &Job, start: &Start) -> Result<()> {
    let epoch = start.manifest.as_ref().map_or(0, |m| m.epoch);
    for (id, sink) in &job.sinks {
        let mut committer = sink.committer_of(&start.job_id)?;
        if let Some(manifest) = &start.manifest {
            let pending: Vec<Vec<u8>> = manifest.pending.get(id).into_iter().flatten().map(|b| b.0.to_vec()).collect();
            committer
                .commit(manifest.epoch, &pending, manifest.ended)
                .context(format!("commit what checkpoint {epoch} left pending in sink {id}"))?;
        }
        committer.abort_after(epoch).context(format!("clean up after checkpoint {epoch} in sink {id}"))?;
    }
    Ok(())
}

/// Writes a checkpoint's manifest; when this returns it is durable.
pub fn store(job: &Job, start: &mut Start, checkpoint: Checkpoint) -> Result<()> {
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
    let Some(state) = &job.state else { return Ok(()) };
    let name_of = |id: &str| job.operators.iter().find(|o| o.id == id).map_or_else(String::new, |o| o.name.clone());
    let mut ids: Vec<&String> = start.tables.keys().chain(start.instances.keys()).collect();
    ids.sort();
    ids.dedup();
    let operators = ids
        .into_iter()
        .map(|id| OperatorEntry {
            id: id.clone(),
            name: name_of(id),
            tables: start.tables.get(id).map(|t| t.values().cloned().collect()).unwrap_or_default(),
            instances: start.instances.get(id).map(Workers::blobs).unwrap_or_default(),
        })
        .collect();
    let manifest = Manifest {
        epoch: checkpoint.epoch,
        attempt: start.attempt,
        job_id: start.job_id.clone(),
        fingerprint: job.fingerprint.clone(),
        created_ms: job.clock.now_ms(),
        ended: checkpoint.ended,
        operators,
        sources: start.sources.iter().map(|(id, w)| (id.clone(), w.blobs())).collect(),
        pending,
        stats,
    };
    state.checkpoints.write_manifest(&manifest).context(format!("store checkpoint {}", checkpoint.epoch))?;
    state.checkpoints.retain(job.settings.number(settings::CHECKPOINT_RETAINED).max(1) as usize)
}

/// Notes that a job that has read all its input is done, so that the next run starts anew.
pub fn finish(job: &Job, start: &Start, ended: bool) -> Result<()> {
    let Some(state) = &job.state else { return Ok(()) };
    if let (true, Some(record)) = (ended, state.dir.read_job()?) {
        assert!(record.job_id == start.job_id, "the state directory is locked, so its record is this job's");
        state.dir.write_job(&JobRecord { finished: true, ..record })?;
    }
    Ok(())
}

fn load_named(store: &CheckpointStore, path: &str) -> Result<Manifest> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let epoch = name.strip_prefix("manifest-").and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok());
    let Some(epoch) = epoch else {
        return Err(Error::script(format!("--from {path} names no checkpoint"))
            .hint("give latest, none, or the path of a manifest-<epoch>.json in the job's checkpoints folder"));
    };
    store.load(epoch)
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
    /// Of the manifest of that name.
    pub fn open(store: Arc<CheckpointStore>, name: &str) -> Result<Restore> {
        let manifest = load_named(&store, name)?;
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
        match self.manifest.table(node_id, &table.name) {
            Some(stored) => restore_table(&self.store, stored, table, range, each)
                .context(format!("restore table '{}' of operator {node_id}", table.name)),
            None => Ok(()),
        }
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
