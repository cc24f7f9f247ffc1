//! Which parts of its data a template can look at.

use marblerun_template::Template;

use crate::values::FUNCTIONS;

#[track_caller]
fn check(source: &str, expected: &[&str]) {
    let found = Template::parse(source.as_bytes(), &FUNCTIONS).unwrap().references();
    let found: Vec<String> = found.iter().map(|path| format!("/{}", path.join("/"))).collect();
    assert_eq!(found, expected, "{source}");
}

#[test]
fn text_and_literals_use_nothing() {
    check("text {{ print 1 \"a\" }}{{ range 3 }}{{ . }}{{ end }}", &[]);
}

#[test]
fn field_chains_and_literal_indices_are_followed() {
    check("{{ print .S.a }}{{ .S.b.Private }}{{ $.S.c }}", &["/S/a", "/S/b/Private", "/S/c"]);
    check("{{ index .S \"my-key\" }}", &["/S/my-key"]);
    check("{{ (index .S \"my-key\").Cert.Raw }}", &["/S/my-key/Cert/Raw"]);
    check("{{ (index (.S) \"a\" \"b\").c | print }}", &["/S/a/b/c"]);
    check("{{ if eq .S.a.Type \"x\" }}{{ else if .S.b }}{{ else }}{{ .S.c }}{{ end }}", &["/S/a/Type", "/S/b", "/S/c"]);
}

#[test]
fn variables_with_and_templates_are_followed() {
    check("{{ $s := .S }}{{ $s.a }}", &["/S/a"]);
    check("{{ with .S.k }}{{ .Size }}{{ $.T }}{{ end }}", &["/S/k", "/S/k/Size", "/T"]);
    check("{{ define \"t\" }}{{ .a }}{{ end }}{{ template \"t\" .S }}{{ template \"t\" .T }}", &["/S/a", "/T/a"]);
    check("{{ block \"t\" .S }}{{ .a }}{{ end }}", &["/S/a"]);
    check("{{ define \"unused\" }}{{ .a }}{{ end }}", &[]);
    check("{{ $x := .A }}{{ $x = .B }}{{ $x.c }}", &["/A/c", "/B"]);
}

#[test]
fn what_cannot_be_followed_counts_as_used_with_everything_below() {
    check("{{ range .S }}{{ .Private }}{{ end }}", &["/S"]);
    check("{{ index .S .Name }}", &["/Name", "/S"]);
    check("{{ .Name | index .S }}", &["/Name", "/S"]);
    check("{{ len .S }}", &["/S"]);
    check("{{ print . }}", &["/"]);
    check("{{ (or .S .T).a }}", &["/S", "/T"]);
    check(
        "{{ define \"t\" }}{{ template \"t\" .a }}{{ .b }}{{ end }}{{ template \"t\" .S }}",
        &[
            "/S/a/a/a/a/a/a/a",
            "/S/a/a/a/a/a/a/b",
            "/S/a/a/a/a/a/b",
            "/S/a/a/a/a/b",
            "/S/a/a/a/b",
            "/S/a/a/b",
            "/S/a/b",
            "/S/b",
        ],
    );
}
