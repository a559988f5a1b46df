//! Tests of the source: cutting, resuming, rescaling, bad records.

use super::reader::{FileReader, Setup};
use super::source::FileSource;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use flate2::{Compression, write::GzEncoder};
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::options::Options;
use millstream_core::source::{SourceContext, SourcePoll, SourceReader};
use millstream_core::time::ManualClock;
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
fn read(reader: &mut FileReader, mut polls: usize, rows: usize) -> Result<Vec<i64>> {
    let mut ids = Vec::new();
    while polls > 0 {
        match reader.poll(rows)? {
            SourcePoll::Rows { batch, .. } => {
                ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                polls -= 1;
            }
            SourcePoll::Wait(_) => std::thread::yield_now(),
            SourcePoll::SplitEnded(_) => {}
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

#[test]
fn a_watched_folder_gives_new_files_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), lines(5)).unwrap();
    let source = source(dir.path(), ".", &[("source.monitor-interval", "1 s")]);
    let mut reader = open(&source, (0, 1), 64, None).unwrap();
    assert_eq!(read(&mut reader, 1, 3).unwrap(), [0, 1, 2]);
    let position = reader.snapshot().unwrap();
    std::fs::write(dir.path().join("b.json"), "{\"id\":100}\n").unwrap();
    let mut reader = open(&source, (0, 1), 64, Some(vec![position])).unwrap();
    assert_eq!(read(&mut reader, 2, 3).unwrap(), [3, 4, 100]);
}
