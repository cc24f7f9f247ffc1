//! Signing of quotes behind a real socket, in simulation: what is refused before a quote is verified.

use http::StatusCode;

use crate::running::{Answer, Running};

const PATH: &str = "/api/v2/sign-quote";
const MANIFEST: &str = r#"{"Packages":{"p":{"UniqueID":"abababababababababababababababababababababababababababababababab"}},
    "Marbles":{"web":{"Package":"p"}},"Config":{"FeatureGates":["SignQuoteEndpoint"]}}"#;

async fn signing() -> Running {
    let running = Running::start().await;
    let answer = running.ask("POST", "/manifest", MANIFEST).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    running
}

#[track_caller]
fn check(answer: &Answer, message: &str, reason: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    let envelope = answer.envelope();
    assert_eq!((&envelope["status"], envelope["message"].as_str().unwrap_or_default()), (&"fail".into(), message));
    assert!(envelope["data"]["sgxQuote"].as_str().unwrap().contains(reason), "{}", answer.text);
}

// rules: SQ-3
#[tokio::test]
async fn without_the_feature_nothing_else_is_looked_at() {
    let running = Running::start().await;
    for body in ["", "{", "{}"] {
        assert_eq!(running.ask("POST", PATH, body).await.status, StatusCode::FORBIDDEN);
    }
    running.set_manifest().await;
    let answer = running.ask("POST", PATH, "{}").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text.contains("expected the feature SignQuoteEndpoint"), "{}", answer.text);
    assert_eq!(running.ask("POST", PATH, vec![b'x'; 1024 * 1024]).await.status, StatusCode::FORBIDDEN);
}

// rules: SQ-4
#[tokio::test]
async fn a_refusal_names_the_member() {
    let running = signing().await;
    for body in ["", "{", r#"{"sgxQuote":"%"}"#] {
        check(&running.ask("POST", PATH, body).await, "", "failed to parse JSON data");
    }
    for body in ["{}", r#"{"sgxQuote":"AwACAAAAAAAJ"}"#] {
        check(&running.ask("POST", PATH, body).await, "quote verification failed", "in simulation");
    }
}

#[tokio::test]
async fn a_quote_above_64_kib_is_refused_by_its_length() {
    let running = signing().await;
    let of = |bytes: usize| format!(r#"{{"sgxQuote":"{}"}}"#, "AAAA".repeat(bytes.div_ceil(3)));
    check(&running.ask("POST", PATH, of(64 * 1024)).await, "quote verification failed", "expected at most 65536 bytes");
    check(&running.ask("POST", PATH, of(64 * 1024 - 4)).await, "quote verification failed", "in simulation");
    let answer = running.ask("POST", PATH, of(200 * 1024)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text);
}
