//! The Merkle tree beside the log: kept by the notary, carried on by retention, proven from.

use std::path::Path;
use std::sync::Arc;

use audit::delivery::SystemClock;
use audit::event::{AuditEvent, EventType};
use audit::log::{AuditLog, Record};
use audit::merkle::{Nodes, Peaks, root};
use audit::notary::{Notary, Signer, TreeStore};
use audit::note::SigningKey;
use audit::outbox::Outbox;
use audit::proof::{Proof, Proven};
use audit::verify::{Asked, Problem, Verified, stated_hash};
use store::{Reader, Store, VerifyFailure};
use tokio_util::sync::CancellationToken;

use crate::events::{crash, open, options, serve};

fn key() -> SigningKey {
    SigningKey::generate("test", &[1; 32]).unwrap().0
}

fn asked() -> Asked {
    Asked { keys: vec![key().public().clone()], ..Asked::default() }
}

/// A notary goes through what is there, and makes a checkpoint at its end.
async fn notarise(store: &Arc<Store>, records: u64) {
    let stop = CancellationToken::new();
    stop.cancel();
    let signer = Signer { key: key(), previous: None };
    let notary =
        Notary::new(Arc::clone(store) as _, Arc::clone(store) as _, Arc::new(SystemClock), Some(signer));
    notary.every(records, std::time::Duration::from_secs(60)).run(stop).await;
}

/// Many events in few commits.
async fn append_some(store: &Store, count: usize) {
    let mut last = None;
    for _ in 0..count {
        let event = AuditEvent::blank(
            uuid::Uuid::now_v7(),
            EventType::Admin,
            format!("{:.3}", jiff::Timestamp::now()),
        );
        last = Some(store.append(Record::event(&event)).unwrap());
    }
    if let Some(last) = last {
        last.await.unwrap();
    }
}

fn verify(path: &Path) -> Verified {
    Reader::open(path).unwrap().verify_asking(&asked()).unwrap()
}

/// The tree over what is there, from before the beginning on.
fn grown(reader: &Reader) -> Peaks {
    let mut tree = reader.anchor().unwrap().tree().unwrap();
    for event in reader.events_from(1) {
        tree.push(stated_hash(&event.unwrap().text).unwrap());
    }
    tree
}

#[tokio::test]
async fn checkpoints_are_recorded_kept_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    for _ in 0..7 {
        serve(&store, "ann").await;
    }
    append_some(&store, 700).await;
    notarise(&store, 300).await;
    let reader = store.reader().unwrap();
    let sizes: Vec<u64> = reader.checkpoints(None, 10).unwrap().iter().map(|one| one.size).collect();
    assert_eq!(sizes, [709, 600, 300]);
    assert_eq!(reader.checkpoints(Some(709), 1).unwrap()[0].size, 600);
    let newest = reader.checkpoint_of(709).unwrap().unwrap();
    let event = reader.events_from(710).next().unwrap().unwrap();
    let event: AuditEvent = serde_json::from_slice(&event.text).unwrap();
    let info = event.checkpoint.unwrap();
    assert_eq!((info.note, info.size), (newest.note, 709));
    let verified = verify(&path);
    assert_eq!((verified.checkpoints, verified.signed_seq, verified.decisions), (3, 709, 7));
    // A restart, and a crash, go on from there.
    drop(reader);
    store.close().await.unwrap();
    drop(store);
    let store = open(&path);
    append_some(&store, 5).await;
    notarise(&store, 300).await;
    let left = dir.path().join("crash.db");
    crash(&path, &left);
    let store = open(&left);
    append_some(&store, 5).await;
    notarise(&store, 300).await;
    let verified = verify(&left);
    assert_eq!((verified.checkpoints, verified.signed_seq), (5, 721));
    assert_eq!(store.load_tree().await.unwrap().tree.size(), 721);
}

#[tokio::test]
async fn what_is_rewritten_in_the_file_shows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    append_some(&store, 20).await;
    notarise(&store, 300).await;
    append_some(&store, 20).await;
    notarise(&store, 300).await;
    store.close().await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    // The tables beside the log vouch for nothing: they may be changed, and it holds.
    db.execute_batch("UPDATE checkpoints SET note = 'x'; UPDATE tree_tiles SET hash = x'00'; DELETE FROM meta WHERE key = 'tree'")
        .unwrap();
    assert_eq!(verify(&path).signed_seq, 41);
    db.execute("UPDATE batches SET body = replace(body, '— test ', '— rest ')", []).unwrap();
    let error = Reader::open(&path).unwrap().verify_asking(&asked()).unwrap_err();
    let VerifyFailure::Bad(error) = error else { panic!("{error}") };
    assert!(error.seq == 21 && matches!(error.problem, Problem::Hash { .. }), "{error}");
}

