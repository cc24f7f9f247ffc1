//! `certificate root|intermediate|chain`: certificates of a verified Coordinator.
//!
//! JSON: `{"certificate": PEM text, "coordinator": {...}}`; no file is written then.

use std::path::Path;

use marblerun_client::CertificateChain;
use rustls_pki_types::UnixTime;
use serde_json::json;

use crate::args::{CertificateArguments, Global};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;
use crate::{cache, files, trust};

/// Which certificates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Root,
    Intermediate,
    Chain,
}

impl Which {
    fn default_file(self) -> &'static str {
        match self {
            Self::Root => "marblerunRootCA.crt",
            Self::Intermediate => "marblerunIntermediateCA.crt",
            Self::Chain => "marblerunChainCA.crt",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Root => "Root certificate",
            Self::Intermediate => "Intermediate certificate",
            Self::Chain => "Certificate chain",
        }
    }

    fn pem(self, chain: &CertificateChain) -> String {
        match self {
            Self::Root => chain.root_pem(),
            Self::Intermediate => chain.intermediate_pem(),
            Self::Chain => chain.to_pem(),
        }
    }
}

pub(crate) fn run(
    global: &Global,
    which: Which,
    arguments: &CertificateArguments,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let file = arguments.output.file().unwrap_or_else(|| Path::new(which.default_file()));
    trust::block_on(async {
        let coordinator = trust::attest(global, &arguments.coordinator, output).await?;
        if coordinator.is_attested() {
            compare_with_cache(global, &coordinator.chain)?;
        }
        let pem = which.pem(&coordinator.chain);
        if output.is_json() {
            output.json(&json!({"certificate": pem, "coordinator": coordinator.to_json()}))?;
        } else {
            write(which, file, &pem, output)?;
        }
        Ok(ExitStatus::Success)
    })
}

/// A verified Coordinator may still be another one than the user talked to before.
pub(crate) fn compare_with_cache(global: &Global, chain: &CertificateChain) -> Result<(), Cause> {
    let path = match cache::path(global) {
        Ok(path) => path,
        // Without a place for it there is no cache to differ from.
        Err(Cause::NoConfigDirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    match cache::read(&path, UnixTime::now())? {
        Some(cached) if cached.root() != chain.root() => Err(Cause::OtherRoot { path }),
        _ => Ok(()),
    }
}

fn write(which: Which, file: &Path, pem: &str, output: &mut Output) -> Result<(), Failure> {
    files::write("certificate", file, pem.as_bytes())?;
    output.line(&format!("{} written to {}", which.noun(), file.display()))?;
    Ok(())
}
