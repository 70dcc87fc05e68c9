//! One line of a file of requests, judged by two policies at once: read once, walked once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::request::{ChatRequest, RequestError};
use llm_api::json::{Kind, Tape};
use llm_api::walk::Walk;
use memchr::memmem::Finder;
use policy::{Masker, OutputFindings, Revision, Subject, Text, Verdict};

use super::{Flips, Outcome, Ruling, Whose, is_redacted};
use crate::simulate::{Said, calls_model};

/// Why a line is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Its `answer`.
    #[error("`answer`: {0}")]
    Answer(#[from] AnswerError),
}

/// Two policies, before and after.
#[derive(Debug)]
pub struct Pair {
    before: Arc<Revision>,
    after: Arc<Revision>,
    /// The member that few lines have.
    answer: Finder<'static>,
}

impl Pair {
    /// A pair.
    pub fn new(before: Arc<Revision>, after: Arc<Revision>) -> Self {
        Self { before, after, answer: Finder::new("\"answer\"").into_owned() }
    }

    /// Judges a line (an OpenAI chat body with our metadata and perhaps an `answer`; `model` may be left out) and
    /// counts what changes.
    ///
    /// # Errors
    /// [`LineError`] where it is no request; nothing is counted then.
    pub fn judge(&self, line: &Bytes, flips: &mut Flips) -> Result<(), LineError> {
        let request = read(line)?;
        let answer = match self.answer.find(line) {
            Some(_) => read_answer(line)?,
            None => None,
        };
        let metadata = &request.metadata;
        let or_empty = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let project = or_empty(&metadata.project_id);
        // The gateway's own fallbacks.
        let target = metadata.target.clone().unwrap_or_else(|| project.clone());
        let user = metadata.policy_user.as_ref().or(metadata.fallback_user.as_ref());
        let subject = Subject::new(&target).scored_by(crate::moderation::embedded());
        let walk = request.texts()?;
        let texts = crate::texts_of(&walk, &request);
        let read = Read { request: &request, walk: &walk, texts: &texts };
        let before = verdict(&self.before, &subject, &read, answer.as_ref())?;
        let after = verdict(&self.after, &subject, &read, answer.as_ref())?;
        let whose =
            Whose { user: user.map(String::as_str).unwrap_or_default(), project: &project, target: &target };
        flips.note(whose, before.outcome(), after.outcome(), || (before.ruling(), after.ruling()));
        Ok(())
    }
}

/// A request, read and walked once for both.
struct Read<'a> {
    request: &'a ChatRequest,
    walk: &'a Walk<'a>,
    texts: &'a [Text<'a>],
}

struct Judged {
    verdict: Verdict,
    allowlist_missed: bool,
    unread: bool,
}

impl Judged {
    fn outcome(&self) -> Outcome {
        Outcome::of(self.verdict.decision, is_redacted(&self.verdict.redactions))
    }

    fn ruling(&self) -> Ruling {
        let verdict = &self.verdict;
        let violated = !verdict.denylist_hits.is_empty() || !verdict.triggered_categories.is_empty();
        Ruling::new(
            verdict.decision,
            verdict.denylist_hits.iter().map(|term| &**term),
            verdict.triggered_categories.iter().map(|category| category.as_str()),
            verdict.redactions.keys().map(|entity| entity.as_str()),
            self.allowlist_missed && !violated,
            self.unread,
        )
    }
}

fn verdict(
    revision: &Arc<Revision>,
    subject: &Subject,
    read: &Read<'_>,
    answer: Option<&Answer>,
) -> Result<Judged, LineError> {
    let mut masker = Masker::new();
    let input = crate::judge_texts(revision, subject, read.request, read.walk, read.texts, &mut masker);
    let findings = match answer {
        Some(answer) if calls_model(input.decision) => {
            crate::judge_answer(revision, subject, answer, &mut masker)?.findings
        }
        _ => OutputFindings::default(),
    };
    let verdict = policy::conclude(revision, &input, &findings);
    let unread = verdict.unscanned.total() > 0 && revision.unscannable_effect(subject).is_some();
    Ok(Judged { verdict, allowlist_missed: input.allowlist_missed, unread })
}

