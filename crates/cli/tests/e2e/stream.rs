//! Streamed answers: what passes, what is masked, how a violation ends the stream, whatever the cut into frames.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Reply, Rig, Setup, ask};

#[tokio::test]
async fn a_clean_stream_is_the_same_text_whatever_the_chunks() {
    let rig = Rig::start().await;
    let text = "Ask \\u00fcber credentials, theftless: ann at example, 12.5 %\\n- done \\ud83d\\ude00 napal";
    let expected: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
    for style in [
        "demo:chunk=1",
        "demo:chunk=2,5",
        "demo:chunk=400",
        "demo:tear=1",
        "demo:crlf demo:comment",
        "demo:no_done",
    ] {
        let reply = rig.stream(&format!("demo:say=\"{text}\" {style}")).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(reply.streamed("content"), expected, "{style}: {}", reply.text);
        assert_eq!(reply.finish_reasons(), ["stop"], "{style}");
        assert!(reply.text.ends_with("data: [DONE]\n\n") || style == "demo:no_done");
        assert!(reply.frames().iter().all(|frame| frame["usage"].is_null()), "usage was not asked for");
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["decision"], "allow");
        assert!(log["usage"]["total_tokens"].as_u64().unwrap() > 0, "it is counted all the same");
    }
}

#[tokio::test]
async fn usage_comes_where_it_is_asked_for() {
    let rig = Rig::start().await;
    let mut body = ask("hello");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    let last = reply.frames().pop().unwrap();
    assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(last["choices"], json!([]));
}

