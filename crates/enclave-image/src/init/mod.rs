//! Making an Occlum instance directory for a program.
//!
//! [`make`] builds everything in a directory beside its place and then renames it, so that nothing is ever half made, and a
//! second run finds that nothing differs. What nobody edited is replaced when the same arguments make something else, such
//! as after the program was compiled anew. Inputs are files of this machine; nothing is asked of a network.

mod configuration;
pub(crate) mod dependencies;
mod error;
pub(crate) mod facts;
mod record;
mod settle;
mod texts;
pub(crate) mod writer;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub use dependencies::Libc;
pub use error::InitError;
pub use settle::Outcome;
pub use texts::{
    PIN_PATH, PREMAIN_PATH, RESTRICTIONS_PATH, Restrictions, UNTRUSTED_NAMES, UUID_DIRECTORY, UUID_FILE, pin,
};
pub use writer::WriteError;

use self::configuration::Configuration;
use self::facts::Facts;
use self::settle::{CONFIGURATION, Draft, IMAGE, MANIFEST};
use self::writer::{ImageWriter, Links};
use crate::copy_bom::{Copied, Plan, Settings};
use crate::image_tree::ImageTree;
use crate::sizing::{self, Inputs, Sizes};

/// Programs get this mode, so that the measurement depends on contents only.
const PROGRAM_MODE: u32 = 0o755;
/// Texts get this mode.
const TEXT_MODE: u32 = 0o644;
/// Threads that a program gets which starts some, if nobody says how many.
const DEFAULT_THREADS: u32 = 8;
/// Newest glibc that Occlum has a patched form of.
const NEWEST_OCCLUM_GLIBC: (u32, u32) = (2, 35);

/// What the image is made from.
pub enum Source<'a> {
    /// One program of this machine, with its interpreter and libraries.
    Program(&'a Path),
    /// A bill of materials.
    Bom(Settings<'a>),
    /// A directory that is an image already.
    Image(&'a Path),
}

/// Sizes that the developer wants, in bytes; `None` leaves them to the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `process.default_stack_size`.
    pub stack: Option<u64>,
    /// `process.default_heap_size`.
    pub heap: Option<u64>,
    /// What the program maps beyond its heap.
    pub mmap: Option<u64>,
    /// Threads of the program.
    pub threads: Option<u32>,
    /// Bytes of the variables that the manifest adds.
    pub manifest_environment_bytes: Option<u64>,
}

/// Everything that decides what an instance becomes.
pub struct Request<'a> {
    /// The instance directory.
    pub directory: &'a Path,
    /// What the image is made from.
    pub source: Source<'a>,
    /// The program's path inside.
    pub program: &'a str,
    /// The program's arguments after its path.
    pub arguments: &'a [String],
    /// The premain on this machine.
    pub premain: &'a Path,
    /// Where the C library comes from.
    pub libc: &'a Libc,
    /// The Marble's type: name in the manifest.
    pub marble: &'a str,
    /// SHA-256 of the DER of the Coordinator's root certificate.
    pub root_sha256: Option<[u8; 32]>,
    /// Files that the Coordinator may deliver; `None` restricts nothing.
    pub file_prefixes: Option<Vec<String>>,
    /// Variables that the Coordinator may set; `None` restricts nothing.
    pub variables: Option<Vec<String>>,
    /// Further `NAME=value` of `env.default`.
    pub environment: &'a [String],
    /// Further names of `env.untrusted`.
    pub untrusted_names: &'a [String],
    /// ISVPRODID.
    pub product_id: u16,
    /// ISVSVN.
    pub version_number: u16,
    /// The enclave may be debugged.
    pub is_debuggable: bool,
    /// What the programs write survives the end of the instance.
    pub is_persistent: bool,
    /// Sizes.
    pub wishes: Wishes,
    /// Replace what differs.
    pub force: bool,
    /// Make nothing, only say what would be made.
    pub dry_run: bool,
}

/// What should be known about an instance, beside its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// No Coordinator is pinned.
    NoPin,
    /// The C library is this machine's.
    HostLibc {
        /// Its newest version, if it is glibc.
        glibc: Option<(u32, u32)>,
        /// The newest version that the programs ask for.
        needed: Option<(u32, u32)>,
    },
    /// The enclave may be debugged.
    Debuggable,
    /// What the programs write can be replaced by older states.
    Persistent,
    /// An edited manifest stays, which another one would be made for now.
    ManifestKept,
}

