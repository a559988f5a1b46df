//! Tests of the source: cutting, resuming, rescaling, bad records.

use super::layout::Setup;
use super::reader::FileReader;
use super::source::FileSource;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use flate2::{Compression, write::GzEncoder};
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::options::Options;
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader};
use millstream_core::time::{Clock, ManualClock};
use millstream_core::{Field, Result, Schema, TypeKind};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

fn source(dir: &Path, path: &str, more: &[(&str, &str)]) -> FileSource {
    let mut options: std::collections::BTreeMap<String, String> =
        [("path", path), ("format", "json")].iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    options.extend(more.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let table = TableDef {
        name: "t".into(),
        schema: Schema::new(vec![
            Field::new("id", TypeKind::BigInt.nullable()),
            Field::new("s", TypeKind::STRING.nullable()),
        ]),
        options: options.clone(),
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: vec![],
    };
    let session = SessionInfo { base_dir: dir.to_path_buf(), time_zone: "UTC".into(), storage: vec![] };
    FileSource::build(&table, &Options::new("t", "filesystem", &options), &session).unwrap()
}

fn open(source: &FileSource, n: (usize, usize), chunk: u64, restored: Option<Vec<Vec<u8>>>) -> Result<FileReader> {
    let ctx = SourceContext {
        instance: n.0,
        instances: n.1,
        restored,
        waker: Arc::new(|| {}),
        metrics: Default::default(),
        clock: Arc::new(ManualClock::at(0)),
    };
    FileReader::open(source.plan(), Setup { first_chunk: chunk, chunk: chunk * 2 }, ctx)
}

/// Up to `polls` polls with rows; the ids.
fn read(reader: &mut dyn SourceReader, mut polls: usize, rows: usize) -> Result<Vec<i64>> {
    let mut ids = Vec::new();
    while polls > 0 {
        match reader.poll(rows)? {
            SourcePoll::Rows { batch, .. } => {
                ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                polls -= 1;
            }
            SourcePoll::Wait(_) | SourcePoll::Idle(_) => std::thread::yield_now(),
            SourcePoll::SplitAdded(_) | SourcePoll::SplitAtEnd(_) | SourcePoll::SplitEnded(_) => {}
            SourcePoll::End => break,
        }
    }
    Ok(ids)
}

fn lines(n: i64) -> String {
    (0..n).map(|i| format!("{{\"id\":{i},\"s\":\"{}\"}}\n", "x".repeat((i * 7 % 41) as usize))).collect()
}

#[test]
fn any_chunk_size_and_rescale_reads_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), lines(60)).unwrap();
    let text = lines(60).replace("\"id\":", "\"id\":1");
    std::fs::write(dir.path().join("b.json"), text.trim_end()).unwrap();
    let source = source(dir.path(), ".", &[]);
    let mut expected = read(&mut open(&source, (0, 1), 1 << 20, None).unwrap(), usize::MAX, 7).unwrap();
    assert_eq!(expected.len(), 120);
    expected.sort();
    for chunk in [1, 13, 64, 500] {
        for (before, after) in [(1, 2), (3, 1), (2, 3)] {
            for polls in [0, 1, 4] {
                let mut ids = Vec::new();
                let mut positions: Vec<Vec<u8>> = Vec::new();
                for i in 0..before {
                    let mut reader = open(&source, (i, before), chunk, None).unwrap();
                    ids.extend(read(&mut reader, polls, 3).unwrap());
                    positions.push(reader.snapshot().unwrap());
                }
                let mut next = Vec::new();
                for i in 0..after {
                    let mut reader = open(&source, (i, after), 1 << 20, Some(positions.clone())).unwrap();
                    ids.extend(read(&mut reader, polls, 2).unwrap());
                    next.push(reader.snapshot().unwrap());
                }
                let mut reader = open(&source, (0, 1), 1 << 20, Some(next)).unwrap();
                ids.extend(read(&mut reader, usize::MAX, 50).unwrap());
                ids.sort();
                assert_eq!(ids, expected, "chunk {chunk}, {before} to {after}, {polls} polls");
            }
        }
    }
}

