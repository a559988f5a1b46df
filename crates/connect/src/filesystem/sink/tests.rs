//! Tests of the file sink: random lives against a simple model, and what each option does.

use super::{FileSink, Plan};
use crate::filesystem::store::Location;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::array::{AsArray, types::Int64Type};
use bytes::Bytes;
use millstream_core::connector::{SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::sink::{Sink, SinkContext, SinkWriter};
use millstream_core::time::ManualClock;
use millstream_core::{Batch, Field, Result, Schema, TypeKind};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A row of the test's table: `id`, `s`, and the partition column `p`.
type Row = (Option<String>, Option<String>);
type Rows = BTreeMap<i64, Row>;

/// Where a test's sink writes.
enum Place {
    Local(tempfile::TempDir),
    Objects(Arc<InMemory>),
}

impl Place {
    fn local() -> Place {
        Place::Local(tempfile::tempdir().unwrap())
    }
    fn root(&self) -> PathBuf {
        match self {
            Place::Local(folder) => folder.path().join("table"),
            Place::Objects(_) => PathBuf::from("table"),
        }
    }
    /// Every file that a reader sees, and its bytes: no part of its path begins with `.` or `_`.
    fn visible(&self) -> Vec<(String, Vec<u8>)> {
        let is_visible = |path: &String| !path.split('/').any(|part| part.starts_with(['.', '_']));
        self.all().into_iter().filter(|(path, _)| is_visible(path)).collect()
    }
    fn all(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Place::Local(_) => {
                let mut found = Vec::new();
                walk(&self.root(), "", &mut found);
                found
            }
            Place::Objects(store) => futures::executor::block_on(async {
                let listed = store.list(None);
                let metas: Vec<_> = futures::TryStreamExt::try_collect(listed).await.unwrap();
                let mut found = Vec::new();
                for meta in metas {
                    let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
                    found.push((meta.location.as_ref().strip_prefix("table/").unwrap().to_string(), bytes.to_vec()));
                }
                found
            }),
        }
    }
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => walk(&path, &format!("{name}/"), found),
            false => found.push((name, std::fs::read(&path).unwrap())),
        }
    }
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("id", TypeKind::BigInt.nullable()),
        Field::new("s", TypeKind::STRING.nullable()),
        Field::new("p", TypeKind::STRING.nullable()),
    ])
}

fn plan(schema: Schema, place: &Place, mode: WriteMode, options: &[(&str, &str)], by: &[&str]) -> Result<Plan> {
    let mut all: BTreeMap<String, String> = [("path", "table"), ("sink.rolling-policy.file-size", "96 b")]
        .iter()
        .chain(options)
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    all.insert("connector".into(), "filesystem".into());
    let table = TableDef {
        name: "t".into(),
        schema,
        options: all.clone(),
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: by.iter().map(|s| s.to_string()).collect(),
    };
    let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] };
    let options = Options::new("t", "filesystem", &all);
    let mut plan = Plan::build(&table, &options, mode, &session)?;
    options.finish()?;
    plan.target = match place {
        Place::Local(_) => Location::Local(place.root()),
        Place::Objects(store) => Location::Objects { store: store.clone(), prefix: "table".into() },
    };
    Ok(plan)
}

fn open(sink: &FileSink, job: &str, attempt: u64, (instance, instances): (usize, usize)) -> Box<dyn SinkWriter> {
    open_at(sink, job, attempt, (instance, instances), Arc::new(ManualClock::at(0)))
}

fn open_at(
    sink: &FileSink,
    job: &str,
    attempt: u64,
    (instance, instances): (usize, usize),
    clock: Arc<ManualClock>,
) -> Box<dyn SinkWriter> {
    sink.open(SinkContext {
        job_id: job.into(),
        attempt,
        run: attempt,
        instance,
        instances,
        waker: Arc::new(|| {}),
        metrics: Default::default(),
        clock,
        first_epoch: 1,
        storage: None,
    })
    .unwrap()
}

fn batch(rows: &[(i64, Row)]) -> Batch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.0.clone())));
    let partitions: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.1.clone())));
    Batch::from_columns(schema().arrow().clone(), vec![ids, texts, partitions], rows.len()).unwrap()
}

/// A percent-encoded text, decoded by other code than the sink's.
fn decoded(text: &str) -> String {
    let with_plus = text.replace('+', "%2B");
    let url = format!("{with_plus}=");
    url::form_urlencoded::parse(url.as_bytes()).next().unwrap().0.into_owned()
}

