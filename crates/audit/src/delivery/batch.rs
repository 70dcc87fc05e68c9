//! From the log to a request: reading the events of a batch, leaving out what is not for this destination, putting the
//! rest into a body, sending it once. What the outcome means is decided in `line`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::clock::Clock;
use super::destination::{BodyBuilder, Destination, Encoded, Limits, Parcel, Push, SendOutcome};
use super::ledger::Ledger;
use super::screen::Screen;
use crate::outbox::{Ahead, DeadLetter, Outbox, OutboxError, StoredEvent};

/// So many events are encoded (about 0.1 ms) before other tasks of the thread get their turn: a full batch in one go
/// would show in the latency of the requests that the same thread serves.
const ENCODE_TURN: usize = 32;
/// Past the destination's own timeout the engine gives up on a request, should the destination not have.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);
/// Reading a secret from a file that hangs must not hang delivery.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a destination leaves events out, so many times as many are looked at in one go, or bodies would be all but empty.
const SCREENED_READ: usize = 8;

/// Consecutive events on their way.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Its first seq.
    pub(super) first: u64,
    /// Its last seq.
    pub(super) last: u64,
    /// Its events, but for those in `dead` and `skipped` and those that an earlier try delivered.
    pub(super) events: Vec<StoredEvent>,
    /// Events of the range that cannot be sent.
    pub(super) dead: Vec<DeadLetter>,
    /// Seqs of events of the range that are not for this destination.
    pub(super) skipped: Vec<u64>,
    /// Its bounds are durable.
    pub(super) bound: bool,
    /// Tries so far.
    pub(super) attempts: u32,
    /// When its first event was complete, epoch milliseconds.
    pub(super) since_ms: Option<i64>,
}

impl Batch {
    /// Consecutive events that were just read; `None` where there is none.
    pub(super) fn of(events: Vec<StoredEvent>, since_ms: Option<i64>) -> Option<Self> {
        let (first, last) = (events.first()?.seq, events.last()?.seq);
        let (dead, skipped) = (Vec::new(), Vec::new());
        Some(Self { first, last, events, dead, skipped, bound: false, attempts: 0, since_ms })
    }

    /// Splits behind the first `count` events; the second half is `None` where it would be empty. Neither half keeps
    /// the bounds of the whole.
    pub(super) fn split(mut self, count: usize) -> (Self, Option<Self>) {
        let count = count.clamp(1, self.events.len().max(1));
        let Some(border) = self.events.get(count).map(|event| event.seq) else { return (self, None) };
        let events = self.events.split_off(count);
        let (dead, rest_dead) = self.dead.into_iter().partition(|letter| letter.seq < border);
        let (skipped, rest_skipped) = self.skipped.into_iter().partition(|seq| *seq < border);
        let Self { first, last, events: front, attempts, since_ms, .. } = self;
        let rest = Self {
            first: border,
            last,
            events,
            dead: rest_dead,
            skipped: rest_skipped,
            bound: false,
            attempts,
            since_ms,
        };
        let last = border - 1;
        let first = Self { first, last, events: front, dead, skipped, bound: false, attempts, since_ms };
        (first, Some(rest))
    }

    /// The batch as it is sent in this body.
    pub(super) fn parcel(&self, encoded: Encoded, now_ms: i64) -> Parcel {
        Parcel {
            body: encoded.body,
            note: encoded.note,
            seqs: self.events.iter().map(|event| event.seq).collect(),
            first: self.first,
            last: self.last,
            attempts: self.attempts,
            now_ms,
        }
    }

    /// Takes out what a partial outcome settled. Returns the seqs that were delivered.
    pub(super) fn settle(&mut self, again: &[u64], dead: &[(u64, String)]) -> Vec<u64> {
        let mut delivered = Vec::new();
        let mut left = Vec::with_capacity(again.len());
        for event in self.events.drain(..) {
            if let Some((_, reason)) = dead.iter().find(|(seq, _)| *seq == event.seq) {
                self.dead.push(DeadLetter { seq: event.seq, reason: reason.clone(), text: event.text });
            } else if again.contains(&event.seq) {
                left.push(event);
            } else {
                delivered.push(event.seq);
            }
        }
        self.events = left;
        self.dead.sort_by_key(|letter| letter.seq);
        delivered
    }
}

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

/// Which batch to read.
pub(super) struct Wanted {
    /// Up to here events were read.
    pub(super) read_to: u64,
    /// Events behind it that were read before.
    pub(super) carry: Vec<StoredEvent>,
    /// Most events in the body.
    pub(super) events_max: usize,
    /// Where the batch ends at the latest; exactly there where the flag is set.
    pub(super) bound: Option<(u64, bool)>,
}

