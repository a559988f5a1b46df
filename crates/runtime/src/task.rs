//! A task: the fused nodes of one worker between two exchanges. Free of timely, so that tests can drive it.

use crate::align::Alignment;
use crate::credit::{Credit, ReceiverCredits};
use crate::exchange::{Frame, Status};
use crate::node::{Call, Kind, LocalNode, Pass, downstream, finish_flush, in_node, invoke, look_behind, process};
use crate::outputs::{Outgoing, Outputs};
use crate::source::{Next, SourceDriver};
use crate::worker::{JobMetrics, WorkerEvent};
use arrow::datatypes::SchemaRef;
use millstream_core::key::HashRange;
use millstream_core::operator::{Collector, InFlight, Port, StateDelta, TARGET_BATCH_ROWS};
use millstream_core::{Batch, Result, Watermark};
use std::collections::VecDeque;
use std::sync::Arc;

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Processing time, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// Time since some start, microseconds; never goes back.
    pub mono_us: u64,
}

/// What the sources are told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steer {
    /// The epoch to work in: those below it are to be ended.
    pub goal: u64,
    /// The last epoch of all, once all workers agree on it.
    pub last: Option<u64>,
    pub stopping: bool,
    pub committed: u64,
}

/// What a step leaves behind for its caller.
#[derive(Default)]
pub(crate) struct StepOutput {
    pub frames: Vec<Outgoing>,
    /// Credits to give back: on which input, what.
    pub credits: Vec<(usize, Credit)>,
    pub events: Vec<WorkerEvent>,
    /// Epochs that the task has handed over, and whether it was its last.
    pub epochs_done: Vec<(u64, bool)>,
}

/// When the task wants its next step; frames, credits and wakers give it one earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Again,
    /// In so many microseconds, or when something comes.
    Wait(Option<u64>),
    Finished,
}

/// What is to be done, in order, before more input is taken.
enum Chore {
    Call(usize, Call),
    /// A node that has ended is at the end of time, whatever it emitted itself.
    EndOfTime(usize),
    /// All that was held back has left: nobody needs to wait for this task.
    Idle,
    Ended,
    EndEpoch {
        last: bool,
    },
}

pub(crate) enum Head {
    Source(Box<SourceDriver>),
    Exchanges { alignment: Alignment, inputs: Vec<Input> },
}

pub(crate) struct Input {
    pub schema: SchemaRef,
    pub credits: ReceiverCredits,
}

/// The identity of the worker that a task runs on.
#[derive(Clone)]
pub(crate) struct Place {
    pub worker: usize,
    pub local_worker: usize,
    pub range: HashRange,
    pub metrics: Arc<JobMetrics>,
}

pub(crate) struct Task {
    place: Place,
    nodes: Vec<LocalNode>,
    head: Head,
    outputs: Outputs,
    agenda: VecDeque<Chore>,
    latency_us: u64,
    flush_at_us: Option<u64>,
    status: Status,
    /// Since when there is no room downstream.
    blocked_since_us: Option<u64>,
    /// Since when the epoch could end, but for what has no room or is still firing.
    wanted_since_us: Option<u64>,
    /// Frames that were taken although there was no room: on which input, from whom, rows, bytes. They give their
    /// credits back when there is room again, so that it doesn't matter how many epochs end until then.
    owed: Vec<(usize, usize, u64, u64)>,
    ended: bool,
    finished: bool,
}

/// For so long an epoch's end waits for room downstream before it does without.
const PATIENCE_US: u64 = 100_000;
/// And for so long, where there is room, for a firing to come to its end, which makes the snapshot smaller.
const FIRING_PATIENCE_US: u64 = 1_000_000;
/// Rows that one step handles before it lets others go on.
const STEP_ROWS: usize = 4 * TARGET_BATCH_ROWS;

impl Task {
    pub fn new(place: Place, mut nodes: Vec<LocalNode>, head: Head, outputs: Outputs, latency_us: u64) -> Self {
        assert!(!nodes.is_empty(), "a task has a node");
        look_behind(&mut nodes);
        Task {
            place,
            nodes,
            head,
            outputs,
            agenda: VecDeque::new(),
            latency_us,
            flush_at_us: None,
            status: Status::Active,
            blocked_since_us: None,
            wanted_since_us: None,
            owed: vec![],
            ended: false,
            finished: false,
        }
    }
    /// The epoch that it works in.
    pub fn epoch(&self) -> u64 {
        self.outputs.epoch
    }
    pub fn has_source(&self) -> bool {
        matches!(self.head, Head::Source(_))
    }
    /// Whether its input has ended and all that follows from that is emitted.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
    pub fn receive(&mut self, input: usize, epoch: u64, frame: Frame) {
        if let Head::Exchanges { alignment, .. } = &mut self.head {
            alignment.push(input, epoch, frame);
        }
    }
    pub fn set_frontier(&mut self, input: usize, frontier: Option<u64>) {
        if let Head::Exchanges { alignment, .. } = &mut self.head {
            alignment.set_frontier(input, frontier);
        }
    }
    pub fn returned(&mut self, output: usize, credit: &Credit) {
        self.outputs.returned(output, credit);
    }

