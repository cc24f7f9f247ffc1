//! Where the signature structure is in the files of the runtimes.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _};

use crate::archive::{self, ArchiveError, Choice, GZIP_MAGIC};
use crate::sigstruct::{SigStruct, SigStructError};

/// Largest file that is read, in bytes: enclaves with embedded payload have some hundred megabytes.
pub const MAX_ENCLAVE_BYTES: u64 = 1 << 30;

/// Section of Open Enclave, Edgeless RT and EGo.
const OPEN_ENCLAVE_SECTION: &str = ".oeinfo";
/// Where EGo keeps offset and size of the `enclave.json` at the end of the file, in [`OPEN_ENCLAVE_SECTION`]: two numbers of
/// 64 bits, least significant byte first. Both are zero in other enclaves.
const EGO_CONFIG: std::ops::Range<usize> = 2048..2064;
/// Section of EGo's bundles: an archive of EGo's own two programs and the signed one.
const EGO_BUNDLE_SECTION: &str = ".ego.bundle";
/// EGo's own programs in a bundle, of which neither is the signed enclave.
const EGO_PROGRAMS: [&str; 3] = ["ego-host", "ego-enclave", "ego-enclave-fips140"];
/// Section of the Intel SGX SDK and of Occlum's LibOS.
const SDK_SECTION: &str = ".note.sgxmeta";
/// The LibOS of an Occlum instance, which carries the signature of the instance.
const OCCLUM_LIBOS: &str = "build/lib/libocclum-libos.signed.so";
/// Says whether an Occlum instance is for hardware.
const OCCLUM_MODE: &str = ".sgx_mode";
/// Longest content of [`OCCLUM_MODE`], in bytes.
const MAX_MODE_BYTES: u64 = 64;

/// What kind of thing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A signed enclave, or the signature file of one.
    File,
    /// A signed executable of EGo.
    Ego,
    /// A bundle of EGo, with a signed executable in it.
    EgoBundle,
    /// A directory with the signature file of a Gramine enclave.
    Gramine,
    /// An Occlum instance that was built.
    Occlum,
    /// The archive that `occlum package` makes of an instance.
    OcclumPackage,
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
    /// An archive, or a bundle, that cannot be unpacked.
    #[error("{}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// An archive without a signed instance.
    #[error("expected a package of an Occlum instance, got {}: {OCCLUM_LIBOS}: {occlum}", path.display())]
    NotAPackage {
        /// The file.
        path: PathBuf,
        /// Why it is none.
        occlum: String,
    },
    /// A bundle without a signed executable.
    #[error("expected a bundle of EGo with a signed executable, got {}: {executable}", path.display())]
    NotABundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with the executable in it.
        executable: String,
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
            Self::NotAPackage { .. } => Some("`occlum package` makes it of a built instance"),
            Self::NotABundle { .. } => Some("sign the executable with `ego sign` before `ego bundle`"),
            Self::NotAnImage { .. } => Some("for Occlum, run `occlum build` first and give the instance directory"),
            Self::Read { .. } | Self::TooLarge { .. } | Self::Archive { .. } => None,
        }
    }
}

/// Reads a signed enclave, a bundle of EGo, the directory of a Gramine enclave, or an Occlum instance or its package.
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
    let read = |source| EnclaveError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let mut start = Vec::new();
    (&mut file).take(GZIP_MAGIC.len() as u64).read_to_end(&mut start).map_err(read)?;
    if start == GZIP_MAGIC {
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        return read_package(path, file);
    }
    let bytes = read_file(path)?;
    if let Ok(bundle) = section_data(&bytes, EGO_BUNDLE_SECTION) {
        return read_bundle(path, bundle);
    }
    let open_enclave = match open_enclave(&bytes) {
        Ok(image) => return Ok(image),
        Err(reason) => reason,
    };
    let whole = match SigStruct::find(&bytes) {
        Ok(sigstruct) => return Ok(of_kind(ImageKind::File, sigstruct)),
        Err(error) => error,
    };
    // Where the whole file begins with something that looks like a structure, its section may still hold a real one.
    match section(&bytes, SDK_SECTION) {
        Ok(sigstruct) => Ok(of_kind(ImageKind::File, sigstruct)),
        Err(sdk) => Err(EnclaveError::NotAnEnclave { path: path.to_owned(), open_enclave, whole, sdk }),
    }
}

