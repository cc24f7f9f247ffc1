//! `Occlum.json` by itself.
//!
//! Source of the rules: Occlum's `tools/gen_internal_conf/src/main.rs` and `src/libos/src/config.rs`.

mod mounts;
mod schema;

pub(super) use mounts::{MountFacts, normalized};
use schema::{Kind, Member, Members, optional, required};

use super::finding::{Findings, Place, shown};
use super::json_tree::Json;
use super::rule::{Rule, Severity};
use crate::occlum_json::{EDMM_THREADS, EDMM_USER_SPACE};

/// Most io_uring rings (an assertion of the LibOS).
const MAX_RINGS: u64 = 16;

/// Least limit of the LibOS' heap of an instance with EDMM, in bytes, whatever is written.
const EDMM_KERNEL_HEAP: u64 = 1 << 30;

const TOP: &[Member] = &[
    required("resource_limits", Kind::Object),
    required("process", Kind::Object),
    required("entry_points", Kind::Array),
    required("env", Kind::Object),
    required("metadata", Kind::Object),
    required("feature", Kind::Object),
    required("mount", Kind::Array),
];

const RESOURCE_LIMITS: &[Member] = &[
    required("max_num_of_threads", Kind::Number),
    optional("init_num_of_threads", Kind::Number),
    required("kernel_space_heap_size", Kind::Size),
    optional("kernel_space_heap_max_size", Kind::Size),
    required("kernel_space_stack_size", Kind::Size),
    required("user_space_size", Kind::Size),
    optional("user_space_max_size", Kind::Size),
    optional("marshal_buffer_size", Kind::Size),
];

const PROCESS: &[Member] = &[
    required("default_stack_size", Kind::Size),
    required("default_heap_size", Kind::Size),
    required("default_mmap_size", Kind::Size),
];

const ENV: &[Member] = &[required("default", Kind::Array), required("untrusted", Kind::Array)];

const METADATA: &[Member] = &[
    required("product_id", Kind::Id),
    required("version_number", Kind::Id),
    required("debuggable", Kind::Bool),
    optional("disable_log", Kind::Bool),
    required("enable_kss", Kind::Bool),
    required("family_id", Kind::Object),
    required("ext_prod_id", Kind::Object),
];

const KSS_ID: &[Member] = &[required("high", Kind::Text), required("low", Kind::Text)];

const FEATURE: &[Member] = &[
    optional("amx", Kind::Number),
    optional("pkru", Kind::Number),
    optional("io_uring", Kind::Number),
    optional("enable_edmm", Kind::Bool),
    optional("enable_posix_shm", Kind::Bool),
];

/// What the file says, as far as it can be understood. Sizes are in bytes.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    pub(super) max_threads: Option<u64>,
    pub(super) kernel_heap: Option<u64>,
    pub(super) user_space: Option<u64>,
    pub(super) stack: Option<u64>,
    pub(super) heap: Option<u64>,
    pub(super) mmap: Option<u64>,
    /// With their places.
    pub(super) entry_points: Vec<(String, String)>,
    /// Entries of `env.default` as they stand, with their places.
    pub(super) defaults: Vec<(String, String)>,
    /// Names of `env.untrusted`, with their places.
    pub(super) untrusted: Vec<(String, String)>,
    pub(super) product_id: Option<u16>,
    pub(super) version_number: Option<u16>,
    pub(super) is_debuggable: bool,
    pub(super) rings: u64,
    pub(super) mounts: MountFacts,
}

impl Configuration {
    /// The measured value of a variable.
    pub(super) fn default_value(&self, name: &str) -> Option<&str> {
        self.defaults
            .iter()
            .find_map(|(_, entry)| entry.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, v)| v)
    }

    /// True if the host may set a variable.
    pub(super) fn is_untrusted(&self, name: &str) -> bool {
        self.untrusted.iter().any(|(_, other)| other == name)
    }
}

