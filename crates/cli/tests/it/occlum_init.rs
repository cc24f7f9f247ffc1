//! `occlum init` and `occlum prepare` from outside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use crate::coordinator::{self, TRUST};
use crate::fake::{Fake, Script};
use crate::{Place, Run};

/// A place with a program of this machine that claims to be a premain.
fn place_of(place: Place) -> Place {
    let mut premain = std::fs::read("/bin/true").unwrap();
    premain.extend(b"EDG_MARBLE_COORDINATOR_ADDR\0");
    place.write("premain-libos", premain);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path().join("premain-libos"), mode).unwrap();
    place
}

const INIT: &str = "occlum init i --program /bin/true --premain premain-libos";

fn json(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// Everything below a directory, with modes and contents.
fn snapshot(directory: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        found.push((path.display().to_string(), metadata.permissions().mode(), content));
        if metadata.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

// rules: INST-1, INST-2
#[test]
fn an_instance_for_a_pinned_coordinator_passes_the_check() {
    let fake = Fake::start(Script::new());
    let place = place_of(coordinator::place(&fake));
    coordinator::run(&place, &fake, "certificate root ADDRESS TRUST -o pin.pem");
    let run = place.run(&format!("{INIT} --coordinator-root pin.pem -- one two"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("Made i: /bin/true behind /bin/premain-libos, as Marble \"true\"\n"), "{}", run.stdout);
    assert!(run.stdout.contains("resource_limits.user_space_size = "), "{}", run.stdout);
    assert!(run.stderr.starts_with("Warning: the image holds this machine's C library"), "{}", run.stderr);
    let check = place.run("occlum check i --output json");
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(check["errors"], 0, "{check:#}");
    let manifest = place.run("manifest check i/manifest.json");
    assert_eq!(manifest.code, 0, "{}{}", manifest.stdout, manifest.stderr);
}

// rules: INST-3
#[test]
fn a_second_run_changes_nothing_and_says_so() {
    let place = place_of(Place::new());
    assert_eq!(place.run(INIT).code, 0);
    let before = snapshot(&place.path().join("i"));
    let run = place.run(INIT);
    assert!(
        run.stdout.ends_with("Nothing to change: i: /bin/true behind /bin/premain-libos, as Marble \"true\"\n"),
        "{}",
        run.stdout
    );
    assert_eq!(snapshot(&place.path().join("i")), before);
    let other = place.run(&format!("{INIT} --heap 64MB"));
    assert_eq!(
        (other.code, other.stderr.lines().next()),
        (1, Some("Error: [DIR]/i exists and differs: Occlum.json has another content"))
    );
    assert_eq!(snapshot(&place.path().join("i")), before);
    assert_eq!(json(&place.run(&format!("{INIT} --heap 64MB --force --output json")))["outcome"], "replaced");
}

#[test]
fn a_dry_run_makes_nothing_and_json_has_every_sum() {
    let place = place_of(Place::new());
    let made = json(&place.run(&format!("{INIT} --dry-run --output json --mmap 256MB")));
    assert_eq!((&made["outcome"], &made["dry_run"]), (&"created".into(), &true.into()));
    assert!(!place.exists("i"));
    let sizes = made["sizes"].as_array().unwrap();
    let user_space = sizes.iter().find(|size| size["member"] == "resource_limits.user_space_size").unwrap();
    let sum: u64 = user_space["terms"].as_array().unwrap().iter().map(|term| term["amount"].as_u64().unwrap()).sum();
    assert_eq!(user_space["need"], sum);
    assert!(sum > 256 << 20);
    let remarks: Vec<_> = made["remarks"].as_array().unwrap().iter().map(|remark| remark["id"].clone()).collect();
    assert_eq!(remarks, ["no-pin", "host-libc"]);
}

/// The pin is the one of a Coordinator that was verified, by the trust flags of every command.
#[test]
fn a_verified_coordinator_is_pinned_and_an_unverified_one_is_not() {
    let fake = Fake::start(Script::new());
    let place = place_of(coordinator::place(&fake));
    let run = coordinator::run(&place, &fake, &format!("{INIT} --coordinator ADDRESS {TRUST}"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    coordinator::run(&place, &fake, "certificate root ADDRESS TRUST -o pin.pem");
    let der = marblerun_pki::pem::decode_certificates(place.read("pin.pem").as_bytes()).unwrap().swap_remove(0);
    let hash = hex::encode(digest(&SHA256, &der));
    assert_eq!(place.read("i/image/etc/marblerun/coordinator.json"), format!("{{\"RootSHA256\": \"{hash}\"}}\n"));

    place.write("era.json", format!(r#"{{"UniqueID": "{}"}}"#, "bb".repeat(32)));
    let other = INIT.replace(" i ", " j ");
    let refused = coordinator::run(&place, &fake, &format!("{other} --coordinator ADDRESS {TRUST}"));
    assert_eq!(refused.code, 1);
    assert!(!place.exists("j"));
}

#[test]
fn what_cannot_be_pinned_is_refused() {
    let place = place_of(Place::new());
    place.write("pin.pem", "no certificate");
    place.run(&format!("{INIT} --coordinator-root pin.pem")).failed(
        "Error: root certificate pin.pem: expected a certificate, PEM or DER\nHint: `marblerun certificate root` writes it",
    );
    assert!(!place.exists("i"));
}

#[test]
fn a_bill_of_materials_needs_the_programs_place() {
    let place = place_of(Place::new());
    place.write(
        "app.yaml",
        "targets:\n- target: /opt\n  copy: [{from: $BINARIES, files: [{name: true, rename: app}]}]\n",
    );
    let init = "occlum init i --bom app.yaml --premain premain-libos";
    assert!(place.run(init).stderr.contains("--as <PATH>"));
    let words: Vec<_> = init.split(' ').chain(["--as", "/opt/app", "--output", "json"]).collect();
    let run = place.run_with(&words, &[("BINARIES", "/bin")]);
    assert_eq!(json(&run)["program"], "/opt/app");
    assert!(place.exists("i/image/opt/app"));
    place
        .run("occlum init j --bom app.yaml --as /opt/app --premain premain-libos")
        .failed("Error: app.yaml: line 3: environment variable BINARIES is not set");
    let image = place.run("occlum init k --image i/image --as /opt/app --premain premain-libos --marble shop");
    assert_eq!(image.code, 0, "{}", image.stderr);
    assert!(place.read("k/manifest.json").contains("\"shop\""));
}

#[test]
fn a_missing_premain_is_said_with_where_it_was_looked_for() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("empty")).unwrap();
    let run = place.run("occlum init i --program /bin/true --premain missing");
    assert!(run.stderr.starts_with("Error: cannot read missing: No such file"), "{}", run.stderr);
    assert!(!place.exists("i"));
}

// rules: INST-5, INST-6
#[test]
fn an_existing_instance_is_prepared_once() {
    let place = place_of(Place::new());
    assert_eq!(place.run(INIT).code, 0);
    // As it would be without us.
    let text = place
        .read("i/Occlum.json")
        .replace("\"/bin/premain-libos\"", "\"/bin\"")
        .replace("EDG_MARBLE_TYPE=true", "X=y");
    place.write("i/Occlum.json", &text);
    std::fs::remove_file(place.path().join("i/image/bin/premain-libos")).unwrap();
    let before = snapshot(&place.path().join("i"));

    let prepare = "occlum prepare i --premain premain-libos --marble web --program /bin/true";
    let dry = place.run(&format!("{prepare} --dry-run"));
    for line in [
        "-    \"/bin\"",
        "+    \"/bin/premain-libos\"",
        "+      \"EDG_MARBLE_TYPE=web\"",
        "new      image/bin/premain-libos",
        "new      Occlum.json.before-marblerun",
        "i is as it was; without --dry-run this would change",
    ] {
        assert!(dry.stdout.lines().any(|own| own == line), "{line}: {}", dry.stdout);
    }
    assert!(dry.stderr.starts_with("Warning: no Coordinator is pinned"), "{}", dry.stderr);
    assert_eq!(snapshot(&place.path().join("i")), before);

    let prepared = json(&place.run(&format!("{prepare} --output json")));
    assert_eq!((&prepared["changed"], &prepared["pinned"]), (&true.into(), &false.into()));
    assert_eq!(place.read("i/Occlum.json.before-marblerun"), text);
    let after = snapshot(&place.path().join("i"));
    let again = place.run(prepare);
    assert_eq!((again.stdout.as_str(), again.code), ("i: nothing to change\n", 0));
    assert_eq!(snapshot(&place.path().join("i")), after);
}
