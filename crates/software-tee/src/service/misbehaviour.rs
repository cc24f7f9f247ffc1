//! Everything that a provisioning service can do wrong, by name.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::collateral::{CollateralOptions, Dates, Revoked, Tamper, TcbInfoSigner};

/// How long ago expired items were due, and in how much time early ones begin.
const HOUR: u64 = 60 * 60;

/// One thing that the service does wrong.
///
/// In text it is `NAME` or `NAME=VALUE`; [`Misbehaviour::NAMES`] lists them.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// `tcb-status=WORD`: status of the platform's level. Any word, because verifiers must also be shown unknown ones.
    TcbStatus(String),
    /// `qe-status=WORD`: status of the quoting enclave's level.
    QeStatus(String),
    /// `advisories=ID,ID`: advisories of the platform's level.
    Advisories(Vec<String>),
    /// `evaluation-number=N`: the evaluation data number of TCB info and QE identity.
    EvaluationNumber(u32),
    /// `revoked=pck|pck-ca|tcb-signing|root`: the certificate stands in its issuer's CRL.
    Revoked(Revoked),
    /// `expired[=ITEM]`: the next update was due an hour ago; of all items without ITEM.
    Expired(Option<Item>),
    /// `not-yet-valid[=ITEM]`: issued in an hour.
    NotYetValid(Option<Item>),
    /// `valid-for=SECONDS`: the next update of everything is due this soon after the request.
    ValidFor(Duration),
    /// `wrong-fmspc`: TCB info of another platform than was asked for.
    WrongFmspc,
    /// `wrong-signer`: TCB info signed by the platform's own key, under the same root.
    WrongSigner,
    /// `below-all-levels`: the only TCB level demands more than the platform has.
    BelowAllLevels,
    /// `tampered=ITEM|tcb-info-signature|qe-identity-signature|crls-exchanged`: changed after it was signed.
    Tampered(Tamper),
    /// `http=CODE`: this status code, 400 to 599, instead of an answer.
    Http(u16),
    /// `too-many-requests[=SECONDS]`: 429, with `Retry-After` if SECONDS are given.
    TooManyRequests(Option<u32>),
    /// `redirect[=URL]`: 302 to another path of this service where the answer is, or to the same path under URL.
    Redirect(Option<String>),
    /// `issuer-chain=missing|empty|twice-encoded|not-encoded|garbage|lower-case|old-name|both-names|other`: what becomes
    /// of the header with the issuer chain.
    IssuerChain(IssuerChain),
    /// `crl-form=der|hex|hex-upper|hex-lf|hex-crlf|hex-nul|hex-odd|pem|pem-other-label`: the form of CRLs, whatever was
    /// asked for.
    CrlForm(CrlForm),
    /// `wrong-content`: 200 with a web page.
    WrongContent,
    /// `empty-body`: 200 with nothing.
    EmptyBody,
    /// `over-long`: the answer, and then spaces as fast as they are read, up to [`OVER_LONG_BYTES`].
    ///
    /// [`OVER_LONG_BYTES`]: super::OVER_LONG_BYTES
    OverLong,
    /// `endless`: a body of which one byte comes every now and then, forever.
    Endless,
    /// `cut`: the connection ends before the promised length.
    Cut,
    /// `garbage`: bytes that are no HTTP.
    Garbage,
    /// `closed`: the connection is closed without an answer.
    Closed,
    /// `silence`: nothing is ever answered.
    Silence,
}

/// An item of the collateral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// `tcb-info`.
    TcbInfo,
    /// `qe-identity`.
    QeIdentity,
    /// `root-crl`, at both of its addresses.
    RootCrl,
    /// `pck-crl`.
    PckCrl,
}