#[test]
fn files_of_changes_are_read_in_order_by_the_first_instance_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (name, first) in [("b.json", 50), ("a.json", 0)] {
        let change = |i: i64| format!("{{\"after\":{{\"id\":{i},\"s\":\"x\"}},\"op\":\"c\"}}\n");
        let path = dir.path().join(name);
        std::fs::write(&path, (first..first + 50).map(change).collect::<String>()).unwrap();
        // Files are read oldest first, those of one moment by name.
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    }
    let source = source(dir.path(), ".", &[("format", "debezium-json")]);
    let mut positions = vec![];
    let mut ids = vec![];
    for i in 0..3 {
        let mut reader = open(&source, (i, 3), 64, None).unwrap();
        ids.push(read(&mut reader, 8, 7).unwrap());
        positions.push(reader.snapshot().unwrap());
    }
    assert!(ids[1].is_empty() && ids[2].is_empty());
    for i in 0..2 {
        ids.push(read(&mut open(&source, (i, 2), 64, Some(positions.clone())).unwrap(), usize::MAX, 7).unwrap());
    }
    assert_eq!(ids.concat(), (0..100).collect::<Vec<i64>>());
}

/// Lines with ids from 0, longer together than what is read at once, some of them alone.
fn long_lines() -> (String, Vec<i64>) {
    let mut text = lines(4000);
    for (i, length) in [300_000, 5, 131_072, 100_000, 31_072, 0, 400_000, 1].into_iter().enumerate() {
        text += &format!("{{\"id\":{},\"s\":\"{}\"}}\n", 4000 + i, "y".repeat(length));
    }
    text += &lines(4000).replace("\"id\":", "\"id\":1000");
    let id = |line: &str| line["{\"id\":".len()..].split(',').next().unwrap().parse().unwrap();
    let ids = text.lines().map(id).collect();
    (text, ids)
}

#[test]
fn chunks_that_are_read_in_parts_give_each_record_once_and_resume_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (text, expected) = long_lines();
    std::fs::write(dir.path().join("a.json"), text).unwrap();
    let source = source(dir.path(), "a.json", &[]);
    for chunk in [50_000, 200_000, 2 << 20] {
        assert_eq!(read(&mut open(&source, (0, 1), chunk, None).unwrap(), usize::MAX, 10_000).unwrap(), expected);
        let (mut ids, mut position) = (Vec::new(), None);
        loop {
            let mut reader = open(&source, (0, 1), chunk, position.map(|p| vec![p])).unwrap();
            let found = read(&mut reader, 2, 100).unwrap();
            if found.is_empty() {
                break;
            }
            ids.extend(found);
            position = Some(reader.snapshot().unwrap());
        }
        assert_eq!(ids, expected, "chunks of {chunk}");
    }
}

#[test]
fn a_file_that_is_cut_off_while_it_is_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let (text, _) = long_lines();
    std::fs::write(&path, &text).unwrap();
    let source = source(dir.path(), "a.json", &[]);
    let mut reader = open(&source, (0, 1), 1 << 20, None).unwrap();
    read(&mut reader, 1, 10).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(text.len() as u64 / 2).unwrap();
    let error = read(&mut reader, usize::MAX, 1000).unwrap_err().to_string();
    assert!(error.contains("the file has become shorter") && error.contains("a.json"), "{error}");
}

#[test]
fn gzip_of_several_members_is_read_and_resumed_and_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let text = lines(50);
    let mut packed = Vec::new();
    for part in [&text[..101], &text[101..]] {
        let mut gz = GzEncoder::new(&mut packed, Compression::fast());
        gz.write_all(part.as_bytes()).unwrap();
        gz.finish().unwrap();
    }
    std::fs::write(dir.path().join("a.json.gz"), &packed).unwrap();
    let source = source(dir.path(), "a.json.gz", &[]);
    let mut reader = open(&source, (0, 1), 64, None).unwrap();
    let mut ids = read(&mut reader, 3, 5).unwrap();
    let position = reader.snapshot().unwrap();
    ids.extend(read(&mut open(&source, (0, 1), 64, Some(vec![position])).unwrap(), usize::MAX, 9).unwrap());
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    let middle = packed.len() / 2;
    packed[middle] ^= 0xff;
    std::fs::write(dir.path().join("a.json.gz"), &packed).unwrap();
    let error = read(&mut open(&source, (0, 1), 64, None).unwrap(), usize::MAX, 9).unwrap_err();
    assert!(error.to_string().contains("gzip file is damaged"), "{error}");
    assert!(error.to_string().contains("a.json.gz"), "{error}");
}

