//! The seccomp filter: which system calls the kernel runs, which it refuses, and which wait for the supervisor.

use marblerun_linux::seccomp::Instruction;

/// How closely the system call table of Occlum is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Calls that Occlum refuses work; what Occlum would refuse to load is loaded with a warning.
    Lenient,
    /// What Occlum refuses is refused, by number and by argument.
    Strict,
}

/// Who answers the calls that the kernel does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The listener of the filter.
    Notify,
    /// A tracer, where another filter has the only listener.
    Trace,
}

impl Trap {
    fn action(self) -> u32 {
        match self {
            Self::Notify => NOTIFY,
            Self::Trace => TRACE,
        }
    }
}

/// A call that is handled beyond what Occlum's rules ask for. In strict mode this changes nothing for calls that Occlum
/// refuses: those stay refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// The supervisor sees every such call.
    Watch(u32),
    /// The supervisor sees such a call if the lower half of an argument has one of these bits.
    WatchBits {
        /// The call.
        number: u32,
        /// Index of the argument.
        argument: u32,
        /// The bits.
        bits: u32,
    },
    /// The supervisor sees such a call if the lower half of an argument is one of these values.
    WatchValues {
        /// The call.
        number: u32,
        /// Index of the argument.
        argument: u32,
        /// The values, a dozen at most.
        values: &'static [u32],
    },
    /// The supervisor sees such a call unless the lower half of an argument is this value.
    WatchUnless {
        /// The call.
        number: u32,
        /// Index of the argument.
        argument: u32,
        /// The value.
        value: u32,
    },
    /// The call fails with ENOSYS.
    Refuse(u32),
}

impl Extra {
    /// The call.
    pub fn number(self) -> u32 {
        match self {
            Self::Watch(number) | Self::Refuse(number) => number,
            Self::WatchBits { number, .. } | Self::WatchValues { number, .. } | Self::WatchUnless { number, .. } => {
                number
            }
        }
    }

    fn body(self, trap: Instruction) -> Vec<Instruction> {
        match self {
            Self::Watch(_) => vec![trap],
            Self::Refuse(_) => vec![give(ERRNO | ENOSYS)],
            Self::WatchBits { argument: index, bits, .. } => {
                vec![load(argument(index)), and(bits), if_equal(0, 0, 1), give(ALLOW), trap]
            }
            Self::WatchValues { argument: index, values, .. } => {
                let mut body = vec![load(argument(index))];
                for value in values {
                    body.extend([if_equal(*value, 0, 1), trap]);
                }
                body.push(give(ALLOW));
                body
            }
            Self::WatchUnless { argument: index, value, .. } => {
                vec![load(argument(index)), if_equal(value, 0, 1), give(ALLOW), trap]
            }
        }
    }
}

