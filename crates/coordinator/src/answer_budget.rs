//! Memory for answers that clients have not taken yet: bounded for a whole listener, and in time.
//!
//! A client may ask for long answers on many streams and read none of them. What an answer takes is counted until the
//! last of its bytes has left, and whoever takes them too slowly loses the connection.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::fair::Busy;

/// Bytes are counted in pieces of this size.
const UNIT: usize = 1024;
/// What an answer takes beside its bytes: its stream, its head, its place in tables.
const OVERHEAD_BYTES: usize = 4 * UNIT;
/// An answer is handed on in pieces of this size, so that a connection holds few of them at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// How fast a client must take a long answer: a slow mobile connection of the last decade, in bytes per second.
pub const MIN_BYTES_PER_SECOND: usize = 64 * 1024;
/// While more than half of the budget is taken, clients have this part of the usual time.
const HASTE: u32 = 16;

/// The bytes that all unread answers of a listener may have at one time.
#[derive(Clone, Debug)]
pub(crate) struct AnswerBudget {
    free: Arc<Semaphore>,
    units: usize,
}

/// All unread answers together are too long at this moment.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("too many answers are being read at once")]
pub struct OverBudget;

impl AnswerBudget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// The account of a new request on a connection with these unread answers; `busy` is kept as long.
    pub(crate) fn account(&self, unread: &Unread, busy: Busy) -> AnswerAccount {
        let number = {
            let mut unread = locked(&unread.0);
            unread.next += 1;
            unread.next
        };
        let taken = Mutex::default();
        let held = Held { free: Arc::clone(&self.free), taken, unread: unread.clone(), number, _busy: busy };
        AnswerAccount(Arc::new(held))
    }

    /// How long a client may take for an answer, beside the time for its bytes.
    pub(crate) fn patience(&self, usual: Duration) -> Duration {
        if self.free.available_permits() < self.units / 2 { usual / HASTE } else { usual }
    }
}

/// The answers of one connection that were not taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<Mutex<UnreadAnswers>>);

#[derive(Debug, Default)]
struct UnreadAnswers {
    next: u64,
    /// Since when, and how many bytes.
    waiting: BTreeMap<u64, (Instant, usize)>,
}

impl Unread {
    /// True if a client had `patience` and the time for its bytes for an answer, and has not taken it.
    pub(crate) fn is_overdue(&self, now: Instant, patience: Duration) -> bool {
        locked(&self.0).waiting.values().any(|(since, bytes)| {
            let time = Duration::from_millis((bytes.saturating_mul(1000) / MIN_BYTES_PER_SECOND) as u64);
            now.saturating_duration_since(*since) > patience + time
        })
    }
}

/// What the answer to one request takes; it is given back when the last clone is dropped.
///
/// A request extension, so that whoever makes a long answer can ask for its bytes before something is changed for it.
#[derive(Clone, Debug)]
pub struct AnswerAccount(Arc<Held>);

#[derive(Debug)]
struct Held {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
    unread: Unread,
    number: u64,
    _busy: Busy,
}

#[derive(Debug, Default)]
struct Taken {
    units: usize,
    permits: Option<OwnedSemaphorePermit>,
}

impl AnswerAccount {
    /// Takes what is missing for an answer of `bytes`.
    ///
    /// # Errors
    ///
    /// If there is no room at this moment; the client may come again.
    pub fn reserve(&self, bytes: usize) -> Result<(), OverBudget> {
        let mut taken = locked(&self.0.taken);
        let units = bytes.saturating_add(OVERHEAD_BYTES).div_ceil(UNIT);
        let more = u32::try_from(units.saturating_sub(taken.units)).map_err(|_| OverBudget)?;
        let permits = Arc::clone(&self.0.free).try_acquire_many_owned(more).map_err(|_| OverBudget)?;
        taken.units = taken.units.max(units);
        match &mut taken.permits {
            Some(held) => held.merge(permits),
            none => *none = Some(permits),
        }
        Ok(())
    }

    /// From now on the client must take the answer.
    fn is_there(&self, bytes: usize) {
        let bytes = bytes.max(locked(&self.0.taken).units.saturating_mul(UNIT));
        locked(&self.0.unread.0).waiting.insert(self.0.number, (Instant::now(), bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        locked(&self.unread.0).waiting.remove(&self.number);
    }
}

/// No step under these locks can leave a half-done change.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of an answer whose bytes keep its account until the last of them has left.
#[derive(Debug)]
pub(crate) struct AnswerBody<B> {
    body: B,
    rest: Bytes,
    account: AnswerAccount,
}

impl<B> AnswerBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// `body` on `account`; the client must take it from now on.
    ///
    /// # Errors
    ///
    /// The body itself, which must be dropped unless it is to be sent in spite of it, if there is no room for it now.
    pub(crate) fn new(mut body: B, account: AnswerAccount) -> Result<Self, (OverBudget, Self)> {
        let hint = body.size_hint();
        let bytes = usize::try_from(hint.upper().unwrap_or(hint.lower())).unwrap_or(usize::MAX);
        // A finished body gives all its bytes at once. If somebody else has them too, they cost nothing more.
        let first = match hint.exact() {
            Some(1..) => match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                _ => Bytes::new(),
            },
            _ => Bytes::new(),
        };
        let is_shared = !first.is_empty() && !first.is_unique();
        let reserved = account.reserve(if is_shared { 0 } else { bytes });
        account.is_there(bytes);
        let rest = if first.is_empty() { first } else { owned(first, &account) };
        let body = Self { body, rest, account };
        match reserved {
            Ok(()) => Ok(body),
            Err(error) => Err((error, body)),
        }
    }
}

