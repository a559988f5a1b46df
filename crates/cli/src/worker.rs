//! A worker process: reads what to do from its standard input, plans the same script, and runs its share.

use crate::plan::PlanSpec;
use crate::{limits, run, signals};
use millstream_control::worker::WorkerJob;
use millstream_core::error::{Error, Result};
use millstream_core::graph::NodeKind;
use millstream_core::time::SystemClock;
use millstream_state::store::CheckpointStore;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code of a worker whose supervisor is gone.
const ORPHAN_EXIT_CODE: i32 = 74;

/// What a worker process is told at its start.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// What to plan.
    pub plan: PlanSpec,
    /// Where the supervisor listens.
    pub supervisor: SocketAddr,
    /// The secret that admits it.
    pub token: u64,
    /// Which process it is, from 0.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// Workers in each.
    pub workers: usize,
    /// Where checkpoints are, if the job has any.
    pub checkpoints: Option<String>,
    /// Where sources begin if the job starts anew, by node id.
    pub starts: BTreeMap<String, String>,
    /// The folder for what memory has no room for.
    pub scratch: PathBuf,
    /// The file with the limits of what tables give a second, if there can be one.
    pub limits: Option<PathBuf>,
}

/// `millstream worker`
pub fn work() -> ExitCode {
    let job = match prepare() {
        Ok(job) => job,
        Err(error) => return crate::failed(&error),
    };
    match millstream_control::worker::work(job) {
        Ok(()) => ExitCode::SUCCESS,
        // The supervisor has been told, and tells the person.
        Err(error) => ExitCode::from(error.kind().exit_code() as u8),
    }
}

fn prepare() -> Result<WorkerJob> {
    signals::die_with_parent();
    signals::ignore_interrupts();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let spec: WorkerSpec = serde_json::from_str(&line)
        .map_err(|e| Error::script(format!("'worker' is started by 'run', not by hand: {e}")))?;
    std::thread::spawn(|| {
        // Ends when the supervisor does, however it does.
        let _ = std::io::stdin().lock().read(&mut [0u8; 1]);
        std::process::exit(ORPHAN_EXIT_CODE);
    });
    if let Some(file) = spec.limits {
        limits::follow(file);
    }
    let mut planned = spec.plan.plan()?;
    for node in &mut planned.graph.nodes {
        if let (NodeKind::Source(source), Some(start)) = (&mut node.kind, spec.starts.get(&node.id)) {
            source.source = source.source.starting_at(start)?;
        }
    }
    let checkpoints = match &spec.checkpoints {
        Some(location) => Some(Arc::new(CheckpointStore::open(location, &run::environment(&planned.settings))?)),
        None => None,
    };
    Ok(WorkerJob {
        graph: Arc::new(planned.graph),
        settings: planned.settings,
        fingerprint: planned.fingerprint,
        supervisor: spec.supervisor,
        token: spec.token,
        process: spec.process,
        processes: spec.processes,
        workers: spec.workers,
        checkpoints,
        clock: Arc::new(SystemClock),
        scratch: spec.scratch,
    })
}
