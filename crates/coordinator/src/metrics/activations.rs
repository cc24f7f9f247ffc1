//! Attempts and successes by Marble type and UUID.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Pairs of type and UUID with a series of their own; further UUIDs are counted as [`OTHER`].
const MAX_SERIES: usize = 1000;
/// Further pairs of a type and [`OTHER`]; beyond it the type is [`OTHER`], too.
const MAX_OTHER_SERIES: usize = 256;
/// The label of what has no series of its own.
const OTHER: &str = "other";

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    attempts: u64,
    successes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Activations(BTreeMap<(String, String), Count>);

impl Activations {
    /// Counts one attempt with its outcome.
    pub(super) fn count(&mut self, marble_type: &str, uuid: &str, success: bool) {
        let mut key = (marble_type.to_owned(), uuid.to_owned());
        if !self.0.contains_key(&key) && self.0.len() >= MAX_SERIES {
            OTHER.clone_into(&mut key.1);
            if !self.0.contains_key(&key) && self.0.len() >= MAX_SERIES + MAX_OTHER_SERIES {
                OTHER.clone_into(&mut key.0);
            }
        }
        let count = self.0.entry(key).or_default();
        count.attempts += 1;
        count.successes += u64::from(success);
    }

    pub(super) fn write(&self, text: &mut String) {
        let name = "coordinator_marble_activations_total";
        super::head(text, name, "counter", "Activation attempts.");
        for (labels, count) in &self.0 {
            write_sample(text, name, labels, count.attempts);
        }
        let name = "coordinator_marble_activations_success_total";
        super::head(text, name, "counter", "Successful activations.");
        for (labels, count) in self.0.iter().filter(|(_, count)| count.successes > 0) {
            write_sample(text, name, labels, count.successes);
        }
    }
}

fn write_sample(text: &mut String, name: &str, (marble_type, uuid): &(String, String), value: u64) {
    let _ = writeln!(text, "{name}{{type=\"{}\",uuid=\"{}\"}} {value}", escaped(marble_type), escaped(uuid));
}

/// A label value as the text format wants it.
fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: SAFE-16, STA-6.3, R35
    #[test]
    fn the_number_of_series_is_bounded_and_everything_is_counted() {
        let mut activations = Activations::default();
        for number in 0..3000 {
            activations.count(&format!("type {number}"), &number.to_string(), true);
        }
        assert_eq!(activations.0.len(), MAX_SERIES + MAX_OTHER_SERIES + 1);
        assert_eq!(activations.0.values().map(|count| count.attempts).sum::<u64>(), 3000);
    }

    // rules: ACT-2.5, SAFE-16
    #[test]
    fn a_refused_attempt_is_no_success() {
        let mut activations = Activations::default();
        activations.count("", "", false);
        let mut text = String::new();
        activations.write(&mut text);
        assert!(text.contains("coordinator_marble_activations_total{type=\"\",uuid=\"\"} 1\n"), "{text}");
        assert!(!text.contains("coordinator_marble_activations_success_total{"), "{text}");
    }

    #[test]
    fn a_label_cannot_end_its_line() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
