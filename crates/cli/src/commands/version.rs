//! `version`: of this program.
//!
//! JSON: `{"version": text, "commit": text}`.

use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Stamped by the release build.
const COMMIT: &str = match option_env!("MARBLERUN_COMMIT") {
    Some(commit) => commit,
    None => "0000000000000000000000000000000000000000",
};

pub(crate) fn run(output: &mut Output) -> Result<ExitStatus, Failure> {
    if output.is_json() {
        output.json(&json!({"version": VERSION, "commit": COMMIT}))?;
        return Ok(ExitStatus::Success);
    }
    // The blank at the end of the first line is MarbleRun's.
    output.line(&format!("CLI Version: v{VERSION} "))?;
    output.line(&format!("Commit: {COMMIT}"))?;
    Ok(ExitStatus::Success)
}
