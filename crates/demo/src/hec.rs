//! A Splunk HTTP Event Collector to test senders against, with indexer acknowledgement: as strict as Splunk's
//! documentation, and with its habits (`true` is said once, unknown ids are `false`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::packed::unpacked;
use crate::reply::{self, Cut, Frames};
use crate::server::{self, Server, Service, WaitError};

/// The token that is taken unless [`HecOptions::token`] says otherwise.
pub const DEFAULT_TOKEN: &str = "5ac00000-0000-4000-8000-000000000001";
/// Largest body, as sent and unpacked.
const BODY_BYTES_MAX: usize = 10 << 20;
/// What an envelope may hold.
const ENVELOPE: [&str; 7] = ["time", "host", "source", "sourcetype", "index", "event", "fields"];

/// How to run a collector.
#[derive(Clone, Debug)]
pub struct HecOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The token that is taken.
    pub token: String,
    /// The indexes it may write to; the first is its default.
    pub indexes: Vec<String>,
    /// Whether indexer acknowledgement is on for it.
    pub acks: bool,
}

impl Default for HecOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: DEFAULT_TOKEN.to_owned(),
            indexes: vec!["main".to_owned(), "ai_audit".to_owned()],
            acks: true,
        }
    }
}

/// The collector.
pub struct Hec {
    options: HecOptions,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Envelopes that are indexed.
    indexed: Vec<Value>,
    /// Bodies that were received and are not indexed yet, by channel and id.
    received: BTreeMap<(String, u64), Vec<Value>>,
    /// Bodies that are indexed and were not acknowledged yet.
    unsaid: BTreeSet<(String, u64)>,
    next_id: u64,
    requests: u64,
    /// Nothing is indexed while set.
    stalled: bool,
    /// Bodies that are received and then lost.
    lose: u32,
}

/// A running collector. Dropping it ends it without waiting.
pub struct Running {
    server: Server,
    hec: Arc<Hec>,
}

impl Hec {
    /// Starts a collector.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: HecOptions) -> io::Result<Running> {
        let listen = options.listen;
        let hec = Arc::new(Self { options, state: Mutex::default(), changes: watch::Sender::new(0) });
        let server = Server::start(listen, Arc::clone(&hec)).await?;
        Ok(Running { server, hec })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
        result
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

    /// The envelopes that are indexed, in the order they came.
    pub fn events(&self) -> Vec<Value> {
        self.hec.lock().indexed.clone()
    }

    /// Requests with a body so far.
    pub fn requests(&self) -> u64 {
        self.hec.lock().requests
    }

    /// Keeps what is received from being indexed, or lets it.
    pub fn stall(&self, stalled: bool) {
        self.hec.change(|state| {
            state.stalled = stalled;
            if !stalled {
                state.index();
            }
        });
    }

    /// Loses the next bodies between receiving and indexing them.
    pub fn lose_next(&self, bodies: u32) {
        self.hec.lock().lose = bodies;
    }

    /// Waits until the indexed envelopes satisfy `check`.
    ///
    /// # Errors
    /// Where they do not `within` that time, or the collector stops first.
    pub async fn wait_for(
        &self,
        within: Duration,
        mut check: impl FnMut(&[Value]) -> bool,
    ) -> Result<(), WaitError> {
        let changes = self.hec.changes.subscribe();
        let describe = || format!("{} events", self.hec.lock().indexed.len());
        self.server.wait_until(within, changes, || check(&self.hec.lock().indexed), describe).await
    }

    /// Drops every connection and returns once all is over.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl State {
    fn index(&mut self) {
        for (id, events) in std::mem::take(&mut self.received) {
            self.indexed.extend(events);
            self.unsaid.insert(id);
        }
    }
}

/// An answer other than success: status, code, words, and the number of the event at fault.
struct Fault(StatusCode, u16, &'static str, Option<usize>);

impl Fault {
    fn response(self) -> Response<Frames> {
        let Self(status, code, text, number) = self;
        let body = match number {
            Some(number) => json!({"text": text, "code": code, "invalid-event-number": number}),
            None => json!({"text": text, "code": code}),
        };
        reply::json(status, &body)
    }
}

impl Service for Hec {
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().trim_end_matches("/1.0").trim_end_matches('/').to_owned();
        if (&head.method, path.as_str()) == (&Method::GET, "/services/collector/health") {
            return Ok(reply::json(StatusCode::OK, &json!({"text": "HEC is healthy", "code": 17})));
        }
        if (&head.method, path.as_str()) == (&Method::GET, "/demo/events") {
            return Ok(reply::json(StatusCode::OK, &json!({"events": self.lock().indexed})));
        }
        let body = match server::read_body(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(server::BodyError::TooLarge) => {
                return Ok(
                    Fault(StatusCode::PAYLOAD_TOO_LARGE, 27, "Content-Length too large", None).response()
                );
            }
            Err(server::BodyError::Broken) => return Err(Cut),
        };
        let answer = match (&head.method, path.as_str()) {
            (&Method::POST, "/services/collector" | "/services/collector/event") => {
                self.take(&head.headers, head.uri.query(), &body)
            }
            (&Method::POST, "/services/collector/ack") => self.acks(&head.headers, head.uri.query(), &body),
            _ => Err(Fault(
                StatusCode::NOT_FOUND,
                404,
                "The requested URL was not found on this server.",
                None,
            )),
        };
        Ok(match answer {
            Ok(body) => reply::json(StatusCode::OK, &body),
            Err(fault) => fault.response(),
        })
    }
}