fn of_kind(kind: ImageKind, sigstruct: SigStruct) -> EnclaveImage {
    EnclaveImage { kind, sigstruct, is_simulation: false }
}

/// An enclave of Open Enclave, Edgeless RT or EGo.
fn open_enclave(bytes: &[u8]) -> Result<EnclaveImage, String> {
    let data = section_data(bytes, OPEN_ENCLAVE_SECTION)?;
    let sigstruct = SigStruct::find(data).map_err(|error| error.to_string())?;
    let has_config = data.get(EGO_CONFIG).is_some_and(|config| config.iter().any(|byte| *byte != 0));
    Ok(of_kind(if has_config { ImageKind::Ego } else { ImageKind::File }, sigstruct))
}

/// The signed executable in a bundle of EGo: the file that is none of EGo's own.
fn read_bundle(path: &Path, bundle: &[u8]) -> Result<EnclaveImage, EnclaveError> {
    let is_own = |file: &Path| EGO_PROGRAMS.iter().any(|name| file.ends_with(name));
    let mut executable = Err("there is none beside those of EGo".to_owned());
    let choose = |file: &Path| if is_own(file) { Choice::Skip } else { Choice::Read { max: MAX_ENCLAVE_BYTES } };
    let take = |file: &Path, content: Vec<u8>| {
        executable = open_enclave(&content)
            .map_err(|reason| format!("{}: section {OPEN_ENCLAVE_SECTION}: {reason}", file.display()));
        executable.is_ok()
    };
    archive::walk(bundle, choose, take).map_err(|source| EnclaveError::Archive { path: path.to_owned(), source })?;
    let image = executable.map_err(|executable| EnclaveError::NotABundle { path: path.to_owned(), executable })?;
    Ok(of_kind(ImageKind::EgoBundle, image.sigstruct))
}

/// An instance as `occlum package` packs it, everything below one directory. Read to where LibOS and mode are known.
fn read_package(path: &Path, package: File) -> Result<EnclaveImage, EnclaveError> {
    let below_top = |file: &Path| file.components().skip(1).collect::<PathBuf>();
    let (mut libos, mut mode) = (None, None);
    let choose = |file: &Path| match below_top(file) {
        file if file == Path::new(OCCLUM_LIBOS) => Choice::Read { max: MAX_ENCLAVE_BYTES },
        file if file == Path::new(OCCLUM_MODE) => Choice::Read { max: MAX_MODE_BYTES },
        _ => Choice::Skip,
    };
    let take = |file: &Path, content: Vec<u8>| {
        if file.ends_with(OCCLUM_MODE) {
            mode = Some(content);
        } else {
            libos = Some(section(&content, SDK_SECTION));
        }
        libos.is_some() && mode.is_some()
    };
    archive::walk(io::BufReader::new(package), choose, take)
        .map_err(|source| EnclaveError::Archive { path: path.to_owned(), source })?;
    let sigstruct = libos.unwrap_or_else(|| Err("no such file".to_owned()));
    let sigstruct = sigstruct.map_err(|occlum| EnclaveError::NotAPackage { path: path.to_owned(), occlum })?;
    let is_simulation = mode.is_some_and(|mode| is_mode_of_simulation(&mode));
    Ok(EnclaveImage { kind: ImageKind::OcclumPackage, sigstruct, is_simulation })
}

fn is_mode_of_simulation(mode: &[u8]) -> bool {
    mode.trim_ascii() == b"SIM"
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
    let is_simulation = fs::read(path.join(OCCLUM_MODE)).is_ok_and(|mode| is_mode_of_simulation(&mode));
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
    SigStruct::find(section_data(bytes, name)?).map_err(|error| error.to_string())
}

