//! Monotonic counters of Marbles: who asks, and what a counter may become.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use marblerun_pki::{Certificate, oid};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use crate::identity::Identity;
use crate::uuid::MarbleUuid;

/// Longest name of a counter in bytes.
pub const MAX_NAME_BYTES: usize = 1024;
/// Most counters of one Marble; they are never deleted.
pub const MAX_COUNTERS_PER_MARBLE: usize = 1000;
/// Most counters of all Marbles.
pub const MAX_COUNTERS: usize = 100_000;

/// A Marble, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarbleName {
    /// The Marble type.
    pub marble_type: String,
    /// The instance, in the canonical form.
    pub uuid: String,
}

impl MarbleName {
    /// The Marble whose certificate this is: issued by the current Marble root, valid `now`, for TLS servers.
    ///
    /// `leaf` must be the leaf of the client's TLS certificates: only for it possession of the key was proven.
    pub fn authenticate(identity: &Identity, leaf: &[u8], now: UnixTime) -> Option<Self> {
        let root = Certificate::parse(&identity.marble_root_certificate).ok()?;
        let certificate = Certificate::parse(leaf).ok()?;
        certificate.verify_signed_by(root.public_key_der()).ok()?;
        let validity = certificate.validity().ok()?;
        if certificate.issuer_der() != root.subject_der()
            || !(validity.not_before.as_secs()..=validity.not_after.as_secs()).contains(&now.as_secs())
            || !is_for_servers(&certificate)?
        {
            return None;
        }
        let marble_type = String::from_utf8(certificate.extension(oid::MARBLE_TYPE).ok()??).ok()?;
        let uuid = MarbleUuid::parse(&certificate.subject().ok()?.common_name).ok()?.to_string();
        Some(Self { marble_type, uuid })
    }
}

/// id-ce-extKeyUsage, RFC 5280 4.2.1.12.
const EXT_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// anyExtendedKeyUsage and id-kp-serverAuth.
const SERVER_USAGES: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("2.5.29.37.0"), ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1")];

/// Whether the extended key usage permits it, as it does when there is none; `None` if it cannot be read.
fn is_for_servers(certificate: &Certificate<'_>) -> Option<bool> {
    let Some(value) = certificate.extension(EXT_KEY_USAGE).ok()? else { return Some(true) };
    let usages = Vec::<ObjectIdentifier>::from_der(&value).ok()?;
    Some(usages.iter().any(|usage| SERVER_USAGES.contains(usage)))
}

/// A wish to raise a counter.
#[derive(Debug)]
pub struct RaiseCounter {
    /// Whose counter.
    pub marble: MarbleName,
    /// Its name; may be empty.
    pub name: String,
    /// The value to reach; a smaller one than the current changes nothing.
    pub value: u64,
    /// The value before, once the command is acknowledged.
    pub before: Arc<OnceLock<u64>>,
}

/// What a counter was raised to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRaised {
    /// Whose counter.
    pub marble: MarbleName,
    /// Its name.
    pub name: String,
    /// The new value.
    pub value: u64,
}

/// Why a counter is not raised.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CounterError {
    /// The name is too long.
    #[error("name: expected at most {MAX_NAME_BYTES} bytes, got {0}")]
    Name(usize),
    /// The Marble has as many as it may have.
    #[error("expected at most {MAX_COUNTERS_PER_MARBLE} counters of one Marble")]
    MarbleFull,
    /// There are as many as there may be.
    #[error("expected at most {MAX_COUNTERS} counters")]
    Full,
}

/// The counters of all Marbles. They outlive manifests and features, and only commands look at them.
#[derive(Debug, Default)]
pub struct Counters {
    by_marble: BTreeMap<MarbleName, BTreeMap<String, u64>>,
    number: usize,
}

impl Counters {
    /// The record that `wish` leads to; `None` if it changes nothing. Either way the value before is told.
    ///
    /// # Errors
    ///
    /// See [`CounterError`].
    pub(crate) fn decide(&self, wish: RaiseCounter) -> Result<Option<CounterRaised>, CounterError> {
        let RaiseCounter { marble, name, value, before } = wish;
        if name.len() > MAX_NAME_BYTES {
            return Err(CounterError::Name(name.len()));
        }
        let counters = self.by_marble.get(&marble);
        let current = counters.and_then(|counters| counters.get(&name)).copied();
        let raised = value > current.unwrap_or(0);
        if raised && current.is_none() {
            if counters.is_some_and(|counters| counters.len() >= MAX_COUNTERS_PER_MARBLE) {
                return Err(CounterError::MarbleFull);
            }
            if self.number >= MAX_COUNTERS {
                return Err(CounterError::Full);
            }
        }
        // Each command has its own place for the answer.
        let _ = before.set(current.unwrap_or(0));
        Ok(raised.then_some(CounterRaised { marble, name, value }))
    }

