#![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

use std::path::PathBuf;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_secret::SecretBytes;
use proptest::prelude::*;

use super::*;
use crate::crypto::sha256;

const NONCE: [u8; 12] = [0x20; 12];

fn vectors() -> serde_json::Value {
    let directory = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")), PathBuf::from);
    serde_json::from_slice(&std::fs::read(directory.join("marblerun-v1-state/vectors.json")).unwrap()).unwrap()
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_from(bytes)
}

fn data_key(bytes: &[u8]) -> DataKey {
    DataKey::new(secret(bytes)).unwrap()
}

/// nonce ‖ ciphertext ‖ tag.
fn seal(key: &[u8], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let mut out = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out).unwrap();
    [&nonce[..], &out].concat()
}

fn seal_data(key: &[u8], recovery: &[u8], plain: &[u8]) -> Vec<u8> {
    let length = u32::try_from(recovery.len()).unwrap().to_le_bytes();
    [&length[..], recovery, &seal(key, NONCE, &[], plain)].concat()
}

// rules: STA-2.1
#[test]
fn the_known_sealed_data_opens_with_its_key() {
    let vectors = vectors();
    let whole = bytes(&vectors["sealed_data"]);
    let data = SealedData::parse(&whole).unwrap();
    assert_eq!(data.recovery_data(), Ok(RecoveryData::Absent));
    assert_eq!(data.hash().to_vec(), bytes(&vectors["sealed_data_sha256"]));
    let key = data_key(&bytes(&vectors["data_key"]));
    assert!(data.opens_with(&key));
    let store = data.open(&key).unwrap();
    let expected = vectors["items"].as_object().unwrap();
    assert_eq!(store.items().len(), expected.len());
    for (name, value) in expected {
        assert_eq!(store.items()[name].as_ref().unwrap().expose(), bytes(value), "{name}");
    }
    // The description of how it is made gives the same bytes.
    let plain = vectors["plain"].as_str().unwrap();
    let nonce = whole[8..20].try_into().unwrap();
    assert_eq!([&whole[..8], &seal(key.expose(), nonce, &[], plain.as_bytes())].concat(), whole);
}

