//! Tests of the binary as a person uses it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod answers;
mod bad_input;
mod bad_state;
mod behaviour;
mod bounded_state;
mod changelogs;
mod conformance;
mod crash;
mod exactly_once;
mod formats;
mod functions;
mod kafka_cluster;
mod kafka_config;
mod kafka_copies;
mod kafka_faults;
mod kafka_sink;
mod kafka_source;
mod kafka_topics;
mod late_rows;
mod lifecycle;
mod live;
mod lookup;
mod match_recognize;
mod memory;
mod nexmark;
mod nexmark_files;
mod nexmark_ordered;
mod postgres;
mod process;
mod queries;
mod s3;
mod script;
mod sessions;
mod sources;
mod take_over;
mod testing;
mod tpch;
mod updating;
mod windows;

#[global_allocator]
static ALLOCATOR: bounded_state::Counting = bounded_state::Counting;
