//! `marblerun`: the command line for DevOps engineers.
//!
//! `main` parses, [`commands::run`] does, and one error is printed. Each command has its file in `commands/`.

mod args;
mod cache;
mod commands;
mod credentials;
mod development;
mod exit;
mod failure;
mod files;
mod findings;
mod head;
mod locate;
mod manifest_edit;
mod manifest_file;
mod output;
mod profile;
mod programs;
mod progress;
mod recovery_data;
mod simulator;
mod trust;
mod updated_manifest;
mod yaml;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::profile::{NotParsed, Parsed};

fn main() -> ExitCode {
    let outcome = match profile::parse(std::env::args_os().collect()) {
        Ok(parsed) => run(&parsed),
        Err(NotParsed::Usage(error)) => return usage(&error).into(),
        Err(NotParsed::Failure(failure)) => Err(failure),
    };
    match outcome {
        Ok(status) => status.into(),
        Err(failure) if failure.is_broken_pipe() => ExitStatus::Success.into(),
        Err(failure) => {
            output::print_error(&failure.to_string(), failure.hint().as_deref(), std::io::stderr().is_terminal());
            failure.exit_status().into()
        }
    }
}

fn run(Parsed { arguments, profile }: &Parsed) -> Result<ExitStatus, Failure> {
    let mut output = Output::new(arguments.format(), arguments.global.quiet);
    if let Some(warning) = profile.as_ref().and_then(|(name, profile)| profile.warning(name)) {
        output.warn(&warning)?;
    }
    commands::run(arguments, &mut output)
}

/// Prints help and version as they are, and a usage error in the form of every other error.
fn usage(error: &clap::Error) -> ExitStatus {
    use clap::error::ErrorKind;
    let shows_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let text = error.render().to_string();
    if shows_help {
        output::print_help(&text);
        return ExitStatus::Success;
    }
    let (message, rest) = args::split_usage_error(&text);
    output::print_error(&message, Some(&rest), std::io::stderr().is_terminal());
    ExitStatus::Failure
}
