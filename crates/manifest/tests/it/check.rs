//! Every reason to refuse a manifest: a good one, one thing changed, the text that people read.

use std::error::Error;
use std::fmt::Write;

use marblerun_manifest::{AzureHsm, CheckError, Manifest, PemError};
use serde_json::{Value, json};

use crate::{activation_file, recovery_key_pem};

/// A manifest that uses every section and passes.
pub(crate) fn good() -> Value {
    let id = "1".repeat(64);
    json!({
        "Packages": {
            "app": {"SignerID": id, "ProductID": 1, "SecurityVersion": 2},
            "pinned": {"UniqueID": id},
        },
        "Marbles": {
            "web": {
                "Package": "app",
                "TLS": ["front"],
                "Parameters": {"Argv": ["/bin/web"], "Env": {"TOKEN": "{{ string .Secrets.token }}"},
                    "Files": {"/key": "{{ raw .Secrets.disk }}", "/crt": "{{ pem .Secrets.srv.Cert }}"}},
            },
            "job": {"Package": "pinned", "Parameters": {"Argv": ["/bin/job"]}},
        },
        "Secrets": {
            "token": {"Type": "plain", "UserDefined": true},
            "disk": {"Type": "symmetric-key", "Size": 256},
            "srv": {"Type": "cert-ecdsa", "Size": 256, "Shared": true, "Cert": {"DNSNames": ["web"]}},
        },
        "TLS": {"front": {
            "Incoming": [{"Port": "8443", "Cert": "srv", "DisableClientAuth": true}],
            "Outgoing": [{"Addr": "db", "Port": "5432"}],
        }},
        "Users": {
            "ann": {"Certificate": activation_file("ann.pem"), "Roles": ["tokens", "admin"]},
            "ben": {"Certificate": activation_file("ben.pem"), "Roles": ["versions"]},
        },
        "Roles": {
            "tokens": {"ResourceType": "Secrets", "ResourceNames": ["token"], "Actions": ["writesecret"]},
            "admin": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
            "versions": {"ResourceType": "Packages", "ResourceNames": ["app"], "Actions": ["UpdateSecurityVersion"]},
        },
        "RecoveryKeys": {"ops": recovery_key_pem()},
        "Config": {"FeatureGates": ["MonotonicCounter"], "SealMode": "ProductKey", "UpdateThreshold": 1},
    })
}

/// Sets a member (or removes it, by null) and gives the manifest.
pub(crate) fn with(pointer: &str, value: Value) -> Manifest {
    let mut manifest = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = manifest.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
    match parent {
        Value::Object(members) => {
            members.insert(name.replace("~1", "/"), value);
        }
        Value::Array(elements) => elements[name.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer} is no container"),
    }
    Manifest::decode(manifest.to_string().as_bytes()).unwrap()
}

fn refusal(pointer: &str, value: Value) -> CheckError {
    let manifest = with(pointer, value);
    let error = manifest.check(AzureHsm::Unavailable).expect_err(pointer);
    assert!(error.to_string().starts_with(&format!("{}: ", error.place())), "{error}");
    error
}

/// The whole chain and the hint, as a printer shows them.
fn text(error: &CheckError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        write!(text, "\n    hint: {hint}").unwrap();
    }
    text
}

#[test]
fn a_manifest_without_mistakes_passes() {
    let manifest = Manifest::decode(good().to_string().as_bytes()).unwrap();
    assert_eq!(manifest.check(AzureHsm::Unavailable), Ok(()));
}

