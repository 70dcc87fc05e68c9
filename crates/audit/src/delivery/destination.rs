//! What the delivery engine asks of a destination, and what a destination may answer. The engine knows no protocol;
//! a destination knows no queue, cursor or wait.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::outbox::StoredEvent;
use crate::secret::SecretError;

/// How much goes into a request, how many requests fly, how long anything waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events in one request.
    pub batch_events_max: usize,
    /// Most bytes in one request, before compression.
    pub batch_bytes_max: usize,
    /// Longest wait for a batch to fill.
    pub linger: Duration,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// For one request, from its start to the last byte of the answer.
    pub timeout: Duration,
}

/// A request body, ready to go.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// As sent (compressed, where the destination compresses).
    pub body: Bytes,
    /// Its size before compression.
    pub bytes_uncompressed: u64,
}

/// What became of an event that was to be put into a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// It is in.
    Taken,
    /// It is not in: the body is full. Never the answer to the first event of a body.
    Full,
    /// It is not in, and never can be, for this reason: it goes to the dead letters.
    Unfit(String),
}

/// A request body in the making.
pub trait BodyBuilder: Send + 'static {
    /// Adds one event. CPU work only, some microseconds.
    fn push(&mut self, event: &StoredEvent) -> Push;

    /// The body.
    ///
    /// # Errors
    /// In words, where the body could not be made; it is tried again.
    fn finish(self) -> Result<Encoded, String>;
}

/// What became of a request. The reasons are shown to operators and kept in the store: they hold no secret and no
/// part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Every event of the body is accepted.
    Delivered,
    /// It may pass later: try again, after this wait where the destination named one.
    Retry {
        /// The destination's `Retry-After`.
        after: Option<Duration>,
        /// What happened.
        why: String,
    },
    /// The body is too large: smaller ones may pass.
    TooLarge {
        /// What happened.
        why: String,
    },
    /// Something in the body is not acceptable: without it the rest may pass.
    Rejected {
        /// What happened.
        why: String,
    },
    /// Nothing will pass until a person mends something.
    Hold {
        /// What happened, and how to mend it.
        why: String,
    },
}

/// A place that events are delivered to.
pub trait Destination: Send + Sync + 'static {
    /// Its bodies.
    type Builder: BodyBuilder;

    /// An empty body, to be sent about `now_ms` (epoch milliseconds).
    ///
    /// # Errors
    /// In words, where the body could not be started; it is tried again.
    fn begin(&self, now_ms: i64) -> Result<Self::Builder, String>;

    /// Sends a body once. Not cancel safe in that the destination may have taken the body all the same.
    fn send(&self, body: Bytes) -> impl Future<Output = SendOutcome> + Send;

    /// Reads secrets anew from where they come; the old ones stay in use on an error.
    fn reload_secrets(&self) -> impl Future<Output = Result<(), SecretError>> + Send;
}
