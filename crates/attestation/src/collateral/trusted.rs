//! Proving collateral, once.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use der::Decode as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;

use super::signed::{QeIdentity, TcbInfo};
use super::{Collateral, CollateralError, CollateralItem, ValidityError};
use crate::floor::EvaluationNumbers;
use crate::pck::{Fmspc, certificate_validity, p256_point};
use crate::roots::{TrustClass, TrustRoot, TrustRoots, looks_like};
use crate::tcb::Tee;
use crate::timestamp::from_seconds;

/// Collateral whose signatures, chains and lists were proven under a trusted root.
///
/// It is meant to be kept and shared. What time changes, the validity periods, is checked at every use.
pub struct TrustedCollateral {
    id: [u8; 32],
    class: TrustClass,
    root: TrustRoot,
    root_crl: CertRevocationList<'static>,
    pck_crl: CertRevocationList<'static>,
    pck_chain: Option<String>,
    pub(crate) tcb_info: TcbInfo,
    pub(crate) qe_identity: QeIdentity,
    periods: Vec<Period>,
    /// When the two revocation lists were issued, as [`Self::revocation_lists`].
    lists_issued: [UnixTime; 2],
    /// How long the two texts may be used after their next update was due.
    max_age: Duration,
}

/// From the first to the last second in which an item may be used.
#[derive(Clone, Copy)]
struct Period {
    item: CollateralItem,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl TrustedCollateral {
    /// The TEE that the collateral is for.
    pub fn tee(&self) -> Tee {
        Tee::Sgx
    }

    /// The kind of platform that the collateral is for.
    pub fn fmspc(&self) -> Fmspc {
        self.tcb_info.fmspc()
    }

    /// The class of the root under which it was proven.
    pub fn trust_class(&self) -> TrustClass {
        self.class
    }

    /// The root under which it was proven.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// SHA-256 over the root and every part that was proven; two values with the same id are interchangeable.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The vendor's issue numbers, for [`crate::CollateralFloor`].
    pub fn evaluation_numbers(&self) -> EvaluationNumbers {
        EvaluationNumbers {
            tcb_info: self.tcb_info.tcb_evaluation_data_number,
            qe_identity: self.qe_identity.tcb_evaluation_data_number,
        }
    }

    /// The older of the two issue dates.
    pub fn earliest_issue(&self) -> UnixTime {
        self.tcb_info.issue_date.0.min(self.qe_identity.issue_date.0)
    }

    /// The newer of the two issue dates: the vendor lived at that time, so it is not earlier now.
    pub fn newest_issue(&self) -> UnixTime {
        self.tcb_info.issue_date.0.max(self.qe_identity.issue_date.0)
    }

    /// True if a part was issued before the same part of `other`, so that it may lack what the vendor said since.
    ///
    /// Both may be valid: who stands between us and the vendor can serve the older one until it expires.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.evaluation_numbers(), other.evaluation_numbers());
        ours.tcb_info < theirs.tcb_info
            || ours.qe_identity < theirs.qe_identity
            || self.issued().iter().zip(other.issued()).any(|(ours, theirs)| *ours < theirs)
    }

    fn issued(&self) -> [UnixTime; 4] {
        let [root_crl, pck_crl] = self.lists_issued;
        [self.tcb_info.issue_date.0, self.qe_identity.issue_date.0, root_crl, pck_crl]
    }

    /// The last second in which every part may be used.
    pub fn expires(&self) -> UnixTime {
        self.periods.iter().map(|period| self.usable(period).not_after).min().unwrap_or(from_seconds(0))
    }

    /// The last second in which every part is as new as the vendor wants it; not after [`Self::expires`].
    pub fn fresh_until(&self) -> UnixTime {
        self.periods.iter().map(|period| period.not_after).min().unwrap_or(from_seconds(0))
    }

