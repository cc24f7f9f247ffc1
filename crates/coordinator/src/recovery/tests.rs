#![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_coordinator_core::set_manifest::prepare;
use marblerun_pki::{AltNames, pem};
use marblerun_sealing::{ManifestFingerprint, RecoveryRecipient, RecoveryShare, SealMode};
use marblerun_storage::{CommitOptions, KEY_FILE, Opened, RECOVERY_FILE, RecipientChange, open_directory};
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::clock::now;
use crate::manifest_setter::{ManifestSetter, sealed_fingerprint};
use crate::seal_keys::TeeSealKeys;
use crate::tls::Listeners;
use crate::trust::Trust;
use crate::writer;

const OTHER_MANIFEST: &[u8] = br#"{"Packages":{"p":{"SignerID":"00","ProductID":1,"SecurityVersion":1}},
    "Marbles":{"m":{"Package":"p"}}}"#;

/// A manifest that is not in force.
const OTHER: ManifestFingerprint = ManifestFingerprint::from_bytes([9; 32]);

/// What `sealed_recovery` says of the manifest in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Right,
    /// An earlier manifest, unlike the log.
    Outdated,
    /// Another one, and so does the log: only a faulty Coordinator writes that.
    Wrong,
}

/// A Coordinator without listeners whose state waits for the secret of one party.
struct Waiting {
    recoverer: Arc<Recoverer>,
    setter: ManifestSetter,
    share: SecretBytes,
    signature: Vec<u8>,
    root: Vec<u8>,
    fingerprint: String,
    /// How many secrets were still missing after each that was taken.
    told: Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Waiting {
    /// Has to be called in a runtime.
    fn new(directory: &Path) -> Self {
        Self::told(directory, Told::Right)
    }

    fn told(directory: &Path, told: Told) -> Self {
        let trust = Arc::new(Trust::Simulation);
        let tee = Arc::new(marblerun_tee::detect(Some("1")).unwrap());
        let keys = Arc::new(TeeSealKeys(Arc::clone(&tee)));
        let open = || open_directory(directory, Arc::clone(&keys) as _, trust.context()).unwrap();

        let party = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public: PublicKeyX509Der<'_> = party.public_key().as_der().unwrap();
        let names = AltNames::from_list("localhost");
        let genesis = Genesis::create(&names, now()).unwrap();
        let root = genesis.root_certificate.clone();
        let manifest = serde_json::json!({
            "Packages": {"p": {"SignerID": "00", "ProductID": 1, "SecurityVersion": 1}},
            "Marbles": {"m": {"Package": "p"}},
            "RecoveryKeys": {"ops": pem::encode("PUBLIC KEY", public.as_ref())},
        });
        let identity = Identity::from_genesis(&genesis).unwrap();
        let prepared = prepare(&identity, manifest.to_string().as_bytes(), now()).unwrap();
        let secrets = prepared.recovery.unwrap();
        let share = secrets.key.duplicate();
        let public = secrets.shares.into_iter();
        let public = public.map(|share| RecoveryShare { public_key: share.public_key, share_hash: share.hash });
        let recipient = RecoveryRecipient::new(secrets.key, RecoveryScheme::Single, public.collect()).unwrap();
        let fingerprint = marblerun_manifest::fingerprint(&prepared.record.raw);
        let right = sealed_fingerprint(&fingerprint);
        let (first, last) = match told {
            Told::Right => (right, right),
            Told::Outdated => (OTHER, right),
            Told::Wrong => (OTHER, OTHER),
        };
        let options = |recovery| CommitOptions { mode: SealMode::default(), recovery };
        let records = [Record::Genesis(genesis), Record::ManifestSet(prepared.record)].map(|record| record.encode());
        let Opened::New(new) = open() else { panic!("expected an empty directory") };
        let recovery = RecipientChange::to(Some(recipient), first);
        let mut log = new.create(options(recovery), &[records[0].expose()]).unwrap();
        let outdated = std::fs::read(directory.join(RECOVERY_FILE)).unwrap();
        let recovery = RecipientChange::Keep { manifest: last };
        log.commit_with(options(recovery), &[records[1].expose()]).unwrap();
        drop(log);
        if told == Told::Outdated {
            std::fs::write(directory.join(RECOVERY_FILE), outdated).unwrap();
        }
        std::fs::remove_file(directory.join(KEY_FILE)).unwrap();

        let Opened::Recovery(recovery) = open() else { panic!("expected recovery") };
        let genesis = Genesis::create(&names, now()).unwrap();
        let ledger = Ledger::new(&genesis).unwrap();
        let backing = Backing::Recovery(Box::new(recovery), genesis);
        let view = SharedView::new(writer::view(&ledger, &backing));
        let collection = Collection::of(&backing);
        let writer = writer::start(ledger, backing, view.clone(), Listeners::new().unwrap()).unwrap();
        let quoter = Arc::new(Quoter::new(tee, trust, view.clone()).unwrap());
        let setter = ManifestSetter::new(view.clone(), writer.clone(), Arc::clone(&quoter));
        let recoverer = Arc::new(Recoverer::new(view, writer, quoter, collection));

        let mut signature = vec![0; party.public_modulus_len()];
        party.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), share.expose(), &mut signature).unwrap();
        Self { recoverer, setter, share, signature, root, fingerprint, told: Arc::default() }
    }

    fn upload(&self) -> tokio::task::JoinHandle<Result<usize, UploadError>> {
        let recoverer = Arc::clone(&self.recoverer);
        let (share, signature) = (self.share.duplicate(), self.signature.clone());
        let told = Arc::clone(&self.told);
        let then = move |remaining| told.lock().unwrap().push(remaining);
        tokio::spawn(async move { recoverer.upload_then(share, signature, then).await })
    }

    fn upload_garbage(&self, length: usize) -> tokio::task::JoinHandle<Result<usize, UploadError>> {
        let recoverer = Arc::clone(&self.recoverer);
        tokio::spawn(async move { recoverer.upload(SecretBytes::new(vec![7; length]), Vec::new()).await })
    }

    fn status(&self) -> Status {
        self.recoverer.view.load().status()
    }

    /// The manifest of the state that waits, as a quote without nonce tells it.
    fn stated_manifest(&self) -> serde_json::Value {
        let answer = self.recoverer.quoter.answer(&[]).unwrap();
        let statement: serde_json::Value = serde_json::from_str(answer.statement.as_deref().unwrap()).unwrap();
        statement["recovering"]["manifestFingerprint"].clone()
    }

    async fn check_wiped(&self) {
        until(async || self.recoverer.key.private().is_none() && self.recoverer.collection.lock().await.is_none())
            .await;
        assert!(matches!(self.recoverer.public_key().await, Err(KeyError::NotInRecovery)));
        assert!(matches!(self.upload().await.unwrap(), Err(UploadError::NotInRecovery)));
        assert!(matches!(self.upload_garbage(512).await.unwrap(), Err(UploadError::Undecryptable { got: 512 })));
    }
}

