//! A Datadog Logs intake to test senders against, as strict as the documentation of the real one and honest
//! about what the real one keeps quiet: what it drops or cuts behind a 202 is recorded here. Faults can be
//! scripted ([`Step`]), over HTTP too ([`CONTROL_HELP`]).

mod check;
mod control;
mod decode;
mod error;
mod ledger;
mod pack;
mod script;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::decode::Entry;
use self::error::IntakeError;
use crate::reply::{self, Cut, Frames};
use crate::server::{self, BodyError, Server, Service, WaitError};

pub use self::check::{
    AGE_MAX, AHEAD_MAX, ATTRIBUTES_LIMIT, Dropped, KEY_CHARS_LIMIT, LEVELS_LIMIT, LOG_BYTES_MAX,
    TAG_CHARS_MAX, TAGS_MAX, Violation,
};
pub use self::control::CONTROL_HELP;
pub use self::decode::{BODY_BYTES_MAX, ENTRIES_MAX, Encoding};
pub use self::ledger::{Ledger, Received, ReceivedRequest, Stats};
pub use self::script::{Act, Step};

/// The key that is taken unless [`IntakeOptions::api_keys`] says otherwise.
pub const DEFAULT_API_KEY: &str = "demo-datadog-key";

/// How to run an intake.
#[derive(Clone)]
pub struct IntakeOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Keys that are taken. Empty: none is.
    pub api_keys: Vec<String>,
    /// A file that every log answered 202 is appended to before the answer, as a line of JSON shaped like
    /// [`Received`].
    pub journal: Option<PathBuf>,
    /// Logs kept in memory; the oldest go first.
    pub logs_kept_max: usize,
    /// For benchmarks: check the key, unpack and count, and keep nothing.
    pub count_only: bool,
}

impl Default for IntakeOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_keys: vec![DEFAULT_API_KEY.to_owned()],
            journal: None,
            logs_kept_max: 50_000,
            count_only: false,
        }
    }
}

impl fmt::Debug for IntakeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntakeOptions")
            .field("listen", &self.listen)
            .field("api_keys", &self.api_keys.len())
            .field("journal", &self.journal)
            .field("logs_kept_max", &self.logs_kept_max)
            .field("count_only", &self.count_only)
            .finish()
    }
}

/// The intake.
pub struct Intake {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    count_only: bool,
}

struct State {
    ledger: Ledger,
    script: VecDeque<Step>,
    api_keys: Vec<String>,
    clock_ahead: SignedDuration,
    objects: pack::Objects,
}

impl Intake {
    /// Starts an intake.
    ///
    /// # Errors
    /// Where the address cannot be bound or the journal not opened.
    pub async fn start(options: IntakeOptions) -> io::Result<Running> {
        let ledger = Ledger::open(options.logs_kept_max, options.journal.as_deref())?;
        let intake = Arc::new(Self {
            state: Mutex::new(State {
                ledger,
                script: VecDeque::new(),
                api_keys: options.api_keys,
                clock_ahead: SignedDuration::ZERO,
                objects: pack::Objects::default(),
            }),
            changes: watch::Sender::new(0),
            count_only: options.count_only,
        });
        let server = Server::start(options.listen, Arc::clone(&intake)).await?;
        Ok(Running { server, intake })
    }
}

/// A running intake. Dropping it ends it without waiting.
pub struct Running {
    server: Server,
    intake: Arc<Intake>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addr", &self.addr()).field("stats", &self.stats()).finish()
    }
}

impl Running {
    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What a destination's `endpoint` is set to: `http://ADDR/api/v2/logs`.
    pub fn endpoint(&self) -> String {
        format!("http://{}{LOGS_PATH}", self.addr())
    }

    /// The logs that can be found, oldest first.
    pub fn logs(&self) -> Vec<Arc<Received>> {
        self.read(|ledger| ledger.logs().cloned().collect())
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.read(|ledger| ledger.stats().clone())
    }

