//! All files of the image: what does not belong there.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::finding::{Findings, Place};
use super::rule::Rule;

/// Most files that are looked at: a bound on a mistaken path, such as the host's root.
const MAX_FILES: usize = 200_000;
/// Files with a private key are smaller.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Judges every file below `root`.
pub(super) fn check(root: &Path, findings: &mut Findings) {
    let mut waiting: Vec<PathBuf> = vec![root.to_owned()];
    let mut count = 0;
    while let Some(directory) = waiting.pop() {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            count += 1;
            if count > MAX_FILES {
                return;
            }
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let kind = metadata.file_type();
            let place = || Place::Image(inside(root, &path));
            if kind.is_socket() {
                findings.add(Rule::SpecialFile, place(), "it is a socket");
            } else if kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
                findings.add(Rule::SpecialFile, place(), "it is a device or pipe");
            } else if kind.is_file() {
                if metadata.permissions().mode() & SET_ID != 0 {
                    findings.add(Rule::SpecialFile, place(), "it has a set-id bit");
                }
                if metadata.len() <= MAX_KEY_FILE_BYTES && holds_private_key(&path) {
                    findings.add(Rule::KeyInImage, place(), "it holds a private key in PEM");
                }
            } else if kind.is_dir() {
                waiting.push(path);
            }
        }
    }
}

fn inside(root: &Path, path: &Path) -> String {
    format!("/{}", path.strip_prefix(root).unwrap_or(path).display())
}

fn holds_private_key(path: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut text));
    // PEM labels of RFC 7468, RFC 5915 and PKCS#1 end so.
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    read.is_ok() && has(b"-----BEGIN ") && (has(b"PRIVATE KEY-----\n") || has(b"PRIVATE KEY-----\r\n"))
}
