//! The error table of the data plane: status, OpenAI error body with the fix, and an event for each outcome past
//! authentication.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{KEY, PATIENCE, Reply, Rig, Setup, ask};

fn check(reply: &Reply, status: u16, code: &str, says: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    assert!(error["type"].is_string() && error.get("param").is_some());
    assert!(!reply.header("x-request-id").is_empty());
}

#[tokio::test]
async fn before_authentication_there_is_no_event() {
    let rig = Rig::start().await;
    let url = rig.url("/v1/chat/completions");
    let body = ask("hi").to_string();
    let none = rig.send(rig.http.post(&url).body(body.clone())).await;
    check(&none, 401, "invalid_api_key", "Authorization: Bearer <key>");
    let basic = rig.send(rig.http.post(&url).header("authorization", "Basic abc").body(body.clone())).await;
    check(&basic, 401, "invalid_api_key", "malformed");
    let malformed = rig.send(rig.http.post(&url).bearer_auth("sk-something").body(body.clone())).await;
    check(&malformed, 401, "invalid_api_key", "malformed");
    let unknown = rig.send(rig.http.post(&url).bearer_auth("ak_unknown").body(body.clone())).await;
    check(&unknown, 401, "invalid_api_key", "unknown");
    let anthropic_style = rig.send(rig.http.post(&url).header("x-api-key", KEY).body(body)).await;
    assert_eq!(anthropic_style.status, StatusCode::OK);
    let path = rig.send(rig.post("/chat/completions", &ask("hi"))).await;
    check(&path, 404, "unknown_url", "/v1");
    let method = rig.send(rig.http.get(&url).bearer_auth(KEY)).await;
    check(&method, 405, "method_not_allowed", "POST");
    for reply in [none, malformed, unknown, path] {
        assert_eq!(reply.header("x-policy-event-id"), "");
    }
    rig.log_of(&anthropic_style).await;
    assert_eq!(rig.intake.logs().len(), 1, "only the call that passed left an event");
}

