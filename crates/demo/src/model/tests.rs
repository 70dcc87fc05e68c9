//! The model over a socket: what it answers, what it refuses, and each fault it can be told to make.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{Model, ModelOptions, Running};
use crate::exchange::{self, Answer};

/// Long enough for a slow machine; a test that gets there has failed.
const WITHIN: Duration = Duration::from_secs(20);

async fn model() -> Running {
    Model::start(ModelOptions::default()).await.unwrap()
}

async fn post(model: &Running, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("authorization", "Bearer sk-test")];
    exchange::send(model.addr(), "POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await
}

fn ask(text: &str) -> Value {
    json!({"model": "demo-model", "messages": [{"role": "user", "content": text}]})
}

fn ask_stream(text: &str) -> Value {
    let mut body = ask(text);
    body["stream"] = json!(true);
    body
}

fn message(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["choices"][0]["message"].clone()
}

/// The strings of one member of all deltas of a choice, joined.
fn joined(answer: &Answer, choice: u64, member: &str) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let frames = answer.events().into_iter().filter(|event| event != "[DONE]");
    let deltas = frames.filter_map(|frame| {
        let frame: Value = serde_json::from_str(&frame).unwrap();
        let one = frame["choices"].get(0)?.clone();
        (one["index"] == choice).then(|| one["delta"].pointer(member)?.as_str().map(str::to_owned))?
    });
    deltas.collect()
}

#[tokio::test]
async fn it_repeats_what_reached_it() {
    let model = model().await;
    let answer = post(&model, &ask("tell me more")).await;
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["content"], "Glad to help. You said: tell me more");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    assert_eq!(body["usage"]["completion_tokens"], 8);
    assert_eq!(body["usage"]["total_tokens"], 11);
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn it_follows_another_script_once_it_has_answered() {
    let model = model().await;
    let mut body = ask(r#"demo:say="one" demo:again="demo:say=\"two\" demo:finish=length""#);
    assert_eq!(message(&post(&model, &body).await)["content"], "one");
    body["messages"].as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": "one"}),
        json!({"role": "system", "content": "again"}),
    ]);
    let answer = post(&model, &body).await;
    assert_eq!(message(&answer)["content"], "two");
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn it_answers_the_user_past_later_instructions_and_parts() {
    let model = model().await;
    let body = json!({"model": "demo-model", "messages": [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [
            {"type": "text", "text": "sec"}, {"type": "image_url", "image_url": {"url": "data:,"}},
            {"type": "text", "text": "ond demo:instructed=\"as told\""}]},
    ]});
    assert_eq!(message(&post(&model, &body).await)["content"], "Glad to help. You said: second");
    let mut instructed = body;
    instructed["messages"].as_array_mut().unwrap().push(json!({"role": "system", "content": "be brief"}));
    assert_eq!(message(&post(&model, &instructed).await)["content"], "as told");
}

#[tokio::test]
async fn a_stream_adds_up_to_the_whole_answer() {
    let model = model().await;
    for script in ["", " demo:chunk=1", " demo:chunk=3,1", " demo:tear=5", " demo:crlf demo:comment"] {
        let answer = post(&model, &ask_stream(&format!("straße 日本 end{script}"))).await;
        assert!(answer.complete);
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(joined(&answer, 0, "/content"), "Glad to help. You said: straße 日本 end", "{script}");
        let events = answer.events();
        assert_eq!(events.last().unwrap(), "[DONE]");
        let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert!(last.get("usage").is_none());
    }
}

#[tokio::test]
async fn each_frame_is_its_own_chunk_and_tearing_ignores_frames() {
    let model = model().await;
    let whole = post(&model, &ask_stream("x demo:say=\"a b c\"")).await;
    assert_eq!(whole.chunks.len(), whole.events().len());
    let torn = post(&model, &ask_stream("x demo:say=\"a b c\" demo:tear=7")).await;
    assert!(torn.chunks.iter().all(|size| *size <= 7), "{:?}", torn.chunks);
    assert_eq!(joined(&torn, 0, "/content"), "a b c");
}

#[tokio::test]
async fn usage_comes_last_when_asked_for() {
    let model = model().await;
    let mut body = ask_stream("one two");
    body["stream_options"] = json!({"include_usage": true});
    let events = post(&model, &body).await.events();
    let frames: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (last, others) = frames.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 9);
    assert!(others.iter().all(|frame| frame.get("usage") == Some(&Value::Null)));

    body["messages"][0]["content"] = json!("demo:no_usage");
    let events = post(&model, &body).await.events();
    assert!(!events.iter().any(|event| event.contains("total_tokens")));
}

#[tokio::test]
async fn several_choices_say_each_their_own() {
    let model = model().await;
    let mut body = ask("demo:say=\"one\" demo:say=\"two\"");
    body["n"] = json!(3);
    let answer = post(&model, &body).await.json();
    let said: Vec<_> =
        answer["choices"].as_array().unwrap().iter().map(|c| &c["message"]["content"]).collect();
    assert_eq!(said, ["one", "two", "one"]);
    body["stream"] = json!(true);
    let streamed = post(&model, &body).await;
    assert_eq!([joined(&streamed, 0, "/content"), joined(&streamed, 1, "/content")], ["one", "two"]);
}

