//! Names of certificate subjects, encoded as Go's `crypto/x509/pkix` does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BmpString, TeletexStringRef};
use der::{Encode, Tag, Tagged};

use crate::asn1;
use crate::certificate::{CertificateError, malformed};
use crate::issue::IssueError;

/// DNS names and IP addresses of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AltNames {
    /// DNS names; only ASCII can be encoded.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
}

impl AltNames {
    /// The addresses that every profile adds: `127.0.0.1` and `::1`.
    pub const DEFAULT_IPS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    /// Reads a comma-separated list as `EDG_COORDINATOR_DNS_NAMES` and `EDG_MARBLE_DNS_NAMES` hold it.
    ///
    /// An element that is the text of an IP address, an IPv6 address also in brackets, becomes one; all others are DNS
    /// names. Blanks around an element are trimmed and empty elements left out: neither could ever match. MarbleRun
    /// v1.9.1 keeps them.
    pub fn from_list(list: &str) -> Self {
        let mut names = Self::default();
        for element in list.split(',').map(str::trim).filter(|element| !element.is_empty()) {
            let bare = element.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(ip) = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()) {
                names.ips.push(ip.into());
            } else if let Ok(ip) = element.parse() {
                names.ips.push(ip);
            } else {
                names.dns.push(element.to_owned());
            }
        }
        names
    }

    /// Refuses DNS names that no peer could ask for (RFC 1035 2.3.4).
    pub(crate) fn check_lengths(&self) -> Result<(), IssueError> {
        const MAX_LABEL: usize = 63;
        const MAX_NAME: usize = 253;
        let is_too_long =
            |name: &&String| name.len() > MAX_NAME || name.split('.').any(|label| label.len() > MAX_LABEL);
        match self.dns.iter().find(is_too_long) {
            None => Ok(()),
            Some(name) => Err(IssueError::NameTooLong { got: name.clone() }),
        }
    }
}

/// A distinguished name with the members of Go's `pkix.Name`.
///
/// Encoding order: C, ST, L, street, postalCode, O, OU, CN, serialNumber, then the extra names. Several values of one
/// member form one multi-valued RDN. Lengths (for example two-letter countries) are not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// `Country`, 2.5.4.6.
    pub country: Vec<String>,
    /// `Organization`, 2.5.4.10.
    pub organization: Vec<String>,
    /// `OrganizationalUnit`, 2.5.4.11.
    pub organizational_unit: Vec<String>,
    /// `Locality`, 2.5.4.7.
    pub locality: Vec<String>,
    /// `Province`, 2.5.4.8.
    pub province: Vec<String>,
    /// `StreetAddress`, 2.5.4.9.
    pub street_address: Vec<String>,
    /// `PostalCode`, 2.5.4.17.
    pub postal_code: Vec<String>,
    /// `SerialNumber`, 2.5.4.5; empty means absent.
    pub serial_number: String,
    /// `CommonName`, 2.5.4.3; empty means absent.
    pub common_name: String,
    /// `ExtraNames`: further attributes, each an RDN of its own; they replace members with the same type.
    pub extra_names: Vec<ExtraName>,
}

/// An attribute of a [`Subject`] by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraName {
    /// Arcs of the attribute type, for example `[2, 5, 4, 5]`.
    pub oid: Vec<u64>,
    /// The value.
    pub value: String,
}

const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");
const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
const PROVINCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.8");
const STREET_ADDRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.9");
const POSTAL_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.17");
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

impl Subject {
    /// A name that consists of a common name only.
    pub fn from_common_name(name: &str) -> Self {
        Self { common_name: name.to_owned(), ..Self::default() }
    }

    /// The DER encoding (RDNSequence).
    ///
    /// # Errors
    ///
    /// [`IssueError::Oid`] for an extra name whose type is no object identifier.
    pub fn to_der(&self) -> Result<Vec<u8>, IssueError> {
        let mut extra = Vec::with_capacity(self.extra_names.len());
        for name in &self.extra_names {
            extra.push((object_identifier("Subject.ExtraNames", &name.oid)?, &name.value));
        }
        let mut rdns = Vec::new();
        let members = [
            (COUNTRY, self.country.as_slice()),
            (PROVINCE, &self.province),
            (LOCALITY, &self.locality),
            (STREET_ADDRESS, &self.street_address),
            (POSTAL_CODE, &self.postal_code),
            (ORGANIZATION, &self.organization),
            (ORGANIZATIONAL_UNIT, &self.organizational_unit),
            (COMMON_NAME, present(&self.common_name)),
            (SERIAL_NUMBER, present(&self.serial_number)),
        ];
        for (oid, values) in members {
            if values.is_empty() || extra.iter().any(|(overriding, _)| *overriding == oid) {
                continue;
            }
            let attributes: der::Result<Vec<_>> = values.iter().map(|value| attribute(oid, value)).collect();
            rdns.push(asn1::set_of(attributes?)?);
        }
        for (oid, value) in extra {
            rdns.push(asn1::set_of(vec![attribute(oid, value)?])?);
        }
        Ok(asn1::sequence(&rdns)?)
    }

    /// Reads the attributes that have a member here; all others are dropped, and `extra_names` stays empty.
    ///
    /// Where a single-valued attribute occurs twice, the last one counts.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`] if the bytes are no RDNSequence or a text is not of its ASN.1 type.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let mut subject = Self::default();
        for (oid, value) in attributes(der)? {
            match oid {
                COUNTRY => subject.country.push(value),
                ORGANIZATION => subject.organization.push(value),
                ORGANIZATIONAL_UNIT => subject.organizational_unit.push(value),
                LOCALITY => subject.locality.push(value),
                PROVINCE => subject.province.push(value),
                STREET_ADDRESS => subject.street_address.push(value),
                POSTAL_CODE => subject.postal_code.push(value),
                SERIAL_NUMBER => subject.serial_number = value,
                COMMON_NAME => subject.common_name = value,
                _ => {}
            }
        }
        Ok(subject)
    }
}

