//! Commands against a Coordinator that the tests play.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::fake::{Fake, Identity, Script, now};
use crate::{Place, Run};

const MANIFEST: &str = r#"{
  "Packages": {"web": {"UniqueID": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},
  "Marbles": {"m": {"Package": "web", "Parameters": {"Argv": ["./a"]}}}
}
"#;
pub(crate) const CACHE: &str = "home/.config/marblerun/coordinator-cert.pem";
pub(crate) const SOFTWARE: &str =
    "Warning: the Coordinator's evidence is of class software (root root.pem): no hardware protects it\n";

/// A place with everything that is needed to verify `fake`.
pub(crate) fn place(fake: &Fake) -> Place {
    let place = Place::new();
    place.write("era.json", format!(r#"{{"UniqueID": "{}"}}"#, "aa".repeat(32)));
    place.write("root.pem", fake.script().tee.root.root_pem());
    place.write("m.json", MANIFEST);
    place
}

pub(crate) const TRUST: &str = "--era-config era.json --trust-software-root root.pem";

pub(crate) fn run(place: &Place, fake: &Fake, arguments: &str) -> Run {
    let address = fake.address();
    let mut run = place.run(&arguments.replace("ADDRESS", &address).replace("TRUST", TRUST));
    for text in [&mut run.stdout, &mut run.stderr] {
        *text = text.replace(&address, "ADDRESS");
    }
    run
}

fn signature() -> String {
    marblerun_manifest_fingerprint(MANIFEST)
}

fn marblerun_manifest_fingerprint(text: &str) -> String {
    marblerun_attestation::ReportDigest::of(text.as_bytes()).to_string()
}

// rules: CMD-2, CMD-3, CMD-4, CMD-6, CLI-2, ATT-12
#[test]
fn a_manifest_is_set_verified_and_read_back() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    run(&place, &fake, "status ADDRESS TRUST")
        .printed(&format!("{SOFTWARE}2: Coordinator is ready to accept a manifest.\n"));
    assert!(!place.exists(CACHE));

    run(&place, &fake, "manifest set m.json ADDRESS TRUST").printed(&format!(
        "{SOFTWARE}Successfully verified Coordinator, now uploading manifest\nManifest signature: {}\nManifest \
         successfully set\n",
        signature()
    ));
    assert_eq!(fake.script().manifest.as_deref(), Some(MANIFEST.as_bytes()));
    assert_eq!(place.read(CACHE), fake.script().identity.chain());
    let mode = std::fs::metadata(place.path().join(CACHE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The cache is enough now.
    let status: Value = serde_json::from_str(&run(&place, &fake, "status ADDRESS --output json").stdout).unwrap();
    assert_eq!(status["coordinator"]["trust"], "cached");
    run(&place, &fake, "status ADDRESS").printed("3: Coordinator is running correctly and ready to accept marbles.\n");
    run(&place, &fake, "manifest verify m.json ADDRESS TRUST").printed(&format!("{SOFTWARE}OK\n"));
    run(&place, &fake, &format!("manifest verify {} ADDRESS TRUST", signature())).printed(&format!("{SOFTWARE}OK\n"));
    run(&place, &fake, "manifest get ADDRESS TRUST -o got.json").printed(&format!(
        "{SOFTWARE}Successfully verified Coordinator, now requesting manifest\nManifest written to got.json\n"
    ));
    assert_eq!(place.read("got.json"), MANIFEST);
    let stdout = run(&place, &fake, "manifest get ADDRESS TRUST").stdout;
    assert!(stdout.ends_with(&format!("now requesting manifest\n{MANIFEST}\n")), "{stdout}");
}

// rules: CMD-4
#[test]
fn another_manifest_is_told_apart() {
    let fake = Fake::start(Script { manifest: Some(b"{}".to_vec()), ..Script::new() });
    let place = place(&fake);
    let run = run(&place, &fake, "manifest verify m.json ADDRESS TRUST");
    run.failed(&format!(
        "Error: expected the manifest with signature {}, the Coordinator has {}\n\
         Hint: `marblerun manifest get` shows the Coordinator's manifest",
        signature(),
        marblerun_manifest_fingerprint("{}")
    ));
    assert!(!place.exists(CACHE));
}

// rules: CMD-5, CLI-6
#[test]
fn recovery_data_are_printed_or_saved_for_their_owner_only() {
    let fake = Fake::start(Script { recovery_secrets: vec![("ops", b"\x00\xff")], ..Script::new() });
    let place = place(&fake);
    let printed = run(&place, &fake, "manifest set m.json ADDRESS TRUST");
    assert!(
        printed.stdout.ends_with("Manifest successfully set\n{\"RecoverySecrets\":{\"ops\":\"AP8=\"}}\n"),
        "{}",
        printed.stdout
    );
    run(&place, &fake, "manifest set m.json ADDRESS TRUST -r recovery.json");
    assert_eq!(place.read("recovery.json"), "{\"RecoverySecrets\":{\"ops\":\"AP8=\"}}");
    let mode = std::fs::metadata(place.path().join("recovery.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn recovery_data_that_cannot_be_saved_are_printed() {
    let fake = Fake::start(Script { recovery_secrets: vec![("ops", b"s")], ..Script::new() });
    let place = place(&fake);
    let run = run(&place, &fake, "manifest set m.json ADDRESS TRUST -r no/such/file");
    run.failed(
        "Error: the manifest is set, but its recovery data could not be saved; it is printed on standard output: cannot \
         write recovery data no/such/file: No such file or directory (os error 2)\n\
         Hint: save the line with RecoverySecrets: it is not given again",
    );
    assert!(run.stdout.ends_with("{\"RecoverySecrets\":{\"ops\":\"cw==\"}}\n"), "{}", run.stdout);
}

#[test]
fn recovery_data_are_not_lost_when_nobody_reads_the_output() {
    let fake = Fake::start(Script { recovery_secrets: vec![("ops", b"s")], ..Script::new() });
    let place = place(&fake);
    let unread = |arguments: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let line = arguments.replace("ADDRESS", &fake.address()).replace("TRUST", TRUST);
        let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(unread("manifest set m.json ADDRESS TRUST -r recovery.json"), (Some(0), String::new()));
    assert_eq!(fake.script().manifest.as_deref(), Some(MANIFEST.as_bytes()));
    assert_eq!(place.read("recovery.json"), "{\"RecoverySecrets\":{\"ops\":\"cw==\"}}");
    for flags in ["", " --output json", " -r no/such/file"] {
        let (code, stderr) = unread(&format!("manifest set m.json ADDRESS TRUST{flags}"));
        assert_eq!(code, Some(1), "{flags}: {stderr}");
        assert!(stderr.contains("Warning: {\"RecoverySecrets\":{\"ops\":\"cw==\"}}\n"), "{flags}: {stderr}");
        assert!(stderr.contains("; it is printed on standard error: "), "{flags}: {stderr}");
    }
    // The result of a command that changes nothing may go unread.
    assert_eq!(unread("status ADDRESS TRUST"), (Some(0), String::new()));
}

#[test]
fn machine_readable_output_is_one_json_document() {
    let fake = Fake::start(Script { recovery_secrets: vec![("ops", b"s")], ..Script::new() });
    let place = place(&fake);
    let json = |arguments: &str| -> Value {
        let run = run(&place, &fake, arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let status = json("status ADDRESS TRUST --output json");
    assert_eq!((&status["code"], &status["coordinator"]["trust"]), (&Value::from(2), &Value::from("software")));
    assert_eq!(status["coordinator"]["statement"]["deployment"], "d0");
    assert_eq!(status["coordinator"]["uniqueID"], "aa".repeat(32));
    let set = json("manifest set m.json ADDRESS TRUST --output json");
    assert_eq!((&set["manifestSignature"], &set["recoverySecrets"]["ops"]), (&signature().into(), &"cw==".into()));
    assert_eq!(json("manifest get ADDRESS TRUST --output json")["manifest"], MANIFEST);
    assert_eq!(json("manifest verify m.json ADDRESS TRUST --output json")["verified"], true);
    let certificate = json("certificate root ADDRESS TRUST --output json");
    assert!(certificate["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(!place.exists("json") && !place.exists("marblerunRootCA.crt"));
}

// rules: CLI-1
#[test]
fn certificates_are_written_under_their_default_names() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    run(&place, &fake, "certificate root ADDRESS TRUST")
        .printed(&format!("{SOFTWARE}Root certificate written to marblerunRootCA.crt\n"));
    run(&place, &fake, "certificate intermediate ADDRESS TRUST")
        .printed(&format!("{SOFTWARE}Intermediate certificate written to marblerunIntermediateCA.crt\n"));
    run(&place, &fake, "certificate chain ADDRESS TRUST -o chain.pem")
        .printed(&format!("{SOFTWARE}Certificate chain written to chain.pem\n"));
    let chain = fake.script().identity.chain();
    assert_eq!(place.read("chain.pem"), chain);
    assert_eq!(place.read("marblerunIntermediateCA.crt") + &place.read("marblerunRootCA.crt"), chain);
}

#[test]
fn a_new_root_behind_an_old_cache_is_refused() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    place.write("cache.pem", Identity::new("localhost", now()).chain());
    run(&place, &fake, "certificate root ADDRESS TRUST --coordinator-cert cache.pem").failed(
        "Error: the Coordinator's root certificate is not the one in the certificate cache cache.pem\n\
         Hint: if the deployment was made anew, verify it with `marblerun manifest verify`; otherwise this is another \
         Coordinator",
    );
    let run = run(&place, &fake, "status ADDRESS --coordinator-cert cache.pem");
    assert!(
        run.stderr.starts_with("Error: ADDRESS is not the attested Coordinator: the server's certificate is not the ")
    );
    assert_eq!(run.code, 1);
}

// rules: ATT-10
#[test]
fn without_verification_every_run_warns_and_no_default_cache_is_written() {
    let fake = Fake::start(Script { is_simulated: true, ..Script::new() });
    let place = place(&fake);
    let warning = "Warning: skipping quote verification (--insecure): anybody may answer at this address\n";
    run(&place, &fake, "status ADDRESS --insecure")
        .printed(&format!("{warning}2: Coordinator is ready to accept a manifest.\n"));
    let set = run(&place, &fake, "manifest set m.json ADDRESS -i");
    assert!(set.stdout.starts_with(&format!("{warning}Uploading manifest\n")) && set.code == 0, "{}", set.stderr);
    assert!(!place.exists(CACHE));
    run(&place, &fake, "manifest verify m.json ADDRESS -i --coordinator-cert own.pem")
        .printed(&format!("{warning}OK\n"));
    assert!(place.read("own.pem").starts_with("These certificates were not verified (--insecure).\n"));
    // And whoever does not ask for that again does not get it.
    run(&place, &fake, "status ADDRESS --coordinator-cert own.pem").failed(
        "Error: the certificates in own.pem were not verified when they were written (--insecure)\n\
         Hint: run `marblerun manifest verify`, which writes verified ones, or give --insecure",
    );
}

#[test]
fn a_simulated_coordinator_is_refused_with_the_way_out() {
    let fake = Fake::start(Script { is_simulated: true, ..Script::new() });
    run(&place(&fake), &fake, "manifest set m.json ADDRESS TRUST").failed(
        "Error: cannot verify the Coordinator at ADDRESS: expected a quote, got none: the Coordinator runs in simulation \
         mode\n\
         Hint: use --insecure for a simulated Coordinator; then nothing is verified",
    );
    assert_eq!(fake.requests(), ["GET /api/v2/quote"]);
}

#[test]
fn another_measurement_is_refused_with_both_values() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    place.write("era.json", format!(r#"{{"UniqueID": "{}"}}"#, "cc".repeat(32)));
    let run = run(&place, &fake, "status ADDRESS TRUST");
    let expected = format!(
        "Error: cannot verify the Coordinator at ADDRESS: the Coordinator is not the expected one: expected UniqueID {}, \
         got {}\nHint: another program answers; ",
        "cc".repeat(32),
        "aa".repeat(32)
    );
    assert!(run.stderr.starts_with(&expected), "{}", run.stderr);
}

#[test]
fn software_evidence_needs_its_root_to_be_named() {
    let fake = Fake::start(Script::new());
    let run = run(&place(&fake), &fake, "status ADDRESS --era-config era.json");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("software"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().filter(|line| line.starts_with("Error: ")).count(), 1);
}

#[test]
fn missing_and_expired_collateral_are_told_apart() {
    use marblerun_software_tee::{CollateralOptions, Dates};
    use rustls_pki_types::UnixTime;
    use std::time::Duration;
    let fake = Fake::start(Script { offers_collateral: false, ..Script::new() });
    let place = place(&fake);
    let missing = run(&place, &fake, "status ADDRESS TRUST");
    assert!(missing.stderr.contains("no collateral for the Coordinator's platform "), "{}", missing.stderr);
    assert!(missing.stderr.ends_with("Hint: give a directory with --collateral\n"), "{}", missing.stderr);

    let bundle = fake.script().tee.bundle().display().to_string();
    let arguments = format!("status ADDRESS TRUST --collateral {bundle}");
    assert_eq!(run(&place, &fake, &arguments).code, 0);
    let day = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() - days * 86_400));
    let dates = Dates { issued: day(2), next_update: day(1) };
    fake.script().tee.export(&CollateralOptions { qe_identity_dates: Some(dates), ..CollateralOptions::default() });
    let expired = run(&place, &fake, &arguments);
    assert!(expired.stderr.contains("is out of date: "), "{}", expired.stderr);
    assert_eq!(expired.code, 1);
}

// rules: CLI-3
#[test]
fn a_second_manifest_is_refused_in_the_coordinators_words() {
    let fake = Fake::start(Script { refusal: Some("server is not in expected state"), ..Script::new() });
    let place = place(&fake);
    run(&place, &fake, "manifest set m.json ADDRESS TRUST").failed(
        "Error: POST https://ADDRESS/api/v2/manifest was refused with 500 Internal Server Error: error: server is not in \
         expected state",
    );
    assert!(!place.exists(CACHE));
}

// rules: ATT-1
#[test]
fn a_proxy_that_terminates_tls_gets_no_manifest() {
    let proxy = Identity::new("localhost", now());
    let fake = Fake::start(Script { proxy: Some((1, proxy)), ..Script::new() });
    let place = place(&fake);
    let run = run(&place, &fake, "manifest set m.json ADDRESS TRUST");
    assert!(run.stderr.contains("not the Coordinator's attested root certificate"), "{}", run.stderr);
    assert!(run.stderr.contains("proxy"), "{}", run.stderr);
    assert_eq!((run.code, fake.requests().len(), place.exists(CACHE)), (1, 1, false));
}

// rules: ATT-8
#[test]
fn the_quote_is_saved_as_it_came() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    assert_eq!(run(&place, &fake, "status ADDRESS TRUST --save-sgx-quote quote").code, 0);
    let quote = std::fs::read(place.path().join("quote")).unwrap();
    // Open Enclave header: version 1, type 2.
    assert_eq!(quote[..8], [1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(u64::from_le_bytes(quote[8..16].try_into().unwrap()) as usize, quote.len() - 16);
}

#[test]
fn the_result_is_printed_before_a_cache_that_cannot_be_written() {
    let fake = Fake::start(Script { manifest: Some(MANIFEST.into()), ..Script::new() });
    let place = place(&fake);
    place.write("home", "a file where a directory should be");
    let run = run(&place, &fake, "manifest verify m.json ADDRESS TRUST");
    assert!(run.stdout.ends_with("OK\n") && run.code == 1, "{}", run.stdout);
    assert!(run.stderr.starts_with("Error: cannot write certificate cache "), "{}", run.stderr);
}
