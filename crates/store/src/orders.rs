//! What others ask of the writer beside appending records, and the destinations' cursors that it keeps. Each order's
//! changes ride in the writer's next transaction; whoever gave it is answered after that.

use std::collections::HashMap;

use audit::notary::TreeStep;
use audit::outbox::{Advance, Ahead, Cursor, DeadLetter, DeliveryState, OutboxError};
use registry::kept::{Change, Edit};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use crate::ahead::{forget_ahead, keep_ahead};
use crate::error::StoreError;
use crate::escalations::{EscalationDone, EscalationOrder};
use crate::marks::OnceOrder;
use crate::retention::Retained;
use crate::rollouts::RolloutChange;

/// Where the answer goes.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// See the module.
#[derive(Debug)]
pub(crate) enum Order {
    Cursor {
        destination: String,
        reply: Reply<Cursor, OutboxError>,
    },
    Advance {
        destination: String,
        advance: Advance,
        reply: Reply<Cursor, OutboxError>,
    },
    KeepAhead {
        destination: String,
        batches: Vec<Ahead>,
        reply: Reply<(), OutboxError>,
    },
    Report {
        destination: String,
        state: DeliveryState,
        last_error: Option<String>,
        reply: Reply<(), OutboxError>,
    },
    ResolveDead {
        destination: String,
        seqs: Vec<u64>,
        reply: Reply<Cursor, OutboxError>,
    },
    /// A change of the desired state. It gets a commit of its own, with its events.
    Change {
        change: Box<Change>,
        reply: Reply<(), StoreError>,
    },
    /// A policy's candidate, or that it has none any more.
    Rollout {
        key: String,
        rollout: Option<Box<RolloutChange>>,
        reply: Reply<(), StoreError>,
    },
    Escalation(EscalationOrder),
    /// An event that is told once.
    Once(OnceOrder),
    /// How far the Merkle tree is, and perhaps a checkpoint of it.
    Tree {
        step: Box<TreeStep>,
        reply: Reply<(), OutboxError>,
    },
    Retain {
        days: u32,
        destinations: Vec<String>,
        reply: Reply<Retained, StoreError>,
    },
    RetainFor {
        destinations: Vec<String>,
    },
    LimitFile {
        bytes_max: Option<u64>,
    },
    Probe,
}

impl Order {
    /// Whether it may wait for company, so that it does not cost an fsync of its own.
    pub(crate) fn can_wait(&self) -> bool {
        matches!(
            self,
            Self::Advance { .. } | Self::Report { .. } | Self::ResolveDead { .. } | Self::Tree { .. }
        )
    }

    /// Answers that it was not done.
    pub(crate) fn refuse(self, reason: &str) {
        let outbox = || OutboxError::Store(reason.to_owned());
        let store = || StoreError::Unavailable(reason.to_owned());
        // Whoever no longer waits does not want to know.
        match self {
            Self::Cursor { reply, .. } | Self::Advance { reply, .. } | Self::ResolveDead { reply, .. } => {
                let _ = reply.send(Err(outbox()));
            }
            Self::Report { reply, .. } | Self::KeepAhead { reply, .. } | Self::Tree { reply, .. } => {
                drop(reply.send(Err(outbox())));
            }
            Self::Rollout { reply, .. } => drop(reply.send(Err(store()))),
            Self::Change { reply, .. } => drop(reply.send(Err(store()))),
            Self::Escalation(order) => order.refuse(reason),
            Self::Once(order) => order.refuse(reason),
            Self::Retain { reply, .. } => drop(reply.send(Err(store()))),
            Self::RetainFor { .. } | Self::LimitFile { .. } | Self::Probe => {}
        }
    }
}

/// An order that was done in a transaction, to be answered once that is durable.
#[derive(Debug)]
pub(crate) enum Done {
    Cursor(Reply<Cursor, OutboxError>, Result<Cursor, OutboxError>),
    Reported(Reply<(), OutboxError>),
    Rollout(Reply<(), StoreError>),
    Changed(Reply<(), StoreError>),
    Escalation(Box<EscalationDone>),
    Once(OnceOrder),
}

