//! The plan of a hostile host: what it does, and when.
//!
//! ```json
//! {"steps": [
//!     {"at": {"call": {"name": "quote", "nth": 2}}, "do": {"fail": {"errno": "EINVAL"}}},
//!     {"at": "start", "do": {"clock": {"offset_seconds": -86400}}}
//! ]}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use marblerun_linux::regular_file::{self, ReadError};
use serde::{Deserialize, Serialize};

/// Longest plan that is read.
pub const MAX_FILE_LEN: usize = 256 * 1024;
/// Most steps: each is compared with every call that is watched.
pub const MAX_STEPS: usize = 64;
/// Highest number of a call.
pub const MAX_NTH: u32 = 1_000_000;
/// Most variables of one step.
pub const MAX_VARIABLES: usize = 64;
/// Longest path (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// What the host does, in the order of the file where several steps fit one call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One thing that the host does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When.
    pub at: At,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}

/// When a step is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Before the program starts.
    Start,
    /// After all of it has ended.
    End,
    /// Before a call is performed.
    Call(Occasion),
}

/// Which call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occasion {
    /// Its kind.
    pub name: CallName,
    /// Only calls on this file, or on files below this directory, as the program names it.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The first one that is meant, counted from 1.
    pub nth: u32,
    /// How many are meant from there on.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallName {
    /// The device's ioctl that makes a quote.
    Quote,
    /// `open`, `openat`, `creat`.
    Open,
    /// `read`, `pread64`, `readv`, `preadv`.
    Read,
    /// `write`, `pwrite64`, `writev`, `pwritev`.
    Write,
    /// `fsync`, `fdatasync`.
    Fsync,
    /// `rename`, `renameat`, `renameat2`.
    Rename,
    /// `unlink`, `unlinkat`.
    Unlink,
    /// `mkdir`, `mkdirat`.
    Mkdir,
    /// `truncate`, `ftruncate`.
    Truncate,
    /// `connect`.
    Connect,
    /// `sendto`, `sendmsg`, `sendmmsg`.
    Send,
    /// `execve`.
    Execve,
}

impl fmt::Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quote => "quote",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Fsync => "fsync",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Mkdir => "mkdir",
            Self::Truncate => "truncate",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Execve => "execve",
        })
    }
}

/// What a step does. Files of the instance are named from its directory and lie in `host/` or `run/`; all other paths begin
/// at the directory of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The call is not performed and fails.
    Fail {
        /// With this error.
        errno: Errno,
    },
    /// Nothing is done; the report tells of the call, to find the number that is wanted.
    Note,
    /// Everything is killed, and the call is not performed.
    Kill,
    /// The program's clock (`CLOCK_REALTIME` and its relatives) goes wrong by so much from now on.
    Clock {
        /// Seconds, negative for the past.
        offset_seconds: i64,
    },
    /// A file of the instance is replaced by a copy of another; who has it open keeps the old one.
    Replace {
        /// The file of the instance.
        file: PathBuf,
        /// The other.
        with: PathBuf,
    },
    /// A file of the instance is cut, or grows by zeros.
    Truncate {
        /// The file of the instance.
        file: PathBuf,
        /// Its new length.
        bytes: u64,
    },
    /// A file of the instance is removed.
    Remove {
        /// The file of the instance.
        file: PathBuf,
    },
    /// `run/` and `host/` are copied to a directory that does not exist yet.
    Save {
        /// The directory.
        to: PathBuf,
    },
    /// `host/`, and at start and end also `run/`, are as they were when they were saved.
    Restore {
        /// The directory of `save`.
        from: PathBuf,
    },
    /// The whole instance is copied, so that it can be run a second time.
    Clone {
        /// A directory that does not exist yet.
        into: PathBuf,
    },
    /// Connections to one address go to another of the same family from now on.
    Redirect {
        /// Where the program wants to go.
        from: SocketAddr,
        /// Where it gets.
        to: SocketAddr,
    },
    /// The environment that the host gives is changed.
    Environment {
        /// Names that are left out.
        #[serde(default)]
        drop: BTreeSet<String>,
        /// Variables that get this value.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// Variables that are there a second time, with this value.
        #[serde(default)]
        duplicate: BTreeMap<String, String>,
    },
}

/// Errors that a host can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names of the errors")]
pub enum Errno {
    Eacces,
    Eagain,
    Econnrefused,
    Eintr,
    Einval,
    Eio,
    Emfile,
    Enoent,
    Enospc,
    Eperm,
    Erofs,
    Etimedout,
}