#[tokio::test]
async fn retention_carries_the_tree_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    append_some(&store, 600).await;
    notarise(&store, 250).await;
    for _ in 0..30 {
        append_some(&store, 3).await;
    }
    // Retention comes before the notary.
    let before = grown(&store.reader().unwrap());
    let retained = store.retain(0, &[]).await.unwrap();
    assert!(retained.events > 600, "{retained:?}");
    let reader = store.reader().unwrap();
    let anchor = reader.anchor().unwrap();
    assert_eq!(anchor.tree().unwrap().size(), retained.first_seq - 1);
    assert_eq!(grown(&reader), before);
    assert!(reader.checkpoints(None, 10).unwrap().iter().all(|one| one.size >= retained.first_seq - 1));
    append_some(&store, 20).await;
    notarise(&store, 250).await;
    let verified = verify(&path);
    assert_eq!((verified.checkpoints, verified.first_seq), (1, retained.first_seq));
    // A second time, across rows that were there the first time.
    append_some(&store, 300).await;
    append_some(&store, 1).await;
    store.retain(0, &[]).await.unwrap();
    append_some(&store, 4).await;
    notarise(&store, 250).await;
    assert!(verify(&path).signed_seq > 0);
    // Proofs of what is left, with what is gone in their hashes.
    let reader = store.reader().unwrap();
    let whole = grown(&reader);
    let mut nodes = reader.tree_nodes().unwrap();
    assert_eq!(root(&mut nodes, whole.size()).unwrap(), whole.root());
    let head = reader.checkpoints(None, 1).unwrap().remove(0);
    let mut proven = Proven::default();
    for seq in reader.anchor().unwrap().first_seq..=head.size {
        let proof =
            Proof::inclusion(&mut nodes, reader.chain().unwrap(), seq, (head.size, Some(head.note.clone())));
        proven.add(&proof.unwrap(), &[key().public().clone()]).unwrap();
    }
    assert!(proven.inclusions() > 4);
    let gone = Proof::inclusion(&mut nodes, reader.chain().unwrap(), 5, (head.size, None)).unwrap_err();
    assert!(gone.to_string().contains("event 5 is not in the log, or no longer"), "{gone}");
}

#[tokio::test]
async fn proofs_come_from_tiles_and_rows_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    for count in [1, 300, 255, 40, 700] {
        append_some(&store, count).await;
        notarise(&store, 10_000).await;
    }
    append_some(&store, 30).await;
    let reader = store.reader().unwrap();
    let sizes: Vec<u64> = reader.checkpoints(None, 10).unwrap().iter().map(|one| one.size).collect();
    let head = reader.head().unwrap();
    let mut nodes = reader.tree_nodes().unwrap();
    let mut tree = Peaks::default();
    for (index, event) in reader.events_from(1).enumerate() {
        let hash = stated_hash(&event.unwrap().text).unwrap();
        assert_eq!(nodes.perfect(0, index as u64).unwrap(), hash);
        tree.push(hash);
        let size = index as u64 + 1;
        if sizes.contains(&size) || size == head {
            assert_eq!(root(&mut nodes, size).unwrap(), tree.root());
        }
    }
    for (from, to) in sizes.iter().rev().zip(sizes.iter().rev().skip(1)) {
        let note = |size: u64| Some(reader.checkpoint_of(size).unwrap().unwrap().note);
        let proof =
            Proof::consistency(&mut nodes, reader.chain().unwrap(), (*from, note(*from)), (*to, note(*to)))
                .unwrap();
        proof.check(&[key().public().clone()]).unwrap();
    }
}

#[tokio::test]
async fn the_notary_follows_while_events_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = Store::open(&path, options()).unwrap();
    let stop = CancellationToken::new();
    let signer = Signer { key: key(), previous: None };
    let notary =
        Notary::new(Arc::clone(&store) as _, Arc::clone(&store) as _, Arc::new(SystemClock), Some(signer));
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(notary.every(100, std::time::Duration::from_secs(60)).run(stop.clone()));
    let mut head = store.head();
    for _ in 0..20 {
        append_some(&store, 50).await;
    }
    head.wait_for(|head| *head >= 1010).await.unwrap();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let verified = verify(&path);
    assert!(verified.checkpoints >= 10, "{verified:?}");
    // Nothing but checkpoints is left unsigned: how many came after the last request depends on how far behind it was.
    for event in Reader::open(&path).unwrap().events_from(verified.signed_seq + 1) {
        let stored: serde_json::Value = serde_json::from_slice(&event.unwrap().text).unwrap();
        assert_eq!(stored["event_type"], "checkpoint", "{stored}");
    }
}
