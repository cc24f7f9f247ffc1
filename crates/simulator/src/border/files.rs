//! Files of host mounts that were written, held open to be looked at whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use marblerun_secret::SecretBytes;

use super::place::{Place, StreamId};
use super::report::{Found, Report};
use crate::canaries::Canaries;

/// So many bytes are looked at at once.
const CHUNK: usize = 1 << 20;
/// Of a longer file the rest is not looked at, and the report says so.
const MAX_LEN: u64 = 1 << 30;
/// Files that are held at the same time.
const MAX_HELD: usize = 256;

/// Opening never waits: not for who writes to a pipe, and not for who has a lease of a file.
const O_NONBLOCK: i32 = 0o4000;

/// The files, also those without a name any more.
#[derive(Debug, Default)]
pub(super) struct Files {
    held: BTreeMap<StreamId, Held>,
    /// Counts the files, so that the one that is held longest is known.
    count: u64,
}

#[derive(Debug)]
struct Held {
    file: File,
    name: String,
    /// Written through memory, which no call shows.
    is_mapped: bool,
    since: u64,
}

/// Opens what descriptor `fd` of thread `pid` has open, for reading.
pub(super) fn open(pid: i32, fd: i32) -> std::io::Result<File> {
    File::options().read(true).custom_flags(O_NONBLOCK).open(format!("/proc/{pid}/fd/{fd}"))
}

impl Files {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn holds(&self, id: StreamId) -> bool {
        self.held.contains_key(&id)
    }

    /// Holds what descriptor `fd` of thread `pid` has open. False if that is impossible.
    pub(super) fn hold(&mut self, pid: i32, fd: i32, place: &Place, is_mapped: bool) -> bool {
        if let Some(held) = self.held.get_mut(&place.id) {
            held.is_mapped |= is_mapped;
            return true;
        }
        if self.held.len() >= MAX_HELD {
            return false;
        }
        let Ok(file) = open(pid, fd) else { return false };
        self.count += 1;
        self.held.insert(place.id, Held { file, name: place.name.clone(), is_mapped, since: self.count });
        true
    }

    /// The file to let go of before another one is held, if there is one: whoever writes to it again has it held again.
    pub(super) fn to_release(&self, next: StreamId) -> Option<StreamId> {
        if self.held.len() < MAX_HELD || self.held.contains_key(&next) {
            return None;
        }
        let released = self.held.iter().filter(|(_, held)| !held.is_mapped);
        released.min_by_key(|(_, held)| held.since).map(|(id, _)| *id)
    }

    /// Lets go of a file unless it may be written through memory.
    pub(super) fn release(&mut self, id: StreamId) {
        if self.held.get(&id).is_some_and(|held| !held.is_mapped) {
            self.held.remove(&id);
        }
    }

    /// Looks at the files that `chosen` wants.
    pub(super) fn look(
        &self,
        canaries: &Canaries,
        report: &mut Report,
        chosen: impl Fn(StreamId) -> bool,
        program: &str,
        pid: i32,
    ) {
        for (_, held) in self.held.iter().filter(|(id, _)| chosen(**id)) {
            held.look(canaries, report, program, pid);
        }
    }

    /// True if any file may be written through memory.
    pub(super) fn any_is_mapped(&self) -> bool {
        self.held.values().any(|held| held.is_mapped)
    }

    /// Which files may be written through memory.
    pub(super) fn is_mapped(&self, id: StreamId) -> bool {
        self.held.get(&id).is_some_and(|held| held.is_mapped)
    }
}

impl Held {
    fn look(&self, canaries: &Canaries, report: &mut Report, program: &str, pid: i32) {
        let mut buffer = vec![0; CHUNK];
        let mut tail = SecretBytes::new(Vec::new());
        let mut at = 0;
        loop {
            let len = match self.file.read_at(&mut buffer, at) {
                Ok(0) => return,
                Ok(len) => len,
                Err(_) => return report.unread("a file of a host mount cannot be read"),
            };
            let new = &buffer[..len];
            for hit in canaries.search(tail.expose(), new) {
                let offset = u64::try_from(at as i64 + hit.start).unwrap_or(0);
                report.add(canaries, &hit, Found { call: "file content", to: &self.name, offset, program, pid });
            }
            report.bytes += len as u64;
            tail = last_bytes(tail.expose(), new, canaries.tail_len());
            at += len as u64;
            if at >= MAX_LEN {
                return report.unread("a file of a host mount is too long to be looked at whole");
            }
        }
    }
}

/// The last `len` bytes of `tail` and `new` together.
pub(super) fn last_bytes(tail: &[u8], new: &[u8], len: usize) -> SecretBytes {
    let of_new = &new[new.len().saturating_sub(len)..];
    let of_tail = &tail[tail.len().saturating_sub(len - of_new.len())..];
    SecretBytes::new([of_tail, of_new].concat())
}
