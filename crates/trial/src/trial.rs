//! Taking a job through a course of epochs and crashes.

use crate::memory::{Handed, Memory};
use crate::stage::Stage;
use millstream_core::graph::{JobGraph, NodeKind};
use millstream_core::settings::Settings;
use millstream_core::time::{ClockRef, ManualClock};
use millstream_core::{Batch, Error, Result};
use millstream_runtime::{JobMetrics, RestoreProvider, WorkerControl, WorkerEvent, WorkerPlan, run_worker};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A planned job and its tables.
pub struct Trial {
    /// What reads and writes; its tables are those that the job was planned with.
    pub stage: Arc<Stage>,
    /// The job as it is planned for so many workers.
    pub plan: Box<dyn Fn(usize) -> Result<(Arc<JobGraph>, Settings)>>,
}

/// What has happened when an epoch ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// What the clock shows, milliseconds since 1970 UTC; it never goes back.
    pub now_ms: i64,
    /// How many rows have come in all, of each table in the order of [`Stage::inputs`].
    pub rows: Vec<usize>,
}

/// A crash after a part of the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// So many epochs are durable; of the next one, what was read is lost.
    pub after: usize,
    /// How many workers the job goes on with.
    pub workers: usize,
}

/// What a job is taken through.
#[derive(Clone, Debug)]
pub struct Course {
    /// How many workers it begins with.
    pub workers: usize,
    /// Its epochs; the inputs end after the last one.
    pub epochs: Vec<Epoch>,
    /// Its crashes, in order, each after more epochs than the one before.
    pub crashes: Vec<Crash>,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What each table was given, in the order of its arrival as far as there is one.
    pub written: BTreeMap<String, Vec<Batch>>,
    /// Rows that operators dropped as late; rows that were read again after a crash may count twice.
    pub late_rows: u64,
}

/// A job that does nothing for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often a failure is looked for while readers are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Epochs that an attempt may have begun beyond its last durable one.
const EPOCHS_AHEAD: u64 = 3;

impl Trial {
    /// Runs the job to its end.
    ///
    /// # Errors
    /// What made the job fail. If it does nothing for a minute: an internal error.
    pub fn run(&self, course: &Course) -> Result<Outcome> {
        self.stage.catches().iter().for_each(|catch| drop(catch.take()));
        let mut past = Past { memory: Memory::new()?, epoch: 0, attempt: 0, at: 0, late_rows: 0 };
        let mut workers = course.workers;
        for crash in &course.crashes {
            self.attempt(&mut past, workers, course, Some(crash.after))?;
            workers = crash.workers;
        }
        self.attempt(&mut past, workers, course, None)?;
        let written = self.stage.catches().iter().map(|catch| (catch.name.clone(), catch.take())).collect();
        Ok(Outcome { written, late_rows: past.late_rows })
    }

    /// Goes on from what is durable until so many epochs are, or to the end.
    fn attempt(&self, past: &mut Past, workers: usize, course: &Course, until: Option<usize>) -> Result<()> {
        let (graph, settings) = (self.plan)(workers)?;
        self.stage.feeds().iter().for_each(|feed| feed.reset());
        past.attempt += 1;
        past.memory.begin();
        let restore: Option<Arc<dyn RestoreProvider>> = match past.epoch {
            0 => None,
            _ => Some(Arc::new(past.memory.clone())),
        };
        let clock = course.epochs.get(past.at.saturating_sub(1)).map_or(0, |epoch| epoch.now_ms);
        let clock = Arc::new(ManualClock::at(clock));
        let heard = Arc::new(Heard::default());
        let (control, metrics) = (WorkerControl::new(), JobMetrics::new(&graph, workers));
        let on_event = {
            let heard = Arc::clone(&heard);
            Arc::new(move |event| heard.take(event))
        };
        past.epoch += EPOCHS_AHEAD;
        let plan = WorkerPlan {
            graph: Arc::clone(&graph),
            settings,
            process: 0,
            processes: 1,
            workers_per_process: workers,
            addresses: vec![],
            listener: None,
            token: 0,
            job_id: "trial".into(),
            attempt: past.attempt,
            run: past.attempt,
            first_epoch: past.epoch,
            restore,
            sink_storage: None,
            clock: Arc::clone(&clock) as ClockRef,
            metrics: Arc::clone(&metrics),
            control: control.clone(),
            on_event,
        };
        let running = std::thread::spawn(move || run_worker(plan));
        let mut attempt =
            Attempt { trial: self, past, workers, readers: readers(&graph, workers), heard, control, clock };
        let outcome = attempt.go(course, until);
        if outcome.is_err() || until.is_some() {
            attempt.control.abort();
        }
        let ended = running.join();
        let late = |node| metrics.node(node).late_rows.load(Ordering::Relaxed);
        past.late_rows += (0..graph.nodes.len()).map(late).sum::<u64>();
        self.stage.catches().iter().for_each(|catch| catch.crash());
        outcome?;
        ended.map_err(|_| Error::internal("the workers panicked"))?
    }
}

/// How many readers each table has, by its name.
fn readers(graph: &JobGraph, workers: usize) -> BTreeMap<String, usize> {
    let mut readers = BTreeMap::new();
    for node in &graph.nodes {
        if let NodeKind::Source(source) = &node.kind {
            *readers.entry(source.source.describe()).or_default() += workers;
        }
    }
    readers
}

