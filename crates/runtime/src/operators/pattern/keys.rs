//! What is kept of a key: its rows that wait, its rows that matches may need, and its matches.

use super::nfa::Match;
use crate::operators::row_store::{RowRef, RowStore};
use millstream_core::pattern::AfterMatch;
use millstream_core::{Error, Result};
use std::collections::VecDeque;

/// What is known of a kept row beside its columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// Its time, milliseconds.
    pub(super) time: i64,
    /// Its number in the order of arrival.
    pub(super) number: i64,
    /// Its number among the key's rows that were searched, or [`WAITING`].
    pub(super) sequence: i64,
    /// Whether the state table has it otherwise, or not at all.
    pub(super) is_changed: bool,
}

/// The sequence number of a row that was not searched yet.
pub(super) const WAITING: i64 = -1;
/// The time of what never happens.
pub(super) const NEVER: i64 = i64::MAX;
/// The version of what [`KeyRows::encode`] writes.
const VERSION: i64 = 1;

/// A key's rows and matches.
pub(super) struct KeyRows {
    /// Searched rows that matches may need, without gaps.
    pub(super) events: VecDeque<RowRef>,
    /// The sequence number of the first of them (of the next, if there is none).
    pub(super) first: i64,
    /// Partial matches, by their first row.
    pub(super) partial: Vec<Match>,
    /// Matches that wait until no earlier one is partial, by their first row, then in the order of their completion.
    pub(super) complete: Vec<Match>,
    /// Rows whose time has not come, unordered.
    pub(super) pending: Vec<RowRef>,
    /// Rows whose time has come, in order.
    pub(super) due: VecDeque<RowRef>,
    /// When there is something to do.
    pub(super) next_due: i64,
    /// Whether something has changed since the last snapshot.
    pub(super) is_dirty: bool,
    /// Whether the state table has matches of it.
    pub(super) is_stored: bool,
}

/// A match that counts.
pub(super) struct Found {
    /// The number of its key.
    pub(super) key: u32,
    /// The match.
    pub(super) found: Match,
    /// When it was certain that it counts.
    pub(super) time: i64,
}

impl Default for KeyRows {
    fn default() -> Self {
        KeyRows {
            events: VecDeque::new(),
            first: 0,
            partial: vec![],
            complete: vec![],
            pending: vec![],
            due: VecDeque::new(),
            next_due: NEVER,
            is_dirty: false,
            is_stored: false,
        }
    }
}

