//! The line of batches between log and destination, as a state machine without I/O: which batch may start now, what an
//! outcome means for it and for the others, and how far the cursor may move.
//!
//! INVARIANT: every seq from `position + 1` to `read_to` is in exactly one slot or one settled range.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{Jitter, PROBE_EVERY, RETRY_AFTER_MAX};
use super::batch::Batch;
use super::destination::{Limits, Partial, Receipt, SendOutcome, Then};
use crate::outbox::{Advance, Ahead, Cursor, DeadLetter, DeliveryState};

/// So many rejected single events in a row are dead-lettered; one more, and the destination is held: then it is the
/// destination (or something before it) that is wrong, not the events.
pub(super) const POISON_RUN_MAX: u32 = 20;
/// Delivery runs at most so many batches ahead of the cursor. It bounds memory (dead letters waiting for the cursor) and
/// the duplicates after a crash while one batch does not get through.
const AHEAD_BATCHES_MAX: u64 = 16;

#[derive(Debug)]
enum Slot {
    Waiting {
        due: Instant,
        batch: Batch,
    },
    Flying {
        since_ms: Option<i64>,
    },
    /// Received, and not safe yet.
    Unconfirmed {
        batch: Batch,
        token: String,
        until: Instant,
    },
}

#[derive(Debug)]
struct Settled {
    last: u64,
    dead: Vec<DeadLetter>,
    skipped: u64,
    /// The destination said only once that it is safe, and the store does not know yet.
    unkept: bool,
}

impl Settled {
    /// A batch of which nothing is left to send.
    fn of(batch: Batch) -> Self {
        let skipped = to_u64(batch.skipped.len());
        Self { last: batch.last, dead: batch.dead, skipped, unkept: false }
    }

    /// A batch that is given up.
    fn retired(mut batch: Batch, reason: &str) -> Self {
        let letters = batch.events.drain(..).map(|event| DeadLetter {
            seq: event.seq,
            reason: reason.to_owned(),
            text: event.text,
        });
        batch.dead.extend(letters);
        batch.dead.sort_by_key(|letter| letter.seq);
        Self::of(batch)
    }
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
    /// Events up to the position that were skipped.
    skipped: u64,
    /// Up to here events were read.
    read_to: u64,
    /// What an earlier run kept of batches past the cursor.
    kept: BTreeMap<u64, Ahead>,
    flying: usize,
    unconfirmed: usize,
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
    pub(super) fn new(limits: Limits, cursor: &Cursor, jitter: Jitter) -> Self {
        let events_max = limits.batch_events_max;
        Self {
            limits,
            slots: BTreeMap::new(),
            settled: BTreeMap::new(),
            position: cursor.position,
            skipped: cursor.skipped,
            read_to: cursor.position,
            kept: BTreeMap::new(),
            flying: 0,
            unconfirmed: 0,
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

    /// Takes over what the store kept of batches past the cursor.
    pub(super) fn resume_ahead(&mut self, kept: Vec<Ahead>) {
        let kept = kept.into_iter().filter(|ahead| ahead.first > self.position && ahead.first <= ahead.last);
        self.kept = kept.map(|ahead| (ahead.first, ahead)).collect();
    }

    /// Passes over what the destination is known to have; where the next batch has to end, if that is known: at the seq
    /// itself where the flag is set, else there at the latest.
    pub(super) fn next_bound(&mut self) -> Option<(u64, bool)> {
        while let Some((first, ahead)) = self.kept.pop_first() {
            if first <= self.read_to {
                continue;
            }
            if first > self.read_to + 1 || !ahead.settled {
                let bound = if first > self.read_to + 1 { (first - 1, false) } else { (ahead.last, true) };
                self.kept.insert(first, ahead);
                return Some(bound);
            }
            let (dead, skipped) = (Vec::new(), ahead.skipped);
            self.settled.insert(first, Settled { last: ahead.last, dead, skipped, unkept: false });
            self.read_to = ahead.last;
        }
        None
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
            Slot::Waiting { batch, .. } | Slot::Unconfirmed { batch, .. } => batch.since_ms,
            Slot::Flying { since_ms } => *since_ms,
        }
    }

    /// Whether a further batch may be read and started.
    pub(super) fn may_fill(&self, now: Instant) -> bool {
        let batches = AHEAD_BATCHES_MAX.max(2 * to_u64(self.limits.concurrency));
        let ahead_max = to_u64(self.limits.batch_events_max).saturating_mul(batches);
        self.gate == Gate::Open
            && self.not_before.is_none_or(|time| time <= now)
            && self.slots.len() - self.unconfirmed < self.limits.concurrency
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
            Gate::Held { probe_at } => self.first_due().map(|_| probe_at)?,
            Gate::Open => self.first_due().or(self.not_before)?,
        };
        Some(self.not_before.map_or(due, |time| due.max(time)))
    }

