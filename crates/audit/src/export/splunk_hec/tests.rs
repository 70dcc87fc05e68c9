//! What Splunk is sent, and what each of its answers means.

use serde_json::{Value, json};

use super::*;
use crate::delivery::{Destination, SendOutcome};
use crate::export::bare_server::{BareServer, Seen, answer, json_answer, parcel, told};
use crate::export::{self, DestinationConfig, ExportConfig};
use crate::testing::{FakeClock, NOW_MS};

const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

fn export_with(more: Value) -> ExportConfig {
    let mut entry = json!({"destination": "splunk_hec", "endpoint": "https://splunk.example.com:8088", "token": TOKEN,
        "index": "ai_audit", "sourcetype": "policy:gateway:audit"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    export::parse(&entry, "exports[0]").unwrap()
}

fn config(more: Value) -> SplunkHec {
    match export_with(more).destination {
        DestinationConfig::SplunkHec(config) => config,
        other => panic!("{other:?}"),
    }
}

fn destination(server: &BareServer, more: Value) -> SplunkDestination {
    let config = config(json!({ "endpoint": server.url }));
    let more = match more {
        Value::Null => config,
        more => {
            let mut entry = more;
            entry["endpoint"] = json!(server.url);
            self::config(entry)
        }
    };
    SplunkDestination::new(more).unwrap()
}

fn success(ack_id: Option<u64>) -> String {
    let mut body = json!({"text": "Success", "code": 0});
    if let Some(id) = ack_id {
        body["ackId"] = json!(id);
    }
    json_answer("200 OK", &body)
}

#[tokio::test]
async fn a_body_is_what_splunk_documents() {
    let server = BareServer::always(success(None)).await;
    let destination = destination(&server, json!({"host": "gw-1"}));
    assert_eq!(destination.send(parcel(&destination, 7..=8)).await, SendOutcome::Delivered);
    let seen = server.seen().remove(0);
    assert!(seen.head.starts_with("POST /services/collector/event HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("authorization"), Some(format!("Splunk {TOKEN}").as_str()));
    assert_eq!(seen.header("content-encoding"), Some("gzip"));
    let channel = seen.header("x-splunk-request-channel").unwrap();
    assert!(uuid::Uuid::parse_str(channel).is_ok(), "{channel}");
    let text = seen.text();
    assert!(!text.starts_with('['), "objects one behind the other, no array");
    let events: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["event"]["event"]["seq"], 8);
    insta::assert_snapshot!("wire", text.lines().next().unwrap());
}

#[test]
fn the_contracts_names_are_kept_and_defaults_filled_in() {
    let config = config(json!({"index": null, "sourcetype": null}));
    assert_eq!(config.endpoint.as_str(), "https://splunk.example.com:8088/services/collector/event");
    assert_eq!((config.source.as_str(), config.index, config.ack), ("policy-gateway", None, AckMode::Auto));
    let given = self::config(json!({"endpoint": "https://s/splunk/services/collector/event/1.0"}));
    assert_eq!(given.endpoint.path(), "/splunk/services/collector/event/1.0");
    for (more, start) in [
        (
            json!({"endpoint": "https://s/services/collector/raw"}),
            "exports[0].endpoint: is the endpoint for raw text",
        ),
        (json!({"endpoint": "splunk"}), "exports[0].endpoint: is not a URL"),
        (json!({"token": ""}), "exports[0].token: the secret in the configuration is empty"),
        (json!({"compression": "zstd"}), "exports[0].compression: must be `gzip` or `identity`"),
        (json!({"ack": "maybe"}), "exports[0].ack: unknown value `maybe`"),
        (json!({"ack_timeout_seconds": 1}), "exports[0].ack_timeout_seconds: `1` is out of range"),
        (json!({"index": ""}), "exports[0].index: must be 1 to 256 characters"),
        (json!({"batch_bytes_max": 1}), "exports[0].batch_bytes_max: `1` is out of range"),
    ] {
        let mut entry = json!({"destination": "splunk_hec", "endpoint": "https://s:8088", "token": "t"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problems = export::parse(&entry, "exports[0]").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().starts_with(start), "{problems:?}");
    }
}

async fn outcome_of(answer: String, ack: &str) -> (String, String) {
    let server = BareServer::always(answer).await;
    let destination = destination(&server, json!({ "ack": ack }));
    told(&destination.send(parcel(&destination, 11..=15)).await)
}

#[tokio::test]
async fn each_code_has_its_meaning() {
    let said = |status: &str, code: i64| json_answer(status, &json!({"text": "words", "code": code}));
    let at = |code: i64, number: u64| {
        json_answer(
            "400 Bad Request",
            &json!({"text": "words", "code": code, "invalid-event-number": number}),
        )
    };
    for (answer, kind, part) in [
        (success(None), "delivered", ""),
        (success(Some(4)), "received 4", ""),
        (said("403 Forbidden", 1), "hold", "disabled"),
        (said("401 Unauthorized", 2), "hold", "no token arrived"),
        (said("401 Unauthorized", 3), "hold", "no token arrived"),
        (
            said("403 Forbidden", 4),
            "hold",
            "code 4 (words): it does not know the token from the configuration",
        ),
        (said("400 Bad Request", 5), "retry", "arrived empty"),
        (said("400 Bad Request", 6), "rejected", "cannot read an event"),
        (at(6, 2), "again [14, 15], dead [13], Retry(Some(0ns))", "cannot read an event"),
        (at(12, 0), "again [12, 13, 14, 15], dead [11], Retry(Some(0ns))", "missing or blank"),
        (at(13, 4), "again [], dead [15], Retry(Some(0ns))", "missing or blank"),
        (at(6, 99), "rejected", "cannot read an event"),
        (said("400 Bad Request", 7), "hold", "there is no index `ai_audit`"),
        (said("500 Oops", 8), "retry", "500"),
        (said("503 Busy", 9), "retry", "queues are full"),
        (said("400 Bad Request", 10), "hold", "channel"),
        (said("400 Bad Request", 11), "hold", "channel"),
        (said("429 Slow", 0), "retry", "fewer requests"),
        (answer("413 Too Large", "text/html", "<html>"), "too large", "413"),
        (answer("404 Not Found", "text/html", "<html>"), "hold", "/services/collector/event"),
        (answer("200 OK", "text/html", "<html>"), "hold", "200 with a body that is not JSON (`text/html`)"),
        (answer("200 OK", "application/json", "{}"), "hold", "which is not Splunk's answer"),
        (answer("400 Bad Request", "text/html", "<html>"), "hold", "whether a proxy answers"),
        (answer("303 See Other", "text/html", ""), "hold", "redirects"),
        (answer("502 Bad Gateway", "text/html", "<html>"), "retry", "502"),
        (String::new(), "retry", "broke off"),
    ] {
        let (found, why) = outcome_of(answer.clone(), "auto").await;
        assert_eq!(found, kind, "{answer}: {why}");
        assert!(why.contains(part), "{answer}: {why}");
        assert!(!why.contains(TOKEN));
    }
}

#[tokio::test]
async fn the_three_ways_to_count_as_delivered() {
    assert_eq!(outcome_of(success(Some(1)), "off").await.0, "delivered");
    assert_eq!(outcome_of(success(Some(1)), "required").await.0, "received 1");
    let (kind, why) = outcome_of(success(None), "required").await;
    assert_eq!(kind, "hold");
    assert!(why.contains("turn indexer acknowledgement on"), "{why}");
    let at = json_answer("400 Bad Request", &json!({"text": "w", "code": 6, "invalid-event-number": 2}));
    let (kind, _) = outcome_of(at, "required").await;
    assert_eq!(kind, "again [14, 15, 11, 12], dead [13], Retry(Some(0ns))", "nothing is taken on trust");
}

#[tokio::test]
async fn a_token_without_acknowledgement_is_used_without_a_channel() {
    let server = BareServer::new(|seen: &Seen| match seen.header("x-splunk-request-channel") {
        Some(_) => json_answer("400 Bad Request", &json!({"text": "ACK is disabled", "code": 14})),
        None => success(None),
    })
    .await;
    let auto = destination(&server, Value::Null);
    for seq in 1..=2 {
        assert_eq!(auto.send(parcel(&auto, seq..=seq)).await, SendOutcome::Delivered);
    }
    assert_eq!(server.seen().len(), 3, "it is found out once");
    let required = destination(&server, json!({"ack": "required"}));
    let (kind, why) = told(&required.send(parcel(&required, 1..=1)).await);
    assert!(kind == "hold" && why.contains("off for this token"), "{why}");
    let off = destination(&server, json!({"ack": "off"}));
    assert_eq!(off.send(parcel(&off, 1..=1)).await, SendOutcome::Delivered);
}

#[tokio::test]
async fn acknowledgements_are_asked_for_by_channel() {
    let server = BareServer::new(|seen: &Seen| {
        if seen.head.starts_with("POST /services/collector/ack?channel=") {
            json_answer("200 OK", &json!({"acks": {"3": true, "5": false}}))
        } else {
            success(Some(3))
        }
    })
    .await;
    let destination = destination(&server, Value::Null);
    destination.send(parcel(&destination, 1..=1)).await;
    let safe = destination.confirm(vec!["3".into(), "5".into(), "9".into()]).await.unwrap();
    assert_eq!(safe, [true, false, false]);
    let seen = server.seen();
    let channel = seen[0].header("x-splunk-request-channel").unwrap();
    assert!(seen[1].head.contains(&format!("channel={channel} ")), "{}", seen[1].head);
    assert_eq!(seen[1].text(), r#"{"acks":[3,5,9]}"#);
    let wrong =
        BareServer::always(json_answer("400 Bad Request", &json!({"text": "ACK is disabled", "code": 14})))
            .await;
    let destination = self::destination(&wrong, json!({"ack": "required"}));
    let why = destination.confirm(vec!["1".into()]).await.unwrap_err();
    assert!(why.contains("code 14 (ACK is disabled)"), "{why}");
}

#[tokio::test]
async fn a_test_waits_for_the_acknowledgement() {
    let server = BareServer::new(|seen: &Seen| {
        if seen.head.contains("/ack?") {
            json_answer("200 OK", &json!({"acks": {"0": true}}))
        } else {
            success(Some(0))
        }
    })
    .await;
    let export = export_with(json!({ "endpoint": server.url }));
    let report = export::test(&export, &*FakeClock::at(NOW_MS)).await.unwrap();
    assert_eq!(report.look_for, format!("index=ai_audit event_id={}", report.event_id));
    let sent: Value = serde_json::from_str(server.seen()[0].text().trim()).unwrap();
    assert_eq!(sent["fields"]["event_id"], report.event_id.to_string());
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn an_event_that_is_too_large_keeps_its_hash() {
    let mut event = crate::testing::example_event();
    event.denylist_hits = (0..90_000).map(|n| format!("denied term {n}")).collect();
    let event = crate::testing::stored(event, 7);
    let mut out = Vec::new();
    crate::export::body::Encode::encode(&HecEncoder::new(&config(json!({}))), &event, NOW_MS, &mut out)
        .unwrap();
    assert!(out.len() <= EVENT_BYTES_MAX);
    let sent: Value = serde_json::from_slice(&out).unwrap();
    let original: Value = serde_json::from_slice(&event.text).unwrap();
    assert_eq!(sent["event"]["audit"]["hash"], original["hash"]);
    assert_eq!(sent["event"]["policy"]["denylist_hits"]["truncated"], true);
}
