//! What runs: the instance with its manifest's entry, and a copy of it that can be pinned.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use marblerun_enclave_image::entry_points::check_entry_point;
use marblerun_enclave_image::occlum_json::{self, OcclumJson};
use marblerun_manifest::Manifest;

use super::RunError;
use crate::args::occlum_run::RunArguments;
use crate::failure::Failure;
use crate::files;
use crate::manifest_file::ManifestFile;

/// The file in the image that names the only Coordinator.
const PIN: &str = "etc/marblerun/coordinator.json";
/// The premain, where the entry point is a directory.
const PREMAIN: &str = "/bin/premain-libos";
const MARBLE_TYPE: &str = "EDG_MARBLE_TYPE";
/// Begins the names of working directories; the process id follows.
const WORK: &str = "marblerun-run-";
/// How many names are tried for it.
const MAX_ATTEMPTS: u32 = 100;

/// An instance and what a manifest says about it.
#[derive(Debug)]
pub(super) struct Instance {
    directory: PathBuf,
    config: OcclumJson,
    /// The manifest's text.
    pub(super) manifest: String,
    /// Name of the Marble type.
    pub(super) marble: String,
    /// Name of its package.
    pub(super) package: String,
    /// Whether the type has to be given by the environment.
    pub(super) type_is_untrusted: bool,
    /// Path in the image of the program that is started.
    pub(super) program: String,
}

impl Instance {
    /// Reads the configuration and the manifest.
    pub(super) fn read(arguments: &RunArguments) -> Result<Self, Failure> {
        let directory = &arguments.directory;
        let path = directory.join("Occlum.json");
        let text = files::read("configuration", &path, occlum_json::MAX_LEN as usize)?;
        let config = OcclumJson::parse(&text).map_err(|source| RunError::Config { path, source })?;
        let image = directory.join("image");
        if !image.is_dir() {
            return Err(RunError::NoImage(directory.clone()).into());
        }
        let path = arguments.manifest.clone().unwrap_or_else(|| directory.join("manifest.json"));
        let manifest = ManifestFile::read(&path)?.bytes;
        let decoded =
            Manifest::decode(&manifest).map_err(|source| RunError::Manifest { path: path.clone(), source })?;
        let measured = config.env.default.iter().find_map(|entry| entry.strip_prefix(MARBLE_TYPE)?.strip_prefix('='));
        let names = || decoded.marbles.keys().cloned().collect::<Vec<_>>().join(", ");
        let marble = match (&arguments.marble, measured) {
            (Some(given), Some(measured)) if given != measured => {
                return Err(RunError::OtherType { given: given.clone(), measured: measured.to_owned() }.into());
            }
            (Some(name), _) => name.clone(),
            (None, Some(measured)) => measured.to_owned(),
            (None, None) => match decoded.marbles.keys().collect::<Vec<_>>().as_slice() {
                [only] => (*only).clone(),
                _ => return Err(RunError::WhichMarble { path, names: names() }.into()),
            },
        };
        let Some(entry) = decoded.marbles.get(&marble) else {
            return Err(RunError::NoMarble { path, marble, names: names() }.into());
        };
        let type_is_untrusted = measured.is_none();
        if type_is_untrusted && !config.env.untrusted.iter().any(|name| name == MARBLE_TYPE) {
            return Err(RunError::TypeNotPassed { marble }.into());
        }
        let program = program(&config, &image)?;
        // Checked here, where nothing has been started yet.
        check_entry_point(&config, &program).map_err(RunError::EntryPoint)?;
        Ok(Self {
            directory: directory.canonicalize().map_err(super::io_error("read", directory))?,
            package: entry.package.clone(),
            manifest: String::from_utf8_lossy(&manifest).into_owned(),
            config,
            marble,
            type_is_untrusted,
            program,
        })
    }

