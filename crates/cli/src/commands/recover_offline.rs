//! `recover-with-signature public-key|encrypt-secret|sign-secret`: recovery with a private key that never leaves an
//! offline machine.
//!
//! JSON of `public-key`: `{"publicKey": PEM text, "coordinator": {...}}`. Of `encrypt-secret`: `{"encryptedSecret": base64
//! text}`. Of `sign-secret`: `{"signature": base64 text}`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_client::{RecoveryKey, RecoverySecret, SecretBytes};
use marblerun_pki::pem;
use serde_json::json;

use crate::args::Global;
use crate::args::recovery::{EvidenceArguments, ShareArguments, SignedRecoveryCommand};
use crate::commands::recover::compare_with_remembered;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;
use crate::trust::{self, Trust};
use crate::{credentials, files, recovery_data};

/// Longest public key file, in bytes; the longest RSA key has about 1,500.
const MAX_PUBLIC_KEY_BYTES: usize = 64 * 1024;

pub(crate) fn run(
    global: &Global,
    command: &SignedRecoveryCommand,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    match command {
        SignedRecoveryCommand::PublicKey { coordinator, output: target, evidence } => {
            public_key(global, coordinator, target.file(), evidence.as_deref(), output)
        }
        SignedRecoveryCommand::EncryptSecret { share, coordinator_pub_key, evidence, output: target } => {
            let coordinator_key = read_public_key(coordinator_pub_key)?;
            let (secret, _) = open(share)?;
            check_evidence(global, evidence, output)?;
            let encrypted = secret.encrypt_to(&coordinator_key)?;
            write("encrypted secret", "encryptedSecret", target.file(), &encrypted, output)
        }
        SignedRecoveryCommand::SignSecret { share, evidence, output: target } => {
            let (secret, key) = open(share)?;
            let key = key.ok_or(Cause::Flags("expected the private key of the recovery party with --key"))?;
            check_evidence(global, evidence, output)?;
            write("signature", "signature", target.file(), &key.sign(&secret)?, output)
        }
    }
}

fn public_key(
    global: &Global,
    address: &str,
    file: Option<&Path>,
    evidence_file: Option<&Path>,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    trust::block_on(async {
        let coordinator = trust::attest_for_recovery(global, address, output).await?;
        let key = coordinator.client()?.recovery_public_key().await?;
        let text = pem::encode(pem::PUBLIC_KEY, &key);
        if let Some(file) = evidence_file {
            let Trust::Attested(attested) = &coordinator.trust else {
                return Err(Cause::Flags("--evidence: nothing is verified with --insecure").into());
            };
            files::write_new("evidence", file, attested.evidence().to_text().as_bytes())?;
        }
        if output.is_json() {
            output.json(&json!({"publicKey": text, "coordinator": coordinator.to_json()}))?;
        } else if let Some(file) = file {
            files::write_new("Coordinator's recovery public key", file, text.as_bytes())?;
        } else {
            output.bytes(text.as_bytes())?;
        }
        Ok(ExitStatus::Success)
    })
}

/// The plain secret, and the party's key if one is given.
fn open(share: &ShareArguments) -> Result<(RecoverySecret, Option<RecoveryKey>), Cause> {
    let key = credentials::recovery_key(share.key.as_deref(), &share.token)?;
    let secret: SecretBytes = recovery_data::read(&share.file, share.name.as_deref())?;
    let plain = match &key {
        Some(key) => key.open(&secret)?,
        None => RecoverySecret::from_plain(secret)?,
    };
    Ok((plain, key))
}

/// Verifies evidence that was taken elsewhere, and compares its statement with what was remembered here.
fn check_evidence(global: &Global, arguments: &EvidenceArguments, output: &mut Output) -> Result<(), Failure> {
    let Some(path) = &arguments.evidence else { return Ok(()) };
    let attested = trust::verify_evidence(global, path, output)?;
    compare_with_remembered(global, attested.statement(), output)?;
    Ok(())
}

fn read_public_key(path: &Path) -> Result<Vec<u8>, Cause> {
    let refused = |reason: String| Cause::PublicKeyFile { path: path.to_owned(), reason };
    let text = files::read("Coordinator public key", path, MAX_PUBLIC_KEY_BYTES)?;
    let blocks = pem::decode_all(&text).map_err(|error| refused(error.to_string()))?;
    let block = blocks
        .iter()
        .find(|block| block.label == pem::PUBLIC_KEY)
        .ok_or_else(|| refused("expected a PEM block PUBLIC KEY, got none".to_owned()))?;
    Ok(block.der.expose().to_vec())
}

fn write(
    what: &'static str,
    member: &str,
    file: Option<&Path>,
    bytes: &[u8],
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    match file {
        Some(file) => files::write_new(what, file, bytes)?,
        None => output.json(&json!({member: STANDARD.encode(bytes)}))?,
    }
    Ok(ExitStatus::Success)
}
