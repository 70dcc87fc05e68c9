//! Two events of one request, and what is kept of candidates.

use audit::event::{AuditEvent, EventType};
use audit::log::{AuditLog, LogHealth, Record};
use escalation::Tickets;
use escalation::tickets::{About, Sent};
use registry::{KeptRollout, RolloutStore, TakenBack, Told};
use store::{Store, StoreOptions};
use uuid::Uuid;

use crate::blocked::{fill, health_is, is_blocked};
use crate::events::{Request, open, options, parse, read_all, request, serve};

/// The closing record with a shadow's event.
fn both(request: &mut Request) -> (Record, Record) {
    let shadow = AuditEvent { event_id: Uuid::now_v7(), decision_hash: None, ..request.event.clone() };
    (request.closing(), Record::event(&shadow))
}

#[tokio::test]
async fn an_event_beside_a_closing_record_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    for user in ["a", "b", "c"] {
        let mut request = request(user);
        store.append(request.decision()).unwrap().await.unwrap();
        let (closing, shadow) = both(&mut request);
        store.append_all(closing, vec![shadow]).unwrap().await.unwrap();
    }
    let events: Vec<AuditEvent> = read_all(&store.reader().unwrap()).iter().map(parse).collect();
    let users: Vec<_> = events.iter().map(|event| event.policy_user.as_deref().unwrap()).collect();
    assert_eq!(users, ["a", "a", "b", "b", "c", "c"]);
    assert!(events.chunks(2).all(|pair| pair[0].event_id != pair[1].event_id));
    store.close().await.unwrap();
    assert_eq!(open(&path).recovered(), 0);
}

#[tokio::test]
async fn both_wait_out_a_blocked_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = Store::open(&path, StoreOptions { file_bytes_max: Some(1 << 20), ..options() }).unwrap();
    let mut open = fill(&store).await;
    health_is(&store, is_blocked).await;
    let mut first = open.remove(0);
    let (closing, shadow) = both(&mut first);
    let durable = store.append_all(closing, vec![shadow]).unwrap();
    store.limit_file(None);
    store.probe();
    durable.await.unwrap();
    health_is(&store, |health| *health == LogHealth::Writable).await;
    store.close().await.unwrap();
    let events = read_all(&Store::open_read_only(&path).unwrap());
    let own: Vec<_> =
        events.iter().map(parse).filter(|event| event.event_type == EventType::Enforcement).collect();
    assert_eq!(own.len(), 2);
    assert_eq!(own[0].event_id, first.id);
}

fn kept(digest: &str, taken_back: Option<TakenBack>) -> KeptRollout {
    KeptRollout { key: "p".to_owned(), digest: digest.to_owned(), taken_back, after_seq: 0 }
}

fn told(event: &AuditEvent) -> Told {
    Told { event: event.clone(), escalation_path: Some("review@example.com".to_owned()) }
}

#[tokio::test]
async fn a_candidate_is_kept_with_its_rollback_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    serve(&store, "before").await;
    store.keep(kept("d1", None), None).await.unwrap();
    let running = KeptRollout { after_seq: 1, ..kept("d1", None) };
    assert_eq!(store.reader().unwrap().rollouts().unwrap(), [running]);
    let taken_back = TakenBack { revision: 7, since_ms: -1, until_ms: i64::MAX };
    let event = AuditEvent::blank(Uuid::now_v7(), EventType::Rollback, "2026-01-16T18:22:11.000Z".to_owned());
    store.keep(kept("d1", Some(taken_back)), Some(told(&event))).await.unwrap();
    store.close().await.unwrap();
    // After a restart, with the event that told of it as its last.
    let store = open(&path);
    let reader = store.reader().unwrap();
    let after = KeptRollout { after_seq: 2, ..kept("d1", Some(taken_back)) };
    assert_eq!(reader.rollouts().unwrap(), std::slice::from_ref(&after));
    // Late news that it runs.
    store.keep(kept("d1", None), None).await.unwrap();
    assert_eq!(reader.rollouts().unwrap(), [after]);
    assert_eq!(parse(read_all(&reader).last().unwrap()).event_id, event.event_id);
    let notices = store.notices(10).await.unwrap();
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(notice.path, "review@example.com");
    assert_eq!(notice.about, About::Rollback(Box::new(event)));
    store.sent(notice.id, Sent::Yes).await.unwrap();
    assert_eq!(store.notices(10).await.unwrap(), []);
    store.keep(kept("d2", None), None).await.unwrap();
    assert_eq!(reader.rollouts().unwrap(), [KeptRollout { after_seq: 2, ..kept("d2", None) }]);
    store.forget("p".to_owned()).await.unwrap();
    store.forget("q".to_owned()).await.unwrap();
    assert_eq!(reader.rollouts().unwrap(), []);
}

#[tokio::test]
async fn what_cannot_be_told_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    store.close().await.unwrap();
    let event = AuditEvent::blank(Uuid::now_v7(), EventType::Rollback, "t".to_owned());
    assert!(store.keep(kept("d1", None), Some(told(&event))).await.is_err());
    assert!(store.keep(kept("d1", None), None).await.is_err());
    assert!(store.forget("p".to_owned()).await.is_err());
    assert_eq!(store.reader().unwrap().rollouts().unwrap(), []);
}
