//! The engine against a scripted destination: waits, order, retries, holds, splits, dead letters, stores that fail, stops.
//! Time is tokio's paused clock, so a wait of hours takes no time and exact instants can be asserted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::scripted::{Hand, Reply, limits, one, outbox_with_cursor, start};
use super::*;
use crate::outbox::{DeliveryState, Outbox as _};
use crate::testing::{FakeClock, LogLines, MemoryOutbox, NOW_MS};

/// Long enough for everything that needs no repair from outside.
const A_WHILE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn events_wait_for_company_but_not_long() {
    let outbox = MemoryOutbox::new();
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let appended = Instant::now();
    outbox.append(2);
    sleep(Duration::from_millis(100)).await;
    outbox.append(1);
    hand.until(|record| record.arrived.len() == 3).await;
    let requests = hand.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].seqs, [1, 2, 3]);
    assert_eq!(requests[0].at - appended, Duration::from_millis(200));
    sleep(A_WHILE).await;
    assert_eq!(outbox.cursor_now("main").position, 3);
    let status = one(&delivery);
    assert_eq!((status.accepted, status.delivered, status.pending, status.requests), (3, 3, 0, 1));
    assert_eq!((status.state, status.lag_seconds), (DeliveryState::Running, 0.0));
}

#[tokio::test(start_paused = true)]
async fn events_from_before_the_destination_are_not_its_concern() {
    let outbox = MemoryOutbox::new();
    outbox.append(5);
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    outbox.append(1);
    sleep(A_WHILE).await;
    assert_eq!(hand.arrived().into_keys().collect::<Vec<_>>(), [6]);
    assert_eq!(one(&delivery).accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_goes_in_full_batches_without_waiting() {
    let outbox = outbox_with_cursor(25).await;
    let hand = Hand::new(|_| Reply::ok());
    let started = Instant::now();
    let _delivery = start(&outbox, &hand, limits(10)).await;
    hand.until(|record| record.arrived.len() == 25).await;
    assert_eq!(Instant::now(), started);
    assert_eq!(hand.requests().iter().map(|request| request.seqs.len()).collect::<Vec<_>>(), [10, 10, 5]);
}

#[tokio::test(start_paused = true)]
async fn batches_keep_to_the_bytes_too() {
    let outbox = outbox_with_cursor(10).await;
    let hand = Hand::new(|_| Reply::ok());
    let _delivery = start(&outbox, &hand, Limits { batch_bytes_max: 45, ..limits(10) }).await;
    sleep(A_WHILE).await;
    let sizes: Vec<_> = hand.requests().iter().map(|request| request.seqs.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 4), "{sizes:?}");
    assert_eq!(hand.arrived().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn batches_start_in_order_with_four_in_flight() {
    let outbox = outbox_with_cursor(100).await;
    let hand = Hand::new(|_| Reply { after: Duration::from_secs(1), ..Reply::ok() });
    let _delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let requests = hand.requests();
    assert_eq!(requests.iter().map(|request| request.flying).max(), Some(4));
    let firsts: Vec<_> = requests.iter().map(|request| request.seqs[0]).collect();
    assert!(firsts.is_sorted(), "{firsts:?}");
    assert_eq!(requests.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_cursor_waits_for_the_slowest_and_delivery_runs_only_so_far_ahead() {
    let outbox = outbox_with_cursor(1000).await;
    let hand = Hand::new(|request| match request.seqs[0] {
        1 => Reply { after: Duration::from_secs(9), ..Reply::ok() },
        _ => Reply::ok(),
    });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(8)).await;
    assert_eq!(outbox.cursor_now("main").position, 0);
    let arrived = hand.arrived();
    assert_eq!(arrived.len(), 150, "16 batches ahead of the cursor, the slow one included");
    assert_eq!(one(&delivery).pending, 1000);
    sleep(A_WHILE).await;
    assert_eq!(outbox.cursor_now("main").position, 1000);
    assert!(hand.arrived().values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_day_loses_nothing_and_retries_at_least_every_five_seconds() {
    let outbox = outbox_with_cursor(5).await;
    let hand = Hand::new(|_| Reply::retry("503"));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(60)).await;
    outbox.append(7);
    sleep(Duration::from_secs(86_400)).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.pending), (DeliveryState::Retrying, 12));
    assert_eq!(status.last_error.as_deref(), Some("503"));
    assert!(status.retries > 10_000);
    let firsts: Vec<_> = hand
        .requests()
        .into_iter()
        .filter(|request| request.seqs[0] == 1)
        .map(|request| request.at)
        .collect();
    assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] <= Duration::from_millis(5001)));
    assert_eq!(outbox.cursor_now("main").state, DeliveryState::Retrying);
    hand.set(|_| Reply::ok());
    sleep(Duration::from_secs(6)).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.delivered, status.pending), (DeliveryState::Running, 12, 0));
    assert_eq!(status.last_error, None);
    assert_eq!(outbox.cursor_now("main").state, DeliveryState::Running);
}

