//! What Occlum's program loader refuses.

use crate::elf::Image;

/// Bytes of the argument area beside strings and pointer tables: the auxiliary vector and the counts.
const FIXED_AREA: u64 = 304;

/// The smallest argument area.
const SMALLEST_AREA: u64 = 4096;

/// Occlum refuses to start a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecRefusal {
    /// EINVAL.
    #[error("Occlum cannot load it: {0} (EINVAL)")]
    Unloadable(&'static str),
    /// ENOEXEC.
    #[error("it is neither an x86-64 ELF program nor a script (ENOEXEC)")]
    Foreign,
    /// EACCES.
    #[error("a script's interpreter may not be below /host, got {0:?} (EACCES)")]
    HostInterpreter(String),
    /// ENOENT.
    #[error("Occlum takes the whole first line of a script as its interpreter's path, got {0:?} (ENOENT)")]
    InterpreterArguments(String),
    /// ENOEXEC.
    #[error("the first line of a script must end within 127 bytes (ENOEXEC)")]
    LongFirstLine,
    /// ENOMEM.
    #[error(
        "arguments and environment need {needed} bytes, the stack has room for {available}; raise \
         process.default_stack_size to {} bytes or RLIMIT_STACK before execve (ENOMEM)",
        needed.saturating_mul(256)
    )]
    ArgumentArea {
        /// What they need.
        needed: u64,
        /// What is there.
        available: u64,
    },
}

impl ExecRefusal {
    /// The errno that the caller gets.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Unloadable(_) => 22,
            Self::Foreign | Self::LongFirstLine => 8,
            Self::HostInterpreter(_) => 13,
            Self::InterpreterArguments(_) => 2,
            Self::ArgumentArea { .. } => 12,
        }
    }
}

/// Checks what a program file is.
///
/// # Errors
/// [`ExecRefusal`]. Source: Occlum's `src/libos/src/process/elf_file.rs` and `process/do_spawn/`.
pub fn check_image(image: &Image) -> Result<(), ExecRefusal> {
    match image {
        Image::Dynamic { .. } => Ok(()),
        Image::Unloadable { reason } => Err(ExecRefusal::Unloadable(reason)),
        Image::Foreign => Err(ExecRefusal::Foreign),
        Image::Script { interpreter: None } => Err(ExecRefusal::LongFirstLine),
        Image::Script { interpreter: Some(path) } if path.starts_with("/host/") => {
            Err(ExecRefusal::HostInterpreter(path.clone()))
        }
        Image::Script { interpreter: Some(path) } if path.contains(char::is_whitespace) => {
            Err(ExecRefusal::InterpreterArguments(path.clone()))
        }
        Image::Script { .. } => Ok(()),
    }
}

/// Arguments and environment of an `execve`, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArgumentCount {
    /// How many strings.
    pub strings: u64,
    /// Their bytes, each with its NUL.
    pub bytes: u64,
}

impl ArgumentCount {
    /// Counts one more string of `len` bytes without its NUL.
    pub fn add(&mut self, len: usize) {
        self.strings += 1;
        self.bytes += len as u64 + 1;
    }
}

/// Checks that arguments and environment fit into the new program's argument area, max(stack/256, 4096) bytes.
///
/// # Errors
/// [`ExecRefusal::ArgumentArea`]. Source: Occlum's `src/libos/src/process/do_exec.rs`.
pub fn check_argument_area(count: ArgumentCount, stack_bytes: u64) -> Result<(), ExecRefusal> {
    let needed = count.bytes + 8 * count.strings + FIXED_AREA;
    let available = (stack_bytes / 256).max(SMALLEST_AREA);
    if needed > available { Err(ExecRefusal::ArgumentArea { needed, available }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    #[test]
    fn the_argument_area_is_a_256th_of_the_stack_but_at_least_a_page() {
        let count = |len| ArgumentCount { strings: 2, bytes: len };
        let fits = |len, stack| check_argument_area(count(len), stack).is_ok();
        assert!(fits(16384 - 304 - 16, 4 << 20));
        assert!(!fits(16384 - 304 - 16 + 1, 4 << 20));
        assert!(fits(4096 - 304 - 16, 1));
        assert!(!fits(4096 - 304 - 16 + 1, 1));
        let refusal = check_argument_area(count(20_000), 4 << 20).unwrap_err();
        assert_eq!(refusal.errno(), 12);
        assert!(refusal.to_string().contains("need 20320 bytes"), "{refusal}");
    }

    #[test]
    fn strings_count_with_their_nul() {
        let mut count = ArgumentCount::default();
        count.add(3);
        count.add(0);
        assert_eq!(count, ArgumentCount { strings: 2, bytes: 5 });
    }

    #[track_caller]
    fn check(image: Image, errno: Option<i32>) {
        assert_eq!(check_image(&image).err().map(|refusal| refusal.errno()), errno, "{image:?}");
    }

    #[test]
    fn only_dynamic_programs_and_plain_scripts_are_loaded() {
        let script = |path: &str| Image::Script { interpreter: Some(path.to_owned()) };
        check(Image::Dynamic { interpreter: "/lib/ld.so".into() }, None);
        check(Image::Unloadable { reason: "" }, Some(22));
        check(Image::Foreign, Some(8));
        check(script("/bin/sh"), None);
        check(script("/bin/sh -e"), Some(2));
        check(script("/host/sh"), Some(13));
        check(Image::Script { interpreter: None }, Some(8));
    }
}
