//! What stands in for SGX's measurements: a hash of what runs, and of who signed it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use der::asn1::{OctetStringRef, UintRef};
use der::oid::ObjectIdentifier;
use der::{Decode, Sequence};
use spki::AlgorithmIdentifierRef;

/// Names this form of measurement; a change of any rule below changes the name.
const PROFILE: &[u8] = b"marble-sim occlum profile 1";

/// Most files and directories in an image; a bound on a mistaken path, such as the host's root.
pub const MAX_IMAGE_ENTRIES: usize = 1_000_000;

/// Signs instances for which no key is given. Everybody has it: no manifest should trust this signer.
const DEVELOPMENT_SIGNING_KEY: &str = include_str!("../development-signing-key.pem");

/// Size of an SGX signer's RSA modulus in bytes (SIGSTRUCT, field MODULUS).
const MODULUS_LEN: usize = 384;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// An image or a signing key cannot be measured.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A part of the image cannot be read.
    #[error("image: {} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither file, directory, symbolic link nor socket.
    #[error("image: {}: expected a file, directory or symbolic link, got a device or pipe", .0.display())]
    FileType(PathBuf),
    /// More than anybody packs into an enclave.
    #[error("image: {}: more than {MAX_IMAGE_ENTRIES} files; is this an image directory?", .0.display())]
    TooManyEntries(PathBuf),
    /// The signing key cannot be used.
    #[error("signing key: expected an RSA private key of 3072 bits with exponent 3 in PEM (PKCS #8 or PKCS #1): {0}")]
    SigningKey(&'static str),
}

/// What is measured beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The image of the application: a directory, or an encrypted file.
    pub image: Image<'a>,
    /// The image of the init stage, if the instance has its own.
    pub init: Option<&'a Path>,
}

