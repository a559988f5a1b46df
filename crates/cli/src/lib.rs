//! The `millstream` program: where SQL, connectors, control plane and data plane meet.

mod args;
#[cfg(feature = "failpoints")]
mod failpoints;
mod limits;
mod output;
mod plan;
mod progress;
mod run;
mod signals;
mod terminal;
mod test;
mod worker;

use args::{Cli, Command};
use clap::Parser;
use millstream_core::Error;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the program with the process's own arguments.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    #[cfg(feature = "failpoints")]
    failpoints::set_up(match command {
        Command::Worker => "worker",
        Command::Run(_) | Command::Explain { .. } | Command::Test(_) | Command::Limit(_) => "supervisor",
    });
    let outcome = match command {
        Command::Run(args) => run::run(&args),
        Command::Explain { file, parallelism, set } => run::explain(&file, parallelism, &set),
        Command::Test(args) => test::test(&args),
        Command::Limit(args) => limits::limit(&args),
        Command::Worker => return worker::work(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Tells the person what went wrong, and gives the exit code that goes with it.
fn failed(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(error.kind().exit_code() as u8)
}
