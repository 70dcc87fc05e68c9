//! The notary follows the log as it is committed, grows the Merkle tree over it, and has checkpoints of it recorded and kept.
//! It reads what delivery reads, at its own pace: no request waits for it, and the log's writer only stores what it
//! comes to.
//!
//! A checkpoint is due after [`RECORDS`] events, or [`INTERVAL`] after the last one where anything but checkpoints came
//! since, or when the gateway stops. Without a key none is made, and the tree alone is kept, so that a key that comes later
//! finds it.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use memchr::memmem::Finder;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkpoint::Statement;
use crate::delivery::Clock;
use crate::event::{AuditEvent, CheckpointInfo, EventType, Hash, hex};
use crate::merkle::Peaks;
use crate::note::{Note, SigningKey};
use crate::outbox::{BoxFuture, Outbox, OutboxError};
use crate::verify::stated_hash;

/// A checkpoint at the latest after so many events.
pub const RECORDS: u64 = 10_000;
/// A checkpoint at the latest after this long.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// Leaves under each node that is kept, as a power of two: 32 bytes for every 256 events, and proofs that read two rows of
/// the log.
pub const TILE_LEVEL: u32 = 8;

/// Read at a time.
const EVENTS_MAX: usize = 2000;
const BYTES_MAX: usize = 2 << 20;
/// The log is looked at this often while it grows: well before what was committed leaves the memory of the store.
const PACE: Duration = Duration::from_millis(100);
/// After something failed it is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// The tree as it was kept.
#[derive(Clone, Debug)]
pub struct KeptTree {
    /// The log.
    pub chain: Uuid,
    /// How far it is, and its peaks.
    pub tree: Peaks,
    /// The public key of the last checkpoint.
    pub key: Option<String>,
}

/// What is to be kept, in one commit.
#[derive(Clone, Debug)]
pub struct TreeStep {
    /// The tree as it is now.
    pub tree: Peaks,
    /// Nodes of level [`TILE_LEVEL`] that were completed, by index.
    pub tiles: Vec<(u64, Hash)>,
    /// The checkpoint of just this tree, as an event to record.
    pub checkpoint: Option<Box<AuditEvent>>,
}

/// Whoever keeps the tree. `store` implements it.
pub trait TreeStore: Send + Sync + 'static {
    /// The tree as it was last kept.
    fn load_tree(&self) -> BoxFuture<'_, Result<KeptTree, OutboxError>>;

    /// Keeps a step, and records its event, durably and together. Nothing of it is there after an error.
    fn keep_tree(&self, step: TreeStep) -> BoxFuture<'_, Result<(), OutboxError>>;
}

/// The keys that sign.
#[derive(Debug)]
pub struct Signer {
    /// Signs every checkpoint.
    pub key: SigningKey,
    /// The one before it, which signs the checkpoint that hands over.
    pub previous: Option<SigningKey>,
}

/// See the module.
pub struct Notary {
    outbox: Arc<dyn Outbox>,
    trees: Arc<dyn TreeStore>,
    clock: Arc<dyn Clock>,
    signer: Option<Signer>,
    records: u64,
    interval: Duration,
}

/// Where it stands.
struct Standing {
    chain: Uuid,
    tree: Peaks,
    /// Of the last event.
    head: Hash,
    /// Events that the kept tree has.
    kept: u64,
    tiles: Vec<(u64, Hash)>,
    /// Events since then that are no checkpoints.
    news: u64,
    key: Option<String>,
}

impl Standing {
    fn new(kept: KeptTree) -> Self {
        let KeptTree { chain, tree, key } = kept;
        Self { chain, head: [0; 32], kept: tree.size(), tree, tiles: Vec::new(), news: 0, key }
    }

    fn push(&mut self, text: &[u8]) -> bool {
        static CHECKPOINT: LazyLock<Finder<'static>> =
            LazyLock::new(|| Finder::new(b"\"event_type\":\"checkpoint\""));
        let Some(hash) = stated_hash(text) else { return false };
        let tiles = &mut self.tiles;
        self.tree.push_noting(hash, |level, index, hash| {
            if level == TILE_LEVEL {
                tiles.push((index, *hash));
            }
        });
        self.head = hash;
        self.news += u64::from(CHECKPOINT.find(text).is_none());
        true
    }
}

impl Notary {
    /// For this log. Nothing happens before [`Notary::run`].
    pub fn new(
        outbox: Arc<dyn Outbox>,
        trees: Arc<dyn TreeStore>,
        clock: Arc<dyn Clock>,
        signer: Option<Signer>,
    ) -> Self {
        Self { outbox, trees, clock, signer, records: RECORDS, interval: INTERVAL }
    }

    /// Has checkpoints made as often as this, 1 or more events apart.
    #[must_use]
    pub fn every(self, records: u64, interval: Duration) -> Self {
        Self { records: records.max(1), interval, ..self }
    }

