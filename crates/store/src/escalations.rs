//! Review tickets in the file: opened, ended and read. An ending is one commit with its event, the erasure of what was
//! kept for the reviewer and the notices about it. What a ticket means is in `escalation`.

use std::collections::HashSet;

use escalation::tickets::{
    About, DecideError, Notice, NoticeKind, Opening, Sent, TicketFilter, TicketsError,
};
use escalation::{Fingerprint, FingerprintKey, Ruling, Standing, State, Ticket};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::orders::Reply;
use crate::queue::{Kind, Queued};
use crate::schema::{meta, set_meta};

/// Tickets that one commit expires.
const EXPIRE_MAX: usize = 200;

/// What is asked of the writer about tickets.
#[derive(Debug)]
pub(crate) enum EscalationOrder {
    Open {
        opening: Box<Opening>,
        reply: Reply<Ticket, TicketsError>,
    },
    Decide {
        id: Uuid,
        ruling: Ruling,
        planned: Option<Box<Result<Ticket, DecideError>>>,
        reply: Reply<Ticket, DecideError>,
    },
    Expire {
        now_ms: i64,
        planned: Vec<Ticket>,
        reply: Reply<Vec<Ticket>, TicketsError>,
    },
    Sent {
        notice: i64,
        sent: Sent,
        reply: Reply<(), TicketsError>,
    },
}

impl EscalationOrder {
    /// Answers that it was not done.
    pub(crate) fn refuse(self, reason: &str) {
        let tickets = || TicketsError::Store(reason.to_owned());
        match self {
            Self::Open { reply, .. } => drop(reply.send(Err(tickets()))),
            Self::Decide { reply, .. } => drop(reply.send(Err(DecideError::Store(reason.to_owned())))),
            Self::Expire { reply, .. } => drop(reply.send(Err(tickets()))),
            Self::Sent { reply, .. } => drop(reply.send(Err(tickets()))),
        }
    }

    /// Finds out what the order comes to, and appends the events that go into the same commit. `ended` holds the
    /// tickets that earlier orders of that commit end.
    pub(crate) fn plan(
        &mut self,
        db: &Connection,
        ended: &mut HashSet<Uuid>,
        events: &mut Vec<Queued>,
    ) -> rusqlite::Result<()> {
        match self {
            Self::Open { .. } | Self::Sent { .. } => {}
            Self::Decide { id, ruling, planned, .. } => {
                let result = match find(db, *id)? {
                    None => Err(DecideError::Unknown(*id)),
                    // Two reviewers at once: the second hears of it when asking again.
                    Some(_) if ended.contains(id) => {
                        Err(DecideError::Store("another decision is being written: try again".to_owned()))
                    }
                    Some(ticket) => {
                        ticket.decide(ruling).map_err(|state| DecideError::Ended { id: *id, state })
                    }
                };
                if let Ok(ticket) = &result {
                    ended.insert(*id);
                    events.extend(event(ticket, ruling.at_ms));
                }
                *planned = Some(Box::new(result));
            }
            Self::Expire { now_ms, planned, .. } => {
                let due = read_all(
                    db,
                    "SELECT number, body, 0 FROM escalations WHERE state = 'open' AND expires_ms <= ?1
                     ORDER BY expires_ms LIMIT ?2",
                    params![*now_ms, i64::try_from(EXPIRE_MAX).unwrap_or(i64::MAX)],
                )?;
                for ticket in due.iter().filter(|ticket| !ended.contains(&ticket.id)) {
                    if let Some(ticket) = ticket.expire(*now_ms) {
                        events.extend(event(&ticket, *now_ms));
                        planned.push(ticket);
                    }
                }
                ended.extend(planned.iter().map(|ticket| ticket.id));
            }
        }
        Ok(())
    }

