//! Updates, uploads, counters and activations in any order, also prepared early and submitted late, against a simple
//! model, with restarts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use marblerun_coordinator_core::activation::Candidate;
use marblerun_coordinator_core::counter::{MarbleName, RaiseCounter};
use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal};
use marblerun_coordinator_core::record::Record;
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::update::{self, Outcome, Prepared, UpdateError};
use marblerun_coordinator_core::user_secrets::{UserSecretsError, prepare_upload};
use marblerun_manifest::decode_user_secrets_v1;
use marblerun_pki::Certificate;
use marblerun_secret::SecretBytes;
use proptest::prelude::*;

use crate::fixture::{self, NOW, UUID, activate, file, made_user, made_user_pem};

/// The first `updaters` of these may update.
const UPDATERS: [&str; 3] = ["ann", "ben", "cy"];

/// What differs between the manifests of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    /// Bits of the shared key; 0: there is none.
    key_size: u64,
    has_token: bool,
    /// `ValidFor` of the shared certificate.
    cert_days: u64,
    rotate: bool,
    updaters: usize,
    threshold: u64,
    /// `MaxActivations` of the type `limited`; `None`: there is no such type.
    limit: Option<u64>,
    security_version: u64,
    /// A template fails.
    is_bad: bool,
}

fn variant() -> impl Strategy<Value = Variant> {
    let secrets = (
        prop::sample::select(vec![128_u64, 128, 128, 256, 0]),
        any::<bool>(),
        prop::sample::select(vec![0_u64, 365, 7]),
    );
    let users =
        (1..=3_usize).prop_flat_map(|updaters| (Just(updaters), prop_oneof![2 => Just(1), 1 => 0..=updaters as u64]));
    let limit = prop::sample::select(vec![None, Some(1), Some(3)]);
    (secrets, any::<bool>(), users, limit, 1..4_u64, prop::bool::weighted(0.1)).prop_map(
        |((key_size, has_token, cert_days), rotate, (updaters, threshold), limit, security_version, is_bad)| Variant {
            key_size,
            has_token,
            cert_days,
            rotate,
            updaters,
            threshold,
            limit,
            security_version,
            is_bad,
        },
    )
}

