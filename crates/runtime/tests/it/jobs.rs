//! A source in memory, a filter, an exchange, a count for each key, a collecting sink; with epochs and restore.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream_core::graph::*;
use millstream_core::key::{HashRange, hash_columns};
use millstream_core::operator::*;
use millstream_core::settings::Settings;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader};
use millstream_core::time::SystemClock;
use millstream_core::{Batch, DataType, Error, Field, Result, Schema, TypeKind, Watermark};
use millstream_runtime::{JobMetrics, RestoreProvider, WorkerControl, WorkerEvent, WorkerPlan, run_worker};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SPLITS: u64 = 4;
const KEYS: i64 = 37;

fn bigint(name: &str) -> Field {
    Field::new(name, DataType { kind: TypeKind::BigInt, nullable: false })
}

fn one_column() -> Schema {
    Schema::new(vec![bigint("k")])
}

fn two_columns() -> Schema {
    Schema::new(vec![bigint("k"), bigint("n")])
}

fn batch(schema: &Schema, columns: Vec<Vec<i64>>) -> Batch {
    let rows = columns[0].len();
    let columns = columns.into_iter().map(|c| Arc::new(Int64Array::from(c)) as ArrayRef).collect();
    Batch::from_columns(schema.arrow().clone(), columns, rows).unwrap()
}

/// Row `i` of each split is `i % KEYS`; gives rows up to a gate that tests lift.
#[derive(Debug)]
struct Numbers {
    schema: Schema,
    rows: u64,
    gate: u64,
    read: Arc<AtomicU64>,
    fails_at: Option<u64>,
}

struct NumbersReader {
    splits: BTreeMap<u64, u64>,
    rows: u64,
    gate: u64,
    read: Arc<AtomicU64>,
    fails_at: Option<u64>,
}

impl Source for Numbers {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn with_projection(&self, _: Schema) -> Result<Arc<dyn Source>> {
        Err(Error::internal("not projected here"))
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        "numbers".into()
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        let mine = |s: &u64| *s as usize % ctx.instances == ctx.instance;
        let mut splits: BTreeMap<u64, u64> = (0..SPLITS).filter(mine).map(|s| (s, 0)).collect();
        for position in ctx.restored.unwrap_or_default() {
            let restored: BTreeMap<u64, u64> = serde_json::from_slice(&position).unwrap();
            splits.extend(restored.into_iter().filter(|(s, _)| mine(s)));
        }
        let (rows, gate, read, fails_at) = (self.rows, self.gate, self.read.clone(), self.fails_at);
        Ok(Box::new(NumbersReader { splits, rows, gate, read, fails_at }))
    }
}

impl SourceReader for NumbersReader {
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll> {
        let (rows, gate) = (self.rows, self.gate);
        let Some((split, at)) = self.splits.iter_mut().find(|(_, at)| **at < rows.min(gate)) else {
            let all = self.splits.values().all(|at| *at >= rows);
            return Ok(if all { SourcePoll::End } else { SourcePoll::Wait(None) });
        };
        if self.fails_at.is_some_and(|f| *at >= f) {
            return Err(Error::data("row is broken"));
        }
        let end = (*at + max_rows.min(1000) as u64).min(rows).min(gate);
        let keys = (*at..end).map(|i| i as i64 % KEYS).collect();
        self.read.fetch_add(end - *at, Ordering::SeqCst);
        *at = end;
        Ok(SourcePoll::Rows { split: *split as u32, batch: batch(&one_column(), vec![keys]) })
    }
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.splits).unwrap())
    }
}

#[derive(Debug)]
enum Factory {
    /// Drops key 5.
    Filter,
    Count,
}

