//! Azure's token endpoint and Logs Ingestion API to test senders against, as strict as their documentation and honest about
//! what the real ones keep quiet: columns that are dropped, values that are cut and times that are replaced behind a 204 are
//! recorded here. Statuses can be scripted, over HTTP too ([`CONTROL_HELP`]).

mod check;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::check::Refusal;
use crate::model::query_number;
use crate::reply::{self, Cut, Frames};
use crate::server::{self, BodyError, Server, Service, WaitError};

pub use self::check::{BODY_BYTES_MAX, Columns, Row, VALUE_BYTES_MAX, columns_of_template};

/// The application's secret unless [`IngestionOptions::client_secret`] says otherwise.
pub const DEFAULT_SECRET: &str = "demo-azure-secret";
/// The one directory.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// The one application.
pub const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
/// The one data collection rule.
pub const RULE: &str = "dcr-0123456789abcdef0123456789abcdef";
/// The one stream.
pub const STREAM: &str = "Custom-PolicyGateway_CL";
/// The one scope that tokens are for.
const SCOPE: &str = "https://monitor.azure.com/.default";
/// The one version of the API.
const API_VERSION: &str = "2023-01-01";
/// Largest form or control request.
const FORM_BYTES_MAX: usize = 64 << 10;
/// Longest wait for a row.
const ROWS_WAIT_MAX: Duration = Duration::from_secs(60);

/// The remote control, for `--help`.
pub const CONTROL_HELP: &str = "\
Tokens come from POST /11111111-2222-3333-4444-555555555555/oauth2/v2.0/token (client
66666666-7777-8888-9999-000000000000), rows go to POST /dataCollectionRules/dcr-0123456789abcdef0123456789abcdef
/streams/Custom-PolicyGateway_CL?api-version=2023-01-01. Beside them:

  GET  /demo/rows?after=N&wait_ms=N   rows numbered above N, with what Azure would have done to them in silence; waits for
                                      the first one
  POST /demo/script  {\"statuses\": [429, 503, …]}: what the next requests for rows are answered";

/// How to run it.
#[derive(Clone)]
pub struct IngestionOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Of the one application.
    pub client_secret: String,
    /// What the rule's stream declares, name to type. Without it every column goes.
    pub columns: Option<Columns>,
    /// Rows kept in memory; the oldest go first.
    pub rows_kept_max: usize,
}

impl Default for IngestionOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            client_secret: DEFAULT_SECRET.to_owned(),
            columns: None,
            rows_kept_max: 50_000,
        }
    }
}

impl fmt::Debug for IngestionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestionOptions")
            .field("listen", &self.listen)
            .field("columns", &self.columns)
            .finish()
    }
}

/// The two endpoints.
pub struct Ingestion {
    options: IngestionOptions,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    rows: VecDeque<Arc<Row>>,
    received: u64,
    tokens: BTreeSet<String>,
    tokens_given: u64,
    statuses: VecDeque<u16>,
}

impl Ingestion {
    /// Starts it.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: IngestionOptions) -> io::Result<Running> {
        let listen = options.listen;
        let ingestion = Arc::new(Self { options, state: Mutex::default(), changes: watch::Sender::new(0) });
        let server = Server::start(listen, Arc::clone(&ingestion)).await?;
        Ok(Running { server, ingestion })
    }
}

/// A running one. Dropping it ends it without waiting.
pub struct Running {
    server: Server,
    ingestion: Arc<Ingestion>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Running {
    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What a destination's `endpoint` and `authority` are set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The rows, oldest first.
    pub fn rows(&self) -> Vec<Arc<Row>> {
        self.ingestion.lock().rows.iter().cloned().collect()
    }

    /// How many tokens were given out.
    pub fn tokens_given(&self) -> u64 {
        self.ingestion.lock().tokens_given
    }

    /// Makes every token given so far worthless.
    pub fn revoke_tokens(&self) {
        self.ingestion.lock().tokens.clear();
    }

    /// What the next requests for rows are answered, one each.
    pub fn script(&self, statuses: impl IntoIterator<Item = u16>) {
        self.ingestion.lock().statuses = statuses.into_iter().collect();
    }

    /// Waits until the rows satisfy `check`, which is asked at once and after every change.
    ///
    /// # Errors
    /// Where they do not `within` that time, or it stops first.
    pub async fn wait_for(
        &self,
        within: Duration,
        mut check: impl FnMut(&[Arc<Row>]) -> bool,
    ) -> Result<(), WaitError> {
        let changes = self.ingestion.changes.subscribe();
        let describe = || format!("{} rows", self.rows().len());
        self.server.wait_until(within, changes, || check(&self.rows()), describe).await
    }

    /// Drops every connection and returns once all is over.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl Service for Ingestion {
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let path = request.uri().path().to_owned();
        let rows = format!("/dataCollectionRules/{RULE}/streams/{STREAM}");
        let answer = match (request.method(), path.as_str()) {
            (&Method::GET, "/demo/rows") => return Ok(self.shown(request.uri().query()).await),
            (&Method::POST, "/demo/script") => return self.scripted(request).await,
            (&Method::POST, path) if path.ends_with("/oauth2/v2.0/token") => {
                return self.token(path, request).await;
            }
            (&Method::POST, path) if path == rows => self.take(request).await?,
            (&Method::POST, path) if path.starts_with("/dataCollectionRules/") => Err(Refusal::NotFound),
            (_, path) if path.starts_with("/demo/") => {
                return Ok(reply::json(StatusCode::NOT_FOUND, &json!({"error": CONTROL_HELP})));
            }
            _ => Err(Refusal::NotFound),
        };
        Ok(match answer {
            Ok(()) => reply::whole(StatusCode::NO_CONTENT, "text/plain", Bytes::new()),
            Err(refusal) => refusal.response(),
        })
    }
}

