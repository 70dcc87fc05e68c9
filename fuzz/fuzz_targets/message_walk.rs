//! Any bytes as a request, an answer or a chunk: what reads as one can be walked and edited in every text, and is then
//! still JSON.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use llm_api::chat::answer::Answer;
use llm_api::chat::chunk::Chunk;
use llm_api::chat::request::ChatRequest;
use llm_api::json::Splice;
use llm_api::walk::Walk;

/// Replaces every text by one that needs escapes.
fn edited(walk: &Walk<'_>) -> Splice {
    let mut edit = walk.edit();
    for (index, unit) in walk.units().iter().enumerate() {
        let half = unit.text.floor_char_boundary(unit.text.len() / 2);
        edit.replace(index, &std::iter::once((half..unit.text.len(), "\"x\\\n")));
    }
    edit.finish()
}

fn check(body: &[u8]) {
    let read: serde_json::Result<serde_json::Value> = serde_json::from_slice(body);
    if let Err(error) = read {
        // Numbers may be too large for the reader, and halves of surrogate pairs may stand in what is not read.
        let text = error.to_string();
        assert!(
            text.contains("out of range") || text.contains("surrogate") || text.contains("hex escape"),
            "{text}"
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    if let Ok(request) = ChatRequest::parse(body.clone())
        && let Ok(walk) = request.texts()
    {
        check(&request.upstream_body(edited(&walk), Some("instruction")));
    }
    if let Ok(answer) = Answer::parse(body)
        && let Ok(walk) = answer.texts()
    {
        check(&answer.client_body(edited(&walk), &[0, 1], None, Some(b"{}")));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(chunk) = Chunk::parse(text)
        && let Ok(choices) = chunk.choices()
    {
        let mut splice = Splice::default();
        for choice in &choices {
            let calls = choice.calls.iter().flat_map(|call| &call.inputs);
            for token in choice.texts.iter().map(|text| &text.token).chain(calls.map(|input| &input.token)) {
                splice.replace(token.clone(), "\"x\"");
            }
            for part in &choice.withheld {
                splice.replace(part.token.clone(), "null");
            }
        }
        check(&chunk.rebuild(splice, Some(b"{}")));
    }
});
