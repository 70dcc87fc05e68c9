//! A whole exchange judged as the gateway would judge it, without a model and without any effect: the verdict, what the
//! messages become, what of the answer leaves, and why. Behind `policy simulate`, `policy test` and the management API's
//! `simulate`.

use std::sync::Arc;

use bytes::Bytes;
use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::made::{Envelope, text_delta};
use llm_api::chat::request::{ChatRequest, RequestError};
use llm_api::sse::{Decoder, Frame};
use policy::{Decision, InputVerdict, Masker, OutputFindings, OutputMode, Revision, Stage, Subject, Verdict};
use serde_json::{Value, json};

use crate::explain::{self, Explanation};
use crate::stream::{Next, StreamJudge};

/// The model that a request names where it is made from messages alone. No rule looks at it.
const ANY_MODEL: &str = "any";
/// Longest event that the judge may make of one chunk; chunks here are texts somebody wrote by hand.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the model said.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A whole completion, as the upstream's body.
    Whole(Bytes),
    /// A stream's text, in chunks.
    Stream(Vec<String>),
}

impl Said {
    /// A whole answer of one text.
    pub fn text(text: &str) -> Self {
        let choice =
            json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
        Self::Whole(json!({"object": "chat.completion", "choices": [choice]}).to_string().into())
    }
}

/// What becomes of an exchange.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The verdict over both stages; of the input alone where the model is not called.
    pub verdict: Verdict,
    /// The messages as the model would see them: redacted, and cut under `rewrite`. Without the instruction.
    pub messages: Value,
    /// What of the model's text leaves; empty where it is replaced, none where there is no answer or no call.
    pub released: Option<String>,
    /// Whether the model would be called.
    pub calls_model: bool,
    /// Why.
    pub explanation: Explanation,
}

/// Why an exchange cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// The messages.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// A request of messages alone.
///
/// # Errors
/// [`RequestError`] where they are no messages.
pub fn request_of(messages: &Value) -> Result<ChatRequest, RequestError> {
    ChatRequest::parse(json!({"model": ANY_MODEL, "messages": messages}).to_string().into())
}

/// A request of one user message.
///
/// # Errors
/// None in practice; the type is that of [`request_of`].
pub fn request_of_text(text: &str) -> Result<ChatRequest, RequestError> {
    request_of(&json!([{"role": "user", "content": text}]))
}

/// Judges a request and what the model said to it, if anything.
///
/// # Errors
/// [`SimulateError`] where a text of either cannot be read.
pub fn simulate(
    revision: &Arc<Revision>,
    subject: &Subject,
    request: &ChatRequest,
    said: Option<&Said>,
) -> Result<Simulated, SimulateError> {
    let mut masker = Masker::new();
    let (input, texts) = crate::judge_request(revision, subject, request, &mut masker)?;
    let body = request.upstream_body(texts, None);
    let messages = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|mut body| body.get_mut("messages").map(Value::take))
        .unwrap_or_default();
    let calls_model = calls_model(input.decision);
    let answered = match said {
        Some(said) if calls_model => Some(answer(revision, subject, &input, said, masker)?),
        _ => None,
    };
    let findings = answered.as_ref().map(|answered| answered.findings.clone()).unwrap_or_default();
    let verdict = policy::conclude(revision, &input, &findings);
    let explanation =
        explain::explain(revision, subject, request, said.filter(|_| calls_model), &input, &verdict)?;
    let released = answered.map(|answered| answered.released);
    Ok(Simulated { verdict, messages, released, calls_model, explanation })
}

/// Whether a request with this verdict goes on to the model.
pub(crate) fn calls_model(decision: Decision) -> bool {
    decision < Decision::Escalate
}

struct Answered {
    findings: OutputFindings,
    released: String,
}

fn answer(
    revision: &Arc<Revision>,
    subject: &Subject,
    input: &InputVerdict,
    said: &Said,
    mut masker: Masker,
) -> Result<Answered, AnswerError> {
    // A stream that is a summary, or may have to become one, is held and judged when it is whole.
    let is_held = input.decision == Decision::Summary || revision.may_sum_up();
    let whole = match said {
        Said::Stream(chunks) if is_held => Some(Said::text(&chunks.concat())),
        _ => None,
    };
    let answered = match whole.as_ref().unwrap_or(said) {
        Said::Whole(body) => {
            let answer = Answer::parse(body.clone())?;
            let judged = crate::judge_answer(revision, subject, &answer, &mut masker)?;
            let left = answer.client_body(judged.texts, &judged.changed_choices, None, None);
            let replaced = crate::violates(&judged.findings);
            let released = if replaced { String::new() } else { content_of_choice(&left) };
            Answered { findings: judged.findings, released }
        }
        Said::Stream(chunks) => stream(revision, subject, chunks, masker)?,
    };
    Ok(answered)
}