    /// Writes within the running transaction.
    pub(crate) fn apply(self, db: &Connection) -> Result<EscalationDone, Box<(Self, rusqlite::Error)>> {
        let written = match &self {
            Self::Open { opening, .. } => open(db, opening).map(|result| Written::Opened(Box::new(result))),
            Self::Decide { planned, .. } => match planned.as_deref() {
                Some(Ok(ticket)) => end(db, ticket, None).map(|()| Written::Nothing),
                _ => Ok(Written::Nothing),
            },
            Self::Expire { planned, now_ms, .. } => planned
                .iter()
                .try_for_each(|ticket| end(db, ticket, Some(*now_ms)))
                .map(|()| Written::Nothing),
            Self::Sent { notice, sent, .. } => note_sent(db, *notice, sent).map(|()| Written::Nothing),
        };
        match written {
            Ok(written) => Ok(EscalationDone { order: self, written }),
            Err(error) => Err(Box::new((self, error))),
        }
    }
}

#[derive(Debug)]
enum Written {
    Opened(Box<Result<Ticket, TicketsError>>),
    Nothing,
}

/// An order that was done, to be answered once that is durable.
#[derive(Debug)]
pub(crate) struct EscalationDone {
    order: EscalationOrder,
    written: Written,
}

impl EscalationDone {
    pub(crate) fn answer(self, failure: Option<&str>) {
        if let Some(reason) = failure {
            return self.order.refuse(reason);
        }
        // Whoever no longer waits does not want to know.
        match (self.order, self.written) {
            (EscalationOrder::Open { reply, .. }, Written::Opened(result)) => drop(reply.send(*result)),
            (EscalationOrder::Decide { planned: Some(result), reply, .. }, _) => drop(reply.send(*result)),
            (EscalationOrder::Expire { planned, reply, .. }, _) => drop(reply.send(Ok(planned))),
            (EscalationOrder::Sent { reply, .. }, _) => drop(reply.send(Ok(()))),
            (order @ (EscalationOrder::Open { .. } | EscalationOrder::Decide { .. }), _) => {
                order.refuse("it was not planned");
            }
        }
    }
}

fn event(ticket: &Ticket, now_ms: i64) -> Option<Queued> {
    let event = ticket.ending_event(now_ms)?;
    Some(Queued::plain(event.event_id, event.to_json(), Kind::Ordered))
}

/// The newest ticket of the fingerprint where it means something, else a new one.
fn open(db: &Connection, opening: &Opening) -> rusqlite::Result<Result<Ticket, TicketsError>> {
    let ticket = &opening.ticket;
    if let Some(known) = newest(db, &ticket.fingerprint)?
        && known.standing(ticket.created_ms) != Standing::Over
    {
        return Ok(Ok(known));
    }
    let open: i64 = db
        .prepare_cached("SELECT count(*) FROM escalations WHERE state = 'open'")?
        .query_row([], |row| row.get(0))?;
    if open.cast_unsigned() >= opening.open_max {
        return Ok(Err(TicketsError::Full(opening.open_max)));
    }
    db.prepare_cached(
        "INSERT INTO escalations(id, fingerprint, state, policy_id, project_id, expires_ms, over_ms, body)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        ticket.id.to_string(),
        ticket.fingerprint.0,
        ticket.state.as_str(),
        ticket.case.policy_id,
        ticket.case.project_id,
        ticket.expires_ms,
        ticket.over_ms(),
        body(ticket)?,
    ])?;
    let number = db.last_insert_rowid();
    if let Some(content) = &opening.content {
        db.prepare_cached("INSERT INTO escalation_content(number, body) VALUES(?1, ?2)")?
            .execute(params![number, content])?;
    }
    if let Some(path) = &ticket.case.escalation_path {
        add_notice(db, number, NoticeKind::Opened, path, ticket.created_ms)?;
    }
    let has_content = opening.content.is_some();
    Ok(Ok(Ticket { number: number.cast_unsigned(), has_content, ..ticket.clone() }))
}

