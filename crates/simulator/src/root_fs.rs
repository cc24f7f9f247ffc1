//! The file system that the program sees: image below, writable layer above, `/proc`, `/dev`, host mounts.
//!
//! Everything here runs in the child, in a mount namespace of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use marblerun_linux::mount;

use crate::encrypted_image::PlainImage;
use crate::instance::{Init, Instance};

/// Files that Occlum takes from the host at each start, over those of the image.
const HOST_FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Devices of Occlum that exist on the host under the same or another name.
const DEVICES: [(&str, &str); 5] =
    [("null", "null"), ("zero", "zero"), ("random", "random"), ("urandom", "urandom"), ("arandom", "urandom")];

/// Where the lower layer comes from.
#[derive(Clone, Debug)]
pub enum Lower {
    /// A directory on the host.
    Directory(PathBuf),
    /// A decrypted image, which is unpacked to memory that only this run sees.
    Memory(PlainImage),
}

/// How the root is to be put together.
#[derive(Clone, Debug)]
pub struct RootPlan {
    /// The lower layer.
    pub lower: Lower,
    /// Where the writable layer and the mount point live.
    pub run: PathBuf,
    /// Directory of the writable layer below `run`.
    pub layer: &'static str,
    /// Whether the writable layer is empty at each start.
    pub temporary: bool,
    /// Whether the mounts are made in a user namespace.
    pub in_user_namespace: bool,
    /// Process id of the supervisor, which keeps temporary copies apart.
    pub owner: u32,
    /// `hostfs` mounts: target in the root, source on the host.
    pub host_mounts: Vec<(String, PathBuf)>,
    /// `ramfs` mounts.
    pub memory_mounts: Vec<String>,
}

impl RootPlan {
    /// The plan for `instance`.
    pub fn new(instance: &Instance, in_user_namespace: bool) -> Self {
        let mounts = |kind: &'static str| instance.config().mount.iter().filter(move |mount| mount.kind == kind);
        Self {
            lower: Lower::Directory(instance.image()),
            run: instance.run_directory(),
            layer: "mount",
            temporary: instance.config().root_is_temporary(),
            in_user_namespace,
            owner: std::process::id(),
            host_mounts: mounts("hostfs")
                .map(|mount| {
                    let source = mount.source.as_deref().unwrap_or(".");
                    (mount.target.clone(), instance.directory().join(source))
                })
                .collect(),
            memory_mounts: mounts("ramfs").map(|mount| mount.target.clone()).collect(),
        }
    }

    /// The plan for the init stage of `instance`, if a program runs in it: a union with `run/initfs` above, and no other mounts.
    pub fn of_init(instance: &Instance) -> Option<Self> {
        let image = instance.init_image().filter(|_| instance.init() == Init::Program)?;
        Some(Self {
            lower: Lower::Directory(image),
            run: instance.run_directory(),
            layer: "initfs",
            temporary: false,
            in_user_namespace: false,
            owner: std::process::id(),
            host_mounts: Vec::new(),
            memory_mounts: Vec::new(),
        })
    }

    /// The writable layer on disk.
    fn upper(&self) -> PathBuf {
        self.run.join(self.layer).join("__ROOT")
    }

    /// The overlay's scratch directory, on the same file system.
    fn work(&self) -> PathBuf {
        self.run.join(self.layer).join(".work")
    }

    /// Creates what must exist on the host before the child starts.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn prepare(&self) -> Result<(), RootError> {
        if self.temporary {
            return make_directory(&self.run, 0o755);
        }
        make_directory(&self.upper(), 0o755)?;
        make_directory(&self.work(), 0o755)
    }

    /// The copy of the image where mounts are impossible.
    fn copy(&self) -> PathBuf {
        match (self.temporary, self.layer) {
            (true, _) => self.run.join(format!("copy-{}", self.owner)),
            (false, "mount") => self.run.join("copy"),
            (false, layer) => self.run.join(format!("copy-of-{layer}")),
        }
    }

    /// Cleans up after the child: removes a copy that nobody needs any more, and makes the overlay's scratch directory
    /// removable again for its owner, since the kernel leaves it without permissions.
    pub fn release(&self) {
        if self.temporary {
            // Best effort: it exists only where mounts are impossible.
            let _ = fs::remove_dir_all(self.copy());
        }
        let scratch = self.work().join("work");
        // Best effort: it does not exist where the overlay was not mounted on disk.
        let _ = fs::set_permissions(scratch, fs::Permissions::from_mode(0o700));
    }
}

