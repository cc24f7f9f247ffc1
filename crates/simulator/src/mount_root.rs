//! Occlum's system call 363 (`MountRootFS`), with which the init stage mounts the root of the application.
//!
//! It succeeds once; after that it answers EPERM, for the init stage and for every program. A mount that failed may be
//! repeated. Paths of other layers and of a host directory, which the root configuration may name, are not simulated.
//! Sources: Occlum's `src/libos/src/config.rs` and `src/libos/src/fs/syscalls.rs`.

use std::cell::RefCell;
use std::io;

use marblerun_linux::memory;
use marblerun_linux::occlum::{IMAGE_KEY_LEN, ROOT_CONFIGURATION_LEN};

use crate::encrypted_image::{ImageError, PlainImage};

/// Longest variable (`MAX_ARG_STRLEN` of Linux), and most of them.
const MAX_VARIABLE: usize = 128 * 1024;
const MAX_VARIABLES: u64 = 65_536;
/// Longest path (`PATH_MAX`).
const MAX_PATH: usize = 4096;

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;

/// What a caller of the system call wants. Without `Debug`, because it holds a key.
#[derive(Default)]
pub struct MountRequest {
    /// The key for the layers of the root.
    pub key: Option<[u8; IMAGE_KEY_LEN]>,
    /// The root configuration, if there is one.
    pub configuration: Option<RootConfiguration>,
}

/// What the root configuration says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RootConfiguration {
    /// Its length as the caller gave it.
    pub length: u64,
    /// It names other layers or a host directory.
    pub has_other_paths: bool,
    /// The only entry point from then on.
    pub entry_point: Option<String>,
    /// Variables for the application.
    pub environment: Vec<String>,
}

/// The call fails.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum MountRefusal {
    /// It has succeeded before, or nothing is to be mounted.
    #[error("the root of the application is mounted already")]
    Repeated,
    /// The root configuration has another length.
    #[error("root configuration: expected a length of {ROOT_CONFIGURATION_LEN} bytes, got {0}")]
    Length(u64),
    /// The root configuration asks for what is not simulated.
    #[error("root configuration: other layers and host directories are not simulated")]
    OtherPaths,
    /// The entry point cannot be one.
    #[error("root configuration: expected an absolute path without \"..\" as entry point, got {0:?}")]
    EntryPoint(String),
    /// A variable is none. Its value is not shown.
    #[error("root configuration: variable {0}: expected NAME=value")]
    Variable(usize),
    /// The image is encrypted, and there is no key.
    #[error("the image is encrypted, and no key was given")]
    NoKey {
        /// Whether there was a root configuration, with which Occlum notices the missing key later.
        configured: bool,
    },
    /// The image is not encrypted.
    #[error("a key was given, and the image is not encrypted")]
    UnneededKey,
    /// The image does not open.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl MountRefusal {
    /// The errno that the caller gets.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Repeated => EPERM,
            Self::Length(_) | Self::OtherPaths | Self::EntryPoint(_) | Self::Variable(_) => EINVAL,
            Self::NoKey { configured: false } => EINVAL,
            // What protects the image does not fit it.
            Self::NoKey { configured: true } | Self::UnneededKey | Self::Image(_) => EACCES,
        }
    }
}

/// The image of the application as it lies in the instance.
#[derive(Debug)]
pub enum StoredImage {
    /// A directory.
    Plain,
    /// An encrypted file's content.
    Encrypted(Vec<u8>),
}

/// What the init stage has decided about the stage of the application.
#[derive(Debug, Default)]
pub struct Mounted {
    /// The decrypted image; `None` where it is a directory.
    pub image: Option<PlainImage>,
    /// The only entry point, if there is another one than those of the configuration.
    pub entry_point: Option<String>,
    /// Variables in front of the measured ones.
    pub environment: Vec<String>,
}

#[derive(Debug)]
enum State {
    Waiting(StoredImage),
    Mounted(Option<Mounted>),
}

/// The root of the application, from the start of the init stage on.
#[derive(Debug)]
pub struct MountRoot(RefCell<State>);

impl MountRoot {
    /// An init stage that has this image to mount.
    pub fn waiting(image: StoredImage) -> Self {
        Self(RefCell::new(State::Waiting(image)))
    }

    /// No init stage of the instance: Occlum's own has mounted the image.
    pub fn done() -> Self {
        Self(RefCell::new(State::Mounted(None)))
    }

