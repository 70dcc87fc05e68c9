//! The SQLite store behind the audit log and its outbox: one file, one writer thread, any number of readers. It keeps
//! what it is given and decides nothing; what the records mean is in `audit`.
//!
//! Start at [`Store`]; the file's format is specified in `schema`, one commit in `commit`, the writer in `writer`.

mod ahead;
mod answering;
mod answers;
mod blocked;
mod checkpoint;
mod commit;
mod counters;
mod error;
mod escalations;
mod files;
mod idle;
mod marks;
mod options;
mod orders;
mod outbox;
mod query;
mod queue;
mod reader;
mod recovery;
mod retention;
mod rollouts;
mod rows;
mod schema;
mod state;
mod tail;
mod tickets;
mod tree;
mod usage;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use audit::event::AuditEvent;
use audit::log::{AppendError, AuditLog, Durable, LogHealth, LogStats, Mark, Record};
use audit::outbox::BoxFuture;
use escalation::FingerprintKey;
use tokio::sync::{oneshot, watch};

pub use counters::QuotaCounter;
pub use error::StoreError;
pub use files::free_bytes;
pub use idle::IdleSignal;
pub use options::{BALLAST_BYTES_DEFAULT, QUEUE_MAX_DEFAULT, StoreOptions};
pub use query::{Events, Filter};
pub use reader::{Reader, VerifyFailure};
pub use retention::{Anchor, Retained};
pub use tree::{StoredCheckpoint, TreeNodes};

use crate::answering::Answers;
use crate::checkpoint::Checkpoints;
use crate::commit::{State, transact};
use crate::files::{Ballast, Identity, Lock, beside};
use crate::marks::OnceOrder;
use crate::orders::{Order, Reply, load_cursors};
use crate::outbox::ReadThread;
use crate::queue::Queue;
use crate::schema::{failed, set_meta};
use crate::tail::Tail;
use crate::writer::{Shared, Writer, limit_file};

