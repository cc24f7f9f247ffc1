//! Keeping the places of a build out of what is built: two builds in different directories give the same bytes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Place, Program};
use crate::process::say;

/// Separates the flags in `CARGO_ENCODED_RUSTFLAGS` (Cargo book, "Environment Variables").
const FLAG_SEPARATOR: &str = "\u{1f}";

/// Directories of a machine that compilers write into programs, with what they are replaced by. A later entry wins
/// where one directory lies in another.
fn replaced(place: &Place) -> Result<[(PathBuf, &'static str); 3]> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cargo_home = home("CARGO_HOME").or_else(|| home("HOME").map(|home| home.join(".cargo")));
    let cargo_home = cargo_home.context("neither CARGO_HOME nor HOME names a directory")?;
    Ok([(place.workspace.clone(), "/marblerun"), (place.target.clone(), "/target"), (cargo_home, "/cargo")])
}

/// The flags of the Rust compiler that replace the directories.
pub(super) fn compiler_flags(place: &Place) -> Result<OsString> {
    let mut flags = OsString::new();
    for (directory, name) in replaced(place)? {
        if !flags.is_empty() {
            flags.push(FLAG_SEPARATOR);
        }
        flags.push("--remap-path-prefix=");
        flags.push(directory);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// Checks that a program names no directory of the machine that built it.
pub(super) fn check_absent(program: &Path, place: &Place) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    for (directory, _) in replaced(place)? {
        let name = directory.to_str().context("directories of a build have names in UTF-8")?;
        if let Some(found) = line_with(&bytes, name) {
            bail!("{}: the build wrote a directory of this machine into it: {found}", program.display());
        }
    }
    Ok(())
}

/// The printable text around the first place where `bytes` name `directory` or something in it.
fn line_with(bytes: &[u8], directory: &str) -> Option<String> {
    let needle = format!("{directory}/");
    let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes())?;
    let text = bytes[at..].iter().take_while(|byte| byte.is_ascii_graphic()).take(200);
    Some(text.map(|byte| char::from(*byte)).collect())
}

/// Builds `program` from a copy of the sources in another directory with another target directory, and compares.
pub(super) fn build_again(first: &Path, place: &Place, program: &Program) -> Result<()> {
    // Names of another length: an offset that depends on them would show.
    let second = Place {
        workspace: place.target.join("second-place/sources-in-another-directory"),
        target: place.target.join("second-place/target"),
        ..place.clone()
    };
    copy_sources(&place.workspace, &second.workspace)?;
    let built = super::build(&second, program)?;
    ensure_same(first, &built)?;
    say(&format!("{}: the same bytes from {}", program.name, second.workspace.display()));
    Ok(())
}

fn ensure_same(first: &Path, second: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (one, other) = (read(first)?, read(second)?);
    let differing = one.iter().zip(&other).position(|(one, other)| one != other);
    ensure!(
        one == other,
        "{} and {} differ: {} and {} bytes, first difference at {}",
        first.display(),
        second.display(),
        one.len(),
        other.len(),
        differing.unwrap_or(one.len().min(other.len()))
    );
    Ok(())
}

/// Makes `to` a copy of the sources, with their changes. Files that are the same keep their times, so that a build in the
/// copy does again only what changed.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let names = match tracked(from) {
        Some(names) => names,
        None => found(from)?,
    };
    remove_others(to, &names.iter().map(|name| to.join(name)).collect::<Vec<_>>())?;
    for name in &names {
        let (source, target) = (from.join(name), to.join(name));
        let bytes = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            continue;
        }
        let parent = target.parent().context("a file has a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::write(&target, bytes).with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(())
}

/// What `git` knows of the sources, and what is new and not ignored; `None` outside of a repository.
fn tracked(workspace: &Path) -> Option<Vec<PathBuf>> {
    let listed = Command::new("git")
        .current_dir(workspace)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()
        .filter(|listed| listed.status.success())?;
    let names = String::from_utf8(listed.stdout).ok()?;
    let names = names.split_terminator('\0').filter(|name| workspace.join(name).is_file());
    Some(names.map(PathBuf::from).collect())
}

