//! Aggregates and joins over rows that change, against a naive recomputation, under random changes, batches and restores.

use super::testing::asleep;
use super::{create, tables};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, UInt8Array, UInt32Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::graph::*;
use millstream_core::key::{hash_columns, owner};
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::*;
use millstream_core::types::SessionZone;
use millstream_core::{Batch, DataType, Expr, ExprRef, Field, Result, RowKind, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A key, a value, and (for joins by event time) a time.
pub(super) type Row = (Option<i64>, Option<i32>, i64);

/// A change of one of the inputs' tables.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Insert(usize, Row),
    /// Takes back the n-th row that is there.
    Delete(usize, usize),
    Update(usize, usize, Row),
    /// The changes so far are handed over as one batch.
    Send,
    /// Snapshot, then restore into this many instances.
    Restore(usize),
}

pub(super) fn schema() -> Schema {
    Schema::new(vec![
        Field::new("k", TypeKind::BigInt.nullable()),
        Field::new("v", TypeKind::Int.nullable()),
        Field::new("t", TypeKind::BigInt.not_null()),
    ])
}

pub(super) fn batch(rows: &[(RowKind, Row)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(_, r)| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(_, r)| r.1).collect::<Int32Array>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, r)| r.2))),
    ];
    let kinds = UInt8Array::from_iter_values(rows.iter().map(|(kind, _)| *kind as u8));
    Batch::from_columns(schema().arrow().clone(), columns, rows.len()).unwrap().with_kinds(Some(kinds))
}

/// What has come out, folded: each row as text, and how often it is there.
#[derive(Default)]
pub(super) struct Table(pub(super) BTreeMap<String, i64>);

impl Collector for Table {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let cell = |c: &ArrayRef| match c.is_null(row) {
                true => "NULL".to_string(),
                false => array_value_to_string(c, row).unwrap(),
            };
            let text = batch.rows.columns().iter().map(cell).collect::<Vec<_>>().join(",");
            let count = self.0.entry(text.clone()).or_insert(0);
            *count += if batch.kind(row).is_addition() { 1 } else { -1 };
            assert!(*count >= 0, "{text} is taken back, but is not there");
            if *count == 0 {
                self.0.remove(&text);
            }
        }
        Ok(())
    }
    fn emit_watermark(&mut self, _: Watermark) -> Result<()> {
        Ok(())
    }
}

/// An operator's instances, with their state stored between two lives.
pub(super) struct Job {
    spec: OperatorSpec,
    connections: Connections,
    keys: Vec<Vec<usize>>,
    pub(super) instances: Vec<Box<dyn Operator>>,
    stored: Vec<BTreeMap<String, RecordBatch>>,
    pub(super) now_ms: i64,
    pub(super) out: Table,
}

impl Job {
    pub(super) fn new(spec: OperatorSpec, connections: Connections, keys: Vec<Vec<usize>>) -> Self {
        let stored = tables(&spec, &connections).unwrap().iter().map(|_| BTreeMap::new()).collect();
        let mut job = Job { spec, connections, keys, instances: vec![], stored, now_ms: 1, out: Table::default() };
        job.start(1);
        job
    }

    fn start(&mut self, count: usize) {
        self.instances =
            (0..count).map(|i| create(&self.spec, &self.connections, i, count, &asleep()).unwrap()).collect();
    }

    pub(super) fn send(&mut self, port: usize, rows: &[(RowKind, Row)]) {
        let batch = batch(rows);
        let columns: Vec<ArrayRef> = self.keys[port].iter().map(|c| batch.column(*c).clone()).collect();
        let hashes = hash_columns(&columns, batch.num_rows()).unwrap();
        let metrics = OperatorMetrics::default();
        for i in 0..self.instances.len() {
            let count = self.instances.len();
            let is_mine = |r: &u32| if columns.is_empty() { i == 0 } else { owner(hashes[*r as usize], count) == i };
            let mine: Vec<u32> = (0..batch.num_rows() as u32).filter(is_mine).collect();
            let mut ctx = Context { out: &mut self.out, now_ms: self.now_ms, metrics: &metrics };
            self.instances[i].process(port, batch.take(&mine.into()).unwrap(), &mut ctx).unwrap();
        }
    }

