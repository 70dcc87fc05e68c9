//! The log while it cannot be written: a full disk, a size limit, somebody else's lock, a removed file.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use audit::event::{AuditEvent, EventType};
use audit::log::{AppendError, AuditLog, Durable, LogHealth};
use audit::outbox::Outbox;
use store::{Store, StoreOptions};

use crate::events::{Request, head_reaches, open, options, parse, read_all, request, serve, standalone};

pub(crate) async fn health_is(store: &Store, wanted: fn(&LogHealth) -> bool) {
    store.health_watch().wait_for(wanted).await.unwrap();
}

pub(crate) fn is_blocked(health: &LogHealth) -> bool {
    matches!(health, LogHealth::Blocked(_))
}

fn gaps(store: &Store) -> Vec<AuditEvent> {
    let events = read_all(&store.reader().unwrap());
    events.iter().map(parse).filter(|event| event.event_type == EventType::Gap).collect()
}

/// Appends decisions until one is turned away. Returns those that were admitted.
pub(crate) async fn fill(store: &Store) -> Vec<Request> {
    let mut open = Vec::new();
    loop {
        let mut request = request(&"u".repeat(20_000));
        let durable = match store.append(request.decision()) {
            Ok(durable) => durable.await,
            Err(error) => Err(error),
        };
        match durable {
            Ok(()) => open.push(request),
            Err(AppendError::Blocked(_)) => return open,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Refuses one more at once, closes all that are open, lets `free` make room, and holds the log against the promise.
async fn blocks_and_recovers(store: &Arc<Store>, free: impl FnOnce()) {
    serve(store, "before").await;
    let mut open = fill(store).await;
    assert!(!open.is_empty());
    health_is(store, is_blocked).await;
    for _ in 0..3 {
        assert!(matches!(store.append(request("late").decision()), Err(AppendError::Blocked(_))));
    }
    assert!(matches!(store.append(standalone("late")), Err(AppendError::Blocked(_))));
    let closings: Vec<Durable> =
        open.iter_mut().map(|request| store.append(request.closing()).unwrap()).collect();

    free();
    for closing in closings {
        closing.await.unwrap();
    }
    health_is(store, |health| *health == LogHealth::Writable).await;
    // The filling one and the four.
    head_reaches(store, 1 + open.len() as u64 + 1).await;
    serve(store, "after").await;
    let gaps = gaps(store);
    assert_eq!(gaps.len(), 1);
    let gap = gaps[0].gap.as_ref().unwrap();
    assert_eq!((gap.refused, gap.served), (5, 0));
    assert_eq!(store.stats().refused, 5);
    let verified = store.reader().unwrap().verify().unwrap();
    assert_eq!(verified.events, 3 + open.len() as u64);
    assert_eq!(verified.decisions, 2 + open.len() as u64);
}

#[tokio::test]
async fn at_its_size_limit_it_refuses_and_goes_on_when_raised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = Store::open(&path, StoreOptions { file_bytes_max: Some(1 << 20), ..options() }).unwrap();
    blocks_and_recovers(&store, || {
        store.limit_file(None);
        store.probe();
    })
    .await;
    store.close().await.unwrap();
    assert_eq!(open(&path).recovered(), 0);
}

/// A disk of its own, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and why, where this user may not mount.
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(dir)),
            Ok(done) => {
                println!("no disk of its own: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(error) => {
                println!("no disk of its own: mount: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[tokio::test]
async fn on_a_full_disk_it_refuses_and_goes_on_when_freed() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![7; 18 << 20]).unwrap();
    let options = StoreOptions { ballast_bytes: 2 << 20, ..StoreOptions::default() };
    let path = disk.path().join("gateway.db");
    let ballast = disk.path().join("gateway.db.ballast");
    let store = Store::open(&path, options.clone()).unwrap();
    assert_eq!(store.problems(), [""; 0]);
    assert!(ballast.exists());
    blocks_and_recovers(&store, || {
        assert!(!ballast.exists(), "the ballast made room");
        std::fs::remove_file(&filler).unwrap();
    })
    .await;
    assert!(ballast.exists(), "the ballast is back");
    store.close().await.unwrap();
    drop(store);
    assert_eq!(Store::open(&path, options).unwrap().recovered(), 0);
}

#[tokio::test]
async fn the_ballast_lets_open_requests_finish_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(6) else { return };
    let options = StoreOptions { ballast_bytes: 2 << 20, ..StoreOptions::default() };
    let store = Store::open(disk.path().join("gateway.db"), options).unwrap();
    let mut open = fill(&store).await;
    for request in open.iter_mut().take(10) {
        // Nobody freed anything: it is the ballast's room.
        store.append(request.closing()).unwrap().await.unwrap();
    }
    assert!(is_blocked(&store.health()));
    assert_eq!(store.reader().unwrap().verify().unwrap().events, 10);
}

#[tokio::test]
async fn without_room_for_the_ballast_it_starts_and_says_so() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    let options = StoreOptions { ballast_bytes: 4 << 20, ..StoreOptions::default() };
    let store = Store::open(disk.path().join("gateway.db"), options).unwrap();
    assert!(store.problems()[0].contains("free at least 5 MiB"), "{:?}", store.problems());
    assert!(!disk.path().join("gateway.db.ballast").exists());
    serve(&store, "ann").await;
}

