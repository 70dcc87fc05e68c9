//! Every way in which a request fails, and the one table that turns it into a status and an OpenAI error body. Two
//! texts: the caller's is here, the operator's goes to the log where the failure is noticed.

use std::time::Duration;

use http::StatusCode;
use llm_api::error::ApiError;

/// Why the gateway answers with an error of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// No `Authorization` header, or none that this API knows.
    #[error("no API key was sent: send `Authorization: Bearer <key>` with a key of this gateway (`ak_…`)")]
    NoKey,
    /// What was sent is no key of ours.
    #[error(
        "the API key is malformed: send `Authorization: Bearer <key>` with a key of this gateway (`ak_…`)"
    )]
    MalformedKey,
    /// Unknown, revoked or expired.
    #[error(
        "the API key is {0}: send `Authorization: Bearer <key>` with a valid key of this gateway (`ak_…`)"
    )]
    InvalidKey(&'static str),
    /// The project is switched off.
    #[error("project `{0}` is disabled: ask its owner to enable it")]
    ProjectDisabled(String),
    /// A project that the key may not name.
    #[error("this key is not entitled to project `{0}`: use a key of that project, or leave the project out")]
    ProjectNotEntitled(String),
    /// A policy that the key may not name.
    #[error("this key is not entitled to policy `{0}`: leave `policy_id` out to use the project's own")]
    PolicyNotEntitled(String),
    /// The body or a header is wrong.
    #[error("{message}")]
    Invalid {
        /// With the fix.
        message: String,
        /// The field at fault.
        param: Option<String>,
    },
    /// The project has no policy to judge by.
    #[error("project `{0}` has no policy: give it a `policy_id` in the gateway's configuration")]
    NoPolicy(String),
    /// No upstream serves the model, or the project may not use it.
    #[error("model `{0}` is unknown or not allowed for this key: GET /v1/models lists those that are")]
    UnknownModel(String),
    /// Nothing is served at this path.
    #[error("{0}")]
    UnknownPath(String),
    /// The path exists for another method.
    #[error("{0} is not allowed here: use {1}")]
    Method(String, &'static str),
    /// The body is over the limit.
    #[error("the request body is larger than {0} bytes (`limits.body_bytes_max`)")]
    BodyTooLarge(usize),
    /// The headers are over the limit.
    #[error("the request headers are larger than {0} bytes (`limits.header_bytes_max`)")]
    HeadersTooLarge(usize),
    /// The body took too long to arrive.
    #[error("the request body did not arrive within {0:?} (`limits.body_timeout_seconds`)")]
    BodyTimeout(Duration),
    /// The body broke off or is malformed on the wire.
    #[error("the request body could not be read: {0}")]
    BodyBroken(String),
    /// Too many requests in flight.
    #[error("the gateway is at its limit of requests in flight (`limits.requests_max`): try again")]
    Overloaded,
    /// The audit log does not take the decision.
    #[error("the audit log cannot be written, so nothing is let through: try again later")]
    AuditUnavailable,
    /// The policy asks for a review, and no ticket could be opened.
    #[error("this request needs a review, and the review queue does not take it: try again later")]
    ReviewUnavailable,
    /// The upstream cannot be reached, or said something that cannot be judged.
    #[error("the upstream `{upstream}` {problem}")]
    Upstream {
        /// Its name in the configuration.
        upstream: String,
        /// What it did, as in `refused the connection`.
        problem: String,
    },
    /// The upstream took too long.
    #[error("the upstream `{upstream}` did not answer within {timeout:?}")]
    UpstreamTimeout {
        /// Its name in the configuration.
        upstream: String,
        /// What it had.
        timeout: Duration,
    },
    /// The policy refuses and the policy's `response_mode` is `error`.
    #[error("{0}")]
    PolicyRefused(String),
    /// The same for a request that waits for a review.
    #[error("{0}")]
    PolicyEscalated(String),
    /// A quota or rate limit leaves too little.
    #[error("{message}")]
    Quota {
        /// `USER_QUOTA_EXCEEDED`, `PROJECT_QUOTA_EXCEEDED` or `RATE_LIMITED`.
        code: &'static str,
        /// With the fix.
        message: String,
        /// Until the window ends.
        retry_after_s: u64,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down: try again")]
    Draining,
}

/// Seconds after which trying again may help where the gateway is short of something.
const RETRY_AFTER_SECONDS: u64 = 1;

impl Failure {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoKey | Self::MalformedKey | Self::InvalidKey(_) => StatusCode::UNAUTHORIZED,
            Self::ProjectDisabled(_)
            | Self::ProjectNotEntitled(_)
            | Self::PolicyNotEntitled(_)
            | Self::PolicyRefused(_)
            | Self::PolicyEscalated(_) => StatusCode::FORBIDDEN,
            Self::Invalid { .. } | Self::NoPolicy(_) | Self::UnknownModel(_) | Self::BodyBroken(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownPath(_) => StatusCode::NOT_FOUND,
            Self::Method(..) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded | Self::AuditUnavailable | Self::ReviewUnavailable | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Upstream { .. } => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Quota { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The stable `code`, also the event's `reason_code` where nothing was judged.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoKey | Self::MalformedKey | Self::InvalidKey(_) => "invalid_api_key",
            Self::ProjectDisabled(_) => "project_disabled",
            Self::ProjectNotEntitled(_) => "project_not_entitled",
            Self::PolicyNotEntitled(_) => "policy_not_entitled",
            Self::Invalid { .. } => "invalid_request",
            Self::NoPolicy(_) => "project_without_policy",
            Self::UnknownModel(_) => "model_not_found",
            Self::UnknownPath(_) => "unknown_url",
            Self::Method(..) => "method_not_allowed",
            Self::BodyTooLarge(_) => "request_too_large",
            Self::HeadersTooLarge(_) => "headers_too_large",
            Self::BodyTimeout(_) => "request_timeout",
            Self::BodyBroken(_) => "request_broken",
            Self::Overloaded => "overloaded",
            Self::AuditUnavailable => "audit_unavailable",
            Self::ReviewUnavailable => "review_unavailable",
            Self::Upstream { .. } => "upstream_error",
            Self::UpstreamTimeout { .. } => "upstream_timeout",
            Self::PolicyRefused(_) => "policy_refused",
            Self::PolicyEscalated(_) => "policy_escalated",
            Self::Quota { code, .. } => code,
            Self::Draining => "shutting_down",
        }
    }

    /// OpenAI's coarse class.
    fn kind(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::Invalid { param, .. } => param.clone(),
            Self::UnknownModel(_) => Some("model".to_owned()),
            Self::PolicyNotEntitled(_) => Some("policy_id".to_owned()),
            Self::ProjectNotEntitled(_) => Some("policy_project_id".to_owned()),
            _ => None,
        }
    }

    /// `Retry-After` in seconds, where trying again may help.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Overloaded | Self::AuditUnavailable | Self::ReviewUnavailable | Self::Draining => {
                Some(RETRY_AFTER_SECONDS)
            }
            Self::Quota { retry_after_s, .. } => Some(*retry_after_s),
            _ => None,
        }
    }

    /// The error body.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        ApiError {
            message: self.to_string(),
            kind: self.kind(),
            param: self.param(),
            code: Some(self.code().to_owned()),
        }
        .to_json()
    }
}

