//! Programs of the image: whether Occlum can load them, what they need, and what they do that Occlum does not.

use std::collections::BTreeSet;
use std::io::Cursor;

use super::configuration::{Configuration, normalized};
use super::finding::{Findings, Place, shown};
use super::rule::{Rule, Severity};
use crate::elf::{self, Image, MAX_PROGRAM_BYTES, Program, ProgramKind, glibc_version, inline_system_calls};
use crate::exec_rules::{self, ExecRefusal};
use crate::image_tree::{Entry, ImageTree};
use crate::loader::{self, Closure};
use crate::sizing::{Loaded, loaded_bytes, starts_threads};

/// A variable that every premain reads: by its name in the file a premain is recognised.
const PREMAIN_MARK: &[u8] = b"EDG_MARBLE_COORDINATOR_ADDR";

/// Most files of an entry point that are looked at.
const MAX_ENTRY_POINT_FILES: usize = 1000;

/// Names that are shown of a longer list.
const SHOWN_NAMES: usize = 3;

/// More system call instructions than this has only a C library that makes its calls itself. Occlum's keep a few.
const UNPATCHED_FROM: usize = 32;

/// Since this version glibc resolves names without further libraries.
const GLIBC_WITH_RESOLVER: (u32, u32) = (2, 34);

/// A program that was found, and what it takes of memory.
#[derive(Debug)]
pub(super) struct Found {
    /// Its path in the image, without links.
    pub(super) path: String,
    pub(super) loaded: Loaded,
    pub(super) has_threads: bool,
    pub(super) uses_glibc: bool,
}

/// What becomes of the programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Premain,
    Application,
}

/// Looks for the premain and judges it and the entry points. Where `init_activates`, there may be none.
pub(super) fn check_premain(
    image: &ImageTree,
    configuration: &Configuration,
    init_activates: bool,
    findings: &mut Findings,
) -> Option<Found> {
    let mut reported = Reported::default();
    let Some(premain) = find_premain(image, configuration) else {
        if init_activates {
            return None;
        }
        let reason = "no program below the entry points is a premain";
        findings.add(Rule::NoPremain, Place::OcclumJson("entry_points".to_owned()), reason);
        return None;
    };
    entry_points(image, configuration, &premain, findings);
    let place = Place::Image(premain.inside.clone());
    check_file(image, &premain, place, Role::Premain, configuration, &mut reported, findings)
}

/// Judges the program of the manifest; `place` is where it is named.
pub(super) fn check_program(
    image: &ImageTree,
    path: &str,
    place: Place,
    configuration: &Configuration,
    findings: &mut Findings,
) -> Option<Found> {
    let Some(entry) = image.find(path) else {
        findings.add(Rule::ProgramMissing, place, format!("the image has no {}", shown(path)));
        return None;
    };
    let place = Place::Image(entry.inside.clone());
    check_file(image, &entry, place, Role::Application, configuration, &mut Reported::default(), findings)
}

/// True if the init image has the premain as Occlum's init: it activates before the image is mounted.
pub(super) fn has_premain_as_init(init_image: &ImageTree) -> bool {
    init_image.find("/bin/init").is_some_and(|entry| is_premain(&entry))
}

fn is_premain(entry: &Entry) -> bool {
    let bytes = entry.read(MAX_PROGRAM_BYTES).unwrap_or_default();
    bytes.starts_with(b"\x7fELF") && bytes.windows(PREMAIN_MARK.len()).any(|window| window == PREMAIN_MARK)
}

fn find_premain(image: &ImageTree, configuration: &Configuration) -> Option<Entry> {
    let declared = configuration.entry_points.iter().map(|(_, path)| path.as_str());
    // An entry point that does not cover the premain is to be told, and not that there is none.
    let candidates = declared.chain(["/bin"]).flat_map(|path| files_below(image, path));
    candidates.into_iter().find(is_premain)
}

/// The file itself, or the files in a directory, two levels deep.
fn files_below(image: &ImageTree, path: &str) -> Vec<Entry> {
    let Some(top) = image.find(path) else { return Vec::new() };
    let mut found = Vec::new();
    let mut waiting = vec![(top, 0)];
    while let Some((entry, depth)) = waiting.pop() {
        if found.len() >= MAX_ENTRY_POINT_FILES {
            break;
        }
        if entry.metadata.is_file() {
            found.push(entry);
        } else if entry.metadata.is_dir() && depth < 2 {
            let names = std::fs::read_dir(&entry.outside).into_iter().flatten().flatten();
            let mut names: Vec<String> = names.filter_map(|name| name.file_name().into_string().ok()).collect();
            names.sort_by(|a, b| b.cmp(a));
            let below = names.iter().filter_map(|name| image.find(&format!("{}/{name}", entry.inside)));
            waiting.extend(below.map(|entry| (entry, depth + 1)));
        }
    }
    found
}