#[tokio::test]
async fn closings_that_found_no_room_are_interrupted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = Store::open(&path, StoreOptions { file_bytes_max: Some(512 << 10), ..options() }).unwrap();
    let mut open = fill(&store).await;
    let closings: Vec<Durable> =
        open.iter_mut().map(|request| store.append(request.closing()).unwrap()).collect();
    let error = store.close().await.unwrap_err().to_string();
    assert!(error.contains(&format!("{} closing records were not written", open.len())), "{error}");
    for closing in closings {
        assert!(matches!(closing.await, Err(AppendError::Blocked(_))));
    }
    drop(store);
    let store = crate::events::open(&path);
    assert_eq!(store.recovered(), open.len() as u64);
    assert_eq!(store.reader().unwrap().verify().unwrap().decisions, open.len() as u64);
}

#[tokio::test]
async fn a_full_queue_refuses_decisions_but_no_closing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = Store::open(&path, StoreOptions { queue_max: 4, ..options() }).unwrap();
    let mut served = request("open");
    store.append(served.decision()).unwrap().await.unwrap();
    // Nothing can be committed while somebody else writes.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        match store.append(standalone("ann")) {
            Ok(durable) => waiting.push(durable),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::QueueFull);
    let closing = store.append(served.closing()).unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    closing.await.unwrap();
    let admitted = waiting.len() as u64;
    for durable in waiting {
        durable.await.unwrap();
    }
    head_reaches(&store, admitted + 2).await;
    let gaps = gaps(&store);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].gap.as_ref().unwrap().refused, 1);
}

#[tokio::test]
async fn a_lock_held_elsewhere_blocks_until_released() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let mut served = request("open");
    store.append(served.decision()).unwrap().await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append(request("ann").decision()).unwrap().await.unwrap_err();
    assert!(matches!(&error, AppendError::Blocked(why) if why.contains("another program")), "{error}");
    let closing = store.append(served.closing()).unwrap();
    // The caller serves this one all the same, and says so.
    store.count_served_unrecorded();
    other.execute_batch("ROLLBACK").unwrap();
    closing.await.unwrap();
    head_reaches(&store, 2).await;
    let gap = gaps(&store)[0].gap.clone().unwrap();
    assert_eq!((gap.refused, gap.served), (0, 1));
    assert_eq!(store.health(), LogHealth::Writable);
}

#[tokio::test]
async fn a_later_decision_that_was_refused_does_not_break_the_chain_of_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let mut changed = request("open");
    store.append(changed.decision()).unwrap().await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    changed.event.decision = Some(policy::Decision::Refuse);
    let second = store.append(changed.decision()).unwrap();
    // The client went away before it was durable, so the closing record carries the second one's hash.
    let closing = store.append(changed.closing()).unwrap();
    assert!(matches!(second.await, Err(AppendError::Blocked(_))));
    other.execute_batch("ROLLBACK").unwrap();
    closing.await.unwrap();
    let verified = store.reader().unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.decisions), (1, 1));
}

#[tokio::test]
async fn a_removed_file_ends_the_log() {
    for suffix in ["", "-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.db");
        let store = open(&path);
        serve(&store, "ann").await;
        std::fs::remove_file(dir.path().join(format!("gateway.db{suffix}"))).unwrap();
        let error = store.append(request("ben").decision()).unwrap().await.unwrap_err();
        assert!(matches!(error, AppendError::Failed(_)), "{error}");
        assert!(store.failed().await.contains("was removed while the gateway ran"));
        assert!(matches!(store.append(standalone("late")), Err(AppendError::Failed(_))));
        assert!(matches!(store.health(), LogHealth::Failed(_)));
        assert!(store.cursor("datadog").await.is_err());
        assert!(store.close().await.is_err());
    }
}
