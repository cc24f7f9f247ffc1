//! Where the signature structure is in the files of the runtimes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _};

use crate::sigstruct::{SigStruct, SigStructError};

/// Largest file that is read, in bytes: enclaves with embedded payload have some hundred megabytes.
pub const MAX_ENCLAVE_BYTES: u64 = 1 << 30;

/// Section of Open Enclave, Edgeless RT and EGo.
const OPEN_ENCLAVE_SECTION: &str = ".oeinfo";
/// Section of the Intel SGX SDK and of Occlum's LibOS.
const SDK_SECTION: &str = ".note.sgxmeta";
/// The LibOS of an Occlum instance, which carries the signature of the instance.
const OCCLUM_LIBOS: &str = "build/lib/libocclum-libos.signed.so";
/// Says whether an Occlum instance is for hardware.
const OCCLUM_MODE: &str = ".sgx_mode";

/// What kind of thing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A signed enclave, or the signature file of one.
    File,
    /// A directory with the signature file of a Gramine enclave.
    Gramine,
    /// An Occlum instance.
    Occlum,
}

/// An enclave and what its signature structure says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveImage {
    /// What was read.
    pub kind: ImageKind,
    /// The properties.
    pub sigstruct: SigStruct,
    /// True if the image was built for a simulation, in which its measurement has no meaning.
    pub is_simulation: bool,
}

/// Why no enclave was found.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EnclaveError {
    /// The path cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any enclave.
    #[error("expected an enclave of at most {MAX_ENCLAVE_BYTES} bytes, {} is larger", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file without signature structure.
    #[error(
        "expected a signed enclave, got {}: section {OPEN_ENCLAVE_SECTION}: {open_enclave}; whole file: {whole}; section \
         {SDK_SECTION}: {sdk}",
        path.display()
    )]
    NotAnEnclave {
        /// The file.
        path: PathBuf,
        /// Why it is none of Open Enclave or EGo.
        open_enclave: String,
        /// Why it is no signature file.
        whole: SigStructError,
        /// Why it is none of the SGX SDK.
        sdk: String,
    },
    /// A directory that is no image.
    #[error(
        "expected an Occlum instance or a directory with one .sig file, got {}: {signature_files} .sig files; \
         {OCCLUM_LIBOS}: {occlum}",
        path.display()
    )]
    NotAnImage {
        /// The directory.
        path: PathBuf,
        /// How many signature files there are.
        signature_files: usize,
        /// Why it is no Occlum instance.
        occlum: String,
    },
}

impl EnclaveError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnEnclave { .. } => Some("is the enclave signed?"),
            Self::NotAnImage { .. } => Some("for Occlum, run `occlum build` first and give the instance directory"),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// Reads a signed enclave, the directory of a Gramine enclave, or an Occlum instance.
///
/// # Errors
///
/// See [`EnclaveError`].
///
/// ```no_run
/// let image = marblerun_enclave_image::read("occlum_instance".as_ref())?;
/// println!("SecurityVersion {}", image.sigstruct.isv_svn);
/// # Ok::<(), marblerun_enclave_image::EnclaveError>(())
/// ```
pub fn read(path: &Path) -> Result<EnclaveImage, EnclaveError> {
    let metadata = fs::metadata(path).map_err(|source| EnclaveError::Read { path: path.to_owned(), source })?;
    if metadata.is_dir() { read_directory(path) } else { read_enclave(path) }
}

fn read_enclave(path: &Path) -> Result<EnclaveImage, EnclaveError> {
    let bytes = read_file(path)?;
    let open_enclave = match section(&bytes, OPEN_ENCLAVE_SECTION) {
        Ok(sigstruct) => return Ok(of_file(sigstruct)),
        Err(reason) => reason,
    };
    let whole = match SigStruct::find(&bytes) {
        Ok(sigstruct) => return Ok(of_file(sigstruct)),
        Err(error) => error,
    };
    // Where the whole file begins with something that looks like a structure, its section may still hold a real one.
    match section(&bytes, SDK_SECTION) {
        Ok(sigstruct) => Ok(of_file(sigstruct)),
        Err(sdk) => Err(EnclaveError::NotAnEnclave { path: path.to_owned(), open_enclave, whole, sdk }),
    }
}

fn of_file(sigstruct: SigStruct) -> EnclaveImage {
    EnclaveImage { kind: ImageKind::File, sigstruct, is_simulation: false }
}

fn read_directory(path: &Path) -> Result<EnclaveImage, EnclaveError> {
    let signature_files = signature_files(path)?;
    if let [file] = signature_files.as_slice()
        && let Ok(sigstruct) = SigStruct::find(&read_file(file)?)
    {
        return Ok(EnclaveImage { kind: ImageKind::Gramine, sigstruct, is_simulation: false });
    }
    let refused = |occlum: String| EnclaveError::NotAnImage {
        path: path.to_owned(),
        signature_files: signature_files.len(),
        occlum,
    };
    let libos = path.join(OCCLUM_LIBOS);
    if !libos.exists() {
        return Err(refused("no such file".to_owned()));
    }
    let sigstruct = section(&read_file(&libos)?, SDK_SECTION).map_err(refused)?;
    let is_simulation = fs::read(path.join(OCCLUM_MODE)).is_ok_and(|mode| mode.trim_ascii() == b"SIM");
    Ok(EnclaveImage { kind: ImageKind::Occlum, sigstruct, is_simulation })
}

