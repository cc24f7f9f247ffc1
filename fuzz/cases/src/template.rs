//! Templates of files and environment variables.

use std::sync::{Arc, LazyLock};

use marblerun_coordinator_core::parameters::{Credential, DataSet, ENV_FUNCTIONS, FILE_FUNCTIONS, SecretMap};
use marblerun_coordinator_core::secret::Secret;
use marblerun_manifest::SecretType;
use marblerun_secret::SecretBytes;
use marblerun_template::{Budget, Error, ErrorKind, Function, Limit, Limits, MAX_SOURCE_BYTES, Template, Value};

use crate::Verdict;

/// Small, so that a slow input is one that found a hole in the accounting.
const LIMITS: Limits =
    Limits { steps: 20_000, value_bytes: 64 << 10, total_value_bytes: 1 << 20, output_bytes: 64 << 10 };

const CERTIFICATE: &[u8] = include_bytes!("../../corpus/certificate/seed-software-root");

/// A certificate, keys and one secret of each kind.
static DATA: LazyLock<Value> = LazyLock::new(|| {
    let bytes = |bytes: &[u8]| Some(SecretBytes::copy_from(bytes));
    let credential =
        || Credential { certificate: Some(CERTIFICATE.to_vec()), private: bytes(b"private"), public: bytes(b"public") };
    let secret = |secret_type: SecretType, certificate: Option<Vec<u8>>| {
        Arc::new(Secret {
            secret_type,
            size: 128,
            shared: true,
            user_defined: false,
            valid_for: 7,
            certificate,
            private: bytes(&[1, 2, 3, 4]),
            public: bytes(&[1, 2, 3, 4]),
        })
    };
    let secrets = SecretMap::new([
        ("key", secret(SecretType::SymmetricKey, None)),
        ("text", secret(SecretType::Plain, None)),
        ("cert", secret(SecretType::CertEcdsa, Some(CERTIFICATE.to_vec()))),
        ("a-b", secret(SecretType::Plain, None)),
    ]);
    DataSet {
        marble_root: credential(),
        marble: credential(),
        coordinator_root: credential(),
        coordinator_intermediate: credential(),
        secrets: Arc::clone(&secrets),
        previous_secrets: SecretMap::new([]),
    }
    .into_value()
});

/// A template: it renders or fails within its budget, and twice the same.
pub fn template(data: &[u8]) -> Verdict {
    render(data, &FILE_FUNCTIONS).or(render(data, &ENV_FUNCTIONS))
}

fn render(source: &[u8], functions: &'static [Function]) -> Verdict {
    let parsed = Template::parse(source, functions);
    let Ok(template) = &parsed else { return refused(&parsed, source) };
    assert!(source.len() <= MAX_SOURCE_BYTES);
    let _ = template.references();
    let rendered = template.execute(&DATA, &mut Budget::new(LIMITS));
    let again = template.execute(&DATA, &mut Budget::new(LIMITS));
    match (&rendered, &again) {
        (Ok(output), Ok(again)) => {
            assert!(output.len() <= LIMITS.output_bytes, "{} bytes of output", output.len());
            assert_eq!(output.expose(), again.expose());
            Verdict::Accepted
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again);
            refused(&rendered, source)
        }
        _ => panic!("the same template gave output and an error"),
    }
}

/// An error points into the text.
fn refused<T>(result: &Result<T, Error>, source: &[u8]) -> Verdict {
    let Err(error) = result else { return Verdict::Accepted };
    let lines = 1 + source.iter().filter(|byte| **byte == b'\n').count();
    assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
    assert!(error.column.is_none_or(|column| column <= source.len()), "column {:?}", error.column);
    assert!(!error.class().is_empty());
    let too_long = matches!(error.kind, ErrorKind::Limit(Limit::Source { .. }));
    assert!(!too_long || source.len() > MAX_SOURCE_BYTES);
    let _ = error.hint();
    Verdict::of(result)
}