/// The fields of a CSV line without line feeds in quotes.
fn csv_fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (vec![], String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// What a reader that follows the sink's convention sees; a file that isn't whole panics.
fn read(place: &Place, format: &str, partitioned: bool) -> Rows {
    let mut rows = Rows::new();
    for (path, bytes) in place.visible() {
        assert!(path.ends_with(&format!(".{format}")), "{path} is no file of a table");
        let partition = path.split_once('/').map(|(folder, _)| decoded(folder.strip_prefix("p=").unwrap()));
        assert_eq!(partition.is_some(), partitioned, "{path}");
        let partition = partition.filter(|p| p != "__DEFAULT_PARTITION__");
        let mut add = |id: i64, s: Option<String>, p: Option<String>| {
            let p = if partitioned { partition.clone() } else { p };
            assert!(rows.insert(id, (s, p)).is_none(), "row {id} came twice");
        };
        match format {
            "json" => {
                let text = String::from_utf8(bytes).unwrap();
                assert!(text.ends_with('\n'), "{path} is cut");
                for line in text.lines() {
                    let row: serde_json::Value = serde_json::from_str(line).unwrap();
                    let text = |name: &str| row[name].as_str().map(str::to_string);
                    add(row["id"].as_i64().unwrap(), text("s"), text("p"));
                }
            }
            "csv" => {
                let text = String::from_utf8(bytes).unwrap();
                assert!(text.ends_with('\n'), "{path} is cut");
                for line in text.lines() {
                    let fields = csv_fields(line);
                    let text = |i: usize| fields.get(i).filter(|t| !t.is_empty()).cloned();
                    add(fields[0].parse().unwrap(), text(1), text(2));
                }
            }
            _ => {
                for batch in parquet_batches(bytes) {
                    let text = |i: usize, row: usize| {
                        let column = batch.columns().get(i)?.as_string::<i32>();
                        arrow::array::Array::is_valid(column, row).then(|| column.value(row).to_string())
                    };
                    for row in 0..batch.num_rows() {
                        add(batch.column(0).as_primitive::<Int64Type>().value(row), text(1, row), text(2, row));
                    }
                }
            }
        }
    }
    rows
}

fn parquet_batches(bytes: Vec<u8>) -> Vec<RecordBatch> {
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes));
    reader.unwrap().build().unwrap().map(|b| b.unwrap()).collect()
}

