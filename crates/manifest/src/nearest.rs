//! "Did you mean": the nearest of the names that exist.

/// Longer names are not compared; nobody misspells them by a letter.
const MAX_COMPARED_CHARS: usize = 40;

/// More candidates are not compared, so that a hostile manifest cannot make suggestions expensive.
const MAX_CANDIDATES: usize = 1000;

/// The candidate that `name` is probably a misspelling of.
///
/// Equal but for case and the separators `-`, `_` and blank, or at most one edit per three letters away, or one the
/// beginning of the other.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(name);
    let allowed = (folded.len() / 3).min(3);
    candidates
        .take(MAX_CANDIDATES)
        .filter(|candidate| *candidate != name)
        .map(|candidate| (distance_or_prefix(&folded, &fold(candidate), allowed), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn fold(name: &str) -> Vec<char> {
    name.chars()
        .filter(|character| !matches!(character, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .take(MAX_COMPARED_CHARS + 1)
        .collect()
}

/// The distance; of a name and its beginning, such as `Environment` and `Env`, the largest that is allowed.
fn distance_or_prefix(left: &[char], right: &[char], allowed: usize) -> usize {
    const MIN_PREFIX_CHARS: usize = 3;
    let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
    let prefix = short.len() >= MIN_PREFIX_CHARS && long.starts_with(short);
    let distance = distance(left, right);
    if prefix { distance.min(allowed) } else { distance }
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one name to the other.
fn distance(left: &[char], right: &[char]) -> usize {
    if left.len() > MAX_COMPARED_CHARS || right.len() > MAX_COMPARED_CHARS {
        return usize::MAX;
    }
    let mut two_back: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, left_char) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, right_char) in right.iter().enumerate() {
            let replace = previous[column] + usize::from(left_char != right_char);
            let mut best = replace.min(previous[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *left_char == right[column - 1] && left[row - 1] == *right_char;
            if swapped {
                best = best.min(two_back[column - 1] + 1);
            }
            current.push(best);
        }
        two_back = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        let candidates = ["UniqueID", "SignerID", "ProductID", "dbPassword", "my-key"];
        assert_eq!(nearest(name, candidates.into_iter()), expected);
    }

    #[test]
    fn misspellings_find_their_name_and_other_words_none() {
        check("Unique_ID", Some("UniqueID"));
        check("UniqeuID", Some("UniqueID"));
        check("dbPaswrd", Some("dbPassword"));
        check("myKey", Some("my-key"));
        check("Signer", Some("SignerID"));
        check("Sign", Some("SignerID"));
        check("Infrastructure", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }
}
