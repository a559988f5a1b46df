//! A task: the fused nodes of one worker between two exchanges. Free of timely, so that tests can drive it.

use crate::align::Alignment;
use crate::credit::{Credit, ReceiverCredits};
use crate::exchange::{Frame, Status};
use crate::outputs::{Outgoing, Outputs};
use crate::source::{Next, SourceDriver};
use crate::worker::{JobMetrics, WorkerEvent};
use arrow::datatypes::SchemaRef;
use millstream_core::graph::NodeIndex;
use millstream_core::key::HashRange;
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::operator::{
    Collector, Context, Operator, Port, Progress, StateDelta, TARGET_BATCH_ROWS, TableSpec,
};
use millstream_core::sink::SinkWriter;
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

/// Where a node's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Node { local: usize, port: Port },
    Output(usize),
}

pub(crate) enum Kind {
    Source,
    Operator(Box<dyn Operator>),
    Sink(Box<dyn SinkWriter>),
}

/// One node of a task.
pub(crate) struct LocalNode {
    pub node: NodeIndex,
    pub id: String,
    pub name: String,
    pub kind: Kind,
    pub tables: Arc<[TableSpec]>,
    pub targets: Arc<[Target]>,
    pub metrics: MetricsRef,
    /// The watermark that arrived on each port.
    ports: Vec<i64>,
    /// Their minimum, and what the node itself has emitted.
    watermark: i64,
    emitted: i64,
    /// A call that has returned `More`.
    pending: Option<Call>,
}

