//! What receivers get, verified by a library that nobody here wrote, and what their answers mean.

use serde_json::{Value, json};

use super::*;
use crate::delivery::{BodyBuilder, Destination, Push, SendOutcome};
use crate::export::bare_server::{BareServer, Seen, answer, parcel, told};
use crate::export::{self, DestinationConfig};
use crate::testing::{NOW_MS, example_event, stored};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "whsec_ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";

fn read(more: Value) -> Result<Webhook, Vec<policy::problems::Problem>> {
    let mut entry =
        json!({"destination": "webhook", "endpoint": "https://hooks.example.com/audit", "secret": SECRET});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    export::parse(&entry, "exports[0]").map(|export| match export.destination {
        DestinationConfig::Webhook(config) => config,
        other => panic!("{other:?}"),
    })
}

fn destination(server: &BareServer, more: Value) -> WebhookDestination {
    let mut entry = more;
    entry["endpoint"] = json!(format!("{}/audit", server.url));
    WebhookDestination::new(read(entry).unwrap()).unwrap()
}

/// Checks signature and age as a receiver would.
fn verified(seen: &Seen, secret: &str) -> bool {
    let headers: http::HeaderMap = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .map(|name| (name.parse().unwrap(), seen.header(name).unwrap().parse().unwrap()))
        .collect();
    standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &headers).is_ok()
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[tokio::test]
async fn an_event_is_signed_and_as_the_log_has_it() {
    let server = BareServer::always(answer("204 No Content", "text/plain", "")).await;
    let destination = destination(&server, json!({}));
    let mut parcel = parcel(&destination, 7..=7);
    parcel.now_ms = now_ms();
    assert_eq!(destination.send(parcel.clone()).await, SendOutcome::Delivered);
    let later = crate::delivery::Parcel { now_ms: parcel.now_ms + 5000, attempts: 2, ..parcel };
    assert_eq!(destination.send(later).await, SendOutcome::Delivered);
    let seen = server.seen();
    assert!(seen[0].head.starts_with("POST /audit HTTP/1.1\r\n"));
    assert!(seen.iter().all(|one| verified(one, SECRET)), "by the library of the specification's authors");
    assert!(!verified(&seen[0], OTHER));
    let id = example_event().event_id.to_string();
    assert!(seen.iter().all(|one| one.header("webhook-id") == Some(id.as_str())), "the same on every try");
    assert_ne!(
        seen[0].header("webhook-timestamp"),
        seen[1].header("webhook-timestamp"),
        "the time of the try"
    );
    assert_eq!(seen[0].body, seen[1].body);
    let text = seen[0].text();
    let event = String::from_utf8(stored(example_event(), 7).text.to_vec()).unwrap();
    assert_eq!(
        text,
        format!(
            "{{\"type\":\"policy.enforcement\",\"timestamp\":\"2026-01-16T18:22:11.000Z\",\"data\":{event}}}"
        )
    );
    insta::assert_snapshot!("wire", text);
}

#[tokio::test]
async fn while_the_secret_changes_both_sign() {
    let server = BareServer::always(answer("200 OK", "text/plain", "ok")).await;
    let destination = destination(&server, json!({"secret": format!("{OTHER} {SECRET}")}));
    let mut parcel = parcel(&destination, 1..=1);
    parcel.now_ms = now_ms();
    assert_eq!(destination.send(parcel).await, SendOutcome::Delivered);
    let seen = server.seen().remove(0);
    assert!(verified(&seen, SECRET) && verified(&seen, OTHER));
}

