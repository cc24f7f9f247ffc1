//! What the environment says, read once into one typed value.
//!
//! In a TEE the host chooses these variables, so none of them can weaken attestation: the trust class comes from the
//! measured image, and `OE_SIMULATION` inside a TEE is an error.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use marblerun_collateral::{BaseUrl, BaseUrlError};
use thiserror::Error;

use crate::audit::AuditTarget;

/// Address of the Marble API (gRPC), default `:2001`.
pub const MESH_ADDR: &str = "EDG_COORDINATOR_MESH_ADDR";
/// Address of the client API (HTTPS), default `:4433`.
pub const CLIENT_ADDR: &str = "EDG_COORDINATOR_CLIENT_ADDR";
/// Address of the metrics listener (plain HTTP); without it nothing is served there.
pub const PROMETHEUS_ADDR: &str = "EDG_COORDINATOR_PROMETHEUS_ADDR";
/// File of the audit stream, or `-` for standard error; without it the stream is part of the log.
pub const AUDIT_LOG: &str = "EDG_COORDINATOR_AUDIT_LOG";
/// Comma-separated names and IP addresses for new CA certificates, default `localhost`.
pub const DNS_NAMES: &str = "EDG_COORDINATOR_DNS_NAMES";
/// Directory of the sealed state, default `<cwd>/marblerun-coordinator-data`.
pub const SEAL_DIR: &str = "EDG_COORDINATOR_SEAL_DIR";
/// Directory of the collateral bundle. It comes before all services.
pub const COLLATERAL_DIR: &str = "EDG_COORDINATOR_COLLATERAL_DIR";
/// Directory for collateral that services answered, so that a restart needs no network.
pub const COLLATERAL_CACHE: &str = "EDG_COORDINATOR_COLLATERAL_CACHE";
/// Comma-separated addresses of collateral services (PCS or PCCS), the preferred one first. There is no default.
pub const PCCS_URL: &str = "EDG_COORDINATOR_PCCS_URL";
/// A QCNL file that names a collateral service, usually `/etc/sgx_default_qcnl.conf`. It comes after those above.
pub const QCNL: &str = "EDG_COORDINATOR_QCNL";
/// Base of relative default paths, default the process's working directory.
pub const CWD: &str = "EDG_CWD";
/// File with a manifest to set before the listeners answer.
pub const STARTUP_MANIFEST: &str = "EDG_STARTUP_MANIFEST";
/// `1`: log at debug level.
pub const DEBUG_LOGGING: &str = "EDG_DEBUG_LOGGING";
/// `1`: development logs, for people instead of machines.
pub const DEV_MODE: &str = "EDG_COORDINATOR_DEV_MODE";
/// `json` or `text`; default `text`.
pub const LOG_FORMAT: &str = "EDG_LOG_FORMAT";
/// `1`: no TEE, no evidence. An error inside a TEE.
pub const SIMULATION: &str = "OE_SIMULATION";

/// Variables of MarbleRun that choose a feature which this Coordinator does not have. Ignoring one of them would let
/// an operator believe in something that is not there.
const UNSUPPORTED: [&str; 2] = ["EDG_STORE_BACKEND", "EDG_DISTRIBUTED_COORDINATOR"];

const PCCS_URL_FORM: &str = "full URLs without user, password, and query, such as \
                             https://pccs.example:8081/sgx/certification/v4/, separated by commas";

/// Everything that the environment decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the Marble API listens.
    pub mesh_addr: SocketAddr,
    /// Where the client API listens.
    pub client_addr: SocketAddr,
    /// Comma-separated names and addresses for the CA certificates, used when a CA is made.
    pub dns_names: String,
    /// Directory of the sealed state.
    pub seal_dir: PathBuf,
    /// Directory of the collateral bundle.
    pub collateral_dir: Option<PathBuf>,
    /// Directory for collateral that services answered.
    pub collateral_cache: Option<PathBuf>,
    /// Collateral services, the preferred one first.
    pub pccs_urls: Vec<BaseUrl>,
    /// File that names another one.
    pub qcnl: Option<PathBuf>,
    /// Manifest to set at start.
    pub startup_manifest: Option<PathBuf>,
    /// `OE_SIMULATION` as it is; the TEE decides what it means.
    pub simulation: Option<String>,
    /// Where metrics, events, and probes are served, if at all.
    pub metrics_addr: Option<SocketAddr>,
    /// Where the audit stream goes.
    pub audit: AuditTarget,
    /// How to log.
    pub log: LogConfig,
}

/// Form and level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Debug level instead of info.
    pub debug: bool,
    /// One JSON object per line instead of text.
    pub json: bool,
}

