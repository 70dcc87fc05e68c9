//! Answers on their way to the client: bodies whole or streamed, and the headers that tell the decision.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::error_reply::Failure;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Pieces of a stream that may wait for a slow client before the upstream is no longer read.
pub(crate) const STREAM_QUEUE: usize = 16;

/// A response body.
#[derive(Debug)]
pub(crate) enum Body {
    /// Whole, until it was taken.
    Whole(Option<Bytes>),
    /// Streamed: ends when the sender is dropped; an `Err` cuts the connection, so that a client cannot take a broken
    /// stream for a complete one.
    Stream(mpsc::Receiver<Result<Bytes, StreamCut>>),
    /// Streamed and cut, once what came before has had a turn to be written.
    Cut,
}

/// The stream was cut: it is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream was cut")]
pub(crate) struct StreamCut;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = StreamCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamCut>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Stream(receiver) => match receiver.poll_recv(context) {
                Poll::Ready(Some(Err(StreamCut))) => {
                    // An error drops what hyper has not written yet; a pending body makes it flush first.
                    *self = Self::Cut;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                next => next.map(|next| next.map(|bytes| bytes.map(Frame::data))),
            },
            Self::Cut => Poll::Ready(Some(Err(StreamCut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) | Self::Cut => SizeHint::default(),
        }
    }
}

/// A whole answer.
pub(crate) fn whole(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A stream of events.
pub(crate) fn stream(body: mpsc::Receiver<Result<Bytes, StreamCut>>) -> Response<Body> {
    let mut response = Response::new(Body::Stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that buffer by default (nginx) pass the stream on as it comes.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// An error of our own.
pub(crate) fn failure(failure: &Failure) -> Response<Body> {
    let mut response = whole(failure.status(), JSON, failure.to_json());
    if let Some(seconds) = failure.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if failure.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Sets a header whose value may hold anything: what a header cannot carry is percent-encoded.
pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).ok().filter(|value| value.to_str().is_ok()).or_else(|| {
        let encoded: String = value
            .bytes()
            .map(|byte| match byte {
                b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        HeaderValue::try_from(encoded).ok()
    });
    if let Some(value) = value {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_fits_a_header() {
        let mut headers = HeaderMap::new();
        set(&mut headers, "x-policy-id", "größe 100%\n");
        assert_eq!(headers["x-policy-id"], "gr%C3%B6%C3%9Fe 100%25%0A");
        set(&mut headers, "x-policy-id", "plain-1");
        assert_eq!(headers["x-policy-id"], "plain-1");
    }
}
