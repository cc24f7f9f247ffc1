//! Who the TLS server is.
//!
//! A Coordinator shows a CA certificate, its root, as its own. General purpose verifiers refuse that, so there are two
//! of ours: one that takes down what it is shown, for the call that fetches the quote, and one that accepts exactly the
//! root that a quote vouched for. Both check that the server holds the certificate's key.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use marblerun_pki::{Certificate, CertificateError, tls as signature};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::credentials::ClientCertificate;

/// Why a TLS server is not the Coordinator.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerIdentityError {
    /// Another certificate than the attested root.
    #[error("the server's certificate is not the Coordinator's attested root certificate")]
    NotTheRoot,
    /// The attested root does not carry the name.
    #[error("the Coordinator's certificate is valid for {}, not for {host}", names.join(", "))]
    Name {
        /// The name that was connected to.
        host: String,
        /// The names in the certificate.
        names: Vec<String>,
    },
    /// Not valid now.
    #[error(
        "the Coordinator's certificate is valid from {not_before} to {not_after}, now is {now} (seconds since 1970)"
    )]
    Expired {
        /// First moment of validity.
        not_before: u64,
        /// Last moment of validity.
        not_after: u64,
        /// The time of the check.
        now: u64,
    },
    /// The root cannot be read.
    #[error("the Coordinator's certificate cannot be read")]
    Certificate(#[source] CertificateError),
}

impl ServerIdentityError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotTheRoot => Some(
                "a proxy that terminates TLS may stand in between: configure it to pass TLS through; if the Coordinator \
                 has a new root, verify it again with `marblerun manifest verify`",
            ),
            Self::Name { .. } => {
                Some("use one of these names, or add yours to EDG_COORDINATOR_DNS_NAMES before the first start")
            }
            Self::Expired { .. } => Some("check this machine's clock"),
            Self::Certificate(_) => None,
        }
    }
}

/// The settings of the call that fetches the quote, and where the server's certificate is found afterwards.
pub(crate) fn capturing() -> Result<(Arc<ClientConfig>, Arc<Captured>), rustls::Error> {
    let captured = Arc::new(Captured::default());
    Ok((config(captured.clone(), None)?, captured))
}

/// The settings of calls to the Coordinator with this root certificate, as the owner of `certificate` if there is one.
pub(crate) fn pinned(root: &[u8], certificate: Option<&ClientCertificate>) -> Result<Arc<ClientConfig>, rustls::Error> {
    config(Arc::new(Pinned { root: CertificateDer::from(root.to_vec()) }), certificate)
}

fn config(
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => builder.with_client_cert_resolver(certificate.resolver()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each connection proves the server anew.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Accepts any certificate whose key the server holds, and keeps it. Only for fetching what will be verified itself.
#[derive(Debug, Default)]
pub(crate) struct Captured(Mutex<Option<Vec<u8>>>);

impl Captured {
    /// The certificate that the server showed.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Captured {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_possession(message, certificate, dss, signature::Version::Tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_possession(message, certificate, dss, signature::Version::Tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Accepts the one root certificate, while it is valid and for the names that it carries.
#[derive(Debug)]
struct Pinned {
    root: CertificateDer<'static>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity != self.root {
            return Err(refused(ServerIdentityError::NotTheRoot));
        }
        check_certificate(end_entity, server_name, now).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_possession(message, certificate, dss, signature::Version::Tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_possession(message, certificate, dss, signature::Version::Tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

fn schemes() -> Vec<SignatureScheme> {
    signature::SCHEMES.iter().map(|scheme| SignatureScheme::from(*scheme)).collect()
}

fn verify_possession(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    version: signature::Version,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    signature::verify(certificate, u16::from(dss.scheme), message, dss.signature(), version)
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature))
}

fn refused(error: ServerIdentityError) -> rustls::Error {
    rustls::CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// The identity error inside a TLS error, if that is what it is.
pub(crate) fn identity_error(error: &rustls::Error) -> Option<ServerIdentityError> {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(other))) => {
            other.downcast_ref::<ServerIdentityError>().cloned()
        }
        _ => None,
    }
}

fn check_certificate(der: &[u8], server_name: &ServerName<'_>, now: UnixTime) -> Result<(), ServerIdentityError> {
    let certificate = Certificate::parse(der).map_err(ServerIdentityError::Certificate)?;
    let validity = certificate.validity().map_err(ServerIdentityError::Certificate)?;
    if now < validity.not_before || now > validity.not_after {
        return Err(ServerIdentityError::Expired {
            not_before: validity.not_before.as_secs(),
            not_after: validity.not_after.as_secs(),
            now: now.as_secs(),
        });
    }
    let names = certificate.alt_names().map_err(ServerIdentityError::Certificate)?;
    let matches = match server_name {
        ServerName::IpAddress(ip) => names.ips.contains(&IpAddr::from(*ip)),
        name => names.dns.iter().any(|pattern| dns_name_matches(pattern, &name.to_str())),
    };
    if matches {
        return Ok(());
    }
    let ips = names.ips.iter().map(ToString::to_string);
    Err(ServerIdentityError::Name {
        host: server_name.to_str().into_owned(),
        names: names.dns.iter().cloned().chain(ips).collect(),
    })
}

/// RFC 6125 6.4: labels without regard to case; `*` stands for exactly the whole first label.
fn dns_name_matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    if let Some(parent) = pattern.strip_prefix("*.") {
        return name
            .split_once('.')
            .is_some_and(|(first, rest)| !first.is_empty() && !parent.is_empty() && rest.eq_ignore_ascii_case(parent));
    }
    !pattern.is_empty() && pattern.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use marblerun_pki::{AltNames, KeyPair, profile};

    use super::*;

    // rules: CLI-5
    #[test]
    fn a_root_is_accepted_only_while_it_is_valid() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (start, names) = (1_700_000_000, AltNames::from_list("localhost"));
        let root = profile::root_certificate(&KeyPair::generate().unwrap(), &names, at(start)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        check_certificate(&root, &name, at(start + 60)).unwrap();
        for wrong in [start - 86_400, 1 << 40] {
            let error = check_certificate(&root, &name, at(wrong)).unwrap_err();
            assert!(matches!(error, ServerIdentityError::Expired { .. }), "{error}");
        }
    }

    // rules: CLI-5
    #[test]
    fn names_match_as_in_rfc_6125() {
        for (pattern, name, expected) in [
            ("localhost", "LocalHost", true),
            ("a.example", "a.example.", true),
            ("mesh_coordinator", "mesh_coordinator", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("a.example", "b.example", false),
            ("", "", false),
            ("*", "a", false),
        ] {
            assert_eq!(dns_name_matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
