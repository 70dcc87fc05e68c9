//! What the management API needs of the rest of the gateway. The wiring implements these traits; nothing here knows
//! how.

use audit::event::EventType;
use audit::outbox::{BoxFuture, DeliveryState, StoredEvent};
use policy::Decision;
use serde::Serialize;
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

/// The audit log, for reading.
pub trait Evidence: Send + Sync + 'static {
    /// The events that match, newest first.
    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, PortError>>;
}

/// How a destination is doing. `accepted = delivered + pending + dead`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportStatus {
    /// Names the destination.
    pub id: String,
    /// Its kind, for example `datadog_logs`.
    pub destination: String,
    /// Where it is; holds no secret.
    pub endpoint: String,
    /// Whether it runs.
    pub state: DeliveryState,
    /// Events that are its concern.
    pub accepted: u64,
    /// Of these, taken by the destination.
    pub delivered: u64,
    /// Of these, still to be sent.
    pub pending: u64,
    /// Of these, set aside because the destination will not take them.
    pub dead: u64,
    /// Age in seconds of the oldest event that is pending; 0 where none is.
    pub lag_seconds: f64,
    /// Why it is not running; holds no secret.
    pub last_error: Option<String>,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportTest {
    /// Whether the destination took the event.
    pub ok: bool,
    /// What it said, or what is wrong and how to mend it; holds no secret.
    pub message: String,
}

/// Which events to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Those that the destination would not take.
    Dead,
    /// A range of the chain, both ends included.
    Range {
        /// First seq, 1 or more.
        from: u64,
        /// Last seq, not below `from`.
        to: u64,
    },
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExportReplay {
    /// Events that were selected.
    pub selected: u64,
    /// Of these, taken by the destination.
    pub delivered: u64,
    /// Of these, not taken.
    pub failed: u64,
    /// Why not.
    pub last_error: Option<String>,
}

/// The destinations.
pub trait Exports: Send + Sync + 'static {
    /// All of them, in the order of the configuration.
    fn status(&self) -> Vec<ExportStatus>;

    /// Sends one synthetic event; none where there is no such destination.
    fn test<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<ExportTest>>;

    /// Sends events again; none where there is no such destination. Dropped early, what was sent stays sent.
    fn replay<'a>(
        &'a self,
        id: &'a str,
        replay: Replay,
    ) -> BoxFuture<'a, Option<Result<ExportReplay, PortError>>>;
}