#[tokio::test]
async fn entities_are_masked_whatever_the_chunks() {
    let rig = Rig::start().await;
    for chunk in 1..=9 {
        let reply = rig
            .stream(&format!(r#"demo:say="write to b\u006fb\u0040example.com, or call" demo:chunk={chunk}"#))
            .await;
        assert_eq!(reply.streamed("content"), "write to [EMAIL_1], or call", "chunk {chunk}");
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["reason_code"], "REDACT");
        assert_eq!(log["event"]["redactions"]["EMAIL_ADDRESS"], 1);
    }
}

#[tokio::test]
async fn a_denied_term_never_leaves() {
    let rig = Rig::start().await;
    for chunk in 1..=9 {
        let reply = rig
            .stream(&format!(r#"demo:say="first this, then n\u0061palm and more" demo:chunk={chunk}"#))
            .await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.streamed("content"), "first this, then ", "chunk {chunk}: {}", reply.text);
        assert!(!reply.streamed("refusal").is_empty());
        assert_eq!(reply.finish_reasons(), ["content_filter"]);
        assert!(reply.text.ends_with("data: [DONE]\n\n"));
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["decision"], "refuse");
        assert_eq!(log["event"]["stage"], "output");
    }
}

#[tokio::test]
async fn rewrite_masks_and_goes_on() {
    let rig = Setup::rules(json!({"denylist": ["napalm"], "response_pattern": "rewrite"})).start().await;
    let reply = rig.stream(r#"demo:say="use n\u0061palm or soap" demo:chunk=3"#).await;
    assert!(!reply.streamed("content").contains("palm"), "{}", reply.text);
    assert!(reply.streamed("content").ends_with(" or soap"));
    assert_eq!(reply.finish_reasons(), ["stop"]);
    assert_eq!(rig.log_of(&reply).await["policy"]["decision"], "rewrite");
}

#[tokio::test]
async fn every_frame_of_the_policy_twin_tells_the_verdict_so_far() {
    let rig = Rig::start().await;
    let mut body = ask(r#"demo:say="one two n\u0061palm" demo:chunk=4"#);
    body["stream"] = json!(true);
    let reply = rig.send(rig.post("/policy/v1/chat/completions", &body)).await;
    let decisions: Vec<_> = reply.frames().iter().map(|frame| frame["policy"]["decision"].clone()).collect();
    assert_eq!(decisions.first(), Some(&json!("allow")));
    assert_eq!(decisions.last(), Some(&json!("refuse")));
    let ids: std::collections::HashSet<_> =
        reply.frames().iter().map(|frame| frame["policy"]["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
}

/// The pieces of a stream's first tool call.
fn call_pieces(reply: &Reply) -> Vec<Value> {
    let frames = reply.frames();
    let calls = frames.iter().filter_map(|frame| frame["choices"][0]["delta"]["tool_calls"].as_array());
    calls.flatten().cloned().collect()
}

fn arguments(pieces: &[Value]) -> String {
    pieces.iter().filter_map(|piece| piece["function"]["arguments"].as_str()).collect()
}

#[tokio::test]
async fn tool_calls_flow_and_are_judged_as_they_pass() {
    let rig = Rig::start().await;
    let say = r#"{"subject":"all is well","to":"b\u006fb\u0040example.com","n":[1,2]}"#;
    for chunk in 1..=9 {
        let reply = rig.stream(&format!("demo:tool=send args={say} demo:chunk={chunk}")).await;
        let pieces = call_pieces(&reply);
        assert_eq!(pieces[0]["function"]["name"], "send", "{}", reply.text);
        assert!(pieces[0]["id"].is_string() && pieces.len() > 3, "chunk {chunk}: {}", reply.text);
        assert_eq!(arguments(&pieces), r#"{"subject":"all is well","to":"[EMAIL_1]","n":[1,2]}"#);
        assert_eq!(reply.finish_reasons(), ["tool_calls"]);
        let scan = &rig.log_of(&reply).await["event"]["scan"];
        assert_eq!(scan["mode"], "stream");
        assert!(scan["output_bytes"].as_u64().unwrap() > scan["released_bytes"].as_u64().unwrap(), "{scan}");
        assert!(scan["input_bytes"].as_u64().unwrap() > 0, "{scan}");
    }
    let reply = rig.stream(r#"demo:tool=send args={"x":"n\u0061palm"} demo:chunk=2"#).await;
    assert_eq!(reply.finish_reasons(), ["content_filter"], "{}", reply.text);
    assert_eq!(arguments(&call_pieces(&reply)), r#"{"x":""#);
    assert!(!reply.streamed("refusal").is_empty() && reply.text.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn the_first_arguments_do_not_wait_for_the_last() {
    let rig = Rig::start().await;
    let mut body = ask(r#"demo:tool=send args={"one":"two three","four":5} demo:chunk=8 demo:hang=3"#);
    body["stream"] = json!(true);
    let mut response = rig.post("/v1/chat/completions", &body).send().await.unwrap();
    let mut text = String::new();
    while !text.contains(r#""arguments":"{\"one\""#) {
        let bytes = response.chunk().await.unwrap().expect("the model hangs, the stream is open");
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
}

#[tokio::test]
async fn values_of_the_request_come_back_in_its_answer() {
    let rules = json!({"denylist": ["napalm"], "redact": true, "redaction": {"restore": true}});
    let rig = Setup::rules(rules).start().await;
    // Escaped, so that the prompt itself has no placeholder.
    let say = r#"demo:say="to \u005bEMAIL_1] and eve\u0040example.org" demo:tool=send args={"to":"\u005bEMAIL_1]"}"#;
    let prompt = format!("I am bob@example.com {say}");
    for chunk in [1, 2, 3, 5, 40] {
        let reply = rig.stream(&format!("{prompt} demo:chunk={chunk}")).await;
        assert_eq!(reply.streamed("content"), "to bob@example.com and [EMAIL_2]", "{}", reply.text);
        assert_eq!(arguments(&call_pieces(&reply)), r#"{"to":"bob@example.com"}"#);
        let log = rig.log_of(&reply).await;
        assert_eq!(log["event"]["redactions"]["EMAIL_ADDRESS"], 2, "the request's and the model's own");
    }
    let reply = rig.chat(&prompt).await;
    let message = &reply.json()["choices"][0]["message"];
    assert_eq!(message["content"], "to bob@example.com and [EMAIL_2]");
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], r#"{"to":"bob@example.com"}"#);
    let seen = rig.model.requests().iter().map(|request| request.body.clone()).collect::<Vec<_>>();
    assert!(seen.iter().all(|body| !String::from_utf8_lossy(body).contains("bob@example.com")));
    assert_eq!(rig.log_of(&reply).await["event"]["scan"]["mode"], "whole");
}

#[tokio::test]
async fn a_violation_in_one_of_several_choices_ends_them_all() {
    let rules = json!({"denylist": ["napalm"], "response_mode": "error"});
    for (rig, is_error) in [(Rig::start().await, false), (Setup::rules(rules).start().await, true)] {
        let mut body = ask(r#"demo:say="one two three four" demo:say="n\u0061palm and on" demo:chunk=4"#);
        body["stream"] = json!(true);
        body["n"] = json!(2);
        let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
        assert!(!reply.text.contains("palm") && !reply.text.contains("four"), "{}", reply.text);
        if is_error {
            assert!(reply.text.contains(r#""code":"policy_refused""#), "{}", reply.text);
            assert!(!reply.text.contains("content_filter"));
        } else {
            let frames = reply.frames();
            let ends = frames.iter().filter_map(|frame| {
                let choice = &frame["choices"][0];
                choice["finish_reason"].as_str().map(|reason| (choice["index"].as_u64(), reason.to_owned()))
            });
            let mut ends: Vec<_> = ends.collect();
            ends.sort();
            assert_eq!(ends, [0, 1].map(|index| (Some(index), "content_filter".to_owned())));
            assert!(reply.text.ends_with("data: [DONE]\n\n"));
        }
        assert_eq!(rig.log_of(&reply).await["policy"]["decision"], "refuse");
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_judged_ends_with_an_error() {
    let rig = Rig::start().await;
    let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
    for frame in [
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{deep}}}}}]}}"#),
        r#"{"choices":[{"index":0,"delta":{"content":"\ud800"}}]}"#.to_owned(),
        "\"{\"".to_owned(),
    ] {
        let mut body = ask(&format!("demo:frames={}", json!([frame])));
        body["stream"] = json!(true);
        let mut response = rig.post("/v1/chat/completions", &body).send().await.unwrap();
        let event_id = response.headers()["x-policy-event-id"].to_str().unwrap().to_owned();
        let mut text = Vec::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            text.extend_from_slice(&bytes);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""error":{"#) && !text.contains("[DONE]"), "{text}");
        assert_eq!(rig.log(&event_id).await["request"]["outcome"], "upstream_error");
    }
    assert_eq!(rig.chat("still there").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_choice_and_field_is_judged() {
    let rig = Rig::start().await;
    let mut body = ask(
        r#"demo:say="first" demo:say="mail b\u006fb\u0040example.com" demo:reasoning="n\u006fte c\u0040d.example" demo:chunk=3"#,
    );
    body["stream"] = json!(true);
    body["n"] = json!(2);
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert!(!reply.text.contains('@'), "{}", reply.text);
    let of = |index: u64, field: &str| -> String {
        reply
            .frames()
            .iter()
            .flat_map(|frame| frame["choices"].as_array().cloned().unwrap_or_default())
            .filter(|choice| choice["index"] == index)
            .filter_map(|choice| choice["delta"][field].as_str().map(str::to_owned))
            .collect()
    };
    assert_eq!(of(0, "content"), "first");
    assert!(of(1, "content").starts_with("mail [EMAIL_"));
    assert!(of(0, "reasoning_content").starts_with("note [EMAIL_"));
}

#[tokio::test]
async fn logprobs_travel_with_their_text() {
    let rig = Rig::start().await;
    let reply = rig.stream(r#"demo:say="all is well here" demo:logprobs demo:chunk=3"#).await;
    assert_eq!(reply.streamed("content"), "all is well here");
    assert!(reply.frames().iter().any(|frame| !frame["choices"][0]["logprobs"].is_null()), "{}", reply.text);
    let reply = rig.stream(r#"demo:say="mail b\u006fb\u0040example.com" demo:logprobs demo:chunk=3"#).await;
    assert_eq!(reply.streamed("content"), "mail [EMAIL_1]");
    assert!(!reply.text.contains('@'), "{}", reply.text);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_told() {
    let rig = Rig::start().await;
    for fault in ["demo:cut=2", "demo:malformed", "demo:error_frame=2"] {
        let mut body = ask(&format!("demo:words=20 {fault}"));
        body["stream"] = json!(true);
        let mut response = rig.post("/v1/chat/completions", &body).send().await.unwrap();
        let event_id = response.headers()["x-policy-event-id"].to_str().unwrap().to_owned();
        let mut text = Vec::new();
        let broken = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => text.extend_from_slice(&bytes),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""error":{"#), "{fault}: {text}");
        assert!(
            !text.contains("[DONE]") && broken,
            "{fault}: a client must not take it for complete: {text}"
        );
        assert_eq!(rig.log(&event_id).await["request"]["outcome"], "upstream_error", "{fault}");
    }
}

#[tokio::test]
async fn a_refused_request_streams_its_refusal() {
    let rig = Rig::start().await;
    let mut body = ask("napalm");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    let frames = reply.frames();
    assert_eq!(frames.len(), 4, "{}", reply.text);
    assert_eq!(frames[0]["choices"][0]["delta"], json!({"role": "assistant"}));
    assert!(frames[1]["choices"][0]["delta"]["refusal"].is_string());
    assert_eq!(frames[2]["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(frames[3]["usage"]["total_tokens"], 0);
    assert!(reply.text.ends_with("data: [DONE]\n\n"));
    assert_eq!(reply.header("x-policy-decision"), "refuse");
}

#[tokio::test]
async fn the_first_words_do_not_wait_for_the_last() {
    let rig = Rig::start().await;
    let mut body = ask(r#"demo:say="one two three four" demo:hang=4"#);
    body["stream"] = json!(true);
    let mut response = rig.post("/v1/chat/completions", &body).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("one") {
        let bytes = response.chunk().await.unwrap().expect("the model hangs, the stream is open");
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
}
