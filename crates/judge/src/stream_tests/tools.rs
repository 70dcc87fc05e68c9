//! Tool calls in a stream: what flows at once, what is held, what is changed.

use policy::{Masker, OutputMode};
use serde_json::{Value, json};

use super::{Call, frame, frames, revision, run_with};

fn rules() -> std::sync::Arc<policy::Revision> {
    revision(json!({"denylist": ["napalm", "credential theft"], "redact": true}))
}

fn piece(index: u64, input: &str) -> String {
    frame(&json!({"tool_calls": [{"index": index, "function": {"arguments": input}}]}), None)
}

fn opening(index: u64, id: &str, name: &str) -> String {
    let call =
        json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
    frame(&json!({"tool_calls": [call]}), None)
}

fn end() -> String {
    frame(&json!({}), Some("tool_calls")) + "data: [DONE]\n\n"
}

fn inputs(stream: &str, mode: OutputMode) -> (Call, Vec<(u64, String)>) {
    let mut seen = run_with(&rules(), mode, &Masker::default(), [stream.as_bytes()]).seen;
    (seen.calls.remove(&(0, "0".to_owned())).unwrap(), seen.finish)
}

/// What each frame passes to the first call, in order.
fn flow(pieces: &[&str]) -> Vec<String> {
    let stream: String =
        opening(0, "call_1", "send") + &pieces.iter().map(|text| piece(0, text)).collect::<String>() + &end();
    let out = run_with(&rules(), OutputMode::Mask, &Masker::default(), [stream.as_bytes()]).out;
    frames(&out)
        .iter()
        .filter_map(|frame| frame["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_travel_at_once_and_inputs_as_soon_as_they_may() {
    let stream = opening(0, "call_1", "send");
    let out = run_with(&rules(), OutputMode::Mask, &Masker::default(), [stream.as_bytes()]).out;
    let first = &frames(&out)[0]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!((&first["id"], &first["function"]["name"]), (&json!("call_1"), &json!("send")));
    assert_eq!(
        flow(&[r#"{"subject":"#, r#""Hello there, "#, r#"all is well","n":1"#, "2,", "\"x\":null}"]),
        ["", r#"{"subject":"#, r#""Hello there, "#, r#"all is well","n":"#, "12,", "\"x\":null}"]
    );
    // Only the last word may yet become something; a closed string may not.
    assert_eq!(flow(&[r#"{"a":"some nap"#, "kins"]), ["", r#"{"a":"some "#, "napkins"]);
}

#[test]
fn what_is_replaced_is_json_again() {
    let stream = opening(0, "call_1", "send")
        + &piece(0, r#"{"to":"bob\u0040example.com","card":41111111"#)
        + &piece(0, r#"11111111,"napalm":"say \"napalm\" \u00e9\/"}"#)
        + &end();
    let (call, finish) = inputs(&stream, OutputMode::Mask);
    let input = &call.input;
    assert_eq!(input, r#"{"to":"[EMAIL_1]","card":"[CARD_1]","███":"say \"███\" \u00e9\/"}"#);
    assert!(serde_json::from_str::<Value>(input).is_ok());
    assert_eq!(finish, [(0, "tool_calls".to_owned())]);
}

#[test]
fn a_violation_in_an_input_ends_the_stream_cleanly() {
    let stream =
        opening(0, "call_1", "send") + &piece(0, r#"{"x":"first n\u0061p"#) + &piece(0, r#"alm"}"#) + &end();
    let (call, finish) = inputs(&stream, OutputMode::Stop);
    assert_eq!(call.input, r#"{"x":"first "#);
    assert_eq!(finish, [(0, "content_filter".to_owned())]);
}

#[test]
fn names_are_judged_too_whole_or_in_pieces() {
    for names in [vec!["napalm"], vec!["nap", "alm"], vec!["x ", "napalm"]] {
        let stream: String = names.iter().map(|name| opening(0, "call_1", name)).collect::<String>() + &end();
        for mode in [OutputMode::Mask, OutputMode::Stop] {
            let ran = run_with(&rules(), mode, &Masker::default(), [stream.as_bytes()]);
            let joined: String = frames(&ran.out)
                .iter()
                .filter_map(|frame| {
                    frame["choices"][0]["delta"]["tool_calls"][0]["function"]["name"].as_str()
                })
                .collect();
            assert!(!joined.contains("napalm"), "{names:?} {mode:?}: {joined}");
            assert_eq!(ran.findings.denylist_hits.len(), 1, "{names:?} {mode:?}");
            let finish = if mode == OutputMode::Stop { "content_filter" } else { "tool_calls" };
            assert_eq!(ran.seen.finish, [(0, finish.to_owned())], "{names:?}");
        }
    }
    let stream = opening(0, "napalm is no id", "f") + &end();
    let (call, _) = inputs(&stream, OutputMode::Mask);
    assert_eq!(call.names["id"], "███ is no id");
}

#[test]
fn every_call_and_choice_ends_at_a_violation_in_one() {
    let mut stream = String::new();
    for index in [0, 1, 2] {
        stream += &format!(
            "data: {}\n\n",
            json!({"id": "c", "created": 1, "model": "m", "choices": [
                {"index": index, "delta": {"role": "assistant", "content": "well, "}, "finish_reason": null}]})
        );
    }
    stream += &format!(
        "data: {}\n\n",
        json!({"choices": [
            {"index": 2, "delta": {"content": "three "}, "finish_reason": "stop"},
            {"index": 0, "delta": {"content": "one "}, "finish_reason": null},
            {"index": 1, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "napalm "}}]}, "finish_reason": null}]})
    );
    stream += &(piece(0, "more") + &end());
    let seen = run_with(&rules(), OutputMode::Stop, &Masker::default(), [stream.as_bytes()]).seen;
    let content = |index| seen.texts[&(index, "content".to_owned())].as_str();
    // What was judged before the violation leaves, from whichever text it is.
    assert_eq!((content(0), content(2)), ("well, one ", "well, three "));
    assert_eq!(seen.texts[&(1, "refusal".to_owned())], "refused");
    let mut finish = seen.finish.clone();
    finish.sort();
    assert_eq!(finish, [0, 1, 2].map(|index| (index, "content_filter".to_owned())));
    assert!(seen.calls.values().all(|call| call.input.is_empty()));
}

#[test]
fn what_a_call_holds_besides_is_withheld_until_whole() {
    let call = |member: &Value| frame(&json!({"tool_calls": [{"index": 0, "extra": member}]}), None);
    let stream = opening(0, "call_1", "f")
        + &call(&json!({"note": "mail b@"}))
        + &call(&json!({"note": "c.de"}))
        + &piece(0, "{}")
        + &end();
    let ran = run_with(&rules(), OutputMode::Mask, &Masker::default(), [stream.as_bytes()]);
    assert_eq!(ran.seen.parts, [json!({"extra": {"note": "mail [EMAIL_1]"}})]);
    assert_eq!(ran.seen.calls[&(0, "0".to_owned())].input, "{}");
}

#[test]
fn log_probabilities_do_not_travel_without_their_text() {
    let stream = format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":\"nap"}}]},
            "logprobs": {"content": [{"token": "napalm"}]}, "finish_reason": null}]})
    ) + &format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [{"token": "napalm"}]}, "finish_reason": "stop"}]})
    );
    let ran = run_with(&rules(), OutputMode::Mask, &Masker::default(), [stream.as_bytes()]);
    assert!(!String::from_utf8(ran.out).unwrap().contains("napalm"));
}

