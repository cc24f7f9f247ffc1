//! What is a quote, and what is not.

use marblerun_attestation::{
    ErrorClass, MAX_QUOTE_BYTES, OE_HEADER_LEN, Quote, QuoteError, is_raw_sgx_quote, with_oe_header,
};

use crate::pki::{Plan, World};

fn raw() -> Vec<u8> {
    World::new().make(&Plan::default()).quote
}

#[track_caller]
fn check(change: impl FnOnce(&mut Vec<u8>), message: &str) {
    let mut quote = raw();
    change(&mut quote);
    let error = Quote::parse(&quote).unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(error.code(), error.class().code());
}

// rules: ERT-1
#[test]
fn a_quote_is_read_with_and_without_header() {
    let raw = raw();
    assert!(is_raw_sgx_quote(&raw));
    let quote = Quote::parse(&raw).unwrap();
    assert_eq!(quote, Quote::parse_raw(&raw).unwrap());
    assert_eq!(quote, Quote::parse(&with_oe_header(&raw)).unwrap());
    assert_eq!(quote, Quote::parse_with_oe_header(&with_oe_header(&raw)).unwrap());
    assert!(matches!(Quote::parse_with_oe_header(&raw), Err(QuoteError::OeVersion { expected: 1, .. })));
    assert_eq!(quote.certification_type(), 5);
    assert_eq!(quote.unverified_report().isv_prod_id, 7);
}

// rules: ATT-1.1, ERT-1, ERT-2
#[test]
fn a_header_with_another_version_type_or_size_is_refused() {
    let good = with_oe_header(&raw());
    let parse = |offset: usize, value: u8| {
        let mut evidence = good.clone();
        evidence[offset] = value;
        Quote::parse_with_oe_header(&evidence).unwrap_err()
    };
    assert_eq!(parse(0, 2), QuoteError::OeVersion { expected: 1, got: 2 });
    let error = parse(4, 1);
    assert_eq!(error, QuoteError::OeReportType { expected: 2, got: 1 });
    assert!(error.hint().is_some());
    assert!(matches!(parse(8, good[8].wrapping_add(1)), QuoteError::OeSize { .. }));
    assert!(matches!(parse(15, 1), QuoteError::OeSize { .. }));
    assert!(matches!(Quote::parse(&good[..OE_HEADER_LEN - 1]), Err(QuoteError::Truncated { .. })));
    assert!(matches!(Quote::parse(&good[..good.len() - 1]), Err(QuoteError::OeSize { .. })));
}

// rules: ATT-1.2
#[test]
fn zero_padding_is_tolerated_where_the_header_counts_it() {
    let raw = raw();
    let padded = [&raw[..], &[0; 4]].concat();
    Quote::parse(&padded).unwrap();
    Quote::parse(&with_oe_header(&padded)).unwrap();
    let not_counted = [&with_oe_header(&raw)[..], &[0; 4]].concat();
    assert!(matches!(Quote::parse(&not_counted), Err(QuoteError::OeSize { .. })));
    let error = Quote::parse(&with_oe_header(&[&raw[..], &[0, 0, 1, 0]].concat())).unwrap_err();
    assert_eq!(error, QuoteError::TrailingBytes { after: "quote", offset: raw.len() + 2 });
}

// rules: ATT-1.2, ATT-5.3
#[test]
fn only_zeros_may_follow_the_certification_data() {
    let extended = |bytes: &[u8]| {
        let mut quote = raw();
        quote.extend_from_slice(bytes);
        let length = u32::try_from(quote.len() - 436).unwrap();
        quote[432..436].copy_from_slice(&length.to_le_bytes());
        quote
    };
    Quote::parse(&extended(&[0, 0])).unwrap();
    let quote = extended(&[0, 1]);
    let error = Quote::parse(&quote).unwrap_err();
    assert_eq!(error, QuoteError::TrailingBytes { after: "certification data", offset: quote.len() - 1 });
    // The offset counts from the start of the quote, whatever follows the authentication data.
    let error = Quote::parse(&[&quote[..], &[0; 7]].concat()).unwrap_err();
    assert_eq!(error, QuoteError::TrailingBytes { after: "certification data", offset: quote.len() - 1 });
}

// rules: ERT-1
#[test]
fn other_kinds_of_quotes_are_unsupported() {
    for (offset, value, message) in [
        (0, 4, "expected SGX quote version 3, got 4"),
        (2, 3, "expected attestation key type 2 (ECDSA P-256), got 3"),
        (4, 0x81, "expected TEE type 0x0 (SGX), got 0x81"),
        (12, 0, "expected QE vendor id 939a7233f79c4ca9940a0db3957f0607, got 009a"),
    ] {
        let mut quote = raw();
        quote[offset] = value;
        let error = Quote::parse(&quote).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.class(), ErrorClass::Unsupported);
    }
}

// rules: ATT-1.3
#[test]
fn lengths_are_checked_before_they_are_used() {
    check(|quote| quote[435] = 0xff, "quote ends within authentication data");
    check(|quote| quote[1012] = 31, "expected 32 bytes of QE authentication data, got 31");
    check(|quote| quote[1051] = 0xff, "quote ends within certification data");
}

// rules: ATT-1.4
#[test]
fn every_truncation_is_refused() {
    let raw = raw();
    let with_header = with_oe_header(&raw);
    for length in 0..raw.len() {
        assert!(Quote::parse(&raw[..length]).is_err(), "{length} bytes");
        assert!(Quote::parse(&with_oe_header(&raw[..length])).is_err(), "{length} bytes with header");
        assert!(Quote::parse(&with_header[..length]).is_err(), "{length} bytes of evidence with header");
    }
}

// rules: ATT-1.3, ATT-1.4
#[test]
fn empty_and_over_long_evidence_is_refused() {
    let error = Quote::parse(&[]).unwrap_err();
    assert_eq!((&error, error.class()), (&QuoteError::Empty, ErrorClass::Malformed));
    assert!(error.hint().is_some());
    assert!(matches!(Quote::parse(&with_oe_header(&[])), Err(QuoteError::Empty)));
    let mut padded = raw();
    padded.resize(MAX_QUOTE_BYTES, 0);
    Quote::parse(&padded).unwrap();
    padded.push(0);
    let (max, got) = (MAX_QUOTE_BYTES, MAX_QUOTE_BYTES + 1);
    assert_eq!(Quote::parse(&padded).unwrap_err(), QuoteError::TooLong { max, got });
}
