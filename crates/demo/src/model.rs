//! A built-in OpenAI-compatible chat model: deterministic, scripted by directives in the user's message
//! ([`DIRECTIVES_HELP`]), strict about what it accepts. Without directives it answers a short sentence that
//! repeats the last user message, so that what reached it can be seen.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | a chat completion, streamed or not |
//! | `GET /v1/models`, `/v1/models/{id}` | the models of [`ModelOptions::models`] |
//! | `GET /healthz` | `ok` |
//! | `GET /demo/requests?after=N` | the requests kept, without credentials |
//! | `GET /demo/stats?cancelled=N&requests=N&wait_ms=N` | [`Stats`]; waits until the counts are reached |
//!
//! It refuses with 400 what a gateway should have kept for itself: top-level `policy` and `policy_*`
//! members, `x-policy-*` headers, and bearer keys that start with `ak_`.

mod answer;
mod directives;
mod error;
mod record;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::answer::{Answer, Envelope};
use self::directives::Directives;
use self::error::ApiError;
use self::record::{Flight, Record};
use self::request::ChatRequest;
use crate::reply::{self, Act, Cut, Frames};
use crate::server::{self, BodyError, Server, Service, WaitError};

pub use self::directives::DIRECTIVES_HELP;
pub use self::record::{RecordedRequest, Stats};

/// The model that is there unless [`ModelOptions::models`] says otherwise.
pub const DEFAULT_MODEL: &str = "demo-model";

/// Largest request body taken. Room for a few images in base64.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Longest wait a caller of `/demo/stats` may ask for.
const STATS_WAIT_MAX: Duration = Duration::from_secs(60);

/// How to run a model.
#[derive(Clone)]
pub struct ModelOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Models that are there. `*` in the list lets any name pass.
    pub models: Vec<String>,
    /// The bearer key to ask for; `None` takes any, and none.
    pub api_key: Option<String>,
    /// For benchmarks: answer this text to every chat completion, from memory, checking and recording nothing.
    pub fixed_reply: Option<String>,
    /// Requests kept for [`Running::requests`]; the oldest go first.
    pub requests_kept_max: usize,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            models: vec![DEFAULT_MODEL.to_owned()],
            api_key: None,
            fixed_reply: None,
            requests_kept_max: 1_000,
        }
    }
}

impl fmt::Debug for ModelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelOptions")
            .field("listen", &self.listen)
            .field("models", &self.models)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("fixed_reply", &self.fixed_reply)
            .field("requests_kept_max", &self.requests_kept_max)
            .finish()
    }
}

/// The model.
#[derive(Debug)]
pub struct Model {
    options: ModelOptions,
    fixed: Option<Fixed>,
    record: Arc<Record>,
    answers: AtomicU64,
}

impl Model {
    /// Starts a model.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: ModelOptions) -> io::Result<Running> {
        let record = Arc::new(Record::new(options.requests_kept_max));
        let listen = options.listen;
        let fixed = options.fixed_reply.as_deref().map(Fixed::new);
        let model =
            Arc::new(Self { options, fixed, record: Arc::clone(&record), answers: AtomicU64::new(0) });
        let server = Server::start(listen, model).await?;
        Ok(Running { server, record })
    }
}

/// A running model. Dropping it ends it without waiting.
#[derive(Debug)]
pub struct Running {
    server: Server,
    record: Arc<Record>,
}

impl Running {
    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What a client or an upstream's `base_url` is set to: `http://ADDR/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    /// The chat completion requests kept, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.record.requests_after(0)
    }

    /// How the answers ended so far.
    pub fn stats(&self) -> Stats {
        self.record.stats()
    }

    /// Waits until the counts satisfy `check`.
    ///
    /// # Errors
    /// Where they do not `within` that time, or the model stops first.
    pub async fn wait_for(
        &self,
        within: Duration,
        mut check: impl FnMut(&Stats) -> bool,
    ) -> Result<(), WaitError> {
        let record = &self.record;
        let describe = || format!("{:?}", record.stats());
        self.server.wait_until(within, record.changes(), || check(&record.stats()), describe).await
    }

    /// Drops every connection and returns once all is over.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl Service for Model {
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::POST, "/v1/chat/completions") => self.chat(request).await,
            (&Method::GET, "/healthz") => Ok(reply::whole(StatusCode::OK, "text/plain", "ok\n")),
            (&Method::GET, "/v1/models") => Ok(self.models(request.headers())),
            (&Method::GET, "/demo/requests") => Ok(self.shown_requests(request.uri().query())),
            (&Method::GET, "/demo/stats") => Ok(self.shown_stats(request.uri().query()).await),
            (method, path) => match (method, path.strip_prefix("/v1/models/")) {
                (&Method::GET, Some(id)) => Ok(self.model(request.headers(), id)),
                _ => Ok(ApiError::no_path(method.as_str(), path).into_response()),
            },
        }
    }
}

