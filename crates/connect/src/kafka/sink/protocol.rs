//! The epoch log's protocol: what is written in which order, and how it goes on after a crash; without Kafka's client.
//!
//! ```text
//! epoch e   : records ─▶ log objects                          (the slot's writer)
//! barrier   : objects durable; committable(slot, e, objects, committed)
//! checkpoint: the manifest is durable; it names committable and objects
//! commit    : for each chunk: begin, records, marker(slot, e, chunk), commit
//! start     : take every slot's id (fences, settles) ─▶ read markers ─▶ replay what is behind ─▶ claim every slot
//! ```
//!
//! What must hold:
//! - A chunk's records and its marker are in one transaction, so that a reader who sees the one sees the other: the marker tells
//!   exactly what is committed.
//! - A marker is read only after the slot's id was taken: nobody else can then add to it.
//! - Before it writes anything for a new epoch, an attempt has *claimed* each slot: a marker that bears its number. Who takes
//!   an id later than that, and finds the claim of a later attempt, stands down: so a zombie that wakes up in the middle of
//!   its first commit writes nothing.
//! - A slot's marker is never behind what a durable checkpoint says is committed. If it is, markers were lost, and what is
//!   committed can't be told: the job stops.
//! - A marker has the ids of the topics that are written. If one is another topic by now, what was committed is gone with the
//!   one before: the job stops, too.

use super::log::LogObject;
use millstream_core::sink::{EpochStorage, HighMark};
use millstream_core::{Error, ErrorKind, Place, Result, fail_point};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of what is stored in the checkpoint and in markers.
pub(super) const VERSION: u32 = 1;

/// How far a slot has come: `chunk` of the `chunks` chunks of `epoch`, and all epochs before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) chunk: u32,
    pub(super) chunks: u32,
}

impl Position {
    /// All of an epoch.
    pub(super) fn end_of(epoch: u64) -> Position {
        Position { epoch, chunk: 0, chunks: 0 }
    }
    /// The one that is further.
    fn max(self, other: Position) -> Position {
        let key = |p: &Position| (p.epoch, p.is_complete(), p.chunk);
        if key(&self) >= key(&other) { self } else { other }
    }
    fn is_complete(&self) -> bool {
        self.chunk >= self.chunks
    }
    /// How many chunks of `due` are committed.
    fn chunks_of(&self, due: &Committable) -> usize {
        match self.epoch.cmp(&due.epoch) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal if !self.is_complete() => self.chunk as usize,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => due.chunks.len(),
        }
    }
}

/// The last word of a slot, as it stands in the marker topic under the slot's transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) version: u32,
    /// The sink of the job that wrote it.
    pub(super) lineage: String,
    /// The attempt that wrote it.
    pub(super) attempt: u64,
    /// How many slots that attempt has: those from there on are given up.
    pub(super) instances: u32,
    pub(super) position: Position,
    /// Records of the chunk, and the CRC-32 of its objects' CRC-32s; for people who look for what is missing.
    pub(super) records: u64,
    pub(super) crc: u32,
    /// The topics that are written, by name their ids, as far as the servers tell; filled in by who writes the marker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) topics: BTreeMap<String, String>,
}

/// What one slot has prepared in one epoch, as stored in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Committable {
    pub(super) version: u32,
    /// As in [`Marker`].
    pub(super) lineage: String,
    pub(super) slot: u32,
    pub(super) epoch: u64,
    /// The last epoch of the slot before it: it is committed.
    pub(super) committed: u64,
    /// The log's objects, by transaction; none: the epoch has no records.
    pub(super) chunks: Vec<Vec<LogObject>>,
}

impl Committable {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Committable> {
        let damaged = |e: serde_json::Error| Error::state(format!("a commit of the Kafka sink can't be read: {e}"));
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => serde_json::from_value(value).map_err(damaged),
            version => Err(Error::state(format!(
                "a commit of the Kafka sink has version {}; this program knows version {VERSION}",
                version.map_or("none".to_string(), |v| v.to_string())
            ))),
        }
    }
}

/// What the protocol needs of Kafka. Errors that may heal are of the kind Retry.
pub(super) trait Cluster: Send + Sync {
    /// Writes under one transactional id.
    type Producer: Transactions;
    /// Takes a transactional id: whoever had it can't write under it any more, and what it left open is committed or aborted
    /// when this returns.
    fn take(&self, id: &str) -> Result<Self::Producer>;
    /// The last committed marker of each key that begins with `prefix`, by what follows it; all that were committed before
    /// the call are seen. None if there is no marker topic.
    fn markers(&self, prefix: &str) -> Result<BTreeMap<String, Marker>>;
    /// Sees to it that markers can be written and will be kept.
    fn prepare_markers(&self) -> Result<()>;
    /// The names of those topics that have other ids now than they have here; what is written from now on is for the ids of
    /// now.
    fn renewed(&self, topics: &BTreeMap<String, String>) -> Result<Vec<String>>;
}

