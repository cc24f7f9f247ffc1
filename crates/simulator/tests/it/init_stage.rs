//! An instance with an init stage of its own, and with an encrypted image.

use std::fs;
use std::path::{Path, PathBuf};

use marblerun_enclave_image::libraries;

use crate::fixture::{Finished, Fixture, OCCLUM_JSON, finish, is_root, program};

/// The key in `init.c`.
const KEY: &str = "01-02-03-04-05-06-07-08-09-0a-0b-0c-0d-0e-0f-10";
/// What the image of these tests holds and nobody without key may find.
const SECRET: &str = "a model that took years to train";

fn add_init(fixture: &Fixture) {
    let initfs = fixture.path("instance/initfs");
    fs::create_dir_all(&initfs).unwrap();
    libraries::add_program(&initfs, &program("init"), Path::new("/bin/init")).unwrap();
}

/// With `init` in the init image.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    add_init(&fixture);
    fixture
}

fn encrypt(fixture: &Fixture) -> Finished {
    fs::write(fixture.path("key"), format!("{KEY}\n")).unwrap();
    let mut command = fixture.command(&["image", "encrypt"]);
    finish(command.arg("--instance").arg(fixture.path("instance")).arg("--image-key").arg(fixture.path("key")))
}

/// With an encrypted image.
fn encrypted() -> Fixture {
    let fixture = fixture();
    fs::write(fixture.path("instance/image/model"), SECRET).unwrap();
    encrypt(&fixture).expect(0, "");
    fixture
}

/// Runs the probe after an init that does `words`.
#[track_caller]
fn run(fixture: &Fixture, options: &[&str], words: &str, program: &[&str]) -> Finished {
    finish(fixture.run_command(options, program).env("LEVEL", words))
}

fn files_below(directory: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![directory];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}

#[track_caller]
fn mr_enclave(fixture: &Fixture) -> String {
    let finished = finish(fixture.command(&["measure", "--instance"]).arg(fixture.path("instance")));
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
    let value: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    value["mrenclave"].as_str().unwrap().to_owned()
}

// rules: INIT-6
#[test]
fn init_runs_before_the_program_in_a_root_of_its_own() {
    for options in [&[][..], &["--strict"]] {
        let fixture = fixture();
        let first = run(&fixture, options, "see,keep,none", &["/bin/probe", "hello"]);
        first.expect(0, "Occlum 1 /bin/init yes kept:0 app:0 sgx:1\nnone: 0\nhello");
        // Its writable layer stays, apart from the program's.
        run(&fixture, options, "see,none", &["/bin/probe", "hello"])
            .expect(0, "Occlum 1 /bin/init yes kept:1 app:0 sgx:1\nnone: 0\nhello");
        assert!(fixture.path("instance/run/initfs/__ROOT/kept").exists());
        assert!(!fixture.path("instance/run/mount/__ROOT/kept").exists());
    }
}

// rules: INIT-6
#[test]
fn an_init_that_fails_or_mounts_nothing_ends_the_start_with_code_1() {
    let fixture = fixture();
    for (words, message) in [
        ("none,exit3", "the init stage ended with code 3"),
        ("exit1", "the init stage ended with code 1"),
        ("none,die", "the init stage ended by signal 11"),
        ("see", "the init stage ended without a mount"),
        ("wrong", "the init stage ended without a mount"),
    ] {
        let finished = run(&fixture, &[], words, &["/bin/probe", "hello"]);
        finished.expect_error(1, message);
        assert!(!finished.stdout.contains("hello"), "{finished:#?}");
    }
    fs::write(fixture.path("instance/initfs/bin/init"), "not a program").unwrap();
    let finished = run(&fixture, &[], "none", &["/bin/probe", "hello"]);
    finished.expect_error(1, "/bin/init cannot be started");
}

// rules: INIT-10
#[test]
fn the_image_is_mounted_in_the_place_of_occlums_own_init() {
    let fixture = Fixture::new();
    let without = mr_enclave(&fixture);
    fs::create_dir_all(fixture.path("instance/initfs/bin")).unwrap();
    fs::copy(program("init-of-occlum"), fixture.path("instance/initfs/bin/init")).unwrap();
    let finished = run(&fixture, &["--strict"], "exit1", &["/bin/probe", "hello"]);
    finished.expect(0, "hello");
    assert!(finished.stderr.contains("/bin/init is Occlum's own and runs in Occlum only"), "{finished:#?}");
    assert_ne!(mr_enclave(&fixture), without, "its image is measured");

    encrypt(&fixture).expect(0, "");
    run(&fixture, &[], "", &["/bin/probe", "hello"]).expect_error(201, "got Occlum's own in initfs/bin/init");
}

