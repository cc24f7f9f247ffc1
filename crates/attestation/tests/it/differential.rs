//! The same verdict as a second implementation, over all vectors and many deterministic mutations.
//!
//! The oracle is crate `dcap-qvl`. Where we refuse what it accepts, our error must be one of the documented stricter
//! rules ([`Stricter`]); the other way round is never allowed.

use std::collections::BTreeMap;
use std::error::Error;

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use marblerun_attestation::{
    Claims, Collateral, CollateralError, CollateralItem, PckError, PemError, Quote, QuoteError, TcbStatus, TrustRoots,
    ValidityError, VerifyError, verify,
};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::fixtures::{at, vectors};
use crate::pki::{NOW, Plan, World, level, qe_level};

/// A rule that we have and the oracle has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stricter {
    /// Only zeros may follow a quote or its certification data.
    TrailingBytes,
    /// Only white space and zeros may stand around the certificates of a chain.
    TextAroundCertificates,
    /// At most five certificates in a chain, all of them readable.
    ChainForm,
    /// The PCE-ID of the TCB info must be the platform's.
    PceId,
    /// The type of the TCB info must be 0.
    TcbType,
    /// The version of the TCB info must be 3.
    Version,
    /// The root itself must be within its validity period.
    RootValidity,
    /// Every part of a signed text must have its form, not only the level that matches.
    SignedText,
    /// The collateral text has exactly the known members, and signatures of exactly 64 bytes.
    CollateralForm,
    /// The SGX extension of the PCK must be well-formed throughout.
    PckExtension,
}

/// Which stricter rule an error of ours belongs to, if any.
fn stricter(error: &(dyn Error + 'static)) -> Option<Stricter> {
    if let Some(QuoteError::TrailingBytes { .. }) = error.downcast_ref() {
        return Some(Stricter::TrailingBytes);
    }
    if let Some(error) = error.downcast_ref::<CollateralError>() {
        return match error {
            CollateralError::Pem { source, .. } => pem(source),
            CollateralError::TcbType { .. } => Some(Stricter::TcbType),
            CollateralError::Version { item: CollateralItem::TcbInfo, got, .. } if *got != 3 => Some(Stricter::Version),
            CollateralError::Validity(error) if error.item() == CollateralItem::Root => Some(Stricter::RootValidity),
            CollateralError::SignedText { .. } => Some(Stricter::SignedText),
            CollateralError::Json { .. } | CollateralError::SignatureLength { .. } => Some(Stricter::CollateralForm),
            _ => None,
        };
    }
    match error.downcast_ref::<VerifyError>()? {
        VerifyError::PceId { .. } => Some(Stricter::PceId),
        VerifyError::Validity(ValidityError::Expired { item: CollateralItem::Root, .. }) => {
            Some(Stricter::RootValidity)
        }
        VerifyError::Pck(PckError::Pem(error)) => pem(error),
        VerifyError::Pck(PckError::Extension { .. }) => Some(Stricter::PckExtension),
        _ => None,
    }
}

fn pem(error: &PemError) -> Option<Stricter> {
    match error {
        PemError::StrayText { .. } => Some(Stricter::TextAroundCertificates),
        PemError::NoEnd { .. } | PemError::TooMany { .. } => Some(Stricter::ChainForm),
        _ => None,
    }
}

/// What both implementations say about accepted evidence.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    status: String,
    advisories: Vec<String>,
    mr_enclave: [u8; 32],
    report_data: [u8; 64],
}

fn ours(evidence: &[u8], collateral: &[u8], roots: &TrustRoots, now: UnixTime) -> Result<Verdict, Box<dyn Error>> {
    // In the oracle's order, so that each sees the same inputs.
    let quote = Quote::parse_raw(evidence)?;
    let collateral = Collateral::parse(collateral)?.verify(roots, now)?;
    judge(&quote, &collateral, now)
}

