//! A fixed number of places for which sources take turns.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::Source;

/// What happens to the places of a source that has more than a newcomer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// It keeps them until it is done; right where that takes a bounded time.
    UntilDone,
    /// It loses the oldest; right where holders may take as long as they like.
    UntilOthersCome,
}

/// Places, given to waiting sources in turn, to each of them in the order of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    table: Arc<Mutex<Table>>,
    holding: Holding,
}

#[derive(Debug)]
struct Table {
    free: usize,
    next: u64,
    sources: HashMap<Source, Queue>,
    /// Sources with somebody waiting; the first one is next.
    ring: VecDeque<Source>,
    by_held: BTreeSet<(usize, Source)>,
}

#[derive(Debug, Default)]
struct Queue {
    held: BTreeMap<u64, Arc<Notify>>,
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
}

impl Table {
    fn change<T>(&mut self, source: Source, change: impl FnOnce(&mut Queue) -> T) -> T {
        let queue = self.sources.entry(source).or_default();
        let before = queue.held.len();
        let result = change(queue);
        let (after, is_gone) = (queue.held.len(), queue.held.is_empty() && queue.waiting.is_empty());
        if before != after {
            self.by_held.remove(&(before, source));
            if after > 0 {
                self.by_held.insert((after, source));
            }
        }
        if is_gone {
            self.sources.remove(&source);
        }
        result
    }
}

impl Turns {
    /// `places` places.
    pub(crate) fn new(places: usize, holding: Holding) -> Self {
        let (sources, ring, by_held) = Default::default();
        Self { table: Arc::new(Mutex::new(Table { free: places, next: 0, sources, ring, by_held })), holding }
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self, source: Source) -> Turn {
        let waiting = match self.ask(source) {
            Ok(turn) => return turn,
            Err(waiting) => waiting,
        };
        waiting.await
    }

    /// A place, or a place in the queue.
    fn ask(&self, source: Source) -> Result<Turn, Waiting> {
        let mut table = locked(&self.table);
        table.next += 1;
        let number = table.next;
        if table.free > 0 {
            table.free -= 1;
            return Ok(self.give(&mut table, source, number));
        }
        if self.holding == Holding::UntilOthersCome
            && let Some(&(most, other)) = table.by_held.last()
        {
            let has = table.sources.get(&source).map_or(0, |queue| queue.held.len());
            if most > has + 1 {
                let oldest = table.change(other, |queue| queue.held.pop_first());
                if let Some((_, gone)) = oldest {
                    gone.notify_one();
                    return Ok(self.give(&mut table, source, number));
                }
            }
        }
        let (sender, receiver) = oneshot::channel();
        let is_first = table.change(source, |queue| {
            queue.waiting.insert(number, sender);
            queue.waiting.len() == 1
        });
        if is_first {
            table.ring.push_back(source);
        }
        Err(Waiting { turns: self.clone(), source, number, receiver })
    }

    fn give(&self, table: &mut Table, source: Source, number: u64) -> Turn {
        let gone = Arc::new(Notify::new());
        table.change(source, |queue| queue.held.insert(number, Arc::clone(&gone)));
        Turn { turns: Some(self.clone()), source, number, gone }
    }

    /// Gives a place that became free to whoever is next.
    fn pass_on(&self, table: &mut Table) {
        while let Some(source) = table.ring.pop_front() {
            let Some((number, sender)) = table.change(source, |queue| queue.waiting.pop_first()) else { continue };
            if table.sources.get(&source).is_some_and(|queue| !queue.waiting.is_empty()) {
                table.ring.push_back(source);
            }
            let turn = self.give(table, source, number);
            let Err(mut refused) = sender.send(turn) else { return };
            // The one who waited is gone; what was given must not take the lock that we hold.
            refused.turns = None;
            table.change(source, |queue| queue.held.remove(&number));
        }
        table.free += 1;
    }
}

/// Somebody in the queue, who leaves it when this is dropped.
struct Waiting {
    turns: Turns,
    source: Source,
    number: u64,
    receiver: oneshot::Receiver<Turn>,
}

