//! A connection that is gone when its peer's lease is.
//!
//! Whatever is read or written through it ends with an error at once, and what is beneath it is dropped, so that the
//! peer sees the end too, even where nobody reads or writes. It must never hand on an octet after that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mayfly_domain::Refusal;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

/// A stream under a guard. Its errors after the end are `ConnectionAborted`, with the [`Refusal`] within.
pub struct GuardedStream<S> {
    shared: Arc<Mutex<Shared<S>>>,
    watcher: AbortHandle,
}

struct Shared<S> {
    stream: Result<S, Refusal>,
    /// Whoever waits to read, and whoever waits to write.
    waiting: [Option<Waker>; 2],
}

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl<S: Send + 'static> GuardedStream<S> {
    /// Ends `stream` when `over` is done, for the reason that it gives. To be called within a tokio runtime.
    pub fn new(stream: S, over: impl Future<Output = Refusal> + Send + 'static) -> Self {
        let shared = Arc::new(Mutex::new(Shared { stream: Ok(stream), waiting: [None, None] }));
        let watched = Arc::clone(&shared);
        let watcher = tokio::spawn(async move {
            let why = over.await;
            let (stream, waiting) = {
                let mut shared = watched.lock();
                (std::mem::replace(&mut shared.stream, Err(why)), std::mem::take(&mut shared.waiting))
            };
            drop(stream);
            waiting.into_iter().flatten().for_each(Waker::wake);
        });
        Self { shared, watcher: watcher.abort_handle() }
    }
}

impl<S> GuardedStream<S> {
    /// Why it has ended; none while it lives.
    pub fn ended(&self) -> Option<Refusal> {
        self.shared.lock().stream.as_ref().err().cloned()
    }

    fn poll<T>(
        &self,
        way: Way,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut shared = self.shared.lock();
        let polled = match &mut shared.stream {
            Ok(stream) => poll(stream, cx),
            Err(why) => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why.clone())));
            }
        };
        if polled.is_pending() {
            let [reader, writer] = &mut shared.waiting;
            let waiting = match way {
                Way::In => reader,
                Way::Out => writer,
            };
            match waiting {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waiting = Some(cx.waker().clone()),
            }
        }
        polled
    }
}

impl<S> Drop for GuardedStream<S> {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl<S> std::fmt::Debug for GuardedStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedStream").field("ended", &self.ended().map(|why| why.reason)).finish()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(Way::In, cx, |stream, cx| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(Way::Out, cx, |stream, cx| Pin::new(stream).poll_write(cx, octets))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Way::Out, cx, |stream, cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Way::Out, cx, |stream, cx| Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(Way::Out, cx, |stream, cx| Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.shared.lock().stream.as_ref().is_ok_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use mayfly_domain::Reason;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::oneshot;

    use super::*;

    fn guarded() -> (GuardedStream<DuplexStream>, DuplexStream, oneshot::Sender<Reason>) {
        let (near, far) = duplex(16);
        let (end, ends) = oneshot::channel();
        let over = async move {
            match ends.await {
                Ok(reason) => Refusal::from(reason),
                Err(_) => std::future::pending().await,
            }
        };
        (GuardedStream::new(near, over), far, end)
    }

    fn is_cut<T: std::fmt::Debug>(outcome: io::Result<T>) {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let why = error.get_ref().unwrap().downcast_ref::<Refusal>().unwrap();
        assert_eq!(why.reason, Reason::LeaseRevoked);
    }

    #[tokio::test]
    async fn while_the_guard_stands_octets_pass_both_ways() {
        let (mut near, mut far, _end) = guarded();
        far.write_all(b"in").await.unwrap();
        near.write_all(b"out").await.unwrap();
        let mut octets = [0; 2];
        near.read_exact(&mut octets).await.unwrap();
        assert_eq!(&octets, b"in");
        near.shutdown().await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"out");
    }

    #[tokio::test]
    async fn who_waits_to_read_or_write_is_woken_by_the_end() {
        let (near, _far, end) = guarded();
        let (mut reader, mut writer) = tokio::io::split(near);
        let reading = tokio::spawn(async move { reader.read_u8().await });
        // More than there is room for: it waits.
        let writing = tokio::spawn(async move { writer.write_all(&[7; 64]).await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!reading.is_finished() && !writing.is_finished());
        end.send(Reason::LeaseRevoked).unwrap();
        is_cut(reading.await.unwrap());
        is_cut(writing.await.unwrap());
    }

    #[tokio::test]
    async fn nothing_that_came_before_the_end_is_read_after_it() {
        let (mut near, mut far, end) = guarded();
        far.write_all(b"late").await.unwrap();
        end.send(Reason::LeaseRevoked).unwrap();
        // The far end sees it though nobody reads or writes at the near one.
        let mut octet = [0];
        assert_eq!(far.read(&mut octet).await.unwrap(), 0);
        is_cut(near.read(&mut octet).await);
        is_cut(near.write(b"x").await);
        is_cut(near.flush().await);
        is_cut(near.shutdown().await);
        assert_eq!(near.ended().unwrap().reason, Reason::LeaseRevoked);
    }

    #[tokio::test]
    async fn the_guard_goes_with_its_stream() {
        let (near, mut far, mut end) = guarded();
        drop(near);
        end.closed().await;
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }
}