#[tokio::test]
async fn a_tool_is_called_once_and_its_result_answered() {
    let model = model().await;
    let text = r#"demo:tool=find args={"q":"cats and dogs"} demo:chunk=4"#;
    let first = post(&model, &ask(text)).await.json();
    let call = &first["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(first["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(first["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(call["function"], json!({"name": "find", "arguments": "{\"q\":\"cats and dogs\"}"}));

    let streamed = post(&model, &ask_stream(text)).await;
    let arguments = joined(&streamed, 0, "/tool_calls/0/function/arguments");
    assert_eq!(arguments, "{\"q\":\"cats and dogs\"}");
    assert_eq!(joined(&streamed, 0, "/tool_calls/0/function/name"), "find");

    let mut body = ask(text);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "none"}));
    assert_eq!(message(&post(&model, &body).await)["content"], "The tool answered: none");
}

#[tokio::test]
async fn texts_beside_the_content_are_where_clients_look() {
    let model = model().await;
    let text = r#"demo:say="yes no" demo:reasoning="let me think" demo:extra={"note":"n"} demo:logprobs"#;
    let whole = post(&model, &ask(text)).await.json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["reasoning_content"], "let me think");
    assert_eq!(choice["message"]["note"], "n");
    assert_eq!(choice["logprobs"]["content"][1]["token"], " no");
    let streamed = post(&model, &ask_stream(text)).await;
    assert_eq!(joined(&streamed, 0, "/reasoning_content"), "let me think");
    assert_eq!(joined(&streamed, 0, "/note"), "n");
    assert!(streamed.text().contains(r#""logprobs":{"content":[{"token":" no""#));

    let refused = message(&post(&model, &ask("demo:refusal=\"I will not\"")).await);
    assert_eq!((&refused["content"], &refused["refusal"]), (&Value::Null, &json!("I will not")));
}

#[tokio::test]
async fn answers_are_cut_at_the_token_limit() {
    let model = model().await;
    let mut body = ask("demo:words=50");
    body["max_completion_tokens"] = json!(2);
    let answer = post(&model, &body).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "word1 word2");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn scripted_errors_have_openais_shape() {
    let model = model().await;
    let answer = post(&model, &ask("demo:status=429 demo:retry_after=7")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    let answer = post(&model, &ask(r#"demo:status=503 demo:json={"odd": [1, 2]}"#)).await;
    assert_eq!((answer.status, answer.text()), (503, r#"{"odd": [1, 2]}"#));
}

#[tokio::test]
async fn faults_in_streams_come_where_they_were_ordered() {
    let model = model().await;
    let cut = post(&model, &ask_stream("demo:words=9 demo:cut=3")).await;
    assert_eq!((cut.status, cut.complete, cut.events().len()), (200, false, 3));
    let cut = post(&model, &ask("demo:words=9 demo:cut=3")).await;
    assert_eq!((cut.status, cut.complete), (200, false));
    assert!(!cut.body.is_empty());
    assert_eq!(post(&model, &ask("demo:cut")).await.status, 0);

    let broken = post(&model, &ask_stream("demo:malformed")).await.events();
    assert!(serde_json::from_str::<Value>(&broken[1]).is_err());
    let broken = post(&model, &ask("demo:malformed")).await;
    assert!(broken.complete && serde_json::from_slice::<Value>(&broken.body).is_err());

    let error = post(&model, &ask_stream("demo:words=9 demo:error_frame=2")).await.events();
    assert_eq!(error.len(), 3);
    assert!(error[2].starts_with(r#"{"error":{"#));
    let raw = post(&model, &ask_stream(r#"demo:frames=["nonsense", {"a":1}] demo:no_done"#)).await.events();
    assert_eq!(raw, ["nonsense", r#"{"a":1}"#]);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let model = model().await;
    let url = "/v1/chat/completions";
    let mut stream =
        exchange::open(model.addr(), "POST", url, &[], ask_stream("demo:hang=2").to_string().as_bytes())
            .await;
    let mut seen = Vec::new();
    while seen.windows(6).filter(|window| *window == b"data: ").count() < 2 {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    assert_eq!(model.stats().in_flight, 1);
    drop(stream);
    let before_head =
        exchange::open(model.addr(), "POST", url, &[], ask("demo:hang").to_string().as_bytes()).await;
    model.wait_for(WITHIN, |stats| stats.requests == 2).await.unwrap();
    drop(before_head);
    model.wait_for(WITHIN, |stats| stats.cancelled == 2 && stats.in_flight == 0).await.unwrap();
    let shown = exchange::send(model.addr(), "GET", "/demo/stats?cancelled=2&wait_ms=9", &[], b"").await;
    assert_eq!(shown.json()["cancelled"], 2);
}

#[tokio::test]
async fn what_a_gateway_should_keep_is_refused() {
    let model = model().await;
    for name in ["policy_user", "policy_project_id", "policy_id", "policy"] {
        let mut body = ask("hi");
        body[name] = json!("x");
        let answer = post(&model, &body).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(name)));
    }
    for header in [("x-policy-user", "u"), ("authorization", "Bearer ak_abc"), ("x-api-key", "ak_abc")] {
        let body = ask("hi").to_string();
        let answer =
            exchange::send(model.addr(), "POST", "/v1/chat/completions", &[header], body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{header:?}");
    }
}

#[tokio::test]
async fn bad_requests_name_the_parameter() {
    let model = model().await;
    let with = |name: &str, value: Value| {
        let mut body = ask("hi");
        body[name] = value;
        body
    };
    let cases = [
        (json!([]), Value::Null),
        (json!({"messages": []}), json!("model")),
        (json!({"model": "demo-model"}), json!("messages")),
        (with("messages", json!([])), json!("messages")),
        (with("messages", json!([{"role": "robot", "content": ""}])), json!("messages[0].role")),
        (with("messages", json!([{"role": "user"}])), json!("messages[0].content")),
        (
            with("messages", json!([{"role": "user", "content": [{"type": "x"}]}])),
            json!("messages[0].content"),
        ),
        (
            with("messages", json!([{"role": "tool", "content": "", "tool_call_id": "c"}])),
            json!("messages[0].role"),
        ),
        (with("n", json!(0)), json!("n")),
        (with("stream", json!("yes")), json!("stream")),
        (with("stream_options", json!({"include_usage": true})), json!("stream_options")),
        (with("max_tokens", json!(-1)), json!("max_tokens")),
        (with("tools", json!([{}])), json!("tools")),
        (ask("demo:sya=1"), json!("messages")),
    ];
    for (body, param) in cases {
        let answer = post(&model, &body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["type"]), (400, &json!("invalid_request_error")), "{body}");
        assert_eq!(error["param"], param, "{body}");
    }
    let not_json = exchange::send(model.addr(), "POST", "/v1/chat/completions", &[], b"{").await;
    assert_eq!(not_json.status, 400);
}

#[tokio::test]
async fn models_paths_and_keys_are_checked() {
    let options = ModelOptions { api_key: Some("sk-right".to_owned()), ..ModelOptions::default() };
    assert!(!format!("{options:?}").contains("sk-right"));
    let model = Model::start(options).await.unwrap();
    let get = async |path: &str, key: &str| {
        exchange::send(model.addr(), "GET", path, &[("authorization", &format!("Bearer {key}"))], b"").await
    };
    assert_eq!(get("/v1/models", "sk-wrong").await.status, 401);
    assert_eq!(get("/v1/models", "sk-right").await.json()["data"][0]["id"], "demo-model");
    assert_eq!(get("/v1/models/demo-model", "sk-right").await.json()["object"], "model");
    assert_eq!(get("/v1/models/other", "sk-right").await.json()["error"]["code"], "model_not_found");
    assert_eq!(get("/v2/models", "sk-right").await.status, 404);
    assert_eq!(get("/healthz", "").await.status, 200);
    assert_eq!(post(&model, &ask("hi")).await.status, 401);
}

#[tokio::test]
async fn requests_are_kept_bounded_and_shown_without_credentials() {
    let options =
        ModelOptions { requests_kept_max: 2, models: vec!["*".to_owned()], ..ModelOptions::default() };
    let model = Model::start(options).await.unwrap();
    for text in ["one", "two", "three"] {
        let mut body = ask(text);
        body["model"] = json!("any-name");
        assert_eq!(post(&model, &body).await.status, 200);
    }
    let kept = model.requests();
    assert_eq!(kept.iter().map(|request| request.index).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(kept[1].json()["messages"][0]["content"], "three");
    assert_eq!(kept[1].header("authorization"), Some("Bearer sk-test"));
    assert!(!format!("{kept:?}").contains("sk-test"));
    let shown = exchange::send(model.addr(), "GET", "/demo/requests?after=2", &[], b"").await;
    assert_eq!(shown.json()["requests"].as_array().unwrap().len(), 1);
    assert!(!shown.text().contains("sk-test"));
}

#[tokio::test]
async fn a_fixed_reply_is_given_to_all() {
    let options = ModelOptions { fixed_reply: Some("same".to_owned()), ..ModelOptions::default() };
    let model = Model::start(options).await.unwrap();
    assert_eq!(message(&post(&model, &ask("demo:status=500")).await)["content"], "same");
    assert_eq!(joined(&post(&model, &ask_stream("x")).await, 0, "/content"), "same");
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn shutdown_ends_what_hangs() {
    let model = model().await;
    let addr = model.addr();
    let body = ask("demo:hang").to_string();
    let mut stream = exchange::open(addr, "POST", "/v1/chat/completions", &[], body.as_bytes()).await;
    model.wait_for(WITHIN, |stats| stats.in_flight == 1).await.unwrap();
    model.shutdown().await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
