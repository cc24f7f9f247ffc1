//! The vendor's provisioning service (version 4) over HTTP on loopback, which misbehaves on request.
//!
//! | Path | Answer |
//! |---|---|
//! | `/sgx/certification/v4/tcb?fmspc=HEX` | TCB info, JSON; 404 for platforms that are not served |
//! | `/sgx/certification/v4/qe/identity` | QE identity, JSON |
//! | `/sgx/certification/v4/pckcrl?ca=processor` or `platform`, `&encoding=pem` or `der` | the PCK CA's CRL |
//! | `/sgx/certification/v4/rootcacrl` | the root's CRL in hexadecimal, as caching services have it |
//! | `/IntelSGXRootCA.der` | the root's CRL, DER |
//! | `/sgx/certification/v4/tcbevaluationdatanumbers` | the evaluation data numbers, JSON |
//!
//! The first two take `update=standard` or `early`, or `tcbEvaluationDataNumber=N`: 404 for a number that is to come, 410
//! for one that was withdrawn. Issuer chains are percent-encoded PEM in a header. Everything is issued at the time of the
//! request. A [`Rule`] says what is done wrong, for which requests; rules can be changed while the service runs.

mod answer;
mod body;
mod misbehaviour;
mod request;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::UnixTime;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::root::DevelopmentRoot;
use answer::{Reaction, react};
use body::AnswerBody;

pub use body::OVER_LONG_BYTES;
pub use misbehaviour::{CrlForm, IssuerChain, Item, Misbehaviour, ParseRuleError, Rule, Scope};

/// How many connections are open at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// How many requests are remembered; older ones are forgotten.
const MAX_REMEMBERED: usize = 4096;
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What time it is, for everything that is issued.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// How a service is started.
#[derive(Clone)]
pub struct ServiceOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Allows an address that other machines can reach.
    pub allow_remote: bool,
    /// FMSPCs that it serves besides the root's own.
    pub further_platforms: Vec<[u8; 6]>,
    /// What it does wrong.
    pub rules: Vec<Rule>,
    /// What time it is.
    pub clock: Clock,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            allow_remote: false,
            further_platforms: Vec::new(),
            rules: Vec::new(),
            clock: Arc::new(UnixTime::now),
        }
    }
}

impl fmt::Debug for ServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceOptions")
            .field("listen", &self.listen)
            .field("allow_remote", &self.allow_remote)
            .field("further_platforms", &self.further_platforms)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A service could not be started.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Other machines could reach it.
    #[error("expected a loopback address to listen on, got {address}")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine has no thread or event queue left.
    #[error("cannot start the collateral service")]
    Start(#[source] io::Error),
}

impl ServiceError {
    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotLoopback { .. } => Some(
                "what it serves is worthless outside of tests; if other machines shall reach it, say so with --force",
            ),
            Self::Listen { .. } => Some("port 0 takes a free port"),
            Self::Start(_) => None,
        }
    }
}

/// A running service; ends with this value.
#[derive(Debug)]
pub struct CollateralService {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    root: DevelopmentRoot,
    platforms: Vec<[u8; 6]>,
    clock: Clock,
    changing: Mutex<Changing>,
    asked: Condvar,
}

struct Changing {
    rules: Arc<[Rule]>,
    requests: VecDeque<String>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("root", &self.root).field("platforms", &self.platforms).finish_non_exhaustive()
    }
}

impl CollateralService {
    /// Starts a service of the vendor `root` in a thread of its own.
    ///
    /// # Errors
    /// [`ServiceError`] if the address is not loopback without [`ServiceOptions::allow_remote`], or cannot be used.
    pub fn start(root: DevelopmentRoot, options: ServiceOptions) -> Result<Self, ServiceError> {
        let address = options.listen;
        if !address.ip().is_loopback() && !options.allow_remote {
            return Err(ServiceError::NotLoopback { address });
        }
        let listener = TcpListener::bind(address).map_err(|source| ServiceError::Listen { address, source })?;
        listener.set_nonblocking(true).map_err(ServiceError::Start)?;
        let address = listener.local_addr().map_err(ServiceError::Start)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServiceError::Start)?;

        let mut platforms = options.further_platforms;
        platforms.push(root.fmspc());
        let changing = Changing { rules: options.rules.into(), requests: VecDeque::new() };
        let shared = Arc::new(Shared {
            root,
            platforms,
            clock: options.clock,
            changing: Mutex::new(changing),
            asked: Condvar::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("collateral service".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, served) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(ServiceError::Start)?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients are configured with: `http://127.0.0.1:41000/sgx/certification/v4/`.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, request::BASE)
    }

    /// From now on does wrong what these rules say and nothing else. Answers that are on their way do not change.
    pub fn misbehave(&self, rules: impl IntoIterator<Item = impl Into<Rule>>) {
        self.shared.lock().rules = rules.into_iter().map(Into::into).collect();
    }

    /// From now on does everything right.
    pub fn behave(&self) {
        self.misbehave(None::<Rule>);
    }

    /// Path and query of the requests so far, oldest first; at most the 4096 newest.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.iter().cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.lock().requests.clear();
    }

    /// Waits until a remembered request's path and query contain `part`; `false` if none came within the time.
    pub fn wait_for_request(&self, part: &str, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut changing = self.shared.lock();
        loop {
            if changing.requests.iter().any(|request| request.contains(part)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            changing = self.shared.asked.wait_timeout(changing, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        // The sender stays alive meanwhile, so the service does not stop.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for CollateralService {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Changing> {
        // Every critical section leaves the values whole, so a panic elsewhere does not matter.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a request and returns the rules that are in force.
    fn note(&self, target: &str) -> Arc<[Rule]> {
        let mut changing = self.lock();
        if changing.requests.len() == MAX_REMEMBERED {
            changing.requests.pop_front();
        }
        changing.requests.push_back(target.to_owned());
        self.asked.notify_all();
        changing.rules.clone()
    }

    /// Intel writes header names with capitals; HTTP libraries must not care.
    fn has_lower_case_names(&self) -> bool {
        let lower_case = Misbehaviour::IssuerChain(IssuerChain::LowerCase);
        self.lock().rules.iter().any(|rule| rule.misbehaviour == lower_case)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                // Ends with its connection or with the runtime.
                tokio::spawn(async move {
                    serve(stream, shared).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("broken on purpose")]
struct Broken;

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let last_words = Arc::new(Mutex::new(&b""[..]));
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, last_words) = (shared.clone(), last_words.clone());
        Box::pin(async move { respond(&shared, &request, &last_words).await })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(!shared.has_lower_case_names())
        .serve_connection(TokioIo::new(stream), service);
    // Whether the client left or we broke off: what counts is said below.
    let _ = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    let last_words = *last_words.lock().unwrap_or_else(PoisonError::into_inner);
    // The client may have gone.
    let _ = stream.write_all(last_words).await;
    let _ = stream.shutdown().await;
}

async fn respond(
    shared: &Shared,
    request: &Request<Incoming>,
    last_words: &Mutex<&'static [u8]>,
) -> Result<Response<AnswerBody>, Broken> {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let rules = shared.note(target);
    match react(&shared.root, &shared.platforms, &rules, (shared.clock)(), request) {
        Ok(Reaction::Answer(response)) => Ok(response),
        Ok(Reaction::Silence) => std::future::pending().await,
        Ok(Reaction::Break(words)) => {
            *last_words.lock().unwrap_or_else(PoisonError::into_inner) = words;
            Err(Broken)
        }
        Err(error) => {
            let mut response = Response::new(AnswerBody::whole(error.to_string()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(response)
        }
    }
}
