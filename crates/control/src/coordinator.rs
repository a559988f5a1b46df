//! When epochs end and checkpoints complete: the coordinator's decisions, as a state machine without I/O.
//!
//! What must hold:
//! - One epoch is ended at a time; its output is committed everywhere before the next one is ended.
//! - A checkpoint is stored only when every process has stored the epoch, or has ended before it.
//! - Output is committed only after its checkpoint is stored.
//! - A checkpoint holds nothing that a process did in a later epoch, unless all have ended.
//! - A process that has ended takes part in every later epoch with nothing.

use crate::protocol::EpochAck;
use millstream_core::error::{Error, Result};
use std::collections::BTreeSet;

/// How checkpoints are paced; milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between the starts of two checkpoints; 0: none but the last.
    pub interval_ms: i64,
    /// Between the end of one and the start of the next.
    pub min_pause_ms: i64,
    /// A checkpoint that takes longer has failed; its epoch is still waited for.
    pub timeout_ms: i64,
    /// How many checkpoints in a row may fail before the job does.
    pub tolerable_failures: u64,
}

/// What the supervisor has to do next.
#[derive(Debug)]
pub enum Action {
    /// Tell every process to end the epoch.
    EndEpoch {
        /// The epoch.
        epoch: u64,
        /// Sources read no further.
        stop: bool,
    },
    /// Tell the person that a checkpoint takes longer than its timeout, which is tolerated.
    TimedOut {
        /// Its epoch.
        epoch: u64,
    },
    /// Store the checkpoint's manifest, then call [`Coordinator::stored`].
    Store(Checkpoint),
    /// Tell every process to commit.
    Commit {
        /// The epoch.
        epoch: u64,
        /// Nothing follows.
        last: bool,
    },
    /// The job is over: all input was read (`ended`), or it was stopped.
    Finish {
        /// Whether all input was read.
        ended: bool,
    },
}

/// A complete checkpoint, to be stored.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its epoch.
    pub epoch: u64,
    /// What the processes stored since the last one, in the order of epochs.
    pub acks: Vec<EpochAck>,
    /// All input was read.
    pub ended: bool,
}

#[derive(Debug, PartialEq)]
enum Phase {
    Running,
    Ending { epoch: u64 },
    Storing { epoch: u64, ended: bool },
    Committing { epoch: u64, ended: bool, waiting: BTreeSet<usize> },
    Finished,
}

/// The coordinator of one attempt of a job.
#[derive(Debug)]
pub struct Coordinator {
    pace: Pace,
    processes: usize,
    open_epoch: u64,
    phase: Phase,
    acks: Vec<EpochAck>,
    ended: BTreeSet<usize>,
    stop: bool,
    stopping: bool,
    last_start_ms: i64,
    last_end_ms: i64,
    /// Since when the checkpoint under way is; `None`: until the next tick.
    since_ms: Option<i64>,
    timeouts: u64,
}

impl Coordinator {
    /// A job of `processes` whose first epoch is `first_epoch`, started at `now_ms`.
    pub fn new(pace: Pace, processes: usize, first_epoch: u64, now_ms: i64) -> Self {
        Coordinator {
            pace,
            processes,
            open_epoch: first_epoch,
            phase: Phase::Running,
            acks: Vec::new(),
            ended: BTreeSet::new(),
            stop: false,
            stopping: false,
            last_start_ms: now_ms,
            last_end_ms: now_ms,
            since_ms: None,
            timeouts: 0,
        }
    }

    /// Asks for a final checkpoint, after which the job finishes.
    pub fn request_stop(&mut self) {
        self.stop = true;
    }

    /// Time has passed.
    ///
    /// # Errors
    /// When a checkpoint takes longer than its timeout, more often than is tolerated.
    pub fn on_tick(&mut self, now_ms: i64) -> Result<Option<Action>> {
        match self.phase {
            Phase::Running if self.ended.len() == self.processes => Ok(self.complete(self.open_epoch)),
            Phase::Running => {
                let due = self.pace.interval_ms > 0
                    && now_ms - self.last_start_ms >= self.pace.interval_ms
                    && now_ms - self.last_end_ms >= self.pace.min_pause_ms;
                if !(due || self.stop) {
                    return Ok(None);
                }
                let epoch = self.open_epoch;
                self.open_epoch += 1;
                self.last_start_ms = now_ms;
                self.stopping = self.stop;
                self.since_ms = Some(now_ms);
                self.phase = Phase::Ending { epoch };
                Ok(Some(Action::EndEpoch { epoch, stop: self.stopping }))
            }
            Phase::Ending { epoch } => match self.late(epoch, now_ms)? {
                None => Ok(self.complete(epoch)),
                late => Ok(late),
            },
            Phase::Committing { epoch, .. } => self.late(epoch, now_ms),
            Phase::Storing { .. } | Phase::Finished => Ok(None),
        }
    }

