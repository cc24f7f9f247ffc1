//! Filling an image directory: programs with everything that they need to start.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::elf::{self, Image};

/// A program cannot be put into an image.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The program is of no use in Occlum.
    #[error("{}: expected a position-independent x86-64 program with an interpreter: {reason}", program.display())]
    NotLoadable {
        /// Which.
        program: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The target is not a path inside of the image.
    #[error("target in the image: expected an absolute path without \"..\", got {:?}", .0)]
    Target(PathBuf),
    /// A shared library is missing on this machine.
    #[error("{}: shared library {library} is not in the loader's default directories", program.display())]
    MissingLibrary {
        /// The program.
        program: PathBuf,
        /// The library's name.
        library: String,
    },
    /// The loader could not list the libraries.
    #[error("{} --list {}: {output}", loader.display(), program.display())]
    Loader {
        /// The program's interpreter.
        loader: PathBuf,
        /// The program.
        program: PathBuf,
        /// What it said.
        output: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    move |source| ImageError::Io { step, path: path.to_owned(), source }
}

/// Copies the program `elf` to `target` (absolute, as seen inside) of the image, and with it its interpreter and shared
/// libraries, which keep their paths. Every copied file gets the mode 0755, so that the measurement depends on contents
/// only.
///
/// The libraries are those that the program's own interpreter finds in its default directories (`ld.so --list`);
/// `LD_LIBRARY_PATH` and the loader's cache, which the image does not have, do not count.
///
/// # Errors
/// [`ImageError`], which names the file.
pub fn add_program(image: &Path, elf: &Path, target: &Path) -> Result<(), ImageError> {
    let file = File::open(elf).map_err(io_error("read", elf))?;
    let loader = match elf::examine(file).map_err(io_error("read", elf))? {
        Image::Dynamic { interpreter } => PathBuf::from(interpreter),
        Image::Unloadable { reason } => return Err(ImageError::NotLoadable { program: elf.to_owned(), reason }),
        Image::Script { .. } | Image::Foreign => {
            return Err(ImageError::NotLoadable { program: elf.to_owned(), reason: "it is something else" });
        }
    };
    copy_into(image, elf, target)?;
    copy_into(image, &loader, &loader)?;
    for library in list(&loader, None, elf)? {
        copy_into(image, &library, &library)?;
    }
    Ok(())
}

/// The shared libraries that `loader` finds for `program`: in `library_path`, if there is one, and in its default directories.
///
/// # Errors
/// [`ImageError`]: a library is missing, or the loader cannot be run.
pub(crate) fn list(loader: &Path, library_path: Option<&Path>, program: &Path) -> Result<Vec<PathBuf>, ImageError> {
    // musl's loader knows no cache and not the option.
    let is_musl = loader.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-musl"));
    let options: &[&str] = if is_musl { &["--list"] } else { &["--inhibit-cache", "--list"] };
    let program = program.canonicalize().map_err(io_error("find", program))?;
    let mut command = Command::new(loader);
    command.args(options).env_clear();
    if let Some(directory) = library_path {
        command.arg("--library-path").arg(directory);
    }
    let output = command.arg(&program).output().map_err(io_error("run", loader))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let missing = |line: &str| line.trim().strip_suffix("=> not found").map(|name| name.trim().to_owned());
    if let Some(library) = text.lines().find_map(missing) {
        return Err(ImageError::MissingLibrary { program, library });
    }
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ImageError::Loader { loader: loader.to_owned(), program, output });
    }
    Ok(parse_list(&text))
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`; lines without a path (the kernel's vDSO)
/// and the loader's own do not matter.
fn parse_list(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, path) = line.split_once("=> ")?;
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path).trim();
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    text.lines().filter_map(path).collect()
}

fn copy_into(image: &Path, source: &Path, target: &Path) -> Result<(), ImageError> {
    let inside = target.strip_prefix("/").map_err(|_| ImageError::Target(target.to_owned()))?;
    if inside.iter().any(|part| part == OsStr::new("..")) || inside.file_name().is_none() {
        return Err(ImageError::Target(target.to_owned()));
    }
    let mut directory = image.to_owned();
    for part in inside.parent().into_iter().flatten() {
        directory.push(part);
        match fs::create_dir(&directory) {
            Ok(()) => fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
                .map_err(io_error("create", &directory))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", &directory)(error)),
        }
    }
    let target = image.join(inside);
    fs::copy(source, &target).map_err(io_error("copy", source))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(io_error("write", &target))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    #[test]
    fn a_program_gets_its_interpreter_and_libraries() {
        let image = tempfile::tempdir().unwrap();
        // This test itself is a dynamic program.
        add_program(image.path(), &std::env::current_exe().unwrap(), Path::new("/bin/app")).unwrap();
        for file in ["bin/app", "lib64/ld-linux-x86-64.so.2"] {
            let mode = fs::metadata(image.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755, "{file}");
        }
    }

    #[test]
    fn targets_outside_of_the_image_are_refused() {
        let image = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        for target in ["bin/app", "/../app", "/"] {
            let error = add_program(image.path(), &program, Path::new(target)).unwrap_err();
            assert!(matches!(error, ImageError::Target(_)), "{target}: {error}");
        }
    }

    #[test]
    fn something_that_is_no_program_is_refused() {
        let image = tempfile::tempdir().unwrap();
        let error = add_program(image.path(), Path::new("/etc/passwd"), Path::new("/bin/app")).unwrap_err();
        assert!(matches!(error, ImageError::NotLoadable { .. }), "{error}");
    }

    #[test]
    fn the_loaders_list_is_read() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/a b/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(parse_list(list), [PathBuf::from("/lib/a b/libc.so.6")]);
    }
}