/// True if Occlum implements the call.
fn is_implemented(number: u32) -> bool {
    IMPLEMENTED.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// System call numbers of x86-64 that the filter looks at one by one.
pub mod number {
    #![allow(missing_docs, reason = "the names of the calls")]
    pub const IOCTL: u32 = 16;
    pub const MADVISE: u32 = 28;
    pub const CLONE: u32 = 56;
    pub const EXECVE: u32 = 59;
    pub const UNAME: u32 = 63;
    pub const FCNTL: u32 = 72;
    pub const GETRLIMIT: u32 = 97;
    pub const PRCTL: u32 = 157;
    pub const SETRLIMIT: u32 = 160;
    pub const FUTEX: u32 = 202;
    pub const RESTART_SYSCALL: u32 = 219;
    pub const PRLIMIT64: u32 = 302;
    pub const GETRANDOM: u32 = 318;
    pub const MOUNT_ROOT_FS: u32 = 363;
    pub const CLONE3: u32 = 435;
}

/// Highest number in Occlum's table of calls that are known but not implemented; they answer ENOSYS.
const LAST_KNOWN: u32 = 334;

/// LibOS-private calls (`spawn` and the like), which only Occlum's own libc makes. Any other libc gets the kernel's
/// answer, which is ENOSYS; the supervisor answers the last one, which the init stage makes.
const PRIVATE: std::ops::RangeInclusive<u32> = 359..=363;

/// The calls that Occlum implements, as ranges in ascending order.
/// Source: Occlum's `src/libos/src/syscall/mod.rs`.
#[rustfmt::skip]
const IMPLEMENTED: &[(u32, u32)] = &[
    (0, 26), (28, 33), (35, 35), (39, 56), (58, 63), (67, 67), (72, 97), (99, 99), (102, 102), (104, 104), (107, 111),
    (115, 115), (121, 121), (127, 128), (130, 132), (137, 138), (140, 141), (157, 158), (160, 160), (162, 162), (165,
    166), (186, 186), (200, 204), (213, 213), (217, 218), (228, 235), (257, 258), (260, 271), (273, 274), (280, 281),
    (283, 288), (290, 293), (295, 296), (302, 302), (307, 307), (309, 309), (318, 318),
];

const ENOSYS: u32 = 38;
const EINVAL: u32 = 22;

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Numbers of the x32 ABI have this bit.
const X32_BIT: u32 = 0x4000_0000;

// struct seccomp_data: number, architecture, instruction pointer, six arguments.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;

/// Offset of the lower half of argument `index`.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const fn load(offset: u32) -> Instruction {
    Instruction { code: 0x20, jump_true: 0, jump_false: 0, operand: offset }
}

const fn and(mask: u32) -> Instruction {
    Instruction { code: 0x54, jump_true: 0, jump_false: 0, operand: mask }
}

/// Compares; skips so many instructions if equal, and so many if not.
const fn if_equal(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code: 0x15, jump_true, jump_false, operand }
}

const fn if_greater(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code: 0x25, jump_true, jump_false, operand }
}

const fn give(action: u32) -> Instruction {
    Instruction { code: 0x06, jump_true: 0, jump_false: 0, operand: action }
}

