//! A throw-away DCAP world: root, PCK authority, PCK, TCB signer, lists, collateral and quotes.
//!
//! Everything is a plain value that a test may change before it is signed.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use base64::Engine as _;
use marblerun_attestation::{
    Collateral, CollateralError, Quote, TrustRoots, TrustedCollateral, VerifiedReport, VerifyError, verify,
};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::fixtures::at;

/// A second in which everything is valid.
pub(crate) const NOW: u64 = 1_795_392_000;
const DAY: u64 = 24 * 60 * 60;
const P256: &str = "1.2.840.10045.3.1.7";
pub(crate) const P384: &str = "1.3.132.0.34";

/// A P-256 key that can sign certificates (DER signatures) and everything else (r and s).
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self(key.to_pkcs8v1().unwrap().as_ref().to_vec())
    }

    fn pair(&self, algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(algorithm, &self.0).unwrap()
    }

    /// x and y.
    fn public(&self) -> [u8; 64] {
        let pair = self.pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        pair.public_key().as_ref()[1..].try_into().unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair(&ECDSA_P256_SHA256_FIXED_SIGNING).sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().try_into().unwrap()
    }

    fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        self.pair(&ECDSA_P256_SHA256_ASN1_SIGNING).sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

/// What a certificate says.
#[derive(Clone)]
pub(crate) struct CertificatePlan {
    pub(crate) subject: &'static str,
    pub(crate) serial: u8,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) is_ca: bool,
    pub(crate) sgx_extension: Option<Vec<u8>>,
    /// Object identifier of the key's curve.
    pub(crate) curve: &'static str,
}

impl CertificatePlan {
    fn new(subject: &'static str, serial: u8, is_ca: bool) -> Self {
        Self {
            subject,
            serial,
            not_before: NOW - 30 * DAY,
            not_after: NOW + 30 * DAY,
            is_ca,
            sgx_extension: None,
            curve: P256,
        }
    }
}

/// What a revocation list says.
#[derive(Clone)]
pub(crate) struct ListPlan {
    pub(crate) revoked: Vec<u8>,
    pub(crate) next_update: u64,
}

/// What the PCK says about its platform.
#[derive(Clone)]
pub(crate) struct PlatformPlan {
    pub(crate) fmspc: Vec<u8>,
    pub(crate) pce_id: Vec<u8>,
    pub(crate) cpu_svn: Vec<u8>,
    pub(crate) pce_svn: u16,
    pub(crate) sgx_type: u8,
}

/// Everything that a test may change.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) root: CertificatePlan,
    pub(crate) pck_ca: CertificatePlan,
    pub(crate) pck: CertificatePlan,
    pub(crate) signer: CertificatePlan,
    /// The TCB signer is issued by the PCK authority instead of the root.
    pub(crate) indirect_signer: bool,
    /// The TCB info is signed with the PCK.
    pub(crate) signed_by_pck: bool,
    pub(crate) root_list: ListPlan,
    pub(crate) pck_list: ListPlan,
    pub(crate) platform: PlatformPlan,
    pub(crate) tcb_info: Value,
    pub(crate) qe_identity: Value,
    pub(crate) report: [u8; 384],
    pub(crate) qe_report: [u8; 384],
    pub(crate) certification_type: u16,
    pub(crate) after_pem: &'static [u8],
    /// The collateral carries the PCK chain.
    pub(crate) chain_in_collateral: bool,
}

pub(crate) fn level(svn: u8, pce_svn: u16, status: &str, advisories: &[&str]) -> Value {
    json!({
        "tcb": { "sgxtcbcomponents": vec![json!({ "svn": svn }); 16], "pcesvn": pce_svn },
        "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories,
    })
}

pub(crate) fn qe_level(svn: u16, status: &str, advisories: &[&str]) -> Value {
    json!({
        "tcb": { "isvsvn": svn }, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories,
    })
}