/// Judges the file, and reads what the other families need. `debug_is_allowed` if the manifest's package says so.
pub(super) fn check(bytes: &[u8], debug_is_allowed: bool, findings: &mut Findings) -> Configuration {
    let json: Json = match serde_json::from_slice(bytes) {
        Ok(json) => json,
        Err(error) => {
            findings.add(Rule::Syntax, Place::OcclumJson(String::new()), error.to_string());
            return Configuration::default();
        }
    };
    // The severities of all others depend on it, so it comes first; mistakes in it are told below.
    if is_debuggable(&json) {
        findings.set_debuggable();
    }
    let top = Members::read(&json, "", TOP, findings);
    let mut configuration = Configuration::default();
    let mut has_edmm = false;
    if let Some(json) = top.value("feature") {
        has_edmm = feature(json, &mut configuration, findings);
    }
    if let Some(json) = top.value("resource_limits") {
        resource_limits(json, has_edmm, &mut configuration, findings);
    }
    if let Some(json) = top.value("process") {
        let members = Members::read(json, "process", PROCESS, findings);
        configuration.stack = members.size("default_stack_size");
        configuration.heap = members.size("default_heap_size");
        configuration.mmap = members.size("default_mmap_size");
    }
    for (place, path) in top.texts("entry_points", "entry_points", findings) {
        if path.starts_with('/') && path.split('/').all(|part| part != "..") {
            configuration.entry_points.push((place, path));
        } else {
            let reason = format!("expected an absolute path without \"..\", got {}", shown(&path));
            findings.add(Rule::EntryPointPath, Place::OcclumJson(place), reason);
        }
    }
    if let Some(json) = top.value("env") {
        let members = Members::read(json, "env", ENV, findings);
        configuration.defaults = members.texts("default", "env.default", findings);
        configuration.untrusted = members.texts("untrusted", "env.untrusted", findings);
    }
    if let Some(json) = top.value("metadata") {
        metadata(json, debug_is_allowed, &mut configuration, findings);
    }
    if let Some(json) = top.value("mount") {
        configuration.mounts = mounts::check(json, configuration.kernel_heap, findings);
    }
    configuration
}

fn is_debuggable(json: &Json) -> bool {
    let member = |json: &Json, name: &str| match json {
        Json::Object(members) => members.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()),
        _ => None,
    };
    member(json, "metadata").and_then(|metadata| member(&metadata, "debuggable")) == Some(Json::Bool(true))
}

/// True if EDMM is on.
fn feature(json: &Json, configuration: &mut Configuration, findings: &mut Findings) -> bool {
    let members = Members::read(json, "feature", FEATURE, findings);
    let place = |name: &str| Place::OcclumJson(format!("feature.{name}"));
    for name in ["amx", "pkru"] {
        match members.number(name) {
            Some(1) => findings.add(Rule::FeatureHardware, place(name), format!("{name} is 1")),
            Some(value) if value > 2 => {
                findings.add(Rule::FeatureRange, place(name), format!("expected 0, 1 or 2, got {value}"))
            }
            _ => {}
        }
    }
    configuration.rings = members.number("io_uring").unwrap_or(0);
    if configuration.rings > MAX_RINGS {
        let reason = format!("expected at most {MAX_RINGS}, got {}", configuration.rings);
        findings.add(Rule::FeatureRange, place("io_uring"), reason);
    }
    let has_edmm = members.flag("enable_edmm") == Some(true);
    if has_edmm {
        findings.add(Rule::Edmm, place("enable_edmm"), "the instance needs EDMM");
    }
    has_edmm
}

