//! The frames of OVER that begin some rows or some time before their row.

use super::aggregate::{accumulator, signs};
use super::row_slots::RowSlots;
use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute;
use arrow::compute::kernels::zip::zip;
use millstream_core::graph::{AggregateCall, Frame, OverCall, OverFunction};
use millstream_core::{Batch, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Frames are aggregated until they have this many rows together.
const MAX_MEMBERS: usize = 1 << 18;

/// Rows whose functions are to be computed, in the order of their time.
pub(super) struct Due<'a> {
    pub(super) batch: &'a Batch,
    /// Each row's partition.
    pub(super) parts: &'a [u32],
    pub(super) times: Vec<i64>,
    /// Whether rows of one time, all of which are here then, are peers.
    pub(super) has_peers: bool,
}

impl Due<'_> {
    /// The rows of each partition.
    fn by_part(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, part) in (0u32..).zip(self.parts) {
            rows.entry(*part).or_default().push(row);
        }
        rows
    }

    /// The rows in rounds, in which no partition has two.
    pub(super) fn rounds(&self) -> Vec<Vec<u32>> {
        let mut seen: HashMap<u32, usize> = HashMap::new();
        let mut rounds: Vec<Vec<u32>> = vec![];
        for (row, part) in (0u32..).zip(self.parts) {
            let round = seen.entry(*part).or_insert(0);
            if *round == rounds.len() {
                rounds.push(vec![]);
            }
            rounds[*round].push(row);
            *round += 1;
        }
        rounds
    }

    fn is_peer(&self, a: u32, b: u32) -> bool {
        self.has_peers && self.times[a as usize] == self.times[b as usize]
    }

    /// For each row the first row of its partition and time.
    pub(super) fn first_peers(&self) -> Vec<u32> {
        let mut first: Vec<u32> = (0..self.parts.len() as u32).collect();
        for rows in self.by_part().values() {
            for pair in rows.windows(2) {
                if self.is_peer(pair[0], pair[1]) {
                    first[pair[1] as usize] = first[pair[0] as usize];
                }
            }
        }
        first
    }

    /// For each row the last row of its partition and time.
    pub(super) fn last_peers(&self) -> Vec<u32> {
        let mut last: Vec<u32> = (0..self.parts.len() as u32).collect();
        for rows in self.by_part().values() {
            for pair in rows.windows(2).rev() {
                if self.is_peer(pair[0], pair[1]) {
                    last[pair[0] as usize] = last[pair[1] as usize];
                }
            }
        }
        last
    }

    /// Whether each row is the first of its partition and time.
    pub(super) fn is_first_peer(&self) -> Vec<bool> {
        self.first_peers().into_iter().zip(0u32..).map(|(first, row)| first == row).collect()
    }
}

/// The rows that are due behind those of their partitions that are looked back at.
pub(super) struct Frames<'a> {
    store: &'a RowSlots,
    /// The rows that are looked back at.
    past: Vec<u32>,
    sequences: Vec<Sequence>,
    /// For each row that is due: its sequence and its place there.
    places: Vec<(usize, usize)>,
}

/// A partition's rows: their numbers among the past rows and those that are due, in this order, and their times.
#[derive(Default)]
struct Sequence {
    rows: Vec<u32>,
    times: Vec<i64>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(due: &Due<'_>, history: &[VecDeque<(u32, i64)>], store: &'a RowSlots) -> Result<Self> {
        let by_part = due.by_part();
        let mut past = vec![];
        let mut sequences: Vec<Sequence> = vec![];
        for part in by_part.keys() {
            let mut sequence = Sequence::default();
            for (slot, time) in &history[*part as usize] {
                sequence.rows.push(past.len() as u32);
                sequence.times.push(*time);
                past.push(*slot);
            }
            sequences.push(sequence);
        }
        let mut places = vec![(0, 0); due.parts.len()];
        for ((number, sequence), rows) in sequences.iter_mut().enumerate().zip(by_part.values()) {
            for row in rows {
                places[*row as usize] = (number, sequence.rows.len());
                sequence.rows.push(past.len() as u32 + row);
                sequence.times.push(due.times[*row as usize]);
            }
        }
        Ok(Frames { store, past, sequences, places })
    }

    /// A column of the past rows, then of those that are due.
    fn column(&self, due: &Due<'_>, column: usize) -> Result<ArrayRef> {
        let current = due.batch.column(column);
        let past = self.store.take_columns(&self.past, &[column])?;
        match past.first() {
            Some(past) if !past.is_empty() => Ok(compute::concat(&[past.as_ref(), current.as_ref()])?),
            _ => Ok(current.clone()),
        }
    }

    /// The last place of the rows that count as one with the row at a place.
    fn last_peer(&self, (sequence, mut at): (usize, usize), has_peers: bool) -> usize {
        let times = &self.sequences[sequence].times;
        while has_peers && times.get(at + 1) == Some(&times[at]) {
            at += 1;
        }
        at
    }

