//! The task of one destination: it waits for what happens next (a commit, an answer, a timer, an order) and lets `line`
//! decide. One task per destination, so that none starves another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backoff::{BACKOFF_MAX, Jitter};
use super::batch::{self, FillError, Filled, Landed, Runway, Wanted};
use super::clock::Clock;
use super::destination::{Destination, Encoded, Limits, SendOutcome};
use super::ledger::{Ledger, Shown};
use super::line::{Change, Line};
use super::screen::Screen;
use crate::outbox::{Advance, Ahead, BoxFuture, DeliveryState, Outbox, OutboxError, StoredEvent};

/// A change of the error text alone is kept in the store no more often than this.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A failing destination is logged no more often than this; a held one always.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// After the grace is over, so long may the last move of the cursor take.
const LAST_SAVE: Duration = Duration::from_secs(2);
/// The store is asked again this long after it failed.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// What a worker works with.
pub(super) struct Worker<D> {
    pub(super) destination: Arc<D>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) limits: Limits,
    pub(super) screen: Screen,
    pub(super) jitter: Jitter,
    /// What an earlier run kept of batches past the cursor.
    pub(super) ahead: Vec<Ahead>,
    /// Once set, the worker ends at that time at the latest.
    pub(super) deadline: watch::Receiver<Option<Instant>>,
    /// Asks for the secrets to be read anew.
    pub(super) reload: Arc<Notify>,
}

/// Moves of the cursor and what else is on its way to the store, one at a time.
enum Saved {
    Cursor { position: u64, result: Result<(), OutboxError> },
    Ahead { batches: Vec<Ahead>, result: Result<(), OutboxError> },
    Report { result: Result<(), OutboxError> },
}

/// What was asked about, by first seq and name, and which of it is safe.
type Confirmed = (Vec<(u64, String)>, Result<Vec<bool>, String>);

type FillResult = Result<Option<Filled>, (FillError, Vec<StoredEvent>)>;

/// The worker's own state.
struct Desk {
    line: Line,
    /// Events read beyond the last batch.
    carry: Vec<StoredEvent>,
    /// Body of the batch just entered.
    fresh: Option<(u64, Encoded)>,
    filling: Option<BoxFuture<'static, FillResult>>,
    fill_after: Option<Instant>,
    fill_failures: u32,
    /// Up to here no waiting for batches to fill.
    drain_to: u64,
    linger_until: Option<Instant>,
    /// Where there is a rate: nothing more is read until then.
    paced_until: Option<Instant>,
    confirming: Option<BoxFuture<'static, Confirmed>>,
    confirm_after: Option<Instant>,
    noticed_ms: Option<i64>,
    saving: Option<BoxFuture<'static, Saved>>,
    save_after: Option<Instant>,
    unsaved: Option<Advance>,
    /// Batches ahead of the cursor that the destination has, and the store does not know of.
    unkept: Vec<Ahead>,
    /// What the store was told last; `None` where that failed.
    reported: Option<(DeliveryState, Option<String>)>,
    report_after: Option<Instant>,
    /// What the store said last, while it fails.
    store_error: Option<String>,
    /// The log lacks events that were not delivered yet: only a person can mend that.
    lost: bool,
    logged: Logged,
}

