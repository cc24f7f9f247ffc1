//! Calls of `marble-sim`, as a program of its own: the command line does not contain a software TEE.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::programs::{self, Program, ProgramNotFound};

/// What `marble-sim` writes before each of its lines on standard error.
const PREFIX: &str = "marble-sim: ";

/// A call of `marble-sim` failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulatorError {
    /// It could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It says why it failed.
    #[error("marble-sim {command}: {reason}")]
    Failed { command: String, reason: String, hint: Option<String> },
    /// It said something that no version of it should say.
    #[error("marble-sim {command}: expected {expected}, got {got:?}")]
    Answer { command: String, expected: &'static str, got: String },
}

impl SimulatorError {
    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed { hint, .. } => hint.as_deref(),
            Self::Start { .. } => Some("check the file's permissions"),
            Self::Answer { .. } => Some("use a marble-sim of the same version as marblerun"),
        }
    }
}

/// What `marble-sim measure` says of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Measurement {
    /// MRENCLAVE, hexadecimal.
    pub(crate) mrenclave: String,
    /// MRSIGNER, hexadecimal.
    pub(crate) mrsigner: String,
    pub(crate) isv_prod_id: u16,
    pub(crate) isv_svn: u16,
    pub(crate) debug: bool,
}

/// The installed `marble-sim`.
#[derive(Clone, Debug)]
pub(crate) struct Simulator {
    program: PathBuf,
}

impl Simulator {
    /// Finds it.
    pub(crate) fn find() -> Result<Self, ProgramNotFound> {
        programs::find(Program::Simulator).map(|program| Self { program })
    }

    /// Its file.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A call with these arguments and the environment of this process.
    pub(crate) fn command(&self, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }

    /// Measures an instance.
    pub(crate) fn measure(&self, instance: &Path) -> Result<Measurement, SimulatorError> {
        let stdout = self.call(&["measure".as_ref(), "--instance".as_ref(), instance.as_os_str()])?;
        serde_json::from_str(&stdout).map_err(|_| SimulatorError::Answer {
            command: "measure".to_owned(),
            expected: "a measurement as JSON",
            got: stdout.chars().take(200).collect(),
        })
    }

    /// Makes a call and gives its standard output.
    pub(crate) fn call(&self, arguments: &[&OsStr]) -> Result<String, SimulatorError> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        let output =
            command.output().map_err(|source| SimulatorError::Start { program: self.program.clone(), source })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(failed(arguments, &output)) }
    }
}

fn failed(arguments: &[&OsStr], output: &Output) -> SimulatorError {
    // The words of the command; a path or option follows.
    let words = arguments.iter().take(2).map_while(|word| word.to_str());
    let command = words.take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = |kind: &str| {
        let mut lines = stderr.lines().rev().map(|line| line.strip_prefix(PREFIX).unwrap_or(line));
        lines.find_map(|line| line.strip_prefix(kind)).map(|line| line.trim().to_owned())
    };
    let reason = line("error:").unwrap_or_else(|| format!("ended with {}", output.status));
    SimulatorError::Failed { command: command.collect::<Vec<_>>().join(" "), reason, hint: line("hint:") }
}

/// Whether a directory is an instance that was not built: all that the simulator needs, and nothing signed.
pub(crate) fn is_unbuilt_instance(directory: &Path) -> bool {
    directory.join("Occlum.json").is_file()
        // The second one is an image that the simulator encrypted.
        && (directory.join("image").is_dir() || directory.join("image.encrypted").is_file())
        && !directory.join("build/lib/libocclum-libos.signed.so").exists()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn simulator(directory: &Path, script: &str) -> Simulator {
        let program = directory.join("marble-sim");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Simulator { program }
    }

    #[test]
    fn what_the_simulator_says_is_what_the_user_reads() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo 'marble-sim: error: no such instance' >&2; echo 'marble-sim: hint: make one' >&2; exit 201";
        let error = simulator(directory.path(), script).measure(Path::new("/i")).unwrap_err();
        assert_eq!(error.to_string(), "marble-sim measure: no such instance");
        assert_eq!(error.hint(), Some("make one"));
        let error = simulator(directory.path(), "exit 3").measure(Path::new("/i")).unwrap_err();
        assert_eq!(error.to_string(), "marble-sim measure: ended with exit status: 3");
        let error = simulator(directory.path(), "echo '{}'").measure(Path::new("/i")).unwrap_err();
        assert!(matches!(error, SimulatorError::Answer { .. }), "{error}");
        let absent = Simulator { program: directory.path().join("absent") };
        assert!(matches!(absent.measure(Path::new("/i")), Err(SimulatorError::Start { .. })));
    }
}
