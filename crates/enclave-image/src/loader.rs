//! The search for shared libraries inside an image, as the image's own loader does it.

use std::collections::BTreeSet;

use crate::elf::{ElfError, MAX_PROGRAM_BYTES, Program};
use crate::image_tree::ImageTree;

/// Most libraries of one program; real ones have less than a hundred.
const MAX_LIBRARIES: usize = 512;

/// Directories in which some glibc looks: of Debian and Ubuntu, of others, of Occlum's own.
const GLIBC_DIRECTORIES: [&str; 7] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/opt/occlum/glibc/lib",
];
/// Where musl looks if there is no `/etc/ld-musl-x86_64.path`.
const MUSL_DIRECTORIES: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
const MUSL_PATH_FILE: &str = "/etc/ld-musl-x86_64.path";
/// glibc's index of libraries.
const GLIBC_CACHE: &str = "/etc/ld.so.cache";
/// Largest path file or cache that is read, in bytes.
const MAX_LIST_BYTES: u64 = 4 << 20;

/// A program or library with the place where it was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its path inside the image, without links.
    pub path: String,
    /// The path under which the loader found it, links in it; of the program the same as `path`.
    pub found_at: String,
    /// The name by which others need it: of a library that of `DT_NEEDED`.
    pub name: String,
    /// What it is.
    pub program: Program,
}

/// A library that is not in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary {
    /// The file that needs it.
    pub needed_by: String,
    /// Its name.
    pub name: String,
    /// The directories that were searched.
    pub searched: Vec<String>,
}

/// Everything that is loaded when a program starts.
#[derive(Clone, Debug, Default)]
pub struct Closure {
    /// The program first, then its libraries in the order in which they are found; the loader is not among them.
    pub loaded: Vec<Loaded>,
    /// What is missing.
    pub missing: Vec<MissingLibrary>,
    /// Libraries that are there but cannot be read as such: path, reason.
    pub unusable: Vec<(String, String)>,
}

/// What becomes of glibc's index of libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// It is searched last, as the loader does.
    Used,
    /// Its libraries do not count, because it will not be where the program runs.
    Ignored,
}

/// True if a loader's path is that of musl.
pub fn is_musl(interpreter: &str) -> bool {
    interpreter.rsplit('/').next().is_some_and(|name| name.starts_with("ld-musl"))
}

/// Finds what `program`, which lies at `path`, loads. `library_path` is `LD_LIBRARY_PATH` in the image's environment.
pub fn closure(image: &ImageTree, path: &str, program: Program, library_path: Option<&str>, cache: Cache) -> Closure {
    let interpreter = program.interpreter.clone().unwrap_or_default();
    let directories = default_directories(image, &interpreter);
    let cache = match is_musl(&interpreter) || cache == Cache::Ignored {
        true => Vec::new(),
        false => image.read(GLIBC_CACHE, MAX_LIST_BYTES).unwrap_or_default(),
    };
    let mut closure = Closure::default();
    let loader_name = interpreter.rsplit('/').next().unwrap_or_default().to_owned();
    // The loader is there already, under its name; musl's is the C library as well.
    let mut known: BTreeSet<String> = [loader_name].into();
    if is_musl(&interpreter) {
        known.extend(["libc.so", "libc.musl-x86_64.so.1"].map(str::to_owned));
    }
    let environment: Vec<String> =
        library_path.unwrap_or_default().split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    closure.loaded.push(Loaded { path: path.to_owned(), found_at: path.to_owned(), name: String::new(), program });
    let mut next = 0;
    while let Some(user) = closure.loaded.get(next).cloned() {
        next += 1;
        for name in &user.program.needed {
            if !known.insert(name.clone()) || closure.loaded.len() >= MAX_LIBRARIES {
                continue;
            }
            let own = user.program.run_path.iter().map(|part| expand_origin(part, &user.path));
            let searched: Vec<String> =
                environment.iter().cloned().chain(own).chain(directories.iter().cloned()).collect();
            match find(image, name, &searched, &cache) {
                Found::Library { path, found_at, program } => {
                    closure.loaded.push(Loaded { path, found_at, name: name.clone(), program: *program });
                }
                Found::Unusable(path, error) => closure.unusable.push((path, error.to_string())),
                Found::Nothing => {
                    closure.missing.push(MissingLibrary { needed_by: user.path.clone(), name: name.clone(), searched });
                }
            }
        }
    }
    closure
}

