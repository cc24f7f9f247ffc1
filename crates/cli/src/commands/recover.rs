//! `recover` and `recover-with-signature`: give a Coordinator that cannot open its state a recovery secret.
//!
//! Before it gets the secret, what its attested statement says of the state to recover is shown and compared with what
//! was remembered.
//!
//! JSON: `{"remaining": number, "message": text, "state": {...} or null, "rememberedState": {...} or null, "coordinator":
//! {...}}`, states as in [`Head::to_json`].

use marblerun_client::{RecoverAnswer, SecretBytes, Statement};
use serde_json::json;

use crate::args::{Global, RecoverArguments, SignedRecoveryArguments};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::head::Head;
use crate::output::Output;
use crate::trust::Trust;
use crate::{credentials, files, recovery_data, trust};

/// Longest encrypted secret or signature, in bytes: those of an RSA key of 8192 bits have 1024.
const MAX_SIGNED_BYTES: usize = 8 * 1024;

pub(crate) fn run(global: &Global, arguments: &RecoverArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let share = &arguments.share;
    let key = credentials::recovery_key(share.key.as_deref(), &share.token)?
        .ok_or(Cause::Flags("expected the private key of the recovery party with --key, which signs the secret"))?;
    let secret = recovery_data::read(&share.file, share.name.as_deref())?;
    let plain = key.open(&secret)?;
    let signature = key.sign(&plain)?;
    give(global, &arguments.coordinator, plain.expose(), &signature, output)
}

pub(crate) fn run_signed(
    global: &Global,
    arguments: &SignedRecoveryArguments,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let (Some(file), Some(coordinator), Some(signature)) =
        (&arguments.file, &arguments.coordinator, &arguments.signature)
    else {
        return Err(Cause::Flags("expected RECOVERY_KEY_FILE, IP:PORT and --signature").into());
    };
    let secret = SecretBytes::new(files::read("recovery secret", file, MAX_SIGNED_BYTES)?);
    if recovery_data::is_recovery_data(&secret) {
        return Err(Cause::RecoveryDataNotSecret { path: file.clone() }.into());
    }
    let signature = files::read("signature", signature, MAX_SIGNED_BYTES)?;
    give(global, coordinator, &secret, &signature, output)
}

fn give(
    global: &Global,
    address: &str,
    secret: &SecretBytes,
    signature: &[u8],
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    trust::block_on(async {
        let coordinator = trust::attest_for_recovery(global, address, output).await?;
        let seen = match &coordinator.trust {
            Trust::Attested(attested) => compare_with_remembered(global, attested.statement(), output)?,
            // Whoever skips the verification cannot be told anything that is worth a comparison.
            Trust::Cached | Trust::Nothing => Seen { stated: None, remembered: None },
        };
        output.step(match coordinator.is_attested() {
            true => "Successfully verified Coordinator, now sending recovery secret",
            false => "Sending recovery secret",
        })?;
        let RecoverAnswer { remaining, message } = coordinator.client()?.recover(secret, signature).await?;
        if output.is_json() {
            output.json(&json!({
                "remaining": remaining,
                "message": message,
                "state": seen.stated.map(|head| head.to_json()),
                "rememberedState": seen.remembered.map(|head| head.to_json()),
                "coordinator": coordinator.to_json(),
            }))?;
        } else if remaining == 0 {
            output.line("Recovery successful.")?;
        } else {
            output.line(&format!("Secret was accepted, upload the next one. Remaining secrets: {remaining}"))?;
        }
        Ok(ExitStatus::Success)
    })
}

/// What was compared.
pub(crate) struct Seen {
    pub(crate) stated: Option<Head>,
    pub(crate) remembered: Option<Head>,
}

/// Shows the stated and the remembered state, and fails if the one does not go on from the other.
pub(crate) fn compare_with_remembered(
    global: &Global,
    statement: Option<&Statement>,
    output: &mut Output,
) -> Result<Seen, Failure> {
    let stated = statement.and_then(Head::of);
    // Where nothing can be remembered, nothing is.
    let path = Head::path(global).ok();
    let remembered = match &path {
        Some(path) => Head::read(path)?,
        None => None,
    };
    match &stated {
        Some(head) => show("State to recover", head, output)?,
        None => output.note("State to recover: the Coordinator tells nothing about it")?,
    }
    match &remembered {
        Some(head) => show("Remembered state", head, output)?,
        None => output.note("Remembered state: none, so there is nothing to compare with")?,
    }
    if let (Some(head), Some(path)) = (&remembered, &path) {
        let difference = match &stated {
            Some(stated) => {
                let is_proven = statement.is_some_and(Head::is_proven);
                let compared = if is_proven { head.compare(stated) } else { head.compare_claim(stated) };
                compared.map_err(|difference| Cause::OtherState { path: path.clone(), difference })
            }
            // An old state must not pass by saying nothing.
            None => Err(Cause::NoState { path: path.clone() }),
        };
        match difference {
            Err(cause) if global.accept_other_state => {
                output.note(&format!("Warning: {} (--accept-other-state)", Failure::from(cause)))?;
            }
            outcome => outcome?,
        }
        if stated.as_ref().is_some_and(|stated| head.has_other_manifest(stated)) {
            output.note("The manifest is not the remembered one: make sure that you know of its update")?;
        }
    }
    Ok(Seen { stated, remembered })
}

fn show(what: &str, head: &Head, output: &mut Output) -> std::io::Result<()> {
    let manifest = head.manifest.as_deref().unwrap_or("not told");
    output.note(&format!(
        "{what}: deployment {}, epoch {}, sequence {}, manifest {manifest}",
        head.deployment, head.epoch, head.sequence
    ))
}
