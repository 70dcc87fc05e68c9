//! The sender against a bare TCP server: what it sends, what each answer means, and that the key shows nowhere.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::delivery::{BodyBuilder, Delivery, Destination, Parcel, Push, SendOutcome, SystemClock};
use crate::export::compress::Compression;
use crate::export::http::{NoAnswer, retry_after};
use crate::export::{self, Common, DestinationConfig, ExportConfig, TestError};
use crate::outbox::{DeliveryState, Outbox as _};
use crate::testing::{FakeClock, LogLines, MemoryOutbox, NOW_MS, example_event, stored};

const KEY: &str = "0123456789abcdef-the-key";

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// These bytes, then the end of the connection.
    Bytes(&'static str),
    /// 202 to the expected key, else 403.
    ByKey(&'static str),
    /// Nothing, for ever.
    Silence,
    /// The connection ends before anything is read.
    Hangup,
}

/// Head and body.
type Request = (String, Vec<u8>);

/// A server on this machine that remembers the requests it read.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v2/logs", listener.local_addr().unwrap());
        let requests = Arc::default();
        let seen = Arc::clone(&requests);
        let tasks = TaskTracker::new();
        let task = tasks.spawn(async move {
            // One at a time will do; a silent connection keeps the next one waiting, as it should.
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, answer, &seen).await;
            }
        });
        Self { url, requests, _task: AbortOnDropHandle::new(task) }
    }

    fn config(&self) -> DatadogLogs {
        config(json!({ "endpoint": self.url, "api_key": KEY }))
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, seen: &Mutex<Vec<Request>>) {
    if matches!(answer, Answer::Hangup) {
        return;
    }
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    let (head, body) = loop {
        let length = stream.read(&mut chunk).await.unwrap();
        if length == 0 {
            return;
        }
        read.extend_from_slice(&chunk[..length]);
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let wanted: usize = header(&head, "content-length").unwrap().parse().unwrap();
        if read.len() >= end + 4 + wanted {
            break (head, read[end + 4..].to_vec());
        }
    };
    let key = header(&head, "dd-api-key").unwrap_or_default().to_owned();
    seen.lock().unwrap().push((head, body));
    let bytes = match answer {
        Answer::Bytes(bytes) => bytes,
        Answer::ByKey(expected) if key == expected => ACCEPTED,
        Answer::ByKey(_) => FORBIDDEN,
        Answer::Silence => return std::future::pending().await,
        Answer::Hangup => "",
    };
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

const ACCEPTED: &str =
    "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const FORBIDDEN: &str = concat!(
    "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n",
    r#"{"errors":[{"status":"403","title":"Forbidden","detail":"bad key"}]}"#
);

fn config(more: Value) -> DatadogLogs {
    // The CLI does this at its start; the first test does it for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut entry = json!({"destination": "datadog_logs"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<RawDatadogLogs>(entry).unwrap().validate("").unwrap()
}

fn export(config: DatadogLogs) -> ExportConfig {
    let destination = DestinationConfig::DatadogLogs(config);
    ExportConfig { id: "main".into(), destination, common: Common::default(), egress: None }
}

fn body(destination: &DatadogDestination) -> Bytes {
    let mut body = destination.begin(NOW_MS).unwrap();
    assert_eq!(body.push(&stored(example_event(), 1)), Push::Taken);
    body.finish().unwrap().body
}

async fn send(destination: &DatadogDestination) -> SendOutcome {
    let (body, note, seqs) = (body(destination), String::new(), vec![1]);
    let parcel = Parcel { body, note, seqs, first: 1, last: 1, attempts: 1, now_ms: NOW_MS };
    destination.send(parcel).await
}

async fn answered(answer: Answer) -> SendOutcome {
    let server = Server::new(answer).await;
    let destination = DatadogDestination::new(server.config()).unwrap();
    send(&destination).await
}

