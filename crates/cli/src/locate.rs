//! Where in a manifest file something stands.

use std::collections::{BTreeMap, BTreeSet};

use marblerun_manifest::Place;
use saphyr_parser::{Event, Parser, Span, StrInput};

/// Deepest nesting that is followed; what stands deeper is located by what it stands in.
const MAX_DEPTH: usize = 100;

/// A position in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Finds members by their names, list elements by themselves. What is missing is located by what it is missing in.
///
/// The text is JSON or YAML. Behind a syntax error nothing is found.
pub(crate) fn locate(text: &str, places: &[&Place]) -> Vec<Option<Position>> {
    let wanted = places.iter().flat_map(|place| with_parents(place.as_str())).map(str::to_ascii_lowercase).collect();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut finder =
        Finder { parser: Parser::new_from_str(text), wanted, exact: BTreeMap::new(), folded: BTreeMap::new() };
    // Whatever ends the walk, what was found until then is right.
    let _ = finder.document();
    places.iter().map(|place| finder.position(place.as_str())).collect()
}

/// `a.b[0]`, `a.b`, `a`. Keys in quotes can contain anything; then some of the parents do not exist, which does no harm.
fn with_parents(place: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(place), |place| place.rfind(['.', '[']).map(|end| place.split_at(end).0))
        .filter(|place| !place.is_empty())
}

struct Finder<'text> {
    parser: Parser<'text, StrInput<'text>>,
    /// Places in lower case, because member names match without regard to case.
    wanted: BTreeSet<String>,
    exact: BTreeMap<String, Position>,
    folded: BTreeMap<String, Position>,
}

impl<'text> Finder<'text> {
    fn position(&self, place: &str) -> Option<Position> {
        with_parents(place)
            .find_map(|place| self.exact.get(place).or_else(|| self.folded.get(&place.to_ascii_lowercase())))
            .copied()
    }

    fn next(&mut self) -> Option<(Event<'text>, Position)> {
        let (event, span) = self.parser.next()?.ok()?;
        Some((event, position(&span)))
    }

    fn document(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return None,
                (event, _) => return self.value(&event, &Place::top(), 0),
            }
        }
    }

    fn value(&mut self, event: &Event<'text>, place: &Place, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match event {
            Event::SequenceStart(..) => self.elements(place, depth),
            Event::MappingStart(..) => self.members(place, depth),
            _ => Some(()),
        }
    }

    fn elements(&mut self, place: &Place, depth: usize) -> Option<()> {
        for index in 0.. {
            let (event, position) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            let place = place.index(index);
            self.found(&place, position);
            self.value(&event, &place, depth + 1)?;
        }
        Some(())
    }

    fn members(&mut self, place: &Place, depth: usize) -> Option<()> {
        loop {
            let (event, position) = self.next()?;
            let place = match &event {
                Event::MappingEnd => return Some(()),
                Event::Scalar(key, ..) => place.member(key),
                // No name of a member; its value is not reached by any place.
                _ => {
                    self.value(&event, place, depth + 1)?;
                    place.member("")
                }
            };
            self.found(&place, position);
            let (event, _) = self.next()?;
            self.value(&event, &place, depth + 1)?;
        }
    }

    fn found(&mut self, place: &Place, position: Position) {
        let folded = place.as_str().to_ascii_lowercase();
        if self.wanted.contains(&folded) {
            self.exact.insert(place.as_str().to_owned(), position);
            self.folded.entry(folded).or_insert(position);
        }
    }
}

fn position(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, place: &Place, expected: Option<(usize, usize)>) {
        let found = locate(text, &[place]).remove(0).map(|position| (position.line, position.column));
        assert_eq!(found, expected, "{place} in {text}");
    }

    fn marble() -> Place {
        Place::top().member("Marbles").member("web")
    }

    const JSON: &str = "{\n\t\"Marbles\": {\n\t\t\"web\": {\"TLS\": [\"a\",\n \"b\"], \"Parameters\": {\"Files\": \
                        {\"/etc/x.conf\": \"\"}}}\n\t}\n}";

    #[test]
    fn members_are_found_by_name_and_elements_by_themselves() {
        check(JSON, &marble(), Some((3, 3)));
        check(JSON, &marble().member("TLS").index(1), Some((4, 2)));
        check(JSON, &marble().member("Parameters").member("Files").member("/etc/x.conf"), Some((4, 33)));
        let yaml = "# comment\nMarbles:\n  web:\n    TLS:\n      - a\n      - b\n";
        check(yaml, &marble(), Some((3, 3)));
        check(yaml, &marble().member("TLS").index(1), Some((6, 9)));
    }

    #[test]
    fn what_is_missing_is_found_by_what_it_is_missing_in() {
        check(JSON, &marble().member("Package"), Some((3, 3)));
        check(JSON, &Place::top().member("Packages"), None);
        check(JSON, &Place::top(), None);
    }

    #[test]
    fn names_match_without_regard_to_case_unless_both_exist() {
        check("{\"marbles\": {\"web\": 1}}", &marble(), Some((1, 14)));
        check("{\"Marbles\": {\"WEB\": 1,\n \"web\": 1}}", &marble(), Some((2, 2)));
    }

    #[test]
    fn broken_and_deep_texts_end_the_search() {
        check("{\"Marbles\": {\"web\": 1, ]", &marble(), Some((1, 14)));
        check("", &marble(), None);
        check(&"[".repeat(100_000), &marble(), None);
    }
}
