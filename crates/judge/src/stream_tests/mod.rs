//! The stream judge from outside: whatever the cut into events and network reads, a client sees the same text, and nothing
//! of what the policy forbids.

use std::collections::BTreeMap;
use std::sync::Arc;

use llm_api::chat::answer::TokenUsage;
use llm_api::chat::made::Envelope;
use llm_api::sse::Decoder;
use policy::{Masker, OutputFindings, OutputMode, PolicyDocument, Revision, Subject};
use serde_json::{Value, json};

use crate::stream::{Next, StreamJudge};

mod bounds;
mod fixtures;
mod restore;
mod tools;
mod watching;

pub(crate) fn revision(rules: Value) -> Arc<Revision> {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    Arc::new(Revision::compile(document, 1).unwrap())
}

/// A call to a tool, as a client puts it together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Call {
    /// `id`, `type` and `name`, as said first.
    pub(crate) names: BTreeMap<String, String>,
    pub(crate) input: String,
}

/// What a client makes of a stream, by choice: texts by field, calls by index, other parts, finish reasons.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) texts: BTreeMap<(u64, String), String>,
    pub(crate) calls: BTreeMap<(u64, String), Call>,
    pub(crate) parts: Vec<Value>,
    pub(crate) finish: Vec<(u64, String)>,
}

impl Seen {
    /// Takes the next frame in, as the official SDKs do.
    fn frame(&mut self, frame: &Value) {
        for choice in frame["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap_or(0);
            for (field, value) in choice["delta"].as_object().into_iter().flatten() {
                match (field.as_str(), value) {
                    ("role", _) | (_, Value::Null) => {}
                    ("tool_calls", Value::Array(calls)) => {
                        for (position, call) in calls.iter().enumerate() {
                            let at = call["index"].as_u64().unwrap_or(position as u64);
                            self.call(index, at.to_string(), call);
                        }
                    }
                    ("function_call", call) => {
                        self.call(index, "function".to_owned(), &json!({"function": call}));
                    }
                    (_, Value::String(text)) => {
                        self.texts.entry((index, field.clone())).or_default().push_str(text);
                    }
                    (_, part) => self.parts.push(part.clone()),
                }
            }
            let finish = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty());
            self.finish.extend(finish.map(|reason| (index, reason.to_owned())));
        }
    }

    fn call(&mut self, choice: u64, at: String, piece: &Value) {
        let call = self.calls.entry((choice, at)).or_default();
        for (member, value) in piece.as_object().unwrap() {
            match (member.as_str(), value) {
                ("index", _) | (_, Value::Null) => {}
                ("function" | "custom", inner) => {
                    for (member, value) in inner.as_object().unwrap() {
                        match (member.as_str(), value) {
                            ("arguments" | "input", Value::String(text)) => call.input.push_str(text),
                            ("name", Value::String(name)) => {
                                call.names.insert("name".to_owned(), name.clone());
                            }
                            (_, Value::Null) => {}
                            other => self.parts.push(json!({other.0: other.1})),
                        }
                    }
                }
                (_, Value::String(text)) => {
                    call.names.insert(member.clone(), text.clone());
                }
                (_, part) => self.parts.push(json!({member: part})),
            }
        }
    }

    /// Everything a client could show.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let calls = self.calls.values();
        let names = calls.clone().flat_map(|call| call.names.values());
        self.texts.values().chain(calls.map(|call| &call.input)).chain(names).map(String::as_str)
    }
}

/// The data of a stream's frames.
pub(crate) fn frames(out: &[u8]) -> Vec<Value> {
    let raw = std::str::from_utf8(out).unwrap();
    let data = raw.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

pub(crate) fn read(out: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for frame in frames(out) {
        seen.frame(&frame);
    }
    // Whether a frame opens a text with nothing is no part of what is said.
    seen.texts.retain(|_, text| !text.is_empty());
    seen
}

/// A stream as it came out, and what was found in it.
pub(crate) struct Ran {
    pub(crate) out: Vec<u8>,
    pub(crate) seen: Seen,
    pub(crate) findings: OutputFindings,
}

/// Feeds a stream in pieces and ends it as the gateway would.
pub(crate) fn run_with<'a>(
    revision: &Arc<Revision>,
    mode: OutputMode,
    masker: &Masker,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Ran {
    let subject = Subject::default();
    let mut judge = StreamJudge::new(Arc::clone(revision), subject, mode, masker.clone(), false, None);
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
        // What is left is cut off: it counts only where it reads as a whole event.
        let last = decoder.finish().map(|frame| judge.event(&frame, &mut out));
        next = match last {
            Some(Ok(next)) if next != Next::Continue => next,
            _ => judge.finish(&mut out).unwrap(),
        };
    }
    if let Next::Stop { choice } = next {
        out.extend(judge.refusal(choice, "refused", TokenUsage::default(), &Envelope::new("c", 0, "m")));
    }
    Ran { seen: read(&out), findings: judge.findings(), out }
}

fn run<'a>(
    revision: &Arc<Revision>,
    mode: OutputMode,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Seen, Vec<Arc<str>>) {
    let ran = run_with(revision, mode, &Masker::default(), pieces);
    (ran.seen, ran.findings.denylist_hits)
}

pub(crate) fn frame(delta: &Value, finish: Option<&str>) -> String {
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
fn members_beside_the_delta_are_judged_too() {
    let revision = revision(json!({"denylist": ["napalm"], "redact": true}));
    let stream = r#"data: {"choices":[{"index":0,"delta":{"content":"a "},"filter":{"note":"napalm"},"safe":{"severity":"low"}}]}

"#;
    let ran = run_with(&revision, OutputMode::Mask, &Masker::default(), [stream.as_bytes()]);
    let raw = String::from_utf8(ran.out).unwrap();
    assert!(!raw.contains("napalm") && raw.contains(r#""severity":"low""#), "{raw}");
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
    let ran = run_with(&revision, OutputMode::Stop, &Masker::default(), [stream.as_bytes()]);
    let raw = String::from_utf8(ran.out).unwrap();
    assert!(!raw.contains("napalm"), "{raw}");
    assert!(raw.starts_with(": keep-alive\n\n"));
}
