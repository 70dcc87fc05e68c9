//! Configuration, and what is put on the wire: read back here by the field numbers of the published schema, independently of
//! how it was written.

use std::sync::Arc;

use policy::Decision;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::body::{OtlpBody, unframe};
use super::encode::{Envelope, log_record};
use super::*;
use crate::delivery::{BodyBuilder, Push};
use crate::event::{AuditEvent, EventType, Outcome};
use crate::export::Kind;
use crate::export::test_server::gunzip;
use crate::outbox::StoredEvent;
use crate::testing::{example_event, stored};

pub(super) fn config(more: Value) -> Otlp {
    // The CLI does this at its start; the first test does it for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut entry = json!({"destination": "otlp", "endpoint": "http://collector:4318"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Otlp::read(&serde_json::from_value(entry).unwrap(), "x").unwrap()
}

/// A field's number, and its value as an integer or as bytes.
type Field = (u64, u64, Vec<u8>);

/// Fields of a message by number: what the schema's reader gets to see.
fn fields(mut rest: &[u8]) -> Vec<Field> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let (number, bytes) = match key & 7 {
            0 => (varint(&mut rest), Vec::new()),
            1 => {
                let (taken, more) = rest.split_at(8);
                rest = more;
                (u64::from_le_bytes(taken.try_into().unwrap()), Vec::new())
            }
            2 => {
                let length = varint(&mut rest) as usize;
                let (taken, more) = rest.split_at(length);
                rest = more;
                (0, taken.to_vec())
            }
            wire => panic!("wire type {wire}"),
        };
        found.push((key >> 3, number, bytes));
    }
    found
}

fn text(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).unwrap().into()
}

fn any_value(bytes: &[u8]) -> Value {
    let Some((kind, number, bytes)) = fields(bytes).pop() else { return Value::Null };
    match kind {
        1 => text(bytes),
        2 => (number == 1).into(),
        3 => (number as i64).into(),
        4 => f64::from_bits(number).into(),
        5 => fields(&bytes).into_iter().map(|(_, _, value)| any_value(&value)).collect(),
        6 => Value::Object(attributes(fields(&bytes).into_iter().map(|(_, _, bytes)| bytes))),
        kind => panic!("kind {kind}"),
    }
}

fn attributes(list: impl Iterator<Item = Vec<u8>>) -> Map<String, Value> {
    let mut map = Map::new();
    for attribute in list {
        let mut parts = fields(&attribute).into_iter();
        let (name, value) = (parts.next().unwrap().2, parts.next().unwrap().2);
        let before = map.insert(String::from_utf8(name).unwrap(), any_value(&value));
        assert_eq!(before, None, "an attribute stands there twice");
    }
    map
}

/// A `LogRecord` in JSON, by the schema's names.
fn read_record(bytes: &[u8]) -> Value {
    let (mut record, mut list) = (Map::new(), Vec::new());
    for (field, number, bytes) in fields(bytes) {
        let (name, value) = match field {
            1 => ("time_unix_nano", number.into()),
            2 => ("severity_number", number.into()),
            3 => ("severity_text", text(bytes)),
            5 => ("body", any_value(&bytes)),
            6 => {
                list.push(bytes);
                continue;
            }
            11 => ("observed_time_unix_nano", number.into()),
            12 => ("event_name", text(bytes)),
            field => panic!("field {field}"),
        };
        record.insert(name.into(), value);
    }
    record.insert("attributes".into(), Value::Object(attributes(list.into_iter())));
    Value::Object(record)
}

/// Resource, scope and records of an `ExportLogsServiceRequest`.
pub(super) fn read_request(bytes: &[u8]) -> (Map<String, Value>, Value, Vec<Value>) {
    let (resource_logs, rest) = only(bytes, 1);
    assert!(rest.is_empty());
    let (resource, rest) = only(&resource_logs, 1);
    assert_eq!(rest.len(), 1);
    let scope_logs = &rest[0].2;
    let resource = attributes(fields(&resource).into_iter().map(|(_, _, bytes)| bytes));
    let (scope, records) = only(scope_logs, 1);
    let scope = fields(&scope).into_iter().map(|(_, _, bytes)| text(bytes)).collect();
    (resource, scope, records.iter().map(|(_, _, bytes)| read_record(bytes)).collect())
}

/// The first field, which has this number, and the others.
fn only(bytes: &[u8], number: u64) -> (Vec<u8>, Vec<Field>) {
    let mut all = fields(bytes);
    let first = all.remove(0);
    assert_eq!(first.0, number);
    (first.2, all)
}

