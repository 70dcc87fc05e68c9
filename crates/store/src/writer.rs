//! The writer: the one thread that owns the connection that writes. It takes whatever queued up during the last commit,
//! makes one commit of it, and answers whoever waits once that is durable. What it does when a commit fails is in
//! `blocked`; appending, and who is woken when, is in `queue`.

use std::collections::HashSet;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::event::{AuditEvent, EventType, Gap as GapCount};
use audit::log::AppendError;
use rusqlite::Connection;
use tokio::sync::watch;
use uuid::Uuid;

use crate::answering::Answers;
use crate::blocked::Block;
use crate::checkpoint::Checkpoints;
use crate::commit::{Commit, SinceMark, State, Trouble, transact};
use crate::files::{Ballast, Identity, Lock};
use crate::orders::{CursorChanges, Cursors, Done, Order};
use crate::queue::{Gap, Kind, Queue, Queued, Work};
use crate::recovery::{MARK_BYTES, leave_mark};
use crate::retention::Sweep;
use crate::tail::Tail;

/// Retention runs this often.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Between two slices of retention, so that it takes a small part of the writer's time.
const SLICE_INTERVAL: Duration = Duration::from_millis(20);

/// What the writer shares with the handles on the store.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) tail: Tail,
    pub(crate) answers: Answers,
    pub(crate) head: watch::Sender<u64>,
    /// How the writer ended, once it did.
    pub(crate) ended: watch::Sender<Option<Result<(), String>>>,
}

/// See the module.
pub(crate) struct Writer {
    pub(crate) db: Connection,
    pub(crate) path: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: State,
    pub(crate) cursors: Cursors,
    pub(crate) identity: Identity,
    pub(crate) ballast: Ballast,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) block: Option<Block>,
    /// Records that wait for a blocked log: closings, and later decisions of requests that have one on disk.
    pub(crate) held: Vec<Queued>,
    pub(crate) retention_days: Option<u32>,
    pub(crate) retention_destinations: Option<Vec<String>>,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) next_sweep: Instant,
    pub(crate) next_slice: Instant,
    pub(crate) _lock: Lock,
}

/// Whether the writer goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    /// The log failed, and everybody was told.
    Stop(String),
}

/// Says that the writer ended, even where it did so by a panic.
struct Ending {
    shared: Arc<Shared>,
    result: Option<Result<(), String>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err("the writer stopped by a mistake of its own".to_owned()));
        if let Err(reason) = &result {
            refuse(self.shared.queue.fail(reason), reason);
        }
        self.shared.ended.send_replace(Some(result));
    }
}

fn refuse(work: Work, reason: &str) {
    for mut record in work.records {
        record.answer(Err(AppendError::Failed(reason.to_owned())));
    }
    for order in work.orders {
        order.refuse(reason);
    }
}

impl Writer {
    /// Runs until the store is closed or fails.
    pub(crate) fn run(mut self) {
        let mut ending = Ending { shared: Arc::clone(&self.shared), result: None };
        let mut spare = Vec::new();
        let result = loop {
            let mut work = self.shared.queue.take(self.timer(), spare);
            if work.closing {
                // The last chance for what is held.
                self.probe_soon();
            }
            if let Flow::Stop(reason) = self.turn(&mut work) {
                break Err(reason);
            }
            if work.closing {
                break self.finish();
            }
            work.records.clear();
            spare = work.records;
        };
        ending.result = Some(result);
        // The file is free for the next process before anybody hears that this one is done with it.
        drop(self);
        drop(ending);
    }

    /// When there is something to do even if nobody asks.
    fn timer(&self) -> Option<Instant> {
        let sweep = match (&self.sweep, self.retention_days) {
            (Some(_), _) => Some(self.next_slice),
            (None, Some(_)) => Some(self.next_sweep),
            (None, None) => None,
        };
        let probe = self.block.as_ref().map(|block| block.next_probe);
        let checkpoint = self.checkpoints.due();
        [sweep, probe, checkpoint].into_iter().flatten().min()
    }

    fn turn(&mut self, work: &mut Work) -> Flow {
        let (changes, orders): (Vec<_>, Vec<_>) =
            mem::take(&mut work.orders).into_iter().partition(|order| matches!(order, Order::Change { .. }));
        for change in changes {
            if let Flow::Stop(reason) = self.change(change) {
                orders.into_iter().for_each(|order| order.refuse(&reason));
                return Flow::Stop(reason);
            }
        }
        let orders = self.own_orders(orders);
        if self.block.is_some() {
            return self.turn_blocked(mem::take(&mut work.records), orders);
        }
        let records = &mut work.records;
        if let Some(gap) = &work.gap {
            records.push(gap_record(gap));
        }
        if !records.is_empty() || !orders.is_empty() {
            if let Err(trouble) = self.commit(records, orders) {
                if let Some(gap) = work.gap.take() {
                    self.shared.queue.return_gap(gap);
                }
                return self.on_trouble(mem::take(records), trouble);
            }
            settle(&self.shared.answers, records);
        }
        self.upkeep()
    }