    pub(super) fn each(&mut self, call: impl Fn(&mut dyn Operator, &mut Context<'_>) -> Result<Progress>) {
        let metrics = OperatorMetrics::default();
        for instance in &mut self.instances {
            let mut ctx = Context { out: &mut self.out, now_ms: self.now_ms, metrics: &metrics };
            while call(instance.as_mut(), &mut ctx).unwrap() == Progress::More {}
        }
    }

    pub(super) fn restart(&mut self, count: usize) {
        let specs = tables(&self.spec, &self.connections).unwrap();
        let id = |rows: &RecordBatch, columns: &[usize], row: usize| {
            columns.iter().map(|c| format!("{:?}|", rows.column(*c).slice(row, 1))).collect::<String>()
        };
        let mut instances = vec![];
        for operator in &mut self.instances {
            let delta = operator.snapshot(1).unwrap();
            instances.extend(delta.instance);
            for change in delta.tables {
                let number = specs.iter().position(|t| t.name == change.table).unwrap();
                let (spec, stored) = (&specs[number], &mut self.stored[number]);
                if let (Some(bound), Some(time)) = (change.expired_below, spec.time) {
                    stored.retain(|_, row| row.column(time).as_primitive::<Int64Type>().value(0) >= bound);
                }
                let of_key: Vec<usize> = (0..spec.key.len()).collect();
                for gone in &change.deletes {
                    (0..gone.num_rows()).for_each(|row| drop(stored.remove(&id(gone, &of_key, row))));
                }
                for new in &change.upserts {
                    for row in 0..new.num_rows() {
                        stored.insert(id(new, &spec.key, row), new.slice(row, 1));
                    }
                }
            }
        }
        self.start(count);
        for (spec, stored) in specs.iter().zip(&self.stored) {
            let all = concat_batches(spec.schema.arrow(), stored.values()).unwrap();
            let keys: Vec<ArrayRef> = spec.partition_by.iter().map(|c| all.column(*c).clone()).collect();
            let hashes = hash_columns(&keys, all.num_rows()).unwrap();
            let whole = Batch::insert_only(all);
            for (i, operator) in self.instances.iter_mut().enumerate() {
                let is_mine = |r: &u32| if keys.is_empty() { i == 0 } else { owner(hashes[*r as usize], count) == i };
                let mine: Vec<u32> = (0..whole.num_rows() as u32).filter(is_mine).collect();
                let rows = whole.take(&UInt32Array::from(mine)).unwrap().rows;
                operator.restore(Restored::Rows { table: spec.name.clone(), rows }).unwrap();
            }
        }
        for operator in &mut self.instances {
            operator.restore(Restored::Instances(instances.clone())).unwrap();
        }
    }

    pub(super) fn stored_rows(&self) -> usize {
        self.stored.iter().map(BTreeMap::len).sum()
    }
}

/// Runs changes through a job; gives the rows that each input has in the end.
pub(super) fn run(job: &mut Job, steps: &[Step]) -> [Vec<Row>; 2] {
    let mut live: [Vec<Row>; 2] = Default::default();
    let mut waiting: Vec<(usize, RowKind, Row)> = vec![];
    let flush = |job: &mut Job, waiting: &mut Vec<(usize, RowKind, Row)>| {
        for port in [0, 1] {
            let rows: Vec<_> = waiting.iter().filter(|w| w.0 == port).map(|w| (w.1, w.2)).collect();
            if !rows.is_empty() {
                job.send(port, &rows);
            }
        }
        waiting.clear();
    };
    for step in steps {
        match step {
            Step::Insert(port, row) => {
                live[*port].push(*row);
                waiting.push((*port, RowKind::Insert, *row));
            }
            Step::Delete(port, at) if !live[*port].is_empty() => {
                let at = at % live[*port].len();
                waiting.push((*port, RowKind::Delete, live[*port].swap_remove(at)));
            }
            Step::Update(port, at, row) if !live[*port].is_empty() => {
                let at = at % live[*port].len();
                let old = std::mem::replace(&mut live[*port][at], *row);
                waiting.push((*port, RowKind::UpdateBefore, old));
                waiting.push((*port, RowKind::UpdateAfter, *row));
            }
            Step::Delete(..) | Step::Update(..) => {}
            Step::Send => flush(job, &mut waiting),
            Step::Restore(count) => {
                flush(job, &mut waiting);
                job.restart(*count);
            }
        }
    }
    flush(job, &mut waiting);
    live
}

pub(super) fn rows() -> impl Strategy<Value = Row> {
    (proptest::option::of(0i64..4), proptest::option::of(-3i32..4), Just(0)).prop_map(|(k, v, t)| (k, v, t))
}

pub(super) fn steps(ports: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..ports, rows()).prop_map(|(port, row)| Step::Insert(port, row)),
        3 => (0..ports, any::<usize>()).prop_map(|(port, at)| Step::Delete(port, at)),
        3 => (0..ports, any::<usize>(), rows()).prop_map(|(port, at, row)| Step::Update(port, at, row)),
        2 => Just(Step::Send),
        1 => (1usize..4).prop_map(Step::Restore),
    ];
    proptest::collection::vec(step, 0..60)
}

