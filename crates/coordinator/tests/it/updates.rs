//! Updates over HTTPS: what takes effect beside the manifest, namely recovery, sealing, the kept quote, and the order of
//! several users at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use marblerun_coordinator::trust::Trust;
use marblerun_coordinator_core::ledger::Ledger;
use marblerun_coordinator_core::record::Record;
use marblerun_pki::pem;
use marblerun_sealing::{Fault, FixedSealKeys, SealMode, SealPolicy};
use marblerun_secret::SecretBytes;
use marblerun_storage::{
    DATA_FILE, KEY_FILE, OpenError, Opened, RECOVERY_FILE, RecoverError, Recovery, StoreError, open_directory,
};
use marblerun_tee::TrustClass;
use serde_json::{Value, json};

use crate::authorisation::Client;
use crate::running::{Identity, Running, client_config, connect};

struct Party(PrivateDecryptingKey);

impl Party {
    fn new() -> Self {
        Self(PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap())
    }

    fn pem(&self) -> String {
        pem::encode("PUBLIC KEY", self.0.public_key().as_der().unwrap().as_ref())
    }

    /// The recovery key of a deployment with this one party, from an answer.
    #[track_caller]
    fn recovery_key(&self, secrets: &Value) -> SecretBytes {
        let ciphertext = BASE64.decode(secrets["party"].as_str().unwrap()).unwrap();
        let key = OaepPrivateDecryptingKey::new(self.0.clone()).unwrap();
        let mut plain = vec![0; key.min_output_size()];
        SecretBytes::copy_from(key.decrypt(&OAEP_SHA256_MGF1SHA256, &ciphertext, &mut plain, None).unwrap())
    }
}

/// `updaters` may update; `argument` tells manifests apart.
fn manifest(updaters: &[&Identity], party: Option<&Party>, config: Value, argument: &str) -> String {
    let user = |(number, identity): (usize, &&Identity)| {
        let Identity::Shown(certificate, _) = identity else { unreachable!() };
        let user = json!({ "Certificate": pem::encode("CERTIFICATE", certificate), "Roles": ["update"] });
        (format!("user {number}"), user)
    };
    json!({
        "Packages": { "p": { "UniqueID": "ab".repeat(32) } },
        "Marbles": { "web": { "Package": "p", "Parameters": { "Argv": [argument] } } },
        "Users": updaters.iter().enumerate().map(user).collect::<serde_json::Map<_, _>>(),
        "Roles": { "update": { "ResourceType": "Manifest", "Actions": ["UpdateManifest"] } },
        "RecoveryKeys": party.map_or_else(|| json!({}), |party| json!({ "party": party.pem() })),
        "Config": config,
    })
    .to_string()
}

/// The answer's data.
async fn post(client: &mut Client, path: &str, manifest: &str) -> Value {
    let body = json!({ "manifest": BASE64.encode(manifest) }).to_string();
    let (status, text) = client.ask("POST", path, body).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["data"].clone()
}

/// The state in `directory` without its key file; the Coordinator gives the directory back soon after it was dropped.
async fn lost(directory: &Path) -> Recovery {
    std::fs::remove_file(directory.join(KEY_FILE)).unwrap();
    let trust = Trust::new(&TrustClass::Simulation, None).unwrap().context();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let keys = FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16]));
        match open_directory(directory, Arc::new(keys), trust.clone()) {
            Err(OpenError::Store(StoreError::Locked { .. })) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => match opened.unwrap() {
                Opened::Recovery(recovery) => return recovery,
                other => panic!("expected recovery, got {other:?}"),
            },
        }
    }
}

/// The manifest and seal mode of the state that `key` opens.
#[track_caller]
fn opened(recovery: Recovery, key: &SecretBytes) -> (String, SealMode) {
    let existing = recovery.open_with(key).unwrap();
    let ledger =
        Ledger::replay(existing.records.iter().map(|record| Record::decode(record.expose()).unwrap())).unwrap();
    let raw = ledger.snapshot().deployment().unwrap().raw_manifest.to_vec();
    (String::from_utf8(raw).unwrap(), existing.log.mode())
}

