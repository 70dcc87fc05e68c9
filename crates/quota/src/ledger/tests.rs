use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::reservation::Reservation;

const NOW: i64 = 1_795_600_000;

fn claim(name: u8, requests_max: u64, tokens_max: u64) -> Claim {
    let bucket = BucketId([name; 16]);
    Claim { scope: QuotaScope::User, bucket, window: Window::Daily, requests_max, tokens_max }
}

fn need(tokens_min: u64, tokens: u64) -> Need {
    Need { tokens_min, tokens }
}

fn left(levels: &[Level]) -> Vec<(Option<u64>, Option<u64>)> {
    let left = |room: Option<Room>| room.map(|room| room.left);
    levels.iter().map(|level| (left(level.requests), left(level.tokens))).collect()
}

#[test]
fn all_claims_are_taken_or_none() {
    let ledger = Ledger::default();
    let (user, project) = (claim(1, 5, 0), claim(2, 2, 0));
    let both = || ledger.reserve(vec![user, project], Need::default(), NOW);
    assert_eq!(left(&both().unwrap().levels), [(Some(4), None), (Some(1), None)]);
    assert_eq!(left(&both().unwrap().levels), [(Some(3), None), (Some(0), None)]);
    let refused = both().unwrap_err();
    assert_eq!((refused.what, refused.room, refused.needed), (What::Requests, Room { max: 2, left: 0 }, 1));
    assert_eq!(left(&refused.levels), [(Some(3), None), (Some(0), None)]);
    let alone = ledger.reserve(vec![user], Need::default(), NOW).unwrap();
    assert_eq!(left(&alone.levels), [(Some(2), None)]);
}

#[test]
fn the_first_claim_that_has_too_little_is_named() {
    let ledger = Ledger::default();
    let user = claim(1, 1, 0);
    let project = Claim { scope: QuotaScope::Project, ..claim(2, 1, 0) };
    ledger.reserve(vec![user, project], Need::default(), NOW).unwrap();
    let refused = ledger.reserve(vec![user, project], Need::default(), NOW).unwrap_err();
    assert_eq!(refused.scope, QuotaScope::User);
    let span = Window::Daily.span(NOW);
    assert_eq!(refused.retry_after_s, u64::try_from(span.end_s - NOW).unwrap());
}

#[test]
fn tokens_are_held_settled_and_given_back() {
    let ledger: Arc<Ledger> = Arc::default();
    let reserve = |tokens_min, tokens| {
        Reservation::new(Arc::clone(&ledger) as _, vec![claim(1, 0, 100)], need(tokens_min, tokens), NOW)
    };
    let mut first = reserve(10, 60).unwrap();
    assert_eq!(first.tokens(), 60);
    // Less is held where less is left, but what cannot do without more does not start.
    let second = reserve(10, 60).unwrap();
    assert_eq!(second.tokens(), 40);
    let refused = reserve(1, 1).unwrap_err();
    assert_eq!((refused.what, refused.room.left), (What::Tokens, 0));
    drop(second);
    assert_eq!((reserve(41, 41).unwrap_err().room.left, reserve(41, 41).unwrap_err().needed), (40, 41));
    assert_eq!((first.extend(30), first.extend(30), first.extend(1)), (30, 10, 0));
    first.settle(1, 25);
    assert_eq!(first.charges().first().map(|charge| (charge.requests, charge.tokens)), Some((1, 25)));
    let level = first.levels().next().unwrap();
    assert_eq!(level.tokens, Some(Room { max: 100, left: 75 }));
    drop(first);
    assert_eq!(reserve(75, 75).unwrap().tokens(), 75);
}

#[test]
fn more_may_be_used_than_was_held() {
    let ledger: Arc<Ledger> = Arc::default();
    let mut call =
        Reservation::new(Arc::clone(&ledger) as _, vec![claim(1, 0, 100)], need(1, 10), NOW).unwrap();
    call.settle(1, 150);
    let refused = ledger.reserve(vec![claim(1, 0, 100)], need(1, 1), NOW).unwrap_err();
    assert_eq!(refused.room, Room { max: 100, left: 0 });
}

