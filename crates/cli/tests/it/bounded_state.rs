//! An hour of event time through the operators that a query is planned as: what they keep, in state tables and in
//! memory, doesn't grow with the rows that have passed, and is freed as event time moves on.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use millstream_core::connector::SessionInfo;
use millstream_core::graph::{ChangelogMode, Connections, JobGraph, NodeKind, Stream};
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::{Collector, Context, Operator, Progress, TableSpec};
use millstream_core::settings::Settings;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Waker;
use millstream_core::{Batch, DataType, Error, Result, Schema, TypeKind, Watermark};
use millstream_runtime::operators;
use millstream_sql::{PlanOptions, plan_script};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread has.
pub struct Counting;

fn count(bytes: isize) {
    // A thread that ends has no counter any more.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: all calls are the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

const TABLES: &str = "
CREATE TABLE ev (id BIGINT, k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE ev2 (id BIGINT, k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
";

const ROWS_A_SECOND: i64 = 10;
const KEYS: i64 = 40;

/// What an operator has emitted.
#[derive(Default)]
struct Emitted {
    batches: Vec<Batch>,
    watermark: Option<Watermark>,
}

impl Collector for Emitted {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        self.batches.push(batch);
        Ok(())
    }
    fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.watermark = Some(watermark);
        Ok(())
    }
}

struct Run {
    operator: Option<Box<dyn Operator>>,
    tables: Vec<TableSpec>,
    /// Of each table the rows that a checkpoint holds: their keys, and the time by which they expire.
    stored: Vec<HashMap<String, i64>>,
    watermark: Watermark,
    inputs: Vec<usize>,
    users: Vec<(usize, usize)>,
    schema: Schema,
    is_source: bool,
}

/// All operators of a job, one instance each, run step by step.
struct Job {
    nodes: Vec<Run>,
    now_ms: i64,
    rows_out: usize,
}

/// Where a query's rows go; here they are only counted.
#[derive(Debug)]
struct Output;

impl Sink for Output {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::ALL
    }
    fn describe(&self) -> String {
        "nothing".into()
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, _: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("the rows are counted by the test"))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Err(Error::internal("the rows are counted by the test"))
    }
}

fn plan(query: &str) -> JobGraph {
    let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] };
    let select_sink = Some(Arc::new(Output) as Arc<dyn Sink>);
    let (registry, settings) = (millstream_connect::registry(), Settings::default());
    let options = PlanOptions { settings, registry, session, name: "bounded".into(), parallelism: 1, select_sink };
    plan_script(&format!("{TABLES}{query}"), options).unwrap_or_else(|e| panic!("{query}: {e}")).graph
}

impl Job {
    fn new(query: &str) -> Job {
        let graph = plan(query);
        let stream = |i: usize| Stream { schema: graph.nodes[i].schema.clone(), changelog: graph.nodes[i].changelog };
        let mut nodes: Vec<Run> = vec![];
        for (number, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<usize> = node.inputs.iter().map(|edge| edge.from).collect();
            for (port, from) in inputs.iter().enumerate() {
                nodes[*from].users.push((number, port));
            }
            let connections =
                Connections { inputs: inputs.iter().map(|i| stream(*i)).collect(), output: stream(number) };
            let (operator, tables) = match &node.kind {
                NodeKind::Operator(spec) => {
                    let operator = operators::create(spec, &connections, 0, 1, &(Arc::new(|| {}) as Waker)).unwrap();
                    (Some(operator), operators::tables(spec, &connections).unwrap())
                }
                NodeKind::Source(_) | NodeKind::Sink(_) => (None, vec![]),
            };
            nodes.push(Run {
                operator,
                stored: tables.iter().map(|_| HashMap::new()).collect(),
                tables,
                watermark: Watermark(i64::MIN),
                inputs,
                users: vec![],
                schema: node.schema.clone(),
                is_source: matches!(node.kind, NodeKind::Source(_)),
            });
        }
        Job { nodes, now_ms: 0, rows_out: 0 }
    }