    /// Makes a change of the desired state, in a commit of its own with its events. Changes are rare, and one that cannot
    /// be made must take nothing else with it.
    fn change(&mut self, order: Order) -> Flow {
        let Order::Change { change, reply } = order else { return Flow::Go };
        if let Some(block) = &self.block {
            Order::Change { change, reply }.refuse(&block.reason);
            return Flow::Go;
        }
        match crate::state::check(&self.db, &change.edits) {
            Ok(None) => {}
            Ok(Some(why)) => {
                Order::Change { change, reply }.refuse(&why);
                return Flow::Go;
            }
            Err(error) => {
                let trouble = Trouble::of(&error, &self.path);
                Order::Change { change, reply }.refuse(trouble.reason());
                return self.on_trouble(Vec::new(), trouble);
            }
        }
        let queued = |event: &AuditEvent| Queued::plain(event.event_id, event.to_json(), Kind::Standalone);
        let records: Vec<Queued> = change.events.iter().map(queued).collect();
        match self.commit(&records, vec![Order::Change { change, reply }]) {
            Ok(()) => Flow::Go,
            // Whoever asked was told; no request is behind these events.
            Err(trouble) => self.on_trouble(Vec::new(), trouble),
        }
    }

    /// What can wait until everybody is answered.
    fn upkeep(&mut self) -> Flow {
        let mut done = self.slice_if_due();
        if done.is_ok() && self.state.since_mark.bytes >= MARK_BYTES {
            done = self.mark();
        }
        if done.is_ok() {
            done = self.checkpoints.step(&self.db).map_err(|error| Trouble::of(&error, &self.path));
        }
        match done {
            Ok(()) => Flow::Go,
            Err(trouble) => self.on_trouble(Vec::new(), trouble),
        }
    }

    /// Makes one commit of the records and orders. The orders are answered, the records are not: on success they are
    /// durable, on an error nothing of them is on disk.
    pub(crate) fn commit(&mut self, records: &[Queued], mut orders: Vec<Order>) -> Result<(), Trouble> {
        let ordered = match self.plan(&mut orders) {
            Ok(ordered) => ordered,
            Err(trouble) => {
                orders.into_iter().for_each(|order| order.refuse(trouble.reason()));
                return Err(trouble);
            }
        };
        let commit = Commit::prepare(&self.state, records, &ordered, jiff::Timestamp::now().as_millisecond());
        let head = commit.head();
        let mut answers = Vec::with_capacity(orders.len());
        let mut orders = orders.into_iter();
        let mut undone = None;
        let changed = transact(&self.db, || {
            commit.write(&self.db, &self.state)?;
            let mut changes = CursorChanges::new(&self.cursors);
            for order in orders.by_ref() {
                match changes.apply(&self.db, order, head) {
                    Ok(done) => answers.push(done),
                    Err(failed) => {
                        undone = Some(failed.order);
                        return Err(failed.source);
                    }
                }
            }
            changes.save(&self.db)
        });
        let written = match changed {
            // A file that was removed takes commits without an error. They are worth nothing.
            Ok(changed) => self.identity.check().map(|()| changed).map_err(Trouble::Fatal),
            Err(error) => Err(Trouble::of(&error, &self.path)),
        };
        let changed = match written {
            Ok(changed) => changed,
            Err(trouble) => {
                answer_orders(answers, Some(trouble.reason()));
                undone.into_iter().chain(orders).for_each(|order| order.refuse(trouble.reason()));
                return Err(trouble);
            }
        };
        self.cursors.extend(changed);
        self.checkpoints.wrote(commit.bytes());
        let (decisions, events) = commit.counts();
        let rows = commit.take_over(&mut self.state);
        if decisions + events > 0 {
            self.shared.queue.committed(decisions, events);
        }
        if !rows.is_empty() {
            self.shared.tail.push(rows);
        }
        self.shared.head.send_if_modified(|known| mem::replace(known, head) != head);
        answer_orders(answers, None);
        Ok(())
    }

    /// The events that the orders make.
    fn plan(&self, orders: &mut [Order]) -> Result<Vec<Queued>, Trouble> {
        let (mut ended, mut marked, mut events) = (HashSet::new(), HashSet::new(), Vec::new());
        for order in orders {
            match order {
                Order::Escalation(order) => order.plan(&self.db, &mut ended, &mut events),
                Order::Once(order) => order.plan(&self.db, &mut marked, &mut events),
                Order::Tree { step, .. } => {
                    events.extend(crate::tree::event_of(step));
                    Ok(())
                }
                _ => Ok(()),
            }
            .map_err(|error| Trouble::of(&error, &self.path))?;
        }
        Ok(events)
    }