#[tokio::test]
async fn a_request_is_what_datadog_documents() {
    let server = Server::new(Answer::Bytes(ACCEPTED)).await;
    let destination = DatadogDestination::new(server.config()).unwrap();
    assert_eq!(send(&destination).await, SendOutcome::Delivered);
    let (head, body) = server.requests().remove(0);
    assert!(head.starts_with("POST /api/v2/logs HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("dd-api-key", KEY),
        ("dd-evp-origin", "policy-gateway"),
        ("dd-evp-origin-version", env!("CARGO_PKG_VERSION")),
        ("user-agent", concat!("policy-gateway/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(header(&head, name), Some(value), "{head}");
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
    let logs: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(logs[0]["message"], "policy decision: rewrite");
}

#[tokio::test]
async fn an_uncompressed_body_names_no_encoding() {
    let server = Server::new(Answer::Bytes(ACCEPTED)).await;
    let config = DatadogLogs { compression: Compression::Identity, ..server.config() };
    let destination = DatadogDestination::new(config).unwrap();
    assert_eq!(send(&destination).await, SendOutcome::Delivered);
    let (head, body) = server.requests().remove(0);
    assert_eq!(header(&head, "content-encoding"), None);
    assert!(serde_json::from_slice::<Vec<Value>>(&body).is_ok());
}

/// Every row of the table of answers: status line and the rest, the kind of outcome, a part of the reason.
#[tokio::test]
async fn each_answer_has_its_meaning() {
    let delivered = [
        ACCEPTED,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}",
    ];
    for answer in delivered {
        assert_eq!(answered(Answer::Bytes(answer)).await, SendOutcome::Delivered, "{answer}");
    }
    for (answer, kind, part) in [
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "rejected", "400"),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "hold", "no key arrived"),
        (FORBIDDEN, "hold", "403 (Forbidden: bad key): it does not know the key from the configuration"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "hold", "there is no `/api/v2/logs`"),
        ("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n", "hold", "check `endpoint`"),
        ("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", "retry", "408"),
        ("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n", "too large", "413"),
        ("HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", "retry after 7", "429"),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "retry", "500"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "retry", "502"),
        ("HTTP/1.1 503 Busy\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n", "retry after 2", "503"),
        ("HTTP/1.1 504 Slow\r\ncontent-length: 0\r\n\r\n", "retry", "504"),
        (
            "HTTP/1.1 307 There\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "hold",
            "redirects",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", "hold", "204 with that status"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 13\r\n\r\n<html></html>",
            "hold",
            "200 with a body that is not JSON (`text/html`)",
        ),
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 13\r\n\r\n{\"errors\":[]}", "hold", "a list of `errors`"),
        // The answer breaks off: the events may or may not be there.
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 20\r\n\r\n{", "retry", "broke off"),
        ("HTTP/1.1 202 Acc", "retry", "broke off"),
        ("", "retry", "broke off"),
    ] {
        let outcome = answered(Answer::Bytes(answer)).await;
        let (found, why) = match &outcome {
            SendOutcome::Delivered => ("delivered".to_owned(), ""),
            SendOutcome::Received(_) | SendOutcome::Partial(_) => ("other".to_owned(), ""),
            SendOutcome::Retry { after: None, why } => ("retry".to_owned(), why.as_str()),
            SendOutcome::Retry { after: Some(after), why } => {
                (format!("retry after {}", after.as_secs()), why.as_str())
            }
            SendOutcome::TooLarge { why } => ("too large".to_owned(), why.as_str()),
            SendOutcome::Rejected { why } => ("rejected".to_owned(), why.as_str()),
            SendOutcome::Hold { why } => ("hold".to_owned(), why.as_str()),
        };
        assert_eq!(found, kind, "{answer}: {outcome:?}");
        assert!(why.contains(part), "{answer}: {why}");
    }
}

#[tokio::test]
async fn what_never_answers_or_is_not_there_is_tried_again() {
    let silent = Server::new(Answer::Silence).await;
    let config = DatadogLogs { timeout: Duration::from_millis(50), ..silent.config() };
    let destination = DatadogDestination::new(config).unwrap();
    let failure = destination.post(body(&destination)).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer(NoAnswer::Timeout { .. })), "{failure:?}");
    assert!(matches!(SendOutcome::from(failure), SendOutcome::Retry { after: None, .. }));

    let hangup = Server::new(Answer::Hangup).await;
    let destination = DatadogDestination::new(hangup.config()).unwrap();
    let failure = destination.post(body(&destination)).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer(NoAnswer::Cut { .. })), "{failure:?}");

    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let nobody = config_at(&format!("http://127.0.0.1:{port}/api/v2/logs"));
    let failure = nobody.post(Bytes::new()).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer(NoAnswer::Connect { .. })), "{failure:?}");
    assert!(failure.to_string().starts_with(&format!("no connection to `127.0.0.1:{port}` (")), "{failure}");

    // Not a name anywhere (RFC 2606).
    let nowhere = config_at("http://intake.invalid/api/v2/logs");
    let failure = nowhere.post(Bytes::new()).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer(NoAnswer::Dns { .. })), "{failure:?}");
    assert!(failure.to_string().starts_with("the host `intake.invalid` cannot be resolved"), "{failure}");
}

fn config_at(endpoint: &str) -> DatadogDestination {
    DatadogDestination::new(config(json!({ "endpoint": endpoint, "api_key": KEY }))).unwrap()
}

#[tokio::test]
async fn a_broken_handshake_is_told_from_a_broken_connection() {
    // A server that speaks plain text where a handshake is due.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/api/v2/logs", listener.local_addr().unwrap());
    let tasks = TaskTracker::new();
    let _task = AbortOnDropHandle::new(tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(ACCEPTED.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }));
    let failure = config_at(&url).post(Bytes::new()).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer(NoAnswer::Tls { .. })), "{failure:?}");
    assert!(failure.to_string().contains("SSL_CERT_FILE"));
}