/// Reads and encodes the batch that follows; `None` where there is nothing.
pub(super) async fn fill<D: Destination>(
    destination: Arc<D>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    screen: Screen,
    limits: Limits,
    wanted: Wanted,
) -> Result<Option<Filled>, (FillError, Vec<StoredEvent>)> {
    let Wanted { read_to, mut carry, events_max, bound } = wanted;
    let to = bound.map_or(u64::MAX, |(last, _)| last);
    let whole = bound.is_some_and(|(_, exactly)| exactly);
    let most = if screen.is_open() { events_max } else { events_max.saturating_mul(SCREENED_READ) };
    let (read_max, bytes_max) =
        if whole { (to_usize(to - read_to), usize::MAX) } else { (most, limits.batch_bytes_max) };
    loop {
        let after = carry.last().map_or(read_to, |event| event.seq);
        let carried: usize = carry.iter().map(|event| event.text.len()).sum();
        if carry.len() >= read_max || carried >= bytes_max || after >= to {
            break;
        }
        let count = (read_max - carry.len()).min(to_usize(to - after));
        let read = outbox.read_after(after, count, bytes_max - carried).await;
        match read.map_err(FillError::from).and_then(|events| consecutive(after, events)) {
            Ok(events) if whole && events.is_empty() => return Ok(None),
            Ok(events) => carry.extend(events),
            Err(error) => return Err((error, carry)),
        }
        if !whole {
            break;
        }
    }
    let rest = carry.split_off(carry.len().min(read_max));
    let since_ms = carry.first().and_then(|event| complete_ms(&event.text));
    let Some(mut batch) = Batch::of(carry, since_ms) else { return Ok(None) };
    batch.bound = whole;
    let events_max = if whole { usize::MAX } else { events_max };
    match encode(&*destination, &screen, clock.now_ms(), batch, events_max).await {
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

/// Encodes a batch as it is to be sent now: the batch of what went into the body (and what is unfit or not for this
/// destination), the body, and what did not fit.
pub(super) async fn encode<D: Destination>(
    destination: &D,
    screen: &Screen,
    now_ms: i64,
    mut batch: Batch,
    events_max: usize,
) -> Result<(Batch, Option<Encoded>, Option<Batch>), (String, Batch)> {
    let mut builder = match destination.begin(now_ms) {
        Ok(builder) => builder,
        Err(error) => return Err((error, batch)),
    };
    let mut taken = 0;
    let mut full_at = None;
    let mut unfit = Vec::new();
    let mut skipped = Vec::new();
    for (index, event) in batch.events.iter().enumerate() {
        if !screen.passes(&event.text) {
            skipped.push(event.seq);
        } else if taken >= events_max {
            full_at = Some(index);
            break;
        } else {
            match builder.push(&screen.disguise(event)) {
                Push::Taken => taken += 1,
                Push::Full if taken > 0 => {
                    full_at = Some(index);
                    break;
                }
                Push::Full => unfit.push((event.seq, "the event does not fit into an empty body".to_owned())),
                Push::Unfit(reason) => unfit.push((event.seq, reason)),
            }
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
    if !skipped.is_empty() {
        batch.events.retain(|event| skipped.binary_search(&event.seq).is_err());
        batch.skipped.append(&mut skipped);
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

/// What a flight needs beside its batch.
pub(super) struct Runway<D> {
    pub(super) destination: Arc<D>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) screen: Screen,
    pub(super) timeout: Duration,
}

/// One flight of a batch: encodes it unless that is fresh, makes its bounds durable where the destination keeps them,
/// sends it. A probe reads the secrets anew before.
pub(super) async fn fly<D: Destination>(
    runway: Runway<D>,
    batch: Batch,
    fresh: Option<Encoded>,
    probe: bool,
) -> Landed {
    let Runway { destination, clock, ledger, screen, timeout } = runway;
    let reloaded = if probe { reload(&*destination).await } else { Ok(()) };
    let retry = |batch, over, why| {
        let outcome = Some(SendOutcome::Retry { after: None, why });
        Landed { batch, over, outcome, bytes: None }
    };
    let (mut batch, encoded, over) = match fresh {
        Some(encoded) => (batch, Some(encoded), None),
        None => match encode(&*destination, &screen, clock.now_ms(), batch, usize::MAX).await {
            Ok(encoded) => encoded,
            Err((why, batch)) => return retry(batch, None, why),
        },
    };
    let Some(encoded) = encoded else { return Landed { batch, over, outcome: None, bytes: None } };
    if destination.keeps_bounds() && !batch.bound {
        let ahead = Ahead { first: batch.first, last: batch.last, settled: false, skipped: 0 };
        if let Err(error) = ledger.keep_ahead(vec![ahead]).await {
            let why = format!("the batch could not be noted down before its first try: {error}");
            return retry(batch, over, why);
        }
        batch.bound = true;
    }
    let bytes = Some((to_u64(encoded.body.len()), encoded.bytes_uncompressed));
    let parcel = batch.parcel(encoded, clock.now_ms());
    let limit = timeout + TIMEOUT_MARGIN;
    let mut outcome = match tokio::time::timeout(limit, destination.send(parcel)).await {
        Ok(outcome) => outcome,
        Err(_) => SendOutcome::Retry { after: None, why: format!("no answer within {} s", limit.as_secs()) },
    };
    if let (SendOutcome::Hold { why }, Err(error)) = (&mut outcome, reloaded) {
        why.push_str("; reading the secret anew failed: ");
        why.push_str(&error);
    }
    Landed { batch, over, outcome: Some(outcome), bytes }
}

/// Asks which bodies are safe, for at most the time of a request.
pub(super) async fn confirm<D: Destination>(
    destination: &D,
    tokens: Vec<String>,
    timeout: Duration,
) -> Result<Vec<bool>, String> {
    let limit = timeout + TIMEOUT_MARGIN;
    match tokio::time::timeout(limit, destination.confirm(tokens)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
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

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
