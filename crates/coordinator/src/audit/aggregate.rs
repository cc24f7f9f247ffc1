//! Which refusals are worth a line now, and which are only counted. Pure: time comes in.

use std::collections::BTreeMap;
use std::time::Duration;

use marblerun_coordinator_core::time::Timestamp;

use super::budget::Budget;
use super::record::{Change, Details, Record, RefusalRecord};
use crate::report;

/// One cause has at most one line in this time.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
/// Causes of one class of peers that are told apart; whatever comes beyond counts as [`OTHER`].
const MAX_CAUSES: usize = 256;
/// What is remembered of one text or one detail, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// What stands for causes that are not told apart.
const OTHER: &str = "other";

/// Who asked, as far as that was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// Somebody at the client API.
    Client,
    /// Somebody at the Marble API.
    Mesh,
    /// A Marble of this type whose evidence was accepted, or which showed its certificate.
    Marble(&'a str),
    /// The user of this name.
    User(&'a str),
    /// The Coordinator itself, as its environment or its state wants it.
    Coordinator,
}

/// Peers that share a budget, so that none of the others is left without a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PeerClass {
    Client,
    Mesh,
    Marble,
    User,
    Coordinator,
}

impl PeerClass {
    const ALL: [Self; 5] = [Self::Client, Self::Mesh, Self::Marble, Self::User, Self::Coordinator];

    /// The word in a line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Mesh => "mesh",
            Self::Marble => "marble",
            Self::User => "user",
            Self::Coordinator => "coordinator",
        }
    }

    /// Lines about refusals, and as many about each kind of change: few for those whom nobody knows.
    fn lines_per_minute(self) -> u32 {
        match self {
            Self::Client | Self::Mesh => 30,
            Self::Marble | Self::User | Self::Coordinator => 120,
        }
    }

    /// Whether a text may tell causes apart: who is known can be stopped.
    fn is_known(self) -> bool {
        !matches!(self, Self::Client | Self::Mesh)
    }
}

impl<'a> Peer<'a> {
    pub(super) fn class(self) -> PeerClass {
        match self {
            Self::Client => PeerClass::Client,
            Self::Mesh => PeerClass::Mesh,
            Self::Marble(_) => PeerClass::Marble,
            Self::User(_) => PeerClass::User,
            Self::Coordinator => PeerClass::Coordinator,
        }
    }

    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Marble(name) | Self::User(name) => name,
            Self::Client | Self::Mesh | Self::Coordinator => "",
        }
    }
}

/// A refusal as it happens.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Who asked.
    pub peer: Peer<'a>,
    /// What was asked for: one of a fixed set of words.
    pub action: &'a str,
    /// Why not: one of a fixed set of words.
    pub reason: &'static str,
    /// The code of the answer, as the peer sees it.
    pub code: &'a str,
    /// The same for people. No secrets; what is too long is cut.
    pub text: &'a str,
    /// What the peer says about itself, and where it is. No secrets; what is too long is cut.
    pub details: &'a [(&'static str, &'a str)],
}

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// For people; belongs to the host.
    pub(super) wall: Timestamp,
    /// Since the start of the process; never goes back.
    pub(super) uptime: Duration,
}

/// What is one and the same cause.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    class: PeerClass,
    peer: String,
    action: String,
    reason: &'static str,
    /// Empty for those whom nobody knows: they may write what they like.
    text: String,
}

#[derive(Debug)]
struct Tally {
    /// Refusals that no line told of yet.
    count: u64,
    first: Timestamp,
    last: Timestamp,
    /// Of the newest refusal, as the next two.
    code: String,
    text: String,
    details: Details,
    /// When the last line was made.
    told: Option<Duration>,
}

