//! A kept connection to the client API, as small as a client can be: what it costs itself must not hide the server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use marblerun_pki::{AltNames, KeyPair, profile};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, StreamOwned,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 8192;

/// A key with a certificate of its own: a user, or a server without a name.
pub struct Credentials {
    key: KeyPair,
    certificate: Vec<u8>,
}

impl Credentials {
    /// New ones.
    ///
    /// # Errors
    ///
    /// If the library makes none.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = profile::premain_certificate(&key, &AltNames::from_list("localhost"), UnixTime::now())?;
        Ok(Self { key, certificate })
    }

    /// The certificate for a manifest.
    pub fn pem(&self) -> String {
        marblerun_pki::pem::encode("CERTIFICATE", &self.certificate)
    }

    fn parts(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = PrivatePkcs8KeyDer::from(self.key.to_pkcs8()?.expose().to_vec());
        Ok((vec![CertificateDer::from(self.certificate.clone())], key.into()))
    }

    /// The settings of a server with them.
    ///
    /// # Errors
    ///
    /// If the library does not take them.
    pub fn server(&self) -> Result<Arc<ServerConfig>> {
        let (chain, key) = self.parts()?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        Ok(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key)?))
    }

    /// The settings of a client with them. The server is a process of this bench, so it is not verified.
    ///
    /// # Errors
    ///
    /// If the library does not take them.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let (chain, key) = self.parts()?;
        let provider = default_provider();
        let verifier = AnyServer(provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// One connection; one request at a time.
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let session = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        Ok(Self { stream: StreamOwned::new(session, stream), received: Vec::new() })
    }

    /// Sends `request`, which must be a whole one, and reads its answer, which must be a success.
    ///
    /// # Errors
    ///
    /// If the answer is another one.
    pub fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request)?;
        self.stream.flush()?;
        self.received.clear();
        let (head, length) = loop {
            if let Some(parts) = head(&self.received)? {
                break parts;
            }
            ensure!(self.received.len() < MAX_HEAD_BYTES, "the head of the answer does not end");
            self.receive()?;
        };
        while self.received.len() < head + length {
            self.receive()?;
        }
        ensure!(self.received.len() == head + length, "expected one answer, got more");
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 16384];
        let length = self.stream.read(&mut buffer)?;
        ensure!(length > 0, "the connection was closed");
        self.received.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

/// Where the head of a successful answer ends, and how long its body is; `None` if there is not yet a whole head.
fn head(received: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    ensure!(text.starts_with("http/1.1 200 "), "expected a success, got {text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no Content-Length")?;
    Ok(Some((end + 4, length.trim().parse()?)))
}

/// Accepts every certificate and checks that the peer holds its key.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
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
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_only_with_its_body() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n").unwrap(), None);
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{").unwrap(), Some((38, 2)));
        assert!(head(b"HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\n").is_err());
    }
}
