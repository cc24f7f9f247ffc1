//! Variables: what the host may set, and what is measured.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use marblerun_marble::config;

use super::Entry;
use super::configuration::Configuration;
use super::finding::{Findings, Place, shown};
use super::programs::Found;
use super::rule::Rule;

/// Variables of the premain that the host is meant to set.
const MARBLE_VARIABLES: [&str; 6] = [
    config::MARBLE_TYPE,
    config::COORDINATOR_ADDR,
    config::DNS_NAMES,
    config::UUID_FILE,
    config::ACTIVATION_TIMEOUT,
    "EDG_LOG_FORMAT",
];

/// Switch evidence off.
const SIMULATION_VARIABLES: [&str; 2] = [config::SIMULATION, "OE_SIMULATION"];

/// Variables with which whoever sets them decides what a program runs, reads or trusts: loaders, interpreters, TLS
/// libraries, allocators.
const DANGEROUS: [&str; 47] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELL",
    "HOME",
    "TMPDIR",
    "GODEBUG",
    "GOTRACEBACK",
    "SSLKEYLOGFILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "RUBYOPT",
    "RUBYLIB",
    "PERL5OPT",
    "PERL5LIB",
    "PERLLIB",
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "RESOLV_HOST_CONF",
    "GLIBC_TUNABLES",
    "GETCONF_DIR",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "ERL_FLAGS",
    "ERL_LIBS",
    "PERL5DB",
];
/// The same, whatever follows.
const DANGEROUS_PREFIXES: [&str; 7] = ["LD_", "PYTHON", "MALLOC_", "LUA_", "DOTNET_", "COMPlus_", "MARBLE_"];

/// Words of names whose values nobody should read.
const SECRET_WORDS: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "PRIVATE_KEY", "API_KEY"];

pub(super) fn check(
    configuration: &Configuration,
    entry: Option<&Entry<'_>>,
    program: Option<&Found>,
    findings: &mut Findings,
) {
    forms(configuration, findings);
    marble_variables(configuration, findings);
    untrusted(configuration, entry, findings);
    secrets(configuration, findings);
    let has_arena_limit = ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"].iter().any(|name| {
        configuration.default_value(name).is_some()
            || entry.is_some_and(|entry| entry.marble.parameters.env.contains_key(*name))
    });
    if program.is_some_and(|program| program.uses_glibc && program.has_threads) && !has_arena_limit {
        let reason = "a program with threads and glibc, and MALLOC_ARENA_MAX is not set";
        findings.add(Rule::Arenas, Place::OcclumJson("env.default".to_owned()), reason);
    }
}

fn forms(configuration: &Configuration, findings: &mut Findings) {
    let mut names = BTreeSet::new();
    for (place, text) in &configuration.defaults {
        let place = Place::OcclumJson(place.clone());
        // The value may be a secret, the name is not.
        let name = text.split('=').next().unwrap_or_default();
        if !text.contains('=') || name.is_empty() || text.contains('\0') {
            findings.add(
                Rule::EnvEntry,
                place,
                format!("expected NAME=value without NUL, got the name {}", shown(name)),
            );
        } else if !names.insert(name) {
            findings.add(Rule::EnvDuplicate, place, format!("{} is in the list already", shown(name)));
        }
    }
    let mut names = BTreeSet::new();
    for (place, name) in &configuration.untrusted {
        let place = Place::OcclumJson(place.clone());
        if name.is_empty() || name.contains(['=', '\0', '*']) {
            findings.add(Rule::EnvEntry, place, format!("expected the name of a variable, got {}", shown(name)));
        } else if !names.insert(name) {
            findings.add(Rule::EnvDuplicate, place, format!("{} is in the list already", shown(name)));
        }
    }
}

fn marble_variables(configuration: &Configuration, findings: &mut Findings) {
    let place = || Place::OcclumJson("env.untrusted".to_owned());
    let is_known = |name: &str| configuration.is_untrusted(name) || configuration.default_value(name).is_some();
    if !is_known(config::MARBLE_TYPE) {
        findings.add(Rule::NoMarbleType, place(), format!("{} is in neither list", config::MARBLE_TYPE));
    }
    if !is_known(config::COORDINATOR_ADDR) {
        findings.add(Rule::NoCoordinatorAddress, place(), format!("{} is in neither list", config::COORDINATOR_ADDR));
    }
    for name in [config::DNS_NAMES, config::UUID_FILE] {
        if !is_known(name) {
            let fix = format!("Add {name:?} to `env.untrusted`, or a value to `env.default`.");
            findings.add_with_fix(Rule::NoMarbleVariable, place(), format!("{name} is in neither list"), fix);
        }
    }
    // The premain reads the measured values where the host sets none.
    let variable = |name: &str| match configuration.default_value(name) {
        Some(value) => Some(OsString::from(value)),
        None => (name == config::MARBLE_TYPE).then(|| OsString::from("set-by-the-host")),
    };
    if let Err(error) = config::Config::read(variable, Some(Path::new("/"))) {
        for mistake in error.mistakes() {
            let place = configuration.defaults.iter().find(|(_, entry)| mistake.to_string().contains(name_of(entry)));
            let place = place.map_or_else(|| "env.default".to_owned(), |(place, _)| place.clone());
            findings.add(Rule::MarbleValue, Place::OcclumJson(place), mistake.to_string());
        }
    }
}

fn name_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

fn untrusted(configuration: &Configuration, entry: Option<&Entry<'_>>, findings: &mut Findings) {
    for (place, text) in &configuration.defaults {
        if SIMULATION_VARIABLES.contains(&name_of(text)) {
            findings.add(Rule::Simulation, Place::OcclumJson(place.clone()), format!("{} is set", name_of(text)));
        }
    }
    for (place, name) in &configuration.untrusted {
        let place = || Place::OcclumJson(place.clone());
        let is_dangerous = DANGEROUS.iter().any(|other| other.eq_ignore_ascii_case(name))
            || DANGEROUS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if SIMULATION_VARIABLES.contains(&name.as_str()) {
            findings.add(Rule::Simulation, place(), format!("the host may set {name}"));
        } else if is_dangerous {
            findings.add(Rule::DangerousVariable, place(), format!("the host may set {name}"));
        } else if entry.is_some_and(|entry| entry.marble.parameters.env.contains_key(name)) {
            findings.add(Rule::UntrustedManifest, place(), format!("the manifest sets {} too", shown(name)));
        } else if configuration.default_value(name).is_some() && !MARBLE_VARIABLES.contains(&name.as_str()) {
            findings.add(Rule::UntrustedDefault, place(), format!("{} has a value in env.default", shown(name)));
        }
    }
}

fn secrets(configuration: &Configuration, findings: &mut Findings) {
    for (place, text) in &configuration.defaults {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let upper = name.to_ascii_uppercase();
        let is_named = SECRET_WORDS.iter().any(|word| upper.contains(word));
        // The path of a file, or a number, is none.
        let is_plain = value.is_empty() || value.starts_with('/') || value.bytes().all(|byte| byte.is_ascii_digit());
        if (is_named && !is_plain) || value.contains("PRIVATE KEY-----") {
            findings.add(
                Rule::SecretInDefault,
                Place::OcclumJson(place.clone()),
                format!("the value of {} looks like a secret", shown(name)),
            );
        }
    }
}