#[test]
fn a_choice_with_text_and_log_probabilities_in_its_last_frame_says_it_once() {
    let stream = format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {"content": "all is well"},
            "logprobs": {"content": [{"token": "all is well"}]}, "finish_reason": "stop"}]})
    );
    let ran = run_with(&rules(), OutputMode::Mask, &Masker::default(), [stream.as_bytes()]);
    assert_eq!(ran.seen.texts[&(0, "content".to_owned())], "all is well");
    assert!(String::from_utf8(ran.out).unwrap().contains("token"));
}

#[test]
fn a_choice_does_not_go_on_after_its_end() {
    let rules = rules();
    let mut judge = crate::stream::StreamJudge::new(
        rules,
        policy::Subject::default(),
        OutputMode::Mask,
        Masker::default(),
        false,
        None,
    );
    let mut decoder = llm_api::sse::Decoder::new(1 << 20);
    decoder.push(
        (frame(&json!({"content": "nap"}), Some("stop")) + &frame(&json!({"content": "alm"}), None))
            .as_bytes(),
    );
    let mut out = Vec::new();
    assert!(judge.event(&decoder.next_frame().unwrap().unwrap(), &mut out).is_ok());
    assert!(judge.event(&decoder.next_frame().unwrap().unwrap(), &mut out).is_err());
}
