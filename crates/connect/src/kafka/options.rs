//! What the options of a `kafka` or `upsert-kafka` table say: topics, where reading starts and ends, how is written.

use super::Flavor;
use super::properties::Properties;
use millstream_core::Result;
use millstream_core::options::Options;
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How often new partitions are looked for, if the table doesn't say.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(300);

/// A table of messages.
#[derive(Clone, Debug)]
pub struct KafkaTable {
    /// The table's name, for errors.
    pub table: String,
    /// The connector.
    pub flavor: Flavor,
    /// Which topics.
    pub topics: Topics,
    /// How the client talks to the servers.
    pub properties: Properties,
    /// How it is read.
    pub scan: Scan,
    /// How it is written.
    pub sink: SinkOptions,
}

/// The topics of a table.
#[derive(Clone, Debug)]
pub enum Topics {
    /// These; at least one.
    List(Vec<String>),
    /// All whose whole name it matches.
    Pattern(Regex),
}

impl Topics {
    /// The topics that are named.
    pub fn named(&self) -> &[String] {
        match self {
            Topics::List(names) => names,
            Topics::Pattern(_) => &[],
        }
    }
    /// The topic, if there is only one.
    pub fn single(&self) -> Option<&str> {
        match self.named() {
            [name] => Some(name),
            _ => None,
        }
    }
    /// Whether a topic of this name is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Topics::List(names) => names.iter().any(|known| known == name),
            Topics::Pattern(pattern) => pattern.is_match(name),
        }
    }
    /// The option that names them.
    pub fn key(&self) -> &'static str {
        match self {
            Topics::List(_) => "topic",
            Topics::Pattern(_) => TOPIC_PATTERN,
        }
    }
}

/// The names in the option `topic`, as they are written.
pub fn topic_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim)
}

/// Whether a topic can have this name (org.apache.kafka.common.internals.Topic).
pub fn is_topic_name(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && !matches!(name, "." | "..") && name.chars().all(is_legal)
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topics::List(names) => write!(f, "topic={}", names.join(";")),
            // Without the anchors that were put around it.
            Topics::Pattern(pattern) => {
                let text = pattern.as_str();
                let inner = text.strip_prefix("^(?:").and_then(|t| t.strip_suffix(")$")).unwrap_or(text);
                write!(f, "topic-pattern={inner}")
            }
        }
    }
}

/// Offsets by partition, as `'partition:0,offset:42;partition:1,offset:300'` says it.
pub type Offsets = BTreeMap<i32, i64>;

/// Where a job that starts anew begins to read a partition that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// At the first record there is.
    Earliest,
    /// Behind the last one.
    Latest,
    /// Where the consumer group stands; elsewhere as `properties.auto.offset.reset` says, or not at all.
    Group,
    /// At the first record of this time (milliseconds) or later.
    Timestamp(i64),
    /// At these offsets; a partition that isn't named is read from its first record.
    Offsets(Offsets),
}

/// Where reading ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bounded {
    /// Never.
    Unbounded,
    /// Where the partition ended when the job was started.
    Latest,
    /// Where the consumer group stood when the job was started.
    Group,
    /// Before the first record of this time (milliseconds) or later.
    Timestamp(i64),
    /// Before these offsets; a partition that isn't named is not read.
    Offsets(Offsets),
}

/// Where reading begins that the group has no offset for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// At the first record there is.
    Earliest,
    /// Behind the last one.
    Latest,
    /// Nowhere: it is an error.
    None,
}

/// How a table is read.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where it begins.
    pub startup: Startup,
    /// Where it ends.
    pub bounded: Bounded,
    /// For [`Startup::Group`].
    pub reset: Reset,
    /// How often new partitions are looked for; `None`: never.
    pub discovery_interval: Option<Duration>,
    /// Whether the group's offsets follow the checkpoints.
    pub commits_offsets: bool,
    /// A limit for the whole job.
    pub rows_per_second: Option<f64>,
    /// A limit for the whole job, on the bytes of keys and values.
    pub bytes_per_second: Option<f64>,
    /// `'scan.on-lost-offsets' = 'earliest'`: what retention removed before it was read is passed over.
    pub lost_to_earliest: bool,
    /// `dead-letter.path`, as it was written.
    pub dead_letters: Option<String>,
}

