//! Batches past a destination's cursor that a restart must know of: those that were tried with bounds that have to stay,
//! and those that the destination has already. They go once the cursor has passed them.

use audit::outbox::Ahead;
use rusqlite::{Connection, params};

/// Keeps batches, in place of those that they overlap.
pub(crate) fn keep_ahead(db: &Connection, destination: &str, batches: &[Ahead]) -> rusqlite::Result<()> {
    let mut delete =
        db.prepare_cached("DELETE FROM ahead WHERE destination = ?1 AND first_seq <= ?3 AND last_seq >= ?2")?;
    let mut insert = db.prepare_cached(
        "INSERT INTO ahead(destination, first_seq, last_seq, settled, skipped) VALUES(?1, ?2, ?3, ?4, ?5)",
    )?;
    for batch in batches {
        let (first, last) = (batch.first.cast_signed(), batch.last.cast_signed());
        delete.execute(params![destination, first, last])?;
        insert.execute(params![destination, first, last, batch.settled, batch.skipped.cast_signed()])?;
    }
    Ok(())
}

/// Forgets what the cursor has passed.
pub(crate) fn forget_ahead(db: &Connection, destination: &str, position: u64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM ahead WHERE destination = ?1 AND last_seq <= ?2")?
        .execute(params![destination, position.cast_signed()])
        .map(drop)
}

/// What is kept, by seq.
pub(crate) fn read_ahead(db: &Connection, destination: &str) -> rusqlite::Result<Vec<Ahead>> {
    let mut select = db.prepare_cached(
        "SELECT first_seq, last_seq, settled, skipped FROM ahead WHERE destination = ?1 ORDER BY first_seq",
    )?;
    let rows = select.query_map([destination], |row| {
        Ok(Ahead {
            first: row.get::<_, i64>(0)?.cast_unsigned(),
            last: row.get::<_, i64>(1)?.cast_unsigned(),
            settled: row.get(2)?,
            skipped: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    })?;
    rows.collect()
}
