//! Uploads whose clients go away before their answer, and the log of uploads for everyone.

use std::time::{Duration, Instant};

use marblerun_coordinator::audit::AuditTarget;
use marblerun_coordinator::listener::Limits;
use marblerun_pki::pem;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::running::{Identity, MANIFEST, Running, client_config, config, connect};

/// Below what the audit stream tells of a user within a minute.
const UPLOADS: u32 = 100;

/// Sets a manifest with one user, who may write a secret.
async fn set_manifest(running: &Running, user: &str) -> Identity {
    let identity = Identity::new();
    let Identity::Shown(certificate, _) = &identity else { panic!("expected a certificate") };
    let mut manifest: Value = serde_json::from_str(MANIFEST).unwrap();
    manifest["Users"] = json!({user: {"Certificate": pem::encode("CERTIFICATE", certificate), "Roles": ["write"]}});
    manifest["Roles"] =
        json!({"write": {"ResourceType": "Secrets", "ResourceNames": ["pw"], "Actions": ["WriteSecret"]}});
    let answer = running.ask("POST", "/manifest", manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    identity
}

fn upload() -> String {
    json!({"pw": {"Key": "aGVsbG8="}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_stores_nothing_that_the_audit_stream_does_not_tell() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let mut config = config(directory.path());
    config.audit = AuditTarget::File(path.clone());
    let running = Running::of(config, Limits::default()).await;
    let alice = set_manifest(&running, "alice").await;
    let body = upload();
    let request = format!("POST /secrets HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let begun = Instant::now();
    let answer = running.ask_as(&alice, "POST", "/secrets", body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let whole = begun.elapsed();
    for upload in 0..UPLOADS {
        let mut stream = connect(running.client, client_config(&alice, &[b"http/1.1"])).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // At another moment of the upload each time, from its beginning to after its end.
        tokio::time::sleep(2 * whole * upload / UPLOADS).await;
        drop(stream);
    }

    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // Whatever is still at work is stored before the next one is.
        let answer = running.ask_as(&alice, "POST", "/secrets", body.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let stored = running.get("/update").await.text.matches("Secret set").count();
        let told = std::fs::read_to_string(&path).unwrap().matches("secrets set").count();
        if stored == told {
            return;
        }
        assert!(Instant::now() < deadline, "{stored} are stored, {told} are told");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn all_who_read_the_update_log_share_one_copy_of_the_newest() {
    // One copy alone would exceed it.
    let running = Running::with_limits(Limits { max_answer_bytes_in_flight: 64 << 10, ..Limits::default() }).await;
    let user = set_manifest(&running, &"a".repeat(8 << 10)).await;
    for uploads in 1..=20 {
        assert_eq!(running.ask_as(&user, "POST", "/secrets", upload()).await.status, 200);
        for path in ["/update", "/api/v2/update"] {
            let answer = running.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.text.matches("Secret set").count()), (200, uploads), "{path}");
        }
    }
}
