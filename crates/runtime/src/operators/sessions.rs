//! Which session a row belongs to: windows `[time, time + gap]` of one key that touch are one session.

use super::groups::GroupTable;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType as ArrowType;
use millstream_core::Result;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No session.
const NONE: u32 = u32::MAX;
/// Slots that may be dead before it is worth making the rest dense.
const MIN_DEAD: usize = 1024;

/// The open sessions of all keys, each with a number: its slot. Times are instants, in milliseconds.
///
/// A slot stays readable after its session was closed or merged away, until [`Sessions::compact`].
pub(super) struct Sessions {
    gap_ms: i64,
    types: Vec<ArrowType>,
    keys: GroupTable,
    /// Each key's last session; the others follow by `Session::earlier`.
    latest: Vec<u32>,
    slots: Vec<Session>,
    /// Open sessions by an end that they had at some time; those that grew are put back when they come up.
    by_end: BinaryHeap<Reverse<(i64, u32)>>,
    open: usize,
}

struct Session {
    key: u32,
    start: i64,
    end: i64,
    /// The key's next sessions on both sides.
    earlier: u32,
    later: u32,
    is_open: bool,
}

/// Where a row went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Nowhere: the session that it would make is over.
    Late,
    /// Into this session, which it may have begun.
    In(u32),
    /// Into the first of these sessions, which it makes one with the others: they are no more.
    Bridging(u32, Vec<u32>),
}

impl Sessions {
    pub(super) fn new(gap_ms: i64, types: Vec<ArrowType>) -> Result<Self> {
        let keys = GroupTable::new(types.clone())?;
        Ok(Sessions { gap_ms, types, keys, latest: vec![], slots: vec![], by_end: BinaryHeap::new(), open: 0 })
    }

    /// The number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn start(&self, slot: u32) -> i64 {
        self.slots[slot as usize].start
    }

    pub(super) fn end(&self, slot: u32) -> i64 {
        self.slots[slot as usize].end
    }

    pub(super) fn is_open(&self, slot: u32) -> bool {
        self.slots[slot as usize].is_open
    }

    /// The key columns of sessions.
    pub(super) fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys: Vec<u32> = slots.iter().map(|slot| self.slots[*slot as usize].key).collect();
        self.keys.keys(&keys)
    }

    /// The numbers of the keys of `rows` rows.
    pub(super) fn find_keys(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut numbers = vec![];
        self.keys.lookup(columns, rows, &mut numbers)?;
        self.latest.resize(self.keys.len(), NONE);
        Ok(numbers)
    }

    /// Puts a row of the key at `time` where it belongs. Sessions that end by `closed` are over: whether a row is late
    /// shows only after it has been merged with what it touches (as in Flink's merging windows).
    pub(super) fn place(&mut self, key: u32, time: i64, closed: i64) -> Placed {
        let until = time.saturating_add(self.gap_ms);
        // Past the sessions that are wholly later, to the first that the row may touch.
        let (mut later, mut at) = (NONE, self.latest[key as usize]);
        while at != NONE && self.slots[at as usize].start > until {
            (later, at) = (at, self.slots[at as usize].earlier);
        }
        let mut touched = vec![];
        let mut first = NONE;
        while at != NONE && self.slots[at as usize].end >= time {
            if first != NONE {
                touched.push(first);
            }
            (first, at) = (at, self.slots[at as usize].earlier);
        }
        if first == NONE {
            return match until <= closed {
                true => Placed::Late,
                false => Placed::In(self.insert(key, time, until, later, at)),
            };
        }
        let last = touched.first().copied().unwrap_or(first);
        let end = self.slots[last as usize].end.max(until);
        let session = &mut self.slots[first as usize];
        (session.start, session.end) = (session.start.min(time), end);
        if touched.is_empty() {
            return Placed::In(first);
        }
        self.join(key, later, first);
        for slot in &touched {
            self.slots[*slot as usize].is_open = false;
        }
        self.open -= touched.len();
        Placed::Bridging(first, touched)
    }

    /// Takes in a session as it was stored; it touches no other.
    pub(super) fn restore(&mut self, key: u32, start: i64, end: i64) -> u32 {
        let (mut later, mut at) = (NONE, self.latest[key as usize]);
        while at != NONE && self.slots[at as usize].start > start {
            (later, at) = (at, self.slots[at as usize].earlier);
        }
        self.insert(key, start, end, later, at)
    }

    /// Takes in a session that is over, as it was stored.
    pub(super) fn restore_closed(&mut self, key: u32, start: i64, end: i64) -> u32 {
        self.slots.push(Session { key, start, end, earlier: NONE, later: NONE, is_open: false });
        self.slots.len() as u32 - 1
    }

    fn insert(&mut self, key: u32, start: i64, end: i64, later: u32, earlier: u32) -> u32 {
        let slot = self.slots.len() as u32;
        self.slots.push(Session { key, start, end, earlier, later, is_open: true });
        self.join(key, later, slot);
        self.join(key, slot, earlier);
        self.by_end.push(Reverse((end, slot)));
        self.open += 1;
        slot
    }

    /// Makes two sessions of a key neighbours; either may be none.
    fn join(&mut self, key: u32, later: u32, earlier: u32) {
        match later {
            NONE => self.latest[key as usize] = earlier,
            later => self.slots[later as usize].earlier = earlier,
        }
        if earlier != NONE {
            self.slots[earlier as usize].later = later;
        }
    }

    /// When the next session may be over; never too late.
    pub(super) fn next_end(&self) -> Option<i64> {
        self.by_end.peek().map(|Reverse((end, _))| *end)
    }

    /// Closes up to `count` sessions that end by `closed`, in the order of their ends.
    pub(super) fn close(&mut self, closed: i64, count: usize) -> Vec<u32> {
        let mut over = vec![];
        while over.len() < count {
            let Some(Reverse((end, slot))) = self.by_end.peek().copied() else { break };
            if end > closed {
                break;
            }
            self.by_end.pop();
            let session = &self.slots[slot as usize];
            if !session.is_open {
                continue;
            }
            if session.end > end {
                self.by_end.push(Reverse((session.end, slot)));
                continue;
            }
            self.join(session.key, session.later, session.earlier);
            self.slots[slot as usize].is_open = false;
            self.open -= 1;
            over.push(slot);
        }
        over
    }

    /// Whether most slots are dead.
    pub(super) fn is_sparse(&self) -> bool {
        let dead = self.slots.len() - self.open;
        dead >= MIN_DEAD && dead >= self.open
    }

    /// Renumbers the open sessions from 0, and gives their old slots in the new order.
    pub(super) fn compact(&mut self) -> Result<Vec<u32>> {
        let old: Vec<u32> = (0..self.slots.len() as u32).filter(|slot| self.is_open(*slot)).collect();
        let columns = self.keys(&old)?;
        let mut fresh = Sessions::new(self.gap_ms, self.types.clone())?;
        let keys = fresh.find_keys(&columns, old.len())?;
        for (slot, key) in old.iter().zip(keys) {
            fresh.restore(key, self.start(*slot), self.end(*slot));
        }
        *self = fresh;
        Ok(old)
    }
}
