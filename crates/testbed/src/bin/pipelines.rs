//! Runs an example pipeline with a Kafka of its own: writes events, kills the job halfway, and compares what comes out.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a demonstration ends with what went wrong")]

use millstream_testbed::kafka::{Broker, Record, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

/// Events are written for so long; a batch each tenth of a second.
const BATCHES: u64 = 100;
const EVENTS_A_BATCH: u64 = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, program, folder] = arguments.as_slice() else {
        eprintln!("usage: pipelines (router | alerts) MILLSTREAM FOLDER");
        return ExitCode::from(2);
    };
    let Some(broker) = Broker::start() else { return ExitCode::FAILURE };
    println!("Kafka answers at {}", broker.servers());
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    let job = Job { name: name.clone(), program: program.into(), folder: folder.into(), servers: broker.servers() };
    match name.as_str() {
        "router" => router(&broker, &job),
        "alerts" => alerts(&broker, &job),
        other => {
            eprintln!("there is no example '{other}': router, alerts");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// The program that runs the example's script.
struct Job {
    name: String,
    program: PathBuf,
    /// For the script with this server's address, the state, and files that the job writes.
    folder: PathBuf,
    servers: String,
}

impl Job {
    fn start(&self) -> Child {
        let script = Path::new("examples").join(&self.name).join(format!("{}.sql", self.name));
        let text = std::fs::read_to_string(&script).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        let out = self.folder.join("out").display().to_string();
        let text = text.replace("localhost:9092", &self.servers).replace(&format!("examples/{}/out", self.name), &out);
        let own = self.folder.join("script.sql");
        std::fs::write(&own, text).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("run").arg(own).arg("--state-dir").arg(self.folder.join("state"));
        command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display()))
    }

    /// Writes all batches while the job runs, with a SIGKILL of it halfway; gives the job that runs at the end.
    fn run_through(&self, broker: &Broker, batch: impl Fn(u64) -> Vec<Record>) -> Child {
        let mut child = self.start();
        for number in 0..BATCHES {
            if number == BATCHES / 2 {
                child.kill().unwrap();
                child.wait().unwrap();
                println!("killed the job (SIGKILL) after {} events; started it again", number * EVENTS_A_BATCH);
                child = self.start();
            }
            assert_runs(&mut child);
            broker.produce(&batch(number));
            std::thread::sleep(Duration::from_millis(100));
        }
        child
    }
}

fn assert_runs(child: &mut Child) {
    let ended = child.try_wait().unwrap();
    assert!(ended.is_none(), "the job has ended");
}

/// Stops a job in order (SIGTERM).
fn stop(mut child: Child) {
    // SAFETY: a plain system call without pointers, on a child that has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    let status = child.wait().unwrap();
    assert!(status.success(), "the job ended with {status}");
}

/// Numbers without a pattern that would matter here.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn router(broker: &Broker, job: &Job) {
    broker.create_topic("events", 3);
    broker.create_topic("alarms", 2);
    broker.create_topic("readings", 2);
    let event = |id: u64| {
        let random = mixed(id);
        let (kind, severity) = if random.is_multiple_of(5) { ("fault", random / 7 % 5) } else { ("reading", 0) };
        (kind, severity, (random / 11 % 2000) as f64 / 10.0 - 50.0)
    };
    let batch = |number: u64| {
        let ids = number * EVENTS_A_BATCH..(number + 1) * EVENTS_A_BATCH;
        let records = ids.map(|id| {
            let (kind, severity, reading) = event(id);
            let device = format!("device-{}", id % 17);
            let value = format!(
                "{{\"id\":{id},\"device\":\"{device}\",\"kind\":\"{kind}\",\"severity\":{severity},\"reading\":{reading:.1}}}"
            );
            Record::keyed("events", &device, Some(&value))
        });
        records.collect()
    };
    let mut child = job.run_through(broker, batch);
    let all = 0..BATCHES * EVENTS_A_BATCH;
    let alarms: BTreeSet<u64> = all.clone().filter(|id| event(*id).0 == "fault" && event(*id).1 >= 3).collect();
    let in_range = |id: &u64| event(*id).0 == "reading" && (-40.0..=120.0).contains(&event(*id).2);
    let readings: BTreeSet<u64> = all.clone().filter(in_range).collect();
    let archive = job.folder.join("out");
    wait_for("the last events", || {
        assert_runs(&mut child);
        let done = broker.read_committed("alarms").len() >= alarms.len()
            && broker.read_committed("readings").len() >= readings.len()
            && lines(&archive).len() as u64 >= all.end;
        done.then_some(())
    });
    stop(child);
    let archived = lines(&archive);
    compare(
        "topic alarms",
        broker.read_committed("alarms").iter().map(|r| number_behind(&r.text(), "\"id\":")),
        &alarms,
    );
    compare(
        "topic readings",
        broker.read_committed("readings").iter().map(|r| number_behind(&r.text(), "\"id\":")),
        &readings,
    );
    compare("files", archived.iter().map(|line| number_behind(line, "\"id\":")), &all.collect());
    broker.read_committed("alarms").iter().take(3).for_each(|record| println!("  alarms   {}", record.text()));
    archived.iter().take(3).for_each(|line| println!("  archive  {line}"));
}

