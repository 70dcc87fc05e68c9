//! Judging by two revisions at once: the one that acts, and one beside it whose verdict is only told. What both look for in
//! the same text is looked for once.

use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::request::{ChatRequest, RequestError};
use llm_api::json::Splice;
use policy::{InputVerdict, Masker, OutputFindings, OutputMode, Pair, Subject};

use crate::{
    JudgedAnswer, changes, cleaned, judge_answer, judge_walk, note_unscanned, restore, texts_of, unscanned,
};

/// [`crate::judge_request`] by both: the verdict and the changes of the one that acts, and the verdict beside. Subjects and
/// maskers are each one's own.
///
/// # Errors
/// [`RequestError`] where a text cannot be read.
pub fn judge_request_by_both(
    pair: &Pair,
    subjects: [&Subject; 2],
    request: &ChatRequest,
    maskers: [&mut Masker; 2],
) -> Result<(InputVerdict, Splice, InputVerdict), RequestError> {
    let walk = request.texts()?;
    let texts = texts_of(&walk, request);
    let [mut verdict, mut beside] = pair.evaluate_input(subjects, &texts, maskers);
    let [subject, other_subject] = subjects;
    note_unscanned(pair.acting(), subject, request, &walk, &mut verdict);
    note_unscanned(pair.beside(), other_subject, request, &walk, &mut beside);
    let splice = changes(&walk, &verdict);
    Ok((verdict, splice, beside))
}

/// [`crate::judge_answer`] by both: what it is by the one that acts, and what the one beside found.
///
/// # Errors
/// [`AnswerError`] where a text cannot be read.
pub fn judge_answer_by_both(
    pair: &Pair,
    subjects: [&Subject; 2],
    answer: &Answer,
    maskers: [&mut Masker; 2],
) -> Result<(JudgedAnswer, OutputFindings), AnswerError> {
    let ([subject, other_subject], [masker, other]) = (subjects, maskers);
    let (acting, beside) = (pair.acting(), pair.beside());
    if !(acting.has_output_rules() && beside.has_output_rules()) {
        let judged = judge_answer(acting, subject, answer, masker)?;
        return Ok((judged, judge_answer(beside, other_subject, answer, other)?.findings));
    }
    let walk = answer.texts()?;
    let mut found = OutputFindings::default();
    let judged = judge_walk(acting, subject, &walk, |text| {
        let mut masked = restore::Edits::default();
        let maskers = [&mut *masker, &mut *other];
        let [findings, findings_beside] =
            pair.scan_text_into(subjects, text, OutputMode::Mask, maskers, &mut masked);
        found.merge(beside, &findings_beside);
        cleaned(acting, text, findings, masked.edits, masker)
    });
    found.note_unscanned(beside, other_subject, &unscanned(&walk, |_| true));
    Ok((judged, found))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use policy::{PolicyDocument, Revision};
    use serde_json::{Value, json};

    use super::*;
    use crate::judge_request;

    fn revision(rules: Value) -> Arc<Revision> {
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
        Arc::new(Revision::compile(document, 1).unwrap())
    }

    #[test]
    fn both_come_to_what_each_comes_to_alone() {
        let revisions = [
            revision(json!({"denylist": ["napalm"], "redact": true, "response_pattern": "rewrite"})),
            revision(json!({"denylist": ["napalm", "tango"], "unscannable": "refuse"})),
            revision(json!({})),
        ];
        let content = json!([{"type": "text", "text": "napalm and tango, bob@example.com"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]);
        let request = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
        let request = ChatRequest::parse(Bytes::from(request.to_string())).unwrap();
        let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "tango napalm bob@example.com"}, "finish_reason": "stop"}]});
        let answer = Answer::parse(Bytes::from(answer.to_string())).unwrap();
        let subject = Subject::default();
        for acting in &revisions {
            for beside in &revisions {
                let pair = Pair::new(Arc::clone(acting), Arc::clone(beside));
                let subjects = [&subject, &subject];
                let (mut one, mut other) = (Masker::new(), Masker::new());
                let (verdict, splice, verdict_beside) =
                    judge_request_by_both(&pair, subjects, &request, [&mut one, &mut other]).unwrap();
                let (judged, found) =
                    judge_answer_by_both(&pair, subjects, &answer, [&mut one, &mut other]).unwrap();
                let alone = |revision: &Revision| {
                    let mut masker = Masker::new();
                    let (verdict, splice) = judge_request(revision, &subject, &request, &mut masker).unwrap();
                    (verdict, splice, judge_answer(revision, &subject, &answer, &mut masker).unwrap())
                };
                let (expected, changes, whole) = alone(acting);
                assert_eq!((verdict, &judged.findings), (expected, &whole.findings));
                let body = |splice| request.upstream_body(splice, None);
                assert_eq!(body(splice), body(changes));
                let text = |judged: JudgedAnswer| {
                    answer.client_body(judged.texts, &judged.changed_choices, None, None)
                };
                assert_eq!(text(judged), text(whole));
                let (expected, _, whole) = alone(beside);
                assert_eq!((verdict_beside, found), (expected, whole.findings));
            }
        }
    }
}
