//! What the image lacks.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Request;
use crate::elf::{MAX_PROGRAM_BYTES, Program, glibc_version};
use crate::image_tree::ImageTree;
use crate::init::dependencies::{self, Dependency};
use crate::init::writer::{ImageWriter, open_regular};
use crate::init::{InitError, PIN_PATH, PREMAIN_PATH, pin};
use crate::loader;
use crate::sizing::{Loaded, loaded_bytes};

const PROGRAM_MODE: u32 = 0o755;
const TEXT_MODE: u32 = 0o644;
const GLIBC: &str = "libc.so.6";

/// Whether something is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing was there.
    New,
    /// Another content was there.
    Replaced,
}

/// A file or directory of the instance that changes, relative to the instance directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The path.
    pub path: String,
    /// What happens.
    pub change: Change,
}

/// Something to put into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addition {
    File { source: PathBuf, inside: PathBuf, change: Change },
    Text { content: String, inside: PathBuf, change: Change },
    Directory { inside: PathBuf },
}

impl Addition {
    pub(super) fn change(&self) -> FileChange {
        let (inside, change, end) = match self {
            Self::File { inside, change, .. } | Self::Text { inside, change, .. } => (inside, *change, ""),
            Self::Directory { inside } => (inside, Change::New, "/"),
        };
        FileChange { path: format!("image{}{end}", inside.display()), change }
    }

    pub(super) fn write(&self, writer: &ImageWriter) -> Result<(), InitError> {
        match self {
            Self::File { source, inside, .. } => writer.copy_file(source, inside, Some(PROGRAM_MODE))?,
            Self::Text { content, inside, .. } => writer.write(inside, content.as_bytes(), TEXT_MODE)?,
            Self::Directory { inside } => drop(writer.make_directory(inside)?),
        }
        Ok(())
    }
}

/// What was found out about the image and the premain.
pub(super) struct Found {
    pub(super) additions: Vec<Addition>,
    pub(super) premain: Loaded,
    pub(super) has_pin: bool,
}

/// Compares the image with what a Marble needs.
pub(super) fn find(request: &Request<'_>, tree: &ImageTree, image: &Path, uuid_file: &str) -> Result<Found, InitError> {
    let writer = ImageWriter::new(image);
    let premain = read(request.premain)?;
    let interpreter = dependencies::interpreter(request.premain)?;
    let mut additions = Vec::new();
    let change = compare(&writer, PREMAIN_PATH, &premain, Some(PROGRAM_MODE))?;
    if let Some(change) = change {
        additions.push(Addition::File { source: request.premain.to_owned(), inside: PREMAIN_PATH.into(), change });
    }
    let (dependencies, loaded) = premain_dependencies(request, tree, &premain, &interpreter)?;
    additions.extend(dependencies.into_iter().map(|Dependency { source, inside }| Addition::File {
        source,
        inside,
        change: Change::New,
    }));
    if let Some(directory) = Path::new(uuid_file).parent().filter(|directory| directory.is_absolute()) {
        let is_there = directory == Path::new("/") || writer.locate(directory, true)?.is_dir();
        if !is_there {
            additions.push(Addition::Directory { inside: directory.to_owned() });
        }
    }
    let mut has_pin = writer.has(Path::new(PIN_PATH))?;
    if let Some(root) = &request.root_sha256 {
        let content = pin(root);
        if let Some(change) = compare(&writer, PIN_PATH, content.as_bytes(), None)? {
            additions.push(Addition::Text { content, inside: PIN_PATH.into(), change });
        }
        has_pin = true;
    }
    Ok(Found { additions, premain: loaded, has_pin })
}

fn read(path: &Path) -> Result<Vec<u8>, InitError> {
    let too_long = || io::Error::other(format!("longer than {MAX_PROGRAM_BYTES} bytes"));
    let mut content = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(MAX_PROGRAM_BYTES + 1).read_to_end(&mut content));
    match read {
        Ok(len) if len as u64 > MAX_PROGRAM_BYTES => Err(InitError::io("read", path)(too_long())),
        Ok(_) => Ok(content),
        Err(error) => Err(InitError::io("read", path)(error)),
    }
}

