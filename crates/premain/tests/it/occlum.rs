//! The whole way in a process that sees Occlum: activation, files, environment, `execve`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use marblerun_api::rpc::Parameters;

use crate::coordinator::{Answer, Coordinator, Identity};

/// The shared object that plays Occlum, built once.
pub(crate) fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("occlum-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/occlum.c");
        let status =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).arg("-ldl").status();
        assert!(status.unwrap().success(), "the C compiler failed");
        path
    })
}

/// The program under test: the one built with this test, or another build of it that the variable names.
pub(crate) fn premain() -> (PathBuf, Figures) {
    match std::env::var_os("MARBLERUN_PREMAIN") {
        Some(path) => (path.into(), RELEASED),
        None => (env!("CARGO_BIN_EXE_premain-libos").into(), DEVELOPMENT),
    }
}

/// Every page is taken from the enclave.
pub(crate) struct Figures {
    address_space_mb: u64,
    resident_mb: u64,
}

const RELEASED: Figures = Figures { address_space_mb: 32, resident_mb: 10 };
/// With debug information and less optimisation.
const DEVELOPMENT: Figures = Figures { address_space_mb: 48, resident_mb: 16 };

struct Run {
    output: Output,
    coordinator: Coordinator,
    directory: tempfile::TempDir,
}

