//! Values of the request put back into its answer, whole and streamed, and nothing else.

use bytes::Bytes;
use llm_api::chat::answer::Answer;
use llm_api::chat::request::ChatRequest;
use policy::{Masker, OutputMode, Revision, Subject};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixtures::chunked;
use super::{Ran, frame, frames, revision, run_with};
use crate::{judge_answer, judge_request};

fn rules() -> std::sync::Arc<Revision> {
    revision(json!({"denylist": ["napalm"], "redact": true, "redaction": {"restore": true}}))
}

/// The masker of a request that carried these values.
fn masker(rules: &Revision, prompt: &str) -> Masker {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": prompt}]});
    let request = ChatRequest::parse(Bytes::from(body.to_string())).unwrap();
    let mut masker = Masker::default();
    judge_request(rules, &Subject::default(), &request, &mut masker).unwrap();
    masker
}

const PROMPT: &str =
    r#"I am "Bob\Builder"@not, write to bob.builder@example.com, card 4111 1111 1111 1111, and [EMAIL_7]"#;

/// What the model says, what the client gets, and what is counted as taken out of the answer.
const CASES: [(&str, &str, u64); 9] = [
    ("To [EMAIL_1], paid with [CARD_1].", "To bob.builder@example.com, paid with 4111 1111 1111 1111.", 0),
    ("[[EMAIL_1]] [EMAIL_1[EMAIL_1]", "[bob.builder@example.com] [EMAIL_1bob.builder@example.com", 0),
    // The model knows the value itself.
    ("So bob.builder@example.com it is", "So bob.builder@example.com it is", 0),
    ("BOB.Builder@example.com, 4111111111111111", "bob.builder@example.com, 4111 1111 1111 1111", 0),
    // Altered, unknown, of others: they stay.
    (
        "[email_1] [EMAIL 1] [EMAIL_2] [EMAIL_7] [EMAIL_11] [EMAIL_",
        "[email_1] [EMAIL 1] [EMAIL_2] [EMAIL_7] [EMAIL_11] [EMAIL_",
        0,
    ),
    ("a new one: eve@example.org", "a new one: [EMAIL_2]", 1),
    ("[EMAIL_1] and napalm at [EMAIL_1]", "bob.builder@example.com and ███ at bob.builder@example.com", 0),
    ("[napalm [EMAIL_1]", "[███ bob.builder@example.com", 0),
    ("[", "[", 0),
];

fn stream(text: &str) -> Vec<Value> {
    let frames_of = frame(&json!({"content": text}), None) + &frame(&json!({}), Some("stop"));
    frames(frames_of.as_bytes())
}

fn ran(rules: &std::sync::Arc<Revision>, frames: &[Value]) -> Ran {
    let stream: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
    run_with(rules, OutputMode::Mask, &masker(rules, PROMPT), [stream.as_bytes()])
}

#[test]
fn placeholders_become_values_again_whatever_the_cut() {
    let rules = rules();
    for (said, expected, taken) in CASES {
        for size in 1..=said.len() {
            let judged = ran(&rules, &chunked(&stream(said), size));
            assert_eq!(judged.seen.texts[&(0, "content".to_owned())], expected, "{said:?} by {size}");
            assert_eq!(judged.findings.redactions.values().sum::<u64>(), taken, "{said:?} by {size}");
        }
        let body = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]});
        let answer = Answer::parse(body.to_string().into()).unwrap();
        let found = judge_answer(&rules, &Subject::default(), &answer, &mut masker(&rules, PROMPT)).unwrap();
        let shown =
            crate::masked_choice(&rules, &Subject::default(), &answer, 0, &mut masker(&rules, PROMPT));
        assert!(!shown.contains('@'), "what another model call may see is not restored: {shown}");
        let body: Value = serde_json::from_slice(&answer.client_body(found.texts, &[], None, None)).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], expected, "{said:?} whole");
        assert_eq!(found.findings.redactions.values().sum::<u64>(), taken, "{said:?} whole");
    }
}

