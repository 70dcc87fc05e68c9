//! From the log to a request: reading the events of a batch, putting them into a body, sending it once. What the
//! outcome means is decided in `line`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::clock::Clock;
use super::destination::{BodyBuilder, Destination, Encoded, Limits, Push, SendOutcome};
use super::line::Batch;
use crate::outbox::{DeadLetter, Outbox, OutboxError, StoredEvent};

/// So many events are encoded (about 0.1 ms) before other tasks of the thread get their turn: a full batch in one go
/// would show in the latency of the requests that the same thread serves.
const ENCODE_TURN: usize = 32;
/// Past the destination's own timeout the engine gives up on a request, should the destination not have.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);
/// Reading a secret from a file that hangs must not hang delivery.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no batch could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FillError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("the log has seq {found} where {expected} should follow")]
    Hole { expected: u64, found: u64 },
    #[error("the body could not be made: {0}")]
    Body(String),
}

impl FillError {
    /// Whether events are gone, so that trying again cannot help.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self, Self::Outbox(OutboxError::Gone(_)) | Self::Hole { .. })
    }
}

/// A batch that was read and encoded.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) batch: Batch,
    /// `None` where no event of it can be sent.
    pub(super) encoded: Option<Encoded>,
    /// Events behind it that were read along.
    pub(super) carry: Vec<StoredEvent>,
}

/// Reads and encodes the batch that follows `read_to`; `carry` are events behind it that were read before. `None`
/// where there is nothing.
pub(super) async fn fill<D: Destination>(
    destination: Arc<D>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    read_to: u64,
    mut carry: Vec<StoredEvent>,
    limits: Limits,
    events_max: usize,
) -> Result<Option<Filled>, (FillError, Vec<StoredEvent>)> {
    let after = carry.last().map_or(read_to, |event| event.seq);
    let carried: usize = carry.iter().map(|event| event.text.len()).sum();
    if carry.len() < events_max && carried < limits.batch_bytes_max {
        let read = outbox.read_after(after, events_max - carry.len(), limits.batch_bytes_max - carried).await;
        match read.map_err(FillError::from).and_then(|events| consecutive(after, events)) {
            Ok(events) => carry.extend(events),
            Err(error) => return Err((error, carry)),
        }
    }
    let rest = carry.split_off(carry.len().min(events_max));
    let (Some(first), Some(last)) = (carry.first(), carry.last()) else { return Ok(None) };
    let since_ms = complete_ms(&first.text);
    let batch =
        Batch { first: first.seq, last: last.seq, events: carry, dead: Vec::new(), attempts: 0, since_ms };
    match encode(&*destination, clock.now_ms(), batch).await {
        Ok((batch, encoded, mut over)) => {
            let carry = match over.take() {
                Some(over) => over.events.into_iter().chain(rest).collect(),
                None => rest,
            };
            Ok(Some(Filled { batch, encoded, carry }))
        }
        Err((error, batch)) => Err((FillError::Body(error), batch.events.into_iter().chain(rest).collect())),
    }
}

fn consecutive(after: u64, events: Vec<StoredEvent>) -> Result<Vec<StoredEvent>, FillError> {
    for (expected, event) in (after + 1..).zip(&events) {
        if event.seq != expected {
            return Err(FillError::Hole { expected, found: event.seq });
        }
    }
    Ok(events)
}

