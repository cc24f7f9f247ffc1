//! Which entries of two manifests differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use marblerun_json::Place;

use crate::pem::user_certificate;
use crate::schema::{Config, FeatureGate, File, Manifest, Marble, Package, Role, SecretDefinition, TlsTag, User};

/// An entry or a member that is not the same in two manifests.
///
/// Ways to write the same are no change: the case of measurements, the order of roles, the encoding of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where in the manifest.
    pub place: Place,
    /// What happens there.
    pub kind: ChangeKind,
}

/// How an entry differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the new manifest has it.
    Added,
    /// Only the old manifest has it.
    Removed,
    /// Both have it, with other content. Content that is long or not text is not shown.
    Changed {
        /// The old value, shortened.
        from: Option<String>,
        /// The new value, shortened.
        to: Option<String>,
    },
}

impl ChangeKind {
    /// The name for programs, stable across releases.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed { .. } => "changed",
        }
    }
}

/// One line for people.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ChangeKind::Changed { from: Some(from), to: Some(to) } => write!(f, "{}: {from} -> {to}", self.place),
            kind => write!(f, "{}: {}", self.place, kind.as_str()),
        }
    }
}

/// Every difference, in the order of the sections; empty if both manifests mean the same.
pub(super) fn changes(old: &Manifest, new: &Manifest) -> Vec<Change> {
    let mut found = Changes::default();
    let top = Place::top();
    found.entries(&top.member("Packages"), &old.packages, &new.packages, package);
    found.entries(
        &top.member("Infrastructures"),
        &old.infrastructures,
        &new.infrastructures,
        |found, place, old, new| {
            found.opaque(place, old == new);
        },
    );
    found.entries(&top.member("Marbles"), &old.marbles, &new.marbles, marble);
    found.entries(&top.member("Secrets"), &old.secrets, &new.secrets, secret);
    found.entries(&top.member("TLS"), &old.tls, &new.tls, tag);
    found.entries(&top.member("Users"), &old.users, &new.users, user);
    found.entries(&top.member("Roles"), &old.roles, &new.roles, role);
    found.entries(&top.member("RecoveryKeys"), &old.recovery_keys, &new.recovery_keys, |found, place, old, new| {
        found.opaque(place, old == new);
    });
    config(&mut found, &top.member("Config"), &old.config, &new.config);
    found.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, place: &Place, kind: ChangeKind) {
        self.0.push(Change { place: place.clone(), kind });
    }

    fn entries<T>(
        &mut self,
        place: &Place,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        compare: impl Fn(&mut Self, &Place, &T, &T),
    ) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let place = place.member(name);
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => compare(self, &place, old, new),
                (None, _) => self.add(&place, ChangeKind::Added),
                (_, None) => self.add(&place, ChangeKind::Removed),
            }
        }
    }

    /// Content that is not shown.
    fn opaque(&mut self, place: &Place, is_same: bool) {
        if !is_same {
            self.add(place, ChangeKind::Changed { from: None, to: None });
        }
    }

    /// Content that is shown.
    fn shown(&mut self, place: Place, old: &impl ToString, new: &impl ToString) {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            let kind = ChangeKind::Changed { from: Some(shown(&old)), to: Some(shown(&new)) };
            self.add(&place, kind);
        }
    }

    /// A list whose order means nothing.
    fn set(&mut self, place: Place, old: &[String], new: &[String]) {
        let joined = |words: &[String]| {
            words.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
        };
        self.shown(place, &joined(old), &joined(new));
    }
}

/// Longer values are cut when they are shown. Measurements, of 64 digits, are not.
const MAX_SHOWN_CHARS: usize = 200;

