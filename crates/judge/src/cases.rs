//! Policy cases as data: what is asked and answered, and what the policy must make of it. The format of `policy test` and
//! of this workspace's own cases; `check` runs one, `coverage` counts what no case reaches. Finding and reading files is
//! the caller's business.

mod check;
mod coverage;
pub mod report;
#[cfg(test)]
mod tests;

use policy::problems::{Problem, read_all};
use policy::{Decision, Subject};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use check::{Checked, Mismatch, check};
pub use coverage::Coverage;

use crate::simulate::{self, Said};

/// A document of cases.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The policy of every case that names none: an id, a file beside this one, or a whole document.
    #[serde(default)]
    pub policy: Option<Value>,
    /// In the order in which they run.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in words; unique in its document.
    pub name: String,
    /// Its policy, where it is not the document's.
    #[serde(default)]
    pub policy: Option<Value>,
    /// The request as one user message.
    #[serde(default)]
    pub text: Option<String>,
    /// The request's messages, as OpenAI has them.
    #[serde(default)]
    pub messages: Option<Value>,
    /// The model's whole answer: its text, or a completion with `choices`.
    #[serde(default)]
    pub answer: Option<Value>,
    /// The model's streamed answer: its text, or a list of chunks.
    #[serde(default)]
    pub stream: Option<Value>,
    /// `policy_target` of the call.
    #[serde(default)]
    pub target: Option<String>,
    /// `policy_user` of the call.
    #[serde(default)]
    pub user: Option<String>,
    /// What must come of it; what is not named is not looked at.
    pub expect: Expect,
}

/// What must come of a case.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The decision over both stages.
    pub decision: Option<Decision>,
    /// Its reason code.
    pub reason_code: Option<String>,
    /// The stage that set it: `input` or `output`.
    pub stage: Option<policy::Stage>,
    /// Denylist terms found, in any order.
    pub denylist_hits: Option<Vec<String>>,
    /// Allowlist terms found, in any order.
    pub allowlist_hits: Option<Vec<String>>,
    /// Categories that fired, in any order.
    pub triggered_categories: Option<Vec<String>>,
    /// Entities replaced, by type: all of them.
    pub redactions: Option<Map<String, Value>>,
    /// What the model sees: the last user message's text, or all messages. Without the instruction of a rewrite.
    pub redacted: Option<Value>,
    /// What of the model's text leaves; empty where it is replaced.
    pub released: Option<String>,
}

impl CaseFile {
    /// Whether a document is one of cases, however wrong.
    pub fn is_one(value: &Value) -> bool {
        value.get("cases").is_some()
    }

    /// Reads a document of cases.
    ///
    /// # Errors
    /// Everything that is wrong with it, by path: unknown fields, wrong types, a case without request or expectation.
    pub fn read(value: &Value) -> Result<Self, Vec<Problem>> {
        let file: Self = read_all(value, "")?;
        let mut problems = Vec::new();
        if file.cases.is_empty() {
            problems.push(Problem::new("cases", "is empty: add a case, or remove the file"));
        }
        check_policy("policy", file.policy.as_ref(), &mut problems);
        for (at, case) in file.cases.iter().enumerate() {
            let path = format!("cases[{at}]");
            case.problems(&path, &mut problems);
            if file.cases.iter().take(at).any(|other| other.name == case.name) {
                let message = "another case has this name: results are told apart by it";
                problems.push(Problem::new(format!("{path}.name"), message));
            }
        }
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }
}

impl Case {
    /// The call that the case is about, as far as rules distinguish calls. Its texts are scored by the embedded
    /// classifier, so that a case comes to the same everywhere.
    pub fn subject(&self) -> Subject {
        Subject::new(self.target.as_deref().unwrap_or_default()).scored_by(crate::moderation::embedded())
    }

    /// What the model said; none where the case has no answer.
    pub fn said(&self) -> Option<Said> {
        match (&self.answer, &self.stream) {
            (Some(Value::String(text)), _) => Some(Said::text(text)),
            (Some(body), _) => Some(Said::Whole(body.to_string().into())),
            (_, Some(stream)) => chunks(stream).map(Said::Stream),
            (None, None) => None,
        }
    }

    /// The request.
    ///
    /// # Errors
    /// [`simulate::SimulateError`] where the messages are none.
    pub fn request(&self) -> Result<llm_api::chat::request::ChatRequest, simulate::SimulateError> {
        Ok(match (&self.text, &self.messages) {
            (Some(text), _) => simulate::request_of_text(text)?,
            (None, messages) => simulate::request_of(messages.as_ref().unwrap_or(&Value::Null))?,
        })
    }

    fn problems(&self, path: &str, problems: &mut Vec<Problem>) {
        let mut add = |field: &str, message: &str| {
            let dot = if field.is_empty() { "" } else { "." };
            problems.push(Problem::new(format!("{path}{dot}{field}"), message));
        };
        if self.name.trim().is_empty() {
            add("name", "is empty: say in words what the case shows");
        }
        match (&self.text, &self.messages) {
            (None, None) => add("", "asks nothing: add `text` or `messages`"),
            (Some(_), Some(_)) => add("messages", "there is `text` already: keep one of the two"),
            (Some(_), None) => {}
            (None, Some(_)) => {
                if let Err(error) = self.request() {
                    add("messages", &error.to_string());
                }
            }
        }
        if self.answer.is_some() && self.stream.is_some() {
            add("stream", "there is `answer` already: keep one of the two");
        }
        match &self.answer {
            None | Some(Value::String(_)) => {}
            Some(body) => {
                if let Err(error) = llm_api::chat::answer::Answer::parse(body.to_string().into()) {
                    add("answer", &format!("must be a text or a completion: {error}"));
                }
            }
        }
        if self.stream.as_ref().is_some_and(|stream| chunks(stream).is_none()) {
            add("stream", "must be a text, or a list of chunks of text");
        }
        self.expect_problems(&mut add);
        check_policy(&format!("{path}.policy"), self.policy.as_ref(), problems);
    }

    fn expect_problems(&self, add: &mut impl FnMut(&str, &str)) {
        let expect = &self.expect;
        if *expect == Expect::default() {
            add("expect", "is empty: name at least the `decision`");
        }
        if expect.released.is_some() && self.answer.is_none() && self.stream.is_none() {
            add("expect.released", "the case has no answer: add `answer` or `stream`");
        }
        for (entity, count) in expect.redactions.iter().flatten() {
            if !count.is_u64() {
                add(&format!("expect.redactions.{entity}"), "must be how many there are");
            }
        }
        if expect.redacted.as_ref().is_some_and(|redacted| !redacted.is_string() && !redacted.is_array()) {
            add("expect.redacted", "must be a text, or the list of messages");
        }
    }
}

fn check_policy(path: &str, policy: Option<&Value>, problems: &mut Vec<Problem>) {
    match policy {
        None | Some(Value::Object(_)) => {}
        Some(Value::String(name)) if !name.trim().is_empty() => {}
        Some(_) => problems.push(Problem::new(path, "must be a policy's id, its file, or a whole document")),
    }
}

fn chunks(stream: &Value) -> Option<Vec<String>> {
    match stream {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(chunks) => chunks.iter().map(|chunk| chunk.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
