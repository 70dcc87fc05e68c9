//! What `Outbox` promises.

use audit::log::AuditLog;
use audit::outbox::{Advance, Ahead, DeadLetter, DeliveryState, Outbox, OutboxError};
use store::Store;

use crate::events::{crash, open, seqs, serve, standalone};

async fn append(store: &Store, count: usize) {
    let mut last = None;
    for at in 0..count {
        last = Some(store.append(standalone(&format!("user-{at}"))).unwrap());
    }
    last.unwrap().await.unwrap();
}

fn letter(seq: u64) -> DeadLetter {
    DeadLetter { seq, reason: "too odd".to_owned(), text: format!("{{\"seq\":{seq}}}").into() }
}

#[tokio::test]
async fn reads_in_order_within_limits_from_memory_and_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    // The first read makes the store keep what is committed after it.
    assert_eq!(store.read_after(0, 10, 1000).await.unwrap(), []);
    for _ in 0..5 {
        append(&store, 7).await;
    }
    let from_memory = store.read_after(0, 100, 1 << 20).await.unwrap();
    assert_eq!(seqs(&from_memory), (1..=35).collect::<Vec<_>>());
    store.close().await.unwrap();
    drop(store);

    let store = open(&path);
    assert_eq!(store.read_after(0, 100, 1 << 20).await.unwrap(), from_memory);
    let mut after = 0;
    let mut read = Vec::new();
    loop {
        let some = store.read_after(after, 4, 1 << 20).await.unwrap();
        assert!(some.len() <= 4);
        let Some(last) = some.last() else { break };
        after = last.seq;
        read.extend(some);
    }
    assert_eq!(read, from_memory);
    assert_eq!(seqs(&store.read_after(30, 100, 1).await.unwrap()), [31]);
    assert_eq!(store.read_after(35, 10, 1000).await.unwrap(), []);
    assert_eq!(store.read_after(99, 10, 1000).await.unwrap(), []);
    // Across the border between the file and memory.
    append(&store, 3).await;
    assert_eq!(seqs(&store.read_after(33, 100, 1 << 20).await.unwrap()), [34, 35, 36, 37, 38]);
}

#[tokio::test]
async fn the_head_tells_of_new_events() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), 0);
    serve(&store, "ann").await;
    head.changed().await.unwrap();
    assert_eq!(*head.borrow_and_update(), 1);
    assert_eq!(store.read_after(0, 10, 1000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_destination_starts_at_the_head_and_keeps_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    append(&store, 3).await;
    let cursor = store.cursor("datadog").await.unwrap();
    assert_eq!((cursor.start, cursor.position, cursor.dead), (3, 3, 0));
    append(&store, 5).await;
    assert_eq!(store.cursor("datadog").await.unwrap(), cursor);
    let cursor = store.advance("datadog", Advance::to(5)).await.unwrap();
    assert_eq!((cursor.start, cursor.position), (3, 5));
    // Late and wild calls change nothing.
    assert_eq!(store.advance("datadog", Advance::to(4)).await.unwrap(), cursor);
    let cursor = store.advance("datadog", Advance::to(4000)).await.unwrap();
    assert_eq!(cursor.position, 8);
    store.report("datadog", DeliveryState::Held, Some("401".to_owned())).await.unwrap();
    let left = dir.path().join("left.db");
    crash(&path, &left);
    let cursor = open(&left).cursor("datadog").await.unwrap();
    assert_eq!((cursor.start, cursor.position), (3, 8));
    assert_eq!((cursor.state, cursor.last_error.as_deref()), (DeliveryState::Held, Some("401")));
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.cursors().unwrap(), [("datadog".to_owned(), cursor.clone())]);
    assert_eq!(reader.cursor("datadog").unwrap(), Some(cursor));
    assert_eq!(reader.cursor("splunk").unwrap(), None);
}

