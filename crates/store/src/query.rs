//! Which events a query asks for, and going through the log for them: one row in memory at a time, and one short read
//! each, so that a long query holds nothing up. Stretches of the log outside of the time asked for are left out.

use audit::event::EventType;
use audit::outbox::StoredEvent;
use bytes::Bytes;
use memchr::memmem;
use policy::Decision;
use rusqlite::{OptionalExtension, params};
use serde::Deserialize;
use std::borrow::Cow;
use uuid::Uuid;

use crate::error::StoreError;
use crate::reader::Reader;
use crate::rows::{Members, Row};

/// Events are returned where everything that is set here fits.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `policy_id`.
    pub policy_id: Option<String>,
    /// `project_id`.
    pub project_id: Option<String>,
    /// `policy_user`.
    pub policy_user: Option<String>,
    /// `decision`.
    pub decision: Option<Decision>,
    /// `event_type`.
    pub event_type: Option<EventType>,
    /// `event_id`.
    pub event_id: Option<Uuid>,
    /// `request_id`.
    pub request_id: Option<String>,
    /// `created_at` is at or after this, in Unix milliseconds.
    pub from_ms: Option<i64>,
    /// `created_at` is before this, in Unix milliseconds.
    pub to_ms: Option<i64>,
    /// Goes on after this seq, in the order asked for: where a former query ended.
    pub after_seq: Option<u64>,
    /// At most so many events.
    pub limit: Option<usize>,
    /// The newest first, else the oldest.
    pub newest_first: bool,
}

/// The events of a query, read as they are asked for. Ends after an error.
#[derive(Debug)]
pub struct Events<'r> {
    reader: &'r Reader,
    wanted: Wanted,
    from_ms: i64,
    to_ms: i64,
    left: usize,
    newest_first: bool,
    /// Events beyond it are still to come: later ones, or earlier ones where the newest come first.
    place: u64,
    /// Events of the row that is open, the next one last.
    open: Vec<StoredEvent>,
    is_over: bool,
}

impl<'r> Events<'r> {
    pub(crate) fn new(reader: &'r Reader, filter: &Filter) -> Self {
        // A seq past i64 does not exist.
        const LAST: u64 = i64::MAX as u64;
        let place = match (filter.after_seq, filter.newest_first) {
            (Some(seq), _) => seq.min(LAST),
            (None, true) => LAST,
            (None, false) => 0,
        };
        Self {
            reader,
            wanted: Wanted::new(filter),
            from_ms: filter.from_ms.unwrap_or(i64::MIN),
            to_ms: filter.to_ms.unwrap_or(i64::MAX),
            left: filter.limit.unwrap_or(usize::MAX),
            newest_first: filter.newest_first,
            place,
            open: Vec::new(),
            is_over: false,
        }
    }

