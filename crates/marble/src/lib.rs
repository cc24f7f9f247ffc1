//! The Marble's side of activation: identity, evidence, one call, and applying what the Coordinator delivers.
//!
//! The order of effects is that of MarbleRun v1.9.1 ([`prepare`], then [`parameters::write_files`] and
//! [`parameters::launch`]), with two differences: nothing is applied before everything that was received has been
//! checked, and where the image holds a pin ([`pin`]), nothing is applied before the Coordinator has proven to be the
//! pinned one. No function here starts a thread or reads the environment.

pub mod activation;
pub mod config;
mod connection;
pub mod credentials;
mod duration;
pub mod evidence;
mod grpc;
pub mod init_stage;
pub mod parameters;
pub mod pin;
pub mod progress;
pub mod restrictions;
mod tls;
pub mod uuid_file;

use marblerun_api::rpc::ActivationReq;
pub use marblerun_api::rpc::Parameters;
use marblerun_tee::EvidenceError;
use rustls_pki_types::UnixTime;

pub use activation::{ActivationError, Pace, SystemPace};
pub use config::{Config, ConfigError};
pub use connection::TryError;
pub use credentials::Credentials;
pub use evidence::{EvidenceIssuer, OcclumIssuer};
pub use grpc::{CallError, Code};
pub use init_stage::{ImageType, InitError, RootMount};
pub use parameters::{Launch, ParameterError};
pub use pin::{CoordinatorPin, PinFileError};
pub use progress::{Chain, Event, Level};
pub use restrictions::{RestrictionError, Restrictions};

/// What the measured image says about Coordinators.
#[derive(Clone, Debug, Default)]
pub struct ImagePolicy {
    /// The Coordinator to believe; `None` believes any, with a warning.
    pub pin: Option<CoordinatorPin>,
    /// What a Coordinator may set.
    pub restrictions: Restrictions,
}

/// Why a Marble was not activated.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum MarbleError {
    /// No key, certificate or certificate request.
    #[error(transparent)]
    Credentials(#[from] credentials::CredentialsError),
    /// No UUID.
    #[error(transparent)]
    Uuid(#[from] uuid_file::UuidFileError),
    /// No evidence.
    #[error("cannot get a quote")]
    Evidence(#[source] EvidenceError),
    /// No activation.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The Coordinator is not the pinned one.
    #[error("the Coordinator is refused")]
    Pin(#[source] pin::PinMismatch),
    /// The image does not allow what the Coordinator sent.
    #[error(transparent)]
    Restriction(#[from] RestrictionError),
    /// What the Coordinator sent cannot be applied.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

impl MarbleError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Uuid(error) => error.hint(),
            Self::Evidence(error) => error.hint(),
            Self::Activation(error) => error.hint(),
            Self::Parameters(error) => error.hint(),
            Self::Pin(error) => error.hint(),
            Self::Restriction(_) => {
                Some("change the manifest, or the file in the image, which changes its measurement")
            }
            Self::Credentials(_) => None,
        }
    }
}

/// Activates and checks what was received; the result may be applied.
///
/// `now` becomes the first second of the Marble's own certificate. The UUID file is written here if it is missing;
/// nothing else is.
///
/// # Errors
/// See [`MarbleError`].
pub fn prepare(
    config: &Config,
    image: &ImagePolicy,
    issuer: &dyn EvidenceIssuer,
    now: UnixTime,
    pace: &mut dyn Pace,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Parameters, MarbleError> {
    report(Event::LoadingCredentials);
    let credentials = Credentials::generate(&config.dns_names, &config.ip_addresses, now)?;
    report(Event::LoadingUuid);
    let stored = uuid_file::load_or_create(&config.uuid_file)?;
    report(if stored.is_new { Event::NewUuid } else { Event::FoundUuid(&stored.uuid) });
    report(Event::GeneratingCsr);
    let csr = credentials.request(&config.dns_names, &config.ip_addresses)?;
    report(Event::GeneratingQuote);
    let quote = quote(config, &credentials, issuer, report)?;
    report(Event::Activating { marble_type: &config.marble_type });
    let request = ActivationReq {
        quote,
        csr,
        marble_type: config.marble_type.clone(),
        uuid: stored.uuid.hyphenated().to_string(),
    };
    let activated =
        activation::activate(&config.coordinator, &credentials, &request, config.activation_timeout, pace, report)?;
    report(Event::Replied { received: activated.received });
    match &image.pin {
        Some(pin) => {
            pin.check(&activated.parameters, &activated.server_certificate).map_err(MarbleError::Pin)?;
            report(Event::CoordinatorVerified);
        }
        None => report(Event::Unpinned),
    }
    image.restrictions.check(&activated.parameters)?;
    parameters::check(&activated.parameters)?;
    report(Event::NoTtls);
    Ok(activated.parameters)
}

fn quote(
    config: &Config,
    credentials: &Credentials,
    issuer: &dyn EvidenceIssuer,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<u8>, MarbleError> {
    match issuer.issue(&evidence::report_data(credentials.certificate())) {
        Ok(quote) => Ok(quote),
        // An empty quote where evidence was expected would move the failure to the Coordinator, far from its cause.
        Err(error) if !config.simulation => Err(MarbleError::Evidence(error)),
        Err(error) => {
            report(Event::Simulation { error: &error });
            Ok(Vec::new())
        }
    }
}