fn judge(
    quote: &Quote,
    collateral: &marblerun_attestation::TrustedCollateral,
    now: UnixTime,
) -> Result<Verdict, Box<dyn Error>> {
    let report = verify(quote, collateral, now)?;
    // Revoked is a claim for us, which no admission rule accepts, and an error for the oracle.
    if report.tcb_status() == TcbStatus::Revoked {
        return Err("revoked".into());
    }
    let Claims::Sgx(sgx) = report.claims() else { return Err("another TEE".into()) };
    Ok(Verdict {
        status: report.tcb_status().to_string(),
        advisories: report.advisories().to_vec(),
        mr_enclave: sgx.mr_enclave,
        report_data: *sgx.report_data.as_bytes(),
    })
}

fn theirs(evidence: &[u8], collateral: &QuoteCollateralV3, root: &[u8], now: UnixTime) -> Result<Verdict, String> {
    let verifier = QuoteVerifier::new(root.to_vec()).allow_debug(true);
    let report = verifier.verify(evidence, collateral, now.as_secs()).map_err(|error| format!("{error:#}"))?;
    let sgx = report.report.as_sgx().ok_or("another TEE")?;
    // We list each advisory once, the oracle as often as the level does.
    let mut advisories: Vec<String> = Vec::new();
    for advisory in report.advisory_ids {
        if !advisories.contains(&advisory) {
            advisories.push(advisory);
        }
    }
    Ok(Verdict { status: report.status, advisories, mr_enclave: sgx.mr_enclave, report_data: sgx.report_data })
}

/// How often each outcome was seen.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    stricter: BTreeMap<Stricter, u64>,
}

impl Tally {
    fn cases(&self) -> u64 {
        self.accepted + self.refused + self.stricter.values().sum::<u64>()
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        for (rule, count) in &other.stricter {
            *self.stricter.entry(*rule).or_default() += count;
        }
    }

    fn compare(
        &mut self,
        case: &dyn Fn() -> String,
        ours: Result<Verdict, Box<dyn Error>>,
        theirs: Result<Verdict, String>,
    ) {
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours, theirs, "{}", case());
                self.accepted += 1;
            }
            (Err(_), Err(_)) => self.refused += 1,
            (Ok(ours), Err(theirs)) => panic!("{}: we accept {ours:?}, the oracle says: {theirs}", case()),
            (Err(error), Ok(theirs)) => {
                let Some(rule) = stricter(error.as_ref()) else {
                    panic!("{}: the oracle accepts {theirs:?}, we say: {error} ({error:?})", case())
                };
                *self.stricter.entry(rule).or_default() += 1;
            }
        }
    }
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Evidence, collateral, root and time that belong together.
struct Base {
    name: String,
    evidence: Vec<u8>,
    collateral: Value,
    root: Vec<u8>,
    roots: TrustRoots,
    now: UnixTime,
}

fn bases() -> Vec<Base> {
    let (vectors, _) = vectors();
    vectors
        .into_iter()
        .map(|vector| Base {
            roots: vector.roots(),
            collateral: serde_json::from_slice(&vector.collateral).unwrap(),
            name: vector.id,
            evidence: vector.evidence,
            root: vector.root,
            now: vector.now,
        })
        .collect()
}

/// Those that are accepted unchanged; a change to the others proves little.
fn good_bases() -> Vec<Base> {
    let good: Vec<_> = bases()
        .into_iter()
        .filter(|base| ours(&base.evidence, base.collateral.to_string().as_bytes(), &base.roots, base.now).is_ok())
        .collect();
    assert_eq!(good.len(), 8);
    good
}

fn full_case(tally: &mut Tally, name: &dyn Fn() -> String, evidence: &[u8], collateral: &Value, base: &Base) {
    let text = collateral.to_string();
    let oracle = match serde_json::from_str::<QuoteCollateralV3>(&text) {
        Ok(collateral) => theirs(evidence, &collateral, &base.root, base.now),
        Err(error) => Err(error.to_string()),
    };
    tally.compare(name, ours(evidence, text.as_bytes(), &base.roots, base.now), oracle);
}

