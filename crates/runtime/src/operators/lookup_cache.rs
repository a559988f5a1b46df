//! What a lookup join keeps of the answers of its table: those used last, until they expire.

use arrow::array::RecordBatch;
use millstream_core::lookup::PartialCache;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The rows of a key: some of those that came in one answer.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// The answer.
    pub answer: Arc<RecordBatch>,
    /// Where the key's rows begin.
    pub start: u32,
    /// How many there are.
    pub count: u32,
}

struct Kept {
    rows: Rows,
    written_ms: i64,
    used_ms: i64,
    /// When it was used last, in the order of all uses.
    use_number: u64,
}

/// Answers by their keys' bytes.
pub(super) struct LookupCache {
    spec: PartialCache,
    kept: HashMap<Box<[u8]>, Kept>,
    by_use: BTreeMap<u64, Box<[u8]>>,
    next_use: u64,
    /// When there are so many, those that have expired are looked for.
    clean_at: usize,
}

/// Fewer answers than this are not looked through for those that have expired.
const MIN_CLEAN: usize = 1024;

impl LookupCache {
    pub(super) fn new(spec: PartialCache) -> Self {
        LookupCache { spec, kept: HashMap::new(), by_use: BTreeMap::new(), next_use: 0, clean_at: MIN_CLEAN }
    }

    /// The rows of a key, if they are known at `now_ms`.
    pub(super) fn get(&mut self, key: &[u8], now_ms: i64) -> Option<Rows> {
        let (spec, next_use) = (self.spec, self.next_use);
        let kept = self.kept.get_mut(key)?;
        if is_expired(&spec, kept, now_ms) {
            let gone = self.kept.remove(key)?;
            self.by_use.remove(&gone.use_number);
            return None;
        }
        kept.used_ms = now_ms;
        let key = self.by_use.remove(&std::mem::replace(&mut kept.use_number, next_use))?;
        self.by_use.insert(next_use, key);
        self.next_use += 1;
        Some(kept.rows.clone())
    }

    /// Keeps the rows of a key that have come at `now_ms`.
    pub(super) fn put(&mut self, key: &[u8], rows: Rows, now_ms: i64) {
        if rows.count == 0 && !self.spec.keeps_missing || self.spec.max_rows == Some(0) {
            return;
        }
        let use_number = self.next_use;
        self.next_use += 1;
        let kept = Kept { rows, written_ms: now_ms, used_ms: now_ms, use_number };
        if let Some(old) = self.kept.insert(key.into(), kept) {
            self.by_use.remove(&old.use_number);
        }
        self.by_use.insert(use_number, key.into());
        while self.spec.max_rows.is_some_and(|max| self.kept.len() as u64 > max) {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.kept.remove(&oldest);
        }
        if self.kept.len() >= self.clean_at {
            let spec = self.spec;
            self.kept.retain(|_, kept| !is_expired(&spec, kept, now_ms));
            self.by_use.retain(|_, key| self.kept.contains_key(key));
            self.clean_at = (2 * self.kept.len()).max(MIN_CLEAN);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.kept.len(), self.by_use.len());
        self.kept.len()
    }
}

fn is_expired(spec: &PartialCache, kept: &Kept, now_ms: i64) -> bool {
    let is_past = |since: i64, after: Option<i64>| after.is_some_and(|after| now_ms.saturating_sub(since) >= after);
    is_past(kept.written_ms, spec.expire_after_write_ms) || is_past(kept.used_ms, spec.expire_after_access_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;

    const ALL: PartialCache =
        PartialCache { max_rows: None, expire_after_write_ms: None, expire_after_access_ms: None, keeps_missing: true };

    fn rows(count: u32) -> Rows {
        Rows { answer: Arc::new(RecordBatch::new_empty(Arc::new(Schema::empty()))), start: 0, count }
    }

    fn known(cache: &mut LookupCache, key: &[u8], now_ms: i64) -> Option<u32> {
        cache.get(key, now_ms).map(|rows| rows.count)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut cache = LookupCache::new(PartialCache { max_rows: Some(2), ..ALL });
        cache.put(b"a", rows(1), 0);
        cache.put(b"b", rows(2), 0);
        assert_eq!(known(&mut cache, b"a", 0), Some(1));
        cache.put(b"c", rows(3), 0);
        assert_eq!(known(&mut cache, b"b", 0), None);
        assert_eq!((known(&mut cache, b"a", 0), known(&mut cache, b"c", 0)), (Some(1), Some(3)));
        cache.put(b"c", rows(4), 0);
        assert_eq!((known(&mut cache, b"c", 0), cache.len()), (Some(4), 2));
    }

    #[test]
    fn answers_expire_after_they_came_or_after_their_last_use() {
        let mut cache = LookupCache::new(PartialCache { expire_after_write_ms: Some(10), ..ALL });
        cache.put(b"a", rows(1), 100);
        assert_eq!((known(&mut cache, b"a", 109), known(&mut cache, b"a", 110)), (Some(1), None));
        let mut cache = LookupCache::new(PartialCache { expire_after_access_ms: Some(10), ..ALL });
        cache.put(b"a", rows(1), 100);
        assert_eq!((known(&mut cache, b"a", 109), known(&mut cache, b"a", 118)), (Some(1), Some(1)));
        assert_eq!((known(&mut cache, b"a", 128), cache.len()), (None, 0));
    }

    #[test]
    fn that_a_key_has_no_row_is_kept_only_if_wanted() {
        for keeps_missing in [true, false] {
            let mut cache = LookupCache::new(PartialCache { keeps_missing, ..ALL });
            cache.put(b"a", rows(0), 0);
            assert_eq!(known(&mut cache, b"a", 0), keeps_missing.then_some(0));
        }
    }

    #[test]
    fn what_has_expired_is_not_kept_for_ever() {
        let mut cache = LookupCache::new(PartialCache { expire_after_write_ms: Some(10), ..ALL });
        for key in 0..100 * MIN_CLEAN as i64 {
            cache.put(&key.to_le_bytes(), rows(1), key);
        }
        assert!(cache.len() < 2 * MIN_CLEAN, "{} answers are kept", cache.len());
    }
}
