//! Who may do what: every kind of caller, at every endpoint of both versions, in every state, as one generated table.
//!
//! What is expected is computed from the caller's roles and the state; no cell is written down by hand.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use marblerun_pki::pem;
use serde_json::{Value, json};

use crate::running::{Identity, Running, client_config, connect};

/// What a role can allow, on the one thing that the requests of the table are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grant {
    Raise,
    Read,
    Write,
    Update,
}

/// Who asks.
#[derive(Clone, Debug)]
enum Caller {
    Nobody,
    Stranger,
    Marble,
    User { name: String, grants: BTreeSet<Grant>, roles: Vec<Value> },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { name, .. } => f.write_str(name),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Caller {
    fn has(&self, grant: Grant) -> bool {
        matches!(self, Self::User { grants, .. } if grants.contains(&grant))
    }

    fn is_user(&self) -> bool {
        matches!(self, Self::User { .. })
    }
}

fn role(resource_type: &str, names: &[&str], actions: &[&str]) -> Value {
    json!({ "ResourceType": resource_type, "ResourceNames": names, "Actions": actions })
}

/// Users with each subset of the grants, and those whose roles miss what the requests ask for in some way.
fn callers() -> Vec<Caller> {
    let single = [
        (Grant::Raise, role("Packages", &["p"], &["UpdateSecurityVersion"])),
        (Grant::Read, role("Secrets", &["pw"], &["ReadSecret"])),
        (Grant::Write, role("Secrets", &["pw"], &["WriteSecret"])),
        (Grant::Update, role("Manifest", &[], &["UpdateManifest"])),
    ];
    let mut callers = vec![Caller::Nobody, Caller::Stranger, Caller::Marble];
    for subset in 0..1_usize << single.len() {
        let chosen = single.iter().enumerate().filter(|(index, _)| subset & (1 << index) != 0).map(|(_, entry)| entry);
        let (grants, roles): (BTreeSet<_>, Vec<_>) = chosen.cloned().unzip();
        callers.push(Caller::User { name: format!("user with {grants:?}"), grants, roles });
    }
    for (name, roles) in [
        (
            "user with other names",
            vec![
                role("Packages", &["other"], &["UpdateSecurityVersion"]),
                role("Secrets", &["other"], &["ReadSecret", "WriteSecret"]),
            ],
        ),
        (
            "user with actions without names",
            vec![
                role("Packages", &[], &["UpdateSecurityVersion"]),
                role("Secrets", &[], &["ReadSecret", "WriteSecret"]),
            ],
        ),
        (
            "user with names without actions",
            vec![role("Packages", &["p"], &[]), role("Secrets", &["pw"], &[]), role("Manifest", &[], &[])],
        ),
    ] {
        callers.push(Caller::User { name: name.to_owned(), grants: BTreeSet::new(), roles });
    }
    callers.push(Caller::User {
        name: "user with the grants in other spellings and pieces".to_owned(),
        grants: BTreeSet::from([Grant::Raise, Grant::Read, Grant::Write, Grant::Update]),
        roles: vec![
            role("Packages", &["other", "p"], &["UPDATESECURITYVERSION"]),
            role("Secrets", &["pw"], &["readsecret"]),
            role("Secrets", &["other", "pw"], &["writeSecret"]),
            role("Manifest", &[], &["updatemanifest"]),
        ],
    });
    callers
}

/// What the Coordinator does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Recovery,
    AcceptingManifest,
    AcceptingMarbles,
    UpdatePending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Status,
    Quote,
    GetManifest,
    SetManifest,
    UpdateLog,
    ReadSecret,
    WriteSecret,
    RaiseVersion,
    UpdateManifest,
    PendingUpdate,
    Acknowledge,
    Cancel,
    Counter,
    SignQuote,
    Recover,
    RecoveryKey,
}

const WISHES: [Wish; 16] = [
    Wish::Status,
    Wish::Quote,
    Wish::GetManifest,
    Wish::SetManifest,
    Wish::UpdateLog,
    Wish::ReadSecret,
    Wish::WriteSecret,
    Wish::RaiseVersion,
    Wish::UpdateManifest,
    Wish::PendingUpdate,
    Wish::Acknowledge,
    Wish::Cancel,
    Wish::Counter,
    Wish::SignQuote,
    Wish::Recover,
    Wish::RecoveryKey,
];

