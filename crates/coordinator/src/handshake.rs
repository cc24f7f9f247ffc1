//! TLS handshakes of a listener: bounded in number, in what they compute at once, and in time, fair between sources.
//!
//! A handshake is some kilobytes and one to two milliseconds of a processor. Anyone may begin one, so computing them is
//! the last thing that a busy Coordinator does: a few at once, so that whoever is connected is served meanwhile, in turn
//! between sources, so that a flood from one of them delays that one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::fair::{Holding, Source, Turns};
use crate::listener::Limits;

/// What bounds the handshakes of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes {
    /// Everyone who began.
    begun: Turns,
    /// Whoever computes.
    computing: Turns,
    pace: Arc<Pace>,
}

impl Handshakes {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            begun: Turns::new(limits.max_handshakes, Holding::UntilOthersCome),
            computing: Turns::new(limits.max_computed_handshakes, Holding::UntilDone),
            pace: Arc::new(Pace::new(limits.max_handshakes_per_second)),
        }
    }

    /// Does one handshake, when it is this source's turn; then `config` is asked for its settings.
    ///
    /// # Errors
    ///
    /// What the client did wrong, that there are no settings, or that the place went to another source.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        config: impl FnOnce() -> Option<Arc<ServerConfig>>,
        source: Source,
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = self.begun.enter(source).await;
        tokio::select! {
            done = self.steps(stream, config, source) => done,
            () = place.lost() => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many handshakes at once")),
        }
    }

    async fn steps<S>(
        &self,
        stream: S,
        config: impl FnOnce() -> Option<Arc<ServerConfig>>,
        source: Source,
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Reading the first message costs no cryptography.
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let mut turn = self.computing.enter(source).await;
        self.pace.wait().await;
        let config = config().ok_or_else(|| io::Error::other("there is no certificate to show"))?;
        let mut accept = hello.into_stream(config);
        loop {
            // All that a message from the client makes us compute happens within one poll.
            if let Poll::Ready(done) = poll_once(&mut accept).await {
                return done;
            }
            // Waiting for the client takes nobody's turn.
            drop(turn);
            woken().await;
            turn = self.computing.enter(source).await;
        }
    }
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// Ends when the task is polled again, which is when something that it polled before wakes it.
async fn woken() {
    let mut is_woken = false;
    std::future::poll_fn(
        |_: &mut Context<'_>| {
            if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending }
        },
    )
    .await;
}

/// So many per second, after a burst of as many as in a tenth of a second.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the next one would come if all kept the interval.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: Duration::from_millis(100).max(interval), next: Mutex::default() }
    }

    /// Waits until the next one may begin.
    async fn wait(&self) {
        if let Some(due) = self.due(Instant::now()) {
            sleep_until(due).await;
        }
    }

    /// Counts one, and says when it may begin if that is later than `now`.
    fn due(&self, now: Instant) -> Option<Instant> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever did not come in the past may come now, but not more than the burst.
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        let due = next.unwrap_or(earliest).max(earliest) + self.interval;
        *next = Some(due);
        (due > now).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use super::*;

    #[test]
    fn handshakes_begin_at_the_pace_after_a_burst() {
        let pace = Pace::new(100);
        let now = Instant::now() + Duration::from_secs(60);
        for _ in 0..10 {
            assert_eq!(pace.due(now), None);
        }
        assert_eq!(pace.due(now), Some(now + Duration::from_millis(10)));
        assert_eq!(pace.due(now), Some(now + Duration::from_millis(20)));
        // Rest gives the burst back, and no more.
        let later = now + Duration::from_secs(30);
        assert_eq!((0..20).filter(|_| pace.due(later).is_none()).count(), 10);
    }

    #[test]
    fn a_pace_of_one_or_none_lets_one_begin_at_once() {
        for per_second in [0, 1] {
            let pace = Pace::new(per_second);
            let now = Instant::now() + Duration::from_secs(60);
            assert_eq!(pace.due(now), None);
            assert_eq!(pace.due(now), Some(now + Duration::from_secs(1)));
        }
    }
}