#[test]
fn bad_records_fail_with_their_line_or_are_skipped_or_kept() {
    let dir = tempfile::tempdir().unwrap();
    let text = lines(30).replace("{\"id\":17,", "{\"id\":\"oops\",");
    std::fs::write(dir.path().join("a.json"), text.replace("{\"id\":20,", "{\"id\":20;")).unwrap();
    let strict = source(dir.path(), "a.json", &[]);
    let error = read(&mut open(&strict, (0, 1), 64, None).unwrap(), usize::MAX, 4).unwrap_err().to_string();
    assert!(error.contains("line 18") && error.contains("field 'id'"), "{error}");
    let lenient = source(dir.path(), "a.json", &[("json.ignore-parse-errors", "true")]);
    assert_eq!(read(&mut open(&lenient, (0, 1), 64, None).unwrap(), usize::MAX, 4).unwrap().len(), 29);
    let kept = source(dir.path(), "a.json", &[("dead-letter.path", "dead")]);
    assert_eq!(read(&mut open(&kept, (0, 1), 64, None).unwrap(), usize::MAX, 4).unwrap().len(), 28);
    let file = std::fs::read_dir(dir.path().join("dead")).unwrap().next().unwrap().unwrap().path();
    let letters = std::fs::read_to_string(file).unwrap();
    let found: Vec<serde_json::Value> = letters.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(found.iter().map(|l| l["line"].to_string()).collect::<Vec<_>>(), ["18", "21"]);
}

#[test]
fn a_file_that_shrank_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), lines(30)).unwrap();
    let source = source(dir.path(), "a.json", &[]);
    let position = open(&source, (0, 1), 64, None).unwrap().snapshot().unwrap();
    std::fs::write(dir.path().join("a.json"), lines(3)).unwrap();
    let error = read(&mut open(&source, (0, 1), 64, Some(vec![position])).unwrap(), 9, 9).unwrap_err();
    assert!(error.to_string().contains("shorter"), "{error}");
}

