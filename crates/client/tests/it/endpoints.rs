//! Every endpoint, in both versions of the API.

use std::collections::BTreeMap;

use marblerun_api::rest::{
    self, AcknowledgeAnswer, CounterAnswer, MessageAnswer, PendingUpdateAnswer, RecoverAnswer, RecoveryKeyAnswer,
    Secret, SignQuoteAnswer, UpdateAnswer, UpdateLogAnswer,
};
use marblerun_attestation::TcbStatus;
use marblerun_client::{Client, ClientError, SecretBytes, Timeouts, UserSecretValue};

use crate::fake::{Fake, Script};
use crate::{address, text};

fn client(fake: &Fake) -> Client {
    Client::pinned_to(address(fake), &fake.script().identity.root, Timeouts::default()).unwrap()
}

fn new(canned: Vec<(&'static str, u16, String)>) -> Fake {
    Fake::start(Script { canned, ..Script::new() })
}

/// Knows version 1 only.
fn old(canned: Vec<(&'static str, u16, String)>) -> Fake {
    Fake::start(Script { canned, is_old: true, ..Script::new() })
}

fn users(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

const LINES: [&str; 2] = [
    r#"{"time":"2026-02-01T09:30:00.125Z","update":"Initial manifest set"}"#,
    r#"{"time":"2026-02-02T09:30:00.125Z","update":"SecurityVersion increased","user":"ann","package":"web","new version":7}"#,
];

// rules: CLI-4
#[tokio::test]
async fn the_update_log_is_read_in_both_versions() {
    let answer = UpdateLogAnswer { update_log: LINES.map(str::to_owned).to_vec() };
    for (fake, requests) in [
        (new(vec![("GET /api/v2/update", 200, answer.to_v2())]), vec!["GET /api/v2/update"]),
        (old(vec![("GET /update", 200, answer.to_v1())]), vec!["GET /api/v2/update", "GET /update"]),
    ] {
        let log = client(&fake).update_log().await.unwrap();
        assert_eq!(log.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), LINES);
        assert_eq!((log[1].user.as_deref(), log[1].new_version), (Some("ann"), Some(7)));
        assert_eq!(fake.requests(), requests);
    }
}

#[tokio::test]
async fn a_log_that_is_none_is_refused() {
    let long = format!(r#"{{"update":"{}"}}"#, "a".repeat(4 << 20));
    for line in ["not JSON".to_owned(), long] {
        let answer = UpdateLogAnswer { update_log: vec![line] };
        let fake = new(vec![("GET /api/v2/update", 200, answer.to_v2())]);
        let error = client(&fake).update_log().await.unwrap_err();
        assert!(matches!(error, ClientError::AnswerData { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_update_says_who_is_missing_and_gives_new_recovery_secrets() {
    let pending =
        UpdateAnswer { missing_acknowledgments: 1, missing_users: users(&["ben", "cy"]), ..UpdateAnswer::default() };
    let fake = new(vec![("POST /api/v2/update", 200, pending.to_v2())]);
    let outcome = client(&fake).apply_update(b"{ }").await.unwrap();
    assert!(!outcome.is_applied());
    assert_eq!((outcome.missing_acknowledgments, outcome.missing_users), (1, vec!["ben".to_owned(), "cy".to_owned()]));
    let seen = fake.last();
    assert_eq!(
        (seen.body.as_slice(), seen.content_type.as_deref()),
        (&b"{\"manifest\":\"eyB9\"}"[..], Some("application/json"))
    );

    let secrets: BTreeMap<_, _> = [("ops".to_owned(), vec![1, 2])].into();
    let applied = UpdateAnswer { recovery_secrets: Some(secrets.clone()), ..UpdateAnswer::default() };
    fake.script().canned = vec![("POST /api/v2/update", 200, applied.to_v2())];
    let outcome = client(&fake).apply_update(b"{ }").await.unwrap();
    assert!(outcome.is_applied());
    assert_eq!(outcome.recovery_secrets, secrets);

    // MarbleRun before v1.8.0.
    fake.script().canned = vec![("POST /api/v2/update", 200, rest::success_without_data())];
    assert!(client(&fake).apply_update(b"{ }").await.unwrap().is_applied());
}

// rules: CLI-4
#[tokio::test]
async fn an_update_over_version_1_finds_out_whether_it_waits() {
    let done = ("POST /update", 200, UpdateAnswer::default().to_v1());
    let fake = old(vec![done.clone(), ("GET /update-manifest", 404, rest::error("no update in progress"))]);
    assert!(client(&fake).apply_update(b"{ }").await.unwrap().is_applied());
    assert_eq!(fake.requests()[..2], ["POST /api/v2/update", "POST /update"]);

    let waiting = PendingUpdateAnswer::new(b"{ }".to_vec(), 2, users(&["ben", "cy"]));
    fake.script().canned = vec![done.clone(), ("GET /update-manifest", 200, waiting.to_body())];
    let outcome = client(&fake).apply_update(b"{ }").await.unwrap();
    assert_eq!((outcome.missing_acknowledgments, outcome.missing_users.len()), (2, 2));
    // Somebody else's.
    assert!(client(&fake).apply_update(b"{}").await.unwrap().is_applied());

    // Who cannot tell must not say that it is in force.
    fake.script().canned = vec![done, ("GET /update-manifest", 500, rest::error("later"))];
    let error = client(&fake).apply_update(b"{ }").await.unwrap_err();
    assert_eq!(error.status(), Some(500), "{error}");

    let none = ("GET /update-manifest", 404, rest::error("no update in progress"));
    fake.script().canned = vec![("POST /update", 400, rest::error("no")), none];
    let error = client(&fake).apply_update(b"{ }").await.unwrap_err();
    assert_eq!(error.status(), Some(400), "{error}");
}

// rules: CLI-4
#[tokio::test]
async fn an_acknowledgement_is_counted_in_both_versions() {
    for missing in [0, 1, 3] {
        let answer = AcknowledgeAnswer {
            missing_acknowledgments: missing,
            missing_users: if missing == 0 { None } else { users(&["ben"]) },
            ..AcknowledgeAnswer::default()
        };
        let fake = new(vec![("POST /api/v2/update-manifest", 200, answer.to_v2())]);
        let outcome = client(&fake).acknowledge_update(b"{}").await.unwrap();
        assert_eq!((outcome.missing_acknowledgments, outcome.is_applied()), (missing, missing == 0));
        let fake = old(vec![("POST /update-manifest", 200, answer.to_v1())]);
        let outcome = client(&fake).acknowledge_update(b"{}").await.unwrap();
        assert_eq!((outcome.missing_acknowledgments, outcome.missing_users), (missing, Vec::new()));
        assert_eq!(fake.last().body, b"{}");
    }
    let fake = old(vec![("POST /update-manifest", 200, rest::success("Perhaps"))]);
    let error = client(&fake).acknowledge_update(b"{}").await.unwrap_err();
    assert!(matches!(error, ClientError::Words { ref got, .. } if got == "Perhaps"), "{error}");
}

// rules: CLI-4
#[tokio::test]
async fn cancelling_sends_nothing_but_the_request() {
    let answer = MessageAnswer { message: "Update successfully cancelled".to_owned() };
    for fake in [
        new(vec![("POST /api/v2/update-cancel", 200, answer.to_v2())]),
        old(vec![("POST /update-cancel", 200, answer.to_v1())]),
    ] {
        assert_eq!(client(&fake).cancel_update().await.unwrap(), answer.message);
        let seen = fake.last();
        assert_eq!((seen.body.len(), seen.content_type), (0, None));
    }
}

// rules: CLI-3
#[tokio::test]
async fn a_pending_update_is_read_or_its_absence_is_told_in_the_coordinators_words() {
    let waiting = PendingUpdateAnswer::new(b"{ }".to_vec(), 1, users(&["ben"]));
    for fake in [
        new(vec![("GET /api/v2/update-manifest", 200, waiting.to_body())]),
        old(vec![("GET /update-manifest", 200, waiting.to_body())]),
    ] {
        let pending = client(&fake).pending_update().await.unwrap();
        assert_eq!((pending.manifest.as_slice(), pending.missing_users), (&b"{ }"[..], vec!["ben".to_owned()]));
    }
    let fake = new(vec![("GET /api/v2/update-manifest", 404, rest::error("no update in progress"))]);
    let error = client(&fake).pending_update().await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(text(&error).contains("no update in progress"), "{error}");
}

// rules: CLI-4
#[tokio::test]
async fn secrets_are_read_in_both_versions() {
    let secret = || Secret {
        type_word: "plain".to_owned(),
        private: Some(SecretBytes::copy_from(b"hello")),
        ..Secret::default()
    };
    let secrets: BTreeMap<_, _> = [("a b".to_owned(), secret()), ("c".to_owned(), secret())].into();
    for fake in [
        new(vec![("GET /api/v2/secrets", 200, rest::encode_secrets_v2(&secrets))]),
        old(vec![("GET /secrets", 200, rest::encode_secrets_v1(&secrets))]),
    ] {
        let read = client(&fake).secrets(["a b", "c"]).await.unwrap();
        assert_eq!(fake.last().query, "s=a%20b&s=c");
        assert_eq!(read["a b"].private.as_ref().unwrap().expose(), b"hello");
        assert_eq!((read.len(), read["c"].type_word.as_str()), (2, "plain"));
    }
}

// rules: CLI-4
#[tokio::test]
async fn secrets_are_uploaded_in_both_versions() {
    let value = UserSecretValue { key: Some(SecretBytes::copy_from(b"hello")), ..UserSecretValue::default() };
    let secrets: BTreeMap<_, _> = [("token".to_owned(), value)].into();
    for (fake, body) in [
        (
            new(vec![("POST /api/v2/secrets", 200, rest::success_without_data())]),
            r#"{"secrets":{"token":{"Key":"aGVsbG8="}}}"#,
        ),
        (old(vec![("POST /secrets", 200, rest::success_without_data())]), r#"{"token":{"Key":"aGVsbG8="}}"#),
    ] {
        client(&fake).set_secrets(&secrets).await.unwrap();
        assert_eq!(String::from_utf8(fake.last().body).unwrap(), body);
    }
    let fake = new(vec![("POST /api/v2/secrets", 401, rest::fail("unauthorized user"))]);
    let error = client(&fake).set_secrets(&secrets).await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(text(&error).contains("unauthorized user"), "{error}");
}

#[tokio::test]
async fn recovery_sends_secret_and_signature() {
    let fake = new(vec![
        ("POST /api/v2/recover", 200, RecoverAnswer::new(2).to_v2()),
        (
            "GET /api/v2/recover/public-key",
            200,
            RecoveryKeyAnswer { algorithm: "RSA".to_owned(), ephemeral_public_key: vec![1, 2, 3] }.to_v2(),
        ),
    ]);
    let answer = client(&fake).recover(&SecretBytes::copy_from(b"secret"), b"signature").await.unwrap();
    assert_eq!(answer.remaining, 2);
    let expected = r#"{"recoverySecret":"c2VjcmV0","recoverySecretSignature":"c2lnbmF0dXJl"}"#;
    assert_eq!(String::from_utf8(fake.last().body).unwrap(), expected);
    assert_eq!(client(&fake).recovery_public_key().await.unwrap(), [1, 2, 3]);
}

// rules: CLI-4
#[tokio::test]
async fn what_only_version_2_has_is_not_tried_over_version_1() {
    let secret = SecretBytes::copy_from(b"secret");
    for call in 0..4 {
        let fake = old(Vec::new());
        let client = client(&fake);
        let error = match call {
            0 => client.recover(&secret, b"").await.unwrap_err(),
            1 => client.recovery_public_key().await.unwrap_err(),
            2 => client.sign_quote(b"quote").await.unwrap_err(),
            _ => client.raise_monotonic_counter("name", 1).await.unwrap_err(),
        };
        assert!(matches!(error, ClientError::NeedsVersion2 { .. }), "{error}");
        assert_eq!(fake.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_counter_gives_its_value_before() {
    let fake = new(vec![("POST /api/v2/monotonic-counter", 200, CounterAnswer { value: u64::MAX }.to_v2())]);
    assert_eq!(client(&fake).raise_monotonic_counter("db", 9).await.unwrap(), u64::MAX);
    assert_eq!(fake.last().body, br#"{"name":"db","value":9}"#);
}

// rules: SQ-1
#[tokio::test]
async fn the_verdict_on_a_quote_must_be_signed_by_the_root() {
    let fake = new(Vec::new());
    let sign = |quote: &[u8], tcb_status: &str| {
        let signed = SignQuoteAnswer::signed_text(quote, tcb_status);
        let verification_signature = fake.script().identity.key.sign_sha256(&signed).unwrap();
        SignQuoteAnswer { tcb_status: tcb_status.to_owned(), verification_signature }
    };
    let answer_with = |answer: SignQuoteAnswer| {
        fake.script().canned = vec![("POST /api/v2/sign-quote", 200, answer.to_v2())];
    };
    answer_with(sign(b"quote", "OutOfDate"));
    let signed = client(&fake).sign_quote(b"quote").await.unwrap();
    assert_eq!(signed.tcb_status, TcbStatus::OutOfDate);
    let root = fake.script().identity.root.clone();
    signed.verify(&root, b"quote").unwrap();
    assert!(matches!(signed.verify(&root, b"other"), Err(ClientError::QuoteSignature(_))));

    for wrong in [
        sign(b"other", "OutOfDate"),
        SignQuoteAnswer { tcb_status: "UpToDate".to_owned(), ..sign(b"quote", "OutOfDate") },
    ] {
        answer_with(wrong);
        let error = client(&fake).sign_quote(b"quote").await.unwrap_err();
        assert!(matches!(error, ClientError::QuoteSignature(_)), "{error}");
    }
    answer_with(sign(b"quote", "Unknown"));
    let error = client(&fake).sign_quote(b"quote").await.unwrap_err();
    assert!(matches!(error, ClientError::Words { .. }), "{error}");
}

#[tokio::test]
async fn the_reason_why_a_quote_is_not_genuine_is_part_of_the_error() {
    let answer = rest::fail_with_data("sgxQuote", "bad chain", "quote verification failed");
    let fake = new(vec![("POST /api/v2/sign-quote", 400, answer)]);
    let error = client(&fake).sign_quote(b"quote").await.unwrap_err();
    assert!(text(&error).contains(r#"quote verification failed {"sgxQuote":"bad chain"}"#), "{error}");
}

#[tokio::test]
async fn another_manifest_than_the_expected_one_is_told_apart() {
    let fake = Fake::start(Script { manifest: Some(b"{}".to_vec()), ..Script::new() });
    let fingerprint = marblerun_attestation::ReportDigest::of(b"{}").to_string();
    client(&fake).verify_manifest(&fingerprint).await.unwrap();
    let error = client(&fake).verify_manifest(&"00".repeat(32)).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherManifest { ref got, .. } if *got == fingerprint), "{error}");
}