impl Future for Waiting {
    type Output = Turn;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let received = std::task::ready!(std::pin::Pin::new(&mut self.receiver).poll(context));
        // The sender stays in the table until it is used, and the table lives as long as `turns`.
        std::task::Poll::Ready(received.expect("whoever waits is given a place"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = locked(&self.turns.table);
        let number = self.number;
        let sender = table.change(self.source, |queue| queue.waiting.remove(&number));
        let is_last = table.sources.get(&self.source).is_none_or(|queue| queue.waiting.is_empty());
        if sender.is_some() && is_last {
            table.ring.retain(|source| *source != self.source);
        }
    }
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Option<Turns>,
    source: Source,
    number: u64,
    gone: Arc<Notify>,
}

impl Turn {
    /// Ends when the place went to another source.
    pub(crate) async fn lost(&self) {
        self.gone.notified().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else { return };
        let mut table = locked(&turns.table);
        let number = self.number;
        // A place that was lost is somebody else's already.
        if table.change(self.source, |queue| queue.held.remove(&number)).is_some() {
            turns.pass_on(&mut table);
        }
    }
}

/// No step under this lock can leave a half-done change.
fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use std::net::IpAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Turn> + 'a>>;

    fn source(last: u8) -> Source {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn poll<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
        Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn now(turns: &Turns, last: u8) -> Turn {
        match poll(Box::pin(turns.enter(source(last)))) {
            Poll::Ready(turn) => turn,
            Poll::Pending => panic!("expected a free place"),
        }
    }

    /// Enters the queue.
    fn queued(turns: &Turns, last: u8) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(turns.enter(source(last)));
        assert!(poll(&mut entering).is_pending(), "expected to wait");
        entering
    }

    fn is_lost(turn: &Turn) -> bool {
        poll(Box::pin(turn.lost())).is_ready()
    }

    #[test]
    fn sources_take_turns_however_many_of_one_wait() {
        let turns = Turns::new(1, Holding::UntilDone);
        let held = now(&turns, 1);
        let mut flood: Vec<_> = (0..100).map(|_| queued(&turns, 1)).collect();
        let mut other = queued(&turns, 2);
        drop(held);
        let Poll::Ready(first) = poll(&mut flood[0]) else { panic!("the first that came is the first") };
        assert!(poll(&mut other).is_pending());
        drop(first);
        let Poll::Ready(turn) = poll(&mut other) else { panic!("then it is the other source's turn") };
        assert!(poll(&mut flood[1]).is_pending());
        drop(turn);
        assert!(poll(&mut flood[1]).is_ready());
    }

    #[test]
    fn whoever_stops_waiting_leaves_no_trace_and_keeps_no_place() {
        let turns = Turns::new(1, Holding::UntilDone);
        let held = now(&turns, 1);
        let (gone, given_but_gone, mut last) = (queued(&turns, 2), queued(&turns, 3), queued(&turns, 4));
        drop(gone);
        drop(held);
        // It was given the place, but never looks.
        drop(given_but_gone);
        let Poll::Ready(turn) = poll(&mut last) else { panic!("the place must be passed on") };
        drop((turn, last));
        drop(now(&turns, 5));
        let table = locked(&turns.table);
        assert_eq!(table.free, 1);
        assert!(table.sources.is_empty() && table.ring.is_empty() && table.by_held.is_empty(), "{table:?}");
    }

    #[test]
    fn a_newcomer_takes_the_oldest_place_of_a_source_with_more() {
        let turns = Turns::new(3, Holding::UntilOthersCome);
        let held: Vec<_> = (0..3).map(|_| now(&turns, 1)).collect();
        let mut same = queued(&turns, 1);
        let other = now(&turns, 2);
        assert!(is_lost(&held[0]) && !is_lost(&held[1]) && !is_lost(&other));
        // Two of one and one of another: taking one more would only turn it round.
        let mut second = queued(&turns, 2);
        drop(held);
        assert!(poll(&mut same).is_ready() && poll(&mut second).is_ready());
    }

    #[test]
    fn places_that_are_kept_until_done_are_not_taken() {
        let turns = Turns::new(2, Holding::UntilDone);
        let held = [now(&turns, 1), now(&turns, 1)];
        let mut other = queued(&turns, 2);
        assert!(!is_lost(&held[0]));
        drop(held);
        assert!(poll(&mut other).is_ready());
    }
}