/// A root could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", path.display())]
pub struct RootError {
    /// What was being done.
    pub step: &'static str,
    /// With what.
    pub path: PathBuf,
    /// True for what needs privileges over the mount namespace.
    pub mounting: bool,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootError {
    move |source| RootError { step, path: path.to_owned(), mounting: false, source }
}

fn not_mounted(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootError {
    move |source| RootError { step, path: path.to_owned(), mounting: true, source }
}

/// A root that is in place.
#[derive(Clone, Debug)]
pub struct Root {
    /// Device and inode of `/dev/sgx`, by which the supervisor knows it.
    pub sgx: FileId,
    /// What differs from the plan, for the user.
    pub notes: Vec<String>,
    /// How the layers are put together.
    pub layers: &'static str,
}

/// Names a file whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileId {
    /// Number of the file system.
    pub device: u64,
    /// Number of the file in it.
    pub inode: u64,
}

impl FileId {
    /// The id of `path`, following links.
    ///
    /// # Errors
    /// As `stat`.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Builds the root as `plan` says and enters it.
///
/// # Errors
/// [`RootError`] naming the step; the process is of no use after that.
pub fn enter(plan: &RootPlan) -> Result<Root, RootError> {
    mount::make_all_private().map_err(not_mounted("make the mounts private in", Path::new("/")))?;
    let mut notes = Vec::new();
    let (root, layers) = mount_layers(plan, &mut notes)?;

    let proc = directory_in(&root, "/proc")?;
    if let Err(error) = mount::proc(&proc) {
        // In containers that hide parts of /proc a user namespace may not have an unhidden one.
        mount::bind(Path::new("/proc"), &proc).map_err(not_mounted("mount the process file system on", &proc))?;
        notes.push(format!("/proc is the host's, with its process ids ({error})"));
    }
    let sgx = make_devices(&root)?;
    for target in &plan.memory_mounts {
        let target = directory_in(&root, target)?;
        mount::tmpfs(&target, "mode=1777").map_err(not_mounted("mount a memory file system on", &target))?;
    }
    for (target, source) in &plan.host_mounts {
        let target = directory_in(&root, target)?;
        fs::metadata(source).map_err(failed("hostfs: find the source", source))?;
        mount::bind(source, &target).map_err(not_mounted("hostfs: mount", source))?;
    }
    match finish(&root) {
        // Files of another user cannot be replaced from a user namespace.
        Err(error) if plan.in_user_namespace && !error.mounting => {
            notes.push(format!("the host's files are not in the image's /etc: cannot {error}: {}", error.source));
        }
        other => other?,
    }
    mount::enter_root(&root).map_err(not_mounted("enter the root", &root))?;
    Ok(Root { sgx, notes, layers })
}

/// Copies the image and changes the root into the copy: for root where namespaces and mounts are forbidden.
///
/// What the program writes stays in the copy until its end (`temporary`) or the next start, which writes the image over
/// it again.
///
/// # Errors
/// [`RootError`] naming the step.
pub fn enter_copy(plan: &RootPlan) -> Result<Root, RootError> {
    if let Some((_, source)) = plan.host_mounts.first() {
        let source_error = io::Error::new(io::ErrorKind::Unsupported, "it needs a mount namespace");
        return Err(failed("hostfs: mount", source)(source_error));
    }
    let Lower::Directory(image) = &plan.lower else {
        // What was decrypted must not lie on the host's disk.
        let source_error = io::Error::new(io::ErrorKind::Unsupported, "it needs a mount namespace");
        return Err(failed("unpack the encrypted image for", &plan.run)(source_error));
    };
    let root = plan.copy();
    make_directory(&root, 0o755)?;
    copy_tree(image, &root)?;
    directory_in(&root, "/proc")?;
    let dev = directory_in(&root, "/dev")?;
    for (name, minor) in [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9), ("arandom", 9)] {
        let path = dev.join(name);
        match mount::character_device(&path, 0o666, 1, minor) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(not_mounted("create device", &path)(error));
            }
            // The mode of creation is cut by the umask.
            _ => fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).map_err(failed("create", &path))?,
        }
    }
    directory_in(&root, "/dev/shm")?;
    for target in &plan.memory_mounts {
        directory_in(&root, target)?;
    }
    let sgx = make_sgx(&dev)?;
    finish(&root)?;
    marblerun_linux::process::change_root(&root).map_err(not_mounted("change the root to", &root))?;
    let notes = vec!["without mounts /proc is empty and memory file systems are on disk".to_owned()];
    Ok(Root { sgx, notes, layers: "copy of the image in run/" })
}

