//! Images, audio and files: counted where they pass unread, and kept back where the policy says so, in requests, whole
//! answers and streams.

use std::sync::Arc;

use bytes::Bytes;
use llm_api::chat::answer::Answer;
use llm_api::chat::request::ChatRequest;
use llm_api::sse::Decoder;
use policy::{Decision, Masker, OutputMode, PolicyDocument, Revision, Stage, Subject, Unscanned};
use serde_json::{Value, json};

use crate::stream::{Next, StreamJudge};

fn revision(rules: Value) -> Arc<Revision> {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

fn judged(rules: Value, target: &str, messages: Value) -> policy::InputVerdict {
    let body = json!({"model": "m", "messages": messages}).to_string();
    let request = ChatRequest::parse(Bytes::from(body)).unwrap();
    let subject = Subject::new(target);
    crate::judge_request(&revision(rules), &subject, &request, &mut Masker::new()).unwrap().0
}

fn image() -> Value {
    json!({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}})
}

fn with_image(role: &str) -> Value {
    json!([
        {"role": role, "content": [{"type": "text", "text": "look"}, image()]},
        {"role": "user", "content": "hello"},
    ])
}

#[test]
fn what_passes_unread_is_counted() {
    let verdict = judged(json!({}), "t", with_image("user"));
    assert_eq!(verdict.decision, Decision::Allow);
    assert_eq!(verdict.unscanned, Unscanned { image: 1, ..Unscanned::default() });
    let all = json!([{"role": "user", "content": [
        image(),
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://a.example/b.mp4"}},
    ]}]);
    let counts: Vec<_> = judged(json!({}), "t", all).unscanned.counts().collect();
    assert_eq!(counts, [("image", 1), ("audio", 1), ("file", 1), ("other", 1)]);
}

#[test]
fn a_policy_may_keep_it_back() {
    for (setting, decision) in [("refuse", Decision::Refuse), ("escalate", Decision::Escalate)] {
        let rules = json!({"unscannable": setting, "rewrite_instead_of_refuse": true});
        let verdict = judged(rules.clone(), "t", with_image("user"));
        assert_eq!((verdict.decision, verdict.add_instruction), (decision, false));
        assert_eq!(verdict.reason_code.as_str(), decision.as_str().to_uppercase());
        let text_only = json!([{"role": "user", "content": "hello"}]);
        assert_eq!(judged(rules, "t", text_only).decision, Decision::Allow);
    }
    // The most severe wins, and a rewrite that does not happen adds no instruction.
    let both = json!({"unscannable": "refuse", "denylist": ["hello"], "response_pattern": "rewrite"});
    let verdict = judged(both, "t", with_image("user"));
    assert_eq!((verdict.decision, verdict.add_instruction), (Decision::Refuse, false));
}

#[test]
fn only_judged_messages_count() {
    for role in ["system", "developer"] {
        let decision = |scan_system: bool| {
            judged(json!({"unscannable": "refuse", "scan_system": scan_system}), "t", with_image(role))
                .decision
        };
        assert_eq!((decision(false), decision(true)), (Decision::Allow, Decision::Refuse), "{role}");
    }
    for role in ["assistant", "tool"] {
        assert_eq!(
            judged(json!({"unscannable": "refuse"}), "t", with_image(role)).decision,
            Decision::Refuse
        );
    }
}

#[test]
fn a_target_may_be_excepted_but_nothing_is_taken_out_of_an_image() {
    let rules = |action: &str| json!({"unscannable": "refuse", "overrides": [{"target": "t", "action": action, "reason_code": "SEEN"}]});
    let verdict = judged(rules("allow"), "t", with_image("user"));
    assert_eq!((verdict.decision, verdict.reason_code.as_str()), (Decision::Allow, "SEEN"));
    assert_eq!(judged(rules("allow"), "u", with_image("user")).decision, Decision::Refuse);
    assert_eq!(judged(rules("rewrite"), "t", with_image("user")).decision, Decision::Refuse);
    assert_eq!(judged(rules("escalate"), "t", with_image("user")).decision, Decision::Escalate);
}

