//! The body of an answer: as the service made it, what a refused request is told, or one that ends with a lease.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use mayfly_domain::Refusal;

use super::{Over, answer};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer that came through the layer.
pub struct Body<B>(Kind<B>);

enum Kind<B> {
    Plain(Pin<Box<B>>),
    Told(Bytes),
    Guarded { body: Pin<Box<B>>, over: Over, grpc: bool },
    Done,
}

impl<B> Body<B> {
    pub(super) fn plain(body: B) -> Self {
        Self(Kind::Plain(Box::pin(body)))
    }

    pub(super) fn told(text: Bytes) -> Self {
        Self(Kind::Told(text))
    }

    /// A body that ends when `over` is done: for gRPC with a status that says why, else with an error, by which the
    /// stream is reset.
    pub(super) fn guarded(body: B, over: Over, grpc: bool) -> Self {
        Self(Kind::Guarded { body: Box::pin(body), over, grpc })
    }
}

impl<B> std::fmt::Debug for Body<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Kind::Plain(_) => "plain",
            Kind::Told(_) => "told",
            Kind::Guarded { .. } => "guarded",
            Kind::Done => "done",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Fault>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let kind = &mut self.0;
        let frame = match kind {
            Kind::Plain(body) => return body.as_mut().poll_frame(cx).map_err(Into::into),
            Kind::Told(text) if text.is_empty() => None,
            Kind::Told(text) => Some(Ok(Frame::data(std::mem::take(text)))),
            Kind::Guarded { body, over, grpc } => match over.as_mut().poll(cx) {
                Poll::Ready(ended) => {
                    let why = Refusal::from(ended.reason);
                    let frame =
                        if *grpc { Ok(Frame::trailers(answer::trailers(&why))) } else { Err(why.into()) };
                    *kind = Kind::Done;
                    Some(frame)
                }
                Poll::Pending => return body.as_mut().poll_frame(cx).map_err(Into::into),
            },
            Kind::Done => None,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Plain(body) | Kind::Guarded { body, .. } => body.is_end_stream(),
            Kind::Told(text) => text.is_empty(),
            Kind::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Plain(body) | Kind::Guarded { body, .. } => body.size_hint(),
            Kind::Told(text) => SizeHint::with_exact(u64::try_from(text.len()).unwrap_or_default()),
            Kind::Done => SizeHint::with_exact(0),
        }
    }
}
