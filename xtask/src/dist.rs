//! `cargo xtask dist`: the programs that go into real Occlum images.
//!
//! A binary that is linked on a current distribution needs symbols of its C library that Occlum's glibc 2.31 does not
//! have. So the C library of the link is chosen: `zig cc` brings the symbol tables of every glibc version. Why this way:
//! `docs/adr/0003-glibc-floor.md`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use object::elf::{DF_1_PIE, DT_FLAGS_1, DT_NEEDED, DynamicTag, ET_DYN, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

use crate::prerequisites::{self, CC, PYTHON};
use crate::process::{capture, cargo, heading, say, step};

/// The C library of Occlum's images (0.31, Ubuntu 20.04 flavour).
const GLIBC_FLOOR: Version = Version(2, 31);
/// The package on PyPI that carries the linker, and its version.
const ZIG: &str = "0.17.1";
/// What is built for: the target's name in Rust.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The loader of every x86-64 glibc.
const INTERPRETER: &str = "/lib64/ld-linux-x86-64.so.2";

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

/// Libraries that every glibc image has.
const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6", "librt.so.1", "ld-linux-x86-64.so.2"];

/// Builds the programs, checks them and puts them into `dist/`.
///
/// # Errors
///
/// If a tool is missing, a build fails, or a result does not fit into an Occlum image.
pub fn run(workspace: &Path) -> Result<()> {
    prerequisites::require(&[CC, PYTHON])?;
    let cache = cache_dir()?;
    let zig = install_zig(&cache)?;
    let tools = wrappers(&cache, &zig)?;
    let dist = workspace.join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    for program in [PREMAIN, COORDINATOR] {
        heading(&format!("Build {} for glibc {GLIBC_FLOOR}", program.name));
        let built = build(workspace, &cache, &tools, &program)?;
        let artefact = dist.join(program.name);
        fs::copy(built, &artefact).with_context(|| format!("cannot write {}", artefact.display()))?;
        let facts = check(&artefact, program.max_bytes)?;
        say(&format!(
            "dist/{}: {:.2} MB, position-independent, no symbol newer than GLIBC_{} (limit {GLIBC_FLOOR})",
            program.name,
            facts.bytes as f64 / 1e6,
            facts.newest_glibc,
        ));
    }

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
fn build(workspace: &Path, cache: &Path, tools: &Path, program: &Program) -> Result<PathBuf> {
    let target = workspace.join("target/dist-build");
    let arguments = ["build", "--package", program.package, "--profile", "dist", "--locked", "--target", TARGET];
    step(
        cargo(workspace, &arguments)
            .arg("--target-dir")
            .arg(&target)
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
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

/// A version of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What [`check`] found out about a program.
#[derive(Debug)]
pub struct Facts {
    /// Size of the file.
    pub bytes: u64,
    /// The newest version of the C library that a symbol asks for.
    pub newest_glibc: Version,
}

/// Checks that a built program of at most `max_bytes` runs in a real Occlum image.
///
/// # Errors
///
/// The first property that is missing: size, position independence with the usual interpreter, libraries and symbol
/// versions of the image's C library, no entropy source that reads the time stamp counter.
pub fn check(path: &Path, max_bytes: u64) -> Result<Facts> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let size = bytes.len() as u64;
    ensure!(size <= max_bytes, "{}: expected at most {max_bytes} bytes, got {size}", path.display());
    let elf = Elf::parse(&bytes).with_context(|| format!("{}: not a 64-bit ELF file", path.display()))?;
    elf.check_kind().with_context(|| format!("{}: Occlum starts no such program", path.display()))?;
    for library in elf.libraries()? {
        ensure!(LIBRARIES.contains(&library.as_str()), "{}: the image may lack {library}", path.display());
    }
    let newest = elf.newest_glibc()?.context("expected symbols of the C library, got none")?;
    ensure!(newest <= GLIBC_FLOOR, "{}: expected at most GLIBC_{GLIBC_FLOOR}, got GLIBC_{newest}", path.display());
    if let Some(symbol) = elf.jitter_symbol() {
        bail!("{}: {symbol} is linked; build with AWS_LC_SYS_NO_JITTER_ENTROPY=1", path.display());
    }
    let raw = raw_system_calls(path)?;
    ensure!(raw == 0, "{}: expected system calls through the C library only, got {raw} others", path.display());
    Ok(Facts { bytes: size, newest_glibc: newest })
}

/// Counts `syscall` instructions: inside an enclave they fault, and in a simulation build they leave the LibOS.
fn raw_system_calls(path: &Path) -> Result<usize> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(path)
        .output()
        .context("cannot start objdump (package binutils)")?;
    ensure!(output.status.success(), "objdump: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8_lossy(&output.stdout);
    Ok(listing.lines().filter(|line| line.rsplit('\t').next().is_some_and(|code| code.trim() == "syscall")).count())
}

type Header = FileHeader64<Endianness>;

struct Elf<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    endian: Endianness,
}

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let header = Header::parse(bytes)?;
        Ok(Self { bytes, header, endian: header.endian()? })
    }

    /// A position-independent executable with the usual interpreter.
    fn check_kind(&self) -> Result<()> {
        ensure!(self.header.e_type(self.endian) == ET_DYN, "expected a position-independent executable");
        let mut interpreter = None;
        for segment in self.header.program_headers(self.endian, self.bytes)? {
            if segment.p_type(self.endian) == PT_INTERP {
                interpreter = segment.data(self.endian, self.bytes).ok();
            }
        }
        let interpreter = interpreter.context("expected a program with an interpreter, got a static one")?;
        let interpreter = String::from_utf8_lossy(interpreter.strip_suffix(&[0]).unwrap_or(interpreter));
        ensure!(interpreter == INTERPRETER, "expected the interpreter {INTERPRETER}, got {interpreter}");
        let is_pie = self.dynamic()?.iter().any(|&(tag, value)| tag == DT_FLAGS_1 && value & DF_1_PIE.0 != 0);
        ensure!(is_pie, "expected a position-independent executable, got a shared library");
        Ok(())
    }

    /// Tags and values of the dynamic section.
    fn dynamic(&self) -> Result<Vec<(DynamicTag, u64)>> {
        let sections = self.header.sections(self.endian, self.bytes)?;
        let Some((entries, _)) = sections.dynamic(self.endian, self.bytes)? else { return Ok(Vec::new()) };
        Ok(entries.iter().map(|entry| (entry.tag(self.endian), entry.d_val(self.endian))).collect())
    }

    /// The shared libraries that the program needs.
    fn libraries(&self) -> Result<Vec<String>> {
        let sections = self.header.sections(self.endian, self.bytes)?;
        let Some((entries, link)) = sections.dynamic(self.endian, self.bytes)? else { return Ok(Vec::new()) };
        let strings = sections.strings(self.endian, self.bytes, link)?;
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| entry.tag(self.endian) == DT_NEEDED) {
            found.push(String::from_utf8_lossy(entry.string(self.endian, strings)?).into_owned());
        }
        Ok(found)
    }

    /// The newest `GLIBC_x.y` among the needed symbol versions.
    fn newest_glibc(&self) -> Result<Option<Version>> {
        Ok(self.needed_versions()?.iter().filter_map(|name| parse_version(name)).max())
    }

    fn needed_versions(&self) -> Result<BTreeSet<String>> {
        let sections = self.header.sections(self.endian, self.bytes)?;
        let mut names = BTreeSet::new();
        for section in sections.iter() {
            let Some((mut needed, link)) = section.gnu_verneed(self.endian, self.bytes)? else { continue };
            let strings = sections.strings(self.endian, self.bytes, link)?;
            while let Some((_, mut versions)) = needed.next()? {
                while let Some(version) = versions.next()? {
                    names.insert(String::from_utf8_lossy(version.name(self.endian, strings)?).into_owned());
                }
            }
        }
        Ok(names)
    }

    /// A function of the entropy source that measures time, in a symbol table or as text in a stripped program.
    fn jitter_symbol(&self) -> Option<String> {
        let file = object::File::parse(self.bytes).ok()?;
        let names = file.symbols().chain(file.dynamic_symbols()).filter_map(|symbol| symbol.name().ok());
        let found = names.filter(|name| name.contains("jent_")).map(str::to_owned).next();
        let text = self.bytes.windows(b"jitterentropy".len()).any(|window| window == b"jitterentropy");
        found.or_else(|| text.then(|| "jitterentropy".to_owned()))
    }
}

