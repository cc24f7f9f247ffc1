//! What is refused, each with its reason.

use std::time::Duration;

use marblerun_api::rest::{self, MAX_ANSWER_BYTES};
use marblerun_attestation::TrustRoots;
use marblerun_client::{
    Address, AttestError, CertificateChain, ChainError, Client, ClientError, Coordinator, EraConfig, Evidence,
    MAX_ERA_CONFIG_BYTES, NonceChoice, Policy, Statement, Timeouts,
};
use marblerun_pki::{AltNames, CertificateRequest, Issuer, pem, profile, request};
use marblerun_software_tee::{CollateralOptions, Dates, EnclaveIdentity};
use rustls_pki_types::UnixTime;

use crate::fake::{self, ENCLAVE, Fake, Identity, Script};
use crate::{address, attest, policy, policy_with_directory, text};

#[track_caller]
fn reason(error: ClientError) -> AttestError {
    match error {
        ClientError::Attestation { source, .. } => *source,
        other => panic!("expected evidence to be refused, got {}", text(&other)),
    }
}

/// Attestation of a Coordinator that does as `script` says must fail.
async fn refused(script: Script) -> AttestError {
    let fake = Fake::start(script);
    let error = reason(attest(&fake, &policy(&fake)).await.unwrap_err());
    // Nothing but the quote was asked for.
    assert_eq!(fake.requests(), ["GET /api/v2/quote"]);
    error
}

#[tokio::test]
async fn a_simulated_coordinator_is_refused() {
    assert_eq!(refused(Script { is_simulated: true, ..Script::new() }).await, AttestError::NoQuote);
    let fake = Fake::start(Script::new());
    let mut evidence = attest(&fake, &policy(&fake)).await.unwrap().evidence().clone();
    evidence.answer.quote = Some(Vec::new());
    assert_eq!(reason(evidence.verify("file", &policy(&fake), fake::now()).unwrap_err()), AttestError::NoQuote);
}

#[tokio::test]
async fn another_measurement_is_refused_with_both_values() {
    let enclave = EnclaveIdentity { mr_enclave: [0xcc; 32], ..ENCLAVE };
    let error = text(&refused(Script { enclave, ..Script::new() }).await);
    let expected = format!(
        "the Coordinator is not the expected one: expected UniqueID {}, got {}",
        "aa".repeat(32),
        "cc".repeat(32)
    );
    assert_eq!(error, expected);
}

#[tokio::test]
async fn another_signer_and_a_debug_enclave_are_refused() {
    let signer = EnclaveIdentity { mr_signer: [0xcc; 32], ..ENCLAVE };
    assert!(text(&refused(Script { enclave: signer, ..Script::new() }).await).contains("expected SignerID"));
    let debug = EnclaveIdentity { debug: true, ..ENCLAVE };
    assert!(
        text(&refused(Script { enclave: debug, ..Script::new() }).await).contains("expected Debug false, got true")
    );
}

// rules: ATT-2
#[tokio::test]
async fn a_quote_that_does_not_cover_root_and_nonce_is_refused() {
    let error = refused(Script { wrong_nonce: true, ..Script::new() }).await;
    assert!(text(&error).contains("expected report data"), "{}", text(&error));
    let script = Script::new();
    let chain = Identity::new("localhost", fake::now()).chain();
    let error = refused(Script { chain: Some(chain), ..script }).await;
    assert!(text(&error).contains("expected report data"), "{}", text(&error));
}

