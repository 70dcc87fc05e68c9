//! Policy documents as they were in force, numbered per policy. What a document means, and which one is stable, is not
//! decided here.

use rusqlite::{Connection, OptionalExtension, params};

/// One revision of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRevision {
    /// The policy.
    pub policy_id: String,
    /// From 1, without holes.
    pub number: u64,
    /// Digest of the document, as its maker computes it.
    pub digest: String,
    /// The document as JSON.
    pub document: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// Who saved it; `None` for a policy file.
    pub author: Option<String>,
}

/// The number of the newest revision of its kind (candidate or not) where its digest is this one, else a new revision's.
/// Of a candidate beside a stable revision both are the newest of their kind, whichever was saved last.
pub(crate) fn ensure(
    db: &Connection,
    policy_id: &str,
    digest: &str,
    document: &str,
    is_candidate: bool,
) -> rusqlite::Result<u64> {
    let newest = db
        .prepare_cached(
            "SELECT number, digest FROM revisions WHERE policy_id = ?1 AND is_candidate = ?2
             ORDER BY number DESC LIMIT 1",
        )?
        .query_row(params![policy_id, is_candidate], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let number = match newest {
        Some((number, newest)) if newest == digest => return Ok(number.cast_unsigned()),
        _ => db
            .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM revisions WHERE policy_id = ?1")?
            .query_row([policy_id], |row| row.get::<_, i64>(0))?,
    };
    let now = format!("{:.3}", jiff::Timestamp::now());
    db.prepare_cached(
        "INSERT INTO revisions(policy_id, number, digest, document, created_at, is_candidate)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![policy_id, number, digest, document, now, is_candidate])?;
    Ok(number.cast_unsigned())
}

/// All revisions of a policy, the oldest first.
pub(crate) fn list(db: &Connection, policy_id: &str) -> rusqlite::Result<Vec<StoredRevision>> {
    let mut select = db.prepare_cached(
        "SELECT number, digest, document, created_at, author FROM revisions WHERE policy_id = ?1 ORDER BY number",
    )?;
    let rows = select.query_map([policy_id], |row| {
        Ok(StoredRevision {
            policy_id: policy_id.to_owned(),
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            digest: row.get(1)?,
            document: row.get(2)?,
            created_at: row.get(3)?,
            author: row.get(4)?,
        })
    })?;
    rows.collect()
}
