//! TLS of both listeners: which certificate is shown, and how client certificates are taken.
//!
//! Clients are known by the bytes of their leaf certificate or by their evidence, never by a chain. So any client
//! certificate is accepted, and only possession of its key is checked, by TLS itself.

use std::fmt;
use std::sync::Arc;

use marblerun_coordinator_core::identity::Identity;
use marblerun_pki::{KeyError, tls as signature};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, NamedGroup, ServerConfig, SignatureScheme};
use thiserror::Error;
use tokio::sync::watch;

use crate::listener::Protocols;

/// TLS of one listener: the settings that stay, and the certificate that is shown now.
pub struct ListenerTls {
    settings: ServerConfig,
    shown: watch::Sender<Option<Arc<Generation>>>,
}

/// The settings of new connections while one certificate is shown.
#[derive(Debug)]
pub struct Generation {
    config: Arc<ServerConfig>,
    certificate: Arc<[u8]>,
}

impl Generation {
    /// For the handshake of one connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// DER of the certificate that is shown.
    pub fn certificate(&self) -> &Arc<[u8]> {
        &self.certificate
    }
}

impl ListenerTls {
    /// Settings of a listener that shows nothing yet; `alpn` in order of preference.
    ///
    /// # Errors
    ///
    /// If the provider does not support the protocol versions, which would be a broken build.
    pub fn new(client: ClientCertificate, alpn: &[&[u8]]) -> Result<Self, rustls::Error> {
        Ok(Self { settings: settings(client, alpn)?, shown: watch::Sender::new(None) })
    }

    /// Shows `certificate` from the next handshake on. Connections that were shown another one are asked to end.
    ///
    /// # Errors
    ///
    /// If the key is not one that TLS can use.
    pub fn show(&self, certificate: &[u8], key_pkcs8: &[u8]) -> Result<(), rustls::Error> {
        if self.shown.borrow().as_ref().is_some_and(|shown| *shown.certificate == *certificate) {
            return Ok(());
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8.to_vec()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let certified = CertifiedKey::new(vec![CertificateDer::from(certificate.to_vec())], key);
        let mut config = self.settings.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        let generation = Generation { config: Arc::new(config), certificate: certificate.into() };
        self.shown.send_replace(Some(Arc::new(generation)));
        Ok(())
    }

    /// What is shown now and later; `None` before the first certificate.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Generation>>> {
        self.shown.subscribe()
    }
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerTls(..)")
    }
}

/// The listeners that show the deployment's certificates.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// The client API shows the root certificate.
    pub client: Arc<ListenerTls>,
    /// The Marble API shows the Marble root certificate.
    pub mesh: Arc<ListenerTls>,
}

impl Listeners {
    /// Settings of both listeners, which show nothing yet.
    ///
    /// # Errors
    ///
    /// If the provider does not support the protocol versions, which would be a broken build.
    pub fn new() -> Result<Self, rustls::Error> {
        let client = ListenerTls::new(ClientCertificate::Optional, Protocols::Http.alpn())?;
        let mesh = ListenerTls::new(ClientCertificate::Required, Protocols::Http2Only.alpn())?;
        Ok(Self { client: Arc::new(client), mesh: Arc::new(mesh) })
    }

    /// Shows the certificates of `identity`; one that is shown already is left alone.
    ///
    /// # Errors
    ///
    /// If a key is not one that TLS can use.
    pub fn show(&self, identity: &Identity) -> Result<(), ShowError> {
        self.client.show(&identity.root_certificate, identity.root_key.to_pkcs8()?.expose())?;
        self.mesh.show(&identity.marble_root_certificate, identity.intermediate_key.to_pkcs8()?.expose())?;
        Ok(())
    }
}

/// Why a certificate cannot be shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShowError {
    /// The key cannot be read.
    #[error("the key of a certificate cannot be read")]
    Key(#[from] KeyError),
    /// TLS does not take the key.
    #[error("TLS cannot use a certificate")]
    Tls(#[from] rustls::Error),
}

/// Whether a client must show a certificate at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The client API: asked for, not needed.
    Optional,
    /// The Marble API: the handshake fails without one.
    Required,
}

fn settings(client: ClientCertificate, alpn: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.push(&Secp521r1);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(AnyCertificate { required: client == ClientCertificate::Required }))
        // Nothing to show yet; `ListenerTls::show` puts one in its place.
        .with_cert_resolver(Arc::new(NoCertificate));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A resumed session would have to remember the client's certificate; a full handshake cannot forget it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Shows nothing, so that handshakes fail.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Takes any client certificate, also expired or X.509 v1 ones and those with unknown critical extensions.
#[derive(Debug)]
struct AnyCertificate {
    required: bool,
}