fn signature_files(directory: &Path) -> Result<Vec<PathBuf>, EnclaveError> {
    let error = |source| EnclaveError::Read { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "sig") {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<u8>, EnclaveError> {
    let error = |source| EnclaveError::Read { path: path.to_owned(), source };
    let bytes = read_within(MAX_ENCLAVE_BYTES, File::open(path).map_err(error)?).map_err(error)?;
    bytes.ok_or_else(|| EnclaveError::TooLarge { path: path.to_owned() })
}

/// The whole content; `None` if it has more than `max` bytes, of which no more than one is read.
fn read_within(max: u64, content: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    content.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

/// The structure in a section of an ELF file, or the reason why there is none.
fn section(bytes: &[u8], name: &str) -> Result<SigStruct, String> {
    let elf =
        ElfFile64::<object::Endianness>::parse(bytes).map_err(|error| format!("not a 64-bit ELF file ({error})"))?;
    let section = elf.section_by_name(name).ok_or("no such section")?;
    let data = section.data().map_err(|error| format!("cannot be read ({error})"))?;
    SigStruct::find(data).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use crate::sigstruct::tests::example;

    /// A little-endian 64-bit ELF file with one section beside the names.
    fn elf(section: &str, content: &[u8]) -> Vec<u8> {
        let names = [b"\0.shstrtab\0", section.as_bytes(), b"\0"].concat();
        let (content_at, names_at) = (64, 64 + content.len());
        let headers_at = names_at + names.len();
        let mut file = Vec::new();
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        file.extend([0; 16]);
        file.extend((headers_at as u64).to_le_bytes());
        file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 1, 0]);
        file.extend(content);
        file.extend(&names);
        let header = |name: u32, kind: u32, at: usize, size: usize| {
            let mut header = Vec::new();
            header.extend(name.to_le_bytes());
            header.extend(kind.to_le_bytes());
            for word in [0, 0, at as u64, size as u64, 0, 1, 0] {
                // LINK and INFO are halves of one word of zeros.
                header.extend(word.to_le_bytes());
            }
            header
        };
        file.extend([0; 64]);
        file.extend(header(1, 3, names_at, names.len()));
        file.extend(header(11, 1, content_at, content.len()));
        file
    }

    fn write(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    // rules: PKG-1
    #[test]
    fn every_runtime_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let padded = |count: usize| [vec![0xEE; count], example()].concat();
        let ego = write(directory.path(), "ego", &elf(OPEN_ENCLAVE_SECTION, &padded(144)));
        let sdk = write(directory.path(), "sdk.so", &elf(SDK_SECTION, &padded(89)));
        let gramine = write(directory.path(), "gramine/app.sig", &example());
        write(directory.path(), &format!("occlum/{OCCLUM_LIBOS}"), &elf(SDK_SECTION, &padded(89)));
        let expected = SigStruct::find(&example()).unwrap();
        for (path, kind) in [
            (ego, ImageKind::File),
            (sdk, ImageKind::File),
            (gramine.clone(), ImageKind::File),
            (gramine.parent().unwrap().to_owned(), ImageKind::Gramine),
            (directory.path().join("occlum"), ImageKind::Occlum),
        ] {
            let image = read(&path).unwrap();
            assert_eq!(
                (image.kind, image.sigstruct, image.is_simulation),
                (kind, expected, false),
                "{}",
                path.display()
            );
        }
        write(directory.path(), "occlum/.sgx_mode", b"SIM\n");
        assert!(read(&directory.path().join("occlum")).unwrap().is_simulation);
    }

    #[test]
    fn what_is_too_large_is_refused_and_not_read_to_its_end() {
        assert_eq!(read_within(10, &[7; 10][..]).unwrap(), Some(vec![7; 10]));
        assert_eq!(read_within(10, &[7; 11][..]).unwrap(), None);
        let mut long = io::repeat(7).take(1000);
        assert_eq!(read_within(10, &mut long).unwrap(), None);
        assert_eq!(long.limit(), 1000 - 11);
    }

    // rules: PKG-3
    #[test]
    fn two_signature_files_are_ambiguous() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a.sig", &example());
        write(directory.path(), "b.sig", &example());
        let error = read(directory.path()).unwrap_err();
        assert!(matches!(error, EnclaveError::NotAnImage { signature_files: 2, .. }), "{error}");
        write(directory.path(), OCCLUM_LIBOS, &elf(SDK_SECTION, &example()));
        assert_eq!(read(directory.path()).unwrap().kind, ImageKind::Occlum);
    }

    // rules: PKG-4
    #[test]
    fn a_section_without_structure_is_no_success() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("sdk.so", elf(SDK_SECTION, b"nothing")),
            ("ego", elf(OPEN_ENCLAVE_SECTION, &example()[..1000])),
            ("plain", b"plain".to_vec()),
            ("empty", Vec::new()),
        ] {
            let error = read(&write(directory.path(), name, &content)).unwrap_err();
            assert!(matches!(error, EnclaveError::NotAnEnclave { .. }), "{name}: {error}");
        }
        write(directory.path(), &format!("occlum/{OCCLUM_LIBOS}"), &elf(SDK_SECTION, b"nothing"));
        assert!(matches!(read(&directory.path().join("occlum")), Err(EnclaveError::NotAnImage { .. })));
        assert!(matches!(read(&directory.path().join("absent")), Err(EnclaveError::Read { .. })));
    }
}