impl Default for Plan {
    fn default() -> Self {
        let (issued, next) = ("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z");
        let mut report = [0; 384];
        report[48] = 0x05; // INIT, MODE64BIT
        report[64..96].fill(0xe1);
        report[128..160].fill(0x51);
        (report[256], report[258]) = (7, 3);
        let mut qe_report = [0; 384];
        qe_report[48] = 0x15;
        qe_report[128..160].fill(0x8c);
        (qe_report[256], qe_report[258]) = (1, 8);
        Self {
            root: CertificatePlan::new("Test Root CA", 1, true),
            pck_ca: CertificatePlan::new("Test PCK Platform CA", 2, true),
            pck: CertificatePlan::new("Test PCK", 3, false),
            signer: CertificatePlan::new("Test TCB Signing", 4, false),
            indirect_signer: false,
            signed_by_pck: false,
            root_list: ListPlan { revoked: vec![], next_update: NOW + 30 * DAY },
            pck_list: ListPlan { revoked: vec![], next_update: NOW + 30 * DAY },
            platform: PlatformPlan {
                fmspc: vec![0xff, 0x53, 0x57, 0x54, 0x45, 0x45],
                pce_id: vec![0, 0],
                cpu_svn: vec![5; 16],
                pce_svn: 13,
                sgx_type: 1,
            },
            tcb_info: json!({
                "id": "SGX", "version": 3, "issueDate": issued, "nextUpdate": next, "fmspc": "ff5357544545",
                "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17,
                "tcbLevels": [level(5, 13, "UpToDate", &[])],
            }),
            qe_identity: json!({
                "id": "QE", "version": 2, "issueDate": issued, "nextUpdate": next, "tcbEvaluationDataNumber": 18,
                "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
                "attributes": "11000000000000000000000000000000",
                "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
                "mrsigner": "8c".repeat(32), "isvprodid": 1,
                "tcbLevels": [qe_level(8, "UpToDate", &[]), qe_level(6, "OutOfDate", &["INTEL-SA-00615"])],
            }),
            report,
            qe_report,
            certification_type: 5,
            after_pem: b"",
            chain_in_collateral: false,
        }
    }
}

/// The keys; certificates are made anew for each plan.
pub(crate) struct World {
    root: Key,
    pck_ca: Key,
    pck: Key,
    signer: Key,
    attestation: Key,
}

/// What a plan becomes.
pub(crate) struct Made {
    pub(crate) root: Vec<u8>,
    pub(crate) collateral: Value,
    pub(crate) quote: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { root: Key::new(), pck_ca: Key::new(), pck: Key::new(), signer: Key::new(), attestation: Key::new() }
    }

    pub(crate) fn make(&self, plan: &Plan) -> Made {
        let root = certificate(&plan.root, &self.root, plan.root.subject, &self.root);
        let pck_ca = certificate(&plan.pck_ca, &self.pck_ca, plan.root.subject, &self.root);
        let pck_plan = CertificatePlan {
            sgx_extension: plan.pck.sgx_extension.clone().or_else(|| Some(sgx_extension(&plan.platform))),
            ..plan.pck.clone()
        };
        let pck = certificate(&pck_plan, &self.pck, plan.pck_ca.subject, &self.pck_ca);
        let (signer, signer_chain) = if plan.indirect_signer {
            let signer = certificate(&plan.signer, &self.signer, plan.pck_ca.subject, &self.pck_ca);
            (&self.signer, pem(&[&signer, &pck_ca, &root]))
        } else if plan.signed_by_pck {
            (&self.pck, pem(&[&pck, &pck_ca, &root]))
        } else {
            let signer = certificate(&plan.signer, &self.signer, plan.root.subject, &self.root);
            (&self.signer, pem(&[&signer, &root]))
        };
        let pck_chain = pem(&[&pck, &pck_ca, &root]);
        let (tcb_info, qe_identity) = (plan.tcb_info.to_string(), plan.qe_identity.to_string());
        let mut collateral = json!({
            "pck_crl_issuer_chain": pem(&[&pck_ca, &root]),
            "root_ca_crl": hex::encode(list(&plan.root_list, plan.root.subject, &self.root)),
            "pck_crl": hex::encode(list(&plan.pck_list, plan.pck_ca.subject, &self.pck_ca)),
            "tcb_info_issuer_chain": signer_chain,
            "tcb_info_signature": hex::encode(signer.sign(tcb_info.as_bytes())),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": signer_chain,
            "qe_identity_signature": hex::encode(signer.sign(qe_identity.as_bytes())),
            "qe_identity": qe_identity,
        });
        if plan.chain_in_collateral {
            collateral["pck_certificate_chain"] = pck_chain.clone().into();
        }
        let mut certification_data = pck_chain.into_bytes();
        certification_data.extend_from_slice(plan.after_pem);
        Made { root, collateral, quote: self.quote(plan, &certification_data) }
    }

    /// Signs a changed text of `made`'s collateral.
    pub(crate) fn sign_text(&self, collateral: &mut Value, member: &str, text: &str) {
        collateral[format!("{member}_signature")] = hex::encode(self.signer.sign(text.as_bytes())).into();
        collateral[member] = text.into();
    }

    fn quote(&self, plan: &Plan, certification_data: &[u8]) -> Vec<u8> {
        let mut quote = vec![3, 0, 2, 0, 0, 0, 0, 0, 8, 0, 13, 0];
        quote.extend_from_slice(&hex::decode("939A7233F79C4CA9940A0DB3957F0607").unwrap());
        quote.extend_from_slice(&[0; 20]);
        quote.extend_from_slice(&plan.report);
        let signature = self.attestation.sign(&quote);
        let key = self.attestation.public();
        let auth = [0xa5; 32];
        let mut qe_report = plan.qe_report;
        qe_report[320..352].copy_from_slice(digest(&SHA256, &[&key[..], &auth].concat()).as_ref());
        let certification_len = u32::try_from(certification_data.len()).unwrap();
        let auth_data = [
            &signature[..],
            &key,
            &qe_report,
            &self.pck.sign(&qe_report),
            &32_u16.to_le_bytes(),
            &auth,
            &plan.certification_type.to_le_bytes(),
            &certification_len.to_le_bytes(),
            certification_data,
        ]
        .concat();
        quote.extend_from_slice(&u32::try_from(auth_data.len()).unwrap().to_le_bytes());
        quote.extend_from_slice(&auth_data);
        quote
    }
}

