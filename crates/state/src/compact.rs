//! Merging a table's segments in the background, so that restore reads few of them.

use crate::manifest::{Manifest, Segment, StoredTable};
use crate::merge::{Layout, merge};
use crate::segment::{EncodedSegment, SegmentMeta, SegmentWriter, UPSERT, pack};
use crate::store::CheckpointStore;
use millstream_core::key::HashRange;
use millstream_core::{Error, Result, fail_point};

/// Segments of fewer epochs than this are not worth a merge.
const MIN_EPOCHS: usize = 4;

/// When segments are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// A table whose segments are of more epochs than this is merged, and one of which more than half are
    /// tombstones.
    pub max_epochs: usize,
    /// Merged segments smaller than this many bytes go into the manifest.
    pub inline_below: usize,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        CompactionPolicy { max_epochs: 16, inline_below: 2048 }
    }
}

impl CompactionPolicy {
    /// Whether [`compact`] would merge anything.
    pub fn is_due(&self, manifest: &Manifest) -> bool {
        manifest.operators.iter().flat_map(|o| &o.tables).any(|t| first_to_merge(t, self).is_some())
    }
}

/// What became of some neighbouring epochs of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    /// The operator's id.
    pub operator: String,
    /// The table's name.
    pub table: String,
    /// The epochs all of whose segments are replaced, ascending.
    pub replaced: Vec<u64>,
    /// What replaces them: the rows, and bounds of expiry that still hold for older segments.
    pub segments: Vec<Segment>,
}

/// Merges segments of the tables that have too many; `None` if none has. New objects are stored, but
/// count only once a manifest has them ([`Manifest::apply_compaction`]).
///
/// The epochs merged are the newest, as far back as each older one is at most twice as large as those
/// after it together; so a large old segment is rewritten rarely. A merge that reaches back to
/// the first segment drops tombstones and bounds.
pub fn compact(
    store: &CheckpointStore,
    manifest: &Manifest,
    policy: &CompactionPolicy,
) -> Result<Option<Vec<Compaction>>> {
    // What an earlier merge stored is named by the manifest now, or was not applied.
    store.forget_unnamed();
    let mut done = vec![];
    for operator in &manifest.operators {
        for table in &operator.tables {
            let Some(from) = first_to_merge(table, policy) else { continue };
            let segments = merge_from(store, manifest, table, from, policy)
                .map_err(|e| e.context(format!("merge segments of table {} of {}", table.name, operator.name)))?;
            let mut replaced: Vec<u64> = table.segments.iter().map(|s| s.epoch).filter(|e| *e >= from).collect();
            replaced.sort_unstable();
            replaced.dedup();
            done.push(Compaction { operator: operator.id.clone(), table: table.name.clone(), replaced, segments });
        }
    }
    Ok((!done.is_empty()).then_some(done))
}

/// The epoch from which on the segments are to be merged.
fn first_to_merge(table: &StoredTable, policy: &CompactionPolicy) -> Option<u64> {
    let mut sizes = std::collections::BTreeMap::<u64, u64>::new();
    for segment in &table.segments {
        *sizes.entry(segment.epoch).or_default() += segment.size();
    }
    let (rows, deletes) = table.segments.iter().fold((0, 0), |(r, d), s| (r + s.rows, d + s.deletes));
    if sizes.len() >= MIN_EPOCHS && deletes > rows {
        return sizes.keys().next().copied();
    }
    if sizes.len() <= policy.max_epochs {
        return None;
    }
    let at_least = (policy.max_epochs / 2).max(2);
    let mut total = 0u64;
    let mut from = None;
    for (taken, (epoch, size)) in sizes.into_iter().rev().enumerate() {
        if taken >= at_least && size / 2 > total {
            break;
        }
        total += size;
        from = Some(epoch);
    }
    from
}

fn merge_from(
    store: &CheckpointStore,
    manifest: &Manifest,
    table: &StoredTable,
    from: u64,
    policy: &CompactionPolicy,
) -> Result<Vec<Segment>> {
    let (old, merged): (Vec<&Segment>, Vec<&Segment>) = table.segments.iter().partition(|s| s.epoch < from);
    let is_first = old.is_empty();
    let epoch = merged.iter().map(|s| s.epoch).max().unwrap_or(from);
    let hull = HashRange {
        first: merged.iter().map(|s| s.hash_range.first).min().unwrap_or(0),
        last: merged.iter().map(|s| s.hash_range.last).max().unwrap_or(u64::MAX),
    };
    let mut writer = SegmentWriter::new(&Layout::of(table)?.schema)?;
    let (mut rows, mut deletes) = (0, 0);
    merge(store, table, &merged, hull, !is_first, &mut |(columns, hashes, ops)| {
        let upserts = ops.iter().filter(|op| **op == UPSERT).count() as u64;
        rows += upserts;
        deletes += ops.len() as u64 - upserts;
        writer.write(columns, hashes, ops)
    })?;
    let segment = |hash_range, expired_below| SegmentMeta { epoch, hash_range, rows: 0, deletes: 0, expired_below };
    let data = SegmentMeta { rows, deletes, ..segment(hull, None) };
    let mut encoded = vec![EncodedSegment { meta: data, bytes: writer.finish()? }];
    if !is_first {
        let mut bounds: Vec<(HashRange, i64)> = vec![];
        for later in &merged {
            let Some(bound) = later.expired_below else { continue };
            match bounds.iter_mut().find(|(range, _)| *range == later.hash_range) {
                Some((_, highest)) => *highest = bound.max(*highest),
                None => bounds.push((later.hash_range, bound)),
            }
        }
        for (range, bound) in bounds {
            encoded.push(EncodedSegment { meta: segment(range, Some(bound)), bytes: Default::default() });
        }
    }
    let name = store.merged_object_name(manifest.epoch, manifest.attempt);
    let (mut segments, object) = pack(encoded, &name, policy.inline_below);
    segments.retain(|s| !s.is_empty());
    if !object.is_empty() {
        fail_point!("compact::before_put")?;
        store.put_segment_object(&name, &object)?;
    }
    fail_point!("compact::after_put")?;
    Ok(segments)
}

impl Manifest {
    /// Replaces merged segments. This may be a later manifest than the one that was compacted, as
    /// long as it continues it.
    pub fn apply_compaction(&mut self, compactions: &[Compaction]) -> Result<()> {
        for compaction in compactions {
            let gone = || {
                Error::internal("a compaction does not fit the manifest")
                    .detail(format!("operator {}, table {}", compaction.operator, compaction.table))
            };
            let operator = self.operators.iter_mut().find(|o| o.id == compaction.operator).ok_or_else(gone)?;
            let table = operator.tables.iter_mut().find(|t| t.name == compaction.table).ok_or_else(gone)?;
            if compaction.replaced.iter().any(|e| table.segments.iter().all(|s| s.epoch != *e)) {
                return Err(gone());
            }
            table.segments.retain(|s| !compaction.replaced.contains(&s.epoch));
            for segment in &compaction.segments {
                table.push(segment.clone());
            }
        }
        Ok(())
    }

    /// Bytes of state that it names, by table, for metrics.
    pub fn state_bytes(&self) -> u64 {
        self.operators.iter().flat_map(|o| &o.tables).flat_map(|t| &t.segments).map(Segment::size).sum()
    }
}