/// One variable that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Name of the variable.
    pub variable: &'static str,
    /// The value that came.
    pub value: String,
    /// The form that was expected.
    pub expected: &'static str,
}

/// All mistakes of the environment together, so that one start shows them all.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", describe(.0))]
pub struct ConfigError(pub Vec<Mistake>);

fn describe(mistakes: &[Mistake]) -> String {
    let mut text = String::from("environment cannot be used:");
    for (index, Mistake { variable, value, expected }) in mistakes.iter().enumerate() {
        let separator = if index == 0 { "" } else { ";" };
        let _ = write!(text, "{separator} {variable}: expected {expected}, got {value:?}");
    }
    text
}

impl Config {
    /// Reads the configuration through `lookup`; an empty value counts as unset.
    ///
    /// # Errors
    ///
    /// Names every variable whose value cannot be used.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>, working_directory: PathBuf) -> Result<Self, ConfigError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let mut mistakes = Vec::new();

        let mut address = |variable: &'static str, default: &str| {
            let value = get(variable).unwrap_or_else(|| default.to_owned());
            parse_address(&value).unwrap_or_else(|| {
                mistakes.push(Mistake { variable, value, expected: "host:port or :port" });
                SocketAddr::from(([0, 0, 0, 0], 0))
            })
        };
        let mesh_addr = address(MESH_ADDR, ":2001");
        let client_addr = address(CLIENT_ADDR, ":4433");
        let metrics_addr = get(PROMETHEUS_ADDR).map(|value| address(PROMETHEUS_ADDR, &value));

        let mut flag = |variable: &'static str| match get(variable).as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => {
                mistakes.push(Mistake { variable, value: other.to_owned(), expected: "0 or 1" });
                false
            }
        };
        let debug = flag(DEBUG_LOGGING) | flag(DEV_MODE);

        let json = match get(LOG_FORMAT).map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("json") => true,
            None | Some("text") => false,
            Some(other) => {
                mistakes.push(Mistake { variable: LOG_FORMAT, value: other.to_owned(), expected: "json or text" });
                false
            }
        };

        let mut pccs_urls = Vec::new();
        for text in get(PCCS_URL).iter().flat_map(|list| list.split(',')) {
            match BaseUrl::parse(text) {
                Ok(url) => pccs_urls.push(url),
                Err(error) => {
                    // What stands in the text may be a password.
                    let value = if error == BaseUrlError::Credentials { "…@…" } else { text }.to_owned();
                    mistakes.push(Mistake { variable: PCCS_URL, value, expected: PCCS_URL_FORM });
                }
            }
        }

        for variable in UNSUPPORTED {
            if let Some(value) = get(variable) {
                mistakes.push(Mistake {
                    variable,
                    value,
                    expected: "unset: this Coordinator keeps its state in a directory",
                });
            }
        }

        if !mistakes.is_empty() {
            return Err(ConfigError(mistakes));
        }
        let cwd = get(CWD).map_or(working_directory, PathBuf::from);
        Ok(Self {
            mesh_addr,
            client_addr,
            dns_names: get(DNS_NAMES).unwrap_or_else(|| "localhost".to_owned()),
            seal_dir: get(SEAL_DIR).map_or_else(|| cwd.join("marblerun-coordinator-data"), PathBuf::from),
            collateral_dir: get(COLLATERAL_DIR).map(PathBuf::from),
            collateral_cache: get(COLLATERAL_CACHE).map(PathBuf::from),
            pccs_urls,
            qcnl: get(QCNL).map(PathBuf::from),
            startup_manifest: get(STARTUP_MANIFEST).map(PathBuf::from),
            simulation: get(SIMULATION),
            metrics_addr,
            audit: match get(AUDIT_LOG).as_deref() {
                None => AuditTarget::Log,
                Some("-") => AuditTarget::Stderr,
                Some(path) => AuditTarget::File(path.into()),
            },
            log: LogConfig { debug, json },
        })
    }
}

