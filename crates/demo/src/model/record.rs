//! What the model remembers of its requests, for tests: the requests themselves, bounded, and how their
//! answers ended.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// Bytes of bodies kept; with them the oldest requests go. Enough for a thousand requests of a test.
const BODY_BYTES_KEPT_MAX: usize = 32 << 20;

/// How the answers to chat completion requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that came.
    pub requests: u64,
    /// Of those, not yet at their end.
    pub in_flight: u64,
    /// Answered in full, or cut off as scripted.
    pub completed: u64,
    /// Left by the client before the end.
    pub cancelled: u64,
}

/// A request as it came.
#[derive(Clone, PartialEq)]
pub struct RecordedRequest {
    /// Its number, from 1.
    pub index: u64,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Every header, credentials included.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

impl RecordedRequest {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first value of a header, where it is a text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// As shown over HTTP: without credentials.
    pub(crate) fn shown(&self) -> Value {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .filter(|(name, _)| **name != AUTHORIZATION && *name != "x-api-key")
            .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
            .collect();
        json!({
            "index": self.index, "method": self.method.as_str(), "path": self.path,
            "headers": headers, "body": self.json(),
        })
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown())
    }
}

/// The memory, shared with the requests in flight.
#[derive(Debug)]
pub(crate) struct Record {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    requests_kept_max: usize,
}

#[derive(Debug, Default)]
struct State {
    stats: Stats,
    requests: VecDeque<RecordedRequest>,
    body_bytes: usize,
}

impl Record {
    pub(crate) fn new(requests_kept_max: usize) -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0), requests_kept_max }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().stats
    }

    pub(crate) fn requests_after(&self, index: u64) -> Vec<RecordedRequest> {
        self.lock().requests.iter().filter(|request| request.index > index).cloned().collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Counts a request that came in.
    pub(crate) fn enter(self: &Arc<Self>) -> Flight {
        self.change(|state| {
            state.stats.requests += 1;
            state.stats.in_flight += 1;
        });
        Flight { record: Some(Arc::clone(self)) }
    }

    /// Keeps a request.
    pub(crate) fn keep(&self, method: Method, path: String, headers: HeaderMap, body: Bytes) {
        self.change(|state| {
            let index = state.requests.back().map_or(0, |last| last.index) + 1;
            state.body_bytes += body.len();
            state.requests.push_back(RecordedRequest { index, method, path, headers, body });
            while state.requests.len() > self.requests_kept_max || state.body_bytes > BODY_BYTES_KEPT_MAX {
                let Some(oldest) = state.requests.pop_front() else { break };
                state.body_bytes -= oldest.body.len();
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Dropped without an end, it counts as left by its client.
pub(crate) struct Flight {
    record: Option<Arc<Record>>,
}

impl Flight {
    /// The answer is over; `completed` tells whether it was handed over in full.
    pub(crate) fn end(mut self, completed: bool) {
        self.settle(completed);
    }

    fn settle(&mut self, completed: bool) {
        if let Some(record) = self.record.take() {
            record.change(|state| {
                state.stats.in_flight -= 1;
                let ended = if completed { &mut state.stats.completed } else { &mut state.stats.cancelled };
                *ended += 1;
            });
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.settle(false);
    }
}