/// Runs `cases` numbered cases on two threads; the number is the seed.
fn run(cases: u64, case: impl Fn(u64, &mut Random, &mut Tally) + Sync) -> Tally {
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|first| {
            let case = &case;
            scope.spawn(move || {
                let mut tally = Tally::default();
                for number in (first..cases).step_by(2) {
                    case(number, &mut Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d)), &mut tally);
                }
                tally
            })
        });
        for thread in threads {
            total.add(&thread.join().unwrap());
        }
    });
    assert_eq!(total.cases(), cases);
    total
}

// rules: ATT-5.3
#[test]
fn every_vector_gives_the_same_verdict() {
    let mut tally = Tally::default();
    for base in bases() {
        full_case(&mut tally, &|| base.name.clone(), &base.evidence, &base.collateral, &base);
    }
    assert_eq!((tally.accepted, tally.refused), (8, 5), "{tally:?}");
}

/// Fields in which a change reaches deeper than the first check.
const QUOTE_FIELDS: [std::ops::Range<usize>; 10] =
    [0..48, 48..432, 432..436, 436..500, 500..564, 564..948, 948..1012, 1012..1046, 1046..1052, 1052..usize::MAX];

fn mutate_quote(random: &mut Random, quote: &mut Vec<u8>, other: &[u8]) {
    let field = random.pick(&QUOTE_FIELDS).clone();
    let field = field.start..field.end.min(quote.len());
    let at = field.start + random.below(field.len());
    match random.below(10) {
        0..4 => quote[at] ^= 1 << random.below(8),
        4 | 5 => quote[at] = random.byte(),
        6 => quote.truncate(at),
        7 => {
            let count = random.below(8);
            let byte = if random.below(2) == 0 { 0 } else { random.byte() };
            quote.extend(std::iter::repeat_n(byte, count));
        }
        8 => {
            let end = field.end.min(other.len());
            quote[field.start..end].copy_from_slice(&other[field.start..end]);
        }
        _ => {
            let from = random.below(quote.len());
            let length = random.below(64).min(quote.len() - at).min(quote.len() - from);
            quote.copy_within(from..from + length, at);
        }
    }
}

// rules: ATT-5.3
#[test]
fn changed_quotes_get_the_same_verdict() {
    let bases = good_bases();
    let trusted: Vec<_> = bases
        .iter()
        .map(|base| {
            let text = base.collateral.to_string();
            let kept = Collateral::parse(text.as_bytes()).unwrap().verify(&base.roots, base.now).unwrap();
            (kept, serde_json::from_str::<QuoteCollateralV3>(&text).unwrap())
        })
        .collect();
    let tally = run(40_000, |number, random, tally| {
        let which = random.below(bases.len());
        let (base, (kept, oracle)) = (&bases[which], &trusted[which]);
        let mut quote = base.evidence.clone();
        let other = &random.pick(&bases).evidence;
        for _ in 0..=random.below(2) {
            if quote.len() > 1100 {
                mutate_quote(random, &mut quote, other);
            }
        }
        let name = || format!("quote mutation {number} of {}", base.name);
        let mine = Quote::parse_raw(&quote).map_err(Box::from).and_then(|quote| judge(&quote, kept, base.now));
        tally.compare(&name, mine, theirs(&quote, oracle, &base.root, base.now));
    });
    assert!(tally.accepted > 500 && tally.refused > 20_000, "{tally:?}");
    assert!(tally.stricter.contains_key(&Stricter::TrailingBytes), "{tally:?}");
}

fn mutate_text(random: &mut Random, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.is_empty() {
        return "0".to_owned();
    }
    let at = random.below(bytes.len());
    match random.below(8) {
        0..3 => bytes[at] ^= 1 << random.below(7),
        3 | 4 => bytes[at] = *random.pick(b"0123456789abcdefABCDEF\"{}[],: \n-"),
        5 => drop(bytes.remove(at)),
        6 => bytes.insert(at, *random.pick(b"0fA \n,")),
        _ => {
            let length = random.below(80).min(bytes.len() - at);
            bytes.drain(at..at + length);
        }
    }
    // The texts are ASCII and bit 7 stays clear, so this is still text.
    String::from_utf8(bytes).unwrap()
}

