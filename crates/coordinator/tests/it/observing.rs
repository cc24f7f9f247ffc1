//! Metrics, events, and probes over their socket.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use marblerun_api::rpc::ActivationReq;
use marblerun_coordinator::listener::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running::{Identity, Running, UUID, call, config, request_for};

/// Connections that are open at the same time, as documented.
const MAX_CONNECTIONS: usize = 16;

async fn observed(directory: &Path) -> (Running, SocketAddr) {
    let mut config = config(directory);
    config.metrics_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let running = Running::of(config, Limits::default()).await;
    let address = running.metrics.unwrap();
    (running, address)
}

/// One request over plain TCP; everything that comes back until the end.
async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    finish(&mut stream, path).await
}

async fn finish(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = String::new();
    // Whoever is over the limit may be closed before the request is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[track_caller]
fn check(answer: &str, status: u16, body: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body), "{answer}");
}

#[tokio::test]
async fn probes_answer_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (running, address) = observed(directory.path()).await;
    check(&ask(address, "/healthz").await, 200, "\r\n\r\nok\n");
    check(&ask(address, "/readyz").await, 200, "\r\n\r\nready: waiting for a manifest\n");
    running.set_manifest().await;
    check(&ask(address, "/readyz").await, 200, "\r\n\r\nready\n");
    drop(running);
    std::fs::remove_file(directory.path().join("sealed_key")).unwrap();
    let (_running, address) = observed(directory.path()).await;
    check(&ask(address, "/healthz").await, 200, "\r\n\r\nok\n");
    check(&ask(address, "/readyz").await, 503, "\r\n\r\nnot ready: the sealed state needs recovery\n");
}

// rules: STA-6.3, ACT-2.5
#[tokio::test]
async fn labels_are_empty_until_the_marble_is_accepted_and_a_uuid_has_one_form() {
    let directory = tempfile::tempdir().unwrap();
    let (running, address) = observed(directory.path()).await;
    let send = async |marble_type: &str, uuid: &str, csr: bool| {
        let mut request = ActivationReq { uuid: uuid.to_owned(), ..request_for(marble_type) };
        if !csr {
            request.csr.clear();
        }
        running.call(&Identity::new(), &request).await.is_ok()
    };
    assert!(!send("web", UUID, true).await, "there is no manifest");
    running.set_manifest().await;
    assert!(!send("invented", UUID, true).await);
    assert!(!send("web", "none", true).await);
    let other_form = format!("urn:uuid:{}", UUID.to_ascii_uppercase());
    assert!(!send("web", &other_form, false).await);
    assert!(send("web", &other_form, true).await);
    let text = ask(address, "/metrics").await;
    for (labels, attempts) in [
        (r#"type="",uuid="""#.to_owned(), 2),
        (r#"type="web",uuid="""#.to_owned(), 1),
        (format!(r#"type="web",uuid="{UUID}""#), 2),
    ] {
        let line = format!("\ncoordinator_marble_activations_total{{{labels}}} {attempts}\n");
        assert!(text.contains(&line), "expected {line}, got {text}");
    }
    assert_eq!(text.matches("\ncoordinator_marble_activations_total{").count(), 3, "{text}");
    assert!(text.contains(&format!("_success_total{{type=\"web\",uuid=\"{UUID}\"}} 1\n")), "{text}");
    assert!(text.contains("\ncoordinator_audit_lines_dropped_total{cause=\"write\"} 0\n"), "{text}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_place_that_is_free_again_serves() {
    let directory = tempfile::tempdir().unwrap();
    let (_running, address) = observed(directory.path()).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(ask(address, "/healthz").await, "", "it is closed without a word");
    // Those that have a place are served.
    check(&finish(silent.last_mut().unwrap(), "/healthz").await, 200, "ok\n");
    silent.clear();
    let served = async {
        while ask(address, "/healthz").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), served).await.unwrap();
}

#[tokio::test]
async fn public_listeners_serve_no_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let (running, _address) = observed(directory.path()).await;
    for path in ["/metrics", "/events", "/healthz", "/readyz"] {
        assert_eq!(running.get(path).await.status, 405, "{path}");
        let refusal = call(running.mesh, &Identity::new(), path, &request_for("web")).await.unwrap_err();
        assert_eq!(refusal.code, 12, "{path}: {}", refusal.message);
    }
}

#[tokio::test]
async fn without_an_address_nothing_is_served() {
    assert_eq!(Running::start().await.metrics, None);
}
