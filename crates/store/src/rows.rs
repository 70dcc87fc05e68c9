//! Rows of events as they are stored: a JSON array with one event per line, and where each event stands in it. The
//! chain is spliced into each event's text here; what a transaction makes of the rows is in `commit`.

use audit::event::{hex, leaf_hash};
use audit::outbox::StoredEvent;
use bytes::Bytes;
use memchr::memmem;
use uuid::Uuid;

/// A row is closed once it holds this much. It bounds what a reader has in memory at once.
pub(crate) const ROW_BYTES_MAX: usize = 1 << 20;

/// What the chain adds to an event: four members and the separator, rounded up.
const LINK_BYTES: usize = 260;

/// `prev_hash` of the first event.
pub(crate) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One row, complete.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) body: Bytes,
    /// Where each text starts in the body.
    starts: Vec<u32>,
}

impl Row {
    /// A row as read back; `None` where the body is not what `first` and `last` say.
    pub(crate) fn parse(first: u64, last: u64, body: Vec<u8>) -> Option<Self> {
        let inner = body.strip_prefix(b"[")?.strip_suffix(b"]")?;
        let mut starts = vec![1_u32];
        for at in memmem::find_iter(inner, b",\n") {
            starts.push(u32::try_from(at + 3).ok()?);
        }
        let count = last.checked_sub(first)?.checked_add(1)?;
        if inner.is_empty() || starts.len() as u64 != count {
            return None;
        }
        Some(Self { first, last, first_ms: 0, last_ms: 0, body: Bytes::from(body), starts })
    }

    /// A row of decision records as read back; `first` and `last` count them, from 0.
    pub(crate) fn parse_all(body: Vec<u8>) -> Option<Self> {
        let count = memmem::find_iter(&body, b",\n").count() as u64;
        Self::parse(0, count, body)
    }

    /// The text at `index`, counted from 0.
    pub(crate) fn text(&self, index: usize) -> Option<Bytes> {
        let start = *self.starts.get(index)? as usize;
        let end = match self.starts.get(index + 1) {
            Some(next) => (*next as usize).checked_sub(2)?,
            None => self.body.len().checked_sub(1)?,
        };
        (start <= end && end <= self.body.len()).then(|| self.body.slice(start..end))
    }

    /// All texts, in order.
    pub(crate) fn texts(&self) -> impl DoubleEndedIterator<Item = Bytes> + '_ {
        (0..self.starts.len()).filter_map(|index| self.text(index))
    }

    /// The event with this seq.
    pub(crate) fn event(&self, seq: u64) -> Option<StoredEvent> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        Some(StoredEvent { seq, text: self.text(index)? })
    }
}

/// A row that is being filled.
#[derive(Debug)]
struct Draft {
    body: Vec<u8>,
    starts: Vec<u32>,
    first_ms: i64,
    last_ms: i64,
}

impl Draft {
    fn new(capacity: usize) -> Self {
        let mut body = Vec::with_capacity(capacity.min(ROW_BYTES_MAX + LINK_BYTES) + 2);
        body.push(b'[');
        Self { body, starts: Vec::new(), first_ms: i64::MAX, last_ms: i64::MIN }
    }

    /// Makes room for the next text and returns its start.
    fn start(&mut self, ms: i64) -> usize {
        if !self.starts.is_empty() {
            self.body.extend_from_slice(b",\n");
        }
        self.starts.push(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        self.first_ms = self.first_ms.min(ms);
        self.last_ms = self.last_ms.max(ms);
        self.body.len()
    }

    fn finish(mut self, first: u64) -> Option<Row> {
        let count = self.starts.len() as u64;
        self.body.push(b']');
        Some(Row {
            first,
            last: first + count.checked_sub(1)?,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            body: Bytes::from(self.body),
            starts: self.starts,
        })
    }
}

/// Where the chain stands: what the next event follows on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    /// Hex.
    pub(crate) hash: String,
}

