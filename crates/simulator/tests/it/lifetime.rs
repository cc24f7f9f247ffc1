//! Beginnings and ends: of callers, of the supervisor, of everything at once.

use std::io::Read;

use marblerun_linux::process::kill;

use crate::fixture::{Fixture, finish, start_lingering};

// rules: SIM-9
#[test]
fn the_supervisor_survives_callers_that_die_and_ends_with_the_program() {
    let finished = Fixture::new().run(&[], &["/bin/probe", "die-often"]);
    finished.expect(0, "survived");
    assert!(!finished.stderr.contains("error") && !finished.stderr.contains("refused"), "{finished:#?}");
}

/// Ends `marble-sim` by a signal and expects that nothing of the program is left: all of it holds the pipe.
#[track_caller]
fn check_ends_everything(signal: i32, code: Option<i32>) {
    let fixture = Fixture::new();
    let (mut child, mut stdout) = start_lingering(&fixture, &[]);
    kill(i32::try_from(child.id()).unwrap(), signal).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), code);
}

#[test]
fn stopping_signals_end_the_whole_tree_without_notice() {
    for signal in [1, 2, 3, 15] {
        check_ends_everything(signal, Some(128 + signal));
    }
}

#[test]
fn killing_the_supervisor_ends_the_whole_tree() {
    check_ends_everything(9, None);
}

#[test]
fn several_instances_run_at_the_same_time() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|index| {
                let (fixture, code) = (&fixture, 10 + index);
                let text = code.to_string();
                scope.spawn(move || {
                    let finished = fixture.run(&["--strict"], &["/bin/probe", "exit", &text]);
                    assert_eq!(finished.status.code(), Some(code), "{finished:#?}");
                })
            })
            .collect();
        runs.into_iter().for_each(|run| run.join().unwrap());
    });
}

#[test]
fn a_closed_standard_error_does_not_matter() {
    let fixture = Fixture::new();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", r#"exec "$@" 2>&-"#, "sh"]);
    let inner = fixture.run_command(&[], &["/bin/probe", "exit", "5"]);
    command.arg(inner.get_program()).args(inner.get_args());
    assert_eq!(finish(&mut command).status.code(), Some(5));
}
