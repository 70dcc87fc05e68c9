//! What somebody does to the file shows.

use audit::verify::Problem;
use store::{Reader, Store, StoreError, VerifyFailure};

use crate::events::{open, options, serve};

/// A store of ten requests, changed by `sql`.
async fn changed(sql: &str) -> (tempfile::TempDir, Result<audit::verify::Verified, VerifyFailure>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    for _ in 0..10 {
        serve(&store, "mallory").await;
    }
    store.close().await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    assert!(db.execute(sql, []).unwrap() > 0);
    drop(db);
    let result = Reader::open(&path).unwrap().verify();
    (dir, result)
}

fn first_bad(result: Result<audit::verify::Verified, VerifyFailure>) -> (u64, Problem) {
    match result.unwrap_err() {
        VerifyFailure::Bad(error) => (error.seq, error.problem),
        VerifyFailure::Store(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_changed_event_is_found() {
    let sql = "UPDATE batches SET body = replace(body, 'mallory', 'alice') WHERE first_seq = 4";
    let (_dir, result) = changed(sql).await;
    assert!(matches!(first_bad(result), (4, Problem::Hash { .. })));
}

#[tokio::test]
async fn a_removed_event_is_found() {
    let (_dir, result) = changed("DELETE FROM batches WHERE first_seq = 4").await;
    assert!(matches!(first_bad(result), (4, Problem::Seq { found: 5, wanted: 4 })));
}

#[tokio::test]
async fn a_removed_beginning_is_found() {
    let (_dir, result) = changed("DELETE FROM batches WHERE first_seq <= 4").await;
    assert!(matches!(first_bad(result), (1, Problem::Seq { found: 5, wanted: 1 })));
}

#[tokio::test]
async fn a_changed_decision_record_is_found() {
    let sql = "UPDATE decisions SET body = replace(body, 'mallory', 'alice') WHERE id = 4";
    let (_dir, result) = changed(sql).await;
    assert!(matches!(first_bad(result), (4, Problem::Decision { .. })));
}

#[tokio::test]
async fn a_removed_decision_record_is_found() {
    let (_dir, result) = changed("DELETE FROM decisions WHERE id = 4").await;
    assert!(matches!(first_bad(result), (4, Problem::Decision { .. })));
}

#[tokio::test]
async fn nothing_is_chained_onto_a_changed_head() {
    let sql = "UPDATE batches SET body = replace(body, 'mallory', 'alice') WHERE first_seq = 10";
    let (dir, _) = changed(sql).await;
    let error = Store::open(dir.path().join("gateway.db"), options()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore from a backup"), "{error}");
}
