//! Telling runtimes apart by `uname`.

use std::io;

use marblerun_linux::uname::{Uname, uname};

/// What kind of system this process sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The Occlum LibOS: the system is called `Occlum`.
    Occlum,
    /// The Gramine LibOS: `Linux`, release `3.10.0`, version `1`, machine `x86_64`.
    Gramine,
    /// Any other system.
    Other {
        /// Name and release, for messages.
        description: String,
    },
}

/// Asks the kernel which runtime this is.
///
/// The answer chooses code paths and nothing else: a host that lies gains a process that cannot get evidence.
///
/// # Errors
/// The errno of `uname`.
pub fn runtime() -> io::Result<Runtime> {
    Ok(classify(&uname()?))
}

fn classify(name: &Uname) -> Runtime {
    // Occlum's release and version say nothing about it and may change.
    if name.sysname == "Occlum" {
        return Runtime::Occlum;
    }
    if name.sysname == "Linux" && name.release == "3.10.0" && name.version == "1" && name.machine == "x86_64" {
        return Runtime::Gramine;
    }
    Runtime::Other { description: format!("{} {}", name.sysname, name.release) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sysname: &str, release: &str, version: &str, machine: &str) -> Uname {
        Uname {
            sysname: sysname.to_owned(),
            release: release.to_owned(),
            version: version.to_owned(),
            machine: machine.to_owned(),
        }
    }

    // rules: OCC-2
    #[test]
    fn occlum_is_recognised_by_its_name_alone() {
        assert_eq!(classify(&name("Occlum", "0.1", "0.1", "x86_64")), Runtime::Occlum);
        assert_eq!(classify(&name("Occlum", "9", "9", "riscv")), Runtime::Occlum);
    }

    #[test]
    fn gramine_is_recognised_by_all_four_fields() {
        assert_eq!(classify(&name("Linux", "3.10.0", "1", "x86_64")), Runtime::Gramine);
        for other in [
            name("Linux", "3.10.0-1160.el7", "1", "x86_64"),
            name("Linux", "3.10.0", "#1 SMP", "x86_64"),
            name("Linux", "3.10.0", "1", "aarch64"),
            name("linux", "3.10.0", "1", "x86_64"),
        ] {
            assert!(matches!(classify(&other), Runtime::Other { .. }), "{other:?}");
        }
    }
}
