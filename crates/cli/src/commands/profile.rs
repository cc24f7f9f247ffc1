//! `profile`: adding, showing, removing and choosing profiles.
//!
//! JSON: a profile is `{"name": text, "default": boolean, "address": text, "eraConfig": text or null,
//! "trustSoftwareRoot": [text], "collateral": text or null, "cert": text or null, "key": text or null}`. `add`, `show` and
//! `use` give one, `list` gives `{"profiles": [...]}`, `remove` and `use --none` give `{}`. `show` adds `"rootSHA256"`
//! (hexadecimal text or null) and `"state"` (null, or what was seen last).

use aws_lc_rs::digest::{SHA256, digest};
use marblerun_client::Address;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::profile::{AddArguments, ProfileCommand};
use crate::cache;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::head::Head;
use crate::output::Output;
use crate::profile::{Name, Profile, Store, absolute};

pub(crate) fn run(global: &Global, command: &ProfileCommand, output: &mut Output) -> Result<ExitStatus, Failure> {
    let store = Store::of_user()?;
    match command {
        ProfileCommand::Add(arguments) => add(global, &store, arguments, output)?,
        ProfileCommand::List { .. } => list(&store, output)?,
        ProfileCommand::Show { name, .. } => show(&store, name, output)?,
        ProfileCommand::Remove { name, .. } => {
            store.read(name)?;
            store.remove(name)?;
            done(&format!("Profile {name} removed"), json!({}), output)?;
        }
        ProfileCommand::Use { name: Some(name), .. } => {
            let profile = store.read(name)?;
            store.set_default(Some(name))?;
            done(&format!("Profile {name} is the default"), to_json(name, &profile, true), output)?;
        }
        ProfileCommand::Use { name: None, .. } => {
            store.set_default(None)?;
            done("No profile is the default", json!({}), output)?;
        }
    }
    Ok(ExitStatus::Success)
}

fn done(line: &str, value: Value, output: &mut Output) -> std::io::Result<()> {
    if output.is_json() { output.json(&value) } else { output.line(line) }
}

fn add(global: &Global, store: &Store, arguments: &AddArguments, output: &mut Output) -> Result<(), Failure> {
    let AddArguments { name, address, cert, key, replace, .. } = arguments;
    if global.insecure {
        return Err(Cause::Flags("--insecure is never kept in a profile").into());
    }
    if store.contains(name) && !replace {
        return Err(Cause::ProfileExists { name: name.to_string() }.into());
    }
    Address::parse(address)?;
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(absolute).transpose();
    let profile = Profile {
        address: address.clone(),
        era_config: path(&global.era_config)?,
        software_roots: global.trust_software_root.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
        collateral: path(&global.collateral)?,
        cert: path(cert)?,
        key: path(key)?,
    };
    // Read before anything is written: it may be unverified.
    let certificates = match &global.coordinator_cert {
        None => None,
        Some(path) => match cache::read(path, UnixTime::now())? {
            None => return Err(Cause::NoCache { path: path.clone() }.into()),
            chain => chain,
        },
    };
    store.write(name, &profile)?;
    if let Some(chain) = certificates {
        files::write("certificate cache", &store.certificates(name), chain.to_pem().as_bytes())?;
    }
    if let Some(warning) = profile.warning(name) {
        output.warn(&warning)?;
    }
    for path in profile.paths().filter(|path| !std::path::Path::new(path).exists()) {
        output.warn(&format!("there is no {path}"))?;
    }
    let is_default = store.default()?.as_ref() == Some(name);
    done(&format!("Profile {name} saved"), to_json(name, &profile, is_default), output)?;
    Ok(())
}

fn list(store: &Store, output: &mut Output) -> Result<(), Failure> {
    let default = store.default()?;
    let mut profiles = Vec::new();
    for name in store.names()? {
        let profile = store.read(&name)?;
        let is_default = default.as_ref() == Some(&name);
        if output.is_json() {
            profiles.push(to_json(&name, &profile, is_default));
        } else {
            let mark = if is_default { '*' } else { ' ' };
            output.line(&format!("{mark} {name}\t{}", profile.address))?;
        }
    }
    if output.is_json() {
        output.json(&json!({"profiles": profiles}))?;
    }
    Ok(())
}

fn show(store: &Store, name: &Name, output: &mut Output) -> Result<(), Failure> {
    let profile = store.read(name)?;
    let is_default = store.default()?.as_ref() == Some(name);
    let chain = cache::read(&store.certificates(name), UnixTime::now())?;
    let root = chain.map(|chain| hex::encode(digest(&SHA256, chain.root())));
    let head = Head::read(&store.head(name))?;
    if output.is_json() {
        let mut value = to_json(name, &profile, is_default);
        value["rootSHA256"] = root.into();
        value["state"] = head.map_or(Value::Null, |head| head.to_json());
        output.json(&value)?;
        return Ok(());
    }
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    let software_roots = (!profile.software_roots.is_empty()).then(|| profile.software_roots.join(", "));
    let state = head.map(|head| {
        format!("deployment {}, epoch {}, sequence {}, hash {}", head.deployment, head.epoch, head.sequence, head.hash)
    });
    for (label, value) in [
        ("Name", name.to_string()),
        ("Default", if is_default { "yes" } else { "no" }.to_owned()),
        ("Address", profile.address.clone()),
        ("Expected measurements", or_none(&profile.era_config)),
        ("Software roots", or_none(&software_roots)),
        ("Collateral", or_none(&profile.collateral)),
        ("User certificate", or_none(&profile.cert)),
        ("User key", or_none(&profile.key)),
        ("Root certificate (SHA-256)", or_none(&root)),
        ("Newest state seen", or_none(&state)),
    ] {
        output.line(&format!("{label}: {value}"))?;
    }
    if let Some(warning) = profile.warning(name) {
        output.warn(&warning)?;
    }
    Ok(())
}

fn to_json(name: &Name, profile: &Profile, is_default: bool) -> Value {
    let mut value = profile.to_json();
    value["name"] = name.to_string().into();
    value["default"] = is_default.into();
    value
}
