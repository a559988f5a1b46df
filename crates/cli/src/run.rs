//! `run` and `explain`: plan, supervise, report.

use crate::args::{Format, MAX_WORKERS, RunArgs};
use crate::output::READER_GONE;
use crate::plan::PlanSpec;
use crate::progress::{ProgressLine, Roles, Totals, thousands};
use crate::worker::WorkerSpec;
use crate::{limits, signals};
use millstream_control::store::OperatorInfo;
use millstream_control::supervisor::{From, Job, JobState, Outcome, supervise};
use millstream_core::error::{Error, Place, Result, ResultExt};
use millstream_core::graph::{JobGraph, NodeKind};
use millstream_core::settings::{self, Settings};
use millstream_core::time::{Clock, SystemClock};
use millstream_sql::{Output, Planned};
use millstream_state::dir::StateDir;
use millstream_state::store::CheckpointStore;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a new run waits for the processes of one that was just killed to be gone.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// `millstream explain`
pub fn explain(file: &Path, parallelism: Option<usize>, set: &[String]) -> Result<()> {
    let (_, planned) = plan(file, parallelism, 1, set, Format::Jsonl)?;
    print_messages(&planned)?;
    print!("{}", millstream_sql::explain(&planned));
    Ok(())
}

/// `millstream run`
pub fn run(args: &RunArgs) -> Result<()> {
    signals::count_stop_requests();
    let terminal = std::io::stdout().is_terminal();
    let format = args.format.unwrap_or(if terminal { Format::Table } else { Format::Jsonl });
    let (spec, planned) = plan(&args.file, args.parallelism, args.processes, &args.set, format)?;
    print_messages(&planned)?;
    let select = match planned.output {
        Output::Nothing => {
            if planned.messages.is_empty() {
                eprintln!("nothing to run: the script neither inserts nor selects");
            }
            return Ok(());
        }
        Output::Select { .. } => true,
        Output::Inserts => false,
    };
    let roles = roles_of(&planned.graph);
    let state = open_state(args, &spec, &planned.settings, select)?;
    let checkpoints = state.as_ref().map(|s| s.checkpoints.path_of(""));
    let limits_file = match &state {
        Some(state) => Some(std::path::absolute(limits::path(state.dir.path()))?),
        None => None,
    };
    let are_limits_stored = Cell::new(false);
    let workers = spec.parallelism / args.processes;
    let processes = args.processes;
    let starts = starts_of(&planned.graph)?;
    let scratch = scratch_of(&planned.settings, state.as_ref())?;
    let worker = move |process: usize, address, token| {
        // Not before the state was found to fit, and not again when the job restarts.
        if let Some(file) = limits_file.as_deref().filter(|_| !are_limits_stored.replace(true)) {
            limits::reset(file)?;
        }
        spawn(&WorkerSpec {
            plan: spec.clone(),
            supervisor: address,
            token,
            process,
            processes,
            workers,
            checkpoints: checkpoints.clone(),
            starts: starts.clone(),
            scratch: scratch.clone(),
            limits: limits_file.clone(),
        })
    };
    let line = Rc::new(RefCell::new(ProgressLine::new(roles.clone(), select)));
    let started = Instant::now();
    let (observer, notified) = (Rc::clone(&line), Rc::clone(&line));
    let outcome = supervise(Job {
        name: match planned.settings.text(settings::PIPELINE_NAME) {
            "" => planned.graph.name.clone(),
            name => name.to_string(),
        },
        settings: planned.settings.clone(),
        fingerprint: planned.fingerprint.clone(),
        operators: OperatorInfo::of_graph(&planned.graph)?,
        sinks: sinks_of(&planned.graph),
        processes,
        instances: processes * workers,
        state,
        spawn: Box::new(worker),
        stop_requested: Box::new(signals::stop_requested),
        observe: Box::new(move |status| observer.borrow_mut().update(status, SystemClock.now_ms())),
        notify: Box::new(move |text| {
            notified.borrow_mut().clear();
            eprintln!("warning: {text}");
        }),
        clock: Arc::new(SystemClock),
    });
    line.borrow_mut().clear();
    let outcome = match outcome {
        Err(error) if error.message() == READER_GONE => return Ok(()),
        outcome => outcome?,
    };
    report(&outcome, &roles, started.elapsed());
    Ok(())
}