pub(super) fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or("NULL".into(), |v| v.to_string())
}

pub(super) fn folded(rows: impl IntoIterator<Item = String>) -> BTreeMap<String, i64> {
    let mut table = BTreeMap::new();
    rows.into_iter().for_each(|row| *table.entry(row).or_insert(0) += 1);
    table
}

pub(super) fn stream(schema: Schema, changelog: ChangelogMode) -> Stream {
    Stream { schema, changelog }
}

pub(super) fn call(function: AggregateFunction, distinct: bool, result: TypeKind, args: Vec<usize>) -> AggregateCall {
    let arg_types = args.iter().map(|_| TypeKind::Int.nullable()).collect();
    AggregateCall { function, args, arg_types, distinct, filter: None, result: result.nullable() }
}

fn aggregate(keys: Vec<usize>, input: ChangelogMode, output: ChangelogMode, ttl_ms: Option<i64>) -> Job {
    use AggregateFunction::*;
    let aggregates = vec![
        call(Count, false, TypeKind::BigInt, vec![]),
        call(Sum, false, TypeKind::Int, vec![1]),
        call(Min, false, TypeKind::Int, vec![1]),
        call(Max, false, TypeKind::Int, vec![1]),
        call(Count, true, TypeKind::BigInt, vec![1]),
        call(Sum, true, TypeKind::Int, vec![1]),
    ];
    let mut fields: Vec<Field> = keys.iter().map(|k| schema().fields[*k].clone()).collect();
    fields.extend(aggregates.iter().enumerate().map(|(i, c)| Field::new(format!("a{i}"), c.result.clone())));
    let connections =
        Connections { inputs: vec![stream(schema(), input)], output: stream(Schema::new(fields), output) };
    let spec = OperatorSpec::GroupAggregate(GroupAggregate { keys: keys.clone(), aggregates, ttl_ms });
    Job::new(spec, connections, vec![keys])
}

fn expected_groups(live: &[Row], keyed: bool) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<Option<i64>, Vec<Option<i32>>> = BTreeMap::new();
    live.iter().for_each(|(k, v, _)| groups.entry(if keyed { *k } else { None }).or_default().push(*v));
    folded(groups.into_iter().map(|(key, all)| {
        let mut values: Vec<i32> = all.iter().flatten().copied().collect();
        let sum = |values: &[i32]| text((!values.is_empty()).then(|| values.iter().sum::<i32>()));
        let total = sum(&values);
        values.sort_unstable();
        let (min, max) = (text(values.first()), text(values.last()));
        values.dedup();
        let prefix = if keyed { format!("{},", text(key)) } else { String::new() };
        format!("{prefix}{},{total},{min},{max},{},{}", all.len(), values.len(), sum(&values))
    }))
}

