//! Key pairs, certificate requests and the certificate profiles of a deployment.
//!
//! The crate is pure: bytes, facts and the time come in, DER goes out. A deployment has this PKI:
//!
//! ```text
//! root ──signs──> intermediate ─┐ same name and key
//!                 Marble root ──┴──signs──> Marble certificates, secret certificates
//! ```
//!
//! Where to look:
//!
//! - [`key`]: the P-384 pair of the Coordinator and the Marble; [`generated`]: key pairs of secrets.
//! - [`profile`]: root, intermediate, Marble root, Marble and premain certificates.
//! - [`request`]: PKCS#10, both sides.
//! - [`template`] and [`secret_certificate`]: certificates that a manifest describes with Go's member names.
//! - [`certificate`]: reading what others made, as tolerantly as TLS peers need it.
//! - [`tls`]: handshake signatures; [`pin`]: does this Coordinator belong to a pinned root?

mod asn1;
pub mod certificate;
pub mod derive;
mod extension;
pub mod generated;
pub mod issue;
pub mod key;
pub mod name;
pub mod oid;
pub mod pem;
pub mod pin;
pub mod profile;
pub mod request;
pub mod secret_certificate;
pub mod signature;
pub mod template;
pub mod tls;

pub use certificate::{Certificate, CertificateError};
pub use derive::derive_symmetric_key;
pub use generated::{GeneratedKey, KeyKind};
pub use issue::{IssueError, Issuer};
pub use key::{KeyError, KeyPair};
pub use name::{AltNames, Subject};
pub use pin::{PinError, verify_chain_to_pin};
pub use request::{CertificateRequest, RequestError};
pub use secret_certificate::{SecretValidity, issue_secret_certificate};
pub use template::CertificateTemplate;