    /// Works until there is nothing to do, no room, or enough done for now.
    pub fn step(&mut self, now: Moment, steer: &Steer, out: &mut StepOutput) -> Result<Outcome> {
        if let Head::Source(source) = &mut self.head {
            source.committed(steer.committed)?;
        }
        let outcome = self.work(now, steer, out);
        out.frames.append(&mut self.outputs.sent);
        if let Head::Exchanges { inputs, .. } = &mut self.head {
            for (input, i) in inputs.iter_mut().enumerate() {
                i.credits.drain(now.mono_us, &mut |credit| out.credits.push((input, credit)));
            }
        }
        outcome
    }

    fn work(&mut self, now: Moment, steer: &Steer, out: &mut StepOutput) -> Result<Outcome> {
        let mut budget = STEP_ROWS;
        if self.flush_at_us.is_some_and(|at| at <= now.mono_us) {
            self.outputs.flush()?;
        }
        loop {
            if self.finished {
                return Ok(Outcome::Finished);
            }
            if budget == 0 {
                return Ok(Outcome::Again);
            }
            // The deepest first: it holds up those before it.
            let pending = self.nodes.iter().rposition(|n| n.pending.is_some());
            let is_free = pending.is_none() && self.agenda.front().is_some_and(|c| !matches!(c, Chore::Call(..)));
            let is_blocked = !is_free && !self.has_room()?;
            let wanted_us = self.wanted_us(now, steer);
            let is_late = wanted_us >= if is_blocked { PATIENCE_US } else { FIRING_PATIENCE_US };
            // What has been asked for comes first: what waits for it may be next.
            if !is_blocked && let Some(node) = self.answered() {
                budget = budget.saturating_sub(TARGET_BATCH_ROWS / 8);
                self.call(node, Call::Timer, now)?;
                self.touch(now);
                continue;
            }
            if is_late && (is_blocked || pending.is_some()) && self.can_do_without_room()? {
                match self.go_on_without_room(now, steer, out)? {
                    Some(rows) => budget = budget.saturating_sub(rows),
                    None => return Ok(self.blocked(now)),
                }
                continue;
            }
            if let Some(node) = pending {
                if is_blocked {
                    return Ok(self.blocked(now));
                }
                budget = budget.saturating_sub(TARGET_BATCH_ROWS);
                if let Some(call) = self.nodes[node].pending.take() {
                    self.call(node, call, now)?;
                }
                continue;
            }
            if let Some(chore) = self.agenda.pop_front() {
                if is_blocked {
                    self.agenda.push_front(chore);
                    return Ok(self.blocked(now));
                }
                if !matches!(chore, Chore::Call(_, Call::Flush | Call::Timer)) && self.in_flight() != InFlight::Nothing
                {
                    self.agenda.push_front(chore);
                    return Ok(self.waiting(now, None));
                }
                self.perform(chore, now, out)?;
                continue;
            }
            if self.flush_at_us.is_some_and(|at| at <= now.mono_us) {
                self.flush_at_us = None;
                if !self.ended {
                    self.plan_flush();
                    continue;
                }
            }
            if let Some(node) = (0..self.nodes.len()).find(|n| self.timer_of(*n).is_some_and(|t| t <= now.now_ms)) {
                budget = budget.saturating_sub(TARGET_BATCH_ROWS / 8);
                self.agenda.push_back(Chore::Call(node, Call::Timer));
                self.touch(now);
                continue;
            }
            if is_blocked {
                return Ok(self.blocked(now));
            }
            if self.in_flight() == InFlight::Full {
                return Ok(self.waiting(now, None));
            }
            self.settle();
            match self.take_input(now, steer, true)? {
                Taken::Rows(rows) => budget = budget.saturating_sub(rows.max(64)),
                Taken::EndOfEpoch { last } => {
                    self.plan_flush();
                    self.agenda.push_back(Chore::EndEpoch { last });
                }
                Taken::Planned => {}
                Taken::Nothing(wait_us) => {
                    if self.outputs.has_waiting() {
                        self.touch(now);
                    }
                    return Ok(self.waiting(now, wait_us));
                }
            }
        }
    }

