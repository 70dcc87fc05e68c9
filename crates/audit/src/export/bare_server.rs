//! A bare TCP server for the tests of senders: it answers as a test tells it, and remembers what it was sent.

use std::io::Read;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::delivery::{BodyBuilder, Destination, Parcel, Push, SendOutcome};
use crate::outbox::StoredEvent;
use crate::testing::{NOW_MS, example_event, stored};

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body, unpacked where it is compressed.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match self.header("content-encoding") {
            Some("gzip") => {
                flate2::read::GzDecoder::new(&*self.body).read_to_string(&mut text).unwrap();
            }
            None => text.push_str(std::str::from_utf8(&self.body).unwrap()),
            Some(other) => panic!("{other}"),
        }
        text
    }
}

type Script = Box<dyn FnMut(&Seen) -> String + Send>;

/// See the module.
pub(crate) struct BareServer {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: AbortOnDropHandle<()>,
}

/// A whole answer: status line, content type and body.
pub(crate) fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The same with JSON.
pub(crate) fn json_answer(status: &str, body: &serde_json::Value) -> String {
    answer(status, "application/json", &body.to_string())
}

impl BareServer {
    /// Answers each request by this script.
    pub(crate) async fn new(script: impl FnMut(&Seen) -> String + Send + 'static) -> Self {
        // The CLI does this at its start; the first test does it for all.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (requests, mut script) = (Arc::clone(&seen), Box::new(script) as Script);
        let task = TaskTracker::new().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, &mut script, &requests).await;
            }
        });
        Self { url, seen, _task: AbortOnDropHandle::new(task) }
    }

    /// The same answer to every request.
    pub(crate) async fn always(answer: String) -> Self {
        Self::new(move |_| answer.clone()).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: &mut Script, requests: &Mutex<Vec<Seen>>) {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    let seen = loop {
        let length = stream.read(&mut chunk).await.unwrap_or(0);
        if length == 0 {
            return;
        }
        read.extend_from_slice(&chunk[..length]);
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let seen = Seen { head, body: read[end + 4..].to_vec() };
        let wanted: usize = seen.header("content-length").unwrap_or("0").parse().unwrap();
        if seen.body.len() >= wanted {
            break seen;
        }
    };
    let answer = script(&seen);
    requests.lock().unwrap().push(seen);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The contract's example event with these seqs, as one parcel.
pub(crate) fn parcel<D: Destination>(destination: &D, seqs: std::ops::RangeInclusive<u64>) -> Parcel {
    let events: Vec<StoredEvent> = seqs.map(|seq| stored(example_event(), seq)).collect();
    let mut body = destination.begin(NOW_MS).unwrap();
    for event in &events {
        assert_eq!(body.push(event), Push::Taken);
    }
    let encoded = body.finish().unwrap();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    let (first, last) = (seqs[0], *seqs.last().unwrap());
    Parcel { body: encoded.body, note: encoded.note, seqs, first, last, attempts: 1, now_ms: NOW_MS }
}

/// The kind of an outcome in a word or two, and its reason.
pub(crate) fn told(outcome: &SendOutcome) -> (String, String) {
    match outcome {
        SendOutcome::Delivered => ("delivered".into(), String::new()),
        SendOutcome::Received(receipt) => (format!("received {}", receipt.token), String::new()),
        SendOutcome::Partial(partial) => {
            let dead: Vec<u64> = partial.dead.iter().map(|(seq, _)| *seq).collect();
            let reasons: Vec<&str> = partial.dead.iter().map(|(_, reason)| reason.as_str()).collect();
            let kind = format!("again {:?}, dead {dead:?}, {:?}", partial.again, partial.then);
            (kind, format!("{}{}", partial.why, reasons.join("; ")))
        }
        SendOutcome::Retry { after: None, why } => ("retry".into(), why.clone()),
        SendOutcome::Retry { after: Some(after), why } => {
            (format!("retry after {}", after.as_secs()), why.clone())
        }
        SendOutcome::TooLarge { why } => ("too large".into(), why.clone()),
        SendOutcome::Rejected { why } => ("rejected".into(), why.clone()),
        SendOutcome::Hold { why } => ("hold".into(), why.clone()),
    }
}
