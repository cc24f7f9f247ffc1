//! The look at one call.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

use marblerun_linux::memory;
use marblerun_linux::seccomp::Notification;
use marblerun_secret::SecretBytes;

use super::files::{self, last_bytes};
use super::place::{Place, StreamId};
use super::report::Found;
use super::{Border, Directory, MAX_BUFFERS, MAX_STREAMS, State, Stream};
use crate::canaries::Hit;
use crate::device::CallerMemory;

/// So many bytes are looked at at once.
const CHUNK: usize = 256 * 1024;
/// Memory is readable by pages.
const PAGE: u64 = 4096;
/// Most bytes that one call transfers (`MAX_RW_COUNT` of Linux).
const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Longest path (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Longest argument of a program (`MAX_ARG_STRLEN` of Linux).
const MAX_ARGUMENT: usize = 128 * 1024;
/// Most arguments or variables of an `execve` that are looked at.
const MAX_ARGUMENTS: u64 = 65_536;
/// `AT_FDCWD`.
const WORKING_DIRECTORY: i32 = -100;

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EBADF: i32 = 9;
const EFAULT: i32 = 14;
const ENAMETOOLONG: i32 = 36;

/// One call that is looked at.
pub(super) struct Visit<'a> {
    pub(super) border: &'a Border,
    pub(super) call: &'a Notification,
    pub(super) caller: &'a dyn CallerMemory,
}