impl Run {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
    /// A line of `/proc/self/status` as it was at `execve`.
    fn status_at_exec(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.directory.path().join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn run_with(answer: Answer, variables: &[(&str, &str)]) -> Run {
    let coordinator = Coordinator::start(&Identity::new(), vec![answer]);
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(premain().0)
        .arg("dropped argument")
        .current_dir(directory.path())
        .env_clear()
        .env("LD_PRELOAD", shim())
        .env("OCCLUM_STATUS", directory.path().join("status"))
        .env("PATH", "/usr/bin:/bin")
        .env("EDG_MARBLE_COORDINATOR_ADDR", coordinator.address.to_string())
        .env("EDG_MARBLE_TYPE", "web")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    Run { output, coordinator, directory }
}

fn run(parameters: Parameters) -> Run {
    run_with(Answer::Parameters(parameters), &[])
}

fn shell(script: &str) -> Parameters {
    Parameters { argv: vec!["/bin/sh".into(), "-c".into(), script.into(), "x".into()], ..Parameters::default() }
}

// rules: ACT-8.9, OCC-12
#[test]
fn the_application_gets_argument_zero_environment_and_files_of_the_manifest() {
    let mut parameters =
        shell("tr '\\0' '|' </proc/$$/cmdline; echo; echo \"$TOKEN,$KEPT,$EDG_MARBLE_TYPE\"; cat conf/key");
    parameters.env.insert("TOKEN".into(), b"received".to_vec());
    parameters.files.insert("conf/key".into(), b"secret of a file".to_vec());
    let run = run_with(Answer::Parameters(parameters), &[("KEPT", "kept"), ("TOKEN", "inherited")]);
    let stdout = run.stdout();
    assert!(run.output.status.success(), "{}", run.stderr());
    assert!(stdout.starts_with("sh|-c|"), "{stdout}");
    assert!(!stdout.contains("dropped"), "{stdout}");
    assert!(stdout.ends_with("|x|\nreceived,kept,web\nsecret of a file"), "{stdout}");

    let calls = run.coordinator.calls();
    let call = &calls[0].request;
    let hash = marblerun_marble::evidence::report_data(&calls[0].client_certificate);
    assert_eq!(call.quote[..16], *b"\x01\0\0\0\x02\0\0\0\x64\0\0\0\0\0\0\0");
    assert_eq!(call.quote[16..80], hash);
}

#[test]
fn the_log_names_the_steps_and_no_secret() {
    let mut parameters = shell("true");
    parameters.env.insert("TOKEN".into(), b"hunter2".to_vec());
    parameters.files.insert("key".into(), b"hunter2".to_vec());
    let run = run(parameters);
    let stderr = run.stderr();
    assert!(stderr.lines().all(|line| line.starts_with("[PreMain] 20")), "{stderr}");
    for step in ["detected libOS: Occlum", "starting PreMain", "fetching env variables", "done with PreMain"] {
        assert!(stderr.contains(step), "{stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

// rules: OCC-7
#[test]
fn at_execve_there_is_one_thread_and_the_application_inherits_no_descriptor() {
    let script = "ls /proc/$$/fd";
    let run = run(shell(script));
    assert_eq!(run.status_at_exec("Threads:"), 1);
    // Whoever runs the tests may have left descriptors open to every program.
    let without_premain = Command::new("/bin/sh").args(["-c", script]).output().unwrap();
    assert_eq!(run.stdout(), String::from_utf8_lossy(&without_premain.stdout));
}

// rules: OCC-7
#[test]
fn what_the_application_does_not_get_is_wiped_before_execve() {
    // Spelt so that the test's own parts do not occur in the memory of the premain by other ways.
    let (file, variable) = ("content-of-a-file-".repeat(8), "value-of-a-variable-".repeat(8));
    let mut parameters = shell("true");
    parameters.files.insert("key".into(), file.clone().into_bytes());
    parameters.env.insert("TOKEN".into(), variable.clone().into_bytes());
    let run = run(parameters);
    assert!(run.output.status.success(), "{}", run.stderr());
    let memory = std::fs::read(run.directory.path().join("status.memory")).unwrap();
    let holds = |text: &str| memory.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&variable), "what execve reads must be in memory, or this test looks in the wrong place");
    assert!(!holds(&file), "the content of a file is still in memory");
    assert!(!holds(&file[..36]), "a part of the content of a file is still in memory");
}

#[test]
fn the_address_space_stays_small() {
    let run = run(shell("true"));
    let (_, limit) = premain();
    let (peak, resident) = (run.status_at_exec("VmPeak:") / 1024, run.status_at_exec("VmHWM:") / 1024);
    println!("at execve: {peak} MB of address space, {resident} MB resident");
    assert!(peak <= limit.address_space_mb, "expected at most {} MB, got {peak}", limit.address_space_mb);
    assert!(resident <= limit.resident_mb, "expected at most {} MB, got {resident}", limit.resident_mb);
}

#[test]
fn the_time_from_the_answer_to_execve_is_told_on_request_only() {
    let line = |run: &Run| {
        run.stderr().lines().find(|line| line.contains(" ms from the Coordinator's answer")).map(str::to_owned)
    };
    let asked = run_with(Answer::Parameters(shell("true")), &[("EDG_MARBLE_TIMING", "1")]);
    let line_of_asked = line(&asked).unwrap_or_else(|| panic!("{}", asked.stderr()));
    assert!(line_of_asked.ends_with("to the program"), "{line_of_asked}");
    for value in ["", "0", "yes"] {
        assert_eq!(line(&run_with(Answer::Parameters(shell("true")), &[("EDG_MARBLE_TIMING", value)])), None);
    }
}

// rules: OCC-6
#[test]
fn a_large_environment_raises_the_stack_limit_of_the_application() {
    let mut parameters = shell("ulimit -s; echo ${#LARGE}");
    parameters.env.insert("LARGE".into(), vec![b'x'; 100_000]);
    let run = run(parameters);
    // 256 bytes of stack for each byte: 100,000 bytes and some variables take 25 MB.
    assert_eq!(run.stdout(), "25600\n100000\n", "{}", run.stderr());
}

#[test]
fn the_exit_code_is_that_of_the_application() {
    assert_eq!(run(shell("exit 42")).output.status.code(), Some(42));
}

// rules: ACT-8.9
#[test]
fn a_program_that_is_not_in_the_image_is_named_on_stdout() {
    let run = run(Parameters { argv: vec!["/bin/absent".into()], ..Parameters::default() });
    assert_eq!(run.output.status.code(), Some(1));
    assert_eq!(
        run.stdout(),
        "/bin/absent does not exist in the image.\nSet the first of the Marble's arguments in the manifest to a valid \
         entry point such as /bin/hello_world.\n"
    );
    let stderr = run.stderr();
    assert_eq!(stderr.matches("Error: ").count(), 1, "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(
        last.starts_with("Error: starting the application failed: /bin/absent: no such file in the image"),
        "{last}"
    );
}

// rules: ACT-8.6
#[test]
fn without_arguments_the_default_program_is_looked_for() {
    let run = run(Parameters::default());
    assert_eq!(run.output.status.code(), Some(1));
    assert!(run.stdout().starts_with("./marble does not exist"), "{}", run.stdout());
}

#[test]
fn the_application_dies_of_a_broken_pipe_as_programs_do() {
    let run = run(shell("grep SigIgn /proc/$$/status"));
    let ignored = run.stdout().trim().rsplit('\t').next().unwrap().to_owned();
    const SIGPIPE: u64 = 1 << 12;
    assert_eq!(u64::from_str_radix(&ignored, 16).unwrap() & SIGPIPE, 0, "{ignored}");
}

/// A program that the Coordinator names, and for which the premain ends with one line.
#[track_caller]
fn check_not_started(path: &str, words: &str) {
    let mut parameters = Parameters { argv: vec![path.into()], ..Parameters::default() };
    parameters.files.insert("secret".into(), b"of the manifest".to_vec());
    let run = run(parameters);
    assert_eq!(run.output.status.code(), Some(1));
    let stderr = run.stderr();
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with(&format!("Error: starting the application failed: {path}: ")), "{last}");
    assert!(last.contains(words), "{last:?} does not contain {words:?}");
    assert_eq!(stderr.matches("Error: ").count(), 1, "{stderr}");
    let mode = std::fs::metadata(run.directory.path().join("secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_program_that_cannot_be_executed_is_explained_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let program = |name: &str, content: &[u8], mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let without_permission = program("plain", b"#!/bin/sh\n", 0o644);
    check_not_started(&without_permission, "not executable: the file lacks the execute permission");
    check_not_started(
        &program("script", b"echo started\n", 0o755),
        "neither a program nor a script that begins with #!",
    );
    check_not_started(
        &program("lost", b"#!/bin/absent\n", 0o755),
        "the program in its line with #! is not in the image",
    );
    let mut narrow = vec![0; 64];
    narrow[..5].copy_from_slice(b"\x7fELF\x01");
    check_not_started(&program("narrow", &narrow, 0o755), "expected a 64-bit program");
    check_not_started(directory.path().to_str().unwrap(), "expected a program, got a directory");
}

// rules: ACT-8.3, ACT-8.11
#[test]
fn a_refused_activation_changes_nothing_and_ends_in_one_line() {
    let run = run_with(Answer::Status(7, "marble%20verification%20failed"), &[]);
    assert_eq!(run.output.status.code(), Some(1));
    let stderr = run.stderr();
    let last = stderr.lines().last().unwrap();
    let expected = "Error: activating Occlum Marble failed: PERMISSION_DENIED: marble verification failed (hint: ";
    assert!(last.starts_with(expected), "{last}");
    assert_eq!(stderr.matches("Error: ").count(), 1, "{stderr}");
    let names: Vec<_> =
        std::fs::read_dir(run.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["uuid"]);
}

// rules: ACT-8.11
#[test]
fn json_mode_produces_objects_only() {
    let run = run_with(Answer::Status(7, "no"), &[("EDG_LOG_FORMAT", "json")]);
    let stderr = run.stderr();
    let levels: Vec<String> = stderr
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["level"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(levels.last().unwrap(), "fatal");
    assert!(levels[..levels.len() - 1].iter().all(|level| level == "info"), "{levels:?}");
    assert!(!stderr.contains("Error: "), "{stderr}");
}

#[test]
fn a_missing_type_is_named_with_the_place_to_list_it() {
    let run = run_with(Answer::Nothing, &[("EDG_MARBLE_TYPE", "")]);
    assert_eq!(run.output.status.code(), Some(1));
    let stderr = run.stderr();
    assert!(stderr.contains("environment variable not set: EDG_MARBLE_TYPE (hint: "), "{stderr}");
    assert!(stderr.contains("env.untrusted"), "{stderr}");
    assert!(run.coordinator.calls().is_empty());
}
