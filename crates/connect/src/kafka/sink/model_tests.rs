//! The protocol against a model of Kafka's transactions: attempts that crash, freeze and wake up as zombies at every step, calls
//! that fail before or after they took effect, and restarts with other numbers of slots.

use super::log::{Buffer, LogObject, Record, records};
use super::protocol::*;
use millstream_core::sink::EpochStorage;
use millstream_core::{Error, ErrorKind, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
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
    epoch: u64,
    next_epoch: u64,
    pending: Vec<Committable>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Thread {
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
            self.turn.notify_all();
        }
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

    /// Lets one attempt take a step; none if nobody can.
    fn go_on(&self, attempt: u64) {
        let mut state = self.state.lock().unwrap();
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
        Ok(Vec::new())
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
    number: u64,
    slots: u32,
    epochs: u64,
    from: Option<Manifest>,
    first_epoch: u64,
}

impl Attempt {
    fn run(&self) -> Result<()> {
        let client = Client { world: self.world.clone(), attempt: self.number };
        let storage = Storage { world: self.world.clone(), attempt: self.number };
        let patience = |_: &Error| true;
        let mut run = Run {
            cluster: &client,
            storage: &storage,
            lineage: "job",
            prefix: "job/",
            attempt: self.number,
            instances: self.slots,
            patience: &patience,
        };
        let pending = self.from.as_ref().map(|m| m.pending.clone()).unwrap_or_default();
        let recovery = look(&run, pending, OnLostMarker::Fail)?;
        run.attempt = recovery.seen.attempt.max(run.attempt);
        let first_epoch = self.first_epoch.max(recovery.seen.epoch + 1);
        settle(&run, recovery, first_epoch)?;
        let mut slots: Vec<Slot<Writer>> = (0..self.slots).map(Slot::claimed).collect();
        let mut committed = vec![first_epoch - 1; self.slots as usize];
        for epoch in first_epoch..first_epoch + self.epochs {
            let prepare = |slot: u32| self.prepare(&storage, epoch, slot, &mut committed[slot as usize]);
            let due = (0..self.slots).map(prepare).collect::<Result<Vec<_>>>()?;
            // Only who holds the lock stores a checkpoint.
            let stored = self.world.step(self.number, |state| {
                let is_newest = state.newest == self.number;
                if is_newest {
                    state.manifests.push(Manifest { epoch, next_epoch: epoch + 3, pending: due.clone() });
                }
                Ok(is_newest)
            });
            match stored {
                Ok(true) => {}
                Ok(false) => return Err(gone()),
                // Whether it is stored is known only to who starts next.
                Err(_) => return Err(gone()),
            }
            for (slot, due) in slots.iter_mut().zip(&due) {
                slot.commit(&run, due)?;
            }
        }
        Ok(())
    }

    /// `committed`: the slot's last epoch that had records, or the last one before the attempt.
    fn prepare(&self, storage: &Storage, epoch: u64, slot: u32, committed: &mut u64) -> Result<Committable> {
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
        let before = if chunks.is_empty() { *committed } else { std::mem::replace(committed, epoch) };
        Ok(Committable { version: VERSION, lineage: "job".into(), slot, epoch, committed: before, chunks })
    }
}

/// Runs attempts until one ends; gives what was seen on the way.
fn run(seed: u64, rewinds: bool) -> (Arc<World>, BTreeSet<u64>) {
    let world = World::new(seed);
    let mut given_up = BTreeSet::new();
    let mut threads = vec![];
    for number in 1.. {
        let attempt = {
            let mut state = world.state.lock().unwrap();
            state.newest = number;
            // A person may go back to an older checkpoint.
            let back =
                if rewinds && state.random.random_range(0..4) == 0 { state.random.random_range(1..4) } else { 1 };
            let at = state.manifests.len().checked_sub(back);
            let from = at.and_then(|at| state.manifests.get(at).cloned());
            if back > 1 {
                given_up.extend(state.manifests.iter().skip(at.map_or(0, |a| a + 1)).map(|m| m.epoch));
            }
            let first_epoch = match (&from, rewinds) {
                // The record of epochs may be an older copy, too.
                (Some(from), true) => from.next_epoch,
                _ => state.manifests.last().map_or(1, |m| m.next_epoch) + number * 3,
            };
            // Late attempts meet no more crashes, so that the job ends.
            state.is_shaky = number < 12;
            let slots = state.random.random_range(1..4);
            state.threads.insert(number, Thread::Waiting);
            Attempt { world: world.clone(), number, slots, epochs: 4, from, first_epoch }
        };
        let thread_world = world.clone();
        threads.push(std::thread::spawn(move || {
            let outcome = attempt.run();
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
                Ok(()) => break,
                // A zombie that woke up before it had looked at the markers has outbid the attempt: it is one more crash.
                Err(e) if e.to_string().contains("another run of this job has taken over") => {}
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
    (world, given_up)
}

fn expected(state: &State) -> Vec<(u64, Vec<String>)> {
    let values = |committable: &Committable| -> Vec<String> {
        let objects = committable.chunks.iter().flatten();
        let bytes = objects.flat_map(|o| {
            records(&state.objects[&o.name]).map(|r| r.unwrap().value.unwrap().to_vec()).collect::<Vec<_>>()
        });
        bytes.map(|v| String::from_utf8(v).unwrap()).collect()
    };
    state.manifests.iter().flat_map(|m| m.pending.iter().map(move |c| (m.epoch, values(c)))).collect()
}

#[test]
fn every_durable_epoch_is_committed_once_and_in_order_whatever_crashes() {
    for seed in 0..300 {
        let (world, _) = run(seed, false);
        let state = world.state.lock().unwrap();
        let all: Vec<String> = expected(&state).into_iter().flat_map(|(_, values)| values).collect();
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
fn going_back_to_an_older_checkpoint_doubles_no_epoch_and_skips_none_that_is_new() {
    for seed in 1000..1300 {
        let (world, given_up) = run(seed, true);
        let state = world.state.lock().unwrap();
        let mut times: BTreeMap<&String, usize> = BTreeMap::new();
        state.topic.iter().for_each(|v| *times.entry(v).or_default() += 1);
        for (epoch, values) in expected(&state) {
            for value in &values {
                let times = times.get(value).copied().unwrap_or(0);
                assert!(times == 1 || times == 0 && given_up.contains(&epoch), "seed {seed}: {value} {times} times");
            }
        }
    }
}

/// A world in which one attempt has committed one epoch and prepared a second, and what its checkpoint has pending.
fn prepared() -> (Arc<World>, Vec<Committable>) {
    let world = World::new(0);
    world.state.lock().unwrap().is_shaky = false;
    let (world_of_attempt, attempt) = (world.clone(), 1);
    world.state.lock().unwrap().newest = attempt;
    let run = Attempt { world: world_of_attempt, number: attempt, slots: 1, epochs: 2, from: None, first_epoch: 1 };
    alone(&world, attempt, move || run.run()).unwrap();
    let state = world.state.lock().unwrap();
    let pending = state.manifests.last().unwrap().pending.clone();
    drop(state);
    (world, pending)
}

/// Runs something that takes steps as `attempt`, with nobody else there.
fn alone<T: Send + 'static>(world: &Arc<World>, attempt: u64, act: impl FnOnce() -> T + Send + 'static) -> T {
    world.state.lock().unwrap().threads.insert(attempt, Thread::Waiting);
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
            attempt: 2,
            instances: 1,
            patience: &|_| false,
        };
        settle(&run, look(&run, pending, on_lost)?, 9)
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
    assert!(error.to_string().contains("there is no marker"), "{error}");
    assert!(world.state.lock().unwrap().markers.is_empty(), "nothing was claimed");
    let records = pending[0].chunks.iter().flatten().map(|o| o.records as usize).sum::<usize>();
    assert_eq!(recover(&world, pending.clone(), OnLostMarker::Replay).unwrap(), records);
    world.state.lock().unwrap().markers.clear();
    assert_eq!(recover(&world, pending.clone(), OnLostMarker::Skip).unwrap(), 0);
    // The choice is noted: from then on nothing is missing.
    assert_eq!(recover(&world, pending, OnLostMarker::Fail).unwrap(), 0);
}

#[test]
fn a_marker_behind_the_checkpoint_or_of_another_job_stops_the_job() {
    let (world, pending) = prepared();
    let key = "job/0".to_string();
    let marker = world.state.lock().unwrap().markers[&key].clone();
    let behind = Marker { position: Position::end_of(0), ..marker.clone() };
    world.state.lock().unwrap().markers.insert(key.clone(), behind);
    let error = recover(&world, pending.clone(), OnLostMarker::Fail).unwrap_err();
    assert!(error.to_string().contains("the marker says epoch 0"), "{error}");
    let foreign = Marker { lineage: "other".into(), ..marker };
    world.state.lock().unwrap().markers.insert(key, foreign);
    let error = recover(&world, pending, OnLostMarker::Fail).unwrap_err();
    assert!(error.to_string().contains("that of another job"), "{error}");
}
