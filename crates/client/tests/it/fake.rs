//! A Coordinator that tests play: real TLS, real evidence of a software TEE, and whatever answers a test wants.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use marblerun_api::rest::{
    self, CoordinatorState, ManifestAnswer, QuoteAnswer, SetManifestAnswer, SetManifestRequest, StatusAnswer, v1, v2,
};
use marblerun_attestation::{ReportData, ReportDigest, TrustRoots, with_oe_header};
use marblerun_json::RawJson;
use marblerun_pki::{AltNames, Issuer, KeyPair, pem, profile, tls as signature};
use marblerun_software_tee::{CollateralOptions, DevelopmentRoot, EnclaveIdentity, RootOptions};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// A root key with its certificates.
pub(crate) struct Identity {
    pub(crate) key: KeyPair,
    pub(crate) root: Vec<u8>,
    pub(crate) intermediate: Vec<u8>,
}

impl Identity {
    pub(crate) fn new(names: &str, now: UnixTime) -> Self {
        let (key, intermediate_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let names = AltNames::from_list(names);
        let root = profile::root_certificate(&key, &names, now).unwrap();
        let issuer = Issuer::new(&root, &key).unwrap();
        let intermediate = profile::intermediate_certificate(&issuer, &intermediate_key, &names, now).unwrap();
        Self { key, root, intermediate }
    }

    pub(crate) fn chain(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.intermediate) + &pem::encode(pem::CERTIFICATE, &self.root)
    }
}

/// A mock vendor with a bundle of collateral.
pub(crate) struct Tee {
    directory: TempDir,
    pub(crate) root: DevelopmentRoot,
    /// Made before any verifier looks at its clock, so that a new second in between cannot make it "not yet valid".
    collateral: String,
}

impl Tee {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::create(&directory.path().join("root"), now(), RootOptions::default()).unwrap();
        let collateral = root.collateral(now(), &CollateralOptions::default()).unwrap();
        let tee = Self { directory, root, collateral };
        tee.export(&CollateralOptions::default());
        tee
    }

    /// Writes the bundle anew.
    pub(crate) fn export(&self, options: &CollateralOptions) {
        self.root.export_bundle(&self.bundle(), now(), options).unwrap();
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    pub(crate) fn roots(&self) -> TrustRoots {
        TrustRoots::software([("development", self.root.root_der())]).unwrap()
    }
}

/// What the Coordinator measures like.
pub(crate) const ENCLAVE: EnclaveIdentity =
    EnclaveIdentity { mr_enclave: [0xaa; 32], mr_signer: [0xbb; 32], isv_prod_id: 3, isv_svn: 3, debug: false };

/// What a test wants the Coordinator to do.
pub(crate) struct Script {
    pub(crate) identity: Identity,
    pub(crate) tee: Tee,
    pub(crate) enclave: EnclaveIdentity,
    /// Sent with the quote.
    pub(crate) statement: Option<String>,
    /// Covered by the quote.
    pub(crate) covered_statement: Option<String>,
    /// Whether collateral goes with the quote.
    pub(crate) offers_collateral: bool,
    pub(crate) is_simulated: bool,
    /// Knows no path of version 2.
    pub(crate) is_old: bool,
    /// Covers this instead of the client's nonce.
    pub(crate) wrong_nonce: bool,
    /// In place of the right chain.
    pub(crate) chain: Option<String>,
    pub(crate) manifest: Option<Vec<u8>>,
    /// In place of the right fingerprint.
    pub(crate) fingerprint: Option<String>,
    /// In place of the root's signature.
    pub(crate) manifest_signature: Option<Vec<u8>>,
    /// Refuses every manifest with these words.
    pub(crate) refusal: Option<&'static str>,
    pub(crate) recovery_secrets: Vec<(&'static str, &'static [u8])>,
    /// Shown instead of the root from this connection on, counted from 0: a proxy that terminates TLS.
    pub(crate) proxy: Option<(usize, Identity)>,
    /// Answers everything with this text.
    pub(crate) garbage: Option<&'static str>,
    /// Waits before it answers.
    pub(crate) delay: Duration,
    /// Answers to requests (`METHOD /path`) that go before everything else.
    pub(crate) canned: Vec<(&'static str, u16, String)>,
}

impl Script {
    /// A good Coordinator for the name `localhost`.
    pub(crate) fn new() -> Self {
        let statement = r#"{"version":1,"deployment":"d0","trustClass":"software","rootHashes":[],"anchor":"none","manifestFingerprint":null,"logHead":{"epoch":1,"sequence":2,"hash":"ab"}}"#;
        Self {
            identity: Identity::new("localhost", now()),
            tee: Tee::new(),
            enclave: ENCLAVE,
            statement: Some(statement.to_owned()),
            covered_statement: Some(statement.to_owned()),
            offers_collateral: true,
            is_simulated: false,
            is_old: false,
            wrong_nonce: false,
            chain: None,
            manifest: None,
            fingerprint: None,
            manifest_signature: None,
            refusal: None,
            recovery_secrets: Vec::new(),
            proxy: None,
            garbage: None,
            delay: Duration::ZERO,
            canned: Vec::new(),
        }
    }

    fn quote(&self, query: Option<&str>) -> QuoteAnswer {
        let mut nonce = rest::decode_nonce(query).unwrap().unwrap_or_default();
        if self.wrong_nonce {
            nonce.push(0);
        }
        let digest = ReportDigest::of_parts(&[&self.identity.root, &nonce]);
        let second =
            self.covered_statement.as_ref().map_or([0; 32], |text| *ReportDigest::of(text.as_bytes()).as_bytes());
        let quote = self.tee.root.quote(&self.enclave, ReportData::from_halves(digest, second).as_bytes()).unwrap();
        QuoteAnswer {
            cert: self.chain.clone().unwrap_or_else(|| self.identity.chain()),
            quote: (!self.is_simulated).then(|| with_oe_header(&quote)),
            statement: self.statement.clone(),
            collateral: self.offers_collateral.then(|| RawJson(self.tee.collateral.clone().into_bytes())),
        }
    }