/// The image of the application.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// A directory.
    Directory(&'a Path),
    /// An encrypted file, which is measured as it is.
    Encrypted(&'a Path),
}

/// MRENCLAVE of the simulated instance.
///
/// SHA-256 over the profile's name, the internal configuration, the image of the application and that of the init stage, if
/// there is one. Of a directory names, types, permission bits 0777, link targets and contents count, in byte order of the
/// paths; owners, times and set-id bits do not, and sockets are skipped. Of an encrypted image the file's bytes count.
///
/// # Errors
/// [`MeasureError`], which names the file.
pub fn mr_enclave(internal_configuration: &str, measured: Measured<'_>) -> Result<[u8; 32], MeasureError> {
    let mut hash = Context::new(&SHA256);
    for part in [PROFILE, internal_configuration.as_bytes()] {
        update_with_len(&mut hash, part);
    }
    let mut entries = 0;
    // An entry of a directory begins with its type, a letter; the length of a word is none.
    match measured.image {
        Image::Directory(image) => hash_directory(&mut hash, image, image, &mut entries)?,
        Image::Encrypted(file) => {
            update_with_len(&mut hash, b"encrypted image");
            let read = |source| MeasureError::Read { path: file.to_owned(), source };
            hash.update(&hash_file(file).map_err(read)?);
        }
    }
    if let Some(init) = measured.init {
        update_with_len(&mut hash, b"init image");
        hash_directory(&mut hash, init, init, &mut entries)?;
    }
    Ok(finish(hash))
}

fn hash_directory(hash: &mut Context, image: &Path, path: &Path, entries: &mut usize) -> Result<(), MeasureError> {
    let read = |source| MeasureError::Read { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(read)? {
        names.push(entry.map_err(read)?.file_name());
        *entries += 1;
        if *entries > MAX_IMAGE_ENTRIES {
            return Err(MeasureError::TooManyEntries(image.to_owned()));
        }
    }
    names.sort();
    for name in names {
        let path = path.join(name);
        let read = |source| MeasureError::Read { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(read)?;
        let file_type = metadata.file_type();
        if file_type.is_socket() {
            continue;
        }
        let kind: u8 = match () {
            () if file_type.is_dir() => b'd',
            () if file_type.is_file() => b'f',
            () if file_type.is_symlink() => b'l',
            () => return Err(MeasureError::FileType(path)),
        };
        hash.update(&[kind]);
        let relative = path.strip_prefix(image).expect("the walk starts at the image");
        update_with_len(hash, relative.as_os_str().as_bytes());
        match kind {
            b'l' => update_with_len(hash, fs::read_link(&path).map_err(read)?.as_os_str().as_bytes()),
            _ => hash.update(&(metadata.permissions().mode() & 0o777).to_le_bytes()),
        }
        match kind {
            b'd' => hash_directory(hash, image, &path, entries)?,
            b'f' => hash.update(&hash_file(&path).map_err(read)?),
            _ => {}
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(finish(hash)),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn update_with_len(hash: &mut Context, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn finish(hash: Context) -> [u8; 32] {
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// MRSIGNER of an enclave signed with `key`, or with the published development key.
///
/// SHA-256 of the modulus, little-endian, as SIGSTRUCT holds it (Intel SDM volume 3D, "SIGSTRUCT").
///
/// # Errors
/// [`MeasureError::SigningKey`] for everything that is not an RSA-3072 key with exponent 3.
pub fn mr_signer(key: Option<&str>) -> Result<[u8; 32], MeasureError> {
    let pem = key.unwrap_or(DEVELOPMENT_SIGNING_KEY);
    let refused = MeasureError::SigningKey;
    let (label, der) = pem_rfc7468::decode_vec(pem.as_bytes()).map_err(|_| refused("not PEM"))?;
    let private_key_info;
    let pkcs1 = match label {
        "RSA PRIVATE KEY" => der.as_slice(),
        "PRIVATE KEY" => {
            private_key_info = PrivateKeyInfo::from_der(&der).map_err(|_| refused("malformed PKCS #8"))?;
            if private_key_info.algorithm.oid != RSA_ENCRYPTION {
                return Err(refused("not an RSA key"));
            }
            private_key_info.private_key.as_bytes()
        }
        _ => return Err(refused("PEM of something else")),
    };
    let key = RsaPrivateKey::from_der(pkcs1).map_err(|_| refused("malformed RSA key"))?;
    if key.public_exponent.as_bytes() != [3] {
        return Err(refused("another exponent"));
    }
    if key.modulus.as_bytes().len() != MODULUS_LEN {
        return Err(refused("another size"));
    }
    let mut modulus = key.modulus.as_bytes().to_vec();
    modulus.reverse();
    Ok(digest(&SHA256, &modulus).as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// `PrivateKeyInfo` of RFC 5208, without attributes.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierRef<'a>,
    private_key: &'a OctetStringRef,
}

/// `RSAPrivateKey` of RFC 8017 A.1.2, two primes.
#[derive(Sequence)]
struct RsaPrivateKey<'a> {
    version: u8,
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
    private_exponent: UintRef<'a>,
    prime1: UintRef<'a>,
    prime2: UintRef<'a>,
    exponent1: UintRef<'a>,
    exponent2: UintRef<'a>,
    coefficient: UintRef<'a>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn image() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/app"), "code").unwrap();
        fs::write(dir.path().join("data"), "").unwrap();
        symlink("bin/app", dir.path().join("link")).unwrap();
        dir
    }

    fn of_directory(configuration: &str, image: &Path) -> [u8; 32] {
        mr_enclave(configuration, Measured { image: Image::Directory(image), init: None }).unwrap()
    }

    #[track_caller]
    fn check_changes(change: impl FnOnce(&Path)) {
        let image = image();
        let before = of_directory("{}", image.path());
        change(image.path());
        assert_ne!(before, of_directory("{}", image.path()));
    }

    #[test]
    fn every_measured_property_of_the_image_counts() {
        check_changes(|image| fs::write(image.join("bin/app"), "Code").unwrap());
        check_changes(|image| fs::rename(image.join("data"), image.join("date")).unwrap());
        check_changes(|image| fs::rename(image.join("data"), image.join("bin/data")).unwrap());
        check_changes(|image| fs::remove_file(image.join("data")).unwrap());
        check_changes(|image| fs::create_dir(image.join("empty")).unwrap());
        check_changes(|image| fs::set_permissions(image.join("data"), fs::Permissions::from_mode(0o600)).unwrap());
        check_changes(|image| {
            fs::remove_file(image.join("link")).unwrap();
            symlink("bin/other", image.join("link")).unwrap();
        });
        check_changes(|image| {
            fs::remove_file(image.join("data")).unwrap();
            fs::create_dir(image.join("data")).unwrap();
        });
    }

    #[test]
    fn times_sockets_and_the_place_of_the_image_do_not_count() {
        let (first, second) = (image(), image());
        let file = File::options().write(true).open(second.path().join("data")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(second.path().join("socket")).unwrap();
        assert_eq!(of_directory("{}", first.path()), of_directory("{}", second.path()));
        assert_ne!(of_directory("{}", first.path()), of_directory("{ }", first.path()));
    }

    #[test]
    fn an_instance_without_init_image_keeps_its_measurement() {
        // Computed with Python's hashlib from the rules of `mr_enclave`; a change would lock out every deployed manifest.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data"), "x").unwrap();
        fs::set_permissions(dir.path().join("data"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            hex::encode(of_directory("{}", dir.path())),
            "dbcc31bfb8ed2cf40329747562f2ac1e8bbf2fa3ca7a501b355843f229077528"
        );
    }

    // rules: INIT-6, INIT-8
    #[test]
    fn the_init_image_and_the_encrypted_image_count() {
        let (first, second) = (image(), image());
        let file = first.path().join("bin/app");
        let of = |image, init| mr_enclave("{}", Measured { image, init }).unwrap();
        let directory = Image::Directory(first.path());
        let plain = of(directory, None);
        let with_init = of(directory, Some(second.path()));
        let encrypted = of(Image::Encrypted(&file), Some(second.path()));
        assert!(plain != with_init && with_init != encrypted && plain != encrypted);
        fs::write(second.path().join("bin/app"), "Code").unwrap();
        assert_ne!(with_init, of(directory, Some(second.path())));
        let changed_init = of(Image::Encrypted(&file), Some(second.path()));
        assert_ne!(encrypted, changed_init);
        fs::write(&file, "Code").unwrap();
        assert_ne!(changed_init, of(Image::Encrypted(&file), Some(second.path())));
    }

    #[test]
    fn the_development_signer_is_what_openssl_says() {
        // openssl rsa -in development-signing-key.pem -noout -modulus | cut -d= -f2 | xxd -r -p | rev by bytes | sha256sum
        assert_eq!(
            hex::encode(mr_signer(None).unwrap()),
            "62e0f4c7ba82781b9905aafddb145bc3eac173cfc205ce3606223482492adbf8"
        );
    }

    #[test]
    fn keys_that_cannot_sign_enclaves_are_refused() {
        for key in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(mr_signer(Some(key)), Err(MeasureError::SigningKey(_))));
        }
    }
}
