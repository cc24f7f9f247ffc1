//! Updates, uploads, activations and counters at the same time, through real connections: they keep one order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use marblerun_pki::{Certificate, pem};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::authorisation::{Client, marble};
use crate::running::{Identity, Running, client_config, connect};

/// Steps of each client.
const ROUNDS: u64 = 12;
const BUDGET: u64 = 5;

struct World {
    running: Running,
    /// The newest upload that was acknowledged.
    acknowledged: AtomicU64,
    is_over: AtomicBool,
    identities: Vec<(&'static str, Identity)>,
}

impl World {
    async fn client(&self, user: &str) -> Client {
        let identity = self.identities.iter().find(|(name, _)| *name == user);
        Client::connect(&self.running, &identity.unwrap().1).await
    }
}

fn manifest(identities: &[(&str, Identity)]) -> String {
    let users: serde_json::Map<String, Value> = identities
        .iter()
        .map(|(name, identity)| {
            let Identity::Shown(certificate, _) = identity else { unreachable!() };
            let role = match *name {
                "writer" => "write",
                "raiser" => "raise",
                _ => "update",
            };
            let user = json!({ "Certificate": pem::encode("CERTIFICATE", certificate), "Roles": [role] });
            ((*name).to_owned(), user)
        })
        .collect();
    let parameters = json!({ "Env": { "NUMBER": "{{ string .Secrets.number }}", "KEY": "{{ hex .Secrets.key }}" } });
    json!({
        "Packages": { "p": { "SignerID": "ab".repeat(32), "ProductID": 1, "SecurityVersion": 1 } },
        "Marbles": {
            "web": { "Package": "p", "Parameters": parameters },
            "few": { "Package": "p", "Parameters": parameters, "MaxActivations": BUDGET },
        },
        "Secrets": {
            "number": { "Type": "plain", "UserDefined": true },
            "key": { "Type": "symmetric-key", "Size": 128, "Shared": true },
        },
        "Users": users,
        "Roles": {
            "write": { "ResourceType": "Secrets", "ResourceNames": ["number"], "Actions": ["WriteSecret", "ReadSecret"] },
            "raise": { "ResourceType": "Packages", "ResourceNames": ["p"], "Actions": ["UpdateSecurityVersion"] },
            "update": { "ResourceType": "Manifest", "Actions": ["UpdateManifest"] },
        },
        "Config": { "UpdateThreshold": 2, "FeatureGates": ["MonotonicCounter"] },
    })
    .to_string()
}

async fn upload(world: Arc<World>) {
    let mut writer = world.client("writer").await;
    for number in 1..=10 * ROUNDS {
        let body = json!({ "secrets": { "number": { "Key": BASE64.encode(number.to_string()) } } });
        let (status, text) = writer.ask("POST", "/api/v2/secrets", body.to_string()).await;
        assert_eq!(status, 200, "{text}");
        world.acknowledged.store(number, Ordering::SeqCst);
    }
}

/// How often the security version was raised; while an update is pending it is refused.
async fn raise(world: Arc<World>) -> u64 {
    let mut raiser = world.client("raiser").await;
    let mut raised = 0;
    for version in 2..2 + ROUNDS {
        let body = json!({ "Packages": { "p": { "SecurityVersion": version } } });
        let (status, text) = raiser.ask("POST", "/update", body.to_string()).await;
        assert!(status == 200 || text.contains("pending") || text.contains("meanwhile"), "{status} {text}");
        raised += u64::from(status == 200);
    }
    raised
}

/// One begins updates, the other acknowledges two and cancels the third; how many were acknowledged.
async fn update(world: Arc<World>, manifest: String) -> u64 {
    let (mut ann, mut ben) = (world.client("ann").await, world.client("ben").await);
    let mut applied = 0;
    for round in 0..ROUNDS {
        // The same in other bytes.
        let text = format!("{manifest}{}", " ".repeat(usize::try_from(round).unwrap()));
        loop {
            let (status, answer) = ann.ask("POST", "/update", text.clone()).await;
            if status == 200 {
                break;
            }
            assert!(answer.contains("meanwhile"), "{status} {answer}");
        }
        let path = if round % 3 == 2 { "/update-cancel" } else { "/update-manifest" };
        let (status, answer) = ben.ask("POST", path, text).await;
        assert_eq!(status, 200, "{path}: {answer}");
        applied += u64::from(path == "/update-manifest");
    }
    applied
}

/// Activates until the others are done. What a Marble gets is never older than what was acknowledged before it asked,
/// and belongs together.
async fn activate(world: Arc<World>) {
    while !world.is_over.load(Ordering::SeqCst) {
        let before = world.acknowledged.load(Ordering::SeqCst);
        let parameters = match world.running.activate("web").await {
            Ok(parameters) => parameters,
            // An update came in between the handshake and the call.
            Err(refusal) if refusal.code == tonic::Code::Unavailable as u32 => continue,
            Err(refusal) => panic!("{refusal:?}"),
        };
        let text = |name: &str| String::from_utf8(parameters.env[name].clone()).unwrap();
        let number: u64 = text("NUMBER").parse().unwrap();
        assert!(number >= before, "expected at least {before}, got {number}");
        assert_eq!(text("KEY").len(), 32);

        let certificates = |name: &str| pem::decode_certificates(text(name).as_bytes()).unwrap();
        let chain = certificates("MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN");
        let marble_root = certificates("MARBLE_PREDEFINED_ROOT_CA");
        let root = certificates("MARBLE_PREDEFINED_COORDINATOR_ROOT_CA");
        for (certificate, issuer) in [(&chain[0], &marble_root[0]), (&chain[0], &chain[1]), (&chain[1], &root[0])] {
            let (certificate, issuer) = (Certificate::parse(certificate).unwrap(), Certificate::parse(issuer).unwrap());
            certificate.verify_signed_by(issuer.public_key_der()).unwrap();
        }
    }
}

/// How many of twice the budget were activated.
async fn use_the_budget(world: Arc<World>) -> u64 {
    let mut activated = 0;
    for _ in 0..2 * BUDGET {
        loop {
            match world.running.activate("few").await {
                Ok(_) => activated += 1,
                Err(refusal) if refusal.code == tonic::Code::Unavailable as u32 => continue,
                Err(refusal) => assert_eq!(refusal.code, tonic::Code::PermissionDenied as u32, "{refusal:?}"),
            }
            break;
        }
    }
    activated
}

/// Raises one counter of one Marble, with a new certificate whenever an update made the old one worthless.
async fn count(world: Arc<World>) {
    let mut client = Client::connect(&world.running, &marble(&world.running).await).await;
    let mut value = 0;
    while value < ROUNDS {
        let body = json!({ "name": "n", "value": value + 1 }).to_string();
        let (status, text) = client.ask("POST", "/api/v2/monotonic-counter", body).await;
        if status == 401 {
            client = Client::connect(&world.running, &marble(&world.running).await).await;
            continue;
        }
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &answer["data"]["value"]), (200, &json!(value)), "{text}");
        value += 1;
    }
}

