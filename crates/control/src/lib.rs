//! The control plane of one job: the supervisor that starts, checkpoints and restarts worker processes, and the
//! workers' side of that protocol. It never sees a row.

pub mod compactor;
pub mod coordinator;
mod door;
mod drift;
pub mod heartbeat;
pub mod meaning;
pub mod protocol;
pub mod restart;
pub mod sink_storage;
pub mod store;
pub mod supervisor;
pub mod worker;

/// A number for ids and secrets, another one at each call; none tells of the others.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The fail points: named steps at which a test lets the process die. Each is crashed at by a test.
pub const FAIL_POINTS: &[&str] = &[
    "start::before_read",
    "start::before_import",
    "start::before_record",
    "start::after_record",
    "recover_sinks::before",
    "recover_sinks::between",
    "recover_sinks::after",
    "supervisor::before_spawn",
    "supervisor::after_spawn",
    "supervisor::before_start",
    "coordinator::before_trigger",
    "coordinator::mid_trigger",
    "coordinator::before_manifest",
    "coordinator::after_manifest",
    "coordinator::mid_commit",
    "coordinator::on_committed",
    "compactor::before_apply",
    "supervisor::before_exit",
    "finish::before",
    "finish::after",
    "worker::before_hello",
    "worker::before_restore",
    "worker::mid_restore",
    "worker::after_restore",
    "worker::before_ack",
    "worker::after_ack",
    "worker::before_commit",
    "worker::between_commits",
    "worker::before_committed",
    "worker::before_exit",
];
