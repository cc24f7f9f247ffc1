//! Filling an image directory: programs with everything that they need to start.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::elf::{self, Image, MAX_PROGRAM_BYTES, Program};
use crate::image_tree::ImageTree;
use crate::init::WriteError;
use crate::init::writer::ImageWriter;
use crate::loader::{self, Cache};

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
    /// The program or one of its libraries cannot be read as such.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file cannot be put into the image.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file cannot be read.
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
/// The libraries are those that the program's own interpreter finds where the program says or in its default directories;
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

/// The shared libraries that `loader` would find for `program`: in `library_path`, if there is one, where the program says,
/// and in its default directories.
///
/// Nothing is run: a program from anywhere can make `ld.so --list` execute code of its choice (`DT_AUDIT`).
///
/// # Errors
/// [`ImageError`]: a library is missing, or one is none.
pub(crate) fn list(loader: &Path, library_path: Option<&Path>, program: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let path = program.canonicalize().map_err(io_error("find", program))?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(io_error("find", path));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let machine = ImageTree::new(Path::new("/"));
    let bytes = machine.read(&text(&path), MAX_PROGRAM_BYTES).map_err(io_error("read", &path))?;
    let unusable = |path: PathBuf, reason| ImageError::Unusable { path, reason };
    let mut parsed = Program::parse(&bytes).map_err(|error| unusable(path.clone(), error.to_string()))?;
    parsed.interpreter = Some(text(&absolute(loader)?));
    let library_path = library_path.map(absolute).transpose()?;
    let library_path = library_path.as_deref().map(text);
    let found = loader::closure(&machine, &text(&path), parsed, library_path.as_deref(), Cache::Ignored);
    if let Some(missing) = found.missing.into_iter().next() {
        return Err(ImageError::MissingLibrary { program: path, library: missing.name });
    }
    if let Some((library, reason)) = found.unusable.into_iter().next() {
        return Err(unusable(library.into(), reason));
    }
    // The first is the program itself.
    found.loaded.into_iter().skip(1).map(|library| without_parents(library.found_at.into())).collect()
}

/// `$ORIGIN/../lib` is a usual run path; the image has no directories that are only passed through.
fn without_parents(path: PathBuf) -> Result<PathBuf, ImageError> {
    match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) if directory.iter().any(|part| part == "..") => {
            Ok(directory.canonicalize().map_err(io_error("find", directory))?.join(name))
        }
        _ => Ok(path),
    }
}

fn copy_into(image: &Path, source: &Path, target: &Path) -> Result<(), ImageError> {
    let inside = target.strip_prefix("/").map_err(|_| ImageError::Target(target.to_owned()))?;
    if inside.iter().any(|part| part == OsStr::new("..")) || inside.file_name().is_none() {
        return Err(ImageError::Target(target.to_owned()));
    }
    Ok(ImageWriter::new(image).copy_file(source, target, Some(0o755))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::elf::test_file::ElfFile;

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

    // rules: INST-7
    #[test]
    fn a_link_of_the_image_does_not_lead_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let (image, outside) = (directory.path().join("image"), directory.path().join("outside"));
        for path in [&image, &outside] {
            fs::create_dir(path).unwrap();
        }
        std::os::unix::fs::symlink(&outside, image.join("bin")).unwrap();
        add_program(&image, &std::env::current_exe().unwrap(), Path::new("/bin/app")).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
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

    /// A library that `ld.so --list` would run, even for a program that it only lists.
    #[test]
    fn nothing_of_a_program_is_run_to_list_its_libraries() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let compile = |name: &str, source: &str, options: &[&str]| {
            fs::write(path("source.c"), source).unwrap();
            let mut compiler = std::process::Command::new("cc");
            compiler.args(["-fPIC", "-o"]).arg(path(name)).arg(path("source.c")).args(options);
            assert!(compiler.status().unwrap().success());
        };
        let spy = format!(
            "#include <fcntl.h>\nunsigned la_version(unsigned v) {{ creat({:?}, 0600); return v; }}",
            path("proof")
        );
        compile("spy.so", &spy, &["-shared"]);
        compile("app", "int main() { return 0; }", &["-pie", &format!("-Wl,--audit={}", path("spy.so").display())]);
        let found = list(Path::new("/lib64/ld-linux-x86-64.so.2"), None, &path("app")).unwrap();
        assert!(found.iter().any(|library| library.ends_with("libc.so.6")), "{found:?}");
        assert!(!path("proof").exists());
    }

    #[test]
    fn libraries_are_found_where_the_program_says_and_by_the_name_that_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let program = ElfFile::program().needs("libown.so.1").run_path("$ORIGIN/../own").build();
        for name in ["own", "bin"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("bin/app"), program).unwrap();
        let list = || list(Path::new("/lib64/ld-linux-x86-64.so.2"), None, &path("bin/app"));
        assert!(matches!(list(), Err(ImageError::MissingLibrary { library, .. }) if library == "libown.so.1"));
        fs::write(path("own/libown.so.1"), "no library").unwrap();
        assert!(matches!(list(), Err(ImageError::Unusable { .. })));
        fs::write(path("own/libown.so.1.2"), ElfFile::library("libown.so.1").build()).unwrap();
        fs::remove_file(path("own/libown.so.1")).unwrap();
        std::os::unix::fs::symlink("libown.so.1.2", path("own/libown.so.1")).unwrap();
        let found = directory.path().canonicalize().unwrap().join("own/libown.so.1");
        assert_eq!(list().unwrap(), [found]);
    }
}
