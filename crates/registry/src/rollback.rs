//! What is known of candidates while they are tried out: the decisions that they and the stable revision came to, and
//! whether a spike took one back. It outlives the snapshots: as long as a candidate's document differs in nothing but its
//! `rollout`, its window and its cooldown stay. Making a rollback durable and telling of it is the gateway's business.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use audit::event::AuditEvent;
use audit::outbox::BoxFuture;
use policy::document::{RollbackResume, Rollout};
use policy::rollout::{SpikeRule, Tally, Window, digest_of_rules};
use policy::{Decision, Revision};
use tokio::sync::watch;

use crate::policy_set::Candidate;
use crate::snapshot::Snapshot;

/// Time, as rollouts need it.
pub trait Clock: Send + Sync + 'static {
    /// Time since some moment before. It never goes back, whatever is done to the system's clock.
    fn elapsed(&self) -> Duration;

    /// The system's clock, in Unix milliseconds: for what is kept over a restart and for people.
    fn now_ms(&self) -> i64;
}

/// What the clock shows at the start of the process: more than the longest window, so that what was before the start has
/// a time on it too.
const ORIGIN: Duration = Duration::from_secs(60 * 24 * 3600);

/// The real one.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        ORIGIN + self.0.elapsed()
    }

    fn now_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}

/// What a store keeps of what is tried out: one under each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRollout {
    /// See [`Candidate::key`].
    pub key: String,
    /// The candidate's digest, hex.
    pub digest: String,
    /// None while it runs.
    pub taken_back: Option<TakenBack>,
    /// Events up to this seq of the log are none of its window; the store sets it to the log's head when it keeps a
    /// change.
    pub after_seq: u64,
}

/// A rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// Number of the revision that was taken back.
    pub revision: u64,
    /// When, in Unix milliseconds.
    pub since_ms: i64,
    /// The end of the cooldown, in Unix milliseconds.
    pub until_ms: i64,
}

/// A rollback that is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The `rollback` event.
    pub event: AuditEvent,
    /// Who is notified: the policy's `refusal_replacement.escalation_path`.
    pub escalation_path: Option<String>,
}

/// Where rollbacks are kept.
pub trait RolloutStore: Send + Sync + 'static {
    /// Keeps the state of a policy's candidate in place of what was kept of that policy, appends the event that tells of
    /// it, and queues the notice: all of it becomes durable, or nothing. `after_seq` is the store's to set.
    fn keep(&self, rollout: KeptRollout, told: Option<Told>) -> BoxFuture<'_, Result<(), String>>;

    /// Forgets what is kept under a key: nothing is tried out there any more.
    fn forget(&self, key: String) -> BoxFuture<'_, Result<(), String>>;
}

/// Sends the notices that the store queued.
pub trait Notify: Send + Sync + 'static {
    /// There is one more.
    fn posted(&self);
}

/// A spike that was found just now.
#[derive(Clone, Debug, PartialEq)]
pub struct Spike {
    /// What the window held.
    pub tally: Tally,
    /// The threshold that was reached, 0 to 1.
    pub threshold: f64,
    /// Length of the window.
    pub window: Duration,
    /// Whether the candidate was taken back; a shadow's spike is only told.
    pub takes_back: bool,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// The end of the cooldown, in Unix milliseconds.
    pub until_ms: i64,
    /// Whether the candidate then returns by itself.
    pub resumes: bool,
}

/// See the module.
pub struct Rollback {
    clock: Arc<dyn Clock>,
    /// End of the cooldown in milliseconds by the clock that never goes back; 0: it was not taken back.
    until_ms: AtomicU64,
    /// Number of the revision that was taken back.
    revision: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    rule: SpikeRule,
    /// Calls to which the candidate was applied.
    canary: Window,
    /// Calls in which it was a shadow. They say nothing of what users met, so that they are counted apart.
    shadow: Window,
    /// Until then no further shadow's spike is told.
    told_until: Duration,
}

impl fmt::Debug for Rollback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rollback").field("until_ms", &self.until_ms).finish_non_exhaustive()
    }
}

