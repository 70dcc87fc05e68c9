//! The seam through which the request path makes a record durable. `store` implements it; nothing here
//! knows how. Appending is an awaited result, never a side effect of a drop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::event::{AuditEvent, Hash, QuotaCharge, leaf_hash};
use crate::outbox::BoxFuture;
use crate::usage::Spent;

/// A record on its way into the log: the text is complete but for what the writer adds.
#[derive(Clone, Debug)]
pub enum Record {
    /// A verdict, durable before any byte of the answer it is about. The last one of an `event_id` counts.
    Decision {
        /// Id of the event that this opens.
        event_id: Uuid,
        /// `AuditEvent` JSON.
        text: Vec<u8>,
    },
    /// The self-contained final event: it gets the next `seq` and is what is exported.
    Event {
        /// Its id; where a decision with this id is open, it is closed.
        event_id: Uuid,
        /// `AuditEvent` JSON.
        text: Vec<u8>,
        /// What is added to the counters of quotas in the same transaction: the event's own `quota`.
        charges: Vec<QuotaCharge>,
        /// What is added to the sums of usage, likewise; none where the event does not close a judged call.
        spent: Option<Arc<Spent>>,
    },
}

impl Record {
    /// A decision record and its hash, which the closing record carries as `decision_hash`.
    pub fn decision(event: &AuditEvent) -> (Self, Hash) {
        let text = event.to_json();
        let hash = leaf_hash(&text);
        (Self::Decision { event_id: event.event_id, text }, hash)
    }

    /// A closing or standalone event.
    pub fn event(event: &AuditEvent) -> Self {
        Self::Event {
            event_id: event.event_id,
            text: event.to_json(),
            charges: event.quota.clone(),
            spent: Spent::of(event),
        }
    }
}

/// What an event is told of once: an event with the same mark is not written again until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Stands for what is told.
    pub key: [u8; 16],
    /// Until when the mark is kept, Unix time in seconds.
    pub until_s: i64,
}

/// Why a record was not made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The writer's queue is full; trying again shortly may succeed.
    #[error("the audit log's queue is full")]
    QueueFull,
    /// The log cannot be written now (disk full, say); freeing space recovers it without a restart.
    #[error("the audit log is blocked: {0}")]
    Blocked(String),
    /// The log failed for good (a failed fsync, a removed file): the process must end.
    #[error("the audit log failed: {0}")]
    Failed(String),
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// The text is not one JSON object on one line: a mistake of the program, not of the log.
    #[error("the record is not one JSON object on one line")]
    Malformed,
}

/// Resolves once the record is on disk, or with why it is not. Dropping it does not withdraw the record.
#[derive(Debug)]
pub struct Durable(oneshot::Receiver<Result<(), AppendError>>);

impl Durable {
    /// The sender's half goes to the writer.
    pub fn new() -> (oneshot::Sender<Result<(), AppendError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
}

impl Future for Durable {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|received| received.unwrap_or(Err(AppendError::Closed)))
    }
}

/// Whether the log takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// It does.
    Writable,
    /// It does not now, for this reason; it tries again by itself.
    Blocked(String),
    /// It never will again in this process.
    Failed(String),
}

/// Counters of the log since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Decision records made durable.
    pub decisions: u64,
    /// Events made durable.
    pub events: u64,
    /// Commits (one fsync each).
    pub commits: u64,
    /// Records refused (queue full, blocked).
    pub refused: u64,
    /// Records waiting in the queue now.
    pub queued: u64,
}

/// The audit log as the request path sees it.
pub trait AuditLog: Send + Sync + 'static {
    /// Queues a record. Decisions are refused when the queue is full or the log blocked, and counted for the
    /// `gap` event; events that close an open decision are always taken (their number is bounded by the
    /// decisions admitted) and wait out a blocked log.
    ///
    /// # Errors
    /// [`AppendError`] at once where the record was not queued; the [`Durable`] reports what happens later.
    fn append(&self, record: Record) -> Result<Durable, AppendError>;

    /// Queues records that become durable together or not at all. The first is admitted as by [`AuditLog::append`]; the
    /// others are events that go with it, and share its fate.
    ///
    /// # Errors
    /// As [`AuditLog::append`].
    fn append_all(&self, first: Record, others: Vec<Record>) -> Result<Durable, AppendError>;

    /// Makes an event durable unless one was under the same mark. Resolves with whether it was, once that is on disk:
    /// event and mark become durable together.
    fn append_once(&self, mark: Mark, event: &AuditEvent) -> BoxFuture<'static, Result<bool, AppendError>>;

    /// Counts a request that was served without a record (`audit.on_unavailable: serve`) for the `gap` event.
    fn count_served_unrecorded(&self);

    /// Whether records are taken now.
    fn health(&self) -> LogHealth;

    /// Counters for metrics.
    fn stats(&self) -> LogStats;
}
