//! Answers of the management API: JSON, and errors in OpenAI's shape where something is wrong, with every problem of a
//! document listed by its path.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use policy::Problem;
use registry::desired_state::ChangeError;
use serde::Serialize;
use serde_json::Value;

/// Something is wrong with the request, or behind it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    more: Box<More>,
}

/// What few failures have: apart, so that a result stays small.
#[derive(Debug, Default)]
struct More {
    problems: Vec<Problem>,
    /// What is there instead, where the request came too late.
    current: Option<Value>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// OpenAI's error body, and what goes beyond it.
#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: &'a [Problem],
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<&'a Value>,
}

impl Failure {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// A body or document with these problems, at least one; `hint` follows them in the message.
    pub(crate) fn problems(problems: Vec<Problem>, hint: &str) -> Self {
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        let message = format!("{}{hint}", texts.join("; "));
        Self { more: Box::new(More { problems, ..More::default() }), ..Self::bad_request(message) }
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        let header = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Self::new(StatusCode::UNAUTHORIZED, "invalid_admin_token", message).with_header(Some(header))
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "role_not_allowed", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn method_not_allowed(allowed: &[Method]) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let header = HeaderValue::from_str(&names.join(", ")).ok().map(|value| (ALLOW, value));
        let message = format!("this route takes {} only", names.join(" and "));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).with_header(header)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
    }

    pub(crate) fn unprocessable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// With what is there instead.
    pub(crate) fn with_current(mut self, current: Option<Value>) -> Self {
        self.more.current = current;
        self
    }

    fn with_header(mut self, header: Option<(HeaderName, HeaderValue)>) -> Self {
        self.more.header = header;
        self
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, more: Box::default() }
    }

    pub(crate) fn into_response(self) -> Response<Bytes> {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        // OpenAI's `param` is one name; the whole list is in `problems`.
        let param =
            self.more.problems.first().map(|problem| problem.path.as_str()).filter(|path| !path.is_empty());
        let body = to_json(&Body {
            error: Error {
                message: &self.message,
                r#type: kind,
                param,
                code: self.code,
                problems: &self.more.problems,
                current: self.more.current.as_ref(),
            },
        });
        let mut response = answer(self.status, body);
        if let Some((name, value)) = self.more.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::Problems(problems) => Self::problems(problems, ""),
            ChangeError::Declared { .. } => Self::conflict("declared_in_file", message),
            ChangeError::Moved { .. } => Self::conflict("revision_conflict", message),
            ChangeError::Stale(_) => Self::precondition(message),
            ChangeError::Conflict(_) => Self::conflict("conflict", message),
            ChangeError::Unknown(_) => Self::not_found(message),
            ChangeError::Store(_) => Self::unavailable(message),
        }
    }
}

/// A 200 with this body.
pub(crate) fn ok(body: &impl Serialize) -> Response<Bytes> {
    ok_text(to_json(body))
}

/// A 200 whose body is JSON already.
pub(crate) fn ok_text(body: impl Into<Bytes>) -> Response<Bytes> {
    answer(StatusCode::OK, body)
}

/// A 200 whose body is CSV.
pub(crate) fn ok_csv(body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = ok_text(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    response
}

/// The same with the `ETag` of what is answered.
pub(crate) fn tagged(mut response: Response<Bytes>, tag: &str) -> Response<Bytes> {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// An answer that was given before.
pub(crate) fn again(status: u16, body: Vec<u8>) -> Response<Bytes> {
    let mut response = answer(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), body);
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}

/// Nothing, where the caller has it already: the answer's `ETag` is one of `If-None-Match`.
pub(crate) fn unless_seen(response: Response<Bytes>, headers: &HeaderMap) -> Response<Bytes> {
    let seen = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    let is_seen = seen.zip(tag).is_some_and(|(seen, tag)| {
        seen.split(',').map(|one| one.trim()).any(|one| one.trim_start_matches("W/") == tag || one == "*")
    });
    if !is_seen || response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::NOT_MODIFIED;
    head.headers.remove(CONTENT_TYPE);
    Response::from_parts(head, Bytes::new())
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Evidence and states are of the moment, and not for caches on the way.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// None of the types answered here can fail to serialise; should one ever, the body is null.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}
