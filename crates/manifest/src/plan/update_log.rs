//! What package updates left behind: security versions that no longer stand in the manifest.

use std::collections::BTreeMap;

use marblerun_json::{DecodeError, decode_object, decode_whole};

use crate::schema::Manifest;

/// Longest line of an update log that is read, in bytes: a line can name every user.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Events after which the manifest itself gives the security versions.
const RESETS: [&str; 2] = ["Initial manifest set", "Complete Manifest updated"];

#[derive(Default)]
struct Line {
    update: String,
    package: String,
    new_version: Option<u64>,
}

decode_object!(Line { "update" => update, "package" => package, "new version" => new_version });

/// The security versions that package updates set after the manifest was set or updated as a whole, by package.
///
/// `lines` are those of the update log, oldest first; empty ones are skipped.
///
/// # Errors
///
/// If a line is not a JSON object of the known form.
pub fn logged_security_versions<'a>(
    lines: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, u64>, DecodeError> {
    let mut versions = BTreeMap::new();
    for line in lines.into_iter().filter(|line| !line.trim().is_empty()) {
        let (line, _) = decode_whole::<Line>(line.as_bytes(), MAX_LINE_BYTES)?;
        if RESETS.contains(&line.update.as_str()) {
            versions.clear();
        } else if let (false, Some(version)) = (line.package.is_empty(), line.new_version) {
            versions.insert(line.package, version);
        }
    }
    Ok(versions)
}

impl Manifest {
    /// Puts the security versions of package updates in place of those in the manifest. Versions are never lowered, and
    /// packages that do not exist are left out: the log may be older than the manifest.
    pub fn apply_security_versions(&mut self, versions: &BTreeMap<String, u64>) {
        for (name, version) in versions {
            if let Some(package) = self.packages.get_mut(name) {
                package.security_version = package.security_version.max(Some(*version));
            }
        }
    }
}
