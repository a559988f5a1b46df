//! Sessions against a naive recomputation, row by row, under random batches, disorder, watermarks and restores.

use super::testing::times;
use super::window_tests::{Job, Row, Step, batch, input, output, spec, steps, text};
use arrow::util::display::array_value_to_string;
use millstream_core::graph::*;
use millstream_core::operator::TARGET_BATCH_ROWS;
use millstream_core::types::SessionZone;
use millstream_core::{Field, Schema, TypeKind};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// A session as its rows; its bounds are told from them.
#[derive(Clone, Debug)]
struct Session(Vec<Row>);

impl Session {
    fn start(&self) -> i64 {
        self.0.iter().map(|r| r.0).min().unwrap()
    }
    fn end(&self, gap: i64) -> i64 {
        self.0.iter().map(|r| r.0).max().unwrap() + gap
    }
}

/// Sessions that have closed, in order, and the number of late rows.
fn oracle(gap: i64, keyed: bool, steps: &[Step]) -> (Vec<Session>, u64) {
    let (mut open, mut over, mut late, mut watermark) = (Vec::<Session>::new(), vec![], 0, i64::MIN);
    let key = |row: &Row| if keyed { row.1 } else { None };
    for step in steps.iter().chain([&Step::Watermark(i64::MAX)]) {
        match step {
            Step::Rows(rows) => {
                for row in rows {
                    let meets =
                        |s: &Session| key(&s.0[0]) == key(row) && s.start() <= row.0 + gap && s.end(gap) >= row.0;
                    let (mut met, rest): (Vec<Session>, Vec<Session>) = open.into_iter().partition(meets);
                    open = rest;
                    met.sort_by_key(Session::start);
                    let mut rows: Vec<Row> = met.into_iter().flat_map(|s| s.0).collect();
                    rows.push(*row);
                    let session = Session(rows);
                    match session.end(gap) - 1 <= watermark {
                        true => late += 1,
                        false => open.push(session),
                    }
                }
            }
            Step::Watermark(w) => {
                watermark = watermark.max(*w);
                let (closed, rest) = open.into_iter().partition(|s| s.end(gap) - 1 <= watermark);
                open = rest;
                over.extend::<Vec<Session>>(closed);
            }
            Step::Restore(_) | Step::Room(_) => {}
        }
    }
    (over, late)
}

fn time(ms: i64) -> String {
    array_value_to_string(&times(&[ms]), 0).unwrap()
}

fn show<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".into(), |v| v.to_string())
}

/// The results of `window_tests::spec` over the sessions.
fn aggregated(sessions: &[Session], gap: i64, keyed: bool) -> Vec<String> {
    let line = |session: &Session| {
        let known: Vec<i32> = session.0.iter().filter_map(|r| r.2).collect();
        let sum: i64 = known.iter().map(|v| i64::from(*v)).sum();
        let some = !known.is_empty();
        let mut cells = if keyed { vec![show(session.0[0].1)] } else { vec![] };
        cells.push(session.0.len().to_string());
        cells.push(show(some.then_some(sum as i32)));
        cells.push(show(some.then(|| sum / known.len() as i64)));
        cells.push(show(known.iter().map(|v| format!("s{v}")).max()));
        cells.push(known.iter().collect::<BTreeSet<_>>().len().to_string());
        cells.push(show(known.iter().min()));
        cells.extend([time(session.start()), time(session.end(gap))]);
        cells.join("|")
    };
    let mut lines: Vec<String> = sessions.iter().map(line).collect();
    lines.sort();
    lines
}

/// The rows of the sessions with their windows.
fn assigned(sessions: &[Session], gap: i64) -> Vec<String> {
    let mut lines = vec![];
    for session in sessions {
        let (start, end) = (time(session.start()), time(session.end(gap)));
        for (t, k, v) in &session.0 {
            let text = show(v.map(|v| format!("s{v}")));
            let last = time(session.end(gap) - 1);
            lines.push([time(*t), show(*k), show(*v), text, start.clone(), end.clone(), last].join("|"));
        }
    }
    lines.sort();
    lines
}

fn aggregate(gap_ms: i64, keys: &[usize]) -> Job {
    let spec = spec(WindowShape::Session { gap_ms }, keys.to_vec(), AggregatePhase::Single);
    let out = output(&spec);
    Job::new(OperatorSpec::WindowAggregate(spec), input(), out)
}

fn assign(gap_ms: i64, keys: &[usize], window_time: WindowTime) -> Job {
    let window = WindowSpec { shape: WindowShape::Session { gap_ms }, time: window_time, zone: SessionZone::UTC };
    let mut fields = input().fields;
    for name in ["window_start", "window_end", "window_time"] {
        fields.push(Field::new(name, TypeKind::Timestamp(3).nullable()));
    }
    Job::new(OperatorSpec::WindowAssign { window, session_keys: keys.to_vec() }, input(), Schema::new(fields))
}