impl KeyRows {
    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        let no_row = self.events.is_empty() && self.pending.is_empty() && self.due.is_empty();
        no_row && self.partial.is_empty() && self.complete.is_empty()
    }

    /// All rows that are kept.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowRef> {
        self.events.iter().chain(&self.due).chain(&self.pending).copied()
    }

    /// All rows that are kept, to change their names.
    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut RowRef> {
        self.events.iter_mut().chain(&mut self.due).chain(&mut self.pending)
    }

    /// The searched row of a sequence number.
    pub(super) fn row(&self, sequence: i64) -> RowRef {
        let index = usize::try_from(sequence - self.first).expect("rows that matches need are kept");
        *self.events.get(index).expect("rows that matches need are kept")
    }

    /// Takes in a row that is searched now; its sequence number.
    pub(super) fn push(&mut self, row: RowRef, store: &mut RowStore<Note>) -> i64 {
        let sequence = self.first + self.events.len() as i64;
        self.events.push_back(row);
        let note = store.note_mut(row);
        note.sequence = sequence;
        note.is_changed = true;
        sequence
    }

    /// When the earliest partial match fails by `WITHIN`.
    pub(super) fn next_timeout(&self, within_ms: Option<i64>, store: &RowStore<Note>) -> i64 {
        match (within_ms, self.partial.first()) {
            (Some(within_ms), Some(partial)) => store.note(self.row(partial.start)).time.saturating_add(within_ms),
            _ => NEVER,
        }
    }

    /// Lets the partial matches fail that may not go on at `time`, and gives the matches that had waited for them.
    pub(super) fn expire(
        &mut self,
        key: u32,
        time: i64,
        (within_ms, skip): (Option<i64>, AfterMatch),
        store: &RowStore<Note>,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        loop {
            let timeout = self.next_timeout(within_ms, store);
            if timeout > time || timeout == NEVER {
                return Ok(());
            }
            let start = self.partial[0].start;
            self.partial.retain(|p| p.start != start);
            self.release(key, timeout, skip, found)?;
        }
    }

    /// Takes in a complete match.
    pub(super) fn complete(&mut self, found: Match) {
        let at = self.complete.partition_point(|c| c.start <= found.start);
        self.complete.insert(at, found);
    }

    /// Gives the complete matches for which no partial one with an earlier first row is left; what they skip goes.
    pub(super) fn release(&mut self, key: u32, time: i64, skip: AfterMatch, found: &mut Vec<Found>) -> Result<()> {
        while let Some(first) = self.complete.first() {
            if self.partial.first().is_some_and(|p| p.start < first.start) {
                break;
            }
            let next = resume_at(first, skip)?;
            let first = self.complete.remove(0);
            self.partial.retain(|p| p.start >= next);
            self.complete.retain(|c| c.start >= next);
            found.push(Found { key, found: first, time });
        }
        Ok(())
    }

    /// Takes out the searched rows that no match needs any more.
    pub(super) fn trim(&mut self, dead: &mut Vec<RowRef>) {
        let needed = self.partial.first().into_iter().chain(self.complete.first()).map(|m| m.start).min();
        let keep = needed.unwrap_or(i64::MAX);
        while self.first < keep
            && let Some(row) = self.events.pop_front()
        {
            self.first += 1;
            dead.push(row);
        }
    }

    /// The matches as numbers: the version, how many are partial, how many complete; then each one's first row, how many
    /// variables it counts, and their counts.
    pub(super) fn encode(&self) -> Vec<i64> {
        let mut numbers = vec![VERSION, self.partial.len() as i64, self.complete.len() as i64];
        for known in self.partial.iter().chain(&self.complete) {
            numbers.extend([known.start, known.counts.len() as i64]);
            numbers.extend(known.counts.iter().map(|count| i64::from(*count)));
        }
        numbers
    }

    /// Takes in what [`KeyRows::encode`] gave, of a pattern of `variables` variables.
    pub(super) fn decode(&mut self, numbers: &[i64], variables: usize) -> Result<()> {
        let broken = || Error::state("the stored matches of a key have an unknown form");
        let [VERSION, partial, complete, rest @ ..] = numbers else { return Err(broken()) };
        let mut rest = rest.iter().copied();
        let mut one = || -> Option<Match> {
            let (start, width) = (rest.next()?, usize::try_from(rest.next()?).ok()?);
            let known = (1..=variables).contains(&width) && start >= 0;
            let counts = (0..width).map(|_| u32::try_from(rest.next()?).ok()).collect::<Option<Vec<_>>>()?;
            known.then_some(Match { start, counts })
        };
        self.partial = (0..*partial).map(|_| one()).collect::<Option<_>>().ok_or_else(broken)?;
        self.complete = (0..*complete).map(|_| one()).collect::<Option<_>>().ok_or_else(broken)?;
        if rest.next().is_some() { Err(broken()) } else { Ok(()) }
    }

    /// Puts restored rows in order, and says whether all rows that the matches need are there.
    pub(super) fn settle(&mut self, store: &RowStore<Note>) -> bool {
        self.events.make_contiguous().sort_by_key(|row| store.note(*row).sequence);
        self.first = self.events.front().map_or(0, |row| store.note(*row).sequence);
        let next = self.first + self.events.len() as i64;
        let gapless = self.events.back().is_none_or(|row| store.note(*row).sequence == next - 1);
        let mut matches = self.partial.iter().chain(&self.complete);
        gapless && matches.all(|m| self.first <= m.start && m.last() < next)
    }
}

/// The first row at which matches that follow `found` may start.
fn resume_at(found: &Match, skip: AfterMatch) -> Result<i64> {
    let (row, which) = match skip {
        AfterMatch::ToNextRow => return Ok(found.start + 1),
        AfterMatch::PastLastRow => return Ok(found.last() + 1),
        AfterMatch::ToFirst(variable) => (found.first_of(variable), "first"),
        AfterMatch::ToLast(variable) => (found.last_of(variable), "last"),
    };
    match row {
        None => Err(Error::data(format!("AFTER MATCH can't skip to the {which} row of a variable that has no row"))
            .hint("skip to a variable that takes at least one row, or PAST LAST ROW")),
        Some(row) if row == found.start => Err(Error::data(format!(
            "AFTER MATCH skips to the {which} row of a variable that is the match's own first row"
        ))
        .hint("the same match would be found for ever; skip TO NEXT ROW or PAST LAST ROW")),
        Some(row) => Ok(row),
    }
}