/// `left.v < right.v` over the columns of both.
#[derive(Debug)]
pub(super) struct Less(pub(super) DataType);

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("left.v < right.v")
    }
}

impl Expr for Less {
    fn data_type(&self) -> &DataType {
        &self.0
    }
    fn evaluate(&self, batch: &Batch, _: &EvalContext) -> Result<Columnar> {
        let (a, b) = (batch.column(1).as_primitive::<Int32Type>(), batch.column(4).as_primitive::<Int32Type>());
        let less = a.iter().zip(b).map(|(a, b)| Some(a? < b?)).collect::<BooleanArray>();
        Ok(Columnar::Array(Arc::new(less)))
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![]
    }
    fn with_children(&self, _: Vec<ExprRef>) -> ExprRef {
        Arc::new(Less(self.0.clone()))
    }
}

const KINDS: [JoinKind; 6] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];

fn joined(kind: JoinKind, null_safe: bool, keyed: bool, time: Option<JoinTime>, ttl_ms: [Option<i64>; 2]) -> Job {
    let mut fields: Vec<Field> = schema().fields.to_vec();
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        fields.extend(schema().fields);
    }
    fields.iter_mut().for_each(|f| f.data_type.nullable = true);
    let mode = if time.is_some() { ChangelogMode::INSERT_ONLY } else { ChangelogMode::ALL };
    let connections = Connections {
        inputs: vec![stream(schema(), mode), stream(schema(), mode)],
        output: stream(Schema::new(fields), mode),
    };
    let keys = if keyed { vec![JoinKey { left: 0, right: 0, null_safe }] } else { vec![] };
    let columns: Vec<usize> = keys.iter().map(|k| k.left).collect();
    let condition: ExprRef = Arc::new(Less(TypeKind::Boolean.nullable()));
    let spec = OperatorSpec::Join(Join { kind, keys, condition: Some(condition), time, ttl_ms });
    Job::new(spec, connections, vec![columns.clone(), columns])
}

