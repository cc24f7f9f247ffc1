//! Running the `openssl` program.

use std::path::PathBuf;
use std::process::Command;

use marblerun_pki::pem;
use tempfile::TempDir;

/// A directory of files for one test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn certificate(&self, name: &str, der: &[u8]) -> PathBuf {
        self.write(name, pem::encode(pem::CERTIFICATE, der).as_bytes())
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    /// Runs `openssl` in the directory; `Err` holds its output if it failed.
    pub(crate) fn openssl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("the openssl program must be installed (package openssl)");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// What OpenSSL says about a certificate, without what is random: serial number, keys, key identifiers, signature.
pub(crate) fn dump(der: &[u8]) -> String {
    let files = Files::new();
    files.certificate("c.pem", der);
    let options = "no_serial,no_pubkey,no_sigdump";
    let text = files.openssl(&["x509", "-in", "c.pem", "-noout", "-text", "-certopt", options]).unwrap();
    let is_key_id = |word: &str| word.len() == 59 && word.split(':').all(|byte| byte.len() == 2);
    text.lines()
        .map(|line| if is_key_id(line.trim()) { "<key id>" } else { line.trim() })
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}
