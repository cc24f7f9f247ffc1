//! Encoding of the extensions, byte for byte as Go's `crypto/x509` does.

use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use der::asn1::BitStringRef;
use der::{Encode, Tag};

use crate::asn1::{constructed, primitive, sequence, tlv};
use crate::certificate::Extension;
use crate::issue::IssueError;
use crate::oid;

pub(crate) const DIGITAL_SIGNATURE: i64 = 1;
pub(crate) const KEY_AGREEMENT: i64 = 16;
pub(crate) const KEY_CERT_SIGN: i64 = 32;

impl Extension {
    pub(crate) fn to_der(&self) -> der::Result<Vec<u8>> {
        let mut parts = vec![self.oid.to_der()?];
        if self.critical {
            parts.push(true.to_der()?);
        }
        parts.push(tlv(Tag::OctetString, &self.value)?);
        sequence(&parts)
    }
}

/// An extension that is not critical.
pub(crate) fn plain(oid: ObjectIdentifier, value: Vec<u8>) -> Extension {
    Extension { oid, critical: false, value }
}

fn critical(oid: ObjectIdentifier, value: Vec<u8>) -> Extension {
    Extension { oid, critical: true, value }
}

/// `mask` has bit 0 for digitalSignature; bits 9 to 15 have no name but are encoded, higher ones are dropped.
pub(crate) fn key_usage(mask: i64) -> der::Result<Extension> {
    let bytes = [(mask as u8).reverse_bits(), ((mask >> 8) as u8).reverse_bits()];
    // A named bit list ends at its last set bit (X.690 11.2.2).
    let used = (16 - u16::from_be_bytes(bytes).trailing_zeros().min(16)) as usize;
    let octets = used.div_ceil(8);
    let bits = BitStringRef::new((octets * 8 - used) as u8, &bytes[..octets])?;
    Ok(critical(oid::KEY_USAGE, bits.to_der()?))
}

pub(crate) fn ext_key_usage(usages: &[ObjectIdentifier]) -> der::Result<Extension> {
    let encoded: der::Result<Vec<_>> = usages.iter().map(Encode::to_der).collect();
    Ok(plain(oid::EXT_KEY_USAGE, sequence(&encoded?)?))
}

pub(crate) fn basic_constraints(is_ca: bool, path_len: Option<u64>) -> der::Result<Extension> {
    let mut parts = Vec::new();
    if is_ca {
        parts.push(true.to_der()?);
    }
    if let Some(length) = path_len {
        parts.push(length.to_der()?);
    }
    Ok(critical(oid::BASIC_CONSTRAINTS, sequence(&parts)?))
}

pub(crate) fn subject_key_id(id: &[u8]) -> der::Result<Extension> {
    Ok(plain(oid::SUBJECT_KEY_ID, tlv(Tag::OctetString, id)?))
}

pub(crate) fn authority_key_id(id: &[u8]) -> der::Result<Extension> {
    Ok(plain(oid::AUTHORITY_KEY_ID, sequence(&[tlv(primitive(0), id)?])?))
}

/// OCSP responders first, then the issuers' certificates. The texts are not checked, as in Go.
pub(crate) fn authority_info_access(ocsp: &[String], issuers: &[String]) -> der::Result<Extension> {
    let mut parts = Vec::new();
    for (method, locations) in [(oid::ACCESS_OCSP, ocsp), (oid::ACCESS_CA_ISSUERS, issuers)] {
        for location in locations {
            parts.push(sequence(&[method.to_der()?, tlv(primitive(6), location.as_bytes())?])?);
        }
    }
    Ok(plain(oid::AUTHORITY_INFO_ACCESS, sequence(&parts)?))
}

/// DNS names, e-mail addresses, IP addresses, URIs, in this order; critical if the subject is empty (RFC 5280 4.2.1.6).
pub(crate) fn subject_alt_name(
    subject_is_empty: bool,
    dns: &[String],
    emails: &[String],
    ips: &[IpAddr],
    uris: &[String],
) -> Result<Extension, IssueError> {
    let mut parts = Vec::new();
    for (member, number, names) in [("DNSNames", 2, dns), ("EmailAddresses", 1, emails)] {
        for name in names {
            parts.push(ascii_name(member, number, name)?);
        }
    }
    for ip in ips {
        parts.push(tlv(primitive(7), &ip_octets(*ip))?);
    }
    for uri in uris {
        parts.push(ascii_name("URIs", 6, uri)?);
    }
    Ok(Extension { oid: oid::SUBJECT_ALT_NAME, critical: subject_is_empty, value: sequence(&parts)? })
}

