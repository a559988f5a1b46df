//! Clients of Kafka's servers: what they are made from, which topics there are, and what errors mean.

use super::options::{KafkaTable, Topics};
use millstream_core::suggest::did_you_mean;
use millstream_core::{Error, Place, Result};
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long the servers may not answer before a job starts.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// For how long all of them may be out of reach: the client tries each a few times within.
const REACHED_WITHIN: Duration = Duration::from_secs(4);
/// How long a single request is waited for, between looks at what the client has to say.
const STEP: Duration = Duration::from_millis(500);

/// Hears what a client has to say besides answers: the last trouble is kept, its log goes to ours.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    trouble: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl Hearing {
    /// The last trouble since the last call, and the client's own words for it.
    pub fn take(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    /// Notes trouble.
    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That all servers are away says less than why the last one is.
        let is_vague = code == RDKafkaErrorCode::AllBrokersDown && trouble.is_some();
        if !is_vague {
            *trouble = Some((code, reason.to_string()));
        }
    }
}

impl ClientContext for Hearing {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", "{fac}: {log_message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "kafka", "{fac}: {log_message}");
            }
        }
    }
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }
}

impl ConsumerContext for Hearing {}

/// A topic as the servers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What tells it from another of its name, before or after it; `None`: the servers, or the rights there, don't let it be
    /// known.
    pub id: Option<String>,
    /// How many partitions it has; they count from 0.
    pub partitions: i32,
    /// What may be done with it; `None`: the servers don't tell.
    pub rights: Option<Rights>,
}

/// What the servers say that one may do with a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Read its records.
    pub may_read: bool,
    /// Write records.
    pub may_write: bool,
}

impl Topic {
    /// Refuses a topic that may not be read or, with `to_write`, written; `key`: the option that names it.
    pub fn check_rights(&self, table: &KafkaTable, key: &str, to_write: bool) -> Result<()> {
        let (may, what, right) = match (self.rights, to_write) {
            (None, _) => return Ok(()),
            (Some(rights), true) => (rights.may_write, "written", "WRITE"),
            (Some(rights), false) => (rights.may_read, "read", "READ"),
        };
        if may {
            return Ok(());
        }
        Err(Error::script(format!("the topic '{}' may not be {what}", self.name))
            .at(place(table, key))
            .hint(format!("ask for the right {right} of the topic")))
    }
}

/// A partition of a topic, by name.
pub type TopicPartition = (String, i32);

/// A point of each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The first record there is.
    Begin,
    /// Behind the last record that a reader would see.
    End,
    /// The first record of this time, in milliseconds, or later; where there is none, the end.
    Time(i64),
}

/// A connection that asks about topics and offsets; it reads no records. Its calls block.
pub struct Cluster {
    consumer: BaseConsumer<Hearing>,
    table: KafkaTable,
}

/// How long a client may take to connect before it is used all the same.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The configuration of a client that neither reads nor writes, and what all others begin with.
pub fn config(table: &KafkaTable) -> ClientConfig {
    let mut config = table.properties.config();
    config.set("allow.auto.create.topics", "false");
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Has a client connect to a server of the cluster and learn of some topics before it is asked for anything else: what it
/// can't send at once it tries again half a second later. Servers that are away will be told of by what follows.
pub fn connect<'t>(client: &Client<impl ClientContext>, topics: impl IntoIterator<Item = &'t str>) {
    let topics: BTreeSet<&str> = topics.into_iter().collect();
    let start = Instant::now();
    // The first answer may be of one that only tells of the others.
    for name in topics.first().into_iter().chain(&topics) {
        let rest = CONNECT_WITHIN.saturating_sub(start.elapsed());
        if let Err(error) = client.fetch_metadata(Some(name), rest) {
            tracing::debug!(target: "kafka", "connect: {error}");
            return;
        }
    }
}

impl Cluster {
    /// A client for the servers of `table`; nothing is asked yet.
    pub fn new(table: &KafkaTable) -> Result<Cluster> {
        let mut config = config(table);
        config.set("enable.auto.commit", "false");
        // The offsets of a group are asked for by a client of that group; it never joins it. Who has none ends sooner.
        if let Some(group) = &table.properties.group_id {
            config.set("group.id", group);
        }
        let consumer = config.create_with_context(Hearing::default());
        let consumer = consumer.map_err(|e: KafkaError| refused(table, &e))?;
        Ok(Cluster { consumer, table: table.clone() })
    }

