//! From flags to a Coordinator that can be talked to.

use std::future::Future;
use std::path::{Path, PathBuf};

use marblerun_attestation::{Claims, TcbStatus, TrustClass, TrustRoots};
use marblerun_client::{
    Address, AttestedCoordinator, CertificateChain, Client, CollateralSource, Coordinator, EraConfig, Evidence,
    MAX_ERA_CONFIG_BYTES, NonceChoice, Policy, Statement, Timeouts,
};
use marblerun_collateral::Bundle;
use marblerun_pki::pem::{self, PemError};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::args::Global;
use crate::cache;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::head;
use crate::output::Output;
use crate::profile;

/// Files that are looked for where no era config is given, in this order.
const ERA_CONFIGS: [&str; 2] = ["era-config.json", "coordinator-era.json"];
const MAX_ROOT_BYTES: usize = 64 * 1024;
/// Evidence holds a quote and collateral, together below 100 KiB.
const MAX_EVIDENCE_BYTES: usize = 1024 * 1024;
/// A status that old files name; no verdict has it.
const UNKNOWN_STATUS: &str = "Unknown";

/// Why the certificates of a Coordinator are believed.
pub(crate) enum Trust {
    /// Its quote was verified just now.
    Attested(Box<AttestedCoordinator>),
    /// They were verified before.
    Cached,
    /// They are not: `--insecure`.
    Nothing,
}

/// A Coordinator whose certificates are known.
pub(crate) struct Known {
    pub(crate) chain: CertificateChain,
    pub(crate) trust: Trust,
    address: Address,
    timeouts: Timeouts,
}

impl Known {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::pinned_to(self.address.clone(), self.chain.root(), self.timeouts)?)
    }

    /// Keeps the certificates, and the state with the manifest of this fingerprint, for later commands, where that is
    /// right.
    pub(crate) fn write_cache(&self, global: &Global, manifest: &str) -> Result<(), Cause> {
        match &self.trust {
            Trust::Attested(attested) => {
                cache::write(global, &self.chain)?;
                head::remember(global, attested.statement(), manifest)
            }
            Trust::Cached => Ok(()),
            Trust::Nothing => cache::write_unverified(global, &self.chain),
        }
    }

    /// True if the quote was verified just now.
    pub(crate) fn is_attested(&self) -> bool {
        matches!(self.trust, Trust::Attested(_))
    }

    /// `{"trust": "hardware" | "software" | "cached" | "none", ...}`: what is known about the Coordinator.
    pub(crate) fn to_json(&self) -> Value {
        let attested = match &self.trust {
            Trust::Attested(attested) => attested,
            Trust::Cached => return json!({"trust": "cached"}),
            Trust::Nothing => return json!({"trust": "none"}),
        };
        let report = attested.report();
        let Claims::Sgx(sgx) = report.claims() else { return json!({"trust": report.trust_class().name()}) };
        json!({
            "trust": report.trust_class().name(),
            "root": report.root_name(),
            "tcbStatus": report.tcb_status().as_str(),
            "advisories": report.advisories(),
            "debug": report.is_debug(),
            "uniqueID": hex::encode(sgx.mr_enclave),
            "signerID": hex::encode(sgx.mr_signer),
            "productID": sgx.isv_prod_id,
            "securityVersion": sgx.isv_svn,
            "statement": attested.statement().map(|statement| json!({
                "deployment": statement.deployment,
                "trustClass": statement.trust_class,
                "rootHashes": statement.root_hashes,
                "anchor": statement.anchor,
                "manifestFingerprint": statement.manifest_fingerprint,
                "maxCollateralAgeSeconds": statement.max_collateral_age_seconds,
                "logHead": statement.log_head.as_ref().map(|head| json!({
                    "epoch": head.epoch,
                    "sequence": head.sequence,
                    "hash": head.hash,
                })),
            })),
        })
    }
}