impl Head {
    /// Of an empty log.
    pub(crate) fn start() -> Self {
        Self { seq: 0, hash: NO_HASH.to_owned() }
    }
}

/// The member that follows an event's own, with the chain's id: it is the same for each event.
pub(crate) fn chain_member(chain: Uuid) -> String {
    format!(",\"chain\":\"{chain}\",\"seq\":")
}

/// Events of one commit, chained onto `head`.
#[derive(Debug)]
pub(crate) struct EventRows {
    pub(crate) rows: Vec<Row>,
    pub(crate) head: Head,
    draft: Option<Draft>,
    first: u64,
    capacity: usize,
}

impl EventRows {
    /// `bytes` and `events` are what is to come; too little costs a copy, too much costs memory.
    pub(crate) fn new(head: Head, bytes: usize, events: usize) -> Self {
        let first = head.seq + 1;
        Self { rows: Vec::new(), head, draft: None, first, capacity: bytes + events * LINK_BYTES }
    }

    /// Adds an event, whose text must be a JSON object on one line.
    pub(crate) fn push(&mut self, text: &[u8], chain_member: &str, ms: i64) {
        let draft = self.draft.get_or_insert_with(|| Draft::new(self.capacity));
        let start = draft.start(ms);
        let body = &mut draft.body;
        let own = text.strip_suffix(b"}").unwrap_or(text);
        body.extend_from_slice(own);
        let seq = self.head.seq + 1;
        body.extend_from_slice(chain_member.as_bytes());
        push_number(body, seq);
        body.extend_from_slice(b",\"prev_hash\":\"");
        body.extend_from_slice(self.head.hash.as_bytes());
        body.extend_from_slice(b"\"}");
        let hash = hex(&leaf_hash(body.get(start..).unwrap_or_default()));
        body.pop();
        body.extend_from_slice(b",\"hash\":\"");
        body.extend_from_slice(hash.as_bytes());
        body.extend_from_slice(b"\"}");
        let is_full = body.len() >= ROW_BYTES_MAX;
        self.head = Head { seq, hash };
        if is_full {
            self.close_row();
        }
    }

    /// Closes the last row.
    pub(crate) fn finish(&mut self) {
        self.close_row();
    }

    fn close_row(&mut self) {
        if let Some(row) = self.draft.take().and_then(|draft| draft.finish(self.first)) {
            self.capacity = self.capacity.saturating_sub(row.body.len());
            self.first = row.last + 1;
            self.rows.push(row);
        }
    }
}

/// Decision records of one commit. `first` and `last` of a row count records within it, from 0; its id is given by
/// the table.
#[derive(Debug, Default)]
pub(crate) struct DecisionRows {
    pub(crate) rows: Vec<Row>,
    draft: Option<Draft>,
}

impl DecisionRows {
    /// Adds a record and returns the index of its row among those of this commit. `bytes` is what is to come.
    pub(crate) fn push(&mut self, text: &[u8], ms: i64, bytes: usize) -> u64 {
        let draft = self.draft.get_or_insert_with(|| Draft::new(bytes));
        draft.start(ms);
        draft.body.extend_from_slice(text);
        let index = self.rows.len() as u64;
        if draft.body.len() >= ROW_BYTES_MAX {
            self.close_row();
        }
        index
    }

    /// Closes the last row.
    pub(crate) fn finish(&mut self) {
        self.close_row();
    }

    fn close_row(&mut self) {
        self.rows.extend(self.draft.take().and_then(|draft| draft.finish(0)));
    }
}

fn push_number(body: &mut Vec<u8>, number: u64) {
    // 20 digits hold any u64.
    let mut digits = [0_u8; 20];
    let mut left = number;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        used += 1;
        if left == 0 {
            break;
        }
    }
    body.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// The string value of a top-level member of an event that this workspace wrote. `key` is given as `"name":"`. Cannot