impl Rollback {
    fn new(clock: Arc<dyn Clock>, rule: SpikeRule) -> Self {
        Self {
            clock,
            until_ms: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                canary: Window::new(rule.window),
                shadow: Window::new(rule.window),
                rule,
                told_until: Duration::ZERO,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the candidate is off: during the cooldown in any case, and after it until another revision of it is saved,
    /// unless it returns by itself.
    pub(crate) fn is_off(&self, revision: u64, resume: RollbackResume) -> bool {
        match self.until_ms.load(Ordering::Acquire) {
            0 => false,
            until if millis(self.clock.elapsed()) < until => true,
            _ => resume == RollbackResume::Manual && self.revision.load(Ordering::Acquire) == revision,
        }
    }

    /// Takes over the rule of a newer document with the same digest. The windows stay.
    fn follow(&self, rule: SpikeRule) {
        let mut inner = self.lock();
        if inner.rule.window != rule.window {
            inner.canary = inner.canary.resized(rule.window);
            inner.shadow = inner.shadow.resized(rule.window);
        }
        inner.rule = rule;
    }

    fn take_back(&self, revision: u64, cooldown: Duration) {
        self.revision.store(revision, Ordering::Release);
        let until = self.clock.elapsed().saturating_add(cooldown);
        self.until_ms.store(millis(until).max(1), Ordering::Release);
    }
}

impl Candidate {
    /// Counts a call whose event is durable: what both revisions decided. `Some` for the one call that makes it a spike.
    /// From then on the candidate is off. `applied` where the candidate was applied, else it was a shadow.
    pub fn observe(&self, applied: bool, candidate: Decision, stable: Decision) -> Option<Spike> {
        let rollback = &self.rollback;
        let mut inner = rollback.lock();
        // INVARIANT: looked at under the lock, so that only one call takes it back.
        if applied && self.is_taken_back() {
            return None;
        }
        let now = rollback.clock.elapsed();
        let window = if applied { &mut inner.canary } else { &mut inner.shadow };
        window.add(now, candidate, stable);
        self.spike(&mut inner, applied, now)
    }

    /// A spike that the window holds already: after a restart, before any further call.
    pub fn overdue_spike(&self) -> Option<Spike> {
        let mut inner = self.rollback.lock();
        if self.is_taken_back() {
            return None;
        }
        let now = self.rollback.clock.elapsed();
        self.spike(&mut inner, true, now)
    }

    fn spike(&self, inner: &mut Inner, applied: bool, now: Duration) -> Option<Spike> {
        let window = if applied { &inner.canary } else { &inner.shadow };
        let tally = window.tally(now, &inner.rule);
        if !tally.is_spike(&inner.rule) || (!applied && now < inner.told_until) {
            return None;
        }
        let rollout = &self.rollout;
        let cooldown = Duration::from_secs(rollout.rollback_cooldown_minutes.saturating_mul(60));
        // What comes after the cooldown is judged by itself.
        if applied {
            inner.canary = Window::new(inner.rule.window);
            self.rollback.take_back(self.revision.number(), cooldown);
        } else {
            inner.shadow = Window::new(inner.rule.window);
            inner.told_until = now.saturating_add(cooldown);
        }
        let at_ms = self.rollback.clock.now_ms();
        Some(Spike {
            tally,
            threshold: inner.rule.threshold,
            window: inner.rule.window,
            takes_back: applied,
            at_ms,
            until_ms: at_ms.saturating_add(i64::try_from(cooldown.as_millis()).unwrap_or(i64::MAX)),
            resumes: rollout.rollback_resume == RollbackResume::Auto,
        })
    }

    /// What a store is to keep of it, were it taken back so.
    pub fn kept(&self, taken_back: Option<TakenBack>) -> KeptRollout {
        KeptRollout {
            key: self.key.clone(),
            digest: audit::event::hex(&self.digest),
            taken_back,
            after_seq: 0,
        }
    }

    /// Puts the state back that a store kept. Time that went by while nothing ran counts by the system's clock; should
    /// that have been set back, the cooldown is no longer than the document says all the same.
    pub fn restore(&self, taken_back: TakenBack) {
        let rollout = &self.rollout;
        let cooldown = Duration::from_secs(rollout.rollback_cooldown_minutes.saturating_mul(60));
        let left = taken_back.until_ms.saturating_sub(self.rollback.clock.now_ms());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        self.rollback.take_back(taken_back.revision, left.min(cooldown));
    }

    /// Counts a call of before a restart, decided so many milliseconds ago (less than 0: the clock was set back, it is
    /// taken as just now).
    pub fn replay(&self, ago_ms: i64, candidate: Decision, stable: Decision) {
        let mut inner = self.rollback.lock();
        let ago = Duration::from_millis(u64::try_from(ago_ms).unwrap_or(0));
        // What lies before the clock's origin is older than any window.
        let Some(at) = self.rollback.clock.elapsed().checked_sub(ago) else { return };
        inner.canary.add(at, candidate, stable);
    }
}

/// By key: the candidate's digest and its state.
type Known = HashMap<String, ([u8; 32], Arc<Rollback>)>;

/// What changed of the candidates in force, by key: another candidate than before, or none any more.
pub type RolloutChanges = BTreeMap<String, Option<Candidate>>;

/// All candidates in force, over the changes of snapshots.
pub struct Rollouts {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// What no store was told yet.
    untold: watch::Sender<RolloutChanges>,
}

impl fmt::Debug for Rollouts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rollouts").finish_non_exhaustive()
    }
}