fn report(outcome: &Outcome, roles: &Roles, elapsed: Duration) {
    let totals = Totals::of(&outcome.status, roles);
    let seconds = elapsed.as_secs_f64();
    let mut text = format!(
        "{}: {} rows in, {} rows out, {} late, {:.2} s, {} rows/s, {} checkpoint{}",
        if outcome.ended { "finished" } else { "stopped" },
        thousands(totals.rows_in),
        thousands(totals.rows_out),
        thousands(totals.late),
        seconds,
        thousands((totals.rows_in as f64 / seconds.max(0.001)) as u64),
        outcome.status.checkpoints,
        if outcome.status.checkpoints == 1 { "" } else { "s" },
    );
    if totals.bad > 0 {
        text.push_str(&format!(", {} bad records", thousands(totals.bad)));
    }
    if totals.retries > 0 {
        text.push_str(&format!(", {} retries", thousands(totals.retries)));
    }
    if outcome.status.restarts > 0 {
        text.push_str(&format!(", {} restarts", outcome.status.restarts));
    }
    if let Some(epoch) = outcome.restored_from {
        text.push_str(&format!(", went on from checkpoint {epoch}"));
    }
    eprintln!("{text}");
}

fn print_messages(planned: &Planned) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for message in &planned.messages {
        writeln!(stdout, "{message}")?;
    }
    Ok(())
}

/// Reads and plans a script.
fn plan(
    file: &Path,
    parallelism: Option<usize>,
    processes: usize,
    set: &[String],
    format: Format,
) -> Result<(PlanSpec, Planned)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut spec = PlanSpec {
        script: read_script(file)?,
        name: name_of(file),
        set: set.to_vec(),
        base_dir: std::env::current_dir().context("find the current folder")?,
        parallelism: over_processes(parallelism.unwrap_or(cores), processes),
        format: match format {
            Format::Table => "table",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
        }
        .into(),
    };
    let mut planned = spec.plan()?;
    // What the script or --set says is known only now.
    let configured = planned.settings.number(settings::PARALLELISM) as usize;
    if parallelism.is_none() && configured > 0 {
        if configured > MAX_WORKERS {
            return Err(Error::script(format!("'{}' must be from 0 to {MAX_WORKERS}", settings::PARALLELISM)));
        }
        let wanted = over_processes(configured, processes);
        if wanted != spec.parallelism {
            spec.parallelism = wanted;
            planned = spec.plan()?;
        }
    }
    Ok((spec, planned))
}

/// Every process runs as many workers as the others.
fn over_processes(parallelism: usize, processes: usize) -> usize {
    parallelism.max(processes).div_ceil(processes) * processes
}

/// The name of a file without its extension.
pub fn name_of(file: &Path) -> String {
    file.file_stem().map_or_else(|| "job".into(), |s| s.to_string_lossy().into_owned())
}

/// The script's text.
pub fn read_script(file: &Path) -> Result<String> {
    let place = || Place::Named(file.display().to_string());
    let bytes = std::fs::read(file).map_err(|e| {
        let error = match e.kind() {
            ErrorKind::NotFound => Error::script("there is no such script").hint("give the path of a file of SQL"),
            ErrorKind::IsADirectory => Error::script("the script is a folder").hint("give the path of a file of SQL"),
            _ => Error::script(format!("can't read the script: {e}")),
        };
        error.at(place())
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        let place = Place::File { path: file.display().to_string(), line: Some(line as u64) };
        Error::script("the script is not valid UTF-8").at(place).hint("save it as UTF-8 text")
    })?;
    let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_string);
    if text.trim().is_empty() {
        return Err(Error::script("the script is empty").at(place()));
    }
    Ok(text)
}

