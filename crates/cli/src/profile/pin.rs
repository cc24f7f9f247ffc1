//! A profile means one deployment: its root certificate and the newest state that was seen.

use std::fs;
use std::io;

use marblerun_client::AttestedCoordinator;
use rustls_pki_types::UnixTime;

use crate::args::Global;
use crate::cache;
use crate::failure::{Cause, Failure};
use crate::head::Head;
use crate::output::Output;

/// Compares an attested Coordinator with what the profile remembers, and remembers what it states.
///
/// A statement of the same deployment that does not go back is enough: a Coordinator in recovery mode has another root
/// until it is recovered. Without statements, as for MarbleRun v1.9.1, the root decides.
pub(crate) fn pin(global: &Global, attested: &AttestedCoordinator, output: &mut Output) -> Result<(), Failure> {
    let (certificates, path) = (cache::path(global)?, Head::path(global)?);
    let pinned = cache::read(&certificates, UnixTime::now())?;
    let remembered = Head::read(&path)?;
    let stated = attested.statement().and_then(Head::of);
    let has_other_root = pinned.as_ref().is_some_and(|pinned| pinned.root() != attested.chain().root());
    let refusal = match (&remembered, &stated) {
        (Some(remembered), Some(stated)) => {
            remembered.compare(stated).err().map(|difference| Cause::OtherState { path: path.clone(), difference })
        }
        (Some(_), None) => Some(Cause::NoState { path: path.clone() }),
        (None, _) if has_other_root => Some(Cause::OtherRoot { path: certificates }),
        (None, _) => None,
    };
    let is_accepted = match refusal {
        None => false,
        Some(refusal) if global.accept_other_state => {
            output.warn(&format!("{} (--accept-other-state)", Failure::from(refusal)))?;
            true
        }
        Some(refusal) => return Err(refusal.into()),
    };
    if is_accepted || !has_other_root && pinned.as_ref() != Some(attested.chain()) {
        cache::write(global, attested.chain())?;
    }
    let is_proven = is_accepted || attested.statement().is_some_and(Head::is_proven);
    match stated {
        Some(stated) if is_proven && remembered.as_ref() != Some(&stated) => stated.write(&path)?,
        None if is_accepted => match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Cause::Write { what: "remembered state", path, source }.into());
            }
            _ => {}
        },
        _ => {}
    }
    Ok(())
}