#[tokio::test]
async fn dead_letters_are_counted_once_and_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    store.cursor("datadog").await.unwrap();
    append(&store, 6).await;
    let cursor = store
        .advance("datadog", Advance { dead: vec![letter(2), letter(4)], ..Advance::to(4) })
        .await
        .unwrap();
    assert_eq!((cursor.position, cursor.dead), (4, 2));
    // The same again, as after an answer that got lost.
    assert_eq!(
        store
            .advance("datadog", Advance { dead: vec![letter(2), letter(4)], ..Advance::to(4) })
            .await
            .unwrap(),
        cursor
    );
    assert_eq!(store.dead_letters("datadog", 0, 10).await.unwrap(), [letter(2), letter(4)]);
    assert_eq!(store.dead_letters("datadog", 2, 10).await.unwrap(), [letter(4)]);
    assert_eq!(store.dead_letters("datadog", 0, 1).await.unwrap(), [letter(2)]);
    assert_eq!(store.dead_letters("splunk", 0, 10).await.unwrap(), []);
    let cursor = store.resolve_dead("datadog", vec![2, 3, 2]).await.unwrap();
    assert_eq!((cursor.position, cursor.dead), (4, 1));
    drop(store);
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.dead_letters("datadog", 0, 10).unwrap(), [letter(4)]);
    assert_eq!(reader.cursors().unwrap()[0].1, cursor);
}

#[tokio::test]
async fn what_is_kept_ahead_outlives_a_crash_and_goes_with_the_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    store.cursor("splunk").await.unwrap();
    append(&store, 30).await;
    let ahead = |first, last, settled| Ahead { first, last, settled, skipped: u64::from(settled) };
    let (one, two, three) = (ahead(1, 10, false), ahead(11, 20, true), ahead(21, 30, false));
    store.keep_ahead("splunk", vec![one, two]).await.unwrap();
    store.keep_ahead("splunk", vec![three]).await.unwrap();
    store.keep_ahead("other", vec![one]).await.unwrap();
    assert_eq!(store.ahead("splunk").await.unwrap(), [one, two, three]);
    // Halves take the place of the whole.
    let halves = [ahead(21, 25, false), ahead(26, 30, false)];
    store.keep_ahead("splunk", vec![halves[0]]).await.unwrap();
    assert_eq!(store.ahead("splunk").await.unwrap(), [one, two, halves[0]]);
    store.keep_ahead("splunk", vec![halves[1]]).await.unwrap();
    let left = dir.path().join("left.db");
    crash(&path, &left);
    let store = open(&left);
    assert_eq!(store.ahead("splunk").await.unwrap(), [one, two, halves[0], halves[1]]);
    let cursor = store.advance("splunk", Advance { skipped: 3, ..Advance::to(20) }).await.unwrap();
    assert_eq!((cursor.position, cursor.skipped), (20, 3));
    assert_eq!(store.ahead("splunk").await.unwrap(), halves);
    assert_eq!(store.ahead("other").await.unwrap(), [one]);
    // The same again, as after an answer that got lost.
    assert_eq!(store.advance("splunk", Advance { skipped: 3, ..Advance::to(20) }).await.unwrap(), cursor);
    store.close().await.unwrap();
    drop(store);
    let store = open(&left);
    assert_eq!(store.cursor("splunk").await.unwrap(), cursor);
}

#[tokio::test]
async fn a_destination_without_a_cursor_cannot_advance() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    let error =
        store.advance("nobody", Advance { dead: vec![letter(1)], ..Advance::to(1) }).await.unwrap_err();
    assert!(matches!(&error, OutboxError::Store(why) if why.contains("`nobody`")), "{error}");
    store.resolve_dead("nobody", vec![1]).await.unwrap_err();
    assert_eq!(store.dead_letters("nobody", 0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    store.cursor("datadog").await.unwrap();
    store.close().await.unwrap();
    for result in [store.cursor("datadog").await, store.advance("datadog", Advance::to(1)).await] {
        assert!(result.unwrap_err().to_string().contains("it is closed"));
    }
}
