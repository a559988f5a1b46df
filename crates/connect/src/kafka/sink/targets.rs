//! To which topics rows may go: those that the table names, or, by a pattern, those that are there.

use crate::kafka::client::{Cluster, place};
use crate::kafka::options::{KafkaTable, Topics, is_topic_name};
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::{Error, Place, Result};
use std::collections::BTreeSet;
use std::time::Duration;

/// Between two questions to servers that don't answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Refuses rows whose topic isn't one of the table's.
pub(super) struct Targets {
    table: KafkaTable,
    /// The column that tells the topic.
    column: String,
    /// Those that are there, as far as that was looked up.
    known: BTreeSet<String>,
    metrics: MetricsRef,
}

impl Targets {
    pub(super) fn new(table: &KafkaTable, column: &str, metrics: MetricsRef) -> Targets {
        Targets { table: table.clone(), column: column.to_string(), known: BTreeSet::new(), metrics }
    }

    /// The topic, if a row may go to it.
    ///
    /// # Errors
    /// Data, if the row names none, one that isn't the table's, or one that isn't there: before the row is taken, since what
    /// is taken has to arrive.
    pub(super) fn check<'t>(&mut self, topic: Option<&'t str>) -> Result<&'t str> {
        let Some(topic) = topic else {
            return Err(self.refused("a row names no topic".into(), "filter such rows, or give them one by COALESCE"));
        };
        if self.known.contains(topic) {
            return Ok(topic);
        }
        if !self.table.topics.contains(topic) || !is_topic_name(topic) {
            let key = self.table.topics.key();
            let message = format!("a row is for topic '{topic}', which isn't one of the table's");
            let hint = format!("filter such rows, or change '{key}'");
            return Err(self.refused(message, &hint).detail(format!("they are told by {}", self.table.topics)));
        }
        self.look_up(topic)?;
        self.known.insert(topic.to_string());
        Ok(topic)
    }

    /// Sees to it that a topic is there and may be written.
    fn look_up(&self, topic: &str) -> Result<()> {
        let only = KafkaTable { topics: Topics::List(vec![topic.to_string()]), ..self.table.clone() };
        loop {
            let error = match Cluster::new(&only).and_then(|cluster| cluster.topics()) {
                Ok(found) => {
                    let key = self.table.topics.key();
                    return found.iter().try_for_each(|found| found.check_rights(&self.table, key, true));
                }
                Err(error) => error,
            };
            if !error.kind().is_restartable() {
                return Err(self.refused(
                    format!("a row is for topic '{topic}': {}", error.message()),
                    "create it, and start the job again: topics are never made by themselves",
                ));
            }
            // Servers that are away are waited for, and the job is held back.
            add(&self.metrics.retries, 1);
            tracing::warn!(target: "kafka", "look up topic '{topic}' again: {error}");
            std::thread::sleep(PAUSE);
        }
    }

    fn refused(&self, message: String, hint: &str) -> Error {
        let column = Place::Named(format!("table '{}', column '{}'", self.table.table, self.column));
        Error::data(message).at(column).hint(hint)
    }
}

/// The error of a table of several topics without a column that tells which.
pub(super) fn column_missing(table: &KafkaTable) -> Error {
    Error::script("a table of several topics is written by its metadata column 'topic'")
        .at(place(table, table.topics.key()))
        .hint("add a column such as `topic` STRING METADATA: it says to which topic a row goes")
}