/// Writes an ending. `expired_ms` where time ended it, which is worth a notice.
fn end(db: &Connection, ticket: &Ticket, expired_ms: Option<i64>) -> rusqlite::Result<()> {
    let number = ticket.number.cast_signed();
    db.prepare_cached("UPDATE escalations SET state = ?2, over_ms = ?3, body = ?4 WHERE number = ?1")?
        .execute(params![number, ticket.state.as_str(), ticket.over_ms(), body(ticket)?])?;
    // Erased, not only unlinked: the freed pages are overwritten.
    db.pragma_update(None, "secure_delete", "on")?;
    let erased = db
        .prepare_cached("DELETE FROM escalation_content WHERE number = ?1")
        .and_then(|mut delete| delete.execute([number]));
    db.pragma_update(None, "secure_delete", "off")?;
    erased?;
    // Nobody needs to be called to what is over.
    db.prepare_cached("DELETE FROM escalation_notices WHERE number = ?1")?.execute([number])?;
    if let (Some(path), Some(now_ms)) = (&ticket.case.escalation_path, expired_ms) {
        add_notice(db, number, NoticeKind::Expired, path, now_ms)?;
    }
    Ok(())
}

/// Deletes at most `max` ended tickets that meant nothing any more at `horizon_ms`, the longest over first, with what
/// waits to be told of them. Gives how many there were.
pub(crate) fn delete_over(db: &Connection, horizon_ms: i64, max: usize) -> rusqlite::Result<usize> {
    let mut select = db.prepare_cached(
        "SELECT number FROM escalations WHERE over_ms < ?1 AND state <> 'open' ORDER BY over_ms LIMIT ?2",
    )?;
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    let numbers: Vec<i64> =
        select.query_map([horizon_ms, limit], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for number in &numbers {
        db.prepare_cached("DELETE FROM escalation_notices WHERE number = ?1")?.execute([number])?;
        db.prepare_cached("DELETE FROM escalations WHERE number = ?1")?.execute([number])?;
    }
    Ok(numbers.len())
}

fn add_notice(
    db: &Connection,
    number: i64,
    kind: NoticeKind,
    path: &str,
    next_ms: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO escalation_notices(number, kind, path, attempts, next_ms) VALUES(?1, ?2, ?3, 0, ?4)",
    )?
    .execute(params![number, kind.as_str(), path, next_ms])
    .map(drop)
}

/// Queues a notice about a candidate that was taken back.
pub(crate) fn add_rollback_notice(
    db: &Connection,
    path: &str,
    event: &str,
    next_ms: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        // What is tried again because its event was refused is there already.
        "INSERT INTO escalation_notices(kind, path, attempts, next_ms, event) SELECT ?1, ?2, 0, ?3, ?4
         WHERE NOT EXISTS(SELECT 1 FROM escalation_notices WHERE event = ?4)",
    )?
    .execute(params![NoticeKind::RolledBack.as_str(), path, next_ms, event])
    .map(drop)
}

fn note_sent(db: &Connection, notice: i64, sent: &Sent) -> rusqlite::Result<()> {
    match sent {
        Sent::Yes => db.prepare_cached("DELETE FROM escalation_notices WHERE id = ?1")?.execute([notice]),
        Sent::No { next_ms, error } => db
            .prepare_cached(
                "UPDATE escalation_notices SET attempts = attempts + 1, next_ms = ?2, last_error = ?3
                 WHERE id = ?1",
            )?
            .execute(params![notice, next_ms, error]),
    }
    .map(drop)
}

fn body(ticket: &Ticket) -> rusqlite::Result<String> {
    serde_json::to_string(ticket).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// A row of number, body and whether content is kept.
fn ticket(row: &Row<'_>) -> rusqlite::Result<Ticket> {
    let text = row.get_ref(1)?.as_str()?;
    let ticket: Ticket = serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Ticket { number: row.get::<_, i64>(0)?.cast_unsigned(), has_content: row.get(2)?, ..ticket })
}

const COLUMNS: &str = "number, body, EXISTS(SELECT 1 FROM escalation_content AS kept
    WHERE kept.number = escalations.number)";

