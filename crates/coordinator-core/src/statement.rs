//! What the Coordinator's quote speaks for beside its root certificate.
//!
//! SHA-256 of the statement's exact bytes is in the second half of the quote's report data.

use aws_lc_rs::digest;
use marblerun_json::{Encode, ObjectEncoder};

/// The configuration that a quote covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The deployment's random identifier, hex.
    pub deployment: String,
    /// `hardware`, `software` or `simulation`.
    pub trust_class: &'static str,
    /// SHA-256 of each software root, hex.
    pub root_hashes: Vec<String>,
    /// SHA-256 of the manifest, hex, once it is set.
    pub manifest_fingerprint: Option<String>,
    /// The newest record of the sealed log; `None` where nothing is sealed.
    pub log_head: Option<LogHead>,
    /// In recovery mode: the state that waits. It is what the storage says and proven only by the recovery, which refuses
    /// an older one and one with another manifest.
    pub recovering: Option<Recovering>,
    /// For how many seconds collateral of Marbles counts after its next update was due, if the image allows that.
    pub max_collateral_age_seconds: Option<u64>,
}

/// A state that waits for recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovering {
    /// The deployment's identifier, hex.
    pub deployment: String,
    /// The newest record of its log.
    pub log_head: LogHead,
    /// SHA-256 of the manifest in force, hex; `None` where the storage does not say.
    pub manifest_fingerprint: Option<String>,
}

/// The newest record of the sealed log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Epoch of the data key.
    pub epoch: u64,
    /// Position in the log.
    pub sequence: u64,
    /// Hash that chains the log, hex.
    pub hash: String,
}

impl Statement {
    /// The version of the form below; it changes when a member changes its meaning.
    pub const VERSION: u64 = 1;

    /// The text that clients get; hash these bytes and no others.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        ObjectEncoder::new(&mut text)
            .member("version", &Self::VERSION)
            .member("deployment", self.deployment.as_str())
            .member("trustClass", self.trust_class)
            .member("rootHashes", &self.root_hashes)
            // Nothing outside the storage remembers the newest state.
            .member("anchor", "none")
            .member("manifestFingerprint", &self.manifest_fingerprint)
            .member("logHead", &self.log_head)
            .optional("recovering", self.recovering.as_ref())
            .optional("maxCollateralAgeSeconds", self.max_collateral_age_seconds.as_ref())
            .finish();
        text
    }
}

impl Encode for LogHead {
    fn encode(&self, out: &mut String) {
        ObjectEncoder::new(out)
            .member("epoch", &self.epoch)
            .member("sequence", &self.sequence)
            .member("hash", self.hash.as_str())
            .finish();
    }
}

impl Encode for Recovering {
    fn encode(&self, out: &mut String) {
        ObjectEncoder::new(out)
            .member("deployment", self.deployment.as_str())
            .member("logHead", &self.log_head)
            .member("manifestFingerprint", &self.manifest_fingerprint)
            .finish();
    }
}

/// The report data of a Coordinator's quote: SHA-256 of root certificate and nonce, then SHA-256 of the statement.
///
/// Verifiers of MarbleRun v1.9.1 look at the first 32 bytes only.
pub fn report_data(root_certificate: &[u8], nonce: &[u8], statement: &str) -> [u8; 64] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(root_certificate);
    context.update(nonce);
    let mut data = [0; 64];
    data[..32].copy_from_slice(context.finish().as_ref());
    data[32..].copy_from_slice(digest::digest(&digest::SHA256, statement.as_bytes()).as_ref());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: R2, R5, R6, STA-9.4
    #[test]
    fn the_text_is_fixed_to_the_byte() {
        let statement = Statement {
            deployment: "00ff".to_owned(),
            trust_class: "software",
            root_hashes: vec!["aa".to_owned()],
            manifest_fingerprint: None,
            log_head: Some(LogHead { epoch: 1, sequence: 7, hash: "bb".to_owned() }),
            recovering: None,
            max_collateral_age_seconds: None,
        };
        assert_eq!(
            statement.to_text(),
            r#"{"version":1,"deployment":"00ff","trustClass":"software","rootHashes":["aa"],"anchor":"none","manifestFingerprint":null,"logHead":{"epoch":1,"sequence":7,"hash":"bb"}}"#
        );
        let log_head = LogHead { epoch: 2, sequence: 9, hash: "cc".to_owned() };
        let manifest_fingerprint = Some("dd".to_owned());
        let recovering = Some(Recovering { deployment: "11".to_owned(), log_head, manifest_fingerprint });
        let waiting = Statement { deployment: String::new(), log_head: None, recovering, ..statement };
        assert_eq!(
            waiting.to_text(),
            r#"{"version":1,"deployment":"","trustClass":"software","rootHashes":["aa"],"anchor":"none","manifestFingerprint":null,"logHead":null,"recovering":{"deployment":"11","logHead":{"epoch":2,"sequence":9,"hash":"cc"},"manifestFingerprint":"dd"}}"#
        );
        let aged = Statement { recovering: None, max_collateral_age_seconds: Some(86_400), ..waiting };
        assert!(aged.to_text().ends_with(r#","logHead":null,"maxCollateralAgeSeconds":86400}"#));
    }

    // rules: R6
    #[test]
    fn both_halves_of_the_report_data_depend_on_their_input() {
        let base = report_data(b"root", b"", "statement");
        let other_nonce = report_data(b"root", b"n", "statement");
        let other_statement = report_data(b"root", b"", "other");
        assert_ne!(base[..32], other_nonce[..32]);
        assert_eq!(base[32..], other_nonce[32..]);
        assert_eq!(base[..32], other_statement[..32]);
        assert_ne!(base[32..], other_statement[32..]);
    }

    // rules: SIG-2, ATT-8.2
    #[test]
    fn certificate_and_nonce_are_hashed_as_one_text() {
        let expected = digest::digest(&digest::SHA256, b"rootnonce");
        assert_eq!(&report_data(b"root", b"nonce", "")[..32], expected.as_ref());
    }
}
