//! The line of batches between log and destination, as a state machine without I/O: which batch may start now, what an
//! outcome means for it and for the others, and how far the cursor may move.
//!
//! INVARIANT: every seq from `position + 1` to `read_to` is in exactly one slot or one settled range.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{Jitter, PROBE_EVERY, RETRY_AFTER_MAX};
use super::destination::{Limits, SendOutcome};
use crate::outbox::{DeadLetter, DeliveryState, StoredEvent};

/// So many rejected single events in a row are dead-lettered; one more, and the destination is held: then it is the
/// destination (or something before it) that is wrong, not the events.
pub(super) const POISON_RUN_MAX: u32 = 20;
/// Delivery runs at most so many batches ahead of the cursor. It bounds memory (dead letters waiting for the cursor) and
/// the duplicates after a crash while one batch does not get through.
const AHEAD_BATCHES_MAX: u64 = 16;

/// Consecutive events on their way.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Its first seq.
    pub(super) first: u64,
    /// Its last seq.
    pub(super) last: u64,
    /// Its events, but for those in `dead`.
    pub(super) events: Vec<StoredEvent>,
    /// Events of the range that cannot be sent.
    pub(super) dead: Vec<DeadLetter>,
    /// Tries so far.
    pub(super) attempts: u32,
    /// When its first event was complete, epoch milliseconds.
    pub(super) since_ms: Option<i64>,
}

impl Batch {
    /// Splits behind the first `count` events; the second half is `None` where it would be empty.
    pub(super) fn split(mut self, count: usize) -> (Self, Option<Self>) {
        let count = count.clamp(1, self.events.len().max(1));
        let Some(border) = self.events.get(count).map(|event| event.seq) else { return (self, None) };
        let events = self.events.split_off(count);
        let (dead, rest_dead) = self.dead.into_iter().partition(|letter| letter.seq < border);
        let since_ms = self.since_ms;
        let rest = Self {
            first: border,
            last: self.last,
            events,
            dead: rest_dead,
            attempts: self.attempts,
            since_ms,
        };
        let first = Self {
            first: self.first,
            last: border - 1,
            events: self.events,
            dead,
            attempts: self.attempts,
            since_ms,
        };
        (first, Some(rest))
    }

    fn retire(mut self, reason: &str) -> Settled {
        let letters = self.events.drain(..).map(|event| DeadLetter {
            seq: event.seq,
            reason: reason.to_owned(),
            text: event.text,
        });
        self.dead.extend(letters);
        self.dead.sort_by_key(|letter| letter.seq);
        Settled { last: self.last, dead: self.dead }
    }
}

#[derive(Debug)]
enum Slot {
    Waiting { due: Instant, batch: Batch },
    Flying { since_ms: Option<i64> },
}

#[derive(Debug)]
struct Settled {
    last: u64,
    dead: Vec<DeadLetter>,
}

/// Why nothing but probes is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Held { probe_at: Instant },
}

/// What an outcome changed, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The destination takes events again.
    Recovered { was: DeliveryState },
    /// Tries fail in a passing way, since now.
    Failing,
    /// Held, since now.
    Held,
    /// An event went to the dead letters.
    Dead { seq: u64 },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    limits: Limits,
    slots: BTreeMap<u64, Slot>,
    settled: BTreeMap<u64, Settled>,
    /// Up to here everything is settled and taken over by the cursor's writer.
    position: u64,
    /// Up to here events were read.
    read_to: u64,
    flying: usize,
    gate: Gate,
    /// Nothing starts before (a `Retry-After`).
    not_before: Option<Instant>,
    poison_run: u32,
    /// Most events that a batch may have: halves on a 413, grows again with success.
    events_max: usize,
    state: DeliveryState,
    last_error: Option<String>,
    jitter: Jitter,
}

impl Line {
    pub(super) fn new(limits: Limits, position: u64, jitter: Jitter) -> Self {
        let events_max = limits.batch_events_max;
        Self {
            limits,
            slots: BTreeMap::new(),
            settled: BTreeMap::new(),
            position,
            read_to: position,
            flying: 0,
            gate: Gate::Open,
            not_before: None,
            poison_run: 0,
            events_max,
            state: DeliveryState::Running,
            last_error: None,
            jitter,
        }
    }

    /// Takes over what the store remembers of the last run; the first outcome corrects it.
    pub(super) fn resume_state(&mut self, state: DeliveryState, last_error: Option<String>) {
        self.state = state;
        self.last_error = last_error;
    }