impl Default for Rollouts {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::default()))
    }
}

impl Rollouts {
    /// Without any candidate yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default(), untold: watch::Sender::default() }
    }

    /// The clock that all of them go by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A revision as a candidate: with the state that it has in force, or with a clean one where it is not. Changes
    /// nothing that is in force.
    pub fn candidate(&self, revision: Arc<Revision>) -> Candidate {
        let (key, rollout) = (revision.policy_id().to_owned(), revision.document().rollout.clone());
        let digest = revision.document().digest_without_rollout();
        self.tried(key, revision, rollout, digest)
    }

    /// The rules of a stable revision that are tried out, likewise; none where there are none. Of several canaries, the
    /// first says when they are taken back, all at once.
    pub fn rules(&self, revision: &Arc<Revision>) -> Option<Candidate> {
        let tried = revision.tried_rules();
        let first = tried.iter().find(|rule| rule.rollout.canary.enabled).or(tried.first())?;
        let key = format!("{} rules", revision.policy_id());
        Some(self.tried(key, Arc::clone(revision), first.rollout.clone(), digest_of_rules(tried)))
    }

    fn tried(&self, key: String, revision: Arc<Revision>, rollout: Rollout, digest: [u8; 32]) -> Candidate {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let rollback = match known.get(&key) {
            Some((known, rollback)) if *known == digest => Arc::clone(rollback),
            _ => Arc::new(Rollback::new(Arc::clone(&self.clock), SpikeRule::of(&rollout))),
        };
        Candidate { revision, key, rollout, digest, rollback }
    }

    /// Says that a snapshot is in force. What changed waits for [`Rollouts::changed`].
    pub fn put_in_force(&self, snapshot: &Snapshot) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = RolloutChanges::new();
        let mut next = Known::new();
        for candidate in snapshot.policies().flat_map(|policy| policy.tried()) {
            let id = candidate.key.as_str();
            candidate.rollback.follow(SpikeRule::of(&candidate.rollout));
            if known.get(id).is_none_or(|(_, rollback)| !Arc::ptr_eq(rollback, &candidate.rollback)) {
                changes.insert(id.to_owned(), Some(candidate.clone()));
            }
            next.insert(id.to_owned(), (candidate.digest, Arc::clone(&candidate.rollback)));
        }
        let ended = known.keys().filter(|id| !next.contains_key(*id));
        changes.extend(ended.map(|id| (id.clone(), None)));
        *known = next;
        if !changes.is_empty() {
            // Under the lock, so that the last change is the last one told.
            self.untold.send_modify(|untold| untold.extend(changes));
        }
    }

    /// What changed since this was last asked, so that a store can keep it.
    pub fn take_changes(&self) -> RolloutChanges {
        let mut taken = RolloutChanges::new();
        self.untold.send_if_modified(|untold| {
            taken = std::mem::take(untold);
            false
        });
        taken
    }

    /// Waits until something changed, and takes it. Cancel safe.
    pub async fn changed(&self) -> RolloutChanges {
        let mut untold = self.untold.subscribe();
        loop {
            let taken = self.take_changes();
            if !taken.is_empty() || untold.changed().await.is_err() {
                return taken;
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
