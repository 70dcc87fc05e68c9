//! What is put on the wire: exact bodies as snapshots, the rules for message, status, tags, time and size, and the proof
//! that nothing of a stored event is lost on the way.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use policy::Decision;
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::*;
use crate::delivery::{BodyBuilder, Push};
use crate::event::{AuditEvent, EventType, Gap, Outcome, RolloutMode, Scan, Stage, Usage, hex};
use crate::export::compress::Compression;
use crate::outbox::StoredEvent;
use crate::stored::POLICY_FIELDS;
use crate::testing::{NOW_MS, example_event, stored};

const HOUR_MS: i64 = 3_600_000;

fn encoder() -> LogEncoder {
    LogEncoder::new("policy-gateway", "policy-gateway", &["env:prod".into(), "team:platform".into()])
}

fn wire_at(event: &StoredEvent, now_ms: i64) -> String {
    let mut log = Vec::new();
    encoder().encode(&event.text, now_ms, &mut log).unwrap();
    String::from_utf8(log).unwrap()
}

fn wire(event: AuditEvent) -> Value {
    serde_json::from_str(&wire_at(&stored(event, 7), NOW_MS)).unwrap()
}

fn blank(event_type: EventType) -> AuditEvent {
    AuditEvent::blank(Uuid::from_u128(9), event_type, "2026-01-16T18:22:11.000Z".into())
}

