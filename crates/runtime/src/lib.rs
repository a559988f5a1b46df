//! The data plane: operators, the tasks that they are fused into, the exchange between tasks, epochs, on timely.
//!
//! [`run_worker`] runs one process's share of a [`millstream_core::graph::JobGraph`]: it blocks, tells what happens
//! as [`WorkerEvent`]s and is steered by a [`WorkerControl`]. See ARCHITECTURE.md, "A job at run time".

mod align;
mod calls;
mod credit;
mod dataflow;
pub mod drift;
mod exchange;
mod fuse;
pub mod memory;
#[cfg(test)]
mod model;
mod node;
pub mod operators;
mod outputs;
mod rendezvous;
mod source;
mod task;
mod worker;

pub use worker::{
    JobMetrics, LOST_PEER_EXIT_CODE, RestoreProvider, WorkerControl, WorkerEvent, WorkerPlan, run_worker,
};
