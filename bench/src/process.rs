//! What Linux says about a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The unit of times in `/proc/<pid>/stat`: USER_HZ, which is 100 for every program on x86-64 (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// This program.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// The program `name` below this process, however deep.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn descendant(self, name: &str) -> Result<Option<Self>> {
        // The kernel keeps 15 bytes of a name (TASK_COMM_LEN).
        let name = name.get(..15).unwrap_or(name);
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended since it was listed.
            let Ok(stat) = Stat::of(Self(id)) else { continue };
            processes.push((id, stat.parent, stat.name));
        }
        let mut family = vec![self.0];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(processes.iter().filter(|(_, of, _)| *of == parent).map(|(id, ..)| *id));
            next += 1;
        }
        let is_it = |(id, _, found): &&(u32, u32, String)| found == name && family.contains(id);
        Ok(processes.iter().find(is_it).map(|(id, ..)| Self(*id)))
    }

    /// Time on a processor since the start, user and system, of all threads that it ever had, in steps of 10 ms.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn cpu(self) -> Result<Duration> {
        Ok(Stat::of(self)?.cpu)
    }

    /// A line of `/proc/<pid>/status` that holds a number: `VmRSS` in bytes, `Threads` as it is.
    ///
    /// # Errors
    ///
    /// If the process has ended or the line is missing.
    pub fn status(self, name: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.0);
        status_line(&fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?, name)
    }
}

/// A number of a text in the form of `/proc/<pid>/status`, in bytes where it is a size.
///
/// # Errors
///
/// If there is no such number.
pub fn status_line(status: &str, name: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let mut words = line.with_context(|| format!("no {name} in the status of the process"))?.split_whitespace();
    let number: f64 = words.next().unwrap_or_default().parse().with_context(|| format!("{name} is no number"))?;
    Ok(if words.next() == Some("kB") { number * 1024.0 } else { number })
}

/// Parts of `/proc/<pid>/stat`.
struct Stat {
    name: String,
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn of(process: Process) -> Result<Self> {
        let path = format!("/proc/{}/stat", process.0);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} is not as expected"))
    }

    /// The name stands in parentheses and may hold any character (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        Some(Self { name: name.to_owned(), parent: fields.get(1)?.parse().ok()?, cpu: TICK * ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = Stat::parse("7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0").unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.cpu), ("a) b (c", 3, Duration::from_secs(2)));
    }

    #[test]
    fn sizes_are_bytes_and_counts_are_counts() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t5\n";
        assert_eq!(status_line(status, "VmRSS").unwrap(), 2_097_152.0);
        assert_eq!(status_line(status, "Threads").unwrap(), 5.0);
        assert!(status_line(status, "Name").is_err() && status_line(status, "Vm").is_err());
    }
}
