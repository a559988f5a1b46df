//! Lookup joins against a table that answers late, wrongly or not at all: in order, once each, and as often as asked.

use super::create;
use super::testing::column;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream_core::graph::{
    ChangelogMode, Connections, LookupCalls, LookupJoin, LookupKey, OperatorSpec, RetryMissing, Stream,
};
use millstream_core::lookup::{Answer, Found, Lookup, LookupSource, PartialCache};
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::{Collector, Context, InFlight, Operator, Progress};
use millstream_core::source::Waker;
use millstream_core::{Batch, Error, Field, Result, RowKind, Schema, TypeKind, Watermark};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

fn schema(names: &[&str]) -> Schema {
    Schema::new(names.iter().map(|name| Field::new(*name, TypeKind::BigInt.nullable())).collect())
}

/// A table whose answers a test writes: key `k` has `k % 3` rows, the values 10k, 10k+1, and so on.
#[derive(Debug)]
struct Table {
    schema: Schema,
    cache: Option<PartialCache>,
    /// How long an answer takes, by its first key; milliseconds.
    delay_ms: fn(i64) -> u64,
    /// How often each key was asked for.
    asked: Arc<Mutex<BTreeMap<i64, u32>>>,
    /// Each call fails so often before it succeeds.
    failures: Arc<Mutex<u32>>,
    /// A key has rows from so many-th asking on.
    there_at: u32,
}

impl Table {
    fn new(delay_ms: fn(i64) -> u64) -> Table {
        let (asked, failures) = (Arc::default(), Arc::default());
        Table { schema: schema(&["k", "v"]), cache: None, delay_ms, asked, failures, there_at: 1 }
    }
}

struct Open {
    schema: Schema,
    asked: Arc<Mutex<BTreeMap<i64, u32>>>,
    failures: Arc<Mutex<u32>>,
    delay_ms: fn(i64) -> u64,
    there_at: u32,
}

impl LookupSource for Table {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn describe(&self) -> String {
        "a table".into()
    }
    fn cache(&self) -> Option<PartialCache> {
        self.cache
    }
    fn max_retries(&self) -> u32 {
        2
    }
    fn open(&self, keys: &[String], columns: &Schema) -> Result<Arc<dyn Lookup>> {
        assert_eq!((keys, columns.len()), (["k".to_string()].as_slice(), 2));
        let (asked, failures) = (self.asked.clone(), self.failures.clone());
        Ok(Arc::new(Open {
            schema: columns.clone(),
            asked,
            failures,
            delay_ms: self.delay_ms,
            there_at: self.there_at,
        }))
    }
}

impl Lookup for Open {
    fn find(self: Arc<Self>, keys: RecordBatch) -> Answer {
        let keys: Vec<i64> = keys.column(0).as_primitive::<Int64Type>().values().to_vec();
        let delay = (self.delay_ms)(keys[0]);
        let answer = async move {
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            let left = *self.failures.lock().unwrap();
            if left > 0 {
                *self.failures.lock().unwrap() = left - 1;
                return Err(Error::retry("the table is away"));
            }
            let (mut of_key, mut values, mut counts) = (vec![], vec![], vec![]);
            for key in keys {
                let times =
                    self.asked.lock().unwrap().entry(key).and_modify(|times| *times += 1).or_insert(1).to_owned();
                let count = if times >= self.there_at { key % 3 } else { 0 };
                counts.push(count as u32);
                of_key.extend((0..count).map(|_| key));
                values.extend((0..count).map(|n| 10 * key + n));
            }
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(of_key)), Arc::new(Int64Array::from(values))];
            Ok(Found { rows: RecordBatch::try_new(self.schema.arrow().clone(), columns)?, counts })
        };
        match delay {
            0 => Answer::Now(at_once(answer)),
            _ => Answer::Later(Box::pin(answer)),
        }
    }
}

/// What a future that waits for nothing gives.
fn at_once<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// What came out: rows as text, watermarks among them.
#[derive(Default)]
struct Out(Vec<String>);

impl Collector for Out {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                if column.is_valid(row) { column.value(row).to_string() } else { "-".into() }
            };
            let values = batch.rows.columns().iter().map(value).collect::<Vec<_>>().join(" ");
            self.0.push(format!("{} {values}", batch.kind(row).symbol()));
        }
        Ok(())
    }
    fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.0.push(format!("watermark {}", watermark.0));
        Ok(())
    }
    fn has_room(&self) -> bool {
        true
    }
}

/// One instance, and how often its worker was woken.
struct Job {
    operator: Box<dyn Operator>,
    out: Out,
    woken: Arc<(Mutex<u64>, Condvar)>,
    now_ms: i64,
}

