//! The protocol against a model of Kafka's transactions: attempts that crash, freeze and wake up as zombies at every step, calls
//! that fail before or after they took effect, and restarts with other numbers of slots.

use super::ledger::{Ledger, Position, RunId};
use super::log::{Buffer, LogObject, Record, records};
use super::protocol::*;
use millstream_core::sink::EpochStorage;
use millstream_core::{Error, ErrorKind, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

/// What all attempts share: the servers, the checkpoints, and whose turn it is.
struct World {
    state: Mutex<State>,
    turn: Condvar,
}

struct State {
    random: StdRng,
    /// By transactional id: how often it was taken, and what is written in its open transaction.
    ids: BTreeMap<String, (u64, Option<Open>)>,
    topic: Vec<String>,
    markers: BTreeMap<String, Marker>,
    has_marker_topic: bool,
    objects: BTreeMap<String, Vec<u8>>,
    /// The last attempt could not tell what to do, and a person is asked.
    is_asked: bool,
    /// How often.
    asked: usize,
    manifests: Vec<Manifest>,
    /// The attempt that holds the state directory's lock.
    newest: u64,
    threads: BTreeMap<u64, Thread>,
    running: Option<u64>,
    /// Whether calls fail.
    is_shaky: bool,
}

#[derive(Default)]
struct Open {
    records: Vec<String>,
    marker: Option<(String, Marker)>,
}

#[derive(Clone)]
struct Manifest {
    /// The one before it, among all.
    parent: Option<usize>,
    attempt: u64,
    next_epoch: u64,
    pending: Vec<Committable>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Thread {
    /// It has not come to its first step.
    Starting,
    Waiting,
    Frozen,
    Ended,
}

fn gone() -> Error {
    Error::internal("crashed")
}

impl World {
    fn new(seed: u64) -> Arc<World> {
        Arc::new(World {
            state: Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                ids: BTreeMap::new(),
                topic: vec![],
                markers: BTreeMap::new(),
                has_marker_topic: false,
                objects: BTreeMap::new(),
                is_asked: false,
                asked: 0,
                manifests: vec![],
                newest: 0,
                threads: BTreeMap::new(),
                running: None,
                is_shaky: true,
            }),
            turn: Condvar::new(),
        })
    }

    /// A step of an attempt: waits for its turn, then acts. Some steps crash or fail instead, or fail after they took effect.
    fn step<T>(&self, attempt: u64, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap();
        state.threads.insert(attempt, Thread::Waiting);
        if state.running == Some(attempt) {
            state.running = None;
        }
        self.turn.notify_all();
        while state.running != Some(attempt) {
            state = self.turn.wait(state).unwrap();
        }
        if !state.is_shaky {
            return act(&mut state);
        }
        match state.random.random_range(0..100) {
            0..3 => Err(gone()),
            3..6 => Err(Error::retry("no answer; nothing was done")),
            6..9 => act(&mut state).and(Err(Error::retry("no answer; it was done"))),
            _ => act(&mut state),
        }
    }

    fn end(&self, attempt: u64) {
        let mut state = self.state.lock().unwrap();
        state.threads.insert(attempt, Thread::Ended);
        state.running = None;
        self.turn.notify_all();
    }

    /// Lets one attempt take a step.
    fn go_on(&self, attempt: u64) {
        let mut state = self.state.lock().unwrap();
        while state.threads[&attempt] == Thread::Starting {
            state = self.turn.wait(state).unwrap();
        }
        if state.threads[&attempt] == Thread::Ended {
            return;
        }
        state.running = Some(attempt);
        self.turn.notify_all();
        while state.running.is_some() {
            state = self.turn.wait(state).unwrap();
        }
    }
}

struct Client {
    world: Arc<World>,
    attempt: u64,
}

struct Writer {
    world: Arc<World>,
    attempt: u64,
    id: String,
    taken: u64,
}

impl Cluster for Client {
    type Producer = Writer;

    fn take(&self, id: &str) -> Result<Writer> {
        let taken = self.world.step(self.attempt, |state| {
            let (taken, open) = state.ids.entry(id.to_string()).or_default();
            *open = None;
            *taken += 1;
            Ok(*taken)
        })?;
        Ok(Writer { world: self.world.clone(), attempt: self.attempt, id: id.to_string(), taken })
    }

