//! The manifest's entry beside the instance, and what the image says about Coordinators.

use std::collections::HashMap;
use std::error::Error;

use marblerun_manifest::{AzureHsm, Package};
use marblerun_marble::pin::PIN_PATH;
use marblerun_marble::restrictions::RESTRICTIONS_PATH;
use marblerun_marble::{CoordinatorPin, Parameters, Restrictions, config};

use super::configuration::{Configuration, normalized};
use super::delivered::holds_secret;
use super::finding::{Findings, Place, shown};
use super::programs::Found;
use super::rule::Rule;
use super::{Entry, INIT_IMAGE};
use crate::image_tree::ImageTree;
use crate::signer::PublishedKey;

/// Where the UUID is kept if nobody says otherwise: the working directory is `/`.
const DEFAULT_UUID_FILE: &str = "/uuid";

/// The pin of a premain that is Occlum's init.
pub(super) fn check_init_pin(init_image: &ImageTree, findings: &mut Findings) {
    check_pin(init_image, Place::Instance(format!("{INIT_IMAGE}{PIN_PATH}")), findings);
}

fn check_pin(image: &ImageTree, place: Place, findings: &mut Findings) {
    match image.find(PIN_PATH) {
        None => findings.add(Rule::NoPin, place, "there is no such file"),
        Some(file) => {
            if let Err(error) = CoordinatorPin::read(&file.outside) {
                findings.add(Rule::PinFile, place, chain(&error));
            }
        }
    }
}

/// What the image says about Coordinators.
pub(super) fn check_image(image: &ImageTree, entry: Option<&Entry<'_>>, findings: &mut Findings) {
    check_pin(image, Place::Image(PIN_PATH.to_owned()), findings);
    let Some(file) = image.find(RESTRICTIONS_PATH) else { return };
    let restrictions = match Restrictions::read(&file.outside) {
        Ok(restrictions) => restrictions,
        Err(error) => {
            findings.add(Rule::RestrictionsFile, Place::Image(RESTRICTIONS_PATH.to_owned()), chain(&error));
            return;
        }
    };
    let Some(entry) = entry else { return };
    let sent = &entry.marble.parameters;
    // One at a time, so that each thing that is not allowed is told.
    let only = Parameters { argv: sent.argv.clone(), ..Parameters::default() };
    let mut attempts = vec![("Argv".to_owned(), only)];
    for path in sent.files.keys() {
        let files = HashMap::from([(path.clone(), Vec::new())]);
        let argv = sent.argv.clone();
        attempts.push((
            format!("Files.{path}"),
            Parameters { files: files.into_iter().collect(), argv, ..Parameters::default() },
        ));
    }
    for name in sent.env.keys() {
        let env = HashMap::from([(name.clone(), Vec::new())]);
        let argv = sent.argv.clone();
        attempts.push((
            format!("Env.{name}"),
            Parameters { env: env.into_iter().collect(), argv, ..Parameters::default() },
        ));
    }
    let mut is_program_allowed = true;
    for (index, (member, parameters)) in attempts.iter().enumerate() {
        if let Err(error) = restrictions.check(parameters)
            && (index == 0 || is_program_allowed)
        {
            is_program_allowed = index > 0;
            findings.add(Rule::Restricted, entry.place(&format!("Parameters.{member}")), chain(&error));
        }
    }
}

/// The entry beside the instance. The program itself is judged elsewhere.
pub(super) fn check_entry(
    image: &ImageTree,
    configuration: &Configuration,
    entry: &Entry<'_>,
    premain: Option<&Found>,
    findings: &mut Findings,
) {
    if let Err(error) = entry.manifest.check(AzureHsm::Available) {
        let place = error.place();
        findings.add(Rule::ManifestRefused, Place::Manifest(place.as_str().to_owned()), chain(&error));
    }
    // The init stage takes a key and variables, and starts no program.
    let is_init = configuration.default_value(config::INIT_TYPE) == Some(entry.name);
    let name = configuration.default_value(config::MARBLE_TYPE).filter(|_| !is_init);
    if let Some(name) = name.filter(|name| *name != entry.name && !configuration.is_untrusted(config::MARBLE_TYPE)) {
        let place = Place::OcclumJson("env.default".to_owned());
        findings.add(
            Rule::MarbleTypeMismatch,
            place,
            format!("{}={name}, the entry is {:?}", config::MARBLE_TYPE, entry.name),
        );
    }
    if !entry.marble.tls.is_empty() {
        findings.add(Rule::TransparentTls, entry.place("TLS"), format!("it lists {}", entry.marble.tls.join(", ")));
    }
    if !is_init {
        program(image, configuration, entry, premain, findings);
    }
    files(image, configuration, entry, findings);
    if let Some(package) = entry.package {
        check_package(configuration, entry, package, findings);
    }
}

fn program(
    image: &ImageTree,
    configuration: &Configuration,
    entry: &Entry<'_>,
    premain: Option<&Found>,
    findings: &mut Findings,
) {
    let place = || entry.place("Parameters.Argv");
    let Some(path) = entry.marble.parameters.argv.first() else {
        findings.add(Rule::NoProgram, place(), "it is empty");
        return;
    };
    if !path.starts_with('/') {
        findings.add(Rule::RelativeProgram, place(), format!("expected an absolute path, got {}", shown(path)));
    }
    if let Some((_, mount, _)) = host_mount(configuration, path) {
        findings.add(Rule::HostProgram, place(), format!("{} lies in the hostfs mount {mount}", shown(path)));
    }
    let inside = image.find(path).map(|file| file.inside);
    if premain.is_some_and(|premain| Some(&premain.path) == inside.as_ref()) {
        findings.add(Rule::ProgramIsPremain, place(), format!("{} is the premain", shown(path)));
    }
}