#[test]
fn a_window_ends_and_what_is_settled_late_is_not_counted_in_the_next() {
    let ledger: Arc<Ledger> = Arc::default();
    let one = || vec![claim(1, 1, 10)];
    let mut late = Reservation::new(Arc::clone(&ledger) as _, one(), need(1, 10), NOW).unwrap();
    ledger.reserve(one(), need(1, 1), NOW).unwrap_err();
    let tomorrow = Window::Daily.span(NOW).end_s;
    let next = ledger.reserve(one(), need(1, 5), tomorrow).unwrap();
    assert_eq!(late.extend(7), 7);
    late.settle(1, 500);
    assert_eq!(left(&next.levels), [(Some(0), Some(5))]);
    // A clock that is set back does not bring the past window back.
    let refused = ledger.reserve(one(), need(1, 1), NOW).unwrap_err();
    assert_eq!(refused.room, Room { max: 1, left: 0 });
}

#[test]
fn what_was_used_before_the_start_counts() {
    let ledger = Ledger::default();
    let span = Window::Daily.span(NOW);
    let bucket = claim(1, 0, 0).bucket;
    ledger.load(bucket, span.end_s, 2, 30);
    ledger.load(bucket, span.end_s - 24 * 3600, 50, 0);
    let held = ledger.reserve(vec![claim(1, 3, 100)], need(1, 10), NOW).unwrap();
    assert_eq!(left(&held.levels), [(Some(0), Some(60))]);
}

#[test]
fn counters_of_past_windows_leave() {
    let ledger = Ledger::default();
    let reserve = |user: u32, now_s: i64| {
        let mut bucket = [0; 16];
        bucket[..4].copy_from_slice(&user.to_le_bytes());
        bucket[15] = (user % 64) as u8;
        let claim = Claim { bucket: BucketId(bucket), ..claim(0, 10, 0) };
        ledger.reserve(vec![claim], Need::default(), now_s).unwrap();
    };
    for day in 0..20 {
        for user in 0..20_000 {
            reserve(day * 20_000 + user, NOW + i64::from(day) * 24 * 3600);
        }
        // A table holds what is of use and less than as much again, and is never swept below its minimum.
        assert!(ledger.len() <= 60_000, "{} after day {day}", ledger.len());
    }
}