impl Done {
    pub(crate) fn answer(self, failure: Option<&str>) {
        match (self, failure) {
            (Self::Escalation(done), failure) => done.answer(failure),
            (Self::Once(order), None) => order.answer(),
            (Self::Once(order), Some(why)) => order.refuse(why),
            (Self::Cursor(reply, result), None) => drop(reply.send(result)),
            (Self::Reported(reply), None) => drop(reply.send(Ok(()))),
            (Self::Rollout(reply), None) => drop(reply.send(Ok(()))),
            (Self::Rollout(reply), Some(why)) => {
                drop(reply.send(Err(StoreError::Unavailable(why.to_owned()))));
            }
            (Self::Changed(reply), None) => drop(reply.send(Ok(()))),
            (Self::Cursor(reply, _), Some(why)) => drop(reply.send(Err(OutboxError::Store(why.to_owned())))),
            (Self::Reported(reply), Some(why)) => drop(reply.send(Err(OutboxError::Store(why.to_owned())))),
            (Self::Changed(reply), Some(why)) => {
                drop(reply.send(Err(StoreError::Unavailable(why.to_owned()))));
            }
        }
    }
}

/// The cursors as last committed.
pub(crate) type Cursors = HashMap<String, Cursor>;

/// Reads all cursors.
pub(crate) fn load_cursors(db: &Connection) -> rusqlite::Result<Cursors> {
    let mut select =
        db.prepare("SELECT destination, start, position, dead, state, last_error, skipped FROM cursors")?;
    let rows = select.query_map([], |row| {
        let state: String = row.get(4)?;
        let cursor = Cursor {
            start: row.get::<_, i64>(1)?.cast_unsigned(),
            position: row.get::<_, i64>(2)?.cast_unsigned(),
            dead: row.get::<_, i64>(3)?.cast_unsigned(),
            skipped: row.get::<_, i64>(6)?.cast_unsigned(),
            state: state_named(&state),
            last_error: row.get(5)?,
        };
        Ok((row.get(0)?, cursor))
    })?;
    rows.collect()
}

/// The cursors as they will be once the running transaction is durable.
#[derive(Debug)]
pub(crate) struct CursorChanges<'a> {
    before: &'a Cursors,
    changed: Cursors,
}

impl<'a> CursorChanges<'a> {
    pub(crate) fn new(before: &'a Cursors) -> Self {
        Self { before, changed: Cursors::new() }
    }