    /// Makes the copy in a working directory: the image by links, so that no content is copied where both are on one file
    /// system; everything else but what was built and written is the instance's own.
    pub(super) fn copy_to(&self, work: &Path) -> Result<WorkingCopy, RunError> {
        let copy = work.join("instance");
        create(&copy)?;
        for entry in list(&self.directory)? {
            let (from, to) = (self.directory.join(&entry), copy.join(&entry));
            match entry.to_str() {
                Some("image") => link_tree(&from, &to, Path::new(""))?,
                // What was written in an earlier run belongs to another Marble.
                Some("run" | "build") => {}
                Some("Occlum.json") => fs::copy(&from, &to).map(drop).map_err(super::io_error("copy", &from))?,
                _ => symlink(&from, &to).map_err(super::io_error("link", &from))?,
            }
        }
        for mount in self.config.mount.iter().filter(|mount| mount.kind == "hostfs") {
            let source = copy.join(mount.source.as_deref().unwrap_or("."));
            if fs::symlink_metadata(&source).is_err() && !leaves(mount.source.as_deref()) {
                create(&source)?;
            }
        }
        Ok(WorkingCopy { directory: copy })
    }

    /// A directory for everything that this run makes, for the user alone: in the temporary directory if that is on the
    /// image's file system, else beside the instance, else in the temporary directory nevertheless.
    pub(super) fn work_directory(&self) -> Result<WorkDirectory, RunError> {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        let temporary = std::env::temp_dir();
        let beside = self.directory.parent().unwrap_or(&self.directory).to_owned();
        // A host mount outside of the instance is found from a copy beside it only.
        let must_be_beside = self.config.mount.iter().any(|mount| leaves(mount.source.as_deref()));
        let is_near = device(&temporary) == device(&self.directory.join("image"));
        let mut candidates = if is_near && !must_be_beside { vec![temporary, beside] } else { vec![beside, temporary] };
        if must_be_beside {
            candidates.truncate(1);
        }
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for parent in &candidates {
            WorkDirectory::remove_stale(parent);
            result = WorkDirectory::create(parent);
            if let Ok(directory) = result {
                return Ok(directory);
            }
        }
        let parent = candidates.pop().unwrap_or_default();
        result.map_err(super::io_error("create a directory in", &parent))
    }
}

/// The program that the host starts: the premain if it is allowed, else the only entry point.
fn program(config: &OcclumJson, image: &Path) -> Result<String, RunError> {
    let is_file = |path: &str| image.join(path.trim_start_matches('/')).is_file();
    if is_file(PREMAIN) && check_entry_point(config, PREMAIN).is_ok() {
        return Ok(PREMAIN.to_owned());
    }
    let files: Vec<_> = config.entry_points.iter().filter(|path| is_file(path)).collect();
    match files.as_slice() {
        [only] => Ok((*only).clone()),
        _ => Err(RunError::WhichProgram { entry_points: config.entry_points.join(", ") }),
    }
}

/// Whether a mount's source is relative and lies outside of the instance.
fn leaves(source: Option<&str>) -> bool {
    source.is_some_and(|source| {
        !source.starts_with('/') && Path::new(source).components().any(|part| part == Component::ParentDir)
    })
}

/// The copy of an instance.
#[derive(Debug)]
pub(super) struct WorkingCopy {
    /// The directory.
    pub(super) directory: PathBuf,
}

impl WorkingCopy {
    /// Names the only Coordinator that may configure the Marble, by the SHA-256 of its root certificate.
    pub(super) fn pin(&self, root_hash: &str) -> Result<(), RunError> {
        // Whoever made the image may have put links there, which lead out of the copy: to a file of the user, or by a hard link
        // to one of the instance.
        let mut parent = self.directory.join("image");
        let mut parts: Vec<_> = Path::new(PIN).components().collect();
        let name = parts.pop();
        for part in parts {
            parent.push(part);
            match fs::symlink_metadata(&parent) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(RunError::NoDirectory(parent)),
                Err(_) => fs::create_dir(&parent).map_err(super::io_error("create", &parent))?,
            }
        }
        let path = parent.join(name.map_or_else(Default::default, |name| name.as_os_str().to_owned()));
        let mut file =
            File::options().write(true).create_new(true).open(&path).map_err(super::io_error("create", &path))?;
        let text = format!("{{\"RootSHA256\": \"{root_hash}\"}}\n");
        file.write_all(text.as_bytes()).map_err(super::io_error("write", &path))
    }
}

fn create(directory: &Path) -> Result<(), RunError> {
    fs::create_dir_all(directory).map_err(super::io_error("create", directory))
}

