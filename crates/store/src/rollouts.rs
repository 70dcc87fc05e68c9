//! Candidates in force and their rollbacks, as they are kept over a restart. What they mean is in `registry`.

use audit::log::Record;
use audit::outbox::BoxFuture;
use registry::{KeptRollout, RolloutStore, TakenBack, Told};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::Store;
use crate::error::StoreError;
use crate::escalations::add_rollback_notice;
use crate::orders::Order;
use crate::reader::Reader;

/// What is to be kept of a candidate.
#[derive(Clone, Debug)]
pub(crate) struct RolloutChange {
    rollout: KeptRollout,
    /// Whom to notify, and the event's JSON.
    notice: Option<(String, String)>,
}

const RUNNING: &str = "running";
const TAKEN_BACK: &str = "taken_back";

/// Sets what is kept under a key, within the running transaction. `head` is the log's head once that is durable.
pub(crate) fn set(
    db: &Connection,
    key: &str,
    change: Option<&RolloutChange>,
    head: u64,
) -> rusqlite::Result<()> {
    let Some(RolloutChange { rollout, notice }) = change else {
        return db.prepare_cached("DELETE FROM rollouts WHERE key = ?1")?.execute([key]).map(drop);
    };
    if let Some((path, event)) = notice {
        add_rollback_notice(db, path, event, jiff::Timestamp::now().as_millisecond())?;
    }
    let taken_back = rollout.taken_back;
    db.prepare_cached(
        "INSERT INTO rollouts(key, digest, state, revision, since_ms, until_ms, after_seq)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT(key) DO UPDATE
         SET digest = ?2, state = ?3, revision = ?4, since_ms = ?5, until_ms = ?6, after_seq = ?7
         -- A rollback may be quicker than the news that its candidate runs.
         WHERE digest <> ?2 OR ?3 = 'taken_back'",
    )?
    .execute(params![
        key,
        rollout.digest,
        if taken_back.is_some() { TAKEN_BACK } else { RUNNING },
        taken_back.map(|taken_back| taken_back.revision.cast_signed()),
        taken_back.map(|taken_back| taken_back.since_ms),
        taken_back.map(|taken_back| taken_back.until_ms),
        head.cast_signed(),
    ])
    .map(drop)
}

impl Reader {
    /// What is kept of candidates, by key.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub fn rollouts(&self) -> Result<Vec<KeptRollout>, StoreError> {
        let sql = "SELECT key, digest, revision, since_ms, until_ms, after_seq FROM rollouts ORDER BY key";
        let read = || {
            let mut select = self.db.prepare_cached(sql)?;
            let rows = select.query_map([], |row| {
                let taken_back = match (row.get::<_, Option<i64>>(2)?, row.get(3)?, row.get(4)?) {
                    (Some(revision), Some(since_ms), Some(until_ms)) => {
                        Some(TakenBack { revision: revision.cast_unsigned(), since_ms, until_ms })
                    }
                    _ => None,
                };
                Ok(KeptRollout {
                    key: row.get(0)?,
                    digest: row.get(1)?,
                    taken_back,
                    after_seq: row.get::<_, i64>(5)?.cast_unsigned(),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(self.failed())
    }
}

impl RolloutStore for Store {
    fn keep(&self, rollout: KeptRollout, told: Option<Told>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let (reply, kept) = oneshot::channel();
            let notice = told.as_ref().and_then(|told| {
                let event = String::from_utf8(told.event.to_json()).ok()?;
                Some((told.escalation_path.clone()?, event))
            });
            let key = rollout.key.clone();
            let rollout = Some(Box::new(RolloutChange { rollout, notice }));
            let order = Order::Rollout { key, rollout, reply };
            match told {
                // The order is dropped where the event is refused, and its answer with it.
                Some(told) => self
                    .shared
                    .queue
                    .append(Record::event(&told.event), Vec::new(), Some(order))
                    .map_err(|error| error.to_string())?
                    .await
                    .map_err(|error| error.to_string())?,
                None => self.tell(order),
            }
            answer(kept.await)
        })
    }

    fn forget(&self, key: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let (reply, forgotten) = oneshot::channel();
            self.tell(Order::Rollout { key, rollout: None, reply });
            answer(forgotten.await)
        })
    }
}

fn answer(received: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> Result<(), String> {
    match received {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the store is closed".to_owned()),
    }
}
