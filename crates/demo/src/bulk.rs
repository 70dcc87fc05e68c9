//! An Elasticsearch (or OpenSearch) `_bulk` endpoint with data streams, to test senders against: as strict as the
//! documentation, judging document by document.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::packed::unpacked;
use crate::reply::{self, Cut, Frames};
use crate::server::{self, Server, Service, WaitError};

/// The API key that is taken unless [`BulkOptions::api_key`] says otherwise.
pub const DEFAULT_API_KEY: &str = "ZGVtbzpkZW1vLWVsYXN0aWMta2V5";
/// `http.max_content_length`.
const BODY_BYTES_MAX: usize = 100 << 20;

/// How to run an endpoint.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The encoded API key that is taken.
    pub api_key: String,
}

impl Default for BulkOptions {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), api_key: DEFAULT_API_KEY.to_owned() }
    }
}

/// The endpoint.
pub struct Bulk {
    options: BulkOptions,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    documents: Vec<Document>,
    ids: BTreeSet<(String, String)>,
    requests: u64,
    /// Status and error type for the next documents, in place of being taken.
    faults: VecDeque<Option<(u16, String)>>,
    /// Bodies that are taken, and whose answer is lost.
    cut: u32,
}

/// A document that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The data stream.
    pub stream: String,
    /// Its `_id`.
    pub id: String,
    /// The document.
    pub source: Value,
}

/// A running endpoint. Dropping it ends it without waiting.
pub struct Running {
    server: Server,
    bulk: Arc<Bulk>,
}

impl Bulk {
    /// Starts an endpoint.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: BulkOptions) -> io::Result<Running> {
        let listen = options.listen;
        let bulk = Arc::new(Self { options, state: Mutex::default(), changes: watch::Sender::new(0) });
        let server = Server::start(listen, Arc::clone(&bulk)).await?;
        Ok(Running { server, bulk })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What a destination's `endpoint` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The documents that were taken, in the order they came.
    pub fn documents(&self) -> Vec<Document> {
        self.bulk.lock().documents.clone()
    }

    /// Bulk requests so far.
    pub fn requests(&self) -> u64 {
        self.bulk.lock().requests
    }

    /// What becomes of the next documents: an HTTP status and an error type, or `None` for being taken.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Option<(u16, &'static str)>>) {
        let faults = faults.into_iter().map(|fault| fault.map(|(status, kind)| (status, kind.to_owned())));
        self.bulk.lock().faults.extend(faults);
    }

    /// Takes the next bodies and cuts the connection instead of answering.
    pub fn cut_next(&self, bodies: u32) {
        self.bulk.lock().cut = bodies;
    }

    /// Waits until the documents satisfy `check`.
    ///
    /// # Errors
    /// Where they do not `within` that time, or the endpoint stops first.
    pub async fn wait_for(
        &self,
        within: Duration,
        mut check: impl FnMut(&[Document]) -> bool,
    ) -> Result<(), WaitError> {
        let changes = self.bulk.changes.subscribe();
        let describe = || format!("{} documents", self.bulk.lock().documents.len());
        self.server.wait_until(within, changes, || check(&self.bulk.lock().documents), describe).await
    }

    /// Drops every connection and returns once all is over.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl Service for Bulk {
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let (head, body) = request.into_parts();
        let body = match server::read_body(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(server::BodyError::TooLarge) => {
                return Ok(refused(StatusCode::PAYLOAD_TOO_LARGE, "content_too_long", "too large"));
            }
            Err(server::BodyError::Broken) => return Err(Cut),
        };
        let mut response = match (&head.method, head.uri.path()) {
            (&Method::GET, "/demo/documents") => {
                let documents: Vec<Value> = self
                    .lock()
                    .documents
                    .iter()
                    .map(|one| json!({"stream": one.stream, "id": one.id, "source": one.source}))
                    .collect();
                reply::json(StatusCode::OK, &json!({ "documents": documents }))
            }
            (&Method::POST | &Method::PUT, "/_bulk") => self.bulk(&head.headers, &body)?,
            (&Method::GET, "/") => reply::json(
                StatusCode::OK,
                &json!({"name": "demo", "cluster_name": "demo", "version": {"number": "9.2.0",
                    "build_flavor": "default"}, "tagline": "You Know, for Search"}),
            ),
            _ => refused(StatusCode::NOT_FOUND, "invalid_index_name_exception", "no handler"),
        };
        // Without it the vendor's client believes in an impostor.
        response.headers_mut().insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
        Ok(response)
    }
}

