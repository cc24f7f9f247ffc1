//! Templates of generated certificates: the JSON form of Go's `x509.Certificate`.

mod primitive;
mod url;

use std::net::IpAddr;

use der::Decode as _;
use marblerun_json::{Decode, DecodeError, DecodeErrorKind, Decoder, ValueKind, decode_base64, decode_object};
use x509_cert::certificate::{CertificateInner, Raw};

pub use primitive::{DottedOid, Timestamp};
pub use url::{NoMembers, UrlObject};

pub use primitive::BigInteger;
pub(crate) use primitive::shorten;

/// The member `Cert` of a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretCertificate {
    /// Nothing or `null`: an empty template.
    #[default]
    Unset,
    /// A string that is not base64, for instance a PEM text: counts as an empty template, as in MarbleRun v1.9.1.
    Unreadable,
    /// A template, given as an object.
    Template(Box<CertificateTemplate>),
    /// A certificate in DER form, given as base64. Its fields serve as a template.
    Der(Vec<u8>),
}

impl Decode for SecretCertificate {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let offset = decoder.offset();
        *self = match decoder.kind() {
            ValueKind::Null => {
                decoder.take_null();
                Self::Unset
            }
            ValueKind::Object => {
                let mut template = Box::<CertificateTemplate>::default();
                template.decode(decoder)?;
                Self::Template(template)
            }
            ValueKind::String => match decode_base64(&decoder.string()?) {
                None => Self::Unreadable,
                Some(der) if CertificateInner::<Raw>::from_der(&der).is_ok() => Self::Der(der),
                Some(_) => return Err(decoder.error_at(DecodeErrorKind::Certificate, offset)),
            },
            got => {
                let expected = "a certificate template, or a DER certificate in base64";
                return Err(decoder.error(DecodeErrorKind::Type { expected, got }));
            }
        };
        Ok(())
    }
}

/// A certificate template, with the members of Go's `x509.Certificate`.
///
/// `None` and an empty list differ for `ext_key_usage`, `dns_names` and `ip_addresses`: `None` stands for a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateTemplate {
    /// Subject name.
    pub subject: SubjectName,
    /// A DER name that replaces `subject` entirely; `None` or empty: not given.
    pub raw_subject: Option<Vec<u8>>,
    /// End of validity, unless [`Timestamp::is_unset`].
    pub not_after: Timestamp,
    /// Bit mask, bit 0 is digitalSignature (RFC 5280 4.2.1.3); 0: digitalSignature and keyCertSign.
    pub key_usage: i64,
    /// Go's numbers of extended key usages; `None`: server and client authentication.
    pub ext_key_usage: Option<Vec<i64>>,
    /// Further extended key usages as object identifiers.
    pub unknown_ext_key_usage: Vec<Vec<i64>>,
    /// Basic constraints.
    pub is_ca: bool,
    /// Path length if `is_ca` and positive, or 0 with `max_path_len_zero`; -1: none.
    pub max_path_len: i64,
    /// Says that a `max_path_len` of 0 is meant.
    pub max_path_len_zero: bool,
    /// Subject key identifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// Authority information access: OCSP responders.
    pub ocsp_server: Vec<String>,
    /// Authority information access: where the issuer's certificate is.
    pub issuing_certificate_url: Vec<String>,
    /// Subject alternative names; `None`: `localhost`.
    pub dns_names: Option<Vec<String>>,
    /// Subject alternative names.
    pub email_addresses: Vec<String>,
    /// Subject alternative names; `None`: 127.0.0.1 and ::1. An element without address came from `""` or `null` and
    /// cannot be put into a certificate. IPv4 addresses in IPv6 form are IPv4 addresses.
    pub ip_addresses: Option<Vec<Option<IpAddr>>>,
    /// Subject alternative names; `Display` renders the URI. An element without value came from `null` and cannot be
    /// put into a certificate.
    pub uris: Vec<Option<UrlObject>>,
    /// Makes the name constraints critical.
    pub permitted_dns_domains_critical: bool,
    /// Name constraints.
    pub permitted_dns_domains: Vec<String>,
    /// Name constraints.
    pub excluded_dns_domains: Vec<String>,
    /// Name constraints.
    pub permitted_ip_ranges: Vec<Option<IpRange>>,
    /// Name constraints.
    pub excluded_ip_ranges: Vec<Option<IpRange>>,
    /// Name constraints.
    pub permitted_email_addresses: Vec<String>,
    /// Name constraints.
    pub excluded_email_addresses: Vec<String>,
    /// Name constraints.
    pub permitted_uri_domains: Vec<String>,
    /// Name constraints.
    pub excluded_uri_domains: Vec<String>,
    /// Where revocation lists are.
    pub crl_distribution_points: Vec<String>,
    /// Certificate policies.
    pub policies: Vec<DottedOid>,
    /// Appended verbatim; each suppresses a generated extension with the same identifier.
    pub extra_extensions: Vec<ExtraExtension>,
    /// Go's number of the signature algorithm; 0: ECDSA with SHA-384.
    pub signature_algorithm: i64,
    /// Members that must have the right type and then have no effect.
    pub ignored: IgnoredMembers,
}

