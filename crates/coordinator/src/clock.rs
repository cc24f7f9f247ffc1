//! The system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use marblerun_coordinator_core::time::Timestamp;

/// Now, as the system says; before 1970 counts as 1970.
pub fn now() -> Timestamp {
    Timestamp::from_duration(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
