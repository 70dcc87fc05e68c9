//! Events that are told once: whatever asks for them again, and whenever.

use audit::event::{AuditEvent, EventType};
use audit::log::{AuditLog, Mark};
use uuid::Uuid;

use crate::events::{crash, open, read_all};

fn event() -> AuditEvent {
    AuditEvent::blank(Uuid::now_v7(), EventType::Quota, format!("{:.3}", jiff::Timestamp::now()))
}

fn mark(key: u8, hours: i64) -> Mark {
    Mark { key: [key; 16], until_s: jiff::Timestamp::now().as_second() + hours * 3600 }
}

#[tokio::test]
async fn an_event_is_written_once_for_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let (one, other) = (mark(1, 1), mark(2, 1));
    // At once, so that some share a commit.
    let asked: Vec<_> = [one, one, other, one].map(|mark| store.append_once(mark, &event())).into();
    let mut told = Vec::new();
    for asked in asked {
        told.push(asked.await.unwrap());
    }
    assert_eq!(told, [true, false, true, false]);
    let left = dir.path().join("left.db");
    crash(&path, &left);
    let store = open(&left);
    assert!(!store.append_once(one, &event()).await.unwrap());
    assert!(store.append_once(Mark { until_s: one.until_s + 1, ..one }, &event()).await.unwrap());
    let reader = store.reader().unwrap();
    assert_eq!(read_all(&reader).len(), 3);
    assert_eq!(reader.verify().unwrap().events, 3);
    store.close().await.unwrap();
    assert!(store.append_once(mark(3, 1), &event()).await.is_err());
}

#[tokio::test]
async fn marks_that_are_over_leave() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    for key in 0..5 {
        assert!(store.append_once(mark(key, -1), &event()).await.unwrap());
    }
    store.append_once(mark(9, 1), &event()).await.unwrap();
    store.close().await.unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    let marks: i64 = db.query_row("SELECT count(*) FROM told_once", [], |row| row.get(0)).unwrap();
    assert_eq!(marks, 1);
}
