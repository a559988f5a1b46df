//! The `millstream` binary: where SQL, connectors, control plane and data plane meet.

mod args;
mod output;
mod plan;
mod progress;
mod run;
mod signals;
mod worker;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Explain { file, parallelism, set } => run::explain(&file, parallelism, &set),
        Command::Worker => worker::work(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.kind().exit_code() as u8)
        }
    }
}
