use std::collections::BTreeMap;

use marblerun_json::decode_object;

use crate::rest::describe::{Members, Object};
use crate::rest::envelope::{success, success_object, success_without_data};

/// Answer of POST update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateAnswer {
    /// How many users must still agree; 0: the update is in force.
    pub missing_acknowledgments: u64,
    /// Who may still agree; `None` when the update is in force.
    pub missing_users: Option<Vec<String>>,
    /// New recovery secrets, if the update is in force and changed the recovery configuration.
    pub recovery_secrets: Option<BTreeMap<String, Vec<u8>>>,
}

decode_object!(UpdateAnswer {
    "missingAcknowledgments" => missing_acknowledgments,
    "missingUsers" => missing_users,
    "recoverySecrets" => recovery_secrets,
});

impl Object for UpdateAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { missing_acknowledgments, missing_users, recovery_secrets } = self;
        members
            .member("missingAcknowledgments", missing_acknowledgments)
            .member("missingUsers", missing_users)
            .optional("recoverySecrets", recovery_secrets.as_ref())
    }
}

impl UpdateAnswer {
    /// The body in version 1, which tells nothing.
    pub fn to_v1(&self) -> String {
        success_without_data()
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

const APPLIED: &str = "All users have acknowledged the update manifest. Update successfully applied";

/// Answer of POST update-manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcknowledgeAnswer {
    /// What is still missing, in words.
    pub message: String,
    /// Who may still agree; `None` when the update is in force.
    pub missing_users: Option<Vec<String>>,
    /// How many users must still agree; 0: the update is in force.
    pub missing_acknowledgments: u64,
    /// New recovery secrets, if the update is in force and changed the recovery configuration.
    pub recovery_secrets: Option<BTreeMap<String, Vec<u8>>>,
}

decode_object!(AcknowledgeAnswer {
    "message" => message,
    "missingUsers" => missing_users,
    "missingAcknowledgments" => missing_acknowledgments,
    "recoverySecrets" => recovery_secrets,
});

impl Object for AcknowledgeAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { message, missing_users, missing_acknowledgments, recovery_secrets } = self;
        members
            .member("message", message)
            .member("missingUsers", missing_users)
            .member("missingAcknowledgments", missing_acknowledgments)
            .optional("recoverySecrets", recovery_secrets.as_ref())
    }
}

impl AcknowledgeAnswer {
    /// The answer to an acknowledgement after which `missing_acknowledgments` of `missing_users` must still agree.
    pub fn waiting(missing_acknowledgments: u64, missing_users: Vec<String>) -> Self {
        let (words, names) = (missing_words(missing_acknowledgments), missing_users.join(", "));
        Self {
            message: format!("{words}.\nThe following users have not yet accepted: {names}"),
            missing_users: Some(missing_users),
            missing_acknowledgments,
            recovery_secrets: None,
        }
    }

    /// The answer to the last acknowledgement, with new recovery secrets if the recovery configuration changed.
    pub fn applied(recovery_secrets: Option<BTreeMap<String, Vec<u8>>>) -> Self {
        Self { message: APPLIED.to_owned(), recovery_secrets, ..Self::default() }
    }

    /// The body in version 1: the words up to the list of users, which clients parse.
    pub fn to_v1(&self) -> String {
        let words = match self.missing_acknowledgments {
            0 => APPLIED.to_owned(),
            missing => missing_words(missing),
        };
        success(&words)
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

impl AcknowledgeAnswer {
    /// Reads the words of version 1, which name no users: `All` at the beginning, or the number that is missing.
    ///
    /// `None` if they are other words.
    pub fn from_v1_words(words: &str) -> Option<Self> {
        let missing_acknowledgments = match words.split(' ').next()? {
            "All" => 0,
            number => number.parse().ok()?,
        };
        Some(Self { message: words.to_owned(), missing_acknowledgments, ..Self::default() })
    }
}

fn missing_words(missing: u64) -> String {
    match missing {
        1 => "1 user still needs to acknowledge the update manifest".to_owned(),
        _ => format!("{missing} users still need to acknowledge the update manifest"),
    }
}

/// Answer of GET update-manifest, the same in both versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingUpdateAnswer {
    /// The manifest that waits, byte for byte.
    pub manifest: Vec<u8>,
    /// What is still missing, in words.
    pub message: String,
    /// Who may still agree.
    pub missing_users: Option<Vec<String>>,
}

decode_object!(PendingUpdateAnswer {
    "manifest" => manifest,
    "message" => message,
    "missingUsers" => missing_users,
});

impl Object for PendingUpdateAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { manifest, message, missing_users } = self;
        members.member("manifest", manifest).member("message", message).member("missingUsers", missing_users)
    }
}

impl PendingUpdateAnswer {
    /// The answer for a waiting manifest, with the usual words.
    pub fn new(manifest: Vec<u8>, missing_acknowledgments: u64, missing_users: Option<Vec<String>>) -> Self {
        Self { manifest, message: missing_words(missing_acknowledgments), missing_users }
    }

    /// The body.
    pub fn to_body(&self) -> String {
        success_object(self)
    }
}

/// Answer of GET update: the update log, one JSON text per line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateLogAnswer {
    /// The lines, without line feeds.
    pub update_log: Vec<String>,
}

decode_object!(UpdateLogAnswer { "updateLog" => update_log });

impl Object for UpdateLogAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { update_log } = self;
        members.member("updateLog", update_log)
    }
}

impl UpdateLogAnswer {
    /// The body in version 1: one string, each line with its line feed.
    pub fn to_v1(&self) -> String {
        let text: String = self.update_log.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        success(&text)
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of POST update-cancel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageAnswer {
    /// What was done.
    pub message: String,
}

decode_object!(MessageAnswer { "message" => message });

impl Object for MessageAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { message } = self;
        members.member("message", message)
    }
}

impl MessageAnswer {
    /// The body in version 1: the text alone.
    pub fn to_v1(&self) -> String {
        success(&self.message)
    }

    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

/// Answer of POST monotonic-counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterAnswer {
    /// The counter's value before the request.
    pub value: u64,
}

decode_object!(CounterAnswer { "value" => value });

impl Object for CounterAnswer {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { value } = self;
        members.member("value", value)
    }
}

impl CounterAnswer {
    /// The body in version 2.
    pub fn to_v2(&self) -> String {
        success_object(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_version_1_read_back() {
        for missing in [0, 1, 7] {
            let answer = AcknowledgeAnswer { missing_acknowledgments: missing, ..AcknowledgeAnswer::default() };
            let envelope = crate::rest::decode_envelope(answer.to_v1().as_bytes(), 1000).unwrap();
            let read = AcknowledgeAnswer::from_v1_words(&envelope.data_text()).unwrap();
            assert_eq!(read.missing_acknowledgments, missing);
        }
        for words in ["", "all users", "-1 users", "Nobody"] {
            assert_eq!(AcknowledgeAnswer::from_v1_words(words), None, "{words}");
        }
    }
}
