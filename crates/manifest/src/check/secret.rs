//! Secret definitions and certificate templates.

use marblerun_json::Place;

use super::CheckError;
use crate::certificate::{CertificateTemplate, IpRange, SecretCertificate, shorten};
use crate::schema::{Manifest, SecretDefinition};
use crate::secret_type::SecretType;

/// The longest key that HKDF with SHA-256 can derive, in bits (RFC 5869 2.3: 255 hash lengths).
pub const MAX_DERIVED_KEY_BITS: u64 = 255 * 32 * 8;
/// The longest random key, in bits: 1 MiB. Shared keys are not derived, so that only memory limits them.
pub const MAX_RANDOM_KEY_BITS: u64 = 8 * 1024 * 1024;

/// The extension that makes a certificate that of a Marble.
const MARBLE_TYPE_EXTENSION: [i64; 5] = [1, 3, 9903, 2, 1];

fn place_of(name: &str) -> Place {
    Place::top().member("Secrets").member(name)
}

/// What every secret must be, generated or not.
pub(crate) fn check_definitions(manifest: &Manifest) -> Result<(), CheckError> {
    for (name, secret) in &manifest.secrets {
        let Some(secret_type) = secret.secret_type() else {
            return Err(CheckError::UnknownSecretType {
                place: place_of(name).member("Type"),
                got: shorten(&secret.type_word),
            });
        };
        if secret_type.is_certificate() && secret.cert.has_end() && secret.valid_for != 0 {
            return Err(CheckError::NotAfterWithValidFor { place: place_of(name) });
        }
    }
    Ok(())
}

/// What secrets must be so that they can be generated.
pub(crate) fn check_generation(manifest: &Manifest) -> Result<(), CheckError> {
    for (name, secret) in manifest.secrets.iter().filter(|(_, secret)| !secret.user_defined) {
        let place = place_of(name);
        check_size(&place, secret)?;
        if let (Some(true), SecretCertificate::Template(template)) =
            (secret.secret_type().map(SecretType::is_certificate), &secret.cert)
        {
            check_template(&place.member("Cert"), template)?;
        }
    }
    Ok(())
}

fn check_size(place: &Place, secret: &SecretDefinition) -> Result<(), CheckError> {
    let size = secret.size;
    let (fits, expected) = match secret.secret_type() {
        Some(SecretType::SymmetricKey) if secret.shared => (
            size > 0 && size.is_multiple_of(8) && size <= MAX_RANDOM_KEY_BITS,
            "a number of bits divisible by 8, from 8 to 8388608",
        ),
        Some(SecretType::SymmetricKey) => (
            size > 0 && size.is_multiple_of(8) && size <= MAX_DERIVED_KEY_BITS,
            "a number of bits divisible by 8, from 8 to 65280 unless Shared",
        ),
        Some(SecretType::CertRsa) => (matches!(size, 2048 | 3072 | 4096 | 8192), "2048, 3072, 4096 or 8192 bits"),
        Some(SecretType::CertEcdsa) => (matches!(size, 256 | 384 | 521), "256, 384 or 521 bits (P-256, P-384, P-521)"),
        Some(SecretType::CertEd25519) => (size == 0, "no size for an Ed25519 key"),
        Some(SecretType::Plain) => return Err(CheckError::PlainNotUserDefined { place: place.clone() }),
        // Refused before.
        None => return Ok(()),
    };
    if fits { Ok(()) } else { Err(CheckError::SecretSize { place: place.member("Size"), expected, got: size }) }
}

/// What a certificate cannot hold; the rest is for whoever makes it.
fn check_template(place: &Place, template: &CertificateTemplate) -> Result<(), CheckError> {
    let refuse = |place: Place, expected, got: String| Err(CheckError::Template { place, expected, got });
    if !matches!(template.signature_algorithm, 0 | 10 | 11 | 12) {
        let expected = "0 (default), 10, 11 or 12 (ECDSA with SHA-256, SHA-384, SHA-512)";
        return refuse(place.member("SignatureAlgorithm"), expected, template.signature_algorithm.to_string());
    }
    for (index, number) in template.ext_key_usage.iter().flatten().enumerate() {
        if !(0..=13).contains(number) {
            let place = place.member("ExtKeyUsage").index(index);
            return refuse(place, "an extended key usage from 0 to 13", number.to_string());
        }
    }
    let path_len = template.max_path_len;
    if path_len < -1 {
        return refuse(place.member("MaxPathLen"), "-1 (none) or a path length", path_len.to_string());
    }
    if !template.is_ca && (path_len > 0 || (path_len == 0 && template.max_path_len_zero)) {
        return refuse(place.member("MaxPathLen"), "a path length only together with IsCA", path_len.to_string());
    }
    for (index, name) in template.dns_names.iter().flatten().enumerate() {
        if !name.is_ascii() {
            let place = place.member("DNSNames").index(index);
            return refuse(
                place,
                "an ASCII name, internationalised names in their xn-- form",
                format!("{:?}", shorten(name)),
            );
        }
    }
    for (index, address) in template.ip_addresses.iter().flatten().enumerate() {
        if address.is_none() {
            return refuse(place.member("IPAddresses").index(index), "an IP address", "none".into());
        }
    }
    for (index, uri) in template.uris.iter().enumerate() {
        if uri.is_none() {
            return refuse(place.member("URIs").index(index), "a URI object", "null".into());
        }
    }
    for (member, ranges) in
        [("PermittedIPRanges", &template.permitted_ip_ranges), ("ExcludedIPRanges", &template.excluded_ip_ranges)]
    {
        if let Some(index) = ranges.iter().position(|range| !range.as_ref().is_some_and(is_network)) {
            let expected = "an IP and a Mask of the same length";
            return refuse(place.member(member).index(index), expected, "something else".into());
        }
    }
    if let Some(index) = template.extra_extensions.iter().position(|extension| extension.id == MARBLE_TYPE_EXTENSION) {
        return Err(CheckError::MarbleTypeExtension { place: place.member("ExtraExtensions").index(index) });
    }
    Ok(())
}

fn is_network(range: &IpRange) -> bool {
    let length = match range.ip {
        Some(std::net::IpAddr::V4(_)) => 4,
        Some(std::net::IpAddr::V6(_)) => 16,
        None => return false,
    };
    range.mask.as_ref().is_some_and(|mask| mask.len() == length)
}
