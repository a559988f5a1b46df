//! Kafka to Kafka: how many events a CPU second does, and how long after an event its result can be read.

mod latency;
mod load;
mod serve;

use crate::program::{self, rounded};
use clap::{Args, Subcommand, ValueEnum};
use millstream_testbed::kafka::Broker;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Measurements with a Kafka server of one's own, which ends with them.
#[derive(Debug, Subcommand)]
pub enum Kafka {
    /// A topic through a query into another topic; beside it a plain consumer of the client library alone.
    Throughput {
        /// Which query.
        #[arg(value_enum)]
        query: Query,
        /// How many events are in the topic.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// Runs of each.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// What the sink promises.
        #[arg(long, value_enum, default_value_t = Guarantee::ExactlyOnce)]
        guarantee: Guarantee,
        /// Between checkpoints.
        #[arg(long, default_value = "1s")]
        interval: String,
        #[command(flatten)]
        setup: Setup,
    },
    /// From an event's writing until its result is read by who reads what is committed: exactly-once with each interval, then
    /// at-least-once.
    Latency {
        /// Between checkpoints.
        #[arg(long, value_delimiter = ',', default_value = "1s,100ms")]
        interval: Vec<String>,
        /// Events a second.
        #[arg(long, default_value_t = 1000)]
        rate: u64,
        /// For how long.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        #[command(flatten)]
        setup: Setup,
    },
    /// Prints the script that `throughput` runs.
    Script {
        /// Which query.
        #[arg(value_enum)]
        query: Query,
        /// The server's address.
        servers: String,
        /// From which topic.
        input: String,
        /// Into which topic.
        output: String,
        /// What the sink promises.
        #[arg(long, value_enum, default_value_t = Guarantee::ExactlyOnce)]
        guarantee: Guarantee,
        /// Between checkpoints.
        #[arg(long, default_value = "1s")]
        interval: String,
    },
    /// Starts a server, says where it is, and answers each order from standard input by a JSON line, until that ends:
    /// `fill TOPIC PARTITIONS EVENTS`, `create TOPIC PARTITIONS`, `consume TOPIC`, `digest TOPIC`, `delete TOPIC`.
    Serve,
}

/// How a measurement is set up.
#[derive(Args, Debug)]
pub struct Setup {
    /// Of each topic.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// How many workers.
    #[arg(long, default_value_t = 1)]
    parallelism: usize,
    /// For the script and the job's state.
    #[arg(long, default_value = "target/bench/kafka")]
    folder: PathBuf,
    /// The program to run, instead of building it.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// What is done with the events on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Query {
    /// A tenth of the events, without two of their columns.
    Filter,
    /// All events with all columns.
    Copy,
    /// Count and sum by user and ten seconds of event time: a row for each ten events.
    Window,
}

/// What a sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guarantee {
    /// Each result is seen once by who reads what is committed.
    ExactlyOnce,
    /// No result is lost.
    AtLeastOnce,
}

impl Guarantee {
    fn name(self) -> &'static str {
        match self {
            Guarantee::ExactlyOnce => "exactly-once",
            Guarantee::AtLeastOnce => "at-least-once",
        }
    }
}

/// Between which topics of which server, and how.
struct Route<'a> {
    servers: &'a str,
    input: &'a str,
    output: &'a str,
    guarantee: Guarantee,
    interval: &'a str,
    /// Whether the job ends where the input ends when it starts.
    is_bounded: bool,
}

/// The largest transaction's time that servers take is 15 minutes by default, Flink asks for an hour by default.
const TRANSACTION_MS: u32 = 600_000;

impl Route<'_> {
    /// A script that both Millstream and Flink run. `input`, `output`: columns; `query`: what is selected from `events`.
    fn script(&self, input: &str, output: &str, query: &str) -> String {
        let bounded = if self.is_bounded { "'scan.bounded.mode' = 'latest-offset', " } else { "" };
        let transactions = match self.guarantee {
            Guarantee::ExactlyOnce => format!(
                ",\n  'sink.transactional-id-prefix' = '{}', 'properties.transaction.timeout.ms' = '{TRANSACTION_MS}'",
                self.output
            ),
            Guarantee::AtLeastOnce => String::new(),
        };
        format!(
            "SET 'execution.checkpointing.interval' = '{interval}';
CREATE TABLE events ({input})
WITH ('connector' = 'kafka', 'topic' = '{from}', 'properties.bootstrap.servers' = '{servers}',
  'scan.startup.mode' = 'earliest-offset', {bounded}'format' = 'json');
CREATE TABLE results ({output})
WITH ('connector' = 'kafka', 'topic' = '{to}', 'properties.bootstrap.servers' = '{servers}', 'format' = 'json',
  'sink.delivery-guarantee' = '{guarantee}'{transactions});
INSERT INTO results {query};
",
            interval = self.interval,
            from = self.input,
            to = self.output,
            servers = self.servers,
            guarantee = self.guarantee.name(),
        )
    }

    fn of_query(&self, query: Query) -> String {
        let all =
            "id BIGINT, user_id BIGINT, amount BIGINT, channel STRING, page STRING, happened TIMESTAMP(3), note STRING";
        match query {
            Query::Filter => self.script(
                all,
                "id BIGINT, user_id BIGINT, amount BIGINT, page STRING, happened TIMESTAMP(3)",
                "SELECT id, user_id, amount, page, happened FROM events WHERE amount < 100",
            ),
            Query::Copy => self.script(all, all, "SELECT * FROM events"),
            Query::Window => self.script(
                &format!("{all}, WATERMARK FOR happened AS happened - INTERVAL '1' SECOND"),
                "user_id BIGINT, starts TIMESTAMP(3), ends TIMESTAMP(3), events BIGINT, amount BIGINT",
                "SELECT user_id, window_start, window_end, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(happened), INTERVAL '10' SECOND))
GROUP BY user_id, window_start, window_end",
            ),
        }
    }
}