fn refused(status: StatusCode, kind: &str, reason: &str) -> Response<Frames> {
    let error = json!({"root_cause": [{"type": kind, "reason": reason}], "type": kind, "reason": reason});
    reply::json(status, &json!({"error": error, "status": status.as_u16()}))
}

impl Bulk {
    fn bulk(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Frames>, Cut> {
        let bad = |reason: &str| Ok(refused(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason));
        self.lock().requests += 1;
        let key = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if key.strip_prefix("ApiKey ") != Some(self.options.api_key.as_str()) {
            let reason = "unable to authenticate with provided credentials";
            return Ok(refused(StatusCode::UNAUTHORIZED, "security_exception", reason));
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !["application/x-ndjson", "application/json", "application/vnd.elasticsearch+x-ndjson"]
            .iter()
            .any(|known| kind.split(';').next() == Some(known))
        {
            return Ok(refused(StatusCode::NOT_ACCEPTABLE, "media_type_header_exception", "Content-Type"));
        }
        let Some(body) = unpacked(headers, body, BODY_BYTES_MAX) else { return bad("not gzip") };
        let Ok(text) = std::str::from_utf8(&body) else { return bad("not UTF-8") };
        if !text.ends_with('\n') {
            return bad("The bulk request must be terminated by a newline [\\n]");
        }
        let mut state = self.lock();
        let mut items = Vec::new();
        let mut lines = text.lines();
        while let Some(action) = lines.next() {
            let Some((op, stream, id)) = action_of(action) else {
                return bad("Malformed action/metadata line");
            };
            let Some(source) = lines.next() else { return bad("no document behind the action") };
            items.push(state.item(&op, stream, id, source));
        }
        if items.is_empty() {
            return bad("request body is required");
        }
        if state.cut > 0 {
            state.cut -= 1;
            return Err(Cut);
        }
        drop(state);
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
        let errors = items
            .iter()
            .any(|item| item.pointer("/create/error").is_some() || item.pointer("/index").is_some());
        Ok(reply::json(StatusCode::OK, &json!({"took": 1, "errors": errors, "items": items})))
    }
}

fn action_of(line: &str) -> Option<(String, String, String)> {
    let action: Value = serde_json::from_str(line).ok()?;
    let (op, target) = action.as_object()?.iter().next()?;
    let text = |name: &str| target.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((op.clone(), text("_index")?, text("_id").unwrap_or_default()))
}

impl State {
    fn item(&mut self, op: &str, stream: String, id: String, source: &str) -> Value {
        let failed = |status: u16, kind: &str, reason: &str| {
            json!({op: {"_index": stream, "_id": id, "status": status,
                "error": {"type": kind, "reason": reason}}})
        };
        if let Some(Some((status, kind))) = self.faults.pop_front() {
            return failed(status, &kind, "as the test wants it");
        }
        let parts: Vec<&str> = stream.split('-').collect();
        if parts.len() != 3 || parts.first() != Some(&"logs") {
            return failed(404, "index_not_found_exception", "no such index");
        }
        if op != "create" {
            let reason = "only write ops with an op_type of create are allowed in data streams";
            return failed(400, "illegal_argument_exception", reason);
        }
        let document = match serde_json::from_str::<Value>(source) {
            Ok(document @ Value::Object(_)) => document,
            _ => return failed(400, "document_parsing_exception", "failed to parse"),
        };
        let time = document.get("@timestamp").and_then(Value::as_str);
        if time.is_none_or(|time| time.parse::<jiff::Timestamp>().is_err()) {
            return failed(400, "document_parsing_exception", "data stream timestamp field is missing");
        }
        if !id.is_empty() && !self.ids.insert((stream.clone(), id.clone())) {
            return failed(409, "version_conflict_engine_exception", "document already exists");
        }
        let item = json!({op: {"_index": format!(".ds-{stream}-000001"), "_id": id, "status": 201,
            "result": "created"}});
        self.documents.push(Document { stream, id, source: document });
        item
    }
}