fn entry_points(image: &ImageTree, configuration: &Configuration, premain: &Entry, findings: &mut Findings) {
    let mut is_covered = false;
    for (place, path) in &configuration.entry_points {
        let path = normalized(path);
        let resolved = image.find(&path).map(|entry| entry.inside);
        let covers = |inside: &str| {
            inside == premain.inside
                || premain.inside.strip_prefix(inside.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        is_covered |= covers(&path) || resolved.as_deref().is_some_and(covers);
        if resolved.as_deref() == Some(&premain.inside) {
            continue;
        }
        let others = files_below(image, &path);
        let others: Vec<&str> = others
            .iter()
            .filter(|entry| entry.inside != premain.inside && is_executable(entry))
            .map(|entry| entry.inside.as_str())
            .collect();
        let reason = match (others.as_slice(), resolved) {
            ([], None) => format!("{path} is not in the image, but a file there could be started without the premain"),
            ([], Some(_)) => format!("whatever gets into {path} could be started without the premain"),
            (others, _) => format!("the host can start {} without the premain", list(others)),
        };
        let fix = format!("Write \"entry_points\": [{:?}].", premain.inside);
        findings.add_with_fix(Rule::EntryPointBypass, Place::OcclumJson(place.clone()), reason, fix);
    }
    if !is_covered {
        let reason = format!("the premain {} is not below an entry point", premain.inside);
        let fix = format!("Write \"entry_points\": [{:?}].", premain.inside);
        findings.add_with_fix(Rule::NoEntryPoint, Place::OcclumJson("entry_points".to_owned()), reason, fix);
    }
}

/// "a, b, c and 4 others".
fn list(names: &[&str]) -> String {
    let mut text = names.iter().take(SHOWN_NAMES).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_NAMES {
        text.push_str(&format!(" and {} others", names.len() - SHOWN_NAMES));
    }
    text
}

fn is_executable(entry: &Entry) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    entry.metadata.is_file() && entry.metadata.permissions().mode() & 0o111 != 0
}

/// What was told already: premain and program share libraries.
#[derive(Default)]
struct Reported(BTreeSet<String>);

fn check_file(
    image: &ImageTree,
    entry: &Entry,
    place: Place,
    role: Role,
    configuration: &Configuration,
    reported: &mut Reported,
    findings: &mut Findings,
) -> Option<Found> {
    if entry.metadata.is_dir() {
        findings.add(Rule::NotAProgram, place, "it is a directory");
        return None;
    }
    if !is_executable(entry) {
        findings.add(Rule::NotExecutable, place.clone(), "the file may not be executed");
    }
    let bytes = match entry.read(MAX_PROGRAM_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.add(Rule::NotAProgram, place, format!("it cannot be read: {error}"));
            return None;
        }
    };
    if let Ok(examined @ Image::Script { .. }) = elf::examine(Cursor::new(&bytes)) {
        return check_script(image, &examined, place, role, configuration, reported, findings);
    }
    let program = match Program::parse(&bytes) {
        Ok(program) => program,
        Err(error) => {
            findings.add(Rule::NotAProgram, place, error.to_string());
            return None;
        }
    };
    check_elf(image, entry, &bytes, program, place, role, configuration, reported, findings)
}

fn check_script(
    image: &ImageTree,
    script: &Image,
    place: Place,
    role: Role,
    configuration: &Configuration,
    reported: &mut Reported,
    findings: &mut Findings,
) -> Option<Found> {
    match exec_rules::check_image(script) {
        Err(refusal @ (ExecRefusal::LongFirstLine | ExecRefusal::InterpreterArguments(_))) => {
            findings.add(Rule::ScriptLine, place, refusal.to_string());
            return None;
        }
        Err(refusal) => {
            findings.add(Rule::ScriptInterpreter, place, refusal.to_string());
            return None;
        }
        Ok(()) => {}
    }
    let Image::Script { interpreter: Some(path) } = script else { return None };
    let interpreter = image.find(path).filter(|entry| entry.metadata.is_file());
    let Some(interpreter) = interpreter else {
        findings.add(Rule::ScriptInterpreter, place, format!("the image has no {}", shown(path)));
        return None;
    };
    let examined = std::fs::File::open(&interpreter.outside).and_then(elf::examine);
    if matches!(examined, Ok(Image::Script { .. })) {
        findings.add(Rule::ScriptInterpreter, place, format!("{} is a script itself", shown(path)));
        return None;
    }
    let place = Place::Image(interpreter.inside.clone());
    check_file(image, &interpreter, place, role, configuration, reported, findings)
}

