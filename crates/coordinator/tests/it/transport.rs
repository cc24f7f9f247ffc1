//! Connections: limits of the listeners, and what TLS asks of clients.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use marblerun_coordinator::listener::{Limits, Listener, Protocols};
use marblerun_coordinator::tls::{ClientCertificate, ListenerTls};
use marblerun_pki::KeyKind;
use rustls::ProtocolVersion;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::running::{Identity, Running, client_config, client_config_with, connect, provider, request_for};

/// Longer than any limit of these tests, so that a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SHORT: Duration = Duration::from_millis(150);

/// Waits until the other end closes the connection; what it says before is returned.
pub async fn until_closed(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection must be closed") {
        Ok(_) => {}
        Err(error) => {
            let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
    }
    said
}

/// True if the Coordinator itself accepts the handshake: with TLS 1.3 a client learns of a refusal only later.
async fn is_served(running: &Running, mesh: bool, identity: &Identity, alpn: &[&[u8]]) -> bool {
    let address = if mesh { running.mesh } else { running.client };
    let Ok(mut stream) = connect(address, client_config(identity, alpn)).await else { return false };
    // Nothing that a server could answer with success in either protocol, but it answers or closes in its way.
    if stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.is_err() {
        return false;
    }
    !until_closed(stream).await.is_empty()
}

#[tokio::test]
async fn a_client_that_never_begins_the_handshake_is_closed() {
    let running = Running::with_limits(Limits { handshake_timeout: SHORT, ..Limits::default() }).await;
    for address in [running.client, running.mesh] {
        assert!(until_closed(TcpStream::connect(address).await.unwrap()).await.is_empty());
    }
    assert_eq!(running.get("/status").await.status, 200);
}