    /// Repeats a request until it is answered, or it is clear that it won't be.
    fn ask<T>(&self, what: &str, request: impl Fn(Duration) -> Result<T, KafkaError>) -> Result<T> {
        let start = Instant::now();
        let mut heard = None;
        loop {
            let outcome = request(STEP);
            while self.consumer.poll(Duration::ZERO).is_some() {}
            if let Some(trouble) = self.consumer.context().take() {
                // That all servers are away says less than why the last one is.
                let is_vague = trouble.0 == RDKafkaErrorCode::AllBrokersDown && heard.is_some();
                heard = if is_vague { heard } else { Some(trouble) };
            }
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            if !may_heal(code) {
                return Err(self.error(code, &error.to_string()).context(what));
            }
            if let Some((code, reason)) = &heard {
                let patience = if may_heal(*code) { REACHED_WITHIN } else { Duration::ZERO };
                if start.elapsed() >= patience {
                    return Err(self.error(*code, reason).context(what));
                }
            }
            if start.elapsed() >= ANSWER_WITHIN {
                return Err(self.error(code, &error.to_string()).context(what));
            }
            // What failed at once is not asked again at once.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// An error of the servers', or on the way to them, as this table's.
    pub fn error(&self, code: RDKafkaErrorCode, reason: &str) -> Error {
        explain(&self.table, code, reason)
    }

    /// The table's topics that there are, by name; an error if one that is named isn't there, or may not be seen. No topic may
    /// match a pattern yet.
    pub fn topics(&self) -> Result<Vec<Topic>> {
        let (found, all) = self.find(|name| self.table.topics.contains(name))?;
        if let Topics::List(names) = &self.table.topics
            && let Some(name) = names.iter().find(|name| !found.iter().any(|topic| topic.name == **name))
        {
            return Err(self.absent(name, all.iter().map(String::as_str)));
        }
        Ok(found)
    }

    /// The topics of those names that there are, by name, and the names of all.
    pub fn find(&self, is_wanted: impl Fn(&str) -> bool) -> Result<(Vec<Topic>, Vec<String>)> {
        let all = self.ask("look up topics", |timeout| self.consumer.fetch_metadata(None, timeout))?;
        let mut found: BTreeMap<String, Topic> = BTreeMap::new();
        for topic in all.topics().iter().filter(|topic| is_wanted(topic.name()) && topic.error().is_none()) {
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            let name = topic.name().to_string();
            found.insert(name.clone(), Topic { name, id: None, partitions, rights: None });
        }
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        for (name, id, rights) in self.described(&names) {
            if let Some(topic) = found.get_mut(&name) {
                (topic.id, topic.rights) = (id, rights);
            }
        }
        Ok((found.into_values().collect(), all.topics().iter().map(|topic| topic.name().to_string()).collect()))
    }

    /// Why the topic `name` is not among `all`.
    fn absent<'t>(&self, name: &str, all: impl Iterator<Item = &'t str>) -> Error {
        // Of all topics only those are shown that may be seen; asked for by name, the reason is.
        let asked = self.ask("look up a topic", |timeout| self.consumer.fetch_metadata(Some(name), timeout));
        let code = match &asked {
            Ok(answer) => answer.topics().iter().find(|t| t.name() == name).and_then(|t| t.error()),
            Err(error) => return error.clone(),
        };
        let unknown = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        let code = RDKafkaErrorCode::from(code.unwrap_or(unknown));
        if code != RDKafkaErrorCode::UnknownTopicOrPartition {
            return self.error(code, &format!("topic '{name}'"));
        }
        let error = Error::script(format!("there is no topic '{name}' at {}", self.table.properties.servers()));
        let error = error.at(place(&self.table, "topic"));
        match did_you_mean(name, all.filter(|n| !n.starts_with("__"))) {
            Some(hint) => error.hint(hint),
            None => error.hint("create it first: topics are never made by themselves"),
        }
    }

    /// The ids of topics and what may be done with them, as far as the servers tell.
    fn described(&self, names: &[&str]) -> Vec<(String, Option<String>, Option<Rights>)> {
        if names.is_empty() {
            return Vec::new();
        }
        let texts: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
        let mut pointers: Vec<*const std::os::raw::c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let client = self.consumer.client().native_ptr();
        let mut found = Vec::new();
        // SAFETY: the names outlive the request; the queue, the options, the collection and the event are destroyed once
        // each, after their last use, and what is read of the event's is copied before.
        unsafe {
            let queue = native::rd_kafka_queue_new(client);
            let options = native::rd_kafka_AdminOptions_new(
                client,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            );
            let refused = native::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !refused.is_null() {
                native::rd_kafka_error_destroy(refused);
            }
            let collection = native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            native::rd_kafka_DescribeTopics(client, collection, options, queue);
            let event = native::rd_kafka_queue_poll(queue, ANSWER_WITHIN.as_millis() as i32);
            if !event.is_null() {
                let result = native::rd_kafka_event_DescribeTopics_result(event);
                let mut count = 0;
                let topics = match result.is_null() {
                    true => std::ptr::null_mut(),
                    false => native::rd_kafka_DescribeTopics_result_topics(result, &mut count),
                };
                for i in 0..count {
                    let topic = *topics.add(i);
                    let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
                    let id = native::rd_kafka_TopicDescription_topic_id(topic);
                    let is_known = !id.is_null()
                        && (native::rd_kafka_Uuid_most_significant_bits(id) != 0
                            || native::rd_kafka_Uuid_least_significant_bits(id) != 0);
                    let id = is_known
                        .then(|| CStr::from_ptr(native::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned());
                    let mut operations_count = 0;
                    let operations =
                        native::rd_kafka_TopicDescription_authorized_operations(topic, &mut operations_count);
                    let rights = (!operations.is_null() && operations_count > 0).then(|| {
                        use native::rd_kafka_AclOperation_t::{
                            RD_KAFKA_ACL_OPERATION_ALL, RD_KAFKA_ACL_OPERATION_READ, RD_KAFKA_ACL_OPERATION_WRITE,
                        };
                        let all = std::slice::from_raw_parts(operations, operations_count);
                        let may = |wanted| all.iter().any(|o| *o == wanted || *o == RD_KAFKA_ACL_OPERATION_ALL);
                        Rights {
                            may_read: may(RD_KAFKA_ACL_OPERATION_READ),
                            may_write: may(RD_KAFKA_ACL_OPERATION_WRITE),
                        }
                    });
                    found.push((name.to_string_lossy().into_owned(), id, rights));
                }
                native::rd_kafka_event_destroy(event);
            }
            native::rd_kafka_TopicCollection_destroy(collection);
            native::rd_kafka_AdminOptions_destroy(options);
            native::rd_kafka_queue_destroy(queue);
        }
        found
    }

    /// The offsets of a point of each of `partitions`.
    pub fn offsets(&self, partitions: &[TopicPartition], point: Point) -> Result<BTreeMap<TopicPartition, i64>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let at = match point {
            Point::Begin => Offset::Beginning,
            Point::End => Offset::End,
            Point::Time(ms) => Offset::Offset(ms.max(0)),
        };
        let wanted = list(partitions, at);
        let what = "look up offsets";
        let answer = self.ask(what, |timeout| self.consumer.offsets_for_times(wanted.clone(), timeout.max(STEP)))?;
        let mut found = BTreeMap::new();
        let mut beyond = Vec::new();
        for element in answer.elements() {
            let partition = (element.topic().to_string(), element.partition());
            if let Err(error) = element.error() {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                return Err(self.error(code, &format!("topic '{}', partition {}", partition.0, partition.1)));
            }
            match element.offset() {
                Offset::Offset(offset) => {
                    found.insert(partition, offset);
                }
                // No record is that late.
                _ => beyond.push(partition),
            }
        }
        if !beyond.is_empty() && matches!(point, Point::Time(_)) {
            found.extend(self.offsets(&beyond, Point::End)?);
        }
        Ok(found)
    }

    /// Where the consumer group stands in each of `partitions`; those that it has no offset for are left out.
    pub fn committed(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let wanted = list(partitions, Offset::Invalid);
        let what = "look up the group's offsets";
        let answer = self.ask(what, |timeout| self.consumer.committed_offsets(wanted.clone(), timeout.max(STEP)))?;
        let mut found = BTreeMap::new();
        for element in answer.elements() {
            if let Offset::Offset(offset) = element.offset() {
                found.insert((element.topic().to_string(), element.partition()), offset);
            }
        }
        Ok(found)
    }
}

fn list(partitions: &[TopicPartition], offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        // It fails only for a partition that isn't in the list.
        let _ = list.add_partition_offset(topic, *partition, offset);
    }
    list
}

