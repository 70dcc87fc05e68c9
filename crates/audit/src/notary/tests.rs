use std::sync::Mutex;

use tokio::sync::watch;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::delivery::SystemClock;
use crate::note::Signed;
use crate::outbox::{Advance, Ahead, Cursor, DeadLetter, DeliveryState, StoredEvent};
use crate::verify::{Asked, Verifier};

/// A log and what is kept of its tree, in memory.
struct Memory {
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
}

struct Inner {
    events: Vec<StoredEvent>,
    kept: KeptTree,
    tiles: Vec<(u64, Hash)>,
    failures: usize,
    /// Events up to here are gone.
    gone: u64,
}

impl Memory {
    fn new() -> Arc<Self> {
        let kept = KeptTree { chain: Uuid::from_u128(7), tree: Peaks::default(), key: None };
        let inner = Inner { events: Vec::new(), kept, tiles: Vec::new(), failures: 0, gone: 0 };
        Arc::new(Self { inner: Mutex::new(inner), head: watch::Sender::new(0) })
    }

    fn append(&self, event: &AuditEvent) {
        let mut inner = self.inner.lock().unwrap();
        let seq = inner.events.len() as u64 + 1;
        let last = inner.events.last().map(|event| stated_hash(&event.text).unwrap());
        let text = String::from_utf8(event.to_json()).unwrap();
        let (chain, prev) = (inner.kept.chain, hex(&last.unwrap_or_default()));
        let unsealed = format!(
            r#"{},"chain":"{chain}","seq":{seq},"prev_hash":"{prev}"}}"#,
            text.strip_suffix('}').unwrap()
        );
        let hash = hex(&crate::event::leaf_hash(unsealed.as_bytes()));
        let text = format!(r#"{},"hash":"{hash}"}}"#, unsealed.strip_suffix('}').unwrap());
        inner.events.push(StoredEvent { seq, text: text.into_bytes().into() });
        self.head.send_replace(seq);
    }

    fn append_some(&self, count: u64) {
        for _ in 0..count {
            self.append(&AuditEvent::blank(
                Uuid::now_v7(),
                EventType::Admin,
                "2026-01-16T18:22:11.000Z".into(),
            ));
        }
    }

    fn checkpoints(&self) -> Vec<(AuditEvent, Checkpoint)> {
        let inner = self.inner.lock().unwrap();
        let events =
            inner.events.iter().map(|event| serde_json::from_slice::<AuditEvent>(&event.text).unwrap());
        events
            .filter_map(|event| {
                let note = event.checkpoint.as_ref()?.note.clone();
                Some((event, Checkpoint::parse(&note).unwrap()))
            })
            .collect()
    }

    fn verify(&self, keys: &[&SigningKey]) -> crate::verify::Verified {
        let keys = keys.iter().map(|key| key.public().clone()).collect();
        let mut verifier = Verifier::asking(Asked { keys, ..Asked::default() });
        for event in &self.inner.lock().unwrap().events {
            verifier.event(&event.text).unwrap();
        }
        verifier.finish().unwrap()
    }
}

impl Outbox for Memory {
    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn read_after(
        &self,
        after: u64,
        events_max: usize,
        _bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, OutboxError>> {
        let inner = self.inner.lock().unwrap();
        let read = if after < inner.gone {
            Err(OutboxError::Gone(inner.gone))
        } else {
            Ok(inner.events.iter().skip(after as usize).take(events_max).cloned().collect())
        };
        Box::pin(std::future::ready(read))
    }

    fn cursor<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        unreachable!()
    }

    fn advance<'a>(&'a self, _: &'a str, _: Advance) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        unreachable!()
    }

    fn keep_ahead<'a>(&'a self, _: &'a str, _: Vec<Ahead>) -> BoxFuture<'a, Result<(), OutboxError>> {
        unreachable!()
    }

    fn ahead<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Ahead>, OutboxError>> {
        unreachable!()
    }

    fn report<'a>(
        &'a self,
        _: &'a str,
        _: DeliveryState,
        _: Option<String>,
    ) -> BoxFuture<'a, Result<(), OutboxError>> {
        unreachable!()
    }

    fn dead_letters<'a>(
        &'a self,
        _: &'a str,
        _: u64,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, OutboxError>> {
        unreachable!()
    }

    fn resolve_dead<'a>(&'a self, _: &'a str, _: Vec<u64>) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        unreachable!()
    }
}

impl TreeStore for Memory {
    fn load_tree(&self) -> BoxFuture<'_, Result<KeptTree, OutboxError>> {
        let kept = self.inner.lock().unwrap().kept.clone();
        Box::pin(async move { Ok(kept) })
    }

    fn keep_tree(&self, step: TreeStep) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            {
                let mut inner = self.inner.lock().unwrap();
                if inner.failures > 0 {
                    inner.failures -= 1;
                    return Err(OutboxError::Store("not now".to_owned()));
                }
                inner.kept.tree = step.tree;
                inner.tiles.extend(step.tiles);
                let key = step.checkpoint.as_ref().and_then(|event| event.checkpoint.as_ref());
                if let Some(info) = key {
                    inner.kept.key = Some(info.public_key.clone());
                }
            }
            if let Some(event) = step.checkpoint {
                self.append(&event);
            }
            Ok(())
        })
    }
}

fn key(byte: u8) -> SigningKey {
    SigningKey::generate("prod", &[byte; 32]).unwrap().0
}

fn signer(byte: u8) -> Option<Signer> {
    Some(Signer { key: key(byte), previous: None })
}

