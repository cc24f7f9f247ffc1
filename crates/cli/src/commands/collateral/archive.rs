//! A bundle as a tar archive.

use std::path::Path;

use rustls_pki_types::UnixTime;

use crate::failure::Cause;
use crate::files;

/// Writes a new archive with these files: name and content.
pub(super) fn write<'a>(
    path: &Path,
    entries: impl Iterator<Item = (String, &'a [u8])>,
    now: UnixTime,
) -> Result<(), Cause> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_mtime(now.as_secs());
        archive.append_data(&mut header, name, content)
    };
    let error = |source| Cause::Write { what: "collateral", path: path.to_owned(), source };
    for (name, content) in entries {
        add(&name, content).map_err(error)?;
    }
    let bytes = archive.into_inner().map_err(error)?;
    files::write_new("collateral", path, &bytes)
}