    /// True if a part is past its next update and used only because
    /// [`dangerous_verify_aged`](super::Collateral::dangerous_verify_aged) allowed it.
    pub fn is_stale(&self, now: UnixTime) -> bool {
        now > self.fresh_until()
    }

    /// Checks that every part may be used at `now`.
    ///
    /// # Errors
    ///
    /// The first part that may not, with its period.
    pub fn check_time(&self, now: UnixTime) -> Result<(), ValidityError> {
        self.periods.iter().try_for_each(|period| self.usable(period).check(now))
    }

    /// The period with what was added to it. Certificates and lists never get more time.
    fn usable(&self, period: &Period) -> Period {
        match period.item {
            CollateralItem::TcbInfo | CollateralItem::QeIdentity => {
                let not_after = period.not_after.as_secs().saturating_add(self.max_age.as_secs());
                Period { not_after: from_seconds(not_after), ..*period }
            }
            _ => *period,
        }
    }

    pub(crate) fn pck_chain_pem(&self) -> Option<&[u8]> {
        self.pck_chain.as_deref().map(str::as_bytes)
    }

    pub(crate) fn revocation_lists(&self) -> [&CertRevocationList<'static>; 2] {
        [&self.root_crl, &self.pck_crl]
    }
}

impl fmt::Debug for TrustedCollateral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedCollateral")
            .field("tee", &self.tee())
            .field("fmspc", &self.fmspc())
            .field("root", &self.root)
            .field("evaluation_numbers", &self.evaluation_numbers())
            .finish_non_exhaustive()
    }
}

impl Period {
    fn check(&self, now: UnixTime) -> Result<(), ValidityError> {
        let &Self { item, not_before, not_after } = self;
        if now < not_before {
            return Err(ValidityError::NotYetValid { item, not_before, now });
        }
        if now > not_after {
            return Err(ValidityError::Expired { item, not_after, now });
        }
        Ok(())
    }
}

/// Strictest settings: every certificate needs a list that speaks for it and is current.
pub(crate) fn revocation_options<'a>(lists: &'a [&'a CertRevocationList<'a>; 2]) -> RevocationOptions<'a> {
    RevocationOptionsBuilder::new(lists)
        .expect("the array has two lists")
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build()
}

pub(super) fn verify(
    collateral: &Collateral,
    roots: &TrustRoots,
    now: UnixTime,
    max_age: Duration,
) -> Result<TrustedCollateral, CollateralError> {
    let mut refusal = None;
    for root in roots.roots() {
        match verify_under(collateral, roots.class(), root, now, max_age) {
            Ok(trusted) => return Ok(trusted),
            // Roots may share a name, so a wrong root can show itself as a wrong signature: try the others first.
            Err(error @ CollateralError::UntrustedRoot { .. }) => refusal = refusal.or(Some(error)),
            Err(error) => refusal = Some(error),
        }
    }
    let error = refusal.expect("a trust store has at least one root");
    Err(explain(error, collateral, roots))
}

/// Says more precisely why a chain was refused. This only looks at unproven bytes and never accepts anything.
fn explain(error: CollateralError, collateral: &Collateral, roots: &TrustRoots) -> CollateralError {
    let item = match error {
        CollateralError::UntrustedRoot { item, .. } => item,
        CollateralError::Signature { item, .. } => item,
        _ => return error,
    };
    let chain = match item {
        CollateralItem::TcbInfoSigner => &collateral.tcb_info_chain,
        CollateralItem::QeIdentitySigner => &collateral.qe_identity_chain,
        _ => return error,
    };
    let Some(claimed_root) = chain.last().filter(|root| chain.len() > 1 && !roots.contains(root)) else {
        return error;
    };
    match (roots.class(), looks_like(claimed_root)) {
        (TrustClass::Hardware, Some(TrustClass::Software)) => CollateralError::SoftwareRoot,
        (TrustClass::Software, Some(TrustClass::Hardware)) => CollateralError::HardwareRoot,
        (class, _) => CollateralError::UntrustedRoot { item, class: class.name() },
    }
}

