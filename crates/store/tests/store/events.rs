//! Events and stores to test with.

use std::path::Path;
use std::sync::Arc;

use audit::event::{AuditEvent, EventType, Outcome, RequestInfo, hex};
use audit::log::{AuditLog, Record};
use audit::outbox::StoredEvent;
use policy::Decision;
use store::{Reader, Store, StoreOptions};
use uuid::Uuid;

/// Small and quick to open.
pub(crate) fn options() -> StoreOptions {
    StoreOptions { ballast_bytes: 64 * 1024, ..StoreOptions::default() }
}

pub(crate) fn open(path: &Path) -> Arc<Store> {
    Store::open(path, options()).unwrap()
}

/// One request: its decision and its closing record.
pub(crate) struct Request {
    pub(crate) id: Uuid,
    pub(crate) event: AuditEvent,
}

pub(crate) fn request(user: &str) -> Request {
    let id = Uuid::now_v7();
    let mut event = AuditEvent::blank(id, EventType::Enforcement, format!("{:.3}", jiff::Timestamp::now()));
    event.policy_id = Some("support-guardrails".to_owned());
    event.policy_user = Some(user.to_owned());
    event.decision = Some(Decision::Allow);
    event.request = Some(RequestInfo {
        route: "/v1/chat/completions".to_owned(),
        stream: false,
        http_status: None,
        error_code: None,
        latency_ms: None,
        outcome: None,
    });
    Request { id, event }
}

impl Request {
    pub(crate) fn decision(&mut self) -> Record {
        let (record, hash) = Record::decision(&self.event);
        self.event.decision_hash = Some(hex(&hash));
        record
    }

    pub(crate) fn closing(&mut self) -> Record {
        if let Some(request) = &mut self.event.request {
            request.http_status = Some(200);
            request.outcome = Some(Outcome::Completed);
        }
        Record::event(&self.event)
    }
}

/// A whole request, durable when it returns.
pub(crate) async fn serve(store: &Store, user: &str) -> Uuid {
    let mut request = request(user);
    store.append(request.decision()).unwrap().await.unwrap();
    store.append(request.closing()).unwrap().await.unwrap();
    request.id
}

/// A standalone event.
pub(crate) fn standalone(user: &str) -> Record {
    let mut request = request(user);
    request.event.event_type = EventType::Quota;
    Record::event(&request.event)
}

pub(crate) fn read_all(reader: &Reader) -> Vec<StoredEvent> {
    reader.events_from(1).map(Result::unwrap).collect()
}

pub(crate) fn parse(event: &StoredEvent) -> AuditEvent {
    serde_json::from_slice(&event.text).unwrap()
}

pub(crate) fn seqs(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

/// What a crash at this moment would leave: the files, copied while the store is open and idle.
pub(crate) fn crash(path: &Path, to: &Path) {
    for suffix in ["-wal", ""] {
        let copy = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            std::path::PathBuf::from(name)
        };
        std::fs::copy(copy(path), copy(to)).unwrap();
    }
}

/// Waits until the log's head is at `seq` or beyond.
pub(crate) async fn head_reaches(store: &Store, seq: u64) {
    use audit::outbox::Outbox;
    store.head().wait_for(|head| *head >= seq).await.unwrap();
}
