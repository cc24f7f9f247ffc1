//! Judging a Coordinator's quote.

use std::sync::Arc;

use marblerun_api::rest::QuoteAnswer;
use marblerun_attestation::{
    Admission, ClientWarning, Quote, ReportDigest, TrustRoots, VerifiedReport, admit_coordinator, verify,
};
use rustls_pki_types::UnixTime;

use crate::chain::CertificateChain;
use crate::collateral::CollateralSource;
use crate::era_config::EraConfig;
use crate::error::AttestError;
use crate::evidence::Evidence;
use crate::statement::Statement;

/// What a client demands of a Coordinator.
#[derive(Debug)]
pub struct Policy {
    /// The expected measurements and accepted TCB statuses.
    pub expected: EraConfig,
    /// The roots that may stand behind the quote; they have one class.
    pub roots: TrustRoots,
    /// Where collateral comes from. A bundle must have been opened with the same roots.
    pub collateral: CollateralSource,
}

/// A Coordinator whose quote was verified and which is the expected one.
#[derive(Clone, Debug)]
pub struct AttestedCoordinator {
    chain: CertificateChain,
    quote: Vec<u8>,
    report: Arc<VerifiedReport>,
    admission: Admission,
    warnings: Vec<ClientWarning>,
    statement: Option<Statement>,
    evidence: Evidence,
}

impl AttestedCoordinator {
    /// Intermediate and root certificate; the quote vouches for the root, the root for the intermediate.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// The evidence as it came.
    pub fn quote(&self) -> &[u8] {
        &self.quote
    }

    /// Everything that was verified, so that somebody else can verify it again.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What the quote claims.
    pub fn report(&self) -> &VerifiedReport {
        &self.report
    }

    /// The accepted TCB status, advisories and class.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What weakens the check, for the user to see.
    pub fn warnings(&self) -> &[ClientWarning] {
        &self.warnings
    }

    /// What else the quote speaks for; `None` for Coordinators of MarbleRun v1.9.1.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
}

/// Verifies a quote answer: quote, binding of the root certificate and `nonce`, measurements, statement.
///
/// Pure except for reading the collateral directory. `chain` must be the answer's.
///
/// # Errors
///
/// See [`AttestError`].
pub fn verify_answer(
    answer: &QuoteAnswer,
    chain: CertificateChain,
    nonce: &[u8],
    policy: &Policy,
    now: UnixTime,
) -> Result<AttestedCoordinator, AttestError> {
    let evidence = answer.quote.as_deref().filter(|quote| !quote.is_empty()).ok_or(AttestError::NoQuote)?;
    let quote = Quote::parse(evidence).map_err(AttestError::Quote)?;
    let platform = quote.unverified_platform().map_err(AttestError::Platform)?;
    let offered = answer.collateral.as_ref().map(|raw| raw.0.as_slice()).filter(|text| !matches!(*text, b"" | b"null"));
    let collateral = policy.collateral.lookup(&platform, offered, &policy.roots, now)?;
    let report = verify(&quote, &collateral, now).map_err(AttestError::Verify)?;

    if policy.expected.unique_id.is_empty() && policy.expected.signer_id.is_empty() {
        return Err(AttestError::NoIdentity);
    }
    let binding = ReportDigest::of_parts(&[chain.root(), nonce]);
    let admitted = admit_coordinator(&report, binding, &policy.expected.to_package()).map_err(AttestError::Admit)?;
    let statement = verify_statement(answer.statement.as_deref(), &report)?;
    Ok(AttestedCoordinator {
        chain,
        quote: evidence.to_vec(),
        report: Arc::new(report),
        admission: admitted.admission,
        warnings: admitted.warnings,
        statement,
        evidence: Evidence { answer: answer.clone(), nonce: nonce.to_vec() },
    })
}

/// The second half of the report data is SHA-256 of the statement; all zero means that there is none.
fn verify_statement(text: Option<&str>, report: &VerifiedReport) -> Result<Option<Statement>, AttestError> {
    let covered = report.report_data().second_half();
    let Some(text) = text else {
        return if covered == [0; 32] { Ok(None) } else { Err(AttestError::StatementMissing) };
    };
    if *ReportDigest::of(text.as_bytes()).as_bytes() != covered {
        return Err(AttestError::StatementHash);
    }
    let statement = Statement::parse(text).map_err(AttestError::Statement)?;
    // A Coordinator on real hardware that admits simulated Marbles must not pass for one that does not.
    if statement.trust_class != report.trust_class().name() {
        return Err(AttestError::TrustClass { expected: report.trust_class(), got: statement.trust_class });
    }
    Ok(Some(statement))
}
