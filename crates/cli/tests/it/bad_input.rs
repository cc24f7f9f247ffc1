//! Every bad input ends in one clear line, and a hint where there is something to do.

use crate::Place;

const ERA: &str = r#"{"UniqueID": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;

#[track_caller]
fn check(place: &Place, arguments: &str, expected: &str) {
    place.run(arguments).failed(expected);
}

/// A port at which nobody listens.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_unreachable_coordinator() {
    let place = Place::new();
    place.write("era.json", ERA);
    let port = closed_port();
    check(
        &place,
        &format!("status 127.0.0.1:{port} --era-config era.json"),
        &format!(
            "Error: cannot connect to 127.0.0.1:{port} (127.0.0.1:{port}: Connection refused (os error 111))\n\
             Hint: check that the Coordinator runs and that this is its client API, usually port 4433"
        ),
    );
}

#[test]
fn a_port_that_speaks_something_else() {
    let place = Place::new();
    place.write("era.json", ERA);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    check(
        &place,
        &format!("status {address} --era-config era.json"),
        &format!(
            "Error: TLS handshake with {address} failed: the server does not speak TLS\n\
             Hint: check that this is the client API of a Coordinator, usually port 4433; Marbles use port 2001"
        ),
    );
}

#[test]
fn addresses_that_are_none() {
    let place = Place::new();
    check(
        &place,
        "status https://localhost:4433",
        "Error: expected an address HOST:PORT, got the URL \"https://localhost:4433\"\n\
         Hint: leave out the scheme and the path",
    );
    check(
        &place,
        "status ::1:4433",
        "Error: expected an IPv6 address in brackets, for example [::1]:4433, got \"::1:4433\"",
    );
    check(&place, "status localhost:x", "Error: expected a port from 1 to 65535 in \"localhost:x\"");
}

