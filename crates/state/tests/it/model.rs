//! The oracle: a plain map under random deltas, rescales and compactions.

use crate::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Epoch {
    workers: usize,
    upserts: Vec<(i64, Option<u8>, Option<i64>, i64)>,
    deletes: Vec<(i64, Option<u8>)>,
    expiry: Option<(usize, i64)>,
    compact: Option<usize>,
    inline: bool,
}

fn epoch() -> impl Strategy<Value = Epoch> {
    let key = || (0i64..12, proptest::option::of(0u8..3));
    (
        1usize..5,
        proptest::collection::vec((key(), proptest::option::of(0i64..100), any::<i64>()), 0..12),
        proptest::collection::vec(key(), 0..4),
        proptest::option::of((0usize..5, 0i64..100)),
        proptest::option::weighted(0.4, 1usize..6),
        any::<bool>(),
    )
        .prop_map(|(workers, upserts, deletes, expiry, compact, inline)| Epoch {
            workers,
            upserts: upserts.into_iter().map(|((a, b), t, v)| (a, b, t, v)).collect(),
            deletes,
            expiry,
            compact,
            inline,
        })
}

fn text(b: Option<u8>) -> Option<String> {
    b.map(|b| format!("b{b}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn restored_rows_equal_a_plain_map(epochs in proptest::collection::vec(epoch(), 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let mut model = Model::new();
        let mut current = manifest(0, StoredTable::of(&spec()).unwrap());
        let mut running: Option<Vec<Compaction>> = None;
        for (number, e) in epochs.iter().enumerate() {
            let number = number as u64 + 1;
            // What the epoch does to the map. One worker may expire rows, others not.
            if let Some((worker, bound)) = e.expiry {
                let range = HashRange::of_worker(worker % e.workers, e.workers);
                model.retain(|k, v| !range.contains(hash(k.0)) || v.0.is_none_or(|t| t >= bound));
            }
            let deletes: Vec<_> = e.deletes.iter().map(|(a, b)| (*a, text(*b))).collect();
            for key in &deletes {
                model.remove(key);
            }
            let upserts: Model = e.upserts.iter().map(|(a, b, t, v)| ((*a, text(*b)), (*t, Some(*v)))).collect();
            model.extend(upserts.clone());
            // The same through the files.
            current.epoch = number;
            for worker in 0..e.workers {
                let range = HashRange::of_worker(worker, e.workers);
                let (mine, gone): (Model, Vec<_>) = (
                    upserts.clone().into_iter().filter(|(k, _)| range.contains(hash(k.0))).collect(),
                    deletes.iter().filter(|k| range.contains(hash(k.0))).cloned().collect(),
                );
                let delta = TableDelta {
                    table: "rows".into(),
                    expired_below: e.expiry.filter(|(w, _)| w % e.workers == worker).map(|(_, bound)| bound),
                    deletes: vec![keys(&gone)],
                    upserts: vec![rows(&mine)],
                };
                let name = format!("{number}-1-{worker}-0.seg");
                let segment = store_delta(&store, &delta, number, range, &name, if e.inline { 1 << 20 } else { 0 });
                current.operators[0].tables[0].push(segment);
            }
            // A merge begun at an earlier epoch ends now.
            if let Some(done) = running.take() {
                current.apply_compaction(&done).unwrap();
            }
            store.write_manifest(&current).unwrap();
            store.retain(1).unwrap();
            if let Some(max_epochs) = e.compact {
                running = compact(&store, &current, &CompactionPolicy { max_epochs, inline_below: 600 }).unwrap();
            }
            let loaded = store.latest().unwrap().unwrap();
            prop_assert_eq!(&loaded, &current);
            let table = loaded.table("agg", "rows").unwrap();
            let next = epochs.get(number as usize).map_or(1, |e| e.workers);
            let mut restored = Model::new();
            for worker in 0..next {
                restored.extend(restore(&store, table, &spec(), HashRange::of_worker(worker, next)).unwrap());
            }
            prop_assert_eq!(&restored, &model);
        }
    }
}

#[test]
fn many_rows_cross_batches_and_merges() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut current = manifest(0, StoredTable::of(&spec()).unwrap());
    let mut model = Model::new();
    for epoch in 1..=6u64 {
        let new: Model =
            (0..12_000).map(|i| ((i * epoch as i64 % 30_011, None), (Some(i), Some(epoch as i64)))).collect();
        let delta = TableDelta { table: "rows".into(), upserts: vec![rows(&new)], ..TableDelta::default() };
        let name = format!("{epoch}-1-0-0.seg");
        current.operators[0].tables[0].push(store_delta(&store, &delta, epoch, HashRange::ALL, &name, 0));
        model.extend(new);
    }
    let policy = CompactionPolicy { max_epochs: 3, inline_below: 0 };
    let done = compact(&store, &current, &policy).unwrap().unwrap();
    let before = restore_counted(&store, &current);
    current.apply_compaction(&done).unwrap();
    assert_eq!(current.operators[0].tables[0].segments.len(), 1);
    let after = restore_counted(&store, &current);
    assert_eq!((before, after), (model.len(), model.len()));
    assert_eq!(compact(&store, &current, &policy).unwrap(), None);
}

fn restore_counted(store: &CheckpointStore, manifest: &Manifest) -> usize {
    let mut rows = 0;
    let table = &manifest.operators[0].tables[0];
    restore_table(store, table, &spec(), HashRange::ALL, &mut |b| {
        rows += b.num_rows();
        Ok(())
    })
    .unwrap();
    rows
}

#[test]
fn an_operators_mistake_is_an_internal_error() {
    let one: Model = [((1, None), (None, None))].into_iter().collect();
    let check = |delta: TableDelta, range: HashRange, expect: &str| {
        let error = DeltaWriter::encode(&spec(), &delta, 1, range).unwrap_err();
        assert_eq!(error.kind(), millstream_core::ErrorKind::Internal);
        assert!(error.message().contains(expect), "{error}");
    };
    let upserts = |batches: Vec<RecordBatch>| TableDelta { upserts: batches, ..TableDelta::default() };
    check(upserts(vec![rows(&one), rows(&one)]), HashRange::ALL, "two rows of one key");
    check(upserts(vec![keys(&[(1, None)])]), HashRange::ALL, "other columns");
    let other = HashRange { first: 0, last: hash(1) - 1 };
    check(upserts(vec![rows(&one)]), other, "does not own");
}