/// What is durable.
struct Past {
    memory: Memory,
    /// The highest epoch that was begun, and never is again.
    epoch: u64,
    attempt: u64,
    /// How many epochs of the course are durable.
    at: usize,
    late_rows: u64,
}

/// What the workers have said.
#[derive(Default)]
struct Heard {
    state: Mutex<Said>,
    said: Condvar,
}

#[derive(Default)]
struct Said {
    epochs: BTreeMap<u64, Handed>,
    last_epoch: Option<u64>,
    failed: Option<Error>,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn take(&self, event: WorkerEvent) {
        let mut said = self.lock();
        let outcome = match event {
            WorkerEvent::Snapshot { epoch, worker, node_id, delta, tables, range } => {
                let handed = said.epochs.entry(epoch).or_default();
                handed.snapshot((epoch, worker), &node_id, delta, &tables, range)
            }
            WorkerEvent::SourcePosition { epoch, node_id, worker, bytes } => {
                said.epochs.entry(epoch).or_default().position(node_id, worker, bytes);
                Ok(())
            }
            WorkerEvent::EpochDone { epoch, ended, .. } => {
                said.epochs.entry(epoch).or_default().done += 1;
                if ended {
                    said.last_epoch = Some(epoch);
                }
                Ok(())
            }
            WorkerEvent::Prepared { .. } | WorkerEvent::Ended { .. } => Ok(()),
            WorkerEvent::Failed(error) => Err(error),
        };
        if let Err(error) = outcome {
            said.failed.get_or_insert(error);
        }
        drop(said);
        self.said.notify_all();
    }
    /// Waits until all `workers` are through with `epoch`, or with the last one.
    fn wait(&self, epoch: Option<u64>, workers: usize) -> Result<(u64, Handed)> {
        let until = Instant::now() + STUCK_AFTER;
        let mut said = self.lock();
        loop {
            if let Some(error) = &said.failed {
                return Err(error.clone());
            }
            if let Some(epoch) = epoch.or(said.last_epoch)
                && said.epochs.get(&epoch).is_some_and(|handed| handed.done == workers)
                && let Some(handed) = said.epochs.remove(&epoch)
            {
                return Ok((epoch, handed));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(stuck("an epoch did not end"));
            }
            said = self.said.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn stuck(what: &str) -> Error {
    Error::internal(format!("the job is stuck: {what} within {} s", STUCK_AFTER.as_secs()))
}

/// One start of the job, until it crashes or ends.
struct Attempt<'a> {
    trial: &'a Trial,
    past: &'a mut Past,
    workers: usize,
    readers: BTreeMap<String, usize>,
    heard: Arc<Heard>,
    control: WorkerControl,
    clock: Arc<ManualClock>,
}

impl Attempt<'_> {
    fn go(&mut self, course: &Course, until: Option<usize>) -> Result<()> {
        let none = vec![0; self.trial.stage.feeds().len()];
        let mut rows =
            self.past.at.checked_sub(1).and_then(|at| course.epochs.get(at)).map_or(none, |e| e.rows.clone());
        let mut now_ms = None;
        while let Some(epoch) = course.epochs.get(self.past.at) {
            if until == Some(self.past.at) {
                // What is read now is lost.
                return self.lift(&epoch.rows, false);
            }
            if now_ms != Some(epoch.now_ms) {
                // What waits for this time comes before the rows of this time.
                self.clock.set(epoch.now_ms);
                now_ms = Some(epoch.now_ms);
                self.lift(&rows, false)?;
                self.end_epoch()?;
            }
            rows.clone_from(&epoch.rows);
            self.lift(&rows, false)?;
            self.end_epoch()?;
            self.past.at += 1;
        }
        if until.is_some() {
            return Ok(());
        }
        self.lift(&rows, true)?;
        self.take_epoch(None)
    }

    /// Lets the readers go on, and waits until they have given what they may.
    fn lift(&self, rows: &[usize], ended: bool) -> Result<()> {
        let feeds = self.trial.stage.feeds().clone();
        feeds.iter().zip(rows).for_each(|(feed, rows)| feed.lift(*rows, ended));
        let until = Instant::now() + STUCK_AFTER;
        for feed in feeds {
            let readers = self.readers.get(&feed.source().describe()).copied().unwrap_or(0);
            while !feed.wait(readers, LOOK_EVERY) {
                if let Some(error) = &self.heard.lock().failed {
                    return Err(error.clone());
                }
                if Instant::now() > until {
                    return Err(stuck("rows were not read"));
                }
            }
        }
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<()> {
        self.control.end_epoch(self.past.epoch);
        self.take_epoch(Some(self.past.epoch))?;
        self.past.epoch += 1;
        Ok(())
    }

    fn take_epoch(&mut self, epoch: Option<u64>) -> Result<()> {
        let (epoch, handed) = self.heard.wait(epoch, self.workers)?;
        self.past.memory.absorb(handed)?;
        self.trial.stage.catches().iter().for_each(|catch| catch.commit(epoch));
        self.control.committed(epoch);
        Ok(())
    }
}
