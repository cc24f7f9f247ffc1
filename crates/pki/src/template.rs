//! What a manifest says about the certificate of a secret, with the member names of Go's `x509.Certificate`.

use std::net::IpAddr;

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Tag, TagNumber, Tagged};
use rustls_pki_types::UnixTime;

use crate::asn1;
use crate::certificate::{Certificate, CertificateError, Extension, GeneralNames, ascii, ip_address, malformed};
use crate::issue::SignatureHash;
use crate::name::Subject;
use crate::oid;

/// A certificate template; the members of Go's `x509.Certificate` that have an effect, in plain types.
///
/// [`CertificateTemplate::default`] is the empty template `{}`. `None` in a list means "absent", which is filled in;
/// an empty list means "none".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateTemplate {
    /// `Subject`.
    pub subject: Subject,
    /// `RawSubject`: a DER name that replaces `subject` entirely.
    pub raw_subject: Option<Vec<u8>>,
    /// `NotAfter`; may lie in the past, not before 1970.
    pub not_after: Option<UnixTime>,
    /// `KeyUsage`: bit mask, 1 digitalSignature to 256 decipherOnly; 0 means 33 (digitalSignature, keyCertSign).
    pub key_usage: i64,
    /// `ExtKeyUsage`: Go's numbers 0 to 13; absent means `[1, 2]` (serverAuth, clientAuth).
    pub ext_key_usage: Option<Vec<i64>>,
    /// `UnknownExtKeyUsage`: arcs of further usages.
    pub unknown_ext_key_usage: Vec<Vec<u64>>,
    /// `IsCA`.
    pub is_ca: bool,
    /// `MaxPathLen`: 0 means none unless `max_path_len_zero`, -1 means none.
    pub max_path_len: i64,
    /// `MaxPathLenZero`.
    pub max_path_len_zero: bool,
    /// `SubjectKeyId`; empty means absent, then CAs get the default one.
    pub subject_key_id: Vec<u8>,
    /// `OCSPServer`.
    pub ocsp_server: Vec<String>,
    /// `IssuingCertificateURL`.
    pub issuing_certificate_url: Vec<String>,
    /// `DNSNames`; absent means `["localhost"]`.
    pub dns_names: Option<Vec<String>>,
    /// `EmailAddresses`.
    pub email_addresses: Vec<String>,
    /// `IPAddresses`; absent means `["127.0.0.1", "::1"]`.
    pub ip_addresses: Option<Vec<IpAddr>>,
    /// `URIs`, each assembled to its text.
    pub uris: Vec<String>,
    /// `PermittedDNSDomainsCritical`: makes the name constraints critical.
    pub permitted_dns_domains_critical: bool,
    /// `PermittedDNSDomains`.
    pub permitted_dns_domains: Vec<String>,
    /// `ExcludedDNSDomains`.
    pub excluded_dns_domains: Vec<String>,
    /// `PermittedIPRanges`.
    pub permitted_ip_ranges: Vec<IpRange>,
    /// `ExcludedIPRanges`.
    pub excluded_ip_ranges: Vec<IpRange>,
    /// `PermittedEmailAddresses`.
    pub permitted_email_addresses: Vec<String>,
    /// `ExcludedEmailAddresses`.
    pub excluded_email_addresses: Vec<String>,
    /// `PermittedURIDomains`.
    pub permitted_uri_domains: Vec<String>,
    /// `ExcludedURIDomains`.
    pub excluded_uri_domains: Vec<String>,
    /// `CRLDistributionPoints`.
    pub crl_distribution_points: Vec<String>,
    /// `Policies`, in dotted form.
    pub policies: Vec<String>,
    /// `ExtraExtensions`: appended as they are; each suppresses a generated extension of its type.
    pub extra_extensions: Vec<ExtraExtension>,
    /// `SignatureAlgorithm`: 0 or 11 ECDSA with SHA-384, 10 with SHA-256, 12 with SHA-512; nothing else is possible.
    pub signature_algorithm: i64,
}

/// An address range of name constraints, as Go's `net.IPNet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpRange {
    /// `IP`.
    pub ip: IpAddr,
    /// `Mask`: 4 or 16 bytes.
    pub mask: Vec<u8>,
}