fn audio() -> Value {
    json!({"id": "audio_1", "data": "QUJD".repeat(100), "transcript": "hello there", "expires_at": 1})
}

#[test]
fn an_answers_audio_and_images_count_and_are_kept_back() {
    let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": null, "audio": audio()}},
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "x", "images": [image()]}},
    ]});
    let answer = Answer::parse(Bytes::from(body.to_string())).unwrap();
    let found = |rules: Value| {
        crate::judge_answer(&revision(rules), &Subject::default(), &answer, &mut Masker::new())
            .unwrap()
            .findings
    };
    let passed = found(json!({"redact": true}));
    assert_eq!(passed.unscanned, Unscanned { image: 1, audio: 1, ..Unscanned::default() });
    assert!(!passed.violates());
    let kept = found(json!({"unscannable": "refuse"}));
    assert!(kept.violates() && kept.stops());
    let verdict = policy::conclude(
        &revision(json!({"unscannable": "refuse"})),
        &judged(json!({}), "t", with_image("user")),
        &kept,
    );
    assert_eq!((verdict.decision, verdict.stage), (Decision::Refuse, Stage::Output));
    assert_eq!(verdict.unscanned, Unscanned { image: 2, audio: 1, ..Unscanned::default() });
}

/// Streams a choice, and gives what left and what was found.
fn streamed(rules: Value, deltas: &[Value]) -> (String, Next, Unscanned) {
    let mut judge =
        StreamJudge::new(revision(rules), Subject::default(), OutputMode::Stop, Masker::new(), false, None);
    let mut decoder = Decoder::new(1 << 20);
    for choice in deltas {
        let frame = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
        decoder.push(format!("data: {frame}\n\n").as_bytes());
    }
    let mut out = Vec::new();
    let mut next = Next::Continue;
    while next == Next::Continue
        && let Some(frame) = decoder.next_frame().unwrap()
    {
        next = judge.event(&frame, &mut out).unwrap();
    }
    if next == Next::Continue {
        next = judge.finish(&mut out).unwrap();
    }
    (String::from_utf8(out).unwrap(), next, judge.findings().unscanned)
}

#[test]
fn a_stream_ends_before_what_it_may_not_carry() {
    let base64 = "QUJD".repeat(100);
    let audio = [
        json!({"index": 0, "delta": {"role": "assistant", "content": "so "}}),
        json!({"index": 0, "delta": {"audio": {"id": "audio_1", "transcript": "hello "}}}),
        json!({"index": 0, "delta": {"audio": {"data": base64, "transcript": "there"}}}),
        json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
    ];
    let beside = [
        json!({"index": 0, "delta": {"content": "so "}}),
        json!({"index": 0, "delta": {"content": "on, "}, "vendor": {"images": [image()]}}),
        json!({"index": 0, "delta": {"content": "and on"}}),
        json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
    ];
    let one = |image, audio| Unscanned { image, audio, ..Unscanned::default() };
    let (out, next, unscanned) = streamed(json!({"redact": true}), &audio);
    assert!(out.contains(&base64) && next == Next::Continue, "{out}");
    assert_eq!(unscanned, one(0, 1));
    let (out, next, unscanned) = streamed(json!({"unscannable": "refuse"}), &audio);
    assert!(!out.contains("QUJD") && !out.contains("hello") && out.contains("so "), "{out}");
    assert_eq!((next, unscanned), (Next::Stop { choice: 0 }, one(0, 1)));
    let (out, _, unscanned) = streamed(json!({"redact": true}), &beside);
    assert!(out.contains("b.png") && out.contains("and "), "{out}");
    assert_eq!(unscanned, one(1, 0));
    let (out, next, _) = streamed(json!({"unscannable": "refuse"}), &beside);
    assert!(!out.contains("b.png") && !out.contains("and "), "{out}");
    assert_eq!(next, Next::Stop { choice: 0 });
}