// rules: ATT-5.3
#[test]
fn changed_collateral_gets_the_same_verdict() {
    let bases = good_bases();
    let members: Vec<String> = bases[0].collateral.as_object().unwrap().keys().cloned().collect();
    let tally = run(40_000, |number, random, tally| {
        let base = random.pick(&bases);
        let mut collateral = base.collateral.clone();
        let member = random.pick(&members).as_str();
        match random.below(12) {
            0 => collateral[member] = random.pick(&bases).collateral[member].clone(),
            1 => drop(collateral.as_object_mut().unwrap().remove(member)),
            2 => {
                let other = collateral[random.pick(&members).as_str()].take();
                collateral[member] = other;
            }
            _ => collateral[member] = mutate_text(random, collateral[member].as_str().unwrap()).into(),
        }
        let name = || format!("collateral mutation {number} of {}, member {member}", base.name);
        full_case(tally, &name, &base.evidence, &collateral, base);
    });
    assert!(tally.accepted > 500 && tally.refused > 20_000, "{tally:?}");
}

/// A value that a reader may trip over, or a plausible one.
fn odd_value(random: &mut Random, old: &Value) -> Value {
    match (random.below(6), old) {
        (0, _) => random.pick(&[json!(null), json!(true), json!([]), json!({}), json!(-1), json!(1.5)]).clone(),
        (1, _) => {
            random.pick(&[json!(0), json!(2), json!(255), json!(256), json!(65_535), json!(4_294_967_296_u64)]).clone()
        }
        (2 | 3, Value::Number(number)) => {
            (number.as_u64().unwrap_or(0).wrapping_add(random.next() % 3)).saturating_sub(1).into()
        }
        (2 | 3, Value::String(text)) => mutate_text(random, text).into(),
        (_, Value::String(_)) => random
            .pick(&[
                "UpToDate",
                "OutOfDate",
                "Revoked",
                "SWHardeningNeeded",
                "ConfigurationNeeded",
                "TDRelaunchAdvised",
                "2026-11-22T00:00:00Z",
                "2026-11-24T00:00:00+01:00",
                "2026-11-23T00:00:00.5Z",
                "2026-12-31",
                "QE",
                "TD_QE",
                "SGX",
                "TDX",
                "0000",
                "0001",
                "FF5357544545",
                "00",
                "",
            ])
            .to_string()
            .into(),
        _ => old.clone(),
    }
}

/// Every place in a JSON value, as pointers.
fn pointers(value: &Value, prefix: &str, found: &mut Vec<String>) {
    found.push(prefix.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| pointers(value, &format!("{prefix}/{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| pointers(item, &format!("{prefix}/{at}"), found))
        }
        _ => (),
    }
}

fn mutate_json(random: &mut Random, value: &mut Value) {
    let mut places = Vec::new();
    pointers(value, "", &mut places);
    let place = random.pick(&places).clone();
    let Some(target) = value.pointer_mut(&place) else { return };
    match target {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(4) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                2 => {
                    let other = random.below(items.len());
                    items.swap(at, other);
                }
                _ => items[at] = odd_value(random, &items[at]),
            }
        }
        Value::Object(members) if !members.is_empty() => {
            let names: Vec<_> = members.keys().cloned().collect();
            let name = random.pick(&names).clone();
            match random.below(3) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert("other".to_owned(), json!([{ "a": 1 }]))),
                _ => members[&name] = odd_value(random, &members[&name]),
            }
        }
        other => *other = odd_value(random, other),
    }
}