/// How keys lead to partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of the key, as Kafka's own clients do; without a key, any.
    Default,
    /// Each sink instance writes to one partition.
    Fixed,
    /// In turn.
    RoundRobin,
}

/// What a crash may do to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// Nothing.
    ExactlyOnce,
    /// Records may come twice.
    AtLeastOnce,
    /// Records may come twice or be lost.
    None,
}

/// How a table is written.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// `sink.partitioner`
    pub partitioner: Partitioner,
    /// `sink.delivery-guarantee`; `None`: it isn't told.
    pub delivery: Option<DeliveryGuarantee>,
    /// `sink.transactional-id-prefix`
    pub transactional_id_prefix: Option<String>,
}

const SPECIFIC: &str = "specific-offsets";
/// The option that names topics by a pattern.
pub const TOPIC_PATTERN: &str = "topic-pattern";

impl KafkaTable {
    /// Reads every option that isn't about formats and columns; the caller refuses options that nobody read.
    pub fn read(flavor: Flavor, options: &Options) -> Result<KafkaTable> {
        for key in ["scan.parallelism", "sink.parallelism"] {
            if options.number::<u32>(key)?.is_some() {
                return Err(options
                    .error(key, format!("'{key}' can't be honoured: every worker of a job reads and writes each table"))
                    .hint("leave it out; 'run --parallelism N' says how many workers there are"));
            }
        }
        // Read first, so that a missing server is told before everything that follows from the others.
        let properties = Properties::read(options)?;
        let topics = topics(options)?;
        Ok(KafkaTable {
            table: options.table().to_string(),
            flavor,
            scan: scan(flavor, options, &properties, &topics)?,
            sink: sink(flavor, options)?,
            topics,
            properties,
        })
    }
}

impl KafkaTable {
    /// Refuses what can't be read as it is told: a group's offsets without a group.
    pub fn check_scan(&self, options: &Options) -> Result<()> {
        if self.properties.group_id.is_some() {
            return Ok(());
        }
        let key = "scan.startup.mode";
        if self.scan.startup == Startup::Group {
            let what = match options.string(key) {
                Some(_) => "'group-offsets'",
                None => "the start, which is 'group-offsets' if nothing is said,",
            };
            return Err(options
                .error(key, format!("{what} needs 'properties.group.id'"))
                .hint("add it, or 'scan.startup.mode' = 'earliest-offset' or 'latest-offset'"));
        }
        match self.scan.bounded {
            Bounded::Group => Err(options.error("scan.bounded.mode", "'group-offsets' needs 'properties.group.id'")),
            _ => Ok(()),
        }
    }
}

