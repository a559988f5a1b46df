//! Files that were cut, flipped or replaced give one State error, never a panic and never wrong rows.

use crate::*;
use millstream_core::ErrorKind;
use proptest::prelude::*;

fn stored(folder: &tempfile::TempDir, inline_below: usize) -> (CheckpointStore, Manifest) {
    let store = open(folder);
    let model: Model = (0..200).map(|i| ((i, Some(format!("k{i}"))), (Some(i), Some(i * 7)))).collect();
    let delta = TableDelta { table: "rows".into(), upserts: vec![rows(&model)], ..TableDelta::default() };
    let mut table = StoredTable::of(&spec()).unwrap();
    table.push(store_delta(&store, &delta, 3, HashRange::ALL, "3-1-0-0.seg", inline_below));
    let mut manifest = manifest(3, table);
    manifest.sources.insert("s".into(), vec![b"position".to_vec().into()]);
    store.write_manifest(&manifest).unwrap();
    (store, manifest)
}

fn is_state_error<T: std::fmt::Debug>(result: millstream_core::Result<T>, file: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains(file), "{error}");
    assert!(error.hint_text().is_some_and(|h| h.contains("--from none")), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_flipped_byte_of_a_manifest_is_seen(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let manifest = manifest(3, StoredTable::of(&spec()).unwrap());
        let mut bytes = manifest.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        is_state_error(Manifest::decode(&bytes, "manifest-3.json"), "manifest-3.json");
    }

    #[test]
    fn a_cut_or_foreign_manifest_is_seen(
        at in any::<prop::sample::Index>(),
        garbage in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let bytes = manifest(3, StoredTable::of(&spec()).unwrap()).encode().unwrap();
        is_state_error(Manifest::decode(&bytes[..at.index(bytes.len())], "m"), "m");
        is_state_error(Manifest::decode(&garbage, "m"), "m");
        is_state_error(Manifest::decode(&[bytes, garbage, b" ".to_vec()].concat(), "m"), "m");
    }
}

#[test]
fn a_flipped_or_cut_segment_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (store, manifest) = stored(&folder, 0);
    let table = &manifest.operators[0].tables[0];
    let path = folder.path().join("data/3-1-0-0.seg");
    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        is_state_error(restore(&store, table, &spec(), HashRange::ALL), "data/3-1-0-0.seg");
    };
    for at in (0..whole.len()).step_by(whole.len() / 97 + 1) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes);
        check(&whole[..at]);
    }
    std::fs::remove_file(&path).unwrap();
    is_state_error(restore(&store, table, &spec(), HashRange::ALL), "data/3-1-0-0.seg");
}

#[test]
fn garbage_with_a_right_checksum_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (store, manifest) = stored(&folder, 1 << 20);
    let table = &manifest.operators[0].tables[0];
    let Location::Inline(whole) = table.segments[0].location.clone() else { panic!("inline") };
    for length in [1, 7, 8, 100, whole.0.len() / 2] {
        let mut table = table.clone();
        let encoded = EncodedSegment {
            meta: SegmentMeta { epoch: 3, hash_range: HashRange::ALL, rows: 200, deletes: 0, expired_below: None },
            bytes: whole.0.slice(..length),
        };
        table.segments = pack(vec![encoded], "x", 1 << 20).0;
        is_state_error(restore(&store, &table, &spec(), HashRange::ALL), "segment of table rows");
    }
}

#[test]
fn a_newer_version_is_refused() {
    let text = r#"{"version":2,"checksum":"0","something":"else"}"#;
    let error = Manifest::decode(text.as_bytes(), "m").unwrap_err();
    assert!(error.to_string().contains("version 2; this program knows version 1"), "{error}");
    is_state_error::<Manifest>(Err(error), "m");
}

#[test]
fn a_table_of_another_shape_is_refused_by_the_column_that_differs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, manifest) = stored(&folder, 0);
    let table = &manifest.operators[0].tables[0];
    let check = |change: &dyn Fn(&mut TableSpec), expect: &str| {
        let mut other = spec();
        change(&mut other);
        let result = restore(&store, table, &other, HashRange::ALL);
        is_state_error(result.clone(), "state table rows");
        assert!(result.unwrap_err().to_string().contains(expect));
    };
    let field = |s: &mut TableSpec, at: usize, field: Field| {
        let mut fields = s.schema.fields.clone();
        fields.splice(at..(at + 1).min(fields.len()), [field]);
        s.schema = Schema::new(fields);
    };
    check(&|s| field(s, 3, Field::new("v", TypeKind::Int.nullable())), "column v has the type Int32");
    check(&|s| field(s, 3, Field::new("w", TypeKind::BigInt.nullable())), "column w was v");
    check(&|s| field(s, 4, Field::new("w", TypeKind::BigInt.nullable())), "column w is new");
    check(&|s| s.schema = s.schema.project(&[0, 1, 2]), "column v is gone");
    check(&|s| s.key = vec![0], "the key is (a), it was (a, b)");
    check(&|s| s.time = None, "the time column is none, it was t");
}
