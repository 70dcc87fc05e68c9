//! `exports`: destinations, how they are doing, and what can be done with them. Those of the configuration file are
//! read-only here; the others are made, changed and deleted. No secret is ever answered.

use std::collections::BTreeMap;

use audit::delivery::{DestinationStatus, ReplayError, ReplayReport, Selection};
use audit::event::ChangeInfo;
use audit::log::AuditLog;
use audit::outbox::DeliveryState;
use bytes::Bytes;
use http::{HeaderMap, Response};
use registry::DesiredState;
use registry::desired_state::{Author, ExportChange, ExportView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::ports::Exports;
use crate::reply::{Failure, ok, tagged};
use crate::routes::{Page, Query, expected_tag, note, one_of, read_body};

/// A page of destinations: those of the configuration first, then the others by id.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Exports")]
pub(crate) struct List {
    exports: Vec<Entry>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

/// A destination and how it is doing.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Export")]
pub(crate) struct Entry {
    id: String,
    destination: String,
    endpoint: String,
    /// `api`, or `file` where it is read-only here.
    #[schemars(with = "String")]
    source: &'static str,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Its configuration without its secrets, where the API made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    config: Option<Value>,
    /// The secrets that it has, by their paths, where the API made it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    secrets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    #[serde(flatten)]
    status: Status,
}

/// A destination that is no more.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportDeleted")]
pub(crate) struct Deleted {
    id: String,
    deleted: bool,
    /// Events that were still to be delivered, and are not.
    dropped: u64,
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

/// A destination as the configuration file would have it; its kind says which fields there are. Secrets are accepted, and
/// never answered.
#[derive(JsonSchema)]
#[schemars(rename = "ExportConfig")]
#[expect(dead_code, reason = "only its schema is used: kinds read their own fields")]
pub(crate) struct CreateBody {
    /// The kind, as in `datadog_logs`.
    destination: String,
    /// Default: the kind's name.
    id: Option<String>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// Fields that change; null takes one away. Secrets that are not given stay.
#[derive(JsonSchema)]
#[schemars(rename = "ExportPatch")]
#[expect(dead_code, reason = "only its schema is used: kinds read their own fields")]
pub(crate) struct PatchBody {
    #[serde(flatten)]
    fields: Map<String, Value>,
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

/// What the routes work on.
#[derive(Clone, Copy)]
pub(crate) struct Port<'a> {
    pub(crate) exports: &'a dyn Exports,
    pub(crate) state: &'a DesiredState,
    pub(crate) log: &'a dyn AuditLog,
}

impl Port<'_> {
    /// Every destination that runs, with its tag where the API made it.
    async fn entries(self) -> Vec<(Entry, Option<String>)> {
        let (made, (_, file)) = tokio::join!(self.state.exports(), self.state.declared_exports());
        let mut made: BTreeMap<String, ExportView> =
            made.into_iter().map(|view| (view.id.clone(), view)).collect();
        let statuses = self.exports.status().into_iter();
        statuses
            .map(|status| {
                let view = made.remove(&status.id);
                let file = view.is_none().then(|| file.clone());
                let tag = view.as_ref().map(|view| view.tag.clone());
                (entry(status, view, file), tag)
            })
            .collect()
    }

    async fn entry(self, id: &str) -> Result<Response<Bytes>, Failure> {
        let found = self.entries().await.into_iter().find(|(entry, _)| entry.id == id);
        match found {
            Some((entry, Some(tag))) => Ok(tagged(ok(&entry), &tag)),
            Some((entry, None)) => Ok(ok(&entry)),
            None => Err(unknown(self.exports, id)),
        }
    }

    /// Puts a change in force.
    async fn change(self, change: ExportChange, author: &Author) -> Result<ExportView, Failure> {
        let prepared = self.state.prepare_export(change, author).await?;
        if let Some(config) = prepared.config() {
            self.exports.check(config).await.map_err(|problem| Failure::problems(vec![problem], ""))?;
        }
        let view = prepared.commit().await?;
        self.exports.apply().await.map_err(|error| {
            Failure::unavailable(format!("it is kept, but does not run yet: {error}; a restart tries again"))
        })?;
        Ok(view)
    }

    fn pending(self, id: &str) -> u64 {
        self.exports.status().iter().find(|status| status.id == id).map_or(0, |status| status.pending)
    }
}

fn entry(status: DestinationStatus, view: Option<ExportView>, file: Option<String>) -> Entry {
    let source = if file.is_some() { "file" } else { "api" };
    let (mut config, mut secrets, mut created_at, mut updated_at) = (None, Vec::new(), None, None);
    if let Some(view) = view {
        (config, secrets) = (Some(view.config), view.secrets);
        (created_at, updated_at) = (Some(view.created_at), Some(view.updated_at));
    }
    Entry {
        id: status.id.clone(),
        destination: status.destination.clone(),
        endpoint: status.endpoint.clone(),
        source,
        file,
        config,
        secrets,
        created_at,
        updated_at,
        status: Status::from(status),
    }
}

pub(crate) async fn list(port: Port<'_>, query: Option<&str>) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["source", "state", "destination", "limit", "cursor"])?;
    let source = one_of(&mut query, "source", &["api", "file"])?;
    let state = one_of(&mut query, "state", &["running", "retrying", "held"])?;
    let destination = query.take("destination");
    let page = Page::read(&mut query)?;
    let entries = port.entries().await.into_iter().map(|(entry, _)| entry).collect();
    let named = |state: DeliveryState| match state {
        DeliveryState::Running => "running",
        DeliveryState::Retrying => "retrying",
        DeliveryState::Held => "held",
    };
    let fits = |entry: &Entry| {
        source.is_none_or(|source| entry.source == source)
            && state.is_none_or(|state| named(entry.status.state) == state)
            && destination.as_ref().is_none_or(|destination| entry.destination == *destination)
    };
    let (exports, next) = page.cut(entries, |entry: &Entry| entry.id.clone(), fits)?;
    Ok(ok(&List { exports, next }))
}

pub(crate) async fn read(port: Port<'_>, id: &str) -> Result<Response<Bytes>, Failure> {
    port.entry(id).await
}

pub(crate) async fn create(port: Port<'_>, body: &[u8], author: &Author) -> Result<Response<Bytes>, Failure> {
    let body: Value = read_body(body, "send {\"destination\": …, …}")?;
    let made = port.change(ExportChange::Create(body), author).await?;
    port.entry(&made.id).await
}

pub(crate) async fn patch(
    port: Port<'_>,
    id: &str,
    headers: &HeaderMap,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let patch: Value = read_body(body, "send the fields that are to change")?;
    let expected = expected_tag(headers)?;
    port.change(ExportChange::Patch { id: id.to_owned(), patch, expected }, author).await?;
    port.entry(id).await
}

pub(crate) async fn delete(
    port: Port<'_>,
    id: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let mut query = Query::read(query, &["confirm"])?;
    let is_confirmed = one_of(&mut query, "confirm", &["true", "false"])? == Some("true");
    let expected = expected_tag(headers)?;
    // What is not there, or a file's, is told first.
    let known = port.entries().await.into_iter().find(|(entry, _)| entry.id == id);
    let dropped = port.pending(id);
    if known.is_some_and(|(entry, _)| entry.source == "api") && dropped > 0 && !is_confirmed {
        let message = format!(
            "destination `{id}` has {dropped} events still to deliver, which it would never get: wait, or confirm with \
             `?confirm=true`"
        );
        let current = serde_json::json!({ "id": id, "pending": dropped });
        return Err(Failure::conflict("backlog", message).with_current(Some(current)));
    }
    port.change(ExportChange::Remove { id: id.to_owned(), expected }, author).await?;
    Ok(ok(&Deleted { id: id.to_owned(), deleted: true, dropped }))
}

pub(crate) fn status(exports: &dyn Exports, id: &str) -> Result<Response<Bytes>, Failure> {
    let status = exports.status().into_iter().find(|status| status.id == id);
    status.map(|status| ok(&Status::from(status))).ok_or_else(|| unknown(exports, id))
}

/// Notes what is about to be done with a destination.
async fn noted(port: Port<'_>, action: &str, id: &str, author: &Author) -> Result<(), Failure> {
    if !port.exports.status().iter().any(|status| status.id == id) {
        return Err(unknown(port.exports, id));
    }
    let change = ChangeInfo { subject: format!("destination {id}"), ..ChangeInfo::default() };
    note(port.log, &author.admin_event(action, change)).await
}

/// A destination that does not take the event is an answer, not a failure of this API.
pub(crate) async fn test(port: Port<'_>, id: &str, author: &Author) -> Result<Response<Bytes>, Failure> {
    noted(port, "EXPORT_TESTED", id, author).await?;
    let test = port.exports.test(id).await.ok_or_else(|| unknown(port.exports, id))?;
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

pub(crate) async fn replay(
    port: Port<'_>,
    id: &str,
    body: &[u8],
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let selection = read_replay(body)?;
    noted(port, "EXPORT_REPLAYED", id, author).await?;
    let exports = port.exports;
    match exports.replay(id, selection).await {
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