impl Model {
    async fn chat(&self, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let (head, body) = request.into_parts();
        if let Some(fixed) = &self.fixed {
            let body = server::read_body(body, BODY_BYTES_MAX).await.map_err(|_| Cut)?;
            return Ok(fixed.answer(&body));
        }
        let flight = self.record.enter();
        let body = match server::read_body(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                return Ok(ended(flight, ApiError::too_large(BODY_BYTES_MAX).into_response()));
            }
            Err(BodyError::Broken) => return Err(Cut),
        };
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        self.record.keep(head.method, path, head.headers.clone(), body.clone());
        match self.answer(&head.headers, &body) {
            Ok(plan) => plan.run(flight).await,
            Err(error) => Ok(ended(flight, error.into_response())),
        }
    }

    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Plan, ApiError> {
        self.check_key(headers)?;
        let request = ChatRequest::parse(headers, body)?;
        if !self.has(&request.model) {
            return Err(ApiError::no_model(&request.model, &self.options.models));
        }
        let parse = |script: &str| {
            Directives::parse(script).map_err(|error| ApiError::invalid(error.to_string(), Some("messages")))
        };
        let (mut directives, mut text) = parse(&request.user)?;
        if let Some(script) = directives.again.take().filter(|_| request.answered) {
            (directives, text) = parse(&script)?;
        }
        let number = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let envelope = Envelope {
            id: format!("chatcmpl-demo{number:08}"),
            created: Timestamp::now().as_second(),
            model: request.model.clone(),
        };
        let answer = Answer::new(&request, &directives, &text);
        Ok(Plan { request, directives, envelope, answer })
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let key = given.strip_prefix("Bearer ").unwrap_or_default();
        if key.starts_with("ak_") || headers.contains_key("x-api-key") {
            return Err(ApiError::invalid("A gateway's own key must not reach a model.", None));
        }
        match &self.options.api_key {
            Some(wanted) if wanted != key => Err(ApiError::unauthorized()),
            _ => Ok(()),
        }
    }

    fn has(&self, model: &str) -> bool {
        self.options.models.iter().any(|one| one == "*" || one == model)
    }

    fn models(&self, headers: &HeaderMap) -> Response<Frames> {
        if let Err(error) = self.check_key(headers) {
            return error.into_response();
        }
        let data: Vec<Value> =
            self.options.models.iter().filter(|id| *id != "*").map(|id| model_object(id)).collect();
        reply::json(StatusCode::OK, &json!({"object": "list", "data": data}))
    }

    fn model(&self, headers: &HeaderMap, id: &str) -> Response<Frames> {
        match self.check_key(headers) {
            Err(error) => error.into_response(),
            Ok(()) if self.has(id) => reply::json(StatusCode::OK, &model_object(id)),
            Ok(()) => ApiError::no_model(id, &self.options.models).into_response(),
        }
    }

    fn shown_requests(&self, query: Option<&str>) -> Response<Frames> {
        let kept = self.record.requests_after(query_number(query, "after").unwrap_or(0));
        let shown: Vec<Value> = kept.iter().map(RecordedRequest::shown).collect();
        reply::json(StatusCode::OK, &json!({"requests": shown}))
    }

    async fn shown_stats(&self, query: Option<&str>) -> Response<Frames> {
        let wanted = |name| query_number(query, name).unwrap_or(0);
        let (requests, cancelled) = (wanted("requests"), wanted("cancelled"));
        let reached = server::until(self.record.changes(), || {
            let stats = self.record.stats();
            stats.requests >= requests && stats.cancelled >= cancelled
        });
        let wait = Duration::from_millis(wanted("wait_ms")).min(STATS_WAIT_MAX);
        // Reached or not: the caller sees the counts.
        let _ = tokio::time::timeout(wait, reached).await;
        reply::json(StatusCode::OK, &json!(self.record.stats()))
    }
}

