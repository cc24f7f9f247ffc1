//! The client API, request by request.

use marblerun_pki::{Certificate, pem};

use crate::running::{Identity, MANIFEST, Running, client_config, connect};

/// What a client sees of a refusal.
#[track_caller]
fn check(answer: &crate::running::Answer, status: u16, envelope_status: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.envelope()["status"], envelope_status, "{}", answer.text);
    assert!(answer.envelope().as_object().unwrap().contains_key("data"));
}

// rules: HTTP-1, HTTP-2
#[tokio::test]
async fn whatever_is_not_in_the_table_is_405_without_a_message() {
    let running = Running::start().await;
    let cases = [
        ("GET", "/"),
        ("GET", "/nonsense"),
        ("GET", "/status/"),
        ("GET", "/api/v2/status/"),
        ("GET", "/Status"),
        ("GET", "/api/v3/status"),
        ("GET", "/api/v2/nonsense"),
        ("PUT", "/manifest"),
        ("DELETE", "/api/v2/manifest"),
        ("OPTIONS", "/api/v2/status"),
        ("PATCH", "/status"),
        ("POST", "/status"),
        ("POST", "/api/v2/quote"),
        ("GET", "/recover"),
    ];
    for (method, path) in cases {
        let answer = running.ask(method, path, "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.text, "{\"status\":\"error\",\"data\":null}\n", "{method} {path}");
        assert!(!answer.headers.contains_key("allow"), "{method} {path}");
    }
}

#[tokio::test]
async fn head_is_405_without_body() {
    let running = Running::start().await;
    for path in ["/status", "/api/v2/status", "/nonsense"] {
        let answer = running.ask("HEAD", path, "").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (405, ""), "{path}");
    }
}

// rules: HTTP-6
#[tokio::test]
async fn the_old_recover_endpoint_is_gone_in_every_state() {
    let running = Running::start().await;
    check(&running.ask("POST", "/recover", "x").await, 410, "error");
    running.set_manifest().await;
    check(&running.ask("POST", "/recover", "x").await, 410, "error");
}

