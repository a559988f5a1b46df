//! Apache Kafka: one node of one's own, on free loopback ports, that can be stopped, killed and started again over its data.
//!
//! `cargo xtask test` installs the server and names the folder of its jars in `MILLSTREAM_KAFKA`; without it the tests that
//! need it say that they did nothing.

mod cluster;

pub use cluster::Cluster;

use crate::proxy::Proxy;
use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::fmt::Write;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The variable that names the folder of the server's jars.
pub const VARIABLE: &str = "MILLSTREAM_KAFKA";

/// For how long anything may take.
const DEADLINE: Duration = Duration::from_secs(100);

/// What a server of one node needs, and what makes tests short.
const SETTINGS: [(&str, &str); 24] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    ("num.partitions", "1"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
    // Topics are made by who needs them; and what retention removes is removed soon.
    ("auto.create.topics.enable", "false"),
    ("log.retention.check.interval.ms", "1000"),
    // Tests write records of any time.
    ("log.retention.ms", "-1"),
    ("log.initial.task.delay.ms", "500"),
    ("log.segment.delete.delay.ms", "100"),
    ("controlled.shutdown.enable", "false"),
    // Limits of clients take effect at once.
    ("quota.window.num", "2"),
];

/// A server; it ends with the value, and with the process that started it.
pub struct Broker {
    jars: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    /// What clients come by: its own address, or those of all servers of its cluster.
    bootstrap: String,
    process: Option<Watched>,
}

/// A process that is killed when the process that started it is gone, however that ended.
struct Watched {
    child: Child,
    watch: Child,
}

impl Watched {
    fn spawn(command: &mut Command) -> Watched {
        let child = command.stdin(Stdio::null()).spawn().expect("start java");
        // The end of its standard input is the end of this process, which holds the other side.
        let script = "read -r _; kill -9 \"$0\" 2>/dev/null";
        let watch = Command::new("sh").args(["-c", script, &child.id().to_string()]).stdin(Stdio::piped()).spawn();
        Watched { child, watch: watch.expect("start sh") }
    }
    fn end(mut self, signal: libc::c_int) {
        // The watch goes first: the id may soon be another's.
        let _ = self.watch.kill();
        let _ = self.watch.wait();
        // SAFETY: a plain system call without pointers, on a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        let _ = self.child.wait();
    }
}

impl Broker {
    /// A server of one's own, empty; `None`, and a word about it, if none is installed.
    pub fn start() -> Option<Broker> {
        Broker::start_with(&[])
    }

    /// [`Broker::start`] with more settings (of `server.properties`), or others than the usual ones.
    pub fn start_with(settings: &[(&str, &str)]) -> Option<Broker> {
        Broker::start_formatted(settings, &[])
    }

    /// A server that tells its clients to come by way of `proxy`.
    pub fn start_behind(proxy: &Proxy) -> Option<Broker> {
        let (client, proxied) = ("PLAINTEXT://127.0.0.1", proxy.port());
        let advertised = format!("{client}:{proxied},CONTROLLER://127.0.0.1:${{CONTROLLER}}");
        let broker = Broker::start_with(&[("advertised.listeners", &advertised)])?;
        proxy.lead_to(broker.port);
        Some(broker)
    }

    /// [`Broker::start_with`] over data that were formatted with more arguments. `${PORT}`, `${CONTROLLER}` stand for ports.
    pub(crate) fn start_formatted(settings: &[(&str, &str)], format: &[&str]) -> Option<Broker> {
        Some(Broker::start_from(&jars()?, settings, format))
    }

    /// [`Broker::start_with`] by the jars in a folder, over data that were formatted with more arguments.
    pub fn start_from(jars: &Path, settings: &[(&str, &str)], format: &[&str]) -> Broker {
        let [port, controller] = free_ports();
        let alone = [("controller.quorum.bootstrap.servers", "127.0.0.1:${CONTROLLER}")];
        let format: Vec<&str> = ["--standalone"].iter().chain(format).copied().collect();
        let settings: Vec<(&str, &str)> = alone.iter().chain(settings).copied().collect();
        let mut broker = Broker::formatted(jars, (port, controller), &settings, &format);
        broker.restart();
        broker
    }

