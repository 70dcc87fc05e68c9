//! The Merkle tree over the log, as far as it is kept: how far the notary has come, the node above every 256 events, and the
//! checkpoints that were made. What there is no node of is read from the log. What a checkpoint is, and when one is
//! made, is in `audit`.

use audit::event::{Hash, hex, unhex};
use audit::merkle::{Nodes, Peaks, node_hash};
use audit::notary::{KeptTree, TILE_LEVEL, TreeStep, TreeStore};
use audit::outbox::{BoxFuture, OutboxError};
use audit::verify::stated_hash;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Store;
use crate::error::StoreError;
use crate::orders::Order;
use crate::outbox::read_row;
use crate::queue::{Kind, Queued};
use crate::reader::Reader;
use crate::retention::Anchor;
use crate::rows::Row;
use crate::schema::{meta, set_meta};

/// `meta.tree`, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    size: u64,
    /// Hex, the largest subtree's first.
    peaks: Vec<String>,
    /// Public key of the last checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Peaks as they are stored.
pub(crate) fn to_hex(tree: &Peaks) -> Vec<String> {
    tree.hashes().iter().map(hex).collect()
}

/// Peaks as they were stored; `None` where these are none of a tree of that size.
pub(crate) fn from_hex(size: u64, peaks: &[String]) -> Option<Peaks> {
    let hashes: Option<Vec<Hash>> = peaks.iter().map(|peak| unhex(peak.as_bytes())).collect();
    Peaks::from_parts(size, hashes?)
}

/// The event that the step records.
pub(crate) fn event_of(step: &TreeStep) -> Option<Queued> {
    let event = step.checkpoint.as_ref()?;
    Some(Queued::plain(event.event_id, event.to_json(), Kind::Ordered))
}

/// Keeps a step within the running transaction.
pub(crate) fn keep(db: &Connection, step: &TreeStep) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO tree_tiles(number, hash) VALUES(?1, ?2) ON CONFLICT(number) DO NOTHING",
    )?;
    for (number, hash) in &step.tiles {
        insert.execute(params![number.cast_signed(), hash])?;
    }
    let event = step.checkpoint.as_ref();
    let info = event.and_then(|event| Some((event, event.checkpoint.as_ref()?)));
    if let Some((event, info)) = info {
        db.prepare_cached(
            "INSERT INTO checkpoints(size, event_id, created_at, note) VALUES(?1, ?2, ?3, ?4)
             ON CONFLICT(size) DO UPDATE SET event_id = ?2, created_at = ?3, note = ?4",
        )?
        .execute(params![
            info.size.cast_signed(),
            event.event_id.to_string(),
            event.created_at,
            info.note
        ])?;
    }
    let before = stored(db)?;
    let stored = Stored {
        size: step.tree.size(),
        peaks: to_hex(&step.tree),
        key: info.map(|(_, info)| info.public_key.clone()).or(before.key),
    };
    if stored.size < before.size {
        return Ok(());
    }
    save(db, &stored)
}

fn stored(db: &Connection) -> rusqlite::Result<Stored> {
    let text: Option<String> = meta(db, "tree")?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn save(db: &Connection, stored: &Stored) -> rusqlite::Result<()> {
    let text = serde_json::to_string(stored)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    set_meta(db, "tree", text)
}

/// Goes on with the tree of the events before the anchor by those that are about to be deleted, within the running
/// transaction. Nodes that they complete are kept. `None` where the tree is not known.
pub(crate) fn forget(db: &Connection, anchor: &Anchor, last: u64) -> rusqlite::Result<Option<Peaks>> {
    let Some(mut tree) = anchor.tree() else { return Ok(None) };
    let mut insert = db.prepare_cached(
        "INSERT INTO tree_tiles(number, hash) VALUES(?1, ?2) ON CONFLICT(number) DO NOTHING",
    )?;
    while tree.size() < last {
        let row =
            read_row(db, tree.size() + 1)?.and_then(|(first, last, body)| Row::parse(first, last, body));
        let Some(row) = row.filter(|row| row.first == tree.size() + 1) else { return Ok(None) };
        for text in row.texts() {
            let Some(hash) = stated_hash(&text) else { return Ok(None) };
            let mut tile = None;
            tree.push_noting(hash, |level, index, hash| {
                if level == TILE_LEVEL {
                    tile = Some((index, *hash));
                }
            });
            if let Some((number, hash)) = tile {
                insert.execute(params![number.cast_signed(), hash])?;
            }
        }
    }
    db.prepare_cached("DELETE FROM checkpoints WHERE size < ?1")?.execute([last.cast_signed()])?;
    // The notary may not have come that far: it goes on from here.
    let before = stored(db)?;
    if before.size < tree.size() {
        save(db, &Stored { size: tree.size(), peaks: to_hex(&tree), key: before.key })?;
    }
    Ok((tree.size() == last).then_some(tree))
}

impl TreeStore for Store {
    fn load_tree(&self) -> BoxFuture<'_, Result<KeptTree, OutboxError>> {
        Box::pin(async move {
            let path = self.path().to_owned();
            let read = move || Reader::open(&path)?.kept_tree();
            let failed = |reason: String| OutboxError::Store(reason);
            match tokio::task::spawn_blocking(read).await {
                Ok(read) => read.map_err(|error| failed(error.to_string())),
                Err(_) => Err(failed("reading it ended early".to_owned())),
            }
        })
    }

    fn keep_tree(&self, step: TreeStep) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(self.order(move |reply| Order::Tree { step: Box::new(step), reply }))
    }
}

