//! Writing to a topic: exactly once by the epoch log, or at least once as rows come.

mod commit;
mod direct;
mod log;
#[cfg(test)]
mod model_tests;
mod outlet;
mod producer;
mod protocol;
mod rows;
mod watch;
mod writer;

use super::client::Cluster;
use super::options::{DeliveryGuarantee, KafkaTable, Topics};
use crate::blackhole::NothingToCommit;
use millstream_core::Result;
use millstream_core::connector::TableDef;
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{CommitContext, Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Waker;
use protocol::OnLostMarker;
use rows::RecordFormat;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where markers are if the table doesn't say.
const MARKER_TOPIC: &str = "millstream-markers";
/// How large a transaction may become if the table doesn't say.
const TRANSACTION_BYTES: u64 = 64 << 20;
/// How much a slot's log may hold while an epoch waits to be committed, if the table doesn't say.
const LOG_BYTES: u64 = 1 << 30;

/// A topic that is written.
#[derive(Clone, Debug)]
pub struct KafkaSink(Arc<Plan>);

/// What writers and committers of one sink share.
#[derive(Debug)]
struct Plan {
    table: KafkaTable,
    topic: String,
    format: RecordFormat,
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
        let topic = match &read.topics {
            Topics::List(names) if names.len() == 1 => names.concat(),
            Topics::List(_) => {
                return Err(options
                    .error("topic", "a table that is written has one topic")
                    .hint("declare a table for each topic, and write to them in one job by EXECUTE STATEMENT SET"));
            }
            Topics::Pattern(_) => {
                return Err(options.error("topic-pattern", "a table with 'topic-pattern' can't be written"));
            }
        };
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
        if marker_topic == topic {
            return Err(options.error("sink.marker-topic", "markers need a topic of their own"));
        }
        for key in ["sink.lost-marker", "sink.transaction.max-bytes", "sink.log.max-bytes", "sink.marker-topic"] {
            only_exactly_once(key)?;
        }
        let format = RecordFormat::read(read.flavor, table, options, &topic)?;
        let backlogs = Mutex::default();
        let table = read;
        let plan =
            Plan { table, topic, format, guarantee, marker_topic, on_lost, transaction_bytes, log_bytes, backlogs };
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
        format!("{}(topic={}, {guarantee})", self.0.table.flavor.name(), self.0.topic)
    }
    fn check(&self) -> Result<()> {
        let table = &self.0.table;
        Cluster::new(table)?.topics()?.iter().try_for_each(|topic| topic.check_rights(table, "topic", true))
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