    /// For how long the epoch could have been over; 0 while nobody wants that, or everything has to leave first.
    fn wanted_us(&mut self, now: Moment, steer: &Steer) -> u64 {
        let epoch = self.outputs.epoch;
        let is_wanted = match &self.head {
            Head::Source(_) => steer.last.unwrap_or(steer.goal) > epoch,
            Head::Exchanges { alignment, .. } => alignment.has_passed(epoch) && !alignment.is_last(epoch),
        };
        if !is_wanted {
            self.wanted_since_us = None;
            return 0;
        }
        now.mono_us.saturating_sub(*self.wanted_since_us.get_or_insert(now.mono_us))
    }

    /// Whether the rest of the epoch can be taken, and the epoch ended, without room downstream: rows may go past the
    /// credits, but not to a sink that isn't ready.
    fn can_do_without_room(&mut self) -> Result<bool> {
        if self.nodes.iter().any(|n| n.behind.has_state && n.pending.is_some()) {
            return Ok(false);
        }
        Ok(!self.nodes[0].behind.reaches_sink || self.sinks_are_ready()?)
    }

    /// Takes input of this epoch, or ends it. What is pending stays so, and becomes part of the state. `None`: answers
    /// of other systems have to be waited for.
    fn go_on_without_room(&mut self, now: Moment, steer: &Steer, out: &mut StepOutput) -> Result<Option<usize>> {
        let pass = Pass { now_ms: now.now_ms, has_room: false };
        if let Some(node) = self.answered() {
            invoke(&mut self.nodes[node..], node, Call::Timer, &mut self.outputs, pass)?;
            return Ok(Some(TARGET_BATCH_ROWS / 8));
        }
        if self.in_flight() == InFlight::Full {
            return Ok(None);
        }
        match self.take_input(now, steer, false)? {
            Taken::Rows(rows) => Ok(Some(rows.max(64))),
            Taken::EndOfEpoch { last } => {
                assert!(!last, "everything leaves in the last epoch");
                for node in 0..self.nodes.len() {
                    invoke(&mut self.nodes[node..], node, Call::Flush, &mut self.outputs, pass)?;
                    finish_flush(&mut self.nodes[node..], node, &mut self.outputs, pass)?;
                }
                if self.in_flight() != InFlight::Nothing {
                    return Ok(None);
                }
                self.agenda.retain(|chore| !matches!(chore, Chore::EndEpoch { .. }));
                self.end_epoch(false, out)?;
                Ok(Some(TARGET_BATCH_ROWS))
            }
            Taken::Planned | Taken::Nothing(_) => Ok(Some(64)),
        }
    }

    /// There is room again: gives the credits back that were kept.
    fn settle(&mut self) {
        if let Head::Exchanges { inputs, .. } = &mut self.head {
            for (input, from, rows, bytes) in self.owed.drain(..) {
                inputs[input].credits.taken(from, rows, bytes);
            }
        }
    }

