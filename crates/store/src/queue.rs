//! What stands between the request path and the writer: the queue, who is admitted to it, the log's health and the
//! count of what was turned away. Nothing here touches the database.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use audit::event::QuotaCharge;
use audit::log::{AppendError, Durable, LogHealth, LogStats, Record};
use audit::usage::Spent;
use tokio::sync::watch;
use uuid::Uuid;

use crate::answering::Waiter;
use crate::idle::IdleSignal;
use crate::orders::Order;

/// Nobody waits for a closing record, so it rides with the next decision, or goes after this long. An eighth of a
/// destination's default linger, and no longer than an fsync on a busy disk.
const CLOSING_LINGER: Duration = Duration::from_millis(5);

/// Where the store hears when its callers go idle (see `idle`), decisions wait for company while they do not: this long …
const GATHER: Duration = Duration::from_millis(3);

/// … or until so many are there.
const GATHERED_MAX: usize = 64;

/// Cursor writes alone make at most this many commits a second: one per interval.
const CURSOR_INTERVAL: Duration = Duration::from_millis(100);

/// The gap event is written once nothing was turned away for this long, so that one episode makes one event …
const GAP_QUIET: Duration = Duration::from_millis(250);

/// … or once it has gone on for this long.
const GAP_LONG: Duration = Duration::from_secs(60);

/// A request counts once in the gap, however many of its records are turned away. Past this many ids (16 bytes each)
/// the count is of records.
const GAP_IDS_MAX: usize = 1 << 16;

/// A record with who waits for it.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) event_id: Uuid,
    pub(crate) text: Vec<u8>,
    pub(crate) kind: Kind,
    /// What it adds to the counters of quotas.
    pub(crate) charges: Vec<QuotaCharge>,
    /// What it adds to the sums of usage.
    pub(crate) spent: Option<Arc<Spent>>,
    /// Nobody, where it was answered already.
    pub(crate) waiter: Option<Waiter>,
}

impl Queued {
    /// One that nobody waits for and that counts for nothing.
    pub(crate) fn plain(event_id: Uuid, text: Vec<u8>, kind: Kind) -> Self {
        Self { event_id, text, kind, charges: Vec::new(), spent: None, waiter: None }
    }

    pub(crate) fn answer(&mut self, result: Result<(), AppendError>) {
        if let Some(waiter) = self.waiter.take() {
            // Whoever no longer waits does not want to know.
            let _ = waiter.send(result);
        }
    }
}

/// What a record is to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A decision record.
    Decision,
    /// An event that closes an admitted decision: never turned away.
    Closing,
    /// An event that goes with another one, just before it in the queue.
    Beside(Uuid),
    /// An event on its own.
    Standalone,
    /// The writer's own event about requests turned away.
    Gap,
    /// The event of an order: there with it or not at all.
    Ordered,
}

/// Requests that were turned away or served unrecorded since the last gap event.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) refused: u64,
    pub(crate) served: u64,
    pub(crate) since: jiff::Timestamp,
    first: Instant,
    last: Instant,
    ids: HashSet<Uuid, BuildHasherDefault<IdHasher>>,
}

impl Gap {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            refused: 0,
            served: 0,
            since: jiff::Timestamp::now(),
            first: now,
            last: now,
            ids: HashSet::default(),
        }
    }

    fn due(&self) -> Instant {
        (self.last + GAP_QUIET).min(self.first + GAP_LONG)
    }
}

/// What the writer takes in one go.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) records: Vec<Queued>,
    pub(crate) orders: Vec<Order>,
    /// Due to be reported.
    pub(crate) gap: Option<Gap>,
    /// Nothing will follow.
    pub(crate) closing: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Door {
    Open,
    Blocked(String),
    Failed(String),
    Closed,
}

#[derive(Debug)]
struct Inner {
    records: Vec<Queued>,
    orders: Vec<Order>,
    /// Decisions admitted and not closed yet. INVARIANT: an event is a closing exactly if it takes its id out of here.
    admitted: HashMap<Uuid, (), BuildHasherDefault<IdHasher>>,
    door: Door,
    gap: Option<Gap>,
    closing: bool,
    /// Something in the queue does not bear waiting, since then.
    urgent_since: Option<Instant>,
    /// Nor does it wait for company.
    is_ripe: bool,
    /// When the rest of the queue is due.
    due: Option<Instant>,
    sleep: Sleep,
    last_turn: Option<Instant>,
    stats: LogStats,
}

/// What the writer is doing, so that it is only woken where that is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Awake,
    Until(Instant),
    ForGood,
}

/// The queue. One writer takes, anybody appends.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    records_max: usize,
    idle: Option<IdleSignal>,
    health: watch::Sender<LogHealth>,
}