// rules: STA-2.1
#[test]
fn a_store_opens_with_a_key_of_16_bytes() {
    let whole = seal_data(&[7; 16], b"", br#"{"state":"Mw==","rootSecret":null}"#);
    let store = SealedData::parse(&whole).unwrap().open(&data_key(&[7; 16])).unwrap();
    assert_eq!(store.items()["state"].as_ref().unwrap().expose(), b"3");
    assert!(store.items()["rootSecret"].is_none());
    assert_eq!(DataKey::new(secret(&[7; 24])).unwrap_err(), ImportError::DataKeyLength { got: 24 });
}

#[test]
fn another_data_key_opens_nothing() {
    let whole = bytes(&vectors()["sealed_data"]);
    let data = SealedData::parse(&whole).unwrap();
    for key in [data_key(&[1; 32]), data_key(&[1; 16])] {
        assert!(!data.opens_with(&key));
        assert_eq!(data.open(&key).unwrap_err(), ImportError::DataNotAuthentic);
    }
}

#[test]
fn every_known_sealed_key_gives_the_data_key() {
    let vectors = vectors();
    let whole = bytes(&vectors["sealed_data"]);
    let data = SealedData::parse(&whole).unwrap();
    for case in vectors["sealed_keys"].as_array().unwrap() {
        let (form, requests) = match case["form"].as_str().unwrap() {
            "shared" => (SealedKeyForm::SharedKey, 0),
            "two-seal-keys" => (SealedKeyForm::TwoSealKeys, 2),
            other => panic!("unknown form {other}"),
        };
        let key = SealedKey::parse(&bytes(&case["sealed_key"])).unwrap();
        assert_eq!((key.form(), key.key_requests().len()), (form, requests));
        for (request, id) in key.key_requests().iter().zip(1..) {
            assert_eq!((&request[..2], &request[40..72]), (&[4, 0][..], &[id; 32][..]));
        }
        let opened = key.open(&secret(&bytes(&case["key"])), &data).unwrap();
        assert_eq!(opened.expose(), bytes(&vectors["data_key"]));
    }
}

#[test]
fn a_sealed_key_of_one_seal_key_or_none_opens() {
    let whole = seal_data(&[7; 16], b"null", b"{}");
    let data = SealedData::parse(&whole).unwrap();
    let wrapped = seal(&[3; 16], NONCE, &sha256(&[&whole]), &[7; 16]);
    let legacy = [&512_u32.to_le_bytes()[..], &[1; 512], &wrapped].concat();
    assert_eq!(legacy.len(), 560);
    let key = SealedKey::parse(&legacy).unwrap();
    assert_eq!((key.form(), key.key_requests()), (SealedKeyForm::OneSealKey, &[[1; 512]][..]));
    assert_eq!(key.open(&secret(&[3; 16]), &data).unwrap().expose(), [7; 16]);
    let wrong = key.open(&secret(&[3; 32]), &data).unwrap_err();
    assert_eq!(wrong, ImportError::WrappingKeyLength { expected: 16, got: 32 });

    let plain = SealedKey::parse(&[7; 16]).unwrap();
    assert_eq!(plain.form(), SealedKeyForm::Plain);
    assert_eq!(plain.open(&secret(&[]), &data).unwrap().expose(), [7; 16]);
}

// rules: STA-12.2
#[test]
fn every_changed_bit_of_a_pair_makes_it_fail() {
    let vectors = vectors();
    let whole = bytes(&vectors["sealed_data"]);
    let opens = |sealed_key: &[u8], data: &[u8], key: &[u8]| {
        let data = SealedData::parse(data)?;
        data.open(&SealedKey::parse(sealed_key)?.open(&secret(key), &data)?)
    };
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for case in vectors["sealed_keys"].as_array().unwrap() {
        let (sealed_key, key) = (bytes(&case["sealed_key"]), bytes(&case["key"]));
        assert!(opens(&sealed_key, &whole, &key).is_ok());
        for bit in 0..whole.len() * 8 {
            assert!(opens(&sealed_key, &flipped(&whole, bit), &key).is_err(), "bit {bit} of sealed_data");
        }
        for bit in 0..sealed_key.len() * 8 {
            // What is in the requests decides which seal key a TEE gives; with the key given, they have no effect.
            let in_request = sealed_key.len() > 1024 && (4..1028).contains(&(bit / 8));
            assert_eq!(opens(&flipped(&sealed_key, bit), &whole, &key).is_ok(), in_request, "bit {bit} of sealed_key");
        }
    }
}

#[test]
fn with_the_bare_data_key_every_change_from_the_nonce_on_fails() {
    let vectors = vectors();
    let whole = bytes(&vectors["sealed_data"]);
    let key = data_key(&bytes(&vectors["data_key"]));
    for bit in 32..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let data = SealedData::parse(&changed).unwrap();
        assert_eq!(data.open(&key).is_ok(), bit / 8 < 8, "bit {bit}");
        // The recovery data are a hint; a damaged one is told and does not keep the store from opening.
        assert_eq!(data.recovery_data().is_ok(), bit / 8 >= 8, "bit {bit}");
    }
}

// rules: STA-2.2
#[test]
fn a_length_of_recovery_data_that_does_not_fit_is_refused() {
    let whole = bytes(&vectors()["sealed_data"]);
    for length in [81, 82, 108, 112, 1 << 20, 1 << 31, u32::MAX - 3, u32::MAX - 2, u32::MAX - 1, u32::MAX] {
        let mut changed = whole.clone();
        changed[..4].copy_from_slice(&length.to_le_bytes());
        let error = SealedData::parse(&changed).unwrap_err();
        assert_eq!(error, ImportError::RecoveryLength { max: 80, got: length });
    }
    let mut largest = whole;
    largest[..4].copy_from_slice(&80_u32.to_le_bytes());
    assert!(SealedData::parse(&largest).is_ok());
    for length in 0..32 {
        let error = SealedData::parse(&largest[..length]).unwrap_err();
        assert_eq!(error, ImportError::DataTooShort { min: 32, got: length });
    }
    let huge = vec![0; MAX_SEALED_DATA_BYTES + 1];
    assert!(matches!(SealedData::parse(&huge), Err(ImportError::DataTooLarge { .. })));
    let mut long_recovery = vec![0; MAX_RECOVERY_DATA_BYTES + 100];
    long_recovery[..4].copy_from_slice(&u32::try_from(MAX_RECOVERY_DATA_BYTES + 1).unwrap().to_le_bytes());
    assert!(matches!(SealedData::parse(&long_recovery), Err(ImportError::RecoveryLength { .. })));
}

