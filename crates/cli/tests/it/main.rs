//! Tests of the binary as a person uses it.

mod conformance;
mod exactly_once;
mod script;
