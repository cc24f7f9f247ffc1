//! A clock that goes wrong.
//!
//! Programs ask the kernel for the time without a system call, through code that the kernel maps into each of them
//! (vdso(7)). That code is replaced by real calls in every program at its start, before it can ask: when it sets up its
//! thread pointer, which every C library and Go do once. A program that reads the processor's counter itself is not
//! deceived, and neither are times of files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use marblerun_linux::memory;
use marblerun_linux::seccomp::{Answer, Notification};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSymbol as _};

use crate::device::CallerMemory;
use crate::filter::Extra;

const GETTIMEOFDAY: u32 = 96;
const ARCH_PRCTL: u32 = 158;
const TIME: u32 = 201;
const CLOCK_GETTIME: u32 = 228;

/// `ARCH_SET_FS`.
const SET_THREAD_POINTER: u32 = 0x1002;
/// `CLOCK_REALTIME`, `CLOCK_REALTIME_COARSE`, `CLOCK_TAI`; the others tell how much time has passed, not which it is.
const REAL_TIME: &[u32] = &[0, 5, 11];

/// The kernel's image has a few pages.
const MAX_IMAGE: u64 = 1 << 20;

const EFAULT: i32 = 14;

/// The calls that must be shown.
pub(super) const EXTRAS: [Extra; 4] = [
    Extra::WatchValues { number: CLOCK_GETTIME, argument: 0, values: REAL_TIME },
    Extra::Watch(GETTIMEOFDAY),
    Extra::Watch(TIME),
    Extra::WatchValues { number: ARCH_PRCTL, argument: 0, values: &[SET_THREAD_POINTER] },
];

/// True for the call at which a program's own clock must be replaced.
pub(super) fn is_program_start(call: &Notification) -> bool {
    u32::try_from(call.number) == Ok(ARCH_PRCTL)
}

/// The answer to a question for the time, if this is one.
pub(super) fn answer(call: &Notification, offset_seconds: i64, caller: &dyn CallerMemory) -> Option<Answer> {
    let now = shifted(SystemTime::now(), offset_seconds);
    let (seconds, nanoseconds) = (now.as_secs() as i64, now.subsec_nanos());
    let pair = |second: i64| [seconds.to_le_bytes(), second.to_le_bytes()].concat();
    let put = |address: u64, bytes: &[u8]| match caller.write(address, bytes) {
        Ok(()) => Answer::Value(0),
        Err(_) => Answer::Errno(EFAULT),
    };
    let [first, second, ..] = call.arguments;
    match u32::try_from(call.number).unwrap_or(u32::MAX) {
        CLOCK_GETTIME => Some(put(second, &pair(nanoseconds.into()))),
        // Without a place for the time there is nothing to change.
        GETTIMEOFDAY if first == 0 => None,
        GETTIMEOFDAY => Some(put(first, &pair((nanoseconds / 1000).into()))),
        TIME if first == 0 => Some(Answer::Value(seconds)),
        TIME => Some(match put(first, &seconds.to_le_bytes()) {
            Answer::Value(_) => Answer::Value(seconds),
            other => other,
        }),
        _ => None,
    }
}

/// `now` and so many seconds more, not before 1970.
fn shifted(now: SystemTime, offset_seconds: i64) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let offset = Duration::from_secs(offset_seconds.unsigned_abs());
    if offset_seconds < 0 { now.saturating_sub(offset) } else { now.saturating_add(offset) }
}

/// Makes the clock of process `pid` ask the kernel.
///
/// # Errors
/// If its memory cannot be read or written, or the kernel's code is not understood.
pub(super) fn replace_own_clock(pid: i32) -> io::Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    // No such code: then all ask the kernel.
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else { return Ok(()) };
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's code in the program is not understood");
    let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).ok_or_else(unknown)?;
    let address = |text| u64::from_str_radix(text, 16).map_err(|_| unknown());
    let (start, end) = (address(start)?, address(end)?);
    let len = end.checked_sub(start).filter(|len| *len <= MAX_IMAGE).ok_or_else(unknown)?;
    let mut image = vec![0; usize::try_from(len).map_err(|_| unknown())?];
    memory::read(pid, start, &mut image)?;
    for (offset, number) in clock_functions(&image).ok_or_else(unknown)? {
        overwrite(pid, start + offset, &call_of(number))?;
    }
    Ok(())
}

/// Writes to memory that may be read-only: a debugger may do so nevertheless, in the process's own copy.
///
/// # Errors
/// As `open` and `pwrite` of `/proc/<pid>/mem`.
pub(super) fn overwrite(pid: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    File::options().write(true).open(format!("/proc/{pid}/mem"))?.write_all_at(bytes, address)
}

/// Where the functions are that tell the time, and the call that each stands for.
fn clock_functions(image: &[u8]) -> Option<Vec<(u64, u32)>> {
    let image_len = image.len() as u64;
    let image = ElfFile64::<Endianness>::parse(image).ok()?;
    let number = |name: &str| match name {
        "__vdso_clock_gettime" => Some(CLOCK_GETTIME),
        "__vdso_gettimeofday" => Some(GETTIMEOFDAY),
        "__vdso_time" => Some(TIME),
        _ => None,
    };
    let functions = image.dynamic_symbols().filter_map(|symbol| Some((symbol.address(), number(symbol.name().ok()?)?)));
    let functions: Vec<_> = functions.filter(|(address, _)| address + 8 <= image_len).collect();
    (!functions.is_empty()).then_some(functions)
}

/// Machine code: `mov eax, number; syscall; ret`.
fn call_of(number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_le_bytes();
    [0xb8, a, b, c, d, 0x0f, 0x05, 0xc3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shifted_to_both_sides_and_never_before_1970() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(shifted(now, 5).as_secs(), 1005);
        assert_eq!(shifted(now, -5).as_secs(), 995);
        assert_eq!(shifted(now, -5000).as_secs(), 0);
    }

    #[test]
    fn the_functions_of_this_kernel_are_found() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let mut image = vec![0; (address(end) - address(start)) as usize];
        memory::read(std::process::id() as i32, address(start), &mut image).unwrap();
        let mut numbers: Vec<_> = clock_functions(&image).unwrap().into_iter().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [GETTIMEOFDAY, TIME, CLOCK_GETTIME]);
        assert!(clock_functions(b"no program").is_none());
    }
}