/// The store, open for writing. One process at a time.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    reads: ReadThread,
    path: PathBuf,
    recovered: u64,
    problems: Vec<String>,
    fingerprint_key: FingerprintKey,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store at `path` and creates it where there is none. Decisions that no event closed are closed as
    /// interrupted before this returns. It blocks for as long as that takes, and needs no runtime.
    ///
    /// # Errors
    /// [`StoreError`], which says what to do.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let path = path.as_ref().to_owned();
        files::create(&path)?;
        let lock = Lock::take(&path)?;
        let ballast = Ballast::new(&path, options.ballast_bytes);
        let (db, state, recovered) = match Self::load(&path) {
            Err(StoreError::NoSpace { .. }) => {
                // The ballast is there for the closing of open decisions, too.
                ballast.release();
                Self::load(&path)?
            }
            loaded => loaded?,
        };
        limit_file(&db, options.file_bytes_max).map_err(failed(&path, "opened"))?;
        let cursors = load_cursors(&db).map_err(failed(&path, "read"))?;
        let fingerprint_key = escalations::fingerprint_key(&db).map_err(failed(&path, "written"))?;
        state::make_key_secret(&db).map_err(failed(&path, "written"))?;
        let mut problems = Vec::new();
        if let Err(error) = ballast.restore() {
            problems.push(format!(
                "no room for the ballast file beside `{}` ({error}): free at least {} MiB, or a full disk may keep closing records in memory",
                path.display(),
                ballast.needed_mib()
            ));
        }
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_max, options.idle.clone()),
            tail: Tail::default(),
            answers: Answers::default(),
            head: watch::Sender::new(state.head.seq),
            ended: watch::Sender::new(None),
        });
        if let Some(idle) = &options.idle {
            idle.tell(&shared);
        }
        let reads = ReadThread::start(&path)?;
        let now = Instant::now();
        let writer = Writer {
            db,
            shared: Arc::clone(&shared),
            state,
            cursors,
            identity: Identity::of(&[path.clone(), beside(&path, "-wal")]),
            ballast,
            checkpoints: Checkpoints::start(&path)?,
            block: None,
            held: Vec::new(),
            retention_days: options.retention_days,
            retention_destinations: None,
            sweep: None,
            next_sweep: now,
            next_slice: now,
            path: path.clone(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::File { path: path.clone(), source })?;
        let writer = Mutex::new(Some(thread));
        Ok(Arc::new(Self { shared, reads, path, recovered, problems, fingerprint_key, writer }))
    }

    fn load(path: &Path) -> Result<(rusqlite::Connection, State, u64), StoreError> {
        let db = schema::open_writer(path)?;
        let mut state = State::load(&db, path)?;
        let recovered = recovery::recover(&db, path, &mut state)?;
        // Shows now rather than at the first request whether the file can be written, and makes the write-ahead log
        // whose identity is watched.
        let now_ms = jiff::Timestamp::now().as_millisecond();
        transact(&db, || set_meta(&db, "opened_ms", now_ms)).map_err(failed(path, "written"))?;
        Ok((db, state, recovered))
    }

    /// Opens the store at `path` for reading, be a gateway running or not.
    ///
    /// # Errors
    /// [`StoreError`], which says what to do.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Reader, StoreError> {
        Reader::open(path.as_ref())
    }

    /// Another read-only connection to this store, for queries.
    ///
    /// # Errors
    /// [`StoreError`], which says what to do.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Decisions that were found open and closed as interrupted.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }

    /// What was not as it should be at the start, in words for the operator.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The log's health, and a signal whenever it changes.
    pub fn health_watch(&self) -> watch::Receiver<LogHealth> {
        self.shared.queue.health()
    }

    /// Resolves with the reason once the log failed for good, and never otherwise: the process must end then.
    pub async fn failed(&self) -> String {
        let mut health = self.shared.queue.health();
        loop {
            if let LogHealth::Failed(reason) = &*health.borrow_and_update() {
                return reason.clone();
            }
            if health.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Answers those who wait for records from wherever it is polled, in place of the writer's thread, which would have to
    /// wake a runtime for each of them. Runs until it is dropped, and nobody is forgotten then; only the first runs at
    /// all. Not needed for anything but speed.
    pub fn answering(&self) -> impl Future<Output = ()> + Send + 'static {
        let listener = self.shared.answers.listen();
        async {
            if let Some(listener) = listener {
                listener.run().await;
            }
        }
    }

    /// Tries now whether a blocked log can be written again. It is tried four times a second anyway.
    pub fn probe(&self) {
        self.tell(Order::Probe);
    }

    /// The database never grows past this many bytes; `None` leaves it to the disk.
    pub fn limit_file(&self, bytes_max: Option<u64>) {
        self.tell(Order::LimitFile { bytes_max });
    }

    /// Retention by the clock waits for these destinations only; before this was called, for every one that ever had a
    /// cursor.
    pub fn retain_for(&self, destinations: Vec<String>) {
        self.tell(Order::RetainFor { destinations });
    }

    /// Deletes events and decision records older than `days`, as far as each of `destinations` has them. The newest
    /// events stay in any case.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn retain(&self, days: u32, destinations: &[String]) -> Result<Retained, StoreError> {
        let destinations = destinations.to_vec();
        self.ask(|reply| Order::Retain { days, destinations, reply }).await
    }

    /// Writes what is queued, leaves the file in order and ends the writer. Appends are refused from now on. May be
    /// called any number of times.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where something could not be written any more.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.queue.close();
        let mut ended = self.shared.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(reason))) => Err(StoreError::Unavailable(reason.clone())),
            _ => Ok(()),
        }
    }

    async fn ask<T>(&self, order: impl FnOnce(Reply<T, StoreError>) -> Order) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.tell(order(reply));
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".to_owned())))
    }

    fn tell(&self, order: Order) {
        if let Err((order, reason)) = self.shared.queue.order(order) {
            order.refuse(&reason);
        }
    }
}

impl Drop for Store {
    /// As [`Store::close`], but blocking.
    fn drop(&mut self) {
        self.shared.queue.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // How it ended was told to whoever asked.
            let _ = thread.join();
        }
    }
}

impl AuditLog for Store {
    fn append(&self, record: Record) -> Result<Durable, AppendError> {
        self.shared.queue.append(record, Vec::new(), None)
    }

    fn append_all(&self, first: Record, others: Vec<Record>) -> Result<Durable, AppendError> {
        self.shared.queue.append(first, others, None)
    }

    fn append_once(&self, mark: Mark, event: &AuditEvent) -> BoxFuture<'static, Result<bool, AppendError>> {
        let (reply, told) = oneshot::channel();
        let (event_id, text) = (event.event_id, event.to_json());
        self.tell(Order::Once(OnceOrder { mark, event_id, text, is_new: false, reply }));
        Box::pin(async move { told.await.unwrap_or(Err(AppendError::Closed)) })
    }

    fn count_served_unrecorded(&self) {
        self.shared.queue.served_unrecorded();
    }

    fn health(&self) -> LogHealth {
        self.shared.queue.health_now()
    }

    fn stats(&self) -> LogStats {
        self.shared.queue.stats()
    }
}
