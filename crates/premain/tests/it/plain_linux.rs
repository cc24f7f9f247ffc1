//! Where the program does not belong.

use std::process::{Command, Output};

fn premain(format: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_premain-libos")).env_clear().env("EDG_LOG_FORMAT", format).output().unwrap()
}

#[test]
fn outside_of_a_libos_one_line_says_what_is_supported() {
    let output = premain("");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(text.starts_with("Error: failed to detect libOS: expected Occlum, got Linux "), "{text}");
    assert!(text.contains("marble-sim"), "{text}");
    assert!(output.stdout.is_empty());
}

// rules: ACT-8.11
#[test]
fn in_json_mode_the_failure_is_an_object_of_level_fatal() {
    let output = premain("JSON");
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(value["level"], "fatal");
    let message = value["msg"].as_str().unwrap();
    assert!(message.starts_with("failed to detect libOS: "), "{message}");
}
