//! A destination that does what a test tells it, and remembers what it was sent. A body is the seqs of its events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    BodyBuilder, Delivery, Destination, DestinationStatus, Encoded, Limits, Parcel, Partial, Push, Receipt,
    Screen, SendOutcome, Target, Then,
};
use crate::outbox::{Outbox as _, StoredEvent};
use crate::secret::{SecretError, SecretSource};
use crate::testing::{FakeClock, MemoryOutbox, NOW_MS};

/// What a request runs into.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) after: Duration,
    pub(super) outcome: SendOutcome,
    /// The events arrived, whatever the outcome says.
    pub(super) arrived: bool,
}

impl Reply {
    pub(super) fn now(outcome: SendOutcome) -> Self {
        Self { after: Duration::ZERO, arrived: outcome == SendOutcome::Delivered, outcome }
    }

    pub(super) fn ok() -> Self {
        Self::now(SendOutcome::Delivered)
    }

    pub(super) fn retry(why: &str) -> Self {
        Self::now(SendOutcome::Retry { after: None, why: why.to_owned() })
    }

    pub(super) fn hold(why: &str) -> Self {
        Self::now(SendOutcome::Hold { why: why.to_owned() })
    }

    pub(super) fn rejected() -> Self {
        Self::now(SendOutcome::Rejected { why: "400".to_owned() })
    }

    pub(super) fn too_large() -> Self {
        Self::now(SendOutcome::TooLarge { why: "413".to_owned() })
    }

    /// Received, and safe as soon as the script of acknowledgements says so.
    pub(super) fn received(token: &str, within: Duration) -> Self {
        Self::now(SendOutcome::Received(Receipt { token: token.to_owned(), within }))
    }

    /// These again, those dead, the rest taken.
    pub(super) fn partial(again: Vec<u64>, dead: &[u64]) -> Self {
        let dead = dead.iter().map(|seq| (*seq, "mapping".to_owned())).collect();
        let partial = Partial { again, dead, then: Then::Retry(None), why: "429".to_owned() };
        Self { arrived: true, ..Self::now(SendOutcome::Partial(partial)) }
    }

    pub(super) fn hang() -> Self {
        Self { after: Duration::from_secs(86_400), ..Self::ok() }
    }
}

/// One request as it was made.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) at: Instant,
    /// First and last seq of the batch.
    pub(super) range: (u64, u64),
    pub(super) seqs: Vec<u64>,
    /// Requests under way when it started, itself included.
    pub(super) flying: usize,
}

type Acks = Box<dyn FnMut(&str) -> Result<bool, String> + Send>;
type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

/// What the destination remembers; it outlives a restart of delivery.
#[derive(Default)]
pub(super) struct Record {
    pub(super) requests: Vec<Request>,
    /// How often each seq arrived.
    pub(super) arrived: BTreeMap<u64, u32>,
    pub(super) reloads: usize,
    /// The times that bodies were made for.
    pub(super) begun: Vec<i64>,
    /// Bodies that were received: their seqs by token.
    pub(super) received: BTreeMap<String, Vec<u64>>,
    /// Times that acknowledgements were asked for.
    pub(super) confirms: usize,
    flying: usize,
}

/// The test's hand on the destination.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) record: Arc<Mutex<Record>>,
    script: Arc<Mutex<Script>>,
    /// Reading the secret anew fails with this.
    pub(super) secret_fails: Arc<Mutex<bool>>,
    /// Events that cannot be encoded.
    pub(super) unfit: Arc<Mutex<Vec<u64>>>,
    /// Batches keep their bounds over a restart.
    pub(super) keeps_bounds: Arc<Mutex<bool>>,
    /// Whether a body that was received is safe now, by its token; an error for the whole question.
    pub(super) acks: Arc<Mutex<Acks>>,
    changed: Arc<Notify>,
}

impl Hand {
    pub(super) fn new(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self {
            record: Arc::default(),
            script: Arc::new(Mutex::new(Box::new(script))),
            secret_fails: Arc::default(),
            unfit: Arc::default(),
            keeps_bounds: Arc::default(),
            acks: Arc::new(Mutex::new(Box::new(|_| Ok(true)))),
            changed: Arc::default(),
        }
    }