    fn markers(&self, prefix: &str) -> Result<BTreeMap<String, Marker>> {
        self.world.step(self.attempt, |state| {
            let of_prefix = |(id, m): (&String, &Marker)| Some((id.strip_prefix(prefix)?.to_string(), m.clone()));
            Ok(state.markers.iter().filter_map(of_prefix).collect())
        })
    }

    fn prepare_markers(&self) -> Result<()> {
        self.world.step(self.attempt, |state| {
            state.has_marker_topic = true;
            Ok(())
        })
    }

    /// Nobody makes topics anew.
    fn renewed(&self, _topics: &BTreeMap<String, String>) -> Result<Vec<String>> {
        self.world.step(self.attempt, |_| Ok(Vec::new()))
    }
}

impl Writer {
    fn step(&self, act: impl FnOnce(&mut State, &mut Option<Open>) -> Result<()>) -> Result<()> {
        self.world.step(self.attempt, |state| {
            let (taken, mut open) = state.ids.remove(&self.id).unwrap();
            let outcome = match taken == self.taken {
                true => act(state, &mut open),
                false => Err(Error::retry("fenced")),
            };
            state.ids.insert(self.id.clone(), (taken, open));
            outcome
        })
    }
}

impl Transactions for Writer {
    fn commit(&mut self, objects: &mut dyn Iterator<Item = Result<Vec<u8>>>, key: &str, marker: &Marker) -> Result<()> {
        self.step(|_, open| {
            assert!(open.is_none(), "the last transaction is over");
            *open = Some(Open::default());
            Ok(())
        })?;
        for object in objects {
            for record in records(&object?) {
                let value = String::from_utf8(record?.value.unwrap().to_vec()).unwrap();
                self.step(|_, open| {
                    open.as_mut().unwrap().records.push(value);
                    Ok(())
                })?;
            }
        }
        self.step(|state, open| {
            assert!(state.has_marker_topic, "the marker topic was made");
            open.as_mut().unwrap().marker = Some((key.to_string(), marker.clone()));
            Ok(())
        })?;
        self.step(|state, open| {
            let open = open.take().unwrap();
            state.topic.extend(open.records);
            state.markers.extend(open.marker);
            Ok(())
        })
    }
}

struct Storage {
    world: Arc<World>,
    attempt: u64,
}

impl EpochStorage for Storage {
    fn put(&self, epoch: u64, object: Vec<u8>) -> Result<String> {
        let mut state = self.world.state.lock().unwrap();
        let name = format!("{epoch}-{}-{}", self.attempt, state.objects.len());
        state.objects.insert(name.clone(), object);
        Ok(name)
    }
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.world.state.lock().unwrap().objects[name].clone())
    }
}

/// One attempt of the job: recovers, then prepares and commits epochs.
struct Attempt {
    world: Arc<World>,
    /// No other attempt has it.
    number: u64,
    /// What its record says, which may be an older copy.
    attempt: u64,
    on_lost: OnLostMarker,
    slots: u32,
    epochs: u64,
    /// The manifest that it goes on from, among all.
    from: Option<usize>,
    first_epoch: u64,
    /// It has a copy of the state directory to itself, whoever else runs.
    has_copy: bool,
}

