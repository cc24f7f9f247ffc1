//! What the host may start, with which arguments and environment, and how it hears of the end.

use std::fs;

use crate::fixture::{Fixture, OCCLUM_JSON, write_executable};

// rules: SIM-5
#[test]
fn exit_codes_are_those_of_occlum() {
    let fixture = Fixture::new();
    for (mode, value, code) in [
        ("exit", "0", 0),
        ("exit", "7", 7),
        ("exit", "127", 127),
        ("exit", "128", 0),
        ("exit", "200", 72),
        ("signal", "9", 137),
        ("signal", "6", 134),
        ("signal", "15", 143),
    ] {
        let finished = fixture.run(&[], &["/bin/probe", mode, value]);
        assert_eq!(finished.status.code(), Some(code), "{mode} {value}: {finished:#?}");
    }
}

// rules: OCC-11, SIM-5
#[test]
fn only_programs_below_an_entry_point_start() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("instance/image/bin/deep")).unwrap();
    fs::create_dir_all(fixture.path("instance/image/binary")).unwrap();
    fixture.add_file(&fixture.path("instance/image/bin/probe"), "deep/probe");
    fs::copy(fixture.path("instance/image/bin/probe"), fixture.path("instance/image/binary/probe")).unwrap();
    fixture.run(&[], &["/bin/deep/probe", "hello"]).expect(0, "hello");
    fixture.run(&[], &["/binary/probe", "hello"]).expect_error(127, "is not below an entry point");
    fixture.run(&[], &["/bin/../bin/probe", "hello"]).expect_error(127, "expected an absolute path");
    fixture.run(&[], &["bin/probe", "hello"]).expect_error(127, "expected an absolute path");
}

#[test]
fn programs_started_inside_need_no_entry_point() {
    let fixture = Fixture::replacing(r#""entry_points": ["/bin"]"#, r#""entry_points": ["/bin/probe"]"#);
    fixture.add_file(&fixture.path("instance/image/bin/probe"), "other");
    fixture.run(&["--strict"], &["/bin/probe", "try-exec", "/bin/other"]).expect(0, "hello");
    fixture.run(&["--strict"], &["/bin/other", "hello"]).expect_error(127, "is not below an entry point");
}

#[test]
fn an_image_without_the_program_is_one_clear_line() {
    let finished = Fixture::new().run(&[], &["/bin/absent"]);
    finished.expect_error(127, "/bin/absent: expected a program in the image, got nothing");
}

#[test]
fn a_program_without_its_interpreter_is_one_clear_line() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("instance/image/lib64")).unwrap();
    fixture.run(&[], &["/bin/probe"]).expect_error(127, "or its interpreter is missing");
}

#[test]
fn a_program_that_is_not_executable_is_one_clear_line() {
    let fixture = Fixture::new();
    fs::write(fixture.path("instance/image/bin/data"), "data").unwrap();
    fixture.run(&[], &["/bin/data"]).expect_error(127, "/bin/data cannot be started: Permission denied");
}

// rules: OCC-10
#[test]
fn listed_variables_come_from_the_host_and_no_others() {
    let fixture = Fixture::new();
    let mut command = fixture.run_command(&[], &["/bin/probe", "environment"]);
    command.env("EDG_MARBLE_TYPE", "web").env("SECRET", "no").env("LEVEL", "high");
    // The host's order is that of its environment, which `Command` sorts.
    crate::fixture::finish(&mut command).expect(0, "OCCLUM=yes\nEDG_MARBLE_TYPE=web\nLEVEL=high");
    fixture.run(&[], &["/bin/probe", "environment"]).expect(0, "OCCLUM=yes\nLEVEL=low");
}

#[test]
fn arguments_arrive_as_given() {
    let arguments = ["/bin/probe", "arguments", "two words", "", "--flag", "ü"];
    Fixture::new().run(&[], &arguments).expect(0, &arguments.join("\n"));
}

