//! A vendor with platforms, and a collateral service that answers as a test wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use marblerun_attestation::{PlatformId, Quote, TrustRoots};
use marblerun_collateral::{BaseUrl, ClientOptions};
use marblerun_software_tee::{CollateralOptions, Dates, DevelopmentRoot, EnclaveIdentity, PckCa, RootOptions};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls_pki_types::UnixTime;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub(crate) const DAY: u64 = 24 * 60 * 60;
/// When everything is issued.
pub(crate) const NOW: u64 = 1_795_392_000;

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A development root and one platform.
pub(crate) struct Vendor {
    _directory: TempDir,
    pub(crate) root: DevelopmentRoot,
}

impl Vendor {
    pub(crate) fn new(pck_ca: PckCa) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = RootOptions { pck_ca, ..RootOptions::default() };
        let root = DevelopmentRoot::create(&directory.path().join("root"), at(NOW), options).unwrap();
        Self { _directory: directory, root }
    }

    pub(crate) fn quote(&self) -> Quote {
        let enclave =
            EnclaveIdentity { mr_enclave: [7; 32], mr_signer: [8; 32], isv_prod_id: 3, isv_svn: 4, debug: false };
        Quote::parse(&self.root.quote(&enclave, &[9; 64]).unwrap()).unwrap()
    }

    pub(crate) fn platform(&self) -> PlatformId {
        self.quote().unverified_platform().unwrap()
    }

    pub(crate) fn roots(&self) -> TrustRoots {
        TrustRoots::software([("test", self.root.root_der())]).unwrap()
    }

    pub(crate) fn collateral(&self, options: &CollateralOptions) -> String {
        self.root.collateral(at(NOW), options).unwrap()
    }

    /// Collateral whose texts are issued and due at these times.
    pub(crate) fn dated(&self, issued: u64, next_update: u64) -> String {
        let dates = Some(Dates { issued: at(issued), next_update: at(next_update) });
        self.collateral(&CollateralOptions {
            tcb_info_dates: dates,
            qe_identity_dates: dates,
            ..CollateralOptions::default()
        })
    }

    pub(crate) fn good(&self) -> String {
        self.collateral(&CollateralOptions::default())
    }
}

/// What is sent for a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// As a PCCS does.
    Collateral(String),
    /// These bytes.
    Raw(Vec<u8>),
    /// These bytes, again and again.
    Endless(&'static [u8]),
    /// Nothing, and the connection stays open.
    Silence,
}

impl Reply {
    pub(crate) fn status(line: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into())
    }
}

#[derive(Debug)]
struct Shared {
    reply: Mutex<Reply>,
    /// For requests that contain a text.
    exceptions: Mutex<HashMap<String, Reply>>,
    requests: watch::Sender<Vec<String>>,
}

/// A service on loopback; it ends with the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) url: BaseUrl,
    shared: Arc<Shared>,
}

impl Service {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::listen("http", None, reply).await
    }

    /// With a certificate that no authority knows.
    pub(crate) async fn start_tls(reply: Reply) -> Self {
        let key = marblerun_pki::KeyPair::generate().unwrap();
        let names = marblerun_pki::AltNames::from_list("localhost,127.0.0.1");
        let now = at(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
        let certificate = marblerun_pki::profile::premain_certificate(&key, &names, now).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate)],
                PrivatePkcs8KeyDer::from(key.to_pkcs8().unwrap().expose().to_vec()).into(),
            )
            .unwrap();
        Self::listen("https", Some(TlsAcceptor::from(Arc::new(config))), reply).await
    }

    async fn listen(scheme: &str, tls: Option<TlsAcceptor>, reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = BaseUrl::parse(&format!("{scheme}://{address}/sgx/certification/v4/")).unwrap();
        let shared = Arc::new(Shared {
            reply: Mutex::new(reply),
            exceptions: Mutex::default(),
            requests: watch::Sender::new(Vec::new()),
        });
        let service = Self { url, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => shared.answer(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                shared.answer(stream).await;
                            }
                        }
                    }
                });
            }
        });
        service
    }

    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions::new(self.url.clone())
    }

    /// From now on.
    pub(crate) fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    /// For requests whose path contains `part`.
    pub(crate) fn reply_to(&self, part: &str, reply: Reply) {
        self.shared.exceptions.lock().unwrap().insert(part.to_owned(), reply);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.borrow().clone()
    }

    /// Until this many requests came.
    pub(crate) async fn asked(&self, count: usize) {
        self.shared.requests.subscribe().wait_for(|requests| requests.len() >= count).await.unwrap();
    }
}

impl Shared {
    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.requests.send_modify(|requests| requests.push(head.clone()));
        let exception = {
            let exceptions = self.exceptions.lock().unwrap();
            exceptions.iter().find(|(part, _)| path.contains(*part)).map(|(_, reply)| reply.clone())
        };
        let reply = exception.unwrap_or_else(|| self.reply.lock().unwrap().clone());
        match reply {
            Reply::Collateral(text) => {
                let _ = stream.write_all(&served(&text, &path)).await;
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Reply::Endless(bytes) => {
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
                let mut sent = stream.write_all(head).await;
                while sent.is_ok() {
                    sent = stream.write_all(&chunk).await;
                }
            }
            Reply::Silence => std::future::pending().await,
        }
        let _ = stream.shutdown().await;
    }
}

/// A good answer for a path.
fn served(text: &str, path: &str) -> Vec<u8> {
    let bundle: Value = serde_json::from_str(text).unwrap();
    let member = |name: &str| bundle[name].as_str().unwrap().to_owned();
    let signed = |name: &str, text: &str| {
        format!("{{\"{name}\":{},\"signature\":\"{}\"}}", member(text), member(&format!("{text}_signature")))
    };
    let encoded = |chain: &str| member(chain).replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
    let der = |name: &str| hex::decode(member(name)).unwrap();
    let name = path.strip_prefix("/sgx/certification/v4/").unwrap();
    let (header, body) = match name.split('?').next().unwrap() {
        "tcb" => (
            format!("tcb-info-issuer-chain: {}", encoded("tcb_info_issuer_chain")),
            signed("tcbInfo", "tcb_info").into(),
        ),
        "qe/identity" => (
            format!("SGX-Enclave-Identity-Issuer-Chain: {}", encoded("qe_identity_issuer_chain")),
            signed("enclaveIdentity", "qe_identity").into(),
        ),
        "pckcrl" => (format!("SGX-PCK-CRL-Issuer-Chain: {}", encoded("pck_crl_issuer_chain")), der("pck_crl")),
        "rootcacrl" => ("X-Other: x".to_owned(), hex::encode(der("root_ca_crl")).into()),
        other => panic!("unexpected request for {other}"),
    };
    let head = format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}
