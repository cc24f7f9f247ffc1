//! What the programs of a filled image are, read from the image itself.

use std::io::Cursor;
use std::path::Path;

use super::InitError;
use crate::elf::{self, Image, MAX_PROGRAM_BYTES, Program, ProgramKind, glibc_version};
use crate::image_tree::ImageTree;
use crate::loader::{self, Cache, Closure};
use crate::sizing::{Loaded, loaded_bytes, starts_threads};

/// The file of the C library.
const GLIBC: &str = "libc.so.6";

/// Libraries of the compiler.
const OF_THE_COMPILER: [&str; 2] = ["libgcc_s.so.1", "libstdc++.so.6"];

/// A program with everything that is loaded with it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) loaded: Loaded,
    /// It or one of its libraries starts threads.
    pub(crate) starts_threads: bool,
    /// The newest version of glibc that the image has, if it is glibc.
    pub(crate) glibc: Option<(u32, u32)>,
    /// The newest version of glibc that the program asks for, or a library that a C library does not bring.
    pub(crate) needed_glibc: Option<(u32, u32)>,
}

/// Reads the program at `path` of the image and what it loads. Of a script it is the program that runs it.
///
/// # Errors
/// Something is missing, cannot be loaded, or needs a newer C library than the image has.
pub(crate) fn read(image: &ImageTree, path: &str) -> Result<Facts, InitError> {
    let mut path = path.to_owned();
    let mut bytes = read_file(image, &path)?;
    if let Ok(Image::Script { interpreter: Some(interpreter) }) = elf::examine(Cursor::new(&bytes)) {
        bytes = read_file(image, &interpreter)?;
        path = interpreter;
    }
    let path = path.as_str();
    let program = Program::parse(&bytes).map_err(|source| InitError::Elf { path: path.into(), source })?;
    if program.kind != ProgramKind::Dynamic {
        return Err(InitError::NotDynamic { path: path.to_owned() });
    }
    let interpreter = program.interpreter.clone().unwrap_or_default();
    let needed_glibc = program.newest_glibc();
    let mut needed_by_any = needed_glibc;
    let closure = loader::closure(image, path, program, None, Cache::Used);
    refuse_incomplete(&closure)?;
    let mut facts = Facts {
        loaded: Loaded { program: loaded(&bytes), interpreter: 0, libraries: 0 },
        starts_threads: starts_threads(bytes.as_slice()),
        glibc: None,
        needed_glibc,
    };
    let interpreter_bytes = read_file(image, &interpreter)?;
    facts.loaded.interpreter = loaded(&interpreter_bytes);
    // The first is the program itself.
    for library in closure.loaded.iter().skip(1) {
        let bytes = read_file(image, &library.path)?;
        facts.loaded.libraries = facts.loaded.libraries.saturating_add(loaded(&bytes));
        facts.starts_threads |= starts_threads(bytes.as_slice());
        if Path::new(&library.path).ends_with(GLIBC) || library.name == GLIBC {
            facts.glibc = library.program.defined_versions.iter().filter_map(|version| glibc_version(version)).max();
        }
        let needed = library.program.newest_glibc();
        needed_by_any = needed_by_any.max(needed);
        if !comes_with_libc(library) {
            facts.needed_glibc = facts.needed_glibc.max(needed);
        }
    }
    match (needed_by_any, facts.glibc) {
        (Some(needed), Some(present)) if needed > present => {
            Err(InitError::OldGlibc { program: path.to_owned(), needed, present })
        }
        _ => Ok(facts),
    }
}

/// Parts of glibc ask for its private symbols; the compiler's libraries come with Occlum's C library too.
fn comes_with_libc(library: &loader::Loaded) -> bool {
    library.program.required_versions.iter().any(|required| required.version == "GLIBC_PRIVATE")
        || OF_THE_COMPILER.contains(&library.name.as_str())
}

fn refuse_incomplete(closure: &Closure) -> Result<(), InitError> {
    if let Some(missing) = closure.missing.first() {
        return Err(InitError::MissingLibrary { needed_by: missing.needed_by.clone(), name: missing.name.clone() });
    }
    match closure.unusable.first() {
        Some((path, reason)) => Err(InitError::UnusableLibrary { path: path.clone(), reason: reason.clone() }),
        None => Ok(()),
    }
}

