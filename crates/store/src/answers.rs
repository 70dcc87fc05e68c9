//! What requests of the management API were answered, for those that are sent again. Whose they are, and for how long they
//! count, is not known here; rows that are older than a day are deleted as new ones come.

use registry::kept::KeptAnswer;
use rusqlite::{Connection, OptionalExtension, params};

/// Past this a row counts for nothing.
const KEPT_MS: i64 = 24 * 3_600_000;
/// Rows that are deleted at once: more than come, and no long commit.
const DELETED_MAX: u32 = 64;

pub(crate) fn keep(db: &Connection, kept: &KeptAnswer) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM answers WHERE id IN
         (SELECT id FROM answers WHERE created_ms < ?1 ORDER BY created_ms LIMIT ?2)",
    )?
    .execute(params![kept.created_ms.saturating_sub(KEPT_MS), DELETED_MAX])?;
    db.prepare_cached(
        "INSERT INTO answers(id, request, created_ms, status, body) VALUES(?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(id) DO UPDATE SET request = ?2, created_ms = ?3, status = ?4, body = ?5",
    )?
    .execute(params![
        kept.id,
        kept.request,
        kept.created_ms,
        kept.answer.as_ref().map(|(status, _)| *status),
        kept.answer.as_ref().map(|(_, body)| body),
    ])
    .map(drop)
}

pub(crate) fn forget(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM answers WHERE id = ?1")?.execute([id]).map(drop)
}

pub(crate) fn find(db: &Connection, id: &str, since_ms: i64) -> rusqlite::Result<Option<KeptAnswer>> {
    db.prepare_cached(
        "SELECT request, created_ms, status, body FROM answers WHERE id = ?1 AND created_ms >= ?2",
    )?
    .query_row(params![id, since_ms], |row| {
        let (status, body): (Option<u16>, Option<Vec<u8>>) = (row.get(2)?, row.get(3)?);
        Ok(KeptAnswer {
            id: id.to_owned(),
            request: row.get(0)?,
            created_ms: row.get(1)?,
            answer: status.zip(body),
        })
    })
    .optional()
}
