//! Planning: the logical plan is optimised and becomes a job graph.

pub mod changelog;
pub mod emit;
pub mod explain;
pub mod fuse;
pub mod joins;
pub mod keys;
pub mod late;
pub mod lookup;
pub mod normalize;
pub mod not_null;
pub mod order;
pub mod prune;
pub mod ranks;
pub mod simplify;
pub mod values;
