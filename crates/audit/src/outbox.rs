//! The seam through which delivery reads the log and keeps its place in it. `store` implements it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::watch;

/// A boxed future, so that the traits stay object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One event of the log, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the chain.
    pub seq: u64,
    /// Its JSON text (see [`crate::event`]), without a line end. A slice of a shared buffer.
    pub text: Bytes,
}

/// How a destination is doing, persisted so that a reader of the store sees it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Nothing is wrong.
    #[default]
    Running,
    /// The last tries failed in a passing way; it goes on trying.
    Retrying,
    /// A person must mend something (key, path, payload); it probes for that by itself.
    Held,
}

/// A destination's place in the log. `accepted = delivered + pending + dead` holds by construction:
/// accepted is `head - start - skipped`, delivered `position - start - skipped - dead`, pending `head - position`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Head of the log when the destination was first configured: events up to it are not its concern.
    pub start: u64,
    /// Every event up to this seq is delivered or dead-lettered.
    pub position: u64,
    /// Dead letters not yet replayed.
    pub dead: u64,
    /// Events up to `position` that the destination's filters or sampling left out.
    pub skipped: u64,
    /// As last reported.
    pub state: DeliveryState,
    /// Why it is not `running`; never holds a secret.
    pub last_error: Option<String>,
}

/// An event that its destination will not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in the chain.
    pub seq: u64,
    /// What the destination said.
    pub reason: String,
    /// The event itself, kept past the log's retention.
    pub text: Bytes,
}

/// How far a cursor moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// Its new position.
    pub position: u64,
    /// All events up to there that were skipped, those of former moves included: a move that is repeated counts once.
    pub skipped: u64,
    /// Dead letters on the way.
    pub dead: Vec<DeadLetter>,
}

impl Advance {
    /// To this position; nothing was skipped, nothing died.
    pub fn to(position: u64) -> Self {
        Self { position, ..Self::default() }
    }
}

/// A batch past the cursor that a restart must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Its first seq.
    pub first: u64,
    /// Its last seq.
    pub last: u64,
    /// The destination has it, though not all before it: it is not sent again. Otherwise it is sent (again) with exactly
    /// these bounds.
    pub settled: bool,
    /// Events of it that were skipped.
    pub skipped: u64,
}

/// Why the outbox could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store said so; trying again may succeed.
    #[error("the store did not answer: {0}")]
    Store(String),
    /// Events that were asked for are no longer there (retention).
    #[error("events up to {0} are no longer in the log")]
    Gone(u64),
}

/// The log as delivery sees it.
pub trait Outbox: Send + Sync + 'static {
    /// The last durable seq, and a signal whenever it grows.
    fn head(&self) -> watch::Receiver<u64>;

    /// Events with `seq > after`, in order, at most `events_max` and about `bytes_max` bytes of text (at least
    /// one event where there is one).
    fn read_after(
        &self,
        after: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, OutboxError>>;

    /// The destination's cursor; one that is not known yet starts at the current head, durably.
    fn cursor<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Cursor, OutboxError>>;

    /// Moves the cursor and keeps the dead letters, in one transaction; durable when it resolves. Its own fsync is
    /// not needed: it rides in the next commit. What was kept ahead up to there is forgotten.
    fn advance<'a>(
        &'a self,
        destination: &'a str,
        advance: Advance,
    ) -> BoxFuture<'a, Result<Cursor, OutboxError>>;

    /// Keeps batches past the cursor, in place of those that they overlap; durable when it resolves.
    fn keep_ahead<'a>(
        &'a self,
        destination: &'a str,
        batches: Vec<Ahead>,
    ) -> BoxFuture<'a, Result<(), OutboxError>>;

    /// The batches past the cursor that were kept, by seq.
    fn ahead<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Vec<Ahead>, OutboxError>>;

    /// Keeps the state for readers of the store.
    fn report<'a>(
        &'a self,
        destination: &'a str,
        state: DeliveryState,
        last_error: Option<String>,
    ) -> BoxFuture<'a, Result<(), OutboxError>>;

    /// Dead letters of a destination, by seq.
    fn dead_letters<'a>(
        &'a self,
        destination: &'a str,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, OutboxError>>;

    /// Removes dead letters that a replay delivered; they count as delivered from then on.
    fn resolve_dead<'a>(
        &'a self,
        destination: &'a str,
        seqs: Vec<u64>,
    ) -> BoxFuture<'a, Result<Cursor, OutboxError>>;
}