/// N+1 parallel calls against N left: exactly one is refused, whoever comes first.
#[test]
fn of_calls_in_parallel_exactly_as_many_pass_as_are_left() {
    for round in 0..20_u64 {
        let ledger: Arc<Ledger> = Arc::default();
        let passed = AtomicU64::new(0);
        let limit = 800 - round;
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let (ledger, passed) = (&ledger, &passed);
                scope.spawn(move || {
                    // Users differ and are unlimited, the project is one; and some calls fail and give back.
                    let (user, project) = (claim(thread + 1, 0, 0), claim(200, limit, 0));
                    for call in 0..101 {
                        let claims = if call % 2 == 0 { vec![user, project] } else { vec![project, user] };
                        if let Ok(mut reservation) =
                            Reservation::new(Arc::clone(ledger) as _, claims, Need::default(), NOW)
                        {
                            reservation.settle(1, 3);
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), limit);
    }
}

/// What a step of the model test does with a call of a slot.
#[derive(Clone, Debug)]
enum Step {
    Reserve { slot: usize, claims: Vec<(u8, u64, u64)>, min: u64, tokens: u64 },
    Extend { slot: usize, tokens: u64 },
    Settle { slot: usize, requests: u64, tokens: u64 },
    Drop { slot: usize },
    Later { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let claims = prop::collection::btree_map(0..4_u8, (0..4_u64, 0..60_u64), 1..4);
    let claims = claims.prop_map(|claims| claims.into_iter().map(|(name, (r, t))| (name, r, t)).collect());
    prop_oneof![
        4 => (0..6_usize, claims, 1..20_u64, 1..40_u64).prop_map(|(slot, claims, min, more)| Step::Reserve {
            slot, claims, min, tokens: min + more
        }),
        1 => (0..6_usize, 0..20_u64).prop_map(|(slot, tokens)| Step::Extend { slot, tokens }),
        2 => (0..6_usize, 0..2_u64, 0..80_u64)
            .prop_map(|(slot, requests, tokens)| Step::Settle { slot, requests, tokens }),
        1 => (0..6_usize).prop_map(|slot| Step::Drop { slot }),
        1 => (1..20_000_i64).prop_map(|seconds| Step::Later { seconds }),
    ]
}

/// What is known of a call: its claims, its window, and what it holds.
#[derive(Clone, Debug)]
struct Known {
    names: Vec<u8>,
    end_s: i64,
    requests: u64,
    tokens: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The ledger agrees with a list of all calls, and never starts one beyond a limit.
    #[test]
    fn it_agrees_with_a_list_of_calls(steps in prop::collection::vec(step(), 1..60)) {
        let ledger: Arc<Ledger> = Arc::default();
        let mut now_s = NOW;
        let mut calls: BTreeMap<usize, (Reservation, Known)> = BTreeMap::new();
        let mut past: Vec<Known> = Vec::new();
        for step in steps {
            match step {
                Step::Later { seconds } => now_s += seconds,
                Step::Drop { slot } => drop(calls.remove(&slot)),
                Step::Settle { slot, requests, tokens } => {
                    if let Some((mut call, known)) = calls.remove(&slot) {
                        call.settle(requests, tokens);
                        past.push(Known { requests, tokens, ..known });
                    }
                }
                Step::Extend { slot, tokens } => {
                    if let Some((call, known)) = calls.get_mut(&slot) {
                        let granted = call.extend(tokens);
                        prop_assert!(granted <= tokens);
                        known.tokens += granted;
                        prop_assert_eq!(call.tokens(), known.tokens);
                    }
                }
                Step::Reserve { slot, claims, min, tokens } => {
                    if calls.contains_key(&slot) {
                        continue;
                    }
                    let end_s = Window::Daily.span(now_s).end_s;
                    let taken = |name: u8| {
                        let all = calls.values().map(|(_, known)| known).chain(&past);
                        let counts = all.filter(|known| known.end_s == end_s && known.names.contains(&name));
                        counts.fold((0, 0), |(r, t), known| (r + known.requests, t + known.tokens))
                    };
                    let mut fits = true;
                    let mut expected = tokens;
                    for (name, requests_max, tokens_max) in &claims {
                        let (requests, tokens) = taken(*name);
                        fits &= *requests_max == 0 || requests < *requests_max;
                        fits &= *tokens_max == 0 || tokens + min <= *tokens_max;
                        if *tokens_max > 0 {
                            expected = expected.min(tokens_max.saturating_sub(tokens));
                        }
                    }
                    let asked = claims.iter().map(|(name, r, t)| claim(*name, *r, *t)).collect();
                    let got = Reservation::new(Arc::clone(&ledger) as _, asked, need(min, tokens), now_s);
                    prop_assert_eq!(got.is_ok(), fits);
                    if let Ok(call) = got {
                        prop_assert_eq!(call.tokens(), expected);
                        let names = claims.iter().map(|(name, ..)| *name).collect();
                        calls.insert(slot, (call, Known { names, end_s, requests: 1, tokens: expected }));
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_taken_leaves_calls_in_flight_out() {
    let ledger: Arc<Ledger> = Arc::default();
    let claim = claim(1, 10, 1000);
    let taken = || ledger.taken(&claim, NOW).map(|taken| (taken.requests, taken.tokens));
    assert_eq!(taken(), None);
    let reserve = || Reservation::new(Arc::clone(&ledger) as _, vec![claim], need(10, 60), NOW).unwrap();
    let (mut first, mut second, third) = (reserve(), reserve(), reserve());
    assert_eq!(taken(), Some((0, 0)));
    assert_eq!(first.extend(40), 40);
    first.settle(1, 30);
    assert_eq!(taken(), Some((1, 30)));
    // The last word counts.
    first.settle(1, 35);
    second.settle(0, 0);
    assert_eq!(taken(), Some((1, 35)));
    drop(third);
    drop(second);
    assert_eq!(taken(), Some((1, 35)));
    let span = Window::Daily.span(NOW);
    ledger.load(claim.bucket, span.end_s, 2, 5);
    assert_eq!(ledger.taken(&claim, NOW).map(|taken| (taken.span, taken.requests)), Some((span, 3)));
    assert_eq!(ledger.taken(&claim, span.end_s), None, "that window is over");
}
