//! A good instance in a temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use marblerun_manifest::Manifest;
use tempfile::TempDir;

use super::super::{Entry, Finding, check};
use crate::elf::test_file::ElfFile;
use crate::sigstruct::SIGSTRUCT_BYTES;

const OCCLUM_JSON: &str = r#"{
  "resource_limits": {"user_space_size": "128MB", "kernel_space_heap_size": "64MB", "kernel_space_stack_size": "1MB",
                      "max_num_of_threads": 16},
  "process": {"default_stack_size": "8MB", "default_heap_size": "16MB", "default_mmap_size": "32MB"},
  "entry_points": ["/bin/premain-libos"],
  "env": {"default": ["OCCLUM=yes", "MALLOC_ARENA_MAX=1", "EDG_MARBLE_TYPE=web"],
          "untrusted": ["EDG_MARBLE_COORDINATOR_ADDR", "EDG_MARBLE_DNS_NAMES", "EDG_MARBLE_UUID_FILE", "EDG_LOG_FORMAT"]},
  "metadata": {"product_id": 258, "version_number": 7, "debuggable": false, "disable_log": true, "enable_kss": false,
               "family_id": {"high": "0x0", "low": "0x0"}, "ext_prod_id": {"high": "0x0", "low": "0x0"}},
  "feature": {"amx": 0, "pkru": 2, "io_uring": 0},
  "mount": [
    {"target": "/", "type": "unionfs", "options": {"layers": [
      {"target": "/", "type": "sefs", "source": "./build/mount/__ROOT", "options": {"MAC": ""}},
      {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT", "options": {"temporary": true}}]}},
    {"target": "/data", "type": "sefs", "source": "./run/data", "options": {"cache_size": "1MB"}}]
}
"#;

const MANIFEST: &str = r#"{
  "Packages": {"web": {"UniqueID": "abababababababababababababababababababababababababababababababab"}},
  "Marbles": {"web": {"Package": "web", "Parameters": {
    "Argv": ["/bin/app", "--serve"],
    "Env": {"APP_KEY": "{{ hex .Secrets.key }}"},
    "Files": {"/etc/app/key": "{{ raw .Secrets.key }}"}}}},
  "Secrets": {"key": {"Type": "symmetric-key", "Size": 128}}
}
"#;

pub(super) const PIN: &str = r#"{"RootSHA256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#;

/// mov eax, 1; syscall
pub(super) const SYSTEM_CALL: [u8; 7] = [0xb8, 1, 0, 0, 0, 0x0f, 0x05];

/// System call instructions as an unpatched C library has them.
pub(super) fn many_system_calls() -> Vec<u8> {
    SYSTEM_CALL.repeat(40)
}

/// An instance that is about to be judged.
pub(super) struct Instance {
    directory: TempDir,
    occlum_json: String,
    manifest: String,
    sigstruct: Vec<u8>,
}

impl Instance {
    /// It breaks no rule.
    pub(super) fn good() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut sigstruct = vec![0; SIGSTRUCT_BYTES];
        sigstruct[..16].copy_from_slice(&[6, 0, 0, 0, 0xE1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        sigstruct[24..40].copy_from_slice(&[1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0]);
        sigstruct[960..992].fill(0xab);
        sigstruct[1024..1028].copy_from_slice(&[2, 1, 7, 0]);
        let instance = Self { directory, occlum_json: OCCLUM_JSON.into(), manifest: MANIFEST.into(), sigstruct };
        instance.elf("image/bin/premain-libos", &premain());
        instance.elf("image/bin/app", &app());
        instance.elf("image/lib/libapp.so", &ElfFile::library("libapp.so"));
        instance.elf("image/lib/libc.so.6", &libc().defines("GLIBC_2.34"));
        let directories = b"\0/lib64/\0/lib/\0";
        instance.elf("image/lib64/ld-linux-x86-64.so.2", &ElfFile::library("ld-linux-x86-64.so.2").rodata(directories));
        instance.write("image/etc/marblerun/coordinator.json", PIN);
        instance.write("image/etc/marblerun/premain.json", r#"{"Programs": ["/bin/app", "/bin/other"]}"#);
        instance.write("image/etc/app/app.conf", "port=80\n");
        instance.write("build/image_config.json", r#"{"image_type":"encrypted"}"#);
        instance.write(".sgx_mode", "HW\n");
        instance.write_libos();
        instance
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Replaces a part of Occlum.json.
    pub(super) fn config(&mut self, from: &str, to: &str) {
        assert!(self.occlum_json.contains(from), "Occlum.json has no {from:?}");
        self.occlum_json = self.occlum_json.replacen(from, to, 1);
    }

    /// Replaces all of it.
    pub(super) fn whole_config(&mut self, text: &str) {
        self.occlum_json = text.to_owned();
    }

    /// Replaces a part of the manifest.
    pub(super) fn manifest(&mut self, from: &str, to: &str) {
        assert!(self.manifest.contains(from), "the manifest has no {from:?}");
        self.manifest = self.manifest.replacen(from, to, 1);
    }

    /// Adds a mount.
    pub(super) fn mount(&mut self, json: &str) {
        self.config("{\"target\": \"/data\"", &format!("{json},\n    {{\"target\": \"/data\""));
    }

    /// Adds a host directory that is mounted.
    pub(super) fn host_mount(&mut self, target: &str) {
        self.directory_at("host");
        self.mount(&format!("{{\"target\": {target:?}, \"type\": \"hostfs\", \"source\": \"./host\"}}"));
    }

    /// Changes the signature structure.
    pub(super) fn build(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.sigstruct);
        self.write_libos();
    }

    fn write_libos(&self) {
        let libos = ElfFile::library("libocclum-libos.so").rodata(&self.sigstruct).section(".note.sgxmeta");
        self.write("build/lib/libocclum-libos.signed.so", libos.build());
    }

    /// A package of the instance's signer in place of that of its measurement.
    pub(super) fn signer_package(&mut self) {
        let signer = crate::SigStruct::find(&self.sigstruct).unwrap().mr_signer;
        let signer: String = signer.iter().map(|byte| format!("{byte:02x}")).collect();
        let package = format!("\"SignerID\": {signer:?}, \"ProductID\": 258, \"SecurityVersion\": 7");
        self.manifest("\"UniqueID\": \"abababababababababababababababababababababababababababababababab\"", &package);
    }

    /// Another signer in that package.
    pub(super) fn other_signer(&mut self, signer: &str) {
        self.signer_package();
        let start = self.manifest.find("\"SignerID\": \"").unwrap() + 13;
        self.manifest.replace_range(start..start + 64, signer);
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn elf(&self, path: &str, file: &ElfFile) {
        self.program(path, file.build());
    }

    /// Writes an executable file.
    pub(super) fn program(&self, path: &str, content: impl AsRef<[u8]>) {
        self.write(path, content);
        self.mode(path, 0o755);
    }

    pub(super) fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn directory_at(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    pub(super) fn socket(&self, path: &str) {
        std::os::unix::net::UnixListener::bind(self.path(path)).unwrap();
    }

    pub(super) fn is_debuggable(&self) -> bool {
        self.occlum_json.contains("\"debuggable\": true")
    }

    /// Without a manifest.
    pub(super) fn check_alone(&self) -> Vec<Finding> {
        fs::write(self.path("Occlum.json"), &self.occlum_json).unwrap();
        check(self.directory(), None).unwrap()
    }

    pub(super) fn check(&self) -> Vec<Finding> {
        fs::write(self.path("Occlum.json"), &self.occlum_json).unwrap();
        let manifest = Manifest::decode(self.manifest.as_bytes()).unwrap();
        check(self.directory(), Some(&Entry::find(&manifest, Some("web")).unwrap())).unwrap()
    }
}

pub(super) fn premain() -> ElfFile {
    let file = ElfFile::program().needs("libc.so.6").requires("libc.so.6", "GLIBC_2.31").imports("getaddrinfo");
    file.rodata(b"EDG_MARBLE_TYPE\0EDG_MARBLE_COORDINATOR_ADDR\0")
}

pub(super) fn app() -> ElfFile {
    ElfFile::program()
        .needs("libapp.so")
        .needs("libc.so.6")
        .requires("libc.so.6", "GLIBC_2.31")
        .imports_versioned("puts")
}

/// A C library as of 2.31.
pub(super) fn libc() -> ElfFile {
    ElfFile::library("libc.so.6").defines("GLIBC_2.2.5").defines("GLIBC_2.31")
}

/// The modulus of a published key, as a signature structure stores it.
pub(super) fn development_modulus() -> Vec<u8> {
    use base64::Engine as _;
    let pem = include_str!("../../../../simulator/development-signing-key.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    // The first integer of 385 bytes, which begins with a zero.
    let tag = [0x02, 0x82, 0x01, 0x81, 0x00];
    let start = der.windows(tag.len()).position(|window| window == tag).unwrap() + tag.len();
    der[start..start + 384].iter().rev().copied().collect()
}
