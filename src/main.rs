//! The `secateur` program: the command line of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    secateur::cli::main(std::env::args_os())
}
