//! One instance of a source: the partitions that are its own, their queues, and where it stands in each.

use super::super::client::{self, Hearing, Topic};
use super::super::options::{Bounded, Topics};
use super::Plan;
use super::decode::{Outcome, RowMaker};
use super::ids::{self, IdLog};
use super::lookup::Lookups;
use super::position::{FIRST, Position, SplitPosition, owner};
use super::queue::{Messages, PartitionQueue};
use crate::dead_letter::DeadLetters;
use crate::throttle::{Throttle, Unit};
use millstream_core::metrics::add;
use millstream_core::source::{SourceContext, SourcePoll, SourceReader};
use millstream_core::{Batch, Error, Place, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How often the client's own events are looked for while there are no records.
const PULSE: Duration = Duration::from_millis(100);
/// Bytes of records that make up one batch at most, about.
const BATCH_BYTES: usize = 16 << 20;
/// Kilobytes that the client reads ahead, for all partitions of an instance together.
const AHEAD_KBYTES: usize = 64 << 10;
/// Of the last epochs, whose offsets the group may still be told.
const EPOCHS_KEPT: usize = 16;

/// One instance.
pub(super) struct KafkaReader {
    plan: Arc<Plan>,
    ctx: SourceContext,
    /// Declared before the client, which it must not outlive.
    splits: Vec<Split>,
    log: IdLog,
    client: Arc<BaseConsumer<Hearing>>,
    /// Topics and ids of which the client's log tells, to be compared.
    learned: Vec<(String, String)>,
    /// What is to be said before rows are given.
    said: VecDeque<SourcePoll>,
    /// Which split is looked at next.
    turn: usize,
    rows: RowMaker,
    lookups: Option<Lookups>,
    /// Of a job that resumes: its splits are only read when it is clear that their topics are the same.
    is_verified: bool,
    /// The topics' ids as the client that reads them has them.
    ids: BTreeMap<String, String>,
    /// All splits that any instance has or had when this one began, and what was found since.
    known: BTreeSet<(String, i32)>,
    row_limit: Throttle,
    byte_limit: Throttle,
    dead_letters: Option<DeadLetters>,
    /// The offsets of epochs that have ended and are not durable yet.
    epochs: VecDeque<(u64, BTreeMap<(String, i32), i64>)>,
    /// What the group was told last.
    committed: BTreeMap<(String, i32), i64>,
}

/// One partition.
struct Split {
    position: SplitPosition,
    /// `None`: it isn't assigned.
    queue: Option<PartitionQueue>,
    /// Taken from the queue, not decoded yet.
    messages: Messages,
    is_held: bool,
    has_ended: bool,
    /// The partition is no more, and nobody asks for it.
    is_gone: bool,
}

impl Split {
    fn new(position: SplitPosition) -> Split {
        let messages = Messages::default();
        Split { position, queue: None, messages, is_held: false, has_ended: false, is_gone: false }
    }
    fn key(&self) -> (String, i32) {
        (self.position.topic.clone(), self.position.partition)
    }
    fn place(&self) -> Place {
        Place::Named(format!("topic '{}', partition {}", self.position.topic, self.position.partition))
    }
    /// Whether all is read that is to be read.
    fn is_over(&self, next: i64) -> bool {
        self.position.stop.is_some_and(|stop| next >= stop)
    }
    fn may_have_rows(&self) -> bool {
        !self.is_held
            && !self.has_ended
            && (!self.messages.is_empty() || self.queue.as_ref().is_some_and(PartitionQueue::is_ready))
    }
}

impl KafkaReader {
    pub fn open(plan: Arc<Plan>, ctx: SourceContext) -> Result<KafkaReader> {
        let (position, is_verified) = match (&ctx.restored, &plan.start) {
            (Some(instances), _) => (Position::of_all(instances)?, false),
            (None, Some(start)) => (start.clone(), true),
            (None, None) => (super::start(&plan.table)?, true),
        };
        let known = position.splits.iter().map(|split| (split.topic.clone(), split.partition)).collect();
        let is_own = |split: &SplitPosition| owner(&split.topic, split.partition, ctx.instances) == ctx.instance;
        let own: Vec<SplitPosition> = position.splits.into_iter().filter(is_own).collect();
        let client: BaseConsumer<Hearing> = config(&plan, own.len())
            .create_with_context(Hearing::default())
            .map_err(|e: KafkaError| client::refused(&plan.table, &e))?;
        let client = Arc::new(client);
        client::connect(client.client(), own.iter().map(|split| split.topic.as_str()));
        let is_bounded = plan.table.scan.bounded != Bounded::Unbounded;
        let interval = plan.table.scan.discovery_interval.filter(|_| !is_bounded);
        let lookups = Lookups::start(&plan.table, !is_verified, interval, ctx.waker.clone())?;
        let scan = &plan.table.scan;
        let mut reader = KafkaReader {
            row_limit: Throttle::new(&plan.table.table, Unit::Rows, scan.rows_per_second, ctx.instances),
            byte_limit: Throttle::new(&plan.table.table, Unit::Bytes, scan.bytes_per_second, ctx.instances),
            dead_letters: plan.dead_letters.as_ref().map(|folder| DeadLetters::new(folder, ctx.instance)),
            rows: RowMaker::new(&plan, &plan.schema)?,
            splits: Vec::new(),
            log: IdLog::new(&client)?,
            client,
            learned: Vec::new(),
            said: VecDeque::new(),
            turn: 0,
            lookups: Some(lookups),
            is_verified,
            ids: BTreeMap::new(),
            known,
            epochs: VecDeque::new(),
            committed: BTreeMap::new(),
            plan,
            ctx,
        };
        for position in own {
            reader.add(position)?;
        }
        if reader.is_verified {
            reader.assign_all()?;
        }
        Ok(reader)
    }

    /// Takes a split; its records come once it is assigned.
    fn add(&mut self, position: SplitPosition) -> Result<()> {
        let number = u32::try_from(self.splits.len()).map_err(|_| Error::internal("too many partitions"))?;
        let mut split = Split::new(position);
        self.said.push_back(SourcePoll::SplitAdded(number));
        if split.is_over(split.position.next) {
            split.has_ended = true;
            self.said.push_back(SourcePoll::SplitEnded(number));
        }
        self.splits.push(split);
        Ok(())
    }

    /// Assigns what isn't yet.
    fn assign_all(&mut self) -> Result<()> {
        for at in 0..self.splits.len() {
            if self.splits[at].queue.is_none() && !self.splits[at].has_ended {
                self.assign(at)?;
            }
        }
        Ok(())
    }

    fn assign(&mut self, at: usize) -> Result<()> {
        let split = &mut self.splits[at];
        let (topic, partition) = (&split.position.topic, split.position.partition);
        split.queue = Some(PartitionQueue::new(&self.client, topic, partition, self.ctx.waker.clone())?);
        let offset = match split.position.next {
            FIRST => Offset::Beginning,
            next => Offset::Offset(next),
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, offset)
            .and_then(|()| self.client.incremental_assign(&list))
            .map_err(|e| Error::retry(format!("the client takes no partition: {e}")).at(split.place()))
    }

    fn unassign(&mut self, at: usize) {
        let split = &mut self.splits[at];
        split.messages = Messages::default();
        if split.queue.take().is_some() {
            let mut list = TopicPartitionList::new();
            list.add_partition(&split.position.topic, split.position.partition);
            if let Err(error) = self.client.incremental_unassign(&list) {
                tracing::debug!(target: "kafka", "give back a partition: {error}");
            }
        }
    }

    /// Hears what the client and the lookups have to say.
    fn serve(&mut self) -> Result<()> {
        while self.client.poll(Duration::ZERO).is_some() {}
        if let Some((code, reason)) = self.client.context().take() {
            // Who names no group isn't asking for one.
            let is_of_group = code == RDKafkaErrorCode::GroupAuthorizationFailed;
            let is_optional = is_of_group && self.plan.table.properties.group_id.is_none();
            if !client::may_heal(code) && !is_optional {
                return Err(client::explain(&self.plan.table, code, &reason));
            }
            tracing::warn!(target: "kafka", "{code}: {reason}");
        }
        self.hear_ids()?;
        match self.lookups.as_ref().and_then(Lookups::take) {
            None => Ok(()),
            Some(found) => self.found(found),
        }
    }

    /// Compares what there is with what is known: other topics of the same name, partitions that are new or gone.
    fn found(&mut self, found: Result<Vec<Topic>>) -> Result<()> {
        let topics =
            found.map_err(|e| match (&self.plan.table.topics, e.message().starts_with("there is no topic")) {
                (Topics::List(_), true) => gone(e.message()),
                _ => e,
            })?;
        for at in 0..self.splits.len() {
            let split = &mut self.splits[at];
            if split.has_ended {
                continue;
            }
            let Some(topic) = topics.iter().find(|topic| topic.name == split.position.topic) else {
                return Err(gone("the topic is gone").at(split.place()));
            };
            // What the client reads counts, however old the look is.
            let id = self.ids.get(&topic.name).or(topic.id.as_ref()).cloned();
            if split.position.id.is_none() {
                split.position.id.clone_from(&id);
            }
            if let Some(id) = id {
                self.compare(at, id)?;
            }
            if topic.partitions <= self.splits[at].position.partition {
                self.give_up(at, topic.partitions)?;
            }
        }
        if self.plan.table.scan.bounded == Bounded::Unbounded {
            for topic in &topics {
                for partition in 0..topic.partitions {
                    let is_new = self.known.insert((topic.name.clone(), partition));
                    if is_new && owner(&topic.name, partition, self.ctx.instances) == self.ctx.instance {
                        let (topic, id) = (topic.name.clone(), topic.id.clone());
                        self.add(SplitPosition { topic, id, partition, next: FIRST, stop: None })?;
                    }
                }
            }
        }
        self.is_verified = true;
        self.assign_all()
    }

    /// Hears of topics that have become others while they are read.
    fn hear_ids(&mut self) -> Result<()> {
        self.learned.extend(self.log.take());
        for (topic, id) in std::mem::take(&mut self.learned) {
            for at in 0..self.splits.len() {
                if self.splits[at].position.topic == topic && !self.splits[at].has_ended {
                    let was_assigned = self.splits[at].queue.is_some();
                    self.compare(at, id.clone())?;
                    if was_assigned && self.splits[at].queue.is_none() {
                        self.assign(at)?;
                    }
                }
            }
            self.ids.insert(topic, id);
        }
        Ok(())
    }

    /// Sees to it that the split's offsets are those of the topic that has the id now; one that is read from its first record
    /// instead is no longer assigned.
    fn compare(&mut self, at: usize, id: String) -> Result<()> {
        let split = &mut self.splits[at];
        if split.position.id.as_ref().is_none_or(|known| *known == id) {
            return Ok(());
        }
        let place = split.place();
        if !self.plan.table.scan.lost_to_earliest {
            let message = "the topic was removed and made anew: the job's offsets are those of the topic before";
            return Err(Error::data(message).at(place).hint(CHOICE));
        }
        tracing::warn!(target: "kafka", "{place}: the topic is another one: read from its first record");
        (split.position.id, split.position.next) = (Some(id), FIRST);
        self.unassign(at);
        Ok(())
    }

    /// The split's partition is not among the topic's `partitions` any more: it was made anew with fewer.
    fn give_up(&mut self, at: usize, partitions: i32) -> Result<()> {
        let place = self.splits[at].place();
        if !self.plan.table.scan.lost_to_earliest {
            let message = format!("the partition is gone: the topic has {partitions} now, and the job has read more");
            return Err(Error::data(message).at(place).hint(CHOICE));
        }
        tracing::warn!(target: "kafka", "{place}: the partition is gone");
        self.unassign(at);
        let split = &mut self.splits[at];
        (split.has_ended, split.is_gone, split.position.next) = (true, true, FIRST);
        self.known.remove(&split.key());
        self.said.push_back(SourcePoll::SplitEnded(u32::try_from(at).unwrap_or(u32::MAX)));
        Ok(())
    }

    /// Decodes what the split has, about so many rows and bytes at most; the batch, if there are rows.
    fn read(&mut self, at: usize, (max_rows, max_bytes): (usize, usize)) -> Result<Option<Batch>> {
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        let mut bytes = 0;
        let mut bad = Vec::new();
        loop {
            let split = &mut self.splits[at];
            if split.messages.is_empty()
                && let Some(queue) = &split.queue
            {
                queue.take(max_rows.saturating_sub(self.rows.num_rows()), &mut split.messages);
                self.learned.extend(self.log.take());
                if !self.learned.is_empty() {
                    // They may be another topic's: that is heard first.
                    break;
                }
            }
            let Some(message) = split.messages.peek() else { break };
            if let Some(code) = message.error() {
                let (reason, offset) = (message.reason(), message.offset());
                split.messages.pass();
                if self.event(at, code, offset, &reason)? {
                    break;
                }
                continue;
            }
            let offset = message.offset();
            if split.is_over(offset) {
                self.end(at);
                break;
            }
            bytes += message.size();
            let outcome = self.rows.push(message, &mut bad).map_err(|e| e.at(record_place(split, offset)))?;
            if let Outcome::Bad(reason) = outcome {
                let kept = bad.last().map(|bad| bad.record.clone());
                let record = kept.unwrap_or_else(|| message.value().unwrap_or_default().to_vec());
                bad.clear();
                bad.push(millstream_core::format::BadRecord { record, line: 0, reason });
                if self.dead_letters.is_none() {
                    let reason = bad.remove(0).reason;
                    return Err(reason.at(record_place(split, offset)).hint(
                        "'dead-letter.path' keeps such records aside, the format's 'ignore-parse-errors' passes over them",
                    ));
                }
            }
            if !bad.is_empty() {
                add(&self.ctx.metrics.bad_records, bad.len() as u64);
                for bad in bad.drain(..) {
                    if let Some(letters) = &mut self.dead_letters {
                        let place = (split.position.topic.as_str(), split.position.partition, offset);
                        letters.write_record(place, &bad.reason, &bad.record)?;
                    }
                }
            }
            split.messages.pass();
            split.position.next = offset.saturating_add(1);
            if split.is_over(split.position.next) {
                self.end(at);
                break;
            }
            if self.rows.num_rows() >= max_rows || bytes >= max_bytes {
                break;
            }
        }
        self.byte_limit.spend(bytes);
        if self.rows.num_rows() == 0 {
            return Ok(None);
        }
        // What is said of the split comes after its rows.
        let position = &self.splits.get(at).ok_or_else(|| Error::internal(format!("no split {number}")))?.position;
        self.rows.take(&position.topic, position.partition).map(Some)
    }

    /// What a partition says instead of a record; whether reading it has to pause.
    fn event(&mut self, at: usize, code: RDKafkaErrorCode, offset: i64, reason: &str) -> Result<bool> {
        let split = &mut self.splits[at];
        match code {
            RDKafkaErrorCode::PartitionEOF => {
                if offset < split.position.next {
                    // It has fewer records than were read: perhaps it is another one.
                    self.look();
                    return Ok(true);
                }
                // What there was up to here were no records: marks of transactions, or records of aborted ones.
                split.position.next = offset.max(0);
                if split.is_over(offset) {
                    self.end(at);
                } else {
                    self.said.push_back(SourcePoll::SplitAtEnd(u32::try_from(at).unwrap_or(u32::MAX)));
                }
                Ok(true)
            }
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::NoOffset => {
                let place = split.place();
                let next = split.position.next;
                if !self.plan.table.scan.lost_to_earliest {
                    return Err(Error::data(format!("the record at offset {next} is gone before it was read"))
                        .at(place)
                        .detail(reason)
                        .detail("the topic's retention removed it, or the topic is another one of the same name")
                        .hint("'scan.on-lost-offsets' = 'earliest' goes on with the first record that is there"));
                }
                tracing::warn!(target: "kafka", "{place}: offset {next} is gone: read on from the first record");
                self.unassign(at);
                self.splits[at].position.next = FIRST;
                self.assign(at)?;
                Ok(true)
            }
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopicId => {
                self.look();
                Ok(true)
            }
            code if client::may_heal(code) => {
                tracing::warn!(target: "kafka", "{}: {code}: {reason}", split.place());
                Ok(false)
            }
            code => Err(client::explain(&self.plan.table, code, reason).at(split.place())),
        }
    }

    fn look(&self) {
        if let Some(lookups) = &self.lookups {
            lookups.ask();
        }
    }

    /// The split has given all that it is asked for.
    fn end(&mut self, at: usize) {
        self.unassign(at);
        let split = &mut self.splits[at];
        split.has_ended = true;
        split.position.next = split.position.stop.unwrap_or(split.position.next).max(split.position.next);
        self.said.push_back(SourcePoll::SplitEnded(u32::try_from(at).unwrap_or(u32::MAX)));
    }

    /// How many rows and bytes may be read now, or how long to wait.
    fn admitted(&mut self, max_rows: usize) -> Result<(usize, usize), Duration> {
        let now_ms = self.ctx.clock.now_ms();
        let max_bytes = self.byte_limit.admit(now_ms, BATCH_BYTES)?;
        Ok((self.row_limit.admit(now_ms, max_rows)?, max_bytes))
    }
}

fn record_place(split: &Split, offset: i64) -> Place {
    let SplitPosition { topic, partition, .. } = &split.position;
    Place::Named(format!("topic '{topic}', partition {partition}, offset {offset}"))
}

/// What was read is no longer there.
fn gone(message: &str) -> Error {
    Error::data(message).hint("make it again, or start the job anew by '--from none', with the topics that are there")
}

/// What can be done about a topic that is another one.
const CHOICE: &str = "'scan.on-lost-offsets' = 'earliest' reads the new topic from its first record; '--from none' starts the \
                      job anew, without its state";

/// What a reader's client is made from.
fn config(plan: &Plan, partitions: usize) -> ClientConfig {
    let mut config = client::config(&plan.table);
    let ahead = (AHEAD_KBYTES / partitions.max(1)).max(1 << 10).to_string();
    for (key, value) in [
        // Only what is committed is given to readers, unless the table says otherwise.
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", &ahead),
        // A full queue is looked at again soon.
        ("fetch.queue.backoff.ms", "20"),
        // Partitions are assigned by hand; a group is only named, because the client wants one.
        ("group.id", "millstream"),
    ] {
        if config.get(key).is_none() {
            config.set(key, value);
        }
    }
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
    ids::configure(&mut config);
    config
}

impl SourceReader for KafkaReader {
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll> {
        self.serve()?;
        if let Some(said) = self.said.pop_front() {
            return Ok(said);
        }
        let most = match self.admitted(max_rows) {
            Ok(most) => most,
            Err(wait) => return Ok(SourcePoll::Wait(Some(wait))),
        };
        for _ in 0..self.splits.len() {
            let at = self.turn % self.splits.len();
            self.turn = self.turn.wrapping_add(1);
            if !self.splits[at].may_have_rows() {
                continue;
            }
            if let Some(batch) = self.read(at, most)? {
                self.row_limit.spend(batch.num_rows());
                return Ok(SourcePoll::Rows { split: u32::try_from(at).unwrap_or(u32::MAX), batch });
            }
            if let Some(said) = self.said.pop_front() {
                return Ok(said);
            }
        }
        let all_ended = self.splits.iter().all(|split| split.has_ended);
        let is_bounded = self.plan.table.scan.bounded != Bounded::Unbounded;
        match (all_ended, is_bounded && self.is_verified) {
            (true, true) => Ok(SourcePoll::End),
            (true, false) => Ok(SourcePoll::Idle(Some(PULSE))),
            (false, _) => Ok(SourcePoll::Wait(Some(PULSE))),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        let splits = self.splits.iter().filter(|split| !split.is_gone);
        Position::new(splits.map(|split| split.position.clone()).collect()).encode()
    }

    fn at_epoch_end(&mut self, epoch: u64) {
        if !self.plan.table.scan.commits_offsets {
            return;
        }
        let read = self.splits.iter().filter(|split| split.position.next >= 0);
        self.epochs.push_back((epoch, read.map(|split| (split.key(), split.position.next)).collect()));
        while self.epochs.len() > EPOCHS_KEPT {
            self.epochs.pop_front();
        }
    }

    fn hold_back(&mut self, splits: &[u32]) {
        for (at, split) in (0u32..).zip(&mut self.splits) {
            split.is_held = splits.contains(&at);
        }
    }

    fn committed(&mut self, epoch: u64) -> Result<()> {
        let mut durable = None;
        while self.epochs.front().is_some_and(|(ended, _)| *ended <= epoch) {
            durable = self.epochs.pop_front();
        }
        let Some((_, offsets)) = durable else { return Ok(()) };
        if offsets == self.committed {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for ((topic, partition), next) in &offsets {
            // It fails only for a partition that isn't in the list.
            let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
        }
        // For people who watch the group: a failure costs nothing.
        match self.client.commit(&list, CommitMode::Async) {
            Ok(()) => self.committed = offsets,
            Err(error) => tracing::debug!(target: "kafka", "tell the group its offsets: {error}"),
        }
        Ok(())
    }
}
