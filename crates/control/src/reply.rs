//! Answers of the management API: JSON, and problem details (RFC 9457) where something is wrong.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use serde::Serialize;

/// Something is wrong with the request, or behind it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        let header = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Self { header: Some(header), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn method_not_allowed(allowed: &Method) -> Self {
        let header = HeaderValue::from_str(allowed.as_str()).ok().map(|value| (ALLOW, value));
        Self {
            header,
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this route takes {allowed} only"))
        }
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None }
    }

    pub(crate) fn into_response(self) -> Response<Bytes> {
        #[derive(Serialize)]
        struct ProblemDetails<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let body = to_json(&ProblemDetails {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
        });
        let mut response = answer(self.status, "application/problem+json", body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A 200 with this body.
pub(crate) fn ok(body: &impl Serialize) -> Response<Bytes> {
    ok_text(to_json(body))
}

/// A 200 whose body is JSON already.
pub(crate) fn ok_text(body: Vec<u8>) -> Response<Bytes> {
    answer(StatusCode::OK, "application/json", body)
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Evidence and states are of the moment, and not for caches on the way.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// None of the types answered here can fail to serialise; should one ever, the body is null.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}
