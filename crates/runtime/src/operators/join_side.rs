//! One side of a join: its rows, by join key.

use super::counted::{Counted, SAME};
use super::groups::GroupTable;
use super::watermark::column_ms;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream_core::Result;
use millstream_core::operator::{TARGET_BATCH_ROWS, TableDelta, TableSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The end of a list, and a row that is in none.
const NONE: u32 = u32::MAX;

/// The rows of a side, equal ones counted, in a linked list for each join key.
pub(super) struct Side {
    /// The columns that make the join key.
    pub(super) keys: Vec<usize>,
    pub(super) rows: Counted,
    /// The column by whose time a row leaves, and how much later, milliseconds.
    pub(super) leaves: Option<(usize, i64)>,
    counts_matches: bool,
    /// How many rows of the other side match each row.
    matches: Vec<i64>,
    key_of: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// The first row of each key.
    heads: Vec<u32>,
    leaves_at: Vec<i64>,
    by_time: BTreeMap<i64, Vec<u32>>,
}

impl Side {
    pub(super) fn new(
        table: &TableSpec,
        keys: Vec<usize>,
        counts_matches: bool,
        leaves: Option<(usize, i64)>,
    ) -> Result<Self> {
        Ok(Side {
            keys,
            rows: Counted::new(table)?,
            leaves,
            counts_matches,
            matches: vec![],
            key_of: vec![],
            next: vec![],
            previous: vec![],
            heads: vec![],
            leaves_at: vec![],
            by_time: BTreeMap::new(),
        })
    }

    fn resize(&mut self) {
        let rows = self.rows.len();
        if self.counts_matches {
            self.matches.resize(rows, 0);
        }
        for list in [&mut self.key_of, &mut self.next, &mut self.previous] {
            list.resize(rows, NONE);
        }
        if self.leaves.is_some() {
            self.leaves_at.resize(rows, i64::MAX);
        }
    }

    /// The numbers of rows, in the table or new to it. Give the vector back to `rows`.
    pub(super) fn find(&mut self, columns: &[ArrayRef], count: usize) -> Result<Vec<u32>> {
        let numbers = self.rows.find(columns, count)?;
        self.resize();
        self.set_times(columns, &numbers)?;
        Ok(numbers)
    }

    fn set_times(&mut self, columns: &[ArrayRef], numbers: &[u32]) -> Result<()> {
        let Some((column, delay)) = self.leaves else { return Ok(()) };
        let times = column_ms(&columns[column], "the time of a join")?;
        for (number, time) in numbers.iter().zip(times) {
            self.leaves_at[*number as usize] = time.saturating_add(delay);
        }
        Ok(())
    }

    /// Calls `each` with the rows of a key.
    pub(super) fn each_of(&self, key: u32, mut each: impl FnMut(u32)) {
        let mut row = self.heads.get(key as usize).copied().unwrap_or(NONE);
        while row != NONE {
            each(row);
            row = self.next[row as usize];
        }
    }

    /// Stores one more of a row; whether it stays: not if its time is over.
    pub(super) fn add(&mut self, row: u32, key: u32, matches: i64, bound: i64, now: Option<i64>) -> bool {
        let at = row as usize;
        if self.leaves.is_some() && self.leaves_at[at] <= bound {
            return false;
        }
        let count = self.rows.count(row);
        if count == 0 {
            self.link(row, key);
        }
        if self.counts_matches {
            self.matches[at] = matches;
        }
        self.rows.set(row, count + 1);
        self.rows.touch(row, now);
        true
    }

    /// Takes one of a row back; nothing happens if there is none.
    pub(super) fn take_back(&mut self, row: u32, now: Option<i64>) {
        match self.rows.count(row) {
            0 => {}
            1 => self.remove(row),
            count => {
                self.rows.set(row, count - 1);
                self.rows.touch(row, now);
            }
        }
    }

    /// Takes all of a row away.
    pub(super) fn remove(&mut self, row: u32) {
        if self.rows.count(row) == 0 {
            return;
        }
        let at = row as usize;
        let (previous, next) = (self.previous[at], self.next[at]);
        match previous {
            NONE => self.heads[self.key_of[at] as usize] = next,
            before => self.next[before as usize] = next,
        }
        if next != NONE {
            self.previous[next as usize] = previous;
        }
        (self.next[at], self.previous[at], self.key_of[at]) = (NONE, NONE, NONE);
        self.rows.set(row, 0);
    }

    fn link(&mut self, row: u32, key: u32) {
        let (at, key_at) = (row as usize, key as usize);
        if self.heads.len() <= key_at {
            self.heads.resize(key_at + 1, NONE);
        }
        let head = std::mem::replace(&mut self.heads[key_at], row);
        (self.next[at], self.previous[at], self.key_of[at]) = (head, NONE, key);
        if head != NONE {
            self.previous[head as usize] = row;
        }
        if self.leaves.is_some() {
            self.by_time.entry(self.leaves_at[at]).or_default().push(row);
        }
    }

    /// The number of matches of a row.
    pub(super) fn matches(&self, row: u32) -> i64 {
        self.matches.get(row as usize).copied().unwrap_or_default()
    }

    /// Changes the number of matches of a row; gives it before and after.
    pub(super) fn change_matches(&mut self, row: u32, by: i64, now: Option<i64>) -> (i64, i64) {
        if !self.counts_matches {
            return (1, 1);
        }
        let matches = &mut self.matches[row as usize];
        let before = *matches;
        // What is taken back may be of a time before the state that is left.
        *matches = (before + by).max(0);
        let after = *matches;
        self.rows.mark(row);
        self.rows.touch(row, now);
        (before, after)
    }

    /// About `limit` rows that leave by `bound`.
    pub(super) fn leaving(&mut self, bound: i64, limit: usize) -> Vec<u32> {
        let mut leaving = vec![];
        while leaving.len() < limit
            && let Some(first) = self.by_time.first_entry()
            && *first.key() <= bound
        {
            let time = *first.key();
            let rows = first.remove();
            leaving.extend(rows.into_iter().filter(|r| self.rows.count(*r) > 0 && self.leaves_at[*r as usize] == time));
        }
        // A row that went and came back is listed twice.
        leaving.sort_unstable();
        leaving.dedup();
        leaving
    }

    /// Makes the tables anew from the rows that are there, adding their keys to `keys`.
    pub(super) fn rebuild(&mut self, keys: &mut GroupTable) -> Result<()> {
        let live = self.rows.rebuild(SAME)?;
        if self.counts_matches {
            self.matches = live.iter().map(|n| self.matches[*n as usize]).collect();
        }
        for list in [&mut self.key_of, &mut self.next, &mut self.previous, &mut self.heads] {
            list.clear();
        }
        self.by_time.clear();
        self.resize();
        let all: Vec<u32> = (0..live.len() as u32).collect();
        for part in all.chunks(TARGET_BATCH_ROWS) {
            let columns = self.rows.columns(part)?;
            self.set_times(&columns, part)?;
            self.link_all(&columns, part, keys)?;
        }
        Ok(())
    }

    fn link_all(&mut self, columns: &[ArrayRef], numbers: &[u32], keys: &mut GroupTable) -> Result<()> {
        let mut found = vec![];
        let key_columns: Vec<ArrayRef> = self.keys.iter().map(|c| columns[*c].clone()).collect();
        keys.lookup(&key_columns, numbers.len(), &mut found)?;
        for (number, key) in numbers.iter().zip(found) {
            self.link(*number, key);
        }
        Ok(())
    }

    /// Takes in stored rows.
    pub(super) fn restore(&mut self, rows: &RecordBatch, keys: &mut GroupTable) -> Result<()> {
        let width = self.rows.width();
        let numbers = self.rows.restore(&rows.columns()[..width], rows, width)?;
        self.resize();
        let columns = rows.columns();
        self.set_times(columns, &numbers)?;
        if self.counts_matches {
            let matches = rows.column(self.rows.more_at()).as_primitive::<Int64Type>().values();
            for (row, number) in numbers.iter().enumerate() {
                self.matches[*number as usize] = matches[row];
            }
        }
        self.link_all(columns, &numbers, keys)?;
        self.rows.done(numbers);
        Ok(())
    }

    /// What changed since this was last asked.
    pub(super) fn take_delta(&mut self, expired_below: Option<i64>) -> Result<TableDelta> {
        let Side { rows, matches, counts_matches, .. } = self;
        rows.take_delta(expired_below, SAME, |changed| {
            let column = || Int64Array::from_iter_values(changed.iter().map(|n| matches[*n as usize]));
            Ok(if *counts_matches { vec![Arc::new(column()) as ArrayRef] } else { vec![] })
        })
    }
}
