//! Tests of the binary as a person uses it.

mod conformance;
mod crash;
mod exactly_once;
mod s3;
mod script;
mod windows;
