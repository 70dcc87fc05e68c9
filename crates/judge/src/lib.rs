//! Judging messages of an API's format by a policy: a request, a whole answer, a stream of chunks. The one judge behind
//! the data plane, `simulate` and `policy test`. Pure: what a verdict does to a call is the gateway's business, what is
//! looked for in a text is `policy`'s, and where text stands is `llm-api`'s.

pub mod cases;
pub mod coverage;
pub mod explain;
pub mod flips;
pub mod moderation;
pub mod pair;
#[cfg(test)]
mod request_tests;
mod restore;
pub mod simulate;
pub mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unscanned_tests;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::request::{ChatRequest, RequestError, Role};
use llm_api::json::{Splice, Tape};
use llm_api::walk::{Media, Walk};
use policy::{
    Edit, InputVerdict, Masker, OutputFindings, OutputMode, Revision, Scorer, Subject, Text, Unscanned,
};

use crate::restore::Restorer;

/// Whether an answer holds what the policy forbids. Redactions are not that, unless the policy says more of their type:
/// they are made and the answer goes on.
pub fn violates(findings: &OutputFindings) -> bool {
    findings.violates()
}

/// How much was found: it grows with every finding.
pub fn count(findings: &OutputFindings) -> u64 {
    let hits = findings.denylist_hits.len() + findings.triggered_categories.len();
    let unscored = u64::from(findings.moderated.unavailable.is_some());
    hits as u64 + findings.redactions.values().sum::<u64>() + findings.unscanned.total() + unscored
}

/// Judges a request's texts. Gives the verdict and the changes to the body.
///
/// # Errors
/// [`RequestError`] where a text cannot be read.
pub fn judge_request(
    revision: &Revision,
    subject: &Subject,
    request: &ChatRequest,
    masker: &mut Masker,
) -> Result<(InputVerdict, Splice), RequestError> {
    let walk = request.texts()?;
    let texts = texts_of(&walk, request);
    let verdict = judge_texts(revision, subject, request, &walk, &texts, masker);
    let splice = changes(&walk, &verdict);
    Ok((verdict, splice))
}

/// What a verdict changes of the texts of a walk.
fn changes(walk: &Walk<'_>, verdict: &InputVerdict) -> Splice {
    if verdict.edits.is_empty() {
        return Splice::default();
    }
    let mut edit = walk.edit();
    for text in &verdict.edits {
        edit.replace(text.text, &ranges(&text.edits));
    }
    edit.finish()
}