    /// Looks into the ledger. No request is handled meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.intake.lock().ledger)
    }

    /// Waits until the ledger satisfies `check`, which is asked at once and after every change.
    ///
    /// # Errors
    /// Where it does not `within` that time, or the intake stops first.
    pub async fn wait_for(
        &self,
        within: Duration,
        mut check: impl FnMut(&Ledger) -> bool,
    ) -> Result<(), WaitError> {
        let changes = self.intake.changes.subscribe();
        let describe = || format!("{:?}", self.stats());
        self.server.wait_until(within, changes, || self.read(&mut check), describe).await
    }

    /// Follows the logs from now on, dropped ones included.
    pub fn subscribe(&self) -> Subscription {
        let changes = self.intake.changes.subscribe();
        let seen = self.read(|ledger| ledger.stats().received);
        Subscription { intake: Arc::clone(&self.intake), changes, seen }
    }

    /// Replaces the script. Without steps, requests are handled as usual.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.intake.set_script(steps, false);
    }

    /// Steps of the script not yet used up.
    pub fn script_left(&self) -> usize {
        self.intake.lock().script.len()
    }

    /// Replaces the keys that are taken.
    pub fn set_api_keys(&self, keys: impl IntoIterator<Item = String>) {
        self.intake.lock().api_keys = keys.into_iter().collect();
    }

    /// Sets the intake's clock this far ahead of the machine's, for the rule on old logs.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        self.intake.lock().clock_ahead = ahead;
    }

    /// Drops every connection and returns once all is over.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

/// A reader that gets each log once.
pub struct Subscription {
    intake: Arc<Intake>,
    changes: watch::Receiver<u64>,
    seen: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("seen", &self.seen).finish()
    }
}

impl Subscription {
    /// The next log. Logs that left the memory before they were asked for are passed over. Cancel safe.
    /// Waits for ever once the intake has stopped: bound it with a timeout.
    pub async fn next(&mut self) -> Arc<Received> {
        loop {
            self.changes.borrow_and_update();
            let next = self.intake.lock().ledger.received_after(self.seen).next().cloned();
            if let Some(log) = next {
                self.seen = log.index;
                return log;
            }
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Where logs go.
const LOGS_PATH: &str = "/api/v2/logs";

impl Service for Intake {
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, LOGS_PATH) => self.logs(request).await,
            (_, LOGS_PATH) => Ok(IntakeError::Method.response()),
            (&Method::GET, "/api/v1/validate") => Ok(self.validate(request.headers())),
            (&Method::GET, "/healthz") => Ok(reply::whole(StatusCode::OK, "text/plain", "ok\n")),
            (_, path) if path.starts_with("/demo/") => Ok(self.control(request).await),
            (_, path) if pack::is_for(path) => self.pack(request).await,
            _ => Ok(IntakeError::NoPath.response()),
        }
    }
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
        result
    }

    fn set_script(&self, steps: impl IntoIterator<Item = Step>, append: bool) {
        let mut state = self.lock();
        if !append {
            state.script.clear();
        }
        state.script.extend(steps.into_iter().filter(|step| step.times > 0));
    }

    fn next_step(&self) -> Step {
        let mut state = self.lock();
        let Some(step) = state.script.front_mut() else { return Step::new(Act::Handle) };
        let taken = step.clone();
        if step.times < u32::MAX {
            step.times -= 1;
        }
        if step.times == 0 {
            state.script.pop_front();
        }
        taken
    }

    /// Handles a request to the logs path: the next step of the script decides how.
    async fn logs(&self, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let visit = Visit::enter(self, request.headers());
        let step = self.next_step();
        if step.act == Act::CutBeforeRead {
            return Err(Cut);
        }
        let (head, body) = request.into_parts();
        let body = match server::read_body(body, decode::WIRE_BYTES_MAX).await {
            Ok(body) => Ok(body),
            Err(BodyError::TooLarge) => Err(IntakeError::TooLarge),
            Err(BodyError::Broken) => return Err(Cut),
        };
        if !step.latency.is_zero() {
            tokio::time::sleep(step.latency).await;
        }
        let query = head.uri.query().unwrap_or_default();
        let mut response = self.act(visit, step.act, &head.headers, query, body).await?;
        if let Some(Ok(value)) = step.retry_after.as_deref().map(HeaderValue::from_str) {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        Ok(response)
    }

    async fn act(
        &self,
        mut visit: Visit<'_>,
        act: Act,
        headers: &HeaderMap,
        query: &str,
        body: Result<Bytes, IntakeError>,
    ) -> Result<Response<Frames>, Cut> {
        visit.request.wire_bytes = body.as_ref().map_or(0, Bytes::len);
        let outcome = match act {
            Act::CutBeforeRead => return Err(Cut),
            Act::Hang => std::future::pending().await,
            Act::Status { status } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Err(IntakeError::Scripted(status))
            }
            Act::CutAfterRead { keep: false } => return Err(Cut),
            Act::Handle | Act::AcceptThenLose | Act::CutAfterRead { keep: true } => {
                let lose = act == Act::AcceptThenLose;
                body.and_then(|body| self.take(&mut visit, headers, query, body, lose))
            }
        };
        if matches!(act, Act::CutAfterRead { .. }) {
            return Err(Cut);
        }
        let response = match outcome {
            Ok(()) => reply::json(StatusCode::ACCEPTED, &json!({})),
            Err(IntakeError::Scripted(status)) if status.is_success() => reply::json(status, &json!({})),
            Err(error) => error.response(),
        };
        visit.request.status = Some(response.status().as_u16());
        Ok(response)
    }

    /// Checks a request and takes its logs in, or counts them as lost.
    fn take(
        &self,
        visit: &mut Visit<'_>,
        headers: &HeaderMap,
        query: &str,
        body: Bytes,
        lose: bool,
    ) -> Result<(), IntakeError> {
        self.check_key(headers)?;
        let encoding = decode::Encoding::of(headers)?;
        visit.request.encoding = Some(encoding);
        let body = encoding.inflate(body)?;
        visit.request.inflated_bytes = body.len();
        if self.count_only {
            let entries = decode::count(&body)?;
            visit.request.entries = entries;
            self.change(|state| state.ledger.count(entries));
            return Ok(());
        }
        let mut entries = decode::entries(headers, &body)?;
        visit.request.entries = entries.len();
        let query_tags = query_fields(query, &mut entries);
        let (now, received_at) = self.now();
        let checked = entries.into_iter().map(|entry| {
            let bytes = entry.bytes;
            let mut checked = check::check(entry, &query_tags, now);
            if lose {
                checked.dropped = Some(Dropped::Lost);
            }
            (checked, bytes)
        });
        let checked: Vec<_> = checked.collect();
        self.change(|state| state.ledger.take(checked, received_at)).map_err(|error| {
            tracing::error!(%error, "journal not written");
            IntakeError::Scripted(StatusCode::SERVICE_UNAVAILABLE)
        })
    }

    /// The intake's idea of now, and the machine's.
    fn now(&self) -> (Timestamp, Timestamp) {
        let now = Timestamp::now();
        let ahead = self.lock().clock_ahead;
        (now.saturating_add(ahead).unwrap_or(now), now)
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), IntakeError> {
        match headers.get("dd-api-key").map(HeaderValue::as_bytes) {
            None | Some(b"") => Err(IntakeError::NoKey),
            Some(key) if self.lock().api_keys.iter().any(|taken| taken.as_bytes() == key) => Ok(()),
            Some(_) => Err(IntakeError::WrongKey),
        }
    }

    fn validate(&self, headers: &HeaderMap) -> Response<Frames> {
        match self.check_key(headers) {
            Ok(()) => reply::json(StatusCode::OK, &json!({"valid": true})),
            Err(_) => reply::json(StatusCode::FORBIDDEN, &json!({"errors": ["Forbidden"]})),
        }
    }
}