/// A file whose time of change is `minute` minutes after some moment.
fn write_at(path: &Path, id: i64, minute: u64) {
    std::fs::write(path, format!("{{\"id\":{id}}}\n")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + minute * 60);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_watched_folder_gives_each_file_once_in_the_order_of_change_over_restarts_and_rescaling() {
    let dir = tempfile::tempdir().unwrap();
    let watched = source(dir.path(), ".", &[("source.monitor-interval", "1 ms")]);
    let mut next_id = 0;
    let mut seen = Vec::new();
    let mut positions: Option<Vec<Vec<u8>>> = None;
    for (round, instances) in [1, 2, 3, 1].into_iter().enumerate() {
        for i in [4u64, 2, 3, 1, 0] {
            // Names are in no order; a file is changed later the higher its id.
            write_at(&dir.path().join(format!("{i}-{round}.json")), next_id, next_id as u64);
            next_id += 1;
        }
        let mut next = Vec::new();
        let mut given = 0;
        let expected = if round == 3 { 8 } else { 2 };
        for i in 0..instances {
            let mut reader = open(&watched, (i, instances), 64, positions.clone()).unwrap();
            let mut own = Vec::new();
            // An instance may own no file at all: a number of polls stands for a while.
            for _ in 0..300 {
                if given == expected {
                    break;
                }
                match reader.poll(1).unwrap() {
                    SourcePoll::Rows { batch, .. } => {
                        own.push(batch.column(0).as_primitive::<Int64Type>().value(0));
                        given += 1;
                    }
                    SourcePoll::Wait(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
                    other => panic!("a watched folder never ends: {other:?}"),
                }
            }
            assert!(round > 0 || own == [0, 1], "{own:?}");
            seen.extend(own);
            next.push(reader.snapshot().unwrap());
        }
        positions = Some(next);
    }
    let mut rest = open(&watched, (0, 1), 64, positions).unwrap();
    seen.extend(read(&mut rest, next_id as usize - seen.len(), 1).unwrap());
    seen.sort();
    assert_eq!(seen, (0..next_id).collect::<Vec<_>>());
}

/// Reads what is there until three listings in a row gave nothing new; the ids in order.
fn read_what_is_there(readers: &mut [FileReader], clock: &ManualClock) -> Vec<i64> {
    let mut ids = Vec::new();
    for reader in readers {
        let mut waits = 0;
        while waits < 3 {
            match reader.poll(10).unwrap() {
                SourcePoll::Rows { batch, .. } => {
                    ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                    waits = 0;
                }
                SourcePoll::Wait(Some(_)) | SourcePoll::Idle(Some(_)) if !reader.is_listing() => {
                    clock.set(clock.now_ms() + 10);
                    waits += 1;
                }
                _ => std::thread::yield_now(),
            }
        }
    }
    ids.sort();
    ids
}

fn watch(
    source: &FileSource,
    instances: usize,
    clock: &Arc<ManualClock>,
    from: Option<Vec<Vec<u8>>>,
) -> Vec<FileReader> {
    let open = |instance| {
        let ctx = SourceContext {
            instance,
            instances,
            restored: from.clone(),
            waker: Arc::new(|| {}),
            metrics: Default::default(),
            clock: clock.clone(),
        };
        FileReader::open(source.plan(), Setup::default(), ctx).unwrap()
    };
    (0..instances).map(open).collect()
}

fn positions(readers: &mut [FileReader]) -> Vec<Vec<u8>> {
    readers.iter_mut().map(|r| r.snapshot().unwrap()).collect()
}

/// How many names of files the positions hold.
fn remembered(positions: &[Vec<u8>]) -> usize {
    positions.iter().map(|p| String::from_utf8_lossy(p).matches(".json").count()).sum()
}

#[test]
fn files_that_were_removed_are_forgotten_and_read_again_if_they_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let watched = source(dir.path(), ".", &[("source.monitor-interval", "1 ms")]);
    let clock = Arc::new(ManualClock::at(1));
    let mut from = None;
    for (round, instances) in [2, 1, 3].into_iter().enumerate() {
        let path = |i: i64| dir.path().join(format!("{i}.json"));
        for i in 0..40 {
            write_at(&path(i), round as i64 * 100 + i, i as u64);
        }
        let mut readers = watch(&watched, instances, &clock, from);
        let ids: Vec<i64> = (0..40).map(|i| round as i64 * 100 + i).collect();
        let found = read_what_is_there(&mut readers, &clock);
        // Of the rounds before, each instance remembers the newest of its files.
        assert!(found.iter().all(|id| ids.contains(id)), "{found:?}");
        assert!(found.len() + round * 3 >= 40, "{found:?}");
        assert_eq!(remembered(&positions(&mut readers)), 40);
        for i in 0..39 {
            std::fs::remove_file(path(i)).unwrap();
        }
        read_what_is_there(&mut readers, &clock);
        let kept = remembered(&positions(&mut readers));
        assert!(kept <= 2 * instances, "{kept} names are remembered");
        // A folder without a file tells nothing.
        std::fs::remove_file(path(39)).unwrap();
        read_what_is_there(&mut readers, &clock);
        let last = positions(&mut readers);
        assert_eq!(remembered(&last), kept);
        from = Some(last);
    }
}

#[test]
fn old_files_need_no_memory_with_a_bound_on_lateness_at_any_number_of_instances() {
    let dir = tempfile::tempdir().unwrap();
    let options = [("source.monitor-interval", "1 ms"), ("source.monitor-lateness", "5 min")];
    let watched = source(dir.path(), ".", &options);
    let clock = Arc::new(ManualClock::at(1));
    let mut from = None;
    let mut next = 0;
    for instances in [2, 3, 1, 2, 2, 5] {
        let mut readers = watch(&watched, instances, &clock, from);
        for _ in 0..3 {
            let new: Vec<i64> = (next..next + 30).collect();
            for id in &new {
                // Up to four minutes late.
                write_at(&dir.path().join(format!("{id}.json")), *id, (10 + id - id * 7 % 5) as u64);
            }
            next += 30;
            assert_eq!(read_what_is_there(&mut readers, &clock), new, "each once, at {instances} instances");
        }
        let last = positions(&mut readers);
        assert!(remembered(&last) <= 20 * instances, "{} names are remembered", remembered(&last));
        assert!(last.iter().all(|p| p.len() < 4000));
        from = Some(last);
    }
    let mut readers = watch(&watched, 2, &clock, from);
    write_at(&dir.path().join("late.json"), -1, 0);
    assert_eq!(read_what_is_there(&mut readers, &clock), [] as [i64; 0], "too late: taken for read");
}

#[test]
fn what_was_decided_at_the_start_is_what_all_instances_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("b.json"), lines(40)).unwrap();
    let plan = source(dir.path(), ".", &[]);
    let start = plan.start().unwrap().unwrap();
    std::fs::write(dir.path().join("a.json"), lines(7)).unwrap();
    let mut ids = Vec::new();
    for i in 0..3 {
        let started = plan.starting_at(&start).unwrap();
        let ctx = SourceContext {
            instance: i,
            instances: 3,
            restored: None,
            waker: Arc::new(|| {}),
            metrics: Default::default(),
            clock: Arc::new(ManualClock::at(0)),
        };
        let mut reader = started.open(ctx).unwrap();
        ids.extend(read(reader.as_mut(), usize::MAX, 9).unwrap());
        std::fs::write(dir.path().join(format!("c{i}.json")), lines(3)).unwrap();
    }
    ids.sort();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_position_holds_only_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(dir.path().join(format!("{name}.json")), lines(2)).unwrap();
    }
    let source = source(dir.path(), ".", &[]);
    let mut reader = open(&source, (0, 1), 1 << 20, None).unwrap();
    assert_eq!(read(&mut reader, 2, 2).unwrap().len(), 4);
    let position = String::from_utf8(reader.snapshot().unwrap()).unwrap();
    assert!(!position.contains("a.json") && !position.contains("b.json") && position.contains("c.json"), "{position}");
}