/// Runs calls to a Coordinator.
pub(crate) fn block_on<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Cause::Runtime)?;
    let outcome = runtime.block_on(call);
    // A resolver that hangs past the time limit is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Fetches and verifies the Coordinator's quote, and that its state does not lie behind the remembered one. With
/// `--insecure` only fetches.
pub(crate) async fn attest(global: &Global, address: &str, output: &mut Output) -> Result<Known, Failure> {
    let known = attest_for_recovery(global, address, output).await?;
    if let Trust::Attested(attested) = &known.trust {
        match (&global.profile, attested.statement()) {
            (Some(_), _) => profile::pin(global, attested, output)?,
            (None, Some(statement)) => head::advance(global, statement, output)?,
            (None, None) => {}
        }
    }
    Ok(known)
}

/// The same for commands that compare the state with the remembered one themselves.
pub(crate) async fn attest_for_recovery(global: &Global, address: &str, output: &mut Output) -> Result<Known, Failure> {
    let address = Address::parse(address)?;
    // Everything that can be wrong with the flags comes before the first packet.
    let policy = if global.insecure { None } else { Some(policy(global)?) };
    let timeouts = Timeouts { total: global.timeout(), ..Timeouts::default() };
    let coordinator = Coordinator::new(address.clone(), timeouts);
    let nonce = match &global.nonce {
        Some(nonce) => NonceChoice::Given(nonce.clone().into_bytes()),
        None => NonceChoice::Fresh,
    };
    let now = UnixTime::now();
    let (chain, quote, trust) = match &policy {
        None => {
            output.note("Warning: skipping quote verification (--insecure): anybody may answer at this address")?;
            let fetched = coordinator.dangerous_fetch_unverified(nonce, now).await?;
            (fetched.chain, fetched.answer.quote.unwrap_or_default(), Trust::Nothing)
        }
        Some(policy) => {
            let attested = coordinator.attest(policy, nonce, now).await?;
            show_notes(&attested, output)?;
            (attested.chain().clone(), attested.quote().to_vec(), Trust::Attested(Box::new(attested)))
        }
    };
    if let Some(path) = &global.save_sgx_quote {
        files::write("quote", path, &quote)?;
    }
    Ok(Known { chain, trust, address, timeouts })
}

/// Verifies evidence that was saved to a file.
pub(crate) fn verify_evidence(
    global: &Global,
    path: &Path,
    output: &mut Output,
) -> Result<AttestedCoordinator, Failure> {
    let text = files::read("evidence", path, MAX_EVIDENCE_BYTES)?;
    let evidence = Evidence::parse(&text).map_err(|source| Cause::Evidence { path: path.to_owned(), source })?;
    let attested = evidence.verify(&path.display().to_string(), &policy(global)?, UnixTime::now())?;
    show_notes(&attested, output)?;
    Ok(attested)
}

/// A Coordinator that was verified before: the cached root. Without a cache, or with `--era-config`, it is attested.
pub(crate) async fn known(global: &Global, address: &str, output: &mut Output) -> Result<Known, Failure> {
    if global.insecure || global.era_config.is_some() {
        return attest(global, address, output).await;
    }
    let parsed = Address::parse(address)?;
    let path = cache::path(global)?;
    let Some(chain) = cache::read(&path, UnixTime::now())? else {
        if find_era_config(global).is_none() {
            return Err(Cause::NoCache { path }.into());
        }
        return attest(global, address, output).await;
    };
    let timeouts = Timeouts { total: global.timeout(), ..Timeouts::default() };
    Ok(Known { chain, trust: Trust::Cached, address: parsed, timeouts })
}