// rules: ATT-4, ATT-9, ATT-11
#[test]
fn missing_and_wrong_expected_measurements() {
    let place = Place::new();
    check(
        &place,
        "certificate root localhost:4433",
        "Error: expected measurements of the Coordinator: no --era-config, and neither era-config.json nor \
         coordinator-era.json in the current directory\n\
         Hint: take the file from the Coordinator's release, or use --insecure for a simulated Coordinator; then \
         nothing is verified",
    );
    check(
        &place,
        "certificate root localhost:4433 --era-config era.json",
        "Error: cannot read expected measurements era.json: No such file or directory (os error 2)\n\
         Hint: check the path",
    );
    place.write("era.json", r#"{"UniqueID": "aa", "InsecureSkipVerify": true}"#);
    check(
        &place,
        "certificate root localhost:4433 --era-config era.json",
        "Error: era.json: InsecureSkipVerify: a file with expected measurements cannot switch verification off\n\
         Hint: remove the member; --insecure on the command line says it openly",
    );
    place.write("coordinator-era.json", r#"{"ProductID": 3, "SecurityVersion": 3}"#);
    check(
        &place,
        "certificate root localhost:4433",
        "Error: coordinator-era.json: expected a UniqueID or a SignerID, got neither\n\
         Hint: take the expected properties from the Coordinator's release",
    );
    // If both are there, the one that MarbleRun reads counts.
    place.write("era-config.json", r#"{"UniqueID": "aa", "InsecureSkipVerify": true}"#);
    check(
        &place,
        "certificate root localhost:4433",
        "Error: era-config.json: InsecureSkipVerify: a file with expected measurements cannot switch verification off\n\
         Hint: remove the member; --insecure on the command line says it openly",
    );
}

#[test]
fn unknown_tcb_statuses() {
    let place = Place::new();
    place.write("era.json", ERA);
    check(
        &place,
        "certificate root localhost:4433 --era-config era.json --accepted-tcb-statuses uptodate",
        "Error: --accepted-tcb-statuses: expected UpToDate, SWHardeningNeeded, ConfigurationNeeded, \
         ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked, got \"uptodate\"",
    );
}

#[test]
fn software_roots_that_are_none() {
    let place = Place::new();
    place.write("era.json", ERA);
    let arguments = "certificate root localhost:4433 --era-config era.json --trust-software-root root.pem";
    check(
        &place,
        arguments,
        "Error: cannot read software root root.pem: No such file or directory (os error 2)\nHint: check the path",
    );
    place.write("root.pem", "garbage");
    check(
        &place,
        arguments,
        "Error: software root root.pem: expected a PEM block (-----BEGIN CERTIFICATE-----), got text without any\n\
         Hint: give the root certificate of the software TEE, PEM or DER",
    );
    place.write("root.pem", [0x30, 0x00]);
    check(
        &place,
        arguments,
        "Error: software root \"root.pem\" is not a DER certificate\n\
         Hint: convert a PEM file first: openssl x509 -in FILE -outform DER",
    );
}

#[test]
fn a_collateral_directory_that_is_none() {
    let place = Place::new();
    place.write("era.json", ERA);
    let run = place.run("certificate root localhost:4433 --era-config era.json --collateral nowhere");
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("Error: collateral directory nowhere cannot be read: "), "{}", run.stderr);
    assert!(
        run.stderr.ends_with("\nHint: give the directory that holds dcap/<tee>-<FMSPC>-<ca>.json\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_missing_certificate_cache() {
    check(
        &Place::new(),
        "status localhost:4433",
        "Error: no certificate cache [DIR]/home/.config/marblerun/coordinator-cert.pem, and no expected measurements to \
         verify the Coordinator with\n\
         Hint: run `marblerun manifest verify`, or give --era-config, or --insecure for a simulated Coordinator; then \
         nothing is verified",
    );
}

#[test]
fn a_certificate_cache_that_is_none() {
    let place = Place::new();
    place.write("cache.pem", "x");
    check(
        &place,
        "status localhost:4433 --coordinator-cert cache.pem",
        "Error: certificate cache cache.pem: the Coordinator's certificate chain is not PEM: expected a PEM block \
         (-----BEGIN CERTIFICATE-----), got text without any\n\
         Hint: remove the file and run `marblerun manifest verify`, which writes it anew",
    );
}

#[test]
fn manifests_that_are_none() {
    let place = Place::new();
    check(
        &place,
        "manifest signature m.json",
        "Error: cannot read manifest m.json: No such file or directory (os error 2)\nHint: check the path",
    );
    place.write("m.yaml", "a: 1\na: 2\n");
    check(
        &place,
        "manifest signature m.yaml",
        "Error: manifest m.yaml is neither JSON nor YAML: line 2: member \"a\" stands twice in one object",
    );
}

#[test]
fn a_manifest_with_mistakes_is_not_uploaded() {
    let place = Place::new();
    place.write("era.json", ERA);
    place.write("m.yaml", format!("Packages: {{web: {{UniqueID: {}}}}}\nMarbles: {{}}\n", "1".repeat(64)));
    let run = place.run("manifest set m.yaml localhost:4433 --era-config era.json");
    assert_eq!(run.code, 1);
    let expected = "Error: manifest m.yaml has 1 error: line 1, column 18: Packages.web.UniqueID: expected ";
    assert!(run.stderr.starts_with(expected), "{}", run.stderr);
    assert!(run.stderr.contains("put the value in quotes"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1);
}

#[test]
fn signatures_that_are_none() {
    let place = Place::new();
    check(
        &place,
        "manifest verify nofile localhost:4433",
        "Error: expected a manifest file or a signature of 64 hexadecimal digits, got \"nofile\" with 6 characters, \
         which is no file\nHint: check the file's path",
    );
    let word = "x".repeat(64);
    check(
        &place,
        &format!("manifest verify {word} localhost:4433"),
        &format!(
            "Error: expected a manifest file or a signature of 64 hexadecimal digits, got \"{word}\", which is neither\n\
             Hint: check the file's path"
        ),
    );
}

// rules: CLI-2
#[test]
fn usage_errors() {
    let place = Place::new();
    check(
        &place,
        "status",
        "Error: the following required arguments were not provided: <IP:PORT>\n\
         Hint: Usage: marblerun status <IP:PORT>; For more information, try '--help'.",
    );
    let run = place.run("statsu localhost:4433");
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("Error: unrecognized subcommand 'statsu'\nHint: "), "{}", run.stderr);
    assert!(run.stderr.contains("'status'"), "{}", run.stderr);
    // A script that misspells a command must not go on.
    for group in ["manifest", "manifest update", "certificate", "secret", "profile"] {
        let run = place.run(&format!("{group} foo"));
        assert!(run.stderr.starts_with("Error: unrecognized subcommand 'foo'\nHint: "), "{group}: {}", run.stderr);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{group}");
    }
    check(
        &place,
        "certificate root localhost:4433 --output=",
        "Error: a value is required for '--output <FILE|json>' but none was supplied\nHint: For more information, try '--help'.",
    );
}
