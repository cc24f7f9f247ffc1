//! ELF files, as far as they decide whether and how Occlum runs them.
//!
//! [`examine`] looks at the beginning only and tells programs, scripts and others apart, as the program loader does.
//! [`Program::parse`] reads what a program needs from others; [`inline_system_calls`] looks at its code.

mod program;
mod system_calls;
#[cfg(test)]
pub(crate) mod test_file;

pub(crate) use program::glibc_version;
pub use program::{ElfError, Import, MAX_PROGRAM_BYTES, Program, ProgramKind, RequiredVersion};
pub use system_calls::inline_system_calls;

use std::io::{self, Read, Seek, SeekFrom};

/// Most program headers that are looked at; real programs have about a dozen.
const MAX_PROGRAM_HEADERS: u16 = 128;

/// Longest interpreter path (`PATH_MAX`).
const MAX_INTERPRETER: u64 = 4096;

const EM_X86_64: u16 = 62;
const ET_DYN: u16 = 3;
const PT_INTERP: u32 = 3;
const PROGRAM_HEADER_LEN: u16 = 56;

/// What a file is to a program loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// A position-independent program that names its interpreter: what Occlum loads.
    Dynamic {
        /// The interpreter's path.
        interpreter: String,
    },
    /// A program for this machine that Occlum cannot load.
    Unloadable {
        /// Why.
        reason: &'static str,
    },
    /// A script; the rest of its first line.
    Script {
        /// What follows `#!`, blanks around it removed; `None` if the line does not end within 127 bytes.
        interpreter: Option<String>,
    },
    /// Neither an ELF file for x86-64 nor a script.
    Foreign,
}

/// Looks at the beginning of `file`.
///
/// # Errors
/// Only what reading gives; a malformed file is [`Image::Foreign`].
pub fn examine(mut file: impl Read + Seek) -> io::Result<Image> {
    let mut start = Vec::with_capacity(128);
    file.by_ref().take(128).read_to_end(&mut start)?;
    if start.starts_with(b"#!") {
        // Occlum takes the whole rest of the line, arguments included, as the path.
        let line = start.iter().take(127).position(|byte| *byte == b'\n').map(|end| &start[2..end]);
        let interpreter = line.map(|line| String::from_utf8_lossy(line).trim().to_owned());
        return Ok(Image::Script { interpreter });
    }
    let Some(header) = Header::parse(&start) else { return Ok(Image::Foreign) };
    if header.program_headers > MAX_PROGRAM_HEADERS {
        return Ok(Image::Foreign);
    }
    file.seek(SeekFrom::Start(header.program_header_offset))?;
    let mut table = Vec::new();
    let len = u64::from(header.program_headers) * u64::from(PROGRAM_HEADER_LEN);
    file.by_ref().take(len).read_to_end(&mut table)?;
    let interpreter = table
        .chunks_exact(usize::from(PROGRAM_HEADER_LEN))
        .find(|entry| u32_at(entry, 0) == Some(PT_INTERP))
        .and_then(|entry| Some((u64_at(entry, 8)?, u64_at(entry, 32)?)));
    let Some((offset, len)) = interpreter else {
        return Ok(Image::Unloadable { reason: "it has no interpreter segment (it is statically linked)" });
    };
    if header.kind != ET_DYN {
        return Ok(Image::Unloadable { reason: "it is not position-independent" });
    }
    if len > MAX_INTERPRETER || file.seek(SeekFrom::Start(offset)).is_err() {
        return Ok(Image::Foreign);
    }
    let mut path = Vec::new();
    file.take(len).read_to_end(&mut path)?;
    while path.last() == Some(&0) {
        path.pop();
    }
    Ok(String::from_utf8(path).map_or(Image::Foreign, |interpreter| Image::Dynamic { interpreter }))
}

struct Header {
    kind: u16,
    program_header_offset: u64,
    program_headers: u16,
}

impl Header {
    /// Reads a 64-bit little-endian header for x86-64 (System V ABI, "ELF Header").
    fn parse(bytes: &[u8]) -> Option<Self> {
        let well_formed = bytes.starts_with(b"\x7fELF\x02\x01")
            && u16_at(bytes, 18)? == EM_X86_64
            && u16_at(bytes, 54)? == PROGRAM_HEADER_LEN;
        well_formed.then_some(())?;
        Some(Self {
            kind: u16_at(bytes, 16)?,
            program_header_offset: u64_at(bytes, 32)?,
            program_headers: u16_at(bytes, 56)?,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::io::Cursor;

    use super::*;

    fn elf(kind: u16, machine: u16, interpreter: Option<&str>) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        let mut entry = vec![0; 56];
        entry[..4].copy_from_slice(&interpreter.map_or(1, |_| PT_INTERP).to_le_bytes());
        entry[8..16].copy_from_slice(&120_u64.to_le_bytes());
        let path = format!("{}\0", interpreter.unwrap_or_default());
        entry[32..40].copy_from_slice(&(path.len() as u64).to_le_bytes());
        file.extend(entry);
        file.extend(path.as_bytes());
        file
    }

    #[track_caller]
    fn check(file: &[u8], expected: Image) {
        assert_eq!(examine(Cursor::new(file)).unwrap(), expected);
    }

    #[test]
    fn files_are_told_apart() {
        check(&elf(ET_DYN, EM_X86_64, Some("/lib/ld.so")), Image::Dynamic { interpreter: "/lib/ld.so".into() });
        check(&elf(ET_DYN, 3, Some("/lib/ld.so")), Image::Foreign);
        check(b"", Image::Foreign);
        check(b"\x7fELF", Image::Foreign);
        check(b"#!/bin/sh\nexit", Image::Script { interpreter: Some("/bin/sh".into()) });
        check(b"#! /bin/sh -e \n", Image::Script { interpreter: Some("/bin/sh -e".into()) });
        let long = format!("#!/{}\n", "x".repeat(124));
        check(long.as_bytes(), Image::Script { interpreter: None });
    }

    #[test]
    fn static_and_position_dependent_programs_are_unloadable() {
        for file in [elf(ET_DYN, EM_X86_64, None), elf(2, EM_X86_64, None), elf(2, EM_X86_64, Some("/lib/ld.so"))] {
            assert!(matches!(examine(Cursor::new(file)).unwrap(), Image::Unloadable { .. }));
        }
    }

    #[test]
    fn a_truncated_file_never_panics() {
        let file = elf(ET_DYN, EM_X86_64, Some("/lib/ld.so"));
        for len in 0..file.len() {
            examine(Cursor::new(&file[..len])).unwrap();
        }
    }
}
