//! The interpreter and the shared libraries of a program, and where the image needs them.

use std::path::{Path, PathBuf};

use super::InitError;
use super::writer::{ImageWriter, open_regular};
use crate::elf::{self, Image};
use crate::libraries;

/// Loaders that Occlum has patched forms of.
const GLIBC_LOADER: &str = "ld-linux-x86-64.so.2";
const MUSL_LOADER: &str = "ld-musl-x86_64.so.1";

/// Where Occlum's glibc looks for libraries.
const OCCLUM_GLIBC_DIRECTORY: &str = "/opt/occlum/glibc/lib";
/// Where musl looks for libraries.
const MUSL_DIRECTORY: &str = "/lib";

/// What glibc opens while a program runs, without being asked by the program's file: name resolution (`nss(5)`), and stack
/// unwinding when a thread ends.
const OPENED_BY_GLIBC: [&str; 4] = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2", "libgcc_s.so.1"];

/// Every copied library has this mode, so that the measurement depends on contents only.
const LIBRARY_MODE: u32 = 0o755;

/// Where the C library comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Libc {
    /// This machine; good for the simulator only.
    Host,
    /// A directory of Occlum's patched C library with its loader, such as `/opt/occlum/glibc/lib`. Every library goes to the
    /// directory where that loader looks.
    Directory(PathBuf),
}

/// A file of this machine and its place in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) source: PathBuf,
    pub(crate) inside: PathBuf,
}

/// The interpreter of `file`, if it is a program that Occlum could load.
pub(crate) fn interpreter(file: &Path) -> Result<PathBuf, InitError> {
    let not_loadable = |reason| InitError::NotLoadable { program: file.to_owned(), reason };
    let opened = open_regular(file).map_err(InitError::io("read", file))?;
    match elf::examine(opened).map_err(InitError::io("read", file))? {
        Image::Dynamic { interpreter } => Ok(interpreter.into()),
        Image::Unloadable { reason } => Err(not_loadable(reason)),
        Image::Script { .. } => Err(not_loadable("it is a script, whose interpreter has to be the program")),
        Image::Foreign => Err(not_loadable("it is no program for x86-64")),
    }
}

fn is_musl(loader: &Path) -> bool {
    loader.ends_with(MUSL_LOADER)
}

/// Where `interpreter`, a path inside, lies on this machine.
fn loader_of(program: &Path, interpreter: &Path, libc: &Libc) -> Result<PathBuf, InitError> {
    let name = interpreter.file_name().unwrap_or_default();
    if !interpreter.is_absolute() || (name != GLIBC_LOADER && name != MUSL_LOADER) {
        return Err(InitError::UnknownInterpreter { program: program.to_owned(), interpreter: interpreter.to_owned() });
    }
    let loader = match libc {
        Libc::Host => interpreter.to_owned(),
        Libc::Directory(directory) => directory.join(name),
    };
    if !loader.is_file() {
        return Err(InitError::NoLoader { program: program.to_owned(), loader });
    }
    Ok(loader)
}

/// The interpreter of `program` and every library that it needs, the interpreter first.
///
/// `interpreter` is the program's own, or for a library the one of the programs that will load it.
pub(crate) fn dependencies(program: &Path, interpreter: &Path, libc: &Libc) -> Result<Vec<Dependency>, InitError> {
    let loader = loader_of(program, interpreter, libc)?;
    let (library_path, directory) = match libc {
        Libc::Host => (None, None),
        Libc::Directory(path) => {
            let directory = if is_musl(&loader) { MUSL_DIRECTORY } else { OCCLUM_GLIBC_DIRECTORY };
            (Some(path.as_path()), Some(Path::new(directory)))
        }
    };
    let mut found = vec![Dependency { source: loader.clone(), inside: interpreter.to_owned() }];
    let mut libraries = libraries::list(&loader, library_path, program).map_err(InitError::Libraries)?;
    // Where the C library is, the modules lie that belong to it.
    let libc_directory = libraries.iter().find(|path| path.ends_with("libc.so.6")).and_then(|path| path.parent());
    let modules: Vec<_> =
        libc_directory.map(|path| OPENED_BY_GLIBC.map(|name| path.join(name))).into_iter().flatten().collect();
    libraries.extend(modules.into_iter().filter(|module| module.is_file()));
    for source in libraries {
        let name = source.file_name().unwrap_or_default();
        let inside = directory.map_or_else(|| source.clone(), |directory| directory.join(name));
        // musl is its own loader.
        if !(is_musl(&loader) && (source == loader || inside == interpreter)) {
            found.push(Dependency { source, inside });
        }
    }
    Ok(found)
}

/// Copies what is not in the image yet, and returns the new files. What is there stays: it was put there on purpose.
pub(crate) fn copy(writer: &ImageWriter, dependencies: &[Dependency]) -> Result<Vec<PathBuf>, InitError> {
    let mut new = Vec::new();
    for Dependency { source, inside } in dependencies {
        if !writer.has(inside)? {
            writer.copy_file(source, inside, Some(LIBRARY_MODE))?;
            new.push(inside.clone());
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::test_file::ElfFile;

    /// The file names its interpreter, and the file may come from anywhere: it must not decide what runs here.
    #[test]
    fn an_unknown_interpreter_is_refused_and_none_is_run() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let proof = directory.path().join("proof");
        for name in ["ld.so", GLIBC_LOADER, MUSL_LOADER] {
            let interpreter = directory.path().join(name);
            std::fs::write(&interpreter, format!("#!/bin/sh\ntouch {}\n", proof.display())).unwrap();
            std::fs::set_permissions(&interpreter, std::fs::Permissions::from_mode(0o755)).unwrap();
            let program = directory.path().join("app");
            std::fs::write(&program, ElfFile::program().interpreter(interpreter.to_str()).build()).unwrap();
            let named = super::interpreter(&program).unwrap();
            assert_eq!(named, interpreter);
            let result = dependencies(&program, &named, &Libc::Host);
            assert_eq!(matches!(result, Err(InitError::UnknownInterpreter { .. })), name == "ld.so", "{result:?}");
        }
        assert!(!proof.exists());
    }
}
