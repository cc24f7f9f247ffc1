//! `manifest plan`: what an update would do to a deployment, and whether it would be refused.
//!
//! JSON:
//!
//! ```text
//! {"runningSignature": text, "updateSignature": text, "refused": boolean, "findings": as `manifest check`,
//!  "plan": null if refused, else {
//!    "kind": "packages" | "full", "breaks": boolean,
//!    "changes": [{"place": text, "change": "added" | "removed" | "changed", "from": text or null, "to": text or null}],
//!    "access": [{"holder": "user" | "marble", "name": text, "change": "gained" | "lost", "access": text,
//!                "resource": text or null}],
//!    "secrets": [{"name": text, "fate": text}],
//!    "reissued": [{"certificate": "intermediate" | "marble-root" | "secret", "secret": text or null}],
//!    "consequences": [{"code": text, "breaks": boolean, "place": text, "text": text}],
//!    "approval": {"needed": number, "users": [text]}},
//!  "pending": null or {"updateSignature": text, "agreedUsers": [text] or null, "missingUsers": [text]},
//!  "coordinator": {...} or null}
//! ```
//!
//! Beside a pending update every other one is refused; the pending one itself is planned for those who must decide on it,
//! and `agreedUsers` is `null` unless it is that.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use marblerun_client::{Client, PendingUpdate};
use marblerun_coordinator_core::parameters::{CompiledParameters, UsedSecrets as Uses};
use marblerun_manifest::plan::{Fate, Holder, Plan, Reissued, SecretUses, UsedSecrets, logged_security_versions};
use marblerun_manifest::{Manifest, Place, UpdateKind, fingerprint};
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::plan::PlanArguments;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::findings::{self, Finding, Findings, Severity};
use crate::manifest_file::ManifestFile;
use crate::output::Output;
use crate::trust;

/// Longest update log that is read from a file, in bytes.
const MAX_LOG_BYTES: usize = 64 * 1024 * 1024;

/// HTTP status of the Coordinator's answer if no update is pending.
const NOT_FOUND: u16 = 404;

/// What is known about the deployment.
struct Running {
    /// The manifest as it was set.
    manifest: Vec<u8>,
    /// The security versions that package updates set since.
    versions: BTreeMap<String, u64>,
    /// An update that waits for users to agree.
    pending: Option<PendingUpdate>,
    /// What is known about the Coordinator.
    coordinator: Value,
}

pub(crate) fn run(global: &Global, arguments: &PlanArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let file = ManifestFile::read(&arguments.manifest)?;
    let running = match (&arguments.running, &arguments.coordinator) {
        (Some(path), _) => from_files(path, arguments.updates.as_deref(), output)?,
        (None, Some(address)) => from_coordinator(global, address, output)?,
        (None, None) => return Err(Cause::Flags("expected IP:PORT or --running, got neither").into()),
    };
    let (mut findings, plan) = plan(&file, &running)?;
    findings.locate_in(&file.source);
    if output.is_json() {
        output.json(&to_json(&file, &running, &findings, plan.as_ref()))?;
    } else {
        match &plan {
            None => print_refusal(&arguments.manifest, &findings, output)?,
            Some(plan) => {
                findings.warn(&arguments.manifest, output)?;
                print(&file, &running, plan, output)?;
            }
        }
    }
    Ok(match plan {
        None => ExitStatus::Findings,
        Some(plan) if plan.breaks() => ExitStatus::Breaks,
        Some(_) => ExitStatus::Success,
    })
}

fn from_files(manifest: &Path, log: Option<&Path>, output: &mut Output) -> Result<Running, Failure> {
    let file = ManifestFile::read(manifest)?;
    file.show_notes(output)?;
    let versions = match log {
        None => BTreeMap::new(),
        Some(path) => {
            let text = files::read("update log", path, MAX_LOG_BYTES)?;
            versions(String::from_utf8_lossy(&text).lines(), path)?
        }
    };
    Ok(Running { manifest: file.bytes, versions, pending: None, coordinator: Value::Null })
}

fn from_coordinator(global: &Global, address: &str, output: &mut Output) -> Result<Running, Failure> {
    trust::block_on(async {
        let coordinator = trust::attest(global, address, output).await?;
        output.step(match coordinator.is_attested() {
            true => "Successfully verified Coordinator, now requesting manifest and update log",
            false => "Requesting manifest and update log",
        })?;
        let client = coordinator.client()?;
        let manifest = client.manifest().await?.manifest;
        let log = client.update_log().await?;
        let versions = versions(log.iter().map(|entry| entry.text.as_str()), Path::new("of the Coordinator"))?;
        let pending = pending_update(&client).await?;
        coordinator.write_cache(global, &fingerprint(&manifest))?;
        Ok(Running { manifest, versions, pending, coordinator: coordinator.to_json() })
    })
}

