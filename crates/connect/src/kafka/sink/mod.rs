//! Writing to a topic: exactly once by the epoch log, or at least once as rows come.

mod commit;
mod direct;
mod ledger;
mod log;
#[cfg(test)]
mod model_tests;
mod outlet;
mod producer;
mod protocol;
mod rows;
mod targets;
mod watch;
mod writer;

use super::client::Cluster;
use super::options::{DeliveryGuarantee, KafkaTable, Topics};
use crate::blackhole::NothingToCommit;
use millstream_core::Result;
use millstream_core::connector::TableDef;
use millstream_core::graph::ChangelogMode;
use millstream_core::metrics::MetricsRef;
use millstream_core::options::Options;
use millstream_core::sink::{CommitContext, Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Waker;
use protocol::OnLostMarker;
use rows::{RecordEncoder, RecordFormat};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use targets::{Targets, column_missing};

/// Where markers are if the table doesn't say.
const MARKER_TOPIC: &str = "millstream-markers";
/// How large a transaction may become if the table doesn't say.
const TRANSACTION_BYTES: u64 = 64 << 20;
/// How much a slot's log may hold while an epoch waits to be committed, if the table doesn't say.
const LOG_BYTES: u64 = 1 << 30;

/// A topic that is written, or several.
#[derive(Clone, Debug)]
pub struct KafkaSink(Arc<Plan>);

/// What writers and committers of one sink share.
#[derive(Debug)]
struct Plan {
    table: KafkaTable,
    format: RecordFormat,
    /// The column that tells a row's topic, of a table of several.
    topic_column: Option<String>,
    guarantee: DeliveryGuarantee,
    marker_topic: String,
    on_lost: OnLostMarker,
    transaction_bytes: u64,
    log_bytes: u64,
    /// What waits to be committed, by slot of this process.
    backlogs: Mutex<BTreeMap<u32, Arc<SlotBacklog>>>,
}

/// Whether a slot's last epoch waits to be committed.
struct SlotBacklog {
    /// 0: none.
    epoch: AtomicU64,
    waker: Waker,
}

impl std::fmt::Debug for SlotBacklog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.epoch.fmt(f)
    }
}

impl SlotBacklog {
    fn is_waiting(&self) -> bool {
        self.epoch.load(Ordering::SeqCst) > 0
    }
    fn wait_for(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }
}

impl Plan {
    fn encoder(&self, metrics: MetricsRef) -> Result<RecordEncoder> {
        self.format.encoder(self.topic_column.as_ref().map(|column| Targets::new(&self.table, column, metrics)))
    }
    fn backlog(&self, slot: u32, waker: Waker) -> Arc<SlotBacklog> {
        let backlog = Arc::new(SlotBacklog { epoch: AtomicU64::new(0), waker });
        self.backlogs.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, backlog.clone());
        backlog
    }
    fn committed(&self, epoch: u64) {
        for backlog in self.backlogs.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let waits = backlog.epoch.load(Ordering::SeqCst);
            if waits > 0 && waits <= epoch {
                backlog.epoch.store(0, Ordering::SeqCst);
                (backlog.waker)();
            }
        }
    }
}

impl KafkaSink {
    /// The sink that a table's options describe; the caller refuses options that nobody read.
    pub fn build(read: KafkaTable, table: &TableDef, options: &Options) -> Result<Self> {
        let format = RecordFormat::read(read.flavor, table, options, read.topics.single())?;
        let topic_column = format.topic_column().map(|column| table.schema.fields[column].name.clone());
        if read.topics.single().is_none() && topic_column.is_none() {
            return Err(column_missing(&read));
        }
        let guarantee = read.sink.delivery.unwrap_or(DeliveryGuarantee::AtLeastOnce);
        let only_exactly_once = |key: &str| {
            if guarantee != DeliveryGuarantee::ExactlyOnce && options.string(key).is_some() {
                let message = format!("'{key}' is for 'sink.delivery-guarantee' = 'exactly-once'");
                return Err(options.error(key, message));
            }
            Ok(())
        };
        let above_0 = |key: &str, default: u64| match options.memory_size(key)? {
            Some(0) => Err(options.error(key, format!("'{key}' must be above 0"))),
            bytes => Ok(bytes.unwrap_or(default)),
        };
        let on_lost = options.choice("sink.lost-marker", &commit::LOST_MARKER)?.unwrap_or(OnLostMarker::Fail);
        let transaction_bytes = above_0("sink.transaction.max-bytes", TRANSACTION_BYTES)?;
        let log_bytes = above_0("sink.log.max-bytes", LOG_BYTES)?;
        let marker_topic = options.string("sink.marker-topic").unwrap_or(MARKER_TOPIC).to_string();
        let is_exactly_once = guarantee == DeliveryGuarantee::ExactlyOnce;
        if read.topics.contains(&marker_topic) && (is_exactly_once || read.topics.single().is_some()) {
            return Err(options.error("sink.marker-topic", "markers need a topic of their own"));
        }
        for key in ["sink.lost-marker", "sink.transaction.max-bytes", "sink.log.max-bytes", "sink.marker-topic"] {
            only_exactly_once(key)?;
        }
        let backlogs = Mutex::default();
        let table = read;
        let plan = Plan {
            table,
            format,
            topic_column,
            guarantee,
            marker_topic,
            on_lost,
            transaction_bytes,
            log_bytes,
            backlogs,
        };
        Ok(KafkaSink(Arc::new(plan)))
    }
}

impl Sink for KafkaSink {
    fn accepts(&self) -> ChangelogMode {
        self.0.format.accepts()
    }
    fn describe(&self) -> String {
        let guarantee = match self.0.guarantee {
            DeliveryGuarantee::ExactlyOnce => "exactly-once",
            DeliveryGuarantee::AtLeastOnce => "at-least-once",
            DeliveryGuarantee::None => "no guarantee",
        };
        format!("{}({}, {guarantee})", self.0.table.flavor.name(), self.0.table.topics)
    }
    fn check(&self) -> Result<()> {
        let table = &self.0.table;
        let topics = Cluster::new(table)?.topics()?;
        match table.topics {
            Topics::List(_) => topics.iter().try_for_each(|topic| topic.check_rights(table, "topic", true)),
            // Which of them are written is told by the rows.
            Topics::Pattern(_) => Ok(()),
        }
    }
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(match self.0.guarantee {
            DeliveryGuarantee::ExactlyOnce => Box::new(writer::LogWriter::open(self.0.clone(), ctx)?),
            DeliveryGuarantee::AtLeastOnce | DeliveryGuarantee::None => {
                Box::new(direct::DirectWriter::open(self.0.clone(), ctx)?)
            }
        })
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NothingToCommit))
    }
    fn committer_in(&self, ctx: CommitContext) -> Result<Box<dyn Committer>> {
        // An epoch that was prepared exactly-once is committed, though the option says something else by now.
        match (&ctx.storage, self.0.guarantee) {
            (None, DeliveryGuarantee::AtLeastOnce | DeliveryGuarantee::None) => self.committer(),
            _ => Ok(Box::new(commit::KafkaCommitter::new(self.0.clone(), ctx)?)),
        }
    }
}
