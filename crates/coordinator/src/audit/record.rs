//! The lines of the audit stream: one JSON object each.

use std::fmt::Write as _;

use marblerun_coordinator_core::time::Timestamp;
use serde_json::json;
use tracing::{info, warn};

use super::aggregate::PeerClass;

/// Names of a fixed set, with values that were cut and escaped.
pub(super) type Details = Vec<(&'static str, String)>;

/// What one line tells.
#[derive(Debug)]
pub(super) enum Record {
    Refused(RefusalRecord),
    Changed(Change),
}

/// Refusals of one cause.
#[derive(Debug)]
pub(super) struct RefusalRecord {
    pub(super) time: Timestamp,
    pub(super) class: PeerClass,
    pub(super) peer: String,
    pub(super) action: String,
    pub(super) reason: &'static str,
    /// Of the newest one, as the next two.
    pub(super) code: String,
    pub(super) text: String,
    pub(super) details: Details,
    /// How many since the line before.
    pub(super) count: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// Something that is different now, and durable.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) time: Timestamp,
    pub(super) class: PeerClass,
    pub(super) peer: String,
    pub(super) action: &'static str,
    pub(super) details: Details,
}

impl Record {
    /// The JSON object with a newline. `number` counts the lines of this process, those that were dropped included.
    pub(super) fn to_json(&self, number: u64) -> String {
        let mut line = String::from("{");
        match self {
            Self::Refused(refused) => {
                member(&mut line, "time", json!(refused.time.to_iso8601()));
                member(&mut line, "number", json!(number));
                member(&mut line, "kind", json!("refused"));
                who(&mut line, refused.class, &refused.peer);
                member(&mut line, "action", json!(refused.action));
                member(&mut line, "reason", json!(refused.reason));
                member(&mut line, "code", json!(refused.code));
                member(&mut line, "count", json!(refused.count));
                member(&mut line, "first", json!(refused.first.to_iso8601()));
                member(&mut line, "last", json!(refused.last.to_iso8601()));
                member(&mut line, "text", json!(refused.text));
                details(&mut line, &refused.details);
            }
            Self::Changed(changed) => {
                member(&mut line, "time", json!(changed.time.to_iso8601()));
                member(&mut line, "number", json!(number));
                member(&mut line, "kind", json!("changed"));
                who(&mut line, changed.class, &changed.peer);
                member(&mut line, "action", json!(changed.action));
                details(&mut line, &changed.details);
            }
        }
        line.push_str("}\n");
        line
    }

    /// The same as an event of the process log.
    pub(super) fn log(&self) {
        match self {
            Self::Refused(RefusalRecord { class, peer, action, reason, code, text, details, count, .. }) => {
                let (class, details) = (class.word(), shown(details));
                warn!(peer = class, name = peer, code, reason, count, details, "{action} refused: {text}");
            }
            Self::Changed(Change { class, peer, action, details, .. }) => {
                let (class, details) = (class.word(), shown(details));
                info!(peer = class, name = peer, details, "{action}");
            }
        }
    }
}

fn member(line: &mut String, name: &str, value: serde_json::Value) {
    let separator = if line.len() > 1 { "," } else { "" };
    let _ = write!(line, "{separator}{}:{value}", json!(name));
}

fn who(line: &mut String, class: PeerClass, name: &str) {
    member(line, "peer", json!(class.word()));
    if !name.is_empty() {
        member(line, "name", json!(name));
    }
}

fn details(line: &mut String, details: &Details) {
    if !details.is_empty() {
        let mut inner = String::from("{");
        details.iter().for_each(|(name, value)| member(&mut inner, name, json!(value)));
        let _ = write!(line, ",\"details\":{inner}}}");
    }
}

fn shown(details: &Details) -> String {
    details.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_in_the_documented_order() {
        let time = Timestamp::from_millis;
        let refused = Record::Refused(RefusalRecord {
            time: time(3000),
            class: PeerClass::Mesh,
            peer: String::new(),
            action: "activation".to_owned(),
            reason: "signature",
            code: "PermissionDenied".to_owned(),
            text: "it's \"not\" genuine".to_owned(),
            details: vec![("marbleType", "web\\n".to_owned()), ("uuid", "1".to_owned())],
            count: 7,
            first: time(1000),
            last: time(2000),
        });
        assert_eq!(
            refused.to_json(4),
            concat!(
                r#"{"time":"1970-01-01T00:00:03.000Z","number":4,"kind":"refused","peer":"mesh","action":"activation","#,
                r#""reason":"signature","code":"PermissionDenied","count":7,"first":"1970-01-01T00:00:01.000Z","#,
                r#""last":"1970-01-01T00:00:02.000Z","#,
                r#""text":"it's \"not\" genuine","details":{"marbleType":"web\\n","uuid":"1"}}"#,
                "\n"
            )
        );
        let changed = Record::Changed(Change {
            time: time(0),
            class: PeerClass::User,
            peer: "alice".to_owned(),
            action: "secrets set",
            details: Vec::new(),
        });
        let expected = r#"{"time":"1970-01-01T00:00:00.000Z","number":5,"kind":"changed","peer":"user","name":"alice","action":"secrets set"}"#;
        assert_eq!(changed.to_json(5), format!("{expected}\n"));
    }
}
