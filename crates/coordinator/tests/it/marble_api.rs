//! The Marble API: codes, their precedence, and what survives a restart.

use marblerun_pki::pem;

use crate::running::{Identity, MANIFEST, Running, UUID, call, client_config, connect, request_for};

const PERMISSION_DENIED: u32 = 7;
const FAILED_PRECONDITION: u32 = 9;
const UNIMPLEMENTED: u32 = 12;
const INVALID_ARGUMENT: u32 = 3;
const INTERNAL: u32 = 13;

// rules: ACT-1.1, ACT-1.4
#[tokio::test]
async fn a_marble_gets_its_parameters_from_the_holder_of_the_marble_root() {
    let running = Running::start().await;
    running.set_manifest().await;
    let parameters = running.activate("web").await.unwrap();
    assert_eq!(parameters.argv, ["/bin/web"]);
    let root = pem::decode_certificates(&parameters.env["MARBLE_PREDEFINED_ROOT_CA"]).unwrap();
    let stream = connect(running.mesh, client_config(&Identity::new(), &[b"h2"])).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].as_ref(), root[0].as_slice());
}

// rules: ACT-1.7
#[tokio::test]
async fn before_the_manifest_is_set_the_precondition_fails() {
    let running = Running::start().await;
    let refusal = running.activate("web").await.unwrap_err();
    assert_eq!(refusal.code, FAILED_PRECONDITION, "{}", refusal.message);
}

#[tokio::test]
async fn other_paths_are_not_implemented() {
    let running = Running::start().await;
    running.set_manifest().await;
    for path in ["/rpc.Marble/activate", "/rpc.Marble/Activate/", "/grpc.health.v1.Health/Check", "/"] {
        let refusal = call(running.mesh, &Identity::new(), path, &request_for("web")).await.unwrap_err();
        assert_eq!(refusal.code, UNIMPLEMENTED, "{path}: {}", refusal.message);
    }
}

// rules: ACT-1.6, ACT-2.1
#[tokio::test]
async fn each_cause_has_its_code_in_the_order_of_the_steps() {
    let running = Running::start().await;
    running.set_manifest().await;
    let check = async |change: fn(&mut marblerun_api::rpc::ActivationReq), marble_type: &str, code: u32| {
        let mut request = request_for(marble_type);
        change(&mut request);
        let refusal = running.call(&Identity::new(), &request).await.unwrap_err();
        assert_eq!(refusal.code, code, "{}", refusal.message);
        let denied = refusal.message.starts_with("marble verification failed: ");
        assert_eq!(denied, code == PERMISSION_DENIED, "{}", refusal.message);
    };
    check(|request| (request.uuid, request.csr) = ("x".into(), vec![1]), "nobody", PERMISSION_DENIED).await;
    check(|request| (request.uuid, request.csr) = ("x".into(), vec![1]), "web", INVALID_ARGUMENT).await;
    check(|request| request.uuid = "00000000-0000-0000-0000-000000000000".into(), "web", INVALID_ARGUMENT).await;
    check(|request| request.csr = vec![1], "web", INTERNAL).await;
    check(|request| *request.csr.last_mut().unwrap() ^= 1, "late", INTERNAL).await;
    check(|_| (), "late", INTERNAL).await;
    running.activate("once").await.unwrap();
    check(|request| (request.uuid, request.csr) = ("x".into(), vec![1]), "once", PERMISSION_DENIED).await;
    // In simulation any evidence counts, also none.
    let mut request = request_for("web");
    request.quote = b"random".to_vec();
    running.call(&Identity::new(), &request).await.unwrap();
}

#[tokio::test]
async fn a_hostile_type_or_uuid_gets_a_short_answer() {
    let running = Running::start().await;
    running.set_manifest().await;
    let mut request = request_for(&"é\n".repeat(100_000));
    request.uuid = "\u{1b}[2J".repeat(1000);
    let refusal = running.call(&Identity::new(), &request).await.unwrap_err();
    assert_eq!(refusal.code, PERMISSION_DENIED);
    assert!(refusal.message.len() < 1024, "{}", refusal.message.len());
}

#[tokio::test]
async fn a_message_beyond_four_mebibytes_is_refused() {
    let running = Running::start().await;
    running.set_manifest().await;
    let mut request = request_for("web");
    request.marble_type = "x".repeat(4 * 1024 * 1024);
    let refusal = running.call(&Identity::new(), &request).await.unwrap_err();
    assert_ne!(refusal.code, PERMISSION_DENIED, "{}", refusal.message);
    // This one is read, and the type is unknown.
    request.marble_type.truncate(4 * 1024 * 1024 - 4096);
    let refusal = running.call(&Identity::new(), &request).await.unwrap_err();
    assert_eq!(refusal.code, PERMISSION_DENIED, "{}", refusal.message);
}

// rules: ACT-2.2
#[tokio::test]
async fn the_budget_counts_activations_of_the_type_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::again(directory.path()).await;
    running.set_manifest().await;
    running.activate("once").await.unwrap();
    assert_eq!(running.activate("once").await.unwrap_err().code, PERMISSION_DENIED);
    let root = running.get("/api/v2/quote").await.data()["cert"].clone();
    drop(running);

    let running = Running::again(directory.path()).await;
    let refusal = running.activate("once").await.unwrap_err();
    assert_eq!(refusal.code, PERMISSION_DENIED);
    assert!(refusal.message.contains("MaxActivations"), "{}", refusal.message);
    running.activate("web").await.unwrap();
    assert_eq!(running.get("/api/v2/quote").await.data()["cert"], root, "the root survives");
    let manifest = running.get("/manifest").await.text;
    assert!(manifest.contains("ManifestSignature"), "{manifest}");
}

// rules: ACT-2.2, R17
#[tokio::test]
async fn many_at_once_do_not_exceed_the_budget() {
    let running = Running::start().await;
    let manifest = MANIFEST.replace(r#""MaxActivations": 1"#, r#""MaxActivations": 3"#);
    assert_eq!(running.ask("POST", "/manifest", manifest).await.status, 200);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mesh = running.mesh;
        calls.spawn(async move { call(mesh, &Identity::new(), "/rpc.Marble/Activate", &request_for("once")).await });
    }
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    for refusal in results.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.code, PERMISSION_DENIED, "{}", refusal.message);
    }
}

// rules: ACT-2.3
#[tokio::test]
async fn a_failed_activation_uses_no_budget() {
    let running = Running::start().await;
    running.set_manifest().await;
    let mut bad = request_for("once");
    bad.csr = vec![1];
    for _ in 0..3 {
        assert_eq!(running.call(&Identity::new(), &bad).await.unwrap_err().code, INTERNAL);
    }
    let mut good = request_for("once");
    good.uuid = format!("urn:uuid:{}", UUID.to_uppercase());
    running.call(&Identity::new(), &good).await.unwrap();
}