fn ascii_name(member: &'static str, number: u32, name: &str) -> Result<Vec<u8>, IssueError> {
    if !name.is_ascii() {
        return Err(IssueError::NotAscii { member, got: name.to_owned() });
    }
    Ok(tlv(primitive(number), name.as_bytes())?)
}

/// Four bytes for IPv4, also where it is written as IPv4-mapped IPv6.
fn ip_octets(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn certificate_policies(policies: &[ObjectIdentifier]) -> der::Result<Extension> {
    let mut parts = Vec::new();
    for policy in policies {
        parts.push(sequence(&[policy.to_der()?])?);
    }
    Ok(plain(oid::CERTIFICATE_POLICIES, sequence(&parts)?))
}

/// One side of the name constraints; each list as in the template.
pub(crate) struct Subtrees<'a> {
    pub(crate) dns: (&'static str, &'a [String]),
    pub(crate) ip_ranges: &'a [Vec<u8>],
    pub(crate) emails: (&'static str, &'a [String]),
    pub(crate) uris: (&'static str, &'a [String]),
}

impl Subtrees<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.dns.1.is_empty() && self.ip_ranges.is_empty() && self.emails.1.is_empty() && self.uris.1.is_empty()
    }

    fn to_der(&self, number: u32) -> Result<Vec<u8>, IssueError> {
        let mut parts = Vec::new();
        for name in self.dns.1 {
            parts.push(sequence(&[ascii_name(self.dns.0, 2, name)?])?);
        }
        for range in self.ip_ranges {
            parts.push(sequence(&[tlv(primitive(7), range)?])?);
        }
        for (number, (member, names)) in [(1, self.emails), (6, self.uris)] {
            for name in names {
                parts.push(sequence(&[ascii_name(member, number, name)?])?);
            }
        }
        if self.is_empty() {
            return Ok(Vec::new());
        }
        Ok(tlv(constructed(number), &parts.concat())?)
    }
}

pub(crate) fn name_constraints(
    is_critical: bool,
    permitted: &Subtrees<'_>,
    excluded: &Subtrees<'_>,
) -> Result<Extension, IssueError> {
    let value = sequence(&[permitted.to_der(0)?, excluded.to_der(1)?])?;
    Ok(Extension { oid: oid::NAME_CONSTRAINTS, critical: is_critical, value })
}

pub(crate) fn crl_distribution_points(urls: &[String]) -> der::Result<Extension> {
    let mut points = Vec::new();
    for url in urls {
        let full_name = tlv(constructed(0), &tlv(primitive(6), url.as_bytes())?)?;
        points.push(sequence(&[tlv(constructed(0), &full_name)?])?);
    }
    Ok(plain(oid::CRL_DISTRIBUTION_POINTS, sequence(&points)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_key_usage(mask: i64, expected: &[u8]) {
        assert_eq!(key_usage(mask).unwrap().value, expected, "mask {mask}");
    }

    #[test]
    fn key_usage_bits_are_encoded_up_to_the_last_one() {
        check_key_usage(1, &[3, 2, 7, 0x80]);
        check_key_usage(33, &[3, 2, 2, 0x84]);
        check_key_usage(17, &[3, 2, 3, 0x88]);
        check_key_usage(256, &[3, 3, 7, 0, 0x80]);
        check_key_usage(32768 | 1, &[3, 3, 0, 0x80, 0x01]);
        check_key_usage(65536 | 1, &[3, 2, 7, 0x80]);
        check_key_usage(65536, &[3, 1, 0]);
    }

    #[test]
    fn ipv4_mapped_addresses_take_four_bytes() {
        let names = subject_alt_name(false, &[], &[], &["::ffff:192.0.2.1".parse().unwrap()], &[]).unwrap();
        assert_eq!(names.value, [0x30, 6, 0x87, 4, 192, 0, 2, 1]);
    }
}
