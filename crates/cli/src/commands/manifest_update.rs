//! `manifest update apply|acknowledge|cancel|get`: updates that may need several users.
//!
//! JSON of `apply` and `acknowledge`: `{"manifestSignature": text, "applied": true or false, "missingAcknowledgments":
//! number, "missingUsers": [text], "recoverySecrets": {name: base64 text}, "coordinator": {...}}`. Of `cancel`:
//! `{"message": text, "coordinator": {...}}`. Of `get`: `{"manifestSignature": text, "manifest": the manifest's text,
//! "message": text, "missingUsers": [text], "coordinator": {...}}`.

use std::path::Path;

use marblerun_client::UpdateOutcome;
use serde_json::json;

use crate::args::manifest::ChangeArguments;
use crate::args::{Credentials, Global, OutputFlag, UpdateCommand};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::manifest_file::ManifestFile;
use crate::output::Output;
use crate::recovery_data::{self, Given};
use crate::trust::{self, Trust};
use crate::{credentials, files};

pub(crate) fn run(global: &Global, command: &UpdateCommand, output: &mut Output) -> Result<ExitStatus, Failure> {
    match command {
        UpdateCommand::Apply(arguments) => change(global, Step::Apply, arguments, output),
        UpdateCommand::Acknowledge(arguments) => change(global, Step::Acknowledge, arguments, output),
        UpdateCommand::Cancel { coordinator, credentials, .. } => cancel(global, coordinator, credentials, output),
        UpdateCommand::Get { coordinator, output: target, missing } => {
            get(global, coordinator, target, *missing, output)
        }
    }
}

/// What a user does with an update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Apply,
    Acknowledge,
}

fn change(
    global: &Global,
    step: Step,
    arguments: &ChangeArguments,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let user = credentials::user(&arguments.credentials)?;
    let file = ManifestFile::read(&arguments.manifest)?;
    file.show_notes(output)?;
    trust::block_on(async {
        let coordinator = trust::known(global, &arguments.coordinator, output).await?;
        let client = coordinator.client()?.with_certificate(&user)?;
        output.step(match coordinator.trust {
            Trust::Nothing => "Sending the manifest",
            Trust::Attested(_) | Trust::Cached => "Verified Coordinator's certificate, now sending the manifest",
        })?;
        let outcome = match step {
            Step::Apply => client.apply_update(&file.bytes).await?,
            Step::Acknowledge => client.acknowledge_update(&file.bytes).await?,
        };
        let document = || {
            json!({
                "manifestSignature": file.signature(),
                "applied": outcome.is_applied(),
                "missingAcknowledgments": outcome.missing_acknowledgments,
                "missingUsers": outcome.missing_users,
                "recoverySecrets": recovery_data::to_json(&outcome.recovery_secrets),
                "coordinator": coordinator.to_json(),
            })
        };
        let given = Given::save(&outcome.recovery_secrets, arguments.recoverydata.as_deref());
        given.tell(&words(step, &outcome), document, output)?;
        Ok(ExitStatus::Success)
    })
}

/// What happened, for people.
fn words(step: Step, outcome: &UpdateOutcome) -> Vec<String> {
    let count = match outcome.missing_acknowledgments {
        1 => "1 user still needs".to_owned(),
        missing => format!("{missing} users still need"),
    };
    // Version 1 of the API gives no names.
    let users = match outcome.missing_users.as_slice() {
        [] => "<unknown>".to_owned(),
        users => users.join(", "),
    };
    match (step, outcome.is_applied()) {
        (Step::Apply, true) => vec!["Update manifest set successfully".to_owned()],
        (Step::Apply, false) => vec![
            format!("Update manifest submitted, the update is pending. {count} to acknowledge it."),
            format!("Users that may acknowledge: {users}"),
        ],
        (Step::Acknowledge, true) => vec![
            "Acknowledgement successful:".to_owned(),
            "All users have acknowledged the update manifest. The update is applied.".to_owned(),
        ],
        (Step::Acknowledge, false) => vec![
            "Acknowledgement successful:".to_owned(),
            format!("{count} to acknowledge the update manifest."),
            format!("The following users have not yet accepted: {users}"),
        ],
    }
}

fn cancel(
    global: &Global,
    address: &str,
    credentials: &Credentials,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let user = credentials::user(credentials)?;
    trust::block_on(async {
        let coordinator = trust::known(global, address, output).await?;
        let message = coordinator.client()?.with_certificate(&user)?.cancel_update().await?;
        if output.is_json() {
            output.json(&json!({"message": message, "coordinator": coordinator.to_json()}))?;
        } else {
            output.line("Cancellation successful")?;
        }
        Ok(ExitStatus::Success)
    })
}

fn get(
    global: &Global,
    address: &str,
    target: &OutputFlag,
    missing: bool,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    trust::block_on(async {
        let coordinator = trust::known(global, address, output).await?;
        let pending = coordinator.client()?.pending_update().await?;
        if output.is_json() {
            output.json(&json!({
                "manifestSignature": marblerun_manifest::fingerprint(&pending.manifest),
                "manifest": String::from_utf8_lossy(&pending.manifest),
                "message": pending.message,
                "missingUsers": pending.missing_users,
                "coordinator": coordinator.to_json(),
            }))?;
            return Ok(ExitStatus::Success);
        }
        let content = match missing {
            false => pending.manifest,
            true => format!("[{}]\n", pending.missing_users.join(" ")).into_bytes(),
        };
        write(target.file(), &content, output)?;
        Ok(ExitStatus::Success)
    })
}

fn write(file: Option<&Path>, content: &[u8], output: &mut Output) -> Result<(), Failure> {
    match file {
        None => output.raw(&[content])?,
        Some(file) => files::write("pending manifest", file, content)?,
    }
    Ok(())
}
