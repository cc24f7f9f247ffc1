//! Collateral that lies in a directory: a bundle, the `dcap` in it, or a Coordinator's cache.

use std::fs;
use std::path::{Path, PathBuf};

use marblerun_attestation::{Fmspc, MAX_COLLATERAL_BYTES, PckCa, PlatformId, Tee};
use marblerun_collateral::{MAX_DIRECTORY_ENTRIES, file_name};

use super::SUBDIRECTORY;
use crate::failure::Cause;
use crate::files;

/// Every file of a directory with its platform, sorted by name; or the file itself.
pub(super) fn find(path: &Path) -> Result<Vec<(PlatformId, PathBuf)>, Cause> {
    let unreadable = |source| Cause::Read { what: "collateral", path: path.to_owned(), source };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let platform = platform(name).ok_or_else(|| Cause::CollateralName { path: path.to_owned() })?;
        return Ok(vec![(platform, path.to_owned())]);
    }
    let below = path.join(SUBDIRECTORY);
    let directory = if below.is_dir() { &below } else { path };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)?.take(MAX_DIRECTORY_ENTRIES) {
        let name = entry.map_err(unreadable)?.file_name();
        if let Some(platform) = name.to_str().and_then(platform) {
            found.push((platform, directory.join(name)));
        }
    }
    if found.is_empty() {
        return Err(Cause::NoCollateral { path: path.to_owned() });
    }
    found.sort_by(|(_, one), (_, other)| one.cmp(other));
    Ok(found)
}

/// True if the name says for which platform the file is.
pub(super) fn has_name_of_bundle(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(platform).is_some()
}

/// The content of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Cause> {
    files::read("collateral", path, MAX_COLLATERAL_BYTES)
}

/// The platform that a file in a bundle is for, by its name; digits may be in either case.
fn platform(name: &str) -> Option<PlatformId> {
    let mut parts = name.strip_suffix(".json")?.splitn(3, '-');
    let (_, fmspc, ca) = (parts.next()?, parts.next()?, parts.next()?);
    let ca = [PckCa::Processor, PckCa::Platform].into_iter().find(|known| known.name() == ca)?;
    let platform = PlatformId { tee: Tee::Sgx, fmspc: Fmspc::from_hex(fmspc)?, ca };
    file_name(&platform).eq_ignore_ascii_case(name).then_some(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_platform_in_either_case() {
        let expected = PlatformId { tee: Tee::Sgx, fmspc: Fmspc([0, 0x90, 0x6E, 0xD5, 0, 0]), ca: PckCa::Processor };
        assert_eq!(platform("sgx-00906ED50000-processor.json"), Some(expected));
        assert_eq!(platform("sgx-00906ed50000-processor.json"), Some(expected));
        for name in ["snp-00906ED50000-processor.json", "sgx-00906ED50000-root.json", "sgx-0-platform.json", "a.json"] {
            assert_eq!(platform(name), None, "{name}");
        }
    }
}
