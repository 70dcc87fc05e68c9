//! The stream judge from outside: whatever the cut into events and network reads, a client sees the same text, and nothing
//! of what the policy forbids.

use std::collections::BTreeMap;
use std::sync::Arc;

use llm_api::chat::answer::TokenUsage;
use llm_api::chat::made::Envelope;
use llm_api::sse::Decoder;
use policy::{Masker, OutputMode, PolicyDocument, Revision, Subject};
use serde_json::{Value, json};

use crate::stream::{Next, StreamJudge};

fn revision(rules: Value) -> Arc<Revision> {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

/// What a client makes of a stream: texts by choice and field, tool calls, finish reasons.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    texts: BTreeMap<(u64, String), String>,
    tool_calls: Vec<Value>,
    finish: Vec<String>,
    raw: String,
}

fn read(out: &[u8]) -> Seen {
    let raw = String::from_utf8(out.to_vec()).unwrap();
    let mut seen = Seen::default();
    for data in raw.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let frame: Value = serde_json::from_str(data).unwrap();
        for choice in frame["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap();
            for (field, value) in choice["delta"].as_object().into_iter().flatten() {
                match value.as_str() {
                    Some(text) if field != "role" => {
                        seen.texts.entry((index, field.clone())).or_default().push_str(text);
                    }
                    _ => seen.tool_calls.extend(value.as_array().into_iter().flatten().cloned()),
                }
            }
            seen.finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
    }
    seen.raw = raw;
    seen
}

/// Feeds a stream in pieces, ends it as the gateway would, and reads what came out.
fn run<'a>(
    revision: &Arc<Revision>,
    mode: OutputMode,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Seen, Vec<Arc<str>>) {
    let mut judge =
        StreamJudge::new(Arc::clone(revision), Subject::default(), mode, Masker::default(), false, None);
    let mut decoder = Decoder::new(1 << 20);
    let mut out = Vec::new();
    let mut next = Next::Continue;
    'stream: for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame().unwrap() {
            next = judge.event(&frame, &mut out).unwrap();
            if next != Next::Continue {
                break 'stream;
            }
        }
    }
    if next == Next::Continue {
        next = judge.finish(&mut out).unwrap();
    }
    if let Next::Stop { choice } = next {
        out.extend(judge.refusal(choice, "refused", TokenUsage::default(), &Envelope::new("c", 0, "m")));
    }
    (read(&out), judge.findings().denylist_hits)
}

fn frame(delta: &Value, finish: Option<&str>) -> String {
    let frame = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {frame}\n\n")
}

/// A text streamed in chunks of so many characters.
fn streamed(text: &str, chunk: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut stream = frame(&json!({"role": "assistant", "content": ""}), None);
    for piece in characters.chunks(chunk) {
        stream += &frame(&json!({"content": piece.iter().collect::<String>()}), None);
    }
    stream + &frame(&json!({}), Some("stop")) + "data: [DONE]\n\n"
}

const TEXTS: [&str; 7] = [
    "plain words, nothing more",
    "mail bob@example.com or b@c.de, card 4111 1111 1111 1111.",
    "so n\u{200b}apalm it is",
    "ｎａｐａｌｍ",
    "über naïve e\u{301}t\u{e9} \u{1f468}\u{200d}\u{1f469} 12.5 % IBAN DE89 3704 0044 0532 0130 00",
    "credential\n theft, or credentials thefts; credential",
    "",
];

#[test]
fn the_cut_into_frames_does_not_matter() {
    let revision = revision(json!({"denylist": ["napalm", "credential theft"], "redact": true}));
    for text in TEXTS {
        for mode in [OutputMode::Stop, OutputMode::Mask] {
            let whole = streamed(text, usize::MAX - 1);
            let (expected, hits) = run(&revision, mode, std::iter::once(whole.as_bytes()));
            for chunk in 1..=text.chars().count() {
                let stream = streamed(text, chunk);
                let (seen, found) = run(&revision, mode, std::iter::once(stream.as_bytes()));
                assert_eq!(seen.texts, expected.texts, "{text:?} in {mode:?} by {chunk}");
                assert_eq!(seen.finish, expected.finish, "{text:?} in {mode:?} by {chunk}");
                assert_eq!(found, hits, "{text:?} in {mode:?} by {chunk}");
            }
        }
    }
}

