//! `marble-sim run --canaries`: what did the host see?

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use clap::Args;

use super::because;
use crate::border::Border;
use crate::canaries::Canaries;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome};
use crate::supervisor::say;

#[derive(Debug, Args)]
pub(super) struct CanaryArguments {
    /// Look for these planted secrets in all that leaves; the run ends with 207 if one crossed the border
    ///
    /// A JSON object from names to {"text": …}, {"hex": …} or {"base64": …}
    #[arg(long, value_name = "FILE")]
    canaries: Option<PathBuf>,
    /// Write what was found as JSON: calls, places and offsets, never a value
    #[arg(long, value_name = "FILE", requires = "canaries")]
    canary_report: Option<PathBuf>,
}

impl CanaryArguments {
    /// The border to stand at, after a look at what the host gives to the program.
    pub(super) fn border(
        &self,
        instance: &Instance,
        command: &[String],
        environment: &[(OsString, OsString)],
    ) -> Result<Option<Rc<Border>>, (Failure, anyhow::Error)> {
        let Some(file) = &self.canaries else { return Ok(None) };
        let canaries = Canaries::read(file)
            .with_context(|| format!("canaries {}", file.display()))
            .map_err(because(Failure::Configuration))?;
        let mounts = instance.config().mount.iter().filter(|mount| mount.kind == "hostfs");
        let mounts = mounts.map(|mount| PathBuf::from(&mount.target)).collect();
        let border = Border::new(canaries, mounts)
            .context("the standard streams cannot be examined")
            .map_err(because(Failure::System))?;
        let untrusted = &instance.config().env.untrusted;
        let is_given = |name: &OsString| untrusted.iter().any(|allowed| name == allowed.as_str());
        let given: Vec<_> = environment.iter().filter(|(name, _)| is_given(name)).cloned().collect();
        border.look_at_start(command, &given);
        Ok(Some(Rc::new(border)))
    }

    /// Tells what was found, and how the run ends because of it.
    pub(super) fn finish(&self, border: &Border, outcome: Outcome) -> Result<Outcome, (Failure, anyhow::Error)> {
        let mut report = border.finish();
        report.exit_code = Some(outcome.code());
        say(format_args!("canaries: {}", report.summary()));
        if let Some(file) = &self.canary_report {
            let mut json = serde_json::to_vec_pretty(&report).map_err(because(Failure::System))?;
            json.push(b'\n');
            std::fs::write(file, json)
                .with_context(|| format!("canary report {} cannot be written", file.display()))
                .map_err(because(Failure::System))?;
        }
        Ok(if report.has_crossed() { Outcome::Failed(Failure::CanaryCrossed) } else { outcome })
    }
}