    /// Follows the log until `stop`, and makes a last checkpoint of it then.
    pub async fn run(self, stop: CancellationToken) {
        let mut head = self.outbox.head();
        let Some(mut at) = self.load(&stop).await else { return };
        let mut due = Instant::now() + self.interval;
        loop {
            let stopping = stop.is_cancelled();
            let newest = *head.borrow_and_update();
            match self.read_on(&mut at, newest).await {
                Ok(()) => {}
                Err(Trouble::Gone) => {
                    // Retention went past it, and keeps the tree for us.
                    let Some(again) = self.load(&stop).await else { return };
                    at = again;
                }
                Err(Trouble::Damaged(seq)) => {
                    tracing::error!(
                        seq,
                        "an event of the log is not what was written: no more checkpoints are made"
                    );
                    return;
                }
                Err(Trouble::Store(error)) => {
                    tracing::warn!(%error, "the log cannot be read for checkpoints; it is tried again");
                    if stopping || wait(&stop, sleep(RETRY)).await {
                        return;
                    }
                    continue;
                }
            }
            let is_full = at.tree.size() - at.kept >= self.records;
            if is_full || (at.news > 0 && (stopping || Instant::now() >= due)) || self.hands_over(&at) {
                match self.keep(&mut at).await {
                    Ok(()) => due = Instant::now() + self.interval,
                    Err(_) if stopping => return,
                    Err(error) => {
                        tracing::warn!(%error, "a checkpoint could not be recorded; it is tried again");
                        wait(&stop, sleep(RETRY)).await;
                    }
                }
                continue;
            }
            if at.tree.size() < newest {
                continue;
            }
            if stopping {
                return;
            }
            if at.news > 0 {
                if !wait(&stop, sleep(PACE)).await && *head.borrow() == newest {
                    let changed = async { drop(head.changed().await) };
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(due) => {}
                        () = stop.cancelled() => {}
                    }
                }
            } else if !wait(&stop, async { drop(head.changed().await) }).await {
                // The minute begins with the first event after a checkpoint.
                due = Instant::now() + self.interval;
            }
        }
    }

    /// `None` where it was stopped first.
    async fn load(&self, stop: &CancellationToken) -> Option<Standing> {
        loop {
            match self.trees.load_tree().await {
                Ok(kept) => return Some(Standing::new(kept)),
                Err(error) => tracing::warn!(%error, "the Merkle tree cannot be read; it is tried again"),
            }
            if wait(stop, sleep(RETRY)).await {
                return None;
            }
        }
    }

    /// Reads some of what is there up to `newest`, and no further than to the next checkpoint.
    async fn read_on(&self, at: &mut Standing, newest: u64) -> Result<(), Trouble> {
        while at.tree.size() < newest && at.tree.size() - at.kept < self.records {
            let left = self.records - (at.tree.size() - at.kept);
            let events_max = usize::try_from(left).unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
            let events = match self.outbox.read_after(at.tree.size(), events_max, BYTES_MAX).await {
                Ok(events) => events,
                Err(OutboxError::Gone(_)) => return Err(Trouble::Gone),
                Err(error) => return Err(Trouble::Store(error)),
            };
            if events.is_empty() {
                return Err(Trouble::Store(OutboxError::Store(format!("it ends before seq {newest}"))));
            }
            for event in events {
                if event.seq != at.tree.size() + 1 || !at.push(&event.text) {
                    return Err(Trouble::Damaged(event.seq));
                }
            }
        }
        Ok(())
    }

    /// Whether another key takes over, which is told at once.
    fn hands_over(&self, at: &Standing) -> bool {
        let Some(signer) = &self.signer else { return false };
        at.tree.size() > at.kept && at.key.as_ref().is_some_and(|key| *key != signer.key.public().to_string())
    }

    async fn keep(&self, at: &mut Standing) -> Result<(), OutboxError> {
        let checkpoint = self.signer.as_ref().map(|signer| Box::new(self.checkpoint(at, signer)));
        let step = TreeStep { tree: at.tree.clone(), tiles: at.tiles.clone(), checkpoint };
        self.trees.keep_tree(step).await?;
        at.kept = at.tree.size();
        at.tiles.clear();
        at.news = 0;
        if let Some(signer) = &self.signer {
            at.key = Some(signer.key.public().to_string());
        }
        Ok(())
    }

    fn checkpoint(&self, at: &Standing, signer: &Signer) -> AuditEvent {
        let public_key = signer.key.public().to_string();
        let mut keys = vec![&signer.key];
        let (mut next_key, mut reason) = (None, None);
        if at.key.as_ref().is_some_and(|key| *key != public_key) {
            let is_former = |former: &&SigningKey| Some(former.public().to_string()) == at.key;
            match signer.previous.as_ref().filter(is_former) {
                Some(previous) => {
                    keys.insert(0, previous);
                    next_key = Some(signer.key.public().clone());
                    reason = Some("KEY_ROTATED");
                }
                None => {
                    tracing::warn!(
                        "checkpoints are signed by another key than before, which does not vouch for it: verifiers need \
                         both public keys; `audit.previous_signing_key` hands over in order"
                    );
                    reason = Some("KEY_REPLACED");
                }
            }
        }
        let root = at.tree.root();
        let statement = Statement { chain: at.chain, size: at.tree.size(), root, head: at.head, next_key };
        let now = jiff::Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Checkpoint, format!("{now:.3}"));
        event.reason_code = reason.map(str::to_owned);
        event.checkpoint = Some(CheckpointInfo {
            size: statement.size,
            root: hex(&root),
            note: Note::sign(statement.text(), &keys).to_string(),
            public_key,
        });
        event
    }
}

enum Trouble {
    Gone,
    Damaged(u64),
    Store(OutboxError),
}

/// Whether it was stopped first.
async fn wait(stop: &CancellationToken, until: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = until => false,
    }
}

#[cfg(test)]
mod tests;
