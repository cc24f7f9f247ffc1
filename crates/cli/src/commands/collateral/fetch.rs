//! `collateral fetch`: from a service into a bundle.

use std::collections::BTreeSet;

use marblerun_attestation::{MAX_QUOTE_BYTES, PckCa, PlatformId, Quote, Tee};
use marblerun_client::{Address, Coordinator, NonceChoice, QuoteExchange, Timeouts};
use marblerun_collateral::{Client, ClientOptions, Qcnl, file_name};
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::{Entry, SUBDIRECTORY, date, earliest, summary, write};
use crate::args::Global;
use crate::args::collateral::FetchArguments;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::output::Output;
use crate::trust::{block_on, roots};

pub(super) fn run(global: &Global, arguments: &FetchArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    // Everything that can be wrong with flags and files comes before the first packet.
    let roots = roots(&global.trust_software_root)?;
    let client = Client::new(client_options(global, arguments)?);
    let mut platforms = named_platforms(arguments)?;

    let entries = block_on(async {
        if let Some(address) = &arguments.of {
            let exchange = ask_for_quote(global, address).await?;
            let quote = exchange.answer.quote.ok_or_else(|| Cause::NoQuote { address: address.clone() })?;
            platforms.insert(platform_of(&quote, address)?);
        }
        let mut entries = Vec::with_capacity(platforms.len());
        for platform in platforms {
            output.step(&format!("Fetching collateral of {platform} from {}", client.base_url()))?;
            let text = client.fetch(&platform).await.map_err(|source| Cause::Fetch { platform, source })?;
            let entry = Entry::new(platform, client.base_url().to_string(), text, &roots, UnixTime::now());
            // Where one cannot be had, the others are not written either: a bundle is complete or old.
            entry.require_verified()?;
            entries.push(entry);
        }
        Ok(entries)
    })?;

    let Some(directory) = arguments.directory() else {
        let platforms: Vec<_> = entries.iter().map(Entry::to_json_with_text).collect();
        output.json(&json!({"platforms": platforms, "expires": earliest(&entries).map(date)}))?;
        return Ok(ExitStatus::Success);
    };
    write(directory, &entries)?;
    for entry in &entries {
        output.line(&format!("{}", directory.join(SUBDIRECTORY).join(file_name(&entry.platform)).display()))?;
        entry.show(output)?;
    }
    summary("fetched", &entries, output)?;
    Ok(ExitStatus::Success)
}

fn client_options(global: &Global, arguments: &FetchArguments) -> Result<ClientOptions, Cause> {
    let mut options = match (&arguments.url, &arguments.qcnl) {
        (Some(url), _) => ClientOptions::new(url.clone()),
        (None, Some(path)) => Qcnl::read(path)?.client_options(),
        (None, None) => return Err(Cause::Flags("expected --url or --qcnl")),
    };
    options.timeout = options.timeout.min(global.timeout());
    Ok(options)
}

fn named_platforms(arguments: &FetchArguments) -> Result<BTreeSet<PlatformId>, Cause> {
    let mut platforms = BTreeSet::new();
    for path in &arguments.quote {
        let quote = files::read("quote", path, MAX_QUOTE_BYTES)?;
        platforms.insert(platform_of(&quote, &path.display().to_string())?);
    }
    let authorities = match arguments.ca {
        Some(ca) => vec![PckCa::from(ca)],
        None => vec![PckCa::Processor, PckCa::Platform],
    };
    for fmspc in &arguments.fmspc {
        platforms.extend(authorities.iter().map(|&ca| PlatformId { tee: Tee::Sgx, fmspc: *fmspc, ca }));
    }
    Ok(platforms)
}

/// The platform that a quote claims to be of.
fn platform_of(quote: &[u8], origin: &str) -> Result<PlatformId, Cause> {
    let quote = Quote::parse(quote).map_err(|source| Cause::QuoteFile { origin: origin.to_owned(), source })?;
    quote.unverified_platform().map_err(|source| Cause::QuotePlatform { origin: origin.to_owned(), source })
}

/// Asks a Coordinator for its quote. Nothing of the answer is believed: collateral proves itself, and the platform is only
/// what somebody asks for.
pub(super) async fn ask_for_quote(global: &Global, address: &str) -> Result<QuoteExchange, Failure> {
    let timeouts = Timeouts { total: global.timeout(), ..Timeouts::default() };
    let coordinator = Coordinator::new(Address::parse(address)?, timeouts);
    Ok(coordinator.dangerous_fetch_unverified(NonceChoice::Fresh, UnixTime::now()).await?)
}
