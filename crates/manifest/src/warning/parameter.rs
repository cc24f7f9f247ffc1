//! Marbles: what they are given. Templates are only searched for names, not run.

use std::collections::BTreeSet;

use marblerun_json::Place;

use super::{WarningCode, Warnings};
use crate::certificate::shorten;
use crate::nearest::nearest;
use crate::schema::{File, Manifest, Marble};

/// Larger messages are refused by the defaults of existing gRPC implementations.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Variables that every Marble gets, whatever the manifest says.
const RESERVED_VARIABLES: [&str; 5] = [
    "MARBLE_PREDEFINED_ROOT_CA",
    "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN",
    "MARBLE_PREDEFINED_PRIVATE_KEY",
    "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA",
    "MARBLE_TTLS_CONFIG",
];

/// Gives the names of secrets that templates mention.
pub(super) fn warn<'m>(manifest: &'m Manifest, warnings: &mut Warnings) -> BTreeSet<&'m str> {
    let mut used = BTreeSet::new();
    for (name, marble) in &manifest.marbles {
        let place = Place::top().member("Marbles").member(name).member("Parameters");
        warn_marble(&place, marble, warnings);
        for (section, contents) in [("Files", &marble.parameters.files), ("Env", &marble.parameters.env)] {
            for (name, content) in contents {
                warn_content(manifest, &place.member(section).member(name), content, &mut used, warnings);
            }
        }
    }
    used
}

fn warn_marble(place: &Place, marble: &Marble, warnings: &mut Warnings) {
    let parameters = &marble.parameters;
    for (index, argument) in parameters.argv.iter().enumerate() {
        if argument.contains("{{") {
            let text = "arguments are passed on as they are, templates in them are not expanded";
            warnings.add(place.member("Argv").index(index), WarningCode::TemplateInArguments, text);
        }
    }
    for name in parameters.env.keys().filter(|name| RESERVED_VARIABLES.contains(&name.as_str())) {
        if name != "MARBLE_TTLS_CONFIG" || !marble.tls.is_empty() {
            let text = "every Marble gets this variable from the Coordinator, this value is replaced";
            warnings.add(place.member("Env").member(name), WarningCode::ReservedVariable, text);
        }
    }
    let contents = parameters.files.iter().chain(&parameters.env).map(|(name, file)| name.len() + file.data.len());
    let total: usize = contents.chain(parameters.argv.iter().map(String::len)).sum();
    if total > MAX_MESSAGE_BYTES {
        let text = format!("{total} bytes; Marbles of MarbleRun v1.9.1 can receive at most {MAX_MESSAGE_BYTES}");
        warnings.add(place.clone(), WarningCode::LargeParameters, text);
    }
}

fn warn_content<'m>(
    manifest: &'m Manifest,
    place: &Place,
    content: &File,
    used: &mut BTreeSet<&'m str>,
    warnings: &mut Warnings,
) {
    let text = String::from_utf8_lossy(&content.data);
    if text.trim() == "<no value>" {
        let text = "the value is what an expanded template leaves of an unknown name";
        warnings.add(place.clone(), WarningCode::ExpandedTemplate, text);
    }
    if content.no_templates {
        return;
    }
    if text.contains(r#"{{ "{{" }}"#) || text.contains("{{\"{{\"}}") {
        let text = "the template yields the text of a template; it is expanded only once";
        warnings.add(place.clone(), WarningCode::ExpandedTemplate, text);
    }
    for action in actions(&text) {
        // A name that a template quotes is meant as a key: `index .Secrets "my-key"`.
        let quoted = action.split('"').skip(1).step_by(2).chain(action.split('`').skip(1).step_by(2));
        used.extend(quoted.filter_map(|name| manifest.secrets.get_key_value(name)).map(|(name, _)| name.as_str()));
        // A template that goes over all secrets uses all of them.
        if used.len() < manifest.secrets.len() && whole_map(action) {
            used.extend(manifest.secrets.keys().map(String::as_str));
        }
        for field in fields(action, ".Secrets.") {
            match manifest.secrets.get_key_value(field) {
                Some((name, _)) => {
                    used.insert(name);
                }
                None => warn_reference(manifest, place, field, warnings),
            }
        }
    }
}

fn warn_reference(manifest: &Manifest, place: &Place, field: &str, warnings: &mut Warnings) {
    if warnings.is_full() {
        return;
    }
    let names = || manifest.secrets.keys().map(String::as_str);
    let with_dash = names().find(|name| name.strip_prefix(field).is_some_and(|rest| rest.starts_with(['-', ' ', '.'])));
    let mut text = format!("there is no secret {:?}", shorten(field));
    if let Some(name) = with_dash {
        text.push_str(&format!("; for {name:?} write: index .Secrets {name:?}"));
    } else if let Some(name) = nearest(field, names()) {
        text.push_str(&format!("; did you mean {name:?}?"));
    }
    warnings.add(place.clone(), WarningCode::UnknownSecretReference, text);
}

/// The texts between `{{` and `}}`.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or(rest))
}

/// The identifiers that follow `prefix`.
fn fields<'a>(action: &'a str, prefix: &'static str) -> impl Iterator<Item = &'a str> {
    action.split(prefix).skip(1).filter_map(|rest| {
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })
}

/// True if the map of secrets itself is used, as in `range .Secrets`.
fn whole_map(action: &str) -> bool {
    action.split(".Secrets").skip(1).any(|rest| !rest.starts_with('.') && !rest.trim_start().starts_with(['"', '`']))
}