fn verify_under(
    collateral: &Collateral,
    class: TrustClass,
    root: &TrustRoot,
    now: UnixTime,
    max_age: Duration,
) -> Result<TrustedCollateral, CollateralError> {
    let (root_crl, root_crl_issued, root_crl_period) = parse_crl(CollateralItem::RootCrl, &collateral.root_ca_crl)?;
    let (pck_crl, pck_crl_issued, pck_crl_period) = parse_crl(CollateralItem::PckCrl, &collateral.pck_crl)?;

    // The signer's chain also proves the root's list, which is the one that speaks for the signer.
    let signers = Signers { class, root, lists: [&root_crl, &pck_crl], now };
    let tcb_signer = signers.verify(CollateralItem::TcbInfoSigner, &collateral.tcb_info_chain)?;
    if root_crl.issuer() != root.anchor.subject.as_ref() {
        return Err(CollateralError::CrlIssuer { item: CollateralItem::RootCrl });
    }
    let root_listed = root_crl
        .find_serial(&root.serial)
        .map_err(|error| CollateralError::Crl { item: CollateralItem::RootCrl, reason: error.to_string() })?;
    if root_listed.is_some() {
        return Err(CollateralError::Revoked { item: CollateralItem::Root });
    }
    let qe_signer = if collateral.qe_identity_chain == collateral.tcb_info_chain {
        Signer { period: Period { item: CollateralItem::QeIdentitySigner, ..tcb_signer.period }, ..tcb_signer }
    } else {
        signers.verify(CollateralItem::QeIdentitySigner, &collateral.qe_identity_chain)?
    };

    let text = &collateral.text;
    tcb_signer.check(CollateralItem::TcbInfo, &text.tcb_info, &collateral.tcb_info_signature)?;
    qe_signer.check(CollateralItem::QeIdentity, &text.qe_identity, &collateral.qe_identity_signature)?;
    let tcb_info = TcbInfo::parse(&text.tcb_info)?;
    let qe_identity = QeIdentity::parse(&text.qe_identity)?;

    let trusted = TrustedCollateral {
        id: id(collateral, root),
        class,
        root: root.clone(),
        pck_chain: text.pck_certificate_chain.clone(),
        periods: vec![
            // The certificate library takes a bare key as anchor, so the root's own period is ours to check.
            Period { item: CollateralItem::Root, not_before: root.not_before, not_after: root.not_after },
            root_crl_period,
            pck_crl_period,
            tcb_signer.period,
            qe_signer.period,
            Period {
                item: CollateralItem::TcbInfo,
                not_before: tcb_info.issue_date.0,
                not_after: tcb_info.next_update.0,
            },
            Period {
                item: CollateralItem::QeIdentity,
                not_before: qe_identity.issue_date.0,
                not_after: qe_identity.next_update.0,
            },
        ],
        root_crl,
        pck_crl,
        tcb_info,
        qe_identity,
        lists_issued: [root_crl_issued, pck_crl_issued],
        max_age,
    };
    trusted.check_time(now)?;
    Ok(trusted)
}

/// The list, when it was issued, and when it may be used.
fn parse_crl(
    item: CollateralItem,
    der: &[u8],
) -> Result<(CertRevocationList<'static>, UnixTime, Period), CollateralError> {
    let list = OwnedCertRevocationList::from_der(der)
        .map_err(|error| CollateralError::Crl { item, reason: error.to_string() })?;
    let dates = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der)
        .map_err(|error| CollateralError::Crl { item, reason: error.to_string() })?;
    let next_update = dates
        .tbs_cert_list
        .next_update
        .ok_or_else(|| CollateralError::Crl { item, reason: "it has no next update".to_owned() })?;
    let period = Period {
        item,
        // A list is good for the time before it was issued, too: it knows more, not less. Only its age matters.
        not_before: from_seconds(0),
        // The next update itself is the first second in which the list is too old (RFC 5280 5.1.2.5).
        not_after: from_seconds(next_update.to_unix_duration().as_secs().saturating_sub(1)),
    };
    Ok((list.into(), from_seconds(dates.tbs_cert_list.this_update.to_unix_duration().as_secs()), period))
}

