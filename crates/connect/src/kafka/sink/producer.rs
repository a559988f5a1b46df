//! The protocol's view of Kafka, by rdkafka: transactional producers and the marker topic.

use super::log::records;
use super::protocol::{Cluster, Marker, Transactions, VERSION};
use crate::kafka::client::{self, explain, place, refused};
use crate::kafka::options::{KafkaTable, Partitioner};
use futures::executor::block_on;
use millstream_core::{Error, Place, Result, fail_point};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a single call waits for the servers.
const CALL: Duration = Duration::from_secs(15);
/// Between looks at what the client has to say.
const LOOK: Duration = Duration::from_millis(1);

/// What a producer's callbacks leave behind: the first record that could not be written, and the last trouble.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Arc<Mutex<Trouble>>);

#[derive(Debug, Default)]
struct Trouble {
    undelivered: Option<RDKafkaErrorCode>,
    last: Option<(RDKafkaErrorCode, String)>,
}

impl Said {
    fn lock(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Why a record could not be written, if one could not.
    pub(super) fn undelivered(&self) -> Option<RDKafkaErrorCode> {
        self.lock().undelivered
    }
    fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.lock().last.take()
    }
    pub(super) fn note_delivery(&self, result: &DeliveryResult<'_>) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.lock().undelivered.get_or_insert(code);
        }
    }
}

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(target: "kafka", ?level, "{fac}: {message}");
    }
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.lock().last = Some((code, reason.to_string()));
        }
    }
}

impl ConsumerContext for Said {}

impl ProducerContext for Said {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.note_delivery(result);
    }
}

/// What every producer of a table is made from.
pub(super) fn producer_config(table: &KafkaTable) -> ClientConfig {
    let mut config = client::config(table);
    config.remove("allow.auto.create.topics");
    config.set("enable.idempotence", "true");
    if config.get("partitioner").is_none() {
        // As Java's clients, so that a key is in the same partition whoever writes it.
        config.set("partitioner", "murmur2_random");
    }
    config
}

/// Writes a record to `topic`; `Ok(false)`: there is no room just now.
pub(super) fn send<C>(
    producer: &BaseProducer<C>,
    topic: &str,
    partition: Option<i32>,
    record: &super::log::Record,
) -> std::result::Result<bool, RDKafkaErrorCode>
where
    C: ProducerContext<rdkafka::producer::NoCustomPartitioner, DeliveryOpaque = ()>,
{
    let mut base = BaseRecord::<[u8], [u8]>::to(topic);
    (base.key, base.payload, base.partition, base.timestamp) =
        (record.key, record.value, partition, record.timestamp_ms);
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        base.headers =
            Some(record.headers.iter().fold(headers, |all, (key, value)| all.insert(Header { key, value: *value })));
    }
    match producer.send(base) {
        Ok(()) => Ok(true),
        Err((error, _)) => match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(false),
            code => Err(code.unwrap_or(RDKafkaErrorCode::Fail)),
        },
    }
}

/// The partition of a slot that always writes to the same one.
pub(super) fn fixed_partition(
    table: &KafkaTable,
    client: &rdkafka::client::Client<impl ClientContext>,
    topic: &str,
    slot: u32,
) -> Result<Option<i32>> {
    if table.sink.partitioner != Partitioner::Fixed {
        return Ok(None);
    }
    let metadata = client.fetch_metadata(Some(topic), CALL).map_err(|e| of_client(table, &e, None))?;
    let partitions = metadata.topics().first().map_or(0, |t| t.partitions().len() as u32).max(1);
    Ok(Some((slot % partitions) as i32))
}

fn of_client(table: &KafkaTable, error: &KafkaError, said: Option<(RDKafkaErrorCode, String)>) -> Error {
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
    match said {
        // That nobody answered in time says less than why.
        Some((why, reason)) if code == RDKafkaErrorCode::OperationTimedOut => explain(table, why, &reason),
        _ => explain(table, code, &error.to_string()),
    }
}