fn shown(text: &str) -> String {
    if text.is_empty() {
        return "(none)".to_owned();
    }
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn optional(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn package(found: &mut Changes, place: &Place, old: &Package, new: &Package) {
    found.shown(place.member("Debug"), &old.debug, &new.debug);
    let [old_unique, new_unique] = [old, new].map(|package| package.unique_id.to_ascii_lowercase());
    found.shown(place.member("UniqueID"), &old_unique, &new_unique);
    let [old_signer, new_signer] = [old, new].map(|package| package.signer_id.to_ascii_lowercase());
    found.shown(place.member("SignerID"), &old_signer, &new_signer);
    found.shown(place.member("ProductID"), &optional(old.product_id), &optional(new.product_id));
    found.shown(place.member("SecurityVersion"), &optional(old.security_version), &optional(new.security_version));
    found.set(place.member("AcceptedTCBStatuses"), &old.accepted_tcb_statuses, &new.accepted_tcb_statuses);
    found.set(place.member("AcceptedAdvisories"), &old.accepted_advisories, &new.accepted_advisories);
}

fn marble(found: &mut Changes, place: &Place, old: &Marble, new: &Marble) {
    found.shown(place.member("Package"), &old.package, &new.package);
    found.shown(place.member("MaxActivations"), &old.max_activations, &new.max_activations);
    // Encodings are only ways to write the content.
    let file = |found: &mut Changes, place: &Place, old: &File, new: &File| {
        found.opaque(place, old.data == new.data && old.no_templates == new.no_templates);
    };
    let parameters = place.member("Parameters");
    found.entries(&parameters.member("Files"), &old.parameters.files, &new.parameters.files, file);
    found.entries(&parameters.member("Env"), &old.parameters.env, &new.parameters.env, file);
    found.opaque(&parameters.member("Argv"), old.parameters.argv == new.parameters.argv);
    // Tags are applied in their order.
    found.shown(place.member("TLS"), &old.tls.join(", "), &new.tls.join(", "));
    found.shown(place.member("DisableSecretBinding"), &old.disable_secret_binding, &new.disable_secret_binding);
}

fn secret(found: &mut Changes, place: &Place, old: &SecretDefinition, new: &SecretDefinition) {
    found.shown(place.member("Type"), &old.type_word, &new.type_word);
    found.shown(place.member("Size"), &old.size, &new.size);
    found.shown(place.member("Shared"), &old.shared, &new.shared);
    found.shown(place.member("UserDefined"), &old.user_defined, &new.user_defined);
    found.shown(place.member("ValidFor"), &old.valid_for, &new.valid_for);
    found.opaque(&place.member("Cert"), old.cert == new.cert);
    found.opaque(&place.member("Private"), old.private == new.private);
    found.opaque(&place.member("Public"), old.public == new.public);
}

fn tag(found: &mut Changes, place: &Place, old: &TlsTag, new: &TlsTag) {
    found.opaque(&place.member("Incoming"), old.incoming == new.incoming);
    found.opaque(&place.member("Outgoing"), old.outgoing == new.outgoing);
}

fn user(found: &mut Changes, place: &Place, old: &User, new: &User) {
    found.opaque(&place.member("Certificate"), same_certificate(old, new));
    found.set(place.member("Roles"), &old.roles, &new.roles);
}

/// Users are told apart by their certificates, not by the texts that hold them.
pub(super) fn same_certificate(old: &User, new: &User) -> bool {
    old.certificate == new.certificate
        || matches!(
            (user_certificate(&old.certificate), user_certificate(&new.certificate)),
            (Ok(old), Ok(new)) if old == new
        )
}

fn role(found: &mut Changes, place: &Place, old: &Role, new: &Role) {
    found.shown(place.member("ResourceType"), &old.resource_type, &new.resource_type);
    found.set(place.member("ResourceNames"), &old.resource_names, &new.resource_names);
    let [old, new] =
        [old, new].map(|role| role.actions.iter().map(|word| word.to_ascii_lowercase()).collect::<Vec<_>>());
    found.set(place.member("Actions"), &old, &new);
}

fn config(found: &mut Changes, place: &Place, old: &Config, new: &Config) {
    let mode = |config: &Config| match config.seal_mode() {
        Some(mode) => mode.as_str().to_owned(),
        None => config.seal_mode_word.clone(),
    };
    found.shown(place.member("SealMode"), &mode(old), &mode(new));
    let features = |config: &Config| {
        let word = |feature: &FeatureGate| feature.as_str().to_owned();
        FeatureGate::ALL.iter().filter(|feature| config.has_feature(**feature)).map(word).collect::<Vec<_>>()
    };
    found.set(place.member("FeatureGates"), &features(old), &features(new));
    found.shown(place.member("UpdateThreshold"), &old.update_threshold, &new.update_threshold);
    found.shown(place.member("RecoveryThreshold"), &old.recovery_threshold, &new.recovery_threshold);
    found.shown(place.member("RotateRootSecret"), &old.rotate_root_secret, &new.rotate_root_secret);
}