impl<D: Destination> Worker<D> {
    /// Works until told to stop.
    pub(super) async fn run(mut self) {
        let mut head = self.outbox.head();
        let mut head_open = true;
        let mut flights = FuturesUnordered::new();
        let mut desk = self.desk(*head.borrow());
        loop {
            let now = Instant::now();
            let head_seq = *head.borrow_and_update();
            let deadline = *self.deadline.borrow_and_update();
            while let Some((batch, probe)) = desk.line.start(now) {
                let fresh = desk.fresh.take_if(|(first, _)| *first == batch.first).map(|(_, body)| body);
                flights.push(batch::fly(self.runway(), batch, fresh, probe));
            }
            // A body that could not start at once is made anew later, rather than kept beside its events.
            desk.fresh = None;
            self.fill(&mut desk, head_seq, now, deadline.is_some());
            self.confirm(&mut desk, now);
            self.save(&mut desk, now);
            self.show(&desk);
            if deadline.is_some_and(|deadline| desk.may_stop(deadline, head_seq, now)) {
                break;
            }
            let wake = desk.next_wake(now, deadline);
            let idle = head_open && desk.line.read_to() >= head_seq && desk.carry.is_empty();
            tokio::select! {
                Some(landed) = flights.next(), if !flights.is_empty() => self.landed(&mut desk, landed),
                filled = settled(&mut desk.filling) => {
                    desk.filling = None;
                    self.filled(&mut desk, filled);
                }
                confirmed = settled(&mut desk.confirming) => {
                    desk.confirming = None;
                    self.confirmed(&mut desk, confirmed);
                }
                saved = settled(&mut desk.saving) => {
                    desk.saving = None;
                    self.saved(&mut desk, saved);
                }
                changed = head.changed(), if idle => head_open = changed.is_ok(),
                () = self.reload.notified() => self.reload(&mut desk).await,
                changed = self.deadline.changed(), if deadline.is_none() => {
                    if changed.is_err() {
                        // Nobody is left who could wait for a grace.
                        break;
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
        // What flies is dropped: it is still pending, and sent again at the next start.
        drop(flights);
        self.last_save(desk).await;
    }

    fn runway(&self) -> Runway<D> {
        Runway {
            destination: Arc::clone(&self.destination),
            clock: Arc::clone(&self.clock),
            ledger: Arc::clone(&self.ledger),
            screen: self.screen.clone(),
            timeout: self.limits.timeout,
        }
    }

    fn desk(&self, head_seq: u64) -> Desk {
        let cursor = self.ledger.cursor();
        let mut line = Line::new(self.limits.clone(), &cursor, self.jitter.clone());
        line.resume_ahead(self.ahead.clone());
        if head_seq > cursor.position {
            line.resume_state(cursor.state, cursor.last_error.clone());
        }
        Desk {
            line,
            carry: Vec::new(),
            fresh: None,
            filling: None,
            fill_after: None,
            fill_failures: 0,
            drain_to: head_seq,
            linger_until: None,
            paced_until: None,
            confirming: None,
            confirm_after: None,
            noticed_ms: None,
            saving: None,
            save_after: None,
            unsaved: None,
            unkept: Vec::new(),
            reported: Some((cursor.state, cursor.last_error)),
            report_after: None,
            store_error: None,
            lost: false,
            logged: Logged::default(),
        }
    }

    /// Starts reading a batch where there is one to read, room for it, and no reason to wait for more.
    fn fill(&self, desk: &mut Desk, head_seq: u64, now: Instant, stopping: bool) {
        desk.fill_after = desk.fill_after.filter(|time| *time > now);
        desk.paced_until = desk.paced_until.filter(|time| *time > now);
        let bound = if desk.filling.is_none() && desk.carry.is_empty() { self.bound(desk) } else { None };
        let unread = head_seq > desk.line.read_to();
        if desk.filling.is_some() || (!unread && desk.carry.is_empty()) {
            return;
        }
        if stopping {
            desk.drain_to = head_seq;
        }
        let waiting = head_seq.saturating_sub(desk.line.read_to());
        let is_full = waiting >= u64::try_from(self.limits.batch_events_max).unwrap_or(u64::MAX);
        if desk.carry.is_empty() && desk.line.read_to() >= desk.drain_to && !is_full && bound.is_none() {
            let until = *desk.linger_until.get_or_insert_with(|| {
                desk.noticed_ms = Some(self.clock.now_ms());
                now + self.limits.linger
            });
            if until > now {
                return;
            }
            desk.drain_to = head_seq;
        }
        desk.linger_until = None;
        if desk.fill_after.is_some() || desk.paced_until.is_some() || !desk.line.may_fill(now) {
            return;
        }
        // A second's worth at most, or the rate would come in lumps.
        let rate =
            self.limits.rate.map_or(usize::MAX, |rate| usize::try_from(rate.get()).unwrap_or(usize::MAX));
        let wanted = Wanted {
            read_to: desk.line.read_to(),
            carry: std::mem::take(&mut desk.carry),
            events_max: desk.line.events_max().min(rate),
            bound,
        };
        desk.filling = Some(Box::pin(batch::fill(
            Arc::clone(&self.destination),
            Arc::clone(&self.outbox),
            Arc::clone(&self.clock),
            self.screen.clone(),
            self.limits.clone(),
            wanted,
        )));
    }

    /// Where the next batch has to end, if an earlier run left word of that.
    fn bound(&self, desk: &mut Desk) -> Option<(u64, bool)> {
        let read_to = desk.line.read_to();
        let bound = desk.line.next_bound();
        if desk.line.read_to() > read_to {
            desk.take_settled();
        }
        bound
    }

    /// Asks after the bodies that were received and are not safe yet, one question at a time.
    fn confirm(&self, desk: &mut Desk, now: Instant) {
        desk.confirm_after = desk.confirm_after.filter(|time| *time > now);
        if desk.confirming.is_some() || desk.confirm_after.is_some() {
            return;
        }
        self.log(desk, now, |line| line.expire(now));
        let asked = desk.line.unconfirmed();
        if asked.is_empty() {
            return;
        }
        let (destination, timeout) = (Arc::clone(&self.destination), self.limits.timeout);
        desk.confirming = Some(Box::pin(async move {
            let tokens = asked.iter().map(|(_, token)| token.clone()).collect();
            let answer = batch::confirm(&*destination, tokens, timeout).await;
            (asked, answer)
        }));
    }

    fn confirmed(&self, desk: &mut Desk, (asked, answer): Confirmed) {
        let now = Instant::now();
        desk.confirm_after = Some(now + self.destination.confirm_every());
        match answer {
            Ok(safe) => {
                for ((first, token), _) in asked.into_iter().zip(safe).filter(|(_, safe)| *safe) {
                    self.log(desk, now, |line| line.confirmed(first, &token, now));
                }
                desk.take_settled();
                // It is said once only: what the cursor cannot pass yet is kept by itself.
                desk.unkept.append(&mut desk.line.take_unkept());
            }
            Err(why) => self.log(desk, now, |line| line.confirm_failed(why)),
        }
    }

    fn log(&self, desk: &mut Desk, now: Instant, change: impl FnOnce(&mut Line) -> Vec<Change>) {
        for change in change(&mut desk.line) {
            desk.logged.log(self.ledger.id(), &change, desk.line.last_error(), now);
        }
    }

    fn filled(&self, desk: &mut Desk, filled: FillResult) {
        let now = Instant::now();
        match filled {
            Ok(None) => desk.fill_after = Some(now + STORE_WAIT),
            Ok(Some(Filled { batch, encoded, carry })) => {
                desk.fill_failures = 0;
                desk.carry = carry;
                desk.store_error = None;
                desk.lost = false;
                self.pace(desk, batch.events.len(), now);
                desk.fresh = encoded.map(|encoded| (batch.first, encoded));
                desk.line.enter(batch, now);
            }
            Err((error, carry)) => {
                desk.carry = carry;
                desk.fill_failures = desk.fill_failures.saturating_add(1);
                desk.fill_after = Some(now + if error.is_loss() { BACKOFF_MAX } else { STORE_WAIT });
                if desk.fill_failures == 1 {
                    tracing::error!(destination = self.ledger.id(), %error, "cannot read the audit log");
                }
                desk.lost = error.is_loss();
                desk.store_error = Some(error.to_string());
            }
        }
    }

    /// Waits before the next batch for as long as this one takes at the destination's rate.
    fn pace(&self, desk: &mut Desk, events: usize, now: Instant) {
        let Some(rate) = self.limits.rate else { return };
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let takes = Duration::from_secs(u64::from(events)) / rate.get();
        desk.paced_until = Some(desk.paced_until.map_or(now, |until| until.max(now)) + takes);
    }

    fn landed(&self, desk: &mut Desk, landed: Landed) {
        let now = Instant::now();
        let Landed { batch, over, outcome, bytes } = landed;
        if let Some((sent, uncompressed)) = bytes {
            self.ledger.count_request(batch.attempts > 1, sent, uncompressed);
        }
        if let Some(over) = over {
            desk.line.put_back(over, now);
        }
        if matches!(outcome, Some(SendOutcome::Received(_))) && desk.confirming.is_none() {
            desk.confirm_after.get_or_insert(now + self.destination.confirm_every());
        }
        self.log(desk, now, |line| match outcome {
            Some(outcome) => line.landed(batch, outcome, now),
            None => line.retired(batch),
        });
        desk.take_settled();
    }

    /// Starts the next write to the store, if there is something to write.
    fn save(&self, desk: &mut Desk, now: Instant) {
        desk.save_after = desk.save_after.filter(|time| *time > now);
        if desk.saving.is_some() || desk.save_after.is_some() {
            return;
        }
        if !desk.unkept.is_empty() {
            let (batches, ledger) = (std::mem::take(&mut desk.unkept), Arc::clone(&self.ledger));
            desk.saving = Some(Box::pin(async move {
                Saved::Ahead { result: ledger.keep_ahead(batches.clone()).await, batches }
            }));
            return;
        }
        if let Some(advance) = &desk.unsaved {
            let (advance, ledger) = (advance.clone(), Arc::clone(&self.ledger));
            desk.saving = Some(Box::pin(async move {
                Saved::Cursor { position: advance.position, result: ledger.advance(advance).await }
            }));
            return;
        }
        let current = desk.state();
        let same_state = desk.reported.as_ref().is_some_and(|(state, _)| *state == current.0);
        desk.report_after = desk.report_after.filter(|time| *time > now);
        if desk.reported.as_ref() == Some(&current) || same_state && desk.report_after.is_some() {
            return;
        }
        desk.report_after = Some(now + REPORT_EVERY);
        desk.reported = Some(current.clone());
        let ledger = Arc::clone(&self.ledger);
        desk.saving =
            Some(Box::pin(
                async move { Saved::Report { result: ledger.report(current.0, current.1).await } },
            ));
    }

    fn saved(&self, desk: &mut Desk, saved: Saved) {
        let now = Instant::now();
        match saved {
            Saved::Cursor { position, result: Ok(()) } => {
                desk.store_error = None;
                if let Some(unsaved) = &mut desk.unsaved {
                    unsaved.dead.retain(|letter| letter.seq > position);
                    if unsaved.position <= position {
                        desk.unsaved = None;
                    }
                }
            }
            Saved::Ahead { result: Ok(()), .. } => desk.store_error = None,
            Saved::Ahead { batches, result: Err(error) } => {
                desk.unkept.extend(batches);
                desk.store_error = Some(format!("an acknowledged batch could not be noted down: {error}"));
                desk.save_after = Some(now + STORE_WAIT);
            }
            Saved::Cursor { result: Err(error), .. } => {
                if desk.store_error.is_none() {
                    tracing::error!(destination = self.ledger.id(), %error, "cannot move the cursor");
                }
                desk.store_error = Some(format!("the cursor could not be moved: {error}"));
                desk.save_after = Some(now + STORE_WAIT);
            }
            Saved::Report { result: Ok(()) } => {}
            Saved::Report { result: Err(error) } => {
                tracing::debug!(destination = self.ledger.id(), %error, "cannot keep the destination's state");
                desk.reported = None;
                desk.save_after = Some(now + STORE_WAIT);
            }
        }
    }

    async fn reload(&self, desk: &mut Desk) {
        match batch::reload(&*self.destination).await {
            Ok(()) => desk.line.probe_now(Instant::now()),
            Err(error) => {
                tracing::error!(
                    destination = self.ledger.id(),
                    error,
                    "cannot read the secret anew, the old one stays"
                );
            }
        }
    }

    fn show(&self, desk: &Desk) {
        let (state, last_error) = desk.state();
        let oldest_ms = desk.line.oldest_ms().or(desk.noticed_ms);
        self.ledger.show(Shown { state, last_error, oldest_ms });
    }

    async fn last_save(&self, desk: Desk) {
        let Desk { saving, unsaved, unkept, .. } = desk;
        let save = async {
            let before = match saving {
                Some(saving) => Some(saving.await),
                None => None,
            };
            if !unkept.is_empty()
                && let Err(error) = self.ledger.keep_ahead(unkept).await
            {
                tracing::error!(destination = self.ledger.id(), %error, "cannot note down acknowledged batches");
            }
            let Some(mut advance) = unsaved else { return };
            if let Some(Saved::Cursor { position: saved, result: Ok(()) }) = before {
                advance.dead.retain(|letter| letter.seq > saved);
                if advance.position <= saved {
                    return;
                }
            }
            if let Err(error) = self.ledger.advance(advance).await {
                tracing::error!(destination = self.ledger.id(), %error, "cannot move the cursor: some events will be sent again");
            }
        };
        if tokio::time::timeout(LAST_SAVE, save).await.is_err() {
            tracing::error!(
                destination = self.ledger.id(),
                "no time to move the cursor: some events will be sent again"
            );
        }
    }
}

impl Desk {
    /// Takes over what the cursor may pass now.
    fn take_settled(&mut self) {
        let Some(mut advance) = self.line.take_settled() else { return };
        if let Some(mut before) = self.unsaved.take() {
            before.dead.append(&mut advance.dead);
            advance.dead = before.dead;
        }
        self.unsaved = Some(advance);
    }

    /// State and error as shown: a store that fails is no better than a destination that fails.
    fn state(&self) -> (DeliveryState, Option<String>) {
        let (state, error) = (self.line.state(), self.line.last_error());
        match (&self.store_error, state) {
            (Some(store), _) if self.lost => (DeliveryState::Held, Some(store.clone())),
            (Some(store), DeliveryState::Running) => (DeliveryState::Retrying, Some(store.clone())),
            (Some(store), _) if error.is_none() => (state, Some(store.clone())),
            _ => (state, error.map(str::to_owned)),
        }
    }

    fn may_stop(&self, deadline: Instant, head_seq: u64, now: Instant) -> bool {
        let nothing_left = self.line.is_empty()
            && self.carry.is_empty()
            && self.filling.is_none()
            && self.unsaved.is_none()
            && self.line.read_to() >= head_seq;
        // Nobody mends a key within the grace: what is held is sent at the next start.
        let held = self.line.is_held() && self.line.flying() == 0;
        nothing_left || held || deadline <= now
    }

    /// When something is due that only time brings.
    fn next_wake(&self, now: Instant, deadline: Option<Instant>) -> Option<Instant> {
        // INVARIANT: no time that is over stands here once the loop has looked at it, or the loop would spin.
        let store = match self.save_after {
            _ if self.saving.is_some() => None,
            None if self.reported.as_ref() != Some(&self.state()) => self.report_after,
            save_after => save_after,
        };
        let (paced, confirm) = (self.paced_until, self.confirm_after);
        let wake =
            [self.line.next_wake(), self.linger_until, store, self.fill_after, paced, confirm, deadline];
        let wake = wake.into_iter().flatten().min();
        debug_assert!(wake.is_none_or(|time| time > now), "the worker would spin");
        wake
    }
}

/// Keeps the log readable while a destination flaps.
#[derive(Default)]
struct Logged {
    failing_at: Option<Instant>,
    dead_at: Option<Instant>,
    /// The last trouble was logged, so its end is too.
    open: bool,
}

impl Logged {
    fn log(&mut self, destination: &str, change: &Change, reason: Option<&str>, now: Instant) {
        let reason = reason.unwrap_or("unknown");
        match change {
            Change::Held => {
                self.open = true;
                tracing::error!(
                    destination,
                    reason,
                    "destination held: nothing is lost, nothing is sent until this is mended; it is probed every 5 s"
                );
            }
            Change::Failing if is_due(&mut self.failing_at, now) => {
                self.open = true;
                tracing::warn!(
                    destination,
                    reason,
                    "destination failing: it is tried again until it answers"
                );
            }
            Change::Recovered { .. } if self.open => {
                self.open = false;
                tracing::info!(destination, "destination takes events again");
            }
            Change::Dead { seq } if is_due(&mut self.dead_at, now) => {
                tracing::error!(
                    destination,
                    seq,
                    "the destination rejects an event: it is kept as a dead letter (said at most once a minute)"
                );
            }
            Change::Failing | Change::Recovered { .. } | Change::Dead { .. } => {}
        }
    }
}

fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    if last.is_some_and(|time| now.duration_since(time) < LOG_EVERY) {
        return false;
    }
    *last = Some(now);
    true
}

/// Resolves with the future, if there is one; else never.
async fn settled<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
