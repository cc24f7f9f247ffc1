//! `collateral show`: what bundles hold.

use std::path::PathBuf;

use rustls_pki_types::UnixTime;
use serde_json::json;

use super::{Entry, date, earliest, stored};
use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::trust;

pub(super) fn run(global: &Global, paths: &[PathBuf], output: &mut Output) -> Result<ExitStatus, Failure> {
    let roots = trust::roots(&global.trust_software_root)?;
    let now = UnixTime::now();
    let mut entries = Vec::new();
    for path in paths {
        for (platform, file) in stored::find(path)? {
            let text = stored::read(&file)?;
            entries.push(Entry::new(platform, file.display().to_string(), text, &roots, now));
        }
    }
    let expires = earliest(&entries).map(date);
    if output.is_json() {
        let platforms: Vec<_> = entries.iter().map(Entry::to_json).collect();
        output.json(&json!({"platforms": platforms, "expires": expires}))?;
    } else {
        entries.iter().try_for_each(|entry| entry.show(output))?;
        let verified = entries.iter().filter(|entry| entry.verdict.is_ok()).count();
        let until = expires.map(|expires| format!(", valid until {expires}")).unwrap_or_default();
        output.line(&format!("{verified} of {} verified{until}", entries.len()))?;
    }
    Ok(if entries.iter().all(|entry| entry.verdict.is_ok()) { ExitStatus::Success } else { ExitStatus::Findings })
}
