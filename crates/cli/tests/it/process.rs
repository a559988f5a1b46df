//! A running job of a test: its processes, signals to them, what it says, and the checkpoints that it has stored.

use crate::script::Script;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(100);

/// A job that runs; it is killed with the value.
pub struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    /// Starts the program on the script; what it says goes to the file `stderr` of the script's folder.
    pub fn start(script: &Script, args: &[&str]) -> Running {
        Self::spawn(script, script.command("run", args))
    }

    /// Starts a command of the script.
    pub fn spawn(script: &Script, mut command: Command) -> Running {
        let stderr = script.path("stderr");
        let file = std::fs::File::create(&stderr).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Running { child, stderr }
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// Its worker processes' ids.
    pub fn workers(&self) -> Vec<u32> {
        let output = Command::new("pgrep").args(["-P", &self.child.id().to_string()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().filter_map(|l| l.trim().parse().ok()).collect()
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: libc::c_int) {
        send(self.child.id(), signal);
    }

    /// Sends a signal to one of the worker processes; none if there is none just now.
    pub fn signal_worker(&self, which: usize, signal: libc::c_int) -> Option<u32> {
        let workers = self.workers();
        let pid = workers.get(which % workers.len().max(1)).copied()?;
        send(pid, signal);
        Some(pid)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the job", || self.child.try_wait().unwrap())
    }

    /// Waits until it has said something.
    pub fn wait_for_text(&mut self, text: &str) {
        wait_for(text, || self.stderr().contains(text).then_some(()));
    }

    /// Waits until there is a file or folder.
    pub fn wait_for_path(&mut self, path: &Path) {
        wait_for("a file", || {
            assert!(!self.has_ended(), "the job has ended: {}", self.stderr());
            path.exists().then_some(())
        });
    }

    /// Waits until it has stored so many checkpoints more than there were.
    pub fn wait_for_checkpoints(&mut self, script: &Script, more: u64) {
        let first = latest(script);
        wait_for("checkpoints", || {
            assert!(!self.has_ended(), "the job has ended: {}", self.stderr());
            (latest(script) >= first + more).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that a test started.
pub fn send(pid: u32, signal: libc::c_int) {
    // SAFETY: a plain system call without pointers.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where the job's checkpoints are.
pub fn checkpoints(script: &Script) -> PathBuf {
    script.path(".millstream/job/checkpoints")
}

/// The epochs of the stored checkpoints, ascending.
pub fn epochs(script: &Script) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(checkpoints(script)) else { return Vec::new() };
    let epoch = |name: &str| name.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok();
    let mut found: Vec<u64> = entries.filter_map(|e| epoch(&e.unwrap().file_name().into_string().unwrap())).collect();
    found.sort_unstable();
    found
}

fn latest(script: &Script) -> u64 {
    epochs(script).last().copied().unwrap_or(0)
}