    /// Takes a record in; false if it does not raise the counter, so that it cannot have been decided here.
    pub(crate) fn apply(&mut self, raised: CounterRaised) -> bool {
        let current = self.by_marble.get(&raised.marble).and_then(|counters| counters.get(&raised.name)).copied();
        if raised.value <= current.unwrap_or(0) {
            return false;
        }
        self.by_marble.entry(raised.marble).or_default().insert(raised.name, raised.value);
        self.number += usize::from(current.is_none());
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use marblerun_pki::AltNames;

    use super::*;
    use crate::record::Genesis;
    use crate::set_manifest;
    use crate::time::Timestamp;

    fn marble(number: usize) -> MarbleName {
        MarbleName { marble_type: "web".to_owned(), uuid: number.to_string() }
    }

    /// What the counter was before; it is raised as the ledger does it.
    fn raise(counters: &mut Counters, marble: MarbleName, name: &str, value: u64) -> Result<u64, CounterError> {
        let before = Arc::new(OnceLock::new());
        let wish = RaiseCounter { marble, name: name.to_owned(), value, before: Arc::clone(&before) };
        if let Some(raised) = counters.decide(wish)? {
            assert!(before.get().is_some_and(|before| value > *before), "only what rises is written");
            assert!(counters.apply(raised.clone()));
            assert!(!counters.apply(raised), "a record counts once");
        }
        Ok(*before.get().unwrap())
    }

    // rules: CTR-1, CTR-2, STA-1.4
    #[test]
    fn a_counter_only_rises_and_each_has_its_own_value() {
        let mut counters = Counters::default();
        let values = [5, 3, 5, 9, 0, u64::MAX, u64::MAX - 1];
        let before = values.map(|value| raise(&mut counters, marble(1), "c", value).unwrap());
        assert_eq!(before, [0, 5, 5, 5, 9, 9, u64::MAX]);
        assert_eq!(raise(&mut counters, marble(2), "c", 1), Ok(0));
        assert_eq!(raise(&mut counters, marble(1), "C", 1), Ok(0));
        let other = MarbleName { marble_type: "job".to_owned(), ..marble(1) };
        assert_eq!(raise(&mut counters, other, "c", 1), Ok(0));
    }

    #[test]
    fn reading_makes_no_counter() {
        let mut counters = Counters::default();
        assert_eq!(raise(&mut counters, marble(1), "c", 0), Ok(0));
        assert!(counters.by_marble.is_empty());
    }

    // rules: R20
    #[test]
    fn names_and_numbers_are_limited_and_existing_counters_go_on() {
        let mut counters = Counters::default();
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(raise(&mut counters, marble(0), &long[1..], 1), Ok(0));
        assert_eq!(raise(&mut counters, marble(0), &long, 1), Err(CounterError::Name(long.len())));
        for number in 1..MAX_COUNTERS_PER_MARBLE {
            raise(&mut counters, marble(0), &number.to_string(), 1).unwrap();
        }
        assert_eq!(raise(&mut counters, marble(0), "more", 1), Err(CounterError::MarbleFull));
        assert_eq!(raise(&mut counters, marble(0), "1", 2), Ok(1));
        for number in MAX_COUNTERS_PER_MARBLE..MAX_COUNTERS {
            raise(&mut counters, marble(number), "c", 1).unwrap();
        }
        assert_eq!(raise(&mut counters, marble(MAX_COUNTERS), "c", 1), Err(CounterError::Full));
        assert_eq!(raise(&mut counters, marble(MAX_COUNTERS), "c", 0), Ok(0));
        assert_eq!(raise(&mut counters, marble(MAX_COUNTERS - 1), "c", 2), Ok(1));
    }

    #[test]
    fn only_certificates_for_servers_authenticate() {
        #[track_caller]
        fn check(template: &str, expected: bool) {
            let now = Timestamp::from_millis(1_769_938_200_125);
            let genesis = Genesis::create(&AltNames::from_list("localhost"), now).unwrap();
            let manifest = format!(
                r#"{{"Packages":{{"p":{{"UniqueID":"{}"}}}},"Marbles":{{"m":{{"Package":"p"}}}},
                    "Secrets":{{"c":{{"Type":"cert-ecdsa","Size":256,"Shared":true,"Cert":{template}}}}}}}"#,
                "00".repeat(32)
            );
            let identity = Identity::from_genesis(&genesis).unwrap();
            let prepared = set_manifest::prepare(&identity, manifest.as_bytes(), now).unwrap();
            let certificate = prepared.record.secrets[0].1.certificate.clone().unwrap();
            assert_eq!(is_for_servers(&Certificate::parse(&certificate).unwrap()), Some(expected), "{template}");
        }
        check("{}", true);
        check(r#"{"ExtKeyUsage":[0]}"#, true);
        check(r#"{"ExtKeyUsage":[1]}"#, true);
        check(r#"{"ExtKeyUsage":[2,1]}"#, true);
        check(r#"{"ExtKeyUsage":[2]}"#, false);
    }
}