    fn call(&mut self, node: usize, call: impl Fn(&mut dyn Operator, &mut Context<'_>) -> Result<Progress>) {
        let metrics = OperatorMetrics::default();
        loop {
            let mut out = Emitted::default();
            let Some(operator) = &mut self.nodes[node].operator else { return };
            let mut ctx = Context { out: &mut out, now_ms: self.now_ms, metrics: &metrics };
            let progress = call(operator.as_mut(), &mut ctx).unwrap();
            self.pass_on(node, out);
            if progress == Progress::Done {
                return;
            }
        }
    }

    fn pass_on(&mut self, node: usize, out: Emitted) {
        for batch in out.batches {
            for (user, port) in self.nodes[node].users.clone() {
                self.process(user, port, batch.clone());
            }
        }
        if let Some(watermark) = out.watermark {
            self.nodes[node].watermark = watermark;
        }
    }

    fn process(&mut self, node: usize, port: usize, batch: Batch) {
        let Some(operator) = &mut self.nodes[node].operator else {
            self.rows_out += batch.num_rows();
            return;
        };
        let (mut out, metrics) = (Emitted::default(), OperatorMetrics::default());
        operator.process(port, batch, &mut Context { out: &mut out, now_ms: self.now_ms, metrics: &metrics }).unwrap();
        self.pass_on(node, out);
    }

    /// The rows of one second for each source; times jump back by up to four seconds.
    fn second(&mut self, second: i64) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_source {
                let rows = rows(&self.nodes[node].schema, second, node as i64);
                for (user, port) in self.nodes[node].users.clone() {
                    self.process(user, port, rows.clone());
                }
            }
        }
    }

    fn watermark(&mut self, watermark: i64) {
        self.now_ms = self.now_ms.max(watermark);
        for node in 0..self.nodes.len() {
            self.call(node, |operator, ctx| operator.flush(ctx));
            if self.nodes[node].is_source {
                self.nodes[node].watermark = Watermark(watermark);
                continue;
            }
            let reached = self.nodes[node].inputs.iter().map(|i| self.nodes[*i].watermark).min();
            let Some(reached) = reached.filter(|w| w.0 > i64::MIN) else { continue };
            self.call(node, |operator, ctx| operator.on_watermark(reached, ctx));
            self.call(node, |operator, ctx| operator.on_timer(ctx));
            self.call(node, |operator, ctx| operator.flush(ctx));
        }
    }

    /// Ends an epoch: brings what is stored up to date.
    fn checkpoint(&mut self) {
        for node in &mut self.nodes {
            let Some(operator) = &mut node.operator else { continue };
            for change in operator.snapshot(1).unwrap().tables {
                let number = node.tables.iter().position(|t| t.name == change.table).unwrap();
                let (spec, stored) = (&node.tables[number], &mut node.stored[number]);
                if let Some(bound) = change.expired_below {
                    stored.retain(|_, time| *time >= bound);
                }
                let of_key: Vec<usize> = (0..spec.key.len()).collect();
                for gone in &change.deletes {
                    for row in 0..gone.num_rows() {
                        stored.remove(&key(gone, &of_key, row));
                    }
                }
                for new in &change.upserts {
                    for row in 0..new.num_rows() {
                        stored.insert(key(new, &spec.key, row), spec.time.map_or(0, |c| time(new.column(c), row)));
                    }
                }
            }
        }
    }

    fn stored_rows(&self) -> usize {
        self.nodes.iter().flat_map(|node| &node.stored).map(HashMap::len).sum()
    }
}

fn key(rows: &RecordBatch, columns: &[usize], row: usize) -> String {
    columns.iter().map(|c| format!("{:?}|", rows.column(*c).slice(row, 1))).collect()
}

fn time(column: &ArrayRef, row: usize) -> i64 {
    match column.as_primitive_opt::<Int64Type>() {
        Some(times) => times.value(row),
        None => column.as_primitive::<TimestampMillisecondType>().value(row),
    }
}

