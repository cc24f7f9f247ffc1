//! Attested client for the client API of a Coordinator.
//!
//! A Coordinator's certificate is its own root, so nothing but its quote says whether it can be trusted. The order is:
//!
//! 1. [`Coordinator::attest`] fetches chain and quote over a connection whose server is not known yet, verifies the
//!    quote and what it covers against a [`Policy`], and gives an [`AttestedCoordinator`].
//! 2. [`Client::pinned_to`] talks to that root and to nobody else: the server's certificate must be byte-equal to the
//!    attested root, valid, and carry the name that was connected to.
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
mod era_config;
mod error;
mod http;
mod statement;
mod tls;

pub use address::{Address, AddressError, DEFAULT_PORT};
pub use attest::{AttestedCoordinator, Policy, verify_answer};
pub use chain::{CertificateChain, ChainError};
pub use client::{Client, ManifestOutcome, SignedManifest};
pub use collateral::CollateralSource;
pub use coordinator::{Coordinator, NonceChoice, QuoteExchange};
pub use era_config::{EraConfig, EraConfigError, MAX_ERA_CONFIG_BYTES};
pub use error::{AttestError, ClientError, ConnectAttempt};
pub use http::Timeouts;
pub use statement::{LogHead, Statement};
pub use tls::ServerIdentityError;
