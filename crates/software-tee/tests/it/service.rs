//! The provisioning service from outside: a client of a few lines, so that no HTTP library hides what is on the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use marblerun_software_tee::service::{CollateralService, Rule, ServiceError, ServiceOptions};
use marblerun_software_tee::{DevelopmentRoot, FMSPC, PckCa, PlatformError};
use serde_json::value::RawValue;

use crate::support::{CREATED, DAY, IDENTITY, REPORT_DATA, at, fixture};

const BASE: &str = "/sgx/certification/v4";
const TCB: &str = "/sgx/certification/v4/tcb?fmspc=FF5357544545";
const QE: &str = "/sgx/certification/v4/qe/identity";
const PCK_CRL: &str = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der";
const ROOT_CRL: &str = "/sgx/certification/v4/rootcacrl";

/// Longer than any answer takes, shorter than a test may wait.
const PATIENCE: Duration = Duration::from_secs(20);

struct Vendor {
    _directory: tempfile::TempDir,
    service: CollateralService,
    root_der: Vec<u8>,
    quote: Vec<u8>,
}

fn start(options: ServiceOptions) -> Vendor {
    start_root(options, |root| root)
}

fn start_root(options: ServiceOptions, change: impl FnOnce(DevelopmentRoot) -> DevelopmentRoot) -> Vendor {
    let fixture = fixture();
    let root = change(fixture.root);
    let root_der = root.root_der().to_vec();
    let quote = root.quote(&IDENTITY, &REPORT_DATA).unwrap();
    let service = CollateralService::start(root, options).unwrap();
    Vendor { _directory: fixture.directory, service, root_der, quote }
}

/// A service at the time when the root was made.
fn vendor() -> Vendor {
    start(ServiceOptions { clock: Arc::new(|| at(CREATED)), ..Default::default() })
}

impl Vendor {
    #[track_caller]
    fn misbehave(&self, rules: &[&str]) {
        self.service.misbehave(rules.iter().map(|rule| rule.parse::<Rule>().unwrap()));
    }

    fn get(&self, target: &str) -> Answer {
        let (head, body) = self.exchange("GET", target);
        Answer::parse(&head, body)
    }