    /// Opens the next row that may hold something; whether there was one.
    fn open_next(&mut self) -> Result<bool, StoreError> {
        loop {
            let found = if self.newest_first { self.before() } else { self.after() };
            let found = found.map_err(self.reader.failed())?;
            match found {
                Found::Nothing => return Ok(false),
                Found::Skip(place) => self.place = place,
                Found::Row { first, last, body } => {
                    let row =
                        Row::parse(first, last, body).ok_or_else(|| self.reader.damaged(first, last))?;
                    self.take_row(&row);
                    if !self.open.is_empty() {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn take_row(&mut self, row: &Row) {
        let wanted = &self.wanted;
        let fits = |(seq, text): (u64, Bytes)| {
            wanted.fits(&text, self.from_ms, self.to_ms).then_some(StoredEvent { seq, text })
        };
        let events = (row.first..).zip(row.texts());
        if self.newest_first {
            self.open.extend(events.take_while(|(seq, _)| *seq < self.place).filter_map(fits));
            self.place = row.first;
        } else {
            self.open.extend(events.skip_while(|(seq, _)| *seq <= self.place).filter_map(fits));
            self.open.reverse();
            self.place = row.last;
        }
    }

    /// The next row towards the newest.
    fn after(&self) -> rusqlite::Result<Found> {
        let db = &self.reader.db;
        let place = self.place.cast_signed();
        let span = db
            .prepare_cached("SELECT last_seq, first_ms, last_ms FROM spans WHERE first_seq <= ?1 + 1 ORDER BY first_seq DESC LIMIT 1")?
            .query_row([place], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
            .optional()?;
        let mut last = i64::MAX;
        if let Some((span_last, first_ms, last_ms)) = span
            && place < span_last
        {
            if self.misses(first_ms, last_ms) {
                return Ok(Found::Skip(span_last.cast_unsigned()));
            }
            last = span_last;
        }
        let found = db
            .prepare_cached(
                "SELECT first_seq, last_seq, body FROM batches
                 WHERE first_seq >= coalesce((SELECT max(first_seq) FROM batches WHERE first_seq <= ?1 + 1), 0)
                   AND first_seq <= ?2 AND last_seq > ?1 AND last_ms >= ?3 AND first_ms < ?4
                 ORDER BY first_seq LIMIT 1",
            )?
            .query_row(params![place, last, self.from_ms, self.to_ms], found_row)
            .optional()?;
        Ok(found.unwrap_or(if last == i64::MAX { Found::Nothing } else { Found::Skip(last.cast_unsigned()) }))
    }

    /// The next row towards the oldest.
    fn before(&self) -> rusqlite::Result<Found> {
        let db = &self.reader.db;
        let place = self.place.cast_signed();
        let span = db
            .prepare_cached("SELECT first_seq, last_seq, first_ms, last_ms FROM spans WHERE first_seq < ?1 ORDER BY first_seq DESC LIMIT 1")?
            .query_row([place], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
            })
            .optional()?;
        // Rows down to here may be looked at in one go.
        let mut first = 0;
        if let Some((span_first, span_last, first_ms, last_ms)) = span {
            if place > span_last + 1 {
                first = span_last + 1;
            } else if self.misses(first_ms, last_ms) {
                return Ok(Found::Skip(span_first.cast_unsigned()));
            } else {
                first = span_first;
            }
        }
        let found = db
            .prepare_cached(
                "SELECT first_seq, last_seq, body FROM batches
                 WHERE first_seq < ?1 AND first_seq >= ?2 AND last_ms >= ?3 AND first_ms < ?4
                 ORDER BY first_seq DESC LIMIT 1",
            )?
            .query_row(params![place, first, self.from_ms, self.to_ms], found_row)
            .optional()?;
        Ok(found.unwrap_or(if first == 0 { Found::Nothing } else { Found::Skip(first.cast_unsigned()) }))
    }

    fn misses(&self, first_ms: i64, last_ms: i64) -> bool {
        last_ms < self.from_ms || first_ms >= self.to_ms
    }
}

enum Found {
    Nothing,
    /// Nothing up to this place.
    Skip(u64),
    Row {
        first: u64,
        last: u64,
        body: Vec<u8>,
    },
}

fn found_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found::Row {
        first: row.get::<_, i64>(0)?.cast_unsigned(),
        last: row.get::<_, i64>(1)?.cast_unsigned(),
        body: row.get_ref(2)?.as_bytes()?.to_vec(),
    })
}

impl Iterator for Events<'_> {
    type Item = Result<StoredEvent, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || self.is_over {
            return None;
        }
        if self.open.is_empty() {
            match self.open_next() {
                Ok(true) => {}
                Ok(false) => {
                    self.is_over = true;
                    return None;
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        self.left -= 1;
        self.open.pop().map(Ok)
    }
}

/// What a filter wants of an event's text.
#[derive(Debug)]
struct Wanted {
    members: Members,
    /// Members as they are written. A text without one of them is not parsed.
    needles: Vec<memmem::Finder<'static>>,
    policy_id: Option<String>,
    project_id: Option<String>,
    policy_user: Option<String>,
    request_id: Option<String>,
    decision: Option<&'static str>,
    event_type: Option<&'static str>,
    event_id: Option<Uuid>,
}

/// The members that a filter can ask for.
#[derive(Deserialize)]
struct Looked<'t> {
    #[serde(borrow)]
    policy_id: Option<Cow<'t, str>>,
    #[serde(borrow)]
    project_id: Option<Cow<'t, str>>,
    #[serde(borrow)]
    policy_user: Option<Cow<'t, str>>,
    #[serde(borrow)]
    request_id: Option<Cow<'t, str>>,
    #[serde(borrow)]
    decision: Option<Cow<'t, str>>,
    #[serde(borrow)]
    event_type: Option<Cow<'t, str>>,
    event_id: Option<Uuid>,
}

impl Wanted {
    fn new(filter: &Filter) -> Self {
        let wanted = Self {
            members: Members::new(),
            needles: Vec::new(),
            policy_id: filter.policy_id.clone(),
            project_id: filter.project_id.clone(),
            policy_user: filter.policy_user.clone(),
            request_id: filter.request_id.clone(),
            decision: filter.decision.map(Decision::as_str),
            event_type: filter.event_type.map(EventType::as_str),
            event_id: filter.event_id,
        };
        let id = filter.event_id.map(|id| id.to_string());
        let values = [
            ("policy_id", wanted.policy_id.as_deref()),
            ("project_id", wanted.project_id.as_deref()),
            ("policy_user", wanted.policy_user.as_deref()),
            ("request_id", wanted.request_id.as_deref()),
            ("decision", wanted.decision),
            ("event_type", wanted.event_type),
            ("event_id", id.as_deref()),
        ];
        let needles = values.iter().filter_map(|(name, value)| {
            let value = serde_json::to_string((*value)?).ok()?;
            Some(memmem::Finder::new(&format!("\"{name}\":{value}")).into_owned())
        });
        Self { needles: needles.collect(), ..wanted }
    }

    fn fits(&self, text: &[u8], from_ms: i64, to_ms: i64) -> bool {
        if self.needles.iter().any(|needle| needle.find(text).is_none()) {
            return false;
        }
        if (from_ms, to_ms) != (i64::MIN, i64::MAX) {
            match self.members.created_ms(text) {
                Some(ms) if from_ms <= ms && ms < to_ms => {}
                _ => return false,
            }
        }
        self.needles.is_empty() || self.fits_parsed(text)
    }

    /// A needle may also stand in a nested object: this is exact.
    fn fits_parsed(&self, text: &[u8]) -> bool {
        fn same<W: AsRef<str>>(wanted: Option<W>, found: Option<Cow<'_, str>>) -> bool {
            wanted.is_none_or(|wanted| found.as_deref() == Some(wanted.as_ref()))
        }
        let Ok(found) = serde_json::from_slice::<Looked<'_>>(text) else { return false };
        same(self.policy_id.as_deref(), found.policy_id)
            && same(self.project_id.as_deref(), found.project_id)
            && same(self.policy_user.as_deref(), found.policy_user)
            && same(self.request_id.as_deref(), found.request_id)
            && same(self.decision, found.decision)
            && same(self.event_type, found.event_type)
            && self.event_id.is_none_or(|wanted| found.event_id == Some(wanted))
    }
}
