//! Configuration, and what is put on the wire: exact objects as snapshots, the rules for time and size, and that the shipped
//! templates declare every column.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::encode::{BODY_BYTES_MAX, object};
use super::*;
use crate::delivery::{BodyBuilder, Destination, Push};
use crate::event::{AuditEvent, EventType, Gap};
use crate::export::Kind;
use crate::export::test_server::gunzip;
use crate::outbox::StoredEvent;
use crate::testing::{NOW_MS, example_event, stored};

const HOUR_MS: i64 = 3_600_000;

pub(super) fn entry(more: Value) -> Value {
    let mut entry = json!({
        "destination": "azure_monitor", "endpoint": "https://pg-x1.westeurope-1.ingest.monitor.azure.com",
        "dcr_id": "dcr-0123456789abcdef0123456789abcdef", "stream": "Custom-PolicyGateway_CL",
        "tenant_id": "11111111-2222-3333-4444-555555555555", "client_id": "app", "client_secret": "hunter2"
    });
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

pub(super) fn config(more: Value) -> AzureMonitor {
    // The CLI does this at its start; the first test does it for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    AzureMonitor::read(&serde_json::from_value(entry(more)).unwrap(), "x").unwrap()
}

fn wire_at(event: &StoredEvent, now_ms: i64) -> Value {
    let mut out = Vec::new();
    object(&event.text, now_ms, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn the_contracts_example_becomes_a_row() {
    insta::assert_json_snapshot!("example", wire_at(&stored(example_event(), 7), NOW_MS));
}

#[test]
fn an_event_without_a_decision_has_the_same_columns() {
    let event = AuditEvent {
        reason_code: Some("USER_QUOTA_EXCEEDED".into()),
        gap: Some(Gap { refused: 3, served: 0, since: "2026-01-16T18:20:00.000Z".into() }),
        ..AuditEvent::blank(uuid::Uuid::from_u128(9), EventType::Quota, "2026-01-16T18:22:11.000Z".into())
    };
    let row = wire_at(&stored(event, 8), NOW_MS);
    insta::assert_json_snapshot!("no_decision", row);
    let names: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>());
}

#[test]
fn every_value_of_the_stored_event_is_in_its_row() {
    let event = stored(example_event(), 7);
    let leaves = |value: Value| {
        let (mut leaves, mut open) = (Vec::new(), vec![value]);
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => open.extend(members.into_iter().map(|(_, value)| value)),
                Value::Null => {}
                value => leaves.push(value.to_string()),
            }
        }
        leaves.sort();
        leaves
    };
    let mut row: Map<String, Value> = serde_json::from_value(wire_at(&event, NOW_MS)).unwrap();
    for made in ["TimeGenerated", "Message", "Severity", "Late"] {
        assert!(row.remove(made).is_some());
    }
    assert_eq!(leaves(Value::Object(row)), leaves(serde_json::from_slice(&event.text).unwrap()));
}

#[test]
fn a_time_that_azure_would_replace_is_replaced_and_said_so() {
    let event = stored(example_event(), 7);
    for (offset, late) in [
        (0, false),
        (47 * HOUR_MS, false),
        (48 * HOUR_MS, true),
        (-23 * HOUR_MS, false),
        (-24 * HOUR_MS, true),
    ] {
        let now_ms = NOW_MS + offset;
        let row = wire_at(&event, now_ms);
        let generated: Timestamp = row["TimeGenerated"].as_str().unwrap().parse().unwrap();
        assert_eq!(row["Late"], late, "{offset}");
        assert_eq!(generated.as_millisecond(), if late { now_ms } else { NOW_MS }, "{offset}");
        assert_eq!(row["CreatedAt"], "2026-01-16T18:22:11.000Z");
    }
}

#[test]
fn what_azure_would_cut_is_replaced_by_its_digest() {
    let hits: Vec<String> = (0..9000).map(|index| format!("term {index}")).collect();
    let event = stored(AuditEvent { denylist_hits: hits, ..example_event() }, 7);
    let row = wire_at(&event, NOW_MS);
    assert_eq!(row["DenylistHits"]["truncated"], true);
    assert!(row["DenylistHits"]["bytes"].as_u64().unwrap() > 64_000);
    assert_eq!(row["AllowlistHits"], json!(["refund policy"]));
    let event = stored(AuditEvent { model: Some("m".repeat(70_000)), ..example_event() }, 7);
    // A string column keeps a string.
    let stub: Value = serde_json::from_str(wire_at(&event, NOW_MS)["Model"].as_str().unwrap()).unwrap();
    assert_eq!((&stub["truncated"], &stub["bytes"]), (&json!(true), &json!(70_000)));
}

#[test]
fn a_row_is_never_over_a_megabyte() {
    // Escapes make it six times as long on the wire.
    let wide = |c: &str| Some(c.repeat(59_000));
    let event = AuditEvent {
        policy_id: wide("\u{1}"),
        policy_user: wide("\u{2}"),
        project_id: wide("\u{3}"),
        policy_target: wide("\u{4}"),
        model: wide("\u{5}"),
        request_id: wide("x"),
        ..example_event()
    };
    let mut out = b"before".to_vec();
    object(&stored(event, 7).text, NOW_MS, &mut out).unwrap();
    assert!(out.len() <= BODY_BYTES_MAX + 4, "{}", out.len());
    let row: Value = serde_json::from_slice(&out[6..]).unwrap();
    assert_eq!(row["Decision"], "rewrite");
}

