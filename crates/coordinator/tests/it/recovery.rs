//! Recovery over HTTPS: the parties bring a state back whose sealed key is lost, and nobody else does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_coordinator::audit::AuditTarget;
use marblerun_coordinator::config::Config;
use marblerun_coordinator::listener::Limits;
use marblerun_coordinator::trust::Trust;
use marblerun_coordinator_core::identity::Identity as Deployed;
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_coordinator_core::set_manifest::prepare;
use marblerun_coordinator_core::time::Timestamp;
use marblerun_pki::{AltNames, pem};
use marblerun_sealing::{
    FixedSealKeys, ManifestFingerprint, RecoveryRecipient, RecoveryScheme, RecoveryShare, SealMode,
};
use marblerun_secret::SecretBytes;
use marblerun_storage::{CommitOptions, DATA_FILE, KEY_FILE, Opened, RECOVERY_FILE, RecipientChange, open_directory};
use marblerun_tee::TrustClass;

use crate::running::{Answer, Identity, Running, client_config, config, connect};

const RECOVER: &str = "/api/v2/recover";
const PUBLIC_KEY: &str = "/api/v2/recover/public-key";

struct Party(RsaKeyPair);

/// All tests share the parties, because making keys takes long.
fn parties() -> &'static [Party] {
    static PARTIES: LazyLock<Vec<Party>> =
        LazyLock::new(|| (0..5).map(|_| Party(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())).collect());
    &PARTIES
}

fn stranger() -> &'static Party {
    static STRANGER: LazyLock<Party> = LazyLock::new(|| Party(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
    &STRANGER
}

impl Party {
    fn public(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Vec<u8> {
        let pkcs8: Pkcs8V1Der<'_> = self.0.as_der().unwrap();
        let key = OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).unwrap()).unwrap();
        let mut plain = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut plain, None).unwrap().to_vec()
    }

    fn sign(&self, share: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), share, &mut signature).unwrap();
        signature
    }
}

/// A manifest with the first `count` parties.
fn manifest(count: usize, threshold: usize) -> String {
    let keys: BTreeMap<String, String> = parties()[..count]
        .iter()
        .enumerate()
        .map(|(number, party)| (format!("party {number}"), pem::encode("PUBLIC KEY", &party.public())))
        .collect();
    serde_json::json!({
        "Packages": {"p": {"UniqueID": "ab".repeat(32)}},
        "Marbles": {"web": {"Package": "p", "Parameters": {"Argv": ["/bin/web"]}}},
        "RecoveryKeys": keys,
        "Config": {"RecoveryThreshold": threshold},
    })
    .to_string()
}

/// A deployment that lost its sealed key.
struct Lost {
    running: Running,
    directory: tempfile::TempDir,
    /// In plain form, in the order of the parties.
    shares: Vec<Vec<u8>>,
    before: Picture,
}

/// What tells one deployment from another.
#[derive(Debug, PartialEq)]
struct Picture {
    roots: [Vec<u8>; 2],
    chain: serde_json::Value,
    manifest: serde_json::Value,
    log: serde_json::Value,
}

impl Picture {
    async fn of(running: &Running) -> Self {
        let shown = async |address, identity: &Identity, alpn: &[u8]| {
            let stream = connect(address, client_config(identity, &[alpn])).await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
        };
        Self {
            roots: [
                shown(running.client, &Identity::None, b"http/1.1").await,
                shown(running.mesh, &Identity::new(), b"h2").await,
            ],
            chain: running.get("/api/v2/quote").await.data()["cert"].clone(),
            manifest: running.get("/api/v2/manifest").await.data(),
            log: running.get("/api/v2/update").await.data(),
        }
    }
}