/// A checkpoint that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Events that it is about.
    pub size: u64,
    /// Its event.
    pub event_id: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// The signed note.
    pub note: String,
}

impl Reader {
    fn kept_tree(&self) -> Result<KeptTree, StoreError> {
        let chain: Uuid = self.chain()?;
        let Stored { size, peaks, key } = stored(&self.db).map_err(self.failed())?;
        // Should it not be one, the tree is grown anew from where the log begins.
        let tree = match from_hex(size, &peaks) {
            Some(tree) => tree,
            None => self.anchor()?.tree().unwrap_or_default(),
        };
        Ok(KeptTree { chain, tree, key })
    }

    /// Checkpoints of fewer than `before` events, the largest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn checkpoints(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let read = || -> rusqlite::Result<Vec<StoredCheckpoint>> {
            self.db
                .prepare_cached(
                    "SELECT size, event_id, created_at, note FROM checkpoints WHERE size < ?1 ORDER BY size DESC LIMIT ?2",
                )?
                .query_map(params![before, i64::try_from(limit).unwrap_or(i64::MAX)], stored_checkpoint)?
                .collect()
        };
        read().map_err(self.failed())
    }

    /// The checkpoint of just so many events, where there is one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn checkpoint_of(&self, size: u64) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.db
            .prepare_cached("SELECT size, event_id, created_at, note FROM checkpoints WHERE size = ?1")
            .and_then(|mut select| select.query_row([size.cast_signed()], stored_checkpoint).optional())
            .map_err(self.failed())
    }

    /// The nodes of the tree over the log, for proofs.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn tree_nodes(&self) -> Result<TreeNodes<'_>, StoreError> {
        Ok(TreeNodes { reader: self, before: self.anchor()?.tree(), row: None })
    }
}

fn stored_checkpoint(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredCheckpoint> {
    Ok(StoredCheckpoint {
        size: row.get::<_, i64>(0)?.cast_unsigned(),
        event_id: row.get(1)?,
        created_at: row.get(2)?,
        note: row.get(3)?,
    })
}

/// See [`Reader::tree_nodes`].
#[derive(Debug)]
pub struct TreeNodes<'r> {
    reader: &'r Reader,
    /// Of the events that are no longer there.
    before: Option<Peaks>,
    /// The last row that was read: its first seq and its hashes.
    row: Option<(u64, Vec<Hash>)>,
}

impl TreeNodes<'_> {
    fn leaf(&mut self, seq: u64) -> Result<Hash, StoreError> {
        let gone = || {
            StoreError::Unavailable(format!(
                "event {seq} is not in the log, or no longer: what is left of it cannot prove that; ask for later events"
            ))
        };
        if self.row.as_ref().is_none_or(|(first, hashes)| seq < *first || seq - first >= hashes.len() as u64)
        {
            let (first, last, body) =
                read_row(&self.reader.db, seq).map_err(self.reader.failed())?.ok_or_else(gone)?;
            let row = Row::parse(first, last, body).ok_or_else(|| self.reader.damaged(first, last))?;
            let hashes: Option<Vec<Hash>> = row.texts().map(|text| stated_hash(&text)).collect();
            self.row = Some((first, hashes.ok_or_else(|| self.reader.damaged(first, last))?));
        }
        let found =
            self.row.as_ref().and_then(|(first, hashes)| hashes.get(usize::try_from(seq - first).ok()?));
        found.copied().ok_or_else(gone)
    }

    fn tile(&self, number: u64) -> Result<Option<Hash>, StoreError> {
        self.reader
            .db
            .prepare_cached("SELECT hash FROM tree_tiles WHERE number = ?1")
            .and_then(|mut select| select.query_row([number.cast_signed()], |row| row.get(0)).optional())
            .map_err(self.reader.failed())
    }
}

impl Nodes for TreeNodes<'_> {
    type Error = StoreError;

    fn perfect(&mut self, level: u32, index: u64) -> Result<Hash, StoreError> {
        if let Some(peak) = self.before.as_ref().and_then(|tree| tree.peak(level, index)) {
            return Ok(peak);
        }
        if level == TILE_LEVEL
            && let Some(hash) = self.tile(index)?
        {
            return Ok(hash);
        }
        if level == 0 {
            return self.leaf(index + 1);
        }
        let left = self.perfect(level - 1, 2 * index)?;
        Ok(node_hash(&left, &self.perfect(level - 1, 2 * index + 1)?))
    }
}