/// A step of a sink's life.
#[derive(Clone, Debug)]
enum Step {
    /// One instance gets rows of these texts and partitions.
    Write { instance: usize, rows: Vec<Row> },
    /// All instances end the epoch.
    Prepare,
    /// The oldest prepared epoch's checkpoint is durable and committed.
    Commit,
    /// The job dies: `killed` leaves its files as they are; `commits` instances of the oldest prepared
    /// epoch were committed before, and the checkpoint of the newest one is `durable` or not. It goes on
    /// with so many instances.
    Crash { killed: bool, commits: usize, durable: bool, instances: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = prop_oneof![
        Just(None),
        Just(Some("x".to_string())),
        Just(Some("a, b".to_string())),
        "[a-z é€]{1,40}".prop_map(|s| Some(s.trim().to_string()).filter(|s| !s.is_empty())),
    ];
    let partition = prop_oneof![
        Just(None),
        Just(Some("a".to_string())),
        Just(Some("b/c=d %41".to_string())),
        Just(Some("Zoë".to_string()))
    ];
    let rows = prop::collection::vec((text, partition), 1..8);
    let step = prop_oneof![
        5 => (0..3usize, rows).prop_map(|(instance, rows)| Step::Write { instance, rows }),
        3 => Just(Step::Prepare),
        2 => Just(Step::Commit),
        1 => (any::<bool>(), 0..3usize, any::<bool>(), 1..4usize).prop_map(|(killed, commits, durable, instances)| {
            Step::Crash { killed, commits, durable, instances }
        }),
    ];
    prop::collection::vec(step, 1..25)
}

/// An epoch that was prepared: each instance's committables and rows.
struct Prepared {
    epoch: u64,
    parts: Vec<(Vec<Vec<u8>>, Rows)>,
}

/// The sink under test, and the model of what should be seen.
struct World {
    sink: FileSink,
    writers: Vec<Box<dyn SinkWriter>>,
    /// Rows of the running epoch, by instance.
    open: Vec<Rows>,
    prepared: VecDeque<Prepared>,
    committed: Option<(u64, Vec<Vec<u8>>)>,
    visible: Rows,
    attempt: u64,
    epoch: u64,
    next_id: i64,
}

const JOB: &str = "job-0123456789abcdef";

impl World {
    fn start(sink: FileSink) -> World {
        let mut world = World {
            sink,
            writers: vec![],
            open: vec![],
            prepared: VecDeque::new(),
            committed: None,
            visible: Rows::new(),
            attempt: 0,
            epoch: 0,
            next_id: 0,
        };
        world.open_writers(2);
        world
    }
    fn open_writers(&mut self, instances: usize) {
        self.attempt += 1;
        self.writers = (0..instances).map(|i| open(&self.sink, JOB, self.attempt, (i, instances))).collect();
        self.open = vec![Rows::new(); instances];
    }
    fn prepare(&mut self, ended: bool) {
        self.epoch += 1;
        let rows = self.open.iter_mut().map(std::mem::take);
        let parts = self.writers.iter_mut().zip(rows);
        let parts = parts.map(|(w, rows)| (w.prepare_commit(self.epoch, ended).unwrap(), rows)).collect();
        self.prepared.push_back(Prepared { epoch: self.epoch, parts });
    }
    fn commit(&mut self, last: bool) {
        let Some(Prepared { epoch, parts }) = self.prepared.pop_front() else { return };
        let mut all = Vec::new();
        for (committables, rows) in parts {
            all.extend(committables);
            self.visible.extend(rows);
        }
        self.sink.committer().unwrap().commit(epoch, &all, last).unwrap();
        self.committed = Some((epoch, all));
    }
    fn crash(&mut self, killed: bool, commits: usize, durable: bool, instances: usize) {
        let last_is_durable = durable || self.prepared.len() == 1 && commits > 0;
        if let Some(first) = self.prepared.front() {
            let mut committer = self.sink.committer().unwrap();
            for (committables, rows) in first.parts.iter().take(commits) {
                committer.commit(first.epoch, committables, false).unwrap();
                self.visible.extend(rows.clone());
            }
        }
        if !last_is_durable {
            self.prepared.pop_back();
        }
        if killed {
            self.epoch += 1;
            for mut writer in self.writers.drain(..) {
                // Its thread is then idle, and the files stay, as if the process had died here.
                writer.prepare_commit(self.epoch, false).unwrap();
                std::mem::forget(writer);
            }
        }
        self.writers.clear();
        // Recovery: commit again what is durable, remove what isn't.
        let mut committer = self.sink.committer_of(JOB).unwrap();
        let mut durable_epoch = 0;
        if let Some((epoch, all)) = &self.committed {
            committer.commit(*epoch, all, false).unwrap();
            durable_epoch = *epoch;
        }
        while let Some(Prepared { epoch, .. }) = self.prepared.front() {
            durable_epoch = *epoch;
            self.commit(false);
        }
        committer.abort_after(durable_epoch).unwrap();
        self.epoch += 1;
        self.open_writers(instances);
    }
    fn step(&mut self, step: Step) {
        match step {
            Step::Write { instance, rows } => {
                let instance = instance % self.writers.len();
                let ids = self.next_id..;
                let rows: Vec<(i64, Row)> = ids.zip(rows).collect();
                self.next_id += rows.len() as i64;
                while !self.writers[instance].is_ready().unwrap() {
                    std::thread::yield_now();
                }
                self.writers[instance].write(&batch(&rows)).unwrap();
                self.open[instance].extend(rows);
            }
            Step::Prepare => self.prepare(false),
            Step::Commit => self.commit(false),
            Step::Crash { killed, commits, durable, instances } => self.crash(killed, commits, durable, instances),
        }
    }
}

/// Whatever happens, a reader sees exactly the rows that were committed, in whole files.
fn check_life(place: Place, format: &str, partitioned: bool, steps: Vec<Step>) {
    let by: &[&str] = if partitioned { &["p"] } else { &[] };
    let plan = plan(schema(), &place, WriteMode::Append, &[("format", format)], by).unwrap();
    let mut world = World::start(FileSink(Arc::new(plan)));
    for step in steps {
        let shown = format!("{step:?}");
        world.step(step);
        assert_eq!(read(&place, format, partitioned), world.visible, "after {shown}");
    }
    world.prepare(true);
    while !world.prepared.is_empty() {
        world.commit(world.prepared.len() == 1);
        assert_eq!(read(&place, format, partitioned), world.visible, "at the end");
    }
    world.writers.clear();
    if let Place::Local(_) = place {
        world.sink.committer_of(JOB).unwrap().abort_after(world.epoch).unwrap();
        let mut all = Vec::new();
        walk(&place.root(), "", &mut all);
        assert_eq!(all.len(), place.visible().len(), "nothing hidden is left: {:?}", all);
    }
}

/// Whatever happens, a reader sees the rows of before until the job's end, and then those of the job in their place.
fn check_overwrite(place: Place, partitioned: bool, steps: Vec<Step>) {
    let by: &[&str] = if partitioned { &["p"] } else { &[] };
    let old = [row(-1, Some("a")), row(-2, None), row(-3, Some("not written to"))];
    run(&place, "old", WriteMode::Append, by, &old);
    let before = read(&place, "json", partitioned);
    let plan = plan(schema(), &place, WriteMode::Overwrite, &[("format", "json")], by).unwrap();
    let mut world = World::start(FileSink(Arc::new(plan)));
    for step in steps {
        let shown = format!("{step:?}");
        world.step(step);
        assert_eq!(read(&place, "json", partitioned), before, "after {shown}");
    }
    world.prepare(true);
    while !world.prepared.is_empty() {
        assert_eq!(read(&place, "json", partitioned), before, "before the end");
        world.commit(world.prepared.len() == 1);
    }
    let mut expected = world.visible.clone();
    if partitioned {
        let written: Vec<&Option<String>> = world.visible.values().map(|(_, p)| p).collect();
        expected.extend(before.into_iter().filter(|(_, (_, p))| !written.contains(&p)));
    }
    let mut committer = world.sink.committer_of(JOB).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&place, "json", partitioned), expected, "at the end, also when the end is committed again");
        let (epoch, all) = world.committed.as_ref().unwrap();
        committer.commit(*epoch, all, true).unwrap();
    }
    world.writers.clear();
    if let Place::Local(_) = place {
        committer.abort_after(world.epoch).unwrap();
    }
    let hidden = place.all().into_iter().filter(|(path, _)| path.split('/').any(|part| part.starts_with('.')));
    assert_eq!(hidden.count(), 0, "nothing hidden is left");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_on_disk_shows_what_is_committed(steps in steps(), partitioned: bool) {
        check_life(Place::local(), "json", partitioned, steps);
    }
    #[test]
    fn csv_on_disk_shows_what_is_committed(steps in steps(), partitioned: bool) {
        check_life(Place::local(), "csv", partitioned, steps);
    }
    #[test]
    fn parquet_on_disk_shows_what_is_committed(steps in steps(), partitioned: bool) {
        check_life(Place::local(), "parquet", partitioned, steps);
    }
    #[test]
    fn json_in_an_object_store_shows_what_is_committed(steps in steps(), partitioned: bool) {
        check_life(Place::Objects(Arc::default()), "json", partitioned, steps);
    }
    #[test]
    fn csv_in_an_object_store_shows_what_is_committed(steps in steps(), partitioned: bool) {
        check_life(Place::Objects(Arc::default()), "csv", partitioned, steps);
    }
    #[test]
    fn an_overwrite_on_disk_shows_nothing_before_its_end(steps in steps(), partitioned: bool) {
        check_overwrite(Place::local(), partitioned, steps);
    }
    #[test]
    fn an_overwrite_in_an_object_store_shows_nothing_before_its_end(steps in steps(), partitioned: bool) {
        check_overwrite(Place::Objects(Arc::default()), partitioned, steps);
    }
    #[test]
    fn parquet_in_an_object_store_shows_what_is_committed(steps in steps(), partitioned: bool) {
        check_life(Place::Objects(Arc::default()), "parquet", partitioned, steps);
    }
}