fn show_notes(attested: &AttestedCoordinator, output: &mut Output) -> std::io::Result<()> {
    let admission = attested.admission();
    if admission.trust_class == TrustClass::Software {
        let root = attested.report().root_name();
        output.note(&format!(
            "Warning: the Coordinator's evidence is of class software (root {root}): no hardware protects it"
        ))?;
    }
    if admission.tcb_status != TcbStatus::UpToDate {
        output.note(&format!("Note: accepted TCB status {} of the platform", admission.tcb_status.as_str()))?;
        if !admission.advisories.is_empty() {
            output.note(&format!("Note: advisories of the platform: {}", admission.advisories.join(", ")))?;
        }
    }
    if let Some(warning) = attested.statement().and_then(aged_collateral) {
        output.note(&warning)?;
    }
    attested.warnings().iter().try_for_each(|warning| output.note(&format!("Warning: {warning}")))
}

/// What weakens the Coordinator's own verification of Marbles, as its image allows.
fn aged_collateral(statement: &Statement) -> Option<String> {
    let seconds = statement.max_collateral_age_seconds.filter(|&seconds| seconds > 0)?;
    let days = seconds.div_ceil(24 * 60 * 60);
    Some(format!(
        "Warning: the Coordinator accepts Marbles by collateral that expired up to {days} days ago (MaxCollateralAgeDays of \
         its image): what the vendor published since about their platforms may be unknown to it"
    ))
}

fn policy(global: &Global) -> Result<Policy, Cause> {
    let path = find_era_config(global).ok_or(Cause::NoEraConfig)?;
    let text = files::read("expected measurements", &path, MAX_ERA_CONFIG_BYTES)?;
    let mut expected = EraConfig::parse(&text).map_err(|source| Cause::EraConfig { path, source })?;
    expected.accepted_tcb_statuses = tcb_statuses(&global.accepted_tcb_statuses)?;
    expected.accepted_advisories = global.accepted_advisories.clone();
    let roots = roots(&global.trust_software_root)?;
    let collateral = match &global.collateral {
        None => CollateralSource::offered(),
        Some(directory) => CollateralSource::directory(Bundle::open(directory, roots.clone())?),
    };
    Ok(Policy { expected, roots, collateral })
}

fn find_era_config(global: &Global) -> Option<PathBuf> {
    match &global.era_config {
        Some(path) => Some(path.clone()),
        None => ERA_CONFIGS.map(PathBuf::from).into_iter().find(|path| path.exists()),
    }
}

/// A word that no verdict has would silently accept nothing, or not what was meant.
fn tcb_statuses(words: &[String]) -> Result<Vec<String>, Cause> {
    let words: Vec<String> = words.iter().filter(|word| !word.is_empty()).cloned().collect();
    let is_known = |word: &str| word == UNKNOWN_STATUS || TcbStatus::ALL.iter().any(|status| status.as_str() == word);
    match words.iter().find(|word| !is_known(word)) {
        None => Ok(words),
        Some(unknown) => {
            Err(Cause::TcbStatus { expected: TcbStatus::ALL.map(TcbStatus::as_str).join(", "), got: unknown.clone() })
        }
    }
}

/// The roots that quotes and collateral are verified under: hardware, or the software roots in these files.
pub(crate) fn roots(paths: &[PathBuf]) -> Result<TrustRoots, Cause> {
    if paths.is_empty() {
        return Ok(TrustRoots::hardware());
    }
    let mut roots = Vec::with_capacity(paths.len());
    for path in paths {
        roots.push((path.display().to_string(), read_root(path)?));
    }
    Ok(TrustRoots::software(roots.iter().map(|(name, der)| (name.as_str(), der.as_slice())))?)
}

/// A root certificate as DER, from a PEM or DER file.
fn read_root(path: &Path) -> Result<Vec<u8>, Cause> {
    let content = files::read("software root", path, MAX_ROOT_BYTES)?;
    let refused = |source| Cause::RootFile { path: path.to_owned(), source };
    match pem::decode_certificates(&content) {
        Ok(mut certificates) => Ok(certificates.swap_remove(0)),
        // DER begins with a SEQUENCE; whether it is a certificate is found out where it is used.
        Err(PemError::NoBlock { .. }) if content.first() == Some(&0x30) => Ok(content),
        Err(error) => Err(refused(error)),
    }
}