/// Writes under one transactional id.
pub(super) trait Transactions: Send {
    /// Writes the records of some objects of the log, and the marker under `key`, in one transaction. After an error nobody
    /// knows whether it was committed, and the id has to be taken anew.
    fn commit(&mut self, objects: &mut dyn Iterator<Item = Result<Vec<u8>>>, key: &str, marker: &Marker) -> Result<()>;
}

/// What to do about a marker that is missing or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLostMarker {
    /// Stop.
    Fail,
    /// Commit what the checkpoint has pending, though it may be there already.
    Replay,
    /// Give it up, though it may not be there yet.
    Skip,
}

/// Whether to try again after an error that may heal; waits before it says so.
pub(super) type Patience<'a> = &'a (dyn Fn(&Error) -> bool + Sync);

/// One attempt's view of a sink.
pub(super) struct Run<'a, C> {
    pub(super) cluster: &'a C,
    pub(super) storage: &'a dyn EpochStorage,
    pub(super) lineage: &'a str,
    /// What transactional ids begin with; the slot's number follows.
    pub(super) prefix: &'a str,
    pub(super) attempt: u64,
    pub(super) instances: u32,
    pub(super) patience: Patience<'a>,
}

/// A slot, whose id this attempt takes when it first needs it, and again after an error.
pub(super) struct Slot<P> {
    number: u32,
    taken: Option<P>,
    /// Known while the id is held.
    position: Position,
    /// The attempt has claimed the slot: its marker must be there.
    is_claimed: bool,
    /// This attempt has held the id, and may have lost it to another one.
    was_taken: bool,
}

impl<P: Transactions> Slot<P> {
    /// A slot that the attempt has claimed.
    pub(super) fn claimed(number: u32) -> Self {
        Slot { number, taken: None, position: Position::default(), is_claimed: true, was_taken: false }
    }

    /// Commits what is due of an epoch, however often that takes.
    pub(super) fn commit<C: Cluster<Producer = P>>(&mut self, run: &Run<C>, due: &Committable) -> Result<()> {
        if due.chunks.is_empty() {
            return Ok(());
        }
        let outcome = self.insist(run, |slot| {
            (slot.position.chunks_of(due)..due.chunks.len()).try_for_each(|done| slot.commit_chunk(run, due, done))
        });
        outcome.map_err(|e| e.context(format!("commit epoch {} of slot {}", due.epoch, self.number)))
    }

    /// Says that the slot is this attempt's, and that all epochs below `first_epoch` are settled.
    fn claim<C: Cluster<Producer = P>>(&mut self, run: &Run<C>, first_epoch: u64) -> Result<()> {
        let outcome = self.insist(run, |slot| {
            let settled = slot.position.max(Position::end_of(first_epoch.saturating_sub(1)));
            let Some(taken) = &mut slot.taken else { return Ok(()) };
            taken.commit(&mut std::iter::empty(), &run.id(slot.number), &run.marker(settled))
        });
        outcome.map_err(|e| e.context(format!("claim slot {}", self.number)))
    }

    /// Takes a step with the id in hand; takes the id anew and repeats the step as long as there is patience.
    fn insist<C: Cluster<Producer = P>>(
        &mut self,
        run: &Run<C>,
        mut step: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        loop {
            let Err(error) = self.hold(run).and_then(|()| step(self)) else { return Ok(()) };
            self.taken = None;
            if error.kind() != ErrorKind::Retry || !(run.patience)(&error) {
                return Err(error);
            }
        }
    }

    fn hold<C: Cluster<Producer = P>>(&mut self, run: &Run<C>) -> Result<()> {
        if self.taken.is_some() {
            return Ok(());
        }
        if self.was_taken {
            // A later attempt that holds the id is not to be disturbed.
            self.look(run)?;
        }
        let taken = run.cluster.take(&run.id(self.number))?;
        self.was_taken = true;
        fail_point!("kafka::taken")?;
        let (position, topics) = self.look(run)?;
        // Before it is claimed a person may have chosen to go on.
        if self.is_claimed
            && let Some(topic) = run.cluster.renewed(&topics)?.first()
        {
            return Err(renewed_topic(topic, "while the job writes to it"));
        }
        self.position = self.position.max(position);
        self.taken = Some(taken);
        Ok(())
    }