impl Hec {
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(Fault(StatusCode::UNAUTHORIZED, 2, "Token is required", None));
        };
        match value.to_str().ok().and_then(|text| text.strip_prefix("Splunk ")) {
            None => Err(Fault(StatusCode::UNAUTHORIZED, 3, "Invalid authorization", None)),
            Some(token) if token == self.options.token => Ok(()),
            Some(_) => Err(Fault(StatusCode::FORBIDDEN, 4, "Invalid token", None)),
        }
    }

    /// The channel, which a token with acknowledgement has to have.
    fn channel(&self, headers: &HeaderMap, query: Option<&str>) -> Result<String, Fault> {
        let header = headers.get("x-splunk-request-channel").and_then(|value| value.to_str().ok());
        let in_query = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .find_map(|(name, value)| (name == "channel").then(|| value.into_owned()));
        let Some(channel) = header.map(str::to_owned).or(in_query) else {
            return Err(Fault(StatusCode::BAD_REQUEST, 10, "Data channel is missing", None));
        };
        let groups: Vec<usize> = channel.split('-').map(str::len).collect();
        let is_guid =
            groups == [8, 4, 4, 4, 12] && channel.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
        if is_guid {
            Ok(channel)
        } else {
            Err(Fault(StatusCode::BAD_REQUEST, 11, "Invalid data channel", None))
        }
    }

    fn take(&self, headers: &HeaderMap, query: Option<&str>, body: &Bytes) -> Result<Value, Fault> {
        self.lock().requests += 1;
        self.check_token(headers)?;
        let channel = if self.options.acks { Some(self.channel(headers, query)?) } else { None };
        let bad = Fault(StatusCode::BAD_REQUEST, 6, "Invalid data format", None);
        let Some(body) = unpacked(headers, body, BODY_BYTES_MAX) else { return Err(bad) };
        let (events, fault) = self.envelopes(&body);
        if events.is_empty() && fault.is_none() {
            return Err(Fault(StatusCode::BAD_REQUEST, 5, "No data", None));
        }
        if let Some(fault) = fault {
            // What stands before the one at fault is indexed all the same.
            self.change(|state| state.indexed.extend(events));
            return Err(fault);
        }
        Ok(self.change(|state| {
            let id = state.next_id;
            state.next_id += 1;
            let lost = state.lose > 0;
            state.lose = state.lose.saturating_sub(1);
            match channel {
                _ if lost => {}
                Some(channel) => drop(state.received.insert((channel, id), events)),
                None => state.indexed.extend(events),
            }
            if !state.stalled {
                state.index();
            }
            if self.options.acks {
                json!({"text": "Success", "code": 0, "ackId": id})
            } else {
                json!({"text": "Success", "code": 0})
            }
        }))
    }

    /// The envelopes of a body, one behind the other, up to the first that is at fault.
    fn envelopes(&self, body: &[u8]) -> (Vec<Value>, Option<Fault>) {
        let mut events = Vec::new();
        for envelope in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
            let number = events.len();
            let Ok(Value::Object(envelope)) = envelope else {
                return (
                    events,
                    Some(Fault(StatusCode::BAD_REQUEST, 6, "Invalid data format", Some(number))),
                );
            };
            if let Some((code, text)) = self.fault_of(&envelope) {
                return (events, Some(Fault(StatusCode::BAD_REQUEST, code, text, Some(number))));
            }
            events.push(Value::Object(envelope));
        }
        (events, None)
    }

    fn fault_of(&self, envelope: &Map<String, Value>) -> Option<(u16, &'static str)> {
        if envelope.keys().any(|key| !ENVELOPE.contains(&key.as_str())) {
            return Some((6, "Invalid data format"));
        }
        match envelope.get("event") {
            None => return Some((12, "Event field is required")),
            Some(Value::Null) => return Some((13, "Event field cannot be blank")),
            Some(Value::String(text)) if text.is_empty() => return Some((13, "Event field cannot be blank")),
            Some(_) => {}
        }
        let index = envelope.get("index").and_then(Value::as_str);
        if index.is_some_and(|index| !self.options.indexes.iter().any(|known| known == index)) {
            return Some((7, "Incorrect index"));
        }
        // Seconds; milliseconds would be thousands of years ahead.
        let seconds = match envelope.get("time") {
            None => 0.0,
            Some(time) => time.as_f64().or_else(|| time.as_str()?.parse().ok()).unwrap_or(-1.0),
        };
        if !(0.0..1e11).contains(&seconds) {
            return Some((6, "Invalid data format"));
        }
        // Texts, or lists of them; nothing else is indexed.
        let is_flat = |fields: &Map<String, Value>| {
            fields.values().all(|value| match value {
                Value::Array(values) => values.iter().all(Value::is_string),
                value => value.is_string(),
            })
        };
        match envelope.get("fields") {
            None => None,
            Some(Value::Object(fields)) if is_flat(fields) => None,
            Some(_) => Some((15, "Error in handling indexed fields")),
        }
    }

    fn acks(&self, headers: &HeaderMap, query: Option<&str>, body: &Bytes) -> Result<Value, Fault> {
        self.check_token(headers)?;
        if !self.options.acks {
            return Err(Fault(StatusCode::BAD_REQUEST, 14, "ACK is disabled", None));
        }
        let channel = self.channel(headers, query)?;
        let asked: Option<Vec<u64>> = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|body| body.get("acks")?.as_array()?.iter().map(Value::as_u64).collect());
        let bad = Fault(StatusCode::BAD_REQUEST, 6, "Invalid data format", None);
        let asked = asked.ok_or(bad)?;
        let mut state = self.lock();
        let acks: Map<String, Value> = asked
            .into_iter()
            .map(|id| (id.to_string(), Value::Bool(state.unsaid.remove(&(channel.clone(), id)))))
            .collect();
        Ok(json!({ "acks": acks }))
    }
}