// rules: UPD-13, STA-3.16
#[tokio::test]
async fn shares_stay_good_until_an_update_changes_the_recovery_keys() {
    let directory = tempfile::tempdir().unwrap();
    let (ann, one, other) = (Identity::new(), Party::new(), Party::new());
    let running = Running::again(directory.path()).await;
    let mut client = Client::connect(&running, &ann).await;
    let first = manifest(&[&ann], Some(&one), json!({}), "first");
    let data = post(&mut client, "/api/v2/manifest", &first).await;
    let key = one.recovery_key(&data["RecoverySecrets"]);

    // The recovery keys are the same, the seal mode is another one.
    let second = manifest(&[&ann], Some(&one), json!({ "SealMode": "UniqueKey" }), "second");
    let data = post(&mut client, "/api/v2/update", &second).await;
    assert_eq!(data, json!({ "missingAcknowledgments": 0, "missingUsers": null }));
    drop((client, running));
    let kept = opened(lost(directory.path()).await, &key);
    assert_eq!(kept, (second, SealMode::Sealed(SealPolicy::UniqueKey)));

    let directory = tempfile::tempdir().unwrap();
    let running = Running::again(directory.path()).await;
    let mut client = Client::connect(&running, &ann).await;
    let data = post(&mut client, "/api/v2/manifest", &first).await;
    let former = one.recovery_key(&data["RecoverySecrets"]);
    let third = manifest(&[&ann], Some(&other), json!({}), "third");
    let data = post(&mut client, "/api/v2/update", &third).await;
    let key = other.recovery_key(&data["recoverySecrets"]);
    drop((client, running));
    let refused = lost(directory.path()).await.open_with(&former).unwrap_err();
    assert!(matches!(refused.error, RecoverError::Refused(Fault::WrongRecoveryKey)));
    assert_eq!(opened(refused.recovery, &key), (third, SealMode::Sealed(SealPolicy::ProductKey)));
}

// rules: UPD-13
#[tokio::test]
async fn without_recovery_keys_nobody_has_shares_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (ann, party) = (Identity::new(), Party::new());
    let running = Running::again(directory.path()).await;
    let mut client = Client::connect(&running, &ann).await;
    post(&mut client, "/api/v2/manifest", &manifest(&[&ann], Some(&party), json!({}), "first")).await;
    assert!(directory.path().join(RECOVERY_FILE).exists());
    let data = post(&mut client, "/api/v2/update", &manifest(&[&ann], None, json!({}), "second")).await;
    assert_eq!(data["recoverySecrets"], json!({}));
    assert!(!directory.path().join(RECOVERY_FILE).exists());
}

// rules: SAFE-14
#[tokio::test]
async fn an_update_to_disabled_sealing_removes_what_was_sealed_and_goes_on_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let ann = Identity::new();
    let running = Running::again(directory.path()).await;
    let mut client = Client::connect(&running, &ann).await;
    post(&mut client, "/api/v2/manifest", &manifest(&[&ann], None, json!({}), "first")).await;
    assert!(directory.path().join(DATA_FILE).exists());
    let disabled = json!({ "SealMode": "Disabled" });
    for argument in ["second", "third"] {
        post(&mut client, "/api/v2/update", &manifest(&[&ann], None, disabled.clone(), argument)).await;
        assert!(!directory.path().join(DATA_FILE).exists() && !directory.path().join(KEY_FILE).exists());
        assert_eq!(running.activate("web").await.unwrap().argv, [argument]);
    }
    let sealed = json!({ "manifest": BASE64.encode(manifest(&[&ann], None, json!({}), "fourth")) }).to_string();
    let (status, text) = client.ask("POST", "/api/v2/update", sealed).await;
    assert!(status == 500 && text.contains("SealMode"), "{text}");
}

// rules: SIG-2, ACT-4.6
#[tokio::test]
async fn the_kept_quote_follows_each_update() {
    let ann = Identity::new();
    let running = Running::start().await;
    let mut client = Client::connect(&running, &ann).await;
    post(&mut client, "/api/v2/manifest", &manifest(&[&ann], None, json!({}), "first")).await;
    let before = running.get("/api/v2/quote").await.data();
    let next = manifest(&[&ann], None, json!({}), "second");
    post(&mut client, "/api/v2/update", &next).await;
    let after = running.get("/api/v2/quote").await.data();
    let fingerprint = marblerun_manifest::fingerprint(next.as_bytes());
    assert!(after["statement"].as_str().unwrap().contains(&fingerprint), "{after}");
    let chain = |data: &Value| pem::decode_certificates(data["cert"].as_str().unwrap().as_bytes()).unwrap();
    assert_ne!(chain(&before)[0], chain(&after)[0], "the intermediate is new");
    assert_eq!(chain(&before)[1], chain(&after)[1], "the root stays");
}