#[tokio::test]
async fn error_texts_are_shown_without_quotes_of_the_body_and_without_the_key() {
    let part = |errors: &'static str| async move {
        match answered(Answer::Bytes(errors)).await {
            SendOutcome::Hold { why } => why,
            other => panic!("{other:?}"),
        }
    };
    let quoted = concat!(
        "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n",
        r#"{"errors":["cannot parse \"policy_user\":\"user-12345\" in body"]}"#
    );
    let why = part(quoted).await;
    assert!(why.contains("403 (cannot parse)") && !why.contains("user-12345"), "{why}");
    let echoed = concat!(
        "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n",
        r#"{"errors":["key 0123456789abcdef-the-key is not known now"]}"#
    );
    let why = part(echoed).await;
    assert!(why.contains("key") && !why.contains(KEY), "{why}");
    let html = "HTTP/1.1 403 Forbidden\r\ncontent-length: 26\r\n\r\n<html>user-12345 is blocked";
    assert!(part(html).await.starts_with("the intake answers 403: "));
}

#[tokio::test]
async fn a_new_key_in_its_file_is_used_after_a_reload() {
    let server = Server::new(Answer::ByKey("new-key")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old-key\n").unwrap();
    let source = format!("file:{}", file.path().display());
    let destination =
        DatadogDestination::new(config(json!({ "endpoint": server.url, "api_key": source }))).unwrap();
    let outcome = send(&destination).await;
    assert!(
        matches!(&outcome, SendOutcome::Hold { why } if why.contains(file.path().to_str().unwrap())),
        "{outcome:?}"
    );
    std::fs::write(file.path(), "new-key\n").unwrap();
    destination.reload_secrets().await.unwrap();
    assert_eq!(send(&destination).await, SendOutcome::Delivered);
    std::fs::write(file.path(), "").unwrap();
    assert!(destination.reload_secrets().await.is_err());
    assert_eq!(send(&destination).await, SendOutcome::Delivered, "the old key stays in use");
}

#[tokio::test]
async fn a_missing_key_stops_the_start_and_is_named() {
    let tasks = TaskTracker::new();
    let missing = config(json!({"site": "datadoghq.eu", "api_key": "$POLICY_GATEWAY_NO_SUCH_KEY"}));
    let started =
        Delivery::start(MemoryOutbox::new(), vec![export(missing)], FakeClock::at(NOW_MS), &tasks).await;
    let error = started.map(drop).unwrap_err().to_string();
    assert_eq!(error, "destination `main`: the environment variable `POLICY_GATEWAY_NO_SUCH_KEY` is not set");
    assert!(tasks.is_empty());
}

#[tokio::test]
async fn the_key_and_the_events_are_in_no_log_line_status_or_store() {
    let lines = LogLines::collect();
    let server = Server::new(Answer::Bytes(FORBIDDEN)).await;
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    outbox.append_event(example_event());
    let store: Arc<MemoryOutbox> = Arc::clone(&outbox);
    let exports = vec![export(server.config())];
    let tasks = TaskTracker::new();
    let delivery = Delivery::start(store, exports, Arc::new(SystemClock), &tasks).await.unwrap();
    while outbox.cursor_now("main").state != DeliveryState::Held {
        tokio::task::yield_now().await;
    }
    let status = delivery.shutdown(Duration::ZERO).await;
    assert!(lines.count("destination held") == 1, "{}", lines.text());
    let shown = format!("{}{status:?}{:?}{:?}", lines.text(), outbox.cursor_now("main"), server.config());
    for hidden in [KEY, "user-12345", "self-harm"] {
        assert!(!shown.contains(hidden), "{hidden}: {shown}");
    }
    assert_eq!(status[0].endpoint, server.url);
}

#[tokio::test]
async fn a_test_event_arrives_or_says_what_is_wrong() {
    let server = Server::new(Answer::ByKey(KEY)).await;
    let report = export::test(&export(server.config()), &SystemClock).await.unwrap();
    assert_eq!((report.id.as_str(), report.endpoint.as_str()), ("main", server.url.as_str()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*server.requests()[0].1).read_to_string(&mut text).unwrap();
    let logs: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(logs[0]["message"], "policy heartbeat: EXPORT_TEST");
    assert_eq!(logs[0]["event"]["id"], report.event_id.to_string());
    assert_eq!(logs[0]["event"]["late"], false);

    let wrong = config(json!({"endpoint": server.url, "api_key": "wrong"}));
    let error = export::test(&export(wrong), &SystemClock).await.unwrap_err();
    assert!(matches!(error, TestError::NotTaken(_)), "{error:?}");
    assert!(error.to_string().contains("403") && error.to_string().contains("check the key"), "{error}");
}

#[test]
fn retry_after_is_read_as_seconds_or_as_a_date() {
    use reqwest::header::HeaderValue;
    let now = std::time::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let read = |text: &'static str| retry_after(&HeaderValue::from_static(text), now);
    assert_eq!(read("120"), Some(Duration::from_secs(120)));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
    assert_eq!(read("soon"), None);
    assert_eq!(read("-1"), None);
}