    fn take_input(&mut self, now: Moment, steer: &Steer, has_room: bool) -> Result<Taken> {
        let epoch = self.outputs.epoch;
        let pass = Pass { now_ms: now.now_ms, has_room };
        match &mut self.head {
            Head::Source(source) => {
                let behind = match steer.last {
                    Some(last) => epoch < last,
                    None => epoch < steer.goal,
                };
                if source.is_drained() && (behind || (source.ended && steer.last == Some(epoch))) {
                    return Ok(Taken::EndOfEpoch { last: !behind });
                }
                if source.ended || (steer.stopping && source.is_drained()) {
                    return Ok(Taken::Nothing(None));
                }
                if has_room {
                    let since = self.blocked_since_us.take();
                    source.adapt(since.map_or(0, |since| now.mono_us.saturating_sub(since)));
                }
                let next = source.next(now.now_ms).map_err(|e| in_node(e, &self.nodes[0].name))?;
                let status = source.status();
                match next {
                    Next::Rows(batch, watermark) => {
                        let rows = batch.num_rows();
                        self.change_status(status);
                        self.deliver(0, batch, pass)?;
                        if let Some(watermark) = watermark {
                            self.raise(watermark, pass)?;
                        }
                        self.touch(now);
                        Ok(Taken::Rows(rows))
                    }
                    Next::Tick(watermark) => {
                        self.change_status(status);
                        if let Some(watermark) = watermark {
                            self.raise(watermark, pass)?;
                        }
                        self.touch(now);
                        Ok(Taken::Rows(0))
                    }
                    Next::Wait(time) => Ok(Taken::Nothing(time.map(|t| t.as_micros() as u64))),
                    Next::End => {
                        source.ended = true;
                        self.raise(Watermark::MAX, pass)?;
                        self.plan_end_of_input();
                        Ok(Taken::Planned)
                    }
                }
            }
            Head::Exchanges { alignment, inputs } => {
                let Some((input, frame)) = alignment.pop(epoch) else {
                    if alignment.is_complete(epoch) {
                        return Ok(Taken::EndOfEpoch { last: alignment.is_last(epoch) });
                    }
                    return Ok(Taken::Nothing(None));
                };
                let (from, rows, bytes) = (frame.from as usize, frame.rows as usize, frame.bytes);
                let change = alignment.update(input, from, frame.watermark, frame.status);
                match has_room {
                    true => inputs[input].credits.taken(from, rows as u64, bytes),
                    false => self.owed.push((input, from, rows as u64, bytes)),
                }
                if let Some(batch) = frame.into_batch(&inputs[input].schema)? {
                    self.deliver(input, batch, pass)?;
                }
                if let Some(watermark) = change.watermark {
                    self.raise(watermark, pass)?;
                }
                match change.status {
                    Some(Status::Ended) => self.plan_end_of_input(),
                    Some(status) => self.change_status(status),
                    None => {}
                }
                self.touch(now);
                Ok(Taken::Rows(rows))
            }
        }
    }

    /// Rows for a port of the first node.
    fn deliver(&mut self, port: Port, batch: Batch, pass: Pass) -> Result<()> {
        process(&mut self.nodes, 0, port, batch, &mut self.outputs, pass)
    }

    /// Event time for the first node.
    fn raise(&mut self, watermark: Watermark, pass: Pass) -> Result<()> {
        self.nodes[0].watermark = watermark.0;
        invoke(&mut self.nodes, 0, Call::Watermark(watermark), &mut self.outputs, pass)?;
        for node in &self.nodes {
            self.place.metrics.set_watermark(node.node, self.place.local_worker, Watermark(node.watermark));
        }
        Ok(())
    }

    /// Makes a call for which there is room.
    fn call(&mut self, node: usize, call: Call, now: Moment) -> Result<()> {
        let pass = Pass { now_ms: now.now_ms, has_room: true };
        invoke(&mut self.nodes[node..], node, call, &mut self.outputs, pass)
    }

    fn perform(&mut self, chore: Chore, now: Moment, out: &mut StepOutput) -> Result<()> {
        match chore {
            Chore::Call(node, call) => self.call(node, call, now),
            Chore::EndOfTime(node) => {
                let (first, rest) = self.nodes[node..].split_first_mut().expect("the agenda names nodes of this task");
                let pass = Pass { now_ms: now.now_ms, has_room: true };
                downstream(first, rest, node + 1, &mut self.outputs, pass).1.emit_watermark(Watermark::MAX)
            }
            Chore::Idle => {
                // Input that came while it waited for room makes it active again.
                if self.status == Status::Idle {
                    self.outputs.set_status(Status::Idle);
                }
                Ok(())
            }
            Chore::Ended => {
                self.ended = true;
                self.outputs.set_status(Status::Ended);
                self.outputs.flush()
            }
            Chore::EndEpoch { last } => self.end_epoch(last, out),
        }
    }

    /// Becomes active at once, idle only after what the operators hold back: the receivers don't wait for it any more.
    fn change_status(&mut self, status: Status) {
        if std::mem::replace(&mut self.status, status) == status {
            return;
        }
        match status {
            Status::Idle => {
                self.plan_flush();
                self.agenda.push_back(Chore::Idle);
            }
            Status::Active | Status::Ended => self.outputs.set_status(status),
        }
    }

    fn plan_flush(&mut self) {
        for node in 0..self.nodes.len() {
            self.agenda.push_back(Chore::Call(node, Call::Flush));
        }
    }

    fn plan_end_of_input(&mut self) {
        for node in 0..self.nodes.len() {
            for call in [Call::Flush, Call::End, Call::Flush] {
                self.agenda.push_back(Chore::Call(node, call));
            }
            self.agenda.push_back(Chore::EndOfTime(node));
        }
        self.agenda.push_back(Chore::Ended);
    }

