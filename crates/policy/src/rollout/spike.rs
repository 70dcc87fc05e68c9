//! When a candidate's decisions are a spike: a ring of buckets over the window, each with the decisions that candidate
//! and stable came to on the same requests. Times are durations since an origin of the caller's choosing, by a clock
//! that never goes back.

use std::time::Duration;

use crate::document::Rollout;
use crate::verdict::Decision;

/// Buckets in the ring: the window moves on in steps of a sixtieth.
const BUCKETS: u64 = 60;

/// Kinds of decisions.
const KINDS: usize = 5;

/// When a candidate is taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct SpikeRule {
    /// Whether a spike is looked for at all.
    pub is_on: bool,
    /// The share of severe decisions, 0 to 1, from which on it is one.
    pub threshold: f64,
    /// Requests below which nothing is concluded; at least 1.
    pub requests_min: u64,
    /// Length of the window.
    pub window: Duration,
    /// The decisions that are severe.
    pub decisions: Vec<Decision>,
}

impl SpikeRule {
    /// As the document says.
    pub fn of(rollout: &Rollout) -> Self {
        Self {
            is_on: rollout.rollback_on_spike,
            threshold: rollout.rollback_threshold,
            requests_min: rollout.rollback_min_requests.max(1),
            window: Duration::from_secs(rollout.rollback_window_minutes.max(1).saturating_mul(60)),
            decisions: {
                // Listed twice is not counted twice.
                let mut decisions = rollout.rollback_decisions.clone();
                decisions.sort_unstable();
                decisions.dedup();
                decisions
            },
        }
    }
}

/// Requests of a window, and on how many of them each revision came to a severe decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All requests.
    pub requests: u64,
    /// Those on which the candidate was severe.
    pub candidate: u64,
    /// Those on which stable was.
    pub stable: u64,
}

impl Tally {
    /// The candidate's share of severe decisions, 0 to 1.
    pub fn rate(&self) -> f64 {
        share(self.candidate, self.requests)
    }

    /// Stable's.
    pub fn stable_rate(&self) -> f64 {
        share(self.stable, self.requests)
    }

    /// Whether this is a spike: enough requests, the threshold reached, and more than stable on the same requests.
    pub fn is_spike(&self, rule: &SpikeRule) -> bool {
        rule.is_on
            && self.requests >= rule.requests_min
            && self.candidate > self.stable
            && self.rate() >= rule.threshold
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests in a window are far below 2^53")]
fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which step of time it counts; a slot of another step is empty.
    step: u64,
    candidate: [u32; KINDS],
    stable: [u32; KINDS],
}

/// The window: what candidate and stable decided, up to its length ago.
#[derive(Clone, Debug)]
pub struct Window {
    step: Duration,
    slots: Vec<Slot>,
}

impl Window {
    /// An empty window of that length.
    pub fn new(length: Duration) -> Self {
        let step =
            Duration::from_nanos(u64::try_from(length.as_nanos() / u128::from(BUCKETS)).unwrap_or(u64::MAX))
                .max(Duration::from_millis(1));
        Self { step, slots: vec![Slot::default(); usize::try_from(BUCKETS).unwrap_or_default()] }
    }

    /// Counts one request, decided at `at`. One that is older than the window is not counted.
    pub fn add(&mut self, at: Duration, candidate: Decision, stable: Decision) {
        let step = self.step_of(at);
        if let Some(slot) = self.slot(step) {
            bump(&mut slot.candidate, candidate, 1);
            bump(&mut slot.stable, stable, 1);
        }
    }

    /// What it holds at `now` under a rule.
    pub fn tally(&self, now: Duration, rule: &SpikeRule) -> Tally {
        let newest = self.step_of(now);
        let mut tally = Tally::default();
        for slot in self.slots.iter().filter(|slot| slot.step <= newest && slot.step + BUCKETS > newest) {
            tally.requests += slot.candidate.iter().map(|count| u64::from(*count)).sum::<u64>();
            for decision in &rule.decisions {
                tally.candidate += count(&slot.candidate, *decision);
                tally.stable += count(&slot.stable, *decision);
            }
        }
        tally
    }

    /// The same window with another length. What it holds stays, as far as that reaches.
    pub fn resized(&self, length: Duration) -> Self {
        let mut other = Self::new(length);
        if other.step == self.step {
            return self.clone();
        }
        let mut slots: Vec<&Slot> = self.slots.iter().filter(|slot| slot.step > 0).collect();
        slots.sort_unstable_by_key(|slot| slot.step);
        for old in slots {
            // By the beginning of its time: by the end it might lie in the future, where nothing is counted.
            let at = self.step.saturating_mul(u32::try_from(old.step - 1).unwrap_or(u32::MAX));
            let step = other.step_of(at);
            if let Some(slot) = other.slot(step) {
                for (to, from) in slot.candidate.iter_mut().zip(old.candidate) {
                    *to = to.saturating_add(from);
                }
                for (to, from) in slot.stable.iter_mut().zip(old.stable) {
                    *to = to.saturating_add(from);
                }
            }
        }
        other
    }

    /// Steps begin at 1, so that an empty slot is of none.
    fn step_of(&self, at: Duration) -> u64 {
        u64::try_from(at.as_nanos() / self.step.as_nanos().max(1)).unwrap_or(u64::MAX - BUCKETS - 1) + 1
    }

    /// The slot of a step; none where a later step has taken its place.
    fn slot(&mut self, step: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(step % BUCKETS).ok()?)?;
        if slot.step < step {
            *slot = Slot { step, ..Slot::default() };
        }
        (slot.step == step).then_some(slot)
    }
}

fn index(decision: Decision) -> usize {
    match decision {
        Decision::Allow => 0,
        Decision::Rewrite => 1,
        Decision::Summary => 2,
        Decision::Escalate => 3,
        Decision::Refuse => 4,
    }
}

fn bump(counts: &mut [u32; KINDS], decision: Decision, by: u32) {
    if let Some(count) = counts.get_mut(index(decision)) {
        *count = count.saturating_add(by);
    }
}

fn count(counts: &[u32; KINDS], decision: Decision) -> u64 {
    counts.get(index(decision)).copied().map_or(0, u64::from)
}