    fn commit_chunk<C: Cluster<Producer = P>>(&mut self, run: &Run<C>, due: &Committable, done: usize) -> Result<()> {
        let (Some(chunk), Some(taken)) = (due.chunks.get(done), &mut self.taken) else { return Ok(()) };
        let chunks = due.chunks.len() as u32;
        let position = Position { epoch: due.epoch, chunk: done as u32 + 1, chunks };
        let mut marker = run.marker(position);
        marker.records = chunk.iter().map(|o| o.records).sum();
        marker.crc = crc32fast::hash(&chunk.iter().flat_map(|o| o.crc.to_be_bytes()).collect::<Vec<_>>());
        let mut objects = chunk.iter().map(|object| object.read(run.storage));
        taken.commit(&mut objects, &run.id(self.number), &marker)?;
        self.position = position;
        Ok(())
    }

    /// What the marker says, and of which topics, if the slot is still this attempt's.
    fn look<C: Cluster<Producer = P>>(&self, run: &Run<C>) -> Result<(Position, BTreeMap<String, String>)> {
        let id = run.id(self.number);
        match run.cluster.markers(run.prefix)?.remove(&self.number.to_string()) {
            Some(marker) if marker.lineage == run.lineage && marker.attempt <= run.attempt => {
                Ok((marker.position, marker.topics))
            }
            Some(marker) if marker.lineage == run.lineage => {
                Err(Error::state("another run of this job has taken over")
                    .at(Place::Named(format!("transactional id {id}")))
                    .detail(format!("this is attempt {}, the other one is attempt {}", run.attempt, marker.attempt)))
            }
            Some(_) if self.is_claimed => Err(Error::state("another job writes under the same transactional id")
                .at(Place::Named(format!("transactional id {id}")))
                .hint("give each job a 'sink.transactional-id-prefix' of its own, or none")),
            None if self.is_claimed => {
                Err(lost_marker(&id, "the marker of this slot was there when the job started, and is gone"))
            }
            Some(_) | None => Ok(Default::default()),
        }
    }
}

fn lost_marker(id: &str, why: &str) -> Error {
    Error::state("what is committed to Kafka can't be told: markers are lost")
        .at(Place::Named(format!("transactional id {id}")))
        .detail(why)
        .hint(
            "has the marker topic been deleted or truncated? compare the topic with the checkpoint, then start once with \
             'sink.lost-marker' = 'replay' (commit what is pending, perhaps a second time) or 'skip' (give it up)",
        )
}

fn renewed_topic(topic: &str, when: &str) -> Error {
    Error::state(format!("the topic was removed and made anew {when}"))
        .at(Place::Named(format!("topic '{topic}'")))
        .detail("what the job had committed to it is gone with the topic before")
        .hint(RENEWED_HINT)
}

/// What can be done about a topic that is another one.
pub(super) const RENEWED_HINT: &str =
    "start once with 'sink.lost-marker' = 'skip' to go on with the new topic, or with '--from none' to begin anew";

impl<C: Cluster> Run<'_, C> {
    fn id(&self, slot: u32) -> String {
        format!("{}{slot}", self.prefix)
    }
    fn marker(&self, position: Position) -> Marker {
        Marker {
            version: VERSION,
            lineage: self.lineage.to_string(),
            attempt: self.attempt,
            instances: self.instances,
            position,
            records: 0,
            crc: 0,
            topics: BTreeMap::new(),
        }
    }
    fn persist<T>(&self, mut step: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match step() {
                Err(error) if error.kind() == ErrorKind::Retry && (self.patience)(&error) => {}
                outcome => return outcome,
            }
        }
    }
}

/// What recovery found.
pub(super) struct Recovery<P> {
    /// The slots, each at the position from which it goes on, by number.
    slots: BTreeMap<u32, Slot<P>>,
    pending: Vec<Committable>,
    /// How far the target has come; what the attempt claims is the greater of this and what the caller says.
    pub(super) seen: HighMark,
}

