//! What is malformed, endless or deep: an error or bounded work, never a panic, and no text in the error.

use std::sync::Arc;

use llm_api::chat::answer::AnswerError;
use llm_api::sse::Decoder;
use policy::{Masker, OutputMode, Subject};
use serde_json::json;

use super::{frame, revision};
use crate::stream::StreamJudge;

fn judge() -> StreamJudge {
    let rules = revision(json!({"denylist": ["napalm"], "redact": true, "redaction": {"restore": true}}));
    StreamJudge::new(Arc::clone(&rules), Subject::default(), OutputMode::Mask, Masker::default(), false, None)
}

fn feed(judge: &mut StreamJudge, stream: &[u8], out: &mut Vec<u8>) -> Result<(), AnswerError> {
    let mut decoder = Decoder::new(16 << 20);
    decoder.push(stream);
    while let Some(event) = decoder.next_frame().unwrap() {
        judge.event(&event, out)?;
    }
    Ok(())
}

#[test]
fn many_tiny_chunks_hold_little_and_lose_nothing() {
    const CHUNKS: usize = 100_000;
    let mut judge = judge();
    let mut out = Vec::new();
    let (mut content, mut input) = (String::new(), String::new());
    let text = "an ordinary sentence, [not] a secret; ";
    let mut opening = "{\"text\":\"".chars();
    for letter in text.chars().cycle().take(CHUNKS) {
        let piece = opening.next().unwrap_or(letter).to_string();
        content.push(letter);
        input.push_str(&piece);
        let delta = json!({"content": letter.to_string(), "tool_calls": [{"index": 0, "function": {"arguments": piece}}]});
        feed(&mut judge, frame(&delta, None).as_bytes(), &mut out).unwrap();
        assert!(judge.held_bytes() < 4096);
    }
    judge.finish(&mut out).unwrap();
    let seen = super::read(&out);
    assert_eq!(seen.texts[&(0, "content".to_owned())], content);
    assert_eq!(seen.calls[&(0, "0".to_owned())].input, input);
}

#[test]
fn near_matches_hold_little() {
    for text in ["napal", "a@", "[EMAIL_", "4111 ", "-----BEGIN ", "\u{301}", "[[[[", "\\u00", "\\", "1"] {
        let mut judge = judge();
        let mut out = Vec::new();
        let mut most = 0;
        for _ in 0..4000 {
            let delta =
                json!({"content": text, "tool_calls": [{"index": 0, "function": {"arguments": text}}]});
            feed(&mut judge, frame(&delta, None).as_bytes(), &mut out).unwrap();
            most = most.max(judge.held_bytes());
        }
        judge.finish(&mut out).unwrap();
        assert!(most < 32 * 1024, "{text:?} holds {most} bytes");
    }
}

#[test]
fn depth_is_bounded_everywhere() {
    let deep = "[".repeat(100_000);
    for data in [
        deep.clone(),
        format!(r#"{{"choices":{deep}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"x":{deep}{}}}}}]}}"#, "]".repeat(100_000)),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"x":{}{}}}}}]}}"#, "[".repeat(200), "]".repeat(200)),
    ] {
        let error = feed(&mut judge(), format!("data: {data}\n\n").as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }
    for nested in [deep, r#"{"a":"#.repeat(100_000), "[\"x\",".repeat(100_000)] {
        let delta = json!({"tool_calls": [{"index": 0, "function": {"arguments": nested}}]});
        let (mut judge, mut out) = (judge(), Vec::new());
        feed(&mut judge, frame(&delta, Some("stop")).as_bytes(), &mut out).unwrap();
        assert_eq!(super::read(&out).calls[&(0, "0".to_owned())].input, nested);
    }
}

#[test]
fn an_answer_of_countless_parts_is_given_up() {
    let indexes = |range: std::ops::Range<u64>, part: &dyn Fn(u64) -> serde_json::Value| {
        range.map(|index| format!("data: {}\n\n", part(index))).collect::<String>()
    };
    let choice = |index: u64| json!({"choices": [{"index": index, "delta": {"content": "a"}}]});
    let call = |index: u64| json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "function": {"name": "a"}}]}}]});
    let part =
        |index: u64| json!({"choices": [{"index": 0, "delta": {"parts": [{"index": index, "a": "b"}]}}]});
    for parts in [indexes(0..2000, &choice), indexes(0..2000, &call), indexes(0..6000, &part)] {
        let error = feed(&mut judge(), parts.as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("more choices, texts or parts"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_end_the_stream_and_are_not_repeated() {
    let bytes = [&b"data: {\"choices\":[{\"delta\":{\"content\":\"secret \xff\"}}]}\n\n"[..]].concat();
    let error = feed(&mut judge(), &bytes, &mut Vec::new()).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let mut decoder = Decoder::new(1024);
    for _ in 0..100 {
        decoder.push(b"data: endless, ");
    }
    let error = decoder.next_frame().unwrap_err();
    assert!(error.to_string().contains("1024"), "{error}");
}
