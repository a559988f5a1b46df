//! The protocol's view of Kafka, by rdkafka: transactional producers and the marker topic.

use super::log::{Record, records};
use super::outlet::{Outlet, Outlets, Parcel, hear, is_flushed};
use super::protocol::{Cluster, Marker, Transactions};
use super::watch::{TopicWatch, Unconfirmed};
use crate::kafka::client::{self, explain, explain_of, place, refused};
use crate::kafka::options::{KafkaTable, Partitioner, Topics};
use futures::executor::block_on;
use millstream_core::metrics::MetricsRef;
use millstream_core::{Error, Place, Result, fail_point};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, Producer, ProducerContext, PurgeConfig};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a single call waits for the servers.
const CALL: Duration = Duration::from_secs(15);
/// Between looks at what the client has to say, while the last records are under way.
const LOOK: Duration = Duration::from_millis(50);
/// Between tries to hand over records that there was no room for.
const ROOM: Duration = Duration::from_millis(5);
/// Records that are handed over at once.
const PARCEL: usize = 512;
/// After which time the servers end a transaction by themselves, if the table doesn't say: for so long readers of committed
/// records may wait for a writer that was killed.
const TRANSACTION_MS: u64 = 10_000;
/// How long it may become where transactions don't get through in this time.
const TRANSACTION_MS_MAX: u64 = 60_000;
/// The option that names the marker topic.
const MARKER_TOPIC_KEY: &str = "sink.marker-topic";
/// How short, where the servers allow no longer ones.
const TRANSACTION_MS_MIN: u64 = 1_000;

/// What a producer's callbacks leave behind, the first record that could not be written and the last trouble; and how many
/// records it was given.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    trouble: Arc<Mutex<Trouble>>,
    sent: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Trouble {
    undelivered: Option<RDKafkaErrorCode>,
    last: Option<(RDKafkaErrorCode, String)>,
}