/// An error of writing a record.
pub(super) fn of_record(table: &KafkaTable, code: RDKafkaErrorCode) -> Error {
    use RDKafkaErrorCode::*;
    let at = place(table, "topic");
    match code {
        MessageSizeTooLarge | InvalidMessageSize => {
            Error::data("a record is larger than the topic or the client takes")
                .at(at)
                .hint("raise 'properties.message.max.bytes', and 'max.message.bytes' of the topic")
        }
        InvalidMessage | InvalidRecord | InvalidTimestamp => {
            Error::data("the servers refuse a record").at(at).detail(code.to_string())
        }
        UnknownTopic | UnknownTopicOrPartition | UnknownPartition => {
            Error::retry("the topic is gone").at(at).detail(code.to_string())
        }
        MessageTimedOut | PurgeQueue | PurgeInflight => {
            Error::retry("records could not be written in time").at(at).detail(code.to_string())
        }
        _ => explain(table, code, "records could not be written"),
    }
}

/// Kafka as the sink's protocol sees it.
pub(super) struct KafkaCluster {
    table: KafkaTable,
    topic: String,
    marker_topic: String,
    /// Two consumers of the marker topic: one sees what is committed, the other one all there is.
    readers: Mutex<Option<(BaseConsumer<Said>, BaseConsumer<Said>)>>,
}

impl KafkaCluster {
    pub(super) fn new(table: &KafkaTable, topic: &str, marker_topic: &str) -> Self {
        let (topic, marker_topic) = (topic.to_string(), marker_topic.to_string());
        KafkaCluster { table: table.clone(), topic, marker_topic, readers: Mutex::new(None) }
    }

    fn error(&self, error: &KafkaError, said: &Said) -> Error {
        of_client(&self.table, error, said.last())
    }

    fn marker_place(&self) -> Place {
        Place::Named(format!("topic {}", self.marker_topic))
    }