// rules: R6
#[tokio::test]
async fn a_changed_a_missing_and_a_lying_statement_are_refused() {
    let changed = Script { statement: Some("{}".into()), ..Script::new() };
    assert_eq!(refused(changed).await, AttestError::StatementHash);
    assert_eq!(refused(Script { statement: None, ..Script::new() }).await, AttestError::StatementMissing);
    let lie = |text: &str| Script {
        statement: Some(text.to_owned()),
        covered_statement: Some(text.to_owned()),
        ..Script::new()
    };
    assert!(matches!(refused(lie("[]")).await, AttestError::Statement(_)));
    let error = refused(lie(r#"{"trustClass":"hardware"}"#)).await;
    assert!(matches!(error, AttestError::TrustClass { .. }), "{}", text(&error));
}

// rules: ATT-7.7
#[tokio::test]
async fn evidence_under_another_root_is_refused() {
    let fake = Fake::start(Script::new());
    let other = fake::Tee::new();
    for roots in [other.roots(), TrustRoots::hardware()] {
        let error = attest(&fake, &Policy { roots, ..policy(&fake) }).await.unwrap_err();
        assert!(matches!(reason(error), AttestError::Collateral(_)));
    }
}

#[tokio::test]
async fn missing_collateral_is_named_with_its_platform() {
    let error = refused(Script { offers_collateral: false, ..Script::new() }).await;
    assert!(text(&error).starts_with("no collateral for the Coordinator's platform "), "{}", text(&error));
}

#[tokio::test]
async fn a_fault_of_the_collateral_directory_is_not_hidden_by_what_the_coordinator_sends() {
    let fake = Fake::start(Script::new());
    let policy = policy_with_directory(&fake);
    for file in std::fs::read_dir(fake.script().tee.bundle().join("dcap")).unwrap() {
        std::fs::write(file.unwrap().path(), "garbage").unwrap();
    }
    let error = reason(attest(&fake, &policy).await.unwrap_err());
    assert!(matches!(error, AttestError::Lookup(_)), "{}", text(&error));
}

#[tokio::test]
async fn expired_collateral_is_refused_with_the_item() {
    let fake = Fake::start(Script { offers_collateral: false, ..Script::new() });
    let day = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(fake::now().as_secs() - days * 86_400));
    let dates = Dates { issued: day(2), next_update: day(1) };
    fake.script().tee.export(&CollateralOptions { tcb_info_dates: Some(dates), ..CollateralOptions::default() });
    let error = reason(attest(&fake, &policy_with_directory(&fake)).await.unwrap_err());
    assert!(matches!(error, AttestError::Lookup(_)), "{}", text(&error));
    assert!(text(&error).contains("out of date"), "{}", text(&error));
}

#[tokio::test]
async fn a_policy_without_identity_is_refused() {
    let fake = Fake::start(Script::new());
    let expected = EraConfig { product_id: Some(3), security_version: Some(3), ..EraConfig::default() };
    let error = attest(&fake, &Policy { expected, ..policy(&fake) }).await.unwrap_err();
    assert_eq!(reason(error), AttestError::NoIdentity);
}

// rules: ATT-5
#[tokio::test]
async fn tcb_statuses_that_are_not_in_the_list_are_refused() {
    let fake = Fake::start(Script { offers_collateral: false, ..Script::new() });
    let options = CollateralOptions { tcb_status: "OutOfDate".into(), ..CollateralOptions::default() };
    fake.script().tee.export(&options);
    let mut policy = policy_with_directory(&fake);
    let error = reason(attest(&fake, &policy).await.unwrap_err());
    assert!(text(&error).contains("invalid TCB status: OutOfDate"), "{}", text(&error));
    policy.expected.accepted_tcb_statuses = vec!["UpToDate".into(), "OutOfDate".into()];
    attest(&fake, &policy).await.unwrap();
}

// rules: ATT-7
#[tokio::test]
async fn a_foreign_intermediate_is_refused() {
    let script = Script::new();
    let foreign = Identity::new("localhost", fake::now());
    let chain =
        pem::encode(pem::CERTIFICATE, &foreign.intermediate) + &pem::encode(pem::CERTIFICATE, &script.identity.root);
    let fake = Fake::start(Script { chain: Some(chain), ..script });
    let error = text(&attest(&fake, &policy(&fake)).await.unwrap_err());
    assert!(error.contains("intermediate certificate is not signed by its root certificate"), "{error}");
}

#[tokio::test]
async fn a_chain_that_is_none_is_refused() {
    let pem = |der: &[u8]| pem::encode(pem::CERTIFICATE, der);
    let check = async |chain: &dyn Fn(&Identity) -> String, expected: &str| {
        let script = Script::new();
        let fake = Fake::start(Script { chain: Some(chain(&script.identity)), ..script });
        let error = text(&attest(&fake, &policy(&fake)).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    check(&|identity| pem(&identity.root), "expected intermediate and root certificate").await;
    check(&|_| "no PEM".to_owned(), "is not PEM").await;
    check(&|identity| pem(b"\x30\x00") + &pem(&identity.root), "intermediate certificate cannot be read").await;
    let stranger = Identity::new("localhost", fake::now()).key;
    let self_signed = profile::marble_root_certificate(&stranger, &AltNames::default(), fake::now()).unwrap();
    check(&|identity| pem(&self_signed) + &pem(&identity.root), "was not issued by its root certificate").await;
    check(
        &|identity| {
            let request = request::premain_request(&identity.key, &AltNames::default()).unwrap();
            let request = CertificateRequest::parse_and_verify(&request).unwrap();
            let issuer = Issuer::new(&identity.root, &identity.key).unwrap();
            let key = identity.key.public_key_der();
            let leaf = profile::marble_certificate(&issuer, &request, "u", "m", key, fake::now()).unwrap();
            pem(&leaf) + &pem(&identity.root)
        },
        "is not one of a CA",
    )
    .await;
}

#[test]
fn a_chain_that_has_expired_is_refused() {
    let chain = Identity::new("localhost", fake::now()).chain();
    let far = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    let error = CertificateChain::parse_and_verify(chain.as_bytes(), far).unwrap_err();
    assert!(matches!(error, ChainError::Expired { .. }), "{error}");
}

// rules: ATT-1
#[tokio::test]
async fn a_proxy_that_terminates_tls_is_noticed_at_once() {
    let proxy = Identity::new("localhost", fake::now());
    assert_eq!(refused(Script { proxy: Some((0, proxy)), ..Script::new() }).await, AttestError::ServerNotTheRoot);
}

// rules: ATT-1
#[tokio::test]
async fn a_server_with_another_certificate_gets_no_request() {
    let proxy = Identity::new("localhost", fake::now());
    let fake = Fake::start(Script { proxy: Some((1, proxy)), ..Script::new() });
    let attested = attest(&fake, &policy(&fake)).await.unwrap();
    let client = Client::pinned_to(address(&fake), attested.chain().root(), Timeouts::default()).unwrap();
    let error = client.set_manifest(b"{}").await.unwrap_err();
    assert!(text(&error).contains("is not the Coordinator's attested root certificate"), "{}", text(&error));
    assert!(error.hint().unwrap().contains("proxy"));
    assert_eq!(fake.requests(), ["GET /api/v2/quote"]);
}

// rules: ATT-1
#[tokio::test]
async fn a_server_that_shows_the_root_without_its_key_gets_no_request() {
    let script = Script::new();
    let root = script.identity.root.clone();
    let thief = Identity { root: root.clone(), ..Identity::new("localhost", fake::now()) };
    let fake = Fake::start(Script { proxy: Some((0, thief)), ..script });
    let error = attest(&fake, &policy(&fake)).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{}", text(&error));
    let error = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap().status().await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{}", text(&error));
    assert!(fake.requests().is_empty());
}

// rules: CLI-5
#[tokio::test]
async fn a_name_that_the_root_does_not_carry_is_refused() {
    let fake = Fake::start(Script { identity: Identity::new("coordinator.example", fake::now()), ..Script::new() });
    let root = fake.script().identity.root.clone();
    let address = Address::parse(&format!("localhost:{}", fake.port())).unwrap();
    let error = text(&Client::pinned_to(address, &root, Timeouts::default()).unwrap().status().await.unwrap_err());
    let expected = "valid for coordinator.example, 127.0.0.1, ::1, not for localhost";
    assert!(error.contains(expected), "{error}");
}

#[tokio::test]
async fn a_root_that_is_not_valid_yet_is_refused() {
    let tomorrow = UnixTime::since_unix_epoch(Duration::from_secs(fake::now().as_secs() + 86_400));
    let fake = Fake::start(Script { identity: Identity::new("localhost", tomorrow), ..Script::new() });
    let root = fake.script().identity.root.clone();
    let client = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap();
    assert!(text(&client.status().await.unwrap_err()).contains("certificate is valid from"));
    assert!(text(&attest(&fake, &policy(&fake)).await.unwrap_err()).contains("root certificate is valid from"));
}

// rules: CLI-4
#[tokio::test]
async fn a_nonce_needs_version_2() {
    let fake = Fake::start(Script { is_old: true, ..Script::new() });
    let coordinator = Coordinator::new(address(&fake), Timeouts::default());
    let error = coordinator.attest(&policy(&fake), NonceChoice::Given(b"n".to_vec()), fake::now()).await.unwrap_err();
    assert!(matches!(error, ClientError::NonceNeedsVersion2 { .. }), "{}", text(&error));
    assert_eq!(fake.requests(), ["GET /api/v2/quote"]);
}

#[tokio::test]
async fn a_manifest_that_the_root_did_not_sign_is_refused() {
    let check = async |script: Script, expected: &str| {
        let fake = Fake::start(Script { manifest: Some(b"{}".to_vec()), ..script });
        let root = fake.script().identity.root.clone();
        let client = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap();
        let error = text(&client.manifest().await.unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    check(Script { fingerprint: Some("00".into()), ..Script::new() }, "expected a manifest with the reported").await;
    let foreign = Identity::new("localhost", fake::now()).key.sign_sha256(b"{}").unwrap();
    check(Script { manifest_signature: Some(foreign), ..Script::new() }, "signature does not verify").await;
}

// rules: CLI-3
#[tokio::test]
async fn the_coordinators_words_are_part_of_the_error() {
    let fake = Fake::start(Script { refusal: Some("server is not in expected state"), ..Script::new() });
    let root = fake.script().identity.root.clone();
    let client = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap();
    let error = text(&client.set_manifest(b"{}").await.unwrap_err());
    let expected = format!(
        "POST https://{}/api/v2/manifest was refused with 500 Internal Server Error: error: server is not in expected \
         state",
        fake.address()
    );
    assert_eq!(error, expected);
}

#[tokio::test]
async fn an_old_coordinator_without_manifest_is_told_so() {
    let fake = Fake::start(Script { is_old: true, ..Script::new() });
    let root = fake.script().identity.root.clone();
    let client = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap();
    assert!(matches!(client.manifest().await.unwrap_err(), ClientError::NoManifest { .. }));
}

#[tokio::test]
async fn a_server_that_is_no_coordinator_is_told_so() {
    let fake = Fake::start(Script { garbage: Some("<html>"), ..Script::new() });
    let error = attest(&fake, &policy(&fake)).await.unwrap_err();
    assert!(matches!(error, ClientError::NotACoordinator { status: 200, .. }), "{}", text(&error));
}

// rules: CLI-9
#[tokio::test]
async fn a_coordinator_that_does_not_answer_is_given_up() {
    let fake = Fake::start(Script { delay: Duration::from_secs(600), ..Script::new() });
    let timeouts = Timeouts { total: Duration::from_millis(300), ..Timeouts::default() };
    let coordinator = Coordinator::new(address(&fake), timeouts);
    let error = coordinator.attest(&policy(&fake), NonceChoice::Fresh, fake::now()).await.unwrap_err();
    assert_eq!(text(&error), format!("no answer from {} within 0.3 s", fake.address()));
    assert!(error.hint().unwrap().starts_with("what was asked for may have been done nevertheless"));
}

// rules: CLI-9
#[tokio::test]
async fn a_server_that_does_not_shake_hands_is_given_up_before_the_time_for_the_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let timeouts = Timeouts { connect: Duration::from_millis(100), total: Duration::from_secs(20) };
    let coordinator = Coordinator::new(Address::parse(&address.to_string()).unwrap(), timeouts);
    let error = coordinator.dangerous_fetch_unverified(NonceChoice::Fresh, fake::now()).await.unwrap_err();
    assert_eq!(text(&error), format!("no connection from {address} within 0.1 s"));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let long = "x".repeat(MAX_ANSWER_BYTES + 1);
    let fake = Fake::start(Script { canned: vec![("GET /api/v2/status", 200, long)], ..Script::new() });
    let root = fake.script().identity.root.clone();
    let client = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::AnswerTooLong { max: MAX_ANSWER_BYTES, .. }), "{}", text(&error));
}

#[test]
fn what_a_coordinator_says_of_collateral_past_its_date_is_read() {
    let age = |text: &str| Statement::parse(text).unwrap().max_collateral_age_seconds;
    assert_eq!((age(r#"{"maxCollateralAgeSeconds":86400}"#), age("{}")), (Some(86_400), None));
    assert!(Statement::parse(r#"{"maxCollateralAgeSeconds":"long"}"#).is_err());
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let padded = |text: &str, length: usize| format!("{text}{}", " ".repeat(length - text.len()));
    let check = |parses: &dyn Fn(&str) -> bool, text: &str, max: usize| {
        assert_eq!((parses(&padded(text, max)), parses(&padded(text, max + 1))), (true, false), "{text}");
    };
    check(&|text| Statement::parse(text).is_ok(), "{}", 64 * 1024);
    check(&|text| EraConfig::parse(text.as_bytes()).is_ok(), r#"{"UniqueID":"cd"}"#, MAX_ERA_CONFIG_BYTES);
    check(&|text| Evidence::parse(text.as_bytes()).is_ok(), "{}", MAX_ANSWER_BYTES);
}

// rules: CLI-3
#[tokio::test]
async fn who_is_no_user_is_told_which_certificate_is_meant() {
    let canned = vec![("POST /api/v2/update-cancel", 401, rest::error("unauthorized user"))];
    let fake = Fake::start(Script { canned, ..Script::new() });
    let root = fake.script().identity.root.clone();
    let client = Client::pinned_to(address(&fake), &root, Timeouts::default()).unwrap();
    let error = client.cancel_update().await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{}", text(&error));
    assert_eq!((error.status(), error.hint().is_some()), (Some(401), true));
}

#[tokio::test]
async fn a_port_without_tls_and_a_closed_port_are_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let plain = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    });
    let attest = async |address: std::net::SocketAddr| {
        let coordinator = Coordinator::new(Address::parse(&address.to_string()).unwrap(), Timeouts::default());
        coordinator.dangerous_fetch_unverified(NonceChoice::Fresh, fake::now()).await.unwrap_err()
    };
    let error = attest(open).await;
    assert_eq!(text(&error), format!("TLS handshake with {open} failed: the server does not speak TLS"));
    plain.join().unwrap();
    let error = attest(open).await;
    assert!(matches!(error, ClientError::Connect { .. }), "{}", text(&error));
    assert!(text(&error).contains("Connection refused"), "{}", text(&error));
}
