//! The ledger against a simple model, through random histories with restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use marblerun_attestation::{EvaluationNumbers, FloorEntry, Fmspc, Tee};
use marblerun_coordinator_core::activation::{ActivationError, Candidate};
use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal, ReplayError};
use marblerun_coordinator_core::record::{CollateralAccepted, Record};
use marblerun_coordinator_core::set_manifest;
use marblerun_coordinator_core::snapshot::Status;
use marblerun_coordinator_core::time::Timestamp;
use marblerun_secret::SecretBytes;
use proptest::prelude::*;
use rustls_pki_types::UnixTime;

use crate::fixture::{self, NOW, PACKAGES, UUID};

/// Marble types with their limits; 0 is none.
const TYPES: [(&str, u64); 4] = [("free", 0), ("never-asked", 0), ("one", 1), ("three", 3)];

fn manifest(comment: &str) -> String {
    let marbles: Vec<String> = TYPES
        .iter()
        .map(|(name, limit)| {
            format!(r#""{name}":{{"Package":"p","MaxActivations":{limit},"Parameters":{{"Files":{{"/k":"{{{{ hex .Secrets.k }}}}"}}}}}}"#)
        })
        .collect();
    format!(
        r#"{{{PACKAGES},"Marbles":{{{}}},"Secrets":{{"k":{{"Type":"symmetric-key","Size":128,"Shared":true}},"own":{{"Type":"symmetric-key","Size":128}}}},"Comment":"{comment}"}}"#,
        marbles.join(",")
    )
}

/// What may happen to an activation before it is counted.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Uuid,
    Request,
}

#[derive(Clone, Debug)]
enum Step {
    SetGood(u8),
    SetBad(u8),
    Activate {
        marble_type: &'static str,
        fault: Fault,
    },
    /// So many activations of a type are prepared on the same state, then all of them are counted.
    Race {
        marble_type: &'static str,
        number: u64,
    },
    /// An activation is prepared, the process restarts, then the activation is counted.
    Stale {
        marble_type: &'static str,
    },
    Collateral {
        fmspc: u8,
        tcb_info: u32,
        qe_identity: u32,
        issued: u64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let marble_type = || prop::sample::select(vec!["free", "one", "three", "unknown"]);
    let fault = prop_oneof![4 => Just(Fault::None), 1 => Just(Fault::Uuid), 1 => Just(Fault::Request)];
    prop_oneof![
        2 => (0..2_u8).prop_map(Step::SetGood),
        2 => (0..4_u8).prop_map(Step::SetBad),
        6 => (marble_type(), fault).prop_map(|(marble_type, fault)| Step::Activate { marble_type, fault }),
        2 => (marble_type(), 1..5_u64).prop_map(|(marble_type, number)| Step::Race { marble_type, number }),
        1 => marble_type().prop_map(|marble_type| Step::Stale { marble_type }),
        4 => (0..3_u8, 0..4_u32, 0..4_u32, 0..6_u64).prop_map(|(fmspc, tcb_info, qe_identity, issued)| {
            Step::Collateral { fmspc, tcb_info, qe_identity, issued }
        }),
        2 => Just(Step::Restart),
    ]
}

/// What must be true of the ledger, said as simply as possible.
#[derive(Default)]
struct Model {
    manifest: Option<String>,
    counted: BTreeMap<&'static str, u64>,
    numbers: BTreeMap<u8, (u32, u32)>,
    newest_issue: Option<u64>,
}

impl Model {
    fn limit(&self, marble_type: &str) -> Option<u64> {
        self.manifest.as_ref()?;
        TYPES.iter().find(|(name, _)| *name == marble_type).map(|(_, limit)| *limit)
    }

    fn left(&self, marble_type: &str) -> bool {
        let counted = self.counted.get(marble_type).copied().unwrap_or(0);
        self.limit(marble_type).is_some_and(|limit| limit == 0 || counted < limit)
    }
}

/// The system under test: a ledger, and the sealed records that a restart begins with.
struct World {
    ledger: Ledger,
    stored: Vec<SecretBytes>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let genesis = fixture::genesis();
        let ledger = Ledger::new(&genesis).unwrap();
        Self { ledger, stored: vec![Record::Genesis(genesis).encode()], model: Model::default() }
    }

