//! Status and manifest on kept connections, with the load generator on the same machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::connection::{Connection, Credentials};
use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;
use crate::timing::percentile;

/// Requests per second.
const LIMIT: f64 = 20_000.0;
const CONNECTIONS: usize = 32;
/// Of the rounds the median counts.
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(1);
/// About as long as the answer about the state.
const BARE_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 150\r\n\r\n\
    ......................................................................................................................................................";

/// Measures both, and a server that does nothing else than TLS, which is the most that is possible here.
///
/// # Errors
///
/// If the Coordinator does not work.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let credentials = Credentials::generate()?;
    let deployment = Deployment::without_tee(surroundings, "reading")?;
    deployment.set_manifest(&json!({
        "Packages": { "web": { "UniqueID": "42".repeat(32) } },
        "Marbles": { "web": { "Package": "web" } },
    }))?;
    let bare = bare_server(credentials.server()?)?;
    let mut figures = Vec::new();
    let floor = rate(bare, &credentials, "/")?;
    figures.push(Figure::new("floor: an answer of 150 bytes without a Coordinator", floor, Unit::PerSecond));
    for path in ["/api/v2/status", "/api/v2/manifest"] {
        let rate = rate(deployment.client(), &credentials, path)?;
        let name = format!("GET {path}, {CONNECTIONS} connections");
        figures.push(Figure::new(name, rate, Unit::PerSecond).at_least(LIMIT).floor(floor));
    }
    Ok(figures)
}

/// Requests per second, all connections together.
fn rate(address: SocketAddr, credentials: &Credentials, path: &str) -> Result<f64> {
    let config = credentials.client()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let connections = (0..CONNECTIONS).map(|_| {
        let mut connection = Connection::open(address, &config)?;
        // The handshake is no part of it.
        connection.ask(request.as_bytes())?;
        Ok(connection)
    });
    let mut connections = connections.collect::<Result<Vec<_>>>()?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let start = Instant::now();
        thread::scope(|scope| {
            let workers: Vec<_> = connections
                .iter_mut()
                .map(|connection| {
                    scope.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) {
                            connection.ask(request.as_bytes())?;
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok::<(), anyhow::Error>(())
                    })
                })
                .collect();
            thread::sleep(TIME);
            is_over.store(true, Ordering::Relaxed);
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a connection's thread"))?)
        })?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        rates.push(answered.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(percentile(&mut rates, 50))
}

/// A server with one thread for each connection, which answers whatever it is sent.
fn bare_server(config: Arc<ServerConfig>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // It ends with the program.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(session) = ServerConnection::new(Arc::clone(&config)) else { return };
            let _ = stream.set_nodelay(true);
            let mut stream = StreamOwned::new(session, stream);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    if stream.write_all(BARE_ANSWER).and_then(|()| stream.flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}
