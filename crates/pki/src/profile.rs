//! The certificates whose form is fixed: the three CAs, Marbles, and the premain's own.
//!
//! All are X.509 v3 for P-384 keys, signed as ecdsa-with-SHA384, for server and client authentication, and live for
//! 2^63 - 1 nanoseconds (292 years), as MarbleRun's do. Results are DER.

use std::net::IpAddr;

use rustls_pki_types::UnixTime;

use crate::certificate::Extension;
use crate::extension::{self, DIGITAL_SIGNATURE, KEY_AGREEMENT, KEY_CERT_SIGN};
use crate::issue::{IssueError, Issuer, LONGEST_LIFE, SignatureHash, Unsigned, end_of_life, key_id};
use crate::key::KeyPair;
use crate::name::{AltNames, Subject};
use crate::oid;
use crate::request::CertificateRequest;

/// Common name of the Coordinator's root certificate.
pub const ROOT_NAME: &str = "MarbleRun Coordinator";
/// Common name of the intermediate certificate and of the Marble root.
pub const INTERMEDIATE_NAME: &str = "MarbleRun Coordinator - Intermediate CA";
/// Common name of the certificate that a Marble shows before it has one of the Coordinator.
pub const PREMAIN_NAME: &str = "MarbleRun Marble";

/// Indices into the list of extended key usages.
const SERVER_AUTH: usize = 1;
const CLIENT_AUTH: usize = 2;

/// The Coordinator's root, self-signed. `names` are the configured ones; the default addresses are added in front.
///
/// # Errors
///
/// [`IssueError::NotAscii`] for a DNS name that is not ASCII; provider failures.
pub fn root_certificate(key: &KeyPair, names: &AltNames, now: UnixTime) -> Result<Vec<u8>, IssueError> {
    ca(ROOT_NAME, None, key, names, now)
}

/// The Marble root: the self-signed twin of the intermediate, with the same name and key.
///
/// # Errors
///
/// As [`root_certificate`].
pub fn marble_root_certificate(key: &KeyPair, names: &AltNames, now: UnixTime) -> Result<Vec<u8>, IssueError> {
    ca(INTERMEDIATE_NAME, None, key, names, now)
}

/// The intermediate for the public part of `key`, signed by the root.
///
/// # Errors
///
/// As [`root_certificate`].
pub fn intermediate_certificate(
    root: &Issuer<'_>,
    key: &KeyPair,
    names: &AltNames,
    now: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    ca(INTERMEDIATE_NAME, Some(root), key, names, now)
}

/// A Marble's certificate for `public_key_der` (SubjectPublicKeyInfo), signed by the Marble root.
///
/// From the request come names only: DNS names, addresses, and the subject's attributes except common name, which is
/// `uuid`, and organization, which is the issuer's. `marble_type` becomes the extension [`oid::MARBLE_TYPE`].
///
/// # Errors
///
/// [`IssueError::Encode`] if `public_key_der` is no public key; provider failures.
pub fn marble_certificate(
    marble_root: &Issuer<'_>,
    request: &CertificateRequest,
    uuid: &str,
    marble_type: &str,
    public_key_der: &[u8],
    now: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    let issuer = Subject::from_der(&marble_root.subject_der).map_err(IssueError::IssuerCertificate)?;
    let subject =
        Subject { common_name: uuid.to_owned(), organization: issuer.organization, ..request.subject().clone() };
    // Fails early if the key is none: no other extension of a leaf depends on it.
    key_id(public_key_der)?;
    let mut extensions = usage_extensions(DIGITAL_SIGNATURE | KEY_AGREEMENT, false)?;
    if let Some(id) = &marble_root.key_id {
        extensions.push(extension::authority_key_id(id)?);
    }
    let names = request.names();
    if !names.dns.is_empty() || !names.ips.is_empty() {
        extensions.push(extension::subject_alt_name(false, &names.dns, &[], &names.ips, &[])?);
    }
    extensions.push(extension::plain(oid::MARBLE_TYPE, marble_type.as_bytes().to_vec()));
    Unsigned {
        issuer_der: &marble_root.subject_der,
        subject_der: &subject.to_der()?,
        now,
        not_after: end_of_life(now, LONGEST_LIFE),
        public_key_der,
        extensions: &extensions,
        hash: SignatureHash::Sha384,
    }
    .sign(marble_root.key)
}

/// The self-signed certificate that a Marble shows to the Coordinator; its DER is what the Marble's quote covers.
///
/// # Errors
///
/// As [`root_certificate`].
pub fn premain_certificate(key: &KeyPair, names: &AltNames, now: UnixTime) -> Result<Vec<u8>, IssueError> {
    names.check_lengths()?;
    let subject = Subject::from_common_name(PREMAIN_NAME).to_der()?;
    let mut extensions = usage_extensions(DIGITAL_SIGNATURE | KEY_AGREEMENT, false)?;
    let ips: Vec<IpAddr> = names.ips.iter().copied().chain(AltNames::DEFAULT_IPS).collect();
    extensions.push(extension::subject_alt_name(false, &names.dns, &[], &ips, &[])?);
    Unsigned {
        issuer_der: &subject,
        subject_der: &subject,
        now,
        not_after: end_of_life(now, LONGEST_LIFE),
        public_key_der: key.public_key_der(),
        extensions: &extensions,
        hash: SignatureHash::Sha384,
    }
    .sign(key)
}

fn ca(
    name: &str,
    issuer: Option<&Issuer<'_>>,
    key: &KeyPair,
    names: &AltNames,
    now: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    names.check_lengths()?;
    let subject = Subject::from_common_name(name).to_der()?;
    let mut extensions = usage_extensions(DIGITAL_SIGNATURE | KEY_CERT_SIGN, true)?;
    extensions.push(extension::subject_key_id(&key_id(key.public_key_der())?)?);
    // A certificate that names itself as issuer needs no pointer to its issuer's key (RFC 5280 4.2.1.1).
    if let Some(id) = issuer.and_then(|issuer| issuer.key_id.as_ref()) {
        extensions.push(extension::authority_key_id(id)?);
    }
    let ips: Vec<IpAddr> = AltNames::DEFAULT_IPS.into_iter().chain(names.ips.iter().copied()).collect();
    extensions.push(extension::subject_alt_name(false, &names.dns, &[], &ips, &[])?);
    Unsigned {
        issuer_der: issuer.map_or(&subject, |issuer| &issuer.subject_der),
        subject_der: &subject,
        now,
        not_after: end_of_life(now, LONGEST_LIFE),
        public_key_der: key.public_key_der(),
        extensions: &extensions,
        hash: SignatureHash::Sha384,
    }
    .sign(issuer.map_or(key, |issuer| issuer.key))
}

/// Key usage, extended key usage and basic constraints, with which every profile begins.
fn usage_extensions(key_usage: i64, is_ca: bool) -> der::Result<Vec<Extension>> {
    Ok(vec![
        extension::key_usage(key_usage)?,
        extension::ext_key_usage(&[oid::EXT_KEY_USAGES[SERVER_AUTH], oid::EXT_KEY_USAGES[CLIENT_AUTH]])?,
        extension::basic_constraints(is_ca, None)?,
    ])
}
