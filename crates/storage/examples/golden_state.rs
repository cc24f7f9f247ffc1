//! Writes a state directory for `testdata/state`, with the keys that the tests know.
//!
//! `cargo run -p marblerun-storage --example golden_state -- testdata/state/v1` once for each version of the format; a
//! directory that exists is never written again, because its point is to be old.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use marblerun_sealing::{
    FixedSealKeys, ManifestFingerprint, RecoveryRecipient, RecoveryScheme, RecoveryShare, SealKeys, SealMode,
    SealPolicy, TrustClass, TrustContext,
};
use marblerun_secret::SecretBytes;
use marblerun_storage::{CommitOptions, Opened, RecipientChange, SealedLog, open_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: golden_state <new directory>")?;
    let path = Path::new(&path);
    if path.exists() {
        return Err(format!("{} exists", path.display()).into());
    }
    let Opened::New(new) = open(path)? else { return Err("expected an empty directory".into()) };
    // Two processes: the second begins with a start record of its own and changes the seal mode and the recipient.
    let mut log = new.create(SealMode::default(), &[b"identity"])?;
    log.commit(&[b"one", b"two"])?;
    log.commit_with(recoverable(SealPolicy::ProductKey, 0x11, RecoveryScheme::Single, 1)?, &[b"manifest"])?;
    drop(log);
    let mut log = existing(path)?;
    let threshold = RecoveryScheme::Threshold { threshold: 2 };
    log.commit_with(recoverable(SealPolicy::UniqueKey, 0x22, threshold, 3)?, &[b"manifest 2"])?;
    log.commit(&[&[7; 1000]])?;
    // Under the last manifest the recipient stays.
    let recovery = RecipientChange::Keep { manifest: ManifestFingerprint::from_bytes([0x33; 32]) };
    log.commit_with(CommitOptions { mode: SealMode::Sealed(SealPolicy::UniqueKey), recovery }, &[b"manifest 3"])?;
    Ok(())
}

fn open(path: &Path) -> Result<Opened, Box<dyn Error>> {
    let key = |byte| SecretBytes::new(vec![byte; 16]);
    let keys: Arc<dyn SealKeys> = Arc::new(FixedSealKeys::new(key(0x01), key(0x02)));
    Ok(open_directory(path, keys, TrustContext::new(TrustClass::Software, vec![[0x05; 32]]))?)
}

fn existing(path: &Path) -> Result<SealedLog, Box<dyn Error>> {
    match open(path)? {
        Opened::Existing(existing) => Ok(existing.log),
        other => Err(format!("expected a state, got {other:?}").into()),
    }
}

fn recoverable(
    policy: SealPolicy,
    byte: u8,
    scheme: RecoveryScheme,
    count: u8,
) -> Result<CommitOptions, Box<dyn Error>> {
    let share = |number| RecoveryShare { public_key: vec![byte; 292 + usize::from(number)], share_hash: [number; 32] };
    let key = SecretBytes::new(vec![byte; 32]);
    let recipient = RecoveryRecipient::new(key, scheme, (1..=count).map(share).collect())?;
    let manifest = ManifestFingerprint::from_bytes([!byte; 32]);
    Ok(CommitOptions { mode: SealMode::Sealed(policy), recovery: RecipientChange::to(Some(recipient), manifest) })
}
