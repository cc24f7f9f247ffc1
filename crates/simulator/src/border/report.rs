//! What was found, without any value.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::canaries::{Canaries, Form, Hit};
use crate::supervisor::say;

/// Findings that are kept; further ones are counted.
const MAX_FINDINGS: usize = 1000;

/// Shown instead of a name that a secret is in.
const HIDDEN: &str = "(a name with a secret in it)";

/// The report of a run: the JSON of `--canary-report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many secrets were looked for.
    pub canaries: usize,
    /// Names of those that crossed the border.
    pub crossed: BTreeSet<String>,
    /// Each way on which one crossed.
    pub findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub further_findings: u64,
    /// Calls whose bytes or names were looked at.
    pub calls: u64,
    /// Bytes that were looked at.
    pub bytes: u64,
    /// How often something could not be looked at: then nothing is proven.
    pub unread: u64,
    /// The exit code that the run would have had without canaries.
    pub exit_code: Option<u8>,
}

/// One way on which a secret crossed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The secret's name.
    pub canary: String,
    /// Its form.
    pub form: Form,
    /// The system call, or `argument`, `environment`, `file content`.
    pub call: String,
    /// Where it went.
    pub to: String,
    /// Where it began at the first time: bytes since the first one that was written there.
    pub offset: u64,
    /// The program.
    pub program: String,
    /// Its thread; 0 where there is none.
    pub pid: i32,
    /// How often.
    pub times: u64,
}

/// Where a hit was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) call: &'static str,
    pub(super) to: &'a str,
    pub(super) offset: u64,
    pub(super) program: &'a str,
    pub(super) pid: i32,
}

impl Report {
    pub(super) fn new(canaries: usize) -> Self {
        Self {
            canaries,
            crossed: BTreeSet::new(),
            findings: Vec::new(),
            further_findings: 0,
            calls: 0,
            bytes: 0,
            unread: 0,
            exit_code: None,
        }
    }

    /// True if a secret crossed.
    pub fn has_crossed(&self) -> bool {
        !self.crossed.is_empty()
    }

    pub(super) fn add(&mut self, canaries: &Canaries, hit: &Hit, found: Found<'_>) {
        let shown = |text: &str| if canaries.are_in(text.as_bytes()) { HIDDEN.to_owned() } else { text.to_owned() };
        let (canary, to, program) = (canaries.name(hit.canary), shown(found.to), shown(found.program));
        self.crossed.insert(canary.to_owned());
        let same = |known: &&mut Finding| {
            known.canary == canary && known.form == hit.form && known.call == found.call && known.to == to
        };
        if let Some(known) = self.findings.iter_mut().find(same) {
            known.times += 1;
            return;
        }
        if self.findings.len() >= MAX_FINDINGS {
            self.further_findings += 1;
            return;
        }
        let Found { call, offset, pid, .. } = found;
        say(format_args!(
            "canary {canary:?} crossed the border: {} in {call} to {to}, offset {offset}, by {program} (pid {pid})",
            hit.form
        ));
        self.findings.push(Finding {
            canary: canary.to_owned(),
            form: hit.form,
            call: call.to_owned(),
            to,
            offset,
            program,
            pid,
            times: 1,
        });
    }

    pub(super) fn unread(&mut self, why: &str) {
        self.unread += 1;
        if self.unread == 1 {
            say(format_args!("warning: canaries: {why}; what left there is not known"));
        }
    }

    /// The line at the end of a run.
    pub fn summary(&self) -> String {
        let Self { canaries, crossed, calls, bytes, unread, .. } = self;
        let blind = if *unread > 0 { format!("; {unread} times nothing could be seen") } else { String::new() };
        format!(
            "{} of {canaries} secrets crossed the border in clear ({calls} calls, {bytes} bytes looked at{blind})",
            crossed.len()
        )
    }
}