/// Builds the filter program for `mode`, with `trap` for the calls that are answered from outside.
///
/// The calls that carry a check on an argument come first, since the kernel caches its verdict for all others.
///
/// Of several `extras` for one call the first counts.
pub fn program(mode: Mode, trap: Trap, extras: &[Extra]) -> Vec<Instruction> {
    let trap = give(trap.action());
    let mut program = vec![
        load(OFFSET_ARCH),
        if_equal(AUDIT_ARCH_X86_64, 1, 0),
        give(KILL_PROCESS),
        load(OFFSET_NUMBER),
        if_greater(X32_BIT - 1, 0, 1),
        give(ERRNO | ENOSYS),
    ];
    on(&mut program, number::UNAME, &[trap]);
    on(&mut program, number::EXECVE, &[trap]);
    on(&mut program, number::MOUNT_ROOT_FS, &[trap]);
    // Type 's' of the ioctl number (bits 8 to 15). Other drivers have it too; the supervisor looks at the descriptor.
    let ioctl = [load(argument(1)), and(0xff00), if_equal(0x7300, 0, 1), trap, give(ALLOW)];
    on(&mut program, number::IOCTL, &ioctl);
    for extra in extras {
        if mode == Mode::Lenient || is_implemented(extra.number()) {
            on(&mut program, extra.number(), &extra.body(trap));
        }
    }
    if mode == Mode::Lenient {
        program.push(give(ALLOW));
        return program;
    }
    // A thread, vfork or posix_spawn shares the memory (CLONE_VM); a fork does not, and Occlum has none.
    const CLONE_VM: u32 = 0x100;
    let clone = [load(argument(0)), and(CLONE_VM), if_equal(CLONE_VM, 0, 1), give(ALLOW), give(ERRNO | ENOSYS)];
    on(&mut program, number::CLONE, &clone);
    // GRND_NONBLOCK and GRND_RANDOM are known, GRND_INSECURE is not.
    on(&mut program, number::GETRANDOM, &allow_bits(2, 0b11));
    // MADV_NORMAL to MADV_DONTNEED.
    let madvise = [load(argument(2)), if_greater(4, 0, 1), give(ERRNO | EINVAL), give(ALLOW)];
    on(&mut program, number::MADVISE, &madvise);
    // PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK.
    on(&mut program, number::PRCTL, &allow_values(0, u32::MAX, &[15, 16, 29, 30], EINVAL));
    // F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_DUPFD_CLOEXEC.
    on(&mut program, number::FCNTL, &allow_values(1, u32::MAX, &[0, 1, 2, 3, 4, 5, 6, 7, 1030], EINVAL));
    // FUTEX_WAIT, WAKE, REQUEUE, WAIT_BITSET, WAKE_BITSET; the bits beside the command are private and realtime.
    on(&mut program, number::FUTEX, &allow_values(1, 0x7f, &[0, 1, 3, 9, 10], ENOSYS));
    // The limits of `crate::limits`: DATA, STACK, AS.
    for (number, index) in [(number::GETRLIMIT, 0), (number::SETRLIMIT, 0), (number::PRLIMIT64, 1)] {
        let mut body = vec![load(argument(index))];
        for resource in [2, 3, 9] {
            body.extend([if_equal(resource, 0, 1), trap]);
        }
        body.push(give(ALLOW));
        on(&mut program, number, &body);
    }
    // Not a call of the program: the kernel itself continues an interrupted sleep with it.
    on(&mut program, number::RESTART_SYSCALL, &[give(ALLOW)]);
    // Occlum answers EINVAL. On the host's libc that would be a failure to make threads, where ENOSYS leads to `clone`.
    on(&mut program, number::CLONE3, &[give(ERRNO | ENOSYS)]);
    let mut next = 0;
    for (first, last) in IMPLEMENTED.iter().copied() {
        if first > next {
            up_to(&mut program, first - 1, ERRNO | ENOSYS);
        }
        up_to(&mut program, last, ALLOW);
        next = last + 1;
    }
    up_to(&mut program, LAST_KNOWN, ERRNO | ENOSYS);
    up_to(&mut program, PRIVATE.start() - 1, ERRNO | EINVAL);
    up_to(&mut program, *PRIVATE.end(), ALLOW);
    program.push(give(ERRNO | EINVAL));
    program
}

/// For the call `number` (in the accumulator) runs `body`, which must end with an action on every path.
fn on(program: &mut Vec<Instruction>, number: u32, body: &[Instruction]) {
    let len = u8::try_from(body.len()).expect("bodies have a dozen instructions");
    program.push(if_equal(number, 0, len));
    program.extend(body);
}

/// Gives `action` for all numbers up to `last` that are still undecided.
fn up_to(program: &mut Vec<Instruction>, last: u32, action: u32) {
    program.extend([if_greater(last, 1, 0), give(action)]);
}

/// Allows the call if argument `index` has no other bits than `allowed`, else EINVAL.
fn allow_bits(index: u32, allowed: u32) -> [Instruction; 5] {
    [load(argument(index)), and(!allowed), if_equal(0, 0, 1), give(ALLOW), give(ERRNO | EINVAL)]
}

