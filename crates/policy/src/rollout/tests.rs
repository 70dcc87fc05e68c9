use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::document::PolicyDocument;
use crate::subject::Off;
use crate::verdict::Decision;

const DIGEST: [u8; 32] = [7; 32];

fn bucket(user: &str) -> Bucket {
    Bucket::of("support-guardrails", &DIGEST, Some(user), "key-1")
}

fn share(percent: f64, targets: &[&str]) -> Share {
    Share {
        enabled: true,
        sample_percent: percent,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    }
}

fn canary(share: Share) -> Rollout {
    Rollout { canary: share, ..Rollout::default() }
}

fn shadow(share: Share) -> Rollout {
    Rollout { shadow: share, ..Rollout::default() }
}

/// The numbers are what this version of the hash gives, computed once with another implementation of it. If this test
/// fails, every user of every canary would move.
#[test]
fn buckets_never_move() {
    let percents = [
        (Bucket::of("support-guardrails", &DIGEST, Some("user-12345"), "key-1"), GOLDEN[0]),
        (Bucket::of("support-guardrails", &DIGEST, None, "key-1"), GOLDEN[1]),
        (Bucket::of("support-guardrails", &DIGEST, Some("key-1"), "key-1"), GOLDEN[2]),
        (Bucket::of("p", &[0; 32], Some(""), ""), GOLDEN[3]),
        (Bucket::of("päß", &[255; 32], Some("ж"), ""), GOLDEN[4]),
    ];
    for (bucket, expected) in percents {
        assert!((bucket.percent() - expected).abs() < 1e-12, "{} is not {expected}", bucket.percent());
    }
}

const GOLDEN: [f64; 5] =
    [21.72130777621435, 12.030303667939657, 44.818073976351194, 34.42683441770098, 84.68663209909208];

#[test]
fn the_digest_of_a_document_ignores_its_rollout_only() {
    let digest = |percent: f64, term: &str| {
        PolicyDocument::parse(&json!({
            "policy_id": "p", "rules": {"denylist": [term]},
            "rollout": {"canary": {"enabled": true, "sample_percent": percent}}
        }))
        .unwrap()
        .digest_without_rollout()
    };
    assert_eq!(digest(5.0, "a"), digest(50.0, "a"));
    assert_ne!(digest(5.0, "a"), digest(5.0, "b"));
}

#[test]
fn a_share_is_within_a_point_over_a_hundred_thousand_users() {
    let users: Vec<Bucket> = (0..100_000).map(|user| bucket(&format!("user-{user}"))).collect();
    for percent in [0.0, 0.5, 1.0, 5.0, 10.0, 33.3, 50.0, 90.0, 99.0, 100.0] {
        let share = share(percent, &[]);
        let inside = users.iter().filter(|bucket| share.includes(**bucket)).count();
        let found = inside as f64 / users.len() as f64 * 100.0;
        assert!((found - percent).abs() <= 1.0, "{percent} % came to {found} %");
    }
    assert!(users.iter().all(|bucket| (0.0..100.0).contains(&bucket.percent())));
}

proptest! {
    #[test]
    fn raising_a_share_only_adds_subjects(user in ".*", low in 0.0..100.0_f64, more in 0.0..100.0_f64) {
        let bucket = bucket(&user);
        let high = (low + more).min(100.0);
        prop_assert!(!share(low, &[]).includes(bucket) || share(high, &[]).includes(bucket));
        prop_assert!(!share(0.0, &[]).includes(bucket) && share(100.0, &[]).includes(bucket));
    }

    #[test]
    fn a_window_counts_what_is_in_it(
        times in prop::collection::vec(0_u64..100_000, 1..200),
        length in 60_u64..2_000,
    ) {
        let rule = rule(Duration::from_secs(length));
        let mut window = Window::new(rule.window);
        let mut sorted = times;
        sorted.sort_unstable();
        for at in &sorted {
            window.add(Duration::from_secs(*at), Decision::Refuse, Decision::Allow);
        }
        let now = *sorted.last().unwrap();
        let tally = window.tally(Duration::from_secs(now), &rule);
        // The oldest step counts as long as any of it is inside.
        let step = length as f64 / 60.0;
        let least = sorted.iter().filter(|at| (now - **at) as f64 <= length as f64 - step).count() as u64;
        let most = sorted.iter().filter(|at| now - **at <= length).count() as u64;
        prop_assert!((least..=most).contains(&tally.requests), "{least}..={most}: {tally:?}");
        prop_assert_eq!((tally.candidate, tally.stable), (tally.requests, 0));
    }
}

