//! What is committed of a slot: how far, for each run of the job that prepared epochs.

use serde::{Deserialize, Serialize};

/// How many runs a slot's ledger remembers: those whose output was the last to be committed.
const REMEMBERED: usize = 32;

/// A run of a job, from one start to the next. Copies of a job may count the same attempts; their `run`s differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunId {
    pub(super) attempt: u64,
    pub(super) run: u64,
}

/// How far a slot has come: `chunk` of the `chunks` chunks of `epoch`, and all epochs before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) chunk: u32,
    pub(super) chunks: u32,
}

impl Position {
    /// All of an epoch.
    pub(super) fn end_of(epoch: u64) -> Position {
        Position { epoch, chunk: 0, chunks: 0 }
    }
    /// What comes later has a greater one.
    pub(super) fn order(&self) -> (u64, bool, u32) {
        (self.epoch, self.is_complete(), self.chunk)
    }
    pub(super) fn is_complete(&self) -> bool {
        self.chunk >= self.chunks
    }
    /// All of `epoch` is committed.
    pub(super) fn has(&self, epoch: u64) -> bool {
        self.epoch > epoch || self.epoch == epoch && self.is_complete()
    }
    /// How many of the `chunks` chunks of `epoch` are committed.
    pub(super) fn chunks_of(&self, epoch: u64, chunks: usize) -> usize {
        match self.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal if !self.is_complete() => self.chunk as usize,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => chunks,
        }
    }
}

/// What is committed of the epochs that one run prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) prepared_by: RunId,
    /// The attempt that committed the last of it.
    pub(super) committed_by: u64,
    pub(super) position: Position,
}

/// Epochs are known by the run that prepared them: copies of a job, and a job that went back to an older checkpoint, may give
/// the same number to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// What was committed last is last. A run that isn't there has nothing committed, unless it is forgotten.
    entries: Vec<Entry>,
    /// Runs up to this attempt may be forgotten; 0: none is.
    forgotten: u64,
}

impl Ledger {
    /// How far the epochs of a run are committed; none: nothing is, or it is forgotten.
    pub(super) fn of(&self, run: RunId) -> Option<Position> {
        self.entries.iter().find(|e| e.prepared_by == run).map(|e| e.position)
    }
    pub(super) fn may_have_forgotten(&self, run: RunId) -> bool {
        self.of(run).is_none() && run.attempt <= self.forgotten
    }
    /// `attempt` has committed what `run` prepared, up to `position`.
    pub(super) fn note(&mut self, run: RunId, position: Position, attempt: u64) {
        self.entries.retain(|e| e.prepared_by != run);
        self.entries.push(Entry { prepared_by: run, committed_by: attempt, position });
        if self.entries.len() > REMEMBERED {
            let oldest = self.entries.remove(0);
            self.forgotten = self.forgotten.max(oldest.prepared_by.attempt);
        }
    }
    /// What other runs committed of their own since `run` began, the last of it.
    pub(super) fn others_since(&self, run: RunId) -> Option<&Entry> {
        self.entries.iter().rev().find(|e| e.prepared_by != run && e.committed_by > run.attempt)
    }
    /// What was committed last.
    pub(super) fn last(&self) -> Option<&Entry> {
        self.entries.last()
    }
    /// The highest epoch of which something is committed; 0: none.
    pub(super) fn epoch(&self) -> u64 {
        self.entries.iter().map(|e| e.position.epoch).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(attempt: u64) -> RunId {
        RunId { attempt, run: attempt * 7 }
    }

    #[test]
    fn an_epoch_is_known_by_the_run_that_prepared_it() {
        let mut ledger = Ledger::default();
        ledger.note(run(1), Position { epoch: 4, chunk: 1, chunks: 3 }, 1);
        assert_eq!(ledger.of(run(1)).unwrap().chunks_of(4, 3), 1);
        assert_eq!(ledger.of(RunId { attempt: 1, run: 8 }), None, "a copy's first attempt");
        assert!(ledger.others_since(run(1)).is_none());
        // The next attempt commits the rest of it, and one of its own.
        ledger.note(run(1), Position { epoch: 4, chunk: 3, chunks: 3 }, 2);
        assert!(ledger.of(run(1)).unwrap().has(4) && ledger.others_since(run(1)).is_none());
        assert!(
            ledger.others_since(run(2)).is_none(),
            "it is no other's output that run 2 has committed before it began"
        );
        ledger.note(run(2), Position::end_of(9), 2);
        assert_eq!(ledger.others_since(run(1)).unwrap().position.epoch, 9);
        assert_eq!((ledger.epoch(), ledger.last().unwrap().prepared_by), (9, run(2)));
    }

    #[test]
    fn what_is_forgotten_is_told_from_what_was_never_committed() {
        let mut ledger = Ledger::default();
        for attempt in 2..=REMEMBERED as u64 + 3 {
            ledger.note(run(attempt), Position::end_of(attempt), attempt);
        }
        assert_eq!(ledger.entries.len(), REMEMBERED);
        assert!(ledger.may_have_forgotten(run(2)) && ledger.may_have_forgotten(run(3)));
        assert!(!ledger.may_have_forgotten(run(4)), "it is still there");
        assert!(!ledger.may_have_forgotten(run(99)), "it is newer than all that was dropped");
    }
}
