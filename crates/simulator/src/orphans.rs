//! Ending what a program leaves behind where there is no PID namespace to do it.

use std::collections::BTreeSet;
use std::{fs, io};

use marblerun_linux::process::{self, Wait};

const SIGKILL: i32 = 9;

/// Becomes the parent of processes whose parents end, and can end them.
#[derive(Debug)]
pub struct Orphans {
    /// Children that this process had before: `exec` in a shell hands over the shell's.
    inherited: BTreeSet<i32>,
}

impl Orphans {
    /// Adopts from now on.
    ///
    /// # Errors
    /// The errno of the call that failed.
    pub fn adopt() -> io::Result<Self> {
        let inherited = children()?;
        process::adopt_orphans()?;
        Ok(Self { inherited })
    }

    /// Ends all that was adopted, and what those leave behind in turn.
    ///
    /// # Errors
    /// The errno of the call that failed.
    pub fn end(&self) -> io::Result<()> {
        loop {
            let adopted: Vec<_> = children()?.difference(&self.inherited).copied().collect();
            if adopted.is_empty() {
                return Ok(());
            }
            for child in adopted {
                // It may have ended already; it stays a child until it is waited for.
                let _ = process::kill(child, SIGKILL);
                process::wait(child, Wait::Block)?;
            }
        }
    }
}

fn children() -> io::Result<BTreeSet<i32>> {
    let me = std::process::id();
    let list = fs::read_to_string(format!("/proc/{me}/task/{me}/children"))?;
    Ok(list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}