async fn pending_update(client: &Client) -> Result<Option<PendingUpdate>, Failure> {
    match client.pending_update().await {
        Ok(pending) => Ok(Some(pending)),
        Err(error) if error.status() == Some(NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn versions<'a>(lines: impl IntoIterator<Item = &'a str>, path: &Path) -> Result<BTreeMap<String, u64>, Cause> {
    logged_security_versions(lines).map_err(|source| Cause::UpdateLog { path: path.to_owned(), source })
}

/// The plan, or the findings for which the Coordinator would refuse the update.
fn plan(file: &ManifestFile, running: &Running) -> Result<(Findings, Option<Plan>), Cause> {
    let mut old = Manifest::decode(&running.manifest)
        .map_err(|error| Cause::RunningManifest(findings::without_position(&error)))?;
    old.apply_security_versions(&running.versions);
    let mut findings = Findings::of_file(&file.notes);
    let new = match Manifest::decode(&file.bytes) {
        Ok(new) => new,
        Err(error) => {
            findings.0.push(findings::undecodable(&error));
            return Ok((findings, None));
        }
    };
    if new.update_kind() == UpdateKind::Full {
        findings = Findings::of(&file.bytes, &file.notes);
        findings.try_out(&file.bytes);
    }
    if let Some(pending) = running.pending.as_ref().filter(|pending| pending.manifest != file.bytes) {
        let message = format!("another update is pending: {}", fingerprint(&pending.manifest));
        let hint = "`marblerun manifest update get` shows it, acknowledge or cancel it first";
        findings.0.push(Finding::error(Place::top(), message, Some(hint.to_owned())));
    }
    // With an error of the check, a plan would only say the same once more.
    if findings.count(Severity::Error) > 0 {
        return Ok((findings, None));
    }
    match Plan::make((&old, &uses(&old)), (&new, &uses(&new))) {
        Ok(plan) => Ok((findings, Some(plan))),
        Err(refusal) => {
            findings.0.push(Finding::error(refusal.place(), refusal.to_string(), refusal.hint()));
            Ok((findings, None))
        }
    }
}

/// The secrets that each Marble's templates and TLS tags can look at. Where that cannot be told, all of them.
fn uses(manifest: &Manifest) -> SecretUses {
    let uses = manifest.marbles.iter().map(|(name, marble)| {
        let compiled = CompiledParameters::compile(manifest, marble).ok();
        let used = |uses: fn(&CompiledParameters) -> &Uses| match compiled.as_ref().map(uses) {
            Some(uses) if !uses.is_all() => {
                let names = uses.names().filter(|name| manifest.secrets.contains_key(*name));
                names.map(str::to_owned).collect()
            }
            _ => manifest.secrets.keys().cloned().collect(),
        };
        let current = used(CompiledParameters::used_secrets);
        (name.clone(), UsedSecrets { current, previous: used(CompiledParameters::used_previous_secrets) })
    });
    uses.collect()
}

fn print_refusal(path: &Path, findings: &Findings, output: &mut Output) -> io::Result<()> {
    findings.print(path, output)?;
    output.line("The Coordinator would refuse this update.")
}

fn print(file: &ManifestFile, running: &Running, plan: &Plan, output: &mut Output) -> io::Result<()> {
    let Running { manifest, pending, .. } = running;
    let running = fingerprint(manifest);
    output.line(&match plan.kind {
        UpdateKind::PackageOnly => format!("Update of packages of the manifest {running}"),
        UpdateKind::Full => format!("Update of the manifest {running} to {}", file.signature()),
    })?;
    section("Changes", plan.difference.changes.iter().map(ToString::to_string).collect(), output)?;
    section("Access", plan.difference.access.iter().map(ToString::to_string).collect(), output)?;
    let (kept, others): (Vec<_>, Vec<_>) = plan.secrets.iter().partition(|secret| secret.fate == Fate::Kept);
    let mut secrets: Vec<String> = others.into_iter().map(ToString::to_string).collect();
    if !kept.is_empty() {
        secrets.push(format!("{} with kept value", findings::plural(kept.len(), "secret")));
    }
    section("Secrets", secrets, output)?;
    section("Made anew", plan.reissued.iter().map(ToString::to_string).collect(), output)?;
    let (breaks, notes): (Vec<_>, Vec<_>) = plan.consequences.iter().partition(|consequence| consequence.code.breaks());
    section("Breaks", breaks.into_iter().map(ToString::to_string).collect(), output)?;
    section("Also", notes.into_iter().map(ToString::to_string).collect(), output)?;
    section("Agreement", vec![plan.approval.to_string()], output)?;
    match &pending {
        Some(pending) => section("Pending", decisions(pending, plan), output),
        None => Ok(()),
    }
}

/// Who may agree and has done so. The plan must be that of the pending update.
fn agreed<'a>(pending: &'a PendingUpdate, plan: &'a Plan) -> impl Iterator<Item = &'a String> {
    plan.approval.users.iter().filter(|user| !pending.missing_users.contains(user))
}

/// How far the pending update is.
fn decisions(pending: &PendingUpdate, plan: &Plan) -> Vec<String> {
    let quoted = |name: &String| format!("{name:?}");
    let agreed: Vec<String> = agreed(pending, plan).map(quoted).collect();
    let missing: Vec<String> = pending.missing_users.iter().map(quoted).collect();
    let still_needed = plan.approval.needed.saturating_sub(agreed.len() as u64);
    vec![
        format!("has agreed: {}", agreed.join(", ")),
        format!("{still_needed} more must agree, of: {}", missing.join(", ")),
    ]
}

/// A title and its lines, or `none`.
fn section(title: &str, lines: Vec<String>, output: &mut Output) -> io::Result<()> {
    if lines.is_empty() {
        return output.line(&format!("{title}: none"));
    }
    output.line(&format!("{title}:"))?;
    lines.iter().try_for_each(|line| output.line(&format!("  {line}")))
}

fn to_json(file: &ManifestFile, running: &Running, findings: &Findings, plan: Option<&Plan>) -> Value {
    json!({
        "runningSignature": fingerprint(&running.manifest),
        "updateSignature": file.signature(),
        "refused": plan.is_none(),
        "findings": findings.to_json(),
        "plan": plan.map(plan_to_json),
        "pending": running.pending.as_ref().map(|pending| json!({
            "updateSignature": fingerprint(&pending.manifest),
            "agreedUsers": plan.map(|plan| agreed(pending, plan).collect::<Vec<_>>()),
            "missingUsers": pending.missing_users,
        })),
        "coordinator": running.coordinator,
    })
}

fn plan_to_json(plan: &Plan) -> Value {
    use marblerun_manifest::plan::ChangeKind;
    let changes = plan.difference.changes.iter().map(|change| {
        let (from, to) = match &change.kind {
            ChangeKind::Changed { from, to } => (from.as_deref(), to.as_deref()),
            ChangeKind::Added | ChangeKind::Removed => (None, None),
        };
        json!({"place": change.place.as_str(), "change": change.kind.as_str(), "from": from, "to": to})
    });
    let access = plan.difference.access.iter().map(|change| {
        let (holder, name) = match &change.holder {
            Holder::User(name) => ("user", name),
            Holder::Marble(name) => ("marble", name),
        };
        json!({
            "holder": holder,
            "name": name,
            "change": change.direction.as_str(),
            "access": change.access.as_str(),
            "resource": (!change.resource.is_empty()).then_some(&change.resource),
        })
    });
    let reissued = plan.reissued.iter().map(|certificate| match certificate {
        Reissued::Intermediate => json!({"certificate": "intermediate", "secret": null}),
        Reissued::MarbleRoot => json!({"certificate": "marble-root", "secret": null}),
        Reissued::Secret(name) => json!({"certificate": "secret", "secret": name}),
    });
    json!({
        "kind": match plan.kind {
            UpdateKind::PackageOnly => "packages",
            UpdateKind::Full => "full",
        },
        "breaks": plan.breaks(),
        "changes": changes.collect::<Vec<_>>(),
        "access": access.collect::<Vec<_>>(),
        "secrets": plan.secrets.iter().map(|secret| json!({"name": secret.name, "fate": secret.fate.as_str()}))
            .collect::<Vec<_>>(),
        "reissued": reissued.collect::<Vec<_>>(),
        "consequences": plan.consequences.iter().map(|consequence| json!({
            "code": consequence.code.as_str(),
            "breaks": consequence.code.breaks(),
            "place": consequence.place.as_str(),
            "text": consequence.text,
        })).collect::<Vec<_>>(),
        "approval": {"needed": plan.approval.needed, "users": plan.approval.users},
    })
}
