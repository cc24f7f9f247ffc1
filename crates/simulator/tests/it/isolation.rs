//! Which users and machines can run the simulator, and what they read where it is impossible.

use crate::fixture::{Fixture, is_root, program};

// rules: SIM-3
#[test]
fn an_ordinary_user_runs_programs_in_user_namespaces() {
    let fixture = Fixture::replacing(r#", "options": {"temporary": true}"#, "").for_ordinary_user();
    let finished = fixture.run(&["--strict"], &["/bin/probe"]);
    assert!(finished.stdout.starts_with("identity: Occlum"), "{finished:#?}");
    assert!(finished.stderr.contains("user, mount and PID namespaces"), "{finished:#?}");
    fixture.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "1 bytes");
    fixture.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "2 bytes");
}

#[test]
fn an_ordinary_user_runs_an_image_that_belongs_to_another_user() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("instance/image/etc")).unwrap();
    let fixture = fixture.for_ordinary_user();
    if is_root() {
        fixture.chown(0, "instance/image");
    }
    let finished = fixture.run(&[], &["/bin/probe", "hello"]);
    finished.expect(0, "hello");
    let noted = finished.stderr.contains("note: the host's files are not in the image's /etc");
    assert_eq!(noted, is_root(), "{finished:#?}");
}

#[test]
fn where_parts_of_proc_are_hidden_the_program_gets_the_hosts() {
    let mut fixture = Fixture::new().for_ordinary_user();
    if is_root() {
        fixture = fixture.with_hidden_proc();
    }
    let finished = fixture.run(&["--strict"], &["/bin/probe"]);
    assert!(finished.stdout.starts_with("identity: Occlum"), "{finished:#?}");
    assert_eq!(finished.stderr.contains("note: /proc is the host's"), is_root(), "{finished:#?}");
}

// rules: SIM-3
#[test]
fn an_ordinary_user_without_namespaces_reads_what_to_do() {
    let deny = program("deny_namespaces");
    let fixture = Fixture::new().for_ordinary_user().through(&[&deny]);
    let finished = fixture.run(&[], &["/bin/probe"]);
    finished.expect_error(202, "no private root for the program");
    assert!(finished.stderr.contains("kernel.apparmor_restrict_unprivileged_userns"), "{finished:#?}");
}

// rules: SIM-3
#[test]
fn root_without_namespaces_changes_the_root_into_a_copy() {
    let deny = program("deny_namespaces");
    let fixture = Fixture::new().through(&[&deny]);
    let finished = fixture.run(&["--strict"], &["/bin/probe"]);
    if is_root() {
        assert!(finished.stdout.starts_with("identity: Occlum"), "{finished:#?}");
        assert!(finished.stderr.contains("chroot into a copy of the image"), "{finished:#?}");
        assert!(finished.stderr.contains("note: without mounts /proc is empty"), "{finished:#?}");
        // What the program leaves behind ends with it here too: `run` waits for all that holds the output.
        fixture.run(&[], &["/bin/probe", "die-often"]).expect(0, "survived");
    } else {
        finished.expect_error(202, "no private root for the program");
    }
}

// rules: SIM-10
#[test]
fn beside_another_listener_calls_are_answered_by_a_tracer() {
    let listen = program("listen");
    let fixture = Fixture::new();
    let direct = fixture.run(&[], &["/bin/probe", "inherit"]);
    let fixture = fixture.through(&[&listen, "other".as_ref()]);
    let traced = fixture.run(&[], &["/bin/probe", "inherit"]);
    traced.expect(0, &direct.stdout);
    let mechanism = "mechanism: ptrace, since another seccomp listener watches this process tree";
    assert!(traced.stderr.contains(mechanism), "{traced:#?}");
    fixture.run(&[], &["/bin/probe", "refusals"]).expect(0, "refused");
    fixture.run(&[], &["/bin/probe", "die-often"]).expect(0, "survived");
    fixture.run(&[], &["/bin/probe", "signal", "6"]).expect(134, "");
    let strict = fixture.run(&["--strict"], &["/bin/probe", "strict"]);
    assert!(strict.stdout.ends_with("strict\n"), "{strict:#?}");
}

#[test]
fn beside_another_listener_an_ordinary_user_has_a_tracer_too() {
    let listen = program("listen");
    let fixture = Fixture::new().for_ordinary_user().through(&[&listen, "other".as_ref()]);
    let traced = fixture.run(&["--strict"], &["/bin/probe"]);
    assert!(traced.stdout.starts_with("identity: Occlum"), "{traced:#?}");
    assert!(traced.stderr.contains("mechanism: ptrace"), "{traced:#?}");
}

#[test]
fn a_listener_for_the_same_calls_is_one_clear_line() {
    let listen = program("listen");
    let fixture = Fixture::new().through(&[&listen, "same".as_ref()]);
    fixture.run(&[], &["/bin/probe"]).expect_error(203, "another seccomp listener answers calls");
}
