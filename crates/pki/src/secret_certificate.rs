//! Certificates of secrets, made from a template.

use std::net::IpAddr;
use std::time::Duration;

use const_oid::ObjectIdentifier;
use rustls_pki_types::UnixTime;

use crate::certificate::Extension;
use crate::extension::{self, DIGITAL_SIGNATURE, KEY_CERT_SIGN, Subtrees};
use crate::issue::{IssueError, Issuer, SignatureHash, Unsigned, end_of_life, key_id};
use crate::name::{AltNames, Subject, object_identifier};
use crate::oid;
use crate::template::{CertificateTemplate, IpRange};

/// Days that a certificate lives if neither template nor secret say anything.
pub const DEFAULT_VALID_FOR_DAYS: u64 = 365;

/// Common name where the template has none and not exactly one DNS name.
pub const DEFAULT_NAME: &str = "MarbleRun Generated Certificate";

const DAY_SECONDS: u64 = 24 * 60 * 60;
const DEFAULT_DNS_NAME: &str = "localhost";
/// Go's numbers of serverAuth and clientAuth.
const DEFAULT_EXT_KEY_USAGE: [i64; 2] = [1, 2];
/// DER of a name without any attribute.
const EMPTY_NAME: [u8; 2] = [0x30, 0x00];

/// What the secret around the template says about the certificate's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretValidity {
    /// The secret's `ValidFor`, in days; 0 means not given.
    pub valid_for_days: u64,
    /// Whether the secret is shared by all Marbles.
    pub shared: bool,
}

impl SecretValidity {
    /// The end of validity of a certificate that is made `now`.
    ///
    /// Without `not_after` in the template, `valid_for_days` (or 365) from now. With it, it is kept, except that a
    /// unique certificate with `valid_for_days` counts from now again: its template is the placeholder, whose end was
    /// computed when the manifest was set.
    fn not_after(self, template: &CertificateTemplate, now: UnixTime) -> UnixTime {
        let days = match (template.not_after, self.valid_for_days) {
            (Some(kept), 0) => return kept,
            (Some(kept), _) if self.shared => return kept,
            (None, 0) => DEFAULT_VALID_FOR_DAYS,
            (_, days) => days,
        };
        end_of_life(now, Duration::from_secs(days.saturating_mul(DAY_SECONDS)))
    }
}

/// Makes the certificate of a secret for `public_key_der` (SubjectPublicKeyInfo), signed by the Marble root; DER.
///
/// Issuer, beginning of validity, serial number and authority key identifier do not come from the template. Fields
/// that the template leaves out are filled in as its documentation says.
///
/// # Errors
///
/// See [`IssueError`]; each error of the template names its member.
pub fn issue_secret_certificate(
    marble_root: &Issuer<'_>,
    template: &CertificateTemplate,
    validity: SecretValidity,
    public_key_der: &[u8],
    now: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    let names = Names::of(template);
    let subject_der = subject_der(template, &names.dns)?;
    Unsigned {
        issuer_der: &marble_root.subject_der,
        subject_der: &subject_der,
        now,
        not_after: validity.not_after(template, now),
        public_key_der,
        extensions: &extensions(template, &names, &subject_der, marble_root, public_key_der)?,
        hash: signature_hash(template.signature_algorithm)?,
    }
    .sign(marble_root.key)
}

struct Names {
    dns: Vec<String>,
    ips: Vec<IpAddr>,
}

impl Names {
    fn of(template: &CertificateTemplate) -> Self {
        Self {
            dns: template.dns_names.clone().unwrap_or_else(|| vec![DEFAULT_DNS_NAME.to_owned()]),
            ips: template.ip_addresses.clone().unwrap_or_else(|| AltNames::DEFAULT_IPS.to_vec()),
        }
    }
}

fn subject_der(template: &CertificateTemplate, dns: &[String]) -> Result<Vec<u8>, IssueError> {
    if let Some(raw) = &template.raw_subject {
        Subject::from_der(raw).map_err(IssueError::RawSubject)?;
        return Ok(raw.clone());
    }
    if !template.subject.common_name.is_empty() {
        return template.subject.to_der();
    }
    let common_name = match dns {
        [only] => only,
        _ => DEFAULT_NAME,
    };
    Subject { common_name: common_name.to_owned(), ..template.subject.clone() }.to_der()
}

fn signature_hash(go_number: i64) -> Result<SignatureHash, IssueError> {
    match go_number {
        0 | 11 => Ok(SignatureHash::Sha384),
        10 => Ok(SignatureHash::Sha256),
        12 => Ok(SignatureHash::Sha512),
        got => Err(IssueError::SignatureAlgorithm { got }),
    }
}