/// Where an option of the table is.
pub fn place(table: &KafkaTable, key: &str) -> Place {
    Place::Option { table: table.table.clone(), key: key.to_string(), at: None }
}

/// A client that can't be made: settings that don't go together, files that aren't there.
pub fn refused(table: &KafkaTable, error: &KafkaError) -> Error {
    let reason = match error {
        KafkaError::ClientCreation(reason) => reason.clone(),
        KafkaError::ClientConfig(_, reason, ..) => reason.clone(),
        other => other.to_string(),
    };
    Error::script("Kafka's client can't be made from the options 'properties.*'")
        .at(place(table, "properties.*"))
        .detail(reason)
}

/// Whether asking again can help.
pub fn may_heal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    !matches!(
        code,
        Authentication
            | SSL
            | SaslAuthenticationFailed
            | UnsupportedSASLMechanism
            | IllegalSASLState
            | TopicAuthorizationFailed
            | GroupAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
            | InvalidTopic
            | InvalidGroupId
            | UnsupportedVersion
            | UnsupportedFeature
            | InvalidArgument
            | InvalidTransactionTimeout
    )
}

/// An error of the servers', or on the way to them, in this table's words. `reason`: the client's own.
pub fn explain(table: &KafkaTable, code: RDKafkaErrorCode, reason: &str) -> Error {
    explain_of(table, code, reason, "topic")
}