impl Said {
    fn lock(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Notes so many records that the client has taken.
    pub(super) fn note_sent(&self, records: usize) {
        self.sent.fetch_add(records as u64, Ordering::Relaxed);
    }
    /// How many of the records are no longer under way, or fewer.
    pub(super) fn confirmed<C>(&self, producer: &BaseProducer<C>) -> u64
    where
        C: ProducerContext<NoCustomPartitioner>,
    {
        let sent = self.sent.load(Ordering::Acquire);
        sent.saturating_sub(u64::try_from(producer.in_flight_count()).unwrap_or(0))
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
    // A record that has arrived needs no word of its own: what is still under way is counted.
    config.set("enable.idempotence", "true").set("delivery.report.only.error", "true");
    if config.get("partitioner").is_none() {
        // As Java's clients, so that a key is in the same partition whoever writes it.
        config.set("partitioner", "murmur2_random");
    }
    config
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
    marker_topic: String,
    metrics: MetricsRef,
    /// Whether the topics are still there.
    pub(super) watch: Arc<TopicWatch>,
    /// `None`: the table says it.
    timeout: Option<Arc<TransactionTimeout>>,
    /// Two consumers of the marker topic: one sees what is committed, the other one all there is.
    readers: Mutex<Option<(BaseConsumer<Said>, BaseConsumer<Said>)>>,
}

impl KafkaCluster {
    pub(super) fn new(table: &KafkaTable, marker_topic: &str, metrics: MetricsRef) -> Self {
        let is_told = producer_config(table).get("transaction.timeout.ms").is_some();
        KafkaCluster {
            watch: Arc::new(TopicWatch::new(table)),
            timeout: (!is_told).then(Arc::default),
            marker_topic: marker_topic.to_string(),
            table: table.clone(),
            metrics,
            readers: Mutex::new(None),
        }
    }

    /// A producer that has the id, and how long its transactions may be open.
    fn init(&self, id: &str) -> Result<(BaseProducer<Said>, Duration)> {
        loop {
            let mut config = producer_config(&self.table);
            config.set("transactional.id", id);
            let told_ms = |config: &ClientConfig, key: &str| config.get(key).and_then(|v| v.parse::<u64>().ok());
            let transaction_ms = match &self.timeout {
                Some(timeout) => timeout.get_ms(),
                None => told_ms(&config, "transaction.timeout.ms").unwrap_or(TRANSACTION_MS),
            };
            let message_ms = told_ms(&config, "message.timeout.ms").filter(|ms| *ms > 0).unwrap_or(transaction_ms);
            config.set("transaction.timeout.ms", transaction_ms.to_string());
            config.set("message.timeout.ms", message_ms.min(transaction_ms).to_string());
            let producer: BaseProducer<Said> =
                config.create_with_context(Said::default()).map_err(|e| refused(&self.table, &e))?;
            client::connect(producer.client(), self.table.topics.named().first().map(String::as_str));
            let Err(error) = producer.init_transactions(CALL) else {
                return Ok((producer, Duration::from_millis(transaction_ms)));
            };
            hear(&producer);
            let fatal = producer.client().fatal_error();
            let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
            let is_too_long = code == Some(RDKafkaErrorCode::InvalidTransactionTimeout);
            if is_too_long && self.timeout.as_ref().is_some_and(|timeout| timeout.shorten(transaction_ms)) {
                continue;
            }
            let error = match fatal {
                Some((code, reason)) => explain(&self.table, code, &reason),
                None => self.error(&error, producer.context()),
            };
            return Err(error.context("take a transactional id"));
        }
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
        // That nothing more is there is told when the servers have waited so long for more.
        config.set("fetch.wait.max.ms", "10");
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
                    return Err(explain_of(&self.table, code, &format!("topic '{topic}'"), MARKER_TOPIC_KEY));
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
                        let marker = Marker::decode(value).map_err(|e| e.at(self.marker_place()))?;
                        // In a topic whose number of partitions was changed a key has more than one.
                        let is_later = |m: &Marker| m.order() <= marker.order();
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
}

/// Errors that the client goes on after by itself. The group of these readers is only a name: no right to it is needed.
fn is_passing(error: &KafkaError) -> bool {
    let is_optional = |code| client::may_heal(code) || code == RDKafkaErrorCode::GroupAuthorizationFailed;
    error.rdkafka_error_code().is_none_or(is_optional)
}

impl Cluster for KafkaCluster {
    type Producer = KafkaProducer;

    fn take(&self, id: &str) -> Result<KafkaProducer> {
        let (producer, timeout) = self.init(id)?;
        let slot = id.rsplit('/').next().and_then(|slot| slot.parse().ok()).unwrap_or(0);
        Ok(KafkaProducer {
            outlets: Outlets::new(&self.table, slot, &self.watch),
            unconfirmed: Unconfirmed::new(self.metrics.clone()),
            producer,
            table: self.table.clone(),
            marker_topic: self.marker_topic.clone(),
            watch: self.watch.clone(),
            longer: self.timeout.clone(),
            timeout,
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
        // One that is there needs no right to make it.
        let markers = Topics::List(vec![self.marker_topic.clone()]);
        let of_markers = KafkaTable { topics: markers, ..self.table.clone() };
        let is_there = match client::Cluster::new(&of_markers).and_then(|cluster| cluster.topics()) {
            Ok(topics) => {
                for topic in &topics {
                    topic.check_rights(&self.table, MARKER_TOPIC_KEY, false)?;
                    topic.check_rights(&self.table, MARKER_TOPIC_KEY, true)?;
                }
                true
            }
            Err(error) if error.message().starts_with("there is no topic") => false,
            Err(error) => return Err(error),
        };
        let topic = NewTopic::new(&self.marker_topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
        let made = match is_there {
            true => Vec::new(),
            false => block_on(admin.create_topics([&topic], &options)).map_err(failed)?,
        };
        for outcome in made {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => {
                    let reason = format!("the topic '{}' can't be made", self.marker_topic);
                    return Err(explain_of(&self.table, code, &reason, MARKER_TOPIC_KEY)
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

    fn renewed(&self, topics: &BTreeMap<String, String>) -> Result<Vec<String>> {
        self.watch.renewed(topics)
    }
}

/// How long transactions may be open where the table doesn't say: longer where they don't get through, shorter where the
/// servers take no longer ones.
pub(super) struct TransactionTimeout {
    now_ms: AtomicU64,
    most_ms: AtomicU64,
}

impl Default for TransactionTimeout {
    fn default() -> Self {
        TransactionTimeout { now_ms: AtomicU64::new(TRANSACTION_MS), most_ms: AtomicU64::new(TRANSACTION_MS_MAX) }
    }
}

impl TransactionTimeout {
    fn get_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed).min(self.most_ms.load(Ordering::Relaxed))
    }
    /// One that was open for `open` has failed.
    fn failed_after(&self, open: Duration, timeout: Duration) {
        if open >= timeout {
            let twice = (timeout.as_millis() as u64).saturating_mul(2);
            self.now_ms.fetch_max(twice.min(TRANSACTION_MS_MAX), Ordering::Relaxed);
        }
    }
    /// The servers refuse one of `ms`; whether a shorter one is left.
    fn shorten(&self, ms: u64) -> bool {
        self.most_ms.fetch_min((ms / 2).max(TRANSACTION_MS_MIN), Ordering::Relaxed);
        ms > TRANSACTION_MS_MIN
    }
}

/// Writes under one transactional id.
pub(super) struct KafkaProducer {
    /// Declared before the producer, which they must not outlive.
    outlets: Outlets,
    producer: BaseProducer<Said>,
    table: KafkaTable,
    marker_topic: String,
    watch: Arc<TopicWatch>,
    unconfirmed: Unconfirmed,
    timeout: Duration,
    /// Made longer by transactions that don't get through in time.
    longer: Option<Arc<TransactionTimeout>>,
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

    /// Hears what has become of the records that were sent.
    fn hear(&self) -> Result<()> {
        hear(&self.producer);
        self.check_delivery()?;
        let confirmed = self.producer.context().confirmed(&self.producer);
        if self.unconfirmed.is_stuck(confirmed) { self.watch.look() } else { Ok(()) }
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

    /// Hands records over, again and again until all are. `step`: hands over what there is room for, tells how many these are
    /// and whether that was all.
    fn hand_over(&self, mut step: impl FnMut() -> std::result::Result<(usize, bool), RDKafkaErrorCode>) -> Result<()> {
        loop {
            let (sent, is_all) = step().map_err(|code| match code {
                RDKafkaErrorCode::Fatal | RDKafkaErrorCode::State => self.error(&KafkaError::MessageProduction(code)),
                code => of_record(&self.table, code),
            })?;
            self.producer.context().note_sent(sent);
            if is_all {
                return Ok(());
            }
            std::thread::sleep(ROOM);
            self.hear()?;
        }
    }

    fn send(&self, topic: &Outlet, record: &Record) -> Result<()> {
        self.hand_over(|| topic.send(&self.producer, record).map(|is_sent| (usize::from(is_sent), is_sent)))
    }

    fn send_all(&self, topic: &Outlet, parcel: &mut Parcel<'_>) -> Result<()> {
        self.hand_over(|| topic.send_all(parcel).map(|sent| (sent, parcel.is_empty())))
    }

    /// Writes the records of an object of the log, each topic's in their order.
    fn write_object(&self, object: &[u8]) -> Result<()> {
        let mut parcels: BTreeMap<Option<&str>, (Arc<Outlet>, Parcel<'_>)> = BTreeMap::new();
        for (n, record) in records(object).enumerate() {
            let record = record?;
            let (topic, parcel) = match parcels.entry(record.topic) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let outlet = self.outlets.of(self.producer.client(), record.topic)?;
                    new.insert((outlet, Parcel::default()))
                }
            };
            let is_taken = parcel.take(&record);
            if !is_taken || parcel.len() >= PARCEL {
                self.send_all(topic, parcel)?;
            }
            if !is_taken {
                self.send(topic, &record)?;
            }
            if n % PARCEL == 0 {
                self.hear()?;
            }
        }
        parcels.into_values().try_for_each(|(topic, mut parcel)| self.send_all(&topic, &mut parcel))
    }

    fn write(&self, objects: &mut dyn Iterator<Item = Result<Vec<u8>>>, key: &str, marker: &Marker) -> Result<()> {
        self.producer.begin_transaction().map_err(|e| self.error(&e))?;
        fail_point!("kafka::begun")?;
        for object in objects {
            self.write_object(&object?)?;
        }
        fail_point!("kafka::records_sent")?;
        let marker = Marker { topics: self.watch.ids(), ..marker.clone() };
        let value = serde_json::to_vec(&marker).map_err(|e| Error::internal(e.to_string()))?;
        let record = Record { key: Some(key.as_bytes()), value: Some(&value), ..Record::default() };
        self.send(&Outlet::new(self.producer.client(), &self.marker_topic, None)?, &record)?;
        while !is_flushed(&self.producer, LOOK) {
            self.hear()?;
        }
        self.check_delivery()?;
        fail_point!("kafka::before_commit")?;
        self.producer.commit_transaction(self.timeout).map_err(|e| self.error(&e))?;
        fail_point!("kafka::after_commit")
    }
}

impl Transactions for KafkaProducer {
    fn commit(&mut self, objects: &mut dyn Iterator<Item = Result<Vec<u8>>>, key: &str, marker: &Marker) -> Result<()> {
        self.unconfirmed.begin(self.producer.context().confirmed(&self.producer));
        let begun = Instant::now();
        self.write(objects, key, marker).map_err(|error| {
            if let Some(longer) = &self.longer {
                longer.failed_after(begun.elapsed(), self.timeout);
            }
            // So that no reader waits for the transaction to time out. If this fails, too, who takes the id next settles it.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.producer.poll(Duration::from_millis(50));
            let _ = self.producer.abort_transaction(Duration::from_secs(2));
            // It may be that no repetition helps.
            self.watch.look().err().unwrap_or(error)
        })
    }
}
