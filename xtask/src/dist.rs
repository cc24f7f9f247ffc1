//! `cargo xtask dist`: the programs that go into real Occlum images, and the Coordinator as an Occlum instance.
//!
//! A binary that is linked on a current distribution needs symbols of its C library that Occlum's glibc 2.31 does not
//! have. So the C library of the link is chosen: `zig cc` brings the symbol tables of every glibc version. Why this way:
//! `docs/adr/0003-glibc-floor.md`.
//!
//! The same sources give the same bytes, wherever they are built: a user can check what a measurement stands for. The
//! premain is built twice to show it, in different directories; of every program it is checked that it names no directory.

mod elf;
mod instance;
mod places;
mod trial;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use self::elf::Version;
use crate::prerequisites::{self, CC, PYTHON};
use crate::process::{capture, cargo, heading, say, step};

/// The C library of Occlum's images (0.31, Ubuntu 20.04 flavour).
const GLIBC_FLOOR: Version = Version(2, 31);
/// The package on PyPI that carries the linker, and its version.
const ZIG: &str = "0.17.1";
/// What is built for: the target's name in Rust.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program that runs in Occlum.
struct Program {
    package: &'static str,
    name: &'static str,
    /// Size of the stripped file that must not be exceeded.
    max_bytes: u64,
}

const PREMAIN: Program = Program { package: "marblerun-premain", name: "premain-libos", max_bytes: 5 * MIB };
const COORDINATOR: Program =
    Program { package: "marblerun-coordinator", name: "marblerun-coordinator", max_bytes: 12 * MIB };
const MIB: u64 = 1024 * 1024;

/// Where something is built, and with what.
#[derive(Clone, Debug)]
struct Place {
    /// The sources.
    workspace: PathBuf,
    /// Where cargo puts what it builds.
    target: PathBuf,
    /// Where tools keep what they have made.
    cache: PathBuf,
    /// Compiler, linker and archiver.
    tools: PathBuf,
}

/// Builds the programs, checks them and puts them into `dist/`.
///
/// # Errors
///
/// If a tool is missing, a build fails, or a result does not fit into an Occlum image or depends on its place.
pub fn run(workspace: &Path) -> Result<()> {
    prerequisites::require(&[CC, PYTHON])?;
    let cache = cache_dir()?;
    let tools = wrappers(&cache, &install_zig(&cache)?)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let place = Place { workspace: workspace.to_owned(), target: target.join("dist-build"), cache, tools };
    let dist = workspace.join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    for program in [PREMAIN, COORDINATOR] {
        heading(&format!("Build {} for glibc {GLIBC_FLOOR}", program.name));
        let built = build(&place, &program)?;
        let artefact = dist.join(program.name);
        fs::copy(built, &artefact).with_context(|| format!("cannot write {}", artefact.display()))?;
        let facts = elf::check(&artefact, program.max_bytes)?;
        places::check_absent(&artefact, &place)?;
        say(&format!(
            "dist/{}: {:.2} MB, position-independent, no symbol newer than GLIBC_{} (limit {GLIBC_FLOOR}), no directory \
             of this machine",
            program.name,
            facts.bytes as f64 / 1e6,
            facts.newest_glibc,
        ));
    }

    heading(&format!("Build {} once more, in another directory", PREMAIN.name));
    places::build_again(&dist.join(PREMAIN.name), &place, &PREMAIN)?;

    heading("Write the Coordinator as an Occlum instance");
    let sample = workspace.join("samples/occlum-coordinator");
    instance::write(&dist.join("coordinator-instance"), &dist.join(COORDINATOR.name), &sample)?;
    say("dist/coordinator-instance: Occlum.json, the recipe image.yaml and the program; how to go on: docs/on-sgx.md");

    heading("Deploy them as docs/on-sgx.md says, with the simulator in the place of Occlum");
    trial::run(workspace, &dist)?;

    heading("Write man pages and completions");
    write_documentation(workspace, &dist)?;

    heading("Run the premain as Occlum would: its tests against this build");
    let arguments = ["test", "--quiet", "--package", PREMAIN.package, "--test", "it", "--locked", "--", "occlum"];
    step(
        cargo(workspace, &arguments)
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .env("MARBLERUN_PREMAIN", dist.join(PREMAIN.name)),
    )
}