impl Attempt {
    /// Gives its last manifest, among all.
    fn run(&self) -> Result<Option<usize>> {
        let client = Client { world: self.world.clone(), attempt: self.number };
        let storage = Storage { world: self.world.clone(), attempt: self.number };
        let patience = |_: &Error| true;
        let mut run = Run {
            cluster: &client,
            storage: &storage,
            lineage: "job",
            prefix: "job/",
            id: RunId { attempt: self.attempt, run: self.number },
            instances: self.slots,
            patience: &patience,
        };
        let manifest = |at: usize| self.world.state.lock().unwrap().manifests[at].clone();
        let pending = self.from.map(|at| manifest(at).pending).unwrap_or_default();
        let recovery = look(&run, pending, self.on_lost)?;
        run.id.attempt = recovery.seen.attempt;
        let first_epoch = self.first_epoch.max(recovery.seen.epoch + 1);
        settle(&run, recovery)?;
        let mut slots: Vec<Slot<Writer>> = (0..self.slots).map(Slot::claimed).collect();
        let mut committed = vec![None; self.slots as usize];
        let mut parent = self.from;
        for epoch in first_epoch..first_epoch + self.epochs {
            let prepare = |slot: u32| self.prepare(&storage, run.id, epoch, slot, &mut committed[slot as usize]);
            let due = (0..self.slots).map(prepare).collect::<Result<Vec<_>>>()?;
            // Only who holds the lock stores a checkpoint. Whether it did after an error is known only to who starts next.
            parent = self.world.step(self.number, |state| {
                if state.newest != self.number && !self.has_copy {
                    return Err(gone());
                }
                let (attempt, pending) = (run.id.attempt, due.clone());
                state.manifests.push(Manifest { parent, attempt, next_epoch: epoch + 3, pending });
                Ok(Some(state.manifests.len() - 1))
            })?;
            for (slot, due) in slots.iter_mut().zip(&due) {
                slot.commit(&run, due)?;
            }
        }
        Ok(parent)
    }

    /// `committed`: the slot's last epoch that had records.
    fn prepare(
        &self,
        storage: &Storage,
        run: RunId,
        epoch: u64,
        slot: u32,
        committed: &mut Option<u64>,
    ) -> Result<Committable> {
        let chunks = self.world.state.lock().unwrap().random.random_range(0..3);
        let chunk = |chunk: u32| {
            let mut buffer = Buffer::default();
            for n in 0..2 {
                let value = format!("{}:{epoch}:{slot}:{chunk}:{n}", self.number);
                buffer.push(&Record { value: Some(value.as_bytes()), ..Record::default() });
            }
            Ok(vec![LogObject::store(storage, epoch, buffer)?])
        };
        let chunks = (0..chunks).map(chunk).collect::<Result<Vec<_>>>()?;
        let before = if chunks.is_empty() { *committed } else { committed.replace(epoch) };
        Ok(Committable { version: VERSION, lineage: "job".into(), run, slot, epoch, committed: before, chunks })
    }
}

