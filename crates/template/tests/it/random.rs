//! Random templates: never a panic, never more than the limits allow.

use marblerun_template::{Budget, Limits, Template};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::values::{FUNCTIONS, data};

/// Pieces from which mostly well-formed and almost well-formed templates arise.
const PIECES: &[&str] = &[
    "{{ ",
    " }}",
    "{{- ",
    " -}}",
    "{{/* c */}}",
    "text",
    "\n",
    "}}",
    "{{",
    "if ",
    "else ",
    "else if ",
    "with ",
    "range ",
    "end",
    "{{ end }}",
    "{{ else }}",
    "define \"t\"",
    "template \"t\" ",
    "block \"b\" ",
    "break",
    "continue",
    "$x := ",
    "$x = ",
    "$x ",
    "$x, $y := ",
    "$ ",
    ". ",
    ".Map ",
    ".Map.text ",
    ".Map.words ",
    ".Map.size ",
    ".nope ",
    "nil ",
    "true ",
    "1 ",
    "-7 ",
    "0x1f ",
    "1.5e3 ",
    "1+2i ",
    "'a' ",
    "\"s\" ",
    "`r` ",
    "\"%[2]*.3v|%x %q\" ",
    "( ",
    ") ",
    "| ",
    "print ",
    "printf ",
    "println ",
    "index ",
    "slice ",
    "len ",
    "html ",
    "js ",
    "urlquery ",
    "eq ",
    "lt ",
    "and ",
    "or ",
    "not ",
    "call ",
    "double ",
    "\u{e9}",
    "\"\\xff\" ",
    ", ",
    "9223372036854775808 ",
    "\"%1000d\" ",
];

const LIMITS: Limits = Limits { steps: 20_000, value_bytes: 4096, total_value_bytes: 65_536, output_bytes: 8192 };

fn execute(source: &[u8]) -> Result<(), TestCaseError> {
    let Ok(template) = Template::parse(source, &FUNCTIONS) else { return Ok(()) };
    template.references();
    match template.execute(&data(), &mut Budget::new(LIMITS)) {
        Ok(output) => prop_assert!(output.len() <= LIMITS.output_bytes),
        Err(error) => prop_assert!(error.line >= 1 && error.column.is_some()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_pieces_never_panic(pieces in vec(select(PIECES), 0..40)) {
        execute(pieces.concat().as_bytes())?;
    }

    #[test]
    fn random_commands_never_panic(words in vec(select(&PIECES[29..]), 0..12)) {
        execute(format!("{{{{ $x := 1 }}}}{{{{ {} }}}}", words.concat()).as_bytes())?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..60)) {
        execute(&[b"{{", bytes.as_slice(), b"}}"].concat())?;
    }

    #[test]
    fn random_formats_never_panic(format in "%[#+0 -]{0,3}([0-9]{1,3}|\\*|\\[[0-9]\\])?(\\.([0-9]{1,2}|\\*)?)?[a-zA-Z%]{1,2}") {
        execute(format!("{{{{ printf {format:?} 42 \"h\\xffi\" 2.5 .Map.words nil 1i .Map }}}}").as_bytes())?;
    }

    #[test]
    fn floats_print_so_that_they_read_back(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        let source = format!("{{{{ {number:e} }}}}");
        let template = Template::parse(source.as_bytes(), &FUNCTIONS);
        // A literal without a point or exponent sign is still a float here.
        let output = template.unwrap().execute(&data(), &mut Budget::new(LIMITS)).unwrap();
        let printed = String::from_utf8_lossy(output.expose()).into_owned();
        prop_assert_eq!(printed.parse::<f64>().unwrap(), number);
    }
}