decode_object!(CertificateTemplate {
    "Subject" => subject,
    "RawSubject" => raw_subject,
    "NotAfter" => not_after,
    "KeyUsage" => key_usage,
    "ExtKeyUsage" => ext_key_usage,
    "UnknownExtKeyUsage" => unknown_ext_key_usage,
    "IsCA" => is_ca,
    "MaxPathLen" => max_path_len,
    "MaxPathLenZero" => max_path_len_zero,
    "SubjectKeyId" => subject_key_id,
    "OCSPServer" => ocsp_server,
    "IssuingCertificateURL" => issuing_certificate_url,
    "DNSNames" => dns_names,
    "EmailAddresses" => email_addresses,
    "IPAddresses" => ip_addresses,
    "URIs" => uris,
    "PermittedDNSDomainsCritical" => permitted_dns_domains_critical,
    "PermittedDNSDomains" => permitted_dns_domains,
    "ExcludedDNSDomains" => excluded_dns_domains,
    "PermittedIPRanges" => permitted_ip_ranges,
    "ExcludedIPRanges" => excluded_ip_ranges,
    "PermittedEmailAddresses" => permitted_email_addresses,
    "ExcludedEmailAddresses" => excluded_email_addresses,
    "PermittedURIDomains" => permitted_uri_domains,
    "ExcludedURIDomains" => excluded_uri_domains,
    "CRLDistributionPoints" => crl_distribution_points,
    "Policies" => policies,
    "ExtraExtensions" => extra_extensions,
    "SignatureAlgorithm" => signature_algorithm,
    "Raw" => ignored.raw,
    "RawTBSCertificate" => ignored.raw_tbs_certificate,
    "RawSubjectPublicKeyInfo" => ignored.raw_subject_public_key_info,
    "RawIssuer" => ignored.raw_issuer,
    "Signature" => ignored.signature,
    "PublicKeyAlgorithm" => ignored.public_key_algorithm,
    "PublicKey" => ignored.public_key,
    "Version" => ignored.version,
    "SerialNumber" => ignored.serial_number,
    "Issuer" => ignored.issuer,
    "NotBefore" => ignored.not_before,
    "AuthorityKeyId" => ignored.authority_key_id,
    "BasicConstraintsValid" => ignored.basic_constraints_valid,
    "Extensions" => ignored.extensions,
    "UnhandledCriticalExtensions" => ignored.unhandled_critical_extensions,
    "PolicyIdentifiers" => ignored.policy_identifiers,
    "InhibitAnyPolicy" => ignored.inhibit_any_policy,
    "InhibitAnyPolicyZero" => ignored.inhibit_any_policy_zero,
    "InhibitPolicyMapping" => ignored.inhibit_policy_mapping,
    "InhibitPolicyMappingZero" => ignored.inhibit_policy_mapping_zero,
    "RequireExplicitPolicy" => ignored.require_explicit_policy,
    "RequireExplicitPolicyZero" => ignored.require_explicit_policy_zero,
    "PolicyMappings" => ignored.policy_mappings,
});

