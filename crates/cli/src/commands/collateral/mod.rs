//! `collateral`: the vendor's data with which quotes are verified, carried in bundles.
//!
//! JSON of `show`: `{"platforms": [PLATFORM], "expires": text or null}`, where PLATFORM is `{"file": text, "tee": text, "fmspc":
//! text, "ca": text, "verified": bool, "root": text or null, "reason": text or null, "items": [{"item": text, "issued": text
//! or null, "nextUpdate": text or null}], "evaluationNumbers": {"tcbInfo": number or null, "qeIdentity": number or null},
//! "tcbLevels": number, "newestTcbDate": text or null, "expires": text or null}`. Dates are RFC 3339 in UTC; `expires` is the
//! first date after which something is out of date, of everything that verifies. `fetch` and `export` give the same with
//! `"collateral"`, the text of the bundle file, in each platform, and `"file"` is the name that it has in a bundle.

mod archive;
mod contents;
mod export;
mod fetch;
mod show;
mod stored;
mod tool_file;

use std::path::Path;

use marblerun_attestation::{PlatformId, TrustRoots, TrustedCollateral};
use marblerun_collateral::{ProofError, file_name, prove};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::collateral::CollateralCommand;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::output::Output;
use contents::Contents;

/// Where in a bundle the files are.
const SUBDIRECTORY: &str = "dcap";

pub(crate) fn run(global: &Global, command: &CollateralCommand, output: &mut Output) -> Result<ExitStatus, Failure> {
    match command {
        CollateralCommand::Fetch(arguments) => fetch::run(global, arguments, output),
        CollateralCommand::Show { paths, .. } => show::run(global, paths, output),
        CollateralCommand::Export(arguments) => export::run(global, arguments, output),
    }
}

/// Collateral of a platform, and what a verifier says about it.
struct Entry {
    platform: PlatformId,
    /// Where it came from, for people.
    place: String,
    text: Vec<u8>,
    verdict: Result<TrustedCollateral, ProofError>,
    contents: Contents,
}

impl Entry {
    fn new(platform: PlatformId, place: String, text: Vec<u8>, roots: &TrustRoots, now: UnixTime) -> Self {
        let verdict = prove(&text, &platform, roots, now);
        let contents = Contents::read(&text);
        Self { platform, place, text, verdict, contents }
    }

    /// True if the place is a file for this platform alone.
    fn is_own_file(&self) -> bool {
        stored::has_name_of_bundle(Path::new(&self.place))
    }

    /// The last second in which all of it may be used; `None` if it does not verify.
    fn expires(&self) -> Option<UnixTime> {
        self.verdict.as_ref().ok().map(TrustedCollateral::expires)
    }

    /// Fails unless it verifies.
    fn require_verified(&self) -> Result<(), Cause> {
        match &self.verdict {
            Ok(_) => Ok(()),
            Err(error) => Err(Cause::Collateral { place: self.place.clone(), source: error.clone() }),
        }
    }

    fn show(&self, output: &mut Output) -> std::io::Result<()> {
        output.line(&format!("{} from {}", self.platform, self.place))?;
        match &self.verdict {
            Ok(trusted) => {
                let class = trusted.trust_class().name();
                output.line(&format!("  verified under {} ({class} root)", trusted.root().name()))?;
            }
            Err(error) => output.line(&format!("  NOT VERIFIED: {}", chain(error)))?,
        }
        self.contents.show(output)?;
        match self.expires() {
            Some(expires) => output.line(&format!("  valid until {}", date(expires))),
            None => Ok(()),
        }
    }

    fn to_json(&self) -> Value {
        let verified = self.verdict.as_ref().ok();
        let mut value = self.contents.to_json();
        let members = [
            ("file", json!(self.place)),
            ("tee", json!(self.platform.tee.name())),
            ("fmspc", json!(self.platform.fmspc.to_string())),
            ("ca", json!(self.platform.ca.name())),
            ("verified", json!(verified.is_some())),
            ("root", json!(verified.map(|trusted| trusted.root().name()))),
            ("reason", json!(self.verdict.as_ref().err().map(|error| chain(error)))),
            ("expires", json!(self.expires().map(date))),
        ];
        for (name, member) in members {
            value[name] = member;
        }
        value
    }

    fn to_json_with_text(&self) -> Value {
        let mut value = self.to_json();
        value["file"] = json!(format!("{SUBDIRECTORY}/{}", file_name(&self.platform)));
        value["collateral"] = json!(String::from_utf8_lossy(&self.text));
        value
    }
}

/// The earliest date at which something of `entries` is out of date.
fn earliest<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<UnixTime> {
    entries.into_iter().filter_map(Entry::expires).min()
}

/// Puts collateral into the bundle `directory`; what is there for the same platform is replaced.
fn write(directory: &Path, entries: &[Entry]) -> Result<(), Cause> {
    for entry in entries {
        let path = directory.join(SUBDIRECTORY).join(file_name(&entry.platform));
        files::publish("collateral", &path, &entry.text)?;
    }
    Ok(())
}

/// What was done, in the end.
fn summary(done: &str, entries: &[Entry], output: &mut Output) -> std::io::Result<()> {
    let Some(expires) = earliest(entries) else { return Ok(()) };
    let files = if entries.len() == 1 { "1 file".to_owned() } else { format!("{} files", entries.len()) };
    output.line(&format!("{done}: {files}, all valid until {}", date(expires)))
}

/// An error with everything behind it in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// RFC 3339 in UTC.
fn date(time: UnixTime) -> String {
    x509_cert::der::DateTime::from_unix_duration(std::time::Duration::from_secs(time.as_secs()))
        .map_or_else(|_| format!("second {}", time.as_secs()), |date| date.to_string())
}
