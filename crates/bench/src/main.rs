//! Measures the program as a whole: Nexmark queries from the generator or from JSON files, one JSON line a run.

mod queries;

use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// In process.
    Generator,
    /// A file of JSON lines.
    Json,
}

fn main() -> ExitCode {
    let Benchmark::Nexmark { query, events, source, parallelism, folder, script, program } = Cli::parse().benchmark;
    match nexmark(&query, events, source, parallelism, &folder, script, program) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
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
    program: Option<PathBuf>,
) -> Result<String, String> {
    let select =
        queries::nexmark(query).ok_or_else(|| format!("there is no query '{query}' here: {}", queries::NAMES))?;
    let program = program.map_or_else(build, Ok)?;
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let table = match source {
        Source::Generator => queries::generator(events),
        Source::Json => {
            let data = folder.join(format!("events-{events}"));
            if !data.exists() {
                let partial = folder.join(format!("events-{events}.partial"));
                let _ = std::fs::remove_dir_all(&partial);
                let script = queries::write_json(events, &partial.display().to_string());
                run(&program, folder, &script, 1)?;
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
    let before = children();
    run(&program, folder, &script, parallelism)?;
    let wall = started.elapsed().as_secs_f64();
    let after = children();
    let cpu = after.0 - before.0;
    Ok(serde_json::json!({
        "query": query,
        "source": format!("{source:?}").to_lowercase(),
        "parallelism": parallelism,
        "events": events,
        "wall_s": (wall * 1000.0).round() / 1000.0,
        "cpu_s": (cpu * 1000.0).round() / 1000.0,
        "events_per_cpu_s": (events as f64 / cpu).round(),
        "peak_rss_mb": after.1 / 1024,
    })
    .to_string())
}

/// Builds the program that is measured, in the profile of this one.
fn build() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = own.parent().ok_or("the benchmark has no folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "millstream"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().map_err(|e| format!("can't start cargo: {e}"))?;
    if status.success() { Ok(folder.join("millstream")) } else { Err("the program does not build".into()) }
}

fn run(program: &Path, folder: &Path, script: &str, parallelism: usize) -> Result<(), String> {
    let file = folder.join("script.sql");
    std::fs::write(&file, script).map_err(|e| e.to_string())?;
    let state = folder.join("state");
    let _ = std::fs::remove_dir_all(&state);
    let status = Command::new(program)
        .arg("run")
        .arg(&file)
        .args(["--parallelism", &parallelism.to_string(), "--state-dir"])
        .arg(&state)
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("the run ended with {status}")) }
}

/// CPU seconds of all ended children so far, and the largest one's peak memory in KiB.
fn children() -> (f64, i64) {
    // SAFETY: `getrusage` fills the struct that it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss)
}
