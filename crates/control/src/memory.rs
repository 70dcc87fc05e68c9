//! The ports in memory, for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use audit::event::AuditEvent;
use audit::log::{AppendError, AuditLog, Durable, LogHealth, LogStats, Mark, Record};
use audit::outbox::BoxFuture;
use registry::desired_state::Declared;
use registry::kept::{
    Change, Edit, Kept, KeptAnswer, StateChange, StateError, StateStore, StoredExport, StoredRevision,
};
use registry::{DesiredState, Rollouts};

/// What is kept. A commit is all or nothing, like the real one.
#[derive(Default)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    pub(crate) broken: AtomicBool,
}

#[derive(Default)]
struct Inner {
    kept: Kept,
    revisions: BTreeMap<(String, u64), StoredRevision>,
    changes: Vec<(String, StateChange)>,
    events: Vec<AuditEvent>,
    answers: BTreeMap<String, KeptAnswer>,
}

impl Memory {
    pub(crate) fn events(&self) -> Vec<AuditEvent> {
        self.inner.lock().unwrap().events.clone()
    }

    /// Destinations as they are kept.
    pub(crate) fn exports(&self) -> Vec<StoredExport> {
        self.inner.lock().unwrap().kept.exports.values().cloned().collect()
    }

    /// Bodies of answers as they are kept.
    pub(crate) fn answers(&self) -> Vec<Vec<u8>> {
        let inner = self.inner.lock().unwrap();
        inner.answers.values().filter_map(|kept| kept.answer.as_ref()).map(|(_, body)| body.clone()).collect()
    }

    /// As if the process had ended before any answer was kept.
    pub(crate) fn forget_ends(&self) {
        self.inner.lock().unwrap().answers.values_mut().for_each(|kept| kept.answer = None);
    }
}

impl StateStore for Memory {
    fn load(&self) -> BoxFuture<'_, Result<Kept, StateError>> {
        let kept = self.inner.lock().unwrap().kept.clone();
        Box::pin(async move { Ok(kept) })
    }

    fn revisions<'a>(
        &'a self,
        policy_id: &'a str,
        numbers: Option<Vec<u64>>,
    ) -> BoxFuture<'a, Result<Vec<StoredRevision>, StateError>> {
        let fits = |one: &&StoredRevision| {
            one.policy_id == policy_id && numbers.as_ref().is_none_or(|numbers| numbers.contains(&one.number))
        };
        let found = self.inner.lock().unwrap().revisions.values().filter(fits).cloned().collect();
        Box::pin(async move { Ok(found) })
    }

    fn changes<'a>(&'a self, policy_id: &'a str) -> BoxFuture<'a, Result<Vec<StateChange>, StateError>> {
        let inner = self.inner.lock().unwrap();
        let own = inner.changes.iter().filter(|(id, _)| id == policy_id).map(|(_, change)| change.clone());
        let own = own.collect();
        Box::pin(async move { Ok(own) })
    }

    fn answer<'a>(
        &'a self,
        id: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<Option<KeptAnswer>, StateError>> {
        let found = self.inner.lock().unwrap().answers.get(id).cloned();
        Box::pin(async move { Ok(found.filter(|answer| answer.created_ms >= since_ms)) })
    }

    fn commit(&self, change: Change) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            // As a real one: others get their turn.
            tokio::task::yield_now().await;
            if self.broken.load(Ordering::SeqCst) {
                return Err(StateError("the store cannot be written".to_owned()));
            }
            let mut inner = self.inner.lock().unwrap();
            inner.kept.apply(&change.edits);
            for edit in change.edits {
                match edit {
                    Edit::AddRevision(one) => {
                        let place = (one.policy_id.clone(), one.number);
                        let former = inner.revisions.insert(place, one);
                        assert!(former.is_none(), "a revision is immutable");
                    }
                    Edit::SetPolicy(policy, change) => inner.changes.push((policy.policy_id, change)),
                    Edit::KeepAnswer(answer) => drop(inner.answers.insert(answer.id.clone(), answer)),
                    Edit::ForgetAnswer(id) => drop(inner.answers.remove(&id)),
                    _ => {}
                }
            }
            inner.events.extend(change.events);
            Ok(())
        })
    }
}

/// The records that were appended.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) texts: Mutex<Vec<Vec<u8>>>,
}

impl AuditLog for Records {
    fn append(&self, record: Record) -> Result<Durable, AppendError> {
        let (Record::Decision { text, .. } | Record::Event { text, .. }) = record;
        self.texts.lock().unwrap().push(text);
        let (done, durable) = Durable::new();
        done.send(Ok(())).unwrap();
        Ok(durable)
    }

    fn append_all(&self, first: Record, others: Vec<Record>) -> Result<Durable, AppendError> {
        for record in others {
            self.append(record)?;
        }
        self.append(first)
    }

    fn append_once(&self, _: Mark, event: &AuditEvent) -> BoxFuture<'static, Result<bool, AppendError>> {
        let durable = self.append(Record::event(event));
        Box::pin(async move { durable?.await.map(|()| true) })
    }

    fn count_served_unrecorded(&self) {}

    fn health(&self) -> LogHealth {
        LogHealth::Writable
    }

    fn stats(&self) -> LogStats {
        LogStats::default()
    }
}

/// The desired state over such a store.
pub(crate) async fn state(memory: &Arc<Memory>, declared: Declared) -> Arc<DesiredState> {
    Arc::new(
        DesiredState::open(Arc::clone(memory) as _, declared, Arc::new(Rollouts::default())).await.unwrap(),
    )
}
