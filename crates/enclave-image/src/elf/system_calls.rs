//! System call instructions in a program's code.

use iced_x86::{Code, Decoder, DecoderOptions};

use super::Program;

/// Most addresses that are collected.
const MAX_FOUND: usize = 10_000;

/// Most code that is decoded in one file, in bytes; what lies behind is not looked at.
const MAX_CODE_BYTES: usize = 256 << 20;

/// Addresses of the instructions `syscall`, `sysenter` and `int 0x80` in the code of `program`, whose file is `bytes`.
///
/// The code is decoded instruction by instruction from the start of each section, so that the bytes of such an
/// instruction inside of another one, of a constant for instance, do not count. Data between functions can still look like
/// one; compilers for x86-64 put data elsewhere.
pub fn inline_system_calls(program: &Program, bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut rest = MAX_CODE_BYTES;
    for (address, range) in &program.code {
        let Some(code) = bytes.get(range.clone()) else { continue };
        let code = &code[..code.len().min(rest)];
        rest -= code.len();
        if !has_candidate(code) {
            continue;
        }
        // A section is decoded to its end: only the start is known to be the start of an instruction.
        let mut decoder = Decoder::with_ip(64, code, *address, DecoderOptions::NONE);
        while decoder.can_decode() && found.len() < MAX_FOUND {
            let instruction = decoder.decode();
            let is_system_call = match instruction.code() {
                Code::Syscall | Code::Sysenter => true,
                Code::Int_imm8 => instruction.immediate8() == 0x80,
                _ => false,
            };
            if is_system_call {
                found.push(instruction.ip());
            }
        }
    }
    found
}

/// Most programs have none of these bytes, and need not be decoded.
fn has_candidate(code: &[u8]) -> bool {
    code.windows(2).any(|pair| matches!(pair, [0x0f, 0x05 | 0x34] | [0xcd, 0x80]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::super::test_file::ElfFile;
    use super::*;

    #[track_caller]
    fn check(code: &[u8], expected: &[u64]) {
        let file = ElfFile::program().code(code).build();
        let program = Program::parse(&file).unwrap();
        let start = program.code[0].0;
        let found: Vec<u64> = inline_system_calls(&program, &file).iter().map(|address| address - start).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn system_calls_are_found_and_their_bytes_in_constants_are_not() {
        // nop; ret
        check(&[0x90, 0xc3], &[]);
        // nop; syscall; ret
        check(&[0x90, 0x0f, 0x05, 0xc3], &[1]);
        // mov eax, 0x050f; ret
        check(&[0xb8, 0x0f, 0x05, 0x00, 0x00, 0xc3], &[]);
        // mov eax, 0x0000050f; syscall; sysenter; int 0x80; int 0x81
        check(&[0xb8, 0x0f, 0x05, 0, 0, 0x0f, 0x05, 0x0f, 0x34, 0xcd, 0x80, 0xcd, 0x81], &[5, 7, 9]);
        // int 0x80 alone
        check(&[0xcd, 0x80], &[0]);
    }
}
