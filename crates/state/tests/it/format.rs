//! The stored format, pinned: what an older program wrote must stay readable.

use crate::*;
use expect_test::expect;

#[test]
fn a_manifest_reads_as_it_always_did() {
    let table = StoredTable {
        name: "rows".into(),
        columns: vec!["a BIGINT".into()],
        schema: b"schema".to_vec().into(),
        key: vec![0],
        partition_by: vec![0],
        time: None,
        segments: vec![
            Segment {
                epoch: 3,
                hash_range: HashRange::ALL,
                rows: 2,
                deletes: 1,
                expired_below: Some(-5),
                location: Location::Object { name: "3-1-0-0.seg".into(), offset: 8, length: 16 },
                checksum: "00000000000000ff".into(),
            },
            Segment {
                epoch: 4,
                hash_range: HashRange { first: 1, last: 2 },
                rows: 1,
                deletes: 0,
                expired_below: None,
                location: Location::Inline(b"abc".to_vec().into()),
                checksum: "0000000000000001".into(),
            },
        ],
    };
    let mut manifest = manifest(4, table);
    manifest.operators[0].instances.push(b"i".to_vec().into());
    manifest.sources.insert("src".into(), vec![b"p".to_vec().into()]);
    manifest.pending.insert("out".into(), vec![b"c".to_vec().into()]);
    manifest.created_ms = 1000;
    let text = String::from_utf8(manifest.encode().unwrap()).unwrap();
    expect![[r#"
        {"version":1,"checksum":"95d98a0c8c6dac43","manifest":{"epoch":4,"attempt":1,"job_id":"job","fingerprint":"","created_ms":1000,"ended":false,"operators":[{"id":"agg","name":"Aggregate","tables":[{"name":"rows","columns":["a BIGINT"],"schema":"c2NoZW1h","key":[0],"partition_by":[0],"time":null,"segments":[{"epoch":3,"hash_range":{"first":0,"last":18446744073709551615},"rows":2,"deletes":1,"expired_below":-5,"location":{"object":{"name":"3-1-0-0.seg","offset":8,"length":16}},"checksum":"00000000000000ff"},{"epoch":4,"hash_range":{"first":1,"last":2},"rows":1,"deletes":0,"expired_below":null,"location":{"inline":"YWJj"},"checksum":"0000000000000001"}]}],"instances":["aQ=="]}],"sources":{"src":["cA=="]},"pending":{"out":["Yw=="]},"stats":{"duration_ms":0,"bytes":0,"rows":0}}}
    "#]]
    .assert_eq(&text);
    assert_eq!(Manifest::decode(text.as_bytes(), "m").unwrap(), manifest);
}