/// A request; one without `model` is read all the same, since no rule looks at it.
fn read(line: &Bytes) -> Result<ChatRequest, RequestError> {
    let error = match ChatRequest::parse(line.clone()) {
        Ok(request) => return Ok(request),
        Err(error) => error,
    };
    let names_model = Tape::parse(std::str::from_utf8(line).unwrap_or_default())
        .is_ok_and(|tape| tape.root(std::str::from_utf8(line).unwrap_or_default()).get("model").is_some());
    let Some(rest) = line.trim_ascii_start().strip_prefix(b"{") else { return Err(error) };
    if names_model || error.param.as_deref() != Some("model") {
        return Err(error);
    }
    let mut with_model = BytesMut::from(&b"{\"model\":\"any\","[..]);
    with_model.extend_from_slice(rest);
    ChatRequest::parse(with_model.freeze())
}

fn read_answer(line: &Bytes) -> Result<Option<Answer>, AnswerError> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let Ok(tape) = Tape::parse(text) else { return Ok(None) };
    let Some(answer) = tape.root(text).get("answer").filter(|answer| !answer.is_null()) else {
        return Ok(None);
    };
    let body = match answer.kind() {
        Kind::PlainString | Kind::EscapedString => match Said::text(&answer.as_str().unwrap_or_default()) {
            Said::Whole(body) => body,
            Said::Stream(_) => Bytes::new(),
        },
        _ => Bytes::copy_from_slice(answer.raw().as_bytes()),
    };
    Answer::parse(body).map(Some)
}

#[cfg(test)]
mod tests {
    use policy::PolicyDocument;
    use serde_json::{Value, json};

    use super::*;

    fn pair(before: Value, after: Value) -> Pair {
        let revision = |rules: Value| {
            let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
            Arc::new(Revision::compile(document, 1).unwrap())
        };
        Pair::new(revision(before), revision(after))
    }

    fn judge(pair: &Pair, lines: &[Value]) -> Flips {
        let mut flips = Flips::default();
        for line in lines {
            pair.judge(&line.to_string().into(), &mut flips).unwrap();
        }
        flips
    }

    fn say(text: &str) -> Value {
        json!({"messages": [{"role": "user", "content": text}]})
    }

    #[test]
    fn requests_and_answers_are_judged_by_both() {
        let pair = pair(json!({"denylist": ["old"]}), json!({"denylist": ["new"], "redact": true}));
        let mut with_answer = say("hello");
        with_answer["answer"] = "so new".into();
        with_answer["user"] = "u1".into();
        with_answer["policy_project_id"] = "bot".into();
        let lines = [say("so old"), say("plain \"answer\""), say("a@b.org"), with_answer];
        let report = judge(&pair, &lines).report(10);
        assert_eq!((report.requests, report.stricter, report.milder, report.other), (4, 1, 1, 1));
        let rules: Vec<_> = report.rules.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(rules, ["denylist `new`", "denylist `old`", "redact EMAIL_ADDRESS"]);
        assert_eq!(report.by_user.rows[0].name, "u1");
        assert_eq!(
            (report.projects.rows[0].name.as_str(), report.targets.rows[0].name.as_str()),
            ("bot", "bot")
        );
    }

    #[test]
    fn a_model_that_is_not_called_answers_nothing() {
        let pair = pair(json!({"denylist": ["bad"]}), json!({"denylist": ["bad", "worse"]}));
        let mut line = say("bad");
        line["answer"] = json!({"choices": [{"message": {"content": "worse"}}]});
        assert_eq!(judge(&pair, &[line]).report(1).stricter, 0);
    }

    #[test]
    fn what_is_no_request_is_an_error_and_not_counted() {
        let pair = pair(json!({}), json!({}));
        let mut flips = Flips::default();
        let answer = r#"{"messages":[{"role":"user","content":"x"}],"answer":{"choices":5}}"#;
        for line in ["", "{", "[]", "{}", r#"{"model":5,"messages":[{"role":"user","content":"x"}]}"#, answer]
        {
            assert!(pair.judge(&Bytes::copy_from_slice(line.as_bytes()), &mut flips).is_err(), "{line}");
        }
        assert_eq!(flips.report(1).requests, 0);
    }
}
