//! Normalised changelogs and joins with versions, against a naive recomputation, under random batches and restores.

use super::changelog_tests::{Job, Less, Row, folded, schema, stream, text};
use millstream_core::graph::*;
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::{Collector, Context};
use millstream_core::{Batch, ExprRef, Field, Result, RowKind, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn show(row: &Row) -> String {
    format!("{},{},{}", text(row.0), text(row.1), row.2)
}

fn normalized(ttl_ms: Option<i64>, output: ChangelogMode) -> Job {
    let connections =
        Connections { inputs: vec![stream(schema(), ChangelogMode::ALL)], output: stream(schema(), output) };
    let spec = OperatorSpec::ChangelogNormalize(ChangelogNormalize { keys: vec![0], ttl_ms });
    Job::new(spec, connections, vec![vec![0]])
}

/// What happens to a table of changes.
#[derive(Clone, Debug)]
enum Event {
    Put(RowKind, Row),
    Delete(Row),
    /// `-U` and `+U`; the key may change.
    Update(Row, Row),
    /// The last record comes once more.
    Again,
    Send,
    Restore(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let row = || (proptest::option::of(0i64..4), proptest::option::of(0i32..3), 0i64..2);
    let event = prop_oneof![
        3 => row().prop_map(|r| Event::Put(RowKind::Insert, r)),
        2 => row().prop_map(|r| Event::Put(RowKind::UpdateAfter, r)),
        2 => row().prop_map(Event::Delete),
        3 => (row(), row()).prop_map(|(a, b)| Event::Update(a, b)),
        2 => Just(Event::Again),
        2 => Just(Event::Send),
        1 => (1usize..4).prop_map(Event::Restore),
    ];
    proptest::collection::vec(event, 0..60)
}

fn temporal(outer: bool) -> Job {
    let mut fields: Vec<Field> = schema().fields.iter().chain(&schema().fields).cloned().collect();
    fields.iter_mut().for_each(|f| f.data_type.nullable = true);
    let input = || stream(schema(), ChangelogMode::ALL);
    let connections =
        Connections { inputs: vec![input(), input()], output: stream(Schema::new(fields), ChangelogMode::ALL) };
    let condition: ExprRef = Arc::new(Less(TypeKind::Boolean.nullable()));
    let spec = OperatorSpec::TemporalJoin(TemporalJoin {
        outer,
        keys: vec![JoinKey { left: 0, right: 0, null_safe: false }],
        condition: Some(condition),
        left_time: 2,
        right_time: 2,
    });
    Job::new(spec, connections, vec![vec![0], vec![0]])
}

/// The rows with the versions of their time, given all versions in the order of arrival.
fn expected(outer: bool, rows: &[Row], versions: &[(RowKind, Row)]) -> BTreeMap<String, i64> {
    folded(rows.iter().filter_map(|row| {
        let of_key = versions.iter().filter(|(_, v)| v.0 == row.0 && v.0.is_some() && v.2 <= row.2);
        let latest = of_key.max_by_key(|(_, v)| v.2);
        let met = latest.filter(|(kind, v)| kind.is_addition() && row.1.is_some() && row.1 < v.1);
        match met {
            Some((_, version)) => Some(format!("{},{}", show(row), show(version))),
            None => outer.then(|| format!("{},NULL,NULL,NULL", show(row))),
        }
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn the_last_row_of_each_key_is_what_is_left(events in events()) {
        let mut job = normalized(None, ChangelogMode::ALL);
        let mut table: BTreeMap<Option<i64>, Row> = BTreeMap::new();
        let mut last: Vec<(RowKind, Row)> = vec![];
        let mut waiting: Vec<(RowKind, Row)> = vec![];
        for event in events.into_iter().chain([Event::Send]) {
            let records = match event {
                Event::Put(kind, row) => vec![(kind, row)],
                Event::Delete(row) => vec![(RowKind::Delete, row)],
                Event::Update(old, new) => vec![(RowKind::UpdateBefore, old), (RowKind::UpdateAfter, new)],
                Event::Again => last.clone(),
                Event::Send => {
                    job.send(0, &std::mem::take(&mut waiting));
                    prop_assert_eq!(&job.out.0, &folded(table.values().map(show)));
                    continue;
                }
                Event::Restore(count) => {
                    job.send(0, &std::mem::take(&mut waiting));
                    job.restart(count);
                    prop_assert_eq!(job.stored_rows(), table.len());
                    continue;
                }
            };
            for (kind, row) in &records {
                match kind.is_addition() {
                    true => table.insert(row.0, *row),
                    false => table.remove(&row.0),
                };
            }
            waiting.extend(&records);
            last = records;
        }
    }

    #[test]
    fn rows_meet_the_version_of_their_time(
        steps in proptest::collection::vec(
            (0usize..4, proptest::option::of(0i64..3), 0i32..4, 0i64..4, 0usize..12),
            0..80,
        ),
        outer in any::<bool>(),
    ) {
        let mut job = temporal(outer);
        let (mut rows, mut versions): (Vec<Row>, Vec<(RowKind, Row)>) = (vec![], vec![]);
        let mut clock = 100;
        for (what, k, v, behind, then) in steps {
            let row = (k, Some(v), clock - behind);
            match what {
                0 | 1 => {
                    rows.push(row);
                    job.send(0, &[(RowKind::Insert, row)]);
                }
                _ => {
                    let kind = if what == 2 && v == 0 { RowKind::Delete } else { RowKind::UpdateAfter };
                    // Of versions of one time the last counts.
                    versions.retain(|(_, old)| (old.0, old.2) != (row.0, row.2));
                    versions.push((kind, row));
                    let before = (RowKind::UpdateBefore, (k, Some(9), row.2));
                    job.send(1, &[before, (kind, row)]);
                }
            }
            match then {
                0 => job.restart(2),
                1 => job.restart(1),
                2..6 => {
                    // Rows are at most 3 behind the clock, so nothing is late.
                    clock += 1;
                    job.each(|o, ctx| o.on_watermark(Watermark(clock - 4), ctx));
                }
                6 => clock += 9,
                _ => {}
            }
        }
        job.each(|o, ctx| o.on_watermark(Watermark::MAX, ctx));
        prop_assert_eq!(&job.out.0, &expected(outer, &rows, &versions));
        job.restart(1);
        // Of each key the last version is left, if its row is not gone.
        let keys: std::collections::BTreeSet<i64> = versions.iter().filter_map(|(_, v)| v.0).collect();
        let is_there = |key: &&i64| {
            let last = versions.iter().filter(|(_, v)| v.0 == Some(**key)).max_by_key(|(_, v)| v.2);
            last.is_some_and(|(kind, _)| kind.is_addition())
        };
        prop_assert_eq!(job.stored_rows(), keys.iter().filter(is_there).count());
    }
}

/// Kinds and values of what comes out.
#[derive(Default)]
struct Kinds(Vec<(RowKind, String)>, bool);

impl Collector for Kinds {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        let value = |row| arrow::util::display::array_value_to_string(batch.column(1), row).unwrap();
        self.0.extend((0..batch.num_rows()).map(|row| (batch.kind(row), value(row))));
        Ok(())
    }
    fn emit_watermark(&mut self, _: Watermark) -> Result<()> {
        Ok(())
    }
    fn has_room(&self) -> bool {
        !self.1
    }
}

fn kinds_of(job: &mut Job, rows: &[(RowKind, Row)]) -> Vec<(RowKind, String)> {
    let (mut out, metrics) = (Kinds::default(), OperatorMetrics::default());
    let mut ctx = Context { out: &mut out, now_ms: job.now_ms, metrics: &metrics };
    job.instances[0].process(0, super::changelog_tests::batch(rows), &mut ctx).unwrap();
    out.0
}

#[test]
fn changes_get_their_old_row_only_where_someone_wants_it_and_repetitions_are_dropped() {
    use RowKind::*;
    let row = |v| (Some(1), Some(v), 0);
    let rows = [(UpdateAfter, row(5)), (Insert, row(5)), (UpdateAfter, row(6)), (Delete, row(0)), (Delete, row(6))];
    let with = [(Insert, "5"), (UpdateBefore, "5"), (UpdateAfter, "6"), (Delete, "6")];
    let owned = |kinds: &[(RowKind, &str)]| kinds.iter().map(|(k, v)| (*k, v.to_string())).collect::<Vec<_>>();
    assert_eq!(kinds_of(&mut normalized(None, ChangelogMode::ALL), &rows), owned(&with));
    let without = [(Insert, "5"), (UpdateAfter, "6"), (Delete, "6")];
    assert_eq!(kinds_of(&mut normalized(None, ChangelogMode::UPSERT), &rows), owned(&without));
}

#[test]
fn a_key_without_changes_is_forgotten_after_its_time() {
    let mut job = normalized(Some(10_000), ChangelogMode::ALL);
    job.now_ms = 1_000_000;
    job.send(0, &[(RowKind::Insert, (Some(1), Some(5), 0)), (RowKind::Insert, (Some(2), Some(5), 0))]);
    job.now_ms += 20_000;
    let again = [(RowKind::UpdateAfter, (Some(1), Some(6), 0))];
    assert_eq!(kinds_of(&mut job, &again), [(RowKind::Insert, "6".to_string())]);
    job.each(|o, ctx| o.on_timer(ctx));
    job.restart(1);
    assert_eq!(job.stored_rows(), 1);
}

#[test]
fn rows_wait_while_there_is_no_room_and_leave_after_a_restore() {
    let mut job = temporal(true);
    job.send(1, &[(RowKind::Insert, (Some(1), Some(5), 1))]);
    job.send(0, &[(RowKind::Insert, (Some(1), Some(4), 2)), (RowKind::Insert, (Some(2), Some(4), 2))]);
    let (mut out, metrics) = (Kinds(vec![], true), OperatorMetrics::default());
    let mut ctx = Context { out: &mut out, now_ms: 0, metrics: &metrics };
    let progress = job.instances[0].on_watermark(Watermark(10), &mut ctx).unwrap();
    assert_eq!((progress, out.0.len()), (millstream_core::operator::Progress::More, 0));
    job.restart(2);
    assert!(job.instances.iter().any(|o| o.next_timer() == Some(0)));
    job.each(|o, ctx| o.on_timer(ctx));
    assert!(job.instances.iter().all(|o| o.next_timer().is_none()));
    let rows = ["1,4,2,1,5,1", "2,4,2,NULL,NULL,NULL"].map(|row| (row.to_string(), 1));
    assert_eq!(job.out.0, BTreeMap::from(rows));
}

#[test]
fn a_late_row_meets_what_version_is_left() {
    let mut job = temporal(true);
    for time in [1, 5, 9] {
        job.send(1, &[(RowKind::Insert, (Some(1), Some(time as i32), time))]);
    }
    job.each(|o, ctx| o.on_watermark(Watermark(6), ctx));
    // The version of time 1 is gone; that of 5 still holds.
    job.send(0, &[(RowKind::Insert, (Some(1), Some(0), 4)), (RowKind::Insert, (Some(1), Some(0), 5))]);
    job.each(|o, ctx| o.on_watermark(Watermark(7), ctx));
    let rows = ["1,0,4,NULL,NULL,NULL", "1,0,5,1,5,5"].map(|row| (row.to_string(), 1));
    assert_eq!(job.out.0, BTreeMap::from(rows));
}

#[test]
fn a_row_that_is_gone_leaves_nothing_behind() {
    let mut job = temporal(false);
    job.send(0, &[(RowKind::Insert, (Some(1), Some(0), 1))]);
    job.send(1, &[(RowKind::Delete, (Some(1), Some(9), 7))]);
    for watermark in [3, 10] {
        job.each(|o, ctx| o.on_watermark(Watermark(watermark), ctx));
    }
    job.restart(1);
    assert_eq!((job.stored_rows(), job.out.0.len()), (0, 0));
}
