//! What a program or library needs from others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use object::LittleEndian;
use object::elf::{
    DF_1_PIE, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, ELFCLASS64, ELFDATA2LSB,
    EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_X, PT_LOAD, SHF_EXECINSTR, SHT_DYNSYM, STT_FUNC, STT_NOTYPE,
};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _};

/// Largest file that is read as a program, in bytes.
pub const MAX_PROGRAM_BYTES: u64 = 512 << 20;

/// Most segments; real programs have about a dozen.
const MAX_SEGMENTS: usize = 128;
/// Most entries of the dynamic segment that are read.
const MAX_DYNAMIC: usize = 4096;
/// Most symbols that are read; the largest libraries have some hundred thousand.
const MAX_SYMBOLS: usize = 1 << 20;
/// Most versions, needed and defined; glibc defines about fifty.
const MAX_VERSIONS: usize = 4096;
/// Longest name or path that is kept (`PATH_MAX`).
const MAX_NAME: usize = 4096;
/// Most pieces of code; a program with a section per function has been linked wrongly.
const MAX_CODE_RANGES: usize = 1024;

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// Bytes are no program or library for x86-64.
#[non_exhaustive]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Something else, or nothing.
    #[error("it is no ELF file")]
    NotElf,
    /// For an older processor.
    #[error("it is a 32-bit program")]
    ThirtyTwoBit,
    /// For another processor.
    #[error("it is for another processor than x86-64 (e_machine {machine})")]
    OtherMachine {
        /// The number in the header.
        machine: u16,
    },
    /// An object file, a core dump, …
    #[error("it is neither a program nor a shared library (e_type {kind})")]
    NotLoadable {
        /// The number in the header.
        kind: u16,
    },
    /// The file contradicts itself.
    #[error("it is a damaged ELF file: {0}")]
    Malformed(Cow<'static, str>),
}

impl From<object::read::Error> for ElfError {
    fn from(error: object::read::Error) -> Self {
        Self::Malformed(error.to_string().into())
    }
}

/// How a file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// Position-independent, with an interpreter: what Occlum loads.
    Dynamic,
    /// With an interpreter, but at a fixed address.
    FixedAddress,
    /// Without interpreter, at a fixed address.
    Static,
    /// Without interpreter, position-independent.
    StaticPie,
    /// A shared library, or a loader.
    Library,
}

/// A version that a file needs of a library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredVersion {
    /// Name of the library, such as `libc.so.6`.
    pub library: String,
    /// Name of the version, such as `GLIBC_2.34`.
    pub version: String,
    /// False if the loader only warns where the version is missing.
    pub is_strong: bool,
}

/// A function that a file expects of some library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// Its version, if it has one.
    pub version: Option<String>,
}

/// What a program or library needs from others, and where its code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// How it is linked.
    pub kind: ProgramKind,
    /// Its loader.
    pub interpreter: Option<String>,
    /// Libraries that it names, in order.
    pub needed: Vec<String>,
    /// Its own name, of a library.
    pub soname: Option<String>,
    /// Directories in which its libraries are looked for first (`DT_RUNPATH`, else `DT_RPATH`), as they stand.
    pub run_path: Vec<String>,
    /// Versions that it needs.
    pub required_versions: Vec<RequiredVersion>,
    /// Versions that it defines.
    pub defined_versions: Vec<String>,
    /// Functions that it expects of others.
    pub imports: Vec<Import>,
    /// True if it was made by the Go compiler.
    pub is_go: bool,
    /// Address and place in the file of its code.
    pub code: Vec<(u64, Range<usize>)>,
}