    /// A server that doesn't run yet, for clients at the one port and controllers at the other.
    fn formatted(jars: &Path, (port, controller): (u16, u16), settings: &[(&str, &str)], format: &[&str]) -> Broker {
        let folder = tempfile::tempdir().unwrap();
        let bootstrap = format!("127.0.0.1:{port}");
        let broker = Broker { jars: jars.to_path_buf(), folder, port, bootstrap, process: None };
        let mut all: Vec<(String, String)> = SETTINGS.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut set = |key: &str, value: String| {
            all.retain(|(known, _)| known != key);
            all.push((key.to_string(), value));
        };
        set("listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"));
        set("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"));
        set("log.dirs", broker.data().display().to_string());
        let ports =
            |value: &str| value.replace("${PORT}", &port.to_string()).replace("${CONTROLLER}", &controller.to_string());
        settings.iter().for_each(|(key, value)| set(key, ports(value)));
        let text = all.iter().fold(String::new(), |mut text, (key, value)| {
            writeln!(text, "{key}={value}").unwrap();
            text
        });
        std::fs::write(broker.settings(), text).unwrap();
        std::fs::write(broker.file("log4j2.properties"), LOGGING).unwrap();
        let mut tool = broker.java("kafka.tools.StorageTool");
        tool.args(["format", "-t", "bWlsbHN0cmVhbS10ZXN0cw"]).args(format);
        let output = tool.arg("-c").arg(broker.settings()).stdin(Stdio::null()).output().expect("start java");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        broker
    }

    /// The server that the tests of this process share; topics are told apart by [`unique`] names. It is never stopped while
    /// they run.
    pub fn shared() -> Option<&'static Broker> {
        static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
        SHARED.get_or_init(Broker::start).as_ref()
    }

    /// `127.0.0.1:PORT`, of all servers of its cluster, for `bootstrap.servers`.
    pub fn servers(&self) -> String {
        self.bootstrap.clone()
    }

    /// Where the logs of its partitions are, such as `TOPIC-0`.
    pub fn data(&self) -> PathBuf {
        self.file("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> PathBuf {
        self.file("server.properties")
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.file("said")).unwrap_or_default()
    }

    /// A program of Kafka's.
    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.file("log4j2.properties").display()));
        command.arg("-cp").arg(self.jars.join("*")).arg(class).current_dir(self.folder.path());
        command
    }

    /// Starts it over its data, and waits until it answers; it must not be running.
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        let log = File::options().create(true).append(true).open(self.file("said")).unwrap();
        let mut command = self.java("kafka.Kafka");
        command.arg(self.settings()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Watched::spawn(&mut command));
    }

    /// Waits until it serves clients.
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        // Of a cluster another one might answer.
        let consumer: BaseConsumer =
            self.client().set("bootstrap.servers", format!("127.0.0.1:{}", self.port)).create().unwrap();
        while consumer.fetch_metadata(None, Duration::from_millis(500)).is_err() {
            let ended = self.process.as_mut().and_then(|p| p.child.try_wait().unwrap());
            assert!(ended.is_none() && Instant::now() < deadline, "the server doesn't answer: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it in order, if it runs.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(libc::SIGTERM);
        }
    }

    /// Stops it at once (SIGKILL), if it runs.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(libc::SIGKILL);
        }
    }

    /// Sends it a signal, such as SIGSTOP and SIGCONT.
    pub fn signal(&self, signal: libc::c_int) {
        if let Some(process) = &self.process {
            // SAFETY: a plain system call without pointers, on a child that has not been waited for.
            unsafe { libc::kill(process.child.id() as libc::pid_t, signal) };
        }
    }

    /// What a client of it is made from.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.servers()).set_log_level(RDKafkaLogLevel::Critical);
        config.set("reconnect.backoff.max.ms", "500");
        config
    }

    /// Changes topics.
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Makes a topic, replicated as the servers' settings say, and waits until it can be written.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[]);
    }

    /// [`Broker::create_topic`] with settings of the topic's.
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let made = block_on(self.admin().create_topics([&topic], &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|outcome| {
            outcome.unwrap_or_else(|e| panic!("{e:?}"));
        });
        self.wait_for_partitions(name, partitions);
    }

    /// Gives a topic these settings, and no others.
    pub fn configure_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(name));
        let config = settings.iter().fold(config, |config, (key, value)| config.set(key, value));
        let changed = block_on(self.admin().alter_configs([&config], &AdminOptions::new())).unwrap();
        changed.into_iter().for_each(|outcome| {
            outcome.unwrap_or_else(|e| panic!("{e:?}"));
        });
    }

    /// Limits what the clients of a name may write, bytes a second; `None`: no longer.
    pub fn limit_client(&self, client: &str, bytes_per_second: Option<u64>) {
        let mut tool = self.java("kafka.admin.ConfigCommand");
        tool.args([
            "--bootstrap-server",
            &self.servers(),
            "--alter",
            "--entity-type",
            "clients",
            "--entity-name",
            client,
        ]);
        match bytes_per_second {
            Some(rate) => tool.args(["--add-config", &format!("producer_byte_rate={rate}")]),
            None => tool.args(["--delete-config", "producer_byte_rate"]),
        };
        let output = tool.stdin(Stdio::null()).output().expect("start java");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until a topic has so many partitions, each with a leader.
    pub fn wait_for_partitions(&self, name: &str, partitions: i32) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        wait_for(&format!("{partitions} partitions of {name}"), || {
            let metadata = consumer.fetch_metadata(Some(name), Duration::from_secs(1)).ok()?;
            let all = metadata.topics().first()?.partitions();
            let led = all.iter().filter(|p| p.leader() >= 0 && p.error().is_none()).count();
            (led == partitions as usize).then_some(())
        });
    }

    /// Gives a topic more partitions; `partitions` in all.
    pub fn add_partitions(&self, name: &str, partitions: i32) {
        let more = NewPartitions::new(name, partitions as usize);
        let made = block_on(self.admin().create_partitions([&more], &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|outcome| {
            outcome.unwrap_or_else(|e| panic!("{e:?}"));
        });
        self.wait_for_partitions(name, partitions);
    }

    /// Removes a topic and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        let gone = block_on(self.admin().delete_topics(&[name], &AdminOptions::new())).unwrap();
        gone.into_iter().for_each(|outcome| {
            outcome.unwrap_or_else(|e| panic!("{e:?}"));
        });
        let consumer: BaseConsumer = self.client().create().unwrap();
        wait_for(&format!("the end of {name}"), || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(1)).ok()?;
            metadata.topics().iter().all(|topic| topic.name() != name).then_some(())
        });
    }

    /// Removes the records of a partition before `offset`, as retention does.
    pub fn delete_records(&self, name: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(offset)).unwrap();
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
        let consumer: BaseConsumer = self.client().create().unwrap();
        wait_for("the first offset", || {
            let low = consumer.fetch_watermarks(name, partition, Duration::from_secs(1)).ok()?.0;
            (low >= offset).then_some(())
        });
    }

    /// Removes all records of a topic's only partition.
    pub fn truncate(&self, name: &str) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let end = consumer.fetch_watermarks(name, 0, DEADLINE).unwrap().1;
        self.delete_records(name, 0, end);
    }

    /// Writes records, each confirmed by the server before this returns.
    pub fn produce(&self, records: &[Record]) {
        let producer: BaseProducer = self.client().set("linger.ms", "5").create().unwrap();
        for record in records {
            let mut base = BaseRecord::<[u8], [u8]>::to(&record.topic);
            base.partition = record.partition;
            base.key = record.key.as_deref();
            base.payload = record.value.as_deref();
            base.timestamp = record.timestamp_ms;
            if !record.headers.is_empty() {
                let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(rdkafka::message::Header { key, value: Some(value.as_slice()) })
                });
                base.headers = Some(headers);
            }
            while let Err((error, back)) = producer.send(base) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                producer.poll(Duration::from_millis(10));
                base = back;
            }
        }
        producer.flush(DEADLINE).unwrap();
    }

    /// All records of a topic that a reader sees who takes only what is committed: partition by partition, in the order of
    /// their offsets, up to where each partition ends now. By a plain consumer.
    pub fn read_committed(&self, topic: &str) -> Vec<Record> {
        self.read_with(topic, "read_committed")
    }

    /// [`Broker::read_committed`] by `isolation.level`.
    pub fn read_with(&self, topic: &str, isolation: &str) -> Vec<Record> {
        let mut config = self.client();
        config.set("group.id", "millstream-tests").set("enable.auto.commit", "false");
        config.set("isolation.level", isolation).set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
        let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut found: Vec<(i32, i64, Record)> = Vec::new();
        let mut at_end = std::collections::BTreeSet::new();
        let deadline = Instant::now() + DEADLINE;
        while at_end.len() < partitions.len() {
            assert!(Instant::now() < deadline, "{topic} has no end: {} records so far", found.len());
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    at_end.insert(partition);
                }
                Some(Err(error)) => panic!("{error}"),
                Some(Ok(message)) => found.push((message.partition(), message.offset(), Record::of(&message))),
            }
        }
        found.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        found.into_iter().map(|(_, _, record)| record).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the server's jars; `None`, and a word about it, if there is none.