/// What becomes of the header with the issuer chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerChain {
    /// It is not there.
    Missing,
    /// It has no value.
    Empty,
    /// The encoded chain is encoded once more.
    TwiceEncoded,
    /// PEM with spaces where line ends were, as some proxies hand it on.
    NotEncoded,
    /// Percent signs that encode nothing.
    Garbage,
    /// The name is in lower case.
    LowerCase,
    /// The name that older services use for the chain of the TCB info.
    OldName,
    /// The old and the new name.
    BothNames,
    /// The chain of another item.
    Other,
}

/// The form of a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlForm {
    /// DER.
    Der,
    /// Lower-case hexadecimal.
    Hex,
    /// Upper-case hexadecimal.
    HexUpper,
    /// Hexadecimal and a line feed.
    HexLf,
    /// Hexadecimal, carriage return and line feed.
    HexCrlf,
    /// Hexadecimal and a NUL byte.
    HexNul,
    /// Hexadecimal of which the last digit is missing.
    HexOdd,
    /// PEM.
    Pem,
    /// PEM that says it is a certificate.
    PemOtherLabel,
}

/// A misbehaviour with the requests that it concerns.
///
/// In text `[SCOPE:]NAME[=VALUE]`, where SCOPE is an [`Item`] or an FMSPC: `silence`, `tcb-info:http=503`,
/// `FF5357544546:silence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which requests; all if `None`.
    pub scope: Option<Scope>,
    /// What happens to them.
    pub misbehaviour: Misbehaviour,
}

/// Which requests a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Requests for this item.
    Item(Item),
    /// Requests for TCB info with this FMSPC.
    Fmspc([u8; 6]),
}

/// A rule cannot be read.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRuleError {
    /// No misbehaviour has this name.
    #[error("expected the name of a misbehaviour, got {got:?}")]
    Name {
        /// The name.
        got: String,
    },
    /// No requests are called so.
    #[error(
        "before the colon: expected tcb-info, qe-identity, root-crl, pck-crl or an FMSPC of 12 hex digits, got {got:?}"
    )]
    Scope {
        /// The words before the colon.
        got: String,
    },
    /// The value is missing, not expected, or of another form.
    #[error("{name}: expected {expected}, got {got:?}")]
    Value {
        /// The misbehaviour.
        name: String,
        /// The form of its value.
        expected: &'static str,
        /// The value; empty if there is none.
        got: String,
    },
}

impl ParseRuleError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        matches!(self, Self::Name { .. }).then(|| format!("there are: {}", Misbehaviour::NAMES.join(", ")))
    }
}

impl Misbehaviour {
    /// Every name, with the form of its value.
    pub const NAMES: &'static [&'static str] = &[
        "tcb-status=WORD",
        "qe-status=WORD",
        "advisories=ID,ID",
        "evaluation-number=N",
        "revoked=pck|pck-ca|tcb-signing|root",
        "expired[=ITEM]",
        "not-yet-valid[=ITEM]",
        "valid-for=SECONDS",
        "wrong-fmspc",
        "wrong-signer",
        "below-all-levels",
        "tampered=ITEM|tcb-info-signature|qe-identity-signature|crls-exchanged",
        "http=CODE",
        "too-many-requests[=SECONDS]",
        "redirect[=URL]",
        "issuer-chain=missing|empty|twice-encoded|not-encoded|garbage|lower-case|old-name|both-names|other",
        "crl-form=der|hex|hex-upper|hex-lf|hex-crlf|hex-nul|hex-odd|pem|pem-other-label",
        "wrong-content",
        "empty-body",
        "over-long",
        "endless",
        "cut",
        "garbage",
        "closed",
        "silence",
    ];

    /// Bends what is issued at `now`.
    pub(super) fn bend(&self, options: &mut CollateralOptions, now: UnixTime) {
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let now = now.as_secs();
        match self {
            Self::TcbStatus(word) => options.tcb_status.clone_from(word),
            Self::QeStatus(word) => options.qe_status.clone_from(word),
            Self::Advisories(ids) => options.advisories.clone_from(ids),
            Self::EvaluationNumber(number) => options.evaluation_number = *number,
            Self::Revoked(revoked) => options.revoked.push(*revoked),
            Self::Expired(item) => {
                date(
                    options,
                    *item,
                    Dates { issued: at(now.saturating_sub(2 * HOUR)), next_update: at(now.saturating_sub(HOUR)) },
                );
            }
            Self::NotYetValid(item) => {
                date(options, *item, Dates { issued: at(now + HOUR), next_update: at(now + 2 * HOUR) });
            }
            Self::ValidFor(time) => {
                date(options, None, Dates { issued: at(now), next_update: at(now.saturating_add(time.as_secs())) });
            }
            Self::WrongFmspc => options.fmspc[5] ^= 1,
            Self::WrongSigner => options.tcb_info_signer = TcbInfoSigner::Pck,
            Self::BelowAllLevels => options.required_cpu_svn[0] += 1,
            Self::Tampered(tamper) => options.tamper = Some(*tamper),
            _ => {}
        }
    }
}

