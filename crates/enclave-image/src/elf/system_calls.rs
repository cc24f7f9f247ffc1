//! System call instructions in a program's code.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, Register};

use super::Program;

/// Most addresses that are collected.
const MAX_FOUND: usize = 10_000;

/// Most code that is decoded in one file, in bytes; what lies behind is not looked at.
const MAX_CODE_BYTES: usize = 256 << 20;

/// Instructions between the one that sets the number of the system call and the system call.
const MAX_DISTANCE: usize = 16;

/// Instructions behind a system call that must make sense.
const LOOK_AHEAD: usize = 3;

/// Addresses of the instructions `syscall`, `sysenter` and `int 0x80` in the code of `program`, whose file is `bytes`.
///
/// The code is decoded instruction by instruction from the start of each section, so that the bytes of such an
/// instruction inside of another one, of a constant for instance, do not count. Assembly of cryptographic libraries has
/// tables between its functions, which look like instructions as well: a system call counts only if an instruction shortly
/// before sets its number (`eax`), and if nothing around it is what programs never contain.
pub fn inline_system_calls(program: &Program, bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut rest = MAX_CODE_BYTES;
    for (address, range) in &program.code {
        let Some(code) = bytes.get(range.clone()) else { continue };
        let code = &code[..code.len().min(rest)];
        rest -= code.len();
        if has_candidate(code) {
            search(code, *address, &mut found);
        }
    }
    found
}

fn search(code: &[u8], address: u64, found: &mut Vec<u64>) {
    // Only the start of a section is known to be the start of an instruction.
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    // Instructions since the number was set.
    let mut distance = None;
    while decoder.can_decode() && found.len() < MAX_FOUND {
        let instruction = decoder.decode();
        if is_system_call(&instruction) {
            let behind = code.get(decoder.position()..).unwrap_or_default();
            if distance.is_some() && makes_sense(behind, decoder.ip()) {
                found.push(instruction.ip());
            }
            // The result is in eax, where a loop may take the next number from.
        } else if sets_number(&instruction) {
            distance = Some(0);
        } else if is_strange(&instruction) || matches!(instruction.mnemonic(), Mnemonic::Ret | Mnemonic::Call) {
            distance = None;
        } else {
            distance = distance.map(|distance| distance + 1).filter(|distance| *distance <= MAX_DISTANCE);
        }
    }
}

fn is_system_call(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Syscall | Code::Sysenter => true,
        Code::Int_imm8 => instruction.immediate8() == 0x80,
        _ => false,
    }
}

fn sets_number(instruction: &Instruction) -> bool {
    matches!(instruction.op0_register(), Register::EAX | Register::RAX)
        && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::INVALID)
}

/// What no compiler writes into a program for user space: data, most likely.
fn is_strange(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    instruction.is_invalid()
        || matches!(
            instruction.mnemonic(),
            Retf | In
                | Out
                | Insb
                | Insd
                | Outsb
                | Outsd
                | Hlt
                | Cli
                | Sti
                | Iret
                | Iretd
                | Iretq
                | Xlatb
                | Enter
                | Std
        )
}

/// True if what follows is code, as far as a few instructions tell.
fn makes_sense(code: &[u8], address: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    for _ in 0..LOOK_AHEAD {
        if !decoder.can_decode() {
            return true;
        }
        let instruction = decoder.decode();
        if instruction.mnemonic() == Mnemonic::Ret {
            return true;
        }
        if is_strange(&instruction) && decoder.can_decode() {
            return false;
        }
    }
    true
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
        // mov eax, 1; syscall; ret
        check(&[0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3], &[5]);
        // mov rax, rdi; mov rdi, rsi; syscall; ret
        check(&[0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x0f, 0x05, 0xc3], &[6]);
        // xor eax, eax; sysenter; int 0x80; int 0x81
        check(&[0x31, 0xc0, 0x0f, 0x34, 0xcd, 0x80, 0xcd, 0x81], &[2, 4]);
        // mov eax, 0x050f; ret
        check(&[0xb8, 0x0f, 0x05, 0x00, 0x00, 0xc3], &[]);
        // mov eax, 0x050f; syscall at the end of the section
        check(&[0xb8, 0x0f, 0x05, 0, 0, 0x0f, 0x05], &[5]);
    }

    #[test]
    fn tables_between_functions_are_no_system_calls() {
        // No number: two places of real tables in the code of cryptographic libraries.
        check(&[0x86, 0xfa, 0x28, 0xaa, 0x3f, 0x07, 0x1f, 0x02, 0x0f, 0x05, 0x09, 0xe6, 0x92, 0xc6], &[]);
        check(&[0xb0, 0xfc, 0xb1, 0x80, 0xcd, 0x80, 0x01, 0x08], &[]);
        // A number, but nonsense (retf, then an invalid instruction) before or behind.
        check(&[0xb8, 1, 0, 0, 0, 0xcb, 0x0f, 0x05, 0xc3], &[]);
        check(&[0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0x06, 0x90, 0xc3], &[]);
        // A number that another function was called for.
        check(&[0xb8, 1, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3], &[]);
        // A number that was set too long ago.
        let far = [&[0xb8, 1, 0, 0, 0][..], &[0x90; 20], &[0x0f, 0x05, 0xc3]].concat();
        check(&far, &[]);
    }

    #[test]
    fn the_c_library_of_this_machine_makes_many() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let library = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
        let file = std::fs::read(library).unwrap();
        let found = inline_system_calls(&Program::parse(&file).unwrap(), &file);
        assert!(found.len() > 200, "{}", found.len());
    }
}
