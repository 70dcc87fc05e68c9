//! What a verdict does to a call: the only place that acts on decisions. Judging itself is `policy`'s.

use audit::event::Outcome;
use http::{Response, StatusCode};
use llm_api::chat::answer::TokenUsage;
use llm_api::chat::made::{self, Envelope};
use llm_api::chat::request::ChatRequest;
use policy::document::ResponseMode;
use policy::{Decision, Revision};

use crate::call::Call;
use crate::error_reply::Failure;
use crate::reply::{self, Body, EVENT_STREAM, JSON};

/// What an input verdict asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Call the model.
    Forward,
    /// Answer with the policy's text; the model is not called.
    Replace,
}

/// A verdict's action. `summary` and `escalate` are refused when a policy is loaded; were one to come here all the same,
/// it fails closed.
pub(crate) fn action(decision: Decision) -> Action {
    match decision {
        Decision::Allow | Decision::Rewrite => Action::Forward,
        Decision::Summary | Decision::Escalate | Decision::Refuse => Action::Replace,
    }
}

/// The policy's text in place of the model's answer. `error_code` goes into the event.
pub(crate) struct Replacement {
    pub(crate) response: Response<Body>,
    pub(crate) error_code: Option<String>,
}

/// Builds the replacement in the shape that the policy asks for (`response_mode`) and the request expects.
pub(crate) fn replacement(call: &Call, revision: &Revision, request: &ChatRequest) -> Replacement {
    let decision = call.decision().unwrap_or(Decision::Refuse);
    let text = revision.refusal_message();
    if revision.response_mode() == ResponseMode::Error {
        let failure = match decision {
            Decision::Escalate => Failure::PolicyEscalated(text.to_owned()),
            _ => Failure::PolicyRefused(text.to_owned()),
        };
        return Replacement {
            response: reply::failure(&failure),
            error_code: Some(failure.code().to_owned()),
        };
    }
    let envelope = envelope(call, request);
    let policy = call.policy_json();
    let policy = policy.as_deref();
    // Nothing of a model's answer is in it, so it counts no tokens; the event has what upstreams counted.
    let usage = TokenUsage::default().to_json();
    let response = if request.stream {
        let mut frames = made::event(&envelope.frame(0, r#"{"role":"assistant"}"#, None, policy));
        frames.extend(made::event(&envelope.frame(0, &made::text_delta("refusal", text), None, policy)));
        frames.extend(made::event(&envelope.frame(0, "{}", Some("content_filter"), policy)));
        if request.include_usage {
            frames.extend(made::event(&envelope.usage_frame(&usage, policy)));
        }
        frames.extend_from_slice(made::DONE);
        reply::whole(StatusCode::OK, EVENT_STREAM, frames)
    } else {
        reply::whole(StatusCode::OK, JSON, envelope.refusal(text, &usage, policy))
    };
    Replacement { response, error_code: None }
}

/// What frames of our own are marked with.
pub(crate) fn envelope(call: &Call, request: &ChatRequest) -> Envelope {
    let id = format!("chatcmpl-{}", call.event.event_id.as_simple());
    Envelope::new(&id, jiff::Timestamp::now().as_second(), &request.model)
}

/// Whether the status of an upstream's answer is one that carries a completion.
pub(crate) fn is_answer(status: StatusCode) -> bool {
    status == StatusCode::OK
}

/// How a call ended whose upstream answered with this status.
pub(crate) fn upstream_outcome(status: StatusCode) -> Outcome {
    if status.is_success() { Outcome::Completed } else { Outcome::UpstreamError }
}
