//! `$NAME` and `${NAME}` in paths.

use super::BomError;

/// Longest path after its variables are replaced.
const MAX_EXPANDED_BYTES: usize = 4096;

/// Replaces the variables of `text`; `$$` is a dollar sign.
///
/// # Errors
/// A variable that `variable` does not know, a `$` without a name, or a result of more than 4 KiB.
pub(super) fn expand(text: &str, line: usize, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, BomError> {
    let form = || BomError::VariableForm { line, text: text.to_owned() };
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            result.push('$');
            rest = behind;
            continue;
        }
        let (name, behind) = match behind.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or_else(form)?,
            None => behind.split_at(behind.find(|c: char| !is_of_name(c)).unwrap_or(behind.len())),
        };
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_of_name) {
            return Err(form());
        }
        result.push_str(&variable(name).ok_or_else(|| BomError::Variable { line, name: name.to_owned() })?);
        rest = behind;
    }
    result.push_str(rest);
    if result.len() > MAX_EXPANDED_BYTES {
        return Err(BomError::ExpandedPath { line, max: MAX_EXPANDED_BYTES });
    }
    Ok(result)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_test(name: &str) -> Option<String> {
        [("HOME", "/home/a"), ("V", "3")].iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$HOME/x", "/home/a/x"),
            ("${HOME}x/$V.so.$V", "/home/ax/3.so.3"),
            ("a$$b", "a$b"),
            ("$V$V", "33"),
        ] {
            assert_eq!(expand(text, 1, &of_test).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        assert!(matches!(expand("$NOPE/x", 7, &of_test), Err(BomError::Variable { line: 7, .. })));
        for text in ["$", "a$/b", "${HOME", "${}", "${HOME:-x}", "$1"] {
            assert!(matches!(expand(text, 1, &of_test), Err(BomError::VariableForm { .. })), "{text}");
        }
        let long = |_: &str| Some("x".repeat(3000));
        assert!(matches!(expand("$A$A", 1, &long), Err(BomError::ExpandedPath { .. })));
    }
}
