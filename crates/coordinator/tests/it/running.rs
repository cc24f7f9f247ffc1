//! A Coordinator in this process, on ports of the system's choice, and clients that say exactly what a test wants.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use marblerun_api::rpc::{ActivationReq, ActivationResp, Parameters};
use marblerun_coordinator::audit::AuditTarget;
use marblerun_coordinator::config::{Config, LogConfig};
use marblerun_coordinator::listener::Limits;
use marblerun_coordinator::start::start_with_limits;
use marblerun_pki::{
    AltNames, CertificateTemplate, GeneratedKey, Issuer, KeyKind, KeyPair, SecretValidity, issue_secret_certificate,
    profile, request,
};
use prost::Message as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const UUID: &str = "11111111-2222-3333-4444-555555555555";
/// Marbles: `web` as often as one likes, `once` one time.
pub const MANIFEST: &str = r#"{
    "Packages": {"p": {"UniqueID": "abababababababababababababababababababababababababababababababab"}},
    "Marbles": {
        "web": {"Package": "p", "Parameters": {"Argv": ["/bin/web"]}},
        "once": {"Package": "p", "MaxActivations": 1},
        "late": {"Package": "p", "MaxActivations": 1, "Parameters": {"Env": {"E": "{{ string .Secrets.pw }}"}}}
    },
    "Secrets": {"pw": {"Type": "plain", "UserDefined": true}}
}"#;

pub fn config(seal_dir: &Path) -> Config {
    Config {
        mesh_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        client_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        dns_names: "localhost,coordinator.example,10.9.8.7".to_owned(),
        seal_dir: seal_dir.to_owned(),
        collateral_dir: None,
        collateral_cache: None,
        pccs_urls: Vec::new(),
        qcnl: None,
        startup_manifest: None,
        simulation: Some("1".to_owned()),
        metrics_addr: None,
        audit: AuditTarget::Log,
        log: LogConfig { debug: false, json: false },
    }
}

/// A Coordinator that serves until it is dropped.
pub struct Running {
    pub client: SocketAddr,
    pub mesh: SocketAddr,
    pub metrics: Option<SocketAddr>,
    serving: JoinHandle<()>,
    /// Where it keeps its state, if it is of its own.
    _directory: Option<tempfile::TempDir>,
}

