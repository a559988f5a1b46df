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
//! - Epochs are known by the run that prepared them and their number; a marker tells for each run how far its epochs are
//!   committed. So nobody takes an epoch of one copy of a job, or of one branch of its checkpoints, for one of another.
//! - Before it writes anything for a new epoch, a run has *claimed* each slot: a marker that names it as the owner. Who takes
//!   an id later than that, and finds another owner whose attempt is not below its own, stands down: so a zombie that wakes up
//!   in the middle of its first commit writes nothing, and one of two copies that start at once ends.
//! - A slot's marker is never behind what a durable checkpoint says is committed. If it is, markers were lost, and what is
//!   committed can't be told: the job stops.
//! - If a run finds what is pending not committed, and output of another run that didn't follow from it, a person says which of
//!   the two counts.
//! - A marker has the ids of the topics that are written. If one is another topic by now, what was committed is gone with the
//!   one before: the job stops, too.

use super::ledger::{Ledger, Position, RunId};
use super::log::LogObject;
use crate::versioned;
use millstream_core::sink::{EpochStorage, HighMark};
use millstream_core::{Error, ErrorKind, Place, Result, fail_point};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of what is stored in the checkpoint and in markers.
pub(super) const VERSION: u32 = 2;

/// The last word of a slot, as it stands in the marker topic under the slot's transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) version: u32,
    /// The sink of the job that wrote it.
    pub(super) lineage: String,
    /// The run that wrote it, whose slot it is.
    pub(super) owner: RunId,
    /// How many slots that run has: those from there on are given up.
    pub(super) instances: u32,
    pub(super) ledger: Ledger,
    /// Records of the chunk, and the CRC-32 of its objects' CRC-32s; for people who look for what is missing.
    pub(super) records: u64,
    pub(super) crc: u32,
    /// The topics that are written, by name their ids, as far as the servers tell; filled in by who writes the marker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) topics: BTreeMap<String, String>,
}

impl Marker {
    pub(super) fn decode(bytes: &[u8]) -> Result<Marker> {
        versioned::decode(bytes, "a marker of the Kafka sink", VERSION)
    }
    /// What a slot's writers say later has a greater one.
    pub(super) fn order(&self) -> impl Ord + use<> {
        (self.owner.attempt, self.ledger.last().map(|e| (e.committed_by, e.position.order())))
    }
}

/// What one slot has prepared in one epoch, as stored in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Committable {
    pub(super) version: u32,
    /// As in [`Marker`].
    pub(super) lineage: String,
    /// The run that prepared it.
    pub(super) run: RunId,
    pub(super) slot: u32,
    pub(super) epoch: u64,
    /// The last epoch before it of which this run had records for the slot: it is committed. None: there is none.
    pub(super) committed: Option<u64>,
    /// The log's objects, by transaction; none: the epoch has no records.
    pub(super) chunks: Vec<Vec<LogObject>>,
}

impl Committable {
    /// How many of its chunks are committed.
    fn committed_chunks(&self, ledger: &Ledger) -> usize {
        ledger.of(self.run).map_or(0, |at| at.chunks_of(self.epoch, self.chunks.len()))
    }
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Committable> {
        versioned::decode(bytes, "a commit of the Kafka sink", VERSION)
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

/// What to do about a marker that is missing or behind, or output of another run that came before what is pending.
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
    pub(super) id: RunId,
    pub(super) instances: u32,
    pub(super) patience: Patience<'a>,
}

/// A slot, whose id this attempt takes when it first needs it, and again after an error.
pub(super) struct Slot<P> {
    number: u32,
    taken: Option<P>,
    /// Known while the id is held.
    ledger: Ledger,
    /// What a person has given up: what this run prepared, up to this epoch.
    given_up: Option<(RunId, u64)>,
    /// The attempt has claimed the slot: its marker must be there.
    is_claimed: bool,
    /// This attempt has held the id, and may have lost it to another one.
    was_taken: bool,
}

impl<P: Transactions> Slot<P> {
    /// A slot that the attempt has claimed.
    pub(super) fn claimed(number: u32) -> Self {
        Slot { number, taken: None, ledger: Ledger::default(), given_up: None, is_claimed: true, was_taken: false }
    }

    /// Commits what is due of an epoch, however often that takes.
    pub(super) fn commit<C: Cluster<Producer = P>>(&mut self, run: &Run<C>, due: &Committable) -> Result<()> {
        if due.chunks.is_empty() {
            return Ok(());
        }
        let outcome = self.insist(run, |slot| {
            (due.committed_chunks(&slot.ledger)..due.chunks.len())
                .try_for_each(|done| slot.commit_chunk(run, due, done))
        });
        outcome.map_err(|e| e.context(format!("commit epoch {} of slot {}", due.epoch, self.number)))
    }