    fn first_due(&self) -> Option<Instant> {
        let due = self.slots.values().filter_map(|slot| match slot {
            Slot::Waiting { due, .. } => Some(*due),
            Slot::Flying { .. } | Slot::Unconfirmed { .. } => None,
        });
        due.min()
    }

    /// Bodies that were received and are not safe yet: the first seq and the destination's name of each.
    pub(super) fn unconfirmed(&self) -> Vec<(u64, String)> {
        if self.unconfirmed == 0 {
            return Vec::new();
        }
        let tokens = self.slots.iter().filter_map(|(first, slot)| match slot {
            Slot::Unconfirmed { token, .. } => Some((*first, token.clone())),
            Slot::Waiting { .. } | Slot::Flying { .. } => None,
        });
        tokens.collect()
    }

    /// A body that was received is safe.
    pub(super) fn confirmed(&mut self, first: u64, token: &str, now: Instant) -> Vec<Change> {
        match self.slots.get(&first) {
            // Anything else was said of a body that has been given up since.
            Some(Slot::Unconfirmed { token: waiting, .. }) if waiting == token => {}
            _ => return Vec::new(),
        }
        let Some(Slot::Unconfirmed { batch, .. }) = self.slots.remove(&first) else { return Vec::new() };
        self.unconfirmed -= 1;
        let mut changes = Vec::new();
        if self.gate == Gate::Open {
            self.open(now, &mut changes);
        } else if self.slots.is_empty() {
            self.gate = Gate::Open;
        }
        changes.extend(batch.dead.iter().map(|letter| Change::Dead { seq: letter.seq }));
        let mut settled = Settled::of(batch);
        // Dead letters are kept with the cursor only: such a batch is rather sent again after a crash.
        settled.unkept = settled.dead.is_empty();
        self.settled.insert(first, settled);
        changes
    }

    /// Nothing could be learnt of the bodies that were received.
    pub(super) fn confirm_failed(&mut self, why: String) -> Vec<Change> {
        self.last_error = Some(why);
        if self.state != DeliveryState::Running {
            return Vec::new();
        }
        self.state = DeliveryState::Retrying;
        vec![Change::Failing]
    }

