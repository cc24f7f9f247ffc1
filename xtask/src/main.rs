//! Development tasks. `cargo xtask` without arguments lists them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

mod bench;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod generate;
mod prerequisites;
mod process;
mod rules;
mod test;

const USAGE: &str = "\
Usage: cargo xtask TASK

  demo                      run an ordinary program as a Marble on this machine, then three attacks that fail
  test                      run every test: crates, system, documentation, conformance, distribution
  conformance [ARGUMENT..]  run the conformance suite against the Coordinator; arguments go to pytest
  bench [NAME..]            measure speed and size: verification, commit, premain, occlum, coordinator, manifest,
                            reading, secrets, activation, flood
  dist                      build what is installed into images with an older C library, and the Coordinator as an
                            Occlum instance, into dist/; the same sources give the same bytes
  docs                      check that documents name only what exists
  rules [--output json]     print the rules of docs/rules/ with their tests; an error where a rule has none
  generate [--check]        write generated files anew, or check that they are current
  fuzz [TARGET] [--seconds N]
                            run the fuzz targets
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
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    match words {
        ["demo"] => demo::run(workspace)?,
        ["test"] => test::run(workspace)?,
        ["conformance", arguments @ ..] => test::conformance(workspace, arguments)?,
        ["bench", arguments @ ..] => bench::run(workspace, arguments)?,
        ["docs"] => docs::run(workspace)?,
        ["rules"] => rules::run(workspace, rules::Format::Text)?,
        ["rules", "--output", "json"] => rules::run(workspace, rules::Format::Json)?,
        ["dist"] => dist::run(workspace)?,
        ["generate"] => generate::run(false)?,
        ["generate", "--check"] => generate::run(true)?,
        ["fuzz", arguments @ ..] => fuzz::run(workspace, arguments)?,
        _ => return Ok(None),
    }
    Ok(Some(()))
}
