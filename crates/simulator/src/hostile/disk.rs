//! What a host does to files: the instance's directory is its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layers that the host can save and bring back.
const LAYERS: [&str; 2] = ["host", "run"];

/// Marks of the simulator's own in `run/`, which are no data of the program.
const OWN: [&str; 2] = ["run/.lock", "run/mount/.work"];

/// The disk of one instance, and where the paths of the plan begin.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) instance: PathBuf,
    pub(super) plan: PathBuf,
}

impl Disk {
    /// Replaces a file of the instance by a copy of another. Who has it open keeps the old one.
    pub(super) fn replace(&self, file: &Path, with: &Path) -> io::Result<()> {
        let file = self.instance.join(file);
        let beside = file.with_extension("hostile-new");
        fs::copy(self.plan.join(with), &beside)?;
        fs::rename(&beside, &file)
    }

    pub(super) fn truncate(&self, file: &Path, bytes: u64) -> io::Result<()> {
        File::options().write(true).open(self.instance.join(file))?.set_len(bytes)
    }

    pub(super) fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(self.instance.join(file))
    }

    /// Copies `host/` and `run/` to a new directory.
    pub(super) fn save(&self, to: &Path) -> io::Result<()> {
        let to = self.plan.join(to);
        fs::create_dir(&to)?;
        for layer in LAYERS.iter().filter(|layer| self.instance.join(layer).exists()) {
            copy(&self.instance.join(layer), &to.join(layer))?;
        }
        forget_own_marks(&to)
    }

    /// Brings back `host/`, and `run/` if nothing uses it.
    pub(super) fn restore(&self, from: &Path, run_too: bool) -> io::Result<()> {
        let from = self.plan.join(from);
        // Before anything is lost.
        fs::read_dir(&from)?;
        let layers = LAYERS.iter().filter(|layer| run_too || **layer != "run");
        for layer in layers.filter(|layer| from.join(layer).exists()) {
            let target = self.instance.join(layer);
            fs::create_dir_all(&target)?;
            // The directory itself is mounted in the program's root and must stay.
            for entry in fs::read_dir(&target)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
            }
            for entry in fs::read_dir(from.join(layer))? {
                let entry = entry?;
                copy(&entry.path(), &target.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Copies the whole instance to a new directory.
    pub(super) fn clone_into(&self, into: &Path) -> io::Result<()> {
        let into = self.plan.join(into);
        if into.exists() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        copy(&self.instance, &into)?;
        forget_own_marks(&into)
    }
}

fn forget_own_marks(directory: &Path) -> io::Result<()> {
    for path in OWN.map(|own| directory.join(own)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Copies with links, modes and the marks of an overlay, which the standard library does not.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let output = Command::new("cp").arg("-a").arg("--").arg(from).arg(to).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