/// Runs attempts until one ends; gives the manifests that it goes back to, and its own, the newest first. `rewinds`: a person goes
/// back to older checkpoints, with copies of the state directory whose record is older, too, while those before may still run.
fn run(seed: u64, rewinds: bool) -> (Arc<World>, Vec<Manifest>) {
    let world = World::new(seed);
    let mut threads = vec![];
    let mut last = None;
    for number in 1.. {
        let attempt = {
            let mut state = world.state.lock().unwrap();
            state.newest = number;
            // A person may go back to an older checkpoint.
            let back =
                if rewinds && state.random.random_range(0..4) == 0 { state.random.random_range(1..4) } else { 1 };
            let at = state.manifests.len().checked_sub(back);
            let manifest = at.map(|at| &state.manifests[at]);
            let first_epoch = match (manifest, rewinds) {
                (Some(manifest), true) => manifest.next_epoch,
                _ => state.manifests.last().map_or(1, |m| m.next_epoch) + number * 3,
            };
            let recorded = manifest.map_or(0, |m| m.attempt);
            let attempt = if rewinds && state.random.random_range(0..2) == 0 { recorded + 1 } else { number };
            assert!(rewinds || !state.is_asked, "seed {seed}: there is one history alone");
            let on_lost = match std::mem::take(&mut state.is_asked) {
                true => OnLostMarker::Replay,
                false => OnLostMarker::Fail,
            };
            // Late attempts meet no more crashes, so that the job ends.
            state.is_shaky = number < 12;
            let slots = state.random.random_range(1..4);
            state.threads.insert(number, Thread::Starting);
            Attempt {
                world: world.clone(),
                number,
                attempt,
                on_lost,
                slots,
                epochs: 4,
                from: at,
                first_epoch,
                has_copy: rewinds,
            }
        };
        let thread_world = world.clone();
        threads.push(std::thread::spawn(move || {
            let outcome = attempt.run();
            if outcome.as_ref().is_err_and(|e| e.to_string().contains("has written since")) {
                let mut state = thread_world.state.lock().unwrap();
                (state.is_asked, state.asked) = (true, state.asked + 1);
            }
            thread_world.end(number);
            outcome
        }));
        let ended = loop {
            let next = {
                let mut state = world.state.lock().unwrap();
                if state.threads[&number] == Thread::Ended {
                    break true;
                }
                // The newest attempt freezes now and then, and counts as dead.
                if state.is_shaky && state.random.random_range(0..150) == 0 {
                    state.threads.insert(number, Thread::Frozen);
                    break false;
                }
                let awake: Vec<u64> =
                    state.threads.iter().filter(|(_, t)| **t != Thread::Ended).map(|(n, _)| *n).collect();
                // Zombies wake up for a step now and then.
                let zombie = state.random.random_range(0..awake.len());
                if state.random.random_range(0..3) == 0 { awake[zombie] } else { number }
            };
            world.go_on(next);
        };
        if ended && !world.state.lock().unwrap().is_shaky {
            match threads.pop().unwrap().join().unwrap() {
                Ok(manifest) => {
                    last = manifest;
                    break;
                }
                // A zombie that woke up before it had looked at the markers has outbid the attempt: it is one more crash.
                Err(e) if e.to_string().contains("another run of this job has taken over") => {}
                Err(e) if rewinds && e.to_string().contains("has written since") => {}
                Err(e) => panic!("seed {seed}, attempt {number}: {e}"),
            }
        }
    }
    // What zombies are left wake up at the end.
    loop {
        let state = world.state.lock().unwrap();
        let next = state.threads.iter().find(|(_, t)| **t != Thread::Ended).map(|(n, _)| *n);
        drop(state);
        match next {
            Some(next) => world.go_on(next),
            None => break,
        }
    }
    for thread in threads {
        // How a crashed attempt ended tells nothing, but a zombie must not run on for ever.
        let _ = thread.join().unwrap();
    }
    let manifests = world.state.lock().unwrap().manifests.clone();
    let path = std::iter::successors(last, |at| manifests[*at].parent).map(|at| manifests[at].clone()).collect();
    (world, path)
}

fn values(state: &State, manifest: &Manifest) -> Vec<String> {
    let objects = manifest.pending.iter().flat_map(|c| c.chunks.iter().flatten());
    let bytes = objects
        .flat_map(|o| records(&state.objects[&o.name]).map(|r| r.unwrap().value.unwrap().to_vec()).collect::<Vec<_>>());
    bytes.map(|v| String::from_utf8(v).unwrap()).collect()
}

#[test]
fn every_durable_epoch_is_committed_once_and_in_order_whatever_crashes() {
    for seed in 0..300 {
        let (world, _) = run(seed, false);
        let state = world.state.lock().unwrap();
        let all: Vec<String> = state.manifests.iter().flat_map(|manifest| values(&state, manifest)).collect();
        let (mut seen, mut wanted) = (state.topic.clone(), all);
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted, "seed {seed}");
        // Each slot's records are in order.
        let of_slot = |slot: &str| state.topic.iter().filter(|v| v.split(':').nth(2) == Some(slot)).cloned().collect();
        for slot in ["0", "1", "2"] {
            let values: Vec<String> = of_slot(slot);
            let epochs: Vec<u64> = values.iter().map(|v| v.split(':').nth(1).unwrap().parse().unwrap()).collect();
            assert!(epochs.is_sorted(), "seed {seed}, slot {slot}: {values:?}");
        }
    }
}

#[test]
fn no_epoch_is_doubled_and_none_of_its_own_history_is_missing_where_copies_of_a_job_run_from_older_checkpoints() {
    let mut asked = 0;
    for seed in 1000..2000 {
        let (world, path) = run(seed, true);
        let state = world.state.lock().unwrap();
        let mut times: BTreeMap<&String, usize> = BTreeMap::new();
        state.topic.iter().for_each(|v| *times.entry(v).or_default() += 1);
        assert!(times.values().all(|times| *times == 1), "seed {seed}: {times:?}");
        for value in path.iter().flat_map(|manifest| values(&state, manifest)) {
            assert!(times.contains_key(&value), "seed {seed}: {value} is missing");
        }
        asked += state.asked;
    }
    assert!(asked > 10, "in {asked} attempts a person was asked");
}

