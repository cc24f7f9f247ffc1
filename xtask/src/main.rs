//! Development tasks. `cargo xtask` without arguments lists them.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

mod demo;
mod prerequisites;
mod process;

const USAGE: &str = "\
Usage: cargo xtask TASK

  demo              run an ordinary program as a Marble on this machine, then three attacks that fail
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if the words name no task.
fn run(words: &[&str]) -> Result<Option<()>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace");
    match words {
        ["demo"] => demo::run(workspace)?,
        _ => return Ok(None),
    }
    Ok(Some(()))
}