/// The `hostfs` mount below which a path lies.
fn host_mount<'config>(
    configuration: &'config Configuration,
    path: &str,
) -> Option<&'config (String, String, Option<String>)> {
    let path = normalized(path);
    configuration.mounts.host.iter().find(|(_, target, _)| is_below(&path, target))
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn files(image: &ImageTree, configuration: &Configuration, entry: &Entry<'_>, findings: &mut Findings) {
    for (path, file) in &entry.marble.parameters.files {
        let place = || entry.place(&format!("Parameters.Files.{path}"));
        if let Some((_, mount, _)) = host_mount(configuration, path)
            && holds_secret(file)
        {
            findings.add(Rule::SecretOnHost, place(), format!("a secret goes to the hostfs mount {mount}"));
        }
        let inside = normalized(path);
        if is_below(&inside, "/proc") || is_below(&inside, "/dev") {
            findings.add(Rule::FilePlace, place(), format!("{} is no place for files", shown(path)));
        } else if image.find(path).is_some_and(|found| found.metadata.is_dir()) {
            findings.add(Rule::FilePlace, place(), format!("the image has a directory {}", shown(path)));
        }
    }
}

/// Where the UUID is kept.
pub(super) fn check_uuid(image: &ImageTree, configuration: &Configuration, findings: &mut Findings) {
    let measured = configuration.defaults.iter().find(|(_, entry)| entry.starts_with(config::UUID_FILE));
    let value = configuration.default_value(config::UUID_FILE).filter(|value| !value.is_empty());
    if value.is_none() && configuration.is_untrusted(config::UUID_FILE) {
        // Only the host knows.
        return;
    }
    let place = Place::OcclumJson(measured.map_or_else(|| "env.default".to_owned(), |(place, _)| place.clone()));
    let path = normalized(value.unwrap_or(DEFAULT_UUID_FILE));
    let directory =
        path.rsplit_once('/').map_or("/", |(directory, _)| if directory.is_empty() { "/" } else { directory });
    let mounts = &configuration.mounts;
    if is_below(&path, "/proc") || is_below(&path, "/dev") && !is_below(&path, "/dev/shm") {
        findings.add(Rule::UuidFile, place, format!("{} is no place for files", shown(&path)));
        return;
    }
    let is_on = |targets: &[String]| targets.iter().any(|target| is_below(&path, target));
    if host_mount(configuration, &path).is_some() || is_on(&mounts.disks) {
        return;
    }
    if is_on(&mounts.memory) || is_below(&path, "/dev/shm") {
        findings.add(Rule::UuidLost, place, format!("{} lies in memory", shown(&path)));
        return;
    }
    match image.find(&path) {
        Some(found) if found.metadata.is_dir() => {
            findings.add(Rule::UuidFile, place, format!("{} is a directory", shown(&path)));
            return;
        }
        Some(_) => {}
        None if !image.find(directory).is_some_and(|found| found.metadata.is_dir()) => {
            findings.add(Rule::UuidFile, place, format!("the image has no directory {}", shown(directory)));
            return;
        }
        None => {}
    }
    if mounts.is_temporary {
        findings.add(Rule::UuidLost, place, format!("{} lies in a layer that is empty at every start", shown(&path)));
    }
}

fn check_package(configuration: &Configuration, entry: &Entry<'_>, package: &Package, findings: &mut Findings) {
    let place = |member: &str| Place::Manifest(format!("Packages.{}.{member}", entry.marble.package));
    match (configuration.is_debuggable, package.debug) {
        (true, false) => {
            findings.add(Rule::PackageDebug, place("Debug"), "the instance is debuggable, the package says no")
        }
        (false, true) => findings.add(Rule::DebugAllowed, place("Debug"), "it is true"),
        _ => {}
    }
    if let (Some(wanted), Some(got)) = (package.product_id, configuration.product_id)
        && wanted != u64::from(got)
    {
        let reason = format!("the package wants {wanted}, metadata.product_id is {got}");
        findings.add(Rule::PackageProperties, place("ProductID"), reason);
    }
    if let (Some(wanted), Some(got)) = (package.security_version, configuration.version_number)
        && wanted > u64::from(got)
    {
        let reason = format!("the package wants at least {wanted}, metadata.version_number is {got}");
        findings.add(Rule::PackageProperties, place("SecurityVersion"), reason);
    }
    if package.unique_id.is_empty() {
        findings.add(Rule::PackageOpen, place("UniqueID"), "it is not given");
    } else if is_placeholder(&package.unique_id) {
        findings.add(Rule::PlaceholderId, place("UniqueID"), "it is all zeros");
    }
    if let Some(key) = parse_id(&package.signer_id).as_ref().and_then(PublishedKey::of) {
        findings.add(Rule::PublishedSignerId, place("SignerID"), format!("it is {key}"));
    }
}

/// True for the value that stands in until the instance is measured.
pub(super) fn is_placeholder(unique_id: &str) -> bool {
    !unique_id.is_empty() && unique_id.bytes().all(|byte| byte == b'0')
}

/// 64 hexadecimal digits of either case.
pub(super) fn parse_id(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut id = [0; 32];
    for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(id)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
