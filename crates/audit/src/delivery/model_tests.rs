//! The engine against chance: random answers, hangs, lost answers, crashes, restarts and a store that fails, checked
//! against what must hold at every step and at the end. Time is tokio's paused clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;

use super::backoff::Jitter;
use super::scripted::{Hand, Reply, Request, Scripted, crash, limits, start};
use super::*;
use crate::outbox::{Ahead, DeliveryState, Outbox as _};
use crate::testing::MemoryOutbox;

/// What happens around the engine.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Wait(u64),
    Crash,
    Shutdown(u64),
    FailWrites(bool),
    FailReads(bool),
    Reload,
    Replay,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..30_u64).prop_map(Step::Append),
        6 => (0..4_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Crash),
        1 => (0..2_000_u64).prop_map(Step::Shutdown),
        1 => any::<bool>().prop_map(Step::FailWrites),
        1 => any::<bool>().prop_map(Step::FailReads),
        1 => Just(Step::Reload),
        1 => Just(Step::Replay),
    ]
}

/// One in about thirty events is poison, never more than twenty in all: that many in a row would hold.
fn is_poison(seed: u64, seq: u64) -> bool {
    seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed) % 31 == 7
}

/// Answers by chance.
fn chance(seed: u64, body_events_max: usize) -> impl FnMut(&Request) -> Reply + Send + 'static {
    let mut random = Jitter::seeded(seed);
    let mut up_to =
        move |most: u64| u64::try_from(random.up_to(Duration::from_micros(most)).as_micros()).unwrap();
    move |request| {
        let after = Duration::from_millis(up_to(300));
        let kind = up_to(99);
        let reply = match kind {
            0..10 => Reply::retry("503"),
            10..14 => Reply::now(SendOutcome::Retry {
                after: Some(Duration::from_secs(up_to(20))),
                why: "429".into(),
            }),
            14..19 => Reply { arrived: true, ..Reply::retry("cut") },
            19..22 => return Reply { arrived: false, ..Reply::hang() },
            22..26 => Reply::hold("403"),
            26..36 => return partly(seed, request, up_to(u64::MAX >> 12)),
            36..46 => {
                let token = format!("{}-{}", request.seqs[0], up_to(u64::MAX >> 12));
                let clean = !request.seqs.iter().any(|seq| is_poison(seed, *seq));
                return if clean {
                    Reply::received(&token, Duration::from_secs(up_to(20)))
                } else {
                    Reply::rejected()
                };
            }
            _ if request.seqs.len() > body_events_max => Reply::too_large(),
            _ => well(seed, request),
        };
        let poisoned = request.seqs.iter().any(|seq| is_poison(seed, *seq));
        Reply { after, arrived: reply.arrived && !poisoned, ..reply }
    }
}

/// Poison dies, a third of the rest has to come again.
fn partly(seed: u64, request: &Request, chance: u64) -> Reply {
    let (dead, rest): (Vec<u64>, Vec<u64>) = request.seqs.iter().partition(|seq| is_poison(seed, **seq));
    let again = rest.into_iter().filter(|seq| is_poison(seed ^ chance, seq * 3)).collect();
    Reply::partial(again, &dead)
}

fn well(seed: u64, request: &Request) -> Reply {
    if request.seqs.iter().any(|seq| is_poison(seed, *seq)) { Reply::rejected() } else { Reply::ok() }
}

fn balanced(delivery: &Delivery<Scripted>, appended: u64) -> Result<DestinationStatus, TestCaseError> {
    let status = delivery.status().remove(0);
    prop_assert_eq!(status.accepted, appended);
    prop_assert_eq!(status.delivered + status.pending + status.dead, appended);
    Ok(status)
}

/// First tries go in the order of the chain, and no request flies beyond the limit.
fn in_order(requests: &[Request], position: u64, ahead: &[Ahead]) -> Result<(), TestCaseError> {
    let mut sent_to = position;
    for request in requests {
        for known in ahead {
            if known.settled && known.first <= sent_to + 1 {
                sent_to = sent_to.max(known.last);
            }
        }
        let (first, last) = (request.seqs[0], *request.seqs.last().unwrap());
        prop_assert!(first <= sent_to + 1, "{} was started before {}", first, sent_to + 1);
        prop_assert!(request.flying <= 4);
        sent_to = sent_to.max(last);
    }
    Ok(())
}

