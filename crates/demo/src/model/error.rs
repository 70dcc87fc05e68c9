//! The model's error answers, in OpenAI's shape. When they are due is decided elsewhere.

use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::reply::{self, Frames};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<String>,
}

impl ApiError {
    /// 400 `invalid_request_error`.
    pub(crate) fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: param.map(str::to_owned),
            message: message.into(),
            retry_after: None,
        }
    }

    /// 400 for a member of the wrong type or out of range.
    pub(crate) fn wrong_type(param: &str, expected: &str) -> Self {
        Self {
            code: Some("invalid_type"),
            ..Self::invalid(format!("Invalid value for '{param}': expected {expected}."), Some(param))
        }
    }

    /// 400 for a member the model does not take.
    pub(crate) fn unknown_argument(param: &str) -> Self {
        Self {
            code: Some("unknown_parameter"),
            ..Self::invalid(format!("Unrecognized request argument supplied: {param}"), Some(param))
        }
    }

    /// 401 for a missing or wrong key.
    pub(crate) fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: Some("invalid_api_key"),
            ..Self::invalid("Incorrect API key provided.", None)
        }
    }

    /// 404 for a model that is not there.
    pub(crate) fn no_model(model: &str, models: &[String]) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::invalid(
                format!("The model `{model}` does not exist. There are: {}.", models.join(", ")),
                Some("model"),
            )
        }
    }

    /// 404 for a path that is not there.
    pub(crate) fn no_path(method: &str, path: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("unknown_url"),
            ..Self::invalid(format!("Invalid URL ({method} {path})"), None)
        }
    }

    /// 413 for a body over the limit.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::invalid(format!("The request body is over {bytes_max} bytes."), None)
        }
    }

    /// An error that a directive asked for.
    pub(crate) fn scripted(status: u16, retry_after: Option<String>) -> Self {
        let (kind, code) = match status {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            403 => ("invalid_request_error", Some("permission_denied")),
            404 => ("invalid_request_error", Some("model_not_found")),
            429 => ("requests", Some("rate_limit_exceeded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind,
            code,
            param: None,
            message: format!("The demo model was told to answer {status}."),
            retry_after,
        }
    }

    /// `{"error": {…}}`.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }

    /// The whole answer.
    pub(crate) fn into_response(self) -> Response<Frames> {
        let mut response = reply::json(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(Ok(value)) = self.retry_after.as_deref().map(HeaderValue::from_str) {
            headers.insert(RETRY_AFTER, value);
        }
        response
    }
}
