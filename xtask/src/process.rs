//! Running commands so that a reader can repeat them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// Prints a heading for what follows.
pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// Prints one sentence about what is done or was found.
pub fn say(text: &str) {
    println!("   {text}");
}

/// The command line as one would type it.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))))
        .collect();
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

/// Runs a long step with its output visible, and says how long it took.
///
/// # Errors
///
/// If the command cannot be started or fails.
pub fn step(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    say(&format!("done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Prints a command and runs it; what it wrote is returned and not shown.
///
/// # Errors
///
/// If the command cannot be started.
pub fn capture(command: &mut Command) -> Result<Output> {
    println!("$ {}", shown(command));
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {:?}", command.get_program()))
}

/// Like [`capture`], for a command that must succeed; its standard output.
///
/// # Errors
///
/// If the command cannot be started or fails; then with what it wrote.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    if !output.status.success() {
        bail!("`{}` failed: {}\n{}", shown(command), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a cargo command in the workspace; the toolchain that runs xtask is used.
pub fn cargo(workspace: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace).args(arguments);
    command
}