/// `host:port`, or `:port` for all interfaces as in Go.
fn parse_address(value: &str) -> Option<SocketAddr> {
    let complete = match value.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => value.to_owned(),
    };
    complete.to_socket_addrs().ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_env(
            |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
            PathBuf::from("/srv"),
        )
    }

    // rules: STA-7.1, DEP-1
    #[test]
    fn without_variables_the_documented_defaults_hold() {
        let config = read(&[]).unwrap();
        assert_eq!(config.mesh_addr.port(), 2001);
        assert_eq!(config.client_addr.port(), 4433);
        assert!(config.client_addr.ip().is_unspecified());
        assert_eq!(config.dns_names, "localhost");
        assert_eq!(config.seal_dir, PathBuf::from("/srv/marblerun-coordinator-data"));
        assert_eq!(config.simulation, None);
        assert_eq!(config.audit, AuditTarget::Log);
        assert_eq!(config.metrics_addr, None, "metrics are served only where asked for");
        assert_eq!((config.pccs_urls, config.qcnl), (Vec::new(), None), "nobody is asked for collateral by default");
    }

    // rules: STA-7.1
    #[test]
    fn an_empty_value_counts_as_unset() {
        assert_eq!(read(&[(MESH_ADDR, ""), (DNS_NAMES, ""), (SEAL_DIR, "")]), read(&[]));
    }

    #[test]
    fn the_default_seal_directory_follows_the_given_working_directory() {
        let config = read(&[(CWD, "/data")]).unwrap();
        assert_eq!(config.seal_dir, PathBuf::from("/data/marblerun-coordinator-data"));
    }

    #[test]
    fn all_mistakes_are_reported_together_with_what_was_expected() {
        let error =
            read(&[(MESH_ADDR, "nonsense"), (DEBUG_LOGGING, "yes"), ("EDG_STORE_BACKEND", "k8s-secret")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment cannot be used: EDG_COORDINATOR_MESH_ADDR: expected host:port or :port, got \"nonsense\"; \
             EDG_DEBUG_LOGGING: expected 0 or 1, got \"yes\"; EDG_STORE_BACKEND: expected unset: this Coordinator keeps its \
             state in a directory, got \"k8s-secret\""
        );
    }

    // rules: DEP-1
    #[test]
    fn each_variable_reaches_its_setting() {
        let config = read(&[
            (MESH_ADDR, "127.0.0.1:1"),
            (CLIENT_ADDR, "[::1]:2"),
            (DNS_NAMES, "a,b"),
            (SEAL_DIR, "/seal"),
            (COLLATERAL_DIR, "/collateral"),
            (COLLATERAL_CACHE, "/cache"),
            (PCCS_URL, "https://a/sgx/certification/v4/, http://b:80/sgx/certification/v4"),
            (QCNL, "/etc/sgx_default_qcnl.conf"),
            (STARTUP_MANIFEST, "/manifest.json"),
            (SIMULATION, "1"),
            (PROMETHEUS_ADDR, "127.0.0.1:9000"),
            (AUDIT_LOG, "/audit.jsonl"),
            (LOG_FORMAT, "JSON"),
            (DEV_MODE, "1"),
        ])
        .unwrap();
        let expected = Config {
            mesh_addr: "127.0.0.1:1".parse().unwrap(),
            client_addr: "[::1]:2".parse().unwrap(),
            dns_names: "a,b".to_owned(),
            seal_dir: "/seal".into(),
            collateral_dir: Some("/collateral".into()),
            collateral_cache: Some("/cache".into()),
            pccs_urls: ["https://a/sgx/certification/v4/", "http://b:80/sgx/certification/v4/"]
                .map(|url| BaseUrl::parse(url).unwrap())
                .to_vec(),
            qcnl: Some("/etc/sgx_default_qcnl.conf".into()),
            startup_manifest: Some("/manifest.json".into()),
            simulation: Some("1".to_owned()),
            metrics_addr: Some("127.0.0.1:9000".parse().unwrap()),
            audit: AuditTarget::File("/audit.jsonl".into()),
            log: LogConfig { debug: true, json: true },
        };
        assert_eq!(config, expected);
        assert_eq!(read(&[(AUDIT_LOG, "-")]).unwrap().audit, AuditTarget::Stderr);
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named() {
        #[track_caller]
        fn check(variable: &str, value: &str) {
            let error = read(&[(variable, value)]).unwrap_err();
            assert_eq!(error.0.len(), 1);
            assert_eq!((error.0[0].variable, error.0[0].value.as_str()), (variable, value));
        }
        for variable in UNSUPPORTED {
            check(variable, "1");
        }
        for address in ["2001", "127.0.0.1", "127.0.0.1:65536", ":", "[::1"] {
            check(MESH_ADDR, address);
            check(CLIENT_ADDR, address);
        }
        for url in ["pccs", "https://localhost:8081", "https://a/sgx/certification/v3/"] {
            check(PCCS_URL, url);
        }
        let error = read(&[(PCCS_URL, "https://me:secret@a/sgx/certification/v4/")]).unwrap_err();
        assert!(error.to_string().starts_with("environment cannot be used: EDG_COORDINATOR_PCCS_URL"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        check(DEV_MODE, "true");
        check(LOG_FORMAT, "xml");
    }
}