impl Made {
    pub(crate) fn roots(&self) -> TrustRoots {
        TrustRoots::software([("test", self.root.as_slice())]).unwrap()
    }

    pub(crate) fn trusted_at(&self, now: UnixTime) -> Result<TrustedCollateral, CollateralError> {
        Collateral::parse(self.collateral.to_string().as_bytes())?.verify(&self.roots(), now)
    }

    pub(crate) fn trusted(&self) -> TrustedCollateral {
        self.trusted_at(at(NOW)).unwrap()
    }

    pub(crate) fn verify(&self) -> Result<VerifiedReport, VerifyError> {
        verify(&Quote::parse(&self.quote).unwrap(), &self.trusted(), at(NOW))
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = vec![tag];
    match length {
        0..=0x7f => der.push(length.to_le_bytes()[0]),
        _ => {
            der.push(0x82);
            der.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    // DER wants the shortest length.
    if (0x80..=0xff).contains(&length) {
        der.truncate(1);
        der.extend_from_slice(&[0x81, length.to_le_bytes()[0]]);
    }
    der.extend_from_slice(content);
    der
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn oid(text: &str) -> Vec<u8> {
    tlv(0x06, der::asn1::ObjectIdentifier::new(text).unwrap().as_bytes())
}

fn integer(value: u16) -> Vec<u8> {
    let bytes: &[u8] = &value.to_be_bytes();
    let bytes = if value < 0x80 { &bytes[1..] } else { bytes };
    tlv(0x02, bytes)
}

fn date(seconds: u64) -> Vec<u8> {
    let date = der::DateTime::from_unix_duration(std::time::Duration::from_secs(seconds)).unwrap();
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minutes(),
        date.seconds()
    );
    if date.year() < 2050 { tlv(0x17, &text.as_bytes()[2..]) } else { tlv(0x18, text.as_bytes()) }
}

fn name(common_name: &str) -> Vec<u8> {
    sequence(&[tlv(0x31, &sequence(&[oid("2.5.4.3"), tlv(0x0c, common_name.as_bytes())]))])
}

fn ecdsa_sha256() -> Vec<u8> {
    sequence(&[oid("1.2.840.10045.4.3.2")])
}

fn signed(to_be_signed: Vec<u8>, key: &Key) -> Vec<u8> {
    let signature = [vec![0], key.sign_der(&to_be_signed)].concat();
    sequence(&[to_be_signed, ecdsa_sha256(), tlv(0x03, &signature)])
}

fn certificate(plan: &CertificatePlan, key: &Key, issuer: &str, issuer_key: &Key) -> Vec<u8> {
    let critical = tlv(0x01, &[0xff]);
    let constraints = if plan.is_ca { sequence(std::slice::from_ref(&critical)) } else { sequence(&[]) };
    let usage: &[u8] = if plan.is_ca { &[0x01, 0x06] } else { &[0x06, 0xc0] };
    let mut extensions = vec![
        sequence(&[oid("2.5.29.19"), critical.clone(), tlv(0x04, &constraints)]),
        sequence(&[oid("2.5.29.15"), critical, tlv(0x04, &tlv(0x03, usage))]),
    ];
    if let Some(extension) = &plan.sgx_extension {
        extensions.push(sequence(&[oid("1.2.840.113741.1.13.1"), tlv(0x04, extension)]));
    }
    let point = [&[0, 4], &key.public()[..]].concat();
    let spki = sequence(&[sequence(&[oid("1.2.840.10045.2.1"), oid(plan.curve)]), tlv(0x03, &point)]);
    let to_be_signed = sequence(&[
        tlv(0xa0, &tlv(0x02, &[2])),
        tlv(0x02, &[plan.serial]),
        ecdsa_sha256(),
        name(issuer),
        sequence(&[date(plan.not_before), date(plan.not_after)]),
        name(plan.subject),
        spki,
        tlv(0xa3, &sequence(&extensions)),
    ]);
    signed(to_be_signed, issuer_key)
}

fn list(plan: &ListPlan, issuer: &str, key: &Key) -> Vec<u8> {
    let issued = NOW - 10 * DAY;
    let mut parts = vec![tlv(0x02, &[1]), ecdsa_sha256(), name(issuer), date(issued), date(plan.next_update)];
    if !plan.revoked.is_empty() {
        let revoked: Vec<_> =
            plan.revoked.iter().map(|&serial| sequence(&[tlv(0x02, &[serial]), date(issued)])).collect();
        parts.push(sequence(&revoked));
    }
    let number = sequence(&[oid("2.5.29.20"), tlv(0x04, &tlv(0x02, &[1]))]);
    let key_id = sequence(&[oid("2.5.29.35"), tlv(0x04, &sequence(&[tlv(0x80, &[7; 20])]))]);
    parts.push(tlv(0xa0, &sequence(&[number, key_id])));
    signed(sequence(&parts), key)
}

/// The extension of a Platform CA's PCK, with all members.
pub(crate) fn sgx_extension(plan: &PlatformPlan) -> Vec<u8> {
    let id = |suffix: &str| oid(&format!("1.2.840.113741.1.13.1.{suffix}"));
    let entry = |suffix: &str, value: Vec<u8>| sequence(&[id(suffix), value]);
    let mut tcb: Vec<_> = (1..=16)
        .map(|component| {
            entry(&format!("2.{component}"), integer(u16::from(plan.cpu_svn.first().copied().unwrap_or(0))))
        })
        .collect();
    tcb.push(entry("2.17", integer(plan.pce_svn)));
    tcb.push(entry("2.18", tlv(0x04, &plan.cpu_svn)));
    let flags: Vec<_> = (1..=3).map(|flag| entry(&format!("7.{flag}"), tlv(0x01, &[0xff]))).collect();
    sequence(&[
        entry("1", tlv(0x04, &[0x11; 16])),
        entry("2", sequence(&tcb)),
        entry("3", tlv(0x04, &plan.pce_id)),
        entry("4", tlv(0x04, &plan.fmspc)),
        entry("5", tlv(0x0a, &[plan.sgx_type])),
        entry("6", tlv(0x04, &[0x66; 16])),
        entry("7", sequence(&flags)),
    ])
}

pub(crate) fn pem(chain: &[&Vec<u8>]) -> String {
    let mut text = String::new();
    for der in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let base64 = base64::engine::general_purpose::STANDARD.encode(der);
        for line in base64.as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
