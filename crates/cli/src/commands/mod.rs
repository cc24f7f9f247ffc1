//! The commands, each in its file.

mod certificate;
mod collateral;
mod completion;
mod dev;
mod documentation;
mod manifest_check;
mod manifest_get;
mod manifest_log;
mod manifest_plan;
mod manifest_set;
mod manifest_signature;
mod manifest_update;
mod manifest_verify;
pub(crate) mod occlum;
mod package_info;
mod profile;
mod recover;
mod recover_offline;
mod secret_get;
mod secret_set;
mod status;
mod version;

use crate::args::secret::SecretCommand;
use crate::args::{Arguments, CertificateCommand, Command, ManifestCommand, SecretArguments};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;
use certificate::Which;

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Status { coordinator, .. } => status::run(global, coordinator, output),
        Command::Manifest(ManifestCommand::Log { coordinator, output: target }) => {
            manifest_log::run(global, coordinator, target, output)
        }
        Command::Manifest(ManifestCommand::Plan(arguments)) => manifest_plan::run(global, arguments, output),
        Command::Manifest(ManifestCommand::Update(command)) => manifest_update::run(global, command, output),
        Command::Secret(SecretArguments { credentials, command }) => match command {
            SecretCommand::Set { file, coordinator, from_pem, .. } => {
                secret_set::run(global, credentials, file, from_pem.as_deref(), coordinator, output)
            }
            SecretCommand::Get { words, output: target } => secret_get::run(global, credentials, words, target, output),
        },
        Command::Recover(arguments) => recover::run(global, arguments, output),
        Command::RecoverWithSignature(arguments) => match &arguments.command {
            None => recover::run_signed(global, arguments, output),
            Some(command) => recover_offline::run(global, command, output),
        },
        Command::PackageInfo(arguments) => package_info::run(arguments, output),
        Command::Collateral(command) => collateral::run(global, command, output),
        Command::Dev(arguments) => dev::run(arguments, output),
        Command::Occlum(command) => occlum::run(global, command, output),
        Command::Profile(command) => profile::run(global, command, output),
        Command::Completion { shell, no_descriptions } => completion::run(*shell, !no_descriptions, output),
        Command::Documentation { man } => documentation::run(man.as_deref(), output),
        Command::Install { .. } => Err(Cause::ClusterCommand.into()),
        Command::Version { .. } => version::run(output),
        Command::Certificate(CertificateCommand::Root(arguments)) => {
            certificate::run(global, Which::Root, arguments, output)
        }
        Command::Certificate(CertificateCommand::Intermediate(arguments)) => {
            certificate::run(global, Which::Intermediate, arguments, output)
        }
        Command::Certificate(CertificateCommand::Chain(arguments)) => {
            certificate::run(global, Which::Chain, arguments, output)
        }
        Command::Manifest(ManifestCommand::Get {
            coordinator,
            output: target,
            signature,
            display_update,
            keep_cert,
        }) => {
            let options = manifest_get::Options {
                file: target.file(),
                signature: *signature,
                display_update: *display_update,
                keep_cert: *keep_cert,
            };
            manifest_get::run(global, coordinator, &options, output)
        }
        Command::Manifest(ManifestCommand::Set { manifest, coordinator, recoverydata, warnings, .. }) => {
            let options = manifest_set::Options {
                recovery_file: recoverydata.as_deref(),
                allow_warnings: warnings.allow_warnings,
            };
            manifest_set::run(global, manifest, coordinator, &options, output)
        }
        Command::Manifest(ManifestCommand::Signature { manifest, .. }) => manifest_signature::run(manifest, output),
        Command::Manifest(ManifestCommand::Verify { manifest, coordinator, .. }) => {
            manifest_verify::run(global, manifest, coordinator, output)
        }
        Command::Manifest(ManifestCommand::Check { manifest, warnings, .. }) => {
            manifest_check::run(manifest, warnings.allow_warnings, output)
        }
    }
}