/// A number that looks like chance.
fn mixed(n: i64) -> i64 {
    let n = (n as u64).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((n ^ (n >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as i64
}

fn rows(schema: &Schema, second: i64, salt: i64) -> Batch {
    let numbers = || (second * ROWS_A_SECOND..(second + 1) * ROWS_A_SECOND).map(|n| (n, mixed(n * 7 + salt)));
    let column = |(name, data_type): (&str, &DataType)| -> ArrayRef {
        match (name, &data_type.kind) {
            ("id", _) => Arc::new(Int64Array::from_iter_values(numbers().map(|(n, _)| n))),
            ("k", _) => Arc::new(Int32Array::from_iter_values(numbers().map(|(_, r)| (r % KEYS) as i32))),
            ("v", _) => Arc::new(Int32Array::from_iter_values(numbers().map(|(_, r)| (r / KEYS % 1000) as i32))),
            ("ts", TypeKind::Timestamp(3)) => {
                let times = numbers().map(|(n, r)| n * 1000 / ROWS_A_SECOND - r / 7 % 4000);
                Arc::new(TimestampMillisecondArray::from_iter_values(times))
            }
            other => panic!("no rows for {other:?}"),
        }
    };
    let columns = schema.fields.iter().map(|f| column((&f.name, &f.data_type))).collect();
    Batch::from_columns(schema.arrow().clone(), columns, ROWS_A_SECOND as usize).unwrap()
}

/// What is stored and what is in memory, each minute.
fn check(query: &str, left: usize) -> Result<(), String> {
    let before = LIVE.get();
    let mut job = Job::new(query);
    let (mut stored, mut bytes) = (vec![], vec![]);
    for second in 0..3600 {
        job.second(second);
        job.watermark(second * 1000 - 5000);
        if second % 60 == 59 {
            job.checkpoint();
            stored.push(job.stored_rows());
            bytes.push(LIVE.get() - before);
        }
    }
    if job.rows_out == 0 {
        return Err(format!("{query}\n  gives no rows"));
    }
    let most = |sizes: &[usize], minutes: std::ops::Range<usize>| sizes[minutes].iter().copied().max().unwrap_or(0);
    let kilobytes: Vec<usize> = bytes.iter().map(|b| (*b).max(0) as usize >> 10).collect();
    // An hour later there is nothing left that rows to come could need; those that do come, come late.
    job.watermark(3 * 3_600_000);
    job.watermark(3 * 3_600_000 + 1);
    job.checkpoint();
    let rest = job.stored_rows();
    let shown = || format!("{query}\n  rows {stored:?}\n  KiB {kilobytes:?}\n  left {rest}");
    if most(&stored, 45..60) > most(&stored, 10..25) * 5 / 4 + 20 {
        return Err(format!("{}\n  rows grow", shown()));
    }
    if most(&kilobytes, 45..60) > most(&kilobytes, 10..25) * 3 / 2 + 192 {
        return Err(format!("{}\n  memory grows", shown()));
    }
    if rest > left {
        return Err(format!("{}\n  more than {left} rows are left", shown()));
    }
    Ok(())
}

fn check_all(queries: &[(&str, usize)]) {
    let failures: Vec<String> = queries.iter().filter_map(|(query, left)| check(query, *left).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Windows of a table function.
fn windows(function: &str) -> String {
    format!("TABLE({function}(TABLE ev, DESCRIPTOR(ts), ")
}

#[test]
fn windows_are_freed_as_event_time_passes_them() {
    let (tumble, hop, cumulate) = (windows("TUMBLE"), windows("HOP"), windows("CUMULATE"));
    let session = "TABLE(SESSION(TABLE ev PARTITION BY k, DESCRIPTOR(ts), ";
    check_all(&[
        (
            &format!(
                "SELECT k, window_end, COUNT(*), COUNT(DISTINCT id), MAX(v) FROM {tumble} INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end"
            ),
            0,
        ),
        (
            &format!(
                "SELECT id, window_end, COUNT(*) FROM {tumble} INTERVAL '1' MINUTE)) GROUP BY id, window_start, window_end"
            ),
            0,
        ),
        (
            &format!(
                "SELECT k, window_end, LISTAGG(CAST(id AS STRING)) FROM {hop} INTERVAL '20' SECOND, INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end"
            ),
            0,
        ),
        (
            &format!(
                "SELECT k, window_end, SUM(v) FROM {cumulate} INTERVAL '20' SECOND, INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end"
            ),
            0,
        ),
        (
            &format!(
                "SELECT k, window_end, SUM(v) FROM {session} INTERVAL '3' SECOND)) GROUP BY k, window_start, window_end"
            ),
            0,
        ),
        (&format!("SELECT id, k, window_end FROM {session} INTERVAL '3' SECOND))"), 0),
        (&format!("SELECT DISTINCT k, v, window_start, window_end FROM {tumble} INTERVAL '1' MINUTE))"), 0),
        (
            "SELECT k, TUMBLE_END(ts, INTERVAL '1' MINUTE), SUM(v) FROM ev GROUP BY k, TUMBLE(ts, INTERVAL '1' MINUTE)",
            0,
        ),
    ]);
}

#[test]
fn joins_over_bounded_time_are_freed_as_event_time_passes_them() {
    let (left, right) = (windows("TUMBLE"), windows("TUMBLE").replace("TABLE ev", "TABLE ev2"));
    let minute = "INTERVAL '1' MINUTE))";
    let pair = "a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '30' SECOND AND b.ts + INTERVAL '20' SECOND";
    check_all(&[
        (&format!("SELECT a.id, b.id FROM ev a JOIN ev2 b ON {pair}"), 0),
        (&format!("SELECT a.id, b.id FROM ev a LEFT JOIN ev2 b ON {pair} AND a.v > b.v + 900"), 0),
        (&format!("SELECT a.id, b.id FROM ev a FULL JOIN ev2 b ON {pair} AND a.v > b.v + 900"), 0),
        (
            &format!(
                "SELECT a.id, b.id FROM (SELECT * FROM {left} {minute}) a JOIN (SELECT * FROM {right} {minute}) b ON a.v = b.v AND a.window_start = b.window_start AND a.window_end = b.window_end"
            ),
            0,
        ),
        (
            &format!(
                "SELECT a.id, b.id FROM (SELECT * FROM {left} {minute}) a FULL JOIN (SELECT * FROM {right} {minute}) b ON a.v = b.v AND a.window_start = b.window_start AND a.window_end = b.window_end"
            ),
            0,
        ),
        (
            &format!(
                "SELECT a.id FROM (SELECT * FROM {left} {minute}) a WHERE a.v IN (SELECT b.v FROM (SELECT * FROM {right} {minute}) b WHERE a.window_start = b.window_start AND a.window_end = b.window_end)"
            ),
            0,
        ),
        // The last version of each key stays: it is that of all rows to come.
        (
            "CREATE VIEW versions AS SELECT k, v, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM ev2) WHERE n = 1; SELECT ev.id, w.v FROM ev JOIN versions FOR SYSTEM_TIME AS OF ev.ts AS w ON ev.k = w.k",
            2 * KEYS as usize,
        ),
    ]);
}

#[test]
fn ranks_over_and_patterns_are_freed_as_event_time_passes_them() {
    let tumble = windows("TUMBLE");
    let ranked =
        |order: &str| format!("ROW_NUMBER() OVER (PARTITION BY window_start, window_end, v ORDER BY {order}) AS n");
    let over = "PARTITION BY k ORDER BY ts";
    let keys = KEYS as usize;
    check_all(&[
        (
            &format!(
                "SELECT id, n FROM (SELECT *, {} FROM {tumble} INTERVAL '1' MINUTE))) WHERE n <= 3",
                ranked("id DESC")
            ),
            0,
        ),
        (
            &format!(
                "SELECT id FROM (SELECT *, {} FROM {tumble} INTERVAL '1' MINUTE))) WHERE n = 1",
                ranked("ts DESC")
            ),
            0,
        ),
        (&format!("SELECT id FROM (SELECT *, {} FROM {tumble} INTERVAL '1' MINUTE))) WHERE n = 1", ranked("ts")), 0),
        (
            &format!(
                "SELECT id, SUM(v) OVER ({over} RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW) FROM ev"
            ),
            0,
        ),
        (&format!("SELECT id, SUM(v) OVER ({over} ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM ev"), 5 * keys),
        (&format!("SELECT id, LAG(v, 2) OVER ({over}), COUNT(*) OVER ({over}) FROM ev"), 5 * keys),
        ("SELECT id, v FROM ev ORDER BY ts", 0),
        (
            "SELECT * FROM ev MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES A.id AS a, LAST(B.id) AS b, C.id AS c ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (A B+ C) WITHIN INTERVAL '30' SECOND DEFINE A AS A.v < 300, B AS B.v > A.v, C AS C.v < 100)",
            keys,
        ),
        (
            "SELECT * FROM ev MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES FIRST(A.id) AS a, B.id AS b AFTER MATCH SKIP TO NEXT ROW PATTERN (A+? B) WITHIN INTERVAL '10' SECOND DEFINE B AS B.v > 900)",
            keys,
        ),
    ]);
}

/// Where event time frees nothing, a time to live does: of processing time, which passes as fast here.
#[test]
fn what_has_a_time_to_live_is_forgotten_after_it() {
    let ttl = "SET 'table.exec.state.ttl' = '5 min'; ";
    let last = "ROW_NUMBER() OVER (PARTITION BY id / 50 ORDER BY ts";
    check_all(&[
        (&format!("{ttl}SELECT id / 50, COUNT(*), MAX(v), COUNT(DISTINCT k) FROM ev GROUP BY id / 50"), 0),
        (&format!("{ttl}SELECT a.id, b.v FROM ev a LEFT JOIN ev2 b ON a.id = b.id"), 0),
        (&format!("{ttl}SELECT id FROM (SELECT *, {last}) AS n FROM ev) WHERE n = 1"), 0),
        (&format!("{ttl}SELECT id FROM (SELECT *, {last} DESC) AS n FROM ev) WHERE n = 1"), 0),
        (
            &format!(
                "{ttl}SELECT id FROM (SELECT *, {}) AS n FROM ev) WHERE n <= 2",
                last.replace("ORDER BY ts", "ORDER BY v")
            ),
            0,
        ),
        (&format!("{ttl}SELECT DISTINCT id / 50 FROM ev"), 0),
        ("SELECT /*+ STATE_TTL('ev' = '5 min') */ id / 50, COUNT(*) FROM ev GROUP BY id / 50", 0),
        ("SELECT /*+ STATE_TTL('a' = '5 min', 'b' = '1 min') */ a.id, b.v FROM ev a LEFT JOIN ev2 b ON a.id = b.id", 0),
    ]);
}
