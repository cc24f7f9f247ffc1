//! A real directory of the operating system, and a real process that is killed.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use marblerun_sealing::SealMode;
use marblerun_storage::{CommitError, OpenError, Opened, SealedLog, StoreError, open_directory};

use crate::disk::{keys, trust};

const CHILD_DIRECTORY: &str = "MARBLERUN_STORAGE_TEST_DIRECTORY";

fn open_or_create(path: &Path) -> (Vec<Vec<u8>>, SealedLog) {
    match open_directory(path, keys(), trust()).unwrap() {
        Opened::New(new) => (Vec::new(), new.create(SealMode::default(), &[]).unwrap()),
        Opened::Existing(existing) => {
            (existing.records.iter().map(|record| record.expose().to_vec()).collect(), existing.log)
        }
        Opened::Recovery(recovery) => panic!("{recovery:?}"),
    }
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn child_commits_until_it_is_killed() {
    let Some(path) = env::var_os(CHILD_DIRECTORY) else { return };
    let (records, mut log) = open_or_create(Path::new(&path));
    for number in records.len().. {
        let text = number.to_string();
        log.commit(&[text.as_bytes()]).unwrap();
        println!("acknowledged {text}");
    }
}

#[test]
fn everything_a_killed_process_acknowledged_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for kill in 0..25 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "host::child_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed while it works on a commit, a different one each time. What it acknowledges until then counts too.
        let mut lines = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some((_, number)) = line.unwrap().split_once("acknowledged ") {
                acknowledged = acknowledged.max(number.parse::<usize>().unwrap() + 1);
                lines += 1;
                if lines == 1 + kill % 7 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let (records, _) = open_or_create(directory.path());
        assert!(records.len() >= acknowledged, "{acknowledged} acknowledged, {} there", records.len());
        assert!(records.iter().enumerate().all(|(number, record)| record == number.to_string().as_bytes()));
    }
    assert!(acknowledged > 50);
}

#[test]
fn directory_and_files_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/state");
    let _log = open_or_create(&path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600);
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["sealed_data", "sealed_key"]);
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let (_, log) = open_or_create(directory.path());
    let error = open_directory(directory.path(), keys(), trust()).unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Locked { .. })));
    assert!(error.hint().unwrap().contains("EDG_COORDINATOR_SEAL_DIR"));
    drop(log);
    open_or_create(directory.path());
}

#[test]
fn a_file_in_place_of_the_directory_is_named_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    fs::write(&path, "").unwrap();
    let error = open_directory(&path, keys(), trust()).unwrap_err();
    let source = error.source().unwrap().to_string();
    assert_eq!(source, format!("cannot open the seal directory {}", path.display()));
    assert!(error.hint().unwrap().contains("EDG_COORDINATOR_SEAL_DIR"));
}

#[test]
fn removing_the_data_file_under_a_running_process_is_an_error_not_a_silent_loss() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open_or_create(directory.path());
    log.commit(&[b"a"]).unwrap();
    fs::remove_file(directory.path().join("sealed_data")).unwrap();
    assert!(matches!(log.commit(&[b"b"]), Err(CommitError::Unknown(_))));
}

#[test]
fn replacing_and_disabling_work_on_a_real_directory() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_or_create(directory.path()));
    fs::remove_file(directory.path().join("sealed_key")).unwrap();
    let Opened::Recovery(recovery) = open_directory(directory.path(), keys(), trust()).unwrap() else {
        panic!("expected recovery")
    };
    let (new, kept) = recovery.replace().unwrap();
    assert!(Path::new(&kept).join("sealed_data").exists());
    let mut log = new.create(SealMode::default(), &[b"root"]).unwrap();
    log.commit_with(SealMode::Disabled, &[b"manifest"]).unwrap();
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["replaced-1"]);
}

#[test]
fn a_pipe_or_directory_in_place_of_a_file_is_refused_at_once() {
    for name in ["sealed_key", "sealed_data", "sealed_recovery"] {
        for is_pipe in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            if is_pipe {
                assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            } else {
                std::fs::create_dir(&path).unwrap();
            }
            let (sender, answer) = std::sync::mpsc::channel();
            let seal_dir = directory.path().to_owned();
            // On a thread of its own, so that one that blocks fails the test.
            std::thread::spawn(move || {
                let error = open_directory(&seal_dir, keys(), trust()).unwrap_err();
                sender.send(chain(&error)).unwrap();
            });
            let text = answer.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
            assert!(text.contains(name) && text.contains("expected a regular file"), "{text}");
        }
    }
}

/// The error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
