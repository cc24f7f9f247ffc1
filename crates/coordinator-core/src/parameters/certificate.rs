//! X.509 certificates as templates see them (Go `x509.Certificate`, the fields worth having).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use marblerun_pki::{Certificate, Subject};
use marblerun_template::{BigInt, Blob, Bytes, BytesType, List, Object, PLAIN_BYTES, Value};

use super::time_value::TimeValue;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// The type of an element of `.IPAddresses`.
static IP_ADDRESS: BytesType = BytesType { name: "net.IP", text: Some(ip_text) };

/// A certificate; its fields are read from the DER form when the first of them is asked for.
pub(super) struct CertificateObject {
    der: Option<Arc<dyn Blob>>,
    fields: OnceLock<Fields>,
}

/// Fields that the certificate does not have, or that cannot be read, have their zero value.
struct Fields {
    raw_subject: Value,
    raw_public_key: Value,
    subject: Value,
    issuer: Value,
    serial_number: Value,
    dns_names: Value,
    ip_addresses: Value,
    not_before: Value,
    not_after: Value,
    is_ca: bool,
}

impl CertificateObject {
    pub(super) fn new(der: Option<Arc<dyn Blob>>) -> Self {
        Self { der, fields: OnceLock::new() }
    }

    /// The DER form; empty if there is no certificate.
    pub(super) fn der(&self) -> &[u8] {
        self.der.as_ref().map_or(&[], |der| der.bytes())
    }

    fn fields(&self) -> &Fields {
        self.fields.get_or_init(|| Fields::read(self.der()))
    }
}

impl Object for CertificateObject {
    fn type_name(&self) -> &'static str {
        "manifest.Certificate"
    }

    fn field_names(&self) -> &'static [&'static str] {
        &[
            "Raw",
            "RawSubject",
            "RawSubjectPublicKeyInfo",
            "Subject",
            "Issuer",
            "SerialNumber",
            "DNSNames",
            "IPAddresses",
            "NotBefore",
            "NotAfter",
            "IsCA",
        ]
    }

    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Raw" => match &self.der {
                Some(der) => Value::Bytes(Bytes::new(Arc::clone(der), &PLAIN_BYTES)),
                None => Value::Bytes(Bytes::nil(&PLAIN_BYTES)),
            },
            "RawSubject" => self.fields().raw_subject.clone(),
            "RawSubjectPublicKeyInfo" => self.fields().raw_public_key.clone(),
            "Subject" => self.fields().subject.clone(),
            "Issuer" => self.fields().issuer.clone(),
            "SerialNumber" => self.fields().serial_number.clone(),
            "DNSNames" => self.fields().dns_names.clone(),
            "IPAddresses" => self.fields().ip_addresses.clone(),
            "NotBefore" => self.fields().not_before.clone(),
            "NotAfter" => self.fields().not_after.clone(),
            "IsCA" => Value::Bool(self.fields().is_ca),
            _ => return None,
        })
    }
}

impl Fields {
    fn read(der: &[u8]) -> Self {
        let certificate = Certificate::parse(der).ok();
        let certificate = certificate.as_ref();
        let bytes = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => Value::Bytes(Bytes::new(Arc::new(bytes.to_vec()), &PLAIN_BYTES)),
            None => Value::Bytes(Bytes::nil(&PLAIN_BYTES)),
        };
        let names = certificate.and_then(|c| c.alt_names().ok()).unwrap_or_default();
        let validity = certificate.and_then(|c| c.validity().ok());
        let time =
            |unix: Option<u64>| Value::Object(Arc::new(unix.map_or_else(TimeValue::unset, TimeValue::from_unix)));
        Self {
            raw_subject: bytes(certificate.map(Certificate::subject_der)),
            raw_public_key: bytes(certificate.map(Certificate::public_key_der)),
            subject: name_value(certificate.and_then(|c| c.subject().ok())),
            issuer: name_value(certificate.and_then(|c| c.issuer().ok())),
            serial_number: Value::BigInt(Arc::new(
                certificate.and_then(|c| serial_number(c.tbs_der())).unwrap_or_else(BigInt::nil),
            )),
            dns_names: Value::strings(names.dns.iter().map(String::as_str)),
            ip_addresses: Value::List(List::new(names.ips.iter().map(ip_value).collect(), "[]net.IP")),
            not_before: time(validity.as_ref().map(|v| v.not_before.as_secs())),
            not_after: time(validity.as_ref().map(|v| v.not_after.as_secs())),
            is_ca: certificate.is_some_and(is_ca),
        }
    }
}

/// The INTEGER behind the optional version (RFC 5280 4.1).
fn serial_number(tbs_der: &[u8]) -> Option<BigInt> {
    let tbs = AnyRef::from_der(tbs_der).ok()?;
    let mut reader = SliceReader::new(tbs.value()).ok()?;
    let mut element = AnyRef::decode(&mut reader).ok()?;
    if element.tag() != Tag::Integer {
        element = AnyRef::decode(&mut reader).ok()?;
    }
    if element.tag() != Tag::Integer {
        return None;
    }
    let bytes = element.value();
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if negative {
        // Two's complement.
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = overflow;
        }
    }
    Some(BigInt::new(negative, magnitude))
}

/// The `cA` member of the basic constraints (RFC 5280 4.2.1.9).
fn is_ca(certificate: &Certificate<'_>) -> bool {
    let Ok(Some(value)) = certificate.extension(BASIC_CONSTRAINTS) else {
        return false;
    };
    let Ok(sequence) = AnyRef::from_der(&value) else {
        return false;
    };
    let Ok(mut reader) = SliceReader::new(sequence.value()) else {
        return false;
    };
    !reader.is_finished() && bool::decode(&mut reader).unwrap_or(false)
}

fn ip_value(ip: &IpAddr) -> Value {
    let octets = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    Value::Bytes(Bytes::new(Arc::new(octets), &IP_ADDRESS))
}

fn ip_text(octets: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ipv4Addr::from(v4).to_string();
    }
    match <[u8; 16]>::try_from(octets) {
        Ok(v6) => {
            let v6 = Ipv6Addr::from(v6);
            // An IPv4 address in IPv6 form prints as what it is.
            v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string())
        }
        // A part of an address that a template cut out.
        Err(_) => format!("?{}", octets.iter().map(|b| format!("{b:02x}")).take(16).collect::<String>()),
    }
}

/// A distinguished name.
struct NameObject(Subject);

fn name_value(subject: Option<Subject>) -> Value {
    Value::Object(Arc::new(NameObject(subject.unwrap_or_default())))
}

impl Object for NameObject {
    fn type_name(&self) -> &'static str {
        "pkix.Name"
    }

    fn field(&self, name: &str) -> Option<Value> {
        let text = |text: &str| Some(Value::string_from(text.as_bytes().to_vec()));
        let list = |list: &[String]| Some(Value::strings(list.iter().map(String::as_str)));
        match name {
            "CommonName" => text(&self.0.common_name),
            "SerialNumber" => text(&self.0.serial_number),
            "Country" => list(&self.0.country),
            "Organization" => list(&self.0.organization),
            "OrganizationalUnit" => list(&self.0.organizational_unit),
            "Locality" => list(&self.0.locality),
            "Province" => list(&self.0.province),
            "StreetAddress" => list(&self.0.street_address),
            "PostalCode" => list(&self.0.postal_code),
            _ => None,
        }
    }
}
