//! Servers that tests talk to, installed into the target folder the first time they are needed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An S3-compatible server from PyPI; pinned, so that a test run today and in a year see the same one.
const S3_SERVER: &str = "moto[s3,server]==5.2.5";

/// The program that serves S3, installed if it isn't there yet.
pub fn s3(target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("s3-server");
    let program = folder.join("bin").join("moto_server");
    let done = folder.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|version| version == S3_SERVER) {
        return Ok(program);
    }
    let shown = folder.display().to_string();
    if run("python3", &["-m", "venv", &shown]).is_err() {
        // Debian's python3 comes without the module.
        run("apt-get", &["install", "--yes", "python3-venv"])
            .and_then(|()| run("python3", &["-m", "venv", &shown]))
            .map_err(|e| format!("{e}\nhint: the tests of S3 need python3 with its venv module (python3-venv)"))?;
    }
    let pip = folder.join("bin").join("pip").display().to_string();
    run(&pip, &["install", "--quiet", "--disable-pip-version-check", S3_SERVER])?;
    std::fs::write(&done, S3_SERVER).map_err(|e| format!("{}: {e}", done.display()))?;
    Ok(program)
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    eprintln!("{program} {}", args.join(" "));
    let status = Command::new(program).args(args).status().map_err(|e| format!("can't start {program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} failed", args.join(" "))) }
}
