//! Carries the requests of `object_store` over the client that all destinations share, and remembers what the store said: the
//! crate's own errors are made for programs that read, not for operators who have to mend something.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::Url;

use crate::export::http::{Answer, Http, NoAnswer};

/// Answers are empty, or an error of some hundred bytes; credentials take some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What the store said last to the request that this travels with.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Said>>>);

/// An answer of the store, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It answered.
    Answer {
        /// HTTP status.
        status: u16,
        /// The `Code` of its error, such as `NoSuchBucket`; empty where there is none.
        code: String,
        /// Its `Retry-After`.
        after: Option<Duration>,
        /// What the body seems to be.
        kind: String,
    },
    /// It did not.
    Nothing(NoAnswer),
}

impl Heard {
    fn set(&self, said: Said) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }

    /// The last word, if there was one.
    pub(super) fn take(&self) -> Option<Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Wire(pub(super) Arc<Http>);

impl HttpConnector for Wire {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let heard = parts.extensions.get::<Heard>().cloned().unwrap_or_default();
        let url: Url = parts.uri.to_string().parse().map_err(|error: <Url as std::str::FromStr>::Err| {
            HttpError::new(HttpErrorKind::Unknown, error)
        })?;
        let body: Bytes = body.collect().await?.to_bytes();
        match self.0.request(parts.method, &url, parts.headers, body, ANSWER_BYTES_MAX).await {
            Ok(answer) => {
                heard.set(Said::of(&answer));
                response(answer)
            }
            Err(no_answer) => {
                heard.set(Said::Nothing(no_answer.clone()));
                Err(HttpError::new(HttpErrorKind::Unknown, no_answer))
            }
        }
    }
}

fn response(answer: Answer) -> Result<HttpResponse, HttpError> {
    let body = Full::new(Bytes::from(answer.body.unwrap_or_default())).map_err(|never| match never {});
    let mut response = HttpResponse::new(HttpResponseBody::new(body));
    let status = http::StatusCode::from_u16(answer.status);
    *response.status_mut() = status.map_err(|error| HttpError::new(HttpErrorKind::Decode, error))?;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

impl Said {
    fn of(answer: &Answer) -> Self {
        let code = answer.body.as_deref().map(error_code).unwrap_or_default();
        Self::Answer { status: answer.status, code, after: answer.retry_after(), kind: answer.kind() }
    }
}

/// The `Code` of an S3 error document. It is a word; the message beside it may quote keys, so it is not shown.
fn error_code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map(|(code, _)| code).unwrap_or_default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '.';
    if code.len() <= 100 && code.chars().all(is_word) { code.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_document_is_found() {
        let document =
            b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>no</Message></Error>";
        assert_eq!(error_code(document), "NoSuchBucket");
        for other in [&b""[..], b"<html>", b"<Code>half", b"<Code>two words</Code>", b"\xff<Code>"] {
            assert_eq!(error_code(other), "");
        }
    }
}