impl Errno {
    /// The number on Linux, x86-64.
    pub fn number(self) -> i32 {
        match self {
            Self::Eperm => 1,
            Self::Enoent => 2,
            Self::Eintr => 4,
            Self::Eio => 5,
            Self::Eagain => 11,
            Self::Eacces => 13,
            Self::Einval => 22,
            Self::Emfile => 24,
            Self::Enospc => 28,
            Self::Erofs => 30,
            Self::Etimedout => 110,
            Self::Econnrefused => 111,
        }
    }
}

/// A plan cannot be followed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] ReadError),
    /// It is not a regular file of bearable length.
    #[error("expected a file of 1 to {MAX_FILE_LEN} bytes")]
    Length,
    /// It is not the JSON that is expected.
    #[error("expected a plan")]
    Json(#[source] serde_json::Error),
    /// There are no steps, or too many.
    #[error("expected 1 to {MAX_STEPS} steps, got {0}")]
    Count(usize),
    /// A number of a call is out of range.
    #[error("step {step}: {member}: expected 1 to {MAX_NTH}, got {got}")]
    Number {
        /// The step, from 1.
        step: usize,
        /// `nth` or `times`.
        member: &'static str,
        /// What was found.
        got: u32,
    },
    /// The action and its time do not fit.
    #[error("step {step}: {action} is possible {when} only")]
    When {
        /// The step.
        step: usize,
        /// Its action.
        action: &'static str,
        /// When it is possible.
        when: &'static str,
    },
    /// Several times make no sense.
    #[error("step {step}: times: expected 1, since only `fail` and `note` can be done several times, got {got}")]
    Times {
        /// The step.
        step: usize,
        /// What was found.
        got: u32,
    },
    /// A path of the instance leads elsewhere.
    #[error("step {step}: file: expected a path below host/ or run/ without \"..\", got {path:?}")]
    File {
        /// The step.
        step: usize,
        /// The path.
        path: PathBuf,
    },
    /// A path cannot be used.
    #[error("step {step}: expected paths of 1 to {MAX_PATH} bytes without NUL; the program's are absolute")]
    Path {
        /// The step.
        step: usize,
    },
    /// The kind of call has no path.
    #[error("step {step}: path: expected none, since {call} has none")]
    NoPath {
        /// The step.
        step: usize,
        /// The kind of call.
        call: CallName,
    },
    /// The clock would leave what a clock can show.
    #[error("step {step}: offset_seconds: expected at most 100 years in either direction, got {got}")]
    Clock {
        /// The step.
        step: usize,
        /// What was found.
        got: i64,
    },
    /// The addresses are of two families.
    #[error("step {step}: expected two addresses of one family, got {from} and {to}")]
    Family {
        /// The step.
        step: usize,
        /// From where.
        from: SocketAddr,
        /// To where.
        to: SocketAddr,
    },
    /// A variable is none.
    #[error(
        "step {step}: expected at most {MAX_VARIABLES} variables without NUL and with names without \"=\", got {name:?}"
    )]
    Variable {
        /// The step.
        step: usize,
        /// Its name.
        name: String,
    },
}

/// A hundred years.
const MAX_OFFSET_SECONDS: i64 = 100 * 365 * 24 * 3600;

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let bytes = regular_file::read_bounded(path, MAX_FILE_LEN).map_err(PlanError::Read)?;
        Self::parse(&bytes.ok_or(PlanError::Length)?)
    }

    /// Parses the content of a file.
    ///
    /// # Errors
    /// [`PlanError`], which names the step.
    pub fn parse(json: &[u8]) -> Result<Self, PlanError> {
        if json.len() > MAX_FILE_LEN {
            return Err(PlanError::Length);
        }
        let plan: Self = serde_json::from_slice(json).map_err(PlanError::Json)?;
        if plan.steps.is_empty() || plan.steps.len() > MAX_STEPS {
            return Err(PlanError::Count(plan.steps.len()));
        }
        plan.steps.iter().zip(1..).try_for_each(|(step, number)| step.validate(number))?;
        Ok(plan)
    }
}

