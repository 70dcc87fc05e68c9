//! Whole answers: what passes untouched, what is redacted, rewritten and refused, and how it is told.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Rig, Setup, ask};

#[tokio::test]
async fn an_allowed_call_is_the_upstreams_own() {
    let rig = Rig::start().await;
    let body = json!({"model": "demo-model", "messages": [{"role": "user", "content": "hello there"}],
        "temperature": 0.25, "x_vendor": {"kept": [1, 2.50, null]}, "user": "user-1"});
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.content().contains("hello there"));
    assert!(reply.json().get("policy").is_none());
    let sent = rig.model.requests().last().unwrap().body.clone();
    assert_eq!(sent, body.to_string().as_bytes(), "untouched to the byte");
    assert_eq!(rig.model.requests().last().unwrap().header("authorization"), Some("Bearer sk-upstream-test"));
    for (name, value) in [
        ("x-policy-id", "test-policy"),
        ("x-policy-revision", "1"),
        ("x-policy-decision", "allow"),
        ("x-policy-effective-decision", "allow"),
        ("x-policy-reason-code", "ALLOW"),
        ("x-policy-rollout-mode", "enforced"),
        ("x-policy-enforced", "true"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
    assert!(!reply.header("x-request-id").is_empty());
    let log = rig.log_of(&reply).await;
    assert_eq!(log["message"], "policy decision: allow");
    let keys: Vec<_> = log["policy"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "policy_id",
            "decision",
            "effective_decision",
            "reason_code",
            "policy_user",
            "project_id",
            "policy_target",
            "rollout_mode",
            "enforced",
            "triggered_categories",
            "allowlist_hits",
            "denylist_hits",
            "model",
            "created_at"
        ]
    );
    assert_eq!(log["policy"]["policy_user"], "user-1");
    assert_eq!(log["policy"]["policy_target"], "test-project");
    assert_eq!(log["request"]["outcome"], "completed");
    assert_eq!(log["ddtags"], "env:test,project:test-project");
    assert!(log["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(log["event"]["request_id"], reply.header("x-request-id"));
}

#[tokio::test]
async fn the_policy_twins_add_the_policy_object() {
    let rig = Rig::start().await;
    for path in ["/policy/chat/completions", "/policy/v1/chat/completions"] {
        let reply = rig.send(rig.post(path, &ask("mail bob@example.com about napalm"))).await;
        let policy = &reply.json()["policy"];
        assert_eq!(policy["decision"], "refuse", "{}", reply.text);
        assert_eq!(policy["denylist_hits"], json!(["napalm"]));
        assert_eq!(policy["event_id"], reply.header("x-policy-event-id"));
        let keys: Vec<_> = policy.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            keys,
            [
                "policy_id",
                "policy_revision",
                "decision",
                "effective_decision",
                "reason_code",
                "rollout_mode",
                "enforced",
                "triggered_categories",
                "allowlist_hits",
                "denylist_hits",
                "policy_target",
                "event_id"
            ]
        );
        let reply = rig.send(rig.post(path, &ask("fine"))).await;
        assert_eq!(reply.json()["policy"]["decision"], "allow");
        assert!(reply.content().contains("fine"));
    }
}

#[tokio::test]
async fn entities_never_reach_the_upstream_nor_come_back() {
    let rig = Rig::start().await;
    let body = json!({"model": "demo-model", "messages": [
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "I am ann@exam"}, {"type": "text", "text": "ple.com"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "mail", "arguments": "{\"to\": \"b\\u006fb@example.com\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sent to bob@example.com"},
        {"role": "user", "content": "demo:say=\"write to carol@example.com or bob@example.com\""}]});
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let sent = rig.last_upstream();
    assert_eq!(sent["messages"][0]["content"][0]["text"], "I am [EMAIL_1]");
    assert_eq!(sent["messages"][0]["content"][1]["text"], "");
    let arguments = sent["messages"][1]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(arguments, r#"{"to": "[EMAIL_2]"}"#);
    assert_eq!(sent["messages"][2]["content"], "sent to [EMAIL_2]");
    // The directive's address was redacted on its way in; the model said the placeholder back.
    assert!(!reply.text.contains("@example.com"), "{}", reply.text);
    assert_eq!(reply.header("x-policy-reason-code"), "REDACT");
    assert_eq!(reply.header("x-policy-decision"), "allow");
    let log = rig.log_of(&reply).await;
    assert!(log["event"]["redactions"]["EMAIL_ADDRESS"].as_u64().unwrap() >= 4, "{log}");
}

#[tokio::test]
async fn entities_in_an_answer_are_masked() {
    let rig = Rig::start().await;
    let reply = rig.chat(r#"demo:say="write to b\u006fb\u0040example.com" demo:logprobs"#).await;
    assert_eq!(reply.content(), "write to [EMAIL_1]");
    assert!(reply.json()["choices"][0]["logprobs"].is_null(), "they spell the text out");
    assert_eq!(reply.header("x-policy-reason-code"), "REDACT");
    let clean = rig.chat(r#"demo:say="all is well" demo:logprobs"#).await;
    assert!(!clean.json()["choices"][0]["logprobs"].is_null());
}

#[tokio::test]
async fn a_refusal_does_not_call_the_model() {
    let rig = Rig::start().await;
    let reply = rig.chat("teach me credential\u{200b} \n THEFT").await;
    assert_eq!(reply.status, StatusCode::OK);
    let body = reply.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "content_filter");
    assert!(body["choices"][0]["message"]["content"].is_null());
    assert!(!body["choices"][0]["message"]["refusal"].as_str().unwrap().is_empty());
    assert_eq!(body["usage"]["total_tokens"], 0);
    assert_eq!(rig.model.requests().len(), 0);
    let log = rig.log_of(&reply).await;
    assert_eq!(log["policy"]["denylist_hits"], json!(["credential theft"]));
    assert_eq!(log["event"]["stage"], "input");
    assert_eq!(log["status"], "warn");
}

#[tokio::test]
async fn response_mode_error_is_a_403() {
    let mut setup = Setup::rules(json!({"denylist": ["napalm"], "response_mode": "error"}));
    setup.policy["refusal_replacement"] = json!({"message": "not here"});
    let rig = setup.start().await;
    for reply in
        [rig.chat("napalm").await, rig.stream("napalm").await, rig.chat("demo:say=\"n\\u0061palm\"").await]
    {
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text);
        assert_eq!(reply.json()["error"]["code"], "policy_refused");
        assert_eq!(reply.json()["error"]["message"], "not here");
        assert_eq!(rig.log_of(&reply).await["request"]["error_code"], "policy_refused");
    }
}

#[tokio::test]
async fn a_refused_answer_is_replaced() {
    let rig = Rig::start().await;
    let reply = rig.chat(r#"demo:say="you need n\u0061palm for that""#).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(!reply.text.contains("palm"), "{}", reply.text);
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(reply.header("x-policy-decision"), "refuse");
    let log = rig.log_of(&reply).await;
    assert_eq!(log["event"]["stage"], "output");
    assert!(log["usage"]["total_tokens"].as_u64().unwrap() > 0, "the model was paid for");
}

#[tokio::test]
async fn rewrite_takes_spans_out_and_adds_the_instruction() {
    let rig = Setup::rules(json!({"denylist": ["napalm"], "response_pattern": "rewrite"})).start().await;
    let body = json!({"model": "demo-model", "messages": [
        {"role": "assistant", "content": null, "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "x", "content": "napalm recipe"}, {"role": "user", "content": "mix NAPALM now"}]});
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.header("x-policy-decision"), "rewrite");
    let sent = rig.last_upstream();
    assert_eq!(sent["messages"][1]["content"], " recipe");
    assert_eq!(sent["messages"][2]["content"], "mix  now");
    assert_eq!(sent["messages"][3]["role"], "system");
    assert!(!sent["messages"][3]["content"].as_str().unwrap().to_lowercase().contains("napalm"));
    assert!(sent["messages"].as_array().unwrap().len() == 4);
}

#[tokio::test]
async fn a_violating_answer_is_rewritten_by_one_more_call() {
    let rig = Setup::rules(json!({"denylist": ["napalm"], "response_pattern": "rewrite", "redact": true}))
        .start()
        .await;
    let reply = rig.chat(r#"demo:say="use n\u0061palm, ask b\u0040c.de" demo:instructed="use soap""#).await;
    assert_eq!(reply.content(), "use soap", "{}", reply.text);
    assert_eq!(reply.header("x-policy-decision"), "rewrite");
    assert_eq!(rig.model.requests().len(), 2);
    let second = rig.last_upstream().to_string();
    assert!(!second.contains("use napalm") && !second.contains("b@c.de"), "{second}");
    let usage = reply.json()["usage"]["total_tokens"].as_u64().unwrap();
    let log = rig.log_of(&reply).await;
    assert_eq!(log["usage"]["total_tokens"].as_u64().unwrap(), usage, "both calls are counted");

    let stubborn = rig.chat(r#"demo:say="n\u0061palm" demo:instructed="still n\u0061palm""#).await;
    assert_eq!(stubborn.json()["choices"][0]["finish_reason"], "content_filter");
    assert!(!stubborn.text.contains("still"));
    assert_eq!(stubborn.header("x-policy-decision"), "refuse");
}

#[tokio::test]
async fn tool_calls_of_an_answer_are_judged_inside() {
    let rig = Rig::start().await;
    let reply = rig.chat(r#"demo:tool=send args={"to":"b\u006fb\u0040example.com","n":1}"#).await;
    let call = &reply.json()["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "send");
    let arguments: serde_json::Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"to": "[EMAIL_1]", "n": 1}));
    let reply = rig.chat(r#"demo:tool=send args={"what":"n\u0061palm"}"#).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter", "{}", reply.text);
}

#[tokio::test]
async fn metadata_from_headers_beats_the_body_and_stays_here() {
    let rig = Rig::start().await;
    let mut body = ask("hi");
    body["policy_user"] = json!("from-body");
    body["policy_target"] = json!("body-target");
    let request = rig
        .post("/v1/chat/completions", &body)
        .header("x-policy-user", "from-header")
        .header("x-policy-project", "test-project");
    let reply = rig.send(request).await;
    let log = rig.log_of(&reply).await;
    assert_eq!(log["policy"]["policy_user"], "from-header");
    assert_eq!(log["policy"]["policy_target"], "body-target");
    let sent = rig.model.requests().last().unwrap().clone();
    assert!(sent.json().as_object().unwrap().keys().all(|key| !key.starts_with("policy_")));
    assert!(sent.headers.keys().all(|name| !name.as_str().starts_with("x-policy")));
}

#[tokio::test]
async fn models_are_the_keys_own() {
    let rig = Rig::start().await;
    let list = rig.send(rig.http.get(rig.url("/v1/models")).bearer_auth(crate::support::KEY)).await;
    assert_eq!(list.json()["object"], "list");
    assert_eq!(list.json()["data"][0]["id"], "demo-model");
    let one = rig.send(rig.http.get(rig.url("/v1/models/demo-model")).bearer_auth(crate::support::KEY)).await;
    assert_eq!(one.json()["id"], "demo-model");
    let none = rig.send(rig.http.get(rig.url("/v1/models/other")).bearer_auth(crate::support::KEY)).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let rig = Rig::start().await;
    rig.chat("hi").await;
    assert_eq!(rig.send(rig.http.get(rig.url("/healthz"))).await.status, StatusCode::OK);
    assert_eq!(rig.send(rig.http.get(rig.url("/readyz"))).await.status, StatusCode::OK);
    let metrics = rig.send(rig.http.get(rig.url("/metrics"))).await.text;
    for line in [
        r#"policy_gateway_requests_total{route="/v1/chat/completions",status="200"} 1"#,
        r#"policy_gateway_decisions_total{decision="allow",stage="input"} 1"#,
        "policy_gateway_audit_writable 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_call_of_many_bytes_is_judged_as_any_other() {
    let rig = Rig::start().await;
    let words = "an ordinary word ".repeat(20_000);
    let text = format!(r#"from ann@example.com demo:say="{words}b\u006fb\u0040example.com""#);
    let reply = rig.chat(&text).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.content() == format!("{words}[EMAIL_2]"));
    let sent = rig.last_upstream()["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(sent.starts_with("from [EMAIL_1]") && sent.len() > words.len() && !sent.contains("ann@"));
    assert!(rig.stream(&text).await.streamed("content") == format!("{words}[EMAIL_2]"));
    let calls = rig.model.requests().len();
    let reply = rig.chat(&format!("{words}credential theft")).await;
    assert_eq!(reply.header("x-policy-decision"), "refuse");
    assert_eq!(rig.model.requests().len(), calls);
}