#[test]
fn a_batch_is_a_list_with_an_id_of_its_own() {
    let batch = |seqs: std::ops::RangeInclusive<u64>| {
        let mut body = WebhookBody::new(10, 1_000_000);
        for seq in seqs {
            assert_eq!(body.push(&stored(example_event(), seq)), Push::Taken);
        }
        body.finish().unwrap()
    };
    let encoded = batch(1..=3);
    assert_eq!(encoded.note, format!("{}-3", example_event().event_id));
    assert_eq!(batch(1..=3), encoded, "the same events, the same bytes");
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!(body["type"], "policy.events");
    assert_eq!(body["data"]["events"].as_array().unwrap().len(), 3);
    let keeps = |more| WebhookDestination::new(read(more).unwrap()).unwrap().keeps_bounds();
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert!(keeps(json!({"batch_events_max": 10})) && !keeps(json!({})));
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    for (status, kind, part) in [
        ("200 OK", "delivered", ""),
        ("201 Created", "delivered", ""),
        ("202 Accepted", "delivered", ""),
        ("400 Bad Request", "rejected", "check `secret`"),
        ("422 Unprocessable", "rejected", "check `secret`"),
        ("401 Unauthorized", "hold", "check `secret` (the configuration)"),
        ("403 Forbidden", "hold", "check `secret`"),
        ("404 Not Found", "hold", "there is no `/audit`"),
        ("410 Gone", "hold", "wants no more events"),
        ("413 Too Large", "too large", "413"),
        ("408 Timeout", "retry", "408"),
        ("429 Slow", "retry", "429"),
        ("500 Oops", "retry", "500"),
        ("503 Down", "retry", "503"),
        ("307 There", "hold", "redirects are not followed"),
    ] {
        let server = BareServer::always(answer(status, "text/plain", "user-12345 whatever")).await;
        let destination = destination(&server, json!({}));
        let (found, why) = told(&destination.send(parcel(&destination, 1..=1)).await);
        assert_eq!(found, kind, "{status}: {why}");
        assert!(why.contains(part) && !why.contains("user-12345"), "{status}: {why}");
    }
    let server =
        BareServer::always(answer("200 OK", "text/html; charset=utf-8", "\n<!doctype html><form>")).await;
    let destination = destination(&server, json!({}));
    let (found, why) = told(&destination.send(parcel(&destination, 1..=1)).await);
    assert!(found == "hold" && why.contains("login page"), "{why}");
}

#[tokio::test]
async fn a_new_secret_in_its_file_signs_after_a_reload() {
    let server = BareServer::always(answer("200 OK", "text/plain", "")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let destination = destination(&server, json!({"secret": format!("file:{}", file.path().display())}));
    std::fs::write(file.path(), format!("{OTHER}\n")).unwrap();
    destination.reload_secrets().await.unwrap();
    std::fs::write(file.path(), "hunter2").unwrap();
    let error = destination.reload_secrets().await.unwrap_err().to_string();
    assert!(error.contains("must be `whsec_`") && !error.contains("hunter2"), "{error}");
    let mut parcel = parcel(&destination, 1..=1);
    parcel.now_ms = now_ms();
    destination.send(parcel).await;
    assert!(verified(&server.seen()[0], OTHER), "the old one stays in use where the new one is no secret");
}

#[test]
fn the_configuration_is_checked() {
    for (more, start) in [
        (json!({"secret": "hunter2hunter2"}), "exports[0].secret: must be `whsec_`"),
        (json!({"secret": "whsec_c2hvcnQ="}), "exports[0].secret: must be `whsec_`"),
        (json!({"endpoint": "hooks"}), "exports[0].endpoint: is not a URL"),
        (json!({"batch_events_max": 0}), "exports[0].batch_events_max: `0` is out of range"),
    ] {
        let problems = read(more).unwrap_err();
        assert!(problems[0].to_string().starts_with(start), "{problems:?}");
        assert!(!problems[0].to_string().contains("hunter2"));
    }
}

#[test]
fn an_event_of_another_kind_has_its_own_type() {
    let mut body = WebhookBody::new(1, 1_000_000);
    assert_eq!(body.push(&stored(example_event(), 1)), Push::Taken);
    assert_eq!(body.push(&stored(example_event(), 2)), Push::Full);
    let mut bad = WebhookBody::new(1, 1_000_000);
    let event = crate::outbox::StoredEvent { seq: 1, text: "{".into() };
    assert_eq!(bad.push(&event), Push::Unfit("the stored text is not an audit event".into()));
    assert!(NOW_MS > 0 && bad.finish().is_err());
}