impl LocalNode {
    pub fn new(node: NodeIndex, id: &str, name: &str, kind: Kind, ports: usize, metrics: MetricsRef) -> Self {
        LocalNode {
            node,
            id: id.to_string(),
            name: name.to_string(),
            kind,
            tables: Arc::from([]),
            targets: Arc::from([]),
            metrics,
            ports: vec![i64::MIN; ports],
            watermark: i64::MIN,
            emitted: i64::MIN,
            pending: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Watermark(Watermark),
    Timer,
    Flush,
    End,
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
    ended: bool,
    finished: bool,
}

/// Rows that one step handles before it lets others go on.
const STEP_ROWS: usize = 4 * TARGET_BATCH_ROWS;

impl Task {
    pub fn new(place: Place, nodes: Vec<LocalNode>, head: Head, outputs: Outputs, latency_us: u64) -> Self {
        assert!(!nodes.is_empty(), "a task has a node");
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
            // The deepest first: it holds up those before it.
            if let Some(node) = self.nodes.iter().rposition(|n| n.pending.is_some()) {
                if !self.has_room()? {
                    return Ok(self.blocked(now));
                }
                if budget == 0 {
                    return Ok(Outcome::Again);
                }
                budget = budget.saturating_sub(TARGET_BATCH_ROWS);
                if let Some(call) = self.nodes[node].pending.take() {
                    self.call(node, call, now)?;
                }
                continue;
            }
            if let Some(chore) = self.agenda.pop_front() {
                if matches!(chore, Chore::Call(..)) && !self.has_room()? {
                    self.agenda.push_front(chore);
                    return Ok(self.blocked(now));
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
                if budget == 0 {
                    return Ok(Outcome::Again);
                }
                budget = budget.saturating_sub(TARGET_BATCH_ROWS / 8);
                self.agenda.push_back(Chore::Call(node, Call::Timer));
                self.touch(now);
                continue;
            }
            if !self.has_room()? {
                return Ok(self.blocked(now));
            }
            if budget == 0 {
                return Ok(Outcome::Again);
            }
            match self.take_input(now, steer)? {
                Taken::Rows(rows) => budget = budget.saturating_sub(rows.max(64)),
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

    fn take_input(&mut self, now: Moment, steer: &Steer) -> Result<Taken> {
        let epoch = self.outputs.epoch;
        match &mut self.head {
            Head::Source(source) => {
                let behind = match steer.last {
                    Some(last) => epoch < last,
                    None => epoch < steer.goal,
                };
                if source.is_drained() && (behind || (source.ended && steer.last == Some(epoch))) {
                    self.plan_end_of_epoch(!behind);
                    return Ok(Taken::Planned);
                }
                if source.ended || (steer.stopping && source.is_drained()) {
                    return Ok(Taken::Nothing(None));
                }
                let blocked_us = self.blocked_since_us.take().map_or(0, |since| now.mono_us.saturating_sub(since));
                source.adapt(blocked_us);
                let next = source.next(now.now_ms).map_err(|e| in_node(e, &self.nodes[0].name))?;
                let status = source.status();
                match next {
                    Next::Rows(batch, watermark) => {
                        let rows = batch.num_rows();
                        self.change_status(status);
                        self.deliver(0, batch, now)?;
                        if let Some(watermark) = watermark {
                            self.raise(watermark, now)?;
                        }
                        self.touch(now);
                        Ok(Taken::Rows(rows))
                    }
                    Next::Tick(watermark) => {
                        self.change_status(status);
                        if let Some(watermark) = watermark {
                            self.raise(watermark, now)?;
                        }
                        self.touch(now);
                        Ok(Taken::Rows(0))
                    }
                    Next::Wait(time) => Ok(Taken::Nothing(time.map(|t| t.as_micros() as u64))),
                    Next::End => {
                        source.ended = true;
                        self.raise(Watermark::MAX, now)?;
                        self.plan_end_of_input();
                        Ok(Taken::Planned)
                    }
                }
            }
            Head::Exchanges { alignment, inputs } => {
                let Some((input, frame)) = alignment.pop(epoch) else {
                    if alignment.is_complete(epoch) {
                        let last = alignment.is_last(epoch);
                        self.plan_end_of_epoch(last);
                        return Ok(Taken::Planned);
                    }
                    return Ok(Taken::Nothing(None));
                };
                let (from, rows, bytes) = (frame.from as usize, frame.rows as usize, frame.bytes);
                let change = alignment.update(input, from, frame.watermark, frame.status);
                inputs[input].credits.taken(from, rows as u64, bytes);
                if let Some(batch) = frame.into_batch(&inputs[input].schema)? {
                    self.deliver(input, batch, now)?;
                }
                if let Some(watermark) = change.watermark {
                    self.raise(watermark, now)?;
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
    fn deliver(&mut self, port: Port, batch: Batch, now: Moment) -> Result<()> {
        process(&mut self.nodes, 0, port, batch, &mut self.outputs, now)
    }

    /// Event time for the first node.
    fn raise(&mut self, watermark: Watermark, now: Moment) -> Result<()> {
        self.nodes[0].watermark = watermark.0;
        self.call(0, Call::Watermark(watermark), now)?;
        for node in &self.nodes {
            self.place.metrics.set_watermark(node.node, self.place.local_worker, Watermark(node.watermark));
        }
        Ok(())
    }

    fn call(&mut self, node: usize, call: Call, now: Moment) -> Result<()> {
        invoke(&mut self.nodes[node..], node, call, &mut self.outputs, now)
    }

    fn perform(&mut self, chore: Chore, now: Moment, out: &mut StepOutput) -> Result<()> {
        match chore {
            Chore::Call(node, call) => self.call(node, call, now),
            Chore::EndOfTime(node) => {
                let (first, rest) = self.nodes[node..].split_first_mut().expect("the agenda names nodes of this task");
                downstream(first, rest, node + 1, &mut self.outputs, now).1.emit_watermark(Watermark::MAX)
            }
            Chore::Idle => {
                self.outputs.set_status(Status::Idle);
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

    fn plan_end_of_epoch(&mut self, last: bool) {
        self.plan_flush();
        self.agenda.push_back(Chore::EndEpoch { last });
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
        self.flush_at_us = None;
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
        if !self.outputs.has_room() {
            return Ok(false);
        }
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

    /// What can't be done now is done when a credit comes or a sink wakes the worker.
    fn blocked(&mut self, now: Moment) -> Outcome {
        self.blocked_since_us.get_or_insert(now.mono_us);
        Outcome::Wait(self.flush_at_us.filter(|at| *at > now.mono_us).map(|at| at - now.mono_us))
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
    Nothing(Option<u64>),
}

fn in_node(error: millstream_core::Error, name: &str) -> millstream_core::Error {
    error.detail(format!("in the operator {name}"))
}

/// What is behind a node: the nodes after it and the exchanges.
struct Downstream<'a> {
    rest: &'a mut [LocalNode],
    /// The place of `rest[0]` in the task.
    base: usize,
    targets: &'a [Target],
    outputs: &'a mut Outputs,
    emitted: &'a mut i64,
    metrics: &'a MetricsRef,
    now: Moment,
}

fn downstream<'a>(
    node: &'a mut LocalNode,
    rest: &'a mut [LocalNode],
    base: usize,
    outputs: &'a mut Outputs,
    now: Moment,
) -> (&'a mut Kind, Downstream<'a>) {
    let LocalNode { kind, targets, emitted, metrics, .. } = node;
    (kind, Downstream { rest, base, targets, outputs, emitted, metrics, now })
}

impl Collector for Downstream<'_> {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        add(&self.metrics.rows_out, batch.num_rows() as u64);
        for target in self.targets {
            match *target {
                Target::Node { local, port } => {
                    let (at, rest) = (local - self.base, &mut *self.rest);
                    process(&mut rest[at..], local, port, batch.clone(), self.outputs, self.now)?;
                }
                Target::Output(output) => self.outputs.push(output, batch.clone())?,
            }
        }
        Ok(())
    }

    fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        if watermark.0 <= *self.emitted {
            return Ok(());
        }
        *self.emitted = watermark.0;
        for target in self.targets {
            match *target {
                Target::Node { local, port } => {
                    let nodes = &mut self.rest[local - self.base..];
                    nodes[0].ports[port] = watermark.0;
                    let lowest = nodes[0].ports.iter().copied().min().unwrap_or(i64::MIN);
                    if lowest > nodes[0].watermark {
                        nodes[0].watermark = lowest;
                        invoke(nodes, local, Call::Watermark(Watermark(lowest)), self.outputs, self.now)?;
                    }
                }
                Target::Output(output) => self.outputs.set_watermark(output, watermark.0),
            }
        }
        Ok(())
    }
}

/// Finishes what a node has left to do, which is rare: it was resumed for as long as there was room.
fn finish(nodes: &mut [LocalNode], base: usize, outputs: &mut Outputs, now: Moment) -> Result<()> {
    while let Some(call) = nodes[0].pending.take() {
        invoke_once(nodes, base, call, outputs, now)?;
    }
    Ok(())
}

/// Hands rows to `nodes[0]`, which is at `base` in its task.
fn process(
    nodes: &mut [LocalNode],
    base: usize,
    port: Port,
    batch: Batch,
    outputs: &mut Outputs,
    now: Moment,
) -> Result<()> {
    finish(nodes, base, outputs, now)?;
    let (node, rest) = nodes.split_first_mut().expect("a target is a node of the task");
    let (metrics, name) = (node.metrics.clone(), node.name.clone());
    let (kind, mut out) = downstream(node, rest, base + 1, outputs, now);
    match kind {
        Kind::Source => out.emit(batch),
        Kind::Operator(operator) => {
            add(&metrics.rows_in, batch.num_rows() as u64);
            let mut ctx = Context { out: &mut out, now_ms: now.now_ms, metrics: &metrics };
            operator.process(port, batch, &mut ctx).map_err(|e| in_node(e, &name))
        }
        Kind::Sink(writer) => {
            add(&metrics.rows_in, batch.num_rows() as u64);
            writer.write(&batch).map_err(|e| in_node(e, &name))?;
            add(&metrics.rows_out, batch.num_rows() as u64);
            Ok(())
        }
    }
}

fn invoke(nodes: &mut [LocalNode], base: usize, call: Call, outputs: &mut Outputs, now: Moment) -> Result<()> {
    finish(nodes, base, outputs, now)?;
    invoke_once(nodes, base, call, outputs, now)
}

fn invoke_once(nodes: &mut [LocalNode], base: usize, call: Call, outputs: &mut Outputs, now: Moment) -> Result<()> {
    let (node, rest) = nodes.split_first_mut().expect("a target is a node of the task");
    let metrics = node.metrics.clone();
    let (kind, mut out) = downstream(node, rest, base + 1, outputs, now);
    let progress = match kind {
        Kind::Operator(operator) => {
            let mut ctx = Context { out: &mut out, now_ms: now.now_ms, metrics: &metrics };
            match call {
                Call::Watermark(watermark) => operator.on_watermark(watermark, &mut ctx),
                Call::Timer => operator.on_timer(&mut ctx),
                Call::Flush => operator.flush(&mut ctx),
                Call::End => operator.on_end(&mut ctx),
            }
        }
        Kind::Source => match call {
            Call::Watermark(watermark) => out.emit_watermark(watermark).map(|()| Progress::Done),
            Call::Timer | Call::Flush | Call::End => Ok(Progress::Done),
        },
        Kind::Sink(writer) => match call {
            Call::Flush => writer.flush().map(|()| Progress::Done),
            Call::Watermark(_) | Call::Timer | Call::End => Ok(Progress::Done),
        },
    };
    if progress.map_err(|e| in_node(e, &node.name))? == Progress::More {
        node.pending = Some(call);
    }
    Ok(())
}
