//! What the management API needs of the rest of the gateway. The wiring implements these traits; nothing here knows
//! how.

use audit::delivery::{DestinationStatus, ReplayError, ReplayReport, Selection};
use audit::event::EventType;
use audit::export::{ExportConfig, TestError, TestReport};
use audit::outbox::{BoxFuture, StoredEvent};
use audit::usage::{UsagePage, UsageQuery};
use bytes::Bytes;
use escalation::tickets::{DecideError, TicketFilter, WithContent};
use escalation::{Desk, Ticket, Verdict};
use policy::{Decision, Problem};
use uuid::Uuid;

/// Which events, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only this policy.
    pub policy_id: Option<String>,
    /// Only this project.
    pub project_id: Option<String>,
    /// Only this end user.
    pub policy_user: Option<String>,
    /// Only this decision.
    pub decision: Option<Decision>,
    /// Only these types; empty: all.
    pub event_types: Vec<EventType>,
    /// Only this event.
    pub event_id: Option<Uuid>,
    /// Only events of this request.
    pub request_id: Option<String>,
    /// Only from this time on, unix milliseconds.
    pub from_ms: Option<i64>,
    /// Only before this time, unix milliseconds.
    pub to_ms: Option<i64>,
    /// Only events with a lower seq: where the last page ended.
    pub before_seq: Option<u64>,
    /// At most so many, 1 or more.
    pub limit: usize,
}

/// Something failed that is not the caller's doing. The text is for them all the same: plain, and without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// Fetches documents of an OpenID Connect issuer.
pub trait Fetch: Send + Sync + 'static {
    /// What a GET of this URL answers with 200: at most a megabyte, within seconds, redirects not followed.
    fn get(&self, url: String) -> BoxFuture<'_, Result<Bytes, PortError>>;
}

/// A signed statement of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Checkpoint {
    /// Events that it is about: those with a `seq` from 1 to this.
    pub size: u64,
    /// The `checkpoint` event that recorded it.
    pub event_id: String,
    /// When, RFC 3339 UTC.
    pub created_at: String,
    /// The signed note, in the format of C2SP's tlog-checkpoint.
    pub note: String,
}

/// The audit log, for reading.
pub trait Evidence: Send + Sync + 'static {
    /// The events that match, newest first.
    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, PortError>>;

    /// Checkpoints of fewer than `before` events, the newest first.
    fn checkpoints(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Checkpoint>, PortError>>;

    /// What calls used.
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<UsagePage, PortError>>;
}

/// Reviews.
pub trait Escalations: Send + Sync + 'static {
    /// The tickets that match, newest first.
    fn list(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<Ticket>, PortError>>;

    /// One ticket and, where `with_content` asks for it and it is kept, the judged messages as JSON.
    fn find(&self, id: Uuid, with_content: bool) -> BoxFuture<'_, Result<Option<WithContent>, PortError>>;

    /// Ends a ticket.
    fn decide<'a>(
        &'a self,
        id: Uuid,
        verdict: Verdict,
        actor: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Ticket, DecideError>>;
}

/// The destinations.
pub trait Exports: Send + Sync + 'static {
    /// All of them, in the order of the configuration, then those that the API made.
    fn status(&self) -> Vec<DestinationStatus>;

    /// Whether this one could run: its secrets can be had, its client can be set up, its name leads where it may go.
    ///
    /// The problem has its path in the destination's configuration.
    fn check<'a>(&'a self, export: &'a ExportConfig) -> BoxFuture<'a, Result<(), Problem>>;

    /// Runs what the configuration declares and the API made, in place of what runs. Where that cannot be, the former go on.
    fn apply(&self) -> BoxFuture<'_, Result<(), PortError>>;

    /// Sends one synthetic event; none where there is no such destination.
    fn test<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<TestReport, TestError>>>;

    /// Sends events again. Dropped early, what was sent stays sent.
    fn replay<'a>(
        &'a self,
        id: &'a str,
        selection: Selection,
    ) -> BoxFuture<'a, Result<ReplayReport, ReplayError>>;
}

impl Escalations for Desk {
    fn list(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<Ticket>, PortError>> {
        Box::pin(async move { self.list(filter).await.map_err(|error| PortError(error.to_string())) })
    }

    fn find(&self, id: Uuid, with_content: bool) -> BoxFuture<'_, Result<Option<WithContent>, PortError>> {
        Box::pin(
            async move { self.find(id, with_content).await.map_err(|error| PortError(error.to_string())) },
        )
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        verdict: Verdict,
        actor: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Ticket, DecideError>> {
        Box::pin(self.decide(id, verdict, actor, reason))
    }
}