struct Signers<'a> {
    class: TrustClass,
    root: &'a TrustRoot,
    lists: [&'a CertRevocationList<'static>; 2],
    now: UnixTime,
}

#[derive(Clone)]
struct Signer {
    public_key: [u8; 65],
    period: Period,
}

impl Signers<'_> {
    fn verify(&self, item: CollateralItem, chain: &[CertificateDer<'static>]) -> Result<Signer, CollateralError> {
        let malformed = |_| CollateralError::Certificate { item };
        let (leaf, others) = chain.split_first().ok_or(CollateralError::Certificate { item })?;
        let end_entity = EndEntityCert::try_from(leaf).map_err(|_| CollateralError::Certificate { item })?;
        let anchors = [self.root.anchor.clone()];
        let path = end_entity
            .verify_for_usage(
                &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
                &anchors,
                others,
                self.now,
                KeyUsage::server_auth(),
                Some(revocation_options(&self.lists)),
                None,
            )
            .map_err(|error| self.chain_error(item, error))?;
        // Else the holder of any PCK could sign, because its key also chains to the root.
        let intermediates = path.intermediate_certificates().count();
        if intermediates != 0 {
            return Err(CollateralError::IndirectSigner { item, intermediates });
        }
        let certificate = Certificate::from_der(leaf).map_err(malformed)?;
        let (not_before, not_after) = certificate_validity(&certificate);
        let public_key = p256_point(&certificate).map_err(|_| CollateralError::Certificate { item })?;
        Ok(Signer { public_key, period: Period { item, not_before, not_after } })
    }

    fn chain_error(&self, item: CollateralItem, error: webpki::Error) -> CollateralError {
        use webpki::Error;
        let now = self.now;
        match error {
            Error::UnknownIssuer => CollateralError::UntrustedRoot { item, class: self.class.name() },
            Error::CertRevoked => CollateralError::Revoked { item },
            Error::UnknownRevocationStatus => CollateralError::UnknownRevocationStatus { item },
            Error::CrlExpired { next_update, .. } => {
                let not_after = from_seconds(next_update.as_secs().saturating_sub(1));
                ValidityError::Expired { item: CollateralItem::RootCrl, not_after, now }.into()
            }
            Error::CertExpired { not_after, .. } => ValidityError::Expired { item, not_after, now }.into(),
            Error::CertNotValidYet { not_before, .. } => ValidityError::NotYetValid { item, not_before, now }.into(),
            Error::InvalidSignatureForPublicKey | Error::InvalidCrlSignatureForPublicKey => {
                CollateralError::Signature { item, reason: error.to_string() }
            }
            other => CollateralError::Chain { item, reason: other.to_string() },
        }
    }
}

impl Signer {
    fn check(&self, item: CollateralItem, text: &str, signature: &[u8; 64]) -> Result<(), CollateralError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public_key)
            .verify(text.as_bytes(), signature)
            .map_err(|_| CollateralError::Signature { item, reason: "ECDSA check failed".to_owned() })
    }
}

fn id(collateral: &Collateral, root: &TrustRoot) -> [u8; 32] {
    let text = &collateral.text;
    let mut context = digest::Context::new(&digest::SHA256);
    let parts: [&[u8]; 8] = [
        &root.sha256(),
        &collateral.root_ca_crl,
        &collateral.pck_crl,
        text.tcb_info.as_bytes(),
        text.tcb_info_issuer_chain.as_bytes(),
        text.qe_identity.as_bytes(),
        text.qe_identity_issuer_chain.as_bytes(),
        text.pck_certificate_chain.as_deref().unwrap_or_default().as_bytes(),
    ];
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    id
}