    /// Does the orders that are not part of a commit, and returns the others.
    fn own_orders(&mut self, orders: Vec<Order>) -> Vec<Order> {
        let mut others = Vec::with_capacity(orders.len());
        for order in orders {
            match order {
                Order::Retain { days, destinations, reply } => {
                    if let Some(Some(earlier)) = self.sweep.take().map(|sweep| sweep.reply) {
                        let taken_over = "another run of retention took over".to_owned();
                        drop(earlier.send(Err(crate::StoreError::Unavailable(taken_over))));
                    }
                    self.start_sweep(days, Some(destinations));
                    if let Some(sweep) = &mut self.sweep {
                        sweep.reply = Some(reply);
                    }
                }
                Order::RetainFor { destinations } => self.retention_destinations = Some(destinations),
                Order::LimitFile { bytes_max } => {
                    if let Err(error) = limit_file(&self.db, bytes_max) {
                        tracing::warn!(%error, "the size of the store could not be limited");
                    }
                    self.probe_soon();
                }
                Order::Probe => self.probe_soon(),
                other => others.push(other),
            }
        }
        others
    }

    fn probe_soon(&mut self) {
        if let Some(block) = &mut self.block {
            block.next_probe = Instant::now();
        }
    }

    fn start_sweep(&mut self, days: u32, destinations: Option<Vec<String>>) {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        self.sweep = Some(Sweep::new(now_ms, days, destinations));
        self.next_slice = Instant::now();
        // INVARIANT: what is deleted lies before the last mark, so that a start never misses it.
        self.state.since_mark.bytes = self.state.since_mark.bytes.max(MARK_BYTES);
    }

    fn slice_if_due(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        if self.sweep.is_none()
            && let Some(days) = self.retention_days
            && now >= self.next_sweep
        {
            self.next_sweep = now + RETENTION_INTERVAL;
            self.start_sweep(days, self.retention_destinations.clone());
        }
        if self.sweep.is_none() || now < self.next_slice {
            return Ok(());
        }
        if self.state.since_mark.bytes >= MARK_BYTES {
            self.mark()?;
        }
        let Some(sweep) = &mut self.sweep else { return Ok(()) };
        let result = transact(&self.db, || sweep.slice(&self.db, &self.cursors, &self.state));
        self.checkpoints.wrote(0);
        self.next_slice = now + SLICE_INTERVAL;
        match result {
            Ok(None) => Ok(()),
            Ok(Some(retained)) => {
                if let Some(reply) = self.sweep.take().and_then(|sweep| sweep.reply) {
                    drop(reply.send(Ok(retained)));
                }
                Ok(())
            }
            Err(error) => {
                let trouble = Trouble::of(&error, &self.path);
                if let Some(reply) = self.sweep.take().and_then(|sweep| sweep.reply) {
                    drop(reply.send(Err(crate::StoreError::Unavailable(trouble.reason().to_owned()))));
                }
                Err(trouble)
            }
        }
    }

    fn mark(&mut self) -> Result<(), Trouble> {
        transact(&self.db, || leave_mark(&self.db, &self.state))
            .map_err(|error| Trouble::of(&error, &self.path))?;
        self.state.since_mark = SinceMark::new(self.state.head.seq + 1);
        self.checkpoints.wrote(0);
        Ok(())
    }

    /// The last turn is over: leaves a mark, so that the next start has nothing to read, and an empty WAL.
    fn finish(&mut self) -> Result<(), String> {
        if let Some(block) = &self.block {
            let reason = format!("{} closing records were not written: {}", self.held.len(), block.reason);
            for record in &mut self.held {
                record.answer(Err(AppendError::Blocked(block.reason.clone())));
            }
            return if self.held.is_empty() { Ok(()) } else { Err(reason) };
        }
        self.mark().map_err(|trouble| trouble.reason().to_owned())?;
        self.checkpoints.last(&self.db).map_err(|error| Trouble::of(&error, &self.path).reason().to_owned())
    }
}

/// Answers those who wait: decisions first, since an answer to a client depends on each.
pub(crate) fn settle(answers: &Answers, records: &mut [Queued]) {
    let (mut decisions, mut others) = (Vec::with_capacity(records.len()), Vec::new());
    for record in records {
        // Nobody waits for most closings: waking whoever dropped its end is wasted.
        let Some(waiter) = record.waiter.take().filter(|waiter| !waiter.is_closed()) else { continue };
        match record.kind {
            Kind::Decision => decisions.push(waiter),
            _ => others.push(waiter),
        }
    }
    decisions.append(&mut others);
    answers.durable(decisions);
}

pub(crate) fn answer_orders(answers: Vec<Done>, failure: Option<&str>) {
    for answer in answers {
        answer.answer(failure);
    }
}

/// Limits the file's size on this connection.
pub(crate) fn limit_file(db: &Connection, bytes_max: Option<u64>) -> rusqlite::Result<()> {
    let page_bytes: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    // SQLite's own limit on the number of pages.
    const PAGES_MAX: i64 = 4_294_967_294;
    let pages = match bytes_max {
        Some(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX) / page_bytes.max(1),
        None => PAGES_MAX,
    };
    db.pragma_update_and_check(None, "max_page_count", pages.clamp(1, PAGES_MAX), |_| Ok(()))
}

fn gap_record(gap: &Gap) -> Queued {
    let now = jiff::Timestamp::now();
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Gap, format!("{now:.3}"));
    let since = format!("{:.3}", gap.since);
    event.gap = Some(GapCount { refused: gap.refused, served: gap.served, since });
    Queued::plain(event.event_id, event.to_json(), Kind::Gap)
}