/// A world in which one attempt has committed one epoch and prepared a second, and what its checkpoint has pending.
fn prepared() -> (Arc<World>, Vec<Committable>) {
    let world = World::new(0);
    world.state.lock().unwrap().is_shaky = false;
    let (world_of_attempt, attempt) = (world.clone(), 1);
    world.state.lock().unwrap().newest = attempt;
    let run = Attempt {
        world: world_of_attempt,
        number: attempt,
        attempt,
        on_lost: OnLostMarker::Fail,
        slots: 1,
        epochs: 2,
        from: None,
        first_epoch: 1,
        has_copy: false,
    };
    alone(&world, attempt, move || run.run()).unwrap();
    let state = world.state.lock().unwrap();
    let pending = state.manifests.last().unwrap().pending.clone();
    drop(state);
    (world, pending)
}

/// Runs something that takes steps as `attempt`, with nobody else there.
fn alone<T: Send + 'static>(world: &Arc<World>, attempt: u64, act: impl FnOnce() -> T + Send + 'static) -> T {
    world.state.lock().unwrap().threads.insert(attempt, Thread::Starting);
    let other = world.clone();
    let thread = std::thread::spawn(move || {
        let outcome = act();
        other.end(attempt);
        outcome
    });
    while world.state.lock().unwrap().threads[&attempt] != Thread::Ended {
        world.go_on(attempt);
    }
    thread.join().unwrap()
}

fn recover(world: &Arc<World>, pending: Vec<Committable>, on_lost: OnLostMarker) -> Result<usize> {
    let client = Client { world: world.clone(), attempt: 2 };
    let storage = Storage { world: world.clone(), attempt: 2 };
    let before = world.state.lock().unwrap().topic.len();
    alone(world, 2, move || {
        let run = Run {
            cluster: &client,
            storage: &storage,
            lineage: "job",
            prefix: "job/",
            id: RunId { attempt: 2, run: 2 },
            instances: 1,
            patience: &|_| false,
        };
        settle(&run, look(&run, pending, on_lost)?)
    })?;
    Ok(world.state.lock().unwrap().topic.len() - before)
}

#[test]
fn a_missing_marker_stops_the_job_unless_a_person_has_chosen() {
    let (world, pending) = prepared();
    assert_eq!(recover(&world, pending.clone(), OnLostMarker::Fail).unwrap(), 0);
    world.state.lock().unwrap().markers.clear();
    let error = recover(&world, pending.clone(), OnLostMarker::Fail).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("but there is none"), "{error}");
    assert!(world.state.lock().unwrap().markers.is_empty(), "nothing was claimed");
    let records = pending[0].chunks.iter().flatten().map(|o| o.records as usize).sum::<usize>();
    assert_eq!(recover(&world, pending.clone(), OnLostMarker::Replay).unwrap(), records);
    world.state.lock().unwrap().markers.clear();
    assert_eq!(recover(&world, pending.clone(), OnLostMarker::Skip).unwrap(), 0);
    // The choice is noted: from then on nothing is missing.
    assert_eq!(recover(&world, pending, OnLostMarker::Fail).unwrap(), 0);
}

