//! Connectors and formats: everything that brings bytes in or out, a folder or file per connector and per format.

pub mod blackhole;
mod blocking;
pub mod datagen;
pub mod dead_letter;
#[cfg(test)]
mod docs_tests;
pub mod filesystem;
pub mod formats;
pub mod jdbc;
pub mod kafka;
pub mod lookup;
pub mod nexmark;
pub mod print;
pub mod throttle;
mod versioned;

use millstream_core::connector::{Connector, ConnectorRegistry};
use millstream_core::suggest::did_you_mean;
use millstream_core::{Error, Result};
use std::sync::Arc;

/// The fail points: named steps at which a test lets the process die. Each is crashed at by a test.
pub const FAIL_POINTS: &[&str] = &[
    "sink::before_fsync",
    "sink::mid_prepare",
    "sink::after_prepare",
    "commit::before",
    "commit::between_files",
    "commit::after",
    "overwrite::after_hold",
    "overwrite::after_remove",
    "overwrite::after_publish",
    "abort::after_remove",
    "kafka::before_log_put",
    "kafka::after_log_put",
    "kafka::sealed",
    "kafka::taken",
    "kafka::all_taken",
    "kafka::begun",
    "kafka::records_sent",
    "kafka::before_commit",
    "kafka::after_commit",
    "kafka::replayed",
    "kafka::claimed",
    "kafka::flushed",
];

/// The connectors of this crate, by name.
struct Registry(Vec<Arc<dyn Connector>>);

impl ConnectorRegistry for Registry {
    fn connector(&self, name: &str) -> Result<Arc<dyn Connector>> {
        if let Some(found) = self.0.iter().find(|c| c.name() == name) {
            return Ok(found.clone());
        }
        let names: Vec<&str> = self.0.iter().map(|c| c.name()).collect();
        let error = Error::script(format!("there is no connector '{name}'"))
            .detail(format!("known connectors: {}", names.join(", ")));
        Err(match did_you_mean(name, names) {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

/// All connectors that the program has.
pub fn registry() -> Arc<dyn ConnectorRegistry> {
    Arc::new(Registry(vec![
        Arc::new(blackhole::BlackholeConnector),
        Arc::new(datagen::DatagenConnector),
        Arc::new(filesystem::FilesystemConnector),
        Arc::new(jdbc::JdbcConnector),
        Arc::new(kafka::KafkaConnector(kafka::Flavor::Kafka)),
        Arc::new(kafka::KafkaConnector(kafka::Flavor::UpsertKafka)),
        Arc::new(nexmark::NexmarkConnector),
        Arc::new(print::PrintConnector),
    ]))
}