fn topics(options: &Options) -> Result<Topics> {
    if let Some(text) = options.string(TOPIC_PATTERN) {
        if options.string("topic").is_some() {
            return Err(options.error(TOPIC_PATTERN, "'topic' and 'topic-pattern' can't both be given"));
        }
        let pattern = Regex::new(&format!("^(?:{text})$"))
            .map_err(|e| options.error(TOPIC_PATTERN, "the pattern is no regular expression").detail(e.to_string()))?;
        return Ok(Topics::Pattern(pattern));
    }
    let text = options.required("topic")?;
    let mut names: Vec<String> = Vec::new();
    for name in topic_names(text) {
        if !is_topic_name(name) {
            let error = options.error("topic", format!("'{name}' is no name of a topic"));
            return Err(error.hint("a name is of letters, digits, '.', '_' and '-'; several are parted by ';'"));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    Ok(Topics::List(names))
}

fn scan(flavor: Flavor, options: &Options, properties: &Properties, topics: &Topics) -> Result<Scan> {
    let startup = match flavor {
        Flavor::Kafka => startup(options, topics)?,
        Flavor::UpsertKafka => Startup::Earliest,
    };
    let discovery_interval = match options.duration("scan.topic-partition-discovery.interval")? {
        None => Some(DISCOVERY_INTERVAL),
        Some(interval) if interval.is_zero() => None,
        Some(interval) => Some(interval),
    };
    let rate = |key: &str| {
        let rate = options.number::<f64>(key)?;
        match rate {
            Some(rate) if !rate.is_finite() || rate <= 0.0 => {
                Err(options.error(key, format!("'{key}' must be above 0")))
            }
            rate => Ok(rate),
        }
    };
    let bytes_per_second = options.memory_size("scan.rate-limit.bytes-per-second")?;
    if bytes_per_second == Some(0) {
        let key = "scan.rate-limit.bytes-per-second";
        return Err(options.error(key, format!("'{key}' must be above 0")));
    }
    Ok(Scan {
        startup,
        bounded: bounded(options, topics)?,
        reset: properties.reset,
        discovery_interval,
        commits_offsets: properties.group_id.is_some() && properties.commits_offsets,
        rows_per_second: rate("scan.rate-limit.rows-per-second")?,
        bytes_per_second: bytes_per_second.map(|bytes| bytes as f64),
        lost_to_earliest: options.choice("scan.on-lost-offsets", &[("fail", false), ("earliest", true)])? == Some(true),
        dead_letters: options.string("dead-letter.path").map(str::to_string),
    })
}

fn startup(options: &Options, topics: &Topics) -> Result<Startup> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Earliest,
        Latest,
        Group,
        Timestamp,
        Specific,
    }
    let key = "scan.startup.mode";
    let choices = [
        ("earliest-offset", Mode::Earliest),
        ("latest-offset", Mode::Latest),
        ("group-offsets", Mode::Group),
        ("timestamp", Mode::Timestamp),
        (SPECIFIC, Mode::Specific),
    ];
    let mode = options.choice(key, &choices)?.unwrap_or(Mode::Group);
    let timestamp = timestamp(options, key, "scan.startup.timestamp-millis", mode == Mode::Timestamp)?;
    let offsets = specific(options, key, "scan.startup.specific-offsets", mode == Mode::Specific, topics)?;
    Ok(match mode {
        Mode::Earliest => Startup::Earliest,
        Mode::Latest => Startup::Latest,
        Mode::Timestamp => Startup::Timestamp(timestamp),
        Mode::Specific => Startup::Offsets(offsets),
        Mode::Group => Startup::Group,
    })
}

fn bounded(options: &Options, topics: &Topics) -> Result<Bounded> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Unbounded,
        Latest,
        Group,
        Timestamp,
        Specific,
    }
    let key = "scan.bounded.mode";
    let choices = [
        ("unbounded", Mode::Unbounded),
        ("latest-offset", Mode::Latest),
        ("group-offsets", Mode::Group),
        ("timestamp", Mode::Timestamp),
        (SPECIFIC, Mode::Specific),
    ];
    let mode = options.choice(key, &choices)?.unwrap_or(Mode::Unbounded);
    let timestamp = timestamp(options, key, "scan.bounded.timestamp-millis", mode == Mode::Timestamp)?;
    let offsets = specific(options, key, "scan.bounded.specific-offsets", mode == Mode::Specific, topics)?;
    Ok(match mode {
        Mode::Unbounded => Bounded::Unbounded,
        Mode::Latest => Bounded::Latest,
        Mode::Timestamp => Bounded::Timestamp(timestamp),
        Mode::Specific => Bounded::Offsets(offsets),
        Mode::Group => Bounded::Group,
    })
}

