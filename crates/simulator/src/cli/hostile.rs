//! `marble-sim hostile`: a run under a host that does harm.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use clap::Args;

use super::{RunArguments, because};
use crate::hostile::Hostile;
use crate::hostile::plan::Plan;
use crate::instance::Instance;
use crate::outcome::Failure;

#[derive(Debug, Args)]
pub(super) struct HostileArguments {
    #[command(flatten)]
    plan: PlanArguments,
    #[command(flatten)]
    run: RunArguments,
}

/// What the host does, and where that is told.
#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// What the host does, and when: a JSON object, described in docs/simulator.md
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Write what was done as lines of JSON [default: on standard error]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl HostileArguments {
    pub(super) fn split(self) -> (PlanArguments, RunArguments) {
        (self.plan, self.run)
    }
}

impl PlanArguments {
    /// The host of this plan.
    pub(super) fn host(&self, instance: &Instance) -> Result<Rc<Hostile>, (Failure, anyhow::Error)> {
        let open = || {
            let plan = Plan::read(&self.plan).with_context(|| format!("plan {}", self.plan.display()))?;
            let report = self
                .report
                .as_ref()
                .map(|file| File::create(file).with_context(|| format!("report {} cannot be written", file.display())));
            let directory = match self.plan.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            anyhow::Ok(Rc::new(Hostile::new(plan, directory, instance.directory(), report.transpose()?)))
        };
        open().map_err(because(Failure::Configuration))
    }
}