impl Queue {
    pub(crate) fn new(records_max: usize, idle: Option<IdleSignal>) -> Self {
        let inner = Inner {
            records: Vec::new(),
            orders: Vec::new(),
            admitted: HashMap::default(),
            door: Door::Open,
            gap: None,
            closing: false,
            urgent_since: None,
            is_ripe: false,
            due: None,
            sleep: Sleep::Awake,
            last_turn: None,
            stats: LogStats::default(),
        };
        Self {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            records_max: records_max.max(1),
            idle,
            health: watch::Sender::new(LogHealth::Writable),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a record, and with it others and an order that get into the same commit; see `AuditLog::append_all`.
    ///
    /// INVARIANT: what is queued under one lock is committed as one, since the writer takes all there is.
    pub(crate) fn append(
        &self,
        record: Record,
        others: Vec<Record>,
        order: Option<Order>,
    ) -> Result<Durable, AppendError> {
        let Parts { event_id, text, charges, spent, is_decision } = parts(record);
        let others: Vec<_> = others.into_iter().map(parts).collect();
        if !is_one_object(&text) || !others.iter().all(|other| is_one_object(&other.text)) {
            return Err(AppendError::Malformed);
        }
        let (sender, durable) = Durable::new();
        let mut inner = self.lock();
        let kind = if is_decision {
            Kind::Decision
        } else if inner.admitted.contains_key(&event_id) {
            Kind::Closing
        } else {
            Kind::Standalone
        };
        self.admit(&mut inner, event_id, kind)?;
        match kind {
            Kind::Decision => drop(inner.admitted.insert(event_id, ())),
            Kind::Closing => drop(inner.admitted.remove(&event_id)),
            Kind::Standalone | Kind::Beside(_) | Kind::Gap | Kind::Ordered => {}
        }
        inner.records.push(Queued { event_id, text, kind, charges, spent, waiter: Some(sender) });
        inner.stats.queued += 1 + others.len() as u64;
        for Parts { event_id: other, text, .. } in others {
            // It tells of the same call, which is charged once.
            inner.records.push(Queued::plain(other, text, Kind::Beside(event_id)));
        }
        inner.orders.extend(order);
        if kind == Kind::Closing {
            self.due(inner, CLOSING_LINGER);
        } else {
            self.gather(inner);
        }
        Ok(durable)
    }

    fn admit(&self, inner: &mut Inner, event_id: Uuid, kind: Kind) -> Result<(), AppendError> {
        match &inner.door {
            Door::Failed(reason) => return Err(AppendError::Failed(reason.clone())),
            Door::Closed => return Err(AppendError::Closed),
            _ if kind == Kind::Closing => return Ok(()),
            Door::Open if inner.records.len() < self.records_max => return Ok(()),
            Door::Open | Door::Blocked(_) => {}
        }
        let refusal = match &inner.door {
            Door::Blocked(reason) => AppendError::Blocked(reason.clone()),
            _ => AppendError::QueueFull,
        };
        inner.refuse(event_id);
        Err(refusal)
    }

    /// Wakes the writer now.
    fn urgent(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.urgent_since.get_or_insert_with(Instant::now);
        self.ripen(inner);
    }

    /// Wakes the writer now, or where it is about to wake anyway, once the callers have nothing else to do.
    fn gather(&self, mut inner: MutexGuard<'_, Inner>) {
        let Some(idle) = &self.idle else { return self.urgent(inner) };
        let now = Instant::now();
        let since = *inner.urgent_since.get_or_insert(now);
        let is_enough = now - since >= GATHER || inner.records.len() >= GATHERED_MAX;
        if is_enough || inner.sleep == Sleep::ForGood {
            return self.ripen(inner);
        }
        drop(inner);
        idle.expect();
    }

    /// The callers are idle: nothing will keep what is urgent company.
    pub(crate) fn callers_idle(&self) {
        let inner = self.lock();
        if inner.urgent_since.is_some() {
            self.ripen(inner);
        }
    }

    fn ripen(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.is_ripe = true;
        if inner.sleep != Sleep::Awake {
            inner.sleep = Sleep::Awake;
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Lets the writer sleep on where it wakes up soon enough by itself.
    fn due(&self, mut inner: MutexGuard<'_, Inner>, linger: Duration) {
        let now = Instant::now();
        let due = now + linger;
        if inner.due.is_none_or(|earlier| due < earlier) {
            inner.due = Some(due);
        }
        let oversleeps = match inner.sleep {
            Sleep::Awake => false,
            Sleep::Until(until) => until > due + linger,
            Sleep::ForGood => true,
        };
        if oversleeps {
            inner.sleep = Sleep::Awake;
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Queues an order.
    ///
    /// # Errors
    /// The order itself and the reason, where the log takes none.
    pub(crate) fn order(&self, order: Order) -> Result<(), (Order, String)> {
        let mut inner = self.lock();
        match &inner.door {
            Door::Failed(reason) => return Err((order, format!("it failed: {reason}"))),
            Door::Closed => return Err((order, "it is closed".to_owned())),
            Door::Open | Door::Blocked(_) => {}
        }
        let can_wait = order.can_wait();
        inner.orders.push(order);
        let since_last = inner.last_turn.map_or(CURSOR_INTERVAL, |last| last.elapsed());
        if can_wait && since_last < CURSOR_INTERVAL {
            self.due(inner, CURSOR_INTERVAL.saturating_sub(since_last));
        } else {
            self.urgent(inner);
        }
        Ok(())
    }

    /// Counts a request that was served without a record. Its record was refused before, and counted as that.
    pub(crate) fn served_unrecorded(&self) {
        let mut inner = self.lock();
        let gap = inner.gap.get_or_insert_with(Gap::new);
        gap.refused = gap.refused.saturating_sub(1);
        gap.served += 1;
        gap.last = Instant::now();
        self.due(inner, GAP_QUIET);
    }

    /// Waits for work, at most until `timer`, and takes all of it. The writer calls it.
    pub(crate) fn take(&self, timer: Option<Instant>, records: Vec<Queued>) -> Work {
        let mut inner = self.lock();
        let turn = Instant::now();
        inner.last_turn = Some(turn);
        loop {
            let now = Instant::now();
            let gap_due = match (&inner.gap, &inner.door) {
                (Some(gap), Door::Open) => Some(gap.due()),
                _ => None,
            };
            let gathered = inner.urgent_since.map(|since| since + GATHER);
            let wake_at = [timer, inner.due, gap_due, gathered].into_iter().flatten().min();
            if inner.is_ripe || inner.closing || wake_at.is_some_and(|at| at <= now) {
                return inner.take(now, records);
            }
            // Just after a turn the next closing is likely to be near: a short sleep saves waking it for that.
            let doze = turn + 2 * CLOSING_LINGER;
            let until = match wake_at {
                Some(at) if at < doze || now >= doze => Some(at),
                _ => (now < doze).then_some(doze),
            };
            inner.sleep = until.map_or(Sleep::ForGood, Sleep::Until);
            inner = match until {
                Some(until) => {
                    let timeout = until.saturating_duration_since(now);
                    self.wake.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
            inner.sleep = Sleep::Awake;
        }
    }

    /// Gives back a gap that could not be reported.
    pub(crate) fn return_gap(&self, gap: Gap) {
        let mut inner = self.lock();
        match &mut inner.gap {
            Some(newer) => {
                newer.refused += gap.refused;
                newer.served += gap.served;
                newer.since = gap.since;
                newer.first = gap.first;
            }
            none => *none = Some(gap),
        }
    }

    /// Counts what was committed.
    pub(crate) fn committed(&self, decisions: u64, events: u64) {
        let mut inner = self.lock();
        inner.stats.decisions += decisions;
        inner.stats.events += events;
        inner.stats.commits += 1;
    }

    /// A decision was not made durable. `forget` where no earlier one of its id is.
    pub(crate) fn refused(&self, event_id: Uuid, kind: Kind, forget: bool) {
        let mut inner = self.lock();
        if forget && kind == Kind::Decision {
            inner.admitted.remove(&event_id);
        }
        inner.refuse(event_id);
    }

    /// From now on new decisions are refused at once.
    pub(crate) fn block(&self, reason: &str) {
        let mut inner = self.lock();
        if matches!(inner.door, Door::Open | Door::Blocked(_)) {
            inner.door = Door::Blocked(reason.to_owned());
            self.health.send_replace(LogHealth::Blocked(reason.to_owned()));
        }
    }

    /// Decisions are taken again.
    pub(crate) fn unblock(&self) {
        let mut inner = self.lock();
        if matches!(inner.door, Door::Blocked(_)) {
            inner.door = Door::Open;
            self.health.send_replace(LogHealth::Writable);
        }
    }

    /// The log is over for this process. Returns what was still queued.
    pub(crate) fn fail(&self, reason: &str) -> Work {
        let mut inner = self.lock();
        inner.door = Door::Failed(reason.to_owned());
        self.health.send_replace(LogHealth::Failed(reason.to_owned()));
        inner.take(Instant::now(), Vec::new())
    }

    /// Nothing is taken from now on; what was taken is still written.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        if matches!(inner.door, Door::Open | Door::Blocked(_)) {
            inner.door = Door::Closed;
        }
        inner.closing = true;
        self.urgent(inner);
    }

    pub(crate) fn health(&self) -> watch::Receiver<LogHealth> {
        self.health.subscribe()
    }

    pub(crate) fn health_now(&self) -> LogHealth {
        self.health.borrow().clone()
    }

    pub(crate) fn stats(&self) -> LogStats {
        self.lock().stats
    }
}

impl Inner {
    fn refuse(&mut self, event_id: Uuid) {
        self.stats.refused += 1;
        let gap = self.gap.get_or_insert_with(Gap::new);
        gap.last = Instant::now();
        if gap.ids.len() >= GAP_IDS_MAX || gap.ids.insert(event_id) {
            gap.refused += 1;
        }
    }

    fn take(&mut self, now: Instant, spare: Vec<Queued>) -> Work {
        self.urgent_since = None;
        self.is_ripe = false;
        self.due = None;
        self.stats.queued = 0;
        let gap_is_due = self.gap.as_ref().is_some_and(|gap| gap.due() <= now || self.closing);
        let may_report = matches!(self.door, Door::Open | Door::Closed);
        Work {
            records: std::mem::replace(&mut self.records, spare),
            orders: std::mem::take(&mut self.orders),
            gap: if gap_is_due && may_report { self.gap.take() } else { None },
            closing: self.closing,
        }
    }
}

/// What a record is made of.
struct Parts {
    event_id: Uuid,
    text: Vec<u8>,
    charges: Vec<QuotaCharge>,
    spent: Option<Arc<Spent>>,
    is_decision: bool,
}

fn parts(record: Record) -> Parts {
    match record {
        // What a decision holds is charged once it is closed.
        Record::Decision { event_id, text } => {
            Parts { event_id, text, charges: Vec::new(), spent: None, is_decision: true }
        }
        Record::Event { event_id, text, charges, spent } => {
            Parts { event_id, text, charges, spent, is_decision: false }
        }
    }
}

/// The cheap part of "an event's JSON on one line": the rest is its maker's word.
fn is_one_object(text: &[u8]) -> bool {
    text.starts_with(b"{\"") && text.ends_with(b"}") && memchr::memchr(b'\n', text).is_none()
}

/// Event ids are random already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A UUID's last eight bytes are its random ones; its length prefix, written first, is lost on purpose.
        if let Some(tail) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*tail).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decision() -> Record {
        Record::Decision { event_id: Uuid::now_v7(), text: br#"{"decision":"allow"}"#.to_vec() }
    }

    /// A queue whose writer sleeps for a while.
    fn queue(idle: Option<IdleSignal>) -> Queue {
        let queue = Queue::new(1000, idle);
        queue.lock().sleep = Sleep::Until(Instant::now() + Duration::from_secs(3600));
        queue
    }

    #[test]
    fn a_decision_waits_for_company_until_the_callers_are_idle() {
        let queue = queue(Some(IdleSignal::default()));
        let _durable = queue.append(decision(), Vec::new(), None).unwrap();
        assert!(!queue.lock().is_ripe);
        queue.callers_idle();
        assert!(queue.lock().is_ripe);
        let work = queue.take(None, Vec::new());
        assert_eq!(work.records.len(), 1);
        // With nothing in it the queue stays as it is.
        queue.callers_idle();
        assert!(!queue.lock().is_ripe);
    }

    #[test]
    fn enough_decisions_wait_for_no_more() {
        let queue = queue(Some(IdleSignal::default()));
        for _ in 1..GATHERED_MAX {
            let _durable = queue.append(decision(), Vec::new(), None).unwrap();
            // Its time is over where this thread was kept from running; then there is nothing to see here.
            let is_early = queue.lock().urgent_since.is_some_and(|since| since.elapsed() < GATHER / 2);
            assert!(!is_early || !queue.lock().is_ripe);
        }
        let _durable = queue.append(decision(), Vec::new(), None).unwrap();
        assert!(queue.lock().is_ripe);
    }

    #[test]
    fn nobody_waits_longer_than_the_bound() {
        let queue = queue(Some(IdleSignal::default()));
        let _durable = queue.append(decision(), Vec::new(), None).unwrap();
        // Returns though nobody says anything.
        assert_eq!(queue.take(None, Vec::new()).records.len(), 1);
    }

    #[test]
    fn a_writer_without_work_and_one_without_a_signal_are_woken_at_once() {
        let alone = queue(None);
        let _durable = alone.append(decision(), Vec::new(), None).unwrap();
        assert!(alone.lock().is_ripe);
        let resting = queue(Some(IdleSignal::default()));
        resting.lock().sleep = Sleep::ForGood;
        let _durable = resting.append(decision(), Vec::new(), None).unwrap();
        assert!(resting.lock().is_ripe);
    }
}
