//! What is sent, what is tried again, and what a failure leaves behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use marblerun_api::rpc::Parameters;
use marblerun_marble::config::CoordinatorAddress;
use marblerun_marble::{
    Chain, Config, Event, EvidenceIssuer, ImagePolicy, Level, MarbleError, Pace, evidence, prepare,
};
use marblerun_pki::CertificateRequest;
use marblerun_tee::EvidenceError;

use crate::coordinator::{Answer, Coordinator, Identity, now};

/// A "quote" that is its report data.
pub(crate) struct EchoIssuer;

impl EvidenceIssuer for EchoIssuer {
    fn issue(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, EvidenceError> {
        Ok(report_data.to_vec())
    }
}

struct FailingIssuer;

impl EvidenceIssuer for FailingIssuer {
    fn issue(&self, _: &[u8; 64]) -> Result<Vec<u8>, EvidenceError> {
        Err(EvidenceError::EmptyQuote)
    }
}

/// Time passes only in pauses.
#[derive(Default)]
struct FakePace(Duration);

impl Pace for FakePace {
    fn elapsed(&self) -> Duration {
        self.0
    }
    fn sleep(&mut self, pause: Duration) {
        self.0 += pause;
    }
    fn random(&mut self) -> u8 {
        255
    }
}

pub(crate) fn config(address: SocketAddr, directory: &Path) -> Config {
    Config {
        coordinator: CoordinatorAddress { host: address.ip().to_string(), port: address.port() },
        marble_type: "web".into(),
        dns_names: vec!["a.example".into(), "b_1".into()],
        ip_addresses: vec!["10.1.2.3".parse().unwrap()],
        uuid_file: directory.join("uuid"),
        activation_timeout: Duration::from_secs(60),
        simulation: false,
    }
}

/// Runs one activation and returns its result with the lines that it reported.
pub(crate) fn activate(
    config: &Config,
    image: &ImagePolicy,
    issuer: &dyn EvidenceIssuer,
) -> (Result<Parameters, MarbleError>, Vec<String>) {
    let mut lines = Vec::new();
    let mut report = |event: Event<'_>| {
        if event.level() != Level::Silent {
            lines.push(event.to_string());
        }
    };
    let result = prepare(config, image, issuer, now(), &mut FakePace::default(), &mut report);
    (result, lines)
}

fn run(script: Vec<Answer>) -> (Result<Parameters, String>, Vec<String>, Coordinator) {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(&Identity::new(), script);
    let (result, lines) = activate(&config(coordinator.address, dir.path()), &ImagePolicy::default(), &EchoIssuer);
    (result.map_err(|error| Chain(&error).to_string()), lines, coordinator)
}

fn some_parameters() -> Parameters {
    Parameters { argv: vec!["/bin/app".into()], ..Parameters::default() }
}

// rules: ACT-1.1, ACT-8.1
#[test]
fn the_request_carries_quote_csr_type_and_uuid_of_this_marble() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(&Identity::new(), vec![Answer::Parameters(some_parameters())]);
    let config = config(coordinator.address, dir.path());
    let (result, lines) = activate(&config, &ImagePolicy::default(), &EchoIssuer);
    assert_eq!(result.unwrap(), some_parameters());

    let calls = coordinator.calls();
    let [call] = calls.as_slice() else { panic!("expected one call, got {}", calls.len()) };
    assert_eq!(call.path, "/rpc.Marble/Activate");
    assert_eq!(call.request.marble_type, "web");
    assert_eq!(call.request.quote, evidence::report_data(&call.client_certificate));
    let stored = std::fs::read_to_string(dir.path().join("uuid")).unwrap();
    assert_eq!(call.request.uuid, stored);
    let request = CertificateRequest::parse_and_verify(&call.request.csr).unwrap();
    assert_eq!(request.names().dns, ["a.example", "b_1"]);
    let certificate = marblerun_pki::Certificate::parse(&call.client_certificate).unwrap();
    assert_eq!(certificate.public_key_der(), request.public_key_der());

    let expected = [
        "loading TLS Credentials",
        "loading UUID",
        "UUID not found. Generating and storing a new UUID",
        "generating CSR",
        "generating quote",
        "activating marble of type web",
    ];
    assert_eq!(lines[..6], expected);
    assert!(lines[6].starts_with("no pinned Coordinator"), "{lines:?}");
    assert_eq!(lines[7..], ["Not using TTLS"]);
}

// rules: ACT-8.2
#[test]
fn a_second_start_has_the_same_uuid_and_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(&Identity::new(), vec![Answer::Parameters(some_parameters())]);
    let config = config(coordinator.address, dir.path());
    for _ in 0..2 {
        activate(&config, &ImagePolicy::default(), &EchoIssuer).0.unwrap();
    }
    let calls = coordinator.calls();
    assert_eq!(calls[0].request.uuid, calls[1].request.uuid);
    assert_ne!(calls[0].client_certificate, calls[1].client_certificate);
}

// rules: MESH-4
#[test]
fn unavailable_and_exhausted_coordinators_are_tried_again_each_reported_once() {
    let (result, lines, coordinator) = run(vec![
        Answer::Status(14, "collateral%20missing"),
        Answer::Status(14, "collateral%20missing"),
        Answer::Status(8, "busy"),
        Answer::Http(503, "text/html"),
        Answer::Parameters(some_parameters()),
    ]);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(coordinator.calls().len(), 5);
    let waiting: Vec<&String> = lines.iter().filter(|line| line.starts_with("waiting")).collect();
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    assert_eq!(waiting[0], "waiting for the Coordinator: UNAVAILABLE: collateral missing");
}

