//! The intake's remote control: the same script, keys, clock and ledger as the Rust API, over HTTP, for tests
//! in other languages and for trials by hand.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ledger::Received;
use super::script::{Step, StepWire};
use super::{Intake, State};
use crate::model::query_number;
use crate::reply::{self, Frames};
use crate::server;

/// The remote control, for `--help`.
pub const CONTROL_HELP: &str = "\
Logs go to POST /api/v2/logs, with DD-API-KEY; GET /api/v1/validate checks a key.
With DD-APPLICATION-KEY too: dashboards, monitors, log pipelines and metrics are kept, logs are counted and listed, as
`policy-gateway datadog` asks for it. Beside them:

  GET  /demo/logs?after=N&limit=N&wait_ms=N
                     logs numbered above N, with what became of them; waits for the first one
  GET  /demo/stats   counts;  GET /demo/requests: the requests they came in
  POST /demo/script  {\"steps\": [{\"act\": \"status\", \"status\": 429, \"retry_after\": \"1\", \"times\": 3}, …],
                     \"append\": false}: what becomes of the next requests. Acts: handle, status,
                     cut_before_read, cut_after_read (\"keep\": true keeps the logs), hang, accept_then_lose;
                     each with \"latency_ms\", \"times\" or \"forever\": true
  POST /demo/keys    {\"api_keys\": [\"…\"]}: the keys to take from now on
  POST /demo/clock   {\"ahead_s\": N}: set the intake's clock ahead";

/// Largest control request.
const CONTROL_BYTES_MAX: usize = 1 << 20;

/// Logs in one answer, unless asked for fewer.
const LOGS_SHOWN_MAX: usize = 1_000;

/// Longest wait for a log.
const LOGS_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptBody {
    steps: Vec<StepWire>,
    #[serde(default)]
    append: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysBody {
    api_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockBody {
    ahead_s: i64,
}

impl Intake {
    /// Answers a request below `/demo/`.
    pub(super) async fn control(&self, request: Request<Incoming>) -> Response<Frames> {
        let (head, body) = request.into_parts();
        let answer = match (&head.method, head.uri.path()) {
            (&Method::GET, "/demo/logs") => Ok(self.shown_logs(head.uri.query()).await),
            (&Method::GET, "/demo/stats") => Ok(json!(self.lock().ledger.stats())),
            (&Method::GET, "/demo/requests") => {
                Ok(json!({"requests": self.lock().ledger.requests().collect::<Vec<_>>()}))
            }
            (&Method::POST, "/demo/script") => {
                parse(body).await.and_then(|body: ScriptBody| self.script_by(body))
            }
            (&Method::POST, "/demo/keys") => parse(body).await.map(|KeysBody { api_keys }| {
                let keys = api_keys.len();
                self.lock().api_keys = api_keys;
                json!({"api_keys": keys})
            }),
            (&Method::POST, "/demo/clock") => parse(body).await.map(|ClockBody { ahead_s }| {
                self.lock().clock_ahead = SignedDuration::from_secs(ahead_s);
                json!({"ahead_s": ahead_s})
            }),
            _ => return reply::json(StatusCode::NOT_FOUND, &json!({"error": CONTROL_HELP})),
        };
        match answer {
            Ok(body) => reply::json(StatusCode::OK, &body),
            Err(message) => reply::json(StatusCode::BAD_REQUEST, &json!({"error": message})),
        }
    }

    fn script_by(&self, body: ScriptBody) -> Result<Value, String> {
        let steps: Result<Vec<Step>, String> = body.steps.into_iter().map(Step::try_from).collect();
        self.set_script(steps?, body.append);
        Ok(json!({"steps": self.lock().script.len()}))
    }

    async fn shown_logs(&self, query: Option<&str>) -> Value {
        let after = query_number(query, "after").unwrap_or(0);
        let limit = query_number(query, "limit").and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(LOGS_SHOWN_MAX).min(LOGS_SHOWN_MAX);
        let wait = Duration::from_millis(query_number(query, "wait_ms").unwrap_or(0)).min(LOGS_WAIT_MAX);
        let there = || self.lock().ledger.received_after(after).next().is_some();
        // There or not: the caller sees what there is.
        let _ = tokio::time::timeout(wait, server::until(self.changes.subscribe(), there)).await;
        let logs = logs_after(&self.lock(), after, limit);
        let next = logs.last().map_or(after, |log| log.index);
        let logs: Vec<&Received> = logs.iter().map(Arc::as_ref).collect();
        json!({"logs": logs, "next": next})
    }
}

fn logs_after(state: &State, after: u64, limit: usize) -> Vec<Arc<Received>> {
    state.ledger.received_after(after).take(limit).cloned().collect()
}

async fn parse<T: DeserializeOwned>(body: Incoming) -> Result<T, String> {
    let body = server::read_body(body, CONTROL_BYTES_MAX).await.map_err(|_| "body not read".to_owned())?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}
