//! A Coordinator that follows a script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use marblerun_api::rpc::{ActivationReq, ActivationResp, Parameters};
use marblerun_pki::{AltNames, Issuer, KeyPair, pem, profile};
use prost::Message;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

pub(crate) const CHAIN: &str = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN";
pub(crate) const ROOT: &str = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA";

/// How one call is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// With these parameters.
    Parameters(Parameters),
    /// With a message that has no parameters.
    Nothing,
    /// With a gRPC status.
    Status(u32, &'static str),
    /// As a web server.
    Http(u16, &'static str),
    /// With a message that claims to be compressed.
    Compressed,
    /// Never.
    Never,
}

/// What a call brought.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) request: ActivationReq,
    pub(crate) client_certificate: Vec<u8>,
    pub(crate) path: String,
}

/// The certificates of a Coordinator.
pub(crate) struct Identity {
    /// Key of the intermediate and of the TLS server.
    pub(crate) key: KeyPair,
    /// What the TLS server shows.
    pub(crate) marble_root: Vec<u8>,
    pub(crate) root: Vec<u8>,
    pub(crate) chain_pem: String,
    pub(crate) root_pem: String,
}

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000))
}

impl Identity {
    pub(crate) fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let names = AltNames { dns: vec!["localhost".to_owned()], ..AltNames::default() };
        let root = profile::root_certificate(&root_key, &names, now()).unwrap();
        let issuer = Issuer::new(&root, &root_key).unwrap();
        let intermediate = profile::intermediate_certificate(&issuer, &key, &names, now()).unwrap();
        let intermediate = pem::encode(pem::CERTIFICATE, &intermediate);
        Self {
            marble_root: profile::marble_root_certificate(&key, &names, now()).unwrap(),
            // The Marble's leaf is not looked at by the premain; any certificate stands in for it.
            chain_pem: format!("{intermediate}{intermediate}"),
            root_pem: pem::encode(pem::CERTIFICATE, &root),
            root,
            key,
        }
    }

    /// The parameters that every activation delivers.
    pub(crate) fn parameters(&self) -> Parameters {
        let env = [(CHAIN, &self.chain_pem), (ROOT, &self.root_pem)];
        let env = env.map(|(name, value)| (name.to_owned(), value.clone().into_bytes()));
        Parameters { env: env.into_iter().collect(), ..Parameters::default() }
    }
}

/// A listening Coordinator; it answers in the order of its script, and the last answer for ever.
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Coordinator {
    pub(crate) fn start(identity: &Identity, script: Vec<Answer>) -> Self {
        Self::start_with(&identity.marble_root, &identity.key, &[b"h2"], script)
    }

    /// `certificate` need not fit to `key`.
    pub(crate) fn start_with(certificate: &[u8], key: &KeyPair, alpn: &[&[u8]], script: Vec<Answer>) -> Self {
        let tls = server_config(certificate, key, alpn);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let seen = calls.clone();
        // The thread ends with the test process.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, Arc::new(tls), script, seen));
        });
        Self { address, calls }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

fn server_config(certificate: &[u8], key: &KeyPair, alpn: &[&[u8]]) -> ServerConfig {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_pkcs8().unwrap().expose().to_vec()));
    let certified =
        CertifiedKey::new(vec![CertificateDer::from(certificate.to_vec())], any_supported_type(&key).unwrap());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

async fn serve(
    listener: std::net::TcpListener,
    tls: Arc<ServerConfig>,
    script: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<Call>>>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, script, calls) = (tls.clone(), script.clone(), calls.clone());
        tokio::spawn(async move {
            let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let service =
                service_fn(move |request| answer(request, certificate.clone(), script.clone(), calls.clone()));
            // The client may drop the connection at any time.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

async fn answer(
    request: Request<Incoming>,
    client_certificate: Vec<u8>,
    script: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request = ActivationReq::decode(&body[5..]).unwrap();
    calls.lock().unwrap().push(Call { request, client_certificate, path });
    let answer = {
        let mut script = script.lock().unwrap();
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
    };
    Ok(match answer.unwrap() {
        Answer::Parameters(parameters) => message(0, &ActivationResp { parameters: Some(parameters) }.encode_to_vec()),
        Answer::Nothing => message(0, &[]),
        Answer::Compressed => message(1, &[]),
        Answer::Never => std::future::pending().await,
        Answer::Status(code, text) => {
            let mut response = response(200, "application/grpc", Full::default().boxed_unsync());
            response.headers_mut().insert("grpc-status", code.into());
            response.headers_mut().insert("grpc-message", HeaderValue::from_static(text));
            response
        }
        Answer::Http(status, content_type) => response(status, content_type, Full::from("{}").boxed_unsync()),
    })
}

fn message(flag: u8, message: &[u8]) -> Response<Body> {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(frame.freeze()).with_trailers(async { Some(Ok(trailers)) });
    response(200, "application/grpc+proto", body.boxed_unsync())
}

fn response(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    Response::builder().status(status).header("content-type", content_type).body(body).unwrap()
}

/// Any client certificate will do, as for a real Coordinator.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
