//! Top-N, deduplication and OVER against a naive recomputation, under random changes, batches, watermarks and restores.

use super::changelog_tests::{Job, Row, Step, folded, rows, run, schema, steps, stream, text};
use millstream_core::graph::*;
use millstream_core::types::SessionZone;
use millstream_core::{Field, RowKind, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BY_VALUE: SortKey = SortKey { column: 1, descending: true, nulls_first: false };
const FUNCTIONS: [RankFunction; 3] = [RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank];

fn spec(function: RankFunction, keyed: bool, (from, to): (u64, u64), outputs_rank: bool) -> Rank {
    Rank {
        function,
        partition: if keyed { vec![0] } else { vec![] },
        order: vec![BY_VALUE, SortKey { column: 0, descending: false, nulls_first: true }],
        latest_first: false,
        from,
        to,
        outputs_rank,
        calls: vec![],
        timing: RankTiming::Continuous,
        ttl_ms: None,
    }
}

fn job(spec: Rank, input: ChangelogMode) -> Job {
    let mut fields: Vec<Field> = schema().fields.to_vec();
    if spec.outputs_rank {
        fields.push(Field::new("rank", TypeKind::BigInt.not_null()));
    }
    let keys = spec.partition.clone();
    let output = if spec.timing == RankTiming::Continuous { ChangelogMode::ALL } else { ChangelogMode::INSERT_ONLY };
    let connections =
        Connections { inputs: vec![stream(schema(), input)], output: stream(Schema::new(fields), output) };
    Job::new(OperatorSpec::Rank(spec), connections, vec![keys])
}

fn show(row: &Row) -> String {
    format!("{},{},{}", text(row.0), text(row.1), row.2)
}

fn partitions(rows: &[Row], keyed: bool) -> BTreeMap<Option<i64>, Vec<Row>> {
    let mut parts: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| parts.entry(if keyed { row.0 } else { None }).or_default().push(*row));
    parts
}

/// The rows, in order, whose rank is within the range.
fn expected(spec: &Rank, rows: &[Row]) -> BTreeMap<String, i64> {
    let mut out = vec![];
    for (_, mut rows) in partitions(rows, !spec.partition.is_empty()) {
        let order = |row: &Row| (std::cmp::Reverse(row.1), row.0);
        rows.sort_by_key(order);
        for (at, row) in rows.iter().enumerate() {
            let before: Vec<_> = rows.iter().map(order).filter(|other| *other < order(row)).collect();
            let different = before.iter().collect::<std::collections::BTreeSet<_>>().len();
            let rank = 1 + match spec.function {
                RankFunction::RowNumber => at,
                RankFunction::Rank => before.len(),
                RankFunction::DenseRank => different,
            } as u64;
            if (spec.from..=spec.to).contains(&rank) {
                let rank = if spec.outputs_rank { format!(",{rank}") } else { String::new() };
                out.push(format!("{}{rank}", show(row)));
            }
        }
    }
    folded(out)
}

fn insert(job: &mut Job, row: Row) {
    job.send(0, &[(RowKind::Insert, row)]);
}

fn watermark(job: &mut Job, at: i64) {
    job.each(|operator, ctx| operator.on_watermark(Watermark(at), ctx));
}

/// Rows with times near a clock that moves on, and what follows each: a restore, or a watermark.
fn timed() -> impl Strategy<Value = Vec<(Row, usize)>> {
    let row = (proptest::option::of(0i64..3), proptest::option::of(-3i32..4), 0i64..6, 0usize..9);
    proptest::collection::vec(row, 0..60).prop_map(|steps| {
        let step = |(at, (k, v, behind, then)): (usize, (_, _, i64, _))| ((k, v, 100 + at as i64 / 2 - behind), then);
        steps.into_iter().enumerate().map(step).collect()
    })
}