/// The contract's table, row by row and beyond: (stable, rollout, taken back, target, in the share) → what comes of it.
#[test]
fn the_truth_table() {
    use {Applied as A, Beside as B, Mode as M};
    let (in_share, out_of_it) = (bucket("user-1"), bucket("user-1"));
    let half = in_share.percent();
    // The bucket itself is outside of a share that ends at it.
    let (wide, narrow) = (half + 1e-9, half);
    type Row = (&'static str, bool, Rollout, bool, &'static str, (A, M, bool, B));
    let table: &[Row] = &[
        ("no candidate", true, Rollout::default(), false, "t", (A::Stable, M::Enforced, true, B::Nothing)),
        (
            "canary, in",
            true,
            canary(share(wide, &[])),
            false,
            "t",
            (A::Candidate, M::Canary, true, B::Stable),
        ),
        (
            "canary, listed",
            true,
            canary(share(wide, &["s", "t"])),
            false,
            "t",
            (A::Candidate, M::Canary, true, B::Stable),
        ),
        (
            "canary, out",
            true,
            canary(share(narrow, &[])),
            false,
            "t",
            (A::Stable, M::Enforced, true, B::Nothing),
        ),
        (
            "canary, target not listed",
            true,
            canary(share(wide, &["s"])),
            false,
            "t",
            (A::Stable, M::Enforced, true, B::Nothing),
        ),
        (
            "shadow, in",
            true,
            shadow(share(wide, &[])),
            false,
            "t",
            (A::Stable, M::Enforced, true, B::Candidate),
        ),
        (
            "shadow, out",
            true,
            shadow(share(narrow, &[])),
            false,
            "t",
            (A::Stable, M::Enforced, true, B::Nothing),
        ),
        (
            "shadow, target not listed",
            true,
            shadow(share(wide, &["s"])),
            false,
            "t",
            (A::Stable, M::Enforced, true, B::Nothing),
        ),
        (
            "taken back, in",
            true,
            canary(share(wide, &[])),
            true,
            "t",
            (A::Stable, M::Rollback, true, B::Nothing),
        ),
        (
            "taken back, out",
            true,
            canary(share(narrow, &[])),
            true,
            "t",
            (A::Stable, M::Rollback, true, B::Nothing),
        ),
        (
            "taken back, target not listed",
            true,
            canary(share(wide, &["s"])),
            true,
            "t",
            (A::Stable, M::Enforced, true, B::Nothing),
        ),
        (
            "taken back, now a shadow",
            true,
            shadow(share(wide, &[])),
            true,
            "t",
            (A::Stable, M::Enforced, true, B::Candidate),
        ),
        (
            "no stable, canary, in",
            false,
            canary(share(wide, &[])),
            false,
            "t",
            (A::Nothing, M::Canary, false, B::Nothing),
        ),
        (
            "no stable, canary, out",
            false,
            canary(share(narrow, &[])),
            false,
            "t",
            (A::Nothing, M::Enforced, false, B::Nothing),
        ),
        (
            "no stable, shadow, in",
            false,
            shadow(share(wide, &[])),
            false,
            "t",
            (A::Nothing, M::Shadow, false, B::Nothing),
        ),
        (
            "no stable, shadow, out",
            false,
            shadow(share(narrow, &[])),
            false,
            "t",
            (A::Nothing, M::Enforced, false, B::Nothing),
        ),
        (
            "no stable, target not listed",
            false,
            canary(share(wide, &["s"])),
            false,
            "t",
            (A::Nothing, M::Enforced, false, B::Nothing),
        ),
        (
            "no stable, taken back",
            false,
            canary(share(wide, &[])),
            true,
            "t",
            (A::Nothing, M::Rollback, false, B::Nothing),
        ),
    ];
    for (name, has_stable, rollout, taken_back, target, expected) in table {
        let choice = choose(*has_stable, rollout, *taken_back, target, || out_of_it);
        let found = (choice.applied, choice.mode, choice.is_enforced(), choice.beside);
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn a_share_that_is_off_asks_for_no_bucket() {
    let listed = canary(share(100.0, &["s"]));
    for rollout in [Rollout::default(), listed] {
        assert_eq!(choose(true, &rollout, false, "t", || unreachable!()), Choice::STABLE);
    }
}

fn rule(window: Duration) -> SpikeRule {
    SpikeRule {
        is_on: true,
        threshold: 0.25,
        requests_min: 20,
        window,
        decisions: vec![Decision::Refuse, Decision::Escalate],
    }
}

#[test]
fn a_spike_is_all_of_its_conditions() {
    let rule = rule(Duration::from_secs(900));
    let tally = |requests, candidate, stable| Tally { requests, candidate, stable };
    assert!(tally(20, 5, 0).is_spike(&rule));
    assert!(tally(20, 5, 4).is_spike(&rule));
    assert!(!tally(19, 19, 0).is_spike(&rule), "too few requests");
    assert!(!tally(20, 4, 0).is_spike(&rule), "below the threshold");
    assert!(!tally(20, 5, 5).is_spike(&rule), "stable is no better");
    assert!(!tally(20, 5, 0).is_spike(&SpikeRule { is_on: false, ..rule.clone() }), "switched off");
    assert!(!tally(0, 0, 0).is_spike(&SpikeRule { threshold: 0.0, requests_min: 1, ..rule }), "nothing");
    // A threshold that is no binary fraction is reached where the share equals it.
    let tenth = SpikeRule { threshold: 0.1, requests_min: 1, ..self::rule(Duration::from_secs(60)) };
    assert!((1..1_000).all(|tens| tally(tens * 10, tens, 0).is_spike(&tenth)));
}

#[test]
fn what_is_severe_is_the_documents_choice() {
    let mut window = Window::new(Duration::from_secs(60));
    for decision in [Decision::Allow, Decision::Rewrite, Decision::Escalate, Decision::Refuse] {
        window.add(Duration::ZERO, decision, Decision::Rewrite);
    }
    let mut rule = rule(Duration::from_secs(60));
    assert_eq!(window.tally(Duration::ZERO, &rule), Tally { requests: 4, candidate: 2, stable: 0 });
    rule.decisions = vec![Decision::Rewrite];
    assert_eq!(window.tally(Duration::ZERO, &rule), Tally { requests: 4, candidate: 1, stable: 4 });
}

#[test]
fn late_and_early_times_neither_lose_nor_count_twice() {
    let rule = rule(Duration::from_secs(60));
    let mut window = Window::new(rule.window);
    let at = Duration::from_secs;
    window.add(at(1_000), Decision::Refuse, Decision::Allow);
    // Threads finish in any order.
    window.add(at(970), Decision::Refuse, Decision::Allow);
    window.add(at(100), Decision::Refuse, Decision::Allow);
    assert_eq!(window.tally(at(1_000), &rule).requests, 2);
    assert_eq!(window.tally(at(1_031), &rule).requests, 1);
    assert_eq!(window.tally(at(5_000), &rule).requests, 0);
}

#[test]
fn another_length_keeps_what_it_reaches() {
    let at = Duration::from_secs;
    let mut window = Window::new(at(600));
    window.add(at(1_000), Decision::Refuse, Decision::Allow);
    window.add(at(1_500), Decision::Refuse, Decision::Allow);
    let count = |window: &Window, length: Duration| window.tally(at(1_500), &rule(length)).requests;
    assert_eq!(count(&window, at(600)), 2);
    assert_eq!(count(&window.resized(at(6_000)), at(6_000)), 2);
    assert_eq!(count(&window.resized(at(60)), at(60)), 1);
    assert_eq!(count(&window.resized(at(600)), at(600)), 2);
}

fn tried(index: usize, rollout: Rollout) -> TriedRule {
    TriedRule { index, name: index.to_string(), rollout, digest: [u8::try_from(index).unwrap(); 32] }
}

#[test]
fn a_rule_acts_where_its_rollout_reaches() {
    let all = || share(100.0, &[]);
    let off = |indexes: &[usize]| Off((!indexes.is_empty()).then(|| indexes.into()));
    let choose = |tried: &[TriedRule], taken_back| {
        let choice = choose_rules(tried, taken_back, "t", |digest| Bucket::of("p", digest, Some("u"), "k"));
        (choice.mode(), choice.off, choice.without, choice.with)
    };
    let (canaried, shadowed) = (tried(1, canary(all())), tried(3, shadow(all())));
    let out = tried(4, canary(share(0.0, &[])));
    let elsewhere = tried(5, canary(share(100.0, &["s"])));
    assert_eq!(choose(&[], false), (Mode::Enforced, off(&[]), None, None));
    assert_eq!(
        choose(std::slice::from_ref(&canaried), false),
        (Mode::Canary, off(&[]), Some(off(&[1])), None)
    );
    assert_eq!(
        choose(std::slice::from_ref(&shadowed), false),
        (Mode::Enforced, off(&[3]), None, Some(off(&[])))
    );
    let rules = [canaried, shadowed, out, elsewhere.clone()];
    assert_eq!(
        choose(&rules, false),
        (Mode::Canary, off(&[3, 4, 5]), Some(off(&[3, 4, 5, 1])), Some(off(&[4, 5])))
    );
    assert_eq!(choose(&rules, true), (Mode::Rollback, off(&[1, 3, 4, 5]), None, Some(off(&[1, 4, 5]))));
    assert_eq!(choose(&[elsewhere], true), (Mode::Enforced, off(&[5]), None, None));
}

#[test]
fn a_rules_digest_ignores_its_rollout_only() {
    let digests = |percent: f64, action: &str| {
        let rule = json!({"term": "a", "action": action, "rollout": {"canary": {"enabled": true, "sample_percent": percent}}});
        let rules = json!({"denylist": ["a"], "overrides": [rule]});
        let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules})).unwrap();
        tried_rules(&document).iter().map(|rule| rule.digest).collect::<Vec<_>>()
    };
    assert_eq!(digests(5.0, "refuse").len(), 1);
    assert_eq!(digests(5.0, "refuse"), digests(50.0, "refuse"));
    assert_ne!(digests(5.0, "refuse"), digests(5.0, "rewrite"));
}
