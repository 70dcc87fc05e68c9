//! Stand-ins for the tests of this crate: stored events, an outbox in memory that checks what delivery does to it, a clock
//! that is set by hand, and the log lines of a test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use policy::Decision;
use tokio::sync::watch;
use uuid::Uuid;

use crate::delivery::Clock;
use crate::event::{
    AuditEvent, ChainedEvent, EventType, LatencyMs, Link, Outcome, RequestInfo, RolloutMode, Scan, ScanMode,
    Stage, Usage, hex, leaf_hash,
};
use crate::outbox::{
    Advance, Ahead, BoxFuture, Cursor, DeadLetter, DeliveryState, Outbox, OutboxError, StoredEvent,
};

/// 2026-01-16T18:22:11Z, the moment of the contract's example.
pub(crate) const NOW_MS: i64 = 1_768_587_731_000;

/// The contract's example event.
pub(crate) fn example_event() -> AuditEvent {
    let id = Uuid::from_u128(0x019b_c8a0_0000_7000_8000_0000_0000_0001);
    AuditEvent {
        policy_id: Some("support-guardrails".into()),
        decision: Some(Decision::Rewrite),
        effective_decision: Some(Decision::Rewrite),
        reason_code: Some("REWRITE".into()),
        policy_user: Some("user-12345".into()),
        project_id: Some("support-bot".into()),
        policy_target: Some("support-bot".into()),
        rollout_mode: Some(RolloutMode::Enforced),
        enforced: true,
        triggered_categories: vec!["self-harm/intent".into()],
        allowlist_hits: vec!["refund policy".into()],
        model: Some("abliterated-model".into()),
        request_id: Some("req-1".into()),
        policy_revision: Some(3),
        data_classification: Some("confidential".into()),
        stage: Some(Stage::Input),
        redactions: BTreeMap::from([("email".to_owned(), 2)]),
        scan: Some(Scan {
            mode: ScanMode::Whole,
            input_bytes: 480,
            output_bytes: 210,
            released_bytes: 204,
            unscanned: BTreeMap::new(),
            moderation: None,
        }),
        usage: Some(Usage {
            prompt_tokens: 120,
            completion_tokens: 45,
            total_tokens: 165,
            cost_usd: 0.000825,
        }),
        request: Some(RequestInfo {
            route: "/v1/chat/completions".into(),
            stream: false,
            http_status: Some(200),
            error_code: None,
            latency_ms: Some(LatencyMs { total: 312.5, upstream: 310.25, gateway: 2.25 }),
            outcome: Some(Outcome::Completed),
        }),
        decision_hash: Some("ab".repeat(32)),
        ..AuditEvent::blank(id, EventType::Enforcement, "2026-01-16T18:22:11.000Z".into())
    }
}

/// The text that the log would hold for this event at this place.
pub(crate) fn stored(event: AuditEvent, seq: u64) -> StoredEvent {
    let prev_hash = hex(&leaf_hash(&seq.to_be_bytes()));
    let mut link = Link { chain: Uuid::from_u128(0x42), seq, prev_hash, hash: String::new() };
    let text = serde_json::to_string(&ChainedEvent { event: event.clone(), link: link.clone() }).unwrap();
    let head = format!("{}}}", text.strip_suffix(",\"hash\":\"\"}").unwrap());
    link.hash = hex(&leaf_hash(head.as_bytes()));
    StoredEvent { seq, text: serde_json::to_vec(&ChainedEvent { event, link }).unwrap().into() }
}

/// A clock that is set by hand.
#[derive(Debug)]
pub(crate) struct FakeClock(AtomicI64);

impl FakeClock {
    pub(crate) fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now_ms)))
    }

    pub(crate) fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Called with each new position and all seqs dead-lettered so far.
type Oracle = Box<dyn Fn(u64, &BTreeSet<u64>) + Send + Sync>;

