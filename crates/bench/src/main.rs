//! Measures the program as a whole: Nexmark queries from the generator or from JSON files, and Kafka to Kafka; one JSON line
//! a run.

mod kafka;
mod program;
mod queries;

use clap::{Parser, Subcommand, ValueEnum};
use program::rounded;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Benchmarks of Millstream.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// A query of the Nexmark suite.
    Nexmark {
        /// Which: q0, q1, ...
        query: String,
        /// How many events.
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
        /// Where they come from.
        #[arg(long, value_enum, default_value_t = Source::Generator)]
        source: Source,
        /// How many workers.
        #[arg(long, default_value_t = 1)]
        parallelism: usize,
        /// Where generated JSON files are kept between runs.
        #[arg(long, default_value = "target/bench")]
        folder: PathBuf,
        /// Only prints the script that would be run, after making the files it reads.
        #[arg(long)]
        script: bool,
        /// The program to run, instead of building it.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// From Kafka to Kafka, with a server of its own.
    Kafka {
        #[command(subcommand)]
        what: kafka::Kafka,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// In process.
    Generator,
    /// A file of JSON lines.
    Json,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().benchmark {
        Benchmark::Nexmark { query, events, source, parallelism, folder, script, program } => {
            nexmark(&query, events, source, parallelism, &folder, script, program).map(|line| println!("{line}"))
        }
        Benchmark::Kafka { what } => what.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn nexmark(
    query: &str,
    events: u64,
    source: Source,
    parallelism: usize,
    folder: &Path,
    only_script: bool,
    built: Option<PathBuf>,
) -> Result<String, String> {
    let select =
        queries::nexmark(query).ok_or_else(|| format!("there is no query '{query}' here: {}", queries::NAMES))?;
    let millstream = built.map_or_else(program::build, Ok)?;
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let table = match source {
        Source::Generator => queries::generator(events),
        Source::Json => {
            let data = folder.join(format!("events-{events}"));
            if !data.exists() {
                let partial = folder.join(format!("events-{events}.partial"));
                let _ = std::fs::remove_dir_all(&partial);
                let script = queries::write_json(events, &partial.display().to_string());
                program::run(&millstream, folder, &script, 1)?;
                std::fs::rename(&partial, &data).map_err(|e| e.to_string())?;
            }
            queries::json(&data.display().to_string())
        }
    };
    let side_input: String = (0..queries::SIDE_INPUTS).map(queries::side_input).collect();
    std::fs::write(folder.join("side_input.txt"), side_input).map_err(|e| e.to_string())?;
    let _ = std::fs::remove_dir_all(folder.join("q10"));
    let select = select.replace("${DIR}", &folder.canonicalize().map_err(|e| e.to_string())?.display().to_string());
    let script = format!("SET 'execution.checkpointing.interval' = '1 s';\n{table}\n{select}");
    if only_script {
        return Ok(script);
    }
    let started = Instant::now();
    let used = program::run(&millstream, folder, &script, parallelism)?;
    let wall = started.elapsed().as_secs_f64();
    Ok(serde_json::json!({
        "query": query,
        "source": format!("{source:?}").to_lowercase(),
        "parallelism": parallelism,
        "events": events,
        "wall_s": rounded(wall),
        "cpu_s": rounded(used.cpu_s),
        "events_per_cpu_s": (events as f64 / used.cpu_s).round(),
        "peak_rss_mb": used.peak_rss_mb,
    })
    .to_string())
}
