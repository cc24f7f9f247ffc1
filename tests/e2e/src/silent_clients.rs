//! Clients that occupy connections.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::deployment::{Deployment, GREETING};

/// Clients that connect and say nothing.
const SILENT: usize = 200;
/// Clients that stop within the handshake.
const HALF: usize = 8;
/// The start of a TLS record of 512 bytes, a ClientHello, whose rest never comes.
const HALF_HELLO: [u8; 9] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
/// A call takes some milliseconds; an idle client is thrown out after seconds. On a busy machine there is room between.
const NOT_DELAYED: Duration = Duration::from_secs(5);

#[test]
fn silent_connections_and_half_handshakes_delay_nobody() {
    let deployment = Deployment::new(|_| ());
    let client = deployment.coordinator.client.clone();
    let mut open = Vec::new();
    for address in [&client, &deployment.coordinator.mesh] {
        for index in 0..SILENT + HALF {
            let mut stream = TcpStream::connect(address).unwrap();
            if index >= SILENT {
                stream.write_all(&HALF_HELLO).unwrap();
            }
            open.push(stream);
        }
    }
    let started = Instant::now();
    deployment.cli(&["status", &client]).success().says(&["3: "]);
    deployment.marble("hello", "hello").success().says(&[GREETING]);
    let took = started.elapsed();
    assert!(took < NOT_DELAYED, "status and activation took {took:?}");
    assert_eq!(open.len(), 2 * (SILENT + HALF));
}
