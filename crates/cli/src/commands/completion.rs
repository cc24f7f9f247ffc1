//! `completion`: a script with which a shell completes commands and flags.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Arguments;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(shell: Shell, has_descriptions: bool, output: &mut Output) -> Result<ExitStatus, Failure> {
    let mut script = Vec::new();
    let command = Arguments::command();
    let mut command = if has_descriptions { command } else { without_descriptions(command) };
    clap_complete::generate(shell, &mut command, "marblerun", &mut script);
    output.raw(&[&script])?;
    Ok(ExitStatus::Success)
}

fn without_descriptions(command: Command) -> Command {
    let command = command.about(None::<&str>).mut_args(|arg| arg.help(None::<&str>).long_help(None::<&str>));
    command.mut_subcommands(without_descriptions)
}