/// The time in `key`, which must be there if `is_used` and mustn't otherwise.
fn timestamp(options: &Options, mode: &str, key: &str, is_used: bool) -> Result<i64> {
    let text = options.number::<i64>(key)?;
    match (text, is_used) {
        (Some(_), false) => Err(unused(options, mode, key, "timestamp")),
        (None, true) => options.required(key).map(|_| 0),
        (value, _) => Ok(value.unwrap_or_default()),
    }
}

fn unused(options: &Options, mode: &str, key: &str, wanted: &str) -> millstream_core::Error {
    options.error(key, format!("'{key}' is for '{mode}' = '{wanted}'"))
}

/// The offsets in `key`, which must be there if `is_used` and mustn't otherwise.
fn specific(options: &Options, mode: &str, key: &str, is_used: bool, topics: &Topics) -> Result<Offsets> {
    let text = match (options.string(key), is_used) {
        (Some(_), false) => return Err(unused(options, mode, key, SPECIFIC)),
        (None, false) => return Ok(Offsets::new()),
        (_, true) => options.required(key)?,
    };
    if !matches!(topics, Topics::List(names) if names.len() == 1) {
        return Err(options.error(mode, format!("'{SPECIFIC}' needs a 'topic' that is a single one")));
    }
    let mut offsets = Offsets::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let parsed = part.split_once(',').and_then(|(partition, offset)| {
            let partition: i32 = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
            let offset: i64 = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
            (partition >= 0 && offset >= 0).then_some((partition, offset))
        });
        let Some((partition, offset)) = parsed else {
            return Err(options
                .error(key, format!("'{part}' is no partition with its offset"))
                .hint("such as 'partition:0,offset:42;partition:1,offset:300'"));
        };
        if offsets.insert(partition, offset).is_some() {
            return Err(options.error(key, format!("partition {partition} is there twice")));
        }
    }
    if offsets.is_empty() {
        return Err(options.error(key, format!("'{key}' names no partition")));
    }
    Ok(offsets)
}

fn sink(flavor: Flavor, options: &Options) -> Result<SinkOptions> {
    let key = "sink.partitioner";
    let partitioner = match flavor {
        Flavor::UpsertKafka => Partitioner::Default,
        Flavor::Kafka => match options.string(key).map(str::trim) {
            None | Some("default") => Partitioner::Default,
            Some("fixed") => Partitioner::Fixed,
            Some("round-robin") => Partitioner::RoundRobin,
            Some(other) => {
                let error = options.error(key, format!("there is no partitioner '{other}'"));
                return Err(error
                    .detail("known ones: default, fixed, round-robin")
                    .hint("a partitioner that is a Java class can't be used here"));
            }
        },
    };
    let choices = [
        ("exactly-once", DeliveryGuarantee::ExactlyOnce),
        ("at-least-once", DeliveryGuarantee::AtLeastOnce),
        ("none", DeliveryGuarantee::None),
    ];
    let delivery = options.choice("sink.delivery-guarantee", &choices)?;
    if options.string("sink.semantic").is_some() {
        return Err(options.error("sink.semantic", "'sink.semantic' is called 'sink.delivery-guarantee' now"));
    }
    let key = "sink.transactional-id-prefix";
    let prefix = options.string(key);
    if prefix.is_some_and(str::is_empty) {
        return Err(options.error(key, format!("'{key}' is empty")));
    }
    if prefix.is_some() && delivery.is_some_and(|d| d != DeliveryGuarantee::ExactlyOnce) {
        return Err(options.error(key, format!("'{key}' is for 'sink.delivery-guarantee' = 'exactly-once'")));
    }
    // They only say how a sink of Flink's gathers rows before it writes, which is done at the end of each epoch here.
    if flavor == Flavor::UpsertKafka {
        options.number::<u64>("sink.buffer-flush.max-rows")?;
        options.duration("sink.buffer-flush.interval")?;
    }
    Ok(SinkOptions { partitioner, delivery, transactional_id_prefix: prefix.map(str::to_string) })
}