/// Mounts image and writable layer over each other below `run`, which gets hidden by a staging mount.
fn mount_layers(plan: &RootPlan, notes: &mut Vec<String>) -> Result<(PathBuf, &'static str), RootError> {
    // The kernel's option string has no way to write "," or ":" in a path; descriptors have neither.
    let open = |path: &Path| File::options().read(true).custom_flags(O_PATH).open(path).map_err(failed("open", path));
    let name = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let image = match &plan.lower {
        Lower::Directory(image) => Some(open(image)?),
        Lower::Memory(_) => None,
    };
    let on_disk = if plan.temporary { None } else { Some((open(&plan.upper())?, open(&plan.work())?)) };

    let stage = &plan.run;
    mount::tmpfs(stage, "mode=755").map_err(not_mounted("mount a memory file system on", stage))?;
    let root = stage.join("root");
    for name in ["root", "upper", "work"] {
        make_directory(&stage.join(name), 0o755)?;
    }
    let in_memory = stage.join("image");
    if let Lower::Memory(image) = &plan.lower {
        make_directory(&in_memory, 0o755)?;
        image.unpack(&in_memory).map_err(failed("unpack the image to", &in_memory))?;
    }
    let image = match image {
        Some(image) => image,
        None => open(&in_memory)?,
    };
    // Overlays keep their marks in `trusted` attributes, which a user namespace may not write.
    let marks = if plan.in_user_namespace { ",userxattr" } else { "" };
    let options = |upper: &File, work: &File| {
        format!("lowerdir={},upperdir={},workdir={}{marks}", name(&image), name(upper), name(work))
    };
    if let Some((upper, work)) = &on_disk {
        match mount::overlay(&root, &options(upper, work)) {
            Ok(()) => return Ok((root, "overlay, writable layer in run/")),
            Err(error) => notes.push(format!(
                "the writable layer cannot live in run/ ({error}); what the program writes is lost at its end"
            )),
        }
    }
    let (upper, work) = (open(&stage.join("upper"))?, open(&stage.join("work"))?);
    match mount::overlay(&root, &options(&upper, &work)) {
        Ok(()) => return Ok((root, "overlay, writable layer in memory")),
        Err(error) => {
            notes.push(format!("this kernel mounts no overlay here ({error}); the image is copied to memory"))
        }
    }
    match &plan.lower {
        Lower::Directory(image) => copy_tree(image, &root)?,
        Lower::Memory(image) => image.unpack(&root).map_err(failed("unpack the image to", &root))?,
    }
    Ok((root, "copy of the image in memory"))
}

const O_PATH: i32 = 0o10_000_000;

/// Copies what can be in an image; sockets are skipped, as in the measurement.
fn copy_tree(from: &Path, to: &Path) -> Result<(), RootError> {
    let list = fs::read_dir(from).map_err(failed("read", from))?;
    for entry in list {
        let entry = entry.map_err(failed("read", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&from).map_err(failed("read", &from))?;
        // What a program of an earlier start left in a copy must not lead the writing elsewhere.
        let same = |there: fs::Metadata| there.file_type() == metadata.file_type() && !there.is_symlink();
        if fs::symlink_metadata(&to).is_ok_and(|there| !same(there)) {
            let removed = fs::remove_file(&to).or_else(|_| fs::remove_dir_all(&to));
            removed.map_err(failed("replace", &to))?;
        }
        if metadata.is_dir() {
            make_directory(&to, 0o755)?;
            copy_tree(&from, &to)?;
            fs::set_permissions(&to, metadata.permissions()).map_err(failed("create", &to))?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&from).map_err(failed("read", &from))?;
            symlink(target, &to).map_err(failed("create", &to))?;
        } else if metadata.is_file() {
            fs::copy(&from, &to).map_err(failed("copy", &from))?;
        }
    }
    Ok(())
}

