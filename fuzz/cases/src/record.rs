//! What the Coordinator's state is made of.

use marblerun_coordinator_core::record::Record;
use marblerun_coordinator_core::uuid::MarbleUuid;

use crate::Verdict;
use crate::set_manifest::replay;

/// A record of the log: what was read is written and read as the same.
///
/// Only authentic records get this far, but they may come from another version; so they are also applied.
pub fn record(data: &[u8]) -> Verdict {
    let decoded = Record::decode(data);
    if let Ok(record) = &decoded {
        let encoded = record.encode();
        let again = Record::decode(encoded.expose()).expect("our own record reads");
        assert_eq!(again.encode().expose(), encoded.expose());
        let _ = Verdict::of(&replay(again));
    }
    Verdict::of(&decoded)
}

/// A Marble's UUID as it stands in a request: one canonical form, whatever was sent.
pub fn marble_uuid(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    let parsed = MarbleUuid::parse(text);
    if let Ok(uuid) = &parsed {
        let canonical = uuid.to_string();
        assert!(canonical.len() == 36 && canonical.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')));
        assert_eq!(MarbleUuid::parse(&canonical).as_ref(), Ok(uuid));
    }
    Verdict::of(&parsed)
}
