//! Streamed answers: what passes, what is masked, how a violation ends the stream, whatever the cut into frames.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Rig, Setup, ask};

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

#[tokio::test]
async fn tool_calls_are_held_and_judged_whole() {
    let rig = Rig::start().await;
    let reply = rig.stream(r#"demo:tool=send args={"to":"b\u006fb\u0040example.com"} demo:chunk=2"#).await;
    let calls: Vec<Value> = reply
        .frames()
        .iter()
        .filter_map(|frame| frame["choices"][0]["delta"]["tool_calls"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(calls.len(), 1, "{}", reply.text);
    assert_eq!(calls[0]["index"], 0);
    assert_eq!(calls[0]["function"]["name"], "send");
    assert_eq!(calls[0]["function"]["arguments"], r#"{"to":"[EMAIL_1]"}"#);
    assert!(calls[0]["id"].is_string());
    assert_eq!(reply.finish_reasons(), ["tool_calls"]);
    let reply = rig.stream(r#"demo:tool=send args={"x":"n\u0061palm"} demo:chunk=2"#).await;
    assert_eq!(reply.finish_reasons(), ["content_filter"], "{}", reply.text);
    assert!(!reply.text.contains("palm"));
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