/// The generated extensions in Go's order, without those that the extra ones replace, then the extra ones.
fn extensions(
    template: &CertificateTemplate,
    names: &Names,
    subject_der: &[u8],
    issuer: &Issuer<'_>,
    public_key_der: &[u8],
) -> Result<Vec<Extension>, IssueError> {
    let extra = extra_extensions(template)?;
    let mut all = usages(template)?;

    // Checks the public key as well, which the signature alone would not.
    let default_key_id = key_id(public_key_der)?;
    if !template.subject_key_id.is_empty() {
        all.push(extension::subject_key_id(&template.subject_key_id)?);
    } else if template.is_ca {
        all.push(extension::subject_key_id(&default_key_id)?);
    }
    if let Some(id) = &issuer.key_id {
        all.push(extension::authority_key_id(id)?);
    }
    if !template.ocsp_server.is_empty() || !template.issuing_certificate_url.is_empty() {
        all.push(extension::authority_info_access(&template.ocsp_server, &template.issuing_certificate_url)?);
    }
    let (emails, uris) = (&template.email_addresses, &template.uris);
    if !(names.dns.is_empty() && emails.is_empty() && names.ips.is_empty() && uris.is_empty()) {
        all.push(extension::subject_alt_name(subject_der == EMPTY_NAME, &names.dns, emails, &names.ips, uris)?);
    }
    if !template.policies.is_empty() {
        let policies: Result<Vec<_>, _> = template.policies.iter().map(|policy| policy_oid(policy)).collect();
        all.push(extension::certificate_policies(&policies?)?);
    }
    all.extend(name_constraints(template)?);
    if !template.crl_distribution_points.is_empty() {
        all.push(extension::crl_distribution_points(&template.crl_distribution_points)?);
    }
    all.retain(|generated| extra.iter().all(|given| given.oid != generated.oid));
    all.extend(extra);
    Ok(all)
}

fn usages(template: &CertificateTemplate) -> Result<Vec<Extension>, IssueError> {
    let key_usage = match template.key_usage {
        0 => DIGITAL_SIGNATURE | KEY_CERT_SIGN,
        given => given,
    };
    let mut all = vec![extension::key_usage(key_usage)?];
    let mut usages = Vec::new();
    for number in template.ext_key_usage.as_deref().unwrap_or(&DEFAULT_EXT_KEY_USAGE) {
        let known = usize::try_from(*number).ok().and_then(|index| oid::EXT_KEY_USAGES.get(index));
        usages.push(*known.ok_or(IssueError::ExtKeyUsage { got: *number })?);
    }
    for arcs in &template.unknown_ext_key_usage {
        usages.push(object_identifier("UnknownExtKeyUsage", arcs)?);
    }
    if !usages.is_empty() {
        all.push(extension::ext_key_usage(&usages)?);
    }
    all.push(extension::basic_constraints(template.is_ca, path_len(template)?)?);
    Ok(all)
}

fn path_len(template: &CertificateTemplate) -> Result<Option<u64>, IssueError> {
    let got = template.max_path_len;
    let length = match got {
        -1 => return Ok(None),
        0 if !template.max_path_len_zero => return Ok(None),
        _ => u64::try_from(got).map_err(|_| IssueError::PathLen { got })?,
    };
    if !template.is_ca {
        return Err(IssueError::PathLenWithoutCa { got });
    }
    Ok(Some(length))
}

fn policy_oid(dotted: &str) -> Result<ObjectIdentifier, IssueError> {
    ObjectIdentifier::new(dotted).map_err(|_| IssueError::Oid { member: "Policies", got: dotted.to_owned() })
}

fn extra_extensions(template: &CertificateTemplate) -> Result<Vec<Extension>, IssueError> {
    let mut all = Vec::with_capacity(template.extra_extensions.len());
    for extra in &template.extra_extensions {
        let oid = object_identifier("ExtraExtensions", &extra.id)?;
        // The Coordinator knows Marbles by it; a secret that carries it could act as one.
        if oid == oid::MARBLE_TYPE {
            return Err(IssueError::MarbleTypeExtension);
        }
        all.push(Extension { oid, critical: extra.critical, value: extra.value.clone() });
    }
    Ok(all)
}

fn name_constraints(template: &CertificateTemplate) -> Result<Option<Extension>, IssueError> {
    let permitted_ranges = ip_ranges("PermittedIPRanges", &template.permitted_ip_ranges)?;
    let excluded_ranges = ip_ranges("ExcludedIPRanges", &template.excluded_ip_ranges)?;
    let permitted = Subtrees {
        dns: ("PermittedDNSDomains", &template.permitted_dns_domains),
        ip_ranges: &permitted_ranges,
        emails: ("PermittedEmailAddresses", &template.permitted_email_addresses),
        uris: ("PermittedURIDomains", &template.permitted_uri_domains),
    };
    let excluded = Subtrees {
        dns: ("ExcludedDNSDomains", &template.excluded_dns_domains),
        ip_ranges: &excluded_ranges,
        emails: ("ExcludedEmailAddresses", &template.excluded_email_addresses),
        uris: ("ExcludedURIDomains", &template.excluded_uri_domains),
    };
    if permitted.is_empty() && excluded.is_empty() {
        return Ok(None);
    }
    extension::name_constraints(template.permitted_dns_domains_critical, &permitted, &excluded).map(Some)
}

/// Each range as address and mask behind each other, the address with the bits outside the mask cleared.
fn ip_ranges(member: &'static str, ranges: &[IpRange]) -> Result<Vec<Vec<u8>>, IssueError> {
    ranges
        .iter()
        .map(|range| {
            let address = match (range.ip, range.mask.len()) {
                (IpAddr::V4(v4), 4) => v4.octets().to_vec(),
                (IpAddr::V4(v4), 16) => v4.to_ipv6_mapped().octets().to_vec(),
                (IpAddr::V6(v6), 16) => v6.octets().to_vec(),
                (ip, got_bytes) => return Err(IssueError::IpRange { member, ip, got_bytes }),
            };
            let masked = address.iter().zip(&range.mask).map(|(byte, mask)| byte & mask);
            Ok(masked.chain(range.mask.iter().copied()).collect())
        })
        .collect()
}
