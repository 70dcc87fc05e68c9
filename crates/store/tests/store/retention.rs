//! What retention deletes, and what it must not.

use audit::log::AuditLog;
use audit::outbox::{Advance, Outbox, OutboxError};
use store::{Retained, Store, StoreOptions};

use crate::events::{open, options, read_all, request, seqs, serve, standalone};

async fn served(store: &Store, count: usize) {
    for _ in 0..count {
        serve(store, "ann").await;
    }
}

#[tokio::test]
async fn what_somebody_still_needs_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    for destination in ["datadog", "splunk", "gone"] {
        store.cursor(destination).await.unwrap();
    }
    served(&store, 10).await;
    let named = ["datadog".to_owned(), "splunk".to_owned()];
    let nothing = Retained { events: 0, decision_rows: 9, tickets: 0, first_seq: 1 };
    store.advance("datadog", Advance::to(10)).await.unwrap();
    assert_eq!(store.retain(0, &named).await.unwrap(), nothing, "splunk has none yet");
    assert_eq!(store.retain(1, &[]).await.unwrap().events, 0, "nothing is a day old");

    store.advance("splunk", Advance::to(4)).await.unwrap();
    let retained = store.retain(0, &named).await.unwrap();
    assert_eq!((retained.events, retained.first_seq), (4, 5));
    let reader = store.reader().unwrap();
    assert_eq!(seqs(&read_all(&reader)), (5..=10).collect::<Vec<_>>());
    assert!(matches!(store.read_after(0, 10, 1000).await, Err(OutboxError::Gone(4))));
    let verified = reader.verify().unwrap();
    assert_eq!((verified.events, verified.first_seq, verified.is_anchored), (6, 5, true));

    store.advance("splunk", Advance::to(10)).await.unwrap();
    assert_eq!(store.retain(0, &named).await.unwrap().first_seq, 10, "the newest stays");
    store.close().await.unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(store.recovered(), 0);
    serve(&store, "ben").await;
    let verified = store.reader().unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.first_seq, verified.head_seq), (2, 10, 11));
    let unknown = ["nobody".to_owned()];
    assert_eq!(store.retain(0, &unknown).await.unwrap().events, 0, "it has nothing yet");
}

#[tokio::test]
async fn open_decisions_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    served(&store, 3).await;
    let mut open_request = request("slow");
    store.append(open_request.decision()).unwrap().await.unwrap();
    served(&store, 3).await;
    let retained = store.retain(0, &[]).await.unwrap();
    assert_eq!((retained.events, retained.decision_rows), (5, 3));
    store.append(open_request.closing()).unwrap().await.unwrap();
    let verified = store.reader().unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.decisions), (2, 2));
}

#[tokio::test]
async fn it_runs_by_itself_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let old = format!("{:.3}", jiff::Timestamp::now() - jiff::SignedDuration::from_hours(3 * 24));
    for _ in 0..5 {
        let mut request = request("ann");
        request.event.created_at.clone_from(&old);
        store.append(audit::log::Record::event(&request.event)).unwrap().await.unwrap();
    }
    store.append(standalone("now")).unwrap().await.unwrap();
    drop(store);
    let store = Store::open(&path, StoreOptions { retention_days: Some(2), ..options() }).unwrap();
    // The run that is asked for takes the other's place, or comes after it.
    store.retain(2, &[]).await.unwrap();
    assert_eq!(seqs(&read_all(&store.reader().unwrap())), [6]);
    assert_eq!(store.reader().unwrap().anchor().unwrap().first_seq, 6);
}
