//! What `AuditLog` promises.

use audit::log::{AppendError, AuditLog, LogHealth, Record};
use audit::outbox::Outbox;
use store::{Store, StoreError};
use uuid::Uuid;

use crate::events::{open, options, parse, read_all, request, seqs, serve, standalone};

#[tokio::test]
async fn what_was_appended_is_read_back_chained() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("new/gateway.db"));
    let ids = [serve(&store, "ann").await, serve(&store, "ben \"x\"\n").await];
    let events = store.read_after(0, 100, 1 << 20).await.unwrap();
    assert_eq!(seqs(&events), [1, 2]);
    assert_eq!(events.iter().map(|event| parse(event).event_id).collect::<Vec<_>>(), ids);
    assert_eq!(*store.head().borrow(), 2);
    let reader = store.reader().unwrap();
    assert_eq!(read_all(&reader), events);
    let verified = reader.verify().unwrap();
    assert_eq!((verified.events, verified.decisions, verified.is_anchored), (2, 2, true));
    assert_eq!(verified.chain, Some(reader.chain().unwrap()));
    let stats = store.stats();
    assert_eq!((stats.decisions, stats.events, stats.refused, stats.queued), (2, 2, 0, 0));
    assert_eq!(store.health(), LogHealth::Writable);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    for round in 1..=3 {
        let store = open(&path);
        assert_eq!(*store.head().borrow(), round - 1);
        serve(&store, "ann").await;
        store.close().await.unwrap();
        store.close().await.unwrap();
        assert_eq!(store.append(standalone("late")).unwrap_err(), AppendError::Closed);
    }
    let verified = Store::open_read_only(&path).unwrap().verify().unwrap();
    assert_eq!(verified.events, 3);
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let waiting: Vec<_> = (0..500).map(|_| store.append(standalone("ann")).unwrap()).collect();
    store.close().await.unwrap();
    for durable in waiting {
        durable.await.unwrap();
    }
    drop(store);
    assert_eq!(Store::open_read_only(&path).unwrap().verify().unwrap().events, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_appenders_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    let tasks = tokio_util::task::TaskTracker::new();
    for worker in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                serve(&store, &format!("user-{worker}")).await;
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    let stats = store.stats();
    assert_eq!((stats.decisions, stats.events), (1280, 1280));
    assert!(stats.commits < 1280, "{} commits", stats.commits);
    let reader = store.reader().unwrap();
    let verified = reader.verify().unwrap();
    assert_eq!((verified.events, verified.decisions), (1280, 1280));
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    serve(&store, "ann").await;
    let error = Store::open(&path, options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("stop that one first"), "{error}");
    assert_eq!(Store::open_read_only(&path).unwrap().head().unwrap(), 1);
    drop(store);
    open(&path);
}

#[tokio::test]
async fn only_our_files_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    assert!(matches!(Store::open_read_only(&path).unwrap_err(), StoreError::Missing { .. }));
    std::fs::write(&path, "not a database, but long enough to be looked at as one").unwrap();
    assert!(matches!(Store::open(&path, options()).unwrap_err(), StoreError::Foreign { .. }));
    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    assert!(matches!(Store::open(&other, options()).unwrap_err(), StoreError::Foreign { .. }));
    let newer = dir.path().join("newer.db");
    drop(open(&newer));
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Store::open(&newer, options()).unwrap_err(), StoreError::Newer { found: 99, .. }));
}

#[tokio::test]
async fn a_text_that_is_no_single_object_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    for text in ["", "{}", "[1]", "{\"a\":\n1}", "{\"a\":1"] {
        let record =
            Record::Event { event_id: Uuid::now_v7(), text: text.into(), charges: Vec::new(), spent: None };
        assert_eq!(store.append(record).unwrap_err(), AppendError::Malformed, "{text}");
    }
    assert_eq!(store.stats().refused, 0);
}

#[tokio::test]
async fn a_changed_decision_is_closed_by_its_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let mut request = request("ann");
    store.append(request.decision()).unwrap().await.unwrap();
    request.event.decision = Some(policy::Decision::Refuse);
    store.append(request.decision()).unwrap().await.unwrap();
    store.append(request.closing()).unwrap().await.unwrap();
    let verified = store.reader().unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.decisions), (1, 1));
    drop(store);
    assert_eq!(open(&path).recovered(), 0);
}

#[tokio::test]
async fn single_events_show_in_the_sqlite_shell() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let id = serve(&store, "ann").await;
    let db = rusqlite::Connection::open(&path).unwrap();
    let row: (i64, String, String) = db
        .query_row("SELECT seq, event_id, event ->> 'hash' FROM audit_events", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((row.0, row.1), (1, id.to_string()));
    assert_eq!(row.2, store.reader().unwrap().verify().unwrap().head_hash);
}
