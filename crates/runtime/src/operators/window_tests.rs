//! Window aggregates against a naive recomputation, row by row, under random batches, watermarks and restores.

use super::testing::asleep;
use super::{create, tables};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use millstream_core::graph::*;
use millstream_core::key::{hash_columns, owner};
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::*;
use millstream_core::types::SessionZone;
use millstream_core::{Batch, DataType, Field, Result, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) type Row = (i64, Option<i64>, Option<i32>);

#[derive(Clone, Debug)]
pub(super) enum Step {
    Rows(Vec<Row>),
    Watermark(i64),
    /// Snapshot, then restore into this many instances.
    Restore(usize),
    /// Only so many batches leave, until there is room again.
    Room(usize),
}

pub(super) struct Sink(pub(super) Vec<Batch>, Vec<i64>, usize);

impl Default for Sink {
    fn default() -> Self {
        Sink(vec![], vec![], usize::MAX)
    }
}

impl Collector for Sink {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        assert!(self.has_room(), "a row that waits for room");
        self.2 -= usize::from(self.2 < usize::MAX);
        self.0.push(batch);
        Ok(())
    }
    fn has_room(&self) -> bool {
        self.2 > 0
    }
    fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.1.push(watermark.0);
        Ok(())
    }
}

pub(super) fn input() -> Schema {
    Schema::new(vec![
        Field::new("t", TypeKind::Timestamp(3).nullable()),
        Field::new("k", TypeKind::BigInt.nullable()),
        Field::new("v", TypeKind::Int.nullable()),
        Field::new("s", TypeKind::STRING.nullable()),
    ])
}

fn call(
    function: AggregateFunction,
    arg: Option<(usize, TypeKind)>,
    distinct: bool,
    result: TypeKind,
) -> AggregateCall {
    let args = arg.iter().map(|a| a.0).collect();
    let arg_types = arg.into_iter().map(|a| a.1.nullable()).collect();
    AggregateCall { function, args, arg_types, distinct, filter: None, result: result.nullable() }
}

pub(super) fn spec(shape: WindowShape, keys: Vec<usize>, phase: AggregatePhase) -> WindowAggregate {
    use AggregateFunction::*;
    let v = || Some((2, TypeKind::Int));
    let aggregates = vec![
        call(Count, None, false, TypeKind::BigInt),
        call(Sum, v(), false, TypeKind::Int),
        call(Avg, v(), false, TypeKind::Int),
        call(Max, Some((3, TypeKind::STRING)), false, TypeKind::STRING),
        call(Count, v(), true, TypeKind::BigInt),
        call(Min, v(), false, TypeKind::Int),
    ];
    let window = WindowSpec { shape, time: WindowTime::Event { column: 0 }, zone: SessionZone::UTC };
    let properties = vec![WindowProperty::Start, WindowProperty::End];
    WindowAggregate { window, session_keys: keys.len(), keys, aggregates, properties, phase }
}

pub(super) fn output(spec: &WindowAggregate) -> Schema {
    let key = |i: &usize| input().fields[*i].clone();
    let mut fields: Vec<Field> = spec.keys.iter().map(key).collect();
    let result = |(i, c): (usize, &AggregateCall)| Field::new(format!("a{i}"), c.result.clone());
    fields.extend(spec.aggregates.iter().enumerate().map(result));
    let time: DataType = TypeKind::Timestamp(3).nullable();
    fields.extend(spec.properties.iter().enumerate().map(|(i, _)| Field::new(format!("w{i}"), time.clone())));
    Schema::new(fields)
}

pub(super) fn batch(rows: &[Row]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        super::testing::times(&rows.iter().map(|r| r.0).collect::<Vec<_>>()),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.2.map(|v| format!("s{v}"))).collect::<StringArray>()),
    ];
    Batch::from_columns(input().arrow().clone(), columns, rows.len()).unwrap()
}