fn model_object(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": "demo"})
}

/// The number given for `name` in a query.
pub(crate) fn query_number(query: Option<&str>, name: &str) -> Option<u64> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
}

/// A response whose end counts for `flight`.
fn ended(flight: Flight, response: Response<Frames>) -> Response<Frames> {
    response.map(|frames| frames.on_end(Box::new(move |completed| flight.end(completed))))
}

/// An answer and the script it is given by.
struct Plan {
    request: ChatRequest,
    directives: Directives,
    envelope: Envelope,
    answer: Answer,
}

impl Plan {
    async fn run(self, flight: Flight) -> Result<Response<Frames>, Cut> {
        let directives = &self.directives;
        let faulty = directives.cut == Some(0) || directives.hang.is_some() || directives.status.is_some();
        if !directives.delay.is_zero() && (faulty || !self.request.stream) {
            tokio::time::sleep(directives.delay).await;
        }
        // Not streamed, there are no frames to hang or cut between.
        match directives.hang {
            Some(after) if after == 0 || !self.request.stream => std::future::pending().await,
            _ => {}
        }
        if directives.cut == Some(0) {
            flight.end(true);
            return Err(Cut);
        }
        let mut response = match directives.status {
            Some(status) if directives.json.is_none() => {
                ApiError::scripted(status, directives.retry_after.clone()).into_response()
            }
            _ if directives.json.is_some() => self.raw(),
            _ if self.request.stream => self.streamed(),
            _ => self.whole(),
        };
        response.headers_mut().insert(X_REQUEST_ID, header(&self.envelope.id.replace("chatcmpl", "req")));
        Ok(ended(flight, response))
    }

    /// The body of `demo:json`, with the status of `demo:status` where there is one.
    fn raw(&self) -> Response<Frames> {
        let body = self.directives.json.clone().unwrap_or_default();
        let status = self.directives.status.and_then(|status| StatusCode::from_u16(status).ok());
        reply::whole(status.unwrap_or(StatusCode::OK), "application/json", body)
    }

    fn whole(&self) -> Response<Frames> {
        let mut body = self.answer.to_body(&self.envelope).to_string();
        if self.directives.malformed {
            body.truncate(body.find("\"choices\"").unwrap_or(0));
        }
        if self.directives.cut.is_some() {
            return reply::half("application/json", &body);
        }
        reply::whole(StatusCode::OK, "application/json", body)
    }

    fn streamed(&self) -> Response<Frames> {
        let acts = stream::acts(&self.answer, &self.envelope, self.request.include_usage, &self.directives);
        event_stream(acts)
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

fn event_stream(acts: impl IntoIterator<Item = Act>) -> Response<Frames> {
    let mut response = Response::new(Frames::new(acts));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Answers made once, for benchmarks.
#[derive(Debug)]
struct Fixed {
    body: Bytes,
    frames: Vec<Bytes>,
}

impl Fixed {
    fn new(text: &str) -> Self {
        let request = ChatRequest {
            model: DEFAULT_MODEL.to_owned(),
            stream: true,
            include_usage: true,
            choices: 1,
            words_max: None,
            logprobs: false,
            user: String::new(),
            instructed: false,
            answered: false,
            tool_result: None,
            prompt_words: 1,
        };
        let directives = Directives { says: vec![text.to_owned()], ..Directives::default() };
        let envelope = Envelope {
            id: "chatcmpl-demo".to_owned(),
            created: 1_767_225_600,
            model: DEFAULT_MODEL.to_owned(),
        };
        let answer = Answer::new(&request, &directives, "");
        let acts = stream::acts(&answer, &envelope, true, &directives);
        let frames = acts.into_iter().filter_map(|act| match act {
            Act::Data(bytes) => Some(bytes),
            _ => None,
        });
        Self { body: Bytes::from(answer.to_body(&envelope).to_string()), frames: frames.collect() }
    }

    fn answer(&self, request: &[u8]) -> Response<Frames> {
        const STREAM: &[&[u8]] = &[br#""stream":true"#, br#""stream": true"#];
        if STREAM.iter().any(|mark| request.windows(mark.len()).any(|window| window == *mark)) {
            event_stream(self.frames.iter().flat_map(|frame| [Act::Data(frame.clone()), Act::Flush]))
        } else {
            reply::whole(StatusCode::OK, "application/json", self.body.clone())
        }
    }
}