/// Judges the texts of a walk, and what it did not read.
pub(crate) fn judge_texts(
    revision: &Revision,
    subject: &Subject,
    request: &ChatRequest,
    walk: &Walk<'_>,
    texts: &[Text<'_>],
    masker: &mut Masker,
) -> InputVerdict {
    let mut verdict = policy::evaluate_input(revision, subject, texts, masker);
    note_unscanned(revision, subject, request, walk, &mut verdict);
    verdict
}

fn note_unscanned(
    revision: &Revision,
    subject: &Subject,
    request: &ChatRequest,
    walk: &Walk<'_>,
    verdict: &mut InputVerdict,
) {
    let of_judged =
        |owner: &usize| revision.judges(role(request.roles.get(*owner).copied().unwrap_or(Role::Other)));
    verdict.note_unscanned(revision, subject, &unscanned(walk, of_judged));
}

/// The parts of some messages or choices that were not read.
fn unscanned(walk: &Walk<'_>, of: impl Fn(&usize) -> bool) -> Unscanned {
    let mut unscanned = Unscanned::default();
    for (_, media) in walk.media().iter().filter(|(owner, _)| of(owner)) {
        match media {
            Media::Image => unscanned.image += 1,
            Media::Audio => unscanned.audio += 1,
            Media::File => unscanned.file += 1,
            Media::Other => unscanned.other += 1,
        }
    }
    unscanned
}

/// The texts of a walk as the policy takes them.
pub(crate) fn texts_of<'w>(walk: &'w Walk<'_>, request: &ChatRequest) -> Vec<Text<'w>> {
    let role_of = |message: usize| role(request.roles.get(message).copied().unwrap_or(Role::Other));
    let text = |unit: &'w llm_api::walk::Unit<'_>| Text {
        message: unit.owner,
        role: role_of(unit.owner),
        is_content: unit.is_content,
        text: Cow::Borrowed(unit.text.as_ref()),
    };
    walk.units().iter().map(text).collect()
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

/// Edits as `llm-api` takes them.
pub(crate) fn ranges(edits: &[Edit]) -> impl Iterator<Item = (Range<usize>, &str)> + Clone {
    edits.iter().map(|edit| (edit.range.clone(), edit.with.as_str()))
}

/// A text of an answer that was judged whole.
pub(crate) struct Cleaned {
    pub(crate) findings: OutputFindings,
    /// What changes on its way to the client.
    pub(crate) edits: Vec<Edit>,
    /// Bytes that its judging let go.
    pub(crate) released_bytes: u64,
}

/// Judges a text of an answer as a whole: denied terms masked, entities replaced, values of the request put back.
pub(crate) fn clean(revision: &Revision, subject: &Subject, text: &str, masker: &mut Masker) -> Cleaned {
    let mut masked = restore::Edits::default();
    let findings = policy::scan_text_into(revision, subject, text, OutputMode::Mask, masker, &mut masked);
    cleaned(revision, text, findings, masked.edits, masker)
}

/// What is made of a text by the edits that its judging gave.
fn cleaned(
    revision: &Revision,
    text: &str,
    findings: OutputFindings,
    masked: Vec<Edit>,
    masker: &mut Masker,
) -> Cleaned {
    let (taken, given) = masked
        .iter()
        .fold((0, 0), |(taken, given), edit| (taken + edit.range.len(), given + edit.with.len()));
    let released_bytes = (text.len() + given).saturating_sub(taken) as u64;
    let edits = match Restorer::of(revision) {
        Some(restorer) => restorer.whole(text, &masked, masker),
        None => masked,
    };
    Cleaned { findings, edits, released_bytes }
}

/// A whole answer, judged: what was found, the changes that make it clean, and which choices they touch.
#[derive(Debug, Default)]
pub struct JudgedAnswer {
    /// What was found, over all choices.
    pub findings: OutputFindings,
    /// The changes that make the answer clean.
    pub texts: Splice,
    /// Indexes of the choices they touch.
    pub changed_choices: Vec<usize>,
    /// Indexes of the choices that hold what the policy forbids.
    pub violating_choices: Vec<usize>,
    /// Bytes of the texts judged.
    pub scanned_bytes: u64,
    /// Bytes of what is left of them.
    pub released_bytes: u64,
}

/// Judges every text under `choices[]`.
///
/// # Errors
/// [`AnswerError`] where one cannot be read.
pub fn judge_answer(
    revision: &Revision,
    subject: &Subject,
    answer: &Answer,
    masker: &mut Masker,
) -> Result<JudgedAnswer, AnswerError> {
    if !revision.has_output_rules() {
        return Ok(JudgedAnswer::default());
    }
    Ok(judge_walk(revision, subject, &answer.texts()?, |text| clean(revision, subject, text, masker)))
}

/// Judges the texts of a walk by what `clean` makes of each.
fn judge_walk(
    revision: &Revision,
    subject: &Subject,
    walk: &Walk<'_>,
    mut clean: impl FnMut(&str) -> Cleaned,
) -> JudgedAnswer {
    let mut judged = JudgedAnswer::default();
    let mut edit = walk.edit();
    for (index, unit) in walk.units().iter().enumerate() {
        let cleaned = clean(&unit.text);
        judged.findings.merge(revision, &cleaned.findings);
        judged.scanned_bytes += unit.text.len() as u64;
        judged.released_bytes += cleaned.released_bytes;
        if violates(&cleaned.findings) && !judged.violating_choices.contains(&unit.owner) {
            judged.violating_choices.push(unit.owner);
        }
        if !cleaned.edits.is_empty() {
            edit.replace(index, &ranges(&cleaned.edits));
            if !judged.changed_choices.contains(&unit.owner) {
                judged.changed_choices.push(unit.owner);
            }
        }
    }
    judged.texts = edit.finish();
    judged.findings.note_unscanned(revision, subject, &unscanned(walk, |_| true));
    judged
}

/// Rounds of masking texts that were put together, each for what the round before brought together.
const MASK_ROUNDS_MAX: usize = 4;

/// The texts of one choice, a line each, with everything masked that the policy forbids: what a call for something in its
/// place may see. Lines can make a term that no text had, so they are judged once more together; what masking cannot
/// clean is left out whole.
pub fn masked_choice(
    revision: &Revision,
    subject: &Subject,
    answer: &Answer,
    choice: usize,
    masker: &mut Masker,
) -> String {
    let Ok(walk) = answer.texts() else { return String::new() };
    let mut all = String::new();
    for unit in walk.units().iter().filter(|unit| unit.owner == choice) {
        let (masked, _) = policy::scan_text(revision, subject, &unit.text, OutputMode::Mask, masker);
        if !all.is_empty() {
            all.push('\n');
        }
        all.push_str(masked.as_deref().unwrap_or(&unit.text));
    }
    // Their categories were judged; the texts together are none that anybody wrote.
    let subject = &subject.clone().scored_by(Scorer::default());
    for _ in 0..MASK_ROUNDS_MAX {
        match policy::scan_text(revision, subject, &all, OutputMode::Mask, masker).0 {
            Some(masked) => all = masked,
            None => return all,
        }
    }
    String::new()
}

/// An upstream's error body with everything masked that the policy forbids in an answer: an error can quote the
/// prompt or a piece of the answer.
pub fn judge_error_body(revision: &Revision, subject: &Subject, body: Bytes, masker: &mut Masker) -> Bytes {
    if !revision.has_output_rules() {
        return body;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let mask = |text: &str, masker: &mut Masker| {
        policy::scan_text(revision, subject, text, OutputMode::Mask, masker).0
    };
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
