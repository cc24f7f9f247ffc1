//! `manifest log`: what changed the deployment.
//!
//! JSON: `{"updateLog": [the events, each an object as it stands in the log], "coordinator": {...}}`.

use serde_json::{Value, json};

use crate::args::{Global, OutputFlag};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::{files, trust};

pub(crate) fn run(
    global: &Global,
    address: &str,
    target: &OutputFlag,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    trust::block_on(async {
        let coordinator = trust::known(global, address, output).await?;
        output.step("Requesting update log")?;
        let log = coordinator.client()?.update_log().await?;
        let lines: Vec<&str> = log.iter().map(|entry| entry.text.as_str()).collect();
        if output.is_json() {
            let events: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            output.json(&json!({"updateLog": events, "coordinator": coordinator.to_json()}))?;
        } else if let Some(file) = target.file() {
            files::write("update log", file, lines.join("\n").as_bytes())?;
            output.line(&format!("Update log written to {}", file.display()))?;
        } else {
            output.line("Update log:")?;
            lines.iter().try_for_each(|line| output.line(line))?;
        }
        Ok(ExitStatus::Success)
    })
}
