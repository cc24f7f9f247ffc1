//! Reading certificates that others made.
//!
//! Client certificates may be X.509 v1, expired, or carry critical extensions that nobody knows. So the outer structure
//! is read first and the rest only when asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, UtcTime};
use der::{Decode, ErrorKind, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls_pki_types::UnixTime;

use crate::asn1::{self, next_sequence};
use crate::name::Subject;
use crate::oid;
use crate::signature::{SignatureError, verify_x509};

/// Longest certificate that is read, in bytes. Real ones take one or two KiB, post-quantum ones some ten.
pub const MAX_CERTIFICATE_BYTES: usize = 256 * 1024;

/// Why a certificate could not be read.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than [`MAX_CERTIFICATE_BYTES`].
    #[error("expected a certificate of at most {MAX_CERTIFICATE_BYTES} bytes, got {got}")]
    TooLong {
        /// Length of what came.
        got: usize,
    },
    /// Not the DER of RFC 5280.
    #[error("the {part} is not valid DER")]
    Malformed {
        /// The part of the certificate.
        part: &'static str,
        /// What the decoder found.
        #[source]
        source: der::Error,
    },
    /// A name that must be ASCII (RFC 5280 4.2.1.6) is not.
    #[error("expected a name in ASCII in the {part}, got other bytes")]
    NotAscii {
        /// The extension.
        part: &'static str,
    },
    /// An IP address of another length than 4 or 16 bytes.
    #[error("expected an IP address of 4 or 16 bytes in the {part}, got {got} bytes")]
    IpAddress {
        /// The extension.
        part: &'static str,
        /// Length of what came.
        got: usize,
    },
}

/// Makes the error of a `part` that is no DER.
pub(crate) fn malformed(part: &'static str) -> impl Fn(der::Error) -> CertificateError {
    move |source| CertificateError::Malformed { part, source }
}

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: UnixTime,
    /// Last moment.
    pub not_after: UnixTime,
}

/// An extension as it stands in a certificate or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Type.
    pub oid: ObjectIdentifier,
    /// Whether those who do not know it must refuse.
    pub critical: bool,
    /// Contents of the OCTET STRING.
    pub value: Vec<u8>,
}

/// A certificate of any version, borrowed from its DER.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    tbs_der: &'a [u8],
    issuer_der: &'a [u8],
    validity: AnyRef<'a>,
    subject_der: &'a [u8],
    public_key_der: &'a [u8],
    extensions: Option<AnyRef<'a>>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads the outer structure; names, times and extensions are read by their methods.
    ///
    /// # Errors
    ///
    /// [`CertificateError::TooLong`] and [`CertificateError::Malformed`].
    pub fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::TooLong { got: der.len() });
        }
        Self::parse_der(der).map_err(malformed("certificate"))
    }

    fn parse_der(der: &'a [u8]) -> der::Result<Self> {
        let mut outer = SliceReader::new(der)?;
        let (tbs_der, algorithm, signature) = outer.sequence(|reader| {
            Ok::<_, der::Error>((reader.tlv_bytes()?, next_sequence(reader)?, BitStringRef::decode(reader)?))
        })?;
        outer.finish()?;

        SliceReader::new(tbs_der)?.sequence(|reader| {
            // [0] version is absent in v1, then the serial number comes first.
            if AnyRef::decode(reader)?.tag() == asn1::constructed(0) {
                AnyRef::decode(reader)?;
            }
            AnyRef::decode(reader)?;
            let issuer_der = reader.tlv_bytes()?;
            let validity = next_sequence(reader)?;
            let subject_der = reader.tlv_bytes()?;
            let public_key_der = reader.tlv_bytes()?;
            let mut extensions = None;
            while !reader.is_finished() {
                let optional = AnyRef::decode(reader)?;
                if optional.tag() == asn1::constructed(3) {
                    extensions = Some(optional);
                }
            }
            Ok(Self { tbs_der, issuer_der, validity, subject_der, public_key_der, extensions, algorithm, signature })
        })
    }

    /// The public key as DER SubjectPublicKeyInfo.
    pub fn public_key_der(&self) -> &'a [u8] {
        self.public_key_der
    }

    /// The subject as DER name.
    pub fn subject_der(&self) -> &'a [u8] {
        self.subject_der
    }

    /// The issuer as DER name.
    pub fn issuer_der(&self) -> &'a [u8] {
        self.issuer_der
    }

    /// The signed part.
    pub fn tbs_der(&self) -> &'a [u8] {
        self.tbs_der
    }

    /// The signature algorithm, without its parameters; `None` if it is none that could be named.
    pub(crate) fn signature_oid(&self) -> Option<ObjectIdentifier> {
        asn1::elements(self.algorithm.value()).ok()?.first()?.decode_as().ok()
    }

    /// The subject's members.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`].
    pub fn subject(&self) -> Result<Subject, CertificateError> {
        Subject::from_der(self.subject_der)
    }

    /// The issuer's members.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`].
    pub fn issuer(&self) -> Result<Subject, CertificateError> {
        Subject::from_der(self.issuer_der)
    }

    /// When the certificate is valid.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`], also for times before 1970.
    pub fn validity(&self) -> Result<Validity, CertificateError> {
        let times = asn1::elements(self.validity.value()).map_err(malformed("validity"))?;
        let [not_before, not_after] = times.as_slice() else {
            return Err(malformed("validity")(Tag::Sequence.length_error().into()));
        };
        Ok(Validity {
            not_before: time(not_before).map_err(malformed("validity"))?,
            not_after: time(not_after).map_err(malformed("validity"))?,
        })
    }

    /// All extensions, in order.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`], also for types beyond 39 bytes.
    pub fn extensions(&self) -> Result<Vec<Extension>, CertificateError> {
        match &self.extensions {
            Some(explicit) => parse_extensions(explicit.value()).map_err(malformed("extension list")),
            None => Ok(Vec::new()),
        }
    }

    /// The contents of the extension `oid`.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`] if the list of extensions cannot be read.
    pub fn extension(&self, oid: ObjectIdentifier) -> Result<Option<Vec<u8>>, CertificateError> {
        Ok(self.extensions()?.into_iter().find(|extension| extension.oid == oid).map(|extension| extension.value))
    }

    /// The subject alternative names; empty if there are none.
    ///
    /// # Errors
    ///
    /// See [`CertificateError`].
    pub fn alt_names(&self) -> Result<GeneralNames, CertificateError> {
        self.extension(oid::SUBJECT_ALT_NAME)?
            .map_or_else(|| Ok(GeneralNames::default()), |der| GeneralNames::parse(&der))
    }

    /// The subject key identifier.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`].
    pub fn subject_key_id(&self) -> Result<Option<Vec<u8>>, CertificateError> {
        let Some(value) = self.extension(oid::SUBJECT_KEY_ID)? else { return Ok(None) };
        let id = AnyRef::from_der(&value).map_err(malformed("subject key identifier"))?;
        Ok(Some(id.value().to_vec()))
    }

    /// Whether the basic constraints say that this is a CA.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`].
    pub fn is_ca(&self) -> Result<bool, CertificateError> {
        const PART: &str = "basic constraints";
        let Some(value) = self.extension(oid::BASIC_CONSTRAINTS)? else { return Ok(false) };
        match asn1::sequence_elements(&value).map_err(malformed(PART))?.first() {
            Some(first) if first.tag() == Tag::Boolean => first.decode_as().map_err(malformed(PART)),
            _ => Ok(false),
        }
    }

    /// Verifies that `issuer_public_key_der` made this certificate's signature; names and validity are not judged.
    ///
    /// # Errors
    ///
    /// See [`SignatureError`].
    pub fn verify_signed_by(&self, issuer_public_key_der: &[u8]) -> Result<(), SignatureError> {
        let signature = self.signature.as_bytes().ok_or(SignatureError::Invalid)?;
        verify_x509(issuer_public_key_der, self.algorithm.value(), self.tbs_der, signature)
    }
}

