//! Lines of the update log: what changed the deployment, when, and by whom.

use marblerun_json::ObjectEncoder;
use marblerun_manifest::SecretType;

use crate::time::Timestamp;

/// The line that setting the first manifest writes; it starts the log.
pub fn initial_manifest_set(now: Timestamp) -> String {
    let mut line = String::new();
    ObjectEncoder::new(&mut line)
        .member("time", now.to_iso8601().as_str())
        .member("update", "Initial manifest set")
        .finish();
    line
}

/// The line for each secret of an upload.
pub fn secret_set(now: Timestamp, user: &str, secret: &str, secret_type: SecretType) -> String {
    let mut line = String::new();
    ObjectEncoder::new(&mut line)
        .member("time", now.to_iso8601().as_str())
        .member("update", "Secret set")
        .member("user", user)
        .member("secret", secret)
        .member("type", secret_type.as_str())
        .finish();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: LOG-2
    #[test]
    fn time_comes_first_and_the_event_second() {
        assert_eq!(
            initial_manifest_set(Timestamp::from_millis(1_769_938_200_125)),
            r#"{"time":"2026-02-01T09:30:00.125Z","update":"Initial manifest set"}"#
        );
    }

    #[test]
    fn an_upload_names_user_secret_and_type_and_cannot_forge_lines() {
        assert_eq!(
            secret_set(Timestamp::from_millis(1_769_938_200_125), "ann\n\"", "web", SecretType::CertRsa),
            r#"{"time":"2026-02-01T09:30:00.125Z","update":"Secret set","user":"ann\n\"","secret":"web","type":"cert-rsa"}"#
        );
    }
}
