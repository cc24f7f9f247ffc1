//! Names: what scripts for MarbleRun v1.9.1 write is understood.

use crate::Place;

/// Every command of MarbleRun that talks to a Coordinator or reads a file, with all its flags in both spellings; cluster
/// commands and tokens are left out.
const LINES: &[&str] = &[
    "manifest get -o FILE -s -u --keep-cert HOST",
    "manifest get --output FILE --signature --display-update HOST",
    "manifest log -o FILE HOST",
    "manifest log --output FILE HOST",
    "manifest set -r FILE MANIFEST HOST",
    "manifest set --recoverydata FILE MANIFEST HOST",
    "manifest signature MANIFEST",
    "manifest verify MANIFEST HOST",
    "manifest update apply -c CERT -k KEY -r FILE MANIFEST HOST",
    "manifest update apply --cert CERT --key KEY --recoverydata FILE MANIFEST HOST",
    "manifest update acknowledge -c CERT -k KEY -r FILE MANIFEST HOST",
    "manifest update acknowledge --cert CERT --key KEY --recoverydata FILE MANIFEST HOST",
    "manifest update cancel -c CERT -k KEY HOST",
    "manifest update cancel --cert CERT --key KEY HOST",
    "manifest update get -o FILE --missing HOST",
    "manifest update get --output FILE HOST",
    "certificate root -o FILE HOST",
    "certificate intermediate --output FILE HOST",
    "certificate chain -o FILE HOST",
    "secret set --from-pem NAME -c CERT -k KEY FILE HOST",
    "secret set --cert CERT --key KEY FILE HOST",
    "secret get -o FILE -c CERT -k KEY ONE TWO HOST",
    "secret get --output FILE --cert CERT --key KEY ONE HOST",
    "secret get ONE -o FILE -c CERT TWO -k KEY HOST",
    "status HOST",
    "recover -k KEY FILE HOST",
    "recover --key KEY FILE HOST",
    "recover-with-signature -s FILE SECRET HOST",
    "recover-with-signature --signature FILE SECRET HOST",
    "recover-with-signature public-key -o FILE HOST",
    "recover-with-signature encrypt-secret --coordinator-pub-key FILE -o FILE -k KEY SECRET",
    "recover-with-signature encrypt-secret --output FILE --key KEY SECRET",
    "recover-with-signature sign-secret -o FILE -k KEY SECRET",
    "recover-with-signature sign-secret --output FILE --key KEY SECRET",
    "package-info PATH",
    "version",
];

/// Flags that every command takes.
const GLOBAL: &[&str] = &[
    "--coordinator-cert FILE --era-config FILE -i --accepted-tcb-statuses A,B --accepted-advisories C -n NAME",
    "--insecure --namespace NAME --nonce TEXT --save-sgx-quote FILE --accepted-advisories C --accepted-advisories D",
];

// rules: CLI-1
#[test]
fn commands_and_flags_of_marblerun_are_understood() {
    let place = Place::new();
    for line in LINES {
        for global in [""].iter().chain(GLOBAL) {
            // The help is given only after everything before it was understood.
            let words: Vec<_> = line.split(' ').chain(global.split(' ')).filter(|word| !word.is_empty()).collect();
            let run = place.run_words(&[&words[..], &["--help"]].concat());
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line} {global}");
        }
    }
    let run = place.run_words(&["status", "--no-such-flag", "HOST", "--help"]);
    assert_eq!(run.code, 1, "the help does not hide what is not understood");
}

// rules: CLI-1, CLI-2
#[test]
fn groups_alone_print_their_help_and_succeed() {
    let place = Place::new();
    for group in ["manifest", "manifest update", "certificate", "secret"] {
        let run = place.run(group);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{group}");
        assert!(run.stdout.contains("Usage: "), "{group}: {}", run.stdout);
    }
}
