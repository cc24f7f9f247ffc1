//! From the manifest's form of a certificate template to the form that certificates are made from.

use std::time::Duration;

use marblerun_manifest::{CertificateTemplate as Written, SecretCertificate, SubjectName, Timestamp};
use marblerun_pki::name::ExtraName;
use marblerun_pki::template::{CertificateTemplate, ExtraExtension, IpRange};
use marblerun_pki::{CertificateError, Subject, oid};
use rustls_pki_types::UnixTime;
use thiserror::Error;

/// Why a template makes no certificate; the place is below `Secrets.<name>.Cert`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A list has an element without value.
    #[error("{member}[{index}]: expected {expected}, got nothing")]
    Missing {
        /// Where.
        member: &'static str,
        /// Position in the list.
        index: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// An object identifier has a negative number.
    #[error("{member}: expected an object identifier, got {got:?}")]
    Oid {
        /// Where.
        member: &'static str,
        /// The numbers.
        got: Vec<i64>,
    },
    /// A name's value is not text.
    #[error("Subject.ExtraNames[{index}].Value: expected a string, got another JSON value")]
    NameValue {
        /// Position in the list.
        index: usize,
    },
    /// A time before the epoch.
    #[error("NotAfter: expected a time from 1970 on, got {got}")]
    NotAfter {
        /// The time.
        got: Timestamp,
    },
    /// Such a certificate would be a Marble's credential.
    #[error("ExtraExtensions: expected other extensions than {}, which marks Marbles", oid::MARBLE_TYPE)]
    MarbleType,
    /// The given certificate cannot serve as a template.
    #[error("expected a certificate that can serve as a template")]
    Certificate(#[source] CertificateError),
}

/// Converts the member `Cert` of a secret.
///
/// # Errors
///
/// See [`TemplateError`].
pub fn convert(written: &SecretCertificate) -> Result<CertificateTemplate, TemplateError> {
    match written {
        // A string that is not base64 counts as no template; the manifest has a warning about it.
        SecretCertificate::Unset | SecretCertificate::Unreadable => Ok(CertificateTemplate::default()),
        SecretCertificate::Der(der) => CertificateTemplate::from_certificate(der).map_err(TemplateError::Certificate),
        SecretCertificate::Template(template) => convert_object(template),
    }
}

fn convert_object(written: &Written) -> Result<CertificateTemplate, TemplateError> {
    Ok(CertificateTemplate {
        subject: subject(&written.subject)?,
        raw_subject: written.raw_subject.clone().filter(|raw| !raw.is_empty()),
        not_after: not_after(written.not_after)?,
        key_usage: written.key_usage,
        ext_key_usage: written.ext_key_usage.clone(),
        unknown_ext_key_usage: written
            .unknown_ext_key_usage
            .iter()
            .map(|arcs| identifier("UnknownExtKeyUsage", arcs))
            .collect::<Result<_, _>>()?,
        is_ca: written.is_ca,
        max_path_len: written.max_path_len,
        max_path_len_zero: written.max_path_len_zero,
        subject_key_id: written.subject_key_id.clone().unwrap_or_default(),
        ocsp_server: written.ocsp_server.clone(),
        issuing_certificate_url: written.issuing_certificate_url.clone(),
        dns_names: written.dns_names.clone(),
        email_addresses: written.email_addresses.clone(),
        ip_addresses: written
            .ip_addresses
            .as_ref()
            .map(|addresses| all_given("IPAddresses", "an IP address", addresses, |address| Some(*address)))
            .transpose()?,
        uris: all_given("URIs", "a URL object", &written.uris, |url| Some(url.to_string()))?,
        permitted_dns_domains_critical: written.permitted_dns_domains_critical,
        permitted_dns_domains: written.permitted_dns_domains.clone(),
        excluded_dns_domains: written.excluded_dns_domains.clone(),
        permitted_ip_ranges: ranges("PermittedIPRanges", &written.permitted_ip_ranges)?,
        excluded_ip_ranges: ranges("ExcludedIPRanges", &written.excluded_ip_ranges)?,
        permitted_email_addresses: written.permitted_email_addresses.clone(),
        excluded_email_addresses: written.excluded_email_addresses.clone(),
        permitted_uri_domains: written.permitted_uri_domains.clone(),
        excluded_uri_domains: written.excluded_uri_domains.clone(),
        crl_distribution_points: written.crl_distribution_points.clone(),
        policies: written.policies.iter().map(|policy| policy.as_str().to_owned()).collect(),
        extra_extensions: written.extra_extensions.iter().map(extra_extension).collect::<Result<_, _>>()?,
        signature_algorithm: written.signature_algorithm,
    })
}

fn subject(written: &SubjectName) -> Result<Subject, TemplateError> {
    let extra_name = |(index, name): (usize, &marblerun_manifest::AttributeTypeAndValue)| {
        Ok(ExtraName {
            oid: identifier("Subject.ExtraNames", &name.oid)?,
            value: name.text().ok_or(TemplateError::NameValue { index })?,
        })
    };
    Ok(Subject {
        country: written.country.clone(),
        organization: written.organization.clone(),
        organizational_unit: written.organizational_unit.clone(),
        locality: written.locality.clone(),
        province: written.province.clone(),
        street_address: written.street_address.clone(),
        postal_code: written.postal_code.clone(),
        serial_number: written.serial_number.clone(),
        common_name: written.common_name.clone(),
        extra_names: written.extra_names.iter().enumerate().map(extra_name).collect::<Result<_, _>>()?,
    })
}

fn not_after(written: Timestamp) -> Result<Option<UnixTime>, TemplateError> {
    if written.is_unset() {
        return Ok(None);
    }
    let seconds = u64::try_from(written.seconds).map_err(|_| TemplateError::NotAfter { got: written })?;
    Ok(Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds))))
}

fn identifier(member: &'static str, arcs: &[i64]) -> Result<Vec<u64>, TemplateError> {
    arcs.iter()
        .map(|arc| u64::try_from(*arc))
        .collect::<Result<_, _>>()
        .map_err(|_| TemplateError::Oid { member, got: arcs.to_vec() })
}

fn extra_extension(written: &marblerun_manifest::ExtraExtension) -> Result<ExtraExtension, TemplateError> {
    let id = identifier("ExtraExtensions", &written.id)?;
    if id.iter().copied().eq(oid::MARBLE_TYPE.arcs().map(u64::from)) {
        return Err(TemplateError::MarbleType);
    }
    Ok(ExtraExtension { id, critical: written.critical, value: written.value.clone().unwrap_or_default() })
}

fn ranges(
    member: &'static str,
    written: &[Option<marblerun_manifest::IpRange>],
) -> Result<Vec<IpRange>, TemplateError> {
    all_given(member, "a network with IP and Mask", written, |range| {
        Some(IpRange { ip: range.ip?, mask: range.mask.clone()? })
    })
}

fn all_given<T, U>(
    member: &'static str,
    expected: &'static str,
    elements: &[Option<T>],
    convert: impl Fn(&T) -> Option<U>,
) -> Result<Vec<U>, TemplateError> {
    elements
        .iter()
        .enumerate()
        .map(|(index, element)| {
            element.as_ref().and_then(&convert).ok_or(TemplateError::Missing { member, index, expected })
        })
        .collect()
}
