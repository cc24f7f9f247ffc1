//! A program that leaks on purpose is caught, whatever way it takes.

use std::fs;

use serde_json::{Value, json};

use crate::fixture::{Finished, Fixture, OCCLUM_JSON, program};

/// What the program leaks; the name says that nobody should see it.
const SECRET: &str = "correct-horse-battery-staple-0042";

/// An instance with the leaking program, a host mount and a file of canaries.
fn fixture() -> Fixture {
    let mut configuration: Value = serde_json::from_str(OCCLUM_JSON).unwrap();
    let mount = json!({"target": "/host", "type": "hostfs", "source": "./host"});
    configuration["mount"].as_array_mut().unwrap().push(mount);
    let fixture = Fixture::with_config(&configuration.to_string());
    fixture.add(&program("leak"), "/bin/leak");
    fs::create_dir(fixture.path("instance/host")).unwrap();
    fs::create_dir_all(fixture.path("instance/image/etc")).unwrap();
    fs::write(fixture.path("instance/image/etc/secret"), SECRET).unwrap();
    crate::fixture::write_executable(&fixture.path("instance/host/program"), b"#!/bin/leak\n");
    let canaries = json!({"password": {"text": SECRET}, "unused": {"hex": "00112233445566778899"}});
    fs::write(fixture.path("canaries.json"), canaries.to_string()).unwrap();
    fixture
}

