//! The certificate cache: intermediate and root of the Coordinator that was verified last.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use marblerun_client::CertificateChain;
use rustls_pki_types::UnixTime;

use crate::args::Global;
use crate::failure::Cause;
use crate::files;

const WHAT: &str = "certificate cache";
const MAX_CACHE_BYTES: usize = 1024 * 1024;

/// The line in front of certificates that nobody verified; other PEM readers skip it.
const NOT_VERIFIED: &str = "These certificates were not verified (--insecure).\n";

/// Where the cache is.
pub(crate) fn path(global: &Global) -> Result<PathBuf, Cause> {
    match &global.coordinator_cert {
        Some(path) => Ok(path.clone()),
        None => Ok(config_directory()?.join("coordinator-cert.pem")),
    }
}

/// Where the program keeps files of its own for the user.
pub(crate) fn config_directory() -> Result<PathBuf, Cause> {
    directory(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"))
}

fn directory(config: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Cause> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let parent = absolute(config).or_else(|| absolute(home).map(|home| home.join(".config")));
    parent.map(|parent| parent.join("marblerun")).ok_or(Cause::NoConfigDirectory)
}

/// The cached certificates; `None` if there is no cache. Those that nobody verified are refused.
pub(crate) fn read(path: &Path, now: UnixTime) -> Result<Option<CertificateChain>, Cause> {
    match files::read(WHAT, path, MAX_CACHE_BYTES) {
        Ok(text) if text.starts_with(NOT_VERIFIED.as_bytes()) => Err(Cause::UnverifiedCache { path: path.to_owned() }),
        Ok(text) => CertificateChain::parse_and_verify(&text, now)
            .map(Some)
            .map_err(|source| Cause::Cache { path: path.to_owned(), source }),
        Err(Cause::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps verified certificates.
pub(crate) fn write(global: &Global, chain: &CertificateChain) -> Result<(), Cause> {
    write_text(&path(global)?, &chain.to_pem())
}

/// Keeps certificates that nobody verified: never in the default place, where later commands would trust them.
pub(crate) fn write_unverified(global: &Global, chain: &CertificateChain) -> Result<(), Cause> {
    match &global.coordinator_cert {
        Some(path) => write_text(path, &format!("{NOT_VERIFIED}{}", chain.to_pem())),
        None => Ok(()),
    }
}

fn write_text(path: &Path, text: &str) -> Result<(), Cause> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(|source| Cause::Write {
            what: WHAT,
            path: path.to_owned(),
            source,
        })?;
    }
    files::write(WHAT, path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_place_follows_xdg_and_home() {
        let path = |config: &str, home: &str| {
            let value = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
            directory(value(config), value(home)).ok().map(|path| path.display().to_string())
        };
        assert_eq!(path("/x", "/h").as_deref(), Some("/x/marblerun"));
        assert_eq!(path("", "/h").as_deref(), Some("/h/.config/marblerun"));
        assert_eq!(path("relative", "/h").as_deref(), Some("/h/.config/marblerun"));
        assert_eq!(path("", ""), None);
    }
}