/// Counts refusals by cause and decides about lines.
#[derive(Debug)]
pub(super) struct Aggregator {
    causes: BTreeMap<Cause, Tally>,
    refusals: BTreeMap<PeerClass, Budget>,
    /// By what changed, so that many changes of one kind hide none of another.
    changes: BTreeMap<(PeerClass, &'static str), Budget>,
}

impl Aggregator {
    pub(super) fn new() -> Self {
        let refusals = PeerClass::ALL.map(|class| (class, Budget::new(class.lines_per_minute())));
        Self { causes: BTreeMap::new(), refusals: BTreeMap::from(refusals), changes: BTreeMap::new() }
    }

    /// Counts a refusal; its line comes at once if its cause had none for a minute and the peer's class has one left.
    pub(super) fn refused(&mut self, now: Moment, refusal: &Refusal<'_>) -> Option<Record> {
        let class = refusal.peer.class();
        let text = shortened(refusal.text);
        let mut cause = Cause {
            class,
            peer: shortened(refusal.peer.name()),
            action: shortened(refusal.action),
            reason: refusal.reason,
            text: if class.is_known() { text.clone() } else { String::new() },
        };
        if !self.causes.contains_key(&cause)
            && self.causes.keys().filter(|key| key.class == class).count() >= MAX_CAUSES
        {
            cause =
                Cause { peer: String::new(), action: OTHER.to_owned(), reason: OTHER, text: String::new(), ..cause };
        }
        let details = refusal.details.iter().map(|(name, value)| (*name, shortened(value))).collect();
        let tally = self.causes.entry(cause.clone()).or_insert_with(|| Tally {
            count: 0,
            first: now.wall,
            last: now.wall,
            code: String::new(),
            text: String::new(),
            details: Vec::new(),
            told: None,
        });
        if tally.count == 0 {
            tally.first = now.wall;
        }
        tally.count = tally.count.saturating_add(1);
        (tally.last, tally.code, tally.text, tally.details) = (now.wall, shortened(refusal.code), text, details);
        let budget = self.refusals.get_mut(&class)?;
        told(now, &cause, tally, budget)
    }

    /// The lines that counts have been waiting for, the oldest count first; forgets causes that are over.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Record> {
        self.causes.retain(|_, tally| tally.count > 0 || !is_quiet(tally, now.uptime));
        let mut waiting: Vec<_> = self.causes.iter_mut().filter(|(_, tally)| tally.count > 0).collect();
        waiting.sort_by_key(|(_, tally)| tally.first);
        let lines = waiting.into_iter().filter_map(|(cause, tally)| {
            let budget = self.refusals.get_mut(&cause.class)?;
            told(now, cause, tally, budget)
        });
        lines.collect()
    }

