//! Programs of the manifest that the LibOS does not start: one line says why, and the exit code is not that of a success.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use crate::deployment::{Deployment, SIGNER};
use crate::programs::run;

// rules: ACT-8.11
#[test]
fn a_program_that_occlum_does_not_start_is_explained_in_one_line() {
    let cases = [
        (
            "static",
            "expected a 64-bit position-independent program with an interpreter (PT_INTERP), got perhaps a static one",
        ),
        ("narrow", "expected a 64-bit program, got one of another width"),
        ("script", "neither a program nor a script that begins with #!"),
        ("lost", "the program in its line with #! is not in the image"),
        ("unmarked", "not executable: the file lacks the execute permission"),
        ("folder", "expected a program, got a directory"),
    ];
    let deployment = Deployment::new(|manifest| {
        // The signer, since the image gets more files.
        manifest["Packages"]["hello"] = json!({"SignerID": SIGNER, "ProductID": 1, "SecurityVersion": 1});
        for (name, _) in cases {
            manifest["Marbles"][name] = manifest["Marbles"]["hello"].clone();
            manifest["Marbles"][name]["Parameters"]["Argv"] = json!([format!("/bin/{name}")]);
        }
    });
    let site = &deployment.site;
    let path = |name: &str| site.path("hello/image/bin").join(name);
    site.write("empty.c", "int main(void) { return 0; }");
    run(Command::new("cc").args(["-static", "-o"]).arg(path("static")).arg(site.path("empty.c"))).success();
    let mut narrow = fs::read(path("hello_world")).unwrap();
    // The class of the ELF header: 32 bits.
    narrow[4] = 1;
    fs::create_dir(path("folder")).unwrap();
    for (name, content, mode) in [
        ("narrow", narrow.as_slice(), 0o755),
        ("script", b"echo started\n", 0o755),
        ("lost", b"#!/bin/absent\n", 0o755),
        ("unmarked", b"#!/bin/premain-libos\n", 0o644),
    ] {
        fs::write(path(name), content).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, words) in cases {
        let marble = deployment.marble("hello", name);
        assert_eq!(marble.code, 1, "{name}:\n{}", marble.text());
        let last = marble.stderr.lines().last().unwrap();
        assert!(last.starts_with(&format!("Error: starting the application failed: /bin/{name}: ")), "{name}: {last}");
        assert!(last.contains(words), "{last:?} does not contain {words:?}");
        assert_eq!(marble.text().matches("Error: ").count(), 1, "{}", marble.text());
    }
}
