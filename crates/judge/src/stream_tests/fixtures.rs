//! Whole streams as files, cut in every way: the client sees the same texts, tool inputs and finish reasons, never anything
//! forbidden, and what it would see of the same answer had it come whole.

use bytes::Bytes;
use llm_api::arguments::{Parts, Reader, Spelling};
use llm_api::chat::answer::Answer;
use llm_api::sse::Decoder;
use policy::{Masker, OutputMode, Revision, Subject};
use serde_json::{Map, Value, json};

use super::{Ran, Seen, frames, revision, run_with};
use crate::judge_answer;

macro_rules! fixtures {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("../fixtures/", $name, ".sse")))),*] };
}

pub(super) const FIXTURES: [(&str, &str); 12] = fixtures![
    "text",
    "frames",
    "cr",
    "tools",
    "custom",
    "function_call",
    "broken",
    "choices",
    "logprobs",
    "vendor",
    "cut",
    "no_done"
];

const FORBIDDEN: [&str; 9] = [
    "napalm",
    "n\u{200b}apalm",
    "credential theft",
    "credential\n theft",
    "bob@example.com",
    "a@b.example",
    "c@d.example",
    "4111 1111 1111 1111",
    "4111111111111111",
];

fn rules() -> std::sync::Arc<Revision> {
    revision(json!({"denylist": ["napalm", "credential theft"], "redact": true}))
}

fn unjudged() -> std::sync::Arc<Revision> {
    revision(json!({}))
}

fn ran(rules: &std::sync::Arc<Revision>, mode: OutputMode, stream: &str) -> Ran {
    run_with(rules, mode, &Masker::default(), [stream.as_bytes()])
}

/// All that a client could read in a tool's input, escapes decoded or not.
struct Decoded(String);

impl Parts for Decoded {
    fn structure(&mut self, raw: &str) {
        self.0.push_str(raw);
    }
    fn begin(&mut self, _: Spelling) {}
    fn text(&mut self, text: &str, _: &str) {
        self.0.push_str(text);
    }
    fn end(&mut self) {}
}

pub(super) fn holds_forbidden(seen: &Seen) -> Option<String> {
    let decoded = |text: &str| {
        let (mut decoded, mut reader) = (Decoded(String::new()), Reader::default());
        reader.push(text, &mut decoded);
        reader.finish(&mut decoded);
        decoded.0
    };
    let parts = Value::Array(seen.parts.clone()).to_string();
    let texts = seen.texts().flat_map(|text| [text.to_owned(), decoded(text)]).chain([parts]);
    texts.flat_map(|text| FORBIDDEN.into_iter().find(|term| text.contains(term)).map(str::to_owned)).next()
}

/// Nothing forbidden is there after any frame.
fn check_prefixes(name: &str, ran: &Ran) {
    let mut seen = Seen::default();
    for frame in frames(&ran.out) {
        seen.frame(&frame);
        assert_eq!(holds_forbidden(&seen), None, "{name}: {seen:?}");
    }
}

fn check_same(name: &str, how: &str, ran: &Ran, expected: &Ran) {
    assert_eq!(ran.seen, expected.seen, "{name} {how}");
    assert_eq!(ran.findings, expected.findings, "{name} {how}");
}

#[test]
fn every_fixture_has_what_is_forbidden_and_nothing_of_it_leaves() {
    for (name, stream) in FIXTURES {
        let raw = ran(&unjudged(), OutputMode::Mask, stream);
        assert!(holds_forbidden(&raw.seen).is_some(), "{name} has nothing to find");
        for mode in [OutputMode::Mask, OutputMode::Stop] {
            let judged = ran(&rules(), mode, stream);
            check_prefixes(name, &judged);
            assert!(judged.findings.changed, "{name}");
        }
    }
}

#[test]
fn no_cut_of_the_bytes_matters() {
    for (name, stream) in FIXTURES {
        let bytes = stream.as_bytes();
        for mode in [OutputMode::Mask, OutputMode::Stop] {
            let expected = ran(&rules(), mode, stream);
            let none = Masker::default();
            // The bytes of whole events are the same whatever the cut: one judge run shows it for all such cuts.
            let mut cuts = vec![];
            let whole = decoded(&[bytes]);
            for at in 0..=bytes.len() {
                let (first, second) = bytes.split_at(at);
                if decoded(&[first, second]) != whole {
                    cuts.push(at);
                }
            }
            assert!(cuts.is_empty(), "{name}: cuts at {cuts:?} make other events");
            let at = bytes.len() / 2;
            check_same(
                name,
                "halved",
                &run_with(&rules(), mode, &none, [&bytes[..at], &bytes[at..]]),
                &expected,
            );
            for size in [1, 2, 3, 7, 64] {
                check_same(name, "in reads", &run_with(&rules(), mode, &none, bytes.chunks(size)), &expected);
            }
        }
    }
}

