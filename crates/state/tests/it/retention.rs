//! What is kept, what is deleted, and what a manifest's name promises.

use crate::*;

fn write(store: &CheckpointStore, epoch: u64, keep: &[u64]) -> Manifest {
    let mut table = StoredTable::of(&spec()).unwrap();
    for e in keep {
        let one: Model = [((*e as i64, None), (None, None))].into_iter().collect();
        let delta = TableDelta { table: "rows".into(), upserts: vec![rows(&one)], ..TableDelta::default() };
        table.push(store_delta(store, &delta, *e, HashRange::ALL, &format!("{e}-1-0-0.seg"), 0));
    }
    let manifest = manifest(epoch, table);
    store.write_manifest(&manifest).unwrap();
    manifest
}

fn data(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path().join("data")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn retain_keeps_what_is_named_and_what_may_be_in_the_making() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    write(&store, 1, &[1]);
    write(&store, 2, &[1, 2]);
    write(&store, 3, &[1, 3]);
    write(&store, 4, &[3, 4]);
    store.put_segment_object("4-0-0-0.seg", &["left behind".into()]).unwrap();
    store.put_segment_object("5-1-0-0.seg", &["in the making".into()]).unwrap();
    std::fs::write(folder.path().join("data/.4-1-0-9.seg.77-0.tmp"), "half").unwrap();
    std::fs::write(folder.path().join(".manifest-3.json.77-0.tmp"), "half").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    store.retain(2).unwrap();
    assert_eq!(store.list().unwrap(), [3, 4]);
    assert_eq!(data(&folder), ["1-1-0-0.seg", "3-1-0-0.seg", "4-1-0-0.seg", "5-1-0-0.seg"]);
    assert!(!folder.path().join(".manifest-3.json.77-0.tmp").exists());
    assert!(folder.path().join("notes.txt").exists());
    store.retain(0).unwrap();
    assert_eq!(store.list().unwrap(), [4]);
    assert_eq!(data(&folder), ["3-1-0-0.seg", "4-1-0-0.seg", "5-1-0-0.seg"]);
}

#[test]
fn retain_deletes_nothing_if_a_kept_manifest_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    write(&store, 1, &[1]);
    write(&store, 2, &[2]);
    std::fs::write(folder.path().join("manifest-2.json"), "{").unwrap();
    assert_eq!(store.retain(1).unwrap_err().kind(), millstream_core::ErrorKind::State);
    assert_eq!(store.list().unwrap(), [1, 2]);
    assert_eq!(data(&folder), ["1-1-0-0.seg", "2-1-0-0.seg"]);
    let error = store.latest().unwrap_err().to_string();
    assert!(error.contains("manifest-2.json") && error.contains("manifest-1.json"), "{error}");
}

#[test]
fn a_manifest_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let first = write(&store, 10, &[]);
    store.write_manifest(&first).unwrap();
    let other = Manifest { attempt: 2, ..first.clone() };
    assert_eq!(store.write_manifest(&other).unwrap_err().kind(), millstream_core::ErrorKind::State);
    write(&store, 9, &[]);
    assert_eq!(store.latest().unwrap(), Some(first));
    assert_eq!(store.load(8).unwrap_err().kind(), millstream_core::ErrorKind::State);
}

#[test]
fn a_manifest_is_found_by_its_path_its_folder_or_the_state_directory() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let store = CheckpointStore::open(&format!("file://{root}/checkpoints/"), &[]).unwrap();
    let one = write(&store, 1, &[1]);
    let two = write(&store, 2, &[1]);
    let find = |path: String| CheckpointStore::open_manifest(&path, &[]);
    assert_eq!(find(format!("{root}/checkpoints/manifest-1.json")).unwrap().1, one);
    assert_eq!(find(format!("{root}/checkpoints")).unwrap().1, two);
    assert_eq!(find(root.to_string()).unwrap().1, two);
    for missing in ["nowhere", "checkpoints/manifest-7.json", "nowhere/manifest-1.json"] {
        let error = find(format!("{root}/{missing}")).unwrap_err();
        assert_eq!(error.kind(), millstream_core::ErrorKind::State, "{error}");
    }
    assert!(!folder.path().join("nowhere").exists());
    let other = tempfile::tempdir().unwrap();
    let target = open(&other);
    // An object of the same name and other content is no obstacle.
    target.put_segment_object("1-1-0-0.seg", &["another job's".into()]).unwrap();
    let copy = target.import(&store, &two, "2-0").unwrap();
    assert_eq!(store.import(&store, &two, "2-0").unwrap(), two);
    target.write_manifest(&copy).unwrap();
    target.retain(1).unwrap();
    assert_eq!(data(&other), ["2-0-0.seg"]);
    assert_eq!(restore(&target, copy.table("agg", "rows").unwrap(), &spec(), HashRange::ALL).unwrap().len(), 1);
}

#[test]
fn a_place_that_is_no_store_is_a_mistake_of_the_script() {
    let error = CheckpointStore::open("gopher://x/y", &[]).unwrap_err();
    assert_eq!(error.kind(), millstream_core::ErrorKind::Script, "{error}");
}