impl Step {
    fn validate(&self, step: usize) -> Result<(), PlanError> {
        self.validate_time(step)?;
        if let At::Call(occasion) = &self.at {
            occasion.validate(step)?;
            if occasion.times != 1 && !matches!(self.action, Action::Fail { .. } | Action::Note) {
                return Err(PlanError::Times { step, got: occasion.times });
            }
        }
        let outside = |path: &PathBuf| usable(path).then_some(()).ok_or(PlanError::Path { step });
        match &self.action {
            Action::Fail { .. } | Action::Note | Action::Kill => Ok(()),
            Action::Clock { offset_seconds: got } if got.abs_diff(0) <= MAX_OFFSET_SECONDS as u64 => Ok(()),
            Action::Clock { offset_seconds: got } => Err(PlanError::Clock { step, got: *got }),
            Action::Replace { file, with } => of_instance(step, file).and_then(|()| outside(with)),
            Action::Truncate { file, .. } | Action::Remove { file } => of_instance(step, file),
            Action::Save { to: path } | Action::Restore { from: path } | Action::Clone { into: path } => outside(path),
            Action::Redirect { from, to } if from.is_ipv4() == to.is_ipv4() => Ok(()),
            Action::Redirect { from, to } => Err(PlanError::Family { step, from: *from, to: *to }),
            Action::Environment { drop, set, duplicate } => {
                let names = drop.iter().chain(set.keys()).chain(duplicate.keys());
                let mut variables = set.iter().chain(duplicate);
                let wrong = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
                let with_nul = || variables.find(|(_, value)| value.contains('\0')).map(|(name, _)| name);
                let found = names.clone().find(wrong).or_else(with_nul);
                match found.or_else(|| names.clone().nth(MAX_VARIABLES)) {
                    Some(name) => Err(PlanError::Variable { step, name: name.clone() }),
                    None => Ok(()),
                }
            }
        }
    }

    fn validate_time(&self, step: usize) -> Result<(), PlanError> {
        let is_call = matches!(self.at, At::Call(_));
        match &self.action {
            Action::Fail { .. } if !is_call => Err(PlanError::When { step, action: "fail", when: "at a call" }),
            Action::Note if !is_call => Err(PlanError::When { step, action: "note", when: "at a call" }),
            Action::Kill if !is_call => Err(PlanError::When { step, action: "kill", when: "at a call" }),
            Action::Environment { .. } if self.at != At::Start => {
                Err(PlanError::When { step, action: "environment", when: "at the start" })
            }
            Action::Clock { .. } | Action::Redirect { .. } if self.at == At::End => {
                Err(PlanError::When { step, action: self.action.name(), when: "at the start or at a call" })
            }
            _ => Ok(()),
        }
    }
}

impl Action {
    /// The word in the plan.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fail { .. } => "fail",
            Self::Note => "note",
            Self::Kill => "kill",
            Self::Clock { .. } => "clock",
            Self::Replace { .. } => "replace",
            Self::Truncate { .. } => "truncate",
            Self::Remove { .. } => "remove",
            Self::Save { .. } => "save",
            Self::Restore { .. } => "restore",
            Self::Clone { .. } => "clone",
            Self::Redirect { .. } => "redirect",
            Self::Environment { .. } => "environment",
        }
    }
}

impl Occasion {
    fn validate(&self, step: usize) -> Result<(), PlanError> {
        for (member, got) in [("nth", self.nth), ("times", self.times)] {
            if !(1..=MAX_NTH).contains(&got) {
                return Err(PlanError::Number { step, member, got });
            }
        }
        let Some(path) = &self.path else { return Ok(()) };
        if matches!(self.name, CallName::Quote | CallName::Connect | CallName::Send) {
            return Err(PlanError::NoPath { step, call: self.name });
        }
        if path.is_absolute() && usable(path) { Ok(()) } else { Err(PlanError::Path { step }) }
    }

    /// True for the call with this number among those that fit.
    pub fn is_due(&self, count: u32) -> bool {
        (self.nth..self.nth.saturating_add(self.times)).contains(&count)
    }
}

fn usable(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    (1..=MAX_PATH).contains(&bytes.len()) && !bytes.contains(&0)
}