fn list(directory: &Path) -> Result<Vec<std::ffi::OsString>, RunError> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    read().map_err(super::io_error("read", directory))
}

/// Copies a directory: directories and symbolic links are made anew, files are linked, or copied where they cannot be.
/// The pin is left out. `relative` is the path from the top.
fn link_tree(from: &Path, to: &Path, relative: &Path) -> Result<(), RunError> {
    create(to)?;
    for name in list(from)? {
        let (from, to, relative) = (from.join(&name), to.join(&name), relative.join(&name));
        let metadata = fs::symlink_metadata(&from).map_err(super::io_error("read", &from))?;
        if metadata.is_dir() {
            link_tree(&from, &to, &relative)?;
        } else if relative == Path::new(PIN) {
            // The copy has its own, also where this is a link.
        } else if metadata.is_symlink() {
            let target = fs::read_link(&from).map_err(super::io_error("read", &from))?;
            symlink(target, &to).map_err(super::io_error("link", &from))?;
        } else if !metadata.is_file() {
            // A pipe would never be read to its end.
            return Err(RunError::NoFile(from));
        } else if fs::hard_link(&from, &to).is_err() {
            // Another file system, or a file of another user.
            fs::copy(&from, &to).map_err(super::io_error("copy", &from))?;
        }
    }
    // Directories are measured with their permissions, which may forbid to fill them.
    let permissions = fs::metadata(from).map_err(super::io_error("read", from))?.permissions();
    fs::set_permissions(to, permissions).map_err(super::io_error("create", to))
}

/// A directory that is removed with this value.
#[derive(Debug)]
pub(super) struct WorkDirectory {
    path: PathBuf,
    /// Tells other runs that this one is alive. Process ids would not: they are used again, and containers have their own.
    _lock: File,
}

