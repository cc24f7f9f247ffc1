//! The trust class that the measured image chose: `trust.json`.
//!
//! In a TEE the host controls arguments and most of the environment, so the class is read from a file of the image,
//! which is part of the measurement. There is no flag and no variable for it.
//!
//! ```json
//! {"Class": "software", "Roots": ["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"]}
//! ```
//!
//! `Class` is `hardware` or `software`. `Roots` are the development roots of the software class, each a PEM
//! certificate or the base64 of its DER; the hardware class has none. `MaxCollateralAgeDays` lets TCB info and QE
//! identity count for so long after their next update was due; it weakens verification, so it stands here and not in
//! the environment. Unknown members are refused.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_linux::regular_file::{ReadError, read_bounded};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::image_json::parse_object;

/// Where the image holds the file; an absent file means the hardware class.
pub const TRUST_PATH: &str = "/etc/marblerun/trust.json";

/// The file holds a few certificates at most.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// Whoever wants older collateral wants none.
const MAX_COLLATERAL_AGE_DAYS: u64 = 365;
/// A deployment has one development root; a few more allow its replacement.
const MAX_ROOTS: usize = 8;

/// Whose evidence this process believes, and what its own is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustClass {
    /// Evidence under the vendors' roots.
    Hardware,
    /// Evidence under named development roots. No protection.
    Software {
        /// DER of the roots, not yet parsed; at least one.
        roots: Vec<Vec<u8>>,
    },
    /// No evidence at all.
    Simulation,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Whose evidence counts.
    pub class: TrustClass,
    /// For how long TCB info and QE identity count after their next update was due; zero unless the file says more.
    pub max_collateral_age: Duration,
}

impl From<TrustClass> for TrustPolicy {
    /// The strict one.
    fn from(class: TrustClass) -> Self {
        Self { class, max_collateral_age: Duration::ZERO }
    }
}

