//! Answers as a list of acts: bytes, waits, a cut. A body plays its acts one by one, each stream frame its
//! own write, and tells whether it got to the end. What the bytes say is the services' business.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::time::Sleep;

/// A connection ended on purpose, without the rest of its answer.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(crate) struct Cut;

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// One step of an answer.
#[derive(Debug)]
pub(crate) enum Act {
    /// Sends bytes.
    Data(Bytes),
    /// Lets what was sent so far reach the socket before going on.
    Flush,
    /// Waits, with what was sent so far on the socket.
    Wait(Duration),
    /// Drops the connection.
    Cut,
    /// Sends nothing more and keeps the connection open.
    Hang,
}

/// Called once with whether the whole body was handed over; with `false` where the client left first.
pub(crate) type OnEnd = Box<dyn FnOnce(bool) + Send + Sync>;

/// A body that plays acts.
pub(crate) struct Frames {
    acts: VecDeque<Act>,
    sleep: Option<Pin<Box<Sleep>>>,
    on_end: Option<OnEnd>,
}

impl Frames {
    /// A body of these acts.
    pub(crate) fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self { acts: acts.into_iter().collect(), sleep: None, on_end: None }
    }

    /// Has `on_end` called when the body ends.
    pub(crate) fn on_end(mut self, on_end: OnEnd) -> Self {
        self.on_end = Some(on_end);
        self.end_if_done();
        self
    }

    fn end_if_done(&mut self) {
        if self.acts.is_empty()
            && self.sleep.is_none()
            && let Some(on_end) = self.on_end.take()
        {
            on_end(true);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(on_end) = self.on_end.take() {
            on_end(false);
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(sleep) = self.sleep.as_mut() {
                std::task::ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            let act = self.acts.pop_front();
            match act {
                None => {
                    self.end_if_done();
                    return Poll::Ready(None);
                }
                Some(Act::Data(bytes)) => {
                    self.end_if_done();
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Act::Flush) => {
                    // A pending body makes the server write out what it holds.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Act::Wait(time)) => self.sleep = Some(Box::pin(tokio::time::sleep(time))),
                Some(Act::Cut) => {
                    self.acts.clear();
                    self.end_if_done();
                    return Poll::Ready(Some(Err(Cut)));
                }
                Some(Act::Hang) => {
                    self.acts.push_front(Act::Hang);
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.acts.is_empty() && self.sleep.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let mut bytes = 0;
        for act in &self.acts {
            match act {
                Act::Data(data) => bytes += data.len() as u64,
                Act::Cut | Act::Hang => return SizeHint::default(),
                Act::Flush | Act::Wait(_) => {}
            }
        }
        // More than one piece is a stream, whose length a server would not know beforehand.
        if self.acts.len() > 1 { SizeHint::default() } else { SizeHint::with_exact(bytes) }
    }
}

/// A whole answer of one content type.
pub(crate) fn whole(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Frames> {
    let body: Bytes = body.into();
    let acts = if body.is_empty() { None } else { Some(Act::Data(body)) };
    let mut response = Response::new(Frames::new(acts));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Frames> {
    whole(status, "application/json", body.to_string())
}

/// A JSON answer of which only the first half arrives before the connection drops.
pub(crate) fn half(content_type: &'static str, body: &str) -> Response<Frames> {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let head = bytes.slice(..bytes.len() / 2);
    let mut response = Response::new(Frames::new([Act::Data(head), Act::Flush, Act::Cut]));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    response
}
