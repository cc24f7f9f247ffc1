//! The newest successful activations, in memory only.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_coordinator_core::time::Timestamp;
use serde_json::json;

/// Events that are kept; the oldest one goes first.
const MAX_EVENTS: usize = 1000;
/// Bytes of all kept quotes and names.
const MAX_EVENTS_BYTES: usize = 4 * 1024 * 1024;
/// A longer quote, which only simulation accepts, is shown as `null`.
const MAX_QUOTE_BYTES: usize = 64 * 1024;

/// A successful activation.
#[derive(Debug)]
pub struct Event {
    time: Timestamp,
    pub(super) marble_type: String,
    uuid: String,
    quote: Vec<u8>,
}

impl Event {
    /// The event with `uuid` and `quote` as they were sent; a quote above 64 KiB is left out.
    pub fn new(time: Timestamp, marble_type: String, uuid: String, quote: Vec<u8>) -> Self {
        Self { time, marble_type, uuid, quote }
    }

    /// What an event keeps of a quote.
    pub(crate) fn kept_quote(quote: &[u8]) -> Vec<u8> {
        if quote.len() > MAX_QUOTE_BYTES { Vec::new() } else { quote.to_vec() }
    }

    fn bytes(&self) -> usize {
        self.marble_type.len() + self.uuid.len() + self.quote.len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Events {
    newest: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.newest.push_back(Arc::new(event));
        while self.newest.len() > MAX_EVENTS || self.bytes > MAX_EVENTS_BYTES {
            let Some(oldest) = self.newest.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    /// References to all events, so that nobody encodes under the lock.
    pub(super) fn all(&self) -> Vec<Arc<Event>> {
        self.newest.iter().cloned().collect()
    }
}

/// The JSON array with a newline; `null` if it is empty.
pub(super) fn json(events: &[Arc<Event>]) -> String {
    if events.is_empty() {
        return "null\n".to_owned();
    }
    let members = events.iter().map(|event| {
        let quote = (!event.quote.is_empty()).then(|| STANDARD.encode(&event.quote));
        // Written member by member: clients of MarbleRun v1.9.1 see this order.
        format!(
            r#"{{"time":{},"activation":{{"marbleType":{},"uuid":{},"quote":{}}}}}"#,
            json!(event.time.to_iso8601()),
            json!(event.marble_type),
            json!(event.uuid),
            json!(quote)
        )
    });
    format!("[{}]\n", members.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    fn event(uuid: usize, quote: usize) -> Event {
        Event::new(now(), "web".to_owned(), uuid.to_string(), vec![0; quote])
    }

    // rules: STA-6.3, R20, R35
    #[test]
    fn the_newest_events_are_kept_up_to_a_number() {
        let mut events = Events::default();
        (0..MAX_EVENTS + 5).for_each(|number| events.push(event(number, 1)));
        let kept = events.all();
        assert_eq!((kept.len(), kept[0].uuid.as_str()), (MAX_EVENTS, "5"));
        assert_eq!(events.bytes, kept.iter().map(|event| event.bytes()).sum::<usize>());
    }

    // rules: STA-6.3, R20, R35
    #[test]
    fn the_newest_events_are_kept_up_to_a_size() {
        let mut events = Events::default();
        (0..100).for_each(|number| events.push(event(number, MAX_QUOTE_BYTES)));
        assert!(events.bytes <= MAX_EVENTS_BYTES);
        assert_eq!(events.all().last().map(|event| event.uuid.clone()), Some("99".to_owned()));
        assert!(events.all().len() > 50);
    }

    #[test]
    fn a_quote_that_is_too_long_is_not_kept() {
        assert_eq!(Event::kept_quote(&[1; MAX_QUOTE_BYTES]).len(), MAX_QUOTE_BYTES);
        assert_eq!(Event::kept_quote(&[1; MAX_QUOTE_BYTES + 1]).len(), 0);
    }
}