#[tokio::test(start_paused = true)]
async fn retry_after_holds_for_all_batches() {
    let outbox = outbox_with_cursor(40).await;
    let mut first = true;
    let hand = Hand::new(move |_| {
        if std::mem::take(&mut first) {
            let after = Some(Duration::from_secs(30));
            return Reply::now(SendOutcome::Retry { after, why: "429".into() });
        }
        Reply::ok()
    });
    let started = Instant::now();
    let _delivery = start(&outbox, &hand, Limits { concurrency: 1, ..limits(10) }).await;
    hand.until(|record| record.arrived.len() == 40).await;
    let at: Vec<_> = hand.requests().iter().map(|request| (request.at - started).as_secs()).collect();
    assert_eq!(at, [0, 30, 30, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_request_is_given_up_and_made_again() {
    let outbox = outbox_with_cursor(1).await;
    let mut hangs = 2;
    let hand = Hand::new(move |_| {
        hangs -= 1;
        if hangs >= 0 { Reply::hang() } else { Reply::ok() }
    });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    assert_eq!(hand.requests().len(), 3);
    assert_eq!(one(&delivery).delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_held_destination_alarms_once_is_probed_every_five_seconds_and_resumes() {
    let lines = LogLines::collect();
    let outbox = outbox_with_cursor(35).await;
    let hand = Hand::new(|_| Reply::hold("403: wrong key"));
    let started = Instant::now();
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(58)).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.pending, status.dead), (DeliveryState::Held, 35, 0));
    assert_eq!(status.last_error.as_deref(), Some("403: wrong key"));
    assert_eq!(outbox.cursor_now("main").state, DeliveryState::Held);
    let requests = hand.requests();
    // The first ones were under way before the first answer came.
    let probes: Vec<_> = requests
        .iter()
        .filter(|request| request.at > started)
        .map(|request| ((request.at - started).as_secs(), request.seqs[0], request.flying))
        .collect();
    assert_eq!(probes, (1..=11).map(|n| (n * 5, 1, 1)).collect::<Vec<_>>());
    assert_eq!(hand.record.lock().unwrap().reloads, 11, "the secret is read anew before each probe");
    assert_eq!(lines.count("destination held"), 1, "{}", lines.text());
    hand.set(|_| Reply::ok());
    hand.until(|record| record.arrived.len() == 35).await;
    assert_eq!((Instant::now() - started).as_secs(), 60);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one(&delivery).state, DeliveryState::Running);
    assert_eq!(lines.count("takes events again"), 1);
}

#[tokio::test(start_paused = true)]
async fn reloading_the_secrets_probes_at_once() {
    let outbox = outbox_with_cursor(1).await;
    let hand = Hand::new(|_| Reply::hold("403"));
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(1)).await;
    hand.set(|_| Reply::ok());
    let reloaded = Instant::now();
    delivery.reload_secrets();
    hand.until(|record| record.arrived.len() == 1).await;
    assert_eq!(Instant::now(), reloaded);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_anew_is_part_of_the_reason() {
    let outbox = outbox_with_cursor(1).await;
    let hand = Hand::new(|_| Reply::hold("403"));
    *hand.secret_fails.lock().unwrap() = true;
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(6)).await;
    let error = one(&delivery).last_error.unwrap();
    assert!(error.starts_with("403; reading the secret anew failed: "), "{error}");
    assert!(error.contains("POLICY_GATEWAY_NO_SUCH_KEY"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_halved_until_it_passes() {
    let outbox = outbox_with_cursor(64).await;
    let hand = Hand::new(|request| if request.seqs.len() > 5 { Reply::too_large() } else { Reply::ok() });
    let delivery = start(&outbox, &hand, limits(64)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(hand.arrived().len(), 64);
    assert!(hand.arrived().values().all(|times| *times == 1));
    let status = one(&delivery);
    assert_eq!((status.delivered, status.dead, status.state), (64, 0, DeliveryState::Running));
    // What it learned is not forgotten at once.
    let before = hand.requests().len();
    outbox.append(64);
    sleep(Duration::from_secs(1)).await;
    assert!(hand.requests().len() - before < 32, "{}", hand.requests().len() - before);
    assert_eq!(hand.arrived().len(), 128);
}

#[tokio::test(start_paused = true)]
async fn a_single_event_that_is_called_too_large_is_tried_again_for_ever() {
    let outbox = outbox_with_cursor(3).await;
    let hand = Hand::new(|request| if request.seqs.contains(&2) { Reply::too_large() } else { Reply::ok() });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(600)).await;
    let status = one(&delivery);
    assert_eq!((status.pending, status.delivered, status.dead), (2, 1, 0));
    assert_eq!(status.state, DeliveryState::Retrying);
    assert!(status.last_error.unwrap().contains("single event"));
    hand.set(|_| Reply::ok());
    sleep(Duration::from_secs(6)).await;
    assert_eq!(one(&delivery).delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_is_found_and_kept_as_a_dead_letter() {
    let outbox = outbox_with_cursor(1000).await;
    let hand = Hand::new(|request| if request.seqs.contains(&700) { Reply::rejected() } else { Reply::ok() });
    let delivery = start(&outbox, &hand, limits(1000)).await;
    sleep(A_WHILE).await;
    let dead = outbox.dead_now("main");
    assert_eq!(
        dead.iter().map(|letter| (letter.seq, letter.reason.as_str())).collect::<Vec<_>>(),
        [(700, "400")]
    );
    let arrived = hand.arrived();
    assert_eq!(arrived.len(), 999);
    assert!(arrived.values().all(|times| *times == 1));
    assert!(hand.requests().len() <= 22, "one bisection: {}", hand.requests().len());
    let status = one(&delivery);
    assert_eq!((status.accepted, status.delivered, status.dead, status.pending), (1000, 999, 1, 0));
    assert_eq!(status.state, DeliveryState::Running);
}

#[tokio::test(start_paused = true)]
async fn more_than_twenty_poison_events_in_a_row_hold_the_destination() {
    let outbox = outbox_with_cursor(50).await;
    let hand = Hand::new(|_| Reply::rejected());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.dead + status.pending), (DeliveryState::Held, 50));
    assert!(status.last_error.unwrap().contains("20 single events in a row"));
    let given_up = status.dead;
    assert!(given_up <= 20, "{given_up}");
    hand.set(|_| Reply::ok());
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.dead, status.delivered), (DeliveryState::Running, 20, 30));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_encoded_is_a_dead_letter_and_the_rest_goes_on() {
    let outbox = outbox_with_cursor(5).await;
    let hand = Hand::new(|_| Reply::ok());
    *hand.unfit.lock().unwrap() = vec![1, 3];
    let delivery = start(&outbox, &hand, Limits { concurrency: 1, ..limits(2) }).await;
    sleep(A_WHILE).await;
    assert_eq!(outbox.dead_now("main").iter().map(|letter| letter.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(one(&delivery).delivered, 3);
    *hand.unfit.lock().unwrap() = vec![6];
    outbox.append(1);
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!(
        (status.delivered, status.dead, status.pending),
        (3, 3, 0),
        "a batch of nothing but unfit events"
    );
}

#[tokio::test(start_paused = true)]
async fn a_held_destination_does_not_touch_another() {
    let outbox = MemoryOutbox::new();
    let (held, hanging, well) =
        (Hand::new(|_| Reply::hold("403")), Hand::new(|_| Reply::hang()), Hand::new(|_| Reply::ok()));
    let targets = vec![
        held.target("held", limits(10)),
        hanging.target("hanging", limits(10)),
        well.target("well", limits(10)),
    ];
    let store: Arc<MemoryOutbox> = Arc::clone(&outbox);
    let delivery =
        Delivery::start_targets(store, targets, FakeClock::at(NOW_MS), &TaskTracker::new()).await.unwrap();
    outbox.append(500);
    let appended = Instant::now();
    well.until(|record| record.arrived.len() == 500).await;
    assert!(Instant::now() - appended <= Duration::from_millis(200));
    sleep(Duration::from_secs(1)).await;
    let status = delivery.status();
    assert_eq!(status.iter().map(|status| status.pending).collect::<Vec<_>>(), [500, 500, 0]);
    assert_eq!(status[0].state, DeliveryState::Held);
}

#[tokio::test(start_paused = true)]
async fn every_try_is_encoded_for_its_own_time() {
    const HOUR_MS: i64 = 3_600_000;
    let outbox = outbox_with_cursor(1).await;
    let hand = Hand::new(|_| Reply::retry("503"));
    let clock = FakeClock::at(NOW_MS);
    let targets = vec![hand.target("main", limits(10))];
    let store: Arc<MemoryOutbox> = Arc::clone(&outbox);
    let shown: Arc<FakeClock> = Arc::clone(&clock);
    let _delivery = Delivery::start_targets(store, targets, shown, &TaskTracker::new()).await.unwrap();
    sleep(A_WHILE).await;
    clock.set(NOW_MS + 19 * HOUR_MS);
    let tries = hand.requests().len();
    hand.set(|_| Reply::ok());
    hand.until(|record| record.arrived.len() == 1).await;
    let begun = hand.record.lock().unwrap().begun.clone();
    assert_eq!(begun.len(), tries + 1);
    assert_eq!((begun[0], begun[tries]), (NOW_MS, NOW_MS + 19 * HOUR_MS));
}

#[tokio::test(start_paused = true)]
async fn lag_is_the_age_of_the_oldest_pending_event() {
    let outbox = outbox_with_cursor(3).await;
    let hand = Hand::new(|_| Reply::retry("503"));
    let clock = FakeClock::at(NOW_MS);
    let targets = vec![hand.target("main", limits(10))];
    let store: Arc<MemoryOutbox> = Arc::clone(&outbox);
    let shown: Arc<FakeClock> = Arc::clone(&clock);
    let delivery = Delivery::start_targets(store, targets, shown, &TaskTracker::new()).await.unwrap();
    sleep(A_WHILE).await;
    clock.set(NOW_MS + 90_500);
    assert_eq!(one(&delivery).lag_seconds, 90.5);
    hand.set(|_| Reply::ok());
    sleep(A_WHILE).await;
    assert_eq!(one(&delivery).lag_seconds, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_write_keeps_the_cursor_and_is_said() {
    let outbox = outbox_with_cursor(1000).await;
    outbox.fail_writes.store(true, Ordering::SeqCst);
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.delivered, status.pending), (0, 1000), "what is not durable is not delivered");
    assert_eq!(status.state, DeliveryState::Retrying);
    assert!(status.last_error.unwrap().contains("disk full"));
    outbox.fail_writes.store(false, Ordering::SeqCst);
    sleep(A_WHILE).await;
    assert_eq!(one(&delivery).delivered, 1000);
    assert!(hand.arrived().values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_read_is_asked_again() {
    let outbox = outbox_with_cursor(10).await;
    outbox.fail_reads.store(true, Ordering::SeqCst);
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    assert_eq!(one(&delivery).state, DeliveryState::Retrying);
    outbox.fail_reads.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(2)).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.delivered, status.last_error), (DeliveryState::Running, 10, None));
}

#[tokio::test(start_paused = true)]
async fn events_that_are_gone_are_not_passed_over() {
    let outbox = outbox_with_cursor(10).await;
    outbox.gone.store(5, Ordering::SeqCst);
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    let status = one(&delivery);
    assert_eq!((status.state, status.pending), (DeliveryState::Held, 10));
    assert_eq!(status.last_error.as_deref(), Some("events up to 5 are no longer in the log"));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_delivers_what_is_pending_without_lingering() {
    let outbox = MemoryOutbox::new();
    let hand = Hand::new(|_| Reply { after: Duration::from_millis(30), ..Reply::ok() });
    let delivery = start(&outbox, &hand, limits(10)).await;
    outbox.append(25);
    let stopped = Instant::now();
    let status = delivery.shutdown(Duration::from_secs(10)).await;
    assert_eq!(Instant::now() - stopped, Duration::from_millis(30));
    assert_eq!((status[0].delivered, status[0].pending), (25, 0));
    assert_eq!(outbox.cursor_now("main").position, 25);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_with_its_grace_and_the_next_start_goes_on() {
    let outbox = MemoryOutbox::new();
    let hand = Hand::new(|request| if request.seqs[0] == 1 { Reply::ok() } else { Reply::retry("503") });
    let delivery = start(&outbox, &hand, limits(10)).await;
    outbox.append(25);
    let stopped = Instant::now();
    let status = delivery.shutdown(Duration::from_secs(10)).await;
    assert_eq!(Instant::now() - stopped, Duration::from_secs(10));
    assert_eq!((status[0].delivered, status[0].pending), (10, 15));
    drop(delivery);
    hand.set(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one(&delivery).delivered, 25);
    assert_eq!(hand.arrived().len(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_held_destination() {
    let outbox = MemoryOutbox::new();
    let hand = Hand::new(|_| Reply::hold("403"));
    let delivery = start(&outbox, &hand, limits(10)).await;
    outbox.append(25);
    sleep(Duration::from_secs(1)).await;
    let stopped = Instant::now();
    let status = delivery.shutdown(Duration::from_secs(10)).await;
    assert_eq!(Instant::now(), stopped);
    assert_eq!(status[0].pending, 25);
}

#[tokio::test(start_paused = true)]
async fn the_state_of_the_last_run_is_shown_until_the_first_answer() {
    let outbox = outbox_with_cursor(5).await;
    outbox.report("main", DeliveryState::Held, Some("403".into())).await.unwrap();
    let hand = Hand::new(|_| Reply { after: Duration::from_secs(5), ..Reply::ok() });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one(&delivery).state, DeliveryState::Held);
    sleep(A_WHILE).await;
    assert_eq!((one(&delivery).state, one(&delivery).last_error), (DeliveryState::Running, None));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_replayed_and_settled() {
    let outbox = outbox_with_cursor(30).await;
    let hand = Hand::new(|request| {
        if request.seqs.iter().any(|seq| [3, 7, 20].contains(seq)) { Reply::rejected() } else { Reply::ok() }
    });
    let delivery = start(&outbox, &hand, limits(10)).await;
    sleep(A_WHILE).await;
    assert_eq!(one(&delivery).dead, 3);
    hand.set(|request| if request.seqs.contains(&7) { Reply::rejected() } else { Reply::ok() });
    let report = delivery.replay("main", Selection::Dead).await.unwrap();
    assert_eq!((report.delivered, report.resolved, &report.stopped), (2, 2, &None));
    assert_eq!(report.rejected, [Rejected { seq: 7, reason: "400".into() }]);
    let status = one(&delivery);
    assert_eq!((status.delivered, status.dead, status.accepted), (29, 1, 30));
    assert_eq!(hand.arrived().len(), 29);
}

#[tokio::test(start_paused = true)]
async fn a_range_is_replayed_over_retries_and_splits() {
    let outbox = outbox_with_cursor(100).await;
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(50)).await;
    sleep(A_WHILE).await;
    let mut tries = 0;
    hand.set(move |request| {
        tries += 1;
        match tries {
            1 | 3 => Reply::retry("503"),
            _ if request.seqs.len() > 20 => Reply::too_large(),
            _ => Reply::ok(),
        }
    });
    let report = delivery.replay("main", Selection::Range { from: 11, to: 90 }).await.unwrap();
    assert_eq!((report.delivered, report.resolved, report.last_seq), (80, 0, Some(90)));
    assert_eq!((report.stopped, report.rejected), (None, Vec::new()));
    let twice: Vec<_> =
        hand.arrived().into_iter().filter(|(_, times)| *times == 2).map(|(seq, _)| seq).collect();
    assert_eq!(twice, (11..=90).collect::<Vec<_>>());
    let status = one(&delivery);
    assert_eq!((status.delivered, status.accepted), (100, 100), "a replay moves no cursor");
}

#[tokio::test(start_paused = true)]
async fn a_replay_stops_where_nothing_will_pass_and_says_why() {
    let outbox = outbox_with_cursor(10).await;
    let hand = Hand::new(|_| Reply::ok());
    let delivery = start(&outbox, &hand, limits(5)).await;
    sleep(A_WHILE).await;
    hand.set(|_| Reply::hold("403"));
    let all = Selection::Range { from: 1, to: 10 };
    let report = delivery.replay("main", all).await.unwrap();
    assert_eq!((report.delivered, report.stopped.as_deref()), (0, Some("403")));
    hand.set(|_| Reply::retry("503"));
    let report = delivery.replay("main", all).await.unwrap();
    assert_eq!(report.stopped.as_deref(), Some("given up after 10 tries: 503"));
    assert!(matches!(delivery.replay("other", all).await, Err(ReplayError::Unknown(_))));
    let empty = Selection::Range { from: 5, to: 4 };
    assert!(matches!(delivery.replay("main", empty).await, Err(ReplayError::Range { .. })));
}