/// be misled by a value: inside a string the quotes would be escaped.
fn member<'t>(text: &'t [u8], key: &memmem::Finder<'_>) -> Option<&'t [u8]> {
    let start = key.find(text)? + key.needle().len();
    let rest = text.get(start..)?;
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// Finds the members that the store itself reads.
#[derive(Debug)]
pub(crate) struct Members {
    created_at: memmem::Finder<'static>,
    event_id: memmem::Finder<'static>,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self {
            created_at: memmem::Finder::new(b"\"created_at\":\""),
            event_id: memmem::Finder::new(b"\"event_id\":\""),
        }
    }

    /// `created_at` in Unix milliseconds.
    pub(crate) fn created_ms(&self, text: &[u8]) -> Option<i64> {
        let written = std::str::from_utf8(member(text, &self.created_at)?).ok()?;
        written.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    }

    pub(crate) fn event_id(&self, text: &[u8]) -> Option<Uuid> {
        Uuid::try_parse_ascii(member(text, &self.event_id)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_chained_by_its_text() {
        let chain = Uuid::from_u128(7);
        let mut rows = EventRows::new(Head::start(), 100, 2);
        rows.push(br#"{"a":1}"#, &chain_member(chain), 5);
        rows.push(br#"{"b":2}"#, &chain_member(chain), 3);
        rows.finish();
        let row = &rows.rows[0];
        let first = format!(r#"{{"a":1,"chain":"{chain}","seq":1,"prev_hash":"{NO_HASH}"}}"#);
        let hash = hex(&leaf_hash(first.as_bytes()));
        let first = format!(r#"{},"hash":"{hash}"}}"#, first.strip_suffix('}').unwrap());
        assert_eq!(row.text(0).unwrap(), first.as_bytes());
        let second = String::from_utf8(row.text(1).unwrap().to_vec()).unwrap();
        assert!(second.contains(&format!(r#""seq":2,"prev_hash":"{hash}""#)), "{second}");
        assert_eq!((row.first, row.last, row.first_ms, row.last_ms), (1, 2, 3, 5));
        serde_json::from_slice::<Vec<serde_json::Value>>(&row.body).unwrap();
    }

    #[test]
    fn long_commits_are_cut_into_rows() {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(400_000));
        let mut rows = EventRows::new(Head { seq: 9, hash: NO_HASH.to_owned() }, 7 * text.len(), 7);
        for _ in 0..7 {
            rows.push(text.as_bytes(), &chain_member(Uuid::nil()), 0);
        }
        rows.finish();
        let spans: Vec<_> = rows.rows.iter().map(|row| (row.first, row.last)).collect();
        assert_eq!(spans, [(10, 12), (13, 15), (16, 16)]);
        assert_eq!(rows.head.seq, 16);
        for row in &rows.rows {
            let read = Row::parse(row.first, row.last, row.body.to_vec()).unwrap();
            assert!(read.texts().eq(row.texts()));
        }
    }

    #[test]
    fn a_body_that_does_not_fit_its_span_is_refused() {
        let whole = b"[{\"a\":1},\n{\"b\":2}]";
        assert_eq!(Row::parse(1, 2, whole.to_vec()).unwrap().event(2).unwrap().text, &b"{\"b\":2}"[..]);
        assert!(Row::parse(1, 3, whole.to_vec()).is_none());
        assert!(Row::parse(2, 1, whole.to_vec()).is_none());
        assert!(Row::parse(1, 1, b"[]".to_vec()).is_none());
        assert!(Row::parse(1, 1, Vec::new()).is_none());
    }

    #[test]
    fn members_are_not_found_inside_values() {
        let members = Members::new();
        let text = serde_json::to_vec(&serde_json::json!({
            "policy_user": "\"created_at\":\"2001-01-01T00:00:00Z\"",
            "created_at": "2026-01-16T18:22:11.250Z",
        }))
        .unwrap();
        assert_eq!(members.created_ms(&text), Some(1_768_587_731_250));
        assert_eq!(members.event_id(&text), None);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut text = Vec::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }
}
