//! Names of the files in a bundle.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use marblerun_attestation::{Fmspc, PckCa, PlatformId, Tee};

use crate::error::LookupError;

/// How many directory entries are looked at; an inventory of all of Intel's platforms has a few hundred.
pub const MAX_DIRECTORY_ENTRIES: usize = 4096;

const EXTENSION: &str = ".json";

/// The name of the file for a platform, without directory: `sgx-00906ED50000-processor.json`.
pub fn file_name(platform: &PlatformId) -> String {
    format!("{}-{}-{}{EXTENSION}", platform.tee, platform.fmspc, platform.ca)
}

/// Reads a file's name; `None` for files that are not for us.
fn parse(name: &str) -> Option<PlatformId> {
    let (tee, rest) = name.strip_suffix(EXTENSION)?.split_once('-')?;
    let (fmspc, ca) = rest.split_once('-')?;
    let tee = [Tee::Sgx].into_iter().find(|known| known.name() == tee)?;
    let ca = [PckCa::Processor, PckCa::Platform].into_iter().find(|known| known.name() == ca)?;
    Some(PlatformId { tee, fmspc: Fmspc::from_hex(fmspc)?, ca })
}

/// Every file of the bundle by platform. A directory that does not exist is empty.
pub(crate) fn list(directory: &Path) -> Result<HashMap<PlatformId, Vec<PathBuf>>, LookupError> {
    let unreadable = |error: &io::Error| LookupError::unreadable(directory, error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut files: HashMap<PlatformId, Vec<PathBuf>> = HashMap::new();
    for (count, entry) in entries.enumerate() {
        if count == MAX_DIRECTORY_ENTRIES {
            return Err(LookupError::TooManyFiles { directory: directory.to_owned(), max: MAX_DIRECTORY_ENTRIES });
        }
        let entry = entry.map_err(|error| unreadable(&error))?;
        if let Some(platform) = entry.file_name().to_str().and_then(parse) {
            files.entry(platform).or_default().push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(fmspc: [u8; 6], ca: PckCa) -> PlatformId {
        PlatformId { tee: Tee::Sgx, fmspc: Fmspc(fmspc), ca }
    }

    #[test]
    fn names_are_read_in_either_case_and_written_in_upper_case() {
        let expected = platform([0, 0x90, 0x6e, 0xd5, 0, 0], PckCa::Processor);
        assert_eq!(parse("sgx-00906ED50000-processor.json"), Some(expected));
        assert_eq!(parse("sgx-00906eD50000-processor.json"), Some(expected));
        assert_eq!(file_name(&expected), "sgx-00906ED50000-processor.json");
    }

    #[test]
    fn other_names_are_not_for_us() {
        for name in [
            "README.md",
            "sgx-00906ED50000-processor.json.tmp",
            "snp-00906ED50000-processor.json",
            "sgx-00906ED500-processor.json",
            "sgx-00906ED5000G-processor.json",
            "sgx-00906ED50000-root.json",
            "sgx-00906ED50000-processor-2.json",
            "SGX-00906ED50000-processor.json",
            "sgx-.json",
            ".json",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