/// Reads a SEQUENCE OF Extension.
pub(crate) fn parse_extensions(der: &[u8]) -> der::Result<Vec<Extension>> {
    let mut found = Vec::new();
    for element in asn1::sequence_elements(der)? {
        let parts = asn1::elements(element.value())?;
        let (oid, critical, value) = match parts.as_slice() {
            [oid, value] => (oid, false, value),
            [oid, critical, value] => (oid, critical.decode_as::<bool>()?, value),
            _ => return Err(Tag::Sequence.length_error().into()),
        };
        if value.tag() != Tag::OctetString {
            return Err(value.tag().unexpected_error(Some(Tag::OctetString)).into());
        }
        found.push(Extension { oid: oid.decode_as()?, critical, value: value.value().to_vec() });
    }
    Ok(found)
}

fn time(value: &AnyRef<'_>) -> der::Result<UnixTime> {
    let since_1970: Duration = match value.tag() {
        Tag::UtcTime => value.decode_as::<UtcTime>()?.to_unix_duration(),
        Tag::GeneralizedTime => value.decode_as::<GeneralizedTime>()?.to_unix_duration(),
        tag => return Err(tag.unexpected_error(None).into()),
    };
    Ok(UnixTime::since_unix_epoch(since_1970))
}

/// Alternative names by kind, each in the order of the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeneralNames {
    /// dNSName.
    pub dns: Vec<String>,
    /// rfc822Name.
    pub emails: Vec<String>,
    /// iPAddress.
    pub ips: Vec<IpAddr>,
    /// uniformResourceIdentifier.
    pub uris: Vec<String>,
}

impl GeneralNames {
    const PART: &'static str = "subject alternative name";

    /// Reads the value of a subject alternative name extension; kinds without a member here are dropped.
    ///
    /// # Errors
    ///
    /// See [`CertificateError`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let mut names = Self::default();
        for name in asn1::sequence_elements(der).map_err(malformed(Self::PART))? {
            let Tag::ContextSpecific { constructed: false, number: TagNumber(number) } = name.tag() else { continue };
            match number {
                1 => names.emails.push(ascii(Self::PART, name.value())?),
                2 => names.dns.push(ascii(Self::PART, name.value())?),
                6 => names.uris.push(ascii(Self::PART, name.value())?),
                7 => names.ips.push(ip_address(Self::PART, name.value())?),
                _ => {}
            }
        }
        Ok(names)
    }
}

pub(crate) fn ascii(part: &'static str, bytes: &[u8]) -> Result<String, CertificateError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(CertificateError::NotAscii { part }),
    }
}

pub(crate) fn ip_address(part: &'static str, bytes: &[u8]) -> Result<IpAddr, CertificateError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(IpAddr::V6(Ipv6Addr::from(v6))),
        Err(_) => Err(CertificateError::IpAddress { part, got: bytes.len() }),
    }
}

/// The bytes of the BIT STRING in a SubjectPublicKeyInfo.
pub(crate) fn public_key_bits(public_key_der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(public_key_der)?;
    let bits = reader.sequence(|parts| {
        AnyRef::decode(parts)?;
        BitStringRef::decode(parts)
    })?;
    reader.finish()?;
    bits.as_bytes().ok_or_else(|| ErrorKind::Value { tag: Tag::BitString }.into())
}
