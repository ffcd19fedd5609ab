//! `esker`: shows any store without the application that wrote it, also while that one runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    esker_tools::run(std::env::args_os())
}