/// Members of an object in their order, values as they are written: parsing a number may change its last digit.
struct Written<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Written<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Written<'a>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Written(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl<'a> Written<'a> {
    fn of(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap()
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(at).1.get())
    }

    fn object(&mut self, name: &str) -> Self {
        Self::of(self.take(name).unwrap())
    }

    fn push(&mut self, name: &'a str, value: Option<&'a str>) {
        let value: Option<&RawValue> = value.map(|value| serde_json::from_str(value).unwrap());
        self.0.extend(value.map(|value| (name, value)));
    }

    fn text(&self) -> String {
        let members = self.0.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

/// The stored text, put together again from a log; independent of how the encoder takes it apart.
fn rebuilt(log: &str) -> String {
    let mut log = Written::of(log);
    let (mut text, mut event, mut audit) = (log.object("policy"), log.object("event"), log.object("audit"));
    text.push("event_id", event.take("id"));
    text.push("event_type", event.take("type"));
    let seq = event.take("seq");
    assert!(event.take("time").is_some() && event.take("late").is_some());
    text.0.append(&mut event.0);
    text.push("usage", log.take("usage"));
    text.push("request", log.take("request"));
    text.push("decision_hash", audit.take("decision_hash"));
    text.push("chain", audit.take("chain"));
    text.push("seq", seq);
    text.0.append(&mut audit.0);
    text.text()
}

fn text_of(event: &StoredEvent) -> &str {
    std::str::from_utf8(&event.text).unwrap()
}

#[test]
fn the_contracts_example_is_on_the_wire_as_the_contract_has_it() {
    let log = wire_at(&stored(example_event(), 7), NOW_MS);
    insta::assert_snapshot!("example", log);
    let contract = concat!(
        r#"{"message":"policy decision: rewrite","service":"policy-gateway","ddsource":"policy-gateway","#,
        r#""ddtags":"env:prod,team:platform,project:support-bot,data_classification:confidential","#,
        r#""policy":{"policy_id":"support-guardrails","decision":"rewrite","effective_decision":"rewrite","#,
        r#""reason_code":"REWRITE","policy_user":"user-12345","project_id":"support-bot","#,
        r#""policy_target":"support-bot","rollout_mode":"enforced","enforced":true,"#,
        r#""triggered_categories":["self-harm/intent"],"allowlist_hits":["refund policy"],"denylist_hits":[],"#,
        r#""model":"abliterated-model","created_at":"2026-01-16T18:22:11.000Z"},"event":{"#
    );
    assert!(log.starts_with(contract), "{log}");
}

#[test]
fn an_event_without_a_decision_has_the_same_shape() {
    let event = AuditEvent {
        reason_code: Some("USER_QUOTA_EXCEEDED".into()),
        gap: Some(Gap { refused: 3, served: 0, since: "2026-01-16T18:20:00.000Z".into() }),
        ..blank(EventType::Quota)
    };
    insta::assert_snapshot!("no_decision", wire_at(&stored(event, 8), NOW_MS));
}

#[test]
fn a_late_event_keeps_its_true_time_beside_the_timestamp() {
    insta::assert_snapshot!("late", wire_at(&stored(example_event(), 7), NOW_MS + 19 * HOUR_MS));
}

#[test]
fn policy_holds_exactly_the_fourteen_keys_in_order() {
    for event in [example_event(), blank(EventType::Heartbeat)] {
        let log = wire(event);
        let keys: Vec<_> = log["policy"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, POLICY_FIELDS);
        assert_eq!(
            log.as_object().unwrap().keys().collect::<Vec<_>>(),
            [
                "message",
                "service",
                "ddsource",
                "ddtags",
                "policy",
                "event",
                "request",
                "usage",
                "audit",
                "timestamp",
                "status"
            ]
        );
    }
}

#[test]
fn message_and_status_follow_the_decision() {
    let with = |decision, reason: &str| AuditEvent {
        decision: Some(decision),
        reason_code: Some(reason.into()),
        ..example_event()
    };
    let outcome = |outcome| {
        let mut event = with(Decision::Allow, "ALLOW");
        event.request.as_mut().unwrap().outcome = Some(outcome);
        event
    };
    let reason =
        |event_type, reason: &str| AuditEvent { reason_code: Some(reason.into()), ..blank(event_type) };
    for (event, message, status) in [
        (with(Decision::Allow, "ALLOW"), "policy decision: allow", "info"),
        (with(Decision::Allow, "REDACT"), "policy decision: allow", "notice"),
        (with(Decision::Rewrite, "REWRITE"), "policy decision: rewrite", "notice"),
        (with(Decision::Summary, "SUMMARY"), "policy decision: summary", "notice"),
        (with(Decision::Escalate, "ESCALATE"), "policy decision: escalate", "warn"),
        (with(Decision::Refuse, "REFUSE"), "policy decision: refuse", "warn"),
        (outcome(Outcome::UpstreamError), "policy decision: allow", "error"),
        (outcome(Outcome::Interrupted), "policy decision: allow", "error"),
        (outcome(Outcome::ClientGone), "policy decision: allow", "info"),
        (reason(EventType::Quota, "USER_QUOTA_EXCEEDED"), "policy quota: USER_QUOTA_EXCEEDED", "warn"),
        (reason(EventType::Error, "model_not_found"), "policy error: model_not_found", "error"),
        (reason(EventType::Error, "a\"b"), "policy error: request failed", "error"),
        (blank(EventType::Gap), "policy gap: log could not be written", "error"),
        (blank(EventType::Heartbeat), "policy heartbeat: alive", "info"),
        (blank(EventType::Checkpoint), "policy checkpoint: log head signed", "info"),
        (blank(EventType::Admin), "policy admin: configuration changed", "notice"),
        (blank(EventType::Revision), "policy revision: revision changed", "notice"),
        (blank(EventType::Rollback), "policy rollback: candidate rolled back", "warn"),
        (blank(EventType::Simulation), "policy simulation: simulated", "info"),
    ] {
        let log = wire(event);
        assert_eq!((log["message"].as_str(), log["status"].as_str()), (Some(message), Some(status)));
    }
}

#[test]
fn tags_end_with_project_and_classification_where_set() {
    let tags = |project: Option<&str>, class: Option<&str>, encoder: &LogEncoder| {
        let event = AuditEvent {
            project_id: project.map(Into::into),
            data_classification: class.map(Into::into),
            ..example_event()
        };
        let mut log = Vec::new();
        encoder.encode(&stored(event, 1).text, NOW_MS, &mut log).unwrap();
        let log: Value = serde_json::from_slice(&log).unwrap();
        log["ddtags"].as_str().unwrap().to_owned()
    };
    let (with, without) = (encoder(), LogEncoder::new("s", "d", &[]));
    assert_eq!(tags(Some("Support Bot"), None, &with), "env:prod,team:platform,project:support_bot");
    assert_eq!(
        tags(Some("a,b\"\u{1}"), Some("TOP/Secret:"), &without),
        "project:a_b__,data_classification:top/secret"
    );
    assert_eq!(tags(None, Some("x"), &without), "data_classification:x");
    assert_eq!(tags(None, None, &without), "");
    assert_eq!(tags(Some(""), None, &with), "env:prod,team:platform");
    assert_eq!(tags(Some(&"p".repeat(300)), None, &without).len(), 200);
}

#[test]
fn the_time_is_the_events_own_from_seventeen_and_a_half_hours_past_to_one_and_a_half_ahead() {
    let event = stored(example_event(), 7);
    for (now_ms, late) in [
        (NOW_MS, false),
        (NOW_MS + 17 * HOUR_MS + HOUR_MS / 2, false),
        (NOW_MS + 17 * HOUR_MS + HOUR_MS / 2 + 1, true),
        (NOW_MS + 24 * 365 * HOUR_MS, true),
        (NOW_MS - HOUR_MS, false),
        (NOW_MS - 3 * HOUR_MS / 2, false),
        (NOW_MS - 3 * HOUR_MS / 2 - 1, true),
    ] {
        let log: Value = serde_json::from_str(&wire_at(&event, now_ms)).unwrap();
        let timestamp = if late { now_ms } else { NOW_MS };
        assert_eq!(
            (log["timestamp"].as_i64(), log["event"]["late"].as_bool()),
            (Some(timestamp), Some(late))
        );
        assert_eq!(log["event"]["time"], "2026-01-16T18:22:11.000Z");
    }
    let odd = AuditEvent { created_at: "soon".into(), ..example_event() };
    assert_eq!(
        (&wire(odd.clone())["timestamp"], &wire(odd)["event"]["late"]),
        (&json!(NOW_MS), &json!(true))
    );
}

#[test]
fn an_oversize_event_loses_its_largest_fields_to_their_digests() {
    let mut event = example_event();
    event.denylist_hits = (0..90_000).map(|n| format!("denied term {n}")).collect();
    event.allowlist_hits = vec!["x".repeat(300_000)];
    let event = stored(event, 7);
    let log = wire_at(&event, NOW_MS);
    assert!(log.len() <= LOG_BYTES_MAX, "{}", log.len());
    let log: Value = serde_json::from_str(&log).unwrap();
    let original: Value = serde_json::from_slice(&event.text).unwrap();
    let hits = serde_json::to_string(&original["denylist_hits"]).unwrap();
    let digest: [u8; 32] = Sha256::digest(hits.as_bytes()).into();
    assert_eq!(
        log["policy"]["denylist_hits"],
        json!({"truncated": true, "sha256": hex(&digest), "bytes": hits.len()})
    );
    assert_eq!(log["policy"]["allowlist_hits"], original["allowlist_hits"], "one was enough");
    assert_eq!(log["audit"]["hash"], original["hash"]);
    assert_eq!(log["policy"].as_object().unwrap().keys().collect::<Vec<_>>(), POLICY_FIELDS);
}

#[test]
fn a_text_that_is_no_event_is_unfit_and_leaves_nothing_behind() {
    let good = stored(example_event(), 7);
    let good = text_of(&good);
    let mut cases = vec![String::new(), "{}".into(), "null".into(), "{\"policy_id\":".into()];
    cases.push(good.replacen("\"decision\":", "\"verdict\":", 1));
    cases.push(good.replacen("\"event_id\":", "\"id\":", 1));
    cases.push(good.replacen(",\"hash\":", ",\"hush\":", 1));
    cases.push(format!("{good} "));
    cases.push(good.get(..good.len() - 1).unwrap().to_owned());
    for text in cases {
        let mut log = b"before".to_vec();
        assert_eq!(
            encoder().encode(text.as_bytes(), NOW_MS, &mut log),
            Err(EncodeError::Malformed),
            "{text}"
        );
        assert_eq!(log, b"before");
    }
    assert_eq!(encoder().encode(b"\xff{}", NOW_MS, &mut Vec::new()), Err(EncodeError::Malformed));
}

fn config(compression: Compression, batch_events_max: usize, batch_bytes_max: usize) -> DatadogLogs {
    let entry = json!({"destination": "datadog_logs", "site": "datadoghq.eu", "api_key": "k"});
    let raw: RawDatadogLogs = serde_json::from_value(entry).unwrap();
    DatadogLogs { compression, batch_events_max, batch_bytes_max, ..raw.validate("").unwrap() }
}

fn inflated(compression: Compression, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match compression {
        Compression::Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut text),
        Compression::Deflate => flate2::read::ZlibDecoder::new(body).read_to_end(&mut text),
        Compression::Zstd => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut text),
        Compression::Identity => {
            text.extend_from_slice(body);
            Ok(0)
        }
    }
    .unwrap();
    text
}

