//! Certificate requests (PKCS#10, RFC 2986): the premain makes one, the Coordinator reads it.

use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Encode, Reader, SliceReader, Tag};

use crate::asn1::{constructed, elements, next_sequence, sequence, set_of, tlv};
use crate::certificate::{CertificateError, Extension, GeneralNames, parse_extensions};
use crate::extension;
use crate::issue::{IssueError, SignatureHash, signed};
use crate::key::KeyPair;
use crate::name::{AltNames, Subject};
use crate::oid;
use crate::signature::{SignatureError, verify_x509};

/// Longest request that is read, in bytes: room for some thousand names.
pub const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// Why a certificate request was refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("expected a certificate request of at most {MAX_REQUEST_BYTES} bytes, got {got}")]
    TooLong {
        /// Length of what came.
        got: usize,
    },
    /// Not the DER of RFC 2986.
    #[error("the certificate request is not valid DER of PKCS#10")]
    Malformed(#[source] der::Error),
    /// The subject or a name in the request cannot be read.
    #[error("a name in the certificate request cannot be read")]
    Names(#[source] CertificateError),
    /// An attribute or extension that may occur once occurs twice.
    #[error("expected at most one {oid} in the certificate request, got more")]
    Duplicate {
        /// Type of the attribute or extension.
        oid: ObjectIdentifier,
    },
    /// The request is not signed by the key that it names.
    #[error("the certificate request's own signature was not accepted")]
    Signature(#[source] SignatureError),
}

/// A certificate request whose signature was verified with its own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    subject: Subject,
    names: GeneralNames,
    public_key_der: Vec<u8>,
}

impl CertificateRequest {
    /// Reads a DER request and verifies its signature with the key in it.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub fn parse_and_verify(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong { got: der.len() });
        }
        let outer = Outer::parse(der).map_err(RequestError::Malformed)?;
        let signature = outer.signature.as_bytes().ok_or(RequestError::Signature(SignatureError::Invalid))?;
        verify_x509(outer.public_key_der, outer.algorithm.value(), outer.info_der, signature)
            .map_err(RequestError::Signature)?;
        Ok(Self {
            subject: Subject::from_der(outer.subject_der).map_err(RequestError::Names)?,
            names: outer.names()?,
            public_key_der: outer.public_key_der.to_vec(),
        })
    }

    /// The subject's attributes.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The requested alternative names.
    pub fn names(&self) -> &GeneralNames {
        &self.names
    }

    /// The request's public key as DER SubjectPublicKeyInfo.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
}

struct Outer<'a> {
    info_der: &'a [u8],
    subject_der: &'a [u8],
    public_key_der: &'a [u8],
    attributes: Option<AnyRef<'a>>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
}

impl<'a> Outer<'a> {
    fn parse(der: &'a [u8]) -> der::Result<Self> {
        let mut outer = SliceReader::new(der)?;
        let (info_der, algorithm, signature) = outer.sequence(|reader| {
            Ok::<_, der::Error>((reader.tlv_bytes()?, next_sequence(reader)?, BitStringRef::decode(reader)?))
        })?;
        outer.finish()?;
        SliceReader::new(info_der)?.sequence(|reader| {
            const VERSION_1: u8 = 0;
            if u8::decode(reader)? != VERSION_1 {
                return Err(Tag::Integer.value_error().into());
            }
            let subject_der = reader.tlv_bytes()?;
            let public_key_der = reader.tlv_bytes()?;
            // The standard wants [0] even without attributes; some programs leave it out.
            let attributes = if reader.is_finished() { None } else { Some(AnyRef::decode(reader)?) };
            Ok(Self { info_der, subject_der, public_key_der, attributes, algorithm, signature })
        })
    }

    fn names(&self) -> Result<GeneralNames, RequestError> {
        let mut extensions = None;
        let attributes = self.attributes.as_ref().map_or(&[][..], |set| set.value());
        for attribute in elements(attributes).map_err(RequestError::Malformed)? {
            let parts = elements(attribute.value()).map_err(RequestError::Malformed)?;
            let [kind, values] = parts.as_slice() else {
                return Err(RequestError::Malformed(Tag::Sequence.length_error().into()));
            };
            if kind.value() != oid::EXTENSION_REQUEST.as_bytes() {
                continue;
            }
            if extensions.replace(values.value()).is_some() {
                return Err(RequestError::Duplicate { oid: oid::EXTENSION_REQUEST });
            }
        }
        let Some(requested) = extensions else { return Ok(GeneralNames::default()) };
        let mut names = None;
        for extension in parse_extensions(requested).map_err(RequestError::Malformed)? {
            if extension.oid != oid::SUBJECT_ALT_NAME {
                continue;
            }
            let parsed = GeneralNames::parse(&extension.value).map_err(RequestError::Names)?;
            if names.replace(parsed).is_some() {
                return Err(RequestError::Duplicate { oid: oid::SUBJECT_ALT_NAME });
            }
        }
        Ok(names.unwrap_or_default())
    }
}

