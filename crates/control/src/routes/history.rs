//! `history` and `audit`: events of the log, newest first, a page at a time. Events are answered as they are stored.

use audit::event::EventType;
use audit::outbox::StoredEvent;
use bytes::Bytes;
use http::Response;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ports::{EventFilter, Evidence};
use crate::reply::{Failure, ok_text};

/// A page of events, newest first.
#[derive(JsonSchema)]
#[schemars(rename = "Events")]
#[expect(dead_code, reason = "only its schema is used: events are answered as they are stored")]
pub(crate) struct Page {
    /// Audit events.
    entries: Vec<serde_json::Map<String, Value>>,
    /// Where the next page begins; null on the last one.
    next: Option<String>,
}

/// Event types of `history`: what policies did and what became of them.
pub(crate) const HISTORY: &[EventType] =
    &[EventType::Enforcement, EventType::Simulation, EventType::Revision, EventType::Rollback];

/// A page that nobody sized.
const LIMIT: usize = 100;
/// An event is about a kilobyte: the largest page stays around one megabyte.
const LIMIT_MAX: usize = 1000;

const PARAMETERS: &str =
    "policy_id, project_id, policy_user, decision, event_type, event_id, request_id, from, to, limit, cursor";

pub(crate) async fn list(
    evidence: &dyn Evidence,
    types: &[EventType],
    query: Option<&str>,
) -> Result<Response<Bytes>, Failure> {
    let filter = read_filter(types, query.unwrap_or_default())?;
    let limit = filter.limit;
    let events = evidence.events(filter).await.map_err(|error| Failure::unavailable(error.0))?;
    Ok(ok_text(page(&events, limit)))
}

fn read_filter(types: &[EventType], query: &str) -> Result<EventFilter, Failure> {
    let mut filter = EventFilter { event_types: types.to_vec(), limit: LIMIT, ..EventFilter::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let text = || Some(value.clone().into_owned());
        match &*name {
            "policy_id" => filter.policy_id = text(),
            "project_id" => filter.project_id = text(),
            "policy_user" => filter.policy_user = text(),
            "request_id" => filter.request_id = text(),
            "decision" => {
                let hint = "one of allow, rewrite, summary, escalate, refuse";
                filter.decision = Some(named(&name, &value, hint)?);
            }
            "event_type" => {
                let all = [
                    EventType::Enforcement,
                    EventType::Simulation,
                    EventType::Revision,
                    EventType::Rollback,
                    EventType::Quota,
                    EventType::Error,
                    EventType::Admin,
                    EventType::Checkpoint,
                    EventType::Heartbeat,
                    EventType::Gap,
                ];
                let offered: &[EventType] = if types.is_empty() { &all } else { types };
                let names: Vec<&str> = offered.iter().map(|one| one.as_str()).collect();
                let hint = format!("one of {}", names.join(", "));
                let one: EventType = named(&name, &value, &hint)?;
                if !offered.contains(&one) {
                    return Err(bad(&name, &hint));
                }
                filter.event_types = vec![one];
            }
            "event_id" => filter.event_id = Some(named(&name, &value, "a UUID")?),
            "from" => filter.from_ms = Some(time(&name, &value)?),
            "to" => filter.to_ms = Some(time(&name, &value)?),
            "limit" => match value.parse() {
                Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => filter.limit = limit,
                _ => return Err(bad(&name, &format!("a whole number from 1 to {LIMIT_MAX}"))),
            },
            "cursor" => match value.parse() {
                Ok(seq) => filter.before_seq = Some(seq),
                Err(_) => return Err(bad(&name, "what `next` of the page before said")),
            },
            _ => {
                return Err(Failure::bad_request(format!(
                    "there is no parameter `{name}`; there is {PARAMETERS}"
                )));
            }
        }
    }
    Ok(filter)
}

fn named<T: DeserializeOwned>(name: &str, value: &str, hint: &str) -> Result<T, Failure> {
    serde_json::from_value(Value::String(value.to_owned())).map_err(|_| bad(name, hint))
}

fn time(name: &str, value: &str) -> Result<i64, Failure> {
    let time: jiff::Timestamp =
        value.parse().map_err(|_| bad(name, "an RFC 3339 time like 2026-01-16T18:22:11Z"))?;
    Ok(time.as_millisecond())
}

fn bad(name: &str, hint: &str) -> Failure {
    Failure::bad_request(format!("`{name}` must be {hint}"))
}

/// `{"entries": [event…], "next": cursor}`; the cursor is null on the last page.
fn page(events: &[StoredEvent], limit: usize) -> Vec<u8> {
    let bytes: usize = events.iter().map(|event| event.text.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 64);
    body.extend_from_slice(b"{\"entries\":[");
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event.text);
    }
    body.extend_from_slice(b"],\"next\":");
    match events.last().filter(|last| events.len() >= limit && last.seq > 1) {
        Some(last) => body.extend_from_slice(format!("\"{}\"", last.seq).as_bytes()),
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
    body
}