fn stream(
    revision: &Arc<Revision>,
    subject: &Subject,
    chunks: &[String],
    masker: Masker,
) -> Result<Answered, AnswerError> {
    let mut judge =
        StreamJudge::new(Arc::clone(revision), subject.clone(), OutputMode::Stop, masker, false, None);
    let envelope = Envelope::new("chatcmpl-simulated", 0, ANY_MODEL);
    let deltas = chunks.iter().map(|chunk| (text_delta("content", chunk), None));
    let frames = deltas.chain(std::iter::once(("{}".to_owned(), Some("stop"))));
    let mut out = Vec::new();
    let mut next = Next::Continue;
    for (delta, finish) in frames {
        let data = envelope.frame(0, &delta, finish, None);
        let frame = Frame { raw: Bytes::new(), data: Some(data.into()), event: None };
        next = judge.event(&frame, &mut out)?;
        if next != Next::Continue {
            break;
        }
    }
    if next == Next::Continue {
        judge.finish(&mut out)?;
    }
    Ok(Answered { findings: judge.findings(), released: content_of_stream(&out) })
}

/// The first choice's text.
fn content_of_choice(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.pointer("/choices/0/message/content").map(content_text).unwrap_or_default()
}

/// All text of a stream as its client puts it together.
fn content_of_stream(out: &[u8]) -> String {
    let mut text = String::new();
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    decoder.push(out);
    while let Ok(Some(frame)) = decoder.next_frame() {
        let data = frame.data.unwrap_or_default();
        let chunk: Value = serde_json::from_slice(&data).unwrap_or_default();
        text.push_str(chunk.pointer("/choices/0/delta/content").and_then(Value::as_str).unwrap_or_default());
    }
    text
}

/// A message's content as one text: a string, or its text parts joined.
pub(crate) fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").unwrap_or(part).as_str()).collect()
        }
        _ => String::new(),
    }
}

/// The stage's own decision, for an explanation.
pub(crate) fn stage_of(verdict: &Verdict, input: &InputVerdict) -> Stage {
    if verdict.decision > input.decision { Stage::Output } else { Stage::Input }
}

#[cfg(test)]
mod tests {
    use policy::{PolicyDocument, ReasonCode};

    use super::*;

    fn revision(rules: Value) -> Arc<Revision> {
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
        Arc::new(Revision::compile(document, 1).unwrap())
    }

    fn judged(rules: Value, text: &str, said: Option<&Said>) -> Simulated {
        simulate(&revision(rules), &Subject::default(), &request_of_text(text).unwrap(), said).unwrap()
    }

    #[test]
    fn messages_are_shown_as_the_model_would_see_them() {
        let done = judged(json!({"redact": true}), "mail a@b.org", None);
        assert_eq!(done.messages, json!([{"role": "user", "content": "mail [EMAIL_1]"}]));
        assert_eq!((done.verdict.reason_code, done.released), (ReasonCode::Redact, None));
        let rules = json!({"denylist": ["bad"], "response_pattern": "rewrite"});
        let done = judged(rules, "a bad day", None);
        assert_eq!(done.messages, json!([{"role": "user", "content": "a  day"}]));
        assert!(done.calls_model);
    }

    #[test]
    fn a_model_that_is_not_called_says_nothing() {
        let said = Said::text("worse");
        let done = judged(json!({"denylist": ["bad", "worse"]}), "bad", Some(&said));
        assert_eq!(done.verdict.denylist_hits, ["bad".into()]);
        assert_eq!((done.verdict.stage, done.released, done.calls_model), (Stage::Input, None, false));
    }

    #[test]
    fn what_leaves_of_an_answer_depends_on_the_rule_and_on_whether_it_is_streamed() {
        let summary = json!({"denylist": ["bad"], "response_pattern": "summary"});
        let stream = |text: &str| Said::Stream(vec![text.to_owned()]);
        let refuse = json!({"denylist": ["bad"], "redact": true});
        let rewrite = json!({"denylist": ["bad"], "response_pattern": "rewrite"});
        let cases = [
            (&refuse, Said::text("to a@b.org"), "to [EMAIL_1]"),
            (&refuse, Said::text("so bad it is"), ""),
            (&refuse, stream("so bad it is"), "so "),
            (&rewrite, stream("so bad it is"), "so ███ it is"),
            (&rewrite, Said::text("so bad it is"), ""),
            (&summary, stream("so bad it is"), ""),
            (&summary, stream("so good it is"), "so good it is"),
        ];
        for (rules, said, released) in cases {
            let done = judged(rules.clone(), "hello", Some(&said));
            assert_eq!(done.released.as_deref(), Some(released), "{said:?}");
        }
    }

    #[test]
    fn what_is_no_exchange_is_an_error() {
        assert!(request_of(&json!([{"role": "user"}])).is_err());
        let said = Said::Whole("{}".into());
        let request = request_of_text("hi").unwrap();
        assert!(matches!(
            simulate(&revision(json!({"redact": true})), &Subject::default(), &request, Some(&said)),
            Err(SimulateError::Answer(_))
        ));
    }
}