impl Lost {
    async fn new(count: usize, threshold: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::again(directory.path()).await;
        let body = serde_json::json!({"manifest": STANDARD.encode(manifest(count, threshold))}).to_string();
        let answer = running.ask("POST", "/api/v2/manifest", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let secrets = answer.data()["RecoverySecrets"].clone();
        let shares = parties()[..count].iter().enumerate().map(|(number, party)| {
            let text = secrets[format!("party {number}")].as_str().unwrap();
            party.decrypt(&STANDARD.decode(text).unwrap())
        });
        let shares = shares.collect();
        let before = Picture::of(&running).await;
        let running = again_without(running, directory.path(), &[KEY_FILE]).await;
        assert_eq!(code(&running).await, 1);
        assert_ne!(Picture::of(&running).await.roots, before.roots, "a temporary identity");
        Self { running, directory, shares, before }
    }

    /// The party's own share, signed by it.
    async fn upload(&self, party: usize) -> Answer {
        upload(&self.running, &self.shares[party], &parties()[party].sign(&self.shares[party])).await
    }

    /// The same, encrypted to the ephemeral key.
    async fn upload_encrypted(&self, party: usize) -> Answer {
        let share = &self.shares[party];
        let answer = self.running.get(PUBLIC_KEY).await;
        if answer.status != 200 {
            // Somebody else has ended the recovery; the caller decides whether that may be.
            return answer;
        }
        let answer = answer.data();
        assert_eq!(answer["algorithm"], "RSA");
        let der = STANDARD.decode(answer["ephemeralPublicKey"].as_str().unwrap()).unwrap();
        let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).unwrap()).unwrap();
        let mut ciphertext = vec![0; key.ciphertext_size()];
        key.encrypt(&OAEP_SHA256_MGF1SHA256, share, &mut ciphertext, None).unwrap();
        upload(&self.running, &ciphertext, &parties()[party].sign(share)).await
    }

    #[track_caller]
    fn check_remaining(answer: &Answer, expected: usize) {
        assert_eq!((answer.status.as_u16(), &answer.data()["remaining"]), (200, &expected.into()), "{}", answer.text);
    }

    /// Everything is as before the loss, and it stays so after a restart with the key that recovery sealed.
    async fn check_recovered(self) {
        let Self { running, directory, before, .. } = self;
        assert_eq!(code(&running).await, 3);
        assert_eq!(Picture::of(&running).await, before);
        running.activate("web").await.unwrap();
        let running = again_without(running, directory.path(), &[]).await;
        assert_eq!(code(&running).await, 3);
        assert_eq!(Picture::of(&running).await, before);
        running.activate("web").await.unwrap();
    }
}

/// The next Coordinator on the same directory, after these files were lost.
async fn again_without(running: Running, directory: &Path, files: &[&str]) -> Running {
    drop(running);
    // Wait until the directory is free again.
    drop(Running::again(directory).await);
    for file in files {
        std::fs::remove_file(directory.join(file)).unwrap();
    }
    Running::again(directory).await
}

async fn code(running: &Running) -> u64 {
    running.get("/api/v2/status").await.data()["code"].as_u64().unwrap()
}

async fn upload(running: &Running, secret: &[u8], signature: &[u8]) -> Answer {
    let body = serde_json::json!({
        "recoverySecret": STANDARD.encode(secret),
        "recoverySecretSignature": STANDARD.encode(signature),
    });
    running.ask("POST", RECOVER, body.to_string()).await
}

#[track_caller]
fn check_refused(answer: &Answer, expected: &str) {
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert!(answer.text.contains(expected), "expected {expected:?} in {}", answer.text);
}

// rules: STA-3.4, STA-3.5, STA-3.7, STA-3.9, EP-10, LOG-1
#[tokio::test(flavor = "multi_thread")]
async fn the_parties_bring_a_state_back_in_every_scheme() {
    for (count, threshold, order) in
        [(1, 0, &[0][..]), (3, 0, &[2, 0, 1]), (2, 2, &[0, 1]), (3, 2, &[2, 0]), (5, 3, &[4, 1, 3])]
    {
        let lost = Lost::new(count, threshold).await;
        for (accepted, party) in order.iter().enumerate() {
            // Half of them plain, half of them encrypted.
            let answer = match party % 2 {
                0 => lost.upload_encrypted(*party).await,
                _ => lost.upload(*party).await,
            };
            let is_last = accepted + 1 == order.len();
            Lost::check_remaining(&answer, if is_last { 0 } else { count - accepted - 1 });
        }
        // The endpoints are closed.
        check_refused(&lost.upload(order[0]).await, "recovery mode");
        check_refused(&lost.running.get(PUBLIC_KEY).await, "recovery mode");
        assert_eq!(upload(&lost.running, &[7; 512], &[]).await.status, 400);
        lost.check_recovered().await;
    }
}

