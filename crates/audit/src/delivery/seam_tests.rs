//! The engine with destinations that judge event by event, acknowledge later, or name batches by their bounds; filters,
//! sampling and rates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::Decision;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::scripted::{Hand, Reply, Scripted, crash, limits, one, outbox_with_cursor, start};
use super::*;
use crate::event::{AuditEvent, EventType};
use crate::outbox::{Ahead, DeliveryState, Outbox as _};
use crate::testing::{FakeClock, MemoryOutbox, NOW_MS, example_event};

const A_WHILE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn of_a_body_that_is_judged_event_by_event_only_the_rest_is_sent_again() {
    let outbox = outbox_with_cursor(10).await;
    let mut tries = 0;
    let hand = Hand::new(move |_| {
        tries += 1;
        match tries {
            1 => Reply::partial(vec![3, 7], &[5]),
            2 => Reply::partial(vec![7], &[]),
            _ => Reply::ok(),
        }
    });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let sent: Vec<_> = hand.requests().into_iter().map(|request| request.seqs).collect();
    assert_eq!(sent, [(1..=10).collect(), vec![3, 7], vec![7]]);
    assert!(hand.requests().iter().all(|request| request.range == (1, 10)));
    let dead = outbox.dead_now("main");
    assert_eq!(dead.iter().map(|one| (one.seq, one.reason.as_str())).collect::<Vec<_>>(), [(5, "mapping")]);
    let status = one(&delivery);
    assert_eq!((status.delivered, status.dead, status.pending), (9, 1, 0));
    assert_eq!(status.state, DeliveryState::Running);
    assert!(hand.arrived().values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_takes_no_event_at_all_is_held_rather_than_given_everything_up() {
    let outbox = outbox_with_cursor(50).await;
    let hand = Hand::new(|request| Reply::partial(Vec::new(), &request.seqs));
    let delivery = start(&outbox, &hand, Limits { concurrency: 1, ..limits(50) }).await;
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.pending), (DeliveryState::Held, 50), "the cursor waits for the rest");
    assert!(status.last_error.unwrap().contains("20 single events in a row"));
    hand.set(|_| Reply::ok());
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.dead, status.delivered), (DeliveryState::Running, 20, 30));
}

#[tokio::test(start_paused = true)]
async fn a_partial_outcome_may_hold() {
    let outbox = outbox_with_cursor(4).await;
    let hand = Hand::new(|request| {
        let mut reply = Reply::partial(vec![*request.seqs.last().unwrap()], &[]);
        if let SendOutcome::Partial(partial) = &mut reply.outcome {
            (partial.then, partial.why) = (Then::Hold, "403".into());
        }
        reply
    });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(12)).await;
    assert_eq!(one(&delivery).state, DeliveryState::Held);
    let sent: Vec<_> = hand.requests().into_iter().map(|request| request.seqs).collect();
    assert_eq!(sent, [vec![1, 2, 3, 4], vec![4], vec![4]], "a probe every five seconds");
}

#[tokio::test(start_paused = true)]
async fn what_is_received_counts_once_it_is_safe() {
    let outbox = outbox_with_cursor(10).await;
    let hand = Hand::new(|request| Reply::received(&format!("t{}", request.seqs[0]), A_WHILE));
    hand.set_acks(|_| Ok(false));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(30)).await;
    let status = one(&delivery);
    assert_eq!((status.delivered, status.pending, status.state), (0, 10, DeliveryState::Running));
    assert_eq!(hand.requests().len(), 1, "nothing is sent again before its time");
    hand.set_acks(|token| Ok(token == "t1"));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(one(&delivery).delivered, 10);
    let asked = hand.record.lock().unwrap().confirms;
    sleep(A_WHILE).await;
    assert_eq!(hand.record.lock().unwrap().confirms, asked, "nobody asks once nothing waits");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_become_safe_in_time_is_sent_again() {
    let outbox = outbox_with_cursor(10).await;
    let mut tries = 0;
    let hand = Hand::new(move |_| {
        tries += 1;
        Reply::received(&format!("try {tries}"), Duration::from_secs(20))
    });
    hand.set_acks(|token| Ok(token == "try 3"));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(25)).await;
    assert!(one(&delivery).last_error.is_none(), "the second try was received");
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.delivered, status.retries, status.last_error), (10, 2, None));
    assert_eq!(status.state, DeliveryState::Running);
}