fn of_instance(step: usize, path: &Path) -> Result<(), PlanError> {
    let mut parts = path.components();
    let first = parts.next();
    let is_layer = matches!(first, Some(Component::Normal(layer)) if layer == "host" || layer == "run");
    let mut rest = parts.peekable();
    if usable(path) && is_layer && rest.peek().is_some() && rest.all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(PlanError::File { step, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: &str, action: &str) -> String {
        format!(r#"{{"steps": [{{"at": {at}, "do": {action}}}]}}"#)
    }

    #[track_caller]
    fn check_refused(at: &str, action: &str, message: &str) {
        let error = Plan::parse(step(at, action).as_bytes()).unwrap_err();
        let text = crate::supervisor::chain(&error);
        assert!(text.contains(message), "{at} {action}: {text}");
    }

    const CALL: &str = r#"{"call": {"name": "fsync", "nth": 1}}"#;

    // rules: SIM-14
    #[test]
    fn every_action_is_understood_at_its_time() {
        for (at, action) in [
            (CALL, r#"{"fail": {"errno": "EIO"}}"#),
            (r#"{"call": {"name": "quote", "nth": 2, "times": 3}}"#, r#"{"fail": {"errno": "EINVAL"}}"#),
            (r#"{"call": {"name": "open", "nth": 1, "path": "/host/state"}}"#, r#""kill""#),
            (r#"{"call": {"name": "read", "nth": 1, "times": 1000}}"#, r#""note""#),
            ("\"start\"", r#"{"clock": {"offset_seconds": -86400}}"#),
            (CALL, r#"{"replace": {"file": "host/a", "with": "/elsewhere/b"}}"#),
            (CALL, r#"{"truncate": {"file": "run/a", "bytes": 0}}"#),
            ("\"end\"", r#"{"remove": {"file": "host/a/b"}}"#),
            ("\"end\"", r#"{"save": {"to": "saved"}}"#),
            ("\"start\"", r#"{"restore": {"from": "saved"}}"#),
            (CALL, r#"{"clone": {"into": "second"}}"#),
            ("\"start\"", r#"{"redirect": {"from": "127.0.0.1:1", "to": "127.0.0.1:2"}}"#),
            ("\"start\"", r#"{"environment": {"drop": ["A"], "set": {"B": "1"}, "duplicate": {"C": "2"}}}"#),
        ] {
            let plan = Plan::parse(step(at, action).as_bytes());
            assert!(plan.is_ok(), "{at} {action}: {plan:?}");
        }
    }

    // rules: SIM-14
    #[test]
    fn what_no_plan_can_mean_is_refused_with_the_step() {
        check_refused("\"start\"", r#""kill""#, "step 1: kill is possible at a call only");
        check_refused("\"start\"", r#""note""#, "step 1: note is possible at a call only");
        check_refused("\"end\"", r#"{"fail": {"errno": "EIO"}}"#, "fail is possible at a call only");
        check_refused(CALL, r#"{"environment": {}}"#, "environment is possible at the start only");
        check_refused("\"end\"", r#"{"clock": {"offset_seconds": 1}}"#, "clock is possible at the start or at a call");
        check_refused(r#"{"call": {"name": "fsync", "nth": 0}}"#, r#""kill""#, "nth: expected 1 to 1000000, got 0");
        check_refused(
            r#"{"call": {"name": "fsync", "nth": 1, "times": 1000001}}"#,
            r#"{"fail": {"errno": "EIO"}}"#,
            "times: expected 1 to 1000000, got 1000001",
        );
        check_refused(r#"{"call": {"name": "fsync", "nth": 1, "times": 2}}"#, r#""kill""#, "times: expected 1,");
        check_refused(r#"{"call": {"name": "quote", "nth": 1, "path": "/x"}}"#, r#""kill""#, "quote has none");
        check_refused(
            r#"{"call": {"name": "open", "nth": 1, "path": "x"}}"#,
            r#""kill""#,
            "the program's are absolute",
        );
        for file in ["/etc/passwd", "host/../../x", "image/bin/x", "host", "", "../host/x"] {
            check_refused(CALL, &format!(r#"{{"remove": {{"file": "{file}"}}}}"#), "below host/ or run/");
        }
        check_refused("\"start\"", r#"{"clock": {"offset_seconds": 3153600001}}"#, "at most 100 years");
        check_refused("\"start\"", r#"{"clock": {"offset_seconds": -9223372036854775808}}"#, "at most 100 years");
        check_refused("\"start\"", r#"{"redirect": {"from": "127.0.0.1:1", "to": "[::1]:1"}}"#, "of one family");
        check_refused("\"start\"", r#"{"environment": {"drop": ["A=B"]}}"#, "without \"=\"");
        check_refused("\"start\"", r#"{"environment": {"drop": ["A"], "more": []}}"#, "unknown field `more`");
        check_refused(CALL, r#"{"explode": {}}"#, "unknown variant `explode`");
        check_refused(r#"{"call": {"name": "close", "nth": 1}}"#, r#""kill""#, "unknown variant `close`");
        check_refused(CALL, r#"{"fail": {"errno": "EWHAT"}}"#, "unknown variant `EWHAT`");
        assert!(matches!(Plan::parse(br#"{"steps": []}"#), Err(PlanError::Count(0))));
        assert!(matches!(Plan::parse(&vec![b' '; MAX_FILE_LEN + 1]), Err(PlanError::Length)));
        let many = format!(r#"{{"steps": [{}]}}"#, vec![format!(r#"{{"at": {CALL}, "do": "kill"}}"#); 65].join(","));
        assert!(matches!(Plan::parse(many.as_bytes()), Err(PlanError::Count(65))));
    }
}
