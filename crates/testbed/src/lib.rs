//! Servers that tests start and stop, for the tests of several crates.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests fail by panicking")]

pub mod kafka;
pub mod proxy;
pub mod secure;