impl Program {
    /// Reads a file. Loaded is what the program headers say; names of functions and versions come from the sections, which
    /// `strip` leaves in place.
    ///
    /// # Errors
    /// [`ElfError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        let header = header(bytes)?;
        let segments = header.program_headers(ENDIAN, bytes)?;
        if segments.len() > MAX_SEGMENTS {
            return Err(ElfError::Malformed(format!("{} program headers", segments.len()).into()));
        }
        let mut interpreter = None;
        for segment in segments {
            if let Some(path) = segment.interpreter(ENDIAN, bytes)? {
                interpreter = Some(name(path)?);
            }
        }
        let dynamic = Dynamic::read(segments, bytes)?;
        let is_position_independent = header.e_type(ENDIAN) == ET_DYN;
        let kind = match (is_position_independent, &interpreter) {
            // libc.so.6 has an interpreter too, and can be run.
            (true, Some(_)) => ProgramKind::Dynamic,
            (true, None) if dynamic.is_pie => ProgramKind::StaticPie,
            (true, None) => ProgramKind::Library,
            (false, Some(_)) => ProgramKind::FixedAddress,
            (false, None) => ProgramKind::Static,
        };
        let sections = header.sections(ENDIAN, bytes)?;
        let versions = Versions::read(&sections, bytes)?;
        let is_go = [".go.buildinfo", ".note.go.buildid", ".gopclntab"]
            .iter()
            .any(|name| sections.section_by_name(ENDIAN, name.as_bytes()).is_some());
        Ok(Self {
            kind,
            interpreter,
            needed: dynamic.needed,
            soname: dynamic.soname,
            run_path: if dynamic.run_path.is_empty() { dynamic.old_run_path } else { dynamic.run_path },
            imports: imports(&sections, &versions, bytes)?,
            required_versions: versions.required,
            defined_versions: versions.defined,
            is_go,
            code: code(&sections, segments, bytes),
        })
    }

    /// True if it expects a function of this name.
    pub fn imports_function(&self, name: &str) -> bool {
        self.imports.iter().any(|import| import.name == name)
    }

    /// The newest glibc whose symbols it needs: 2.34 is `(2, 34)`.
    pub fn newest_glibc(&self) -> Option<(u32, u32)> {
        self.required_versions.iter().filter_map(|required| glibc_version(&required.version)).max()
    }
}

/// `GLIBC_2.34` as numbers; a third number does not count.
pub(crate) fn glibc_version(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("GLIBC_")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn header(bytes: &[u8]) -> Result<&Header, ElfError> {
    let Some(identification) = bytes.get(..16).filter(|start| start.starts_with(b"\x7fELF")) else {
        return Err(ElfError::NotElf);
    };
    let machine = bytes.get(18..20).map_or(0, |field| u16::from_le_bytes([field[0], field[1]]));
    if identification[5] != ELFDATA2LSB.0 {
        return Err(ElfError::OtherMachine { machine: machine.swap_bytes() });
    }
    if identification[4] != ELFCLASS64.0 {
        return Err(ElfError::ThirtyTwoBit);
    }
    if machine != EM_X86_64.0 {
        return Err(ElfError::OtherMachine { machine });
    }
    let header = Header::parse(bytes)?;
    match header.e_type(ENDIAN) {
        ET_DYN | ET_EXEC => Ok(header),
        other => Err(ElfError::NotLoadable { kind: other.0 }),
    }
}

fn name(bytes: &[u8]) -> Result<String, ElfError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= MAX_NAME => Ok(text.to_owned()),
        _ => Err(ElfError::Malformed("a name is too long or no text".into())),
    }
}

/// The dynamic segment.
#[derive(Default)]
struct Dynamic {
    needed: Vec<String>,
    soname: Option<String>,
    run_path: Vec<String>,
    old_run_path: Vec<String>,
    is_pie: bool,
}

type Segment = object::elf::ProgramHeader64<LittleEndian>;