fn date(options: &mut CollateralOptions, item: Option<Item>, dates: Dates) {
    let places = [
        (Item::TcbInfo, &mut options.tcb_info_dates),
        (Item::QeIdentity, &mut options.qe_identity_dates),
        (Item::RootCrl, &mut options.root_crl_dates),
        (Item::PckCrl, &mut options.pck_crl_dates),
    ];
    for (of, place) in places {
        if item.is_none_or(|item| item == of) {
            *place = Some(dates);
        }
    }
}

impl From<Misbehaviour> for Rule {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self { scope: None, misbehaviour }
    }
}

impl FromStr for Rule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        let name_end = text.find('=').unwrap_or(text.len());
        let (scope, misbehaviour) = match text[..name_end].split_once(':') {
            None => (None, text),
            Some((scope, _)) => (Some(scope.parse()?), &text[scope.len() + 1..]),
        };
        Ok(Self { scope, misbehaviour: misbehaviour.parse()? })
    }
}

impl FromStr for Scope {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        if let Some(item) = item(text) {
            return Ok(Self::Item(item));
        }
        let mut fmspc = [0; 6];
        match hex::decode_to_slice(text, &mut fmspc) {
            Ok(()) => Ok(Self::Fmspc(fmspc)),
            Err(_) => Err(ParseRuleError::Scope { got: text.to_owned() }),
        }
    }
}