// rules: INIT-6
#[test]
fn the_init_image_is_measured_and_its_absence_changes_nothing() {
    let fixture = Fixture::new();
    let without = mr_enclave(&fixture);
    add_init(&fixture);
    let with = mr_enclave(&fixture);
    assert_ne!(without, with);
    run(&fixture, &[], "keep,none", &["/bin/probe", "hello"]).expect(0, "none: 0\nhello");
    assert_eq!(with, mr_enclave(&fixture), "what init wrote must not count");
    fs::write(fixture.path("instance/initfs/etc-marblerun"), "pin").unwrap();
    assert_ne!(with, mr_enclave(&fixture));
    fs::remove_dir_all(fixture.path("instance/initfs")).unwrap();
    assert_eq!(without, mr_enclave(&fixture));
}

// rules: INIT-9
#[test]
fn the_program_gets_the_environment_of_init_under_that_of_the_host() {
    let finished = run(&fixture(), &["--strict"], "none", &["/bin/probe", "environment"]);
    // The host set LEVEL, whose name the configuration lists; EDG_MARBLE_TYPE it did not set.
    finished.expect(0, "none: 0\nFROM_INIT=1\nOCCLUM=init\nLEVEL=none");
}

// rules: INIT-7
#[test]
fn the_mount_follows_occlums_rules() {
    let fixture = encrypted();
    let words = "null,none,wrong,short,path,bad-pointer,key,key,null";
    let expected =
        "null: 22\nnone: 13\nwrong: 13\nshort: 22\npath: 22\nbad-pointer: 14\nkey: 0\nkey: 1\nnull: 1\nhello";
    for options in [&[][..], &["--strict"]] {
        run(&fixture, options, words, &["/bin/probe", "hello"]).expect(0, expected);
    }
}

// rules: INIT-7
#[test]
fn the_program_cannot_mount_again() {
    // Also where the init stage is Occlum's own.
    let mut fixtures = vec![Fixture::new(), fixture()];
    for fixture in &mut fixtures {
        fixture.add(&program("init"), "/bin/mount-again");
        run(fixture, &["--strict"], "none", &["/bin/mount-again"]);
        let finished = run(fixture, &["--strict"], "none,key", &["/bin/mount-again"]);
        assert!(finished.stdout.ends_with("none: 1\nkey: 1\n"), "{finished:#?}");
    }
}

// rules: INIT-7
#[test]
fn init_may_choose_the_only_entry_point() {
    let fixture = encrypted();
    let finished = run(&fixture, &[], "entry", &["/bin/probe", "hello"]);
    finished.expect_error(127, "is not below an entry point of Occlum.json (/bin/other)");
}

// rules: INIT-8
#[test]
fn an_encrypted_image_runs_with_its_key_and_is_nowhere_in_clear() {
    let fixture = encrypted();
    assert!(!fixture.path("instance/image").exists());
    for _ in 0..2 {
        run(&fixture, &["--strict"], "key", &["/bin/probe", "append", "/model"]);
        run(&fixture, &["--strict"], "key", &["/bin/probe", "hello"]).expect(0, "key: 0\nhello");
        for file in files_below(fixture.path("instance")) {
            let bytes = fs::read(&file).unwrap();
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} shows the image", file.display());
            assert_ne!(file.file_name().unwrap(), "probe");
        }
    }
}

// rules: INIT-8
#[test]
fn the_measurement_covers_the_encrypted_image() {
    let fixture = fixture();
    let before = mr_enclave(&fixture);
    encrypt(&fixture).expect(0, "");
    let after = mr_enclave(&fixture);
    assert_ne!(before, after);
    let file = fixture.path("instance/image.encrypted");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_ne!(after, mr_enclave(&fixture));
    run(&fixture, &[], "key", &["/bin/probe", "hello"]).expect_error(1, "the init stage ended without a mount");
}