#[test]
fn only_what_may_become_a_placeholder_of_this_request_is_held() {
    let rules = rules();
    let said = ["see [", "see [E", "see [EMAIL_", "see [EMAIL_1"];
    for text in said {
        let stream = frame(&json!({"content": text}), None);
        let out = run_with(&rules, OutputMode::Mask, &masker(&rules, PROMPT), [stream.as_bytes()]).out;
        assert!(frames(&out)[0]["choices"][0]["delta"]["content"] == "see ", "{text}");
    }
    for text in ["see [I ", "see [x ", "see [EMAIL_2 ", "see [[ ["] {
        let stream = frame(&json!({"content": text}), None);
        let out = run_with(&rules, OutputMode::Mask, &masker(&rules, PROMPT), [stream.as_bytes()]).out;
        let first = frames(&out)[0]["choices"][0]["delta"]["content"].as_str().unwrap().to_owned();
        assert!(first.len() >= text.len() - 1, "{text}: {first}");
    }
}

#[test]
fn values_are_escaped_in_tool_inputs() {
    let rules = revision(json!({"redact": true, "redaction": {"restore": true}}));
    let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "MIIEvQIB".repeat(8));
    let mut masker = masker(&rules, &format!("use {key} and bob@example.com"));
    let input = r#"{"to":"[EMAIL_1]","key":"\u005bSECRET_1] [EMAIL_1]","n":[CARD_1]}"#;
    let call = json!({"tool_calls": [{"index": 0, "function": {"arguments": input}}]});
    let whole = frames((frame(&call, None) + &frame(&json!({}), Some("tool_calls"))).as_bytes());
    let mut seen = Vec::new();
    for size in 1..=input.len() {
        let stream: String = chunked(&whole, size).iter().map(|frame| format!("data: {frame}\n\n")).collect();
        let ran = run_with(&rules, OutputMode::Mask, &masker, [stream.as_bytes()]);
        seen.push(ran.seen.calls[&(0, "0".to_owned())].input.clone());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let head = seen[0].strip_suffix(r#","n":[CARD_1]}"#).unwrap().to_owned() + "}";
    let value: Value = serde_json::from_str(&head).unwrap();
    assert_eq!(value["to"], "bob@example.com");
    assert_eq!(value["key"], format!("{key} bob@example.com"));
    let body = json!({"choices": [{"message": {"tool_calls": [{"function": {"arguments": input}}]}}]});
    let answer = Answer::parse(body.to_string().into()).unwrap();
    let found = judge_answer(&rules, &Subject::default(), &answer, &mut masker).unwrap();
    let body: Value = serde_json::from_slice(&answer.client_body(found.texts, &[], None, None)).unwrap();
    assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], seen[0]);
}

#[test]
fn without_restore_placeholders_stay() {
    let rules = revision(json!({"redact": true}));
    let stream = frame(&json!({"content": "To [EMAIL_1], bob.builder@example.com."}), Some("stop"));
    let ran = run_with(&rules, OutputMode::Mask, &masker(&rules, PROMPT), [stream.as_bytes()]);
    assert_eq!(ran.seen.texts[&(0, "content".to_owned())], "To [EMAIL_1], [EMAIL_1].");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_cut_of_any_text_matters(
        words in prop::collection::vec(prop::sample::select(vec![
            "[EMAIL_1]", "[EMAIL_", "[", "1]", " ", "napalm", "bob.builder@example.com", "eve@example.org", "nap", "alm",
            "[CARD_1]", "\\", "\"", "4111 1111 1111 1111", "é", "\n",
        ]), 0..12),
        size in 1usize..9,
    ) {
        let rules = rules();
        let text = words.concat();
        let arguments = json!({"a": text, &text: [text]}).to_string();
        let call = json!({"content": text, "tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
        let whole = frames((frame(&call, None) + &frame(&json!({}), Some("stop"))).as_bytes());
        let expected = ran(&rules, &whole);
        let judged = ran(&rules, &chunked(&whole, size));
        prop_assert_eq!(&judged.seen, &expected.seen);
        prop_assert_eq!(&judged.findings, &expected.findings);
        let shown = expected.seen.texts.get(&(0, "content".to_owned())).map_or("", String::as_str);
        let input: Value = serde_json::from_str(&expected.seen.calls[&(0, "0".to_owned())].input).unwrap();
        prop_assert_eq!(input["a"].as_str().unwrap(), shown);
    }
}
