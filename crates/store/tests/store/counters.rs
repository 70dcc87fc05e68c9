//! Counters of quotas: they move with the closing records and never without them.

use audit::event::{BucketId, QuotaCharge, QuotaScope};
use audit::log::{AuditLog, Record};
use store::{QuotaCounter, Store};

use crate::events::{crash, open, request};

const DAY_S: i64 = 24 * 3600;

fn today_s() -> i64 {
    jiff::Timestamp::now().as_second() / DAY_S * DAY_S
}

fn charge(bucket: u8, start_s: i64, requests: u64, tokens: u64) -> QuotaCharge {
    let bucket = BucketId([bucket; 16]);
    QuotaCharge { scope: QuotaScope::User, bucket, start_s, end_s: start_s + DAY_S, requests, tokens }
}

fn counters(store: &Store, now_s: i64) -> Vec<(u8, u64, u64)> {
    let mut found = Vec::new();
    let mut add = |counter: QuotaCounter| {
        assert_eq!(counter.end_s - counter.start_s, DAY_S);
        found.push((counter.bucket.0[0], counter.requests, counter.tokens));
    };
    store.reader().unwrap().quota_counters(now_s, &mut add).unwrap();
    found
}

#[tokio::test]
async fn a_closing_record_raises_them_and_a_decision_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let start_s = today_s();
    for tokens in [10, 0, 5] {
        let mut request = request("ann");
        request.event.quota = vec![charge(1, start_s, 1, 100), charge(2, start_s, 1, 0)];
        store.append(request.decision()).unwrap().await.unwrap();
        request.event.quota = vec![charge(1, start_s, 1, tokens), charge(2, start_s, 1, 0)];
        // What goes with it tells of the same call.
        let beside = Record::event(&request.event);
        store.append_all(request.closing(), vec![beside]).unwrap().await.unwrap();
    }
    assert_eq!(counters(&store, start_s), [(1, 3, 15), (2, 3, 0)]);
    let mut refunded = request("ben");
    refunded.event.quota = vec![charge(3, start_s, 0, 0)];
    store.append(refunded.decision()).unwrap().await.unwrap();
    store.append(refunded.closing()).unwrap().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(counters(&open(&path), start_s), [(1, 3, 15), (2, 3, 0)]);
}

#[tokio::test]
async fn what_an_interrupted_call_held_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let start_s = today_s();
    let mut request = request("ann");
    for tokens in [70, 40] {
        request.event.quota = vec![charge(1, start_s, 1, tokens)];
        store.append(request.decision()).unwrap().await.unwrap();
    }
    assert_eq!(counters(&store, start_s), []);
    let left = dir.path().join("left.db");
    crash(&path, &left);
    for recovered in [1, 0] {
        let store = open(&left);
        assert_eq!(store.recovered(), recovered);
        assert_eq!(counters(&store, start_s), [(1, 1, 40)]);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn windows_that_are_over_leave() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let start_s = today_s();
    store.close().await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    for at in 0..600_i64 {
        let mut bucket = [7; 16];
        bucket[..8].copy_from_slice(&at.to_le_bytes());
        let row = rusqlite::params![start_s, bucket, start_s - DAY_S];
        db.execute("INSERT INTO quota_counters VALUES(?1, ?2, ?3, 1, 1)", row).unwrap();
    }
    drop(db);
    let store = open(&path);
    for left in [600 - 512, 0] {
        let mut late = request("ann");
        late.event.quota = vec![charge(1, start_s, 1, 1), charge(2, start_s - DAY_S, 1, 1)];
        store.append(late.decision()).unwrap().await.unwrap();
        store.append(late.closing()).unwrap().await.unwrap();
        assert_eq!(counters(&store, start_s - 1).len(), left + 1);
    }
    assert_eq!(counters(&store, start_s), [(1, 2, 2)]);
}
