//! Whole jobs on real workers: threads of one process, and processes over sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod jobs;