    /// Does an order within the running transaction. `head` is the log's head once that is durable.
    #[expect(clippy::result_large_err, reason = "rare, and only passed up to the one caller")]
    pub(crate) fn apply(&mut self, db: &Connection, order: Order, head: u64) -> Result<Done, Undone> {
        match order {
            Order::Cursor { destination, reply } => {
                if self.find(&destination).is_none() {
                    let new = Cursor { start: head, position: head, ..Cursor::default() };
                    self.changed.insert(destination.clone(), new);
                }
                let found = self.find(&destination).cloned().unwrap_or_default();
                Ok(Done::Cursor(reply, Ok(found)))
            }
            Order::Advance { destination, advance, reply } => {
                let known = self.change(&destination, |cursor| {
                    // Never back, and never past what is there: a late or repeated call changes nothing.
                    cursor.position = cursor.position.max(advance.position.min(head));
                    cursor.skipped = cursor.skipped.max(advance.skipped);
                });
                let Some(known) = known else {
                    return Ok(Done::Cursor(reply, Err(unknown(&destination))));
                };
                let added = insert_dead(db, &destination, &advance.dead)
                    .and_then(|added| forget_ahead(db, &destination, known.position).map(|()| added));
                let added = match added {
                    Ok(added) => added,
                    Err(source) => {
                        let order = Order::Advance { destination, advance, reply };
                        return Err(Undone { order, source });
                    }
                };
                let cursor = self.change(&destination, |cursor| cursor.dead += added);
                Ok(Done::Cursor(reply, cursor.ok_or_else(|| unknown(&destination))))
            }
            Order::KeepAhead { destination, batches, reply } => {
                match keep_ahead(db, &destination, &batches) {
                    Ok(()) => Ok(Done::Reported(reply)),
                    Err(source) => {
                        let order = Order::KeepAhead { destination, batches, reply };
                        Err(Undone { order, source })
                    }
                }
            }
            Order::ResolveDead { destination, seqs, reply } => {
                let removed = match delete_dead(db, &destination, &seqs) {
                    Ok(removed) => removed,
                    Err(source) => {
                        return Err(Undone {
                            order: Order::ResolveDead { destination, seqs, reply },
                            source,
                        });
                    }
                };
                let cursor =
                    self.change(&destination, |cursor| cursor.dead = cursor.dead.saturating_sub(removed));
                Ok(Done::Cursor(reply, cursor.ok_or_else(|| unknown(&destination))))
            }
            Order::Report { destination, state, last_error, reply } => {
                // A destination that was never given a cursor has nothing to report on.
                self.change(&destination, |cursor| {
                    cursor.state = state;
                    cursor.last_error = last_error;
                });
                Ok(Done::Reported(reply))
            }
            Order::Rollout { key, rollout, reply } => {
                match crate::rollouts::set(db, &key, rollout.as_deref(), head) {
                    Ok(()) => Ok(Done::Rollout(reply)),
                    Err(source) => Err(Undone { order: Order::Rollout { key, rollout, reply }, source }),
                }
            }
            Order::Change { change, reply } => match self.change_state(db, &change, head) {
                Ok(()) => Ok(Done::Changed(reply)),
                Err(source) => Err(Undone { order: Order::Change { change, reply }, source }),
            },
            Order::Escalation(order) => match order.apply(db) {
                Ok(done) => Ok(Done::Escalation(Box::new(done))),
                Err(failed) => {
                    let (order, source) = *failed;
                    Err(Undone { order: Order::Escalation(order), source })
                }
            },
            Order::Tree { step, reply } => match crate::tree::keep(db, &step) {
                Ok(()) => Ok(Done::Reported(reply)),
                Err(source) => Err(Undone { order: Order::Tree { step, reply }, source }),
            },
            Order::Once(order) => match order.apply(db) {
                Ok(()) => Ok(Done::Once(order)),
                Err(source) => Err(Undone { order: Order::Once(order), source }),
            },
            // The writer does these itself, outside of any transaction.
            order @ (Order::Retain { .. }
            | Order::RetainFor { .. }
            | Order::LimitFile { .. }
            | Order::Probe) => Err(Undone { order, source: rusqlite::Error::InvalidQuery }),
        }
    }

    fn change_state(&mut self, db: &Connection, change: &Change, head: u64) -> rusqlite::Result<()> {
        crate::state::apply(db, &change.edits)?;
        for edit in &change.edits {
            // One of that id may have been there before, and left its place and its dead letters.
            if let Edit::AddExport(export) = edit {
                db.prepare_cached("DELETE FROM dead_letters WHERE destination = ?1")?
                    .execute([&export.id])?;
                forget_ahead(db, &export.id, i64::MAX.cast_unsigned())?;
                let new = Cursor { start: head, position: head, ..Cursor::default() };
                self.changed.insert(export.id.clone(), new);
            }
        }
        Ok(())
    }

    fn find(&self, destination: &str) -> Option<&Cursor> {
        self.changed.get(destination).or_else(|| self.before.get(destination))
    }

    fn change(&mut self, destination: &str, change: impl FnOnce(&mut Cursor)) -> Option<Cursor> {
        let mut cursor = self.find(destination)?.clone();
        change(&mut cursor);
        self.changed.insert(destination.to_owned(), cursor.clone());
        Some(cursor)
    }

