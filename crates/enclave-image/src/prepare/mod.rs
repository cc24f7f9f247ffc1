//! Making an existing instance a Marble with the smallest change.
//!
//! [`plan`] looks and decides, [`Preparation::apply`] does. Only what a Marble needs is added: the premain and what it loads,
//! as the only program that the host may start; the names of its variables; a place for its UUID; the Coordinator's pin;
//! larger sizes where they would not hold premain and program together. `Occlum.json` is edited as text, so that order,
//! unknown members, indentation and numbers stay as they are. The program's own files are never touched.

pub mod diff;
mod files;
pub mod json_text;
mod sizes;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub use files::{Change, FileChange};

use self::files::Addition;
use self::json_text::{Edits, Value, quoted};
use crate::image_tree::ImageTree;
use crate::init::writer::{ImageWriter, open_regular};
use crate::init::{InitError, Libc, PREMAIN_PATH, UNTRUSTED_NAMES, UUID_FILE};
use crate::occlum_json::{ConfigError, MAX_LEN, OcclumJson};

const CONFIGURATION: &str = "Occlum.json";
const IMAGE: &str = "image";
/// The configuration as it was before the first preparation. Never overwritten.
pub const BACKUP: &str = "Occlum.json.before-marblerun";

const MARBLE_TYPE: &str = "EDG_MARBLE_TYPE";
const UUID_VARIABLE: &str = "EDG_MARBLE_UUID_FILE";

/// What decides how an instance is prepared.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The instance directory.
    pub directory: &'a Path,
    /// The premain on this machine.
    pub premain: &'a Path,
    /// Where the C library comes from, if the image lacks what the premain needs.
    pub libc: &'a Libc,
    /// The Marble's type. `None`: the one that the instance has, or the directory's name.
    pub marble: Option<&'a str>,
    /// The program's path inside, which makes the sizes exact.
    pub program: Option<&'a str>,
    /// SHA-256 of the DER of the Coordinator's root certificate. `None`: an existing pin stays.
    pub root_sha256: Option<[u8; 32]>,
    /// Bytes of the variables that the manifest adds; `None`: the default of [`crate::sizing`].
    pub manifest_environment_bytes: Option<u64>,
}

/// What would change. Nothing has changed yet.
#[derive(Debug)]
pub struct Preparation {
    directory: PathBuf,
    old: String,
    new: String,
    additions: Vec<Addition>,
    has_pin: bool,
    raised: Vec<crate::sizing::Figure>,
}

/// Decides what an instance lacks.
///
/// # Errors
/// [`InitError`]: the instance cannot be read, or the premain cannot run in its image.
pub fn plan(request: &Request<'_>) -> Result<Preparation, InitError> {
    let path = request.directory.join(CONFIGURATION);
    let old = read_text(&path)?;
    let shape = serde_json::from_str::<OcclumJson>(&old);
    let config =
        shape.map_err(|error| InitError::Configuration { path: path.clone(), source: ConfigError::Json(error) })?;
    let root = json_text::parse(&old).map_err(|source| InitError::Json { path: path.clone(), source })?;
    let image = request.directory.join(IMAGE);
    fs::read_dir(&image).map_err(InitError::io("read", &image))?;
    let tree = ImageTree::new(&image);

    let mut edits = Edits::default();
    let entry_points = member(&root, &["entry_points"], &path)?;
    if config.entry_points != [PREMAIN_PATH] {
        edits.replace_elements(entry_points, &quoted(PREMAIN_PATH));
    }
    let uuid_file = edit_environment(request, &config, &root, &old, &path, &mut edits)?;
    let found = files::find(request, &tree, &image, &uuid_file)?;
    // With the variables that are added: a second run must find that nothing is too small.
    let edited: OcclumJson = serde_json::from_str(&edits.clone().apply(&old))
        .map_err(|error| InitError::Configuration { path: path.clone(), source: ConfigError::Json(error) })?;
    let raised = sizes::raise(request, &edited, &found, &tree)?;
    for figure in &raised {
        let names: Vec<_> = figure.member.split('.').collect();
        let json = match figure.unit {
            crate::sizing::Unit::Bytes => quoted(&figure.text()),
            crate::sizing::Unit::Count => figure.text(),
        };
        edits.replace(member(&root, &names, &path)?, &json);
    }
    Ok(Preparation {
        directory: request.directory.to_owned(),
        new: edits.apply(&old),
        old,
        has_pin: found.has_pin,
        additions: found.additions,
        raised,
    })
}

fn read_text(path: &Path) -> Result<String, InitError> {
    let file = open_regular(path).map_err(InitError::io("read", path))?;
    let mut text = String::new();
    let len = file.take(MAX_LEN + 1).read_to_string(&mut text).map_err(InitError::io("read", path))?;
    if len as u64 > MAX_LEN {
        let got = "more".to_owned();
        return Err(InitError::Value { what: CONFIGURATION, expected: "at most 1 MiB", got });
    }
    Ok(text)
}