    fn reader(&self, isolation: &str) -> Result<BaseConsumer<Said>> {
        let mut config = client::config(&self.table);
        config.set("group.id", "millstream-markers").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "error").set("isolation.level", isolation);
        BaseConsumer::from_config_and_context(&config, Said::default()).map_err(|e| refused(&self.table, &e))
    }

    fn read(
        &self,
        readers: &(BaseConsumer<Said>, BaseConsumer<Said>),
        prefix: &str,
    ) -> Result<BTreeMap<String, Marker>> {
        let (committed, all) = readers;
        let topic = self.marker_topic.as_str();
        let failed = |e: KafkaError| self.error(&e, committed.context());
        let metadata = committed.fetch_metadata(Some(topic), CALL).map_err(failed)?;
        let partitions = match metadata.topics().first() {
            Some(found) => match found.error().map(RDKafkaErrorCode::from) {
                None => found.partitions().len() as i32,
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => 0,
                Some(code) => {
                    return Err(explain(&self.table, code, "look for the marker topic").at(self.marker_place()));
                }
            },
            None => 0,
        };
        let mut open = BTreeSet::new();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            let (low, high) =
                all.fetch_watermarks(topic, partition, CALL).map_err(|e| self.error(&e, all.context()))?;
            if low < high {
                self.wait_until_settled(committed, partition, high)?;
                open.insert(partition);
                list.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(failed)?;
            }
        }
        let mut found: BTreeMap<String, Marker> = BTreeMap::new();
        committed.assign(&list).map_err(failed)?;
        let deadline = Instant::now() + CALL * 2;
        while !open.is_empty() {
            match committed.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let key = message.key().and_then(|k| std::str::from_utf8(k).ok());
                    if let (Some(rest), Some(value)) = (key.and_then(|k| k.strip_prefix(prefix)), message.payload()) {
                        let marker = self.decode(value)?;
                        // In a topic whose number of partitions was changed a key has more than one.
                        let is_later =
                            |m: &Marker| (m.attempt, m.position.epoch) <= (marker.attempt, marker.position.epoch);
                        if partitions == 1 || found.get(rest).is_none_or(is_later) {
                            found.insert(rest.to_string(), marker);
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if !is_passing(&error) => return Err(failed(error)),
                Some(Err(_)) | None if Instant::now() > deadline => {
                    return Err(Error::retry("the marker topic could not be read in time").at(self.marker_place()));
                }
                Some(Err(_)) | None => {}
            }
        }
        committed.unassign().map_err(failed)?;
        Ok(found)
    }

    /// Waits until all transactions that reach below `high` are over: a marker behind one that is open can't be seen.
    fn wait_until_settled(&self, committed: &BaseConsumer<Said>, partition: i32, high: i64) -> Result<()> {
        let deadline = Instant::now() + CALL * 8;
        loop {
            let stable = committed.fetch_watermarks(&self.marker_topic, partition, CALL);
            let (_, stable) = stable.map_err(|e| self.error(&e, committed.context()))?;
            if stable >= high {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::retry("a transaction of another writer holds the marker topic back")
                    .at(self.marker_place())
                    .hint("it ends by itself after its 'transaction.timeout.ms'"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn decode(&self, value: &[u8]) -> Result<Marker> {
        let marker: std::result::Result<Marker, _> = serde_json::from_slice(value);
        match marker {
            Ok(marker) if marker.version == VERSION => Ok(marker),
            Ok(marker) => Err(Error::state(format!(
                "a marker has version {}; this program knows version {VERSION}",
                marker.version
            ))
            .at(self.marker_place())),
            Err(e) => Err(Error::state("a marker can't be read").at(self.marker_place()).detail(e.to_string())),
        }
    }
}

/// Errors that the client goes on after by itself.
fn is_passing(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_none_or(client::may_heal)
}

impl Cluster for KafkaCluster {
    type Producer = KafkaProducer;

    fn take(&self, id: &str) -> Result<KafkaProducer> {
        let mut config = producer_config(&self.table);
        config.set("transactional.id", id);
        let timeout_ms = |config: &ClientConfig, key: &str| config.get(key).and_then(|v| v.parse::<u64>().ok());
        let transaction_ms = timeout_ms(&config, "transaction.timeout.ms").unwrap_or(60_000);
        let message_ms = timeout_ms(&config, "message.timeout.ms").filter(|ms| *ms > 0).unwrap_or(transaction_ms);
        config.set("transaction.timeout.ms", transaction_ms.to_string());
        config.set("message.timeout.ms", message_ms.min(transaction_ms).to_string());
        let producer: BaseProducer<Said> =
            config.create_with_context(Said::default()).map_err(|e| refused(&self.table, &e))?;
        let outcome = producer.init_transactions(CALL);
        outcome.map_err(|error| {
            producer.poll(Duration::ZERO);
            self.error(&error, producer.context()).context("take a transactional id")
        })?;
        let slot = id.rsplit('/').next().and_then(|slot| slot.parse().ok()).unwrap_or(0);
        Ok(KafkaProducer {
            partition: fixed_partition(&self.table, producer.client(), &self.topic, slot)?,
            producer,
            table: self.table.clone(),
            topic: self.topic.clone(),
            marker_topic: self.marker_topic.clone(),
            timeout: Duration::from_millis(transaction_ms),
        })
    }

    fn markers(&self, prefix: &str) -> Result<BTreeMap<String, Marker>> {
        let mut held = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = match held.take() {
            Some(readers) => readers,
            None => (self.reader("read_committed")?, self.reader("read_uncommitted")?),
        };
        let found = self.read(&readers, prefix).map_err(|e| e.context("read the marker topic"))?;
        *held = Some(readers);
        Ok(found)
    }

    fn prepare_markers(&self) -> Result<()> {
        let config = client::config(&self.table);
        let admin: AdminClient<Said> =
            AdminClient::from_config_and_context(&config, Said::default()).map_err(|e| refused(&self.table, &e))?;
        let options = AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL));
        let failed = |e: KafkaError| self.error(&e, admin.inner().context()).context("prepare the marker topic");
        let settings = [("cleanup.policy", "compact")];
        let topic = NewTopic::new(&self.marker_topic, 1, TopicReplication::Fixed(-1)).set(settings[0].0, settings[0].1);
        for outcome in block_on(admin.create_topics([&topic], &options)).map_err(failed)? {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => {
                    return Err(explain(&self.table, code, "the marker topic can't be made")
                        .at(self.marker_place())
                        .hint("make it by hand, with cleanup.policy=compact, or name another by 'sink.marker-topic'"));
                }
            }
        }
        let resource = ResourceSpecifier::Topic(&self.marker_topic);
        for described in block_on(admin.describe_configs([&resource], &options)).map_err(failed)? {
            // Who may not look has to take care himself.
            let Ok(described) = described else { continue };
            let policy = described.get("cleanup.policy").and_then(|entry| entry.value.clone());
            if policy.as_deref().is_some_and(|policy| policy != "compact") {
                return Err(Error::state("the marker topic doesn't keep its markers")
                    .at(self.marker_place())
                    .detail(format!("its cleanup.policy is '{}'", policy.unwrap_or_default()))
                    .hint("set it to 'compact' alone"));
            }
        }
        Ok(())
    }
}

