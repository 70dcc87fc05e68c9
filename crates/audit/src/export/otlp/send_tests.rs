//! The sender against a server: what a request looks like over both transports, and what every answer means. The rules are
//! OTLP's own; each status stands here once.

use serde_json::{Value, json};

use super::tests::{config, read_request};
use super::*;
use crate::delivery::{BodyBuilder, Destination, Parcel, Partial, Push, SendOutcome, Then};
use crate::export::test_server::{Reply, Seen, TestServer, gunzip};
use crate::testing::{NOW_MS, example_event, stored};

const TOKEN: &str = "Bearer hunter2";

fn destination(server: &TestServer, protocol: &str) -> OtlpDestination {
    let config = config(json!({
        "endpoint": server.url, "protocol": protocol, "headers": {"Authorization": TOKEN, "x-tenant": "blue"}
    }));
    OtlpDestination::new(config).unwrap()
}

fn parcel(destination: &OtlpDestination, seqs: &[u64]) -> Parcel {
    let mut body = destination.begin(NOW_MS).unwrap();
    for seq in seqs {
        assert_eq!(body.push(&stored(example_event(), *seq)), Push::Taken);
    }
    let encoded = body.finish().unwrap();
    let (first, last) = (seqs[0], *seqs.last().unwrap());
    let (body, note) = (encoded.body, encoded.note);
    Parcel { body, note, seqs: seqs.to_vec(), first, last, attempts: 1, now_ms: NOW_MS }
}

async fn answered(protocol: &str, reply: Reply) -> SendOutcome {
    let server = TestServer::new(move |_: &Seen| reply.clone()).await;
    let destination = destination(&server, protocol);
    let outcome = destination.send(parcel(&destination, &[4, 5])).await;
    assert!(!format!("{outcome:?}").contains("hunter2"), "{outcome:?}");
    outcome
}

/// Name of an outcome, the wait it asks for, and why.
fn shape(outcome: SendOutcome) -> (&'static str, Option<u64>, String) {
    match outcome {
        SendOutcome::Delivered => ("delivered", None, String::new()),
        SendOutcome::Retry { after, why } => ("retry", after.map(|after| after.as_secs()), why),
        SendOutcome::TooLarge { why } => ("too large", None, why),
        SendOutcome::Rejected { why } => ("rejected", None, why),
        SendOutcome::Hold { why } => ("hold", None, why),
        SendOutcome::Partial(partial) => ("partial", None, partial.why),
        SendOutcome::Received(receipt) => ("received", None, receipt.token),
    }
}

fn grpc_ok(message: &[u8]) -> Reply {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    Reply::status(200).with("content-type", "application/grpc").body(frame).trailer("grpc-status", "0")
}

fn grpc_error(code: u32) -> Reply {
    // Without a message, the status comes with the headers.
    Reply::status(200).with("content-type", "application/grpc").with("grpc-status", &code.to_string())
}

/// `partial_success { rejected_log_records: 1, error_message: "too old" }`.
const PARTIAL: &[u8] = b"\x0a\x0b\x08\x01\x12\x07too old";

#[tokio::test]
async fn a_request_over_http_is_what_the_specification_has() {
    let server = TestServer::new(|_: &Seen| Reply::status(200)).await;
    let destination = destination(&server, "http");
    assert_eq!(destination.send(parcel(&destination, &[1, 2])).await, SendOutcome::Delivered);
    let seen = server.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.is_http2), ("POST", "/v1/logs", false));
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "gzip"),
        ("authorization", TOKEN),
        ("x-tenant", "blue"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert!(seen.header("user-agent").starts_with("policy-gateway/"));
    assert_eq!(read_request(&seen.gunzipped()).2.len(), 2);
}

#[tokio::test]
async fn a_call_over_grpc_is_what_the_specification_has() {
    let server = TestServer::new(|_: &Seen| grpc_ok(b"")).await;
    let destination = destination(&server, "grpc");
    assert_eq!(destination.send(parcel(&destination, &[1, 2])).await, SendOutcome::Delivered);
    let seen = server.seen().remove(0);
    let method = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.is_http2), ("POST", method, true));
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-encoding", "gzip"),
        ("authorization", TOKEN),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert_eq!(seen.body[0], 1);
    assert_eq!(read_request(&gunzip(&seen.body[5..])).2.len(), 2);
}

