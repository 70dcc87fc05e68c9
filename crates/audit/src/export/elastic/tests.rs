//! What the cluster is sent, and what its answers mean, for the whole and for each item.

use serde_json::{Value, json};

use super::*;
use crate::delivery::{Destination, SendOutcome};
use crate::export::bare_server::{BareServer, answer, json_answer, parcel, told};
use crate::export::{self, DestinationConfig};
use crate::testing::{NOW_MS, example_event};

const KEY: &str = "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==";

fn read(more: Value) -> Result<Elastic, Vec<policy::problems::Problem>> {
    let mut entry = json!({"destination": "elastic", "endpoint": "https://elastic.example.com:9200", "api_key": KEY,
        "dataset": "policy_gateway.audit", "namespace": "prod"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    export::parse(&entry, "exports[0]").map(|export| match export.destination {
        DestinationConfig::Elastic(config) => config,
        other => panic!("{other:?}"),
    })
}

fn destination(server: &BareServer, more: Value) -> ElasticDestination {
    let mut entry = more;
    entry["endpoint"] = json!(server.url);
    ElasticDestination::new(read(entry).unwrap()).unwrap()
}

fn items(statuses: &[(u16, &str)]) -> String {
    let item = |(status, kind): &(u16, &str)| match *kind {
        "" => json!({"create": {"_index": ".ds-x", "_id": "i", "status": status, "result": "created"}}),
        kind => json!({"create": {"_index": ".ds-x", "_id": "i", "status": status,
            "error": {"type": kind, "reason": "failed to parse field [policy.policy_user] of 'user-12345'"}}}),
    };
    let items: Vec<Value> = statuses.iter().map(item).collect();
    let errors = statuses.iter().any(|(status, _)| *status > 299);
    json_answer("200 OK", &json!({"took": 3, "errors": errors, "items": items}))
}

#[tokio::test]
async fn a_body_is_what_a_data_stream_takes() {
    let server = BareServer::always(items(&[(201, ""), (201, "")])).await;
    let destination = destination(&server, json!({"wait_for_active_shards": 2}));
    assert_eq!(destination.send(parcel(&destination, 7..=8)).await, SendOutcome::Delivered);
    let seen = server.seen().remove(0);
    assert!(seen.head.starts_with("POST /_bulk?wait_for_active_shards=2 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("authorization"), Some(format!("ApiKey {KEY}").as_str()));
    assert_eq!(seen.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(seen.header("content-encoding"), Some("gzip"));
    let text = seen.text();
    assert!(text.ends_with("}\n"), "the last line is ended");
    assert_eq!(text.lines().count(), 4);
    for line in text.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    let action: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        action,
        json!({"create": {"_index": "logs-policy_gateway.audit-prod", "_id": example_event().event_id}})
    );
    insta::assert_snapshot!("wire", text.lines().take(2).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_configuration_is_checked() {
    let config = read(json!({"dataset": null, "namespace": null})).unwrap();
    assert_eq!(config.endpoint.as_str(), "https://elastic.example.com:9200/_bulk");
    assert_eq!(config.data_stream(), "logs-policy_gateway.audit-prod");
    let behind = read(json!({"endpoint": "https://a/elastic/"})).unwrap();
    assert_eq!(behind.endpoint.path(), "/elastic/_bulk");
    let basic = read(json!({"api_key": null, "username": "gw", "password": "$OS_PASSWORD"})).unwrap();
    assert!(matches!(basic.auth, ElasticAuth::Basic { .. }));
    for (more, start) in [
        (json!({"api_key": null}), "exports[0].api_key: is missing"),
        (json!({"username": "a"}), "exports[0].username: contradicts `api_key`"),
        (json!({"api_key": null, "username": "a"}), "exports[0].password: is missing"),
        (json!({"api_key": null, "password": "a"}), "exports[0].username: is missing"),
        (json!({"dataset": "a-b"}), "exports[0].dataset: must be 1 to 100 of the characters"),
        (json!({"namespace": "Prod"}), "exports[0].namespace: must be 1 to 100 of the characters"),
        (json!({"wait_for_active_shards": "some"}), "exports[0].wait_for_active_shards: must be a number"),
        (json!({"compression": "zstd"}), "exports[0].compression: must be `gzip` or `identity`"),
    ] {
        let problems = read(more.clone()).unwrap_err();
        assert!(problems[0].to_string().starts_with(start), "{more}: {problems:?}");
    }
}

#[tokio::test]
async fn basic_authentication_is_what_opensearch_takes() {
    let server = BareServer::always(items(&[(201, "")])).await;
    let more = json!({"api_key": null, "username": "gw", "password": "hunter2"});
    let destination = destination(&server, more);
    assert_eq!(destination.send(parcel(&destination, 1..=1)).await, SendOutcome::Delivered);
    assert_eq!(server.seen()[0].header("authorization"), Some("Basic Z3c6aHVudGVyMg=="));
}

async fn outcome_of(answer: String) -> (String, String) {
    let server = BareServer::always(answer).await;
    let destination = destination(&server, json!({}));
    told(&destination.send(parcel(&destination, 11..=13)).await)
}

#[tokio::test]
async fn each_item_is_judged_by_itself() {
    for (statuses, kind, part) in [
        ([(201, ""), (201, ""), (201, "")], "delivered", ""),
        ([(201, ""), (409, "version_conflict_engine_exception"), (201, "")], "delivered", ""),
        (
            [(201, ""), (429, "es_rejected_execution_exception"), (503, "unavailable_shards_exception")],
            "again [12, 13], dead [], Retry(None)",
            "429 (es_rejected_execution_exception)",
        ),
        (
            [(400, "document_parsing_exception"), (201, ""), (429, "es_rejected_execution_exception")],
            "again [13], dead [11], Retry(None)",
            "400 (document_parsing_exception) for a document: the document does not fit the mapping",
        ),
        (
            [(403, "security_exception"), (201, ""), (201, "")],
            "again [11], dead [], Hold",
            "it needs `auto_configure` and `create_doc`",
        ),
        (
            [(403, "cluster_block_exception"), (201, ""), (201, "")],
            "again [11], dead [], Hold",
            "blocked for writing",
        ),
        (
            [
                (404, "index_not_found_exception"),
                (404, "index_not_found_exception"),
                (404, "index_not_found_exception"),
            ],
            "again [11, 12, 13], dead [], Hold",
            "add an index template",
        ),
    ] {
        let (found, why) = outcome_of(items(&statuses)).await;
        assert_eq!(found, kind, "{why}");
        assert!(why.contains(part), "{why}");
        assert!(!why.contains("user-12345"), "what the cluster quotes of a document stays out: {why}");
    }
}

#[tokio::test]
async fn each_answer_to_the_whole_has_its_meaning() {
    let refused = |status: &str, kind: &str, reason: &str| {
        json_answer(
            status,
            &json!({"error": {"root_cause": [], "type": kind, "reason": reason}, "status": 0}),
        )
    };
    for (answer, kind, part) in [
        (
            refused("401 Unauthorized", "security_exception", "unable to authenticate"),
            "hold",
            "check `api_key`",
        ),
        (
            refused("403 Forbidden", "security_exception", "action is unauthorized"),
            "hold",
            "may not write to `logs-",
        ),
        (refused("404 Not Found", "index_not_found_exception", "no such index"), "hold", "no `_bulk` here"),
        (
            refused("400 Bad Request", "illegal_argument_exception", "Malformed action"),
            "rejected",
            "illegal_argument",
        ),
        (refused("413 Too Large", "circuit", "too large"), "too large", "413"),
        (refused("429 Busy", "es_rejected_execution_exception", "queue"), "retry", "429"),
        (refused("503 Down", "master_not_discovered_exception", "none"), "retry", "503"),
        (answer("413 Request Entity Too Large", "text/html", "<html>"), "too large", "413"),
        (answer("400 Bad Request", "text/html", "<html>"), "hold", "no cluster's answer"),
        (answer("200 OK", "text/html", "<html>"), "hold", "200 with a body that is not JSON (`text/html`)"),
        (json_answer("200 OK", &json!({"name": "node-1"})), "hold", "other JSON"),
        (items(&[(201, "")]), "hold", "1 items for 3 events"),
        (answer("302 Found", "text/html", ""), "hold", "redirects"),
        (answer("504 Late", "text/html", ""), "retry", "504"),
        (String::new(), "retry", "broke off"),
    ] {
        let (found, why) = outcome_of(answer.clone()).await;
        assert_eq!(found, kind, "{answer}: {why}");
        assert!(why.contains(part), "{answer}: {why}");
        assert!(!why.contains(KEY));
    }
}

#[test]
fn an_event_without_a_readable_time_gets_the_time_of_sending() {
    let mut event = example_event();
    event.created_at = "soon".into();
    let event = crate::testing::stored(event, 7);
    let mut out = Vec::new();
    let encoder = BulkEncoder::new(&read(json!({})).unwrap());
    crate::export::body::Encode::encode(&encoder, &event, NOW_MS, &mut out).unwrap();
    let document = String::from_utf8(out).unwrap();
    assert!(
        document.lines().nth(1).unwrap().starts_with("{\"@timestamp\":\"2026-01-16T18:22:11.000Z\""),
        "{document}"
    );
}