/// Runs timed rows; gives those that were not late (`is_late` of the row's time and the watermark), in order.
fn run_timed(job: &mut Job, steps: &[(Row, usize)], is_late: impl Fn(i64, i64) -> bool) -> Vec<Row> {
    let (mut kept, mut reached) = (vec![], i64::MIN);
    for (row, then) in steps {
        if !is_late(row.2, reached) {
            kept.push(*row);
        }
        insert(job, *row);
        match then {
            0 => job.restart(2),
            1 => job.restart(1),
            2..5 => {
                reached = reached.max(row.2 - 3);
                watermark(job, reached);
            }
            _ => {}
        }
    }
    watermark(job, i64::MAX);
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn ranked_rows_are_what_sorting_all_rows_gives(
        steps in steps(1),
        function in 0usize..3,
        keyed in any::<bool>(),
        from in 1u64..4,
        more in 0u64..4,
        outputs_rank in any::<bool>(),
    ) {
        let spec = spec(FUNCTIONS[function], keyed, (from, from + more), outputs_rank);
        let mut job = job(spec.clone(), ChangelogMode::ALL);
        let live = run(&mut job, &steps);
        prop_assert_eq!(&job.out.0, &expected(&spec, &live[0]));
        job.restart(2);
        prop_assert_eq!(job.stored_rows(), live[0].len());
    }

    #[test]
    fn of_rows_that_are_taken_back_again_the_one_that_came_last_stands_for_its_key(steps in steps(1)) {
        let spec = Rank { order: vec![], latest_first: true, ..spec(RankFunction::RowNumber, true, (1, 1), false) };
        let mut job = job(spec, ChangelogMode::ALL);
        // In the order of arrival, which is in the rows.
        let (mut live, mut next): (Vec<Row>, i64) = (vec![], 0);
        let mut arrived = |row: &Row| {
            next += 1;
            (row.0, row.1, next)
        };
        for step in &steps {
            match step {
                Step::Insert(_, row) => {
                    live.push(arrived(row));
                    insert(&mut job, live[live.len() - 1]);
                }
                Step::Delete(_, at) if !live.is_empty() => {
                    let gone = live.remove(at % live.len());
                    job.send(0, &[(RowKind::Delete, gone)]);
                }
                Step::Update(_, at, row) if !live.is_empty() => {
                    let gone = live.remove(at % live.len());
                    live.push(arrived(row));
                    job.send(0, &[(RowKind::UpdateBefore, gone), (RowKind::UpdateAfter, live[live.len() - 1])]);
                }
                Step::Restore(instances) => job.restart(*instances),
                _ => {}
            }
        }
        let last = partitions(&live, true).into_values().filter_map(|rows| rows.last().copied());
        prop_assert_eq!(&job.out.0, &folded(last.map(|row| show(&row))));
        job.restart(1);
        prop_assert_eq!(job.stored_rows(), live.len());
    }

    #[test]
    fn of_appended_rows_only_those_that_come_out_are_kept(
        rows in proptest::collection::vec(rows(), 0..80),
        function in 0usize..3,
        keyed in any::<bool>(),
        from in 1u64..3,
        more in 0u64..3,
        outputs_rank in any::<bool>(),
        batch in 1usize..20,
    ) {
        let spec = spec(FUNCTIONS[function], keyed, (from, from + more), outputs_rank);
        let mut job = job(spec.clone(), ChangelogMode::INSERT_ONLY);
        for (number, part) in rows.chunks(batch).enumerate() {
            job.send(0, &part.iter().map(|row| (RowKind::Insert, *row)).collect::<Vec<_>>());
            if number % 3 == 1 {
                job.restart(1 + number % 2);
            }
        }
        prop_assert_eq!(&job.out.0, &expected(&spec, &rows));
        job.restart(1);
        let all = Rank { from: 1, outputs_rank: false, ..spec };
        prop_assert_eq!(job.stored_rows() as i64, expected(&all, &rows).values().sum::<i64>());
    }

    #[test]
    fn the_last_row_by_time_stays_and_of_equals_the_one_that_came_last(steps in timed(), batch in 1usize..9) {
        let order = vec![SortKey { column: 2, descending: true, nulls_first: false }];
        let spec = Rank { order, latest_first: true, ..spec(RankFunction::RowNumber, true, (1, 1), false) };
        let mut job = job(spec, ChangelogMode::INSERT_ONLY);
        let rows: Vec<Row> = steps.iter().map(|(row, _)| *row).collect();
        for (number, part) in rows.chunks(batch).enumerate() {
            job.send(0, &part.iter().map(|row| (RowKind::Insert, *row)).collect::<Vec<_>>());
            if number % 4 == 1 {
                job.restart(1 + number % 2);
            }
        }
        let last = partitions(&rows, true).into_values().filter_map(|rows| rows.into_iter().max_by_key(|row| row.2));
        prop_assert_eq!(&job.out.0, &folded(last.map(|row| show(&row))));
    }

    #[test]
    fn the_first_row_by_time_comes_out_once_the_watermark_reaches_it(steps in timed()) {
        let order = vec![SortKey { column: 2, descending: false, nulls_first: true }];
        let timing = RankTiming::RowTime { column: 2 };
        let spec = Rank { order, timing, ..spec(RankFunction::RowNumber, true, (1, 1), false) };
        let mut job = job(spec, ChangelogMode::INSERT_ONLY);
        let kept = run_timed(&mut job, &steps, |time, watermark| time < watermark);
        let first = partitions(&kept, true).into_values().filter_map(|rows| rows.into_iter().min_by_key(|row| row.2));
        prop_assert_eq!(&job.out.0, &folded(first.map(|row| show(&row))));
    }

    #[test]
    fn the_first_rows_to_arrive_stay(steps in timed(), keyed in any::<bool>(), from in 1u64..3, more in 0u64..3) {
        let timing = RankTiming::Arrival;
        let spec = Rank { order: vec![], timing, ..spec(RankFunction::RowNumber, keyed, (from, from + more), true) };
        let mut job = job(spec, ChangelogMode::INSERT_ONLY);
        run_timed(&mut job, &steps, |_, _| false);
        let rows: Vec<Row> = steps.iter().map(|(row, _)| *row).collect();
        let ranked = partitions(&rows, keyed).into_values().flat_map(|rows| rows.into_iter().zip(1u64..));
        let within = ranked.filter(|(_, rank)| (from..=from + more).contains(rank));
        prop_assert_eq!(&job.out.0, &folded(within.map(|(row, rank)| format!("{},{rank}", show(&row)))));
    }

    #[test]
    fn the_rows_of_a_window_are_ranked_at_its_end(
        steps in timed(),
        function in 0usize..3,
        from in 1u64..3,
        more in 0u64..3,
    ) {
        let timing = RankTiming::Window { end: 2, event_time: true, zone: SessionZone::UTC };
        let plain = spec(FUNCTIONS[function], true, (from, from + more), true);
        let mut job = job(Rank { partition: vec![0, 2], timing, ..plain.clone() }, ChangelogMode::INSERT_ONLY);
        // A window [.., end) is over when the watermark is at its last millisecond.
        let kept = run_timed(&mut job, &steps, |end, watermark| watermark >= end - 1);
        let mut out = BTreeMap::new();
        for end in kept.iter().map(|row| row.2).collect::<std::collections::BTreeSet<_>>() {
            let rows: Vec<Row> = kept.iter().filter(|row| row.2 == end).copied().collect();
            out.extend(expected(&plain, &rows));
        }
        prop_assert_eq!(&job.out.0, &out);
        job.restart(1);
        prop_assert_eq!(job.stored_rows(), 0);
    }

    #[test]
    fn functions_over_frames_are_what_a_recomputation_of_each_frame_gives(
        steps in timed(),
        event_time in any::<bool>(),
        preceding in 0i64..5,
    ) {
        let frames = [
            Frame { is_rows: true, preceding: None },
            Frame { is_rows: false, preceding: None },
            Frame { is_rows: true, preceding: Some(preceding) },
            Frame { is_rows: false, preceding: Some(preceding) },
        ];
        let mut job = over(event_time, &frames);
        let kept = run_timed(&mut job, &steps, |time, watermark| event_time && time <= watermark);
        let mut out = vec![];
        for (_, mut rows) in partitions(&kept, true) {
            if event_time {
                rows.sort_by_key(|row| row.2);
            }
            out.extend((0..rows.len()).map(|at| expected_over(&rows, at, &frames, event_time)));
        }
        prop_assert_eq!(&job.out.0, &folded(out));
    }

    #[test]
    fn rows_behind_the_watermark_are_late_only_behind_what_left(steps in timed(), preceding in 1i64..4, sorts: bool) {
        let frame = Frame { is_rows: true, preceding: Some(preceding) };
        let frames = if sorts { vec![] } else { vec![frame] };
        let mut job = over(true, &frames);
        let part = |row: &Row| if sorts { None } else { row.0 };
        let (mut kept, mut waiting) = (Vec::<Row>::new(), Vec::<Row>::new());
        let (mut reached, mut left) = (i64::MIN, BTreeMap::new());
        for (row, then) in steps {
            if row.2 > reached || left.get(&part(&row)).is_none_or(|last| row.2 > *last) {
                kept.push(row);
                waiting.push(row);
            }
            insert(&mut job, row);
            if then < 5 {
                reached = reached.max(row.2 - 3);
                watermark(&mut job, reached);
                let (passed, others): (Vec<Row>, Vec<Row>) = waiting.into_iter().partition(|row| row.2 <= reached);
                waiting = others;
                for row in passed {
                    let last = left.entry(part(&row)).or_insert(row.2);
                    *last = row.2.max(*last);
                }
            }
        }
        job.restart(2);
        watermark(&mut job, i64::MAX);
        let mut out = vec![];
        for (_, mut rows) in partitions(&kept, true) {
            rows.sort_by_key(|row| row.2);
            out.extend((0..rows.len()).map(|at| match sorts {
                true => show(&rows[at]),
                // Without the ranks and LAG behind the frames.
                false => expected_over(&rows, at, &frames, true).rsplitn(5, ',').last().unwrap_or_default().to_string(),
            }));
        }
        prop_assert_eq!(&job.out.0, &folded(out));
    }

    #[test]
    fn functions_over_rows_that_change_are_brought_up_to_date(steps in steps(1), preceding in 0i64..3) {
        let frames = [
            Frame { is_rows: true, preceding: None },
            Frame { is_rows: false, preceding: None },
            Frame { is_rows: true, preceding: Some(preceding) },
        ];
        let (calls, fields) = calls(&frames);
        let order = vec![SortKey { column: 1, descending: false, nulls_first: true }];
        let all = spec(RankFunction::RowNumber, true, (1, u64::MAX), false);
        let connections = Connections {
            inputs: vec![stream(schema(), ChangelogMode::ALL)],
            output: stream(Schema::new(fields), ChangelogMode::ALL),
        };
        let mut job = Job::new(OperatorSpec::Rank(Rank { order, calls, ..all }), connections, vec![vec![0]]);
        let live = run(&mut job, &steps);
        let mut out = vec![];
        for (_, mut rows) in partitions(&live[0], true) {
            rows.sort_by_key(|row| row.1);
            // What is expected is told by time.
            let timed: Vec<Row> = rows.iter().map(|row| (row.0, row.1, row.1.map_or(-9, i64::from))).collect();
            let of = |at| expected_over(&timed, at, &frames, true).split_once(&show(&timed[at])).unwrap().1.to_string();
            out.extend((0..rows.len()).map(|at| format!("{}{}", show(&rows[at]), of(at))));
        }
        prop_assert_eq!(&job.out.0, &folded(out));
        job.restart(2);
        prop_assert_eq!(job.stored_rows(), live[0].len());
    }

    #[test]
    fn rows_that_no_later_row_looks_back_at_are_gone(steps in timed(), preceding in 0i64..5) {
        let mut job = over(true, &[Frame { is_rows: false, preceding: Some(preceding) }]);
        run_timed(&mut job, &steps, |_, _| false);
        job.restart(1);
        prop_assert_eq!(job.stored_rows(), 0);
    }
}

