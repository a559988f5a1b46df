//! What a sink watches while it writes: whether servers confirm what they are sent, and whether its topics are still the same.

use super::protocol::RENEWED_HINT;
use crate::kafka::client::{Cluster, Topic, place};
use crate::kafka::options::{DeliveryGuarantee, KafkaTable};
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, TryLockError};
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

/// Watches a sink's topics. A single look may be misled by servers that are just starting; several in a row are not.
#[derive(Debug)]
pub(super) struct TopicWatch {
    table: KafkaTable,
    /// Held while the servers are asked.
    watched: Mutex<Watched>,
    /// What is known of the topics' ids, by name; never held for long.
    ids: Mutex<BTreeMap<String, String>>,
}

#[derive(Debug, Default)]
struct Watched {
    /// By the topics' names.
    topics: BTreeMap<String, Seen>,
    looked: Option<Instant>,
    /// Looks in a row that the servers refused.
    refused: u32,
}

#[derive(Debug, Default)]
struct Seen {
    /// The topic's id, once it is known.
    id: Option<String>,
    /// It was asked for: servers may not tell.
    is_asked: bool,
    /// Looks in a row that didn't find it, or found another one.
    missed: u32,
}

impl TopicWatch {
    /// Of the topics that the table names; of those of a pattern, those that are noted.
    pub(super) fn new(table: &KafkaTable) -> Self {
        let topics = table.topics.named().iter().map(|name| (name.clone(), Seen::default())).collect();
        let watched = Mutex::new(Watched { topics, ..Watched::default() });
        TopicWatch { table: table.clone(), watched, ids: Mutex::default() }
    }

