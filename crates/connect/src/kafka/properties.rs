//! The options `properties.*`: how the client talks to the servers, by the names that librdkafka has for it.

use super::options::Reset;
use millstream_core::options::Options;
use millstream_core::suggest::nearest;
use millstream_core::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;

const PREFIX: &str = "properties.";

/// What the options of a table say about the client; valid for librdkafka.
#[derive(Clone)]
pub struct Properties {
    values: BTreeMap<String, String>,
    /// `properties.group.id`
    pub group_id: Option<String>,
    /// `properties.auto.offset.reset`, which says only where reading begins that the group has no offset for: a client of
    /// ours never goes elsewhere by itself.
    pub reset: Reset,
    /// `properties.commit.offsets.on.checkpoint`
    pub commits_offsets: bool,
}

impl fmt::Debug for Properties {
    /// Without the values, some of which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Names of Java's clients that librdkafka doesn't have, and what to do instead.
const JAVA: [(&str, &str); 26] = [
    ("ssl.truststore.location", "use 'properties.ssl.ca.location', a file of certificates in PEM form"),
    (
        "ssl.truststore.password",
        "use 'properties.ssl.ca.location', a file of certificates in PEM form, without a password",
    ),
    ("ssl.truststore.type", "use 'properties.ssl.ca.location', a file of certificates in PEM form"),
    ("ssl.truststore.certificates", "use 'properties.ssl.ca.pem', the certificates themselves"),
    ("ssl.keystore.type", "leave it out: 'properties.ssl.keystore.location' names a PKCS#12 file"),
    ("ssl.keystore.key", "use 'properties.ssl.key.pem', the key itself"),
    ("ssl.keystore.certificate.chain", "use 'properties.ssl.certificate.pem', the certificates themselves"),
    ("ssl.protocol", "leave it out: the best protocol that both sides have is taken"),
    ("ssl.enabled.protocols", "leave it out: the best protocol that both sides have is taken"),
    ("sasl.jaas.config", "use 'properties.sasl.username' and 'properties.sasl.password'"),
    ("sasl.client.callback.handler.class", "leave it out: Java classes can't be used"),
    ("sasl.login.callback.handler.class", "leave it out: Java classes can't be used"),
    ("key.deserializer", "leave it out: the options 'format', 'key.format' and 'value.format' say what is in messages"),
    (
        "value.deserializer",
        "leave it out: the options 'format', 'key.format' and 'value.format' say what is in messages",
    ),
    ("key.serializer", "leave it out: the options 'format', 'key.format' and 'value.format' say what is in messages"),
    ("value.serializer", "leave it out: the options 'format', 'key.format' and 'value.format' say what is in messages"),
    ("interceptor.classes", "leave it out: Java classes can't be used"),
    ("partitioner.class", "use the option 'sink.partitioner'"),
    ("max.poll.records", "leave it out: rows are handed on in batches"),
    ("max.request.size", "use 'properties.message.max.bytes'"),
    ("buffer.memory", "use 'properties.queue.buffering.max.kbytes'"),
    ("max.block.ms", "leave it out: a sink that can't write holds its input back"),
    ("default.api.timeout.ms", "use 'properties.socket.timeout.ms'"),
    ("fetch.max.wait.ms", "use 'properties.fetch.wait.max.ms'"),
    ("send.buffer.bytes", "use 'properties.socket.send.buffer.bytes'"),
    ("receive.buffer.bytes", "use 'properties.socket.receive.buffer.bytes'"),
];

/// What the connector decides by itself, and why.
const OURS: [(&str, &str); 7] = [
    ("transactional.id", "the sink has one for each of its instances; 'sink.transactional-id-prefix' names them"),
    ("enable.idempotence", "the sink needs it"),
    ("enable.partition.eof", "the source needs it"),
    ("enable.auto.offset.store", "checkpoints keep the offsets"),
    ("group.instance.id", "partitions are assigned by the job, not by the group"),
    ("partition.assignment.strategy", "partitions are assigned by the job, not by the group"),
    ("allow.auto.create.topics", "a topic that isn't there is an error"),
];

impl Properties {
    /// Reads all of them.
    pub fn read(options: &Options) -> Result<Properties> {
        options.required("properties.bootstrap.servers")?;
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in options.with_prefix(PREFIX) {
            let name = key.strip_prefix(PREFIX).unwrap_or(key);
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
                return Err(options.error(key, format!("'{name}' can't be set: {why}")));
            }
            values.insert(name.to_string(), value.trim().to_string());
        }
        let own = |key: &str| options.boolean(&format!("{PREFIX}{key}"));
        // Flink's own, which its Java client is never told.
        let commits_offsets = own("commit.offsets.on.checkpoint")?.unwrap_or(true);
        values.remove("commit.offsets.on.checkpoint");
        if values.contains_key("partition.discovery.interval.ms") {
            return Err(options
                .error(
                    "properties.partition.discovery.interval.ms",
                    "the interval is told by 'scan.topic-partition-discovery.interval'",
                )
                .hint("such as 'scan.topic-partition-discovery.interval' = '10 s'"));
        }
        if let Some(prefix) = values.remove("client.id.prefix") {
            values.entry("client.id".to_string()).or_insert(prefix);
        }
        // The group's offsets follow the checkpoints, which is what who sets these wants.
        own("enable.auto.commit")?;
        values.remove("enable.auto.commit");
        values.remove("auto.commit.interval.ms");
        let choices = [
            ("earliest", Reset::Earliest),
            ("smallest", Reset::Earliest),
            ("latest", Reset::Latest),
            ("largest", Reset::Latest),
            ("none", Reset::None),
            ("error", Reset::None),
        ];
        let reset = options.choice("properties.auto.offset.reset", &choices)?.unwrap_or(Reset::None);
        values.remove("auto.offset.reset");
        let properties = Properties { group_id: values.get("group.id").cloned(), values, reset, commits_offsets };
        properties.check(options)?;
        Ok(properties)
    }

