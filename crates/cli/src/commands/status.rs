//! `status`: what the Coordinator is ready for.
//!
//! JSON: `{"code": number, "message": text, "trustClass": text or null, "coordinator": {...}}`.

use serde_json::json;

use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::trust;

pub(crate) fn run(global: &Global, address: &str, output: &mut Output) -> Result<ExitStatus, Failure> {
    trust::block_on(async {
        let coordinator = trust::known(global, address, output).await?;
        let status = coordinator.client()?.status().await?;
        if output.is_json() {
            output.json(&json!({
                "code": status.code,
                "message": status.message,
                "trustClass": status.trust_class,
                "coordinator": coordinator.to_json(),
            }))?;
        } else {
            output.line(&format!("{}: {}", status.code, status.message))?;
        }
        Ok(ExitStatus::Success)
    })
}
