//! The same program with fail points, for the tests that crash it; see `failpoints.rs`.

fn main() -> std::process::ExitCode {
    millstream_cli::main()
}
