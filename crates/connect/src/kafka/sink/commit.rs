//! The committer: what the checkpoint has made durable goes from the log to Kafka.

use super::Plan;
use super::ledger::RunId;
use super::producer::{KafkaCluster, KafkaProducer};
use super::protocol::{Committable, OnLostMarker, Run, Slot, look, settle};
use crate::kafka::options::DeliveryGuarantee;
use millstream_core::metrics::add;
use millstream_core::sink::{CommitContext, Committer, EpochStorage, HighMark, split_id};
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For how long recovery asks servers that don't answer, before the attempt counts as failed.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// The committer of one process, or the one that recovers.
pub(super) struct KafkaCommitter {
    plan: Arc<Plan>,
    ctx: CommitContext,
    storage: Arc<dyn EpochStorage>,
    cluster: KafkaCluster,
    /// What transactional ids begin with.
    prefix: String,
    slots: BTreeMap<u32, Slot<KafkaProducer>>,
    /// What recovery has seen; none: it hasn't looked yet.
    seen: Option<HighMark>,
}

impl KafkaCommitter {
    pub(super) fn new(plan: Arc<Plan>, ctx: CommitContext) -> Result<Self> {
        let Some(storage) = ctx.storage.clone() else {
            return Err(Error::internal("a Kafka sink that is exactly-once in a job without checkpoints"));
        };
        let (job, sink) = split_id(&ctx.job_id);
        let job = plan.table.sink.transactional_id_prefix.as_deref().unwrap_or(job);
        Ok(KafkaCommitter {
            cluster: KafkaCluster::new(&plan.table, &plan.marker_topic, ctx.metrics.clone()),
            prefix: format!("{job}/{sink}/"),
            plan,
            storage,
            ctx,
            slots: BTreeMap::new(),
            seen: None,
        })
    }

    fn run<'a>(&'a self, patience: super::protocol::Patience<'a>) -> Run<'a, KafkaCluster> {
        Run {
            cluster: &self.cluster,
            storage: self.storage.as_ref(),
            lineage: &self.ctx.job_id,
            prefix: &self.prefix,
            id: RunId { attempt: self.ctx.attempt, run: self.ctx.run },
            instances: u32::try_from(self.ctx.instances).unwrap_or(u32::MAX),
            patience,
        }
    }

    fn recover(&mut self, pending: Vec<Committable>) -> Result<()> {
        let is_used =
            self.plan.guarantee == DeliveryGuarantee::ExactlyOnce || pending.iter().any(|c| !c.chunks.is_empty());
        if !is_used {
            self.seen = Some(HighMark::default());
            return Ok(());
        }
        let (started, pauses) = (Instant::now(), AtomicU32::new(0));
        let patience = |error: &Error| {
            tracing::warn!("recover a Kafka sink: {error}");
            let may_wait = started.elapsed() < RECOVERY_PATIENCE;
            if may_wait {
                pause(pauses.fetch_add(1, Ordering::Relaxed));
            }
            may_wait
        };
        let mut run = self.run(&patience);
        let recovery = look(&run, pending, self.plan.on_lost)?;
        let seen = recovery.seen;
        run.id.attempt = seen.attempt;
        settle(&run, recovery)?;
        self.seen = Some(seen);
        Ok(())
    }
}

fn pause(times: u32) {
    std::thread::sleep((FIRST_PAUSE * 2u32.saturating_pow(times.min(10))).min(LAST_PAUSE));
}

impl Committer for KafkaCommitter {
    fn commit(&mut self, epoch: u64, committables: &[Vec<u8>], _last: bool) -> Result<()> {
        let pending: Vec<Committable> = committables.iter().map(|c| Committable::decode(c)).collect::<Result<_>>()?;
        if self.ctx.is_recovery {
            return self.recover(pending);
        }
        let mut due: BTreeMap<u32, Vec<Committable>> = BTreeMap::new();
        for committable in pending {
            due.entry(committable.slot).or_default().push(committable);
        }
        let mut slots = std::mem::take(&mut self.slots);
        for slot in due.keys() {
            slots.entry(*slot).or_insert_with(|| Slot::claimed(*slot));
        }
        let pauses = AtomicU32::new(0);
        // Whatever may heal is waited for: meanwhile the job's sources are held back, and no further epoch ends.
        let patience = |error: &Error| {
            add(&self.ctx.metrics.retries, 1);
            tracing::warn!("write to Kafka again: {error}");
            pause(pauses.fetch_add(1, Ordering::Relaxed));
            true
        };
        let run = self.run(&patience);
        let watch = &self.cluster.watch;
        let outcome = std::thread::scope(|scope| {
            // Beside the commit, so that it doesn't wait.
            let mut running = vec![scope.spawn(|| watch.look_sometimes())];
            for (number, slot) in &mut slots {
                let Some(mut due) = due.remove(number) else { continue };
                due.sort_by_key(|c| c.epoch);
                let run = &run;
                running.push(scope.spawn(move || due.iter().try_for_each(|due| slot.commit(run, due))));
            }
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|_| Err(Error::internal("a thread that commits to Kafka has panicked")))
            };
            // All are waited for, the first error counts.
            running.into_iter().map(join).fold(Ok(()), Result::and)
        });
        self.slots = slots;
        outcome?;
        self.plan.committed(epoch);
        Ok(())
    }

    fn abort_after(&mut self, _epoch: u64) -> Result<()> {
        // Without a checkpoint there was nothing to commit, but slots there may be.
        if self.seen.is_none() { self.recover(Vec::new()) } else { Ok(()) }
    }

    fn high_mark(&self) -> HighMark {
        self.seen.unwrap_or_default()
    }
}

/// What the option `sink.lost-marker` takes.
pub(super) const LOST_MARKER: [(&str, OnLostMarker); 3] =
    [("fail", OnLostMarker::Fail), ("replay", OnLostMarker::Replay), ("skip", OnLostMarker::Skip)];
