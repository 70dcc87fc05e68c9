use std::sync::atomic::AtomicI64;

use policy::PolicyDocument;
use policy::rollout::{Applied, Mode};
use serde_json::{Value, json};

use super::*;
use crate::policy_set::PolicySet;
use crate::snapshot::Desired;

/// Two clocks, set by hand: one goes on, the other can be set to anything.
#[derive(Debug)]
struct FakeClock {
    elapsed_ms: AtomicU64,
    now_ms: AtomicI64,
}

impl FakeClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { elapsed_ms: AtomicU64::new(86_400_000), now_ms: AtomicI64::new(1_768_587_731_000) })
    }

    fn pass(&self, minutes: u64) {
        self.elapsed_ms.fetch_add(minutes * 60_000, Ordering::SeqCst);
        self.now_ms.fetch_add(i64::try_from(minutes).unwrap() * 60_000, Ordering::SeqCst);
    }

    /// Sets the system's clock only.
    fn jump(&self, minutes: i64) {
        self.now_ms.fetch_add(minutes * 60_000, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

fn revision(number: u64, term: &str, rollout: &Value) -> Arc<Revision> {
    let document = json!({ "policy_id": "p", "rules": { "denylist": [term] }, "rollout": rollout });
    Arc::new(Revision::compile(PolicyDocument::parse(&document).unwrap(), number).unwrap())
}

fn canary(extra: &Value) -> Value {
    let mut rollout = json!({
        "canary": { "enabled": true, "sample_percent": 100 },
        "rollback_min_requests": 4, "rollback_threshold": 0.5
    });
    for (key, value) in extra.as_object().unwrap() {
        rollout[key] = value.clone();
    }
    rollout
}

/// Puts a candidate beside a stable revision in force.
fn in_force(rollouts: &Rollouts, candidate: Arc<Revision>) -> (Arc<PolicySet>, RolloutChanges) {
    let stable = revision(1, "stable", &json!({}));
    let policy = PolicySet::with_candidate(Some(stable), rollouts.candidate(candidate));
    put(rollouts, policy)
}

fn put(rollouts: &Rollouts, policy: PolicySet) -> (Arc<PolicySet>, RolloutChanges) {
    let snapshot = Snapshot::build(Desired { policies: vec![policy], ..Desired::default() }).unwrap();
    rollouts.put_in_force(&snapshot);
    let changes = rollouts.take_changes();
    (Arc::clone(snapshot.policy("p").unwrap()), changes)
}

fn began(changes: &RolloutChanges) -> bool {
    changes.get("p").is_some_and(Option::is_some)
}

fn observe(policy: &PolicySet, candidate: Decision, stable: Decision) -> Option<Spike> {
    policy.candidate().unwrap().observe(true, candidate, stable)
}

/// Drives it into a rollback.
fn spike(policy: &PolicySet) -> Spike {
    for _ in 0..3 {
        assert_eq!(observe(policy, Decision::Refuse, Decision::Allow), None);
    }
    observe(policy, Decision::Refuse, Decision::Allow).unwrap()
}

fn mode(policy: &PolicySet) -> (Applied, Mode) {
    let choice = policy.choose("t", Some("user"), "key").choice;
    (choice.applied, choice.mode)
}

const CANARY: (Applied, Mode) = (Applied::Candidate, Mode::Canary);
const TAKEN_BACK: (Applied, Mode) = (Applied::Stable, Mode::Rollback);

#[test]
fn a_spike_takes_the_candidate_back_for_everybody() {
    let clock = FakeClock::new();
    let rollouts = Rollouts::new(Arc::clone(&clock) as _);
    let (policy, changes) = in_force(&rollouts, revision(2, "new", &canary(&json!({}))));
    assert!(began(&changes));
    assert_eq!(mode(&policy), CANARY);
    let spike = spike(&policy);
    assert_eq!(spike.tally, Tally { requests: 4, candidate: 4, stable: 0 });
    assert!(spike.takes_back && !spike.resumes);
    assert_eq!(spike.until_ms - spike.at_ms, 30 * 60_000);
    assert_eq!(mode(&policy), TAKEN_BACK);
    // Calls that were in flight change nothing any more.
    assert_eq!(observe(&policy, Decision::Refuse, Decision::Allow), None);
}

#[test]
fn by_default_only_another_revision_brings_it_back_and_only_after_the_cooldown() {
    let clock = FakeClock::new();
    let rollouts = Rollouts::new(Arc::clone(&clock) as _);
    let (policy, _) = in_force(&rollouts, revision(2, "new", &canary(&json!({}))));
    spike(&policy);
    clock.pass(31);
    assert_eq!(mode(&policy), TAKEN_BACK);
    // The same document but for its rollout keeps the cooldown …
    clock.elapsed_ms.fetch_sub(31 * 60_000, Ordering::SeqCst);
    let lower = canary(&json!({ "rollback_threshold": 0.9 }));
    let (again, changes) = in_force(&rollouts, revision(3, "new", &lower));
    assert!(changes.is_empty());
    assert_eq!(mode(&again), TAKEN_BACK);
    // … and runs after it.
    clock.pass(31);
    assert_eq!(mode(&again), CANARY);
    assert_eq!(mode(&policy), TAKEN_BACK);
}

#[test]
fn it_returns_by_itself_where_the_document_says_so_with_a_clean_window() {
    let clock = FakeClock::new();
    let rollouts = Rollouts::new(Arc::clone(&clock) as _);
    let auto = canary(&json!({ "rollback_resume": "auto", "rollback_cooldown_minutes": 5 }));
    let (policy, _) = in_force(&rollouts, revision(2, "new", &auto));
    assert!(spike(&policy).resumes);
    clock.pass(4);
    assert_eq!(mode(&policy), TAKEN_BACK);
    clock.pass(1);
    assert_eq!(mode(&policy), CANARY);
    // The spike is still within the last 15 minutes, and does not count again.
    spike(&policy);
    assert_eq!(mode(&policy), TAKEN_BACK);
}

#[test]
fn another_document_starts_clean_and_a_stable_save_ends_it() {
    let clock = FakeClock::new();
    let rollouts = Rollouts::new(Arc::clone(&clock) as _);
    let (policy, _) = in_force(&rollouts, revision(2, "new", &canary(&json!({}))));
    spike(&policy);
    let (other, changes) = in_force(&rollouts, revision(3, "newer", &canary(&json!({}))));
    assert!(began(&changes));
    assert_eq!(mode(&other), CANARY);
    let (_, changes) = put(&rollouts, PolicySet::stable(revision(4, "stable", &json!({}))));
    assert_eq!((changes.len(), began(&changes)), (1, false));
    let (back, changes) = in_force(&rollouts, revision(5, "newer", &canary(&json!({}))));
    assert_eq!((began(&changes), mode(&back)), (true, CANARY));
}

#[test]
fn a_save_of_the_rollout_alone_keeps_the_window() {
    let rollouts = Rollouts::new(FakeClock::new());
    let (policy, _) = in_force(&rollouts, revision(2, "new", &canary(&json!({}))));
    for _ in 0..3 {
        assert_eq!(observe(&policy, Decision::Refuse, Decision::Allow), None);
    }
    let longer = canary(&json!({ "rollback_window_minutes": 60 }));
    let (again, _) = in_force(&rollouts, revision(3, "new", &longer));
    assert_eq!(observe(&again, Decision::Refuse, Decision::Allow).unwrap().tally.requests, 4);
}

#[test]
fn the_systems_clock_may_be_set_to_anything() {
    let clock = FakeClock::new();
    let rollouts = Rollouts::new(Arc::clone(&clock) as _);
    let auto = canary(&json!({ "rollback_resume": "auto" }));
    let (policy, _) = in_force(&rollouts, revision(2, "new", &auto));
    for jump in [-600, 600, 0] {
        clock.jump(jump);
        assert_eq!(observe(&policy, Decision::Refuse, Decision::Allow), None);
    }
    clock.jump(100_000);
    assert_eq!(observe(&policy, Decision::Refuse, Decision::Allow).unwrap().tally.requests, 4);
    clock.jump(100_000);
    assert_eq!(mode(&policy), TAKEN_BACK, "the cooldown goes by the clock that goes on");
    clock.jump(-200_000);
    clock.pass(30);
    assert_eq!(mode(&policy), CANARY);
}

#[test]
fn a_restart_forgets_nothing() {
    let clock = FakeClock::new();
    let auto = canary(&json!({ "rollback_resume": "auto" }));
    let start = || {
        let rollouts = Rollouts::new(Arc::clone(&clock) as _);
        let (policy, changes) = in_force(&rollouts, revision(2, "new", &auto));
        assert!(began(&changes));
        policy
    };
    let policy = start();
    let found = spike(&policy);
    let taken_back = TakenBack { revision: 2, since_ms: found.at_ms, until_ms: found.until_ms };
    clock.pass(10);
    let policy = start();
    policy.candidate().unwrap().restore(taken_back);
    assert_eq!(mode(&policy), TAKEN_BACK);
    clock.pass(20);
    assert_eq!(mode(&policy), CANARY);
    // Set back by a year while nothing ran: no longer than the document says.
    clock.jump(-525_600);
    let policy = start();
    policy.candidate().unwrap().restore(taken_back);
    clock.pass(30);
    assert_eq!(mode(&policy), CANARY);
}

#[test]
fn the_window_is_read_again_at_a_start() {
    let rollouts = Rollouts::new(FakeClock::new());
    let (policy, _) = in_force(&rollouts, revision(2, "new", &canary(&json!({}))));
    let candidate = policy.candidate().unwrap();
    for ago_minutes in [-5, 1, 14] {
        candidate.replay(ago_minutes * 60_000, Decision::Refuse, Decision::Allow);
    }
    candidate.replay(16 * 60_000, Decision::Refuse, Decision::Allow);
    assert_eq!(candidate.overdue_spike(), None);
    candidate.replay(0, Decision::Refuse, Decision::Allow);
    assert_eq!(candidate.overdue_spike().unwrap().tally.requests, 4);
    assert_eq!((candidate.overdue_spike(), mode(&policy)), (None, TAKEN_BACK));
}

#[test]
fn a_shadows_spike_is_told_once_and_takes_nothing_back() {
    let clock = FakeClock::new();
    let rollouts = Rollouts::new(Arc::clone(&clock) as _);
    let shadow = json!({ "shadow": { "enabled": true, "sample_percent": 100 },
        "rollback_min_requests": 4, "rollback_threshold": 0.5 });
    let (policy, _) = in_force(&rollouts, revision(2, "new", &shadow));
    let candidate = policy.candidate().unwrap();
    let mut told = 0;
    for _ in 0..100 {
        let spike = candidate.observe(false, Decision::Refuse, Decision::Allow);
        assert!(spike.as_ref().is_none_or(|spike| !spike.takes_back));
        told += usize::from(spike.is_some());
    }
    assert_eq!((told, mode(&policy)), (1, (Applied::Stable, Mode::Enforced)));
    // What it was as a shadow does not count against it as a canary.
    let (policy, _) = in_force(&rollouts, revision(3, "new", &canary(&json!({}))));
    assert_eq!(observe(&policy, Decision::Refuse, Decision::Allow), None);
    assert_eq!(mode(&policy), CANARY);
}

#[test]
fn many_at_once_take_it_back_once() {
    let rollouts = Rollouts::new(FakeClock::new());
    let (policy, _) = in_force(&rollouts, revision(2, "new", &canary(&json!({}))));
    let spikes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let one = || {
                    let spikes = (0..500).filter_map(|_| observe(&policy, Decision::Refuse, Decision::Allow));
                    spikes.count()
                };
                scope.spawn(one)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(spikes, 1);
}