    /// Takes what was mounted, once.
    pub fn take(&self) -> Option<Mounted> {
        match &mut *self.0.borrow_mut() {
            State::Waiting(_) => None,
            State::Mounted(mounted) => mounted.take(),
        }
    }

    /// Carries the call out.
    ///
    /// # Errors
    /// [`MountRefusal`]; nothing has changed then.
    pub fn mount(&self, request: MountRequest) -> Result<(), MountRefusal> {
        let mut state = self.0.borrow_mut();
        let State::Waiting(stored) = &*state else { return Err(MountRefusal::Repeated) };
        let configured = request.configuration.is_some();
        let configuration = check(request.configuration)?;
        let image = match (stored, &request.key) {
            (StoredImage::Plain, None) => None,
            (StoredImage::Plain, Some(_)) => return Err(MountRefusal::UnneededKey),
            (StoredImage::Encrypted(_), None) => return Err(MountRefusal::NoKey { configured }),
            (StoredImage::Encrypted(sealed), Some(key)) => Some(PlainImage::decrypt(sealed, key)?),
        };
        let RootConfiguration { entry_point, environment, .. } = configuration;
        *state = State::Mounted(Some(Mounted { image, entry_point, environment }));
        Ok(())
    }
}

fn check(configuration: Option<RootConfiguration>) -> Result<RootConfiguration, MountRefusal> {
    let Some(configuration) = configuration else { return Ok(RootConfiguration::default()) };
    if configuration.length != ROOT_CONFIGURATION_LEN as u64 {
        return Err(MountRefusal::Length(configuration.length));
    }
    if configuration.has_other_paths {
        return Err(MountRefusal::OtherPaths);
    }
    if let Some(path) = &configuration.entry_point
        && (!path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        return Err(MountRefusal::EntryPoint(path.clone()));
    }
    let is_variable = |entry: &String| entry.find('=').is_some_and(|at| at > 0);
    match configuration.environment.iter().position(|entry| !is_variable(entry)) {
        Some(index) => Err(MountRefusal::Variable(index)),
        None => Ok(configuration),
    }
}

/// Reads the arguments of a call of thread `pid`: addresses of key and root configuration, 0 for none.
///
/// # Errors
/// The errno of reading its memory, and `InvalidData` for text that is not UTF-8.
pub fn read_request(pid: i32, key: u64, configuration: u64) -> io::Result<MountRequest> {
    let mut request = MountRequest::default();
    if key != 0 {
        let mut bytes = [0; IMAGE_KEY_LEN];
        memory::read(pid, key, &mut bytes)?;
        request.key = Some(bytes);
    }
    if configuration != 0 {
        request.configuration = Some(read_configuration(pid, configuration)?);
    }
    Ok(request)
}

fn read_configuration(pid: i32, address: u64) -> io::Result<RootConfiguration> {
    let length = read_word(pid, address)?;
    if length != ROOT_CONFIGURATION_LEN as u64 {
        // What follows the length is unknown.
        return Ok(RootConfiguration { length, ..RootConfiguration::default() });
    }
    let member = |index: u64| read_word(pid, address.wrapping_add(8 * index));
    let (upper, lower, entry_point, source, target) = (member(1)?, member(2)?, member(3)?, member(4)?, member(5)?);
    let entry_point = if entry_point == 0 { None } else { Some(read_text(pid, entry_point, MAX_PATH)?) };
    Ok(RootConfiguration {
        length,
        has_other_paths: [upper, lower, source, target].iter().any(|path| *path != 0),
        entry_point,
        environment: read_table(pid, member(6)?)?,
    })
}

/// A table of strings that ends with a null pointer; a null table is empty.
fn read_table(pid: i32, table: u64) -> io::Result<Vec<String>> {
    let mut strings = Vec::new();
    for index in 0..=MAX_VARIABLES {
        let pointer = if table == 0 { 0 } else { read_word(pid, table.wrapping_add(8 * index))? };
        if pointer == 0 {
            return Ok(strings);
        }
        strings.push(read_text(pid, pointer, MAX_VARIABLE)?);
    }
    Err(io::Error::from(io::ErrorKind::InvalidData))
}

