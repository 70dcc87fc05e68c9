//! What the delivery engine asks of a destination, and what a destination may answer. The engine knows no protocol;
//! a destination knows no queue, cursor or wait.

use std::future::Future;
use std::num::NonZeroU32;
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
    /// Most events a second, so that a backlog does not flood the destination; `None`: as fast as it takes them.
    pub rate: Option<NonZeroU32>,
}

/// A request body, ready to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// As sent (compressed, where the destination compresses).
    pub body: Bytes,
    /// Its size before compression.
    pub bytes_uncompressed: u64,
    /// What the sender wants to know of the body beside its bytes (an object's key, an id): the builder's own words,
    /// handed back in [`Parcel::note`].
    pub note: String,
}

/// A request body and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// As the builder made it.
    pub body: Bytes,
    /// As the builder made it.
    pub note: String,
    /// The events in the body, in its order.
    pub seqs: Vec<u64>,
    /// First seq of the batch. Its range may hold events that are not in the body: screened out, dead, or delivered
    /// by an earlier try.
    pub first: u64,
    /// Last seq of the batch.
    pub last: u64,
    /// Tries of this batch so far, this one included.
    pub attempts: u32,
    /// When this try starts, epoch milliseconds.
    pub now_ms: i64,
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

/// A request body in the making. The same events at the same time make the same bytes.
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
    /// The body arrived, but may still be lost: the engine asks [`Destination::confirm`] until it is safe.
    Received(Receipt),
    /// The destination judged each event by itself.
    Partial(Partial),
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

/// Stands for a body that was received and is not safe yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The destination's own name for the body.
    pub token: String,
    /// Not safe after this long, the body counts as lost and is sent again.
    pub within: Duration,
}

/// What became of the events of a body, one by one. Those named in neither list are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Seqs of events that may pass later.
    pub again: Vec<u64>,
    /// Seqs of events that will never pass, each with what the destination said.
    pub dead: Vec<(u64, String)>,
    /// When to send `again`.
    pub then: Then,
    /// What happened to those of `again`.
    pub why: String,
}

/// When the rest of a [`Partial`] is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// After the usual backoff, or after this wait where the destination named one.
    Retry(Option<Duration>),
    /// Once a person has mended something.
    Hold,
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
    fn send(&self, parcel: Parcel) -> impl Future<Output = SendOutcome> + Send;

    /// Reads secrets anew from where they come; the old ones stay in use on an error.
    fn reload_secrets(&self) -> impl Future<Output = Result<(), SecretError>> + Send;

    /// Whether a batch must keep its bounds over a restart, since its name at the destination is made of them. The bounds
    /// are durable before its first try then.
    fn keeps_bounds(&self) -> bool {
        false
    }

    /// Which of these bodies are safe now, by position. A destination may say so only once.
    fn confirm(&self, tokens: Vec<String>) -> impl Future<Output = Result<Vec<bool>, String>> + Send {
        std::future::ready(Ok(vec![false; tokens.len()]))
    }

    /// How often [`Destination::confirm`] is asked while something waits for it.
    fn confirm_every(&self) -> Duration {
        Duration::from_secs(1)
    }
}