/// The premain's request: empty subject, `names` behind the default addresses, signed with `key`.
///
/// # Errors
///
/// [`IssueError::NotAscii`] for a DNS name that is not ASCII; provider failures.
pub fn premain_request(key: &KeyPair, names: &AltNames) -> Result<Vec<u8>, IssueError> {
    names.check_lengths()?;
    let ips: Vec<IpAddr> = AltNames::DEFAULT_IPS.into_iter().chain(names.ips.iter().copied()).collect();
    // Not critical although the subject is empty: this is what Go's premain sends.
    let san = extension::subject_alt_name(false, &names.dns, &[], &ips, &[])?;
    create_request(key, &Subject::default(), &[san])
}

/// A request for `subject` with the given extensions, signed with `key` as ecdsa-with-SHA384.
fn create_request(key: &KeyPair, subject: &Subject, extensions: &[Extension]) -> Result<Vec<u8>, IssueError> {
    let encoded: der::Result<Vec<_>> = extensions.iter().map(Extension::to_der).collect();
    let attribute = sequence(&[oid::EXTENSION_REQUEST.to_der()?, set_of(vec![sequence(&encoded?)?])?])?;
    const VERSION_1: u8 = 0;
    let info = sequence(&[
        VERSION_1.to_der()?,
        subject.to_der()?,
        key.public_key_der().to_vec(),
        tlv(constructed(0), &attribute)?,
    ])?;
    let signature = key.sign_sha384(&info)?;
    Ok(signed(info, SignatureHash::Sha384.algorithm_der()?, &signature)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(names: &str) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let der = premain_request(&key, &AltNames::from_list(names)).unwrap();
        (key, der)
    }

    #[test]
    fn the_premains_request_is_read_back() {
        let (key, der) = sample("a.example,192.0.2.7");
        let request = CertificateRequest::parse_and_verify(&der).unwrap();
        assert_eq!(request.public_key_der(), key.public_key_der());
        assert_eq!(request.subject(), &Subject::default());
        assert_eq!(request.names().dns, ["a.example"]);
        let ips: Vec<String> = request.names().ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["127.0.0.1", "::1", "192.0.2.7"]);
    }

    #[test]
    fn every_changed_byte_makes_the_request_invalid() {
        let (_, der) = sample("a.example");
        for position in 0..der.len() {
            let mut changed = der.clone();
            changed[position] ^= 1;
            assert!(CertificateRequest::parse_and_verify(&changed).is_err(), "byte {position}");
        }
    }

    #[test]
    fn cut_and_overlong_requests_are_refused() {
        let (_, der) = sample("a.example");
        for length in 0..der.len() {
            assert!(CertificateRequest::parse_and_verify(&der[..length]).is_err(), "{length} bytes");
        }
        let long = vec![0x30; MAX_REQUEST_BYTES + 1];
        let error = CertificateRequest::parse_and_verify(&long).unwrap_err();
        assert_eq!(error, RequestError::TooLong { got: MAX_REQUEST_BYTES + 1 });
    }

    #[test]
    fn a_second_list_of_names_is_refused() {
        let key = KeyPair::generate().unwrap();
        let san = extension::subject_alt_name(false, &["a".into()], &[], &[], &[]).unwrap();
        let der = create_request(&key, &Subject::default(), &[san.clone(), san]).unwrap();
        let error = CertificateRequest::parse_and_verify(&der).unwrap_err();
        assert_eq!(error, RequestError::Duplicate { oid: oid::SUBJECT_ALT_NAME });
    }

    #[test]
    fn addresses_of_odd_length_and_names_beyond_ascii_are_refused() {
        let key = KeyPair::generate().unwrap();
        for (value, part) in [(&[0x30, 4, 0x87, 2, 1, 2][..], "bytes"), (&[0x30, 4, 0x82, 2, 0xc3, 0xbc], "ASCII")] {
            let san = extension::plain(oid::SUBJECT_ALT_NAME, value.to_vec());
            let der = create_request(&key, &Subject::default(), &[san]).unwrap();
            let RequestError::Names(reason) = CertificateRequest::parse_and_verify(&der).unwrap_err() else {
                panic!("expected an error about names")
            };
            assert!(reason.to_string().contains(part), "{reason}");
        }
    }

    #[test]
    fn the_subject_of_a_request_is_read() {
        let key = KeyPair::generate().unwrap();
        let subject = Subject { organization: vec!["y".into()], ..Subject::from_common_name("x") };
        let der = create_request(&key, &subject, &[]).unwrap();
        assert_eq!(CertificateRequest::parse_and_verify(&der).unwrap().subject(), &subject);
    }
}
