//! What the figures were measured on.

use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The machine and its tools.
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    load: String,
}

impl Machine {
    /// Reads `/proc` and asks the compiler.
    ///
    /// # Errors
    ///
    /// If one of them has no answer.
    pub fn read() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let model = read("/proc/cpuinfo")?
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned());
        let rustc = Command::new("rustc").arg("--version").output().context("cannot start rustc")?;
        Ok(Self {
            cpu: model,
            cores: std::thread::available_parallelism().context("number of cores")?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: String::from_utf8_lossy(&rustc.stdout).trim().to_owned(),
            load: read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "kernel": self.kernel,
            "rustc": self.rustc,
            "load_before": self.load,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, rustc, load } = self;
        write!(f, "{cores} cores of {cpu}, Linux {kernel}, {rustc}; load before the run {load}")
    }
}