#[test]
fn every_compression_gives_the_same_array_back() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::Deflate, Compression::Identity] {
        let config = config(compression, 1000, 5_000_000);
        let mut body = body(Arc::new(encoder()), &config, NOW_MS).unwrap();
        for seq in 1..=500 {
            assert_eq!(body.push(&stored(example_event(), seq)), Push::Taken);
        }
        let encoded = body.finish().unwrap();
        let text = inflated(compression, &encoded.body);
        assert_eq!(text.len() as u64, encoded.bytes_uncompressed);
        let logs: Vec<Value> = serde_json::from_slice(&text).unwrap();
        assert_eq!(logs.len(), 500);
        assert_eq!(logs[499]["event"]["seq"], 500);
        if compression != Compression::Identity {
            assert!(encoded.body.len() * 4 < text.len(), "{compression:?}: {}", encoded.body.len());
        }
    }
}

#[test]
fn a_body_is_full_at_its_measured_bytes_and_its_count() {
    let event = stored(example_event(), 1);
    let size = wire_at(&event, NOW_MS).len();
    for (events_max, bytes_max, fits) in [
        (3, 5_000_000, 3),
        // Brackets and commas count.
        (1000, 4 * size + 5, 4),
        (1000, 4 * size + 4, 3),
        // Alone, an event always fits.
        (1000, 10, 1),
    ] {
        let config = config(Compression::Identity, events_max, bytes_max);
        let mut body = body(Arc::new(encoder()), &config, NOW_MS).unwrap();
        let taken =
            std::iter::repeat_with(|| body.push(&event)).take_while(|push| *push == Push::Taken).count();
        assert_eq!(taken, fits);
        assert_eq!(body.push(&event), Push::Full);
        let encoded = body.finish().unwrap();
        assert_eq!(encoded.body.len() as u64, encoded.bytes_uncompressed);
        assert!(fits == 1 || encoded.body.len() <= bytes_max);
    }
}