#[tokio::test]
async fn bad_requests_name_the_field_and_leave_an_event() {
    let rig = Rig::start().await;
    for (body, param) in [
        ("{", Value::Null),
        (r#"{"model":"demo-model"}"#, json!("messages")),
        (r#"{"model":"demo-model","messages":[]}"#, json!("messages")),
        (r#"{"messages":[{"role":"user","content":"x"}]}"#, json!("model")),
        (r#"{"model":"demo-model","messages":[{"role":"user"}]}"#, json!("messages[0].content")),
        (
            r#"{"model":"demo-model","messages":[{"role":"user","content":"\ud800"}]}"#,
            json!("messages[0].content"),
        ),
        (
            r#"{"model":"demo-model","messages":[{"role":"user","content":"a"}],"messages":[]}"#,
            json!("messages"),
        ),
    ] {
        let request = rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(KEY).body(body);
        let reply = rig.send(request).await;
        check(&reply, 400, "invalid_request", "");
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
        let log = rig.log_of(&reply).await;
        assert_eq!(log["message"], "policy error: invalid_request");
        assert_eq!(log["policy"]["reason_code"], "invalid_request");
        assert!(log["policy"]["decision"].is_null() && log["policy"]["rollout_mode"].is_null());
        assert_eq!(log["policy"]["enforced"], false);
        assert_eq!(log["policy"].as_object().unwrap().len(), 14);
        assert_eq!(log["event"]["type"], "error");
        assert_eq!(log["request"]["http_status"], 400);
    }
    let deep = format!(r#"{{"model":"m","messages":{}"#, "[".repeat(100_000));
    let reply = rig.send(rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(KEY).body(deep)).await;
    check(&reply, 400, "invalid_request", "nested too deeply");
    assert_eq!(rig.model.requests().len(), 0);
}

#[tokio::test]
async fn entitlement() {
    let mut setup = Setup::default();
    setup.config = json!({"projects": [
        {"id": "test-project", "policy_id": "test-policy", "keys": [KEY], "entitlements": {"models": ["demo-model"]}},
        {"id": "other", "policy_id": "test-policy", "keys": ["ak_other"]},
        {"id": "bare", "keys": ["ak_bare"]},
        {"id": "off", "policy_id": "test-policy", "status": "disabled", "keys": ["ak_off"]}]});
    let rig = setup.start().await;
    let project =
        rig.send(rig.post("/v1/chat/completions", &ask("hi")).header("x-policy-project", "other")).await;
    check(&project, 403, "project_not_entitled", "other");
    let mut body = ask("hi");
    body["policy_id"] = json!("no-such");
    let policy = rig.send(rig.post("/v1/chat/completions", &body)).await;
    check(&policy, 403, "policy_not_entitled", "no-such");
    body = ask("hi");
    body["model"] = json!("gpt-secret");
    let model = rig.send(rig.post("/v1/chat/completions", &body)).await;
    check(&model, 400, "model_not_found", "gpt-secret");
    let with_key = |key: &str| {
        rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(key).body(ask("hi").to_string())
    };
    let bare = rig.send(with_key("ak_bare")).await;
    check(&bare, 400, "project_without_policy", "bare");
    let off = rig.send(with_key("ak_off")).await;
    check(&off, 403, "project_disabled", "off");
    for reply in [project, policy, model, bare, off] {
        rig.log_of(&reply).await;
    }
    assert_eq!(rig.model.requests().len(), 0);
}

#[tokio::test]
async fn sizes_and_times_are_limited() {
    let mut setup = Setup::default();
    setup.config =
        json!({"limits": {"body_bytes_max": 1000, "header_bytes_max": 4096, "body_timeout_seconds": 1}});
    let rig = setup.start().await;
    let reply = rig.chat(&"x".repeat(2000)).await;
    check(&reply, 413, "request_too_large", "1000 bytes");
    rig.log_of(&reply).await;
    let headers = rig.post("/v1/chat/completions", &ask("hi")).header("x-long", "y".repeat(5000));
    let reply = rig.send(headers).await;
    check(&reply, 431, "headers_too_large", "4096 bytes");

    let mut slow = TcpStream::connect(rig.gateway.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 50\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 16];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..12], b"HTTP/1.1 408");
}

#[tokio::test]
async fn an_upstreams_own_errors_pass_through_judged() {
    let rig = Rig::start().await;
    let reply = rig.chat("demo:status=429 demo:retry_after=7").await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.header("retry-after"), "7");
    assert!(reply.json()["error"]["message"].is_string());
    let log = rig.log_of(&reply).await;
    assert_eq!(log["request"]["outcome"], "upstream_error");
    assert_eq!(log["request"]["http_status"], 429);
    assert_eq!(log["policy"]["decision"], "allow");
    let reply = rig.stream("demo:status=500").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    rig.log_of(&reply).await;
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_from_one_that_is_slow() {
    let mut setup = Setup::default();
    setup.config = json!({"upstreams": [
        {"name": "nobody", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["nobody"]}]});
    let rig = setup.start().await;
    let mut body = ask("hi");
    body["model"] = json!("nobody");
    let reply = rig.send(rig.post("/v1/chat/completions", &body)).await;
    check(&reply, 502, "upstream_error", "`nobody` could not be reached");
    assert_eq!(rig.log_of(&reply).await["request"]["outcome"], "upstream_error");

    let rig = Rig::start().await;
    for cut in ["demo:cut", "demo:malformed", "demo:json=[]", "demo:json={\"choices\":1}"] {
        let reply = rig.chat(cut).await;
        check(&reply, 502, "upstream_error", "main");
        assert_eq!(rig.log_of(&reply).await["request"]["outcome"], "upstream_error", "{cut}");
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_times_out() {
    let mut setup = Setup::default();
    let model = demo::model::Model::start(demo::model::ModelOptions::default()).await.unwrap();
    setup.config = json!({"upstreams": [
        {"name": "slow", "kind": "openai", "base_url": model.base_url(), "models": ["*"], "timeout_seconds": 1}]});
    let rig = setup.start().await;
    let reply = rig.chat("demo:hang").await;
    check(&reply, 504, "upstream_timeout", "slow");
    rig.log_of(&reply).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_upstream_call() {
    let rig = Rig::start().await;
    let whole = tokio::spawn(rig.post("/v1/chat/completions", &ask("demo:hang")).send());
    rig.model.wait_for(PATIENCE, |stats| stats.in_flight == 1).await.unwrap();
    whole.abort();
    rig.model.wait_for(PATIENCE, |stats| stats.cancelled == 1).await.unwrap();
    let mut body = ask("demo:hang=3");
    body["stream"] = json!(true);
    let mut response = rig.post("/v1/chat/completions", &body).send().await.unwrap();
    response.chunk().await.unwrap();
    let event_id = response.headers()["x-policy-event-id"].to_str().unwrap().to_owned();
    drop(response);
    rig.model.wait_for(PATIENCE, |stats| stats.cancelled == 2).await.unwrap();
    assert_eq!(rig.log(&event_id).await["request"]["outcome"], "client_gone");
    rig.intake.wait_for(PATIENCE, |ledger| ledger.logs().count() == 2).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut setup = Setup::rules(json!({}));
    setup.config = json!({"limits": {"write_stall_seconds": 1}});
    let rig = setup.start().await;
    let mut body = ask("demo:words=1000000 demo:chunk=2000");
    body["stream"] = json!(true);
    let body = body.to_string();
    let mut socket = TcpStream::connect(rig.gateway.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let gone = |ledger: &demo::intake::Ledger| {
        ledger.logs().any(|log| log.log["request"]["outcome"] == "client_gone")
    };
    rig.intake.wait_for(PATIENCE, gone).await.unwrap();
    rig.model.wait_for(PATIENCE, |stats| stats.in_flight == 0).await.unwrap();
}

#[tokio::test]
async fn sigterm_lets_calls_finish() {
    let rig = Rig::start().await;
    let url = rig.url("/readyz");
    let call = tokio::spawn(rig.post("/v1/chat/completions", &ask("demo:delay_ms=1500")).send());
    rig.model.wait_for(PATIENCE, |stats| stats.in_flight == 1).await.unwrap();
    let Rig { gateway, intake, http, .. } = rig;
    assert_eq!(gateway.stop().await, Some(0));
    let response = call.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let event_id = response.headers()["x-policy-event-id"].to_str().unwrap().to_owned();
    let has = |ledger: &demo::intake::Ledger| ledger.logs().any(|log| log.event_id() == Some(&event_id));
    intake.wait_for(Duration::from_secs(5), has).await.expect("delivered before the end");
    assert!(http.get(url).send().await.is_err(), "nothing listens any more");
}