fn present(value: &String) -> &[String] {
    if value.is_empty() { &[] } else { std::slice::from_ref(value) }
}

fn attribute(oid: ObjectIdentifier, value: &str) -> der::Result<Vec<u8>> {
    // Go takes PrintableString where it can, without the `*` and `&` that some encoders allow in it.
    let printable = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    let tag = if printable { Tag::PrintableString } else { Tag::Utf8String };
    asn1::sequence(&[oid.to_der()?, asn1::tlv(tag, value.as_bytes())?])
}

fn attributes(der: &[u8]) -> Result<Vec<(ObjectIdentifier, String)>, CertificateError> {
    let mut found = Vec::new();
    for rdn in asn1::sequence_elements(der).map_err(malformed("name"))? {
        for pair in asn1::elements(rdn.value()).map_err(malformed("name"))? {
            let parts = asn1::elements(pair.value()).map_err(malformed("name"))?;
            let [oid, value] = parts.as_slice() else {
                return Err(malformed("name")(Tag::Sequence.length_error().into()));
            };
            // A type that does not fit into the identifier's type is none of those that have a member.
            let Ok(oid) = oid.decode_as::<ObjectIdentifier>() else { continue };
            if let Some(text) = text(value)? {
                found.push((oid, text));
            }
        }
    }
    Ok(found)
}

/// The text of a DirectoryString or of the other string types in use; `None` for values that are no text.
fn text(value: &AnyRef<'_>) -> Result<Option<String>, CertificateError> {
    let error = |tag: Tag| malformed("name")(tag.value_error().into());
    let bytes = value.value();
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(bytes).map_err(|_| error(value.tag()))?.to_owned()
        }
        Tag::TeletexString => {
            TeletexStringRef::new(bytes).map_err(malformed("name"))?;
            bytes.iter().map(|byte| char::from(*byte)).collect()
        }
        Tag::BmpString => BmpString::from_ucs2(bytes.to_vec()).map_err(malformed("name"))?.to_string(),
        _ => return Ok(None),
    };
    Ok(Some(text))
}

/// The identifier with these arcs; `member` names the place in the template for the error.
pub(crate) fn object_identifier(member: &'static str, arcs: &[u64]) -> Result<ObjectIdentifier, IssueError> {
    let refused = || IssueError::Oid { member, got: arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".") };
    let narrow: Result<Vec<u32>, _> = arcs.iter().map(|arc| u32::try_from(*arc)).collect();
    ObjectIdentifier::from_arcs(narrow.map_err(|_| refused())?).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_elements_that_are_addresses_become_addresses_and_blanks_are_trimmed() {
        let names = AltNames::from_list("localhost,10.0.0.1,::1, B.example,,*.a.,[fd00::7], ");
        assert_eq!(names.dns, ["localhost", "B.example", "*.a."]);
        let ips: Vec<String> = names.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.0.0.1", "::1", "fd00::7"]);
        assert_eq!(AltNames::from_list(""), AltNames::default());
    }

    #[test]
    fn text_is_printable_string_where_go_makes_it_one() {
        for (value, tag) in [("a B-9.(x)+,/:=?'", 0x13), ("a*b", 0x0c), ("a&b", 0x0c), ("ü", 0x0c), ("a@b", 0x0c)] {
            assert_eq!(attribute(COMMON_NAME, value).unwrap()[7], tag, "{value}");
        }
    }

    #[test]
    fn several_values_form_one_rdn_in_der_order_whatever_their_order_was() {
        let subject = Subject { organization: vec!["Longer".into(), "B".into()], ..Subject::default() };
        let swapped = Subject { organization: vec!["B".into(), "Longer".into()], ..Subject::default() };
        assert_eq!(subject.to_der().unwrap(), swapped.to_der().unwrap());
        assert_eq!(asn1::sequence_elements(&subject.to_der().unwrap()).unwrap().len(), 1);
        assert_eq!(Subject::from_der(&subject.to_der().unwrap()).unwrap(), swapped);
    }

    #[test]
    fn extra_names_replace_members_of_the_same_type() {
        let subject = Subject {
            common_name: "member".into(),
            extra_names: vec![ExtraName { oid: vec![2, 5, 4, 3], value: "extra".into() }],
            ..Subject::default()
        };
        assert_eq!(Subject::from_der(&subject.to_der().unwrap()).unwrap(), Subject::from_common_name("extra"));
    }

    #[test]
    fn extra_names_without_a_real_type_are_refused() {
        for (oid, text) in [(vec![], ""), (vec![1], "1"), (vec![3, 1], "3.1"), (vec![1, 40], "1.40")] {
            let subject = Subject { extra_names: vec![ExtraName { oid, value: String::new() }], ..Subject::default() };
            let error = subject.to_der().unwrap_err().to_string();
            assert_eq!(error, format!("Subject.ExtraNames: expected an object identifier, got \"{text}\""));
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for bytes in [&b""[..], b"\x30", b"\x31\x00", b"\x30\x02\x31\x01", b"\x30\x04\x31\x02\x30\x00"] {
            assert!(Subject::from_der(bytes).is_err(), "{bytes:?}");
        }
    }
}