fn read_word(pid: i32, address: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    memory::read(pid, address, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_text(pid: i32, address: u64, max: usize) -> io::Result<String> {
    let bytes = memory::read_string(pid, address, max)?;
    String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn encrypted() -> MountRoot {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("app"), "program").unwrap();
        MountRoot::waiting(StoredImage::Encrypted(PlainImage::pack(directory.path()).unwrap().encrypt(&KEY).unwrap()))
    }

    fn request(key: Option<[u8; 16]>, environment: &[&str]) -> MountRequest {
        let environment = environment.iter().map(|entry| (*entry).to_owned()).collect();
        let configuration = RootConfiguration { length: 56, environment, ..RootConfiguration::default() };
        MountRequest { key, configuration: Some(configuration) }
    }

    #[track_caller]
    fn check_refused(root: &MountRoot, request: MountRequest, errno: i32) {
        let refusal = root.mount(request).unwrap_err();
        assert_eq!(refusal.errno(), errno, "{refusal}");
    }

    // rules: INIT-7
    #[test]
    fn a_mount_succeeds_once_and_may_be_repeated_after_a_failure() {
        let root = encrypted();
        assert!(root.take().is_none());
        check_refused(&root, request(Some([8; 16]), &[]), EACCES);
        assert!(root.take().is_none(), "a failed mount must change nothing");
        root.mount(request(Some(KEY), &["A=1"])).unwrap();
        check_refused(&root, request(Some(KEY), &[]), EPERM);
        check_refused(&root, MountRequest::default(), EPERM);
        let mounted = root.take().unwrap();
        assert_eq!(mounted.environment, ["A=1"]);
        assert!(mounted.image.is_some() && mounted.entry_point.is_none());
        check_refused(&root, request(Some(KEY), &[]), EPERM);
    }

    // rules: INIT-7
    #[test]
    fn without_an_init_stage_of_the_instance_everything_is_mounted() {
        check_refused(&MountRoot::done(), MountRequest::default(), EPERM);
    }

    // rules: INIT-7
    #[test]
    fn key_and_image_must_fit_each_other() {
        check_refused(&encrypted(), MountRequest::default(), EINVAL);
        check_refused(&encrypted(), request(None, &[]), EACCES);
        check_refused(&MountRoot::waiting(StoredImage::Plain), request(Some(KEY), &[]), EACCES);
        let damaged = MountRoot::waiting(StoredImage::Encrypted(b"x".to_vec()));
        check_refused(&damaged, request(Some(KEY), &[]), EACCES);
        let plain = MountRoot::waiting(StoredImage::Plain);
        plain.mount(MountRequest::default()).unwrap();
        assert!(plain.take().unwrap().image.is_none());
    }

    // rules: INIT-7
    #[test]
    fn a_malformed_root_configuration_is_einval() {
        let with = |change: fn(&mut RootConfiguration)| {
            let mut request = request(Some(KEY), &[]);
            request.configuration.iter_mut().for_each(change);
            request
        };
        check_refused(&encrypted(), with(|configuration| configuration.length = 48), EINVAL);
        check_refused(&encrypted(), with(|configuration| configuration.has_other_paths = true), EINVAL);
        for path in ["bin", "", "/bin/../etc"] {
            let mut request = request(Some(KEY), &[]);
            request.configuration.as_mut().unwrap().entry_point = Some(path.to_owned());
            check_refused(&encrypted(), request, EINVAL);
        }
        for variable in ["A", "=1", ""] {
            check_refused(&encrypted(), request(Some(KEY), &["B=1", variable]), EINVAL);
        }
    }

    #[test]
    fn a_request_is_read_from_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let address = |bytes: *const u8| bytes as u64;
        let (entry, first, second) = (c"/bin/app", c"A=1", c"B=");
        let table = [address(first.as_ptr().cast()), address(second.as_ptr().cast()), 0];
        let mut words = [56, 0, 0, address(entry.as_ptr().cast()), 0, 0, address(table.as_ptr().cast())];
        let read = |words: &[u64; 7]| read_request(pid, address(KEY.as_ptr()), address(words.as_ptr().cast())).unwrap();
        let request = read(&words);
        assert_eq!(request.key, Some(KEY));
        let expected = RootConfiguration {
            length: 56,
            has_other_paths: false,
            entry_point: Some("/bin/app".into()),
            environment: vec!["A=1".into(), "B=".into()],
        };
        assert_eq!(request.configuration, Some(expected));
        for index in [1, 2, 4, 5] {
            let mut words = words;
            words[index] = address(entry.as_ptr().cast());
            assert!(read(&words).configuration.unwrap().has_other_paths, "{index}");
        }
        words[0] = 48;
        assert_eq!(read(&words).configuration.unwrap().length, 48);
        assert!(read_request(pid, 8, 0).is_err());
        let empty = read_request(pid, 0, 0).unwrap();
        assert!(empty.key.is_none() && empty.configuration.is_none());
    }
}