/// A member that the shape of the file promises.
fn member<'v>(root: &'v Value, names: &[&str], path: &Path) -> Result<&'v Value, InitError> {
    root.at(names).ok_or_else(|| InitError::Value {
        what: CONFIGURATION,
        expected: "the members that `occlum new` writes",
        got: format!("{} without {}", path.display(), names.join(".")),
    })
}

/// Adds the variables of a Marble. Returns the path of the UUID file.
fn edit_environment(
    request: &Request<'_>,
    config: &OcclumJson,
    root: &Value,
    text: &str,
    path: &Path,
    edits: &mut Edits,
) -> Result<String, InitError> {
    let default = member(root, &["env", "default"], path)?;
    let untrusted = member(root, &["env", "untrusted"], path)?;
    let value_of = |name: &str| {
        let entry =
            config.env.default.iter().position(|entry| entry.split_once('=').is_some_and(|(own, _)| own == name));
        entry.map(|index| (index, config.env.default[index].split_once('=').map_or("", |(_, value)| value)))
    };
    let is_untrusted = |name: &str| config.env.untrusted.iter().any(|own| own == name);

    let mut new = Vec::new();
    match (value_of(MARBLE_TYPE), request.marble) {
        (Some((index, value)), Some(marble)) if value != marble => {
            let element = default.elements().and_then(|elements| elements.get(index));
            if let Some(element) = element {
                edits.replace(element, &quoted(&format!("{MARBLE_TYPE}={}", checked(marble)?)));
            }
        }
        (None, Some(marble)) => new.push(quoted(&format!("{MARBLE_TYPE}={}", checked(marble)?))),
        // Where the host may choose the type, the measurement still decides.
        (None, None) if !is_untrusted(MARBLE_TYPE) => {
            let directory = std::path::absolute(request.directory).map_err(InitError::io("find", request.directory))?;
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            new.push(quoted(&format!("{MARBLE_TYPE}={}", checked(&name)?)));
        }
        _ => {}
    }
    let uuid_file = match value_of(UUID_VARIABLE) {
        Some((_, value)) if !value.is_empty() => value.to_owned(),
        _ => {
            new.push(quoted(&format!("{UUID_VARIABLE}={UUID_FILE}")));
            UUID_FILE.to_owned()
        }
    };
    edits.append_elements(text, default, &new);
    let names: Vec<_> = UNTRUSTED_NAMES.iter().filter(|name| !is_untrusted(name)).map(|name| quoted(name)).collect();
    edits.append_elements(text, untrusted, &names);
    Ok(uuid_file)
}

fn checked(marble: &str) -> Result<&str, InitError> {
    if marble.is_empty() || marble.contains(['\0', '/']) {
        return Err(InitError::Value { what: "Marble", expected: "a name without \"/\"", got: marble.to_owned() });
    }
    Ok(marble)
}

impl Preparation {
    /// True if the instance is prepared already.
    pub fn is_empty(&self) -> bool {
        self.old == self.new && self.additions.is_empty()
    }

    /// The change of `Occlum.json` in the unified format; empty if there is none.
    pub fn diff(&self) -> String {
        diff::unified(CONFIGURATION, &self.old, &format!("{CONFIGURATION} (prepared)"), &self.new)
    }

    /// Files and directories that are added to the image or replaced in it, and the backup.
    pub fn files(&self) -> Vec<FileChange> {
        let mut files: Vec<_> = self.additions.iter().map(Addition::change).collect();
        if self.old != self.new && !self.directory.join(BACKUP).exists() {
            files.push(FileChange { path: BACKUP.to_owned(), change: Change::New });
        }
        files
    }

    /// The sizes that are raised, with their sums.
    pub fn raised(&self) -> &[crate::sizing::Figure] {
        &self.raised
    }

    /// True if the image pins a Coordinator afterwards.
    pub fn has_pin(&self) -> bool {
        self.has_pin
    }

    /// Changes the instance: the image first, `Occlum.json` last and in one step.
    ///
    /// # Errors
    /// [`InitError`]. What is in the image then does no harm; a second run completes it.
    pub fn apply(&self) -> Result<(), InitError> {
        let path = self.directory.join(CONFIGURATION);
        if read_text(&path)? != self.old {
            return Err(InitError::ChangedMeanwhile(path));
        }
        let writer = ImageWriter::new(self.directory.join(IMAGE));
        for addition in &self.additions {
            addition.write(&writer)?;
        }
        if self.old == self.new {
            return Ok(());
        }
        let mode = path.metadata().map_err(InitError::io("read", &path))?.permissions().mode() & 0o777;
        let backup = self.directory.join(BACKUP);
        if !backup.exists() {
            put(&backup, &self.old, mode)?;
        }
        put(&path, &self.new, mode)?;
        let directory = fs::File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(InitError::io("write", &self.directory))
    }
}

/// Puts a file in its place in one step, flushed.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), InitError> {
    // Always the same name, so that what a killed run left over is taken away by the next.
    let temporary = path.with_file_name(".Occlum.json.marblerun-new");
    let _ = fs::remove_file(&temporary);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // What is left over of a failure is only clutter.
        let _ = fs::remove_file(&temporary);
        InitError::io("write", path)(source)
    })
}

#[cfg(test)]
mod tests;
