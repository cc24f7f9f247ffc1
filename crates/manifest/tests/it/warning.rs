//! What is legal but probably not meant, and the text that people read.

use marblerun_manifest::{Manifest, Severity, WarningCode};
use serde_json::{Value, json};

use crate::check::{good, with};

#[test]
fn a_manifest_without_mistakes_has_no_warnings() {
    let manifest = Manifest::decode(good().to_string().as_bytes()).unwrap();
    assert_eq!(manifest.warnings(), []);
}

// rules: SAFE-10, MNF-4
#[test]
fn each_probable_mistake_is_named_with_its_place() {
    let id = "1".repeat(64);
    let cases = [
        ("/Package", json!({})),
        ("/Packages/app/Unique_ID", json!(id)),
        ("/Marbles/web/Parameters/Environ", json!({})),
        ("/Users/ben/Email", json!("ben@example")),
        ("/Packages/pinned/UniqueID", json!("1234")),
        ("/Packages/app/SignerID", json!(format!("0x{}", "1".repeat(62)))),
        ("/Packages/app/Debug", json!(true)),
        ("/Packages/pinned", json!({"Debug": true})),
        ("/Packages/app", json!({"Debug": true, "SignerID": id})),
        ("/Packages/app/SecurityVersion", json!(0)),
        ("/Packages/app/AcceptedTCBStatuses", json!(["swHardeningNeeded", "Fine", "Revoked", "OutOfDate"])),
        ("/Packages/app/AcceptedAdvisories", json!(["INTEL-SA-00615", "SA-1"])),
        ("/Packages/other", json!({"UniqueID": id})),
        ("/Infrastructures", json!({"rack": {"QESVN": 1}})),
        ("/Marbles/web/Parameters/Env/DB_PASSWORD", json!("{{ .Secrets.tokne }}")),
        ("/Marbles/web/Parameters/Env/A", json!("{{ if .Secrets.srv2.Cert }}a{{ end }}")),
        ("/Marbles/web/Parameters/Env/A", json!("<no value>")),
        ("/Marbles/web/Parameters/Env/A", json!(r#"{{ "{{" }} hex .x {{ "}}" }}"#)),
        ("/Marbles/web/Parameters/Argv", json!(["/bin/web", "{{ hex .Secrets.disk }}"])),
        ("/Marbles/web/Parameters/Env/MARBLE_PREDEFINED_ROOT_CA", json!("x")),
        ("/Marbles/web/Parameters/Env/MARBLE_TTLS_CONFIG", json!("x")),
        ("/Marbles/web/Parameters/Files/~1big", json!({"Data": "x".repeat(4 << 20), "NoTemplates": true})),
        ("/TLS/more", json!({})),
        ("/TLS/front/Incoming/0/Port", json!("https")),
        ("/TLS/front/Incoming/0/Addr", json!("0.0.0.0")),
        ("/TLS/front/Outgoing/0/DisableClientAuth", json!(true)),
        ("/TLS/front/Outgoing/0/Cert", json!("srv")),
        ("/Secrets/more", json!({"Type": "symmetric-key", "Size": 128})),
        ("/Secrets/token/Size", json!(128)),
        ("/Secrets/disk/ValidFor", json!(10)),
        ("/Secrets/disk/Cert", json!({"IsCA": true})),
        ("/Secrets/disk/Private", json!("aGVsbG8=")),
        ("/Secrets/srv/Cert", json!("-----BEGIN CERTIFICATE-----")),
        ("/Secrets/srv/Cert", json!({"NotBefore": "2031-01-01T00:00:00Z", "SerialNumber": 1})),
        ("/Roles/tokens/Actions", json!(["ReadSecret"])),
        ("/Roles/tokens/ResourceNames", json!([])),
        ("/Roles/admin/Actions", json!([])),
        ("/Roles/more", json!({"ResourceType": "Manifest", "Actions": ["UpdateManifest"]})),
        ("/Users/ben/Roles", json!([])),
    ];
    let mut lines = Vec::new();
    for (pointer, value) in cases {
        let warnings = with(pointer, value).warnings();
        assert!(!warnings.is_empty(), "{pointer}");
        lines.extend(warnings.iter().map(ToString::to_string));
    }
    insta::assert_snapshot!(lines.join("\n"), @r##"
    Package: there is no such member, it is ignored; did you mean Packages? [unknown-member]
    Packages.app.Unique_ID: there is no such member, it is ignored; did you mean UniqueID? [unknown-member]
    Marbles.web.Parameters.Environ: there is no such member, it is ignored; did you mean Env? [unknown-member]
    Users.ben.Email: there is no such member, it is ignored [unknown-member]
    Packages.pinned.UniqueID: expected 64 hexadecimal digits, got 4 digits; no enclave will match [identity-not-hex]
    Packages.app.SignerID: expected 64 hexadecimal digits, got 64 characters, not all of them digits; no enclave will match [identity-not-hex]
    Packages.app.Debug: enclaves must be in debug mode, in which the host can read their memory [debug-package]
    Packages.pinned.Debug: enclaves must be in debug mode, in which the host can read their memory [debug-package]
    Packages.pinned: neither UniqueID nor SignerID is given: the package does not say which enclave it is [unpinned-package]
    Packages.app.Debug: enclaves must be in debug mode, in which the host can read their memory [debug-package]
    Packages.app: will not do without Debug: Packages.app.ProductID: expected UniqueID, or SignerID with ProductID and SecurityVersion, got nothing here [unpinned-package]
    Packages.app.SecurityVersion: every security version is accepted, also ones with known holes [security-version-zero]
    Packages.app.AcceptedTCBStatuses[0]: there is no status "swHardeningNeeded"; did you mean SWHardeningNeeded? [unknown-tcb-status]
    Packages.app.AcceptedTCBStatuses[1]: there is no status "Fine" [unknown-tcb-status]
    Packages.app.AcceptedTCBStatuses[2]: a revoked platform is never accepted, whatever is listed [revoked-tcb-status]
    Packages.app.AcceptedAdvisories[1]: expected a name like INTEL-SA-00615, got "SA-1" [unusual-advisory]
    Packages.other: no Marble has this package [unused-package]
    Infrastructures: the values are not compared with the platform of a Marble [infrastructure-not-compared]
    Marbles.web.Parameters.Env.DB_PASSWORD: there is no secret "tokne"; did you mean "token"? [unknown-secret-reference]
    Marbles.web.Parameters.Env.A: there is no secret "srv2"; did you mean "srv"? [unknown-secret-reference]
    Marbles.web.Parameters.Env.A: the value is what an expanded template leaves of an unknown name [expanded-template]
    Marbles.web.Parameters.Env.A: the template yields the text of a template; it is expanded only once [expanded-template]
    Marbles.web.Parameters.Argv[1]: arguments are passed on as they are, templates in them are not expanded [template-in-arguments]
    Marbles.web.Parameters.Env.MARBLE_PREDEFINED_ROOT_CA: every Marble gets this variable from the Coordinator, this value is replaced [reserved-variable]
    Marbles.web.Parameters.Env.MARBLE_TTLS_CONFIG: every Marble gets this variable from the Coordinator, this value is replaced [reserved-variable]
    Marbles.web.Parameters: 4194406 bytes; Marbles of MarbleRun v1.9.1 can receive at most 4194304 [large-parameters]
    TLS.more: no Marble has this tag [unused-tag]
    TLS.front.Incoming[0].Port: expected a number from 1 to 65535; other ports match no connection [unusual-port]
    TLS.front.Incoming[0].Addr: without effect for Incoming connections [without-effect]
    TLS.front.Outgoing[0].DisableClientAuth: without effect for Outgoing connections [without-effect]
    TLS.front.Outgoing[0].Cert: without effect for Outgoing connections [without-effect]
    Secrets.more: no template, TLS tag or role for reading refers to this secret [unused-secret]
    Secrets.token.Size: without effect for a secret of this kind [without-effect]
    Secrets.disk.ValidFor: without effect for a secret of this kind [without-effect]
    Secrets.disk.Cert: without effect for a secret of this kind [without-effect]
    Secrets.disk.Private: the manifest is public, and so is this value [secret-in-manifest]
    Secrets.srv.Cert: expected a template or base64 of a DER certificate (not PEM); the text is ignored [unreadable-certificate]
    Secrets.srv.Cert.SerialNumber: without effect: the Coordinator decides it [without-effect]
    Secrets.srv.Cert.NotBefore: without effect: the Coordinator decides it [without-effect]
    Secrets.token: the secret must be uploaded, but no role allows that [nobody-may-write]
    Secrets.token: the secret must be uploaded, but no role allows that [nobody-may-write]
    Roles.tokens: the role names no resources and grants nothing [nothing-granted]
    Roles.admin: the role has no actions and grants nothing [nothing-granted]
    Roles.more: no user has this role [unused-role]
    Users.ben: the user has no role and may do nothing [nothing-granted]
    Roles.versions: no user has this role [unused-role]
    "##);
}

#[test]
fn names_with_dashes_are_explained_and_quoted_names_count_as_use() {
    let mut manifest = good();
    manifest["Secrets"]["my-key"] = json!({"Type": "symmetric-key", "Size": 128});
    manifest["Marbles"]["web"]["Parameters"]["Files"]["/k"] = json!("{{ hex .Secrets.my-key }}");
    let codes = |manifest: &Value| -> Vec<String> {
        let manifest = Manifest::decode(manifest.to_string().as_bytes()).unwrap();
        manifest.warnings().iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        codes(&manifest)[0],
        r#"Marbles.web.Parameters.Files["/k"]: there is no secret "my"; for "my-key" write: index .Secrets "my-key" [unknown-secret-reference]"#
    );
    manifest["Marbles"]["web"]["Parameters"]["Files"]["/k"] = json!(r#"{{ hex (index .Secrets "my-key") }}"#);
    assert_eq!(codes(&manifest), [""; 0]);
    manifest["Marbles"]["web"]["Parameters"]["Files"]["/k"] = json!("{{ range $name, $s := .Secrets }}{{ end }}");
    assert_eq!(codes(&manifest), [""; 0]);
}

#[test]
fn weak_settings_are_told_apart_from_mistakes() {
    assert_eq!(WarningCode::DebugPackage.severity(), Severity::Weakness);
    assert_eq!(WarningCode::UnknownMember.severity(), Severity::Mistake);
}

#[test]
fn a_document_of_unknown_members_does_not_flood_the_log() {
    let members: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("x{n}"), json!(1))).collect();
    let manifest = Manifest::decode(Value::Object(members).to_string().as_bytes()).unwrap();
    assert_eq!(manifest.warnings().len(), marblerun_json::MAX_UNKNOWN_MEMBERS);
}
