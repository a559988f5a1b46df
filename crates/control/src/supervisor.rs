//! The supervisor of one job: starts its worker processes, carries out what the coordinator decides, and starts
//! the job again from its last checkpoint when it fails.

use crate::compactor::Compactor;
use crate::coordinator::{Action, Checkpoint, Coordinator, Pace};
use crate::door::Door;
use crate::drift::Drift;
use crate::heartbeat::Heartbeats;
use crate::protocol::{self, FromWorker, Progress, Sender, ToWorker};
use crate::random;
use crate::restart::RestartStrategy;
use crate::store;
use millstream_core::error::{Error, Result, ResultExt};
use millstream_core::fail_point;
use millstream_core::settings::{self, Settings};
use millstream_core::sink::Sink;
use millstream_core::time::ClockRef;
use millstream_state::compact::CompactionPolicy;
use millstream_state::dir::StateDir;
use millstream_state::manifest::Manifest;
use millstream_state::store::CheckpointStore;
use std::net::SocketAddr;
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as Events, channel};
use std::time::{Duration, Instant};

/// The shortest time after which a silent worker process counts as lost.
const MIN_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a job needs to be supervised.
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// The plan's fingerprint: workers must have the same.
    pub fingerprint: String,
    /// The plan, for naming what differs from stored state.
    pub operators: Vec<store::OperatorInfo>,
    /// Its sinks by node id.
    pub sinks: Vec<(String, Arc<dyn Sink>)>,
    /// How many worker processes.
    pub processes: usize,
    /// How many workers in all of them: each has an instance of every node.
    pub instances: usize,
    /// Where checkpoints are kept; `None`: this job has none (its result goes to a person).
    pub state: Option<JobState>,
    /// Starts worker process `i`, which connects to the address with the token.
    pub spawn: Box<dyn Fn(usize, SocketAddr, u64) -> Result<Child>>,
    /// Whether somebody asked for a final checkpoint and the job's end.
    pub stop_requested: Box<dyn Fn() -> bool>,
    /// Is told how things go, a few times a second.
    pub observe: Box<dyn FnMut(&Status)>,
    /// Is told what a person should know although the job goes on, a sentence.
    pub notify: Box<dyn FnMut(&str)>,
    /// The clock.
    pub clock: ClockRef,
}

/// Where a job's state is and what to begin with.
pub struct JobState {
    /// The state directory, locked.
    pub dir: StateDir,
    /// The checkpoints.
    pub checkpoints: CheckpointStore,
    /// What to start from.
    pub from: From,
}

/// What to start from.
#[derive(Clone, Debug)]
pub enum From {
    /// The latest checkpoint, if the last run did not finish.
    Latest,
    /// Nothing: anew.
    None,
    /// This checkpoint, of this job or another one.
    Checkpoint {
        /// Where it is.
        store: CheckpointStore,
        /// Its manifest.
        manifest: Box<Manifest>,
    },
}

/// How a job is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The counters of each process, by process.
    pub progress: Vec<Progress>,
    /// Checkpoints completed in this run.
    pub checkpoints: u64,
    /// When the last one completed.
    pub last_checkpoint_ms: Option<i64>,
    /// Bytes of state that it names, as stored.
    pub state_bytes: u64,
    /// Restarts in this run.
    pub restarts: u64,
    /// Whether the job runs (not starting or waiting to be started again).
    pub running: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// All input was read (else: stopped by request).
    pub ended: bool,
    /// The last status.
    pub status: Status,
    /// Which checkpoint it went on from, if any.
    pub restored_from: Option<u64>,
}

enum Event {
    Connected(protocol::Sender, protocol::Receiver, FromWorker),
    Message(u64, usize, FromWorker),
    Lost(u64, usize),
}

