//! Somebody between client and Coordinator who ends TLS on both sides and changes what passes.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme};
use rustls::{StreamOwned, crypto};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::site::Site;

/// No read lasts longer.
const IO_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the proxy in front of `server` and returns its address. Each answer goes through `change`.
pub(crate) fn start(site: &Site, server: &str, change: fn(String) -> String) -> String {
    let subject = "/CN=proxy";
    site.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        subject,
        "-days",
        "1",
        "-keyout",
        "proxy-key.pem",
        "-out",
        "proxy.pem",
    ]);
    let certificate = CertificateDer::from_pem_slice(&site.read("proxy.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&site.read("proxy-key.pem")).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let front = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let front = Arc::new(front);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that gives up is the point of these tests.
            let _ = pass(stream, &server, front.clone(), change);
        }
    });
    address
}

fn pass(
    stream: TcpStream,
    server: &str,
    front: Arc<ServerConfig>,
    change: fn(String) -> String,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    let mut client = StreamOwned::new(ServerConnection::new(front).unwrap(), stream);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    // One answer per connection, so that its end is the connection's end.
    let request = String::from_utf8_lossy(&request).replacen("\r\n", "\r\nConnection: close\r\n", 1);

    let answer = exchange(server, request.as_bytes())?;
    let length = answer.len();
    let answer = change(answer);
    assert_eq!(answer.len(), length, "the change must keep the length");
    client.write_all(answer.as_bytes())?;
    client.conn.send_close_notify();
    client.flush()
}

/// Sends a request, which must ask for the connection's end, and returns the whole answer. Nobody is verified.
pub(crate) fn exchange(server: &str, request: &[u8]) -> std::io::Result<String> {
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    connection.write_all(request)?;
    let mut answer = Vec::new();
    // An end without close_notify is an end as well.
    let _ = connection.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Neither the proxy nor [`exchange`] cares with whom it talks.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
