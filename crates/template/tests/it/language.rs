//! What the recorded results of Go, which are tested with the data model, do not show.

use marblerun_template::{Budget, ErrorKind, Limits, SyntaxError, Template};

use crate::values::{FUNCTIONS, data, run};

static_assertions::assert_impl_all!(Template: Send, Sync);

#[track_caller]
fn check(source: &str, expected: &str) {
    assert_eq!(run(source).unwrap(), expected, "{source}");
}

#[track_caller]
fn check_refused(source: &str, class: &str, message: &str) {
    let error = run(source).unwrap_err();
    assert_eq!((error.class(), error.to_string().as_str()), (class, message), "{source}");
}

#[test]
fn a_parsed_template_can_be_executed_many_times() {
    let template = Template::parse(b"{{ .Map.text }}{{ $x := 1 }}{{ $x }}", &FUNCTIONS).unwrap();
    let mut budget = Budget::new(Limits::default());
    for _ in 0..3 {
        assert_eq!(template.execute(&data(), &mut budget).unwrap().expose(), b"secret1");
    }
}

#[test]
fn functions_of_the_host_are_called_and_their_class_is_kept() {
    check("{{ double .Map.text }}", "secretsecret");
    check_refused("\n{{ double 1 }}", "not-text", "line 2, column 4: double: expected text");
}

// rules: ACT-6.1
#[test]
fn maps_print_sorted_and_structures_do_not_print() {
    check("{{ .Map }}", "map[size:7 text:secret words:[a b]]");
    check_refused(
        "{{ . }}",
        "unprintable",
        "line 1, column 4: a value of type Root cannot be printed as a whole; name one of its fields",
    );
}

#[test]
fn errors_name_types_and_identifiers_but_no_values() {
    for source in [
        "{{ index .Map.text 99 }}",
        "{{ lt .Map.text 1 }}",
        "{{ .Map.text.x }}",
        "{{ len .Map.size }}",
        "{{ range .Map.text }}{{ end }}",
        "{{ slice .Map.text 9 }}",
        "{{ double (len .Map.text) }}",
        "{{ printf .Map.size }}",
    ] {
        let error = run(source).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("99"), "{shown}");
    }
}

#[test]
fn a_name_with_a_dash_gives_a_hint() {
    let error = run("{{ .Map.my-key }}").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Syntax(SyntaxError::BadCharacter { character: '-' }));
    assert!(error.hint().unwrap().contains("index"));
}

#[test]
fn hexadecimal_floats_round_to_the_nearest_even() {
    check("{{ 0x1.00000000000008p0 }}", "1");
    check("{{ 0x1.000000000000081p0 }}", "1.0000000000000002");
    check("{{ 0x1.00000000000018p0 }}", "1.0000000000000004");
    check("{{ 0x1p-1074 }}", "5e-324");
    check("{{ 0x1p-1076 }}", "0");
    check("{{ 0x1.fffffffffffffp1023 }}", "1.7976931348623157e+308");
    check("{{ 0x0.00000000000000000000000001p100 }}", "0.0625");
}
