//! The log while it cannot be written: new decisions are refused, closing records wait and use the ballast's room, and
//! the disk is probed until it takes records again. Nothing else of the writer knows about it.

use std::time::{Duration, Instant};

use audit::log::AppendError;
use rusqlite::params;

use crate::commit::{Trouble, transact};
use crate::files;
use crate::orders::Order;
use crate::queue::{Kind, Queued};
use crate::schema::set_meta;
use crate::writer::{Flow, Writer, settle};

/// The disk is tried this often.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Room in the database that a probe asks for. Less, and the log would go back and forth.
const PROBE_BYTES: i32 = 1 << 20;

/// Why and since when.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) reason: String,
    pub(crate) next_probe: Instant,
    /// The last write succeeded: closings have room, be it the ballast's.
    has_room: bool,
}

impl Writer {
    /// A write failed, and nothing of it is on disk. `records` are those that it was to make durable.
    pub(crate) fn on_trouble(&mut self, records: Vec<Queued>, trouble: Trouble) -> Flow {
        let reason = match trouble {
            Trouble::Fatal(reason) => return self.fail(records, &reason),
            Trouble::Full(reason) => {
                self.ballast.release();
                reason
            }
            Trouble::Passing(reason) => reason,
        };
        tracing::error!(%reason, "the audit log is blocked: requests are refused until it can be written");
        // Refuses at once before anybody is told: those who try again shall not queue up.
        self.shared.queue.block(&reason);
        self.block = Some(Block { reason, next_probe: Instant::now() + PROBE_INTERVAL, has_room: true });
        self.hold(records);
        self.write_held(Vec::new())
    }

    /// A turn of the blocked log.
    pub(crate) fn turn_blocked(&mut self, records: Vec<Queued>, orders: Vec<Order>) -> Flow {
        self.hold(records);
        let Some(block) = &self.block else { return Flow::Go };
        let probe = Instant::now() >= block.next_probe;
        if !block.has_room && !probe {
            let reason = block.reason.clone();
            orders.into_iter().for_each(|order| order.refuse(&reason));
            return Flow::Go;
        }
        if let Flow::Stop(reason) = self.write_held(orders) {
            return Flow::Stop(reason);
        }
        if probe && self.held.is_empty() {
            return self.probe();
        }
        if let Some(block) = &mut self.block
            && probe
        {
            block.next_probe = Instant::now() + PROBE_INTERVAL;
        }
        Flow::Go
    }

    /// Keeps what must not be lost and refuses the rest.
    fn hold(&mut self, records: Vec<Queued>) {
        let Some(block) = &self.block else { return };
        for mut record in records {
            let whose = if let Kind::Beside(first) = record.kind { first } else { record.event_id };
            let is_open = self.state.open.contains_key(&whose);
            match record.kind {
                // Its decision was refused and counted: there is nothing to close.
                Kind::Closing | Kind::Beside(_) if !is_open => {
                    record.answer(Err(AppendError::Blocked(block.reason.clone())));
                }
                Kind::Closing | Kind::Beside(_) => self.held.push(record),
                // It is counted anew with the gap that is reported once the log is writable.
                Kind::Gap => {}
                // It is no part of the turn's records.
                Kind::Ordered => {}
                Kind::Decision | Kind::Standalone => {
                    self.shared.queue.refused(record.event_id, record.kind, !is_open);
                    record.answer(Err(AppendError::Blocked(block.reason.clone())));
                    // The closing event may carry this one's hash, so it is written before that, if late.
                    if is_open && record.kind == Kind::Decision {
                        self.held.push(record);
                    }
                }
            }
        }
    }

    fn write_held(&mut self, orders: Vec<Order>) -> Flow {
        if self.held.is_empty() && orders.is_empty() {
            return Flow::Go;
        }
        let mut held = std::mem::take(&mut self.held);
        let written = self.commit(&held, orders);
        let has_room = written.is_ok();
        match written {
            Ok(()) => settle(&self.shared.answers, &mut held),
            Err(Trouble::Fatal(reason)) => return self.fail(held, &reason),
            Err(Trouble::Full(_)) => {
                self.ballast.release();
                self.held = held;
            }
            Err(Trouble::Passing(_)) => self.held = held,
        }
        if let Some(block) = &mut self.block {
            block.has_room = has_room;
        }
        Flow::Go
    }

    /// Tries whether the log can be written again, and opens it then.
    fn probe(&mut self) -> Flow {
        let result = self.try_room();
        match result {
            Ok(()) => {
                tracing::info!("the audit log can be written again");
                self.block = None;
                self.shared.queue.unblock();
                Flow::Go
            }
            Err(Trouble::Fatal(reason)) => self.fail(Vec::new(), &reason),
            Err(trouble) => {
                self.shared.queue.block(trouble.reason());
                self.block = Some(Block {
                    reason: trouble.reason().to_owned(),
                    next_probe: Instant::now() + PROBE_INTERVAL,
                    has_room: self.block.as_ref().is_some_and(|block| block.has_room),
                });
                Flow::Go
            }
        }
    }

    fn try_room(&mut self) -> Result<(), Trouble> {
        // What is in the write-ahead log still needs its room in the database.
        self.checkpoints.step_now(&self.db).map_err(|error| Trouble::of(&error, &self.path))?;
        self.ballast.restore().map_err(|error| {
            Trouble::Full(format!(
                "no space left for `{}` ({error}): free at least {} MiB on its disk",
                self.path.display(),
                self.ballast.needed_mib()
            ))
        })?;
        if !files::has_room(&self.path) {
            return Err(Trouble::Full(format!(
                "no space left for `{}`: free some on its disk",
                self.path.display()
            )));
        }
        let trouble = |error: rusqlite::Error| Trouble::of(&error, &self.path);
        // Room in the database shows when it is taken …
        let taken = transact(&self.db, || {
            let sql = "INSERT INTO meta(key, value) VALUES('probe', zeroblob(?1)) ON CONFLICT(key) DO UPDATE SET value = zeroblob(?1)";
            self.db.prepare_cached(sql)?.execute(params![PROBE_BYTES])?;
            Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
        });
        match taken {
            Err(rusqlite::Error::QueryReturnedNoRows) => {}
            Err(error) => return Err(trouble(error)),
            Ok(()) => {}
        }
        // … and the disk when something is written.
        let now_ms = jiff::Timestamp::now().as_millisecond();
        transact(&self.db, || set_meta(&self.db, "probe", now_ms)).map_err(trouble)?;
        self.identity.check().map_err(Trouble::Fatal)
    }

    /// The log is over.
    pub(crate) fn fail(&mut self, records: Vec<Queued>, reason: &str) -> Flow {
        tracing::error!(%reason, "the audit log failed: the gateway must stop");
        let queued = self.shared.queue.fail(reason);
        let held = std::mem::take(&mut self.held);
        for mut record in records.into_iter().chain(held).chain(queued.records) {
            record.answer(Err(AppendError::Failed(reason.to_owned())));
        }
        queued.orders.into_iter().for_each(|order| order.refuse(reason));
        Flow::Stop(reason.to_owned())
    }
}
