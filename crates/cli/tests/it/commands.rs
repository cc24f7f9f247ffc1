//! Commands of users and recovery parties against a Coordinator that the tests play.

use std::os::unix::fs::PermissionsExt as _;

use marblerun_api::rest::{
    self, AcknowledgeAnswer, MessageAnswer, PendingUpdateAnswer, RecoverAnswer, RecoveryKeyAnswer, Secret,
    UpdateAnswer, UpdateLogAnswer,
};
use marblerun_pki::{AltNames, KeyPair, pem, profile};
use serde_json::{Value, json};

use crate::coordinator::{CACHE, SOFTWARE, place, run};
use crate::fake::{Fake, Script, now};
use crate::{Place, Run};

const USER: &str = "--cert ann.pem --key ann-key.pem";

/// A Coordinator with a cached root, and the credentials of a user.
struct Scene {
    fake: Fake,
    place: Place,
    user: Vec<u8>,
}

impl Scene {
    fn new(canned: Vec<(&'static str, u16, String)>) -> Self {
        let fake = Fake::start(Script { canned, ..Script::new() });
        let place = place(&fake);
        std::fs::create_dir_all(place.path().join("home/.config/marblerun")).unwrap();
        place.write(CACHE, fake.script().identity.chain());
        let key = KeyPair::generate().unwrap();
        let user = profile::premain_certificate(&key, &AltNames::default(), now()).unwrap();
        place.write("ann.pem", pem::encode(pem::CERTIFICATE, &user));
        place.write("ann-key.pem", pem::encode(pem::PRIVATE_KEY, key.to_pkcs8().unwrap().expose()));
        Self { fake, place, user }
    }

    /// `USER` stands for the flags of the user, `ADDRESS` and `TRUST` as elsewhere.
    fn run(&self, arguments: &str) -> Run {
        run(&self.place, &self.fake, &arguments.replace("USER", USER))
    }

    fn json(&self, arguments: &str) -> Value {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }

    fn mode(&self, file: &str) -> u32 {
        std::fs::metadata(self.place.path().join(file)).unwrap().permissions().mode() & 0o777
    }
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

const LINES: [&str; 2] = [
    r#"{"time":"2026-02-01T09:30:00.125Z","update":"Initial manifest set"}"#,
    r#"{"time":"2026-02-02T09:30:00.125Z","update":"SecurityVersion increased","user":"ann","package":"web","new version":7}"#,
];

fn log() -> (&'static str, u16, String) {
    let answer = UpdateLogAnswer { update_log: LINES.map(str::to_owned).to_vec() };
    ("GET /api/v2/update", 200, answer.to_v2())
}

#[test]
fn the_update_log_is_printed_or_written() {
    let scene = Scene::new(vec![log()]);
    scene
        .run("manifest log ADDRESS")
        .printed(&format!("Requesting update log\nUpdate log:\n{}\n{}\n", LINES[0], LINES[1]));
    scene.run("manifest log ADDRESS --quiet").printed(&format!("Update log:\n{}\n{}\n", LINES[0], LINES[1]));
    scene.run("manifest log ADDRESS -o log.txt").printed("Requesting update log\nUpdate log written to log.txt\n");
    assert_eq!(scene.place.read("log.txt"), LINES.join("\n"));
    assert_eq!(scene.json("manifest log ADDRESS -o json")["updateLog"][1]["new version"], 7);
}

// rules: CMD-12
#[test]
fn the_manifest_is_shown_with_the_versions_that_were_raised() {
    let scene = Scene::new(vec![log()]);
    scene.fake.script().manifest = Some(br#"{"Packages":{"web":{"SecurityVersion":3}}}"#.to_vec());
    let shown = scene.run("manifest get ADDRESS TRUST -u -q");
    let manifest =
        "{\n    \"Packages\": {\n        \"web\": {\n            \"SecurityVersion\": 7\n        }\n    }\n}";
    shown.printed(&format!("{SOFTWARE}{manifest}\n"));
    scene.run("manifest get ADDRESS TRUST -u -s -o m.txt");
    let both: Value = serde_json::from_str(&scene.place.read("m.txt")).unwrap();
    assert_eq!(both["Manifest"]["Packages"]["web"]["SecurityVersion"], 7);
    assert_eq!(both["ManifestSignature"].as_str().unwrap().len(), 64);
}

#[test]
fn an_update_is_applied_or_waits() {
    let recovery = Some([("ops".to_owned(), vec![0, 255])].into());
    let applied = UpdateAnswer { recovery_secrets: recovery, ..UpdateAnswer::default() };
    let scene = Scene::new(vec![("POST /api/v2/update", 200, applied.to_v2())]);
    let run = scene.run("manifest update apply m.json ADDRESS USER -q");
    run.printed("Update manifest set successfully\n{\"RecoverySecrets\":{\"ops\":\"AP8=\"}}\n");
    assert_eq!(scene.fake.last().client.as_ref(), Some(&scene.user));
    scene
        .run("manifest update apply m.json ADDRESS USER -q -r recovery.json")
        .printed("Update manifest set successfully\nRecovery data written to recovery.json\n");
    assert_eq!(
        (scene.place.read("recovery.json").as_str(), scene.mode("recovery.json")),
        ("{\"RecoverySecrets\":{\"ops\":\"AP8=\"}}", 0o600)
    );

    let pending =
        UpdateAnswer { missing_acknowledgments: 1, missing_users: names(&["ben", "cy"]), ..UpdateAnswer::default() };
    scene.fake.script().canned = vec![("POST /api/v2/update", 200, pending.to_v2())];
    scene.run("manifest update apply m.json ADDRESS USER -q").printed(
        "Update manifest submitted, the update is pending. 1 user still needs to acknowledge it.\n\
         Users that may acknowledge: ben, cy\n",
    );
    let value = scene.json("manifest update apply m.json ADDRESS USER --output json");
    assert_eq!(
        (&value["applied"], &value["missingAcknowledgments"], &value["missingUsers"], &value["recoverySecrets"]),
        (&json!(false), &json!(1), &json!(["ben", "cy"]), &json!({}))
    );
    // Nobody is told that something was verified when nothing was.
    let run = scene.run("manifest update apply m.json ADDRESS USER --insecure");
    assert!(run.code == 0 && run.stdout.contains("\nSending the manifest\n"), "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains("Verified"), "{}", run.stdout);
}

#[test]
fn an_update_is_acknowledged() {
    let missing = AcknowledgeAnswer {
        missing_acknowledgments: 2,
        missing_users: names(&["ben", "cy"]),
        ..AcknowledgeAnswer::default()
    };
    let scene = Scene::new(vec![("POST /api/v2/update-manifest", 200, missing.to_v2())]);
    scene.run("manifest update acknowledge m.json ADDRESS USER -q").printed(
        "Acknowledgement successful:\n2 users still need to acknowledge the update manifest.\n\
         The following users have not yet accepted: ben, cy\n",
    );
    let done = AcknowledgeAnswer::default();
    scene.fake.script().canned = vec![("POST /api/v2/update-manifest", 200, done.to_v2())];
    scene.run("manifest update acknowledge m.json ADDRESS USER -q").printed(
        "Acknowledgement successful:\nAll users have acknowledged the update manifest. The update is applied.\n",
    );
    scene.fake.script().canned = vec![("POST /api/v2/update-manifest", 401, rest::fail("unauthorized user"))];
    let refused = scene.run("manifest update acknowledge m.json ADDRESS USER -q");
    assert!(refused.code == 1 && refused.stderr.contains("unauthorized user"), "{}", refused.stderr);
}

// rules: CLI-3
#[test]
fn a_pending_update_is_shown_and_cancelled() {
    let waiting = PendingUpdateAnswer::new(b"{ }".to_vec(), 1, names(&["ben", "cy"]));
    let cancelled = MessageAnswer { message: "Update successfully cancelled".to_owned() };
    let scene = Scene::new(vec![
        ("GET /api/v2/update-manifest", 200, waiting.to_body()),
        ("POST /api/v2/update-cancel", 200, cancelled.to_v2()),
    ]);
    scene.run("manifest update get ADDRESS").printed("{ }");
    assert_eq!(scene.fake.last().client, None);
    scene.run("manifest update get ADDRESS --missing").printed("[ben cy]\n");
    scene.run("manifest update get ADDRESS -o pending.json").printed("");
    assert_eq!(scene.place.read("pending.json"), "{ }");
    assert_eq!(scene.json("manifest update get ADDRESS -o json")["missingUsers"], json!(["ben", "cy"]));
    scene.run("manifest update cancel ADDRESS USER").printed("Cancellation successful\n");
    assert_eq!(scene.fake.last().client.as_ref(), Some(&scene.user));

    // A failed call leaves an older file alone.
    scene.fake.script().canned = vec![("GET /api/v2/update-manifest", 404, rest::error("no update in progress"))];
    let refused = scene.run("manifest update get ADDRESS -o pending.json");
    assert!(refused.code == 1 && refused.stderr.contains("no update in progress"), "{}", refused.stderr);
    assert_eq!(scene.place.read("pending.json"), "{ }");
}

// rules: CLI-3.1
#[test]
fn credentials_are_checked_before_anything_is_sent() {
    let scene = Scene::new(Vec::new());
    for (flags, expected) in [
        ("", "Error: expected the user's --cert and --key, got neither"),
        ("--cert ann.pem", "Error: --cert needs --key"),
        ("--key ann-key.pem", "Error: --key needs --cert"),
        ("USER --pkcs11-config x", "Error: --pkcs11-config and --cert exclude each other"),
        ("--key ann-key.pem --pkcs11-config x", "Error: --pkcs11-config and --key exclude each other"),
        ("--pkcs11-config x", "Error: --pkcs11-config needs --pkcs11-key-id or --pkcs11-key-label"),
        ("--pkcs11-config x --pkcs11-key-id 1", "Error: --pkcs11-config needs --pkcs11-cert-id or --pkcs11-cert-label"),
        (
            "--pkcs11-config x --pkcs11-key-id 1 --pkcs11-cert-label a",
            "Error: --pkcs11-config: keys on PKCS#11 tokens are not supported by this version",
        ),
        (
            "--cert ann-key.pem --key ann-key.pem",
            "Error: ann-key.pem: expected a PEM block CERTIFICATE as client certificate, got PRIVATE KEY",
        ),
        ("--cert absent.pem --key ann-key.pem", "Error: cannot read client certificate absent.pem: No such file"),
    ] {
        for command in
            ["manifest update cancel ADDRESS", "secret get name ADDRESS", "manifest update apply m.json ADDRESS"]
        {
            let run = scene.run(format!("{command} {flags}").trim());
            assert!(run.code == 1 && run.stderr.starts_with(expected), "{command} {flags}: {}", run.stderr);
        }
    }
    assert!(scene.fake.requests().is_empty());
}

#[test]
fn secrets_are_uploaded() {
    let scene = Scene::new(vec![("POST /api/v2/secrets", 200, rest::success_without_data())]);
    scene.place.write("secrets.json", r#"{"token":{"Key":"aGVsbG8="}}"#);
    scene.run("secret set secrets.json ADDRESS USER").printed("Secret successfully set\n");
    // Flags of the group may stand in front.
    scene.run("secret USER set secrets.json ADDRESS").printed("Secret successfully set\n");
    assert_eq!(scene.fake.last().body, br#"{"secrets":{"token":{"Key":"aGVsbG8="}}}"#);
    assert_eq!(scene.fake.last().client.as_ref(), Some(&scene.user));
    assert_eq!(scene.json("secret set secrets.json ADDRESS USER --output json")["secrets"], json!(["token"]));

    scene.place.write("secrets.json", r#"{"token":{"Key":"aHVudGVyMgo="}}"#);
    let run = scene.run("secret set secrets.json ADDRESS USER");
    assert_eq!(
        (run.stderr.as_str(), run.code),
        ("Warning: secret \"token\" ends with a line feed, which becomes part of the secret\n", 0)
    );
    scene.place.write("secrets.json", r#"{"token":{"Key":"hunter2!"}}"#);
    let run = scene.run("secret set secrets.json ADDRESS USER");
    assert!(run.code == 1 && !run.stderr.contains("hunter2"), "{}", run.stderr);

    // What `secret get` writes may be there; anything else is misspelled, and its value would not be uploaded.
    scene.place.write("secrets.json", r#"{"token":{"Type":"plain","UserDefined":true,"key":"aGVsbG8="}}"#);
    scene.run("secret set secrets.json ADDRESS USER").printed("Secret successfully set\n");
    let requests = scene.fake.requests().len();
    scene.place.write("secrets.json", r#"{"token":{"Kye":"aGVsbG8="}}"#);
    scene
        .run("secret set secrets.json ADDRESS USER")
        .failed("Error: secrets secrets.json: token.Kye: expected one of Cert, Private, Key");
    assert_eq!(scene.fake.requests().len(), requests);
}

// rules: CMD-8
#[test]
fn the_first_certificate_and_the_first_key_of_a_pem_file_are_uploaded() {
    let scene = Scene::new(vec![("POST /api/v2/secrets", 200, rest::success_without_data())]);
    let other = pem::encode(pem::CERTIFICATE, &scene.fake.script().identity.root);
    let (certificate, key) = (scene.place.read("ann.pem"), scene.place.read("ann-key.pem"));
    let parameters = pem::encode("EC PARAMETERS", b"x");
    let block = |pem_text: &str| pem::decode_all(pem_text.as_bytes()).unwrap().remove(0).der.expose().to_vec();
    let value = |bytes: &[u8]| marblerun_json::encode(bytes);
    for text in [
        format!("{certificate}{other}{key}"),
        format!("{parameters}{key}{certificate}"),
        format!("{certificate}{key}{}", pem::encode("X509 CRL", b"x")),
    ] {
        scene.place.write("web.pem", text);
        scene.run("secret set web.pem ADDRESS USER --from-pem web").printed("Secret successfully set\n");
        let expected = format!(
            r#"{{"secrets":{{"web":{{"Cert":{},"Private":{}}}}}}}"#,
            value(&block(&certificate)),
            value(&block(&key))
        );
        assert_eq!(String::from_utf8(scene.fake.last().body).unwrap(), expected);
    }
    let requests = scene.fake.requests().len();
    for (text, expected) in [
        (String::new(), "expected a certificate or a private key in PEM, got neither"),
        (
            format!("{certificate}{}", pem::encode("X509 CRL", b"x")),
            "expected a certificate and a private key, got a PEM block X509 CRL",
        ),
        (format!("{certificate}{}", pem::encode("ENCRYPTED PRIVATE KEY", b"x")), "the private key is encrypted"),
        (pem::encode(pem::CERTIFICATE, b"x"), "web.pem: "),
        (format!("{other}{certificate}{key}"), "web.pem: the private key does not belong to the certificate"),
    ] {
        scene.place.write("web.pem", text);
        let run = scene.run("secret set web.pem ADDRESS USER --from-pem web");
        assert!(run.code == 1 && run.stderr.contains(expected), "{}", run.stderr);
    }
    assert_eq!(scene.fake.requests().len(), requests);
}

// rules: CMD-7
#[test]
fn secrets_are_read() {
    let secret = Secret {
        type_word: "plain".to_owned(),
        private: Some(marblerun_client::SecretBytes::copy_from(b"hello")),
        ..Secret::default()
    };
    let secrets = [("token".to_owned(), secret)].into();
    let scene = Scene::new(vec![("GET /api/v2/secrets", 200, rest::encode_secrets_v2(&secrets))]);
    scene.run("secret get token ADDRESS USER").printed("token:\n\tType:         plain\n\tData:         aGVsbG8=\n");
    assert_eq!((scene.fake.last().query.as_str(), scene.fake.last().client.as_ref()), ("s=token", Some(&scene.user)));
    scene.run("secret get token other ADDRESS USER -o secrets.json").printed("Secrets written to secrets.json\n");
    assert_eq!(scene.fake.last().query, "s=token&s=other");
    assert_eq!(scene.mode("secrets.json"), 0o600);
    let written: Value = serde_json::from_str(&scene.place.read("secrets.json")).unwrap();
    assert_eq!((&written["token"]["Private"], &written["token"]["Cert"]), (&json!("aGVsbG8="), &Value::Null));
    assert_eq!(scene.json("secret get token ADDRESS USER -o json")["secrets"], written);
    // Flags stand anywhere between the words.
    for words in ["token --output json ADDRESS USER", "--output json token USER ADDRESS", "USER token ADDRESS -o json"]
    {
        assert_eq!(scene.json(&format!("secret get {words}"))["secrets"], written, "{words}");
    }
    scene.json("secret get one --output json two USER ADDRESS");
    assert_eq!(scene.fake.last().query, "s=one&s=two");
    scene
        .run("secret get ADDRESS USER")
        .failed("Error: expected names of secrets and the address of the Coordinator\nHint: see --help");
}

/// The private key of a party, and its public key.
fn party() -> (String, Vec<u8>) {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::signature::KeyPair as _;
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let private = pem::encode(pem::PRIVATE_KEY, pair.as_der().unwrap().as_ref());
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    (private, public.as_ref().to_vec())
}

fn encrypted(public_key: &[u8], secret: &[u8]) -> Vec<u8> {
    let secret = marblerun_client::SecretBytes::copy_from(secret);
    marblerun_client::RecoverySecret::from_plain(secret).unwrap().encrypt_to(public_key).unwrap()
}

const SEEN: &str = "State to recover: deployment d0, epoch 1, sequence 2, manifest not told\n\
                    Remembered state: none, so there is nothing to compare with\n";

// rules: CMD-9
#[test]
fn a_recovery_secret_is_given_in_every_form() {
    let scene = Scene::new(vec![("POST /api/v2/recover", 200, RecoverAnswer::new(0).to_v2())]);
    let (key, public) = party();
    scene.place.write("ops.pem", &key);
    let recovered = format!("{SOFTWARE}{SEEN}Recovery successful.\n");
    let mut sent = Vec::new();
    for length in [16, 32, 33] {
        scene.place.write("plain", vec![7; length]);
        let ciphertext = encrypted(&public, &vec![7; length]);
        scene.place.write("encrypted", &ciphertext);
        let data = json!({"RecoverySecrets": {"ops": base64(&ciphertext), "dev": "AAAA"}});
        scene.place.write("recovery.json", data.to_string());
        for file in ["plain", "encrypted", "recovery.json --name ops"] {
            scene.run(&format!("recover {file} ADDRESS TRUST --key ops.pem -q")).printed(&recovered);
            sent.push(String::from_utf8(scene.fake.last().body).unwrap());
        }
        // PKCS#1 v1.5 signs the same way each time.
        assert!(sent.windows(2).all(|pair| pair[0] == pair[1]) && !sent.is_empty(), "{sent:?}");
        assert!(sent[0].starts_with(&format!(r#"{{"recoverySecret":"{}","#, base64(&vec![7; length]))));
        sent.clear();
    }
    scene.fake.script().canned = vec![("POST /api/v2/recover", 200, RecoverAnswer::new(2).to_v2())];
    let run = scene.run("recover plain ADDRESS TRUST --key ops.pem -q");
    assert!(run.stdout.ends_with("Remaining secrets: 2\n"), "{}", run.stdout);
    let value = scene.json("recover plain ADDRESS TRUST --key ops.pem --output json");
    assert_eq!((&value["remaining"], &value["state"]["sequence"]), (&json!(2), &json!(2)));
    scene.fake.script().canned = vec![("POST /api/v2/recover", 500, rest::error("wrong share"))];
    let run = scene.run("recover plain ADDRESS TRUST --key ops.pem -q");
    assert!(run.code == 1 && run.stderr.contains("wrong share"), "{}", run.stderr);
}

fn base64(bytes: &[u8]) -> String {
    marblerun_json::encode(bytes).trim_matches('"').to_owned()
}

#[test]
fn the_name_of_a_recovery_secret_is_asked_for_where_it_is_needed() {
    let scene = Scene::new(Vec::new());
    let (key, _) = party();
    scene.place.write("ops.pem", &key);
    scene.place.write("recovery.json", r#"{"RecoverySecrets":{"dev":"AAAA","ops":"AAAA"}}"#);
    scene.place.write("plain", [7; 32]);
    for (arguments, expected) in [
        ("recovery.json", "Error: recovery data recovery.json hold several secrets: dev, ops"),
        ("recovery.json --name opps", "Error: recovery data recovery.json: there is no secret \"opps\", only dev, ops"),
        ("recovery.json --name ops", "Error: the recovery secret does not decrypt with this recovery key"),
        (
            "plain --name ops",
            "Error: expected recovery data (JSON with RecoverySecrets) in plain, because a name is given",
        ),
    ] {
        let run = scene.run(&format!("recover {arguments} ADDRESS TRUST --key ops.pem"));
        assert!(run.code == 1 && run.stderr.starts_with(expected), "{}", run.stderr);
    }
    scene.run("recover-with-signature recovery.json ADDRESS TRUST --signature plain").failed(
        "Error: expected a recovery secret in recovery.json, got recovery data (JSON with RecoverySecrets)\n\
         Hint: `marblerun recover-with-signature encrypt-secret` makes the secret from it",
    );
    let run = scene.run("recover plain ADDRESS TRUST");
    assert!(run.code == 1 && run.stderr.contains("--key"), "{}", run.stderr);
    let run = scene.run("recover plain ADDRESS TRUST --key ann.pem");
    assert!(run.code == 1 && run.stderr.starts_with("Error: ann.pem: expected an RSA key "), "{}", run.stderr);
    assert!(scene.fake.requests().is_empty());
}

// rules: STA-9.4
#[test]
fn a_secret_is_not_given_for_another_state_than_the_remembered_one() {
    let scene = Scene::new(vec![("POST /api/v2/recover", 200, RecoverAnswer::new(0).to_v2())]);
    let (key, _) = party();
    scene.place.write("ops.pem", &key);
    scene.place.write("plain", [7; 32]);
    scene.fake.script().manifest = Some(b"{}".to_vec());
    assert_eq!(scene.run("manifest get ADDRESS TRUST --keep-cert").code, 0);
    let head = format!("{CACHE}.head.json");
    assert!(scene.place.read(&head).starts_with(r#"{"deployment":"d0","epoch":1,"sequence":2,"hash":"ab","#));
    assert_eq!(scene.run("recover plain ADDRESS TRUST --key ops.pem").code, 0);

    let requests = scene.fake.requests().len();
    for (remembered, expected) in [
        (
            r#"{"deployment":"d0","epoch":1,"sequence":3,"hash":"cd"}"#,
            "expected a state not older than epoch 1, sequence 3, got epoch 1, sequence 2",
        ),
        (r#"{"deployment":"d0","epoch":1,"sequence":2,"hash":"cd"}"#, "got another one there"),
        (
            r#"{"deployment":"d1","epoch":1,"sequence":2,"hash":"ab"}"#,
            "expected the state of deployment d1, got that of d0",
        ),
    ] {
        scene.place.write(&head, remembered);
        let run = scene.run("recover plain ADDRESS TRUST --key ops.pem");
        assert!(run.code == 1 && run.stderr.contains(expected), "{}", run.stderr);
        scene.place.write("plain.sig", "signature");
        let run = scene.run("recover-with-signature plain ADDRESS TRUST --signature plain.sig");
        assert!(run.code == 1 && run.stderr.contains(expected), "{}", run.stderr);
    }
    assert!(scene.fake.requests()[requests..].iter().all(|request| request == "GET /api/v2/quote"));
    let run = scene.run("recover plain ADDRESS TRUST --key ops.pem --accept-other-state");
    assert!(run.code == 0 && run.stdout.contains("(--accept-other-state)"), "{}", run.stdout);

    let statement = |text: &str| {
        let statement = (!text.is_empty()).then(|| text.to_owned());
        let mut script = scene.fake.script();
        script.covered_statement.clone_from(&statement);
        script.statement = statement;
    };
    let usual = scene.fake.script().statement.clone().unwrap();
    // In recovery mode it is the state that waits; who tells of none gets nothing.
    scene.place.write(&head, r#"{"deployment":"r0","epoch":4,"sequence":9,"hash":"cd"}"#);
    let waiting = |sequence: u64| {
        format!(
            r#"{{"version":1,"deployment":"","trustClass":"software","logHead":null,"recovering":{{"deployment":"r0","logHead":{{"epoch":4,"sequence":{sequence},"hash":"cd"}}}}}}"#
        )
    };
    statement(&waiting(9));
    let run = scene.run("recover plain ADDRESS TRUST --key ops.pem");
    assert!(
        run.code == 0 && run.stdout.contains("State to recover: deployment r0, epoch 4, sequence 9,"),
        "{}",
        run.stdout
    );
    for (text, expected) in [
        (waiting(8), "expected a state not older than epoch 4, sequence 9, got epoch 4, sequence 8"),
        (r#"{"version":1,"trustClass":"software"}"#.to_owned(), "states nothing about"),
        (String::new(), "states nothing about"),
    ] {
        statement(&text);
        let requests = scene.fake.requests().len();
        let run = scene.run("recover plain ADDRESS TRUST --key ops.pem");
        assert!(run.code == 1 && run.stderr.contains(expected), "{text}: {}", run.stderr);
        assert_eq!(scene.fake.requests().len(), requests + 1);
    }
    // The manifest is shown and compared with the remembered one.
    let under = |sequence: u64, manifest: &str| {
        waiting(sequence).replace("}}}", &format!(r#"}},"manifestFingerprint":{manifest}}}}}"#))
    };
    scene.place.write(&head, r#"{"deployment":"r0","epoch":4,"sequence":9,"hash":"cd","manifestFingerprint":"ff"}"#);
    let remembered = scene.place.read(&head);
    for (text, expected) in [
        (under(9, r#""ee""#), "expected manifest ff at epoch 4, sequence 9, got ee"),
        (under(9, "null"), "expected manifest ff at epoch 4, sequence 9, got none told"),
        (waiting(9), "expected manifest ff at epoch 4, sequence 9, got none told"),
        (under(8, r#""ff""#), "expected a state not older than epoch 4, sequence 9, got epoch 4, sequence 8"),
    ] {
        statement(&text);
        let requests = scene.fake.requests().len();
        let run = scene.run("recover plain ADDRESS TRUST --key ops.pem");
        assert!(run.code == 1 && run.stderr.contains(expected), "{text}: {}", run.stderr);
        assert_eq!(scene.fake.requests().len(), requests + 1);
        let run = scene.run("recover plain ADDRESS TRUST --key ops.pem --accept-other-state");
        assert!(run.code == 0 && run.stdout.contains(expected), "{text}: {}", run.stdout);
    }
    let other = "The manifest is not the remembered one";
    for (text, shown, is_other) in [
        (under(9, r#""ff""#), "sequence 9, manifest ff\n", false),
        (under(10, r#""ff""#), "sequence 10, manifest ff\n", false),
        (under(10, r#""ee""#), "sequence 10, manifest ee\n", true),
        (waiting(10), "sequence 10, manifest not told\n", false),
    ] {
        statement(&text);
        let run = scene.run("recover plain ADDRESS TRUST --key ops.pem");
        assert!(run.code == 0 && run.stdout.contains(shown), "{text}: {}", run.stdout);
        assert_eq!(run.stdout.contains(other), is_other, "{}", run.stdout);
    }
    // What nobody has proven yet is not remembered, by no command.
    statement(&under(10, r#""ee""#));
    assert_eq!(scene.run("manifest get ADDRESS TRUST").code, 0);
    assert_eq!(scene.place.read(&head), remembered);
    let value = scene.json("recover plain ADDRESS TRUST --key ops.pem --output json");
    assert_eq!(
        (&value["state"]["manifestFingerprint"], &value["rememberedState"]["manifestFingerprint"]),
        (&json!("ee"), &json!("ff"))
    );
    let run = scene.run("recover plain ADDRESS --insecure --key ops.pem");
    assert!(run.code == 0 && run.stdout.starts_with("Warning: skipping quote verification"), "{}", run.stderr);
    statement(&usual);

    // No other command believes an older state either.
    scene.place.write(&head, r#"{"deployment":"d0","epoch":1,"sequence":3,"hash":"cd"}"#);
    let run = scene.run("manifest get ADDRESS TRUST");
    assert!(run.code == 1 && run.stderr.contains("not older than epoch 1, sequence 3"), "{}", run.stderr);
    let run = scene.run("manifest get ADDRESS TRUST --accept-other-state");
    assert!(run.code == 0 && run.stderr.contains("(--accept-other-state)"), "{}", run.stderr);
    assert!(scene.place.read(&head).contains(r#""sequence":2"#));
    // Another deployment is another root, which says so itself.
    let other = r#"{"deployment":"d1","epoch":1,"sequence":3,"hash":"cd"}"#;
    scene.place.write(&head, other);
    assert_eq!(scene.run("manifest get ADDRESS TRUST").code, 0);
    assert_eq!(scene.place.read(&head), other);
    // What is newer is remembered.
    scene.place.write(&head, r#"{"deployment":"d0","epoch":1,"sequence":1,"hash":"cd"}"#);
    assert_eq!(scene.run("manifest get ADDRESS TRUST").code, 0);
    assert!(scene.place.read(&head).contains(r#""sequence":2"#));
    // In recovery mode the manifest is not stated, and what is known of it is kept.
    let known = r#"{"deployment":"r0","epoch":4,"sequence":9,"hash":"cd","manifestFingerprint":"ff"}"#;
    scene.place.write(&head, known);
    statement(&waiting(9));
    assert_eq!(scene.run("manifest get ADDRESS TRUST").code, 0);
    assert_eq!(scene.place.read(&head), known);
}

// rules: CMD-10, CLI-7
#[test]
fn recovery_is_prepared_without_network() {
    let (key, public) = party();
    let (coordinator_key, coordinator_public) = party();
    let answer = RecoveryKeyAnswer { algorithm: "RSA".to_owned(), ephemeral_public_key: coordinator_public.clone() };
    let scene = Scene::new(vec![
        ("GET /api/v2/recover/public-key", 200, answer.to_v2()),
        ("POST /api/v2/recover", 200, RecoverAnswer::new(0).to_v2()),
    ]);
    let public_pem = pem::encode(pem::PUBLIC_KEY, &coordinator_public);
    scene
        .run("recover-with-signature public-key ADDRESS TRUST -o coordinator.pem --evidence evidence.json")
        .printed(SOFTWARE);
    assert_eq!(scene.place.read("coordinator.pem"), public_pem);
    scene.run("recover-with-signature public-key ADDRESS TRUST").printed(&format!("{SOFTWARE}{public_pem}\n"));

    scene.place.write("ops.pem", &key);
    scene.place.write("share", encrypted(&public, &[7; 33]));
    let sign = "recover-with-signature sign-secret share --key ops.pem";
    let encrypt = "recover-with-signature encrypt-secret share --key ops.pem --coordinator-pub-key coordinator.pem";
    scene.place.run(&format!("{sign} -o share.sig")).printed("");
    scene.place.run(&format!("{encrypt} -o share.enc")).printed("");
    assert_eq!((scene.mode("share.sig"), scene.mode("share.enc")), (0o600, 0o600));
    // Files are never overwritten.
    for command in [sign, encrypt] {
        let again = scene.place.run(&format!("{command} -o share.sig"));
        assert!(again.code == 1 && again.stderr.contains("Hint: name another file: "), "{}", again.stderr);
    }
    scene
        .run("recover-with-signature share.enc ADDRESS TRUST -s share.sig -q")
        .printed(&format!("{SOFTWARE}{SEEN}Recovery successful.\n"));
    let body: Value = serde_json::from_slice(&scene.fake.last().body).unwrap();
    let file = |name: &str| std::fs::read(scene.place.path().join(name)).unwrap();
    assert_eq!(body["recoverySecret"], base64(&file("share.enc")));
    assert_eq!(body["recoverySecretSignature"], base64(&file("share.sig")));
    let opened = marblerun_client::RecoveryKey::from_pem(coordinator_key.as_bytes())
        .unwrap()
        .open(&marblerun_client::SecretBytes::new(file("share.enc")))
        .unwrap();
    assert_eq!(opened.expose().expose(), [7; 33]);

    let value: Value = serde_json::from_str(&scene.place.run(&format!("{sign} -o json")).stdout).unwrap();
    assert_eq!(value["signature"], base64(&file("share.sig")));

    // The remembered state is compared offline too.
    let trust = crate::coordinator::TRUST;
    let offline = format!("{sign} --evidence evidence.json {trust}");
    scene.place.run(&format!("{offline} -o a.sig")).printed(&format!("{SOFTWARE}{SEEN}"));
    scene.place.write(&format!("{CACHE}.head.json"), r#"{"deployment":"d0","epoch":1,"sequence":3,"hash":"cd"}"#);
    let run = scene.place.run(&format!("{offline} -o b.sig"));
    assert!(run.code == 1 && run.stderr.contains("not older than epoch 1, sequence 3"), "{}", run.stderr);
    assert!(!scene.place.exists("b.sig"));
    let changed = scene.place.read("evidence.json").replace(r#"\"d0\""#, r#"\"d1\""#);
    scene.place.write("evidence.json", changed);
    let run = scene.place.run(&format!("{offline} -o b.sig"));
    assert!(run.code == 1 && run.stderr.contains("statement is not the one"), "{}", run.stderr);

    // And so is its manifest.
    let text = r#"{"version":1,"deployment":"","trustClass":"software","logHead":null,"recovering":{"deployment":"r0","logHead":{"epoch":4,"sequence":9,"hash":"cd"},"manifestFingerprint":"ee"}}"#;
    scene.fake.script().covered_statement = Some(text.to_owned());
    scene.fake.script().statement = Some(text.to_owned());
    scene.place.write(&format!("{CACHE}.head.json"), "{}");
    scene
        .run("recover-with-signature public-key ADDRESS TRUST -o c.pem --evidence waiting.json --accept-other-state")
        .printed(SOFTWARE);
    let offline = format!("{sign} --evidence waiting.json {trust}");
    for (manifest, code) in [("ff", 1), ("ee", 0)] {
        let head =
            format!(r#"{{"deployment":"r0","epoch":4,"sequence":9,"hash":"cd","manifestFingerprint":"{manifest}"}}"#);
        scene.place.write(&format!("{CACHE}.head.json"), head);
        let run = scene.place.run(&format!("{offline} -o {manifest}.sig"));
        assert_eq!((run.code, scene.place.exists(&format!("{manifest}.sig"))), (code, code == 0), "{}", run.stderr);
        assert!(code == 0 || run.stderr.contains("expected manifest ff at epoch 4, sequence 9, got ee"));
    }
}

#[test]
fn a_coordinator_that_accepts_expired_collateral_is_shown_as_such() {
    let scene = Scene::new(Vec::new());
    scene.fake.script().manifest = Some(b"{}".to_vec());
    let state = |age: &str| {
        let text = format!(
            r#"{{"version":1,"deployment":"d0","trustClass":"software","logHead":{{"epoch":1,"sequence":2,"hash":"ab"}}{age}}}"#
        );
        let mut script = scene.fake.script();
        script.covered_statement = Some(text.clone());
        script.statement = Some(text);
    };
    state(r#","maxCollateralAgeSeconds":2592000"#);
    let run = scene.run("manifest get ADDRESS TRUST");
    assert!(run.code == 0 && run.stdout.contains("collateral that expired up to 30 days ago"), "{}", run.stdout);
    let value = scene.json("manifest get ADDRESS TRUST --output json");
    assert_eq!(value["coordinator"]["statement"]["maxCollateralAgeSeconds"], 2_592_000);
    state("");
    let run = scene.run("manifest get ADDRESS TRUST");
    assert!(run.code == 0 && !run.stdout.contains("collateral that expired"), "{}", run.stdout);
}

#[test]
fn a_coordinator_key_that_is_none_is_refused() {
    let place = Place::new();
    place.write("share", [7; 32]);
    for (text, expected) in [
        ("no PEM", "Error: Coordinator public key key.pem: expected a PEM block PUBLIC KEY, got none"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "Error: the Coordinator's recovery public key cannot be used",
        ),
    ] {
        place.write("key.pem", text);
        let run = place.run("recover-with-signature encrypt-secret share --coordinator-pub-key key.pem -o share.enc");
        assert!(run.code == 1 && run.stderr.starts_with(expected), "{}", run.stderr);
        assert!(!place.exists("share.enc"));
    }
}

// rules: PKG-1, PKG-4
#[test]
fn package_info_prints_what_a_manifest_needs() {
    let place = Place::new();
    let mut sigstruct = vec![0; 1808];
    sigstruct[..16].copy_from_slice(&[6, 0, 0, 0, 0xE1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    sigstruct[24..40].copy_from_slice(&[1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0]);
    sigstruct[960..992].fill(0xAB);
    sigstruct[1024] = 3;
    sigstruct[1026] = 4;
    place.write("app.sig", &sigstruct);
    let signer = marblerun_attestation::ReportDigest::of(&[0; 384]).to_string();
    let values = format!(
        "UniqueID (MRENCLAVE)      : {}\nSignerID (MRSIGNER)       : {signer}\nProductID (ISVPRODID)     : 3\n\
         SecurityVersion (ISVSVN)  : 4\n",
        "ab".repeat(32)
    );
    let package = format!("{{\n  \"UniqueID\": \"{}\"\n}}\n", "ab".repeat(32));
    let values = format!("{values}\nPackage for a manifest:\n{package}");
    place.run("package-info app.sig").printed(&format!("Package properties of enclave app.sig:\n{values}"));
    place
        .run("package-info .")
        .printed(&format!("Detected a directory of Gramine\nPackage properties of Gramine enclave in .:\n{values}"));
    place.run("package-info app.sig --package-only").printed(&package);
    place
        .run("package-info app.sig --package-only --by signer")
        .printed(&format!("{{\n  \"SignerID\": \"{signer}\",\n  \"ProductID\": 3,\n  \"SecurityVersion\": 4\n}}\n"));
    let json: Value = serde_json::from_str(&place.run("package-info app.sig --output json").stdout).unwrap();
    assert_eq!((&json["ProductID"], &json["UniqueID"]), (&json!(3), &json!("ab".repeat(32))));
    assert_eq!((&json["kind"], &json["package"]), (&json!("enclave"), &json!({"UniqueID": "ab".repeat(32)})));
    place.write("app.sig", "nothing");
    let run = place.run("package-info app.sig");
    assert!(
        run.code == 1
            && run.stdout.is_empty()
            && run.stderr.starts_with("Error: expected a signed enclave, got app.sig")
    );
}

/// Checks that `example` has the members and types of `actual`; `{"trust": ...}` stands for every longer description of a
/// Coordinator, and the contents of texts and numbers do not count.
#[track_caller]
fn check_shape(place: &str, example: &Value, actual: &Value) {
    match (example, actual) {
        (Value::Object(example), Value::Object(actual)) => {
            let is_short = example.keys().eq(["trust"]);
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert!(
                is_short || names(example) == names(actual),
                "{place}: {:?}, not {:?}",
                names(actual),
                names(example)
            );
            for (name, value) in example {
                check_shape(&format!("{place}.{name}"), value, &actual[name]);
            }
        }
        (Value::Array(example), Value::Array(actual)) => {
            for (value, actual) in example.iter().zip(actual) {
                check_shape(place, value, actual);
            }
            assert_eq!(example.is_empty(), actual.is_empty(), "{place}");
        }
        _ => assert_eq!(std::mem::discriminant(example), std::mem::discriminant(actual), "{place}: {actual}"),
    }
}

/// The examples of `docs/cli-json.md` by their command.
fn documented_shapes() -> Vec<(String, Value)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli-json.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections = text.split("\n## ").skip(1).filter_map(|section| {
        let (_, rest) = section.split_once("\n```json\n")?;
        let (example, _) = rest.split_once("\n```").unwrap();
        Some((section.lines().next().unwrap().to_owned(), serde_json::from_str(example).unwrap()))
    });
    sections.collect()
}

#[test]
fn machine_readable_output_has_the_documented_shape() {
    let waiting = PendingUpdateAnswer::new(b"{ }".to_vec(), 1, names(&["ben"]));
    let pending =
        UpdateAnswer { missing_acknowledgments: 1, missing_users: names(&["ben"]), ..UpdateAnswer::default() };
    let bytes = || Some(marblerun_client::SecretBytes::copy_from(b"hello"));
    let secret = Secret { type_word: "plain".to_owned(), private: bytes(), public: bytes(), ..Secret::default() };
    let (coordinator_key, coordinator_public) = party();
    let scene = Scene::new(vec![
        log(),
        ("POST /api/v2/update", 200, pending.to_v2()),
        ("GET /api/v2/update-manifest", 200, waiting.to_body()),
        ("POST /api/v2/update-cancel", 200, MessageAnswer { message: "done".to_owned() }.to_v2()),
        ("POST /api/v2/secrets", 200, rest::success_without_data()),
        ("GET /api/v2/secrets", 200, rest::encode_secrets_v2(&[("token".to_owned(), secret)].into())),
        ("POST /api/v2/recover", 200, RecoverAnswer::new(0).to_v2()),
        (
            "GET /api/v2/recover/public-key",
            200,
            RecoveryKeyAnswer { algorithm: "RSA".to_owned(), ephemeral_public_key: coordinator_public.clone() }.to_v2(),
        ),
    ]);
    scene.fake.script().recovery_secrets = vec![("ops", b"s")];
    scene.place.write("mistake.json", scene.place.read("m.json").replace("\"Argv\"", "\"Agrv\""));
    scene.place.write("secrets.json", r#"{"token":{"Key":"aGVsbG8="}}"#);
    scene.place.write("ops.pem", &coordinator_key);
    scene.place.write("coordinator.pem", pem::encode(pem::PUBLIC_KEY, &coordinator_public));
    scene.place.write("plain", [7; 32]);
    let mut sigstruct = vec![0; 1808];
    sigstruct[..16].copy_from_slice(&[6, 0, 0, 0, 0xE1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    sigstruct[24..40].copy_from_slice(&[1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0]);
    scene.place.write("app.sig", &sigstruct);

    let shapes = documented_shapes();
    assert_eq!(shapes.len(), 19, "a command is not documented any more, or was not expected to be");
    for (command, example) in shapes {
        let arguments = match command.as_str() {
            "status" => "ADDRESS TRUST",
            "manifest set" => "m.json ADDRESS TRUST --coordinator-cert other.pem",
            "manifest get" => "ADDRESS TRUST",
            "manifest verify" => "m.json ADDRESS TRUST --coordinator-cert other.pem",
            "manifest signature" => "m.json",
            "manifest check" => "mistake.json --allow-warnings",
            "manifest log" => "ADDRESS",
            "manifest update apply" => "m.json ADDRESS USER",
            "manifest update cancel" => "ADDRESS USER",
            "manifest update get" => "ADDRESS",
            "certificate root" => "ADDRESS TRUST",
            "secret set" => "secrets.json ADDRESS USER",
            "secret get" => "token ADDRESS USER",
            "recover" => "plain ADDRESS TRUST --key ops.pem",
            "recover-with-signature public-key" => "ADDRESS TRUST",
            "recover-with-signature encrypt-secret" => "plain --coordinator-pub-key coordinator.pem",
            "recover-with-signature sign-secret" => "plain --key ops.pem",
            "package-info" => "app.sig",
            "version" => "",
            other => panic!("{other} is documented, but not compared"),
        };
        let words = format!("{command} {arguments} --output json").replace("  ", " ");
        check_shape(&command, &example, &scene.json(&words));
    }
}

#[test]
fn commands_for_clusters_say_that_they_are_not_there() {
    for command in ["install --domain example.org", "uninstall", "precheck", "check --timeout 5"] {
        let run = Place::new().run(command);
        assert!(run.code == 1 && run.stderr.contains("not part of this version"), "{command}: {}", run.stderr);
    }
}
