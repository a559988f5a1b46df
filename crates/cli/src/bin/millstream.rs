//! The `millstream` binary.

fn main() -> std::process::ExitCode {
    millstream_cli::main()
}