#[test]
fn a_writable_layer_lives_on_and_a_temporary_one_does_not() {
    let kept = Fixture::replacing(r#", "options": {"temporary": true}"#, "");
    kept.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "1 bytes");
    kept.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "2 bytes");
    let temporary = Fixture::new();
    temporary.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "1 bytes");
    temporary.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "1 bytes");
    // The image itself is never written.
    assert!(!kept.path("instance/image/file").exists());
}

fn with_host_mount(source: &str) -> String {
    let mount = format!(r#", {{"type": "hostfs", "target": "/var/state", "source": "{source}"}}]"#);
    OCCLUM_JSON.trim_end().strip_suffix("]\n}").map(|rest| format!("{rest}{mount}\n}}")).unwrap()
}

#[test]
fn a_host_directory_is_shared_with_the_program() {
    let fixture = Fixture::with_config(&with_host_mount("./state"));
    fs::create_dir(fixture.path("instance/state")).unwrap();
    fixture.run(&["--strict"], &["/bin/probe", "append", "/var/state/file"]).expect(0, "1 bytes");
    assert_eq!(fs::read(fixture.path("instance/state/file")).unwrap(), b"x");
}

#[test]
fn a_missing_host_directory_is_one_clear_line() {
    let fixture = Fixture::with_config(&with_host_mount("./absent"));
    fixture.run(&[], &["/bin/probe"]).expect_error(201, "hostfs: find the source");
}

#[test]
fn an_instance_with_a_kept_layer_runs_once_at_a_time() {
    let fixture = Fixture::replacing(r#", "options": {"temporary": true}"#, "");
    let (mut first, _stdout) = crate::fixture::start_lingering(&fixture, &[]);
    fixture.run(&[], &["/bin/probe"]).expect_error(205, "is running already");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_broken_instance_is_one_clear_line_with_the_place() {
    let fixture = Fixture::replacing("4MB", "4mb");
    fixture.run(&[], &["/bin/probe"]).expect_error(201, "expected a size such as \"32MB\"");
    fs::remove_file(fixture.path("instance/Occlum.json")).unwrap();
    fixture.run(&[], &["/bin/probe"]).expect_error(201, "expected a readable Occlum.json");
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("instance/image")).unwrap();
    fixture.run(&[], &["/bin/probe"]).expect_error(201, "expected a readable directory image/");
}

#[test]
fn a_missing_development_root_is_one_clear_line() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("root")).unwrap();
    let finished = fixture.run(&[], &["/bin/probe"]);
    assert_eq!(finished.status.code(), Some(204), "{finished:#?}");
    assert!(finished.stderr.contains("marble-sim root create DIR"), "{finished:#?}");
}

#[test]
fn every_start_says_that_it_is_no_protection_and_how_it_works() {
    let finished = Fixture::new().run(&[], &["/bin/probe", "hello"]);
    for text in ["SIMULATION of Occlum, no protection", "MRENCLAVE ", "mechanism: seccomp user notification"] {
        assert!(finished.stderr.contains(text), "{text}: {finished:#?}");
    }
}

#[test]
fn scripts_run_through_their_interpreter() {
    let fixture = Fixture::new();
    let script = fixture.path("instance/image/bin/script");
    write_executable(&script, b"#!/bin/probe\n");
    // The interpreter gets the script's path as its first argument, and the probe knows no such mode.
    let unknown_mode = "FAILED: known mode (errno 0)";
    fixture.run(&["--strict"], &["/bin/probe", "try-exec", "/bin/script"]).expect(99, unknown_mode);
    write_executable(&script, b"#!/bin/probe hello\n");
    fixture.run(&["--strict"], &["/bin/probe", "try-exec", "/bin/script"]).expect(0, "execve: errno 2");
    fixture.run(&[], &["/bin/probe", "try-exec", "/bin/script"]).expect(0, "hello");
}