// rules: CHK-1, SET-2, SAFE-3, SAFE-11, SAFE-13, ACT-5.3, ACT-6.5, ACT-7.5
#[test]
fn each_mistake_is_refused_with_its_place() {
    let id = "1".repeat(64);
    let ann = activation_file("ann.pem");
    let cases = [
        ("/Packages", json!({})),
        ("/Marbles", json!({})),
        ("/Marbles/web/Package", json!("App")),
        ("/Marbles/web/Package", json!("")),
        ("/Packages/pinned/SignerID", json!(id)),
        ("/Packages/pinned/ProductID", json!(0)),
        ("/Packages/pinned/SecurityVersion", json!(0)),
        ("/Packages/app/SignerID", json!("")),
        ("/Packages/app/ProductID", json!(null)),
        ("/Packages/app/SecurityVersion", json!(null)),
        ("/Marbles/web/TLS/0", json!("font")),
        ("/TLS/front/Incoming/0/Port", json!("")),
        ("/TLS/front/Incoming/0/Cert", json!("svr")),
        ("/TLS/front/Incoming/0/DisableClientAuth", json!(false)),
        ("/TLS/front/Incoming/0/Cert", json!("")),
        ("/TLS/front/Outgoing/0/Addr", json!("")),
        ("/TLS/front/Outgoing/0/Port", json!("")),
        ("/Users/ann/Certificate", json!("")),
        ("/Users/ann/Roles/1", json!("Admin")),
        ("/Users/ben/Certificate", json!(ann)),
        ("/Users/ben/Certificate", json!(format!("text before\n{ann}"))),
        ("/Roles/versions/ResourceNames/0", json!("ap")),
        ("/Roles/versions/Actions/0", json!("UpdateManifest")),
        ("/Roles/tokens/Actions/0", json!("DeleteSecret")),
        ("/Roles/tokens/ResourceNames/0", json!("tokne")),
        ("/Roles/tokens/ResourceNames/0", json!("disk")),
        ("/Roles/tokens", json!({"ResourceType": "Secrets", "ResourceNames": ["disk"], "Actions": ["ReadSecret"]})),
        ("/Roles/admin/ResourceNames", json!(["app"])),
        ("/Roles/admin/Actions/0", json!("Update")),
        ("/Roles/admin/ResourceType", json!("manifest")),
        ("/Secrets/disk/Type", json!("Symmetric-Key")),
        (
            "/Secrets/srv",
            json!({"Type": "cert-ecdsa", "Size": 256, "Shared": true, "ValidFor": 1,
            "Cert": {"NotAfter": "2031-01-01T00:00:00Z"}}),
        ),
        ("/Config/UpdateThreshold", json!(2)),
        ("/Config/SealMode", json!("productkey")),
        ("/Config/FeatureGates/0", json!("MonotonicCounters")),
        ("/Config/FeatureGates/0", json!("azurehsmsealing")),
        ("/Config/RecoveryThreshold", json!(2)),
        ("/Config/RecoveryThreshold", json!(1)),
        ("/Secrets/disk/Size", json!(0)),
        ("/Secrets/disk/Size", json!(12)),
        ("/Secrets/disk/Size", json!(65288)),
        ("/Secrets/disk", json!({"Type": "symmetric-key", "Size": 8388616, "Shared": true})),
        ("/Secrets/disk", json!({"Type": "cert-rsa", "Size": 1024})),
        ("/Secrets/srv/Size", json!(224)),
        ("/Secrets/disk", json!({"Type": "cert-ed25519", "Size": 256})),
        ("/Secrets/disk", json!({"Type": "plain"})),
        ("/Secrets/srv/Cert/SignatureAlgorithm", json!(9)),
        ("/Secrets/srv/Cert/ExtKeyUsage", json!([1, 14])),
        ("/Secrets/srv/Cert/MaxPathLen", json!(-2)),
        ("/Secrets/srv/Cert/MaxPathLen", json!(1)),
        ("/Secrets/srv/Cert", json!({"MaxPathLenZero": true})),
        ("/Secrets/srv/Cert/DNSNames/0", json!("bücher.example")),
        ("/Secrets/srv/Cert/IPAddresses", json!(["::1", ""])),
        ("/Secrets/srv/Cert/URIs", json!([null])),
        ("/Secrets/srv/Cert/PermittedIPRanges", json!([{"IP": "10.0.0.0", "Mask": "/w=="}])),
        ("/Secrets/srv/Cert/ExcludedIPRanges", json!([null])),
        ("/Secrets/srv/Cert/ExtraExtensions", json!([{"Id": [1, 3, 9903, 2, 1], "Value": "d2Vi"}])),
        ("/RecoveryKeys/ops", json!("")),
        ("/RecoveryKeys/ops", json!(ann)),
        ("/Users/ann/Certificate", json!("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")),
        ("/Users/ann/Certificate", json!(ann.replace('\n', "\\n"))),
        ("/Marbles/web/Parameters/Env/TOKEN", json!({"Data": "AA==", "Encoding": "base64", "NoTemplates": true})),
    ];
    let texts: Vec<String> = cases.into_iter().map(|(pointer, value)| text(&refusal(pointer, value))).collect();
    insta::assert_snapshot!(texts.join("\n"), @r##"
    Packages: expected at least one package, got none
    Marbles: expected at least one Marble, got none
    Marbles.web.Package: expected the name of a package, got "App"
        hint: did you mean "app"?
    Marbles.web.Package: expected the name of a package, got ""
    Packages.pinned: expected UniqueID alone or SignerID, ProductID and SecurityVersion, got UniqueID with SignerID
        hint: the unique ID already pins the enclave and its version
    Packages.pinned: expected UniqueID alone or SignerID, ProductID and SecurityVersion, got UniqueID with ProductID
        hint: the unique ID already pins the enclave and its version
    Packages.pinned: expected UniqueID alone or SignerID, ProductID and SecurityVersion, got UniqueID with SecurityVersion
        hint: the unique ID already pins the enclave and its version
    Packages.app.SignerID: expected UniqueID, or SignerID with ProductID and SecurityVersion, got nothing here
        hint: ask the image: marblerun package-info
    Packages.app.ProductID: expected UniqueID, or SignerID with ProductID and SecurityVersion, got nothing here
        hint: ask the image: marblerun package-info
    Packages.app.SecurityVersion: expected UniqueID, or SignerID with ProductID and SecurityVersion, got nothing here
        hint: ask the image: marblerun package-info
    Marbles.web.TLS[0]: expected the name of a TLS tag, got "font"
        hint: did you mean "front"?
    TLS.front.Incoming[0].Port: expected a value, got none
    TLS.front.Incoming[0].Cert: expected the name of a secret, got "svr"
        hint: did you mean "srv"?
    TLS.front.Incoming[0]: expected DisableClientAuth true together with Cert, got false
    TLS.front.Incoming[0]: expected Cert together with DisableClientAuth, got none
    TLS.front.Outgoing[0].Addr: expected a value, got none
    TLS.front.Outgoing[0].Port: expected a value, got none
    Users.ann.Certificate: expected a certificate in PEM form, got none
    Users.ann.Roles[1]: expected the name of a role, got "Admin"
        hint: did you mean "admin"?
    Users.ben.Certificate: expected another certificate than that of Users.ann, got the same
    Users.ben.Certificate: expected another certificate than that of Users.ann, got the same
    Roles.versions.ResourceNames[0]: expected the name of a package, got "ap"
    Roles.versions.Actions[0]: expected UpdateSecurityVersion, got "UpdateManifest"
    Roles.tokens.Actions[0]: expected ReadSecret or WriteSecret, got "DeleteSecret"
    Roles.tokens.ResourceNames[0]: expected the name of a secret, got "tokne"
        hint: did you mean "token"?
    Roles.tokens.ResourceNames[0]: expected a user-defined secret for WriteSecret, got the generated secret "disk"
    Roles.tokens.ResourceNames[0]: expected a shared or user-defined secret for ReadSecret, got "disk", which each Marble has anew
    Roles.admin.ResourceNames: expected no names with ResourceType "Manifest", got 1
    Roles.admin.Actions[0]: expected UpdateManifest, got "Update"
    Roles.admin.ResourceType: expected "Packages", "Secrets" or "Manifest", got "manifest"
    Secrets.disk.Type: expected symmetric-key, cert-rsa, cert-ecdsa, cert-ed25519 or plain, got "Symmetric-Key"
    Secrets.srv: expected either ValidFor or Cert.NotAfter, got both
    Config.UpdateThreshold: expected at most 1, the number of users who may update the manifest, got 2
    Config.SealMode: expected ProductKey, UniqueKey or Disabled, got "productkey"
        hint: upper and lower case count
    Config.FeatureGates[0]: expected SignQuoteEndpoint, MonotonicCounter or AzureHSMSealing, got "MonotonicCounters"
    Config.FeatureGates[0]: expected a feature that this Coordinator has, got AzureHSMSealing
        hint: set EDG_MAA_URL, EDG_AZURE_HSM_VAULT_URL, EDG_AZURE_HSM_KEY_NAME, EDG_AZURE_CLIENT_ID, EDG_AZURE_TENANT_ID, and EDG_AZURE_CLIENT_SECRET or both EDG_AZURE_AUTHORITY_HOST and EDG_AZURE_FEDERATED_TOKEN_FILE, on a Coordinator built with this feature
    Config.RecoveryThreshold: expected at most the number of recovery keys, 1, got 2
    Config.RecoveryThreshold: expected 0 (all keys) or at least 2, got 1
    Secrets.disk.Size: expected a number of bits divisible by 8, from 8 to 65280 unless Shared, got 0
    Secrets.disk.Size: expected a number of bits divisible by 8, from 8 to 65280 unless Shared, got 12
    Secrets.disk.Size: expected a number of bits divisible by 8, from 8 to 65280 unless Shared, got 65288
    Secrets.disk.Size: expected a number of bits divisible by 8, from 8 to 8388608, got 8388616
    Secrets.disk.Size: expected 2048, 3072, 4096 or 8192 bits, got 1024
    Secrets.srv.Size: expected 256, 384 or 521 bits (P-256, P-384, P-521), got 224
    Secrets.disk.Size: expected no size for an Ed25519 key, got 256
    Secrets.disk: expected UserDefined true, because plain secrets cannot be generated, got false
    Secrets.srv.Cert.SignatureAlgorithm: expected 0 (default), 10, 11 or 12 (ECDSA with SHA-256, SHA-384, SHA-512), got 9
    Secrets.srv.Cert.ExtKeyUsage[1]: expected an extended key usage from 0 to 13, got 14
    Secrets.srv.Cert.MaxPathLen: expected -1 (none) or a path length, got -2
    Secrets.srv.Cert.MaxPathLen: expected a path length only together with IsCA, got 1
    Secrets.srv.Cert.MaxPathLen: expected a path length only together with IsCA, got 0
    Secrets.srv.Cert.DNSNames[0]: expected an ASCII name, internationalised names in their xn-- form, got "bücher.example"
    Secrets.srv.Cert.IPAddresses[1]: expected an IP address, got none
    Secrets.srv.Cert.URIs[0]: expected a URI object, got null
    Secrets.srv.Cert.PermittedIPRanges[0]: expected an IP and a Mask of the same length, got something else
    Secrets.srv.Cert.ExcludedIPRanges[0]: expected an IP and a Mask of the same length, got something else
    Secrets.srv.Cert.ExtraExtensions[0]: expected another extension than 1.3.9903.2.1, which only Marble certificates have
    RecoveryKeys.ops: the recovery key cannot be used: expected a PEM block "-----BEGIN PUBLIC KEY-----", got none
    RecoveryKeys.ops: the recovery key cannot be used: expected a PEM block "PUBLIC KEY", got "CERTIFICATE"
    Users.ann.Certificate: the user's certificate cannot be used: expected an X.509 certificate in the PEM block "PRIVATE KEY", got something else
        hint: the first block is a private key: it must not be in a manifest; consider it compromised
    Users.ann.Certificate: the user's certificate cannot be used: expected a PEM block "-----BEGIN CERTIFICATE-----", got none
        hint: the text contains a backslash and the letter n instead of line ends: it was escaped twice
    Marbles.web.Parameters.Env.TOKEN: expected a value without NUL byte, got one
        hint: put binary data into a file, or encode it
    "##);
}

// rules: CHK-2
#[test]
fn debug_packages_need_no_identity() {
    assert_eq!(with("/Packages/app", json!({"Debug": true})).check(AzureHsm::Unavailable), Ok(()));
    let both = json!({"Debug": true, "UniqueID": "aa", "SignerID": "bb"});
    assert_eq!(with("/Packages/app", both).check(AzureHsm::Unavailable), Ok(()));
}

#[test]
fn what_is_only_strange_passes() {
    let id = "1".repeat(64);
    let accepted = [
        ("/Packages/app", json!({"SignerID": id, "ProductID": 0, "SecurityVersion": 0})),
        ("/Packages/pinned/UniqueID", json!("not hex")),
        ("/Packages/unused", json!({})),
        ("/Packages/app/AcceptedTCBStatuses", json!(["NoSuchStatus"])),
        ("/Config/FeatureGates/0", json!("signquoteendpoint")),
        ("/Roles/tokens/Actions", json!([])),
        ("/Users/ben/Roles", json!([])),
        ("/Config/UpdateThreshold", json!(0)),
        ("/Secrets/token/Size", json!(7)),
        ("/Secrets/disk/Size", json!(65280)),
        ("/Unknown", json!({"a": [1]})),
    ];
    for (pointer, value) in accepted {
        assert_eq!(with(pointer, value).check(AzureHsm::Unavailable), Ok(()), "{pointer}");
    }
}

// rules: CHK-4
#[test]
fn a_user_with_several_update_roles_counts_once() {
    let mut roles = good()["Roles"].clone();
    roles["more"] = json!({"ResourceType": "Manifest", "Actions": ["updatemanifest"]});
    let mut manifest = good();
    manifest["Roles"] = roles;
    manifest["Users"]["ann"]["Roles"] = json!(["admin", "more"]);
    manifest["Config"]["UpdateThreshold"] = json!(2);
    let manifest = Manifest::decode(manifest.to_string().as_bytes()).unwrap();
    let expected = CheckError::TooFewUpdateUsers { threshold: 2, users: 1 };
    assert_eq!(manifest.check(AzureHsm::Unavailable), Err(expected));
}

// rules: STA-5.1
#[test]
fn azure_hsm_sealing_passes_where_it_is_available() {
    let manifest = with("/Config/FeatureGates/0", json!("AzureHSMSealing"));
    assert_eq!(manifest.check(AzureHsm::Available), Ok(()));
}

#[test]
fn certificates_that_went_through_editors_and_exports_are_accepted() {
    let pem = activation_file("ann.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let wide: Vec<String> = body.as_bytes().chunks(76).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    let armour = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----");
    let der = marblerun_manifest::user_certificate(&pem).unwrap();
    let variants = [
        pem.replace('\n', "\r\n"),
        pem.trim_end().to_owned(),
        pem.replace('\n', "  \n"),
        pem.lines().map(|line| format!("  {line}\n")).collect(),
        format!("Bag Attributes\n    friendlyName: ann\nsubject=CN = ann\n{pem}"),
        armour(&wide.join("\n")),
        armour(&body),
        format!("\u{feff}{pem}"),
        format!("{pem}{}", activation_file("ben.pem")),
    ];
    for variant in variants {
        assert_eq!(marblerun_manifest::user_certificate(&variant).as_ref(), Ok(&der), "{variant}");
    }
}

#[test]
fn recovery_keys_are_accepted_by_label_and_size_only() {
    let key = recovery_key_pem();
    assert!(marblerun_manifest::recovery_key(&key).is_ok());
    let relabelled = key.replace("PUBLIC KEY", "RSA PUBLIC KEY");
    let error = marblerun_manifest::recovery_key(&relabelled).unwrap_err();
    assert_eq!(error.to_string(), r#"expected a PEM block "PUBLIC KEY", got "RSA PUBLIC KEY""#);
    assert_eq!(error.hint(), Some("convert it: openssl rsa -RSAPublicKey_in -pubout"));
    let cut = key.replace("-----END PUBLIC KEY-----", "");
    assert_eq!(marblerun_manifest::recovery_key(&cut), Err(PemError::NoEnd { label: "PUBLIC KEY".into() }));
    let dirty = key.replacen("MII", "M*I", 1);
    assert_eq!(marblerun_manifest::recovery_key(&dirty), Err(PemError::Base64 { label: "PUBLIC KEY".into() }));
    // RSA, 1024 bits, made with OpenSSL.
    let short = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDBAqcIolMrK99iSU1rkDnPlpHL\nYqjeg/7ZTksh+6Zq8sUG30KkPKKPiQiE7ZG3M8sOX/K1pxXnsfVDGV+ZJnLH6tP+\n1U1VoKEKpQc4qo3Rr+lkooxElYunM8uSRinAet9IhNgNuuDFkcpO7emMoKGzXuNk\nHHxWRHrcpmWEmmUWaQIDAQAB\n-----END PUBLIC KEY-----\n";
    assert_eq!(marblerun_manifest::recovery_key(short), Err(PemError::KeySize { bits: 1024 }));
    // An Ed25519 key, the example of RFC 8410 10.1.
    let edwards = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----";
    assert_eq!(marblerun_manifest::recovery_key(edwards), Err(PemError::NotAnRsaKey));
}
