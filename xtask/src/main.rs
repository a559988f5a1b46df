//! The project's own chores: `cargo xtask test` and `lint` (which CI runs), `tidy` (house rules), `example`.

mod servers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask (test | servers | example NAME | tidy | lint)
  test      house rules, then every test of every crate, with the servers they need
  servers   installs the servers that tests need (or 'servers kafka': that one), and shows the variables that lead tests to them
  example   a pipeline with a Kafka of its own: router, alerts
  tidy      house rules alone
  lint      rustfmt and clippy with the project's lints";

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let outcome = match task.as_deref() {
        Some("test") => tidy::check().and_then(|()| test()),
        Some("servers") => {
            let only_kafka = std::env::args().nth(2).as_deref() == Some("kafka");
            let found = if only_kafka { kafka().map(|kafka| vec![kafka]) } else { servers().map(Vec::from) };
            found.map(|all| all.iter().for_each(|(name, path)| println!("{name}={}", path.display())))
        }
        Some("example") => example(&std::env::args().nth(2).unwrap_or_default()),
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
    cargo(&["build", "--package", "millstream", "--bin", "millstream-failpoints", "--features", "failpoints"])?;
    let servers = servers()?;
    eprintln!("cargo test --workspace --no-fail-fast");
    let mut test = Command::new(env!("CARGO"));
    run(test.args(["test", "--workspace", "--no-fail-fast"]).envs(servers))?;
    let target = target_folder()?.display().to_string();
    cargo(&["test", "--manifest-path", &manifest_of_oracle()?, "--target-dir", &target])
}

/// Runs an example pipeline with a Kafka of its own.
fn example(name: &str) -> Result<(), String> {
    cargo(&["build", "--release", "--package", "millstream", "--package", "millstream-testbed", "--bins"])?;
    let target = target_folder()?;
    let (programs, folder) = (target.join("release"), target.join("examples").join(name));
    let mut pipelines = Command::new(programs.join("pipelines"));
    pipelines.arg(name).arg(programs.join("millstream")).arg(folder).envs([kafka()?]);
    let status = pipelines.status().map_err(|e| format!("can't start the example: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("the example '{name}' failed")) }
}

/// The random queries, a workspace of their own that shares the target folder.
fn manifest_of_oracle() -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the workspace has no root")?;
    Ok(root.join("oracle/Cargo.toml").display().to_string())
}

/// Where this program was built.
fn target_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| format!("can't find this program's own file: {e}"))?;
    Ok(own.ancestors().nth(2).ok_or("this program is not in a target folder")?.to_path_buf())
}

/// The variables that lead tests to servers, and the programs that they name.
fn servers() -> Result<[(&'static str, PathBuf); 3], String> {
    let target = target_folder()?;
    Ok([
        ("MILLSTREAM_S3_SERVER", servers::s3(&target)?),
        ("MILLSTREAM_POSTGRES", servers::postgres(&target)?),
        kafka()?,
    ])
}

fn kafka() -> Result<(&'static str, PathBuf), String> {
    Ok(("MILLSTREAM_KAFKA", servers::kafka(&target_folder()?)?))
}

fn lint() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Without clippy, which would check all of DataFusion once more.
    cargo(&["fmt", "--manifest-path", &manifest_of_oracle()?, "--check"])
}

fn cargo(args: &[&str]) -> Result<(), String> {
    eprintln!("cargo {}", args.join(" "));
    run(Command::new(env!("CARGO")).args(args))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_args().next().unwrap_or_default().display().to_string();
    // What cargo tells this program about its package would have crates that look at it built anew.
    for (variable, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| variable.to_string_lossy().starts_with(own)) {
            command.env_remove(variable);
        }
    }
    let status = command.status().map_err(|e| format!("can't start cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {name} failed")) }
}