/// Takes every slot, old and new, and finds out what of `pending` is not committed yet. Writes nothing.
///
/// # Errors
/// State if a marker is missing or behind what the checkpoint says, or a topic is another one, unless `on_lost` says what to do
/// then.
pub(super) fn look<C: Cluster>(
    run: &Run<C>,
    mut pending: Vec<Committable>,
    on_lost: OnLostMarker,
) -> Result<Recovery<C::Producer>> {
    pending.sort_by_key(|c| (c.epoch, c.slot));
    let mut slots: BTreeMap<u32, Slot<C::Producer>> = BTreeMap::new();
    let mut wanted: BTreeSet<u32> = (0..run.instances).chain(pending.iter().map(|c| c.slot)).collect();
    // The ids first: while one is in a transaction that nobody ends, markers can't be told.
    let markers = loop {
        let missing: Vec<u32> = wanted.iter().copied().filter(|slot| !slots.contains_key(slot)).collect();
        for slot in missing {
            let taken = run.persist(|| run.cluster.take(&run.id(slot)))?;
            let slot_of = Slot { taken: Some(taken), is_claimed: false, was_taken: true, ..Slot::claimed(slot) };
            slots.insert(slot, slot_of);
        }
        fail_point!("kafka::all_taken")?;
        let markers = run.persist(|| run.cluster.markers(run.prefix))?;
        let numbered = markers.into_iter().filter_map(|(slot, marker)| Some((slot.parse::<u32>().ok()?, marker)));
        let markers: BTreeMap<u32, Marker> = numbered.collect();
        // Slots that the last attempt had given up have had no writer since.
        wanted.extend(markers.iter().filter(|(slot, m)| **slot < m.instances).map(|(slot, _)| *slot));
        if wanted.iter().all(|slot| slots.contains_key(slot)) {
            break markers;
        }
    };
    let own = |slot: &u32| markers.get(slot).filter(|m| m.lineage == run.lineage);
    // Slots that were given up know topics of that time.
    let used = markers.iter().filter(|(slot, m)| m.lineage == run.lineage && **slot < m.instances);
    let topics = used.flat_map(|(_, marker)| marker.topics.clone()).collect();
    match run.persist(|| run.cluster.renewed(&topics))?.first() {
        Some(topic) if on_lost == OnLostMarker::Fail => return Err(renewed_topic(topic, "while the job was down")),
        // What is committed was in the topic before: the new one begins with what follows.
        Some(_) | None => {}
    }
    for (number, slot) in &mut slots {
        slot.position = match (own(number), pending.iter().find(|c| c.slot == *number)) {
            (marker, None) => marker.map(|m| m.position).unwrap_or_default(),
            (marker, Some(first)) => go_on_from(run, first, marker, markers.get(number), on_lost)?,
        };
    }
    let of_lineage = markers.values().filter(|m| m.lineage == run.lineage);
    let epoch = of_lineage.clone().map(|m| m.position.epoch).max().unwrap_or(0);
    let attempt = of_lineage.map(|m| m.attempt + 1).max().unwrap_or(0).max(run.attempt);
    Ok(Recovery { slots, pending, seen: HighMark { epoch, attempt } })
}

/// Where a slot goes on, of which the checkpoint has `pending` first.
fn go_on_from<C: Cluster>(
    run: &Run<C>,
    pending: &Committable,
    own: Option<&Marker>,
    any: Option<&Marker>,
    on_lost: OnLostMarker,
) -> Result<Position> {
    let id = run.id(pending.slot);
    let why = match (own, any) {
        (Some(own), _) => {
            let at = own.position;
            if at.epoch >= pending.epoch || at.epoch >= pending.committed && at.is_complete() {
                return Ok(at);
            }
            format!(
                "the checkpoint says that epoch {} is committed, the marker says epoch {} (chunk {} of {})",
                pending.committed, at.epoch, at.chunk, at.chunks
            )
        }
        (None, Some(_)) => "the marker is that of another job, which uses the same transactional id".into(),
        (None, None) => {
            format!("the checkpoint says that epoch {} is committed, but there is no marker", pending.committed)
        }
    };
    match on_lost {
        OnLostMarker::Fail => Err(lost_marker(&id, &why)),
        OnLostMarker::Replay => Ok(Position::end_of(pending.epoch.saturating_sub(1))),
        OnLostMarker::Skip => Ok(Position::end_of(pending.epoch)),
    }
}

/// Commits what is pending and claims every slot for `run.attempt`, which is not below what was seen. `first_epoch`: that
/// of the attempt's first new epoch, above all that was seen.
pub(super) fn settle<C: Cluster>(run: &Run<C>, recovery: Recovery<C::Producer>, first_epoch: u64) -> Result<()> {
    run.persist(|| run.cluster.prepare_markers())?;
    let Recovery { mut slots, pending, .. } = recovery;
    for due in &pending {
        let Some(slot) = slots.get_mut(&due.slot) else { continue };
        slot.commit(run, due)?;
        fail_point!("kafka::replayed")?;
    }
    for slot in slots.values_mut() {
        slot.claim(run, first_epoch)?;
        fail_point!("kafka::claimed")?;
    }
    Ok(())
}