/// An outbox in memory. It outlives a [`crate::delivery::Delivery`], as the store outlives a process.
pub(crate) struct MemoryOutbox {
    books: Mutex<Books>,
    head: watch::Sender<u64>,
    /// Writes fail while set.
    pub(crate) fail_writes: AtomicBool,
    /// Reads of events fail while set.
    pub(crate) fail_reads: AtomicBool,
    /// Events up to here are gone.
    pub(crate) gone: AtomicU64,
    oracle: Mutex<Option<Oracle>>,
}

#[derive(Default)]
struct Books {
    events: Vec<StoredEvent>,
    cursors: BTreeMap<String, Cursor>,
    dead: BTreeMap<String, BTreeMap<u64, DeadLetter>>,
    ever_dead: BTreeMap<String, BTreeSet<u64>>,
    ahead: BTreeMap<String, BTreeMap<u64, Ahead>>,
}

impl MemoryOutbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            books: Mutex::default(),
            head: watch::channel(0).0,
            fail_writes: AtomicBool::new(false),
            fail_reads: AtomicBool::new(false),
            gone: AtomicU64::new(0),
            oracle: Mutex::new(None),
        })
    }

    pub(crate) fn check_advances(&self, oracle: impl Fn(u64, &BTreeSet<u64>) + Send + Sync + 'static) {
        *self.oracle.lock().unwrap() = Some(Box::new(oracle));
    }

    /// Appends `count` small events.
    pub(crate) fn append(&self, count: u64) {
        for _ in 0..count {
            self.append_event(AuditEvent::blank(
                Uuid::nil(),
                EventType::Heartbeat,
                "2026-01-16T18:22:11.000Z".into(),
            ));
        }
    }

    pub(crate) fn append_event(&self, event: AuditEvent) {
        let mut books = self.books.lock().unwrap();
        let seq = books.events.len() as u64 + 1;
        books.events.push(stored(event, seq));
        self.head.send_replace(seq);
    }

    pub(crate) fn cursor_now(&self, destination: &str) -> Cursor {
        self.books.lock().unwrap().cursors.get(destination).cloned().unwrap_or_default()
    }

    pub(crate) fn ahead_now(&self, destination: &str) -> Vec<Ahead> {
        let books = self.books.lock().unwrap();
        books.ahead.get(destination).into_iter().flat_map(|kept| kept.values().copied()).collect()
    }

    pub(crate) fn dead_now(&self, destination: &str) -> Vec<DeadLetter> {
        let books = self.books.lock().unwrap();
        books.dead.get(destination).into_iter().flat_map(|dead| dead.values().cloned()).collect()
    }

    fn written(&self) -> Result<(), OutboxError> {
        if self.fail_writes.load(Ordering::SeqCst) {
            return Err(OutboxError::Store("disk full".into()));
        }
        Ok(())
    }
}

impl Outbox for MemoryOutbox {
    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn read_after(
        &self,
        after: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, OutboxError>> {
        Box::pin(async move {
            // As from a thread of the store: the answer is never there at once.
            tokio::task::yield_now().await;
            if self.fail_reads.load(Ordering::SeqCst) {
                return Err(OutboxError::Store("busy".into()));
            }
            let gone = self.gone.load(Ordering::SeqCst);
            if after < gone {
                return Err(OutboxError::Gone(gone));
            }
            let books = self.books.lock().unwrap();
            let mut bytes = 0;
            let rest = books.events.iter().skip(after as usize).take(events_max);
            let fits = |event: &&StoredEvent| {
                let first = bytes == 0;
                bytes += event.text.len();
                first || bytes <= bytes_max
            };
            Ok(rest.take_while(fits).cloned().collect())
        })
    }

    fn cursor<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        Box::pin(async move {
            let head = *self.head.borrow();
            let mut books = self.books.lock().unwrap();
            let new = Cursor { start: head, position: head, ..Cursor::default() };
            Ok(books.cursors.entry(destination.to_owned()).or_insert(new).clone())
        })
    }

