//! A job on trial: run in this process over rows in memory, epoch by epoch, on a clock that stands where it is put,
//! and crashed and restored where it is told to.
//!
//! A [`Stage`] holds the tables: a connector of the caller's asks it for sources and sinks while a script is planned.
//! [`Trial::run`] then takes the planned job through a [`Course`] and gives what was written, which [`fold`] adds up.
//! State goes through the same encoding, merging and restoring as in a real job; only where it is kept differs.

mod catch;
mod feed;
mod fold;
mod memory;
mod stage;
mod trial;

pub use feed::Rows;
pub use fold::{Folded, fold};
pub use stage::Stage;
pub use trial::{Course, Crash, Epoch, Outcome, Trial};