    /// Watches a topic from now on, too.
    pub(super) fn note(&self, topic: &str) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.topics.entry(topic.to_string()).or_default();
    }

    /// The topics' ids, by name, as far as the servers tell.
    pub(super) fn ids(&self) -> BTreeMap<String, String> {
        // Nobody waits for another slot's look: what is new is in the next marker.
        if let Ok(mut watched) = self.watched.try_lock()
            && watched.topics.values().any(|seen| !seen.is_asked)
            && let Err(error) = self.learn(&mut watched)
        {
            tracing::debug!(target: "kafka", "look up topics: {error}");
            // The next look will tell.
            watched.topics.values_mut().for_each(|seen| seen.is_asked = true);
        }
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, watched: &Watched) {
        let known = watched.topics.iter().filter_map(|(name, seen)| Some((name.clone(), seen.id.clone()?)));
        *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = known.collect();
    }

    /// The names of those topics that have another id now than they have in `written`, or had before; of those of which no id is
    /// known yet the one of now is from then on.
    pub(super) fn renewed(&self, written: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for name in written.keys().filter(|name| self.table.topics.contains(name)) {
            watched.topics.entry(name.clone()).or_default();
        }
        let is_fresh = watched.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS);
        let mut renewed = match is_fresh && watched.topics.values().all(|seen| seen.is_asked) {
            true => Vec::new(),
            false => self.learn(&mut watched)?,
        };
        let is_other = |(name, id): &(&String, &String)| {
            watched.topics.get(*name).and_then(|seen| seen.id.as_ref()).is_some_and(|now| now != *id)
        };
        renewed.extend(written.iter().filter(is_other).map(|(name, _)| name.clone()));
        Ok(renewed)
    }

    /// Asks for the ids of all that is watched, and takes up those that aren't known; the names of those that have another one
    /// than is known, which is kept: who looks next sees it, too.
    fn learn(&self, watched: &mut Watched) -> Result<Vec<String>> {
        let names = &watched.topics;
        let (found, _) = Cluster::new(&self.table).and_then(|cluster| cluster.find(|name| names.contains_key(name)))?;
        watched.looked = Some(Instant::now());
        let renewed = watched.learn(found);
        self.publish(watched);
        Ok(renewed)
    }

    /// Looks, if that has not just been done.
    ///
    /// # Errors
    /// Data, when it is clear that a topic was removed, or made anew. Servers that don't answer are no error.
    pub(super) fn look(&self) -> Result<()> {
        self.look_after(BETWEEN_LOOKS)
    }

    /// The same while nothing is wrong: a topic that is made anew at once is missed by nobody else.
    pub(super) fn look_sometimes(&self) -> Result<()> {
        self.look_after(EVERY)
    }

    fn look_after(&self, pause: Duration) -> Result<()> {
        let mut watched = match self.watched.try_lock() {
            Ok(watched) => watched,
            Err(TryLockError::Poisoned(watched)) => watched.into_inner(),
            // Another slot is looking.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        // While looks miss one the next one is not far.
        let is_missing = watched.refused > 0 || watched.topics.values().any(|seen| seen.missed > 0);
        let pause = if is_missing { BETWEEN_LOOKS } else { pause };
        if watched.looked.is_some_and(|looked| looked.elapsed() < pause) {
            return Ok(());
        }
        let names = &watched.topics;
        let found = Cluster::new(&self.table).and_then(|cluster| cluster.find(|name| names.contains_key(name)));
        watched.looked = Some(Instant::now());
        match found {
            Ok((found, _)) => {
                watched.refused = 0;
                for (name, seen) in &mut watched.topics {
                    let what = seen.compare(found.iter().find(|topic| topic.name == *name));
                    if let Some(what) = what.filter(|_| seen.missed >= LOOKS) {
                        // Without markers a job that is started again knows nothing of the topic before.
                        let has_markers = self.table.sink.delivery == Some(DeliveryGuarantee::ExactlyOnce);
                        return Err(Error::data(format!("the topic '{name}' {what}"))
                            .at(place(&self.table, self.table.topics.key()))
                            .detail("what is not in Kafka yet is kept with the job's checkpoint")
                            .hint(if what == GONE || !has_markers { GONE_HINT } else { RENEWED_HINT }));
                    }
                }
                self.publish(&watched);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Script => {
                watched.refused += 1;
                if watched.refused < LOOKS { Ok(()) } else { Err(error) }
            }
            // Servers that are away are waited for.
            Err(_) => Ok(()),
        }
    }
}

impl Watched {
    fn learn(&mut self, found: Vec<Topic>) -> Vec<String> {
        let mut renewed = Vec::new();
        for topic in found {
            let Some(seen) = self.topics.get_mut(&topic.name) else { continue };
            seen.is_asked = true;
            if let Some(id) = topic.id
                && *seen.id.get_or_insert_with(|| id.clone()) != id
            {
                renewed.push(topic.name);
            }
        }
        renewed
    }
}

const GONE: &str = "was removed while the job writes to it";
const GONE_HINT: &str =
    "see that the right topic is there, then start the job again: it goes on from its last checkpoint";

impl Seen {
    /// What is wrong with the topic that was found, if anything is.
    fn compare(&mut self, topic: Option<&Topic>) -> Option<&'static str> {
        let is_other = |topic: &Topic| topic.id.is_some() && self.id.is_some() && topic.id != self.id;
        match topic {
            Some(topic) if !is_other(topic) => {
                self.id = self.id.take().or_else(|| topic.id.clone());
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
        let topic = |id: &str| Topic { name: "t".into(), id: Some(id.into()), partitions: 1, rights: None };
        let (a, b) = (topic("a"), topic("b"));
        let mut seen = Seen::default();
        assert_eq!((seen.compare(Some(&a)), seen.missed), (None, 0));
        assert_eq!(seen.compare(None), Some(GONE));
        assert_eq!((seen.compare(Some(&a)), seen.missed), (None, 0));
        assert!(seen.compare(Some(&b)).is_some_and(|what| what.contains("made anew")));
        assert_eq!((seen.id.as_deref(), seen.missed), (Some("a"), 1));
    }

    #[test]
    fn the_id_that_a_topic_had_is_not_forgotten_when_those_of_others_are_learned() {
        let topic =
            |name: &str, id: &str| Topic { name: name.into(), id: Some(id.into()), partitions: 1, rights: None };
        let mut watched = Watched::default();
        watched.topics.insert("t".into(), Seen::default());
        assert_eq!(watched.learn(vec![topic("t", "a"), topic("of somebody else", "x")]), [""; 0]);
        watched.topics.insert("u".into(), Seen::default());
        for _ in 0..2 {
            assert_eq!(watched.learn(vec![topic("t", "b"), topic("u", "c")]), ["t"]);
        }
        let ids = watched.topics.values().map(|seen| seen.id.as_deref());
        assert_eq!(ids.collect::<Vec<_>>(), [Some("a"), Some("c")]);
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