/// Runs a notary over what is there, as far as to a stop.
async fn run_through(memory: &Arc<Memory>, signer: Option<Signer>, records: u64) {
    let stop = CancellationToken::new();
    stop.cancel();
    let notary = Notary::new(Arc::clone(memory) as _, Arc::clone(memory) as _, Arc::new(SystemClock), signer);
    notary.every(records, INTERVAL).run(stop).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_a_checkpoint_of_all_there_is() {
    let memory = Memory::new();
    memory.append_some(5);
    run_through(&memory, signer(1), 100).await;
    let made = memory.checkpoints();
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].1.statement.size, made[0].1.note.signed_by(key(1).public())), (5, Signed::Yes));
    assert_eq!(memory.verify(&[&key(1)]).signed_seq, 5);
    // Nothing new, nothing signed.
    run_through(&memory, signer(1), 100).await;
    assert_eq!(memory.checkpoints().len(), 1);
    memory.append_some(1);
    run_through(&memory, signer(1), 100).await;
    assert_eq!(memory.checkpoints()[1].1.statement.size, 7);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_after_so_many_events_and_tiles_are_kept() {
    let memory = Memory::new();
    memory.append_some(1000);
    run_through(&memory, signer(1), 300).await;
    let sizes: Vec<u64> = memory.checkpoints().iter().map(|(_, made)| made.statement.size).collect();
    assert_eq!(sizes, [300, 600, 900, 1003]);
    let verified = memory.verify(&[&key(1)]);
    assert_eq!((verified.checkpoints, verified.signed_seq), (4, 1003));
    let inner = memory.inner.lock().unwrap();
    let numbers: Vec<u64> = inner.tiles.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let mut tile = Peaks::default();
    inner.events[256..512].iter().for_each(|event| tile.push(stated_hash(&event.text).unwrap()));
    assert_eq!(inner.tiles[1].1, tile.root());
}

#[tokio::test(start_paused = true)]
async fn there_is_one_a_minute_while_something_happens() {
    let memory = Memory::new();
    let stop = CancellationToken::new();
    let notary =
        Notary::new(Arc::clone(&memory) as _, Arc::clone(&memory) as _, Arc::new(SystemClock), signer(1));
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(notary.run(stop.clone()));
    let mut head = memory.head.subscribe();
    sleep(Duration::from_secs(600)).await;
    memory.append_some(3);
    let begun = Instant::now();
    head.wait_for(|head| *head == 4).await.unwrap();
    let waited = begun.elapsed();
    assert!((INTERVAL..INTERVAL + Duration::from_secs(1)).contains(&waited), "{waited:?}");
    // Quiet for an hour: a checkpoint of a checkpoint would say nothing.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(*head.borrow_and_update(), 4);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    assert_eq!(memory.checkpoints().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_kept_is_tried_again() {
    let memory = Memory::new();
    memory.inner.lock().unwrap().failures = 3;
    let stop = CancellationToken::new();
    let notary =
        Notary::new(Arc::clone(&memory) as _, Arc::clone(&memory) as _, Arc::new(SystemClock), signer(1));
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(notary.every(10, INTERVAL).run(stop.clone()));
    memory.append_some(25);
    let mut head = memory.head.subscribe();
    head.wait_for(|head| *head == 27).await.unwrap();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let sizes: Vec<u64> = memory.checkpoints().iter().map(|(_, made)| made.statement.size).collect();
    assert_eq!(sizes, [10, 20, 27]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_from_what_was_kept() {
    let memory = Memory::new();
    for round in 0..20_u64 {
        memory.append_some(round * 7 % 30);
        run_through(&memory, signer(1), 16).await;
    }
    assert_eq!(memory.verify(&[&key(1)]).checkpoints, memory.checkpoints().len() as u64);
    // Retention went past what was kept, and kept the tree itself.
    memory.append_some(40);
    {
        let mut inner = memory.inner.lock().unwrap();
        let gone = inner.events.len() as u64 - 5;
        let mut tree = Peaks::default();
        inner.events[..gone as usize].iter().for_each(|event| tree.push(stated_hash(&event.text).unwrap()));
        (inner.gone, inner.kept.tree) = (gone, tree);
    }
    run_through(&memory, signer(1), 16).await;
    memory.verify(&[&key(1)]);
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_tree_is_kept_for_the_one_to_come() {
    let memory = Memory::new();
    memory.append_some(50);
    run_through(&memory, None, 20).await;
    assert_eq!((memory.checkpoints().len(), memory.inner.lock().unwrap().kept.tree.size()), (0, 50));
    memory.append_some(1);
    run_through(&memory, signer(1), 20).await;
    assert_eq!(memory.verify(&[&key(1)]).signed_seq, 51);
}

#[tokio::test(start_paused = true)]
async fn a_key_hands_over_or_is_replaced() {
    let memory = Memory::new();
    memory.append_some(5);
    run_through(&memory, signer(1), 100).await;
    memory.append_some(1);
    run_through(&memory, Some(Signer { key: key(2), previous: Some(key(1)) }), 100).await;
    memory.append_some(1);
    run_through(&memory, Some(Signer { key: key(2), previous: Some(key(1)) }), 100).await;
    let reasons: Vec<Option<String>> =
        memory.checkpoints().into_iter().map(|(event, _)| event.reason_code).collect();
    assert_eq!(reasons, [None, Some("KEY_ROTATED".to_owned()), None]);
    // The first key alone is enough to believe all of them.
    assert_eq!(memory.verify(&[&key(1)]).signed_seq, 9);
    memory.append_some(1);
    run_through(&memory, signer(3), 100).await;
    let (event, made) = memory.checkpoints().pop().unwrap();
    assert_eq!(event.reason_code.as_deref(), Some("KEY_REPLACED"));
    assert_eq!((made.statement.next_key, made.note.signed_by(key(2).public())), (None, Signed::No));
    assert_eq!(memory.verify(&[&key(1), &key(3)]).signed_seq, 11);
}