#[allow(clippy::too_many_arguments, reason = "one file with everything that it is judged by")]
fn check_elf(
    image: &ImageTree,
    entry: &Entry,
    bytes: &[u8],
    program: Program,
    place: Place,
    role: Role,
    configuration: &Configuration,
    reported: &mut Reported,
    findings: &mut Findings,
) -> Option<Found> {
    match program.kind {
        ProgramKind::Dynamic => {}
        ProgramKind::FixedAddress => {
            findings.add(Rule::FixedAddress, place, "it is linked to a fixed address");
            return None;
        }
        ProgramKind::Static | ProgramKind::StaticPie | ProgramKind::Library => {
            findings.add(
                Rule::StaticProgram,
                place,
                "it has no interpreter segment: it is statically linked, or a library",
            );
            return None;
        }
    }
    let interpreter = program.interpreter.clone().unwrap_or_default();
    if program.is_go {
        findings.add(Rule::GoProgram, place.clone(), "it was made by the Go compiler");
    }
    let loader = image.find(&interpreter).filter(|entry| entry.metadata.is_file());
    let Some(loader) = loader else {
        findings.add(Rule::NoInterpreter, place, format!("it needs the loader {}", shown(&interpreter)));
        return None;
    };
    check_c_library(&loader.inside, &loader.read(MAX_PROGRAM_BYTES).unwrap_or_default(), reported, findings);
    let library_path = configuration.default_value("LD_LIBRARY_PATH");
    let closure = loader::closure(image, &entry.inside, program, library_path, loader::Cache::Used);
    check_libraries(&closure, findings);
    let mut has_threads = false;
    let mut libraries = 0_u64;
    for (index, object) in closure.loaded.iter().enumerate() {
        let read;
        let bytes = if index == 0 {
            bytes
        } else {
            read = image.read(&object.path, MAX_PROGRAM_BYTES).unwrap_or_default();
            libraries = libraries.saturating_add(loaded_bytes(read.as_slice()).unwrap_or_default());
            &read
        };
        if is_of_c_library(&object.path) {
            check_c_library(&object.path, bytes, reported, findings);
            continue;
        }
        has_threads |= starts_threads(bytes);
        check_behaviour(image, &object.path, &object.program, bytes, role, reported, findings);
    }
    check_name_resolution(image, &interpreter, library_path, &closure, place, reported, findings);
    let loader_bytes = loader.read(MAX_PROGRAM_BYTES).unwrap_or_default();
    Some(Found {
        path: entry.inside.clone(),
        loaded: Loaded {
            program: loaded_bytes(bytes).unwrap_or_default(),
            interpreter: loaded_bytes(loader_bytes.as_slice()).unwrap_or_default(),
            libraries,
        },
        has_threads,
        uses_glibc: !loader::is_musl(&interpreter),
    })
}

fn check_libraries(closure: &Closure, findings: &mut Findings) {
    for missing in &closure.missing {
        let reason = format!("it needs {}, which is in none of {}", missing.name, missing.searched.join(", "));
        findings.add(Rule::LibraryMissing, Place::Image(missing.needed_by.clone()), reason);
    }
    for (path, error) in &closure.unusable {
        findings.add(Rule::LibraryMissing, Place::Image(path.clone()), format!("it is no library: {error}"));
    }
    for user in &closure.loaded {
        let mut told = BTreeSet::new();
        for required in user.program.required_versions.iter().filter(|required| required.is_strong) {
            let Some(library) = closure.loaded.iter().find(|object| object.name == required.library) else { continue };
            let defined = &library.program.defined_versions;
            if defined.is_empty() || defined.contains(&required.version) || !told.insert(&required.library) {
                continue;
            }
            // The newest missing one says from which system the file comes.
            let lacking = user.program.required_versions.iter().filter(|other| {
                other.is_strong && other.library == required.library && !defined.contains(&other.version)
            });
            let newest = lacking.max_by_key(|other| glibc_version(&other.version)).unwrap_or(required);
            let imports = user.program.imports.iter().filter(|import| import.version.as_ref() == Some(&newest.version));
            let functions: Vec<&str> = imports.map(|import| import.name.as_str()).collect();
            let functions = if functions.is_empty() { String::new() } else { format!(" ({})", list(&functions)) };
            let reason = format!(
                "it needs {}{functions} of {}, which has at most {}",
                newest.version,
                library.path,
                newest_of(defined)
            );
            findings.add(Rule::SymbolVersion, Place::Image(user.path.clone()), reason);
        }
    }
}