impl Kafka {
    /// Carries it out.
    pub fn run(self) -> Result<(), String> {
        match self {
            Kafka::Throughput { query, events, rounds, guarantee, interval, setup } => {
                throughput(query, events, rounds, guarantee, &interval, &setup)
            }
            Kafka::Latency { interval, rate, seconds, setup } => {
                let broker = server()?;
                let program = setup.program()?;
                let exact = interval.iter().map(|interval| (Guarantee::ExactlyOnce, interval));
                let cases: Vec<_> = exact.chain(interval.first().map(|i| (Guarantee::AtLeastOnce, i))).collect();
                for (number, (guarantee, interval)) in cases.into_iter().enumerate() {
                    let load = latency::Load { guarantee, interval, rate, seconds, number };
                    println!("{}", latency::measure(&broker, &program, &setup, &load)?);
                }
                Ok(())
            }
            Kafka::Script { query, servers, input, output, guarantee, interval } => {
                let route = Route {
                    servers: &servers,
                    input: &input,
                    output: &output,
                    guarantee,
                    interval: &interval,
                    is_bounded: true,
                };
                print!("{}", route.of_query(query));
                Ok(())
            }
            Kafka::Serve => serve::serve(&server()?),
        }
    }
}

impl Setup {
    fn program(&self) -> Result<PathBuf, String> {
        self.program.clone().map_or_else(program::build, Ok)
    }
}

fn throughput(
    query: Query,
    events: u64,
    rounds: u32,
    guarantee: Guarantee,
    interval: &str,
    setup: &Setup,
) -> Result<(), String> {
    let program = setup.program()?;
    let broker = server()?;
    let servers = broker.servers();
    let filled = load::fill(&broker, "events", setup.partitions, events)?;
    let per_second = |seconds: f64| (events as f64 / seconds).round();
    for round in 0..rounds {
        let read = load::consume(&broker, "events")?;
        println!(
            "{}",
            serde_json::json!({
                "run": "plain consumer",
                "events": read.records,
                "bytes_per_event": filled / events.max(1),
                "wall_s": rounded(read.wall_s),
                "cpu_s": rounded(read.cpu_s),
                "events_per_s": per_second(read.wall_s),
                "events_per_cpu_s": per_second(read.cpu_s),
            })
        );
        let output = format!("results-{round}");
        broker.create_topic(&output, setup.partitions);
        let route =
            Route { servers: &servers, input: "events", output: &output, guarantee, interval, is_bounded: true };
        let started = Instant::now();
        let used = program::run(&program, &setup.folder, &route.of_query(query), setup.parallelism)?;
        let wall_s = started.elapsed().as_secs_f64();
        let digest = load::digest(&broker, &output)?;
        broker.delete_topic(&output);
        println!(
            "{}",
            serde_json::json!({
                "run": format!("{query:?}").to_lowercase(),
                "guarantee": guarantee.name(),
                "interval": interval,
                "partitions": setup.partitions,
                "parallelism": setup.parallelism,
                "events": events,
                "results": digest.records,
                "digest": digest.text(),
                "wall_s": rounded(wall_s),
                "cpu_s": rounded(used.cpu_s),
                "events_per_s": per_second(wall_s),
                "events_per_cpu_s": per_second(used.cpu_s),
                "peak_rss_mb": used.peak_rss_mb,
            })
        );
    }
    Ok(())
}

/// A server of one's own; installed if there is none.
fn server() -> Result<Broker, String> {
    const VARIABLE: &str = millstream_testbed::kafka::VARIABLE;
    let jars = match std::env::var_os(VARIABLE) {
        Some(jars) => PathBuf::from(jars),
        None => {
            let mut install = Command::new(program::cargo());
            install.args(["xtask", "servers", "kafka"]).stderr(std::process::Stdio::inherit());
            let output = install.output().map_err(|e| format!("can't start cargo: {e}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let named = text.lines().find_map(|line| line.strip_prefix(VARIABLE)?.strip_prefix('='));
            named.map(PathBuf::from).ok_or("Kafka could not be installed")?
        }
    };
    Ok(Broker::start_from(&jars, &[], &[]))
}