/// Runs a job of one instance that writes `rows` and ends.
fn run(place: &Place, job: &str, mode: WriteMode, by: &[&str], rows: &[(i64, Row)]) {
    let plan = plan(schema(), place, mode, &[("format", "json")], by).unwrap();
    let sink = FileSink(Arc::new(plan));
    sink.check().unwrap();
    let mut writer = open(&sink, job, 1, (0, 1));
    if !rows.is_empty() {
        writer.write(&batch(rows)).unwrap();
    }
    let prepared = writer.prepare_commit(1, true).unwrap();
    // The second time is a recovery that doesn't know that the commit was done.
    for _ in 0..2 {
        sink.committer_of(job).unwrap().commit(1, &prepared, true).unwrap();
    }
}

fn row(id: i64, p: Option<&str>) -> (i64, Row) {
    (id, (Some("s".into()), p.map(str::to_string)))
}

fn ids(place: &Place, partitioned: bool) -> Vec<i64> {
    read(place, "json", partitioned).into_keys().collect()
}

#[test]
fn insert_into_appends_to_what_earlier_jobs_wrote_and_overwrite_replaces_it() {
    for place in [Place::local(), Place::Objects(Arc::default())] {
        run(&place, "job1", WriteMode::Append, &[], &[row(1, None), row(2, None)]);
        run(&place, "job2", WriteMode::Append, &[], &[row(3, None)]);
        assert_eq!(ids(&place, false), [1, 2, 3]);
        run(&place, "job3", WriteMode::Overwrite, &[], &[row(4, None)]);
        assert_eq!(ids(&place, false), [4]);
        run(&place, "job4", WriteMode::Overwrite, &[], &[]);
        assert_eq!(ids(&place, false), [] as [i64; 0]);
    }
}

