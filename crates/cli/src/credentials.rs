//! Keys of users and recovery parties.

use marblerun_client::{ClientCertificate, RecoveryKey, SecretBytes};

use crate::args::Credentials;
use crate::args::flags::TokenKey;
use crate::failure::Cause;
use crate::files;

/// Longest recovery key file, in bytes; the longest RSA key has about 6,400.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// The certificate and key of the user, checked before anything is sent.
pub(crate) fn user(credentials: &Credentials) -> Result<ClientCertificate, Cause> {
    let token = &credentials.token;
    let has_certificate_name = credentials.pkcs11_cert_id.is_some() || credentials.pkcs11_cert_label.is_some();
    match (&credentials.cert, &credentials.key, &token.pkcs11_config) {
        (Some(_), _, Some(_)) => Err(Cause::Flags("--pkcs11-config and --cert exclude each other")),
        (_, Some(_), Some(_)) => Err(Cause::Flags("--pkcs11-config and --key exclude each other")),
        (None, None, Some(_)) if !has_key_name(token) => {
            Err(Cause::Flags("--pkcs11-config needs --pkcs11-key-id or --pkcs11-key-label"))
        }
        (None, None, Some(_)) if !has_certificate_name => {
            Err(Cause::Flags("--pkcs11-config needs --pkcs11-cert-id or --pkcs11-cert-label"))
        }
        (None, None, Some(_)) => Err(Cause::Pkcs11),
        (Some(certificate), Some(key), None) => Ok(ClientCertificate::read(certificate, key)?),
        (Some(_), None, None) => Err(Cause::Flags("--cert needs --key")),
        (None, Some(_), None) => Err(Cause::Flags("--key needs --cert")),
        (None, None, None) => Err(Cause::Flags("expected the user's --cert and --key, got neither")),
    }
}

/// The private key of a recovery party; `None` if none is named.
pub(crate) fn recovery_key(key: Option<&std::path::Path>, token: &TokenKey) -> Result<Option<RecoveryKey>, Cause> {
    match (key, &token.pkcs11_config) {
        (Some(_), Some(_)) => Err(Cause::Flags("--pkcs11-config and --key exclude each other")),
        (None, Some(_)) if !has_key_name(token) => {
            Err(Cause::Flags("--pkcs11-config needs --pkcs11-key-id or --pkcs11-key-label"))
        }
        (None, Some(_)) => Err(Cause::Pkcs11),
        (None, None) if has_key_name(token) => Err(Cause::Flags("a key on a token needs --pkcs11-config")),
        (None, None) => Ok(None),
        (Some(path), None) => {
            let text = SecretBytes::new(files::read("recovery key", path, MAX_KEY_BYTES)?);
            let key = RecoveryKey::from_pem(text.expose())
                .map_err(|source| Cause::RecoveryKeyFile { path: path.to_owned(), source })?;
            Ok(Some(key))
        }
    }
}

fn has_key_name(token: &TokenKey) -> bool {
    token.pkcs11_key_id.is_some() || token.pkcs11_key_label.is_some()
}