fn expected_join(kind: JoinKind, live: &[Vec<Row>; 2], matches: impl Fn(&Row, &Row) -> bool) -> BTreeMap<String, i64> {
    let show = |row: &Row| format!("{},{},{}", text(row.0), text(row.1), row.2);
    let nothing = "NULL,NULL,NULL";
    let mut out = vec![];
    for left in &live[0] {
        let found: Vec<&Row> = live[1].iter().filter(|right| matches(left, right)).collect();
        match kind {
            JoinKind::Semi => out.extend((!found.is_empty()).then(|| show(left))),
            JoinKind::Anti => out.extend(found.is_empty().then(|| show(left))),
            _ => {
                out.extend(found.iter().map(|right| format!("{},{}", show(left), show(right))));
                if found.is_empty() && matches!(kind, JoinKind::Left | JoinKind::Full) {
                    out.push(format!("{},{nothing}", show(left)));
                }
            }
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        let alone = live[1].iter().filter(|right| !live[0].iter().any(|left| matches(left, right)));
        out.extend(alone.map(|right| format!("{nothing},{}", show(right))));
    }
    folded(out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_what_a_recomputation_of_the_rows_gives(steps in steps(1), keyed in any::<bool>()) {
        let keys = if keyed { vec![0] } else { vec![] };
        let mut job = aggregate(keys, ChangelogMode::ALL, ChangelogMode::ALL, None);
        let live = run(&mut job, &steps);
        prop_assert_eq!(&job.out.0, &expected_groups(&live[0], keyed));
        job.restart(2);
        if live[0].is_empty() {
            prop_assert_eq!(job.stored_rows(), 0);
        }
    }

    #[test]
    fn appended_rows_give_the_same_groups(rows in proptest::collection::vec(rows(), 0..60), keyed in any::<bool>()) {
        let keys = if keyed { vec![0] } else { vec![] };
        let mut job = aggregate(keys, ChangelogMode::INSERT_ONLY, ChangelogMode::ALL, None);
        for (number, part) in rows.chunks(7).enumerate() {
            job.send(0, &part.iter().map(|row| (RowKind::Insert, *row)).collect::<Vec<_>>());
            if number % 3 == 1 {
                job.restart(1 + number % 2);
            }
        }
        prop_assert_eq!(&job.out.0, &expected_groups(&rows, keyed));
    }

    #[test]
    fn joins_are_what_a_recomputation_of_the_rows_gives(
        steps in steps(2),
        kind in 0usize..6,
        null_safe in any::<bool>(),
        keyed in any::<bool>(),
    ) {
        let kind = KINDS[kind];
        let mut job = joined(kind, null_safe, keyed, None, [None; 2]);
        let live = run(&mut job, &steps);
        let matches = |l: &Row, r: &Row| {
            let key = !keyed || l.0 == r.0 && (null_safe || l.0.is_some());
            key && l.1.is_some() && r.1.is_some() && l.1 < r.1
        };
        prop_assert_eq!(&job.out.0, &expected_join(kind, &live, matches));
        job.restart(2);
        if live.iter().all(Vec::is_empty) {
            prop_assert_eq!(job.stored_rows(), 0);
        }
    }

    #[test]
    fn rows_leave_a_join_by_event_time_and_unmatched_ones_are_told_then(
        steps in proptest::collection::vec((0usize..2, proptest::option::of(0i64..3), -3i32..4, 0i64..4, 0usize..12), 0..60),
        kind in 0usize..4,
    ) {
        let kind = KINDS[kind];
        // The right row is from 2 before to 3 after the left one.
        let time = JoinTime { left: (2, 4), right: (2, 3), drops_late: false, zone: SessionZone::UTC };
        let mut job = joined(kind, false, true, Some(time), [None; 2]);
        let mut live: [Vec<Row>; 2] = Default::default();
        let mut clock = 100;
        for (port, k, v, behind, then) in steps {
            let row = (k, Some(v), clock - behind);
            live[port].push(row);
            job.send(port, &[(RowKind::Insert, row)]);
            match then {
                0 => job.restart(2),
                1 => job.restart(1),
                2..6 => {
                    // Rows are at most 3 behind the clock, so nothing is late.
                    clock += 1;
                    let watermark = Watermark(clock - 4);
                    job.each(|o, ctx| o.on_watermark(watermark, ctx));
                }
                6 => clock += 9,
                _ => {}
            }
        }
        job.each(|o, ctx| o.on_watermark(Watermark::MAX, ctx));
        // The condition of the job itself does not look at time: what has left can't match any more.
        let within = |l: &Row, r: &Row| r.2 >= l.2 - 2 && r.2 <= l.2 + 3;
        let surely = |l: &Row, r: &Row| l.0 == r.0 && l.0.is_some() && l.1 < r.1;
        let all = expected_join(JoinKind::Inner, &live, surely);
        let must = expected_join(JoinKind::Inner, &live, |l, r| surely(l, r) && within(l, r));
        let pairs = |out: &BTreeMap<String, i64>| -> BTreeMap<String, i64> {
            out.iter().filter(|(row, _)| !row.contains("NULL,NULL,NULL")).map(|(r, n)| (r.clone(), *n)).collect()
        };
        for (row, count) in &must {
            prop_assert!(job.out.0.get(row).copied().unwrap_or(0) >= *count, "{} is missing", row);
        }
        for (row, count) in pairs(&job.out.0) {
            prop_assert!(all.get(&row).copied().unwrap_or(0) >= count, "{} is no match", row);
        }
        // Each preserved row is there: in a pair or padded, once.
        let padded: i64 = job.out.0.iter().filter(|(row, _)| row.contains("NULL,NULL,NULL")).map(|(_, n)| n).sum();
        if kind == JoinKind::Inner {
            prop_assert_eq!(padded, 0);
        }
        job.restart(1);
        prop_assert_eq!(job.stored_rows(), 0);
    }
}

#[test]
fn a_group_without_use_is_forgotten_and_begins_anew() {
    let mut job = aggregate(vec![0], ChangelogMode::ALL, ChangelogMode::ALL, Some(10_000));
    job.now_ms = 1_000_000;
    job.send(0, &[(RowKind::Insert, (Some(1), Some(5), 0)), (RowKind::Insert, (Some(2), Some(7), 0))]);
    job.now_ms += 6_000;
    job.send(0, &[(RowKind::Insert, (Some(2), Some(1), 0))]);
    job.restart(1);
    job.now_ms += 6_000;
    job.send(0, &[(RowKind::Delete, (Some(1), Some(5), 0)), (RowKind::Insert, (Some(2), Some(2), 0))]);
    // Group 1 has expired: nothing to take back from.
    let expected = ["1,1,5,5,5,1,5", "2,3,10,1,7,3,10"].map(|row| (row.to_string(), 1));
    assert_eq!(job.out.0, BTreeMap::from(expected));
    job.now_ms += 60_000;
    job.each(|o, ctx| o.on_timer(ctx));
    job.restart(1);
    assert_eq!(job.stored_rows(), 0);
}

#[test]
fn rows_of_each_side_of_a_join_live_as_long_as_that_side_says() {
    let mut job = joined(JoinKind::Inner, false, true, None, [Some(10_000), None]);
    job.now_ms = 1_000_000;
    let (left, right) = (|v: i32| (Some(1), Some(v), 0), |v: i32| (Some(1), Some(v), 1));
    job.send(0, &[(RowKind::Insert, left(1))]);
    job.send(1, &[(RowKind::Insert, right(5))]);
    job.restart(2);
    job.now_ms += 9_000;
    job.send(0, &[(RowKind::Insert, left(2))]);
    job.now_ms += 9_000;
    // The first left row has expired, though nothing has looked for such rows yet; the first right one lives on.
    job.send(1, &[(RowKind::Insert, right(6))]);
    let pairs = ["1,1,0,1,5,1", "1,2,0,1,5,1", "1,2,0,1,6,1"].map(|row| (row.to_string(), 1));
    assert_eq!(job.out.0, BTreeMap::from(pairs));
    job.now_ms += 60_000;
    job.each(|o, ctx| o.on_timer(ctx));
    job.restart(1);
    assert_eq!(job.stored_rows(), 2);
    job.send(0, &[(RowKind::Insert, left(3))]);
    assert_eq!(job.out.0.len(), 5);
}

#[test]
fn updates_come_without_their_old_row_where_nobody_wants_it() {
    let mut job = aggregate(vec![0], ChangelogMode::INSERT_ONLY, ChangelogMode::UPSERT, None);
    let mut kinds = vec![];
    struct Kinds<'a>(&'a mut Vec<RowKind>);
    impl Collector for Kinds<'_> {
        fn emit(&mut self, batch: Batch) -> Result<()> {
            self.0.extend((0..batch.num_rows()).map(|row| batch.kind(row)));
            Ok(())
        }
        fn emit_watermark(&mut self, _: Watermark) -> Result<()> {
            Ok(())
        }
    }
    let metrics = OperatorMetrics::default();
    // The last changes no aggregate but COUNT(*); of an unchanged group nothing would come.
    for row in [(Some(1), Some(5), 0), (Some(1), Some(6), 0), (Some(1), None, 0)] {
        let mut out = Kinds(&mut kinds);
        let mut ctx = Context { out: &mut out, now_ms: 0, metrics: &metrics };
        job.instances[0].process(0, batch(&[(RowKind::Insert, row)]).with_kinds(None), &mut ctx).unwrap();
    }
    assert_eq!(kinds, [RowKind::Insert, RowKind::UpdateAfter, RowKind::UpdateAfter]);
}
