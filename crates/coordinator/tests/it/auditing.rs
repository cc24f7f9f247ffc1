//! The audit stream of a running Coordinator.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use marblerun_api::rpc::ActivationReq;
use marblerun_coordinator::audit::AuditTarget;
use marblerun_coordinator::listener::Limits;
use marblerun_pki::pem;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::authorisation::marble;
use crate::running::{Identity, MANIFEST, Running, call, client_config, config, connect, request_for};

async fn audited(directory: &Path) -> Running {
    let mut config = config(directory);
    config.audit = AuditTarget::File(directory.join("audit.jsonl"));
    Running::of(config, Limits::default()).await
}

/// The lines, once there are `number` of them.
async fn lines(directory: &Path, number: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(directory.join("audit.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.len() >= number {
            return lines;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
fn check(line: &Value, members: &[(&str, &str)]) {
    for (name, expected) in members {
        assert_eq!(line[*name], Value::from(*expected), "{name} of {line}");
    }
}

#[tokio::test]
async fn refusals_and_changes_are_told_with_their_reason_and_a_flood_of_them_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let running = audited(directory.path()).await;
    running.activate("web").await.unwrap_err();
    running.set_manifest().await;
    for _ in 0..50 {
        assert_eq!(running.get("/secrets?s=pw").await.status, 401);
    }
    assert_eq!(running.ask("POST", "/manifest", MANIFEST).await.status, 400);
    running.get("/nothing").await;
    running.call(&Identity::new(), &ActivationReq { uuid: "none".to_owned(), ..request_for("web") }).await.unwrap_err();

    call(running.mesh, &Identity::new(), "/rpc.Marble/Other", &request_for("web")).await.unwrap_err();
    let long = ActivationReq { quote: vec![0; 5 * 1024 * 1024], ..request_for("web") };
    running.call(&Identity::new(), &long).await.unwrap_err();

    let lines = lines(directory.path(), 9).await;
    assert_eq!(lines.len(), 9, "{lines:#?}");
    check(&lines[0], &[("kind", "changed"), ("peer", "coordinator"), ("action", "started")]);
    check(
        &lines[1],
        &[
            ("kind", "refused"),
            ("peer", "mesh"),
            ("action", "activation"),
            ("reason", "state"),
            ("code", "FailedPrecondition"),
        ],
    );
    assert_eq!(lines[1]["details"]["marbleType"], "web");
    check(&lines[2], &[("kind", "changed"), ("peer", "client"), ("action", "manifest set")]);
    assert_eq!(lines[2]["details"]["fingerprint"], marblerun_manifest::fingerprint(MANIFEST.as_bytes()));
    let unauthorized = [("action", "GET /secrets"), ("reason", "unauthorized"), ("code", "401"), ("peer", "client")];
    check(&lines[3], &unauthorized);
    assert!(lines[3]["details"]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", lines[3]);
    check(&lines[4], &[("action", "POST /manifest"), ("reason", "refused"), ("code", "400")]);
    check(&lines[5], &[("action", "request"), ("reason", "unknown-endpoint"), ("code", "405")]);
    let refused = [("peer", "marble"), ("name", "web"), ("reason", "uuid"), ("code", "InvalidArgument")];
    check(&lines[6], &refused);
    check(
        &lines[7],
        &[("peer", "mesh"), ("action", "request"), ("reason", "unknown-endpoint"), ("code", "Unimplemented")],
    );
    check(&lines[8], &[("peer", "mesh"), ("action", "request"), ("reason", "unreadable")]);
    for line in [&lines[1], &lines[6], &lines[7], &lines[8]] {
        assert!(line["details"]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["number"], number);
    }
}

/// A user's identity, and its certificate as a manifest has it.
fn user() -> (Identity, String) {
    let identity = Identity::new();
    let Identity::Shown(certificate, _) = &identity else { panic!("expected a certificate") };
    let pem = pem::encode("CERTIFICATE", certificate);
    (identity, pem)
}

#[tokio::test]
async fn changes_and_refusals_of_users_carry_their_names_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let running = audited(directory.path()).await;
    let ((alice, alice_pem), (bob, bob_pem)) = (user(), user());
    let mut manifest: Value = serde_json::from_str(MANIFEST).unwrap();
    manifest["Users"] = json!({
        "alice": {"Certificate": alice_pem, "Roles": ["write", "update"]},
        "bob\n": {"Certificate": bob_pem, "Roles": ["update"]},
    });
    manifest["Roles"] = json!({
        "write": {"ResourceType": "Secrets", "ResourceNames": ["pw"], "Actions": ["WriteSecret"]},
        "update": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
    });
    let send = async |identity: &Identity, path: &str, body: &str, status: u16| {
        let answer = running.ask_as(identity, "POST", path, body.to_owned()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    };
    send(&alice, "/manifest", &manifest.to_string(), 200).await;
    let upload = json!({"pw": {"Key": BASE64.encode("hunter2hunter2")}}).to_string();
    send(&alice, "/secrets", &upload, 200).await;
    send(&bob, "/secrets", &upload, 400).await;
    manifest["Marbles"]["more"] = json!({"Package": "p"});
    let (next, fingerprint) = (manifest.to_string(), marblerun_manifest::fingerprint(manifest.to_string().as_bytes()));
    send(&alice, "/update", &next, 200).await;
    send(&bob, "/update-cancel", "", 200).await;
    send(&bob, "/update", &next, 200).await;
    send(&alice, "/update-manifest", &next, 200).await;

    let lines = lines(directory.path(), 8).await;
    assert_eq!(lines.len(), 8, "{lines:#?}");
    let changed = |line: &Value, name: &str, action: &str| {
        check(line, &[("kind", "changed"), ("peer", "user"), ("name", name), ("action", action)]);
    };
    check(&lines[1], &[("peer", "client"), ("action", "manifest set")]);
    changed(&lines[2], "alice", "secrets set");
    assert_eq!(lines[2]["details"], json!({"number": "1", "secrets": "pw"}));
    check(&lines[3], &[("kind", "refused"), ("name", "bob\\n"), ("action", "POST /secrets"), ("reason", "refused")]);
    changed(&lines[4], "alice", "update initiated");
    assert_eq!(lines[4]["details"], json!({"fingerprint": fingerprint, "missing": "1"}));
    changed(&lines[5], "bob\\n", "update cancelled");
    changed(&lines[6], "bob\\n", "update initiated");
    changed(&lines[7], "alice", "manifest updated");
    assert_eq!(lines[7]["details"]["fingerprint"], fingerprint);
    let text = std::fs::read_to_string(directory.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains("hunter2") && !text.contains(&BASE64.encode("hunter2hunter2")), "{text}");
}

#[tokio::test]
async fn a_marble_is_named_only_where_its_certificate_counts() {
    let directory = tempfile::tempdir().unwrap();
    let running = audited(directory.path()).await;
    let mut manifest: Value = serde_json::from_str(MANIFEST).unwrap();
    manifest["Config"] = json!({"FeatureGates": ["MonotonicCounter"]});
    assert_eq!(running.ask("POST", "/manifest", manifest.to_string()).await.status, 200);
    let web = marble(&running).await;
    for (method, path, status) in [
        ("POST", "/api/v2/monotonic-counter", 400),
        ("GET", "/api/v2/monotonic-counter", 405),
        ("GET", "/api/v2/quote?nonce=!", 400),
    ] {
        assert_eq!(running.ask_as(&web, method, path, "garbage").await.status, status, "{path}");
    }
    let lines = lines(directory.path(), 5).await;
    let refused: Vec<_> = lines.iter().filter(|line| line["kind"] == "refused").collect();
    assert_eq!(refused.len(), 3, "{lines:#?}");
    check(refused[0], &[("action", "POST /api/v2/monotonic-counter"), ("peer", "marble"), ("name", "web")]);
    check(refused[1], &[("action", "request"), ("peer", "client")]);
    check(refused[2], &[("action", "GET /api/v2/quote"), ("peer", "client")]);
}

#[tokio::test]
async fn an_audit_file_that_cannot_be_written_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.audit = AuditTarget::File(directory.path().join("missing").join("audit.jsonl"));
    let running = Running::of(config, Limits::default()).await;
    running.set_manifest().await;
    running.activate("web").await.unwrap();
    assert_eq!(running.get("/secrets?s=pw").await.status, 401);
}

#[tokio::test]
async fn connections_that_are_refused_are_told_for_each_listener() {
    let directory = tempfile::tempdir().unwrap();
    let running = audited(directory.path()).await;
    // The Marble API refuses who shows no certificate, the client API who speaks no TLS.
    let without_certificate = client_config(&Identity::None, &[b"h2"]);
    if let Ok(mut stream) = connect(running.mesh, without_certificate).await {
        // In TLS 1.3 the client is done before it is refused.
        let _ = stream.read(&mut [0]).await;
    }
    let mut stream = TcpStream::connect(running.client).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let _ = stream.read(&mut [0; 64]).await;

    let lines = lines(directory.path(), 3).await;
    for peer in ["mesh", "client"] {
        let line = lines.iter().find(|line| line["peer"] == peer).unwrap();
        let refused = [("kind", "refused"), ("action", "connect"), ("reason", "handshake"), ("code", "closed")];
        check(line, &refused);
    }
}