impl Job {
    fn new(table: Table, change: impl FnOnce(&mut LookupJoin)) -> Job {
        let (input, output) = (schema(&["id", "x"]), schema(&["id", "x", "k", "v"]));
        let kind = || TypeKind::BigInt.nullable();
        let calls = LookupCalls { capacity: 100, ordered: true, timeout_ms: 60_000, retry_missing: None };
        let mut join = LookupJoin {
            read: table.schema.clone(),
            table: Arc::new(table),
            outer: false,
            keys: vec![LookupKey { column: "k".into(), value: column(1, kind()) }],
            filter: None,
            columns: vec![column(0, kind()), column(1, kind())],
            condition: None,
            is_unique: false,
            calls,
        };
        change(&mut join);
        let stream = |schema| Stream { schema, changelog: ChangelogMode::ALL };
        let connections = Connections { inputs: vec![stream(input)], output: stream(output) };
        let woken: Arc<(Mutex<u64>, Condvar)> = Arc::default();
        let bell = woken.clone();
        let waker: Waker = Arc::new(move || {
            *bell.0.lock().unwrap() += 1;
            bell.1.notify_all();
        });
        let operator = create(&OperatorSpec::LookupJoin(join), &connections, 0, 1, &waker).unwrap();
        Job { operator, out: Out::default(), woken, now_ms: 1 }
    }
    fn call<T>(&mut self, call: impl FnOnce(&mut dyn Operator, &mut Context<'_>) -> Result<T>) -> Result<T> {
        let metrics = OperatorMetrics::default();
        call(self.operator.as_mut(), &mut Context { out: &mut self.out, now_ms: self.now_ms, metrics: &metrics })
    }
    fn send(&mut self, rows: &[(RowKind, i64, Option<i64>)]) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(Int64Array::from(rows.iter().map(|row| row.2).collect::<Vec<_>>())),
        ];
        let kinds = rows.iter().map(|row| row.0 as u8).collect::<Vec<_>>().into();
        let batch = Batch::from_columns(schema(&["id", "x"]).arrow().clone(), columns, rows.len())?;
        self.call(|operator, ctx| operator.process(0, batch.with_kinds(Some(kinds)), ctx))
    }
    fn append(&mut self, keys: &[i64]) {
        let rows: Vec<_> = keys.iter().map(|key| (RowKind::Insert, -key, Some(*key))).collect();
        self.send(&rows).unwrap();
    }
    fn watermark(&mut self, at: i64) {
        assert_eq!(self.call(|o, ctx| o.on_watermark(Watermark(at), ctx)).unwrap(), Progress::Done);
    }
    /// Waits for all answers, as a worker does.
    fn finish(&mut self) -> Result<Vec<String>> {
        while self.operator.in_flight() != InFlight::Nothing {
            let mut woken = self.woken.0.lock().unwrap();
            while self.operator.next_timer().is_none() {
                let (again, waited) = self.woken.1.wait_timeout(woken, Duration::from_secs(60)).unwrap();
                assert!(!waited.timed_out(), "nobody wakes the worker");
                woken = again;
            }
            drop(woken);
            if self.operator.next_timer().is_some() {
                let _ = self.call(|operator, ctx| operator.on_timer(ctx))?;
            }
        }
        self.operator.snapshot(1)?;
        Ok(std::mem::take(&mut self.out.0))
    }
}

fn joined(keys: &[i64]) -> Vec<String> {
    let rows = keys.iter().flat_map(|k| (0..k % 3).map(move |n| format!("+I {} {k} {k} {}", -k, 10 * k + n)));
    rows.collect()
}

#[test]
fn rows_and_watermarks_leave_in_their_order_however_late_the_answers() {
    // The first is answered last.
    let mut job = Job::new(Table::new(|key| 60 / (key as u64).max(1)), |_| {});
    let batches: [&[i64]; 4] = [&[1, 2, 3], &[20, 21, 22], &[40, 2, 1], &[59]];
    let mut expected = vec![];
    for (number, batch) in batches.iter().enumerate() {
        job.append(batch);
        job.watermark(number as i64);
        expected.extend(joined(batch));
        expected.push(format!("watermark {number}"));
    }
    assert_eq!(job.operator.in_flight(), InFlight::Some);
    assert_eq!(job.finish().unwrap(), expected);
}

#[test]
fn rows_may_overtake_each_other_but_no_watermark() {
    let change = |join: &mut LookupJoin| join.calls.ordered = false;
    let mut job = Job::new(Table::new(|key| if key == 1 { 200 } else { 1 }), change);
    job.append(&[1]);
    job.append(&[2]);
    job.watermark(7);
    job.append(&[4]);
    let expected = [joined(&[2]), joined(&[1]), vec!["watermark 7".into()], joined(&[4])].concat();
    assert_eq!(job.finish().unwrap(), expected);
}

