//! What the simulator reads besides the instance: planted secrets, plans of a hostile host.

use marblerun_simulator::canaries::{Canaries, MAX_CANARIES};
use marblerun_simulator::hostile::plan::{At, MAX_NTH, MAX_STEPS, Plan};

use crate::Verdict;

/// A file of planted secrets: no error quotes a value, and what is accepted is found at once and in two parts.
pub fn canaries(data: &[u8]) -> Verdict {
    let parsed = Canaries::parse(data);
    if let Ok(canaries) = &parsed {
        assert!((1..=MAX_CANARIES).contains(&canaries.count()));
        for canary in 0..canaries.count() {
            assert!(!canaries.name(canary).is_empty());
        }
        // Any bytes can leave an enclave, cut anywhere.
        let whole = canaries.search(&[], data);
        let (first, second) = data.split_at(data.len() / 2);
        let parts = canaries.search(&[], first).len() + canaries.search(first, second).len();
        assert!(whole.is_empty() || parts > 0, "found in one piece only");
    }
    Verdict::of(&parsed)
}

/// A plan: what is accepted is within its limits.
pub fn hostile_plan(data: &[u8]) -> Verdict {
    let parsed = Plan::parse(data);
    if let Ok(plan) = &parsed {
        assert!((1..=MAX_STEPS).contains(&plan.steps.len()));
        for step in &plan.steps {
            assert!(!step.action.name().is_empty());
            if let At::Call(occasion) = &step.at {
                assert!(occasion.is_due(occasion.nth) && occasion.nth <= MAX_NTH && occasion.times <= MAX_NTH);
                assert!(!occasion.is_due(0) && !occasion.is_due(occasion.nth - 1));
            }
        }
    }
    Verdict::of(&parsed)
}