impl ClientCertVerifier for AnyCertificate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_possession(message, cert, dss, signature::Version::Tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_possession(message, cert, dss, signature::Version::Tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature::SCHEMES.iter().map(|scheme| SignatureScheme::from(*scheme)).collect()
    }
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

/// ECDHE over P-521, which the provider has as an algorithm but does not offer for TLS.
#[derive(Debug)]
struct Secp521r1;

impl SupportedKxGroup for Secp521r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        let private = aws_lc_rs::agreement::PrivateKey::generate(&aws_lc_rs::agreement::ECDH_P521)
            .map_err(|_| rustls::Error::General("key exchange: no P-521 key".into()))?;
        let public = private
            .compute_public_key()
            .map_err(|_| rustls::Error::General("key exchange: no P-521 public key".into()))?;
        Ok(Box::new(Secp521r1Exchange { private, public: public.as_ref().to_vec() }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Secp521r1Exchange {
    private: aws_lc_rs::agreement::PrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Secp521r1Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, rustls::Error> {
        let peer = aws_lc_rs::agreement::UnparsedPublicKey::new(&aws_lc_rs::agreement::ECDH_P521, peer);
        let misbehaved = rustls::Error::from(rustls::PeerMisbehaved::InvalidKeyShare);
        aws_lc_rs::agreement::agree(&self.private, peer, misbehaved, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

/// Makes aws-lc-rs the process's provider for code that asks for a default.
pub fn install_provider() {
    // A second call finds the first one's provider, which is the same.
    let _ = CryptoProvider::install_default(rustls::crypto::aws_lc_rs::default_provider());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use marblerun_pki::{AltNames, KeyPair, profile};
    use rustls::pki_types::ServerName;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion};

    use super::*;

    /// A handshake in memory with a client that has only these groups.
    fn handshake(
        groups: Vec<&'static dyn SupportedKxGroup>,
        version: &'static SupportedProtocolVersion,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let key = KeyPair::generate().unwrap();
        let now = UnixTime::now();
        let root = profile::premain_certificate(&key, &AltNames::from_list("localhost"), now).unwrap();
        let tls = ListenerTls::new(ClientCertificate::Optional, &[b"h2"]).unwrap();
        tls.show(&root, key.to_pkcs8().unwrap().expose()).unwrap();
        let server = tls.subscribe().borrow().as_ref().unwrap().config();

        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from(root)).unwrap();
        let provider = CryptoProvider { kx_groups: groups, ..rustls::crypto::aws_lc_rs::default_provider() };
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    // rules: TLS-4
    #[test]
    fn a_client_with_p_521_alone_is_served() {
        let (client, server) = handshake(vec![&Secp521r1], &TLS13).unwrap();
        for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
            assert_eq!(group.unwrap().name(), NamedGroup::secp521r1);
        }
        let groups: Vec<&'static dyn SupportedKxGroup> =
            vec![&Secp521r1, rustls::crypto::aws_lc_rs::kx_group::SECP384R1];
        handshake(groups, &TLS12).unwrap();
    }

    #[test]
    fn a_key_share_that_is_no_point_is_refused() {
        for share in [&[][..], &[4; 133], &[0; 133], &[4; 97]] {
            assert!(Secp521r1.start().unwrap().complete(share).is_err(), "{share:?}");
        }
    }

    #[test]
    fn both_ends_of_a_p_521_exchange_have_the_same_secret_of_66_bytes() {
        let (one, other) = (Secp521r1.start().unwrap(), Secp521r1.start().unwrap());
        assert_eq!((one.pub_key().len(), one.pub_key()[0]), (133, 4));
        let (one_share, other_share) = (one.pub_key().to_vec(), other.pub_key().to_vec());
        let (one, other) = (one.complete(&other_share).unwrap(), other.complete(&one_share).unwrap());
        assert_eq!(one.secret_bytes(), other.secret_bytes());
        assert_eq!(one.secret_bytes().len(), 66);
    }

    #[test]
    fn a_certificate_that_is_shown_already_makes_no_new_generation() {
        let tls = ListenerTls::new(ClientCertificate::Required, &[b"h2"]).unwrap();
        let mut shown = tls.subscribe();
        let show = |key: &KeyPair, certificate: &[u8]| tls.show(certificate, key.to_pkcs8().unwrap().expose()).unwrap();
        let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let names = AltNames::from_list("localhost");
        let certificates =
            keys.each_ref().map(|key| profile::premain_certificate(key, &names, UnixTime::now()).unwrap());
        show(&keys[0], &certificates[0]);
        assert_eq!(**shown.borrow_and_update().as_ref().unwrap().certificate(), *certificates[0]);
        show(&keys[0], &certificates[0]);
        assert!(!shown.has_changed().unwrap());
        show(&keys[1], &certificates[1]);
        assert_eq!(**shown.borrow_and_update().as_ref().unwrap().certificate(), *certificates[1]);
    }

    #[test]
    fn a_listener_without_certificate_refuses_the_handshake() {
        let server = settings(ClientCertificate::Optional, &[]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        assert!(server.process_new_packets().is_err());
    }
}