#[test]
fn kinds_go_on_and_rows_without_a_match_are_padded_if_wanted() {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let rows = [(Insert, 1, Some(5)), (UpdateBefore, 2, Some(3)), (UpdateAfter, 2, None), (Delete, 3, Some(4))];
    for (delay, outer) in [(false, false), (false, true), (true, false), (true, true)] {
        let delay_ms: fn(i64) -> u64 = if delay { |_| 5 } else { |_| 0 };
        let mut job = Job::new(Table::new(delay_ms), |join| join.outer = outer);
        job.send(&rows).unwrap();
        let padded = if outer { vec!["-U 2 3 - -", "+U 2 - - -"] } else { vec![] };
        let expected = [vec!["+I 1 5 5 50", "+I 1 5 5 51"], padded, vec!["-D 3 4 4 40"]].concat();
        assert_eq!(job.finish().unwrap(), expected, "late: {delay}");
    }
}

#[test]
fn no_more_rows_are_taken_while_as_many_wait_as_may() {
    let mut job = Job::new(Table::new(|_| 20), |join| join.calls.capacity = 4);
    job.append(&[1, 2]);
    assert_eq!(job.operator.in_flight(), InFlight::Some);
    job.append(&[4, 5]);
    assert_eq!(job.operator.in_flight(), InFlight::Full);
    assert_eq!(job.finish().unwrap(), joined(&[1, 2, 4, 5]));
}

#[test]
fn what_is_kept_is_not_asked_for_again() {
    let cache = PartialCache {
        max_rows: None,
        expire_after_write_ms: Some(10),
        expire_after_access_ms: None,
        keeps_missing: false,
    };
    let table = Table { cache: Some(cache), ..Table::new(|_| 1) };
    let asked = table.asked.clone();
    let mut job = Job::new(table, |_| {});
    for now_ms in [1, 2, 20] {
        job.now_ms = now_ms;
        job.append(&[1, 1, 3, 2]);
        assert_eq!(job.finish().unwrap(), joined(&[1, 1, 3, 2]));
    }
    // Twice: it expired. Three times: that there is none is not kept.
    assert_eq!(*asked.lock().unwrap(), BTreeMap::from([(1, 2), (2, 2), (3, 3)]));
}

#[test]
fn a_failed_call_is_made_again_and_fails_the_job_in_the_end() {
    for (failures, expected) in [(2, Ok(joined(&[5]))), (3, Err("the table is away"))] {
        let table = Table::new(|_| 1);
        *table.failures.lock().unwrap() = failures;
        let mut job = Job::new(table, |_| {});
        job.append(&[5]);
        match (job.finish(), expected) {
            (Ok(rows), Ok(expected)) => assert_eq!(rows, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn keys_without_rows_are_asked_for_again_if_wanted() {
    for (max_attempts, delay) in [(3, |_| 0), (3, |_| 1), (1, |_| 1)] as [(u32, fn(i64) -> u64); 3] {
        let table = Table { there_at: 3, ..Table::new(delay) };
        let asked = table.asked.clone();
        let retry = Some(RetryMissing { max_attempts, delay_ms: 1 });
        let mut job = Job::new(table, |join| join.calls.retry_missing = retry);
        job.append(&[4, 3, 5]);
        let expected = if max_attempts == 3 { joined(&[4, 3, 5]) } else { vec![] };
        assert_eq!(job.finish().unwrap(), expected);
        let times = [(3, max_attempts + 1), (4, 1 + max_attempts.min(2)), (5, 1 + max_attempts.min(2))];
        assert_eq!(*asked.lock().unwrap(), BTreeMap::from(times));
    }
}

#[test]
fn an_answer_that_takes_too_long_fails_the_job() {
    let mut job = Job::new(Table::new(|_| 3_600_000), |join| join.calls.timeout_ms = 20);
    job.append(&[1]);
    let error = job.finish().unwrap_err();
    assert!(error.to_string().contains("took longer than 20 ms"), "{error}");
}

#[test]
fn many_rows_of_many_keys_come_out_whole() {
    let keys: Vec<i64> = (0..20_000).map(|n| n * 7919 % 5003).collect();
    for delay_ms in [|_| 0, |_| 1] as [fn(i64) -> u64; 2] {
        let mut job = Job::new(Table::new(delay_ms), |_| {});
        job.append(&keys);
        assert_eq!(job.finish().unwrap(), joined(&keys));
    }
}
