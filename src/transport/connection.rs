//! One HTTP/1.1 connection. hyper speaks the protocol; we own the socket and decide when it is polled.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::{Error, Result, chain};

pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Large enough that a fast network fills it between two polls.
const READ_BUFFER: usize = 512 << 10;

/// A connection that does nothing unless polled by the request that owns it, and is closed by dropping it.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<Stream, Full<Bytes>>>>,
    pub(super) idle_since: Instant,
}

impl Connection {
    pub(super) async fn handshake(stream: Stream) -> Result<Self> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(stream)
            .await
            .map_err(|error| Error::network(chain(&error)))?;
        Ok(Self { sender, driver: Box::pin(driver), idle_since: Instant::now() })
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<(Self, http::Response<Incoming>)> {
        let mut exchange = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        let response = poll_fn(|cx| {
            if let Poll::Ready(result) = exchange.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|error| Error::network(chain(&error))));
            }
            // The driver is what fulfils the exchange, so the exchange is asked again after it.
            let closed = driver.as_mut().poll(cx);
            match (exchange.as_mut().poll(cx), closed) {
                (Poll::Ready(result), _) => Poll::Ready(result.map_err(|error| Error::network(chain(&error)))),
                (Poll::Pending, Poll::Ready(Ok(()))) => Poll::Ready(Err(Error::network("the connection was closed"))),
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(Error::network(chain(&error)))),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await?;
        Ok((self, response))
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn next_piece(&mut self, body: &mut Incoming) -> Result<Option<Bytes>> {
        let driver = &mut self.driver;
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(frame);
            }
            // An error of the driver's reaches the body as well.
            let _ = driver.as_mut().poll(cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
        .await;
        match frame {
            None => Ok(None),
            // Trailers are the only other kind of frame, and carry nothing for us.
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(Error::network(chain(&error))),
        }
    }

    /// Whether another request can follow, after the driver had a last look at the socket.
    pub(super) async fn is_reusable(&mut self) -> bool {
        let driver = &mut self.driver;
        let open = poll_fn(|cx| Poll::Ready(driver.as_mut().poll(cx).is_pending())).await;
        open && self.sender.is_ready()
    }
}