#[test]
fn what_can_not_be_told_from_the_marker_stops_the_job() {
    let (world, pending) = prepared();
    let key = "job/0".to_string();
    let marker = world.state.lock().unwrap().markers[&key].clone();
    let (first, due) = (RunId { attempt: 1, run: 1 }, &pending[0]);
    assert!(due.run == first && !due.chunks.is_empty());
    let other = RunId { attempt: 2, run: 7 };
    let ledger = |notes: &[(RunId, u64, u64)]| {
        let mut ledger = Ledger::default();
        notes.iter().for_each(|(run, epoch, attempt)| ledger.note(*run, Position::end_of(*epoch), *attempt));
        ledger
    };
    let many: Vec<(RunId, u64, u64)> = (1..40).map(|n| (RunId { attempt: n, run: n }, n, n)).collect();
    let first_due = Committable { committed: None, ..due.clone() };
    let cases = [
        (marker.owner, ledger(&[(first, 0, 1)]), due, "the marker says epoch 0"),
        (marker.owner, ledger(&[]), due, "the marker knows none of attempt 1"),
        (
            RunId { attempt: 0, run: 3 },
            ledger(&[]),
            &first_due,
            "the checkpoint is of attempt 1, the marker of attempt 0",
        ),
        (
            RunId { attempt: 1, run: 3 },
            ledger(&[]),
            &first_due,
            "the checkpoint is of attempt 1, the marker of attempt 1",
        ),
        (other, ledger(&[(first, 1, 1), (other, 9, 2)]), due, "another run of this job has written since"),
        (other, ledger(&[(other, 9, 2)]), &first_due, "attempt 2 has committed up to its epoch 9"),
        (RunId { attempt: 39, run: 39 }, ledger(&many), due, "so long ago"),
    ];
    for (owner, ledger, due, expected) in cases {
        let due = Committable { committed: due.committed.map(|_| 1), ..due.clone() };
        let put = |marker: &Marker| world.state.lock().unwrap().markers.insert(key.clone(), marker.clone());
        let odd = Marker { owner, ledger, ..marker.clone() };
        let records = due.chunks.iter().flatten().map(|o| o.records as usize).sum::<usize>();
        for (on_lost, written) in [(OnLostMarker::Replay, records), (OnLostMarker::Skip, 0)] {
            put(&odd);
            let error = recover(&world, vec![due.clone()], OnLostMarker::Fail).unwrap_err();
            assert!(error.kind() == ErrorKind::State && error.to_string().contains(expected), "{error}");
            assert_eq!(world.state.lock().unwrap().markers[&key], odd, "nothing was claimed");
            assert_eq!(recover(&world, vec![due.clone()], on_lost).unwrap(), written, "{expected}, {on_lost:?}");
            // The choice is noted.
            assert_eq!(recover(&world, vec![due.clone()], OnLostMarker::Fail).unwrap(), 0, "{expected}, {on_lost:?}");
        }
    }
    let foreign = Marker { lineage: "other".into(), ..marker };
    world.state.lock().unwrap().markers.insert(key, foreign);
    let error = recover(&world, pending.clone(), OnLostMarker::Fail).unwrap_err();
    assert!(error.to_string().contains("that of another job"), "{error}");
}

#[test]
fn of_two_copies_with_the_same_attempt_one_stands_down() {
    let (world, pending) = prepared();
    recover(&world, pending.clone(), OnLostMarker::Fail).unwrap();
    // A copy that looked before the other one had claimed, and claims after it.
    let client = Client { world: world.clone(), attempt: 3 };
    let storage = Storage { world: world.clone(), attempt: 3 };
    let error = alone(&world, 3, move || {
        let patience: Patience = &|_| true;
        let id = RunId { attempt: 2, run: 3 };
        let run =
            Run { cluster: &client, storage: &storage, lineage: "job", prefix: "job/", id, instances: 1, patience };
        Slot::claimed(0).commit(&run, &pending[0])
    })
    .unwrap_err();
    assert!(error.to_string().contains("another run of this job has taken over"), "{error}");
    assert!(error.to_string().contains("both are attempt 2"), "{error}");
}

#[test]
fn what_another_version_wrote_is_told() {
    let (world, pending) = prepared();
    let marker = world.state.lock().unwrap().markers["job/0"].clone();
    let read = |value: serde_json::Value| Marker::decode(value.to_string().as_bytes());
    assert_eq!(read(serde_json::to_value(&marker).unwrap()).unwrap(), marker);
    for (value, expected) in [
        (
            serde_json::json!({"version": 1, "position": 3}),
            "a marker of the Kafka sink has version 1; this program knows version 2",
        ),
        (serde_json::json!({"version": VERSION}), "can't be read: missing field"),
        (serde_json::json!(7), "has version none"),
    ] {
        let error = read(value).unwrap_err();
        assert!(error.kind() == ErrorKind::State && error.to_string().contains(expected), "{error}");
    }
    let due = Committable { version: 1, ..pending[0].clone() };
    let error = Committable::decode(&due.encode().unwrap()).unwrap_err();
    assert!(error.to_string().contains("a commit of the Kafka sink has version 1"), "{error}");
}