#[tokio::test]
async fn every_2xx_with_otlps_answer_is_success() {
    for reply in [
        Reply::status(200),
        Reply::status(201),
        Reply::status(204),
        Reply::status(200).with("content-type", "application/json").body("{}"),
        Reply::status(200).body("{\"partialSuccess\":{}}"),
        Reply::status(200).body("{\"partialSuccess\":{\"errorMessage\":\"a warning\"}}"),
        // A warning alone is none of ours either.
        Reply::status(200).body(b"\x0a\x06\x12\x04well".to_vec()),
    ] {
        assert_eq!(answered("http", reply.clone()).await, SendOutcome::Delivered, "{reply:?}");
    }
    assert_eq!(answered("grpc", grpc_ok(b"")).await, SendOutcome::Delivered);
    assert_eq!(answered("grpc", grpc_ok(b"\x0a\0")).await, SendOutcome::Delivered);
}

#[tokio::test]
async fn a_page_is_no_answer_even_with_200() {
    let page =
        || Reply::status(200).with("content-type", "text/html; charset=utf-8").body("<html>Sign in</html>");
    for protocol in ["http", "grpc"] {
        let (outcome, _, why) = shape(answered(protocol, page()).await);
        assert_eq!(outcome, "hold");
        assert!(why.contains("`text/html`") && !why.contains("Sign in"), "{why}");
    }
    assert_eq!(shape(answered("http", Reply::status(200).body(vec![b'x'; 70_000])).await).0, "hold");
    assert_eq!(shape(answered("grpc", grpc_ok(b"<html>")).await).0, "hold");
}