impl Visit<'_> {
    /// Bytes in memory on their way to descriptor `fd`: address and length of each buffer.
    pub(super) fn buffers(&self, name: &'static str, fd: u64, buffers: &[(u64, u64)]) {
        let Some(place) = self.place(fd) else { return };
        self.hold(fd, &place, false);
        self.border.state.borrow_mut().report.calls += 1;
        let mut left = MAX_TRANSFER;
        for (mut address, len) in buffers.iter().copied() {
            let mut rest = len.min(left);
            left -= rest;
            while rest > 0 {
                let wanted = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
                let Some(bytes) = self.read(address, wanted) else { return };
                self.stream(name, &place, bytes.expose());
                address = address.wrapping_add(bytes.len() as u64);
                rest -= bytes.len() as u64;
            }
        }
    }

    /// As [`Visit::buffers`] with a table of `struct iovec` in memory.
    pub(super) fn vector(&self, name: &'static str, fd: u64, table: u64, count: u64) {
        if count > MAX_BUFFERS {
            // EINVAL or EMSGSIZE.
            return;
        }
        let len = 16 * count as usize;
        let Some(table) = self.read(table, len).filter(|table| table.len() == len) else { return };
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let entries = table.expose().chunks_exact(16).map(|entry| entry.split_at(8));
        let buffers: Vec<_> = entries.map(|(address, len)| (word(address), word(len))).collect();
        self.buffers(name, fd, &buffers);
    }

    /// As [`Visit::vector`] with a `struct msghdr`, whose table of buffers is its third member.
    pub(super) fn message(&self, name: &'static str, socket: u64, header: u64) {
        if let Some([table, count]) = self.words(header.wrapping_add(16)) {
            self.vector(name, socket, table, count);
        }
    }

    /// Bytes of a file that the kernel sends without the program's memory.
    pub(super) fn sendfile(&self, to: u64, from: u64, offset: u64, count: u64) {
        let Some(place) = self.place(to) else { return };
        self.hold(to, &place, false);
        let (pid, from) = (self.call.pid, from as i32);
        let position = match offset {
            0 => position_of(pid, from),
            address => self.words(address).map(|[position]| position),
        };
        // A pipe or a device would give its bytes to us instead, or make us wait.
        let file = files::open(pid, from).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
        let (Some(mut at), Some(file)) = (position, file) else { return self.unread("what sendfile sends") };
        self.border.state.borrow_mut().report.calls += 1;
        let mut rest = count.min(MAX_TRANSFER);
        let mut buffer = vec![0; CHUNK];
        while rest > 0 {
            let wanted = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
            match file.read_at(&mut buffer[..wanted], at) {
                Ok(0) => return,
                Ok(len) => {
                    self.stream("sendfile", &place, &buffer[..len]);
                    at += len as u64;
                    rest -= len as u64;
                }
                Err(_) => return self.unread("what sendfile sends"),
            }
        }
    }

    /// A file is mapped into memory, shared with all who read it.
    pub(super) fn map(&self, fd: u64) {
        // Who may only read the file cannot write to its map either (mmap(2), EACCES).
        if let Some(place) = self.place(fd).filter(|place| place.is_writable) {
            self.hold(fd, &place, true);
        }
    }

    /// A part of memory goes: only a map that is shared can lose what was written to a file.
    pub(super) fn unmapped(&self, address: u64, len: u64) {
        if !self.border.state.borrow().files.any_is_mapped() {
            return;
        }
        let end = address.saturating_add(len);
        let is_concerned = |line: &[u8]| {
            // proc(5): start-end rwxs
            let line = String::from_utf8_lossy(line);
            let mut fields = line.split(' ');
            let (first, last) = fields.next()?.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some(fields.next()?.ends_with('s') && number(first)? < end && address < number(last)?)
        };
        let maps = fs::read(format!("/proc/{}/maps", self.call.pid));
        if maps.is_ok_and(|maps| !maps.split(|byte| *byte == b'\n').any(|line| is_concerned(line) == Some(true))) {
            return;
        }
        self.mapped_files();
    }

    /// A file is cut, so that what was written to it is lost.
    pub(super) fn cut_file(&self, fd: u64) {
        if self.border.state.borrow().files.is_empty() {
            return;
        }
        if let Some(place) = self.place(fd) {
            self.look_at(|id| id == place.id);
        }
    }

    /// As [`Visit::cut_file`], for the file of a path.
    pub(super) fn cut_file_at(&self, directory: Directory, path: u64) {
        if self.border.state.borrow().files.is_empty() {
            return;
        }
        let Some(path) = self.string(path, MAX_PATH) else { return };
        let file = self.border.places.file_at(self.call.pid, self.directory(directory), &path);
        if let Some((device, inode)) = file {
            self.look_at(|id| id.is(device, inode));
        }
    }

    /// A descriptor is closed: a file that was written is looked at whole.
    pub(super) fn closed_file(&self, fd: u64) {
        if self.border.state.borrow().files.is_empty() {
            return;
        }
        let Some(place) = self.place(fd) else { return };
        if self.border.state.borrow().files.holds(place.id) {
            self.look_at(|id| id == place.id);
            self.border.state.borrow_mut().files.release(place.id);
        }
    }

    /// Looks at the files that `chosen` wants.
    fn look_at(&self, chosen: impl Fn(StreamId) -> bool) {
        let mut state = self.border.state.borrow_mut();
        let State { files, report, .. } = &mut *state;
        files.look(&self.border.canaries, report, chosen, &self.program(), self.call.pid);
    }

    /// Something may be lost that was written through memory.
    pub(super) fn mapped_files(&self) {
        let mut state = self.border.state.borrow_mut();
        let State { files, report, .. } = &mut *state;
        if files.any_is_mapped() {
            let is_mapped = |id| files.is_mapped(id);
            files.look(&self.border.canaries, report, is_mapped, &self.program(), self.call.pid);
        }
    }

    /// Names that the host gets to see.
    pub(super) fn paths(&self, name: &'static str, paths: &[(Directory, usize)]) {
        self.border.state.borrow_mut().report.calls += 1;
        for (directory, index) in paths {
            let Some(path) = self.string(self.call.arguments[*index], MAX_PATH) else { continue };
            let hits = self.border.canaries.search(&[], &path);
            if !hits.is_empty() && self.is_outside(*directory, &path) {
                self.add(name, "a file name", &hits);
            }
        }
    }

    /// The text of a symbolic link that is made on the host.
    pub(super) fn link_target(&self, name: &'static str, target: u64, directory: Directory, link: usize) {
        let (Some(target), Some(link)) =
            (self.string(target, MAX_PATH), self.string(self.call.arguments[link], MAX_PATH))
        else {
            return;
        };
        let hits = self.border.canaries.search(&[], &target);
        if !hits.is_empty() && self.is_outside(directory, &link) {
            self.add(name, "the target of a link", &hits);
        }
    }

    /// Arguments and environment of a program that is a file of the host.
    pub(super) fn execve(&self) {
        let [path, arguments, environment, ..] = self.call.arguments;
        let Some(path) = self.string(path, MAX_PATH) else { return };
        if !self.is_outside(Directory::Working, &path) {
            return;
        }
        for (table, to) in [(arguments, "arguments of a program"), (environment, "the environment of a program")] {
            for index in 0..=MAX_ARGUMENTS {
                if index == MAX_ARGUMENTS {
                    self.unread("so many arguments of a program");
                    break;
                }
                // A null table is an empty one (execve(2), Linux).
                let Some([address]) = self.words(table.wrapping_add(8 * index)).filter(|[address]| *address != 0)
                else {
                    break;
                };
                let Some(text) = self.string(address, MAX_ARGUMENT) else { break };
                self.add("execve", to, &self.border.canaries.search(&[], &text));
            }
        }
    }

    fn place(&self, fd: u64) -> Option<Place> {
        // Descriptors are 32-bit numbers; the upper half of the register means nothing.
        match self.border.places.of_descriptor(self.call.pid, fd as i32) {
            Ok(place) => place,
            Err(error) => {
                self.unread_unless_gone(&error, "where a descriptor leads");
                None
            }
        }
    }

    fn hold(&self, fd: u64, place: &Place, is_mapped: bool) {
        if place.is_file {
            let to_release = self.border.state.borrow().files.to_release(place.id);
            if let Some(released) = to_release {
                self.look_at(|id| id == released);
                self.border.state.borrow_mut().files.release(released);
            }
            let held = self.border.state.borrow_mut().files.hold(self.call.pid, fd as i32, place, is_mapped);
            if !held {
                self.unread("a file of a host mount");
            }
        }
    }

    fn is_outside(&self, directory: Directory, path: &[u8]) -> bool {
        self.border.places.path_is_outside(self.call.pid, self.directory(directory), path)
    }

    fn directory(&self, directory: Directory) -> Option<i32> {
        match directory {
            Directory::Working => None,
            Directory::Argument(index) => Some(self.call.arguments[index] as i32).filter(|fd| *fd != WORKING_DIRECTORY),
        }
    }

    /// The next bytes of a stream.
    fn stream(&self, name: &'static str, place: &Place, bytes: &[u8]) {
        let canaries = &self.border.canaries;
        let mut state = self.border.state.borrow_mut();
        let State { streams, looks, report, .. } = &mut *state;
        *looks += 1;
        report.bytes += bytes.len() as u64;
        if streams.len() >= MAX_STREAMS && !streams.contains_key(&place.id) {
            let oldest = streams.iter().min_by_key(|(_, stream)| stream.used).map(|(id, _)| *id);
            oldest.and_then(|id| streams.remove(&id));
        }
        let new = || Stream { tail: SecretBytes::new(Vec::new()), written: 0, used: 0 };
        let stream = streams.entry(place.id).or_insert_with(new);
        for hit in canaries.search(stream.tail.expose(), bytes) {
            let offset = u64::try_from(stream.written as i64 + hit.start).unwrap_or(0);
            let (program, pid) = (self.program(), self.call.pid);
            report.add(canaries, &hit, Found { call: name, to: &place.name, offset, program: &program, pid });
        }
        stream.tail = last_bytes(stream.tail.expose(), bytes, canaries.tail_len());
        stream.written += bytes.len() as u64;
        stream.used = *looks;
    }

    fn add(&self, name: &'static str, to: &str, hits: &[Hit]) {
        for hit in hits {
            let offset = u64::try_from(hit.start).unwrap_or(0);
            let found = Found { call: name, to, offset, program: &self.program(), pid: self.call.pid };
            self.border.state.borrow_mut().report.add(&self.border.canaries, hit, found);
        }
    }

    /// The caller's program, for people.
    fn program(&self) -> String {
        let path = fs::read_link(format!("/proc/{}/exe", self.call.pid));
        path.map_or_else(|_| "unknown".to_owned(), |path| path.display().to_string())
    }

    /// Up to `wanted` bytes of the caller's memory; fewer where a page is missing, `None` where nothing is readable.
    fn read(&self, address: u64, wanted: usize) -> Option<SecretBytes> {
        let mut bytes = vec![0; wanted];
        let mut result = self.caller.read(address, &mut bytes);
        let to_page_end = usize::try_from(PAGE - address % PAGE).unwrap_or(1);
        if result.is_err() && wanted > to_page_end {
            bytes.truncate(to_page_end);
            result = self.caller.read(address, &mut bytes);
        }
        match result {
            Ok(()) => Some(SecretBytes::new(bytes)),
            Err(error) => {
                self.unread_unless_gone(&error, "the memory of a program");
                None
            }
        }
    }

    fn words<const COUNT: usize>(&self, address: u64) -> Option<[u64; COUNT]> {
        let bytes = self.read(address, 8 * COUNT).filter(|bytes| bytes.len() == 8 * COUNT)?;
        let word = |index: usize| std::array::from_fn(|byte| bytes.expose()[8 * index + byte]);
        Some(std::array::from_fn(|index| u64::from_le_bytes(word(index))))
    }

    fn string(&self, address: u64, max: usize) -> Option<Vec<u8>> {
        match memory::read_string(self.call.pid, address, max) {
            Ok(string) => Some(string),
            Err(error) => {
                self.unread_unless_gone(&error, "the memory of a program");
                None
            }
        }
    }

    /// A caller that died, closed the descriptor or gave a wrong address lost nothing; one that cannot be looked at did.
    fn unread_unless_gone(&self, error: &io::Error, what: &str) {
        let is_gone = matches!(error.raw_os_error(), Some(ENOENT | ESRCH | EBADF | EFAULT | ENAMETOOLONG));
        if !is_gone && error.kind() != io::ErrorKind::NotFound {
            self.unread(what);
        }
    }

    fn unread(&self, what: &str) {
        self.border.state.borrow_mut().report.unread(&format!("{what} cannot be looked at"));
    }
}

/// The position of a descriptor (`pos` of proc(5)).
fn position_of(pid: i32, fd: i32) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
}
