//! What `marble-sim measure` counts, and that runs carry the same measurement.

use std::fs;
use std::fs::File;

use crate::fixture::{Fixture, OCCLUM_JSON, finish};

fn measure(fixture: &Fixture) -> serde_json::Value {
    let finished = finish(fixture.command(&["measure", "--instance"]).arg(fixture.path("instance")));
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

fn mr_enclave(fixture: &Fixture) -> String {
    measure(fixture)["mrenclave"].as_str().unwrap().to_owned()
}

// rules: SIM-7
#[test]
fn a_changed_byte_in_the_image_or_the_default_environment_changes_it() {
    let fixture = Fixture::new();
    let before = mr_enclave(&fixture);
    assert_eq!(before, mr_enclave(&fixture));
    fs::write(fixture.path("instance/Occlum.json"), OCCLUM_JSON.replace("LEVEL=low", "LEVEL=Low")).unwrap();
    let other_environment = mr_enclave(&fixture);
    assert_ne!(before, other_environment);
    fs::write(fixture.path("instance/Occlum.json"), OCCLUM_JSON).unwrap();
    let program = fixture.path("instance/image/bin/probe");
    let mut bytes = fs::read(&program).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&program, bytes).unwrap();
    assert_ne!(before, mr_enclave(&fixture));
}

// rules: SIM-7
#[test]
fn times_owners_and_what_the_program_wrote_do_not_change_it() {
    let fixture = Fixture::replacing(r#", "options": {"temporary": true}"#, "");
    let before = mr_enclave(&fixture);
    let file = File::options().write(true).open(fixture.path("instance/image/bin/probe")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    drop(file);
    fixture.run(&[], &["/bin/probe", "append", "/file"]).expect(0, "1 bytes");
    assert_eq!(before, mr_enclave(&fixture));
    assert_eq!(before, mr_enclave(&fixture.for_ordinary_user()));
}

// rules: SIM-7
#[test]
fn arguments_and_untrusted_variables_do_not_change_what_a_run_reports() {
    let fixture = Fixture::new();
    let line = |command: &mut std::process::Command| {
        let finished = finish(command);
        finished.stderr.lines().find(|line| line.contains("MRENCLAVE")).unwrap().to_owned()
    };
    let plain = line(&mut fixture.run_command(&[], &["/bin/probe", "hello"]));
    assert!(plain.contains(&mr_enclave(&fixture)));
    let mut other = fixture.run_command(&["--strict"], &["/bin/probe", "hello", "more"]);
    assert_eq!(plain, line(other.env("EDG_MARBLE_TYPE", "web")));
}

#[test]
fn the_quote_carries_the_measurement_and_the_metadata() {
    let fixture = Fixture::new();
    let measured = measure(&fixture);
    let finished = fixture.run(&[], &["/bin/probe", "write-quote"]);
    let quote = hex::decode(finished.stdout.trim()).unwrap();
    let body = &quote[48..432];
    assert_eq!(hex::encode(&body[64..96]), measured["mrenclave"]);
    assert_eq!(hex::encode(&body[128..160]), measured["mrsigner"]);
    assert_eq!((body[256], measured["isv_prod_id"].as_u64()), (42, Some(42)));
    assert_eq!((body[258], measured["isv_svn"].as_u64()), (3, Some(3)));
    assert_eq!((body[48] & 2, &measured["debug"]), (0, &false.into()));
    assert_eq!(measured["package"], serde_json::json!({"UniqueID": measured["mrenclave"], "Debug": false}));
}