    fn end_epoch(&mut self, last: bool, out: &mut StepOutput) -> Result<()> {
        let (epoch, worker, range) = (self.outputs.epoch, self.place.worker, self.place.range);
        for node in &mut self.nodes {
            let node_id = node.id.clone();
            let delta = match &mut node.kind {
                Kind::Operator(operator) => operator.snapshot(epoch).map_err(|e| in_node(e, &node.name))?,
                Kind::Source => match &mut self.head {
                    Head::Source(source) => {
                        let bytes = source.reader.snapshot().map_err(|e| in_node(e, &node.name))?;
                        source.reader.at_epoch_end(epoch);
                        out.events.push(WorkerEvent::SourcePosition { epoch, node_id, worker, bytes });
                        let instance = source.generator.as_ref().map(|g| g.snapshot());
                        StateDelta { tables: vec![], instance }
                    }
                    Head::Exchanges { .. } => StateDelta::default(),
                },
                Kind::Sink(writer) => {
                    let committables = writer.prepare_commit(epoch, last).map_err(|e| in_node(e, &node.name))?;
                    out.events.push(WorkerEvent::Prepared { epoch, node_id, worker, committables });
                    continue;
                }
            };
            if !delta.tables.is_empty() || delta.instance.is_some() {
                let (node_id, tables) = (node.id.clone(), node.tables.clone());
                out.events.push(WorkerEvent::Snapshot { epoch, worker, node_id, delta, tables, range });
            }
        }
        self.outputs.end_epoch()?;
        out.epochs_done.push((epoch, last));
        self.finished = last;
        (self.flush_at_us, self.wanted_since_us) = (None, None);
        if !last {
            self.outputs.epoch += 1;
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn in_flight_rows_max(&self) -> u64 {
        self.outputs.in_flight_rows_max()
    }

    fn has_room(&mut self) -> Result<bool> {
        Ok(self.outputs.has_room() && self.sinks_are_ready()?)
    }

    fn sinks_are_ready(&mut self) -> Result<bool> {
        for node in &mut self.nodes {
            if let Kind::Sink(writer) = &mut node.kind
                && !writer.is_ready().map_err(|e| in_node(e, &node.name))?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Something was done, so something may wait for a flush.
    fn touch(&mut self, now: Moment) {
        self.flush_at_us.get_or_insert(now.mono_us + self.latency_us);
    }

    fn timer_of(&self, node: usize) -> Option<i64> {
        match &self.nodes[node].kind {
            Kind::Operator(operator) if !self.ended => operator.next_timer(),
            _ => None,
        }
    }

    /// What the operators wait for from other systems, all in all.
    fn in_flight(&self) -> InFlight {
        let mut most = InFlight::Nothing;
        for node in &self.nodes {
            if let Kind::Operator(operator) = &node.kind {
                match operator.in_flight() {
                    InFlight::Nothing => {}
                    InFlight::Some => most = InFlight::Some,
                    InFlight::Full => return InFlight::Full,
                }
            }
        }
        most
    }

    /// An operator to which another system has answered; the deepest, which holds up those before it.
    fn answered(&self) -> Option<usize> {
        let is_answered = |node: &LocalNode| match &node.kind {
            Kind::Operator(o) => o.in_flight() != InFlight::Nothing && o.next_timer().is_some_and(|at| at <= 0),
            Kind::Source | Kind::Sink(_) => false,
        };
        self.nodes.iter().rposition(is_answered)
    }

    /// What can't be done now is done when a credit comes or a sink wakes the worker.
    fn blocked(&mut self, now: Moment) -> Outcome {
        self.blocked_since_us.get_or_insert(now.mono_us);
        let times = [self.flush_at_us, self.wanted_since_us.map(|since| since + PATIENCE_US)];
        let next = times.into_iter().flatten().filter(|at| *at > now.mono_us).min();
        Outcome::Wait(next.map(|at| at - now.mono_us))
    }

    fn waiting(&self, now: Moment, input_us: Option<u64>) -> Outcome {
        let flush_us = self.flush_at_us.map(|at| at.saturating_sub(now.mono_us));
        let timer = (0..self.nodes.len()).filter_map(|n| self.timer_of(n)).min();
        // A time that is far away is waited for in parts: the clock may be set.
        let timer_us = timer.map(|t| t.saturating_sub(now.now_ms).clamp(1, 60_000) as u64 * 1000);
        Outcome::Wait([flush_us, timer_us, input_us].into_iter().flatten().min())
    }
}

enum Taken {
    Rows(usize),
    Planned,
    /// Nothing: the epoch is over once what the operators hold back has left.
    EndOfEpoch {
        last: bool,
    },
    Nothing(Option<u64>),
}