#[tokio::test]
async fn what_was_partly_rejected_is_kept_whole_and_never_sent_again() {
    let json = json!({"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}).to_string();
    for (protocol, reply) in [
        ("http", Reply::status(200).body(PARTIAL)),
        ("http", Reply::status(200).body(json)),
        ("grpc", grpc_ok(PARTIAL)),
    ] {
        let outcome = answered(protocol, reply).await;
        let SendOutcome::Partial(Partial { again, dead, then, why }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((again, then), (vec![], Then::Retry(None)));
        assert_eq!(dead.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [4, 5]);
        assert!(why.contains("rejected 1 of the 2 events") && why.contains("(too old)"), "{why}");
        assert!(dead.iter().all(|(_, reason)| *reason == why));
    }
}

#[tokio::test]
async fn http_statuses_mean_what_the_specification_says() {
    for (status, meaning, part) in [
        (400, "rejected", "does not accept something"),
        (401, "hold", "credentials from `headers.authorization` (the configuration)"),
        (403, "hold", "credentials"),
        (404, "hold", "`/v1/logs`"),
        (405, "hold", "4317 speaks gRPC"),
        (408, "hold", "waited too long"),
        (413, "too large", "too large"),
        (415, "hold", "4317 speaks gRPC"),
        (429, "retry", "fewer requests"),
        (500, "rejected", "may not be tried again"),
        (501, "hold", "trouble"),
        (502, "retry", "trouble"),
        (503, "retry", "trouble"),
        (504, "retry", "trouble"),
        (302, "hold", "redirects are not followed"),
    ] {
        let (outcome, after, why) =
            shape(answered("http", Reply::status(status).with("retry-after", "7")).await);
        assert_eq!(outcome, meaning, "{status}");
        assert!(why.contains(&format!("answers {status}")) && why.contains(part), "{why}");
        assert_eq!(after, (meaning == "retry").then_some(7), "{status}");
    }
}

#[tokio::test]
async fn the_word_of_a_status_message_is_shown_and_no_piece_of_the_body() {
    let status = |said: &str| {
        let mut message = b"\x08\x03\x12".to_vec();
        message.push(u8::try_from(said.len()).unwrap());
        message.extend_from_slice(said.as_bytes());
        Reply::status(400).with("content-type", "application/x-protobuf").body(message)
    };
    let (_, _, why) = shape(answered("http", status("too old for Bearer hunter2: \"user-12345\"")).await);
    assert!(why.contains("answers 400 (too old for (hidden):)"), "{why}");
    assert!(!why.contains("user-12345"), "{why}");
}

#[tokio::test]
async fn grpc_statuses_mean_what_the_specification_says() {
    for (code, meaning, name) in [
        (1, "retry", "CANCELLED"),
        (2, "rejected", "UNKNOWN"),
        (3, "rejected", "INVALID_ARGUMENT"),
        (4, "retry", "DEADLINE_EXCEEDED"),
        (5, "hold", "NOT_FOUND"),
        (6, "rejected", "ALREADY_EXISTS"),
        (7, "hold", "PERMISSION_DENIED"),
        (8, "too large", "RESOURCE_EXHAUSTED"),
        (9, "rejected", "FAILED_PRECONDITION"),
        (10, "retry", "ABORTED"),
        (11, "retry", "OUT_OF_RANGE"),
        (12, "hold", "UNIMPLEMENTED"),
        (13, "rejected", "INTERNAL"),
        (14, "retry", "UNAVAILABLE"),
        (15, "retry", "DATA_LOSS"),
        (16, "hold", "UNAUTHENTICATED"),
        (99, "hold", "gRPC status 99"),
    ] {
        let (outcome, _, why) = shape(answered("grpc", grpc_error(code)).await);
        assert_eq!(outcome, meaning, "{code}");
        assert!(why.contains(name), "{why}");
    }
    let in_trailers =
        Reply::status(200).with("content-type", "application/grpc").trailer("grpc-status", "14");
    assert_eq!(shape(answered("grpc", in_trailers).await).0, "retry");
}

#[tokio::test]
async fn a_used_up_quota_is_tried_again_only_when_the_server_says_so() {
    // google.rpc.Status { code: 8, details: [RetryInfo { retry_delay: 9 s }] }, in base64 without padding.
    let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x09";
    let mut status = b"\x08\x08\x1a".to_vec();
    status.push(u8::try_from(any.len()).unwrap());
    status.extend_from_slice(any);
    use base64::Engine;
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status);
    let reply =
        grpc_error(8).with("grpc-status-details-bin", &details).with("grpc-message", "quota%20%3E%20used");
    let (outcome, after, why) = shape(answered("grpc", reply).await);
    assert_eq!((outcome, after), ("retry", Some(9)));
    assert!(why.contains("RESOURCE_EXHAUSTED (quota > used)"), "{why}");
}

#[tokio::test]
async fn what_stands_before_a_grpc_server_is_judged_by_its_http_status() {
    for (status, meaning) in [
        (401, "hold"),
        (403, "hold"),
        (404, "hold"),
        (413, "too large"),
        (429, "retry"),
        (500, "hold"),
        (503, "retry"),
    ] {
        let (outcome, _, why) = shape(answered("grpc", Reply::status(status)).await);
        assert_eq!(outcome, meaning, "{why}");
    }
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let server = TestServer::new(|_: &Seen| Reply::status(200)).await;
    let url = server.url.clone();
    drop(server);
    for protocol in ["http", "grpc"] {
        let config = config(json!({"endpoint": url, "protocol": protocol}));
        let destination = OtlpDestination::new(config).unwrap();
        let (outcome, _, why) = shape(destination.send(parcel(&destination, &[1])).await);
        assert_eq!(outcome, "retry");
        assert!(why.contains("no connection to `127.0.0.1:"), "{why}");
    }
}

#[tokio::test]
async fn an_http1_server_behind_grpc_is_named() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let tasks = tokio_util::task::TaskTracker::new();
    let server = tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    let config = config(json!({"endpoint": endpoint, "protocol": "grpc", "timeout_seconds": 5}));
    let destination = OtlpDestination::new(config).unwrap();
    let (outcome, _, why) = shape(destination.send(parcel(&destination, &[1])).await);
    server.await.unwrap();
    assert_eq!(outcome, "retry", "{why}");
    assert!(why.contains("broke off"), "{why}");
}

#[tokio::test]
async fn header_values_are_read_anew() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first").unwrap();
    let server = TestServer::new(|_: &Seen| Reply::status(200)).await;
    let headers: Value = json!({"x-key": format!("file:{}", file.path().display())});
    let destination =
        OtlpDestination::new(config(json!({"endpoint": server.url, "headers": headers}))).unwrap();
    std::fs::write(file.path(), "second").unwrap();
    destination.send(parcel(&destination, &[1])).await;
    destination.reload_secrets().await.unwrap();
    destination.send(parcel(&destination, &[1])).await;
    let keys: Vec<_> = server.seen().iter().map(|seen| seen.header("x-key").to_owned()).collect();
    assert_eq!(keys, ["first", "second"]);
}

#[test]
fn nothing_of_a_destination_shows_a_header() {
    let config = config(json!({"headers": {"authorization": "hunter2"}}));
    assert!(!format!("{config:?}").contains("hunter2"));
}