    /// The places of a row's frame, from the first to the last.
    fn frame(&self, row: usize, frame: Frame, has_peers: bool) -> (usize, usize) {
        let (sequence, at) = self.places[row];
        let preceding = frame.preceding.unwrap_or(i64::MAX).max(0);
        if frame.is_rows {
            return (at.saturating_sub(usize::try_from(preceding).unwrap_or(usize::MAX)), at);
        }
        let times = &self.sequences[sequence].times;
        let bound = times[at].saturating_sub(preceding);
        (times.partition_point(|time| *time < bound), self.last_peer((sequence, at), has_peers))
    }
}

/// The results of the calls that look back at rows, with the calls' numbers.
pub(super) fn of_frames(calls: &[OverCall], due: &Due<'_>, frames: &Frames<'_>) -> Result<Vec<(usize, ArrayRef)>> {
    let mut results = vec![];
    let mut by_frame: BTreeMap<Frame, Vec<(usize, &AggregateCall)>> = BTreeMap::new();
    for (number, call) in calls.iter().enumerate() {
        match &call.function {
            OverFunction::Aggregate(aggregate) if call.frame.preceding.is_some() => {
                by_frame.entry(call.frame).or_default().push((number, aggregate));
            }
            OverFunction::Lag { column, offset, default } => {
                results.push((number, lag(*column, *offset, *default, due, frames)?));
            }
            OverFunction::Aggregate(_) | OverFunction::Rank(_) => {}
        }
    }
    for (frame, calls) in by_frame {
        results.extend(aggregates(frame, &calls, due, frames)?);
    }
    Ok(results)
}

fn lag(column: usize, offset: usize, default: Option<usize>, due: &Due<'_>, frames: &Frames<'_>) -> Result<ArrayRef> {
    // Rows of one time see the last of them as the current row (as in Flink, whose LAG has a RANGE frame).
    let last = |place: &(usize, usize)| (place.0, frames.last_peer(*place, due.has_peers));
    let row = |sequence: usize, at: usize| frames.sequences[sequence].rows[at];
    let before: UInt32Array = frames
        .places
        .iter()
        .map(last)
        .map(|(sequence, at)| at.checked_sub(offset).map(|at| row(sequence, at)))
        .collect();
    let values = compute::take(&frames.column(due, column)?, &before, None)?;
    let Some(default) = default else { return Ok(values) };
    let current = UInt32Array::from_iter_values(frames.places.iter().map(last).map(|(s, at)| row(s, at)));
    let defaults = compute::take(&frames.column(due, default)?, &current, None)?;
    // The default stands in for a NULL, too (as in Flink).
    Ok(zip(&compute::is_not_null(&values)?, &values, &defaults)?)
}

/// Aggregates each row's frame for itself: nothing is taken back, so that all functions do.
fn aggregates(
    frame: Frame,
    calls: &[(usize, &AggregateCall)],
    due: &Due<'_>,
    frames: &Frames<'_>,
) -> Result<Vec<(usize, ArrayRef)>> {
    let mut sources: BTreeMap<usize, ArrayRef> = BTreeMap::new();
    for column in calls.iter().flat_map(|(_, call)| call.args.iter().copied().chain(call.filter)) {
        if let Entry::Vacant(place) = sources.entry(column) {
            place.insert(frames.column(due, column)?);
        }
    }
    let mut parts: Vec<Vec<ArrayRef>> = vec![vec![]; calls.len()];
    let rows = due.batch.num_rows();
    let mut next = 0;
    while next < rows {
        let (mut members, mut groups): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
        let mut count = 0;
        while next < rows && (count == 0 || members.len() < MAX_MEMBERS) {
            let (first, last) = frames.frame(next, frame, due.has_peers);
            let sequence = &frames.sequences[frames.places[next].0];
            members.extend_from_slice(&sequence.rows[first..=last]);
            groups.resize(members.len(), count);
            count += 1;
            next += 1;
        }
        let members = UInt32Array::from(members);
        let numbers: Vec<u32> = (0..count).collect();
        for ((_, call), results) in calls.iter().zip(&mut parts) {
            let take = |column: &usize| Ok(compute::take(&sources[column], &members, None)?);
            let args: Vec<ArrayRef> = call.args.iter().map(take).collect::<Result<_>>()?;
            let signs = match &call.filter {
                None => None,
                Some(filter) => {
                    let mask = take(filter)?;
                    let field = arrow::datatypes::Field::new("f", mask.data_type().clone(), true);
                    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![field]));
                    signs(&Batch::from_columns(schema, vec![mask], members.len())?, Some(0))
                }
            };
            let mut accumulator = accumulator(call)?;
            accumulator.resize(count as usize);
            accumulator.update(&groups, &args, signs.as_deref())?;
            results.push(accumulator.evaluate(&numbers)?);
        }
    }
    calls
        .iter()
        .zip(parts)
        .map(|((number, call), parts)| {
            let arrays: Vec<&dyn Array> = parts.iter().map(|a| a.as_ref()).collect();
            let whole =
                if arrays.is_empty() { new_null_array(&call.result.arrow(), 0) } else { compute::concat(&arrays)? };
            Ok((*number, whole))
        })
        .collect()
}
