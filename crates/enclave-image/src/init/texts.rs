//! Small files of an image, as text.

use crate::prepare::json_text::quoted;

/// Where the premain lies, the only program that the host may start.
pub const PREMAIN_PATH: &str = "/bin/premain-libos";
/// The Coordinator that the Marble believes.
pub const PIN_PATH: &str = "/etc/marblerun/coordinator.json";
/// What that Coordinator may set.
pub const RESTRICTIONS_PATH: &str = "/etc/marblerun/premain.json";
/// The directory of the Marble's UUID.
pub const UUID_DIRECTORY: &str = "/var/lib/marblerun";
/// The file with the Marble's UUID.
pub const UUID_FILE: &str = "/var/lib/marblerun/uuid";

/// Directories that `occlum new` makes in an image, `/tmp` and the one of the UUID.
pub(crate) const DIRECTORIES: [&str; 14] = [
    "/bin",
    "/dev",
    "/etc",
    "/ext2",
    "/host",
    "/lib",
    "/lib64",
    "/opt/occlum/glibc/etc",
    "/opt/occlum/glibc/lib",
    "/proc",
    "/root",
    "/sbin",
    "/tmp",
    UUID_DIRECTORY,
];

/// Files with which names are resolved. Occlum puts the host's `hosts` and `resolv.conf` in their place at each start.
pub(crate) const NAME_FILES: [(&str, &str); 6] = [
    ("/etc/group", "root:x:0:\n"),
    ("/etc/host.conf", "multi on\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("/etc/resolv.conf", "# Occlum puts the host's in this place at each start.\n"),
];

/// Names of the environment that the premain takes from the host: where things are, never whom to trust.
pub const UNTRUSTED_NAMES: [&str; 5] = [
    "EDG_MARBLE_COORDINATOR_ADDR",
    "EDG_MARBLE_DNS_NAMES",
    "EDG_MARBLE_UUID_FILE",
    "EDG_MARBLE_ACTIVATION_TIMEOUT",
    "EDG_LOG_FORMAT",
];

/// `coordinator.json` for the SHA-256 of a root certificate's DER.
pub fn pin(root_sha256: &[u8; 32]) -> String {
    let hex: String = root_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{\"RootSHA256\": \"{hex}\"}}\n")
}

/// What a Coordinator may set; an absent list restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// First arguments.
    pub programs: Vec<String>,
    /// Directories below which files may be delivered.
    pub file_prefixes: Option<Vec<String>>,
    /// Names of variables; a trailing `*` stands for any rest.
    pub variables: Option<Vec<String>>,
}

impl Restrictions {
    /// `premain.json`.
    pub(crate) fn to_json(&self) -> String {
        let list = |items: &[String]| {
            let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
            format!("[{}]", items.join(", "))
        };
        let mut members = vec![format!("\"Programs\": {}", list(&self.programs))];
        members.extend(self.file_prefixes.as_deref().map(|items| format!("\"FilePrefixes\": {}", list(items))));
        members.extend(self.variables.as_deref().map(|items| format!("\"Variables\": {}", list(items))));
        format!("{{{}}}\n", members.join(", "))
    }
}

/// A manifest in which the instance is the only Marble. Its measurement is not known yet: 64 zeros stand for it.
pub(crate) fn manifest(marble: &str, argv: &[String], is_debuggable: bool) -> String {
    let name = quoted(marble);
    let argv: Vec<_> = argv.iter().map(|argument| quoted(argument)).collect();
    let debug = if is_debuggable { ",\n      \"Debug\": true" } else { "" };
    format!(
        "{{\n  \"Packages\": {{\n    {name}: {{\n      \"UniqueID\": \"{}\"{debug}\n    }}\n  }},\n  \"Marbles\": {{\n    \
         {name}: {{\n      \"Package\": {name},\n      \"Parameters\": {{\n        \"Argv\": [{}]\n      }}\n    }}\n  \
         }}\n}}\n",
        "0".repeat(64),
        argv.join(", "),
    )
}