    fn exchange(&self, method: &str, target: &str) -> (String, Vec<u8>) {
        let mut stream = self.send(method, target);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |place| place + 4);
        let body = bytes.split_off(end);
        (String::from_utf8_lossy(&bytes).into_owned(), body)
    }

    fn send(&self, method: &str, target: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.service.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// Everything that a client fetches, as a bundle has it.
    fn collateral(&self, fmspc: &str, ca: &str) -> QuoteCollateralV3 {
        let tcb_info = self.get(&format!("{BASE}/tcb?fmspc={fmspc}"));
        let qe_identity = self.get(QE);
        let pck_crl = self.get(&format!("{BASE}/pckcrl?ca={ca}&encoding=der"));
        let (tcb_info_text, tcb_info_signature) = tcb_info.signed("tcbInfo");
        let (qe_identity_text, qe_identity_signature) = qe_identity.signed("enclaveIdentity");
        QuoteCollateralV3 {
            pck_crl_issuer_chain: pck_crl.chain("SGX-PCK-CRL-Issuer-Chain"),
            root_ca_crl: hex::decode(self.get(ROOT_CRL).body).unwrap(),
            pck_crl: pck_crl.body,
            tcb_info_issuer_chain: tcb_info.chain("TCB-Info-Issuer-Chain"),
            tcb_info: tcb_info_text,
            tcb_info_signature,
            qe_identity_issuer_chain: qe_identity.chain("SGX-Enclave-Identity-Issuer-Chain"),
            qe_identity: qe_identity_text,
            qe_identity_signature,
            pck_certificate_chain: None,
        }
    }

    /// The verdict of an independent verifier on this vendor's quote.
    fn verdict(&self, now: u64) -> Result<String, String> {
        QuoteVerifier::new(self.root_der.clone())
            .verify(&self.quote, &self.collateral("ff5357544545", "platform"), now)
            .map(|report| report.status)
            .map_err(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn check_verdict(&self, rule: &str, expected: &str) {
        self.misbehave(&[rule]);
        let verdict = self.verdict(CREATED).unwrap_or_else(|error| error);
        assert!(verdict.contains(expected), "{rule}: expected {expected:?}, got {verdict:?}");
        self.service.behave();
        assert_eq!(self.verdict(CREATED).as_deref(), Ok("UpToDate"), "after {rule}");
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(head: &str, body: Vec<u8>) -> Self {
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Self { status, headers, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = headers.next().map(|(_, value)| value.as_str());
        assert!(headers.next().is_none(), "{name} stands there twice");
        value
    }

    fn chain(&self, name: &str) -> String {
        percent_decode(self.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)))
    }

    /// The member's exact text, and the signature.
    fn signed(&self, member: &str) -> (String, Vec<u8>) {
        let body: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_slice(&self.body).unwrap();
        let signature: String = serde_json::from_str(body["signature"].get()).unwrap();
        (body[member].get().to_owned(), hex::decode(signature).unwrap())
    }
}

fn percent_decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.extend(hex::decode(&part[..2]).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

// rules: ATT-10.3
#[test]
fn what_is_served_verifies_in_the_eyes_of_an_independent_verifier() {
    let vendor = vendor();
    assert_eq!(vendor.verdict(CREATED + DAY).as_deref(), Ok("UpToDate"));
    let requests = vendor.service.requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert_eq!(requests[0], "/sgx/certification/v4/tcb?fmspc=ff5357544545");
}

// rules: ATT-10.3
#[test]
fn the_root_list_is_served_as_der_and_as_hexadecimal_text_and_the_other_in_pem_or_der() {
    let vendor = vendor();
    let der = vendor.get("/IntelSGXRootCA.der").body;
    let text = vendor.get(ROOT_CRL).body;
    // The signatures differ each time; the beginning does not.
    assert_eq!(hex::decode(&text).unwrap()[..64][4..], der[..64][4..]);
    assert_eq!(der[0], 0x30);
    assert_eq!(vendor.get(PCK_CRL).body[0], 0x30);
    let pem = vendor.get("/sgx/certification/v4/pckcrl?ca=processor").body;
    assert!(pem.starts_with(b"-----BEGIN X509 CRL-----\n"));
}

#[test]
fn unknown_platforms_paths_parameters_and_methods_are_refused() {
    let vendor = vendor();
    for (target, status) in [
        ("/sgx/certification/v4/tcb?fmspc=00906ED50000", 404),
        ("/sgx/certification/v4/pckcert", 404),
        ("/sgx/certification/v4/tcb", 400),
        ("/sgx/certification/v4/pckcrl?ca=root", 400),
    ] {
        assert_eq!(vendor.get(target).status, status, "{target}");
    }
    let (head, body) = vendor.exchange("POST", TCB);
    assert_eq!(Answer::parse(&head, body).status, 405);
}

#[test]
fn evaluation_numbers_that_are_not_the_present_one_are_withdrawn_or_unknown() {
    let vendor = vendor();
    vendor.misbehave(&["evaluation-number=7"]);
    for (number, status) in [(6, 410), (7, 200), (8, 404)] {
        for target in [format!("{TCB}&"), format!("{QE}?")] {
            let answer = vendor.get(&format!("{target}tcbEvaluationDataNumber={number}"));
            assert_eq!(answer.status, status, "{target}{number}");
        }
    }
    assert_eq!(vendor.get(&format!("{TCB}&update=standard")).status, 200);
    let numbers = vendor.get("/sgx/certification/v4/tcbevaluationdatanumbers");
    let (text, _) = numbers.signed("tcbEvaluationDataNumbers");
    assert!(text.contains("\"tcbEvalNumbers\":[{\"tcbEvaluationDataNumber\":7,"), "{text}");
}

#[test]
fn platforms_of_one_vendor_have_their_own_fmspc_and_processor_or_platform_ca() {
    let options = ServiceOptions {
        clock: Arc::new(|| at(CREATED)),
        further_platforms: vec![*b"\xFFSWTEF"],
        ..Default::default()
    };
    let vendor = start(options);
    let root = DevelopmentRoot::open(&vendor._directory.path().join("root"), at(CREATED)).unwrap();
    let other = root.with_platform(*b"\xFFSWTEF", PckCa::Processor).unwrap();
    let quote = other.quote(&IDENTITY, &REPORT_DATA).unwrap();
    let judge = |collateral| {
        QuoteVerifier::new(vendor.root_der.clone())
            .verify(&quote, &collateral, CREATED)
            .map(|report| report.status)
            .map_err(|error| format!("{error:#}"))
    };
    assert_eq!(judge(vendor.collateral("FF5357544546", "processor")).as_deref(), Ok("UpToDate"));
    assert!(judge(vendor.collateral("FF5357544545", "processor")).unwrap_err().contains("Fmspc"));
    judge(vendor.collateral("FF5357544546", "platform")).unwrap_err();
}

#[test]
fn a_platform_that_could_be_hardware_is_refused() {
    let fixture = fixture();
    let error = fixture.root.with_platform([0, 0x90, 0x6E, 0xD5, 0, 0], PckCa::Platform).unwrap_err();
    assert!(matches!(error, PlatformError::Fmspc { .. }));
    assert!(error.to_string().ends_with("got 00906ED50000"), "{error}");
}

// rules: ATT-10.4
#[test]
fn statuses_advisories_and_other_levels_are_served_on_request() {
    let vendor = vendor();
    for status in ["SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"] {
        vendor.check_verdict(&format!("tcb-status={status}"), status);
    }
    vendor.check_verdict("tcb-status=Revoked", "Revoked");
    vendor.check_verdict("tcb-status=Splendid", "");
    vendor.check_verdict("qe-status=OutOfDate", "OutOfDate");
    vendor.check_verdict("below-all-levels", "No matching TCB level");
    vendor.misbehave(&["advisories=INTEL-SA-00001,INTEL-SA-00002"]);
    let (text, _) = vendor.get(TCB).signed("tcbInfo");
    assert!(text.contains("\"advisoryIDs\":[\"INTEL-SA-00001\",\"INTEL-SA-00002\"]"), "{text}");
}

// rules: ATT-10.4
#[test]
fn revoked_expired_early_foreign_and_altered_collateral_is_served_on_request() {
    let vendor = vendor();
    for revoked in ["pck", "pck-ca", "tcb-signing", "root"] {
        vendor.check_verdict(&format!("revoked={revoked}"), "CertRevoked");
    }
    for (rule, reason) in [
        ("expired", "xpired"),
        ("expired=tcb-info", "TCBInfo expired"),
        ("expired=qe-identity", "xpired"),
        ("expired=root-crl", "CrlExpired"),
        ("expired=pck-crl", "CrlExpired"),
        ("not-yet-valid=tcb-info", "TCBInfo issue date is in the future"),
        ("wrong-fmspc", "Fmspc mismatch"),
        ("wrong-signer", ""),
        ("tampered=tcb-info", "ignature"),
        ("tampered=qe-identity", "ignature"),
        ("tampered=tcb-info-signature", "ignature"),
        ("tampered=root-crl", ""),
        ("tampered=crls-exchanged", ""),
    ] {
        vendor.misbehave(&[rule]);
        let error = vendor.verdict(CREATED).expect_err(rule);
        assert!(error.contains(reason), "{rule}: {error}");
    }
}

#[test]
fn validity_follows_the_clock_that_the_service_was_given() {
    let now = Arc::new(AtomicU64::new(CREATED));
    let clock = now.clone();
    let options = ServiceOptions {
        clock: Arc::new(move || at(clock.load(Ordering::SeqCst))),
        rules: vec!["valid-for=60".parse().unwrap()],
        ..Default::default()
    };
    let vendor = start(options);
    let old = vendor.collateral("ff5357544545", "platform");
    let judge = |collateral: &QuoteCollateralV3, time| {
        QuoteVerifier::new(vendor.root_der.clone()).verify(&vendor.quote, collateral, time).map(|report| report.status)
    };
    assert_eq!(judge(&old, CREATED + 59).unwrap(), "UpToDate");
    judge(&old, CREATED + 61).unwrap_err();
    now.store(CREATED + 61, Ordering::SeqCst);
    assert_eq!(vendor.verdict(CREATED + 61).as_deref(), Ok("UpToDate"));
}

#[test]
fn a_rule_with_a_scope_leaves_other_requests_alone() {
    let vendor =
        start_root(ServiceOptions { further_platforms: vec![*b"\xFFSWTEF"], ..Default::default() }, |root| root);
    vendor.misbehave(&["FF5357544546:http=503", "pck-crl:http=500"]);
    assert_eq!(vendor.get(TCB).status, 200);
    assert_eq!(vendor.get("/sgx/certification/v4/tcb?fmspc=FF5357544546").status, 503);
    assert_eq!(vendor.get(PCK_CRL).status, 500);
    assert_eq!(vendor.get(ROOT_CRL).status, 200);
}

// rules: ATT-10.4
#[test]
fn status_codes_and_redirections_are_those_that_were_asked_for() {
    let vendor = vendor();
    vendor.misbehave(&["too-many-requests=7"]);
    let answer = vendor.get(TCB);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    vendor.misbehave(&["too-many-requests"]);
    assert_eq!(vendor.get(TCB).header("retry-after"), None);

    vendor.misbehave(&["redirect"]);
    let answer = vendor.get(TCB);
    assert_eq!(answer.status, 302);
    // Whoever follows finds the answer there: only not following is right.
    let location = answer.header("location").unwrap();
    assert_eq!(vendor.get(location).status, 200);
    vendor.misbehave(&["redirect=http://localhost:9/"]);
    let target = vendor.get(TCB).header("location").unwrap().to_owned();
    assert_eq!(target, format!("http://localhost:9{TCB}"));
}

// rules: ATT-10.4
#[test]
fn issuer_chains_are_lost_and_mangled_as_asked_for() {
    const NEW: &str = "TCB-Info-Issuer-Chain";
    const OLD: &str = "SGX-TCB-Info-Issuer-Chain";
    let vendor = vendor();
    let good = vendor.get(TCB).header(NEW).unwrap().to_owned();
    assert!(good.starts_with("-----BEGIN%20CERTIFICATE-----%0A"), "{good}");
    let headers = |fault: &str| {
        vendor.misbehave(&[&format!("issuer-chain={fault}")]);
        let answer = vendor.get(TCB);
        assert_eq!(answer.status, 200);
        (answer.header(NEW).map(str::to_owned), answer.header(OLD).map(str::to_owned))
    };
    assert_eq!(headers("missing"), (None, None));
    assert_eq!(headers("empty"), (Some(String::new()), None));
    assert_eq!(headers("old-name"), (None, Some(good.clone())));
    assert_eq!(headers("both-names"), (Some(good.clone()), Some(good.clone())));
    assert_eq!(headers("twice-encoded"), (Some(good.replace('%', "%25")), None));
    assert_eq!(headers("not-encoded").0.map(|chain| chain.contains("-----BEGIN CERTIFICATE----- ")), Some(true));
    assert_eq!(headers("garbage"), (Some("%zz%".to_owned()), None));
    assert_ne!(headers("other").0.unwrap(), good);
    assert_eq!(headers("lower-case"), (Some(good), None));
    let (head, _) = vendor.exchange("GET", TCB);
    assert!(head.contains("\r\ntcb-info-issuer-chain: "), "{head}");
    vendor.service.behave();
    let (head, _) = vendor.exchange("GET", TCB);
    assert!(head.contains("\r\nTcb-Info-Issuer-Chain: "), "{head}");
}

// rules: ATT-10.4
#[test]
fn revocation_lists_come_in_every_form_that_services_have() {
    let vendor = vendor();
    let list = |form: &str| {
        vendor.misbehave(&[&format!("crl-form={form}")]);
        assert_eq!(vendor.get(PCK_CRL).body[..1], vendor.get(ROOT_CRL).body[..1], "{form}");
        vendor.get(PCK_CRL).body
    };
    assert_eq!(list("der")[0], 0x30);
    assert!(list("hex").iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
    assert!(list("hex-upper").iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
    assert!(list("hex-lf").ends_with(b"\n"));
    assert!(list("hex-crlf").ends_with(b"\r\n"));
    assert!(list("hex-nul").ends_with(b"\0"));
    assert_eq!(list("hex-odd").len() % 2, 1);
    assert!(list("pem").starts_with(b"-----BEGIN X509 CRL-----"));
    assert!(list("pem-other-label").starts_with(b"-----BEGIN CERTIFICATE-----"));
}

// rules: ATT-10.4
#[test]
fn answers_are_wrong_empty_short_or_no_answers_as_asked_for() {
    let vendor = vendor();
    vendor.misbehave(&["wrong-content"]);
    let answer = vendor.get(TCB);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html")));
    vendor.misbehave(&["empty-body"]);
    assert!(vendor.get(TCB).body.is_empty());
    vendor.misbehave(&["cut"]);
    let answer = vendor.get(TCB);
    let promised: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert!(answer.body.len() < promised, "{} of {promised}", answer.body.len());
    vendor.misbehave(&["closed"]);
    assert_eq!(vendor.exchange("GET", TCB), (String::new(), Vec::new()));
    vendor.misbehave(&["garbage"]);
    let (head, _) = vendor.exchange("GET", TCB);
    assert!(!head.is_empty() && !head.starts_with("HTTP/"), "{head:?}");
    vendor.service.behave();
    assert_eq!(vendor.get(TCB).status, 200);
}

// rules: ATT-10.4
#[test]
fn bodies_without_end_go_on_and_silence_stays_silent_while_others_are_served() {
    let vendor = vendor();
    vendor.misbehave(&["tcb-info:over-long", "qe-identity:endless", "pck-crl:silence"]);
    let mut over_long = vendor.send("GET", TCB);
    let mut buffer = vec![0; 3 * 1024 * 1024];
    over_long.read_exact(&mut buffer).unwrap();

    let mut endless = vendor.send("GET", QE);
    let silent = vendor.send("GET", PCK_CRL);
    let mut silent = &silent;
    silent.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = silent.read(&mut buffer).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");

    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n1\r\n \r\n1\r\n \r\n") {
        let length = endless.read(&mut buffer).unwrap();
        assert_ne!(length, 0);
        seen.extend(&buffer[..length]);
    }
    assert_eq!(vendor.get(ROOT_CRL).status, 200);
}

#[test]
fn requests_are_remembered_in_order_and_can_be_waited_for() {
    let vendor = vendor();
    assert!(!vendor.service.wait_for_request("tcb", Duration::ZERO));
    vendor.get(QE);
    vendor.get(TCB);
    assert!(vendor.service.wait_for_request("fmspc=FF5357544545", PATIENCE));
    assert_eq!(vendor.service.requests(), [QE, TCB]);
    vendor.service.forget_requests();
    assert!(vendor.service.requests().is_empty());
}

#[test]
fn the_service_ends_with_its_value() {
    let vendor = vendor();
    let address = vendor.service.address();
    let open = vendor.send("GET", "/");
    drop(vendor.service);
    assert!(TcpStream::connect(address).is_err());
    drop(open);
}

#[test]
fn addresses_that_others_can_reach_and_taken_ones_are_refused() {
    let refused = |options| CollateralService::start(fixture().root, options).unwrap_err();
    let remote = "0.0.0.0:0".parse().unwrap();
    let error = refused(ServiceOptions { listen: remote, ..Default::default() });
    assert!(matches!(error, ServiceError::NotLoopback { address } if address == remote));
    assert!(error.hint().is_some());
    CollateralService::start(
        fixture().root,
        ServiceOptions { listen: remote, allow_remote: true, ..Default::default() },
    )
    .unwrap();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = refused(ServiceOptions { listen: taken.local_addr().unwrap(), ..Default::default() });
    assert!(matches!(error, ServiceError::Listen { .. }));
    assert_eq!(FMSPC[0], 0xFF);
}
