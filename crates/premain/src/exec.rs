//! Becoming the application.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use marblerun_linux::limits::{self, Limit, Resource};
use marblerun_linux::process;
use marblerun_marble::Launch;

/// Occlum keeps arguments, environment and tables in this part of a new process' stack …
const STACK_PER_AREA: u64 = 256;
/// … but at least in so many bytes.
const MIN_AREA_BYTES: u64 = 4096;
/// Sizes are rounded up to this.
const MIB: u64 = 1024 * 1024;

/// Why the application was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("{}: no such file in the image", path.display())]
    NotFound { path: PathBuf },
    #[error("{}: {reason}", path.display())]
    Refused { path: PathBuf, reason: &'static str, source: io::Error },
    #[error(
        "arguments and environment take {need} bytes, the stack of a new process has {area}, and the limits cannot be \
         raised"
    )]
    Area { need: u64, area: u64, source: io::Error },
    #[error(
        "arguments and environment take {need} bytes, which needs process.default_stack_size of at least {stack_mib}MB \
         in Occlum.json"
    )]
    AreaTooLarge { need: u64, stack_mib: u64 },
}

impl ExecError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some("the first of the Marble's arguments in the manifest names the program"),
            Self::Area { .. } | Self::AreaTooLarge { .. } => Some(
                "raise process.default_stack_size in Occlum.json (256 bytes of stack for each byte), or deliver large \
                 secrets as files",
            ),
            Self::Refused { .. } => None,
        }
    }
}

/// Replaces this process by the application. `last` runs when nothing but `execve` is left to do.
///
/// # Errors
/// See [`ExecError`]; on success it does not return.
pub(crate) fn exec(launch: Launch, last: impl FnOnce()) -> Result<Infallible, ExecError> {
    let path = locate(launch.program())?;
    let argv0 = argv0(&path);
    make_room(launch.argument_area_bytes(&argv0))?;
    let call = Call::new(&path, argv0, launch).map_err(|source| explain(path.clone(), source))?;
    last();
    Err(explain(path, call.execute()))
}

/// What `execve` reads. Not by the standard library, whose `exec` starts a shell for files of unknown format.
struct Call {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Call {
    fn new(path: &Path, argv0: OsString, launch: Launch) -> io::Result<Self> {
        let c_string = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::from);
        let arguments = std::iter::once(argv0).chain(launch.argv.into_iter().skip(1));
        let variables = launch.environment.into_iter().map(|(mut name, value)| {
            name.reserve_exact(value.len() + 2);
            name.push("=");
            name.push(value);
            name
        });
        Ok(Self {
            program: c_string(path.into())?,
            arguments: arguments.map(c_string).collect::<io::Result<_>>()?,
            environment: variables.map(c_string).collect::<io::Result<_>>()?,
        })
    }

    /// Returns only if it failed.
    fn execute(&self) -> io::Error {
        match process::default_pipe_signal() {
            Ok(()) => process::exec(&self.program, &self.arguments, &self.environment),
            Err(error) => error,
        }
    }
}

/// The path to execute. There is no search: a name without a slash lies in the working directory.
fn locate(program: &OsStr) -> Result<PathBuf, ExecError> {
    let path = if program.as_bytes().contains(&b'/') { PathBuf::from(program) } else { Path::new(".").join(program) };
    // Other errors surface at `execve`, where the kernel knows better.
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Two lines on stdout, where users of MarbleRun v1.9.1 look for them.
            let hint = format!(
                "{} does not exist in the image.\nSet the first of the Marble's arguments in the manifest to a valid \
                 entry point such as /bin/hello_world.\n",
                Path::new(program).display()
            );
            let _ = io::stdout().write_all(hint.as_bytes());
            Err(ExecError::NotFound { path: program.into() })
        }
        Ok(metadata) if metadata.is_dir() => Err(ExecError::Refused {
            path,
            reason: "expected a program, got a directory",
            source: io::ErrorKind::IsADirectory.into(),
        }),
        _ => Ok(path),
    }
}

fn argv0(path: &Path) -> OsString {
    path.file_name().unwrap_or(path.as_os_str()).to_owned()
}

