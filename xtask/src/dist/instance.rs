//! The Coordinator as an Occlum instance: what `occlum build` is given.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The program's name in the instance directory, where the recipe finds it.
const PROGRAM: &str = "marblerun-coordinator";
/// The file of the recipe for Occlum's `copy_bom`.
const RECIPE: &str = "image.yaml";
/// Stands in the sample's recipe for the program's hash.
const HASH_PLACE: &str = "@SHA256@";

/// Writes `directory` anew: `Occlum.json` and the recipe of the image as in the sample, the Coordinator `program`, and the
/// directory of the host that is mounted for state and collateral. The same inputs give the same bytes and modes.
///
/// There is no `/etc/marblerun/trust.json`: this Coordinator believes hardware only.
pub(super) fn write(directory: &Path, program: &Path, sample: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot replace {}", directory.display()))?;
    }
    make_directory(directory)?;
    for part in ["host", "host/collateral"] {
        make_directory(&directory.join(part))?;
    }
    copy(&sample.join("Occlum.json"), &directory.join("Occlum.json"), 0o644)?;
    let copied = directory.join(PROGRAM);
    copy(program, &copied, 0o755)?;
    let recipe = sample.join(RECIPE);
    let text = fs::read_to_string(&recipe).with_context(|| format!("cannot read {}", recipe.display()))?;
    ensure!(text.contains(HASH_PLACE), "{}: expected {HASH_PLACE} for the program's hash", recipe.display());
    let text = text.replace(HASH_PLACE, &sha256(&copied)?);
    write_file(&directory.join(RECIPE), text.as_bytes(), 0o644)
}

/// SHA-256 of a file as `copy_bom` wants it: upper-case hex.
fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output().context("cannot start sha256sum (package coreutils)")?;
    ensure!(output.status.success(), "sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    // A name with unusual characters makes the line begin with a backslash (coreutils manual, "md5sum invocation").
    let line = String::from_utf8_lossy(&output.stdout);
    let digest = line.trim_start_matches('\\').split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    ensure!(digest.len() == 64, "sha256sum printed {line:?}");
    Ok(digest)
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    set_mode(path, 0o755)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    write_file(to, &fs::read(from).with_context(|| format!("cannot read {}", from.display()))?, mode)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    set_mode(path, mode)
}

/// Whatever the umask is: permission bits are part of the measurement.
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Everything below a directory: path, mode, and SHA-256 of a file.
    fn listing(directory: &Path) -> Vec<(PathBuf, u32, Option<String>)> {
        let mut found = Vec::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(current) = directories.pop() {
            for entry in fs::read_dir(&current).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let content = if metadata.is_dir() { None } else { Some(sha256(&path).unwrap()) };
                let name = path.strip_prefix(directory).unwrap().to_owned();
                found.push((name, metadata.permissions().mode() & 0o7777, content));
                if metadata.is_dir() {
                    directories.push(path);
                }
            }
        }
        found.sort();
        found
    }

    // rules: DIST-3
    #[test]
    fn the_instance_is_the_same_wherever_it_is_written_and_holds_no_trust_file() {
        let base = std::env::temp_dir().join(format!("marblerun-xtask-instance-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/occlum-coordinator");
        let (one, other) = (base.join("one"), base.join("a/longer/name"));
        write(&one, Path::new("/bin/true"), &sample).unwrap();
        // What an earlier build left must not stay, and modes must not depend on it.
        fs::create_dir_all(other.join("image/etc/marblerun")).unwrap();
        fs::write(other.join("image/etc/marblerun/trust.json"), "{}").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
        write(&other, Path::new("/bin/true"), &sample).unwrap();

        let listed = listing(&one);
        assert_eq!(listed, listing(&other));
        let names: Vec<_> = listed.iter().map(|(name, mode, _)| (name.to_str().unwrap(), *mode)).collect();
        let expected = [
            ("Occlum.json", 0o644),
            ("host", 0o755),
            ("host/collateral", 0o755),
            ("image.yaml", 0o644),
            ("marblerun-coordinator", 0o755),
        ];
        assert_eq!(names, expected);
        let digest = sha256(Path::new("/bin/true")).unwrap();
        assert!(fs::read_to_string(one.join(RECIPE)).unwrap().contains(&format!("hash: \"{digest}\"\n")));
        fs::remove_dir_all(base).unwrap();
    }
}
