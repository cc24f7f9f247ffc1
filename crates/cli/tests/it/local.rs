//! Commands that need no Coordinator.

use crate::Place;

const MANIFEST: &str = r#"{
  "Packages": {"web": {"UniqueID": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},
  "Marbles": {"m": {"Package": "web", "Parameters": {"Argv": ["./a"]}}}
}
"#;

// rules: CMD-11, CLI-8
#[test]
fn version_is_printed_without_home_and_cluster() {
    let commit = "0".repeat(40);
    Place::new().run("version").printed(&format!("CLI Version: v{} \nCommit: {commit}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn version_as_json() {
    let run = Place::new().run("version --output json");
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_version_is_also_a_flag() {
    Place::new().run("--version").printed(&format!("marblerun {}\n", env!("CARGO_PKG_VERSION")));
}

// rules: CLI-1
#[test]
fn completions_can_be_without_descriptions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let run = place.run(&format!("completion {shell} --no-descriptions"));
        assert!(run.code == 0 && run.stdout.contains("manifest"), "{shell}: {}", run.stderr);
        assert!(!run.stdout.contains("Manage the manifest"), "{shell}");
    }
    assert!(place.run("completion zsh").stdout.contains("Manage the manifest"));
}

// rules: CMD-1
#[test]
fn the_signature_of_a_json_file_is_that_of_its_bytes() {
    let place = Place::new();
    place.write("m.json", "{ \"Packages\": {} }\n");
    place
        .run("manifest signature m.json")
        .printed("b3b9fc5b6754d538ab062e228703ea04a7dfa319e13912f6e66f6842f0e93aa0\n");
}

// rules: CMD-1
#[test]
fn the_signature_of_a_yaml_file_is_that_of_its_conversion() {
    let place = Place::new();
    place.write(
        "m.yaml",
        "Packages:\n  web: {Debug: yes, SecurityVersion: 1, ProductID: 7, SignerID: \"00aa\"}\nMarbles:\n  m: {Package: \
         web, Parameters: {Argv: [a, \"<b>\"]}}\n",
    );
    place
        .run("manifest signature m.yaml")
        .printed("0c1582dc927f396f9e57cc88bfced80921451997d5222ac9ffb65cefb28d5cae\n");
}

#[test]
fn leading_zeros_are_warned_of_beside_the_exact_signature() {
    let place = Place::new();
    place.write("m.yaml", "Packages:\n  web: {ProductID: 010}\n");
    let run = place.run("manifest signature m.yaml");
    assert_eq!((run.stdout.len(), run.code), (65, 0));
    assert_eq!(
        run.stderr,
        "Warning: line 2: 010 is 8, because YAML takes a leading zero for octal; write it without the zero or in quotes\n"
    );
}

#[test]
fn the_signature_of_what_is_no_manifest_is_warned_of() {
    let place = Place::new();
    place.write("key.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    for file in ["key.pem", "/dev/null"] {
        let run = place.run(&format!("manifest signature {file}"));
        assert_eq!((run.stdout.len(), run.code), (65, 0));
        assert_eq!(run.stderr, "Warning: the file holds no object, so it is no manifest\n");
    }
}

#[test]
fn a_good_manifest_passes_the_check() {
    let place = Place::new();
    place.write("m.json", MANIFEST);
    place.run("manifest check m.json").printed("m.json: 0 errors, 0 warnings\n");
}

#[test]
fn mistakes_are_found_and_can_be_allowed() {
    let place = Place::new();
    place.write("m.json", MANIFEST.replace("\"Argv\"", "\"Agrv\""));
    let run = place.run("manifest check m.json");
    assert_eq!((run.code, run.stderr.as_str()), (2, ""));
    assert_eq!(
        run.stdout,
        "m.json:3:54: warning: Marbles.m.Parameters.Agrv: there is no such member, it is ignored; did you mean Argv? \
         [unknown-member]\nm.json: 0 errors, 1 warning\n"
    );
    assert_eq!(place.run("manifest check m.json --allow-warnings").code, 0);
}

#[test]
fn errors_are_found_and_cannot_be_allowed() {
    let place = Place::new();
    place.write("m.json", MANIFEST.replace("\"Package\": \"web\"", "\"Package\": \"wbe\""));
    for arguments in ["manifest check m.json", "manifest check m.json --allow-warnings"] {
        let run = place.run(arguments);
        assert_eq!(run.code, 2);
        assert!(run.stdout.starts_with("m.json:3:21: error: Marbles.m.Package: "), "{}", run.stdout);
        assert!(run.stdout.contains("\n  hint: did you mean \"web\"?\n"), "{}", run.stdout);
    }
}

#[test]
fn templates_are_tried_out() {
    let place = Place::new();
    for (text, expected) in [("{{ .Nothing", "unclosed action"), ("{{ hex .Secrets.none }}", "Marbles.m")] {
        place.write("m.json", MANIFEST.replace("\"./a\"]", &format!("\"./a\"], \"Env\": {{\"A\": \"{text}\"}}")));
        let run = place.run("manifest check m.json --allow-warnings");
        assert_eq!(run.code, 2, "{}", run.stdout);
        assert!(run.stdout.contains("error: ") && run.stdout.contains(expected), "{}", run.stdout);
    }
}

#[test]
fn findings_as_json() {
    let place = Place::new();
    place.write("m.yaml", "Packages: {web: {SignerID: 1234}}\n");
    let run = place.run("manifest check m.yaml --output json");
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["findings"][0]["severity"], "error");
    assert_eq!(value["findings"][0]["place"], "Packages.web.SignerID");
    assert_eq!((&value["findings"][0]["line"], &value["findings"][0]["column"]), (&1.into(), &18.into()));
    // A position in the JSON that the file became would lead astray.
    let message = "Packages.web.SignerID: expected a string, got a number";
    assert_eq!(value["findings"][0]["message"], message);
    assert_eq!(value["findings"][0]["hint"], "put the value in quotes; YAML reads digits without quotes as a number");
}

#[test]
fn help_goes_to_standard_output_and_succeeds() {
    let place = Place::new();
    for arguments in [&[][..], &["--help"], &["manifest"], &["certificate"], &["help", "manifest", "set"]] {
        let run = place.run_words(arguments);
        assert!(run.code == 0 && run.stderr.is_empty() && run.stdout.contains("Usage: marblerun"), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_marblerun"))
        .arg("version")
        .current_dir(place.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Whether the pipe closes before or after the program writes, it must not complain.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
