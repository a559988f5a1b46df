//! The program that is measured: building it, running it, and what a run has cost.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

/// What a process and those that it waited for have used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_s: f64,
    /// The most memory that one of them had.
    pub peak_rss_mb: i64,
}

/// Builds the program, in the profile of this one.
pub fn build() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = own.parent().ok_or("the benchmark has no folder")?;
    let mut cargo = Command::new(cargo());
    cargo.args(["build", "--quiet", "--package", "millstream"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().map_err(|e| format!("can't start cargo: {e}"))?;
    if status.success() { Ok(folder.join("millstream")) } else { Err("the program does not build".into()) }
}

/// The cargo that runs this program, or the usual one.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Starts a script, without state from before; files of the run are put into `folder`.
pub fn start(program: &Path, folder: &Path, script: &str, parallelism: usize) -> Result<Child, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let file = folder.join("script.sql");
    std::fs::write(&file, script).map_err(|e| e.to_string())?;
    let state = folder.join("state");
    let _ = std::fs::remove_dir_all(&state);
    Command::new(program)
        .arg("run")
        .arg(&file)
        .args(["--parallelism", &parallelism.to_string(), "--state-dir"])
        .arg(&state)
        .stdout(std::process::Stdio::null())
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))
}

/// Runs a script to its end.
pub fn run(program: &Path, folder: &Path, script: &str, parallelism: usize) -> Result<Usage, String> {
    finish(start(program, folder, script, parallelism)?)
}

/// An error if a process has ended.
pub fn check_runs(child: &mut Child) -> Result<(), String> {
    match child.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(format!("the run ended with {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Has a process end that is running.
pub fn stop(mut child: Child) -> Result<Usage, String> {
    check_runs(&mut child)?;
    // SAFETY: a plain system call without pointers, on a child that has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    finish(child)
}

/// Waits for a process; an error if it failed.
pub fn finish(child: Child) -> Result<Usage, String> {
    use std::os::unix::process::ExitStatusExt;
    let (mut status, mut usage) = (0, no_usage());
    // SAFETY: both pointers are valid during the call, and nobody else waits for the child.
    while unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) } < 0 {
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error.to_string());
        }
    }
    let status = ExitStatus::from_raw(status);
    match status.success() {
        true => Ok(Usage { cpu_s: cpu_seconds(&usage), peak_rss_mb: usage.ru_maxrss / 1024 }),
        false => Err(format!("the run ended with {status}")),
    }
}

/// CPU seconds of this process so far.
pub fn own_cpu_seconds() -> f64 {
    let mut usage = no_usage();
    // SAFETY: `getrusage` fills the struct that it is given.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    cpu_seconds(&usage)
}

fn no_usage() -> libc::rusage {
    // SAFETY: a struct of numbers alone.
    unsafe { std::mem::zeroed() }
}

fn cpu_seconds(usage: &libc::rusage) -> f64 {
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// To thousandths.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_has_ended_is_told() {
        let mut ended = Command::new("false").spawn().unwrap();
        while check_runs(&mut ended).is_ok() {
            std::thread::yield_now();
        }
        assert!(check_runs(&mut ended).unwrap_err().contains("exit status: 1"));
        assert!(stop(ended).is_err());
        let mut running = Command::new("sleep").arg("600").spawn().unwrap();
        check_runs(&mut running).unwrap();
        assert!(stop(running).unwrap_err().contains("SIGTERM"));
    }
}
