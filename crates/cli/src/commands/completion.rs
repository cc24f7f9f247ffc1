//! `completion`: a script with which a shell completes commands and flags.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(shell: Shell, output: &mut Output) -> Result<ExitStatus, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "marblerun", &mut script);
    output.raw(&[&script])?;
    Ok(ExitStatus::Success)
}
