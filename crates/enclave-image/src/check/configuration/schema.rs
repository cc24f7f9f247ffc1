//! Reading `Occlum.json` member by member: every mistake is told, and what can be used is kept.

use std::collections::BTreeSet;

use super::super::finding::{Findings, Place, shown};
use super::super::json_tree::Json;
use super::super::rule::Rule;
use crate::occlum_json::Size;

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Bool,
    /// A number of 32 bits.
    Number,
    /// A number that has 16 bits in SGX.
    Id,
    Size,
}

/// One member that an object may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// A member that must be there.
pub(super) const fn required(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, is_required: true }
}

/// A member that may be there.
pub(super) const fn optional(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, is_required: false }
}

/// The members of an object that have the right form.
#[derive(Debug, Default)]
pub(super) struct Members<'json>(Vec<(&'static str, &'json Json)>);

impl<'json> Members<'json> {
    /// Checks `json` against `members`; what is wrong is told and left out.
    pub(super) fn read(json: &'json Json, place: &str, members: &[Member], findings: &mut Findings) -> Self {
        let Json::Object(entries) = json else {
            wrong_type(place, "an object", json, findings);
            return Self::default();
        };
        let mut found: Vec<(&'static str, &Json)> = Vec::new();
        let mut names = BTreeSet::new();
        for (name, value) in entries {
            let path = join(place, name);
            if !names.insert(name) {
                findings.add(
                    Rule::DuplicateKey,
                    Place::OcclumJson(path),
                    format!("the member {} occurs twice", shown(name)),
                );
                continue;
            }
            match members.iter().find(|member| member.name == name) {
                Some(member) if has_form(value, member.kind, &path, findings) => found.push((member.name, value)),
                Some(_) => {}
                None => unknown(name, path, members, findings),
            }
        }
        for member in members.iter().filter(|member| member.is_required) {
            if entries.iter().all(|(name, _)| name != member.name) {
                let reason = format!("there is no member {:?}", member.name);
                let rule = if member.name == "feature" { Rule::OldTemplate } else { Rule::MissingKey };
                findings.add(rule, Place::OcclumJson(join(place, member.name)), reason);
            }
        }
        Self(found)
    }

    fn find(&self, name: &str) -> Option<&'json Json> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// An object or array of any form.
    pub(super) fn value(&self, name: &str) -> Option<&'json Json> {
        self.find(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'json str> {
        match self.find(name)? {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.find(name)? {
            Json::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.find(name)? {
            Json::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// A size in bytes.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse::<Size>().ok().map(|size| size.0)
    }

    /// The items of an array with their places; those that are no text are told.
    pub(super) fn texts(&self, name: &str, place: &str, findings: &mut Findings) -> Vec<(String, String)> {
        let Some(Json::Array(items)) = self.find(name) else { return Vec::new() };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = format!("{place}[{index}]");
            match item {
                Json::String(text) => texts.push((place, text.clone())),
                other => wrong_type(&place, "a string", other, findings),
            }
        }
        texts
    }
}

/// `place.name`, or `name` at the top.
pub(super) fn join(place: &str, name: &str) -> String {
    // A name that would not fit on a line is not worth repeating as a whole.
    let name: String = name.chars().take(64).collect();
    if place.is_empty() { name } else { format!("{place}.{name}") }
}

fn has_form(json: &Json, kind: Kind, place: &str, findings: &mut Findings) -> bool {
    let expected = match (kind, json) {
        (Kind::Object, Json::Object(_))
        | (Kind::Array, Json::Array(_))
        | (Kind::Text, Json::String(_))
        | (Kind::Bool, Json::Bool(_)) => return true,
        (Kind::Number, Json::Number(number)) if number.as_u64().is_some_and(|value| value <= u64::from(u32::MAX)) => {
            return true;
        }
        (Kind::Id, Json::Number(number)) if number.as_u64().is_some() => {
            let is_id = number.as_u64().is_some_and(|value| value <= u64::from(u16::MAX));
            if !is_id {
                let reason = format!("expected a number up to {}, got {number}", u16::MAX);
                findings.add(Rule::IdRange, Place::OcclumJson(place.to_owned()), reason);
            }
            return is_id;
        }
        (Kind::Size, Json::String(text)) => {
            let parsed = text.parse::<Size>();
            if let Err(error) = &parsed {
                findings.add(Rule::Size, Place::OcclumJson(place.to_owned()), error.to_string());
            }
            return parsed.is_ok();
        }
        (Kind::Object, _) => "an object",
        (Kind::Array, _) => "an array",
        (Kind::Text, _) => "a string",
        (Kind::Bool, _) => "true or false",
        (Kind::Number, _) => "a number of 32 bits without sign or fraction",
        (Kind::Id, _) => "a number without sign or fraction",
        (Kind::Size, _) => "a size such as \"32MB\"",
    };
    wrong_type(place, expected, json, findings);
    false
}

pub(super) fn wrong_type(place: &str, expected: &str, got: &Json, findings: &mut Findings) {
    let got = match got {
        Json::Number(number) => format!("the number {number}"),
        other => other.kind().to_owned(),
    };
    findings.add(Rule::WrongType, Place::OcclumJson(place.to_owned()), format!("expected {expected}, got {got}"));
}

fn unknown(name: &str, place: String, members: &[Member], findings: &mut Findings) {
    let nearest = members.iter().map(|member| member.name).min_by_key(|known| distance(known, name));
    let reason = format!("Occlum knows no member {}", shown(name));
    match nearest.filter(|known| distance(known, name) <= 1 + known.len() / 4) {
        Some(known) => {
            findings.add_with_fix(
                Rule::UnknownKey,
                Place::OcclumJson(place),
                reason,
                format!("Did you mean {known:?}?"),
            );
        }
        None => findings.add(Rule::UnknownKey, Place::OcclumJson(place), reason),
    }
}

/// Letters that must be inserted, removed or replaced (Levenshtein), without regard to case.
fn distance(known: &str, written: &str) -> usize {
    let written: Vec<char> = written.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (index, letter) in known.chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, other) in written.iter().enumerate() {
            let replaced = diagonal + usize::from(letter.to_ascii_lowercase() != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[written.len()]
}