/// Allows the call if argument `index`, masked, is one of `values`, else `errno`.
fn allow_values(index: u32, mask: u32, values: &[u32], errno: u32) -> Vec<Instruction> {
    let mut body = vec![load(argument(index)), and(mask)];
    for value in values {
        body.extend([if_equal(*value, 0, 1), give(ALLOW)]);
    }
    body.push(give(ERRNO | errno));
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let mut jump = |condition: bool| at += usize::from(if condition { jump_true } else { jump_false });
            match code {
                0x20 => {
                    let offset = operand as usize;
                    accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                0x54 => accumulator &= operand,
                0x15 => jump(accumulator == operand),
                0x25 => jump(accumulator > operand),
                0x06 => return operand,
                _ => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    #[track_caller]
    fn check(mode: Mode, number: u32, arguments: &[u64], action: u32) {
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        let got = run(&program(mode, Trap::Notify, &[]), AUDIT_ARCH_X86_64, number, six);
        assert_eq!(got, action, "{mode:?}: call {number} with {arguments:?}: got {got:#x}, expected {action:#x}");
    }

    #[test]
    fn the_program_is_short_enough_for_the_kernel() {
        assert!(program(Mode::Strict, Trap::Notify, &[]).len() < marblerun_linux::seccomp::MAX_INSTRUCTIONS);
    }

    #[test]
    fn another_architecture_is_killed() {
        for mode in [Mode::Lenient, Mode::Strict] {
            assert_eq!(run(&program(mode, Trap::Notify, &[]), 0x4000_0003, number::UNAME, [0; 6]), KILL_PROCESS);
            check(mode, X32_BIT | number::UNAME, &[], ERRNO | ENOSYS);
        }
    }

    #[test]
    fn uname_execve_and_ioctls_of_type_s_wait_for_the_supervisor() {
        for mode in [Mode::Lenient, Mode::Strict] {
            check(mode, number::UNAME, &[], NOTIFY);
            check(mode, number::EXECVE, &[], NOTIFY);
            check(mode, number::MOUNT_ROOT_FS, &[], NOTIFY);
            check(mode, number::IOCTL, &[3, 0x8004_7307], NOTIFY);
            check(mode, number::IOCTL, &[3, 0x5401], ALLOW);
        }
    }

    #[test]
    fn a_tracer_gets_the_calls_that_a_listener_would_get() {
        for mode in [Mode::Lenient, Mode::Strict] {
            let traced = program(mode, Trap::Trace, &[]);
            for number in [number::UNAME, number::EXECVE, number::MOUNT_ROOT_FS] {
                assert_eq!(run(&traced, AUDIT_ARCH_X86_64, number, [0; 6]), TRACE);
            }
        }
    }

    #[test]
    fn lenient_mode_refuses_nothing() {
        let asked = [number::UNAME, number::EXECVE, number::MOUNT_ROOT_FS];
        for number in (0..500).filter(|number| !asked.contains(number)) {
            check(Mode::Lenient, number, &[], ALLOW);
        }
    }

    #[test]
    fn strict_mode_has_166_calls_of_occlum_and_174_that_it_refuses() {
        let implemented: u32 = IMPLEMENTED.iter().map(|(first, last)| last - first + 1).sum();
        assert_eq!(implemented + PRIVATE.count() as u32, 166);
        let refused = (0..=LAST_KNOWN).filter(|number| {
            *number != number::RESTART_SYSCALL
                && run(
                    &program(Mode::Strict, Trap::Notify, &[]),
                    AUDIT_ARCH_X86_64,
                    *number,
                    [u64::from(CLONE_VM_FLAGS); 6],
                ) == ERRNO | ENOSYS
                && !matches!(*number, number::FUTEX)
        });
        // One of the 174 is restart_syscall.
        assert_eq!(refused.count(), 173);
    }

    /// Makes `clone` the start of a thread.
    const CLONE_VM_FLAGS: u32 = 0x100;

    #[test]
    fn strict_mode_refuses_by_number() {
        for number in [57, 98, 112, 206, 253, 316, 319, 324, 332, 334] {
            check(Mode::Strict, number, &[], ERRNO | ENOSYS);
        }
        for number in [335, 358, 364, 424, 425, 434, 436, 437, 439, 441, 449, 1000] {
            check(Mode::Strict, number, &[], ERRNO | EINVAL);
        }
        for number in [0, 1, 9, 26, 61, 232, 257, 307] {
            check(Mode::Strict, number, &[], ALLOW);
        }
        check(Mode::Strict, number::CLONE3, &[], ERRNO | ENOSYS);
        check(Mode::Strict, number::RESTART_SYSCALL, &[], ALLOW);
    }

    #[test]
    fn strict_mode_refuses_by_argument() {
        check(Mode::Strict, number::CLONE, &[0x0120_0011], ERRNO | ENOSYS);
        check(Mode::Strict, number::CLONE, &[0x4111], ALLOW);
        check(Mode::Strict, number::GETRANDOM, &[0, 0, 3], ALLOW);
        check(Mode::Strict, number::GETRANDOM, &[0, 0, 4], ERRNO | EINVAL);
        check(Mode::Strict, number::MADVISE, &[0, 0, 4], ALLOW);
        check(Mode::Strict, number::MADVISE, &[0, 0, 5], ERRNO | EINVAL);
        check(Mode::Strict, number::MADVISE, &[0, 0, 18], ERRNO | EINVAL);
        check(Mode::Strict, number::PRCTL, &[15], ALLOW);
        check(Mode::Strict, number::PRCTL, &[4], ERRNO | EINVAL);
        check(Mode::Strict, number::FCNTL, &[3, 1030], ALLOW);
        check(Mode::Strict, number::FCNTL, &[3, 1033], ERRNO | EINVAL);
        check(Mode::Strict, number::PRLIMIT64, &[0, 9], NOTIFY);
        check(Mode::Strict, number::PRLIMIT64, &[0, 7], ALLOW);
        check(Mode::Strict, number::SETRLIMIT, &[3], NOTIFY);
        check(Mode::Strict, number::GETRLIMIT, &[7], ALLOW);
        check(Mode::Strict, number::FUTEX, &[0, 128], ALLOW);
        check(Mode::Strict, number::FUTEX, &[0, 137 | 256], ALLOW);
        check(Mode::Strict, number::FUTEX, &[0, 4], ERRNO | ENOSYS);
        check(Mode::Strict, number::FUTEX, &[0, 134], ERRNO | ENOSYS);
    }

    #[test]
    fn extra_calls_are_watched_where_they_exist_and_refused_calls_stay_refused() {
        const WRITE: u32 = 1;
        const MMAP: u32 = 9;
        const SENDMSG: u32 = 46;
        const CLOCK: u32 = 228;
        const SPLICE: u32 = 275;
        let extras = [
            Extra::Watch(WRITE),
            Extra::WatchBits { number: MMAP, argument: 3, bits: 1 },
            Extra::WatchUnless { number: SENDMSG, argument: 5, value: 77 },
            Extra::WatchValues { number: CLOCK, argument: 0, values: &[0, 5] },
            Extra::Watch(SPLICE),
            Extra::Refuse(SPLICE + 1),
        ];
        for mode in [Mode::Lenient, Mode::Strict] {
            let program = program(mode, Trap::Notify, &extras);
            let check = |number, arguments, action| {
                assert_eq!(run(&program, AUDIT_ARCH_X86_64, number, arguments), action, "{mode:?} {number}");
            };
            check(WRITE, [0; 6], NOTIFY);
            check(WRITE + 1, [0; 6], ALLOW);
            check(MMAP, [0, 0, 0, 2, 0, 0], ALLOW);
            check(MMAP, [0, 0, 0, 3, 0, 0], NOTIFY);
            check(SENDMSG, [77, 0, 0, 0, 0, 77], ALLOW);
            check(SENDMSG, [77, 0, 0, 0, 0, 0], NOTIFY);
            check(CLOCK, [5, 0, 0, 0, 0, 0], NOTIFY);
            check(CLOCK, [1, 0, 0, 0, 0, 0], ALLOW);
            check(SPLICE, [0; 6], if mode == Mode::Strict { ERRNO | ENOSYS } else { NOTIFY });
            check(SPLICE + 1, [0; 6], ERRNO | ENOSYS);
        }
    }
}
