//! `escalations`: review tickets, and the decisions on them. What a ticket means is `escalation`'s business.

use std::collections::BTreeMap;

use audit::event::ChangeInfo;
use audit::log::AuditLog;
use bytes::Bytes;
use escalation::ticket::rfc3339;
use escalation::tickets::{DecideError, TicketFilter};
use escalation::{State, Ticket, Verdict};
use http::Response;
use policy::document::DefaultVerdict;
use registry::desired_state::Author;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::auth::Caller;
use crate::config::Role;
use crate::ports::Escalations;
use crate::reply::{Failure, ok};
use crate::routes::{note, read_body};

/// A page that nobody sized.
const LIMIT: usize = 100;
/// A ticket is about a kilobyte.
const LIMIT_MAX: usize = 1000;
/// Longest reason: a paragraph.
const REASON_BYTES_MAX: usize = escalation::desk::REASON_BYTES_MAX;

const PARAMETERS: &str = "state, policy_id, project_id, limit, cursor";

/// A page of tickets, newest first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Escalations")]
pub(crate) struct Page {
    entries: Vec<Entry>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

/// A review ticket: metadata of a request that waits for a person, or did.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Escalation")]
pub(crate) struct Entry {
    #[schemars(with = "String")]
    id: Uuid,
    /// `open`, `approved`, `denied` or `expired`.
    state: &'static str,
    policy_id: String,
    policy_revision: Option<u64>,
    project_id: Option<String>,
    policy_user: Option<String>,
    /// The key that the request came with.
    key_id: String,
    policy_target: Option<String>,
    model: Option<String>,
    /// `input` or `output`.
    stage: Option<&'static str>,
    reason_code: Option<String>,
    triggered_categories: Vec<String>,
    denylist_hits: Vec<String>,
    /// Entities found, by type.
    redactions: BTreeMap<String, u64>,
    data_classification: Option<String>,
    request_id: Option<String>,
    /// The event of the request that opened it.
    #[schemars(with = "String")]
    event_id: Uuid,
    created_at: String,
    /// When the default verdict applies.
    expires_at: String,
    default_verdict: DefaultVerdict,
    decided_at: Option<String>,
    /// Name of the token; null where time decided.
    decided_by: Option<String>,
    decision_reason: Option<String>,
    /// Until when the request passes.
    granted_until: Option<String>,
    /// Until when it is refused.
    refused_until: Option<String>,
    /// Whether the judged messages are kept, encrypted, for `admin` and `reviewer`.
    content_retained: bool,
    /// The judged messages, for `admin` and `reviewer`, where the policy keeps them and the ticket is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Value>,
}

/// Why.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EscalationDecision")]
pub(crate) struct DecisionBody {
    /// For whoever reads the ticket later; 1 to 2000 bytes.
    reason: String,
}

impl From<Ticket> for Entry {
    fn from(ticket: Ticket) -> Self {
        let (case, ending) = (ticket.case, ticket.ending);
        let until = |passes: bool| {
            ending.as_ref().filter(|ending| ending.passes == passes).map(|ending| rfc3339(ending.until_ms))
        };
        Self {
            id: ticket.id,
            state: ticket.state.as_str(),
            policy_id: case.policy_id,
            policy_revision: case.policy_revision,
            project_id: case.project_id,
            policy_user: case.policy_user,
            key_id: case.key_id,
            policy_target: case.policy_target,
            model: case.model,
            stage: case.stage.map(|stage| match stage {
                audit::event::Stage::Input => "input",
                audit::event::Stage::Output => "output",
            }),
            reason_code: case.reason_code,
            triggered_categories: case.triggered_categories,
            denylist_hits: case.denylist_hits,
            redactions: case.redactions,
            data_classification: case.data_classification,
            request_id: case.request_id,
            event_id: case.event_id,
            created_at: rfc3339(ticket.created_ms),
            expires_at: rfc3339(ticket.expires_ms),
            default_verdict: case.terms.default_verdict,
            granted_until: until(true),
            refused_until: until(false),
            decided_at: ending.as_ref().map(|ending| rfc3339(ending.at_ms)),
            decided_by: ending.as_ref().and_then(|ending| ending.by.clone()),
            decision_reason: ending.and_then(|ending| ending.reason),
            content_retained: ticket.has_content,
            messages: None,
        }
    }
}

pub(crate) async fn list(
    escalations: &dyn Escalations,
    query: Option<&str>,
) -> Result<Response<Bytes>, Failure> {
    let filter = read_filter(query.unwrap_or_default())?;
    let limit = filter.limit;
    let tickets = escalations.list(filter).await.map_err(|error| Failure::unavailable(error.0))?;
    let next = tickets.last().filter(|_| tickets.len() >= limit).map(|last| last.number.to_string());
    Ok(ok(&Page { entries: tickets.into_iter().map(Entry::from).collect(), next }))
}

pub(crate) async fn show(
    escalations: &dyn Escalations,
    log: &dyn AuditLog,
    id: &str,
    caller: &Caller,
    author: &Author,
) -> Result<Response<Bytes>, Failure> {
    let id = read_id(id)?;
    let may_read = matches!(caller.role, Role::Admin | Role::Reviewer);
    let found = escalations.find(id, may_read).await.map_err(|error| Failure::unavailable(error.0))?;
    let Some((ticket, content)) = found else { return Err(unknown(id)) };
    if content.is_some() {
        // Whoever reads what somebody wrote is on record before they see it.
        let change = ChangeInfo { subject: format!("escalation {id}"), ..ChangeInfo::default() };
        let mut event = author.admin_event("ESCALATION_READ", change);
        event.escalation_id = Some(id);
        event.policy_id = Some(ticket.case.policy_id.clone());
        event.project_id.clone_from(&ticket.case.project_id);
        event.policy_user.clone_from(&ticket.case.policy_user);
        note(log, &event).await?;
    }
    let messages = content.and_then(|content| serde_json::from_slice(&content).ok());
    Ok(ok(&Entry { messages, ..Entry::from(ticket) }))
}

pub(crate) async fn decide(
    escalations: &dyn Escalations,
    id: &str,
    verdict: Verdict,
    body: &[u8],
    caller: &Caller,
) -> Result<Response<Bytes>, Failure> {
    let id = read_id(id)?;
    let DecisionBody { reason } = read_body(body, "send {\"reason\": \"…\"}")?;
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(Failure::bad_request(format!("`reason` must be 1 to {REASON_BYTES_MAX} bytes of text")));
    }
    match escalations.decide(id, verdict, &caller.name, reason).await {
        Ok(ticket) => Ok(ok(&Entry::from(ticket))),
        Err(DecideError::Unknown(id)) => Err(unknown(id)),
        Err(error @ DecideError::Ended { state, .. }) => {
            let current = serde_json::json!({ "id": id, "state": state });
            Err(Failure::conflict("already_decided", error.to_string()).with_current(Some(current)))
        }
        Err(DecideError::Store(error)) => Err(Failure::unavailable(error)),
    }
}

fn read_id(id: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| {
        Failure::not_found("an escalation's id is a UUID, as `GET escalations` lists them".to_owned())
    })
}

fn unknown(id: Uuid) -> Failure {
    Failure::not_found(format!("there is no escalation `{id}`: `GET escalations` lists them"))
}

fn read_filter(query: &str) -> Result<TicketFilter, Failure> {
    let bad = |name: &str, hint: &str| Failure::bad_request(format!("`{name}` must be {hint}"));
    let mut filter = TicketFilter { limit: LIMIT, ..TicketFilter::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "state" => match State::ALL.into_iter().find(|state| state.as_str() == value) {
                Some(state) => filter.state = Some(state),
                None => return Err(bad(&name, "one of open, approved, denied, expired")),
            },
            "policy_id" => filter.policy_id = Some(value.into_owned()),
            "project_id" => filter.project_id = Some(value.into_owned()),
            "limit" => match value.parse() {
                Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => filter.limit = limit,
                _ => return Err(bad(&name, &format!("a whole number from 1 to {LIMIT_MAX}"))),
            },
            "cursor" => match value.parse() {
                Ok(number) => filter.before = Some(number),
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
