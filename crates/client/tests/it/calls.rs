//! What works.

use marblerun_client::{Client, Coordinator, NonceChoice, Timeouts};

use crate::fake::{self, Fake, Identity, Script};
use crate::{address, attest, policy, policy_with_directory};

#[tokio::test]
async fn a_good_coordinator_is_attested_and_then_pinned() {
    let fake = Fake::start(Script { recovery_secrets: vec![("ops", b"secret")], ..Script::new() });
    let attested = attest(&fake, &policy(&fake)).await.unwrap();
    assert_eq!(attested.chain().root(), fake.script().identity.root);
    let statement = attested.statement().unwrap();
    assert_eq!((statement.deployment.as_str(), statement.trust_class.as_str()), ("d0", "software"));
    assert_eq!(statement.log_head.as_ref().unwrap().sequence, 2);

    let client = Client::pinned_to(address(&fake), attested.chain().root(), Timeouts::default()).unwrap();
    assert_eq!(client.status().await.unwrap().code, 2);
    let outcome = client.set_manifest(b"{ }\n").await.unwrap();
    assert_eq!(outcome.recovery_secrets["ops"], b"secret");
    assert_eq!(client.status().await.unwrap().code, 3);
    let manifest = client.manifest().await.unwrap();
    assert_eq!(manifest.manifest, b"{ }\n");
    let requests = fake.requests();
    assert_eq!(requests[0], "GET /api/v2/quote");
    assert!(requests.iter().all(|request| request.contains("/api/v2/")), "{requests:?}");
}

// rules: CLI-4
#[tokio::test]
async fn an_old_coordinator_is_attested_over_version_1() {
    let fake = Fake::start(Script { is_old: true, covered_statement: None, ..Script::new() });
    let attested = attest(&fake, &policy_with_directory(&fake)).await.unwrap();
    assert_eq!(attested.statement(), None);
    let client = Client::pinned_to(address(&fake), attested.chain().root(), Timeouts::default()).unwrap();
    client.set_manifest(b"{}").await.unwrap();
    assert_eq!(client.manifest().await.unwrap().manifest, b"{}");
    assert_eq!(client.status().await.unwrap().code, 3);
    let expected = ["/quote", "/manifest", "/manifest", "/status"];
    for (pair, path) in fake.requests().chunks(2).zip(expected) {
        assert!(pair[0].ends_with(&format!("/api/v2{path}")) && pair[1].ends_with(&format!(" {path}")), "{pair:?}");
    }
}

// rules: ATT-2
#[tokio::test]
async fn a_given_nonce_is_covered() {
    let fake = Fake::start(Script::new());
    let coordinator = Coordinator::new(address(&fake), Timeouts::default());
    let nonce = NonceChoice::Given(b"hello".to_vec());
    coordinator.attest(&policy(&fake), nonce, fake::now()).await.unwrap();
}

#[tokio::test]
async fn the_collateral_directory_goes_before_what_the_coordinator_sends() {
    let fake = Fake::start(Script { offers_collateral: false, ..Script::new() });
    attest(&fake, &policy_with_directory(&fake)).await.unwrap();
}

#[tokio::test]
async fn what_the_coordinator_sends_stands_in_for_an_empty_directory() {
    let fake = Fake::start(Script::new());
    let policy = policy_with_directory(&fake);
    std::fs::remove_dir_all(fake.script().tee.bundle().join("dcap")).unwrap();
    std::fs::create_dir(fake.script().tee.bundle().join("dcap")).unwrap();
    attest(&fake, &policy).await.unwrap();
}

// rules: CLI-5
#[tokio::test]
async fn a_root_is_accepted_for_the_names_that_it_carries() {
    let names = "mesh_coordinator,localhost";
    let fake = Fake::start(Script { identity: Identity::new(names, fake::now()), ..Script::new() });
    let root = fake.script().identity.root.clone();
    for host in ["localhost", "127.0.0.1"] {
        let address = marblerun_client::Address::parse(&format!("{host}:{}", fake.port())).unwrap();
        Client::pinned_to(address, &root, Timeouts::default()).unwrap().status().await.unwrap();
    }
}
