//! What a job keeps across restarts: checkpoint files, manifests, restore, compaction, and the lock
//! of the state directory.
//!
//! A worker encodes what changed in an epoch ([`segment::DeltaWriter`]) and stores it
//! ([`store::CheckpointStore::put_segment_object`]); the coordinator names all segments in a
//! [`manifest::Manifest`]. A later process gives the rows back ([`restore::restore_table`]).

pub mod compact;
pub mod dir;
pub mod local;
pub mod manifest;
mod merge;
pub mod restore;
pub mod segment;
pub mod store;

pub use compact::{Compaction, CompactionPolicy, compact};
pub use dir::{JobRecord, StateDir};
pub use manifest::{Blob, CheckpointStats, Location, Manifest, OperatorEntry, Segment, StoredTable};
pub use restore::restore_table;
pub use segment::{DeltaWriter, EncodedSegment, SegmentMeta, pack};
pub use store::CheckpointStore;

/// The fail points: named steps at which a test lets the process die. Each is crashed at by a test.
pub const FAIL_POINTS: &[&str] = &[
    "job_record::mid",
    "checkpoint::before_object_put",
    "checkpoint::mid_object",
    "checkpoint::after_object_put",
    "checkpoint::before_manifest",
    "checkpoint::mid_manifest",
    "checkpoint::after_manifest",
    "retain::mid",
    "compact::before_put",
    "compact::after_put",
    "import::mid",
];