#[test]
fn an_unfit_event_does_not_spoil_the_body() {
    let mut body =
        body(Arc::new(encoder()), &config(Compression::Identity, 1000, 5_000_000), NOW_MS).unwrap();
    let bad = StoredEvent { seq: 1, text: "{".into() };
    assert_eq!(body.push(&bad), Push::Unfit("the stored text is not an audit event".into()));
    assert_eq!(body.push(&stored(example_event(), 2)), Push::Taken);
    assert_eq!(body.push(&bad), Push::Unfit("the stored text is not an audit event".into()));
    let logs: Vec<Value> = serde_json::from_slice(&body.finish().unwrap().body).unwrap();
    assert_eq!(logs.len(), 1);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z0-9_-]{0,20}", 1 => any::<String>(), 1 => "[\"\\\\{}\\[\\],:\\x00-\\x1f]{0,12}"]
}

fn any_event() -> impl Strategy<Value = AuditEvent> {
    let some = || prop::option::of(any_text());
    let list = || prop::collection::vec(any_text(), 0..4);
    (
        (some(), some(), some(), some(), some(), some(), some(), some()),
        (list(), list(), list()),
        prop::collection::btree_map(any_text(), any::<u64>(), 0..4),
        (any::<bool>(), 0..4_u8, any::<u64>(), 0.0..1e6_f64),
    )
        .prop_map(|(texts, lists, redactions, (flag, kind, number, cost_usd))| AuditEvent {
            policy_id: texts.0,
            reason_code: texts.1,
            policy_user: texts.2,
            project_id: texts.3,
            policy_target: texts.4,
            model: texts.5,
            request_id: texts.6,
            data_classification: texts.7,
            triggered_categories: lists.0,
            allowlist_hits: lists.1,
            denylist_hits: lists.2,
            redactions,
            enforced: flag,
            decision: (kind > 1).then_some(Decision::Refuse),
            rollout_mode: flag.then_some(RolloutMode::Canary),
            stage: flag.then_some(Stage::Output),
            policy_revision: flag.then_some(number),
            escalation_id: flag.then(|| Uuid::from_u128(u128::from(number))),
            scan: (kind > 2).then(|| Scan { output_bytes: number, ..Scan::default() }),
            gap: (kind == 1).then(|| Gap {
                refused: number,
                served: 0,
                since: "2026-01-16T18:22:11.000Z".into(),
            }),
            usage: (kind != 2).then_some(Usage { total_tokens: number, cost_usd, ..Usage::default() }),
            request: (kind > 0).then(|| example_event().request.unwrap()),
            decision_hash: flag.then(|| "0f".repeat(32)),
            ..blank(if flag { EventType::Enforcement } else { EventType::Gap })
        })
}