    /// Whether the checkpoint under way takes longer than its timeout.
    fn late(&mut self, epoch: u64, now_ms: i64) -> Result<Option<Action>> {
        if now_ms - *self.since_ms.get_or_insert(now_ms) <= self.pace.timeout_ms {
            return Ok(None);
        }
        self.timeouts += 1;
        if self.timeouts <= self.pace.tolerable_failures {
            self.since_ms = Some(now_ms);
            return Ok(Some(Action::TimedOut { epoch }));
        }
        Err(Error::retry(format!("checkpoint {epoch} did not complete within {} ms", self.pace.timeout_ms))
            .hint("a slow sink holds checkpoints back; see the setting 'execution.checkpointing.timeout'"))
    }

    /// A process stored an epoch.
    pub fn on_stored_by(&mut self, ack: EpochAck) -> Option<Action> {
        if ack.ended {
            self.ended.insert(ack.process);
        }
        self.acks.push(ack);
        match self.phase {
            Phase::Ending { epoch } => self.complete(epoch),
            Phase::Running if self.ended.len() == self.processes => self.complete(self.open_epoch),
            _ => None,
        }
    }

    fn complete(&mut self, epoch: u64) -> Option<Action> {
        let done = |p: usize| self.ended.contains(&p) || self.acks.iter().any(|a| a.process == p && a.epoch == epoch);
        if !(0..self.processes).all(done) {
            return None;
        }
        let ended = self.ended.len() == self.processes;
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.acks).into_iter().partition(|a| ended || a.epoch <= epoch);
        self.acks = later;
        let mut acks = now;
        acks.sort_by_key(|a| (a.epoch, a.process));
        let epoch = acks.iter().map(|a| a.epoch).max().unwrap_or(epoch).max(epoch);
        self.open_epoch = self.open_epoch.max(epoch + 1);
        self.phase = Phase::Storing { epoch, ended };
        Some(Action::Store(Checkpoint { epoch, acks, ended }))
    }

    /// The checkpoint's manifest is durable.
    pub fn stored(&mut self) -> Option<Action> {
        let Phase::Storing { epoch, ended } = self.phase else { return None };
        self.phase = Phase::Committing { epoch, ended, waiting: (0..self.processes).collect() };
        Some(Action::Commit { epoch, last: ended })
    }

    /// A process committed an epoch.
    pub fn on_committed_by(&mut self, process: usize, committed: u64, now_ms: i64) -> Option<Action> {
        let Phase::Committing { epoch, ended, waiting } = &mut self.phase else { return None };
        if committed != *epoch {
            return None;
        }
        waiting.remove(&process);
        if !waiting.is_empty() {
            return None;
        }
        let ended = *ended;
        self.last_end_ms = now_ms;
        (self.since_ms, self.timeouts) = (None, 0);
        if ended || self.stopping {
            self.phase = Phase::Finished;
            return Some(Action::Finish { ended });
        }
        self.phase = Phase::Running;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { interval_ms: 100, min_pause_ms: 50, timeout_ms: 1000, tolerable_failures: 0 };

    fn ack(process: usize, epoch: u64, ended: bool) -> EpochAck {
        EpochAck { process, epoch, ended, ..EpochAck::default() }
    }

    fn show(action: Option<Action>) -> String {
        match action {
            None => "-".into(),
            Some(Action::EndEpoch { epoch, stop }) => format!("end {epoch} stop={stop}"),
            Some(Action::TimedOut { epoch }) => format!("timed out {epoch}"),
            Some(Action::Store(c)) => format!("store {} of {} acks ended={}", c.epoch, c.acks.len(), c.ended),
            Some(Action::Commit { epoch, last }) => format!("commit {epoch} last={last}"),
            Some(Action::Finish { ended }) => format!("finish ended={ended}"),
        }
    }

    #[test]
    fn a_checkpoint_waits_for_every_process_and_commits_after_it_is_stored() {
        let mut c = Coordinator::new(PACE, 2, 7, 0);
        assert_eq!(show(c.on_tick(99).unwrap()), "-");
        assert_eq!(show(c.on_tick(100).unwrap()), "end 7 stop=false");
        assert_eq!(show(c.on_stored_by(ack(1, 7, false))), "-");
        assert_eq!(show(c.on_stored_by(ack(0, 7, false))), "store 7 of 2 acks ended=false");
        assert_eq!(show(c.on_tick(300).unwrap()), "-");
        assert_eq!(show(c.stored()), "commit 7 last=false");
        assert_eq!(show(c.on_committed_by(0, 7, 310)), "-");
        assert_eq!(show(c.on_tick(400).unwrap()), "-");
        assert_eq!(show(c.on_committed_by(1, 7, 400)), "-");
        assert_eq!(show(c.on_tick(449).unwrap()), "-");
        assert_eq!(show(c.on_tick(450).unwrap()), "end 8 stop=false");
    }

    #[test]
    fn a_process_that_ended_does_not_hold_later_checkpoints() {
        let mut c = Coordinator::new(PACE, 2, 1, 0);
        assert_eq!(show(c.on_stored_by(ack(0, 1, true))), "-");
        assert_eq!(show(c.on_tick(100).unwrap()), "end 1 stop=false");
        assert_eq!(show(c.on_stored_by(ack(1, 1, false))), "store 1 of 2 acks ended=false");
        c.stored();
        c.on_committed_by(0, 1, 120);
        c.on_committed_by(1, 1, 120);
        assert_eq!(show(c.on_tick(300).unwrap()), "end 2 stop=false");
        assert_eq!(show(c.on_stored_by(ack(1, 2, true))), "store 2 of 1 acks ended=true");
        assert_eq!(show(c.stored()), "commit 2 last=true");
        c.on_committed_by(0, 2, 310);
        assert_eq!(show(c.on_committed_by(1, 2, 310)), "finish ended=true");
    }

    #[test]
    fn an_end_without_a_trigger_is_the_last_checkpoint() {
        let mut c = Coordinator::new(PACE, 1, 3, 0);
        assert_eq!(show(c.on_stored_by(ack(0, 3, true))), "store 3 of 1 acks ended=true");
    }

    #[test]
    fn an_end_in_the_epoch_after_the_one_being_ended_is_one_checkpoint() {
        let mut c = Coordinator::new(PACE, 2, 3, 0);
        c.on_tick(100).unwrap();
        c.on_stored_by(ack(0, 3, false));
        assert_eq!(show(c.on_stored_by(ack(0, 4, true))), "-");
        assert_eq!(show(c.on_stored_by(ack(1, 3, true))), "store 4 of 3 acks ended=true");
    }

    #[test]
    fn an_end_in_a_later_epoch_is_no_part_of_a_checkpoint_that_others_are_in() {
        let mut c = Coordinator::new(PACE, 2, 3, 0);
        c.on_tick(100).unwrap();
        assert_eq!(show(c.on_stored_by(ack(1, 3, false))), "-");
        assert_eq!(show(c.on_stored_by(ack(1, 4, true))), "-");
        assert_eq!(show(c.on_stored_by(ack(0, 3, false))), "store 3 of 2 acks ended=false");
        c.stored();
        assert_eq!(show(c.on_stored_by(ack(0, 4, true))), "-");
        c.on_committed_by(0, 3, 120);
        c.on_committed_by(1, 3, 120);
        assert_eq!(show(c.on_tick(121).unwrap()), "store 4 of 2 acks ended=true");
    }

    #[test]
    fn a_stop_takes_a_last_checkpoint_and_finishes() {
        let mut c = Coordinator::new(Pace { interval_ms: 0, ..PACE }, 1, 1, 0);
        assert_eq!(show(c.on_tick(1_000_000).unwrap()), "-");
        c.request_stop();
        assert_eq!(show(c.on_tick(1_000_001).unwrap()), "end 1 stop=true");
        assert_eq!(show(c.on_stored_by(ack(0, 1, false))), "store 1 of 1 acks ended=false");
        c.stored();
        assert_eq!(show(c.on_committed_by(0, 1, 0)), "finish ended=false");
    }

    #[test]
    fn a_stop_during_a_checkpoint_takes_another_one() {
        let mut c = Coordinator::new(PACE, 1, 1, 0);
        c.on_tick(100).unwrap();
        c.request_stop();
        c.on_stored_by(ack(0, 1, false));
        c.stored();
        assert_eq!(show(c.on_committed_by(0, 1, 110)), "-");
        assert_eq!(show(c.on_tick(111).unwrap()), "end 2 stop=true");
    }

    #[test]
    fn a_checkpoint_that_takes_too_long_fails() {
        let mut c = Coordinator::new(PACE, 1, 1, 0);
        c.on_tick(100).unwrap();
        assert!(c.on_tick(1200).unwrap_err().message().contains("did not complete"));
    }

    #[test]
    fn a_commit_that_takes_too_long_fails_the_checkpoint() {
        let mut c = Coordinator::new(PACE, 1, 1, 0);
        c.on_tick(100).unwrap();
        c.on_stored_by(ack(0, 1, false));
        c.stored();
        assert_eq!(show(c.on_tick(1100).unwrap()), "-");
        assert!(c.on_tick(1101).unwrap_err().message().contains("did not complete"));
    }

    #[test]
    fn tolerated_timeouts_are_counted_in_a_row() {
        let mut c = Coordinator::new(Pace { tolerable_failures: 1, ..PACE }, 1, 1, 0);
        for epoch in 1..4 {
            let start = epoch as i64 * 10_000;
            assert_eq!(show(c.on_tick(start).unwrap()), format!("end {epoch} stop=false"));
            assert_eq!(show(c.on_tick(start + 1001).unwrap()), format!("timed out {epoch}"));
            assert_eq!(show(c.on_tick(start + 2001).unwrap()), "-");
            if epoch < 3 {
                assert_eq!(show(c.on_stored_by(ack(0, epoch, false))), format!("store {epoch} of 1 acks ended=false"));
                c.stored();
                c.on_committed_by(0, epoch, start + 2002);
            }
        }
        assert!(c.on_tick(32_003).unwrap_err().message().contains("did not complete"));
    }
}
