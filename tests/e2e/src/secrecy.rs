//! Nothing that leaves the enclaves holds a secret.

use std::fs;
use std::path::Path;

use crate::coordinator::{Coordinator, command};
use crate::deployment::{Deployment, GREETING};
use crate::programs::{Running, run};
use crate::site::ROOT;

/// A secret in the forms in which it might be written.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    fn of(name: &str, secret: &[u8]) -> Self {
        let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        Self(vec![
            (format!("{name}, raw"), secret.to_vec()),
            (format!("{name}, hex"), hex.clone().into_bytes()),
            (format!("{name}, upper case hex"), hex.to_ascii_uppercase().into_bytes()),
            (format!("{name}, base64"), base64(secret).into_bytes()),
            (format!("{name}, list of numbers"), list.into_bytes()),
        ])
    }

    /// The first form that `bytes` hold.
    fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.0.iter().find(|(_, needle)| holds(needle)).map(|(form, _)| form.as_str())
    }
}

#[test]
fn generated_keys_and_private_keys_appear_in_no_log_state_or_command_line() {
    let mut deployment = Deployment::new(|manifest| {
        // Where the test can read them.
        let files = &mut manifest["Marbles"]["hello"]["Parameters"]["Files"];
        files["/host/key"] = "{{ raw .Secrets.helloKey }}".into();
        files["/host/private.pem"] = "{{ pem .MarbleRun.MarbleCert.Private }}".into();
    });
    let site = &deployment.site;
    let mut logs = vec![("Coordinator at the manifest".to_owned(), deployment.coordinator.kill())];
    let mut debugging = command(site, "coordinator", ROOT);
    deployment.coordinator = Coordinator::start_command(debugging.env("EDG_DEBUG_LOGGING", "1"));

    let mut command_lines = command_lines_of(deployment.coordinator.id());
    let marble = Running::start(&mut deployment.marble_command("hello", "hello"));
    command_lines.extend(command_lines_of(marble.id()));
    let marble = marble.finish().success().says(&[GREETING]);
    deployment.coordinator.wait_for(&["Marble activated"]);
    let client = deployment.coordinator.client.clone();
    let status = run(&mut deployment.site.cli(&["status", &client, "--output", "json"])).success();
    let log = deployment.coordinator.kill();
    assert!(log.contains("\"target\":"), "expected the form of a debug log, got:\n{log}");
    logs.push(("Coordinator".to_owned(), log));
    logs.push(("Marble".to_owned(), marble.text()));
    logs.push(("command line".to_owned(), status.text()));

    let site = &deployment.site;
    let symmetric = site.read("hello/host/key");
    assert_eq!(symmetric.len(), 16);
    site.openssl(&["pkey", "-in", "hello/host/private.pem", "-outform", "DER", "-out", "private.der"]);
    let text = site.openssl(&["pkey", "-in", "hello/host/private.pem", "-noout", "-text"]);
    let scalar = private_scalar(&text);
    assert!(scalar.len() >= 32, "expected a private key, got {text}");
    let secrets = [Needles::of("the generated key", &symmetric), Needles::of("the Marble's private key", &scalar)];

    let state = site.files_below("coordinator/host/state");
    assert!(!state.is_empty() && command_lines.len() >= 2);
    for needles in &secrets {
        for (place, log) in &logs {
            assert!(log.lines().count() > 1, "no log of {place}");
            assert_eq!(needles.found_in(log.as_bytes()), None, "in the log of: {place}");
        }
        for file in &state {
            assert_eq!(needles.found_in(&fs::read(file).unwrap()), None, "in {}", file.display());
        }
        for line in &command_lines {
            assert_eq!(needles.found_in(line), None, "in a command line");
        }
    }
    // The search finds what is there.
    assert_eq!(secrets[0].found_in(&symmetric), Some("the generated key, raw"));
}

/// `/proc/<pid>/cmdline` of a process and all below it.
fn command_lines_of(id: u32) -> Vec<Vec<u8>> {
    let directory = Path::new("/proc").join(id.to_string());
    let mut lines: Vec<Vec<u8>> = fs::read(directory.join("cmdline")).into_iter().collect();
    let children = fs::read_to_string(directory.join(format!("task/{id}/children"))).unwrap_or_default();
    for child in children.split_whitespace() {
        lines.extend(command_lines_of(child.parse().unwrap()));
    }
    lines
}

/// The bytes below `priv:` in OpenSSL's text of a key.
fn private_scalar(text: &str) -> Vec<u8> {
    let lines = text.lines().skip_while(|line| !line.starts_with("priv:")).skip(1);
    let hex: String = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    let bytes = hex.split(':').filter(|byte| !byte.is_empty());
    let scalar: Vec<u8> = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    // OpenSSL writes a leading zero where the first bit is set.
    scalar.strip_prefix(&[0]).map(<[u8]>::to_vec).unwrap_or(scalar)
}

/// RFC 4648 section 4, without padding, so that it is also found inside of a longer text.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks_exact(3) {
        let bits = u32::from(chunk[0]) << 16 | u32::from(chunk[1]) << 8 | u32::from(chunk[2]);
        text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize])));
    }
    text
}