fn read_all(db: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Vec<Ticket>> {
    let mut select = db.prepare_cached(sql)?;
    let rows = select.query_map(params, ticket)?;
    rows.collect()
}

fn newest(db: &Connection, fingerprint: &Fingerprint) -> rusqlite::Result<Option<Ticket>> {
    let sql =
        format!("SELECT {COLUMNS} FROM escalations WHERE fingerprint = ?1 ORDER BY number DESC LIMIT 1");
    db.prepare_cached(&sql)?.query_row([fingerprint.0], ticket).optional()
}

/// A ticket by its id.
pub(crate) fn find(db: &Connection, id: Uuid) -> rusqlite::Result<Option<Ticket>> {
    let sql = format!("SELECT {COLUMNS} FROM escalations WHERE id = ?1");
    db.prepare_cached(&sql)?.query_row([id.to_string()], ticket).optional()
}

/// What is kept for its reviewer, encrypted.
pub(crate) fn content(db: &Connection, ticket: &Ticket) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT body FROM escalation_content WHERE number = ?1")?
        .query_row([ticket.number.cast_signed()], |row| row.get(0))
        .optional()
}

/// Every ticket that is open or means something at this time.
pub(crate) fn live(db: &Connection, now_ms: i64) -> rusqlite::Result<Vec<Ticket>> {
    let sql =
        format!("SELECT {COLUMNS} FROM escalations WHERE state = 'open' OR over_ms > ?1 ORDER BY number");
    read_all(db, &sql, [now_ms])
}

/// Tickets that match, newest first.
pub(crate) fn list(db: &Connection, filter: &TicketFilter) -> rusqlite::Result<Vec<Ticket>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM escalations WHERE number < ?1 AND (?2 IS NULL OR state = ?2)
         AND (?3 IS NULL OR policy_id = ?3) AND (?4 IS NULL OR project_id = ?4) ORDER BY number DESC LIMIT ?5"
    );
    let before = filter.before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let state = filter.state.map(State::as_str);
    read_all(db, &sql, params![before, state, filter.policy_id, filter.project_id, limit])
}

/// Notices that wait, those due first first.
pub(crate) fn notices(db: &Connection, limit: usize) -> rusqlite::Result<Vec<Notice>> {
    let mut select = db.prepare_cached(
        "SELECT escalations.number, body, 0, id_, kind, path, attempts, next_ms, event FROM
         (SELECT id AS id_, number AS number_, kind, path, attempts, next_ms, event FROM escalation_notices
          ORDER BY next_ms LIMIT ?1) LEFT JOIN escalations ON escalations.number = number_ ORDER BY next_ms",
    )?;
    let rows = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let kind: String = row.get(4)?;
        let (kind, about) = if kind == NoticeKind::RolledBack.as_str() {
            let event = serde_json::from_str(row.get_ref(8)?.as_str()?).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(8, rusqlite::types::Type::Text, error.into())
            })?;
            (NoticeKind::RolledBack, About::Rollback(Box::new(event)))
        } else {
            let expired = kind == NoticeKind::Expired.as_str();
            let kind = if expired { NoticeKind::Expired } else { NoticeKind::Opened };
            (kind, About::Ticket(Box::new(ticket(row)?)))
        };
        Ok(Notice {
            id: row.get(3)?,
            kind,
            path: row.get(5)?,
            attempts: row.get(6)?,
            next_ms: row.get(7)?,
            about,
        })
    })?;
    rows.collect()
}

/// The key of fingerprints, made where there is none yet.
pub(crate) fn fingerprint_key(db: &Connection) -> rusqlite::Result<FingerprintKey> {
    if let Some(key) = meta::<[u8; 32]>(db, "fingerprint_key")? {
        return Ok(FingerprintKey::new(key));
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    set_meta(db, "fingerprint_key", key)?;
    Ok(FingerprintKey::new(key))
}