/// An extension that is given with its encoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraExtension {
    /// `Id`: arcs of the type.
    pub id: Vec<u64>,
    /// `Critical`.
    pub critical: bool,
    /// `Value`: contents of the OCTET STRING.
    pub value: Vec<u8>,
}

impl CertificateTemplate {
    /// The template that a certificate itself is, for making another one like it.
    ///
    /// The placeholder of a unique certificate is such a template: subject, usages, names, constraints, policies, end
    /// of validity, key identifier and signature algorithm survive, extra extensions do not. Nothing is filled in
    /// later: what the certificate has not, the next one has not either.
    ///
    /// # Errors
    ///
    /// See [`CertificateError`].
    pub fn from_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        let mut template = Self {
            subject: certificate.subject()?,
            raw_subject: Some(certificate.subject_der().to_vec()),
            not_after: Some(certificate.validity()?.not_after),
            ext_key_usage: Some(Vec::new()),
            dns_names: Some(Vec::new()),
            ip_addresses: Some(Vec::new()),
            max_path_len: -1,
            signature_algorithm: go_signature_algorithm(&certificate),
            ..Self::default()
        };
        for extension in certificate.extensions()? {
            template.take_extension(&extension)?;
        }
        Ok(template)
    }

    fn take_extension(&mut self, extension: &Extension) -> Result<(), CertificateError> {
        let value = extension.value.as_slice();
        match extension.oid {
            oid::KEY_USAGE => self.key_usage = key_usage(value).map_err(malformed("key usage"))?,
            oid::EXT_KEY_USAGE => self.take_ext_key_usage(value).map_err(malformed("extended key usage"))?,
            oid::BASIC_CONSTRAINTS => self.take_basic_constraints(value).map_err(malformed("basic constraints"))?,
            oid::SUBJECT_KEY_ID => {
                let id = AnyRef::from_der(value).map_err(malformed("subject key identifier"))?;
                self.subject_key_id = id.value().to_vec();
            }
            oid::AUTHORITY_INFO_ACCESS => self.take_info_access(value)?,
            oid::SUBJECT_ALT_NAME => {
                let names = GeneralNames::parse(value)?;
                self.dns_names = Some(names.dns);
                self.email_addresses = names.emails;
                self.ip_addresses = Some(names.ips);
                self.uris = names.uris;
            }
            oid::CERTIFICATE_POLICIES => self.take_policies(value).map_err(malformed("certificate policies"))?,
            oid::NAME_CONSTRAINTS => {
                self.permitted_dns_domains_critical = extension.critical;
                self.take_name_constraints(value)?;
            }
            oid::CRL_DISTRIBUTION_POINTS => self.take_distribution_points(value)?,
            _ => {}
        }
        Ok(())
    }

    fn take_ext_key_usage(&mut self, value: &[u8]) -> der::Result<()> {
        let known = self.ext_key_usage.get_or_insert_default();
        for usage in asn1::sequence_elements(value)? {
            let usage: const_oid::ObjectIdentifier = usage.decode_as()?;
            match (0_i64..).zip(oid::EXT_KEY_USAGES).find(|(_, oid)| *oid == usage) {
                Some((number, _)) => known.push(number),
                None => self.unknown_ext_key_usage.push(usage.arcs().map(u64::from).collect()),
            }
        }
        Ok(())
    }

    fn take_basic_constraints(&mut self, value: &[u8]) -> der::Result<()> {
        for element in asn1::sequence_elements(value)? {
            match element.tag() {
                Tag::Boolean => self.is_ca = element.decode_as()?,
                Tag::Integer => {
                    self.max_path_len = element.decode_as::<u32>()?.into();
                    self.max_path_len_zero = self.max_path_len == 0;
                }
                tag => return Err(tag.unexpected_error(None).into()),
            }
        }
        Ok(())
    }

    fn take_info_access(&mut self, value: &[u8]) -> Result<(), CertificateError> {
        const PART: &str = "authority information access";
        for description in asn1::sequence_elements(value).map_err(malformed(PART))? {
            let parts = asn1::elements(description.value()).map_err(malformed(PART))?;
            let [method, location] = parts.as_slice() else {
                return Err(malformed(PART)(Tag::Sequence.length_error().into()));
            };
            if location.tag() != asn1::primitive(6) {
                continue;
            }
            let location = ascii(PART, location.value())?;
            match method.decode_as().map_err(malformed(PART))? {
                oid::ACCESS_OCSP => self.ocsp_server.push(location),
                oid::ACCESS_CA_ISSUERS => self.issuing_certificate_url.push(location),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_policies(&mut self, value: &[u8]) -> der::Result<()> {
        for information in asn1::sequence_elements(value)? {
            let parts = asn1::elements(information.value())?;
            let policy = parts.first().ok_or_else(|| der::Error::from(Tag::Sequence.length_error()))?;
            self.policies.push(policy.decode_as::<const_oid::ObjectIdentifier>()?.to_string());
        }
        Ok(())
    }

    fn take_name_constraints(&mut self, value: &[u8]) -> Result<(), CertificateError> {
        const PART: &str = "name constraints";
        for side in asn1::sequence_elements(value).map_err(malformed(PART))? {
            let is_permitted = side.tag() == asn1::constructed(0);
            for subtree in asn1::elements(side.value()).map_err(malformed(PART))? {
                let parts = asn1::elements(subtree.value()).map_err(malformed(PART))?;
                let Some(name) = parts.first() else { continue };
                let Tag::ContextSpecific { number: TagNumber(number), .. } = name.tag() else { continue };
                if number == 7 {
                    let ranges =
                        if is_permitted { &mut self.permitted_ip_ranges } else { &mut self.excluded_ip_ranges };
                    ranges.push(ip_range(PART, name.value())?);
                    continue;
                }
                let names = match (number, is_permitted) {
                    (1, true) => &mut self.permitted_email_addresses,
                    (1, false) => &mut self.excluded_email_addresses,
                    (2, true) => &mut self.permitted_dns_domains,
                    (2, false) => &mut self.excluded_dns_domains,
                    (6, true) => &mut self.permitted_uri_domains,
                    (6, false) => &mut self.excluded_uri_domains,
                    _ => continue,
                };
                names.push(ascii(PART, name.value())?);
            }
        }
        Ok(())
    }

    fn take_distribution_points(&mut self, value: &[u8]) -> Result<(), CertificateError> {
        const PART: &str = "CRL distribution points";
        for point in asn1::sequence_elements(value).map_err(malformed(PART))? {
            for field in asn1::elements(point.value()).map_err(malformed(PART))? {
                if field.tag() != asn1::constructed(0) {
                    continue;
                }
                for name in asn1::elements(field.value()).map_err(malformed(PART))? {
                    if name.tag() != asn1::constructed(0) {
                        continue;
                    }
                    for url in asn1::elements(name.value()).map_err(malformed(PART))? {
                        if url.tag() == asn1::primitive(6) {
                            self.crl_distribution_points.push(ascii(PART, url.value())?);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn go_signature_algorithm(certificate: &Certificate<'_>) -> i64 {
    match certificate.signature_oid().and_then(SignatureHash::from_oid) {
        Some(SignatureHash::Sha256) => 10,
        Some(SignatureHash::Sha512) => 12,
        // Other algorithms belong to signers that are not ours; the default is.
        Some(SignatureHash::Sha384) | None => 11,
    }
}

fn key_usage(value: &[u8]) -> der::Result<i64> {
    let bits = BitStringRef::from_der(value)?;
    Ok((0..16).filter(|bit| bits.get(*bit) == Some(true)).map(|bit| 1 << bit).sum())
}

fn ip_range(part: &'static str, bytes: &[u8]) -> Result<IpRange, CertificateError> {
    let (ip, mask) = bytes.split_at(bytes.len() / 2);
    if ip.len() != mask.len() {
        return Err(CertificateError::IpAddress { part, got: bytes.len() });
    }
    Ok(IpRange { ip: ip_address(part, ip)?, mask: mask.to_vec() })
}
