//! From an event's writing until its result can be read.

use super::load::{reader, send};
use super::{Guarantee, Route, Setup};
use crate::program;
use millstream_testbed::kafka::Broker;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Before events are counted.
const WARM_UP: Duration = Duration::from_secs(5);
/// For how long the last results may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks whether the job still runs.
const LOOK: Duration = Duration::from_millis(100);

/// What is written, and how the job runs.
pub struct Load<'a> {
    pub guarantee: Guarantee,
    pub interval: &'a str,
    /// Events a second.
    pub rate: u64,
    pub seconds: u64,
    /// Of the case; names its topics.
    pub number: usize,
}

impl Load<'_> {
    /// Events that don't count.
    fn warm_up(&self) -> u64 {
        WARM_UP.as_secs() * self.rate
    }
    /// All events.
    fn count(&self) -> u64 {
        self.warm_up() + self.seconds * self.rate
    }
}

/// One line: from the event's writing to its result, and, for comparison, until the event itself can be read.
pub fn measure(broker: &Broker, program: &Path, setup: &Setup, load: &Load<'_>) -> Result<Value, String> {
    let (input, output) = (format!("events-{}", load.number), format!("results-{}", load.number));
    broker.create_topic(&input, setup.partitions);
    broker.create_topic(&output, setup.partitions);
    let servers = broker.servers();
    let route = Route {
        servers: &servers,
        input: &input,
        output: &output,
        guarantee: load.guarantee,
        interval: load.interval,
        is_bounded: false,
    };
    let columns = "id BIGINT, sent BIGINT";
    let script = route.script(columns, columns, "SELECT id, sent FROM events WHERE id >= 0");
    let mut job = program::start(program, &setup.folder, &script, setup.parallelism)?;
    let measured = all(broker, &input, &output, setup, load, &mut job);
    let ended = program::stop(job);
    let (events, results) = measured?;
    let used = ended?;
    let events_of = |all: &[u64]| json!({ "p50": ms(all, 0.5), "p99": ms(all, 0.99), "max": ms(all, 1.0) });
    Ok(json!({
        "guarantee": load.guarantee.name(),
        "interval": load.interval,
        "rate": load.rate,
        "events": results.len(),
        "ms": events_of(&results),
        "ms_without_a_job": events_of(&events),
        "cpu_s": program::rounded(used.cpu_s),
    }))
}

/// Writes events, and gives for events and results how long each took until it was read, in microseconds, ascending. An error
/// as soon as the job has ended.
fn all(
    broker: &Broker,
    input: &str,
    output: &str,
    setup: &Setup,
    load: &Load<'_>,
    job: &mut Child,
) -> Result<(Vec<u64>, Vec<u64>), String> {
    let origin = Instant::now();
    let first = load.warm_up();
    // Ids from here on are of no interest: set if writing fails.
    let end = AtomicU64::new(load.count());
    std::thread::scope(|scope| {
        let events = scope.spawn(|| watch(broker, input, origin, first, &end));
        let results = scope.spawn(|| watch(broker, output, origin, first, &end));
        let mut looked = origin;
        let mut check = || match looked.elapsed() < LOOK {
            true => Ok(()),
            false => {
                looked = Instant::now();
                program::check_runs(job)
            }
        };
        let written = write(broker, input, origin, load, setup.partitions, &mut check).and_then(|()| {
            while !(events.is_finished() && results.is_finished()) {
                std::thread::sleep(LOOK);
                check()?;
            }
            Ok(())
        });
        if written.is_err() {
            end.store(0, Ordering::Release);
        }
        let joined = [events, results].map(|t| t.join().unwrap_or_else(|_| Err("a reader has panicked".into())));
        written?;
        let [events, results] = joined;
        Ok((events?, results?))
    })
}

/// Writes the events, each when it is due, as long as `check` finds nothing.
fn write(
    broker: &Broker,
    topic: &str,
    origin: Instant,
    load: &Load<'_>,
    partitions: i32,
    check: &mut dyn FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let producer: BaseProducer = broker.client().set("linger.ms", "0").create().map_err(|e| e.to_string())?;
    for id in 0..load.count() {
        check()?;
        let due = Duration::from_nanos(id * 1_000_000_000 / load.rate.max(1));
        while let Some(left) = due.checked_sub(origin.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
        let value = format!("{{\"id\":{id},\"sent\":{}}}", origin.elapsed().as_micros());
        let partition = (id % partitions.max(1) as u64) as i32;
        send(&producer, BaseRecord::to(topic).partition(partition).payload(&value))?;
    }
    producer.flush(PATIENCE).map_err(|e| e.to_string())
}

/// Reads until `end` records with an id from `first` on have come.
fn watch(broker: &Broker, topic: &str, origin: Instant, first: u64, end: &AtomicU64) -> Result<Vec<u64>, String> {
    let (consumer, _) = reader(broker, topic)?;
    let (mut found, mut last) = (Vec::new(), Instant::now());
    while (found.len() as u64) < end.load(Ordering::Acquire).saturating_sub(first) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let now = origin.elapsed().as_micros() as u64;
                let value: Value =
                    serde_json::from_slice(message.payload().unwrap_or_default()).map_err(|e| e.to_string())?;
                let number = |name: &str| value.get(name).and_then(Value::as_u64).ok_or("a record without a number");
                if number("id")? >= first {
                    found.push(now.saturating_sub(number("sent")?));
                }
                last = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {
                if last.elapsed() > PATIENCE {
                    return Err(format!("topic '{topic}' has only {} of the records", found.len()));
                }
            }
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A quantile of values in ascending order, in milliseconds.
fn ms(sorted: &[u64], quantile: f64) -> f64 {
    let at = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(at.clamp(1, sorted.len().max(1)) - 1).map_or(0.0, |micros| (*micros as f64 / 100.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let all: Vec<u64> = (1..=100).map(|n| n * 1000).collect();
        assert_eq!((ms(&all, 0.5), ms(&all, 0.99), ms(&all, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!((ms(&all[..1], 0.5), ms(&[], 0.5)), (1.0, 0.0));
    }
}