/// Encodes a batch as it is to be sent now: the batch of what went into the body (and what is unfit), the body, and
/// what did not fit.
pub(super) async fn encode<D: Destination>(
    destination: &D,
    now_ms: i64,
    mut batch: Batch,
) -> Result<(Batch, Option<Encoded>, Option<Batch>), (String, Batch)> {
    let mut builder = match destination.begin(now_ms) {
        Ok(builder) => builder,
        Err(error) => return Err((error, batch)),
    };
    let mut taken = 0;
    let mut full_at = None;
    let mut unfit = Vec::new();
    for (index, event) in batch.events.iter().enumerate() {
        match builder.push(event) {
            Push::Taken => taken += 1,
            Push::Full if taken > 0 => {
                full_at = Some(index);
                break;
            }
            Push::Full => unfit.push((event.seq, "the event does not fit into an empty body".to_owned())),
            Push::Unfit(reason) => unfit.push((event.seq, reason)),
        }
        if index % ENCODE_TURN == ENCODE_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    let encoded = if taken == 0 {
        None
    } else {
        match builder.finish() {
            Ok(encoded) => Some(encoded),
            Err(error) => return Err((error, batch)),
        }
    };
    let mut over = None;
    if let Some(index) = full_at {
        (batch, over) = batch.split(index);
    }
    for (seq, reason) in unfit {
        if let Ok(index) = batch.events.binary_search_by_key(&seq, |event| event.seq) {
            let event = batch.events.remove(index);
            batch.dead.push(DeadLetter { seq, reason, text: event.text });
        }
    }
    Ok((batch, encoded, over))
}

/// What became of a flight.
#[derive(Debug)]
pub(super) struct Landed {
    pub(super) batch: Batch,
    /// What did not fit any more when the batch was encoded anew.
    pub(super) over: Option<Batch>,
    /// `None` where nothing of the batch was left to send.
    pub(super) outcome: Option<SendOutcome>,
    /// Of the body: as sent, and before compression.
    pub(super) bytes: Option<(u64, u64)>,
}

/// One flight of a batch: encodes it unless that is fresh, sends it. A probe reads the secrets anew before.
pub(super) async fn fly<D: Destination>(
    destination: Arc<D>,
    clock: Arc<dyn Clock>,
    batch: Batch,
    fresh: Option<Encoded>,
    probe: bool,
    timeout: Duration,
) -> Landed {
    let reloaded = if probe { reload(&*destination).await } else { Ok(()) };
    let (batch, encoded, over) = match fresh {
        Some(encoded) => (batch, Some(encoded), None),
        None => match encode(&*destination, clock.now_ms(), batch).await {
            Ok(encoded) => encoded,
            Err((why, batch)) => {
                let outcome = Some(SendOutcome::Retry { after: None, why });
                return Landed { batch, over: None, outcome, bytes: None };
            }
        },
    };
    let Some(encoded) = encoded else { return Landed { batch, over, outcome: None, bytes: None } };
    let bytes = Some((u64::try_from(encoded.body.len()).unwrap_or(u64::MAX), encoded.bytes_uncompressed));
    let limit = timeout + TIMEOUT_MARGIN;
    let mut outcome = match tokio::time::timeout(limit, destination.send(encoded.body)).await {
        Ok(outcome) => outcome,
        Err(_) => SendOutcome::Retry { after: None, why: format!("no answer within {} s", limit.as_secs()) },
    };
    if let (SendOutcome::Hold { why }, Err(error)) = (&mut outcome, reloaded) {
        why.push_str("; reading the secret anew failed: ");
        why.push_str(&error);
    }
    Landed { batch, over, outcome: Some(outcome), bytes }
}

/// Reads the destination's secrets anew, for at most [`RELOAD_TIMEOUT`].
pub(super) async fn reload<D: Destination>(destination: &D) -> Result<(), String> {
    match tokio::time::timeout(RELOAD_TIMEOUT, destination.reload_secrets()).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", RELOAD_TIMEOUT.as_secs())),
    }
}

/// When the event became complete: its `created_at`, plus how long its request took.
fn complete_ms(text: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Event<'a> {
        created_at: &'a str,
        #[serde(default)]
        request: Option<Request>,
    }
    #[derive(Deserialize)]
    struct Request {
        latency_ms: Option<Latency>,
    }
    #[derive(Deserialize)]
    struct Latency {
        total: f64,
    }
    let event: Event<'_> = serde_json::from_slice(text).ok()?;
    let created: jiff::Timestamp = event.created_at.parse().ok()?;
    let took = event.request.and_then(|request| request.latency_ms).map_or(0.0, |latency| latency.total);
    let took = Duration::try_from_secs_f64(took / 1000.0).unwrap_or_default();
    Some(created.as_millisecond().saturating_add(i64::try_from(took.as_millis()).unwrap_or(0)))
}
