//! The program as `/bin/init` of Occlum: activation, and the call that mounts the image of the application.

use std::fs;
use std::process::{Command, Output};

use marblerun_api::rpc::Parameters;

use crate::coordinator::{Answer, Coordinator, Identity};
use crate::occlum::{premain, shim};

const KEY: &[u8] = b"0123456789abcdef";
const KEY_IN_HEX: &str = "30313233343536373839616263646566";

struct Run {
    output: Output,
    coordinator: Coordinator,
    directory: tempfile::TempDir,
}

impl Run {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
    /// What the LibOS was asked to mount.
    fn mount(&self) -> Option<String> {
        fs::read_to_string(self.directory.path().join("mount")).ok()
    }
    #[track_caller]
    fn refused(&self, words: &str) {
        assert_eq!(self.output.status.code(), Some(1), "{}", self.stderr());
        let last = self.stderr().lines().last().unwrap().to_owned();
        assert!(last.starts_with("Error: mounting the image of the application failed: "), "{last}");
        assert!(last.contains(words), "{last:?} does not contain {words:?}");
    }
}

fn run_with(image_type: &str, parameters: Parameters, variables: &[(&str, &str)]) -> Run {
    let coordinator = Coordinator::start(&Identity::new(), vec![Answer::Parameters(parameters)]);
    let directory = tempfile::tempdir().unwrap();
    let config = format!(r#"{{"image_type":"{image_type}"}}"#);
    fs::write(directory.path().join("image_config.json"), config).unwrap();
    let output = Command::new(premain().0)
        .current_dir(directory.path())
        .env_clear()
        .env("LD_PRELOAD", shim())
        .env("OCCLUM_STATUS", directory.path().join("status"))
        .env("OCCLUM_INIT", directory.path())
        .env("EDG_MARBLE_COORDINATOR_ADDR", coordinator.address.to_string())
        .env("EDG_MARBLE_TYPE", "web")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    Run { output, coordinator, directory }
}

fn with_key(variables: &[(&str, &str)]) -> Parameters {
    Parameters {
        files: [("/etc/image_key".to_owned(), KEY.to_vec())].into(),
        env: variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        ..Parameters::default()
    }
}

// rules: INIT-1
#[test]
fn key_and_environment_of_the_coordinator_are_handed_to_the_libos() {
    let run = run_with("encrypted", with_key(&[("TOKEN", "received"), ("A", "1")]), &[("KEPT", "inherited")]);
    assert!(run.output.status.success(), "{}", run.stderr());
    // The length of the configuration, and no path or entry point: those stay as they are measured.
    assert_eq!(run.mount().unwrap(), format!("{KEY_IN_HEX}\n56: 0 0 0 0 0\nA=1\nTOKEN=received"));
    for step in ["detected libOS: Occlum", "activating marble", "mounting the image", "done with PreMain"] {
        assert!(run.stderr().contains(step), "{}", run.stderr());
    }
    assert!(run.output.stdout.is_empty());
}

// rules: INIT-4
#[test]
fn the_stage_activates_as_its_own_type_with_its_own_uuid() {
    let variables = [("EDG_MARBLE_INIT_TYPE", "web-init"), ("EDG_MARBLE_UUID_FILE", "/nonexistent/uuid")];
    let run = run_with("encrypted", with_key(&[]), &variables);
    assert!(run.output.status.success(), "{}", run.stderr());
    let request = &run.coordinator.calls()[0].request;
    assert_eq!(request.marble_type, "web-init");
    assert_eq!(fs::read_to_string(run.directory.path().join("uuid")).unwrap(), request.uuid);
}

// rules: INIT-1
#[test]
fn an_image_that_is_not_encrypted_is_mounted_without_key() {
    let run = run_with("integrity-only", Parameters::default(), &[]);
    assert!(run.output.status.success(), "{}", run.stderr());
    assert_eq!(run.mount().unwrap(), "\n56: 0 0 0 0 0");
}

// rules: INIT-3
#[test]
fn a_delivery_that_the_stage_cannot_use_mounts_nothing() {
    let cases = [
        ("encrypted", Parameters::default(), "sent no file /etc/image_key"),
        ("integrity-only", with_key(&[]), "the image is not encrypted"),
        ("encrypted", Parameters { argv: vec!["/bin/app".into()], ..with_key(&[]) }, "expected no arguments"),
        ("plain", with_key(&[]), "/etc/image_config.json is not valid"),
    ];
    for (image_type, parameters, words) in cases {
        let run = run_with(image_type, parameters, &[]);
        run.refused(words);
        assert_eq!(run.mount(), None, "{words}");
    }
}

// rules: INIT-3
#[test]
fn a_refused_mount_is_told_in_words_and_ends_with_a_failure() {
    for (errno, words) in
        [("13", "cannot be opened with this key"), ("1", "mounted already"), ("22", "does not accept")]
    {
        let run = run_with("encrypted", with_key(&[("TOKEN", "hunter2")]), &[("OCCLUM_MOUNT_ERRNO", errno)]);
        run.refused(words);
        assert!(!run.stderr().contains("hunter2"), "{}", run.stderr());
    }
}

// rules: INIT-5
#[test]
fn key_and_variables_are_wiped_when_the_stage_ends() {
    // Spelt so that the test's own parts do not occur in the memory of the premain by other ways.
    let (key, variable) = ("ab-cd-ef-".repeat(6)[..47].to_owned(), "value-of-a-variable-".repeat(8));
    let mut parameters = with_key(&[("TOKEN", &variable)]);
    parameters.files.insert("/etc/image_key".into(), key.clone().into_bytes());
    let run = run_with("encrypted", parameters, &[("KEPT", "the-environment-of-the-process")]);
    assert!(run.output.status.success(), "{}", run.stderr());
    let memory = fs::read(run.directory.path().join("status.memory")).unwrap();
    let holds = |bytes: &[u8]| memory.windows(bytes.len()).any(|window| window == bytes);
    assert!(
        holds(b"the-environment-of-the-process"),
        "the memory was not written, or this test looks in the wrong place"
    );
    let raw: Vec<u8> = [0xab, 0xcd, 0xef].repeat(6)[..16].to_vec();
    for (what, bytes) in [("key", raw.as_slice()), ("key as sent", key.as_bytes()), ("variable", variable.as_bytes())] {
        assert!(!holds(bytes), "the {what} is still in memory");
    }
}
