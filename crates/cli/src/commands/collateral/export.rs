//! `collateral export`: what was fetched already, as a bundle.

use std::path::{Path, PathBuf};

use marblerun_attestation::{PlatformId, Quote};
use marblerun_collateral::file_name;
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::{Entry, SUBDIRECTORY, archive, chain, date, earliest, fetch, stored, summary, tool_file, write};
use crate::args::Global;
use crate::args::collateral::ExportArguments;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::output::Output;
use crate::trust::{block_on, roots};

pub(super) fn run(global: &Global, arguments: &ExportArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let roots = roots(&global.trust_software_root)?;
    let found = match &arguments.source {
        source if Path::new(source).exists() => read(Path::new(source))?,
        source if source.contains(':') => vec![block_on(ask(global, source))?],
        _ => {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Cause::Read { what: "collateral", path: PathBuf::from(&arguments.source), source }.into());
        }
    };
    let now = UnixTime::now();
    let mut entries: Vec<Entry> = Vec::new();
    for (platform, place, text) in found {
        let entry = Entry::new(platform, place, text, &roots, now);
        if let Err(error) = &entry.verdict {
            let what = if entry.is_own_file() { entry.place.clone() } else { format!("{platform} in {}", entry.place) };
            output.warn(&format!("{what} is left out: {}", chain(error)))?;
            continue;
        }
        match entries.iter_mut().find(|known| known.platform == platform) {
            None => entries.push(entry),
            Some(known) if known.expires() < entry.expires() => *known = entry,
            Some(_) => {}
        }
    }
    if entries.is_empty() {
        return Err(Cause::NothingToExport { from: arguments.source.clone() }.into());
    }

    let Some(target) = arguments.target() else {
        let platforms: Vec<_> = entries.iter().map(Entry::to_json_with_text).collect();
        output.json(&json!({"platforms": platforms, "expires": earliest(&entries).map(date)}))?;
        return Ok(ExitStatus::Success);
    };
    if target.extension().is_some_and(|extension| extension == "tar") {
        let files =
            entries.iter().map(|entry| (format!("{SUBDIRECTORY}/{}", file_name(&entry.platform)), &entry.text[..]));
        archive::write(target, files, now)?;
    } else {
        write(target, &entries)?;
    }
    entries.iter().try_for_each(|entry| entry.show(output))?;
    summary(&format!("exported to {}", target.display()), &entries, output)?;
    Ok(ExitStatus::Success)
}

type Found = (PlatformId, String, Vec<u8>);

fn read(path: &Path) -> Result<Vec<Found>, Failure> {
    if path.is_file() && !stored::has_name_of_bundle(path) {
        let text = files::read("collateral", path, tool_file::MAX_BYTES)?;
        let found = tool_file::read(&text).map_err(|source| Cause::ToolFile { path: path.to_owned(), source })?;
        let place = path.display().to_string();
        return Ok(found.into_iter().map(|(platform, text)| (platform, place.clone(), text)).collect());
    }
    let mut found = Vec::new();
    for (platform, file) in stored::find(path)? {
        let text = stored::read(&file)?;
        found.push((platform, file.display().to_string(), text));
    }
    Ok(found)
}

/// What a Coordinator sends with its quote.
async fn ask(global: &Global, address: &str) -> Result<Found, Failure> {
    let answer = fetch::ask_for_quote(global, address).await?.answer;
    let quote = answer.quote.ok_or_else(|| Cause::NoQuote { address: address.to_owned() })?;
    let origin = || address.to_owned();
    let quote = Quote::parse(&quote).map_err(|source| Cause::QuoteFile { origin: origin(), source })?;
    let platform = quote.unverified_platform().map_err(|source| Cause::QuotePlatform { origin: origin(), source })?;
    let text = answer.collateral.ok_or_else(|| Cause::NoCollateralWithQuote { address: origin() })?;
    Ok((platform, origin(), text.0))
}
