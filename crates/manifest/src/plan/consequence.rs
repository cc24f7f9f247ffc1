//! What an update does beside what it says: what breaks, and what somebody has to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use marblerun_json::Place;

use super::effect::{Fate, SecretFate};
use super::{SecretUses, UsedSecrets, access, difference};
use crate::schema::{Config, FeatureGate, Manifest, Marble, Package, SealMode};
use crate::secret_type::SecretType;
use crate::update::UpdateKind;

/// Most names that stand in one sentence.
const MAX_NAMES: usize = 10;

/// Something that follows from an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// What in the manifest causes it.
    pub place: Place,
    /// What kind, for programs.
    pub code: ConsequenceCode,
    /// What happens, for people.
    pub text: String,
}

/// The kinds of consequences.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsequenceCode {
    /// Nobody may update the manifest afterwards.
    LockedOut,
    /// Older software is accepted again.
    SecurityVersionLowered,
    /// Enclaves that were accepted are not any more.
    EnclaveRefused,
    /// Instances of a Marble type cannot be activated any more.
    MarbleRemoved,
    /// A generated value is gone.
    ValueLost,
    /// An uploaded value is gone.
    UploadLost,
    /// Symmetric keys that instances have for themselves are others.
    DerivedKeysChanged,
    /// A Marble sees a key's new value, but not the previous one.
    PreviousUnused,
    /// Running Marbles cannot use their counters until they are started again.
    CountersRefused,
    /// A feature is switched off.
    FeatureOff,
    /// A user is not known any more.
    UserRemoved,
    /// A user's old certificate is not accepted any more.
    UserCertificateReplaced,
    /// What the recovery parties hold does not open the state any more.
    RecoveryReplaced,
    /// Nobody can recover the state any more.
    RecoveryRemoved,
    /// The state is not stored any more.
    StateNotSealed,
    /// Enclaves with other content get the secrets.
    OtherSoftware,
    /// A Marble cannot be activated before somebody uploads a secret.
    UploadNeeded,
    /// Activations that were used already count against the limit.
    ActivationsCounted,
    /// Other enclaves than before can open the sealed state.
    SealModeChanged,
}

impl ConsequenceCode {
    /// The name for programs, stable across releases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LockedOut => "locked-out",
            Self::SecurityVersionLowered => "security-version-lowered",
            Self::EnclaveRefused => "enclave-refused",
            Self::MarbleRemoved => "marble-removed",
            Self::ValueLost => "value-lost",
            Self::UploadLost => "upload-lost",
            Self::DerivedKeysChanged => "derived-keys-changed",
            Self::PreviousUnused => "previous-unused",
            Self::CountersRefused => "counters-refused",
            Self::FeatureOff => "feature-off",
            Self::UserRemoved => "user-removed",
            Self::UserCertificateReplaced => "user-certificate-replaced",
            Self::RecoveryReplaced => "recovery-replaced",
            Self::RecoveryRemoved => "recovery-removed",
            Self::StateNotSealed => "state-not-sealed",
            Self::OtherSoftware => "other-software",
            Self::UploadNeeded => "upload-needed",
            Self::ActivationsCounted => "activations-counted",
            Self::SealModeChanged => "seal-mode-changed",
        }
    }

    /// True if something that works before the update does not afterwards, or protects less; false if it is only good to
    /// know.
    pub fn breaks(self) -> bool {
        !matches!(self, Self::OtherSoftware | Self::UploadNeeded | Self::ActivationsCounted | Self::SealModeChanged)
    }
}

/// One line for people.
impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.place, self.text, self.code.as_str())
    }
}

/// Everything that the consequences follow from.
pub(super) struct Facts<'a> {
    pub(super) kind: UpdateKind,
    pub(super) old: &'a Manifest,
    /// Of a package update: the running manifest with the new versions.
    pub(super) new: &'a Manifest,
    pub(super) new_uses: &'a SecretUses,
    pub(super) fates: &'a [SecretFate],
}

pub(super) fn consequences(facts: &Facts<'_>) -> Vec<Consequence> {
    let mut found = Found(Vec::new());
    packages(&mut found, facts);
    if facts.kind == UpdateKind::Full {
        marbles(&mut found, facts);
        secrets(&mut found, facts);
        users(&mut found, facts);
        recovery(&mut found, facts);
        config(&mut found, &facts.old.config, &facts.new.config);
    }
    let counters = FeatureGate::MonotonicCounter;
    if facts.old.config.has_feature(counters) && facts.new.config.has_feature(counters) {
        let text = "running Marbles cannot use their monotonic counters until they are started again: their \
                    certificates do not verify under the new Marble root";
        found.add(Place::top().member("Config").member("FeatureGates"), ConsequenceCode::CountersRefused, text);
    }
    // What breaks comes first; within, the order of the sections stays.
    found.0.sort_by_key(|consequence| !consequence.code.breaks());
    found.0
}

struct Found(Vec<Consequence>);

