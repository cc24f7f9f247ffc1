//! The other programs of this project, which some commands start.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A program that is found beside this one, in `PATH`, or where it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Runs instances on plain Linux.
    Simulator,
    /// The Coordinator.
    Coordinator,
    /// What turns a program in Occlum or Gramine into a Marble.
    Premain,
}

impl Program {
    /// Its file name.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Simulator => "marble-sim",
            Self::Coordinator => "marblerun-coordinator",
            Self::Premain => "premain-libos",
        }
    }

    /// The package that builds it.
    fn package(self) -> &'static str {
        match self {
            Self::Simulator => "marblerun-simulator",
            Self::Coordinator => "marblerun-coordinator",
            Self::Premain => "marblerun-premain",
        }
    }

    /// What a real image takes is built against an old C library, and may lie where that was done.
    fn has_distribution(self) -> bool {
        self == Self::Premain
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name())
    }
}

/// A program is nowhere.
#[derive(Debug, thiserror::Error)]
#[error("{program} is not installed: looked for it as {}", list(looked))]
pub(crate) struct ProgramNotFound {
    /// The program.
    pub(crate) program: Program,
    /// Every path that was tried, in order.
    pub(crate) looked: Vec<PathBuf>,
}

impl ProgramNotFound {
    /// How to get it.
    pub(crate) fn hint(&self) -> String {
        let distribution = if self.program.has_distribution() { " (for real images: `cargo xtask dist`)" } else { "" };
        format!(
            "put it beside marblerun or into PATH; `cargo build --release --package {}` builds it{distribution}",
            self.program.package()
        )
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// Finds a program: beside the running executable, then in `PATH`, then (the premain only) in `dist` below the current
/// directory. The path is absolute wherever the current directory is known.
///
/// # Errors
///
/// [`ProgramNotFound`] with every place where it was looked for.
pub(crate) fn find(program: Program) -> Result<PathBuf, ProgramNotFound> {
    let executable = env::current_exe().ok();
    search(program, executable.as_deref(), env::var_os("PATH").as_deref(), Path::new("dist"))
}

fn search(
    program: Program,
    executable: Option<&Path>,
    path: Option<&OsStr>,
    distribution: &Path,
) -> Result<PathBuf, ProgramNotFound> {
    let beside = executable.and_then(Path::parent).map(Path::to_owned);
    // An empty element means the current directory to a shell; a program is not taken from wherever one happens to be.
    let path = path.into_iter().flat_map(env::split_paths).filter(|directory| directory.is_absolute());
    let distribution = program.has_distribution().then(|| distribution.to_owned());
    let mut looked = Vec::new();
    for directory in beside.into_iter().chain(path).chain(distribution) {
        let file = directory.join(program.file_name());
        if is_executable(&file) {
            return Ok(std::path::absolute(&file).unwrap_or(file));
        }
        if !looked.contains(&file) {
            looked.push(file);
        }
    }
    Err(ProgramNotFound { program, looked })
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(directory: &Path, name: &str, mode: u32) -> PathBuf {
        std::fs::create_dir_all(directory).unwrap();
        let file = directory.join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_program_beside_this_one_goes_before_path_and_that_before_dist() {
        let root = tempfile::tempdir().unwrap();
        let [bin, path, dist] = ["bin", "path", "dist"].map(|name| root.path().join(name));
        let find = |program| search(program, Some(&bin.join("marblerun")), Some(path.as_os_str()), &dist);
        let error = find(Program::Premain).unwrap_err();
        let name = "premain-libos";
        assert_eq!(error.looked, [bin.join(name), path.join(name), dist.join(name)]);
        assert_eq!(find(Program::Simulator).unwrap_err().looked.len(), 2);
        assert!(error.hint().contains("cargo xtask dist"));

        let last = install(&dist, name, 0o755);
        assert_eq!(find(Program::Premain).unwrap(), last);
        install(&dist, "marble-sim", 0o755);
        assert!(find(Program::Simulator).is_err());
        let second = install(&path, name, 0o755);
        assert_eq!(find(Program::Premain).unwrap(), second);
        let first = install(&bin, name, 0o644);
        assert_eq!(find(Program::Premain).unwrap(), second);
        std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(Program::Premain).unwrap(), first);
    }

    #[test]
    fn relative_elements_of_path_are_not_searched() {
        let error = search(Program::Coordinator, None, Some(OsStr::new(":.:bin")), Path::new("dist")).unwrap_err();
        assert_eq!(error.looked, Vec::<PathBuf>::new());
    }
}
