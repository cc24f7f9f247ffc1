//! Bodies that end as they should, early, late or never.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// How much an over-long body has in all: far above every limit for collateral, and still an end.
pub const OVER_LONG_BYTES: usize = 64 * 1024 * 1024;

const FILLING: &[u8] = &[b' '; 16 * 1024];
/// Pause between the bytes of an endless body: below every idle timeout.
const DRIP: Duration = Duration::from_millis(100);

/// The body of an answer.
pub(super) struct AnswerBody {
    content: Bytes,
    rest: Rest,
}

/// What comes behind the content.
enum Rest {
    Nothing,
    /// So many more bytes.
    Filling(usize),
    /// One byte each time the pause is over.
    Drip(Pin<Box<Sleep>>),
    /// The connection breaks when the pause is over, although this many bytes were promised. Without a pause nothing at
    /// all would be sent.
    Cut(u64, Pin<Box<Sleep>>),
}

impl AnswerBody {
    pub(super) fn whole(content: impl Into<Bytes>) -> Self {
        Self { content: content.into(), rest: Rest::Nothing }
    }

    pub(super) fn over_long(content: impl Into<Bytes>) -> Self {
        Self { content: content.into(), rest: Rest::Filling(OVER_LONG_BYTES) }
    }

    pub(super) fn endless() -> Self {
        Self { content: Bytes::from_static(b"{"), rest: Rest::Drip(pause()) }
    }

    /// Half of the content, of which all was promised.
    pub(super) fn cut(content: impl Into<Bytes>) -> Self {
        let mut content = content.into();
        let promised = content.len() as u64;
        content.truncate(content.len() / 2);
        Self { content, rest: Rest::Cut(promised, pause()) }
    }
}

fn pause() -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(DRIP))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.content.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.content)))));
        }
        match &mut self.rest {
            Rest::Nothing | Rest::Filling(0) => Poll::Ready(None),
            Rest::Filling(left) => {
                let length = FILLING.len().min(*left);
                *left -= length;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILLING[..length])))))
            }
            Rest::Drip(pause) => {
                std::task::ready!(pause.as_mut().poll(cx));
                pause.set(tokio::time::sleep(DRIP));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
            }
            Rest::Cut(_, pause) => {
                std::task::ready!(pause.as_mut().poll(cx));
                Poll::Ready(Some(Err(io::Error::other("cut on purpose"))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty() && matches!(self.rest, Rest::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            Rest::Nothing => SizeHint::with_exact(self.content.len() as u64),
            Rest::Cut(promised, _) => SizeHint::with_exact(promised),
            Rest::Filling(_) | Rest::Drip(_) => SizeHint::default(),
        }
    }
}
