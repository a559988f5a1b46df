//! A task's inbox: frames of later epochs wait until the task gets there; watermarks of all senders are combined.

use crate::exchange::{Frame, Status};
use millstream_core::Watermark;
use std::collections::{BTreeMap, VecDeque};

/// The inputs of a task, aligned by epoch.
///
/// The task works on one epoch at a time, skipping none: the frontier may jump from 3 to 5 while frames of 4 wait.
pub(crate) struct Alignment {
    inputs: Vec<Inbox>,
    watermark: i64,
    status: Status,
}

struct Inbox {
    frames: BTreeMap<u64, VecDeque<Frame>>,
    /// No frame of an earlier epoch will come; `None`: no frame at all.
    frontier: Option<u64>,
    /// Each sender's watermark and status; `None` for a worker that doesn't send here.
    senders: Vec<Option<(i64, Status)>>,
}

/// What a frame changed for the task as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub watermark: Option<Watermark>,
    pub status: Option<Status>,
}

impl Alignment {
    /// `senders`: for each input, which workers send to it.
    pub fn new(senders: Vec<Vec<bool>>) -> Self {
        let inbox = |senders: Vec<bool>| Inbox {
            frames: BTreeMap::new(),
            frontier: Some(0),
            senders: senders.into_iter().map(|s| s.then_some((i64::MIN, Status::Active))).collect(),
        };
        Alignment { inputs: senders.into_iter().map(inbox).collect(), watermark: i64::MIN, status: Status::Active }
    }
    pub fn push(&mut self, input: usize, epoch: u64, frame: Frame) {
        self.inputs[input].frames.entry(epoch).or_default().push_back(frame);
    }
    pub fn set_frontier(&mut self, input: usize, frontier: Option<u64>) {
        self.inputs[input].frontier = frontier;
    }
    /// The next frame of `epoch`, and its input.
    pub fn pop(&mut self, epoch: u64) -> Option<(usize, Frame)> {
        for (input, inbox) in self.inputs.iter_mut().enumerate() {
            if let Some(queue) = inbox.frames.get_mut(&epoch) {
                if let Some(frame) = queue.pop_front() {
                    return Some((input, frame));
                }
                inbox.frames.remove(&epoch);
            }
        }
        None
    }
    /// Whether all that will come of `epoch` is here.
    pub fn has_passed(&self, epoch: u64) -> bool {
        self.inputs.iter().all(|i| i.frontier.is_none_or(|f| f > epoch))
    }
    /// Whether nothing of `epoch` is left or will come.
    pub fn is_complete(&self, epoch: u64) -> bool {
        self.has_passed(epoch) && self.inputs.iter().all(|i| i.frames.get(&epoch).is_none_or(VecDeque::is_empty))
    }
    /// Whether nothing will come after `epoch`.
    pub fn is_last(&self, epoch: u64) -> bool {
        self.inputs.iter().all(|i| i.frontier.is_none() && i.frames.range(epoch + 1..).next().is_none())
    }
    /// Notes what a frame says of its sender.
    ///
    /// The minimum is over active senders. All ended: the end of time. Some idle, the rest idle or ended: as far as the
    /// furthest of the idle ones (as in Flink), so that it doesn't matter which became idle first.
    pub fn update(&mut self, input: usize, from: usize, watermark: i64, status: Status) -> Change {
        if let Some(Some(sender)) = self.inputs[input].senders.get_mut(from) {
            *sender = (sender.0.max(watermark), status);
        }
        let (mut lowest, mut furthest_idle, mut active, mut idle) = (i64::MAX, i64::MIN, false, false);
        for (watermark, status) in self.inputs.iter().flat_map(|i| i.senders.iter().flatten()) {
            match status {
                Status::Active => {
                    active = true;
                    lowest = lowest.min(*watermark);
                }
                Status::Idle => {
                    idle = true;
                    furthest_idle = furthest_idle.max(*watermark);
                }
                Status::Ended => {}
            }
        }
        let status = match (active, idle) {
            (true, _) => Status::Active,
            (false, true) => Status::Idle,
            (false, false) => Status::Ended,
        };
        let mut change = Change::default();
        let reached = if status == Status::Idle { furthest_idle } else { lowest };
        if reached > self.watermark {
            self.watermark = reached;
            change.watermark = Some(Watermark(reached));
        }
        if status != self.status {
            self.status = status;
            change.status = Some(status);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_the_frontier_jumped_over_is_still_handled() {
        let mut inbox = Alignment::new(vec![vec![true]]);
        inbox.push(0, 4, Frame::new(0, 0, 7, Status::Active, None));
        inbox.set_frontier(0, Some(5));
        assert!(inbox.is_complete(3) && !inbox.is_complete(4));
        assert_eq!(inbox.pop(4).map(|(_, f)| f.watermark), Some(7));
        assert!(inbox.is_complete(4) && !inbox.is_complete(5));
        inbox.set_frontier(0, None);
        assert!(inbox.is_last(4));
    }

    #[test]
    fn idle_senders_leave_the_minimum_and_ended_ones_are_at_the_end_of_time() {
        let mut inbox = Alignment::new(vec![vec![true, true, false]]);
        let at = |w| Change { watermark: Some(Watermark(w)), status: None };
        assert_eq!(inbox.update(0, 0, 10, Status::Active), Change::default());
        assert_eq!(inbox.update(0, 1, 5, Status::Active), at(5));
        assert_eq!(inbox.update(0, 1, 5, Status::Idle), at(10));
        assert_eq!(inbox.update(0, 0, 10, Status::Ended), Change { watermark: None, status: Some(Status::Idle) });
        assert_eq!(
            inbox.update(0, 1, 12, Status::Active),
            Change { watermark: Some(Watermark(12)), status: Some(Status::Active) }
        );
        let end = Change { watermark: Some(Watermark::MAX), status: Some(Status::Ended) };
        assert_eq!(inbox.update(0, 1, i64::MAX, Status::Ended), end);
    }

    #[test]
    fn it_does_not_matter_which_sender_becomes_idle_first() {
        for order in [[0, 1], [1, 0]] {
            let mut inbox = Alignment::new(vec![vec![true, true]]);
            inbox.update(0, 0, 100, Status::Active);
            inbox.update(0, 1, 25, Status::Active);
            let changes = order.map(|s| inbox.update(0, s, i64::MIN, Status::Idle).watermark);
            assert_eq!(changes.into_iter().flatten().max(), Some(Watermark(100)), "{order:?}");
        }
    }
}