impl From<llm_api::chat::request::RequestError> for Failure {
    fn from(error: llm_api::chat::request::RequestError) -> Self {
        Self::Invalid { message: error.message, param: error.param }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let all = [
            Failure::NoKey,
            Failure::MalformedKey,
            Failure::InvalidKey("expired"),
            Failure::ProjectDisabled("p".into()),
            Failure::ProjectNotEntitled("p".into()),
            Failure::PolicyNotEntitled("p".into()),
            Failure::Invalid { message: "m".into(), param: Some("messages".into()) },
            Failure::NoPolicy("p".into()),
            Failure::UnknownModel("m".into()),
            Failure::UnknownPath("nothing at `/x`".into()),
            Failure::Method("GET".into(), "POST"),
            Failure::BodyTooLarge(1),
            Failure::HeadersTooLarge(1),
            Failure::BodyTimeout(Duration::from_secs(1)),
            Failure::BodyBroken("cut".into()),
            Failure::Overloaded,
            Failure::AuditUnavailable,
            Failure::ReviewUnavailable,
            Failure::Upstream { upstream: "main".into(), problem: "refused the connection".into() },
            Failure::UpstreamTimeout { upstream: "main".into(), timeout: Duration::from_secs(1) },
            Failure::PolicyRefused("no".into()),
            Failure::PolicyEscalated("wait".into()),
            Failure::Quota { code: "RATE_LIMITED", message: "wait".into(), retry_after_s: 7 },
            Failure::Draining,
        ];
        let table: String = all
            .iter()
            .map(|failure| {
                format!(
                    "{} {:?} {}\n",
                    failure.status().as_u16(),
                    failure.retry_after_seconds(),
                    String::from_utf8(failure.to_json()).unwrap()
                )
            })
            .collect();
        insta::assert_snapshot!(table);
    }
}