impl Fixture {
    #[track_caller]
    fn leak(&self, options: &[&str], program: &[&str]) -> (Finished, Value) {
        let (canaries, report) = (self.path("canaries.json"), self.path("report.json"));
        let mut all = vec!["--canaries", canaries.to_str().unwrap(), "--canary-report", report.to_str().unwrap()];
        all.extend(options);
        let finished = self.run(&all, program);
        let text = fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {finished:#?}"));
        fs::remove_file(&report).unwrap();
        for line in finished.stderr.lines().filter(|line| line.starts_with("marble-sim:")).chain([text.as_str()]) {
            assert!(!line.contains(SECRET), "the value is shown: {line}");
        }
        (finished, serde_json::from_str(&text).unwrap())
    }
}

/// The program leaks in this way: the run ends with 207, and the report names the call, the place and the form.
#[track_caller]
fn check(mode: &str, call: &str, to: &str, form: &str, offset: u64) {
    for options in [&["--strict"][..], &[]] {
        let (finished, report) = fixture().leak(options, &["/bin/leak", mode]);
        assert_eq!(finished.status.code(), Some(207), "{mode}: {finished:#?}\n{report:#}");
        let fits = |finding: &Value| {
            finding["call"] == call
                && finding["to"].as_str().unwrap().starts_with(to)
                && finding["form"] == form
                && finding["offset"] == offset
                && (finding["program"] == "/bin/leak" || call == "file content")
        };
        assert!(report["findings"].as_array().unwrap().iter().any(fits), "{mode} {options:?}: {report:#}");
        assert_eq!(report["crossed"], json!(["password"]), "{mode}");
        assert_eq!((&report["unread"], &report["exit_code"]), (&json!(0), &json!(0)), "{mode}: {finished:#?}");
        let line = "marble-sim: canaries: 1 of 2 secrets crossed the border in clear (";
        assert!(finished.stderr.contains(line), "{mode}: {finished:#?}");
    }
}

// rules: SIM-12
#[test]
fn each_way_of_writing_is_seen() {
    check("write", "write", "standard output", "raw", 0);
    check("stderr", "write", "standard error", "raw", 0);
    check("writev", "writev", "standard output", "raw", 0);
    check("pwritev", "pwritev", "/host/file", "raw", 0);
    check("thread", "write", "standard output", "raw", 0);
}

// rules: SIM-12
#[test]
fn each_way_of_sending_is_seen() {
    for call in ["sendto", "sendmsg", "sendmmsg", "sendfile"] {
        check(if call == "sendto" { "send" } else { call }, call, "socket:[", "raw", 0);
    }
}

// rules: SIM-12
#[test]
fn a_secret_in_several_writes_is_seen() {
    check("halves", "write", "standard output", "raw", 0);
    check("bytes", "write", "standard output", "raw", 0);
    check("dup", "write", "standard output", "raw", 0);
    check("pwrite", "file content", "/host/file", "raw", 0);
}

// rules: SIM-12
#[test]
fn files_of_the_host_are_seen_also_when_written_through_memory_and_gone() {
    check("map", "file content", "/host/file", "raw", 100);
    check("map-gone", "file content", "/host/file", "raw", 100);
    check("unmap", "file content", "/host/file", "raw", 100);
}

// rules: SIM-12
#[test]
fn names_given_to_the_host_are_seen() {
    check("name", "openat", "a file name", "raw", 6);
    check("mkdir", "mkdir", "a file name", "raw", 6);
    check("chmod", "chmod", "a file name", "raw", 6);
    check("rename", "rename", "a file name", "raw", 6);
    check("relative-name", "newfstatat", "a file name", "raw", 0);
    check("symlink", "symlink", "the target of a link", "raw", 0);
}

// rules: SIM-12
#[test]
fn each_form_is_seen() {
    check("hex", "write", "standard output", "hex", 0);
    check("base64", "write", "standard output", "base64", 3);
    check("pem", "write", "standard output", "pem", 71);
}

// rules: SIM-12
#[test]
fn arguments_and_variables_of_the_host_and_of_its_programs_are_seen() {
    let finding = |report: &Value| report["findings"][0].clone();
    let (finished, report) = fixture().leak(&["--strict"], &["/bin/leak", "nothing", SECRET]);
    assert_eq!(finished.status.code(), Some(207), "{finished:#?}");
    assert_eq!(finding(&report)["call"], "argument");

    let fixture = fixture();
    let canaries = fixture.path("canaries.json");
    let options = ["--canaries", canaries.to_str().unwrap()];
    for (name, code) in [("EDG_MARBLE_TYPE", 207), ("NOT_LISTED", 0)] {
        let mut command = fixture.run_command(&options, &["/bin/leak", "nothing"]);
        let finished = crate::fixture::finish(command.env(name, SECRET));
        assert_eq!(finished.status.code(), Some(code), "{name}: {finished:#?}");
    }

    let (finished, report) = fixture.leak(&["--strict"], &["/bin/leak", "execve"]);
    assert_eq!(finished.status.code(), Some(207), "{finished:#?}");
    assert_eq!(
        (&finding(&report)["call"], &finding(&report)["to"]),
        (&json!("execve"), &json!("arguments of a program"))
    );
}

// rules: SIM-13
#[test]
fn what_stays_inside_is_no_finding_and_the_programs_own_code_is_kept() {
    for options in [&["--strict"][..], &[]] {
        for mode in ["nothing", "inside", "splice", "map-read"] {
            let fixture = fixture();
            fs::write(fixture.path("instance/host/known"), SECRET).unwrap();
            let (finished, report) = fixture.leak(options, &["/bin/leak", mode]);
            finished.expect(0, "nothing");
            assert_eq!((&report["crossed"], &report["unread"]), (&json!([]), &json!(0)), "{mode}: {report:#}");
            assert!(report["calls"].as_u64().unwrap() > 0 && report["bytes"].as_u64().unwrap() > 0, "{report:#}");
        }
    }
    let (finished, report) = fixture().leak(&[], &["/bin/leak", "unknown"]);
    assert_eq!((finished.status.code(), &report["exit_code"]), (Some(99), &json!(99)));
}

// rules: SIM-12
#[test]
fn an_ordinary_user_sees_the_same() {
    let fixture = fixture().for_ordinary_user();
    let (canaries, options) = (fixture.path("canaries.json"), ["--strict"]);
    for mode in ["write", "send", "map", "name"] {
        let mut all = vec!["--canaries", canaries.to_str().unwrap()];
        all.extend(options);
        let finished = fixture.run(&all, &["/bin/leak", mode]);
        assert_eq!(finished.status.code(), Some(207), "{mode}: {finished:#?}");
        assert!(!finished.stderr.contains("warning: canaries"), "{mode}: {finished:#?}");
        let _ = fs::remove_dir_all(fixture.path("instance/host"));
        fs::create_dir(fixture.path("instance/host")).unwrap();
        if crate::fixture::is_root() {
            fixture.chown(65534, "instance/host");
        }
    }
}

#[test]
fn a_wrong_file_of_canaries_is_an_error_before_anything_runs() {
    let fixture = fixture();
    fs::write(fixture.path("canaries.json"), r#"{"password": {"text": "short"}}"#).unwrap();
    let canaries = fixture.path("canaries.json");
    let finished = fixture.run(&["--canaries", canaries.to_str().unwrap()], &["/bin/leak", "write"]);
    finished.expect_error(201, "secret \"password\": expected 8 to 16384 bytes, got 5");
    assert_eq!(finished.stdout, "");
}

// rules: SIM-10, SIM-12
#[test]
fn beside_another_listener_the_look_is_the_same() {
    let listen = program("listen");
    let fixture = fixture().through(&[&listen, "other".as_ref()]);
    for mode in ["write", "halves", "sendmsg", "map", "mkdir"] {
        let (finished, report) = fixture.leak(&["--strict"], &["/bin/leak", mode]);
        assert!(finished.stderr.contains("mechanism: ptrace"), "{finished:#?}");
        assert_eq!((finished.status.code(), &report["unread"]), (Some(207), &json!(0)), "{mode}: {finished:#?}");
    }
}

// rules: SIM-12
#[test]
fn a_thread_that_outlives_the_first_one_is_seen() {
    for options in [&["--strict"][..], &[]] {
        let (finished, report) = fixture().leak(options, &["/bin/leak", "alone"]);
        assert_eq!(finished.status.code(), Some(207), "{finished:#?}\n{report:#}");
        assert_eq!((&report["findings"][0]["call"], &report["unread"]), (&json!("sendto"), &json!(0)), "{report:#}");
    }
}

// rules: SIM-12
#[test]
fn files_are_seen_before_they_are_cut() {
    check("cut", "file content", "/host/file", "raw", 0);
    check("cut-by-name", "file content", "/host/file", "raw", 0);
}

// rules: SIM-12
#[test]
fn any_number_of_files_is_seen() {
    check("many-files", "file content", "/host/", "raw", 0);
    let (_, report) = fixture().leak(&[], &["/bin/leak", "many-files"]);
    assert_eq!(report["findings"].as_array().unwrap().len(), 300, "{report:#}");
}

// rules: SIM-13
#[test]
fn a_pipe_that_nobody_writes_to_does_not_stop_the_look() {
    let fixture = fixture();
    let made = std::process::Command::new("mkfifo").arg(fixture.path("instance/host/fifo")).status().unwrap();
    assert!(made.success());
    let (finished, _) = fixture.leak(&["--strict"], &["/bin/leak", "sendfile-fifo"]);
    finished.expect(0, "nothing");
}

// rules: SIM-12
#[test]
fn after_an_init_stage_the_host_mounts_are_those_of_the_program() {
    let fixture = fixture();
    let initfs = fixture.path("instance/initfs");
    fs::create_dir_all(&initfs).unwrap();
    marblerun_enclave_image::libraries::add_program(&initfs, &program("init"), "/bin/init".as_ref()).unwrap();
    let canaries = fixture.path("canaries.json");
    for mode in ["pwrite", "name"] {
        let mut command = fixture.run_command(&["--canaries", canaries.to_str().unwrap()], &["/bin/leak", mode]);
        let finished = crate::fixture::finish(command.env("LEVEL", "write,none"));
        assert_eq!(finished.status.code(), Some(207), "{mode}: {finished:#?}");
    }
}
