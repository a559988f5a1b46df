//! A model of a job's tasks under a random scheduler: alignment, credits, epochs, a slow sink and the end, without timely.

use crate::align::Alignment;
use crate::credit::{Credit, ReceiverCredits};
use crate::exchange::Frame;
use crate::fuse::Route;
use crate::node::{Kind, LocalNode, Target};
use crate::outputs::{Output, Outputs};
use crate::source::SourceDriver;
use crate::task::*;
use crate::worker::{JobMetrics, WorkerEvent};
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use millstream_core::key::HashRange;
use millstream_core::operator::*;
use millstream_core::sink::SinkWriter;
use millstream_core::source::{SourcePoll, SourceReader};
use millstream_core::{Batch, DataType, Field, Result, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PEERS: usize = 3;
const LAST: u64 = 9;

fn schema() -> Schema {
    Schema::new(vec![Field::new("v", DataType { kind: TypeKind::BigInt, nullable: false })])
}

struct Reader {
    at: i64,
    end: i64,
    batch: i64,
}

impl SourceReader for Reader {
    fn poll(&mut self, _: usize) -> Result<SourcePoll> {
        if self.at >= self.end {
            return Ok(SourcePoll::End);
        }
        let to = (self.at + self.batch).min(self.end);
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(self.at..to));
        self.at = to;
        let rows = values.len();
        Ok(SourcePoll::Rows { split: 0, batch: Batch::from_columns(schema().arrow().clone(), vec![values], rows)? })
    }
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(self.at.to_le_bytes().to_vec())
    }
}

/// Before the exchange: the highest value is the watermark.
struct Stamp;

