//! `collateral`: fetched from a service of the software TEE, shown, exported.

use std::fs;
use std::process::Command;

use marblerun_software_tee::service::{CollateralService, Rule, ServiceOptions};
use marblerun_software_tee::{CollateralOptions, Dates, DevelopmentRoot, EnclaveIdentity, RootOptions};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::fake::{Fake, Script};
use crate::{Place, Run};

const PLATFORM_FILE: &str = "bundle/dcap/sgx-FF5357544545-platform.json";

/// A vendor with its service, and a directory in which its root is `root/root.pem`.
struct Vendor {
    place: Place,
    service: CollateralService,
}

impl Vendor {
    fn new() -> Self {
        let place = Place::new();
        let root =
            DevelopmentRoot::create(&place.path().join("root"), UnixTime::now(), RootOptions::default()).unwrap();
        let identity =
            EnclaveIdentity { mr_enclave: [1; 32], mr_signer: [2; 32], isv_prod_id: 1, isv_svn: 1, debug: false };
        place.write("quote.bin", root.quote(&identity, &[0; 64]).unwrap());
        place.write("other-quote.bin", "no quote");
        let service = CollateralService::start(root, ServiceOptions::default()).unwrap();
        Self { place, service }
    }

    fn misbehave(&self, rule: &str) {
        self.service.misbehave([rule.parse::<Rule>().unwrap()]);
    }

    /// Fetches with the software root trusted.
    fn fetch(&self, flags: &str) -> Run {
        let url = self.service.url();
        self.place.run(&format!("collateral fetch --url {url} --trust-software-root root/root.pem {flags}"))
    }

    fn show(&self, flags: &str) -> Run {
        self.place.run(&format!("collateral show --trust-software-root root/root.pem {flags}"))
    }

    fn export(&self, flags: &str) -> Run {
        self.place.run(&format!("collateral export --trust-software-root root/root.pem {flags}"))
    }

    /// Writes collateral into a bundle directory.
    fn write_bundle(&self, directory: &str, options: &CollateralOptions) {
        let root = DevelopmentRoot::open(&self.place.path().join("root"), UnixTime::now()).unwrap();
        root.export_bundle(&self.place.path().join(directory), UnixTime::now(), options).unwrap();
    }
}

