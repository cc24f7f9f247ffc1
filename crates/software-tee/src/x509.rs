//! Certificates and revocation lists of the development PKI, signed with ECDSA P-256 and SHA-256 (RFC 5280).

use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest;
use const_oid::AssociatedOid;
use const_oid::db::rfc5912::ECDSA_WITH_SHA_256;
use der::asn1::{Any, BitString, OctetString, Uint, UtcTime};
use der::{DateTime, Decode, Encode, Sequence};
use rustls_pki_types::UnixTime;
use x509_cert::certificate::Version;
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use crate::error::IssueError;
use crate::seed::SigningKey;

/// Organisation in the names of all certificates.
const ORGANISATION: &str = "Software TEE (NOT HARDWARE)";

/// What RFC 5280 4.1 calls TBSCertificate. The type of `x509-cert` has private fields and a builder that wants keys of
/// another crypto library.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

/// The outer SEQUENCE of certificates and CRLs alike.
#[derive(Sequence)]
struct Signed {
    to_be_signed: Any,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// What a certificate may be used for.
pub(crate) enum Role {
    /// Signs certificates and CRLs; `path_len` counts the CA certificates that may follow.
    Ca { path_len: u8 },
    /// Signs data; may carry further extensions.
    Signer { further: Vec<Extension> },
}

/// A certificate to be made.
pub(crate) struct CertificateSpec<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) subject: Name,
    pub(crate) key: &'a SigningKey,
    pub(crate) role: Role,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

/// Who signs.
pub(crate) struct Issuer<'a> {
    pub(crate) name: Name,
    pub(crate) key: &'a SigningKey,
}

impl Issuer<'_> {
    /// Makes a certificate, DER.
    pub(crate) fn certificate(&self, spec: CertificateSpec<'_>) -> Result<Vec<u8>, IssueError> {
        let public_key_info = spec.key.public_key_info()?;
        let (basic_constraints, usage, further) = match spec.role {
            Role::Ca { path_len } => (
                BasicConstraints { ca: true, path_len_constraint: Some(path_len) },
                KeyUsages::KeyCertSign | KeyUsages::CRLSign,
                Vec::new(),
            ),
            Role::Signer { further } => (
                BasicConstraints { ca: false, path_len_constraint: None },
                KeyUsages::DigitalSignature | KeyUsages::NonRepudiation,
                further,
            ),
        };
        let mut extensions = vec![
            authority_key_id(self.key)?,
            extension("key usage", true, &KeyUsage(usage))?,
            extension("subject key id", false, &SubjectKeyIdentifier(key_id(spec.key)?))?,
            extension("basic constraints", true, &basic_constraints)?,
        ];
        extensions.extend(further);
        let tbs = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(spec.serial).map_err(IssueError::der("serial number"))?,
            signature: algorithm(),
            issuer: self.name.clone(),
            validity: Validity::new(x509_time(spec.not_before)?, x509_time(spec.not_after)?),
            subject: spec.subject,
            subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(public_key_info.as_ref())
                .map_err(IssueError::der("public key"))?,
            extensions,
        };
        self.sign("certificate", &tbs)
    }

    /// Makes a revocation list, DER. Its CRL number is the second of `this_update`, so that later lists have higher ones.
    pub(crate) fn crl(
        &self,
        revoked: &[Vec<u8>],
        this_update: UnixTime,
        next_update: UnixTime,
    ) -> Result<Vec<u8>, IssueError> {
        let issued = x509_time(this_update)?;
        let entries = revoked
            .iter()
            .map(|serial| {
                Ok(RevokedCert {
                    serial_number: <SerialNumber>::new(serial).map_err(IssueError::der("serial number"))?,
                    revocation_date: issued,
                    crl_entry_extensions: None,
                })
            })
            .collect::<Result<Vec<_>, IssueError>>()?;
        let number = Uint::new(&this_update.as_secs().to_be_bytes()).map_err(IssueError::der("CRL number"))?;
        let tbs: TbsCertList = TbsCertList {
            version: Version::V2,
            signature: algorithm(),
            issuer: self.name.clone(),
            this_update: issued,
            next_update: Some(x509_time(next_update)?),
            // RFC 5280 5.1.2.6: an empty list must be absent.
            revoked_certificates: (!entries.is_empty()).then_some(entries),
            crl_extensions: Some(vec![
                authority_key_id(self.key)?,
                extension("CRL number", false, &CrlNumber(number))?,
            ]),
        };
        self.sign("CRL", &tbs)
    }

    fn sign(&self, what: &'static str, tbs: &impl Encode) -> Result<Vec<u8>, IssueError> {
        let to_be_signed = tbs.to_der().map_err(IssueError::der(what))?;
        let signature = self.key.sign_asn1(&to_be_signed)?;
        let signed = Signed {
            to_be_signed: Any::from_der(&to_be_signed).map_err(IssueError::der(what))?,
            algorithm: algorithm(),
            signature: BitString::from_bytes(signature.as_ref()).map_err(IssueError::der(what))?,
        };
        signed.to_der().map_err(IssueError::der(what))
    }
}

/// The name with `common_name`, marked as not being hardware in both of its parts.
pub(crate) fn name(common_name: &str) -> Result<Name, IssueError> {
    Name::from_str(&format!("CN={common_name} (NOT HARDWARE),O={ORGANISATION}")).map_err(IssueError::der("name"))
}

/// `time` to the second as a date that prints in RFC 3339.
pub(crate) fn date_time(time: UnixTime) -> Result<DateTime, IssueError> {
    DateTime::from_unix_duration(Duration::from_secs(time.as_secs()))
        .map_err(|_| IssueError::TimeOutOfRange { seconds: time.as_secs() })
}

/// PEM of a certificate (RFC 7468).
pub(crate) fn certificate_pem(der: &[u8]) -> Result<String, IssueError> {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der)
        .map_err(|error| IssueError::Der { what: "PEM", source: error.into() })
}

/// An extension whose type knows its OID.
fn extension<T: Encode + AssociatedOid>(
    what: &'static str,
    critical: bool,
    value: &T,
) -> Result<Extension, IssueError> {
    raw_extension(what, T::OID, critical, value)
}

/// An extension with the DER of `value` under `oid`.
pub(crate) fn raw_extension(
    what: &'static str,
    oid: der::oid::ObjectIdentifier,
    critical: bool,
    value: &impl Encode,
) -> Result<Extension, IssueError> {
    let value = value.to_der().and_then(OctetString::new).map_err(IssueError::der(what))?;
    Ok(Extension { extn_id: oid, critical, extn_value: value })
}

fn authority_key_id(issuer: &SigningKey) -> Result<Extension, IssueError> {
    let value = AuthorityKeyIdentifier {
        key_identifier: Some(key_id(issuer)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    extension("authority key id", false, &value)
}

/// The leftmost 160 bits of SHA-256 over the public point (RFC 7093 2, method 1).
fn key_id(key: &SigningKey) -> Result<OctetString, IssueError> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[4]);
    context.update(key.public_point());
    OctetString::new(&context.finish().as_ref()[..20]).map_err(IssueError::der("key id"))
}

fn algorithm() -> AlgorithmIdentifierOwned {
    // RFC 5758 3.2: the parameters are absent.
    AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA_256, parameters: None }
}

fn x509_time(time: UnixTime) -> Result<Time, IssueError> {
    UtcTime::from_unix_duration(Duration::from_secs(time.as_secs()))
        .map(Time::UtcTime)
        .map_err(|_| IssueError::TimeOutOfRange { seconds: time.as_secs() })
}