/// Waits for a condition.
async fn until(condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), met).await.unwrap();
}

/// One thread for blocking work: what is given to it runs in order.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap()
}

/// Keeps the thread for blocking work busy until the sender is used.
fn occupy() -> mpsc::Sender<()> {
    let (free, held) = mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    free
}

#[test]
fn a_party_that_goes_away_has_still_given_its_secret() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let free = occupy();
        let waiting = Waiting::new(directory.path());
        let upload = waiting.upload();
        until(async || waiting.recoverer.collection.try_lock().is_err()).await;
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());
        assert_eq!(waiting.status(), Status::Recovery);
        free.send(()).unwrap();
        until(async || waiting.status() == Status::AcceptingMarbles).await;
        until(async || *waiting.told.lock().unwrap() == [0]).await;
        let root = pem::encode("CERTIFICATE", &waiting.root);
        assert!(
            waiting.recoverer.quoter.answer(&[]).unwrap().cert.ends_with(&root),
            "the quote is for the restored root"
        );
    });
}

#[test]
fn the_manifest_of_the_state_that_waits_is_told() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::new(directory.path());
        assert_eq!(waiting.stated_manifest(), waiting.fingerprint);
        assert_eq!(waiting.upload().await.unwrap().unwrap(), 0);
        assert!(waiting.stated_manifest().is_null(), "nothing waits any more");
    });
}