/// Why `trust.json` is wrong. Always fatal: falling back would be a choice that nobody made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("trust.json cannot be read")]
    Read(#[source] ReadError),
    /// The file is not the expected JSON.
    #[error("trust.json is not valid")]
    Json(#[source] serde_json::Error),
    /// The class needs another number of roots.
    #[error("trust.json: class {class} expects {expected} roots, got {got}")]
    RootCount {
        /// The class of the file.
        class: &'static str,
        /// How many roots are allowed.
        expected: &'static str,
        /// How many there are.
        got: usize,
    },
    /// The age is out of bounds.
    #[error("trust.json: MaxCollateralAgeDays: expected 1 to {MAX_COLLATERAL_AGE_DAYS}, got {got}")]
    CollateralAge {
        /// What the file says.
        got: u64,
    },
    /// A root is no certificate.
    #[error("trust.json: Roots[{index}]: expected one PEM certificate or the base64 of its DER")]
    Root {
        /// Position in the list.
        index: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TrustFile {
    class: Class,
    #[serde(default)]
    roots: Vec<String>,
    #[serde(default)]
    max_collateral_age_days: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    Hardware,
    Software,
}

/// Reads `trust.json`; call it only where the image is measured, that is, in a TEE.
///
/// # Errors
/// See [`TrustError`].
pub fn read_trust(path: &Path) -> Result<TrustPolicy, TrustError> {
    match read_bounded(path, MAX_FILE_BYTES).map_err(TrustError::Read)? {
        None => Ok(TrustClass::Hardware.into()),
        Some(content) => parse(&content),
    }
}

fn parse(content: &[u8]) -> Result<TrustPolicy, TrustError> {
    let file: TrustFile = parse_object(content).map_err(TrustError::Json)?;
    let days = match file.max_collateral_age_days {
        None => 0,
        Some(days @ 1..=MAX_COLLATERAL_AGE_DAYS) => days,
        Some(got) => return Err(TrustError::CollateralAge { got }),
    };
    let max_collateral_age = Duration::from_secs(days * 24 * 60 * 60);
    Ok(TrustPolicy { class: class(&file)?, max_collateral_age })
}

fn class(file: &TrustFile) -> Result<TrustClass, TrustError> {
    let got = file.roots.len();
    match file.class {
        Class::Hardware if got == 0 => Ok(TrustClass::Hardware),
        Class::Hardware => Err(TrustError::RootCount { class: "hardware", expected: "no", got }),
        Class::Software if got == 0 || got > MAX_ROOTS => {
            Err(TrustError::RootCount { class: "software", expected: "1 to 8", got })
        }
        Class::Software => {
            let roots = file.roots.iter().enumerate().map(|(index, root)| decode_root(index, root));
            Ok(TrustClass::Software { roots: roots.collect::<Result<_, _>>()? })
        }
    }
}

fn decode_root(index: usize, root: &str) -> Result<Vec<u8>, TrustError> {
    let wrong = || TrustError::Root { index };
    let root = root.trim();
    let der = if root.starts_with("-----BEGIN") {
        let mut certificates = CertificateDer::pem_slice_iter(root.as_bytes());
        let first = certificates.next().ok_or_else(wrong)?.map_err(|_| wrong())?;
        // A second certificate would be trusted or forgotten silently; neither is what the file says.
        if certificates.next().is_some() {
            return Err(wrong());
        }
        first.to_vec()
    } else {
        STANDARD.decode(root).map_err(|_| wrong())?
    };
    // Every certificate is a SEQUENCE; the verifier parses the rest.
    if der.first() != Some(&0x30) {
        return Err(wrong());
    }
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\\nMAMCAQE=\\n-----END CERTIFICATE-----\\n";
    const DER: [u8; 5] = [0x30, 3, 2, 1, 1];

    #[track_caller]
    fn check_refused(content: &str, message: &str) {
        let error = parse(content.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{content}");
    }

    // rules: STA-7.2, ATT-10.2
    #[test]
    fn an_absent_file_means_hardware() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_trust(&dir.path().join("trust.json")).unwrap(), TrustClass::Hardware.into());
    }

    #[test]
    fn software_names_its_roots_as_pem_or_base64() {
        let expected = TrustClass::Software { roots: vec![DER.to_vec(), DER.to_vec()] };
        let file = format!(r#"{{"Class":"software","Roots":["{PEM}","MAMCAQE="]}}"#);
        assert_eq!(parse(file.as_bytes()).unwrap(), expected.into());
    }

    #[test]
    fn hardware_may_be_said_and_has_no_roots() {
        assert_eq!(parse(br#"{"Class":"hardware"}"#).unwrap(), TrustClass::Hardware.into());
        let file = format!(r#"{{"Class":"hardware","Roots":["{PEM}"]}}"#);
        check_refused(&file, "trust.json: class hardware expects no roots, got 1");
    }

    #[test]
    fn old_collateral_counts_only_if_the_image_says_for_how_long() {
        for class in ["\"hardware\"", &format!("\"software\",\"Roots\":[\"{PEM}\"]")] {
            let file = |days: &str| format!("{{\"Class\":{class},\"MaxCollateralAgeDays\":{days}}}");
            let policy = parse(file("30").as_bytes()).unwrap();
            assert_eq!(policy.max_collateral_age, Duration::from_secs(30 * 24 * 60 * 60));
            check_refused(&file("0"), "trust.json: MaxCollateralAgeDays: expected 1 to 365, got 0");
            check_refused(&file("366"), "trust.json: MaxCollateralAgeDays: expected 1 to 365, got 366");
            for value in ["-1", "1.5", "\"30\"", "true"] {
                check_refused(&file(value), "trust.json is not valid");
            }
        }
        assert_eq!(parse(br#"{"Class":"hardware"}"#).unwrap().max_collateral_age, Duration::ZERO);
    }

    #[test]
    fn software_without_roots_or_with_too_many_is_refused() {
        check_refused(r#"{"Class":"software"}"#, "trust.json: class software expects 1 to 8 roots, got 0");
        let nine = vec![format!("\"{PEM}\""); 9].join(",");
        let file = format!(r#"{{"Class":"software","Roots":[{nine}]}}"#);
        check_refused(&file, "trust.json: class software expects 1 to 8 roots, got 9");
    }

    #[test]
    fn roots_that_are_no_certificate_are_refused() {
        let two = format!("{PEM}{PEM}");
        for root in ["", "???", "AAAA", "-----BEGIN CERTIFICATE-----", two.as_str()] {
            let file = format!(r#"{{"Class":"software","Roots":["{root}"]}}"#);
            let message = "trust.json: Roots[0]: expected one PEM certificate or the base64 of its DER";
            check_refused(&file, message);
        }
    }

    #[test]
    fn unknown_members_classes_and_broken_json_are_refused() {
        for file in [
            "",
            "{}",
            "null",
            r#"["hardware"]"#,
            r#"{"Class":"simulation"}"#,
            r#"{"Class":"Software","Roots":["MAMCAQE="]}"#,
            r#"{"Class":"hardware","Class":"software"}"#,
            r#"{"Class":"hardware","Root":[]}"#,
            r#"{"class":"hardware"}"#,
            r#"{"Class":"hardware"} x"#,
        ] {
            check_refused(file, "trust.json is not valid");
        }
    }

    #[test]
    fn a_file_above_the_size_limit_or_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.json");
        std::fs::write(&path, vec![b' '; MAX_FILE_BYTES + 1]).unwrap();
        assert!(matches!(read_trust(&path), Err(TrustError::Read(ReadError::TooLarge { .. }))));
        assert!(matches!(read_trust(dir.path()), Err(TrustError::Read(ReadError::NotRegular { .. }))));
    }
}
