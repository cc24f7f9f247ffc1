//! Who is served, and who gives way, when clients take more than a listener has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use marblerun_api::rpc::ActivationReq;
use marblerun_coordinator::listener::Limits;
use marblerun_pki::pem;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::authorisation::Client;
use crate::running::{Identity, Running, client_config, config, connect, request_for};
use crate::transport::{PATIENCE, SHORT, until_closed};

/// An address of this machine that is not the one that the other clients have.
pub const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
/// The type of a TLS record, and no more.
const HALF_HELLO: [u8; 1] = [22];

pub async fn connect_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

async fn open(running: &Running) -> TlsStream<TcpStream> {
    connect(running.client, client_config(&Identity::None, &[b"http/1.1"])).await.unwrap()
}

/// Asks for the status, and leaves the connection open.
async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"}\n") {
        timeout(PATIENCE, stream.read_buf(&mut said)).await.unwrap().unwrap();
    }
    assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}

/// Begins a request whose body has not ended, and returns once it is at work.
async fn begin_request(running: &Running) -> TlsStream<TcpStream> {
    let mut stream = open(running).await;
    let head = b"POST /manifest HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut said = vec![0; 25];
    timeout(PATIENCE, stream.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_oldest_connection_that_never_asked() {
    // So long that it is not what closes the connection.
    let limits = Limits { max_connections: 3, idle_timeout: 4 * PATIENCE, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let (mut asked, silent, other) = (open(&running).await, open(&running).await, open(&running).await);
    ask(&mut asked).await;
    let mut newcomer = open(&running).await;
    assert!(until_closed(silent).await.is_empty());
    ask(&mut newcomer).await;
    ask(&mut asked).await;
    // The Marble API counts for itself.
    running.call(&Identity::new(), &request_for("web")).await.unwrap_err();
    drop(other);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_while_the_others_are_at_work() {
    let running = Running::with_limits(Limits { max_connections: 2, ..Limits::default() }).await;
    let (mut first, _second) = (begin_request(&running).await, begin_request(&running).await);
    let third = TcpStream::connect(running.client).await.unwrap();
    assert!(until_closed(third).await.is_empty());
    first.write_all(b"          ").await.unwrap();
    let mut said = vec![0; 12];
    timeout(PATIENCE, first.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, b"HTTP/1.1 400", "an empty manifest");
    // Now there is one that can go, once the Coordinator has noticed.
    let again = async {
        while connect(running.client, client_config(&Identity::None, &[b"http/1.1"])).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn one_address_takes_at_most_its_share_and_others_are_served() {
    let limits = Limits { max_connections_of_one_address: 2, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let mut elsewhere = Vec::new();
    for _ in 0..3 {
        elsewhere.push(connect_from(ELSEWHERE, running.client).await);
    }
    assert!(until_closed(elsewhere.remove(0)).await.is_empty(), "the oldest");
    assert_eq!(running.get("/status").await.status, 200);
}

#[tokio::test]
async fn silent_clients_take_no_place_from_those_who_begin_the_handshake() {
    let limits = Limits { max_handshakes: 1, handshake_timeout: 4 * PATIENCE, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let _silent = TcpStream::connect(running.client).await.unwrap();
    let answer = timeout(PATIENCE, running.get("/status")).await.expect("the place must be free");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_handshake_too_many_waits_until_another_one_has_ended() {
    let limits = Limits { max_handshakes: 1, handshake_timeout: 4 * PATIENCE, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let mut half = TcpStream::connect(running.client).await.unwrap();
    half.write_all(&HALF_HELLO).await.unwrap();
    let mut status = std::pin::pin!(running.get("/status"));
    timeout(2 * SHORT, status.as_mut()).await.expect_err("the only place is taken");
    drop(half);
    assert_eq!(timeout(PATIENCE, status).await.unwrap().status, 200);
}

#[tokio::test]
async fn half_handshakes_are_ended_by_their_time() {
    let limits = Limits { max_handshakes: 2, handshake_timeout: Duration::from_secs(2), ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let mut half = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(running.client).await.unwrap();
        stream.write_all(&HALF_HELLO).await.unwrap();
        half.push(stream);
    }
    // Who waits for a place may run out of time together with them; the next one gets it.
    let served = async { while connect(running.client, client_config(&Identity::None, &[b"h2"])).await.is_err() {} };
    timeout(PATIENCE, served).await.expect("the places must be free");
    assert_eq!(running.get("/status").await.status, 200);
}

#[tokio::test]
async fn half_handshakes_of_one_address_do_not_keep_others_from_theirs() {
    let limits = Limits { max_handshakes: 2, handshake_timeout: 4 * PATIENCE, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    for address in [running.client, running.mesh] {
        let mut half = Vec::new();
        for _ in 0..2 {
            let mut stream = connect_from(ELSEWHERE, address).await;
            stream.write_all(&HALF_HELLO).await.unwrap();
            half.push(stream);
        }
        let served = async {
            if address == running.client {
                assert_eq!(running.get("/status").await.status, 200);
            } else {
                assert_eq!(running.call(&Identity::new(), &request_for("web")).await.unwrap_err().code, 9);
            }
        };
        timeout(PATIENCE, served).await.expect("there must be a place");
    }
}

#[tokio::test]
async fn handshakes_above_the_pace_wait() {
    let limits = Limits { max_handshakes_per_second: 1, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let _first = open(&running).await;
    let mut second = std::pin::pin!(open(&running));
    timeout(SHORT, second.as_mut()).await.expect_err("only one in a second");
    timeout(PATIENCE, second).await.unwrap();
}

/// Opens an HTTP/2 connection whose client takes one byte of each answer.
async fn hold_answer(running: &Running, path: &str) -> (http::StatusCode, impl Future<Output = ()> + use<>) {
    let stream = connect(running.client, client_config(&Identity::None, &[b"h2"])).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let request = http::Request::get(format!("https://localhost{path}")).body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let ended = async move {
        let _ = timeout(PATIENCE, ended).await.expect("the connection must be closed");
        drop((sender, response));
    };
    (status, ended)
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_closed() {
    let running = Running::with_limits(Limits { answer_timeout: SHORT, ..Limits::default() }).await;
    let (status, ended) = hold_answer(&running, "/api/v2/status").await;
    assert_eq!(status, 200);
    ended.await;
}

#[tokio::test]
async fn answers_that_are_too_long_together_are_told_to_come_again() {
    // Room for the overhead of two answers.
    let running = Running::with_limits(Limits { max_answer_bytes_in_flight: 10 * 1024, ..Limits::default() }).await;
    let (first, _held) = hold_answer(&running, "/api/v2/status").await;
    let (second, _also_held) = hold_answer(&running, "/api/v2/status").await;
    assert_eq!((first, second), (http::StatusCode::OK, http::StatusCode::OK));
    let answer = running.get("/status").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.envelope()["message"], "too many answers are being read at once: try again");
    // What changes something is answered.
    running.set_manifest().await;
}

#[tokio::test]
async fn an_activation_without_room_for_its_answer_is_told_to_come_again_and_is_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    {
        let limits = Limits { max_answer_bytes_in_flight: 0, ..Limits::default() };
        let running = Running::of(config(directory.path()), limits).await;
        running.set_manifest().await;
        let refusal = running.activate("once").await.unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (8, "too many answers are being read at once"));
    }
    let running = Running::again(directory.path()).await;
    running.activate("once").await.unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed() {
    let limits = Limits { write_timeout: SHORT, ..Limits::default() };
    let running = Running::with_limits(limits).await;
    let mut stream = open(&running).await;
    // Answers fill the buffers of both ends, since nobody takes them; then the Coordinator stops reading, too.
    let request = b"GET /api/v2/nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let flood = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("the connection must be closed");
}

#[tokio::test]
async fn evidence_of_64_kib_is_looked_at_and_longer_evidence_is_refused_before_anything_else() {
    let running = Running::start().await;
    let request = |quote: usize| ActivationReq { quote: vec![7; quote], ..request_for("web") };
    // The state comes first, because nothing is wrong with the request.
    let refusal = running.call(&Identity::new(), &request(64 * 1024)).await.unwrap_err();
    assert_eq!(refusal.code, 9, "{}", refusal.message);
    let refusal = running.call(&Identity::new(), &request(64 * 1024 + 1)).await.unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (3, "evidence: expected at most 65536 bytes, got 65537"));
    running.set_manifest().await;
    running.call(&Identity::new(), &request(64 * 1024)).await.unwrap();
    running.call(&Identity::new(), &request(64 * 1024 + 1)).await.unwrap_err();
}

#[tokio::test]
async fn a_long_answer_arrives_whole_over_both_protocols() {
    let running = Running::start().await;
    let manifest = format!("{}{}", crate::running::MANIFEST, " ".repeat(3_000_000));
    let answer = running.ask("POST", "/manifest", manifest.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = running.get("/api/v2/manifest").await;
    let stream = connect(running.client, client_config(&Identity::None, &[b"h2"])).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/api/v2/manifest").body(Empty::<Bytes>::new()).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(body == answer.text.as_bytes());
    assert!(body.len() > 4_000_000, "base64 of three million bytes");
}

#[tokio::test]
async fn a_request_for_too_many_secrets_is_refused() {
    let (running, user) = (Running::start().await, Identity::new());
    let Identity::Shown(certificate, _) = &user else { unreachable!() };
    let mut manifest: serde_json::Value = serde_json::from_str(crate::running::MANIFEST).unwrap();
    manifest["Users"] = json!({ "ann": { "Certificate": pem::encode("CERTIFICATE", certificate), "Roles": ["all"] } });
    let actions = ["ReadSecret", "WriteSecret"];
    manifest["Roles"] = json!({ "all": { "ResourceType": "Secrets", "ResourceNames": ["pw"], "Actions": actions } });
    let answer = running.ask("POST", "/manifest", manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    let mut client = Client::connect(&running, &user).await;
    let (status, text) = client.ask("POST", "/api/v2/secrets", r#"{"secrets":{"pw":{"Key":"cHc="}}}"#.to_owned()).await;
    assert_eq!(status, 200, "{text}");
    let path = |count: usize| format!("/api/v2/secrets?{}", vec!["s=pw"; count].join("&"));
    let (status, text) = client.ask("GET", &path(10_000), String::new()).await;
    assert_eq!(status, 200, "{text}");
    let (status, text) = client.ask("GET", &path(10_001), String::new()).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("query: expected at most 10000 secrets, got 10001"), "{text}");

    for nameless in ["", "?s=", "?s=pw&s="] {
        let (status, text) = client.ask("GET", &format!("/api/v2/secrets{nameless}"), String::new()).await;
        assert_eq!(status, 400, "{nameless}: {text}");
    }

    let body = |count: usize| {
        let secrets: Vec<_> = (0..count).map(|index| format!(r#""n{index}":{{"Key":""}}"#)).collect();
        format!(r#"{{"secrets":{{{}}}}}"#, secrets.join(","))
    };
    let (status, text) = client.ask("POST", "/api/v2/secrets", body(10_000)).await;
    assert_eq!(status, 500, "these names are unknown: {text}");
    let (status, text) = client.ask("POST", "/api/v2/secrets", body(10_001)).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("request body: expected at most 10000 secrets, got 10001"), "{text}");
}
