use super::*;

/// The hello world of the samples with a premain as it is distributed.
fn hello() -> Inputs {
    Inputs {
        premain: Loaded { program: 2_680_000, interpreter: 210_000, libraries: 2_050_000 },
        program: Loaded { program: 20_480, interpreter: 210_000, libraries: 1_970_000 },
        arguments: vec!["/bin/hello_world".to_owned(), "Hello".to_owned()],
        default_environment: vec!["OCCLUM=yes".to_owned(), "EDG_MARBLE_TYPE=hello".to_owned()],
        untrusted_names: vec!["EDG_MARBLE_COORDINATOR_ADDR".to_owned(), "EDG_MARBLE_DNS_NAMES".to_owned()],
        threads: 1,
        ..Inputs::default()
    }
}

// rules: INST-2
#[test]
fn the_hello_world_needs_at_most_64_megabytes() {
    let sizes = compute(&hello());
    assert!(sizes.user_space.value <= 64 * MIB, "{:#?}", sizes.user_space);
    assert_eq!(sizes.user_space.text(), format!("{}MB", sizes.user_space.value / MIB));
    assert_eq!(sizes.stack.text(), "4MB");
    assert_eq!(sizes.threads.text(), "8");
}

#[test]
fn every_need_is_the_sum_of_its_terms() {
    for figure in compute(&hello()).figures() {
        if figure.member != "process.default_stack_size" && !figure.terms.is_empty() {
            assert_eq!(figure.need, sum(&figure.terms), "{}", figure.member);
        }
        assert!(figure.value >= figure.need, "{}", figure.member);
        assert!(!figure.explanation().is_empty());
    }
}

/// At execve both processes hold heap and stack.
#[test]
fn heap_and_stack_count_twice() {
    let base = compute(&hello()).user_space.need;
    let with = |change: fn(&mut Inputs)| {
        let mut inputs = hello();
        change(&mut inputs);
        compute(&inputs).user_space.need - base
    };
    let twice = |bytes: u64| 2 * bytes + 2 * bytes / FRAGMENTATION_SHARE;
    assert!(with(|inputs| inputs.heap = Some(16 * MIB)).abs_diff(twice(8 * MIB)) <= 1);
    assert!(with(|inputs| inputs.stack = Some(8 * MIB)).abs_diff(twice(4 * MIB)) <= 1);
}

#[test]
fn a_program_that_maps_much_decides_over_the_moment_of_execve() {
    let inputs = Inputs { mmap: Some(256 * MIB), ..hello() };
    let sizes = compute(&inputs);
    assert!(sizes.user_space.need > 256 * MIB);
    assert!(sizes.user_space.note.starts_with("while the program runs"));
    assert!(sizes.mmap.value > 256 * MIB);
}

/// The first mapping reserves 32 MiB, also in a program that maps less.
#[test]
fn mappings_of_a_running_program_are_whole_steps() {
    let need = |mmap| {
        let inputs = Inputs { premain: Loaded::default(), program: Loaded::default(), mmap: Some(mmap), ..hello() };
        compute(&inputs).user_space.need
    };
    assert_eq!(need(1), need(32 * MIB));
    assert!(need(MIB) >= (32 + 8 + 4) * MIB);
    assert_eq!(need(33 * MIB) - need(32 * MIB), 32 * MIB + MIB);
}

#[test]
fn further_threads_take_a_stack_each() {
    let of = |threads| compute(&Inputs { threads, mmap: Some(64 * MIB), ..hello() });
    assert_eq!(of(9).mmap.need - of(1).mmap.need, 8 * 4 * MIB);
    assert_eq!(of(9).threads.need - of(1).threads.need, 8);
    assert_eq!(of(0), of(1));
}

#[test]
fn a_large_environment_raises_the_stack() {
    let inputs = Inputs { manifest_environment_bytes: Some(64 * KIB), ..hello() };
    let sizes = compute(&inputs);
    assert!(sizes.argument_area.need > 64 * KIB);
    assert!(sizes.argument_area.value >= sizes.argument_area.need);
    assert_eq!(sizes.stack.need, sizes.stack.value);
    assert!(sizes.stack.value >= 64 * KIB * 256);
}

#[test]
fn a_wanted_stack_stays_unless_it_is_too_small() {
    assert_eq!(compute(&Inputs { stack: Some(8 * MIB), ..hello() }).stack.value, 8 * MIB);
    let small = compute(&Inputs { stack: Some(MIB), ..hello() });
    assert!(small.stack.value > MIB);
    assert!(argument_area(small.stack.value) >= small.argument_area.need);
}

#[test]
fn a_program_without_premain_needs_itself_only() {
    let inputs = Inputs { premain: Loaded::default(), ..hello() };
    let sizes = compute(&inputs);
    assert!(sizes.user_space.terms.iter().all(|term| !term.what.contains("premain")));
    assert!(sizes.user_space.need < compute(&hello()).user_space.need);
}

#[test]
fn huge_wishes_do_not_overflow() {
    let huge = Some(u64::MAX);
    let inputs = Inputs {
        stack: huge,
        heap: huge,
        mmap: huge,
        threads: u32::MAX,
        manifest_environment_bytes: huge,
        premain: Loaded { program: u64::MAX, interpreter: u64::MAX, libraries: u64::MAX },
        ..hello()
    };
    compute(&inputs);
}

#[test]
fn the_explanation_shows_the_sum() {
    let lines = compute(&hello()).user_space.explanation();
    assert!(lines.iter().any(|line| line == "8.0 MiB heap of the premain"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("together")), "{lines:#?}");
}