    /// The line of a change, unless the peer's class has none left for this kind.
    pub(super) fn changed(
        &mut self,
        now: Moment,
        peer: Peer<'_>,
        action: &'static str,
        details: &[(&'static str, &str)],
    ) -> Option<Record> {
        let class = peer.class();
        let budget = self.changes.entry((class, action)).or_insert_with(|| Budget::new(class.lines_per_minute()));
        budget.take(now.uptime).then(|| {
            Record::Changed(Change {
                time: now.wall,
                class,
                peer: shortened(peer.name()),
                action,
                details: details.iter().map(|(name, value)| (*name, shortened(value))).collect(),
            })
        })
    }
}

/// Whether the cause had no line for long enough.
fn is_quiet(tally: &Tally, uptime: Duration) -> bool {
    tally.told.is_none_or(|told| uptime.saturating_sub(told) >= INTERVAL)
}

fn told(now: Moment, cause: &Cause, tally: &mut Tally, budget: &mut Budget) -> Option<Record> {
    if !is_quiet(tally, now.uptime) || !budget.take(now.uptime) {
        return None;
    }
    tally.told = Some(now.uptime);
    Some(Record::Refused(RefusalRecord {
        time: now.wall,
        class: cause.class,
        peer: cause.peer.clone(),
        action: cause.action.clone(),
        reason: cause.reason,
        code: std::mem::take(&mut tally.code),
        text: std::mem::take(&mut tally.text),
        details: std::mem::take(&mut tally.details),
        count: std::mem::take(&mut tally.count),
        first: tally.first,
        last: tally.last,
    }))
}

/// A text from outside as it may stand in a line.
fn shortened(text: &str) -> String {
    let start: String = text.chars().take(MAX_TEXT_BYTES + 1).collect();
    report::cut(report::one_line(start), MAX_TEXT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment { wall: Timestamp::from_millis(1_000_000 + milliseconds), uptime: Duration::from_millis(milliseconds) }
    }

    fn refusal<'a>(peer: Peer<'a>, text: &'a str) -> Refusal<'a> {
        Refusal { peer, action: "activation", reason: "signature", code: "PermissionDenied", text, details: &[] }
    }

    #[track_caller]
    fn check(record: &Record, count: u64, first: u64, last: u64) {
        let Record::Refused(record) = record else { panic!("expected a refusal, got {record:?}") };
        let times = [first, last].map(|time| at(time).wall);
        assert_eq!((record.count, [record.first, record.last]), (count, times), "{record:?}");
    }

    #[test]
    fn the_first_refusal_of_a_cause_has_its_line_at_once_and_the_next_ones_are_counted() {
        let mut all = Aggregator::new();
        check(&all.refused(at(5), &refusal(Peer::Mesh, "a")).unwrap(), 1, 5, 5);
        for time in 10..1010 {
            assert!(all.refused(at(time), &refusal(Peer::Mesh, "b")).is_none());
        }
        assert!(all.due(at(60_004)).is_empty(), "at most one line a minute");
        let lines = all.due(at(60_005));
        assert_eq!(lines.len(), 1);
        check(&lines[0], 1000, 10, 1009);
        assert!(all.due(at(200_000)).is_empty() && all.causes.is_empty(), "what is over is forgotten");
    }

    #[test]
    fn a_cause_that_comes_back_after_a_minute_has_its_line_at_once() {
        let mut all = Aggregator::new();
        all.refused(at(0), &refusal(Peer::Client, "a")).unwrap();
        all.refused(at(1), &refusal(Peer::Client, "a"));
        check(&all.refused(at(60_000), &refusal(Peer::Client, "a")).unwrap(), 2, 1, 60_000);
    }

    #[test]
    fn what_unknown_peers_write_makes_no_new_cause_and_what_users_are_told_does() {
        let mut all = Aggregator::new();
        assert!(all.refused(at(0), &refusal(Peer::Mesh, "a")).is_some());
        assert!(all.refused(at(0), &refusal(Peer::Mesh, "b")).is_none());
        for peer in [Peer::User("alice"), Peer::User("bob"), Peer::Marble("web")] {
            for text in ["a", "b"] {
                assert!(all.refused(at(0), &refusal(peer, text)).is_some(), "{peer:?} {text}");
                assert!(all.refused(at(0), &refusal(peer, text)).is_none(), "{peer:?} {text}");
            }
        }
    }

    #[test]
    fn each_action_and_reason_is_a_cause_of_its_own() {
        let mut all = Aggregator::new();
        let base = refusal(Peer::Client, "a");
        for (action, reason) in [("a", "x"), ("a", "y"), ("b", "x")] {
            assert!(all.refused(at(0), &Refusal { action, reason, ..base }).is_some());
        }
    }

    /// Refusals of many causes during ten minutes; the lines they make.
    fn flood(peer: Peer<'_>) -> (u64, u64) {
        let mut all = Aggregator::new();
        let (mut lines, mut counted) = (0, 0);
        let mut take = |record: Record| {
            let Record::Refused(record) = record else { panic!("expected a refusal") };
            lines += 1;
            counted += record.count;
        };
        for time in 0..60_000_u64 {
            let now = at(time * 10);
            let action = (time % 1000).to_string();
            all.refused(now, &Refusal { action: &action, ..refusal(peer, "a") }).into_iter().for_each(&mut take);
            if time % 100 == 0 {
                all.due(now).into_iter().for_each(&mut take);
            }
        }
        assert!(all.causes.len() <= MAX_CAUSES + 1, "{}", all.causes.len());
        let waiting: u64 = all.causes.values().map(|tally| tally.count).sum();
        assert_eq!(counted + waiting, 60_000, "every refusal is counted");
        (lines, counted)
    }

    #[test]
    fn a_flood_of_refusals_costs_its_budget_of_lines_and_bounded_memory() {
        for peer in [Peer::Client, Peer::Mesh] {
            let (lines, counted) = flood(peer);
            assert!((300..=330).contains(&lines) && counted > 30_000, "{lines} {counted}");
        }
        let (lines, _) = flood(Peer::User("mallory"));
        assert!((1200..=1320).contains(&lines), "{lines}");
    }

    #[test]
    fn one_class_takes_no_line_of_another() {
        let mut all = Aggregator::new();
        for number in 0..1000 {
            let action = number.to_string();
            for peer in [Peer::Client, Peer::Marble("web")] {
                all.refused(at(0), &Refusal { action: &action, ..refusal(peer, "a") });
                all.changed(at(0), peer, "changed", &[]);
            }
        }
        for peer in [Peer::Mesh, Peer::User("alice"), Peer::Coordinator] {
            assert!(all.refused(at(0), &refusal(peer, "a")).is_some(), "{peer:?}");
            assert!(all.changed(at(0), peer, "changed", &[]).is_some(), "{peer:?}");
        }
        assert!(all.changed(at(0), Peer::Client, "changed", &[]).is_none());
    }

    #[test]
    fn many_changes_of_one_kind_hide_none_of_another() {
        let mut all = Aggregator::new();
        let told = (0..1000).filter(|_| all.changed(at(0), Peer::User("mallory"), "secrets set", &[]).is_some());
        assert_eq!(told.count(), 120);
        assert!(all.changed(at(0), Peer::User("mallory"), "manifest updated", &[]).is_some());
    }

    #[test]
    fn the_count_that_waits_longest_has_the_next_line() {
        let mut all = Aggregator::new();
        let of = |action: &'static str| Refusal { action, ..refusal(Peer::Client, "a") };
        while all.refusals.get_mut(&PeerClass::Client).unwrap().take(Duration::ZERO) {}
        for (time, action) in [(1, "z"), (2, "a"), (3, "m")] {
            assert!(all.refused(at(time), &of(action)).is_none());
        }
        let actions = |records: Vec<Record>| -> Vec<String> {
            let action = |record| match record {
                Record::Refused(record) => record.action,
                other => panic!("expected a refusal, got {other:?}"),
            };
            records.into_iter().map(action).collect()
        };
        assert_eq!(actions(all.due(at(2000))), ["z"]);
        assert_eq!(actions(all.due(at(6000))), ["a", "m"]);
    }

    #[test]
    fn texts_from_outside_are_cut_and_stay_on_their_line() {
        let mut all = Aggregator::new();
        let (long, forged) = ("é".repeat(100_000), "a\nb\u{9b}");
        let details = [("uuid", long.as_str()), ("type", forged)];
        let refusal = Refusal { details: &details, ..refusal(Peer::User(&long), &long) };
        let Some(Record::Refused(record)) = all.refused(at(0), &refusal) else { panic!("expected a line") };
        for text in [&record.text, &record.peer, &record.details[0].1] {
            assert!(text.len() <= MAX_TEXT_BYTES + '…'.len_utf8(), "{}", text.len());
        }
        assert_eq!(record.details[1].1, "a\\nb\\u{9b}");
        let changed = all.changed(at(0), Peer::User(&long), "secrets set", &details);
        let Some(Record::Changed(record)) = changed else { panic!("expected a line") };
        for text in [&record.peer, &record.details[0].1] {
            assert!(text.len() <= MAX_TEXT_BYTES + '…'.len_utf8(), "{}", text.len());
        }
        assert_eq!(record.details[1].1, "a\\nb\\u{9b}");
    }
}
