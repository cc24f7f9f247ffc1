//! Lines of the update log: what changed the deployment, when, and by whom.

use marblerun_json::ObjectEncoder;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_and_the_event_second() {
        assert_eq!(
            initial_manifest_set(Timestamp::from_millis(1_769_938_200_125)),
            r#"{"time":"2026-02-01T09:30:00.125Z","update":"Initial manifest set"}"#
        );
    }
}
