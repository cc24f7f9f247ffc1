//! Changing a package in the text of a manifest, and nothing else in it.

use std::ops::Range;

use marblerun_json::{Decode, DecodeError, Decoder, ValueKind, decode_whole, folds_to};
use marblerun_manifest::MAX_MANIFEST_BYTES;

use crate::args::package_info::By;

const PACKAGES: &str = "Packages";
/// One more level where the text does not show how it is indented.
const INDENT: &str = "  ";

/// Why a manifest's text cannot be changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("expected a manifest in JSON")]
    NotJson(#[from] DecodeError),
    #[error("{place}: expected an object")]
    NotObject { place: String },
    #[error("{place}: expected one member, got several of that name")]
    Twice { place: String },
    #[error("{place}: expected a package without {member}, which excludes what is to be written")]
    OtherIdentity { place: String, member: &'static str },
}

impl EditError {
    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotJson(_) => Some("convert the manifest to JSON, or write the package by hand (--package-only)"),
            Self::OtherIdentity { .. } => Some("remove the member, or leave --by out"),
            Self::NotObject { .. } | Self::Twice { .. } => None,
        }
    }
}

/// A member of a package: its name and its value as JSON.
pub(crate) type Value<'a> = (&'static str, &'a str);

/// Writes the members of `identity` by which a package names its enclave, as far as the package has such members; else
/// those of `by`, or all that name one enclave. A package that does not exist is added, with the members in `extra`.
///
/// Gives the new text and whether the package is new.
///
/// # Errors
///
/// See [`EditError`].
pub(crate) fn set_package(
    text: &str,
    name: &str,
    identity: &[Value<'_>],
    by: Option<By>,
    extra: &[Value<'_>],
) -> Result<(String, bool), EditError> {
    let mut text = text.to_owned();
    let path = [Step::Member(PACKAGES), Step::Entry(name)];
    let package = find(&text, &path)?;
    let is_new = package.is_none();
    let by = match package {
        Some(range) => {
            let present = |by: By| by.members().iter().copied().find(|member| has(&text, range.clone(), member));
            let there = [By::UniqueId, By::Signer].into_iter().find_map(|by| present(by).map(|member| (by, member)));
            match (there, by) {
                (Some((there, member)), Some(by)) if there != by => {
                    return Err(EditError::OtherIdentity { place: place(&path), member });
                }
                (Some((there, _)), _) => there,
                (None, by) => by.unwrap_or(By::UniqueId),
            }
        }
        None => by.unwrap_or(By::UniqueId),
    };
    for depth in 1..=path.len() {
        if find(&text, &path[..depth])?.is_none() {
            let parent = find(&text, &path[..depth - 1])?.unwrap_or_default();
            text = insert(&text, parent, path[depth - 1].name(), "{}")?;
        }
    }
    let identity = identity.iter().filter(|(member, _)| by.members().contains(member));
    for (member, value) in identity.chain(extra.iter().filter(|_| is_new)) {
        let path = [path[0], path[1], Step::Member(member)];
        text = match find(&text, &path)? {
            Some(range) => [&text[..range.start], value, &text[range.end..]].concat(),
            None => {
                let package = find(&text, &path[..2])?.unwrap_or_default();
                insert(&text, package, member, value)?
            }
        };
    }
    Ok((text, is_new))
}

/// Whether a package in the text has a member with this value.
pub(crate) fn package_has(text: &str, name: &str, member: &'static str, value: &str) -> bool {
    let path = [Step::Member(PACKAGES), Step::Entry(name), Step::Member(member)];
    matches!(find(text, &path), Ok(Some(range)) if &text[range.clone()] == value)
}

/// A part of the way to a value.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// A member of a structure, whose name matches as in Go.
    Member(&'static str),
    /// An entry of a map, whose name is data.
    Entry(&'a str),
}

impl<'a> Step<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Member(name) => name,
            Self::Entry(name) => name,
        }
    }

    fn matches(self, written: &str) -> bool {
        match self {
            Self::Member(name) => folds_to(written, name),
            Self::Entry(name) => written == name,
        }
    }
}

fn place(path: &[Step<'_>]) -> String {
    path.iter().map(|step| step.name()).collect::<Vec<_>>().join(".")
}

/// Where the value at the end of `path` stands; `None` if there is none.
fn find(text: &str, path: &[Step<'_>]) -> Result<Option<Range<usize>>, EditError> {
    let (Top(mut range), _) = decode_whole(text.as_bytes(), MAX_MANIFEST_BYTES)?;
    for (depth, step) in path.iter().enumerate() {
        let mut found = members(text, range, &path[..depth])?.into_iter().filter(|member| step.matches(&member.name));
        let Some(member) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(EditError::Twice { place: place(&path[..=depth]) });
        }
        range = member.value;
    }
    Ok(Some(range))
}

fn has(text: &str, package: Range<usize>, member: &'static str) -> bool {
    members(text, package, &[]).is_ok_and(|members| members.iter().any(|found| folds_to(&found.name, member)))
}

/// The members of the object in this range of the text.
fn members(text: &str, range: Range<usize>, path: &[Step<'_>]) -> Result<Vec<Member>, EditError> {
    let (Members { members, is_object }, _) =
        decode_whole::<Members>(&text.as_bytes()[range.clone()], MAX_MANIFEST_BYTES)?;
    if !is_object {
        return Err(EditError::NotObject { place: if path.is_empty() { "manifest".to_owned() } else { place(path) } });
    }
    let shift = |member: Member| Member {
        name: member.name,
        value: member.value.start + range.start..member.value.end + range.start,
    };
    Ok(members.into_iter().map(shift).collect())
}

/// Adds a member behind the last one of the object in this range, set as that one is.
fn insert(text: &str, object: Range<usize>, name: &str, value: &str) -> Result<String, EditError> {
    let inner = &text[object.start + 1..object.end];
    let lead = &inner[..inner.len() - inner.trim_ascii_start().len()];
    let member = format!("{}: {value}", serde_json::Value::from(name));
    let last = members(text, object.clone(), &[])?.pop();
    Ok(match last {
        Some(Member { value: last, .. }) => {
            [&text[..last.end], ",", if lead.is_empty() { " " } else { lead }, &member, &text[last.end..]].concat()
        }
        None => {
            // As deep as the line on which the object begins, and one more.
            let line = text[..object.start].rfind('\n').map(|at| &text[at + 1..object.start]);
            let indent = line.map(|line| &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]);
            let unit = if indent.is_some_and(|indent| indent.starts_with('\t')) { "\t" } else { INDENT };
            let (begin, end) = match indent {
                Some(indent) => (format!("\n{indent}{unit}"), format!("\n{indent}")),
                None => (String::new(), String::new()),
            };
            [&text[..=object.start], &begin, &member, &end, &text[object.end - 1..]].concat()
        }
    })
}

struct Member {
    name: String,
    value: Range<usize>,
}

/// The range of the whole value, without white space around it.
#[derive(Default)]
struct Top(Range<usize>);

impl Decode for Top {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let start = decoder.offset();
        self.0 = start..start + decoder.raw().len();
        Ok(())
    }
}