    pub(super) fn state(&self) -> DeliveryState {
        self.state
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(super) fn read_to(&self) -> u64 {
        self.read_to
    }

    pub(super) fn events_max(&self) -> usize {
        self.events_max
    }

    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    /// Nothing is on its way, nothing waits for the cursor.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.settled.is_empty()
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.gate, Gate::Held { .. })
    }

    /// When the oldest event on its way was complete.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        match self.slots.first_key_value()?.1 {
            Slot::Waiting { batch, .. } => batch.since_ms,
            Slot::Flying { since_ms } => *since_ms,
        }
    }

    /// Whether a further batch may be read and started.
    pub(super) fn may_fill(&self, now: Instant) -> bool {
        let ahead_max = to_u64(self.limits.batch_events_max).saturating_mul(AHEAD_BATCHES_MAX);
        self.gate == Gate::Open
            && self.not_before.is_none_or(|time| time <= now)
            && self.slots.len() < self.limits.concurrency
            && self.read_to - self.position < ahead_max
    }

    /// Enters a batch that was just read, right behind `read_to`; it is due at once.
    pub(super) fn enter(&mut self, batch: Batch, now: Instant) {
        debug_assert_eq!(batch.first, self.read_to + 1);
        self.read_to = self.read_to.max(batch.last);
        self.slots.insert(batch.first, Slot::Waiting { due: now, batch });
    }

    /// The next batch to send, now marked as flying, and whether it is a probe of a held destination.
    pub(super) fn start(&mut self, now: Instant) -> Option<(Batch, bool)> {
        if self.not_before.is_some_and(|time| time <= now) {
            self.not_before = None;
        }
        let probe = match self.gate {
            Gate::Open if self.flying >= self.limits.concurrency => return None,
            Gate::Open => false,
            Gate::Held { probe_at } if self.flying > 0 || probe_at > now => return None,
            Gate::Held { .. } => true,
        };
        if self.not_before.is_some() {
            return None;
        }
        let first = self.slots.iter().find_map(|(first, slot)| match slot {
            Slot::Waiting { due, .. } if probe || *due <= now => Some(*first),
            _ => None,
        })?;
        let slot = self.slots.get_mut(&first)?;
        let Slot::Waiting { batch, .. } = slot else { return None };
        let flying = Slot::Flying { since_ms: batch.since_ms };
        let Slot::Waiting { mut batch, .. } = std::mem::replace(slot, flying) else { return None };
        self.flying += 1;
        batch.attempts = batch.attempts.saturating_add(1);
        Some((batch, probe))
    }

    /// When [`Line::start`] may next have something, if only time is needed.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let due = match self.gate {
            Gate::Held { .. } if self.flying > 0 => return None,
            Gate::Open if self.flying >= self.limits.concurrency => return None,
            Gate::Held { probe_at } => (!self.slots.is_empty()).then_some(probe_at)?,
            Gate::Open => self
                .slots
                .values()
                .filter_map(|slot| match slot {
                    Slot::Waiting { due, .. } => Some(*due),
                    Slot::Flying { .. } => None,
                })
                .min()
                .or(self.not_before)?,
        };
        Some(self.not_before.map_or(due, |time| due.max(time)))
    }

    /// Lets a held destination be probed, and waits be over, at once (its secrets were read anew).
    pub(super) fn probe_now(&mut self, now: Instant) {
        if let Gate::Held { probe_at } = &mut self.gate {
            *probe_at = now;
            self.not_before = None;
        }
    }

    /// Puts back a part of a batch that no request was made for; `first` is the flying batch it was split from or equal to.
    pub(super) fn put_back(&mut self, batch: Batch, now: Instant) {
        self.slots.insert(batch.first, Slot::Waiting { due: now, batch });
    }

    /// Enters what became of a flying batch.
    pub(super) fn landed(&mut self, batch: Batch, outcome: SendOutcome, now: Instant) -> Vec<Change> {
        self.flying = self.flying.saturating_sub(1);
        self.slots.remove(&batch.first);
        let mut changes = Vec::new();
        match outcome {
            SendOutcome::Delivered => self.delivered(batch, now, &mut changes),
            SendOutcome::Retry { after, why } => self.failed(batch, after, why, now, &mut changes),
            SendOutcome::TooLarge { why } if batch.events.len() > 1 => {
                let half = batch.events.len().div_ceil(2);
                self.events_max = self.events_max.min(half).max(1);
                self.halve(batch, half, why, now);
            }
            // It is below the destination's limit already, so the answer is a mistake on the way: it may pass.
            SendOutcome::TooLarge { why } => {
                self.failed(
                    batch,
                    None,
                    format!("{why}, though it is a single event below the limit"),
                    now,
                    &mut changes,
                );
            }
            SendOutcome::Rejected { why } if batch.events.len() > 1 => {
                let half = batch.events.len().div_ceil(2);
                self.halve(batch, half, why, now);
            }
            SendOutcome::Rejected { why } if self.poison_run >= POISON_RUN_MAX => {
                let why = format!(
                    "{why}; {POISON_RUN_MAX} single events in a row were rejected and dead-lettered, so the fault is \
                     with the destination and no more are given up: check its `endpoint`"
                );
                self.held(batch, why, now, &mut changes);
            }
            SendOutcome::Rejected { why } => {
                self.poison_run += 1;
                // It judges what it is sent again, so it is neither down nor closed to us.
                self.open(now, &mut changes);
                changes.extend(batch.events.iter().map(|event| Change::Dead { seq: event.seq }));
                self.settled.insert(batch.first, batch.retire(&why));
            }
            SendOutcome::Hold { why } => self.held(batch, why, now, &mut changes),
        }
        changes
    }

    /// A batch of which nothing is left to send.
    pub(super) fn retired(&mut self, batch: Batch) -> Vec<Change> {
        self.flying = self.flying.saturating_sub(1);
        self.slots.remove(&batch.first);
        let changes = batch.dead.iter().map(|letter| Change::Dead { seq: letter.seq }).collect();
        self.settled.insert(batch.first, batch.retire(""));
        if self.slots.is_empty() {
            // Nothing is left to probe with: what comes next will tell.
            self.gate = Gate::Open;
        }
        changes
    }

    /// Everything settled right behind the position: the cursor's new position and the dead letters on the way. The line
    /// forgets them; the caller makes them durable.
    pub(super) fn take_settled(&mut self) -> Option<(u64, Vec<DeadLetter>)> {
        let mut dead = Vec::new();
        let before = self.position;
        while let Some(settled) = self.settled.remove(&(self.position + 1)) {
            self.position = settled.last;
            dead.extend(settled.dead);
        }
        (self.position > before).then_some((self.position, dead))
    }

    fn delivered(&mut self, batch: Batch, now: Instant, changes: &mut Vec<Change>) {
        self.poison_run = 0;
        self.not_before = None;
        if self.events_max < self.limits.batch_events_max {
            self.events_max =
                (self.events_max + self.events_max.div_ceil(8)).min(self.limits.batch_events_max);
        }
        self.open(now, changes);
        changes.extend(batch.dead.iter().map(|letter| Change::Dead { seq: letter.seq }));
        self.settled.insert(batch.first, Settled { last: batch.last, dead: batch.dead });
    }

    /// The destination answers as it should.
    fn open(&mut self, now: Instant, changes: &mut Vec<Change>) {
        if self.gate != Gate::Open {
            self.gate = Gate::Open;
            for slot in self.slots.values_mut() {
                if let Slot::Waiting { due, .. } = slot {
                    *due = now;
                }
            }
        }
        if self.state != DeliveryState::Running {
            changes.push(Change::Recovered { was: self.state });
            self.state = DeliveryState::Running;
        }
        self.last_error = None;
    }

    fn failed(
        &mut self,
        batch: Batch,
        after: Option<Duration>,
        why: String,
        now: Instant,
        changes: &mut Vec<Change>,
    ) {
        let wait = self.jitter.wait(batch.attempts, after);
        if after.is_some_and(|after| !after.is_zero()) {
            // What the destination asks for holds for all of its batches.
            let until = now + wait.min(RETRY_AFTER_MAX);
            self.not_before = Some(self.not_before.map_or(until, |time| time.max(until)));
        }
        if let Gate::Held { probe_at } = &mut self.gate {
            *probe_at = now + PROBE_EVERY;
        } else if self.state != DeliveryState::Retrying {
            self.state = DeliveryState::Retrying;
            changes.push(Change::Failing);
        }
        self.last_error = Some(why);
        self.slots.insert(batch.first, Slot::Waiting { due: now + wait, batch });
    }

    fn held(&mut self, batch: Batch, why: String, now: Instant, changes: &mut Vec<Change>) {
        if self.gate == Gate::Open {
            changes.push(Change::Held);
        }
        self.gate = Gate::Held { probe_at: now + PROBE_EVERY };
        self.state = DeliveryState::Held;
        self.last_error = Some(why);
        self.slots.insert(batch.first, Slot::Waiting { due: now, batch });
    }

    fn halve(&mut self, batch: Batch, half: usize, why: String, now: Instant) {
        if let Gate::Held { probe_at } = &mut self.gate {
            *probe_at = now + PROBE_EVERY;
        }
        if self.state != DeliveryState::Running {
            self.last_error = Some(why);
        }
        let (first, rest) = batch.split(half);
        for mut part in std::iter::once(first).chain(rest) {
            part.attempts = 0;
            self.slots.insert(part.first, Slot::Waiting { due: now, batch: part });
        }
    }
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