impl Variant {
    /// dora may raise `p` and, if there is one, write the token.
    fn text(self) -> String {
        let Self { key_size, has_token, cert_days, rotate, updaters, threshold, limit, security_version, is_bad } =
            self;
        let user = |name: &str, roles: &str| {
            format!(r#""{name}":{{"Certificate":{},"Roles":[{roles}]}}"#, serde_json::json!(made_user_pem(name)))
        };
        let mut users = vec![user("dora", if has_token { r#""raise","write""# } else { r#""raise""# })];
        for (index, name) in UPDATERS.into_iter().enumerate() {
            users.push(user(name, if index < updaters { r#""update""# } else { "" }));
        }
        let mut secrets = vec![
            r#""own":{"Type":"symmetric-key","Size":128}"#.to_owned(),
            format!(r#""cert":{{"Type":"cert-ed25519","Shared":true,"ValidFor":{cert_days}}}"#),
        ];
        if key_size > 0 {
            secrets.push(format!(r#""key":{{"Type":"symmetric-key","Shared":true,"Size":{key_size}}}"#));
        }
        if has_token {
            secrets.push(r#""token":{"Type":"plain","UserDefined":true}"#.to_owned());
        }
        let own = if is_bad { "{{ hex .Secrets.none }}" } else { "{{ hex .Secrets.own }}" };
        let files = format!(r#"{{"/own":"{own}","/before":"{{{{ hex .Previous.Secrets.own }}}}"}}"#);
        let limited =
            limit.map_or_else(String::new, |limit| format!(r#","limited":{{"Package":"p","MaxActivations":{limit}}}"#));
        let write = r#""write":{"ResourceType":"Secrets","ResourceNames":["token"],"Actions":["WriteSecret"]},"#;
        let signer = "00".repeat(32);
        format!(
            r#"{{"Packages":{{"p":{{"SignerID":"{signer}","ProductID":1,"SecurityVersion":{security_version}}}}},
                "Marbles":{{"free":{{"Package":"p","Parameters":{{"Files":{files}}}}}{limited}}},
                "Secrets":{{{}}},"Users":{{{}}},
                "Roles":{{{}"update":{{"ResourceType":"Manifest","Actions":["UpdateManifest"]}},
                    "raise":{{"ResourceType":"Packages","ResourceNames":["p"],"Actions":["UpdateSecurityVersion"]}}}},
                "Config":{{"RotateRootSecret":{rotate},"UpdateThreshold":{threshold}}}}}"#,
            secrets.join(","),
            users.join(","),
            if has_token { write } else { "" },
        )
    }

    fn cert_days(self) -> u64 {
        if self.cert_days == 0 { 365 } else { self.cert_days }
    }
}

#[derive(Clone, Debug)]
enum Wish {
    Upload(u8),
    Raise(u64),
    Update(&'static str, Variant),
    /// Of the pending manifest, or of other bytes.
    Acknowledge(&'static str, bool),
    Cancel(&'static str),
    Activate,
    Count {
        name: u8,
        value: u64,
    },
}

#[derive(Clone, Debug)]
enum Step {
    Do(Wish),
    /// Prepare it now and submit it with [`Step::Release`].
    Hold(Wish),
    Release,
    Restart,
}

fn wish() -> impl Strategy<Value = Wish> {
    let user = || prop::sample::select(vec!["ann", "ann", "ben", "cy", "dora"]);
    prop_oneof![
        2 => any::<u8>().prop_map(Wish::Upload),
        3 => (0..6_u64).prop_map(Wish::Raise),
        5 => (user(), variant()).prop_map(|(user, variant)| Wish::Update(user, variant)),
        6 => (user(), prop::bool::weighted(0.9)).prop_map(|(user, same)| Wish::Acknowledge(user, same)),
        1 => user().prop_map(Wish::Cancel),
        3 => Just(Wish::Activate),
        1 => (0..2_u8, 0..5_u64).prop_map(|(name, value)| Wish::Count { name, value }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => wish().prop_map(Step::Do),
        2 => wish().prop_map(Step::Hold),
        2 => Just(Step::Release),
        1 => Just(Step::Restart),
    ]
}

/// Stands for a secret value: equal numbers are equal bytes, different ones differ. 0: nothing was uploaded.
type Id = u64;

/// A current and a previous value.
type Pair = (Id, Id);

#[derive(Clone, Debug)]
struct Pending {
    variant: Variant,
    asked: BTreeMap<&'static str, bool>,
    missing: u64,
}

/// What must be true of the ledger, said as simply as possible.
#[derive(Clone, Debug)]
struct Model {
    running: Variant,
    security_version: u64,
    key: Option<Pair>,
    cert: Pair,
    token: Option<Pair>,
    root: Pair,
    pending: Option<Pending>,
    activations: u64,
    counters: BTreeMap<u8, u64>,
    log_lines: usize,
    next_id: Id,
    /// Numbers of the manifest, of the update of any kind, and of the state of pending updates. A restart begins new
    /// ones, because what was prepared before cannot be submitted after it.
    epoch: (u64, u64, u64),
}

impl Model {
    fn new(running: Variant) -> Self {
        Self {
            running,
            security_version: running.security_version,
            key: (running.key_size > 0).then_some((1, 1)),
            cert: (2, 2),
            token: running.has_token.then_some((0, 0)),
            root: (3, 3),
            pending: None,
            activations: 0,
            counters: BTreeMap::new(),
            log_lines: 1,
            next_id: 4,
            epoch: (0, 0, 0),
        }
    }

    fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    fn may_update(&self, user: &str) -> bool {
        UPDATERS[..self.running.updaters].contains(&user)
    }

    fn initiated(&self, user: &str, variant: Variant) -> Pending {
        let updaters = &UPDATERS[..self.running.updaters];
        let needed = if self.running.threshold == 0 { updaters.len() as u64 } else { self.running.threshold };
        let asked = updaters.iter().map(|name| (*name, *name == user)).collect();
        Pending { variant, asked, missing: needed - 1 }
    }

    fn apply(&mut self, new: Variant) {
        let old = std::mem::replace(&mut self.running, new);
        self.security_version = new.security_version;
        if new.rotate {
            self.root = (self.new_id(), self.root.0);
        }
        self.key = match self.key {
            _ if new.key_size == 0 => None,
            Some((current, _)) if old.key_size == new.key_size && new.rotate => Some((self.new_id(), current)),
            Some(kept) if old.key_size == new.key_size => Some(kept),
            _ => {
                let id = self.new_id();
                Some((id, id))
            }
        };
        let id = self.new_id();
        self.cert = (id, if old.cert_days() == new.cert_days() { self.cert.0 } else { id });
        self.token = new.has_token.then(|| self.token.unwrap_or((0, 0)));
        self.pending = None;
        self.epoch.0 += 1;
        self.epoch.1 += 1;
        self.epoch.2 += 1;
    }
}

/// A command that was prepared, and what it does to the model if it is accepted.
struct Held {
    command: Command,
    epoch: (u64, u64, u64),
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    Upload(u8),
    Raise(u64),
    Initiate(Pending),
    Acknowledge(Pending),
    Cancel,
    /// With so many lines of the log.
    Apply(Variant, usize),
    Count {
        name: u8,
        value: u64,
        before: Arc<OnceLock<u64>>,
    },
    Activate,
}

struct World {
    ledger: Ledger,
    stored: Vec<SecretBytes>,
    model: Model,
    held: Vec<Held>,
    /// The bytes that each number was seen to stand for.
    seen: BTreeMap<Id, Vec<u8>>,
}

impl World {
    fn new(first: Variant) -> Self {
        let first = Variant { is_bad: false, ..first };
        let set = Record::ManifestSet(fixture::prepare(&first.text()).unwrap().record).encode();
        let stored = vec![Record::Genesis(fixture::genesis()).encode(), set];
        let ledger = fixture::replayed(&stored);
        Self { ledger, stored, model: Model::new(first), held: Vec::new(), seen: BTreeMap::new() }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Do(wish) => {
                if let Some(held) = self.prepare(wish) {
                    self.submit(held);
                }
            }
            Step::Hold(wish) => {
                let held = self.prepare(wish);
                self.held.extend(held);
            }
            Step::Release => {
                for held in std::mem::take(&mut self.held) {
                    self.submit(held);
                }
            }
            Step::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        let before = fixture::whole_state(&self.ledger);
        self.ledger = fixture::replayed(&self.stored);
        assert_eq!(fixture::whole_state(&self.ledger), before, "a restart finds the same state");
        let (manifest, update, pending) = self.model.epoch;
        self.model.epoch = (manifest + 1, update + 1, pending + 1);
    }

    /// The command, unless it must be refused at once, and is.
    fn prepare(&self, wish: Wish) -> Option<Held> {
        let before = fixture::whole_state(&self.ledger);
        let prepared = self.prepare_on_snapshot(wish);
        assert_eq!(fixture::whole_state(&self.ledger), before, "preparing changes nothing");
        let (command, effect) = prepared?;
        Some(Held { command, epoch: self.model.epoch, effect })
    }

    fn prepare_on_snapshot(&self, wish: Wish) -> Option<(Command, Effect)> {
        let (model, snapshot) = (&self.model, self.ledger.snapshot());
        match wish {
            Wish::Upload(byte) => {
                let upload = format!(r#"{{"token":{{"Key":"{}"}}}}"#, ["AAAA", "AQEB", "AgIC"][usize::from(byte % 3)]);
                let upload = decode_user_secrets_v1(upload.as_bytes()).unwrap();
                match (prepare_upload(&snapshot, &made_user(&self.ledger, "dora"), upload, NOW), model.token) {
                    (Ok(prepared), Some(_)) => Some((Command::SetSecrets(prepared), Effect::Upload(byte % 3))),
                    (Err(UserSecretsError::Unknown(_)), None) => None,
                    (result, token) => panic!("{token:?}: {result:?}"),
                }
            }
            Wish::Raise(version) => {
                let text = format!(r#"{{"Packages":{{"p":{{"SecurityVersion":{version}}}}}}}"#);
                match update::prepare(&snapshot, &made_user(&self.ledger, "dora"), text.as_bytes(), NOW) {
                    Err(UpdateError::Pending) if model.pending.is_some() => None,
                    Err(UpdateError::Packages(_)) if version < model.security_version => None,
                    Ok(prepared) if model.pending.is_none() && version >= model.security_version => {
                        assert!(matches!(prepared.outcome, Outcome::PackagesUpdated));
                        Some((Command::Update(Box::new(prepared.step)), Effect::Raise(version)))
                    }
                    result => panic!("{version}: {result:?}"),
                }
            }
            Wish::Update(user, variant) => {
                let text = variant.text();
                match update::prepare(&snapshot, &made_user(&self.ledger, user), text.as_bytes(), NOW) {
                    Err(UpdateError::Pending) if model.pending.is_some() => None,
                    _ if model.pending.is_some() => panic!("a second update begins"),
                    Err(UpdateError::Denied(_)) if !model.may_update(user) => None,
                    Err(UpdateError::Manifest(_)) if model.may_update(user) && variant.is_bad => None,
                    Ok(prepared) if model.may_update(user) && !variant.is_bad => {
                        Some(self.stepped(prepared, model.initiated(user, variant), Effect::Initiate))
                    }
                    result => panic!("{user}: {result:?}"),
                }
            }
            Wish::Acknowledge(user, is_same) => {
                let pending = model.pending.as_ref();
                let text = pending.filter(|_| is_same).map_or_else(String::new, |pending| pending.variant.text());
                let user_of = made_user(&self.ledger, user);
                match (update::prepare_acknowledgement(&snapshot, &user_of, text.as_bytes(), NOW), pending) {
                    (Err(UpdateError::NothingPending), None) => None,
                    (Err(UpdateError::NotAsked { .. }), Some(pending)) if !pending.asked.contains_key(user) => None,
                    (Err(UpdateError::OtherManifest { .. }), Some(pending)) if pending.asked.contains_key(user) => {
                        assert!(!is_same);
                        None
                    }
                    (Ok(prepared), Some(pending)) if is_same && pending.asked.contains_key(user) => {
                        let mut next = pending.clone();
                        if !next.asked.insert(UPDATERS.into_iter().find(|name| *name == user).unwrap(), true).unwrap() {
                            next.missing -= 1;
                        }
                        Some(self.stepped(prepared, next, Effect::Acknowledge))
                    }
                    (result, pending) => panic!("{user} {pending:?}: {result:?}"),
                }
            }
            Wish::Cancel(user) => {
                match (update::prepare_cancellation(&snapshot, &made_user(&self.ledger, user), NOW), &model.pending) {
                    (Err(UpdateError::Denied(_)), _) if !model.may_update(user) => None,
                    (Err(UpdateError::NothingPending), None) if model.may_update(user) => None,
                    (Ok(prepared), Some(_)) if model.may_update(user) => {
                        Some((Command::Update(Box::new(prepared.step)), Effect::Cancel))
                    }
                    (result, _) => panic!("{user}: {result:?}"),
                }
            }
            Wish::Activate => match (Candidate::find(&snapshot, "limited"), model.running.limit) {
                (Err(_), None) => None,
                (Ok(Candidate { marble_type, deployment }), Some(_)) => {
                    Some((Command::CountActivation { marble_type, deployment }, Effect::Activate))
                }
                (result, limit) => panic!("{limit:?}: {result:?}"),
            },
            Wish::Count { name, value } => {
                let before = Arc::new(OnceLock::new());
                let marble = MarbleName { marble_type: "free".to_owned(), uuid: UUID.to_owned() };
                let wish = RaiseCounter { marble, name: name.to_string(), value, before: Arc::clone(&before) };
                Some((Command::RaiseCounter(wish), Effect::Count { name, value, before }))
            }
        }
    }

    /// A step that makes `next` of the pending update, or puts it into force.
    fn stepped(&self, prepared: Prepared, next: Pending, waits: impl Fn(Pending) -> Effect) -> (Command, Effect) {
        let effect = match prepared.outcome {
            Outcome::Waits(pending) => {
                assert_eq!(pending.missing(), next.missing);
                assert!(next.missing > 0);
                waits(next)
            }
            Outcome::Applied(_) => {
                assert_eq!(next.missing, 0);
                Effect::Apply(next.variant, 2)
            }
            outcome => panic!("{outcome:?}"),
        };
        (Command::Update(Box::new(prepared.step)), effect)
    }

    /// Decides and applies the command; it must be refused if and only if the model says so.
    fn submit(&mut self, Held { command, epoch, effect }: Held) {
        let now = self.model.epoch;
        let expected = match &effect {
            Effect::Upload(_) => (epoch.0 != now.0).then_some(Refusal::DeploymentChanged),
            Effect::Activate if epoch.1 != now.1 => Some(Refusal::DeploymentChanged),
            Effect::Activate => {
                let limit = self.model.running.limit.unwrap();
                let is_used = self.model.activations >= limit;
                is_used.then(|| Refusal::BudgetUsed { marble_type: "limited".to_owned(), limit })
            }
            Effect::Count { .. } => None,
            _ => ((epoch.1, epoch.2) != (now.1, now.2)).then_some(Refusal::UpdateChanged),
        };
        let before = fixture::whole_state(&self.ledger);
        match self.ledger.decide(command) {
            Ok(record) => {
                assert_eq!(expected, None, "{effect:?}");
                assert_eq!(fixture::whole_state(&self.ledger), before, "deciding changes nothing");
                if let Some(record) = record {
                    self.stored.push(record.encode());
                    self.ledger.apply(record).unwrap();
                }
                self.take_in(effect);
            }
            Err(refusal) => {
                assert_eq!(Some(&refusal), expected.as_ref(), "{effect:?}");
                assert_eq!(fixture::whole_state(&self.ledger), before, "a refused command changes nothing");
            }
        }
    }

    fn take_in(&mut self, effect: Effect) {
        let model = &mut self.model;
        match effect {
            Effect::Upload(byte) => {
                // Three values can be uploaded; each has its number.
                model.token = Some((1_000_000 + u64::from(byte), model.token.unwrap().1));
                model.log_lines += 1;
            }
            Effect::Raise(version) => {
                model.security_version = version;
                model.cert = (model.new_id(), model.cert.1);
                model.epoch.1 += 1;
                model.log_lines += 1;
            }
            Effect::Initiate(pending) | Effect::Acknowledge(pending) => {
                model.pending = Some(pending);
                model.epoch.2 += 1;
                model.log_lines += 1;
            }
            Effect::Cancel => {
                model.pending = None;
                model.epoch.2 += 1;
                model.log_lines += 1;
            }
            Effect::Apply(variant, lines) => {
                model.apply(variant);
                model.log_lines += lines;
            }
            Effect::Activate => model.activations += 1,
            Effect::Count { name, value, before } => {
                let current = model.counters.entry(name).or_default();
                assert_eq!(before.get(), Some(&*current));
                *current = value.max(*current);
            }
        }
    }

    /// The state is what the model says.
    fn check(&mut self) {
        let snapshot = self.ledger.snapshot();
        let deployment = Arc::clone(snapshot.deployment().unwrap());
        let model = self.model.clone();
        assert_eq!(*deployment.raw_manifest, model.running.text().into_bytes());
        assert_eq!(deployment.security_version("p"), Some(Some(model.security_version)));
        assert_eq!(deployment.marbles["free"].package.security_version, Some(model.security_version));
        assert_eq!(snapshot.update_log.len(), model.log_lines);
        let shown = snapshot.pending_update.as_ref().map(|pending| (pending.missing(), pending.missing_users()));
        let expected = model.pending.as_ref().map(|pending| {
            let missing = pending.asked.iter().filter(|(_, agreed)| !**agreed).map(|(name, _)| (*name).to_owned());
            (pending.missing, missing.collect::<Vec<_>>())
        });
        assert_eq!(shown, expected);
        if let Some(limited) = deployment.marbles.get("limited") {
            assert_eq!(limited.activations.load(Ordering::Acquire), model.activations);
            assert_eq!(Some(limited.max_activations), model.running.limit);
        }

        self.check_pair("key", model.key);
        self.check_pair("cert", Some(model.cert));
        self.check_pair("token", model.token);
        let marble_root = Certificate::parse(&snapshot.identity.marble_root_certificate).unwrap();
        let certificate = deployment.secrets.get("cert").unwrap().certificate.as_ref().unwrap();
        Certificate::parse(certificate).unwrap().verify_signed_by(marble_root.public_key_der()).unwrap();
        let marble = activate(&self.ledger, "free", UUID).unwrap();
        self.check_value(model.root.0, file(&marble, "/own").into_bytes());
        self.check_value(model.root.1, file(&marble, "/before").into_bytes());
    }

    fn check_pair(&mut self, name: &str, pair: Option<Pair>) {
        let deployment = Arc::clone(self.ledger.snapshot().deployment().unwrap());
        let current = deployment.secrets.get(name);
        let previous = deployment.previous_secrets.get(name);
        assert_eq!((current.is_some(), previous.is_some()), (pair.is_some(), pair.is_some()), "{name}");
        let value = |secret: &Arc<Secret>| secret.private.as_ref().map(|bytes| bytes.expose().to_vec());
        for (id, secret) in pair.iter().flat_map(|pair| [pair.0, pair.1]).zip(current.into_iter().chain(previous)) {
            match value(secret) {
                Some(bytes) => self.check_value(id, bytes),
                None => assert_eq!(id, 0, "{name} has no value"),
            }
        }
    }

    /// Equal numbers are equal bytes, different ones differ.
    fn check_value(&mut self, id: Id, bytes: Vec<u8>) {
        match self.seen.get(&id) {
            Some(known) => assert_eq!(*known, bytes, "value {id} changed"),
            None => {
                assert!(self.seen.values().all(|known| *known != bytes), "value {id} is another one's");
                self.seen.insert(id, bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    // rules: UPD-1, UPD-4, UPD-5, UPD-7, UPD-9, UPD-10, UPD-11, UPD-14, R17
    #[test]
    fn any_history_of_updates_leaves_the_state_that_the_model_has(
        first in variant(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(first);
        world.check();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.restart();
        world.check();
    }
}