#[test]
fn the_cut_into_reads_does_not_matter() {
    let revision = revision(json!({"denylist": ["napalm"], "redact": true}));
    for text in TEXTS {
        let stream = streamed(text, 3);
        let (expected, _) = run(&revision, OutputMode::Mask, std::iter::once(stream.as_bytes()));
        for size in [1, 2, 3, 7, 50] {
            let (seen, _) = run(&revision, OutputMode::Mask, stream.as_bytes().chunks(size));
            assert_eq!(seen, expected, "{text:?} in reads of {size}");
        }
    }
}

#[test]
fn what_is_clean_passes_whole_and_what_is_not_does_not() {
    let revision = revision(json!({"denylist": ["napalm", "credential theft"], "redact": true}));
    let content = |text: &str, mode| {
        let stream = streamed(text, 2);
        run(&revision, mode, std::iter::once(stream.as_bytes())).0.texts[&(0, "content".to_owned())].clone()
    };
    assert_eq!(content(TEXTS[0], OutputMode::Stop), TEXTS[0]);
    assert_eq!(content(TEXTS[1], OutputMode::Stop), "mail [EMAIL_1] or [EMAIL_2], card [CARD_1].");
    assert_eq!(content(TEXTS[2], OutputMode::Stop), "so ");
    assert_eq!(content(TEXTS[5], OutputMode::Mask), "███, or credentials thefts; credential");
}

#[test]
fn parts_that_grow_are_judged_whole() {
    let revision = revision(json!({"denylist": ["napalm"], "redact": true}));
    let call = |arguments: &str, first: bool| {
        let mut call = json!({"index": 0, "function": {"arguments": arguments}});
        if first {
            call["id"] = json!("call_1");
            call["type"] = json!("function");
            call["function"]["name"] = json!("send");
        }
        frame(&json!({"tool_calls": [call]}), None)
    };
    let stream = |pieces: &[&str]| {
        let frames: String = pieces.iter().enumerate().map(|(at, piece)| call(piece, at == 0)).collect();
        frames + &frame(&json!({}), Some("tool_calls")) + "data: [DONE]\n\n"
    };
    let (seen, _) = run(
        &revision,
        OutputMode::Stop,
        std::iter::once(stream(&["", "{\"to\":\"b@", "c.de\"}"]).as_bytes()),
    );
    assert_eq!(
        seen.tool_calls,
        [
            json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "send", "arguments": "{\"to\":\"[EMAIL_1]\"}"}})
        ]
    );
    let (seen, hits) =
        run(&revision, OutputMode::Stop, std::iter::once(stream(&["{\"x\":\"nap", "alm\"}"]).as_bytes()));
    assert_eq!((seen.tool_calls.len(), seen.finish), (0, vec!["content_filter".to_owned()]));
    assert_eq!(hits.len(), 1);
}

#[test]
fn members_beside_the_delta_are_judged_too() {
    let revision = revision(json!({"denylist": ["napalm"], "redact": true}));
    let stream = r#"data: {"choices":[{"index":0,"delta":{"content":"a "},"filter":{"note":"napalm"},"safe":{"severity":"low"}}]}

"#;
    let (seen, _) = run(&revision, OutputMode::Mask, std::iter::once(stream.as_bytes()));
    assert!(!seen.raw.contains("napalm") && seen.raw.contains(r#""severity":"low""#), "{}", seen.raw);
}

#[test]
fn what_cannot_be_judged_ends_the_stream() {
    let revision = revision(json!({"denylist": ["napalm"]}));
    for data in [
        "{",
        "[]",
        "7",
        r#"{"choices":{}}"#,
        r#"{"choices":[7]}"#,
        r#"{"choices":[{"delta":7}]}"#,
        r#"{"choices":[{"delta":{"content":"\ud800"}}]}"#,
        r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
        r#"{"error":{"message":"napalm"}}"#,
    ] {
        let mut judge = StreamJudge::new(
            Arc::clone(&revision),
            Subject::default(),
            OutputMode::Stop,
            Masker::default(),
            false,
            None,
        );
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(format!("data: {data}\n\n").as_bytes());
        let event = decoder.next_frame().unwrap().unwrap();
        let mut out = Vec::new();
        assert!(judge.event(&event, &mut out).is_err(), "{data}");
        assert!(out.is_empty(), "{data}");
    }
}

#[test]
fn comments_do_not_carry_text() {
    let revision = revision(json!({"denylist": ["napalm"]}));
    let stream = ": napalm\n\nevent: napalm\ndata: {\"choices\":[]}\nid: napalm\n\n";
    let (seen, _) = run(&revision, OutputMode::Stop, std::iter::once(stream.as_bytes()));
    assert!(!seen.raw.contains("napalm"), "{}", seen.raw);
    assert!(seen.raw.starts_with(": keep-alive\n\n"));
}