impl Ingestion {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client credentials flow: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
    async fn token(&self, path: &str, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let refused = |status, error: &str, code: u64| {
            let body = json!({"error": error, "error_description": format!("AADSTS{code}: see the code"),
                "error_codes": [code]});
            Ok(reply::json(status, &body))
        };
        if path != format!("/{TENANT}/oauth2/v2.0/token") {
            return refused(StatusCode::BAD_REQUEST, "invalid_request", 90_002);
        }
        let (head, body) = request.into_parts();
        if media_type(&head.headers) != "application/x-www-form-urlencoded" {
            return refused(StatusCode::BAD_REQUEST, "invalid_request", 900_144);
        }
        let body = read(body, FORM_BYTES_MAX).await?.unwrap_or_default();
        let form: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", 70_003);
        }
        if field("scope") != SCOPE {
            return refused(StatusCode::BAD_REQUEST, "invalid_scope", 70_011);
        }
        if field("client_id") != CLIENT {
            return refused(StatusCode::BAD_REQUEST, "unauthorized_client", 700_016);
        }
        if field("client_secret") != self.options.client_secret {
            return refused(StatusCode::UNAUTHORIZED, "invalid_client", 7_000_215);
        }
        let mut state = self.lock();
        state.tokens_given += 1;
        let token = format!("demo-token-{}", state.tokens_given);
        state.tokens.insert(token.clone());
        let body = json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token});
        Ok(reply::json(StatusCode::OK, &body))
    }

    /// The ingestion: <https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview>.
    async fn take(&self, request: Request<Incoming>) -> Result<Result<(), Refusal>, Cut> {
        let (head, body) = request.into_parts();
        let body = match read(body, BODY_BYTES_MAX).await? {
            Some(body) => body,
            None => return Ok(Err(Refusal::TooLarge)),
        };
        if let Some(status) = self.lock().statuses.pop_front() {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(if status.is_success() { Ok(()) } else { Err(Refusal::Scripted(status)) });
        }
        Ok(self.rows_of(&head.headers, head.uri.query().unwrap_or_default(), body))
    }

    fn rows_of(&self, headers: &HeaderMap, query: &str, body: Bytes) -> Result<(), Refusal> {
        let bearer =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if !bearer.is_some_and(|token| self.lock().tokens.contains(token)) {
            return Err(Refusal::Unauthorized);
        }
        if form_urlencoded::parse(query.as_bytes())
            .all(|(name, value)| name != "api-version" || value != API_VERSION)
        {
            return Err(Refusal::bad("InvalidApiVersion", "the api-version is missing or not known"));
        }
        if media_type(headers) != "application/json" {
            return Err(Refusal::bad("UnsupportedMediaType", "the body has to be application/json"));
        }
        let now = Timestamp::now();
        let rows = check::rows(headers, body)?;
        let rows = rows.into_iter().map(|row| check::check(row, self.options.columns.as_ref(), now));
        let rows: Vec<Row> = rows.collect();
        let mut state = self.lock();
        for mut row in rows {
            state.received += 1;
            row.index = state.received;
            state.rows.push_back(Arc::new(row));
            if state.rows.len() > self.options.rows_kept_max {
                state.rows.pop_front();
            }
        }
        drop(state);
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
        Ok(())
    }

    async fn shown(&self, query: Option<&str>) -> Response<Frames> {
        let after = query_number(query, "after").unwrap_or(0);
        let wait = Duration::from_millis(query_number(query, "wait_ms").unwrap_or(0)).min(ROWS_WAIT_MAX);
        let there = || self.lock().received > after;
        // There or not: the caller sees what there is.
        let _ = tokio::time::timeout(wait, server::until(self.changes.subscribe(), there)).await;
        let rows: Vec<Arc<Row>> = self.lock().rows.iter().filter(|row| row.index > after).cloned().collect();
        let next = rows.last().map_or(after, |row| row.index);
        let rows: Vec<&Row> = rows.iter().map(Arc::as_ref).collect();
        reply::json(StatusCode::OK, &json!({"rows": rows, "next": next}))
    }

    async fn scripted(&self, request: Request<Incoming>) -> Result<Response<Frames>, Cut> {
        let body = read(request.into_body(), FORM_BYTES_MAX).await?.unwrap_or_default();
        let parsed: Option<Vec<u16>> = serde_json::from_slice::<Value>(&body)
            .ok()
            .and_then(|mut body| serde_json::from_value(body.get_mut("statuses")?.take()).ok());
        let Some(statuses) = parsed else {
            return Ok(reply::json(StatusCode::BAD_REQUEST, &json!({"error": CONTROL_HELP})));
        };
        self.lock().statuses = statuses.into_iter().collect();
        Ok(reply::json(StatusCode::OK, &json!({})))
    }
}

impl Refusal {
    fn response(&self) -> Response<Frames> {
        let body = json!({"error": {"code": self.code(), "message": self.to_string()}});
        let mut response = reply::json(self.status(), &body);
        if self.status() == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The body, or `None` where it is larger.
async fn read(body: Incoming, bytes_max: usize) -> Result<Option<Bytes>, Cut> {
    match server::read_body(body, bytes_max).await {
        Ok(body) => Ok(Some(body)),
        Err(BodyError::TooLarge) => Ok(None),
        Err(BodyError::Broken) => Err(Cut),
    }
}