fn newest_of(versions: &[String]) -> &str {
    let newest = versions.iter().max_by_key(|version| glibc_version(version));
    newest.map_or("no version", String::as_str)
}

/// True for the libraries that make system calls for all others.
fn is_of_c_library(path: &str) -> bool {
    const NAMES: [&str; 10] =
        ["libc.so", "libc-", "libpthread", "librt.so", "librt-", "libdl", "ld-linux", "ld-musl", "libc.musl", "ld-2."];
    let name = path.rsplit('/').next().unwrap_or_default();
    NAMES.iter().any(|start| name.starts_with(start))
}

fn check_c_library(path: &str, bytes: &[u8], reported: &mut Reported, findings: &mut Findings) {
    // One finding for all parts of the C library.
    let Ok(program) = Program::parse(bytes) else { return };
    let found = inline_system_calls(&program, bytes).len();
    if found > UNPATCHED_FROM && reported.0.insert("C library".to_owned()) {
        let reason = format!("it has {found} system call instructions of its own");
        findings.add(Rule::UnpatchedLibc, Place::Image(path.to_owned()), reason);
    }
}

fn check_behaviour(
    image: &ImageTree,
    path: &str,
    program: &Program,
    bytes: &[u8],
    role: Role,
    reported: &mut Reported,
    findings: &mut Findings,
) {
    if !reported.0.insert(path.to_owned()) {
        return;
    }
    let place = || Place::Image(path.to_owned());
    // Of a Go program it has been said.
    let found = if program.is_go { Vec::new() } else { inline_system_calls(program, bytes) };
    if let [first, rest @ ..] = found.as_slice() {
        let others = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
        let reason = format!("there is a system call instruction at {first:#x}{others}");
        let rule = if role == Role::Premain { Rule::PremainSyscall } else { Rule::InlineSyscall };
        findings.add(rule, place(), reason);
    }
    if role == Role::Premain {
        // Ours starts no child; it only becomes the program.
        return;
    }
    let uses = |names: &[&'static str]| {
        let found: Vec<&str> = names.iter().copied().filter(|name| program.imports_function(name)).collect();
        (!found.is_empty()).then(|| found.join(", "))
    };
    let spawns = uses(&["posix_spawn", "posix_spawnp"]);
    match (uses(&["fork", "_Fork", "daemon", "forkpty"]), &spawns) {
        (Some(functions), None) => findings.add(Rule::Fork, place(), format!("it uses {functions}")),
        (Some(functions), Some(_)) => {
            let reason = format!("it uses {functions} beside posix_spawn; where it takes posix_spawn, that works");
            findings.add(Rule::Spawn, place(), reason);
        }
        (None, _) => {}
    }
    if let Some(functions) = uses(&["system", "popen"]) {
        let has_shell = image.find("/bin/sh").is_some();
        let severity = if has_shell { Severity::Note } else { Severity::Warning };
        let shell = if has_shell { "" } else { ", and the image has no /bin/sh" };
        findings.add_as(severity, Rule::Spawn, place(), format!("it uses {functions}{shell}"), Rule::Spawn.fix());
    } else if let Some(functions) = uses(&["posix_spawn", "posix_spawnp", "vfork"]) {
        findings.add(Rule::Spawn, place(), format!("it uses {functions}"));
    }
}

fn check_name_resolution(
    image: &ImageTree,
    interpreter: &str,
    library_path: Option<&str>,
    closure: &Closure,
    place: Place,
    reported: &mut Reported,
    findings: &mut Findings,
) {
    let Some(library) = closure.loaded.iter().find(|object| object.name == "libc.so.6") else { return };
    let newest = library.program.defined_versions.iter().filter_map(|version| glibc_version(version)).max();
    if newest.is_none_or(|newest| newest >= GLIBC_WITH_RESOLVER) {
        return;
    }
    let resolves =
        |name: &str| matches!(name, "getaddrinfo" | "gethostbyname" | "gethostbyname_r" | "gethostbyname2_r");
    let mut programs = closure.loaded.iter().filter(|object| !is_of_c_library(&object.path));
    if !programs.any(|object| object.program.imports.iter().any(|import| resolves(&import.name))) {
        return;
    }
    let wanted = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];
    let lacking: Vec<&str> =
        wanted.into_iter().filter(|name| !loader::has_library(image, interpreter, library_path, name)).collect();
    if !lacking.is_empty() && reported.0.insert("name resolution".to_owned()) {
        findings.add(
            Rule::NameResolution,
            place,
            format!("it resolves names, and the image lacks {}", lacking.join(", ")),
        );
    }
}