impl Run {
    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        for word in words {
            let text = format!("{}{}", self.stdout, self.stderr);
            assert!(text.contains(word), "expected {word:?}, got:\n{text}");
        }
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

#[test]
fn the_collateral_of_a_quotes_platform_is_fetched_and_verifies_offline() {
    let vendor = Vendor::new();
    vendor.fetch("--quote quote.bin -o bundle").says(
        0,
        &[
            "Fetching collateral of sgx FF5357544545 (platform CA) from http://127.0.0.1:",
            PLATFORM_FILE,
            "verified under root/root.pem (software root)",
            "TCB info: issued 2",
            "evaluation numbers: TCB info 1, QE identity 1",
            "TCB levels: 1, the newest of 2026-01-01T00:00:00Z",
            "fetched: 1 file, all valid until 2",
        ],
    );
    assert_eq!(fs::read_dir(vendor.place.path().join("bundle/dcap")).unwrap().count(), 1);
    drop(vendor.service);
    let run = vendor.place.run("collateral show bundle --trust-software-root root/root.pem");
    run.says(0, &["1 of 1 verified, valid until 2"]);
}

#[test]
fn without_a_ca_that_of_both_is_fetched_and_with_one_only_that() {
    let vendor = Vendor::new();
    vendor.fetch("--fmspc ff5357544545 -o bundle").says(0, &[PLATFORM_FILE, "-processor.json", "fetched: 2 files"]);
    vendor.fetch("--fmspc FF5357544545 --ca processor -o one").says(0, &["fetched: 1 file"]);
    assert!(!vendor.place.exists("one/dcap/sgx-FF5357544545-platform.json"));
}

#[test]
fn the_service_is_found_in_a_qcnl_file() {
    let vendor = Vendor::new();
    let text = format!("{{\n  // the service\n  \"pccs_url\": \"{}\"\n}}\n", vendor.service.url());
    vendor.place.write("qcnl.conf", text);
    let flags = "--quote quote.bin --trust-software-root root/root.pem -o bundle";
    vendor.place.run(&format!("collateral fetch --qcnl qcnl.conf {flags}")).says(0, &["fetched: 1 file"]);
    vendor.place.write("qcnl.conf", "{\n  \"pccs_url\": \"https://a/sgx/certification/v4/\"\n  \"retry\": 1\n}\n");
    vendor
        .place
        .run(&format!("collateral fetch --qcnl qcnl.conf {flags}"))
        .says(1, &["Error: ", "qcnl.conf", "line 3"]);
}

#[test]
fn what_does_not_verify_is_not_written() {
    let vendor = Vendor::new();
    for (rule, reason) in [
        ("expired=tcb-info", "TCB info expired"),
        ("tampered=tcb-info", "TCB info"),
        ("wrong-fmspc", "expected collateral for FMSPC FF5357544545, got FF5357544544"),
        ("revoked=tcb-signing", "revoked"),
    ] {
        vendor.misbehave(rule);
        vendor.fetch("--quote quote.bin -o bundle").says(1, &["Error: collateral from http://127.0.0.1:", reason]);
        assert!(!vendor.place.exists("bundle"), "{rule}");
    }
    vendor.service.behave();
    // Under Intel's root.
    let url = vendor.service.url();
    let run = vendor.place.run(&format!("collateral fetch --url {url} --quote quote.bin -o bundle"));
    run.says(1, &["software TEE", "Hint: "]);
    assert!(!vendor.place.exists("bundle"));
}

#[test]
fn old_collateral_stays_where_new_cannot_be_had() {
    let vendor = Vendor::new();
    vendor.fetch("--quote quote.bin -o bundle").says(0, &[]);
    let before = vendor.place.read(PLATFORM_FILE);
    for (rule, reason) in [
        ("http=503", "503"),
        ("too-many-requests=60", "429"),
        ("redirect", "redirect"),
        ("issuer-chain=missing", "-Issuer-Chain"),
        ("garbage", "HTTP"),
        ("http=404", "no collateral for sgx FF5357544545"),
    ] {
        vendor.misbehave(rule);
        let run = vendor.fetch("--quote quote.bin -o bundle");
        run.says(1, &["Error: collateral of sgx FF5357544545 (platform CA) cannot be fetched: ", reason, "Hint: "]);
        assert_eq!(vendor.place.read(PLATFORM_FILE), before, "{rule}");
    }
}

#[test]
fn a_service_that_never_answers_is_given_up() {
    let vendor = Vendor::new();
    vendor.misbehave("qe-identity:silence");
    let run = vendor.fetch("--quote quote.bin -o bundle --timeout 1");
    run.says(1, &["qe/identity: expected an answer within 1 s, got none"]);
}

#[test]
fn flags_that_say_too_little_or_nothing_sensible_are_refused() {
    let vendor = Vendor::new();
    let place = &vendor.place;
    let url = vendor.service.url();
    place.run("collateral fetch --fmspc FF5357544545 -o bundle").says(1, &["--url", "--qcnl"]);
    place.run(&format!("collateral fetch --url {url} -o bundle")).says(1, &["--quote", "--fmspc"]);
    place.run(&format!("collateral fetch --url {url} --fmspc 12 -o b")).says(1, &["expected 12 hexadecimal digits"]);
    let no_path = "collateral fetch --url https://pccs:8081 --fmspc FF5357544545 -o b";
    place.run(no_path).says(1, &["path ends with /sgx/certification/v4/", "give the full URL"]);
    vendor.fetch("--quote other-quote.bin -o bundle").says(1, &["Error: quote of other-quote.bin"]);
    assert!(vendor.service.requests().is_empty());
}

#[test]
fn machine_readable_output_holds_the_collateral_and_writes_no_file() {
    let vendor = Vendor::new();
    let value = vendor.fetch("--quote quote.bin -o json").json();
    let platform = &value["platforms"][0];
    assert_eq!(platform["file"], "dcap/sgx-FF5357544545-platform.json");
    assert_eq!((&platform["verified"], &platform["reason"]), (&true.into(), &Value::Null));
    assert_eq!(platform["expires"], value["expires"]);
    let text = platform["collateral"].as_str().unwrap();
    fs::create_dir_all(vendor.place.path().join("bundle/dcap")).unwrap();
    vendor.place.write(PLATFORM_FILE, text);

    let shown = vendor.show("bundle --output json").json();
    let shown = &shown["platforms"][0];
    assert_eq!(shown["items"], platform["items"]);
    assert_eq!(shown["items"][2]["item"], "root CA revocation list");
    assert_eq!(shown["evaluationNumbers"]["tcbInfo"], 1);
    assert_eq!((shown["fmspc"].as_str(), shown["ca"].as_str()), (Some("FF5357544545"), Some("platform")));
}

#[test]
fn a_bundle_that_does_not_verify_is_shown_with_the_reason_and_a_code_of_its_own() {
    let vendor = Vendor::new();
    let now = UnixTime::now().as_secs();
    let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let dates = Dates { issued: at(now - 7200), next_update: at(now - 3600) };
    vendor.write_bundle("old", &CollateralOptions { qe_identity_dates: Some(dates), ..Default::default() });
    vendor.show("old").says(2, &["NOT VERIFIED: ", "QE identity expired", "0 of 1 verified"]);
    vendor.write_bundle("good", &CollateralOptions::default());
    vendor.show("good old").says(2, &["1 of 2 verified, valid until"]);
    vendor.place.run("collateral show good").says(2, &["NOT VERIFIED: ", "software TEE"]);
    vendor.place.write("good/dcap/sgx-00906ED50000-platform.json", "{}");
    vendor.show("good").says(2, &["sgx 00906ED50000 (platform CA)", "TCB info: issued ?, next update ?", "1 of 2"]);
    vendor.place.write("good/dcap/readme.txt", "not collateral");
    vendor.show("good/dcap").says(2, &["1 of 2"]);
    vendor.show("good/dcap/readme.txt").says(1, &["expected a collateral file with a name like", "readme.txt"]);
    vendor.show("nowhere").says(1, &["cannot read collateral nowhere"]);
    vendor.show("root").says(1, &["expected collateral files", "in root, got none"]);
}

#[test]
fn an_export_takes_what_verifies_and_warns_of_the_rest() {
    let vendor = Vendor::new();
    vendor.write_bundle("cache", &CollateralOptions::default());
    vendor.place.write("cache/dcap/sgx-00906ED50000-platform.json", "{}");
    vendor.export("cache -o bundle").says(
        0,
        &[
            "Warning: cache/dcap/sgx-00906ED50000-platform.json is left out: ",
            "exported to bundle: 1 file, all valid until",
        ],
    );
    assert_eq!(vendor.place.read(PLATFORM_FILE), vendor.place.read("cache/dcap/sgx-FF5357544545-platform.json"));
    assert!(!vendor.place.exists("bundle/dcap/sgx-00906ED50000-platform.json"));

    vendor
        .place
        .run("collateral export cache -o other")
        .says(1, &["nothing from cache verifies", "--trust-software-root"]);
    assert!(!vendor.place.exists("other"));
    vendor.export("nowhere -o other").says(1, &["cannot read collateral nowhere"]);
}

#[test]
fn an_archive_becomes_a_bundle_with_tar() {
    let vendor = Vendor::new();
    vendor.write_bundle("cache", &CollateralOptions::default());
    vendor.export("cache -o bundle.tar").says(0, &["exported to bundle.tar: 1 file"]);
    let place = vendor.place.path();
    fs::create_dir(place.join("bundle")).unwrap();
    let unpacked = Command::new("tar").args(["-xf", "bundle.tar", "-C", "bundle"]).current_dir(place).status().unwrap();
    assert!(unpacked.success());
    vendor.show("bundle").says(0, &["1 of 1 verified"]);
    vendor.export("cache -o bundle.tar").says(1, &["cannot write collateral bundle.tar", "not overwritten"]);
}

#[test]
fn a_coordinator_names_its_platform_and_gives_its_collateral() {
    let vendor = Vendor::new();
    let coordinator = Fake::start(Script::new());
    let address = coordinator.address();
    vendor.place.write("fake.der", coordinator.script().tee.root.root_der());
    // The fake's TEE has a root of its own; the vendor serves the same kind of platform under another.
    vendor.fetch(&format!("{address} -o bundle")).says(0, &["fetched: 1 file"]);
    let flags = format!("collateral export {address} --trust-software-root fake.der -o from-coordinator");
    vendor.place.run(&flags).says(0, &[&format!("from {address}"), "exported to from-coordinator: 1 file"]);
}

#[test]
fn the_file_of_intels_client_tool_becomes_a_bundle() {
    let vendor = Vendor::new();
    let fetched = vendor.fetch("--quote quote.bin -o json").json();
    let text = fetched["platforms"][0]["collateral"].as_str().unwrap();
    let bundle: Value = serde_json::from_str(text).unwrap();
    let member = |name: &str| bundle[name].as_str().unwrap();
    let encoded = |name: &str| member(name).replace(' ', "%20").replace('\n', "%0A").replace('+', "%2B");
    // Blanks behind colons and commas, as the tool writes them; no text in it holds these characters.
    let spaced = |name: &str| member(name).replace("\":", "\": ").replace(',', ", ");
    let identity = format!(
        "{{\"enclaveIdentity\":{},\"signature\":\"{}\"}}",
        member("qe_identity"),
        member("qe_identity_signature")
    );
    let file = format!(
        r#"{{"platforms": [], "collaterals": {{"version": 4, "pck_certs": [],
        "tcbinfos": [{{"fmspc": "ff5357544545", "sgx_tcbinfo": {{"tcbInfo": {}, "signature": "{}"}}}}],
        "pckcacrl": {{"processorCrl": "00", "platformCrl": "{}"}},
        "qeidentity": {}, "tdqeidentity": "",
        "certificates": {{"SGX-PCK-Certificate-Issuer-Chain": {{"PLATFORM": "{}"}},
            "TCB-Info-Issuer-Chain": "{}", "SGX-Enclave-Identity-Issuer-Chain": "{}"}},
        "rootcacrl_cdp": "", "rootcacrl": "{}"}}}}"#,
        spaced("tcb_info"),
        member("tcb_info_signature"),
        member("pck_crl"),
        Value::from(identity),
        encoded("pck_crl_issuer_chain"),
        encoded("tcb_info_issuer_chain"),
        encoded("qe_identity_issuer_chain"),
        member("root_ca_crl"),
    );
    vendor.place.write("platform_collaterals.json", &file);
    vendor.export("platform_collaterals.json -o bundle").says(0, &["exported to bundle: 1 file"]);
    vendor.show("bundle").says(0, &["1 of 1 verified"]);

    vendor.place.write("platform_collaterals.json", file.replace("UpToDate", "OutOfDate"));
    let run = vendor.export("platform_collaterals.json -o other");
    run.says(1, &["sgx FF5357544545 (platform CA) in platform_collaterals.json is left out: ", "nothing from"]);
    vendor.place.write("platform_collaterals.json", "{}");
    vendor.export("platform_collaterals.json -o other").says(1, &["is neither a bundle file nor one of Intel's"]);
}