/// A subject name. Each list with several values is one relative name with several attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectName {
    /// 2.5.4.6.
    pub country: Vec<String>,
    /// 2.5.4.10.
    pub organization: Vec<String>,
    /// 2.5.4.11.
    pub organizational_unit: Vec<String>,
    /// 2.5.4.7.
    pub locality: Vec<String>,
    /// 2.5.4.8.
    pub province: Vec<String>,
    /// 2.5.4.9.
    pub street_address: Vec<String>,
    /// 2.5.4.17.
    pub postal_code: Vec<String>,
    /// 2.5.4.5.
    pub serial_number: String,
    /// 2.5.4.3.
    pub common_name: String,
    /// Replace members with the same identifier.
    pub extra_names: Vec<AttributeTypeAndValue>,
    /// Without effect.
    pub names: Vec<AttributeTypeAndValue>,
}

decode_object!(SubjectName {
    "Country" => country,
    "Organization" => organization,
    "OrganizationalUnit" => organizational_unit,
    "Locality" => locality,
    "Province" => province,
    "StreetAddress" => street_address,
    "PostalCode" => postal_code,
    "SerialNumber" => serial_number,
    "CommonName" => common_name,
    "Names" => names,
    "ExtraNames" => extra_names,
});

/// An attribute of a name.
///
/// Go takes any JSON value; only strings can be put into a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeTypeAndValue {
    /// Object identifier.
    pub oid: Vec<i64>,
    /// The value's JSON text; empty: none. See [`AttributeTypeAndValue::text`].
    pub value: marblerun_json::RawJson,
}

decode_object!(AttributeTypeAndValue { "Type" => oid, "Value" => value });

impl AttributeTypeAndValue {
    /// The value if it is a string.
    pub fn text(&self) -> Option<String> {
        let (text, _) = marblerun_json::decode_whole::<OnlyString>(&self.value.0, usize::MAX).ok()?;
        text.0
    }
}

#[derive(Default)]
struct OnlyString(Option<String>);

impl Decode for OnlyString {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        self.0.decode(decoder)
    }
}

/// A network for name constraints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpRange {
    /// Address; `None`: not given, unusable.
    pub ip: Option<IpAddr>,
    /// Mask, 4 or 16 bytes to be usable.
    pub mask: Option<Vec<u8>>,
}

decode_object!(IpRange { "IP" => ip, "Mask" => mask });

/// An extension that is put into the certificate as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraExtension {
    /// Object identifier.
    pub id: Vec<i64>,
    /// Whether a verifier must understand it.
    pub critical: bool,
    /// The content of the extension's octet string.
    pub value: Option<Vec<u8>>,
}

decode_object!(ExtraExtension { "Id" => id, "Critical" => critical, "Value" => value });

/// A policy mapping, without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyMapping {
    /// The issuer's policy.
    pub issuer_domain_policy: DottedOid,
    /// The subject's policy.
    pub subject_domain_policy: DottedOid,
}

decode_object!(PolicyMapping {
    "IssuerDomainPolicy" => issuer_domain_policy,
    "SubjectDomainPolicy" => subject_domain_policy,
});

/// Members of a certificate template without effect. They must still have the right type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of Go's x509.Certificate, and nothing reads the values")]
pub struct IgnoredMembers {
    pub raw: Option<Vec<u8>>,
    pub raw_tbs_certificate: Option<Vec<u8>>,
    pub raw_subject_public_key_info: Option<Vec<u8>>,
    pub raw_issuer: Option<Vec<u8>>,
    pub signature: Option<Vec<u8>>,
    pub public_key_algorithm: i64,
    pub public_key: marblerun_json::RawJson,
    pub version: i64,
    pub serial_number: BigInteger,
    pub issuer: SubjectName,
    pub not_before: Timestamp,
    pub authority_key_id: Option<Vec<u8>>,
    pub basic_constraints_valid: bool,
    pub extensions: Vec<ExtraExtension>,
    pub unhandled_critical_extensions: Vec<Vec<i64>>,
    pub policy_identifiers: Vec<Vec<i64>>,
    pub inhibit_any_policy: i64,
    pub inhibit_any_policy_zero: bool,
    pub inhibit_policy_mapping: i64,
    pub inhibit_policy_mapping_zero: bool,
    pub require_explicit_policy: i64,
    pub require_explicit_policy_zero: bool,
    pub policy_mappings: Vec<PolicyMapping>,
}