    fn advance<'a>(
        &'a self,
        destination: &'a str,
        advance: Advance,
    ) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.written()?;
            let Advance { position, skipped, dead } = advance;
            let mut books = self.books.lock().unwrap();
            books.ahead.entry(destination.to_owned()).or_default().retain(|_, ahead| ahead.last > position);
            let letters = books.dead.entry(destination.to_owned()).or_default();
            let seqs: Vec<u64> = dead.iter().map(|letter| letter.seq).collect();
            letters.extend(dead.into_iter().map(|letter| (letter.seq, letter)));
            let count = letters.len() as u64;
            let ever = books.ever_dead.entry(destination.to_owned()).or_default();
            ever.extend(seqs);
            if let Some(oracle) = &*self.oracle.lock().unwrap() {
                oracle(position, ever);
            }
            let cursor = books.cursors.get_mut(destination).unwrap();
            assert!(position >= cursor.position, "the cursor went back");
            assert!(skipped >= cursor.skipped, "what was skipped came back");
            cursor.position = position;
            cursor.skipped = skipped;
            cursor.dead = count;
            Ok(cursor.clone())
        })
    }

    fn keep_ahead<'a>(
        &'a self,
        destination: &'a str,
        batches: Vec<Ahead>,
    ) -> BoxFuture<'a, Result<(), OutboxError>> {
        Box::pin(async move {
            // A store answers in the order it is asked; tasks that yield wake in no order.
            self.written()?;
            let mut books = self.books.lock().unwrap();
            let kept = books.ahead.entry(destination.to_owned()).or_default();
            for batch in batches {
                kept.retain(|_, other| other.last < batch.first || other.first > batch.last);
                kept.insert(batch.first, batch);
            }
            Ok(())
        })
    }

    fn ahead<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Vec<Ahead>, OutboxError>> {
        Box::pin(async move {
            let books = self.books.lock().unwrap();
            Ok(books.ahead.get(destination).into_iter().flat_map(|kept| kept.values().copied()).collect())
        })
    }

    fn report<'a>(
        &'a self,
        destination: &'a str,
        state: DeliveryState,
        last_error: Option<String>,
    ) -> BoxFuture<'a, Result<(), OutboxError>> {
        Box::pin(async move {
            self.written()?;
            let mut books = self.books.lock().unwrap();
            let cursor = books.cursors.get_mut(destination).unwrap();
            (cursor.state, cursor.last_error) = (state, last_error);
            Ok(())
        })
    }

    fn dead_letters<'a>(
        &'a self,
        destination: &'a str,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, OutboxError>> {
        Box::pin(async move {
            let books = self.books.lock().unwrap();
            let dead = books.dead.get(destination);
            Ok(dead
                .into_iter()
                .flat_map(|dead| dead.range(after + 1..))
                .take(limit)
                .map(|d| d.1.clone())
                .collect())
        })
    }

    fn resolve_dead<'a>(
        &'a self,
        destination: &'a str,
        seqs: Vec<u64>,
    ) -> BoxFuture<'a, Result<Cursor, OutboxError>> {
        Box::pin(async move {
            self.written()?;
            let mut books = self.books.lock().unwrap();
            let dead = books.dead.entry(destination.to_owned()).or_default();
            dead.retain(|seq, _| !seqs.contains(seq));
            let count = dead.len() as u64;
            let cursor = books.cursors.get_mut(destination).unwrap();
            cursor.dead = count;
            Ok(cursor.clone())
        })
    }
}

/// Collects the log lines of the current thread.
#[derive(Clone, Default)]
pub(crate) struct LogLines(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static COLLECTED: RefCell<Option<LogLines>> = const { RefCell::new(None) };
}

impl LogLines {
    /// From now on, until the next call on this thread. One subscriber for the whole process sorts lines by thread: with
    /// one per thread, what a call site found out on another thread would decide whether it logs on this one.
    pub(crate) fn collect() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(|| COLLECTED.with_borrow(|lines| lines.clone().unwrap_or_default()))
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let lines = Self::default();
        COLLECTED.set(Some(lines.clone()));
        lines
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }
}

impl std::io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
