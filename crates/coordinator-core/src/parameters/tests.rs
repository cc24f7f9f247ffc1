#![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

use std::sync::Arc;

use marblerun_manifest::{Manifest, SecretType};
use marblerun_secret::SecretBytes;

use super::*;
use crate::deployment::prepare_marbles;
use crate::secret::Secret;
use crate::secrets::Secrets;

/// A manifest whose Marble `m` has the given members.
fn manifest(marble: &str, rest: &str) -> Manifest {
    let text = format!(r#"{{"Packages":{{"p":{{}}}},"Marbles":{{"m":{{"Package":"p",{marble}}}}}{rest}}}"#);
    Manifest::decode(text.as_bytes()).unwrap()
}

fn parameters(members: &str) -> Manifest {
    manifest(&format!(r#""Parameters":{{{members}}}"#), "")
}

fn compile(manifest: &Manifest) -> Result<CompiledParameters, CompileError> {
    CompiledParameters::compile(manifest, &manifest.marbles["m"])
}

fn secret(secret_type: SecretType, value: &[u8]) -> Secret {
    let bytes = || Some(SecretBytes::copy_from(value));
    Secret {
        secret_type,
        size: 8 * value.len() as u64,
        shared: true,
        user_defined: secret_type == SecretType::Plain,
        valid_for: 0,
        certificate: None,
        private: bytes(),
        public: bytes(),
    }
}

/// `key` is 0102, `pw` is `pass`, `tls` has the certificate `CERT` and the key `KEY`.
fn secrets() -> Secrets {
    let mut tls = secret(SecretType::CertEcdsa, b"KEY");
    tls.certificate = Some(b"CERT".to_vec());
    Secrets::from([
        ("key".to_owned(), Arc::new(secret(SecretType::SymmetricKey, &[1, 2]))),
        ("pw".to_owned(), Arc::new(secret(SecretType::Plain, b"pass"))),
        ("tls".to_owned(), Arc::new(tls)),
    ])
}

fn render(manifest: &Manifest) -> Result<Parameters, RenderError> {
    let previous = Secrets::from([("key".to_owned(), Arc::new(secret(SecretType::SymmetricKey, &[9])))]);
    compile(manifest).unwrap().render(&MarbleData {
        marble_root: b"marble root",
        coordinator_root: b"root",
        coordinator_intermediate: b"intermediate",
        certificate: b"leaf",
        private_key: &SecretBytes::copy_from(b"private"),
        public_key: b"public",
        secrets: &secrets(),
        previous_secrets: &previous,
    })
}

fn text(value: &SecretBytes) -> &str {
    std::str::from_utf8(value.expose()).unwrap()
}

#[test]
fn files_and_variables_are_expanded_and_arguments_are_not() {
    let manifest = parameters(
        r#""Files":{"/k":"{{ raw .Secrets.key }}","/p":"{{ hex .Previous.Secrets.key }}",
            "/n":{"Data":"{{ x }}","NoTemplates":true},"/b":{"Data":"e3sgMSB9fQ==","Encoding":"base64"}},
            "Env":{"E":"{{ string .Secrets.pw }}"},"Argv":["/bin/x","{{ 1 }}"]"#,
    );
    let parameters = render(&manifest).unwrap();
    assert_eq!(parameters.files["/k"].expose(), [1, 2]);
    assert_eq!(text(&parameters.files["/p"]), "09");
    assert_eq!(text(&parameters.files["/n"]), "{{ x }}");
    assert_eq!(text(&parameters.files["/b"]), "1");
    assert_eq!(text(&parameters.env["E"]), "pass");
    assert_eq!(parameters.argv, ["/bin/x", "{{ 1 }}"]);
}

// rules: ACT-6.4
#[test]
fn reserved_variables_win_over_those_of_the_manifest() {
    let manifest = parameters(
        r#""Env":{"MARBLE_PREDEFINED_ROOT_CA":"mine","MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN":"mine",
            "MARBLE_PREDEFINED_PRIVATE_KEY":"mine","MARBLE_PREDEFINED_COORDINATOR_ROOT_CA":"mine"}"#,
    );
    let env = render(&manifest).unwrap().env;
    let pem = marblerun_pki::pem::encode;
    assert_eq!(env.len(), 4);
    assert_eq!(text(&env[ENV_ROOT_CA]), pem("CERTIFICATE", b"marble root"));
    assert_eq!(text(&env[ENV_COORDINATOR_ROOT_CA]), pem("CERTIFICATE", b"root"));
    assert_eq!(text(&env[ENV_PRIVATE_KEY]), pem("PRIVATE KEY", b"private"));
    let chain = pem("CERTIFICATE", b"leaf") + &pem("CERTIFICATE", b"intermediate");
    assert_eq!(text(&env[ENV_MARBLE_CERTIFICATE_CHAIN]), chain);
}

// rules: ACT-6.5
#[test]
fn a_nul_byte_in_a_variable_is_refused() {
    for value in [r#""a\u0000b""#, r#"{"Data":"a\u0000b","NoTemplates":true}"#] {
        let error = compile(&parameters(&format!(r#""Env":{{"E":{value}}}"#))).unwrap_err();
        assert_eq!(error, CompileError::Nul { place: Place::Env("E".to_owned()) });
    }
    let made = parameters(r#""Env":{"E":"{{ print \"\\x00\" }}"}"#);
    assert_eq!(render(&made).unwrap_err(), RenderError::Nul { place: Place::Env("E".to_owned()) });
    assert!(render(&parameters(r#""Files":{"/f":"a\u0000b"}"#)).is_ok());
}

#[test]
fn errors_name_the_entry_and_the_position() {
    let error = compile(&parameters(r#""Env":{"X":"{{ raw .Secrets.key }}"}"#)).unwrap_err();
    assert_eq!(error.to_string(), "Env.X: line 1: function \"raw\" is not defined here");
    assert!(error.hint().unwrap().starts_with("raw is for files"));

    let error = render(&parameters(r#""Files":{"/etc/x":"\n{{ hex .Secrets.nope }}"}"#)).unwrap_err();
    assert_eq!(error.to_string(), "Files./etc/x: line 2, column 4: hex: the secret does not exist");
    assert_eq!(error.class(), "missing-secret");

    let error = compile(&parameters(r#""Files":{"/f":"{{ hex .Secrets.my-key }}"}"#)).unwrap_err();
    assert!(error.hint().unwrap().contains("(index .Secrets \"my-key\")"));

    let error = render(&parameters(r#""Env":{"S":"{{ hex .MarbleRun.SealKey }}"}"#)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Env.S: line 1, column 18: manifest.MarbleRun has no field \"SealKey\", only RootCA, MarbleCert, \
         CoordinatorRoot, CoordinatorIntermediate"
    );
    assert!(error.hint().unwrap().contains("symmetric-key"));
}

#[test]
fn files_fail_before_variables_and_in_order_of_their_names() {
    let manifest = parameters(r#""Env":{"A":"{{ .x }}"},"Files":{"/b":"{{ .x }}","/a":"{{ .x }}"}"#);
    assert!(render(&manifest).unwrap_err().to_string().starts_with("Files./a: "));
}

#[test]
fn all_templates_of_a_marble_share_one_output_limit() {
    let entry = r#""{{ range 200 }}{{ printf \"%60000s\" \"\" }}{{ end }}""#;
    assert!(render(&parameters(&format!(r#""Files":{{"/a":{entry}}}"#))).is_ok());
    let error = render(&parameters(&format!(r#""Files":{{"/a":{entry},"/b":{entry}}}"#))).unwrap_err();
    assert_eq!(error.class(), "limit");
    assert!(error.to_string().starts_with("Files./b: "));
}

#[test]
fn all_templates_of_a_marble_share_one_limit_of_parts() {
    let entry = format!(r#""{}""#, "{{1}}".repeat(MAX_MARBLE_NODES / 6));
    let compiled = compile(&parameters(&format!(r#""Files":{{"/a":{entry}}}"#))).unwrap();
    assert!(compiled.node_count() <= MAX_MARBLE_NODES);
    let error = compile(&parameters(&format!(r#""Files":{{"/a":{entry}}},"Env":{{"B":{entry}}}"#))).unwrap_err();
    assert_eq!(error, CompileError::Nodes { place: Place::Env("B".to_owned()) });
}

#[test]
fn only_secrets_that_are_named_are_used() {
    let compiled = compile(&parameters(
        r#""Files":{"/a":"{{ raw .Secrets.key }}{{ hex (index .Secrets \"my-key\").Private }}"},
            "Env":{"E":"{{ string .Secrets.pw }}{{ hex .Previous.Secrets.old }}"}"#,
    ))
    .unwrap();
    let used: Vec<&str> = compiled.used_secrets().names().collect();
    assert_eq!(used, ["key", "my-key", "pw"]);
    assert!(compiled.used_secrets().contains("key") && !compiled.used_secrets().contains("old"));
    assert!(compiled.used_previous_secrets().contains("old") && !compiled.used_previous_secrets().contains("key"));

    let compiled = compile(&parameters(r#""Files":{"/a":"{{ range .Secrets }}{{ .Type }}{{ end }}"}"#)).unwrap();
    assert!(compiled.used_secrets().is_all() && !compiled.used_previous_secrets().contains("key"));
    let compiled =
        compile(&parameters(r#""Files":{"/a":"{{ index .Previous \"x\" }}{{ print .Previous }}"}"#)).unwrap();
    assert!(compiled.used_previous_secrets().is_all() && !compiled.used_secrets().is_all());
    let compiled = compile(&parameters(r#""Files":{"/a":"{{ print . }}"}"#)).unwrap();
    assert!(compiled.used_previous_secrets().is_all() && compiled.used_secrets().is_all());
}

const TAGS: &str = r#","TLS":{
    "a":{"Incoming":[{"Port":"80"},{"Port":"443","Cert":"tls","DisableClientAuth":true}],
         "Outgoing":[{"Port":"1","Addr":"<db>"}]},
    "b":{"Incoming":[{"Port":"443"}]},
    "c":{"Incoming":[{"Port":"9","Cert":"key","DisableClientAuth":true}]},
    "none":{}}"#;

/// PEM as it stands in JSON.
fn json_pem(label: &str, der: &[u8]) -> String {
    marblerun_pki::pem::encode(label, der).replace('\n', "\\n")
}

// rules: ACT-7.1, EGO-2
#[test]
fn the_transparent_tls_value_has_sorted_keys_and_escapes() {
    let manifest = manifest(r#""TLS":["a"]"#, TAGS);
    let env = render(&manifest).unwrap().env;
    let root = json_pem("CERTIFICATE", b"marble root");
    let (leaf, key) = (json_pem("CERTIFICATE", b"leaf"), json_pem("PRIVATE KEY", b"private"));
    let (secret_leaf, secret_key) = (json_pem("CERTIFICATE", b"CERT"), json_pem("PRIVATE KEY", b"KEY"));
    let expected = format!(
        r#"{{"tls":{{"Incoming":{{"*:443":{{"cacrt":"{root}","clicrt":"{secret_leaf}","clientAuth":false,"clikey":"{secret_key}"}},"*:80":{{"cacrt":"{root}","clicrt":"{leaf}","clientAuth":true,"clikey":"{key}"}}}},"Outgoing":{{"\u003cdb\u003e:1":{{"cacrt":"{root}","clicrt":"{leaf}","clikey":"{key}"}}}}}}}}"#
    );
    assert_eq!(text(&env[ENV_TTLS_CONFIG]), expected);
}

// rules: ACT-7.2
#[test]
fn of_two_tags_with_the_same_port_the_later_one_wins() {
    let value = |tags: &str| {
        let env = render(&manifest(&format!(r#""TLS":{tags}"#), TAGS)).unwrap().env;
        text(&env[ENV_TTLS_CONFIG]).to_owned()
    };
    assert!(value(r#"["a","b"]"#).contains(r#""*:443":{"cacrt":"#) && !value(r#"["a","b"]"#).contains("false"));
    assert!(value(r#"["b","a"]"#).contains("false"));
    assert_eq!(value(r#"["none"]"#), r#"{"tls":{"Incoming":{},"Outgoing":{}}}"#);
}

#[test]
fn a_secret_without_certificate_gives_empty_blocks_and_counts_as_used() {
    let manifest = manifest(r#""TLS":["c"]"#, TAGS);
    assert!(compile(&manifest).unwrap().used_secrets().contains("key"));
    let env = render(&manifest).unwrap().env;
    let empty = r#""clicrt":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n""#;
    assert!(text(&env[ENV_TTLS_CONFIG]).contains(empty));
}

// rules: ACT-7.4, EGO-2
#[test]
fn a_marble_without_tags_gets_no_transparent_tls() {
    assert!(!render(&parameters("")).unwrap().env.contains_key(ENV_TTLS_CONFIG));
}

// rules: ACT-7.5
#[test]
fn an_unknown_tag_is_refused() {
    let error = compile(&manifest(r#""TLS":["x"]"#, TAGS)).unwrap_err();
    assert_eq!(error, CompileError::UnknownTag { tag: "x".to_owned() });
}

#[track_caller]
fn check_dry_run(template: &str, refused: Option<&str>) {
    let members = format!(r#""Files":{{"/f":{}}}"#, marblerun_json::encode(template));
    let marbles = prepare_marbles(&parameters(&members)).unwrap();
    let mut unset = secret(SecretType::Plain, b"");
    (unset.private, unset.public) = (None, None);
    let mut secrets = secrets();
    secrets.insert("unset".to_owned(), Arc::new(unset));
    let result = dry_run(&marbles, secrets.iter().map(|(name, secret)| (name.as_str(), secret.as_ref())));
    let class = result.as_ref().err().map(|error| error.source.class());
    assert_eq!(class, refused, "{template}: {result:?}");
    if let Err(error) = result {
        assert_eq!(error.to_string(), "Marbles.m.Parameters");
        assert!(error.source.to_string().starts_with("Files./f: "), "{}", error.source);
    }
}

#[test]
fn the_dry_run_replaces_user_defined_secrets_and_keeps_the_others() {
    check_dry_run("{{ raw .Secrets.unset }}", None);
    check_dry_run("{{ pem .Secrets.unset.Cert }}", None);
    check_dry_run("{{ slice .Secrets.pw.Private 0 4 }}", Some("index-range"));
    check_dry_run("{{ slice .Secrets.key.Private 0 2 }}", None);
    check_dry_run("{{ hex .Previous.Secrets.key }}", None);
    check_dry_run("{{ hex .Secrets.nope }}", Some("missing-secret"));
    check_dry_run("{{ print .Secrets.nope }}", None);
}

#[test]
fn the_dry_run_has_one_byte_of_each_credential_and_no_names() {
    check_dry_run("{{ pem .MarbleRun.RootCA.Cert }}{{ pem .MarbleRun.MarbleCert.Private }}", None);
    check_dry_run("{{ pem .MarbleRun.RootCA.Private }}", Some("empty-secret"));
    check_dry_run("{{ index .MarbleRun.MarbleCert.Cert.DNSNames 0 }}", Some("index-range"));
    check_dry_run("{{ hex .MarbleRun.RootCA.Cert.RawSubjectPublicKeyInfo }}", Some("empty-secret"));
    check_dry_run("{{ .Previous.MarbleRun }}", Some("missing-field"));
}
