//! TLS towards the Coordinator.
//!
//! Activation does not authenticate the server in the handshake: the Coordinator judges the Marble, and where the
//! image holds a pin, [`crate::pin`] judges the Coordinator by what it delivered. What the handshake does prove is
//! that the peer holds the key of the certificate that it showed; the pin builds on that.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::credentials::Credentials;

/// The protocol that gRPC needs; grpc-go drops a connection on which it was not negotiated.
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// Configuration for one connection with `credentials` as client certificate.
pub(crate) fn client_config(credentials: &Credentials) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = PossessionVerifier { algorithms: provider.signature_verification_algorithms };
    let chain = vec![CertificateDer::from(credentials.certificate().to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(credentials.private_key().expose().to_vec()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // One connection is all there is; a ticket would only be one more secret.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The post-quantum hybrid first: what is delivered are long-lived secrets, and recorded traffic waits for its reader.
/// MarbleRun v1.9.1 has no plain X25519 in its FIPS mode, so the NIST curves come before it.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::SECP256R1, kx_group::SECP384R1, kx_group::X25519],
        ..default_provider()
    }
}

/// Accepts every certificate and checks that the peer holds its key.
#[derive(Debug)]
struct PossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PossessionVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