impl WorkDirectory {
    fn create(parent: &Path) -> io::Result<Self> {
        for attempt in 0..MAX_ATTEMPTS {
            let path = parent.join(format!(".{WORK}{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created?,
            }
            // Before it is locked, another run may take it for one that was left.
            if let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
                && path.exists()
            {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Removes what runs left that were killed.
    fn remove_stale(parent: &Path) {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            let is_ours = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_prefix(WORK)).is_some();
            // What belongs to another user stays.
            if !is_ours || !is_own(&path) {
                continue;
            }
            let Ok(lock) = File::open(&path) else { continue };
            if lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_err() {
                make_writable(&path);
                let _ = fs::remove_dir_all(&path);
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // The image's directories have its permissions, which may forbid to empty them.
        if fs::remove_dir_all(&self.path).is_err() {
            make_writable(&self.path);
            // A next run removes what remains.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether a path is a directory, not a link to one, of the user that runs this process.
fn is_own(path: &Path) -> bool {
    let user = fs::metadata("/proc/self").map(|metadata| metadata.uid()).ok();
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir() && user == Some(metadata.uid()))
}

/// Lets the owner change every directory below `directory`, as far as that is possible.
fn make_writable(directory: &Path) {
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"resource_limits": {"user_space_size": "1MB", "kernel_space_heap_size": "1MB",
        "kernel_space_stack_size": "1MB", "max_num_of_threads": 4}, "process": {"default_stack_size": "8MB",
        "default_heap_size": "1MB", "default_mmap_size": "1MB"}, "entry_points": ["/bin"], "env": {"default":
        ["EDG_MARBLE_TYPE=web"], "untrusted": []}, "metadata": {"product_id": 0, "version_number": 0, "debuggable": true},
        "mount": [{"target": "/", "type": "unionfs", "options": {"layers": [{"target": "/", "type": "sefs", "options":
        {"MAC": ""}}, {"target": "/", "type": "sefs"}]}}, {"target": "/host", "type": "hostfs", "source": "./host"}]}"#;
    const MANIFEST: &str = r#"{"Packages": {"p": {"UniqueID": ""}}, "Marbles": {"web": {"Package": "p"},
        "db": {"Package": "p"}}}"#;

    fn directory(config: &str, manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["image/bin", "image/etc/marblerun", "run/mount", "build/lib"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("Occlum.json"), config).unwrap();
        fs::write(path("manifest.json"), manifest).unwrap();
        fs::write(path("image/bin/app"), "app").unwrap();
        fs::write(path("image/etc/marblerun/coordinator.json"), "old").unwrap();
        symlink("app", path("image/bin/link")).unwrap();
        directory
    }

    fn arguments(directory: &Path, more: &[&str]) -> RunArguments {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: RunArguments,
        }
        let words = ["run", directory.to_str().unwrap()].into_iter().chain(more.iter().copied());
        <Line as clap::Parser>::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments
    }

    fn read(config: &str, manifest: &str, more: &[&str]) -> Result<Instance, String> {
        let directory = directory(config, manifest);
        fs::write(directory.path().join("image/bin/premain-libos"), "").unwrap();
        Instance::read(&arguments(directory.path(), more)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_entry_of_the_manifest_is_the_one_that_the_instance_is_for() {
        let instance = read(CONFIG, MANIFEST, &[]).unwrap();
        assert_eq!((instance.marble.as_str(), instance.package.as_str()), ("web", "p"));
        assert_eq!((instance.program.as_str(), instance.type_is_untrusted), (PREMAIN, false));
        let untyped = CONFIG
            .replace("\"EDG_MARBLE_TYPE=web\"", "")
            .replace("\"untrusted\": []", "\"untrusted\": [\"EDG_MARBLE_TYPE\"]");
        let instance = read(&untyped, MANIFEST, &["--marble", "db"]).unwrap();
        assert!(instance.type_is_untrusted && instance.marble == "db");
        for (config, manifest, more, expected) in [
            (CONFIG, MANIFEST, &["--marble", "db"][..], "measured EDG_MARBLE_TYPE is \"web\""),
            (CONFIG, r#"{"Marbles": {"db": {}}}"#, &[], "no Marble \"web\", only db"),
            (&untyped, MANIFEST, &[], "several Marbles: db, web"),
            (&CONFIG.replace("\"EDG_MARBLE_TYPE=web\"", ""), MANIFEST, &["--marble", "db"], "EDG_MARBLE_TYPE"),
            (&CONFIG.replace("[\"/bin\"]", "[\"/sbin\"]"), MANIFEST, &[], "/sbin"),
            ("{}", MANIFEST, &[], "Occlum.json"),
            (CONFIG, "[]", &[], "manifest.json"),
        ] {
            let error = read(config, manifest, more).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_only_program_is_the_entry_point_where_there_is_no_premain() {
        let directory = directory(&CONFIG.replace("[\"/bin\"]", "[\"/bin/app\"]"), MANIFEST);
        assert_eq!(Instance::read(&arguments(directory.path(), &[])).unwrap().program, "/bin/app");
        let other = self::directory(CONFIG, MANIFEST);
        let error = Instance::read(&arguments(other.path(), &[])).unwrap_err().to_string();
        assert!(error.contains("entry point") && error.contains("/bin"), "{error}");
    }

    #[test]
    fn an_instance_without_image_is_refused() {
        let directory = directory(CONFIG, MANIFEST);
        fs::remove_dir_all(directory.path().join("image")).unwrap();
        let error = Instance::read(&arguments(directory.path(), &[])).unwrap_err().to_string();
        assert!(error.starts_with("expected an instance with the directory image/"), "{error}");
    }

    #[test]
    fn a_copy_shares_contents_but_not_the_pin_nor_what_was_written() {
        let directory = directory(&CONFIG.replace("[\"/bin\"]", "[\"/bin/app\"]"), MANIFEST);
        let original = |name: &str| directory.path().join(name);
        fs::set_permissions(original("image/bin"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(original("host-file"), "mine").unwrap();
        let instance = Instance::read(&arguments(directory.path(), &[])).unwrap();
        let work = instance.work_directory().unwrap();
        let copy = instance.copy_to(work.path()).unwrap();
        copy.pin("ab").unwrap();
        let path = |name: &str| copy.directory.join(name);
        let inode = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
        assert_eq!(inode(path("image/bin/app")), inode(original("image/bin/app")));
        assert_eq!(fs::read_link(path("image/bin/link")).unwrap(), Path::new("app"));
        assert_eq!(fs::metadata(path("image/bin")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_to_string(path("image/etc/marblerun/coordinator.json")).unwrap(),
            "{\"RootSHA256\": \"ab\"}\n"
        );
        assert_eq!(fs::read_to_string(original("image/etc/marblerun/coordinator.json")).unwrap(), "old");
        assert_eq!(fs::read_to_string(path("host-file")).unwrap(), "mine");
        assert!(path("host").is_dir() && !path("run").exists() && !path("build").exists());
        assert!(!original("host").exists());
        let path = work.path().to_owned();
        drop(work);
        assert!(!path.exists() && original("image/bin/app").exists());
    }

    #[test]
    fn links_in_the_image_do_not_lead_the_pin_to_other_files() {
        let config = CONFIG.replace("[\"/bin\"]", "[\"/bin/app\"]");
        for (link, target) in
            [(PIN, "outside/victim"), (PIN, "inner/image/bin/app"), ("etc/marblerun", "outside"), ("etc", "outside")]
        {
            let top = tempfile::tempdir().unwrap();
            let (inner, outside) = (top.path().join("inner"), top.path().join("outside"));
            fs::rename(directory(&config, MANIFEST).keep(), &inner).unwrap();
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("victim"), "victim").unwrap();
            let link = inner.join("image").join(link);
            if link.is_dir() {
                fs::remove_dir_all(&link).unwrap()
            } else {
                fs::remove_file(&link).unwrap()
            }
            symlink(top.path().join(target), &link).unwrap();
            let instance = Instance::read(&arguments(&inner, &[])).unwrap();
            let work = instance.work_directory().unwrap();
            let copy = instance.copy_to(work.path()).unwrap();
            let pinned = copy.pin("ab");
            assert_eq!(pinned.is_ok(), link.ends_with("coordinator.json"), "{}", link.display());
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
            assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "victim");
            assert_eq!(fs::read_to_string(inner.join("image/bin/app")).unwrap(), "app");
            if pinned.is_ok() {
                let pin = copy.directory.join("image").join(PIN);
                assert!(fs::symlink_metadata(&pin).unwrap().is_file());
            }
        }
    }

    #[test]
    fn sockets_and_the_like_in_an_image_are_refused() {
        let directory = directory(&CONFIG.replace("[\"/bin\"]", "[\"/bin/app\"]"), MANIFEST);
        let socket = std::os::unix::net::UnixListener::bind(directory.path().join("image/socket")).unwrap();
        let instance = Instance::read(&arguments(directory.path(), &[])).unwrap();
        let work = instance.work_directory().unwrap();
        assert!(matches!(instance.copy_to(work.path()), Err(RunError::NoFile(_))));
        drop(socket);
    }

    #[test]
    fn a_host_mount_outside_of_the_instance_is_found_from_the_copy() {
        let top = tempfile::tempdir().unwrap();
        let directory = directory(&CONFIG.replace("./host", "../shared"), MANIFEST);
        let inner = top.path().join("inner");
        fs::rename(directory.path(), &inner).unwrap();
        fs::write(inner.join("image/bin/premain-libos"), "").unwrap();
        let instance = Instance::read(&arguments(&inner, &[])).unwrap();
        let work = instance.work_directory().unwrap();
        assert_eq!(work.path().parent(), Some(top.path().canonicalize().unwrap().as_path()));
    }

    #[test]
    fn directories_that_forbid_it_are_made_removable_and_links_are_not_followed() {
        let (top, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inner = top.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        symlink(outside.path(), inner.join("link")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for path in [inner.as_path(), &top.path().join("a"), outside.path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
        }
        make_writable(top.path());
        assert_eq!((mode(&inner), mode(&top.path().join("a")), mode(outside.path())), (0o700, 0o700, 0o555));
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_what_runs_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let running = WorkDirectory::create(parent.path()).unwrap();
        let beside = WorkDirectory::create(parent.path()).unwrap();
        let stale = parent.path().join(format!(".{WORK}1-0"));
        let other = parent.path().join(".other");
        for directory in [&stale, &other] {
            fs::create_dir(directory).unwrap();
        }
        WorkDirectory::remove_stale(parent.path());
        assert!(!stale.exists() && other.exists());
        assert!(running.path().exists() && beside.path().exists());
    }
}
