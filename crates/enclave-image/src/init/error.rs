//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use super::writer::WriteError;
use crate::copy_bom::CopyBomError;
use crate::elf::ElfError;
use crate::libraries::ImageError;
use crate::occlum_json::ConfigError;
use crate::prepare::json_text::JsonTextError;

/// An instance cannot be made or prepared.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file of this machine is of no use in Occlum.
    #[error("{}: expected a position-independent x86-64 program with an interpreter: {reason}", program.display())]
    NotLoadable {
        /// The file.
        program: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The interpreter is none that Occlum has.
    #[error(
        "{}: expected glibc's or musl's interpreter (ld-linux-x86-64.so.2, ld-musl-x86_64.so.1), got {}",
        program.display(), interpreter.display()
    )]
    UnknownInterpreter {
        /// The program.
        program: PathBuf,
        /// Its interpreter.
        interpreter: PathBuf,
    },
    /// The interpreter is not where the C library comes from.
    #[error("{}: its interpreter {} does not exist", program.display(), loader.display())]
    NoLoader {
        /// The program.
        program: PathBuf,
        /// Where the interpreter was expected.
        loader: PathBuf,
    },
    /// The libraries cannot be found.
    #[error(transparent)]
    Libraries(ImageError),
    /// A file cannot be put into the image.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The bill of materials cannot be followed.
    #[error(transparent)]
    Bom(#[from] CopyBomError),
    /// The program is not in the image.
    #[error("{path} of the image cannot be read")]
    NotInImage {
        /// The path inside.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program of the image is none.
    #[error("{path} of the image")]
    Elf {
        /// The path inside.
        path: String,
        /// What is wrong.
        #[source]
        source: ElfError,
    },
    /// A program of the image is none that Occlum loads.
    #[error("{path} of the image: expected a position-independent program with an interpreter")]
    NotDynamic {
        /// The path inside.
        path: String,
    },
    /// A library is not in the image.
    #[error("{needed_by} of the image needs {name}, which the image does not have where its interpreter looks")]
    MissingLibrary {
        /// Who needs it.
        needed_by: String,
        /// Its name.
        name: String,
    },
    /// A library of the image is no library.
    #[error("{path} of the image: {reason}")]
    UnusableLibrary {
        /// The path inside.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The C library is too old.
    #[error(
        "{program} needs GLIBC_{}.{}, the glibc of the image has at most GLIBC_{}.{}",
        needed.0, needed.1, present.0, present.1
    )]
    OldGlibc {
        /// The path inside.
        program: String,
        /// The newest version that is asked for.
        needed: (u32, u32),
        /// The newest version that there is.
        present: (u32, u32),
    },
    /// A value cannot be used.
    #[error("{what}: expected {expected}, got {got:?}")]
    Value {
        /// What it is for.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The directory holds something else.
    #[error("{} exists and differs: {}", directory.display(), list(differences))]
    Differs {
        /// The directory.
        directory: PathBuf,
        /// The first differences, and how many there are.
        differences: Vec<String>,
    },
    /// `Occlum.json` cannot be read as what it must be.
    #[error("{}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// `Occlum.json` is not JSON.
    #[error("{}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: JsonTextError,
    },
    /// The file was changed by somebody else while the change was being made.
    #[error("{} was changed by somebody else", .0.display())]
    ChangedMeanwhile(PathBuf),
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

fn list(items: &[String]) -> String {
    items.join("; ")
}

impl InitError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }

    /// What the developer can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotLoadable { .. } | Self::NotDynamic { .. } => Some(
                "link it dynamically and as PIE (cc -fPIE -pie; Rust: -C target-feature=-crt-static; Go: -buildmode=pie with \
                 cgo); a script needs its interpreter as the program, in an image made from --bom or --image",
            ),
            Self::UnknownInterpreter { .. } => Some("Occlum has patched forms of glibc and musl only"),
            Self::NoLoader { .. } => Some(
                "install its C library, or name the directory of Occlum's with --libc-from, such as /opt/occlum/glibc/lib, or \
                 /opt/occlum/toolchains/gcc/x86_64-linux-musl/lib for musl",
            ),
            Self::Libraries(ImageError::MissingLibrary { .. }) => Some(
                "install the library into a directory where the interpreter looks without LD_LIBRARY_PATH, or set the \
                 program's run path",
            ),
            Self::OldGlibc { .. } => Some(
                "build the program on a system with this glibc or an older one, or take a newer C library; `cargo xtask dist` \
                 builds a premain for glibc 2.30 and newer",
            ),
            Self::MissingLibrary { .. } => Some(
                "copy it to /lib of the image, or for Occlum's glibc to /opt/occlum/glibc/lib; a program that looks from \
                     its own place ($ORIGIN) needs the same place in the image: name it with --as",
            ),
            Self::Differs { .. } => Some(
                "--force replaces Occlum.json, image and manifest.json; without it only what nobody edited is replaced, after \
                 the same arguments; `marblerun occlum prepare` changes an existing instance as little as possible",
            ),
            _ => None,
        }
    }
}
