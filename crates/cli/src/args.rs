//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// A stateful stream processor that runs Flink SQL.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a SQL script.
    ///
    /// A bounded script ends by itself; Ctrl-C (or SIGTERM) takes a final checkpoint and stops an unbounded one, a
    /// second one exits at once. Started again with the same state directory a stopped job goes on where it was.
    Run(RunArgs),
    /// Print the plan of a SQL script: operators, parallel edges, changelog modes, watermarks, state tables.
    Explain {
        /// The script.
        file: PathBuf,
        /// How many workers run each operator.
        #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
        parallelism: Option<usize>,
        /// Set a configuration key, as SET does; may be repeated.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Test a SQL script over files.
    ///
    /// For `job.sql` the folder `job.test` has the rows of each table that the script reads in `input/TABLE.jsonl`, and those
    /// that each table which it writes must hold in the end in `expected/TABLE.jsonl` (`select.jsonl` for a last SELECT).
    /// Several tests are folders in `job.test`, each with its own `input` and `expected`. The script runs at parallelism
    /// 1, 2 and 3, and again with a crash after every epoch.
    Test(TestArgs),
    /// Show or change how much the tables that a running job reads give a second.
    ///
    /// Holds from then on until the job is started again by hand; then it is as the tables' options say.
    Limit(LimitArgs),
    /// A worker process of a running job; started by `run`.
    #[command(hide = true)]
    Worker,
}

/// The options of `test`.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// The script.
    pub file: PathBuf,
    /// Only the test of this name.
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Write what comes out as what is expected.
    #[arg(long)]
    pub update: bool,
    /// Set a configuration key, as SET does (the script's own SET wins); may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The options of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The script.
    pub file: PathBuf,
    /// How many workers run each operator, over all processes [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub parallelism: Option<usize>,
    /// How many worker processes share the work.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = count, allow_negative_numbers = true)]
    pub processes: usize,
    /// Set a configuration key, as SET does (the script's own SET wins); may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the job's state is kept [default: ./.millstream/<script name>].
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// What to start from: the `latest` checkpoint, `none`, or a checkpoint (its manifest, the folder that it is
    /// in, or the state directory of any job).
    #[arg(long, default_value = "latest", value_name = "latest|none|PATH")]
    pub from: String,
    /// How a SELECT's result is printed [default: table on a terminal, else jsonl].
    #[arg(long)]
    pub format: Option<Format>,
}

/// The options of `limit`.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// The job's state directory.
    #[arg(value_name = "STATE_DIR")]
    pub state_dir: PathBuf,
    /// The table; without it all are shown.
    pub table: Option<String>,
    /// At most so many rows a second, all workers together, or `none`.
    #[arg(long, value_name = "N|none", value_parser = rate, requires = "table")]
    pub rows_per_second: Option<Rate>,
    /// At most so many bytes a second, as `500 kb`, or `none`.
    #[arg(long, value_name = "SIZE|none", value_parser = byte_rate, requires = "table")]
    pub bytes_per_second: Option<Rate>,
}

/// A limit; `None`: there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub Option<f64>);

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "none" => Ok(Rate(None)),
        Ok(n) if n.is_finite() && n > 0.0 => Ok(Rate(Some(n))),
        _ => Err("it must be a number above 0, or 'none'".into()),
    }
}

fn byte_rate(text: &str) -> Result<Rate, String> {
    match millstream_core::options::parse_memory_size(text) {
        _ if text == "none" => Ok(Rate(None)),
        Ok(bytes) if bytes > 0 => Ok(Rate(Some(bytes as f64))),
        _ => Err("it must be a size above 0, such as '500 kb', or 'none'".into()),
    }
}

/// The most workers and processes of a job: each is a thread or more.
pub const MAX_WORKERS: usize = 256;

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MAX_WORKERS).contains(&n) => Ok(n),
        _ => Err(format!("it must be a whole number from 1 to {MAX_WORKERS}")),
    }
}

/// How a SELECT's result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A live table on a terminal, a plain one elsewhere.
    Table,
    /// One JSON object a row: `{"op":"+I","row":{...}}`.
    Jsonl,
    /// Comma-separated values with a header and the row kind in the first column.
    Csv,
}