#[tokio::test(start_paused = true)]
async fn receipts_do_not_keep_the_next_batches_waiting() {
    let outbox = outbox_with_cursor(100).await;
    let hand = Hand::new(|request| Reply::received(&format!("t{}", request.seqs[0]), A_WHILE));
    hand.set_acks(|_| Ok(false));
    let _delivery = start(&outbox, &hand, Limits { concurrency: 1, ..limits(10) }).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(hand.requests().len(), 10, "all are under way though none is safe");
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_comes_out_of_order_outlives_a_crash() {
    let outbox = outbox_with_cursor(30).await;
    let hand = Hand::new(|request| Reply::received(&format!("t{}", request.seqs[0]), A_WHILE));
    hand.set_acks(|token| Ok(token == "t11"));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(outbox.ahead_now("main"), [Ahead { first: 11, last: 20, settled: true, skipped: 0 }]);
    assert_eq!(outbox.cursor_now("main").position, 0);
    crash(delivery).await;
    let before = hand.requests().len();
    hand.set_acks(|_| Ok(true));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    assert_eq!(one(&delivery).delivered, 30);
    let again: Vec<_> = hand.requests()[before..].iter().map(|request| request.range).collect();
    assert_eq!(again, [(1, 10), (21, 30)], "what is known to be there is not sent again");
    assert_eq!(hand.arrived()[&15], 1);
    assert!(outbox.ahead_now("main").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_keeps_word_of_acknowledgements_until_it_can() {
    let outbox = outbox_with_cursor(30).await;
    outbox.fail_writes.store(true, Ordering::SeqCst);
    let hand = Hand::new(|request| Reply::received(&format!("t{}", request.seqs[0]), A_WHILE * 10));
    hand.set_acks(|token| Ok(token == "t11"));
    let _delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    assert!(outbox.ahead_now("main").is_empty());
    outbox.fail_writes.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(outbox.ahead_now("main").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_is_asked_again_and_shown() {
    let outbox = outbox_with_cursor(5).await;
    let hand = Hand::new(|_| Reply::received("t", A_WHILE));
    hand.set_acks(|_| Err("no answer".to_owned()));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(5)).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.last_error.as_deref()), (DeliveryState::Retrying, Some("no answer")));
    hand.set_acks(|_| Ok(true));
    sleep(Duration::from_secs(5)).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.delivered, status.last_error), (DeliveryState::Running, 5, None));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_acknowledgements_within_its_grace() {
    let outbox = outbox_with_cursor(5).await;
    let hand = Hand::new(|_| Reply::received("t", A_WHILE));
    let asked = Instant::now();
    hand.set_acks(move |_| Ok(asked.elapsed() > Duration::from_secs(3)));
    let delivery = start(&outbox, &hand, limits(10)).await;
    let status = delivery.shutdown(Duration::from_secs(10)).await;
    assert_eq!((status[0].delivered, status[0].pending), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn bounds_are_durable_before_the_first_try_and_the_same_after_a_crash() {
    let outbox = outbox_with_cursor(35).await;
    let hand = Hand::new(|request| if request.range.0 == 1 { Reply::ok() } else { Reply::hang() });
    *hand.keeps_bounds.lock().unwrap() = true;
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(1)).await;
    let kept: Vec<_> = outbox.ahead_now("main").iter().map(|ahead| (ahead.first, ahead.last)).collect();
    assert_eq!(kept, [(11, 20), (21, 30), (31, 35)]);
    crash(delivery).await;
    outbox.append(100);
    hand.set(|_| Reply::ok());
    let before = hand.requests().len();
    // Other limits would make other batches of them.
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let ranges: Vec<_> = hand.requests()[before..].iter().map(|request| request.range).collect();
    assert_eq!(ranges[..3], [(11, 20), (21, 30), (31, 35)]);
    assert_eq!(ranges[3], (36, 45));
    assert_eq!(one(&delivery).delivered, 135);
    assert!(outbox.ahead_now("main").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_noted_down_is_not_sent() {
    let outbox = outbox_with_cursor(5).await;
    outbox.fail_writes.store(true, Ordering::SeqCst);
    let hand = Hand::new(|_| Reply::ok());
    *hand.keeps_bounds.lock().unwrap() = true;
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    assert!(hand.requests().is_empty());
    assert!(one(&delivery).last_error.unwrap().contains("noted down"));
    outbox.fail_writes.store(false, Ordering::SeqCst);
    sleep(A_WHILE).await;
    assert_eq!((hand.requests().len(), one(&delivery).delivered), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn halves_of_a_batch_get_bounds_of_their_own() {
    let outbox = outbox_with_cursor(8).await;
    let hand = Hand::new(|request| if request.seqs.len() > 4 { Reply::too_large() } else { Reply::hang() });
    *hand.keeps_bounds.lock().unwrap() = true;
    let delivery = start(&outbox, &hand, limits(8)).await;
    sleep(Duration::from_secs(1)).await;
    let kept: Vec<_> = outbox.ahead_now("main").iter().map(|ahead| (ahead.first, ahead.last)).collect();
    assert_eq!(kept, [(1, 4), (5, 8)]);
    crash(delivery).await;
    hand.set(|_| Reply::ok());
    let before = hand.requests().len();
    let _delivery = start(&outbox, &hand, limits(8)).await;
    sleep(A_WHILE).await;
    let ranges: Vec<_> = hand.requests()[before..].iter().map(|request| request.range).collect();
    assert_eq!(ranges, [(1, 4), (5, 8)]);
}

/// An event of this decision, in the order of `numbers`.
fn judged(number: u64, decision: Decision) -> AuditEvent {
    AuditEvent {
        event_id: Uuid::from_u64_pair(7, number),
        decision: Some(decision),
        reason_code: Some(decision.as_str().to_uppercase()),
        redactions: std::collections::BTreeMap::new(),
        ..example_event()
    }
}

async fn screened(
    outbox: &Arc<MemoryOutbox>,
    hand: &Hand,
    limits: Limits,
    screen: Screen,
) -> Delivery<Scripted> {
    let target = Target { screen, ..hand.target("main", limits) };
    let store: Arc<MemoryOutbox> = Arc::clone(outbox);
    Delivery::start_targets(store, vec![target], FakeClock::at(NOW_MS), &TaskTracker::new()).await.unwrap()
}

fn refusals() -> Screen {
    let decisions = Some(["refuse".to_owned()].into());
    Screen::new(Filters { decisions, ..Filters::default() }, None, None)
}

#[tokio::test(start_paused = true)]
async fn what_is_filtered_out_is_skipped_and_the_balance_holds() {
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    for number in 1..=100 {
        let decision = if number % 10 == 0 { Decision::Refuse } else { Decision::Allow };
        outbox.append_event(judged(number, decision));
    }
    let hand = Hand::new(|_| Reply::ok());
    let delivery = screened(&outbox, &hand, limits(10), refusals()).await;
    sleep(A_WHILE).await;
    assert_eq!(hand.arrived().into_keys().collect::<Vec<_>>(), (1..=10).map(|n| n * 10).collect::<Vec<_>>());
    let status = one(&delivery);
    assert_eq!((status.accepted, status.delivered, status.skipped, status.pending), (10, 10, 90, 0));
    assert_eq!(outbox.cursor_now("main").position, 100);
    assert!(hand.requests().len() <= 2, "bodies are not all but empty: {}", hand.requests().len());
    // Nothing but skipped events moves the cursor too, and sends nothing.
    let requests = hand.requests().len();
    outbox.append_event(judged(101, Decision::Allow));
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.accepted, status.skipped, status.pending), (10, 91, 0));
    assert_eq!(hand.requests().len(), requests);
}

#[tokio::test(start_paused = true)]
async fn skipped_events_are_counted_once_over_a_crash() {
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    for number in 1..=60 {
        let decision = if number % 2 == 0 { Decision::Refuse } else { Decision::Allow };
        outbox.append_event(judged(number, decision));
    }
    let hand = Hand::new(|request| if request.seqs.contains(&30) { Reply::hang() } else { Reply::ok() });
    let delivery = screened(&outbox, &hand, limits(5), refusals()).await;
    sleep(Duration::from_secs(2)).await;
    crash(delivery).await;
    hand.set(|_| Reply::ok());
    let delivery = screened(&outbox, &hand, limits(5), refusals()).await;
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.accepted, status.delivered, status.skipped), (30, 30, 30));
}

#[tokio::test(start_paused = true)]
async fn a_replay_leaves_out_what_delivery_leaves_out() {
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    for number in 1..=20 {
        let decision = if number % 2 == 0 { Decision::Refuse } else { Decision::Allow };
        outbox.append_event(judged(number, decision));
    }
    let hand = Hand::new(|_| Reply::ok());
    let delivery = screened(&outbox, &hand, limits(10), refusals()).await;
    sleep(A_WHILE).await;
    let report = delivery.replay("main", Selection::Range { from: 1, to: 20 }).await.unwrap();
    assert_eq!((report.delivered, report.skipped, report.stopped), (10, 10, None));
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_until_its_bodies_are_safe_and_judges_event_by_event() {
    let outbox = outbox_with_cursor(20).await;
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let mut tries = 0;
    hand.set(move |_| {
        tries += 1;
        if tries == 1 {
            Reply::partial(vec![2], &[4])
        } else {
            Reply::received(&format!("t{tries}"), A_WHILE)
        }
    });
    let report = delivery.replay("main", Selection::Range { from: 1, to: 20 }).await.unwrap();
    assert_eq!((report.delivered, report.stopped), (19, None));
    assert_eq!(report.rejected, [Rejected { seq: 4, reason: "mapping".into() }]);
    assert_eq!(hand.arrived()[&2], 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_for_a_backlog() {
    let outbox = outbox_with_cursor(100).await;
    let hand = Hand::new(|_| Reply::ok());
    let started = Instant::now();
    let rate = std::num::NonZeroU32::new(10);
    let _delivery = start(&outbox, &hand, Limits { rate, ..limits(50) }).await;
    hand.until(|record| record.arrived.len() == 100).await;
    let at: Vec<_> =
        hand.requests().iter().map(|one| ((one.at - started).as_secs(), one.seqs.len())).collect();
    assert_eq!(at, (0..10).map(|second| (second, 10)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_linger() {
    let outbox = MemoryOutbox::new();
    let hand = Hand::new(|_| Reply::ok());
    let _delivery = start(&outbox, &hand, Limits { linger: A_WHILE, ..limits(10) }).await;
    sleep(Duration::from_secs(1)).await;
    outbox.append(12);
    let appended = Instant::now();
    hand.until(|record| record.arrived.len() == 10).await;
    assert_eq!(Instant::now(), appended);
    hand.until(|record| record.arrived.len() == 12).await;
    assert_eq!(Instant::now() - appended, A_WHILE);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_type_goes_its_own_way() {
    let outbox = MemoryOutbox::new();
    outbox.cursor("main").await.unwrap();
    for event_type in [EventType::Checkpoint, EventType::Admin, EventType::Heartbeat] {
        outbox.append_event(AuditEvent::blank(Uuid::nil(), event_type, "2026-01-16T18:22:11.000Z".into()));
    }
    let hand = Hand::new(|_| Reply::ok());
    let _delivery = screened(&outbox, &hand, limits(10), refusals()).await;
    sleep(A_WHILE).await;
    assert_eq!(hand.arrived().into_keys().collect::<Vec<_>>(), [1, 3]);
}
