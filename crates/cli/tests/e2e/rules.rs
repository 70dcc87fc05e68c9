//! Rules by the call they meet: overrides for a term and a target, reason codes of a policy's own, and content that cannot
//! be read.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Setup, ask};

#[tokio::test]
async fn an_override_decides_by_term_and_target_and_gives_its_code() {
    let rig = Setup::rules(json!({
        "denylist": ["napalm", "competitor"],
        "overrides": [
            {"term": "napalm", "action": "allow", "targets": ["lab"]},
            {"term": "napalm", "reason_code": "WEAPONS"},
            {"term": "competitor", "action": "rewrite", "reason_code": "COMPETITOR"},
        ],
    }))
    .start()
    .await;
    let refused = rig.send(rig.post("/v1/chat/completions", &ask("napalm, competitor"))).await;
    assert_eq!(refused.header("x-policy-decision"), "refuse");
    assert_eq!(refused.header("x-policy-reason-code"), "WEAPONS");
    let log = rig.log_of(&refused).await;
    assert_eq!(log["policy"]["reason_code"], "WEAPONS");
    assert_eq!(log["policy"]["denylist_hits"], json!(["napalm", "competitor"]));
    let in_lab = rig.post("/v1/chat/completions", &ask("napalm facts")).header("x-policy-target", "lab");
    let allowed = rig.send(in_lab).await;
    assert_eq!(allowed.header("x-policy-decision"), "allow");
    assert!(allowed.content().contains("napalm facts"), "{}", allowed.text);
    assert_eq!(rig.log_of(&allowed).await["policy"]["denylist_hits"], json!(["napalm"]));

    // A stream goes on or ends by the rule that is hit.
    let masked = rig.stream(r#"demo:say="ask a comp\u0065titor instead" demo:chunk=4"#).await;
    assert_eq!(masked.streamed("content"), "ask a ███ instead");
    assert_eq!(masked.finish_reasons(), ["stop"]);
    let log = rig.log_of(&masked).await;
    assert_eq!(
        (&log["policy"]["decision"], &log["policy"]["reason_code"]),
        (&json!("rewrite"), &json!("COMPETITOR"))
    );
    let ended = rig.stream(r#"demo:say="a comp\u0065titor has n\u0061palm and more" demo:chunk=4"#).await;
    assert_eq!(ended.streamed("content"), "a ███ has ");
    assert_eq!(ended.finish_reasons(), ["content_filter"]);
    assert_eq!(rig.log_of(&ended).await["policy"]["reason_code"], "WEAPONS");
}

#[tokio::test]
async fn what_cannot_be_read_is_on_the_event_and_is_kept_back_where_the_policy_says_so() {
    let body = json!({"model": "demo-model", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]}]});
    let rig = Setup::rules(json!({})).start().await;
    let passed = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(passed.status, StatusCode::OK, "{}", passed.text);
    assert_eq!(rig.model.requests().last().unwrap().body.clone(), body.to_string().as_bytes());
    let log = rig.log_of(&passed).await;
    assert_eq!(log["event"]["scan"]["unscanned"], json!({"image": 2, "file": 1}));

    let rig = Setup::rules(json!({"unscannable": "refuse"})).start().await;
    let refused = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(refused.header("x-policy-decision"), "refuse");
    assert_eq!(refused.header("x-policy-reason-code"), "REFUSE");
    assert!(rig.model.requests().is_empty(), "the model is not called");
    let log = rig.log_of(&refused).await;
    assert_eq!(log["event"]["scan"]["unscanned"], json!({"image": 2, "file": 1}));
    let fine = rig.chat("hello there").await;
    assert_eq!(fine.header("x-policy-decision"), "allow");
    assert!(rig.log_of(&fine).await["event"]["scan"].get("unscanned").is_none());
}
