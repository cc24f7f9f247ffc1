//! An image that only the owner of its key can read, in place of Occlum's encrypted SEFS image.
//!
//! The file is a tar archive of the image directory, encrypted in chunks:
//!
//! ```text
//! magic (16) | salt (32) | chunk | chunk | … | last chunk
//! chunk = AES-128-GCM of up to 64 KiB | tag (16)
//! ```
//!
//! The key of the chunks is HKDF-SHA256 of image key and salt, so the same image key may encrypt many images. The nonce of a
//! chunk is its number and whether it is the last one, so chunks cannot be reordered, left out or cut off. Only the key
//! opens the file; which file an instance has is what the measurement says.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use marblerun_linux::occlum::IMAGE_KEY_LEN;
use marblerun_linux::regular_file::{ReadError, read_bounded};

/// Begins each file, and names the way of encryption.
const MAGIC: &[u8; 16] = b"marble-sim enc 1";
const SALT_LEN: usize = 32;
const CHUNK_LEN: usize = 64 * 1024;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = MAGIC.len() + SALT_LEN;

/// Most bytes of an encrypted image: it is decrypted in memory.
pub const MAX_LEN: usize = 1 << 30;

/// The archive of an image in clear. `Debug` does not show it.
#[derive(Clone)]
pub struct PlainImage(Vec<u8>);

impl fmt::Debug for PlainImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainImage({} bytes)", self.0.len())
    }
}

/// An image was not encrypted or decrypted.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The directory cannot be read as an image.
    #[error("image {} cannot be packed", path.display())]
    Pack {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The encrypted file cannot be read.
    #[error("encrypted image {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// More than is decrypted in memory.
    #[error("image: expected at most {MAX_LEN} bytes, got {got}")]
    TooLarge {
        /// Length of the archive.
        got: usize,
    },
    /// Another kind of file.
    #[error("expected an image that `marble-sim image encrypt` made, got another file")]
    Form,
    /// Another key, or changed bytes: nobody can tell which.
    #[error("the key does not open the image, or the image was changed")]
    Key,
    /// The cryptography library failed.
    #[error("encryption failed")]
    Cryptography,
}

impl PlainImage {
    /// Packs a directory: directories, files, symbolic links and permissions.
    ///
    /// # Errors
    /// [`ImageError::Pack`], [`ImageError::TooLarge`].
    pub fn pack(directory: &Path) -> Result<Self, ImageError> {
        let pack = || {
            let mut archive = tar::Builder::new(Vec::new());
            archive.follow_symlinks(false);
            archive.append_dir_all("", directory)?;
            archive.into_inner()
        };
        let bytes = pack().map_err(|source| ImageError::Pack { path: directory.to_owned(), source })?;
        if bytes.len() > MAX_LEN {
            return Err(ImageError::TooLarge { got: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// Unpacks into an existing directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn unpack(&self, directory: &Path) -> io::Result<()> {
        let mut archive = tar::Archive::new(self.0.as_slice());
        archive.set_preserve_mtime(false);
        archive.unpack(directory)
    }

    /// Encrypts.
    ///
    /// # Errors
    /// [`ImageError::Cryptography`].
    pub fn encrypt(&self, image_key: &[u8; IMAGE_KEY_LEN]) -> Result<Vec<u8>, ImageError> {
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt).map_err(|_| ImageError::Cryptography)?;
        let key = chunk_key(image_key, &salt)?;
        let mut sealed = Vec::with_capacity(self.0.len() + self.0.len() / CHUNK_LEN * TAG_LEN + HEADER_LEN + TAG_LEN);
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&salt);
        // An empty archive is one empty chunk.
        let mut chunks = self.0.chunks(CHUNK_LEN).peekable();
        let mut number = 0;
        loop {
            let mut chunk = chunks.next().unwrap_or_default().to_vec();
            let is_last = chunks.peek().is_none();
            key.seal_in_place_append_tag(nonce(number, is_last), Aad::empty(), &mut chunk)
                .map_err(|_| ImageError::Cryptography)?;
            sealed.append(&mut chunk);
            if is_last {
                return Ok(sealed);
            }
            number += 1;
        }
    }

    /// Decrypts; nothing is returned before all of it has been verified.
    ///
    /// # Errors
    /// [`ImageError::Form`], [`ImageError::Key`].
    pub fn decrypt(sealed: &[u8], image_key: &[u8; IMAGE_KEY_LEN]) -> Result<Self, ImageError> {
        let body = sealed.strip_prefix(MAGIC).ok_or(ImageError::Form)?;
        let (salt, body) = body.split_first_chunk::<SALT_LEN>().ok_or(ImageError::Form)?;
        let key = chunk_key(image_key, salt)?;
        let mut plain = Vec::with_capacity(body.len());
        let mut chunks = body.chunks(CHUNK_LEN + TAG_LEN).zip(0_u32..).peekable();
        while let Some((chunk, number)) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let mut chunk = chunk.to_vec();
            let opened = key.open_in_place(nonce(number, is_last), Aad::empty(), &mut chunk);
            plain.extend_from_slice(opened.map_err(|_| ImageError::Key)?);
        }
        // Without a last chunk the end is missing.
        if body.is_empty() { Err(ImageError::Form) } else { Ok(Self(plain)) }
    }
}

/// Reads an encrypted image.
///
/// # Errors
/// [`ImageError::Read`]; also if there is none.
pub fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    // The tags and the header come on top of the archive.
    let limit = MAX_LEN + MAX_LEN / CHUNK_LEN * TAG_LEN + HEADER_LEN + TAG_LEN;
    let failed = |source| ImageError::Read { path: path.to_owned(), source };
    read_bounded(path, limit)
        .map_err(failed)?
        .ok_or_else(|| failed(ReadError::Io(io::Error::from(io::ErrorKind::NotFound))))
}

