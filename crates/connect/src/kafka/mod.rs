//! The `kafka` and `upsert-kafka` connectors: topics read and written (flink docs: "Apache Kafka SQL Connector", "Upsert Kafka
//! SQL Connector").

pub mod client;
mod columns;
mod formats;
mod metadata;
mod options;
mod properties;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Error, Result, TypeKind};
use options::KafkaTable;
use std::sync::Arc;

/// Which of the two connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// A message is a row that is added, or a change as its format has it.
    Kafka,
    /// A message is the newest version of the row with its key, or, without a value, its end.
    UpsertKafka,
}

impl Flavor {
    /// The `connector` option's value.
    pub fn name(self) -> &'static str {
        match self {
            Flavor::Kafka => "kafka",
            Flavor::UpsertKafka => "upsert-kafka",
        }
    }
}

/// `'connector' = 'kafka'` and `'connector' = 'upsert-kafka'`
#[derive(Debug)]
pub struct KafkaConnector(pub Flavor);

impl Connector for KafkaConnector {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn source(&self, table: &TableDef, session: &SessionInfo) -> Result<Arc<dyn Source>> {
        let options = Options::new(&table.name, self.name(), &table.options);
        options.with_prefix("sink.");
        let source = source::KafkaSource::build(self.0, table, &options, session)?;
        options.finish()?;
        Ok(Arc::new(source))
    }

    fn writable_metadata(&self, table: &TableDef) -> Vec<(&'static str, TypeKind)> {
        metadata::writable(table).into_iter().map(|metadata| (metadata.key(), metadata.kind())).collect()
    }

    fn sink(&self, table: &TableDef, mode: WriteMode, _session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        if mode == WriteMode::Overwrite {
            return Err(Error::unsupported(format!(
                "INSERT OVERWRITE of '{}', a table of connector '{}'",
                table.name,
                self.name()
            )));
        }
        let options = Options::new(&table.name, self.name(), &table.options);
        // How a table is read may stand in its options, too.
        options.allow(["dead-letter.path"]);
        let read = KafkaTable::read(self.0, &options)?;
        let sink = sink::KafkaSink::build(read, table, &options)?;
        options.finish()?;
        Ok(Arc::new(sink))
    }
}