/// Every file but those that builds write, for sources that came without a repository.
fn found(workspace: &Path) -> Result<Vec<PathBuf>> {
    let is_written =
        |name: &Path| name.ends_with("target") || [".git", "dist"].iter().any(|top| name == Path::new(top));
    let (mut names, mut directories) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        let place = workspace.join(&directory);
        for entry in fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))? {
            let entry = entry?;
            let name = directory.join(entry.file_name());
            if entry.file_type()?.is_file() {
                names.push(name);
            } else if entry.file_type()?.is_dir() && !is_written(&name) {
                directories.push(name);
            }
        }
    }
    Ok(names)
}

/// Removes files of an earlier copy that are no sources any more.
fn remove_others(directory: &Path, kept: &[PathBuf]) -> Result<()> {
    let kept: std::collections::HashSet<&PathBuf> = kept.iter().collect();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if !kept.contains(&path) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("marblerun-xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_directory_in_a_program_is_found_and_a_longer_name_is_another() {
        let bytes = b"\0\x01/home/me/.cargo/registry/src/a.rs\0/home/me/workspace\0";
        assert_eq!(line_with(bytes, "/home/me/.cargo").as_deref(), Some("/home/me/.cargo/registry/src/a.rs"));
        assert_eq!(line_with(bytes, "/home/me/work"), None);
        assert_eq!(line_with(bytes, "/home/you"), None);
    }

    // rules: DIST-1
    #[test]
    fn a_program_that_names_its_place_is_refused() {
        let directory = directory("names");
        let place =
            Place { workspace: "/x/sources".into(), target: "/x/target".into(), cache: "/".into(), tools: "/".into() };
        let program = directory.join("program");
        fs::write(&program, b"\x7fELF /target/a.rs /x/targets/b.rs").unwrap();
        check_absent(&program, &place).unwrap();
        fs::write(&program, b"\x7fELF /x/target/a.rs").unwrap();
        let error = check_absent(&program, &place).unwrap_err().to_string();
        assert!(error.ends_with("the build wrote a directory of this machine into it: /x/target/a.rs"), "{error}");
        fs::remove_dir_all(directory).unwrap();
    }

    // rules: DIST-2
    #[test]
    fn one_differing_byte_or_length_is_noticed() {
        let directory = directory("same");
        let (one, other) = (directory.join("one"), directory.join("other"));
        for (first, second, expected) in
            [("abc", "abc", None), ("abc", "abd", Some("first difference at 2")), ("ab", "abc", Some("2 and 3 bytes"))]
        {
            fs::write(&one, first).unwrap();
            fs::write(&other, second).unwrap();
            match (ensure_same(&one, &other), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (got, expected) => panic!("expected {expected:?}, got {got:?}"),
            }
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_copy_of_the_sources_loses_what_is_no_source_any_more() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let copy = directory("copy");
        fs::write(copy.join("stale.rs"), "").unwrap();
        copy_sources(workspace, &copy).unwrap();
        assert!(!copy.join("stale.rs").exists() && !copy.join("target").exists());
        for name in ["Cargo.toml", ".cargo/config.toml", "xtask/src/dist/places.rs"] {
            assert_eq!(fs::read(copy.join(name)).unwrap(), fs::read(workspace.join(name)).unwrap(), "{name}");
        }
        assert!(tracked(Path::new("/")).is_none());
        let found = found(workspace).unwrap();
        assert!(
            found.contains(&PathBuf::from("xtask/src/dist/places.rs"))
                && !found.iter().any(|name| name.starts_with("target"))
        );
        let before = fs::metadata(copy.join("Cargo.toml")).unwrap().modified().unwrap();
        copy_sources(workspace, &copy).unwrap();
        assert_eq!(fs::metadata(copy.join("Cargo.toml")).unwrap().modified().unwrap(), before);
        fs::remove_dir_all(copy).unwrap();
    }
}