impl OperatorFactory for Factory {
    fn tables(&self) -> Vec<TableSpec> {
        match self {
            Factory::Filter => vec![],
            Factory::Count => vec![TableSpec {
                name: "counts".into(),
                schema: two_columns(),
                key: vec![0],
                partition_by: vec![0],
                time: None,
            }],
        }
    }
    fn create(&self, _: usize, _: usize) -> Result<Box<dyn Operator>> {
        Ok(match self {
            Factory::Filter => Box::new(Filter),
            Factory::Count => Box::new(Count::default()),
        })
    }
    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

struct Filter;

impl Operator for Filter {
    fn restore(&mut self, _: Restored) -> Result<()> {
        Ok(())
    }
    fn process(&mut self, _: Port, rows: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let keys = rows.column(0).as_primitive::<Int64Type>().values().iter().copied().filter(|k| *k != 5).collect();
        ctx.emit(batch(&one_column(), vec![keys]))
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

/// Counts rows by key; emits a key at a time at the end of time, so that it is resumed often.
#[derive(Default)]
struct Count {
    counts: BTreeMap<i64, i64>,
    changed: BTreeMap<i64, i64>,
    emitted: Option<i64>,
}

impl Operator for Count {
    fn restore(&mut self, part: Restored) -> Result<()> {
        if let Restored::Rows { rows, .. } = part {
            let (keys, counts) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1));
            self.counts.extend(keys.values().iter().copied().zip(counts.as_primitive::<Int64Type>().values().to_vec()));
        }
        Ok(())
    }
    fn process(&mut self, _: Port, rows: Batch, _: &mut Context<'_>) -> Result<()> {
        for key in rows.column(0).as_primitive::<Int64Type>().values() {
            let count = self.counts.entry(*key).or_default();
            *count += 1;
            self.changed.insert(*key, *count);
        }
        Ok(())
    }
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        if watermark == Watermark::MAX {
            let next = self.counts.range(self.emitted.map_or(i64::MIN, |e| e + 1)..).next();
            if let Some((key, count)) = next.map(|(k, n)| (*k, *n)) {
                self.emitted = Some(key);
                ctx.emit(batch(&two_columns(), vec![vec![key], vec![count]]))?;
                return Ok(Progress::More);
            }
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
        let (keys, counts) = std::mem::take(&mut self.changed).into_iter().unzip();
        let upserts = vec![batch(&two_columns(), vec![keys, counts]).rows];
        let table = TableDelta { table: "counts".into(), upserts, ..TableDelta::default() };
        Ok(StateDelta { tables: vec![table], instance: None })
    }
}

type Collected = Arc<Mutex<Vec<(i64, i64)>>>;

#[derive(Debug)]
struct Collect(Collected);

struct CollectWriter(Collected, Vec<(i64, i64)>);

impl Sink for Collect {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::ALL
    }
    fn describe(&self) -> String {
        "collect".into()
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, _: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(CollectWriter(self.0.clone(), vec![])))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Err(Error::internal("nothing is committed here"))
    }
}

impl SinkWriter for CollectWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let column = |c| batch.column(c).as_primitive::<Int64Type>().values().to_vec();
        self.1.extend(column(0).into_iter().zip(column(1)));
        Ok(())
    }
    fn prepare_commit(&mut self, _: u64, _: bool) -> Result<Vec<Vec<u8>>> {
        self.0.lock().unwrap().append(&mut self.1);
        Ok(vec![])
    }
}

/// What a coordinator would have stored.
#[derive(Default)]
struct Stored {
    rows: Vec<RecordBatch>,
    positions: Vec<Vec<u8>>,
    done: usize,
    ended: Vec<u64>,
    failed: Option<Error>,
}

struct Restore(Vec<RecordBatch>, Vec<Vec<u8>>);

impl RestoreProvider for Restore {
    fn rows(
        &self,
        _: &str,
        table: &TableSpec,
        range: HashRange,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        for rows in &self.0 {
            let keys: Vec<_> = table.partition_by.iter().map(|c| rows.column(*c).clone()).collect();
            for (row, hash) in hash_columns(&keys, rows.num_rows())?.into_iter().enumerate() {
                if range.contains(hash) {
                    each(rows.slice(row, 1))?;
                }
            }
        }
        Ok(())
    }
    fn instances(&self, _: &str) -> Result<Vec<Vec<u8>>> {
        Ok(vec![])
    }
    fn positions(&self, _: &str) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(Some(self.1.clone()))
    }
}

struct Job {
    processes: usize,
    workers: usize,
    rows: u64,
    gate: u64,
    fails_at: Option<u64>,
    restore: Option<Arc<dyn RestoreProvider>>,
    first_epoch: u64,
}

fn job(processes: usize, workers: usize, rows: u64) -> Job {
    Job { processes, workers, rows, gate: u64::MAX, fails_at: None, restore: None, first_epoch: 1 }
}

