//! The five functions that bring secrets into text.

use std::any::Any;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use marblerun_template::{Budget, Function, HostError, Object, Value};
use zeroize::Zeroizing;

use super::certificate::CertificateObject;
use super::data::{NoSecret, PRIVATE_KEY, PUBLIC_KEY, SecretObject};

const PEM: Function = Function { name: "pem", call: pem };
const HEX: Function = Function { name: "hex", call: hex };
const BASE64: Function = Function { name: "base64", call: base64 };

/// The functions in files.
pub static FILE_FUNCTIONS: [Function; 4] = [PEM, HEX, BASE64, Function { name: "raw", call: raw }];
/// The functions in environment variables.
pub static ENV_FUNCTIONS: [Function; 4] = [PEM, HEX, BASE64, Function { name: "string", call: string }];

fn refused(class: &'static str, message: impl Into<String>) -> HostError {
    HostError::Refused { class, message: message.into() }
}

fn wrong_kind(value: &Value, expected: &str) -> HostError {
    refused("secret-arg-kind", format!("expected {expected}, got a value of type {}", value.type_name()))
}

/// Bytes that a function was given; empty ones are refused before anything is made of them.
fn not_empty(bytes: &[u8]) -> Result<&[u8], HostError> {
    if bytes.is_empty() {
        return Err(refused(
            "empty-secret",
            "the secret or key is empty; a user-defined secret must be uploaded first",
        ));
    }
    Ok(bytes)
}

fn object<T: Object>(value: &Value) -> Option<&T> {
    match value {
        Value::Object(object) => (object.as_ref() as &dyn Any).downcast_ref(),
        _ => None,
    }
}

/// The bytes of certificates, keys, whole secrets and other byte slices.
fn bytes_of(value: &Value) -> Result<&[u8], HostError> {
    let bytes = match value {
        Value::Nil => return Err(missing()),
        Value::Bytes(bytes) => bytes.as_slice(),
        other => {
            if let Some(certificate) = object::<CertificateObject>(other) {
                certificate.der()
            } else if let Some(secret) = object::<SecretObject>(other) {
                secret.public()
            } else if object::<NoSecret>(other).is_some() {
                &[]
            } else {
                return Err(wrong_kind(other, "a secret, its Cert, Private or Public, or bytes"));
            }
        }
    };
    not_empty(bytes)
}

fn missing() -> HostError {
    refused("missing-secret", "the secret does not exist")
}

fn pem(value: &Value, budget: &mut Budget) -> Result<Value, HostError> {
    const EXPECTED: &str = "Cert, Private or Public";
    let (label, bytes) = match value {
        Value::Nil => return Err(missing()),
        Value::Bytes(bytes) if std::ptr::eq(bytes.bytes_type(), &PRIVATE_KEY) => ("PRIVATE KEY", bytes.as_slice()),
        Value::Bytes(bytes) if std::ptr::eq(bytes.bytes_type(), &PUBLIC_KEY) => ("PUBLIC KEY", bytes.as_slice()),
        other => match object::<CertificateObject>(other) {
            Some(certificate) => ("CERTIFICATE", certificate.der()),
            None => return Err(wrong_kind(other, EXPECTED)),
        },
    };
    let bytes = not_empty(bytes)?;
    // The block is charged when it is written; the base64 text inside of it is at most as long again.
    budget.charge_value(bytes.len().saturating_mul(2))?;
    let text = Zeroizing::new(marblerun_pki::pem::encode(label, bytes));
    Value::build_string(budget, |out, budget| Ok(out.write(text.as_bytes(), budget)?))
}

fn hex(value: &Value, budget: &mut Budget) -> Result<Value, HostError> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = bytes_of(value)?;
    Value::build_string(budget, |out, budget| {
        for byte in bytes {
            out.write(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]], budget)?;
        }
        Ok(())
    })
}

fn base64(value: &Value, budget: &mut Budget) -> Result<Value, HostError> {
    let bytes = bytes_of(value)?;
    Value::build_string(budget, |out, budget| {
        for block in bytes.chunks(3) {
            let mut text = Zeroizing::new([0; 4]);
            let length = STANDARD.encode_slice(block, text.as_mut()).expect("three bytes make four characters");
            out.write(&text[..length], budget)?;
        }
        Ok(())
    })
}

fn raw(value: &Value, budget: &mut Budget) -> Result<Value, HostError> {
    let bytes = bytes_of(value)?;
    Value::build_string(budget, |out, budget| Ok(out.write(bytes, budget)?))
}

fn string(value: &Value, budget: &mut Budget) -> Result<Value, HostError> {
    const EXPECTED: &str = "a whole secret of type plain";
    if matches!(value, Value::Nil) {
        return Err(missing());
    }
    if object::<NoSecret>(value).is_some() {
        not_empty(&[])?;
    }
    let Some(secret) = object::<SecretObject>(value) else {
        return Err(wrong_kind(value, EXPECTED));
    };
    if !secret.is_plain() {
        return Err(refused("secret-arg-kind", "expected a secret of type plain, got one of another type"));
    }
    let bytes = not_empty(secret.public())?;
    budget.charge_scan(bytes.len())?;
    if bytes.contains(&0) {
        return Err(refused("nul-byte", "the secret contains a NUL byte, which no environment variable can hold"));
    }
    Value::build_string(budget, |out, budget| Ok(out.write(bytes, budget)?))
}
