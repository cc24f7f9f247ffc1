//! What becoming a Marble costs a program in (simulated) Occlum: time until it runs, and memory that is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::figure::{Figure, Unit};
use crate::primitives::Activation;
use crate::surroundings::Surroundings;
use crate::timing::percentile;

/// More than this the program must not start later, in milliseconds.
const LATER_LIMIT: f64 = 100.0;
/// The premain from the Coordinator's answer to `execve`, in milliseconds.
const REPLY_TO_EXEC_LIMIT: f64 = 5.0;
const RUNS: usize = 15;
/// Memory for all processes that `occlum init` asks for, in MB of `Occlum.json` (2^20 bytes).
const USER_SPACE_LIMIT: f64 = 64.0;
/// What the guide to MarbleRun v1.9.1 in Occlum asks for, in the same unit.
const USER_SPACE_OF_GUIDE: f64 = 2048.0;
/// What the premain writes before the number, see its variable `EDG_MARBLE_TIMING`.
const TIMING: &str = " ms from the Coordinator's answer to ";

/// Starts the hello world of the samples directly and as a Marble, by turns, in the simulator's strict mode.
///
/// # Errors
///
/// If one of them does not run.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let directory = surroundings.directory("occlum")?;
    let program = directory.join("hello_world");
    let source = surroundings.source("samples/occlum-hello/hello.c");
    succeed(Command::new("cc").args(["-O2", "-fPIE", "-pie", "-o"]).arg(&program).arg(source))?;
    let (deployment, _root) = Deployment::in_enclave(surroundings, "occlum-coordinator")?;
    let simulator = Simulator {
        program: surroundings.program("marble-sim")?,
        directory: directory.clone(),
        root: deployment.directory().join("root"),
    };

    let configuration = surroundings.source("samples/occlum-hello/Occlum.json");
    simulator.instance("marble", &configuration, &[&surroundings.installed("premain-libos")?, &program], |_| ())?;
    simulator.instance("plain", &configuration, &[&program], |configuration| {
        configuration["entry_points"] = json!(["/bin/hello_world"]);
        configuration["env"]["default"] = json!(["OCCLUM=yes", "HELLO_KEY=00"]);
    })?;
    // It looks for a file, which the manifest gives to the Marble.
    fs::create_dir_all(directory.join("plain/image/etc/hello"))?;
    fs::write(directory.join("plain/image/etc/hello/key"), [7; 16])?;
    deployment.set_manifest(&json!({
        "Packages": { "hello": { "UniqueID": simulator.measure("marble")? } },
        "Secrets": { "helloKey": { "Type": "symmetric-key", "Size": 128 } },
        "Marbles": { "hello": { "Package": "hello", "Parameters": {
            "Argv": ["/bin/hello_world", "Hello World from Marblerun!"],
            "Env": { "HELLO_KEY": "{{ hex .Secrets.helloKey }}" },
            "Files": { "/etc/hello/key": "{{ raw .Secrets.helloKey }}" },
        } } },
    }))?;

    let coordinator = deployment.mesh().to_string();
    let (mut plain, mut marble, mut after_reply) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Instant::now();
        simulator.run("plain", "/bin/hello_world", &[])?;
        plain.push(start.elapsed().as_secs_f64() * 1e3);
        let variables = [("EDG_MARBLE_COORDINATOR_ADDR", coordinator.as_str()), ("EDG_MARBLE_TIMING", "1")];
        let start = Instant::now();
        let output = simulator.run("marble", "/bin/premain-libos", &variables)?;
        marble.push(start.elapsed().as_secs_f64() * 1e3);
        after_reply.push(time_after_reply(&String::from_utf8_lossy(&output.stderr))?);
    }
    let (plain, marble) = (percentile(&mut plain, 50), percentile(&mut marble, 50));
    let user_space = user_space(surroundings, &directory)?;
    // Arithmetic, for the simulator has no memory that processes share. That each of them fits is seen, at least.
    simulator.run_within(user_space, "marble", "/bin/premain-libos", &coordinator)?;
    let milliseconds = |name: &str, value| Figure::new(name, value, Unit::Milliseconds);
    Ok(vec![
        milliseconds("hello world directly, start to end, median", plain),
        milliseconds("hello world as a Marble, start to end, median", marble).floor(plain),
        milliseconds("the difference, against the Coordinator's cryptography", marble - plain)
            .limit(LATER_LIMIT)
            .floor(Activation::measure()?.sum()),
        milliseconds("premain, from the answer to execve, median", percentile(&mut after_reply, 50))
            .limit(REPLY_TO_EXEC_LIMIT),
        milliseconds("premain, from the answer to execve, longest", percentile(&mut after_reply, 100)),
        Figure::new("computed user_space_size of the hello world (MB of Occlum.json)", user_space, Unit::Megabytes)
            .limit(USER_SPACE_LIMIT),
        Figure::new("user_space_size in the guide to v1.9.1 (the same)", USER_SPACE_OF_GUIDE, Unit::Megabytes)
            .floor(user_space),
    ])
}