/// True if a library that nothing names as needed would be found by a program with this interpreter.
pub(crate) fn has_library(image: &ImageTree, interpreter: &str, library_path: Option<&str>, name: &str) -> bool {
    let environment = library_path.unwrap_or_default().split(':').filter(|part| !part.is_empty()).map(str::to_owned);
    let mut directories = environment.chain(default_directories(image, interpreter));
    directories.any(|directory| image.find(&format!("{directory}/{name}")).is_some())
}

enum Found {
    Library { path: String, found_at: String, program: Box<Program> },
    Unusable(String, ElfError),
    Nothing,
}

fn find(image: &ImageTree, name: &str, directories: &[String], cache: &[u8]) -> Found {
    let mut candidates: Vec<String> = match name.contains('/') {
        true => vec![name.to_owned()],
        false => directories.iter().map(|directory| format!("{directory}/{name}")).collect(),
    };
    candidates.extend(in_cache(cache, name));
    let mut unusable = None;
    for candidate in candidates {
        let Some(entry) = image.find(&candidate) else { continue };
        let Ok(bytes) = entry.read(MAX_PROGRAM_BYTES) else { continue };
        match Program::parse(&bytes) {
            Ok(program) => {
                return Found::Library { path: entry.inside, found_at: candidate, program: Box::new(program) };
            }
            // Libraries for other machines are passed over, as loaders do.
            Err(error) => unusable = unusable.or(Some((entry.inside, error))),
        }
    }
    unusable.map_or(Found::Nothing, |(path, error)| Found::Unusable(path, error))
}

