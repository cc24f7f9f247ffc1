//! Memory for request bodies: bounded for a whole listener, because anyone may send them.
//!
//! Each body alone has its limit where it is read. Without a limit of their sum, as many clients as there are
//! connections could each fill one at the same time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fair::Source;

/// Bytes are counted in pieces of this size.
const UNIT: usize = 1024;

/// The bytes that all request bodies of a listener may have at one time. One address has at most half of them, so that
/// nobody alone keeps all others from sending.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget {
    free: Arc<Semaphore>,
    shares: Arc<Mutex<Shares>>,
}

/// What each address has of the budget; addresses that have nothing are not listed.
#[derive(Debug)]
struct Shares {
    units_of_one: usize,
    taken: HashMap<Source, usize>,
}

/// All bodies together are too long at this moment.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("too many request bodies at once")]
pub struct OverBudget;

impl BodyBudget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        let shares = Shares { units_of_one: units / 2, taken: HashMap::new() };
        Self { free: Arc::new(Semaphore::new(units)), shares: Arc::new(Mutex::new(shares)) }
    }

    /// The account of a new request that comes from `source`.
    pub(crate) fn account(&self, source: Source) -> BodyAccount {
        let share = Share { source, shares: Arc::clone(&self.shares), units: 0 };
        let taken = Taken { bytes: 0, permits: None, share, is_exceeded: false };
        BodyAccount { budget: Arc::clone(&self.free), taken: Arc::new(Mutex::new(taken)) }
    }
}

/// What one request took; it is given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct BodyAccount {
    budget: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug)]
struct Taken {
    bytes: usize,
    permits: Option<OwnedSemaphorePermit>,
    share: Share,
    is_exceeded: bool,
}

/// What one request has of its address's share; given back when it is dropped.
#[derive(Debug)]
struct Share {
    source: Source,
    shares: Arc<Mutex<Shares>>,
    units: usize,
}

impl Share {
    fn take(&mut self, units: usize) -> Result<(), OverBudget> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = shares.taken.get(&self.source).copied().unwrap_or_default().saturating_add(units);
        if taken > shares.units_of_one {
            return Err(OverBudget);
        }
        shares.taken.insert(self.source, taken);
        self.units += units;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = shares.taken.entry(self.source) {
            *entry.get_mut() -= self.units.min(*entry.get());
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl BodyAccount {
    /// True once the body was refused for want of budget; the client may come again.
    pub fn is_exceeded(&self) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).is_exceeded
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<(), OverBudget> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total = taken.bytes.saturating_add(bytes);
        let more = total.div_ceil(UNIT) - taken.bytes.div_ceil(UNIT);
        let permits =
            u32::try_from(more).ok().and_then(|more| Arc::clone(&self.budget).try_acquire_many_owned(more).ok());
        let Some(permits) = permits.filter(|_| taken.share.take(more).is_ok()) else {
            taken.is_exceeded = true;
            return Err(OverBudget);
        };
        taken.bytes = total;
        match &mut taken.permits {
            Some(held) => held.merge(permits),
            none => *none = Some(permits),
        }
        Ok(())
    }
}

/// A body whose bytes are counted before they are handed on.
#[derive(Debug)]
pub struct BudgetedBody<B> {
    body: B,
    account: BodyAccount,
}

impl<B> BudgetedBody<B> {
    /// `body` on `account`.
    pub fn new(body: B, account: BodyAccount) -> Self {
        Self { body, account }
    }
}

impl<B> Body for BudgetedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref()
            && let Err(error) = self.account.take(data.len())
        {
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn what_a_request_took_is_given_back_when_it_ends() {
        let budget = BodyBudget::new(10 * UNIT);
        let [one, other, third] = [1, 2, 3].map(|last| budget.account(source(last)));
        assert_eq!(one.take(5 * UNIT), Ok(()));
        assert_eq!(third.take(UNIT), Ok(()));
        assert_eq!(other.take(5 * UNIT), Err(OverBudget));
        assert!(other.is_exceeded() && !one.is_exceeded());
        assert_eq!(budget.account(source(2)).take(4 * UNIT), Ok(()), "that account is dropped at once");
        let clone = one.clone();
        drop(one);
        assert_eq!(other.take(5 * UNIT), Err(OverBudget), "a clone still holds it");
        drop(clone);
        assert_eq!(other.take(5 * UNIT), Ok(()));
    }

    #[test]
    fn one_address_has_at_most_half_and_others_have_the_rest() {
        let budget = BodyBudget::new(10 * UNIT);
        let accounts = [budget.account(source(1)), budget.account(source(1))];
        assert_eq!(accounts[0].take(4 * UNIT), Ok(()));
        assert_eq!(accounts[1].take(2 * UNIT), Err(OverBudget));
        assert_eq!(accounts[1].take(UNIT), Ok(()));
        assert_eq!(budget.account(source(2)).take(5 * UNIT), Ok(()));
        drop(accounts);
        assert_eq!(budget.account(source(1)).take(5 * UNIT), Ok(()));
        assert!(budget.shares.lock().unwrap_or_else(PoisonError::into_inner).taken.is_empty(), "nobody has anything");
    }

    #[test]
    fn small_pieces_count_as_their_sum() {
        let budget = BodyBudget::new(4 * UNIT);
        let account = budget.account(source(1));
        for _ in 0..2 * UNIT {
            assert_eq!(account.take(1), Ok(()));
        }
        assert_eq!(account.take(1), Err(OverBudget));
        assert_eq!(account.take(usize::MAX), Err(OverBudget));
    }
}