/// What `occlum init` computes for the hello world with the premain for real images, in MB.
fn user_space(surroundings: &Surroundings, directory: &Path) -> Result<f64> {
    let premain = surroundings.installed("premain-libos")?;
    let mut command = Command::new(surroundings.program("marblerun")?);
    command.current_dir(directory).args(["occlum", "init", "computed", "--program", "hello_world", "--premain"]);
    succeed(command.arg(premain))?;
    let configuration: Value = serde_json::from_slice(&fs::read(directory.join("computed/Occlum.json"))?)?;
    let size = configuration["resource_limits"]["user_space_size"].as_str().unwrap_or_default();
    let number = size.strip_suffix("MB").and_then(|number| number.parse().ok());
    number.with_context(|| format!("expected a size in MB, got {size:?}"))
}

/// The number in the premain's line.
fn time_after_reply(log: &str) -> Result<f64> {
    let (before, _) = log.split_once(TIMING).with_context(|| format!("the premain told no time:\n{log}"))?;
    let number = before.rsplit(' ').next().unwrap_or_default();
    number.parse().with_context(|| format!("{number:?} is no number"))
}

/// `marble-sim` with instances in one directory.
struct Simulator {
    program: PathBuf,
    directory: PathBuf,
    root: PathBuf,
}

impl Simulator {
    /// An instance with `programs` in `/bin` of its image.
    fn instance(
        &self,
        name: &str,
        configuration: &Path,
        programs: &[&Path],
        change: impl FnOnce(&mut Value),
    ) -> Result<()> {
        for part in ["image", "host"] {
            fs::create_dir_all(self.directory.join(name).join(part))?;
        }
        let mut value: Value = serde_json::from_slice(&fs::read(configuration)?)?;
        // The host lets the premain measure itself.
        let untrusted = value["env"]["untrusted"].as_array_mut().context("the sample lists untrusted variables")?;
        untrusted.push(json!("EDG_MARBLE_TIMING"));
        change(&mut value);
        fs::write(self.directory.join(name).join("Occlum.json"), value.to_string())?;
        for program in programs {
            let target = Path::new("/bin").join(program.file_name().context("a program has a name")?);
            succeed(self.command(&["image", "add", "--instance", name]).arg(program).arg("--as").arg(target))?;
        }
        Ok(())
    }

    fn measure(&self, name: &str) -> Result<String> {
        let output = succeed(&mut self.command(&["measure", "--instance", name]))?;
        let measured: Value = serde_json::from_slice(&output.stdout)?;
        measured["mrenclave"].as_str().map(str::to_owned).context("no measurement")
    }

    fn run(&self, name: &str, program: &str, variables: &[(&str, &str)]) -> Result<Output> {
        let mut command = self.command(&["run", "--strict", "--instance", name, "--root"]);
        succeed(command.arg(&self.root).args(["--", program]).envs(variables.iter().copied()))
    }

    /// Runs a Marble, each of its processes with at most so many MB of address space (`RLIMIT_AS`).
    fn run_within(&self, megabytes: f64, name: &str, program: &str, coordinator: &str) -> Result<()> {
        let limited = format!("ulimit -v {} && exec \"$@\"", megabytes * 1024.0);
        let mut command = Command::new("sh");
        command.current_dir(&self.directory).args(["-c", &limited, "sh"]).arg(&self.program);
        command.args(["run", "--strict", "--instance", name, "--root"]).arg(&self.root).args(["--", program]);
        succeed(command.env("EDG_MARBLE_COORDINATOR_ADDR", coordinator)).map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).args(arguments);
        command
    }
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_from_the_log_of_the_premain() {
        let log =
            "[PreMain] done\n[PreMain] 2026/01/02 03:04:05 0.812 ms from the Coordinator's answer to the program\n";
        assert_eq!(time_after_reply(log).unwrap(), 0.812);
        assert!(time_after_reply("[PreMain] done\n").is_err());
        assert!(time_after_reply("[PreMain] x ms from the Coordinator's answer to the program\n").is_err());
    }
}