fn record_of(event: &StoredEvent) -> Value {
    let mut out = Vec::new();
    log_record(&event.text, &mut out).unwrap();
    let mut found = fields(&out);
    assert_eq!((found.len(), found[0].0), (1, 2));
    read_record(&found.remove(0).2)
}

#[test]
fn the_contracts_example_becomes_a_log_record() {
    insta::assert_json_snapshot!("example", record_of(&stored(example_event(), 7)));
}

#[test]
fn an_event_without_a_decision_has_no_empty_attributes() {
    let event = AuditEvent {
        reason_code: Some("USER_QUOTA_EXCEEDED".into()),
        ..AuditEvent::blank(Uuid::from_u128(9), EventType::Quota, "2026-01-16T18:22:11.000Z".into())
    };
    let record = record_of(&stored(event, 8));
    insta::assert_json_snapshot!("no_decision", record);
    assert!(record["attributes"].as_object().unwrap().values().all(|value| !value.is_null()));
}

#[test]
fn severity_follows_the_decision() {
    let with =
        |decision| AuditEvent { decision: Some(decision), reason_code: Some("X".into()), ..example_event() };
    let mut failed = with(Decision::Allow);
    failed.request.as_mut().unwrap().outcome = Some(Outcome::UpstreamError);
    for (event, number, text) in [
        (with(Decision::Allow), 9, "INFO"),
        (with(Decision::Rewrite), 10, "INFO2"),
        (with(Decision::Refuse), 13, "WARN"),
        (failed, 17, "ERROR"),
    ] {
        let record = record_of(&stored(event, 1));
        assert_eq!((&record["severity_number"], &record["severity_text"]), (&json!(number), &json!(text)));
    }
}

#[test]
fn every_value_of_the_stored_event_is_in_its_record() {
    let event = stored(example_event(), 7);
    let record = record_of(&event);
    let attributes = record["attributes"].as_object().unwrap();
    let leaves = |value: &Value| {
        let (mut leaves, mut open) = (Vec::new(), vec![value.clone()]);
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
    let mut expected = leaves(&serde_json::from_slice(&event.text).unwrap());
    // The id stands there a second time, under the name that readers drop duplicates by.
    expected.push(attributes["event.id"].to_string());
    expected.sort();
    assert_eq!(leaves(&record["attributes"]), expected);
    assert_eq!(attributes["log.record.uid"], attributes["event.id"]);
}

#[test]
fn what_is_no_event_is_unfit() {
    let config = config(json!({}));
    let mut body = OtlpBody::new(Arc::new(Envelope::new(&config.resource)), &config);
    for text in ["", "{}", "[1]", "{\"policy_id\":null}"] {
        let event = StoredEvent { seq: 1, text: text.into() };
        assert!(matches!(body.push(&event), Push::Unfit(_)), "{text}");
    }
    assert_eq!(body.push(&stored(example_event(), 1)), Push::Taken);
    let request = gunzip(&body.finish().unwrap().body);
    assert_eq!(read_request(&request).2.len(), 1);
}

#[test]
fn a_body_is_a_request_with_resource_scope_and_records() {
    for (protocol, compression) in [("http", "gzip"), ("http", "none"), ("grpc", "gzip"), ("grpc", "none")] {
        let config = config(json!({
            "protocol": protocol, "compression": compression, "endpoint": "http://collector",
            "resource": {"deployment.environment.name": "prod"}
        }));
        let mut body = OtlpBody::new(Arc::new(Envelope::new(&config.resource)), &config);
        for seq in 1..=3 {
            assert_eq!(body.push(&stored(example_event(), seq)), Push::Taken);
        }
        let encoded = body.finish().unwrap();
        let message = match protocol {
            "grpc" => {
                assert_eq!(encoded.body[0], u8::from(compression == "gzip"));
                let length = u32::from_be_bytes(encoded.body[1..5].try_into().unwrap());
                assert_eq!(length as usize, encoded.body.len() - 5);
                encoded.body[5..].to_vec()
            }
            _ => encoded.body.to_vec(),
        };
        let request = if compression == "gzip" { gunzip(&message) } else { message };
        assert_eq!(request.len() as u64, encoded.bytes_uncompressed);
        let (resource, scope, records) = read_request(&request);
        assert_eq!(
            Value::Object(resource),
            json!({"service.name": "policy-gateway", "service.version": env!("CARGO_PKG_VERSION"),
                "deployment.environment.name": "prod"})
        );
        assert_eq!(scope, json!(["policy-gateway.audit", env!("CARGO_PKG_VERSION")]));
        let seqs: Vec<_> = records.iter().map(|record| record["attributes"]["event.seq"].clone()).collect();
        assert_eq!(seqs, [1, 2, 3]);
    }
}

#[test]
fn a_full_body_takes_no_more_and_stays_below_its_size() {
    let config = config(json!({"batch_bytes_max": 10_000, "compression": "none", "batch_events_max": 1000}));
    let mut body = OtlpBody::new(Arc::new(Envelope::new(&config.resource)), &config);
    let taken = (1..1000).take_while(|seq| body.push(&stored(example_event(), *seq)) == Push::Taken).count();
    let encoded = body.finish().unwrap();
    assert!((2..50).contains(&taken), "{taken}");
    assert!((5000..=10_000).contains(&encoded.body.len()), "{}", encoded.body.len());
    assert_eq!(read_request(&encoded.body).2.len(), taken);
    let config = super::tests::config(json!({"batch_events_max": 2}));
    let mut body = OtlpBody::new(Arc::new(Envelope::new(&config.resource)), &config);
    let pushed: Vec<_> = (1..=3).map(|seq| body.push(&stored(example_event(), seq))).collect();
    assert_eq!(pushed, [Push::Taken, Push::Taken, Push::Full]);
}

#[test]
fn only_a_single_plain_message_is_taken_out_of_its_frame() {
    assert_eq!(unframe(b"\0\0\0\0\x02ab"), Some(&b"ab"[..]));
    assert_eq!(unframe(b"\0\0\0\0\0"), Some(&b""[..]));
    for other in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x02ab", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab"] {
        assert_eq!(unframe(other), None);
    }
}