fn resource_limits(json: &Json, has_edmm: bool, configuration: &mut Configuration, findings: &mut Findings) {
    let members = Members::read(json, "resource_limits", RESOURCE_LIMITS, findings);
    let place = |name: &str| Place::OcclumJson(format!("resource_limits.{name}"));
    // Occlum raises both limits of an instance with EDMM.
    let raised = |limit: u64, least: u64| if has_edmm { limit.max(least) } else { limit };
    configuration.max_threads = members.number("max_num_of_threads").map(|most| raised(most, EDMM_THREADS));
    configuration.kernel_heap = members.size("kernel_space_heap_size");
    configuration.user_space = members.size("user_space_size");
    let initial_threads = members.number("init_num_of_threads");
    if let (Some(initial), Some(most)) = (initial_threads, configuration.max_threads)
        && initial > most
    {
        let reason = format!("{initial} threads at the start are more than max_num_of_threads, {most}");
        findings.add(Rule::MaxBelowSize, place("init_num_of_threads"), reason);
    }
    if initial_threads.is_some() && !has_edmm {
        findings.add(Rule::MaxWithoutEdmm, place("init_num_of_threads"), "without EDMM it has no effect");
    }
    let maxima = [("kernel_space_heap_max_size", "kernel_space_heap_size"), ("user_space_max_size", "user_space_size")];
    for (max_name, name) in maxima {
        let Some(max) = members.size(max_name) else { continue };
        if let Some(size) = members.size(name)
            && max < size
        {
            let reason = format!("{max} bytes are less than {name}, {size} bytes");
            findings.add(Rule::MaxBelowSize, place(max_name), reason);
        }
        if !has_edmm {
            let reason = format!("without EDMM it is the size, in place of {name}");
            findings.add(Rule::MaxWithoutEdmm, place(max_name), reason);
        }
        if name == "user_space_size" {
            configuration.user_space = Some(raised(max, EDMM_USER_SPACE));
        } else {
            configuration.kernel_heap = Some(raised(max, EDMM_KERNEL_HEAP));
        }
    }
    if members.value("marshal_buffer_size").is_some() {
        findings.add(Rule::HyperOnly, place("marshal_buffer_size"), "it is set");
    }
}

fn metadata(json: &Json, debug_is_allowed: bool, configuration: &mut Configuration, findings: &mut Findings) {
    let members = Members::read(json, "metadata", METADATA, findings);
    let place = |name: &str| Place::OcclumJson(format!("metadata.{name}"));
    let id = |name| members.number(name).and_then(|id| u16::try_from(id).ok());
    configuration.product_id = id("product_id");
    configuration.version_number = id("version_number");
    configuration.is_debuggable = members.flag("debuggable") == Some(true);
    if configuration.is_debuggable {
        let severity = if debug_is_allowed { Severity::Warning } else { Severity::Error };
        let reason = "the enclave may be debugged: nothing in it is secret";
        findings.add_as(severity, Rule::Debuggable, place("debuggable"), reason, Rule::Debuggable.fix());
    } else if members.flag("disable_log") == Some(false) {
        findings.add(Rule::DisableLog, place("disable_log"), "the LibOS may log errors to the host");
    }
    let has_kss = members.flag("enable_kss") == Some(true);
    for name in ["family_id", "ext_prod_id"] {
        let Some(json) = members.value(name) else { continue };
        let halves = Members::read(json, &format!("metadata.{name}"), KSS_ID, findings);
        for half in ["high", "low"] {
            let Some(text) = halves.text(half) else { continue };
            let place = place(&format!("{name}.{half}"));
            match parse_hex(text) {
                None if has_kss => {
                    let reason = format!("expected a hexadecimal number of 64 bits, got {}", shown(text));
                    findings.add(Rule::KssId, place, reason);
                }
                Some(0) => {}
                _ if !has_kss => {
                    findings.add(
                        Rule::KssUnused,
                        place,
                        format!("{} has no effect, because enable_kss is false", shown(text)),
                    );
                }
                _ => {}
            }
        }
    }
}

/// `0x` and up to 16 hexadecimal digits.
fn parse_hex(text: &str) -> Option<u64> {
    let digits = text.trim().trim_start_matches("0x");
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