/// Where the interpreter looks. glibc's loader has its list compiled in: of those that are known, the ones it mentions.
fn default_directories(image: &ImageTree, interpreter: &str) -> Vec<String> {
    if is_musl(interpreter) {
        let text = image.read(MUSL_PATH_FILE, MAX_LIST_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return match text {
            Some(text) => text.split([':', '\n']).filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            None => MUSL_DIRECTORIES.map(str::to_owned).into(),
        };
    }
    let loader = image.read(interpreter, MAX_PROGRAM_BYTES).unwrap_or_default();
    let mentioned = |directory: &&&str| {
        let text = format!("\0{directory}/\0");
        loader.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let found: Vec<String> =
        GLIBC_DIRECTORIES.iter().filter(mentioned).map(|&directory| directory.to_owned()).collect();
    if found.is_empty() { GLIBC_DIRECTORIES.map(str::to_owned).into() } else { found }
}

/// `$ORIGIN` is the directory of the file that says it.
fn expand_origin(part: &str, path: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    part.replace("${ORIGIN}", directory).replace("$ORIGIN", directory)
}

/// Paths of a library in glibc's cache: its string table holds names and paths, each with a NUL behind it.
fn in_cache(cache: &[u8], name: &str) -> Vec<String> {
    let wanted = format!("/{name}");
    let texts = cache.split(|byte| *byte == 0).filter(|text| text.ends_with(wanted.as_bytes()));
    let paths = texts.filter_map(|text| {
        // The first path may have binary data before it.
        let start = text.iter().rposition(|byte| !byte.is_ascii_graphic()).map_or(0, |at| at + 1);
        std::str::from_utf8(&text[start..]).ok()
    });
    paths.filter(|path| path.starts_with('/')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::elf::test_file::ElfFile;

    struct Image(TempDir);

    impl Image {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
            let path = self.0.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        fn library(self, path: &str) -> Self {
            let name = path.rsplit('/').next().unwrap().to_owned();
            self.with(path, ElfFile::library(&name).build())
        }

        /// Paths that are loaded beside the program, and names that are missing.
        fn closure(&self, program: ElfFile, library_path: Option<&str>) -> (Vec<String>, Vec<String>) {
            let program = Program::parse(&program.build()).unwrap();
            let found = closure(&ImageTree::new(self.0.path()), "/opt/app/bin/app", program, library_path, Cache::Used);
            let paths = found.loaded.into_iter().skip(1).map(|object| object.path).collect();
            (paths, found.missing.into_iter().map(|missing| missing.name).collect())
        }
    }

    #[test]
    fn the_run_path_comes_before_the_default_directories_and_the_environment_before_both() {
        let image = Image::new()
            .with("/opt/app/bin/app", "")
            .library("/lib/liba.so")
            .library("/opt/app/lib/liba.so")
            .library("/env/liba.so");
        let program = || ElfFile::program().needs("liba.so");
        assert_eq!(image.closure(program(), None).0, ["/lib/liba.so"]);
        assert_eq!(image.closure(program().run_path("$ORIGIN/../lib"), None).0, ["/opt/app/lib/liba.so"]);
        assert_eq!(image.closure(program().run_path("$ORIGIN/../lib"), Some("/env")).0, ["/env/liba.so"]);
    }

    #[test]
    fn glibc_looks_where_its_loader_says() {
        let loader = ElfFile::library("ld").rodata(b"\0/opt/occlum/glibc/lib/\0").build();
        let image = Image::new().with("/lib64/ld-linux-x86-64.so.2", loader).library("/lib/liba.so");
        assert_eq!(image.closure(ElfFile::program().needs("liba.so"), None).1, ["liba.so"]);
        let image = image.library("/opt/occlum/glibc/lib/liba.so");
        assert_eq!(image.closure(ElfFile::program().needs("liba.so"), None).0, ["/opt/occlum/glibc/lib/liba.so"]);
    }

    #[test]
    fn musl_looks_in_its_path_file_and_is_the_c_library_itself() {
        let program =
            || ElfFile::program().interpreter(Some("/lib/ld-musl-x86_64.so.1")).needs("libc.so").needs("liba.so");
        let image = Image::new().library("/usr/local/lib/liba.so");
        assert_eq!(image.closure(program(), None), (vec!["/usr/local/lib/liba.so".to_owned()], vec![]));
        let image = image.with(MUSL_PATH_FILE, "/mine\n");
        assert_eq!(image.closure(program(), None), (vec![], vec!["liba.so".to_owned()]));
    }

    #[test]
    fn the_cache_of_glibc_counts() {
        let image =
            Image::new().library("/strange/liba.so").with(GLIBC_CACHE, b"glibc\x01\x02liba.so\0/strange/liba.so\0");
        assert_eq!(image.closure(ElfFile::program().needs("liba.so"), None).0, ["/strange/liba.so"]);
    }

    #[test]
    fn libraries_of_libraries_are_found_and_circles_end() {
        let image = Image::new()
            .with("/lib/liba.so", ElfFile::library("liba.so").needs("libb.so").needs("libc.so.6").build())
            .with("/lib/libb.so", ElfFile::library("libb.so").needs("liba.so").build());
        let (loaded, missing) = image.closure(ElfFile::program().needs("liba.so"), None);
        assert_eq!(
            (loaded, missing),
            (vec!["/lib/liba.so".into(), "/lib/libb.so".into()], vec!["libc.so.6".to_owned()])
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_passed_over_for_a_later_one() {
        let image = Image::new().with("/lib64/liba.so", "text").library("/lib/liba.so");
        assert_eq!(image.closure(ElfFile::program().needs("liba.so"), None).0, ["/lib/liba.so"]);
    }
}
