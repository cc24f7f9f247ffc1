//! Resource limits as Occlum keeps them: numbers that size the next program, not limits of the kernel.
//!
//! `RLIMIT_AS` and `RLIMIT_DATA` exist only here, since the kernel would enforce them on a program whose libc maps far
//! more than it uses. `RLIMIT_STACK` is the kernel's. Source of the rule below: Occlum's `src/libos/src/misc/rlimit.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use marblerun_enclave_image::occlum_json::Process;
use marblerun_linux::process;

/// Numbers of the resources on Linux.
pub mod resource {
    #![allow(missing_docs, reason = "the names of the resources")]
    pub const DATA: u64 = 2;
    pub const STACK: u64 = 3;
    pub const AS: u64 = 9;
}

/// Levels of ancestors that are looked at for inherited limits.
const MAX_ANCESTORS: usize = 64;

/// Changed limits that are kept before those of processes that have ended are dropped.
const MAX_KEPT: usize = 1024;

/// `struct rlimit`: soft and hard value in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// How far the soft value may be raised.
    pub hard: u64,
}

impl Limit {
    fn both(value: u64) -> Self {
        Self { soft: value, hard: value }
    }

    /// Reads the structure.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        Self { soft: word(0), hard: word(8) }
    }

    /// Writes the structure.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.soft.to_le_bytes());
        bytes[8..].copy_from_slice(&self.hard.to_le_bytes());
        bytes
    }
}

/// The two limits that exist only here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// `RLIMIT_AS`.
    pub address_space: Limit,
    /// `RLIMIT_DATA`.
    pub data: Limit,
}

/// A limit may not be set so (EINVAL).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitRefusal {
    /// As on Linux.
    #[error("the soft value {soft} exceeds the hard value {hard}")]
    SoftAboveHard {
        /// Wanted soft value.
        soft: u64,
        /// Wanted hard value.
        hard: u64,
    },
    /// Occlum's own rule.
    #[error(
        "expected RLIMIT_AS > RLIMIT_DATA + RLIMIT_STACK, got {address_space} and {data} + {stack}; raise AS first"
    )]
    AddressSpace {
        /// `RLIMIT_AS` after the change.
        address_space: u64,
        /// `RLIMIT_DATA` after the change.
        data: u64,
        /// `RLIMIT_STACK` after the change.
        stack: u64,
    },
}

impl Virtual {
    /// These limits after `resource` was set to `new`, where the stack limit is `stack`.
    ///
    /// # Errors
    /// [`LimitRefusal`]; nothing changes.
    pub fn with(mut self, resource: u64, new: Limit, stack: u64) -> Result<Self, LimitRefusal> {
        if new.soft > new.hard {
            return Err(LimitRefusal::SoftAboveHard { soft: new.soft, hard: new.hard });
        }
        let mut stack = stack;
        match resource {
            resource::AS => self.address_space = new,
            resource::DATA => self.data = new,
            _ => stack = new.soft,
        }
        let (address_space, data) = (self.address_space.soft, self.data.soft);
        if address_space > data.saturating_add(stack) {
            Ok(self)
        } else {
            Err(LimitRefusal::AddressSpace { address_space, data, stack })
        }
    }
}

/// The limits of all processes of a run. A process has those of its nearest ancestor that set any, and keeps them over
/// `execve`.
#[derive(Debug)]
pub struct Limits {
    initial: Virtual,
    changed: RefCell<BTreeMap<i32, Virtual>>,
}

impl Limits {
    /// What every process starts with: the sizes of `Occlum.json`.
    pub fn new(process: &Process) -> Self {
        let (stack, heap, mmap) =
            (process.default_stack_size.0, process.default_heap_size.0, process.default_mmap_size.0);
        let initial = Virtual {
            address_space: Limit::both(heap.saturating_add(stack).saturating_add(mmap)),
            data: Limit::both(heap),
        };
        Self { initial, changed: RefCell::default() }
    }

    /// The limits of the process of thread `thread`.
    pub fn of(&self, thread: i32) -> Virtual {
        let changed = self.changed.borrow();
        let mut next = Some(thread);
        for _ in 0..MAX_ANCESTORS {
            let Some((process, parent)) = next.and_then(family) else { break };
            if let Some(limits) = changed.get(&process) {
                return *limits;
            }
            next = Some(parent);
        }
        self.initial
    }

    /// Sets a limit of the process of thread `thread`.
    ///
    /// # Errors
    /// [`LimitRefusal`]; nothing changes.
    pub fn set(&self, thread: i32, resource: u64, new: Limit) -> Result<(), LimitRefusal> {
        let stack = process::stack_limit(thread).unwrap_or_default();
        let limits = self.of(thread).with(resource, new, stack)?;
        let Some((process, _)) = family(thread) else { return Ok(()) };
        let mut changed = self.changed.borrow_mut();
        if changed.len() >= MAX_KEPT {
            changed.retain(|process, _| family(*process).is_some());
        }
        changed.insert(process, limits);
        Ok(())
    }
}

/// Process and parent process of a thread.
fn family(thread: i32) -> Option<(i32, i32)> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((field("Tgid:")?, field("PPid:")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use marblerun_enclave_image::occlum_json::Size;

    fn limits() -> Limits {
        let size = |mb: u64| Size(mb << 20);
        Limits::new(&Process { default_stack_size: size(4), default_heap_size: size(32), default_mmap_size: size(100) })
    }

    #[test]
    fn the_address_space_must_exceed_heap_and_stack_together() {
        let start = limits().initial;
        assert_eq!(start.address_space.soft, 136 << 20);
        let stack = 4 << 20;
        let refused = start.with(resource::STACK, Limit::both(104 << 20), stack);
        assert!(matches!(refused, Err(LimitRefusal::AddressSpace { .. })), "{refused:?}");
        let raised = start.with(resource::AS, Limit::both((136 << 20) + 1), stack).unwrap();
        assert!(raised.with(resource::STACK, Limit::both(104 << 20), stack).is_ok());
        assert!(start.with(resource::AS, Limit::both(36 << 20), stack).is_err());
        assert!(start.with(resource::DATA, Limit::both(132 << 20), stack).is_err());
        assert!(start.with(resource::DATA, Limit::both(u64::MAX), stack).is_err());
        let crossed = start.with(resource::AS, Limit { soft: 300 << 20, hard: 200 << 20 }, stack);
        assert!(matches!(crossed, Err(LimitRefusal::SoftAboveHard { .. })), "{crossed:?}");
    }

    #[test]
    fn a_process_has_the_limits_of_its_ancestors() {
        let limits = limits();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(limits.of(me), limits.initial);
        let (_, parent) = family(me).unwrap();
        let inherited = Virtual { data: Limit::both(1), ..limits.initial };
        limits.changed.borrow_mut().insert(parent, inherited);
        assert_eq!(limits.of(me), inherited);
    }

    #[test]
    fn the_structure_is_two_words() {
        let limit = Limit { soft: 1, hard: u64::MAX };
        assert_eq!(Limit::from_bytes(limit.to_bytes()), limit);
        assert_eq!(limit.to_bytes()[0], 1);
    }
}
