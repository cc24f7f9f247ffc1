//! What a program takes of the address space once it is loaded.

use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, ReadRef, elf};

/// Pages of an enclave.
const PAGE_BYTES: u64 = 4096;

/// Functions by which a program of C or of Rust's standard library starts a thread.
const THREAD_STARTERS: [&[u8]; 2] = [b"pthread_create", b"thrd_create"];

/// Bytes of a process' memory that the loaders fill, before its heap and stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The program's own segments.
    pub program: u64,
    /// Those of its interpreter.
    pub interpreter: u64,
    /// Those of its shared libraries together.
    pub libraries: u64,
}

/// The length of the range that an ELF file occupies: from the first loaded byte's base to the end of its last segment,
/// rounded up to a page. `None` if it is no 64-bit ELF file.
///
/// Occlum reserves the whole range at once (`process_vm.rs`: the largest `p_vaddr + p_memsz` of the loadable segments).
pub fn loaded_bytes<'data>(file: impl ReadRef<'data>) -> Option<u64> {
    let header = elf::FileHeader64::<Endianness>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, file).ok()?;
    let loadable = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD);
    let end = loadable.filter_map(|segment| segment.p_vaddr(endian).checked_add(segment.p_memsz(endian))).max()?;
    end.checked_next_multiple_of(PAGE_BYTES)
}

/// True if an ELF file asks its libraries for a function that starts threads.
///
/// The C library offers such functions without asking for them, so it does not count.
pub fn starts_threads<'data>(file: impl ReadRef<'data>) -> bool {
    let Ok(file) = ElfFile64::<Endianness, _>::parse(file) else { return false };
    let mut wanted = file.dynamic_symbols().filter(|symbol| symbol.is_undefined());
    wanted.any(|symbol| symbol.name_bytes().is_ok_and(|name| THREAD_STARTERS.contains(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_larger_in_memory_than_nothing_and_starts_threads() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let loaded = loaded_bytes(file.as_slice()).unwrap();
        assert_eq!(loaded % PAGE_BYTES, 0);
        assert!(loaded > 100_000, "{loaded}");
        assert!(starts_threads(file.as_slice()));
    }

    #[test]
    fn a_c_library_starts_threads_only_for_others() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let library = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
        let file = std::fs::read(library).unwrap();
        assert!(loaded_bytes(file.as_slice()).unwrap() > 500_000);
        assert!(!starts_threads(file.as_slice()));
    }

    #[test]
    fn something_else_has_no_size() {
        for file in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", &[0; 4096]] {
            assert_eq!(loaded_bytes(file), None);
            assert!(!starts_threads(file));
        }
    }
}