/// For each frame SUM and COUNT(DISTINCT), MAX and LISTAGG-like order by FIRST_VALUE; behind them the ranks and LAG.
fn calls(frames: &[Frame]) -> (Vec<OverCall>, Vec<Field>) {
    use AggregateFunction::{Count, FirstValue, Max, Sum};
    let mut calls = vec![];
    for frame in frames {
        let aggregates = [
            (Sum, false, TypeKind::Int),
            (Count, true, TypeKind::BigInt),
            (Max, false, TypeKind::Int),
            (FirstValue, false, TypeKind::Int),
        ];
        for (function, distinct, result) in aggregates {
            let arg_types = vec![TypeKind::Int.nullable()];
            let result = result.nullable();
            let call = AggregateCall { function, args: vec![1], arg_types, distinct, filter: None, result };
            calls.push(OverCall { function: OverFunction::Aggregate(call), frame: *frame });
        }
    }
    if frames.len() > 1 {
        let frame = Frame { is_rows: false, preceding: None };
        calls.extend(FUNCTIONS.map(|function| OverCall { function: OverFunction::Rank(function), frame }));
        calls.push(OverCall { function: OverFunction::Lag { column: 1, offset: 2, default: None }, frame });
    }
    let mut fields: Vec<Field> = schema().fields.to_vec();
    for (number, call) in calls.iter().enumerate() {
        let data_type = match &call.function {
            OverFunction::Aggregate(call) => call.result.clone(),
            OverFunction::Rank(_) => TypeKind::BigInt.not_null(),
            OverFunction::Lag { .. } => TypeKind::Int.nullable(),
        };
        fields.push(Field::new(format!("f{number}"), data_type));
    }
    (calls, fields)
}