proptest! {
    #[test]
    fn the_stored_text_can_be_put_together_again_from_the_log(event in any_event(), seq in 1..u64::MAX) {
        let event = stored(event, seq);
        let log = wire_at(&event, NOW_MS);
        prop_assert_eq!(rebuilt(&log), text_of(&event));
    }

    #[test]
    fn tags_of_an_event_are_always_in_normal_form(event in any_event()) {
        let log = wire(event);
        let tags = log["ddtags"].as_str().unwrap();
        for tag in tags.split(',') {
            prop_assert!(tag.starts_with(char::is_alphabetic) && !tag.ends_with(':'), "{}", tag);
            prop_assert!(tag.chars().count() <= 200);
            prop_assert!(!tag.contains(|c: char| c.is_ascii() && !c.is_ascii_lowercase() && !c.is_ascii_digit()
                && !"_-:./".contains(c)), "{}", tag);
        }
    }

    #[test]
    fn damaged_texts_are_refused_or_passed_but_never_a_panic(
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        shorten in any::<bool>(),
    ) {
        let mut text = stored(example_event(), 7).text.to_vec();
        let at = cut.index(text.len());
        if shorten {
            text.truncate(at);
        } else if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
        let mut log = Vec::new();
        let _ = encoder().encode(&text, NOW_MS, &mut log);
    }
}

#[test]
fn members_of_later_versions_are_exported_too() {
    let event = stored(example_event(), 7);
    let text = text_of(&event).replacen(",\"usage\":", ",\"stable\":{\"decision\":\"allow\"},\"usage\":", 1);
    let event = StoredEvent { seq: 7, text: text.clone().into() };
    let log = wire_at(&event, NOW_MS);
    let value: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(value["event"]["stable"], json!({"decision": "allow"}));
    assert_eq!(rebuilt(&log), text);
}

#[test]
fn redactions_are_counts_by_type() {
    let event = AuditEvent {
        redactions: BTreeMap::from([("email".into(), 2), ("iban".into(), 1)]),
        ..example_event()
    };
    assert_eq!(wire(event)["event"]["redactions"], json!({"email": 2, "iban": 1}));
}
