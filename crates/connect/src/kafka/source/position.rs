//! Where a source stands: the splits, each a partition of a topic, and the next offset of each; how they are shared out.

use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// The next offset of a split of which nothing was read, and which begins with whatever its first record is.
pub(super) const FIRST: i64 = -2;

/// Where one instance stands, or where all begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    version: u32,
    /// In no order.
    pub splits: Vec<SplitPosition>,
}

/// Where a partition is read on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SplitPosition {
    /// The topic's name.
    pub topic: String,
    /// The topic's id, as far as it is known: a topic of this name with another id is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub partition: i32,
    /// The offset of the next record, or [`FIRST`].
    pub next: i64,
    /// The offset before which reading ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<i64>,
}

impl Position {
    pub fn new(splits: Vec<SplitPosition>) -> Position {
        Position { version: VERSION, splits }
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal(format!("encode a position: {e}")))
    }

    pub fn decode(bytes: &[u8]) -> Result<Position> {
        let unknown = || Error::state("the position of a Kafka source has an unknown form");
        let position: Position = serde_json::from_slice(bytes).map_err(|e| unknown().detail(e.to_string()))?;
        match position.version {
            VERSION => Ok(position),
            other => Err(unknown().detail(format!("version {other}"))),
        }
    }

    /// What all instances together have read.
    pub fn of_all(instances: &[Vec<u8>]) -> Result<Position> {
        let mut splits = Vec::new();
        for bytes in instances {
            splits.extend(Position::decode(bytes)?.splits);
        }
        Ok(Position::new(splits))
    }
}

/// Which of `instances` reads a partition. The partitions of a topic go to instances in turn, beginning anywhere, so that
/// small topics don't all meet at the first.
pub(super) fn owner(topic: &str, partition: i32, instances: usize) -> usize {
    // FNV-1a, 32 bits.
    let hash = topic.bytes().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let place = u64::from(hash) + u64::try_from(partition).unwrap_or(0);
    usize::try_from(place % instances.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_one_owner_and_owners_have_as_many() {
        for instances in 1..5 {
            let mut counts = vec![0; instances];
            (0..12).for_each(|partition| counts[owner("orders", partition, instances)] += 1);
            assert!(counts.iter().all(|count| *count == 12 / instances), "{counts:?}");
        }
    }

    #[test]
    fn a_position_of_another_form_is_refused() {
        let split = SplitPosition { topic: "a".into(), id: Some("x".into()), partition: 3, next: 7, stop: None };
        let position = Position::new(vec![split]);
        let bytes = position.encode().unwrap();
        assert_eq!(bytes, br#"{"version":1,"splits":[{"topic":"a","id":"x","partition":3,"next":7}]}"#);
        assert_eq!(Position::of_all(&[bytes.clone(), bytes]).unwrap().splits.len(), 2);
        for bad in ["{}", "[]", r#"{"version":9,"splits":[]}"#] {
            assert!(Position::decode(bad.as_bytes()).unwrap_err().to_string().contains("unknown form"));
        }
    }
}