impl Remark {
    /// A word for machines.
    pub fn id(self) -> &'static str {
        match self {
            Self::NoPin => "no-pin",
            Self::HostLibc { .. } => "host-libc",
            Self::Debuggable => "debuggable",
            Self::Persistent => "persistent",
            Self::ManifestKept => "manifest-kept",
        }
    }

    /// Sentences for people.
    pub fn text(self) -> String {
        match self {
            Self::NoPin => {
                "no Coordinator is pinned: whoever answers at EDG_MARBLE_COORDINATOR_ADDR configures this Marble, and \
                            the host chooses that address; give --coordinator-root FILE or --coordinator IP:PORT"
                    .to_owned()
            }
            Self::HostLibc { glibc, needed } => {
                let version =
                    glibc.map_or_else(|| "musl".to_owned(), |(major, minor)| format!("glibc {major}.{minor}"));
                let too_new = match needed {
                    Some(needed) if needed > NEWEST_OCCLUM_GLIBC => format!(
                        "; the programs ask for GLIBC_{}.{}, newer than any of them: build them on an older system",
                        needed.0, needed.1
                    ),
                    Some((major, minor)) => format!(" that has GLIBC_{major}.{minor}"),
                    None => String::new(),
                };
                format!(
                    "the image holds this machine's C library ({version}), which runs in marble-sim only: a real enclave needs \
                     Occlum's patched one (glibc 2.31 or 2.35, or musl){too_new}; where Occlum is installed, run this \
                     command with --libc-from /opt/occlum/glibc/lib"
                )
            }
            Self::Debuggable => {
                "the enclave may be debugged: the host can read its memory; never for production".to_owned()
            }
            Self::Persistent => {
                "what the programs write survives, and the host can bring back an older state of it; another \
                                 enclave of the same signer and product can write there too"
                    .to_owned()
            }
            Self::ManifestKept => {
                "manifest.json was edited and stays, although other arguments would make another one now; rename it and \
                 run this command again to see that one"
                    .to_owned()
            }
        }
    }
}

/// An instance that was made, or would be.
#[derive(Clone, Debug)]
pub struct Made {
    /// What became of the directory.
    pub outcome: Outcome,
    /// What differed in a directory that was there, at most a few.
    pub changes: Vec<String>,
    /// The sizes, with their sums.
    pub sizes: Sizes,
    /// What should be known.
    pub remarks: Vec<Remark>,
    /// Files whose libraries could not be found, with the reason. They may not be programs.
    pub without_libraries: Vec<String>,
}

/// Makes an instance directory.
///
/// # Errors
/// [`InitError`]; the directory is then as it was before.
pub fn make(request: &Request<'_>) -> Result<Made, InitError> {
    check_values(request)?;
    let draft = Draft::beside(request.directory)?;
    let image = draft.path().join(IMAGE);
    let writer = ImageWriter::new(&image);
    let created = fs::create_dir(&image).and_then(|()| {
        // The process' umask must not change what is measured.
        fs::set_permissions(&image, fs::Permissions::from_mode(PROGRAM_MODE))
    });
    created.map_err(InitError::io("create", &image))?;
    let without_libraries = fill(request, &writer, &image)?;
    add_texts(request, &writer)?;

    let tree = ImageTree::new(&image);
    let premain = facts::read(&tree, PREMAIN_PATH)?;
    let program = facts::read(&tree, request.program)?;
    let default_environment = default_environment(request, &program);
    let untrusted_names = untrusted_names(request);
    let sizes = sizing::compute(&inputs(request, &premain, &program, &default_environment, &untrusted_names));
    let configuration = Configuration {
        entry_point: PREMAIN_PATH,
        default_environment: &default_environment,
        untrusted_names: &untrusted_names,
        product_id: request.product_id,
        version_number: request.version_number,
        is_debuggable: request.is_debuggable,
        is_persistent: request.is_persistent,
    };
    write(&draft.path().join(CONFIGURATION), &configuration::text(&configuration, &sizes))?;
    write(&draft.path().join(MANIFEST), &texts::manifest(request.marble, &argv(request), request.is_debuggable))?;
    draft.record(&arguments_text(request)?)?;
    let verdict = if request.dry_run { draft.compare(request.force)? } else { draft.settle(request.force)? };
    let mut remarks = remarks(request, &premain, &program);
    remarks.extend(verdict.keeps_outdated_manifest.then_some(Remark::ManifestKept));
    Ok(Made { outcome: verdict.outcome, changes: verdict.changes, sizes, remarks, without_libraries })
}