#[test]
fn recovery_data_name_the_shares_by_hash() {
    let vectors = vectors();
    let text = vectors["recovery_data"]["xor"].as_str().unwrap();
    let whole = seal_data(&[7; 32], text.as_bytes(), b"{}");
    assert_eq!(whole[..4], [0xd9, 0, 0, 0]);
    let shares = vectors["shares"]["xor"]["shares"].as_array().unwrap();
    let expected = shares.iter().map(|share| sha256(&[&bytes(share)])).collect();
    assert_eq!(SealedData::parse(&whole).unwrap().recovery_data(), Ok(RecoveryData::Shares(expected)));
}

#[test]
fn recovery_data_in_another_form_are_refused() {
    let read = |text: &str| {
        let whole = seal_data(&[7; 32], text.as_bytes(), b"{}");
        SealedData::parse(&whole).unwrap().recovery_data()
    };
    let hash = "72cd6e8422c407fb6d098690f1130b7ded7ec2f7f5e1d30bd9d521f015363793";
    assert!(matches!(read("nul"), Err(ImportError::RecoveryData(_))));
    assert!(matches!(read("[]"), Err(ImportError::RecoveryData(_))));
    assert!(matches!(read(&format!(r#"{{"{hash}":1}}"#)), Err(ImportError::RecoveryData(_))));
    assert_eq!(read(&format!(r#"{{"{}":true}}"#, hash.to_uppercase())), Err(ImportError::ShareHash));
    assert_eq!(read(&format!(r#"{{"{}":true}}"#, &hash[1..])), Err(ImportError::ShareHash));
    assert_eq!(read(&format!(r#"{{"{hash}":true,"{hash}":true}}"#)), Err(ImportError::ShareHash));
    let many: Vec<_> = (0..4097).map(|number| format!(r#""{number:064x}":true"#)).collect();
    assert_eq!(read(&format!("{{{}}}", many.join(","))), Err(ImportError::TooManyShares { max: 4096 }));
}

#[test]
fn a_sealed_key_in_another_form_is_refused() {
    let vectors = vectors();
    assert_eq!(SealedKey::parse(&bytes(&vectors["hsm_sealed_key"])).unwrap_err(), ImportError::KeyInHsm);
    let known = [16, 32, 44, 60];
    for length in (0..1200).filter(|length| !known.contains(length)) {
        assert_eq!(SealedKey::parse(&vec![0; length]).unwrap_err(), ImportError::KeyForm { got: length });
    }
    let mut claims_one = bytes(&vectors["sealed_keys"][1]["sealed_key"]);
    claims_one[..4].copy_from_slice(&512_u32.to_le_bytes());
    assert_eq!(SealedKey::parse(&claims_one).unwrap_err(), ImportError::KeyForm { got: 1088 });
}

#[test]
fn a_store_in_another_form_is_refused_and_shows_no_value() {
    let read = |text: &str| Store::parse(text.as_bytes());
    for text in ["", "null", "[]", "3", r#"{"a":3}"#, r#"{"a":"b"} x"#, r#"{"a":"aGVsbG8"}"#] {
        let error = read(text).unwrap_err();
        assert!(matches!(error, ImportError::Store(_)), "{text}");
        assert!(!format!("{error:?}").contains("aGVsbG8"));
    }
    let repeated = read(r#"{"state":"Mw==","state":"Mw=="}"#).unwrap_err();
    assert_eq!(repeated, ImportError::RepeatedItem { key: "state".to_owned() });
    assert!(read("{}").unwrap().items().is_empty());
    let many: Vec<_> = (0..=marblerun_json::MAX_ITEMS).map(|number| format!(r#""{number}":null"#)).collect();
    assert!(matches!(read(&format!("{{{}}}", many.join(","))), Err(ImportError::Store(_))));
}

proptest! {
    #[test]
    fn every_item_comes_out_as_it_went_in(
        items in prop::collection::btree_map("[a-zA-Z:+/=]{1,20}", prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        key in prop::sample::select(vec![16_usize, 32]),
    ) {
        let text: serde_json::Map<_, _> =
            items.iter().map(|(key, value)| (key.clone(), value.as_ref().map(|value| STANDARD.encode(value)).into())).collect();
        let key = vec![9; key];
        let whole = seal_data(&key, b"null", serde_json::to_string(&text).unwrap().as_bytes());
        let store = SealedData::parse(&whole).unwrap().open(&data_key(&key)).unwrap();
        let opened: std::collections::BTreeMap<_, _> = store
            .into_items()
            .into_iter()
            .map(|(key, value)| (key, value.map(|value| value.expose().to_vec())))
            .collect();
        prop_assert_eq!(opened, items);
    }
}
