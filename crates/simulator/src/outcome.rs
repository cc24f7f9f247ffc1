//! How a run ends, and the exit codes of `marble-sim`.

use std::process::ExitCode;

/// The end of a run, as Occlum's `occlum run` would report it, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended with this code (0 to 255).
    Exited(u8),
    /// The program was ended by this signal.
    Signaled(u8),
    /// A signal to `marble-sim` ended everything, without notice to the program.
    Stopped(u8),
    /// The program could not be started.
    NotStarted,
    /// The init stage ended without a root for the program, or with a failure.
    NotInitialized,
    /// The simulator itself failed.
    Failed(Failure),
}

/// Failures of the simulator that a script may want to tell apart. All lie above the codes of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// The instance or another argument is wrong.
    Configuration = 201,
    /// No way to give the program its own root: neither root nor user namespaces.
    NoPrivateRoot = 202,
    /// Another seccomp listener is installed for this process tree.
    OtherListener = 203,
    /// The development root cannot be used.
    DevelopmentRoot = 204,
    /// Another `marble-sim` runs this instance.
    InstanceBusy = 205,
    /// A system call failed that should not.
    System = 206,
    /// A planted secret crossed the border.
    CanaryCrossed = 207,
    /// A step of the plan of a hostile host was not reached or could not be done.
    PlanNotFollowed = 208,
}

impl Outcome {
    /// The exit code: 7 bits of the program's own, 128 + signal, 127 if it could not be started, 1 if the
    /// init stage failed, or a [`Failure`].
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited(code) => code & 0x7f,
            Self::Signaled(signal) | Self::Stopped(signal) => 128 + (signal & 0x7f),
            Self::NotStarted => 127,
            Self::NotInitialized => 1,
            Self::Failed(failure) => *failure as u8,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_occlum() {
        for (outcome, code) in [
            (Outcome::Exited(0), 0),
            (Outcome::Exited(7), 7),
            (Outcome::Exited(128), 0),
            (Outcome::Exited(255), 127),
            (Outcome::Signaled(9), 137),
            (Outcome::Stopped(15), 143),
            (Outcome::NotStarted, 127),
            (Outcome::NotInitialized, 1),
        ] {
            assert_eq!(outcome.code(), code, "{outcome:?}");
        }
    }
}