async fn log(running: &Running) -> Vec<Value> {
    let answer = running.get("/api/v2/update").await.data();
    answer["updateLog"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap())
        .collect()
}

fn number_of(log: &[Value], event: &str) -> u64 {
    log.iter().filter(|line| line["update"].as_str().unwrap().starts_with(event)).count() as u64
}

// rules: UPD-7, UPD-8, UPD-9, LOG-1, LOG-3, AUTH-7, CTR-5, ACT-2.2
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_uploads_activations_and_counters_keep_one_order_which_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let identities: Vec<_> =
        ["writer", "raiser", "ann", "ben"].into_iter().map(|name| (name, Identity::new())).collect();
    let manifest = manifest(&identities);
    let running = Running::again(directory.path()).await;
    assert_eq!(running.ask("POST", "/manifest", manifest.clone()).await.status, 200);
    let world = World { running, acknowledged: AtomicU64::new(0), is_over: AtomicBool::new(false), identities };
    let world = Arc::new(world);
    let first = json!({ "number": { "Key": BASE64.encode("0") } }).to_string();
    assert_eq!(world.client("writer").await.ask("POST", "/secrets", first).await.0, 200);

    let activating = [(); 2].map(|()| tokio::spawn(activate(Arc::clone(&world))));
    let (uploading, counting) = (tokio::spawn(upload(Arc::clone(&world))), tokio::spawn(count(Arc::clone(&world))));
    let raising = tokio::spawn(raise(Arc::clone(&world)));
    let updating = tokio::spawn(update(Arc::clone(&world), manifest));
    let spending = tokio::spawn(use_the_budget(Arc::clone(&world)));
    uploading.await.unwrap();
    counting.await.unwrap();
    let (raised, applied) = (raising.await.unwrap(), updating.await.unwrap());
    assert_eq!(spending.await.unwrap(), BUDGET);
    world.is_over.store(true, Ordering::SeqCst);
    for task in activating {
        task.await.unwrap();
    }

    let lines = log(&world.running).await;
    assert_eq!(number_of(&lines, "Secret set"), 10 * ROUNDS + 1);
    assert_eq!(number_of(&lines, "SecurityVersion increased"), raised);
    assert_eq!(number_of(&lines, "Complete Manifest update acknowledged by user"), applied);
    assert_eq!(number_of(&lines, "Complete Manifest updated"), applied);
    assert_eq!(number_of(&lines, "Complete Manifest update cancelled by user"), ROUNDS - applied);

    let manifest_before = world.running.get("/api/v2/manifest").await.text;
    let Some(World { running, identities, .. }) = Arc::into_inner(world) else { panic!("a task still runs") };
    drop(running);
    let running = Running::again(directory.path()).await;
    assert_eq!(log(&running).await, lines);
    assert_eq!(running.get("/api/v2/manifest").await.text, manifest_before);
    let (_, writer) = identities.iter().find(|(name, _)| *name == "writer").unwrap();
    let (_, text) = Client::connect(&running, writer).await.ask("GET", "/secrets?s=number", String::new()).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["data"]["number"]["Private"], BASE64.encode((10 * ROUNDS).to_string()), "{text}");
    assert_eq!(running.activate("few").await.unwrap_err().code, tonic::Code::PermissionDenied as u32);
}

// rules: AUTH-7
#[tokio::test]
async fn a_marble_whose_body_comes_after_an_update_is_refused_as_after_it() {
    let running = Running::start().await;
    let identities: Vec<_> = ["ann", "ben", "raiser"].map(|name| (name, Identity::new())).into();
    let manifest = manifest(&identities).replace("{{ string .Secrets.number }}", "");
    assert_eq!(running.ask("POST", "/manifest", manifest).await.status, 200);
    let config = client_config(&marble(&running).await, &[b"http/1.1"]);
    let mut stream = connect(running.client, config).await.unwrap();
    let body = r#"{"name":"n","value":1}"#;
    let head = format!(
        "POST /api/v2/monotonic-counter HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    // The body is asked for once the certificate is accepted.
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&answer[..length]));

    let raise = json!({ "Packages": { "p": { "SecurityVersion": 2 } } }).to_string();
    assert_eq!(running.ask_as(&identities[2].1, "POST", "/update", raise).await.status, 200);
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer[..length]));
}
