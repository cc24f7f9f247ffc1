//! `Occlum.json`: what a developer writes about an instance.
//!
//! The rules are those of Occlum's `gen_internal_conf`: unknown keys are ignored, sizes are a trimmed decimal integer
//! and a unit (powers of 1024), and the root is a union of a measured image layer and a writable one.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest `Occlum.json` that is read.
pub const MAX_LEN: u64 = 1 << 20;

/// Threads that an instance with EDMM may have at least, whatever is written.
pub(crate) const EDMM_THREADS: u64 = 4096;
/// Least limit of the user space of an instance with EDMM, in bytes, whatever is written.
pub(crate) const EDMM_USER_SPACE: u64 = 16 << 30;

/// A size in bytes, written such as `32MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A size is not a decimal number with a unit.
#[derive(Debug, thiserror::Error)]
#[error("expected a size such as \"32MB\" (a decimal integer and KB, MB, GB, TB or B), got {0:?}")]
pub struct SizeError(String);

impl std::str::FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let parse = || {
            let text = text.trim();
            // "B" last: every unit ends with it.
            let (number, shift) = [("KB", 10), ("MB", 20), ("GB", 30), ("TB", 40), ("B", 0)]
                .into_iter()
                .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
            let number: u64 = number.trim().parse().ok()?;
            number.checked_mul(1 << shift)
        };
        parse().map(Self).ok_or_else(|| SizeError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

/// The file as a whole.
#[derive(Clone, Debug, Deserialize)]
pub struct OcclumJson {
    /// Sizes of the enclave.
    pub resource_limits: ResourceLimits,
    /// Sizes of each process.
    pub process: Process,
    /// Paths below which the host may start programs.
    pub entry_points: Vec<String>,
    /// What the measurement and what the host says about the environment.
    pub env: Environment,
    /// What goes into the signature of the enclave.
    pub metadata: Metadata,
    /// Optional features; older templates lack the member.
    #[serde(default)]
    pub feature: Feature,
    /// The file system.
    pub mount: Vec<Mount>,
}

/// Sizes of the enclave.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ResourceLimits {
    /// Threads of all processes together.
    pub max_num_of_threads: u32,
    /// Heap of the LibOS.
    pub kernel_space_heap_size: Size,
    /// Limit of that heap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_space_heap_max_size: Option<Size>,
    /// Stack of the LibOS per thread.
    pub kernel_space_stack_size: Size,
    /// Memory of all processes together.
    pub user_space_size: Size,
    /// Limit of that memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_space_max_size: Option<Size>,
}

/// Sizes of each process, its first resource limits.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Process {
    /// Stack of the main thread; 1/256 of it holds arguments and environment.
    pub default_stack_size: Size,
    /// The `brk` area.
    pub default_heap_size: Size,
    /// Enters the limit of the address space only.
    pub default_mmap_size: Size,
}

/// The environment of programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Environment {
    /// `NAME=value`, measured.
    pub default: Vec<String>,
    /// Names that the host may set.
    pub untrusted: Vec<String>,
}

/// What goes into the signature of the enclave.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// ISVPRODID.
    pub product_id: u16,
    /// ISVSVN.
    pub version_number: u16,
    /// Whether the enclave has the debug attribute.
    pub debuggable: bool,
    /// Whether logging is forbidden; absent: in enclaves without the debug attribute.
    pub disable_log: Option<bool>,
}

/// Optional features.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Feature {
    /// AMX: 0 off, 1 on, 2 on where the processor has it.
    pub amx: u32,
    /// Protection keys: as `amx`.
    pub pkru: u32,
    /// Number of rings.
    pub io_uring: u32,
    /// Dynamic enclave memory.
    pub enable_edmm: bool,
    /// Shared mappings in `/dev/shm`.
    pub enable_posix_shm: bool,
}

/// One mount.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mount {
    /// `unionfs`, `sefs`, `hostfs`, `ramfs`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    pub target: String,
    /// What, relative to the instance directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How.
    #[serde(default)]
    pub options: MountOptions,
}

