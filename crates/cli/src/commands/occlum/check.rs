//! `occlum check`: what is wrong with an instance and with the manifest's entry for it.
//!
//! JSON: `{"directory": text, "marble": text or null, "errors": number, "warnings": number, "notes": number, "findings":
//! [{"rule": text, "severity": "error" | "warning" | "note", "family": text, "file": text, "path": text or null, "reason":
//! text, "fix": text}]}`. `file` is `Occlum.json`, `image`, `manifest`, or a file of the instance directory; `path` is a JSON
//! path, or a path in the image.

use marblerun_enclave_image::check::{Entry, Family, Finding, Severity, check, measured_marble_type};
use marblerun_manifest::Manifest;
use serde_json::{Value, json};

use crate::args::occlum::CheckArguments;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::findings::plural;
use crate::manifest_file::ManifestFile;
use crate::output::{Colour, Output};

/// The manifest that lies beside an instance.
const MANIFEST: &str = "manifest.json";

pub(crate) fn run(arguments: &CheckArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let directory = &arguments.directory;
    let beside = directory.join(MANIFEST);
    let path = arguments.manifest.clone().or_else(|| beside.is_file().then_some(beside));
    if path.is_none() && arguments.marble.is_some() {
        return Err(Cause::Flags("--marble names an entry of a manifest, but there is none: give --manifest").into());
    }
    let manifest = match &path {
        Some(path) => {
            let file = ManifestFile::read(path)?;
            if !output.is_json() {
                file.show_notes(output)?;
            }
            let decoded = Manifest::decode(&file.bytes);
            Some(decoded.map_err(|source| Cause::Manifest { path: path.clone(), source })?)
        }
        None => None,
    };
    // With several entries, the instance says which one is meant.
    let measured = measured_marble_type(directory);
    let entry = match &manifest {
        Some(manifest) => {
            let measured = measured.as_deref().filter(|name| manifest.marbles.contains_key(*name));
            Some(Entry::find(manifest, arguments.marble.as_deref().or(measured))?)
        }
        None => None,
    };
    let findings = check(directory, entry.as_ref())?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    if output.is_json() {
        output.json(&json!({
            "directory": directory.display().to_string(),
            "marble": entry.map(|entry| entry.name()),
            "errors": errors,
            "warnings": warnings,
            "notes": notes,
            "findings": findings.iter().map(to_json).collect::<Value>(),
        }))?;
    } else {
        print(&findings, output)?;
        let against = match entry {
            Some(entry) => format!(", Marble {:?}", entry.name()),
            None => ", without a manifest".to_owned(),
        };
        let counts = [plural(errors, "error"), plural(warnings, "warning"), plural(notes, "note")].join(", ");
        output.line(&format!("{}{against}: {counts}", directory.display()))?;
    }
    Ok(if errors > 0 { ExitStatus::Findings } else { ExitStatus::Success })
}

fn to_json(finding: &Finding) -> Value {
    json!({
        "rule": finding.rule.id(),
        "severity": finding.severity.word(),
        "family": finding.rule.family().title(),
        "file": finding.place.file(),
        "path": finding.place.path(),
        "reason": finding.reason,
        "fix": finding.fix,
    })
}

/// By family: severity, rule and place in a line, then what is wrong, why it matters and what to do.
fn print(findings: &[Finding], output: &mut Output) -> Result<(), Failure> {
    for family in Family::ALL {
        let mut found = findings.iter().filter(|finding| finding.rule.family() == family).peekable();
        if found.peek().is_none() {
            continue;
        }
        output.coloured_line(&[(Some(Colour::Bold), family.title())])?;
        for finding in found {
            let colour = match finding.severity {
                Severity::Error => Colour::Red,
                Severity::Warning => Colour::Yellow,
                Severity::Note => Colour::Cyan,
            };
            let place = format!(" {}  {}", finding.rule.id(), finding.place);
            output.coloured_line(&[(None, "  "), (Some(colour), finding.severity.word()), (None, &place)])?;
            output.line(&format!("    {}", finding.reason))?;
            output.line(&format!("    why: {}", finding.rule.why()))?;
            output.line(&format!("    fix: {}", finding.fix))?;
        }
        output.line("")?;
    }
    Ok(())
}