#[test]
fn the_endpoint_gets_the_protocols_path() {
    let endpoint = |endpoint: &str, protocol: &str| {
        config(json!({"endpoint": endpoint, "protocol": protocol})).endpoint.to_string()
    };
    assert_eq!(endpoint("http://c:4318", "http"), "http://c:4318/v1/logs");
    assert_eq!(endpoint("https://c/otlp/v1/logs", "http"), "https://c/otlp/v1/logs");
    let method = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    assert_eq!(endpoint("http://c:4317/", "grpc"), format!("http://c:4317{method}"));
    assert_eq!(endpoint(&format!("http://c:4317{method}"), "grpc"), format!("http://c:4317{method}"));
}

#[test]
fn mistakes_are_named_with_their_path() {
    let wrong = |more: Value| {
        let mut entry = json!({"destination": "otlp", "endpoint": "http://collector:4318"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problems = crate::export::parse(&entry, "exports[0]").unwrap_err();
        problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (more, start) in [
        (json!({"endpoint": "collector:4318"}), "exports[0].endpoint: must be an http or https URL"),
        (
            json!({"endpoint": "http://c/v1/logs", "protocol": "grpc"}),
            "exports[0].endpoint: has the path `/v1/logs`",
        ),
        (json!({"endpoint": "http://u:hunter2@c"}), "exports[0].endpoint: must not hold a user or password"),
        (json!({"protocol": "udp"}), "exports[0].protocol: unknown value `udp`"),
        (
            json!({"headers": {"Content-Type": "x"}}),
            "exports[0].headers.Content-Type: is set by the protocol itself",
        ),
        (json!({"headers": {"a b": "x"}}), "exports[0].headers.a b: is not the name of an HTTP header"),
        (json!({"headers": {"x": "${"}}), "exports[0].headers.x: a secret that starts with `$`"),
        (json!({"headers": {"A": "x", "a": "y"}}), "exports[0].headers.a: is given twice"),
        (
            json!({"resource": {"service.name": "x"}}),
            "exports[0].resource.service.name: has a field of its own",
        ),
        (json!({"resource": {"a": ""}}), "exports[0].resource.a: must be 1 to 200 characters"),
        (json!({"service": ""}), "exports[0].service: must be 1 to 200 characters"),
        (json!({"batch_bytes_max": 20_000_001}), "exports[0].batch_bytes_max: `20000001` is out of range"),
        (json!({"site": "x"}), "exports[0].site: unknown field `site`"),
    ] {
        let found = wrong(more.clone());
        assert!(found.starts_with(start), "{more}: {found}");
        assert!(!found.contains("hunter2"));
    }
}