fn decoded(pieces: &[&[u8]]) -> Vec<(Option<Bytes>, Option<Bytes>)> {
    let mut decoder = Decoder::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame().unwrap() {
            events.push((frame.event, frame.data));
        }
    }
    events.extend(decoder.finish().map(|frame| (frame.event, frame.data)));
    events.retain(|event| *event != (None, None));
    events
}

/// A growing text in a frame: choice, and what leads to it in `delta`.
#[derive(Clone, Debug, PartialEq)]
struct Spot {
    choice: usize,
    path: Vec<String>,
}

fn spots(frame: &Value) -> Vec<Spot> {
    let mut spots = Vec::new();
    for (choice, value) in frame["choices"].as_array().into_iter().flatten().enumerate() {
        let mut add = |path: &[&str]| {
            let path = path.iter().map(|part| (*part).to_owned()).collect();
            spots.push(Spot { choice, path });
        };
        for (field, member) in value["delta"].as_object().into_iter().flatten() {
            match member {
                Value::String(_) if field != "role" => add(&[field]),
                Value::Object(call) if field == "function_call" && call.contains_key("arguments") => {
                    add(&[field, "arguments"]);
                }
                Value::Array(calls) if field == "tool_calls" => {
                    for (at, call) in calls.iter().enumerate() {
                        for (kind, input) in [("function", "arguments"), ("custom", "input")] {
                            if call[kind][input].is_string() {
                                add(&[field, &at.to_string(), kind, input]);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    spots
}

fn text_at<'a>(frame: &'a mut Value, spot: &Spot) -> &'a mut String {
    let pointer = format!("/choices/{}/delta/{}", spot.choice, spot.path.join("/"));
    match frame.pointer_mut(&pointer) {
        Some(Value::String(text)) => text,
        other => panic!("{pointer}: {other:?}"),
    }
}

/// A frame that says nothing but `text` at a spot of `frame`.
fn only(frame: &Value, spot: &Spot, text: &str) -> Value {
    let choice = &frame["choices"][spot.choice];
    let path: Vec<&str> = spot.path.iter().map(String::as_str).collect();
    let delta = match path[..] {
        [field] => json!({field: text}),
        [field, input] => json!({field: {input: text}}),
        [field, at, kind, input] => {
            let index = &choice["delta"][field][at.parse::<usize>().unwrap()]["index"];
            let mut call = json!({kind: {input: text}});
            if !index.is_null() {
                call["index"] = index.clone();
            }
            json!({field: [call]})
        }
        _ => unreachable!(),
    };
    json!({"id": "c1", "choices": [
        {"index": choice["index"], "delta": delta, "finish_reason": choice["finish_reason"]}]})
}

/// The frame cut in two within the text at a spot.
fn cut(frame: &Value, spot: &Spot, at: usize) -> [Value; 2] {
    let mut first = frame.clone();
    let text = text_at(&mut first, spot);
    let (before, after) = text.split_at(at);
    let after = only(frame, spot, after);
    *text = before.to_owned();
    first["choices"][spot.choice]["finish_reason"] = Value::Null;
    [first, after]
}

fn stream_of(frames: &[Value], end: &str) -> String {
    frames.iter().map(|frame| format!("data: {frame}\n\n")).collect::<String>() + end
}

/// A fixture as its frames, and what comes after them.
fn taken_apart(stream: &str) -> (Vec<Value>, &str) {
    let events = decoded(&[stream.as_bytes()]);
    let data = events.iter().filter_map(|event| event.1.as_ref());
    let frames = data.filter_map(|data| serde_json::from_slice(data).ok()).collect();
    (frames, if stream.contains("[DONE]") { "data: [DONE]\n\n" } else { "" })
}

#[test]
fn no_cut_of_the_texts_matters() {
    for (name, stream) in FIXTURES {
        let (frames, end) = taken_apart(stream);
        for mode in [OutputMode::Mask, OutputMode::Stop] {
            let expected = ran(&rules(), mode, stream);
            for (at, frame) in frames.iter().enumerate() {
                for spot in spots(frame) {
                    let text = text_at(&mut frame.clone(), &spot).clone();
                    for (place, _) in text.char_indices() {
                        let mut cut_frames = frames.clone();
                        cut_frames.splice(at..=at, cut(frame, &spot, place));
                        let how = format!("{mode:?}, frame {at} at {place}");
                        let judged = ran(&rules(), mode, &stream_of(&cut_frames, end));
                        check_same(name, &how, &judged, &expected);
                        check_prefixes(name, &judged);
                    }
                }
            }
            for size in 1..=5 {
                let pieces = chunked(&frames, size);
                let judged = ran(&rules(), mode, &stream_of(&pieces, end));
                check_same(name, &format!("{mode:?}, {size} characters at a time"), &judged, &expected);
                check_prefixes(name, &judged);
            }
        }
    }
}

/// Every text in pieces of so many characters.
pub(super) fn chunked(frames: &[Value], size: usize) -> Vec<Value> {
    let mut pieces = Vec::new();
    for frame in frames {
        let mut rest = frame.clone();
        // From the last spot back: what is cut off of one leaves the others in place.
        let mut after = Vec::new();
        for spot in spots(frame).into_iter().rev() {
            let mut tails = Vec::new();
            loop {
                let text = text_at(&mut rest, &spot).clone();
                let characters = text.chars().count();
                if characters <= size {
                    break;
                }
                let from = (characters - 1) / size * size;
                let place = text.char_indices().nth(from).unwrap().0;
                let [first, tail] = cut(&rest, &spot, place);
                rest = first;
                tails.push(tail);
            }
            tails.reverse();
            tails.extend(after);
            after = tails;
        }
        pieces.push(rest);
        pieces.extend(after);
    }
    pieces
}

/// The same answer as one that came whole, members in the order in which the stream began them.
fn whole(seen: &Seen, frames: &[Value]) -> Value {
    let mut choices: Vec<Value> = Vec::new();
    for (index, _) in seen.texts.keys().map(|key| (key.0, ())).chain(seen.calls.keys().map(|key| (key.0, ())))
    {
        if choices.iter().any(|choice| choice["index"] == index) {
            continue;
        }
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        for frame in frames {
            for choice in
                frame["choices"].as_array().unwrap().iter().filter(|choice| choice["index"] == index)
            {
                for (field, value) in choice["delta"].as_object().unwrap() {
                    if let Some(text) = seen.texts.get(&(index, field.clone())).filter(|_| value.is_string())
                    {
                        message.insert(field.clone(), json!(text));
                    }
                }
            }
        }
        let calls = seen.calls.iter().filter(|((choice, _), _)| *choice == index);
        for ((_, at), call) in calls {
            let tool = |input: &str| {
                let mut tool = json!({input: call.input});
                if let Some(name) = call.names.get("name") {
                    tool["name"] = json!(name);
                }
                tool
            };
            if at == "function" {
                message.insert("function_call".to_owned(), tool("arguments"));
                continue;
            }
            let mut whole = json!({});
            if call.names.get("type").is_some_and(|kind| kind == "custom") {
                whole["custom"] = tool("input");
            } else {
                whole["function"] = tool("arguments");
            }
            let list = message.entry("tool_calls").or_insert_with(|| json!([]));
            list.as_array_mut().unwrap().push(whole);
        }
        choices.push(json!({"index": index, "message": message}));
    }
    json!({"choices": choices})
}

#[test]
fn a_stream_and_a_whole_answer_come_to_the_same() {
    for (name, stream) in FIXTURES {
        let (frames, _) = taken_apart(stream);
        let mut raw = ran(&unjudged(), OutputMode::Mask, stream).seen;
        raw.parts.clear();
        let judged = ran(&rules(), OutputMode::Mask, stream);
        let body = whole(&raw, &frames);
        let answer = Answer::parse(body.to_string().into()).unwrap();
        let found = judge_answer(&rules(), &Subject::default(), &answer, &mut Masker::default()).unwrap();
        let body = answer.client_body(found.texts, &[], None, None);
        let body: Value = serde_json::from_slice(&body).unwrap();
        for choice in body["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap();
            for (field, value) in choice["message"].as_object().unwrap() {
                if let (Some(text), true) = (value.as_str(), field != "role") {
                    assert_eq!(text, judged.seen.texts[&(index, field.clone())], "{name} {field}");
                }
            }
            let input = |call: &Value| {
                let inputs = [&call["function"]["arguments"], &call["custom"]["input"], &call["arguments"]];
                inputs.into_iter().find_map(Value::as_str).unwrap().to_owned()
            };
            for (at, call) in choice["message"]["tool_calls"].as_array().into_iter().flatten().enumerate() {
                assert_eq!(input(call), judged.seen.calls[&(index, at.to_string())].input, "{name} {at}");
            }
            if let Some(call) = choice["message"].get("function_call") {
                assert_eq!(input(call), judged.seen.calls[&(index, "function".to_owned())].input, "{name}");
            }
        }
        if !["vendor"].contains(&name) {
            assert_eq!(found.findings, judged.findings, "{name}");
        }
    }
}

#[test]
fn what_the_policy_does_not_touch_leaves_byte_by_byte() {
    let rules = revision(json!({"denylist": ["something else"]}));
    for (name, stream) in FIXTURES.into_iter().filter(|(name, _)| *name != "vendor") {
        let raw = ran(&unjudged(), OutputMode::Mask, stream);
        let judged = ran(&rules, OutputMode::Stop, stream);
        assert_eq!(judged.seen, raw.seen, "{name}");
        assert!(!judged.findings.changed, "{name}");
    }
}