/// `GLIBC_2.31` and `GLIBC_2.2.5`; other names (`GLIBC_PRIVATE`, `GCC_3.0`) are no versions of the C library.
fn parse_version(name: &str) -> Option<Version> {
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(Version(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("GLIBC_2.2.5"), Some(Version(2, 2)));
        assert_eq!(parse_version("GLIBC_PRIVATE"), None);
        assert_eq!(parse_version("GCC_3.0"), None);
        assert!(parse_version("GLIBC_2.4").unwrap() < parse_version("GLIBC_2.31").unwrap());
    }

    #[test]
    fn a_program_of_the_system_shows_its_symbol_versions_and_libraries() {
        let bytes = fs::read("/bin/sh").unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert!(elf.needed_versions().unwrap().iter().any(|name| name.starts_with("GLIBC_2.")));
        assert!(elf.newest_glibc().unwrap().unwrap() >= Version(2, 2));
        assert!(elf.libraries().unwrap().contains(&"libc.so.6".to_owned()));
        elf.check_kind().unwrap();
        assert_eq!(elf.jitter_symbol(), None);
    }

    #[test]
    fn shared_libraries_other_files_and_large_programs_are_refused() {
        let refused = |path: &str, max_bytes| check(Path::new(path), max_bytes).unwrap_err().to_string();
        assert!(refused("/bin/sh", 1000).contains("expected at most 1000 bytes"));
        assert!(refused("/etc/passwd", MIB).contains("not a 64-bit ELF file"));
        assert!(refused("/lib/x86_64-linux-gnu/libm.so.6", 100 * MIB).contains("Occlum starts no such program"));
    }

    #[test]
    fn a_program_for_a_newer_c_library_is_refused() {
        let newest = Elf::parse(&fs::read("/bin/sh").unwrap()).unwrap().newest_glibc().unwrap().unwrap();
        let checked = check(Path::new("/bin/sh"), MIB);
        if newest > GLIBC_FLOOR {
            let expected = format!("expected at most GLIBC_2.31, got GLIBC_{newest}");
            assert!(checked.unwrap_err().to_string().contains(&expected));
        } else {
            assert_eq!(checked.unwrap().newest_glibc, newest);
        }
    }

    #[test]
    fn a_program_that_needs_the_unwinder_of_the_compiler_is_refused() {
        // This test program is one.
        let own = std::env::current_exe().unwrap();
        let error = check(&own, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("the image may lack libgcc_s.so.1"), "{error}");
    }

    // rules: OCC-1
    #[test]
    fn programs_in_dist_fit_into_an_occlum_image() {
        for program in [PREMAIN, COORDINATOR] {
            let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(program.name);
            if built.exists() {
                check(&built, program.max_bytes).unwrap();
            }
        }
    }

    // rules: OCC-1
    #[test]
    fn system_calls_outside_of_the_c_library_are_counted() {
        assert_eq!(raw_system_calls(Path::new("/bin/true")).unwrap(), 0);
        let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
        assert!(raw_system_calls(libc).unwrap() > 100);
    }
}