// rules: SAFE-5, STA-3.7, STA-3.12, STA-3.13
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_on_arrival_and_disturbs_nothing() {
    let lost = Lost::new(3, 2).await;
    let share = &lost.shares[1];
    Lost::check_remaining(&lost.upload(0).await, 2);
    check_refused(&upload(&lost.running, &[9; 33], &[]).await, "expected one of the 3 recovery secrets");
    check_refused(&upload(&lost.running, &share[..32], &[]).await, "expected a recovery secret of 33 bytes, got 32");
    check_refused(&upload(&lost.running, &[9; 16], &[]).await, "expected a recovery secret of 33 bytes, got 16");
    check_refused(&lost.upload(0).await, "recovery secret 1 of 3 was accepted before");
    let no_signature =
        "recovery secret 2 of 3 has no signature by a recovery key that has not signed yet; sign the plain";
    check_refused(&upload(&lost.running, share, &[]).await, no_signature);
    check_refused(&upload(&lost.running, share, &stranger().sign(share)).await, no_signature);
    check_refused(&upload(&lost.running, share, &parties()[0].sign(share)).await, no_signature);
    let ciphertext = upload(&lost.running, &[9; 512], &[]).await;
    assert_eq!(ciphertext.status, 400);
    assert!(ciphertext.text.contains("public-key"), "{}", ciphertext.text);
    assert!(!ciphertext.text.contains("CQkJ"), "{}", ciphertext.text);
    assert_eq!(code(&lost.running).await, 1);
    assert!(!lost.directory.path().join(KEY_FILE).exists(), "nothing was written");
    Lost::check_remaining(&lost.upload(1).await, 0);
    lost.check_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_stream_tells_of_each_step() {
    let Lost { running, directory, shares, .. } = Lost::new(2, 0).await;
    drop(running);
    drop(Running::again(directory.path()).await);
    let path = directory.path().join("audit.jsonl");
    let audit = AuditTarget::File(path.clone());
    let running = Running::of(Config { audit, ..config(directory.path()) }, Limits::default()).await;
    check_refused(&upload(&running, &[9; 32], &[]).await, "another one");
    for (share, party) in shares.iter().zip(parties()) {
        assert_eq!(upload(&running, share, &party.sign(share)).await.status, 200);
    }
    // The stream has a thread of its own.
    let lines = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("state recovered") {
                break text;
            }
            tokio::task::yield_now().await;
        }
    });
    let lines = lines.await.unwrap();
    let actions: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| format!("{} {} {}", line["kind"], line["action"], line["details"]["remaining"]))
        .filter(|line| line.contains("recover"))
        .collect();
    assert_eq!(
        actions,
        [
            r#""refused" "POST /api/v2/recover" null"#,
            r#""changed" "recovery secret accepted" "1""#,
            r#""changed" "state recovered" "0""#,
        ],
        "{lines}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_come_at_the_same_time_all_count_once() {
    let lost = Arc::new(Lost::new(5, 0).await);
    let uploads: Vec<_> = (0..5)
        .flat_map(|party| [Some(party), None, Some(party)])
        .map(|party| {
            let lost = Arc::clone(&lost);
            tokio::spawn(async move {
                match party {
                    Some(party) => lost.upload_encrypted(party).await,
                    None => upload(&lost.running, &[1; 32], &[]).await,
                }
            })
        })
        .collect();
    let mut remaining = Vec::new();
    for upload in uploads {
        let answer = upload.await.unwrap();
        if answer.status == 200 {
            remaining.push(answer.data()["remaining"].as_u64().unwrap());
        } else {
            assert!(answer.status == 500 || answer.status == 400 && code(&lost.running).await == 3, "{}", answer.text);
        }
    }
    remaining.sort_unstable();
    assert_eq!(remaining, [0, 1, 2, 3, 4]);
    Arc::into_inner(lost).unwrap().check_recovered().await;
}

