//! Sizes and threads: whether premain and program fit, with the arithmetic of [`sizing`](crate::sizing).

use super::Entry;
use super::configuration::Configuration;
use super::delivered::environment_bytes;
use super::finding::{Findings, Place};
use super::programs::Found;
use super::rule::Rule;
use crate::sizing::{Inputs, Sizes, Term, argument_area, compute};

/// The smallest stack.
const MIN_STACK: u64 = 4096;

/// Premain, program, and two helpers of the LibOS.
const MIN_THREADS: u64 = 4;

pub(super) fn check(
    configuration: &Configuration,
    entry: Option<&Entry<'_>>,
    premain: Option<&Found>,
    program: Option<&Found>,
    findings: &mut Findings,
) {
    process_sizes(configuration, findings);
    let inputs = inputs(configuration, entry, premain, program);
    let sizes = compute(&inputs);
    if let (Some(stack), Some(user_space)) = (configuration.stack, configuration.user_space) {
        area(stack, user_space, &sizes, findings);
        // Without the programs the sum says little, and what is missing has been told.
        if premain.is_some() {
            user_space_need(user_space, &inputs, stack, findings);
        }
    }
    if let Some(most) = configuration.max_threads {
        threads(most, configuration.rings, &sizes, program, findings);
    }
}

fn inputs(
    configuration: &Configuration,
    entry: Option<&Entry<'_>>,
    premain: Option<&Found>,
    program: Option<&Found>,
) -> Inputs {
    let texts = |list: &[(String, String)]| list.iter().map(|(_, text)| text.clone()).collect();
    Inputs {
        premain: premain.map(|found| found.loaded).unwrap_or_default(),
        program: program.map(|found| found.loaded).unwrap_or_default(),
        arguments: entry.map(|entry| entry.marble.parameters.argv.clone()).unwrap_or_default(),
        default_environment: texts(&configuration.defaults),
        untrusted_names: texts(&configuration.untrusted),
        manifest_environment_bytes: entry.map(|entry| environment_bytes(entry.manifest, entry.marble)),
        stack: configuration.stack,
        heap: configuration.heap,
        // What a program maps is its author's to say.
        mmap: Some(0),
        // Its own threads share what it was given; two stand for more than one.
        threads: if program.is_some_and(|program| program.has_threads) { 2 } else { 1 },
    }
}

fn process_sizes(configuration: &Configuration, findings: &mut Findings) {
    let place = |name: &str| Place::OcclumJson(format!("process.{name}"));
    let (Some(stack), Some(heap)) = (configuration.stack, configuration.heap) else { return };
    if stack < MIN_STACK {
        let reason = format!("expected at least {MIN_STACK} bytes, got {stack}");
        findings.add(Rule::ProcessSizes, place("default_stack_size"), reason);
    }
    if let Some(user_space) = configuration.user_space
        && stack.saturating_add(heap) > user_space
    {
        let reason = format!(
            "stack and heap of one process, {}, are more than user_space_size, {}",
            bytes(stack.saturating_add(heap)),
            bytes(user_space)
        );
        findings.add(Rule::ProcessSizes, place("default_heap_size"), reason);
    }
    if configuration.mmap == Some(0) {
        findings.add(Rule::AddressLimit, place("default_mmap_size"), "the address space limit is heap and stack alone");
    }
}

fn area(stack: u64, user_space: u64, sizes: &Sizes, findings: &mut Findings) {
    let (need, has) = (sizes.argument_area.need, argument_area(stack));
    if need <= has {
        return;
    }
    let place = Place::OcclumJson("process.default_stack_size".to_owned());
    let needed_stack = sizes.stack.need;
    let reason = format!(
        "arguments and environment need about {need} bytes ({}), the area has {has}: a stack of {}",
        sum(&sizes.argument_area.terms),
        bytes(needed_stack)
    );
    let fix = format!("Set it to \"{}MB\", or deliver large values as files.", needed_stack.div_ceil(1 << 20));
    if needed_stack > user_space {
        findings.add(Rule::ArgumentUserSpace, place, reason);
    } else {
        findings.add_with_fix(Rule::ArgumentArea, place, reason, fix);
    }
}

fn user_space_need(user_space: u64, inputs: &Inputs, stack: u64, findings: &mut Findings) {
    // With the stack as it is written: that it may have to be larger is another finding.
    let manifest_environment_bytes = Some(0);
    let sizes = compute(&Inputs { manifest_environment_bytes, stack: Some(stack), ..inputs.clone() });
    let need = sizes.user_space.need;
    if need > user_space {
        let reason = format!(
            "{} are needed ({}), user_space_size is {}",
            bytes(need),
            sum(&sizes.user_space.terms),
            bytes(user_space)
        );
        let fix = format!("Set it to at least \"{}MB\".", need.div_ceil(1 << 20));
        findings.add_with_fix(
            Rule::UserSpace,
            Place::OcclumJson("resource_limits.user_space_size".to_owned()),
            reason,
            fix,
        );
    }
}

fn threads(most: u64, rings: u64, sizes: &Sizes, program: Option<&Found>, findings: &mut Findings) {
    let place = Place::OcclumJson("resource_limits.max_num_of_threads".to_owned());
    // Each ring of io_uring is polled by a thread.
    let need = sizes.threads.need.saturating_add(rings);
    if most < MIN_THREADS {
        findings.add(Rule::TooFewThreads, place, format!("expected at least {MIN_THREADS}, got {most}"));
    } else if most < need && program.is_some() {
        let reason = format!("at least {need} are likely ({}), got {most}", sum(&sizes.threads.terms));
        findings.add(Rule::FewThreads, place, reason);
    }
}

/// "a 4, b 5": what a number is made of.
fn sum(terms: &[Term]) -> String {
    let terms = terms.iter().filter(|term| term.amount > 0);
    terms.map(|term| format!("{} {}", term.what, bytes(term.amount))).collect::<Vec<_>>().join(" + ")
}

/// As `Occlum.json` would say it, as far as that is exact.
fn bytes(amount: u64) -> String {
    match amount {
        0..1_048_576 => amount.to_string(),
        _ if amount.is_multiple_of(1 << 20) => format!("{}MB", amount >> 20),
        _ => format!("{:.1}MB", amount as f64 / f64::from(1 << 20)),
    }
}
