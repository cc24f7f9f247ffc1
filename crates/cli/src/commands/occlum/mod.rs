//! `occlum`: instances of Occlum.

mod check;
pub(crate) mod run;

use crate::args::Global;
use crate::args::occlum::OcclumCommand;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

/// Does what the command says.
pub(crate) fn run(global: &Global, command: &OcclumCommand, output: &mut Output) -> Result<ExitStatus, Failure> {
    match command {
        OcclumCommand::Check(arguments) => check::run(arguments, output),
        OcclumCommand::Run(arguments) => run::run(global, arguments, output),
    }
}
