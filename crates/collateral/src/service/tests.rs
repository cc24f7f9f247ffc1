use marblerun_attestation::{Fmspc, PckCa, Tee};

use super::*;

const BASE: &str = "http://a/sgx/certification/v4/";

fn base() -> BaseUrl {
    BaseUrl::parse(BASE).unwrap()
}

fn testdata(name: &str) -> String {
    let root = std::env::var_os("MARBLERUN_TESTDATA").map_or_else(
        || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")),
        std::path::PathBuf::from,
    );
    std::fs::read_to_string(root.join("attestation").join(name)).unwrap()
}

/// Answers as the service would give that made this bundle file.
struct Served {
    bundle: serde_json::Value,
    answers: Answers,
}

fn encoded(chain: &str) -> String {
    chain.bytes().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => text + &char::from(byte).to_string(),
        _ => text + &format!("%{byte:02X}"),
    })
}

impl Served {
    fn new() -> Self {
        let bundle: serde_json::Value = serde_json::from_str(&testdata("swtee/sgx.collateral.json")).unwrap();
        let member = |name: &str| bundle[name].as_str().unwrap().to_owned();
        let answer = |path: &str, header: Option<(&'static str, &str)>, body: Vec<u8>| {
            let mut headers = http::HeaderMap::new();
            if let Some((name, chain)) = header {
                headers.insert(name, encoded(&member(chain)).parse().unwrap());
            }
            Answer { url: format!("{BASE}{path}"), headers, body }
        };
        let signed = |name: &str, text: &str| {
            format!("{{\"{name}\":{},\"signature\":\"{}\"}}", member(text), member(&format!("{text}_signature")))
        };
        let crl = |name: &str| hex::decode(member(name)).unwrap();
        let answers = Answers {
            tcb_info: answer(
                "tcb",
                Some(("tcb-info-issuer-chain", "tcb_info_issuer_chain")),
                signed("tcbInfo", "tcb_info").into(),
            ),
            qe_identity: answer(
                "qe/identity",
                Some(("SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain")),
                signed("enclaveIdentity", "qe_identity").into(),
            ),
            pck_crl: answer("pckcrl", Some(("SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain")), crl("pck_crl")),
            root_crl: answer("rootcacrl", None, crl("root_ca_crl")),
        };
        Self { bundle, answers }
    }

    /// The text that comes out is the bundle that went in.
    #[track_caller]
    fn check_same(&self) {
        let text = self.answers.assemble(&base()).unwrap();
        let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for (member, value) in self.bundle.as_object().unwrap() {
            if member != "pck_certificate_chain" {
                assert_eq!(&text[member], value, "{member}");
            }
        }
    }

    #[track_caller]
    fn check_refused(&self, message: &str) {
        let error = self.answers.assemble(&base()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().starts_with(BASE), "{error}");
    }
}

#[test]
fn each_item_has_its_url() {
    let platform = PlatformId { tee: Tee::Sgx, fmspc: Fmspc([0, 0x90, 0x6e, 0xd5, 0, 0]), ca: PckCa::Platform };
    let shown = |update| {
        let Requests { tcb_info, qe_identity, pck_crl, root_crl } = Requests::of(&base(), &platform, update);
        [tcb_info, qe_identity, pck_crl, root_crl].map(|location| location.to_string())
    };
    let standard = ["tcb?fmspc=00906ED50000", "qe/identity", "pckcrl?ca=platform&encoding=der", "rootcacrl"];
    assert_eq!(shown(TcbUpdate::Standard), standard.map(|name| format!("{BASE}{name}")));
    let early = ["tcb?fmspc=00906ED50000&update=early", "qe/identity?update=early"];
    assert_eq!(shown(TcbUpdate::Early)[..2], early.map(|name| format!("{BASE}{name}")));
}