    /// The servers, as they were given.
    pub fn servers(&self) -> &str {
        self.values.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// Refuses what librdkafka doesn't know, or takes no such value of.
    fn check(&self, options: &Options) -> Result<()> {
        for (name, value) in &self.values {
            let mut config = ClientConfig::new();
            config.set(name, value);
            match config.create_native_config() {
                Ok(_) => {}
                Err(KafkaError::ClientConfig(kind, reason, ..)) => {
                    // Of some names of Java's it knows that it doesn't take them.
                    let is_javas = JAVA.iter().any(|(java, _)| java == name);
                    if is_javas || kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
                        return Err(unknown(options, name));
                    }
                    return Err(options
                        .error(&format!("{PREFIX}{name}"), format!("'{name}' can't be set to this"))
                        .detail(reason));
                }
                Err(e) => return Err(Error::internal(format!("make a client's configuration: {e}"))),
            }
        }
        Ok(())
    }

    /// What a client is made from; what the connector decides by itself is still to be set.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.values {
            config.set(name, value);
        }
        config
    }
}

fn unknown(options: &Options, name: &str) -> Error {
    let error = options.error(&format!("{PREFIX}{name}"), format!("Kafka's client has no property '{name}'"));
    if let Some((_, instead)) = JAVA.iter().find(|(java, _)| *java == name) {
        return error.detail("it is one of Java's client; librdkafka is used here").hint(*instead);
    }
    if name.starts_with("sasl.kerberos") || name.starts_with("sasl.oauthbearer") {
        return error.detail("this program is built without Kerberos (GSSAPI) and without token requests over HTTP");
    }
    let known = known();
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean '{PREFIX}{near}'?")),
        None => error.hint("the names are those of librdkafka's CONFIGURATION.md"),
    }
}

/// The names that librdkafka shows.
fn known() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: both configurations live until they are destroyed below, and the dumps, whose entries are names and values in
    // turn, until they are freed.
    unsafe {
        let conf = native::rd_kafka_conf_new();
        let topic = native::rd_kafka_topic_conf_new();
        let mut count = 0;
        for part in 0..2 {
            let dump = match part {
                0 => native::rd_kafka_conf_dump(conf, &mut count),
                _ => native::rd_kafka_topic_conf_dump(topic, &mut count),
            };
            for i in (0..count).step_by(2) {
                names.push(CStr::from_ptr(*dump.add(i)).to_string_lossy().into_owned());
            }
            native::rd_kafka_conf_dump_free(dump, count);
        }
        native::rd_kafka_topic_conf_destroy(topic);
        native::rd_kafka_conf_destroy(conf);
    }
    names
}
