//! The ordered rows of one partition of a ranking.

use millstream_core::graph::RankFunction;
use std::collections::BTreeSet;
use std::fmt;

/// What rows are ordered by, made of the bytes of Arrow's row format.
pub(super) trait OrderKey: Ord + Clone + Default + Send + fmt::Debug + 'static {
    fn of(bytes: &[u8]) -> Self;
}

/// Of rows whose bytes are all equally many, at most 16.
impl OrderKey for u128 {
    fn of(bytes: &[u8]) -> Self {
        bytes.iter().fold(0, |key, byte| key << 8 | u128::from(*byte))
    }
}

impl OrderKey for Box<[u8]> {
    fn of(bytes: &[u8]) -> Self {
        bytes.into()
    }
}

/// A row's place in the order: its key, then its arrival.
pub(super) type Place<K> = (K, i64);

/// A row's slot and what orders it; by slot.
#[derive(Default)]
pub(super) struct Places<K>(Vec<Place<K>>);

impl<K: OrderKey> Places<K> {
    /// Sets a slot's; `slots`: how many slots there are.
    pub(super) fn set(&mut self, slot: u32, place: Place<K>, slots: usize) {
        if self.0.len() < slots {
            self.0.resize(slots, (K::default(), 0));
        }
        self.0[slot as usize] = place;
    }

    pub(super) fn key(&self, slot: u32) -> &K {
        &self.0[slot as usize].0
    }

    fn place(&self, slot: u32) -> &Place<K> {
        &self.0[slot as usize]
    }
}

/// The slots of a partition's rows in their order: one, some in a list, or many in a tree.
#[expect(clippy::box_collection, reason = "most partitions are small, and a tree is larger than a list")]
pub(super) enum Ordered<K> {
    One(u32),
    Few(Vec<u32>),
    Many(Box<BTreeSet<(Place<K>, u32)>>),
}

/// Longer lists become trees.
const MAX_FEW: usize = 4096;

impl<K> Default for Ordered<K> {
    fn default() -> Self {
        Ordered::Few(vec![])
    }
}

impl<K: OrderKey> Ordered<K> {
    pub(super) fn len(&self) -> usize {
        match self {
            Ordered::One(_) => 1,
            Ordered::Few(slots) => slots.len(),
            Ordered::Many(slots) => slots.len(),
        }
    }

    /// The slots in order.
    pub(super) fn iter(&self) -> Box<dyn DoubleEndedIterator<Item = u32> + '_> {
        match self {
            Ordered::One(slot) => Box::new(std::iter::once(*slot)),
            Ordered::Few(slots) => Box::new(slots.iter().copied()),
            Ordered::Many(slots) => Box::new(slots.iter().map(|(_, slot)| *slot)),
        }
    }

    pub(super) fn last(&self) -> Option<u32> {
        match self {
            Ordered::One(slot) => Some(*slot),
            Ordered::Few(slots) => slots.last().copied(),
            Ordered::Many(slots) => slots.last().map(|(_, slot)| *slot),
        }
    }

    /// How many rows have a key below `key`, or, if `or_equal`, not above it.
    pub(super) fn count_below(&self, key: &K, or_equal: bool, places: &Places<K>) -> usize {
        let is_below = |slot: &u32| if or_equal { places.key(*slot) <= key } else { places.key(*slot) < key };
        match self {
            Ordered::Few(slots) => slots.partition_point(is_below),
            Ordered::One(_) | Ordered::Many(_) => self.iter().take_while(is_below).count(),
        }
    }

    pub(super) fn insert(&mut self, slot: u32, places: &Places<K>) {
        match self {
            Ordered::Few(slots) if slots.is_empty() => *self = Ordered::One(slot),
            Ordered::One(other) => {
                let first = places.place(slot) < places.place(*other);
                *self = Ordered::Few(if first { vec![slot, *other] } else { vec![*other, slot] });
            }
            Ordered::Few(slots) if slots.len() < MAX_FEW => {
                let place = places.place(slot);
                slots.insert(slots.partition_point(|other| places.place(*other) < place), slot);
            }
            Ordered::Few(slots) => {
                slots.push(slot);
                let all = slots.iter().map(|slot| (places.place(*slot).clone(), *slot)).collect();
                *self = Ordered::Many(Box::new(all));
            }
            Ordered::Many(slots) => {
                slots.insert((places.place(slot).clone(), slot));
            }
        }
    }

    pub(super) fn remove(&mut self, slot: u32, places: &Places<K>) {
        match self {
            Ordered::One(only) if *only == slot => *self = Ordered::default(),
            Ordered::One(_) => {}
            Ordered::Few(slots) => {
                let place = places.place(slot);
                let at = slots.partition_point(|other| places.place(*other) < place);
                if slots.get(at) == Some(&slot) {
                    slots.remove(at);
                }
            }
            Ordered::Many(slots) => {
                slots.remove(&(places.place(slot).clone(), slot));
            }
        }
    }

    /// The first row with this key for which `is_wanted` holds.
    pub(super) fn find(&self, key: &K, places: &Places<K>, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let has_key = |slot: &u32| places.key(*slot) == key;
        match self {
            Ordered::One(slot) => Some(*slot).filter(|slot| has_key(slot) && is_wanted(*slot)),
            Ordered::Few(slots) => {
                let first = slots.partition_point(|other| places.key(*other) < key);
                slots[first..].iter().take_while(|slot| has_key(slot)).copied().find(|slot| is_wanted(*slot))
            }
            Ordered::Many(slots) => {
                let from = ((key.clone(), i64::MIN), 0);
                slots.range(from..).map(|(_, slot)| *slot).take_while(has_key).find(|slot| is_wanted(*slot))
            }
        }
    }

    /// The slots whose rank is within a range, with it, in order.
    pub(super) fn ranked(
        &self,
        function: RankFunction,
        (from, to): (u64, u64),
        places: &Places<K>,
        into: &mut Vec<(u32, u64)>,
    ) {
        let (mut rank, mut before): (u64, Option<u32>) = (0, None);
        for (at, slot) in (1u64..).zip(self.iter()) {
            let is_equal = before.is_some_and(|before| places.key(before) == places.key(slot));
            before = Some(slot);
            rank = match function {
                RankFunction::RowNumber => at,
                RankFunction::Rank if is_equal => rank,
                RankFunction::Rank => at,
                RankFunction::DenseRank => rank + u64::from(!is_equal),
            };
            if rank > to {
                break;
            }
            if rank >= from {
                into.push((slot, rank));
            }
        }
    }

    /// Where a row with this key would stand, behind those that are equal (`behind`) or before them.
    pub(super) fn rank_of(&self, key: &K, function: RankFunction, behind: bool, places: &Places<K>) -> u64 {
        match function {
            RankFunction::RowNumber => self.count_below(key, behind, places) as u64 + 1,
            RankFunction::Rank => self.count_below(key, false, places) as u64 + 1,
            RankFunction::DenseRank => {
                let mut below: Vec<&K> = self.iter().map(|slot| places.key(slot)).take_while(|k| *k < key).collect();
                below.dedup();
                below.len() as u64 + 1
            }
        }
    }
}
