//! The commands, each in its file.

mod certificate;
mod manifest_check;
mod manifest_get;
mod manifest_set;
mod manifest_signature;
mod manifest_verify;
mod status;
mod version;

use crate::args::{Arguments, CertificateCommand, Command, ManifestCommand};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use certificate::Which;

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Status { coordinator, .. } => status::run(global, coordinator, output),
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
        Command::Manifest(ManifestCommand::Get { coordinator, output: file, signature, keep_cert }) => {
            let options = manifest_get::Options { file: file.as_deref(), signature: *signature, keep_cert: *keep_cert };
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
