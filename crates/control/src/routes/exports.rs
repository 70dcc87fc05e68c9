//! `exports`: destinations, how they are doing, and two things to do with them. Declaring them is the configuration's
//! business so far.

use audit::outbox::DeliveryState;
use bytes::Bytes;
use http::Response;
use policy::problems::read_all;
use serde::{Deserialize, Serialize};

use crate::ports::{ExportStatus, Exports, Replay};
use crate::reply::{Failure, ok};

#[derive(Serialize)]
struct List {
    exports: Vec<ExportStatus>,
}

/// The contract's fields of `exports/{id}/status`, in its order.
#[derive(Serialize)]
struct Status {
    state: DeliveryState,
    accepted: u64,
    delivered: u64,
    pending: u64,
    dead: u64,
    lag_seconds: f64,
    last_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    from: Option<u64>,
    to: Option<u64>,
    #[serde(default)]
    dead: bool,
}

pub(crate) fn list(exports: &dyn Exports) -> Response<Bytes> {
    ok(&List { exports: exports.status() })
}

pub(crate) fn status(exports: &dyn Exports, id: &str) -> Result<Response<Bytes>, Failure> {
    let status = exports.status().into_iter().find(|status| status.id == id);
    let status = status.ok_or_else(|| unknown(exports, id))?;
    Ok(ok(&Status {
        state: status.state,
        accepted: status.accepted,
        delivered: status.delivered,
        pending: status.pending,
        dead: status.dead,
        lag_seconds: status.lag_seconds,
        last_error: status.last_error,
    }))
}

/// A destination that does not take the event is an answer, not a failure of this API.
pub(crate) async fn test(exports: &dyn Exports, id: &str) -> Result<Response<Bytes>, Failure> {
    exports.test(id).await.map(|test| ok(&test)).ok_or_else(|| unknown(exports, id))
}

pub(crate) async fn replay(exports: &dyn Exports, id: &str, body: &[u8]) -> Result<Response<Bytes>, Failure> {
    let replay = read_replay(body)?;
    match exports.replay(id, replay).await {
        Some(Ok(report)) => Ok(ok(&report)),
        Some(Err(error)) => Err(Failure::unavailable(error.0)),
        None => Err(unknown(exports, id)),
    }
}

fn read_replay(body: &[u8]) -> Result<Replay, Failure> {
    const HINT: &str = "send {\"dead\": true}, or {\"from\": SEQ, \"to\": SEQ}";
    let value = serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is not JSON ({error}): {HINT}")))?;
    let body: ReplayBody = read_all(&value, "").map_err(|problems| {
        let texts: Vec<String> =
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        Failure::bad_request(format!("{}; {HINT}", texts.join("; ")))
    })?;
    match body {
        ReplayBody { from: None, to: None, dead: true } => Ok(Replay::Dead),
        ReplayBody { from: Some(from), to: Some(to), dead: false } if from >= 1 && from <= to => {
            Ok(Replay::Range { from, to })
        }
        ReplayBody { from: Some(_), to: Some(_), dead: false } => {
            Err(Failure::bad_request("`from` is 1 or more, and not above `to`"))
        }
        _ => Err(Failure::bad_request(HINT)),
    }
}

fn unknown(exports: &dyn Exports, id: &str) -> Failure {
    let ids: Vec<String> = exports.status().into_iter().map(|status| format!("`{}`", status.id)).collect();
    let known =
        if ids.is_empty() { "there is none".to_owned() } else { format!("there is {}", ids.join(", ")) };
    Failure::not_found(format!("there is no destination `{id}`; {known}"))
}