fn read_file(image: &ImageTree, path: &str) -> Result<Vec<u8>, InitError> {
    image.read(path, MAX_PROGRAM_BYTES).map_err(|source| InitError::NotInImage { path: path.to_owned(), source })
}

fn loaded(bytes: &[u8]) -> u64 {
    loaded_bytes(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::elf::test_file::ElfFile;

    const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

    struct Site(tempfile::TempDir);

    impl Site {
        /// An image with a loader, a glibc that has `glibc`, and one program.
        fn new(glibc: &str, program: ElfFile) -> Self {
            let site = Self(tempfile::tempdir().unwrap());
            site.write(LOADER, &ElfFile::library("ld-linux-x86-64.so.2").build());
            site.write("/lib/libc.so.6", &ElfFile::library("libc.so.6").defines("GLIBC_2.2.5").defines(glibc).build());
            site.write("/bin/app", &program.build());
            site
        }

        fn write(&self, inside: &str, content: &[u8]) {
            let path = self.0.path().join(inside.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn read(&self) -> Result<Facts, InitError> {
            read(&ImageTree::new(self.0.path()), "/bin/app")
        }
    }

    fn program(glibc: &str) -> ElfFile {
        ElfFile::program().needs("libc.so.6").requires("libc.so.6", glibc).imports_versioned("puts")
    }

    #[test]
    fn a_glibc_that_is_older_than_the_program_is_refused() {
        let facts = Site::new("GLIBC_2.31", program("GLIBC_2.30")).read().unwrap();
        assert_eq!((facts.needed_glibc, facts.glibc), (Some((2, 30)), Some((2, 31))));
        assert!(facts.loaded.program > 0 && facts.loaded.interpreter > 0 && facts.loaded.libraries > 0);
        let error = Site::new("GLIBC_2.31", program("GLIBC_2.34")).read().unwrap_err();
        assert_eq!(error.to_string(), "/bin/app needs GLIBC_2.34, the glibc of the image has at most GLIBC_2.31");
        // A library may be newer than the program that loads it.
        let site = Site::new("GLIBC_2.31", program("GLIBC_2.30").needs("libx.so"));
        let library = ElfFile::library("libx.so").requires("libc.so.6", "GLIBC_2.34").imports_versioned("puts");
        site.write("/lib/libx.so", &library.build());
        assert!(matches!(site.read(), Err(InitError::OldGlibc { .. })));
    }

    #[test]
    fn what_the_c_library_brings_is_not_the_programs_need() {
        let site = Site::new("GLIBC_2.36", program("GLIBC_2.30").needs("libgcc_s.so.1"));
        let library = ElfFile::library("libgcc_s.so.1").requires("libc.so.6", "GLIBC_2.35").imports_versioned("puts");
        site.write("/lib/libgcc_s.so.1", &library.build());
        assert_eq!(site.read().unwrap().needed_glibc, Some((2, 30)));
    }

    #[test]
    fn a_program_that_lacks_something_is_refused() {
        let missing = Site::new("GLIBC_2.31", program("GLIBC_2.30").needs("libx.so"));
        assert!(matches!(missing.read(), Err(InitError::MissingLibrary { name, .. }) if name == "libx.so"));
        missing.write("/lib/libx.so", b"no library");
        assert!(matches!(missing.read(), Err(InitError::UnusableLibrary { .. })));
        let site = Site::new("GLIBC_2.31", program("GLIBC_2.30"));
        fs::remove_file(site.0.path().join(LOADER.trim_start_matches('/'))).unwrap();
        assert!(matches!(site.read(), Err(InitError::NotInImage { path, .. }) if path == LOADER));
        let fixed = Site::new("GLIBC_2.31", program("GLIBC_2.30").interpreter(None));
        assert!(matches!(fixed.read(), Err(InitError::NotDynamic { .. })));
    }

    #[test]
    fn a_program_that_asks_for_threads_starts_some() {
        assert!(!Site::new("GLIBC_2.31", program("GLIBC_2.30")).read().unwrap().starts_threads);
        assert!(
            Site::new("GLIBC_2.31", program("GLIBC_2.30").imports("pthread_create")).read().unwrap().starts_threads
        );
    }
}