fn drive(mut job: Job, keys: &[usize], steps: &[Step]) -> (Vec<String>, u64) {
    job.take(steps, keys);
    (text(&job.sink.0), job.metrics.late_rows.load(Ordering::Relaxed))
}

const EVENT: WindowTime = WindowTime::Event { column: 0 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn session_aggregates_are_what_a_naive_recomputation_finds(gap in 1i64..25, keyed: bool, steps in steps()) {
        let keys: &[usize] = if keyed { &[1] } else { &[] };
        let (sessions, late) = oracle(gap, keyed, &steps);
        prop_assert_eq!(drive(aggregate(gap, keys), keys, &steps), (aggregated(&sessions, gap, keyed), late));
    }

    #[test]
    fn rows_leave_with_the_session_that_a_naive_recomputation_finds(gap in 1i64..25, keyed: bool, steps in steps()) {
        let keys: &[usize] = if keyed { &[1] } else { &[] };
        let (sessions, late) = oracle(gap, keyed, &steps);
        prop_assert_eq!(drive(assign(gap, keys, EVENT), keys, &steps), (assigned(&sessions, gap), late));
    }

    #[test]
    fn sessions_dont_depend_on_how_rows_are_batched(gap in 1i64..25, steps in steps()) {
        let one_by_one: Vec<Step> = steps.iter().flat_map(|step| match step {
            Step::Rows(rows) => rows.iter().map(|r| Step::Rows(vec![*r])).collect(),
            other => vec![other.clone()],
        }).collect();
        prop_assert_eq!(drive(aggregate(gap, &[1]), &[1], &steps), drive(aggregate(gap, &[1]), &[1], &one_by_one));
    }
}

#[test]
fn a_late_row_that_a_live_session_takes_up_is_not_late() {
    let steps = [
        Step::Rows(vec![(100, Some(1), Some(1))]),
        Step::Watermark(104),
        // [92, 102) alone is over at 104, but it touches [100, 110).
        Step::Rows(vec![(92, Some(1), Some(2)), (85, Some(1), Some(3)), (70, Some(1), Some(4)), (92, Some(2), None)]),
    ];
    let (lines, late) = drive(aggregate(10, &[1]), &[1], &steps);
    assert_eq!(lines, ["1|3|6|2|s3|3|1|1970-01-01T00:00:00.085|1970-01-01T00:00:00.110"]);
    assert_eq!(late, 2);
}

#[test]
fn many_sessions_leave_in_several_batches_and_free_their_slots() {
    let count = 2 * TARGET_BATCH_ROWS as i64 + 5;
    let rows: Vec<Row> = (0..count).map(|i| (i % 7, Some(i), Some(1))).collect();
    let second: Vec<Row> = (0..count).map(|i| (1000 + i % 7, Some(i), Some(2))).collect();
    // All at once, or interrupted after so many batches.
    for batches in [usize::MAX, 0, 2] {
        let steps = [
            Step::Rows(rows.clone()),
            Step::Restore(3),
            Step::Room(batches),
            Step::Watermark(500),
            Step::Rows(second.clone()),
            Step::Restore(2),
            Step::Rows(rows.clone()),
            Step::Room(1),
            Step::Watermark(2000),
            Step::Restore(3),
        ];
        let (sessions, late) = oracle(10, true, &steps);
        assert_eq!((sessions.len(), late), (2 * count as usize, count as u64));
        assert!(drive(aggregate(10, &[1]), &[1], &steps) == (aggregated(&sessions, 10, true), late), "{batches}");
        assert!(drive(assign(10, &[1], EVENT), &[1], &steps) == (assigned(&sessions, 10), late), "{batches}");
    }
}

#[test]
fn sessions_of_processing_time_close_by_the_clock_and_survive_a_restore() {
    let mut job = assign(100, &[1], WindowTime::Processing);
    let at = |job: &mut Job, now_ms: i64, rows: &[Row]| {
        job.now_ms = now_ms;
        job.each(|o, ctx| o.on_timer(ctx));
        job.rows(&batch(rows), &[1]);
    };
    at(&mut job, 1000, &[(0, Some(1), Some(1)), (0, Some(2), Some(2))]);
    at(&mut job, 1050, &[(0, Some(1), Some(3))]);
    job.restart(2);
    at(&mut job, 1120, &[]);
    let of = |v: i32, k: i64, from: i64, to: i64| {
        [time(0), k.to_string(), v.to_string(), format!("s{v}"), time(from), time(to), time(to - 1)].join("|")
    };
    assert_eq!(text(&job.sink.0), [of(2, 2, 1000, 1100)]);
    // The clock was set back: the row counts as of the latest time seen.
    at(&mut job, 900, &[(0, Some(2), Some(4))]);
    job.each(|o, ctx| o.on_end(ctx));
    let mut all = vec![of(1, 1, 1000, 1150), of(2, 2, 1000, 1100), of(3, 1, 1000, 1150), of(4, 2, 1120, 1220)];
    all.sort();
    assert_eq!(text(&job.sink.0), all);
}