    /// Writes what changed, each destination once, and returns it.
    pub(crate) fn save(self, db: &Connection) -> rusqlite::Result<Cursors> {
        if self.changed.is_empty() {
            return Ok(self.changed);
        }
        let now = jiff::Timestamp::now();
        let mut update = db.prepare_cached(
            "INSERT INTO cursors(destination, start, position, dead, state, last_error, updated_at, skipped)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT(destination) DO UPDATE
             SET start = ?2, position = ?3, dead = ?4, state = ?5, last_error = ?6, updated_at = ?7, skipped = ?8",
        )?;
        for (destination, cursor) in &self.changed {
            update.execute(params![
                destination,
                cursor.start.cast_signed(),
                cursor.position.cast_signed(),
                cursor.dead.cast_signed(),
                state_name(cursor.state),
                cursor.last_error,
                format!("{now:.3}"),
                cursor.skipped.cast_signed(),
            ])?;
        }
        Ok(self.changed)
    }
}

/// An order that the database would not do.
#[derive(Debug)]
pub(crate) struct Undone {
    pub(crate) order: Order,
    pub(crate) source: rusqlite::Error,
}

fn unknown(destination: &str) -> OutboxError {
    OutboxError::Store(format!("destination `{destination}` has no cursor yet"))
}

fn insert_dead(db: &Connection, destination: &str, dead: &[DeadLetter]) -> rusqlite::Result<u64> {
    let mut insert = db.prepare_cached(
        "INSERT INTO dead_letters(destination, seq, reason, text) VALUES(?1, ?2, ?3, ?4)
         ON CONFLICT(destination, seq) DO NOTHING",
    )?;
    let mut added = 0;
    for letter in dead {
        let text = String::from_utf8_lossy(&letter.text);
        added += insert.execute(params![destination, letter.seq.cast_signed(), letter.reason, text])? as u64;
    }
    Ok(added)
}

fn delete_dead(db: &Connection, destination: &str, seqs: &[u64]) -> rusqlite::Result<u64> {
    let mut delete = db.prepare_cached("DELETE FROM dead_letters WHERE destination = ?1 AND seq = ?2")?;
    let mut removed = 0;
    for seq in seqs {
        removed += delete.execute(params![destination, seq.cast_signed()])? as u64;
    }
    Ok(removed)
}

/// Dead letters of a destination, by seq.
pub(crate) fn read_dead(
    db: &Connection,
    destination: &str,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let mut select = db.prepare_cached(
        "SELECT seq, reason, text FROM dead_letters WHERE destination = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // A seq past i64 does not exist.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = select.query_map(params![destination, after, limit], |row| {
        Ok(DeadLetter {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            reason: row.get(1)?,
            text: row.get::<_, String>(2)?.into(),
        })
    })?;
    rows.collect()
}

/// One destination's cursor, straight from the table.
pub(crate) fn read_cursor(db: &Connection, destination: &str) -> rusqlite::Result<Option<Cursor>> {
    db.prepare_cached(
        "SELECT start, position, dead, state, last_error, skipped FROM cursors WHERE destination = ?1",
    )?
    .query_row([destination], |row| {
        let state: String = row.get(3)?;
        Ok(Cursor {
            start: row.get::<_, i64>(0)?.cast_unsigned(),
            position: row.get::<_, i64>(1)?.cast_unsigned(),
            dead: row.get::<_, i64>(2)?.cast_unsigned(),
            skipped: row.get::<_, i64>(5)?.cast_unsigned(),
            state: state_named(&state),
            last_error: row.get(4)?,
        })
    })
    .optional()
}

fn state_name(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Running => "running",
        DeliveryState::Retrying => "retrying",
        DeliveryState::Held => "held",
    }
}

fn state_named(name: &str) -> DeliveryState {
    match name {
        "held" => DeliveryState::Held,
        "retrying" => DeliveryState::Retrying,
        _ => DeliveryState::Running,
    }
}