impl Running {
    pub async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Self::of(config(directory.path()), limits).await;
        running._directory = Some(directory);
        running
    }

    /// In a directory that a Coordinator may have used before; that one gives it back soon after it was dropped.
    pub async fn again(path: &Path) -> Self {
        Self::of(config(path), Limits::default()).await
    }

    pub async fn of(config: Config, limits: Limits) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        let coordinator = loop {
            match start_with_limits(config.clone(), limits).await {
                Err(error) if format!("{error:#}").contains("in use") => {
                    assert!(Instant::now() < deadline, "{error:#}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => break other.unwrap(),
            }
        };
        let (client, mesh) = (coordinator.client_addr().unwrap(), coordinator.mesh_addr().unwrap());
        let metrics = coordinator.metrics_addr().unwrap();
        Self { client, mesh, metrics, serving: tokio::spawn(coordinator.serve()), _directory: None }
    }

    /// One request of the client API over HTTP/1.1 and a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask_as(&Identity::None, method, path, body).await
    }

    /// [`Running::ask`] with a client certificate.
    pub async fn ask_as(&self, identity: &Identity, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let stream = connect(self.client, client_config(identity, &[b"http/1.1"])).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("host", "localhost")
            .body(Full::new(body.into()))
            .unwrap();
        Answer::of(sender.send_request(request).await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Bytes::new()).await
    }

    pub async fn set_manifest(&self) {
        let answer = self.ask("POST", "/manifest", MANIFEST).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// One call of the Marble API with a good request for `marble_type`.
    pub async fn activate(&self, marble_type: &str) -> Result<Parameters, Refusal> {
        self.call(&Identity::new(), &request_for(marble_type)).await
    }

    pub async fn call(&self, identity: &Identity, request: &ActivationReq) -> Result<Parameters, Refusal> {
        call(self.mesh, identity, "/rpc.Marble/Activate", request).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer of the client API.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    async fn of(response: http::Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// The member `data` of the envelope.
    pub fn data(&self) -> serde_json::Value {
        self.envelope()["data"].clone()
    }

    pub fn envelope(&self) -> serde_json::Value {
        assert!(self.text.ends_with('\n'), "{:?}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

/// A refusal of the Marble API.
#[derive(Debug)]
pub struct Refusal {
    /// The number of the gRPC status.
    pub code: u32,
    pub message: String,
}

pub fn request_for(marble_type: &str) -> ActivationReq {
    let csr = request::premain_request(&KeyPair::generate().unwrap(), &AltNames::from_list("a.example")).unwrap();
    ActivationReq { quote: Vec::new(), csr, marble_type: marble_type.to_owned(), uuid: UUID.to_owned() }
}

/// One gRPC call, byte for byte as the protocol has it.
pub async fn call(
    mesh: SocketAddr,
    identity: &Identity,
    path: &str,
    message: &ActivationReq,
) -> Result<Parameters, Refusal> {
    let stream = connect(mesh, client_config(identity, &[b"h2"])).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let message = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let request = Request::post(format!("https://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(framed)))
        .unwrap();
    // A connection that ends before the call is what gRPC clients call UNAVAILABLE.
    let ended = |error: hyper::Error| Refusal { code: tonic::Code::Unavailable as u32, message: error.to_string() };
    let (head, body) = sender.send_request(request).await.map_err(ended)?.into_parts();
    let body = body.collect().await.map_err(ended)?;
    let trailers = body.trailers().cloned().unwrap_or(head.headers);
    let text = |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let code = text("grpc-status").parse().unwrap();
    if code != 0 {
        // Good enough for reading: the escapes that matter here are blanks.
        return Err(Refusal { code, message: text("grpc-message").replace("%20", " ") });
    }
    let body = body.to_bytes();
    Ok(ActivationResp::decode(&body[5..]).unwrap().parameters.unwrap())
}

/// What a client shows in the handshake.
pub enum Identity {
    None,
    /// Certificate (DER) and key (PKCS#8), which need not belong together.
    Shown(Vec<u8>, Vec<u8>),
}

impl Identity {
    /// A premain's.
    pub fn new() -> Self {
        Self::made_at(1_769_904_000)
    }

    /// With a certificate whose validity begins then.
    pub fn made_at(seconds: u64) -> Self {
        let key = KeyPair::generate().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let certificate = profile::premain_certificate(&key, &AltNames::from_list("localhost"), now).unwrap();
        Self::Shown(certificate, key.to_pkcs8().unwrap().expose().to_vec())
    }

    /// Of a foreign CA, and expired since 1970.
    pub fn expired(kind: KeyKind) -> Self {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000_000));
        let (ca, key) = (KeyPair::generate().unwrap(), GeneratedKey::generate(kind).unwrap());
        let root = profile::marble_root_certificate(&ca, &AltNames::from_list("localhost"), now).unwrap();
        let issuer = Issuer::new(&root, &ca).unwrap();
        let validity = SecretValidity { valid_for_days: 1, shared: false };
        let template = CertificateTemplate::default();
        let certificate = issue_secret_certificate(&issuer, &template, validity, &key.public, now).unwrap();
        Self::Shown(certificate, key.private.expose().to_vec())
    }

    /// A certificate with the key of somebody else.
    pub fn stolen() -> Self {
        let (Self::Shown(certificate, _), Self::Shown(_, key)) = (Self::new(), Self::new()) else { unreachable!() };
        Self::Shown(certificate, key)
    }
}

#[derive(Debug)]
struct Resolver(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

pub fn client_config(identity: &Identity, alpn: &[&[u8]]) -> ClientConfig {
    client_config_with(provider(), rustls::DEFAULT_VERSIONS, identity, alpn)
}

pub fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

pub fn client_config_with(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    identity: &Identity,
    alpn: &[&[u8]],
) -> ClientConfig {
    let shown = match identity {
        Identity::None => None,
        Identity::Shown(certificate, key) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            Some(Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate.clone())], key)))
        }
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_cert_resolver(Arc::new(Resolver(shown)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// Connects and finishes the handshake as the client sees it.
pub async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The tests look at the certificate themselves.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A file beside nothing else, for start-up manifests.
pub fn write_file(directory: &Path, content: &[u8]) -> PathBuf {
    let path = directory.join("manifest.json");
    std::fs::write(&path, content).unwrap();
    path
}
