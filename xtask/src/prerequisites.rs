//! Tools that must be on the machine, and how to get them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A tool that xtask cannot install by itself.
#[derive(Clone, Copy)]
pub struct Tool {
    program: &'static str,
    probe: &'static [&'static str],
    used_for: &'static str,
    fix: &'static str,
}

/// The C compiler: builds the cryptography library and the samples.
pub const CC: Tool = Tool {
    program: "cc",
    probe: &["--version"],
    used_for: "building the cryptography library and the sample program",
    fix: "apt-get install build-essential",
};
/// OpenSSL's command line: shows certificates, and checks ours in tests.
pub const OPENSSL: Tool = Tool {
    program: "openssl",
    probe: &["version"],
    used_for: "showing certificates and checking ours independently",
    fix: "apt-get install openssl",
};
/// Python with venv: the conformance suite, and the linker for old C libraries.
pub const PYTHON: Tool = Tool {
    program: "python3",
    probe: &["-c", "import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 11))"],
    used_for: "the conformance suite and the distribution linker (3.11 or later, with venv)",
    fix: "apt-get install python3 python3-venv",
};
/// Go: a statically linked program for the simulator's tests.
pub const GO: Tool = Tool {
    program: "go",
    probe: &["version"],
    used_for: "a statically linked test program for the simulator",
    fix: "apt-get install golang-go",
};
/// The interpreter's shared library: the Python sample.
pub const PYTHON_LIBRARY: Tool = Tool {
    program: "/usr/bin/python3",
    probe: &[
        "-c",
        "import os, sys, sysconfig; get = sysconfig.get_config_var; \
         sys.exit(not os.path.exists(os.path.join(get('LIBDIR'), get('INSTSONAME'))))",
    ],
    used_for: "the Python sample (the system's Python with its shared library)",
    fix: "apt-get install libpython3-dev",
};
/// Redis: a sample.
pub const REDIS: Tool = Tool {
    program: "redis-server",
    probe: &["--version"],
    used_for: "the Redis sample",
    fix: "apt-get install redis-server redis-tools",
};
/// curl: a client in a sample.
pub const CURL: Tool = Tool {
    program: "curl",
    probe: &["--version"],
    used_for: "the sample with mutual TLS",
    fix: "apt-get install curl",
};
/// setpriv: tests as an unprivileged user.
pub const SETPRIV: Tool = Tool {
    program: "setpriv",
    probe: &["--version"],
    used_for: "tests as an unprivileged user",
    fix: "apt-get install util-linux",
};

/// Fails with all missing tools together, each with its fix.
///
/// # Errors
///
/// If a tool is missing or too old.
pub fn require(tools: &[Tool]) -> Result<()> {
    let missing: Vec<_> = tools.iter().filter(|tool| !works(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> =
        missing.iter().map(|tool| format!("  {} (for {}): {}", tool.program, tool.used_for, tool.fix)).collect();
    bail!("tools are missing; on Debian or Ubuntu:\n{}", lines.join("\n"));
}

fn works(tool: &Tool) -> bool {
    Command::new(tool.program)
        .args(tool.probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Fails where programs cannot be run in a private root: the simulator needs root or user namespaces.
///
/// # Errors
///
/// If neither is available, with the setting that usually forbids it.
pub fn require_namespaces() -> Result<()> {
    let restricted = std::fs::read_to_string(Path::new("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"))
        .is_ok_and(|value| value.trim() == "1");
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0;
    if is_root || probe.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let fix = if restricted {
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        "run as root, or allow user namespaces (sysctl user.max_user_namespaces)"
    };
    bail!("the simulator needs root or unprivileged user namespaces: {fix}");
}