impl Wish {
    /// Method, path without version, and for requests with a manifest its bytes.
    fn request(self, version: u8, manifest: &str) -> (&'static str, &'static str, String) {
        let wrapped = |manifest: &str| match version {
            1 => manifest.to_owned(),
            _ => json!({ "manifest": BASE64.encode(manifest) }).to_string(),
        };
        let secrets = json!({ "pw": { "Key": "YQ==" } });
        match self {
            Self::Status => ("GET", "/status", String::new()),
            Self::Quote => ("GET", "/quote", String::new()),
            Self::GetManifest => ("GET", "/manifest", String::new()),
            // One that is refused in any state, so that the state stays.
            Self::SetManifest => ("POST", "/manifest", wrapped("{}")),
            Self::UpdateLog => ("GET", "/update", String::new()),
            Self::ReadSecret => ("GET", "/secrets?s=pw", String::new()),
            Self::WriteSecret if version == 1 => ("POST", "/secrets", secrets.to_string()),
            Self::WriteSecret => ("POST", "/secrets", json!({ "secrets": secrets }).to_string()),
            Self::RaiseVersion => ("POST", "/update", wrapped(r#"{"Packages":{"p":{"SecurityVersion":3}}}"#)),
            Self::UpdateManifest => ("POST", "/update", wrapped(manifest)),
            Self::PendingUpdate => ("GET", "/update-manifest", String::new()),
            Self::Acknowledge => ("POST", "/update-manifest", wrapped(manifest)),
            Self::Cancel => ("POST", "/update-cancel", String::new()),
            Self::Counter => ("POST", "/monotonic-counter", json!({ "name": "n", "value": 0 }).to_string()),
            Self::SignQuote => ("POST", "/sign-quote", json!({ "sgxQuote": "AAAA" }).to_string()),
            Self::Recover => {
                let secret = BASE64.encode([7; 32]);
                let body = json!({ "recoverySecret": secret, "recoverySecretSignature": secret });
                ("POST", "/recover", body.to_string())
            }
            Self::RecoveryKey => ("GET", "/recover/public-key", String::new()),
        }
    }

    /// The status that the rules give.
    fn expected(self, state: State, caller: &Caller, version: u8) -> u16 {
        let has_manifest = matches!(state, State::AcceptingMarbles | State::UpdatePending);
        let is_pending = state == State::UpdatePending;
        // A write that was understood and is refused.
        let refused = if version == 1 { 400 } else { 500 };
        let as_user = |allowed: bool, otherwise: u16| match (has_manifest && caller.is_user(), allowed) {
            (false, _) => 401,
            (true, true) => 200,
            (true, false) => otherwise,
        };
        match self {
            Self::Counter | Self::SignQuote | Self::RecoveryKey if version == 1 => 405,
            Self::Recover if version == 1 => 410,
            Self::Status | Self::Quote => 200,
            Self::GetManifest if has_manifest || version == 1 => 200,
            Self::GetManifest => 500,
            Self::SetManifest => refused,
            Self::UpdateLog if has_manifest => 200,
            Self::UpdateLog => 500,
            Self::ReadSecret => as_user(caller.has(Grant::Read), refused),
            Self::WriteSecret => as_user(caller.has(Grant::Write), refused),
            Self::RaiseVersion => as_user(caller.has(Grant::Raise) && !is_pending, refused),
            Self::UpdateManifest => as_user(caller.has(Grant::Update) && !is_pending, refused),
            Self::PendingUpdate if is_pending => 200,
            Self::PendingUpdate => 404,
            Self::Acknowledge if is_pending => as_user(caller.has(Grant::Update), 500),
            Self::Acknowledge => as_user(false, 404),
            Self::Cancel if !caller.has(Grant::Update) => as_user(false, 500),
            Self::Cancel => as_user(is_pending, 404),
            Self::Counter if !has_manifest => 403,
            Self::Counter if matches!(caller, Caller::Marble) => 200,
            Self::Counter => 401,
            // The manifest does not switch it on.
            Self::SignQuote => 403,
            Self::Recover => 500,
            Self::RecoveryKey if state == State::Recovery => 200,
            Self::RecoveryKey => 500,
        }
    }
}

/// A deployment with all the callers as users. With `threshold` 1 an update is in force at once.
struct Cast {
    callers: Vec<(Caller, Identity)>,
    manifest: String,
}

impl Cast {
    fn new(threshold: u64) -> Self {
        let callers: Vec<_> = callers()
            .into_iter()
            .map(|caller| {
                let identity = if matches!(caller, Caller::Nobody) { Identity::None } else { Identity::new() };
                (caller, identity)
            })
            .collect();
        let (mut users, mut roles) = (json!({}), json!({}));
        for (caller, identity) in &callers {
            let (Caller::User { name, roles: of_user, .. }, Identity::Shown(certificate, _)) = (caller, identity)
            else {
                continue;
            };
            let names: Vec<String> = (0..of_user.len()).map(|index| format!("{name} {index}")).collect();
            for (name, role) in names.iter().zip(of_user) {
                roles[name] = role.clone();
            }
            users[name] = json!({ "Certificate": pem::encode("CERTIFICATE", certificate), "Roles": names });
        }
        let package = json!({ "SignerID": "ab".repeat(32), "ProductID": 1, "SecurityVersion": 3 });
        let secret = json!({ "Type": "plain", "UserDefined": true });
        let manifest = json!({
            "Packages": { "p": package, "other": package },
            "Marbles": { "web": { "Package": "p" } },
            "Secrets": { "pw": secret, "other": secret },
            "Users": users,
            "Roles": roles,
            "Config": { "FeatureGates": ["MonotonicCounter"], "UpdateThreshold": threshold },
        });
        Self { callers, manifest: manifest.to_string() }
    }

    /// A user who may update.
    fn updater(&self) -> &Identity {
        let updater = self.callers.iter().find(|(caller, _)| caller.has(Grant::Update));
        &updater.unwrap().1
    }
}

/// A kept connection of one caller.
pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect(running: &Running, identity: &Identity) -> Self {
        let stream = connect(running.client, client_config(identity, &[b"http/1.1"])).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn ask(&mut self, method: &str, path: &str, body: String) -> (u16, String) {
        self.0.ready().await.unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let answer = self.0.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// The certificate and key that an activation gives.
pub async fn marble(running: &Running) -> Identity {
    let parameters = loop {
        match running.activate("web").await {
            // An update came in between the handshake and the call.
            Err(refusal) if refusal.code == tonic::Code::Unavailable as u32 => {}
            result => break result.unwrap(),
        }
    };
    let chain = pem::decode_certificates(&parameters.env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]).unwrap();
    let key = pem::decode_all(&parameters.env["MARBLE_PREDEFINED_PRIVATE_KEY"]).unwrap();
    Identity::Shown(chain[0].clone(), key[0].der.expose().to_vec())
}

/// Makes sure that an update is pending: the last request may have ended it.
async fn begin_update(updater: &mut Client, cast: &Cast) {
    if updater.ask("GET", "/update-manifest", String::new()).await.0 == 200 {
        return;
    }
    let (method, path, body) = Wish::UpdateManifest.request(1, &cast.manifest);
    let (status, text) = updater.ask(method, path, body).await;
    assert_eq!(status, 200, "{text}");
}

async fn start(state: State, directory: &Path, cast: &Cast) -> Running {
    let running = Running::again(directory).await;
    if state == State::AcceptingManifest {
        return running;
    }
    let answer = running.ask("POST", "/manifest", cast.manifest.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    if state != State::Recovery {
        return running;
    }
    drop(running);
    std::fs::remove_file(directory.join("sealed_key")).unwrap();
    Running::again(directory).await
}

async fn check_table(state: State) {
    let cast = Cast::new(if state == State::UpdatePending { 2 } else { 1 });
    let directory = tempfile::tempdir().unwrap();
    let running = start(state, directory.path(), &cast).await;
    let mut updater = Client::connect(&running, cast.updater()).await;
    let mut wrong = Vec::new();
    for (caller, identity) in &cast.callers {
        let mut client = Client::connect(&running, identity).await;
        for (wish, version) in WISHES.iter().flat_map(|wish| [(*wish, 1), (*wish, 2)]) {
            if state == State::UpdatePending {
                begin_update(&mut updater, &cast).await;
            }
            let is_active = matches!(state, State::AcceptingMarbles | State::UpdatePending);
            if is_active && matches!((caller, wish), (Caller::Marble, Wish::Counter)) {
                // Updates made what it had before worthless.
                client = Client::connect(&running, &marble(&running).await).await;
            }
            let (method, path, body) = wish.request(version, &cast.manifest);
            let path = if version == 1 { path.to_owned() } else { format!("/api/v2{path}") };
            let (status, text) = client.ask(method, &path, body).await;
            let expected = wish.expected(state, caller, version);
            if status != expected {
                wrong.push(format!("{caller}: {method} {path}: expected {expected}, got {status}: {}", text.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{state:?}: {} of the cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

// rules: AUTH-1, AUTH-4, STATE-2, SQ-3, CTR-3, EP-9
#[tokio::test(flavor = "multi_thread")]
async fn before_a_manifest_nobody_is_a_user() {
    check_table(State::AcceptingManifest).await;
}

// rules: AUTH-1, AUTH-4, EP-9
#[tokio::test(flavor = "multi_thread")]
async fn in_recovery_nobody_is_a_user() {
    check_table(State::Recovery).await;
}

// rules: AUTH-1, AUTH-4, EP-7, EP-9, UPD-3
#[tokio::test(flavor = "multi_thread")]
async fn with_a_manifest_everyone_may_do_exactly_what_the_roles_grant() {
    check_table(State::AcceptingMarbles).await;
}

// rules: AUTH-4, UPD-1, UPD-8
#[tokio::test(flavor = "multi_thread")]
async fn while_an_update_is_pending_everyone_may_do_exactly_what_the_roles_grant() {
    check_table(State::UpdatePending).await;
}