#[test]
fn an_answer_is_an_answer_and_is_not_asked_for_again() {
    for (code, name) in [(7, "PERMISSION_DENIED"), (9, "FAILED_PRECONDITION"), (13, "INTERNAL"), (12, "UNIMPLEMENTED")]
    {
        let (result, _, coordinator) = run(vec![Answer::Status(code, "no%0Anever")]);
        assert_eq!(result.unwrap_err(), format!("{name}: no never"));
        assert_eq!(coordinator.calls().len(), 1, "{name}");
    }
}

#[test]
fn answers_that_are_no_activation_are_refused() {
    for (answer, message) in [
        (Answer::Nothing, "expected parameters in the Coordinator's answer, got none"),
        (Answer::Status(0, ""), "malformed gRPC answer: no message"),
        (Answer::Compressed, "malformed gRPC answer: compressed message, although none was asked for"),
        (
            Answer::Http(404, "application/json"),
            "expected a gRPC answer, got HTTP status 404 Not Found with content type \"application/json\"",
        ),
    ] {
        assert_eq!(run(vec![answer]).0.unwrap_err(), message);
    }
}

#[test]
fn a_coordinator_that_does_not_answer_is_given_up_without_another_call() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(&Identity::new(), vec![Answer::Never]);
    let config = Config { activation_timeout: Duration::from_millis(300), ..config(coordinator.address, dir.path()) };
    let error = activate(&config, &ImagePolicy::default(), &EchoIssuer).0.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from {} within 0.3 seconds", coordinator.address));
    assert_eq!(coordinator.calls().len(), 1);
}

#[test]
fn parameters_above_the_default_limit_of_grpc_are_received_and_endless_ones_are_not() {
    let with_file = |mib: usize| {
        let files = [("/big".to_owned(), vec![7; mib << 20])].into_iter().collect();
        Answer::Parameters(Parameters { files, ..Parameters::default() })
    };
    assert_eq!(run(vec![with_file(5)]).0.unwrap().files["/big"].len(), 5 << 20);
    let error = run(vec![with_file(16)]).0.unwrap_err();
    assert_eq!(error, "expected an answer of at most 16777216 bytes, got more");
}

#[test]
fn parameters_that_cannot_be_applied_are_refused() {
    let env = [("MARBLE_TTLS_CONFIG".to_owned(), b"{\"tls\":{}}".to_vec())].into_iter().collect();
    let error = run(vec![Answer::Parameters(Parameters { env, ..Parameters::default() })]).0.unwrap_err();
    assert_eq!(error, "the manifest asks for transparent TLS, which this runtime does not have");
}

// rules: SAFE-15, ACT-8.10
#[test]
fn without_a_quote_nobody_is_called_unless_simulation_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(&Identity::new(), vec![Answer::Parameters(some_parameters())]);
    let mut config = config(coordinator.address, dir.path());
    let (result, _) = activate(&config, &ImagePolicy::default(), &FailingIssuer);
    let error = result.unwrap_err();
    assert_eq!(Chain(&error).to_string(), "cannot get a quote: the host delivered an empty quote");
    assert!(error.hint().unwrap().contains("DCAP"));
    assert!(coordinator.calls().is_empty());

    config.simulation = true;
    let (result, lines) = activate(&config, &ImagePolicy::default(), &FailingIssuer);
    assert!(result.is_ok());
    assert!(coordinator.calls()[0].request.quote.is_empty());
    let line = "failed to get quote: the host delivered an empty quote. Proceeding in simulation mode";
    assert!(lines.iter().any(|reported| reported == line), "{lines:?}");
}

#[test]
fn an_unreachable_coordinator_is_given_up_after_the_timeout_with_address_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (result, lines) = activate(&config(free, dir.path()), &ImagePolicy::default(), &EchoIssuer);
    let error = Chain(&result.unwrap_err()).to_string();
    assert!(error.starts_with("gave up after "), "{error}");
    assert!(
        error.ends_with(&format!("cannot connect to {free} ({free}: Connection refused (os error 111))")),
        "{error}"
    );
    assert_eq!(lines.iter().filter(|line| line.starts_with("waiting")).count(), 1, "{lines:?}");
}

#[test]
fn a_peer_without_tls_or_without_http2_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::new();
    for alpn in [&[][..], &[b"http/1.1".as_slice()]] {
        let server = Coordinator::start_with(&identity.marble_root, &identity.key, alpn, vec![Answer::Nothing]);
        let (result, lines) = activate(&config(server.address, dir.path()), &ImagePolicy::default(), &EchoIssuer);
        let error = result.unwrap_err();
        assert!(error.hint().unwrap().contains("2001"), "{error}");
        assert!(!lines.iter().any(|line| line.starts_with("waiting")), "{lines:?}");
    }

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut greeting = [0; 64];
        let _ = stream.read(&mut greeting);
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        // Wait for the peer to hang up, so that it reads the line and no reset.
        while stream.read(&mut greeting).is_ok_and(|length| length > 0) {}
    });
    let (result, _) = activate(&config(address, dir.path()), &ImagePolicy::default(), &EchoIssuer);
    let error = result.unwrap_err();
    assert!(Chain(&error).to_string().starts_with(&format!("TLS handshake with {address} failed")), "{error}");
    assert!(error.hint().unwrap().contains("2001"));
}
