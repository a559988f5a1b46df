//! What a sink watches while it writes: whether servers confirm what they are sent, and whether its topic is still the same one.

use crate::kafka::client::{Cluster, Topic, place};
use crate::kafka::options::KafkaTable;
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

/// After which time without a confirmation something is wrong.
const STUCK: Duration = Duration::from_secs(1);
/// A topic that so many looks in a row don't find is gone.
const LOOKS: u32 = 3;
/// Between two looks that count.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// How often is looked while nothing is wrong.
const EVERY: Duration = Duration::from_secs(10);

/// Tells of records that the servers leave unconfirmed. Too few replicas, throttling and changes of leaders are healed by the
/// client, which says nothing of them: each second of waiting counts as a call made again.
pub(super) struct Unconfirmed {
    metrics: MetricsRef,
    confirmed: Cell<u64>,
    since: Cell<Instant>,
    waited: Cell<u32>,
}

impl Unconfirmed {
    pub(super) fn new(metrics: MetricsRef) -> Self {
        Unconfirmed { metrics, confirmed: Cell::new(0), since: Cell::new(Instant::now()), waited: Cell::new(0) }
    }
    /// From here on there is something to wait for.
    pub(super) fn begin(&self, confirmed: u64) {
        self.confirmed.set(confirmed);
        self.since.set(Instant::now());
        self.waited.set(0);
    }
    /// Whether another second has passed without a confirmation; `confirmed`: how many there are, or fewer.
    pub(super) fn is_stuck(&self, confirmed: u64) -> bool {
        if confirmed > self.confirmed.get() {
            self.begin(confirmed);
        }
        if self.since.get().elapsed() < STUCK {
            return false;
        }
        self.since.set(Instant::now());
        self.waited.set(self.waited.get() + 1);
        add(&self.metrics.retries, 1);
        tracing::warn!(
            "Kafka has not confirmed a record for {} s: too few replicas, a limit of the servers, or a server that is away",
            self.waited.get()
        );
        true
    }
}

/// Watches a sink's topic. A single look may be misled by servers that are just starting; several in a row are not.
#[derive(Debug)]
pub(super) struct TopicWatch {
    table: KafkaTable,
    topic: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The topic's id, once it is known.
    id: Option<String>,
    /// Looks in a row that didn't find it, or found another one.
    missed: u32,
    looked: Option<Instant>,
}

impl TopicWatch {
    pub(super) fn new(table: &KafkaTable, topic: &str) -> Self {
        TopicWatch { table: table.clone(), topic: topic.to_string(), seen: Mutex::default() }
    }

    /// Looks, if that has not just been done.
    ///
    /// # Errors
    /// Data, when it is clear that the topic was removed, or made anew. Servers that don't answer are no error.
    pub(super) fn look(&self) -> Result<()> {
        self.look_after(BETWEEN_LOOKS)
    }

    /// The same while nothing is wrong: a topic that is made anew at once is missed by nobody else.
    pub(super) fn look_sometimes(&self) -> Result<()> {
        self.look_after(EVERY)
    }

    fn look_after(&self, pause: Duration) -> Result<()> {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(seen)) => seen.into_inner(),
            // Another slot is looking.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        // While looks miss it the next one is not far.
        let pause = if seen.missed > 0 { BETWEEN_LOOKS } else { pause };
        if seen.looked.is_some_and(|looked| looked.elapsed() < pause) {
            return Ok(());
        }
        let found = Cluster::new(&self.table).and_then(|cluster| cluster.topics());
        seen.looked = Some(Instant::now());
        let what = match found {
            Ok(topics) => match seen.compare(topics.into_iter().find(|topic| topic.name == self.topic)) {
                None => return Ok(()),
                Some(what) => what,
            },
            Err(error) if error.kind() == ErrorKind::Script => {
                seen.missed += 1;
                GONE
            }
            // Servers that are away are waited for.
            Err(_) => return Ok(()),
        };
        if seen.missed < LOOKS {
            return Ok(());
        }
        Err(Error::data(format!("the topic '{}' {what}", self.topic))
            .at(place(&self.table, "topic"))
            .detail("what is not in Kafka yet is kept with the job's checkpoint")
            .hint("see that the right topic is there, then start the job again: it goes on from its last checkpoint"))
    }
}

const GONE: &str = "was removed while the job writes to it";

impl Seen {
    /// What is wrong with the topic that was found, if anything is.
    fn compare(&mut self, topic: Option<Topic>) -> Option<&'static str> {
        let is_other = |topic: &Topic| topic.id.is_some() && self.id.is_some() && topic.id != self.id;
        match topic {
            Some(topic) if !is_other(&topic) => {
                self.id = self.id.take().or(topic.id);
                self.missed = 0;
                None
            }
            Some(_) => {
                self.missed += 1;
                Some("was removed and made anew while the job writes to it")
            }
            None => {
                self.missed += 1;
                Some(GONE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_the_same_name_with_another_id_is_another_one() {
        let topic = |id: &str| Some(Topic { name: "t".into(), id: Some(id.into()), partitions: 1, rights: None });
        let mut seen = Seen::default();
        assert_eq!((seen.compare(topic("a")), seen.missed), (None, 0));
        assert_eq!(seen.compare(None), Some(GONE));
        assert_eq!((seen.compare(topic("a")), seen.missed), (None, 0));
        assert!(seen.compare(topic("b")).is_some_and(|what| what.contains("made anew")));
        assert_eq!((seen.id.as_deref(), seen.missed), (Some("a"), 1));
    }

    #[test]
    fn each_second_without_a_confirmation_counts() {
        let metrics = MetricsRef::default();
        let unconfirmed = Unconfirmed::new(metrics.clone());
        unconfirmed.begin(0);
        assert!(!unconfirmed.is_stuck(0));
        unconfirmed.since.set(Instant::now() - STUCK);
        assert!(!unconfirmed.is_stuck(1));
        unconfirmed.since.set(Instant::now() - STUCK);
        assert!(unconfirmed.is_stuck(1));
        assert_eq!(metrics.retries.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
