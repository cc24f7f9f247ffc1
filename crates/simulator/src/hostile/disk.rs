//! What a host does to files: the instance's directory is its own.

use std::ffi::{CString, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use marblerun_linux::fd;

/// The layers that the host can save and bring back.
const LAYERS: [&str; 2] = ["host", "run"];

/// Marks of the simulator's own in `run/`, which are no data of the program.
const OWN: [&str; 2] = ["run/.lock", "run/mount/.work"];

const O_PATH: i32 = 0o10_000_000;
const O_DIRECTORY: i32 = 0o200_000;
const O_NOFOLLOW: i32 = 0o400_000;
const O_NONBLOCK: i32 = 0o4000;

/// The disk of one instance, and where the paths of the plan begin.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) instance: PathBuf,
    pub(super) plan: PathBuf,
}

impl Disk {
    /// Replaces a file of the instance by a copy of another. Who has it open keeps the old one.
    pub(super) fn replace(&self, file: &Path, with: &Path) -> io::Result<()> {
        let mut source = File::open(self.plan.join(with))?;
        let place = self.place_of(file)?;
        let mut beside = place.name.clone();
        beside.push(".hostile-new");
        let beside = place.path(&beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut copy = File::create_new(&beside)?;
        io::copy(&mut source, &mut copy)?;
        copy.set_permissions(source.metadata()?.permissions())?;
        fs::rename(&beside, place.path(&place.name))
    }

    pub(super) fn truncate(&self, file: &Path, bytes: u64) -> io::Result<()> {
        let place = self.place_of(file)?;
        let mut options = File::options();
        options.write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        options.open(place.path(&place.name))?.set_len(bytes)
    }

    pub(super) fn remove(&self, file: &Path) -> io::Result<()> {
        let place = self.place_of(file)?;
        fs::remove_file(place.path(&place.name))
    }

    /// Where a file of the instance is. A link that the program made does not lead to other files of this machine.
    fn place_of(&self, file: &Path) -> io::Result<Place> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { return Err(invalid()) };
        let instance = File::options().read(true).custom_flags(O_PATH).open(&self.instance)?;
        let parent = CString::new(parent.as_os_str().as_bytes()).map_err(|_| invalid())?;
        let directory = fd::open_in_root(instance.as_fd(), &parent, O_PATH | O_DIRECTORY)?;
        Ok(Place { directory, name: name.to_owned() })
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
        let _lock = if run_too { self.lock_run()? } else { None };
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

    /// Keeps others from starting the instance; an error if it is running.
    fn lock_run(&self) -> io::Result<Option<File>> {
        let file = match File::open(self.instance.join("run/.lock")) {
            // It never ran, or its writable layer is lost at each end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("the instance is running")),
            Err(TryLockError::Error(error)) => Err(error),
        }
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

/// A directory of the instance and the name of a file in it.
struct Place {
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    fn path(&self, name: &OsString) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_program_lead_to_no_other_file_of_this_machine() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("instance/host")).unwrap();
        fs::write(at("outside"), "mine").unwrap();
        fs::write(at("other"), "other").unwrap();
        for name in ["link", "file.hostile-new", "other.hostile-new"] {
            std::os::unix::fs::symlink(at("outside"), at("instance/host").join(name)).unwrap();
        }
        std::os::unix::fs::symlink(directory.path(), at("instance/host/directory")).unwrap();
        fs::write(at("instance/host/file.txt"), "first").unwrap();
        let disk = Disk { instance: at("instance"), plan: directory.path().to_owned() };
        assert!(disk.truncate(Path::new("host/link"), 0).is_err());
        assert!(disk.truncate(Path::new("host/directory/outside"), 0).is_err());
        assert!(disk.replace(Path::new("host/directory/outside"), Path::new("other")).is_err());
        assert!(disk.remove(Path::new("host/directory/outside")).is_err());
        disk.replace(Path::new("host/file.txt"), Path::new("other")).unwrap();
        disk.replace(Path::new("host/other"), Path::new("other")).unwrap();
        disk.replace(Path::new("host/link"), Path::new("other")).unwrap();
        assert_eq!(fs::read_to_string(at("outside")).unwrap(), "mine");
        for name in ["file.txt", "other", "link"] {
            assert_eq!(fs::read_to_string(at("instance/host").join(name)).unwrap(), "other", "{name}");
        }
        assert!(at("instance/host/file.hostile-new").is_symlink());
    }

    #[test]
    fn the_writable_layer_of_an_instance_that_runs_is_not_brought_back() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("instance/run")).unwrap();
        fs::create_dir_all(at("saved/run")).unwrap();
        fs::write(at("instance/run/.lock"), "").unwrap();
        let disk = Disk { instance: at("instance"), plan: directory.path().to_owned() };
        let running = File::open(at("instance/run/.lock")).unwrap();
        running.lock().unwrap();
        let refused = disk.restore(Path::new("saved"), true).unwrap_err();
        assert!(refused.to_string().contains("is running"), "{refused}");
        assert!(at("instance/run/.lock").exists());
        disk.restore(Path::new("saved"), false).unwrap();
        drop(running);
        disk.restore(Path::new("saved"), true).unwrap();
        assert!(!at("instance/run/.lock").exists());
    }
}
