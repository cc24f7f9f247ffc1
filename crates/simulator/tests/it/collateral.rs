//! The vendor's collateral on the command line.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use marblerun_attestation::{Collateral, Quote, TrustRoots, verify};
use rustls_pki_types::UnixTime;

use crate::fixture::{Finished, Fixture, finish};

const FMSPC: &str = "FF5357544546";

/// A running service, killed with this value.
struct Service {
    child: Child,
    authority: String,
}

impl Service {
    fn start(fixture: &Fixture, flags: &[&str]) -> Self {
        let mut command = fixture.command(&["collateral", "serve", "--root"]);
        command.arg(fixture.path("root")).args(flags).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let authority = url.strip_prefix("http://").and_then(|url| url.strip_suffix("/sgx/certification/v4/\n"));
        Self { child, authority: authority.unwrap_or_else(|| panic!("{url:?}")).to_owned() }
    }

    /// The first line of the answer.
    fn status(&self, name: &str) -> String {
        let mut stream = TcpStream::connect(&self.authority).unwrap();
        let request = format!("GET /sgx/certification/v4/{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve_refused(fixture: &Fixture, flags: &[&str]) -> Finished {
    let mut command = fixture.command(&["collateral", "serve", "--root"]);
    finish(command.arg(fixture.path("root")).args(flags))
}

// rules: ATT-10.3, ATT-10.4
#[test]
fn the_service_prints_its_url_and_does_wrong_what_it_was_told() {
    let fixture = Fixture::new();
    let service = Service::start(
        &fixture,
        &["--fmspc", FMSPC, "--misbehave", "FF5357544545:http=503", "--misbehave=pck-crl:closed"],
    );
    assert!(service.authority.starts_with("127.0.0.1:"), "{}", service.authority);
    assert_eq!(service.status(&format!("tcb?fmspc={FMSPC}")), "HTTP/1.1 200 OK");
    assert_eq!(service.status("tcb?fmspc=FF5357544545"), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(service.status("tcb?fmspc=00906ED50000"), "HTTP/1.1 404 Not Found");
    assert_eq!(service.status("pckcrl?ca=platform"), "");
}

#[test]
fn an_address_that_others_can_reach_needs_force() {
    let fixture = Fixture::new();
    let refused = serve_refused(&fixture, &["--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(201), "{refused:#?}");
    assert!(refused.stderr.contains("expected a loopback address to listen on, got 0.0.0.0:0"), "{refused:#?}");
    assert!(refused.stderr.contains("hint: ") && refused.stderr.contains("--force"), "{refused:#?}");
}

#[test]
fn an_unknown_misbehaviour_is_refused_with_those_that_there_are() {
    let fixture = Fixture::new();
    let refused = serve_refused(&fixture, &["--misbehave", "silent"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:#?}");
    for word in ["got \"silent\"", "silence", "too-many-requests[=SECONDS]"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:#?}");
    }
}

#[test]
fn a_platform_of_another_kind_has_its_own_collateral() {
    let fixture = Fixture::new();
    let mut command = fixture.command(&["collateral", "export", "--fmspc", FMSPC]);
    let exported = finish(command.arg(fixture.path("collateral")).arg("--root").arg(fixture.path("root")));
    assert!(exported.stdout.ends_with("/dcap/sgx-FF5357544546-platform.json\n"), "{exported:#?}");
    let collateral = Collateral::parse(&fs::read(exported.stdout.trim_end()).unwrap()).unwrap();

    let root = fs::read(fixture.path("root/root.der")).unwrap();
    let now = UnixTime::now();
    let trusted = collateral.verify(&TrustRoots::software([("dev", root.as_slice())]).unwrap(), now).unwrap();
    let quote = |flags: &[&str]| {
        let finished = fixture.run(flags, &["/bin/probe", "write-quote"]);
        Quote::parse_raw(&hex::decode(finished.stdout.trim()).unwrap()).unwrap()
    };
    verify(&quote(&["--fmspc", FMSPC]), &trusted, now).unwrap();
    assert!(verify(&quote(&[]), &trusted, now).is_err());

    let refused = fixture.run(&["--fmspc", "00906ED50000"], &["/bin/probe", "write-quote"]);
    assert_eq!(refused.status.code(), Some(201), "{refused:#?}");
    assert!(refused.stderr.contains("expected FF as its first byte"), "{refused:#?}");
}
