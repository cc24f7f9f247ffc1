//! Setting a manifest: what is refused at once, and what is tried before it is stored.

use serde_json::{Value, json};

use crate::running::{MANIFEST, Running};

async fn state(running: &Running) -> Value {
    running.get("/api/v2/status").await.data()["code"].clone()
}

#[tokio::test]
async fn a_second_manifest_is_refused_before_it_is_looked_at() {
    let running = Running::start().await;
    let answer = running.ask("POST", "/api/v2/manifest", r#"{"manifest":"bm90IEpTT04="}"#).await;
    assert!(answer.text.contains("cannot be decoded"), "{}", answer.text);
    running.set_manifest().await;
    let answer = running.ask("POST", "/api/v2/manifest", r#"{"manifest":"bm90IEpTT04="}"#).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text.contains("one that has its manifest"), "{}", answer.text);
}

#[tokio::test]
async fn a_manifest_whose_template_would_fail_in_an_activation_is_refused() {
    let running = Running::start().await;
    let mut manifest: Value = serde_json::from_str(MANIFEST).unwrap();
    manifest["Marbles"]["web"]["Parameters"]["Env"] = json!({ "E": "{{ string .Secrets.nowhere }}" });
    let answer = running.ask("POST", "/manifest", manifest.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("template fails in the dry run"), "{}", answer.text);
    assert_eq!(state(&running).await, 2, "it still waits for a manifest");
    running.set_manifest().await;
    assert_eq!(state(&running).await, 3);
}
