//! What others notice while somebody holds thousands of connections, or begins handshakes as fast as possible.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use marblerun_linux::limits::raise_open_files;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::connection::{Connection, Credentials};
use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;
use crate::timing::percentile;

/// Milliseconds.
const LATENCY_LIMIT: f64 = 50.0;
/// Megabytes.
const MEMORY_LIMIT: f64 = 96.0;
const SILENT: usize = 5000;
/// Threads that begin handshakes.
const FLOODERS: usize = 2;
/// How long each of them waits from one to the next. Together they begin more than this machine can compute, but leave
/// it time for anything else, and do not fill the kernel's queue, before which no program can do anything.
const PAUSE: Duration = Duration::from_micros(400);
/// Handshakes that one of them has begun and not ended.
const UNANSWERED: usize = 500;
/// Where the flood comes from; everyone else has 127.0.0.1.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TIME: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(30);
const STATUS: &[u8] = b"GET /api/v2/status HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Measures the latency of others without and with either.
///
/// # Errors
///
/// If the Coordinator does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    raise_open_files().context("cannot raise the number of open files")?;
    let deployment = Deployment::without_tee(surroundings, "flood")?;
    let clients = Clients::new(&deployment)?;
    let mut figures = clients.figures("nobody else", &deployment, Some(LATENCY_LIMIT))?;
    {
        let silent = [deployment.client(), deployment.mesh()]
            .map(|port| (0..SILENT).map(|_| connect(Ipv4Addr::LOCALHOST, port)).collect::<Result<Vec<_>>>());
        let silent = silent.into_iter().collect::<Result<Vec<_>>>()?;
        let title = format!("{SILENT} silent connections on each port");
        figures.extend(clients.figures(&title, &deployment, Some(LATENCY_LIMIT))?);
        drop(silent);
    }
    let hello = hello(&clients.marble)?;
    // Whoever shares an address with a flood shares its turns; so there is no limit for them.
    let floods = [
        (ELSEWHERE, "handshakes from another address", Some(LATENCY_LIMIT)),
        (Ipv4Addr::LOCALHOST, "handshakes from the same address", None),
    ];
    for (source, title, limit) in floods {
        let (begun, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..FLOODERS {
                scope.spawn(|| {
                    // It never waits for an answer; what it has open is closed again in the order of opening.
                    let mut open = VecDeque::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let Ok(mut stream) = connect(source, deployment.mesh()) else { continue };
                        if stream.write_all(&hello).is_ok() {
                            open.push_back(stream);
                        }
                        begun.fetch_add(1, Ordering::Relaxed);
                        if open.len() > UNANSWERED {
                            open.pop_front();
                        }
                        thread::sleep(PAUSE);
                    }
                });
            }
            let start = Instant::now();
            let measured = clients.figures(title, &deployment, limit);
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let rate = begun.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
            is_over.store(true, Ordering::Relaxed);
            figures.push(Figure::new(format!("{title}: begun"), rate, Unit::PerSecond));
            figures.extend(measured?);
            Ok::<(), anyhow::Error>(())
        })?;
    }
    Ok(figures)
}

/// Those whose latency counts.
struct Clients {
    client: SocketAddr,
    mesh: SocketAddr,
    user: Arc<ClientConfig>,
    marble: Arc<ClientConfig>,
}

impl Clients {
    fn new(deployment: &Deployment) -> Result<Self> {
        let user = Credentials::generate()?.client()?;
        let mut marble = (*Credentials::generate()?.client()?).clone();
        marble.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { client: deployment.client(), mesh: deployment.mesh(), user, marble: Arc::new(marble) })
    }

    /// The figures of one situation.
    fn figures(&self, title: &str, deployment: &Deployment, limit: Option<f64>) -> Result<Vec<Figure>> {
        let mut kept = Connection::open(self.client, &self.user)?;
        kept.ask(STATUS)?;
        let [mut asked, mut new, mut marble] = [const { Vec::new() }; 3];
        let mut refused = 0;
        let start = Instant::now();
        while start.elapsed() < TIME {
            asked.push(milliseconds(|| kept.ask(STATUS)).with_context(|| format!("{title}: kept connection"))?);
            let asking = milliseconds(|| Connection::open(self.client, &self.user)?.ask(STATUS));
            new.push(asking.with_context(|| format!("{title}: new connection"))?);
            match milliseconds(|| greeted(self.mesh, &self.marble)) {
                Ok(taken) => marble.push(taken),
                // Who comes from the address of the flood may lose its place to the flood.
                Err(_) if limit.is_none() => refused += 1,
                Err(error) => return Err(error.context(format!("{title}: handshake of a Marble"))),
            }
        }
        let mut figures = Vec::new();
        if limit.is_none() {
            let attempts = format!("{title}: handshakes of a Marble refused, of {}", refused + marble.len());
            #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
            figures.push(Figure::new(attempts, refused as f64, Unit::Count));
        }
        for (what, latencies) in [
            ("status on a kept connection", &mut asked),
            ("status on a new connection", &mut new),
            ("handshake of a Marble", &mut marble),
        ] {
            for (percent, name) in [(50, "median"), (99, "99 %")] {
                let figure =
                    Figure::new(format!("{title}: {what}, {name}"), percentile(latencies, percent), Unit::Milliseconds);
                figures.push(match limit {
                    Some(limit) => figure.limit(limit),
                    None => figure,
                });
            }
        }
        let memory = deployment.coordinator().status("VmRSS")? / 1e6;
        figures.push(Figure::new(format!("{title}: resident memory"), memory, Unit::Megabytes).limit(MEMORY_LIMIT));
        Ok(figures)
    }
}

fn milliseconds(operation: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    operation()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Connects to the Marble API until the first bytes of HTTP/2 arrive, which the server sends after the handshake.
fn greeted(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<()> {
    let stream = connect(Ipv4Addr::LOCALHOST, address)?;
    let mut stream = StreamOwned::new(session(config)?, stream);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    stream.read_exact(&mut [0; 9])?;
    Ok(())
}

fn session(config: &Arc<ClientConfig>) -> Result<ClientConnection> {
    Ok(ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?)
}

/// The first message of a handshake, which costs its sender nothing when it is sent again.
fn hello(config: &Arc<ClientConfig>) -> Result<Vec<u8>> {
    let mut hello = Vec::new();
    session(config)?.write_tls(&mut hello)?;
    Ok(hello)
}

fn connect(source: Ipv4Addr, address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    // Closing frees the port at once: thousands of them are used in a second.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(&address.into()).map_err(|error| anyhow!("cannot connect from {source}: {error}"))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}
