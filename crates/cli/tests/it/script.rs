//! Running the binary on a script in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a script in it.
pub struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    /// A script of this text; `${DIR}` stands for its folder.
    pub fn new(text: &str) -> Script {
        let folder = tempfile::tempdir().unwrap();
        let script = Script { folder };
        let text = text.replace("${DIR}", script.folder().to_str().unwrap());
        std::fs::write(script.folder().join("job.sql"), text).unwrap();
        script
    }
    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }
    /// `millstream COMMAND job.sql ARGS`, not started yet.
    pub fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_millstream"));
        c.current_dir(self.folder()).arg(command).arg("job.sql").args(args).stdin(Stdio::null());
        c
    }
    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command("run", args).output().unwrap()
    }
}

/// Standard output, of a run that must have succeeded.
pub fn stdout_of(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "exit {:?}: {stderr}", output.status.code());
    String::from_utf8(output.stdout.clone()).unwrap()
}
