//! Exit codes.

use std::process::ExitCode;

/// With which code the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// 0: done.
    Success,
    /// 1: not done; the error is on stderr.
    Failure,
    /// 2: `manifest check` and `manifest plan`: the manifest has errors, or warnings that were not allowed; the
    /// update would be refused. `collateral show`: something does not verify. `occlum check`: there are errors.
    Findings,
    /// 3: only `manifest plan`: the update breaks something.
    Breaks,
    /// 200: only `occlum run`: the program was not started.
    NotStarted,
    /// Only `occlum run`: what the program ended with.
    Program(u8),
    /// 128 + signal: only `occlum run`: a signal came before the program was started.
    Signal(u8),
}

impl ExitStatus {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Findings => 2,
            Self::Breaks => 3,
            Self::NotStarted => 200,
            Self::Program(code) => code,
            Self::Signal(signal) => 128 + (signal & 0x7f),
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
