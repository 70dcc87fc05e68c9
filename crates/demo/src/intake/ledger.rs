//! What the intake remembers: the logs it took, the requests they came in, and counts; all bounded but the
//! journal, a file to check against after a crash. How a log is judged is in `check`.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::check::{Checked, Dropped, Violation};
use super::decode::Encoding;

/// Bytes of logs kept, as sent; with them the oldest go.
const LOG_BYTES_KEPT_MAX: usize = 64 << 20;

/// Requests remembered; the oldest go first.
const REQUESTS_KEPT_MAX: usize = 10_000;

/// A log that was answered 202.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Received {
    /// Its number, from 1, in the order of arrival. Logs that were dropped count too.
    pub index: u64,
    /// When it came.
    pub received_at: Timestamp,
    /// Its official time.
    pub time: Timestamp,
    /// Bytes of its text as sent.
    pub bytes: usize,
    /// Whether it was over 1 MB and cut.
    pub truncated: bool,
    /// Why it is not to be found, if it is not.
    pub dropped: Option<Dropped>,
    /// Rules it broke.
    pub violations: Vec<Violation>,
    /// Its tags as stored.
    pub tags: Vec<String>,
    /// The log, members in the order sent.
    pub log: Value,
}

impl Received {
    /// `event.id`, by which a sender marks a log it may send twice.
    pub fn event_id(&self) -> Option<&str> {
        self.log.pointer("/event/id").and_then(Value::as_str)
    }
}

/// A request to the logs path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceivedRequest {
    /// Its number, from 1.
    pub index: u64,
    /// When its handling ended.
    pub at: Timestamp,
    /// What it was answered; none where the connection was cut or left hanging.
    pub status: Option<u16>,
    /// How the body was packed, where that could be told.
    pub encoding: Option<Encoding>,
    /// Bytes of the body as it came.
    pub wire_bytes: usize,
    /// Bytes of it unpacked; 0 where it was not.
    pub inflated_bytes: usize,
    /// Entries in it; 0 where it was not read.
    pub entries: usize,
    /// The sender, by `DD-EVP-ORIGIN`.
    pub origin: Option<String>,
    /// The sender, by `User-Agent`.
    pub user_agent: Option<String>,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests to the logs path whose handling has ended.
    pub requests: u64,
    /// Of those, by the status answered.
    pub by_status: BTreeMap<u16, u64>,
    /// Of those, cut off or left hanging.
    pub unanswered: u64,
    /// Requests being handled now.
    pub in_flight: u64,
    /// The most there ever were at once.
    pub in_flight_max: u64,
    /// Logs answered 202, or kept though their request was cut off.
    pub received: u64,
    /// Of those, dropped for their time.
    pub dropped_for_time: u64,
    /// Of those, lost by script.
    pub lost: u64,
    /// Of those, cut to 1 MB.
    pub truncated: u64,
    /// Rules broken by them.
    pub violations: u64,
    /// Bytes of all bodies as they came.
    pub wire_bytes: u64,
    /// Bytes of the bodies unpacked.
    pub inflated_bytes: u64,
    /// Logs no longer in memory.
    pub evicted: u64,
}

/// The intake's memory, as predicates and readers see it.
#[derive(Debug)]
pub struct Ledger {
    logs: VecDeque<Arc<Received>>,
    log_bytes: usize,
    requests: VecDeque<ReceivedRequest>,
    stats: Stats,
    logs_kept_max: usize,
    journal: Option<File>,
}

impl Ledger {
    /// An empty ledger that appends to `journal`, one JSON object a line, shaped as [`Received`].
    pub(crate) fn open(logs_kept_max: usize, journal: Option<&Path>) -> io::Result<Self> {
        let journal =
            journal.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        Ok(Self {
            logs: VecDeque::new(),
            log_bytes: 0,
            requests: VecDeque::new(),
            stats: Stats::default(),
            logs_kept_max,
            journal,
        })
    }

    /// The logs that can be found: taken, and not dropped. Oldest first.
    pub fn logs(&self) -> impl DoubleEndedIterator<Item = &Arc<Received>> {
        self.logs.iter().filter(|log| log.dropped.is_none())
    }

    /// Every log that was answered 202, dropped ones included, after the one with `index`.
    pub fn received_after(&self, index: u64) -> impl Iterator<Item = &Arc<Received>> {
        self.logs.iter().skip(self.logs.partition_point(|log| log.index <= index))
    }

    /// The requests to the logs path, oldest first.
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &ReceivedRequest> {
        self.requests.iter()
    }

    /// The counts.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The different `event.id`s among the logs that can be found.
    pub fn event_ids(&self) -> HashSet<&str> {
        self.logs().filter_map(|log| log.event_id()).collect()
    }

    pub(crate) fn enter(&mut self) {
        self.stats.in_flight += 1;
        self.stats.in_flight_max = self.stats.in_flight_max.max(self.stats.in_flight);
    }

    /// Notes how a request ended.
    pub(crate) fn leave(&mut self, mut request: ReceivedRequest) {
        self.stats.in_flight -= 1;
        self.stats.requests += 1;
        self.stats.wire_bytes += request.wire_bytes as u64;
        self.stats.inflated_bytes += request.inflated_bytes as u64;
        match request.status {
            Some(status) => *self.stats.by_status.entry(status).or_default() += 1,
            None => self.stats.unanswered += 1,
        }
        request.index = self.stats.requests;
        self.requests.push_back(request);
        if self.requests.len() > REQUESTS_KEPT_MAX {
            self.requests.pop_front();
        }
    }

    /// Counts logs without keeping them.
    pub(crate) fn count(&mut self, logs: usize) {
        self.stats.received += logs as u64;
    }

    /// Takes logs in. They are in the journal, if there is one, when this returns: an answer may follow.
    pub(crate) fn take(
        &mut self,
        logs: impl IntoIterator<Item = (Checked, usize)>,
        received_at: Timestamp,
    ) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut taken = Vec::new();
        for (index, (checked, bytes)) in (self.stats.received + 1..).zip(logs) {
            let Checked { log, time, tags, truncated, dropped, violations } = checked;
            let log = Received { index, received_at, time, bytes, truncated, dropped, violations, tags, log };
            if self.journal.is_some() {
                serde_json::to_writer(&mut lines, &log)?;
                lines.push(b'\n');
            }
            taken.push(log);
        }
        if let Some(journal) = &mut self.journal {
            journal.write_all(&lines)?;
        }
        for log in taken {
            self.keep(log);
        }
        Ok(())
    }

    fn keep(&mut self, log: Received) {
        let stats = &mut self.stats;
        stats.received += 1;
        stats.truncated += u64::from(log.truncated);
        stats.violations += log.violations.len() as u64;
        match log.dropped {
            Some(Dropped::Lost) => stats.lost += 1,
            Some(Dropped::TooOld | Dropped::InFuture) => stats.dropped_for_time += 1,
            None => {}
        }
        self.log_bytes += log.bytes;
        self.logs.push_back(Arc::new(log));
        while self.logs.len() > self.logs_kept_max || self.log_bytes > LOG_BYTES_KEPT_MAX {
            let Some(oldest) = self.logs.pop_front() else { break };
            self.log_bytes -= oldest.bytes;
            self.stats.evicted += 1;
        }
    }
}
