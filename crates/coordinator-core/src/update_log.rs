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

/// The line for each package of a package-only update, also where the version is the same.
pub fn security_version_increased(now: Timestamp, user: &str, package: &str, version: u64) -> String {
    let mut line = String::new();
    ObjectEncoder::new(&mut line)
        .member("time", now.to_iso8601().as_str())
        .member("update", "SecurityVersion increased")
        .member("user", user)
        .member("package", package)
        .member("new version", &version)
        .finish();
    line
}

/// The line for a full update that needs nobody else.
pub fn update_initiated(now: Timestamp, user: &str, fingerprint: &str) -> String {
    let event = "Complete Manifest update initiated by user. No further acknowledgements required";
    by_user(now, event, user, fingerprint)
}

/// The line for a full update that waits; `missing` of `missing_users` must agree.
pub fn update_waits(now: Timestamp, user: &str, missing: u64, missing_users: &[String], fingerprint: &str) -> String {
    let event = "Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update";
    with_missing(now, event, user, missing, missing_users, fingerprint)
}

/// The line for an acknowledgement; `missing` of `missing_users` must still agree after it.
pub fn update_acknowledged(
    now: Timestamp,
    user: &str,
    missing: u64,
    missing_users: &[String],
    fingerprint: &str,
) -> String {
    with_missing(now, "Complete Manifest update acknowledged by user", user, missing, missing_users, fingerprint)
}

/// The line for a full update that is in force.
pub fn manifest_updated(now: Timestamp, fingerprint: &str) -> String {
    without_user(now, "Complete Manifest updated", fingerprint)
}

/// The line for a pending update that a user cancelled.
pub fn update_cancelled(now: Timestamp, user: &str, fingerprint: &str) -> String {
    by_user(now, "Complete Manifest update cancelled by user", user, fingerprint)
}

/// The line for a pending update that everybody agreed to and that could not be put into force.
pub fn update_failed(now: Timestamp, fingerprint: &str) -> String {
    without_user(now, "Complete Manifest update cancelled due to error during apply", fingerprint)
}

fn by_user(now: Timestamp, event: &str, user: &str, fingerprint: &str) -> String {
    let mut line = String::new();
    ObjectEncoder::new(&mut line)
        .member("time", now.to_iso8601().as_str())
        .member("update", event)
        .member("user", user)
        .member("manifestFingerprint", fingerprint)
        .finish();
    line
}

fn with_missing(
    now: Timestamp,
    event: &str,
    user: &str,
    missing: u64,
    missing_users: &[String],
    fingerprint: &str,
) -> String {
    let mut line = String::new();
    ObjectEncoder::new(&mut line)
        .member("time", now.to_iso8601().as_str())
        .member("update", event)
        .member("user", user)
        .member("missingAcknowledgments", &missing)
        .member("missingUsers", missing_users)
        .member("manifestFingerprint", fingerprint)
        .finish();
    line
}

fn without_user(now: Timestamp, event: &str, fingerprint: &str) -> String {
    let mut line = String::new();
    ObjectEncoder::new(&mut line)
        .member("time", now.to_iso8601().as_str())
        .member("update", event)
        .member("manifestFingerprint", fingerprint)
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

    // rules: LOG-2
    #[test]
    fn the_lines_of_updates_have_their_members_in_order() {
        let now = Timestamp::from_millis(1_769_938_200_125);
        let users = ["ben".to_owned(), "cy".to_owned()];
        let time = r#""time":"2026-02-01T09:30:00.125Z""#;
        let check = |line: String, rest: &str| assert_eq!(line, format!("{{{time},{rest}}}"));
        check(
            security_version_increased(now, "ann", "p", u64::MAX),
            r#""update":"SecurityVersion increased","user":"ann","package":"p","new version":18446744073709551615"#,
        );
        check(
            update_initiated(now, "ann", "ff"),
            r#""update":"Complete Manifest update initiated by user. No further acknowledgements required","user":"ann","manifestFingerprint":"ff""#,
        );
        check(
            update_waits(now, "ann", 1, &users, "ff"),
            r#""update":"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update","user":"ann","missingAcknowledgments":1,"missingUsers":["ben","cy"],"manifestFingerprint":"ff""#,
        );
        check(
            update_acknowledged(now, "ben", 0, &[], "ff"),
            r#""update":"Complete Manifest update acknowledged by user","user":"ben","missingAcknowledgments":0,"missingUsers":[],"manifestFingerprint":"ff""#,
        );
        check(manifest_updated(now, "ff"), r#""update":"Complete Manifest updated","manifestFingerprint":"ff""#);
        check(
            update_cancelled(now, "cy", "ff"),
            r#""update":"Complete Manifest update cancelled by user","user":"cy","manifestFingerprint":"ff""#,
        );
        check(
            update_failed(now, "ff"),
            r#""update":"Complete Manifest update cancelled due to error during apply","manifestFingerprint":"ff""#,
        );
    }
}
