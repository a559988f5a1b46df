//! Tests of the binary as a person uses it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bad_input;
mod behaviour;
mod conformance;
mod crash;
mod exactly_once;
mod live;
mod s3;
mod script;
mod sessions;
mod sources;
mod windows;
