//! The open connections of a listener, and which one gives way when there are too many.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Source;

/// All open connections.
///
/// When they are too many, the source with most connections that do nothing loses one: first those that never asked for
/// anything, the oldest first, then those that wait for their client's next request. A request is never interrupted.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    table: Arc<Mutex<Table>>,
    max: usize,
    max_of_one_source: usize,
}

#[derive(Debug, Default)]
struct Table {
    /// The next connection's number, and the next entry's in an order of age.
    next: u64,
    open: HashMap<u64, Open>,
    sources: HashMap<Source, Held>,
    /// Sources by how many of their connections could be closed.
    by_closable: BTreeSet<(usize, Source)>,
}

#[derive(Debug)]
struct Open {
    source: Source,
    state: State,
    close: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It never asked; with its key in [`Held::silent`].
    Silent(u64),
    /// Nothing is asked at this moment; with its key in [`Held::idle`].
    Idle(u64),
    /// So many requests are at work.
    Busy(usize),
}

/// What a source has; maps lead from age to connection.
#[derive(Debug, Default)]
struct Held {
    open: usize,
    silent: BTreeMap<u64, u64>,
    idle: BTreeMap<u64, u64>,
}

impl Held {
    fn closable(&self) -> usize {
        self.silent.len() + self.idle.len()
    }

    fn first_to_close(&self) -> Option<u64> {
        self.silent.values().next().or_else(|| self.idle.values().next()).copied()
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Changes what a source has, and its rank with it.
    fn change<T>(&mut self, source: Source, change: impl FnOnce(&mut Held) -> T) -> T {
        let held = self.sources.entry(source).or_default();
        let before = held.closable();
        let result = change(held);
        let (after, is_gone) = (held.closable(), held.open == 0);
        if before != after {
            self.by_closable.remove(&(before, source));
            if after > 0 {
                self.by_closable.insert((after, source));
            }
        }
        if is_gone {
            self.sources.remove(&source);
        }
        result
    }

    fn set(&mut self, id: u64, state: State) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let (source, before) = (open.source, std::mem::replace(&mut open.state, state));
        self.change(source, |held| {
            held.take_out(before);
            match state {
                State::Silent(age) => drop(held.silent.insert(age, id)),
                State::Idle(age) => drop(held.idle.insert(age, id)),
                State::Busy(_) => {}
            }
        });
    }

    /// Forgets a connection, if that did not happen before.
    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.change(open.source, |held| {
            held.take_out(open.state);
            held.open -= 1;
        });
        Some(open)
    }

    /// Closes one connection of `source`; `false` if all of them are at work.
    fn close_one_of(&mut self, source: Source) -> bool {
        let victim = self.sources.get(&source).and_then(Held::first_to_close);
        match victim.and_then(|id| self.remove(id)) {
            Some(open) => {
                open.close.notify_one();
                true
            }
            None => false,
        }
    }
}

impl Held {
    fn take_out(&mut self, state: State) {
        match state {
            State::Silent(age) => drop(self.silent.remove(&age)),
            State::Idle(age) => drop(self.idle.remove(&age)),
            State::Busy(_) => {}
        }
    }
}

impl Connections {
    /// Room for `max` connections, of them `max_of_one_source` of one source.
    pub(crate) fn new(max: usize, max_of_one_source: usize) -> Self {
        Self { table: Arc::default(), max, max_of_one_source }
    }

    /// A place for a new connection of `source`, for which another one may have to go.
    ///
    /// `None` if none can go, because all that could are at work.
    pub(crate) fn admit(&self, source: Source) -> Option<Place> {
        let mut table = locked(&self.table);
        let has = table.sources.get(&source).map_or(0, |held| held.open);
        let gives_way = if has >= self.max_of_one_source {
            Some(source)
        } else if table.open.len() >= self.max {
            Some(table.by_closable.last()?.1)
        } else {
            None
        };
        if let Some(other) = gives_way
            && !table.close_one_of(other)
        {
            return None;
        }
        let (id, age) = (table.number(), table.number());
        let close = Arc::new(Notify::new());
        table.change(source, |held| {
            held.open += 1;
            held.silent.insert(age, id);
        });
        table.open.insert(id, Open { source, state: State::Silent(age), close: Arc::clone(&close) });
        drop(table);
        Some(Place { inner: Arc::new(Inner { table: Arc::clone(&self.table), id }), close })
    }
}