fn owned(bytes: Bytes, account: &AnswerAccount) -> Bytes {
    Bytes::from_owner(Owned { bytes, _account: account.clone() })
}

/// Bytes in some buffer of the connection.
struct Owned {
    bytes: Bytes,
    _account: AnswerAccount,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                Ok(bytes) => self.rest = owned(bytes, &self.account),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        if self.rest.is_empty() {
            // An empty rest would keep the account.
            self.rest = Bytes::new();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use std::net::IpAddr;

    use http_body_util::Full;

    use super::*;
    use crate::fair::Connections;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn account(budget: &AnswerBudget, unread: &Unread) -> AnswerAccount {
        let place = Connections::new(1, 1).admit(IpAddr::from([10, 0, 0, 1]).into()).unwrap();
        budget.account(unread, place.requests().begin())
    }

    fn body(budget: &AnswerBudget, unread: &Unread, bytes: Bytes) -> Result<AnswerBody<Full<Bytes>>, OverBudget> {
        AnswerBody::new(Full::new(bytes), account(budget, unread)).map_err(|(error, _)| error)
    }

    fn next(body: &mut AnswerBody<Full<Bytes>>) -> Option<Bytes> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|frame| frame.unwrap().into_data().unwrap()),
            Poll::Pending => panic!("the body is complete"),
        }
    }

    #[test]
    fn an_answer_is_counted_until_its_last_byte_has_left() {
        let (budget, unread) = (AnswerBudget::new(256 * UNIT), Unread::default());
        let text = Bytes::from((0..200 * UNIT).map(|index| index as u8).collect::<Vec<_>>());
        let mut first = body(&budget, &unread, Bytes::from(text.to_vec())).unwrap();
        assert_eq!(body(&budget, &unread, Bytes::from(text.to_vec())).unwrap_err(), OverBudget);
        let mut pieces = Vec::new();
        while let Some(piece) = next(&mut first) {
            assert!(piece.len() <= PIECE_BYTES);
            assert_eq!(first.is_end_stream(), pieces.len() == text.len().div_ceil(PIECE_BYTES) - 1);
            pieces.push(piece);
        }
        assert_eq!(pieces.concat(), text);
        let last = pieces.pop();
        drop((first, pieces));
        assert_eq!(body(&budget, &unread, Bytes::from(text.to_vec())).unwrap_err(), OverBudget);
        drop(last);
        assert!(body(&budget, &unread, Bytes::from(text.to_vec())).is_ok());
    }

    #[test]
    fn an_answer_that_all_share_takes_no_more_than_its_overhead() {
        let (budget, unread) = (AnswerBudget::new(64 * UNIT), Unread::default());
        let shared = Bytes::from(vec![7; 1000 * UNIT]);
        let answers: Vec<_> = (0..16).map(|_| body(&budget, &unread, shared.clone()).unwrap()).collect();
        // Even these are too many in the end.
        assert_eq!(body(&budget, &unread, shared.clone()).unwrap_err(), OverBudget);
        drop(answers);
        assert!(body(&budget, &unread, Bytes::new()).is_ok());
    }

    #[test]
    fn bytes_that_were_asked_for_before_are_not_counted_twice() {
        let (budget, unread) = (AnswerBudget::new(100 * UNIT), Unread::default());
        let account = account(&budget, &unread);
        account.reserve(60 * UNIT).unwrap();
        assert!(AnswerBody::new(Full::new(Bytes::from(vec![0; 60 * UNIT])), account.clone()).is_ok());
        assert_eq!(account.reserve(usize::MAX), Err(OverBudget));
    }

    #[test]
    fn a_client_has_time_for_each_byte_and_less_of_it_when_many_answers_are_unread() {
        let (budget, unread) = (AnswerBudget::new(256 * UNIT), Unread::default());
        let answer = body(&budget, &unread, Bytes::from(vec![0; MIN_BYTES_PER_SECOND])).unwrap();
        let now = Instant::now();
        assert!(!unread.is_overdue(now + PATIENCE, PATIENCE));
        assert!(unread.is_overdue(now + PATIENCE + Duration::from_millis(1200), PATIENCE));
        assert_eq!(budget.patience(PATIENCE), PATIENCE);
        let _more = body(&budget, &unread, Bytes::from(vec![0; 100 * UNIT])).unwrap();
        assert_eq!(budget.patience(PATIENCE), PATIENCE / HASTE);
        drop((answer, _more));
        assert!(!unread.is_overdue(now + 10 * PATIENCE, PATIENCE));
    }
}