// rules: STATE-1, STA-1.2
#[tokio::test]
async fn the_status_follows_the_state() {
    let running = Running::start().await;
    for path in ["/status", "/api/v2/status"] {
        let answer = running.get(path).await;
        check(&answer, 200, "success");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(answer.text.starts_with(r#"{"status":"success","data":{"#), "{}", answer.text);
    }
    let state = async || {
        let data = running.get("/api/v2/status").await.data();
        assert_eq!(data["trustClass"], "simulation");
        data["code"].as_u64().or(data["statusCode"].as_u64()).unwrap()
    };
    assert_eq!(state().await, 2);
    running.set_manifest().await;
    assert_eq!(state().await, 3);
}

#[tokio::test]
async fn without_a_manifest_the_versions_differ_as_clients_expect() {
    let running = Running::start().await;
    check(&running.get("/manifest").await, 200, "success");
    check(&running.get("/api/v2/manifest").await, 500, "error");
    check(&running.get("/update").await, 500, "error");
    check(&running.get("/api/v2/update").await, 500, "error");
}

// rules: EP-1, STATE-2
#[tokio::test]
async fn a_manifest_is_set_once_and_given_back_byte_for_byte() {
    let running = Running::start().await;
    check(&running.ask("POST", "/manifest", MANIFEST).await, 200, "success");
    check(&running.ask("POST", "/manifest", MANIFEST).await, 400, "error");
    let body = serde_json::json!({ "manifest": base64(MANIFEST.as_bytes()) }).to_string();
    check(&running.ask("POST", "/api/v2/manifest", body).await, 500, "error");

    let data = running.get("/api/v2/manifest").await.data();
    assert_eq!(data["manifest"].as_str().unwrap(), base64(MANIFEST.as_bytes()));
    let log = running.get("/api/v2/update").await.data().to_string();
    assert_eq!(log.matches("Initial manifest set").count(), 1, "{log}");
}

/// By hand, so that the tests do not depend on what they test.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let digit = (bits >> (18 - 6 * position)) & 63;
            text.push(if position <= chunk.len() { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    text
}

// rules: SET-1, STATE-3
#[tokio::test]
async fn a_refused_manifest_changes_nothing_and_says_why() {
    let running = Running::start().await;
    let before = running.get("/api/v2/quote").await.data();
    let v1 = running.ask("POST", "/manifest", "{}").await;
    check(&v1, 400, "error");
    assert!(v1.envelope()["message"].as_str().unwrap().contains("Packages"), "{}", v1.text);
    let v2 = running.ask("POST", "/api/v2/manifest", r#"{"manifest":"e30="}"#).await;
    check(&v2, 500, "error");
    assert_eq!(v1.envelope()["message"], v2.envelope()["message"]);
    check(&running.ask("POST", "/api/v2/manifest", "no json").await, 400, "fail");
    check(&running.ask("POST", "/api/v2/manifest", r#"{"manifest":"!"}"#).await, 400, "fail");
    check(&running.get("/api/v2/manifest").await, 500, "error");
    assert_eq!(running.get("/api/v2/quote").await.data(), before);
    running.set_manifest().await;
}

// rules: SAFE-1, HTTP-7
#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let running = Running::start().await;
    let body = vec![b' '; 24 * 1024 * 1024 + 1];
    check(&running.ask("POST", "/manifest", body.clone()).await, 413, "error");
    check(&running.ask("POST", "/api/v2/manifest", body).await, 413, "error");
    // What fits is decoded: 16 MiB of a manifest are allowed.
    let mut manifest = MANIFEST.as_bytes().to_vec();
    manifest.resize(16 * 1024 * 1024, b' ');
    check(&running.ask("POST", "/manifest", manifest).await, 200, "success");
}

// rules: STATE-2
#[tokio::test]
async fn of_two_manifests_at_once_exactly_one_is_set() {
    let running = Running::start().await;
    let (other, one) = (MANIFEST.replace("/bin/web", "/bin/other"), MANIFEST.to_owned());
    let answers = tokio::join!(
        running.ask("POST", "/manifest", one.clone()),
        running.ask("POST", "/manifest", other.clone()),
        running.ask("POST", "/manifest", one.clone()),
    );
    let answers = [(answers.0, &one), (answers.1, &other), (answers.2, &one)];
    let set: Vec<_> = answers.iter().filter(|(answer, _)| answer.status == 200).collect();
    assert_eq!(set.len(), 1);
    for (answer, _) in answers.iter().filter(|(answer, _)| answer.status != 200) {
        check(answer, 400, "error");
        assert!(answer.text.contains("has its manifest"), "{}", answer.text);
    }
    let data = running.get("/api/v2/manifest").await.data();
    assert_eq!(data["manifest"].as_str().unwrap(), base64(set[0].1.as_bytes()));
}

// rules: EP-3, TLS-1
#[tokio::test]
async fn the_quote_is_empty_without_a_tee_and_its_certificates_are_those_of_the_connection() {
    let running = Running::start().await;
    for path in ["/quote", "/api/v2/quote", "/api/v2/quote?nonce=AAECAw%3D%3D"] {
        let answer = running.get(path).await;
        check(&answer, 200, "success");
        let data = answer.data();
        let quote = data.get("Quote").or(data.get("quote")).unwrap();
        assert!(quote.is_null() || quote == "", "{quote}");
        let chain = data.get("Cert").or(data.get("cert")).unwrap().as_str().unwrap().to_owned();
        let chain = pem::decode_certificates(chain.as_bytes()).unwrap();
        let [intermediate, root] = chain.as_slice() else { panic!("{} certificates", chain.len()) };

        let stream = connect(running.client, client_config(&Identity::None, &[b"h2"])).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(shown.len(), 1, "the root alone");
        assert_eq!(shown[0].as_ref(), root.as_slice());
        let root = Certificate::parse(root).unwrap();
        root.verify_signed_by(root.public_key_der()).unwrap();
        Certificate::parse(intermediate).unwrap().verify_signed_by(root.public_key_der()).unwrap();
        let names = root.alt_names().unwrap();
        assert_eq!(names.dns, ["localhost", "coordinator.example"]);
        assert_eq!(names.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1", "::1", "10.9.8.7"]);
    }
    check(&running.get("/api/v2/quote?nonce=!").await, 400, "fail");
}

#[tokio::test]
async fn the_statement_names_the_manifest_once_it_is_set() {
    let running = Running::start().await;
    let statement = async || -> serde_json::Value {
        let data = running.get("/api/v2/quote").await.data();
        serde_json::from_str(data["statement"].as_str().unwrap()).unwrap()
    };
    let before = statement().await;
    assert!(before["manifestFingerprint"].is_null());
    assert_eq!(before["trustClass"], "simulation");
    running.set_manifest().await;
    let after = statement().await;
    let fingerprint = running.get("/manifest").await.data()["ManifestSignature"].clone();
    assert_eq!(after["manifestFingerprint"], fingerprint);
    assert_eq!(after["deployment"], before["deployment"]);
    assert!(after["logHead"]["sequence"].as_u64() > before["logHead"]["sequence"].as_u64());
}