#[test]
fn a_body_is_an_array_below_a_megabyte() {
    let destination = AzureMonitorDestination::new(config(json!({"batch_events_max": 10_000}))).unwrap();
    let mut body = destination.begin(NOW_MS).unwrap();
    let taken = (1..).take_while(|seq| body.push(&stored(example_event(), *seq)) == Push::Taken).count();
    let encoded = body.finish().unwrap();
    let plain = gunzip(&encoded.body);
    assert!(plain.len() <= BODY_BYTES_MAX && plain.len() > BODY_BYTES_MAX - 10_000, "{}", plain.len());
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&plain).unwrap().len(), taken);
    let mut body = destination.begin(NOW_MS).unwrap();
    assert!(matches!(body.push(&StoredEvent { seq: 1, text: "{}".into() }), Push::Unfit(_)));
}

#[test]
fn the_shipped_templates_declare_every_column() {
    let read = |name: &str| -> Value {
        let path = format!("{}/../../deploy/azure/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let declared = |columns: &Value| -> Vec<(String, String)> {
        let columns = columns.as_array().unwrap().iter();
        columns
            .map(|column| (column["name"].as_str().unwrap().into(), column["type"].as_str().unwrap().into()))
            .collect()
    };
    let expected: Vec<(String, String)> =
        COLUMNS.iter().map(|column| (column.name.into(), column.kind.as_str().into())).collect();
    let template = read("template.json");
    let resources = template["resources"].as_array().unwrap();
    let of = |kind: &str| resources.iter().find(|resource| resource["type"] == kind).unwrap();
    let rule = of("Microsoft.Insights/dataCollectionRules");
    let stream = &rule["properties"]["streamDeclarations"]["Custom-PolicyGateway_CL"]["columns"];
    assert_eq!(declared(stream), expected);
    let table = &of("Microsoft.OperationalInsights/workspaces/tables")["properties"]["schema"]["columns"];
    let table: Vec<(String, String)> = declared(table)
        .into_iter()
        .map(|(name, kind)| (name, kind.replace("dateTime", "datetime")))
        .collect();
    assert_eq!(table, expected);
}

#[test]
fn the_endpoint_is_made_of_rule_and_stream() {
    let config = config(json!({}));
    assert_eq!(
        config.endpoint.as_str(),
        "https://pg-x1.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef\
         /streams/Custom-PolicyGateway_CL?api-version=2023-01-01"
    );
    let token = |more| super::tests::config(more).token_endpoint.to_string();
    let path = "11111111-2222-3333-4444-555555555555/oauth2/v2.0/token";
    assert_eq!(token(json!({})), format!("https://login.microsoftonline.com/{path}"));
    assert_eq!(token(json!({"cloud": "government"})), format!("https://login.microsoftonline.us/{path}"));
    assert_eq!(token(json!({"authority": "http://127.0.0.1:1/a/"})), format!("http://127.0.0.1:1/a/{path}"));
    assert_eq!(super::tests::config(json!({"cloud": "china"})).scope, "https://monitor.azure.cn/.default");
}

fn problems(entry: &Value) -> String {
    let problems = crate::export::parse(entry, "exports[0]").unwrap_err();
    problems
        .into_iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_workspace_keys_api_is_told_to_have_ended() {
    let old = json!({"destination": "azure_monitor", "workspace_id": "w", "shared_key": "hunter2", "log_type": "Policy"});
    let found = problems(&old);
    for field in ["workspace_id", "shared_key", "log_type"] {
        assert!(
            found.contains(&format!("exports[0].{field}: belongs to the HTTP Data Collector API")),
            "{found}"
        );
    }
    assert!(
        found.contains("ended in September 2026")
            && found.contains("`dcr_id`")
            && !found.contains("is missing")
    );
    let host =
        entry(json!({"endpoint": "https://w.ods.opinsights.azure.com/api/logs?api-version=2016-04-01"}));
    assert!(problems(&host).starts_with("exports[0].endpoint: belongs to the HTTP Data Collector API"));
}

#[test]
fn mistakes_are_named_with_their_path() {
    for (more, start) in [
        (json!({"dcr_id": "my-rule"}), "exports[0].dcr_id: is not an immutable id"),
        (json!({"dcr_id": null}), "exports[0].dcr_id: required field `dcr_id` is missing"),
        (json!({"stream": "PolicyGateway_CL"}), "exports[0].stream: is not a stream of a rule"),
        (json!({"endpoint": "https://x/dataCollectionRules"}), "exports[0].endpoint: must not hold a path"),
        (json!({"tenant_id": "a/b"}), "exports[0].tenant_id: is not a directory"),
        (json!({"client_secret": "${"}), "exports[0].client_secret: a secret that starts with `$`"),
        (json!({"client_id": ""}), "exports[0].client_id: must be 1 to 200 characters"),
        (json!({"cloud": "germany"}), "exports[0].cloud: unknown value `germany`"),
        (json!({"batch_bytes_max": 1_000_001}), "exports[0].batch_bytes_max: `1000001` is out of range"),
    ] {
        let found = problems(&entry(more.clone()));
        assert!(found.starts_with(start), "{more}: {found}");
        assert!(!found.contains("hunter2"));
    }
    let nothing = problems(&json!({"destination": "azure_monitor"}));
    assert_eq!(nothing.lines().count(), 6, "{nothing}");
}
