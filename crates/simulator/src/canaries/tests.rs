use super::*;

const SECRET: &[u8] = b"\x00\xfftop secret \x7f\x80bytes?>";

fn canaries() -> Canaries {
    let json = serde_json::json!({"key": {"hex": hex::encode(SECRET)}, "password": {"text": "line \"1\"\nline 2"}});
    Canaries::parse(json.to_string().as_bytes()).unwrap()
}

#[track_caller]
fn check(bytes: &[u8], expected: &[(&str, Form)]) {
    let canaries = canaries();
    let mut found: Vec<_> =
        canaries.search(&[], bytes).iter().map(|hit| (canaries.name(hit.canary).to_owned(), hit.form)).collect();
    found.sort_unstable();
    found.dedup();
    let expected: Vec<_> = expected.iter().map(|(name, form)| ((*name).to_owned(), *form)).collect();
    assert_eq!(found, expected, "in {:?}", String::from_utf8_lossy(bytes));
    // The same wherever the stream is cut, and no matter how often.
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let in_parts = !canaries.search(&[], first).is_empty() || !canaries.search(first, second).is_empty();
        assert_eq!(in_parts, !expected.is_empty(), "cut at {cut}");
    }
    let (mut tail, mut hit) = (Vec::new(), false);
    for byte in bytes {
        hit |= !canaries.search(&tail, &[*byte]).is_empty();
        tail.push(*byte);
        let spare = tail.len().saturating_sub(canaries.tail_len());
        tail.drain(..spare);
    }
    assert_eq!(hit, !expected.is_empty(), "byte by byte");
}

fn among(before: &str, secret: &str, after: &str) -> Vec<u8> {
    format!("{before}{secret}{after}").into_bytes()
}

#[test]
fn each_form_is_found_and_named() {
    check(&[b"before ", SECRET, b" after"].concat(), &[("key", Form::Raw)]);
    check(&among("k=", &hex::encode(SECRET), ";"), &[("key", Form::Hex)]);
    check(&among("k=", &hex::encode_upper(SECRET), ";"), &[("key", Form::Hex)]);
    check(&among("k=", &BASE64_STANDARD.encode(SECRET), ";"), &[("key", Form::Base64)]);
    check(&among("k=", &BASE64_URL_SAFE_NO_PAD.encode(SECRET), ";"), &[("key", Form::Base64)]);
    check(format!("{SECRET:?}").as_bytes(), &[("key", Form::Decimal)]);
    check(format!("{SECRET:?}").replace(',', "").as_bytes(), &[("key", Form::Decimal)]);
    check(format!("{SECRET:#?}").as_bytes(), &[("key", Form::Decimal)]);
    check(serde_json::to_string(SECRET).unwrap().as_bytes(), &[("key", Form::Decimal)]);
    check(b"line \"1\"\nline 2", &[("password", Form::Raw)]);
    check(b"  line \"1\"\r\n  line 2", &[("password", Form::Raw)]);
    check(br#"{"p": "line \"1\"\nline 2"}"#, &[("password", Form::Raw)]);
    check(b"line \"1\"line 2", &[("password", Form::Raw)]);
    check(b"line 1 and line 2, top secret bytes", &[]);
}

#[test]
fn a_secret_inside_of_longer_base64_is_found_at_each_alignment_and_over_lines() {
    for before in 0..7 {
        for after in 0..4 {
            let bytes = [&vec![0xa5; before], SECRET, &vec![0x5a; after]].concat();
            check(&among("x ", &BASE64_STANDARD.encode(&bytes), ""), &[("key", Form::Base64)]);
            check(&among("x ", &BASE64_URL_SAFE_NO_PAD.encode(&bytes), ""), &[("key", Form::Base64)]);
        }
        let der = [&vec![0xa5; 40 + before], SECRET, &[0x5a; 30]].concat();
        for line_ending in [pem_rfc7468::LineEnding::LF, pem_rfc7468::LineEnding::CRLF] {
            let pem = pem_rfc7468::encode_string("PRIVATE KEY", line_ending, &der).unwrap();
            check(pem.as_bytes(), &[("key", Form::Pem)]);
            let json = serde_json::to_string(&pem).unwrap();
            check(json.as_bytes(), &[("key", Form::Pem)]);
        }
    }
    let digits = hex::encode(SECRET);
    check(among("", &format!("{}\n    {}", &digits[..9], &digits[9..]), "\n").as_slice(), &[("key", Form::Hex)]);
}

#[test]
fn a_pem_text_counts_as_its_bytes_too() {
    let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, &[7; 80]).unwrap();
    let canaries = Canaries::parse(serde_json::json!({"key": {"text": pem}}).to_string().as_bytes()).unwrap();
    assert!(canaries.are_in(&[7; 80]));
    assert!(canaries.are_in(hex::encode([7; 80]).as_bytes()));
    assert!(canaries.are_in(pem.as_bytes()));
    assert!(canaries.are_in(pem.replace('\n', "\r\n").as_bytes()));
    assert!(canaries.are_in(serde_json::to_string(&pem).unwrap().as_bytes()));
    assert!(!canaries.are_in(&[7; 79]));
}

#[test]
fn a_hit_tells_where_it_begins() {
    let canaries = canaries();
    let (first, second) = SECRET.split_at(5);
    let hits = canaries.search(&[b"...", first].concat(), second);
    assert_eq!(hits, [Hit { canary: 0, form: Form::Raw, start: -5 }]);
    // What was whole before is not found again.
    assert_eq!(canaries.search(SECRET, b"more"), []);
}

#[track_caller]
fn check_refused(json: &str, message: &str) {
    let error = Canaries::parse(json.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(message), "{json}: {error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_wrong_file_is_refused_without_showing_a_value() {
    check_refused("{}", "expected 1 to 256 secrets, got 0");
    check_refused("[]", "line 1 column");
    check_refused(r#"{"a": "hunter2hunter2"}"#, "expected a JSON object");
    check_refused(r#"{"a": {"hunter2": "x"}}"#, "expected a JSON object");
    check_refused(r#"{"a": {"text": "hunter2hunter2", "hex": "00"}}"#, "expected a JSON object");
    check_refused(r#"{"a": {"text": "hunter2"}}"#, "expected 8 to 16384 bytes, got 7");
    check_refused(&format!(r#"{{"a": {{"text": "{}"}}}}"#, "x".repeat(MAX_LEN + 1)), "got 16385");
    check_refused(r#"{"a": {"hex": "000000000000000000"}}"#, "expected at least 4 different bytes, got 1");
    check_refused(r#"{"a": {"text": "abcabcabcabc"}}"#, "expected at least 4 different bytes, got 3");
    check_refused(r#"{"a": {"hex": "hunter2hunter2"}}"#, "expected hexadecimal digits");
    check_refused(r#"{"a": {"base64": "hunter2hunter2!"}}"#, "expected padded base64");
    check_refused(r#"{"": {"text": "hunter2hunter2"}}"#, "secret number 1: expected a name");
    check_refused(r#"{"a\n": {"text": "hunter2hunter2"}}"#, "secret number 1: expected a name");
    check_refused(r#"{"a": {"text": "12345678"}, "a": {"text": "12345679"}}"#, "\"a\" occurs twice");
    let many: Vec<_> = (0..=MAX_CANARIES).map(|index| format!(r#""{index}": {{"text": "12345678"}}"#)).collect();
    check_refused(&format!("{{{}}}", many.join(",")), "got 257");
    assert!(matches!(Canaries::parse(&vec![b' '; MAX_FILE_LEN + 1]), Err(CanaryError::Length)));
    assert!(!format!("{:?}", canaries()).contains("secret"));
}
