//! Changing a package in the text of a manifest, and nothing else in it.

use marblerun_enclave_image::prepare::json_text::{self, Edits, JsonTextError, Kind, Value as Json, quoted};
use marblerun_json::folds_to;

use crate::args::package_info::By;

const PACKAGES: &str = "Packages";
/// How many zeros stand for a `UniqueID` that is not known yet.
const PLACEHOLDER_DIGITS: usize = 64;

/// Why a manifest's text cannot be changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("expected a manifest in JSON")]
    NotJson(#[from] JsonTextError),
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

/// Writes the members of `identity` by which a package names its enclave, if it does; else those of `by`, or the one that
/// names a single enclave. A package that does not exist is added, with the members in `extra`. The zeros that `occlum init`
/// writes for a `UniqueID` name nothing: with another `by` they go.
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
    let manifest = json_text::parse(text)?;
    let packages = member(&manifest, "manifest", PACKAGES, is_field)?;
    let package = match packages {
        Some(packages) => member(packages, PACKAGES, name, is_entry)?,
        None => None,
    };
    let place = format!("{PACKAGES}.{name}");
    let unnamed = match package {
        Some(package) if by == Some(By::Signer) => without_placeholder(text, package),
        _ => None,
    };
    if let Some((package, others)) = package.zip(unnamed) {
        let wanted = identity.iter().filter(|(member, _)| By::Signer.members().contains(member));
        let wanted = wanted.map(|(name, value)| format!("{}: {value}", quoted(name)));
        let members: Vec<_> = wanted.chain(others).collect();
        let mut edits = Edits::default();
        edits.replace(package, &format!("{{{}}}", members.join(", ")));
        return Ok((edits.apply(text), false));
    }
    let by = match package {
        Some(package) => identity_of(package, &place, by)?,
        None => by.unwrap_or(By::UniqueId),
    };
    let wanted = || identity.iter().filter(|(member, _)| by.members().contains(member));
    let mut edits = Edits::default();
    match (packages, package) {
        (_, Some(package)) if is_empty(package) => edits.replace(package, &object(wanted())),
        (_, Some(package)) => {
            for (name, value) in wanted() {
                match member(package, &place, name, is_field)? {
                    Some(old) => edits.replace(old, value),
                    None => edits.append_member(text, package, name, value),
                }
            }
        }
        (Some(packages), None) => edits.append_member(text, packages, name, &object(wanted().chain(extra))),
        (None, None) => {
            let package = object(wanted().chain(extra));
            edits.append_member(text, &manifest, PACKAGES, &format!("{{{}: {package}}}", quoted(name)));
        }
    }
    Ok((edits.apply(text), package.is_none()))
}

/// Whether a package in the text has a member with this value.
pub(crate) fn package_has(text: &str, name: &str, field: &'static str, value: &str) -> bool {
    let has = || {
        let manifest = json_text::parse(text).ok()?;
        let packages = member(&manifest, "", PACKAGES, is_field).ok()??;
        let package = member(packages, "", name, is_entry).ok()??;
        let found = member(package, "", field, is_field).ok()??;
        text.get(found.span.clone())
    };
    has() == Some(value)
}

/// Whether the package in the text names the enclave by the placeholder of `occlum init`.
pub(crate) fn has_placeholder(text: &str, name: &str) -> bool {
    let has = || {
        let manifest = json_text::parse(text).ok()?;
        let packages = member(&manifest, "", PACKAGES, is_field).ok()??;
        without_placeholder(text, member(packages, "", name, is_entry).ok()??)
    };
    has().is_some()
}

/// The members of a package as they are written, without the `UniqueID`, if that is the placeholder.
fn without_placeholder(text: &str, package: &Json) -> Option<Vec<String>> {
    let Kind::Object(members) = &package.kind else { return None };
    let is_placeholder = |value: &Json| {
        value
            .string()
            .is_some_and(|digits| digits.len() == PLACEHOLDER_DIGITS && digits.bytes().all(|digit| digit == b'0'))
    };
    let (unique_ids, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| is_field(&member.name, "UniqueID"));
    matches!(unique_ids[..], [member] if is_placeholder(&member.value)).then_some(())?;
    others.iter().map(|member| text.get(member.start..member.value.span.end).map(str::to_owned)).collect()
}