/// Runs the job until it ends, is stopped, or fails for good.
///
/// # Errors
/// What made the job fail, once the restart strategy gives up; at once for what a restart can't heal.
pub fn supervise(mut job: Job) -> Result<Outcome> {
    check_settings(&job.settings)?;
    let mut start = store::begin(&mut job)?;
    let restored_from = start.manifest.as_ref().map(|m| m.epoch);
    let mut strategy = RestartStrategy::from_settings(&job.settings);
    let mut status = Status::default();
    let mut seed = random() | 1;
    let mut compactor = job.state.as_ref().map(|state| {
        let inline_below = job.settings.memory(settings::STATE_INLINE_BELOW) as usize;
        let policy = CompactionPolicy { inline_below, ..CompactionPolicy::default() };
        Compactor::new(state.checkpoints.clone(), policy)
    });
    loop {
        if start.manifest.as_ref().is_some_and(|m| m.ended) {
            // All input was read, and the process died while it committed the rest of the output.
            store::recover_sinks(&job, &mut start)?;
            store::finish(&job, &start, true)?;
            return Ok(Outcome { ended: true, status, restored_from });
        }
        let error = match attempt(&mut job, &mut start, &mut status, compactor.as_mut()) {
            Ok(ended) => {
                store::finish(&job, &start, ended)?;
                return Ok(Outcome { ended, status, restored_from });
            }
            Err(error) => error,
        };
        status.running = false;
        if !error.kind().is_restartable() {
            return Err(error);
        }
        let stopped = "the job was asked to stop; started again it goes on from its last checkpoint";
        if (job.stop_requested)() {
            return Err(error.detail(stopped));
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (seed >> 11) as f64 / (1u64 << 53) as f64;
        let Some(delay) = strategy.on_failure(job.clock.now_ms(), random) else {
            return Err(error.detail("the restart strategy allows no further restart"));
        };
        (job.notify)(&format!("the job failed and starts again in {} ms: {error}", delay.as_millis()));
        let until = job.clock.now_ms() + delay.as_millis() as i64;
        while job.clock.now_ms() < until {
            if (job.stop_requested)() {
                return Err(error.detail(stopped));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        status.restarts += 1;
        start = store::resume(&mut job, &start)?;
    }
}

/// Refuses values that can't work, before anything runs.
fn check_settings(s: &Settings) -> Result<()> {
    if s.duration(settings::HEARTBEAT_TIMEOUT) < MIN_HEARTBEAT_TIMEOUT {
        let key = settings::HEARTBEAT_TIMEOUT;
        return Err(Error::script(format!(
            "setting '{key}' must be at least {} ms",
            MIN_HEARTBEAT_TIMEOUT.as_millis()
        ))
        .hint("a worker process is heard of five times a second"));
    }
    Ok(())
}

/// Child processes that die with the value.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

fn attempt(
    job: &mut Job,
    start: &mut store::Start,
    status: &mut Status,
    compactor: Option<&mut Compactor>,
) -> Result<bool> {
    store::recover_sinks(job, start)?;
    let token = random();
    let (events, inbox) = channel();
    let newcomers = events.clone();
    let admit = move |sender, receiver, hello| drop(newcomers.send(Event::Connected(sender, receiver, hello)));
    let door = Door::open(token, admit).context("listen for worker processes")?;
    let mut children = Children(Vec::new());
    for process in 0..job.processes {
        fail_point!("supervisor::before_spawn")?;
        children.0.push((job.spawn)(process, door.address(), token)?);
    }
    fail_point!("supervisor::after_spawn")?;
    let senders = rendezvous(job, start, &events, &inbox, &mut children)?;
    let pace = Pace {
        interval_ms: if job.state.is_some() {
            job.settings.duration(settings::CHECKPOINT_INTERVAL).as_millis() as i64
        } else {
            0
        },
        min_pause_ms: job.settings.duration(settings::CHECKPOINT_MIN_PAUSE).as_millis() as i64,
        timeout_ms: job.settings.duration(settings::CHECKPOINT_TIMEOUT).as_millis() as i64,
        tolerable_failures: job.settings.number(settings::CHECKPOINT_TOLERABLE_FAILURES),
    };
    let coordinator = Coordinator::new(pace, job.processes, start.first_epoch, job.clock.now_ms());
    status.running = true;
    status.progress = vec![Progress::default(); job.processes];
    let heartbeats = Heartbeats::new(job.settings.duration(settings::HEARTBEAT_TIMEOUT), job.processes);
    let drift = Drift::of(job.processes);
    let mut run = Run { job, start, status, senders, coordinator, compactor, heartbeats, drift };
    let ended = run.events(&inbox, &mut children)?;
    fail_point!("supervisor::before_exit")?;
    for sender in &run.senders {
        // A process that is already gone needs no goodbye.
        let _ = sender.send(&ToWorker::Exit);
    }
    wait_for_exit(&mut children);
    Ok(ended)
}

/// Gives children that were told to exit a moment to do so.
fn wait_for_exit(children: &mut Children) {
    for _ in 0..200 {
        if children.0.iter_mut().all(|c| matches!(c.try_wait(), Ok(Some(_)))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn rendezvous(
    job: &mut Job,
    start: &store::Start,
    events: &Events<Event>,
    inbox: &Receiver<Event>,
    children: &mut Children,
) -> Result<Vec<Sender>> {
    let mut senders: Vec<Option<Sender>> = vec![None; job.processes];
    let mut addresses: Vec<Option<SocketAddr>> = vec![None; job.processes];
    let deadline = job.clock.now_ms() + 60_000;
    while senders.iter().any(Option::is_none) {
        if job.clock.now_ms() > deadline {
            return Err(Error::retry("the worker processes did not start within 60 s"));
        }
        check_children(children)?;
        match inbox.recv_timeout(Duration::from_millis(20)) {
            Ok(Event::Connected(sender, mut receiver, hello)) => {
                let FromWorker::Hello { process, address, fingerprint, .. } = hello else { continue };
                if fingerprint != job.fingerprint {
                    return Err(Error::internal(format!("worker process {process} planned the script differently")));
                }
                if let (Some(s), Some(a)) = (senders.get_mut(process), addresses.get_mut(process)) {
                    (*s, *a) = (Some(sender), address);
                }
                let (events, attempt) = (events.clone(), start.attempt);
                std::thread::spawn(move || {
                    loop {
                        let event = match receiver.receive::<FromWorker>() {
                            Ok(Some(message)) => Event::Message(attempt, process, message),
                            Ok(None) | Err(_) => Event::Lost(attempt, process),
                        };
                        let lost = matches!(event, Event::Lost(..));
                        if events.send(event).is_err() || lost {
                            return;
                        }
                    }
                });
            }
            Ok(Event::Message(_, _, FromWorker::Failed(error))) => return Err(error.into()),
            Ok(Event::Message(..) | Event::Lost(..)) | Err(_) => {}
        }
    }
    let senders: Vec<Sender> = senders.into_iter().flatten().collect();
    let message = ToWorker::Start {
        job_id: start.job_id.clone(),
        attempt: start.attempt,
        run: start.run,
        first_epoch: start.first_epoch,
        restore: start.manifest.as_ref().map(|m| m.epoch),
        addresses: addresses.into_iter().flatten().collect(),
        started_ms: job.clock.now_ms(),
    };
    for sender in &senders {
        fail_point!("supervisor::before_start")?;
        sender.send(&message)?;
    }
    Ok(senders)
}

/// An error if a worker process has exited.
fn check_children(children: &mut Children) -> Result<()> {
    for (process, child) in children.0.iter_mut().enumerate() {
        if let Some(exit) = child.try_wait()? {
            return Err(Error::retry(format!("worker process {process} is gone ({exit})")));
        }
    }
    Ok(())
}

struct Run<'a> {
    job: &'a mut Job,
    start: &'a mut store::Start,
    status: &'a mut Status,
    senders: Vec<Sender>,
    coordinator: Coordinator,
    compactor: Option<&'a mut Compactor>,
    heartbeats: Heartbeats,
    drift: Drift,
}

impl Run<'_> {
    fn events(&mut self, inbox: &Receiver<Event>, children: &mut Children) -> Result<bool> {
        let mut observed_ms = 0;
        loop {
            let action = match inbox.recv_timeout(Duration::from_millis(10)) {
                Ok(Event::Message(attempt, process, message)) if attempt == self.start.attempt => {
                    self.heartbeats.heard(process);
                    match self.on_message(process, message) {
                        Ok(action) => action,
                        Err(error) => return Err(self.cause_of(error, inbox)),
                    }
                }
                Ok(Event::Lost(attempt, process)) if attempt == self.start.attempt => {
                    let error = self.why_lost(process, inbox, children);
                    return Err(self.cause_of(error, inbox));
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("the control connections are gone")),
            };
            if let Some(ended) = self.carry_out(action)? {
                return Ok(ended);
            }
            if (self.job.stop_requested)() {
                self.coordinator.request_stop();
            }
            let now_ms = self.job.clock.now_ms();
            self.heartbeats.tick(now_ms)?;
            let action = self.coordinator.on_tick(now_ms)?;
            if let Some(ended) = self.carry_out(action)? {
                return Ok(ended);
            }
            if now_ms - observed_ms >= 200 {
                observed_ms = now_ms;
                (self.job.observe)(self.status);
            }
        }
    }

    /// A worker's connection ended: its exit code tells more, and another process may have said why.
    fn why_lost(&mut self, process: usize, inbox: &Receiver<Event>, children: &mut Children) -> Error {
        let mut exit = None;
        for _ in 0..100 {
            while let Ok(event) = inbox.try_recv() {
                if let Event::Message(_, _, FromWorker::Failed(error)) = event {
                    return error.into();
                }
            }
            exit = children.0.get_mut(process).and_then(|c| c.try_wait().ok().flatten());
            if exit.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        match exit {
            Some(exit) => Error::retry(format!("worker process {process} is gone ({exit})")),
            None => Error::retry(format!("worker process {process} closed its connection")),
        }
    }

    /// A process that fails closes its connections to the others, who may say so before it says why itself: of what
    /// the processes report within a moment, that which a restart can't heal counts.
    fn cause_of(&self, error: Error, inbox: &Receiver<Event>) -> Error {
        let deadline = Instant::now() + Duration::from_millis(300);
        while error.kind().is_restartable() && self.job.processes > 1 {
            match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Message(attempt, _, FromWorker::Failed(other))) if attempt == self.start.attempt => {
                    let other = Error::from(other);
                    if !other.kind().is_restartable() {
                        return other;
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        error
    }

    fn on_message(&mut self, process: usize, message: FromWorker) -> Result<Option<Action>> {
        match message {
            FromWorker::EpochStored(ack) => Ok(self.coordinator.on_stored_by(*ack)),
            FromWorker::Committed(epoch) => {
                fail_point!("coordinator::on_committed")?;
                Ok(self.coordinator.on_committed_by(process, epoch, self.job.clock.now_ms()))
            }
            FromWorker::Progress(progress) => {
                for (other, slowest) in self.drift.hear(process, &progress.slowest) {
                    // One that is gone is noticed by those who read from it.
                    let _ = self.senders[other].send(&ToWorker::SlowestElsewhere(slowest));
                }
                if let Some(slot) = self.status.progress.get_mut(process) {
                    *slot = progress;
                }
                Ok(None)
            }
            FromWorker::Failed(error) => Err(error.into()),
            FromWorker::Hello { .. } | FromWorker::Running => Ok(None),
        }
    }

    fn carry_out(&mut self, mut action: Option<Action>) -> Result<Option<bool>> {
        while let Some(next) = action.take() {
            match next {
                Action::EndEpoch { epoch, stop } => {
                    fail_point!("coordinator::before_trigger")?;
                    self.broadcast(&ToWorker::EndEpoch { epoch, stop }, || fail_point!("coordinator::mid_trigger"))?;
                }
                Action::TimedOut { epoch } => {
                    let timeout_ms = self.job.settings.duration(settings::CHECKPOINT_TIMEOUT).as_millis();
                    (self.job.notify)(&format!("checkpoint {epoch} did not complete within {timeout_ms} ms"));
                }
                Action::Store(checkpoint) => {
                    fail_point!("coordinator::before_manifest")?;
                    self.store(&checkpoint)?;
                    fail_point!("coordinator::after_manifest")?;
                    action = self.coordinator.stored();
                }
                Action::Commit { epoch, last } => {
                    self.broadcast(&ToWorker::Commit { epoch, last }, || fail_point!("coordinator::mid_commit"))?;
                }
                Action::Finish { ended } => return Ok(Some(ended)),
            }
        }
        Ok(None)
    }

    fn store(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.status.state_bytes = store::store(self.job, self.start, checkpoint, self.compactor.as_deref_mut())?;
        self.status.checkpoints += 1;
        self.status.last_checkpoint_ms = Some(self.job.clock.now_ms());
        Ok(())
    }

    /// Tells every process, and calls `between` after each.
    fn broadcast(&self, message: &ToWorker, between: impl Fn() -> Result<()>) -> Result<()> {
        for (process, sender) in self.senders.iter().enumerate() {
            sender
                .send(message)
                .map_err(|e| Error::retry(format!("worker process {process} can't be reached: {}", e.message())))?;
            between()?;
        }
        Ok(())
    }
}