/// Lets the command line write its man pages and completions into `dist/`.
fn write_documentation(workspace: &Path, dist: &Path) -> Result<()> {
    let (man, completions) = (dist.join("man"), dist.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let run = ["run", "--quiet", "--locked", "--package", "marblerun-cli", "--"];
    step(cargo(workspace, &run).args(["documentation", "--man"]).arg(&man))?;
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = capture(cargo(workspace, &run).args(["completion", shell]))?;
        ensure!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
        let path = completions.join(format!("marblerun.{shell}"));
        fs::write(&path, script.stdout).with_context(|| format!("cannot write {}", path.display()))?;
    }
    say("dist/man, dist/completions");
    Ok(())
}

/// Builds one program, by itself: building several together would give each the features of all.
fn build(place: &Place, program: &Program) -> Result<PathBuf> {
    let Place { workspace, target, cache, tools } = place;
    let arguments = ["build", "--package", program.package, "--profile", "dist", "--locked", "--target", TARGET];
    step(
        cargo(workspace, &arguments)
            .arg("--target-dir")
            .arg(target)
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .env("CARGO_ENCODED_RUSTFLAGS", places::compiler_flags(place)?)
            .envs(commit(workspace).map(|commit| ("MARBLERUN_COMMIT", commit)))
            .env("ZIG_GLOBAL_CACHE_DIR", cache.join("zig-cache"))
            .env("CC_x86_64_unknown_linux_gnu", tools.join("cc"))
            .env("AR_x86_64_unknown_linux_gnu", tools.join("ar"))
            .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", tools.join("cc")),
    )?;
    Ok(target.join(TARGET).join("dist").join(program.name))
}

/// The commit that is built, for programs that show it; none outside of a repository or with changes on top.
fn commit(workspace: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(workspace).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    git(&["rev-parse", "HEAD"]).filter(|_| changes.is_empty())
}

fn cache_dir() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("marblerun-xtask"))
        .context("neither XDG_CACHE_HOME nor HOME names a directory")
}

/// Installs the linker into a Python environment of its own, once; returns the path of the program.
fn install_zig(cache: &Path) -> Result<PathBuf> {
    let environment = cache.join(format!("zig-{ZIG}"));
    let python = environment.join("bin/python");
    if let Ok(zig) = find_zig(&python) {
        return Ok(zig);
    }
    say("installing the linker (PyPI package ziglang, about 100 MB, once)");
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let package = format!("ziglang=={ZIG}");
    step(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package]))?;
    find_zig(&python)
}

fn find_zig(python: &Path) -> Result<PathBuf> {
    let script = "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";
    let output = Command::new(python).args(["-c", script]).output().context("the Python environment is broken")?;
    ensure!(output.status.success(), "the package ziglang is not installed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Writes the two scripts that stand in for C compiler, linker and archiver.
fn wrappers(cache: &Path, zig: &Path) -> Result<PathBuf> {
    let tools = cache.join(format!("tools-{ZIG}"));
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let zig = zig.display();
    // `--target` would overrule the C library; the unwinder of gcc is not part of every image, zig's is linked in.
    let cc = format!(
        "#!/bin/sh\n\
         for argument do\n\
         \x20 shift\n\
         \x20 case $argument in\n\
         \x20   --target=*) ;;\n\
         \x20   -lgcc_s | -lgcc_eh) set -- \"$@\" -lunwind ;;\n\
         \x20   *) set -- \"$@\" \"$argument\" ;;\n\
         \x20 esac\n\
         done\n\
         exec '{zig}' cc -target x86_64-linux-gnu.{GLIBC_FLOOR} -fno-sanitize=undefined \"$@\"\n"
    );
    let ar = format!("#!/bin/sh\nexec '{zig}' ar \"$@\"\n");
    for (name, script) in [("cc", cc), ("ar", ar)] {
        let path = tools.join(name);
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(tools)
}
