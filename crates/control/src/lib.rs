//! The control plane of one job: the supervisor that starts, checkpoints and restarts worker processes, and the
//! workers' side of that protocol. It never sees a row.

pub mod coordinator;
pub mod protocol;
pub mod restart;
pub mod store;
pub mod supervisor;
pub mod worker;
