//! Becoming the application.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use marblerun_linux::limits::{self, Limit, Resource};
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
    let mut command = Command::new(&path);
    command.arg0(&argv0).args(launch.argv.iter().skip(1)).env_clear().envs(launch.environment);
    last();
    Err(explain(path, command.exec()))
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
    const EINVAL: i32 = 22;
    const ENOEXEC: i32 = 8;
    const E2BIG: i32 = 7;
    const ENOMEM: i32 = 12;
    let reason = match source.raw_os_error() {
        Some(ENOEXEC) => "not a program for this machine: wrong format, or a script without #!",
        Some(EINVAL) => {
            "the LibOS cannot load it: expected a 64-bit position-independent program with an interpreter (PT_INTERP), \
             got perhaps a static one"
        }
        Some(E2BIG | ENOMEM) => {
            "not enough memory for it beside the premain: user_space_size and the default sizes in Occlum.json must \
             hold both, and the stack its arguments and environment"
        }
        _ if source.kind() == io::ErrorKind::PermissionDenied => {
            "not executable: the file lacks the execute permission"
        }
        _ if source.kind() == io::ErrorKind::NotFound => "its interpreter is not in the image",
        _ => "execve failed",
    };
    ExecError::Refused { path, reason, source }
}

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

    #[test]
    fn a_refused_program_is_explained_in_words() {
        for (errno, word) in [(13, "not executable"), (8, "wrong format"), (22, "PT_INTERP"), (12, "user_space_size")] {
            let error = explain("/bin/app".into(), io::Error::from_raw_os_error(errno)).to_string();
            assert!(error.starts_with("/bin/app: ") && error.contains(word), "{error}");
        }
    }

    // rules: OCC-12, ACT-8.9
    #[test]
    fn the_application_sees_the_base_name_of_its_path() {
        assert_eq!(argv0(Path::new("/opt/a/app")), "app");
        assert_eq!(argv0(Path::new("./marble")), "marble");
    }
}
