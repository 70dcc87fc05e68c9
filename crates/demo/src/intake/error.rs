//! The intake's refusals, in the shape Datadog gives them.

use http::header::{ALLOW, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use super::decode::BODY_BYTES_MAX;
use crate::reply::{self, Frames};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("{0}")]
    Bad(String),
    #[error("missing API key: send it in the DD-API-KEY header")]
    NoKey,
    #[error("API key is invalid")]
    WrongKey,
    #[error("nothing is served at this path; logs go to /api/v2/logs")]
    NoPath,
    #[error("logs are sent with POST")]
    Method,
    #[error("payload is over {BODY_BYTES_MAX} bytes uncompressed")]
    TooLarge,
    #[error("told to answer this status")]
    Scripted(StatusCode),
}

impl IntakeError {
    /// 400 with a detail.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::Bad(detail.into())
    }

    /// The status it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::WrongKey => StatusCode::FORBIDDEN,
            Self::NoPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Scripted(status) => *status,
        }
    }

    /// `{"errors": [{"status", "title", "detail"}]}`.
    pub(crate) fn response(&self) -> Response<Frames> {
        let status = self.status();
        let title = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
            other => other.canonical_reason().unwrap_or("Error"),
        };
        let body =
            json!({"errors": [{"status": status.as_str(), "title": title, "detail": self.to_string()}]});
        let mut response = reply::json(status, &body);
        if *self == Self::Method {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}