/// Everything of a request that decides what is made, but for what the named files hold. The program's arguments decide
/// about the manifest alone.
fn arguments_text(request: &Request<'_>) -> Result<String, InitError> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(InitError::io("find", path));
    let source = match &request.source {
        Source::Program(path) => ("program", vec![absolute(path)?]),
        Source::Image(path) => ("image", vec![absolute(path)?]),
        Source::Bom(settings) => {
            let own = [settings.bom, settings.base].into_iter();
            let places = own.chain(settings.include_directories.iter().map(PathBuf::as_path));
            ("bom", places.map(absolute).collect::<Result<_, _>>()?)
        }
    };
    let libc = match request.libc {
        Libc::Host => None,
        Libc::Directory(path) => Some(absolute(path)?),
    };
    Ok(format!(
        "{:?}",
        (
            (source, request.program, libc, request.marble, request.root_sha256),
            (&request.file_prefixes, &request.variables, request.environment, request.untrusted_names),
            (request.product_id, request.version_number, request.is_debuggable, request.is_persistent, request.wishes),
        )
    ))
}

fn check_values(request: &Request<'_>) -> Result<(), InitError> {
    let value = |what, expected, got: &str| Err(InitError::Value { what, expected, got: got.to_owned() });
    let program = request.program;
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !program.strip_prefix('/').is_some_and(|path| path.split('/').all(is_name)) {
        return value("program in the image", "an absolute path without \".\", \"..\" and \"//\"", program);
    }
    if program == PREMAIN_PATH {
        return value("program in the image", "another path than the premain's", program);
    }
    if request.marble.is_empty() || request.marble.contains(['\0', '/']) {
        return value("Marble", "a name without \"/\"", request.marble);
    }
    if let Some(argument) = request.arguments.iter().find(|argument| argument.contains('\0')) {
        return value("argument", "a text without NUL", argument);
    }
    for entry in request.environment {
        let name = entry.split('=').next().unwrap_or_default();
        if name.is_empty() || !entry.contains('=') || entry.contains('\0') {
            // The value may be a secret, although it should not: everybody can read an image.
            return value("environment", "NAME=VALUE without NUL", name);
        }
    }
    for name in request.untrusted_names {
        if name.is_empty() || name.contains(['=', '\0']) {
            return value("untrusted variable", "a name without \"=\"", name);
        }
    }
    // Lists that the premain would refuse.
    for prefix in request.file_prefixes.iter().flatten() {
        if !prefix.starts_with('/') || prefix.split('/').any(|part| part == "..") {
            return value("allowed files", "an absolute path without \"..\"", prefix);
        }
    }
    Ok(())
}

/// Fills the image with directories, programs and libraries.
fn fill(request: &Request<'_>, writer: &ImageWriter, image: &Path) -> Result<Vec<String>, InitError> {
    let mut without_libraries = Vec::new();
    match &request.source {
        Source::Program(file) => add_program(writer, file, request.program, request.libc)?,
        Source::Bom(settings) => {
            let copied = Plan::make(settings)?.apply(image)?;
            without_libraries = add_libraries(writer, &copied, request.libc)?;
        }
        Source::Image(directory) => {
            writer.copy_directory(directory, Path::new("/"), Links::Keep, &|_, _| false)?;
        }
    }
    // After the source, whose directories keep their modes.
    for directory in texts::DIRECTORIES {
        writer.make_directory(Path::new(directory))?;
    }
    add_program(writer, request.premain, PREMAIN_PATH, request.libc)?;
    Ok(without_libraries)
}

pub(crate) fn add_program(writer: &ImageWriter, file: &Path, inside: &str, libc: &Libc) -> Result<(), InitError> {
    let interpreter = dependencies::interpreter(file)?;
    writer.copy_file(file, Path::new(inside), Some(PROGRAM_MODE))?;
    dependencies::copy(writer, &dependencies::dependencies(file, &interpreter, libc)?)?;
    Ok(())
}