#[test]
fn an_overwrite_of_a_partitioned_table_replaces_the_partitions_that_it_writes() {
    for place in [Place::local(), Place::Objects(Arc::default())] {
        run(&place, "job1", WriteMode::Append, &["p"], &[row(1, Some("a")), row(2, Some("b/%")), row(3, None)]);
        run(&place, "job2", WriteMode::Overwrite, &["p"], &[row(4, Some("b/%")), row(5, Some("c")), row(6, None)]);
        assert_eq!(ids(&place, true), [1, 4, 5, 6]);
    }
}

#[test]
fn a_partition_of_null_has_the_default_name_or_the_one_given() {
    for (options, name) in [
        (&[("format", "json")][..], "__DEFAULT_PARTITION__"),
        (&[("format", "json"), ("partition.default-name", "none")], "none"),
    ] {
        let place = Place::local();
        let plan = plan(schema(), &place, WriteMode::Append, options, &["p"]).unwrap();
        let sink = FileSink(Arc::new(plan));
        let mut writer = open(&sink, "job", 1, (0, 1));
        writer.write(&batch(&[row(1, None), row(2, Some("")), row(3, Some("x"))])).unwrap();
        let prepared = writer.prepare_commit(1, true).unwrap();
        sink.committer().unwrap().commit(1, &prepared, true).unwrap();
        let names = place.visible().into_iter().map(|(path, _)| path.split('/').next().unwrap().to_string());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let mut expected = [format!("p={name}"), "p=x".to_string()];
        expected.sort();
        assert_eq!(names, expected);
    }
}

#[test]
fn parts_end_at_their_size_and_after_their_time() {
    let place = Place::local();
    let options = [
        ("format", "json"),
        ("sink.rolling-policy.file-size", "1 kb"),
        ("sink.rolling-policy.rollover-interval", "1 min"),
    ];
    let sink = FileSink(Arc::new(plan(schema(), &place, WriteMode::Append, &options, &[]).unwrap()));
    let clock = Arc::new(ManualClock::at(0));
    let mut writer = open_at(&sink, "job", 1, (0, 1), clock.clone());
    let mut write = |id: i64, text: &str, now_ms: i64| {
        clock.set(now_ms);
        writer.write(&batch(&[(id, (Some(text.to_string()), None))])).unwrap();
    };
    write(1, &"x".repeat(2000), 0);
    write(2, "a", 1_000);
    write(3, "b", 60_999);
    write(4, "c", 61_000);
    write(5, "d", 61_001);
    let prepared = writer.prepare_commit(1, true).unwrap();
    sink.committer().unwrap().commit(1, &prepared, true).unwrap();
    let mut files: Vec<usize> =
        place.visible().into_iter().map(|(_, bytes)| bytes.iter().filter(|b| **b == b'\n').count()).collect();
    files.sort();
    assert_eq!(files, [1, 2, 2]);
}

#[test]
fn what_is_not_built_is_refused() {
    let place = Place::local();
    let refused = |more: &[(&str, &str)]| {
        let options = [&[("format", "json")][..], more].concat();
        plan(schema(), &place, WriteMode::Append, &options, &[]).map(|_| ()).unwrap_err().to_string()
    };
    let error = refused(&[("auto-compaction", "true")]);
    assert!(error.contains("'auto-compaction' is not supported yet (table 't', option 'auto-compaction')"), "{error}");
    let error = refused(&[("sink.partition-commit.policy.class", "a.B")]);
    assert!(error.contains("not supported yet"), "{error}");
    let error = refused(&[("sink.rolling-policy.filesize", "1 mb")]);
    assert!(error.contains("did you mean 'sink.rolling-policy.file-size'"), "{error}");
    plan(schema(), &place, WriteMode::Append, &[("format", "json"), ("auto-compaction", "false")], &[]).unwrap();
}