fn over(event_time: bool, frames: &[Frame]) -> Job {
    let (calls, fields) = calls(frames);
    let time = if event_time { WindowTime::Event { column: 2 } } else { WindowTime::Processing };
    let spec = OperatorSpec::Over(Over { partition: vec![0], time, then: vec![], calls, ttl_ms: None });
    let connections = Connections::insert_only(&[schema()], &Schema::new(fields));
    Job::new(spec, connections, vec![vec![0]])
}

fn expected_over(rows: &[Row], at: usize, frames: &[Frame], event_time: bool) -> String {
    let time = |row: usize| if event_time { rows[row].2 } else { 0 };
    let last = |at: usize| if event_time { rows.iter().rposition(|row| row.2 == rows[at].2).unwrap() } else { at };
    let mut cells = vec![show(&rows[at])];
    for frame in frames {
        let (from, to) = match (frame.is_rows, frame.preceding) {
            (true, None) => (0, at),
            (false, None) => (0, last(at)),
            (true, Some(rows)) => (at.saturating_sub(rows as usize), at),
            (false, Some(range)) => ((0..=at).find(|row| time(*row) >= time(at) - range).unwrap(), last(at)),
        };
        let values: Vec<i32> = rows[from..=to].iter().filter_map(|row| row.1).collect();
        let distinct = values.iter().collect::<std::collections::BTreeSet<_>>().len();
        cells.push(text((!values.is_empty()).then(|| values.iter().sum::<i32>())));
        cells.push(distinct.to_string());
        cells.push(text(values.iter().max()));
        cells.push(text(values.first()));
    }
    let first = if event_time { rows.iter().position(|row| row.2 == rows[at].2).unwrap() } else { at };
    let times = rows[..=at].iter().map(|row| row.2).collect::<std::collections::BTreeSet<_>>().len();
    cells.push((at + 1).to_string());
    cells.push((first + 1).to_string());
    cells.push(if event_time { times } else { at + 1 }.to_string());
    cells.push(text(last(at).checked_sub(2).and_then(|before| rows[before].1)));
    cells.join(",")
}

#[test]
fn a_partition_without_use_is_forgotten() {
    let mut job = job(
        Rank { ttl_ms: Some(10_000), ..spec(RankFunction::RowNumber, true, (1, 1), false) },
        ChangelogMode::INSERT_ONLY,
    );
    job.now_ms = 1_000_000;
    insert(&mut job, (Some(1), Some(5), 0));
    job.restart(1);
    job.now_ms += 20_000;
    job.each(|operator, ctx| operator.on_timer(ctx));
    job.now_ms += 20_000;
    job.each(|operator, ctx| operator.on_timer(ctx));
    job.restart(1);
    assert_eq!(job.stored_rows(), 0);
}