impl Found {
    fn add(&mut self, place: Place, code: ConsequenceCode, text: impl Into<String>) {
        self.0.push(Consequence { place, code, text: text.into() });
    }
}

/// Packages of Marbles that exist before and after; who has another package is dealt with there.
fn packages(found: &mut Found, facts: &Facts<'_>) {
    let mut marbles_of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (marble, Marble { package, .. }) in &facts.old.marbles {
        if facts.new.marbles.get(marble).is_some_and(|new| new.package == *package) {
            marbles_of.entry(package).or_default().push(marble.clone());
        }
    }
    for (name, old) in &facts.old.packages {
        let Some(new) = facts.new.packages.get(name) else { continue };
        let marbles = marbles_of.remove(name.as_str()).unwrap_or_default();
        let place = Place::top().member("Packages").member(name);
        if new.security_version < old.security_version {
            let shown = |version: Option<u64>| version.map_or_else(|| "any".to_owned(), |version| version.to_string());
            let text = format!(
                "enclaves of security version {} are accepted, not only from {} on",
                shown(new.security_version),
                shown(old.security_version)
            );
            found.add(place.member("SecurityVersion"), ConsequenceCode::SecurityVersionLowered, text);
        }
        if marbles.is_empty() {
            continue;
        }
        if new.security_version > old.security_version {
            // Only a version can be higher than another, or than none.
            let text = format!(
                "enclaves below security version {} are refused when they are activated as {}",
                new.security_version.unwrap_or_default(),
                names(&marbles)
            );
            found.add(place.member("SecurityVersion"), ConsequenceCode::EnclaveRefused, text);
        }
        if identity(old) != identity(new) {
            let text = format!("the enclaves of before are refused when they are activated as {}", names(&marbles));
            found.add(place.clone(), ConsequenceCode::EnclaveRefused, text);
            other_software(found, facts, place, &marbles);
        }
    }
}

type Identity = (bool, String, String, Option<u64>);

fn identity(package: &Package) -> Identity {
    let lower = |text: &str| text.to_ascii_lowercase();
    (package.debug, lower(&package.unique_id), lower(&package.signer_id), package.product_id)
}

fn other_software(found: &mut Found, facts: &Facts<'_>, place: Place, marbles: &[String]) {
    let used = marbles.iter().filter_map(|marble| facts.new_uses.get(marble)).flat_map(UsedSecrets::names);
    let secrets: Vec<String> = used.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let gets = match secrets.is_empty() {
        true => "the credentials".to_owned(),
        false => format!("the credentials and the secrets {}", names(&secrets)),
    };
    let text = format!("other software gets {gets} of {}", names(marbles));
    found.add(place, ConsequenceCode::OtherSoftware, text);
}

fn marbles(found: &mut Found, facts: &Facts<'_>) {
    for (name, old) in &facts.old.marbles {
        let place = Place::top().member("Marbles").member(name);
        let Some(new) = facts.new.marbles.get(name) else {
            let text = "running instances keep what they have, but none can be activated any more";
            found.add(place, ConsequenceCode::MarbleRemoved, text);
            continue;
        };
        if old.package != new.package {
            let place = place.member("Package");
            let is_same_enclave = match (facts.old.packages.get(&old.package), facts.new.packages.get(&new.package)) {
                (Some(old), Some(new)) => identity(old) == identity(new),
                _ => false,
            };
            if !is_same_enclave {
                let text = format!("enclaves of package {:?} are refused when they are activated", old.package);
                found.add(place.clone(), ConsequenceCode::EnclaveRefused, text);
                other_software(found, facts, place, std::slice::from_ref(name));
            }
        }
        if new.max_activations != 0 && (old.max_activations == 0 || new.max_activations < old.max_activations) {
            let text = match old.max_activations {
                0 => format!("{} activations are allowed from now on", new.max_activations),
                _ => format!("{} activations are allowed in all, those already used included", new.max_activations),
            };
            found.add(place.member("MaxActivations"), ConsequenceCode::ActivationsCounted, text);
        }
        if old.disable_secret_binding != new.disable_secret_binding {
            let keys = own_keys(facts, name);
            if !keys.is_empty() {
                let text =
                    format!("instances derive other keys: {}; what the old ones encrypted is lost", names(&keys));
                found.add(place.member("DisableSecretBinding"), ConsequenceCode::DerivedKeysChanged, text);
            }
        }
    }
    let with_fate = |fates: &[Fate]| -> BTreeSet<&str> {
        let secrets = facts.fates.iter().filter(|secret| fates.contains(&secret.fate));
        secrets.map(|secret| secret.name.as_str()).collect()
    };
    let (waiting, rotated) = (with_fate(&[Fate::AwaitsUpload, Fate::UploadLost]), with_fate(&[Fate::Rotated]));
    for (name, secrets) in facts.new_uses {
        let place = Place::top().member("Marbles").member(name);
        let missing: Vec<String> =
            secrets.names().filter(|secret| waiting.contains(secret.as_str())).cloned().collect();
        if !missing.is_empty() {
            let text = format!("cannot be activated before these secrets are uploaded: {}", names(&missing));
            found.add(place.clone(), ConsequenceCode::UploadNeeded, text);
        }
        let without_previous = secrets.current.difference(&secrets.previous);
        let lost: Vec<String> = without_previous.filter(|secret| rotated.contains(secret.as_str())).cloned().collect();
        if !lost.is_empty() && facts.old.marbles.contains_key(name) {
            let text = format!(
                "looks at the new keys, but not at the previous ones, and cannot read what those encrypted: {}",
                names(&lost)
            );
            found.add(place, ConsequenceCode::PreviousUnused, text);
        }
    }
}

