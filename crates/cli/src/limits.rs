//! `limit`: how much the tables of a running job give a second, kept in a file of its state directory that its workers look at.

use crate::args::LimitArgs;
use millstream_connect::throttle::{self, Rates};
use millstream_core::error::{Error, Place, Result, ResultExt};
use millstream_core::suggest::did_you_mean;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const VERSION: u32 = 1;
/// How often workers look at the file.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    version: u32,
    tables: BTreeMap<String, Rates>,
}

/// The file of a state directory.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("limits.json")
}

/// Stores in the file of a state directory what the tables of a job that starts may give, as their options say.
pub fn reset(file: &Path) -> Result<()> {
    store(file, &Limits { version: VERSION, tables: throttle::declared() })
}

/// Has this process follow the file from here on.
pub fn follow(file: PathBuf) {
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        loop {
            // It is replaced as a whole, and never removed while the job runs.
            if let Ok(text) = std::fs::read(&file)
                && text != seen
                && let Ok(limits) = serde_json::from_slice::<Limits>(&text)
            {
                throttle::change(limits.tables);
                seen = text;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    });
}

fn store(file: &Path, limits: &Limits) -> Result<()> {
    let text = serde_json::to_vec_pretty(limits).map_err(|e| Error::internal(e.to_string()))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let stored = tempfile::NamedTempFile::new_in(folder).and_then(|mut new| {
        new.write_all(&text)?;
        new.persist(file).map_err(|e| e.error)
    });
    stored.map(drop).map_err(Error::from).context(format!("store {}", file.display()))
}

/// `millstream limit`
pub fn limit(args: &LimitArgs) -> Result<()> {
    let mut limits = of_running(&args.state_dir)?;
    if let Some(table) = &args.table {
        let names: Vec<String> = limits.tables.keys().cloned().collect();
        let Some(rates) = limits.tables.get_mut(table) else {
            let error = Error::script(format!("the job reads no table '{table}' that can be limited"))
                .detail(format!("tables that can be: {}", names.join(", ")));
            return Err(match did_you_mean(table, names.iter().map(String::as_str)) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        };
        if let Some(rate) = args.rows_per_second {
            rates.rows_per_second = rate.0;
        }
        if let Some(rate) = args.bytes_per_second {
            rates.bytes_per_second = rate.0;
        }
        store(&path(&args.state_dir), &limits)?;
    }
    for (table, rates) in limits.tables.iter().filter(|(name, _)| args.table.as_ref().is_none_or(|t| t == *name)) {
        let show = |rate: Option<f64>, unit: &str| match rate {
            Some(rate) => format!("{rate} {unit}/s"),
            None => format!("no limit on {unit}"),
        };
        println!("{table}: {}, {}", show(rates.rows_per_second, "rows"), show(rates.bytes_per_second, "bytes"));
    }
    Ok(())
}

/// The limits of the job that runs over a state directory.
fn of_running(state_dir: &Path) -> Result<Limits> {
    let place = || Place::File { path: state_dir.display().to_string(), line: None };
    let lock = std::fs::File::open(state_dir.join("lock")).map_err(|e| {
        let error = match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::script("this is no state directory of a job"),
            _ => Error::script(format!("the state directory can't be read: {e}")),
        };
        error
            .at(place())
            .hint("name the one that 'run' was given by --state-dir; without it that is .millstream/SCRIPT")
    })?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => return Err(Error::state("no job runs over this state directory").at(place())),
        Err(TryLockError::Error(e)) => return Err(Error::from(e).context("look at the state directory's lock")),
    }
    let file = path(state_dir);
    let text = std::fs::read(&file).map_err(Error::from).context(format!("read {}", file.display()))?;
    match serde_json::from_slice::<Limits>(&text) {
        Ok(limits) if limits.version == VERSION => Ok(limits),
        Ok(Limits { version, .. }) => Err(Error::state(format!("the job's limits have the unknown version {version}"))),
        Err(e) => Err(Error::state("the job's limits can't be read").at(place()).detail(e.to_string())),
    }
}