// rules: SET-4
#[tokio::test(flavor = "multi_thread")]
async fn of_a_new_manifest_and_a_recovery_exactly_one_wins() {
    for _ in 0..4 {
        let lost = Lost::new(1, 0).await;
        let other = manifest(2, 0);
        let (recovered, replaced) = tokio::join!(lost.upload(0), lost.running.ask("POST", "/manifest", other.clone()));
        let replaced_folder = lost.directory.path().join("replaced-1");
        match (recovered.status.as_u16(), replaced.status.as_u16()) {
            (200, 400) => {
                assert!(!replaced_folder.exists());
                lost.check_recovered().await;
            }
            (500, 200) => {
                assert!(replaced_folder.join(RECOVERY_FILE).exists());
                let Lost { running, directory, .. } = lost;
                assert_eq!(upload(&running, &[1; 32], &[]).await.status, 500);
                assert_eq!(running.get(PUBLIC_KEY).await.status, 500);
                let running = again_without(running, directory.path(), &[]).await;
                let set = running.get("/api/v2/manifest").await.data()["manifest"].clone();
                assert_eq!(STANDARD.decode(set.as_str().unwrap()).unwrap(), other.as_bytes());
            }
            other => panic!("{other:?}: {} {}", recovered.text, replaced.text),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_recovery_file_is_reported_and_a_new_manifest_still_works() {
    for (content, expected) in [
        (None, "sealed_recovery is missing; restore sealed_recovery from a backup"),
        (Some(&b"MRRECOVR"[..]), "sealed_recovery is malformed at offset 8"),
        (Some(b"something"), "sealed_recovery does not start with the marker"),
    ] {
        let Lost { running, directory, shares, .. } = Lost::new(1, 0).await;
        let running = again_without(running, directory.path(), &[RECOVERY_FILE]).await;
        let running = match content {
            None => running,
            Some(content) => {
                std::fs::write(directory.path().join(RECOVERY_FILE), content).unwrap();
                again_without(running, directory.path(), &[]).await
            }
        };
        let answer = upload(&running, &shares[0], &parties()[0].sign(&shares[0])).await;
        check_refused(&answer, expected);
        assert_eq!(code(&running).await, 1);
        running.set_manifest().await;
        assert_eq!(code(&running).await, 3);
    }
}

/// The host exchanges the parties' keys in the file for its own: it still has no share, and a real one then is of no
/// use, because the file is proven together with the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_file_with_other_keys_opens_nothing() {
    let Lost { running, directory, shares, before } = Lost::new(1, 0).await;
    let path = directory.path().join(RECOVERY_FILE);
    let file = std::fs::read(&path).unwrap();
    let (party, stranger) = (&parties()[0], stranger());
    let at = file.windows(294).position(|window| window == party.public()).unwrap();
    let mut changed = file.clone();
    changed[at..at + 294].copy_from_slice(&stranger.public());
    std::fs::write(&path, changed).unwrap();
    let running = again_without(running, directory.path(), &[]).await;
    let answer = upload(&running, &shares[0], &stranger.sign(&shares[0])).await;
    check_refused(&answer, "sealed_recovery does not open with this recovery key");
    assert!(!directory.path().join(KEY_FILE).exists());
    // With the file from a backup, the parties go on.
    std::fs::write(&path, file).unwrap();
    let running = again_without(running, directory.path(), &[]).await;
    let lost = Lost { running, directory, shares, before };
    Lost::check_remaining(&lost.upload(0).await, 0);
    lost.check_recovered().await;
}

/// Whoever owns the disk can make a whole state, sealed to a recovery key of their own, around the manifest of others.
// rules: STA-3.8
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_made_up_is_not_served_without_the_signatures_of_the_parties_in_its_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let (share, key) = (vec![5; 32], SecretBytes::new(vec![5; 32]));
    let public = RecoveryShare {
        public_key: stranger().public(),
        share_hash: digest(&SHA256, &share).as_ref().try_into().unwrap(),
    };
    let recipient = RecoveryRecipient::new(key, RecoveryScheme::Single, vec![public]).unwrap();
    let trust = Trust::new(&TrustClass::Simulation, None).unwrap().context();
    let keys = Arc::new(FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16])));
    let Opened::New(new) = open_directory(directory.path(), keys, trust).unwrap() else { panic!("expected nothing") };
    // 2026-02-01.
    let now = Timestamp::from_millis(1_769_904_000_000);
    let genesis = Genesis::create(&AltNames::from_list("localhost"), now).unwrap();
    let prepared = prepare(&Deployed::from_genesis(&genesis).unwrap(), manifest(1, 0).as_bytes(), now).unwrap();
    let fingerprint = digest(&SHA256, &prepared.record.raw).as_ref().try_into().unwrap();
    let recovery = RecipientChange::to(Some(recipient), ManifestFingerprint::from_bytes(fingerprint));
    let records = [Record::Genesis(genesis), Record::ManifestSet(prepared.record)].map(|record| record.encode());
    let options = CommitOptions { mode: SealMode::default(), recovery };
    drop(new.create(options, &records.each_ref().map(SecretBytes::expose)).unwrap());
    std::fs::remove_file(directory.path().join(KEY_FILE)).unwrap();
    let data = std::fs::read(directory.path().join(DATA_FILE)).unwrap();

    let running = Running::again(directory.path()).await;
    let answer = upload(&running, &share, &stranger().sign(&share)).await;
    check_refused(&answer, "the state opens, but not all who have to agreed");
    assert_eq!(code(&running).await, 1);
    assert!(!directory.path().join(KEY_FILE).exists(), "nothing was written");
    assert_eq!(std::fs::read(directory.path().join(DATA_FILE)).unwrap(), data);
}
