//! The state crate from outside: what is stored comes back, and damage never goes unseen.

#![allow(clippy::unwrap_used, clippy::panic)]

mod damage;
mod format;
mod model;
mod retention;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use millstream_core::key::HashRange;
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::types::TypeKind;
use millstream_core::{Field, Schema};
use millstream_state::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// (key a, key b) -> (time, value).
pub(crate) type Model = BTreeMap<(i64, Option<String>), (Option<i64>, Option<i64>)>;

/// A table keyed by (`a`, `b`), partitioned by `a`, that expires by `t`.
pub(crate) fn spec() -> TableSpec {
    TableSpec {
        name: "rows".into(),
        schema: Schema::new(vec![
            Field::new("a", TypeKind::BigInt.not_null()),
            Field::new("t", TypeKind::BigInt.nullable()),
            Field::new("b", TypeKind::STRING.nullable()),
            Field::new("v", TypeKind::BigInt.nullable()),
        ]),
        key: vec![0, 2],
        partition_by: vec![0],
        time: Some(1),
    }
}

pub(crate) fn rows(model: &Model) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(model.keys().map(|k| k.0).collect::<Int64Array>()),
        Arc::new(model.values().map(|v| v.0).collect::<Int64Array>()),
        Arc::new(model.keys().map(|k| k.1.clone()).collect::<StringArray>()),
        Arc::new(model.values().map(|v| v.1).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(spec().schema.arrow().clone(), columns).unwrap()
}

pub(crate) fn keys(keys: &[(i64, Option<String>)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.iter().map(|k| k.0).collect::<Int64Array>()),
        Arc::new(keys.iter().map(|k| k.1.clone()).collect::<StringArray>()),
    ];
    RecordBatch::try_new(spec().schema.project(&[0, 2]).arrow().clone(), columns).unwrap()
}

pub(crate) fn hash(a: i64) -> u64 {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![a]));
    millstream_core::key::hash_columns(&[column], 1).unwrap()[0]
}

pub(crate) fn open(folder: &tempfile::TempDir) -> CheckpointStore {
    CheckpointStore::open(folder.path().to_str().unwrap(), &[]).unwrap()
}

/// The rows of a range, as a model; a key given twice is a failure.
pub(crate) fn restore(
    store: &CheckpointStore,
    table: &StoredTable,
    spec: &TableSpec,
    range: HashRange,
) -> millstream_core::Result<Model> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let mut model = Model::new();
    restore_table(store, table, spec, range, &mut |batch| {
        let int = |c: usize, r: usize| batch.column(c).as_primitive::<Int64Type>().iter().nth(r).flatten();
        for r in 0..batch.num_rows() {
            let b = batch.column(2).as_string::<i32>().iter().nth(r).flatten().map(str::to_string);
            let a = int(0, r).unwrap();
            assert!(range.contains(hash(a)), "a row of another range");
            assert_eq!(model.insert((a, b), (int(1, r), int(3, r))), None, "a key was given twice");
        }
        Ok(())
    })?;
    Ok(model)
}

pub(crate) fn manifest(epoch: u64, table: StoredTable) -> Manifest {
    let operator =
        OperatorEntry { id: "agg".into(), name: "Aggregate".into(), tables: vec![table], ..OperatorEntry::default() };
    Manifest { epoch, attempt: 1, job_id: "job".into(), operators: vec![operator], ..Manifest::default() }
}

/// Encodes, packs and stores one delta.
pub(crate) fn store_delta(
    store: &CheckpointStore,
    delta: &TableDelta,
    epoch: u64,
    range: HashRange,
    name: &str,
    inline_below: usize,
) -> Segment {
    let encoded = DeltaWriter::encode(&spec(), delta, epoch, range).unwrap();
    let (segments, object) = pack(vec![encoded], name, inline_below);
    if !object.is_empty() {
        store.put_segment_object(name, &object).unwrap();
    }
    segments.into_iter().next().unwrap()
}

#[test]
fn rows_expire_by_a_timestamp_column_and_a_global_table_has_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let spec = TableSpec {
        name: "one".into(),
        schema: Schema::new(vec![Field::new("t", TypeKind::Timestamp(3).nullable())]),
        key: vec![],
        partition_by: vec![],
        time: Some(0),
    };
    let row = |t: i64| {
        let column: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![t]));
        RecordBatch::try_new(spec.schema.arrow().clone(), vec![column]).unwrap()
    };
    let mut table = StoredTable::of(&spec).unwrap();
    let count = |table: &StoredTable| {
        let mut rows = 0;
        restore_table(&store, table, &spec, HashRange::of_worker(0, 3), &mut |b| {
            rows += b.num_rows();
            Ok(())
        })
        .unwrap();
        rows
    };
    for (epoch, upserts, expired_below, expect) in
        [(1, vec![row(5)], None, 1), (2, vec![row(9)], None, 1), (3, vec![], Some(9), 1), (4, vec![], Some(10), 0)]
    {
        let delta = TableDelta { table: "one".into(), expired_below, deletes: vec![], upserts };
        let encoded = DeltaWriter::encode(&spec, &delta, epoch, HashRange::of_worker(0, 2)).unwrap();
        table.push(pack(vec![encoded], "x", 1 << 20).0.remove(0));
        assert_eq!(count(&table), expect, "after epoch {epoch}");
    }
}
