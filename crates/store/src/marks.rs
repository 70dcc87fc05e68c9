//! Events that are told once: each is written together with a mark, and not at all where the mark is there.

use std::collections::HashSet;

use audit::log::{AppendError, Mark};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::queue::{Kind, Queued};

/// Marks that are over and leave with a new one: more than come, and no long commit.
const EVICT_MAX: u32 = 512;

/// An event with its mark.
#[derive(Debug)]
pub(crate) struct OnceOrder {
    pub(crate) mark: Mark,
    pub(crate) event_id: Uuid,
    pub(crate) text: Vec<u8>,
    /// Whether the event is part of the commit; known once it is planned.
    pub(crate) is_new: bool,
    pub(crate) reply: oneshot::Sender<Result<bool, AppendError>>,
}

impl OnceOrder {
    /// Answers that it was not done.
    pub(crate) fn refuse(self, reason: &str) {
        // Whoever no longer waits does not want to know.
        let _ = self.reply.send(Err(AppendError::Blocked(reason.to_owned())));
    }

    /// Answers that it is durable.
    pub(crate) fn answer(self) {
        let _ = self.reply.send(Ok(self.is_new));
    }

    /// Appends the event to those of the commit unless the mark is there. `marked` holds the marks of earlier orders of
    /// that commit.
    pub(crate) fn plan(
        &mut self,
        db: &Connection,
        marked: &mut HashSet<Mark>,
        events: &mut Vec<Queued>,
    ) -> rusqlite::Result<()> {
        let known = db
            .prepare_cached("SELECT 1 FROM told_once WHERE until_s = ?1 AND key = ?2")?
            .query_row(params![self.mark.until_s, self.mark.key], |_| Ok(()))
            .optional()?;
        self.is_new = known.is_none() && marked.insert(self.mark);
        if self.is_new {
            events.push(Queued::plain(self.event_id, self.text.clone(), Kind::Ordered));
        }
        Ok(())
    }

    /// Writes the mark within the running transaction.
    pub(crate) fn apply(&self, db: &Connection) -> rusqlite::Result<()> {
        if !self.is_new {
            return Ok(());
        }
        db.prepare_cached("INSERT INTO told_once(until_s, key) VALUES(?1, ?2)")?
            .execute(params![self.mark.until_s, self.mark.key])?;
        db.prepare_cached(
            "DELETE FROM told_once WHERE (until_s, key) IN
             (SELECT until_s, key FROM told_once WHERE until_s <= ?1 ORDER BY until_s, key LIMIT ?2)",
        )?
        .execute(params![jiff::Timestamp::now().as_second(), EVICT_MAX])
        .map(drop)
    }
}