/// Makes `/dev` as Occlum has it and returns the identity of `/dev/sgx`.
fn make_devices(root: &Path) -> Result<FileId, RootError> {
    let dev = directory_in(root, "/dev")?;
    mount::tmpfs(&dev, "mode=755").map_err(not_mounted("mount a memory file system on", &dev))?;
    for (name, on_host) in DEVICES {
        let (target, source) = (dev.join(name), Path::new("/dev").join(on_host));
        File::create(&target).map_err(failed("create", &target))?;
        mount::bind(&source, &target).map_err(not_mounted("mount device", &source))?;
    }
    let shared = dev.join("shm");
    make_directory(&shared, 0o1777)?;
    mount::tmpfs(&shared, "mode=1777").map_err(not_mounted("mount a memory file system on", &shared))?;
    let fd = dev.join("fd");
    symlink("/proc/self/fd", &fd).map_err(failed("create", &fd))?;
    make_sgx(&dev)
}

/// An ordinary file stands for the device, so that `stat`, `access` and listings work without help.
fn make_sgx(dev: &Path) -> Result<FileId, RootError> {
    let sgx = dev.join("sgx");
    // Never an old one: that could be a link.
    match fs::remove_file(&sgx) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace", &sgx)(error)),
        _ => File::create_new(&sgx).map_err(failed("create", &sgx))?,
    };
    // Not by the mode of creation, which the umask cuts.
    fs::set_permissions(&sgx, fs::Permissions::from_mode(0o666)).map_err(failed("create", &sgx))?;
    FileId::of(&sgx).map_err(failed("look at", &sgx))
}

/// What remains for every kind of root: `/tmp`, and the host's files over those of the image.
fn finish(root: &Path) -> Result<(), RootError> {
    directory_in(root, "/tmp")?;
    directory_in(root, "/etc")?;
    for file in HOST_FILES {
        let (host, target) = (Path::new("/").join(file), root.join(file));
        let Ok(bytes) = fs::read(&host) else { continue };
        // A link in the image must not lead the writing to a file of the host.
        if fs::symlink_metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
            fs::remove_file(&target).map_err(failed("replace", &target))?;
        }
        fs::write(&target, bytes).map_err(failed("write", &target))?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), RootError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("create", path))
}

/// The directory `path` of the image below `root`, made if it is missing. Symbolic links are refused: from outside of
/// the root they would lead to the host.
fn directory_in(root: &Path, path: &str) -> Result<PathBuf, RootError> {
    let mut directory = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        directory.push(part);
        match fs::symlink_metadata(&directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let source = io::Error::new(io::ErrorKind::NotADirectory, "expected a directory in the image");
                return Err(failed("use", &directory)(source));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(&directory, 0o755)?,
            Err(error) => return Err(failed("look at", &directory)(error)),
        }
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_image_is_not_followed_out_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        symlink("/etc", root.path().join("etc")).unwrap();
        let error = directory_in(root.path(), "/etc").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotADirectory);
        assert!(finish(root.path()).is_err());
    }

    #[test]
    fn a_copy_over_an_old_one_follows_no_link_of_it() {
        let (image, old, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir());
        let outside = outside.unwrap();
        fs::write(image.path().join("file"), "image").unwrap();
        fs::create_dir(image.path().join("dir")).unwrap();
        fs::write(image.path().join("dir/file"), "image").unwrap();
        symlink("file", image.path().join("link")).unwrap();
        fs::write(outside.path().join("file"), "outside").unwrap();
        symlink(outside.path().join("file"), old.path().join("file")).unwrap();
        symlink(outside.path(), old.path().join("dir")).unwrap();
        fs::create_dir(old.path().join("link")).unwrap();
        for _ in 0..2 {
            copy_tree(image.path(), old.path()).unwrap();
        }
        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"outside");
        assert_eq!(fs::read(old.path().join("dir/file")).unwrap(), b"image");
        assert_eq!(fs::read_link(old.path().join("link")).unwrap(), Path::new("file"));
    }

    #[test]
    fn host_files_replace_links_of_the_image() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink(outside.path(), root.path().join("etc/hosts")).unwrap();
        finish(root.path()).unwrap();
        assert_eq!(fs::read(outside.path()).unwrap(), b"");
        assert_eq!(fs::read(root.path().join("etc/hosts")).unwrap(), fs::read("/etc/hosts").unwrap());
    }
}
