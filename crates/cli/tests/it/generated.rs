//! Generated documents are current; with `MARBLERUN_REGENERATE` they are written anew.

use crate::Place;

#[test]
fn the_generated_reference_is_current() {
    let run = Place::new().run("documentation");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli-reference.md");
    if std::env::var_os("MARBLERUN_REGENERATE").is_some() {
        std::fs::write(path, &run.stdout).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == run.stdout, "docs/cli-reference.md is not current: run `cargo xtask generate`");
}

#[test]
fn man_pages_are_written_for_every_command() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("man")).unwrap();
    let run = place.run("documentation --man man");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    for page in ["marblerun.1", "marblerun-manifest-plan.1", "marblerun-status.1"] {
        assert!(place.read(&format!("man/{page}")).contains(".TH "), "{page}");
    }
}

#[test]
fn every_shell_gets_a_completion() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = Place::new().run(&format!("completion {shell}"));
        assert!(run.code == 0 && run.stdout.contains("accepted-tcb-statuses"), "{shell}");
    }
}