#[test]
fn chunks_of_a_sorted_file_read_in_turn_are_never_late() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..200_000).map(|i| format!("{{\"id\":{i},\"s\":\"{:0100}\"}}\n", i)).collect();
    std::fs::write(dir.path().join("a.json"), text).unwrap();
    let source = source(dir.path(), "a.json", &[]);
    for instances in [2, 3] {
        let mut readers: Vec<Option<FileReader>> =
            (0..instances).map(|i| open(&source, (i, instances), 256 << 10, None).ok()).collect();
        let mut newest = vec![i64::MIN; instances];
        let (mut rows, mut random, mut turn, mut spread) = (0, 1u64, 0, 0);
        while readers.iter().any(Option::is_some) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            turn += 1;
            let i = (turn + (random >> 63) as usize) % instances;
            let Some(reader) = readers[i].as_mut() else { continue };
            let ids = read(reader, 1, 1000).unwrap();
            if ids.is_empty() {
                readers[i] = None;
                newest[i] = i64::MAX;
                continue;
            }
            // The job's watermark: what every instance has reached.
            let watermark = *newest.iter().min().unwrap();
            assert!(ids.iter().all(|id| *id > watermark), "late at {watermark}: {:?}", ids.first());
            assert!(ids.is_sorted());
            newest[i] = *ids.last().unwrap();
            let ahead = newest.iter().filter(|n| **n != i64::MAX).max().unwrap_or(&0);
            if newest.iter().all(|n| *n != i64::MIN && *n != i64::MAX) {
                spread = spread.max(ahead - newest.iter().min().unwrap());
            }
            rows += ids.len();
        }
        assert_eq!(rows, 200_000);
        assert!(spread < 50_000, "instances are {spread} rows apart: the file is not read in turn");
    }
}
