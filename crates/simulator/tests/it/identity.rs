//! What programs of every kind see (uname, `/dev/sgx`, files).

use crate::fixture::{Fixture, go_program, program, rust_program};

/// The line of a probe, with the size of the quote taken from `sample`.
fn line(who: &str, sample: &str) -> String {
    let (_, seen) = sample.split_once(": ").expect("a probe prints who it is");
    format!("{who}: {}", seen.trim_end())
}

// rules: SIM-1
#[test]
fn static_go_static_c_and_dynamic_rust_programs_see_the_same_occlum() {
    let fixture = Fixture::new();
    fixture.add(&rust_program(), "/bin/rust");
    fixture.add_file(&go_program(), "go");
    fixture.add_file(&program("probe-static"), "static");
    let dynamic = fixture.run(&[], &["/bin/probe"]);
    assert!(dynamic.stdout.starts_with("identity: Occlum 0.1 x86_64 quote of "), "{dynamic:#?}");
    for other in ["/bin/rust", "/bin/go", "/bin/static"] {
        fixture.run(&[], &[other]).expect(0, &dynamic.stdout);
    }
}

// rules: SIM-2
#[test]
fn threads_forks_programs_and_spawned_programs_are_under_the_same_rules() {
    let fixture = Fixture::new();
    let seen = fixture.run(&[], &["/bin/probe", "inherit"]);
    let first = seen.stdout.lines().next().unwrap_or_default().to_owned();
    let expected: Vec<_> = ["self", "thread", "fork", "exec", "spawn"].map(|who| line(who, &first)).into();
    assert!(first.contains("Occlum"), "{seen:#?}");
    seen.expect(0, &expected.join("\n"));
}

// rules: SIM-4
#[test]
fn every_failing_ioctl_gives_einval_and_leaves_memory_untouched() {
    Fixture::new().run(&[], &["/bin/probe", "refusals"]).expect(0, "refused");
}

#[test]
fn without_dcap_and_with_empty_quotes_there_is_no_quote() {
    let fixture = Fixture::new();
    fixture.run(&[], &["/bin/probe", "quote"]).expect(0, "driver 1 quote possible");
    fixture.run(&["--no-dcap"], &["/bin/probe", "quote"]).expect(0, "driver 0 quote EINVAL");
    fixture.run(&["--empty-quote"], &["/bin/probe", "quote"]).expect(0, "driver 1 quote EINVAL");
}

#[test]
fn seal_keys_follow_the_policy_across_starts_and_instances() {
    let first = Fixture::new();
    let key = |fixture: &Fixture, policy: &str| {
        let finished = fixture.run(&[], &["/bin/probe", "seal-key", policy]);
        assert_eq!(finished.stdout.trim_end().len(), 32, "{finished:#?}");
        finished.stdout
    };
    let (unique, product) = (key(&first, "1"), key(&first, "2"));
    assert_eq!(unique, key(&first, "1"));
    assert_ne!(unique, product);
    std::fs::write(first.path("instance/image/new-file"), "").unwrap();
    assert_ne!(unique, key(&first, "1"));
    assert_eq!(product, key(&first, "2"));
    // Another development root is another machine.
    assert_ne!(product, key(&Fixture::new(), "2"));
}

#[test]
fn the_file_system_has_the_devices_and_files_of_occlum() {
    let seen = Fixture::new().run(&[], &["/bin/probe", "files"]);
    seen.expect(
        0,
        "/dev/null yes\n/dev/zero yes\n/dev/random yes\n/dev/urandom yes\n/dev/arandom yes\n/dev/sgx yes\n\
         /dev/shm yes\n/etc/hosts yes\n/tmp yes\n/host no\nin / as 0",
    );
}