/// A section of an ELF file, or the reason why there is none.
fn section_data<'bytes>(bytes: &'bytes [u8], name: &str) -> Result<&'bytes [u8], String> {
    let elf =
        ElfFile64::<object::Endianness>::parse(bytes).map_err(|error| format!("not a 64-bit ELF file ({error})"))?;
    let section = elf.section_by_name(name).ok_or("no such section")?;
    section.data().map_err(|error| format!("cannot be read ({error})"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use crate::archive::tests::tar_gz;
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

    /// Section `.oeinfo` as EGo writes it: the structure at 144, then the place of `enclave.json`.
    fn ego_section() -> Vec<u8> {
        let mut section = [vec![0xEE; 144], example()].concat();
        section.resize(EGO_CONFIG.start, 0);
        section.extend([9_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat());
        section
    }

    // rules: PKG-1, EGO-3
    #[test]
    fn executables_and_bundles_of_ego_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let expected = SigStruct::find(&example()).unwrap();
        let executable = elf(OPEN_ENCLAVE_SECTION, &ego_section());
        let image = read(&write(directory.path(), "app", &executable)).unwrap();
        assert_eq!((image.kind, image.sigstruct), (ImageKind::Ego, expected));

        let mut other = example();
        other[ENCLAVE_HASH_BYTE] ^= 1;
        let own = elf(OPEN_ENCLAVE_SECTION, &other);
        let bundle = |files: &[(&str, &[u8])]| elf(EGO_BUNDLE_SECTION, &tar_gz(files));
        let whole = bundle(&[("ego-host", b"host"), ("./ego-enclave", &own), ("app", &executable)]);
        let image = read(&write(directory.path(), "bundle", &whole)).unwrap();
        assert_eq!((image.kind, image.sigstruct), (ImageKind::EgoBundle, expected));

        for (files, reason) in [
            (&[("ego-host", &b"host"[..]), ("ego-enclave", &own)][..], "there is none beside those of EGo"),
            (&[("app", b"plain")], "app: section .oeinfo: not a 64-bit ELF file"),
        ] {
            let error = read(&write(directory.path(), "bundle", &bundle(files))).unwrap_err();
            assert!(matches!(&error, EnclaveError::NotABundle { executable, .. } if executable.starts_with(reason)));
        }
        let error = read(&write(directory.path(), "bundle", &elf(EGO_BUNDLE_SECTION, b"plain"))).unwrap_err();
        assert!(matches!(error, EnclaveError::Archive { source: ArchiveError::Read(_), .. }), "{error}");
    }

    /// A byte of MRENCLAVE in the structure.
    const ENCLAVE_HASH_BYTE: usize = 960;

    // rules: PKG-1, PKG-4
    #[test]
    fn packages_of_occlum_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let libos = elf(SDK_SECTION, &[vec![0xEE; 89], example()].concat());
        let package = |files: &[(&str, &[u8])]| read(&write(directory.path(), "p.tar.gz", &tar_gz(files)));
        let name = format!("instance/{OCCLUM_LIBOS}");
        // The same name elsewhere in the image is another file.
        let decoy = format!("instance/build/mount/{OCCLUM_LIBOS}");
        let image = package(&[(&decoy, b"plain"), (&name, &libos), ("instance/.sgx_mode", b"HW\n")]).unwrap();
        let expected = SigStruct::find(&example()).unwrap();
        assert_eq!((image.kind, image.sigstruct, image.is_simulation), (ImageKind::OcclumPackage, expected, false));
        assert!(package(&[("./instance/.sgx_mode", b"SIM\n"), (&name, &libos)]).unwrap().is_simulation);
        for (files, reason) in [
            (&[("instance/Occlum.json", &b"{}"[..])][..], "no such file"),
            (&[(name.as_str(), b"plain")], "not a 64-bit ELF file"),
            (&[(name.as_str(), &elf(SDK_SECTION, b"nothing"))], "no signature structure found"),
        ] {
            let error = package(files).unwrap_err();
            assert!(
                matches!(&error, EnclaveError::NotAPackage { occlum, .. } if occlum.starts_with(reason)),
                "{error}"
            );
        }
        let broken = read(&write(directory.path(), "p.tar.gz", b"\x1f\x8bplain")).unwrap_err();
        assert!(matches!(broken, EnclaveError::Archive { source: ArchiveError::Read(_), .. }), "{broken}");
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
