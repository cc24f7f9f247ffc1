#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod cases;
mod fixture;

use std::collections::BTreeSet;

use super::*;
use fixture::Instance;

/// Rules that `found` breaks, with the reasons.
fn described(found: &[Finding]) -> String {
    let lines = found.iter().map(|f| format!("  {} {} [{}] {}\n", f.severity.word(), f.rule.id(), f.place, f.reason));
    lines.collect()
}

// rules: OCC-8
#[test]
fn a_good_instance_breaks_no_rule() {
    let found = Instance::good().check();
    assert!(found.is_empty(), "\n{}", described(&found));
}

// rules: OCC-8, OCC-9
#[test]
fn each_rule_is_broken_by_its_case_and_by_nothing_else() {
    for case in cases::ALL {
        let mut instance = Instance::good();
        (case.change)(&mut instance);
        let found = instance.check();
        let context = format!("{} ({})\n{}", case.rule.id(), case.reason, described(&found));
        let finding = found.iter().find(|finding| finding.rule == case.rule && finding.reason.contains(case.reason));
        let finding = finding.unwrap_or_else(|| panic!("not found: {context}"));
        assert_eq!(finding.place.to_string(), case.place, "{context}");
        let expected = if instance.is_debuggable() { case.rule.severity_if_debuggable() } else { case.rule.severity() };
        assert_eq!(finding.severity, case.severity.unwrap_or(expected), "{context}");
        let rules: BTreeSet<&str> = found.iter().map(|finding| finding.rule.id()).collect();
        let wanted = BTreeSet::from_iter(case.also.iter().copied().chain([case.rule]).map(Rule::id));
        assert_eq!(rules, wanted, "{context}");
        assert!(!finding.fix.is_empty() && !finding.reason.is_empty(), "{context}");
    }
}

#[test]
fn a_file_with_very_many_members_is_judged_soon() {
    let members: Vec<_> = (0..85_000).map(|number| format!("\"k{number}\":1")).collect();
    let instance = tempfile::tempdir().unwrap();
    std::fs::create_dir(instance.path().join("image")).unwrap();
    std::fs::write(instance.path().join("Occlum.json"), format!("{{{}}}", members.join(","))).unwrap();
    let start = std::time::Instant::now();
    assert!(!check(instance.path(), None).unwrap().is_empty());
    // Comparing each with each takes a quarter of a minute.
    assert!(start.elapsed().as_secs() < 6, "{:?}", start.elapsed());
}

#[test]
fn every_rule_has_a_case() {
    let covered: BTreeSet<Rule> = cases::ALL.iter().map(|case| case.rule).collect();
    let missing: Vec<&str> = Rule::ALL.iter().filter(|rule| !covered.contains(rule)).map(|rule| rule.id()).collect();
    assert!(missing.is_empty(), "no case breaks {missing:?}");
}

#[test]
fn ids_are_unique_and_texts_are_sentences() {
    let ids: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        let id = rule.id();
        assert!(id.starts_with("OCCLUM-") && id.bytes().all(|b| b.is_ascii_uppercase() || b == b'-'), "{id}");
        assert!(rule.why().ends_with('.') && rule.fix().ends_with('.'), "{id}");
        assert!(rule.severity_if_debuggable() >= rule.severity(), "{id}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut instance = Instance::good();
    instance.config("\"8MB\"", "\"8mb\"");
    instance.config("\"max_num_of_threads\"", "\"max_num_of_thread\"");
    instance.config("\"product_id\": 258", "\"product_id\": 65536");
    instance.config("\"/bin/premain-libos\"", "\"bin/premain-libos\"");
    let rules: BTreeSet<Rule> = instance.check().iter().map(|finding| finding.rule).collect();
    for rule in
        [Rule::Size, Rule::UnknownKey, Rule::MissingKey, Rule::IdRange, Rule::EntryPointPath, Rule::NoEntryPoint]
    {
        assert!(rules.contains(&rule), "{} is missing in {rules:?}", rule.id());
    }
}

#[test]
fn a_misspelt_member_is_recognised() {
    let mut instance = Instance::good();
    instance.config("\"disable_log\"", "\"disablelog\"");
    let found = instance.check();
    assert_eq!(found[0].fix, "Did you mean \"disable_log\"?", "{}", described(&found));
}

#[test]
fn without_a_manifest_the_instance_alone_is_judged() {
    assert_eq!(Instance::good().check_alone(), []);
}

#[test]
fn a_debuggable_instance_whose_package_says_so_is_only_warned_of() {
    let mut instance = Instance::good();
    instance.config("\"debuggable\": false", "\"debuggable\": true");
    instance.manifest("\"UniqueID\"", "\"Debug\": true, \"UniqueID\"");
    instance.build(|structure| structure[928] = 6);
    instance.remove("image/etc/marblerun/coordinator.json");
    let found = instance.check();
    assert!(found.iter().all(|finding| finding.severity != Severity::Error), "\n{}", described(&found));
    let warned: BTreeSet<Rule> = found.iter().map(|finding| finding.rule).collect();
    assert_eq!(warned, BTreeSet::from([Rule::Debuggable, Rule::NoPin]));
}

/// Occlum raises them itself.
#[test]
fn small_limits_of_an_instance_with_edmm_are_no_mistakes() {
    let mut instance = Instance::good();
    instance.config("\"amx\": 0", "\"enable_edmm\": true");
    instance.config("\"max_num_of_threads\": 16", "\"max_num_of_threads\": 1");
    instance.config("\"user_space_size\": \"128MB\"", "\"user_space_size\": \"1MB\", \"user_space_max_size\": \"2MB\"");
    let rules: BTreeSet<Rule> = instance.check().iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, BTreeSet::from([Rule::Edmm]));
}

