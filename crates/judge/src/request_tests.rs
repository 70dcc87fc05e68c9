//! Which texts of a request are judged: every kind there is, from everyone, and from system and developer messages only
//! where the policy says so.

use bytes::Bytes;
use llm_api::chat::request::ChatRequest;
use policy::{Decision, Masker, PolicyDocument, Revision, Subject};
use serde_json::{Value, json};

/// Judges a message beside a harmless one, and gives what becomes of it.
fn judged(scan_system: bool, message: &Value) -> (policy::InputVerdict, Value) {
    let rules = json!({"denylist": ["napalm"], "redact": true, "response_pattern": "rewrite", "scan_system": scan_system});
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    let revision = Revision::compile(document, 1).unwrap();
    let body = json!({"model": "m", "messages": [message, {"role": "user", "content": "hello"}]}).to_string();
    let request = ChatRequest::parse(Bytes::from(body)).unwrap();
    let (verdict, texts) =
        crate::judge_request(&revision, &Subject::default(), &request, &mut Masker::new()).unwrap();
    let body: Value = serde_json::from_slice(&request.upstream_body(texts, None)).unwrap();
    (verdict, body["messages"][0].clone())
}

/// Every kind of text that a message can hold, with `X` where it stands.
fn kinds(role: &str) -> Vec<Value> {
    let arguments = |text: &str| {
        json!({"role": role, "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "mail", "arguments": text}},
        ]})
    };
    vec![
        json!({"role": role, "content": "say X now"}),
        json!({"role": role, "content": [{"type": "text", "text": "say X now"}]}),
        json!({"role": role, "content": [{"type": "input_text", "text": "say X now"}]}),
        json!({"role": role, "content": "fine", "name": "X"}),
        json!({"role": role, "content": "fine", "refusal": "not X"}),
        json!({"role": role, "content": "fine", "reasoning_content": "then X"}),
        json!({"role": role, "content": "fine", "vendor": {"note": ["one", "X"]}}),
        json!({"role": role, "tool_call_id": "call_1", "content": "{\"found\": \"X\"}"}),
        arguments("{\"to\": \"X\"}"),
        arguments("{\"list\": [{\"deep\": \"and X\"}]}"),
        arguments("{\"X\": 1}"),
        arguments("not JSON, X"),
        json!({"role": role, "content": null, "function_call": {"name": "X", "arguments": "{}"}}),
        json!({"role": role, "content": null, "function_call": {"name": "f", "arguments": "{\"a\": \"X\"}"}}),
    ]
}

fn with(message: &Value, text: &str) -> Value {
    serde_json::from_str(&message.to_string().replace('X', text)).unwrap()
}

#[test]
fn every_kind_of_text_is_judged_for_every_role() {
    for role in ["user", "assistant", "tool", "function", "vendor", "system", "developer"] {
        for message in kinds(role) {
            let denied = with(&message, "napalm");
            let (verdict, left) = judged(true, &denied);
            assert_eq!(verdict.decision, Decision::Rewrite, "{denied}");
            assert_eq!(verdict.denylist_hits, ["napalm".into()], "{denied}");
            assert!(!left.to_string().contains("napalm"), "{left}");
            let private = with(&message, "bob@example.com");
            let (verdict, left) = judged(true, &private);
            assert_eq!((verdict.decision, verdict.redactions.len()), (Decision::Allow, 1), "{private}");
            // In names without brackets: upstreams refuse them there.
            let is_name = message["name"] == "X" || message["function_call"]["name"] == "X";
            let placeholder = if is_name { "\"EMAIL_1\"" } else { "[EMAIL_1]" };
            assert!(left.to_string().contains(placeholder) && !left.to_string().contains("bob"), "{left}");
        }
    }
}

#[test]
fn a_name_that_is_cut_out_stays_a_name() {
    for (message, pointer) in [
        (json!({"role": "user", "content": "hi", "name": "napalm"}), "/name"),
        (
            json!({"role": "assistant", "function_call": {"name": "napalm", "arguments": "{}"}}),
            "/function_call/name",
        ),
        (
            json!({"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "napalm", "arguments": "{}"}}]}),
            "/tool_calls/0/function/name",
        ),
    ] {
        let (verdict, left) = judged(false, &message);
        assert_eq!(verdict.decision, Decision::Rewrite, "{message}");
        assert_eq!(left.pointer(pointer), Some(&json!("_")), "{left}");
    }
}

#[test]
fn system_and_developer_messages_are_read_only_where_the_policy_says_so() {
    for role in ["system", "developer"] {
        for message in kinds(role) {
            for text in ["napalm", "bob@example.com"] {
                let message = with(&message, text);
                let (verdict, left) = judged(false, &message);
                assert_eq!(verdict.decision, Decision::Allow, "{message}");
                assert!(verdict.denylist_hits.is_empty() && verdict.redactions.is_empty(), "{message}");
                assert_eq!(left, message);
            }
        }
    }
    for role in ["user", "assistant", "tool", "function", "vendor"] {
        for message in kinds(role) {
            let denied = with(&message, "napalm");
            assert_eq!(judged(false, &denied).0.decision, Decision::Rewrite, "{denied}");
        }
    }
}

/// What is made of a request of so many bytes: judged whole, whatever it consists of.
fn large(content: &Value) -> (policy::InputVerdict, String) {
    let rules =
        json!({"denylist": ["napalm", "credential theft"], "redact": true, "response_pattern": "rewrite"});
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
    let revision = Revision::compile(document, 1).unwrap();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": content}]}).to_string();
    let request = ChatRequest::parse(Bytes::from(body)).unwrap();
    let (verdict, texts) =
        crate::judge_request(&revision, &Subject::default(), &request, &mut Masker::new()).unwrap();
    (verdict, String::from_utf8(request.upstream_body(texts, None).to_vec()).unwrap())
}

#[test]
fn a_message_of_ten_megabytes_is_read_to_its_end() {
    let text = "an ordinary word ".repeat((10 << 20) / 17) + "napalm, bob@example.com";
    let (verdict, left) = large(&text.clone().into());
    assert_eq!(verdict.decision, Decision::Rewrite);
    assert!(verdict.scanned_bytes >= text.len() as u64);
    assert!(left.ends_with("an ordinary word , [EMAIL_1]\"}]}") && left.len() > 10 << 20);
}

#[test]
fn a_text_of_nothing_but_terms_is_no_more_work_than_it_is_long() {
    // In squares of their number these would take hours.
    let (verdict, left) = large(&"credential credential theft theft. ".repeat(60_000).into());
    assert_eq!(verdict.decision, Decision::Rewrite);
    assert!(!left.contains("credential") && left.contains(" . "));
    let parts = vec![json!({"type": "text", "text": "to a@b.example "}); 50_000];
    let (verdict, left) = large(&parts.into());
    assert_eq!(verdict.redactions.values().sum::<u64>(), 50_000);
    assert!(!left.contains('@'));
}
