//! What a start makes of a log that was left in the middle of things.

use audit::event::{Outcome, hex, leaf_hash};
use audit::log::{AuditLog, Record};
use audit::outbox::Outbox;
use store::Store;

use crate::events::{crash, open, parse, read_all, request, serve};

#[tokio::test]
async fn open_decisions_are_closed_as_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    store.cursor("datadog").await.unwrap();
    serve(&store, "done").await;
    let mut texts = Vec::new();
    for user in ["ann", "ben"] {
        let mut request = request(user);
        store.append(request.decision()).unwrap().await.unwrap();
        request.event.decision = Some(policy::Decision::Rewrite);
        let Record::Decision { event_id, text } = request.decision() else { unreachable!() };
        texts.push((event_id, hex(&leaf_hash(&text))));
        store.append(Record::Decision { event_id, text }).unwrap().await.unwrap();
    }
    let left = dir.path().join("left.db");
    crash(&path, &left);

    let store = open(&left);
    assert_eq!(store.recovered(), 2);
    let events = store.read_after(1, 10, 1 << 20).await.unwrap();
    for (event, (id, hash)) in events.iter().map(parse).zip(&texts) {
        assert_eq!((&event.event_id, event.decision_hash.as_ref()), (id, Some(hash)));
        assert_eq!(event.request.unwrap().outcome, Some(Outcome::Interrupted));
        assert_eq!((event.usage, event.decision), (None, Some(policy::Decision::Rewrite)));
    }
    assert_eq!(events.len(), 2);
    // They are a destination's concern like any other.
    let cursor = store.cursor("datadog").await.unwrap();
    assert_eq!((cursor.start, cursor.position, *store.head().borrow()), (0, 0, 3));
    assert_eq!(store.reader().unwrap().verify().unwrap().decisions, 3);
    drop(store);
    assert_eq!(open(&left).recovered(), 0);
}

#[tokio::test]
async fn many_open_decisions_are_all_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let mut last = None;
    for at in 0..2500 {
        last = Some(store.append(request(&format!("user-{at}")).decision()).unwrap());
    }
    last.unwrap().await.unwrap();
    let left = dir.path().join("left.db");
    crash(&path, &left);
    let store = open(&left);
    assert_eq!(store.recovered(), 2500);
    let verified = store.reader().unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.decisions), (2500, 2500));
}

/// A start that read all of the history would not find it.
#[tokio::test]
async fn a_start_reads_on_from_the_last_mark() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let old = request("long stream").decision();
    store.append(old).unwrap().await.unwrap();
    for _ in 0..3 {
        let mut durable = Vec::new();
        for _ in 0..120 {
            let mut request = request(&"u".repeat(40_000));
            durable.push(store.append(request.decision()).unwrap());
            durable.push(store.append(request.closing()).unwrap());
        }
        for durable in durable {
            durable.await.unwrap();
        }
    }
    let young = request("young").decision();
    store.append(young).unwrap().await.unwrap();
    let left = dir.path().join("left.db");
    crash(&path, &left);

    let db = rusqlite::Connection::open(&left).unwrap();
    let mark: String =
        db.query_row("SELECT value FROM meta WHERE key = 'open'", [], |row| row.get(0)).unwrap();
    let mark: serde_json::Value = serde_json::from_str(&mark).unwrap();
    let (seq, decisions) = (mark["seq"].as_i64().unwrap(), mark["decisions"].as_i64().unwrap());
    assert!(seq >= 120, "marked at {seq}");
    let gone = db.execute("DELETE FROM batches WHERE last_seq < ?1", [seq]).unwrap()
        + db.execute("DELETE FROM decisions WHERE id > 1 AND id <= ?1", [decisions]).unwrap();
    assert!(gone > 1);
    drop(db);
    let store = open(&left);
    assert_eq!(store.recovered(), 2);
    let users: Vec<_> = store
        .read_after(360, 10, 1 << 20)
        .await
        .unwrap()
        .iter()
        .map(|event| parse(event).policy_user.unwrap())
        .collect();
    assert_eq!(users, ["long stream", "young"]);
}

#[tokio::test]
async fn a_copy_without_its_wal_is_the_log_up_to_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    serve(&store, "ann").await;
    store.close().await.unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("gateway.db-wal")).map_or(0, |file| file.len()), 0);
    let copy = dir.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(read_all(&Store::open_read_only(&copy).unwrap()).len(), 1);
}
