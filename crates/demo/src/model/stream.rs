//! Server-sent events: an answer cut into `chat.completion.chunk` frames and played as a script of writes,
//! pauses and faults. What is said is in `answer`.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::answer::{self, Answer, Choice, Envelope, FINGERPRINT};
use super::directives::Directives;
use super::error::ApiError;
use crate::reply::Act;

/// The acts of a streamed answer.
pub(crate) fn acts(
    answer: &Answer,
    envelope: &Envelope,
    include_usage: bool,
    directives: &Directives,
) -> Vec<Act> {
    let mut payloads = match &directives.frames {
        Some(frames) => frames.iter().map(raw_payload).collect(),
        None => chunks(answer, envelope, include_usage, directives),
    };
    if directives.malformed {
        // In place of the second frame: after the role, before any text.
        let at = payloads.len().min(1);
        payloads.insert(at, r#"{"id":"broken","choices":[{"index":0,"delta":{"content":"#.to_owned());
    }
    if let Some(after) = directives.error_frame {
        payloads.truncate(after);
        payloads.push(ApiError::scripted(500, None).body().to_string());
    } else if !directives.no_done {
        payloads.push("[DONE]".to_owned());
    }
    play(&payloads, directives)
}

fn raw_payload(frame: &Value) -> String {
    match frame {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn play(payloads: &[String], directives: &Directives) -> Vec<Act> {
    let end = if directives.crlf { "\r\n\r\n" } else { "\n\n" };
    let mut acts = Vec::new();
    let mut torn = BytesMut::new();
    for (index, payload) in payloads.iter().enumerate() {
        if let Some(stop) = stop_before(index, directives) {
            tear(&mut acts, &mut torn, None);
            acts.push(stop);
            return acts;
        }
        if !directives.delay.is_zero() {
            acts.push(Act::Wait(directives.delay));
        }
        let comment = if directives.comment { format!(": keep-alive{end}") } else { String::new() };
        let frame = format!("{comment}data: {payload}{end}");
        match directives.tear {
            Some(size) => {
                torn.extend_from_slice(frame.as_bytes());
                tear(&mut acts, &mut torn, Some(size));
            }
            None => acts.extend([Act::Data(Bytes::from(frame)), Act::Flush]),
        }
    }
    tear(&mut acts, &mut torn, None);
    // Asked for more frames than there are: the fault comes at the end, so that it is not lost.
    acts.extend(stop_before(usize::MAX, directives));
    acts
}

fn stop_before(index: usize, directives: &Directives) -> Option<Act> {
    if directives.cut.is_some_and(|after| index >= after) {
        Some(Act::Cut)
    } else if directives.hang.is_some_and(|after| index >= after) {
        Some(Act::Hang)
    } else {
        None
    }
}

/// Moves whole pieces of `size` bytes out of `torn`; without a size, what is left.
fn tear(acts: &mut Vec<Act>, torn: &mut BytesMut, size: Option<usize>) {
    while torn.len() >= size.unwrap_or(1) {
        let piece = torn.split_to(size.unwrap_or(torn.len()));
        acts.extend([Act::Data(piece.freeze()), Act::Flush]);
    }
}

/// The payloads of an answer: a role frame for each choice, its text in turns with the others, its finish,
/// then the usage.
fn chunks(answer: &Answer, envelope: &Envelope, include_usage: bool, directives: &Directives) -> Vec<String> {
    let wrap = |choices: Value, usage: Value| {
        let mut frame = json!({
            "id": envelope.id,
            "object": "chat.completion.chunk",
            "created": envelope.created,
            "model": envelope.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        });
        // With usage asked for, OpenAI sends a null on every frame before the last.
        if let (true, Some(frame)) = (include_usage, frame.as_object_mut()) {
            frame.insert("usage".to_owned(), usage);
        }
        frame.to_string()
    };
    let mut queues: Vec<_> = answer
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            deltas(answer, choice, directives).into_iter().map(move |delta| (index, delta))
        })
        .collect();
    let mut payloads = Vec::new();
    loop {
        let before = payloads.len();
        for queue in &mut queues {
            if let Some((index, Delta { fields, logprobs, finish })) = queue.next() {
                let choice =
                    json!([{"index": index, "delta": fields, "logprobs": logprobs, "finish_reason": finish}]);
                payloads.push(wrap(choice, Value::Null));
            }
        }
        if payloads.len() == before {
            break;
        }
    }
    if let (true, Some(usage)) = (include_usage, &answer.usage) {
        payloads.push(wrap(json!([]), usage.clone()));
    }
    payloads
}

struct Delta {
    fields: Map<String, Value>,
    logprobs: Value,
    finish: Option<String>,
}

impl Delta {
    fn of(fields: Value) -> Self {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self { fields, logprobs: Value::Null, finish: None }
    }
}

fn deltas(answer: &Answer, choice: &Choice, directives: &Directives) -> Vec<Delta> {
    let first = if choice.content.is_some() { json!("") } else { Value::Null };
    let mut deltas = vec![Delta::of(json!({"role": "assistant", "content": first, "refusal": null}))];
    for (name, text) in [("reasoning_content", &choice.reasoning), ("content", &choice.content)] {
        for piece in text.iter().flat_map(|text| cut(text, &directives.chunk)) {
            let mut delta = Delta::of(json!({ name: piece }));
            if answer.logprobs && name == "content" {
                delta.logprobs = answer::logprobs(piece);
            }
            deltas.push(delta);
        }
    }
    for piece in choice.refusal.iter().flat_map(|text| cut(text, &directives.chunk)) {
        deltas.push(Delta::of(json!({"refusal": piece})));
    }
    for (index, tool) in choice.tools.iter().enumerate() {
        deltas.push(Delta::of(json!({"tool_calls": [{
            "index": index, "id": answer::call_id(index), "type": "function",
            "function": {"name": tool.name, "arguments": ""},
        }]})));
        for piece in cut(&tool.arguments, &directives.chunk) {
            deltas
                .push(Delta::of(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})));
        }
    }
    if !answer.extra.is_empty() {
        deltas.push(Delta::of(Value::Object(answer.extra.clone())));
    }
    deltas.push(Delta { finish: Some(choice.finish.clone()), ..Delta::of(json!({})) });
    deltas
}