#[derive(Default)]
struct Members {
    members: Vec<Member>,
    is_object: bool,
}

impl Decode for Members {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if decoder.kind() != ValueKind::Object {
            decoder.raw();
            return Ok(());
        }
        self.is_object = true;
        decoder.entries(|decoder, name| {
            let start = decoder.offset();
            self.members.push(Member { name, value: start..start + decoder.raw().len() });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: [Value<'_>; 4] =
        [("UniqueID", "\"ab\""), ("SignerID", "\"cd\""), ("ProductID", "3"), ("SecurityVersion", "4")];

    #[track_caller]
    fn check(text: &str, by: Option<By>, expected: &str) {
        let extra = [("Debug", "true")];
        assert_eq!(set_package(text, "p", &IDENTITY, by, &extra).unwrap().0, expected);
    }

    #[test]
    fn what_a_package_names_already_is_replaced_and_nothing_else_changes() {
        let text = "\n{ \"z\" : 1,\n  \"packages\":{\"o\":{\"UniqueID\":\"00\"}, \"p\": {\"Debug\":false,\"uniqueid\" :\"00\" } },\"a\":[1 , 2]}\n\n";
        check(text, None, &text.replace("\"uniqueid\" :\"00\"", "\"uniqueid\" :\"ab\""));
        let text = "{\"Packages\":{\"p\":{\"SecurityVersion\":1,\"SignerID\":\"00\"}}}";
        let expected = "{\"Packages\":{\"p\":{\"SecurityVersion\":4,\"SignerID\":\"cd\", \"ProductID\": 3}}}";
        check(text, None, expected);
        check(text, Some(By::Signer), expected);
        // Nothing changes the second time.
        check(expected, None, expected);
    }

    #[test]
    fn what_is_missing_is_added_as_the_rest_is_written() {
        let text = "{\n\t\"Packages\": {\n\t\t\"o\": {}\n\t},\n\t\"Marbles\": {}\n}\n";
        let expected = "{\n\t\"Packages\": {\n\t\t\"o\": {},\n\t\t\"p\": {\n\t\t\t\"UniqueID\": \"ab\",\n\t\t\t\"Debug\": \
                        true\n\t\t}\n\t},\n\t\"Marbles\": {}\n}\n";
        check(text, None, expected);
        check("{}", Some(By::UniqueId), "{\"Packages\": {\"p\": {\"UniqueID\": \"ab\", \"Debug\": true}}}");
        let text = "{\n  \"Packages\": {\n    \"p\": {\n      \"Debug\": false\n    }\n  }\n}";
        let expected = "{\n  \"Packages\": {\n    \"p\": {\n      \"Debug\": false,\n      \"SignerID\": \"cd\",\n      \
                        \"ProductID\": 3,\n      \"SecurityVersion\": 4\n    }\n  }\n}";
        check(text, Some(By::Signer), expected);
    }

    #[test]
    fn what_is_ambiguous_or_no_manifest_is_refused() {
        for (text, by, expected) in [
            ("{\"Packages\":{\"p\":{\"UniqueID\":\"\"}}}", Some(By::Signer), "without UniqueID"),
            ("{\"Packages\":{\"p\":{\"ProductID\":1}}}", Some(By::UniqueId), "without ProductID"),
            ("{\"Packages\":{},\"PACKAGES\":{}}", None, "Packages: expected one member"),
            ("{\"Packages\":{\"p\":{},\"p\":{}}}", None, "Packages.p: expected one member"),
            ("{\"Packages\":{\"p\":{\"UniqueID\":\"\",\"uniqueID\":\"\"}}}", None, "Packages.p.UniqueID: expected one"),
            ("{\"Packages\":[]}", None, "Packages: expected an object"),
            ("[]", None, "manifest: expected an object"),
            ("Packages: {}", None, "expected a manifest in JSON"),
        ] {
            let error = set_package(text, "p", &IDENTITY, by, &[]).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_of_members_are_compared_as_they_are_written() {
        let text = "{\"Packages\":{\"p\":{\"debug\": true}}}";
        assert!(package_has(text, "p", "Debug", "true"));
        assert!(!package_has(text, "p", "Debug", "false") && !package_has(text, "q", "Debug", "true"));
    }
}
