//! Attested client for the client API of a Coordinator.
//!
//! A Coordinator's certificate is its own root, so nothing but its quote says whether it can be trusted. The order is:
//!
//! 1. [`Coordinator::attest`] fetches chain and quote over a connection whose server is not known yet, verifies the
//!    quote and what it covers against a [`Policy`], and gives an [`AttestedCoordinator`].
//! 2. [`Client::pinned_to`] talks to that root and to nobody else: the server's certificate must be byte-equal to the
//!    attested root, valid, and carry the name that was connected to.
//!
//! Users of the manifest show their certificate: [`Client::with_certificate`]. Marbles have [`Client::of_marble`].
//! Parties of a recovery use a [`RecoveryKey`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use marblerun_client::{
//!     Address, Client, CollateralSource, Coordinator, EraConfig, NonceChoice, Policy, Timeouts, TrustRoots, UnixTime,
//! };
//!
//! let address = Address::parse("localhost:4433")?;
//! let policy = Policy {
//!     expected: EraConfig::parse(&std::fs::read("coordinator-era.json")?)?,
//!     roots: TrustRoots::hardware(),
//!     collateral: CollateralSource::offered(),
//! };
//! let coordinator = Coordinator::new(address.clone(), Timeouts::default());
//! let attested = coordinator.attest(&policy, NonceChoice::Fresh, UnixTime::now()).await?;
//!
//! let client = Client::pinned_to(address, attested.chain().root(), Timeouts::default())?;
//! println!("{}", client.status().await?.message);
//! # Ok(())
//! # }
//! ```
//!
//! Each call uses version 2 of the API and, where a Coordinator does not know it, version 1.
//!
//! [`Coordinator::dangerous_fetch_unverified`] leaves out the verification and says so in its name.
//!
//! Every call has a time limit, every answer a size limit. Collateral comes from a bundle directory or with the answer
//! itself; in both cases it is input that proves itself or is refused.

mod address;
mod attest;
mod chain;
mod client;
mod collateral;
mod coordinator;
mod credentials;
mod era_config;
mod error;
mod evidence;
mod http;
mod marble;
mod recovery;
mod secrets;
mod signed_quote;
mod statement;
mod tls;
mod update;

pub use address::{Address, AddressError, DEFAULT_PORT};
pub use attest::{AttestedCoordinator, Policy, verify_answer};
pub use chain::{CertificateChain, ChainError};
pub use client::{Client, ManifestOutcome, SignedManifest};
pub use collateral::CollateralSource;
pub use coordinator::{Coordinator, NonceChoice, QuoteExchange};
pub use credentials::{ClientCertificate, CredentialsError, MAX_CREDENTIAL_BYTES};
pub use era_config::{EraConfig, EraConfigError, MAX_ERA_CONFIG_BYTES};
pub use error::{AttestError, ClientError, ConnectAttempt};
pub use evidence::Evidence;
pub use http::Timeouts;
pub use marble::MarbleCredentials;
pub use marblerun_api::rest::{RecoverAnswer, Secret, StatusAnswer, UserSecretValue};
pub use marblerun_attestation::TrustRoots;
pub use marblerun_collateral::Bundle;
pub use marblerun_json::DecodeError;
pub use marblerun_secret::SecretBytes;
pub use recovery::{PLAIN_SECRET_BYTES, RecoveryError, RecoveryKey, RecoverySecret};
pub use rustls_pki_types::UnixTime;
pub use signed_quote::SignedQuote;
pub use statement::{LogHead, Recovering, Statement};
pub use tls::ServerIdentityError;
pub use update::{PendingUpdate, UpdateLogEntry, UpdateOutcome};