    /// Gives up on bodies that were received long ago and did not become safe: they are sent again.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.unconfirmed == 0 {
            return changes;
        }
        let late = self.slots.iter().filter_map(|(first, slot)| match slot {
            Slot::Unconfirmed { until, .. } if *until <= now => Some(*first),
            _ => None,
        });
        for first in late.collect::<Vec<_>>() {
            let Some(Slot::Unconfirmed { batch, .. }) = self.slots.remove(&first) else { continue };
            self.unconfirmed -= 1;
            let why = "a body was received but not acknowledged in time: it is sent again".to_owned();
            self.failed(batch, None, why, now, &mut changes);
        }
        changes
    }

    /// Batches that became safe ahead of the cursor and that the store does not know of; each is told once.
    pub(super) fn take_unkept(&mut self) -> Vec<Ahead> {
        let unkept = self.settled.iter_mut().filter(|(_, settled)| settled.unkept);
        unkept
            .map(|(first, settled)| {
                settled.unkept = false;
                Ahead { first: *first, last: settled.last, settled: true, skipped: settled.skipped }
            })
            .collect()
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
            SendOutcome::Received(Receipt { token, within }) => {
                self.accepts(now, &mut changes);
                self.unconfirmed += 1;
                let until = now + within;
                self.slots.insert(batch.first, Slot::Unconfirmed { batch, token, until });
            }
            SendOutcome::Partial(partial) => self.partial(batch, partial, now, &mut changes),
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
                self.held(batch, too_many_rejected(&why), now, &mut changes);
            }
            SendOutcome::Rejected { why } => {
                self.poison_run += 1;
                // It judges what it is sent again, so it is neither down nor closed to us.
                self.open(now, &mut changes);
                changes.extend(batch.events.iter().map(|event| Change::Dead { seq: event.seq }));
                self.settled.insert(batch.first, Settled::retired(batch, &why));
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
        self.settled.insert(batch.first, Settled::retired(batch, ""));
        if self.slots.is_empty() {
            // Nothing is left to probe with: what comes next will tell.
            self.gate = Gate::Open;
        }
        changes
    }

    /// Everything settled right behind the position: the cursor's new position and the dead letters on the way. The line
    /// forgets them; the caller makes them durable.
    pub(super) fn take_settled(&mut self) -> Option<Advance> {
        let mut dead = Vec::new();
        let before = self.position;
        while let Some(settled) = self.settled.remove(&(self.position + 1)) {
            self.position = settled.last;
            self.skipped += settled.skipped;
            dead.extend(settled.dead);
        }
        let advance = Advance { position: self.position, skipped: self.skipped, dead };
        (self.position > before).then_some(advance)
    }

    fn delivered(&mut self, batch: Batch, now: Instant, changes: &mut Vec<Change>) {
        self.accepts(now, changes);
        changes.extend(batch.dead.iter().map(|letter| Change::Dead { seq: letter.seq }));
        self.settled.insert(batch.first, Settled::of(batch));
    }

    /// The destination took the whole of a body.
    fn accepts(&mut self, now: Instant, changes: &mut Vec<Change>) {
        self.poison_run = 0;
        self.not_before = None;
        if self.events_max < self.limits.batch_events_max {
            self.events_max =
                (self.events_max + self.events_max.div_ceil(8)).min(self.limits.batch_events_max);
        }
        self.open(now, changes);
    }

    /// The destination judged each event by itself.
    fn partial(&mut self, mut batch: Batch, partial: Partial, now: Instant, changes: &mut Vec<Change>) {
        let Partial { mut again, dead, then, mut why } = partial;
        let mut given_up = Vec::new();
        let mut dead: BTreeMap<u64, String> = dead.into_iter().collect();
        let mut held = then == Then::Hold;
        for event in &batch.events {
            match dead.remove(&event.seq) {
                Some(reason) if self.poison_run >= POISON_RUN_MAX => {
                    held = true;
                    why = too_many_rejected(&reason);
                    again.push(event.seq);
                }
                Some(reason) => {
                    self.poison_run += 1;
                    changes.push(Change::Dead { seq: event.seq });
                    given_up.push((event.seq, reason));
                }
                None if again.contains(&event.seq) => {}
                None => self.poison_run = 0,
            }
        }
        let before = batch.events.len();
        batch.settle(&again, &given_up);
        if batch.events.is_empty() {
            self.open(now, changes);
            self.settled.insert(batch.first, Settled::of(batch));
            return;
        }
        let got_on = batch.events.len() < before;
        if got_on {
            // What is left is as good as new.
            batch.attempts = 1;
        }
        match then {
            Then::Retry(after) if !held => {
                if got_on {
                    self.open(now, changes);
                }
                self.failed(batch, after, why, now, changes);
            }
            Then::Retry(_) | Then::Hold => self.held(batch, why, now, changes),
        }
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

fn too_many_rejected(why: &str) -> String {
    format!(
        "{why}; {POISON_RUN_MAX} single events in a row were rejected and dead-lettered, so the fault is with the \
         destination and no more are given up: check its `endpoint`"
    )
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