#[tokio::test]
async fn a_client_that_says_nothing_after_the_handshake_is_closed() {
    let limits = Limits { idle_timeout: SHORT, header_timeout: SHORT, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    for alpn in [&[b"http/1.1".as_slice()][..], &[b"h2"], &[]] {
        let stream = connect(running.client, client_config(&Identity::None, alpn)).await.unwrap();
        until_closed(stream).await;
    }
    let stream = connect(running.mesh, client_config(&Identity::new(), &[b"h2"])).await.unwrap();
    until_closed(stream).await;
    // A preface alone is not a request either.
    let mut stream = connect(running.mesh, client_config(&Identity::new(), &[b"h2"])).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    until_closed(stream).await;
}

// rules: TLS-8
#[tokio::test]
async fn a_client_whose_request_head_never_ends_is_closed() {
    let running = Running::with_limits(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let mut stream = connect(running.client, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nhost:").await.unwrap();
    let said = until_closed(stream).await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn a_client_whose_request_body_never_ends_is_told_and_closed() {
    let running = Running::with_limits(Limits { body_timeout: SHORT, ..Limits::default() }).await;
    for (path, status) in [
        ("/manifest", "408"),
        ("/api/v2/recover", "408"),
        // Who is no user is told so at once.
        ("/update", "401"),
        ("/update-manifest", "401"),
        ("/secrets", "401"),
    ] {
        let mut stream = connect(running.client, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = String::from_utf8(until_closed(stream).await).unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {said}");
    }
}

#[tokio::test]
async fn a_recovery_secret_is_read_up_to_its_limit_and_where_there_is_room() {
    let body = |length: usize| format!("{:>length$}", r#"{"recoverySecret":""}"#);
    let told = "expected at most 20480 bytes, got more";
    let running = Running::start().await;
    for (length, is_cut) in [(20_480, false), (20_481, true)] {
        let answer = running.ask("POST", "/api/v2/recover", body(length)).await;
        assert_eq!((answer.status.as_u16(), answer.text.contains(told)), (400, is_cut), "{}", answer.text);
    }
    let running = Running::with_limits(Limits { max_body_bytes_in_flight: 20_000, ..Limits::default() }).await;
    assert_eq!(running.ask("POST", "/api/v2/recover", body(20_000)).await.status, 503);
}

// rules: TLS-8
#[tokio::test]
async fn a_request_head_that_is_too_long_is_refused() {
    let running = Running::with_limits(Limits { max_header_bytes: 8192, ..Limits::default() }).await;
    let mut stream = connect(running.client, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap();
    let head = format!("GET /status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    // The Coordinator may close before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let said = until_closed(stream).await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(running.get("/status").await.status, 200);
}

// rules: ACT-1.3
#[tokio::test]
async fn the_marble_api_speaks_only_http_2_that_was_negotiated() {
    let running = Running::start().await;
    let identity = Identity::new();
    assert!(is_served(&running, true, &identity, &[b"h2"]).await);
    assert!(is_served(&running, true, &identity, &[b"http/1.1", b"h2"]).await);
    assert!(!is_served(&running, true, &identity, &[b"http/1.1"]).await);
    assert!(!is_served(&running, true, &identity, &[]).await);
    let stream = connect(running.mesh, client_config(&identity, &[b"http/1.1", b"h2"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

// rules: TLS-6
#[tokio::test]
async fn the_client_api_prefers_http_2_and_speaks_http_1_also_without_alpn() {
    let running = Running::start().await;
    let stream = connect(running.client, client_config(&Identity::None, &[b"http/1.1", b"h2"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(is_served(&running, false, &Identity::None, &[b"http/1.1"]).await);
    assert!(is_served(&running, false, &Identity::None, &[]).await);
    assert!(!is_served(&running, false, &Identity::None, &[b"spdy/3"]).await);
}

// rules: TLS-2, ACT-1.2
#[tokio::test]
async fn the_marble_api_needs_a_client_certificate_and_the_client_api_does_not() {
    let running = Running::start().await;
    assert!(!is_served(&running, true, &Identity::None, &[b"h2"]).await);
    assert!(is_served(&running, false, &Identity::None, &[b"http/1.1"]).await);
    assert!(is_served(&running, false, &Identity::new(), &[b"http/1.1"]).await);
}

// rules: TLS-3, ACT-1.5
#[tokio::test]
async fn an_expired_or_future_client_certificate_is_accepted() {
    let running = Running::start().await;
    for identity in [Identity::made_at(4_000_000_000), Identity::expired(KeyKind::P256)] {
        assert!(is_served(&running, true, &identity, &[b"h2"]).await);
        assert!(is_served(&running, false, &identity, &[b"http/1.1"]).await);
    }
}

// rules: TLS-5
#[tokio::test]
async fn client_certificates_of_every_common_kind_of_key_are_accepted() {
    let running = Running::start().await;
    for kind in [KeyKind::Rsa2048, KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519] {
        for version in [&TLS12, &TLS13] {
            let identity = Identity::expired(kind);
            let config = client_config_with(provider(), &[version], &identity, &[b"http/1.1"]);
            let mut stream = connect(running.client, config).await.unwrap();
            stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            assert!(until_closed(stream).await.starts_with(b"HTTP/1.1 200"), "{kind:?} {version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_without_the_key_of_its_certificate_is_refused() {
    let running = Running::start().await;
    assert!(!is_served(&running, true, &Identity::stolen(), &[b"h2"]).await);
    assert!(!is_served(&running, false, &Identity::stolen(), &[b"http/1.1"]).await);
    // In TLS 1.2 the refusal is part of the handshake itself.
    for address in [running.mesh, running.client] {
        let config = client_config_with(provider(), &[&TLS12], &Identity::stolen(), &[b"h2"]);
        connect(address, config).await.unwrap_err();
        let config = client_config_with(provider(), &[&TLS12], &Identity::new(), &[b"h2"]);
        connect(address, config).await.unwrap();
    }
}

// rules: TLS-4
#[tokio::test]
async fn both_versions_of_tls_and_every_common_group_work() {
    let running = Running::start().await;
    let groups = [kx_group::SECP256R1, kx_group::SECP384R1, kx_group::X25519, kx_group::X25519MLKEM768];
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for group in groups {
            let mut provider = provider();
            // A TLS 1.2 client must offer the curve of the server's key, too.
            provider.kx_groups =
                if name == ProtocolVersion::TLSv1_2 { vec![group, kx_group::SECP384R1] } else { vec![group] };
            let config = client_config_with(provider, &[version], &Identity::new(), &[b"h2"]);
            let stream = connect(running.mesh, config).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(name));
        }
    }
}

#[tokio::test]
async fn sessions_are_not_resumed() {
    let running = Running::start().await;
    let config = client_config(&Identity::new(), &[b"http/1.1"]);
    for _ in 0..2 {
        let mut stream = connect(running.client, config.clone()).await.unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn bodies_that_are_too_long_together_are_told_to_come_again() {
    let running = Running::with_limits(Limits { max_body_bytes_in_flight: 128 * 1024, ..Limits::default() }).await;
    running.set_manifest().await;
    // Half of the budget is held by a body that has not ended.
    let mut held = connect(running.client, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap();
    let head = "POST /manifest HTTP/1.1\r\nhost: x\r\ncontent-length: 40000\r\n\r\n";
    held.write_all(format!("{head}{}", " ".repeat(39_999)).as_bytes()).await.unwrap();
    let is_busy = async || running.ask("POST", "/manifest", vec![b' '; 40_000]).await.status == 503;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_busy().await {
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert_eq!(running.ask("POST", "/api/v2/manifest", vec![b' '; 1000]).await.status, 400, "a small one fits");
    // Once it has ended there is room again.
    held.write_all(b" ").await.unwrap();
    while is_busy().await {
        assert!(tokio::time::Instant::now() < deadline);
    }

    // The Marble API counts for itself.
    let mut request = request_for("web");
    running.call(&Identity::new(), &request).await.unwrap();
    request.quote = vec![0; 100_000];
    let refusal = running.call(&Identity::new(), &request).await.unwrap_err();
    assert_eq!(refusal.code, 8, "{}", refusal.message);
}

/// The settings that the server announces in its first frame (RFC 9113, 6.5).
async fn announced_settings(running: &Running) -> BTreeMap<u16, u32> {
    let mut stream = connect(running.client, client_config(&Identity::None, &[b"h2"])).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[3], 4, "a SETTINGS frame");
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
    let setting = |bytes: &[u8]| {
        (u16::from_be_bytes([bytes[0], bytes[1]]), u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
    };
    body.chunks(6).map(setting).collect()
}

#[tokio::test]
async fn http_2_clients_are_told_the_limits_of_streams_and_heads() {
    let running = Running::with_limits(Limits { max_streams: 7, max_header_bytes: 9000, ..Limits::default() }).await;
    let settings = announced_settings(&running).await;
    assert_eq!((settings.get(&3), settings.get(&6)), (Some(&7), Some(&9000)), "{settings:?}");
}

#[tokio::test]
async fn a_request_head_that_is_too_long_is_refused_in_http_2_too() {
    let running = Running::with_limits(Limits { max_header_bytes: 8192, ..Limits::default() }).await;
    let ask = async |length: usize| {
        let stream = connect(running.client, client_config(&Identity::None, &[b"h2"])).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/status").header("x", "y".repeat(length));
        let body = http_body_util::Empty::<hyper::body::Bytes>::new();
        sender.send_request(request.body(body).unwrap()).await.map(|response| response.status())
    };
    assert_eq!(ask(1000).await.unwrap(), 200);
    assert!(!ask(12_000).await.is_ok_and(|status| status == 200));
}

#[tokio::test]
async fn a_body_counts_until_its_request_is_answered() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, go_on) = (Arc::clone(&entered), Arc::clone(&release));
    // Reads the body, then works on it as long as the test wants.
    let handler = move |body: axum::body::Bytes| async move {
        inside.notify_one();
        go_on.notified().await;
        body.len().to_string()
    };
    let router = axum::Router::new().fallback(handler);
    let Identity::Shown(certificate, key) = Identity::new() else { unreachable!() };
    let tls = Arc::new(ListenerTls::new(ClientCertificate::Optional, Protocols::Http.alpn()).unwrap());
    tls.show(&certificate, &key).unwrap();
    let limits = Limits { max_body_bytes_in_flight: 128 * 1024, ..Limits::default() };
    let address = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(address, tls, Protocols::Http, limits, router).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(listener.serve());

    let post = async || {
        let mut stream = connect(address, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 40000\r\n\r\n";
        stream.write_all(format!("{head}{}", " ".repeat(40_000)).as_bytes()).await.unwrap();
        until_closed(stream).await
    };
    let first = async {
        let said = post().await;
        assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    };
    let second = async {
        entered.notified().await;
        let said = post().await;
        assert!(said.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&said));
        release.notify_one();
    };
    timeout(PATIENCE, async { tokio::join!(first, second) }).await.unwrap();
    serving.abort();
}