// rules: ATT-2.1
#[test]
fn the_signed_texts_keep_their_exact_bytes() {
    let mut served = Served::new();
    served.check_same();
    // White space and the order of members are part of what was signed.
    let text = r#"{ "b" : 1,  "a":"\u0041" }"#;
    served.answers.tcb_info.body = format!(r#" {{"signature":"{}", "tcbInfo": {text} }} "#, "0".repeat(128)).into();
    served.bundle["tcb_info"] = text.into();
    served.bundle["tcb_info_signature"] = "0".repeat(128).into();
    served.check_same();
}

// rules: ATT-2.2
#[test]
fn both_names_of_the_tcb_info_chain_are_known_in_any_case() {
    for name in ["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain", "SGX-TCB-Info-Issuer-Chain"] {
        let mut served = Served::new();
        let chain = served.answers.tcb_info.headers.remove("tcb-info-issuer-chain").unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        served.answers.tcb_info.headers.insert(name, chain);
        served.check_same();
    }
    let mut served = Served::new();
    let chain = served.answers.tcb_info.headers["tcb-info-issuer-chain"].clone();
    served.answers.tcb_info.headers.insert("sgx-tcb-info-issuer-chain", chain);
    served.check_same();
}

#[test]
fn a_chain_that_was_removed_or_changed_on_the_way_is_named() {
    type Part = fn(&mut Answers) -> &mut Answer;
    let parts: [(Part, &'static str, &str); 3] = [
        (|answers| &mut answers.tcb_info, "tcb-info-issuer-chain", "TCB-Info-Issuer-Chain"),
        (|answers| &mut answers.qe_identity, "sgx-enclave-identity-issuer-chain", "SGX-Enclave-Identity-Issuer-Chain"),
        (|answers| &mut answers.pck_crl, "sgx-pck-crl-issuer-chain", "SGX-PCK-CRL-Issuer-Chain"),
    ];
    for (part, header, shown) in parts {
        let mut served = Served::new();
        let chain = part(&mut served.answers).headers.remove(header).unwrap();
        served.check_refused(&format!("expected the header {shown} with a certificate chain, got no such header"));
        let twice = encoded(chain.to_str().unwrap());
        for (value, got) in [
            ("", "nothing"),
            (" ", "nothing"),
            (twice.as_str(), "something else"),
            ("%ff", "bytes"),
            ("x", "something"),
        ] {
            part(&mut served.answers).headers.insert(header, value.parse().unwrap());
            served.check_refused(&format!("{shown} with a certificate chain, got {got}"));
        }
        let binary = http::HeaderValue::from_bytes(b"\xff").unwrap();
        part(&mut served.answers).headers.insert(header, binary);
        served.check_refused("got bytes that are no text");
    }
}

#[test]
fn a_broken_chain_is_no_collateral() {
    let mut served = Served::new();
    let broken = "-----BEGIN%20CERTIFICATE-----%0AMIIB";
    served.answers.tcb_info.headers.insert("tcb-info-issuer-chain", broken.parse().unwrap());
    served.check_refused("the answers are no collateral");
}

// rules: ATT-2.2
#[test]
fn revocation_lists_are_read_in_every_form_that_services_send() {
    let served = Served::new();
    for name in ["pck_crl", "root_ca_crl"] {
        let hex = served.bundle[name].as_str().unwrap().to_ascii_lowercase();
        let der = hex::decode(&hex).unwrap();
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
        let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"));
        for form in [
            der.clone(),
            hex.clone().into(),
            hex.to_ascii_uppercase().into(),
            format!("{hex}\n").into(),
            format!("{hex}\r\n").into(),
            format!("{hex}\0").into(),
            pem.clone().into(),
            pem.replace('\n', "\r\n").into(),
        ] {
            let mut served = Served::new();
            match name {
                "pck_crl" => served.answers.pck_crl.body = form,
                _ => served.answers.root_crl.body = form,
            }
            served.check_same();
        }
    }
}

#[test]
fn lists_in_other_forms_are_refused_with_the_url() {
    let certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    for (body, got) in [
        (&b""[..], "nothing"),
        (b"\r\n\0", "nothing"),
        (b"308", "an odd number of hex digits"),
        (b"<html>", "other text"),
        (b"\xff\xff", "other bytes"),
        (certificate.as_bytes(), "PEM without a block X509 CRL"),
    ] {
        let mut served = Served::new();
        served.answers.root_crl.body = body.to_vec();
        served.check_refused(&format!("rootcacrl: expected a revocation list as DER, hex, or PEM, got {got}"));
    }
    let mut served = Served::new();
    served.answers.pck_crl.body = vec![0x30, 0x82, 0xff];
    // Whatever looks like DER is passed on; verification reads it.
    served.answers.assemble(&base()).unwrap();
}

#[test]
fn texts_in_other_forms_are_refused_with_the_member() {
    let signature = "0".repeat(128);
    let twice = format!(r#"{{"tcbInfo":{{}},"tcbInfo":{{}},"signature":"{signature}"}}"#);
    for body in ["", "{}", "<html>", r#"{"tcbInfo":{}}"#, r#"{"tcbInfo":{"a":1,"signature":"00"}"#, &twice] {
        let mut served = Served::new();
        served.answers.tcb_info.body = body.into();
        served.check_refused("tcb: expected a JSON object with the members tcbInfo and signature");
    }
    let mut served = Served::new();
    served.answers.qe_identity.body = served.answers.tcb_info.body.clone();
    served.check_refused("members enclaveIdentity and signature");
    served.answers.qe_identity.body = r#"{"enclaveIdentity":{},"signature":"00"}"#.into();
    served.check_refused("the answers are no collateral");
}