    /// Everything that can be seen of the state. Secrets hide in it, but their values are compared by [`World::check`].
    fn visible(&self) -> String {
        format!("{:?}", self.ledger.snapshot())
    }

    fn submit(&mut self, command: Command) -> Result<bool, Refusal> {
        let before = self.visible();
        match self.ledger.decide(command) {
            Ok(Some(record)) => {
                assert_eq!(self.visible(), before, "deciding changes nothing");
                let bytes = record.encode();
                // What is applied now and what a restart applies must be the same.
                let again = Record::decode(bytes.expose()).unwrap().encode();
                assert_eq!(again.expose(), bytes.expose());
                self.ledger.apply(record).unwrap();
                self.stored.push(bytes);
                Ok(true)
            }
            Ok(None) => {
                assert_eq!(self.visible(), before, "a command without record changes nothing");
                Ok(false)
            }
            Err(refusal) => {
                assert_eq!(self.visible(), before, "a refused command changes nothing");
                Err(refusal)
            }
        }
    }

    fn restart(&mut self) {
        let before = self.visible();
        let old = self.ledger.snapshot();
        let records = self.stored.iter().map(|bytes| Record::decode(bytes.expose()).unwrap());
        self.ledger = Ledger::replay(records).unwrap();
        assert_eq!(self.visible(), before, "a restart finds the same state");
        let new = self.ledger.snapshot();
        if let (Some(old), Some(new)) = (old.deployment(), new.deployment()) {
            for (name, secret) in old.secrets.iter() {
                let value = |secret: &Option<SecretBytes>| secret.as_ref().map(|bytes| bytes.expose().to_vec());
                assert_eq!(value(&new.secrets.get(name).unwrap().private), value(&secret.private), "{name}");
                assert_eq!(value(&new.secrets.get(name).unwrap().public), value(&secret.public), "{name}");
            }
        }
    }

    fn set(&mut self, text: String) {
        let snapshot = self.ledger.snapshot();
        let prepared = set_manifest::prepare(&snapshot.identity, text.as_bytes(), NOW).unwrap();
        let result = self.submit(Command::SetManifest(Box::new(prepared.record)));
        if self.model.manifest.is_none() {
            assert_eq!(result, Ok(true));
            self.model.manifest = Some(text);
        } else {
            assert_eq!(result, Err(Refusal::ManifestAlreadySet));
        }
    }

    /// The candidate, if the model says that there must be one.
    fn find(&self, marble_type: &str) -> Option<Candidate> {
        let found = Candidate::find(&self.ledger.snapshot(), marble_type);
        match (self.model.manifest.is_some(), self.model.limit(marble_type)) {
            (false, _) => assert!(matches!(found, Err(ActivationError::State))),
            (true, None) => assert!(matches!(&found, Err(ActivationError::UnknownType(name)) if name == marble_type)),
            (true, Some(_)) => return Some(found.unwrap()),
        }
        None
    }

    fn prepare(&self, candidate: &Candidate, fault: Fault) -> Result<(), ActivationError> {
        let (uuid, request): (&str, &[u8]) = match fault {
            Fault::None => (UUID, fixture::certificate_request()),
            Fault::Uuid => ("web", fixture::certificate_request()),
            Fault::Request => (UUID, b"no request"),
        };
        candidate.prepare(&self.ledger.snapshot().identity, uuid, request, NOW).map(|_| ())
    }

    fn count(&mut self, candidate: Candidate) -> Result<bool, Refusal> {
        assert!(candidate.is_counted());
        let Candidate { marble_type, deployment } = candidate;
        self.submit(Command::CountActivation { marble_type, deployment })
    }

    fn activate(&mut self, marble_type: &'static str, fault: Fault) {
        let Some(candidate) = self.find(marble_type) else { return };
        let before = self.visible();
        let result = self.prepare(&candidate, fault);
        assert_eq!(self.visible(), before, "preparing changes nothing");
        match (self.model.left(marble_type), fault) {
            (false, _) => assert!(matches!(result, Err(ActivationError::Refused(Refusal::BudgetUsed { .. })))),
            (true, Fault::Uuid) => assert!(matches!(result, Err(ActivationError::Uuid(_)))),
            (true, Fault::Request) => assert!(matches!(result, Err(ActivationError::Request(_)))),
            (true, Fault::None) => {
                result.unwrap();
                assert_eq!(candidate.is_counted(), self.model.limit(marble_type) != Some(0));
                if candidate.is_counted() {
                    assert_eq!(self.count(candidate), Ok(true));
                    *self.model.counted.entry(marble_type).or_default() += 1;
                }
            }
        }
    }

