//! How a program is kept in a root of its own, depending on what this machine allows.

use std::io;

use marblerun_linux::process::{self, Fork, Namespaces};

/// Ways to give a program its own root, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Mount and PID namespaces, made with the privileges that we have.
    Namespaces,
    /// The same inside a user namespace, for ordinary users.
    UserNamespace,
    /// `chroot` into a copy of the image, for root where namespaces are forbidden (containers).
    ChangedRoot,
}

impl Isolation {
    /// True if user 0 of the program is an ordinary user outside.
    pub fn has_user_namespace(self) -> bool {
        self == Self::UserNamespace
    }

    /// What a user reads at each start.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "mount and PID namespaces",
            Self::UserNamespace => "user, mount and PID namespaces",
            Self::ChangedRoot => "chroot into a copy of the image (no namespaces)",
        }
    }

    /// The ways worth trying for a user, best first.
    pub fn candidates(user_id: u32) -> &'static [Self] {
        if user_id == 0 { &[Self::Namespaces, Self::UserNamespace, Self::ChangedRoot] } else { &[Self::UserNamespace] }
    }

    fn namespaces(self) -> Namespaces {
        match self {
            Self::Namespaces => Namespaces { user: false, mount: true, pid: true },
            Self::UserNamespace => Namespaces { user: true, mount: true, pid: true },
            Self::ChangedRoot => Namespaces::default(),
        }
    }

    /// Forks into these namespaces.
    ///
    /// # Errors
    /// As [`process::fork`].
    pub fn fork(self) -> io::Result<Fork> {
        process::fork(self.namespaces())
    }
}

/// Switch of Ubuntu 23.10 and later that takes privileges from ordinary users' namespaces.
pub const APPARMOR_SWITCH: &str = "kernel.apparmor_restrict_unprivileged_userns";

/// What the user can do where no way works. `restricted` and `limit` are the contents of the kernel's switches.
pub fn advice(restricted: Option<&str>, limit: Option<&str>) -> String {
    if restricted.is_some_and(|value| value.trim() != "0") {
        return format!(
            "AppArmor takes the privileges of user namespaces: run `sudo sysctl -w {APPARMOR_SWITCH}=0`, or run as root"
        );
    }
    if limit.is_some_and(|value| value.trim() == "0") {
        return "user namespaces are switched off: run `sudo sysctl -w user.max_user_namespaces=10000`, or run as root"
            .to_owned();
    }
    format!(
        "run as root, or allow user namespaces: in Docker with `--security-opt seccomp=unconfined`, on Ubuntu with \
         `sudo sysctl -w {APPARMOR_SWITCH}=0`"
    )
}

/// [`advice`] for this machine.
pub fn advice_here() -> String {
    let switch = |path: &str| std::fs::read_to_string(path).ok();
    advice(
        switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref(),
        switch("/proc/sys/user/max_user_namespaces").as_deref(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_switch_that_is_on() {
        assert!(advice(Some("1\n"), Some("1000")).contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"));
        assert!(advice(Some("0\n"), Some("0\n")).contains("user.max_user_namespaces"));
        assert!(advice(None, Some("1000")).contains("run as root, or allow user namespaces"));
    }
}