// rules: ATT-5.3
#[test]
fn changed_and_signed_texts_get_the_same_verdict() {
    let world = World::new();
    let mut plan = Plan::default();
    plan.platform.cpu_svn = (0..16).collect();
    plan.tcb_info["tcbLevels"] = json!([
        level(9, 13, "UpToDate", &[]),
        level(0, 13, "SWHardeningNeeded", &["INTEL-SA-00615"]),
        level(0, 12, "OutOfDate", &["INTEL-SA-00334", "INTEL-SA-00615"]),
    ]);
    plan.qe_identity["tcbLevels"] =
        json!([qe_level(9, "UpToDate", &[]), qe_level(8, "OutOfDate", &["INTEL-SA-00477"])]);
    let made = world.make(&plan);
    let base = Base {
        name: "fabricated".to_owned(),
        roots: made.roots(),
        evidence: made.quote,
        collateral: made.collateral,
        root: made.root,
        now: at(NOW),
    };
    let tally = run(20_000, |number, random, tally| {
        let mut collateral = base.collateral.clone();
        let member = *random.pick(&["tcb_info", "qe_identity"]);
        let mut text = collateral[member].as_str().unwrap().to_owned();
        if random.below(4) == 0 {
            text = mutate_text(random, &text);
        } else {
            let mut value: Value = serde_json::from_str(&text).unwrap();
            for _ in 0..=random.below(2) {
                mutate_json(random, &mut value);
            }
            text = value.to_string();
        }
        // MarbleRun's servers may write null where there are no advisories; the oracle does not read that.
        let text = text.replace("\"advisoryIDs\":null", "\"advisoryIDs\":[]");
        world.sign_text(&mut collateral, member, &text);
        let name = || format!("signed mutation {number}: {text}");
        full_case(tally, &name, &base.evidence, &collateral, &base);
    });
    assert!(tally.accepted > 2_000 && tally.refused > 5_000, "{tally:?}");
    for rule in [Stricter::PceId, Stricter::TcbType, Stricter::Version] {
        assert!(tally.stricter.contains_key(&rule), "no case for {rule:?}: {tally:?}");
    }
}

#[test]
fn changed_platforms_quotes_and_lists_get_the_same_verdict() {
    let world = World::new();
    let tally = run(2_000, |number, random, tally| {
        let mut plan = Plan::default();
        for _ in 0..=random.below(2) {
            mutate_plan(random, &mut plan);
        }
        let made = world.make(&plan);
        let base = Base {
            name: String::new(),
            roots: made.roots(),
            evidence: made.quote,
            collateral: made.collateral,
            root: made.root,
            now: at(NOW),
        };
        let name = || format!("world {number}");
        full_case(tally, &name, &base.evidence, &base.collateral, &base);
    });
    assert!(tally.accepted > 200 && tally.refused > 500, "{tally:?}");
    assert!(tally.stricter.contains_key(&Stricter::RootValidity), "{tally:?}");
}

fn mutate_plan(random: &mut Random, plan: &mut Plan) {
    const DAY: u64 = 24 * 60 * 60;
    let near = |random: &mut Random| NOW - 1 + random.next() % 3;
    match random.below(18) {
        0 => plan.root.not_after = near(random),
        1 => plan.root.not_before = near(random),
        2 => plan.pck_ca.not_after = near(random),
        3 => plan.pck.not_before = near(random),
        4 => plan.signer.not_after = near(random),
        5 => plan.indirect_signer = true,
        6 => plan.signed_by_pck = true,
        7 => plan.root_list.revoked = vec![random.byte() % 6 + 1],
        8 => plan.pck_list.revoked = vec![random.byte() % 6 + 1],
        9 => plan.root_list.next_update = near(random),
        10 => plan.pck_list.next_update = near(random) + (random.next() % 2) * DAY,
        11 => plan.platform.cpu_svn[random.below(16)] = 3 + random.byte() % 5,
        12 => plan.platform.pce_svn = 11 + u16::from(random.byte() % 4),
        13 => plan.platform.fmspc[random.below(6)] ^= random.byte() & 1,
        14 => plan.platform.sgx_type = random.byte() % 3,
        15 => plan.qe_report[random.below(320)] ^= 1 << random.below(8),
        16 => plan.qe_report[258] = random.byte() % 12,
        _ => plan.report[random.below(384)] ^= 1 << random.below(8),
    }
}