/// The lines of all finished files below a folder.
fn lines(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(lines(&entry.path()));
        } else if !name.starts_with(['.', '_']) {
            found.extend(std::fs::read_to_string(entry.path()).unwrap_or_default().lines().map(String::from));
        }
    }
    found
}

fn compare(what: &str, found: impl Iterator<Item = u64>, expected: &BTreeSet<u64>) {
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    found.for_each(|id| *counts.entry(id).or_default() += 1);
    let missing = expected.iter().filter(|id| !counts.contains_key(id)).count();
    let doubled = counts.values().filter(|count| **count > 1).count();
    let wrong = counts.keys().filter(|id| !expected.contains(id)).count();
    println!("{what}: {} events, {missing} missing, {doubled} doubled, {wrong} wrong", counts.len());
    assert!(missing + doubled + wrong == 0, "{what}: not what was written");
}

fn alerts(broker: &Broker, job: &Job) {
    /// When the first login is; milliseconds. A batch takes a second of the logins' time.
    const START: u64 = 1_760_000_000_000;
    broker.create_topic("logins", 3);
    broker.create_topic_with("alerts", 2, &[("cleanup.policy", "compact")]);
    // Of each login its number, its user, its time, whether it is a success.
    let login = |n: u64| {
        let random = mixed(n);
        let second = n / EVENTS_A_BATCH;
        // Each user is attacked for a while, at times of their own.
        let user = random % 50;
        let attacked = (second + user * 7) % 60 < 6;
        (user, START + second * 1000 + random / 64 % 1000, !attacked || (random / 128).is_multiple_of(4))
    };
    let record = |n: u64| {
        let (user, time, success) = login(n);
        let value = format!("{{\"success\":{success},\"address\":\"10.0.0.{}\"}}", mixed(n) / 256 % 9);
        Record::keyed("logins", &format!("user-{user}"), Some(&value)).at(time as i64)
    };
    let mut child = job
        .run_through(broker, |number| (number * EVENTS_A_BATCH..(number + 1) * EVENTS_A_BATCH).map(record).collect());
    // Event time goes on a minute later, in each partition: all sessions are over.
    let later = (START + BATCHES * 1000 + 60_000) as i64;
    let end =
        |partition| Record::keyed("logins", "clock", Some("{\"success\":true}")).at(later).to_partition(partition);
    broker.produce(&(0..3).map(end).collect::<Vec<_>>());
    let expected = sessions((0..BATCHES * EVENTS_A_BATCH).map(login).filter(|l| !l.2).map(|l| (l.0, l.1)));
    let count = expected.values().map(Vec::len).sum::<usize>();
    wait_for("the last alerts", || {
        assert_runs(&mut child);
        (broker.read_committed("alerts").len() >= count).then_some(())
    });
    stop(child);
    let written = broker.read_committed("alerts");
    println!("topic alerts: {} alerts, {count} expected", written.len());
    let mut found: BTreeMap<u64, Vec<(String, u64)>> = BTreeMap::new();
    for record in &written {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        found
            .entry(number_behind(&key, "user-"))
            .or_default()
            .push((key, number_behind(&record.text(), "\"failures\":")));
    }
    found.values_mut().for_each(|alerts| alerts.sort());
    let found = found.into_iter().map(|(user, alerts)| (user, alerts.into_iter().map(|alert| alert.1).collect()));
    assert_eq!(found.collect::<BTreeMap<u64, Vec<u64>>>(), expected, "the alerts are not those of the logins");
    written.iter().take(4).for_each(|record| println!("  {}", record.text()));
}

fn number_behind(text: &str, mark: &str) -> u64 {
    let rest = text.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {text}")).1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// How many failures the alerts of each user tell of, one after the other; `failures`: user, time in milliseconds.
fn sessions(failures: impl Iterator<Item = (u64, u64)>) -> BTreeMap<u64, Vec<u64>> {
    let mut by_user: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    failures.for_each(|(user, time)| by_user.entry(user).or_default().push(time));
    let mut alerts = BTreeMap::new();
    for (user, mut times) in by_user {
        times.sort_unstable();
        let sessions = times.chunk_by(|a, b| b - a < 10_000).map(|session| session.len() as u64);
        let long: Vec<u64> = sessions.filter(|failures| *failures >= 5).collect();
        if !long.is_empty() {
            alerts.insert(user, long);
        }
    }
    alerts
}