/// Symmetric keys that each instance of a Marble type derives for itself, before and after.
fn own_keys(facts: &Facts<'_>, marble: &str) -> Vec<String> {
    let is_own_key = |name: &&String| {
        facts.new.secrets.get(*name).is_some_and(|secret| {
            secret.secret_type() == Some(SecretType::SymmetricKey) && !secret.shared && !secret.user_defined
        }) && facts.old.secrets.contains_key(*name)
    };
    facts.new_uses.get(marble).into_iter().flat_map(UsedSecrets::names).filter(is_own_key).cloned().collect()
}

fn secrets(found: &mut Found, facts: &Facts<'_>) {
    for SecretFate { name, fate } in facts.fates {
        let Some(old) = facts.old.secrets.get(name) else { continue };
        let is_key = old.secret_type() == Some(SecretType::SymmetricKey);
        let (code, text) = match (fate, old.user_defined, is_key) {
            (Fate::Removed | Fate::UploadLost | Fate::Replaced, true, _) => {
                (ConsequenceCode::UploadLost, "the uploaded value is gone")
            }
            (Fate::Removed | Fate::UploadLost | Fate::Replaced, false, true) => {
                (ConsequenceCode::ValueLost, "the old key is gone, and with it what it encrypted")
            }
            (Fate::Removed | Fate::UploadLost | Fate::Replaced, false, false) => {
                (ConsequenceCode::ValueLost, "the old key and certificate are gone")
            }
            _ => continue,
        };
        found.add(Place::top().member("Secrets").member(name), code, text);
    }
}

fn users(found: &mut Found, facts: &Facts<'_>) {
    for (name, old) in &facts.old.users {
        let place = Place::top().member("Users").member(name);
        match facts.new.users.get(name) {
            None => found.add(place, ConsequenceCode::UserRemoved, "the user's certificate is not accepted any more"),
            Some(new) if !difference::same_certificate(old, new) => found.add(
                place.member("Certificate"),
                ConsequenceCode::UserCertificateReplaced,
                "the old certificate is not accepted any more",
            ),
            Some(_) => {}
        }
    }
    if access::update_users(facts.new).is_empty() {
        let text = "nobody may update the manifest any more, so that this update is the last one";
        found.add(Place::top().member("Users"), ConsequenceCode::LockedOut, text);
    }
}

/// New shares are made if the keys or the number of those needed differ.
fn recovery(found: &mut Found, facts: &Facts<'_>) {
    let (old, new) = (facts.old, facts.new);
    if new.has_recovery_of(old) {
        return;
    }
    let (needed, keys) = (new.shares_needed(), new.recovery_keys.len());
    let place = Place::top().member("RecoveryKeys");
    if new.recovery_keys.is_empty() {
        let text = "nobody can recover the state any more; what the recovery parties hold opens it no more";
        found.add(place, ConsequenceCode::RecoveryRemoved, text);
    } else if old.recovery_keys.is_empty() {
        let text = format!("whoever applies the update gets recovery data; {needed} of {keys} keys are needed");
        found.add(place, ConsequenceCode::RecoveryReplaced, text);
    } else {
        let text = format!(
            "whoever applies the update gets new recovery data, the old do not open the new state; {needed} of {keys} keys \
             are needed"
        );
        found.add(place, ConsequenceCode::RecoveryReplaced, text);
    }
}

fn config(found: &mut Found, old: &Config, new: &Config) {
    let place = Place::top().member("Config");
    if old.seal_mode() != new.seal_mode() {
        let place = place.member("SealMode");
        match new.seal_mode() {
            Some(SealMode::Disabled) => found.add(
                place,
                ConsequenceCode::StateNotSealed,
                "the state is not stored any more: it ends with the Coordinator's process",
            ),
            mode => {
                let text = format!("the state is sealed in mode {}", mode.unwrap_or_default().as_str());
                found.add(place, ConsequenceCode::SealModeChanged, text);
            }
        }
    }
    for feature in FeatureGate::ALL {
        if old.has_feature(feature) && !new.has_feature(feature) {
            let text = format!("{} is switched off", feature.as_str());
            found.add(place.member("FeatureGates"), ConsequenceCode::FeatureOff, text);
        }
    }
}

/// Names in quotes, at most [`MAX_NAMES`] of them.
pub(super) fn names(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("{name:?}")).collect();
    match names.len().checked_sub(MAX_NAMES) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
