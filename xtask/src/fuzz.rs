//! Fuzzing: every parser of outside bytes for a while, with sanitizers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{heading, say, shown, step};

/// The version that is installed if there is none.
const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// For each target, unless `--seconds` says otherwise.
const DEFAULT_TIME: Duration = Duration::from_secs(30);
/// A single input that takes longer is reported like a crash.
const LONGEST_INPUT: Duration = Duration::from_secs(10);
/// Resident memory at which an input is reported like a crash, in MiB: the sanitizer itself takes a part.
const MEMORY_MIB: u32 = 2048;

const USAGE: &str = "usage: cargo xtask fuzz [TARGET] [--seconds N]";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    target: Option<&'a str>,
    time: Duration,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut request = Self { target: None, time: DEFAULT_TIME };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--seconds" => {
                    let value = rest.next().with_context(|| format!("--seconds: expected a number; {USAGE}"))?;
                    let seconds: u32 = value
                        .parse()
                        .ok()
                        .filter(|seconds| *seconds > 0)
                        .with_context(|| format!("--seconds: expected a number of at least 1, got {value:?}"))?;
                    request.time = Duration::from_secs(seconds.into());
                }
                target if request.target.is_none() && !target.starts_with('-') => request.target = Some(target),
                other => bail!("unexpected argument {other:?}; {USAGE}"),
            }
        }
        Ok(request)
    }
}

/// Runs one target or all of them, one after the other; `arguments` are `[TARGET] [--seconds N]`.
///
/// The committed corpus is read and never changed: what the fuzzer learns is kept below `target/`, so that the next run
/// goes on from there. All targets are run, also after one has failed.
///
/// # Errors
///
/// If an argument or target is unknown, something cannot be built, or an input broke something; then with the files
/// that hold such inputs.
pub fn run(workspace: &Path, arguments: &[&str]) -> Result<()> {
    let request = Request::parse(arguments)?;
    let known = targets(workspace)?;
    let chosen: Vec<&str> = match request.target {
        Some(target) => {
            ensure!(known.contains(target), "expected one of the targets {known:?}, got {target:?}");
            vec![target]
        }
        None => known.iter().map(String::as_str).collect(),
    };
    let cargo_fuzz = cargo_fuzz()?;

    heading(&format!("Fuzzing {} target(s), {} s each", chosen.len(), request.time.as_secs()));
    // Without a name all of them are built, in one go.
    let build: Vec<&str> = std::iter::once("build").chain(request.target).collect();
    step(&mut fuzz(workspace, &cargo_fuzz, &build))?;
    let mut failed = Vec::new();
    for target in &chosen {
        if let Err(error) = run_target(workspace, &cargo_fuzz, target, request.time) {
            say(&format!("{error:#}"));
            failed.push(*target);
        }
    }
    if failed.is_empty() {
        say("no input broke anything");
        return Ok(());
    }
    let mut lines = Vec::new();
    for target in failed {
        let directory = workspace.join("fuzz/artifacts").join(target);
        let inputs = files(&directory)?;
        if inputs.is_empty() {
            lines.push(format!("  {target}: the fuzzer failed without an input, see above"));
        }
        lines.extend(inputs.iter().map(|name| format!("  {target}: {}", directory.join(name).display())));
    }
    bail!("inputs that break something (fuzz/README.md says what to do with them):\n{}", lines.join("\n"));
}

/// The targets by name: one program each.
fn targets(workspace: &Path) -> Result<BTreeSet<String>> {
    let programs = files(&workspace.join("fuzz/fuzz_targets"))?;
    Ok(programs.iter().filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned())).collect())
}

/// The names of the files in a directory; none if it does not exist.
fn files(directory: &Path) -> Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", directory.display())),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().with_context(|| format!("cannot list {}", directory.display()))
}

/// The path of `cargo-fuzz` in the cache directory, installed if it is missing.
fn cargo_fuzz() -> Result<PathBuf> {
    let root = cache_directory()?.join("marblerun-xtask/cargo-fuzz");
    let program = root.join("bin/cargo-fuzz");
    if !program.exists() {
        heading("Installing cargo-fuzz");
        let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        install.args(["install", "--locked", "--version", CARGO_FUZZ_VERSION, "cargo-fuzz", "--root"]).arg(&root);
        step(&mut install)?;
    }
    Ok(program)
}

fn cache_directory() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("no directory for tools: expected an absolute path in XDG_CACHE_HOME or HOME")
}

/// A command of cargo-fuzz; the pinned toolchain builds, and this alone may use the compiler's unstable options.
fn fuzz(workspace: &Path, cargo_fuzz: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_fuzz);
    let (subcommand, rest) = arguments.split_first().expect("every call names a subcommand");
    command
        .current_dir(workspace)
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", subcommand, "--fuzz-dir", "fuzz", "--target-dir", "target/fuzz"])
        .args(rest);
    command
}

fn run_target(workspace: &Path, cargo_fuzz: &Path, target: &str, time: Duration) -> Result<()> {
    let learned = Path::new("target/fuzz-corpus").join(target);
    let directory = workspace.join(&learned);
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    // libFuzzer writes what it finds into the first directory only.
    let learned = learned.to_string_lossy();
    let committed = format!("fuzz/corpus/{target}");
    let mut command = fuzz(workspace, cargo_fuzz, &["run", target, &learned, &committed]);
    command.args([
        "--".to_owned(),
        format!("-max_total_time={}", time.as_secs()),
        format!("-timeout={}", LONGEST_INPUT.as_secs()),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        "-print_final_stats=1".to_owned(),
    ]);
    println!("$ {}", shown(&command));
    let status = command.status().with_context(|| format!("cannot start {}", cargo_fuzz.display()))?;
    ensure!(status.success(), "{target}: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_all_targets_run_for_the_default_time() {
        assert_eq!(Request::parse(&[]).unwrap(), Request { target: None, time: DEFAULT_TIME });
    }

    #[test]
    fn target_and_time_come_in_any_order() {
        let expected = Request { target: Some("pem"), time: Duration::from_secs(5) };
        assert_eq!(Request::parse(&["pem", "--seconds", "5"]).unwrap(), expected);
        assert_eq!(Request::parse(&["--seconds", "5", "pem"]).unwrap(), expected);
    }

    #[test]
    fn a_second_target_an_unknown_option_and_a_bad_time_are_refused() {
        for (arguments, message) in [
            (["pem", "quote"].as_slice(), "unexpected argument \"quote\""),
            (&["--minutes"], "unexpected argument \"--minutes\""),
            (&["--seconds"], "--seconds: expected a number"),
            (&["--seconds", "0"], "--seconds: expected a number of at least 1, got \"0\""),
            (&["--seconds", "soon"], "--seconds: expected a number of at least 1, got \"soon\""),
        ] {
            let error = Request::parse(arguments).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