/// Puts the fields that came in the query into the logs that lack them; returns the tags that came there.
fn query_fields(query: &str, entries: &mut [Entry]) -> String {
    let mut tags = String::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "ddtags" => tags = value.into_owned(),
            "ddsource" | "service" | "hostname" => {
                for object in entries.iter_mut().filter_map(|entry| entry.log.as_object_mut()) {
                    object.entry(name.as_ref()).or_insert_with(|| Value::from(value.as_ref()));
                }
            }
            _ => {}
        }
    }
    tags
}

/// A request under way; its end is noted however it comes.
struct Visit<'a> {
    intake: &'a Intake,
    request: ReceivedRequest,
}

impl<'a> Visit<'a> {
    fn enter(intake: &'a Intake, headers: &HeaderMap) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let request = ReceivedRequest {
            index: 0,
            at: Timestamp::UNIX_EPOCH,
            status: None,
            encoding: None,
            wire_bytes: 0,
            inflated_bytes: 0,
            entries: 0,
            origin: headers.get("dd-evp-origin").map(text),
            user_agent: headers.get(USER_AGENT).map(text),
        };
        intake.change(|state| state.ledger.enter());
        Self { intake, request }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.request.at = Timestamp::now();
        let request = self.request.clone();
        self.intake.change(|state| state.ledger.leave(request));
    }
}
