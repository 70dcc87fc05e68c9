//! The judge of streams: raw bytes of an upstream in any cut, and any text as content and tool arguments in chunks of any
//! size. No panic, the same outcome whatever the cut, and JSON stays JSON.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use judge::stream::{Next, StreamJudge};
use libfuzzer_sys::fuzz_target;
use llm_api::sse::Decoder;
use policy::{Masker, OutputFindings, OutputMode, PolicyDocument, Revision, Subject};
use serde_json::{Value, json};

static RULES: LazyLock<Arc<Revision>> = LazyLock::new(|| {
    let document = json!({"policy_id": "fuzz", "rules":
        {"denylist": ["napalm", "credential theft"], "redact": true, "redaction": {"restore": true}}});
    let document = PolicyDocument::parse(&document).expect("the document is valid");
    Arc::new(Revision::compile(document, 1).expect("the policy compiles"))
});

/// What left, what was found, and whether the stream broke off.
type Ran = (Vec<u8>, OutputFindings, bool);

fn run<'a>(mode: OutputMode, pieces: impl Iterator<Item = &'a [u8]>) -> Ran {
    let masker = Masker::default();
    let mut judge = StreamJudge::new(Arc::clone(&RULES), Subject::default(), mode, masker, true, None);
    let mut decoder = Decoder::new(1 << 16);
    let mut out = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => match judge.event(&frame, &mut out) {
                    Ok(Next::Continue) => {}
                    next => return (out, judge.findings(), next.is_err()),
                },
                Ok(None) => break,
                Err(_) => return (out, judge.findings(), true),
            }
        }
    }
    let end = judge.finish(&mut out);
    (out, judge.findings(), end.is_err())
}

/// The texts of a stream that left, added up by where they stand.
fn said(out: &[u8]) -> BTreeMap<&'static str, String> {
    let mut said = BTreeMap::new();
    let text = std::str::from_utf8(out).expect("what leaves is UTF-8");
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let frame: Value = serde_json::from_str(data).expect("what leaves is JSON");
        let delta = &frame["choices"][0]["delta"];
        for (name, value) in [
            ("content", &delta["content"]),
            ("arguments", &delta["tool_calls"][0]["function"]["arguments"]),
            ("input", &delta["tool_calls"][1]["custom"]["input"]),
        ] {
            said.entry(name).or_insert_with(String::new).push_str(value.as_str().unwrap_or_default());
        }
        // A frame of its own has its one call first.
        let input = delta["tool_calls"][0]["custom"]["input"].as_str().unwrap_or_default();
        said.entry("input").or_insert_with(String::new).push_str(input);
    }
    said
}

fn stream(text: &str, size: usize) -> String {
    let mut stream = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        rest = left;
        let calls = json!([
            {"index": 0, "function": {"arguments": piece}}, {"index": 1, "custom": {"input": piece}}]);
        let frame = json!({"choices": [{"index": 0, "delta": {"content": piece, "tool_calls": calls}}]});
        stream += &format!("data: {frame}\n\n");
    }
    stream
}

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    for mode in [OutputMode::Mask, OutputMode::Stop] {
        let whole = run(mode, std::iter::once(bytes));
        let cut = run(mode, bytes.chunks(size));
        if !whole.2 && !cut.2 {
            assert_eq!(whole, cut);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let whole = run(OutputMode::Mask, std::iter::once(stream(text, usize::MAX).as_bytes()));
    let cut = run(OutputMode::Mask, std::iter::once(stream(text, size).as_bytes()));
    assert!(!whole.2 && !cut.2);
    let (said_whole, said_cut) = (said(&whole.0), said(&cut.0));
    // Values of several texts are numbered in the order they are found, which chunks change.
    let is_numbered = whole.1.redactions.values().sum::<u64>() > 0;
    if !is_numbered {
        assert_eq!(said_whole, said_cut);
    }
    assert_eq!(whole.1, cut.1);
    if serde_json::from_str::<Value>(text).is_ok() {
        let arguments = said_cut.get("arguments").map_or("", String::as_str);
        assert!(serde_json::from_str::<Value>(arguments).is_ok(), "{arguments}");
    }
});