    fn race(&mut self, marble_type: &'static str, number: u64) {
        if self.model.limit(marble_type).is_none_or(|limit| limit == 0) || !self.model.left(marble_type) {
            return;
        }
        let candidates: Vec<_> = (0..number).map(|_| self.find(marble_type).unwrap()).collect();
        for candidate in &candidates {
            self.prepare(candidate, Fault::None).unwrap();
        }
        for candidate in candidates {
            let limit = self.model.limit(marble_type).unwrap();
            if self.model.left(marble_type) {
                assert_eq!(self.count(candidate), Ok(true));
                *self.model.counted.entry(marble_type).or_default() += 1;
            } else {
                assert_eq!(self.count(candidate), Err(Refusal::BudgetUsed { marble_type: marble_type.into(), limit }));
            }
        }
    }

    fn stale(&mut self, marble_type: &'static str) {
        let Some(candidate) = self.find(marble_type).filter(Candidate::is_counted) else { return };
        self.restart();
        assert_eq!(self.count(candidate), Err(Refusal::DeploymentChanged));
    }

    fn collateral(&mut self, fmspc: u8, tcb_info: u32, qe_identity: u32, issued: u64) {
        let accepted = CollateralAccepted {
            tee: Tee::Sgx,
            fmspc: Fmspc([fmspc; 6]),
            numbers: EvaluationNumbers { tcb_info, qe_identity },
            newest_issue: unix(issued),
        };
        let wrote = self.submit(Command::AcceptCollateral(accepted)).unwrap();
        let old = self.model.numbers.get(&fmspc).copied();
        let (old_tcb, old_qe) = old.unwrap_or_default();
        let new = (old_tcb.max(tcb_info), old_qe.max(qe_identity));
        let newest = self.model.newest_issue.max(Some(issued));
        assert_eq!(wrote, old != Some(new) || newest != self.model.newest_issue, "only news are written");
        self.model.numbers.insert(fmspc, new);
        self.model.newest_issue = newest;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::SetGood(which) => self.set(manifest(["a", "b"][usize::from(which)])),
            Step::SetBad(which) => {
                let bad = bad_manifest(which);
                let before = self.visible();
                let result = set_manifest::prepare(&self.ledger.snapshot().identity, bad.as_bytes(), NOW);
                assert!(result.is_err(), "{bad}");
                assert_eq!(self.visible(), before);
            }
            Step::Activate { marble_type, fault } => self.activate(marble_type, fault),
            Step::Race { marble_type, number } => self.race(marble_type, number),
            Step::Stale { marble_type } => self.stale(marble_type),
            Step::Collateral { fmspc, tcb_info, qe_identity, issued } => {
                self.collateral(fmspc, tcb_info, qe_identity, issued);
            }
            Step::Restart => self.restart(),
        }
    }

    /// The state is what the model says.
    fn check(&self) {
        let snapshot = self.ledger.snapshot();
        let deployment = snapshot.deployment();
        let expected = self.model.manifest.as_deref();
        assert_eq!(deployment.map(|deployment| deployment.raw_manifest.as_slice()), expected.map(str::as_bytes));
        let (status, lines) = match &self.model.manifest {
            None => (Status::AcceptingManifest, 0),
            Some(_) => (Status::AcceptingMarbles, 1),
        };
        assert_eq!(snapshot.status(false), status);
        assert_eq!(snapshot.update_log.len(), lines);
        for line in snapshot.update_log.iter() {
            assert_eq!(line.as_ref(), r#"{"time":"2026-02-01T09:30:00.125Z","update":"Initial manifest set"}"#);
        }
        for (name, marble) in deployment.iter().flat_map(|deployment| deployment.marbles.iter()) {
            let used = marble.activations.load(std::sync::atomic::Ordering::Acquire);
            assert_eq!(used, self.model.counted.get(name.as_str()).copied().unwrap_or(0), "{name}");
            assert!(marble.max_activations == 0 || used <= marble.max_activations, "{name}");
            assert_eq!(marble.check_budget(name).is_ok(), self.model.left(name));
        }
        let floor: Vec<FloorEntry> = snapshot.floor.entries().collect();
        let expected: Vec<FloorEntry> = self
            .model
            .numbers
            .iter()
            .map(|(fmspc, (tcb_info, qe_identity))| FloorEntry {
                tee: Tee::Sgx,
                fmspc: Fmspc([*fmspc; 6]),
                numbers: EvaluationNumbers { tcb_info: *tcb_info, qe_identity: *qe_identity },
            })
            .collect();
        assert_eq!(floor, expected);
        assert_eq!(snapshot.floor.newest_issue(), self.model.newest_issue.map(unix));
    }
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn bad_manifest(which: u8) -> String {
    let good = manifest("x");
    match which {
        0 => good[1..].to_owned(),
        1 => good.replace(r#""Package":"p""#, r#""Package":"q""#),
        2 => good.replace("hex .Secrets.k", "hex .Secrets.nope"),
        _ => good.replace("hex .Secrets.k", "hex"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    // rules: STA-1.6
    #[test]
    fn any_history_leaves_the_state_that_the_model_has(steps in prop::collection::vec(step(), 1..24)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.restart();
        world.check();
    }
}

#[test]
fn a_log_that_does_not_begin_with_an_identity_is_refused() {
    let accepted = || Record::ActivationCounted { marble_type: "one".to_owned() };
    assert!(matches!(Ledger::replay([]), Err(ReplayError::NoGenesis)));
    assert!(matches!(Ledger::replay([accepted()]), Err(ReplayError::NoGenesis)));
}

// rules: STA-1.6
#[test]
fn records_out_of_place_are_refused_and_change_nothing() {
    #[track_caller]
    fn check(ledger: &mut Ledger, record: Record, reason: &str) {
        let before = format!("{:?}", ledger.snapshot());
        let error = ledger.apply(record).unwrap_err();
        assert!(matches!(&error, ReplayError::OutOfPlace(text) if *text == reason), "{error}");
        assert_eq!(format!("{:?}", ledger.snapshot()), before);
    }
    let count = |name: &str| Record::ActivationCounted { marble_type: name.to_owned() };
    let mut ledger = fixture::new_ledger();
    check(&mut ledger, Record::Genesis(fixture::genesis()), "a second identity");
    check(&mut ledger, count("one"), "an activation of an unknown Marble type");
    let set = || Record::ManifestSet(fixture::prepare(&manifest("a")).unwrap().record);
    ledger.apply(set()).unwrap();
    check(&mut ledger, set(), "a second first manifest");
    check(&mut ledger, count("unknown"), "an activation of an unknown Marble type");
}

#[test]
fn a_stored_manifest_that_cannot_be_read_ends_the_replay() {
    let mut record = fixture::prepare(&manifest("a")).unwrap().record;
    record.raw = b"{".to_vec();
    let records = [Record::Genesis(fixture::genesis()), Record::ManifestSet(record)];
    assert!(matches!(Ledger::replay(records), Err(ReplayError::Deployment(_))));
    let mut genesis = fixture::genesis();
    genesis.root_key = SecretBytes::copy_from(b"no key");
    assert!(matches!(Ledger::replay([Record::Genesis(genesis)]), Err(ReplayError::Identity(_))));
}

// rules: R17
#[test]
fn a_snapshot_does_not_change_while_the_ledger_goes_on() {
    let mut ledger = fixture::new_ledger();
    let before = ledger.snapshot();
    let prepared = fixture::prepare(&manifest("a")).unwrap();
    let record = ledger.decide(Command::SetManifest(Box::new(prepared.record))).unwrap().unwrap();
    ledger.apply(record).unwrap();
    assert!(before.deployment().is_none() && before.update_log.is_empty());
    assert!(Arc::ptr_eq(&before.identity, &ledger.snapshot().identity));
    assert_eq!(before.status(true), Status::Recovery);
    assert_eq!(ledger.snapshot().status(true), Status::AcceptingMarbles);
}

#[test]
fn the_line_of_the_update_log_has_the_time_of_the_command() {
    let snapshot = fixture::new_ledger().snapshot();
    let later = Timestamp::from_millis(1_769_938_200_125 + 1000);
    let prepared = set_manifest::prepare(&snapshot.identity, manifest("a").as_bytes(), later).unwrap();
    assert_eq!(prepared.record.log_line, r#"{"time":"2026-02-01T09:30:01.125Z","update":"Initial manifest set"}"#);
}