impl Dynamic {
    fn read(segments: &[Segment], bytes: &[u8]) -> Result<Self, ElfError> {
        let mut found = Self::default();
        let mut entries = Vec::new();
        for segment in segments {
            if let Some(table) = segment.dynamic(ENDIAN, bytes)? {
                let pairs = table.iter().map(|entry| (entry.d_tag(ENDIAN), entry.d_val(ENDIAN)));
                entries = pairs.take_while(|(tag, _)| tag.0 != 0).take(MAX_DYNAMIC).collect();
            }
        }
        let value = |tag| entries.iter().find(|(other, _)| *other == tag).map(|(_, value)| *value);
        let strings = match (value(DT_STRTAB), value(DT_STRSZ)) {
            (Some(address), Some(len)) => at_address(segments, bytes, address, len),
            _ => None,
        };
        let string = |offset: u64| {
            let rest = strings.and_then(|strings| strings.get(usize::try_from(offset).ok()?..));
            let rest = rest.ok_or(ElfError::Malformed("a name lies outside of the string table".into()))?;
            let rest = &rest[..rest.len().min(MAX_NAME + 1)];
            name(rest.split(|byte| *byte == 0).next().unwrap_or_default())
        };
        let split = |path: String| path.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        for (tag, value) in &entries {
            match *tag {
                DT_NEEDED => found.needed.push(string(*value)?),
                DT_SONAME => found.soname = Some(string(*value)?),
                DT_RUNPATH => found.run_path = split(string(*value)?),
                DT_RPATH => found.old_run_path = split(string(*value)?),
                DT_FLAGS_1 => found.is_pie = value & DF_1_PIE.0 != 0,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The bytes of the file that are loaded at an address.
fn at_address<'data>(segments: &[Segment], bytes: &'data [u8], address: u64, len: u64) -> Option<&'data [u8]> {
    segments.iter().filter(|segment| segment.p_type(ENDIAN) == PT_LOAD).find_map(|segment| {
        let into = address.checked_sub(segment.p_vaddr(ENDIAN))?;
        let end = into.checked_add(len).filter(|end| *end <= segment.p_filesz(ENDIAN))?;
        let start = usize::try_from(segment.p_offset(ENDIAN).checked_add(into)?).ok()?;
        let end = usize::try_from(segment.p_offset(ENDIAN).checked_add(end)?).ok()?;
        bytes.get(start..end)
    })
}

type Sections<'data> = SectionTable<'data, Header>;

/// Symbol versions (`.gnu.version_r`, `.gnu.version_d`).
#[derive(Default)]
struct Versions {
    required: Vec<RequiredVersion>,
    defined: Vec<String>,
    /// Names by the index that symbols have.
    names: BTreeMap<u16, String>,
}

impl Versions {
    fn read(sections: &Sections<'_>, bytes: &[u8]) -> Result<Self, ElfError> {
        let mut found = Self::default();
        // Entries may point to each other in a hostile file; each step counts.
        let mut steps = 0;
        let mut count = || {
            steps += 1;
            if steps > MAX_VERSIONS { Err(ElfError::Malformed("too many symbol versions".into())) } else { Ok(()) }
        };
        if let Some((mut needs, link)) = sections.gnu_verneed(ENDIAN, bytes)? {
            let strings = sections.strings(ENDIAN, bytes, link)?;
            while let Some((need, mut versions)) = needs.next()? {
                count()?;
                let library = name(need.file(ENDIAN, strings)?)?;
                while let Some(version) = versions.next()? {
                    count()?;
                    let text = name(version.name(ENDIAN, strings)?)?;
                    found.names.insert(version.vna_other.get(ENDIAN).0, text.clone());
                    // VER_FLG_WEAK
                    let is_strong = version.vna_flags.get(ENDIAN).0 & 2 == 0;
                    found.required.push(RequiredVersion { library: library.clone(), version: text, is_strong });
                }
            }
        }
        if let Some((mut definitions, link)) = sections.gnu_verdef(ENDIAN, bytes)? {
            let strings = sections.strings(ENDIAN, bytes, link)?;
            while let Some((_, mut names)) = definitions.next()? {
                count()?;
                // The first is the version's own name, the others are those that it contains.
                if let Some(first) = names.next()? {
                    found.defined.push(name(first.name(ENDIAN, strings)?)?);
                }
            }
        }
        Ok(found)
    }
}

fn imports(sections: &Sections<'_>, versions: &Versions, bytes: &[u8]) -> Result<Vec<Import>, ElfError> {
    let symbols = sections.symbols(ENDIAN, bytes, SHT_DYNSYM)?;
    if symbols.len() > MAX_SYMBOLS {
        return Err(ElfError::Malformed(format!("{} symbols", symbols.len()).into()));
    }
    let indexes = sections.gnu_versym(ENDIAN, bytes)?.map(|(indexes, _)| indexes).unwrap_or_default();
    let mut found = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let is_function = matches!(symbol.st_type(), STT_FUNC | STT_NOTYPE);
        if index.0 == 0 || !symbol.is_undefined(ENDIAN) || !is_function {
            continue;
        }
        let name = name(symbol.name(ENDIAN, symbols.strings())?)?;
        let version = indexes.get(index.0).and_then(|versym| versions.names.get(&(versym.0.get(ENDIAN).0 & 0x7fff)));
        found.push(Import { name, version: version.cloned() });
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The executable sections; of a file without sections, the executable segments.
fn code(sections: &Sections<'_>, segments: &[Segment], bytes: &[u8]) -> Vec<(u64, Range<usize>)> {
    let range = |address: u64, place: Option<(u64, u64)>| {
        let (offset, len) = place?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (start < end && end <= bytes.len()).then_some((address, start..end))
    };
    let executable = sections.iter().filter(|section| section.sh_flags(ENDIAN).0 & SHF_EXECINSTR.0 != 0);
    let found = executable.filter_map(|section| range(section.sh_addr(ENDIAN), section.file_range(ENDIAN)));
    let found: Vec<_> = found.take(MAX_CODE_RANGES).collect();
    if !found.is_empty() {
        return found;
    }
    let loaded = segments.iter().filter(|segment| segment.p_type(ENDIAN) == PT_LOAD);
    let executable = loaded.filter(|segment| segment.p_flags(ENDIAN).0 & PF_X.0 != 0);
    executable.filter_map(|segment| range(segment.p_vaddr(ENDIAN), Some(segment.file_range(ENDIAN)))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::super::test_file::ElfFile;
    use super::*;

    #[test]
    fn everything_that_a_program_needs_is_read() {
        let file = ElfFile::program()
            .needs("libssl.so.3")
            .needs("libc.so.6")
            .run_path("$ORIGIN/../lib:/opt/lib")
            .requires("libssl.so.3", "OPENSSL_3.0.0")
            .requires("libc.so.6", "GLIBC_2.34")
            .imports_versioned("__libc_start_main")
            .imports("fork")
            .build();
        let program = Program::parse(&file).unwrap();
        assert_eq!(program.kind, ProgramKind::Dynamic);
        assert_eq!(program.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(program.needed, ["libssl.so.3", "libc.so.6"]);
        assert_eq!(program.run_path, ["$ORIGIN/../lib", "/opt/lib"]);
        assert_eq!(program.newest_glibc(), Some((2, 34)));
        let versions: Vec<&str> = program.required_versions.iter().map(|v| v.version.as_str()).collect();
        assert_eq!(versions, ["OPENSSL_3.0.0", "GLIBC_2.34"]);
        assert!(program.required_versions.iter().all(|version| version.is_strong));
        let start = Import { name: "__libc_start_main".into(), version: Some("GLIBC_2.34".into()) };
        assert_eq!(program.imports, [start, Import { name: "fork".into(), version: None }]);
        assert!(program.imports_function("fork") && !program.imports_function("vfork"));
        assert!(!program.is_go);
    }

    #[test]
    fn a_library_says_its_name_and_versions() {
        let file = ElfFile::library("libc.so.6").defines("GLIBC_2.2.5").defines("GLIBC_2.31").build();
        let program = Program::parse(&file).unwrap();
        assert_eq!((program.kind, program.soname.as_deref()), (ProgramKind::Library, Some("libc.so.6")));
        assert_eq!(program.defined_versions, ["GLIBC_2.2.5", "GLIBC_2.31"]);
    }

    #[test]
    fn kinds_of_linking_are_told_apart() {
        let kind = |file: ElfFile| Program::parse(&file.build()).unwrap().kind;
        assert_eq!(kind(ElfFile::program()), ProgramKind::Dynamic);
        assert_eq!(kind(ElfFile::program().interpreter(None)), ProgramKind::StaticPie);
        assert_eq!(kind(ElfFile::program().kind(2)), ProgramKind::FixedAddress);
        assert_eq!(kind(ElfFile::program().kind(2).interpreter(None)), ProgramKind::Static);
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let error = |file: &[u8]| Program::parse(file).unwrap_err();
        assert_eq!(error(b""), ElfError::NotElf);
        assert_eq!(error(b"#!/bin/sh\n, and more than 16 bytes"), ElfError::NotElf);
        let mut file = ElfFile::program().machine(3).build();
        file[4] = 1;
        assert_eq!(error(&file), ElfError::ThirtyTwoBit);
        assert_eq!(error(&ElfFile::program().machine(183).build()), ElfError::OtherMachine { machine: 183 });
        assert_eq!(error(&ElfFile::program().kind(1).build()), ElfError::NotLoadable { kind: 1 });
        file = ElfFile::program().machine(22).build();
        file[5] = 2;
        file.swap(18, 19);
        assert_eq!(error(&file), ElfError::OtherMachine { machine: 22 });
    }

    #[test]
    fn truncated_and_changed_files_never_panic() {
        let whole = ElfFile::program().needs("libc.so.6").requires("libc.so.6", "GLIBC_2.34").imports_versioned("puts");
        let file = whole.defines("X_1").build();
        for len in 0..file.len() {
            let _ = Program::parse(&file[..len]);
        }
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = file.clone();
                changed[at] = value;
                let _ = Program::parse(&changed);
            }
        }
    }

    #[test]
    fn this_test_is_a_dynamic_program() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = Program::parse(&file).unwrap();
        assert_eq!(program.kind, ProgramKind::Dynamic);
        assert!(program.needed.iter().any(|name| name.starts_with("libc.")), "{:?}", program.needed);
        assert!(!program.code.is_empty());
    }
}
