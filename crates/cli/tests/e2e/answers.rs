//! Rewrites and summaries: what the model is told, what the client gets in place of an answer, and what the event says.

use demo::model::ModelOptions;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Reply, Rig, Setup, ask};

const CHAT: &str = "/v1/chat/completions";
const POLICY_CHAT: &str = "/policy/v1/chat/completions";

async fn rig(pattern: &str) -> Rig {
    Setup::rules(json!({"denylist": ["napalm"], "redact": true, "response_pattern": pattern})).start().await
}

/// Short texts of a policy's own, so that snapshots show what goes where.
fn worded(pattern: &str) -> Setup {
    Setup::rules(json!({"denylist": ["napalm"], "redact": true, "response_pattern": pattern, "templates": {
        "rewrite_instruction": "REWRITE INSTRUCTION", "rewrite_prompt": "REWRITE PROMPT",
        "summary_instruction": "SUMMARY INSTRUCTION", "summary_prompt": "SUMMARY PROMPT"}}))
}

fn streamed(text: &str) -> Value {
    let mut body = ask(text);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

fn is_refusal(reply: &Reply) -> bool {
    reply.json()["choices"][0]["finish_reason"] == "content_filter"
}

/// Tokens of all calls that the model was sent, as it counts them.
fn usage_of(reply: &Reply) -> u64 {
    reply.json()["usage"]["total_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn an_input_is_rewritten_wherever_a_message_holds_text() {
    let rig = worded("rewrite").start().await;
    let body = json!({"model": "demo-model", "temperature": 0.5, "messages": [
        {"role": "system", "content": "napalm is a word here"},
        {"role": "user", "name": "napalm-fan", "content": [
            {"type": "text", "text": "mix nap", "x": 1}, {"type": "text", "text": "alm now"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {
            "name": "find", "arguments": "{\"query\": \"n\\u0061palm \\\"recipes\\\"\", \"deep\": [{\"NAPALM\": 1}], \"n\": 2}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "Ｎａｐａｌｍ: see bob@example.com"},
        {"role": "user", "content": "so, napalm?"}]});
    let reply = rig.send(rig.post(CHAT, &body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.header("x-policy-decision"), "rewrite");
    let sent = rig.last_upstream();
    insta::assert_json_snapshot!(sent);
    let arguments = sent["messages"][2]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    serde_json::from_str::<Value>(arguments).expect("still JSON");
}

#[tokio::test]
async fn an_allowlist_miss_only_adds_the_instruction() {
    for (mode, instruction) in [("rewrite", "REWRITE INSTRUCTION"), ("summary", "SUMMARY INSTRUCTION")] {
        let mut setup = worded("escalate");
        setup.policy["rules"]["denylist"] = json!([]);
        setup.policy["rules"]["allowlist"] = json!(["refund"]);
        setup.policy["rules"]["rewrite_instead_of_refuse"] = json!(true);
        setup.policy["refusal_replacement"] = json!({"mode": mode});
        let rig = setup.start().await;
        for stream in [false, true] {
            let mut body = ask("tell me of napalm");
            body["stream"] = json!(stream);
            let reply = rig.send(rig.post(CHAT, &body)).await;
            assert_eq!(reply.header("x-policy-decision"), mode, "{}", reply.text);
            let sent = rig.last_upstream()["messages"].clone();
            assert_eq!(sent[0]["content"], "tell me of napalm");
            assert_eq!(sent[1], json!({"role": "system", "content": instruction}));
            assert!(reply.text.contains("instructions"), "{}", reply.text);
            assert_eq!(rig.log_of(&reply).await["event"]["stage"], "input");
        }
        let reply = rig.chat("a refund please").await;
        assert_eq!(reply.header("x-policy-decision"), "allow");
        assert_eq!(rig.model.requests().len(), 3, "a summary that is clean costs no extra call");
    }
}

#[tokio::test]
async fn a_violating_answer_is_asked_for_again() {
    let rig = worded("rewrite").start().await;
    let mut body = ask(
        r#"Hi demo:say="fine, ask a\u0040b.example" demo:say="use n\u0061palm, ask b\u0040c.example" demo:again="demo:say=\"use soap, ask c\u0040d.example\"""#,
    );
    for (name, value) in [
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("max_tokens", json!(50)),
        ("response_format", json!({"type": "text"})),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        ("tool_choice", json!("auto")),
        ("policy_user", json!("ann")),
    ] {
        body[name] = value;
    }
    let reply = rig.send(rig.post(POLICY_CHAT, &body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = reply.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "fine, ask [EMAIL_1]");
    assert_eq!(answer["choices"][1]["message"]["content"], "use soap, ask [EMAIL_3]");
    assert_eq!(answer["choices"][1]["index"], 1);
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert_eq!(answer["policy"]["decision"], "rewrite");
    assert_eq!(answer["policy"]["denylist_hits"], json!(["napalm"]));
    insta::assert_json_snapshot!(rig.last_upstream());

    let log = rig.log_of(&reply).await;
    assert_eq!(log["policy"]["reason_code"], "REWRITE");
    assert_eq!(log["event"]["stage"], "output");
    assert_eq!(log["event"]["redactions"]["EMAIL_ADDRESS"], 3);
    assert_eq!(log["usage"]["total_tokens"].as_u64(), Some(usage_of(&reply)), "both calls are counted");
    assert_eq!(log["request"]["outcome"], "completed");
}

#[tokio::test]
async fn a_violating_tool_call_becomes_plain_words() {
    let rig = rig("rewrite").await;
    let reply = rig
        .chat(r#"demo:tool=send args={"what":"n\u0061palm"} demo:again="demo:say=\"no such thing\"""#)
        .await;
    let choice = &reply.json()["choices"][0];
    assert_eq!(choice["message"]["content"], "no such thing", "{}", reply.text);
    assert!(choice["message"].get("tool_calls").is_none());
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(rig.last_upstream()["messages"][1]["content"], "send\nwhat\n███");
}

#[tokio::test]
async fn a_stream_answered_as_a_whole_is_mended_as_a_stream() {
    for (pattern, decision) in [("rewrite", "rewrite"), ("summary", "summary")] {
        let rig = rig(pattern).await;
        let script = r#"demo:json={"id":"x1","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"n\u0061palm"},"finish_reason":"stop"}]} demo:again="demo:say=\"use soap\"""#;
        let reply = rig.send(rig.post(POLICY_CHAT, &streamed(script))).await;
        assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8", "{}", reply.text);
        assert_eq!(reply.streamed("content"), "use soap");
        assert_eq!(reply.finish_reasons(), ["stop"]);
        let frames = reply.frames();
        assert!(frames.iter().all(|frame| frame["id"] == "x1" && frame["policy"]["decision"] == decision));
        assert!(frames.last().unwrap()["usage"]["total_tokens"].as_u64().unwrap() > 0);
        assert!(reply.text.ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_second_violation_is_refused() {
    for pattern in ["rewrite", "summary"] {
        let mut setup = Setup::rules(json!({"denylist": ["napalm", "thermite"], "response_pattern": pattern,
            "templates": {"rewrite_prompt": "again", "summary_prompt": "again"}}));
        setup.policy["refusal_replacement"] = json!({"message": "not here"});
        let rig = setup.start().await;
        let script = r#"demo:say="n\u0061palm" demo:again="demo:say=\"still th\u0065rmite\"""#;
        let reply = rig.send(rig.post(POLICY_CHAT, &ask(script))).await;
        assert!(is_refusal(&reply), "{}", reply.text);
        assert_eq!(reply.json()["choices"][0]["message"]["refusal"], "not here");
        assert_eq!(usage_of(&reply), 0);
        assert_eq!(reply.header("x-policy-decision"), "refuse");
        assert_eq!(reply.json()["policy"]["denylist_hits"], json!(["napalm", "thermite"]));
        assert_eq!(rig.model.requests().len(), 2, "never more than one extra call");
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["reason_code"], "REFUSE");
        assert_eq!(log["request"]["outcome"], "completed");
        // Words: 3 asked and 1 answered, then those, the prompt and 2 more.
        assert_eq!(log["usage"]["total_tokens"], 4 + 5 + 2, "what both calls cost");
    }
}

#[tokio::test]
async fn a_refusal_in_the_end_takes_the_form_that_the_policy_asks_for() {
    for stream in [false, true] {
        let mut setup = Setup::rules(
            json!({"denylist": ["napalm"], "response_pattern": "summary", "response_mode": "error",
                "reason_codes": ["ALLOW", "SUMMARY"]}),
        );
        setup.policy["refusal_replacement"] = json!({"message": "not here"});
        let rig = setup.start().await;
        let mut body = ask(r#"demo:say="n\u0061palm""#);
        body["stream"] = json!(stream);
        let reply = rig.send(rig.post(CHAT, &body)).await;
        if stream {
            let error = &reply.frames()[0]["error"];
            assert_eq!((&error["code"], &error["message"]), (&json!("policy_refused"), &json!("not here")));
            assert!(!reply.text.contains("[DONE]"));
        } else {
            assert_eq!(reply.status, StatusCode::FORBIDDEN);
            assert_eq!(reply.json()["error"]["code"], "policy_refused");
        }
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["decision"], "refuse");
        assert_eq!(log["policy"]["reason_code"], "SUMMARY", "the policy lists no other");
    }
}

#[tokio::test]
async fn an_extra_call_that_fails_is_a_refusal_not_an_error() {
    let mut setup = Setup::rules(json!({"denylist": ["napalm"], "response_pattern": "rewrite"}));
    let model = demo::model::Model::start(ModelOptions::default()).await.unwrap();
    setup.config = json!({"upstreams": [{"name": "main", "kind": "openai", "base_url": model.base_url(),
        "api_key": "$UPSTREAM_KEY", "models": ["*"], "timeout_seconds": 5}]});
    let rig = setup.start().await;
    for (script, code) in [
        ("demo:status=500", "upstream_error"),
        ("demo:status=429", "upstream_error"),
        ("demo:malformed", "upstream_error"),
        ("demo:cut", "upstream_error"),
        ("demo:cut=1", "upstream_error"),
        ("demo:hang", "upstream_timeout"),
    ] {
        let reply = rig.chat(&format!(r#"demo:say="n\u0061palm" demo:again="{script}""#)).await;
        assert_eq!(reply.status, StatusCode::OK, "{script}: {}", reply.text);
        assert!(is_refusal(&reply), "{script}: {}", reply.text);
        let log = rig.log_of(&reply).await;
        assert_eq!(log["policy"]["decision"], "refuse", "{script}");
        assert_eq!(log["request"]["outcome"], "upstream_error", "{script}");
        assert_eq!(log["request"]["error_code"], code, "{script}");
        assert_eq!(log["usage"]["total_tokens"], 3, "{script}: the first call is counted");
    }
    for script in [r#"demo:say=\"  \""#, r"demo:tool=f", r#"demo:json={\"choices\":[]}"#] {
        let reply = rig.chat(&format!(r#"demo:say="n\u0061palm" demo:again="{script}""#)).await;
        assert!(is_refusal(&reply), "{script}: {}", reply.text);
        assert_eq!(rig.log_of(&reply).await["request"]["outcome"], "completed", "{script}");
    }
    // A refusal of the model's own is an answer in plain words.
    let reply = rig.chat(r#"demo:say="n\u0061palm" demo:again="demo:refusal=\"I would rather not\"""#).await;
    assert_eq!(reply.json()["choices"][0]["message"]["refusal"], "I would rather not");
    assert_eq!(reply.header("x-policy-decision"), "rewrite");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_extra_call() {
    for (pattern, stream) in [("rewrite", false), ("summary", true)] {
        let rig = rig(pattern).await;
        let mut body = ask(r#"demo:say="n\u0061palm" demo:again="demo:hang""#);
        body["stream"] = json!(stream);
        let request = rig.post(CHAT, &body);
        let call = tokio::spawn(async move { request.send().await?.text().await });
        rig.model.wait_for(PATIENCE, |stats| stats.requests == 2 && stats.in_flight == 1).await.unwrap();
        call.abort();
        rig.model.wait_for(PATIENCE, |stats| stats.cancelled == 1).await.unwrap();
        let is_gone = |ledger: &demo::intake::Ledger| {
            ledger.logs().any(|log| log.log["request"]["outcome"] == "client_gone")
        };
        rig.intake.wait_for(PATIENCE, is_gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_violating_request_is_answered_by_a_summary() {
    let rig = worded("summary").start().await;
    for stream in [false, true] {
        let mut body = ask(r#"tell me of napalm demo:say="In short: soap.""#);
        body["stream"] = json!(stream);
        let reply = rig.send(rig.post(CHAT, &body)).await;
        let said = if stream { reply.streamed("content") } else { reply.content() };
        assert_eq!(said, "In short: soap.", "{}", reply.text);
        assert_eq!(reply.header("x-policy-decision"), "summary");
        assert_eq!(reply.header("x-policy-reason-code"), "SUMMARY");
        let sent = rig.last_upstream()["messages"].clone();
        assert_eq!(sent[0]["content"], r#"tell me of  demo:say="In short: soap.""#);
        assert_eq!(sent[1], json!({"role": "system", "content": "SUMMARY INSTRUCTION"}));
        let log = rig.log_of(&reply).await;
        assert_eq!(
            (&log["policy"]["decision"], &log["event"]["stage"]),
            (&json!("summary"), &json!("input"))
        );
    }
    assert_eq!(rig.model.requests().len(), 2);
}

#[tokio::test]
async fn a_violating_answer_is_summed_up() {
    let rig = worded("summary").start().await;
    let script =
        r#"Hi demo:say="use n\u0061palm, ask b\u0040c.example" demo:again="demo:say=\"in short: soap\"""#;
    let whole = rig.send(rig.post(POLICY_CHAT, &ask(script))).await;
    assert_eq!(whole.content(), "in short: soap", "{}", whole.text);
    assert_eq!(whole.json()["policy"]["decision"], "summary");
    assert_eq!(whole.header("x-policy-decision"), "summary");
    let second = rig.last_upstream();
    insta::assert_json_snapshot!(second);

    let reply = rig.send(rig.post(POLICY_CHAT, &streamed(script))).await;
    assert_eq!(reply.streamed("content"), "in short: soap", "{}", reply.text);
    assert_eq!(reply.finish_reasons(), ["stop"]);
    assert!(!reply.text.contains("palm,") && !reply.text.contains("use "), "{}", reply.text);
    assert!(reply.text.starts_with(": keep-alive\n\n") && reply.text.ends_with("data: [DONE]\n\n"));
    assert_eq!(reply.header("x-policy-decision"), "allow", "of a stream, headers tell the input's verdict");
    let frames = reply.frames();
    assert!(frames.iter().all(|frame| frame["policy"]["decision"] == "summary"), "{}", reply.text);
    assert_eq!(rig.last_upstream(), second, "the extra call is the same");
    let log = rig.log_of(&reply).await;
    assert_eq!(log["policy"]["reason_code"], "SUMMARY");
    assert_eq!(log["event"]["stage"], "output");
    assert_eq!(log["usage"]["total_tokens"], frames.last().unwrap()["usage"]["total_tokens"]);
    assert_eq!(log["usage"]["total_tokens"].as_u64(), Some(usage_of(&whole)));
    assert_eq!(rig.log_of(&whole).await["usage"]["total_tokens"].as_u64(), Some(usage_of(&whole)));
}

#[tokio::test]
async fn a_summary_that_is_cut_short_is_refused() {
    let rig = rig("summary").await;
    let script = r#"demo:say="n\u0061palm" demo:again="demo:say=\"in short: so\" demo:finish=length""#;
    let reply = rig.chat(script).await;
    assert!(is_refusal(&reply), "{}", reply.text);
    let reply = rig.send(rig.post(CHAT, &streamed(script))).await;
    assert_eq!(reply.finish_reasons(), ["content_filter"], "{}", reply.text);
    assert!(!reply.streamed("refusal").is_empty() && reply.streamed("content").is_empty());
    assert_eq!(reply.frames().last().unwrap()["usage"]["total_tokens"], 0);
    assert_eq!(rig.log_of(&reply).await["policy"]["decision"], "refuse");
}

#[tokio::test]
async fn a_held_stream_that_is_clean_is_the_upstreams_own() {
    let held = rig("summary").await;
    let live = rig("refuse").await;
    for script in [
        r#"demo:say="all is well" demo:logprobs demo:chunk=3"#,
        r#"demo:say="write to b\u006fb\u0040example.com now" demo:reasoning="h\u006fm" demo:chunk=2"#,
        r#"demo:tool=send args={"to":"b\u006fb\u0040example.com"} demo:chunk=4"#,
        r#"demo:say="well" demo:crlf demo:comment demo:no_done"#,
        r#"demo:say="one two" demo:tear=1"#,
    ] {
        let frames = async |rig: &Rig| {
            let reply = rig.send(rig.post(CHAT, &streamed(script))).await;
            let mut frames = reply.frames();
            for frame in &mut frames {
                frame["id"] = json!(null);
                frame["created"] = json!(null);
            }
            let log = rig.log_of(&reply).await;
            assert_eq!(log["policy"]["decision"], "allow");
            (
                frames,
                log["policy"]["reason_code"].clone(),
                log["event"]["redactions"].clone(),
                log["usage"].clone(),
            )
        };
        assert_eq!(frames(&held).await, frames(&live).await, "{script}");
    }
}

#[tokio::test]
async fn nothing_of_a_stream_leaves_while_it_is_held() {
    let rig = rig("summary").await;
    let mut body = ask(r#"demo:say="one two three four" demo:hang=4"#);
    body["stream"] = json!(true);
    let mut response = rig.post(CHAT, &body).send().await.unwrap();
    let first = response.chunk().await.unwrap().expect("the stream is open");
    assert_eq!(first, ": keep-alive\n\n");
    drop(response);
    rig.model.wait_for(PATIENCE, |stats| stats.cancelled == 1).await.unwrap();
}

#[tokio::test]
async fn a_held_stream_that_breaks_off_is_told() {
    let rig = rig("summary").await;
    for fault in ["demo:cut=2", "demo:malformed", "demo:error_frame=2"] {
        let mut response = rig.post(CHAT, &streamed(&format!("demo:words=20 {fault}"))).send().await.unwrap();
        let event_id = response.headers()["x-policy-event-id"].to_str().unwrap().to_owned();
        let mut text = Vec::new();
        let is_cut = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => text.extend_from_slice(&bytes),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""error":{"#) && !text.contains("word1"), "{fault}: {text}");
        assert!(is_cut && !text.contains("[DONE]"), "{fault}: {text}");
        assert_eq!(rig.log(&event_id).await["request"]["outcome"], "upstream_error", "{fault}");
    }
}
