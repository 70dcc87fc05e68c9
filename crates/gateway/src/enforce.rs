//! What a verdict does to a call: the only place that acts on decisions. Judging itself is `policy`'s.

use audit::event::Outcome;
use bytes::Bytes;
use http::{Response, StatusCode};
use llm_api::chat::answer::{Answer, AnswerError, TokenUsage};
use llm_api::chat::made::{self, Envelope};
use llm_api::chat::request::{ChatRequest, Role};
use llm_api::json::{Splice, Tape};
use llm_api::walk::Walk;
use policy::document::ResponseMode;
use policy::{Decision, InputVerdict, Masker, OutputFindings, OutputMode, Revision, Text};

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

/// Whether an answer holds what the policy forbids. Redactions are not that: they are made and the answer goes on.
pub(crate) fn violates(findings: &OutputFindings) -> bool {
    !findings.denylist_hits.is_empty() || !findings.triggered_categories.is_empty()
}

/// How much was found: it grows with every finding.
pub(crate) fn count(findings: &OutputFindings) -> u64 {
    let hits = findings.denylist_hits.len() + findings.triggered_categories.len();
    hits as u64 + findings.redactions.values().sum::<u64>()
}

/// What a streamed answer that violates the policy does: only `rewrite` masks and goes on.
pub(crate) fn stream_mode(revision: &Revision) -> OutputMode {
    match revision.violation_decision() {
        Decision::Rewrite => OutputMode::Mask,
        _ => OutputMode::Stop,
    }
}

/// Judges a request's texts. Gives the verdict and the changes to the body.
///
/// # Errors
/// [`Failure::Invalid`] where a text cannot be read.
pub(crate) fn judge_request(
    revision: &Revision,
    request: &ChatRequest,
    masker: &mut Masker,
) -> Result<(InputVerdict, Splice), Failure> {
    let walk = request.texts()?;
    let texts: Vec<Text<'_>> = walk
        .units()
        .iter()
        .map(|unit| Text {
            message: unit.owner,
            role: role(request.roles.get(unit.owner).copied().unwrap_or(Role::Other)),
            is_content: unit.is_content,
            text: std::borrow::Cow::Borrowed(unit.text.as_ref()),
        })
        .collect();
    let verdict = policy::evaluate_input(revision, &texts, masker);
    if verdict.edits.is_empty() {
        return Ok((verdict, Splice::default()));
    }
    let mut edit = walk.edit();
    for text in &verdict.edits {
        edit.replace(text.text, &text.edits.iter().map(|edit| (edit.range.clone(), edit.with.as_str())));
    }
    let splice = edit.finish();
    Ok((verdict, splice))
}

fn role(role: Role) -> policy::Role {
    match role {
        Role::System => policy::Role::System,
        Role::Developer => policy::Role::Developer,
        Role::User => policy::Role::User,
        Role::Assistant => policy::Role::Assistant,
        Role::Tool => policy::Role::Tool,
        Role::Other => policy::Role::Other,
    }
}

/// A whole answer, judged: what was found, the changes that make it clean, and which choices they touch.
#[derive(Debug, Default)]
pub(crate) struct JudgedAnswer {
    pub(crate) findings: OutputFindings,
    pub(crate) texts: Splice,
    pub(crate) changed_choices: Vec<usize>,
    /// The first choice's texts, masked: what a rewriting call may see.
    pub(crate) masked: String,
}

/// Judges every text under `choices[]`.
///
/// # Errors
/// [`AnswerError`] where one cannot be read.
pub(crate) fn judge_answer(
    revision: &Revision,
    answer: &Answer,
    masker: &mut Masker,
) -> Result<JudgedAnswer, AnswerError> {
    let mut judged = JudgedAnswer::default();
    if !revision.has_output_rules() {
        return Ok(judged);
    }
    let walk = answer.texts()?;
    let mut edit = walk.edit();
    for (index, unit) in walk.units().iter().enumerate() {
        let (masked, findings) = policy::scan_text(revision, &unit.text, OutputMode::Mask, masker);
        judged.findings.merge(revision, &findings);
        if unit.owner == 0 {
            if !judged.masked.is_empty() {
                judged.masked.push('\n');
            }
            judged.masked.push_str(masked.as_deref().unwrap_or(&unit.text));
        }
        if let Some(masked) = masked {
            edit.replace_all(index, &masked);
            if !judged.changed_choices.contains(&unit.owner) {
                judged.changed_choices.push(unit.owner);
            }
        }
    }
    judged.texts = edit.finish();
    Ok(judged)
}

/// An upstream's error body with everything masked that the policy forbids in an answer: an error can quote the
/// prompt or a piece of the answer.
pub(crate) fn judge_error_body(revision: &Revision, body: Bytes, masker: &mut Masker) -> Bytes {
    if !revision.has_output_rules() {
        return body;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let mask =
        |text: &str, masker: &mut Masker| policy::scan_text(revision, text, OutputMode::Mask, masker).0;
    if let Ok(tape) = Tape::parse(&text) {
        let mut walk = Walk::default();
        if walk.any(0, tape.root(&text), "error").is_ok() {
            let mut edit = walk.edit();
            for (index, unit) in walk.units().iter().enumerate() {
                if let Some(masked) = mask(&unit.text, masker) {
                    edit.replace_all(index, &masked);
                }
            }
            let mut splice = edit.finish();
            return if splice.is_empty() { body } else { splice.apply(text.as_bytes()).into() };
        }
    }
    match mask(&text, masker) {
        Some(masked) => masked.into(),
        None => body,
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