    /// Says that the slot is this run's.
    fn claim<C: Cluster<Producer = P>>(&mut self, run: &Run<C>) -> Result<()> {
        let outcome = self.insist(run, |slot| {
            let Some(taken) = &mut slot.taken else { return Ok(()) };
            taken.commit(&mut std::iter::empty(), &run.slot_id(slot.number), &run.marker(slot.ledger.clone()))
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
        let taken = run.cluster.take(&run.slot_id(self.number))?;
        self.was_taken = true;
        fail_point!("kafka::taken")?;
        let (ledger, topics) = self.look(run)?;
        // Before it is claimed a person may have chosen to go on.
        if self.is_claimed
            && let Some(topic) = run.cluster.renewed(&topics)?.first()
        {
            return Err(renewed_topic(topic, "while the job writes to it"));
        }
        self.know(run, ledger);
        self.taken = Some(taken);
        Ok(())
    }

    fn commit_chunk<C: Cluster<Producer = P>>(&mut self, run: &Run<C>, due: &Committable, done: usize) -> Result<()> {
        let (Some(chunk), Some(taken)) = (due.chunks.get(done), &mut self.taken) else { return Ok(()) };
        let chunks = due.chunks.len() as u32;
        let position = Position { epoch: due.epoch, chunk: done as u32 + 1, chunks };
        let mut ledger = self.ledger.clone();
        ledger.note(due.run, position, run.id.attempt);
        let mut marker = run.marker(ledger);
        marker.records = chunk.iter().map(|o| o.records).sum();
        marker.crc = crc32fast::hash(&chunk.iter().flat_map(|o| o.crc.to_be_bytes()).collect::<Vec<_>>());
        let mut objects = chunk.iter().map(|object| object.read(run.storage));
        taken.commit(&mut objects, &run.slot_id(self.number), &marker)?;
        self.ledger = marker.ledger;
        Ok(())
    }

    /// Takes over what the marker says.
    fn know<C>(&mut self, run: &Run<C>, ledger: Ledger) {
        self.ledger = ledger;
        if let Some((of, epoch)) = self.given_up
            && !self.ledger.of(of).is_some_and(|at| at.has(epoch))
        {
            self.ledger.note(of, Position::end_of(epoch), run.id.attempt);
        }
    }

    /// What the marker says, and of which topics, if the slot is still this run's.
    fn look<C: Cluster<Producer = P>>(&self, run: &Run<C>) -> Result<(Ledger, BTreeMap<String, String>)> {
        let id = run.slot_id(self.number);
        let marker = run.cluster.markers(run.prefix)?.remove(&self.number.to_string());
        let lost = |why: &str| Err(lost_marker(&id, why));
        match marker {
            Some(marker) if marker.lineage != run.lineage => match self.is_claimed {
                true => Err(Error::state("another job writes under the same transactional id")
                    .at(Place::Named(format!("transactional id {id}")))
                    .hint("give each job a 'sink.transactional-id-prefix' of its own, or none")),
                false => Ok(Default::default()),
            },
            // Copies of a job that start at once may count the same attempt.
            Some(marker) if marker.owner != run.id && marker.owner.attempt >= run.id.attempt => {
                let (own, other) = (run.id.attempt, marker.owner.attempt);
                let detail = match own == other {
                    true => format!("both are attempt {own}, of copies of the job"),
                    false => format!("this is attempt {own}, the other one is attempt {other}"),
                };
                Err(Error::state("another run of this job has taken over")
                    .at(Place::Named(format!("transactional id {id}")))
                    .detail(detail))
            }
            Some(marker) if self.is_claimed && marker.owner != run.id => {
                lost("the marker of this slot is one from before the job started")
            }
            Some(marker) => {
                let known = |ledger: &Ledger| ledger.of(run.id).unwrap_or_default().order();
                match self.is_claimed && known(&self.ledger) > known(&marker.ledger) {
                    true => lost("the marker of this slot has gone back"),
                    false => Ok((marker.ledger, marker.topics)),
                }
            }
            None if self.is_claimed => lost("the marker of this slot was there when the job started, and is gone"),
            None => Ok(Default::default()),
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
    fn slot_id(&self, slot: u32) -> String {
        format!("{}{slot}", self.prefix)
    }
    fn marker(&self, ledger: Ledger) -> Marker {
        Marker {
            version: VERSION,
            lineage: self.lineage.to_string(),
            owner: self.id,
            instances: self.instances,
            ledger,
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
    /// How far the target has come; the run claims with this attempt.
    pub(super) seen: HighMark,
}

/// Takes every slot, old and new, and finds out what of `pending` is not committed yet. Writes nothing.
///
/// # Errors
/// State if a marker is missing or behind what the checkpoint says, if another run has written since what is pending was
/// prepared, or if a topic is another one, unless `on_lost` says what to do then.
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
            let taken = run.persist(|| run.cluster.take(&run.slot_id(slot)))?;
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
        let pending: Vec<&Committable> = pending.iter().filter(|c| c.slot == *number).collect();
        slot.given_up = given_up(run, &pending, own(number), markers.get(number), on_lost)?;
        slot.know(run, own(number).map(|marker| marker.ledger.clone()).unwrap_or_default());
    }
    let of_lineage = markers.values().filter(|m| m.lineage == run.lineage);
    let epoch = of_lineage.clone().map(|m| m.ledger.epoch()).max().unwrap_or(0);
    let others = of_lineage.filter(|m| m.owner.run != run.id.run);
    let attempt = others.map(|m| m.owner.attempt + 1).max().unwrap_or(0).max(run.id.attempt);
    Ok(Recovery { slots, pending, seen: HighMark { epoch, attempt } })
}

/// What is given up of a slot's `pending` epochs (ascending, of one checkpoint), by a person's choice.
fn given_up<C: Cluster>(
    run: &Run<C>,
    pending: &[&Committable],
    own: Option<&Marker>,
    any: Option<&Marker>,
    on_lost: OnLostMarker,
) -> Result<Option<(RunId, u64)>> {
    let (Some(first), Some(last)) = (pending.first(), pending.last()) else { return Ok(None) };
    let id = run.slot_id(first.slot);
    let error = match (own, any) {
        (Some(own), _) => doubt(&id, pending, first, own),
        (None, Some(_)) => {
            Some(lost_marker(&id, "the marker is that of another job, which uses the same transactional id"))
        }
        (None, None) => Some(lost_marker(
            &id,
            &format!("the checkpoint is of attempt {}, which had a marker, but there is none", first.run.attempt),
        )),
    };
    match (error, on_lost) {
        (None, _) | (_, OnLostMarker::Replay) => Ok(None),
        (Some(error), OnLostMarker::Fail) => Err(error),
        (Some(_), OnLostMarker::Skip) => Ok(Some((last.run, last.epoch))),
    }
}

/// Why it can't be told what is to be done with `pending`, of which `first` is the first.
fn doubt(id: &str, pending: &[&Committable], first: &Committable, own: &Marker) -> Option<Error> {
    let at = own.ledger.of(first.run);
    let is_due = pending.iter().any(|c| c.committed_chunks(&own.ledger) < c.chunks.len());
    let attempt = first.run.attempt;
    if is_due && own.ledger.may_have_forgotten(first.run) {
        let why = format!(
            "the checkpoint is of attempt {attempt}, which is so long ago that markers don't tell of it any more"
        );
        return Some(lost_marker(id, &why));
    }
    match (at, first.committed) {
        (Some(at), Some(committed)) if !at.has(committed) => {
            let why = format!(
                "the checkpoint says that epoch {committed} is committed, the marker says epoch {} (chunk {} of {})",
                at.epoch, at.chunk, at.chunks
            );
            return Some(lost_marker(id, &why));
        }
        (None, Some(committed)) if !own.ledger.may_have_forgotten(first.run) => {
            let why = format!(
                "the checkpoint says that epoch {committed} is committed, the marker knows none of attempt {attempt}"
            );
            return Some(lost_marker(id, &why));
        }
        _ => {}
    }
    if own.owner != first.run && own.owner.attempt <= attempt {
        let why = format!("the checkpoint is of attempt {attempt}, the marker of attempt {}", own.owner.attempt);
        return Some(lost_marker(id, &why));
    }
    let other = own.ledger.others_since(first.run).filter(|_| is_due)?;
    let detail = format!(
        "epoch {} of attempt {attempt} is pending, attempt {} has committed up to its epoch {}",
        first.epoch, other.committed_by, other.position.epoch
    );
    Some(
        Error::state("the checkpoint has output pending for Kafka, and another run of this job has written since")
            .at(Place::Named(format!("transactional id {id}")))
            .detail(detail)
            .hint(
                "did a copy of the job, or one that went back to an older checkpoint, write the same? then start once with \
                 'sink.lost-marker' = 'skip' (give up what is pending), else with 'replay' (write it now, after what is newer)",
            ),
    )
}

/// Commits what is pending and claims every slot for `run`, whose attempt is not below what was seen.
pub(super) fn settle<C: Cluster>(run: &Run<C>, recovery: Recovery<C::Producer>) -> Result<()> {
    run.persist(|| run.cluster.prepare_markers())?;
    let Recovery { mut slots, pending, .. } = recovery;
    for due in &pending {
        let Some(slot) = slots.get_mut(&due.slot) else { continue };
        slot.commit(run, due)?;
        fail_point!("kafka::replayed")?;
    }
    for slot in slots.values_mut() {
        slot.claim(run)?;
        fail_point!("kafka::claimed")?;
    }
    Ok(())
}
