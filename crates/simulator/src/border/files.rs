//! Files of host mounts that were written, held open to be looked at whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

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

/// The files, also those without a name any more.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<StreamId, Held>);

#[derive(Debug)]
struct Held {
    file: File,
    name: String,
    /// Written through memory, which no call shows.
    is_mapped: bool,
}

impl Files {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn holds(&self, id: StreamId) -> bool {
        self.0.contains_key(&id)
    }

    /// Holds what descriptor `fd` of thread `pid` has open. False if that is impossible.
    pub(super) fn hold(&mut self, pid: i32, fd: i32, place: &Place, is_mapped: bool) -> bool {
        if let Some(held) = self.0.get_mut(&place.id) {
            held.is_mapped |= is_mapped;
            return true;
        }
        if self.0.len() >= MAX_HELD {
            return false;
        }
        let Ok(file) = File::open(format!("/proc/{pid}/fd/{fd}")) else { return false };
        self.0.insert(place.id, Held { file, name: place.name.clone(), is_mapped });
        true
    }

    /// Lets go of a file unless it may be written through memory.
    pub(super) fn release(&mut self, id: StreamId) {
        if self.0.get(&id).is_some_and(|held| !held.is_mapped) {
            self.0.remove(&id);
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
        for (_, held) in self.0.iter().filter(|(id, _)| chosen(**id)) {
            held.look(canaries, report, program, pid);
        }
    }

    /// Which files may be written through memory.
    pub(super) fn is_mapped(&self, id: StreamId) -> bool {
        self.0.get(&id).is_some_and(|held| held.is_mapped)
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