fn jars() -> Option<PathBuf> {
    let jars = std::env::var_os(VARIABLE);
    if jars.is_none() {
        eprintln!("skipped: {VARIABLE} names no folder of jars; 'cargo xtask test' installs a server");
    }
    jars.map(PathBuf::from)
}

/// Free ports of loopback, which differ.
fn free_ports<const N: usize>() -> [u16; N] {
    // Held until all are known.
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

const LOGGING: &str = "rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
";

/// A record as a plain producer writes it and a plain consumer reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Where to.
    pub topic: String,
    /// Which partition; `None`: by the key.
    pub partition: Option<i32>,
    /// `None`: no key.
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// In order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// A record without a key.
    pub fn value(topic: &str, value: impl Into<Vec<u8>>) -> Record {
        Record { topic: topic.to_string(), value: Some(value.into()), ..Record::default() }
    }
    /// A record with a key; without a value it is a tombstone.
    pub fn keyed(topic: &str, key: &str, value: Option<&str>) -> Record {
        let (key, value) = (Some(key.as_bytes().to_vec()), value.map(|v| v.as_bytes().to_vec()));
        Record { topic: topic.to_string(), key, value, ..Record::default() }
    }
    /// The same in this partition.
    pub fn to_partition(self, partition: i32) -> Record {
        Record { partition: Some(partition), ..self }
    }
    /// The same of this time.
    pub fn at(self, timestamp_ms: i64) -> Record {
        Record { timestamp_ms: Some(timestamp_ms), ..self }
    }
    /// Its value as text; empty for a tombstone.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    fn of(message: &impl Message) -> Record {
        use rdkafka::message::Headers;
        let headers = message
            .headers()
            .map(|all| all.iter().map(|h| (h.key.to_string(), h.value.unwrap_or_default().to_vec())).collect());
        Record {
            topic: message.topic().to_string(),
            partition: Some(message.partition()),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis(),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// A name that no other topic, group or id has.
pub fn unique(name: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{name}-{}-{n}", std::process::id())
}

/// Waits until there is something; gives up with the test.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a server can be started here.
pub fn is_installed() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|folder| Path::new(&folder).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_confirmed_survives_a_kill_and_a_stop_of_the_server() {
        let Some(mut broker) = Broker::start() else { return };
        broker.create_topic("a", 2);
        let values = |from: i32| (from..from + 5).map(move |n| n.to_string());
        broker.produce(&values(0).map(|n| Record::value("a", n).to_partition(0)).collect::<Vec<_>>());
        broker.kill();
        broker.restart();
        broker.produce(&values(5).map(|n| Record::value("a", n).to_partition(1)).collect::<Vec<_>>());
        broker.stop();
        broker.restart();
        let texts: Vec<String> = broker.read_committed("a").iter().map(Record::text).collect();
        assert_eq!(texts, values(0).chain(values(5)).collect::<Vec<_>>());
        broker.delete_records("a", 0, 3);
        broker.add_partitions("a", 3);
        assert_eq!(broker.read_committed("a").len(), 7);
        broker.delete_topic("a");
    }

    #[test]
    fn transactions_are_seen_when_they_are_committed() {
        let Some(broker) = Broker::shared() else { return };
        let topic = unique("transactions");
        broker.create_topic(&topic, 1);
        let mut config = broker.client();
        config.set("transactional.id", unique("id")).set("transaction.timeout.ms", "5000");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(DEADLINE).unwrap();
        for (value, commits) in [("1", true), ("2", false), ("3", true)] {
            producer.begin_transaction().unwrap();
            producer.send(BaseRecord::<str, str>::to(&topic).payload(value)).map_err(|(e, _)| e).unwrap();
            match commits {
                true => producer.commit_transaction(DEADLINE).unwrap(),
                false => {
                    producer.flush(DEADLINE).unwrap();
                    producer.abort_transaction(DEADLINE).unwrap();
                }
            }
        }
        let texts = |isolation: &str| broker.read_with(&topic, isolation).iter().map(Record::text).collect::<Vec<_>>();
        assert_eq!(texts("read_committed"), ["1", "3"]);
        assert_eq!(texts("read_uncommitted"), ["1", "2", "3"]);
    }
}
