//! `exports`: destinations, how they are doing, and two things to do with them. Declaring them is the configuration's
//! business so far.

use audit::delivery::{DestinationStatus, ReplayError, ReplayReport, Selection};
use audit::outbox::DeliveryState;
use bytes::Bytes;
use http::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ports::Exports;
use crate::reply::{Failure, ok};
use crate::routes::read_body;

/// All destinations.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Exports")]
pub(crate) struct List {
    exports: Vec<Entry>,
}

/// A destination and how it is doing.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Export")]
pub(crate) struct Entry {
    id: String,
    destination: String,
    endpoint: String,
    #[serde(flatten)]
    status: Status,
}

/// How a destination is doing.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportStatus")]
pub(crate) struct Status {
    /// `running`, `retrying` or `held`.
    #[schemars(with = "String")]
    state: DeliveryState,
    accepted: u64,
    delivered: u64,
    pending: u64,
    dead: u64,
    /// Left out by the destination's filters or sampling; not among the accepted.
    skipped: u64,
    lag_seconds: f64,
    last_error: Option<String>,
}

/// What came of a test event.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportTest")]
pub(crate) struct Test {
    ok: bool,
    /// Find the event in the SIEM by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    event_id: Option<Uuid>,
    /// What to search for there.
    #[serde(skip_serializing_if = "Option::is_none")]
    look_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What came of sending again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportReplayed")]
pub(crate) struct Replayed {
    delivered: u64,
    resolved: u64,
    /// Left out by the destination's filters or sampling.
    skipped: u64,
    rejected: Vec<Rejected>,
    stopped: Option<String>,
    last_seq: Option<u64>,
}

/// An event that was not taken.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportRejected")]
pub(crate) struct Rejected {
    seq: u64,
    reason: String,
}

/// Either `dead`, or both ends of a range.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExportReplay")]
pub(crate) struct ReplayBody {
    from: Option<u64>,
    to: Option<u64>,
    #[serde(default)]
    dead: bool,
}

pub(crate) fn list(exports: &dyn Exports) -> Response<Bytes> {
    let entry = |status: DestinationStatus| Entry {
        id: status.id.clone(),
        destination: status.destination.clone(),
        endpoint: status.endpoint.clone(),
        status: Status::from(status),
    };
    ok(&List { exports: exports.status().into_iter().map(entry).collect() })
}

pub(crate) fn status(exports: &dyn Exports, id: &str) -> Result<Response<Bytes>, Failure> {
    let status = exports.status().into_iter().find(|status| status.id == id);
    status.map(|status| ok(&Status::from(status))).ok_or_else(|| unknown(exports, id))
}

/// A destination that does not take the event is an answer, not a failure of this API.
pub(crate) async fn test(exports: &dyn Exports, id: &str) -> Result<Response<Bytes>, Failure> {
    let test = exports.test(id).await.ok_or_else(|| unknown(exports, id))?;
    Ok(ok(&match test {
        Ok(report) => Test {
            ok: true,
            event_id: Some(report.event_id),
            look_for: Some(report.look_for),
            round_trip_ms: Some(report.round_trip_ms),
            error: None,
        },
        Err(error) => Test {
            ok: false,
            event_id: None,
            look_for: None,
            round_trip_ms: None,
            error: Some(error.to_string()),
        },
    }))
}

pub(crate) async fn replay(exports: &dyn Exports, id: &str, body: &[u8]) -> Result<Response<Bytes>, Failure> {
    match exports.replay(id, read_replay(body)?).await {
        Ok(report) => Ok(ok(&Replayed::from(report))),
        Err(ReplayError::Unknown(_)) => Err(unknown(exports, id)),
        Err(error @ ReplayError::Range { .. }) => Err(Failure::bad_request(error.to_string())),
        Err(error @ (ReplayError::Export(_) | ReplayError::Outbox(_))) => {
            Err(Failure::unavailable(error.to_string()))
        }
    }
}

impl From<DestinationStatus> for Status {
    fn from(status: DestinationStatus) -> Self {
        Self {
            state: status.state,
            accepted: status.accepted,
            delivered: status.delivered,
            pending: status.pending,
            dead: status.dead,
            skipped: status.skipped,
            lag_seconds: status.lag_seconds,
            last_error: status.last_error,
        }
    }
}

impl From<ReplayReport> for Replayed {
    fn from(report: ReplayReport) -> Self {
        let rejected = report.rejected.into_iter();
        Self {
            delivered: report.delivered,
            resolved: report.resolved,
            skipped: report.skipped,
            rejected: rejected.map(|one| Rejected { seq: one.seq, reason: one.reason }).collect(),
            stopped: report.stopped,
            last_seq: report.last_seq,
        }
    }
}

fn read_replay(body: &[u8]) -> Result<Selection, Failure> {
    const HINT: &str = "send {\"dead\": true}, or {\"from\": SEQ, \"to\": SEQ}";
    match read_body(body, HINT)? {
        ReplayBody { from: None, to: None, dead: true } => Ok(Selection::Dead),
        ReplayBody { from: Some(from), to: Some(to), dead: false } if from >= 1 && from <= to => {
            Ok(Selection::Range { from, to })
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