impl Operator for Stamp {
    fn restore(&mut self, _: Restored) -> Result<()> {
        Ok(())
    }
    fn process(&mut self, _: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let highest = batch.column(0).as_primitive::<Int64Type>().values().iter().max().copied().unwrap_or(0);
        ctx.emit(batch)?;
        ctx.emit_watermark(Watermark(highest))
    }
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }
    fn on_timer(&mut self, _: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn next_timer(&self) -> Option<i64> {
        None
    }
    fn flush(&mut self, _: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn on_end(&mut self, _: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, _: u64) -> Result<StateDelta> {
        Ok(StateDelta::default())
    }
}

/// After the exchange: holds rows until the watermark reaches them. The state is (rows, watermark, rows that have left).
#[derive(Default)]
struct Hold {
    rows: i64,
    watermark: i64,
    left: i64,
    waiting: BinaryHeap<Reverse<i64>>,
}

impl Operator for Hold {
    fn restore(&mut self, _: Restored) -> Result<()> {
        Ok(())
    }
    fn process(&mut self, _: Port, batch: Batch, _: &mut Context<'_>) -> Result<()> {
        self.rows += batch.num_rows() as i64;
        self.waiting.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().map(|v| Reverse(*v)));
        Ok(())
    }
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        assert!(watermark.0 >= self.watermark, "watermarks rise");
        self.watermark = watermark.0;
        let mut part = vec![];
        while self.waiting.peek().is_some_and(|v| v.0 <= watermark.0) {
            if part.len() == 500 || !ctx.has_room() {
                break;
            }
            part.extend(self.waiting.pop().map(|v| v.0));
        }
        let rows = part.len();
        self.left += rows as i64;
        ctx.emit(Batch::from_columns(schema().arrow().clone(), vec![Arc::new(Int64Array::from(part))], rows)?)?;
        if self.waiting.peek().is_some_and(|v| v.0 <= watermark.0) {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }
    fn on_timer(&mut self, _: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn next_timer(&self) -> Option<i64> {
        None
    }
    fn flush(&mut self, _: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn on_end(&mut self, _: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, _: u64) -> Result<StateDelta> {
        let state = [self.rows, self.watermark, self.left].map(i64::to_le_bytes).concat();
        Ok(StateDelta { tables: vec![], instance: Some(state) })
    }
}

/// Takes one batch at a time, then none until some steps later. Commits how many rows it has had.
struct Slow {
    clock: Arc<AtomicU64>,
    steps: u64,
    ready_at: u64,
    rows: i64,
}

impl SinkWriter for Slow {
    fn is_ready(&mut self) -> Result<bool> {
        Ok(self.clock.load(Ordering::Relaxed) >= self.ready_at)
    }
    fn write(&mut self, batch: &Batch) -> Result<()> {
        assert!(self.is_ready()?, "a row for a sink that isn't ready");
        self.ready_at = self.clock.load(Ordering::Relaxed) + self.steps;
        self.rows += batch.num_rows() as i64;
        Ok(())
    }
    fn prepare_commit(&mut self, _: u64, _: bool) -> Result<Vec<Vec<u8>>> {
        Ok(vec![self.rows.to_le_bytes().to_vec()])
    }
}

fn new_task(worker: usize, nodes: Vec<LocalNode>, head: Head, outputs: Vec<Output>) -> Task {
    let metrics = JobMetrics::of_nodes(1, 1);
    let place = Place { worker, local_worker: 0, range: HashRange::of_worker(worker, PEERS), metrics };
    Task::new(place, nodes, head, Outputs::new(outputs, 1), 5_000)
}

fn node(kind: Kind, ports: usize, targets: &[Target]) -> LocalNode {
    let mut node = LocalNode::new(0, "n", "n", kind, ports, Default::default());
    node.targets = Arc::from(targets);
    node
}

fn source(worker: usize, reader: Reader) -> Task {
    let arrow = schema().arrow().clone();
    let nodes = vec![
        node(Kind::Source, 0, &[Target::Node { local: 1, port: 0 }]),
        node(Kind::Operator(Box::new(Stamp)), 1, &[Target::Output(0)]),
    ];
    let output = Output::new(Route::Hash(vec![0]), arrow.clone(), worker, PEERS, 64, u64::MAX);
    let driver = SourceDriver::new(Box::new(reader), arrow, None, None, Default::default());
    new_task(worker, nodes, Head::Source(Box::new(driver)), vec![output])
}

fn holder(worker: usize, sink: Slow) -> Task {
    let hold = Hold { watermark: i64::MIN, ..Hold::default() };
    let mut nodes = vec![
        node(Kind::Operator(Box::new(hold)), 1, &[Target::Node { local: 1, port: 0 }]),
        node(Kind::Sink(Box::new(sink)), 1, &[]),
    ];
    nodes[0].holds_rows = true;
    let input = Input { schema: schema().arrow().clone(), credits: ReceiverCredits::new(worker, PEERS) };
    let alignment = Alignment::new(vec![vec![true; PEERS]]);
    new_task(worker, nodes, Head::Exchanges { alignment, inputs: vec![input] }, vec![])
}

/// Steps within which an epoch ends once all sources are told to, however slow the sink is.
const STEPS_MAX: u64 = 60_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn snapshots_hold_what_was_read_before_them_with_one_watermark(
        seed in any::<u64>(),
        lengths in proptest::collection::vec(0i64..40_000, PEERS),
        batch in 1i64..900,
        slowness in 0u64..3000,
    ) {
        let mut state = seed | 1;
        let mut random = move |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) % n
        };
        let mut sources: Vec<Task> =
            (0..PEERS)
                .map(|w| source(w, Reader { at: 0, end: lengths[w], batch: batch.max(lengths[w] / 300) }))
                .collect();
        let clock = Arc::new(AtomicU64::new(0));
        let sink = || Slow { clock: clock.clone(), steps: slowness, ready_at: 0, rows: 0 };
        let mut holders: Vec<Task> = (0..PEERS).map(|w| holder(w, sink())).collect();
        let mut frames: Vec<VecDeque<(u64, Frame)>> = (0..PEERS * PEERS).map(|_| VecDeque::new()).collect();
        let mut credits: Vec<VecDeque<Credit>> = (0..PEERS * PEERS).map(|_| VecDeque::new()).collect();
        let (mut finished, mut goals) = ([false; 2 * PEERS], [1u64; PEERS]);
        let mut read: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut seen: BTreeMap<u64, Vec<[i64; 3]>> = BTreeMap::new();
        let mut written: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut wanted_at: BTreeMap<u64, u64> = BTreeMap::new();
        let mut steps = 0u64;
        while finished.iter().any(|f| !f) {
            steps += 1;
            prop_assert!(steps < 2_000_000, "the tasks are stuck");
            clock.store(steps, Ordering::Relaxed);
            let now = Moment { now_ms: 0, mono_us: steps * 100 };
            let w = random(PEERS as u64) as usize;
            let mut out = StepOutput::default();
            match random(4) {
                0 => {
                    if random(300) == 0 {
                        goals[w] = (goals[w] + 1).min(LAST);
                    }
                    while let Some(credit) = credits[w * PEERS + random(PEERS as u64) as usize].pop_front() {
                        sources[w].returned(0, &credit);
                    }
                    let all_ended = sources.iter().all(Task::has_ended);
                    let last = all_ended.then_some(LAST);
                    let wanted = last.or(goals.iter().min().copied()).unwrap_or(0);
                    for epoch in 1..wanted {
                        wanted_at.entry(epoch).or_insert(steps);
                    }
                    let steer = Steer { goal: goals[w], last, ..Steer::default() };
                    finished[w] = sources[w].step(now, &steer, &mut out).unwrap() == Outcome::Finished;
                    for sent in out.frames {
                        frames[w * PEERS + sent.frame.dest as usize].push_back((sent.epoch, sent.frame));
                    }
                    prop_assert!(sources[w].in_flight_rows_max() < 4 * TARGET_BATCH_ROWS as u64);
                }
                1 | 2 => {
                    let from = random(PEERS as u64) as usize;
                    for _ in 0..random(4) {
                        if let Some((epoch, frame)) = frames[from * PEERS + w].pop_front() {
                            holders[w].receive(0, epoch, frame);
                        }
                    }
                }
                _ => {
                    let open = (0..PEERS).filter(|s| !finished[*s]).map(|s| sources[s].epoch());
                    let moving = (0..PEERS).filter_map(|s| frames[s * PEERS + w].front().map(|f| f.0));
                    let frontier = open.chain(moving).min();
                    holders[w].set_frontier(0, frontier);
                    let steer = Steer::default();
                    finished[PEERS + w] = holders[w].step(now, &steer, &mut out).unwrap() == Outcome::Finished;
                    for (_, credit) in out.credits {
                        credits[credit.sender as usize * PEERS + w].push_back(credit);
                    }
                }
            }
            for (epoch, is_last) in out.epochs_done {
                let since = wanted_at.get(&epoch).copied().unwrap_or(steps);
                prop_assert!(is_last || steps - since < STEPS_MAX, "epoch {} waits for the sink", epoch);
            }
            for event in out.events {
                let i64_at = |b: &[u8], at: usize| i64::from_le_bytes(b[at..at + 8].try_into().unwrap());
                match event {
                    WorkerEvent::SourcePosition { epoch, bytes, .. } => {
                        read.entry(epoch).or_default().push(i64_at(&bytes, 0));
                    }
                    WorkerEvent::Snapshot { epoch, delta, .. } => {
                        let state = delta.instance.unwrap();
                        seen.entry(epoch).or_default().push([0, 8, 16].map(|at| i64_at(&state, at)));
                    }
                    WorkerEvent::Prepared { epoch, committables, .. } => {
                        written.entry(epoch).or_default().push(i64_at(&committables[0], 0));
                    }
                    _ => {}
                }
            }
        }
        prop_assert_eq!(read.keys().copied().collect::<Vec<_>>(), (1..=LAST).collect::<Vec<_>>());
        for (epoch, positions) in read {
            let states = &seen[&epoch];
            prop_assert_eq!((positions.len(), states.len()), (PEERS, PEERS));
            prop_assert_eq!(positions.iter().sum::<i64>(), states.iter().map(|s| s[0]).sum::<i64>());
            prop_assert!(states.iter().all(|s| s[1] == states[0][1]), "{:?}", states);
            // What has left the operators is in the sinks.
            prop_assert_eq!(&states.iter().map(|s| s[2]).collect::<Vec<_>>(), &written[&epoch]);
        }
        prop_assert_eq!(seen[&LAST][0][1], i64::MAX);
        prop_assert_eq!(written[&LAST].iter().sum::<i64>(), lengths.iter().sum::<i64>());
    }
}
