//! A model of a job's tasks under a random scheduler: alignment, credits, epochs and the end, without timely.

use crate::align::Alignment;
use crate::credit::{Credit, ReceiverCredits};
use crate::exchange::Frame;
use crate::fuse::Route;
use crate::outputs::{Output, Outputs};
use crate::source::SourceDriver;
use crate::task::*;
use crate::worker::{JobMetrics, WorkerEvent};
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use millstream_core::key::HashRange;
use millstream_core::operator::*;
use millstream_core::source::{SourcePoll, SourceReader};
use millstream_core::{Batch, DataType, Field, Result, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const PEERS: usize = 3;
const LAST: u64 = 6;

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

/// Before the exchange: the highest value is the watermark. After it: the state is (rows, watermark).
#[derive(Default)]
struct Stamp {
    counts: bool,
    rows: i64,
    watermark: i64,
}

impl Operator for Stamp {
    fn restore(&mut self, _: Restored) -> Result<()> {
        Ok(())
    }
    fn process(&mut self, _: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        self.rows += batch.num_rows() as i64;
        let highest = batch.column(0).as_primitive::<Int64Type>().values().iter().max().copied().unwrap_or(0);
        ctx.emit(batch)?;
        if self.counts { Ok(()) } else { ctx.emit_watermark(Watermark(highest)) }
    }
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        assert!(watermark.0 > self.watermark, "watermarks rise");
        self.watermark = watermark.0;
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
        let state = [self.rows.to_le_bytes(), self.watermark.to_le_bytes()].concat();
        Ok(StateDelta { tables: vec![], instance: self.counts.then_some(state) })
    }
}

fn task(worker: usize, source: Option<Reader>) -> Task {
    let metrics = JobMetrics::of_nodes(1, 1);
    let place = Place { worker, local_worker: 0, range: HashRange::of_worker(worker, PEERS), metrics };
    let stamp = Stamp { counts: source.is_none(), rows: 0, watermark: i64::MIN };
    let node = |kind, ports| LocalNode::new(0, "n", "n", kind, ports, Default::default());
    let mut nodes = vec![node(Kind::Operator(Box::new(stamp)), 1)];
    let (mut outputs, arrow) = (vec![], schema().arrow().clone());
    let head = match source {
        Some(reader) => {
            nodes.insert(0, node(Kind::Source, 0));
            nodes[0].targets = Arc::from([Target::Node { local: 1, port: 0 }]);
            nodes[1].targets = Arc::from([Target::Output(0)]);
            outputs.push(Output::new(Route::Hash(vec![0]), arrow.clone(), worker, PEERS, 64, u64::MAX));
            Head::Source(Box::new(SourceDriver::new(Box::new(reader), arrow, None, None, Default::default())))
        }
        None => Head::Exchanges {
            alignment: Alignment::new(vec![vec![true; PEERS]]),
            inputs: vec![Input { schema: arrow, credits: ReceiverCredits::new(worker, PEERS) }],
        },
    };
    Task::new(place, nodes, head, Outputs::new(outputs, 1), 5_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn snapshots_hold_what_was_read_before_them_with_one_watermark(
        seed in any::<u64>(),
        lengths in proptest::collection::vec(0i64..40_000, PEERS),
        batch in 1i64..900,
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
                .map(|w| task(w, Some(Reader { at: 0, end: lengths[w], batch: batch.max(lengths[w] / 300) })))
                .collect();
        let mut counters: Vec<Task> = (0..PEERS).map(|w| task(w, None)).collect();
        let mut frames: Vec<VecDeque<(u64, Frame)>> = (0..PEERS * PEERS).map(|_| VecDeque::new()).collect();
        let mut credits: Vec<VecDeque<Credit>> = (0..PEERS * PEERS).map(|_| VecDeque::new()).collect();
        let (mut finished, mut goals) = ([false; 2 * PEERS], [1u64; PEERS]);
        let mut read: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut seen: BTreeMap<u64, Vec<(i64, i64)>> = BTreeMap::new();
        let mut steps = 0u64;
        while finished.iter().any(|f| !f) {
            steps += 1;
            prop_assert!(steps < 2_000_000, "the tasks are stuck");
            let now = Moment { now_ms: 0, mono_us: steps * 100 };
            let w = random(PEERS as u64) as usize;
            let mut out = StepOutput::default();
            match random(4) {
                0 => {
                    if random(40) == 0 {
                        goals[w] = (goals[w] + 1).min(LAST);
                    }
                    while let Some(credit) = credits[w * PEERS + random(PEERS as u64) as usize].pop_front() {
                        sources[w].returned(0, &credit);
                    }
                    let all_ended = sources.iter().all(Task::has_ended);
                    let last = all_ended.then_some(LAST);
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
                            counters[w].receive(0, epoch, frame);
                        }
                    }
                }
                _ => {
                    let open = (0..PEERS).filter(|s| !finished[*s]).map(|s| sources[s].epoch());
                    let moving = (0..PEERS).filter_map(|s| frames[s * PEERS + w].front().map(|f| f.0));
                    let frontier = open.chain(moving).min();
                    counters[w].set_frontier(0, frontier);
                    let steer = Steer::default();
                    finished[PEERS + w] = counters[w].step(now, &steer, &mut out).unwrap() == Outcome::Finished;
                    for (_, credit) in out.credits {
                        credits[credit.sender as usize * PEERS + w].push_back(credit);
                    }
                }
            }
            for event in out.events {
                let i64_at = |b: &[u8], at: usize| i64::from_le_bytes(b[at..at + 8].try_into().unwrap());
                match event {
                    WorkerEvent::SourcePosition { epoch, bytes, .. } => {
                        read.entry(epoch).or_default().push(i64_at(&bytes, 0));
                    }
                    WorkerEvent::Snapshot { epoch, delta, .. } => {
                        let state = delta.instance.unwrap();
                        seen.entry(epoch).or_default().push((i64_at(&state, 0), i64_at(&state, 8)));
                    }
                    _ => {}
                }
            }
        }
        prop_assert_eq!(read.keys().copied().collect::<Vec<_>>(), (1..=LAST).collect::<Vec<_>>());
        for (epoch, positions) in read {
            let states = &seen[&epoch];
            prop_assert_eq!((positions.len(), states.len()), (PEERS, PEERS));
            prop_assert_eq!(positions.iter().sum::<i64>(), states.iter().map(|s| s.0).sum::<i64>());
            prop_assert!(states.iter().all(|s| s.1 == states[0].1), "{:?}", states);
        }
        prop_assert_eq!(seen[&LAST][0].1, i64::MAX);
    }
}
