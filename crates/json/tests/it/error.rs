use marblerun_json::decode_whole;

use crate::Sample;

const MAX_BYTES: usize = 100_000;

#[test]
fn each_fault_is_described_with_its_place_and_position() {
    let deep = format!("{{\"Text\":{}", "[".repeat(10_000));
    let documents = [
        "",
        " \n ",
        "\u{feff}{}",
        "// comment\n{}",
        "{} {}",
        "{\"Text\":\"a\",}",
        "{'Text':1}",
        "{\"Text\" 1}",
        "{\"Text\":\"a\" \"Flag\":true}",
        "{\"List\":[\"a\" \"b\"]}",
        "{\"Text\":tru}",
        "{\"Text\":\"a\nb\"}",
        "{\"Text\":\"\\x\"}",
        "{\"Text\":\"\\u12\"}",
        "{\"Number\":1.}",
        "{\"Text\":\"a",
        &deep,
        "[]",
        "{\"Text\":6328959876543210}",
        "{\n  \"Map\": {\"a\": {\"Flag\": \"true\"}}\n}",
        "{\"Map\":{\"/etc/x.conf\":[]}}",
        "{\"Map\":null,\"List\":[\"a\",1]}",
        "{\"Number\":\"3\"}",
        "{\"Number\":-1}",
        "{\"Number\":1e3}",
        "{\"Number\":99999999999999999999999999999999999999999999}",
        "{\"Small\":65536}",
        "{\"Signed\":9223372036854775808}",
        "{\"Bytes\":\"c2VjcmV0\u{20}\"}",
        "{\"Bytes\":[1,256]}",
        "{\"Bytes\":[\"secret\"]}",
        "{\"Bytes\":{}}",
        "{\"Address\":\"10.0.0.0/8\"}",
    ];
    let mut lines = Vec::new();
    for document in documents {
        let error = decode_whole::<Sample>(document.as_bytes(), MAX_BYTES).unwrap_err();
        let mut line = format!("[{}] {error}", error.class());
        if let Some(hint) = error.hint() {
            line.push_str(&format!("\n    hint: {hint}"));
        }
        lines.push(line);
    }
    let too_large = vec![b' '; MAX_BYTES + 1];
    lines.push(decode_whole::<Sample>(&too_large, MAX_BYTES).unwrap_err().to_string());
    insta::assert_snapshot!(lines.join("\n"), @r##"
    [syntax] expected a JSON value, got the end of the text (line 1, column 1)
    [syntax] expected a JSON value, got the end of the text (line 2, column 2)
    [syntax] expected a JSON value, got a byte order mark (line 1, column 1)
        hint: save the file as UTF-8 without byte order mark
    [syntax] expected a JSON value, got '/' (line 1, column 1)
        hint: JSON has no comments
    [trailing] expected the end of the text after the JSON value, got '{' (line 1, column 4)
    [syntax] expected a member name in quotes, got '}' (line 1, column 13)
        hint: a comma must not stand before the closing bracket
    [syntax] expected a member name in quotes or '}', got '\'' (line 1, column 2)
    [syntax] expected ':' after the member name, got '1' (line 1, column 9)
    [syntax] expected ',' or '}', got '"' (line 1, column 13)
    [syntax] expected ',' or ']', got '"' (line 1, column 14)
    [syntax] expected true, false or null, got '}' (line 1, column 12)
    [syntax] expected an escape in place of the control character, got '\n' (line 1, column 11)
    [syntax] expected one of " \ / b f n r t u after the backslash, got 'x' (line 1, column 11)
    [syntax] expected four hexadecimal digits after \u, got '"' (line 1, column 14)
    [syntax] expected a digit, got '}' (line 1, column 13)
    [syntax] expected '"' at the end of the string, got the end of the text (line 1, column 11)
    [depth] expected at most 10000 levels of nesting, got more (line 1, column 10008)
    [type] expected an object, got an array (line 1, column 1)
    [type] Text: expected a string, got a number (line 1, column 9)
        hint: put the value in quotes; YAML reads digits without quotes as a number
    [type] Map.a.Flag: expected true or false, got a string (line 2, column 25)
    [type] Map["/etc/x.conf"]: expected an object, got an array (line 1, column 23)
    [type] List[1]: expected a string, got a number (line 1, column 25)
        hint: put the value in quotes; YAML reads digits without quotes as a number
    [type] Number: expected an integer from 0 to 18446744073709551615, got a string (line 1, column 11)
    [range] Number: expected an integer from 0 to 18446744073709551615, got -1 (line 1, column 11)
    [range] Number: expected an integer from 0 to 18446744073709551615, got 1e3 (line 1, column 11)
    [range] Number: expected an integer from 0 to 18446744073709551615, got 99999999999999999999999999999999… (line 1, column 11)
    [range] Small: expected an integer from 0 to 65535, got 65536 (line 1, column 10)
    [range] Signed: expected an integer from -9223372036854775808 to 9223372036854775807, got 9223372036854775808 (line 1, column 11)
    [base64] Bytes: expected standard base64 with padding (line 1, column 10)
        hint: the alphabet is A-Z a-z 0-9 + /, the padding =, without blanks
    [range] Bytes[1]: expected an integer from 0 to 255, got another number (line 1, column 13)
    [type] Bytes[0]: expected an integer from 0 to 255, got a string (line 1, column 11)
    [type] Bytes: expected base64 in a string, or an array of integers from 0 to 255, got an object (line 1, column 10)
    [ip] Address: expected an IPv4 or IPv6 address without prefix length or zone, got "10.0.0.0/8" (line 1, column 12)
    expected at most 100000 bytes, got 100001
    "##);
}

#[test]
fn the_text_of_strings_never_reaches_an_error() {
    for document in [
        r#"{"Flag":"hunter2"}"#,
        r#"{"Number":"hunter2"}"#,
        r#"{"Bytes":"hunter2"}"#,
        r#"{"Bytes":["hunter2"]}"#,
        r#"{"Text":"hunter2"#,
        r#"{"Text":"hunter2",}"#,
    ] {
        let error = decode_whole::<Sample>(document.as_bytes(), MAX_BYTES).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
    }
}

#[test]
fn unknown_members_are_noted_with_their_place() {
    let (_, notes) =
        decode_whole::<Sample>(br#"{"Txt":[{"Deep":1}],"Map":{"a":{"flag":true,"x":0}}}"#, MAX_BYTES).unwrap();
    let places: Vec<String> = notes.unknown_members.iter().map(|unknown| unknown.place.to_string()).collect();
    assert_eq!(places, ["Txt", "Map.a.x"]);
    assert!(notes.unknown_members[0].known.contains(&"Text"));
}

#[test]
fn more_items_than_anyone_needs_are_refused_unless_they_are_skipped_or_bytes() {
    let list = |count: usize| format!("[{}0]", "0,".repeat(count));
    let items = marblerun_json::MAX_ITEMS;
    let kept = format!("{{\"List\":{}}}", list(items).replace('0', "\"\""));
    let map: String = (0..=items).map(|key| format!("\"{key}\":{{}},")).collect();
    let map = format!("{{\"Map\":{{{}}}}}", map.trim_end_matches(','));
    for document in [kept, map] {
        let error = decode_whole::<Sample>(document.as_bytes(), document.len()).unwrap_err();
        assert_eq!(error.class(), "size");
        assert!(error.to_string().contains("at most 100000 list elements and map entries"), "{error}");
    }
    for name in ["Bytes", "Unknown"] {
        let document = format!("{{\"{name}\":{}}}", list(items));
        decode_whole::<Sample>(document.as_bytes(), document.len()).unwrap();
    }
}