/// 16 random bytes as `occlum gen-image-key` writes them: hexadecimal pairs with `-` between them.
///
/// # Errors
/// [`ImageError::Cryptography`].
pub fn generate_key() -> Result<String, ImageError> {
    let mut key = [0_u8; IMAGE_KEY_LEN];
    rand::fill(&mut key).map_err(|_| ImageError::Cryptography)?;
    Ok(key.map(|byte| format!("{byte:02x}")).join("-"))
}

/// Reads a key as [`generate_key`] writes it; a newline at the end does not count.
pub fn parse_key(text: &str) -> Option<[u8; IMAGE_KEY_LEN]> {
    let mut key = [0; IMAGE_KEY_LEN];
    let mut pairs = text.strip_suffix('\n').unwrap_or(text).split('-');
    for byte in &mut key {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(key)
}

fn chunk_key(image_key: &[u8; IMAGE_KEY_LEN], salt: &[u8; SALT_LEN]) -> Result<LessSafeKey, ImageError> {
    let extracted = Salt::new(HKDF_SHA256, salt).extract(image_key);
    let key = extracted.expand(&[MAGIC], &AES_128_GCM).map_err(|_| ImageError::Cryptography)?;
    Ok(LessSafeKey::new(UnboundKey::from(key)))
}

/// Number of the chunk and whether it is the last one.
fn nonce(number: u32, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn image() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/app"), "a program nobody may read".repeat(10_000)).unwrap();
        fs::set_permissions(dir.path().join("bin/app"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        symlink("bin/app", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn what_was_packed_and_encrypted_comes_back() {
        let image = image();
        let sealed = PlainImage::pack(image.path()).unwrap().encrypt(&KEY).unwrap();
        let back = tempfile::tempdir().unwrap();
        PlainImage::decrypt(&sealed, &KEY).unwrap().unpack(back.path()).unwrap();
        let app = back.path().join("bin/app");
        assert_eq!(fs::read(&app).unwrap(), fs::read(image.path().join("bin/app")).unwrap());
        assert_eq!(fs::metadata(app).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(fs::read_link(back.path().join("link")).unwrap(), Path::new("bin/app"));
        assert!(back.path().join("empty").is_dir());
    }

    // rules: INIT-8
    #[test]
    fn the_encrypted_file_shows_neither_content_nor_names_and_differs_each_time() {
        let plain = PlainImage::pack(image().path()).unwrap();
        let (one, other) = (plain.encrypt(&KEY).unwrap(), plain.encrypt(&KEY).unwrap());
        assert_ne!(one[HEADER_LEN..], other[HEADER_LEN..]);
        for words in [&b"nobody may read"[..], b"bin/app", b"ustar"] {
            assert!(plain.0.windows(words.len()).any(|window| window == words));
            assert!(!one.windows(words.len()).any(|window| window == words));
        }
    }

    // rules: INIT-8
    #[test]
    fn another_key_and_every_change_of_the_file_are_refused() {
        let sealed = PlainImage::pack(image().path()).unwrap().encrypt(&KEY).unwrap();
        assert!(matches!(PlainImage::decrypt(&sealed, &[8; 16]), Err(ImageError::Key)));
        let chunk = CHUNK_LEN + TAG_LEN;
        assert!(sealed.len() > HEADER_LEN + 3 * chunk, "the test needs several chunks");
        let mut swapped = sealed.clone();
        swapped[HEADER_LEN..HEADER_LEN + 2 * chunk].rotate_left(chunk);
        let mut salted = sealed.clone();
        salted[MAGIC.len()] ^= 1;
        let mut last_byte = sealed.clone();
        *last_byte.last_mut().unwrap() ^= 1;
        let cut = sealed[..HEADER_LEN + 2 * chunk].to_vec();
        let without_first = [&sealed[..HEADER_LEN], &sealed[HEADER_LEN + chunk..]].concat();
        for (what, bytes) in
            [("swapped", swapped), ("salted", salted), ("last byte", last_byte), ("cut", cut), ("first", without_first)]
        {
            assert!(matches!(PlainImage::decrypt(&bytes, &KEY), Err(ImageError::Key)), "{what}");
        }
        for bytes in [&b""[..], b"x", MAGIC, &sealed[..HEADER_LEN], &sealed[1..]] {
            assert!(matches!(PlainImage::decrypt(bytes, &KEY), Err(ImageError::Form)), "{}", bytes.len());
        }
    }

    #[test]
    fn an_empty_image_has_a_chunk_too() {
        let sealed = PlainImage(Vec::new()).encrypt(&KEY).unwrap();
        assert_eq!(sealed.len(), HEADER_LEN + TAG_LEN);
        assert!(PlainImage::decrypt(&sealed, &KEY).unwrap().0.is_empty());
    }

    #[test]
    fn keys_are_written_and_read_as_occlum_does() {
        let key = generate_key().unwrap();
        assert_eq!(key.len(), 47);
        assert!(parse_key(&key).is_some() && parse_key(&format!("{key}\n")).is_some());
        assert_ne!(key, generate_key().unwrap());
        assert_eq!(parse_key("00-01-02-03-04-05-06-07-08-09-0a-0b-0c-0d-0e-FF").unwrap()[15], 0xff);
        for text in ["", &key[3..], &format!("{key}-00"), &key.replace('-', ":"), &format!("+1{}", &key[2..])] {
            assert!(parse_key(text).is_none(), "{text}");
        }
    }
}
