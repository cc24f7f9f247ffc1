//! What strict mode refuses, and that ordinary programs run in it.

use crate::fixture::{Fixture, program, rust_program};

// rules: SIM-6
#[test]
fn calls_are_refused_by_number_and_argument_while_threads_and_spawning_work() {
    let finished = Fixture::new().run(&["--strict"], &["/bin/probe", "strict"]);
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert!(lines[0].starts_with("thread: Occlum"), "{finished:#?}");
    assert_eq!(lines[1..], ["hello", "hello", "strict"], "{finished:#?}");
}

#[test]
fn a_rust_program_runs_in_strict_mode() {
    let fixture = Fixture::new();
    fixture.add(&rust_program(), "/bin/rust");
    let finished = fixture.run(&["--strict"], &["/bin/rust"]);
    assert!(finished.stdout.starts_with("identity: Occlum"), "{finished:#?}");
}

#[test]
fn static_programs_are_refused_in_strict_mode_and_warned_of_otherwise() {
    let fixture = Fixture::new();
    fixture.add_file(&program("probe-static"), "static");
    fixture.run(&["--strict"], &["/bin/probe", "try-exec", "/bin/static"]).expect(0, "execve: errno 22");
    fixture.run(&["--strict"], &["/bin/static", "hello"]).expect_error(127, "Invalid argument");
    let lenient = fixture.run(&[], &["/bin/static", "hello"]);
    lenient.expect(0, "hello");
    assert!(lenient.stderr.contains("warning: Occlum would refuse execve of /bin/static"), "{lenient:#?}");
}

#[test]
fn a_file_that_is_no_program_is_refused() {
    let fixture = Fixture::new();
    crate::fixture::write_executable(&fixture.path("instance/image/bin/text"), b"text");
    fixture.run(&["--strict"], &["/bin/probe", "try-exec", "/bin/text"]).expect(0, "execve: errno 8");
}

// rules: SIM-11
#[test]
fn the_argument_area_is_a_256th_of_the_stack() {
    // 4 MB / 256.
    let area = 16 * 1024;
    let fixture = Fixture::new();
    fixture.run(&["--strict"], &["/bin/probe", "fill", &area.to_string()]).expect(0, "hello");
    let over = (area + 1).to_string();
    fixture.run(&["--strict"], &["/bin/probe", "fill", &over]).expect(0, "execve: errno 12");
    let lenient = fixture.run(&[], &["/bin/probe", "fill", &over]);
    lenient.expect(0, "hello");
    assert!(lenient.stderr.contains("need 16385 bytes, the stack has room for 16384"), "{lenient:#?}");
}

#[test]
fn resource_limits_are_those_of_the_configuration_and_last_over_execve() {
    let expected = "4 MB\n32 MB\n292 MB\n512 MB of 1024 MB";
    Fixture::new().run(&["--strict"], &["/bin/probe", "limits"]).expect(0, expected);
}