/// The place of one open connection, given back when it and the last [`Busy`] of it are dropped.
#[derive(Debug)]
pub(crate) struct Place {
    inner: Arc<Inner>,
    close: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    table: Arc<Mutex<Table>>,
    id: u64,
}

impl Place {
    /// Ends when the connection must go.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }

    /// What begins requests of this connection.
    pub(crate) fn requests(&self) -> Requests {
        Requests(Arc::clone(&self.inner))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        locked(&self.table).remove(self.id);
    }
}

/// Begins requests of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Arc<Inner>);

impl Requests {
    /// Keeps the connection open until the result is dropped.
    pub(crate) fn begin(&self) -> Busy {
        let mut table = locked(&self.0.table);
        let running = match table.open.get(&self.0.id).map(|open| open.state) {
            Some(State::Busy(running)) => running,
            _ => 0,
        };
        table.set(self.0.id, State::Busy(running + 1));
        Busy(Arc::clone(&self.0))
    }
}

/// A request at work.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Inner>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut table = locked(&self.0.table);
        let age = table.number();
        if let Some(State::Busy(running)) = table.open.get(&self.0.id).map(|open| open.state) {
            table.set(self.0.id, if running > 1 { State::Busy(running - 1) } else { State::Idle(age) });
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
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn source(last: u8) -> Source {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn is_closed(place: &Place) -> bool {
        let closed = std::pin::pin!(place.closed());
        closed.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn when_all_places_are_taken_the_source_with_most_loses_its_oldest_silent_connection() {
        let connections = Connections::new(4, 4);
        let first = connections.admit(source(1)).unwrap();
        let many: Vec<_> = (0..3).map(|_| connections.admit(source(2)).unwrap()).collect();
        let newcomer = connections.admit(source(3)).unwrap();
        assert!(is_closed(&many[0]), "the oldest of those who have most");
        for place in [&first, &many[1], &many[2], &newcomer] {
            assert!(!is_closed(place));
        }
        // Its place was given back already.
        drop(many);
        for _ in 0..2 {
            std::mem::forget(connections.admit(source(4)).unwrap());
        }
        assert!(!is_closed(&first) && !is_closed(&newcomer));
    }

    #[test]
    fn a_connection_that_asked_goes_after_those_that_never_did_and_never_within_a_request() {
        let connections = Connections::new(3, 3);
        let (asked, silent, busy) = (
            connections.admit(source(1)).unwrap(),
            connections.admit(source(1)).unwrap(),
            connections.admit(source(1)).unwrap(),
        );
        drop(asked.requests().begin());
        let (one, other) = (busy.requests().begin(), busy.requests().begin());
        let second = connections.admit(source(2)).unwrap();
        assert!(is_closed(&silent) && !is_closed(&asked));
        let _request = second.requests().begin();
        let third = connections.admit(source(3)).unwrap();
        assert!(is_closed(&asked) && !is_closed(&busy));
        let _request = third.requests().begin();
        assert!(connections.admit(source(4)).is_none(), "all are at work");
        drop(one);
        assert!(connections.admit(source(4)).is_none(), "one of two requests goes on");
        drop(other);
        assert!(connections.admit(source(4)).is_some());
        assert!(is_closed(&busy));
    }

    #[test]
    fn one_source_has_at_most_its_share() {
        let connections = Connections::new(10, 2);
        let (first, second) = (connections.admit(source(1)).unwrap(), connections.admit(source(1)).unwrap());
        let third = connections.admit(source(1)).unwrap();
        assert!(is_closed(&first) && !is_closed(&second));
        let _requests = [second.requests().begin(), third.requests().begin()];
        assert!(connections.admit(source(1)).is_none());
        assert!(connections.admit(source(2)).is_some());
    }

    #[test]
    fn nothing_is_remembered_of_connections_that_ended() {
        let connections = Connections::new(2, 2);
        for last in 0..200 {
            let (place, _other) = (connections.admit(source(last)).unwrap(), connections.admit(source(last)).unwrap());
            let request = place.requests().begin();
            drop(place);
            drop(request);
        }
        let table = locked(&connections.table);
        assert!(table.open.is_empty() && table.sources.is_empty() && table.by_closable.is_empty(), "{table:?}");
    }
}