/// Runs a job; `drive` is called in the meantime with its controls, what it reported, and how many rows were read.
fn run(job: Job, drive: impl FnOnce(&[WorkerControl], &Mutex<Stored>, &AtomicU64)) -> (Vec<(i64, i64)>, Stored) {
    let (read, collected) = (Arc::new(AtomicU64::new(0)), Collected::default());
    let source =
        Numbers { schema: one_column(), rows: job.rows, gate: job.gate, read: read.clone(), fails_at: job.fails_at };
    let node = |id: &str, kind, from: Option<(usize, Partitioning)>, schema| Node {
        id: id.into(),
        name: id.into(),
        kind,
        inputs: from.into_iter().map(|(from, partitioning)| Edge { from, partitioning }).collect(),
        schema,
        changelog: ChangelogMode::INSERT_ONLY,
        upsert_keys: vec![],
    };
    let custom = |f: Factory| NodeKind::Operator(OperatorSpec::Custom(Arc::new(f)));
    let spec = SourceNode { source: Arc::new(source), columns: None, watermark: None };
    let forward = |from| Some((from, Partitioning::Forward));
    let nodes = vec![
        node("source", NodeKind::Source(spec), None, one_column()),
        node("filter", custom(Factory::Filter), forward(0), one_column()),
        node("count", custom(Factory::Count), Some((1, Partitioning::Hash(vec![0]))), two_columns()),
        node("sink", NodeKind::Sink(Arc::new(Collect(collected.clone()))), forward(2), two_columns()),
    ];
    let graph = Arc::new(JobGraph { name: "test".into(), nodes });
    let stored = Arc::new(Mutex::new(Stored::default()));
    let listeners: Vec<_> = (0..job.processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let controls: Vec<_> = (0..job.processes).map(|_| WorkerControl::new()).collect();
    std::thread::scope(|scope| {
        for (process, listener) in listeners.into_iter().enumerate() {
            let stored = stored.clone();
            let plan = WorkerPlan {
                graph: graph.clone(),
                settings: Settings::default(),
                process,
                processes: job.processes,
                workers_per_process: job.workers,
                addresses: addresses.clone(),
                listener: Some(listener),
                token: 4711,
                job_id: "test".into(),
                attempt: 1,
                run: 1,
                first_epoch: job.first_epoch,
                restore: job.restore.clone(),
                sink_storage: None,
                clock: Arc::new(SystemClock),
                metrics: JobMetrics::new(&graph, job.workers),
                control: controls[process].clone(),
                on_event: Arc::new(move |event| {
                    let mut stored = stored.lock().unwrap();
                    match event {
                        WorkerEvent::Snapshot { delta, .. } => {
                            stored.rows.extend(delta.tables.into_iter().flat_map(|t| t.upserts))
                        }
                        WorkerEvent::SourcePosition { bytes, .. } => stored.positions.push(bytes),
                        WorkerEvent::Prepared { .. } => {}
                        WorkerEvent::EpochDone { .. } => stored.done += 1,
                        WorkerEvent::Ended { last_epoch, .. } => stored.ended.push(last_epoch),
                        WorkerEvent::Failed(error) => stored.failed = Some(error),
                    }
                }),
            };
            scope.spawn(move || run_worker(plan));
        }
        drive(&controls, &stored, &read);
    });
    let mut rows = std::mem::take(&mut *collected.lock().unwrap());
    rows.sort_unstable();
    let stored = std::mem::take(&mut *stored.lock().unwrap());
    (rows, stored)
}

fn expected(rows: u64) -> Vec<(i64, i64)> {
    let per_split = |key: i64| (0..rows).filter(|i| *i as i64 % KEYS == key).count() as i64;
    (0..KEYS).filter(|k| *k != 5).map(|k| (k, per_split(k) * SPLITS as i64)).collect()
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_bounded_job_counts_each_row_once_at_any_parallelism() {
    for (processes, workers) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)] {
        let (rows, stored) = run(job(processes, workers, 20_000), |_, _, _| {});
        assert_eq!(rows, expected(20_000), "{processes} processes of {workers} workers");
        assert_eq!(stored.ended, vec![1; processes * workers]);
    }
}

#[test]
fn all_workers_end_in_the_same_epoch_though_epochs_end_meanwhile() {
    for (processes, workers) in [(1, 2), (2, 1)] {
        let (rows, stored) = run(job(processes, workers, 50_000), |controls, _, _| {
            for epoch in 1..200 {
                controls.iter().for_each(|c| c.end_epoch(epoch));
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        assert_eq!(rows, expected(50_000));
        assert_eq!(stored.ended.len(), processes * workers);
        assert!(stored.ended.iter().all(|e| *e == stored.ended[0]), "{:?}", stored.ended);
        assert_eq!(stored.done as u64, stored.ended[0] * (processes * workers) as u64);
    }
}

#[test]
fn a_restored_job_of_another_parallelism_counts_each_row_once() {
    for (before, processes, after) in [(1, 1, 2), (3, 1, 1), (2, 2, 1), (2, 1, 3)] {
        let gate = 7_001;
        let first = Job { gate, ..job(1, before, 20_000) };
        let (rows, stored) = run(first, |controls, stored, read| {
            wait_until(|| read.load(Ordering::SeqCst) == gate * SPLITS);
            controls[0].end_epoch(1);
            wait_until(|| stored.lock().unwrap().done == before);
            controls[0].abort();
        });
        assert_eq!(rows, vec![], "nothing is emitted before the end");
        let restore: Arc<dyn RestoreProvider> = Arc::new(Restore(stored.rows, stored.positions));
        let second = Job { restore: Some(restore), first_epoch: 2, ..job(processes, after, 20_000) };
        let (rows, stored) = run(second, |_, _, _| {});
        assert_eq!(rows, expected(20_000), "{before} workers, then {processes} processes of {after}");
        assert!(stored.ended.iter().all(|e| *e == 2));
    }
}

#[test]
fn a_data_error_is_reported_and_stops_the_workers() {
    let broken = Job { fails_at: Some(3_000), ..job(1, 2, 20_000) };
    let (_, stored) = run(broken, |_, _, _| {});
    assert_eq!(stored.failed.map(|e| e.message().to_string()).as_deref(), Some("row is broken"));
    assert_eq!(stored.ended, Vec::<u64>::new());
}
