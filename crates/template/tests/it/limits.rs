//! Each limit, with the smallest hostile template that meets it.

use marblerun_template::{
    Budget, Limit, Limits, MAX_EXEC_DEPTH, MAX_NODES, MAX_PARSE_DEPTH, MAX_SOURCE_BYTES, MAX_VARIABLES, MAX_WIDTH,
    Template,
};

use crate::values::{FUNCTIONS, run, run_with};

#[track_caller]
fn check(source: &str, limit: Limit) {
    let error = run(source).unwrap_err();
    assert_eq!((error.class(), error.kind), ("limit", limit.into()));
}

/// Native stack of the threads in which a server may execute templates.
const SMALL_STACK: usize = 2 << 20;

fn in_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(SMALL_STACK).spawn(test).unwrap().join().unwrap();
}

#[test]
fn a_variable_that_doubles_itself_is_stopped_although_it_emits_nothing() {
    let source = "{{ $x := \"ab\" }}".to_owned() + &"{{ $x = print $x $x }}".repeat(40);
    check(&source, Limit::ValueSize { max: 16 << 20 });
    let source = "{{ $x := \"ab\" }}{{ range 40 }}{{ $x = double $x }}{{ end }}";
    check(source, Limit::ValueSize { max: 16 << 20 });
}

#[test]
fn all_intermediate_values_together_are_bounded() {
    let limits = Limits { total_value_bytes: 1000, ..Limits::default() };
    let mut budget = Budget::new(limits);
    let error = run_with("{{ range 1000 }}{{ $x := print \"abc\" }}{{ end }}", &mut budget).unwrap_err();
    assert_eq!(error.kind, Limit::ValueTotal { max: 1000 }.into());
}

#[test]
fn output_is_shared_by_all_templates_of_a_budget() {
    let mut budget = Budget::new(Limits { output_bytes: 10, ..Limits::default() });
    assert_eq!(run_with("12345", &mut budget).unwrap(), "12345");
    assert_eq!(run_with("{{ 12345 }}", &mut budget).unwrap(), "12345");
    let error = run_with("1", &mut budget).unwrap_err();
    assert_eq!(error.kind, Limit::Output { max: 10 }.into());
}

#[test]
fn endless_work_without_output_is_stopped() {
    let steps = Limit::Steps { max: 1_000_000 };
    check("{{ range 9223372036854775807 }}{{ end }}", steps);
    check("{{ range 10000 }}{{ range 10000 }}{{ end }}{{ end }}", steps);
    let compare = "{{ $x := printf \"%60000s\" \"\" }}{{ range 10000 }}{{ $y := eq $x (slice $x 0) }}{{ end }}";
    check(compare, steps);
}

#[test]
fn widths_and_precisions_are_bounded_before_padding_is_made() {
    let width = Limit::Width { max: MAX_WIDTH };
    for source in [
        "{{ printf \"%65537d\" 1 }}",
        "{{ printf \"%.65537d\" 1 }}",
        "{{ printf \"%*d\" 65537 1 }}",
        "{{ printf \"%.*f\" 65537 1.0 }}",
        "{{ printf \"%-*d\" -65537 1 }}",
    ] {
        check(source, width);
    }
    assert_eq!(run("{{ printf \"%65536d\" 1 | len }}").unwrap(), "65536");
}

#[test]
fn too_long_or_too_large_templates_are_refused() {
    check(&"x".repeat(MAX_SOURCE_BYTES + 1), Limit::Source { max: MAX_SOURCE_BYTES });
    check(&"{{ 1 }}".repeat(MAX_NODES / 3), Limit::Nodes { max: MAX_NODES });
    check(&"{{ $x := 1 }}".repeat(MAX_VARIABLES), Limit::Variables { max: MAX_VARIABLES });
}

#[test]
fn deep_nesting_is_refused_and_what_is_allowed_fits_into_a_small_stack() {
    type Nest = fn(usize) -> String;
    let shapes: [Nest; 7] = [
        |n| format!("{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n)),
        |n| format!("{{{{ {}1{} }}}}", "print (".repeat(n), ")".repeat(n)),
        |n| format!("{{{{ {}.{} }}}}", "(".repeat(n), ").x".repeat(n)),
        |n| "{{ if true }}".repeat(n) + "x" + &"{{ end }}".repeat(n),
        |n| "{{ range 1 }}".repeat(n) + "x" + &"{{ end }}".repeat(n),
        |n| "{{ if false }}".to_owned() + &"{{ else if false }}".repeat(n - 1) + "{{ end }}",
        |n| (0..n).map(|i| format!("{{{{ block \"b{i}\" 1 }}}}")).collect::<String>() + &"{{ end }}".repeat(n),
    ];
    for shape in shapes {
        let too_deep = shape(MAX_PARSE_DEPTH + 1);
        check(&too_deep, Limit::ParseDepth { max: MAX_PARSE_DEPTH });
        check(&shape(100_000.min(MAX_NODES)), Limit::ParseDepth { max: MAX_PARSE_DEPTH });
        let deepest = shape(MAX_PARSE_DEPTH);
        in_small_stack(move || {
            let template = Template::parse(deepest.as_bytes(), &FUNCTIONS).unwrap();
            template.references();
            // Some of the shapes fail when executed; none may overflow the stack.
            let _ = run(&deepest);
        });
    }
}

#[test]
fn recursion_is_refused_and_fits_into_a_small_stack() {
    in_small_stack(|| {
        let depth = Limit::ExecDepth { max: MAX_EXEC_DEPTH };
        check("{{ define \"t\" }}{{ template \"t\" . }}{{ end }}{{ template \"t\" . }}", depth);
        check("{{ define \"t\" }}{{ range 1 }}{{ template \"t\" . }}{{ end }}{{ end }}{{ template \"t\" }}", depth);
        // Each of a hundred templates adds its own nesting.
        let mut source = String::from("{{ template \"t0\" . }}");
        for i in 0..100 {
            source += &format!(
                "{{{{ define \"t{i}\" }}}}{}{{{{ template \"t{}\" . }}}}{}{{{{ end }}}}",
                "{{ with 1 }}".repeat(100),
                i + 1,
                "{{ end }}".repeat(100)
            );
        }
        check(&source, depth);
        let template = Template::parse(source.as_bytes(), &FUNCTIONS).unwrap();
        assert!(template.references().contains(&Vec::new()), "too deep to follow means everything");
    });
}
