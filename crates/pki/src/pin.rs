//! Does the Coordinator that answered a Marble belong to the root certificate that the Marble's image pins?

use std::fmt::Write as _;

use aws_lc_rs::digest;

use crate::certificate::{Certificate, CertificateError};
use crate::pem::{self, PemError};
use crate::signature::SignatureError;

/// Why a Coordinator is not the pinned one.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// A parameter of the Coordinator is not PEM.
    #[error("the {what} that the Coordinator sent cannot be read")]
    Pem {
        /// Which parameter.
        what: &'static str,
        /// The reason.
        #[source]
        source: PemError,
    },
    /// The number of certificates is not the right one.
    #[error("expected {expected} certificates in the {what} that the Coordinator sent, got {got}")]
    Count {
        /// Which parameter.
        what: &'static str,
        /// How many there must be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A certificate is malformed.
    #[error("the {what} cannot be read")]
    Certificate {
        /// Which certificate.
        what: &'static str,
        /// The reason.
        #[source]
        source: CertificateError,
    },
    /// Somebody else answered than the one whose chain this is.
    #[error("the TLS server's key is not the key of the intermediate certificate that it sent")]
    ServerKey,
    /// The intermediate was not signed by this root.
    #[error("the intermediate certificate was not issued by the root certificate that came with it")]
    IssuerName,
    /// The intermediate was not signed by this root.
    #[error("the intermediate certificate does not verify under the root certificate that came with it")]
    Intermediate(#[source] SignatureError),
    /// Another deployment, or a Coordinator that lies.
    #[error("expected the root certificate with SHA-256 {expected}, got one with {got}")]
    Root {
        /// The pin, in hexadecimal.
        expected: String,
        /// What came, in hexadecimal.
        got: String,
    },
}

/// Verifies that a TLS server speaks for the root certificate whose DER has the SHA-256 `pin`.
///
/// `server_der` is the certificate of the TLS server, `chain_pem` and `root_pem` are the Marble's certificate chain and
/// the Coordinator's root as the server sent them. The chain's second certificate is the intermediate, whose key the
/// server uses in TLS. Clocks are not consulted: the host would set them.
///
/// # Errors
///
/// See [`PinError`].
pub fn verify_chain_to_pin(
    server_der: &[u8],
    chain_pem: &[u8],
    root_pem: &[u8],
    pin: &[u8; 32],
) -> Result<(), PinError> {
    let [_leaf, intermediate_der] = certificates::<2>("certificate chain", chain_pem)?;
    let [root_der] = certificates::<1>("root certificate", root_pem)?;

    let got = digest::digest(&digest::SHA256, &root_der);
    if got.as_ref() != pin {
        return Err(PinError::Root { expected: hex(pin), got: hex(got.as_ref()) });
    }
    let server = parse("TLS server's certificate", server_der)?;
    let intermediate = parse("intermediate certificate", &intermediate_der)?;
    let root = parse("root certificate", &root_der)?;
    if server.public_key_der() != intermediate.public_key_der() {
        return Err(PinError::ServerKey);
    }
    if intermediate.issuer_der() != root.subject_der() {
        return Err(PinError::IssuerName);
    }
    intermediate.verify_signed_by(root.public_key_der()).map_err(PinError::Intermediate)
}

fn certificates<const N: usize>(what: &'static str, pem: &[u8]) -> Result<[Vec<u8>; N], PinError> {
    let found = pem::decode_certificates(pem).map_err(|source| PinError::Pem { what, source })?;
    <[Vec<u8>; N]>::try_from(found).map_err(|found| PinError::Count { what, expected: N, got: found.len() })
}

fn parse<'a>(what: &'static str, der: &'a [u8]) -> Result<Certificate<'a>, PinError> {
    Certificate::parse(der).map_err(|source| PinError::Certificate { what, source })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::Issuer;
    use crate::key::KeyPair;
    use crate::name::AltNames;
    use crate::profile::{intermediate_certificate, marble_root_certificate, root_certificate};
    use rustls_pki_types::UnixTime;
    use std::time::Duration;

    /// What a Coordinator shows and sends; the intermediate stands in for the Marble's leaf too, which nobody reads.
    struct Coordinator {
        server: Vec<u8>,
        chain: String,
        root: String,
        pin: [u8; 32],
    }

    fn coordinator() -> Coordinator {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        let names = AltNames::from_list("localhost");
        let root = root_certificate(&root_key, &names, now).unwrap();
        let issuer = Issuer::new(&root, &root_key).unwrap();
        let intermediate =
            pem::encode(pem::CERTIFICATE, &intermediate_certificate(&issuer, &key, &names, now).unwrap());
        Coordinator {
            server: marble_root_certificate(&key, &names, now).unwrap(),
            chain: format!("{intermediate}{intermediate}"),
            root: pem::encode(pem::CERTIFICATE, &root),
            pin: digest::digest(&digest::SHA256, &root).as_ref().try_into().unwrap(),
        }
    }

    fn verify(c: &Coordinator) -> Result<(), PinError> {
        verify_chain_to_pin(&c.server, c.chain.as_bytes(), c.root.as_bytes(), &c.pin)
    }

    #[test]
    fn the_pinned_coordinator_is_accepted() {
        verify(&coordinator()).unwrap();
    }

    #[test]
    fn a_coordinator_with_another_root_is_refused() {
        let (good, other) = (coordinator(), coordinator());
        let error = verify(&Coordinator { pin: good.pin, ..other }).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("expected the root certificate with SHA-256 {}", hex(&good.pin)))
        );
    }

    #[test]
    fn a_server_that_replays_the_chain_of_the_pinned_coordinator_is_refused() {
        let (good, other) = (coordinator(), coordinator());
        assert_eq!(verify(&Coordinator { server: other.server, ..good }), Err(PinError::ServerKey));
    }

    #[test]
    fn a_chain_that_the_pinned_root_did_not_sign_is_refused() {
        let (good, other) = (coordinator(), coordinator());
        let error = verify(&Coordinator { root: good.root, pin: good.pin, ..other }).unwrap_err();
        assert_eq!(error, PinError::Intermediate(SignatureError::Invalid));
    }

    #[test]
    fn a_self_signed_intermediate_is_refused() {
        let good = coordinator();
        let twin = pem::encode(pem::CERTIFICATE, &good.server);
        let error = verify(&Coordinator { chain: format!("{twin}{twin}"), ..good }).unwrap_err();
        assert_eq!(error, PinError::IssuerName);
    }

    #[test]
    fn chains_of_another_length_are_refused() {
        let good = coordinator();
        let three = format!("{}{}", good.chain, good.root);
        assert!(matches!(verify(&Coordinator { chain: three, ..good }), Err(PinError::Count { got: 3, .. })));
        let good = coordinator();
        assert!(matches!(
            verify(&Coordinator { chain: good.root.clone(), ..good }),
            Err(PinError::Count { got: 1, .. })
        ));
        let good = coordinator();
        assert!(matches!(verify(&Coordinator { chain: String::new(), ..good }), Err(PinError::Pem { .. })));
    }
}