/// Writes under one transactional id.
pub(super) struct KafkaProducer {
    producer: BaseProducer<Said>,
    table: KafkaTable,
    topic: String,
    partition: Option<i32>,
    marker_topic: String,
    timeout: Duration,
}

impl KafkaProducer {
    fn error(&self, error: &KafkaError) -> Error {
        let code = error.rdkafka_error_code();
        let fatal = self.producer.client().fatal_error();
        // What the id was taken from this producer for is told by the marker.
        let is_fenced = matches!(code, Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced))
            || matches!(fatal, Some((RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced, _)));
        if is_fenced {
            return Error::retry("another writer has taken the transactional id, or the transaction has timed out");
        }
        match fatal {
            Some((code, reason)) => explain(&self.table, code, &reason),
            None => of_client(&self.table, error, self.producer.context().last()),
        }
    }

    fn check_delivery(&self) -> Result<()> {
        match self.producer.context().undelivered() {
            None => Ok(()),
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::Fatal) => {
                Err(self.error(&KafkaError::MessageProduction(RDKafkaErrorCode::Fatal)))
            }
            Some(code) => Err(of_record(&self.table, code)),
        }
    }

    fn send(&self, topic: &str, partition: Option<i32>, record: &super::log::Record) -> Result<()> {
        while !send(&self.producer, topic, partition, record).map_err(|code| match code {
            RDKafkaErrorCode::Fatal | RDKafkaErrorCode::State => self.error(&KafkaError::MessageProduction(code)),
            code => of_record(&self.table, code),
        })? {
            self.producer.poll(LOOK);
            self.check_delivery()?;
        }
        Ok(())
    }

    fn write(&self, objects: &mut dyn Iterator<Item = Result<Vec<u8>>>, key: &str, marker: &Marker) -> Result<()> {
        self.producer.begin_transaction().map_err(|e| self.error(&e))?;
        fail_point!("kafka::begun")?;
        for object in objects {
            for (n, record) in records(&object?).enumerate() {
                self.send(&self.topic, self.partition, &record?)?;
                if n % 1024 == 0 {
                    self.producer.poll(Duration::ZERO);
                    self.check_delivery()?;
                }
            }
        }
        fail_point!("kafka::records_sent")?;
        let value = serde_json::to_vec(marker).map_err(|e| Error::internal(e.to_string()))?;
        let record =
            super::log::Record { key: Some(key.as_bytes()), value: Some(&value), ..super::log::Record::default() };
        self.send(&self.marker_topic, None, &record)?;
        // The client's own flush looks ten times a second.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(LOOK);
            self.check_delivery()?;
        }
        self.check_delivery()?;
        fail_point!("kafka::before_commit")?;
        self.producer.commit_transaction(self.timeout).map_err(|e| self.error(&e))?;
        fail_point!("kafka::after_commit")
    }
}

impl Transactions for KafkaProducer {
    fn commit(&mut self, objects: &mut dyn Iterator<Item = Result<Vec<u8>>>, key: &str, marker: &Marker) -> Result<()> {
        self.write(objects, key, marker).inspect_err(|_| {
            // So that no reader waits for the transaction to time out. If this fails, too, who takes the id next settles it.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.producer.poll(Duration::from_millis(50));
            let _ = self.producer.abort_transaction(Duration::from_secs(2));
        })
    }
}
