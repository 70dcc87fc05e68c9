//! The sender against a server that plays a bucket: what a PUT carries, that a lost answer makes no second object, and what
//! every refusal means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::tests::config;
use super::*;
use crate::delivery::{BodyBuilder, Destination, Parcel, Push, SendOutcome};
use crate::export::test_server::{Reply, Seen, TestServer, gunzip};
use crate::testing::{NOW_MS, example_event, stored};

const KEY: &str = "/audit/pg/date%3D2026-01-16/part-00000000-0000-0000-0000-000000000042-7-9.jsonl.gz";

fn destination(server: &TestServer, more: Value) -> S3Destination {
    let mut settings =
        json!({"endpoint": server.url, "access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    S3Destination::new(config(settings)).unwrap()
}

fn parcel(destination: &S3Destination, first: u64, last: u64) -> Parcel {
    let mut body = destination.begin(NOW_MS).unwrap();
    for seq in first..=last {
        assert_eq!(body.push(&stored(example_event(), seq)), Push::Taken);
    }
    let encoded = body.finish().unwrap();
    let seqs = (first..=last).collect();
    Parcel { body: encoded.body, note: encoded.note, seqs, first, last, attempts: 1, now_ms: NOW_MS }
}

async fn send(destination: &S3Destination) -> SendOutcome {
    let outcome = destination.send(parcel(destination, 7, 9)).await;
    assert!(!format!("{outcome:?}").contains("hunter2"), "{outcome:?}");
    outcome
}

fn error(status: u16, code: &str) -> Reply {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>user-12345</Message></Error>");
    Reply::status(status).with("content-type", "application/xml").body(body)
}

/// Path to body and metadata.
type Objects = Arc<Mutex<BTreeMap<String, (Vec<u8>, String)>>>;

/// A bucket that keeps what is put, and knows `If-None-Match`.
fn bucket(objects: &Objects, seen: &Seen) -> Reply {
    let mut objects = objects.lock().unwrap();
    let found = objects.get(&seen.target);
    match (seen.method.as_str(), found) {
        ("HEAD", Some((body, digest))) => Reply::status(200)
            .with("etag", "\"x\"")
            .with("content-length", &body.len().to_string())
            .with("last-modified", "Fri, 16 Jan 2026 18:22:11 GMT")
            .with("x-amz-meta-sha256", digest),
        ("HEAD", None) => Reply::status(404),
        ("PUT", Some(_)) if seen.header("if-none-match") == "*" => error(412, "PreconditionFailed"),
        ("PUT", _) => {
            let object = (seen.body.to_vec(), seen.header("x-amz-meta-sha256").to_owned());
            objects.insert(seen.target.clone(), object);
            Reply::status(200).with("etag", "\"x\"")
        }
        _ => Reply::status(405),
    }
}

async fn bucket_server() -> (TestServer, Objects) {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    (TestServer::new(move |seen: &Seen| bucket(&kept, seen)).await, objects)
}

fn shape(outcome: SendOutcome) -> (&'static str, Option<u64>, String) {
    match outcome {
        SendOutcome::Delivered => ("delivered", None, String::new()),
        SendOutcome::Retry { after, why } => ("retry", after.map(|after| after.as_secs()), why),
        SendOutcome::TooLarge { why } => ("too large", None, why),
        SendOutcome::Hold { why } => ("hold", None, why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_put_is_signed_conditional_and_checked() {
    let (server, objects) = bucket_server().await;
    let destination = destination(&server, json!({}));
    assert!(destination.keeps_bounds());
    let parcel = parcel(&destination, 7, 9);
    let body = parcel.body.clone();
    assert_eq!(destination.send(parcel).await, SendOutcome::Delivered);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    let put = &seen[0];
    assert_eq!((put.method.as_str(), put.target.as_str()), ("PUT", KEY));
    assert_eq!((put.header("if-none-match"), put.header("content-type")), ("*", "application/gzip"));
    assert_eq!(put.header("x-amz-meta-events"), "3");
    let signed = put.header("authorization");
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"), "{signed}");
    assert!(signed.contains("/eu-central-1/s3/aws4_request"), "{signed}");
    for name in ["if-none-match", "x-amz-checksum-sha256", "x-amz-content-sha256", "x-amz-meta-sha256"] {
        assert!(!put.header(name).is_empty() && signed.contains(name), "{name}: {signed}");
    }
    assert_eq!(put.body, body);
    assert_eq!(gunzip(&objects.lock().unwrap()[KEY].0).iter().filter(|byte| **byte == b'\n').count(), 3);
}

#[tokio::test]
async fn encryption_and_lock_travel_signed() {
    let (server, _) = bucket_server().await;
    let more = json!({"sse": "aws:kms", "kms_key_id": "arn:aws:kms:x", "compression": "zstd",
        "object_lock": {"mode": "COMPLIANCE", "retain_days": 400}});
    assert_eq!(send(&destination(&server, more)).await, SendOutcome::Delivered);
    let put = server.seen().remove(0);
    assert!(put.target.ends_with("-7-9.jsonl.zst"), "{}", put.target);
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:x"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        // 400 days from 2026-01-16.
        ("x-amz-object-lock-retain-until-date", "2027-02-20T18:22:11Z"),
        ("content-type", "application/zstd"),
    ] {
        assert_eq!(put.header(name), value);
        assert!(
            !name.starts_with("x-amz") || put.header("authorization").contains(name),
            "{name} is not signed"
        );
    }
    assert_eq!(
        send(&destination(&server, json!({"sse": "AES256", "prefix": null}))).await,
        SendOutcome::Delivered
    );
    assert_eq!(server.seen()[1].header("x-amz-server-side-encryption"), "AES256");
    assert!(server.seen()[1].target.starts_with("/audit/date%3D2026-01-16/part-"));
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_object() {
    let (server, objects) = bucket_server().await;
    assert_eq!(send(&destination(&server, json!({}))).await, SendOutcome::Delivered);
    // As after a kill between the answer and the cursor: another process, the same batch.
    assert_eq!(send(&destination(&server, json!({}))).await, SendOutcome::Delivered);
    assert_eq!(objects.lock().unwrap().keys().collect::<Vec<_>>(), [KEY]);
    let seen = server.seen();
    assert_eq!(seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["PUT", "PUT", "HEAD"]);
    assert_eq!(seen[0].body, seen[1].body);
}

#[tokio::test]
async fn another_object_under_the_key_is_kept_beside() {
    let (server, objects) = bucket_server().await;
    objects.lock().unwrap().insert(KEY.into(), (b"other".to_vec(), "0".repeat(64)));
    for _ in 0..2 {
        assert_eq!(send(&destination(&server, json!({}))).await, SendOutcome::Delivered);
    }
    let objects = objects.lock().unwrap();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[KEY].0, b"other");
    let (other, (_, digest)) = objects.iter().find(|(key, _)| *key != KEY).unwrap();
    assert!(other.ends_with(&format!("-7-9-{}.jsonl.gz", &digest[..16])), "{other}");
}

#[tokio::test]
async fn keys_that_may_only_write_lose_and_double_nothing() {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    let server = TestServer::new(move |seen: &Seen| match seen.method.as_str() {
        "HEAD" => Reply::status(403),
        _ => bucket(&kept, seen),
    })
    .await;
    for _ in 0..3 {
        assert_eq!(send(&destination(&server, json!({}))).await, SendOutcome::Delivered);
    }
    // The second try cannot look, and writes the lines once more under their digest; the third finds that.
    assert_eq!(objects.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_look_that_fails_in_passing_doubles_nothing() {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    let server = TestServer::new(move |seen: &Seen| match seen.method.as_str() {
        "HEAD" => Reply::status(503),
        _ => bucket(&kept, seen),
    })
    .await;
    assert_eq!(send(&destination(&server, json!({}))).await, SendOutcome::Delivered);
    assert_eq!(shape(send(&destination(&server, json!({}))).await).0, "retry");
    assert_eq!(objects.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_without_conditional_puts_is_written_over() {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    let server = TestServer::new(move |seen: &Seen| match seen.header("if-none-match") {
        "" => bucket(&kept, seen),
        _ => error(501, "NotImplemented"),
    })
    .await;
    let destination = destination(&server, json!({}));
    for _ in 0..2 {
        assert_eq!(send(&destination).await, SendOutcome::Delivered);
    }
    assert_eq!(objects.lock().unwrap().len(), 1);
    let conditions: Vec<_> =
        server.seen().iter().map(|seen| seen.header("if-none-match").to_owned()).collect();
    assert_eq!(conditions, ["*", "", ""]);
}

#[tokio::test]
async fn every_refusal_means_what_it_should() {
    for (status, code, meaning, part) in [
        (400, "RequestTimeout", "retry", "RequestTimeout"),
        (400, "EntityTooLarge", "too large", "EntityTooLarge"),
        (400, "ExpiredToken", "hold", "session token"),
        (400, "AuthorizationHeaderMalformed", "hold", "check `region`"),
        (400, "InvalidRequest", "hold", "`object_lock`"),
        (400, "KMS.NotFoundException", "hold", "`kms_key_id`"),
        (403, "AccessDenied", "hold", "s3:PutObject"),
        (403, "InvalidAccessKeyId", "hold", "access key from the configuration"),
        (403, "SignatureDoesNotMatch", "hold", "does not fit"),
        (403, "RequestTimeTooSkewed", "hold", "clock"),
        (404, "NoSuchBucket", "hold", "no bucket `audit`"),
        (408, "RequestTimeout", "retry", "answers 408"),
        (409, "ConditionalRequestConflict", "retry", "tried again"),
        (413, "", "too large", "answers 413"),
        (429, "TooManyRequests", "retry", "fewer requests"),
        (500, "InternalError", "retry", "trouble"),
        (502, "", "retry", "trouble"),
        (503, "SlowDown", "retry", "fewer requests"),
        (504, "", "retry", "trouble"),
        (301, "PermanentRedirect", "hold", "check `region`"),
        (307, "TemporaryRedirect", "hold", "check `region`"),
    ] {
        let reply = error(status, code).with("retry-after", "3");
        let server = TestServer::new(move |_: &Seen| reply.clone()).await;
        let (outcome, after, why) = shape(send(&destination(&server, json!({}))).await);
        assert_eq!(outcome, meaning, "{status} {code}: {why}");
        assert!(why.contains(&format!("S3 answers {status}")) && why.contains(part), "{why}");
        assert!(!why.contains("user-12345"), "{why}");
        assert_eq!(after, (meaning == "retry").then_some(3), "{why}");
        assert_eq!(server.seen().len(), 1, "waits and retries are the engine's");
    }
}

#[tokio::test]
async fn a_page_is_no_success() {
    let page = Reply::status(200).with("content-type", "text/html").body("<html>Sign in</html>");
    let server = TestServer::new(move |_: &Seen| page.clone()).await;
    let (outcome, _, why) = shape(send(&destination(&server, json!({}))).await);
    assert_eq!(outcome, "hold");
    assert!(why.contains("`text/html`") && !why.contains("Sign in"), "{why}");
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let (server, _) = bucket_server().await;
    let destination = destination(&server, json!({}));
    drop(server);
    let (outcome, _, why) = shape(send(&destination).await);
    assert_eq!(outcome, "retry");
    assert!(why.contains("no connection to `127.0.0.1:"), "{why}");
}

#[tokio::test]
async fn keys_are_read_anew() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "FIRST").unwrap();
    let (server, _) = bucket_server().await;
    let destination =
        destination(&server, json!({"access_key_id": format!("file:{}", file.path().display())}));
    send(&destination).await;
    std::fs::write(file.path(), "SECOND").unwrap();
    destination.reload_secrets().await.unwrap();
    send(&destination).await;
    let signed = |at: usize| server.seen()[at].header("authorization").to_owned();
    assert!(signed(0).contains("Credential=FIRST/") && signed(1).contains("Credential=SECOND/"));
    let wrong = config(json!({"access_key_id": "$POLICY_GATEWAY_NO_SUCH_KEY", "secret_access_key": "x"}));
    assert!(S3Destination::new(wrong).is_err());
}