/// How a package names its enclave, which must not be another way than what is asked for.
fn identity_of(package: &Json, place: &str, by: Option<By>) -> Result<By, EditError> {
    for there in [By::UniqueId, By::Signer] {
        for name in there.members() {
            if member(package, place, name, is_field)?.is_some() {
                return match by {
                    Some(by) if by != there => Err(EditError::OtherIdentity { place: place.to_owned(), member: name }),
                    _ => Ok(there),
                };
            }
        }
    }
    Ok(by.unwrap_or(By::UniqueId))
}

/// Names of structures match as in Go.
fn is_field(written: &str, name: &str) -> bool {
    folds_to(written, name)
}

/// Names of map entries are data.
fn is_entry(written: &str, name: &str) -> bool {
    written == name
}

/// The only member of an object whose name matches; `place` is the object's.
fn member<'v>(
    object: &'v Json,
    place: &str,
    name: &str,
    matches: fn(&str, &str) -> bool,
) -> Result<Option<&'v Json>, EditError> {
    let Kind::Object(members) = &object.kind else {
        return Err(EditError::NotObject { place: place.to_owned() });
    };
    let mut found = members.iter().filter(|member| matches(&member.name, name));
    match (found.next(), found.next()) {
        (_, Some(_)) if place == "manifest" => Err(EditError::Twice { place: name.to_owned() }),
        (_, Some(_)) => Err(EditError::Twice { place: format!("{place}.{name}") }),
        (member, None) => Ok(member.map(|member| &member.value)),
    }
}

fn is_empty(object: &Json) -> bool {
    matches!(&object.kind, Kind::Object(members) if members.is_empty())
}

/// Members as an object in one line.
fn object<'a>(members: impl Iterator<Item = &'a Value<'a>>) -> String {
    let members: Vec<_> = members.map(|(name, value)| format!("{}: {value}", quoted(name))).collect();
    format!("{{{}}}", members.join(", "))
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
        let expected = "{\"Packages\":{\"p\":{\"SecurityVersion\":4,\"SignerID\":\"cd\",\"ProductID\": 3}}}";
        check(text, None, expected);
        check(text, Some(By::Signer), expected);
        // Nothing changes the second time.
        check(expected, None, expected);
    }

    #[test]
    fn what_is_missing_is_added_as_the_rest_is_written() {
        let text = "{\n\t\"Packages\": {\n\t\t\"o\": {}\n\t},\n\t\"Marbles\": {}\n}\n";
        let expected = "{\n\t\"Packages\": {\n\t\t\"o\": {},\n\t\t\"p\": {\"UniqueID\": \"ab\", \"Debug\": \
                        true}\n\t},\n\t\"Marbles\": {}\n}\n";
        check(text, None, expected);
        check("{}", Some(By::UniqueId), "{\"Packages\": {\"p\": {\"UniqueID\": \"ab\", \"Debug\": true}}}");
        let text = "{\n  \"Packages\": {\n    \"p\": {\n      \"Debug\": false\n    }\n  }\n}";
        let expected = "{\n  \"Packages\": {\n    \"p\": {\n      \"Debug\": false,\n      \"SignerID\": \"cd\",\n      \
                        \"ProductID\": 3,\n      \"SecurityVersion\": 4\n    }\n  }\n}";
        check(text, Some(By::Signer), expected);
    }

    #[test]
    fn the_placeholder_of_a_unique_id_gives_way_to_the_signer() {
        let zeros = "0".repeat(64);
        let text = format!(
            "{{\"Packages\": {{\n  \"p\": {{\n    \"UniqueID\": \"{zeros}\",\n    \"Debug\" :true\n  }}}}, \"a\": 1}}"
        );
        let expected = "{\"Packages\": {\n  \"p\": {\"SignerID\": \"cd\", \"ProductID\": 3, \"SecurityVersion\": 4, \
                        \"Debug\" :true}}, \"a\": 1}";
        check(&text, Some(By::Signer), expected);
        check(&text, None, &text.replace(&zeros, "ab"));
        let error = set_package(&text.replacen('0', "1", 1), "p", &IDENTITY, Some(By::Signer), &[]).unwrap_err();
        assert!(error.to_string().contains("without UniqueID"), "{error}");
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