/// How the file differs; `None` if it does not.
fn compare(writer: &ImageWriter, inside: &str, content: &[u8], mode: Option<u32>) -> Result<Option<Change>, InitError> {
    let path = writer.locate(Path::new(inside), true)?;
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Change::New)),
        Err(error) => return Err(InitError::io("read", &path)(error)),
    };
    let has_mode = mode.is_none_or(|mode| metadata.permissions().mode() & 0o777 == mode);
    let is_same = metadata.is_file()
        && metadata.len() == content.len() as u64
        && has_mode
        && fs::read(&path).map_err(InitError::io("read", &path))? == content;
    Ok((!is_same).then_some(Change::Replaced))
}

/// The libraries of the premain that the image lacks, and the size of all that it loads.
///
/// # Errors
/// They are not on this machine either, or need a newer C library than the image has.
fn premain_dependencies(
    request: &Request<'_>,
    tree: &ImageTree,
    premain: &[u8],
    interpreter: &Path,
) -> Result<(Vec<Dependency>, Loaded), InitError> {
    let parse = |path: &str, bytes: &[u8]| {
        Program::parse(bytes).map_err(|source| InitError::Elf { path: path.to_owned(), source })
    };
    let program = parse(PREMAIN_PATH, premain)?;
    let mut needed = program.newest_glibc();
    let mut present = None;
    let mut loaded = Loaded { program: loaded_bytes(premain).unwrap_or_default(), ..Loaded::default() };
    let interpreter_text = interpreter.to_string_lossy();
    let closure = loader::closure(tree, PREMAIN_PATH, program, None, loader::Cache::Used);
    for library in closure.loaded.iter().skip(1) {
        if library.name == GLIBC {
            present = library.program.defined_versions.iter().filter_map(|version| glibc_version(version)).max();
        }
        let bytes = tree.read(&library.path, MAX_PROGRAM_BYTES).unwrap_or_default();
        loaded.libraries = loaded.libraries.saturating_add(loaded_bytes(bytes.as_slice()).unwrap_or_default());
    }
    let mut additions = Vec::new();
    let own_interpreter = tree.read(&interpreter_text, MAX_PROGRAM_BYTES).ok();
    if own_interpreter.is_none() || !closure.missing.is_empty() {
        let missing = |name: &str| closure.missing.iter().any(|missing| missing.name == name);
        for dependency in dependencies::dependencies(request.premain, interpreter, request.libc)? {
            let name = dependency.inside.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_wanted = own_interpreter.is_none() || missing(&name);
            if !is_wanted || tree.find(&dependency.inside.to_string_lossy()).is_some() {
                continue;
            }
            let bytes = read(&dependency.source)?;
            let library = parse(&dependency.source.to_string_lossy(), &bytes)?;
            if name == GLIBC {
                present = library.defined_versions.iter().filter_map(|version| glibc_version(version)).max();
            }
            if dependency.inside == interpreter {
                loaded.interpreter = loaded_bytes(bytes.as_slice()).unwrap_or_default();
            } else {
                needed = needed.max(library.newest_glibc());
                loaded.libraries = loaded.libraries.saturating_add(loaded_bytes(bytes.as_slice()).unwrap_or_default());
            }
            additions.push(dependency);
        }
    }
    if let Some(bytes) = own_interpreter {
        loaded.interpreter = loaded_bytes(bytes.as_slice()).unwrap_or_default();
    }
    match (needed, present) {
        (Some(needed), Some(present)) if needed > present => {
            Err(InitError::OldGlibc { program: PREMAIN_PATH.to_owned(), needed, present })
        }
        _ => Ok((additions, loaded)),
    }
}
