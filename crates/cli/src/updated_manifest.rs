//! A manifest with the security versions to which package updates raised it.

use marblerun_client::UpdateLogEntry;
use serde::Serialize as _;
use serde_json::{Map, Value};

use crate::failure::Cause;

/// Shows `manifest` with what `log` raised, for people to read: members sorted, those that are unset left out.
///
/// Events before the last update of the whole manifest do not count, and no version is lowered.
pub(crate) fn render(manifest: &[u8], log: &[UpdateLogEntry]) -> Result<String, Cause> {
    let form = |reason: String| Cause::ManifestForm { reason };
    let mut value: Value = serde_json::from_slice(manifest).map_err(|error| form(error.to_string()))?;
    let start = log.iter().rposition(UpdateLogEntry::replaces_manifest).map_or(0, |last| last + 1);
    for entry in log.iter().skip(start) {
        let (Some(name), Some(version)) = (&entry.package, entry.new_version) else { continue };
        let package = member(&mut value, "Packages")
            .and_then(Value::as_object_mut)
            .and_then(|packages| packages.get_mut(name))
            .ok_or_else(|| Cause::LogPackage { package: name.clone() })?;
        if !package.is_object() {
            return Err(form(format!("package {name:?} is no object")));
        }
        match member(package, "SecurityVersion") {
            Some(current) if current.as_u64().is_some_and(|current| current >= version) => {}
            Some(current) => *current = version.into(),
            None => package["SecurityVersion"] = version.into(),
        }
    }
    prune(&mut value);
    value.sort_all_objects();
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| form(error.to_string()))?;
    String::from_utf8(text).map_err(|error| form(error.to_string()))
}

/// A member of an object, by its name without regard to case, as the Coordinator reads it; the last one counts.
fn member<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let object = value.as_object_mut()?;
    let key = object.keys().rfind(|key| key.eq_ignore_ascii_case(name))?.clone();
    object.get_mut(&key)
}

/// Drops members that are `null`, and objects that are empty or become so.
fn prune(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(prune);
            members
                .retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !Map::is_empty(object)));
        }
        Value::Array(elements) => elements.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> UpdateLogEntry {
        UpdateLogEntry::parse(line).unwrap()
    }

    fn raised(package: &str, version: u64) -> UpdateLogEntry {
        entry(&format!(
            r#"{{"time":"t","update":"SecurityVersion increased","user":"u","package":"{package}","new version":{version}}}"#
        ))
    }

    fn versions(manifest: &str, log: &[UpdateLogEntry]) -> Value {
        serde_json::from_str::<Value>(&render(manifest.as_bytes(), log).unwrap()).unwrap()["Packages"].take()
    }

    // rules: CMD-12
    #[test]
    fn versions_are_raised_and_never_lowered() {
        let manifest = r#"{"packages":{"a":{"SecurityVersion":2},"b":{"UniqueID":"00"}}}"#;
        let text = render(manifest.as_bytes(), &[raised("a", 5), raised("a", 3), raised("b", 1)]).unwrap();
        assert_eq!(
            text,
            "{\n    \"packages\": {\n        \"a\": {\n            \"SecurityVersion\": 5\n        },\n        \"b\": {\n            \
             \"SecurityVersion\": 1,\n            \"UniqueID\": \"00\"\n        }\n    }\n}"
        );
    }

    // rules: CMD-12
    #[test]
    fn what_was_raised_before_the_whole_manifest_was_replaced_does_not_count() {
        let manifest = r#"{"Packages":{"a":{"SecurityVersion":4}}}"#;
        let replaced = entry(r#"{"time":"t","update":"Complete Manifest updated","manifestFingerprint":"ff"}"#);
        let log = [raised("gone", 9), raised("a", 9), replaced];
        assert_eq!(versions(manifest, &log)["a"]["SecurityVersion"], 4);
        let error = render(manifest.as_bytes(), &[raised("gone", 9)]).unwrap_err();
        assert!(matches!(error, Cause::LogPackage { .. }), "{error}");
    }

    #[test]
    fn unset_members_are_left_out() {
        let manifest =
            r#"{"Packages":{"a":{"SignerID":"","ProductID":0}},"TLS":{"t":{"x":{}}},"Users":null,"L":[{"y":null}]}"#;
        let value: Value = serde_json::from_str(&render(manifest.as_bytes(), &[]).unwrap()).unwrap();
        assert_eq!(value, serde_json::json!({"Packages": {"a": {"SignerID": "", "ProductID": 0}}, "L": [{}]}));
    }
}
