//! The program from outside: arguments in, standard output, standard error, exit code and files out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[allow(dead_code, reason = "shared with the client's tests, which use more of it")]
#[path = "../../../client/tests/it/fake.rs"]
mod fake;

mod bad_input;
mod collateral;
mod commands;
mod compatibility;
mod coordinator;
mod generated;
mod local;
mod occlum;
mod occlum_init;
mod package_info;
mod plan;
mod profile;

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A directory in which the program runs, with nothing of the user around it.
struct Place(TempDir);

/// What a run gave. Names that change from run to run are replaced.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn exists(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    /// Runs the program with words that are separated by blanks.
    #[track_caller]
    fn run(&self, arguments: &str) -> Run {
        self.run_words(&arguments.split(' ').collect::<Vec<_>>())
    }

    fn run_words(&self, words: &[&str]) -> Run {
        self.run_with(words, &[])
    }

    /// The program with nothing of the user's environment.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marblerun"));
        command.args(words).current_dir(self.path()).env_clear().env("HOME", self.path().join("home"));
        command
    }

    /// Runs the program with variables of its environment.
    fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Run {
        let output = self.command(words).envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).unwrap().replace(&self.path().display().to_string(), "[DIR]")
        };
        Run { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Run {
    /// The run succeeded with exactly this on standard output and nothing on standard error.
    #[track_caller]
    fn printed(&self, expected: &str) {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str(), self.code), (expected, "", 0));
    }

    /// The run failed with exactly this on standard error.
    #[track_caller]
    fn failed(&self, expected: &str) {
        assert_eq!((self.stderr.trim_end(), self.code), (expected, 1), "stdout: {}", self.stdout);
    }
}
