//! How delivery reads the log: from memory near the head, else from the one thread that reads the file for it. Cursors
//! are the writer's (see `orders`); dead letters are read here.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use audit::outbox::{
    Advance, Ahead, BoxFuture, Cursor, DeadLetter, DeliveryState, Outbox, OutboxError, StoredEvent,
};
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{oneshot, watch};

use crate::Store;
use crate::ahead::read_ahead;
use crate::error::StoreError;
use crate::orders::{Order, Reply, read_dead};
use crate::retention::anchor;
use crate::rows::Row;
use crate::schema::open_reader;
use crate::tail::Picked;

/// Rows kept for whoever reads on, or reads the same a little later: one for each of some destinations behind the head.
const ROWS_KEPT_MAX: usize = 4;

/// What is asked of the reading thread.
#[derive(Debug)]
enum Ask {
    Events { after: u64, events_max: usize, bytes_max: usize, reply: Reply<Vec<StoredEvent>, OutboxError> },
    DeadLetters { destination: String, after: u64, limit: usize, reply: Reply<Vec<DeadLetter>, OutboxError> },
    Ahead { destination: String, reply: Reply<Vec<Ahead>, OutboxError> },
}

/// The thread that reads. It ends with its last handle.
#[derive(Debug)]
pub(crate) struct ReadThread {
    asks: mpsc::Sender<Ask>,
    thread: Option<JoinHandle<()>>,
}

impl ReadThread {
    pub(crate) fn start(path: &Path) -> Result<Self, StoreError> {
        let rows = RowReader { db: open_reader(path)?, path: path.to_owned(), kept: VecDeque::new() };
        let (asks, asked) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-reader".to_owned())
            .spawn(move || rows.run(&asked))
            .map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        Ok(Self { asks, thread: Some(thread) })
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T, OutboxError>) -> Ask) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
        let gone = || OutboxError::Store("it is closed".to_owned());
        self.asks.send(ask(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for ReadThread {
    fn drop(&mut self) {
        let (nobody, _) = mpsc::channel();
        self.asks = nobody;
        if let Some(thread) = self.thread.take() {
            // It ends after the read it is at; how it ended is of no consequence.
            let _ = thread.join();
        }
    }
}

/// Reads rows one by one, and remembers the last ones.
#[derive(Debug)]
struct RowReader {
    db: Connection,
    path: PathBuf,
    kept: VecDeque<Row>,
}

impl RowReader {
    fn run(mut self, asked: &mpsc::Receiver<Ask>) {
        for ask in asked {
            // Whoever no longer waits does not want to know.
            match ask {
                Ask::Events { after, events_max, bytes_max, reply } => {
                    drop(reply.send(self.events(after, events_max, bytes_max)));
                }
                Ask::DeadLetters { destination, after, limit, reply } => {
                    let letters = read_dead(&self.db, &destination, after, limit);
                    drop(reply.send(letters.map_err(|error| self.failed(&error))));
                }
                Ask::Ahead { destination, reply } => {
                    let batches = read_ahead(&self.db, &destination);
                    drop(reply.send(batches.map_err(|error| self.failed(&error))));
                }
            }
        }
    }

    fn failed(&self, error: &rusqlite::Error) -> OutboxError {
        OutboxError::Store(format!("`{}` could not be read: {error}", self.path.display()))
    }

    fn events(
        &mut self,
        after: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEvent>, OutboxError> {
        let mut picked = Picked::new(after, events_max, bytes_max);
        while let Some(at) = self.find(picked.after + 1)? {
            let Some(row) = self.kept.get(at) else { break };
            if !picked.add(row) {
                break;
            }
        }
        Ok(picked.events)
    }

    /// Index of the row with this event among those kept; `None` where the event is not there yet.
    fn find(&mut self, seq: u64) -> Result<Option<usize>, OutboxError> {
        let holds = |row: &Row| row.first <= seq && seq <= row.last;
        if let Some(at) = self.kept.iter().position(holds) {
            return Ok(Some(at));
        }
        let read = read_row(&self.db, seq).map_err(|error| self.failed(&error))?;
        let Some((first, last, body)) = read else {
            let begin = anchor(&self.db).map_err(|error| self.failed(&error))?.first_seq;
            return if seq < begin { Err(OutboxError::Gone(begin - 1)) } else { Ok(None) };
        };
        let row = Row::parse(first, last, body).ok_or_else(|| {
            OutboxError::Store(format!(
                "`{}` is damaged: events {first} to {last} are not what was written",
                self.path.display()
            ))
        })?;
        if self.kept.len() == ROWS_KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(row);
        Ok(Some(self.kept.len() - 1))
    }
}

/// The row with this event: its bounds and its body.
pub(crate) fn read_row(db: &Connection, seq: u64) -> rusqlite::Result<Option<(u64, u64, Vec<u8>)>> {
    // A seq past i64 does not exist.
    let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
    let mut select = db.prepare_cached(
        "SELECT first_seq, last_seq, body FROM batches WHERE first_seq <= ?1 ORDER BY first_seq DESC LIMIT 1",
    )?;
    select
        .query_row([seq], |row| {
            let last: i64 = row.get(1)?;
            if last < seq {
                return Ok(None);
            }
            let body = row.get_ref(2)?.as_bytes()?.to_vec();
            Ok(Some((row.get::<_, i64>(0)?.cast_unsigned(), last.cast_unsigned(), body)))
        })
        .optional()
        .map(Option::flatten)
}

impl Store {
    pub(crate) async fn order<T>(
        &self,
        order: impl FnOnce(Reply<T, OutboxError>) -> Order,
    ) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
        if let Err((order, reason)) = self.shared.queue.order(order(reply)) {
            order.refuse(&reason);
        }
        answer.await.unwrap_or_else(|_| Err(OutboxError::Store("it is closed".to_owned())))
    }
}

impl Outbox for Store {
    fn head(&self) -> watch::Receiver<u64> {
        self.shared.head.subscribe()
    }

    fn read_after(
        &self,
        after: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, OutboxError>> {
        if let Some(events) = self.shared.tail.read(after, events_max, bytes_max) {
            return Box::pin(std::future::ready(Ok(events)));
        }
        if after >= *self.shared.head.borrow() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        Box::pin(self.reads.ask(move |reply| Ask::Events { after, events_max, bytes_max, reply }))
    }

    fn cursor<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.order(|reply| Order::Cursor { destination, reply }))
    }

    fn advance<'a>(
        &'a self,
        destination: &'a str,
        advance: Advance,
    ) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.order(move |reply| Order::Advance { destination, advance, reply }))
    }

    fn keep_ahead<'a>(
        &'a self,
        destination: &'a str,
        batches: Vec<Ahead>,
    ) -> BoxFuture<'a, Result<(), OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.order(move |reply| Order::KeepAhead { destination, batches, reply }))
    }

    fn ahead<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Vec<Ahead>, OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.reads.ask(move |reply| Ask::Ahead { destination, reply }))
    }

    fn report<'a>(
        &'a self,
        destination: &'a str,
        state: DeliveryState,
        last_error: Option<String>,
    ) -> BoxFuture<'a, Result<(), OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.order(move |reply| Order::Report { destination, state, last_error, reply }))
    }

    fn dead_letters<'a>(
        &'a self,
        destination: &'a str,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.reads.ask(move |reply| Ask::DeadLetters { destination, after, limit, reply }))
    }

    fn resolve_dead<'a>(
        &'a self,
        destination: &'a str,
        seqs: Vec<u64>,
    ) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        let destination = destination.to_owned();
        Box::pin(self.order(move |reply| Order::ResolveDead { destination, seqs, reply }))
    }
}