/// The libraries of everything that a bill of materials copied. Named files must have theirs, files of directories are only
/// tried: they may find their libraries in other ways.
fn add_libraries(writer: &ImageWriter, copied: &Copied, libc: &Libc) -> Result<Vec<String>, InitError> {
    let mut only_interpreter: Option<PathBuf> = None;
    for (_, source) in &copied.files {
        let Ok(interpreter) = dependencies::interpreter(source) else { continue };
        dependencies::copy(writer, &dependencies::dependencies(source, &interpreter, libc)?)?;
        only_interpreter.get_or_insert(interpreter);
    }
    let mut without = Vec::new();
    for inside in &copied.of_directories {
        let file = writer.locate(inside, true)?;
        let is_library = is_elf(&file);
        let interpreter =
            dependencies::interpreter(&file).ok().or_else(|| only_interpreter.clone().filter(|_| is_library));
        let Some(interpreter) = interpreter else { continue };
        match dependencies::dependencies(&file, &interpreter, libc) {
            // Libraries that lie in the image already are found as files of this machine.
            Ok(found) => {
                let outside: Vec<_> = found.into_iter().filter(|one| !one.inside.starts_with(writer.root())).collect();
                dependencies::copy(writer, &outside)?;
            }
            Err(error) => without.push(format!("{}: {error}", inside.display())),
        }
    }
    Ok(without)
}

fn is_elf(file: &Path) -> bool {
    let mut start = [0; 4];
    let read = fs::File::open(file).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && start == *b"\x7fELF"
}

fn add_texts(request: &Request<'_>, writer: &ImageWriter) -> Result<(), InitError> {
    for (path, content) in texts::NAME_FILES {
        if !writer.has(Path::new(path))? {
            writer.write(Path::new(path), content.as_bytes(), TEXT_MODE)?;
        }
    }
    let restrictions = Restrictions {
        programs: vec![request.program.to_owned()],
        file_prefixes: request.file_prefixes.clone(),
        variables: request.variables.clone(),
    };
    writer.write(Path::new(RESTRICTIONS_PATH), restrictions.to_json().as_bytes(), TEXT_MODE)?;
    if let Some(root) = &request.root_sha256 {
        writer.write(Path::new(PIN_PATH), pin(root).as_bytes(), TEXT_MODE)?;
    }
    Ok(())
}

fn default_environment(request: &Request<'_>, program: &Facts) -> Vec<String> {
    let mut environment = vec!["OCCLUM=yes".to_owned(), format!("EDG_MARBLE_TYPE={}", request.marble)];
    environment.push(format!("EDG_MARBLE_UUID_FILE={UUID_FILE}"));
    // Each arena of glibc takes 64 MiB of addresses, which here are memory.
    if program.glibc.is_some() {
        environment.push("MALLOC_ARENA_MAX=1".to_owned());
    }
    let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let own: Vec<_> = request.environment.iter().map(|entry| name_of(entry)).collect();
    environment.retain(|entry| !own.contains(&name_of(entry)));
    environment.extend(request.environment.iter().cloned());
    environment
}

fn untrusted_names(request: &Request<'_>) -> Vec<String> {
    // A value that was fixed would not be, if the host could set the variable after all.
    let is_fixed = |name: &str| request.environment.iter().any(|entry| entry.split('=').next() == Some(name));
    let mut names: Vec<_> =
        UNTRUSTED_NAMES.iter().filter(|name| !is_fixed(name)).map(|&name| name.to_owned()).collect();
    for name in request.untrusted_names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn argv(request: &Request<'_>) -> Vec<String> {
    [&[request.program.to_owned()], request.arguments].concat()
}

fn inputs(
    request: &Request<'_>,
    premain: &Facts,
    program: &Facts,
    default_environment: &[String],
    untrusted_names: &[String],
) -> Inputs {
    let wishes = request.wishes;
    Inputs {
        premain: premain.loaded,
        program: program.loaded,
        arguments: argv(request),
        default_environment: default_environment.to_vec(),
        untrusted_names: untrusted_names.to_vec(),
        manifest_environment_bytes: wishes.manifest_environment_bytes,
        stack: wishes.stack,
        heap: wishes.heap,
        mmap: wishes.mmap,
        threads: wishes.threads.unwrap_or(if program.starts_threads { DEFAULT_THREADS } else { 1 }),
    }
}

fn remarks(request: &Request<'_>, premain: &Facts, program: &Facts) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if request.root_sha256.is_none() {
        remarks.push(Remark::NoPin);
    }
    // An image that somebody else made may hold any C library.
    if *request.libc == Libc::Host && !matches!(request.source, Source::Image(_)) {
        let needed = program.needed_glibc.max(premain.needed_glibc);
        remarks.push(Remark::HostLibc { glibc: program.glibc, needed });
    }
    if request.is_debuggable {
        remarks.push(Remark::Debuggable);
    }
    if request.is_persistent {
        remarks.push(Remark::Persistent);
    }
    remarks
}

fn write(path: &Path, text: &str) -> Result<(), InitError> {
    fs::write(path, text).map_err(InitError::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(TEXT_MODE)).map_err(InitError::io("write", path))
}

#[cfg(test)]
mod tests;