impl FromStr for Misbehaviour {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let refused = |expected| ParseRuleError::Value {
            name: name.to_owned(),
            expected,
            got: value.unwrap_or_default().to_owned(),
        };
        let word = |expected| value.filter(|word| !word.is_empty()).map(str::to_owned).ok_or(refused(expected));
        let maybe_item = || value.map(|value| item(value).ok_or(refused(ITEMS))).transpose();
        let bare = |misbehaviour| if value.is_none() { Ok(misbehaviour) } else { Err(refused("no value")) };
        match name {
            "tcb-status" => word("a status").map(Self::TcbStatus),
            "qe-status" => word("a status").map(Self::QeStatus),
            "advisories" => Ok(Self::Advisories(word("ids")?.split(',').map(str::to_owned).collect())),
            "evaluation-number" => number(value).map(Self::EvaluationNumber).ok_or(refused("a number")),
            "revoked" => match value {
                Some("pck") => Ok(Self::Revoked(Revoked::Pck)),
                Some("pck-ca") => Ok(Self::Revoked(Revoked::PckCa)),
                Some("tcb-signing") => Ok(Self::Revoked(Revoked::TcbSigning)),
                Some("root") => Ok(Self::Revoked(Revoked::Root)),
                _ => Err(refused("pck, pck-ca, tcb-signing or root")),
            },
            "expired" => maybe_item().map(Self::Expired),
            "not-yet-valid" => maybe_item().map(Self::NotYetValid),
            "valid-for" => match number(value) {
                Some(seconds) => Ok(Self::ValidFor(Duration::from_secs(seconds))),
                None => Err(refused("seconds")),
            },
            "wrong-fmspc" => bare(Self::WrongFmspc),
            "wrong-signer" => bare(Self::WrongSigner),
            "below-all-levels" => bare(Self::BelowAllLevels),
            "tampered" => value.and_then(tamper).map(Self::Tampered).ok_or(refused(
                "tcb-info, tcb-info-signature, qe-identity, qe-identity-signature, root-crl, pck-crl or crls-exchanged",
            )),
            "http" => match number(value) {
                Some(code @ 400..600) => Ok(Self::Http(code)),
                _ => Err(refused("a code from 400 to 599")),
            },
            "too-many-requests" => match (value, number(value)) {
                (None, _) => Ok(Self::TooManyRequests(None)),
                (_, Some(seconds)) => Ok(Self::TooManyRequests(Some(seconds))),
                _ => Err(refused("seconds")),
            },
            "redirect" => match value {
                None => Ok(Self::Redirect(None)),
                Some(url) if url.starts_with("http") && url.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    Ok(Self::Redirect(Some(url.trim_end_matches('/').to_owned())))
                }
                _ => Err(refused("a URL")),
            },
            "issuer-chain" => value.and_then(issuer_chain).map(Self::IssuerChain).ok_or(refused(
                "missing, empty, twice-encoded, not-encoded, garbage, lower-case, old-name, both-names or other",
            )),
            "crl-form" => value
                .and_then(crl_form)
                .map(Self::CrlForm)
                .ok_or(refused("der, hex, hex-upper, hex-lf, hex-crlf, hex-nul, hex-odd, pem or pem-other-label")),
            "wrong-content" => bare(Self::WrongContent),
            "empty-body" => bare(Self::EmptyBody),
            "over-long" => bare(Self::OverLong),
            "endless" => bare(Self::Endless),
            "cut" => bare(Self::Cut),
            "garbage" => bare(Self::Garbage),
            "closed" => bare(Self::Closed),
            "silence" => bare(Self::Silence),
            _ => Err(ParseRuleError::Name { got: name.to_owned() }),
        }
    }
}

const ITEMS: &str = "tcb-info, qe-identity, root-crl or pck-crl";

fn item(word: &str) -> Option<Item> {
    Some(match word {
        "tcb-info" => Item::TcbInfo,
        "qe-identity" => Item::QeIdentity,
        "root-crl" => Item::RootCrl,
        "pck-crl" => Item::PckCrl,
        _ => return None,
    })
}

fn tamper(word: &str) -> Option<Tamper> {
    Some(match word {
        "tcb-info" => Tamper::TcbInfo,
        "tcb-info-signature" => Tamper::TcbInfoSignature,
        "qe-identity" => Tamper::QeIdentity,
        "qe-identity-signature" => Tamper::QeIdentitySignature,
        "root-crl" => Tamper::RootCrl,
        "pck-crl" => Tamper::PckCrl,
        "crls-exchanged" => Tamper::CrlsExchanged,
        _ => return None,
    })
}

fn issuer_chain(word: &str) -> Option<IssuerChain> {
    Some(match word {
        "missing" => IssuerChain::Missing,
        "empty" => IssuerChain::Empty,
        "twice-encoded" => IssuerChain::TwiceEncoded,
        "not-encoded" => IssuerChain::NotEncoded,
        "garbage" => IssuerChain::Garbage,
        "lower-case" => IssuerChain::LowerCase,
        "old-name" => IssuerChain::OldName,
        "both-names" => IssuerChain::BothNames,
        "other" => IssuerChain::Other,
        _ => return None,
    })
}

fn crl_form(word: &str) -> Option<CrlForm> {
    Some(match word {
        "der" => CrlForm::Der,
        "hex" => CrlForm::Hex,
        "hex-upper" => CrlForm::HexUpper,
        "hex-lf" => CrlForm::HexLf,
        "hex-crlf" => CrlForm::HexCrlf,
        "hex-nul" => CrlForm::HexNul,
        "hex-odd" => CrlForm::HexOdd,
        "pem" => CrlForm::Pem,
        "pem-other-label" => CrlForm::PemOtherLabel,
        _ => return None,
    })
}

