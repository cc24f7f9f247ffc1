//! What a Marble receives: files, environment variables and arguments, with templates expanded over its secrets.

mod certificate;
mod compile;
mod data;
mod dry_run;
mod function;
mod time_value;
mod ttls;
mod used;

#[cfg(test)]
mod tests;

pub use compile::{
    CompileError, CompiledParameters, ENV_COORDINATOR_ROOT_CA, ENV_MARBLE_CERTIFICATE_CHAIN, ENV_PRIVATE_KEY,
    ENV_ROOT_CA, MAX_MARBLE_NODES, MarbleData, Parameters, Place, RENDER_LIMITS, RenderError,
};
pub use data::{Credential, DataSet, SecretMap};
pub use dry_run::{DryRunError, dry_run, dry_run_upload};
pub use function::{ENV_FUNCTIONS, FILE_FUNCTIONS};
pub use ttls::ENV_TTLS_CONFIG;
pub use used::UsedSecrets;
