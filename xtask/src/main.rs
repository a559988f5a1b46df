//! The project's own chores: `cargo xtask test` (everything CI runs), `cargo xtask tidy` (house rules), `cargo xtask lint`.

mod tidy;

use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask (test | tidy | lint)
  test   house rules, then every test of every crate
  tidy   house rules alone
  lint   rustfmt and clippy with the project's lints";

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let outcome = match task.as_deref() {
        Some("test") => tidy::check().and_then(|()| test()),
        Some("tidy") => tidy::check(),
        Some("lint") => lint(),
        _ => Err(USAGE.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), String> {
    // The tests of the binary start it: built first, once, so that they never wait for a build.
    cargo(&["build", "--package", "millstream"])?;
    cargo(&["test", "--workspace", "--no-fail-fast"])
}

fn lint() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn cargo(args: &[&str]) -> Result<(), String> {
    eprintln!("cargo {}", args.join(" "));
    let status = Command::new(env!("CARGO")).args(args).status().map_err(|e| format!("can't start cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", args.join(" "))) }
}