fn number<T: FromStr>(value: Option<&str>) -> Option<T> {
    value?.parse().ok()
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(Item::TcbInfo) => f.write_str("tcb-info"),
            Self::Item(Item::QeIdentity) => f.write_str("qe-identity"),
            Self::Item(Item::RootCrl) => f.write_str("root-crl"),
            Self::Item(Item::PckCrl) => f.write_str("pck-crl"),
            Self::Fmspc(fmspc) => f.write_str(&hex::encode_upper(fmspc)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Misbehaviour) {
        assert_eq!(text.parse(), Ok(Rule { scope: None, misbehaviour: expected }), "{text}");
    }

    #[track_caller]
    fn check_refused(text: &str, message: &str) {
        let error = text.parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }

    #[test]
    fn every_listed_name_is_known() {
        for name in Misbehaviour::NAMES {
            let name = name.split(['=', '[']).next().unwrap();
            let known = match name.parse::<Misbehaviour>() {
                Ok(_) | Err(ParseRuleError::Value { .. }) => true,
                Err(_) => false,
            };
            assert!(known, "{name}");
        }
    }

    #[test]
    fn names_and_values_are_read() {
        check("silence", Misbehaviour::Silence);
        check("expired", Misbehaviour::Expired(None));
        check("expired=pck-crl", Misbehaviour::Expired(Some(Item::PckCrl)));
        check("valid-for=5", Misbehaviour::ValidFor(Duration::from_secs(5)));
        check("too-many-requests=7", Misbehaviour::TooManyRequests(Some(7)));
        check(
            "advisories=INTEL-SA-1,INTEL-SA-2",
            Misbehaviour::Advisories(vec!["INTEL-SA-1".into(), "INTEL-SA-2".into()]),
        );
        check("redirect=http://localhost:1/", Misbehaviour::Redirect(Some("http://localhost:1".into())));
        check("http=503", Misbehaviour::Http(503));
        check("issuer-chain=old-name", Misbehaviour::IssuerChain(IssuerChain::OldName));
        check("tampered=crls-exchanged", Misbehaviour::Tampered(Tamper::CrlsExchanged));
    }

    #[test]
    fn a_scope_comes_before_a_colon_in_the_name_only() {
        let scoped = |scope, misbehaviour| Ok(Rule { scope: Some(scope), misbehaviour });
        assert_eq!("pck-crl:garbage".parse(), scoped(Scope::Item(Item::PckCrl), Misbehaviour::Garbage));
        let fmspc = Scope::Fmspc(*b"\xFFSWTEF");
        assert_eq!("ff5357544546:silence".parse(), scoped(fmspc, Misbehaviour::Silence));
        let redirect = Misbehaviour::Redirect(Some("http://a:1".into()));
        assert_eq!("tcb-info:redirect=http://a:1".parse(), scoped(Scope::Item(Item::TcbInfo), redirect));
        assert_eq!(fmspc.to_string(), "FF5357544546");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        check_refused("silent", "expected the name of a misbehaviour, got \"silent\"");
        check_refused("silence=1", "silence: expected no value, got \"1\"");
        check_refused("http=200", "http: expected a code from 400 to 599, got \"200\"");
        check_refused("expired=all", "expired: expected tcb-info, qe-identity, root-crl or pck-crl, got \"all\"");
        check_refused("tcb-status", "tcb-status: expected a status, got \"\"");
        check_refused("redirect=ftp", "redirect: expected a URL");
        check_refused("all:silence", "before the colon: expected tcb-info");
        let hint = "silent".parse::<Rule>().unwrap_err().hint().unwrap();
        assert!(hint.contains("silence"), "{hint}");
    }
}