    fn manifest(&self) -> ManifestAnswer {
        let Some(manifest) = &self.manifest else { return ManifestAnswer::default() };
        let signature = || self.identity.key.sign_sha256(manifest).unwrap();
        ManifestAnswer {
            signature: Some(self.manifest_signature.clone().unwrap_or_else(signature)),
            fingerprint: self.fingerprint.clone().unwrap_or_else(|| ReportDigest::of(manifest).to_string()),
            manifest: Some(manifest.clone()),
        }
    }

    fn set(&mut self, manifest: Vec<u8>) -> Result<SetManifestAnswer, &'static str> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        self.manifest = Some(manifest);
        let secrets = self.recovery_secrets.iter();
        Ok(SetManifestAnswer {
            recovery_secrets: secrets.map(|(name, secret)| ((*name).to_owned(), secret.to_vec())).collect(),
        })
    }

    fn answer(&mut self, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> (u16, String) {
        if let Some(garbage) = self.garbage {
            return (200, garbage.to_owned());
        }
        let request = format!("{method} {path}");
        if let Some((_, status, answer)) = self.canned.iter().find(|(canned, ..)| *canned == request) {
            return (*status, answer.clone());
        }
        if self.is_old && path.starts_with("/api/v2/") {
            return (405, rest::error(""));
        }
        let state = if self.manifest.is_some() {
            CoordinatorState::AcceptingMarbles
        } else {
            CoordinatorState::AcceptingManifest
        };
        let refused = |code, reason: &str| (code, rest::error(reason));
        match (method.as_str(), path) {
            ("GET", v1::STATUS) => (200, StatusAnswer::from(state).to_v1()),
            ("GET", v2::STATUS) => (200, StatusAnswer::from(state).to_v2()),
            ("GET", v1::QUOTE) => (200, self.quote(None).to_v1()),
            ("GET", v2::QUOTE) => (200, self.quote(query).to_v2()),
            ("GET", v1::MANIFEST) => (200, self.manifest().to_v1()),
            ("GET", v2::MANIFEST) if self.manifest.is_none() => refused(500, "no manifest set"),
            ("GET", v2::MANIFEST) => (200, self.manifest().to_v2()),
            ("POST", v1::MANIFEST) => {
                self.set(body.to_vec()).map_or_else(|reason| refused(400, reason), |answer| (200, answer.to_v1()))
            }
            ("POST", v2::MANIFEST) => {
                let request: SetManifestRequest = rest::decode_request(body).unwrap();
                self.set(request.manifest).map_or_else(|reason| refused(500, reason), |answer| (200, answer.to_v2()))
            }
            _ => (405, rest::error("")),
        }
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `METHOD /path`.
    pub(crate) request: String,
    pub(crate) query: String,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The client's leaf certificate, DER.
    pub(crate) client: Option<Vec<u8>>,
}

/// A running Coordinator; it ends with the value.
pub(crate) struct Fake {
    port: u16,
    script: Arc<Mutex<Script>>,
    requests: Arc<Mutex<Vec<Seen>>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Fake {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = serve(listener, script.clone(), requests.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = served => {}
                    _ = stopped => {}
                }
            });
        });
        Self { port, script, requests, _stop: stop }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the Coordinator does from now on.
    pub(crate) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// `METHOD /path` of every request so far, without queries.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|seen| seen.request.clone()).collect()
    }

    /// The newest request.
    pub(crate) fn last(&self) -> Seen {
        self.requests.lock().unwrap().last().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>, requests: Arc<Mutex<Vec<Seen>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor(&script.lock().unwrap(), connection);
        let (script, requests) = (script.clone(), requests.clone());
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let client = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec());
            let service = service_fn(move |request: Request<Incoming>| {
                let (script, requests, client) = (script.clone(), requests.clone(), client.clone());
                async move {
                    let (method, uri) = (request.method().clone(), request.uri().clone());
                    let content_type = request.headers().get("content-type").cloned();
                    let body = request.into_body().collect().await?.to_bytes();
                    requests.lock().unwrap().push(Seen {
                        request: format!("{method} {}", uri.path()),
                        query: uri.query().unwrap_or_default().to_owned(),
                        content_type: content_type.map(|value| value.to_str().unwrap().to_owned()),
                        body: body.to_vec(),
                        client,
                    });
                    let delay = script.lock().unwrap().delay;
                    tokio::time::sleep(delay).await;
                    let (status, text) = script.lock().unwrap().answer(&method, uri.path(), uri.query(), &body);
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap();
                    Ok::<_, hyper::Error>(response)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

fn acceptor(script: &Script, connection: usize) -> TlsAcceptor {
    let shown = match &script.proxy {
        Some((first, proxy)) if connection >= *first => proxy,
        _ => &script.identity,
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.key.to_pkcs8().unwrap().expose().to_vec()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let certified = CertifiedKey::new(vec![CertificateDer::from(shown.root.clone())], key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient))
        // Whether the key is that of the certificate is for the client to find out.
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    TlsAcceptor::from(Arc::new(config))
}

/// Asks for a client certificate, takes any whose key the client has, and none as well.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
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
        .map_err(|_| rustls::CertificateError::BadSignature.into())
}

/// The system's time: certificates are judged by it.
pub(crate) fn now() -> UnixTime {
    UnixTime::now()
}