/// Says in words what the errno of `execve` means in Occlum (and on Linux).
fn explain(path: PathBuf, source: io::Error) -> ExecError {
    const E2BIG: i32 = 7;
    const ENOEXEC: i32 = 8;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const EINVAL: i32 = 22;
    let reason = match source.raw_os_error() {
        Some(ENOEXEC) => Format::of(&path).reason(),
        Some(EINVAL) => match Format::of(&path) {
            Format::Program => {
                "the LibOS cannot load it: expected a 64-bit position-independent program with an interpreter \
                 (PT_INTERP), got perhaps a static one"
            }
            other => other.reason(),
        },
        Some(E2BIG | ENOMEM) => {
            "not enough memory for it beside the premain: user_space_size and the default sizes in Occlum.json must \
             hold both, and the stack its arguments and environment"
        }
        Some(EACCES) if has_execute_permission(&path) => {
            "its interpreter, or a directory of its path, does not have the execute permission"
        }
        Some(EACCES) => "not executable: the file lacks the execute permission",
        _ if source.kind() == io::ErrorKind::NotFound => match Format::of(&path) {
            Format::Script => "the program in its line with #! is not in the image",
            _ => "its interpreter (PT_INTERP) is not in the image",
        },
        _ => "execve failed",
    };
    ExecError::Refused { path, reason, source }
}

/// True also if nobody can say.
fn has_execute_permission(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.permissions().mode() & 0o111 != 0)
}

/// What a file that was not executed looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Begins with `#!`.
    Script,
    /// A 64-bit program for x86-64.
    Program,
    /// Begins like a program, with another class.
    OtherClass,
    /// A program for another processor.
    OtherMachine,
    /// Nothing that can be executed, or nothing that can be read.
    Other,
}

impl Format {
    fn of(path: &Path) -> Self {
        // ELF header: magic, class at 4, machine at 18.
        let mut head = Vec::with_capacity(ELF_HEAD_LEN);
        let read = File::open(path).and_then(|file| file.take(ELF_HEAD_LEN as u64).read_to_end(&mut head));
        match head.as_slice() {
            _ if read.is_err() => Self::Other,
            [b'#', b'!', ..] => Self::Script,
            [0x7f, b'E', b'L', b'F', class, ..] if *class != ELF_CLASS_64 => Self::OtherClass,
            [0x7f, b'E', b'L', b'F', .., low, high] if head.len() == ELF_HEAD_LEN => {
                if u16::from_le_bytes([*low, *high]) == ELF_MACHINE_X86_64 { Self::Program } else { Self::OtherMachine }
            }
            _ => Self::Other,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Script => {
                "its line with #! cannot be used: Occlum takes the whole line for the path of the interpreter"
            }
            Self::Program => "a damaged program, or one in a form that is not supported",
            Self::OtherClass => "wrong format: expected a 64-bit program, got one of another width",
            Self::OtherMachine => "wrong format: a program for another processor than x86-64",
            Self::Other => "wrong format: neither a program nor a script that begins with #!",
        }
    }
}

/// Bytes of the ELF header up to the machine.
const ELF_HEAD_LEN: usize = 20;
/// `ELFCLASS64` of elf(5).
const ELF_CLASS_64: u8 = 2;
/// `EM_X86_64` of elf(5).
const ELF_MACHINE_X86_64: u16 = 62;

/// Raises the limits from which the LibOS sizes the next process, if `need` bytes do not fit otherwise.
fn make_room(need: u64) -> Result<(), ExecError> {
    let read =
        |resource| limits::limit(resource).map_err(|source| ExecError::Area { need, area: MIN_AREA_BYTES, source });
    let stack = read(Resource::Stack)?;
    let area = area(stack.soft);
    let Some(plan) = plan(need, stack, read(Resource::Data)?, read(Resource::AddressSpace)?) else {
        return Ok(());
    };
    let too_large = |_| ExecError::AreaTooLarge { need, stack_mib: plan.stack.soft / MIB };
    // The address space first: Occlum refuses a stack and heap that do not fit into it.
    if let Some(address_space) = plan.address_space {
        limits::set_limit(Resource::AddressSpace, address_space).map_err(too_large)?;
    }
    limits::set_limit(Resource::Stack, plan.stack).map_err(|source| {
        if source.kind() == io::ErrorKind::PermissionDenied {
            ExecError::Area { need, area, source }
        } else {
            too_large(source)
        }
    })
}

/// Bytes for arguments and environment of a process with this stack.
fn area(stack: u64) -> u64 {
    (stack / STACK_PER_AREA).max(MIN_AREA_BYTES).min(stack)
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    stack: Limit,
    address_space: Option<Limit>,
}

