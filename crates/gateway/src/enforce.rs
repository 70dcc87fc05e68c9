//! What a verdict does to a call: the only place that acts on decisions. Judging itself is `policy`'s.

use audit::event::Outcome;
use http::{Response, StatusCode};
use llm_api::chat::answer::TokenUsage;
use llm_api::chat::made::{self, Envelope};
use llm_api::chat::request::ChatRequest;
use policy::document::ResponseMode;
use policy::{Decision, InputVerdict, Revision};

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
    /// A reviewer let it pass: what the policy escalates goes on, redactions apply.
    Pass,
}

/// A verdict's action where no reviewer has a say (see `escalate`).
pub(crate) fn action(decision: Decision) -> Action {
    match decision {
        Decision::Allow | Decision::Rewrite | Decision::Summary => Action::Forward,
        Decision::Escalate | Decision::Refuse => Action::Replace,
    }
}

/// Whether a streamed answer is held until it is whole: it is a summary, or one may have to take its place.
pub(crate) fn holds(revision: &Revision, input: &InputVerdict) -> bool {
    input.decision == Decision::Summary || revision.may_sum_up()
}

/// The policy's text in place of the model's answer. `error_code` goes into the event.
pub(crate) struct Replacement {
    pub(crate) response: Response<Body>,
    pub(crate) error_code: Option<String>,
}

/// Builds the replacement in the shape that the policy asks for (`response_mode`) and the request expects.
pub(crate) fn replacement(call: &Call, revision: &Revision, request: &ChatRequest) -> Replacement {
    let text = revision.refusal_message();
    if revision.response_mode() == ResponseMode::Error {
        let failure = policy_failure(call, revision);
        return Replacement {
            response: reply::failure(&failure),
            error_code: Some(failure.code().to_owned()),
        };
    }
    let response = if request.stream {
        reply::whole(StatusCode::OK, EVENT_STREAM, refusal_frames(call, revision, request))
    } else {
        let usage = TokenUsage::default().to_json();
        let policy = call.policy_json();
        reply::whole(StatusCode::OK, JSON, envelope(call, request).refusal(text, &usage, policy.as_deref()))
    };
    Replacement { response, error_code: None }
}

/// The policy's text as an error. A request that a reviewer denied is refused, whatever the policy said of it.
pub(crate) fn policy_failure(call: &Call, revision: &Revision) -> Failure {
    let text = revision.refusal_message().to_owned();
    match call.event.effective_decision {
        Some(Decision::Escalate) => Failure::PolicyEscalated(text),
        _ => Failure::PolicyRefused(text),
    }
}

/// A refusal as the whole of a stream. Nothing of a model's answer is in it, so it counts no tokens; the event has what
/// upstreams counted.
pub(crate) fn refusal_frames(call: &Call, revision: &Revision, request: &ChatRequest) -> Vec<u8> {
    let envelope = envelope(call, request);
    let policy = call.policy_json();
    let policy = policy.as_deref();
    let text = made::text_delta("refusal", revision.refusal_message());
    let mut frames = made::event(&envelope.frame(0, r#"{"role":"assistant"}"#, None, policy));
    frames.extend(made::event(&envelope.frame(0, &text, None, policy)));
    frames.extend(made::event(&envelope.frame(0, "{}", Some("content_filter"), policy)));
    if request.include_usage {
        frames.extend(made::event(&envelope.usage_frame(&TokenUsage::default().to_json(), policy)));
    }
    frames.extend_from_slice(made::DONE);
    frames
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
