//! The last committed rows, kept in memory for exporters that are near the head: they read the very buffer that was
//! written, without asking the database.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use audit::outbox::StoredEvent;

use crate::rows::Row;

/// Some 4,000 events: what comes in during the linger of a destination at 20,000 events/s.
const TAIL_BYTES_MAX: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: VecDeque<Arc<Row>>,
    bytes: usize,
    /// Somebody reads. Without destinations there is nothing to keep.
    is_wanted: bool,
}

impl Tail {
    /// Adds rows in the order of their seq.
    pub(crate) fn push(&self, rows: Vec<Row>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.is_wanted {
            return;
        }
        for row in rows {
            inner.bytes += row.body.len();
            inner.rows.push_back(Arc::new(row));
        }
        while inner.bytes > TAIL_BYTES_MAX
            && let Some(row) = inner.rows.pop_front()
        {
            inner.bytes -= row.body.len();
        }
    }

    /// Events after `after`, where the first of them is here.
    pub(crate) fn read(&self, after: u64, events_max: usize, bytes_max: usize) -> Option<Vec<StoredEvent>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.is_wanted = true;
        let first = inner.rows.partition_point(|row| row.last <= after);
        if inner.rows.get(first)?.first > after.saturating_add(1) {
            return None;
        }
        let mut picked = Picked::new(after, events_max, bytes_max);
        for row in inner.rows.range(first..) {
            if !picked.add(row) {
                break;
            }
        }
        Some(picked.events)
    }
}

/// Events picked from rows, up to a limit.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) after: u64,
    events_left: usize,
    bytes_left: usize,
}

impl Picked {
    pub(crate) fn new(after: u64, events_max: usize, bytes_max: usize) -> Self {
        Self { events: Vec::new(), after, events_left: events_max, bytes_left: bytes_max }
    }

    /// Takes what is wanted of the row; whether there is room for more.
    pub(crate) fn add(&mut self, row: &Row) -> bool {
        while let Some(event) = row.event(self.after + 1) {
            let bytes = event.text.len();
            let is_first = self.events.is_empty();
            if self.events_left == 0 || (bytes > self.bytes_left && !is_first) {
                return false;
            }
            self.events_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            self.after += 1;
            self.events.push(event);
        }
        self.events_left > 0 && self.bytes_left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{EventRows, Head, chain_member};

    fn rows(after: u64, count: usize, bytes: usize) -> Vec<Row> {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        let mut rows = EventRows::new(Head { seq: after, ..Head::start() }, text.len() * count, count);
        for _ in 0..count {
            rows.push(text.as_bytes(), &chain_member(uuid::Uuid::nil()), 0);
        }
        rows.finish();
        rows.rows
    }

    fn seqs(events: &[StoredEvent]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn reads_across_rows_within_limits() {
        let tail = Tail::default();
        assert_eq!(tail.read(0, 10, 1000), None);
        tail.push(rows(0, 3, 10));
        tail.push(rows(3, 3, 10));
        assert_eq!(seqs(&tail.read(1, 10, 100_000).unwrap()), [2, 3, 4, 5, 6]);
        assert_eq!(seqs(&tail.read(1, 3, 100_000).unwrap()), [2, 3, 4]);
        let bytes = tail.read(0, 1, 1).unwrap()[0].text.len();
        assert_eq!(seqs(&tail.read(2, 10, 1).unwrap()), [3], "at least one");
        assert_eq!(seqs(&tail.read(2, 10, 2 * bytes).unwrap()), [3, 4]);
        assert_eq!(tail.read(6, 10, 1000), None);
    }

    #[test]
    fn keeps_nothing_unread_and_little_otherwise() {
        let tail = Tail::default();
        tail.push(rows(0, 1, 10));
        assert_eq!(tail.read(0, 10, 1000), None, "nobody had read before");
        for at in 0..8 {
            tail.push(rows(at, 1, 1 << 20));
        }
        assert_eq!(tail.read(0, 10, usize::MAX), None, "pushed out");
        assert_eq!(seqs(&tail.read(6, 10, usize::MAX).unwrap()), [7, 8]);
    }
}
