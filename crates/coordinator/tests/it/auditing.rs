//! The audit stream of a running Coordinator.

use std::path::Path;
use std::time::{Duration, Instant};

use marblerun_api::rpc::ActivationReq;
use marblerun_coordinator::audit::AuditTarget;
use marblerun_coordinator::listener::Limits;
use serde_json::Value;

use crate::running::{Identity, MANIFEST, Running, config, request_for};

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

    let lines = lines(directory.path(), 7).await;
    assert_eq!(lines.len(), 7, "{lines:#?}");
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
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["number"], number);
    }
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