/// The party gave its secret for another manifest, so it is asked again.
#[test]
fn a_state_under_another_manifest_than_was_told_is_refused_and_told_better_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::told(directory.path(), Told::Outdated);
        assert_eq!(waiting.stated_manifest(), OTHER.to_string());
        let error = waiting.upload().await.unwrap().unwrap_err();
        let reason = report::chain(&error);
        let expected = format!("claimed that manifest {OTHER} is in force, but the log holds {}", waiting.fingerprint);
        assert!(reason.contains(&expected), "{reason}");
        assert_eq!(waiting.status(), Status::Recovery);
        assert_eq!(waiting.stated_manifest(), waiting.fingerprint);
        assert_eq!(waiting.upload().await.unwrap().unwrap(), 0);
    });
}

#[test]
fn a_state_whose_records_hold_another_manifest_than_was_told_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::told(directory.path(), Told::Wrong);
        let error = waiting.upload().await.unwrap().unwrap_err();
        let UploadError::NotRestored(RestoreError::Manifest { claimed, held }) = error else { panic!("{error:?}") };
        assert_eq!((claimed, held), (OTHER.to_string(), waiting.fingerprint.clone()));
        assert_eq!(waiting.status(), Status::Recovery);
        assert!(!directory.path().join(KEY_FILE).exists(), "nothing was written");
    });
}

#[test]
fn after_a_recovery_everything_secret_is_wiped() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::new(directory.path());
        waiting.recoverer.public_key().await.unwrap();
        assert_eq!(waiting.upload().await.unwrap().unwrap(), 0);
        waiting.check_wiped().await;
    });
}

#[test]
fn after_a_new_manifest_everything_secret_is_wiped() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::new(directory.path());
        waiting.recoverer.public_key().await.unwrap();
        waiting.setter.set(OTHER_MANIFEST.to_vec()).await.unwrap();
        waiting.check_wiped().await;
    });
}

#[test]
fn a_caller_that_hangs_up_keeps_its_place_until_its_decryption_is_done() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::new(directory.path());
        waiting.recoverer.public_key().await.unwrap();
        let places = || waiting.recoverer.key.free_places();
        let all = places();
        let free = occupy();
        let upload = waiting.upload_garbage(512);
        until(async || places() == all - 1).await;
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());
        assert_eq!(places(), all - 1);
        free.send(()).unwrap();
        until(async || places() == all).await;
    });
}

#[test]
fn what_cannot_be_a_ciphertext_takes_no_place() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let waiting = Waiting::new(directory.path());
        waiting.recoverer.public_key().await.unwrap();
        let free = occupy();
        let taken: Vec<_> = (0..waiting.recoverer.key.free_places()).map(|_| waiting.upload_garbage(512)).collect();
        until(async || waiting.recoverer.key.free_places() == 0).await;
        for length in [0, 15, 511, 513, 15000] {
            let refused = waiting.upload_garbage(length).await.unwrap();
            assert!(matches!(refused, Err(UploadError::Undecryptable { got }) if got == length), "{length}");
        }
        free.send(()).unwrap();
        for upload in taken {
            assert!(matches!(upload.await.unwrap(), Err(UploadError::Undecryptable { got: 512 })));
        }
    });
}

/// Nobody can have encrypted to a key that was not made yet.
// rules: EP-10
#[test]
fn a_ciphertext_before_the_key_is_made_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let free = occupy();
        let waiting = Waiting::new(directory.path());
        assert!(matches!(waiting.upload_garbage(512).await.unwrap(), Err(UploadError::Undecryptable { got: 512 })));
        free.send(()).unwrap();
        waiting.recoverer.public_key().await.unwrap();
    });
}
