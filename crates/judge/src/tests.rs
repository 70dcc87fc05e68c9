//! Whole answers, judged: which choices violate, and what a call for something in their place may see of them.

use llm_api::chat::answer::Answer;
use policy::{Masker, OutputMode, PolicyDocument, Revision, Subject};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{judge_answer, masked_choice};

fn revision() -> Revision {
    let document =
        json!({"policy_id": "p", "rules": {"denylist": ["napalm", "credential theft"], "redact": true}});
    Revision::compile(PolicyDocument::parse(&document).unwrap(), 1).unwrap()
}

fn answer(messages: &[Value]) -> Answer {
    let choices: Vec<Value> = messages.iter().map(|message| json!({"message": message})).collect();
    Answer::parse(json!({"choices": choices}).to_string().into()).unwrap()
}

fn masked(answer: &Answer, choice: usize) -> String {
    masked_choice(&revision(), &Subject::default(), answer, choice, &mut Masker::new())
}

#[test]
fn choices_that_violate_are_told_from_those_that_changed() {
    let answer = answer(&[
        json!({"content": "fine"}),
        json!({"content": "mail bob@example.com"}),
        json!({"content": null, "refusal": "no napalm", "reasoning": "napalm"}),
    ]);
    let judged = judge_answer(&revision(), &Subject::default(), &answer, &mut Masker::new()).unwrap();
    assert_eq!(judged.violating_choices, [2]);
    assert_eq!(judged.changed_choices, [1, 2]);
}

#[test]
fn what_another_call_may_see_is_masked() {
    let answer = answer(&[
        json!({"content": "fine"}),
        json!({"content": "napalm for bob@example.com", "tool_calls": [
            {"function": {"name": "send", "arguments": "{\"a\": [\"credential\", \"theft\"]}"}}]}),
    ]);
    assert_eq!(masked(&answer, 0), "fine");
    assert_eq!(masked(&answer, 1), "███ for [EMAIL_1]\nsend\na\n███");
    assert_eq!(masked(&answer, 2), "");
}

/// Pieces of terms and entities, and what joins them.
const PIECES: [&str; 12] =
    ["napalm", "nap", "alm", "credential", "theft", " ", "bob", "@", "example.com", "4111", "1111", "."];

proptest! {
    #[test]
    fn nothing_forbidden_is_left_whatever_the_texts(
        content in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..8),
        arguments in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..8),
    ) {
        let arguments = json!({"list": arguments}).to_string();
        let answer = answer(&[json!({"content": content.concat(), "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]})]);
        let masked = masked(&answer, 0);
        let (again, findings) =
            policy::scan_text(&revision(), &Subject::default(), &masked, OutputMode::Mask, &mut Masker::new());
        prop_assert!(again.is_none() && !findings.changed, "{masked:?}");
    }
}
