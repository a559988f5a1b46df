//! Writing events, and reading topics by a plain consumer, which shares nothing with the program that is measured.

use crate::program::own_cpu_seconds;
use millstream_testbed::kafka::Broker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// For how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events are a millisecond of event time apart, all of one day.
const MOST_EVENTS: u64 = 24 * 60 * 60 * 1000;

/// Numbers without a pattern that would matter here.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Event `n` as JSON, about 220 bytes; into `text`, instead of what is there.
fn event(n: u64, text: &mut String) -> std::fmt::Result {
    const CHANNELS: [&str; 4] = ["shop", "phone", "partner", "market"];
    let (random, other) = (mixed(n), mixed(n + (1 << 40)));
    let (user, amount, channel) = (random % 1000, random / 1000 % 1000, CHANNELS[(random >> 40) as usize % 4]);
    let (seconds, ms) = (n / 1000, n % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    text.clear();
    write!(
        text,
        "{{\"id\":{n},\"user_id\":{user},\"amount\":{amount},\"channel\":\"{channel}\",\
         \"page\":\"https://www.example.org/catalogue/{}/item/{}\",\
         \"happened\":\"2026-01-01 {hours:02}:{minutes:02}:{seconds:02}.{ms:03}\",\"note\":\"{other:016x}{:016x}{random:016x}\"}}",
        other % 97,
        other / 97 % 100_000,
        mixed(other)
    )
}

/// Makes a topic and fills it; gives how many bytes of values there are.
pub fn fill(broker: &Broker, topic: &str, partitions: i32, events: u64) -> Result<u64, String> {
    if events > MOST_EVENTS {
        return Err(format!("at most {MOST_EVENTS} events"));
    }
    broker.create_topic(topic, partitions);
    let mut config = broker.client();
    config.set("linger.ms", "50").set("queue.buffering.max.messages", "200000").set("batch.size", "900000");
    let producer: BaseProducer = config.create().map_err(|e| e.to_string())?;
    let (mut text, mut bytes) = (String::new(), 0);
    for n in 0..events {
        event(n, &mut text).map_err(|e| e.to_string())?;
        bytes += text.len() as u64;
        let partition = (n % partitions.max(1) as u64) as i32;
        send(&producer, BaseRecord::to(topic).partition(partition).payload(&text))?;
    }
    producer.flush(PATIENCE).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Writes a record, as soon as there is room.
pub fn send(producer: &BaseProducer, mut record: BaseRecord<'_, str, str>) -> Result<(), String> {
    while let Err((error, back)) = producer.send(record) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            return Err(error.to_string());
        }
        producer.poll(Duration::from_millis(10));
        record = back;
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

/// What reading a topic has taken.
pub struct Reading {
    pub records: u64,
    pub bytes: u64,
    pub wall_s: f64,
    pub cpu_s: f64,
}

/// Reads all of a topic, and does nothing with it.
pub fn consume(broker: &Broker, topic: &str) -> Result<Reading, String> {
    let (started, cpu_s) = (Instant::now(), own_cpu_seconds());
    let (mut records, mut bytes) = (0, 0);
    read(broker, topic, |message| {
        records += 1;
        bytes += message.payload_len() as u64;
        Ok(())
    })?;
    Ok(Reading { records, bytes, wall_s: started.elapsed().as_secs_f64(), cpu_s: own_cpu_seconds() - cpu_s })
}

/// How many records there are, and a number that is the same for the same records in whatever order.
#[derive(Default)]
pub struct Digest {
    pub records: u64,
    sum: u64,
}

impl Digest {
    pub fn text(&self) -> String {
        format!("{:016x}", self.sum)
    }
}

/// The digest of a topic of JSON objects; the order of their members doesn't matter.
pub fn digest(broker: &Broker, topic: &str) -> Result<Digest, String> {
    let mut digest = Digest::default();
    read(broker, topic, |message| {
        let value = message.payload().unwrap_or_default();
        let row: BTreeMap<String, Value> = serde_json::from_slice(value).map_err(|e| e.to_string())?;
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(&row).map_err(|e| e.to_string())?.hash(&mut hasher);
        digest.records += 1;
        digest.sum = digest.sum.wrapping_add(hasher.finish());
        Ok(())
    })?;
    Ok(digest)
}

/// A consumer of what is committed in all partitions of a topic, and how many these are.
pub fn reader(broker: &Broker, topic: &str) -> Result<(BaseConsumer, usize), String> {
    let mut config = broker.client();
    config.set("group.id", "millstream-bench").set("enable.auto.commit", "false");
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().map_err(|e| e.to_string())?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|e| e.to_string())?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let added = list.add_partition_offset(topic, partition as i32, Offset::Beginning);
        added.map_err(|e| e.to_string())?;
    }
    consumer.assign(&list).map_err(|e| e.to_string())?;
    Ok((consumer, partitions))
}

/// Reads what is committed, up to where each partition ends now.
fn read(
    broker: &Broker,
    topic: &str,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let (consumer, partitions) = reader(broker, topic)?;
    let mut at_end = BTreeSet::new();
    while at_end.len() < partitions {
        match consumer.poll(PATIENCE) {
            None => return Err(format!("topic '{topic}' has no end")),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(message)) => each(&message)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_of_one_day_each_another() {
        let (mut text, mut seen) = (String::new(), BTreeSet::new());
        for n in [0, 1, 999, 1000, 59_999, 3_600_000, MOST_EVENTS - 1] {
            event(n, &mut text).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["id"], n);
            assert!(value["happened"].as_str().unwrap().starts_with("2026-01-01 "), "{text}");
            assert!(text.len() < 250 && seen.insert(text.clone()), "{text}");
        }
    }
}