fn roles_of(graph: &JobGraph) -> Roles {
    let mut roles = Roles::default();
    for node in &graph.nodes {
        match node.kind {
            NodeKind::Source(_) => roles.sources.insert(node.id.clone()),
            NodeKind::Sink(_) => roles.sinks.insert(node.id.clone()),
            NodeKind::Operator(_) => false,
        };
    }
    roles
}

/// Where the sources begin if the job starts anew, by node id: decided here once for all processes.
fn starts_of(graph: &JobGraph) -> Result<BTreeMap<String, String>> {
    let mut starts = BTreeMap::new();
    for node in &graph.nodes {
        if let NodeKind::Source(spec) = &node.kind {
            let start = spec.source.start().context(format!("start {}", spec.source.describe()))?;
            starts.extend(start.map(|start| (node.id.clone(), start)));
        }
    }
    Ok(starts)
}

fn sinks_of(graph: &JobGraph) -> Vec<(String, Arc<dyn millstream_core::sink::Sink>)> {
    let sink = |node: &millstream_core::graph::Node| match &node.kind {
        NodeKind::Sink(sink) => Some((node.id.clone(), Arc::clone(sink))),
        _ => None,
    };
    graph.nodes.iter().filter_map(sink).collect()
}

/// A job that only shows a SELECT's result to a person keeps no state, unless a place for it is named.
fn open_state(args: &RunArgs, spec: &PlanSpec, settings: &Settings, select: bool) -> Result<Option<JobState>> {
    if select && args.state_dir.is_none() {
        if args.from != "latest" {
            return Err(Error::script("--from needs --state-dir when the script ends with a SELECT")
                .hint("a SELECT's result goes to a person, so its job keeps no state unless it is told where"));
        }
        return Ok(None);
    }
    let path = args.state_dir.clone().unwrap_or_else(|| PathBuf::from(".millstream").join(&spec.name));
    let dir = StateDir::open(&path, LOCK_WAIT)?;
    let configured = settings.text(settings::CHECKPOINT_DIR);
    let location = if configured.is_empty() {
        std::path::absolute(path.join("checkpoints"))?.display().to_string()
    } else {
        configured.to_string()
    };
    let checkpoints = CheckpointStore::open(&location, &environment(settings))?;
    let from = match args.from.as_str() {
        "latest" => From::Latest,
        "none" => From::None,
        path => {
            let (store, manifest) = CheckpointStore::open_manifest(path, &environment(settings))?;
            From::Checkpoint { store, manifest: Box::new(manifest) }
        }
    };
    Ok(Some(JobState { dir, checkpoints, from }))
}

/// The folder for what memory has no room for, made by who needs it first.
fn scratch_of(settings: &Settings, state: Option<&JobState>) -> Result<PathBuf> {
    let configured = settings.text(settings::SCRATCH_DIR);
    if !configured.is_empty() {
        std::fs::create_dir_all(configured)
            .and_then(|()| tempfile::tempfile_in(configured))
            .map_err(|e| Error::script(format!("the folder '{configured}' of 'io.tmp.dirs' can't be written: {e}")))?;
        return Ok(std::path::absolute(configured)?);
    }
    Ok(match state {
        Some(state) => std::path::absolute(state.dir.path())?.join("scratch"),
        None => std::env::temp_dir(),
    })
}

/// What object stores' clients are configured by: the environment's variables for them, then the settings,
/// which win.
pub fn environment(settings: &Settings) -> Vec<(String, String)> {
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let variables = variables.filter(|(k, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| k.starts_with(p)));
    variables.chain(settings.storage_options()).collect()
}

fn spawn(spec: &WorkerSpec) -> Result<std::process::Child> {
    let program = std::env::current_exe().context("find the program's own file")?;
    let mut child =
        Command::new(program).arg("worker").stdin(Stdio::piped()).spawn().context("start a worker process")?;
    let mut line = serde_json::to_vec(spec).map_err(|e| Error::internal(e.to_string()))?;
    line.push(b'\n');
    // The pipe stays open as long as the child is held: its end tells the worker that the supervisor is gone.
    if let Some(stdin) = child.stdin.as_mut() {
        stdin.write_all(&line).context("start a worker process")?;
    }
    Ok(child)
}
