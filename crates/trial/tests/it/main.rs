//! Planned scripts on trial: the same result however a job is cut into epochs, crashed and rescaled.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::Int64Type;
use millstream_core::connector::{Connector, ConnectorRegistry, SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::settings::Settings;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Batch, Error, Result};
use millstream_sql::{PlanOptions, plan_script};
use millstream_trial::{Course, Crash, Epoch, Folded, Rows, Stage, Trial, fold};
use std::sync::Arc;

const ROWS: i64 = 60;

/// Tables `(k BIGINT, v BIGINT, ts TIMESTAMP(3))`: row `i` has the key `i % 7`, the value `i`, and is of second `i`.
#[derive(Clone, Debug)]
struct Numbers(Arc<Stage>);

impl ConnectorRegistry for Numbers {
    fn connector(&self, _: &str) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Connector for Numbers {
    fn name(&self) -> &str {
        "numbers"
    }
    fn source(&self, table: &TableDef, _: &SessionInfo) -> Result<Arc<dyn Source>> {
        self.0.source(&table.name, || {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| i % 7))),
                Arc::new(Int64Array::from_iter_values(0..ROWS)),
                Arc::new(TimestampMillisecondArray::from_iter_values((0..ROWS).map(|i| i * 1000))),
            ];
            let batch = Batch::from_columns(table.schema.arrow().clone(), columns, ROWS as usize)?;
            let changelog = ChangelogMode::INSERT_ONLY;
            Ok(Rows { schema: table.schema.clone(), batch, changelog, is_bounded: true })
        })
    }
    fn sink(&self, table: &TableDef, _: WriteMode, _: &SessionInfo) -> Result<Arc<dyn Sink>> {
        let keyed = !table.primary_key.is_empty();
        Ok(self.0.sink(&table.name, if keyed { ChangelogMode::UPSERT } else { ChangelogMode::ALL }))
    }
}

const TABLE: &str = "CREATE TABLE t (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) \
                     WITH ('connector' = 'numbers');";

fn trial(script: &str) -> Trial {
    let (stage, script) = (Stage::new(), format!("{TABLE}{script}"));
    let registry = Arc::new(Numbers(Arc::clone(&stage)));
    let select = stage.sink("select", ChangelogMode::ALL);
    let plan = move |parallelism| {
        let options = PlanOptions {
            settings: Settings::default(),
            registry: registry.clone(),
            session: SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] },
            name: "trial".into(),
            parallelism,
            select_sink: Some(select.clone()),
        };
        let planned = plan_script(&script, options)?;
        Ok((Arc::new(planned.graph), planned.settings))
    };
    Trial { stage, plan: Box::new(plan) }
}

/// So many epochs, a second of the clock each.
fn epochs(count: usize) -> Vec<Epoch> {
    let epoch = |i: usize| Epoch { now_ms: i as i64 * 1000, rows: vec![ROWS as usize * (i + 1) / count] };
    (0..count).map(epoch).collect()
}

fn text(batch: &Batch, row: usize, columns: &[usize]) -> String {
    let cell = |c: &usize| batch.column(*c).as_primitive::<Int64Type>().value(row).to_string();
    columns.iter().map(cell).collect::<Vec<_>>().join(" ")
}

fn run(script: &str, table: &str, key: Option<&[usize]>, course: &Course) -> Folded {
    let trial = trial(script);
    (trial.plan)(1).unwrap();
    fold(&trial.run(course).unwrap().written[table], key, &text)
}

/// Runs it straight, and over crashes after each epoch, going on at another parallelism each time.
fn check(script: &str, table: &str, key: Option<&[usize]>, expected: impl IntoIterator<Item = String>) {
    let expected: Folded = expected.into_iter().map(|row| (row, 1)).collect();
    for workers in 1..=3 {
        let straight = Course { workers, epochs: epochs(5), crashes: vec![] };
        assert_eq!(run(script, table, key, &straight), expected, "{workers} workers");
        let crash = |after| Crash { after, workers: (workers + after) % 3 + 1 };
        let crashed = Course { crashes: (0..=5).map(crash).collect(), ..straight };
        assert_eq!(run(script, table, key, &crashed), expected, "{workers} workers at first, and crashes");
    }
}

fn sum_of(key: i64) -> i64 {
    (0..ROWS).filter(|i| i % 7 == key).sum()
}

#[test]
fn a_changelog_is_the_same_over_crashes_and_other_parallelisms() {
    let rows = || (0..7).map(|k| format!("{k} {}", sum_of(k)));
    check("SELECT k, SUM(v) FROM t GROUP BY k", "select", None, rows());
    let sink = "CREATE TABLE s (k BIGINT PRIMARY KEY NOT ENFORCED, n BIGINT) WITH ('connector' = 'numbers');";
    check(&format!("{sink} INSERT INTO s SELECT k, SUM(v) FROM t GROUP BY k"), "s", Some(&[0]), rows());
}

#[test]
fn windows_of_event_time_are_the_same_over_crashes_and_other_parallelisms() {
    let windows = (0..6).map(|w| format!("{}", (w * 10..w * 10 + 10).sum::<i64>()));
    let query = "SELECT SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                 GROUP BY window_start, window_end";
    check(query, "select", None, windows);
}

#[test]
fn windows_of_processing_time_follow_the_clock_of_the_trial() {
    // The clock goes on by a second before each 12 rows.
    let script = "CREATE TABLE p (k BIGINT, v BIGINT, ts TIMESTAMP(3), now AS PROCTIME()) WITH ('connector' = 'numbers'); \
                  SELECT SUM(v) FROM TABLE(TUMBLE(TABLE p, DESCRIPTOR(now), INTERVAL '2' SECOND)) \
                  GROUP BY window_start, window_end";
    let sum = |from: i64, to: i64| (from..to).sum::<i64>().to_string();
    check(script, "select", None, [sum(0, 24), sum(24, 48), sum(48, 60)]);
}

#[test]
fn a_failing_job_is_an_error_of_the_trial() {
    let trial = trial("SELECT v / (v - 30) FROM t");
    (trial.plan)(1).unwrap();
    let error = trial.run(&Course { workers: 2, epochs: epochs(3), crashes: vec![] }).unwrap_err();
    assert_eq!(error.kind(), Error::data("").kind(), "{error}");
}
