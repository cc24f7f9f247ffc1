//! What a Marble can ask of its Coordinator.

use std::ffi::OsString;

use marblerun_api::rest::{CounterAnswer, MonotonicCounterRequest, v2};
use marblerun_pki::pem;

use crate::address::Address;
use crate::client::Client;
use crate::credentials::{ClientCertificate, CredentialsError};
use crate::error::ClientError;
use crate::http::Timeouts;

const CHAIN: &str = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN";
const KEY: &str = "MARBLE_PREDEFINED_PRIVATE_KEY";
const ROOT: &str = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA";

/// What activation gave a Marble: its certificate with key, and the root certificate of its Coordinator.
#[derive(Clone, Debug)]
pub struct MarbleCredentials {
    /// The Marble's certificate.
    pub certificate: ClientCertificate,
    /// The Coordinator's root certificate, DER.
    pub root: Vec<u8>,
}

impl MarbleCredentials {
    /// Reads the variables that activation sets for every Marble.
    ///
    /// # Errors
    ///
    /// See [`CredentialsError`]; [`CredentialsError::NotAMarble`] if a variable is missing.
    pub fn from_environment() -> Result<Self, CredentialsError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The same with another source of variables.
    ///
    /// # Errors
    ///
    /// See [`CredentialsError`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, CredentialsError> {
        let read = |name: &'static str| {
            let value = variable(name).ok_or(CredentialsError::NotAMarble { name })?;
            Ok(marblerun_secret::SecretBytes::new(value.into_encoded_bytes()))
        };
        let (chain, key, root) = (read(CHAIN)?, read(KEY)?, read(ROOT)?);
        let certificate = ClientCertificate::from_pem(chain.expose(), key.expose())?;
        let mut roots = pem::decode_certificates(root.expose())
            .map_err(|source| CredentialsError::Pem { what: "Coordinator's root certificate", source })?;
        Ok(Self { certificate, root: roots.swap_remove(0) })
    }
}

impl Client {
    /// The client of a Marble at the client API of its Coordinator, which is not the address that it was activated at.
    ///
    /// # Errors
    ///
    /// [`ClientError::TlsConfiguration`] in a broken build.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use marblerun_client::{Address, Client, MarbleCredentials, Timeouts};
    ///
    /// let marble = MarbleCredentials::from_environment()?;
    /// let client = Client::of_marble(Address::parse("localhost:4433")?, &marble, Timeouts::default())?;
    /// let wanted = 9;
    /// let before = client.raise_monotonic_counter("db-epoch", wanted).await?;
    /// assert!(before < wanted, "somebody else was first");
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_marble(
        address: Address,
        credentials: &MarbleCredentials,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        Self::pinned_to(address, &credentials.root, timeouts)?.with_certificate(&credentials.certificate)
    }

    /// Raises one of the Marble's monotonic counters to `value`, and returns its value before. It was raised if that is
    /// lower than `value`; otherwise nothing changed. A `value` of 0 only reads.
    ///
    /// The feature `MonotonicCounter` must be enabled in the manifest.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn raise_monotonic_counter(&self, name: &str, value: u64) -> Result<u64, ClientError> {
        let body = MonotonicCounterRequest { name: name.to_owned(), value }.to_body();
        let answer: CounterAnswer = self.call_v2("monotonic counters", "POST", v2::MONOTONIC_COUNTER, body).await?;
        Ok(answer.value)
    }
}
