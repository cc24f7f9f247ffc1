use std::collections::BTreeMap;

use marblerun_json::{Encode, RawJson, decode_first, decode_whole, encode, write_bytes_as_string};
use proptest::prelude::*;

use crate::Sample;

fn decode<T: marblerun_json::Decode + Default>(text: &str) -> T {
    decode_whole(text.as_bytes(), text.len()).unwrap().0
}

/// Texts that are often nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"Text\"",
        "\"Map\"",
        "\"Bytes\"",
        "\"List\"",
        "\"a\"",
        "\"QQ==\"",
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "1e9",
        "01",
        "\"\\u00e9\"",
        "\"\\ud800\"",
        "\"",
        "\\",
        " ",
        "\n",
        "x",
        "é",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn text_that_another_parser_accepts_is_well_formed_here(text in nearly_json()) {
        let here = decode_whole::<RawJson>(text.as_bytes(), text.len());
        // A lone surrogate is the one thing that is accepted here and nowhere else.
        if !text.contains("\\ud800") {
            let there = serde_json::from_str::<serde_json::Value>(&text);
            prop_assert_eq!(here.is_ok(), there.is_ok(), "{:?} {:?}", here, there);
        }
    }

    #[test]
    fn a_value_is_taken_whole(value in value()) {
        let text = value.to_string();
        prop_assert_eq!(decode::<RawJson>(&text).0, text.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_whole::<Sample>(&bytes, bytes.len());
        let _ = decode_first::<Sample>(&bytes, bytes.len());
        let mut out = String::new();
        write_bytes_as_string(&bytes, &mut out);
        // The escaped replacement character stands for each ill-formed byte.
        let ill_formed = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum::<usize>();
        let genuine = bytes.utf8_chunks().map(|chunk| chunk.valid().matches('\u{fffd}').count()).sum::<usize>();
        prop_assert_eq!(decode::<String>(&out).matches('\u{fffd}').count(), ill_formed + genuine);
    }

    #[test]
    fn nearly_json_never_panics(text in nearly_json()) {
        let _ = decode_whole::<Sample>(text.as_bytes(), text.len());
        let _ = decode_first::<Sample>(text.as_bytes(), text.len());
    }

    #[test]
    fn strings_survive_the_way_out_and_in(text in any::<String>()) {
        let encoded = encode(&text);
        prop_assert_eq!(&decode::<String>(&encoded), &text);
        prop_assert_eq!(serde_json::from_str::<String>(&encoded).unwrap(), text);
        let dangerous = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        prop_assert!(!encoded.contains(dangerous));
    }

    #[test]
    fn maps_of_bytes_survive_the_way_out_and_in(
        map in prop::collection::btree_map(any::<String>(), prop::collection::vec(any::<u8>(), 0..20), 0..5),
    ) {
        prop_assert_eq!(decode::<BTreeMap<String, Vec<u8>>>(&encode(&map)), map);
    }

    #[test]
    fn numbers_survive_the_way_out_and_in(number in any::<u64>(), signed in any::<i64>()) {
        prop_assert_eq!(decode::<u64>(&encode(&number)), number);
        prop_assert_eq!(decode::<i64>(&encode(&signed)), signed);
    }
}

#[test]
fn ten_million_brackets_cost_no_native_stack() {
    let text = "[".repeat(10_000_000);
    let error = decode_whole::<RawJson>(text.as_bytes(), text.len()).unwrap_err();
    assert_eq!(error.class(), "depth");
}

#[test]
fn absent_values_are_null() {
    let mut out = String::new();
    None::<u64>.encode(&mut out);
    RawJson::default().encode(&mut out);
    assert_eq!(out, "nullnull");
}
