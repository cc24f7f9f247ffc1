//! `occlum`: instances of Occlum.

mod check;
mod init;
mod marble;
mod prepare;
pub(crate) mod run;

use crate::args::Global;
use crate::args::occlum::OcclumCommand;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

/// Does what the command says.
pub(crate) fn run(global: &Global, command: &OcclumCommand, output: &mut Output) -> Result<ExitStatus, Failure> {
    match command {
        OcclumCommand::Init(arguments) => init::run(global, arguments, output),
        OcclumCommand::Prepare(arguments) => prepare::run(global, arguments, output),
        OcclumCommand::Check(arguments) => check::run(arguments, output),
        OcclumCommand::Run(arguments) => run::run(global, arguments, output),
    }
}
