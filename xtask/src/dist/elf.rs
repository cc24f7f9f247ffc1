//! What a program must be so that a real Occlum image can start it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use object::elf::{DF_1_PIE, DT_FLAGS_1, DT_NEEDED, DynamicTag, ET_DYN, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

use super::GLIBC_FLOOR;

/// The loader of every x86-64 glibc.
const INTERPRETER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Libraries that every glibc image has.
const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6", "librt.so.1", "ld-linux-x86-64.so.2"];

/// A version of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub(super) u32, pub(super) u32);

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
    use crate::dist::{COORDINATOR, MIB, PREMAIN};

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