#[test]
fn a_premain_as_init_needs_none_in_the_image_and_its_entry_no_program() {
    let mut instance = Instance::good();
    instance.elf("initfs/bin/init", &fixture::premain());
    instance.write("initfs/etc/marblerun/coordinator.json", fixture::PIN);
    instance.remove("image/bin/premain-libos");
    instance.remove("image/etc/marblerun/premain.json");
    instance.config("\"/bin/premain-libos\"", "\"/bin/app\"");
    instance.config("EDG_MARBLE_TYPE=web", "EDG_MARBLE_INIT_TYPE=web\", \"EDG_MARBLE_TYPE=app");
    instance.manifest("[\"/bin/app\", \"--serve\"]", "[]");
    let found = instance.check();
    assert!(found.is_empty(), "\n{}", described(&found));
}

#[test]
fn the_entry_is_found_by_name_or_because_it_is_the_only_one() {
    let two = Manifest::decode(br#"{"Marbles": {"a": {"Package": "p"}, "b": {"Package": "p"}}}"#).unwrap();
    let one = Manifest::decode(br#"{"Marbles": {"a": {"Package": "p"}}}"#).unwrap();
    assert_eq!(Entry::find(&two, Some("b")).unwrap().name(), "b");
    assert_eq!(Entry::find(&one, None).unwrap().name(), "a");
    let error = Entry::find(&two, None).unwrap_err();
    assert_eq!(error.to_string(), "expected the name of a Marble, because the manifest has \"a\", \"b\"");
    let error = Entry::find(&one, Some("b")).unwrap_err();
    assert_eq!(error.to_string(), "the manifest has no Marble \"b\", only \"a\"");
}

#[test]
fn a_directory_without_configuration_cannot_be_judged() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(check(directory.path(), None), Err(CheckError::Read { .. })));
    std::fs::write(directory.path().join("Occlum.json"), vec![b' '; MAX_LEN as usize + 1]).unwrap();
    assert!(matches!(check(directory.path(), None), Err(CheckError::TooLong(_))));
    // Opening a pipe would wait for ever.
    std::fs::remove_file(directory.path().join("Occlum.json")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(directory.path().join("Occlum.json")).status().unwrap().success());
    assert!(matches!(check(directory.path(), None), Err(CheckError::Read { .. })));
}

#[test]
fn hostile_configurations_are_findings() {
    let directory = tempfile::tempdir().unwrap();
    let deep = "[".repeat(100_000);
    let wide = format!("{{{}}}", (0..50_000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","));
    for text in ["", "[]", "{", "null", "{\"mount\": [[[]]], \"env\": 3}", "\u{feff}{}", &deep, &wide] {
        std::fs::write(directory.path().join("Occlum.json"), text).unwrap();
        let found = check(directory.path(), None).unwrap();
        assert!(found.iter().any(|finding| finding.severity == Severity::Error), "{:.40}", text);
        assert!(found.len() <= 500);
    }
}

/// The table of docs/occlum-check.md.
fn table() -> String {
    let mut text = String::new();
    for family in Family::ALL {
        text.push_str(&format!(
            "\n## {}\n\n| Rule | Severity | Why | What to do |\n|---|---|---|---|\n",
            family.title()
        ));
        for rule in Rule::ALL.iter().filter(|rule| rule.family() == family) {
            let (usual, relaxed) = (rule.severity(), rule.severity_if_debuggable());
            let severity = match usual == relaxed {
                true => usual.word().to_owned(),
                false => format!("{}; debuggable: {}", usual.word(), relaxed.word()),
            };
            text.push_str(&format!("| `{}` | {severity} | {} | {} |\n", rule.id(), rule.why(), rule.fix()));
        }
    }
    text
}

#[test]
fn the_document_lists_every_rule_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/occlum-check.md");
    let document = std::fs::read_to_string(path).unwrap();
    let start = document.find("\n## Configuration\n").unwrap_or(document.len());
    let table = table();
    assert!(document[start..] == table, "docs/occlum-check.md: expected from \"## Configuration\" on:\n{table}");
}