/// How something is mounted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct MountOptions {
    /// Its presence marks the measured image layer.
    #[serde(rename = "MAC", skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The layers of a union.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Mount>>,
    /// Empty at every start.
    pub temporary: bool,
}

/// The file cannot be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of this shape. The source says the line and the column.
    #[error("Occlum.json is not valid")]
    Json(#[source] serde_json::Error),
    /// A member has a value that cannot be.
    #[error("Occlum.json: {place}: expected {expected}, got {got:?}")]
    Value {
        /// The member.
        place: String,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// There is no usable root.
    #[error(
        "Occlum.json: mount: expected one mount of type \"unionfs\" at \"/\" whose layers are an \"sefs\" with a \
         \"MAC\" member (the image) and an \"sefs\" without (the writable layer)"
    )]
    Root,
    /// A kind of mount that is not simulated.
    #[error("Occlum.json: mount[{index}].type: expected unionfs, sefs, hostfs, ramfs, procfs or devfs, got {kind:?}")]
    MountType {
        /// Position in the list.
        index: usize,
        /// Its type.
        kind: String,
    },
}

impl OcclumJson {
    /// Parses and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the member.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let value = |place: String, expected, got: &str| ConfigError::Value { place, expected, got: got.to_owned() };
        for (index, path) in self.entry_points.iter().enumerate() {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return Err(value(format!("entry_points[{index}]"), "an absolute path without \"..\"", path));
            }
        }
        for (index, entry) in self.env.default.iter().enumerate() {
            if entry.find('=').is_none_or(|at| at == 0) || entry.contains('\0') {
                // The value may be a secret, the name is not.
                let name = entry.split('=').next().unwrap_or_default();
                return Err(value(format!("env.default[{index}]"), "NAME=value without NUL", name));
            }
        }
        for (index, name) in self.env.untrusted.iter().enumerate() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(value(format!("env.untrusted[{index}]"), "a name without \"=\"", name));
            }
        }
        for (index, mount) in self.mount.iter().enumerate() {
            if !mount.target.starts_with('/') || mount.target.split('/').any(|part| part == "..") {
                let place = format!("mount[{index}].target");
                return Err(value(place, "an absolute path without \"..\"", &mount.target));
            }
            let known = match mount.kind.as_str() {
                "sefs" | "hostfs" | "ramfs" | "procfs" | "devfs" => true,
                "unionfs" => mount.target == "/",
                _ => false,
            };
            if !known {
                return Err(ConfigError::MountType { index, kind: mount.kind.clone() });
            }
        }
        let stack = self.process.default_stack_size;
        if stack.0 < 4096 {
            return Err(value("process.default_stack_size".into(), "at least 4096 bytes", &stack.to_string()));
        }
        self.writable_layer().map(drop).ok_or(ConfigError::Root)
    }

    /// The writable layer of the root, if the root is as it must be.
    fn writable_layer(&self) -> Option<&Mount> {
        let mut roots = self.mount.iter().filter(|mount| mount.target == "/");
        let (root, None) = (roots.next()?, roots.next()) else { return None };
        let [lower, upper] = root.options.layers.as_deref()? else { return None };
        let is_layer = |layer: &Mount| layer.kind == "sefs" && layer.target == "/";
        let well_formed = root.kind == "unionfs"
            && is_layer(lower)
            && is_layer(upper)
            && lower.options.mac.is_some()
            && upper.options.mac.is_none();
        well_formed.then_some(upper)
    }

    /// True if the writable layer of the root is empty at every start.
    pub fn root_is_temporary(&self) -> bool {
        self.writable_layer().is_some_and(|layer| layer.options.temporary)
    }

    /// What the LibOS loads at its start and what the measurement covers, as canonical JSON: `metadata` is not part of
    /// it (it is in the report), and neither is the content of the image.
    pub fn internal_configuration(&self) -> String {
        #[derive(Serialize)]
        struct Internal<'a> {
            resource_limits: &'a ResourceLimits,
            process: &'a Process,
            entry_points: &'a [String],
            env: &'a Environment,
            disable_log: bool,
            feature: &'a Feature,
            mount: &'a [Mount],
        }
        let internal = Internal {
            resource_limits: &self.resource_limits,
            process: &self.process,
            entry_points: &self.entry_points,
            env: &self.env,
            disable_log: self.metadata.disable_log.unwrap_or(!self.metadata.debuggable),
            feature: &self.feature,
            mount: &self.mount,
        };
        serde_json::to_string(&internal).expect("strings, numbers and lists always have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    const GOOD: &str = r#"{
        "resource_limits": {"user_space_size": "512MB", "kernel_space_heap_size": "64 MB",
                            "kernel_space_stack_size": "1MB", "max_num_of_threads": 32},
        "process": {"default_stack_size": "8MB", "default_heap_size": "32MB", "default_mmap_size": "256MB"},
        "entry_points": ["/bin/premain"],
        "env": {"default": ["OCCLUM=yes"], "untrusted": ["EDG_MARBLE_TYPE"]},
        "metadata": {"product_id": 42, "version_number": 3, "debuggable": false, "enable_kss": false},
        "mount": [{"target": "/", "type": "unionfs", "options": {"layers": [
            {"target": "/", "type": "sefs", "source": "./build/mount/__ROOT", "options": {"MAC": ""}},
            {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT"}]}}]
    }"#;

    #[track_caller]
    fn check_refused(from: &str, to: &str, message: &str) {
        assert!(GOOD.contains(from), "the fixture has no {from:?}");
        let error = OcclumJson::parse(GOOD.replacen(from, to, 1).as_bytes()).unwrap_err();
        let text = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        assert!(text.contains(message), "{text:?} does not contain {message:?}");
    }

    #[test]
    fn a_complete_file_is_read() {
        let config = OcclumJson::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(config.resource_limits.kernel_space_heap_size, Size(64 << 20));
        assert_eq!(config.metadata.product_id, 42);
        assert!(!config.root_is_temporary());
    }

    #[test]
    fn sizes_are_decimal_with_a_unit() {
        for (text, size) in [("4B", 4), (" 4 KB ", 4 << 10), ("4MB", 4 << 20), ("4GB", 4 << 30), ("4TB", 4 << 40)] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(size), "{text}");
        }
        for text in ["", "4", "4mb", "4.5MB", "MB", "-4MB", "99999999999999TB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_name_their_place() {
        check_refused("8MB", "8mb", "expected a size such as \"32MB\"");
        check_refused("8MB", "8mb", "line 4 column");
        check_refused("8MB", "100B", "process.default_stack_size");
        check_refused("\"entry_points\"", "\"entrypoints\"", "missing field `entry_points`");
        check_refused("/bin/premain", "bin/premain", "entry_points[0]: expected an absolute path");
        check_refused("OCCLUM=yes", "OCCLUM", "env.default[0]: expected NAME=value");
        check_refused("EDG_MARBLE_TYPE", "A=B", "env.untrusted[0]: expected a name");
        check_refused("42", "65536", "expected u16");
        check_refused("\"options\": {\"MAC\": \"\"}", "\"options\": {}", "expected one mount of type \"unionfs\"");
        check_refused("[{\"target\": \"/\"", "[{\"target\": \"/\", \"type\": \"ext2\"}, {\"target\": \"/\"", "ext2");
    }

    #[test]
    fn the_internal_configuration_does_not_depend_on_metadata_or_layout() {
        let of = |text: &str| OcclumJson::parse(text.as_bytes()).unwrap().internal_configuration();
        assert_eq!(of(GOOD), of(&GOOD.replace("42", "43").replace("  ", "")));
        assert_eq!(of(GOOD), of(&GOOD.replace("8MB", "8192KB")));
        assert_ne!(of(GOOD), of(&GOOD.replace("OCCLUM=yes", "OCCLUM=no")));
        assert_ne!(of(GOOD), of(&GOOD.replace("EDG_MARBLE_TYPE", "OTHER")));
    }
}