/// Cuts a text into pieces of `sizes` characters, cycling; by word where no sizes are given.
fn cut<'a>(text: &'a str, sizes: &[usize]) -> Vec<&'a str> {
    if sizes.is_empty() {
        return answer::words(text).collect();
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let end = rest.char_indices().nth(*size).map_or(rest.len(), |(at, _)| at);
        let (piece, left) = rest.split_at(end);
        pieces.push(piece);
        rest = left;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_add_up_and_have_the_size_asked_for(text in "\\PC{0,40}", sizes in prop::collection::vec(1usize..5, 1..4)) {
            let pieces = cut(&text, &sizes);
            prop_assert_eq!(pieces.concat(), text.as_str());
            for (piece, size) in pieces.iter().rev().skip(1).rev().zip(sizes.iter().cycle()) {
                prop_assert_eq!(piece.chars().count(), *size);
            }
        }

        #[test]
        fn torn_frames_add_up(size in 1usize..50, texts in prop::collection::vec("[a-z]{0,20}", 0..5)) {
            let whole = bytes_of(&play(&texts, &Directives::default()));
            let torn = play(&texts, &Directives { tear: Some(size), ..Directives::default() });
            prop_assert_eq!(bytes_of(&torn), whole);
            for act in torn {
                if let Act::Data(bytes) = act { prop_assert!(bytes.len() <= size) }
            }
        }
    }

    fn bytes_of(acts: &[Act]) -> Vec<u8> {
        let pieces = acts.iter().filter_map(|act| match act {
            Act::Data(bytes) => Some(bytes.as_ref()),
            _ => None,
        });
        pieces.collect::<Vec<_>>().concat()
    }
}