/// The limits to set so that `need` bytes fit; `None` if they fit already.
fn plan(need: u64, stack: Limit, data: Limit, address_space: Limit) -> Option<Plan> {
    if need <= area(stack.soft) {
        return None;
    }
    let wanted = need.saturating_mul(STACK_PER_AREA).div_ceil(MIB).saturating_mul(MIB);
    let raised = |limit: Limit, soft: u64| Limit { soft, hard: limit.hard.max(soft) };
    let address_space = (address_space.soft != Limit::INFINITY).then(|| {
        // What is left for mappings stays as it was.
        let grown = address_space.soft.saturating_add(wanted - stack.soft);
        let least = data.soft.saturating_add(wanted).saturating_add(MIB);
        raised(address_space, grown.max(least))
    });
    Some(Plan { stack: raised(stack, wanted), address_space })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(mib: u64) -> Limit {
        Limit { soft: mib * MIB, hard: mib * MIB }
    }

    #[test]
    fn the_area_is_a_part_of_the_stack_with_a_minimum() {
        assert_eq!(area(4 * MIB), 16 * 1024);
        assert_eq!(area(MIB / 2), 4096);
        assert_eq!(area(2048), 2048);
    }

    // rules: OCC-6
    #[test]
    fn limits_stay_where_the_arguments_fit() {
        assert_eq!(plan(16 * 1024, limit(4), limit(32), limit(136)), None);
    }

    // rules: OCC-6
    #[test]
    fn the_stack_grows_with_the_need_and_the_address_space_with_the_stack() {
        let plan = plan(16 * 1024 + 1, limit(4), limit(32), limit(136)).unwrap();
        assert_eq!(plan, Plan { stack: limit(5), address_space: Some(limit(137)) });
    }

    #[test]
    fn the_address_space_exceeds_heap_and_stack_together() {
        let plan = plan(1 << 20, limit(4), limit(32), limit(36)).unwrap();
        assert_eq!(plan.stack, limit(256));
        assert_eq!(plan.address_space, Some(limit(32 + 256 + 1)));
    }

    #[test]
    fn an_unlimited_address_space_and_a_higher_hard_limit_stay() {
        let unlimited = Limit { soft: Limit::INFINITY, hard: Limit::INFINITY };
        let stack = Limit { soft: 4 * MIB, hard: Limit::INFINITY };
        let plan = plan(100_000, stack, limit(32), unlimited).unwrap();
        assert_eq!(plan, Plan { stack: Limit { soft: 25 * MIB, hard: Limit::INFINITY }, address_space: None });
    }

    #[test]
    fn programs_are_located_without_a_search() {
        assert_eq!(locate(OsStr::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(locate(OsStr::new("Cargo.toml")).unwrap(), Path::new("./Cargo.toml"));
        assert!(matches!(locate(OsStr::new("sh")), Err(ExecError::NotFound { .. })));
        let error = locate(OsStr::new("/bin")).unwrap_err();
        assert_eq!(error.to_string(), "/bin: expected a program, got a directory");
    }

    #[track_caller]
    fn check_explained(content: &[u8], mode: u32, errno: i32, words: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = explain(path.clone(), io::Error::from_raw_os_error(errno)).to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        assert!(error.contains(words) && !error.contains('\n'), "errno {errno}: {error:?} does not contain {words:?}");
    }

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut header = vec![0; 64];
        header[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
        header[18..20].copy_from_slice(&machine.to_le_bytes());
        header
    }

    #[test]
    fn a_refused_program_is_explained_in_words() {
        const ENOENT: i32 = 2;
        const ENOEXEC: i32 = 8;
        const ENOMEM: i32 = 12;
        const EACCES: i32 = 13;
        const EINVAL: i32 = 22;
        let program = elf(2, 62);
        check_explained(&program, 0o644, EACCES, "not executable: the file lacks the execute permission");
        check_explained(&program, 0o755, EACCES, "its interpreter, or a directory of its path");
        check_explained(&program, 0o755, EINVAL, "PT_INTERP");
        check_explained(&program, 0o755, ENOENT, "its interpreter (PT_INTERP) is not in the image");
        check_explained(&program, 0o755, ENOMEM, "user_space_size");
        check_explained(&program, 0o755, ENOEXEC, "a damaged program");
        for errno in [ENOEXEC, EINVAL] {
            check_explained(&elf(1, 3), 0o755, errno, "expected a 64-bit program");
            check_explained(&elf(2, 183), 0o755, errno, "another processor");
            check_explained(
                b"echo no first line\n",
                0o755,
                errno,
                "neither a program nor a script that begins with #!",
            );
            check_explained(b"\x7fELF\x02", 0o755, errno, "neither a program");
            check_explained(b"#!/bin/sh -e\n", 0o755, errno, "its line with #! cannot be used");
        }
        check_explained(b"#!/bin/absent\n", 0o755, ENOENT, "the program in its line with #! is not in the image");
    }

    // rules: OCC-12, ACT-8.9
    #[test]
    fn the_application_sees_the_base_name_of_its_path() {
        assert_eq!(argv0(Path::new("/opt/a/app")), "app");
        assert_eq!(argv0(Path::new("./marble")), "marble");
    }
}
