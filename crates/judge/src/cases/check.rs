//! Running one case: judge, compare, and for streams judge again at every cut.

use std::sync::Arc;

use policy::Revision;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Case, Coverage, Expect};
use crate::simulate::{Said, SimulateError, Simulated, content_text, simulate};

/// Cuts that a stream is tried at: a longer text is cut at so many places spread evenly over it.
const CUTS_MAX: usize = 2048;

/// Something that came out otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mismatch {
    /// The field of `expect`.
    pub field: &'static str,
    /// What was expected.
    pub expected: Value,
    /// What came.
    pub got: Value,
    /// Where the stream was cut, in characters; none where it came as the case has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_after: Option<usize>,
}

/// A case that was run.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What came out otherwise; nothing where the case holds.
    pub mismatches: Vec<Mismatch>,
    /// Why the policy decided as it did.
    pub because: String,
    /// In how many ways the stream was cut beside the case's own.
    pub cuts: usize,
}

/// Runs a case and notes what it reached.
///
/// # Errors
/// [`SimulateError`] where a text of the case cannot be read.
pub fn check(
    revision: &Arc<Revision>,
    case: &Case,
    coverage: &mut Coverage,
) -> Result<Checked, SimulateError> {
    let (request, subject, said) = (case.request()?, case.subject(), case.said());
    let done = simulate(revision, &subject, &request, said.as_ref())?;
    coverage.note(&done);
    let mut checked = Checked {
        mismatches: compare(&case.expect, &done),
        because: done.explanation.because.clone(),
        cuts: 0,
    };
    if let (Some(Said::Stream(chunks)), true) = (&said, done.calls_model) {
        let text = chunks.concat();
        let expected = outcome(&done);
        for cut in cuts(&text) {
            checked.cuts += 1;
            let said = Said::Stream(cut.pieces);
            let again = outcome(&simulate(revision, &subject, &request, Some(&said))?);
            let differs = |(field, expected, got): (&'static str, &Value, &Value)| {
                (expected != got).then(|| Mismatch {
                    field,
                    expected: expected.clone(),
                    got: got.clone(),
                    cut_after: cut.after,
                })
            };
            let pairs = expected.iter().zip(&again);
            let found = pairs.map(|((field, expected), (_, got))| (*field, expected, got)).find_map(differs);
            if let Some(mismatch) = found {
                checked.mismatches.push(mismatch);
                break;
            }
        }
    }
    Ok(checked)
}

/// What must be the same however a stream is cut. Hits are not among it: a stream that ends at a denied term has not read
/// the rest, so which terms it knows of depends on the cut.
fn outcome(done: &Simulated) -> [(&'static str, Value); 5] {
    let verdict = &done.verdict;
    [
        ("decision", json!(verdict.decision)),
        ("reason_code", json!(verdict.reason_code)),
        ("stage", json!(verdict.stage)),
        ("redactions", json!(verdict.redactions)),
        ("released", json!(done.released)),
    ]
}

/// A way to cut a stream.
struct Cut {
    pieces: Vec<String>,
    /// Characters in the first piece; none where every character is a piece.
    after: Option<usize>,
}

/// Every character alone, and in two at each character boundary.
fn cuts(text: &str) -> impl Iterator<Item = Cut> {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
    let step = places.len().div_ceil(CUTS_MAX).max(1);
    let alone = Cut { pieces: text.chars().map(String::from).collect(), after: None };
    let in_two = (0..places.len()).step_by(step).filter_map(move |index| {
        let (first, rest) = text.split_at_checked(*places.get(index)?)?;
        Some(Cut { pieces: vec![first.to_owned(), rest.to_owned()], after: Some(index + 1) })
    });
    std::iter::once(alone).chain(in_two)
}

fn compare(expect: &Expect, done: &Simulated) -> Vec<Mismatch> {
    let verdict = &done.verdict;
    let mut mismatches = Vec::new();
    let mut look = |field: &'static str, expected: Option<Value>, got: Value| {
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            mismatches.push(Mismatch { field, expected, got, cut_after: None });
        }
    };
    let names = |names: Vec<String>| {
        let mut names = names;
        names.sort_unstable();
        names.dedup();
        json!(names)
    };
    let listed = |list: &Option<Vec<String>>| list.clone().map(names);
    let terms = |terms: &[Arc<str>]| names(terms.iter().map(|term| term.to_string()).collect());
    look("decision", expect.decision.map(|decision| json!(decision)), json!(verdict.decision));
    look("reason_code", expect.reason_code.as_ref().map(|code| json!(code)), json!(verdict.reason_code));
    look("stage", expect.stage.map(|stage| json!(stage)), json!(verdict.stage));
    look("denylist_hits", listed(&expect.denylist_hits), terms(&verdict.denylist_hits));
    look("allowlist_hits", listed(&expect.allowlist_hits), terms(&verdict.allowlist_hits));
    let categories = verdict.triggered_categories.iter().map(|one| one.as_str().to_owned()).collect();
    look("triggered_categories", listed(&expect.triggered_categories), names(categories));
    // A type that is expected not to be there may be written with a 0.
    let redactions = expect.redactions.as_ref().map(|redactions| {
        let counts = redactions.iter().filter(|(_, count)| count.as_u64() != Some(0));
        Value::Object(counts.map(|(entity, count)| (entity.clone(), count.clone())).collect())
    });
    look("redactions", redactions, json!(verdict.redactions));
    let redacted = match &expect.redacted {
        Some(Value::Array(_)) => done.messages.clone(),
        _ => json!(last_user_text(&done.messages)),
    };
    look("redacted", expect.redacted.clone(), redacted);
    look("released", expect.released.as_ref().map(|text| json!(text)), json!(done.released));
    mismatches
}

fn last_user_text(messages: &Value) -> String {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let of_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    let last = messages.iter().rfind(of_user);
    last.and_then(|message| message.get("content")).map(content_text).unwrap_or_default()
}