async fn run(
    steps: Vec<Step>,
    seed: u64,
    body_events_max: usize,
    keeps_bounds: bool,
) -> Result<(), TestCaseError> {
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    let hand = Hand::new(chance(seed, body_events_max));
    *hand.keeps_bounds.lock().unwrap() = keeps_bounds;
    let mut random = Jitter::seeded(!seed);
    hand.set_acks(move |_| match random.up_to(Duration::from_micros(9)).as_micros() {
        0 => Err("no answer".to_owned()),
        number => Ok(number > 5),
    });
    let record = Arc::clone(&hand.record);
    // INVARIANT under test: the cursor passes nothing that has neither arrived nor died.
    outbox.check_advances(move |position, dead| {
        let record = record.lock().unwrap();
        for seq in 1..=position {
            assert!(record.arrived.contains_key(&seq) || dead.contains(&seq), "{seq} is passed over");
        }
    });
    let mut appended = 0;
    let (mut run_position, mut run_requests) = (0, 0);
    let mut ahead = Vec::new();
    let mut delivery = start(&outbox, &hand, limits(10)).await;
    for step in steps {
        match step {
            Step::Append(count) => {
                appended += count;
                outbox.append(count);
            }
            Step::Wait(millis) => sleep(Duration::from_millis(millis)).await,
            Step::FailWrites(fail) => {
                outbox.fail_writes.store(fail, Ordering::SeqCst);
                // What could not be noted down is tried again batch by batch, each after a wait of its own.
                if fail && keeps_bounds {
                    run_requests = usize::MAX;
                }
            }
            Step::FailReads(fail) => outbox.fail_reads.store(fail, Ordering::SeqCst),
            Step::Reload => delivery.reload_secrets(),
            Step::Replay => {
                let before = hand.requests().len();
                // It may well fail: the store does.
                let replayed = delivery.replay("main", Selection::Dead).await;
                prop_assert!(replayed.is_ok() || outbox.fail_writes.load(Ordering::SeqCst));
                // Requests of a replay are not in the order of the chain.
                if before > 0 {
                    run_requests = usize::MAX;
                }
            }
            Step::Crash | Step::Shutdown(_) => {
                if let Step::Shutdown(grace) = step {
                    delivery.shutdown(Duration::from_millis(grace)).await;
                }
                crash(delivery).await;
                if run_requests != usize::MAX {
                    in_order(&hand.requests()[run_requests..], run_position, &ahead)?;
                }
                ahead = outbox.ahead_now("main");
                (run_position, run_requests) = (outbox.cursor_now("main").position, hand.requests().len());
                // As above: this run begins while nothing can be noted down.
                if keeps_bounds && outbox.fail_writes.load(Ordering::SeqCst) {
                    run_requests = usize::MAX;
                }
                delivery = start(&outbox, &hand, limits(10)).await;
            }
        }
        balanced(&delivery, appended)?;
    }
    outbox.fail_writes.store(false, Ordering::SeqCst);
    outbox.fail_reads.store(false, Ordering::SeqCst);
    hand.set(move |request| well(seed, request));
    hand.set_acks(|_| Ok(true));
    sleep(Duration::from_secs(600)).await;
    let status = balanced(&delivery, appended)?;
    prop_assert_eq!(status.pending, 0, "{:?}", status);
    prop_assert!(appended == 0 || status.state == DeliveryState::Running, "{:?}", status);
    let dead: BTreeSet<u64> = outbox.dead_now("main").into_iter().map(|letter| letter.seq).collect();
    let poison: BTreeSet<u64> = (1..=appended).filter(|seq| is_poison(seed, *seq)).collect();
    prop_assert_eq!(&dead, &poison);
    let arrived = hand.arrived();
    for seq in 1..=appended {
        prop_assert!(arrived.contains_key(&seq) != dead.contains(&seq), "{}", seq);
    }
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_lost_whatever_happens(
        steps in prop::collection::vec(step(), 1..40),
        seed in any::<u64>(),
        body_events_max in 1..12_usize,
        keeps_bounds in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps, seed, body_events_max, keeps_bounds))?;
    }
}
