//! What is legal in a manifest but probably not meant.

mod access;
mod package;
mod parameter;
mod secret;

use std::collections::BTreeSet;
use std::fmt;

use marblerun_json::Place;

use crate::nearest::nearest;
use crate::schema::Manifest;

/// At most this many remarks are made: a manifest with more needs another look altogether.
pub const MAX_WARNINGS: usize = 200;

/// A remark about a manifest. It never stops the Coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where in the manifest.
    pub place: Place,
    /// What kind of remark, for programs.
    pub code: WarningCode,
    /// What is strange, for people.
    pub text: String,
}

/// How a remark is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Probably not what the author means: tools should refuse it unless told otherwise.
    Mistake,
    /// Works as written, but protects less than it could.
    Weakness,
}

/// The kinds of remarks.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningCode {
    /// A member that the schema does not have is ignored.
    UnknownMember,
    /// A measurement is not 64 hexadecimal digits and matches nothing.
    IdentityNotHex,
    /// A package accepts debug enclaves, whose memory the host can read.
    DebugPackage,
    /// A package says nothing about who the enclave is.
    UnpinnedPackage,
    /// A package accepts every security version.
    SecurityVersionZero,
    /// A TCB status does not exist.
    UnknownTcbStatus,
    /// A TCB status is accepted that the vendor has given up.
    RevokedTcbStatus,
    /// An advisory's name has another form.
    UnusualAdvisory,
    /// No Marble has this package.
    UnusedPackage,
    /// Nothing refers to this secret.
    UnusedSecret,
    /// No Marble has this tag.
    UnusedTag,
    /// No user has this role.
    UnusedRole,
    /// A role or a user without permissions.
    NothingGranted,
    /// A user-defined secret that nobody may upload.
    NobodyMayWrite,
    /// A member is given that has no effect here.
    WithoutEffect,
    /// A secret's value stands in the manifest, which is public.
    SecretInManifest,
    /// A certificate is given in a form that counts as absent.
    UnreadableCertificate,
    /// A template names a secret that does not exist.
    UnknownSecretReference,
    /// A value looks as if another program had expanded the template.
    ExpandedTemplate,
    /// An argument looks like a template.
    TemplateInArguments,
    /// A variable is replaced by one that every Marble gets.
    ReservedVariable,
    /// A Marble's parameters are larger than existing Marbles can receive.
    LargeParameters,
    /// A port is not a number from 1 to 65535.
    UnusualPort,
    /// Infrastructures are given; their values are not compared.
    InfrastructureNotCompared,
}

impl WarningCode {
    /// The name for programs, stable across releases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownMember => "unknown-member",
            Self::IdentityNotHex => "identity-not-hex",
            Self::DebugPackage => "debug-package",
            Self::UnpinnedPackage => "unpinned-package",
            Self::SecurityVersionZero => "security-version-zero",
            Self::UnknownTcbStatus => "unknown-tcb-status",
            Self::RevokedTcbStatus => "revoked-tcb-status",
            Self::UnusualAdvisory => "unusual-advisory",
            Self::UnusedPackage => "unused-package",
            Self::UnusedSecret => "unused-secret",
            Self::UnusedTag => "unused-tag",
            Self::UnusedRole => "unused-role",
            Self::NothingGranted => "nothing-granted",
            Self::NobodyMayWrite => "nobody-may-write",
            Self::WithoutEffect => "without-effect",
            Self::SecretInManifest => "secret-in-manifest",
            Self::UnreadableCertificate => "unreadable-certificate",
            Self::UnknownSecretReference => "unknown-secret-reference",
            Self::ExpandedTemplate => "expanded-template",
            Self::TemplateInArguments => "template-in-arguments",
            Self::ReservedVariable => "reserved-variable",
            Self::LargeParameters => "large-parameters",
            Self::UnusualPort => "unusual-port",
            Self::InfrastructureNotCompared => "infrastructure-not-compared",
        }
    }

    /// How the remark is meant.
    pub fn severity(self) -> Severity {
        match self {
            Self::DebugPackage
            | Self::UnpinnedPackage
            | Self::SecurityVersionZero
            | Self::RevokedTcbStatus
            | Self::LargeParameters
            | Self::InfrastructureNotCompared => Severity::Weakness,
            _ => Severity::Mistake,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.place, self.text, self.code.as_str())
    }
}

/// Collects remarks.
#[derive(Default)]
struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, place: Place, code: WarningCode, text: impl Into<String>) {
        if !self.is_full() {
            self.0.push(Warning { place, code, text: text.into() });
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_WARNINGS
    }
}

impl Manifest {
    /// Everything that is legal but probably not meant, in the order of the sections, at most
    /// [`MAX_WARNINGS`].
    ///
    /// The manifest need not pass [`Manifest::check`].
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Warnings::default();
        self.warn_unknown_members(&mut warnings);
        package::warn(self, &mut warnings);
        let used_secrets = parameter::warn(self, &mut warnings);
        self.warn_tls(&mut warnings);
        secret::warn(self, &used_secrets, &mut warnings);
        access::warn(self, &mut warnings);
        warnings.0
    }

    fn warn_unknown_members(&self, warnings: &mut Warnings) {
        for unknown in &self.unknown_members {
            let text = match nearest(&unknown.name, unknown.known.iter().copied()) {
                Some(known) => format!("there is no such member, it is ignored; did you mean {known}?"),
                None => "there is no such member, it is ignored".to_owned(),
            };
            warnings.add(unknown.place.clone(), WarningCode::UnknownMember, text);
        }
    }

    fn warn_tls(&self, warnings: &mut Warnings) {
        let used: BTreeSet<&str> = self.marbles.values().flat_map(|marble| &marble.tls).map(String::as_str).collect();
        for (name, tag) in &self.tls {
            let place = Place::top().member("TLS").member(name);
            if !used.contains(name.as_str()) {
                warnings.add(place.clone(), WarningCode::UnusedTag, "no Marble has this tag");
            }
            for (direction, entries) in [("Incoming", &tag.incoming), ("Outgoing", &tag.outgoing)] {
                for (index, entry) in entries.iter().enumerate() {
                    let place = place.member(direction).index(index);
                    if !entry.port.parse::<u16>().is_ok_and(|port| port > 0) && !entry.port.is_empty() {
                        let text = "expected a number from 1 to 65535; other ports match no connection";
                        warnings.add(place.member("Port"), WarningCode::UnusualPort, text);
                    }
                    let ignored = if direction == "Incoming" {
                        [("Addr", !entry.addr.is_empty()), ("", false)]
                    } else {
                        [("Cert", !entry.cert.is_empty()), ("DisableClientAuth", entry.disable_client_auth)]
                    };
                    for (member, _) in ignored.into_iter().filter(|(_, given)| *given) {
                        let text = format!("without effect for {direction} connections");
                        warnings.add(place.member(member), WarningCode::WithoutEffect, text);
                    }
                }
            }
        }
    }
}