/// The same about the topic that the option `topic_key` names.
pub fn explain_of(table: &KafkaTable, code: RDKafkaErrorCode, reason: &str, topic_key: &str) -> Error {
    use RDKafkaErrorCode::*;
    let servers = table.properties.servers();
    let (error, key) = match code {
        Authentication | SaslAuthenticationFailed | UnsupportedSASLMechanism | IllegalSASLState => (
            Error::script(format!("the servers {servers} don't take who is asking"))
                .hint("check 'properties.security.protocol', 'properties.sasl.mechanism' and user and password"),
            "properties.sasl.username",
        ),
        SSL => (
            Error::script(format!("no encrypted connection to {servers} can be made"))
                .hint("check 'properties.security.protocol' and 'properties.ssl.ca.location'"),
            "properties.security.protocol",
        ),
        TopicAuthorizationFailed => (
            Error::script("the topic may not be used")
                .hint("ask for the right to describe and read it, or to write it"),
            topic_key,
        ),
        GroupAuthorizationFailed => (
            Error::script("the consumer group may not be used").hint("ask for the right to read it"),
            "properties.group.id",
        ),
        TransactionalIdAuthorizationFailed | ClusterAuthorizationFailed => (
            Error::script("transactions of this name may not be used").hint("ask for the right to write them"),
            "sink.transactional-id-prefix",
        ),
        InvalidTransactionTimeout => (
            Error::script(format!("the servers {servers} allow no transactions that may be open for so long"))
                .hint("set it below the servers' 'transaction.max.timeout.ms'"),
            "properties.transaction.timeout.ms",
        ),
        BrokerTransportFailure | AllBrokersDown | Resolve | OperationTimedOut | TimedOutQueue | NodeUpdate => (
            Error::retry(format!("no Kafka server answers at {servers}"))
                .hint("check 'properties.bootstrap.servers', and 'properties.security.protocol' if the servers want encryption"),
            "properties.bootstrap.servers",
        ),
        _ if may_heal(code) => (Error::retry(format!("Kafka at {servers} says: {code}")), "properties.bootstrap.servers"),
        _ => (Error::data(format!("Kafka at {servers} says: {code}")), "properties.bootstrap.servers"),
    };
    error.at(place(table, key)).detail(reason)
}