#[test]
fn what_the_program_of_an_encrypted_image_writes_does_not_reach_the_disk() {
    let fixture = Fixture::replacing(r#", "options": {"temporary": true}"#, "");
    add_init(&fixture);
    encrypt(&fixture).expect(0, "");
    let finished = run(&fixture, &[], "key", &["/bin/probe", "append", "/written"]);
    assert!(finished.stderr.contains("note: what the program writes is kept in memory"), "{finished:#?}");
    assert!(files_below(fixture.path("instance")).iter().all(|file| file.file_name().unwrap() != "written"));
}

#[test]
fn an_ordinary_user_runs_an_encrypted_image_too() {
    let fixture = encrypted().for_ordinary_user();
    run(&fixture, &["--strict"], "key", &["/bin/probe", "hello"]).expect(0, "key: 0\nhello");
}

// rules: SIM-10
#[test]
fn beside_another_listener_a_tracer_answers_the_init_stage_too() {
    let listen = program("listen");
    let fixture = encrypted().through(&[&listen, "other".as_ref()]);
    let finished = run(&fixture, &["--strict"], "wrong,key,key", &["/bin/probe", "hello"]);
    finished.expect(0, "wrong: 13\nkey: 0\nkey: 1\nhello");
    assert_eq!(finished.stderr.matches("mechanism: ptrace").count(), 2, "{finished:#?}");
}

#[test]
fn without_namespaces_an_init_stage_works_and_an_encrypted_image_does_not_reach_the_disk() {
    if !is_root() {
        return;
    }
    let deny = program("deny_namespaces");
    let plain = fixture().through(&[&deny]);
    run(&plain, &[], "keep,none", &["/bin/probe", "hello"]).expect(0, "none: 0\nhello");
    run(&plain, &[], "see,none", &["/bin/probe", "hello"])
        .expect(0, "Occlum 1 /bin/init yes kept:1 app:0 sgx:1\nnone: 0\nhello");
    let encrypted = encrypted().through(&[&deny]);
    let finished = run(&encrypted, &[], "key", &["/bin/probe", "hello"]);
    finished.expect_error(206, "cannot unpack the encrypted image for");
    assert!(finished.stderr.contains("it needs a mount namespace"), "{finished:#?}");
    assert!(files_below(encrypted.path("instance")).iter().all(|file| file.file_name().unwrap() != "probe"));
}

#[test]
fn instances_that_cannot_be_encrypted_or_run_are_told_why() {
    let fixture = Fixture::new();
    let refused = |finished: Finished, message: &str| finished.expect_error(201, message);
    refused(encrypt(&fixture), "initfs/bin/init, which gets the image key");
    add_init(&fixture);
    fs::write(fixture.path("key"), "0102").unwrap();
    let mut command = fixture.command(&["image", "encrypt", "--instance"]);
    let finished = finish(command.arg(fixture.path("instance")).arg("--image-key").arg(fixture.path("key")));
    refused(finished, "expected 16 pairs of hex digits");
    assert!(fixture.path("instance/image/bin/probe").exists());
    encrypt(&fixture).expect(0, "");
    refused(encrypt(&fixture), "exists already");
    fs::create_dir(fixture.path("instance/image")).unwrap();
    refused(run(&fixture, &[], "key", &["/bin/probe"]), "expected either image/ or image.encrypted, got both");
    fs::remove_dir(fixture.path("instance/image")).unwrap();
    fs::remove_dir_all(fixture.path("instance/initfs")).unwrap();
    refused(run(&fixture, &[], "key", &["/bin/probe"]), "expected the program initfs/bin/init");
    fs::remove_file(fixture.path("instance/image.encrypted")).unwrap();
    refused(run(&fixture, &[], "key", &["/bin/probe"]), "expected a readable directory image/");
}

#[test]
fn a_generated_key_encrypts() {
    let fixture = fixture();
    let made = finish(fixture.command(&["image", "generate-key"]).arg(fixture.path("key")));
    made.expect(0, "");
    let key = fs::read_to_string(fixture.path("key")).unwrap();
    let again = finish(fixture.command(&["image", "generate-key"]).arg(fixture.path("key")));
    again.expect_error(201, "cannot be written");
    assert_eq!(fs::read_to_string(fixture.path("key")).unwrap(), key);
    let mut command = fixture.command(&["image", "encrypt", "--instance"]);
    finish(command.arg(fixture.path("instance")).arg("--image-key").arg(fixture.path("key"))).expect(0, "");
    let config = fs::read_to_string(fixture.path("instance/initfs/etc/image_config.json")).unwrap();
    assert_eq!(config, r#"{"image_type":"encrypted"}"#);
    assert!(OCCLUM_JSON.contains("LEVEL"), "these tests tell init what to do by the variable LEVEL");
}