// rules: UPD-6, UPD-7, R17
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledgements_at_the_same_time_are_all_counted_once() {
    let identities: Vec<Identity> = (0..6).map(|_| Identity::new()).collect();
    let updaters: Vec<&Identity> = identities.iter().collect();
    let running = Running::start().await;
    let mut clients = Vec::new();
    for identity in &identities {
        clients.push(Client::connect(&running, identity).await);
    }
    post(&mut clients[0], "/api/v2/manifest", &manifest(&updaters, None, json!({}), "first")).await;
    let next = manifest(&updaters, None, json!({}), "second");
    let data = post(&mut clients[0], "/api/v2/update", &next).await;
    assert_eq!(data["missingAcknowledgments"], json!(5));
    let acknowledging: Vec<_> = clients
        .drain(1..)
        .map(|mut client| {
            let next = next.clone();
            tokio::spawn(async move { post(&mut client, "/api/v2/update-manifest", &next).await })
        })
        .collect();
    let mut missing = Vec::new();
    for answer in acknowledging {
        missing.push(answer.await.unwrap()["missingAcknowledgments"].as_u64().unwrap());
    }
    missing.sort_unstable();
    assert_eq!(missing, [0, 1, 2, 3, 4]);
    assert_eq!(running.activate("web").await.unwrap().argv, ["second"]);
    assert_eq!(running.get("/api/v2/update-manifest").await.status, 404);
}

/// Only one of them can begin; which one is decided when it is stored.
// rules: SAFE-8
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_updates_that_begin_at_the_same_time_one_waits_and_the_others_are_refused() {
    let identities: Vec<Identity> = (0..4).map(|_| Identity::new()).collect();
    let updaters: Vec<&Identity> = identities.iter().collect();
    let running = Running::start().await;
    let mut beginning = Vec::new();
    let first = manifest(&updaters, None, json!({}), "first");
    assert_eq!(running.ask("POST", "/manifest", first).await.status, 200);
    for (number, identity) in identities.iter().enumerate() {
        let mut client = Client::connect(&running, identity).await;
        let next = manifest(&updaters, None, json!({}), &number.to_string());
        beginning.push(tokio::spawn(async move { client.ask("POST", "/update", next).await }));
    }
    let mut begun = 0;
    for answer in beginning {
        let (status, text) = answer.await.unwrap();
        assert!(status == 200 || status == 400 && text.contains("pending"), "{status} {text}");
        begun += usize::from(status == 200);
    }
    assert_eq!(begun, 1);
    let log = running.get("/api/v2/update").await.data();
    assert_eq!(log["updateLog"].as_array().unwrap().len(), 2);
}

// rules: ACT-4.6
#[tokio::test]
async fn open_marble_connections_end_when_an_update_makes_a_new_intermediate() {
    let directory = tempfile::tempdir().unwrap();
    let ann = Identity::new();
    let running = Running::again(directory.path()).await;
    let text = manifest(&[&ann], None, json!({}), "one");
    assert_eq!(running.ask("POST", "/manifest", text.clone()).await.status, 200);

    let kept = async || {
        let stream = connect(running.mesh, client_config(&Identity::new(), &[b"h2"])).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), io).await.unwrap();
        (sender, tokio::spawn(connection))
    };
    let (_sender, before) = kept().await;
    let mut client = Client::connect(&running, &ann).await;
    post(&mut client, "/api/v2/update", &format!("{text} ")).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), before).await;
    ended.expect("the connection to end").unwrap().unwrap();
    // What was connected after it stays, as does a client of the other listener, whose certificate is the same.
    let (_sender, after) = kept().await;
    running.activate("web").await.unwrap();
    assert!(!after.is_finished());
    assert_eq!(client.ask("GET", "/status", String::new()).await.0, 200);
}
