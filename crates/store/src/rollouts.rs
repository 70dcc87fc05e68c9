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

/// What is to be kept of a policy's candidate.
#[derive(Clone, Debug)]
pub(crate) struct RolloutChange {
    rollout: KeptRollout,
    /// Whom to notify, and the event's JSON.
    notice: Option<(String, String)>,
}

const RUNNING: &str = "running";
const TAKEN_BACK: &str = "taken_back";

/// Sets what is kept of a policy, within the running transaction. `head` is the log's head once that is durable.
pub(crate) fn set(
    db: &Connection,
    policy_id: &str,
    change: Option<&RolloutChange>,
    head: u64,
) -> rusqlite::Result<()> {
    let Some(RolloutChange { rollout, notice }) = change else {
        return db
            .prepare_cached("DELETE FROM rollouts WHERE policy_id = ?1")?
            .execute([policy_id])
            .map(drop);
    };
    if let Some((path, event)) = notice {
        add_rollback_notice(db, path, event, jiff::Timestamp::now().as_millisecond())?;
    }
    let taken_back = rollout.taken_back;
    db.prepare_cached(
        "INSERT INTO rollouts(policy_id, digest, state, revision, since_ms, until_ms, after_seq)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT(policy_id) DO UPDATE
         SET digest = ?2, state = ?3, revision = ?4, since_ms = ?5, until_ms = ?6, after_seq = ?7
         -- A rollback may be quicker than the news that its candidate runs.
         WHERE digest <> ?2 OR ?3 = 'taken_back'",
    )?
    .execute(params![
        policy_id,
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
    /// What is kept of candidates, by policy.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub fn rollouts(&self) -> Result<Vec<KeptRollout>, StoreError> {
        let sql = "SELECT policy_id, digest, revision, since_ms, until_ms, after_seq FROM rollouts ORDER BY policy_id";
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
                    policy_id: row.get(0)?,
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
            let policy_id = rollout.policy_id.clone();
            let rollout = Some(Box::new(RolloutChange { rollout, notice }));
            let order = Order::Rollout { policy_id, rollout, reply };
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

    fn forget(&self, policy_id: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let (reply, forgotten) = oneshot::channel();
            self.tell(Order::Rollout { policy_id, rollout: None, reply });
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
