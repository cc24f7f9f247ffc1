use std::os::unix::fs::PermissionsExt as _;

use super::*;

const STOCK: &str = r#"{
  // *** ATTENTION : keys are case sensitive.
  //PCCS server address
  "pccs_url": "https://localhost:8081/sgx/certification/v4/"

  // To accept insecure HTTPS certificate, set this option to false
  ,"use_secure_cert": true

  /* another
     comment */
  //,"collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"
  ,"retry_times": 6
  ,"retry_delay": 10
  ,"pck_cache_expire_hours": 168
  ,"verify_collateral_cache_expire_hours": 168
  ,"local_cache_only": false
  ,"custom_request_options" : { "get_cert" : { "headers": { "head1": "value1" } } }
}
"#;

fn parse(text: &str) -> Result<Qcnl, QcnlError> {
    Qcnl::parse(text.as_bytes())
}

#[track_caller]
fn check_refused(text: &str, message: &str) {
    let error = parse(text).unwrap_err();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    let shown = format!("{error}{source}");
    assert!(shown.contains(message), "{text}: {shown}");
    assert!(error.hint().is_some());
}

// rules: DEP-3
#[test]
fn the_stock_file_with_comments_and_leading_commas_is_read() {
    let qcnl = parse(STOCK).unwrap();
    assert_eq!(qcnl.collateral_url.to_string(), "https://localhost:8081/sgx/certification/v4/");
    assert!(qcnl.use_secure_cert);
    assert_eq!(qcnl.tcb_update, TcbUpdate::Standard);
    assert_eq!(qcnl.client_options().server_certificate, ServerCertificate::PublicAuthority);
}

// rules: DEP-3
#[test]
fn the_collateral_service_comes_before_the_pccs() {
    let qcnl = parse(&STOCK.replace("//,\"collateral_service\"", ",\"collateral_service\"")).unwrap();
    assert!(qcnl.collateral_url.is_intel());
}

#[test]
fn a_switch_in_quotes_and_the_older_form_are_read() {
    for text in [
        "{\"pccs_url\":\"https://a/sgx/certification/v4/\",\"use_secure_cert\":\"FALSE\",\"tcb_update_type\":\"early\"}",
        "# PCCS server address\nPCCS_URL=https://a/sgx/certification/v4/\n\nUSE_SECURE_CERT=FALSE\r\n\
         RETRY_TIMES=3\nTCB_UPDATE_TYPE=\"early\"",
    ] {
        let qcnl = parse(text).unwrap();
        assert_eq!(qcnl.collateral_url.to_string(), "https://a/sgx/certification/v4/");
        assert!(!qcnl.use_secure_cert);
        let options = qcnl.client_options();
        assert_eq!(options.server_certificate, ServerCertificate::Any);
        assert_eq!(options.tcb_update, TcbUpdate::Early);
    }
}

#[test]
fn a_missing_or_extra_comma_is_an_error_with_its_line() {
    check_refused("{\n\"pccs_url\": \"https://a/sgx/certification/v4/\"\n\"use_secure_cert\": true\n}", "line 3:");
    check_refused("{\n\"pccs_url\": \"https://a/sgx/certification/v4/\",\n}", "line 3:");
    check_refused("{\n\"pccs_url\": \"https://a\n}", "line 3:");
}

#[test]
fn an_empty_file_is_an_error() {
    for text in ["", "\n \t\n", "\u{feff}", "# comment\n", "// comment\n"] {
        assert_eq!(parse(text).unwrap_err(), QcnlError::Empty, "{text:?}");
    }
}

#[test]
fn what_is_not_understood_is_an_error_with_its_line() {
    check_refused("{\n\"collateral_servise\": \"https://a/sgx/certification/v4/\"}", "line 2:");
    check_refused("[]", "line 1: expected KEY=value");
    check_refused("{}", "expected pccs_url or collateral_service");
    check_refused("USE_SECURE_CERT=TRUE", "expected pccs_url or collateral_service");
    check_refused("\nPCCS_URL https://a", "line 2: expected KEY=value");
    check_refused("PCCS_ULR=https://a", "line 1: expected one of the known keys, got \"PCCS_ULR\"");
    let url = "PCCS_URL=https://a/sgx/certification/v4/";
    check_refused(&format!("{url}\n{url}"), "line 2: expected PCCS_URL once");
    check_refused(&format!("{url}\nUSE_SECURE_CERT=maybe"), "line 2: use_secure_cert: expected true or false");
    check_refused(&format!("{url}\nTCB_UPDATE_TYPE=late"), "line 2: tcb_update_type: expected standard or early");
    check_refused("{\"pccs_url\": 1}", "line 1:");
    check_refused("{\"pccs_url\":\"https://a/sgx/certification/v4/\",\n\"use_secure_cert\": 1}", "line 2:");
    check_refused(&STOCK.replace("retry_delay", "pccs_url"), "duplicate field");
    assert_eq!(Qcnl::parse(b"{\n\xff}").unwrap_err(), QcnlError::Encoding { line: 2 });
    let long = " ".repeat(MAX_QCNL_BYTES + 1);
    assert_eq!(parse(&long).unwrap_err(), QcnlError::TooLong { max: MAX_QCNL_BYTES, got: MAX_QCNL_BYTES + 1 });
}

#[test]
fn an_address_without_path_is_an_error_that_shows_the_full_form() {
    check_refused("{\n\n\"pccs_url\": \"https://localhost:8081\"}", "line 3: pccs_url: expected a URL whose path ends");
    // It is wrong also where the other one would be taken.
    check_refused(
        "PCCS_URL=localhost\nCOLLATERAL_SERVICE=https://a/sgx/certification/v4/",
        "line 1: pccs_url: expected a URL like https://",
    );
}

#[test]
fn comments_are_told_from_addresses_and_texts() {
    let text = r#"{"a": "//no\"//no", /* yes " */ "b": 1} // yes "#;
    assert_eq!(without_comments(text), r#"{"a": "//no\"//no",  "b": 1} "#);
    assert_eq!(without_comments("/* \n"), "\n");
    assert_eq!(without_comments("\"é"), "\"é");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qcnl.conf");
    let error = Qcnl::read(&path).unwrap_err();
    assert!(error.to_string().contains("qcnl.conf cannot be read"), "{error}");
    assert!(matches!(Qcnl::read(directory.path()), Err(QcnlFileError::Unreadable { .. })));
    std::fs::write(&path, STOCK).unwrap();
    Qcnl::read(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    if std::fs::File::open(&path).is_err() {
        assert!(matches!(Qcnl::read(&path), Err(QcnlFileError::Unreadable { .. })));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "x").unwrap();
    let error = Qcnl::read(&path).unwrap_err();
    assert!(matches!(error, QcnlFileError::Content { .. }) && error.hint().is_some());
    std::fs::write(&path, vec![b' '; MAX_QCNL_BYTES + 5]).unwrap();
    let Err(QcnlFileError::Content { source: QcnlError::TooLong { .. }, .. }) = Qcnl::read(&path) else { panic!() };
}