    pub(super) fn set(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn set_acks(&self, acks: impl FnMut(&str) -> Result<bool, String> + Send + 'static) {
        *self.acks.lock().unwrap() = Box::new(acks);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.record.lock().unwrap().requests.clone()
    }

    pub(super) fn arrived(&self) -> BTreeMap<u64, u32> {
        self.record.lock().unwrap().arrived.clone()
    }

    /// Waits until this holds of the record.
    pub(super) async fn until(&self, holds: impl Fn(&Record) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(&self.record.lock().unwrap()) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn target(&self, id: &str, limits: Limits) -> Target<Scripted> {
        let sender = Scripted { hand: self.clone(), limits: limits.clone() };
        let (id, endpoint, screen) = (id.to_owned(), "memory".to_owned(), Screen::default());
        Target { id, destination: "scripted", endpoint, limits, screen, sender }
    }
}

/// See the module.
pub(super) struct Scripted {
    hand: Hand,
    limits: Limits,
}

impl Destination for Scripted {
    type Builder = Seqs;

    fn begin(&self, now_ms: i64) -> Result<Seqs, String> {
        self.hand.record.lock().unwrap().begun.push(now_ms);
        Ok(Seqs {
            limits: self.limits.clone(),
            seqs: Vec::new(),
            bytes: 0,
            unfit: self.hand.unfit.lock().unwrap().clone(),
        })
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        let text = std::str::from_utf8(&parcel.body).unwrap();
        let seqs: Vec<u64> = text.split_whitespace().map(|seq| seq.parse().unwrap()).collect();
        assert_eq!(seqs, parcel.seqs);
        let range = (parcel.first, parcel.last);
        assert!(range.0 <= seqs[0] && *seqs.last().unwrap() <= range.1);
        let request = {
            let mut record = self.hand.record.lock().unwrap();
            record.flying += 1;
            let request = Request { at: Instant::now(), range, seqs, flying: record.flying };
            record.requests.push(request.clone());
            request
        };
        self.hand.changed.notify_waiters();
        let flight = Flight(&self.hand);
        let reply = (self.hand.script.lock().unwrap())(&request);
        if !reply.after.is_zero() {
            tokio::time::sleep(reply.after).await;
        }
        if let SendOutcome::Received(receipt) = &reply.outcome {
            let mut record = self.hand.record.lock().unwrap();
            record.received.insert(receipt.token.clone(), request.seqs.clone());
        }
        let left: BTreeSet<u64> = match &reply.outcome {
            SendOutcome::Partial(partial) => {
                partial.again.iter().copied().chain(partial.dead.iter().map(|(seq, _)| *seq)).collect()
            }
            _ => BTreeSet::new(),
        };
        if reply.arrived {
            let mut record = self.hand.record.lock().unwrap();
            for seq in request.seqs.iter().filter(|seq| !left.contains(seq)) {
                *record.arrived.entry(*seq).or_default() += 1;
            }
        }
        drop(flight);
        reply.outcome
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        self.hand.record.lock().unwrap().reloads += 1;
        if *self.hand.secret_fails.lock().unwrap() {
            return SecretSource::parse("$POLICY_GATEWAY_NO_SUCH_KEY").unwrap().resolve().map(drop);
        }
        Ok(())
    }

    fn keeps_bounds(&self) -> bool {
        *self.hand.keeps_bounds.lock().unwrap()
    }

    async fn confirm(&self, tokens: Vec<String>) -> Result<Vec<bool>, String> {
        // As over the network: never at once.
        tokio::task::yield_now().await;
        self.hand.record.lock().unwrap().confirms += 1;
        let mut safe = Vec::new();
        for token in tokens {
            let is_safe = (self.hand.acks.lock().unwrap())(&token)?;
            safe.push(is_safe);
            // A body is acknowledged once, as with Splunk.
            let mut record = self.hand.record.lock().unwrap();
            if let Some(seqs) = is_safe.then(|| record.received.remove(&token)).flatten() {
                for seq in seqs {
                    *record.arrived.entry(seq).or_default() += 1;
                }
            }
        }
        self.hand.changed.notify_waiters();
        Ok(safe)
    }
}

/// Counts a request as under way, however it ends.
struct Flight<'a>(&'a Hand);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.record.lock().unwrap().flying -= 1;
        self.0.changed.notify_waiters();
    }
}

/// A body: the seqs, ten bytes each.
pub(super) struct Seqs {
    limits: Limits,
    seqs: Vec<u64>,
    bytes: usize,
    unfit: Vec<u64>,
}

impl BodyBuilder for Seqs {
    fn push(&mut self, event: &StoredEvent) -> Push {
        if self.unfit.contains(&event.seq) {
            return Push::Unfit("unfit".to_owned());
        }
        if self.seqs.len() >= self.limits.batch_events_max || self.bytes + 10 > self.limits.batch_bytes_max {
            return Push::Full;
        }
        self.bytes += 10;
        self.seqs.push(event.seq);
        Push::Taken
    }

    fn finish(self) -> Result<Encoded, String> {
        let body = self.seqs.iter().map(|seq| format!("{seq:<9} ")).collect::<String>();
        Ok(Encoded { body: body.into(), bytes_uncompressed: self.bytes as u64, note: String::new() })
    }
}

/// Limits that keep batches small enough to look at.
pub(super) fn limits(batch_events_max: usize) -> Limits {
    Limits {
        batch_events_max,
        batch_bytes_max: 1_000_000,
        linger: Duration::from_millis(200),
        concurrency: 4,
        timeout: Duration::from_secs(10),
        rate: None,
    }
}

/// Delivery to one scripted destination, `main`, over this outbox.
pub(super) async fn start(outbox: &Arc<MemoryOutbox>, hand: &Hand, limits: Limits) -> Delivery<Scripted> {
    let targets = vec![hand.target("main", limits)];
    let outbox: Arc<MemoryOutbox> = Arc::clone(outbox);
    Delivery::start_targets(outbox, targets, FakeClock::at(NOW_MS), &TaskTracker::new()).await.unwrap()
}

/// The state of the only destination, whose books balance.
pub(super) fn one<D: Destination>(delivery: &Delivery<D>) -> DestinationStatus {
    let status = delivery.status().remove(0);
    assert_eq!(status.accepted, status.delivered + status.pending + status.dead, "{status:?}");
    status
}

/// A log of so many events, none of which `main` has.
pub(super) async fn outbox_with_cursor(events: u64) -> Arc<MemoryOutbox> {
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    outbox.append(events);
    outbox
}

/// Ends delivery as a crash of the process would.
pub(super) async fn crash(delivery: Delivery<Scripted>) {
    let handles = std::mem::take(&mut *delivery.handles.lock().unwrap());
    for handle in handles {
        handle.abort();
        assert!(handle.await.is_err_and(|error| error.is_cancelled()));
    }
}
