//! Resource limits of the calling process.
//!
//! In Occlum they size the stack, heap and address space of the *next* program, which is why a program that is about
//! to `execve` with a large environment raises them first.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::io;

/// A limit that can be read and set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `RLIMIT_AS`: the address space.
    AddressSpace,
    /// `RLIMIT_DATA`: data segment and heap.
    Data,
    /// `RLIMIT_NOFILE`: one more than the highest file descriptor.
    OpenFiles,
    /// `RLIMIT_STACK`: the stack of the main thread.
    Stack,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::Data => libc::RLIMIT_DATA,
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::Stack => libc::RLIMIT_STACK,
        }
    }
}

/// Soft and hard value of one resource, in bytes where it is memory; [`Limit::INFINITY`] means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far an unprivileged process may raise the soft value.
    pub hard: u64,
}

impl Limit {
    /// No limit (`RLIM_INFINITY`).
    pub const INFINITY: u64 = libc::RLIM_INFINITY;
}

/// Reads a limit.
///
/// # Errors
/// The errno of `getrlimit`.
pub fn limit(resource: Resource) -> io::Result<Limit> {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit structure that the call fills.
    if unsafe { libc::getrlimit(resource.number(), &raw mut value) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit { soft: value.rlim_cur, hard: value.rlim_max })
}

/// Sets a limit.
///
/// # Errors
/// The errno of `setrlimit`: `EPERM` for raising the hard value without privilege, `EINVAL` where soft exceeds hard or
/// (in Occlum) where the address space does not exceed data and stack together.
pub fn set_limit(resource: Resource, limit: Limit) -> io::Result<()> {
    let value = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the pointer is to a live rlimit structure that the call reads.
    if unsafe { libc::setrlimit(resource.number(), &raw const value) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Raises the number of files that may be open to the highest that is allowed, and returns it.
///
/// # Errors
/// The errno of `getrlimit` or `setrlimit`; the limit is what it was.
pub fn raise_open_files() -> io::Result<u64> {
    let now = limit(Resource::OpenFiles)?;
    if now.soft < now.hard {
        set_limit(Resource::OpenFiles, Limit { soft: now.hard, hard: now.hard })?;
    }
    Ok(now.hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_set_is_read_back() {
        let before = limit(Resource::Stack).unwrap();
        // The same value again: other tests share this process.
        set_limit(Resource::Stack, before).unwrap();
        assert_eq!(limit(Resource::Stack).unwrap(), before);
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_refused() {
        let error = set_limit(Resource::Stack, Limit { soft: 2 << 20, hard: 1 << 20 }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn the_number_of_open_files_is_raised_as_far_as_it_goes() {
        let before = limit(Resource::OpenFiles).unwrap();
        set_limit(Resource::OpenFiles, Limit { soft: before.soft.min(256), hard: before.hard }).unwrap();
        assert_eq!(raise_open_files().unwrap(), before.hard);
        assert_eq!(limit(Resource::OpenFiles).unwrap(), Limit { soft: before.hard, hard: before.hard });
    }
}
