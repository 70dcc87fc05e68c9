//! One destination's books: its cursor as last made durable, its state and its counters, and the snapshot of them that
//! others see. INVARIANT: `accepted = delivered + pending + dead` in every snapshot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::clock::Clock;
use crate::outbox::{Advance, Ahead, Cursor, DeliveryState, Outbox, OutboxError};

/// How a destination is doing, at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DestinationStatus {
    /// Its id.
    pub id: String,
    /// Its kind: `datadog_logs`.
    pub destination: String,
    /// Where it goes, without anything secret.
    pub endpoint: String,
    /// Running, retrying or held.
    pub state: DeliveryState,
    /// Events that are its concern: `delivered + pending + dead`.
    pub accepted: u64,
    /// Events that it took, dead letters replayed included.
    pub delivered: u64,
    /// Events not settled yet, those in flight included.
    pub pending: u64,
    /// Dead letters not replayed yet.
    pub dead: u64,
    /// Events that its filters or sampling left out: they are none of its concern, and not among the accepted.
    pub skipped: u64,
    /// Age of the oldest pending event in seconds, from when the event was complete; 0 where none is pending.
    pub lag_seconds: f64,
    /// Why it is not running, or what went wrong last; never holds a secret.
    pub last_error: Option<String>,
    /// Requests since the process started.
    pub requests: u64,
    /// Of these, requests with a batch that had been tried before.
    pub retries: u64,
    /// Bytes of bodies sent since the process started, as sent.
    pub bytes_sent: u64,
    /// The same before compression.
    pub bytes_uncompressed: u64,
}

/// What the worker shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) state: DeliveryState,
    pub(super) last_error: Option<String>,
    /// When the oldest pending event was complete.
    pub(super) oldest_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Books {
    cursor: Cursor,
    shown: Shown,
    requests: u64,
    retries: u64,
    bytes_sent: u64,
    bytes_uncompressed: u64,
}

/// See the module.
pub(super) struct Ledger {
    id: String,
    destination: &'static str,
    endpoint: String,
    outbox: Arc<dyn Outbox>,
    books: Mutex<Books>,
    /// Held over each change of the cursor, so that the cursors it answers are entered in the order of the changes.
    changing: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// Opens the destination's books; a new destination's start at the log's current head, durably.
    pub(super) async fn open(
        outbox: Arc<dyn Outbox>,
        id: String,
        destination: &'static str,
        endpoint: String,
    ) -> Result<Self, OutboxError> {
        let cursor = outbox.cursor(&id).await?;
        let shown = Shown { state: cursor.state, last_error: cursor.last_error.clone(), oldest_ms: None };
        let books = Mutex::new(Books { cursor, shown, ..Books::default() });
        Ok(Self { id, destination, endpoint, outbox, books, changing: tokio::sync::Mutex::new(()) })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.books().cursor.clone()
    }

    /// Moves the cursor; durable when it resolves.
    pub(super) async fn advance(&self, advance: Advance) -> Result<(), OutboxError> {
        let _ordered = self.changing.lock().await;
        let cursor = self.outbox.advance(&self.id, advance).await?;
        self.books().cursor = cursor;
        Ok(())
    }

    /// Keeps batches past the cursor; durable when it resolves.
    pub(super) async fn keep_ahead(&self, batches: Vec<Ahead>) -> Result<(), OutboxError> {
        self.outbox.keep_ahead(&self.id, batches).await
    }

    /// What was kept of batches past the cursor.
    pub(super) async fn ahead(&self) -> Result<Vec<Ahead>, OutboxError> {
        self.outbox.ahead(&self.id).await
    }

    /// Takes dead letters off that a replay delivered.
    pub(super) async fn resolve_dead(&self, seqs: Vec<u64>) -> Result<(), OutboxError> {
        let _ordered = self.changing.lock().await;
        let cursor = self.outbox.resolve_dead(&self.id, seqs).await?;
        self.books().cursor = cursor;
        Ok(())
    }

    /// Keeps the state in the store, for readers of the store.
    pub(super) async fn report(
        &self,
        state: DeliveryState,
        error: Option<String>,
    ) -> Result<(), OutboxError> {
        self.outbox.report(&self.id, state, error).await
    }

    pub(super) fn show(&self, shown: Shown) {
        self.books().shown = shown;
    }

    pub(super) fn count_request(&self, retry: bool, bytes_sent: u64, bytes_uncompressed: u64) {
        let mut books = self.books();
        books.requests += 1;
        books.retries += u64::from(retry);
        books.bytes_sent += bytes_sent;
        books.bytes_uncompressed += bytes_uncompressed;
    }

    /// The snapshot.
    pub(super) fn status(&self, clock: &dyn Clock) -> DestinationStatus {
        let books = self.books();
        let Cursor { start, position, dead, skipped, .. } = books.cursor;
        // Read after the cursor, the head is at or past it; `max` guards against a store that says otherwise.
        let head = (*self.outbox.head().borrow()).max(position);
        let pending = head - position;
        let settled = position.saturating_sub(start).saturating_sub(skipped);
        let dead = dead.min(settled);
        let lag_ms = match books.shown.oldest_ms {
            Some(oldest_ms) if pending > 0 => clock.now_ms().saturating_sub(oldest_ms).max(0),
            _ => 0,
        };
        DestinationStatus {
            id: self.id.clone(),
            destination: self.destination.to_owned(),
            endpoint: self.endpoint.clone(),
            state: books.shown.state,
            accepted: settled + pending,
            delivered: settled - dead,
            pending,
            dead,
            skipped,
            lag_seconds: std::time::Duration::from_millis(lag_ms.unsigned_abs()).as_secs_f64(),
            last_error: books.shown.last_error.clone(),
            requests: books.requests,
            retries: books.retries,
            bytes_sent: books.bytes_sent,
            bytes_uncompressed: books.bytes_uncompressed,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing here panics while holding it, and numbers stay readable even if something did.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