pub(super) fn text(batches: &[Batch]) -> Vec<String> {
    let mut lines = vec![];
    for b in batches {
        for row in 0..b.num_rows() {
            let cell = |c: &ArrayRef| {
                if c.is_null(row) { "-".into() } else { array_value_to_string(c, row).unwrap() }
            };
            lines.push(b.rows.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    lines.sort();
    lines
}

/// All windows `(start, end)` that a time is in, by the definition.
fn windows(shape: WindowShape, t: i64) -> Vec<(i64, i64)> {
    match shape {
        WindowShape::Tumble { size_ms, .. } => vec![(t - t.rem_euclid(size_ms), t - t.rem_euclid(size_ms) + size_ms)],
        WindowShape::Hop { size_ms, slide_ms, .. } => {
            (t - size_ms + 1..=t).filter(|s| s.rem_euclid(slide_ms) == 0).map(|s| (s, s + size_ms)).collect()
        }
        WindowShape::Cumulate { size_ms, step_ms, .. } => {
            let start = t - t.rem_euclid(size_ms);
            (1..=size_ms / step_ms).map(|n| (start, start + n * step_ms)).filter(|w| w.1 > t).collect()
        }
        _ => vec![],
    }
}

fn oracle(shape: WindowShape, keyed: bool, steps: &[Step]) -> (Vec<String>, u64) {
    let mut watermark = i64::MIN;
    let mut groups: BTreeMap<((i64, i64), Option<i64>), Vec<Option<i32>>> = BTreeMap::new();
    let mut late = 0;
    for step in steps {
        match step {
            Step::Rows(rows) => {
                for (t, k, v) in rows {
                    let all = windows(shape, *t);
                    let open: Vec<_> = all.iter().filter(|w| watermark < w.1 - 1).collect();
                    late += u64::from(!all.is_empty() && open.is_empty());
                    for w in open {
                        groups.entry((*w, if keyed { *k } else { None })).or_default().push(*v);
                    }
                }
            }
            Step::Watermark(w) => watermark = watermark.max(*w),
            Step::Restore(_) | Step::Room(_) => {}
        }
    }
    let time = |ms: i64| array_value_to_string(&super::testing::times(&[ms]), 0).unwrap();
    let mut lines = vec![];
    for (((start, end), key), values) in groups {
        let known: Vec<i32> = values.iter().flatten().copied().collect();
        let show = |v: Option<String>| v.unwrap_or("-".into());
        let sum: i64 = known.iter().map(|v| i64::from(*v)).sum();
        let some = !known.is_empty();
        let mut cells = if keyed { vec![show(key.map(|k| k.to_string()))] } else { vec![] };
        cells.push(values.len().to_string());
        cells.push(show(some.then(|| (sum as i32).to_string())));
        cells.push(show(some.then(|| (sum / known.len() as i64).to_string())));
        cells.push(show(known.iter().map(|v| format!("s{v}")).max()));
        cells.push(known.iter().collect::<BTreeSet<_>>().len().to_string());
        cells.push(show(known.iter().min().map(|v| v.to_string())));
        cells.extend([time(start), time(end)]);
        lines.push(cells.join("|"));
    }
    lines.sort();
    (lines, late)
}

/// The instances of one operator, and what a checkpoint of theirs holds.
pub(super) struct Job {
    spec: OperatorSpec,
    input: Schema,
    output: Schema,
    instances: Vec<Box<dyn Operator>>,
    /// The rows of each table.
    stored: BTreeMap<String, RecordBatch>,
    pub(super) now_ms: i64,
    pub(super) metrics: OperatorMetrics,
    pub(super) sink: Sink,
}

impl Job {
    pub(super) fn new(spec: OperatorSpec, input: Schema, output: Schema) -> Self {
        let (metrics, sink) = Default::default();
        let mut job = Job { spec, input, output, instances: vec![], stored: BTreeMap::new(), now_ms: 0, metrics, sink };
        job.start(1);
        job
    }

    fn connections(&self) -> Connections {
        Connections::insert_only(std::slice::from_ref(&self.input), &self.output)
    }

    fn start(&mut self, count: usize) {
        let make = |i| create(&self.spec, &self.connections(), i, count, &asleep()).unwrap();
        self.instances = (0..count).map(make).collect();
    }

    pub(super) fn each(&mut self, mut f: impl FnMut(&mut dyn Operator, &mut Context<'_>) -> Result<Progress>) {
        for instance in &mut self.instances {
            let mut ctx = Context { out: &mut self.sink, now_ms: self.now_ms, metrics: &self.metrics };
            while f(instance.as_mut(), &mut ctx).unwrap() == Progress::More && ctx.has_room() {}
        }
    }

    pub(super) fn rows(&mut self, batch: &Batch, keys: &[usize]) {
        let columns: Vec<ArrayRef> = keys.iter().map(|c| batch.column(*c).clone()).collect();
        let hashes = hash_columns(&columns, batch.num_rows()).unwrap();
        let count = self.instances.len();
        for i in 0..count {
            let mine = (0..batch.num_rows() as u32).filter(|r| owner(hashes[*r as usize], count) == i);
            let part = batch.take(&mine.collect::<Vec<_>>().into()).unwrap();
            let mut ctx = Context { out: &mut self.sink, now_ms: self.now_ms, metrics: &self.metrics };
            self.instances[i].process(0, part, &mut ctx).unwrap();
        }
    }

    /// Takes a snapshot and goes on from it with `count` instances.
    pub(super) fn restart(&mut self, count: usize) {
        let deltas: Vec<StateDelta> = self.instances.iter_mut().map(|i| i.snapshot(1).unwrap()).collect();
        self.start(count);
        for table in tables(&self.spec, &self.connections()).unwrap() {
            let of_table =
                |d: &StateDelta| d.tables.iter().find(|t| t.table == table.name).cloned().unwrap_or_default();
            let changes: Vec<TableDelta> = deltas.iter().map(of_table).collect();
            let all = self.stored(&table, &changes);
            let hashes = hashes(&table, &all);
            let whole = Batch::insert_only(all);
            for (i, operator) in self.instances.iter_mut().enumerate() {
                let mine = (0..whole.num_rows() as u32).filter(|r| owner(hashes[*r as usize], count) == i);
                let part = whole.take(&UInt32Array::from(mine.collect::<Vec<_>>())).unwrap();
                operator.restore(Restored::Rows { table: table.name.clone(), rows: part.rows }).unwrap();
            }
            self.stored.insert(table.name, whole.rows);
        }
        let instance: Vec<Vec<u8>> = deltas.into_iter().filter_map(|d| d.instance).collect();
        for operator in &mut self.instances {
            operator.restore(Restored::Instances(instance.clone())).unwrap();
        }
    }

    /// The rows that a table holds after the changes of all instances.
    fn stored(&self, table: &TableSpec, changes: &[TableDelta]) -> RecordBatch {
        let id = |rows: &RecordBatch, columns: &[usize], row: usize| {
            let cell = |c: &usize| format!("{:?}", rows.column(*c).slice(row, 1));
            columns.iter().map(cell).collect::<Vec<_>>().join("|")
        };
        let mut rows: BTreeMap<String, RecordBatch> = BTreeMap::new();
        if let Some(old) = self.stored.get(&table.name) {
            for (row, hash) in hashes(table, old).into_iter().enumerate() {
                let bound = changes[owner(hash, changes.len())].expired_below.unwrap_or(i64::MIN);
                let time = table.time.map(|time| old.column(time).as_primitive::<Int64Type>().value(row));
                if time.is_none_or(|time| time >= bound) {
                    rows.insert(id(old, &table.key, row), old.slice(row, 1));
                }
            }
        }
        let own: Vec<usize> = (0..table.key.len()).collect();
        for gone in changes.iter().flat_map(|t| &t.deletes) {
            (0..gone.num_rows()).for_each(|row| drop(rows.remove(&id(gone, &own, row))));
        }
        let mut fresh = BTreeSet::new();
        for new in changes.iter().flat_map(|t| &t.upserts) {
            for row in 0..new.num_rows() {
                assert!(fresh.insert(id(new, &table.key, row)), "a key twice in {}", table.name);
                rows.insert(id(new, &table.key, row), new.slice(row, 1));
            }
        }
        concat_batches(table.schema.arrow(), rows.values()).unwrap()
    }

    /// The rows that the checkpoint holds.
    pub(super) fn stored_rows(&self) -> usize {
        self.stored.values().map(|b| b.num_rows()).sum()
    }

    /// Lets leave what is due, as far as there is room.
    pub(super) fn resume(&mut self) {
        let now_ms = self.now_ms;
        self.each(|o, ctx| match o.next_timer() {
            Some(time) if time <= now_ms => o.on_timer(ctx),
            _ => Ok(Progress::Done),
        });
    }

    /// Takes steps, then the end of time; nothing is left then.
    pub(super) fn take(&mut self, steps: &[Step], keys: &[usize]) {
        let mut highest = i64::MIN;
        for step in steps.iter().chain(&[Step::Room(usize::MAX), Step::Watermark(i64::MAX), Step::Restore(1)]) {
            match step {
                Step::Rows(rows) => self.rows(&batch(rows), keys),
                Step::Watermark(w) => {
                    highest = highest.max(*w);
                    self.watermark(highest);
                }
                Step::Restore(count) => self.restart(*count),
                Step::Room(batches) => {
                    self.sink.2 = *batches;
                    self.resume();
                }
            }
        }
        assert_eq!(self.stored_rows(), 0, "nothing is stored of what has left");
    }

    pub(super) fn watermark(&mut self, watermark: i64) {
        self.each(|o, ctx| o.on_watermark(Watermark(watermark), ctx));
    }
}

/// By which hash each row of a table is owned.
fn hashes(table: &TableSpec, rows: &RecordBatch) -> Vec<u64> {
    let keys: Vec<ArrayRef> = table.partition_by.iter().map(|c| rows.column(*c).clone()).collect();
    hash_columns(&keys, rows.num_rows()).unwrap()
}

fn single(shape: WindowShape, keys: Vec<usize>, steps: &[Step]) -> (Vec<String>, u64) {
    let spec = spec(shape, keys.clone(), AggregatePhase::Single);
    let out = output(&spec);
    let mut job = Job::new(OperatorSpec::WindowAggregate(spec), input(), out);
    job.take(steps, &keys);
    (text(&job.sink.0), job.metrics.late_rows.load(Ordering::Relaxed))
}

fn two_phases(shape: WindowShape, keys: Vec<usize>, steps: &[Step]) -> Vec<String> {
    let local = spec(shape, keys.clone(), AggregatePhase::Local);
    let mut fields: Vec<Field> = keys.iter().map(|k| input().fields[*k].clone()).collect();
    fields.push(Field::new("slice", TypeKind::BigInt.nullable()));
    for (i, t) in local.aggregates.iter().flat_map(|c| c.state_types()).enumerate() {
        fields.push(Field::new(format!("p{i}"), t));
    }
    let between = Schema::new(fields);
    let global = spec(shape, keys.clone(), AggregatePhase::Global);
    let out = output(&global);
    let mut first = Job::new(OperatorSpec::WindowAggregate(local), input(), between.clone());
    let mut second = Job::new(OperatorSpec::WindowAggregate(global), between, out);
    let own: Vec<usize> = (0..keys.len()).collect();
    let mut highest = i64::MIN;
    let forward = |first: &mut Job, second: &mut Job| {
        for b in std::mem::take(&mut first.sink.0) {
            second.rows(&b, &own);
        }
        for w in std::mem::take(&mut first.sink.1) {
            second.watermark(w);
        }
    };
    for step in steps {
        match step {
            // Row by row: what a flush forced by a late row emits has to arrive before that row.
            Step::Rows(rows) => {
                for row in rows {
                    first.rows(&batch(std::slice::from_ref(row)), &keys);
                    forward(&mut first, &mut second);
                }
            }
            Step::Watermark(w) => {
                highest = highest.max(*w);
                first.watermark(highest);
            }
            Step::Restore(count) => {
                first.each(|o, ctx| o.flush(ctx));
                forward(&mut first, &mut second);
                second.restart(*count);
            }
            Step::Room(batches) => {
                second.sink.2 = *batches;
                second.resume();
            }
        }
    }
    second.sink.2 = usize::MAX;
    first.watermark(i64::MAX);
    first.each(|o, ctx| o.flush(ctx));
    forward(&mut first, &mut second);
    text(&second.sink.0)
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0i64..120, prop::option::weighted(0.9, 0i64..4), prop::option::weighted(0.9, -20i32..20));
    let step = prop_oneof![
        4 => prop::collection::vec(row, 0..20).prop_map(Step::Rows),
        3 => (-5i64..110).prop_map(Step::Watermark),
        1 => (1usize..4).prop_map(Step::Restore),
        1 => prop_oneof![Just(usize::MAX), 0usize..4].prop_map(Step::Room),
    ];
    prop::collection::vec(step, 0..14)
}

fn shapes() -> impl Strategy<Value = WindowShape> {
    prop_oneof![
        (1i64..30).prop_map(|size_ms| WindowShape::Tumble { size_ms, offset_ms: 0 }),
        (1i64..30, 1i64..30).prop_map(|(size_ms, slide_ms)| WindowShape::Hop { size_ms, slide_ms, offset_ms: 0 }),
        (1i64..10, 1i64..5).prop_map(|(step_ms, n)| WindowShape::Cumulate {
            size_ms: step_ms * n,
            step_ms,
            offset_ms: 0
        }),
    ]
}

proptest! {
    #[test]
    fn windows_hold_what_a_naive_recomputation_finds(shape in shapes(), keyed: bool, steps in steps()) {
        let keys = if keyed { vec![1] } else { vec![] };
        prop_assert_eq!(single(shape, keys, &steps), oracle(shape, keyed, &steps));
    }

    #[test]
    fn two_phases_give_what_one_gives(shape in shapes(), keyed: bool, steps in steps()) {
        let keys = if keyed { vec![1] } else { vec![] };
        prop_assert_eq!(two_phases(shape, keys, &steps), oracle(shape, keyed, &steps).0);
    }

    #[test]
    fn text_keys_group_like_numbers(shape in shapes(), steps in steps()) {
        let lines = single(shape, vec![3, 1], &steps).0;
        let counted: usize = lines.iter().map(|l| l.split('|').nth(2).unwrap().parse::<usize>().unwrap()).sum();
        let wanted: usize = oracle(shape, false, &steps).0.iter()
            .map(|l| l.split('|').next().unwrap().parse::<usize>().unwrap()).sum();
        prop_assert_eq!(counted, wanted);
    }
}

#[test]
fn a_window_of_many_groups_leaves_once_wherever_it_is_interrupted() {
    let count = 2 * TARGET_BATCH_ROWS as i64 + 5;
    let rows = |t: i64| Step::Rows((0..count).map(|i| (t, Some(i), Some(i as i32 % 7))).collect());
    let shape = WindowShape::Hop { size_ms: 20, slide_ms: 10, offset_ms: 0 };
    for batches in 0..4 {
        let steps = [
            rows(5),
            Step::Restore(1),
            Step::Room(batches),
            // [-10, 10) is due.
            Step::Watermark(12),
            Step::Restore(2),
            // Late for that window, in time for the other.
            Step::Rows(vec![(7, Some(1), Some(100)), (3, Some(-1), Some(100)), (-5, Some(1), Some(1))]),
            Step::Room(1),
            Step::Restore(3),
            // [0, 20) is due, too; none of the first window leaves again.
            Step::Watermark(19),
            Step::Room(2),
            Step::Restore(2),
        ];
        let found = single(shape, vec![1], &steps);
        assert!(found == oracle(shape, true, &steps), "interrupted after {batches} batches");
    }
}

#[test]
fn the_watermark_follows_what_it_completes() {
    let spec = spec(WindowShape::Tumble { size_ms: 10, offset_ms: 0 }, vec![1], AggregatePhase::Single);
    let out = output(&spec);
    let mut job = Job::new(OperatorSpec::WindowAggregate(spec), input(), out);
    job.rows(&batch(&[(5, Some(1), None), (15, Some(1), None)]), &[1]);
    job.sink.2 = 0;
    job.watermark(9);
    job.rows(&batch(&[(5, Some(1), None), (15, Some(1), None)]), &[1]);
    assert_eq!((job.sink.0.len(), &job.sink.1[..]), (0, &[][..]));
    job.sink.2 = usize::MAX;
    job.watermark(19);
    assert_eq!((job.sink.0.len(), &job.sink.1[..]), (2, &[19][..]));
    assert_eq!(job.metrics.late_rows.load(Ordering::Relaxed), 1);
}

/// Both hours of the night in which clocks go back are in the same windows, which stay open through the second.
#[test]
fn windows_of_local_time_wait_for_the_second_of_two_equal_hours() {
    // 2024-10-27 02:00 in Berlin, the first and the second time.
    let (first, second) = (1_729_987_200_000i64, 1_729_990_800_000i64);
    let minutes = |m: i64| m * 60_000;
    for window_time in [WindowTime::Event { column: 0 }, WindowTime::Processing] {
        let mut spec = spec(WindowShape::Tumble { size_ms: minutes(10), offset_ms: 0 }, vec![], AggregatePhase::Single);
        spec.window.time = window_time;
        spec.window.zone = "Europe/Berlin".parse().unwrap();
        let out = output(&spec);
        let mut job = Job::new(OperatorSpec::WindowAggregate(spec), input(), out);
        let mut counts = vec![];
        for at in [first - minutes(5), first + minutes(15), second + minutes(15), second + minutes(30)] {
            job.now_ms = at;
            job.each(|o, ctx| o.on_timer(ctx));
            job.rows(&batch(&[(at, None, None)]), &[]);
            job.watermark(at);
            counts.push(text(&job.sink.0).len());
        }
        assert_eq!(counts, [0, 1, 1, 2], "{window_time:?}");
        let lines = text(&job.sink.0);
        assert!(
            lines[1].starts_with("2|") && lines[1].ends_with("2024-10-27T02:10:00|2024-10-27T02:20:00"),
            "{lines:?}"
        );
        assert_eq!(job.metrics.late_rows.load(Ordering::Relaxed), 0);
    }
}
